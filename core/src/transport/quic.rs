//! QUIC connections: one endpoint, its connections, and the ring of those that may have something to send.
//!
//! Touching a connection puts it once into the ring; [`Quic::poll_transmit`] goes round the ring, one batch of
//! datagrams at a time. A connection whose socket is blocked leaves the ring until the socket is ready again. So a
//! call costs the connections that have work, never all of them.
//!
//! Everything here is mechanism. Who is admitted, what a connection is for and when it ends is decided by the hub.

use core::{
    net::{IpAddr, SocketAddr},
    num::NonZeroUsize,
    time::Duration,
};
use std::{collections::VecDeque, sync::Arc, time::Instant};

use bytes::{Bytes, BytesMut};
use noq_proto::{
    Connection, ConnectionHandle, DatagramEvent, Dir, EcnCodepoint, Endpoint, FourTuple, Incoming, PathId, VarInt,
};

use super::{certificate::ServerVerifier, crypto::QuicCrypto};
use crate::{
    config::QuicConfig,
    event::{ConnId, Direction, StreamId},
    hash::{Map, NodeHasher},
    identity::PeerId,
    io::{Ecn, SocketId, Transmit, TransmitBuf},
    limits,
    probe::{Probes, probe},
    time::Time,
    timers::TimerId,
};

/// One QUIC connection.
pub(crate) struct Conn {
    pub(crate) id: ConnId,
    handle: ConnectionHandle,
    pub(crate) quic: Box<Connection>,
    /// The socket that it sends from.
    pub(crate) socket: SocketId,
    /// Where packets last came in on another socket. Used only towards that very address, which QUIC validates.
    roamed: Option<(SocketAddr, SocketId)>,
    /// The address last reported to the application.
    pub(crate) remote: SocketAddr,
    pub(crate) direction: Direction,
    pub(crate) phase: Phase,
    /// Who answered a dial, if somebody proved anything by TLS.
    verifier: Option<Arc<ServerVerifier>>,
    pub(crate) timer: Option<TimerId>,
    in_ring: bool,
    /// Streams in use, by QUIC's id.
    pub(crate) streams: Map<noq_proto::StreamId, StreamId>,
    /// Streams to be opened when the peer allows more.
    pub(crate) waiting: VecDeque<StreamId>,
    /// Streams with small writes since the last datagram.
    pub(crate) gathering: Vec<StreamId>,
    /// Inbound streams whose protocol is not agreed yet.
    pub(crate) negotiating: usize,
    allowance: u32,
    /// Datagrams since [`Streams::sweep`](super::stream::Streams::sweep).
    unswept: u32,
    /// Bytes that the stream layer holds for applications.
    held: usize,
    /// The connection's receive window while nothing is held.
    window: u32,
}

/// How far a connection has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Phase {
    /// Handshake under way.
    Handshaking,
    /// Up, with this peer.
    Established(PeerId),
    /// Closed; QUIC still answers late packets for a while.
    Closed,
}

/// A datagram that the endpoint answers without a connection.
struct Answer {
    transmit: Transmit,
    data: Vec<u8>,
}

/// What became of a datagram.
pub(crate) enum Arrival {
    /// It belonged to this connection, which must be stepped.
    Conn(ConnId),
    /// Somebody wants to connect.
    Incoming(Box<Incoming>),
    /// Dropped, buffered or answered.
    Handled,
}

/// The QUIC endpoint and its connections.
pub(crate) struct Quic {
    crypto: QuicCrypto,
    endpoint: Endpoint,
    origin: Instant,
    hasher: NodeHasher,
    pub(crate) conns: Map<ConnId, Conn>,
    by_handle: Vec<Option<ConnId>>,
    next_conn: u64,
    ring: VecDeque<ConnId>,
    blocked: Vec<(SocketId, VecDeque<ConnId>)>,
    answers: VecDeque<Answer>,
    scratch: Vec<u8>,
    initial_streams: u32,
    max_streams: u32,
    connection_window: u32,
    pub(crate) stateless_dropped: u64,
    /// Connections visited, see [`Stats::visits`](crate::Stats::visits).
    pub(crate) visits: u64,
    /// What the hub does not see; its own are elsewhere.
    pub(crate) probes: Probes,
}

