//! Dialling: from a peer or some addresses to one connection.
//!
//! A dial works through its addresses in order. Names are resolved first (`/dnsaddr` may lead to more names). The
//! first address gets a head start, then one more is tried with each [`stagger`](crate::config::DialConfig::stagger)
//! or failure; the first handshake that ends well wins and the others are given up.
//!
//! ```text
//! dial ──► lookups ──► queue ──► attempts ──► Dialed
//!             │           │          │
//!             └───────────┴──────────┴─────► failures; nothing left, cancelled or too late ──► DialFailed
//! ```

use core::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};
use std::collections::VecDeque;

use multiaddr::Multiaddr;

use super::{
    hub::{Hub, Shutdown},
    timer::Timer,
};
use crate::{
    bug::Bug,
    event::{AttemptError, ConnId, DialFailure, DialId, Direction, Event},
    fault::code,
    hash::{Map, NodeHasher},
    identity::PeerId,
    io::{Answer, Command, IoError, IoErrorKind, Query, ResolveId, SocketId},
    limits,
    probe::probe,
    timers::TimerId,
    transport::{
        addr::{AddrError, DnsKind, Host, Target},
        quic::Phase,
    },
};

/// Whom to dial, and where.
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
pub struct Dial {
    /// The peer that must answer, if it is known.
    pub peer: Option<PeerId>,
    /// Where to look for it, best first. If empty, the addresses that the node knows of the peer.
    pub addresses: Vec<Multiaddr>,
}

impl Dial {
    /// Whoever lives at this address; with `/p2p/ID` at its end, that peer and nobody else.
    pub fn address(address: Multiaddr) -> Self {
        Self { peer: None, addresses: vec![address] }
    }

    /// A peer, at the addresses that the node knows of it.
    pub fn peer(peer: PeerId) -> Self {
        Self { peer: Some(peer), addresses: Vec::new() }
    }

    /// A peer, at these addresses.
    pub fn peer_at(peer: PeerId, addresses: Vec<Multiaddr>) -> Self {
        Self { peer: Some(peer), addresses }
    }
}

impl From<Multiaddr> for Dial {
    fn from(address: Multiaddr) -> Self {
        Self::address(address)
    }
}

impl From<PeerId> for Dial {
    fn from(peer: PeerId) -> Self {
        Self::peer(peer)
    }
}

/// Why a dial was not begun. The node's state is untouched.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DialError {
    /// Neither a peer nor an address was given.
    #[error("nothing to dial: give a peer, an address, or both")]
    Empty,
    /// The node knows no address of this peer.
    #[error("no address of {0} is known; dial it with an address")]
    NoAddresses(PeerId),
    /// The peer is this node.
    #[error("{0} is this node itself")]
    SelfDial(PeerId),
    /// More addresses than [`DIAL_ADDRESSES`](limits::DIAL_ADDRESSES).
    #[error("{0} addresses are more than the {max} that one dial takes", max = limits::DIAL_ADDRESSES)]
    TooManyAddresses(usize),
    /// More dials than [`ConnectionLimits::pending_out`](crate::config::ConnectionLimits::pending_out).
    #[error("too many dials are under way; wait for some to end or raise limits.pending_out")]
    Busy,
    /// The node shuts down.
    #[error("the node shuts down")]
    ShuttingDown,
}

/// There is no such dial, or it has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("no such dial, or it has ended")]
pub struct UnknownDial;

struct Candidate {
    /// As the dialler wrote it.
    shown: Multiaddr,
    to: SocketAddr,
    expected: Option<PeerId>,
}

struct State {
    peer: Option<PeerId>,
    queue: VecDeque<Candidate>,
    lookups: usize,
    /// Candidates that wait for a socket.
    binding: usize,
    attempts: Vec<ConnId>,
    failures: Vec<(Multiaddr, AttemptError)>,
    /// Addresses considered so far, to bound what names may lead to.
    total: usize,
    /// All candidates so far, to bound what names may add.
    candidates: usize,
    deadline: Option<TimerId>,
    stagger: Option<TimerId>,
}

