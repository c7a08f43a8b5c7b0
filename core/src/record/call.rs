//! The calls that a log consists of.

use core::{fmt, num::NonZeroUsize, ops::Deref};
use std::borrow::Cow;

use bytes::Bytes;
use multiaddr::Multiaddr;
use serde::{Deserialize, Serialize};

use crate::{
    config::RequestConfig,
    event::{ConnId, DialId, ListenId, RequestId, StreamId},
    identity::PeerId,
    io::{Datagram, Input, Output, Transmit, TransmitBuf},
    limits,
    node::{Dial, Node},
    protocol_id::ProtocolId,
    time::Time,
};

/// A value that a call borrows while it is written and owns when it was read.
#[derive(Debug)]
pub enum Held<'a, T: ?Sized> {
    /// Somebody else's.
    Ref(&'a T),
    /// Its own.
    Own(Box<T>),
}

impl<T: ?Sized> Deref for Held<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        match self {
            Self::Ref(value) => value,
            Self::Own(value) => value,
        }
    }
}

impl<T> From<T> for Held<'_, T> {
    fn from(value: T) -> Self {
        Self::Own(Box::new(value))
    }
}

/// Bytes, borrowed or owned.
#[derive(Clone, PartialEq, Eq)]
pub struct Blob<'a>(Cow<'a, [u8]>);

impl Blob<'_> {
    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        &self.0
    }
}

impl<'a> From<&'a [u8]> for Blob<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self(Cow::Borrowed(bytes))
    }
}

impl From<Vec<u8>> for Blob<'_> {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Cow::Owned(bytes))
    }
}

impl fmt::Debug for Blob<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

