//! perf: how fast can bytes be moved to a peer and back?
//!
//! The client writes eight bytes (big endian: how many bytes it wants back), then its upload, and finishes. The server
//! reads to the end, then sends as many bytes as were asked for, and finishes. One stream, nothing else; the content is
//! zeros and nobody looks at it.
//!
//! | client | leaves it by | server | leaves it by |
//! |---|---|---|---|
//! | uploading | last byte taken by QUIC | reading | the client's end |
//! | uploaded | all acknowledged, or the first byte back | sending | the last byte |
//! | downloading | the last byte → report | | |
//!
//! Serving is off unless [`Config::serve_perf`](crate::Config::serve_perf) says otherwise: it lets any peer ask for any
//! amount of traffic.
//!
//! Source: libp2p specs, perf.

#[cfg(test)]
mod tests;

use core::time::Duration;

use bytes::{Bytes, BytesMut};

use super::MachineId;
use crate::{
    event::{ConnId, Event, PerfId, StreamError, StreamId},
    fault::{PeerFault, code},
    hash::Map,
    node::{Cx, Machine, MachineSeed, Signal, Token},
    probe::probe,
    protocol_id::ProtocolId,
    time::Time,
    transport::net::{Framing, NetEvent},
};

/// `/perf/1.0.0`
pub const PERF: ProtocolId = ProtocolId::from_static("/perf/1.0.0");

static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];

/// Chunks queued for each time that QUIC has taken all.
const CHUNKS_AT_ONCE: u64 = 8;

/// Streams of one peer that are served at once.
const INBOUND_STREAMS: usize = 8;

/// One throughput measurement.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PerfReport {
    /// Bytes sent.
    pub uploaded: u64,
    /// From the request to the peer's acknowledgement of the last byte, or the first byte back if that came first.
    pub upload_time: Duration,
    /// Bytes received.
    pub downloaded: u64,
    /// From then to the last byte received.
    pub download_time: Duration,
}

struct Client {
    perf: PerfId,
    conn: ConnId,
    up: u64,
    left: u64,
    down: u64,
    received: u64,
    started: Time,
    uploaded: Option<Time>,
    finished: bool,
}

enum Server {
    Reading { header: BytesMut },
    Sending { left: u64 },
}

/// The perf machine.
pub struct Perf {
    clients: Map<StreamId, Client>,
    servers: Map<StreamId, (ConnId, Server)>,
    /// How many of them each connection has.
    served: Map<ConnId, usize>,
    next: u64,
}

/// Queues up to a round of zeros; returns what is left to send.
fn send_zeros(cx: &mut Cx<'_>, stream: StreamId, mut left: u64) -> u64 {
    for _ in 0..CHUNKS_AT_ONCE {
        let chunk = usize::try_from(left).unwrap_or(usize::MAX).min(ZEROS.len());
        if chunk == 0 {
            break;
        }
        cx.net.write(stream, Bytes::from_static(&ZEROS).slice(..chunk));
        left -= chunk as u64;
    }
    if left == 0 {
        cx.net.finish(stream);
    } else {
        cx.net.want_writable(stream);
    }
    left
}

impl Perf {
    /// A machine that knows nobody yet.
    pub fn new(seed: MachineSeed) -> Self {
        let hasher = seed.0;
        Self {
            clients: Map::with_hasher(hasher),
            servers: Map::with_hasher(hasher),
            served: Map::with_hasher(hasher),
            next: 0,
        }
    }

    pub(crate) fn census(&self) -> usize {
        self.clients.len() + self.servers.len() + self.served.len()
    }

    /// Starts a measurement. Ends in [`Event::Perf`].
    pub(crate) fn start(&mut self, cx: &mut Cx<'_>, conn: ConnId, up: u64, down: u64) -> PerfId {
        self.next += 1;
        let perf = PerfId(self.next);
        let stream = cx.net.open(conn, &[PERF], Framing::Raw);
        cx.net.write(stream, Bytes::copy_from_slice(&down.to_be_bytes()));
        let left = send_zeros(cx, stream, up);
        let client =
            Client { perf, conn, up, left, down, received: 0, started: cx.now, uploaded: None, finished: left == 0 };
        self.clients.insert(stream, client);
        perf
    }

    fn report(&mut self, cx: &mut Cx<'_>, stream: StreamId, error: Option<StreamError>) {
        let Some(client) = self.clients.remove(&stream) else { return };
        let uploaded = client.uploaded.unwrap_or(cx.now);
        let result = match error {
            Some(error) => Err(error),
            None => Ok(PerfReport {
                uploaded: client.up,
                upload_time: uploaded - client.started,
                downloaded: client.received,
                download_time: cx.now - uploaded,
            }),
        };
        cx.emit(Event::Perf { perf: client.perf, result });
    }

