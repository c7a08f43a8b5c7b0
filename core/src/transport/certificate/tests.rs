//! Certificates, against the vectors of libp2p specs `tls/tls.md` and against every way of getting one wrong; then whole
//! handshakes between two rustls connections.

use std::sync::Arc;

use der::{
    Decode, Encode, Tag,
    asn1::{AnyRef, BitStringRef, IntRef, ObjectIdentifier, OctetString},
};
use ed25519_dalek::{Signer as _, SigningKey};
use proptest::prelude::*;
use rustls::{
    AlertDescription, ClientConfig, ClientConnection, DigitallySignedStruct, Error, PeerMisbehaved, ServerConfig,
    ServerConnection, SignatureScheme,
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms},
    internal::msgs::codec::Codec,
    pki_types::{CertificateDer, ServerName, UnixTime},
    sign::{CertifiedKey, SingleCertAndKey},
    time_provider::TimeProvider,
};
use x509_cert::{certificate::Version, ext::Extension};

use super::vectors::{RSA_PSS, SPEC_ECDSA, SPEC_ED25519, SPEC_SECP256K1, SPEC_WRONG_KEY};
use super::{
    Body, CertificateError, ClientVerifier, LIBP2P_EXTENSION, MAX_CERTIFICATE_BYTES, Parsed, ServerVerifier, Signed,
    SignedKey, Validity, generate, host_message, peer_key, verifiers::verify_tls13_signature, verify,
};
use crate::identity::{KeyError, Keypair, PeerId};

/// A moment in 2026.
const NOW: u64 = 1_780_000_000;
const SEED: [u8; 32] = [3; 32];
const SERIAL: [u8; 8] = [0xff; 8];

fn hex(text: &str) -> Vec<u8> {
    assert!(text.len().is_multiple_of(2));
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn algorithms() -> WebPkiSupportedAlgorithms {
    provider().signature_verification_algorithms
}

fn judge(certificate: &[u8]) -> Result<PeerId, CertificateError> {
    let judgement = verify(certificate, &algorithms(), NOW).map(|key| key.peer_id());
    if let Ok(peer) = &judgement {
        assert_eq!(peer_key(certificate).map(|key| key.peer_id()), Some(*peer));
    }
    judgement
}

fn host() -> Keypair {
    Keypair::from_seed([1; 32])
}

/// A good certificate, changed and then signed again by its own key.
fn forged(change: impl for<'a> FnOnce(&mut Body<'a>)) -> Vec<u8> {
    let good = generate(&host(), SEED, SERIAL).certificate;
    let mut parsed = Parsed::read(&good).unwrap();
    change(&mut parsed.body);
    let body = parsed.body.to_der().unwrap();
    let signature = SigningKey::from_bytes(&SEED).sign(&body).to_bytes();
    Signed {
        body: AnyRef::from_der(&body).unwrap(),
        algorithm: parsed.outer.algorithm,
        signature: BitStringRef::from_bytes(&signature).unwrap(),
    }
    .to_der()
    .unwrap()
}

/// The same, with what the libp2p extension holds exchanged.
fn forged_extension(content: impl Into<Vec<u8>>) -> Vec<u8> {
    forged(|body| only_extension(body).extn_value = OctetString::new(content.into()).unwrap())
}

fn extensions<'b>(body: &'b mut Body<'_>) -> &'b mut Vec<Extension> {
    body.extensions.as_mut().unwrap()
}

fn only_extension<'b>(body: &'b mut Body<'_>) -> &'b mut Extension {
    &mut extensions(body)[0]
}

/// An extension that nobody knows.
fn unknown(critical: bool) -> Extension {
    Extension {
        extn_id: ObjectIdentifier::new_unwrap("1.3.6.1.4.1.32473.1"),
        critical,
        extn_value: OctetString::new([5, 0]).unwrap(),
    }
}

fn signed_key(host_key: &[u8], signature: &[u8]) -> Vec<u8> {
    use der::asn1::OctetStringRef;
    SignedKey { host_key: OctetStringRef::new(host_key).unwrap(), signature: OctetStringRef::new(signature).unwrap() }
        .to_der()
        .unwrap()
}

