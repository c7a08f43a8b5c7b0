//! Ping: is the peer alive, and how far away is it?
//!
//! Every ping has a stream of its own: 32 random bytes go out behind the protocol negotiation, the peer echoes them, the
//! stream is closed. So a responder that limits a stream's life (go: 30 s), or loses a wake-up on an old one (rust), does no
//! harm, and a failed stream is replaced by the next ping as a matter of course. There is never more than one ping under
//! way on a connection; js and the specification allow no more.
//!
//! | state of a connection | leaves it by |
//! |---|---|
//! | resting | the interval's end, or being asked |
//! | waiting for the echo | the echo → [`Event::Ping`] with a time; timeout, wrong bytes, failed stream → with a failure; after several timeouts in a row the connection is closed |
//! | not spoken here | being asked |
//!
//! The other side of the protocol echoes whatever comes in 32-byte pieces until the peer finishes.
//!
//! Source: libp2p specs, ping.

#[cfg(test)]
pub(super) mod tests;

use bytes::{Bytes, BytesMut};

use super::MachineId;
use crate::{
    bug::Bug,
    config::PingConfig,
    event::{ConnId, Event, StreamError, StreamId},
    fault::{PeerFault, code},
    hash::Map,
    identity::PeerId,
    node::{Cx, Machine, MachineSeed, Signal, Token},
    probe::probe,
    protocol_id::ProtocolId,
    time::Time,
    transport::net::{Framing, NetEvent},
};

/// `/ipfs/ping/1.0.0`
pub const PING: ProtocolId = ProtocolId::from_static("/ipfs/ping/1.0.0");

/// Bytes of one ping.
const SIZE: usize = 32;

/// Streams on which one connection's peer may ping us. The specification asks for two; a peer whose pings have a stream each
/// may open the next before we hear of the last one's end.
const INBOUND_STREAMS: usize = 4;

/// Echoes that may wait for the peer to take them. A peer that sends more without reading is flooding.
const UNREAD_ECHOES: usize = 64 * 1024;

/// Why a ping failed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PingFailure {
    /// No answer within [`PingConfig::timeout`].
    #[error("no answer in time")]
    TimedOut,
    /// The peer does not speak `/ipfs/ping/1.0.0`.
    #[error("the peer does not support ping")]
    Unsupported,
    /// The echo differed from what was sent.
    #[error("the peer sent back other bytes")]
    WrongEcho,
    /// The stream failed.
    #[error("{0}")]
    Stream(#[from] StreamError),
}

struct Conn {
    peer: PeerId,
    under_way: Option<UnderWay>,
    failures: u32,
    /// Of the last pings, so many in a row timed out.
    unanswered: u32,
    inbound: usize,
}

struct UnderWay {
    stream: StreamId,
    sent: Time,
    nonce: [u8; SIZE],
    echo: BytesMut,
}

struct Echo {
    conn: ConnId,
    partial: BytesMut,
    unread: usize,
}

/// The ping machine.
pub struct Ping {
    config: PingConfig,
    conns: Map<ConnId, Conn>,
    asked: Map<StreamId, ConnId>,
    echoes: Map<StreamId, Echo>,
}

/// The end of a connection's rest.
fn rest(conn: ConnId) -> Token {
    Token(conn.get() << 1)
}

/// The end of a connection's patience.
fn patience(conn: ConnId) -> Token {
    Token(conn.get() << 1 | 1)
}

impl Ping {
    /// A machine that knows nobody yet.
    pub fn new(config: PingConfig, seed: MachineSeed) -> Self {
        let hasher = seed.0;
        Self {
            config,
            conns: Map::with_hasher(hasher),
            asked: Map::with_hasher(hasher),
            echoes: Map::with_hasher(hasher),
        }
    }

    pub(crate) fn census(&self) -> usize {
        self.conns.len() + self.asked.len() + self.echoes.len()
    }

    /// Pings that failed in a row on a connection.
    pub(crate) fn failures(&self, conn: ConnId) -> u32 {
        self.conns.get(&conn).map_or(0, |conn| conn.failures)
    }

    /// Pings now, unless a ping is under way. `false` if there is no such connection.
    pub(crate) fn ping(&mut self, cx: &mut Cx<'_>, conn: ConnId) -> bool {
        let Some(entry) = self.conns.get_mut(&conn) else { return false };
        if entry.under_way.is_some() {
            return true;
        }
        cx.timers.cancel(rest(conn));
        let nonce = cx.rng.array::<SIZE>();
        let stream = cx.net.open(conn, &[PING], Framing::Raw);
        cx.net.write(stream, Bytes::copy_from_slice(&nonce));
        cx.timers.set(patience(conn), cx.now + self.config.timeout);
        entry.under_way = Some(UnderWay { stream, sent: cx.now, nonce, echo: BytesMut::new() });
        self.asked.insert(stream, conn);
        true
    }

    fn over(&mut self, cx: &mut Cx<'_>, conn: ConnId, failure: Option<PingFailure>) {
        let Some(entry) = self.conns.get_mut(&conn) else { return };
        let Some(ping) = entry.under_way.take() else { return };
        if !(cx.bugs.has(Bug::UnboundedQueue) && failure == Some(PingFailure::TimedOut)) {
            self.asked.remove(&ping.stream);
        }
        cx.timers.cancel(patience(conn));
        if let (Some(interval), false) = (self.config.interval, failure == Some(PingFailure::Unsupported)) {
            cx.timers.set(rest(conn), cx.now + interval);
        }
        let result = match failure {
            None => {
                (entry.failures, entry.unanswered) = (0, 0);
                Ok(cx.now - ping.sent)
            }
            Some(failure) => {
                if failure == PingFailure::Unsupported {
                    probe!(cx.probes, PingUnsupported);
                } else {
                    probe!(cx.probes, PingFailed);
                }
                entry.failures = entry.failures.saturating_add(1);
                let silent = failure == PingFailure::TimedOut;
                entry.unanswered = if silent { entry.unanswered.saturating_add(1) } else { 0 };
                Err(failure)
            }
        };
        let most = self.config.max_unanswered;
        let gives_up = most > 0 && entry.unanswered >= most;
        cx.emit(Event::Ping { conn, peer: entry.peer, result });
        if gives_up {
            probe!(cx.probes, PingGaveUp);
            cx.give_up(conn);
        }
    }

