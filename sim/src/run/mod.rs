//! Runs: a plan carried out on a world, watched, and measured.
//!
//! The [runner](run) starts nodes, lets them do what the plan says, strikes with its faults, and keeps the books. Each node has an
//! agent, an application that does its share of the work and checks each answer. When the scenario's duration is over
//! all faults end and nothing comes or goes any more; every honest node must then reach another within the settling time (safety
//! first, then liveness). At last everything disconnects, and what nodes still hold then is a leak.

mod agent;
mod exam;
mod faults;
mod panics;
mod script;
mod watch;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use hashbrown::HashMap;
use peerwork::{Config, Event, Keypair, PeerId, Time};

pub use self::script::{Script, ScriptCx, Scripts};
use self::{agent::Agent, faults::Undo, watch::Due};
use crate::{
    dice::{Dice, Domain},
    net::{
        link::Drops,
        network::BoxId,
        region::{Region, RegionMix, Regions},
    },
    outcome::{Band, Outcome, Violation},
    plan::{Act, NodeId, Op, Plan, Planner, Roster, time},
    scenario::{Scenario, Spread},
    trace::{Tap, What},
    world::{Handling, HostId, Place, World},
};

/// How to run.
#[derive(Default)]
pub struct RunOptions<'a> {
    /// Decisions come from these bytes instead of the seed.
    pub tape: Option<Vec<u8>>,
    /// Which packets are lost, instead of those that the dice say.
    pub drops: Option<Drops>,
    /// Is shown everything.
    pub tap: Option<Box<dyn Tap>>,
    /// Keep the digests of all nodes at these times.
    pub trail: Option<TrailSpec>,
    /// Application scripts of nodes.
    pub scripts: Option<Scripts<'a>>,
    /// Is told the virtual time now and then. `false` ends the run early.
    pub progress: Option<&'a mut dyn FnMut(Time) -> bool>,
    /// End at the first broken rule.
    pub stop_at_violation: bool,
    /// Leave out the watch on bytes towards addresses not validated, which costs memory in large runs.
    pub fast: bool,
}

/// When to keep digests: at all multiples of `every` from `from` to `to`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TrailSpec {
    /// From one to the next.
    pub every: Duration,
    /// The first, at the earliest.
    pub from: Time,
    /// The last, at the latest.
    pub to: Time,
}

/// Digests of all nodes, step by step.
#[derive(Clone, Default, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub struct Trail {
    /// Virtual nanoseconds at the first step.
    pub first_ns: u64,
    /// Virtual nanoseconds from one step to the next.
    pub every_ns: u64,
    /// At each step, each node's digest (0 before it first starts). The last step is the end of the run, if that came first.
    pub steps: Vec<Vec<u64>>,
}

impl Trail {
    fn new(spec: Option<TrailSpec>) -> Self {
        let Some(spec) = spec else { return Self::default() };
        let every_ns = u64::try_from(spec.every.as_nanos()).unwrap_or(u64::MAX).max(1);
        let first_ns = spec.from.as_nanos().div_ceil(every_ns).max(1).saturating_mul(every_ns);
        Self { first_ns, every_ns, steps: Vec::new() }
    }
}

/// What a run leaves.
pub struct Finished {
    /// Verdict and figures.
    pub outcome: Outcome,
    /// Digests over time, if asked for.
    pub trail: Trail,
    /// The packets that chance lost, to lose the same again.
    pub lost: BTreeSet<crate::net::link::PacketKey>,
    /// The tap, if there was one.
    pub tap: Option<Box<dyn Tap>>,
}

/// Draws the plan of a scenario for a seed.
pub fn plan(scenario: &Scenario, seed: u64) -> Result<Plan, String> {
    plan_with(scenario, || Dice::from_seed(seed))
}

fn plan_with(scenario: &Scenario, dice: impl Fn() -> Dice) -> Result<Plan, String> {
    scenario.validate()?;
    let roster = Roster::new(scenario);
    let regions: Vec<Option<Region>> = {
        let mut dice = dice();
        let mix = RegionMix::peers();
        (0..roster.len()).map(|node| region(scenario, &mix, &roster, &mut dice, node)).collect()
    };
    let region_of = |node: NodeId| regions.get(node as usize).copied().flatten();
    Planner::new(scenario, &region_of, dice()).plan()
}

