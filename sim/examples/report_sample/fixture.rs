//! Outcomes made up to look like real ones: large, varied, and the same every time.

use std::collections::BTreeMap;

use peerwork_sim::{
    dice::{Dice, Domain},
    outcome::{Band, Claim, Cost, Histogram, NatPair, Outcome, PacketCounts, Violation},
};

/// In milliseconds.
const MINUTE: u64 = 60_000;

struct Draw {
    dice: Dice,
    n: u64,
}

impl Draw {
    fn below(&mut self, limit: u64) -> u64 {
        self.n += 1;
        self.dice.draw(Domain::Content, 0, 0, self.n) % limit.max(1)
    }

    /// From 0 to 1.
    fn unit(&mut self) -> f64 {
        self.below(1 << 52) as f64 / (1_u64 << 52) as f64
    }

    /// About normal: the sum of three, stretched.
    fn normal(&mut self) -> f64 {
        2.0 * ((0..3).map(|_| self.unit()).sum::<f64>() - 1.5)
    }

    fn log_normal(&mut self, median: f64, spread: f64) -> u64 {
        (median * libm::exp(spread * self.normal())) as u64
    }
}

/// A run that broke three rules, and nearly everything that an outcome can hold.
pub(crate) fn run() -> Outcome {
    outcome(4711, 2_000, true)
}

/// As many seeds, a few of which fail.
pub(crate) fn sweep(seeds: u64) -> Vec<Outcome> {
    (1..=seeds).map(|seed| outcome(seed, 50, matches!(seed, 7 | 23 | 58))).collect()
}

fn outcome(seed: u64, nodes: u64, fails: bool) -> Outcome {
    let draw = &mut Draw { dice: Dice::from_seed(seed), n: 0 };
    let bands = bands(draw);
    let (histograms, series) = (histograms(draw, nodes), series(draw, nodes, &bands));
    let packets = packets(draw, nodes);
    let wall_ms = nodes * 40 + draw.below(nodes * 8) + if seed == 41 { nodes * 70 } else { 0 };
    let recall = if fails { "0.913" } else { "0.972" };
    Outcome {
        scenario: "lookups-survive-churn-and-partition".into(),
        seed,
        tier: if nodes > 100 { "null".into() } else { "wire".into() },
        nodes,
        virtual_ms: 30 * MINUTE,
        digest: (0..4).map(|_| format!("{:016x}", draw.below(u64::MAX))).collect(),
        violations: if fails { violations(draw, nodes > 100) } else { Vec::new() },
        claims: vec![
            claim("ratio(get.ok) >= 0.99", true, "0.9943"),
            claim("p99(get.latency) < 4 s", true, "2.91 s"),
            claim("recall(k-closest) >= 0.95", !fails, recall),
            claim("max(get.hops) <= log2(nodes) + 4", true, "9"),
            claim("ratio(punch.ok) in 0.629..=0.771", true, "0.704"),
        ],
        probes: probes(draw, nodes),
        counters: counters(draw, nodes),
        histograms,
        series,
        bands,
        packets,
        nat_pairs: nat_pairs(draw, nodes),
        cost: Cost {
            wall_ms,
            events: nodes * 6_000 + draw.below(nodes * 900),
            peak_rss: nodes * 900_000 + 40_000_000 + draw.below(8_000_000),
        },
        repeat: format!("peerwork sim run scenarios/churn-and-partition.toml --seed {seed} --nodes {nodes}"),
    }
}

fn claim(text: &str, holds: bool, value: &str) -> Claim {
    Claim { text: text.into(), holds, value: value.into() }
}