    fn on_echo(&mut self, cx: &mut Cx<'_>, conn: ConnId, data: &[u8]) {
        let Some(ping) = self.conns.get_mut(&conn).and_then(|conn| conn.under_way.as_mut()) else { return };
        let stream = ping.stream;
        let missing = SIZE.saturating_sub(ping.echo.len());
        ping.echo.extend_from_slice(data.get(..missing).unwrap_or(data));
        if data.len() > missing || (ping.echo.len() == SIZE && ping.echo[..] != ping.nonce) {
            cx.fault(conn, Some(stream), PeerFault::BadPong);
            self.over(cx, conn, Some(PingFailure::WrongEcho));
        } else if ping.echo.len() == SIZE {
            cx.net.close(stream);
            self.over(cx, conn, None);
        }
    }

    fn on_ping(&mut self, cx: &mut Cx<'_>, stream: StreamId, data: &[u8]) {
        let Some(echo) = self.echoes.get_mut(&stream) else { return };
        echo.partial.extend_from_slice(data);
        let whole = echo.partial.len() - echo.partial.len() % SIZE;
        if whole == 0 {
            return;
        }
        echo.unread += whole;
        if echo.unread > UNREAD_ECHOES {
            let conn = echo.conn;
            self.forget_echo(stream);
            cx.fault(conn, Some(stream), PeerFault::PingFlood);
            return;
        }
        cx.net.write(stream, echo.partial.split_to(whole).freeze());
        cx.net.want_writable(stream);
    }

    fn forget_echo(&mut self, stream: StreamId) {
        if let Some(echo) = self.echoes.remove(&stream)
            && let Some(conn) = self.conns.get_mut(&echo.conn)
        {
            conn.inbound = conn.inbound.saturating_sub(1);
        }
    }
}

impl Machine for Ping {
    const ID: MachineId = MachineId::Ping;

    fn on_net(&mut self, cx: &mut Cx<'_>, event: NetEvent) {
        match event {
            NetEvent::Connected { conn, peer, .. } => {
                self.conns.insert(conn, Conn { peer, under_way: None, failures: 0, unanswered: 0, inbound: 0 });
                if self.config.interval.is_some() {
                    self.ping(cx, conn);
                }
            }
            NetEvent::Disconnected { conn, .. } => {
                // Only a ping that was asked for between the connection's end and this is still under way.
                self.over(cx, conn, Some(PingFailure::Stream(StreamError::ConnectionClosed)));
                self.conns.remove(&conn);
                cx.timers.cancel(rest(conn));
            }
            NetEvent::Inbound { stream, conn, .. } => {
                let Some(entry) = self.conns.get_mut(&conn) else { return };
                if entry.inbound >= INBOUND_STREAMS {
                    probe!(cx.probes, PingLimited);
                    cx.net.reset(stream, code::STREAM_RESOURCE_LIMIT);
                    return;
                }
                entry.inbound += 1;
                self.echoes.insert(stream, Echo { conn, partial: BytesMut::new(), unread: 0 });
            }
            NetEvent::Data { stream, data } => match self.asked.get(&stream) {
                Some(conn) => self.on_echo(cx, *conn, &data),
                None => self.on_ping(cx, stream, &data),
            },
            NetEvent::End { stream } => {
                if let Some(conn) = self.asked.get(&stream).copied() {
                    cx.net.reset(stream, code::OK);
                    self.over(cx, conn, Some(PingFailure::Stream(StreamError::EndedEarly)));
                } else if self.echoes.contains_key(&stream) {
                    self.forget_echo(stream);
                    cx.net.close(stream);
                }
            }
            NetEvent::Writable { stream } => {
                if let Some(echo) = self.echoes.get_mut(&stream) {
                    echo.unread = 0;
                }
            }
            NetEvent::Stopped { stream, .. } => {
                // Nobody reads the echoes any more.
                if self.echoes.contains_key(&stream) {
                    self.forget_echo(stream);
                    cx.net.close(stream);
                }
            }
            NetEvent::Failed { stream, error } => {
                if let Some(conn) = self.asked.get(&stream).copied() {
                    let failure = match error {
                        StreamError::Unsupported => PingFailure::Unsupported,
                        StreamError::TimedOut => PingFailure::TimedOut,
                        other => PingFailure::Stream(other),
                    };
                    self.over(cx, conn, Some(failure));
                } else {
                    self.forget_echo(stream);
                }
            }
            NetEvent::Moved { .. } | NetEvent::Opened { .. } | NetEvent::Frame { .. } | NetEvent::Delivered { .. } => {}
        }
    }

    fn on_timer(&mut self, cx: &mut Cx<'_>, token: Token) {
        let conn = ConnId(token.0 >> 1);
        if token == rest(conn) {
            self.ping(cx, conn);
        } else if let Some(ping) = self.conns.get(&conn).and_then(|conn| conn.under_way.as_ref()) {
            cx.net.reset(ping.stream, code::OK);
            self.over(cx, conn, Some(PingFailure::TimedOut));
        }
    }

    fn on_signal(&mut self, _: &mut Cx<'_>, _: &Signal) {}
}
