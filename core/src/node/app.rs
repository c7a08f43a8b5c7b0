//! The application's side of streams and requests: [`StreamMut`] and [`RequestsMut`].

use bytes::Bytes;

use super::Node;
use crate::{
    config::RequestConfig,
    event::{ConnId, Direction, Read, RequestId, StreamError, StreamId},
    identity::PeerId,
    limits,
    protocol::{MachineId, request::RequestError},
    protocol_id::ProtocolId,
    time::Time,
    transport::{
        net::Framing,
        stream::{Outgoing, Owner, Registration, Stream},
    },
};

/// There is no such stream: it was never there, has failed, was closed, or both sides have finished it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("no such stream, or it has ended")]
pub struct UnknownStream;

/// Why a stream was not opened. Nothing has changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// There is no such connection, or it is closed.
    #[error("no such connection, or it is closed")]
    UnknownConnection,
    /// No protocol, or more than negotiation allows.
    #[error("propose 1 to {max} protocols", max = limits::PROPOSALS)]
    Protocols,
}

/// Why a protocol was not registered. Nothing has changed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegisterError {
    /// Somebody serves it already.
    #[error("{0} is registered already; unregister it first")]
    Taken(ProtocolId),
    /// [`RequestConfig`] allows messages that no stream would take at once.
    #[error("messages of {0} bytes are more than the {max} that a node sends at once; use streams", max = limits::MACHINE_MESSAGE)]
    MessagesTooLarge(usize),
    /// More than [`REGISTERED_PROTOCOLS`](limits::REGISTERED_PROTOCOLS).
    #[error("{max} protocols are registered, which is the most", max = limits::REGISTERED_PROTOCOLS)]
    TooMany,
}

impl Node {
    /// Answers streams of a protocol. They arrive as [`Event::StreamInbound`](crate::Event::StreamInbound), and each must
    /// be used or [closed](StreamMut::close).
    pub fn register(&mut self, now: Time, protocol: ProtocolId) -> Result<(), RegisterError> {
        log!(self, now, Register(Held::Ref(&protocol)));
        self.hub.advance(now);
        self.check_free(&protocol)?;
        self.hub.add_protocol(protocol, Registration { owner: Owner::App, framing: Framing::Raw });
        self.run();
        told!(self, Ok(()))
    }

    fn check_free(&self, protocol: &ProtocolId) -> Result<(), RegisterError> {
        if self.hub.streams.registry.contains_key(protocol) {
            return Err(RegisterError::Taken(protocol.clone()));
        }
        if self.hub.streams.registry.len() >= limits::REGISTERED_PROTOCOLS {
            return Err(RegisterError::TooMany);
        }
        Ok(())
    }

    /// Answers a protocol no longer; streams that exist stay. `false` if the application had not registered it.
    pub fn unregister(&mut self, now: Time, protocol: &ProtocolId) -> bool {
        log!(self, now, Unregister(Held::Ref(protocol)));
        self.hub.advance(now);
        let owner = self.hub.streams.registry.get(protocol).map(|registration| registration.owner);
        let known = matches!(owner, Some(Owner::App | Owner::Machine(MachineId::Request)));
        if known {
            self.hub.remove_protocol(protocol);
            self.run();
        }
        told!(self, known)
    }

    /// Opens a stream, proposing `protocols` in order. Ends in [`Event::StreamOpened`](crate::Event::StreamOpened) or
    /// [`Event::StreamFailed`](crate::Event::StreamFailed).
    ///
    /// With a single protocol, data may be written at once and travels behind the proposal, saving a round trip. If
    /// the peer refuses, that data is lost.
    pub fn open_stream(&mut self, now: Time, conn: ConnId, protocols: &[ProtocolId]) -> Result<StreamId, OpenError> {
        log!(self, now, OpenStream { conn, protocols: protocols.into() });
        self.hub.advance(now);
        if protocols.is_empty() || protocols.len() > limits::PROPOSALS {
            return Err(OpenError::Protocols);
        }
        let staying =
            self.hub.quic.conns.get(&conn).and_then(|conn| conn.peer()).ok_or(OpenError::UnknownConnection)?;
        // A superseded connection takes nothing new.
        let conn = if self.hub.is_going(conn) { self.hub.best_conn(staying).unwrap_or(conn) } else { conn };
        let id = self.hub.streams.next_id();
        self.hub.on_conn(conn, |streams, cx| streams.open(cx, id, Owner::App, protocols.to_vec(), Framing::Raw));
        self.run();
        told!(self, Ok(id))
    }