fn violations(draw: &mut Draw, all: bool) -> Vec<Violation> {
    let node = draw.below(1_800);
    let mut violations = vec![
        Violation {
            invariant: "lifecycle.double-end".into(),
            at_ns: 754_567_000_000,
            node: format!("n/{node}"),
            role: "n".into(),
            detail:
                "connection 812 ended twice: first as Closed(Idle) at 12:34.102, then as Closed(Reset) 465 ms later"
                    .into(),
        },
        Violation {
            invariant: "packets.conserved".into(),
            at_ns: 1_801_000_000_000,
            node: String::new(),
            role: String::new(),
            detail: "sent 18,204,113 but 18,204,112 are accounted for".into(),
        },
        Violation {
            invariant: "reachability.never-public-behind-nat".into(),
            at_ns: 1_322_001_000_000,
            node: "boot/3".into(),
            role: "boot".into(),
            detail: "said Public while its NAT (EIM/APDF) has no mapping for 203.0.113.7:4001".into(),
        },
    ];
    violations.sort_by_key(|violation| violation.at_ns);
    violations.truncate(if all { 3 } else { 1 });
    violations
}

fn probes(draw: &mut Draw, nodes: u64) -> BTreeMap<String, u64> {
    const NAMES: &str = "dial.simultaneous-open dial.all-failed dial.wrong-peer dial.black-hole dial.cancelled-late \
        conn.stateless-reset conn.idle-at-handshake conn.migrated conn.rebind conn.close-during-handshake \
        conn.retry conn.version-negotiation stream.reset-both stream.fin-after-reset stream.window-full \
        stream.stop-before-open noise.bad-payload tls.bad-certificate tls.identity-mismatch identify.push-race \
        identify.too-large ping.timeout ping.echo-wrong kad.bucket-evict kad.bucket-full kad.self-lookup \
        kad.lookup-stalled kad.value-too-old gossip.graft-in-backoff gossip.prune-with-px gossip.iwant-broken \
        relay.reservation-full relay.limit-bytes relay.limit-time punch.both-symmetric punch.retry punch.relayed \
        nat.rebind-detected autonat.flip timers.wheel-overflow";
    NAMES
        .split_whitespace()
        .enumerate()
        .map(|(n, name)| {
            let never = matches!(n, 11 | 16 | 22 | 39);
            (name.to_owned(), if never || draw.below(100) < 4 { 0 } else { draw.log_normal(nodes as f64 * 0.4, 2.2) })
        })
        .collect()
}

fn counters(draw: &mut Draw, nodes: u64) -> BTreeMap<String, u64> {
    const NAMES: &str = "dial.ok dial.failed dial.cancelled conn.opened conn.closed.idle conn.closed.remote \
        conn.closed.local conn.lost stream.opened stream.reset get.ok get.failed get.not-found put.ok put.failed \
        kad.queries kad.responses kad.timeouts gossip.published gossip.delivered gossip.duplicates gossip.rejected \
        punch.tried punch.ok relay.circuits relay.refused churn.joined churn.left churn.crashed identify.sent";
    NAMES.split_whitespace().map(|name| (name.to_owned(), draw.log_normal(nodes as f64 * 40.0, 1.8))).collect()
}

fn histograms(draw: &mut Draw, nodes: u64) -> BTreeMap<String, Histogram> {
    let mut all = BTreeMap::new();
    let mut add = |name: &str, values: u64, value: &mut dyn FnMut() -> u64| {
        let mut histogram = Histogram::default();
        (0..values).for_each(|_| histogram.add(value()));
        all.insert(name.to_owned(), histogram);
    };
    let n = nodes * 12;
    add("dial.latency", n, &mut || {
        if draw.below(12) == 0 { draw.log_normal(2.4e6, 0.3) } else { draw.log_normal(180e3, 0.6) }
    });
    add("get.latency", n, &mut || draw.log_normal(640e3, 0.7));
    add("get.hops", n, &mut || (4.0 + 1.3 * draw.normal()).clamp(1.0, 9.0) as u64);
    add("gossip.latency", n, &mut || draw.log_normal(310e3, 0.45));
    add("gossip.duplicates", n, &mut || draw.log_normal(3.0, 0.8));
    add("stream.bytes", n, &mut || if draw.below(6) == 0 { 0 } else { draw.log_normal(9_000.0, 1.9) });
    all
}