impl Quic {
    pub(crate) fn new(crypto: QuicCrypto, config: &QuicConfig, origin: Instant, hasher: NodeHasher) -> Self {
        let endpoint = Endpoint::new(crypto.endpoint.clone(), Some(crypto.server.clone()), true);
        Self {
            crypto,
            endpoint,
            origin,
            hasher,
            conns: Map::with_hasher(hasher),
            by_handle: Vec::new(),
            next_conn: 0,
            ring: VecDeque::new(),
            blocked: Vec::new(),
            answers: VecDeque::new(),
            scratch: Vec::new(),
            initial_streams: config.initial_streams,
            max_streams: config.max_streams,
            connection_window: config.connection_window,
            stateless_dropped: 0,
            visits: 0,
            probes: Probes::default(),
        }
    }

    pub(crate) fn set_wall(&self, wall: crate::time::UnixTime) {
        self.crypto.wall.set(wall);
    }

    /// The instant that stands for this time. Saturates where the platform's clock type ends.
    pub(crate) fn instant(&self, time: Time) -> Instant {
        self.origin.checked_add(Duration::from_nanos(time.as_nanos())).unwrap_or(self.origin)
    }

    fn time(&self, instant: Instant) -> Time {
        Time::ZERO + instant.saturating_duration_since(self.origin)
    }

    /// Starts a handshake. `Err` says why the address is unusable.
    pub(crate) fn connect(
        &mut self,
        now: Time,
        socket: SocketId,
        remote: SocketAddr,
        expected: Option<PeerId>,
    ) -> Result<ConnId, String> {
        let (config, verifier) = self.crypto.client(expected).ok_or("TLS could not be set up")?;
        let instant = self.instant(now);
        // The name is never sent (no SNI); QUIC wants one.
        let (handle, quic) =
            self.endpoint.connect(instant, config, remote, "libp2p").map_err(|error| error.to_string())?;
        Ok(self.insert(handle, quic, socket, remote, Direction::Outbound, verifier))
    }

    /// Feeds one datagram.
    pub(crate) fn datagram(
        &mut self,
        now: Time,
        socket: SocketId,
        from: SocketAddr,
        to_ip: Option<IpAddr>,
        ecn: Option<Ecn>,
        data: BytesMut,
    ) -> Arrival {
        let instant = self.instant(now);
        let ecn = ecn.map(to_codepoint);
        self.scratch.clear();
        match self.endpoint.handle(instant, FourTuple::new(from, to_ip), ecn, data, &mut self.scratch) {
            None => Arrival::Handled,
            Some(DatagramEvent::Response(transmit)) => {
                match *self.scratch {
                    [..0x80, ..] => probe!(self.probes, AnswerReset),
                    // A long header with version 0: RFC 9000 §17.2.1.
                    [_, 0, 0, 0, 0, ..] => probe!(self.probes, AnswerVersions),
                    _ => {}
                }
                self.answer(socket, &transmit);
                Arrival::Handled
            }
            Some(DatagramEvent::NewConnection(incoming)) => Arrival::Incoming(Box::new(incoming)),
            Some(DatagramEvent::ConnectionEvent(handle, event)) => {
                let Some(conn) = self.by_handle.get(handle.0).copied().flatten() else { return Arrival::Handled };
                let Some(entry) = self.conns.get_mut(&conn) else { return Arrival::Handled };
                if entry.socket != socket {
                    probe!(self.probes, ConnRoamed);
                    entry.roamed = Some((from, socket));
                } else if entry.roamed.is_some_and(|(remote, _)| remote == from) {
                    entry.roamed = None;
                }
                entry.quic.handle_event(event);
                entry.unswept += 1;
                Arrival::Conn(conn)
            }
        }
    }

    /// Begins the server's side of a handshake.
    pub(crate) fn accept(&mut self, now: Time, socket: SocketId, incoming: Incoming) -> Option<ConnId> {
        let remote = incoming.remote_address();
        let instant = self.instant(now);
        self.scratch.clear();
        match self.endpoint.accept(incoming, instant, &mut self.scratch, None) {
            Ok((handle, quic)) => Some(self.insert(handle, quic, socket, remote, Direction::Inbound, None)),
            Err(error) => {
                if let Some(transmit) = error.response {
                    self.answer(socket, &transmit);
                }
                None
            }
        }
    }

    /// Asks the newcomer to prove its address.
    pub(crate) fn retry(&mut self, socket: SocketId, incoming: Incoming) {
        self.scratch.clear();
        match self.endpoint.retry(incoming, &mut self.scratch) {
            Ok(transmit) => self.answer(socket, &transmit),
            Err(error) => self.endpoint.ignore(error.into_incoming()),
        }
    }

    /// Turns the newcomer away with an answer.
    pub(crate) fn refuse(&mut self, socket: SocketId, incoming: Incoming) {
        self.scratch.clear();
        let transmit = self.endpoint.refuse(incoming, &mut self.scratch);
        self.answer(socket, &transmit);
    }

