//! `peerwork run`: a peer, until it is told to end.
//!
//! A connection is announced when the peer has told about itself and a first ping is back, when both have failed, or
//! after [`PATIENCE`]; one that ends before is announced first, so that nothing is lost.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use peerwork::{
    CloseReason, ConnId, Direction, Event, ListenId, Multiaddr, PeerId,
    protocol::{
        identify::{PeerInfo, message::escape},
        ping::PingFailure,
    },
};
use peerwork_driver::{ConnectError, Handle, Lagged, ListenFailure};
use serde_json::{Value, json};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, sleep_until},
};

use crate::{
    args::RunArgs,
    client,
    config::{self, Settings},
    echo,
    failure::Failure,
    out::{Out, Paint, full, millis, time},
};

/// Time that a new connection has to tell about itself before it is announced without.
const PATIENCE: Duration = Duration::from_secs(2);

/// Time before a dial is repeated: the first, and the longest. It doubles in between.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// A connection that held for this long was a success: if it is lost, the next dial comes soon.
const STABLE: Duration = Duration::from_secs(30);

/// Signals this close together are one.
const SAME_SIGNAL: Duration = Duration::from_millis(200);

/// Events that may wait. Printing may be slow; what is lost beyond is said.
const EVENTS: usize = 16_384;

pub(crate) async fn run(args: RunArgs, out: Out) -> Result<(), Failure> {
    let settings = settings(&args)?;
    if args.print_config {
        // A file, whatever the language of the rest.
        return Ok(Out::new(false).human(|| config::print(&settings).trim_end().to_owned())?);
    }
    let mut signals = Signals::new()?;
    let mut node = settings.node.clone();
    node.identity = settings.key.as_deref().map(client::key).transpose()?;
    let handle = client::start(settings.driver, node, args.record.as_deref())?;
    let mut events = handle.events_with_capacity(EVENTS);
    let refused = |error| Failure::new(format!("{error}"));
    if settings.echo {
        echo::serve(&handle).map_err(refused)?;
    }
    let mut run =
        Run { out, peer: handle.peer_id(), listeners: HashMap::new(), new: BTreeMap::new(), addresses: HashMap::new() };
    run.started(&settings)?;
    listen(&handle, &settings, &mut run).await?;

    let (dialled, mut dials) = mpsc::channel(64);
    for address in &settings.dial {
        tokio::spawn(keep_connected(handle.clone(), address.0.clone(), dialled.clone()));
    }
    drop(dialled);

    let mut ending = None::<Instant>;
    let result = loop {
        let due = run.due();
        let printed = tokio::select! {
            event = events.recv() => match event {
                Some(Ok(event)) => run.event(&handle, event),
                Some(Err(Lagged(missed))) => run.missed(missed),
                None => break if ending.is_some() { Ok(()) } else { Err(Failure::new("the node ended by itself; its driver failed")) },
            },
            // What is given up at the end has not failed.
            Some(dial) = dials.recv() => if ending.is_some() { Ok(()) } else { run.dial(&dial) },
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => run.announce_due(),
            () = signals.next() => {
                match ending {
                    // Some programs that start this one pass on a signal that it gets anyway.
                    Some(since) if since.elapsed() < SAME_SIGNAL => continue,
                    Some(_) => std::process::exit(130),
                    None => ending = Some(Instant::now()),
                }
                // It goes on while this loop prints what comes of it, to the end of the events.
                drop(handle.shutdown());
                run.ending()
            }
        };
        if let (Err(error), false) = (printed, ending.is_some()) {
            // Nobody reads. Peers still get to know.
            handle.shutdown().await;
            break Err(error.into());
        }
    };
    result?;
    Ok(run.announce_all().and_then(|()| run.ended())?)
}

fn settings(args: &RunArgs) -> Result<Settings, Failure> {
    let mut settings = Settings::default();
    if let Some(path) = &args.config {
        config::load(path, &mut settings)?;
    }
    if !args.listen.is_empty() {
        settings.listen.clone_from(&args.listen);
    }
    if !args.dial.is_empty() {
        settings.dial.clone_from(&args.dial);
    }
    settings.key = args.key.clone().or(settings.key);
    settings.driver = args.driver.unwrap_or(settings.driver);
    settings.echo |= args.echo;
    settings.node.serve_perf |= args.perf;
    Ok(settings)
}

