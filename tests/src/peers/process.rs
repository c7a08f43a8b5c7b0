use std::{
    process::{Child, ExitStatus},
    thread,
    time::{Duration, Instant},
};

/// How often anything is looked at which cannot be waited for.
pub(super) const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// The exit status, or nothing when the process still runs after `limit`.
pub(super) fn wait_for_exit(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let start = Instant::now();
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) if start.elapsed() < limit => thread::sleep(POLL_INTERVAL),
            _ => return None,
        }
    }
}

/// Ends the process without letting it say goodbye to anyone, and reaps it. Does nothing if it has ended.
pub(super) fn kill9(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

/// Asks the process to end (SIGTERM) and reaps it; kills it if it does not end within `limit`.
pub(super) fn terminate(child: &mut Child, limit: Duration) {
    // After the process was reaped, its number may belong to another.
    if let Ok(None) = child.try_wait() {
        let _ = rustix::process::kill_process(rustix::process::Pid::from_child(child), rustix::process::Signal::TERM);
        if wait_for_exit(child, limit).is_none() {
            kill9(child);
        }
    }
}

/// The last lines of a log, which is where the reason stands.
pub(super) fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(25)..].join("\n")
}
