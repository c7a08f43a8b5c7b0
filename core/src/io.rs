//! The boundary: what goes into a node and what comes out.
//!
//! A node consumes [`Input`]s and emits [`Output`]s (a [`Command`] for the driver or an [`Event`] for the
//! application, in one total order) and datagrams ([`Transmit`]). Every command that needs an answer carries an id and
//! has a matching input. All ids are chosen by the node, so a log of inputs replays.

use core::{fmt, net::IpAddr, net::SocketAddr, num::NonZeroUsize};

use bytes::BytesMut;

use crate::{event::Event, time::Time, time::UnixTime};

/// A UDP socket, named by the node in [`Command::UdpBind`] and by the driver in every input that concerns it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
pub struct SocketId(pub(crate) u32);

impl SocketId {
    /// The number as shown in logs.
    pub const fn index(self) -> u32 {
        self.0
    }
}

/// A name lookup, see [`Command::Resolve`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
pub struct ResolveId(pub(crate) u64);

/// Explicit congestion notification codepoint of an IP packet (RFC 3168 §5).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
pub enum Ecn {
    /// ECN-capable, codepoint 10.
    Ect0,
    /// ECN-capable, codepoint 01.
    Ect1,
    /// Congestion experienced, codepoint 11.
    Ce,
}

/// One UDP receive: a datagram, or several of the same size that the kernel coalesced (GRO).
#[derive(Debug)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
pub struct Datagram {
    /// The socket on which it arrived.
    pub socket: SocketId,
    /// The sender, as the IP header claims.
    #[cfg_attr(feature = "record", serde(with = "crate::record::wire::socket_addr"))]
    pub from: SocketAddr,
    /// The local address it was sent to, where the platform tells.
    pub to_ip: Option<IpAddr>,
    /// ECN mark of the packet.
    pub ecn: Option<Ecn>,
    /// Size of each coalesced datagram (the last may be shorter), or `None` if `data` is one datagram.
    pub segment: Option<NonZeroUsize>,
    /// The payload. Given by value: packets are decrypted in place.
    pub data: BytesMut,
}

impl Datagram {
    /// A single datagram, of which nothing is known but where it came from. The bytes are copied.
    pub fn new(socket: SocketId, from: SocketAddr, data: &[u8]) -> Self {
        Self { socket, from, to_ip: None, ecn: None, segment: None, data: BytesMut::from(data) }
    }
}

/// Why the operating system refused something. Carries text for people, and the kinds that the node acts upon.
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
pub struct IoError {
    /// What kind of refusal it was.
    pub kind: IoErrorKind,
    /// The operating system's words.
    pub message: String,
}

impl IoError {
    /// An error with this kind and text.
    pub fn new(kind: IoErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }
}

impl fmt::Display for IoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl core::error::Error for IoError {}

/// The kinds of [`IoError`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
pub enum IoErrorKind {
    /// The address is taken by another socket.
    AddressInUse,
    /// The address does not belong to this machine, or its family is not available.
    AddressNotAvailable,
    /// The process may not do this.
    PermissionDenied,
    /// No route to the destination, or the network is down.
    Unreachable,
    /// The name does not exist or has no records of the wanted type.
    NotFound,
    /// No answer in time.
    TimedOut,
    /// Anything else.
    Other,
}

/// What a bound socket is and can do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
pub struct BoundSocket {
    /// The address bound, with the real port.
    #[cfg_attr(feature = "record", serde(with = "crate::record::wire::socket_addr"))]
    pub local: SocketAddr,
    /// How many datagrams one [`Transmit`] to this socket may hold (GSO); 1 if the platform cannot segment.
    pub max_segments: NonZeroUsize,
}

impl BoundSocket {
    /// A socket that sends one datagram at a time.
    pub fn new(local: SocketAddr) -> Self {
        Self { local, max_segments: NonZeroUsize::MIN }
    }
}

/// What a [`Command::Resolve`] asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Query {
    /// A and AAAA records: `/dns/name`.
    Ip(String),
    /// A records: `/dns4/name`.
    Ip4(String),
    /// AAAA records: `/dns6/name`.
    Ip6(String),
    /// TXT records. For `/dnsaddr/name` the node asks for `_dnsaddr.name`.
    Txt(String),
}

/// The answer to a [`Query`].
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
pub enum Answer {
    /// For the three IP queries. The node uses the first [`RESOLVED_ADDRESSES`](crate::limits::RESOLVED_ADDRESSES).
    Ips(Vec<IpAddr>),
    /// For TXT: each record's strings joined.
    Txt(Vec<String>),
}

