//! [`Keypair`]: our own identity.

use core::fmt;

use ed25519_dalek::{Signer as _, SigningKey};
use zeroize::Zeroizing;

use super::{
    KeyError, KeyKind, PeerId, PublicKey,
    keys::{push_message_head, split_message},
};

/// Longest private key message that is looked at, whatever its kind: an RSA key of 8192 bits takes about 4700 bytes.
const MAX_PRIVATE_KEY_BYTES: usize = 8192;
/// Length of the canonical form: a head of four bytes, the seed, the public half.
const ENCODED_BYTES: usize = 68;

/// A node's own Ed25519 key.
///
/// The secret is overwritten when the value is dropped and does not appear in `Debug` output.
#[derive(Clone)]
pub struct Keypair(SigningKey);

impl Keypair {
    /// The key that grows from these 32 secret, uniformly random bytes. The same seed always gives the same key.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        let seed = Zeroizing::new(seed);
        Self(SigningKey::from_bytes(&seed))
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        PublicKey::from_ed25519(self.0.verifying_key())
    }

    /// The id of the peer that holds this key.
    pub fn peer_id(&self) -> PeerId {
        self.public().peer_id()
    }

    /// Signs a message (RFC 8032: deterministic, no randomness needed).
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).to_bytes()
    }

    /// The protobuf form that all libp2p implementations keep on disk: `08 01 12 40`, the seed, the public half.
    pub fn encode_protobuf(&self) -> Zeroizing<Vec<u8>> {
        // Reserved in full, because a buffer that grows leaves copies of the secret behind.
        let mut out = Zeroizing::new(Vec::with_capacity(ENCODED_BYTES));
        push_message_head(&mut out, KeyKind::Ed25519, 64);
        out.extend_from_slice(self.0.as_bytes());
        out.extend_from_slice(self.0.verifying_key().as_bytes());
        out
    }

    /// Reads the protobuf form, also the old one that repeats the public half.
    ///
    /// # Errors
    ///
    /// [`KeyError::NotOurKind`] for the other kinds of key, which other implementations may have written;
    /// [`KeyError::Mismatch`] where a stored public half is not that of the seed.
    pub fn decode_protobuf(bytes: &[u8]) -> Result<Self, KeyError> {
        let (kind, data) = split_message(bytes, MAX_PRIVATE_KEY_BYTES)?;
        if kind != KeyKind::Ed25519 {
            return Err(KeyError::NotOurKind(kind));
        }
        let (seed, halves) = data.split_first_chunk::<32>().ok_or(KeyError::Invalid(kind))?;
        if halves.len() != 32 && halves.len() != 64 {
            return Err(KeyError::Invalid(kind));
        }
        let key = Self(SigningKey::from_bytes(seed));
        let public = key.0.verifying_key();
        if halves.chunks(32).any(|half| half != public.as_bytes()) {
            return Err(KeyError::Mismatch);
        }
        Ok(key)
    }
}

impl fmt::Debug for Keypair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keypair({:?}, secret withheld)", self.peer_id())
    }
}