    /// A stream of the application's.
    pub fn stream(&mut self, now: Time, stream: StreamId) -> Result<StreamMut<'_>, UnknownStream> {
        self.touch(now);
        self.hub.streams.get_app(stream).ok_or(UnknownStream)?;
        Ok(StreamMut { node: self, id: stream })
    }

    /// A stream as a [`StreamMut`] has it, which need not be there any more. `None` if it is a machine's.
    #[cfg(feature = "record")]
    pub(crate) fn stream_again(&mut self, now: Time, stream: StreamId) -> Option<StreamMut<'_>> {
        self.touch(now);
        let streams = &self.hub.streams;
        let of_a_machine = streams.get(stream).is_some() && streams.get_app(stream).is_none();
        (!of_a_machine).then_some(StreamMut { node: self, id: stream })
    }

    /// The request–response helper.
    pub fn requests(&mut self, now: Time) -> RequestsMut<'_> {
        self.touch(now);
        RequestsMut { node: self }
    }
}

/// One stream of the application's. From [`Node::stream`].
pub struct StreamMut<'a> {
    node: &'a mut Node,
    id: StreamId,
}

impl StreamMut<'_> {
    fn stream(&self) -> Option<&Stream> {
        self.node.hub.streams.get(self.id)
    }

    fn settle(&mut self, conn: Option<ConnId>) {
        if let Some(conn) = conn {
            self.node.hub.leave_if_idle(conn);
        }
        self.node.run();
    }

    /// Its connection.
    pub fn conn(&self) -> Option<ConnId> {
        self.stream().map(|stream| stream.conn)
    }

    /// The peer at the other end.
    pub fn peer(&self) -> Option<PeerId> {
        self.stream().map(|stream| stream.peer)
    }

    /// Who opened it.
    pub fn direction(&self) -> Option<Direction> {
        self.stream().map(|stream| stream.direction)
    }

    /// The protocol, once the peer has agreed to it.
    pub fn protocol(&self) -> Option<&ProtocolId> {
        self.stream()?.protocol.as_ref()
    }

    /// Whether the peer has acknowledged everything including the end. A
    /// [`StreamWritable`](crate::Event::StreamWritable) comes when that happens.
    pub fn is_delivered(&self) -> bool {
        self.stream().is_some_and(Stream::is_delivered)
    }

    /// Takes the next piece of what has arrived, at most `max` bytes of it, without copying.
    pub fn read(&mut self, max: usize) -> Result<Read, StreamError> {
        let id = self.id;
        log!(self.node, self.node.hub.now, Read { stream: id, max: max as u64 });
        let Some((conn, orphaned)) = self.stream().map(|stream| (stream.conn, stream.is_orphaned())) else {
            return Err(StreamError::ConnectionClosed);
        };
        let hub = &mut self.node.hub;
        let result = if orphaned {
            hub.streams.read::<super::timer::Timer>(None, id, max)
        } else {
            hub.on_conn(conn, |streams, cx| streams.read(Some(cx), id, max))
                .unwrap_or(Err(StreamError::ConnectionClosed))
        };
        if !matches!(result, Ok(Read::Data(_) | Read::Blocked)) {
            self.settle(Some(conn));
        }
        #[cfg(feature = "record")]
        self.node.log_read(&result);
        result
    }

    /// Copies what has arrived into `dest`, as far as it goes. Says how many bytes, or with 0 why not more: blocked
    /// (`false`) or ended (`true`).
    pub fn read_into(&mut self, dest: &mut [u8]) -> Result<(usize, bool), StreamError> {
        let mut filled = 0;
        while let Some(rest) = dest.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.read(rest.len()) {
                Ok(Read::Data(data)) => {
                    if let Some(room) = rest.get_mut(..data.len()) {
                        room.copy_from_slice(&data);
                    }
                    filled += data.len();
                }
                Ok(Read::Blocked) => break,
                Ok(Read::End) => return Ok((filled, true)),
                Err(error) if filled == 0 => return Err(error),
                Err(_) => break,
            }
        }
        Ok((filled, false))
    }

    /// Writes from the front of `data` and says how many bytes were taken. If it was not all,
    /// [`Event::StreamWritable`](crate::Event::StreamWritable) will come.
    pub fn write(&mut self, data: &[u8]) -> Result<usize, StreamError> {
        self.write_any(Outgoing::Slice(data))
    }

    /// The same without copying: what was taken is cut off the front of `data`.
    pub fn write_bytes(&mut self, data: &mut Bytes) -> Result<usize, StreamError> {
        self.write_any(Outgoing::Bytes(data))
    }

    fn write_any(&mut self, data: Outgoing<'_>) -> Result<usize, StreamError> {
        let id = self.id;
        #[cfg(feature = "record")]
        let offer = self.node.log_offer(&data);
        let result = self
            .node
            .hub
            .on_stream(id, |streams, cx| streams.write(cx, id, data))
            .unwrap_or(Err(StreamError::ConnectionClosed));
        #[cfg(feature = "record")]
        self.node.log_write(id, offer, &result);
        result
    }

    /// Writes no more; the peer reads to the end of what was written.
    pub fn finish(&mut self) -> Result<(), StreamError> {
        let id = self.id;
        log!(self.node, self.node.hub.now, Finish(id));
        let result = self.node.hub.on_stream(id, |streams, cx| streams.finish(cx, id));
        self.settle(None);
        told!(self.node, result.unwrap_or(Err(StreamError::ConnectionClosed)))
    }

    /// Aborts writing. The peer gets the code and loses what it has not read.
    pub fn reset(&mut self, code: u32) {
        let (id, conn) = (self.id, self.conn());
        log!(self.node, self.node.hub.now, Reset { stream: id, code });
        self.node.hub.on_stream(id, |streams, cx| streams.reset_writing(cx, id, code));
        self.settle(conn);
    }

    /// Aborts reading. The peer gets the code, if it has not agreed to the protocol yet, when it does.
    pub fn stop(&mut self, code: u32) {
        let (id, conn) = (self.id, self.conn());
        log!(self.node, self.node.hub.now, Stop { stream: id, code });
        if self.stream().is_some_and(Stream::is_orphaned) {
            self.node.hub.streams.drop_orphan(id);
        } else {
            self.node.hub.on_stream(id, |streams, cx| streams.stop_reading(cx, id, code));
        }
        self.settle(conn);
    }

    /// Lets go of the stream: finishes writing, reads no more, forgets. What was written still arrives.
    pub fn close(mut self) {
        let (id, conn) = (self.id, self.conn());
        log!(self.node, self.node.hub.now, Close(id));
        if self.stream().is_some_and(Stream::is_orphaned) {
            self.node.hub.streams.drop_orphan(id);
        } else {
            self.node.hub.on_stream(id, |streams, cx| streams.close(cx, id));
        }
        self.settle(conn);
    }
}