fn window(not_before: (Tag, &'static str), not_after: (Tag, &'static str)) -> Vec<u8> {
    let time = |(tag, text): (Tag, &'static str)| AnyRef::new(tag, text.as_bytes()).unwrap();
    forged(|body| body.validity = Validity { not_before: time(not_before), not_after: time(not_after) })
}

#[test]
fn the_valid_certificates_of_the_specification_prove_their_peer_ids() {
    for (certificate, peer) in [
        (SPEC_ED25519, "12D3KooWM6CgA9iBFZmcYAHA6A2qvbAxqfkmrYiRQuz3XEsk4Ksv"),
        (SPEC_ECDSA, "QmfXbAwNjJLXfesgztEHe8HwgVDCMMpZ9Eax1HYq6hn9uE"),
        (SPEC_SECP256K1, "16Uiu2HAkutTMoTzDw1tCvSRtu6YoixJwS46S1ZFxW8hSx9fWHiPs"),
    ] {
        assert_eq!(judge(&hex(certificate)), Ok(peer.parse().unwrap()));
    }
}

#[test]
fn the_specifications_certificate_for_another_key_is_refused() {
    assert_eq!(judge(&hex(SPEC_WRONG_KEY)), Err(CertificateError::HostSignature));
}

#[test]
fn a_certificate_signed_with_rsa_pss_that_begins_before_1970_is_accepted() {
    let certificate = hex(RSA_PSS);
    let key = peer_key(&certificate).unwrap();
    assert_eq!(judge(&certificate), Ok(key.peer_id()));
}

#[test]
fn a_generated_certificate_proves_its_host_key() {
    assert_eq!(judge(&generate(&host(), SEED, SERIAL).certificate), Ok(host().peer_id()));
}

#[test]
fn generation_is_a_function_of_its_arguments() {
    let make =
        |host: u8, seed: u8, serial: u8| generate(&Keypair::from_seed([host; 32]), [seed; 32], [serial; 8]).certificate;
    assert_eq!(make(1, 2, 3), make(1, 2, 3));
    for other in [make(9, 2, 3), make(1, 9, 3), make(1, 2, 9)] {
        assert_ne!(other, make(1, 2, 3));
    }
}

#[test]
fn a_generated_certificate_has_the_shape_that_everyone_reads() {
    for serial in [[0; 8], [0xff; 8]] {
        let certificate = generate(&host(), SEED, serial).certificate;
        let parsed = Parsed::read(&certificate).unwrap();
        let [first, ..] = parsed.body.serial.as_bytes() else { panic!("no serial number") };
        assert!((0x40..0x80).contains(first));
        assert_eq!(parsed.body.serial.as_bytes().len(), 8);
        let extension = match parsed.body.extensions.as_deref() {
            Some([extension]) => extension,
            other => panic!("not one extension: {other:?}"),
        };
        assert_eq!(extension.extn_id, LIBP2P_EXTENSION);
        assert!(!extension.critical);
        assert_eq!(parsed.body.validity.not_before.header().tag(), Tag::UtcTime);
        assert_eq!(parsed.body.validity.not_before.value(), b"750101000000Z");
        assert_eq!(parsed.body.validity.not_after.header().tag(), Tag::GeneralizedTime);
        assert_eq!(parsed.body.validity.not_after.value(), b"40960101000000Z");
    }
}

#[test]
fn general_x509_code_reads_a_generated_certificate_and_finds_its_key() {
    let generated = generate(&host(), SEED, SERIAL);
    // rustls reads the certificate with webpki for this.
    CertifiedKey::new(vec![generated.certificate.clone()], Arc::clone(&generated.key)).keys_match().unwrap();
    let whole = <x509_cert::Certificate as Decode>::from_der(&generated.certificate).unwrap();
    assert!(whole.tbs_certificate().issuer().is_empty());
}

#[test]
fn the_certificate_key_signs_with_ed25519_only_and_hides_its_secret() {
    let generated = generate(&host(), SEED, SERIAL);
    assert!(generated.key.choose_scheme(&[SignatureScheme::ECDSA_NISTP256_SHA256]).is_none());
    let signer = generated.key.choose_scheme(&[SignatureScheme::RSA_PSS_SHA256, SignatureScheme::ED25519]).unwrap();
    assert_eq!(signer.scheme(), SignatureScheme::ED25519);
    let shown = format!("{generated:?} {signer:?}");
    assert!(shown.contains("secret withheld") && !shown.contains("[3, 3"), "{shown}");
}

#[test]
fn the_validity_window_includes_its_ends() {
    let certificate = window((Tag::UtcTime, "260101000000Z"), (Tag::GeneralizedTime, "20500101000000Z"));
    let (first, last) = (1_767_225_600, 2_524_608_000);
    let at = |now: u64| verify(&certificate, &algorithms(), now).map(|key| key.peer_id());
    assert_eq!(at(first), Ok(host().peer_id()));
    assert_eq!(at(last), Ok(host().peer_id()));
    assert_eq!(at(first - 1), Err(CertificateError::NotYetValid { not_before: first, now: first - 1 }));
    assert_eq!(at(last + 1), Err(CertificateError::Expired { not_after: last, now: last + 1 }));
}

#[test]
fn times_before_1970_count_as_1970_and_malformed_ones_as_nothing() {
    let late = (Tag::GeneralizedTime, "40960101000000Z");
    for early in
        [(Tag::UtcTime, "500101000000Z"), (Tag::UtcTime, "691231235959Z"), (Tag::GeneralizedTime, "19691231235959Z")]
    {
        let certificate = window(early, late);
        assert!(verify(&certificate, &algorithms(), 0).is_ok());
        assert!(matches!(judge(&window(early, early)), Err(CertificateError::Expired { not_after: 0, .. })));
    }
    for wrong in [
        (Tag::UtcTime, "5"),
        (Tag::UtcTime, "261301000000Z"),
        (Tag::UtcTime, "2601010000Z"),
        (Tag::UtcTime, ""),
        (Tag::GeneralizedTime, "0001"),
        (Tag::GeneralizedTime, "20260101000000+01"),
        (Tag::Utf8String, "260101000000Z"),
        (Tag::Null, ""),
    ] {
        assert_eq!(judge(&window(wrong, late)), Err(CertificateError::Malformed), "{wrong:?}");
    }
}

#[test]
fn a_certificate_without_a_host_key_or_with_two_is_refused() {
    assert_eq!(judge(&forged(|body| body.extensions = None)), Err(CertificateError::NoHostKey));
    let other = forged(|body| *only_extension(body) = unknown(false));
    assert_eq!(judge(&other), Err(CertificateError::NoHostKey));
    let twice = forged(|body| {
        let again = only_extension(body).clone();
        extensions(body).push(again);
    });
    assert_eq!(judge(&twice), Err(CertificateError::SeveralHostKeys));
}

#[test]
fn the_libp2p_extension_may_be_critical_and_stand_anywhere() {
    assert_eq!(judge(&forged(|body| only_extension(body).critical = true)), Ok(host().peer_id()));
    let last = forged(|body| {
        for _ in 0..3 {
            extensions(body).insert(0, unknown(false));
        }
    });
    assert_eq!(judge(&last), Ok(host().peer_id()));
}

#[test]
fn an_unknown_critical_extension_is_refused() {
    let certificate = forged(|body| extensions(body).push(unknown(true)));
    assert_eq!(judge(&certificate), Err(CertificateError::CriticalExtension(unknown(true).extn_id)));
}

#[test]
fn the_host_key_must_sign_this_certificates_key_behind_the_right_prefix() {
    let certificate = generate(&host(), SEED, SERIAL).certificate;
    let key_info = Parsed::read(&certificate).unwrap().body.key_info.to_der().unwrap();
    let host_key = host().public().encode_protobuf();
    let with = |message: &[u8]| judge(&forged_extension(signed_key(&host_key, &host().sign(message))));
    assert_eq!(with(&host_message(&key_info)), Ok(host().peer_id()));
    assert_eq!(with(&[b"libp2p-tls-handshake", &key_info[..]].concat()), Err(CertificateError::HostSignature));
    assert_eq!(with(&key_info), Err(CertificateError::HostSignature));

    let other = generate(&host(), [4; 32], SERIAL).certificate;
    let content = only_extension(&mut Parsed::read(&other).unwrap().body).extn_value.as_bytes().to_vec();
    assert_eq!(judge(&forged_extension(content)), Err(CertificateError::HostSignature));
}

#[test]
fn a_libp2p_extension_that_holds_something_else_is_refused() {
    for content in [vec![], vec![0x30, 0x00], b"junk".to_vec(), [signed_key(b"", b""), vec![0]].concat()] {
        assert_eq!(judge(&forged_extension(content)), Err(CertificateError::Extension));
    }
    let key = judge(&forged_extension(signed_key(b"no key", b"no signature")));
    assert_eq!(key, Err(CertificateError::HostKey(KeyError::NotCanonical)));
}

#[test]
fn a_certificate_that_its_own_key_did_not_sign_is_refused() {
    let mut certificate = generate(&host(), SEED, SERIAL).certificate.to_vec();
    *certificate.last_mut().unwrap() ^= 1;
    assert_eq!(judge(&certificate), Err(CertificateError::SelfSignature));
}

#[test]
fn other_versions_forms_and_algorithms_are_refused() {
    assert_eq!(judge(&forged(|body| body.version = Version::V1)), Err(CertificateError::Malformed));
    let null = AnyRef::NULL;
    assert_eq!(judge(&forged(|body| body.subject = null)), Err(CertificateError::Malformed));
    assert_eq!(judge(&forged(|body| body.algorithm = null)), Err(CertificateError::Malformed));
    // Ed448, which the provider does not know.
    let ed448 = AnyRef::new(Tag::Sequence, rustls::pki_types::alg_id::ED448.as_ref()).unwrap();
    let certificate = generate(&host(), SEED, SERIAL).certificate;
    let mut parsed = Parsed::read(&certificate).unwrap();
    parsed.body.algorithm = ed448;
    let body = parsed.body.to_der().unwrap();
    parsed.outer.algorithm = ed448;
    parsed.outer.body = AnyRef::from_der(&body).unwrap();
    assert_eq!(judge(&parsed.outer.to_der().unwrap()), Err(CertificateError::Algorithm));
}

#[test]
fn a_negative_serial_number_is_let_pass() {
    let certificate = forged(|body| body.serial = IntRef::new(&[0x80]).unwrap());
    assert_eq!(judge(&certificate), Ok(host().peer_id()));
}

#[test]
fn truncated_extended_and_overlong_certificates_are_refused() {
    let good = generate(&host(), SEED, SERIAL).certificate;
    assert!((0..good.len()).all(|len| judge(&good[..len]) == Err(CertificateError::Malformed)));
    assert_eq!(judge(&[&good[..], &[0]].concat()), Err(CertificateError::Malformed));
    let long = vec![0x30; MAX_CERTIFICATE_BYTES + 1];
    assert_eq!(judge(&long), Err(CertificateError::TooLong(long.len())));
    assert_eq!(peer_key(&long), None);
}

fn signed_struct(scheme: SignatureScheme, signature: &[u8]) -> DigitallySignedStruct {
    let mut bytes = Vec::new();
    scheme.encode(&mut bytes);
    bytes.extend(u16::try_from(signature.len()).unwrap().to_be_bytes());
    bytes.extend_from_slice(signature);
    DigitallySignedStruct::read_bytes(&bytes).unwrap()
}

#[test]
fn handshake_signatures_obey_the_scheme_rules_of_tls_13() {
    let message = b"transcript";
    let certificate = CertificateDer::from(forged(|body| only_extension(body).critical = true));
    let signature = SigningKey::from_bytes(&SEED).sign(message).to_bytes();
    let check = |certificate: &CertificateDer<'_>, scheme, signature: &[u8]| {
        verify_tls13_signature(message, certificate, &signed_struct(scheme, signature), &algorithms()).map(|_| ())
    };
    let unadvertised = Err(Error::from(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme));
    assert_eq!(check(&certificate, SignatureScheme::ED25519, &signature), Ok(()));
    let wrong = check(&certificate, SignatureScheme::ED25519, &[0; 64]);
    assert_eq!(wrong, Err(rustls::CertificateError::BadSignature.into()));
    let p256 = CertificateDer::from(hex(SPEC_ED25519));
    let wrong = check(&p256, SignatureScheme::ECDSA_NISTP256_SHA256, &signature);
    assert_eq!(wrong, Err(rustls::CertificateError::BadSignature.into()));
    // The key is of another kind, or on another curve, than the scheme says.
    assert_eq!(check(&certificate, SignatureScheme::ECDSA_NISTP256_SHA256, &signature), unadvertised);
    assert_eq!(check(&p256, SignatureScheme::ECDSA_NISTP384_SHA384, &signature), unadvertised);
    assert_eq!(check(&p256, SignatureScheme::ED25519, &signature), unadvertised);
    let rsa = CertificateDer::from(hex(RSA_PSS));
    let wrong = check(&rsa, SignatureScheme::RSA_PSS_SHA256, &signature);
    assert_eq!(wrong, Err(rustls::CertificateError::BadSignature.into()));
    for scheme in [
        SignatureScheme::RSA_PKCS1_SHA256,
        SignatureScheme::RSA_PKCS1_SHA1,
        SignatureScheme::ECDSA_SHA1_Legacy,
        SignatureScheme::ED448,
        SignatureScheme::Unknown(0x1234),
    ] {
        assert_eq!(check(&rsa, scheme, &signature), unadvertised);
    }
}

