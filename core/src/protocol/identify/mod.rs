//! Identify and identify push: who is at the other end, what it speaks, and where it sees us.
//!
//! On every new connection both sides open `/ipfs/id/1.0.0`; the opener says nothing, the other writes its
//! [`message`] and closes. When the node's own addresses or protocols change, it waits a moment for more changes
//! ([`IdentifyConfig::push_delay`](crate::config::IdentifyConfig::push_delay)) and then pushes its whole state over
//! `/ipfs/id/push/1.0.0` to the peers that speak it.
//!
//! What a peer says is checked before it is believed: the key must be the handshake's, a signed record must be the
//! peer's own and no older than the last, addresses must name no other peer and fit the network that we meet it in
//! (nobody on the public internet sends us to `127.0.0.1`). A bad record falls back to the plain addresses, as go does;
//! a bad address is skipped alone.
//!
//! | role of a stream | starts with | ends with |
//! |---|---|---|
//! | asking | a connection | the peer's end of stream, or [`IdentifyConfig::timeout`](crate::config::IdentifyConfig::timeout) |
//! | hearing a push | the peer | the same |
//! | answering, pushing | the peer, a change | our message being written |
//!
//! Source: libp2p specs, identify.

pub mod message;
#[cfg(test)]
mod tests;

use core::net::{IpAddr, SocketAddr};
use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use multiaddr::Multiaddr;

use self::message::{IdentifyMessage, MAX_RECEIVED, Merger};
use super::MachineId;
use crate::{
    config::IdentifyConfig,
    event::{ConnId, Event, StreamError, StreamId},
    fault::{PeerFault, code},
    hash::Map,
    identity::{PeerId, PeerRecord, PublicKey, SignedEnvelope},
    node::{Cx, Machine, MachineSeed, Signal, Token, quic_multiaddr},
    probe::probe,
    protocol_id::ProtocolId,
    time::Time,
    transport::{
        addr::{Host, QuicAddr, Scope, Target, scope, strip_peer},
        frame::encode_frame,
        net::{Framing, NetEvent},
    },
};

/// `/ipfs/id/1.0.0`
pub const IDENTIFY: ProtocolId = ProtocolId::from_static("/ipfs/id/1.0.0");
/// `/ipfs/id/push/1.0.0`
pub const PUSH: ProtocolId = ProtocolId::from_static("/ipfs/id/push/1.0.0");

/// How identify streams are read.
pub const FRAMING: Framing = Framing::Frames { max: MAX_RECEIVED };

/// Exchanges that a peer may start on a connection at once, and how fast it earns more (go: pushes 10 and 0.2/s).
const BURST: u32 = 10;
const REFILL: Duration = Duration::from_secs(5);

/// Addresses kept of what a peer says.
const MAX_LISTEN_ADDRS: usize = 64;

/// The timer for pending pushes. Streams' timers carry the stream's number, which is never 0.
const PUSH_TIMER: Token = Token(0);

/// What a peer told about itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PeerInfo {
    /// The peer, proven by the handshake.
    pub peer: PeerId,
    /// Software and version, at most 512 bytes, as the peer wrote it:
    /// [`escape`](message::escape) before printing.
    pub agent_version: String,
    /// Protocol family and version.
    pub protocol_version: String,
    /// Protocols that it says it speaks.
    pub protocols: Vec<ProtocolId>,
    /// Addresses on which it says it listens, without `/p2p`.
    pub listen_addrs: Vec<Multiaddr>,
    /// Whether `listen_addrs` come from a record that the peer signed.
    pub signed: bool,
    /// From where it sees us.
    pub observed_addr: Option<Multiaddr>,
}

/// Why a peer could not be identified.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentifyError {
    /// Nothing within the timeout.
    #[error("no identify message in time")]
    TimedOut,
    /// The peer does not speak identify.
    #[error("the peer does not support identify")]
    Unsupported,
    /// The message broke the rules.
    #[error("bad identify message: {0}")]
    Invalid(String),
    /// The stream failed.
    #[error("{0}")]
    Stream(#[from] StreamError),
}

struct Conn {
    peer: PeerId,
    address: SocketAddr,
    info: Option<Arc<PeerInfo>>,
    /// Sequence number of the last signed record accepted.
    seq: u64,
    /// The node has changed since it last told this peer about itself.
    stale: bool,
    credit: u32,
    refilled: Time,
}

struct Incoming {
    conn: ConnId,
    merger: Merger,
    push: bool,
}

/// The identify machine.
pub struct Identify {
    config: IdentifyConfig,
    conns: Map<ConnId, Conn>,
    /// Streams on which a peer is telling us.
    incoming: Map<StreamId, Incoming>,
    /// Own record, sealed, by the kind of peers that it is for.
    sealed: Vec<(Audience, Option<Bytes>)>,
    last_seq: u64,
}

