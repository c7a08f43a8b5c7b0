//! All runs of one scenario, and what they have in common.

use std::collections::{BTreeMap, BTreeSet};

use super::format::{Unit, float, share};
use crate::outcome::{Band, Histogram, NatPair, Outcome, PacketCounts};

/// Runs of one scenario on one tier, by seed.
pub(super) struct Group<'a> {
    /// The scenario's name.
    pub(super) scenario: &'a str,
    /// The tier.
    pub(super) tier: &'a str,
    /// At least one.
    pub(super) runs: Vec<&'a Outcome>,
    /// Prefix of ids in the page; empty if there is one group.
    pub(super) prefix: String,
}

/// A number of each run.
pub(super) struct Figure {
    pub(super) name: String,
    pub(super) unit: Unit,
    /// Seed, value and whether the run passed, by rising value.
    pub(super) values: Vec<(u64, f64, bool)>,
}

impl Figure {
    pub(super) fn low(&self) -> f64 {
        self.values.first().map_or(0.0, |value| value.1)
    }

    pub(super) fn high(&self) -> f64 {
        self.values.last().map_or(0.0, |value| value.1)
    }

    pub(super) fn median(&self) -> f64 {
        median(self.values.iter().map(|value| value.1).collect())
    }

    /// Seeds that lie more than six median deviations from the median, farthest first.
    pub(super) fn outliers(&self) -> Vec<(u64, f64)> {
        let middle = self.median();
        let spread = median(self.values.iter().map(|value| (value.1 - middle).abs()).collect());
        let mut far: Vec<_> = self.values.iter().map(|value| (value.0, value.1)).collect();
        far.retain(|value| spread > 0.0 && (value.1 - middle).abs() > 6.0 * spread);
        far.sort_by(|a, b| (b.1 - middle).abs().total_cmp(&(a.1 - middle).abs()).then(a.0.cmp(&b.0)));
        far
    }
}

/// The middle value, the lower of two; 0 of nothing.
pub(super) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len().saturating_sub(1) / 2).copied().unwrap_or(0.0)
}

/// Dials between two classes over all runs.
#[derive(Clone, Default)]
pub(super) struct Pair {
    pub(super) tried: u64,
    pub(super) ok: u64,
    pub(super) possible: Option<bool>,
    /// Whether what happened in any run cannot be, or what can be never happened.
    pub(super) disagrees: bool,
}

impl Pair {
    fn add(&mut self, pair: &NatPair, first: bool) {
        self.tried = self.tried.saturating_add(pair.tried);
        self.ok = self.ok.saturating_add(pair.ok);
        self.possible = if first || self.possible == pair.possible { pair.possible } else { None };
        self.disagrees |= pair.possible == Some(false) && pair.ok > 0;
    }

    /// Whether it can be, was tried, and never happened.
    fn never(&self) -> bool {
        self.possible == Some(true) && self.tried > 0 && self.ok == 0
    }
}

/// A kind of fault, and how much of all runs it ruled when.
pub(super) struct Lane<'a> {
    pub(super) kind: &'a str,
    /// From, to, share of runs.
    pub(super) spans: Vec<(u64, u64, f64)>,
    /// How many bands there are.
    pub(super) count: usize,
}

impl<'a> Group<'a> {
    /// Groups runs by scenario and tier, and sorts them by seed.
    pub(super) fn all(outcomes: &'a [Outcome]) -> Vec<Self> {
        let mut groups: BTreeMap<(&str, &str), Vec<&Outcome>> = BTreeMap::new();
        for outcome in outcomes {
            groups.entry((&outcome.scenario, &outcome.tier)).or_default().push(outcome);
        }
        let many = groups.len() > 1;
        let mut all = Vec::new();
        for (n, ((scenario, tier), mut runs)) in groups.into_iter().enumerate() {
            runs.sort_by_key(|run| run.seed);
            let prefix = if many { format!("s{}-", n + 1) } else { String::new() };
            all.push(Self { scenario, tier, runs, prefix });
        }
        all
    }

