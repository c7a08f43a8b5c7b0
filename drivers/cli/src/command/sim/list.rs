//! `peerwork sim list`: the scenarios of the library.

use peerwork_sim::{scenario::library, units};
use serde_json::json;

use crate::{
    failure::Failure,
    out::{Out, Paint},
};

pub(super) fn list(out: Out) -> Result<(), Failure> {
    let width = library::ALL.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    out.human(|| out.paint(Paint::Strong, "Scenarios"))?;
    for (name, _) in library::ALL {
        let scenario = library::named(name).map_err(Failure::new)?;
        let nodes: u64 = scenario.groups.iter().map(|group| u64::from(group.count)).sum();
        let duration = units::show_duration(scenario.duration);
        out.say(
            || {
                json!({
                    "event": "scenario",
                    "name": name,
                    "about": scenario.about,
                    "tier": scenario.tier.name(),
                    "nodes": nodes,
                    "duration_s": scenario.duration.as_secs_f64(),
                })
            },
            || {
                let facts = format!("{nodes} nodes, {duration}, {} tier", scenario.tier);
                let indent = width + 4;
                format!("  {name:<width$}  {}\n{:indent$}{}", scenario.about, "", out.paint(Paint::Faint, &facts))
            },
        )?;
    }
    out.human(|| "\nRun one with `peerwork sim run NAME`; `peerwork sim --help` tells more.".into())?;
    Ok(())
}
