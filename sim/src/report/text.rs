//! A few lines for a terminal.

use super::{
    format::Unit,
    format::{bytes, clock, count, cut, float, harmless, number, percent, share, short, span_ms},
    group::Group,
    name,
};
use crate::outcome::Outcome;

/// As wide as a line may be.
const WIDTH: usize = 110;
/// Where a line goes on.
const INDENT: usize = 16;
/// Violations, and claims that do not hold, that are shown.
const SHOWN: usize = 3;
/// Distributions that are shown.
const DISTRIBUTIONS: usize = 8;

/// A summary of a run, at most 40 lines of at most 110 characters, with a line break at the end of each. What the run names is
/// made harmless for a terminal.
pub fn text(outcome: &Outcome) -> String {
    let mut lines = Vec::new();
    head(outcome, &mut lines);
    verdict(outcome, &mut lines);
    distributions(outcome, &mut lines);
    packets(outcome, &mut lines);
    let repeat = harmless(&outcome.repeat).replace('\n', " ");
    let mut out = String::new();
    for line in lines {
        for line in wrapped(&harmless(&line).replace(['\n', '\u{a0}'], " ")) {
            out.push_str(line.trim_end());
            out.push('\n');
        }
    }
    // In full, since it is there to be copied.
    if !repeat.is_empty() {
        out.push_str(&format!("  {:<11} {repeat}\n", "repeat"));
    }
    out
}

/// A line, or two of them if it is too long; what does not fit then is cut.
fn wrapped(line: &str) -> Vec<String> {
    if line.chars().count() <= WIDTH {
        return vec![line.to_owned()];
    }
    let first: String = line.chars().take(WIDTH).collect();
    let at = first.rfind(' ').filter(|at| *at > WIDTH / 2).unwrap_or(first.len());
    let rest = line[at..].trim_start();
    vec![line[..at].to_owned(), cut(&format!("{:INDENT$}{rest}", ""), WIDTH)]
}

fn head(outcome: &Outcome, lines: &mut Vec<String>) {
    let mut line = |label: &str, text: String| lines.push(format!("  {label:<11} {text}"));
    let verdict = if outcome.passed() { "PASSED" } else { "FAILED" };
    let (wall, ran) = (outcome.cost.wall_ms, span_ms(outcome.virtual_ms));
    let title = format!(
        "{verdict}  {}, seed {}, {} tier",
        cut(name(&outcome.scenario), 56),
        outcome.seed,
        cut(name(&outcome.tier), 10)
    );
    let mut facts = vec![format!("{} nodes", count(outcome.nodes)), format!("{ran} virtual")];
    if wall > 0 {
        facts.push(format!("{} real ({} ×)", span_ms(wall), number(share(outcome.virtual_ms, wall))));
        facts.push(format!("{} events/s", short(share(outcome.cost.events, wall) * 1000.0)));
    }
    if outcome.cost.peak_rss > 0 {
        facts.push(bytes(float(outcome.cost.peak_rss)));
    }
    line("run", facts.join(", "));
    line("digest", cut(&outcome.digest, 64));
    lines.insert(0, title);
}

fn verdict(outcome: &Outcome, lines: &mut Vec<String>) {
    let mut line = |label: &str, text: String| lines.push(format!("  {label:<11} {text}"));
    match outcome.violations.len() {
        0 => line("violations", "none".to_owned()),
        n => line("violations", count(n as u64)),
    }
    for violation in outcome.violations.iter().take(SHOWN) {
        let at = clock(violation.at_ns / 1_000_000);
        let node = if violation.node.is_empty() { "the world" } else { &violation.node };
        line("", format!("{at:>11}  {}  {node}: {}", violation.invariant, violation.detail));
    }
    if outcome.violations.len() > SHOWN {
        line("", format!("and {} more", outcome.violations.len() - SHOWN));
    }
    let broken: Vec<_> = outcome.claims.iter().filter(|claim| !claim.holds).collect();
    if !outcome.claims.is_empty() {
        line("claims", format!("{} of {} hold", outcome.claims.len() - broken.len(), outcome.claims.len()));
    }
    for claim in broken.iter().take(SHOWN) {
        line("", format!("not met: {} (measured {})", claim.text, claim.value));
    }
    if broken.len() > SHOWN {
        line("", format!("and {} more", broken.len() - SHOWN));
    }
    let never: Vec<_> = outcome.probes.iter().filter(|probe| *probe.1 == 0).map(|probe| probe.0.as_str()).collect();
    if !outcome.probes.is_empty() {
        let hit = outcome.probes.len() - never.len();
        let never = if never.is_empty() { String::new() } else { format!("; never: {}", never.join(", ")) };
        line("probes", format!("{hit} of {} hit{never}", outcome.probes.len()));
    }
}

