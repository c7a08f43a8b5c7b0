//! [`PublicKey`]: the four kinds of key that the network carries, their one canonical form and their signatures.
//!
//! The form is a protobuf message `{ Type = 1: enum, Data = 2: bytes }` with minimal varints, ascending tags, both fields
//! present and nothing else. `Data` is raw for Ed25519 (32 bytes) and secp256k1 (33 bytes, compressed) and a DER
//! `SubjectPublicKeyInfo` for RSA and ECDSA.
//!
//! Decoding reads the message by hand, in that one shape, so no second spelling gets through; then it caps the length of
//! `Data`, then the size of the RSA modulus, and only then does arithmetic.

use core::fmt;
use std::sync::Arc;

use der::{
    Decode, Encode, Sequence,
    asn1::{AnyRef, BitStringRef, ObjectIdentifier, UintRef},
};
use ed25519_dalek::Verifier as _;
use k256::ecdsa::signature::hazmat::PrehashVerifier as _;
use p256::pkcs8::DecodePublicKey as _;
use rsa::BoxedUint;
use sha2::{Digest, Sha256};
use x509_cert::spki::{AlgorithmIdentifierRef, SubjectPublicKeyInfoRef};

use super::PeerId;

/// Smallest RSA modulus that is accepted, in bits. Smaller ones can be factored.
pub const MIN_RSA_BITS: usize = 2048;
/// Largest RSA modulus that is accepted, in bits: what other implementations accept, and what a signature check may cost.
pub const MAX_RSA_BITS: usize = 8192;
/// Longest canonical form of a public key. An RSA key of [`MAX_RSA_BITS`] needs 1067 bytes.
pub const MAX_PUBLIC_KEY_BYTES: usize = 1100;

/// Length of the `SubjectPublicKeyInfo` of every P-256 key whose point is not compressed.
const P256_SPKI_BYTES: usize = 91;
/// Longest public exponent in bytes. 65537 takes three; a long one only makes verification slow.
const MAX_RSA_EXPONENT_BYTES: usize = 4;
/// Longest DER form of a 256-bit ECDSA signature.
const MAX_ECDSA_SIGNATURE_BYTES: usize = 72;
/// `rsaEncryption` (RFC 8017).
const RSA_ENCRYPTION: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");

/// `id-ecPublicKey` and its curve P-256 (RFC 5480).
const EC_PUBLIC_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const PRIME256V1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");

/// Tag bytes of the two protobuf fields.
const TAG_TYPE: u8 = 0x08;
const TAG_DATA: u8 = 0x12;

/// What algorithm a key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyKind {
    /// RSA with PKCS#1 v1.5 signatures over SHA-256.
    Rsa,
    /// Ed25519 (RFC 8032).
    Ed25519,
    /// ECDSA over secp256k1 and SHA-256.
    Secp256k1,
    /// ECDSA over P-256 and SHA-256.
    Ecdsa,
}

impl KeyKind {
    /// The number of the protobuf enum.
    fn number(self) -> u8 {
        match self {
            Self::Rsa => 0,
            Self::Ed25519 => 1,
            Self::Secp256k1 => 2,
            Self::Ecdsa => 3,
        }
    }

    fn from_number(number: u8) -> Result<Self, KeyError> {
        match number {
            0 => Ok(Self::Rsa),
            1 => Ok(Self::Ed25519),
            2 => Ok(Self::Secp256k1),
            3 => Ok(Self::Ecdsa),
            other => Err(KeyError::UnknownKind(other)),
        }
    }
}

impl fmt::Display for KeyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rsa => "RSA",
            Self::Ed25519 => "Ed25519",
            Self::Secp256k1 => "secp256k1",
            Self::Ecdsa => "ECDSA",
        })
    }
}

/// Why bytes are not a key that can be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The bytes are not the canonical protobuf form of a key.
    #[error("the key is not in its canonical protobuf form")]
    NotCanonical,
    /// The key type number is none of the four that exist. Only the low seven bits are ever read.
    #[error("key type {0} does not exist")]
    UnknownKind(u8),
    /// The bytes are longer than any key that is accepted.
    #[error("{0} bytes are more than any accepted key has")]
    TooLong(usize),
    /// The key material is malformed, or is no point on its curve, or generates too small a group to be anyone's key.
    #[error("the {0} key material is not valid")]
    Invalid(KeyKind),
    /// The RSA modulus is too small to be safe or too large to be checked cheaply.
    #[error("the RSA modulus has {bits} bits; {MIN_RSA_BITS} to {MAX_RSA_BITS} are accepted")]
    RsaSize {
        /// Length of the modulus.
        bits: usize,
    },
    /// The private key is of a kind that is not supported for our own identity.
    #[error(
        "this is an {0} private key, but a node's own key must be Ed25519: \
         `peerwork id --key FILE` creates a new one (and with it a new peer id)"
    )]
    NotOurKind(KeyKind),
    /// The public half stored with a private key is not the one that belongs to it.
    #[error(
        "the stored public half does not belong to the private key: the key file is damaged, restore it from a copy"
    )]
    Mismatch,
}

