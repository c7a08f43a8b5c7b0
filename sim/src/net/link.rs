//! What becomes of a packet between two places: delay, loss, queues, and all that a bad path does.
//!
//! A packet leaves through the sender's uplink [`Queue`], then crosses a *lane*: the way from one place to another in
//! one direction, described by a [`LaneModel`] and with a small state, [`Lane`]. [`Lane::carry`] decides everything at
//! the moment of sending: either the one reason for which the packet is lost, or up to three arrivals (itself, a
//! duplicate, a replay). At arrival the world puts it through the receiver's downlink queue.
//!
//! **What a decision depends on.** Each is drawn by the lane's ends, the time of sending, and the packet's ordinal
//! among those that the lane got at that very time; never by a counter of packets. So without one packet the others
//! fare as before, with three exceptions that are physical: it took room in a queue or a policer's bucket; packets
//! behind it could not overtake it; and later ones of the same instant move up. Bursts of loss do not depend on packets
//! at all, see [`Loss`].
//!
//! **Order.** Jitter never lets a packet overtake another of the same lane: it arrives at the same time at the
//! earliest, and the engine keeps those in order of sending. Only `reorder_ppm` and replays break the order.
//!
//! An ideal lane draws nothing, and 0 is the benign answer to every draw.

use std::time::Duration;

use peerwork::{Time, io::Ecn};
use serde::{Deserialize, Serialize};

use super::region::{Between, Region, Regions, Spell};
use crate::dice::{Dice, Domain};

mod access;
mod loss;
mod queue;
#[cfg(test)]
mod tests;

pub use access::{Access, AccessMix, AccessShare, PROFILES, UnknownAccess};
use loss::Chain;
pub use loss::{Drops, Loss, PacketKey, SLOT};
pub use queue::{Passed, Policer, Queue, Rate};

/// Bytes of IPv4 and UDP headers.
pub const HEADERS_V4: usize = 28;
/// Bytes of IPv6 and UDP headers.
pub const HEADERS_V6: usize = 48;
/// A replayed packet comes again within this time.
pub const REPLAY_WITHIN: Duration = Duration::from_secs(60);

/// Why a packet was dropped.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[non_exhaustive]
pub enum Cause {
    /// At random, or because it is on the list.
    Loss,
    /// The sender's uplink queue was full.
    QueueUp,
    /// The receiver's downlink queue was full.
    QueueDown,
    /// It exceeded what a policer lets through.
    Policer,
    /// It was larger than the path carries, and nobody said so.
    Mtu,
    /// The path is blocked.
    Partition,
    /// It was damaged, and the receiver's checksum said so. For worlds that model checksums; lanes deliver damaged
    /// packets.
    Corrupt,
    /// What has to do with no link, such as `no-route`.
    Other(&'static str),
}

impl Cause {
    /// A stable name, under which drops are counted.
    pub fn name(self) -> &'static str {
        match self {
            Self::Loss => "loss",
            Self::QueueUp => "queue.up",
            Self::QueueDown => "queue.down",
            Self::Policer => "policer",
            Self::Mtu => "mtu",
            Self::Partition => "partition",
            Self::Corrupt => "corrupt",
            Self::Other(name) => name,
        }
    }
}

impl From<&'static str> for Cause {
    fn from(name: &'static str) -> Self {
        Self::Other(name)
    }
}

/// What is special about the way from one place to another, in that direction. Times are written like `20ms`. The
/// default adds nothing to what regions and access links do.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Path {
    /// One way, instead of what the regions of both ends say.
    #[serde(with = "crate::units::span_option", skip_serializing_if = "Option::is_none")]
    pub latency: Option<Duration>,
    /// How much longer than `latency`, or than what regions say, this direction takes, in millionths of it; from −1 000
    /// 000. With the opposite number on the way back the round trip stays as it is.
    #[serde(skip_serializing_if = "is_default")]
    pub skew_ppm: i32,
    /// Up to this much is added to each packet's time, evenly distributed.
    #[serde(with = "crate::units::span", skip_serializing_if = "is_default")]
    pub jitter: Duration,
    /// Random loss.
    #[serde(skip_serializing_if = "is_default")]
    pub loss: Loss,
    /// Probability that a packet arrives twice, at once, in millionths.
    #[serde(skip_serializing_if = "is_default")]
    pub duplicate_ppm: u32,
    /// Probability that a packet is held back by `reorder_by`, while others overtake it, in millionths.
    #[serde(skip_serializing_if = "is_default")]
    pub reorder_ppm: u32,
    /// How long it is held back. Zero: as long again as the lane takes, and at least 1 ms.
    #[serde(with = "crate::units::span", skip_serializing_if = "is_default")]
    pub reorder_by: Duration,
    /// Probability that one bit of the payload is flipped, in millionths.
    #[serde(skip_serializing_if = "is_default")]
    pub corrupt_ppm: u32,
    /// Probability that a packet comes once more within [`REPLAY_WITHIN`], in millionths.
    #[serde(skip_serializing_if = "is_default")]
    pub replay_ppm: u32,
    /// IP packets larger than this vanish, headers counted. Real black holes are at 1280, 1400 and 1452.
    #[serde(skip_serializing_if = "is_default")]
    pub mtu: Option<u16>,
    /// Drops what exceeds a rate.
    #[serde(skip_serializing_if = "is_default")]
    pub policer: Option<Policer>,
    /// Nothing gets through.
    #[serde(skip_serializing_if = "is_default")]
    pub blocked: bool,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// All that is known about a lane. See [`LaneModel::joining`].
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct LaneModel {
    /// One way, on top of the path's latency or that between regions.
    pub delay: Duration,
    /// What is special about the path.
    pub path: Path,
    /// What the regions of both ends say, unless the path has a latency of its own.
    pub between: Between,
    /// How much the two access links may add to `delay`.
    pub access_jitter: [Duration; 2],
    /// Loss on the sender's link on the way out, and on the receiver's on the way in.
    pub access_loss: [Loss; 2],
}