fn bands(draw: &mut Draw) -> Vec<Band> {
    let mut band = |kind: &str, label: &str, from: u64, minutes: u64| {
        let from_ms = from * MINUTE + draw.below(MINUTE);
        Band { kind: kind.into(), label: label.into(), from_ms, to_ms: from_ms + minutes * MINUTE + draw.below(MINUTE) }
    };
    vec![
        band("churn-burst", "40 % of n leave within 30 s", 4, 2),
        band("partition", "eu-west from us-east", 10, 5),
        band("latency", "all links of ap-southeast ×4", 13, 6),
        band("loss", "5 % in bursts of 8 on every access link", 20, 2),
        band("clock-skew", "nodes 1 in 10 run 2 % fast", 24, 3),
    ]
}

fn series(draw: &mut Draw, nodes: u64, bands: &[Band]) -> BTreeMap<String, Vec<(u64, f64)>> {
    let mut all = BTreeMap::new();
    let mut add = |name: &str, value: &mut dyn FnMut(u64, f64, &mut Draw) -> f64| {
        let points = (0..=180_u64).map(|n| {
            let at = n * 10_000;
            let hurt = bands.iter().filter(|band| band.from_ms <= at && at < band.to_ms).count() as f64;
            (at, value(at, hurt, draw))
        });
        all.insert(name.to_owned(), points.collect());
    };
    let size = nodes as f64;
    let joined = move |at: u64| (at as f64 / (4 * MINUTE) as f64).min(1.0) * size;
    add("nodes.up", &mut |at, hurt, draw| {
        (joined(at) * (1.0 - 0.12 * hurt) + draw.normal() * size * 0.006).max(0.0).trunc()
    });
    add("connections", &mut |at, hurt, draw| {
        (joined(at) * (14.0 - 2.5 * hurt) + draw.normal() * size * 0.1).max(0.0).trunc()
    });
    add("bytes.per-sec", &mut |at, hurt, draw| {
        (joined(at) * (5_200.0 + 2_000.0 * hurt) + draw.normal() * size * 300.0).max(0.0)
    });
    add("get.p99-latency", &mut |_, hurt, draw| (1.1e6 * (1.0 + 0.9 * hurt) + draw.normal() * 6e4).max(0.0));
    add("kad.recall", &mut |at, hurt, draw| {
        let settled = (at as f64 / (6 * MINUTE) as f64).min(1.0);
        (0.80 + 0.185 * settled - 0.05 * hurt + draw.normal() * 0.004).clamp(0.0, 1.0)
    });
    add("gossip.reach", &mut |_, hurt, draw| (0.998 - 0.2 * hurt + draw.normal() * 0.004).clamp(0.0, 1.0));
    add("score.honest", &mut |at, hurt, draw| at as f64 / (MINUTE * 10) as f64 - 1.5 * hurt + draw.normal() * 0.2);
    all
}

fn packets(draw: &mut Draw, nodes: u64) -> PacketCounts {
    let sent = nodes * 9_000 + draw.below(nodes * 500);
    let causes = [
        ("nat.filter", 180),
        ("loss", 95),
        ("partition", 48),
        ("nat.expired", 22),
        ("queue", 12),
        ("no-route", 6),
        ("host-down", 31),
        ("mtu", 1),
    ];
    let cause = |(name, share): &(&str, u64)| (String::from(*name), sent * share / 10_000 + draw.below(nodes));
    let dropped: BTreeMap<String, u64> = causes.iter().map(cause).collect();
    let in_flight = 113;
    let delivered = sent - in_flight - dropped.values().sum::<u64>();
    PacketCounts { sent, delivered, dropped, in_flight, bytes_sent: sent * 731, bytes_delivered: delivered * 729 }
}

