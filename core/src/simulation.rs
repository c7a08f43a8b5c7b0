//! The simulator's way past cryptography: sessions of another kind in the place of TLS.
//!
//! Behind the feature `simulation`, for `peerwork-sim` only. No promise is made about anything here, semver included.
//!
//! Most of what a simulated node costs is TLS. A [`Platform`] made with [`Platform::simulated`] has [`Sessions`], and a node
//! on it runs the same QUIC with the handshakes and packet keys that those supply. Nothing else differs: the node finds out
//! who answered, and whether it was the wrong peer, from [`Answered`].
//!
//! This is no way into a node that serves real peers. Without the feature none of it is compiled. A program that has both
//! the simulator and a driver (cargo unites features) contains this code, but sessions come from a [`Platform`] that the
//! program itself makes and from nowhere else: no driver sets them, and no byte of a peer can. And such sessions must have
//! a [QUIC version](NodeSessions::version) of their own, so that simulated and real nodes turn each other away by version
//! negotiation before anything else is read.

use std::sync::Arc;

use noq_proto::crypto::{ClientConfig, ServerConfig};

pub use crate::bug::{Bug, Bugs};

use crate::{config::Platform, identity::PeerId};

/// QUIC version 1 (RFC 9000), which simulated sessions must not claim to be.
pub const QUIC_V1: u32 = 1;

/// Makes sessions for nodes.
pub trait Sessions: Send + Sync {
    /// The sessions of one node: called once, when it is made.
    ///
    /// `seed` comes from the node's [`Entropy`](crate::Entropy); everything random in the sessions has to follow from it.
    fn for_node(&self, node: PeerId, seed: [u8; 32]) -> NodeSessions;
}

/// Makes the client's side of a session, for a dial to this peer (`None`: whoever answers).
pub type MakeClient = dyn Fn(Option<PeerId>) -> Arc<dyn ClientConfig> + Send + Sync;

/// What one node's sessions come from.
///
/// [`Session::peer_identity`](noq_proto::crypto::Session::peer_identity) of each must be an [`Answered`] as soon as the peer
/// has proved who it is, also if the handshake failed for that.
pub struct NodeSessions {
    /// The QUIC version that these sessions are. [`QUIC_V1`] is refused by [`Node::new`](crate::Node::new).
    pub version: u32,
    /// For those who dial the node.
    pub server: Arc<dyn ServerConfig>,
    /// For the node's own dials.
    pub client: Box<MakeClient>,
}

/// Who is at the other end of a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Answered {
    /// The peer that was dialled, where it was known; `None` at the answering side.
    pub expected: Option<PeerId>,
    /// The peer that proved itself.
    pub peer: PeerId,
}

impl Platform {
    /// The same platform, with these sessions in the place of TLS.
    #[must_use]
    pub fn simulated(self, sessions: Arc<dyn Sessions>) -> Self {
        Self { sessions: Some(sessions), ..self }
    }

    /// The same platform, for nodes with these bugs.
    #[must_use]
    pub fn with_bugs(self, bugs: Bugs) -> Self {
        Self { bugs, ..self }
    }
}
