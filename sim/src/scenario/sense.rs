//! What is valid and yet cannot be meant: work that never begins, faults that do nothing. Only files that people write are checked
//! for this, not scenarios that a search has cut down.

use std::time::Duration;

use super::{Fault, Scenario, Spread, Timed};
use crate::{net::weather::Trouble, world::Conduct};

/// The least that QUIC needs: datagrams of 1200 bytes, in IPv4.
const LEAST_MTU: u16 = 1228;

/// Refuses what makes no sense.
pub(super) fn check(scenario: &Scenario) -> Result<(), String> {
    let end = scenario.duration;
    for group in &scenario.groups {
        let here = |error: String| format!("group `{}`: {error}", group.name);
        if group.join_at >= end {
            return Err(here(format!("it joins at {:?}, but all is over after {end:?}", group.join_at)));
        }
        conduct(&group.conduct).map_err(here)?;
    }
    for (n, work) in scenario.works.iter().enumerate() {
        let here = |error: String| format!("work {}: {error}", n + 1);
        let until = work.until.unwrap_or(end).min(end);
        if work.from >= until {
            return Err(here(format!("it begins at {:?} and ends at {until:?}, so there is none", work.from)));
        }
        for who in [&work.who, &work.to] {
            regions(scenario, who).map_err(here)?;
        }
    }
    for (n, timed) in scenario.faults.iter().enumerate() {
        fault(scenario, timed).map_err(|error| format!("fault {}: {error}", n + 1))?;
    }
    // Whom faults are about is seen by planning them, of which the rest is left out.
    let mut faults = Scenario { works: Vec::new(), swarm: None, ..scenario.clone() };
    faults.groups.iter_mut().for_each(|group| group.churn = None);
    crate::run::plan(&faults, scenario.seed).map(drop)
}

fn fault(scenario: &Scenario, timed: &Timed) -> Result<(), String> {
    if timed.at >= scenario.duration {
        return Err(format!("it is to be at {:?}, but faults end after {:?}", timed.at, scenario.duration));
    }
    let (who, to) = match &timed.fault {
        Fault::Partition { who, to, .. } => (who, Some(to)),
        Fault::Trouble { who, to, trouble: how, .. } => {
            trouble(how)?;
            (who, Some(to))
        }
        Fault::Turn { who, conduct: how } => {
            if how.is_honest() {
                return Err("`conduct` changes nothing; write, for example, { drop-ppm = 100_000 }".into());
            }
            conduct(how)?;
            (who, None)
        }
        Fault::Rebind { who } | Fault::Reboot { who, .. } | Fault::Clock { who, .. } | Fault::LoseSocket { who } => {
            if timed.lasting > Duration::ZERO {
                return Err("it happens at one moment: leave out `lasting`".into());
            }
            (who, None)
        }
        Fault::Crash { who }
        | Fault::Leave { who }
        | Fault::Roam { who }
        | Fault::Suspend { who }
        | Fault::Block { who } => (who, None),
    };
    regions(scenario, who)?;
    to.map_or(Ok(()), |to| regions(scenario, to))
}

/// Whoever speaks of regions must have some.
fn regions(scenario: &Scenario, who: &str) -> Result<(), String> {
    let nowhere = scenario.regions == Spread::Nowhere && scenario.groups.iter().all(|group| group.region.is_none());
    if nowhere && who.trim().starts_with("region:") {
        return Err(format!("`{who}` names nobody: give the scenario `regions = \"world\"`, or groups a `region`"));
    }
    Ok(())
}

fn ppm(name: &str, value: u32) -> Result<(), String> {
    if value <= 1_000_000 {
        return Ok(());
    }
    Err(format!("`{name}` is {value}, but is in millionths: at most 1000000"))
}

fn conduct(conduct: &Conduct) -> Result<(), String> {
    ppm("drop-ppm", conduct.drop_ppm)?;
    ppm("replay-ppm", conduct.replay_ppm)?;
    ppm("garble-ppm", conduct.garble_ppm)?;
    if conduct.noise > 1000 {
        return Err(format!("`noise` is {} for each datagram, but must be at most 1000", conduct.noise));
    }
    Ok(())
}

fn trouble(trouble: &Trouble) -> Result<(), String> {
    if *trouble == Trouble::default() {
        return Err("`trouble` changes nothing; write, for example, { delay = \"200ms\" }".into());
    }
    ppm("loss.mean-ppm", trouble.loss.map_or(0, |loss| loss.mean_ppm))?;
    ppm("duplicate-ppm", trouble.duplicate_ppm)?;
    ppm("reorder-ppm", trouble.reorder_ppm)?;
    ppm("corrupt-ppm", trouble.corrupt_ppm)?;
    ppm("replay-ppm", trouble.replay_ppm)?;
    match trouble.mtu {
        Some(mtu) if mtu < LEAST_MTU => {
            Err(format!("`mtu` is {mtu}, which lets nothing of QUIC through: at least {LEAST_MTU}, or use `partition`"))
        }
        _ => Ok(()),
    }
}
