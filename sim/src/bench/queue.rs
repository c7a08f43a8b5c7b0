//! The event queue by itself: nanoseconds of [`Wheel`] operations beside those of a binary heap, and events per second of a queue
//! with next to no work.

use std::{cmp::Reverse, collections::BinaryHeap, hint::black_box};

use peerwork::Time;
use serde::{Deserialize, Serialize};

use super::{elapsed, now};
use crate::wheel::{EventKey, Wheel};

/// How far ahead of now events are pushed at most, in nanoseconds.
const AHEAD: u64 = 10_000_000_000;

/// What a queue costs with a certain number of events pending, with times uniform in the next ten seconds.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct QueueCost {
    /// Events pending all the time.
    pub pending: u64,
    /// Pairs of pop and push that were measured.
    pub rounds: u64,
    /// Nanoseconds for one pop and one push of a [`Wheel`].
    pub ns_per_pop_push: f64,
    /// The same of [`std::collections::BinaryHeap`].
    pub heap_ns_per_pop_push: f64,
    /// Bytes that the wheel holds for each pending event, of which 40 are the event. The values have eight bytes.
    pub bytes_per_event: f64,
}

/// How fast the engine could be at best: a queue and a handler that does next to nothing.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct EngineCost {
    /// Nodes that events go to.
    pub nodes: u64,
    /// Events pending all the time.
    pub pending: u64,
    /// Events handled.
    pub events: u64,
    /// Wall-clock time in nanoseconds.
    pub wall_ns: u64,
    /// Events in a second: pop, look up the node, count, push an answer.
    pub events_per_s: f64,
}

/// Costs with 10 000, 100 000 and 1 000 000 events pending. Takes some seconds.
pub fn queue_costs() -> Vec<QueueCost> {
    [10_000, 100_000, 1_000_000].into_iter().map(|pending| queue_cost(pending, 2_000_000)).collect()
}

/// The cost with `pending` events pending, over `rounds` pops and pushes after as many as are pending to warm up.
pub fn queue_cost(pending: u64, rounds: u64) -> QueueCost {
    let (mut wheel, mut heap) = (Wheel::new(), BinaryHeap::new());
    let ns_per_pop_push = time(pending, rounds, &mut wheel, Wheel::push, Wheel::pop);
    let bytes = wheel.footprint();
    drop(wheel);
    let heap_ns_per_pop_push = time(
        pending,
        rounds,
        &mut heap,
        |heap, key, value| heap.push(Reverse((key, value))),
        |heap| heap.pop().map(|Reverse(event)| event),
    );
    QueueCost {
        pending,
        rounds,
        ns_per_pop_push,
        heap_ns_per_pop_push,
        bytes_per_event: bytes as f64 / pending.max(1) as f64,
    }
}

/// Events per second of a queue with `nodes` nodes and ten times as many packets under way, each answered after 10 to 200 ms.
pub fn engine_cost(nodes: u32, events: u64) -> EngineCost {
    let nodes = nodes.max(1);
    let pending = u64::from(nodes) * 10;
    let mut random = Random(1);
    let mut wheel = Wheel::new();
    let mut counts = vec![0_u64; nodes as usize];
    let mut event = |to: u32, now: u64, seq: u64| {
        let from = to;
        let at = Time::from_nanos(now + 10_000_000 + random.below(190_000_000));
        EventKey { at, to: random.below(u64::from(nodes)) as u32, kind: 1, from, seq }
    };
    for seq in 0..pending {
        wheel.push(event((seq % u64::from(nodes)) as u32, 0, seq), 0);
    }
    let start = now();
    for seq in pending..pending + events {
        let Some((key, value)) = wheel.pop() else { break };
        let count = &mut counts[key.to as usize];
        *count += 1;
        let value: u64 = value ^ *count;
        wheel.push(event(key.to, key.at.as_nanos(), seq), value);
    }
    let wall = elapsed(start);
    black_box(counts);
    EngineCost {
        nodes: u64::from(nodes),
        pending,
        events,
        wall_ns: u64::try_from(wall.as_nanos()).unwrap_or(u64::MAX),
        events_per_s: events as f64 / wall.as_secs_f64().max(1e-9),
    }
}

fn time<Q>(
    pending: u64,
    rounds: u64,
    queue: &mut Q,
    push: impl Fn(&mut Q, EventKey, u64),
    pop: impl Fn(&mut Q) -> Option<(EventKey, u64)>,
) -> f64 {
    let mut random = Random(pending);
    let mut event = |now: u64, seq: u64| {
        let at = Time::from_nanos(now + random.below(AHEAD));
        EventKey { at, to: seq as u32 & 1023, kind: 1, from: 0, seq }
    };
    for seq in 0..pending {
        push(queue, event(0, seq), seq);
    }
    let mut round = |seq: u64| {
        if let Some((key, value)) = pop(queue) {
            push(queue, event(key.at.as_nanos(), seq), black_box(value));
        }
    };
    (0..pending).for_each(&mut round);
    let start = now();
    (0..rounds).for_each(&mut round);
    elapsed(start).as_nanos() as f64 / rounds.max(1) as f64
}

/// A generator that costs as little as can be, so that it is not what is measured (xorshift64*).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 |= u64::from(self.0 == 0);
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let value = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d);
        ((u128::from(value) * u128::from(bound)) >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_are_measured_and_finite() {
        let cost = queue_cost(1_000, 1_000);
        assert_eq!((cost.pending, cost.rounds), (1_000, 1_000));
        assert!(cost.ns_per_pop_push > 0.0 && cost.heap_ns_per_pop_push > 0.0 && cost.bytes_per_event >= 40.0);
        let cost = engine_cost(100, 10_000);
        assert_eq!((cost.nodes, cost.pending, cost.events), (100, 1_000, 10_000));
        assert!(cost.events_per_s.is_finite() && cost.events_per_s > 0.0);
    }

    /// Not a test: `cargo nextest run -p peerwork-sim --release --run-ignored only --no-capture costs_of`.
    #[test]
    #[ignore = "prints measurements"]
    fn costs_of_this_machine() {
        for cost in queue_costs() {
            println!("{cost:?}");
        }
        println!("{:?}", engine_cost(100_000, 5_000_000));
    }
}
