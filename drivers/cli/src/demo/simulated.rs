//! The second half of the demo: hundreds of peers all over the world, simulated.

use std::{path::PathBuf, time::Instant};

use peerwork_sim::{
    Outcome, report,
    run::{RunOptions, run_seed},
    scenario::library,
};
use serde_json::json;

use crate::{
    failure::Failure,
    out::{Out, Paint},
};

/// The scenario of the library that is shown.
const SCENARIO: &str = "demo";

/// Runs it, and writes its report. Whether it passed.
pub(super) fn simulate(out: Out, file: Option<PathBuf>) -> Result<bool, Failure> {
    let scenario = library::named(SCENARIO).map_err(Failure::new)?;
    let file = file.unwrap_or_else(|| std::env::temp_dir().join("peerwork-demo.html"));
    let whole = (scenario.duration + scenario.settle).as_secs();
    let bar = super::report::bar(out);
    bar.set_length(whole);
    bar.set_prefix("simulated");
    bar.set_message("virtual seconds");
    let nodes: u32 = scenario.groups.iter().map(|group| group.count).sum();
    out.human(|| format!("\n  And {nodes} simulated ones, over the world's regions and behind its NATs:"))?;
    let start = Instant::now();
    let mut progress = |now: peerwork::Time| {
        bar.set_position(now.as_nanos() / 1_000_000_000);
        true
    };
    let options = RunOptions { progress: Some(&mut progress), fast: true, ..RunOptions::default() };
    let mut outcome = run_seed(&scenario, scenario.seed, options).map_err(Failure::new)?.outcome;
    bar.finish_and_clear();
    outcome.cost.wall_ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
    outcome.repeat = format!("peerwork sim run {SCENARIO} --seed {}", scenario.seed);
    let options = report::ReportOptions { note: scenario.about.clone(), ..report::ReportOptions::default() };
    let page = report::html(std::slice::from_ref(&outcome), &options);
    std::fs::write(&file, page)
        .map_err(|error| Failure::new(format!("the report cannot be written to {}: {error}", file.display())))?;
    let shown = file.display().to_string();
    out.say(
        || json!({ "event": "simulated", "ok": outcome.passed(), "report": shown, "outcome": outcome }),
        || human(out, &outcome, &shown),
    )?;
    Ok(outcome.passed())
}

fn human(out: Out, outcome: &Outcome, file: &str) -> String {
    let count = |name: &str| outcome.counters.get(name).copied().unwrap_or(0);
    let (virtual_s, wall_s) = (outcome.virtual_ms as f64 / 1000.0, outcome.cost.wall_ms as f64 / 1000.0);
    let mut lines = vec![
        format!("  {virtual_s:.0} s of virtual time in {wall_s:.1} s, {} packets", outcome.packets.sent),
        format!("  {:>6} of {:<6} dials led to their peer", count("dial.ok"), count("dial.tried")),
        format!("  {:>6} of {:<6} requests were answered", count("ask.ok"), count("ask.tried")),
        format!("  {:>6} of {:<6} peers could reach another in the end", count("exam.passed"), count("exam.held")),
    ];
    for violation in outcome.violations.iter().take(5) {
        let (rule, node, detail) = (&violation.invariant, &violation.node, &violation.detail);
        lines.push(out.paint(Paint::Bad, &format!("  FAILED {rule} {node}: {detail}")));
    }
    for claim in outcome.claims.iter().filter(|claim| !claim.holds) {
        lines.push(out.paint(Paint::Bad, &format!("  FAILED {}: {}", claim.text, claim.value)));
    }
    lines.push(format!("  The same to the last byte wherever it runs: digest {}", outcome.digest));
    lines.push(format!("  The report, for a browser: {}", out.paint(Paint::Strong, file)));
    lines.join("\n")
}