/// A clock that stands still, or none at all.
#[derive(Debug)]
struct Clock(Option<u64>);

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        self.0.map(|now| UnixTime::since_unix_epoch(std::time::Duration::from_secs(now)))
    }
}

/// One side of a connection.
struct Side {
    chain: Vec<CertificateDer<'static>>,
    key: Arc<dyn rustls::sign::SigningKey>,
    now: Option<u64>,
}

impl Side {
    fn of(seed: u8) -> Self {
        let generated = generate(&Keypair::from_seed([seed; 32]), [seed + 100; 32], [seed; 8]);
        Self { chain: vec![generated.certificate], key: generated.key, now: Some(NOW) }
    }

    /// With another certificate over the key of [`forged`] ones.
    fn forged(certificate: Vec<u8>) -> Self {
        Self { chain: vec![certificate.into()], key: generate(&host(), SEED, SERIAL).key, now: Some(NOW) }
    }

    fn certified(&self) -> Arc<SingleCertAndKey> {
        Arc::new(CertifiedKey::new(self.chain.clone(), Arc::clone(&self.key)).into())
    }

    fn clock(&self) -> Arc<Clock> {
        Arc::new(Clock(self.now))
    }
}

fn id(seed: u8) -> PeerId {
    Keypair::from_seed([seed; 32]).peer_id()
}

