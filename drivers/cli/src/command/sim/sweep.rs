//! `peerwork sim sweep`: one scenario, many seeds.

use std::{collections::BTreeMap, path::PathBuf, time::Instant};

use peerwork_sim::{
    Outcome,
    search::{
        Fingerprint,
        shrink::ShrinkOptions,
        sweep::{self, SweepOptions, Swept},
    },
};
use serde_json::{Value, json};

use super::{
    args::SweepArgs,
    files, shrink,
    subject::{Chosen, quoted},
    watched::{Bar, fingerprint_json, first_detail, outcome_json},
};
use crate::{
    failure::Failure,
    out::{Out, Paint, millis, time},
};

pub(super) fn sweep(args: &SweepArgs, out: Out) -> Result<(), Failure> {
    let chosen = Chosen::of(&args.scenario)?;
    args.report.as_deref().map_or(Ok(()), files::writable)?;
    if !args.no_shrink {
        files::folder(&args.repros)?;
    }
    let begun = Instant::now();
    let mut swept = run(&chosen, args)?;
    for outcome in &mut swept.outcomes {
        outcome.repeat = chosen.command("run", outcome.seed);
    }
    let elapsed = begun.elapsed();
    files::report(args.report.as_deref(), &swept.outcomes)?;
    if out.is_json() {
        for outcome in &swept.outcomes {
            out.say(|| outcome_json(outcome), String::new)?;
        }
    } else {
        let count = swept.outcomes.len();
        let bad = swept.outcomes.iter().filter(|outcome| !outcome.passed()).count();
        let verb = if swept.passed() { out.verb(Paint::Good, "PASSED") } else { out.verb(Paint::Bad, "FAILED") };
        let virtual_s: u64 = swept.outcomes.iter().map(|outcome| outcome.virtual_ms).sum::<u64>() / 1000;
        let name = &chosen.scenario.name;
        out.human(|| {
            format!(
                "{verb}{name}, {} tier: {bad} of {count} seeds failed; {virtual_s} s of virtual time in {}",
                chosen.scenario.tier,
                time(elapsed)
            )
        })?;
    }
    let mut failures = Vec::new();
    for found in Found::all(&swept) {
        failures.push(found.tell(&chosen, args, out)?);
    }
    probes(&swept, out)?;
    if let Some(report) = &args.report {
        out.human(|| format!("{:13}{}", "report", report.display()))?;
    }
    if out.is_json() {
        let json = || {
            json!({
                "event": "sweep",
                "scenario": chosen.scenario.name,
                "tier": chosen.scenario.tier.name(),
                "seeds": swept.outcomes.len(),
                "failed": swept.outcomes.iter().filter(|outcome| !outcome.passed()).count(),
                "passed": swept.passed(),
                "failures": failures,
                "never_hit": swept.never_hit,
                "elapsed_ms": millis(elapsed),
            })
        };
        out.say(json, String::new)?;
    }
    if swept.passed() { Ok(()) } else { Err(Failure::Reported) }
}

fn run(chosen: &Chosen, args: &SweepArgs) -> Result<Swept, Failure> {
    let bar = Bar::seeds(&chosen.scenario.name, args.seeds.0.end - args.seeds.0.start);
    let progress = |done, failed| {
        bar.0.set_position(done);
        bar.0.set_message(format!("{failed} failed"));
    };
    let options = options(args.threads, args.stop_at_failure, &progress);
    sweep::sweep(&chosen.scenario, args.seeds.0.clone(), &options).map_err(Failure::new)
}

pub(super) fn options(
    threads: Option<u16>,
    stop_at_failure: bool,
    progress: &(dyn Fn(u64, u64) + Sync),
) -> SweepOptions<'_> {
    let defaults = SweepOptions::default();
    SweepOptions { threads: threads.map_or(defaults.threads, usize::from), stop_at_failure, progress, ..defaults }
}