/// A call to a node, as a log has it. All that take a time in the interface have that of their entry.
///
/// Its `Display` is a line for people, without secrets but with addresses, names and sizes.
// The order is the form of the log: new ones go to the end, and what changes raises `VERSION`.
#[derive(Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Call<'a> {
    /// [`Node::handle`].
    Handle(Held<'a, Input>),
    /// [`Node::poll_output`], as often as it gave something.
    Outputs {
        /// That many times.
        polled: u64,
    },
    /// [`Node::poll_transmit`] at one moment.
    Transmits {
        /// The most datagrams of a batch.
        max_segments: u64,
        /// That many times, the last of which may have given nothing.
        polled: u64,
    },
    /// A call that did nothing but tell the time, such as [`Node::stream`] for a look at a stream.
    Touch,
    /// [`Node::listen`].
    Listen(Held<'a, Multiaddr>),
    /// [`Node::unlisten`].
    Unlisten(ListenId),
    /// [`Node::dial`].
    Dial(Held<'a, Dial>),
    /// [`Node::cancel_dial`].
    CancelDial(DialId),
    /// [`Node::add_address`].
    AddAddress(PeerId, Held<'a, Multiaddr>),
    /// [`Node::disconnect`].
    Disconnect {
        /// The connection.
        conn: ConnId,
        /// The code for the peer.
        code: u32,
        /// The words for the peer.
        reason: Cow<'a, str>,
    },
    /// [`Node::ping`].
    Ping(ConnId),
    /// [`Node::perf`].
    Perf {
        /// The connection.
        conn: ConnId,
        /// Bytes to send.
        up: u64,
        /// Bytes to receive.
        down: u64,
    },
    /// [`Node::shutdown`].
    Shutdown,
    /// [`Node::register`].
    Register(Held<'a, ProtocolId>),
    /// [`Node::unregister`].
    Unregister(Held<'a, ProtocolId>),
    /// [`Node::open_stream`].
    OpenStream {
        /// The connection.
        conn: ConnId,
        /// What is proposed.
        protocols: Cow<'a, [ProtocolId]>,
    },
    /// [`StreamMut::read`](crate::StreamMut::read).
    Read {
        /// The stream.
        stream: StreamId,
        /// At most that many bytes.
        max: u64,
    },
    /// [`StreamMut::write`](crate::StreamMut::write) or [`write_bytes`](crate::StreamMut::write_bytes).
    Write {
        /// The stream.
        stream: StreamId,
        /// Whether it was `write_bytes`.
        shared: bool,
        /// What was taken.
        taken: Blob<'a>,
        /// Bytes offered beyond that, as far as they matter, which is [`GATHERED_WRITE`](limits::GATHERED_WRITE) and one.
        left: u64,
    },
    /// [`StreamMut::finish`](crate::StreamMut::finish).
    Finish(StreamId),
    /// [`StreamMut::reset`](crate::StreamMut::reset).
    Reset {
        /// The stream.
        stream: StreamId,
        /// The code for the peer.
        code: u32,
    },
    /// [`StreamMut::stop`](crate::StreamMut::stop).
    Stop {
        /// The stream.
        stream: StreamId,
        /// The code for the peer.
        code: u32,
    },
    /// [`StreamMut::close`](crate::StreamMut::close).
    Close(StreamId),
    /// [`RequestsMut::register`](crate::RequestsMut::register).
    RegisterRequests(Held<'a, ProtocolId>, Held<'a, RequestConfig>),
    /// [`RequestsMut::send`](crate::RequestsMut::send).
    SendRequest {
        /// The connection.
        conn: ConnId,
        /// The protocol.
        protocol: Held<'a, ProtocolId>,
        /// The request.
        data: Blob<'a>,
    },
    /// [`RequestsMut::take`](crate::RequestsMut::take).
    TakeRequest(RequestId),
    /// [`RequestsMut::respond`](crate::RequestsMut::respond).
    Respond {
        /// The request.
        request: RequestId,
        /// The answer.
        data: Blob<'a>,
    },
    /// [`RequestsMut::refuse`](crate::RequestsMut::refuse).
    Refuse(RequestId),
    /// [`RequestsMut::cancel`](crate::RequestsMut::cancel).
    CancelRequest(RequestId),
    /// No call: a place where a replay compares.
    Mark {
        /// Hash of the log up to here.
        log: u64,
        /// Hash of all that came out of the node.
        outputs: u64,
        /// Hash of the node's counters, census and next wake-up.
        state: u64,
        /// Nothing follows, and `state` says nothing.
        last: bool,
    },
}

/// What was not taken of a write matters only by being there, and by making the whole longer than
/// [`GATHERED_WRITE`](limits::GATHERED_WRITE).
pub(crate) const LEFT: usize = limits::GATHERED_WRITE + 1;

/// What came out of a call that takes things out of the node.
#[derive(Default)]
pub(super) struct Taken {
    pub(super) outputs: Vec<Output>,
    pub(super) sent: Vec<(Transmit, Vec<u8>)>,
}

/// A call that no application can have made.
#[derive(Debug)]
pub(super) struct Impossible(pub(super) &'static str);

impl Call<'_> {
    /// Makes the call. Results go where those of the first run went: into the recorder's hash.
    pub(super) fn apply(&self, node: &mut Node, at: Time, taken: &mut Taken) -> Result<(), Impossible> {
        match self {
            Self::Handle(input) => node.handle(at, copy(input)),
            Self::Outputs { polled } => {
                for _ in 0..*polled {
                    let none = Impossible("more outputs were taken than there are");
                    taken.outputs.push(node.poll_output().ok_or(none)?);
                }
            }
            Self::Transmits { max_segments, polled } => {
                let max = usize::try_from(*max_segments).ok().and_then(NonZeroUsize::new);
                let max = max.ok_or(Impossible("a batch of no datagrams"))?;
                for poll in 1..=*polled {
                    let mut data = Vec::new();
                    match node.poll_transmit(at, &mut TransmitBuf::new(&mut data, max)) {
                        Some(transmit) => taken.sent.push((transmit, data)),
                        // Only the last may be in vain, or a log could keep the replay busy for ever.
                        None if poll == *polled => {}
                        None => return Err(Impossible("more datagrams were taken than there are")),
                    }
                }
            }
            Self::Touch => node.touch(at),
            Self::Listen(address) => told(node.listen(at, Multiaddr::clone(address))),
            Self::Unlisten(listener) => told(node.unlisten(at, *listener)),
            Self::Dial(dial) => told(node.dial(at, Dial::clone(dial))),
            Self::CancelDial(dial) => told(node.cancel_dial(at, *dial)),
            Self::AddAddress(peer, address) => {
                node.touch(at);
                node.add_address(*peer, Multiaddr::clone(address));
            }
            Self::Disconnect { conn, code, reason } => told(node.disconnect(at, *conn, *code, reason)),
            Self::Ping(conn) => told(node.ping(at, *conn)),
            Self::Perf { conn, up, down } => told(node.perf(at, *conn, *up, *down)),
            Self::Shutdown => node.shutdown(at),
            Self::Register(protocol) => told(node.register(at, ProtocolId::clone(protocol))),
            Self::Unregister(protocol) => {
                node.unregister(at, protocol);
            }
            Self::OpenStream { conn, protocols } => told(node.open_stream(at, *conn, protocols)),
            Self::RegisterRequests(protocol, config) => {
                told(node.requests(at).register(ProtocolId::clone(protocol), RequestConfig::clone(config)));
            }
            Self::SendRequest { conn, protocol, data } => {
                told(node.requests(at).send(*conn, protocol, Bytes::copy_from_slice(data.as_slice())));
            }
            Self::TakeRequest(request) => told(node.requests(at).take(*request)),
            Self::Respond { request, data } => {
                told(node.requests(at).respond(*request, Bytes::copy_from_slice(data.as_slice())));
            }
            Self::Refuse(request) => told(node.requests(at).refuse(*request)),
            Self::CancelRequest(request) => told(node.requests(at).cancel(*request)),
            Self::Read { .. }
            | Self::Write { .. }
            | Self::Finish(_)
            | Self::Reset { .. }
            | Self::Stop { .. }
            | Self::Close(_) => self.apply_to_stream(node, at)?,
            // The replay itself sees to these.
            Self::Mark { .. } => {}
        }
        Ok(())
    }

    fn apply_to_stream(&self, node: &mut Node, at: Time) -> Result<(), Impossible> {
        let (Self::Read { stream, .. }
        | Self::Write { stream, .. }
        | Self::Finish(stream)
        | Self::Reset { stream, .. }
        | Self::Stop { stream, .. }
        | Self::Close(stream)) = self
        else {
            return Ok(());
        };
        let mut stream = node.stream_again(at, *stream).ok_or(Impossible("the stream is not the application's"))?;
        match self {
            Self::Read { max, .. } => told(stream.read(usize::try_from(*max).unwrap_or(usize::MAX))),
            Self::Write { shared, taken, left, .. } => {
                let more = usize::try_from(*left).unwrap_or(usize::MAX).min(LEFT);
                let mut data = taken.as_slice().to_vec();
                data.resize(data.len().saturating_add(more), 0);
                if *shared {
                    told(stream.write_bytes(&mut Bytes::from(data)));
                } else {
                    told(stream.write(&data));
                }
            }
            Self::Finish(_) => told(stream.finish()),
            Self::Reset { code, .. } => stream.reset(*code),
            Self::Stop { code, .. } => stream.stop(*code),
            _ => stream.close(),
        }
        Ok(())
    }
}

/// The recorder has heard it.
fn told<T>(_result: T) {}

fn copy(input: &Input) -> Input {
    match input {
        Input::Wake => Input::Wake,
        Input::Datagram(Datagram { socket, from, to_ip, ecn, segment, data }) => Input::Datagram(Datagram {
            socket: *socket,
            from: *from,
            to_ip: *to_ip,
            ecn: *ecn,
            segment: *segment,
            data: data.clone(),
        }),
        Input::SocketBlocked { socket } => Input::SocketBlocked { socket: *socket },
        Input::SocketReady { socket } => Input::SocketReady { socket: *socket },
        Input::SendFailed { socket, to, error } => Input::SendFailed { socket: *socket, to: *to, error: error.clone() },
        Input::Bound { socket, result } => Input::Bound { socket: *socket, result: result.clone() },
        Input::SocketFailed { socket, error } => Input::SocketFailed { socket: *socket, error: error.clone() },
        Input::Resolved { id, result } => Input::Resolved { id: *id, result: result.clone() },
        Input::Interfaces(addresses) => Input::Interfaces(addresses.clone()),
        Input::WallClock(wall) => Input::WallClock(*wall),
    }
}

/// Names in a row.
struct List<'a, T>(&'a [T]);

impl<T: fmt::Display> fmt::Display for List<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|item| write!(f, " {item}"))
    }
}

impl fmt::Display for Call<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Handle(input) => show(input, f),
            Self::Outputs { polled } => write!(f, "poll_output x{polled}"),
            Self::Transmits { max_segments, polled } => write!(f, "poll_transmit x{polled}, up to {max_segments}"),
            Self::Touch => f.write_str("touch"),
            Self::Listen(address) => write!(f, "listen {}", **address),
            Self::Unlisten(listener) => write!(f, "unlisten {listener}"),
            Self::Dial(dial) => {
                f.write_str("dial")?;
                dial.peer.iter().try_for_each(|peer| write!(f, " {peer}"))?;
                write!(f, "{}", List(&dial.addresses))
            }
            Self::CancelDial(dial) => write!(f, "cancel_dial {dial}"),
            Self::AddAddress(peer, address) => write!(f, "add_address {peer} {}", **address),
            Self::Disconnect { conn, code, reason } => write!(f, "disconnect {conn} code {code} {reason:?}"),
            Self::Ping(conn) => write!(f, "ping {conn}"),
            Self::Perf { conn, up, down } => write!(f, "perf {conn} up {up} down {down}"),
            Self::Shutdown => f.write_str("shutdown"),
            // Protocols, where they come from peers, are shown as `Debug` shows them.
            Self::Register(protocol) => write!(f, "register {:?}", **protocol),
            Self::Unregister(protocol) => write!(f, "unregister {:?}", **protocol),
            Self::OpenStream { conn, protocols } => write!(f, "open_stream {conn} {protocols:?}"),
            Self::Read { stream, max } => write!(f, "read {stream}, at most {max} bytes"),
            Self::Write { stream, taken, left, .. } => {
                write!(f, "write {stream}, {taken:?}")?;
                if *left > 0 { f.write_str(" of more") } else { Ok(()) }
            }
            Self::Finish(stream) => write!(f, "finish {stream}"),
            Self::Reset { stream, code } => write!(f, "reset {stream} code {code}"),
            Self::Stop { stream, code } => write!(f, "stop {stream} code {code}"),
            Self::Close(stream) => write!(f, "close {stream}"),
            Self::RegisterRequests(protocol, config) => {
                write!(f, "requests.register {:?}{}", **protocol, if config.serve { "" } else { ", not serving" })
            }
            Self::SendRequest { conn, protocol, data } => {
                write!(f, "requests.send {conn} {:?}, {data:?}", **protocol)
            }
            Self::TakeRequest(request) => write!(f, "requests.take {request}"),
            Self::Respond { request, data } => write!(f, "requests.respond {request}, {data:?}"),
            Self::Refuse(request) => write!(f, "requests.refuse {request}"),
            Self::CancelRequest(request) => write!(f, "requests.cancel {request}"),
            Self::Mark { last: false, .. } => f.write_str("mark"),
            Self::Mark { last: true, .. } => f.write_str("end"),
        }
    }
}

fn show(input: &Input, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match input {
        Input::Datagram(datagram) => {
            let (socket, from, len) = (datagram.socket.index(), datagram.from, datagram.data.len());
            write!(f, "datagram from {from} on socket {socket}, {len} bytes")?;
            datagram.segment.map_or(Ok(()), |segment| write!(f, " in parts of {segment}"))
        }
        other => write!(f, "{other:?}"),
    }
}
