//! The life of a connection: admission, establishment, duplicates, loss.
//!
//! Duplicates. Two peers that dial each other at the same moment get two connections. Both ends derive a tag for each
//! connection from its handshake (a TLS exporter, equal at both ends and beyond anybody's choice) and keep the one
//! with the smaller tag; so they agree without a word. The other connection is *superseded*: it takes no new streams,
//! finishes those that it has, and closes.

use core::{num::NonZeroUsize, time::Duration};

use noq_proto::{ConnectionError, Event as QuicEvent, Incoming, PathEvent, StreamEvent};

use super::{
    cx::{Signal, quic_multiaddr},
    hub::{Hub, Shutdown},
    timer::Timer,
};
use crate::{
    bug::Bug,
    event::{AttemptError, CloseReason, ConnId, Direction, Event, StreamId},
    fault::code,
    identity::PeerId,
    io::{SocketId, Transmit, TransmitBuf},
    limits,
    probe::probe,
    time::Time,
    transport::{
        net::NetEvent,
        quic::{Arrival, Phase, TransmitStep},
    },
};

impl Hub {
    /// Handles one datagram.
    pub(super) fn on_datagram(&mut self, datagram: crate::io::Datagram) {
        let crate::io::Datagram { socket, from, to_ip, ecn, segment, mut data } = datagram;
        if !self.sockets.is_bound(socket) {
            self.stats.inputs_ignored += 1;
            probe!(self.probes, DatagramStray);
            return;
        }
        // Work left over from earlier calls counts: it is outputs that nobody could poll yet, and a peer can make it
        // faster than one call a datagram gets it done.
        if self.outputs.len() + self.work.len() >= limits::OUTPUTS_HIGH_WATER {
            self.stats.datagrams_shed += 1;
            probe!(self.probes, DatagramShed);
            return;
        }
        let segment = segment.map_or(usize::MAX, NonZeroUsize::get);
        // Connections are stepped once for a whole batch.
        let mut touched = None;
        while !data.is_empty() {
            let rest = if data.len() > segment { data.split_off(segment) } else { bytes::BytesMut::new() };
            let one = core::mem::replace(&mut data, rest);
            self.stats.datagrams_in += 1;
            match self.quic.datagram(self.now, socket, from, to_ip, ecn, one) {
                Arrival::Conn(conn) => {
                    if touched != Some(conn)
                        && let Some(before) = touched.replace(conn)
                    {
                        self.step(before);
                    }
                }
                Arrival::Incoming(incoming) => self.on_incoming(socket, *incoming),
                Arrival::Handled => {}
            }
        }
        if let Some(conn) = touched {
            self.step(conn);
        }
    }

    /// Decides about a newcomer.
    fn on_incoming(&mut self, socket: SocketId, incoming: Incoming) {
        let limits = &self.config.limits;
        if !self.sockets.is_listening(socket) || self.shutdown != Shutdown::No {
            probe!(self.probes, IncomingIgnored);
            self.quic.ignore(incoming);
            return;
        }
        let full = self.pending_in >= limits.pending_in
            || self.established_in >= limits.established_in
            || self.established_in + self.established_out >= limits.established;
        if full {
            self.stats.refused += 1;
            probe!(self.probes, IncomingRefused);
            self.quic.refuse(socket, incoming);
            return;
        }
        if self.pending_in >= self.config.quic.retry_above
            && !incoming.remote_address_validated()
            && incoming.may_retry()
        {
            self.stats.retried += 1;
            probe!(self.probes, RetrySent);
            self.quic.retry(socket, incoming);
            return;
        }
        if incoming.remote_address_validated() {
            probe!(self.probes, RetryProven);
        }
        if let Some(conn) = self.quic.accept(self.now, socket, incoming) {
            self.pending_in += 1;
            let timer = self.timers.set(self.now + self.config.dial.attempt_timeout, Timer::Handshake(conn));
            self.handshakes.insert(conn, timer);
            self.step(conn);
        }
    }