/// Listens everywhere it should. Fails if it can nowhere.
async fn listen(handle: &Handle, settings: &Settings, run: &mut Run) -> Result<(), Failure> {
    let asked: Vec<_> = settings.listen.iter().map(|address| (address, handle.listen(address.0.clone()))).collect();
    let mut failures = Vec::new();
    for (address, listening) in asked {
        let id = listening.id();
        match listening.await {
            Ok(_) => {
                // What becomes of it later comes as an event with this id.
                run.listeners.extend(id.map(|id| (id, address.0.clone())));
            }
            // Where the words would say again that it cannot listen, the reason is enough.
            Err(ListenFailure::Failed(error)) => failures.push((address, error.to_string())),
            Err(error) => failures.push((address, error.to_string())),
        }
    }
    if !failures.is_empty() && failures.len() == settings.listen.len() {
        let reasons: Vec<String> = failures.iter().map(|(address, error)| format!("{address}: {error}")).collect();
        return Err(Failure::new(format!(
            "cannot listen on {}; choose another --listen address, or port 0 for any free port",
            reasons.join("; ")
        )));
    }
    for (address, error) in failures {
        run.listen_failed(&address.0, &error)?;
    }
    Ok(())
}

/// What a dialling task has to say.
struct DialFailed {
    address: Multiaddr,
    error: ConnectError,
    /// When it tries again, unless that makes no sense.
    retry: Option<Duration>,
}

/// Connects to an address, and again whenever the peer there is lost.
async fn keep_connected(handle: Handle, address: Multiaddr, report: mpsc::Sender<DialFailed>) {
    let mut wait = BACKOFF.0;
    loop {
        let mut events = handle.events();
        match handle.dial(address.clone()).await {
            Ok(connection) => {
                let since = Instant::now();
                let connected = || handle.with(|node, _| node.connection_to(connection.peer)).ok().flatten().is_some();
                while connected() {
                    if events.recv().await.is_none() {
                        return;
                    }
                }
                if since.elapsed() >= STABLE {
                    wait = BACKOFF.0;
                }
                drop(events);
                sleep(wait).await;
            }
            Err(ConnectError::Gone(_)) => return,
            Err(error) => {
                drop(events);
                let retry = (!is_final(&error)).then_some(wait);
                let report = report.send(DialFailed { address: address.clone(), error, retry }).await;
                if report.is_err() || retry.is_none() {
                    return;
                }
                sleep(wait).await;
            }
        }
        wait = (wait * 2).min(BACKOFF.1);
    }
}

/// Whether trying again would give the same.
fn is_final(error: &ConnectError) -> bool {
    use peerwork::{AttemptError, DialError};
    match error {
        ConnectError::Refused(error) => !matches!(error, DialError::Busy),
        error => {
            let attempts = error.attempts();
            let hopeless = |error: &AttemptError| {
                matches!(error, AttemptError::Address(_) | AttemptError::Unusable(_) | AttemptError::SelfDial)
            };
            !attempts.is_empty() && attempts.iter().all(|(_, error)| hopeless(error))
        }
    }
}

/// A connection that is not announced yet.
struct New {
    peer: PeerId,
    address: Multiaddr,
    direction: Direction,
    due: Instant,
    identified: Option<Result<Arc<PeerInfo>, String>>,
    ping: Option<Result<Duration, PingFailure>>,
}

/// What is printed, and what it takes to know when.
struct Run {
    out: Out,
    peer: PeerId,
    listeners: HashMap<ListenId, Multiaddr>,
    new: BTreeMap<ConnId, New>,
    /// Where the peers of all connections are.
    addresses: HashMap<ConnId, Multiaddr>,
}

type Printed = std::io::Result<()>;

impl Run {
    fn started(&self, settings: &Settings) -> Printed {
        let key = settings.key.as_ref().map(|path| path.to_string_lossy());
        self.out.say(
            || {
                json!({
                    "event": "started",
                    "peer": self.peer.to_string(),
                    "driver": settings.driver.name(),
                    "agent": settings.node.agent_version,
                    "key_file": key,
                })
            },
            || {
                let note = if key.is_some() { "" } else { ", with a new key (--key FILE keeps one)" };
                let about = format!("{} on {}{note}", settings.node.agent_version, settings.driver);
                format!(
                    "{}\n{}",
                    self.out.paint(Paint::Strong, &self.peer.to_string()),
                    self.out.paint(Paint::Faint, &about)
                )
            },
        )
    }

