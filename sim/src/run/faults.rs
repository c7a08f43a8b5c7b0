//! Carrying out operations: comings and goings, faults, and their ends.

use std::collections::BTreeSet;

use peerwork::{
    Input, Time,
    io::{IoError, IoErrorKind},
    limits::SHUTDOWN_TIMEOUT,
};

use super::{
    Run, ScriptCx,
    watch::{Due, SLACK},
};
use crate::{
    net::{region::Regions, weather::Area},
    plan::{Act, NodeId, Op, Side},
    world::HostId,
};

/// The end of something that lasts.
pub(super) enum Undo {
    Trouble(u64),
    Conduct(NodeId),
    Unblock(NodeId),
    Arrive(NodeId),
}

impl Run<'_> {
    /// Carries out one operation.
    pub(super) fn apply(&mut self, op: &Op) {
        let now = self.world.now();
        match &op.act {
            Act::Join { node, dials } => self.start_node(*node, dials),
            Act::Leave { node } => self.leave(*node),
            Act::Crash { node } => self.crash(*node),
            Act::Do { deed, node, to, size } => self.run_errand(*node, *to, *deed, *size),
            Act::Call { node, text } => {
                let asleep = self.asleep(*node).is_some();
                if let (Some(host), Some(script)) = (self.hosts[*node as usize], self.scripts.get_mut(node))
                    && self.world.runs(host)
                    && !asleep
                {
                    let mut cx = ScriptCx::new(&mut self.world, host, &mut self.outcome);
                    script.on_call(&mut cx, text);
                }
            }
            Act::Trouble { from, to, one_way, trouble, lasting } => {
                let (from, to) = (self.area(from), self.area(to));
                let name = self.world.network_mut().weather().begin(from, to, !one_way, trouble.clone());
                self.undo_at(now + *lasting, Undo::Trouble(name));
            }
            Act::Rebind { node } => {
                let host = self.host(*node);
                // With nothing before it, nothing is forgotten.
                if !self.world.network().boxes(host.0).is_empty() {
                    self.world.rebind(host);
                }
            }
            Act::Reboot { node, new_address } => self.reboot(*node, *new_address),
            Act::Roam { node, lasting } => {
                let host = self.host(*node);
                if self.world.runs(host) && !lasting.is_zero() {
                    // No network at all for a while: it is nowhere.
                    let name = self.isolate(host);
                    self.undo_at(now + *lasting, Undo::Trouble(name));
                }
                self.undo_at(now + *lasting, Undo::Arrive(*node));
            }
            Act::Clock { node, seconds } => {
                let host = self.host(*node);
                if self.asleep(*node).is_some() {
                    return;
                }
                self.world.jump_clock(host, seconds.saturating_mul(1_000_000_000));
            }
            Act::Suspend { node, lasting } => {
                let host = self.host(*node);
                if self.world.runs(host) {
                    // Who is sent to sleep again meanwhile does not wake sooner.
                    let until = (now + *lasting).max(self.asleep(*node).unwrap_or(now));
                    self.world.suspend(host, until);
                    self.slept.insert(*node, until);
                }
            }
            Act::Block { node, lasting } => {
                let host = self.host(*node);
                if self.world.runs(host) && self.asleep(*node).is_none() {
                    for socket in self.world.sockets(host) {
                        self.world.input(host, Input::SocketBlocked { socket });
                    }
                    self.undo_at(now + *lasting, Undo::Unblock(*node));
                    // What it could not send counts from when it could.
                    self.blocked.insert(*node, now + *lasting);
                }
            }
            Act::LoseSocket { node } => self.lose_sockets(*node),
            Act::Turn { node, conduct, lasting } => {
                let host = self.host(*node);
                self.suspects.insert(*node);
                self.world.set_conduct(host, conduct.clone());
                self.undo_at(now + *lasting, Undo::Conduct(*node));
            }
        }
    }

    /// Until when a node sleeps, if it does. Nothing of it runs until then, its application included: a node must not be called.
    pub(super) fn asleep(&self, node: NodeId) -> Option<Time> {
        self.slept.get(&node).copied().filter(|until| *until > self.world.now())
    }

    fn undo_at(&mut self, at: Time, undo: Undo) {
        self.serial += 1;
        self.undo.insert((at, self.serial), undo);
    }

    /// Ends what has lasted until now.
    pub(super) fn undo_due(&mut self, now: Time) {
        while let Some(entry) = self.undo.first_entry().filter(|entry| entry.key().0 <= now) {
            let undo = entry.remove();
            self.end_of(undo);
        }
    }

    /// Ends everything that lasts.
    pub(super) fn undo_all(&mut self) {
        while let Some((_, undo)) = self.undo.pop_first() {
            self.end_of(undo);
        }
        self.world.network_mut().weather().clear();
    }

    fn end_of(&mut self, undo: Undo) {
        match undo {
            Undo::Trouble(name) => self.world.network_mut().weather().end(name),
            Undo::Conduct(node) => {
                let host = self.host(node);
                let group = &self.scenario.groups[self.roster.place(node).0];
                self.world.set_conduct(host, group.conduct.clone());
            }
            Undo::Unblock(node) => {
                if let Some(until) = self.asleep(node).filter(|_| !self.settling) {
                    return self.undo_at(until, Undo::Unblock(node));
                }
                let host = self.host(node);
                if self.world.runs(host) {
                    for socket in self.world.sockets(host) {
                        self.world.input(host, Input::SocketReady { socket });
                    }
                }
            }
            Undo::Arrive(node) => {
                if let Some(until) = self.asleep(node).filter(|_| !self.settling) {
                    return self.undo_at(until, Undo::Arrive(node));
                }
                let host = self.host(node);
                let moves = self.moves.entry(node).or_default();
                *moves += 1;
                let label = u64::from(node) + (*moves << 32);
                let moves = *moves;
                let place = self.draw_place(node, moves);
                self.world.relocate(host, label, &place).expect("models are checked before a run");
            }
        }
    }

    fn isolate(&mut self, host: HostId) -> u64 {
        let site = self.world.network().site(host.0);
        let here = Area::Sites(BTreeSet::from([site]));
        let trouble = crate::net::weather::Trouble { blocked: true, ..Default::default() };
        self.world.network_mut().weather().begin(here, Area::Everywhere, true, trouble)
    }

    fn area(&mut self, side: &Side) -> Area {
        match side {
            Side::All => Area::Everywhere,
            Side::Regions(names) => {
                Area::Regions(names.iter().filter_map(|name| Regions::named(name).ok()).flatten().collect())
            }
            Side::Nodes(nodes) => {
                let hosts: Vec<HostId> = nodes.iter().map(|node| self.host(*node)).collect();
                Area::Sites(hosts.into_iter().map(|host| self.world.network().site(host.0)).collect())
            }
        }
    }

    fn reboot(&mut self, node: NodeId, new_address: bool) {
        let host = self.host(node);
        let now = self.world.now();
        for id in self.world.network().boxes(host.0) {
            let external = new_address.then(|| vec![self.world.fresh_address(u64::from(node) + (1 << 33))]);
            // Only the outermost has an address of the internet's, and only if it translates is it its own.
            let network = self.world.network();
            let translates = network.nat(id).model().behaviour().is_some_and(|behaviour| behaviour.translates);
            let outermost = network.is_outermost(id) && translates;
            if new_address {
                self.readdressed.insert(node);
            }
            self.world.network_mut().reboot(id, now, external.filter(|_| outermost));
        }
    }

    fn lose_sockets(&mut self, node: NodeId) {
        let host = self.host(node);
        let leaving = self.agents[node as usize].as_ref().is_none_or(|agent| agent.leaving);
        if !self.world.runs(host) || leaving || self.asleep(node).is_some() {
            return;
        }
        for socket in self.world.sockets(host) {
            self.world.lose_socket(host, socket);
            let error = IoError::new(IoErrorKind::Other, "the interface is gone");
            self.world.input(host, Input::SocketFailed { socket, error });
        }
        self.world.listen_everywhere(host, 4001);
    }

    fn leave(&mut self, node: NodeId) {
        let Some(host) = self.hosts[node as usize].filter(|host| self.world.runs(*host)) else { return };
        if self.asleep(node).is_none()
            && let Some(agent) = &mut self.agents[node as usize]
            && !agent.leaving
        {
            agent.leaving = true;
            let end = self.world.now() + SHUTDOWN_TIMEOUT + SLACK;
            self.due.insert((end, node, Due::ShutDown));
            self.busy = Some(node);
            self.world.call(host, |node, now| node.shutdown(now));
        }
    }

    /// A node that was shut down has nothing left to do.
    pub(super) fn shut_down(&mut self, node: NodeId, host: HostId) {
        if !self.agents[node as usize].as_ref().is_some_and(|agent| agent.leaving) {
            self.broken("lifecycle.shut-down", Some(node), "without being asked to".into());
        }
        self.gone(node, host);
    }

    pub(super) fn crash(&mut self, node: NodeId) {
        let Some(host) = self.hosts[node as usize].filter(|host| self.world.runs(*host)) else { return };
        self.gone(node, host);
        self.expect_ends(node);
    }

    fn gone(&mut self, node: NodeId, host: HostId) {
        self.gather_probes(host);
        self.world.crash(host);
        self.agents[node as usize] = None;
        self.slept.remove(&node);
        self.scripts.remove(&node);
        self.due.retain(|(_, other, _)| *other != node);
        self.up = self.up.saturating_sub(1);
    }
}