/// What a sweep has, but should have reached.
fn probes(swept: &Swept, out: Out) -> Result<(), Failure> {
    let hit = swept.probes.values().filter(|count| **count > 0).count();
    if swept.probes.is_empty() {
        return Ok(());
    }
    out.human(|| format!("{:13}{hit} of {} rare states of the core were reached", "probes", swept.probes.len()))?;
    if swept.never_hit.is_empty() {
        return Ok(());
    }
    out.human(|| {
        let names = swept.never_hit.join(", ");
        let advice = "run more seeds, or make the scenario fiercer";
        format!(
            "{}never reached, but the scenario says that they must be: {names}\n{:13}{advice}",
            out.verb(Paint::Bad, ""),
            ""
        )
    })?;
    Ok(())
}

/// A kind of failure.
struct Found<'a> {
    fingerprint: &'a Fingerprint,
    /// The first seed that failed so.
    first: &'a Outcome,
    seeds: usize,
}

impl<'a> Found<'a> {
    /// All kinds, the most frequent first.
    fn all(swept: &'a Swept) -> Vec<Self> {
        let mut seeds: BTreeMap<Fingerprint, usize> = BTreeMap::new();
        for fingerprint in swept.outcomes.iter().filter_map(Fingerprint::first) {
            *seeds.entry(fingerprint).or_default() += 1;
        }
        let found = |(fingerprint, seed): (&'a Fingerprint, &u64)| {
            let first = swept.outcomes.iter().find(|outcome| outcome.seed == *seed)?;
            Some(Self { fingerprint, first, seeds: seeds.get(fingerprint).copied().unwrap_or(0) })
        };
        let mut all: Vec<Self> = swept.failures.iter().filter_map(found).collect();
        all.sort_by_key(|found| std::cmp::Reverse(found.seeds));
        all
    }

    /// Prints it, with commands to go on, after shrinking it if that is wanted.
    fn tell(&self, chosen: &Chosen, args: &SweepArgs, out: Out) -> Result<Value, Failure> {
        let Self { fingerprint, first, seeds } = self;
        let label = |label: &str| format!("\n{:15}{label:<10}", "");
        let repeat = &first.repeat;
        out.human(|| {
            let rule = out.paint(Paint::Bad, &fingerprint.to_string());
            let detail = first_detail(first).escape_debug().to_string();
            let times = if *seeds == 1 { "1 seed".to_owned() } else { format!("{seeds} seeds, first {}", first.seed) };
            format!("\n{:13}{rule}: {times}{}{detail}{}{repeat}", "", label("what"), label("again"))
        })?;
        let mut json = fingerprint_json(fingerprint);
        json["seed"] = first.seed.into();
        json["seeds"] = (*seeds).into();
        json["repeat"] = repeat.clone().into();
        if args.no_shrink {
            let shrink = chosen.command("shrink", first.seed);
            out.human(|| label("shrink").trim_start_matches('\n').to_owned() + &shrink)?;
            return Ok(json);
        }
        let limits = ShrinkOptions { time: args.shrink_time, ..ShrinkOptions::default() };
        match shrink::seed(chosen, first.seed, &limits) {
            Ok(shrunk) => {
                let file: PathBuf = args.repros.join(files::repro_name(&shrunk.repro));
                files::repro(&file, &shrunk.repro)?;
                let replay = format!("peerwork sim replay {}", quoted(&file.display().to_string()));
                out.human(|| {
                    let size = format!("{} operations to {}", shrunk.before, shrunk.repro.plan.len());
                    let shrunk = format!("{}{size}, in {} runs", label("shrunk"), shrunk.runs);
                    format!("{}{}{replay}", shrunk.trim_start_matches('\n'), label("replay"))
                })?;
                json["repro"] = file.display().to_string().into();
                json["operations"] = shrunk.repro.plan.len().into();
            }
            // The rest of the sweep is worth telling all the same.
            Err(Failure::Message(error)) => {
                out.human(|| format!("{}not shrunk: {error}", label("shrink").trim_start_matches('\n')))?;
                json["not_shrunk"] = error.into();
            }
            Err(other) => return Err(other),
        }
        Ok(json)
    }
}