/// Where a node is.
fn region(scenario: &Scenario, world: &RegionMix, roster: &Roster, dice: &mut Dice, node: NodeId) -> Option<Region> {
    let group = &scenario.groups[roster.place(node).0];
    let among = |names: &[String], dice: &mut Dice| {
        let all: Vec<Region> = names.iter().filter_map(|name| Regions::named(name).ok()).flatten().collect();
        let at = dice.below(Domain::Node, u64::from(node), 1, 0, all.len() as u64);
        all.get(usize::try_from(at).unwrap_or(0)).copied()
    };
    match (&group.region, &scenario.regions) {
        (Some(name), _) => among(core::slice::from_ref(name), dice),
        (None, Spread::Regions(names)) => among(names, dice),
        (None, Spread::World) => world.pick(dice, u64::from(node)),
        (None, Spread::Nowhere) => None,
    }
}

/// Draws the plan of a scenario for a seed and carries it out.
pub fn run_seed<'a>(scenario: &'a Scenario, seed: u64, options: RunOptions<'a>) -> Result<Finished, String> {
    let tape = options.tape.clone();
    let plan = plan_with(scenario, || tape.clone().map_or_else(|| Dice::from_seed(seed), Dice::from_bytes))?;
    run(scenario, &plan, seed, options)
}

/// Carries out a plan.
pub fn run<'a>(scenario: &'a Scenario, plan: &Plan, seed: u64, options: RunOptions<'a>) -> Result<Finished, String> {
    scenario.validate()?;
    let mut run = Run::new(scenario, seed, options);
    let guarded = panics::guard(|| run.carry_out(plan));
    if let Err(panic) = guarded {
        let violation = Violation {
            invariant: format!("panic at {}", panic.place),
            at_ns: run.world.now().as_nanos(),
            node: run.busy.map(|node| run.roster.name(node)).unwrap_or_default(),
            role: run.busy.map(|node| run.role(node)).unwrap_or_default(),
            detail: panic.message,
        };
        run.outcome.violations.push(violation);
    }
    Ok(run.finish())
}

struct Run<'a> {
    scenario: &'a Scenario,
    options: RunOptions<'a>,
    roster: Roster,
    world: World,
    /// Where peers are in the world.
    mix: RegionMix,
    /// Host of each node that has a place.
    hosts: Vec<Option<HostId>>,
    node_of: Vec<NodeId>,
    agents: Vec<Option<Agent>>,
    scripts: BTreeMap<NodeId, Box<dyn Script>>,
    peers: HashMap<PeerId, NodeId, core::hash::BuildHasherDefault<siphasher::sip::SipHasher13>>,
    keys: Vec<Option<Keypair>>,
    carriers: BTreeMap<(usize, u32), BoxId>,
    /// Nodes that misbehave at some time: what others say of them is not held against anybody.
    suspects: BTreeSet<NodeId>,
    /// Nodes whose boxes have had other addresses.
    readdressed: BTreeSet<NodeId>,
    /// How often each node has moved.
    moves: BTreeMap<NodeId, u64>,
    /// Nodes that slept, and when they last woke.
    slept: BTreeMap<NodeId, Time>,
    /// Nodes that could not send, and when that ended.
    blocked: BTreeMap<NodeId, Time>,
    undo: BTreeMap<(Time, u64), Undo>,
    due: BTreeSet<(Time, NodeId, Due)>,
    exams: BTreeMap<NodeId, exam::Exam>,
    /// No more faults, comings or goings.
    settling: bool,
    /// The node whose application is at work, to name in a panic.
    busy: Option<NodeId>,
    outcome: Outcome,
    trail: Trail,
    sample_every: Duration,
    last_packets: (u64, u64),
    serial: u64,
    up: u64,
}