struct Attempt {
    dial: DialId,
    shown: Multiaddr,
    to: SocketAddr,
    timer: TimerId,
}

struct Lookup {
    dial: DialId,
    shown: Multiaddr,
    port: u16,
    expected: Option<PeerId>,
    depth: u8,
}

/// The dials under way.
pub(super) struct Dials {
    map: Map<DialId, State>,
    attempts: Map<ConnId, Attempt>,
    lookups: Map<ResolveId, Lookup>,
    binding: Vec<(SocketId, DialId, Candidate)>,
    next: u64,
    next_lookup: u64,
}

impl Dials {
    pub(super) fn new(hasher: NodeHasher) -> Self {
        Self {
            map: Map::with_hasher(hasher),
            attempts: Map::with_hasher(hasher),
            lookups: Map::with_hasher(hasher),
            binding: Vec::new(),
            next: 0,
            next_lookup: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.map.len()
    }

    pub(super) fn lookups(&self) -> usize {
        self.lookups.len()
    }

    /// Whether a dial waits for this socket to be bound.
    pub(super) fn wait_for(&self, socket: SocketId) -> bool {
        self.binding.iter().any(|(other, ..)| *other == socket)
    }
}

impl Hub {
    pub(super) fn dial(&mut self, dial: Dial) -> Result<DialId, DialError> {
        if self.shutdown != Shutdown::No {
            return Err(DialError::ShuttingDown);
        }
        let Dial { mut peer, mut addresses } = dial;
        if let (None, [address]) = (peer, &addresses[..]) {
            peer = Target::parse(address).ok().and_then(|target| peer_of(&target));
        }
        if let Some(own) = peer.filter(|peer| *peer == self.local.peer_id) {
            return Err(DialError::SelfDial(own));
        }
        let connected = peer.and_then(|peer| Some((peer, self.best_conn(peer)?)));
        if let (Some(peer), true, true) = (peer, addresses.is_empty(), connected.is_none()) {
            addresses = self.peers.addresses(peer).to_vec();
            if addresses.is_empty() {
                return Err(DialError::NoAddresses(peer));
            }
        }
        if addresses.is_empty() && connected.is_none() {
            return Err(DialError::Empty);
        }
        if addresses.len() > limits::DIAL_ADDRESSES {
            return Err(DialError::TooManyAddresses(addresses.len()));
        }
        if self.dials.map.len() >= self.config.limits.pending_out {
            probe!(self.probes, DialBusy);
            return Err(DialError::Busy);
        }
        self.dials.next += 1;
        let id = DialId(self.dials.next);
        if let Some((peer, conn)) = connected {
            probe!(self.probes, DialImmediate);
            self.emit(Event::Dialed { dial: id, conn, peer });
            return Ok(id);
        }
        let state = State {
            peer,
            queue: VecDeque::new(),
            lookups: 0,
            binding: 0,
            attempts: Vec::new(),
            failures: Vec::new(),
            total: 0,
            candidates: 0,
            deadline: Some(self.timers.set(self.now + self.patience(self.config.dial.timeout), Timer::Dial(id))),
            stagger: None,
        };
        self.dials.map.insert(id, state);
        for address in addresses {
            self.consider(id, &address, peer, 0);
        }
        self.kick(id);
        Ok(id)
    }

