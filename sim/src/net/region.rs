//! Where peers are, and how long packets take between there: 33 cloud regions and the round trips measured between
//! them.
//!
//! The tables are `sim/data/rtt_p50.csv` and `rtt_p90.csv`. Their two directions differ a little, as two measurements
//! of one thing do; a round trip takes both directions whoever began it, so a pair's figures are the means of both
//! entries.
//!
//! **From tables to packets.** One way takes half of the median round trip, plus its part of the *weather* of the path.
//! Weather is drawn once for each pair of ends and each [`SPELL`] of time, as what it adds to a round trip; a second
//! half of the draw says how that is shared between the directions, so queues may stand in one of them only. Its
//! quantiles are a line through fixed points: calmest a little below the median; nothing at the median; the tables'
//! difference Δ at the 90th percentile, 2 Δ at the 99th, and 4 Δ at worst. So round trips over many spells have the
//! median and the 90th percentile of the tables. Every packet adds a small jitter of its own, of up to Δ/16 and at most
//! [`JITTER_MAX`], whose mean is taken off the base.
//!
//! The shape above the 90th percentile, the calmest case, the length of a spell, and the jitter are judgement.

use std::{fmt, str::FromStr, time::Duration};

use peerwork::Time;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::dice::{Dice, Domain};

#[cfg(test)]
mod tests;

/// How long the weather of a path stays as it is.
pub const SPELL: Duration = Duration::from_secs(10);
/// The most that a packet's own jitter adds between regions.
pub const JITTER_MAX: Duration = Duration::from_millis(1);

/// A cloud region. Written by its AWS name, such as `eu-west-1`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Region(u8);

