//! The standard application of a node: dials, asks, sends and answers, and checks every byte and every event.
//!
//! Each request and each transfer has a number of its own from which its content follows, so the other end can tell whether it has got
//! exactly what was sent, once. Events must make sense after those before: a connection begins once and ends once, a dial ends
//! once, a response comes for a request that waits.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bytes::Bytes;
use peerwork::{
    AttemptError, CloseReason, ConnId, Dial, DialFailure, DialId, Event, Multiaddr, PeerId, ProtocolId, Read,
    RequestId, StreamId, Time, config::RequestConfig,
};

use super::{Run, watch::Due};
use crate::{
    net::{
        lab::{Mode, predicate},
        nat::{Filtering, Kind, Scope, from_nat64, to_nat64},
    },
    outcome::NatPair,
    plan::NodeId,
    scenario::Deed,
    trace::What,
    world::HostId,
};

pub(super) const ASK: ProtocolId = ProtocolId::from_static("/peerwork-sim/ask/1");
pub(super) const SEND: ProtocolId = ProtocolId::from_static("/peerwork-sim/send/1");

/// Bytes before the content: number and size.
const HEAD: usize = 16;

/// In a request's number: it is to be declined.
const DECLINE: u64 = 1 << 63;

/// Port on which all nodes listen.
const PORT: u16 = 4001;

/// What a node's application knows.
#[derive(Default)]
pub(super) struct Agent {
    pub(super) conns: BTreeMap<ConnId, Link>,
    dials: BTreeMap<DialId, Dialing>,
    /// What to do with a peer as soon as there is a connection.
    waiting: BTreeMap<NodeId, Vec<Errand>>,
    flows: BTreeMap<StreamId, Flow>,
    asks: BTreeMap<RequestId, Ask>,
    /// Requests that have reached it: who sent them and their numbers.
    answered: BTreeSet<(PeerId, u64)>,
    /// It has shut down and waits for the end.
    pub(super) leaving: bool,
}

/// A connection.
pub(super) struct Link {
    pub(super) peer: Option<NodeId>,
    id: PeerId,
    since: Time,
    identified: bool,
    /// When the next word on a ping is due.
    ping_due: Option<Time>,
}

struct Dialing {
    to: NodeId,
    since: Time,
    due: Time,
    /// At another's address.
    mistake: bool,
}

/// Something to be done with a peer.
#[derive(Clone, Copy)]
pub(super) struct Errand {
    pub(super) deed: Deed,
    pub(super) size: u64,
    pub(super) since: Time,
    /// Part of the last examination.
    pub(super) exam: bool,
}

struct Ask {
    number: u64,
    size: u64,
    errand: Errand,
    due: Time,
}

enum Flow {
    Sending { to: NodeId, number: u64, size: u64, sent: u64, errand: Errand, receipt: usize, moved: Time },
    Receiving { head: Vec<u8>, got: u64 },
}

/// The content of a message from `offset` on.
fn content(number: u64, offset: u64, buf: &mut [u8]) {
    for (n, byte) in buf.iter_mut().enumerate() {
        let at = offset + n as u64;
        let word = (number ^ (at >> 3)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        *byte = (word ^ word >> 29).to_le_bytes()[usize::try_from(at & 7).unwrap_or(0)];
    }
}

fn head(number: u64, size: u64) -> [u8; HEAD] {
    let mut head = [0; HEAD];
    head[..8].copy_from_slice(&number.to_le_bytes());
    head[8..].copy_from_slice(&size.to_le_bytes());
    head
}

fn parse_head(bytes: &[u8]) -> Option<(u64, u64)> {
    let (number, rest) = bytes.split_first_chunk()?;
    let (size, _) = rest.split_first_chunk()?;
    Some((u64::from_le_bytes(*number), u64::from_le_bytes(*size)))
}

/// A reason in one word, for counting.
fn reason(error: &DialFailure) -> &'static str {
    let DialFailure::AllFailed(attempts) = error else { return "cancelled" };
    match attempts.last().map(|(_, error)| error) {
        Some(AttemptError::TimedOut) => "timeout",
        Some(AttemptError::WrongPeer { .. }) => "wrong-peer",
        Some(AttemptError::Closed(_)) => "closed",
        Some(AttemptError::Unreachable { .. }) => "unreachable",
        Some(AttemptError::Unusable(_)) => "unusable",
        Some(AttemptError::LimitReached) => "limit",
        _ => "other",
    }
}