    /// Adds an address to a dial: to its queue, or as a lookup.
    fn consider(&mut self, id: DialId, address: &Multiaddr, expected: Option<PeerId>, depth: u8) {
        let Some(state) = self.dials.map.get_mut(&id) else { return };
        state.total += 1;
        if state.total > limits::DIAL_ADDRESSES {
            return;
        }
        let target = match Target::parse(address) {
            Ok(target) => target,
            Err(error) => {
                state.failures.push((address.clone(), error.into()));
                return;
            }
        };
        let named = peer_of(&target);
        if let (Some(named), Some(wanted)) = (named, expected)
            && named != wanted
        {
            probe!(self.probes, DialOtherName);
            state.failures.push((address.clone(), AddrError::OtherPeer.into()));
            return;
        }
        let expected = named.or(expected);
        let query = match target {
            Target::Quic(quic) => match quic.host {
                Host::Ip(ip) => {
                    self.enqueue(id, address, SocketAddr::new(ip, quic.port), expected);
                    return;
                }
                Host::Dns { name, kind } => {
                    let query = match kind {
                        DnsKind::Dns => Query::Ip(name),
                        DnsKind::Dns4 => Query::Ip4(name),
                        DnsKind::Dns6 => Query::Ip6(name),
                    };
                    (query, quic.port)
                }
            },
            Target::DnsAddr { .. } if depth >= limits::DNSADDR_DEPTH => {
                probe!(self.probes, DialTooDeep);
                state.failures.push((address.clone(), AttemptError::NoAddresses));
                return;
            }
            Target::DnsAddr { name, .. } => (Query::Txt(format!("_dnsaddr.{name}")), 0),
        };
        probe!(self.probes, DialLookup);
        state.lookups += 1;
        self.dials.next_lookup += 1;
        let lookup = ResolveId(self.dials.next_lookup);
        let (query, port) = query;
        self.dials.lookups.insert(lookup, Lookup { dial: id, shown: address.clone(), port, expected, depth });
        self.command(Command::Resolve { id: lookup, query });
    }

    fn enqueue(&mut self, id: DialId, shown: &Multiaddr, to: SocketAddr, expected: Option<PeerId>) {
        let Some(state) = self.dials.map.get_mut(&id) else { return };
        if to.port() == 0 || to.ip().is_unspecified() || to.ip().is_multicast() {
            let what = "nobody can be reached there: dial a unicast address and a port other than 0";
            state.failures.push((shown.clone(), AttemptError::Unusable(what.into())));
        } else if state.candidates < limits::DIAL_ADDRESSES && !state.queue.iter().any(|other| other.to == to) {
            state.candidates += 1;
            state.queue.push_back(Candidate { shown: shown.clone(), to, expected });
        }
    }

    /// A name lookup has ended.
    pub(super) fn on_resolved(&mut self, id: ResolveId, result: Result<Answer, IoError>) {
        let Some(lookup) = self.dials.lookups.remove(&id) else {
            self.stats.inputs_ignored += 1;
            probe!(self.probes, DialLookupLate);
            return;
        };
        let Lookup { dial, shown, port, expected, depth } = lookup;
        let Some(state) = self.dials.map.get_mut(&dial) else { return };
        state.lookups = state.lookups.saturating_sub(1);
        match result {
            Err(error) => {
                probe!(self.probes, DialLookupFailed);
                state.failures.push((shown, AttemptError::Resolve(error)));
            }
            Ok(Answer::Ips(ips)) => {
                let before = state.queue.len() + state.failures.len();
                for ip in interleave(ips) {
                    self.enqueue(dial, &shown, SocketAddr::new(ip, port), expected);
                }
                self.note_if_fruitless(dial, shown, before);
            }
            Ok(Answer::Txt(texts)) => {
                let before = state.queue.len() + state.failures.len() + state.lookups;
                let records = texts.iter().take(limits::RESOLVED_ADDRESSES);
                let addresses = records.filter_map(|text| text.strip_prefix("dnsaddr=")?.parse::<Multiaddr>().ok());
                for address in addresses {
                    // A bootstrap name lists all its peers and all their transports; only what fits is of interest.
                    let fits = Target::parse(&address).is_ok_and(|target| match (peer_of(&target), expected) {
                        (Some(named), Some(wanted)) => named == wanted,
                        _ => true,
                    });
                    if fits {
                        self.consider(dial, &address, expected, depth + 1);
                    }
                }
                self.note_if_fruitless(dial, shown, before);
            }
        }
        self.kick(dial);
    }

    fn note_if_fruitless(&mut self, id: DialId, shown: Multiaddr, before: usize) {
        let Some(state) = self.dials.map.get_mut(&id) else { return };
        if state.queue.len() + state.failures.len() + state.lookups == before {
            probe!(self.probes, DialLookupFruitless);
            state.failures.push((shown, AttemptError::NoAddresses));
        }
    }