impl<'a> Run<'a> {
    fn new(scenario: &'a Scenario, seed: u64, mut options: RunOptions<'a>) -> Self {
        let dice = options.tape.clone().map_or_else(|| Dice::from_seed(seed), Dice::from_bytes);
        let mut world = World::with_dice(dice);
        world.collect_violations();
        world.pass_events_on();
        world.set_handling(Handling { random_drains: scenario.random_drains, spurious_wakes: scenario.spurious_wakes });
        if let Some(tap) = options.tap.take() {
            world.set_tap(tap);
        }
        if options.fast {
            world.ignore_amplification();
        }
        if let Some(drops) = options.drops.take() {
            world.network_mut().set_drops(drops);
        }
        if scenario.regions != Spread::Nowhere || scenario.groups.iter().any(|group| group.region.is_some()) {
            world.network_mut().set_regions(Regions::new());
        }
        let roster = Roster::new(scenario);
        let count = roster.len() as usize;
        let suspects = scenario
            .groups
            .iter()
            .filter(|group| !group.conduct.is_honest())
            .filter_map(|group| roster.group(&group.name))
            .flatten()
            .collect();
        let whole = scenario.duration + scenario.settle;
        let outcome = Outcome {
            scenario: scenario.name.clone(),
            seed,
            tier: scenario.tier.to_string(),
            repeat: format!("peerwork sim run {} --seed {seed}", scenario.name),
            ..Outcome::default()
        };
        Self {
            scenario,
            roster,
            world,
            mix: RegionMix::peers(),
            hosts: vec![None; count],
            node_of: Vec::new(),
            agents: (0..count).map(|_| None).collect(),
            scripts: BTreeMap::new(),
            peers: HashMap::default(),
            keys: vec![None; count],
            carriers: BTreeMap::new(),
            suspects,
            readdressed: BTreeSet::new(),
            moves: BTreeMap::new(),
            slept: BTreeMap::new(),
            blocked: BTreeMap::new(),
            undo: BTreeMap::new(),
            due: BTreeSet::new(),
            exams: BTreeMap::new(),
            settling: false,
            busy: None,
            outcome,
            trail: Trail::new(options.trail),
            // At most 400 points a curve.
            sample_every: (whole / 400).max(Duration::from_secs(1)),
            last_packets: (0, 0),
            serial: 0,
            up: 0,
            options,
        }
    }

    fn carry_out(&mut self, plan: &Plan) {
        let end = self.scenario.duration;
        for op in &plan.ops {
            if op.at >= end {
                break;
            }
            if !self.pass_time(time(op.at)) {
                return;
            }
            self.note_band(op);
            self.apply(op);
            self.dispatch();
        }
        if self.pass_time(time(end)) {
            self.settle_down();
        }
    }

    /// Lets time pass to `end`, with all that is due on the way. `false` if the run is to end now.
    fn pass_time(&mut self, end: Time) -> bool {
        loop {
            let now = self.world.now();
            let sample = self.next_sample();
            let undo = self.undo.first_key_value().map_or(Time::MAX, |((at, _), _)| *at);
            let due = self.due.first().map_or(Time::MAX, |(at, ..)| *at);
            let exam = self.next_exam();
            let next = end.min(sample).min(undo).min(due).min(exam);
            while self.world.step(next) {
                self.dispatch();
                if self.stopped() {
                    return false;
                }
                // What has just happened may have put something nearer.
                if self.due.first().is_some_and(|(at, ..)| *at < next) {
                    break;
                }
            }
            let now = self.world.now().max(now);
            if now >= undo {
                self.undo_due(now);
            }
            self.check_due(now);
            if now >= exam {
                self.hold_exams(now);
            }
            if now >= sample && !self.sample(now) {
                return false;
            }
            self.dispatch();
            if self.stopped() {
                return false;
            }
            if now >= end {
                return true;
            }
        }
    }

    fn stopped(&self) -> bool {
        self.options.stop_at_violation && (!self.outcome.violations.is_empty() || !self.world.violations().is_empty())
    }