/// Request–response. From [`Node::requests`].
pub struct RequestsMut<'a> {
    node: &'a mut Node,
}

impl RequestsMut<'_> {
    /// Makes a protocol known, for sending and, if [`RequestConfig::serve`] says so, for answering.
    pub fn register(&mut self, protocol: ProtocolId, config: RequestConfig) -> Result<(), RegisterError> {
        log!(self.node, self.node.hub.now, RegisterRequests(Held::Ref(&protocol), Held::Ref(&config)));
        self.node.check_free(&protocol)?;
        let largest = config.max_request.max(config.max_response);
        if largest > limits::MACHINE_MESSAGE {
            return Err(RegisterError::MessagesTooLarge(largest));
        }
        let serve = config.serve;
        let framing = self.node.request.register(protocol.clone(), config);
        if serve {
            self.node.hub.add_protocol(protocol, Registration { owner: Owner::Machine(MachineId::Request), framing });
            self.node.run();
        }
        told!(self.node, Ok(()))
    }

    /// Sends a request. Ends in [`Event::Response`](crate::Event::Response).
    pub fn send(&mut self, conn: ConnId, protocol: &ProtocolId, data: Bytes) -> Result<RequestId, RequestError> {
        let node = &mut *self.node;
        log!(node, node.hub.now, SendRequest { conn, protocol: Held::Ref(protocol), data: data.as_ref().into() });
        let peer = node.hub.quic.conns.get(&conn).and_then(|conn| conn.peer());
        let peer = peer.ok_or(RequestError::UnknownConnection)?;
        let conn = if node.hub.is_going(conn) { node.hub.best_conn(peer).unwrap_or(conn) } else { conn };
        let result = node.request.send(&mut node.hub.cx(MachineId::Request), conn, protocol, data);
        self.settle();
        told!(self.node, result)
    }

    /// Takes the payload of a request that arrived, or of a response. Once.
    pub fn take(&mut self, request: RequestId) -> Option<Bytes> {
        log!(self.node, self.node.hub.now, TakeRequest(request));
        let taken = self.node.request.take(request);
        #[cfg(feature = "record")]
        self.node.log_taken(taken.as_ref());
        taken
    }

    /// Answers a request.
    pub fn respond(&mut self, request: RequestId, data: Bytes) -> Result<(), RequestError> {
        let node = &mut *self.node;
        log!(node, node.hub.now, Respond { request, data: data.as_ref().into() });
        let result = node.request.respond(&mut node.hub.cx(MachineId::Request), request, data);
        self.settle();
        told!(self.node, result)
    }

    /// Turns a request down; the peer sees its stream reset.
    pub fn refuse(&mut self, request: RequestId) -> Result<(), RequestError> {
        let node = &mut *self.node;
        log!(node, node.hub.now, Refuse(request));
        let result = node.request.refuse(&mut node.hub.cx(MachineId::Request), request);
        self.settle();
        told!(self.node, result)
    }

    /// Gives up a request that this node sent. It ends in a response of [`RequestError::Cancelled`].
    pub fn cancel(&mut self, request: RequestId) -> Result<(), RequestError> {
        let node = &mut *self.node;
        log!(node, node.hub.now, CancelRequest(request));
        let result = node.request.cancel(&mut node.hub.cx(MachineId::Request), request);
        self.settle();
        told!(self.node, result)
    }

    fn settle(&mut self) {
        self.node.hub.carry_out(MachineId::Request);
        self.node.run();
    }
}