fn distributions(outcome: &Outcome, lines: &mut Vec<String>) {
    let all: Vec<_> = outcome.histograms.iter().filter(|(_, histogram)| histogram.count > 0).collect();
    if all.is_empty() {
        return;
    }
    let row = |name: &str, cells: [String; 5]| {
        let cells: String = cells.iter().map(|cell| format!("{cell:>12}")).collect();
        format!("  {:<28}{cells}", cut(name, 28))
    };
    lines.push(row("distribution", ["values", "p50", "p90", "p99", "max"].map(str::to_owned)));
    for (name, histogram) in all.iter().take(DISTRIBUTIONS) {
        let unit = Unit::of(name, Unit::Time(1.0));
        let value = |per_mille| unit.show(float(histogram.quantile(per_mille)));
        lines.push(row(name, [count(histogram.count), value(500), value(900), value(990), value(1000)]));
    }
    if all.len() > DISTRIBUTIONS {
        lines.push(format!("  and {} more", all.len() - DISTRIBUTIONS));
    }
}

fn packets(outcome: &Outcome, lines: &mut Vec<String>) {
    let mut line = |label: &str, text: String| lines.push(format!("  {label:<11} {text}"));
    let packets = &outcome.packets;
    let dropped = packets.dropped.values().fold(0, |sum: u64, n| sum.saturating_add(*n));
    let mut causes: Vec<_> = packets.dropped.iter().filter(|cause| *cause.1 > 0).collect();
    causes.sort_by(|a, b| b.1.cmp(a.1).then(a.0.cmp(b.0)));
    let shown: Vec<_> = causes.iter().take(4).map(|(cause, n)| format!("{cause} {}", short(float(**n)))).collect();
    let more = if causes.len() > 4 { format!(", {} more causes", causes.len() - 4) } else { String::new() };
    let why = if shown.is_empty() { String::new() } else { format!(": {}{more}", shown.join(", ")) };
    line(
        "packets",
        format!(
            "{} sent ({}), {} delivered, {} dropped{why}",
            count(packets.sent),
            bytes(float(packets.bytes_sent)),
            percent(share(packets.delivered, packets.sent)),
            percent(share(dropped, packets.sent))
        ),
    );
    let ends = packets.delivered.saturating_add(dropped).saturating_add(packets.in_flight);
    if ends != packets.sent {
        line("", format!("these do not add up: {} are accounted for", count(ends)));
    }
    let groups = Group::all(std::slice::from_ref(outcome));
    let pairs: Vec<_> = groups.iter().flat_map(Group::nat_pairs).map(|(_, pair)| pair).collect();
    if !pairs.is_empty() {
        let tried = pairs.iter().fold(0, |sum: u64, pair| sum.saturating_add(pair.tried));
        let ok = pairs.iter().fold(0, |sum: u64, pair| sum.saturating_add(pair.ok));
        let odd = match pairs.iter().filter(|pair| pair.disagrees).count() {
            0 => "as the model says".to_owned(),
            n => format!("{n} of {} pairs of NATs not as the model says", pairs.len()),
        };
        line("dials", format!("{}, {} reached the peer, {odd}", count(tried), percent(share(ok, tried))));
    }
}
