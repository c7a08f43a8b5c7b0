//! What the application gets to know: ids and small values. Bulk data stays in streams and is read from there.

use core::{fmt, net::SocketAddr, time::Duration};
use std::sync::Arc;

use bytes::Bytes;
use multiaddr::Multiaddr;

use crate::{
    fault::PeerFault, identity::PeerId, io::IoError, protocol::identify::PeerInfo, protocol_id::ProtocolId,
    transport::addr::AddrError,
};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        ///
        /// Counted up from 1 and never used again in the life of a node.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
        pub struct $name(pub(crate) u64);

        impl $name {
            /// The number, for logs and for keys of the application's own maps.
            pub const fn get(self) -> u64 {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

id!(
    /// A connection to one peer, from the end of its handshake to its last event.
    ConnId, "c");
id!(
    /// A stream on a connection.
    StreamId, "s");
id!(
    /// An attempt to reach a peer at one or more addresses, see [`Node::dial`](crate::Node::dial).
    DialId, "d");
id!(
    /// An address that the node was told to listen on, see [`Node::listen`](crate::Node::listen).
    ListenId, "l");
id!(
    /// A request, sent or received, see [`Node::requests`](crate::Node::requests).
    RequestId, "r");
id!(
    /// A throughput measurement, see [`Node::perf`](crate::Node::perf).
    PerfId, "p");

/// Who opened a connection or stream.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Direction {
    /// The other peer did.
    Inbound,
    /// This node did.
    Outbound,
}

/// Something that happened, for the application.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub enum Event {
    /// The node can be reached at this address. For a wildcard address, one event for each interface address.
    Listening {
        /// The listener.
        listener: ListenId,
        /// An address that others can dial, without `/p2p`.
        address: Multiaddr,
    },
    /// A listener could not be set up, or its socket died. It is gone.
    ListenFailed {
        /// The listener.
        listener: ListenId,
        /// The operating system's reason.
        error: IoError,
    },
    /// A dial ended with a connection, be it a new one or one that existed before.
    Dialed {
        /// The dial.
        dial: DialId,
        /// The connection to use.
        conn: ConnId,
        /// The peer at its other end.
        peer: PeerId,
    },
    /// A dial ended without a connection.
    DialFailed {
        /// The dial.
        dial: DialId,
        /// What was tried and what came of it.
        error: DialFailure,
    },
    /// A connection is up: the handshake is over and the peer is who it claims to be.
    Connected {
        /// The connection.
        conn: ConnId,
        /// The peer, proven by its key.
        peer: PeerId,
        /// Who dialled.
        direction: Direction,
        /// The peer's address, without `/p2p`.
        address: Multiaddr,
    },
    /// A connection is gone, and with it its streams.
    Disconnected {
        /// The connection.
        conn: ConnId,
        /// The peer.
        peer: PeerId,
        /// Who ended it, and why.
        reason: CloseReason,
        /// Connections to the same peer that are still up.
        remaining: usize,
    },
    /// A peer's packets come from another address now: its network or its NAT changed. The packets are the peer's; that it
    /// can be reached there is what QUIC is validating at this moment.
    AddressChanged {
        /// The connection, which goes on.
        conn: ConnId,
        /// The peer.
        peer: PeerId,
        /// The new address.
        address: Multiaddr,
    },
    /// A peer told about itself, or told of a change (identify and identify push).
    Identified {
        /// The connection on which it did.
        conn: ConnId,
        /// The peer.
        peer: PeerId,
        /// What it said. Claims, all but the peer id.
        info: Arc<PeerInfo>,
    },
    /// A peer could not be identified. The connection stays.
    IdentifyFailed {
        /// The connection.
        conn: ConnId,
        /// The peer.
        peer: PeerId,
        /// Why.
        error: crate::protocol::identify::IdentifyError,
    },
    /// A peer says from which address our packets come. One peer's word: do not announce it on that alone.
    ObservedAddress {
        /// The connection.
        conn: ConnId,
        /// The observer.
        peer: PeerId,
        /// The address that it sees.
        address: Multiaddr,
    },
    /// A ping came back, or did not.
    Ping {
        /// The connection.
        conn: ConnId,
        /// The peer.
        peer: PeerId,
        /// Round-trip time, or why there is none.
        result: Result<Duration, crate::protocol::ping::PingFailure>,
    },
    /// The peer agreed to a protocol on a stream that this node opened.
    StreamOpened {
        /// The stream.
        stream: StreamId,
        /// The protocol, one of those proposed.
        protocol: ProtocolId,
    },
    /// A peer opened a stream with a protocol that the application registered.
    StreamInbound {
        /// The stream.
        stream: StreamId,
        /// Its connection.
        conn: ConnId,
        /// The peer.
        peer: PeerId,
        /// The protocol.
        protocol: ProtocolId,
    },
    /// There is something to read: data, the end, or an error. Comes again only after a read said
    /// [`Read::Blocked`].
    StreamReadable {
        /// The stream.
        stream: StreamId,
    },
    /// A stream takes data again after a write took less than was offered, or an error waits to be seen by a write.
    StreamWritable {
        /// The stream.
        stream: StreamId,
    },
    /// A stream ended otherwise than by both sides finishing it, and is forgotten, except for data received before
    /// that can still be read.
    StreamFailed {
        /// The stream.
        stream: StreamId,
        /// Why.
        error: StreamError,
    },
    /// A request arrived. Take it with [`RequestsMut::take`](crate::RequestsMut::take), then respond or refuse.
    Request {
        /// The request.
        request: RequestId,
        /// The connection on which it came.
        conn: ConnId,
        /// The peer that asks.
        peer: PeerId,
        /// The protocol.
        protocol: ProtocolId,
        /// Size in bytes.
        len: usize,
    },
    /// A request that this node sent has ended.
    Response {
        /// The request.
        request: RequestId,
        /// Size of the response in bytes, to be had from [`RequestsMut::take`](crate::RequestsMut::take), or why
        /// there is none.
        result: Result<usize, crate::protocol::request::RequestError>,
    },
    /// A request that this node received can no longer be answered: the peer gave up or is gone.
    RequestDropped {
        /// The request.
        request: RequestId,
    },
    /// A throughput measurement has ended.
    Perf {
        /// The measurement.
        perf: PerfId,
        /// What was measured, or why it failed.
        result: Result<crate::protocol::perf::PerfReport, StreamError>,
    },
    /// A peer broke a rule.
    Fault {
        /// The connection on which it did.
        conn: ConnId,
        /// The peer.
        peer: PeerId,
        /// The rule that it broke.
        fault: PeerFault,
    },
    /// [`Node::shutdown`](crate::Node::shutdown) is complete: every connection is closed and every socket released.
    ShutDown,
}

