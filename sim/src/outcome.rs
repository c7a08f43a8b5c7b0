//! What a run leaves behind: verdict, counts, distributions, curves. Plain data, to be written as JSON, compared, merged, and
//! drawn by the report.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The result of one run of one scenario with one seed.
#[derive(Clone, Default, PartialEq, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct Outcome {
    /// The scenario's name.
    pub scenario: String,
    /// The seed.
    pub seed: u64,
    /// `wire` or `null`.
    pub tier: String,
    /// Nodes that lived at any time.
    pub nodes: u64,
    /// Virtual time that passed, in milliseconds.
    pub virtual_ms: u64,
    /// Hash over all that nodes put out.
    pub digest: String,
    /// Rules that were broken, in order of time. None means that the run passed, if the claims hold as well.
    pub violations: Vec<Violation>,
    /// What the scenario claims of its own results.
    pub claims: Vec<Claim>,
    /// How often each rare state of the core was reached: the whole catalogue, zeros included.
    pub probes: BTreeMap<String, u64>,
    /// Counts by name, such as `dial.ok`.
    pub counters: BTreeMap<String, u64>,
    /// Distributions by name, such as `dial.latency` (microseconds unless the name says otherwise).
    pub histograms: BTreeMap<String, Histogram>,
    /// Curves over time by name, such as `nodes.up`: pairs of virtual milliseconds and a value.
    pub series: BTreeMap<String, Vec<(u64, f64)>>,
    /// Times in which faults ruled.
    pub bands: Vec<Band>,
    /// What became of packets.
    pub packets: PacketCounts,
    /// Dials by NAT class of both ends.
    pub nat_pairs: Vec<NatPair>,
    /// What it cost. Differs from run to run: not part of the digest, and left out of comparisons.
    pub cost: Cost,
    /// A command that repeats the run.
    pub repeat: String,
}

impl Outcome {
    /// Whether no rule was broken and every claim holds.
    pub fn passed(&self) -> bool {
        self.violations.is_empty() && self.claims.iter().all(|claim| claim.holds)
    }
}

/// A rule that was broken.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Violation {
    /// The rule, such as `lifecycle.double-end`. With the role, what makes two failures the same failure.
    pub invariant: String,
    /// Virtual time in nanoseconds.
    pub at_ns: u64,
    /// The node, as `group/index`; empty for rules about the world.
    pub node: String,
    /// The node's group.
    pub role: String,
    /// In words, with the numbers.
    pub detail: String,
}

/// What a scenario says of its results.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Claim {
    /// Such as `ratio(dial.ok) >= 0.99`.
    pub text: String,
    /// Whether it holds.
    pub holds: bool,
    /// What was measured.
    pub value: String,
}

/// A span of time with a name, to be shown behind the curves.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Band {
    /// The class of fault, such as `partition`.
    pub kind: String,
    /// In words.
    pub label: String,
    /// Virtual milliseconds.
    pub from_ms: u64,
    /// Virtual milliseconds.
    pub to_ms: u64,
}

/// Every packet that was sent is in exactly one of the other counts.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PacketCounts {
    /// Sent by nodes, and the copies that duplication and replay made.
    pub sent: u64,
    /// Handed to a node.
    pub delivered: u64,
    /// Dropped, by cause, such as `loss`, `queue`, `nat.filter`, `no-route`.
    pub dropped: BTreeMap<String, u64>,
    /// Still under way at the end.
    pub in_flight: u64,
    /// Bytes sent, without IP and UDP headers.
    pub bytes_sent: u64,
    /// Bytes delivered.
    pub bytes_delivered: u64,
}

/// How dials between two classes of NAT went.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NatPair {
    /// The dialler's class, such as `EIM/ADF`, `OPEN` or `FW`.
    pub from: String,
    /// The class of the peer that was dialled.
    pub to: String,
    /// Dials that ended.
    pub tried: u64,
    /// Of these, those that led to the peer.
    pub ok: u64,
    /// Whether the model says that such dials can succeed, where it says anything.
    pub possible: Option<bool>,
}

/// What a run cost.
#[derive(Clone, Default, PartialEq, Debug, Serialize, Deserialize)]
pub struct Cost {
    /// Wall-clock time in milliseconds.
    pub wall_ms: u64,
    /// Events of the engine.
    pub events: u64,
    /// The process's peak resident memory in bytes, where the system tells.
    pub peak_rss: u64,
}