macro_rules! regions {
    ($($constant:ident = $name:literal, $place:literal, $weight:literal;)*) => {
        /// In the order of the tables.
        const NAMES: &[&str] = &[$($name),*];
        /// For [`RegionMix::peers`].
        const WEIGHTS: &[u32] = &[$($weight),*];

        #[expect(non_camel_case_types, reason = "numbers the regions")]
        enum Number { $($constant),* }

        impl Region {
            $(#[doc = $place] pub const $constant: Self = Self(Number::$constant as u8);)*
        }
    };
}

regions! {
    AF_SOUTH_1 = "af-south-1", "Cape Town", 3;
    AP_EAST_1 = "ap-east-1", "Hong Kong", 242;
    AP_EAST_2 = "ap-east-2", "Taipei", 72;
    AP_NORTHEAST_1 = "ap-northeast-1", "Tokyo", 20;
    AP_NORTHEAST_2 = "ap-northeast-2", "Seoul", 67;
    AP_NORTHEAST_3 = "ap-northeast-3", "Osaka", 5;
    AP_SOUTH_1 = "ap-south-1", "Mumbai", 10;
    AP_SOUTH_2 = "ap-south-2", "Hyderabad", 3;
    AP_SOUTHEAST_1 = "ap-southeast-1", "Singapore", 20;
    AP_SOUTHEAST_2 = "ap-southeast-2", "Sydney", 9;
    AP_SOUTHEAST_3 = "ap-southeast-3", "Jakarta", 5;
    AP_SOUTHEAST_4 = "ap-southeast-4", "Melbourne", 4;
    AP_SOUTHEAST_5 = "ap-southeast-5", "Kuala Lumpur", 4;
    AP_SOUTHEAST_7 = "ap-southeast-7", "Bangkok", 4;
    CA_CENTRAL_1 = "ca-central-1", "Montreal", 14;
    CA_WEST_1 = "ca-west-1", "Calgary", 4;
    EU_CENTRAL_1 = "eu-central-1", "Frankfurt", 55;
    EU_CENTRAL_2 = "eu-central-2", "Zurich", 6;
    EU_NORTH_1 = "eu-north-1", "Stockholm", 16;
    EU_SOUTH_1 = "eu-south-1", "Milan", 8;
    EU_SOUTH_2 = "eu-south-2", "Aragon", 7;
    EU_WEST_1 = "eu-west-1", "Dublin", 12;
    EU_WEST_2 = "eu-west-2", "London", 20;
    EU_WEST_3 = "eu-west-3", "Paris", 83;
    IL_CENTRAL_1 = "il-central-1", "Tel Aviv", 3;
    ME_CENTRAL_1 = "me-central-1", "Dubai", 3;
    ME_SOUTH_1 = "me-south-1", "Bahrain", 2;
    MX_CENTRAL_1 = "mx-central-1", "Queretaro", 4;
    SA_EAST_1 = "sa-east-1", "São Paulo", 10;
    US_EAST_1 = "us-east-1", "Northern Virginia", 110;
    US_EAST_2 = "us-east-2", "Ohio", 55;
    US_WEST_1 = "us-west-1", "Northern California", 50;
    US_WEST_2 = "us-west-2", "Oregon", 70;
}

/// A set of regions with a name that faults and scenarios may use.
#[derive(Clone, Copy, Debug)]
pub struct Group {
    /// Such as `EU`.
    pub name: &'static str,
    /// The regions.
    pub members: &'static [Region],
}

/// All groups. Besides, the beginning of names stands for all that begin so: `eu-west`.
pub const GROUPS: &[Group] = &[
    Group {
        name: "EU",
        members: &[
            Region::EU_CENTRAL_1,
            Region::EU_CENTRAL_2,
            Region::EU_NORTH_1,
            Region::EU_SOUTH_1,
            Region::EU_SOUTH_2,
            Region::EU_WEST_1,
            Region::EU_WEST_2,
            Region::EU_WEST_3,
        ],
    },
    Group { name: "US", members: &[Region::US_EAST_1, Region::US_EAST_2, Region::US_WEST_1, Region::US_WEST_2] },
    Group {
        name: "NORTH_AMERICA",
        members: &[
            Region::CA_CENTRAL_1,
            Region::CA_WEST_1,
            Region::MX_CENTRAL_1,
            Region::US_EAST_1,
            Region::US_EAST_2,
            Region::US_WEST_1,
            Region::US_WEST_2,
        ],
    },
    Group { name: "SOUTH_AMERICA", members: &[Region::SA_EAST_1] },
    Group {
        name: "AMERICA",
        members: &[
            Region::CA_CENTRAL_1,
            Region::CA_WEST_1,
            Region::MX_CENTRAL_1,
            Region::SA_EAST_1,
            Region::US_EAST_1,
            Region::US_EAST_2,
            Region::US_WEST_1,
            Region::US_WEST_2,
        ],
    },
    Group {
        name: "ASIA",
        members: &[
            Region::AP_EAST_1,
            Region::AP_EAST_2,
            Region::AP_NORTHEAST_1,
            Region::AP_NORTHEAST_2,
            Region::AP_NORTHEAST_3,
            Region::AP_SOUTH_1,
            Region::AP_SOUTH_2,
            Region::AP_SOUTHEAST_1,
            Region::AP_SOUTHEAST_3,
            Region::AP_SOUTHEAST_5,
            Region::AP_SOUTHEAST_7,
        ],
    },
    Group { name: "OCEANIA", members: &[Region::AP_SOUTHEAST_2, Region::AP_SOUTHEAST_4] },
    Group { name: "MIDDLE_EAST", members: &[Region::IL_CENTRAL_1, Region::ME_CENTRAL_1, Region::ME_SOUTH_1] },
    Group { name: "AFRICA", members: &[Region::AF_SOUTH_1] },
];

impl Region {
    /// How many there are.
    pub const COUNT: usize = NAMES.len();

    /// The AWS name.
    pub fn name(self) -> &'static str {
        NAMES[usize::from(self.0)]
    }

    /// Its row and column in the tables.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl fmt::Debug for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Region {
    type Err = UnknownRegion;

    fn from_str(text: &str) -> Result<Self, UnknownRegion> {
        Regions::all().find(|region| region.name() == text).ok_or_else(|| UnknownRegion::new(text, false))
    }
}

impl Serialize for Region {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for Region {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

/// No region has this name. Says which names are near.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("there is no region `{name}`; did you mean {}?", near.join(" or "))]
pub struct UnknownRegion {
    /// What was asked for.
    pub name: String,
    /// Names that look like it, the nearest first. Never empty.
    pub near: Vec<String>,
}

impl UnknownRegion {
    fn new(name: &str, groups: bool) -> Self {
        let groups = GROUPS.iter().filter(|_| groups).map(|group| group.name);
        let near = nearest(name, NAMES.iter().copied().chain(groups));
        Self { name: name.to_owned(), near }
    }
}

/// The three of `names` that are most like `wrong`, backquoted.
pub(crate) fn nearest(wrong: &str, names: impl IntoIterator<Item = &'static str>) -> Vec<String> {
    let wrong = wrong.to_ascii_lowercase();
    let mut near: Vec<_> =
        names.into_iter().map(|name| (strsim::levenshtein(&wrong, &name.to_ascii_lowercase()), name)).collect();
    near.sort_unstable();
    near.into_iter().take(3).map(|(_, name)| format!("`{name}`")).collect()
}

/// The tables of round trips.
#[derive(Clone, Debug)]
pub struct Regions {
    /// Microseconds; row: from; column: to.
    p50: Vec<u32>,
    p90: Vec<u32>,
}

impl Default for Regions {
    fn default() -> Self {
        Self::new()
    }
}

impl Regions {
    /// Reads the tables that are part of this crate.
    pub fn new() -> Self {
        let [p50, p90] = [include_str!("../../data/rtt_p50.csv"), include_str!("../../data/rtt_p90.csv")].map(|text| {
            parse(text).unwrap_or_else(|line| panic!("line {line} of a table in sim/data is not as it should be"))
        });
        Self { p50, p90 }
    }

