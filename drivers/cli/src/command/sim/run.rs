//! `peerwork sim run`: one scenario, one seed.

use peerwork::Time;
use peerwork_sim::{
    report::text,
    run::{RunOptions, TrailSpec, run_seed},
};
use serde_json::Value;

use super::{
    args::RunArgs,
    files,
    subject::Chosen,
    watched::{outcome_json, watched},
};
use crate::{
    failure::Failure,
    out::{Out, Paint},
};

pub(super) fn run(args: &RunArgs, out: Out) -> Result<(), Failure> {
    let chosen = Chosen::of(&args.scenario)?;
    let seed = args.seed.unwrap_or(chosen.scenario.seed);
    if let Some(every) = args.trail {
        let at = |time| Time::ZERO + time;
        let (from, to) = (args.trail_from.map_or(Time::ZERO, at), args.trail_to.map_or(Time::MAX, at));
        return trail(&chosen, seed, TrailSpec { every, from, to });
    }
    args.report.as_deref().map_or(Ok(()), files::writable)?;
    let mut outcome = watched(&chosen.scenario, |progress| {
        run_seed(&chosen.scenario, seed, RunOptions { progress: Some(progress), ..RunOptions::default() })
    })?
    .outcome;
    outcome.repeat = chosen.command("run", seed);
    files::report(args.report.as_deref(), std::slice::from_ref(&outcome))?;
    out.say(|| outcome_json(&outcome), || text(&outcome).trim_end().to_owned())?;
    if let Some(report) = &args.report {
        out.human(|| format!("  {:<11} {}", "report", report.display()))?;
    }
    if outcome.passed() {
        return Ok(());
    }
    out.human(|| {
        let shrink = chosen.command("shrink", seed);
        let trace = chosen.command("trace", seed);
        format!("  {:<11} {}\n  {:<11} {trace} -o trace", "shrink", out.paint(Paint::Strong, &shrink), "look")
    })?;
    Err(Failure::Reported)
}

/// Prints digests and nothing else, for another process of this program.
fn trail(chosen: &Chosen, seed: u64, spec: TrailSpec) -> Result<(), Failure> {
    let options = RunOptions { trail: Some(spec), ..RunOptions::default() };
    let finished = run_seed(&chosen.scenario, seed, options).map_err(Failure::new)?;
    let mut json = serde_json::to_value(&finished.trail).unwrap_or(Value::Null);
    json["event"] = "trail".into();
    json["scenario"] = finished.outcome.scenario.into();
    json["seed"] = seed.into();
    // It speaks JSON whether or not that was asked for.
    Ok(Out::new(true).say(|| json, String::new)?)
}
