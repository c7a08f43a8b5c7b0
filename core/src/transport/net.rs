//! What passes between the stream layer and the machines: events up, actions down.

use core::net::SocketAddr;

use bytes::Bytes;

use crate::{
    event::{ConnId, Direction, StreamError, StreamId},
    fault::PeerFault,
    identity::PeerId,
    protocol_id::ProtocolId,
};

/// Something that happened on the network, as a machine sees it.
///
/// Stream events reach the machine that opened the stream or registered its protocol; connection events reach all.
/// After [`Failed`](Self::Failed), or after the machine itself closed or reset a stream, nothing more comes for it.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum NetEvent {
    /// A connection is up.
    Connected {
        /// The connection.
        conn: ConnId,
        /// The peer.
        peer: PeerId,
        /// Who dialled.
        direction: Direction,
        /// The peer's address.
        address: SocketAddr,
    },
    /// The peer's packets come from another address now.
    Moved {
        /// The connection.
        conn: ConnId,
        /// The new address.
        address: SocketAddr,
    },
    /// A connection is gone. Its streams have failed before this.
    Disconnected {
        /// The connection.
        conn: ConnId,
        /// The peer.
        peer: PeerId,
    },
    /// The peer agreed to a protocol on a stream that the machine opened.
    Opened {
        /// The stream.
        stream: StreamId,
        /// The protocol.
        protocol: ProtocolId,
    },
    /// The peer opened a stream.
    Inbound {
        /// The stream.
        stream: StreamId,
        /// Its connection.
        conn: ConnId,
        /// The peer.
        peer: PeerId,
        /// The protocol.
        protocol: ProtocolId,
    },
    /// A whole frame, without its length prefix. Only with [`Framing::Frames`].
    Frame {
        /// The stream.
        stream: StreamId,
        /// The frame.
        data: Bytes,
    },
    /// Some bytes, never none. Only with [`Framing::Raw`].
    Data {
        /// The stream.
        stream: StreamId,
        /// The bytes, in order.
        data: Bytes,
    },
    /// The peer finished its side, at the end of a frame if there are frames.
    End {
        /// The stream.
        stream: StreamId,
    },
    /// All that was written has been taken by QUIC. Comes once for each [`Action::WantWritable`].
    Writable {
        /// The stream.
        stream: StreamId,
    },
    /// The peer has acknowledged all data and the end of the stream.
    Delivered {
        /// The stream.
        stream: StreamId,
    },
    /// The peer wants nothing more of what this side sends.
    Stopped {
        /// The stream.
        stream: StreamId,
        /// The peer's code.
        code: u64,
    },
    /// The stream is gone.
    Failed {
        /// The stream.
        stream: StreamId,
        /// Why.
        error: StreamError,
    },
}

/// How the stream layer cuts what it reads for a machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Framing {
    /// As it comes.
    Raw,
    /// Frames with an unsigned-varint length prefix.
    Frames {
        /// Longest frame accepted, in bytes. A longer one is a [`PeerFault::BadFrame`] before a byte of it is kept.
        max: usize,
    },
}

/// Something that a machine wants done.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Action {
    /// Open a stream, proposing these protocols in order. With one, data written at once travels behind the proposal.
    Open {
        /// The id that the stream will have.
        stream: StreamId,
        /// The connection.
        conn: ConnId,
        /// What to propose.
        protocols: Vec<ProtocolId>,
        /// How to read it.
        framing: Framing,
    },
    /// Send bytes; framing is up to the machine (see [`encode_frame`](super::frame::encode_frame)).
    Write {
        /// The stream.
        stream: StreamId,
        /// The bytes.
        data: Bytes,
    },
    /// Tell when all written bytes have been taken by QUIC.
    WantWritable {
        /// The stream.
        stream: StreamId,
    },
    /// No more writes.
    Finish {
        /// The stream.
        stream: StreamId,
    },
    /// Finish, read no more, forget. What was written still arrives.
    Close {
        /// The stream.
        stream: StreamId,
    },
    /// Abort both directions and forget.
    Reset {
        /// The stream.
        stream: StreamId,
        /// Code for the peer.
        code: u32,
    },
    /// The peer no longer answers: close the connection.
    GiveUp {
        /// The connection.
        conn: ConnId,
    },
    /// The peer broke a rule: do what the table of faults says.
    Fault {
        /// The connection.
        conn: ConnId,
        /// The stream on which it did, if one.
        stream: Option<StreamId>,
        /// The rule.
        fault: PeerFault,
    },
}