    /// All regions, in the order of the tables.
    pub fn all() -> impl Iterator<Item = Region> {
        (0..NAMES.len() as u8).map(Region)
    }

    /// What a name stands for: a region, a [group](GROUPS) in upper or lower case, or the regions whose names begin so,
    /// such as `eu-west`.
    pub fn named(name: &str) -> Result<Vec<Region>, UnknownRegion> {
        if let Ok(region) = name.parse() {
            return Ok(vec![region]);
        }
        if let Some(group) = GROUPS.iter().find(|group| group.name.eq_ignore_ascii_case(name)) {
            return Ok(group.members.to_vec());
        }
        let begins = |region: &Region| region.name().strip_prefix(name).is_some_and(|rest| rest.starts_with('-'));
        let some: Vec<_> = Self::all().filter(begins).collect();
        if some.is_empty() { Err(UnknownRegion::new(name, true)) } else { Ok(some) }
    }

    /// The table's median round trip, in microseconds.
    pub fn rtt_p50(&self, from: Region, to: Region) -> u32 {
        self.p50[from.index() * Region::COUNT + to.index()]
    }

    /// The table's 90th percentile of the round trip, in microseconds.
    pub fn rtt_p90(&self, from: Region, to: Region) -> u32 {
        self.p90[from.index() * Region::COUNT + to.index()]
    }

    /// How packets fare between two regions. The same in both directions.
    pub fn between(&self, a: Region, b: Region) -> Between {
        let mean = |there: u32, back: u32| (u64::from(there) + u64::from(back)) * 500;
        let p50 = mean(self.rtt_p50(a, b), self.rtt_p50(b, a));
        let p90 = mean(self.rtt_p90(a, b), self.rtt_p90(b, a));
        let swing = p90.saturating_sub(p50);
        let jitter = (swing / 16).min(JITTER_MAX.as_nanos() as u64);
        Between { base: (p50 - jitter) / 2, dip: (swing / 2).min(p50 / 8), swing, jitter }
    }

    /// The least time that a packet takes from one region to any other: how far ahead regions may run independently.
    /// Access links and queues add to it.
    pub fn lookahead(&self) -> Duration {
        let pairs = Self::all().flat_map(|a| Self::all().map(move |b| (a, b))).filter(|(a, b)| a != b);
        pairs.map(|(a, b)| self.between(a, b).least()).min().unwrap_or_default()
    }
}

/// Numbers of a table, or the number of a bad line.
fn parse(text: &str) -> Result<Vec<u32>, usize> {
    let mut lines = text.lines();
    if !lines.next().is_some_and(|head| head.split(',').skip(1).eq(NAMES.iter().copied())) {
        return Err(1);
    }
    let mut table = Vec::with_capacity(Region::COUNT * Region::COUNT);
    for (number, line) in (2..).zip(lines) {
        let mut cells = line.split(',');
        let row = number - 2;
        if cells.next() != NAMES.get(row).copied() {
            return Err(number);
        }
        for cell in cells {
            table.push(micros(cell).ok_or(number)?);
        }
        if table.len() != (row + 1) * Region::COUNT {
            return Err(number);
        }
    }
    if table.len() == Region::COUNT * Region::COUNT { Ok(table) } else { Err(text.lines().count()) }
}

/// Microseconds from a decimal number of milliseconds with at most three decimals.
fn micros(cell: &str) -> Option<u32> {
    let (whole, decimals) = cell.trim().split_once('.').unwrap_or((cell.trim(), ""));
    if decimals.len() > 3 {
        return None;
    }
    let thousandths: u32 = format!("{decimals:0<3}").parse().ok()?;
    whole.parse::<u32>().ok()?.checked_mul(1_000)?.checked_add(thousandths)
}

/// How long packets take between two regions. The default is no time at all. See the [module](self).
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Between {
    /// One way at the median, without jitter; nanoseconds, as all of these.
    base: u64,
    /// How much less than the median a round trip takes at best.
    dip: u64,
    /// How much more it takes at the 90th percentile.
    swing: u64,
    /// A packet's own, at most.
    jitter: u64,
}

/// The weather of a path at present, in one direction. It follows from the time and the ends alone; this only spares
/// drawing it for every packet.
#[derive(Clone, Copy, Default, Debug)]
pub struct Spell {
    /// One more than the number of the spell that `extra` belongs to.
    known: u64,
    /// Nanoseconds one way.
    extra: i64,
}

impl Between {
    /// The least time that a packet takes.
    pub fn least(&self) -> Duration {
        Duration::from_nanos(self.base - self.dip.div_ceil(2))
    }

