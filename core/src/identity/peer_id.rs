//! [`PeerId`]: the multihash of a public key's canonical form, kept inline.

use core::{fmt, str::FromStr};

use multibase::Base;
use sha2::{Digest, Sha256};

use super::PublicKey;

/// Longest canonical key that is its own id. Anything longer is named by its SHA-256 hash.
const MAX_INLINE_KEY: usize = 42;
/// Multihash code and length byte, followed by at most [`MAX_INLINE_KEY`] bytes.
const MAX_BYTES: usize = MAX_INLINE_KEY + 2;
/// Multihash code of "the bytes themselves".
const IDENTITY: u8 = 0x00;
/// Multihash code of SHA-256, and the length of its digest.
const SHA2_256: u8 = 0x12;
const SHA2_256_BYTES: u8 = 32;
/// The head of a CIDv1 whose content is a libp2p key.
const CID_VERSION: u8 = 0x01;
const CID_LIBP2P_KEY: u8 = 0x72;
/// Longest text that is read. Base16, the widest base worth writing an id in, needs 93 characters; decoding the other
/// bases is quadratic, so this bounds the work as well.
const MAX_TEXT: usize = 128;

/// The name of a peer: an identity multihash of its public key (Ed25519, secp256k1) or the key's SHA-256 multihash (RSA,
/// ECDSA).
///
/// Two ids are equal exactly if their bytes are. The order is that of the bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId {
    /// The multihash, then zeros.
    bytes: [u8; MAX_BYTES],
    len: u8,
}

/// Why bytes or text are not a peer id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeerIdError {
    /// The multihash is neither an identity hash of at most 42 bytes nor a SHA-256 hash of 32 bytes.
    #[error("not a peer id: expected an identity multihash of at most 42 bytes or a SHA-256 multihash of 32 bytes")]
    Multihash,
    /// The text is longer than any peer id.
    #[error("not a peer id: {0} characters are more than any peer id has")]
    TooLong(usize),
    /// The text is not in the base that its first characters announce.
    #[error("not a peer id: expected base58 text that starts with `1` or `Qm`, or a CIDv1 such as `bafz…`")]
    Text,
    /// The text is a CID, but not version 1 with the `libp2p-key` codec.
    #[error("not a peer id: this CID is not a version 1 CID of a libp2p key")]
    NotAKey,
}

impl PeerId {
    /// The id of the peer that holds this key.
    pub fn from_public_key(key: &PublicKey) -> Self {
        let encoded = key.encode_protobuf();
        match u8::try_from(encoded.len()) {
            Ok(len) if encoded.len() <= MAX_INLINE_KEY => Self::assemble(IDENTITY, len, &encoded),
            _ => Self::assemble(SHA2_256, SHA2_256_BYTES, &Sha256::digest(&encoded)),
        }
    }

    /// Reads the binary form: a multihash, with nothing before or after it.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, PeerIdError> {
        // Codes and lengths below 128 are one byte each in minimal varint form, so longer forms match neither arm.
        match bytes {
            [IDENTITY, len, digest @ ..] if digest.len() <= MAX_INLINE_KEY && usize::from(*len) == digest.len() => {
                Ok(Self::assemble(IDENTITY, *len, digest))
            }
            [SHA2_256, SHA2_256_BYTES, digest @ ..] if digest.len() == usize::from(SHA2_256_BYTES) => {
                Ok(Self::assemble(SHA2_256, SHA2_256_BYTES, digest))
            }
            _ => Err(PeerIdError::Multihash),
        }
    }

    /// Joins a multihash from its parts; `digest` has `len` bytes, at most [`MAX_INLINE_KEY`].
    fn assemble(code: u8, len: u8, digest: &[u8]) -> Self {
        let mut bytes = [0; MAX_BYTES];
        for (slot, byte) in bytes.iter_mut().zip([code, len].iter().chain(digest)) {
            *slot = *byte;
        }
        Self { bytes, len: len.saturating_add(2) }
    }

    /// The binary form: a multihash of at most 44 bytes.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or(&self.bytes)
    }

    /// The public key, where the id is short enough to carry it: Ed25519 and secp256k1 peers.
    ///
    /// `None` for hashed ids and for identity multihashes of something that is not a key.
    pub fn public_key(&self) -> Option<PublicKey> {
        match self.as_bytes() {
            [IDENTITY, _, key @ ..] => PublicKey::decode_protobuf(key).ok(),
            _ => None,
        }
    }

    /// The same id as the type that `multiaddr::Protocol::P2p` holds.
    #[expect(clippy::expect_used, reason = "every multihash that fits is one that multiaddr takes")]
    pub fn to_multiaddr_peer(&self) -> multiaddr::PeerId {
        // Every multihash that fits a PeerId is one that multiaddr takes: a test walks both kinds and all lengths.
        multiaddr::PeerId::from_bytes(self.as_bytes()).expect("a peer id is a valid multihash")
    }

    /// Takes the id out of a `multiaddr::Protocol::P2p`. That type also admits SHA-256 multihashes of other lengths than
    /// 32, which are refused here.
    pub fn from_multiaddr_peer(peer: &multiaddr::PeerId) -> Result<Self, PeerIdError> {
        Self::from_bytes(&peer.to_bytes())
    }
}

impl From<&PublicKey> for PeerId {
    fn from(key: &PublicKey) -> Self {
        Self::from_public_key(key)
    }
}

impl From<PeerId> for multiaddr::PeerId {
    fn from(id: PeerId) -> Self {
        id.to_multiaddr_peer()
    }
}

impl TryFrom<multiaddr::PeerId> for PeerId {
    type Error = PeerIdError;

    fn try_from(peer: multiaddr::PeerId) -> Result<Self, PeerIdError> {
        Self::from_multiaddr_peer(&peer)
    }
}

/// Base58btc of the multihash, the form that every implementation reads.
impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&Base::Base58Btc.encode(self.as_bytes()))
    }
}

/// The last characters only: the first ones are the same for every Ed25519 peer.
impl fmt::Debug for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = Base::Base58Btc.encode(self.as_bytes());
        let tail = text.len().checked_sub(8).and_then(|start| text.get(start..)).unwrap_or(&text);
        write!(f, "PeerId(…{tail})")
    }
}

/// Reads base58btc (`1…`, `Qm…`) and CIDv1 in any multibase (`bafz…`, `z…`, `k…`).
impl FromStr for PeerId {
    type Err = PeerIdError;

    fn from_str(text: &str) -> Result<Self, PeerIdError> {
        if text.len() > MAX_TEXT {
            return Err(PeerIdError::TooLong(text.len()));
        }
        if text.starts_with('1') || text.starts_with("Qm") {
            let bytes = Base::Base58Btc.decode(text).map_err(|_| PeerIdError::Text)?;
            return Self::from_bytes(&bytes);
        }
        let (_, bytes) = multibase::decode(text).map_err(|_| PeerIdError::Text)?;
        match bytes.as_slice() {
            [CID_VERSION, CID_LIBP2P_KEY, multihash @ ..] => Self::from_bytes(multihash),
            _ => Err(PeerIdError::NotAKey),
        }
    }
}