    /// Takes in everything that a connection found out, after it was given something to do.
    pub(super) fn step(&mut self, id: ConnId) {
        let drained = self.quic.exchange(id);
        while let Some(event) = self.quic.conns.get_mut(&id).and_then(|conn| conn.quic.poll()) {
            match event {
                QuicEvent::Connected => self.on_established(id),
                QuicEvent::ConnectionLost { reason } => self.on_lost(id, &reason),
                QuicEvent::Stream(event) => self.on_stream_event(id, event),
                QuicEvent::Path(PathEvent::ObservedAddr { addr, .. }) => self.on_observed(id, addr),
                _ => {}
            }
        }
        self.notice_move(id);
        if let Some(conn) = self.quic.conns.get_mut(&id)
            && conn.needs_sweep()
        {
            self.streams.sweep(conn, &mut self.probes);
        }
        // Handling events may have made more for the endpoint.
        if self.quic.exchange(id) || drained {
            self.on_drained(id);
            return;
        }
        self.rearm(id);
        self.quic.touch(id);
        self.leave_if_idle(id);
    }

    fn on_stream_event(&mut self, id: ConnId, event: StreamEvent) {
        let known = |hub: &Self, stream: noq_proto::StreamId| -> Option<StreamId> {
            hub.quic.conns.get(&id)?.streams.get(&stream).copied()
        };
        match event {
            StreamEvent::Opened { .. } => {
                self.on_conn(id, |streams, cx| streams.accept(cx));
                if self.quic.grow_allowance(id) {
                    probe!(self.probes, ConnCreditGrown);
                }
            }
            StreamEvent::Available { .. } => {
                self.on_conn(id, |streams, cx| streams.open_waiting(cx));
            }
            StreamEvent::Readable { id: stream } => {
                if let Some(stream) = known(self, stream) {
                    self.on_conn(id, |streams, cx| streams.on_readable(cx, stream));
                }
            }
            StreamEvent::Writable { id: stream } => {
                if let Some(stream) = known(self, stream) {
                    self.on_conn(id, |streams, cx| streams.on_writable(cx, stream));
                }
            }
            StreamEvent::Finished { id: stream } => {
                if let Some(stream) = known(self, stream) {
                    self.on_conn(id, |streams, cx| streams.on_finished(cx, stream));
                }
            }
            StreamEvent::Stopped { id: stream, error_code } => {
                if let Some(stream) = known(self, stream) {
                    let code = error_code.into_inner();
                    self.on_conn(id, |streams, cx| streams.on_stopped(cx, stream, code));
                }
            }
        }
        self.collect();
    }

    fn on_established(&mut self, id: ConnId) {
        let Some(conn) = self.quic.conns.get(&id) else { return };
        let (direction, remote) = (conn.direction, conn.current_remote());
        let proved = conn.proved_peer();
        self.handshake_over(id);
        let Some(peer) = proved else {
            // The verifiers accept no handshake without a key, so this is not to be seen.
            self.turn_away(id, code::PROTOCOL_VIOLATION, "no libp2p key", AttemptError::NoAddresses);
            return;
        };
        if peer == self.local.peer_id {
            probe!(self.probes, DialSelf);
            self.turn_away(id, code::GATED, "connection to oneself", AttemptError::SelfDial);
            return;
        }
        let limits = &self.config.limits;
        let (of_kind, most) = match direction {
            Direction::Inbound => (self.established_in, limits.established_in),
            Direction::Outbound => (self.established_out, limits.established_out),
        };
        let full = of_kind >= most || self.established_in + self.established_out >= limits.established;
        let crowded = self.peers.conns(peer).len() >= limits.per_peer;
        if full || crowded {
            self.stats.refused += 1;
            if full {
                probe!(self.probes, LimitConnections);
            } else {
                probe!(self.probes, LimitPerPeer);
            }
            self.turn_away(id, code::RESOURCE_LIMIT, "connection limit", AttemptError::LimitReached);
            return;
        }
        match direction {
            Direction::Inbound => self.established_in += 1,
            Direction::Outbound => self.established_out += 1,
        }
        if let Some(conn) = self.quic.conns.get_mut(&id) {
            conn.phase = Phase::Established(peer);
            conn.remote = remote;
        }
        self.peers.connected(peer, id);
        let address = quic_multiaddr(remote);
        if direction == Direction::Outbound {
            let forgot = self.peers.learn(peer, address.clone());
            self.note_forgotten(forgot);
        }
        self.emit(Event::Connected { conn: id, peer, direction, address });
        self.broadcast(NetEvent::Connected { conn: id, peer, direction, address: remote });
        let survivor = self.settle_duplicates(peer).unwrap_or(id);
        self.dial_succeeded(id, peer, survivor, direction);
    }