/// What came of a handshake.
struct Handshake {
    client: Result<Option<PeerId>, Error>,
    server: Result<Option<PeerId>, Error>,
    verifier: Arc<ServerVerifier>,
}

fn handshake(client: &Side, server: &Side, expected: Option<PeerId>) -> Handshake {
    let verifier = Arc::new(ServerVerifier::new(expected, algorithms(), client.clock()));
    let client_config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(verifier.clone())
        .with_client_cert_resolver(client.certified());
    let server_config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_client_cert_verifier(Arc::new(ClientVerifier::new(algorithms(), server.clock())))
        .with_cert_resolver(server.certified());
    let name = ServerName::IpAddress(std::net::Ipv4Addr::UNSPECIFIED.into());
    let mut client = ClientConnection::new(Arc::new(client_config), name).unwrap();
    let mut server = ServerConnection::new(Arc::new(server_config)).unwrap();

    let (mut client_result, mut server_result) = (Ok(()), Ok(()));
    for _ in 0..10 {
        let mut flight = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut flight).unwrap();
        }
        let mut flight = &flight[..];
        while !flight.is_empty() && server_result.is_ok() {
            server.read_tls(&mut flight).unwrap();
            server_result = server.process_new_packets().map(|_| ());
        }
        let mut flight = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut flight).unwrap();
        }
        let mut flight = &flight[..];
        while !flight.is_empty() && client_result.is_ok() {
            client.read_tls(&mut flight).unwrap();
            client_result = client.process_new_packets().map(|_| ());
        }
    }
    let peer = |chain: Option<&[CertificateDer<'static>]>| {
        chain.and_then(<[_]>::first).and_then(|certificate| peer_key(certificate)).map(|key| key.peer_id())
    };
    Handshake {
        client: client_result.map(|()| peer(client.peer_certificates()).filter(|_| !client.is_handshaking())),
        server: server_result.map(|()| peer(server.peer_certificates()).filter(|_| !server.is_handshaking())),
        verifier,
    }
}

