use serde_json::Value;
use std::{
    collections::VecDeque,
    env,
    ffi::OsString,
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use super::{
    Identified, PeerError, process,
    tools::{self, ToolError},
};

const TOOL: &str = "rust-libp2p test peer";

/// For building all of rust-libp2p on a small machine, or for waiting until another process has.
const BUILD_LIMIT: Duration = Duration::from_secs(30 * 60);

/// From the start of the process until it listens.
const START_LIMIT: Duration = Duration::from_secs(15);

/// Longer than the program itself waits for another peer, so that it can tell what failed.
const COMMAND_LIMIT: Duration = Duration::from_secs(25);

/// For the goodbye to all connections.
const END_LIMIT: Duration = Duration::from_secs(5);

/// Beginnings of the environment variables in which cargo describes the package under test and how it is compiled. Build
/// scripts look at them, and so does cargo itself: with them, the peer would be built anew for each test package.
const VARIABLES_OF_THE_TEST: [&str; 11] = [
    "CARGO_BIN_",
    "CARGO_BUILD_",
    "CARGO_CRATE_",
    "CARGO_ENCODED_",
    "CARGO_MANIFEST_",
    "CARGO_PKG_",
    "CARGO_PRIMARY_",
    "CARGO_TARGET_",
    "OUT_DIR",
    "RUSTC_",
    "RUSTFLAGS",
];

/// The program `tests/rust-peer`: rust-libp2p, built.
#[derive(Clone, Debug)]
pub struct RustPeerProgram {
    path: PathBuf,
}

impl RustPeerProgram {
    /// Builds the program with cargo inside [`tools_dir`](super::tools_dir), which takes minutes the first time and
    /// next to nothing afterwards. Processes which ask at the same time wait for the one that builds.
    ///
    /// # Errors
    ///
    /// When cargo fails: for want of the network, mostly.
    pub fn build() -> Result<Self, ToolError> {
        let target = tools::create_tools_dir(TOOL)?.join("rust-peer");
        let path = target.join("release/rust-peer");
        if !path.is_file() {
            eprintln!("building {TOOL}, some minutes the first time");
        }
        let cargo = env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
        let mut command = Command::new(cargo);
        for (variable, _) in env::vars_os() {
            let name = variable.to_string_lossy();
            if VARIABLES_OF_THE_TEST.iter().any(|start| name.starts_with(start)) {
                command.env_remove(&variable);
            }
        }
        command
            .args(["build", "--release", "--locked", "--manifest-path"])
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("rust-peer/Cargo.toml"))
            .arg("--target-dir")
            .arg(target);
        tools::run(TOOL, &mut command, BUILD_LIMIT)?;
        Ok(Self { path })
    }

    /// The executable.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// A running rust-libp2p peer. It serves identify, ping, `/echo/1.0.0` (all that comes goes back, until the opener ends)
/// and `/peerwork-test/rr/1.0.0` (a request with its length before it, answered by its bytes in reverse, likewise with
/// their length). Dropping it kills it.
#[derive(Debug)]
pub struct RustPeer {
    child: Child,
    /// The program ends with its stdin. So it goes even when the test process is killed and nothing gets dropped.
    stdin: Option<ChildStdin>,
    incoming: Receiver<Value>,
    /// What has arrived and nobody has waited for yet.
    events: VecDeque<Value>,
    peer_id: String,
    addrs: Vec<String>,
}

impl RustPeer {
    /// Starts a peer whose identity follows from `seed`, which listens at `listen` (such as
    /// [`QUIC_LOOPBACK`](super::QUIC_LOOPBACK)).
    ///
    /// # Errors
    ///
    /// When it does not come up or does not listen.
    pub fn start(program: &RustPeerProgram, seed: u64, listen: &[&str]) -> Result<Self, PeerError> {
        let mut command = Command::new(program.path());
        command.args(["--seed", &seed.to_string()]);
        for addr in listen {
            command.args(["--listen", addr]);
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let stdin = child.stdin.take();
        let stdout = BufReader::new(child.stdout.take().expect("stdout is a pipe"));
        let (sender, incoming) = mpsc::channel();
        thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                let event = serde_json::from_str(&line).unwrap_or(Value::String(line));
                if sender.send(event).is_err() {
                    return;
                }
            }
        });
        let mut peer =
            Self { child, stdin, incoming, events: VecDeque::new(), peer_id: String::new(), addrs: Vec::new() };
        let started = peer.wait("started", START_LIMIT, |_| true)?;
        peer.peer_id = text(&started, "peer")?;
        for _ in listen {
            let listening = peer.outcome("listening", "listen_failed", "listen", START_LIMIT, |_| true)?;
            peer.addrs.push(format!("{}/p2p/{}", text(&listening, "addr")?, peer.peer_id));
        }
        Ok(peer)
    }

    // What it is.

    /// Its peer id.
    pub fn peer_id(&self) -> &str {
        &self.peer_id
    }

    /// Where it listens, each with `/p2p/` and its peer id at the end, ready to be dialled. An unspecified address such
    /// as `0.0.0.0` stands for one interface only; the others come as events named `listening`.
    pub fn addrs(&self) -> &[String] {
        &self.addrs
    }

    // Its connections.

    /// Dials `addr` and waits for the connection with the peer which the address names at its end.
    ///
    /// # Errors
    ///
    /// [`PeerError::Refused`] when the dial failed.
    pub fn dial(&mut self, addr: &str) -> Result<(), PeerError> {
        let Some((_, peer)) = addr.rsplit_once("/p2p/") else {
            return Err(PeerError::BadText { text: addr.into(), expected: "multiaddr with a peer id at its end" });
        };
        self.forget(&["connected", "dial_failed"], peer);
        self.command(&format!("dial {addr}"))?;
        // A dial which failed before it began names no peer.
        let of_this_dial = |event: &Value| event["peer"] == peer || event["peer"].is_null();
        self.outcome("connected", "dial_failed", "dial", COMMAND_LIMIT, of_this_dial)?;
        Ok(())
    }

    /// Closes all connections to `peer` and waits until they are.
    ///
    /// # Errors
    ///
    /// [`PeerError::Refused`] when there is none.
    pub fn disconnect(&mut self, peer: &str) -> Result<(), PeerError> {
        self.ask("disconnect", peer, "", "disconnected")?;
        Ok(())
    }

    /// Waits until a connection with `peer` is there. Each connection is reported once: to the first who waits.
    ///
    /// # Errors
    ///
    /// [`PeerError::Timeout`] after `limit`.
    pub fn wait_connected(&mut self, peer: &str, limit: Duration) -> Result<(), PeerError> {
        self.wait("connected", limit, |event| event["peer"] == peer)?;
        Ok(())
    }

    /// Waits until the last connection with `peer` has ended, and gives the cause in rust-libp2p's words; no cause means
    /// that this peer itself closed it.
    ///
    /// # Errors
    ///
    /// [`PeerError::Timeout`] after `limit`.
    pub fn wait_disconnected(&mut self, peer: &str, limit: Duration) -> Result<Option<String>, PeerError> {
        let last = |event: &Value| event["peer"] == peer && event["connections"] == 0;
        let event = self.wait("disconnected", limit, last)?;
        Ok(event["cause"].as_str().map(Into::into))
    }

    /// Waits for what `peer` announces through identify, which rust-libp2p asks for on each new connection.
    ///
    /// # Errors
    ///
    /// [`PeerError::Refused`] when identify failed.
    pub fn wait_identified(&mut self, peer: &str) -> Result<Identified, PeerError> {
        let of_peer = |event: &Value| event["peer"] == peer;
        let event = self.outcome("identified", "identify_failed", "identify", COMMAND_LIMIT, of_peer)?;
        Ok(Identified {
            agent: text(&event, "agent")?,
            protocol_version: text(&event, "protocol_version")?,
            protocols: texts(&event, "protocols")?,
            listen_addrs: texts(&event, "listen_addrs")?,
            observed: Some(text(&event, "observed")?),
            signed_record: event["signed_record"] == true,
        })
    }

    // Its streams.

    /// One ping over a stream of its own, and how long it took.
    ///
    /// # Errors
    ///
    /// [`PeerError::Refused`] when it failed.
    pub fn ping(&mut self, peer: &str) -> Result<Duration, PeerError> {
        let event = self.ask("ping", peer, "", "ping")?;
        let rtt = event["rtt_us"].as_u64().ok_or_else(|| PeerError::Malformed(event.to_string()))?;
        Ok(Duration::from_micros(rtt))
    }

    /// Sends a line of text to `/echo/1.0.0` at `peer`, closes the writing side, and gives all that comes back until
    /// `peer` closes its own.
    ///
    /// # Errors
    ///
    /// [`PeerError::Refused`] when it failed.
    pub fn echo(&mut self, peer: &str, line: &str) -> Result<String, PeerError> {
        text(&self.ask("echo", peer, line, "echo")?, "text")
    }

    /// As [`RustPeer::echo`], but with the writing side open until the line is back, for peers such as [`GoPeer`] which
    /// cannot half-close.
    ///
    /// # Errors
    ///
    /// [`PeerError::Refused`] when it failed.
    ///
    /// [`GoPeer`]: super::GoPeer
    pub fn echo_open(&mut self, peer: &str, line: &str) -> Result<String, PeerError> {
        text(&self.ask("echo-open", peer, line, "echo")?, "text")
    }

    /// Sends a line of text as a request of `/peerwork-test/rr/1.0.0` and gives the response.
    ///
    /// # Errors
    ///
    /// [`PeerError::Refused`] when it failed.
    pub fn request(&mut self, peer: &str, line: &str) -> Result<String, PeerError> {
        text(&self.ask("request", peer, line, "response")?, "text")
    }

    // What it is told and what it tells, for tests which need more than the methods above.

    /// Sends a command; the program's own documentation lists them.
    ///
    /// # Errors
    ///
    /// [`PeerError::Gone`] when the process is, [`PeerError::BadText`] when the command is not one line.
    pub fn command(&mut self, line: &str) -> Result<(), PeerError> {
        if line.contains(['\n', '\r']) {
            return Err(PeerError::BadText { text: line.into(), expected: "single line" });
        }
        let written = self.stdin.as_mut().map(|stdin| stdin.write_all(format!("{line}\n").as_bytes()));
        match written {
            Some(Ok(())) => Ok(()),
            _ => Err(self.gone()),
        }
    }

    /// Waits for an event named `name` which `matches`, and takes it out of those that have arrived. The others stay,
    /// so that the order of waiting need not be the order of arrival.
    ///
    /// # Errors
    ///
    /// [`PeerError::Timeout`] after `limit`, [`PeerError::Gone`] when the process ends before.
    pub fn wait(&mut self, name: &str, limit: Duration, matches: impl Fn(&Value) -> bool) -> Result<Value, PeerError> {
        self.wait_any(name, limit, |event| event["event"] == name && matches(event))
    }

    // Its end.

    /// Ends it with the command `quit`: it closes its connections. Returns when the process is gone.
    pub fn quit(&mut self) {
        let _ = self.command("quit");
        if process::wait_for_exit(&mut self.child, END_LIMIT).is_none() {
            self.kill9();
        }
    }

    /// Kills it (SIGKILL): its peers hear nothing more. Returns when the process is gone.
    pub fn kill9(&mut self) {
        process::kill9(&mut self.child);
    }

    fn ask(&mut self, command: &str, peer: &str, rest: &str, success: &str) -> Result<Value, PeerError> {
        let failure = match command {
            "echo-open" => "echo_failed".into(),
            _ => format!("{command}_failed"),
        };
        self.forget(&[success, &failure], peer);
        self.command(&format!("{command} {peer} {rest}"))?;
        self.outcome(success, &failure, command, COMMAND_LIMIT, |event| event["peer"] == peer)
    }

    /// Waits for success, for the failure that goes with it, or for the word that the command is none.
    fn outcome(
        &mut self,
        success: &str,
        failure: &str,
        what: &str,
        limit: Duration,
        matches: impl Fn(&Value) -> bool,
    ) -> Result<Value, PeerError> {
        let event = self.wait_any(what, limit, |event| match event["event"].as_str() {
            Some("bad_command") => true,
            Some(name) => (name == success || name == failure) && matches(event),
            None => false,
        })?;
        if event["event"] == success {
            return Ok(event);
        }
        Err(PeerError::Refused { peer: "rust", what: what.into(), why: text(&event, "error")? })
    }

    fn wait_any(&mut self, what: &str, limit: Duration, matches: impl Fn(&Value) -> bool) -> Result<Value, PeerError> {
        if let Some(index) = self.events.iter().position(&matches) {
            return Ok(self.events.remove(index).expect("the index was just found"));
        }
        let start = Instant::now();
        loop {
            match self.incoming.recv_timeout(limit.saturating_sub(start.elapsed())) {
                Ok(event) if matches(&event) => return Ok(event),
                Ok(event) => self.events.push_back(event),
                Err(RecvTimeoutError::Disconnected) => return Err(self.gone()),
                Err(RecvTimeoutError::Timeout) => {
                    return Err(PeerError::Timeout { what: what.into(), limit, instead: self.last_events() });
                }
            }
        }
    }

    /// Outcomes of an earlier command which nobody waited for must not pass for those of the next.
    fn forget(&mut self, names: &[&str], peer: &str) {
        self.events.extend(self.incoming.try_iter());
        self.events.retain(|event| {
            let of_peer = event["peer"] == peer || event["peer"].is_null();
            !(of_peer && names.iter().any(|name| event["event"] == *name))
        });
    }

    fn gone(&self) -> PeerError {
        PeerError::Gone { peer: "rust", log: self.last_events() }
    }

    fn last_events(&self) -> String {
        let events: Vec<String> = self.events.iter().map(Value::to_string).collect();
        process::tail(&events.join("\n"))
    }
}

impl Drop for RustPeer {
    fn drop(&mut self) {
        self.kill9();
    }
}

fn text(event: &Value, field: &str) -> Result<String, PeerError> {
    event[field].as_str().map(Into::into).ok_or_else(|| PeerError::Malformed(event.to_string()))
}

fn texts(event: &Value, field: &str) -> Result<Vec<String>, PeerError> {
    let list = event[field].as_array().and_then(|list| list.iter().map(|text| text.as_str().map(Into::into)).collect());
    list.ok_or_else(|| PeerError::Malformed(event.to_string()))
}