    /// The handshake ended, well or badly.
    fn handshake_over(&mut self, id: ConnId) {
        if let Some(timer) = self.handshakes.remove(&id) {
            self.timers.cancel(timer);
            self.pending_in = self.pending_in.saturating_sub(1);
        }
    }

    /// Closes a connection that the application never gets to see.
    fn turn_away(&mut self, id: ConnId, code: u32, reason: &str, error: AttemptError) {
        self.quic.close(self.now, id, code, reason);
        self.attempt_failed(id, error);
    }

    /// Keeps one of the connections to a peer. Returns it.
    fn settle_duplicates(&mut self, peer: PeerId) -> Option<ConnId> {
        let conns = self.peers.conns(peer);
        let tag = |id: &ConnId| Some((self.quic.conns.get(id)?.tag()?, *id));
        let survivor = match conns {
            // The last one stays, also if it had lost to one that is gone.
            [only] => *only,
            _ => conns.iter().filter_map(tag).min()?.1,
        };
        let others: Vec<ConnId> = conns.iter().copied().filter(|id| *id != survivor).collect();
        for id in others {
            if !self.is_going(id) {
                let timer = self.timers.set(self.now + limits::SUPERSEDED_LINGER, Timer::Superseded(id));
                self.superseded.insert(id, timer);
                probe!(self.probes, ConnDuplicateSettled);
            }
        }
        // It may have been on its way out for the sake of one that is itself superseded now: cannot be, the smallest
        // tag stays the smallest. But a connection that left the contest may have been the smallest.
        let lingered = self.superseded.remove(&survivor);
        if let Some(timer) = lingered {
            self.timers.cancel(timer);
        }
        if self.leaving.remove(&survivor).is_some() || lingered.is_some() {
            probe!(self.probes, ConnSupersededKept);
        }
        Some(survivor)
    }

    /// A superseded connection has lingered.
    pub(super) fn on_superseded(&mut self, id: ConnId) {
        self.superseded.remove(&id);
        self.leaving.insert(id, ());
        self.leave_if_idle(id);
        if self.leaving.contains_key(&id) {
            probe!(self.probes, ConnSupersededBusy);
        }
    }

    /// Closes a connection that is only waiting for its last stream to end.
    pub(super) fn leave_if_idle(&mut self, id: ConnId) {
        if self.leaving.is_empty() || !self.leaving.contains_key(&id) {
            return;
        }
        if self.quic.conns.get(&id).is_some_and(|conn| !self.streams.is_busy(conn)) {
            probe!(self.probes, ConnSupersededClosed);
            self.close(id, code::SUPPLANTED, "superseded", CloseReason::Superseded);
        }
    }

    /// Closes an established connection and tells everybody.
    pub(super) fn close(&mut self, id: ConnId, code: u32, words: &str, reason: CloseReason) {
        let Some(peer) = self.quic.conns.get(&id).and_then(|conn| conn.peer()) else { return };
        self.quic.close(self.now, id, code, words);
        self.ended(id, peer, reason);
        self.step(id);
    }

    /// Gives up a connection that a peer is still setting up.
    pub(super) fn abandon_handshake(&mut self, id: ConnId, code: u32) {
        if self.quic.conns.get(&id).is_some_and(|conn| conn.phase == Phase::Handshaking) {
            probe!(self.probes, HandshakeAbandoned);
            self.handshake_over(id);
            self.quic.close(self.now, id, code, "");
            self.step(id);
        }
    }