/// Something that happened outside the node.
///
/// [`Node::handle`](crate::Node::handle) is infallible: an input that names an unknown id or makes no sense is dropped
/// and counted in [`Stats::inputs_ignored`](crate::Stats::inputs_ignored).
#[derive(Debug)]
#[non_exhaustive]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
pub enum Input {
    /// The time of [`Node::poll_timeout`](crate::Node::poll_timeout) has come. Harmless at any other time.
    Wake,
    /// A datagram arrived.
    Datagram(Datagram),
    /// The kernel's send buffer of this socket is full: the node offers no datagrams for it until it is ready again.
    SocketBlocked {
        /// The blocked socket.
        socket: SocketId,
    },
    /// The socket takes datagrams again.
    SocketReady {
        /// The writable socket.
        socket: SocketId,
    },
    /// The kernel refused a datagram for a lasting reason (no route, port unreachable by ICMP). Only a hint: it can be
    /// forged, so it ends a dial attempt early and never an established connection.
    SendFailed {
        /// The sending socket.
        socket: SocketId,
        /// The destination that was refused.
        #[cfg_attr(feature = "record", serde(with = "crate::record::wire::socket_addr"))]
        to: SocketAddr,
        /// The operating system's reason.
        error: IoError,
    },
    /// Answer to [`Command::UdpBind`].
    Bound {
        /// The socket of the command.
        socket: SocketId,
        /// The socket's properties, or why there is none.
        result: Result<BoundSocket, IoError>,
    },
    /// A bound socket died. Its listeners and connections end with it.
    SocketFailed {
        /// The socket that is gone.
        socket: SocketId,
        /// The operating system's reason.
        error: IoError,
    },
    /// Answer to [`Command::Resolve`].
    Resolved {
        /// The lookup of the command.
        id: ResolveId,
        /// The records, or why there are none.
        result: Result<Answer, IoError>,
    },
    /// The addresses of this machine's interfaces, all of them, whenever they change and once at the start. They turn
    /// `/ip4/0.0.0.0/..` into the addresses that others can dial.
    Interfaces(Vec<IpAddr>),
    /// The wall clock, whenever it was set, and now and then. Between two of these the node advances it by its own time.
    WallClock(UnixTime),
}

/// Something the node asks of its driver.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Command {
    /// Bind a UDP socket, then answer with [`Input::Bound`]. IPv6 sockets are bound IPv6-only.
    UdpBind {
        /// The name of the new socket.
        socket: SocketId,
        /// Where to bind; port 0 means any.
        address: SocketAddr,
    },
    /// Close a socket. No answer; datagrams already taken from [`poll_transmit`](crate::Node::poll_transmit) come first.
    UdpClose {
        /// The socket to close.
        socket: SocketId,
    },
    /// Ask the domain name system, then answer with [`Input::Resolved`] within
    /// [`RESOLVE_TIMEOUT`](crate::limits::RESOLVE_TIMEOUT).
    Resolve {
        /// The name of the lookup.
        id: ResolveId,
        /// What to look up.
        query: Query,
    },
}

/// One thing that came out of a node.
#[derive(Clone, PartialEq, Debug)]
pub enum Output {
    /// For the driver.
    Command(Command),
    /// For the application.
    Event(Event),
}

/// The caller's memory for outgoing datagrams.
///
/// The node appends to the buffer, which keeps its capacity from call to call; nothing is allocated in the steady state.
#[derive(Debug)]
pub struct TransmitBuf<'a> {
    pub(crate) data: &'a mut Vec<u8>,
    pub(crate) max_segments: NonZeroUsize,
}

impl<'a> TransmitBuf<'a> {
    /// Datagrams go to the end of `data`, at most `max_segments` of them a call, and never more than the socket's
    /// [`BoundSocket::max_segments`].
    pub fn new(data: &'a mut Vec<u8>, max_segments: NonZeroUsize) -> Self {
        Self { data, max_segments }
    }

    /// One datagram a call.
    pub fn single(data: &'a mut Vec<u8>) -> Self {
        Self { data, max_segments: NonZeroUsize::MIN }
    }
}

/// One batch of datagrams to send, in the buffer given to [`Node::poll_transmit`](crate::Node::poll_transmit).
#[derive(Clone, PartialEq, Eq, Debug)]
#[must_use = "a datagram that is not sent counts as lost"]
pub struct Transmit {
    /// The socket to send from.
    pub socket: SocketId,
    /// Where to send.
    pub to: SocketAddr,
    /// The local address to send from, where the platform allows to choose.
    pub from_ip: Option<IpAddr>,
    /// ECN mark to set.
    pub ecn: Option<Ecn>,
    /// Bytes appended to the buffer by this call.
    pub len: usize,
    /// Size of each datagram (the last may be shorter), or `None` if it is one.
    pub segment: Option<NonZeroUsize>,
}

/// When the node wants to be called again, and why.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Wake {
    /// The node does nothing before this unless an input or a call comes first.
    pub at: Time,
    /// What will happen then. If a loop runs hot, this names the culprit.
    pub why: WakeReason,
}

/// What a [`Wake`] is for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[non_exhaustive]
pub enum WakeReason {
    /// Work is left over because one call spent its budget.
    Backlog,
    /// A QUIC timer: loss detection, acknowledgement, pacing, keep-alive, idle timeout or the end of draining.
    Connection,
    /// A dial: the next address, or the dial's deadline.
    Dial,
    /// A stream's negotiation or draining deadline.
    Stream,
    /// A linger of the connection manager, such as the end of a superseded connection.
    Manager,
    /// A timer of this machine.
    Machine(crate::protocol::MachineId),
}
