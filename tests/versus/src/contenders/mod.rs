//! The contenders.

pub(crate) mod libp2p;
pub(crate) mod peerwork;
pub(crate) mod raw;