fn nat_pairs(draw: &mut Draw, nodes: u64) -> Vec<NatPair> {
    const CLASSES: [&str; 11] = [
        "OPEN",
        "EIM/EIF",
        "EIM/ADF",
        "EIM/APDF",
        "ADM/EIF",
        "ADM/ADF",
        "ADM/APDF",
        "APDM/EIF",
        "APDM/ADF",
        "APDM/APDF",
        "FW/APDF",
    ];
    let eim = |class: &str| class.starts_with("EIM") || class.starts_with("OPEN") || class.starts_with("FW");
    let lax = |class: &str| class == "OPEN" || class.ends_with("/EIF") || class.ends_with("/ADF");
    let fixed = |a: &str, b: &str| eim(b) && (eim(a) || lax(b));
    let mut pairs = Vec::new();
    for from in CLASSES {
        for to in CLASSES {
            let possible = fixed(from, to) || fixed(to, from);
            let tried = draw.log_normal(nodes as f64 * 0.3, 0.9);
            let mut ok = if possible { tried - tried * draw.below(9) / 100 } else { 0 };
            match (from, to) {
                ("APDM/ADF", "APDM/APDF") => ok = tried.min(3),
                ("EIM/APDF", "EIM/ADF") => ok = 0,
                _ => {}
            }
            pairs.push(NatPair { from: from.into(), to: to.into(), tried, ok, possible: Some(possible) });
        }
    }
    pairs
}

/// The same seeds as three scenarios.
pub(crate) fn several(sweep: &[Outcome]) -> Vec<Outcome> {
    let names = ["lookups", "gossip-under-loss", "one-alone"];
    let name = |(n, outcome): (usize, &Outcome)| Outcome { scenario: names[n % 2].into(), ..outcome.clone() };
    let mut all: Vec<_> = sweep.iter().take(12).enumerate().map(name).collect();
    all.extend(sweep.last().map(|last| Outcome { scenario: names[2].into(), ..last.clone() }));
    all
}

/// What somebody writes who wants to break out of the page: in every place that takes words.
pub(crate) const HOSTILE: &str =
    "\"'><script>alert(1)</script><img src=x onerror=alert(2)>&amp;\u{0}\u{1b}[31m\u{202e}\u{ffff}]]>-->";

/// An outcome whose every name is [hostile](HOSTILE) and long, and whose numbers are extreme.
pub(crate) fn hostile() -> Outcome {
    let bad = || format!("{HOSTILE}{}", "long".repeat(60));
    let mut histogram = Histogram::default();
    [0, 1, u64::MAX, u64::MAX - 1, 1 << 40].into_iter().for_each(|value| histogram.add(value));
    let mut same = Histogram::default();
    same.add(7);
    let points = vec![(0, f64::NAN), (5, f64::INFINITY), (9, -1e300), (7, 1e300), (u64::MAX, 3.0)];
    let band = |from_ms, to_ms| Band { kind: bad(), label: bad(), from_ms, to_ms };
    Outcome {
        scenario: bad(),
        seed: u64::MAX,
        tier: bad(),
        nodes: u64::MAX,
        virtual_ms: 1,
        digest: bad(),
        violations: vec![Violation { invariant: bad(), at_ns: u64::MAX, node: bad(), role: bad(), detail: bad() }; 300],
        claims: vec![claim(&bad(), false, &bad()), claim(&bad(), true, &bad())],
        probes: [(bad(), 0), (format!("{}2", bad()), u64::MAX)].into(),
        counters: [(bad(), u64::MAX), (String::new(), 0)].into(),
        histograms: [(bad(), histogram), ("same".into(), same), ("nothing".into(), Histogram::default())].into(),
        series: [(bad(), points), ("none".into(), vec![]), ("nan".into(), vec![(3, f64::NAN)])].into(),
        bands: vec![band(5, 1), band(0, u64::MAX), band(u64::MAX, u64::MAX)],
        packets: PacketCounts {
            sent: 1,
            delivered: u64::MAX,
            dropped: [(bad(), u64::MAX), (String::new(), 1)].into(),
            in_flight: u64::MAX,
            bytes_sent: u64::MAX,
            bytes_delivered: 0,
        },
        nat_pairs: vec![
            NatPair { from: bad(), to: bad(), tried: 1, ok: u64::MAX, possible: Some(false) },
            NatPair { from: String::new(), to: bad(), tried: u64::MAX, ok: 0, possible: Some(true) },
        ],
        cost: Cost { wall_ms: u64::MAX, events: u64::MAX, peak_rss: u64::MAX },
        repeat: bad(),
    }
}
