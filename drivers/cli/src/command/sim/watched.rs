//! Runs, with a bar for whoever watches, and what they cost.

use std::{
    io::{self, IsTerminal as _},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};
use peerwork::Time;
use peerwork_sim::{Outcome, Scenario, run::Finished, search::Fingerprint};
use serde_json::{Value, json};

use crate::failure::Failure;

/// What is told the virtual time now and then.
pub(super) type Progress<'a> = &'a mut dyn FnMut(Time) -> bool;

/// A bar for people, if there are any. Cleared when dropped.
pub(super) struct Bar(pub(super) ProgressBar);

impl Bar {
    pub(super) fn new(name: &str, len: u64, template: &str) -> Self {
        if !io::stderr().is_terminal() {
            return Self(ProgressBar::hidden());
        }
        let bar = ProgressBar::new(len);
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("━━┄"));
        }
        bar.set_prefix(name.to_owned());
        bar.enable_steady_tick(Duration::from_millis(100));
        Self(bar)
    }

    /// Over seeds.
    pub(super) fn seeds(name: &str, len: u64) -> Self {
        Self::new(name, len, "  {prefix} {bar:24} {pos} of {len} seeds {msg} {elapsed} (to go: {eta})")
    }

    /// Over the runs of a shrinking.
    pub(super) fn runs(name: &str, len: u64) -> Self {
        Self::new(name, len, "  {prefix} {spinner} {pos} of at most {len} runs {msg} {elapsed}")
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// Runs something of a scenario, with a bar over virtual time.
pub(super) fn watched(
    scenario: &Scenario,
    run: impl FnOnce(Progress<'_>) -> Result<Finished, String>,
) -> Result<Finished, Failure> {
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let whole = scenario.duration + scenario.settle;
    let template = "  {prefix} {bar:24} {msg} {elapsed} (to go: {eta})";
    let bar = Bar::new(&scenario.name, millis(whole), template);
    let begun = Instant::now();
    let mut progress = |now: Time| {
        let now = now.since(Time::ZERO);
        bar.0.set_position(millis(now.min(whole)));
        bar.0.set_message(format!("{} of {} s", now.min(whole).as_secs(), whole.as_secs()));
        true
    };
    let mut finished = run(&mut progress).map_err(Failure::new)?;
    finished.outcome.cost.wall_ms = millis(begun.elapsed());
    finished.outcome.cost.peak_rss = peak_rss();
    Ok(finished)
}

/// The most memory that this process ever had, in bytes; 0 where the system does not tell.
pub(super) fn peak_rss() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib: Option<u64> = line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse().ok());
    kib.map_or(0, |kib| kib * 1024)
}

/// An outcome as a line of JSON, which can be read back as one.
pub(super) fn outcome_json(outcome: &Outcome) -> Value {
    let mut json = serde_json::to_value(outcome).unwrap_or_default();
    json["event"] = "outcome".into();
    json["passed"] = outcome.passed().into();
    json["failure"] = Fingerprint::first(outcome).map_or(Value::Null, |failure| fingerprint_json(&failure));
    json
}

pub(super) fn fingerprint_json(fingerprint: &Fingerprint) -> Value {
    json!({"rule": fingerprint.invariant, "group": fingerprint.role})
}

/// The first thing that went wrong, in words.
pub(super) fn first_detail(outcome: &Outcome) -> String {
    let claim = || outcome.claims.iter().find(|claim| !claim.holds).map(|claim| format!("measured {}", claim.value));
    let broken = outcome.violations.first().map(|broken| {
        let at = Duration::from_nanos(broken.at_ns).as_secs_f64();
        let node = if broken.node.is_empty() { "the world" } else { &broken.node };
        format!("{node} at {at:.3} s: {}", broken.detail)
    });
    broken.or_else(claim).unwrap_or_default()
}
