//! Random loss, alone and in bursts, and lists of losses in its place.

use std::{collections::BTreeSet, time::Duration};

use peerwork::Time;
use serde::{Deserialize, Serialize};

use crate::dice::{Dice, Domain};

/// The time unit of bursts: about what a full packet takes at 12 Mbit/s.
pub const SLOT: Duration = Duration::from_millis(1);

/// Random loss by the model of Gilbert and Elliott: a link is good or bad for a time, and loses everything while it is
/// bad.
///
/// The chain runs over time in slots of [`SLOT`], not over packets: in each slot a good link turns bad with probability
/// p, a bad one turns good with r, where r = 1/B for a mean burst of B slots and p = L·r/(1−L) for a mean loss of L. At
/// one packet a slot, these are the model's packets; denser packets of one slot share its fate.
///
/// That makes loss robust against a missing packet: each slot has one draw of its own, and the draw alone says either
/// "good now", whatever was before (with probability r), or "bad now" (p), or "as before" (the rest). So the state in a
/// slot is that of the last slot before with a decisive draw, and does not depend on whether anybody looked in between.
/// A packet costs one draw for each slot since the last packet, and after a pause as many as it takes to find a
/// decisive one: 1/(p+r) on average, at most B.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(
    deny_unknown_fields,
    default,
    rename_all = "kebab-case",
    expecting = "a table such as { mean-ppm = 10_000, burst = 3 }"
)]
pub struct Loss {
    /// Share of packets that are lost, in millionths. From 1 000 000, all are.
    pub mean_ppm: u32,
    /// Mean length of bursts in slots. At 0 and 1, and where bursts would be shorter than chance makes them (1/(1−L)),
    /// each packet is lost or not on its own.
    pub burst: u32,
}

impl Default for Loss {
    /// None.
    fn default() -> Self {
        Self::independent(0)
    }
}

impl Loss {
    /// Loss of each packet on its own.
    pub const fn independent(mean_ppm: u32) -> Self {
        Self { mean_ppm, burst: 1 }
    }

    /// Whether there are bursts.
    pub(super) fn is_bursty(self) -> bool {
        let good = u64::from(1_000_000_u32.saturating_sub(self.mean_ppm));
        self.mean_ppm > 0 && self.burst > 1 && u64::from(self.burst) * good > 1_000_000
    }

    /// Below the first, a slot's draw says good; above the second, bad.
    fn thresholds(self) -> (u64, u64) {
        let heal = u64::MAX / u64::from(self.burst.max(1));
        let mean = u128::from(self.mean_ppm.min(999_999));
        let fall = u128::from(heal) * mean / (1_000_000 - mean);
        (heal, u64::MAX - u64::try_from(fall).unwrap_or(u64::MAX).min(u64::MAX - heal))
    }
}

/// The state of a Gilbert–Elliott chain in the last slot that somebody asked about. Only spares draws.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Chain {
    loss: Loss,
    /// One more than the number of the slot that `bad` is about; 0 if none is known.
    known: u64,
    bad: bool,
}

impl Chain {
    /// Whether the chain that `a` and `b` name is bad at `now`.
    pub(super) fn is_bad(&mut self, dice: &mut Dice, a: u64, b: u64, loss: Loss, now: Time) -> bool {
        let slot = now.as_nanos() / SLOT.as_nanos() as u64;
        if self.loss != loss || self.known > slot + 1 {
            *self = Self { loss, ..Self::default() };
        }
        let (heal, fall) = loss.thresholds();
        // The nearest slot before that decides; else what is known; else the state in which the link began.
        let decisive = (self.known..=slot).rev().find_map(|slot| match dice.draw(Domain::Burst, a, b, slot) {
            draw if draw < heal => Some(false),
            draw if draw > fall => Some(true),
            _ => None,
        });
        self.bad = match decisive {
            Some(bad) => bad,
            None if self.known > 0 => self.bad,
            None => dice.chance(Domain::Burst, a, b, u64::MAX, loss.mean_ppm),
        };
        self.known = slot + 1;
        self.bad
    }
}

/// Names a packet: no two packets of a run have the same key, and it does not change when other packets are left out,
/// but for those of the same lane and instant.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct PacketKey {
    /// The place it left.
    pub from: u64,
    /// The place it goes to.
    pub to: u64,
    /// When it was sent, in nanoseconds.
    pub at_ns: u64,
    /// How many packets were sent there at this very time before it.
    pub ordinal: u32,
}

/// Which packets random loss takes.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub enum Drops {
    /// Those that the dice say.
    #[default]
    Random,
    /// Those that the dice say, and remember them here. Takes memory for each.
    Recorded(BTreeSet<PacketKey>),
    /// These and no others, whatever models say. Draws nothing.
    Exactly(BTreeSet<PacketKey>),
}

/// What there is if nothing was recorded.
static NONE: BTreeSet<PacketKey> = BTreeSet::new();

impl Drops {
    /// What was recorded, or the list. Run with [`Drops::Recorded`], this is what makes [`Drops::Exactly`] lose the
    /// same.
    pub fn lost(&self) -> &BTreeSet<PacketKey> {
        match self {
            Self::Random => &NONE,
            Self::Recorded(lost) | Self::Exactly(lost) => lost,
        }
    }

    /// Whether this packet is lost; asks `random` if there is no list.
    pub(super) fn decide(&mut self, key: PacketKey, random: impl FnOnce() -> bool) -> bool {
        match self {
            Self::Random => random(),
            Self::Recorded(lost) => {
                let is_lost = random();
                if is_lost {
                    lost.insert(key);
                }
                is_lost
            }
            Self::Exactly(lost) => lost.contains(&key),
        }
    }
}
