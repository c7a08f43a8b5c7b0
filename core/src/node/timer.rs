//! The node's timers, by what they are for.

use super::cx::Token;
use crate::{
    event::{ConnId, DialId, StreamId},
    io::WakeReason,
    protocol::MachineId,
};

/// What a timer in the node's heap is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Timer {
    /// QUIC's own deadline.
    Conn(ConnId),
    /// A handshake, in or out, has taken too long.
    Handshake(ConnId),
    /// A superseded connection may go.
    Superseded(ConnId),
    /// A dial has taken too long.
    Dial(DialId),
    /// The next address of a dial is to be tried.
    Stagger(DialId),
    /// A stream's negotiation has taken too long.
    Stream(StreamId),
    /// Shutting down has taken too long.
    Shutdown,
    /// A machine's own.
    Machine(MachineId, Token),
}

impl Timer {
    pub(crate) fn reason(self) -> WakeReason {
        match self {
            Self::Conn(_) | Self::Handshake(_) => WakeReason::Connection,
            Self::Dial(_) | Self::Stagger(_) => WakeReason::Dial,
            Self::Stream(_) => WakeReason::Stream,
            Self::Superseded(_) | Self::Shutdown => WakeReason::Manager,
            Self::Machine(machine, _) => WakeReason::Machine(machine),
        }
    }
}
