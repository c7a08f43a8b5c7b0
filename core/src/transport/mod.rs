//! How bytes move: QUIC, TLS, addresses, protocol negotiation and framing.
//!
//! In the order a byte travels: [`addr`] (what a multiaddr means), `quic` (connections, on `noq-proto`) with `crypto`
//! and `certificate` (libp2p TLS), `stream` (negotiation by [`negotiate`], frames by [`frame`]), and [`net`], the
//! vocabulary in which machines see it all. TCP, relayed and plaintext connections will stand beside `quic`.

pub mod addr;
pub(crate) mod certificate;
pub(crate) mod crypto;
pub mod frame;
pub mod negotiate;
pub mod net;
#[cfg(feature = "qlog")]
pub mod qlog;
pub(crate) mod quic;
pub(crate) mod stream;
pub mod varint;
