//! Real peers of other makers, each a process of its own: [`GoPeer`] is go-libp2p, [`RustPeer`] is rust-libp2p.
//!
//! A test first asks for the program behind a peer ([`P2pd::fetch`], [`RustPeerProgram::build`]) and hands the outcome to
//! [`require`], which decides what a missing program means. From there on every failure is the test's own:
//!
//! ```no_run
//! use peerwork_tests::peers::{GoPeer, P2pd, QUIC_LOOPBACK, require};
//!
//! let Some(p2pd) = require(P2pd::fetch()) else { return };
//! let go = GoPeer::start(&p2pd, 1, &[QUIC_LOOPBACK], &[]).unwrap();
//! println!("{}", go.addrs()[0]);
//! ```
//!
//! Peer ids and addresses are text here, since text is the one form which these peers, their test protocols and peerwork
//! have in common. Everything blocks and everything has a time limit, so that no test can hang; and no peer outlives its
//! test, not even one which was killed.

mod control;
mod go;
mod p2pd;
mod process;
mod rust;
mod tools;

pub use go::{GoPeer, GoStream, Handler, PeerInfo};
pub use p2pd::P2pd;
pub use rust::{RustPeer, RustPeerProgram};
pub use tools::{ToolError, require, target_dir, tools_dir};

use std::{io, time::Duration};

/// Listens on loopback over QUIC, on a port the system chooses.
pub const QUIC_LOOPBACK: &str = "/ip4/127.0.0.1/udp/0/quic-v1";

/// What a peer told about itself through identify.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identified {
    /// Name and version of the implementation.
    pub agent: String,
    /// The version of the protocol family.
    pub protocol_version: String,
    /// The protocols it serves, in the order it named them.
    pub protocols: Vec<String>,
    /// Where it listens, as multiaddrs.
    pub listen_addrs: Vec<String>,
    /// The multiaddr at which it sees the one it told.
    pub observed: Option<String>,
    /// Whether a signed peer record came along. Nobody checked it.
    pub signed_record: bool,
}

/// Why a peer which runs, or should run, did not do what the test asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PeerError {
    /// The process ended, or never came up. Holds what it last printed.
    #[error("the {peer} peer is gone: {log}")]
    Gone {
        /// Which maker's peer.
        peer: &'static str,
        /// The end of its output.
        log: String,
    },
    /// Nothing of the kind arrived in time.
    #[error("no {what} within {limit:?}; arrived instead: {instead}")]
    Timeout {
        /// What the test waited for.
        what: String,
        /// For how long.
        limit: Duration,
        /// What the peer reported meanwhile, or the state it is in.
        instead: String,
    },
    /// The peer answered that it failed, in its own words.
    #[error("the {peer} peer could not {what}: {why}")]
    Refused {
        /// Which maker's peer.
        peer: &'static str,
        /// What it was asked for.
        what: String,
        /// Its words.
        why: String,
    },
    /// The test handed over text which is no peer id or no multiaddr.
    #[error("{text:?} is no {expected}")]
    BadText {
        /// What was handed over.
        text: String,
        /// What it should have been.
        expected: &'static str,
    },
    /// The peer's answer does not follow its own protocol, or an echo has other bytes.
    #[error("malformed: {0}")]
    Malformed(String),
    /// The channel to the peer failed; a read which took too long is among these.
    #[error(transparent)]
    Io(#[from] io::Error),
}
