//! libp2p's TLS certificates: making ours, judging the peer's.
//!
//! A libp2p peer presents exactly one certificate, signed by itself. Its key is made for the purpose and says nothing
//! about the peer; one extension does. That extension holds the peer's *host key*, the one that its peer id names, and
//! the host key's signature over the certificate key. So whoever finishes a TLS handshake with the certificate key also
//! holds, or was vouched for by, the host key.
//!
//! [`generate`] makes such a certificate from a host key and a seed. [`verify`] makes every check of the specification on
//! a peer's, cheapest first; [`peer_key`] merely reads one that has passed. A check of our own sees to it that the
//! peer holds the certificate key: the one that comes with rustls refuses a certificate whose libp2p extension is marked
//! critical, as those of Rust and JavaScript peers are. [`ServerVerifier`] and [`ClientVerifier`] put all this where
//! rustls asks for it.
//!
//! Source: libp2p specs `tls/tls.md`; RFC 5280 for the certificate, RFC 8446 for the signature schemes.

mod verifiers;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod vectors;

use std::sync::Arc;

use der::{
    Decode, Encode, FixedTag, Sequence, Tag,
    asn1::{AnyRef, BitStringRef, GeneralizedTime, IntRef, ObjectIdentifier, OctetString, OctetStringRef, UtcTime},
};
use ed25519_dalek::{Signer as _, SigningKey};
use rustls::{
    SignatureAlgorithm, SignatureScheme,
    crypto::WebPkiSupportedAlgorithms,
    pki_types::{CertificateDer, SubjectPublicKeyInfoDer, alg_id},
    sign::Signer,
};
use x509_cert::{certificate::Version, ext::Extension, time::Time};
use zeroize::Zeroizing;

pub(crate) use verifiers::{ClientVerifier, ServerVerifier};

use crate::identity::{KeyError, Keypair, PeerId, PublicKey};

/// Longest certificate that is read. One with the largest RSA keys throughout takes about 5 KiB.
const MAX_CERTIFICATE_BYTES: usize = 8 * 1024;
/// The libp2p public key extension, from IANA's arc for Protocol Labs.
const LIBP2P_EXTENSION: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.53594.1.1");
/// What the host key signs is this, followed by the certificate key's `SubjectPublicKeyInfo`.
const SIGNED_PREFIX: &[u8] = b"libp2p-tls-handshake:";
/// First and last second of our certificates, far enough apart that no clock is needed to choose them:
/// 1975-01-01 and 4096-01-01.
const NOT_BEFORE: u64 = 157_766_400;
const NOT_AFTER: u64 = 67_090_118_400;

/// Why a peer's certificate is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CertificateError {
    /// Longer than [`MAX_CERTIFICATE_BYTES`].
    #[error("the certificate has {0} bytes, more than the {MAX_CERTIFICATE_BYTES} that are accepted")]
    TooLong(usize),
    /// Not exactly one certificate in the chain.
    #[error("the peer sent a chain of certificates instead of one")]
    Chain,
    /// Not an X.509 certificate of version 3, or one with the unique identifiers that libp2p forbids.
    #[error("the certificate is malformed")]
    Malformed,
    /// Our own clock could not be read, so nothing can be said about validity.
    #[error("the wall clock is not known, so the certificate's validity cannot be checked")]
    NoClock,
    /// Not valid before a time that lies ahead of our clock.
    #[error("the certificate is valid from Unix time {not_before}, and it is {now}: one of the two clocks is wrong")]
    NotYetValid {
        /// First second of validity.
        not_before: u64,
        /// Our wall clock.
        now: u64,
    },
    /// Not valid any more.
    #[error("the certificate was valid until Unix time {not_after}, and it is {now}")]
    Expired {
        /// Last second of validity.
        not_after: u64,
        /// Our wall clock.
        now: u64,
    },
    /// An extension that must be understood and is not.
    #[error("the certificate has the critical extension {0}, which is not understood")]
    CriticalExtension(ObjectIdentifier),
    /// No libp2p extension, so no host key.
    #[error("the certificate has no libp2p extension")]
    NoHostKey,
    /// More than one libp2p extension, so no telling which is meant.
    #[error("the certificate has several libp2p extensions")]
    SeveralHostKeys,
    /// The libp2p extension does not hold a key and a signature.
    #[error("the libp2p extension is malformed")]
    Extension,
    /// The host key cannot be used.
    #[error("the certificate's host key: {0}")]
    HostKey(#[from] KeyError),
    /// The host key did not sign this certificate's key.
    #[error("the host key's signature does not match the certificate")]
    HostSignature,
    /// The TLS provider knows no such pair of signature and key algorithm.
    #[error("the certificate is signed with an algorithm that is not supported")]
    Algorithm,
    /// The certificate is not signed by its own key.
    #[error("the certificate is not signed by its own key")]
    SelfSignature,
    /// The certificate is in order, but it is another peer's.
    #[error("dialled {expected}, but {actual} answered")]
    WrongPeer {
        /// Whom we dialled.
        expected: PeerId,
        /// Whose certificate it is.
        actual: PeerId,
    },
}

