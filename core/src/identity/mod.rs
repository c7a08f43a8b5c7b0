//! Who a peer is: key pairs, peer ids, signed envelopes and peer records.
//!
//! A peer is its public key. [`Keypair`] holds our own secret and is always Ed25519; [`PublicKey`] is anyone's key, of
//! any of the four kinds that the network carries. Both have one canonical protobuf form, and [`PeerId`] is the multihash
//! of that form, so bytes that decode to a key without being its canonical form are refused: they would give one key
//! several names.
//!
//! A [`SignedEnvelope`] carries bytes together with the key that signed them, in a domain of its own so that a signature
//! made for one purpose cannot serve another. The envelope that matters most holds a [`PeerRecord`]: the addresses that a
//! peer vouches for itself.
//!
//! Sources: libp2p specs `peer-ids/peer-ids.md`, RFC 0002 (signed envelopes), RFC 0003 (routing records).

mod envelope;
mod keypair;
mod keys;
mod peer_id;
mod record;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_envelope;

pub use envelope::{EnvelopeError, MAX_ENVELOPE_BYTES, SignedEnvelope};
pub use keypair::Keypair;
pub use keys::{KeyError, KeyKind, MAX_PUBLIC_KEY_BYTES, MAX_RSA_BITS, MIN_RSA_BITS, PublicKey};
pub use peer_id::{PeerId, PeerIdError};
pub use record::{MAX_RECORD_ADDRESSES, MAX_RECORD_BYTES, PeerRecord, RecordError};