/// Why a connection ended.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum CloseReason {
    /// This node's application closed it, with this code and these words.
    Local {
        /// Application error code.
        code: u64,
        /// Reason phrase as sent to the peer.
        reason: String,
    },
    /// The peer's application closed it.
    Remote {
        /// Application error code; libp2p's meanings are in [`code`](crate::fault::code).
        code: u64,
        /// Reason phrase as received, made valid UTF-8.
        reason: String,
    },
    /// Nothing was heard from the peer for the idle timeout.
    IdleTimeout,
    /// The peer left pings unanswered, [`max_unanswered`](crate::config::PingConfig::max_unanswered) in a row.
    Unresponsive,
    /// The peer does not know this connection (it restarted): a stateless reset.
    Reset,
    /// QUIC itself failed.
    Transport {
        /// QUIC transport error code (RFC 9000 §20.1); 0x100 + alert for TLS.
        code: u64,
        /// Words for people.
        reason: String,
        /// Whether the peer found the error; otherwise this node did.
        by_peer: bool,
    },
    /// Another connection to the same peer stays instead.
    Superseded,
    /// The socket that carried it failed or was closed.
    SocketLost,
    /// The peer broke a rule that ends connections.
    Fault(PeerFault),
    /// A limit of this node on connections was reached.
    LimitReached,
    /// This node shuts down.
    ShutDown,
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local { code, reason } => write!(f, "closed by us (code {code:#x}: {reason:?})"),
            Self::Remote { code, reason } => write!(f, "closed by the peer (code {code:#x}: {reason:?})"),
            Self::IdleTimeout => f.write_str("nothing heard from the peer for the idle timeout"),
            Self::Unresponsive => f.write_str("the peer no longer answers pings"),
            Self::Reset => f.write_str("reset: the peer no longer knows the connection"),
            Self::Transport { code, reason, by_peer: true } => write!(f, "the peer reports error {code:#x}: {reason}"),
            Self::Transport { code, reason, by_peer: false } => write!(f, "QUIC error {code:#x}: {reason}"),
            Self::Superseded => f.write_str("another connection to the peer stays instead"),
            Self::SocketLost => f.write_str("the socket is gone"),
            Self::Fault(fault) => write!(f, "the peer broke a rule: {fault}"),
            Self::LimitReached => f.write_str("connection limit reached"),
            Self::ShutDown => f.write_str("this node shuts down"),
        }
    }
}

