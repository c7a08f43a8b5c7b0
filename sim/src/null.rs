//! The null tier: production nodes on production QUIC, without cryptography.
//!
//! Nearly everything that a simulated node costs is TLS: its certificate, its configurations, key exchange and signatures
//! of each handshake. A node on [`platform`] has QUIC sessions instead that carry what the rest of the node needs and no
//! more: transport parameters, the peer's id, and a number that both ends derive (for settling duplicates).
//!
//! What stays as it is on the wire:
//!
//! - **Flights.** Client's Initial; server's Initial and Handshake; client's Handshake. Each message is filled up to the
//!   length that its TLS messages have, so that packets, round trips and the anti-amplification limit are the same.
//! - **Packet sizes.** A tag takes 16 bytes, as an AEAD's does.
//! - **Integrity.** The tag is a keyed checksum of header, payload and packet number (SipHash-1-3, 64 bits). A packet that
//!   is damaged, forged without the key, or replayed into another connection is dropped, as it would be by an AEAD.
//! - **Key updates, Retry, tokens, stateless resets, version negotiation**: QUIC's own.
//!
//! What is gone: secrecy, and proof. Keys follow from numbers that cross the network in the clear, and a peer's id is
//! vouched for by a keyed hash that anybody can make. Nothing else can talk to these sessions: they are a QUIC version of
//! their own ([`VERSION`]), which real nodes answer with version negotiation, and the types are private to this module, so
//! that the only way to one is [`platform`]. No driver calls it.
//!
//! The random numbers come from the node's entropy, so a run is as reproducible as on the wire.

mod handshake;
mod keys;
#[cfg(test)]
mod tests;

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use noq_proto::{
    ConnectError, ConnectionId, Side,
    crypto::{ClientConfig, Keys, ServerConfig, Session, UnsupportedVersion},
    transport_parameters::TransportParameters,
};
use peerwork::{
    PeerId, Platform,
    simulation::{NodeSessions, Sessions},
};

use self::{handshake::NullSession, keys::Secret};

/// The QUIC version of null sessions: "nul", which is nobody's.
pub const VERSION: u32 = u32::from_be_bytes(*b"\0nul");

/// What nodes of the null tier compute with. Call it once for many nodes: they share it.
pub fn platform() -> Platform {
    crate::platform().simulated(Arc::new(NullSessions))
}

#[derive(Debug)]
struct NullSessions;

impl Sessions for NullSessions {
    fn for_node(&self, node: PeerId, seed: [u8; 32]) -> NodeSessions {
        let party = Arc::new(Party { peer: node, secret: Secret::root("party", &seed), drawn: AtomicU64::new(0) });
        let dialler = party.clone();
        NodeSessions {
            version: VERSION,
            server: Arc::new(Answering(party)),
            client: Box::new(move |expected| Arc::new(Dialling { party: dialler.clone(), expected })),
        }
    }
}

/// What a node brings into its sessions.
struct Party {
    peer: PeerId,
    secret: Secret,
    drawn: AtomicU64,
}

impl Party {
    /// A number that no other session has.
    fn nonce(&self) -> [u8; 32] {
        let number = self.drawn.fetch_add(1, Ordering::Relaxed).to_le_bytes();
        let mut nonce = [0; 32];
        let (front, back) = nonce.split_at_mut(16);
        front.copy_from_slice(&self.secret.mac("nonce, front", &[&number]));
        back.copy_from_slice(&self.secret.mac("nonce, back", &[&number]));
        nonce
    }
}

/// Makes the sessions of those who dial a node.
struct Answering(Arc<Party>);

impl ServerConfig for Answering {
    fn initial_keys(&self, version: u32, dst_cid: ConnectionId) -> Result<Keys, UnsupportedVersion> {
        if version == VERSION { Ok(keys::initial(dst_cid, Side::Server)) } else { Err(UnsupportedVersion) }
    }

    fn retry_tag(&self, _version: u32, orig_dst_cid: ConnectionId, packet: &[u8]) -> [u8; 16] {
        keys::retry_tag(orig_dst_cid, &[packet])
    }

    fn start_session(&self, _version: u32, params: &TransportParameters) -> Box<dyn Session> {
        Box::new(NullSession::server(self.0.clone(), params))
    }
}

/// Makes the session of one dial.
struct Dialling {
    party: Arc<Party>,
    expected: Option<PeerId>,
}

impl ClientConfig for Dialling {
    fn start_session(
        &self,
        version: u32,
        _server_name: &str,
        params: &TransportParameters,
    ) -> Result<Box<dyn Session>, ConnectError> {
        if version != VERSION {
            return Err(ConnectError::UnsupportedVersion);
        }
        Ok(Box::new(NullSession::client(self.party.clone(), self.expected, params)))
    }
}