    fn event(&mut self, handle: &Handle, event: Event) -> Printed {
        match event {
            Event::Listening { address, .. } => {
                let address = full(&address, self.peer).to_string();
                self.out.say(
                    || json!({"event": "listening", "address": address}),
                    || format!("{}{address}", self.out.verb(Paint::Good, "listening")),
                )
            }
            Event::ListenFailed { listener, error } => match self.listeners.remove(&listener) {
                Some(address) => self.listen_failed(&address, &error.to_string()),
                // It never came up, which was said when it was tried.
                None => Ok(()),
            },
            Event::Connected { conn, peer, direction, address } => {
                // Also where pings are switched off.
                let _ = handle.with(|node, now| node.ping(now, conn));
                let due = Instant::now() + PATIENCE;
                self.addresses.insert(conn, address.clone());
                self.new.insert(conn, New { peer, address, direction, due, identified: None, ping: None });
                Ok(())
            }
            Event::Identified { conn, info, .. } => self.learnt(conn, |new| new.identified = Some(Ok(info))),
            Event::IdentifyFailed { conn, error, .. } => {
                self.learnt(conn, |new| new.identified = Some(Err(error.to_string())))
            }
            Event::Ping { conn, result, .. } => self.learnt(conn, |new| new.ping = Some(result)),
            Event::Disconnected { conn, peer, reason, remaining } => {
                self.announce(conn)?;
                self.disconnected(conn, peer, &reason, remaining)
            }
            Event::AddressChanged { conn, peer, address } => {
                self.announce(conn)?;
                self.addresses.insert(conn, address.clone());
                self.out.say(
                    || {
                        json!({
                            "event": "address_changed",
                            "conn": conn.get(),
                            "peer": peer.to_string(),
                            "address": address.to_string(),
                        })
                    },
                    || format!("{}{peer} is at {address} now", self.out.verb(Paint::Strong, "moved")),
                )
            }
            Event::Fault { conn, peer, fault } => {
                let fault = fault.to_string();
                self.out.say(
                    || json!({"event": "fault", "conn": conn.get(), "peer": peer.to_string(), "fault": fault}),
                    || format!("{}{peer}: {fault}", self.out.verb(Paint::Bad, "fault")),
                )
            }
            _ => Ok(()),
        }
    }

    fn learnt(&mut self, conn: ConnId, note: impl FnOnce(&mut New)) -> Printed {
        let Some(new) = self.new.get_mut(&conn) else { return Ok(()) };
        note(new);
        if new.identified.is_some() && new.ping.is_some() { self.announce(conn) } else { Ok(()) }
    }

    /// When the next connection is announced as it is.
    fn due(&self) -> Option<Instant> {
        self.new.values().map(|new| new.due).min()
    }

    fn announce_due(&mut self) -> Printed {
        let now = Instant::now();
        let due: Vec<ConnId> = self.new.iter().filter(|(_, new)| new.due <= now).map(|(&conn, _)| conn).collect();
        due.into_iter().try_for_each(|conn| self.announce(conn))
    }

    fn announce_all(&mut self) -> Printed {
        let all: Vec<ConnId> = self.new.keys().copied().collect();
        all.into_iter().try_for_each(|conn| self.announce(conn))
    }

    fn announce(&mut self, conn: ConnId) -> Printed {
        let Some(new) = self.new.remove(&conn) else { return Ok(()) };
        let out = self.out;
        out.say(|| new.json(conn), || new.human(out))
    }

    fn disconnected(&mut self, conn: ConnId, peer: PeerId, reason: &CloseReason, remaining: usize) -> Printed {
        // The words may be the peer's.
        let words = escape(&reason.to_string());
        let address = self.addresses.remove(&conn).map(|address| address.to_string()).unwrap_or_default();
        self.out.say(
            || {
                json!({
                    "event": "disconnected",
                    "conn": conn.get(),
                    "peer": peer.to_string(),
                    "address": address,
                    "reason": words,
                    "remaining": remaining,
                })
            },
            || format!("{}{peer}\n{:13}{address}: {words}", self.out.verb(Paint::Bad, "disconnected"), ""),
        )
    }

    fn listen_failed(&self, address: &Multiaddr, error: &str) -> Printed {
        self.out.say(
            || json!({"event": "listen_failed", "address": address.to_string(), "error": error}),
            || format!("{}{address}: {error}", self.out.verb(Paint::Bad, "not listening")),
        )
    }