impl LaneModel {
    /// This model for two places: with their access links, and with the latency between their regions if those are
    /// known.
    pub fn joining(&self, from: &Access, to: &Access, regions: Option<(&Regions, Region, Region)>) -> Self {
        let least = |access: &Access| access.delay.saturating_sub(access.jitter);
        let spread = |access: &Access| access.delay + access.jitter - least(access);
        Self {
            delay: self.delay + least(from) + least(to),
            path: self.path.clone(),
            between: regions.map_or(self.between, |(table, a, b)| table.between(a, b)),
            access_jitter: [spread(from), spread(to)],
            access_loss: [from.loss, to.loss],
        }
    }
}

/// A packet at the moment it is sent.
#[derive(Clone, Copy, Debug)]
pub struct PacketMeta {
    /// Names the place it leaves in draws.
    pub from: u64,
    /// Names the place it goes to in draws.
    pub to: u64,
    /// When it is sent.
    pub now: Time,
    /// Bytes of payload, without IP and UDP headers.
    pub len: usize,
    /// Whether its headers are those of IPv6.
    pub ipv6: bool,
    /// ECN mark. `None`: the sender is not ECN-capable.
    pub ecn: Option<Ecn>,
    /// How many packets the lane got before at this very time.
    pub ordinal: u32,
}

impl PacketMeta {
    /// Distinguishes the packet from all others of its lane.
    pub fn key(&self) -> PacketKey {
        PacketKey { from: self.from, to: self.to, at_ns: self.now.as_nanos(), ordinal: self.ordinal }
    }

    /// Names draws that concern the packet. `part` tells draws of one domain apart.
    fn name(&self, part: u64) -> u64 {
        let ordinal = u64::from(self.ordinal) << 3 | part;
        self.now.as_nanos() ^ ordinal.wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}

/// A packet reaches the end of a lane.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Arrival {
    /// When.
    pub at: Time,
    /// ECN mark by then.
    pub ecn: Option<Ecn>,
    /// A byte of the payload to be damaged, and what to XOR it with.
    pub corrupt: Option<(usize, u8)>,
    /// Whether it is one more than was sent.
    pub copy: bool,
}

/// What became of a packet: dropped, or at least one arrival, the first of which is no copy.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Carried {
    /// Why it does not arrive.
    pub drop: Option<Cause>,
    arrivals: [Arrival; 3],
    count: u8,
}

impl Carried {
    const NOTHING: Arrival = Arrival { at: Time::MAX, ecn: None, corrupt: None, copy: false };

    /// A packet that does not arrive.
    pub fn dropped(cause: impl Into<Cause>) -> Self {
        Self { drop: Some(cause.into()), arrivals: [Self::NOTHING; 3], count: 0 }
    }

    /// A packet that arrives then, without an ECN mark.
    pub fn arriving(at: Time) -> Self {
        let mut carried = Self { drop: None, arrivals: [Self::NOTHING; 3], count: 0 };
        carried.add(Arrival { at, ..Self::NOTHING });
        carried
    }

    /// The packet itself, then copies. Empty if it was dropped.
    pub fn arrivals(&self) -> &[Arrival] {
        &self.arrivals[..usize::from(self.count)]
    }

    fn add(&mut self, arrival: Arrival) {
        self.arrivals[usize::from(self.count)] = arrival;
        self.count += 1;
    }
}

/// The state of a lane: what later packets owe to earlier ones. Everything else follows from the time and the packet.
#[derive(Clone, Default, Debug)]
pub struct Lane {
    /// The latest arrival of a packet that kept its place.
    latest: Time,
    /// When the policer's bucket is full again.
    policed: Time,
    spell: Spell,
    /// For the path, the sender's link, the receiver's.
    chains: [Chain; 3],
}

/// What names the chain of an access link besides its place: outwards, inwards.
const ACCESS: [u64; 2] = [u64::MAX, u64::MAX - 1];

