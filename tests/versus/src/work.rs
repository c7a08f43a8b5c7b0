//! The works, and the two processes that do one of them: the client measures, the server answers.

use std::{
    collections::BTreeMap,
    env,
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use futures::{StreamExt as _, future::try_join_all, stream::FuturesUnordered};

use crate::{
    contenders::{
        libp2p::Libp2p,
        peerwork::{Mio, Peerwork, Smol, Tokio},
        raw::Raw,
    },
    node::{Address, MESSAGE, Node, Outcome, Writes},
    relay,
    usage::Usage,
};

macro_rules! named {
    ($(#[$doc:meta])* $type:ident { $($(#[$variant_doc:meta])* $variant:ident = $name:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub(crate) enum $type {
            $($(#[$variant_doc])* $variant),*
        }

        impl $type {
            pub(crate) const ALL: &[Self] = &[$(Self::$variant),*];

            pub(crate) fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name),*
                }
            }

            pub(crate) fn named(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|item| item.name() == name)
            }
        }
    };
}

named!(
    /// Who does the work.
    Contender {
        Tokio = "peerwork-tokio",
        Smol = "peerwork-smol",
        Mio = "peerwork-mio",
        Libp2p = "rust-libp2p",
        Raw = "raw-noq",
    }
);

named!(
    /// What is to be done.
    Work {
        /// Dial and close, one after the other.
        Handshakes = "handshakes",
        /// Dial and one byte there and back, over a path with a delay.
        Connect = "connect",
        /// One stream, 64 KiB at a time.
        Bulk = "bulk",
        /// One stream, 1 KiB at a time.
        Chunks = "chunks",
        /// Small requests and responses.
        Requests = "requests",
        /// Idle connections of one node that was dialled.
        Listener = "memory-listener",
        /// Idle connections of one node that dialled.
        Dialler = "memory-dialler",
    }
);

/// Requests under way at a time.
pub(crate) const IN_FLIGHT: usize = 64;

/// One way, for [`Work::Connect`].
pub(crate) const DELAY: Duration = Duration::from_millis(20);

/// Time after which connections have exchanged what they exchange at the beginning.
const SETTLE: Duration = Duration::from_millis(1500);

/// What a work gave.
pub(crate) type Figures = BTreeMap<String, f64>;

macro_rules! on {
    ($contender:expr, $f:ident($($arg:expr),*)) => {
        match $contender {
            Contender::Tokio => $f::<Peerwork<Tokio>>($($arg),*),
            Contender::Smol => $f::<Peerwork<Smol>>($($arg),*),
            Contender::Mio => $f::<Peerwork<Mio>>($($arg),*),
            Contender::Libp2p => $f::<Libp2p>($($arg),*),
            Contender::Raw => $f::<Raw>($($arg),*),
        }
    };
}