    /// QUIC gave a connection up.
    fn on_lost(&mut self, id: ConnId, reason: &ConnectionError) {
        let Some(conn) = self.quic.conns.get_mut(&id) else { return };
        let phase = core::mem::replace(&mut conn.phase, Phase::Closed);
        let direction = conn.direction;
        let mut reason = close_reason(reason);
        match phase {
            Phase::Established(peer) => {
                if self.is_going(id)
                    && matches!(&reason, CloseReason::Remote { code, .. } if *code == u64::from(code::SUPPLANTED))
                {
                    reason = CloseReason::Superseded;
                }
                match &reason {
                    CloseReason::Superseded => probe!(self.probes, ConnSupersededByPeer),
                    CloseReason::IdleTimeout => probe!(self.probes, ConnIdleTimeout),
                    CloseReason::Reset => probe!(self.probes, ConnStatelessReset),
                    CloseReason::Transport { by_peer: true, .. } => probe!(self.probes, ConnTransportErrorByPeer),
                    CloseReason::Transport { by_peer: false, .. } => probe!(self.probes, ConnTransportError),
                    _ => {}
                }
                self.ended(id, peer, reason);
            }
            Phase::Handshaking => {
                self.handshake_over(id);
                if direction == Direction::Inbound {
                    probe!(self.probes, HandshakeFailed);
                }
                let wrong = self.quic.conns.get(&id).and_then(|conn| conn.wrong_peer());
                let error = match wrong {
                    Some((_, actual)) if actual == self.local.peer_id => AttemptError::SelfDial,
                    Some((expected, actual)) => AttemptError::WrongPeer { expected, actual },
                    None if reason == CloseReason::IdleTimeout => AttemptError::TimedOut,
                    None => AttemptError::Closed(reason),
                };
                match &error {
                    AttemptError::SelfDial => probe!(self.probes, DialSelf),
                    AttemptError::WrongPeer { .. } => probe!(self.probes, DialWrongPeer),
                    _ => {}
                }
                self.attempt_failed(id, error);
            }
            Phase::Closed => {}
        }
    }

    /// An established connection is over: its streams end, then it is taken out of the books.
    fn ended(&mut self, id: ConnId, peer: PeerId, reason: CloseReason) {
        self.on_conn(id, |streams, cx| streams.on_conn_lost(cx));
        self.collect();
        let direction = self.quic.conns.get(&id).map(|conn| conn.direction);
        match direction {
            Some(Direction::Inbound) => self.established_in = self.established_in.saturating_sub(1),
            Some(Direction::Outbound) => self.established_out = self.established_out.saturating_sub(1),
            None => {}
        }
        if let Some(timer) = self.superseded.remove(&id) {
            self.timers.cancel(timer);
        }
        self.leaving.remove(&id);
        let forgot = self.peers.disconnected(peer, id);
        self.note_forgotten(forgot);
        self.broadcast(NetEvent::Disconnected { conn: id, peer });
        let remaining = self.peers.conns(peer).len();
        self.emit(Event::Disconnected { conn: id, peer, reason, remaining });
        // With the winner of a contest gone, another may have to stay after all.
        if remaining > 0 {
            self.settle_duplicates(peer);
        }
    }

    /// QUIC needs the connection no longer, not even to answer late packets.
    fn on_drained(&mut self, id: ConnId) {
        self.handshake_over(id);
        if let Some(conn) = self.quic.remove(id)
            && let Some(timer) = conn.timer
        {
            self.timers.cancel(timer);
        }
    }

    /// A handshake, in or out, has taken too long.
    pub(super) fn on_handshake_timeout(&mut self, id: ConnId) {
        if self.handshakes.remove(&id).is_some() {
            self.pending_in = self.pending_in.saturating_sub(1);
            probe!(self.probes, HandshakeTimedOut);
        }
        self.quic.close(self.now, id, code::OK, "handshake timeout");
        self.attempt_timed_out(id);
        self.step(id);
    }

    /// Sets a connection's timer to what it wants now.
    fn rearm(&mut self, id: ConnId) {
        self.rearm_at(id, self.quic.deadline(id));
    }

    /// The same for a connection that has nothing to send at this very moment. The pacer asks for no time at all when
    /// round trips are too short for its arithmetic; then time would stand still.
    fn rearm_later(&mut self, id: ConnId) {
        let soon = self.now + limits::PACE;
        self.rearm_at(id, self.quic.deadline(id).map(|at| at.max(soon)));
    }

    fn rearm_at(&mut self, id: ConnId, deadline: Option<Time>) {
        let Some(conn) = self.quic.conns.get_mut(&id) else { return };
        if deadline.is_some_and(|at| at <= self.now) {
            self.stats.timers_late += 1;
        }
        let forgotten = |at: &Time| self.bugs.has(Bug::LostWakeUp) && *at > self.now + Duration::from_secs(5);
        let deadline = deadline.filter(|at| !forgotten(at));
        match (deadline, conn.timer) {
            (Some(at), Some(timer)) => self.timers.reset(timer, at),
            (Some(at), None) => conn.timer = Some(self.timers.set(at, Timer::Conn(id))),
            (None, Some(timer)) => {
                self.timers.cancel(timer);
                conn.timer = None;
            }
            (None, None) => {}
        }
    }

