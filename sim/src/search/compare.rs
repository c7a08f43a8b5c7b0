//! Comparing runs that must be equal, and finding where they part.

use std::time::Duration;

use peerwork::Time;

use crate::{
    plan::Roster,
    run::{RunOptions, Trail, TrailSpec, run_seed},
    scenario::Scenario,
};

/// Something that can run a scenario and say how the digests of its nodes went.
pub trait Runner {
    /// Runs it once.
    fn trail(&mut self, spec: TrailSpec) -> Result<Trail, String>;
    /// What it is, in words: `this process`, `target/release/peerwork`.
    fn name(&self) -> String;
}

/// Runs in this process.
pub struct Here<'a> {
    /// What.
    pub scenario: &'a Scenario,
    /// With which seed.
    pub seed: u64,
}

impl Runner for Here<'_> {
    fn trail(&mut self, spec: TrailSpec) -> Result<Trail, String> {
        let options = RunOptions { trail: Some(spec), ..RunOptions::default() };
        Ok(run_seed(self.scenario, self.seed, options)?.trail)
    }

    fn name(&self) -> String {
        "this process".into()
    }
}

/// Where two runs part.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Divergence {
    /// Both were equal at this time,
    pub after: Time,
    /// and no longer at this one.
    pub before: Time,
    /// The nodes whose outputs differ, by name.
    pub nodes: Vec<String>,
}

/// The step of the first difference, if there is one.
fn first_difference(one: &Trail, other: &Trail) -> Option<usize> {
    let both = one.steps.iter().zip(&other.steps).position(|(one, other)| one != other);
    both.or_else(|| (one.steps.len() != other.steps.len()).then(|| one.steps.len().min(other.steps.len())))
}

/// Runs each once, and says which of them differ from the first.
pub fn check(runners: &mut [&mut dyn Runner]) -> Result<Vec<(String, bool)>, String> {
    let Some((first, others)) = runners.split_first_mut() else { return Ok(Vec::new()) };
    let spec = TrailSpec { every: Duration::from_secs(1), from: Time::ZERO, to: Time::MAX };
    let expected = first.trail(spec)?;
    others.iter_mut().map(|runner| Ok((runner.name(), runner.trail(spec)? == expected))).collect()
}

/// Finds where two runs part, to the nanosecond. `None` if they are equal.
pub fn bisect(scenario: &Scenario, one: &mut dyn Runner, other: &mut dyn Runner) -> Result<Option<Divergence>, String> {
    let roster = Roster::new(scenario);
    let (mut from, mut to) = (Time::ZERO, Time::MAX);
    let mut found = None;
    // Seconds, milliseconds, microseconds, nanoseconds: a thousand steps each.
    for every in [1_000_000_000, 1_000_000, 1_000, 1] {
        let spec = TrailSpec { every: Duration::from_nanos(every), from, to };
        let (first, second) = (one.trail(spec)?, other.trail(spec)?);
        let Some(step) = first_difference(&first, &second) else { break };
        let start = first.first_ns;
        let at = start.saturating_add(every.saturating_mul(step as u64));
        let empty = Vec::new();
        let (left, right) = (first.steps.get(step).unwrap_or(&empty), second.steps.get(step).unwrap_or(&empty));
        let differ = |node: &u32| left.get(*node as usize) != right.get(*node as usize);
        let nodes = (0..roster.len()).filter(differ).map(|node| roster.name(node)).collect();
        (from, to) = (Time::from_nanos(at.saturating_sub(every)), Time::from_nanos(at));
        found = Some(Divergence { after: from, before: to, nodes });
    }
    Ok(found)
}