fn learnt(done: &Handshake) -> Option<Result<PeerId, CertificateError>> {
    done.verifier.outcome().map(|judgement| judgement.clone().map(|key| key.peer_id()))
}

#[test]
fn in_a_handshake_both_sides_learn_who_the_other_is() {
    for expected in [None, Some(id(2))] {
        let done = handshake(&Side::of(1), &Side::of(2), expected);
        assert_eq!(done.client, Ok(Some(id(2))));
        assert_eq!(done.server, Ok(Some(id(1))));
        assert_eq!(learnt(&done), Some(Ok(id(2))));
        assert_eq!(done.verifier.wrong_peer(), None);
    }
}

#[test]
fn a_dial_that_reaches_another_peer_fails_and_says_whom_it_reached() {
    let done = handshake(&Side::of(1), &Side::of(2), Some(id(3)));
    assert_eq!(done.client, Err(rustls::CertificateError::ApplicationVerificationFailure.into()));
    assert_eq!(done.server, Err(Error::AlertReceived(AlertDescription::AccessDenied)));
    assert_eq!(done.verifier.wrong_peer(), Some((id(3), id(2))));
    let wrong = CertificateError::WrongPeer { expected: id(3), actual: id(2) };
    assert_eq!(learnt(&done), Some(Err(wrong)));
}