/// Splits a key message into its kind and data. Accepts the canonical form and nothing else; `max` caps the data.
pub(super) fn split_message(bytes: &[u8], max: usize) -> Result<(KeyKind, &[u8]), KeyError> {
    if bytes.len() > max {
        return Err(KeyError::TooLong(bytes.len()));
    }
    let [TAG_TYPE, number, TAG_DATA, rest @ ..] = bytes else {
        return Err(KeyError::NotCanonical);
    };
    let (len, data) = match rest {
        [low @ 0..=0x7f, data @ ..] => (usize::from(*low), data),
        // A zero high byte would be a longer spelling of a shorter length.
        [low, high @ 1..=0x7f, data @ ..] => (usize::from(low & 0x7f) | usize::from(*high) << 7, data),
        _ => return Err(KeyError::NotCanonical),
    };
    if *number > 0x7f || data.len() != len {
        return Err(KeyError::NotCanonical);
    }
    Ok((KeyKind::from_number(*number)?, data))
}

/// The head of a key message with `len` bytes of data, `len` below 2^14.
pub(super) fn push_message_head(out: &mut Vec<u8>, kind: KeyKind, len: usize) {
    out.extend([TAG_TYPE, kind.number(), TAG_DATA]);
    let low = (len & 0x7f) as u8;
    match (len >> 7) as u8 {
        0 => out.push(low),
        high => out.extend([low | 0x80, high]),
    }
}

/// A peer's public key, of any kind that the network carries. Cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey(Inner);

#[derive(Clone, PartialEq, Eq)]
enum Inner {
    Ed25519(ed25519_dalek::VerifyingKey),
    Secp256k1(k256::ecdsa::VerifyingKey),
    Ecdsa(p256::ecdsa::VerifyingKey),
    Rsa(Arc<RsaKey>),
}

#[derive(PartialEq, Eq)]
struct RsaKey {
    spki: Box<[u8]>,
    key: rsa::RsaPublicKey,
}

/// `RSAPublicKey` (RFC 8017, A.1.1).
#[derive(Sequence)]
struct RsaComponents<'a> {
    modulus: UintRef<'a>,
    exponent: UintRef<'a>,
}

impl PublicKey {
    pub(super) fn from_ed25519(key: ed25519_dalek::VerifyingKey) -> Self {
        Self(Inner::Ed25519(key))
    }

    /// Reads the canonical protobuf form.
    ///
    /// # Errors
    ///
    /// Anything but that form is refused, and so are points off their curve, Ed25519 points of small order (anyone can
    /// sign for those), ECDSA keys on other curves than P-256, and RSA keys outside [`MIN_RSA_BITS`] to [`MAX_RSA_BITS`].
    pub fn decode_protobuf(bytes: &[u8]) -> Result<Self, KeyError> {
        let (kind, data) = split_message(bytes, MAX_PUBLIC_KEY_BYTES)?;
        let inner = match kind {
            KeyKind::Ed25519 => decode_ed25519(data).map(Inner::Ed25519),
            KeyKind::Secp256k1 => decode_secp256k1(data).map(Inner::Secp256k1),
            KeyKind::Ecdsa => decode_p256(data).map(Inner::Ecdsa),
            KeyKind::Rsa => decode_rsa(data).map(|key| Inner::Rsa(Arc::new(key))),
        }?;
        let key = Self(inner);
        // What the libraries accept beyond the canonical form shows here, whatever it is.
        if key.encode_protobuf() != bytes {
            return Err(KeyError::NotCanonical);
        }
        Ok(key)
    }

    /// The canonical protobuf form, at most [`MAX_PUBLIC_KEY_BYTES`] long.
    #[expect(clippy::expect_used, reason = "a key that was parsed has a DER form")]
    pub fn encode_protobuf(&self) -> Vec<u8> {
        fn message(kind: KeyKind, data: &[u8]) -> Vec<u8> {
            let mut out = Vec::with_capacity(data.len().saturating_add(5));
            push_message_head(&mut out, kind, data.len());
            out.extend_from_slice(data);
            out
        }
        match &self.0 {
            Inner::Ed25519(key) => message(KeyKind::Ed25519, &key.to_edwards().compress().to_bytes()),
            Inner::Secp256k1(key) => message(KeyKind::Secp256k1, key.to_sec1_point(true).as_bytes()),
            Inner::Ecdsa(key) => {
                let algorithm =
                    AlgorithmIdentifierRef { oid: EC_PUBLIC_KEY, parameters: Some(AnyRef::from(&PRIME256V1)) };
                let spki = key_info(algorithm, key.to_sec1_point(false).as_bytes())
                    .expect("a P-256 key always has a DER form");
                message(KeyKind::Ecdsa, &spki)
            }
            Inner::Rsa(key) => message(KeyKind::Rsa, &key.spki),
        }
    }

    /// The id of the peer that holds this key.
    pub fn peer_id(&self) -> PeerId {
        PeerId::from_public_key(self)
    }

