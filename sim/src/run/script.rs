//! Application scripts: code of a scenario's own that runs beside the standard agent of a node.

use std::time::Duration;

use peerwork::{Event, Node, Time};

use crate::{
    outcome::{Outcome, Violation},
    world::{HostId, World},
};

/// An application of one node. It sees all events, also those of the standard agent's work; what it does not know it leaves alone.
pub trait Script {
    /// The node has started, at first or again.
    fn on_start(&mut self, cx: &mut ScriptCx<'_>) {
        let _ = cx;
    }

    /// The node tells something.
    fn on_event(&mut self, cx: &mut ScriptCx<'_>, event: &Event);

    /// The plan calls (`do = "call"`).
    fn on_call(&mut self, cx: &mut ScriptCx<'_>, text: &str) {
        let _ = (cx, text);
    }
}

/// Makes the script of a node: given its group and its index there.
pub type Scripts<'a> = &'a (dyn Fn(&str, u32) -> Option<Box<dyn Script>> + Sync);

/// What a script can reach.
pub struct ScriptCx<'a> {
    world: &'a mut World,
    host: HostId,
    outcome: &'a mut Outcome,
}

impl<'a> ScriptCx<'a> {
    pub(super) fn new(world: &'a mut World, host: HostId, outcome: &'a mut Outcome) -> Self {
        Self { world, host, outcome }
    }

    /// Now.
    pub fn now(&self) -> Time {
        self.world.now()
    }

    /// The node's name, `group/index`.
    pub fn name(&self) -> &str {
        self.world.name(self.host)
    }

    /// Calls into the node, if it is up.
    pub fn call<R>(&mut self, run: impl FnOnce(&mut Node, Time) -> R) -> Option<R> {
        self.world.runs(self.host).then(|| self.world.call(self.host, run))
    }

    /// The host's disk.
    pub fn disk(&mut self) -> &mut crate::world::Disk {
        self.world.disk(self.host)
    }

    /// Adds one to a counter of the outcome.
    pub fn count(&mut self, name: &str) {
        *self.outcome.counters.entry(name.to_owned()).or_default() += 1;
    }

    /// Adds a time to a distribution of the outcome.
    pub fn record(&mut self, name: &str, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.outcome.histograms.entry(name.to_owned()).or_default().add(micros);
    }

    /// Says that a rule was broken.
    pub fn broken(&mut self, invariant: &str, detail: impl Into<String>) {
        let node = self.name().to_owned();
        let role = node.split('/').next().unwrap_or_default().to_owned();
        let at_ns = self.now().as_nanos();
        let detail = detail.into();
        self.outcome.violations.push(Violation { invariant: invariant.into(), at_ns, node, role, detail });
    }
}