    /// Turns the newcomer away in silence.
    pub(crate) fn ignore(&mut self, incoming: Incoming) {
        self.endpoint.ignore(incoming);
    }

    fn insert(
        &mut self,
        handle: ConnectionHandle,
        quic: Connection,
        socket: SocketId,
        remote: SocketAddr,
        direction: Direction,
        verifier: Option<Arc<ServerVerifier>>,
    ) -> ConnId {
        self.next_conn += 1;
        let id = ConnId(self.next_conn);
        if self.by_handle.len() <= handle.0 {
            self.by_handle.resize(handle.0 + 1, None);
        }
        if let Some(slot) = self.by_handle.get_mut(handle.0) {
            *slot = Some(id);
        }
        let conn = Conn {
            id,
            handle,
            quic: Box::new(quic),
            socket,
            roamed: None,
            remote,
            direction,
            phase: Phase::Handshaking,
            verifier,
            timer: None,
            in_ring: false,
            streams: Map::with_hasher(self.hasher),
            waiting: VecDeque::new(),
            gathering: Vec::new(),
            negotiating: 0,
            allowance: self.initial_streams,
            unswept: 0,
            held: 0,
            window: self.connection_window,
        };
        self.conns.insert(id, conn);
        id
    }

    fn answer(&mut self, socket: SocketId, transmit: &noq_proto::Transmit) {
        if self.answers.len() >= limits::STATELESS_ANSWERS {
            self.stateless_dropped += 1;
            probe!(self.probes, AnswerShed);
            return;
        }
        let transmit = Transmit {
            socket,
            to: transmit.destination,
            from_ip: transmit.src_ip,
            ecn: transmit.ecn.map(from_codepoint),
            len: transmit.size,
            segment: None,
        };
        let data = self.scratch.get(..transmit.len).unwrap_or_default().to_vec();
        self.answers.push_back(Answer { transmit, data });
    }

    /// Passes messages between a connection and the endpoint. Returns `true` when the connection is over for good, in
    /// which case it has been removed.
    pub(crate) fn exchange(&mut self, id: ConnId) -> bool {
        let Some(conn) = self.conns.get_mut(&id) else { return true };
        self.visits += 1;
        let mut drained = false;
        while let Some(event) = conn.quic.poll_endpoint_events() {
            drained |= event.is_drained();
            if let Some(answer) = self.endpoint.handle_event(conn.handle, event) {
                conn.quic.handle_event(answer);
            }
        }
        drained
    }

    /// Forgets a drained connection.
    pub(crate) fn remove(&mut self, id: ConnId) -> Option<Conn> {
        let conn = self.conns.remove(&id)?;
        if let Some(slot) = self.by_handle.get_mut(conn.handle.0) {
            *slot = None;
        }
        Some(conn)
    }

    /// The connection's next deadline.
    pub(crate) fn deadline(&self, id: ConnId) -> Option<Time> {
        let instant = self.conns.get(&id)?.quic.poll_timeout()?;
        Some(self.time(instant))
    }

    /// Tells a connection that its deadline has come.
    pub(crate) fn timeout(&mut self, now: Time, id: ConnId) {
        let instant = self.instant(now);
        if let Some(conn) = self.conns.get_mut(&id) {
            conn.quic.handle_timeout(instant);
        }
    }

    /// Closes a connection; its last packets are still to be sent.
    pub(crate) fn close(&mut self, now: Time, id: ConnId, code: u32, reason: &str) {
        let instant = self.instant(now);
        if let Some(conn) = self.conns.get_mut(&id) {
            let cut = reason.floor_char_boundary_at(limits::CLOSE_REASON_LEN);
            conn.quic.close(
                instant,
                VarInt::from_u32(code),
                Bytes::copy_from_slice(reason.as_bytes().get(..cut).unwrap_or_default()),
            );
            conn.phase = Phase::Closed;
        }
    }

    /// Raises the number of streams that the peer may open, if it makes use of what it has. Says whether.
    pub(crate) fn grow_allowance(&mut self, id: ConnId) -> bool {
        let max = self.max_streams;
        let Some(conn) = self.conns.get_mut(&id) else { return false };
        let used = conn.quic.streams().remote_open_streams(Dir::Bi);
        let grow = conn.allowance < max && used * 2 > u64::from(conn.allowance);
        if grow {
            conn.allowance = conn.allowance.saturating_mul(2).min(max);
            conn.quic.set_max_concurrent_streams(Dir::Bi, VarInt::from_u32(conn.allowance));
        }
        grow
    }

    /// Puts a connection into the ring, unless it is there.
    pub(crate) fn touch(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get_mut(&id)
            && !conn.in_ring
        {
            conn.in_ring = true;
            self.ring.push_back(id);
        }
    }

