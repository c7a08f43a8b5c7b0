//! `peerwork sim bench`: what the simulator costs here.

use std::time::Duration;

use peerwork_sim::{
    Tier,
    bench::{engine_cost, memory, network, queue_cost},
};
use serde_json::json;

use super::{args::BenchArgs, watched::Bar};
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

/// Measures something.
type Measure = fn(&BenchArgs) -> Vec<Figure>;

/// All that is measured, in the order in which it is printed. Memory comes first: what a process has freed, it does not ask the system
/// for again.
const MEASURES: [Measure; 4] = [memories, engine, queues, networks];

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
        let figures = measure(args);
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

fn engine(args: &BenchArgs) -> Vec<Figure> {
    let (nodes, events) = if args.quick { (1_000, 200_000) } else { (100_000, 5_000_000) };
    let cost = engine_cost(nodes, events);
    let note = format!("{} nodes that do nothing, {} events pending, one thread", cost.nodes, cost.pending);
    vec![Figure { name: "engine".into(), value: cost.events_per_s, unit: "events/s", note }]
}

fn queues(args: &BenchArgs) -> Vec<Figure> {
    let rounds = if args.quick { 100_000 } else { 2_000_000 };
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
    figures
}

/// What a node and a connection take, on each tier.
fn memories(args: &BenchArgs) -> Vec<Figure> {
    let nodes = if args.quick { 60 } else { 400 };
    let mut figures = Vec::new();
    for tier in Tier::ALL {
        let Some(cost) = memory(tier, nodes) else { continue };
        let note = format!("resident, over {} nodes and {} connections", cost.nodes, cost.connections);
        let kilobytes = [("a node", cost.bytes_per_node), ("an idle connection", cost.bytes_per_connection)];
        // Where the system does not tell, or the memory was there already, there is nothing to say.
        for (what, bytes) in kilobytes.into_iter().filter(|(_, bytes)| *bytes > 0.0) {
            let name = format!("memory of {what}, {tier} tier");
            figures.push(Figure { name, value: bytes / 1e3, unit: "kB", note: note.clone() });
        }
    }
    figures
}

/// Networks against real time, on each tier.
fn networks(args: &BenchArgs) -> Vec<Figure> {
    let nodes = args.nodes.unwrap_or(if args.quick { 50 } else { 1_000 });
    let time = Duration::from_secs(if args.quick { 5 } else { 30 });
    let mut figures = Vec::new();
    for tier in Tier::ALL {
        let cost = network(tier, nodes, time);
        let (connections, events) = (cost.connections, short(cost.events_per_s));
        let note = format!("once joined, {connections} connections, a request each 10 s; {events} events/s");
        let name = format!("{nodes} nodes, {tier} tier");
        figures.push(Figure { name, value: cost.factor, unit: "x real time", note });
        if let Some(bytes) = cost.bytes_per_node.filter(|bytes| *bytes > 0.0) {
            let name = format!("{nodes} nodes, {tier} tier, peak memory");
            figures.push(Figure { name, value: bytes / 1e3, unit: "kB/node", note: "with its connections".into() });
        }
    }
    figures
}
