//! `peerwork sim trace`: all that happens in a run, in files for other programs.

use std::{
    cell::RefCell,
    fs, io,
    path::{Path, PathBuf},
    rc::Rc,
};

use peerwork_sim::{
    Scenario, Tier,
    run::{RunOptions, run_seed},
    trace::{Folder, Tap},
    world::WALL,
};
use serde_json::{Map, Value, json};

use super::{
    args::TraceArgs,
    files,
    subject::{Subject, quoted},
    watched::{first_detail, watched},
};
use crate::{
    failure::Failure,
    out::{Out, Paint},
};

pub(super) fn trace(args: &TraceArgs, out: Out) -> Result<(), Failure> {
    let subject = Subject::of(&args.scenario, args.seed)?;
    let scenario = match &subject {
        Subject::Seed(chosen, _) => &chosen.scenario,
        Subject::Repro(repro) => &repro.scenario,
    };
    let tracing = Tracing::begin(&args.output)?;
    let finished = watched(scenario, |progress| {
        let options = RunOptions { progress: Some(progress), tap: Some(tracing.tap()), ..RunOptions::default() };
        match &subject {
            Subject::Seed(chosen, seed) => run_seed(&chosen.scenario, *seed, options),
            Subject::Repro(repro) => repro.run(options),
        }
    })?;
    let outcome = &finished.outcome;
    out.human(|| {
        let what = format!("{}, seed {}, {} tier", outcome.scenario, outcome.seed, outcome.tier);
        match outcome.passed() {
            true => format!("{}{what}", out.verb(Paint::Good, "PASSED")),
            false => {
                let detail = first_detail(outcome).escape_debug().to_string();
                format!("{}{what}: {detail}", out.verb(Paint::Bad, "FAILED"))
            }
        }
    })?;
    drop(finished);
    tracing.end(scenario, out)
}

/// A trace being written into a folder.
pub(super) struct Tracing {
    dir: PathBuf,
    folder: Rc<RefCell<Folder>>,
}

impl Tracing {
    pub(super) fn begin(dir: &Path) -> Result<Self, Failure> {
        files::folder(dir)?;
        let folder = Folder::create(dir, WALL).map_err(|error| unwritable(dir, &error))?;
        Ok(Self { dir: dir.to_owned(), folder: Rc::new(RefCell::new(folder)) })
    }

    /// For the run.
    pub(super) fn tap(&self) -> Box<dyn Tap> {
        Box::new(Rc::clone(&self.folder))
    }

    /// Ends it after the run, whose result must be gone, and says what to do with it.
    pub(super) fn end(self, scenario: &Scenario, out: Out) -> Result<(), Failure> {
        let Self { dir, folder } = self;
        let folder = Rc::into_inner(folder).ok_or_else(|| Failure::new("the run still writes its trace"))?;
        folder.into_inner().finish().map_err(|error| unwritable(&dir, &error))?;
        let path = |name: &str| dir.join(name).display().to_string();
        let null = scenario.tier == Tier::Null;
        let mut rows = vec![
            ("packets.pcapng", format!("wireshark {0}    or    tshark -r {0}", quoted(&path("packets.pcapng")))),
            ("events.jsonl", format!("jq -c 'select(.event != \"packet\")' {}", quoted(&path("events.jsonl")))),
        ];
        if !null {
            rows.insert(1, ("keys.log", "the same secrets as in packets.pcapng, as in SSLKEYLOGFILE".into()));
        }
        if cfg!(feature = "qlog") {
            rows.push(("qlog/", format!("load {}/*.sqlog at https://qvis.quictools.info", quoted(&path("qlog")))));
        }
        out.say(
            || {
                let size = |name: &str| fs::metadata(dir.join(name)).map_or(0, |file| file.len());
                let names = ["packets.pcapng", "keys.log", "events.jsonl"];
                let files: Map<String, Value> =
                    names.map(|name| (name.to_owned(), size(name).into())).into_iter().collect();
                let qlogs = fs::read_dir(dir.join("qlog")).map_or(0, Iterator::count);
                json!({"event": "trace", "folder": dir.display().to_string(), "bytes": files, "qlogs": qlogs})
            },
            || {
                let rows = rows.iter().map(|(name, with)| format!("\n  {name:<16} {with}"));
                let mut text =
                    format!("{}{}{}", out.verb(Paint::Good, "trace"), dir.display(), rows.collect::<String>());
                if null {
                    text += "\n  The null tier's packets cannot be dissected; --tier wire makes packets that can.";
                }
                if cfg!(not(feature = "qlog")) {
                    text += "\n  For QUIC's own logs as well, build with `--features qlog`.";
                }
                text
            },
        )?;
        Ok(())
    }
}

fn unwritable(dir: &Path, error: &io::Error) -> Failure {
    Failure::new(format!("cannot write the trace in {}: {error}", dir.display()))
}