fn close_reason(reason: &CloseReason) -> &'static str {
    match reason {
        CloseReason::Local { .. } => "local",
        CloseReason::Remote { .. } => "remote",
        CloseReason::IdleTimeout => "idle",
        CloseReason::Unresponsive => "unresponsive",
        CloseReason::Reset => "reset",
        CloseReason::Transport { .. } => "transport",
        CloseReason::Superseded => "superseded",
        CloseReason::SocketLost => "socket-lost",
        CloseReason::Fault(_) => "fault",
        CloseReason::LimitReached => "limit",
        CloseReason::ShutDown => "shut-down",
        _ => "other",
    }
}

impl Agent {
    /// What has begun and not ended, in words.
    pub(super) fn unfinished(&self) -> String {
        let sending = self.flows.values().filter(|flow| matches!(flow, Flow::Sending { .. })).count();
        let parts = [
            (self.conns.len(), "connections"),
            (self.dials.len(), "dials"),
            (self.asks.len(), "requests"),
            (sending, "transfers"),
        ];
        let left = parts.into_iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}"));
        left.collect::<Vec<_>>().join(", ")
    }

    /// Since when a transfer has not moved, if that is longer than `patience`.
    pub(super) fn stuck_since(&self, now: Time, patience: Duration) -> Option<(Time, String)> {
        self.flows.values().find_map(|flow| {
            let Flow::Sending { to, number, size, sent, moved, .. } = flow else { return None };
            let stuck = now.since(*moved) > patience;
            stuck.then(|| (*moved, format!("transfer {number:#x} to node {to}, {sent} of {size} bytes sent,")))
        })
    }
}

