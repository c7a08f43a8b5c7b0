//! Request–response: one frame there, one frame back, on a stream of its own.
//!
//! A helper for applications. Each protocol is registered with its limits
//! ([`RequestConfig`]); frames have an unsigned-varint length prefix, as most libp2p protocols
//! have. Payloads stay here until the application takes them, within
//! [`REQUEST_BYTES`](crate::limits::REQUEST_BYTES) in all; events carry ids and sizes only.
//!
//! | request sent | leaves it by |
//! |---|---|
//! | waiting | response frame → [`Event::Response`] with its size; timeout, failed stream, end without a frame, cancel → with an error |
//! | answered | [`take`](crate::RequestsMut::take) |
//!
//! | request received | leaves it by |
//! |---|---|
//! | reading | frame → [`Event::Request`]; timeout, failed stream |
//! | with the application | respond, refuse; timeout, failed stream, peer stops reading → [`Event::RequestDropped`] |

#[cfg(test)]
mod tests;

use bytes::Bytes;

use super::MachineId;
use crate::{
    bug::Bug,
    config::RequestConfig,
    event::{ConnId, Event, RequestId, StreamError, StreamId},
    fault::{PeerFault, code},
    hash::Map,
    identity::PeerId,
    limits,
    node::{Cx, Machine, MachineSeed, Signal, Token},
    probe::probe,
    protocol_id::ProtocolId,
    transport::{
        net::{Framing, NetEvent},
        varint,
    },
};

/// Why a request has no response, or why something could not be done with one.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// The protocol was not registered.
    #[error("the protocol is not registered; register it first")]
    UnknownProtocol,
    /// No such connection.
    #[error("no such connection")]
    UnknownConnection,
    /// No such request, or it has ended.
    #[error("no such request, or it has ended")]
    UnknownRequest,
    /// Larger than the protocol's limit.
    #[error("{len} bytes are more than the protocol's limit of {max}; raise it in RequestConfig")]
    TooLarge {
        /// Size given.
        len: usize,
        /// The limit.
        max: usize,
    },
    /// Too much is waiting for the application.
    #[error("too many payloads wait to be taken; take them before sending more")]
    Busy,
    /// No response within [`RequestConfig::timeout`].
    #[error("no response in time")]
    TimedOut,
    /// The stream failed.
    #[error("{0}")]
    Stream(#[from] StreamError),
    /// Cancelled by this side.
    #[error("cancelled")]
    Cancelled,
}

struct Sent {
    request: RequestId,
}

struct Received {
    conn: ConnId,
    peer: PeerId,
    protocol: ProtocolId,
    request: Option<RequestId>,
}

/// The request–response machine.
pub struct Request {
    protocols: Map<ProtocolId, RequestConfig>,
    sent: Map<StreamId, Sent>,
    received: Map<StreamId, Received>,
    /// Streams of the requests under way, by request.
    streams: Map<RequestId, StreamId>,
    /// Requests that wait for an answer, by who asks for what.
    inbound: Map<(PeerId, ProtocolId), usize>,
    payloads: Map<RequestId, Bytes>,
    payload_bytes: usize,
    next: u64,
}

impl Request {
    /// A machine that knows nobody yet.
    pub fn new(seed: MachineSeed) -> Self {
        let hasher = seed.0;
        Self {
            protocols: Map::with_hasher(hasher),
            sent: Map::with_hasher(hasher),
            received: Map::with_hasher(hasher),
            streams: Map::with_hasher(hasher),
            inbound: Map::with_hasher(hasher),
            payloads: Map::with_hasher(hasher),
            payload_bytes: 0,
            next: 0,
        }
    }

    pub(crate) fn census(&self) -> usize {
        self.sent.len() + self.received.len() + self.streams.len() + self.inbound.len() + self.payloads.len()
    }

    /// Sets or replaces a protocol's configuration. Returns how its inbound streams are to be read.
    pub(crate) fn register(&mut self, protocol: ProtocolId, config: RequestConfig) -> Framing {
        let framing = Framing::Frames { max: config.max_request };
        self.protocols.insert(protocol, config);
        framing
    }

    pub(crate) fn send(
        &mut self,
        cx: &mut Cx<'_>,
        conn: ConnId,
        protocol: &ProtocolId,
        data: Bytes,
    ) -> Result<RequestId, RequestError> {
        let config = self.protocols.get(protocol).ok_or(RequestError::UnknownProtocol)?;
        config.check_request(data.len())?;
        if self.payload_bytes >= limits::REQUEST_BYTES {
            return Err(RequestError::Busy);
        }
        let stream = cx.net.open(conn, core::slice::from_ref(protocol), Framing::Frames { max: config.max_response });
        write_frame(cx, stream, data);
        cx.net.finish(stream);
        cx.timers.set(Token(stream.get()), cx.now + config.timeout);
        let request = self.next_id();
        self.sent.insert(stream, Sent { request });
        self.streams.insert(request, stream);
        Ok(request)
    }