/// `Certificate` (RFC 5280, 4.1). The signed part stays whole, because the signature is over its bytes.
#[derive(Sequence)]
struct Signed<'a> {
    body: AnyRef<'a>,
    algorithm: AnyRef<'a>,
    signature: BitStringRef<'a>,
}

/// `TBSCertificate`. The names stay unread: nothing depends on them, and sorting their sets would be work done for
/// strangers. There are no fields for the unique identifiers, so a certificate that has them does not decode.
#[derive(Sequence)]
struct Body<'a> {
    #[asn1(context_specific = "0", default = "Version::default")]
    version: Version,
    serial: IntRef<'a>,
    algorithm: AnyRef<'a>,
    issuer: AnyRef<'a>,
    validity: Validity<'a>,
    subject: AnyRef<'a>,
    key_info: AnyRef<'a>,
    #[asn1(context_specific = "3", tag_mode = "EXPLICIT", optional = "true")]
    extensions: Option<Vec<Extension>>,
}

#[derive(Sequence)]
struct Validity<'a> {
    not_before: AnyRef<'a>,
    not_after: AnyRef<'a>,
}

/// `SubjectPublicKeyInfo`, its algorithm kept whole to be compared with what the TLS provider knows.
#[derive(Sequence)]
struct KeyInfo<'a> {
    algorithm: AnyRef<'a>,
    key: BitStringRef<'a>,
}

/// Content of the libp2p extension.
#[derive(Sequence)]
struct SignedKey<'a> {
    host_key: &'a OctetStringRef,
    signature: &'a OctetStringRef,
}

/// A certificate that has been read, not judged.
struct Parsed<'a> {
    outer: Signed<'a>,
    body: Body<'a>,
    key_info: KeyInfo<'a>,
}

impl<'a> Parsed<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, CertificateError> {
        if bytes.len() > MAX_CERTIFICATE_BYTES {
            return Err(CertificateError::TooLong(bytes.len()));
        }
        let malformed = |_: der::Error| CertificateError::Malformed;
        let outer = Signed::from_der(bytes).map_err(malformed)?;
        let body: Body<'a> = outer.body.decode_as().map_err(malformed)?;
        let key_info: KeyInfo<'a> = body.key_info.decode_as().map_err(malformed)?;
        Ok(Self { outer, body, key_info })
    }

    /// The contents of the libp2p extension, if there is exactly one and nothing else claims to be critical.
    fn signed_key(&self) -> Result<SignedKey<'_>, CertificateError> {
        let mut found = None;
        for extension in self.body.extensions.iter().flatten() {
            if extension.extn_id == LIBP2P_EXTENSION {
                if found.replace(extension).is_some() {
                    return Err(CertificateError::SeveralHostKeys);
                }
            } else if extension.critical {
                return Err(CertificateError::CriticalExtension(extension.extn_id));
            }
        }
        let content = found.ok_or(CertificateError::NoHostKey)?.extn_value.as_bytes();
        SignedKey::from_der(content).map_err(|_| CertificateError::Extension)
    }

    fn check_validity(&self, now: u64) -> Result<(), CertificateError> {
        let not_before = unix_seconds(self.body.validity.not_before)?;
        let not_after = unix_seconds(self.body.validity.not_after)?;
        if now < not_before {
            Err(CertificateError::NotYetValid { not_before, now })
        } else if now > not_after {
            Err(CertificateError::Expired { not_after, now })
        } else {
            Ok(())
        }
    }

    fn check_self_signature(&self, algorithms: &WebPkiSupportedAlgorithms) -> Result<(), CertificateError> {
        let (Some(key), Some(signature)) = (self.key_info.key.as_bytes(), self.outer.signature.as_bytes()) else {
            return Err(CertificateError::Malformed);
        };
        // DER has one encoding for each value, so these are the bytes that came in.
        let body = self.outer.body.to_der().map_err(|_| CertificateError::Malformed)?;
        // Some providers list several implementations for one pair of algorithms, split by key size.
        let mut refusal = CertificateError::Algorithm;
        for algorithm in algorithms.all {
            if algorithm.signature_alg_id().as_ref() == self.outer.algorithm.value()
                && algorithm.public_key_alg_id().as_ref() == self.key_info.algorithm.value()
            {
                if algorithm.verify_signature(key, &body, signature).is_ok() {
                    return Ok(());
                }
                refusal = CertificateError::SelfSignature;
            }
        }
        Err(refusal)
    }
}

