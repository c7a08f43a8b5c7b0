//! `peerwork sim bench`: what the simulator costs here.

use peerwork_sim::{
    Tier,
    bench::{engine_cost, queue_cost},
    scenario::library,
    search::sweep::timed,
};
use serde_json::json;

use super::{
    args::BenchArgs,
    watched::{Bar, peak_rss},
};
use crate::{
    failure::Failure,
    out::{Out, Paint},
};

/// One figure.
struct Figure {
    name: String,
    value: f64,
    unit: &'static str,
    /// What it compares with, or how it was measured.
    note: String,
}

/// Measures something. Gets whether to be quick.
type Measure = fn(bool) -> Result<Vec<Figure>, Failure>;

/// All that is measured, in the order in which it is printed.
const MEASURES: [Measure; 3] = [engine, queues, nodes];

pub(super) fn bench(args: &BenchArgs, out: Out) -> Result<(), Failure> {
    if cfg!(debug_assertions) {
        out.human(|| {
            format!(
                "{}this is a debug build; build with --release for figures that count",
                out.verb(Paint::Bad, "note")
            )
        })?;
    }
    for measure in MEASURES {
        let bar = Bar::new("bench", 0, "  {prefix} {spinner} measuring {elapsed}");
        let figures = measure(args.quick)?;
        drop(bar);
        for Figure { name, value, unit, note } in figures {
            out.say(
                || json!({"event": "figure", "name": name, "value": value, "unit": unit, "note": note}),
                || format!("  {name:<36} {:>12} {unit:<14} {}", short(value), out.paint(Paint::Faint, &note)),
            )?;
        }
    }
    Ok(())
}

/// Three digits or so.
fn short(value: f64) -> String {
    match value {
        v if v >= 1e6 => format!("{:.2} M", v / 1e6),
        v if v >= 1e4 => format!("{:.0} k", v / 1e3),
        v if v >= 100.0 => format!("{v:.0}"),
        v => format!("{v:.1}"),
    }
}

fn engine(quick: bool) -> Result<Vec<Figure>, Failure> {
    let (nodes, events) = if quick { (1_000, 200_000) } else { (100_000, 5_000_000) };
    let cost = engine_cost(nodes, events);
    let note = format!("{} nodes that do nothing, {} events pending, one thread", cost.nodes, cost.pending);
    Ok(vec![Figure { name: "engine".into(), value: cost.events_per_s, unit: "events/s", note }])
}

fn queues(quick: bool) -> Result<Vec<Figure>, Failure> {
    let rounds = if quick { 100_000 } else { 2_000_000 };
    let mut figures = Vec::new();
    for (pending, name) in [(10_000, "10 k"), (100_000, "100 k"), (1_000_000, "1 M")] {
        let cost = queue_cost(pending, rounds);
        figures.push(Figure {
            name: format!("queue, {name} pending"),
            value: cost.ns_per_pop_push,
            unit: "ns/pop+push",
            note: format!("binary heap {:.0}; {:.0} bytes an event", cost.heap_ns_per_pop_push, cost.bytes_per_event),
        });
    }
    Ok(figures)
}

/// A small scenario against real time, on each tier.
fn nodes(_: bool) -> Result<Vec<Figure>, Failure> {
    const SCENARIO: &str = "halves";
    let mut figures = Vec::new();
    for tier in Tier::ALL {
        let mut scenario = library::named(SCENARIO).map_err(Failure::new)?;
        scenario.tier = tier;
        let outcome = timed(&scenario, 1, None).map_err(Failure::new)?;
        let speed = outcome.virtual_ms as f64 / outcome.cost.wall_ms.max(1) as f64;
        figures.push(Figure {
            name: format!("{SCENARIO}, {tier} tier"),
            value: speed,
            unit: "x real time",
            note: format!("{} nodes, {} events", outcome.nodes, outcome.cost.events),
        });
    }
    let rss = peak_rss();
    if rss > 0 {
        let note = "of all these measurements".to_owned();
        figures.push(Figure { name: "peak memory".into(), value: rss as f64 / 1e6, unit: "MB", note });
    }
    Ok(figures)
}
