//! `peerwork sim report`: a page of runs that were saved.

use std::{
    collections::BTreeSet,
    fs,
    io::{self, Read as _},
    path::Path,
};

use peerwork_sim::{
    Outcome,
    report::{ReportOptions, html},
};
use serde_json::{Value, json};

use super::{args::ReportArgs, files};
use crate::{
    failure::Failure,
    out::{Out, Paint},
};

pub(super) fn report(args: &ReportArgs, out: Out) -> Result<(), Failure> {
    files::writable(&args.output)?;
    let mut outcomes = Vec::new();
    for file in &args.files {
        let shown = if file == Path::new("-") { "standard input".to_owned() } else { file.display().to_string() };
        let text = text(file).map_err(|error| Failure::new(format!("cannot read {shown}: {error}")))?;
        let found = read(&text).map_err(|error| Failure::new(format!("{shown}: {error}")))?;
        if found.is_empty() {
            return Err(Failure::new(format!(
                "{shown} has no runs in it; `peerwork sim run SCENARIO --json > FILE` saves one"
            )));
        }
        outcomes.extend(found);
    }
    let options = ReportOptions { title: args.title.clone(), note: String::new(), cost: !args.no_cost };
    files::write(&args.output, &html(&outcomes, &options))?;
    let failed = outcomes.iter().filter(|outcome| !outcome.passed()).count();
    let scenarios: BTreeSet<&str> = outcomes.iter().map(|outcome| outcome.scenario.as_str()).collect();
    let shown = args.output.display().to_string();
    out.say(
        || json!({"event": "report", "file": shown, "runs": outcomes.len(), "failed": failed, "scenarios": scenarios}),
        || {
            let runs = outcomes.len();
            format!("{}{shown}: {runs} runs, {failed} of them failed", out.verb(Paint::Good, "report"))
        },
    )?;
    Ok(())
}

fn text(file: &Path) -> io::Result<String> {
    if file != Path::new("-") {
        return fs::read_to_string(file);
    }
    let mut text = String::new();
    io::stdin().lock().read_to_string(&mut text)?;
    Ok(text)
}

/// The outcomes among values of JSON, one after the other.
fn read(text: &str) -> Result<Vec<Outcome>, String> {
    let mut outcomes = Vec::new();
    for value in serde_json::Deserializer::from_str(text).into_iter::<Value>() {
        let value = value.map_err(|error| format!("this is not JSON: {error}"))?;
        let is_outcome = match value.get("event") {
            Some(event) => event == "outcome",
            None => value.get("digest").is_some(),
        };
        if is_outcome {
            let what = |error| format!("run {}: {error}", outcomes.len() + 1);
            outcomes.push(serde_json::from_value(value).map_err(what)?);
        }
    }
    Ok(outcomes)
}