/// Reads a `Time`; whatever lies before 1970 is 1970.
fn unix_seconds(time: AnyRef<'_>) -> Result<u64, CertificateError> {
    let (form, early) = match (time.header().tag(), time.value()) {
        // Two-digit years from 50 belong to the nineteen-hundreds.
        (Tag::UtcTime, [b'5' | b'6', rest @ ..]) => (rest.len() == 12, true),
        (Tag::GeneralizedTime, [b'0', rest @ ..]) => (rest.len() == 14, true),
        (Tag::GeneralizedTime, [b'1', b'0'..=b'8', rest @ ..]) => (rest.len() == 13, true),
        (Tag::GeneralizedTime, [b'1', b'9', b'0'..=b'6', rest @ ..]) => (rest.len() == 12, true),
        (tag, _) => (tag == UtcTime::TAG || tag == GeneralizedTime::TAG, false),
    };
    if !form {
        return Err(CertificateError::Malformed);
    }
    if early {
        return Ok(0);
    }
    let time: Time = time.decode_as().map_err(|_| CertificateError::Malformed)?;
    Ok(time.to_unix_duration().as_secs())
}

/// Judges a certificate that was presented alone: every rule of the specification but the expected peer id.
///
/// `now` is Unix time in seconds. Returns the host key. The caller must still see to it that the peer holds the
/// certificate key, as [`ServerVerifier`] and [`ClientVerifier`] do.
pub(crate) fn verify(
    certificate: &[u8],
    algorithms: &WebPkiSupportedAlgorithms,
    now: u64,
) -> Result<PublicKey, CertificateError> {
    let parsed = Parsed::read(certificate)?;
    let sequences = [parsed.outer.algorithm, parsed.body.issuer, parsed.body.subject, parsed.key_info.algorithm];
    if parsed.body.version != Version::V3
        || parsed.body.algorithm != parsed.outer.algorithm
        || sequences.iter().any(|part| part.header().tag() != Tag::Sequence)
    {
        return Err(CertificateError::Malformed);
    }
    parsed.check_validity(now)?;
    let signed = parsed.signed_key()?;
    let host_key = PublicKey::decode_protobuf(signed.host_key.as_bytes())?;
    parsed.check_self_signature(algorithms)?;
    let key_info = parsed.body.key_info.to_der().map_err(|_| CertificateError::Malformed)?;
    if !host_key.verify(&host_message(&key_info), signed.signature.as_bytes()) {
        return Err(CertificateError::HostSignature);
    }
    Ok(host_key)
}

/// The host key of a certificate that has passed [`verify`] before. Checks nothing again.
pub(crate) fn peer_key(certificate: &[u8]) -> Option<PublicKey> {
    let parsed = Parsed::read(certificate).ok()?;
    let signed = parsed.signed_key().ok()?;
    PublicKey::decode_protobuf(signed.host_key.as_bytes()).ok()
}

/// What the host key signs.
fn host_message(key_info: &[u8]) -> Vec<u8> {
    [SIGNED_PREFIX, key_info].concat()
}

/// A certificate of our own with its key.
#[derive(Debug)]
pub(crate) struct GeneratedCertificate {
    /// What to present to peers, alone.
    pub(crate) certificate: CertificateDer<'static>,
    /// What signs handshakes.
    pub(crate) key: Arc<dyn rustls::sign::SigningKey>,
}