    /// The id of a part of this group.
    pub(super) fn id(&self, part: &str) -> String {
        format!("{}{part}", self.prefix)
    }

    /// Whether there are several runs.
    pub(super) fn is_sweep(&self) -> bool {
        self.runs.len() > 1
    }

    pub(super) fn failed(&self) -> impl Iterator<Item = &'a Outcome> + '_ {
        self.runs.iter().copied().filter(|run| !run.passed())
    }

    /// The longest virtual time, and what curves or bands go beyond it, in milliseconds.
    pub(super) fn end_ms(&self) -> u64 {
        let ends = self.runs.iter().flat_map(|run| {
            let series = run.series.values().filter_map(|points| points.last()).map(|point| point.0);
            series.chain(run.bands.iter().map(|band| band.to_ms)).chain([run.virtual_ms])
        });
        ends.max().unwrap_or(0).max(1)
    }

    /// Sums of counts by name, with the number of runs in which each is not 0.
    fn sums(&self, of: impl Fn(&'a Outcome) -> &'a BTreeMap<String, u64>) -> BTreeMap<&'a str, (u64, u64)> {
        let mut sums: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
        for run in &self.runs {
            for (name, value) in of(run) {
                let sum = sums.entry(name).or_default();
                sum.0 = sum.0.saturating_add(*value);
                sum.1 += u64::from(*value > 0);
            }
        }
        sums
    }

