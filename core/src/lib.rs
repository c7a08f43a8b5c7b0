//! A whole libp2p-compatible peer as one pure state machine.
#![forbid(unsafe_code)]

pub mod identity;
pub mod protocol;
pub mod transport;