    fn dial(&self, dial: &DialFailed) -> Printed {
        let error = client::unreachable(&dial.address, &dial.error);
        self.out.say(
            || {
                json!({
                    "event": "dial_failed",
                    "address": dial.address.to_string(),
                    "error": error,
                    "retry_s": dial.retry.map(|wait| wait.as_secs_f64()),
                })
            },
            || {
                let next = match dial.retry {
                    Some(wait) => format!("trying again in {} s", wait.as_secs()),
                    None => "not trying again".into(),
                };
                format!(
                    "{}{error}\n{:13}{}",
                    self.out.verb(Paint::Bad, "dial failed"),
                    "",
                    self.out.paint(Paint::Faint, &next)
                )
            },
        )
    }

    fn missed(&self, missed: u64) -> Printed {
        self.out.say(
            || json!({"event": "missed", "events": missed}),
            || format!("{}{missed} events, because nobody read this output", self.out.verb(Paint::Bad, "missed")),
        )
    }

    fn ending(&self) -> Printed {
        self.out.say(
            || json!({"event": "stopping"}),
            || format!("{}saying goodbye (Ctrl-C ends at once)", self.out.verb(Paint::Strong, "stopping")),
        )
    }

    fn ended(&self) -> Printed {
        self.out.say(|| json!({"event": "stopped"}), || self.out.verb(Paint::Strong, "stopped").trim_end().to_owned())
    }
}

impl New {
    fn json(&self, conn: ConnId) -> Value {
        let info = self.identified.as_ref().and_then(|identified| identified.as_ref().ok());
        let protocols = info.map(|info| info.protocols.iter().map(|protocol| protocol.as_str()).collect::<Vec<_>>());
        let rtt = self.ping.as_ref().and_then(|ping| ping.as_ref().ok());
        let mut json = json!({
            "event": "connected",
            "conn": conn.get(),
            "peer": self.peer.to_string(),
            "address": self.address.to_string(),
            "direction": direction(self.direction),
            "agent": info.map(|info| &info.agent_version),
            "protocol_version": info.map(|info| &info.protocol_version),
            "protocols": protocols,
            "rtt_ms": rtt.map(|rtt| millis(*rtt)),
        });
        if let Some(Err(error)) = &self.identified {
            json["identify_error"] = error.as_str().into();
        }
        if let Some(Err(error)) = &self.ping {
            json["ping_error"] = error.to_string().into();
        }
        json
    }

    fn human(&self, out: Out) -> String {
        let rtt = match &self.ping {
            Some(Ok(rtt)) => format!("rtt {}", time(*rtt)),
            Some(Err(error)) => format!("no ping: {}", escape(&error.to_string())),
            None => "no ping yet".into(),
        };
        let (agent, protocols) = match &self.identified {
            Some(Ok(info)) => {
                // What a peer says may hold control characters.
                let names = info.protocols.iter().map(|protocol| escape(protocol.as_str()));
                (escape(&info.agent_version), names.collect::<Vec<_>>().join(" "))
            }
            Some(Err(error)) => (format!("not identified: {}", escape(error)), String::new()),
            None => ("not identified yet".into(), String::new()),
        };
        let mut text = format!("{}{}\n", out.verb(Paint::Good, "connected"), self.peer);
        text += &format!("{:13}{} {}, {agent}, {rtt}", "", direction(self.direction), self.address);
        if !protocols.is_empty() {
            text += &format!("\n{:13}{}", "", out.paint(Paint::Faint, &protocols));
        }
        text
    }
}

fn direction(direction: Direction) -> &'static str {
    match direction {
        Direction::Inbound => "inbound",
        Direction::Outbound => "outbound",
    }
}

/// Ctrl-C, and where there is one, SIGTERM.
struct Signals {
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
}

impl Signals {
    #[cfg(unix)]
    fn new() -> Result<Self, Failure> {
        use tokio::signal::unix::{SignalKind, signal};
        let watch = |kind| signal(kind).map_err(|error| Failure::new(format!("cannot watch for signals: {error}")));
        Ok(Self { interrupt: watch(SignalKind::interrupt())?, terminate: watch(SignalKind::terminate())? })
    }

    #[cfg(unix)]
    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }

    #[cfg(not(unix))]
    fn new() -> Result<Self, Failure> {
        Ok(Self {})
    }

    #[cfg(not(unix))]
    async fn next(&mut self) {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending().await
        }
    }
}