    /// Hits of each probe over all runs, and the number of runs that hit it.
    pub(super) fn probes(&self) -> BTreeMap<&'a str, (u64, u64)> {
        self.sums(|run| &run.probes)
    }

    /// Sum of each counter.
    pub(super) fn counters(&self) -> BTreeMap<&'a str, (u64, u64)> {
        self.sums(|run| &run.counters)
    }

    /// Each distribution, over all runs.
    pub(super) fn histograms(&self) -> BTreeMap<&'a str, Histogram> {
        let mut merged: BTreeMap<&str, Histogram> = BTreeMap::new();
        for run in &self.runs {
            for (name, histogram) in &run.histograms {
                merged.entry(name).or_default().merge(histogram);
            }
        }
        merged
    }

    /// The names of all curves.
    pub(super) fn series(&self) -> BTreeSet<&'a str> {
        self.runs.iter().flat_map(|run| run.series.keys().map(String::as_str)).collect()
    }

    /// All packets.
    pub(super) fn packets(&self) -> PacketCounts {
        let mut all = PacketCounts::default();
        for run in &self.runs {
            let packets = &run.packets;
            let sums = [
                (&mut all.sent, packets.sent),
                (&mut all.delivered, packets.delivered),
                (&mut all.in_flight, packets.in_flight),
                (&mut all.bytes_sent, packets.bytes_sent),
                (&mut all.bytes_delivered, packets.bytes_delivered),
            ];
            for (sum, value) in sums {
                *sum = sum.saturating_add(value);
            }
            for (cause, value) in &packets.dropped {
                let sum = all.dropped.entry(cause.clone()).or_default();
                *sum = sum.saturating_add(*value);
            }
        }
        all
    }

    /// Dials by classes of dialler and dialled.
    pub(super) fn nat_pairs(&self) -> BTreeMap<(&'a str, &'a str), Pair> {
        let mut pairs: BTreeMap<(&str, &str), Pair> = BTreeMap::new();
        for pair in self.runs.iter().flat_map(|run| &run.nat_pairs) {
            let key = (pair.from.as_str(), pair.to.as_str());
            let first = !pairs.contains_key(&key);
            pairs.entry(key).or_default().add(pair, first);
        }
        for pair in pairs.values_mut() {
            pair.disagrees |= pair.never();
        }
        pairs
    }

    /// Faults by kind, the earliest first.
    pub(super) fn lanes(&self) -> Vec<Lane<'a>> {
        let mut kinds: BTreeMap<&str, Vec<&Band>> = BTreeMap::new();
        for band in self.runs.iter().flat_map(|run| &run.bands) {
            kinds.entry(&band.kind).or_default().push(band);
        }
        let share = |active: i64| float(active.unsigned_abs()) / super::format::len(self.runs.len());
        let lane = |(kind, bands): (&'a str, Vec<&Band>)| {
            let mut edges: BTreeMap<u64, i64> = BTreeMap::new();
            // A band may be as short as a moment.
            for band in &bands {
                *edges.entry(band.from_ms).or_default() += 1;
                *edges.entry(band.to_ms.max(band.from_ms.saturating_add(1))).or_default() -= 1;
            }
            let (mut spans, mut active, mut since): (Vec<(u64, u64, f64)>, i64, u64) = (Vec::new(), 0, 0);
            for (at, change) in edges {
                if active > 0 {
                    // In tenths, so that many runs do not make thousands of slivers.
                    let opacity = (share(active) * 10.0).ceil().min(10.0) / 10.0;
                    match spans.last_mut() {
                        Some(last) if last.1 == since && last.2.to_bits() == opacity.to_bits() => last.1 = at,
                        _ => spans.push((since, at, opacity)),
                    }
                }
                active += change;
                since = at;
            }
            Lane { kind, spans, count: bands.len() }
        };
        let mut lanes: Vec<_> = kinds.into_iter().map(lane).collect();
        lanes.sort_by_key(|lane| lane.spans.first().map(|span| span.0));
        lanes
    }

    /// What tells one run from another.
    pub(super) fn figures(&self, cost: bool) -> Vec<Figure> {
        let mut figures = Vec::new();
        let mut add = |name: String, unit: Unit, value: &dyn Fn(&Outcome) -> Option<f64>| {
            let of = |run: &&Outcome| value(run).filter(|v| v.is_finite()).map(|v| (run.seed, v, run.passed()));
            let mut values: Vec<_> = self.runs.iter().filter_map(of).collect();
            values.sort_by(|a, b| a.1.total_cmp(&b.1).then(a.0.cmp(&b.0)));
            if values.iter().any(|value| value.1 > 0.0) {
                figures.push(Figure { name, unit, values });
            }
        };
        let plain = |n: u64| Some(float(n));
        if cost {
            add("wall-clock time".into(), Unit::Time(1000.0), &|run| plain(run.cost.wall_ms));
            add("speed, virtual / real".into(), Unit::Times, &|run| {
                (run.cost.wall_ms > 0).then(|| share(run.virtual_ms, run.cost.wall_ms))
            });
            add("peak memory".into(), Unit::Bytes, &|run| plain(run.cost.peak_rss));
            add("engine events".into(), Unit::Plain, &|run| plain(run.cost.events));
        }
        add("violations".into(), Unit::Plain, &|run| Some(super::format::len(run.violations.len())));
        add("nodes".into(), Unit::Plain, &|run| plain(run.nodes));
        add("packets sent".into(), Unit::Plain, &|run| plain(run.packets.sent));
        add("bytes sent".into(), Unit::Bytes, &|run| plain(run.packets.bytes_sent));
        add("packets dropped".into(), Unit::Share, &|run| {
            let dropped = run.packets.dropped.values().fold(0, |sum: u64, value| sum.saturating_add(*value));
            (run.packets.sent > 0).then(|| share(dropped, run.packets.sent))
        });
        add("dials that reached the peer".into(), Unit::Share, &|run| {
            let tried = run.nat_pairs.iter().fold(0, |sum: u64, pair| sum.saturating_add(pair.tried));
            let ok = run.nat_pairs.iter().fold(0, |sum: u64, pair| sum.saturating_add(pair.ok));
            (tried > 0).then(|| share(ok, tried))
        });
        let names: BTreeSet<&str> =
            self.runs.iter().flat_map(|run| run.histograms.keys().map(String::as_str)).collect();
        for name in names {
            for (label, per_mille) in [("p50", 500), ("p99", 990)] {
                add(format!("{name} {label}"), Unit::of(name, Unit::Time(1.0)), &|run| {
                    let histogram = run.histograms.get(name).filter(|histogram| histogram.count > 0)?;
                    plain(histogram.quantile(per_mille))
                });
            }
        }
        figures
    }
}
