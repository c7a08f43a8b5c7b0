//! `peerwork sim canary`: bugs that must be found.

use std::time::Instant;

use peerwork_sim::{
    bugs,
    run::RunOptions,
    scenario::library,
    search::{Fingerprint, shrink::ShrinkOptions, sweep},
};
use serde_json::{Value, json};

use super::{
    args::{CanaryArgs, Changes, ScenarioArgs},
    shrink,
    subject::Chosen,
    sweep::options,
    watched::{Bar, fingerprint_json},
};
use crate::{
    failure::Failure,
    out::{Out, Paint, millis, time},
};

/// Scenarios that make a bug show, for those that [`DEFAULT`] does not.
const SCENARIOS: &[(&str, &str)] = &[];

/// Scenarios for all other bugs: the first of these that there is.
const DEFAULT: [&str; 2] = ["swarm", "halves"];

pub(super) fn canary(args: &CanaryArgs, out: Out) -> Result<(), Failure> {
    let all: Vec<&str> = bugs::NAMES.into_iter().collect();
    if let Some(unknown) = args.bugs.iter().find(|bug| !all.contains(&bug.as_str())) {
        return Err(Failure::new(format!("there is no bug `{unknown}` to plant; there are {}", listed(&all))));
    }
    let wanted = |bug: &&str| args.bugs.is_empty() || args.bugs.iter().any(|wanted| wanted == bug);
    let mut chosen = Vec::new();
    for bug in all.iter().copied().filter(wanted) {
        let scenario = args.scenario.as_deref().unwrap_or_else(|| scenario_for(bug)).to_owned();
        let with = Changes { bugs: vec![bug.to_owned()], ..Changes::default() };
        let with = Chosen::of(&ScenarioArgs { scenario: scenario.clone(), changes: with })?;
        let without = Chosen::of(&ScenarioArgs { scenario: scenario.clone(), changes: Changes::default() })?;
        chosen.push((bug, scenario, with, without));
    }
    if args.list {
        for (bug, scenario, ..) in &chosen {
            out.say(
                || json!({"event": "bug", "bug": bug, "scenario": scenario, "about": bugs::about(bug)}),
                || format!("{bug:<24} {}, in {scenario}", bugs::about(bug)),
            )?;
        }
        return Ok(());
    }
    if chosen.is_empty() {
        return Err(Failure::new("this build has no bugs to plant, so nothing can be proved with them"));
    }
    let mut all_found = true;
    for (bug, scenario, with, without) in &chosen {
        let found = find(args, bug, with, without)?;
        let good = found.good();
        all_found &= good;
        out.say(
            || found.json(bug, scenario),
            || {
                let verb = if good { out.verb(Paint::Good, "found") } else { out.verb(Paint::Bad, "NOT FOUND") };
                format!("{verb}{bug:<24} {}", found.words(scenario, with))
            },
        )?;
    }
    if all_found { Ok(()) } else { Err(Failure::Reported) }
}

fn listed(names: &[&str]) -> String {
    if names.is_empty() { "none in this build".into() } else { names.join(", ") }
}

fn scenario_for(bug: &str) -> &'static str {
    let special = SCENARIOS.iter().find(|(name, _)| *name == bug).map(|(_, scenario)| *scenario);
    let there = |name: &&str| library::ALL.iter().any(|(other, _)| other == name);
    special.or_else(|| DEFAULT.into_iter().find(there)).unwrap_or(DEFAULT[1])
}

/// What became of one bug.
struct Found {
    /// Seeds that were run.
    seeds: usize,
    elapsed: std::time::Duration,
    /// How the first one failed, and whether it fails without the bug.
    failure: Option<(u64, Fingerprint, bool)>,
    /// Operations that are left after shrinking, and whether they fail when replayed.
    shrunk: Option<(usize, bool)>,
}

fn find(args: &CanaryArgs, bug: &str, with: &Chosen, without: &Chosen) -> Result<Found, Failure> {
    let begun = Instant::now();
    let bar = Bar::seeds(bug, args.seeds.0.end - args.seeds.0.start);
    let progress = |done, _| bar.0.set_position(done);
    let options = options(args.threads, true, &progress);
    let swept = sweep::sweep(&with.scenario, args.seeds.0.clone(), &options).map_err(Failure::new)?;
    drop(bar);
    let seeds = swept.outcomes.len();
    let first = swept.failures.into_iter().min_by_key(|(_, seed)| *seed);
    let mut found = Found { seeds, elapsed: begun.elapsed(), failure: None, shrunk: None };
    let Some((fingerprint, seed)) = first else { return Ok(found) };
    let clean = sweep::timed(&without.scenario, seed, None).map_err(Failure::new)?;
    found.failure = Some((seed, fingerprint, clean.passed()));
    if args.shrink {
        let repro = shrink::seed(with, seed, &ShrinkOptions::default())?.repro;
        let again = repro.run(RunOptions::default()).map_err(Failure::new)?.outcome;
        found.shrunk = Some((repro.plan.len(), repro.is_confirmed_by(&again)));
    }
    found.elapsed = begun.elapsed();
    Ok(found)
}

impl Found {
    fn good(&self) -> bool {
        self.failure.as_ref().is_some_and(|(.., clean)| *clean) && self.shrunk.is_none_or(|(_, again)| again)
    }

    fn json(&self, bug: &str, scenario: &str) -> Value {
        let mut json = json!({
            "event": "canary",
            "bug": bug,
            "scenario": scenario,
            "found": self.good(),
            "seeds": self.seeds,
            "elapsed_ms": millis(self.elapsed),
        });
        if let Some((seed, fingerprint, clean)) = &self.failure {
            json["failure"] = fingerprint_json(fingerprint);
            json["seed"] = (*seed).into();
            json["passes_without"] = (*clean).into();
        }
        if let Some((operations, again)) = self.shrunk {
            json["operations"] = operations.into();
            json["replayed"] = again.into();
        }
        json
    }

    fn words(&self, scenario: &str, with: &Chosen) -> String {
        let (seeds, took) = (self.seeds, time(self.elapsed));
        let Some((seed, fingerprint, clean)) = &self.failure else {
            return format!("by {seeds} seeds of {scenario}, in {took}; try more --seeds or another --scenario");
        };
        let mut text = format!("after {seeds} seeds of {scenario}, in {took}: {fingerprint}");
        if let Some((operations, again)) = self.shrunk {
            let again = if again { "which fail again" } else { "which do NOT fail again" };
            text += &format!(", shrunk to {operations} operations, {again}");
        }
        if !clean {
            text += ", but this seed fails without the bug too";
        }
        text + &format!("\n{:13}{}", "", with.command("run", *seed))
    }
}