    pub(crate) fn take(&mut self, request: RequestId) -> Option<Bytes> {
        let payload = self.payloads.remove(&request)?;
        self.payload_bytes = self.payload_bytes.saturating_sub(payload.len());
        Some(payload)
    }

    pub(crate) fn respond(&mut self, cx: &mut Cx<'_>, request: RequestId, data: Bytes) -> Result<(), RequestError> {
        let stream = *self.streams.get(&request).ok_or(RequestError::UnknownRequest)?;
        let received = self.received.get(&stream).ok_or(RequestError::UnknownRequest)?;
        let max = self.protocols.get(&received.protocol).map_or(0, |config| config.max_response);
        if data.len() > max {
            return Err(RequestError::TooLarge { len: data.len(), max });
        }
        self.forget_received(cx, stream);
        write_frame(cx, stream, data);
        cx.net.close(stream);
        Ok(())
    }

    pub(crate) fn refuse(&mut self, cx: &mut Cx<'_>, request: RequestId) -> Result<(), RequestError> {
        let stream = *self.streams.get(&request).ok_or(RequestError::UnknownRequest)?;
        self.forget_received(cx, stream).ok_or(RequestError::UnknownRequest)?;
        probe!(cx.probes, RequestRefused);
        cx.net.reset(stream, code::STREAM_RESOURCE_LIMIT);
        Ok(())
    }

    pub(crate) fn cancel(&mut self, cx: &mut Cx<'_>, request: RequestId) -> Result<(), RequestError> {
        let stream = *self.streams.get(&request).ok_or(RequestError::UnknownRequest)?;
        if !self.sent.contains_key(&stream) {
            return Err(RequestError::UnknownRequest);
        }
        probe!(cx.probes, RequestCancelled);
        cx.net.reset(stream, code::OK);
        self.end_sent(cx, stream, Err(RequestError::Cancelled));
        Ok(())
    }

    fn next_id(&mut self) -> RequestId {
        self.next += 1;
        RequestId(self.next)
    }

    fn store(&mut self, request: RequestId, data: Bytes, budget: usize) -> Result<usize, RequestError> {
        let len = data.len();
        if self.payload_bytes.saturating_add(len) > budget {
            return Err(RequestError::Busy);
        }
        self.payload_bytes += len;
        self.payloads.insert(request, data);
        Ok(len)
    }

    fn end_sent(&mut self, cx: &mut Cx<'_>, stream: StreamId, result: Result<Bytes, RequestError>) {
        let Some(Sent { request }) = self.sent.remove(&stream) else { return };
        self.streams.remove(&request);
        cx.timers.cancel(Token(stream.get()));
        let result = result.and_then(|data| self.store(request, data, limits::REQUEST_BYTES));
        if result == Err(RequestError::Busy) {
            probe!(cx.probes, RequestNoRoom);
        }
        cx.emit(Event::Response { request, result });
    }

