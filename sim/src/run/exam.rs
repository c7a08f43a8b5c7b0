//! The end of a run: faults cease, and everything must come right.
//!
//! Every honest node that is up and has a network is examined: it has to get an answer from another honest node that can be reached. Failing once is no
//! shame, since connections that died under the faults take their idle timeout to be noticed; failing until the settling time is
//! over is. Then all connections are closed, and what nodes still hold after a while is a leak.

use std::time::Duration;

use peerwork::Time;

use super::{Run, agent::Errand};
use crate::{
    dice::Domain,
    plan::{NodeId, time},
    scenario::Deed,
};

/// A node's examination.
pub(super) struct Exam {
    to: NodeId,
    /// When to try, if no try is under way.
    next: Option<Time>,
    tries: u32,
}

/// Time within which a transfer must move, or its connection end: two pings that nobody answers, and some more.
const STANDSTILL: Duration = Duration::from_secs(60);

/// Honest nodes that examine; the work is shared among so many.
const EXAMINERS: usize = 256;

/// Time that closed connections and finished streams may linger: three probe timeouts and the negotiation's deadline.
const AFTERGLOW: Duration = Duration::from_secs(60);

impl Run<'_> {
    /// Ends all faults, examines, and looks for leaks.
    pub(super) fn settle_down(&mut self) {
        self.settling = true;
        let now = self.world.now();
        let up: Vec<_> = self.hosts.iter().flatten().copied().filter(|host| self.world.runs(*host)).collect();
        for host in &up {
            self.world.awaken(*host);
        }
        for until in self.slept.values_mut() {
            *until = now.min(*until);
        }
        self.undo_all();
        for host in up {
            self.world.set_conduct(host, crate::world::Conduct::default());
        }
        self.dispatch();
        if !self.scenario.settle.is_zero() {
            self.call_to_exam(now + self.scenario.settle / 10);
        }
        if !self.pass_time(time(self.scenario.duration + self.scenario.settle)) {
            return;
        }
        self.mark_exams();
        self.mark_transfers();
        self.part();
    }

    fn call_to_exam(&mut self, at: Time) {
        let up: Vec<NodeId> = (0..self.roster.len())
            .filter(|node| {
                self.is_honest(*node) && self.agents[*node as usize].as_ref().is_some_and(|agent| !agent.leaving)
            })
            .collect();
        // A place without UDP has no network, and what is there has nothing to pass.
        let connected = |run: &Self, node: &NodeId| {
            run.hosts[*node as usize].is_some_and(|host| run.world.network().class(host.0) != "BLOCKED")
        };
        let up: Vec<NodeId> = up.into_iter().filter(|node| connected(self, node)).collect();
        let reachable = |run: &Self, node: &NodeId| {
            let host = run.hosts[*node as usize];
            host.is_some_and(|host| run.world.network().boxes(host.0).is_empty())
        };
        let mut open: Vec<NodeId> = up.iter().copied().filter(|node| reachable(self, node)).collect();
        // Who examines follows from each alone, and so does who examines whom.
        open.sort_by_cached_key(|node| self.world.dice().draw(Domain::Plan, u64::from(*node), 10, 0));
        open.truncate(EXAMINERS);
        for node in up {
            // Whom a node gets depends on itself and the candidates one by one, not on how many there are.
            let draw = |run: &mut Self, other: NodeId| {
                run.world.dice().draw(Domain::Plan, u64::from(node), 9, u64::from(other))
            };
            let mut best = None;
            for other in open.iter().copied().filter(|other| *other != node) {
                let rank = draw(self, other);
                if best.is_none_or(|(least, _)| rank < least) {
                    best = Some((rank, other));
                }
            }
            if let Some((_, to)) = best {
                self.count("exam.held");
                self.exams.insert(node, Exam { to, next: Some(at), tries: 0 });
            }
        }
    }

    pub(super) fn next_exam(&self) -> Time {
        self.exams.values().filter_map(|exam| exam.next).min().unwrap_or(Time::MAX)
    }

    pub(super) fn hold_exams(&mut self, now: Time) {
        let due: Vec<(NodeId, NodeId)> = self
            .exams
            .iter_mut()
            .filter_map(|(node, exam)| {
                exam.next.filter(|at| *at <= now)?;
                exam.next = None;
                exam.tries += 1;
                Some((*node, exam.to))
            })
            .collect();
        for (node, to) in due {
            self.errand(node, to, Errand { deed: Deed::Ask, size: 1000, since: now, exam: true });
        }
    }

    pub(super) fn exam_passed(&mut self, node: NodeId) {
        if self.exams.remove(&node).is_some() {
            self.count("exam.passed");
        }
    }

    pub(super) fn exam_failed(&mut self, node: NodeId) {
        let again = self.world.now() + Duration::from_secs(1);
        if let Some(exam) = self.exams.get_mut(&node) {
            exam.next = Some(again);
        }
    }

    fn mark_exams(&mut self) {
        for (node, exam) in core::mem::take(&mut self.exams) {
            if self.is_up(node) {
                let (to, settle) = (self.roster.name(exam.to), self.scenario.settle);
                let tries = exam.tries;
                let detail =
                    format!("could not get an answer from {to} within {settle:?} after the faults, in {tries} tries");
                self.broken("convergence", Some(node), detail);
            }
        }
    }

    /// A transfer that is still under way must have moved not long ago: a connection that is dead is noticed sooner than that.
    fn mark_transfers(&mut self) {
        let now = self.world.now();
        if self.scenario.settle < STANDSTILL {
            return;
        }
        for node in 0..self.roster.len() {
            let stuck = self.agents[node as usize].as_ref().and_then(|agent| agent.stuck_since(now, STANDSTILL));
            if let Some((since, what)) = stuck.filter(|_| self.is_honest(node)) {
                self.broken("convergence.transfer", Some(node), format!("{what} has not moved since {since}"));
            }
        }
    }

    /// Everybody disconnects; nobody may hold anything then.
    fn part(&mut self) {
        for node in 0..self.roster.len() {
            let Some(host) = self.hosts[node as usize].filter(|host| self.world.runs(*host)) else { continue };
            self.busy = Some(node);
            self.world.call(host, |node, now| {
                let conns: Vec<_> = node.connections().map(|conn| conn.conn).collect();
                for conn in conns {
                    let _ = node.disconnect(now, conn, 0, "the end");
                }
            });
        }
        self.dispatch();
        let end = self.world.now() + AFTERGLOW;
        if !self.pass_time(end) {
            return;
        }
        for node in 0..self.roster.len() {
            if !self.scripts.contains_key(&node) {
                self.check_leaks(node);
                self.check_ends(node);
            }
        }
    }
}