/// Why a dial brought no connection.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum DialFailure {
    /// [`Node::cancel_dial`](crate::Node::cancel_dial) ended it.
    Cancelled,
    /// None of the addresses led to the peer. One entry for each address, in the order in which they failed.
    AllFailed(Vec<(Multiaddr, AttemptError)>),
}

impl fmt::Display for DialFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cancelled => f.write_str("the dial was cancelled"),
            Self::AllFailed(attempts) => {
                for (i, (address, error)) in attempts.iter().enumerate() {
                    write!(f, "{}{address}: {error}", if i > 0 { "; " } else { "" })?;
                }
                Ok(())
            }
        }
    }
}

impl core::error::Error for DialFailure {}

/// What came of one address of a dial.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AttemptError {
    /// The address cannot be dialled by this node.
    #[error(transparent)]
    Address(#[from] AddrError),
    /// The name could not be resolved.
    #[error("the name could not be resolved: {0}")]
    Resolve(IoError),
    /// The name has no address that this node can dial.
    #[error("the name has no QUIC address that this node can dial")]
    NoAddresses,
    /// The address can never be dialled, whoever lives there.
    #[error("{0}")]
    Unusable(String),
    /// Somebody else lives there.
    #[error("expected peer {expected} but {actual} answered; check the address or the /p2p part")]
    WrongPeer {
        /// The peer dialled.
        expected: PeerId,
        /// The peer that answered.
        actual: PeerId,
    },
    /// This node lives there.
    #[error("this is the node's own address")]
    SelfDial,
    /// No answer in time.
    #[error("no answer within the dial timeout; is a peer listening there, and does UDP get through?")]
    TimedOut,
    /// The handshake failed or the peer turned the connection away.
    #[error("{0}")]
    Closed(CloseReason),
    /// The operating system cannot send there.
    #[error("the operating system cannot reach {to}: {error}")]
    Unreachable {
        /// The destination.
        to: SocketAddr,
        /// Its reason.
        error: IoError,
    },
    /// No socket could be bound to dial from.
    #[error("no socket to dial from: {0}")]
    Bind(IoError),
    /// Too many dials at once; try again when some have ended.
    #[error("too many connections are being set up or open; raise Config::limits or try later")]
    LimitReached,
}

/// Why a stream failed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StreamError {
    /// The peer speaks none of the proposed protocols.
    #[error("the peer supports none of the proposed protocols")]
    Unsupported,
    /// The peer did not follow multistream-select.
    #[error("the protocol negotiation failed: {0}")]
    Negotiation(String),
    /// Negotiation took too long.
    #[error("the peer did not agree on a protocol in time")]
    TimedOut,
    /// The peer aborted its sending side.
    #[error("the peer reset the stream (code {0:#x})")]
    Reset(u64),
    /// The peer does not want what this side sends.
    #[error("the peer stopped reading the stream (code {0:#x})")]
    Stopped(u64),
    /// The connection is gone; its [`Event::Disconnected`] says why.
    #[error("the connection closed")]
    ConnectionClosed,
    /// This side has already finished or reset the stream's sending side.
    #[error("this side of the stream is already finished; open another stream")]
    Finished,
    /// The peer ended the stream before everything expected had come.
    #[error("the peer ended the stream early")]
    EndedEarly,
}

/// What a read from a stream gave.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Read {
    /// Some data, never empty.
    Data(Bytes),
    /// Nothing now; [`Event::StreamReadable`] will come.
    Blocked,
    /// The peer has finished its side and everything has been read.
    End,
}
