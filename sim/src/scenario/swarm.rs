//! Swarm testing: each seed draws which classes of faults exist at all, how frequent and how fierce they are, and then the faults.
//!
//! Leaving whole classes out finds more than always having a little of everything (Groce et al., ISSTA 2012): a rare state often needs
//! many of one kind and none of another.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Fault, Scenario, Timed};
use crate::{
    dice::{Dice, Domain},
    net::{link::Loss, weather::Trouble},
    plan::Roster,
    units,
    world::Conduct,
};

/// Faults to draw for each seed.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Swarm {
    /// Classes to choose from; empty means all.
    pub classes: Vec<Class>,
    /// When faults begin.
    #[serde(with = "units::span")]
    pub from: Duration,
    /// How many there are: 1 is up to about ten a minute of each class.
    pub intensity: f64,
}

impl Default for Swarm {
    fn default() -> Self {
        Self { classes: Vec::new(), from: Duration::from_secs(2), intensity: 1.0 }
    }
}

macro_rules! classes {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// A class of faults.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum Class { $($(#[$doc])* $name),* }

        impl Class {
            /// All classes.
            pub const ALL: &[Self] = &[$(Self::$name),*];
        }
    };
}

classes! {
    /// Two sides do not reach each other.
    Partition,
    /// One side does not reach the other, which reaches it.
    OneWay,
    /// Loss, in bursts.
    Loss,
    /// Delay and jitter.
    Delay,
    /// Duplication.
    Duplicate,
    /// Reordering.
    Reorder,
    /// Flipped bits.
    Corrupt,
    /// Packets again, much later.
    Replay,
    /// Large packets vanish.
    Mtu,
    /// Crashes and restarts.
    Crash,
    /// Orderly exits and returns.
    Leave,
    /// Many at once crash and return: correlated loss, mass exit, flash crowd.
    Mass,
    /// NAT mappings are forgotten.
    Rebind,
    /// NATs restart with other addresses.
    Reboot,
    /// Nodes change networks.
    Roam,
    /// Wall clocks jump.
    Clock,
    /// Nodes sleep.
    Suspend,
    /// Sockets block.
    Block,
    /// Sockets die.
    LoseSocket,
    /// Nodes misbehave.
    Byzantine,
}

/// Faults of one seed at most.
const FAULTS: u64 = 2_000;

impl Swarm {
    /// Draws the faults of a seed. They are over when the scenario's duration is.
    pub fn draw(&self, scenario: &Scenario, roster: &Roster, dice: &mut Dice) -> Result<Vec<Timed>, String> {
        let victims: Vec<u32> = (0..roster.len()).filter(|node| !scenario.groups[roster.place(*node).0].core).collect();
        let end = scenario.duration;
        if victims.is_empty() || end <= self.from {
            return Ok(Vec::new());
        }
        let span = u64::try_from((end - self.from).as_nanos()).unwrap_or(u64::MAX);
        let all = if self.classes.is_empty() { Class::ALL } else { &self.classes };
        let mut faults = Vec::new();
        for class in all {
            let id = *class as u64;
            let mut draw = |what: u64, n: u64, bound: u64| dice.below(Domain::Swarm, id, what, n, bound);
            // The benign draw is that the class does not exist.
            if draw(0, 0, 2) == 0 {
                continue;
            }
            // From one in five minutes to ten a minute, each order of magnitude as likely.
            let per_hour = 12_u64 << draw(1, 0, 6);
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                clippy::cast_precision_loss,
                reason = "small"
            )]
            let count = (span as f64 / 3.6e12 * per_hour as f64 * self.intensity) as u64 + 1;
            let fierce = 1 + draw(2, 0, 10);
            for n in 0..count.min(FAULTS / all.len() as u64 + 1) {
                let at = self.from + Duration::from_nanos(draw(3, n, span));
                let longest = u64::try_from((end - at).as_nanos()).unwrap_or(u64::MAX);
                let magnitude = draw(5, n, 6);
                let lasting = Duration::from_nanos((draw(4, n, 1_000_000_000 << magnitude) + 10_000_000).min(longest));
                let mut someone = |what: u64| {
                    let at = usize::try_from(draw(what, n, victims.len() as u64)).unwrap_or(0);
                    roster.name(victims[at])
                };
                let (who, other) = (someone(6), someone(7));
                let fault = class.fault(who, other, fierce, draw(8, n, 1000));
                if let Some(fault) = fault {
                    faults.push(Timed { at, lasting, fault });
                }
            }
        }
        faults.sort_by_key(|fault| fault.at);
        Ok(faults)
    }
}