#[test]
fn a_critical_libp2p_extension_passes_a_whole_handshake_on_both_sides() {
    let critical = || Side::forged(forged(|body| only_extension(body).critical = true));
    let done = handshake(&critical(), &critical(), Some(host().peer_id()));
    assert_eq!(done.client, Ok(Some(host().peer_id())));
    assert_eq!(done.server, Ok(Some(host().peer_id())));
}

#[test]
fn a_chain_of_two_certificates_is_refused_on_both_sides() {
    let chain = || {
        let mut side = Side::of(2);
        side.chain.extend(Side::of(1).chain);
        side
    };
    let done = handshake(&Side::of(1), &chain(), None);
    assert_eq!(learnt(&done), Some(Err(CertificateError::Chain)));
    assert_eq!(done.server, Err(Error::AlertReceived(AlertDescription::BadCertificate)));
    let done = handshake(&chain(), &Side::of(1), None);
    assert_eq!(done.client, Err(Error::AlertReceived(AlertDescription::BadCertificate)));
}

#[test]
fn refusals_travel_as_bad_certificate_or_certificate_expired() {
    let early = || Side { now: Some(0), ..Side::of(1) };
    let cases = [
        (Side::of(1), Side::forged(forged(|body| body.extensions = None)), AlertDescription::BadCertificate),
        (
            Side::of(1),
            Side::forged(forged(|body| extensions(body).push(unknown(true)))),
            AlertDescription::BadCertificate,
        ),
        (Side::of(1), Side::forged(forged_extension(b"junk")), AlertDescription::BadCertificate),
        (early(), Side::of(2), AlertDescription::CertificateExpired),
    ];
    for (judging, judged, alert) in cases {
        let done = handshake(&judging, &judged, None);
        assert_eq!(done.server, Err(Error::AlertReceived(alert)));
        assert!(matches!(learnt(&done), Some(Err(_))));
        let done = handshake(&judged, &judging, None);
        assert_eq!(done.client, Err(Error::AlertReceived(alert)));
    }
}

