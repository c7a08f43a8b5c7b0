//! The watch: what must have happened by when, and what nodes may hold.
//!
//! A deadline is put down when something begins (a dial, a request, a connection) and taken out when it has ended. One that is still
//! there when its time comes is a timer that never fired or was set wrongly.

use std::time::Duration;

use peerwork::{Census, ConnId, DialId, RequestId, Time};

use super::Run;
use crate::plan::NodeId;

/// How much later than its timeout anything may end. Timers are exact here; this is for answers that are just under way.
pub(super) const SLACK: Duration = Duration::from_millis(100);

/// Something that must end in time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Due {
    Dial(DialId),
    Ask(RequestId),
    Ping(ConnId),
    Identify(ConnId),
    /// The peer at the other end has crashed: the connection must end.
    Dead(ConnId),
    /// It was told to shut down.
    ShutDown,
}

impl Run<'_> {
    /// Looks at deadlines that have passed.
    pub(super) fn check_due(&mut self, now: Time) {
        while let Some((at, node, due)) = self.due.first().copied().filter(|(at, ..)| *at <= now) {
            self.due.remove(&(at, node, due));
            // A node that slept, or could send nothing, could not know.
            let ends = [&self.slept, &self.blocked].map(|ends| ends.get(&node).copied());
            let excused = ends.iter().flatten().any(|end| *end + Duration::from_secs(60) > at);
            let Some(agent) = self.agents[node as usize].as_ref().filter(|_| !excused) else { continue };
            let config = self.settings_of(node);
            let (rule, detail) = match due {
                Due::Dial(dial) => ("deadline.dial", format!("{dial:?} did not end within {:?}", config.dial.timeout)),
                Due::Ask(request) => ("deadline.request", format!("{request:?} did not end within its timeout")),
                Due::Ping(conn) if agent.conns.contains_key(&conn) => {
                    let (interval, timeout) = (config.ping.interval, config.ping.timeout);
                    ("deadline.ping", format!("no word on a ping on {conn:?} within {interval:?} and {timeout:?}"))
                }
                Due::Identify(conn) if agent.conns.contains_key(&conn) => (
                    "deadline.identify",
                    format!("{conn:?} neither identified nor failed within {:?}", config.identify.timeout),
                ),
                Due::Dead(conn) if agent.conns.contains_key(&conn) => {
                    let idle = config.quic.idle_timeout;
                    ("deadline.idle", format!("{conn:?} to a peer that crashed is still up after {idle:?} and more"))
                }
                Due::ShutDown => ("deadline.shut-down", "it was shut down a while ago and has not ended".to_owned()),
                _ => continue,
            };
            self.broken(rule, Some(node), detail);
        }
    }

    /// A node has crashed: connections to it must end by themselves.
    pub(super) fn expect_ends(&mut self, crashed: NodeId) {
        let now = self.world.now();
        let mut ends = Vec::new();
        for (node, agent) in (0..).zip(&self.agents) {
            let Some(agent) = agent else { continue };
            for (conn, link) in &agent.conns {
                if link.peer == Some(crashed) {
                    ends.push((node, *conn));
                }
            }
        }
        for (node, conn) in ends {
            let config = self.settings_of(node);
            // The clock starts anew with the first packet sent after the last one received (RFC 9000 §10.1).
            let patience =
                config.quic.idle_timeout + config.quic.keep_alive.unwrap_or_default() + Duration::from_secs(3);
            self.due.insert((now + patience, node, Due::Dead(conn)));
        }
    }

    fn sample_ns(&self) -> u64 {
        u64::try_from(self.sample_every.as_nanos()).unwrap_or(u64::MAX).max(1)
    }

    /// When digests are to be kept next, if ever.
    fn next_step(&self) -> Option<u64> {
        let spec = self.options.trail?;
        let done = self.trail.steps.len() as u64;
        let at = self.trail.first_ns.saturating_add(self.trail.every_ns.saturating_mul(done));
        (at <= spec.to.as_nanos()).then_some(at)
    }

    pub(super) fn next_sample(&self) -> Time {
        let every = self.sample_ns();
        let sample = (self.world.now().as_nanos() / every + 1).saturating_mul(every);
        Time::from_nanos(sample.min(self.next_step().unwrap_or(u64::MAX)))
    }

    /// Puts a point on each curve, and looks at what nodes hold. `false` ends the run.
    pub(super) fn sample(&mut self, now: Time) -> bool {
        if self.next_step() == Some(now.as_nanos()) {
            self.keep_trail();
        }
        if self.options.trail.is_some_and(|spec| spec.to <= now) {
            return false;
        }
        if !now.as_nanos().is_multiple_of(self.sample_ns()) {
            return true;
        }
        let ms = now.as_nanos() / 1_000_000;
        let turns = u64::from(self.roster.len() / 32).clamp(1, 16);
        let turn = now.as_nanos() / self.sample_ns() % turns;
        let mut conns = 0;
        for node in 0..self.roster.len() {
            let Some(agent) = self.agents[node as usize].as_ref() else { continue };
            conns += agent.conns.len();
            // In large networks, each node has its turn now and then.
            if u64::from(node) % turns != turn {
                continue;
            }
            self.check_caps(node);
            // With late drains, the node is ahead of what it has told.
            if !self.scenario.random_drains {
                self.check_books(node);
            }
        }
        let packets = self.world.packets();
        let (sent, bytes) = (packets.sent, packets.bytes_sent);
        let seconds = self.sample_every.as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "for plots")]
        let points = [
            ("nodes.up", self.up as f64),
            ("connections", conns as f64 / 2.0),
            ("packets.per-second", (sent - self.last_packets.0) as f64 / seconds),
            ("bytes.per-second", (bytes - self.last_packets.1) as f64 / seconds),
        ];
        self.last_packets = (sent, bytes);
        for (name, value) in points {
            self.outcome.series.entry(name.to_owned()).or_default().push((ms, value));
        }
        self.options.progress.as_mut().is_none_or(|progress| progress(now))
    }

    pub(super) fn keep_trail(&mut self) {
        let step = self.hosts.iter().map(|host| host.map_or(0, |host| self.world.host_digest(host))).collect();
        self.trail.steps.push(step);
    }

    /// What a node holds must be within what its configuration allows, and follow from its connections.
    fn check_caps(&mut self, node: NodeId) {
        let Some(host) = self.hosts[node as usize].filter(|host| self.world.runs(*host)) else { return };
        let census = self.world.node(host).census();
        let config = self.settings_of(node);
        let (limits, quic) = (&config.limits, &config.quic);
        let streams = (quic.max_streams as usize * 2 + 64) * census.conns.max(1);
        let most_conns = limits.established + limits.pending_in + limits.pending_out;
        let mut per_peer = std::collections::BTreeMap::<_, usize>::new();
        for conn in self.world.node(host).connections() {
            *per_peer.entry(conn.peer).or_default() += 1;
        }
        let most_of_one = per_peer.into_values().max().unwrap_or(0);
        // Closed connections that QUIC still answers for come on top.
        let rules = [
            (census.established > limits.established, "established connections"),
            (census.conns > most_conns * 2, "connections"),
            (most_of_one > limits.per_peer, "connections to one peer"),
            (census.streams > streams, "streams"),
            (census.timers > 64 + census.conns * 32 + census.streams * 4 + census.dials * 8, "timers"),
            (census.machines > 64 + census.conns * 64 + census.streams * 8, "entries of machines"),
        ];
        for (broken, what) in rules {
            if broken {
                self.broken("caps", Some(node), format!("too many {what}: {census:?}"));
            }
        }
    }

    /// The connections that a node has are those that it has told of.
    fn check_books(&mut self, node: NodeId) {
        let Some(host) = self.hosts[node as usize].filter(|host| self.world.runs(*host)) else { return };
        let Some(agent) = self.agents[node as usize].as_ref() else { return };
        let mut has: Vec<ConnId> = self.world.node(host).connections().map(|conn| conn.conn).collect();
        has.sort_unstable();
        if !has.iter().eq(agent.conns.keys()) {
            let told: Vec<ConnId> = agent.conns.keys().copied().collect();
            self.broken("lifecycle.books", Some(node), format!("it has connections {has:?}, and has told of {told:?}"));
        }
    }

    /// After everything has disconnected, a node has told the end of all that it began.
    pub(super) fn check_ends(&mut self, node: NodeId) {
        let Some(agent) = self.agents[node as usize].as_ref() else { return };
        let left = agent.unfinished();
        if !left.is_empty() {
            self.broken(
                "lifecycle.no-end",
                Some(node),
                format!("everything is disconnected, and it told no end of {left}"),
            );
        }
    }

    /// After everything has disconnected, a node must hold what it held in the beginning.
    pub(super) fn check_leaks(&mut self, node: NodeId) {
        let Some(host) = self.hosts[node as usize].filter(|host| self.world.runs(*host)) else { return };
        let census = self.world.node(host).census();
        if census != Census::default() {
            self.broken("leak", Some(node), format!("everything is disconnected, and still there is {census:?}"));
        }
        let next = self.world.node(host).poll_timeout();
        if next.is_some() {
            self.broken("leak.timer", Some(node), format!("everything is disconnected, and still there is {next:?}"));
        }
    }
}