    /// The next connection in the ring, if small writes are to be sent on it.
    pub(crate) fn next_gathering(&self) -> Option<ConnId> {
        let id = *self.ring.front()?;
        (!self.conns.get(&id)?.gathering.is_empty()).then_some(id)
    }

    /// Whether anything waits that [`poll_transmit`](Self::poll_transmit) would offer now.
    pub(crate) fn wants_transmit(&self) -> bool {
        !self.ring.is_empty() || self.answers.iter().any(|answer| !self.is_blocked(answer.transmit.socket))
    }

    /// Whether a connection has something to send and cannot, because its socket is blocked.
    pub(crate) fn has_parked(&self) -> bool {
        self.blocked.iter().any(|(_, parked)| !parked.is_empty())
    }

    pub(crate) fn socket_blocked(&mut self, socket: SocketId) {
        if !self.blocked.iter().any(|(blocked, _)| *blocked == socket) {
            self.blocked.push((socket, VecDeque::new()));
        }
    }

    pub(crate) fn socket_ready(&mut self, socket: SocketId) {
        if let Some(at) = self.blocked.iter().position(|(blocked, _)| *blocked == socket) {
            self.ring.extend(self.blocked.swap_remove(at).1);
        }
    }

    /// Forgets a socket that is no more: it is not blocked, and nothing is to be sent from it.
    pub(crate) fn forget_socket(&mut self, socket: SocketId) {
        self.socket_ready(socket);
        self.answers.retain(|answer| answer.transmit.socket != socket);
        for conn in self.conns.values_mut() {
            conn.roamed = conn.roamed.filter(|(_, other)| *other != socket);
        }
    }

    /// Writes the next batch of datagrams into `buf`. The second part is the connection whose timer must be set anew.
    pub(crate) fn poll_transmit(
        &mut self,
        now: Time,
        buf: &mut TransmitBuf<'_>,
        segments_of: impl Fn(SocketId) -> NonZeroUsize,
        socket_for: impl Fn(SocketId, SocketAddr) -> SocketId,
    ) -> TransmitStep {
        if let Some(at) = self.answers.iter().position(|answer| !self.is_blocked(answer.transmit.socket))
            && let Some(answer) = self.answers.remove(at)
        {
            buf.data.extend_from_slice(&answer.data);
            return TransmitStep::Send(answer.transmit, None);
        }
        let instant = self.instant(now);
        let Some(id) = self.ring.pop_front() else { return TransmitStep::Idle };
        let Some(conn) = self.conns.get_mut(&id) else { return TransmitStep::Quiet(id) };
        let socket = conn.sends_from();
        if let Some((_, parked)) = self.blocked.iter_mut().find(|(blocked, _)| *blocked == socket) {
            parked.push_back(id);
            return TransmitStep::Parked;
        }
        self.visits += 1;
        let segments = buf.max_segments.min(segments_of(socket));
        let start = buf.data.len();
        // The library writes from the start of the buffer that it is given.
        let mut fresh = Vec::new();
        let target = if start == 0 { &mut *buf.data } else { &mut fresh };
        match conn.quic.poll_transmit(instant, segments, target) {
            Some(transmit) => {
                self.ring.push_back(id);
                let socket = socket_for(conn.home(transmit.destination), transmit.destination);
                if self.is_blocked(socket) {
                    // A probe of another path, whose socket is blocked: as good as lost.
                    buf.data.truncate(start);
                    return TransmitStep::Quiet(id);
                }
                buf.data.extend_from_slice(&fresh);
                TransmitStep::Send(
                    Transmit {
                        socket,
                        to: transmit.destination,
                        from_ip: transmit.src_ip,
                        ecn: transmit.ecn.map(from_codepoint),
                        len: transmit.size,
                        segment: transmit.segment_size.and_then(NonZeroUsize::new),
                    },
                    Some(id),
                )
            }
            None => {
                conn.in_ring = false;
                TransmitStep::Quiet(id)
            }
        }
    }

    fn is_blocked(&self, socket: SocketId) -> bool {
        self.blocked.iter().any(|(blocked, _)| *blocked == socket)
    }
}

/// What [`Quic::poll_transmit`] did.
pub(crate) enum TransmitStep {
    /// A batch is in the buffer; if a connection sent it, its timer has moved.
    Send(Transmit, Option<ConnId>),
    /// This connection has nothing to send now.
    Quiet(ConnId),
    /// A connection moved to its blocked socket's queue.
    Parked,
    /// Nobody has anything to send.
    Idle,
}

