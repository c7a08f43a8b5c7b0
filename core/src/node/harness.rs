//! One machine alone: with a [`Cx`] whose sinks nobody drains but the caller.

use std::collections::VecDeque;

use super::{
    cx::{Cx, Local, Machine, MachineTimers, NetSink, Signal, Token},
    timer::Timer,
};
use crate::{
    entropy::Rng,
    event::Event,
    hash::{Map, NodeHasher},
    identity::Keypair,
    io::Output,
    probe::Probes,
    protocol::MachineId,
    time::{Time, UnixTime},
    timers::{TimerId, Timers},
    transport::net::{Action, NetEvent},
};

/// Runs one machine without a node, for tests, fuzzing, and embedding a single protocol.
///
/// Every call returns its [`Effects`]. Time is the caller's; timers fire in [`advance`](Self::advance).
pub struct Harness<M> {
    /// The machine.
    pub machine: M,
    /// What the machine takes for the node. Change it, then signal [`Signal::LocalChanged`].
    pub local: Local,
    now: Time,
    wall: UnixTime,
    rng: Rng,
    timers: Timers<Timer>,
    ids: Map<(MachineId, Token), TimerId>,
    next_stream: u64,
    actions: VecDeque<Action>,
    outputs: VecDeque<Output>,
    signals: VecDeque<Signal>,
    probes: Probes,
}

/// What a machine did in one call, each kind in order.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Effects {
    /// What it wants done with streams.
    pub actions: Vec<Action>,
    /// What it told the application.
    pub events: Vec<Event>,
    /// What it told its siblings.
    pub signals: Vec<Signal>,
}

impl Effects {
    /// Whether nothing happened.
    pub fn is_empty(&self) -> bool {
        self.actions.is_empty() && self.events.is_empty() && self.signals.is_empty()
    }
}

impl<M: Machine> Harness<M> {
    /// A machine with randomness from `seed`, at time zero. `make` gets the keyed hasher's stand-in by way of
    /// [`MachineSeed`].
    pub fn new(seed: u64, make: impl FnOnce(MachineSeed) -> M) -> Self {
        let mut rng = Rng::from_seed(seed);
        let keypair = Keypair::from_seed(rng.array());
        let hasher = NodeHasher::new(&mut rng);
        Self {
            machine: make(MachineSeed(hasher)),
            local: Local {
                peer_id: keypair.peer_id(),
                keypair,
                agent_version: "harness".into(),
                protocol_version: "harness".into(),
                listen_addrs: Vec::new(),
                protocols: Vec::new(),
            },
            now: Time::ZERO,
            wall: UnixTime::from_secs(1_700_000_000),
            rng,
            timers: Timers::default(),
            ids: Map::with_hasher(hasher),
            next_stream: 0,
            actions: VecDeque::new(),
            outputs: VecDeque::new(),
            signals: VecDeque::new(),
            probes: Probes::default(),
        }
    }

    /// The machine's time.
    pub fn now(&self) -> Time {
        self.now
    }

    /// How often the machine came by its [`Probe`](crate::Probe)s.
    pub fn probes(&self) -> &Probes {
        &self.probes
    }

    /// When the machine's next timer is due.
    pub fn deadline(&self) -> Option<Time> {
        self.timers.peek().map(|(at, _)| at)
    }

    /// Something happened on the network.
    pub fn net(&mut self, event: NetEvent) -> Effects {
        self.call(|machine, cx| machine.on_net(cx, event)).1
    }

    /// A sibling found something out.
    pub fn signal(&mut self, signal: &Signal) -> Effects {
        self.call(|machine, cx| machine.on_signal(cx, signal)).1
    }

    /// Any call into the machine, with its context.
    pub fn call<R>(&mut self, run: impl FnOnce(&mut M, &mut Cx<'_>) -> R) -> (R, Effects) {
        let mut cx = Cx {
            now: self.now,
            wall: self.wall + self.now.since(Time::ZERO),
            rng: &mut self.rng,
            timers: MachineTimers { machine: M::ID, timers: &mut self.timers, ids: &mut self.ids },
            net: NetSink { actions: &mut self.actions, next_stream: &mut self.next_stream },
            local: &self.local,
            outputs: &mut self.outputs,
            signals: &mut self.signals,
            probes: &mut self.probes,
            bugs: crate::bug::Bugs::default(),
        };
        let result = run(&mut self.machine, &mut cx);
        let event = |output| match output {
            Output::Event(event) => Some(event),
            Output::Command(_) => None,
        };
        let effects = Effects {
            actions: self.actions.drain(..).collect(),
            events: self.outputs.drain(..).filter_map(event).collect(),
            signals: self.signals.drain(..).collect(),
        };
        (result, effects)
    }

    /// Moves time forward, firing timers at the moment that each is due. Returns what they did, with the times.
    pub fn advance(&mut self, to: Time) -> Vec<(Time, Effects)> {
        let mut fired = Vec::new();
        while let Some((at, timer)) = self.timers.pop_due(to) {
            self.now = self.now.max(at);
            if let Timer::Machine(machine, token) = timer {
                self.ids.remove(&(machine, token));
                fired.push((self.now, self.call(|machine, cx| machine.on_timer(cx, token)).1));
            }
        }
        self.now = self.now.max(to);
        fired
    }
}

/// What a machine is made with besides its configuration: the key of its hash maps.
#[derive(Clone, Copy)]
pub struct MachineSeed(pub(crate) NodeHasher);
