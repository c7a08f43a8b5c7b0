//! Whole networks: how fast virtual time passes in them, and what their nodes and connections take.

use std::time::Duration;

use peerwork::{Dial, Time};
use serde::{Deserialize, Serialize};

use super::{elapsed, now};
use crate::{
    World,
    run::{RunOptions, run_seed},
    scenario::Scenario,
    tier::Tier,
};

/// Virtual time in which all nodes join.
const JOINING: Duration = Duration::from_secs(30);

/// Virtual time after that for the last handshakes.
const SETTLING_IN: Duration = Duration::from_secs(5);

/// Nodes of a quarter: some that the others dial, and those others.
const QUARTER: (u32, u32) = (3, 47);

/// Connections that each node dials.
const DEGREE: u32 = 3;

/// Virtual time from one request of a node to its next.
const ASK_EVERY: Duration = Duration::from_secs(10);

/// What a network of idle or nearly idle nodes costs. See [`network`].
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct NetworkCost {
    /// What is real.
    pub tier: Tier,
    /// Nodes.
    pub nodes: u32,
    /// Connections at the end. Each has two ends.
    pub connections: u64,
    /// Requests that were answered.
    pub requests: u64,
    /// Virtual seconds in which nodes joined.
    pub joining_virtual_s: f64,
    /// Wall-clock seconds of these.
    pub joining_wall_s: f64,
    /// Virtual seconds after that.
    pub virtual_s: f64,
    /// Wall-clock seconds of these.
    pub wall_s: f64,
    /// Virtual seconds in a wall-clock second, after joining.
    pub factor: f64,
    /// Events of the engine, joining included.
    pub events: u64,
    /// Events of the engine in a wall-clock second, joining included.
    pub events_per_s: f64,
    /// Packets that were delivered, joining included.
    pub packets: u64,
    /// Wall-clock nanoseconds for one connection, both ends, in one virtual second after joining.
    pub ns_per_connection_second: f64,
    /// By how much resident memory grew to its peak, in bytes, where the system tells (Linux). Memory that the process had freed
    /// before and used again is not seen.
    pub peak_growth: Option<u64>,
    /// That, for each node with its connections.
    pub bytes_per_node: Option<f64>,
    /// Hash over all that nodes put out. Follows from tier, nodes and time alone.
    pub digest: String,
}

/// What nodes and connections take when nothing happens. See [`memory`].
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct MemoryCost {
    /// What is real.
    pub tier: Tier,
    /// Nodes that were measured.
    pub nodes: u32,
    /// Connections that were measured.
    pub connections: u64,
    /// Resident bytes of a node that listens.
    pub bytes_per_node: f64,
    /// Resident bytes of an idle connection, both ends together.
    pub bytes_per_connection: f64,
}

/// What a network costs in which every node has dialled three and asks one of these for 100 bytes every 10 s.
///
/// Nodes are spread over the world's regions with ideal access links, in quarters of 3 that are dialled by 47; keep-alives and
/// pings are the defaults. They join within 30 s; `virtual_time` passes after that. The seed is 1.
pub fn network(tier: Tier, nodes: u32, virtual_time: Duration) -> NetworkCost {
    measure(&scenario(tier, nodes, virtual_time, true))
}

/// The same network when nobody asks: what is left is keep-alives and pings.
pub fn idle_network(tier: Tier, nodes: u32, virtual_time: Duration) -> NetworkCost {
    measure(&scenario(tier, nodes, virtual_time, false))
}

fn scenario(tier: Tier, nodes: u32, virtual_time: Duration, asks: bool) -> Scenario {
    // Some of the last second is lost to the grid of samples.
    let mut scenario = Scenario::new("bench", JOINING + SETTLING_IN + virtual_time + Duration::from_secs(1));
    scenario.tier(tier).world().settling(Duration::ZERO);
    let (hubs, others) = QUARTER;
    let (mut left, mut quarter) = (nodes.max(hubs + 1), 0);
    while left > 0 {
        // A rest too small to be a quarter joins the last one.
        let size = if left < 2 * (hubs + others) { left } else { hubs + others };
        left -= size;
        let (hub, node) = (format!("hub{quarter}"), format!("n{quarter}"));
        scenario.group(&hub, hubs);
        scenario.group(&node, size - hubs).bootstrap(&hub).degree(DEGREE).join_over(JOINING);
        if asks {
            let every = ASK_EVERY / (size - hubs);
            scenario.every(every).ask(&node, &hub).size(100).from(JOINING);
        }
        quarter += 1;
    }
    scenario
}