    /// Starts what may be started; ends the dial if nothing is left.
    fn kick(&mut self, id: DialId) {
        loop {
            let Some(state) = self.dials.map.get_mut(&id) else { return };
            let under_way = state.attempts.len() + state.binding;
            // More than one at a time only after a head start, and while there are handshakes to spare.
            let spare = self.dials.attempts.len() < self.config.limits.pending_out;
            if under_way > 0 && (state.stagger.is_some() || !spare) {
                return;
            }
            let Some(candidate) = state.queue.pop_front() else {
                if under_way == 0 && state.lookups == 0 {
                    self.end_dial(id);
                }
                return;
            };
            if let Some(timer) = state.stagger.take() {
                self.timers.cancel(timer);
            }
            if !state.queue.is_empty() {
                let at = self.now + self.config.dial.stagger;
                state.stagger = Some(self.timers.set(at, Timer::Stagger(id)));
            }
            self.attempt(id, candidate);
        }
    }

    fn attempt(&mut self, id: DialId, candidate: Candidate) {
        let full = self.dials.attempts.len() >= self.config.limits.pending_out
            || self.established_out >= self.config.limits.established_out
            || self.established_in + self.established_out >= self.config.limits.established;
        if full {
            probe!(self.probes, DialLimited);
            self.note_failure(id, candidate.shown, AttemptError::LimitReached);
            return;
        }
        match self.socket_to_dial(candidate.to) {
            Ok(socket) if self.sockets.is_bound(socket) => self.connect(id, socket, candidate),
            Ok(socket) => {
                if let Some(state) = self.dials.map.get_mut(&id) {
                    state.binding += 1;
                    probe!(self.probes, DialWaitedForSocket);
                    self.dials.binding.push((socket, id, candidate));
                }
            }
            Err(error) => self.note_failure(id, candidate.shown, AttemptError::Bind(error)),
        }
    }

    /// A timeout of dials.
    fn patience(&self, timeout: Duration) -> Duration {
        let busy = self.established_in + self.established_out >= 3;
        if self.bugs.has(Bug::WrongTimeout) && busy { timeout * 10 } else { timeout }
    }

    fn connect(&mut self, id: DialId, socket: SocketId, candidate: Candidate) {
        let Candidate { shown, to, expected } = candidate;
        match self.quic.connect(self.now, socket, to, expected) {
            Ok(conn) => {
                let patience = self.patience(self.config.dial.attempt_timeout);
                let timer = self.timers.set(self.now + patience, Timer::Handshake(conn));
                self.dials.attempts.insert(conn, Attempt { dial: id, shown, to, timer });
                if let Some(state) = self.dials.map.get_mut(&id) {
                    state.attempts.push(conn);
                }
                self.step(conn);
            }
            Err(words) => self.note_failure(id, shown, AttemptError::Unusable(words)),
        }
    }

    fn note_failure(&mut self, id: DialId, shown: Multiaddr, error: AttemptError) {
        if let Some(state) = self.dials.map.get_mut(&id) {
            state.failures.push((shown, error));
        }
    }

    /// A socket that dials wait for is there, or will never be.
    pub(super) fn dial_from(&mut self, socket: SocketId, error: Option<&IoError>) {
        let ready: Vec<_> = self.dials.binding.extract_if(.., |(other, ..)| *other == socket).collect();
        for (_, id, candidate) in ready {
            let Some(state) = self.dials.map.get_mut(&id) else { continue };
            state.binding = state.binding.saturating_sub(1);
            match error {
                None => self.connect(id, socket, candidate),
                Some(error) => {
                    probe!(self.probes, DialSocketFailed);
                    self.note_failure(id, candidate.shown, AttemptError::Bind(error.clone()));
                }
            }
            self.kick(id);
        }
    }

    /// A listener that dials hoped to leave from will never be; they look for another socket.
    pub(super) fn dial_from_another(&mut self, socket: SocketId) {
        let waiting: Vec<_> = self.dials.binding.extract_if(.., |(other, ..)| *other == socket).collect();
        for (_, id, candidate) in waiting {
            let Some(state) = self.dials.map.get_mut(&id) else { continue };
            state.binding = state.binding.saturating_sub(1);
            state.queue.push_front(candidate);
            probe!(self.probes, DialSocketFailed);
            self.kick(id);
        }
    }