impl Conn {
    /// The peer, while the connection is up.
    pub(crate) fn peer(&self) -> Option<PeerId> {
        match self.phase {
            Phase::Established(peer) => Some(peer),
            Phase::Handshaking | Phase::Closed => None,
        }
    }

    /// The socket for packets to where the peer is now.
    fn sends_from(&self) -> SocketId {
        self.home(self.current_remote())
    }

    /// The socket for packets to an address.
    fn home(&self, to: SocketAddr) -> SocketId {
        match self.roamed {
            Some((remote, socket)) if remote == to => socket,
            _ => self.socket,
        }
    }

    /// Whether so many datagrams came in that unread data must be swept together.
    pub(crate) fn needs_sweep(&mut self) -> bool {
        let due = self.unswept >= limits::SWEEP_AFTER;
        if due {
            self.unswept = 0;
        }
        due
    }

    /// Whether as much is held as the connection may have unread.
    pub(crate) fn holds_its_window(&self) -> bool {
        u32::try_from(self.held).map_or(true, |held| held >= self.window)
    }

    /// Counts bytes that were taken from QUIC but not by their reader.
    pub(crate) fn hold(&mut self, bytes: usize) {
        self.held += bytes;
        self.set_window(bytes);
    }

    /// Counts them back when they are read.
    pub(crate) fn unhold(&mut self, bytes: usize) {
        self.held = self.held.saturating_sub(bytes);
        self.set_window(bytes);
    }

    fn set_window(&mut self, changed: usize) {
        if changed > 0 {
            let held = u32::try_from(self.held).unwrap_or(u32::MAX);
            let window = self.window.saturating_sub(held).max(limits::LEAST_WINDOW);
            self.quic.set_receive_window(VarInt::from_u32(window));
        }
    }

    /// Smoothed round-trip time.
    pub(crate) fn rtt(&self) -> Duration {
        self.quic.rtt(PathId::ZERO).unwrap_or_default()
    }

    /// The peer's current address.
    pub(crate) fn current_remote(&self) -> SocketAddr {
        self.quic.network_path(PathId::ZERO).map_or(self.remote, |path| path.remote())
    }

    /// The peer that proved itself in the handshake.
    pub(crate) fn proved_peer(&self) -> Option<PeerId> {
        let identity = self.quic.crypto_session().peer_identity()?;
        #[cfg(feature = "simulation")]
        if let Some(answered) = identity.downcast_ref::<crate::simulation::Answered>() {
            return Some(answered.peer);
        }
        let chain = identity.downcast::<Vec<rustls::pki_types::CertificateDer<'static>>>().ok()?;
        super::certificate::peer_key(chain.first()?).map(|key| key.peer_id())
    }

    /// Whom we dialled and who answered instead, if the handshake failed for that.
    pub(crate) fn wrong_peer(&self) -> Option<(PeerId, PeerId)> {
        #[cfg(feature = "simulation")]
        if let Some(identity) = self.quic.crypto_session().peer_identity()
            && let Some(answered) = identity.downcast_ref::<crate::simulation::Answered>()
        {
            return answered
                .expected
                .filter(|expected| *expected != answered.peer)
                .map(|dialled| (dialled, answered.peer));
        }
        self.verifier.as_ref()?.wrong_peer()
    }

    /// A number that both ends derive from the handshake and nobody else can choose or know.
    pub(crate) fn tag(&self) -> Option<[u8; 32]> {
        let mut tag = [0; 32];
        self.quic.crypto_session().export_keying_material(&mut tag, b"EXPORTER-peerwork-duplicate", b"").ok()?;
        Some(tag)
    }
}

/// `str::floor_char_boundary`, which is newer than the oldest compiler supported.
trait FloorCharBoundary {
    fn floor_char_boundary_at(&self, at: usize) -> usize;
}

impl FloorCharBoundary for str {
    fn floor_char_boundary_at(&self, at: usize) -> usize {
        (0..=at.min(self.len())).rev().find(|at| self.is_char_boundary(*at)).unwrap_or(0)
    }
}

fn to_codepoint(ecn: Ecn) -> EcnCodepoint {
    match ecn {
        Ecn::Ect0 => EcnCodepoint::Ect0,
        Ecn::Ect1 => EcnCodepoint::Ect1,
        Ecn::Ce => EcnCodepoint::Ce,
    }
}

fn from_codepoint(ecn: EcnCodepoint) -> Ecn {
    match ecn {
        EcnCodepoint::Ect0 => Ecn::Ect0,
        EcnCodepoint::Ect1 => Ecn::Ect1,
        EcnCodepoint::Ce => Ecn::Ce,
    }
}