    /// Tells agents and scripts what their nodes have told, and on.
    fn dispatch(&mut self) {
        let mut news = Vec::new();
        loop {
            self.world.take_news(&mut news);
            if news.is_empty() {
                return;
            }
            for (host, event) in news.drain(..) {
                let node = self.node_of[host.index()];
                self.busy = Some(node);
                self.on_event(node, host, &event);
                if let Some(script) = self.scripts.get_mut(&node) {
                    let mut cx = ScriptCx::new(&mut self.world, host, &mut self.outcome);
                    script.on_event(&mut cx, &event);
                }
            }
        }
    }

    fn role(&self, node: NodeId) -> String {
        self.scenario.groups[self.roster.place(node).0].name.clone()
    }

    /// Notes a broken rule.
    fn broken(&mut self, invariant: &str, node: Option<NodeId>, detail: String) {
        if self.outcome.violations.len() >= 1000 {
            return;
        }
        let violation = Violation {
            invariant: invariant.into(),
            at_ns: self.world.now().as_nanos(),
            node: node.map(|node| self.roster.name(node)).unwrap_or_default(),
            role: node.map(|node| self.role(node)).unwrap_or_default(),
            detail,
        };
        self.outcome.violations.push(violation);
    }

    fn count(&mut self, name: &str) {
        self.add(name, 1);
    }

    fn add(&mut self, name: &str, value: u64) {
        match self.outcome.counters.get_mut(name) {
            Some(count) => *count += value,
            None => drop(self.outcome.counters.insert(name.to_owned(), value)),
        }
    }

    /// Adds a latency, in microseconds.
    fn record(&mut self, name: &str, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        match self.outcome.histograms.get_mut(name) {
            Some(histogram) => histogram.add(micros),
            None => {
                let mut histogram = crate::outcome::Histogram::default();
                histogram.add(micros);
                self.outcome.histograms.insert(name.to_owned(), histogram);
            }
        }
    }

    // --- Nodes ---

    /// A node's key, which is the same whenever it starts.
    fn key(&mut self, node: NodeId) -> Keypair {
        if let Some(key) = &self.keys[node as usize] {
            return key.clone();
        }
        let mut seed = [0; 32];
        for (n, chunk) in (0..).zip(seed.chunks_mut(8)) {
            chunk.copy_from_slice(&self.world.dice().draw(Domain::Entropy, u64::from(node), 1 << 32, n).to_le_bytes());
        }
        let key = Keypair::from_seed(seed);
        self.peers.insert(key.peer_id(), node);
        self.keys[node as usize] = Some(key.clone());
        key
    }

    /// A node's host; it gets its place when it is first spoken of.
    fn host(&mut self, node: NodeId) -> HostId {
        if let Some(host) = self.hosts[node as usize] {
            return host;
        }
        let place = self.draw_place(node, 0);
        let name = self.roster.name(node);
        let host = self.world.add_place(name, u64::from(node), &place).expect("models are checked before a run");
        self.hosts[node as usize] = Some(host);
        debug_assert_eq!(self.node_of.len(), host.index());
        self.node_of.push(node);
        let group = &self.scenario.groups[self.roster.place(node).0];
        if !group.conduct.is_honest() {
            self.world.set_conduct(host, group.conduct.clone());
        }
        host
    }

    /// Where a node stands; `move_` counts its moves.
    fn draw_place(&mut self, node: NodeId, move_: u64) -> Place {
        let (at, index) = self.roster.place(node);
        let group = &self.scenario.groups[at];
        let id = u64::from(node) + (move_ << 32);
        let region = region(self.scenario, &self.mix, &self.roster, self.world.dice(), node);
        let access = group.access.pick(self.world.dice(), id);
        let nat = group.nat.pick(self.world.dice(), id, 0);
        let carrier = group.carrier.as_ref().map(|carrier| {
            let key = (at, index / carrier.subscribers.max(1));
            *self.carriers.entry(key).or_insert_with(|| {
                let label = (1 << 48) + ((at as u64) << 32) + u64::from(key.1);
                let carrier = self.world.add_carrier(label, region, carrier.nat.clone(), carrier.addresses);
                carrier.expect("models are checked before a run")
            })
        });
        Place { region, access, nats: vec![nat], carrier }
    }

