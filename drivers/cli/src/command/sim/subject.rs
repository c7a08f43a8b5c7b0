//! What a command is about: a scenario with changes, or a repro; and how to say so on a command line.

use std::{fs, path::Path};

use peerwork_sim::{Scenario, scenario::library, search::repro::Repro, units};

use super::args::{Changes, ScenarioArgs};
use crate::failure::Failure;

/// A scenario, ready to run.
pub(super) struct Chosen {
    pub(super) scenario: Scenario,
    name: String,
    changes: Vec<String>,
}

impl Chosen {
    pub(super) fn of(args: &ScenarioArgs) -> Result<Self, Failure> {
        if is_repro(&args.scenario) {
            let file = quoted(&args.scenario);
            return Err(Failure::new(format!(
                "{} is a repro, a run that has failed, and no scenario; use `peerwork sim replay {file}`",
                args.scenario
            )));
        }
        let mut scenario = library::find(&args.scenario).map_err(Failure::new)?;
        let changes = args.changes.apply(&mut scenario);
        scenario.validate().map_err(Failure::new)?;
        // What is wrong with work and faults shows in a plan only.
        peerwork_sim::run::plan(&scenario, scenario.seed)
            .map_err(|error| Failure::new(format!("{}: {error}", args.scenario)))?;
        Ok(Self { scenario, name: args.scenario.clone(), changes })
    }

    /// Arguments that choose this scenario and a seed.
    pub(super) fn args(&self, seed: u64) -> Vec<String> {
        let mut args = vec![self.name.clone(), "--seed".into(), seed.to_string()];
        args.extend_from_slice(&self.changes);
        args
    }

    /// A command about a run of this scenario, to be copied into a shell.
    pub(super) fn command(&self, verb: &str, seed: u64) -> String {
        let args: Vec<String> = self.args(seed).iter().map(|arg| quoted(arg)).collect();
        format!("peerwork sim {verb} {}", args.join(" "))
    }
}

impl Changes {
    /// Changes a scenario, and gives the arguments that do the same.
    fn apply(&self, scenario: &mut Scenario) -> Vec<String> {
        let mut args = Vec::new();
        if let Some(tier) = self.tier {
            scenario.tier = tier;
            args.extend(["--tier".to_owned(), tier.to_string()]);
        }
        if let Some(duration) = self.duration {
            scenario.duration = duration;
            args.extend(["--duration".to_owned(), units::show_duration(duration)]);
        }
        for bug in &self.bugs {
            scenario.bugs.insert(bug.clone());
            args.extend(["--bug".to_owned(), bug.clone()]);
        }
        args
    }

    fn is_empty(&self) -> bool {
        self.tier.is_none() && self.duration.is_none() && self.bugs.is_empty()
    }
}

/// A scenario and a seed, or a repro.
pub(super) enum Subject {
    Seed(Box<Chosen>, u64),
    Repro(Box<Repro>),
}

impl Subject {
    pub(super) fn of(args: &ScenarioArgs, seed: Option<u64>) -> Result<Self, Failure> {
        if !is_repro(&args.scenario) {
            let chosen = Chosen::of(args)?;
            let seed = seed.unwrap_or(chosen.scenario.seed);
            return Ok(Self::Seed(Box::new(chosen), seed));
        }
        if seed.is_some() || !args.changes.is_empty() {
            return Err(Failure::new(format!(
                "{} is a repro, which has its own seed, tier, duration and bugs; edit the file to change them",
                args.scenario
            )));
        }
        Ok(Self::Repro(Box::new(repro(Path::new(&args.scenario))?)))
    }
}

/// Reads a repro.
pub(super) fn repro(file: &Path) -> Result<Repro, Failure> {
    let shown = file.display().to_string();
    if file.exists() && !file.is_dir() && !has_mark(file) {
        return Err(Failure::new(format!(
            "{shown} is not a repro, as `peerwork sim shrink` and `sweep` write them; a scenario is run by `peerwork sim run {}`",
            quoted(&shown)
        )));
    }
    Repro::from_file(file).map_err(Failure::new)
}

fn is_repro(name: &str) -> bool {
    (name.ends_with(".toml") || name.contains(['/', '\\'])) && has_mark(Path::new(name))
}

/// Whether a file says that it is a repro. What cannot be read is not; reading it as something else says why.
fn has_mark(file: &Path) -> bool {
    let text = fs::metadata(file).ok().filter(|file| file.is_file() && file.len() <= 64 << 20);
    let text = text.and_then(|_| fs::read_to_string(file).ok()).unwrap_or_default();
    text.lines().any(|line| line.starts_with("peerwork-repro"))
}

/// A word for a shell.
pub(super) fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use peerwork_sim::Tier;

    use super::*;

    #[test]
    fn a_command_says_all_that_was_changed() {
        let changes = Changes { tier: Some(Tier::Wire), duration: Some(Duration::from_millis(1500)), bugs: Vec::new() };
        let chosen = Chosen::of(&ScenarioArgs { scenario: "halves".into(), changes }).unwrap();
        assert_eq!((chosen.scenario.tier, chosen.scenario.duration), (Tier::Wire, Duration::from_millis(1500)));
        assert_eq!(chosen.command("run", 7), "peerwork sim run halves --seed 7 --tier wire --duration 1500ms");
    }

    #[test]
    fn words_survive_a_shell() {
        for (word, shown) in
            [("a/b-1.toml", "a/b-1.toml"), ("my file", "'my file'"), ("it's", r"'it'\''s'"), ("", "''"), ("$x", "'$x'")]
        {
            assert_eq!(quoted(word), shown);
        }
    }
}