    /// A connection's deadline has come.
    pub(super) fn on_conn_timer(&mut self, id: ConnId) {
        if let Some(conn) = self.quic.conns.get_mut(&id) {
            conn.timer = None;
        }
        self.quic.timeout(self.now, id);
        self.step(id);
    }

    fn notice_move(&mut self, id: ConnId) {
        let Some(conn) = self.quic.conns.get_mut(&id) else { return };
        let Phase::Established(peer) = conn.phase else { return };
        let remote = conn.current_remote();
        if remote != conn.remote {
            conn.remote = remote;
            probe!(self.probes, ConnRebound);
            self.emit(Event::AddressChanged { conn: id, peer, address: quic_multiaddr(remote) });
            self.broadcast(NetEvent::Moved { conn: id, address: remote });
        }
    }

    fn on_observed(&mut self, id: ConnId, addr: core::net::SocketAddr) {
        if let Some(peer) = self.quic.conns.get(&id).and_then(|conn| conn.peer()) {
            self.emit(Event::ObservedAddress { conn: id, peer, address: quic_multiaddr(addr) });
        }
    }

    /// Offers the next batch of datagrams.
    pub(super) fn next_transmit(&mut self, buf: &mut TransmitBuf<'_>) -> Option<Transmit> {
        loop {
            if let Some(conn) = self.quic.next_gathering() {
                self.on_conn(conn, |streams, cx| streams.send_gathered(cx));
            }
            let sockets = &self.sockets;
            let step = self.quic.poll_transmit(
                self.now,
                buf,
                |socket| sockets.max_segments(socket),
                |socket, to| sockets.for_family(socket, to),
            );
            match step {
                TransmitStep::Send(transmit, conn) => {
                    if let Some(conn) = conn {
                        self.rearm(conn);
                    }
                    self.stats.transmits += 1;
                    self.stats.bytes_out += transmit.len as u64;
                    return Some(transmit);
                }
                TransmitStep::Quiet(conn) => {
                    if self.quic.exchange(conn) {
                        self.on_drained(conn);
                    } else {
                        self.rearm_later(conn);
                    }
                }
                TransmitStep::Parked => probe!(self.probes, SocketParked),
                TransmitStep::Idle => return None,
            }
        }
    }

    /// The address book has grown.
    pub(super) fn note_forgotten(&mut self, forgot: bool) {
        if forgot {
            probe!(self.probes, PeersForgotten);
        }
    }

    /// Whether a connection lost to a duplicate.
    pub(super) fn is_going(&self, id: ConnId) -> bool {
        self.leaving.contains_key(&id) || self.superseded.contains_key(&id)
    }

    /// The connection to use for a peer: the oldest that is not on its way out.
    pub(super) fn best_conn(&self, peer: PeerId) -> Option<ConnId> {
        let conns = self.peers.conns(peer);
        conns.iter().find(|id| !self.is_going(**id)).or_else(|| conns.first()).copied()
    }

    /// Tells machines that the node's addresses or protocols are others now.
    pub(super) fn local_changed(&mut self) {
        self.signals.push_back(Signal::LocalChanged);
    }
}

fn close_reason(error: &ConnectionError) -> CloseReason {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match error {
        ConnectionError::ApplicationClosed(close) => {
            CloseReason::Remote { code: close.error_code.into_inner(), reason: text(&close.reason) }
        }
        ConnectionError::ConnectionClosed(close) => {
            let reason = if close.reason.is_empty() { close.to_string() } else { text(&close.reason) };
            CloseReason::Transport { code: close.error_code.into(), reason, by_peer: true }
        }
        ConnectionError::TransportError(error) => {
            CloseReason::Transport { code: error.code.into(), reason: error.to_string(), by_peer: false }
        }
        ConnectionError::Reset => CloseReason::Reset,
        ConnectionError::TimedOut => CloseReason::IdleTimeout,
        ConnectionError::VersionMismatch => CloseReason::Transport {
            code: 0,
            reason: "the peer speaks no version of QUIC that this node speaks".into(),
            by_peer: true,
        },
        ConnectionError::LocallyClosed | ConnectionError::CidsExhausted => {
            CloseReason::Transport { code: 0, reason: error.to_string(), by_peer: false }
        }
    }
}
