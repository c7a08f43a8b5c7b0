//! `peerwork sim replay`: a failure, run again.

use peerwork_sim::{report::text, run::RunOptions};
use serde_json::json;

use super::{
    args::ReplayArgs,
    files,
    subject::{self, quoted},
    trace::Tracing,
    watched::{fingerprint_json, outcome_json, watched},
};
use crate::{
    failure::Failure,
    out::{Out, Paint},
};

pub(super) fn replay(args: &ReplayArgs, out: Out) -> Result<(), Failure> {
    let repro = subject::repro(&args.file)?;
    if args.test {
        let test = repro.to_test().map_err(Failure::new)?;
        return Ok(out.human(|| test.trim_end().to_owned())?);
    }
    args.report.as_deref().map_or(Ok(()), files::writable)?;
    let tracing = args.trace.as_deref().map(Tracing::begin).transpose()?;
    let mut outcome = watched(&repro.scenario, |progress| {
        let tap = tracing.as_ref().map(Tracing::tap);
        repro.run(RunOptions { progress: Some(progress), tap, ..RunOptions::default() })
    })?
    .outcome;
    let shown = args.file.display().to_string();
    outcome.repeat = format!("peerwork sim replay {}", quoted(&shown));
    files::report(args.report.as_deref(), std::slice::from_ref(&outcome))?;
    let confirmed = repro.is_confirmed_by(&outcome);
    if out.is_json() {
        out.say(|| outcome_json(&outcome), String::new)?;
    }
    out.say(
        || {
            json!({
                "event": "replay",
                "file": shown,
                "recorded": fingerprint_json(&repro.fingerprint),
                "detail": repro.detail,
                "confirmed": confirmed,
                "passed": outcome.passed(),
            })
        },
        || {
            let fingerprint = &repro.fingerprint;
            let verdict = match (confirmed, outcome.passed()) {
                (true, _) => format!("{}as recorded: {fingerprint}", out.verb(Paint::Good, "it fails")),
                (false, true) => format!("{}recorded was: {fingerprint}", out.verb(Paint::Bad, "it passes")),
                (false, false) => {
                    format!("{}but not as recorded: {fingerprint}", out.verb(Paint::Bad, "it fails"))
                }
            };
            format!("{}{verdict}", text(&outcome))
        },
    )?;
    if let Some(tracing) = tracing {
        tracing.end(&repro.scenario, out)?;
    }
    if let Some(report) = &args.report {
        out.human(|| format!("{:13}{}", "report", report.display()))?;
    }
    if confirmed { Ok(()) } else { Err(Failure::Reported) }
}