impl Class {
    /// One fault of the class. `fierce` is 1 to 10, `spice` 0 to 999.
    fn fault(self, who: String, other: String, fierce: u64, spice: u64) -> Option<Fault> {
        let ppm = u32::try_from(fierce * 30_000).unwrap_or(0);
        let small = u32::try_from(spice).unwrap_or(0);
        let paths = |who: String, trouble: Trouble| {
            let one_way = spice.is_multiple_of(3);
            Some(Fault::Trouble { who, to: "all".into(), one_way, trouble })
        };
        Some(match self {
            Self::Partition => Fault::Partition { who, to: "all".into(), one_way: false },
            Self::OneWay if who == other => return None,
            Self::OneWay => Fault::Partition { who, to: other, one_way: true },
            Self::Loss => {
                let loss = Loss { mean_ppm: ppm, burst: 1 + small % 8 };
                return paths(who, Trouble { loss: Some(loss), ..Trouble::default() });
            }
            Self::Delay => {
                let (delay, jitter) = (Duration::from_millis(fierce * 40), Duration::from_millis(spice / 4));
                return paths(who, Trouble { delay, jitter, ..Trouble::default() });
            }
            Self::Duplicate => return paths(who, Trouble { duplicate_ppm: ppm, ..Trouble::default() }),
            Self::Reorder => return paths(who, Trouble { reorder_ppm: ppm, ..Trouble::default() }),
            Self::Corrupt => return paths(who, Trouble { corrupt_ppm: ppm / 3, ..Trouble::default() }),
            Self::Replay => return paths(who, Trouble { replay_ppm: ppm / 3, ..Trouble::default() }),
            Self::Mtu => {
                let mtu = [1280, 1400, 1452][usize::try_from(spice % 3).unwrap_or(0)];
                return paths(who, Trouble { mtu: Some(mtu), ..Trouble::default() });
            }
            Self::Crash => Fault::Crash { who },
            Self::Leave => Fault::Leave { who },
            Self::Mass => {
                let group = who.split('/').next().unwrap_or_default();
                let who = format!("{group} {}%", 10 * fierce.min(6));
                if spice.is_multiple_of(2) { Fault::Crash { who } } else { Fault::Leave { who } }
            }
            Self::Rebind => Fault::Rebind { who },
            Self::Reboot => Fault::Reboot { who, new_address: spice.is_multiple_of(2) },
            Self::Roam => Fault::Roam { who },
            Self::Clock => {
                let seconds =
                    i64::try_from(spice * fierce * 60).unwrap_or(0) * if spice.is_multiple_of(2) { 1 } else { -1 };
                Fault::Clock { who, seconds }
            }
            Self::Suspend => Fault::Suspend { who },
            Self::Block => Fault::Block { who },
            Self::LoseSocket => Fault::LoseSocket { who },
            Self::Byzantine => {
                let mut conduct = Conduct::default();
                match spice % 5 {
                    0 => conduct.drop_ppm = ppm,
                    1 => conduct.delay = Duration::from_millis(fierce * 50),
                    2 => conduct.replay_ppm = ppm,
                    3 => conduct.garble_ppm = ppm,
                    _ => conduct.noise = u32::try_from(fierce.min(4)).unwrap_or(1),
                }
                Fault::Turn { who, conduct }
            }
        })
    }
}