/// Which of our addresses a peer gets to know.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Audience {
    Loopback,
    Private,
    Global,
}

impl Audience {
    fn of(ip: IpAddr) -> Self {
        match scope(ip) {
            Scope::Loopback => Self::Loopback,
            Scope::Private | Scope::LinkLocal => Self::Private,
            Scope::Global | Scope::Unusable => Self::Global,
        }
    }

    /// Whether an address means the same to both ends.
    fn shares(self, address: &Multiaddr) -> bool {
        let ip = match Target::parse(address) {
            Ok(Target::Quic(quic)) => match quic.host {
                Host::Ip(ip) => ip,
                Host::Dns { .. } => return true,
            },
            Ok(Target::DnsAddr { .. }) => return true,
            // Transports that this node does not speak are kept for those who ask: judge them by their first part.
            Err(_) => match address.iter().next() {
                Some(multiaddr::Protocol::Ip4(ip)) => ip.into(),
                Some(multiaddr::Protocol::Ip6(ip)) => IpAddr::V6(ip).to_canonical(),
                Some(_) => return true,
                None => return false,
            },
        };
        match (self, scope(ip)) {
            _ if ip.is_unspecified() => false,
            (Self::Loopback, _) | (_, Scope::Global) => true,
            (Self::Private, Scope::Private | Scope::LinkLocal) => true,
            // Documentation ranges and the like are somebody's laboratory; they do no harm.
            (_, Scope::Unusable) => !ip.is_multicast(),
            _ => false,
        }
    }
}

impl Identify {
    /// A machine that knows nobody yet.
    pub fn new(config: IdentifyConfig, seed: MachineSeed) -> Self {
        let hasher = seed.0;
        Self {
            config,
            conns: Map::with_hasher(hasher),
            incoming: Map::with_hasher(hasher),
            sealed: Vec::new(),
            last_seq: 0,
        }
    }

    pub(crate) fn census(&self) -> usize {
        self.conns.len() + self.incoming.len()
    }

    /// What the peer at the other end of a connection told last.
    pub(crate) fn info(&self, conn: ConnId) -> Option<&Arc<PeerInfo>> {
        self.conns.get(&conn)?.info.as_ref()
    }

    /// Writes the node's state to a stream and lets go of it.
    fn tell(&mut self, cx: &mut Cx<'_>, stream: StreamId, to: SocketAddr) {
        let audience = Audience::of(to.ip());
        let listen_addrs: Vec<_> =
            cx.local.listen_addrs.iter().filter(|address| audience.shares(address)).cloned().collect();
        let message = IdentifyMessage {
            public_key: Some(cx.local.keypair.public().encode_protobuf().into()),
            signed_peer_record: self.record(cx, audience, &listen_addrs),
            listen_addrs,
            protocols: cx.local.protocols.clone(),
            observed_addr: Some(quic_multiaddr(to)),
            protocol_version: Some(cx.local.protocol_version.clone()),
            agent_version: Some(cx.local.agent_version.clone()),
        };
        for message in message.encode() {
            cx.net.write(stream, encode_frame(&message));
        }
        cx.net.close(stream);
    }

    /// The signed record for an audience; signed once for each change.
    fn record(&mut self, cx: &Cx<'_>, audience: Audience, addresses: &[Multiaddr]) -> Option<Bytes> {
        if let Some((_, sealed)) = self.sealed.iter().find(|(other, _)| *other == audience) {
            return sealed.clone();
        }
        self.last_seq = cx.wall.as_nanos().max(self.last_seq.saturating_add(1));
        let record = PeerRecord { peer_id: cx.local.peer_id, seq: self.last_seq, addresses: addresses.to_vec() };
        let sealed = if addresses.is_empty() {
            None
        } else {
            record.seal(&cx.local.keypair).ok().map(|envelope| envelope.encode().into())
        };
        self.sealed.push((audience, sealed.clone()));
        sealed
    }

