//! Scenarios as tests: [`sim_test!`](crate::sim_test) sweeps one, and a failure is shrunk, written down, and told with the
//! commands that repeat it.

use std::{fmt::Write as _, ops::Range, path::PathBuf};

use crate::{
    run::Scripts,
    scenario::Scenario,
    search::{
        Fingerprint,
        shrink::{ShrinkOptions, Shrunk, shrink},
        sweep::{SweepOptions, Swept, sweep},
    },
};

/// Only this seed is run, instead of a test's range.
pub const SEED: &str = "PEERWORK_SIM_SEED";

/// The folder into which repro files of failed tests go, instead of `peerwork-sim` in the folder for temporary files.
pub const REPROS: &str = "PEERWORK_SIM_REPROS";

/// A test that builds a [`Scenario`] in Rust and runs it with every seed of a range.
///
/// ```
/// use peerwork_sim::{Tier, secs, sim_test};
///
/// sim_test! {
///     /// What is asked is answered, whoever is cut off for a while.
///     fn answers_survive_a_partition(s, seeds = 0..4) {
///         s.tier(Tier::Null).lasting(secs(20));
///         s.group("boot", 1).core();
///         s.group("n", 4).bootstrap("boot");
///         s.every(secs(1)).ask("n", "boot");
///         s.at(secs(5)).partition("n 50%", "all").lasting(secs(3));
///         s.expect_ratio("exam.passed", "exam.held").at_least(1.0);
///     }
/// }
/// ```
///
/// It expands to a `#[test]` function. A scenario begins with 60 s of virtual time on the wire tier, and 60 s in which everything
/// must come right; `s` is a `&mut Scenario`. With `scripts = ..` behind the seeds, nodes run [scripts](crate::run::Script).
/// `PEERWORK_SIM_SEED=7` in the environment runs that seed alone.
#[macro_export]
macro_rules! sim_test {
    ($(#[$attr:meta])* fn $name:ident($s:ident, seeds = $seeds:expr $(, scripts = $scripts:expr)?) $body:block) => {
        $(#[$attr])*
        #[test]
        fn $name() {
            let mut scenario = $crate::Scenario::new(stringify!($name), $crate::secs(60));
            {
                let $s = &mut scenario;
                $body
            }
            #[allow(unused_mut, unused_assignments)]
            let mut scripts: Option<$crate::run::Scripts<'_>> = None;
            $(scripts = Some(&$scripts);)?
            $crate::testing::assert_passes(&scenario, $seeds, scripts);
        }
    };
}

/// Runs a scenario with each seed of a range, or with the one that [`SEED`] names. Panics if one fails, or if a probe that the
/// scenario asks for is never reached: with everything that helps to find out why.
pub fn assert_passes(scenario: &Scenario, seeds: Range<u64>, scripts: Option<Scripts<'_>>) {
    let seeds = match std::env::var(SEED) {
        Ok(seed) => match seed.parse() {
            Ok(seed) => seed..seed + 1,
            Err(_) => panic!("{SEED} is `{seed}`, but must be a number"),
        },
        Err(_) => seeds,
    };
    let options = SweepOptions { scripts, ..SweepOptions::default() };
    let swept = sweep(scenario, seeds, &options).unwrap_or_else(|error| panic!("{}: {error}", scenario.name));
    if !swept.passed() {
        panic!("{}", tell(scenario, &swept, scripts));
    }
}

fn tell(scenario: &Scenario, swept: &Swept, scripts: Option<Scripts<'_>>) -> String {
    let mut text = String::new();
    let failed = swept.outcomes.iter().filter(|outcome| !outcome.passed()).count();
    let _ = writeln!(text, "{}: {failed} of {} seeds failed", scenario.name, swept.outcomes.len());
    for name in &swept.never_hit {
        let _ = writeln!(text, "  no seed reached {name}");
    }
    for (fingerprint, seed) in &swept.failures {
        let _ = writeln!(text, "  seed {seed}: {fingerprint} (again with {SEED}={seed})");
    }
    let Some((fingerprint, seed)) = swept.failures.iter().next() else { return text };
    match shrink(scenario, *seed, &ShrinkOptions { scripts, ..ShrinkOptions::default() }) {
        Ok(shrunk) => tell_shrunk(&mut text, scenario, *seed, fingerprint, &shrunk, scripts.is_some()),
        Err(error) => drop(writeln!(text, "  seed {seed} could not be shrunk: {error}")),
    }
    text
}

fn tell_shrunk(
    text: &mut String,
    scenario: &Scenario,
    seed: u64,
    fingerprint: &Fingerprint,
    shrunk: &Shrunk,
    scripted: bool,
) {
    let _ = writeln!(text, "seed {seed}, shrunk from {} to {} operations:", shrunk.before, shrunk.repro.plan.len());
    let _ = writeln!(text, "  {fingerprint}: {}", shrunk.repro.detail);
    for op in &shrunk.repro.plan {
        let _ = writeln!(text, "  {op}");
    }
    if scripted {
        // The program knows nothing of scripts.
        let _ = writeln!(text, "again with: {SEED}={seed} cargo test {}", scenario.name);
        return;
    }
    let folder = std::env::var_os(REPROS).map_or_else(|| std::env::temp_dir().join("peerwork-sim"), PathBuf::from);
    let file = folder.join(format!("{}-{seed}.toml", scenario.name));
    let written = shrunk.repro.to_toml().and_then(|toml| {
        std::fs::create_dir_all(&folder)
            .and_then(|()| std::fs::write(&file, toml))
            .map_err(|error| format!("{} cannot be written: {error}", file.display()))
    });
    let _ = match written {
        Ok(()) => writeln!(text, "again with: peerwork sim replay {}", file.display()),
        Err(error) => writeln!(text, "{error}"),
    };
}
