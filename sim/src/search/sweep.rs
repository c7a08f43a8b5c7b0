//! Sweeps: one scenario, many seeds, each on one core.

use std::{
    collections::BTreeMap,
    ops::Range,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Instant,
};

use super::Fingerprint;
use crate::{
    outcome::Outcome,
    run::{RunOptions, Scripts, run_seed},
    scenario::Scenario,
};

/// What a sweep found.
#[derive(Default)]
pub struct Swept {
    /// Every run, by seed.
    pub outcomes: Vec<Outcome>,
    /// The first seed of each kind of failure.
    pub failures: BTreeMap<Fingerprint, u64>,
    /// How often each rare state of the core was reached, over all seeds.
    pub probes: BTreeMap<String, u64>,
    /// Those that the scenario says a sweep must reach, and that were never reached.
    pub never_hit: Vec<String>,
}

impl Swept {
    /// Whether every run passed and every probe that is required was hit.
    pub fn passed(&self) -> bool {
        self.failures.is_empty() && self.never_hit.is_empty()
    }
}

/// What to watch out for during a sweep.
pub struct SweepOptions<'a> {
    /// Threads; each runs one seed at a time.
    pub threads: usize,
    /// End at the first failure.
    pub stop_at_failure: bool,
    /// Application scripts of nodes.
    pub scripts: Option<Scripts<'a>>,
    /// Is told how many seeds are done and how many of them failed.
    pub progress: &'a (dyn Fn(u64, u64) + Sync),
}

impl Default for SweepOptions<'_> {
    fn default() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self { threads, stop_at_failure: false, scripts: None, progress: &|_, _| {} }
    }
}

/// Runs a scenario with each seed of a range.
pub fn sweep(scenario: &Scenario, seeds: Range<u64>, options: &SweepOptions<'_>) -> Result<Swept, String> {
    scenario.validate()?;
    let next = AtomicU64::new(seeds.start);
    let (done, failed) = (AtomicU64::new(0), AtomicU64::new(0));
    let stop = AtomicBool::new(false);
    let results: Mutex<BTreeMap<u64, Result<Outcome, String>>> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..options.threads.max(1) {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        break;
                    }
                    let result = timed(scenario, seed, options.scripts);
                    let bad = !result.as_ref().is_ok_and(Outcome::passed);
                    failed.fetch_add(u64::from(bad), Ordering::Relaxed);
                    if bad && options.stop_at_failure {
                        stop.store(true, Ordering::Relaxed);
                    }
                    results.lock().unwrap_or_else(PoisonError::into_inner).insert(seed, result);
                    let done = done.fetch_add(1, Ordering::Relaxed) + 1;
                    (options.progress)(done, failed.load(Ordering::Relaxed));
                }
            });
        }
    });
    let mut swept = Swept::default();
    for (seed, result) in results.into_inner().unwrap_or_else(PoisonError::into_inner) {
        let outcome = result?;
        if let Some(fingerprint) = Fingerprint::first(&outcome) {
            swept.failures.entry(fingerprint).or_insert(seed);
        }
        for (probe, count) in &outcome.probes {
            *swept.probes.entry(probe.clone()).or_default() += count;
        }
        swept.outcomes.push(outcome);
    }
    let hit = |name: &str| swept.probes.get(name).is_some_and(|count| *count > 0);
    let enough = swept.outcomes.len() as u64 >= scenario.probe_seeds;
    let required = if enough { scenario.required_probes() } else { Vec::new() };
    swept.never_hit = required.into_iter().filter(|name| !hit(name)).map(str::to_owned).collect();
    Ok(swept)
}

/// Runs one seed and notes how long it took. The time has no influence on anything.
pub fn timed(scenario: &Scenario, seed: u64, scripts: Option<Scripts<'_>>) -> Result<Outcome, String> {
    let start = Instant::now();
    let mut outcome = run_seed(scenario, seed, RunOptions { scripts, ..RunOptions::default() })?.outcome;
    outcome.cost.wall_ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
    Ok(outcome)
}