    /// Takes a received request out of the books. What the application has not taken of it is gone.
    fn forget_received(&mut self, cx: &mut Cx<'_>, stream: StreamId) -> Option<Received> {
        let received = self.received.remove(&stream)?;
        cx.timers.cancel(Token(stream.get()));
        let share = (received.peer, received.protocol.clone());
        if let Some(count) = self.inbound.get_mut(&share) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.inbound.remove(&share);
            }
        }
        if let Some(request) = received.request {
            self.streams.remove(&request);
            self.take(request);
        }
        Some(received)
    }

    fn drop_received(&mut self, cx: &mut Cx<'_>, stream: StreamId) {
        if let Some(Received { request: Some(request), .. }) = self.forget_received(cx, stream) {
            probe!(cx.probes, RequestDropped);
            cx.emit(Event::RequestDropped { request });
        }
    }

    fn on_inbound(&mut self, cx: &mut Cx<'_>, stream: StreamId, conn: ConnId, peer: PeerId, protocol: ProtocolId) {
        let Some(config) = self.protocols.get(&protocol).filter(|config| config.serve) else {
            cx.net.reset(stream, code::STREAM_RESOURCE_LIMIT);
            return;
        };
        let share = (peer, protocol);
        let waiting = self.inbound.get(&share).copied().unwrap_or(0);
        if waiting >= config.max_inbound_per_peer || self.received.len() >= limits::INBOUND_REQUESTS {
            // No fault: the peer cannot know how busy this node is.
            probe!(cx.probes, RequestLimited);
            cx.net.reset(stream, code::STREAM_RESOURCE_LIMIT);
            return;
        }
        cx.timers.set(Token(stream.get()), cx.now + config.timeout);
        self.received.insert(stream, Received { conn, peer, protocol: share.1.clone(), request: None });
        *self.inbound.entry(share).or_insert(0) += 1;
    }

    fn on_frame(&mut self, cx: &mut Cx<'_>, stream: StreamId, data: Bytes) {
        if self.sent.contains_key(&stream) {
            cx.net.close(stream);
            self.end_sent(cx, stream, Ok(data));
            return;
        }
        let Some(received) = self.received.get(&stream) else { return };
        let (conn, peer, protocol) = (received.conn, received.peer, received.protocol.clone());
        if received.request.is_some() {
            cx.fault(conn, Some(stream), PeerFault::BadRequest);
            self.drop_received(cx, stream);
            return;
        }
        let request = self.next_id();
        let copy = data.clone();
        match self.store(request, data, limits::INBOUND_REQUEST_BYTES) {
            Ok(len) => {
                if let Some(received) = self.received.get_mut(&stream) {
                    received.request = Some(request);
                }
                self.streams.insert(request, stream);
                if cx.bugs.has(Bug::DoubleDelivery) && self.received.len() > 1 {
                    let again = self.next_id();
                    if self.store(again, copy, limits::INBOUND_REQUEST_BYTES).is_ok() {
                        cx.emit(Event::Request { request: again, conn, peer, protocol: protocol.clone(), len });
                    }
                }
                cx.emit(Event::Request { request, conn, peer, protocol, len });
            }
            Err(_) => {
                probe!(cx.probes, RequestNoRoom);
                self.forget_received(cx, stream);
                cx.net.reset(stream, code::STREAM_RESOURCE_LIMIT);
            }
        }
    }
}

fn write_frame(cx: &mut Cx<'_>, stream: StreamId, data: Bytes) {
    let prefix = varint::encode(data.len() as u64);
    cx.net.write(stream, Bytes::copy_from_slice(prefix.as_slice()));
    cx.net.write(stream, data);
}

impl Machine for Request {
    const ID: MachineId = MachineId::Request;

    fn on_net(&mut self, cx: &mut Cx<'_>, event: NetEvent) {
        match event {
            NetEvent::Inbound { stream, conn, peer, protocol } => self.on_inbound(cx, stream, conn, peer, protocol),
            NetEvent::Frame { stream, data } => self.on_frame(cx, stream, data),
            NetEvent::End { stream } => {
                if self.sent.contains_key(&stream) {
                    cx.net.reset(stream, code::OK);
                    self.end_sent(cx, stream, Err(StreamError::EndedEarly.into()));
                } else if let Some(Received { conn, request: None, .. }) = self.received.get(&stream) {
                    let conn = *conn;
                    cx.fault(conn, Some(stream), PeerFault::BadRequest);
                    self.forget_received(cx, stream);
                }
            }
            NetEvent::Stopped { stream, code: stopped } => {
                if self.received.contains_key(&stream) {
                    cx.net.reset(stream, code::OK);
                    self.drop_received(cx, stream);
                } else if self.sent.contains_key(&stream) {
                    // A responder may have what it needs and answer all the same; only a reset ends the wait.
                    tracing::trace!(%stream, stopped, "responder reads no more");
                }
            }
            NetEvent::Failed { stream, error } => {
                let error = match error {
                    StreamError::TimedOut => RequestError::TimedOut,
                    other => RequestError::Stream(other),
                };
                self.end_sent(cx, stream, Err(error));
                self.drop_received(cx, stream);
            }
            NetEvent::Connected { .. }
            | NetEvent::Moved { .. }
            | NetEvent::Disconnected { .. }
            | NetEvent::Opened { .. }
            | NetEvent::Data { .. }
            | NetEvent::Writable { .. }
            | NetEvent::Delivered { .. } => {}
        }
    }

    fn on_timer(&mut self, cx: &mut Cx<'_>, token: Token) {
        let stream = StreamId(token.0);
        probe!(cx.probes, RequestTimedOut);
        cx.net.reset(stream, code::OK);
        self.end_sent(cx, stream, Err(RequestError::TimedOut));
        self.drop_received(cx, stream);
    }

    fn on_signal(&mut self, _: &mut Cx<'_>, _: &Signal) {}
}
