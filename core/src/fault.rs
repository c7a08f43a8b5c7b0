//! Rules that peers can break, and what follows: one table.
//!
//! A *peer fault* is something that only the authenticated peer at the other end can have done. Garbage from the
//! network is not a fault: anybody can forge it, so it is dropped and counted and never held against a peer.

use core::fmt;

/// Application error codes that libp2p implementations put into CONNECTION_CLOSE, RESET_STREAM and STOP_SENDING
/// (libp2p specs, error-codes). Never require a certain code from a peer: rust-libp2p sends 0 for all.
pub mod code {
    /// No error.
    pub const OK: u32 = 0;
    /// Protocol negotiation failed.
    pub const NEGOTIATION_FAILED: u32 = 0x1001;
    /// A limit was reached. On connections.
    pub const RESOURCE_LIMIT: u32 = 0x1001;
    /// A limit was reached. On streams.
    pub const STREAM_RESOURCE_LIMIT: u32 = 0x1002;
    /// A rule was broken. On connections.
    pub const PROTOCOL_VIOLATION: u32 = 0x1003;
    /// A rule was broken. On streams.
    pub const STREAM_PROTOCOL_VIOLATION: u32 = 0x1004;
    /// Another connection stays instead.
    pub const SUPPLANTED: u32 = 0x1004;
    /// The connection was not used.
    pub const GARBAGE_COLLECTED: u32 = 0x1005;
    /// The node shuts down. On connections.
    pub const SHUTDOWN: u32 = 0x1006;
    /// The connection is not wanted.
    pub const GATED: u32 = 0x1007;
}

/// What a fault leads to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Consequence {
    /// The stream is reset with this code; the connection stays.
    ResetStream(u32),
    /// The connection is closed with this code.
    CloseConnection(u32),
}

/// One row of the table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FaultRule {
    /// What the node does at once.
    pub consequence: Consequence,
    /// Change of the peer's reputation, on the scale -1000..=1000. Invalid messages cost 20, failures 5.
    pub penalty: i16,
    /// The rule in words.
    pub rule: &'static str,
}

macro_rules! faults {
    ($($(#[$doc:meta])* $name:ident => $consequence:expr, $penalty:literal, $rule:literal;)*) => {
        /// A rule that a peer broke.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[non_exhaustive]
        pub enum PeerFault {
            $($(#[$doc])* $name,)*
        }

        impl PeerFault {
            /// Every fault, in the order of the table.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The consequences of this fault.
            pub const fn rule(self) -> FaultRule {
                match self {
                    $(Self::$name => FaultRule { consequence: $consequence, penalty: $penalty, rule: $rule },)*
                }
            }
        }
    };
}

faults! {
    /// multistream-select was not followed.
    BadNegotiation => Consequence::ResetStream(code::NEGOTIATION_FAILED), -20,
        "a stream starts with multistream-select 1.0, within its limits";
    /// A frame was longer than its protocol allows, or its length was no proper varint.
    BadFrame => Consequence::ResetStream(code::STREAM_PROTOCOL_VIOLATION), -20,
        "frames carry a minimal varint length within the protocol's limit";
    /// An identify message could not be decoded or was too large.
    BadIdentify => Consequence::ResetStream(code::STREAM_PROTOCOL_VIOLATION), -20,
        "identify sends at most 10 well-formed messages of at most 8 KiB";
    /// Identify carried somebody else's key.
    IdentityMismatch => Consequence::CloseConnection(code::PROTOCOL_VIOLATION), -20,
        "the key in identify is the key of the handshake";
    /// Identify pushes came faster than the limit.
    PushFlood => Consequence::ResetStream(code::STREAM_RESOURCE_LIMIT), -5,
        "identify pushes keep to the rate limit";
    /// A ping came back with other bytes.
    BadPong => Consequence::ResetStream(code::STREAM_PROTOCOL_VIOLATION), -20,
        "a ping is echoed byte for byte";
    /// More streams of a one-at-a-time protocol than allowed.
    TooManyStreams => Consequence::ResetStream(code::STREAM_RESOURCE_LIMIT), -5,
        "streams of a protocol stay within its limit";
    /// Pings were sent without reading their echoes.
    PingFlood => Consequence::ResetStream(code::STREAM_RESOURCE_LIMIT), -5,
        "a pinger reads its echoes";
    /// A request or response was malformed: more than one frame, or none.
    BadRequest => Consequence::ResetStream(code::STREAM_PROTOCOL_VIOLATION), -20,
        "one request frame and one response frame a stream";
    /// A perf stream ended before its header.
    BadPerf => Consequence::ResetStream(code::STREAM_PROTOCOL_VIOLATION), -20,
        "perf starts with eight bytes that say how much to send back";
}

impl fmt::Display for PeerFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.rule().rule)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_costs_something_and_says_what_was_broken() {
        for fault in PeerFault::ALL {
            let rule = fault.rule();
            assert!((-1000..0).contains(&rule.penalty), "{fault:?}");
            assert!(!rule.rule.is_empty(), "{fault:?}");
        }
    }
}