impl Lane {
    /// Sends a packet over the lane. `up` is the sender's uplink queue; `drops` says how random loss is decided.
    pub fn carry(
        &mut self,
        dice: &mut Dice,
        model: &LaneModel,
        up: &mut Queue,
        drops: &mut Drops,
        packet: PacketMeta,
    ) -> Carried {
        let path = &model.path;
        let passed = match up.enqueue(packet.now, packet.len, packet.ecn) {
            Ok(passed) => passed,
            Err(_) => return Carried::dropped(Cause::QueueUp),
        };
        if path.blocked {
            return Carried::dropped(Cause::Partition);
        }
        let headers = if packet.ipv6 { HEADERS_V6 } else { HEADERS_V4 };
        if path.mtu.is_some_and(|mtu| packet.len + headers > usize::from(mtu)) {
            return Carried::dropped(Cause::Mtu);
        }
        if path.policer.is_some_and(|policer| !policer.admits(&mut self.policed, passed.at, packet.len)) {
            return Carried::dropped(Cause::Policer);
        }
        if drops.decide(packet.key(), || self.loses(dice, model, &packet)) {
            return Carried::dropped(Cause::Loss);
        }

        let mut at = passed.at + self.delay(dice, model, &packet);
        if dice.chance(Domain::Reorder, packet.from, packet.to, packet.name(0), path.reorder_ppm) {
            let twice = at.since(packet.now).max(Duration::from_millis(1));
            at += if path.reorder_by.is_zero() { twice } else { path.reorder_by };
        } else {
            at = at.max(self.latest);
            self.latest = at;
        }

        let mut carried = Carried::arriving(at);
        let itself = &mut carried.arrivals[0];
        itself.ecn = passed.ecn;
        let copy = Arrival { copy: true, ..*itself };
        itself.corrupt = corruption(dice, path.corrupt_ppm, &packet);
        if dice.chance(Domain::Duplicate, packet.from, packet.to, packet.name(0), path.duplicate_ppm) {
            carried.add(copy);
        }
        if dice.chance(Domain::Replay, packet.from, packet.to, packet.name(0), path.replay_ppm) {
            let within = REPLAY_WITHIN.as_nanos() as u64;
            let after = 1 + dice.below(Domain::Replay, packet.from, packet.to, packet.name(1), within);
            carried.add(Arrival { at: at + Duration::from_nanos(after), ..copy });
        }
        carried
    }

    /// Whether any of the three random losses hits.
    fn loses(&mut self, dice: &mut Dice, model: &LaneModel, packet: &PacketMeta) -> bool {
        let (from, to) = (packet.from, packet.to);
        let [out, inwards] = model.access_loss;
        let parts = [(model.path.loss, from, to), (out, from, ACCESS[0]), (inwards, to, ACCESS[1])];
        let mut lost = false;
        for (part, ((loss, a, b), chain)) in (0..).zip(parts.into_iter().zip(&mut self.chains)) {
            lost = lost
                || if loss.is_bursty() {
                    chain.is_bad(dice, a, b, loss, packet.now)
                } else {
                    dice.chance(Domain::Loss, from, to, packet.name(part), loss.mean_ppm)
                };
        }
        lost
    }

    /// How long the packet is under way, once it has left the uplink queue.
    fn delay(&mut self, dice: &mut Dice, model: &LaneModel, packet: &PacketMeta) -> Duration {
        let path = &model.path;
        let (mut way, own) = match path.latency {
            Some(latency) => (latency, Duration::ZERO),
            None => {
                let way = model.between.one_way(dice, &mut self.spell, packet.from, packet.to, packet.now);
                (way, model.between.jitter())
            }
        };
        if path.skew_ppm != 0 {
            let scale = (1_000_000 + i64::from(path.skew_ppm)).max(0).unsigned_abs();
            let nanos = way.as_nanos() * u128::from(scale) / 1_000_000;
            way = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        }
        let [out, inwards] = model.access_jitter;
        let ranges = [path.jitter, out, inwards, own];
        way += model.delay;
        if ranges != [Duration::ZERO; 4] {
            // 16 bits for each.
            let draw = dice.draw(Domain::Jitter, packet.from, packet.to, packet.name(0));
            for (shift, range) in [48, 32, 16, 0].into_iter().zip(ranges) {
                let share = u128::from(draw >> shift & 0xffff);
                way += Duration::from_nanos(u64::try_from((range.as_nanos() * share) >> 16).unwrap_or(u64::MAX));
            }
        }
        way
    }
}

/// A byte and a bit of it to flip.
fn corruption(dice: &mut Dice, ppm: u32, packet: &PacketMeta) -> Option<(usize, u8)> {
    if packet.len == 0 || !dice.chance(Domain::Corrupt, packet.from, packet.to, packet.name(0), ppm) {
        return None;
    }
    let bits = packet.len as u64 * 8;
    let bit = dice.below(Domain::Corrupt, packet.from, packet.to, packet.name(1), bits);
    Some(((bit / 8) as usize, 1 << (bit % 8)))
}
