//! Where rustls asks: the two certificate verifiers and the check of the handshake signature.

use std::sync::{Arc, OnceLock};

use rustls::{
    DigitallySignedStruct, DistinguishedName, PeerMisbehaved, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::WebPkiSupportedAlgorithms,
    pki_types::{AlgorithmIdentifier, CertificateDer, ServerName, UnixTime, alg_id},
    server::danger::{ClientCertVerified, ClientCertVerifier},
    time_provider::TimeProvider,
};

use super::{CertificateError, Parsed, verify};
use crate::identity::{PeerId, PublicKey};

/// What TLS 1.3 asks of the certificate key in a signature scheme: for ECDSA the curve, where the scheme fixes it.
///
/// `None` for the schemes that TLS 1.3 does not allow in handshakes: PKCS#1 v1.5, SHA-1 and the unknown.
fn tls13_curve(scheme: SignatureScheme) -> Option<Option<AlgorithmIdentifier>> {
    match scheme {
        SignatureScheme::ECDSA_NISTP256_SHA256 => Some(Some(alg_id::ECDSA_P256)),
        SignatureScheme::ECDSA_NISTP384_SHA384 => Some(Some(alg_id::ECDSA_P384)),
        SignatureScheme::ECDSA_NISTP521_SHA512 => Some(Some(alg_id::ECDSA_P521)),
        SignatureScheme::ED25519
        | SignatureScheme::RSA_PSS_SHA256
        | SignatureScheme::RSA_PSS_SHA384
        | SignatureScheme::RSA_PSS_SHA512 => Some(None),
        _ => None,
    }
}

/// The schemes to offer: those of the provider that TLS 1.3 allows, in the provider's order.
fn tls13_schemes(algorithms: &WebPkiSupportedAlgorithms) -> Vec<SignatureScheme> {
    algorithms.mapping.iter().map(|(scheme, _)| *scheme).filter(|scheme| tls13_curve(*scheme).is_some()).collect()
}

/// Checks that a TLS 1.3 handshake message is signed by a certificate's key.
///
/// Unlike the function of this name in rustls it does not mind critical extensions, which [`verify`] has judged before.
pub(super) fn verify_tls13_signature(
    message: &[u8],
    certificate: &CertificateDer<'_>,
    signed: &DigitallySignedStruct,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<HandshakeSignatureValid, rustls::Error> {
    let unadvertised = || rustls::Error::from(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme);
    let curve = tls13_curve(signed.scheme).ok_or_else(unadvertised)?;
    let (_, candidates) =
        algorithms.mapping.iter().find(|(scheme, _)| *scheme == signed.scheme).ok_or_else(unadvertised)?;

    let parsed = Parsed::read(certificate).map_err(to_rustls)?;
    let key_algorithm = parsed.key_info.algorithm.value();
    let fits_curve = curve.is_none_or(|curve| curve.as_ref() == key_algorithm);
    let algorithm = candidates
        .iter()
        .find(|candidate| fits_curve && candidate.public_key_alg_id().as_ref() == key_algorithm)
        .ok_or_else(unadvertised)?;
    let key = parsed.key_info.key.as_bytes().ok_or(rustls::CertificateError::BadEncoding)?;
    algorithm.verify_signature(key, message, signed.signature()).map_err(|_| rustls::CertificateError::BadSignature)?;
    Ok(HandshakeSignatureValid::assertion())
}

/// Turns a refusal into the rustls error whose alert is `certificate_expired` for times, `access_denied` for the wrong
/// peer and `bad_certificate` for everything else. rustls' more telling variants would send other alerts.
fn to_rustls(error: CertificateError) -> rustls::Error {
    rustls::Error::InvalidCertificate(match error {
        CertificateError::Expired { .. } => rustls::CertificateError::Expired,
        CertificateError::NotYetValid { .. } => rustls::CertificateError::NotValidYet,
        CertificateError::CriticalExtension(_) => rustls::CertificateError::UnhandledCriticalExtension,
        CertificateError::WrongPeer { .. } => rustls::CertificateError::ApplicationVerificationFailure,
        _ => rustls::CertificateError::BadEncoding,
    })
}

/// What both verifiers do with a chain.
#[derive(Debug)]
struct Judge {
    algorithms: WebPkiSupportedAlgorithms,
    clock: Arc<dyn TimeProvider>,
}

impl Judge {
    fn judge(
        &self,
        certificate: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
    ) -> Result<PublicKey, CertificateError> {
        if !others.is_empty() {
            return Err(CertificateError::Chain);
        }
        let now = self.clock.current_time().ok_or(CertificateError::NoClock)?;
        verify(certificate, &self.algorithms, now.as_secs())
    }

    /// TLS 1.2 is never configured, so rustls never asks.
    fn refuse_tls12() -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme.into())
    }
}

/// Judges the certificate of a peer that we dial. Made anew for every dial.
#[derive(Debug)]
pub(crate) struct ServerVerifier {
    judge: Judge,
    expected: Option<PeerId>,
    outcome: OnceLock<Result<PublicKey, CertificateError>>,
}

impl ServerVerifier {
    /// `expected` is the peer that is dialled, where it is known. `clock` tells the wall clock's time; it is asked instead
    /// of rustls' own, so that the two cannot be configured apart.
    pub(crate) fn new(
        expected: Option<PeerId>,
        algorithms: WebPkiSupportedAlgorithms,
        clock: Arc<dyn TimeProvider>,
    ) -> Self {
        Self { judge: Judge { algorithms, clock }, expected, outcome: OnceLock::new() }
    }

    /// The judgement, once the handshake has come so far: the host key, or why it was refused.
    pub(crate) fn outcome(&self) -> Option<&Result<PublicKey, CertificateError>> {
        self.outcome.get()
    }

    /// Whom we dialled and who answered instead, if the handshake failed for that.
    pub(crate) fn wrong_peer(&self) -> Option<(PeerId, PeerId)> {
        match self.outcome() {
            Some(Err(CertificateError::WrongPeer { expected, actual })) => Some((*expected, *actual)),
            _ => None,
        }
    }

    fn judge(
        &self,
        certificate: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
    ) -> Result<PublicKey, CertificateError> {
        let key = self.judge.judge(certificate, others)?;
        let actual = key.peer_id();
        match self.expected {
            Some(expected) if expected != actual => Err(CertificateError::WrongPeer { expected, actual }),
            _ => Ok(key),
        }
    }
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let judgement = self.judge(end_entity, intermediates);
        // A second judgement on one dial would be a renegotiation, which TLS 1.3 does not have; the first one stands.
        let _ = self.outcome.set(judgement.clone());
        judgement.map(|_| ServerCertVerified::assertion()).map_err(to_rustls)
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Judge::refuse_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.judge.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        tls13_schemes(&self.judge.algorithms)
    }
}

/// Judges the certificates of peers that dial us; insists on one. Shared by all connections.
///
/// Who the peer is, is read off its certificate after the handshake ([`peer_key`](super::peer_key)).
#[derive(Debug)]
pub(crate) struct ClientVerifier {
    judge: Judge,
}

impl ClientVerifier {
    /// `clock` tells the wall clock's time.
    pub(crate) fn new(algorithms: WebPkiSupportedAlgorithms, clock: Arc<dyn TimeProvider>) -> Self {
        Self { judge: Judge { algorithms, clock } }
    }
}

impl ClientCertVerifier for ClientVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.judge.judge(end_entity, intermediates).map(|_| ClientCertVerified::assertion()).map_err(to_rustls)
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Judge::refuse_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.judge.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        tls13_schemes(&self.judge.algorithms)
    }
}
