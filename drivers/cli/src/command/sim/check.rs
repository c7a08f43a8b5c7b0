//! `peerwork sim check`: runs that must be equal.

use peerwork_sim::search::compare::{self, Here, Runner};
use serde_json::json;

use super::{
    args::CheckArgs,
    other::{Other, divergence, divergence_json, program, this_program},
    subject::Chosen,
    watched::Bar,
};
use crate::{
    failure::Failure,
    out::{Out, Paint},
};

pub(super) fn check(args: &CheckArgs, out: Out) -> Result<(), Failure> {
    let chosen = Chosen::of(&args.scenario)?;
    let mut programs = vec![(this_program()?, "another process".to_owned())];
    for exe in &args.against {
        programs.push((program(exe)?, exe.display().to_string()));
    }
    let bar = Bar::seeds(&chosen.scenario.name, args.seeds.0.end - args.seeds.0.start);
    let mut all_equal = true;
    for seed in args.seeds.0.clone() {
        let here = || Here { scenario: &chosen.scenario, seed };
        let other = |index: usize| {
            let (exe, name) = &programs[index];
            Other { exe, name: name.clone(), chosen: &chosen, seed }
        };
        let (mut first, mut again) = (here(), here());
        let mut others: Vec<Other<'_>> = (0..programs.len()).map(other).collect();
        let mut runners: Vec<&mut dyn Runner> = vec![&mut first, &mut again];
        runners.extend(others.iter_mut().map(|other| other as &mut dyn Runner));
        let results = compare::check(&mut runners).map_err(Failure::new)?;
        bar.0.inc(1);
        for (n, (name, equal)) in results.iter().enumerate() {
            all_equal &= equal;
            // The first of them is this process.
            let name = if n == 0 { "this process, again" } else { name };
            let found = match (equal, n) {
                (true, _) => Ok(None),
                (false, 0) => compare::bisect(&chosen.scenario, &mut here(), &mut here()),
                (false, n) => compare::bisect(&chosen.scenario, &mut here(), &mut other(n - 1)),
            }
            .map_err(Failure::new)?;
            bar.0.suspend(|| {
                out.say(
                    || {
                        json!({
                            "event": "check",
                            "scenario": chosen.scenario.name,
                            "seed": seed,
                            "with": name,
                            "equal": equal,
                            "divergence": found.as_ref().map(divergence_json),
                        })
                    },
                    || {
                        let verb =
                            if *equal { out.verb(Paint::Good, "equal") } else { out.verb(Paint::Bad, "DIFFERENT") };
                        let found = match (&found, equal) {
                            (Some(found), _) => format!("\n{:13}{}", "", divergence(found)),
                            (None, true) => String::new(),
                            (None, false) => format!("\n{:13}not so when run once more", ""),
                        };
                        format!("{verb}seed {seed}, {name}{found}")
                    },
                )
            })?;
        }
    }
    if all_equal { Ok(()) } else { Err(Failure::Reported) }
}
