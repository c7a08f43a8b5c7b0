//! `peerwork sim bisect`: where two programs part.

use peerwork_sim::search::compare::{self, Here};
use serde_json::json;

use super::{
    args::BisectArgs,
    other::{Other, divergence, divergence_json, program},
    subject::Chosen,
    watched::Bar,
};
use crate::{
    failure::Failure,
    out::{Out, Paint},
};

pub(super) fn bisect(args: &BisectArgs, out: Out) -> Result<(), Failure> {
    let chosen = Chosen::of(&args.scenario)?;
    let seed = args.seed.unwrap_or(chosen.scenario.seed);
    let exe = program(&args.against)?;
    let name = args.against.display().to_string();
    let bar = Bar::new(&chosen.scenario.name, 0, "  {prefix} {spinner} comparing {elapsed}");
    let mut here = Here { scenario: &chosen.scenario, seed };
    let mut other = Other { exe: &exe, name: name.clone(), chosen: &chosen, seed };
    let found = compare::bisect(&chosen.scenario, &mut here, &mut other).map_err(Failure::new)?;
    drop(bar);
    out.say(
        || {
            json!({
                "event": "bisect",
                "scenario": chosen.scenario.name,
                "seed": seed,
                "with": name,
                "equal": found.is_none(),
                "divergence": found.as_ref().map(divergence_json),
            })
        },
        || match &found {
            None => format!("{}seed {seed}, {name}", out.verb(Paint::Good, "equal")),
            Some(found) => {
                let trace = chosen.command("trace", seed);
                let verb = out.verb(Paint::Bad, "DIFFERENT");
                format!(
                    "{verb}seed {seed}, {name}\n{:13}{}\n{:13}look at it with: {trace} -o trace, by both programs",
                    "",
                    divergence(found),
                    ""
                )
            }
        },
    )?;
    if found.is_none() { Ok(()) } else { Err(Failure::Reported) }
}