impl Run<'_> {
    fn agent(&mut self, node: NodeId) -> Option<&mut Agent> {
        self.agents[node as usize].as_mut()
    }

    /// A node starts: listens, serves, dials.
    pub(super) fn start_node(&mut self, node: NodeId, dials: &[NodeId]) {
        if self.is_up(node) {
            return;
        }
        let host = self.host(node);
        let config = self.config(node);
        self.busy = Some(node);
        if let Err(error) = self.world.start(host, config) {
            self.broken("config", Some(node), error.to_string());
            return;
        }
        self.up += 1;
        self.agents[node as usize] = Some(Agent::default());
        self.world.listen_everywhere(host, PORT);
        self.world.call(host, |node, now| {
            let config = RequestConfig { max_request: 2 << 20, max_response: 2 << 20, ..RequestConfig::default() };
            node.requests(now).register(ASK, config).expect("nobody else serves it");
            node.register(now, SEND).expect("nobody else serves it");
        });
        if let Some(scripts) = self.options.scripts {
            let (group, index) = self.roster.place(node);
            if let Some(mut script) = scripts(&self.scenario.groups[group].name, index) {
                let mut cx = super::ScriptCx::new(&mut self.world, host, &mut self.outcome);
                script.on_start(&mut cx);
                self.scripts.insert(node, script);
            }
        }
        for to in dials {
            self.run_errand(node, *to, Deed::Dial, 0);
        }
    }

    /// Does what the plan says.
    pub(super) fn run_errand(&mut self, node: NodeId, to: NodeId, deed: Deed, size: u64) {
        let errand = Errand { deed, size, since: self.world.now(), exam: false };
        self.errand(node, to, errand);
    }

    pub(super) fn errand(&mut self, node: NodeId, to: NodeId, errand: Errand) {
        let host = self.host(node);
        let idle = self.agent(node).is_none_or(|agent| agent.leaving) || self.asleep(node).is_some();
        if idle || node == to {
            self.count("work.skipped");
            return;
        }
        self.busy = Some(node);
        let _ = self.host(to);
        let peer = self.key(to).peer_id();
        let conn = self.world.node(host).connection_to(peer);
        match (errand.deed, conn) {
            (Deed::Hang, conn) => {
                if let Some(conn) = conn {
                    self.world.call(host, |node, now| node.disconnect(now, conn, 7, "hanging up").ok());
                }
            }
            (Deed::Mistake, Some(_)) => self.count("work.skipped"),
            (Deed::Dial | Deed::Mistake, _) | (_, None) => self.dial(node, host, to, errand),
            (Deed::Ask, Some(conn)) => drop(self.ask(node, host, conn, errand)),
            (Deed::Send, Some(conn)) => self.send(host, node, to, conn, errand),
            (Deed::Cancel, Some(conn)) => {
                if let Some(request) = self.ask(node, host, conn, errand) {
                    self.count("cancel.tried");
                    let _ = self.world.call(host, |node, now| node.requests(now).cancel(request));
                }
            }
            (Deed::Decline, Some(conn)) => {
                self.count("decline.tried");
                self.ask(node, host, conn, errand);
            }
            (Deed::Ping, Some(conn)) => {
                self.world.call(host, |node, now| node.ping(now, conn).ok());
            }
            (Deed::Call, _) => {}
        }
    }

    /// Where a node could be found, as far as anybody could know.
    fn address_of(&mut self, from: NodeId, to: NodeId) -> Multiaddr {
        let (from, to) = (self.host(from), self.host(to));
        let network = self.world.network();
        let ip = network.ips(to.0)[0];
        let near = network.realm(from.0) == network.realm(to.0);
        let socket = if near || network.boxes(to.0).is_empty() {
            std::net::SocketAddr::new(ip, PORT)
        } else {
            self.world
                .outside_address(to)
                .unwrap_or_else(|| std::net::SocketAddr::new(self.world.network().front(to.0), PORT))
        };
        // Behind NAT64 there are IPv6 addresses only, and all others appear under its prefix.
        let network = self.world.network();
        let behind_nat64 = network.boxes(from.0).first().is_some_and(|id| network.nat(*id).model().kind == Kind::Nat64);
        let socket = if behind_nat64 && !near { to_nat64(socket) } else { socket };
        let family = if socket.is_ipv4() { "ip4" } else { "ip6" };
        format!("/{family}/{}/udp/{}/quic-v1", socket.ip(), socket.port()).parse().expect("a multiaddr")
    }

    fn dial(&mut self, node: NodeId, host: HostId, to: NodeId, errand: Errand) {
        if !matches!(errand.deed, Deed::Dial | Deed::Mistake)
            && let Some(agent) = self.agent(node)
        {
            agent.waiting.entry(to).or_default().push(errand);
            if agent.dials.values().any(|dial| dial.to == to) {
                return;
            }
        }
        let at = match errand.deed {
            // Whoever is next, if that is somebody else.
            Deed::Mistake => {
                let next = (to + 1) % self.roster.len();
                if next == node || next == to {
                    return;
                }
                next
            }
            _ => to,
        };
        let address = self.address_of(node, at);
        let peer = self.key(to).peer_id();
        let now = self.world.now();
        let mistake = errand.deed == Deed::Mistake;
        self.count(if mistake { "mistake.tried" } else { "dial.tried" });
        // In the books before the call: its events may come before it returns.
        match self.world.call(host, |node, now| node.dial(now, Dial::peer_at(peer, vec![address]))) {
            Ok(dial) => {
                let due = now + self.dial_timeout(node) + super::watch::SLACK;
                self.due.insert((due, node, Due::Dial(dial)));
                if let Some(agent) = self.agent(node) {
                    agent.dials.insert(dial, Dialing { to, since: now, due, mistake });
                }
            }
            Err(error) => {
                self.count("dial.failed");
                self.count("dial.failed.refused");
                let detail = error.to_string();
                self.world.tell(Some(host), &What::Call { name: "dial refused", detail: &detail });
                self.give_up(node, to);
            }
        }
    }

    /// What waited for a connection to a peer has failed.
    fn give_up(&mut self, node: NodeId, to: NodeId) {
        let errands = self.agent(node).and_then(|agent| agent.waiting.remove(&to)).unwrap_or_default();
        for errand in errands {
            self.errand_failed(node, errand, "no-connection");
        }
    }

    fn errand_failed(&mut self, node: NodeId, errand: Errand, why: &str) {
        if errand.exam {
            self.exam_failed(node);
            return;
        }
        let name = match errand.deed {
            Deed::Ask => "ask",
            Deed::Send => "send",
            _ => return,
        };
        self.count(&format!("{name}.tried"));
        self.count(&format!("{name}.failed"));
        self.count(&format!("{name}.failed.{why}"));
    }

    fn ask(&mut self, node: NodeId, host: HostId, conn: ConnId, errand: Errand) -> Option<RequestId> {
        self.serial += 1;
        let decline = if errand.deed == Deed::Decline { DECLINE } else { 0 };
        let number = decline | (u64::from(node) << 40) | self.serial;
        let size = errand.size.min(1 << 20);
        let payload = Bytes::copy_from_slice(&head(number, size));
        match self.world.call(host, |node, now| node.requests(now).send(conn, &ASK, payload)) {
            Ok(request) => {
                let due = self.world.now() + RequestConfig::default().timeout + super::watch::SLACK;
                self.due.insert((due, node, Due::Ask(request)));
                if let Some(agent) = self.agent(node) {
                    agent.asks.insert(request, Ask { number, size, errand, due });
                }
                Some(request)
            }
            Err(_) => {
                self.errand_failed(node, errand, "refused");
                None
            }
        }
    }

    fn send(&mut self, host: HostId, node: NodeId, to: NodeId, conn: ConnId, errand: Errand) {
        self.serial += 1;
        let number = (u64::from(node) << 40) | self.serial;
        let size = errand.size;
        let Ok(stream) = self.world.call(host, |node, now| node.open_stream(now, conn, &[SEND])) else { return };
        self.count("send.tried");
        if let Some(agent) = self.agent(node) {
            agent
                .flows
                .insert(stream, Flow::Sending { to, number, size, sent: 0, errand, receipt: 0, moved: errand.since });
        }
        self.pump(node, host, stream);
    }

    pub(super) fn agent_event(&mut self, node: NodeId, host: HostId, event: &Event) {
        match event {
            Event::Connected { conn, peer, .. } => self.connected(node, *conn, *peer),
            Event::Disconnected { conn, peer, reason, .. } => self.disconnected(node, *conn, *peer, reason),
            Event::Dialed { dial, conn, peer } => self.dialed(node, *dial, *conn, *peer),
            Event::DialFailed { dial, error } => self.dial_failed(node, *dial, error),
            Event::ObservedAddress { address, .. } => self.observed(node, host, address),
            Event::Identified { conn, info, .. } => self.identified(node, *conn, info.peer),
            Event::IdentifyFailed { conn, .. } => {
                self.count("identify.failed");
                self.settle_identify(node, *conn);
            }
            Event::Ping { conn, result, .. } => self.pinged(node, *conn, result.as_ref().ok().copied()),
            Event::Request { request, peer, .. } => self.requested(node, host, *request, *peer),
            Event::Response { request, result } => self.responded(node, host, *request, result.is_ok()),
            Event::StreamInbound { stream, protocol, .. } if *protocol == SEND => {
                if let Some(agent) = self.agent(node)
                    && agent.flows.insert(*stream, Flow::Receiving { head: Vec::new(), got: 0 }).is_some()
                {
                    self.broken("lifecycle.stream-twice", Some(node), format!("{event:?}"));
                }
                self.pump(node, host, *stream);
            }
            Event::StreamReadable { stream } | Event::StreamWritable { stream } => self.pump(node, host, *stream),
            Event::StreamFailed { stream, .. } => {
                let flow = self.agent(node).and_then(|agent| agent.flows.remove(stream));
                if let Some(Flow::Sending { .. }) = flow {
                    self.count("send.failed");
                }
            }
            Event::Fault { peer, fault, .. } => {
                let other = self.peers.get(peer).copied();
                self.count("faults");
                if self.is_honest(node) && other.is_some_and(|other| self.is_honest(other)) {
                    let name = other.map(|other| self.roster.name(other)).unwrap_or_default();
                    self.broken("honest-fault", Some(node), format!("says that {name} broke a rule: {fault}"));
                }
            }
            Event::ShutDown => self.shut_down(node, host),
            _ => {}
        }
    }

    fn connected(&mut self, node: NodeId, conn: ConnId, peer: PeerId) {
        let now = self.world.now();
        let other = self.peers.get(&peer).copied();
        let ping_due = self.ping_patience(node).map(|patience| now + patience);
        let link = Link { peer: other, id: peer, since: now, identified: false, ping_due };
        self.count("connections");
        let Some(agent) = self.agent(node) else { return };
        if agent.conns.insert(conn, link).is_some() {
            self.broken("lifecycle.connected-twice", Some(node), format!("{conn:?}"));
        }
        if other.is_none() {
            self.broken("identity", Some(node), format!("connected to {peer}, which is no node of this world"));
        }
        if let Some(due) = ping_due {
            self.due.insert((due, node, Due::Ping(conn)));
        }
        let due = now + self.identify_timeout(node) + super::watch::SLACK;
        self.due.insert((due, node, Due::Identify(conn)));
        if let Some(other) = other {
            self.on_connection(node, other);
        }
    }

    /// Does what waited for a connection to this peer.
    fn on_connection(&mut self, node: NodeId, to: NodeId) {
        let errands = self.agent(node).and_then(|agent| agent.waiting.remove(&to)).unwrap_or_default();
        for errand in errands {
            self.errand(node, to, errand);
        }
    }

    fn disconnected(&mut self, node: NodeId, conn: ConnId, peer: PeerId, reason: &CloseReason) {
        self.count("disconnects");
        self.count(&format!("disconnects.{}", close_reason(reason)));
        let Some(agent) = self.agent(node) else { return };
        match agent.conns.remove(&conn) {
            None => self.broken("lifecycle.disconnected-twice", Some(node), format!("{conn:?}")),
            Some(link) if link.id != peer => {
                self.broken("identity", Some(node), format!("{conn:?} was to {} and is now to {peer}", link.id));
            }
            Some(_) => {}
        }
    }

    fn dialed(&mut self, node: NodeId, dial: DialId, conn: ConnId, peer: PeerId) {
        let now = self.world.now();
        let Some(agent) = self.agent(node) else { return };
        let known = agent.conns.contains_key(&conn);
        let Some(dialing) = agent.dials.remove(&dial) else {
            self.broken("lifecycle.dial-ended-twice", Some(node), format!("{dial:?} ended well"));
            return;
        };
        self.due.remove(&(dialing.due, node, Due::Dial(dial)));
        if !known {
            self.broken(
                "lifecycle.dialed-unconnected",
                Some(node),
                format!("{dial:?} ended in {conn:?}, which is not up"),
            );
        }
        if self.key(dialing.to).peer_id() != peer {
            let wanted = self.roster.name(dialing.to);
            self.broken("identity", Some(node), format!("dialled {wanted} and got {peer}"));
        }
        if dialing.mistake {
            // The peer itself has come meanwhile.
            return self.on_connection(node, dialing.to);
        }
        self.count("dial.ok");
        self.record("dial.latency", now.since(dialing.since));
        self.note_pair(node, dialing.to, true);
        self.on_connection(node, dialing.to);
    }

    fn dial_failed(&mut self, node: NodeId, dial: DialId, error: &DialFailure) {
        let now = self.world.now();
        let Some(dialing) = self.agent(node).and_then(|agent| agent.dials.remove(&dial)) else {
            self.broken("lifecycle.dial-ended-twice", Some(node), format!("{dial:?} failed: {error}"));
            return;
        };
        self.due.remove(&(dialing.due, node, Due::Dial(dial)));
        let why = reason(error);
        if dialing.mistake {
            self.count("mistake.noticed");
            return self.give_up(node, dialing.to);
        }
        self.count("dial.failed");
        self.count(&format!("dial.failed.{why}"));
        let waited = now.since(dialing.since);
        let least = self.least_patience(node);
        if why == "timeout" && waited + super::watch::SLACK < least && !self.slept.contains_key(&node) {
            self.broken("timeout-early", Some(node), format!("{dial:?} timed out after {waited:?}, not {least:?}"));
        }
        if why == "wrong-peer" {
            let wanted = self.roster.name(dialing.to);
            self.world.tell(self.hosts[node as usize], &What::Call { name: "met another than", detail: &wanted });
        }
        self.note_pair(node, dialing.to, false);
        self.give_up(node, dialing.to);
    }

    fn note_pair(&mut self, from: NodeId, to: NodeId, ok: bool) {
        if !self.is_up(to) {
            return;
        }
        let (Some(one), Some(other)) = (self.hosts[from as usize], self.hosts[to as usize]) else { return };
        let network = self.world.network();
        if network.realm(one.0) == network.realm(other.0) && !network.boxes(one.0).is_empty() {
            return;
        }
        let (from, to) = (network.class(one.0).to_owned(), network.class(other.0).to_owned());
        // A dial gets through to whoever lets everybody in at one address. For others it takes a dial from there at the same time,
        // which happens; where not even that can help, a connection would be a mistake of the model's.
        let possible = match (network.behaviour(one.0), network.behaviour(other.0)) {
            (Some(_), Some(there)) if there.eim() && there.filtering == Filtering::Eif => Some(true),
            (Some(here), Some(there)) if predicate(Mode::Alternating, Scope::Endpoint, here, there) => None,
            _ => Some(false),
        };
        let pairs = &mut self.outcome.nat_pairs;
        let at = match pairs.iter().position(|pair| pair.from == from && pair.to == to) {
            Some(at) => at,
            None => {
                pairs.push(NatPair { from, to, possible, ..NatPair::default() });
                pairs.len() - 1
            }
        };
        pairs[at].tried += 1;
        pairs[at].ok += u64::from(ok);
    }

    /// What a peer says of the node's address must be its own or that of a box before it, unless those have changed.
    fn observed(&mut self, node: NodeId, host: HostId, address: &Multiaddr) {
        let network = self.world.network();
        let boxes = network.boxes(host.0);
        let own = network.ips(host.0).iter();
        let mut known = own.chain(boxes.iter().flat_map(|id| network.nat(*id).external()));
        let Some(socket) = crate::socket_address(address) else { return };
        // A peer behind NAT64 sees everybody else under its prefix.
        let socket = from_nat64(socket).unwrap_or(socket);
        if !known.any(|ip| *ip == socket.ip()) && !self.moves.contains_key(&node) && !self.readdressed.contains(&node) {
            self.broken("identity.observed", Some(node), format!("a peer sees it at {address}, where it never was"));
        }
    }

    fn identified(&mut self, node: NodeId, conn: ConnId, peer: PeerId) {
        let now = self.world.now();
        let Some(link) = self.agent(node).and_then(|agent| agent.conns.get_mut(&conn)) else { return };
        let (first, since, id) = (!link.identified, link.since, link.id);
        link.identified = true;
        if id != peer {
            self.broken("identity", Some(node), format!("{conn:?} is to {id}, but identify says {peer}"));
        }
        if first {
            self.count("identify.ok");
            self.record("identify.latency", now.since(since));
        }
        self.settle_identify(node, conn);
    }

    fn settle_identify(&mut self, node: NodeId, conn: ConnId) {
        let wait = self.identify_timeout(node) + super::watch::SLACK;
        if let Some(since) = self.agent(node).and_then(|agent| agent.conns.get(&conn)).map(|link| link.since) {
            self.due.remove(&(since + wait, node, Due::Identify(conn)));
        }
    }

    fn pinged(&mut self, node: NodeId, conn: ConnId, rtt: Option<core::time::Duration>) {
        let now = self.world.now();
        let patience = self.ping_patience(node);
        if let Some(rtt) = rtt {
            self.count("ping.ok");
            self.record("ping.rtt", rtt);
        } else {
            self.count("ping.failed");
        }
        let Some(link) = self.agent(node).and_then(|agent| agent.conns.get_mut(&conn)) else { return };
        let before = link.ping_due.take();
        let next = patience.map(|patience| now + patience);
        link.ping_due = next;
        if let Some(before) = before {
            self.due.remove(&(before, node, Due::Ping(conn)));
        }
        if let Some(next) = next {
            self.due.insert((next, node, Due::Ping(conn)));
        }
    }

    fn requested(&mut self, node: NodeId, host: HostId, request: RequestId, peer: PeerId) {
        let Some(payload) = self.world.call(host, |node, now| node.requests(now).take(request)) else {
            self.broken("lifecycle.request-without-payload", Some(node), format!("{request:?}"));
            return;
        };
        let Some((number, size)) = parse_head(&payload).filter(|_| payload.len() == HEAD) else {
            self.broken("request.content", Some(node), format!("{} bytes instead of {HEAD}", payload.len()));
            return;
        };
        if !self.agent(node).is_some_and(|agent| agent.answered.insert((peer, number))) {
            self.broken("request.delivered-twice", Some(node), format!("number {number:#x} from {peer}"));
        }
        if number & DECLINE != 0 {
            self.count("decline.done");
            self.world.call(host, |node, now| node.requests(now).refuse(request).ok());
            return;
        }
        let mut answer = vec![0; usize::try_from(size.min(1 << 20)).unwrap_or(0)];
        content(number, 0, &mut answer);
        self.world.call(host, |node, now| node.requests(now).respond(request, Bytes::from(answer)).ok());
    }

    fn responded(&mut self, node: NodeId, host: HostId, request: RequestId, ok: bool) {
        let now = self.world.now();
        let Some(ask) = self.agent(node).and_then(|agent| agent.asks.remove(&request)) else {
            self.broken("lifecycle.response-twice", Some(node), format!("{request:?}"));
            return;
        };
        self.due.remove(&(ask.due, node, Due::Ask(request)));
        if !ok {
            self.errand_failed(node, ask.errand, "no-answer");
            return;
        }
        if matches!(ask.errand.deed, Deed::Cancel | Deed::Decline) {
            let detail = format!("{:#x} was to have no answer, and has one", ask.number);
            self.broken("request.answered", Some(node), detail);
            return;
        }
        let payload = self.world.call(host, |node, now| node.requests(now).take(request)).unwrap_or_default();
        let mut expected = vec![0; usize::try_from(ask.size).unwrap_or(0)];
        content(ask.number, 0, &mut expected);
        if payload[..] != expected[..] {
            self.broken("request.content", Some(node), format!("the answer to {:#x} is not what was sent", ask.number));
        }
        if ask.errand.exam {
            self.exam_passed(node);
            return;
        }
        self.count("ask.tried");
        self.count("ask.ok");
        self.record("ask.latency", now.since(ask.errand.since));
    }

    /// Moves a transfer on: writes what is taken, reads what there is.
    fn pump(&mut self, node: NodeId, host: HostId, stream: StreamId) {
        let Some(mut flow) = self.agent(node).and_then(|agent| agent.flows.remove(&stream)) else { return };
        let mut wrong = None;
        let ended = self.world.call(host, |node, now| {
            let Ok(mut handle) = node.stream(now, stream) else { return Some(false) };
            match &mut flow {
                Flow::Sending { number, size, sent, receipt, moved, .. } => {
                    let whole = *size + HEAD as u64;
                    let mut buf = [0; 16 * 1024];
                    while *sent < whole {
                        let len = usize::try_from(whole - *sent).unwrap_or(usize::MAX).min(buf.len());
                        let from = fill(*number, *size, *sent, &mut buf[..len]);
                        debug_assert_eq!(from, len);
                        match handle.write(&buf[..len]) {
                            Ok(0) => break,
                            Ok(taken) => {
                                *sent += taken as u64;
                                *moved = now;
                            }
                            Err(_) => break,
                        }
                    }
                    if *sent == whole {
                        let _ = handle.finish();
                    }
                    loop {
                        match handle.read(4096) {
                            Ok(Read::Data(data)) => *receipt += data.len(),
                            Ok(Read::Blocked) => return None,
                            Ok(Read::End) => {
                                let ok = *receipt == 8;
                                handle.close();
                                return Some(ok);
                            }
                            Err(_) => {
                                handle.close();
                                return Some(false);
                            }
                        }
                    }
                }
                Flow::Receiving { head, got } => loop {
                    match handle.read(64 * 1024) {
                        Ok(Read::Data(mut data)) => {
                            let take = data.len().min(HEAD - head.len());
                            head.extend_from_slice(&data.split_to(take));
                            let Some((number, size)) = parse_head(head) else { continue };
                            let mut expected = vec![0; data.len()];
                            content(number, *got, &mut expected);
                            if data[..] != expected[..] {
                                wrong = Some(format!("bytes at {got} of transfer {number:#x} are not what was sent"));
                            }
                            *got += data.len() as u64;
                            if *got > size {
                                wrong = Some(format!("{got} bytes of transfer {number:#x}, which has {size}"));
                            }
                        }
                        Ok(Read::Blocked) => return None,
                        Ok(Read::End) => {
                            let size = parse_head(head).map(|(_, size)| size);
                            if size != Some(*got) {
                                wrong = Some(format!("the end after {got} bytes of {size:?}"));
                            }
                            let _ = handle.write(&got.to_le_bytes());
                            let _ = handle.finish();
                            handle.close();
                            return Some(true);
                        }
                        Err(_) => {
                            handle.close();
                            return Some(false);
                        }
                    }
                },
            }
        });
        if let Some(wrong) = wrong {
            self.broken("stream.content", Some(node), wrong);
        }
        match (ended, flow) {
            (None, flow) => {
                if let Some(agent) = self.agent(node) {
                    agent.flows.insert(stream, flow);
                }
            }
            (Some(ok), Flow::Sending { size, errand, .. }) => {
                self.count(if ok { "send.ok" } else { "send.failed" });
                if ok {
                    self.add("send.bytes", size);
                    let now = self.world.now();
                    self.record("send.latency", now.since(errand.since));
                }
            }
            (Some(_), Flow::Receiving { .. }) => {}
        }
    }

    /// How long a connection of this node may wait for the next word on a ping.
    fn ping_patience(&self, node: NodeId) -> Option<core::time::Duration> {
        let settings = self.settings_of(node);
        settings.ping.interval.map(|interval| interval + settings.ping.timeout + super::watch::SLACK)
    }

    fn identify_timeout(&self, node: NodeId) -> core::time::Duration {
        self.settings_of(node).identify.timeout
    }

    fn dial_timeout(&self, node: NodeId) -> core::time::Duration {
        self.settings_of(node).dial.timeout
    }

    fn least_patience(&self, node: NodeId) -> core::time::Duration {
        let dial = &self.settings_of(node).dial;
        dial.timeout.min(dial.attempt_timeout)
    }

    pub(super) fn settings_of(&self, node: NodeId) -> peerwork::Config {
        let mut config = peerwork::Config::default();
        self.scenario.groups[self.roster.place(node).0].settings.apply(&mut config);
        config
    }
}

/// Writes the part of a transfer that begins at `offset`, head included.
fn fill(number: u64, size: u64, offset: u64, buf: &mut [u8]) -> usize {
    let head = head(number, size);
    let start = usize::try_from(offset).unwrap_or(usize::MAX).min(HEAD);
    let take = (HEAD - start).min(buf.len());
    buf[..take].copy_from_slice(&head[start..start + take]);
    content(number, (offset + take as u64).saturating_sub(HEAD as u64), &mut buf[take..]);
    buf.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_is_the_same_however_it_is_cut() {
        let mut whole = vec![0; 1000];
        fill(7, 984, 0, &mut whole);
        for cut in [1, 5, 15, 16, 17, 500] {
            let mut parts = Vec::new();
            while parts.len() < whole.len() {
                let mut part = vec![0; cut.min(whole.len() - parts.len())];
                fill(7, 984, parts.len() as u64, &mut part);
                parts.extend(part);
            }
            assert_eq!(parts, whole);
        }
        assert_eq!(parse_head(&whole), Some((7, 984)));
        let mut other = vec![0; 1000];
        fill(8, 984, 0, &mut other);
        assert_ne!(whole[20..], other[20..]);
    }
}