    /// The next address's turn has come.
    pub(super) fn on_stagger(&mut self, id: DialId) {
        if let Some(state) = self.dials.map.get_mut(&id) {
            state.stagger = None;
            probe!(self.probes, DialStaggered);
            self.kick(id);
        }
    }

    /// An attempt's connection is up.
    pub(super) fn dial_succeeded(&mut self, conn: ConnId, peer: PeerId, survivor: ConnId, direction: Direction) {
        match direction {
            Direction::Outbound => {
                let Some(attempt) = self.dials.attempts.remove(&conn) else { return };
                self.timers.cancel(attempt.timer);
                if self.dials.map.get(&attempt.dial).is_some_and(|state| state.attempts.len() > 1) {
                    probe!(self.probes, DialRaced);
                }
                self.finish_dial(attempt.dial, |hub| {
                    hub.emit(Event::Dialed { dial: attempt.dial, conn: survivor, peer });
                });
            }
            // The peer was faster: its connection is as good as ours. It believes in it already, since a server is
            // established after its client; so two peers can never both give up their own.
            Direction::Inbound => {
                let same = self.dials.map.iter().filter(|(_, state)| state.peer == Some(peer)).map(|(id, _)| *id);
                let mut same: Vec<DialId> = same.collect();
                same.sort_unstable();
                for dial in same {
                    probe!(self.probes, DialOvertaken);
                    self.finish_dial(dial, |hub| hub.emit(Event::Dialed { dial, conn: survivor, peer }));
                }
            }
        }
    }

    /// An attempt has failed. Harmless for a connection that is none.
    pub(super) fn attempt_failed(&mut self, conn: ConnId, error: AttemptError) {
        let Some(attempt) = self.dials.attempts.remove(&conn) else { return };
        self.timers.cancel(attempt.timer);
        self.attempt_over(conn, attempt.dial, attempt.shown, error);
    }

    /// An attempt's own timer has fired.
    pub(super) fn attempt_timed_out(&mut self, conn: ConnId) {
        if let Some(attempt) = self.dials.attempts.remove(&conn) {
            probe!(self.probes, DialAttemptTimedOut);
            self.attempt_over(conn, attempt.dial, attempt.shown, AttemptError::TimedOut);
        }
    }

    fn attempt_over(&mut self, conn: ConnId, dial: DialId, shown: Multiaddr, error: AttemptError) {
        if let Some(state) = self.dials.map.get_mut(&dial) {
            state.attempts.retain(|other| *other != conn);
            state.failures.push((shown, error));
            // A failure gives the next address its turn at once.
            if let Some(timer) = state.stagger.take() {
                self.timers.cancel(timer);
            }
            self.kick(dial);
        }
    }

    /// The operating system says that it cannot send there. Only handshakes believe it.
    pub(super) fn on_send_failed(&mut self, to: SocketAddr, error: &IoError) {
        if error.kind != IoErrorKind::Unreachable && error.kind != IoErrorKind::PermissionDenied {
            return;
        }
        let hit = self.dials.attempts.iter().filter(|(_, attempt)| attempt.to == to).map(|(conn, _)| *conn);
        let mut hit: Vec<ConnId> = hit.collect();
        hit.sort_unstable();
        for conn in hit {
            if self.quic.conns.get(&conn).is_some_and(|conn| conn.phase == Phase::Handshaking) {
                probe!(self.probes, DialUnreachable);
                self.quic.close(self.now, conn, code::OK, "");
                self.attempt_failed(conn, AttemptError::Unreachable { to, error: error.clone() });
                self.step(conn);
            }
        }
    }

