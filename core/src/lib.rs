#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]
// Nothing that comes from outside may panic; the few places that cannot fail say why.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod bug;
pub mod config;
pub mod entropy;
pub mod event;
pub mod fault;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod hash;
pub mod identity;
pub mod io;
pub mod limits;
pub mod node;
mod peers;
pub mod probe;
pub mod protocol;
pub mod protocol_id;
#[cfg(feature = "record")]
pub mod record;
#[cfg(feature = "simulation")]
#[doc(hidden)]
pub mod simulation;
pub mod time;
pub mod timers;
pub mod transport;

#[doc(inline)]
pub use self::{
    config::{Config, ConfigError, Platform},
    entropy::{Entropy, Rng, Seed},
    event::{
        AttemptError, CloseReason, ConnId, DialFailure, DialId, Direction, Event, ListenId, PerfId, Read, RequestId,
        StreamError, StreamId,
    },
    fault::PeerFault,
    identity::{Keypair, PeerId, PublicKey},
    io::{BoundSocket, Command, Datagram, Input, Output, SocketId, Transmit, TransmitBuf, Wake, WakeReason},
    node::{
        Census, ConnInfo, Cx, Dial, DialError, Harness, ListenError, Machine, Node, OpenError, RegisterError,
        RequestsMut, Signal, Stats, StreamMut, UnknownConnection, UnknownDial, UnknownListener, UnknownStream,
    },
    probe::{Probe, Probes},
    protocol_id::ProtocolId,
    time::{Time, UnixTime},
};
pub use bytes;
pub use multiaddr;
pub use multiaddr::Multiaddr;
