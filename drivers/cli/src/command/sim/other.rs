//! Other processes that run the same scenario.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use peerwork::Time;
use peerwork_sim::{
    run::{Trail, TrailSpec},
    search::compare::{Divergence, Runner},
    units,
};
use serde_json::{Value, json};

use super::subject::Chosen;
use crate::failure::Failure;

/// Another process of this program or of another build of it.
pub(super) struct Other<'a> {
    pub(super) exe: &'a Path,
    pub(super) name: String,
    pub(super) chosen: &'a Chosen,
    pub(super) seed: u64,
}

impl Runner for Other<'_> {
    fn trail(&mut self, spec: TrailSpec) -> Result<Trail, String> {
        let span = |time: Time| units::show_duration(time.since(Time::ZERO));
        let mut command = Command::new(self.exe);
        command.args(["sim", "run"]).args(self.chosen.args(self.seed));
        command.args(["--trail", &units::show_duration(spec.every), "--trail-from", &span(spec.from)]);
        if spec.to < Time::MAX {
            command.args(["--trail-to", &span(spec.to)]);
        }
        let ended = command.stdin(Stdio::null()).output();
        let ended = ended.map_err(|error| format!("cannot run {}: {error}", self.exe.display()))?;
        let refused = |what: &str| {
            let said = String::from_utf8_lossy(&ended.stderr);
            let said = said.lines().next().unwrap_or("nothing").trim_start_matches("error: ").to_owned();
            format!("{} {what}; it said: {said}", self.exe.display())
        };
        if !ended.status.success() {
            return Err(refused("cannot run this scenario"));
        }
        serde_json::from_slice(&ended.stdout).map_err(|_| refused("printed no digests"))
    }

    fn name(&self) -> String {
        self.name.clone()
    }
}

/// Finds a program to compare with, and sees that it is one, before anything long is run.
pub(super) fn program(exe: &Path) -> Result<PathBuf, Failure> {
    let shown = exe.display();
    // A name alone is looked for as in a shell; a file that is here goes first.
    let exe = if exe.is_file() { std::path::absolute(exe).unwrap_or_else(|_| exe.to_owned()) } else { exe.to_owned() };
    let ended = Command::new(&exe).arg("--version").stdin(Stdio::null()).output();
    let ended = ended.map_err(|error| {
        Failure::new(format!("cannot run {shown}: {error}; --against takes another build of this program"))
    })?;
    if !ended.stdout.starts_with(b"peerwork ") {
        return Err(Failure::new(format!("{shown} is not peerwork; --against takes another build of this program")));
    }
    Ok(exe)
}

/// This program.
pub(super) fn this_program() -> Result<PathBuf, Failure> {
    std::env::current_exe().map_err(|error| Failure::new(format!("cannot tell which program this is: {error}")))
}

/// Where two runs part, in words.
pub(super) fn divergence(found: &Divergence) -> String {
    const SHOWN: usize = 12;
    let mut nodes = found.nodes.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    if found.nodes.len() > SHOWN {
        nodes += &format!(" and {} more", found.nodes.len() - SHOWN);
    }
    format!("equal until {}, no longer at {}, first at: {nodes}", found.after, found.before)
}

pub(super) fn divergence_json(found: &Divergence) -> Value {
    json!({"after_ns": found.after.as_nanos(), "before_ns": found.before.as_nanos(), "nodes": found.nodes})
}