/// Runs both processes, and gives what the client measured.
pub(crate) fn run(contender: Contender, work: Work, amount: u64) -> Outcome<Figures> {
    let output = this_program(&["client", contender.name(), work.name(), &amount.to_string()])?
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()?;
    if !output.status.success() {
        return Err(format!("{} failed at {}", contender.name(), work.name()).into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn this_program(args: &[&str]) -> Outcome<Command> {
    let mut command = Command::new(env::current_exe()?);
    command.arg("--child").args(args);
    Ok(command)
}

/// What the program does when it was started by [`run`] or by the client.
pub(crate) fn child(args: &[String]) -> Outcome<()> {
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let unknown = || format!("not for use by hand: {args:?}");
    let contender = args.get(1).and_then(|name| Contender::named(name)).ok_or_else(unknown)?;
    match args[..] {
        ["server", _, nodes] => {
            let nodes = nodes.parse()?;
            on!(contender, server(nodes))
        }
        ["client", _, work, amount] => {
            let work = Work::named(work).ok_or_else(unknown)?;
            let amount = amount.parse()?;
            let figures = on!(contender, client(contender, work, amount))?;
            println!("{}", serde_json::to_string(&figures)?);
            Ok(())
        }
        _ => Err(unknown().into()),
    }
}

/// Serves until stdin ends. A line there is answered with what the process has used.
fn server<N: Node>(nodes: usize) -> Outcome<()> {
    N::run(async {
        let nodes = &mut start::<N>(nodes).await?;
        let addresses: Vec<String> = nodes.iter().map(|node| node.address().to_string()).collect();
        println!("{}", addresses.join(" "));
        std::thread::spawn(|| {
            for _ in std::io::stdin().lines().map_while(Result::ok) {
                println!("{}", serde_json::to_string(&Usage::now()).unwrap_or_default());
            }
            std::process::exit(0);
        });
        let mut serving: FuturesUnordered<_> = nodes.iter_mut().map(N::serve).collect();
        serving.next().await.unwrap_or(Ok(()))
    })
}

async fn start<N: Node>(count: usize) -> Outcome<Vec<N>> {
    let mut nodes = Vec::new();
    for _ in 0..count {
        nodes.push(N::start().await?);
    }
    Ok(nodes)
}

/// The other process, as the client has it.
struct Server {
    process: Child,
    ask: ChildStdin,
    answers: BufReader<ChildStdout>,
    addresses: Vec<Address>,
}

impl Server {
    fn start(contender: Contender, nodes: usize) -> Outcome<Self> {
        let mut process = this_program(&["server", contender.name(), &nodes.to_string()])?
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let ask = process.stdin.take().ok_or("no stdin")?;
        let mut answers = BufReader::new(process.stdout.take().ok_or("no stdout")?);
        let mut line = String::new();
        answers.read_line(&mut line)?;
        let addresses = line.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
        Ok(Self { process, ask, answers, addresses })
    }

    fn usage(&mut self) -> Outcome<Usage> {
        self.ask.write_all(b"\n")?;
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        Ok(serde_json::from_str(&line)?)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Measures from its making on.
struct Stopwatch {
    server: Usage,
    client: Usage,
    start: Instant,
}

impl Stopwatch {
    fn start(server: &mut Server) -> Outcome<Self> {
        Ok(Self { server: server.usage()?, client: Usage::now(), start: Instant::now() })
    }

    /// Rates of `count` things done, and what `per` of them cost.
    fn stop(self, server: &mut Server, elapsed: Duration, count: f64, per: f64) -> Outcome<Figures> {
        let client = Usage::now().since(self.client);
        let server = server.usage()?.since(self.server);
        let cpu = |used: Usage| used.cpu_ns as f64 / 1e3 / count * per;
        let figures = [
            ("per_s", count / elapsed.as_secs_f64()),
            ("per_cpu_s", count / ((client.cpu_ns + server.cpu_ns) as f64 / 1e9)),
            ("client_cpu_us", cpu(client)),
            ("server_cpu_us", cpu(server)),
            ("allocations", (client.allocations + server.allocations) as f64 / count * per),
            ("allocated", (client.allocated + server.allocated) as f64 / count * per),
        ];
        Ok(figures.map(|(name, value)| (name.to_owned(), value)).into())
    }
}

const MIB: u64 = 1024 * 1024;

fn client<N: Node>(contender: Contender, work: Work, amount: u64) -> Outcome<Figures> {
    N::run(async {
        match work {
            Work::Listener | Work::Dialler => return memory::<N>(contender, work, amount as usize).await,
            Work::Connect => return connect::<N>(contender, amount).await,
            _ => {}
        }
        let mut server = Server::start(contender, 1)?;
        let to = server.addresses[0].clone();
        let mut node = N::start().await?;
        if work == Work::Handshakes {
            let dial_and_close = async |node: &mut N, count| {
                for _ in 0..count {
                    let conn = node.dial(&to).await?;
                    node.close(conn).await?;
                }
                Outcome::Ok(())
            };
            dial_and_close(&mut node, amount / 20 + 1).await?;
            node.idle(Duration::from_millis(200)).await;
            let watch = Stopwatch::start(&mut server)?;
            dial_and_close(&mut node, amount).await?;
            let elapsed = watch.start.elapsed();
            // The server may still be at the last ones, and both let connections drain.
            node.idle(Duration::from_millis(200)).await;
            return watch.stop(&mut server, elapsed, amount as f64, 1.0);
        }
        let conn = node.dial(&to).await?;
        let writes = if work == Work::Bulk { Writes::Large } else { Writes::Small };
        // Warm: the congestion window is open, the packet size found, identify over.
        match work {
            Work::Requests => node.requests(&conn, amount as usize / 10 + 1, IN_FLIGHT).await?,
            _ => node.upload(&conn, 16 * MIB, writes).await?,
        }
        node.idle(Duration::from_millis(100)).await;
        let watch = Stopwatch::start(&mut server)?;
        if work == Work::Requests {
            node.requests(&conn, amount as usize, IN_FLIGHT).await?;
            let elapsed = watch.start.elapsed();
            watch.stop(&mut server, elapsed, amount as f64, 1.0)
        } else {
            node.upload(&conn, amount * MIB, writes).await?;
            let elapsed = watch.start.elapsed();
            watch.stop(&mut server, elapsed, (amount * MIB) as f64 / 1e6, 1e3)
        }
    })
}

async fn connect<N: Node>(contender: Contender, count: u64) -> Outcome<Figures> {
    let mut server = Server::start(contender, 1)?;
    let mut node = N::start().await?;
    let round_trip = 2.0 * DELAY.as_secs_f64();
    let (mut dialled, mut echoed) = (Vec::new(), Vec::new());
    for _ in 0..count {
        let target = &server.addresses[0];
        let to = Address { socket: relay::start(target.socket, DELAY)?, peer: target.peer.clone() };
        let start = Instant::now();
        let conn = node.dial(&to).await?;
        dialled.push(start.elapsed().as_secs_f64() / round_trip);
        node.echo(&conn).await?;
        echoed.push(start.elapsed().as_secs_f64() / round_trip);
        node.close(conn).await?;
        node.idle(4 * DELAY).await;
    }
    // The least is the one that the machine disturbed least.
    let least = |values: Vec<f64>| values.into_iter().fold(f64::INFINITY, f64::min);
    server.usage()?;
    Ok([("dialled".to_owned(), least(dialled)), ("echoed".to_owned(), least(echoed))].into())
}

async fn memory<N: Node>(contender: Contender, work: Work, count: usize) -> Outcome<Figures> {
    let many_dial = work == Work::Listener;
    let empty = Usage::now();
    let mut server = Server::start(contender, if many_dial { 1 } else { count })?;
    let mut nodes = start::<N>(if many_dial { count } else { 1 }).await?;
    idle_all(&mut nodes, SETTLE / 4).await;
    let idle = if many_dial { server.usage()? } else { Usage::now() };

    let mut conns = Vec::new();
    if many_dial {
        for node in &mut nodes {
            conns.push(node.dial(&server.addresses[0]).await?);
        }
    } else {
        for to in &server.addresses {
            conns.push(nodes[0].dial(to).await?);
        }
    }
    idle_all(&mut nodes, SETTLE).await;
    let used = if many_dial { server.usage()? } else { Usage::now() }.since(idle);
    let mut figures = Figures::new();
    figures.insert("conn_heap".into(), used.live as f64 / count as f64);
    figures.insert("conn_resident".into(), used.resident as f64 / count as f64);
    if !many_dial {
        let node = idle.since(empty);
        figures.insert("node_heap".into(), node.live as f64);
        figures.insert("node_resident".into(), node.resident as f64);
    }
    drop(conns);
    Ok(figures)
}

async fn idle_all<N: Node>(nodes: &mut [N], time: Duration) {
    let idle = nodes.iter_mut().map(async |node| {
        node.idle(time).await;
        Outcome::Ok(())
    });
    let _ = try_join_all(idle).await;
}

/// What the amount of a work counts, for the heading of its table.
pub(crate) fn describe(work: Work, amount: u64) -> String {
    match work {
        Work::Handshakes => format!("{amount} times: dial, close"),
        Work::Connect => {
            format!("dial, then one byte there and back, {} ms each way; best of {amount}", DELAY.as_millis())
        }
        Work::Bulk => format!("{amount} MiB on one stream, 64 KiB a write"),
        Work::Chunks => format!("{amount} MiB on one stream, 1 KiB a write"),
        Work::Requests => format!("{amount} requests and responses of {MESSAGE} bytes, {IN_FLIGHT} in flight"),
        Work::Listener => format!("{amount} idle connections, at the node that was dialled"),
        Work::Dialler => format!("{amount} idle connections, at the node that dialled; and that node before"),
    }
}
