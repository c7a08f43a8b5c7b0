//! Repro files: everything that a failure needs to happen again, in one TOML file that people can read and edit.

use std::{collections::BTreeSet, fmt::Write as _, path::Path};

use serde::{Deserialize, Serialize};

use super::Fingerprint;
use crate::{
    net::link::{Drops, PacketKey},
    outcome::Outcome,
    plan::{Op, Plan, Roster},
    run::{RunOptions, run},
    scenario::Scenario,
};

/// The format's version.
const FORMAT: u32 = 1;

/// Bytes of a repro file at most.
const FILE: u64 = 64 << 20;

/// A failure that can be repeated.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Repro {
    /// Version of the format: 1.
    pub peerwork_repro: u32,
    /// The seed, for the network's draws.
    pub seed: u64,
    /// In words, what happened.
    pub detail: String,
    /// What makes it this failure.
    pub fingerprint: Fingerprint,
    /// Exactly these packets are lost by chance. Without it, the dice say which.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost: Option<BTreeSet<PacketKey>>,
    /// What happens, node by name.
    #[serde(default)]
    pub plan: Vec<Op<String>>,
    /// The world. Its work and faults are not used: the plan has them.
    pub scenario: Scenario,
}

impl Repro {
    /// A repro of a plan.
    pub fn new(
        scenario: &Scenario,
        plan: &Plan,
        seed: u64,
        lost: Option<BTreeSet<PacketKey>>,
        fingerprint: Fingerprint,
        detail: String,
    ) -> Self {
        let roster = Roster::new(scenario);
        let named = |op: &Op| op.clone().map(&mut |node| Ok(roster.name(node)));
        let mut scenario = scenario.clone();
        scenario.works.clear();
        scenario.faults.clear();
        scenario.swarm = None;
        scenario.probes.clear();
        let plan = plan.ops.iter().map(named).collect::<Result<_, String>>().unwrap_or_default();
        Self { peerwork_repro: FORMAT, seed, detail, fingerprint, lost, plan, scenario }
    }

    /// The plan, with nodes by number.
    pub fn plan(&self) -> Result<Plan, String> {
        let roster = Roster::new(&self.scenario);
        let mut ops = Vec::new();
        for (n, op) in self.plan.iter().enumerate() {
            let op = op.clone().map(&mut |name: String| roster.node(&name));
            ops.push(op.map_err(|error| format!("operation {}: {error}", n + 1))?);
        }
        ops.sort_by_key(|op: &Op| op.at);
        Ok(Plan { ops })
    }

    /// Runs it again.
    pub fn run<'a>(&'a self, mut options: RunOptions<'a>) -> Result<crate::run::Finished, String> {
        options.drops = self.lost.clone().map(Drops::Exactly);
        run(&self.scenario, &self.plan()?, self.seed, options)
    }

    /// Whether a run of it failed as it says.
    pub fn is_confirmed_by(&self, outcome: &Outcome) -> bool {
        self.fingerprint.is_in(outcome)
    }

    /// As a file's content.
    pub fn to_toml(&self) -> Result<String, String> {
        let body = toml::to_string(self).map_err(|error| format!("the repro cannot be written: {error}"))?;
        Ok(format!(
            "# A failure of a simulated peerwork network: {}\n# Repeat it with: peerwork sim replay FILE\n{body}",
            self.fingerprint
        ))
    }

    /// Reads a file's content.
    pub fn from_toml(text: &str) -> Result<Self, String> {
        let repro: Self = toml::from_str(text).map_err(|error| error.to_string().trim_end().to_owned())?;
        if repro.peerwork_repro != FORMAT {
            return Err(format!(
                "this is a repro of format {}, and this peerwork reads format {FORMAT}; use the version that wrote it",
                repro.peerwork_repro
            ));
        }
        repro.scenario.validate()?;
        repro.plan()?;
        Ok(repro)
    }

    /// Reads a file.
    pub fn from_file(path: &Path) -> Result<Self, String> {
        let shown = path.display();
        let size = std::fs::metadata(path).map_err(|error| format!("{shown} cannot be read: {error}"))?.len();
        if size > FILE {
            return Err(format!("{shown} has {size} bytes; a repro has at most {FILE}"));
        }
        let text = std::fs::read_to_string(path).map_err(|error| format!("{shown} cannot be read: {error}"))?;
        Self::from_toml(&text).map_err(|error| format!("{shown}: {error}"))
    }

    /// A test to be put into a project: it fails as long as the failure happens.
    pub fn to_test(&self) -> Result<String, String> {
        let name: String = format!("seed_{}_{}", self.seed, self.fingerprint)
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' })
            .collect();
        let toml = self.to_toml()?;
        let hashes = "#".repeat((1..16).find(|n| !toml.contains(&format!("\"{}", "#".repeat(*n)))).unwrap_or(16));
        let mut test = String::new();
        let _ = write!(
            test,
            "/// {}\n#[test]\nfn {name}() {{\n    peerwork_sim::assert_fixed(r{hashes}\"\n{toml}\"{hashes});\n}}\n",
            self.detail.lines().next().unwrap_or_default(),
        );
        Ok(test)
    }
}

/// Runs a repro; panics if it still fails, in whatever way. For tests made by [`Repro::to_test`].
pub fn assert_fixed(toml: &str) {
    let repro = Repro::from_toml(toml).unwrap_or_else(|error| panic!("{error}"));
    let outcome = repro.run(RunOptions::default()).unwrap_or_else(|error| panic!("{error}")).outcome;
    let violations: Vec<String> =
        outcome.violations.iter().map(|v| format!("{} {}: {}", v.invariant, v.node, v.detail)).collect();
    assert!(outcome.passed(), "it still fails:\n{}", violations.join("\n"));
}
