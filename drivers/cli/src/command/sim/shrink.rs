//! `peerwork sim shrink`: what it takes to fail.

use std::{path::Path, time::Instant};

use peerwork_sim::search::shrink::{self, ShrinkOptions, Shrunk};
use serde_json::json;

use super::{
    args::ShrinkArgs,
    files,
    subject::{Chosen, Subject, quoted},
    watched::{Bar, fingerprint_json},
};
use crate::{
    failure::Failure,
    out::{Out, Paint, millis, time},
};

pub(super) fn shrink(args: &ShrinkArgs, out: Out) -> Result<(), Failure> {
    let subject = Subject::of(&args.scenario, args.seed)?;
    match &args.output {
        Some(file) => files::writable(file)?,
        None => files::folder(Path::new("."))?,
    }
    let limits = ShrinkOptions { runs: args.runs, time: args.time, ..ShrinkOptions::default() };
    let begun = Instant::now();
    let shrunk = match &subject {
        Subject::Seed(chosen, seed) => self::seed(chosen, *seed, &limits)?,
        Subject::Repro(repro) => watched(&repro.scenario.name, &limits, |limits| shrink::shrink_repro(repro, limits))
            .map_err(|error| Failure::new(format!("{}: {error}", args.scenario.scenario)))?,
    };
    let elapsed = begun.elapsed();
    let repro = &shrunk.repro;
    let file = args.output.clone().unwrap_or_else(|| files::repro_name(repro));
    files::repro(&file, repro)?;
    let shown = file.display().to_string();
    let replay = format!("peerwork sim replay {}", quoted(&shown));
    let nodes = repro
        .plan()
        .map_err(Failure::new)?
        .ops
        .iter()
        .flat_map(|op| op.nodes())
        .collect::<std::collections::BTreeSet<_>>()
        .len();
    let spent = shrunk.runs >= args.runs || elapsed >= args.time;
    out.say(
        || {
            let mut json = fingerprint_json(&repro.fingerprint);
            json["event"] = "shrunk".into();
            json["scenario"] = repro.scenario.name.clone().into();
            json["seed"] = repro.seed.into();
            json["detail"] = repro.detail.clone().into();
            json["operations_before"] = shrunk.before.into();
            json["operations"] = repro.plan.len().into();
            json["nodes"] = nodes.into();
            json["lost_packets"] = json!(repro.lost.as_ref().map(std::collections::BTreeSet::len));
            json["runs"] = shrunk.runs.into();
            json["elapsed_ms"] = millis(elapsed).into();
            json["file"] = shown.clone().into();
            json["repeat"] = replay.clone().into();
            json
        },
        || {
            let row = |label: &str, text: &str| format!("\n  {label:<11} {text}");
            let mut text = format!(
                "{}{} operations to {}, of {nodes} nodes, in {} runs and {}",
                out.verb(Paint::Good, "shrunk"),
                shrunk.before,
                repro.plan.len(),
                shrunk.runs,
                time(elapsed)
            );
            text += &row("failure", &repro.fingerprint.to_string());
            text += &row("what", &repro.detail.escape_debug().to_string());
            text += &row("file", &shown);
            text += &row("replay", &replay);
            if spent {
                text += &row("note", "the limit was reached before nothing more could go; --time and --runs set it");
            }
            text
        },
    )?;
    Ok(())
}

/// Shrinks the failure of a seed.
pub(super) fn seed(chosen: &Chosen, seed: u64, limits: &ShrinkOptions<'_>) -> Result<Shrunk, Failure> {
    watched(&chosen.scenario.name, limits, |limits| shrink::shrink(&chosen.scenario, seed, limits)).map_err(|error| {
        let verdict = chosen.command("run", seed);
        Failure::new(format!("{error} (`{verdict}` tells more; `peerwork sim sweep` finds seeds that fail)"))
    })
}

/// Shrinks, with a bar.
fn watched(
    name: &str,
    limits: &ShrinkOptions<'_>,
    run: impl FnOnce(&ShrinkOptions<'_>) -> Result<Shrunk, String>,
) -> Result<Shrunk, String> {
    let bar = Bar::runs(&format!("shrinking {name}"), u64::from(limits.runs));
    let progress = |runs: u32, ops: usize| {
        bar.0.set_position(u64::from(runs));
        bar.0.set_message(format!("{ops} operations left"));
    };
    run(&ShrinkOptions { runs: limits.runs, time: limits.time, progress: &progress, ..ShrinkOptions::default() })
}