    /// What algorithm the key is for.
    pub fn kind(&self) -> KeyKind {
        match &self.0 {
            Inner::Ed25519(_) => KeyKind::Ed25519,
            Inner::Secp256k1(_) => KeyKind::Secp256k1,
            Inner::Ecdsa(_) => KeyKind::Ecdsa,
            Inner::Rsa(_) => KeyKind::Rsa,
        }
    }

    /// Whether `signature` is this key's over `message`. A malformed signature is `false`.
    ///
    /// Ed25519 follows RFC 8032 without cofactor, as Go does. Both spellings of an ECDSA signature (`s` and its negative)
    /// are accepted, because not every implementation normalises.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        match &self.0 {
            Inner::Ed25519(key) => ed25519_dalek::Signature::from_slice(signature)
                .is_ok_and(|signature| key.verify(message, &signature).is_ok()),
            Inner::Secp256k1(key) => {
                signature.len() <= MAX_ECDSA_SIGNATURE_BYTES
                    && k256::ecdsa::Signature::from_der(signature).is_ok_and(|signature| {
                        key.verify_prehash(&Sha256::digest(message), &signature.normalize_s()).is_ok()
                    })
            }
            Inner::Ecdsa(key) => {
                signature.len() <= MAX_ECDSA_SIGNATURE_BYTES
                    && p256::ecdsa::Signature::from_der(signature)
                        .is_ok_and(|signature| key.verify_prehash(&Sha256::digest(message), &signature).is_ok())
            }
            Inner::Rsa(key) => rsa::pkcs1v15::Signature::from_bytes_with_max_len(signature, MAX_RSA_BITS / 8)
                .is_ok_and(|signature| {
                    rsa::pkcs1v15::VerifyingKey::<Sha256>::new(key.key.clone()).verify(message, &signature).is_ok()
                }),
        }
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({}, {:?})", self.kind(), self.peer_id())
    }
}

fn decode_ed25519(data: &[u8]) -> Result<ed25519_dalek::VerifyingKey, KeyError> {
    let invalid = KeyError::Invalid(KeyKind::Ed25519);
    let bytes = data.try_into().map_err(|_| invalid.clone())?;
    let key = ed25519_dalek::VerifyingKey::from_bytes(bytes).map_err(|_| invalid.clone())?;
    if key.is_weak() { Err(invalid) } else { Ok(key) }
}

fn decode_secp256k1(data: &[u8]) -> Result<k256::ecdsa::VerifyingKey, KeyError> {
    let bytes: &[u8; 33] = data.try_into().map_err(|_| KeyError::Invalid(KeyKind::Secp256k1))?;
    k256::ecdsa::VerifyingKey::from_sec1_bytes(bytes).map_err(|_| KeyError::Invalid(KeyKind::Secp256k1))
}

fn decode_p256(data: &[u8]) -> Result<p256::ecdsa::VerifyingKey, KeyError> {
    let invalid = || KeyError::Invalid(KeyKind::Ecdsa);
    if data.len() != P256_SPKI_BYTES {
        return Err(invalid());
    }
    p256::ecdsa::VerifyingKey::from_public_key_der(data).map_err(|_| invalid())
}

fn decode_rsa(data: &[u8]) -> Result<RsaKey, KeyError> {
    let invalid = || KeyError::Invalid(KeyKind::Rsa);
    let spki = SubjectPublicKeyInfoRef::from_der(data).map_err(|_| invalid())?;
    let inner = spki.subject_public_key.as_bytes().ok_or_else(invalid)?;
    let components = RsaComponents::from_der(inner).map_err(|_| invalid())?;
    let (modulus, exponent) = (components.modulus.as_bytes(), components.exponent.as_bytes());

    let bits = match modulus {
        [] => 0,
        [first, rest @ ..] => {
            let top = first.checked_ilog2().map_or(0, |log| log as usize + 1);
            rest.len().saturating_mul(8).saturating_add(top)
        }
    };
    if !(MIN_RSA_BITS..=MAX_RSA_BITS).contains(&bits) {
        return Err(KeyError::RsaSize { bits });
    }
    if exponent.len() > MAX_RSA_EXPONENT_BYTES {
        return Err(invalid());
    }
    let key = rsa::RsaPublicKey::new_with_size_limits(
        BoxedUint::from_be_slice_vartime(modulus),
        BoxedUint::from_be_slice_vartime(exponent),
        MIN_RSA_BITS..=MAX_RSA_BITS,
    )
    .map_err(|_| invalid())?;
    // Rebuilt rather than kept, so that the comparison with the input means something for this kind too.
    let algorithm = AlgorithmIdentifierRef { oid: RSA_ENCRYPTION, parameters: Some(AnyRef::NULL) };
    let spki = components.to_der().and_then(|key| key_info(algorithm, &key)).map_err(|_| invalid())?;
    Ok(RsaKey { spki: spki.into_boxed_slice(), key })
}

/// A DER `SubjectPublicKeyInfo`.
fn key_info(algorithm: AlgorithmIdentifierRef<'_>, key: &[u8]) -> der::Result<Vec<u8>> {
    SubjectPublicKeyInfoRef { algorithm, subject_public_key: BitStringRef::from_bytes(key)? }.to_der()
}