    fn config(&mut self, node: NodeId) -> Config {
        let group = &self.scenario.groups[self.roster.place(node).0];
        let mut config = Config::new(self.scenario.tier.platform());
        config.quic.address_discovery = false;
        crate::bugs::plant(&mut config, &self.scenario.bugs);
        group.settings.apply(&mut config);
        config.identity = Some(self.key(node));
        config
    }

    fn is_up(&self, node: NodeId) -> bool {
        self.agents[node as usize].is_some()
    }

    fn is_honest(&self, node: NodeId) -> bool {
        !self.suspects.contains(&node)
    }

    // --- Results ---

    fn note_band(&mut self, op: &Op) {
        if !op.is_fault() || self.outcome.bands.len() >= 500 {
            return;
        }
        let (kind, lasting) = match &op.act {
            Act::Trouble { trouble, lasting, .. } if trouble.blocked => ("partition", *lasting),
            Act::Trouble { lasting, .. } => ("trouble", *lasting),
            Act::Crash { .. } => ("crash", Duration::ZERO),
            Act::Rebind { .. } => ("rebind", Duration::ZERO),
            Act::Reboot { .. } => ("reboot", Duration::ZERO),
            Act::Roam { lasting, .. } => ("roam", *lasting),
            Act::Clock { .. } => ("clock", Duration::ZERO),
            Act::Suspend { lasting, .. } => ("suspend", *lasting),
            Act::Block { lasting, .. } => ("block", *lasting),
            Act::LoseSocket { .. } => ("lose-socket", Duration::ZERO),
            Act::Turn { lasting, .. } => ("byzantine", *lasting),
            Act::Join { .. } | Act::Leave { .. } | Act::Do { .. } | Act::Call { .. } => return,
        };
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let label = match &op.act {
            Act::Trouble { .. } => kind.to_owned(),
            _ => op.nodes().first().map_or_else(String::new, |node| format!("{kind} {}", self.roster.name(*node))),
        };
        self.world.tell(None, &What::Fault { name: kind, detail: &label });
        let (from_ms, to_ms) = (millis(op.at), millis(op.at + lasting));
        self.outcome.bands.push(Band { kind: kind.into(), label, from_ms, to_ms });
    }

    fn finish(mut self) -> Finished {
        if self.options.trail.is_some_and(|spec| self.world.now() < spec.to) {
            self.keep_trail();
        }
        let alive = self.world.alive();
        for host in alive {
            self.gather_probes(host);
        }
        let mut outcome = self.outcome;
        outcome.violations.extend(self.world.violations().iter().cloned());
        outcome.violations.sort_by_key(|violation| violation.at_ns);
        outcome.nodes = self.hosts.iter().flatten().count() as u64;
        outcome.virtual_ms = self.world.now().as_nanos() / 1_000_000;
        outcome.digest = self.world.digest();
        outcome.packets = self.world.packets().clone();
        outcome.cost.events = self.world.engine_events();
        let packets = &outcome.packets;
        let dropped: u64 = packets.dropped.values().sum();
        if packets.sent != packets.delivered + dropped + packets.in_flight {
            let detail = format!("{packets:?}");
            let at_ns = self.world.now().as_nanos();
            outcome.violations.push(Violation {
                invariant: "conservation".into(),
                at_ns,
                detail,
                ..Violation::default()
            });
        }
        outcome.claims = self.scenario.expects.iter().map(|expect| expect.judge(&outcome)).collect();
        let lost = self.world.network().lost().clone();
        Finished { outcome, trail: self.trail, lost, tap: self.world.take_tap() }
    }

    fn gather_probes(&mut self, host: HostId) {
        if !self.world.runs(host) {
            return;
        }
        for (probe, count) in self.world.node(host).probes().iter() {
            *self.outcome.probes.entry(probe.name().to_owned()).or_default() += count;
        }
    }

    fn on_event(&mut self, node: NodeId, host: HostId, event: &Event) {
        if self.agents[node as usize].is_some() {
            self.agent_event(node, host, event);
        }
    }
}