fn measure(scenario: &Scenario) -> NetworkCost {
    let nodes = scenario.groups.iter().map(|group| group.count).sum();
    let (joined, end) = (Time::ZERO + JOINING + SETTLING_IN, Time::ZERO + scenario.duration);
    let before = Resident::afresh();
    let start = now();
    let mut marks: Option<[(Time, Duration); 2]> = None;
    let mut progress = |at: Time| {
        if at >= joined && at < end {
            let mark = (at, elapsed(start));
            marks = Some([marks.map_or(mark, |[first, _]| first), mark]);
        }
        // What comes after that, partings of all from all, is not measured.
        at + Duration::from_secs(1) < end
    };
    let options = RunOptions { fast: true, progress: Some(&mut progress), ..RunOptions::default() };
    let finished = run_seed(scenario, 1, options).expect("a valid scenario");
    let whole = elapsed(start);
    let peak = Resident::now().zip(before).map(|(after, before)| after.peak.saturating_sub(before.now));
    let outcome = finished.outcome;
    assert!(outcome.violations.is_empty(), "a benchmark broke a rule: {:?}", outcome.violations.first());
    let [(first, joining), (last, wall)] = marks.unwrap_or([(Time::ZERO, Duration::ZERO); 2]);
    let (virtual_s, wall_s) = (last.since(first).as_secs_f64(), (wall - joining).as_secs_f64());
    let connections = outcome.series.get("connections").and_then(|curve| curve.last()).map_or(0.0, |point| point.1);
    NetworkCost {
        tier: scenario.tier,
        nodes,
        connections: connections as u64,
        requests: outcome.counters.get("ask.ok").copied().unwrap_or(0),
        joining_virtual_s: first.since(Time::ZERO).as_secs_f64(),
        joining_wall_s: joining.as_secs_f64(),
        virtual_s,
        wall_s,
        factor: virtual_s / wall_s.max(1e-9),
        events: outcome.cost.events,
        events_per_s: outcome.cost.events as f64 / whole.as_secs_f64().max(1e-9),
        packets: outcome.packets.delivered,
        ns_per_connection_second: wall_s * 1e9 / (connections * virtual_s).max(1.0),
        peak_growth: peak,
        bytes_per_node: peak.map(|bytes| bytes as f64 / f64::from(nodes)),
        digest: outcome.digest,
    }
}

/// Resident bytes of an idle node and of an idle connection, from the growth over `nodes` nodes in one world; `None` where the system
/// does not tell. Memory that the process had freed before and uses again is not seen: call it early.
pub fn memory(tier: Tier, nodes: u32) -> Option<MemoryCost> {
    let nodes = nodes.max(8);
    let config = tier.config();
    let mut world = World::new(1);
    world.pass_events_on();
    world.ignore_amplification();
    let mut news = Vec::new();
    // What is made once, and the first growth of tables, comes with a quarter as many that are not counted.
    let add = |world: &mut World, count: u32| -> Vec<_> {
        let hosts = (0..count).map(|_| world.add_with(config.clone()));
        let hosts: Vec<_> = hosts.collect();
        let addresses = hosts.into_iter().map(|host| (host, world.listen(host))).collect();
        world.run_for(Duration::from_secs(1));
        addresses
    };
    let mut connect = |world: &mut World, hosts: &[(crate::HostId, peerwork::Multiaddr)]| {
        for (n, (host, _)) in hosts.iter().enumerate() {
            for ahead in 1..=DEGREE as usize {
                let to = hosts[(n + ahead) % hosts.len()].1.clone();
                world.call(*host, |node, now| node.dial(now, Dial::address(to)).ok());
            }
            world.run_for(Duration::from_millis(10));
            world.take_news(&mut news);
            news.clear();
        }
        world.run_for(Duration::from_secs(60));
        news.clear();
    };
    let first = add(&mut world, nodes / 4);
    connect(&mut world, &first);
    let bare = Resident::now()?;
    let hosts = add(&mut world, nodes);
    let listening = Resident::now()?;
    connect(&mut world, &hosts);
    let connected = Resident::now()?;
    let connections = u64::from(nodes) * u64::from(DEGREE);
    let growth = |from: Resident, to: Resident| to.now.saturating_sub(from.now) as f64;
    Some(MemoryCost {
        tier,
        nodes,
        connections,
        bytes_per_node: growth(bare, listening) / f64::from(nodes),
        bytes_per_connection: growth(listening, connected) / connections as f64,
    })
}

/// Resident memory of this process, in bytes.
#[derive(Clone, Copy)]
struct Resident {
    now: u64,
    peak: u64,
}

impl Resident {
    /// Now, with a peak that counts from now on where the system allows that.
    fn afresh() -> Option<Self> {
        let _ = std::fs::write("/proc/self/clear_refs", "5");
        Self::now()
    }

    fn now() -> Option<Self> {
        let status = std::fs::read_to_string("/proc/self/status").ok()?;
        let field = |name: &str| -> Option<u64> {
            let value = status.lines().find_map(|line| line.strip_prefix(name))?;
            Some(value.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
        };
        Some(Self { now: field("VmRSS:")?, peak: field("VmHWM:")? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_measured_with_all_its_connections_and_the_same_digest_each_time() {
        let [one, other] = [(); 2].map(|()| network(Tier::Null, 60, Duration::from_secs(20)));
        assert_eq!((one.nodes, one.connections), (60, 57 * 3));
        assert!(one.requests > 60 && one.virtual_s > 15.0 && one.factor > 0.0, "{one:?}");
        assert_eq!((&one.digest, one.events, one.packets), (&other.digest, other.events, other.packets));
        let idle = idle_network(Tier::Null, 60, Duration::from_secs(20));
        assert!(idle.requests == 0 && idle.connections == one.connections && idle.packets < one.packets, "{idle:?}");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn memory_of_nodes_and_connections_is_told_apart() {
        let cost = memory(Tier::Null, 64).unwrap();
        assert_eq!((cost.nodes, cost.connections), (64, 192));
        assert!(cost.bytes_per_connection > 0.0, "{cost:?}");
    }
}
