//! Runs the built program, with a limit to everything.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    net::UdpSocket,
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

/// Time that anything may take. Reached only by what fails.
pub(crate) const LIMIT: Duration = Duration::from_secs(40);

fn program(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_peerwork"));
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// What a program that ended left behind.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) time: Duration,
}

impl Ended {
    /// The lines as JSON.
    pub(crate) fn json(&self) -> Vec<Value> {
        self.stdout
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}")))
            .collect()
    }

    /// The one line of this event.
    pub(crate) fn event(&self, name: &str) -> Value {
        self.json().into_iter().find(|json| json["event"] == name).unwrap_or_else(|| panic!("no {name}: {self:?}"))
    }
}

/// Runs it to its end.
pub(crate) fn run(args: &[&str]) -> Ended {
    let started = Instant::now();
    let mut running = Running::start(args);
    let status = running.wait();
    let time = started.elapsed();
    let mut stdout = String::new();
    for line in running.lines.iter() {
        stdout += &line;
        stdout.push('\n');
    }
    Ended { code: status.code(), stdout, stderr: running.stderr(), time }
}

/// The program while it runs. Killed when dropped.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    lines: Receiver<String>,
    errors: Receiver<String>,
}

impl Running {
    pub(crate) fn start(args: &[&str]) -> Self {
        let mut child = program(args).spawn().unwrap();
        let (stdout, mut stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let (line, lines) = mpsc::channel();
        thread::spawn(move || {
            BufReader::new(stdout).lines().map_while(Result::ok).try_for_each(|text| line.send(text))
        });
        let (error, errors) = mpsc::channel();
        thread::spawn(move || {
            let mut text = String::new();
            let _ = stderr.read_to_string(&mut text);
            error.send(text)
        });
        Self { child, lines, errors }
    }

    /// A peer that listens on the loopback, and its address.
    pub(crate) fn peer(args: &[&str]) -> (Self, String) {
        let mut all = vec!["run", "--json", "--listen", "127.0.0.1:0"];
        all.extend(args);
        let mut running = Self::start(&all);
        let listening = running.event("listening");
        (running, listening["address"].as_str().unwrap().to_owned())
    }

    /// Waits for an event, past any others.
    pub(crate) fn event(&mut self, name: &str) -> Value {
        let until = Instant::now() + LIMIT;
        loop {
            let line = self.lines.recv_timeout(until.saturating_duration_since(Instant::now()));
            let line = line.unwrap_or_else(|error| panic!("no {name}: {error}"));
            let json: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("no JSON: {line}"));
            if json["event"] == name {
                return json;
            }
        }
    }

    pub(crate) fn wait(&mut self) -> ExitStatus {
        let until = Instant::now() + LIMIT;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < until, "the program does not end");
            thread::sleep(Duration::from_millis(5));
        }
    }

    #[cfg(unix)]
    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    fn stderr(&self) -> String {
        self.errors.recv_timeout(LIMIT).unwrap_or_default()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port on which nobody listens.
pub(crate) fn free_port() -> u16 {
    UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