    /// The most that one packet's own jitter adds.
    pub fn jitter(&self) -> Duration {
        Duration::from_nanos(self.jitter)
    }

    /// One way from `from` to `to` for packets sent at `now`, without their own jitter. The numbers name the ends in
    /// draws.
    pub fn one_way(&self, dice: &mut Dice, spell: &mut Spell, from: u64, to: u64, now: Time) -> Duration {
        if self.swing == 0 {
            return Duration::from_nanos(self.base);
        }
        let (low, high) = (from.min(to), from.max(to));
        // Spells of different pairs begin at different times, so that the world's weather does not change all at once.
        let length = SPELL.as_nanos() as u64;
        let phase = (low.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ high.wrapping_mul(0xd1b5_4a32_d192_ed03)) % length;
        let number = now.as_nanos().saturating_add(phase) / length;
        if spell.known != number + 1 {
            let draw = dice.draw(Domain::Weather, low, high, number);
            let added = self.added((draw >> 32) as u32);
            let there = match u64::try_from(added) {
                // What is slow is slow in one direction more than in the other.
                Ok(added) => ((u128::from(added) * u128::from(draw & 0xffff_ffff)) >> 32) as i64,
                Err(_) => added / 2,
            };
            let back = if added < 0 { there } else { added - there };
            *spell = Spell { known: number + 1, extra: if from == low { there } else { back } };
        }
        Duration::from_nanos(self.base.saturating_add_signed(spell.extra))
    }

    /// What the weather adds to a round trip, by its rank among all weathers.
    fn added(&self, rank: u32) -> i64 {
        let (dip, swing) = (-(self.dip as i64), self.swing as i64);
        let points = [(0, dip), (500, 0), (900, swing), (990, 2 * swing), (1000, 4 * swing)];
        let scaled = u64::from(rank) * 1000;
        for pair in points.windows(2) {
            let [(from, low), (to, high)] = [pair[0], pair[1]];
            let (start, end) = (from << 32, to << 32);
            if scaled < end {
                let part = i128::from(high - low) * i128::from(scaled - start) / i128::from(end - start);
                return low + part as i64;
            }
        }
        4 * swing
    }
}

/// Shares of peers by region.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RegionMix(std::collections::BTreeMap<Region, u32>);

impl Default for RegionMix {
    fn default() -> Self {
        Self::peers()
    }
}

impl RegionMix {
    /// Where peers of a large open network are, per mille. A judgement, modelled on the countries of IPFS peers in
    /// Trautwein et al., "Design and Evaluation of IPFS" (SIGCOMM 2022), as remembered, not checked: United States 28.5
    /// %, China 24.2 %, France 8.3 %, Taiwan 7.2 %, South Korea 6.7 %. Peers in mainland China, where the tables have
    /// no region, are in Hong Kong; the rest, and the split within countries, is by feel.
    pub fn peers() -> Self {
        Self(Regions::all().zip(WEIGHTS.iter().copied()).collect())
    }

    /// Every region alike.
    pub fn even() -> Self {
        Self::of(Regions::all().map(|region| (region, 1)))
    }

    /// These shares, of whatever their sum is. A region named twice has the last.
    pub fn of(shares: impl IntoIterator<Item = (Region, u32)>) -> Self {
        Self(shares.into_iter().collect())
    }

    /// The region of the peer that `label` names in draws. `None` if all shares are 0.
    pub fn pick(&self, dice: &mut Dice, label: u64) -> Option<Region> {
        let shares = self.0.iter().map(|(region, share)| (*region, *share));
        weighted(dice, label, u64::from_le_bytes(*b"region\0\0"), shares)
    }
}

/// One of some, by weight, for what `label` names; `what` tells draws for one label apart.
pub(crate) fn weighted<T>(
    dice: &mut Dice,
    label: u64,
    what: u64,
    shares: impl Iterator<Item = (T, u32)> + Clone,
) -> Option<T> {
    let total = shares.clone().map(|(_, share)| u64::from(share)).sum();
    let mut rest = dice.below(Domain::Node, label, what, 0, total);
    for (item, share) in shares {
        if rest < u64::from(share) {
            return Some(item);
        }
        rest -= u64::from(share);
    }
    None
}