/// Makes a certificate for a host key. Equal arguments give equal bytes.
///
/// The seed must be secret, uniformly random and used for nothing else; the serial number should differ between
/// certificates.
///
/// The certificate's shape is the least that every implementation reads:
/// - one extension, since JavaScript peers look at the first only;
/// - which is not critical, as in Go's certificates: the specification leaves it open, and general X.509 code, rustls'
///   own among it, refuses critical extensions that it does not know;
/// - empty names, no key usages;
/// - a positive serial number and a validity that needs no clock.
#[expect(clippy::expect_used, reason = "of our own making, always of the same shape")]
pub(crate) fn generate(host: &Keypair, certificate_seed: [u8; 32], serial: [u8; 8]) -> GeneratedCertificate {
    let seed = Zeroizing::new(certificate_seed);
    let key = Arc::new(SigningKey::from_bytes(&seed));
    let [first, rest @ ..] = serial;
    let [a, b, c, d, e, f, g] = rest;
    // The top bit would make it negative; the next one keeps all serial numbers the same length.
    let serial = [first & 0x7f | 0x40, a, b, c, d, e, f, g];
    let (certificate, key_info) =
        assemble(host, &key, &serial).expect("a certificate of fixed shape and size has a DER form");
    GeneratedCertificate { certificate: certificate.into(), key: Arc::new(CertificateKey { key, key_info }) }
}

/// Builds and signs the certificate; returns it with the certificate key's `SubjectPublicKeyInfo`.
fn assemble(host: &Keypair, key: &SigningKey, serial: &[u8]) -> der::Result<(Vec<u8>, Vec<u8>)> {
    let public = key.verifying_key();
    let ed25519 = AnyRef::new(Tag::Sequence, alg_id::ED25519.as_ref())?;
    let key_info = KeyInfo { algorithm: ed25519, key: BitStringRef::from_bytes(public.as_bytes())? }.to_der()?;
    let signed_key = SignedKey {
        host_key: OctetStringRef::new(&host.public().encode_protobuf())?,
        signature: OctetStringRef::new(&host.sign(&host_message(&key_info)))?,
    }
    .to_der()?;
    let no_name = AnyRef::new(Tag::Sequence, &[])?;
    let not_before = time(NOT_BEFORE)?.to_der()?;
    let not_after = time(NOT_AFTER)?.to_der()?;
    let body = Body {
        version: Version::V3,
        serial: IntRef::new(serial)?,
        algorithm: ed25519,
        issuer: no_name,
        validity: Validity { not_before: AnyRef::from_der(&not_before)?, not_after: AnyRef::from_der(&not_after)? },
        subject: no_name,
        key_info: AnyRef::from_der(&key_info)?,
        extensions: Some(vec![Extension {
            extn_id: LIBP2P_EXTENSION,
            critical: false,
            extn_value: OctetString::new(signed_key)?,
        }]),
    }
    .to_der()?;
    let signature = key.sign(&body).to_bytes();
    let certificate =
        Signed { body: AnyRef::from_der(&body)?, algorithm: ed25519, signature: BitStringRef::from_bytes(&signature)? }
            .to_der()?;
    Ok((certificate, key_info))
}

/// The `Time` of a Unix time: `UTCTime` until 2049 and `GeneralizedTime` after, as RFC 5280 has it.
fn time(unix: u64) -> der::Result<Time> {
    der::DateTime::from_unix_duration(core::time::Duration::from_secs(unix)).map(Time::from)
}

/// The key of a certificate of ours.
struct CertificateKey {
    key: Arc<SigningKey>,
    key_info: Vec<u8>,
}

impl core::fmt::Debug for CertificateKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("CertificateKey(Ed25519, secret withheld)")
    }
}

impl rustls::sign::SigningKey for CertificateKey {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        offered
            .contains(&SignatureScheme::ED25519)
            .then(|| Box::new(CertificateSigner(Arc::clone(&self.key))) as Box<dyn Signer>)
    }

    fn public_key(&self) -> Option<SubjectPublicKeyInfoDer<'_>> {
        Some(SubjectPublicKeyInfoDer::from(self.key_info.as_slice()))
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ED25519
    }
}

struct CertificateSigner(Arc<SigningKey>);

impl core::fmt::Debug for CertificateSigner {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("CertificateSigner(Ed25519, secret withheld)")
    }
}

impl Signer for CertificateSigner {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rustls::Error> {
        Ok(self.0.sign(message).to_bytes().to_vec())
    }

    fn scheme(&self) -> SignatureScheme {
        SignatureScheme::ED25519
    }
}