#[test]
fn without_a_clock_nobody_is_accepted() {
    let unknowing = Side { now: None, ..Side::of(1) };
    assert_eq!(learnt(&handshake(&unknowing, &Side::of(2), None)), Some(Err(CertificateError::NoClock)));
}

#[test]
fn a_client_without_a_certificate_is_refused() {
    let client_config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(ServerVerifier::new(None, algorithms(), Side::of(1).clock())))
        .with_no_client_auth();
    let server = Side::of(2);
    let server_config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_client_cert_verifier(Arc::new(ClientVerifier::new(algorithms(), server.clock())))
        .with_cert_resolver(server.certified());
    let name = ServerName::IpAddress(std::net::Ipv4Addr::UNSPECIFIED.into());
    let mut client = ClientConnection::new(Arc::new(client_config), name).unwrap();
    let mut server = ServerConnection::new(Arc::new(server_config)).unwrap();
    let mut flight = Vec::new();
    client.write_tls(&mut flight).unwrap();
    server.read_tls(&mut &flight[..]).unwrap();
    server.process_new_packets().unwrap();
    let mut flight = Vec::new();
    while server.wants_write() {
        server.write_tls(&mut flight).unwrap();
    }
    client.read_tls(&mut &flight[..]).unwrap();
    client.process_new_packets().unwrap();
    let mut flight = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut flight).unwrap();
    }
    server.read_tls(&mut &flight[..]).unwrap();
    assert_eq!(server.process_new_packets().unwrap_err(), Error::NoCertificatesPresented);
}

#[test]
fn only_schemes_that_tls_13_allows_are_offered() {
    use rustls::{client::danger::ServerCertVerifier as _, server::danger::ClientCertVerifier as _};
    let clock = || Arc::new(Clock(Some(NOW)));
    let schemes = ServerVerifier::new(None, algorithms(), clock()).supported_verify_schemes();
    assert_eq!(schemes, ClientVerifier::new(algorithms(), clock()).supported_verify_schemes());
    for wanted in [
        SignatureScheme::ED25519,
        SignatureScheme::ECDSA_NISTP256_SHA256,
        SignatureScheme::ECDSA_NISTP384_SHA384,
        SignatureScheme::RSA_PSS_SHA256,
    ] {
        assert!(schemes.contains(&wanted));
    }
    assert!(!schemes.contains(&SignatureScheme::RSA_PKCS1_SHA256));
}

proptest! {
    #[test]
    fn any_host_seed_and_serial_give_a_valid_certificate(host: [u8; 32], seed: [u8; 32], serial: [u8; 8]) {
        let host = Keypair::from_seed(host);
        prop_assert_eq!(judge(&generate(&host, seed, serial).certificate), Ok(host.peer_id()));
    }

    #[test]
    fn arbitrary_bytes_never_panic_as_a_certificate(bytes: Vec<u8>) {
        prop_assert!(judge(&bytes).is_err());
        prop_assert!(peer_key(&bytes).is_none());
    }

    #[test]
    fn a_damaged_certificate_never_passes(which in 0_usize..4, at: prop::sample::Index, flip in 1_u8..) {
        let mut bytes = match which {
            0 => generate(&host(), SEED, SERIAL).certificate.to_vec(),
            1 => hex(SPEC_ED25519),
            2 => hex(SPEC_ECDSA),
            _ => hex(RSA_PSS),
        };
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        prop_assert!(judge(&bytes).is_err());
        let _ = peer_key(&bytes);
        let signed = signed_struct(SignatureScheme::ED25519, &[0; 64]);
        prop_assert!(verify_tls13_signature(b"", &bytes.into(), &signed, &algorithms()).is_err());
    }
}
