//! What simulation costs on this machine. Nothing here influences a run; it is the one module that reads a clock.
//!
//! - The engine's parts by themselves: [`queue_costs`], [`engine_cost`].
//! - Whole networks of production nodes: [`network`] with a little traffic, [`idle_network`] with none but keep-alives and pings.
//! - What a node and a connection take in memory: [`memory`]. Heap to the byte is what `tests/null_cost.rs` counts.
//!
//! Speeds are given as *factors*: virtual time that passes in one second of wall-clock time, once all nodes have joined.

mod network;
mod queue;

use std::time::{Duration, Instant};

pub use self::{
    network::{MemoryCost, NetworkCost, idle_network, memory, network},
    queue::{EngineCost, QueueCost, engine_cost, queue_cost, queue_costs},
};

#[allow(clippy::disallowed_methods, reason = "to measure is what this module is for")]
fn now() -> Instant {
    Instant::now()
}

#[allow(clippy::disallowed_methods, reason = "to measure is what this module is for")]
fn elapsed(since: Instant) -> Duration {
    since.elapsed()
}