    /// The dial has taken too long.
    pub(super) fn on_dial_timeout(&mut self, id: DialId) {
        let Some(state) = self.dials.map.get_mut(&id) else { return };
        state.deadline = None;
        probe!(self.probes, DialTimedOut);
        let waiting = state.queue.drain(..).map(|candidate| (candidate.shown, AttemptError::TimedOut));
        state.failures.extend(waiting);
        let mut under_way: Vec<Multiaddr> = Vec::new();
        for conn in &state.attempts {
            under_way.extend(self.dials.attempts.get(conn).map(|attempt| attempt.shown.clone()));
        }
        let mut lookups: Vec<_> = self.dials.lookups.iter().filter(|(_, lookup)| lookup.dial == id).collect();
        lookups.sort_unstable_by_key(|(id, _)| **id);
        let slow = || AttemptError::Resolve(IoError::new(IoErrorKind::TimedOut, "no answer in time"));
        state.failures.extend(under_way.into_iter().map(|shown| (shown, AttemptError::TimedOut)));
        state.failures.extend(lookups.into_iter().map(|(_, lookup)| (lookup.shown.clone(), slow())));
        self.end_dial(id);
    }

    pub(super) fn cancel_dial(&mut self, id: DialId) -> Result<(), UnknownDial> {
        if !self.dials.map.contains_key(&id) {
            return Err(UnknownDial);
        }
        probe!(self.probes, DialCancelled);
        self.finish_dial(id, |hub| hub.emit(Event::DialFailed { dial: id, error: DialFailure::Cancelled }));
        Ok(())
    }

    pub(super) fn cancel_all_dials(&mut self) {
        let mut all: Vec<DialId> = self.dials.map.keys().copied().collect();
        all.sort_unstable();
        for id in all {
            let _ = self.cancel_dial(id);
        }
    }

    fn end_dial(&mut self, id: DialId) {
        let failures =
            self.dials.map.get_mut(&id).map(|state| core::mem::take(&mut state.failures)).unwrap_or_default();
        let error = DialFailure::AllFailed(failures);
        self.finish_dial(id, |hub| hub.emit(Event::DialFailed { dial: id, error }));
    }

    /// Takes a dial and all that belongs to it out of the books, then says so.
    fn finish_dial(&mut self, id: DialId, say: impl FnOnce(&mut Self)) {
        let Some(state) = self.dials.map.remove(&id) else { return };
        for timer in [state.deadline, state.stagger].into_iter().flatten() {
            self.timers.cancel(timer);
        }
        self.dials.lookups.retain(|_, lookup| lookup.dial != id);
        self.dials.binding.retain(|(_, dial, _)| *dial != id);
        say(self);
        for conn in state.attempts {
            if let Some(attempt) = self.dials.attempts.remove(&conn) {
                self.timers.cancel(attempt.timer);
                self.quic.close(self.now, conn, code::OK, "");
                self.step(conn);
            }
        }
    }
}

fn peer_of(target: &Target) -> Option<PeerId> {
    let peer = match target {
        Target::Quic(quic) => quic.peer,
        Target::DnsAddr { peer, .. } => *peer,
    };
    peer.and_then(|peer| PeerId::try_from(peer).ok())
}

/// IPv6 and IPv4 in turns, as RFC 8305 §4 has it, and not too many.
fn interleave(ips: Vec<IpAddr>) -> impl Iterator<Item = IpAddr> {
    let (mut six, mut four): (VecDeque<_>, VecDeque<_>) =
        ips.into_iter().take(limits::RESOLVED_ADDRESSES).partition(IpAddr::is_ipv6);
    let mut turn = false;
    core::iter::from_fn(move || {
        turn = !turn;
        if turn { six.pop_front().or_else(|| four.pop_front()) } else { four.pop_front().or_else(|| six.pop_front()) }
    })
}

/// The wildcard address of the family of `to`, any port.
pub(super) fn wildcard_for(to: SocketAddr) -> SocketAddr {
    match to {
        SocketAddr::V4(_) => SocketAddr::new(IpAddr::V4(core::net::Ipv4Addr::UNSPECIFIED), 0),
        SocketAddr::V6(_) => SocketAddr::new(IpAddr::V6(core::net::Ipv6Addr::UNSPECIFIED), 0),
    }
}