    fn on_client_data(&mut self, cx: &mut Cx<'_>, stream: StreamId, len: usize) {
        let Some(client) = self.clients.get_mut(&stream) else { return };
        client.uploaded.get_or_insert(cx.now);
        client.received = client.received.saturating_add(len as u64);
        if client.received > client.down {
            let conn = client.conn;
            cx.fault(conn, Some(stream), PeerFault::BadPerf);
            self.report(cx, stream, Some(StreamError::EndedEarly));
        }
    }

    fn on_server_data(&mut self, stream: StreamId, data: &[u8]) {
        if let Some((_, Server::Reading { header })) = self.servers.get_mut(&stream) {
            let missing = 8usize.saturating_sub(header.len());
            header.extend_from_slice(data.get(..missing).unwrap_or(data));
        }
    }

    fn on_end(&mut self, cx: &mut Cx<'_>, stream: StreamId) {
        if let Some(client) = self.clients.get(&stream) {
            let complete = client.received == client.down && client.finished;
            cx.net.close(stream);
            self.report(cx, stream, (!complete).then_some(StreamError::EndedEarly));
            return;
        }
        let Some((conn, server)) = self.servers.get_mut(&stream) else { return };
        let Server::Reading { header } = server else { return };
        match header[..].try_into().map(u64::from_be_bytes) {
            Ok(down) => {
                *server = Server::Sending { left: send_zeros(cx, stream, down) };
                self.close_if_sent(cx, stream);
            }
            Err(_) => {
                let conn = *conn;
                self.forget_server(stream);
                cx.fault(conn, Some(stream), PeerFault::BadPerf);
            }
        }
    }

    /// Takes a stream that is served out of the books. Says whether it was one.
    fn forget_server(&mut self, stream: StreamId) -> bool {
        let Some((conn, _)) = self.servers.remove(&stream) else { return false };
        if let Some(served) = self.served.get_mut(&conn) {
            *served = served.saturating_sub(1);
            if *served == 0 {
                self.served.remove(&conn);
            }
        }
        true
    }

    fn close_if_sent(&mut self, cx: &mut Cx<'_>, stream: StreamId) {
        if let Some((_, Server::Sending { left: 0 })) = self.servers.get(&stream) {
            self.forget_server(stream);
            cx.net.close(stream);
        }
    }
}

impl Machine for Perf {
    const ID: MachineId = MachineId::Perf;

    fn on_net(&mut self, cx: &mut Cx<'_>, event: NetEvent) {
        match event {
            NetEvent::Inbound { stream, conn, .. } => {
                let served = self.served.entry(conn).or_insert(0);
                if *served >= INBOUND_STREAMS {
                    cx.fault(conn, Some(stream), PeerFault::TooManyStreams);
                    return;
                }
                *served += 1;
                self.servers.insert(stream, (conn, Server::Reading { header: BytesMut::new() }));
            }
            NetEvent::Data { stream, data } => {
                if self.clients.contains_key(&stream) {
                    self.on_client_data(cx, stream, data.len());
                } else {
                    self.on_server_data(stream, &data);
                }
            }
            NetEvent::End { stream } => self.on_end(cx, stream),
            NetEvent::Writable { stream } => {
                if let Some(client) = self.clients.get_mut(&stream) {
                    if !client.finished {
                        client.left = send_zeros(cx, stream, client.left);
                        client.finished = client.left == 0;
                    }
                } else if let Some((_, Server::Sending { left })) = self.servers.get_mut(&stream) {
                    *left = send_zeros(cx, stream, *left);
                    self.close_if_sent(cx, stream);
                }
            }
            NetEvent::Delivered { stream } => {
                if let Some(client) = self.clients.get_mut(&stream) {
                    client.uploaded.get_or_insert(cx.now);
                }
            }
            NetEvent::Stopped { stream, code: stopped } => {
                probe!(cx.probes, PerfStopped);
                if self.clients.contains_key(&stream) {
                    cx.net.reset(stream, code::OK);
                    self.report(cx, stream, Some(StreamError::Stopped(stopped)));
                } else if self.forget_server(stream) {
                    cx.net.close(stream);
                }
            }
            NetEvent::Failed { stream, error } => {
                self.forget_server(stream);
                self.report(cx, stream, Some(error));
            }
            NetEvent::Connected { .. }
            | NetEvent::Moved { .. }
            | NetEvent::Disconnected { .. }
            | NetEvent::Opened { .. }
            | NetEvent::Frame { .. } => {}
        }
    }

    fn on_timer(&mut self, _: &mut Cx<'_>, _: Token) {}

    fn on_signal(&mut self, _: &mut Cx<'_>, _: &Signal) {}
}