/// A distribution of whole numbers with a relative error below 1/32, in buckets that are the same everywhere.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Histogram {
    /// Number of values.
    pub count: u64,
    /// Sum of the values.
    pub sum: u64,
    /// The lowest value, 0 if there is none.
    pub min: u64,
    /// The highest value.
    pub max: u64,
    /// Counts by bucket number.
    buckets: BTreeMap<u32, u64>,
}

/// Buckets in each power of two.
const STEPS: u32 = 32;

impl Histogram {
    fn bucket(value: u64) -> u32 {
        if value < u64::from(STEPS) {
            return u32::try_from(value).unwrap_or(0);
        }
        let shift = value.ilog2() - STEPS.ilog2();
        let low = u32::try_from(value >> shift).unwrap_or(0) - STEPS;
        STEPS + shift * STEPS + low
    }

    /// The lowest value of a bucket; the highest of all numbers for those behind the last, which a file may name.
    fn floor(bucket: u32) -> u64 {
        if bucket < STEPS {
            return u64::from(bucket);
        }
        let (shift, low) = ((bucket - STEPS) / STEPS, (bucket - STEPS) % STEPS);
        if shift > u64::BITS - 1 - STEPS.ilog2() { u64::MAX } else { u64::from(STEPS + low) << shift }
    }

    /// Adds a value.
    pub fn add(&mut self, value: u64) {
        self.min = if self.count == 0 { value } else { self.min.min(value) };
        self.max = self.max.max(value);
        self.count += 1;
        self.sum = self.sum.saturating_add(value);
        *self.buckets.entry(Self::bucket(value)).or_default() += 1;
    }

    /// Adds all values of another.
    pub fn merge(&mut self, other: &Self) {
        if other.count == 0 {
            return;
        }
        self.min = if self.count == 0 { other.min } else { self.min.min(other.min) };
        self.max = self.max.max(other.max);
        self.count = self.count.saturating_add(other.count);
        self.sum = self.sum.saturating_add(other.sum);
        for (bucket, count) in &other.buckets {
            let sum = self.buckets.entry(*bucket).or_default();
            *sum = sum.saturating_add(*count);
        }
    }

    /// The value below or at which a share of `per_mille` / 1000 of all values lie: 500 is the median. 0 if empty.
    pub fn quantile(&self, per_mille: u32) -> u64 {
        let rank = (u128::from(self.count) * u128::from(per_mille.min(1000))).div_ceil(1000).max(1);
        let mut seen = 0_u128;
        for (bucket, count) in &self.buckets {
            seen += u128::from(*count);
            if seen >= rank {
                return Self::floor(*bucket).min(self.max).max(self.min);
            }
        }
        0
    }

    /// Buckets in rising order: lowest value, lowest value of the next bucket, count.
    pub fn buckets(&self) -> impl Iterator<Item = (u64, u64, u64)> + '_ {
        self.buckets.iter().map(|(bucket, count)| (Self::floor(*bucket), Self::floor(bucket.saturating_add(1)), *count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_near_the_truth_and_merging_is_adding() {
        let (mut all, mut low, mut high) = (Histogram::default(), Histogram::default(), Histogram::default());
        for value in 0..100_000_u64 {
            all.add(value * value);
            if value % 3 == 0 { low.add(value * value) } else { high.add(value * value) }
        }
        for (per_mille, value) in [(0, 0_u64), (500, 50_000), (900, 90_000), (990, 99_000), (1000, 99_999)] {
            let (found, exact) = (all.quantile(per_mille), value * value);
            assert!(found <= exact + exact / 16 && found + exact / 16 + 1 >= exact, "{per_mille}: {found} {exact}");
        }
        low.merge(&high);
        assert_eq!(low, all);
        assert_eq!((all.min, all.max, all.count), (0, 99_999 * 99_999, 100_000));
        assert_eq!(Histogram::default().quantile(500), 0);
    }

    #[test]
    fn every_value_lies_in_its_bucket() {
        for value in (0..64).flat_map(|n| [1_u64 << n, (1 << n) - 1, (1 << n) + 1]).chain([u64::MAX, 33, 95, 1000]) {
            let bucket = Histogram::bucket(value);
            assert!(Histogram::floor(bucket) <= value, "{value}");
            assert!(
                value == u64::MAX || bucket == Histogram::bucket(u64::MAX) || Histogram::floor(bucket + 1) > value,
                "{value}"
            );
        }
    }
}