    /// Checks and takes in what a peer said.
    fn hear(&mut self, cx: &mut Cx<'_>, stream: StreamId, incoming: Incoming) {
        let Incoming { conn, merger, push } = incoming;
        let Some(entry) = self.conns.get_mut(&conn) else { return };
        let message = match merger.finish() {
            Ok(message) => message,
            Err(error) => {
                fail(cx, conn, entry.peer, push, IdentifyError::Invalid(error.to_string()));
                return;
            }
        };
        if let Some(key) = &message.public_key {
            match PublicKey::decode_protobuf(key) {
                Ok(key) if key.peer_id() == entry.peer => {}
                Ok(_) => {
                    cx.fault(conn, Some(stream), PeerFault::IdentityMismatch);
                    return;
                }
                Err(error) => {
                    fail(cx, conn, entry.peer, push, IdentifyError::Invalid(format!("public key: {error}")));
                    return;
                }
            }
        }
        let audience = Audience::of(entry.address.ip());
        let own = |address: Multiaddr| {
            let (address, named) = strip_peer(address);
            let named = named.map(PeerId::try_from);
            let ours = named.is_none_or(|named| named.is_ok_and(|named| named == entry.peer));
            (ours && audience.shares(&address)).then_some(address)
        };
        let record = message.signed_peer_record.as_ref().and_then(|bytes| {
            let record = PeerRecord::open(&SignedEnvelope::decode(bytes).ok()?).ok()?;
            (record.peer_id == entry.peer && record.seq >= entry.seq).then_some(record)
        });
        let signed = record.is_some();
        if message.signed_peer_record.is_some() && !signed {
            probe!(cx.probes, IdentifyBadRecord);
        }
        let claimed = match record {
            Some(record) => {
                entry.seq = record.seq;
                record.addresses
            }
            None => message.listen_addrs,
        };
        let mut listen_addrs: Vec<Multiaddr> = Vec::new();
        for address in claimed.into_iter().filter_map(own) {
            if listen_addrs.len() < MAX_LISTEN_ADDRS && !listen_addrs.contains(&address) {
                listen_addrs.push(address);
            }
        }
        // Packets come from an IP address and a port, and not from another network than the one that we meet the peer in.
        let observed_addr = message.observed_addr.map(|address| strip_peer(address).0).filter(|address| {
            let endpoint = QuicAddr::parse(address).ok().and_then(|quic| quic.socket_addr());
            endpoint.is_some_and(|endpoint| endpoint.port() != 0) && audience.shares(address)
        });
        let mut protocols = message.protocols;
        protocols.sort_unstable();
        protocols.dedup();

        // In a push only what is there has changed.
        let last = entry.info.as_deref().filter(|_| push);
        let keep = |new: Option<String>, old: Option<&String>| new.or_else(|| old.cloned()).unwrap_or_default();
        let info = Arc::new(PeerInfo {
            peer: entry.peer,
            agent_version: keep(message.agent_version, last.map(|info| &info.agent_version)),
            protocol_version: keep(message.protocol_version, last.map(|info| &info.protocol_version)),
            protocols: match last {
                Some(last) if protocols.is_empty() => last.protocols.clone(),
                _ => protocols,
            },
            signed: match last {
                Some(last) if listen_addrs.is_empty() => last.signed,
                _ => signed,
            },
            listen_addrs: match last {
                Some(last) if listen_addrs.is_empty() => last.listen_addrs.clone(),
                _ => listen_addrs,
            },
            observed_addr: observed_addr.clone().or_else(|| last.and_then(|info| info.observed_addr.clone())),
        });
        entry.info = Some(info.clone());
        let (peer, stale) = (entry.peer, entry.stale);
        if let Some(address) = observed_addr {
            cx.emit(Event::ObservedAddress { conn, peer, address });
        }
        cx.emit(Event::Identified { conn, peer, info: info.clone() });
        cx.signal(Signal::Identified { conn, info });
        if stale {
            probe!(cx.probes, IdentifyPushedLate);
            self.push_to(cx, conn);
        }
    }

    fn push_to(&mut self, cx: &mut Cx<'_>, conn: ConnId) {
        let Some(entry) = self.conns.get_mut(&conn) else { return };
        entry.stale = true;
        let speaks = entry.info.as_ref().is_some_and(|info| info.protocols.contains(&PUSH));
        if speaks {
            entry.stale = false;
            let address = entry.address;
            probe!(cx.probes, IdentifyPushed);
            let stream = cx.net.open(conn, &[PUSH], FRAMING);
            self.tell(cx, stream, address);
        }
    }

    fn on_inbound(&mut self, cx: &mut Cx<'_>, stream: StreamId, conn: ConnId, protocol: &ProtocolId) {
        let Some(entry) = self.conns.get_mut(&conn) else {
            cx.net.reset(stream, code::STREAM_PROTOCOL_VIOLATION);
            return;
        };
        let earned = u32::try_from((cx.now - entry.refilled).as_nanos() / REFILL.as_nanos()).unwrap_or(u32::MAX);
        entry.credit = entry.credit.saturating_add(earned).min(BURST);
        // What is earned in part stays, but nothing is saved up beyond the burst.
        entry.refilled = if entry.credit == BURST { cx.now } else { entry.refilled + REFILL * earned };
        let Some(credit) = entry.credit.checked_sub(1) else {
            cx.fault(conn, Some(stream), PeerFault::PushFlood);
            return;
        };
        entry.credit = credit;
        if *protocol == PUSH {
            self.expect(cx, stream, conn, true);
        } else {
            entry.stale = false;
            let address = entry.address;
            self.tell(cx, stream, address);
        }
    }

    fn expect(&mut self, cx: &mut Cx<'_>, stream: StreamId, conn: ConnId, push: bool) {
        self.incoming.insert(stream, Incoming { conn, merger: Merger::new(), push });
        cx.timers.set(Token(stream.get()), cx.now + self.config.timeout);
    }

    fn take(&mut self, cx: &mut Cx<'_>, stream: StreamId) -> Option<Incoming> {
        let incoming = self.incoming.remove(&stream)?;
        cx.timers.cancel(Token(stream.get()));
        Some(incoming)
    }

    fn give_up(&mut self, cx: &mut Cx<'_>, incoming: &Incoming, error: IdentifyError) {
        if let Some(entry) = self.conns.get(&incoming.conn) {
            fail(cx, incoming.conn, entry.peer, incoming.push, error);
        }
    }
}

/// A failed push changes nothing that was known, so nobody needs to hear of it.
fn fail(cx: &mut Cx<'_>, conn: ConnId, peer: PeerId, push: bool, error: IdentifyError) {
    if !push {
        probe!(cx.probes, IdentifyFailed);
        cx.emit(Event::IdentifyFailed { conn, peer, error });
    }
}

impl Machine for Identify {
    const ID: MachineId = MachineId::Identify;

    fn on_net(&mut self, cx: &mut Cx<'_>, event: NetEvent) {
        match event {
            NetEvent::Connected { conn, peer, address, .. } => {
                let entry = Conn { peer, address, info: None, seq: 0, stale: false, credit: BURST, refilled: cx.now };
                self.conns.insert(conn, entry);
                let stream = cx.net.open(conn, &[IDENTIFY], FRAMING);
                self.expect(cx, stream, conn, false);
            }
            NetEvent::Moved { conn, address } => {
                if let Some(entry) = self.conns.get_mut(&conn) {
                    entry.address = address;
                }
            }
            NetEvent::Disconnected { conn, .. } => {
                self.conns.remove(&conn);
                if self.conns.is_empty() {
                    cx.timers.cancel(PUSH_TIMER);
                }
            }
            NetEvent::Inbound { stream, conn, protocol, .. } => self.on_inbound(cx, stream, conn, &protocol),
            NetEvent::Frame { stream, data } => {
                let Some(incoming) = self.incoming.get_mut(&stream) else { return };
                if let Err(error) = incoming.merger.push(data) {
                    let conn = incoming.conn;
                    if let Some(incoming) = self.take(cx, stream) {
                        cx.fault(conn, Some(stream), PeerFault::BadIdentify);
                        self.give_up(cx, &incoming, IdentifyError::Invalid(error.to_string()));
                    }
                }
            }
            NetEvent::End { stream } => {
                if let Some(incoming) = self.take(cx, stream) {
                    cx.net.close(stream);
                    self.hear(cx, stream, incoming);
                }
            }
            NetEvent::Failed { stream, error } => {
                if let Some(incoming) = self.take(cx, stream) {
                    let error = match error {
                        StreamError::Unsupported => IdentifyError::Unsupported,
                        StreamError::TimedOut => IdentifyError::TimedOut,
                        other => IdentifyError::Stream(other),
                    };
                    self.give_up(cx, &incoming, error);
                }
            }
            NetEvent::Opened { .. }
            | NetEvent::Data { .. }
            | NetEvent::Writable { .. }
            | NetEvent::Delivered { .. }
            | NetEvent::Stopped { .. } => {}
        }
    }

    fn on_timer(&mut self, cx: &mut Cx<'_>, token: Token) {
        if token == PUSH_TIMER {
            let mut conns: Vec<ConnId> = self.conns.keys().copied().collect();
            conns.sort_unstable();
            for conn in conns {
                self.push_to(cx, conn);
            }
            return;
        }
        let stream = StreamId(token.0);
        if let Some(incoming) = self.incoming.remove(&stream) {
            cx.net.reset(stream, code::NEGOTIATION_FAILED);
            self.give_up(cx, &incoming, IdentifyError::TimedOut);
        }
    }

    fn on_signal(&mut self, cx: &mut Cx<'_>, signal: &Signal) {
        match signal {
            Signal::LocalChanged => {
                self.sealed.clear();
                if cx.timers.is_set(PUSH_TIMER) {
                    probe!(cx.probes, IdentifyCoalesced);
                } else if !self.conns.is_empty() {
                    cx.timers.set(PUSH_TIMER, cx.now + self.config.push_delay);
                }
            }
            Signal::Identified { .. } => {}
        }
    }
}
