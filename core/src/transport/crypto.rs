//! The QUIC library's sources of randomness, keys and time, all of them the node's own.
//!
//! A handshake is reproducible only if everything that QUIC and TLS draw is injected: the certificate's key, rustls's
//! `secure_random` and key-exchange group, the stateless-reset key, the token key, connection ids and the client's
//! initial destination id, and the clock that checks validity. Leave one out and two runs of one seed differ. The
//! embedder's [`CryptoProvider`] supplies only what computes: AEAD, hashes, signature checks.

use core::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};
use std::{sync::Arc, time::SystemTime};

use aes_gcm::{Aes128Gcm, KeyInit as _, aead::AeadMutInPlace as _};
use hmac::{Hmac, KeyInit as _, Mac as _};
use noq_proto::{
    ConnectionId, ConnectionIdGenerator, EndpointConfig, IdleTimeout, MtuDiscoveryConfig, NoneTokenStore, ServerConfig,
    TransportConfig, VarInt,
    crypto::{
        CryptoError, HandshakeTokenKey, HmacKey,
        rustls::{QuicClientConfig, QuicServerConfig},
    },
};
use rustls::{
    NamedGroup, SupportedCipherSuite,
    client::Resumption,
    crypto::{
        ActiveKeyExchange, CryptoProvider, GetRandomFailed, SecureRandom, SharedSecret, SupportedKxGroup,
        WebPkiSupportedAlgorithms,
    },
    sign::{CertifiedKey, SingleCertAndKey},
};
use sha2::Sha256;

use super::certificate::{self, ClientVerifier, ServerVerifier};
use crate::{
    config::{ConfigError, Platform, QuicConfig},
    entropy::{Rng, Root},
    identity::{Keypair, PeerId},
};

/// The only application protocol of libp2p over QUIC.
const ALPN: &[u8] = b"libp2p";

/// Connection ids: long enough to be unguessable, short enough not to matter.
const CID_LEN: usize = 8;

/// The wall clock as QUIC and TLS see it: nanoseconds since 1970, moved forward by the node.
#[derive(Debug, Default)]
pub(crate) struct WallClock(AtomicU64);

impl WallClock {
    pub(crate) fn set(&self, time: crate::time::UnixTime) {
        self.0.store(time.as_nanos(), Ordering::Relaxed);
    }

    /// Seconds since 1970.
    pub(crate) fn secs(&self) -> u64 {
        self.0.load(Ordering::Relaxed) / 1_000_000_000
    }
}

impl rustls::time_provider::TimeProvider for WallClock {
    fn current_time(&self) -> Option<rustls::pki_types::UnixTime> {
        Some(rustls::pki_types::UnixTime::since_unix_epoch(Duration::from_secs(self.secs())))
    }
}

struct QuicClock(Arc<WallClock>);

impl noq_proto::TimeSource for QuicClock {
    fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_nanos(self.0.0.load(Ordering::Relaxed))
    }
}

/// Random draws behind a shared reference: the n-th draw is a stream of its own, so no lock is needed.
struct Draws {
    root: Root,
    next: AtomicU64,
}

impl Draws {
    fn new(mut rng: Rng) -> Self {
        Self { root: Root::draw(&mut |dest: &mut [u8]| rng.fill(dest)), next: AtomicU64::new(0) }
    }

    fn draw(&self) -> Rng {
        self.root.nth(self.next.fetch_add(1, Ordering::Relaxed))
    }
}

impl fmt::Debug for Draws {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Draws(..)")
    }
}

impl SecureRandom for Draws {
    fn fill(&self, buf: &mut [u8]) -> Result<(), GetRandomFailed> {
        self.draw().fill(buf);
        Ok(())
    }
}

/// X25519 (RFC 7748), which every libp2p implementation offers.
impl SupportedKxGroup for Draws {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, rustls::Error> {
        let secret = x25519_dalek::StaticSecret::from(self.draw().array::<32>());
        let public = x25519_dalek::PublicKey::from(&secret);
        Ok(Box::new(KeyExchange { secret, public }))
    }

    fn ffdhe_group(&self) -> Option<rustls::ffdhe_groups::FfdheGroup<'static>> {
        None
    }

    fn name(&self) -> NamedGroup {
        NamedGroup::X25519
    }
}

struct KeyExchange {
    secret: x25519_dalek::StaticSecret,
    public: x25519_dalek::PublicKey,
}

impl ActiveKeyExchange for KeyExchange {
    fn complete(self: Box<Self>, peer_pub_key: &[u8]) -> Result<SharedSecret, rustls::Error> {
        let invalid = || rustls::Error::PeerMisbehaved(rustls::PeerMisbehaved::InvalidKeyShare);
        let peer: [u8; 32] = peer_pub_key.try_into().map_err(|_| invalid())?;
        let shared = self.secret.diffie_hellman(&x25519_dalek::PublicKey::from(peer));
        // A point of small order would make the secret known to everybody (RFC 7748 §6.1).
        if !shared.was_contributory() {
            return Err(invalid());
        }
        Ok(SharedSecret::from(&shared.as_bytes()[..]))
    }

    fn pub_key(&self) -> &[u8] {
        self.public.as_bytes()
    }

    fn ffdhe_group(&self) -> Option<rustls::ffdhe_groups::FfdheGroup<'static>> {
        None
    }

    fn group(&self) -> NamedGroup {
        NamedGroup::X25519
    }
}

/// HMAC-SHA-256 for stateless-reset tokens.
struct ResetKey([u8; 64]);

impl HmacKey for ResetKey {
    fn sign(&self, data: &[u8], signature_out: &mut [u8]) {
        signature_out.copy_from_slice(&mac(&self.0, data).finalize().into_bytes());
    }

    fn signature_len(&self) -> usize {
        32
    }

    fn verify(&self, data: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
        mac(&self.0, data).verify_slice(signature).map_err(|_| CryptoError)
    }
}

fn mac(key: &[u8; 64], data: &[u8]) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new(key.into());
    mac.update(data);
    mac
}

/// Seals the tokens of Retry packets. Each token has a key of its own, derived from its 128-bit nonce, because AES-GCM
/// takes only 96 bits.
struct TokenKey([u8; 64]);

impl TokenKey {
    fn cipher(&self, nonce: u128) -> Aes128Gcm {
        let key: [u8; 32] = mac(&self.0, &nonce.to_le_bytes()).finalize().into_bytes().into();
        let mut half = [0; 16];
        half.copy_from_slice(&key[..16]);
        Aes128Gcm::new(&half.into())
    }
}

impl HandshakeTokenKey for TokenKey {
    fn seal(&self, token_nonce: u128, data: &mut Vec<u8>) -> Result<(), CryptoError> {
        let mut cipher = self.cipher(token_nonce);
        cipher.encrypt_in_place(&[0; 12].into(), &[], data).map_err(|_| CryptoError)
    }

    fn open<'a>(&self, token_nonce: u128, data: &'a mut [u8]) -> Result<&'a [u8], CryptoError> {
        let plain_len = data.len().checked_sub(16).ok_or(CryptoError)?;
        let (plain, tag) = data.split_at_mut(plain_len);
        let mut cipher = self.cipher(token_nonce);
        let tag = aes_gcm::Tag::clone_from_slice(tag);
        cipher.decrypt_in_place_detached(&[0; 12].into(), &[], plain, &tag).map_err(|_| CryptoError)?;
        Ok(plain)
    }
}

struct CidGenerator(Rng);

impl ConnectionIdGenerator for CidGenerator {
    fn generate_cid(&mut self) -> ConnectionId {
        ConnectionId::new(&self.0.array::<CID_LEN>())
    }

    fn cid_len(&self) -> usize {
        CID_LEN
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

/// Everything that a [`noq_proto::Endpoint`] is made of.
pub(crate) struct QuicCrypto {
    pub(crate) endpoint: Arc<EndpointConfig>,
    pub(crate) server: Arc<ServerConfig>,
    pub(crate) wall: Arc<WallClock>,
    client: Client,
    transport: Arc<TransportConfig>,
    initial_cids: Arc<Draws>,
}

/// What the client's side of a handshake is made from.
enum Client {
    Tls {
        config: Box<rustls::ClientConfig>,
        algorithms: WebPkiSupportedAlgorithms,
    },
    #[cfg(feature = "simulation")]
    Simulated {
        version: u32,
        make: Box<crate::simulation::MakeClient>,
    },
}

/// Both sides of the handshakes of one node, and the QUIC version that they belong to.
struct Sessions {
    version: u32,
    client: Client,
    server: Arc<dyn noq_proto::crypto::ServerConfig>,
}

impl Sessions {
    fn new(platform: &Platform, identity: &Keypair, root: &Root, wall: &Arc<WallClock>) -> Result<Self, ConfigError> {
        #[cfg(feature = "simulation")]
        if let Some(sessions) = &platform.sessions {
            return Self::simulated(&**sessions, identity, root);
        }
        Self::tls(platform, identity, root, wall)
    }

    #[cfg(feature = "simulation")]
    fn simulated(
        sessions: &dyn crate::simulation::Sessions,
        identity: &Keypair,
        root: &Root,
    ) -> Result<Self, ConfigError> {
        let crate::simulation::NodeSessions { version, server, client } =
            sessions.for_node(identity.peer_id(), root.stream("simulated sessions").array());
        if version == crate::simulation::QUIC_V1 {
            return Err(ConfigError::Crypto("its simulated sessions claim to be QUIC version 1".into()));
        }
        Ok(Self { version, client: Client::Simulated { version, make: client }, server })
    }

    /// libp2p's TLS: certificates of both sides, one application protocol, no tickets.
    fn tls(platform: &Platform, identity: &Keypair, root: &Root, wall: &Arc<WallClock>) -> Result<Self, ConfigError> {
        let refused = |error: &dyn fmt::Display| ConfigError::Crypto(error.to_string());
        let provider = Arc::new(provider(platform, root)?);
        let algorithms = provider.signature_verification_algorithms;

        let mut rng = root.stream("certificate");
        let generated = certificate::generate(identity, rng.array(), rng.array());
        let certified = Arc::new(SingleCertAndKey::from(CertifiedKey::new(vec![generated.certificate], generated.key)));

        let verifier = Arc::new(ServerVerifier::new(None, algorithms, wall.clone()));
        let mut client = rustls::ClientConfig::builder_with_details(provider.clone(), wall.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|error| refused(&error))?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_client_cert_resolver(certified.clone());
        client.alpn_protocols = vec![ALPN.to_vec()];
        client.enable_sni = false;
        client.resumption = Resumption::disabled();
        if let Some(key_log) = &platform.key_log {
            client.key_log = key_log.clone();
        }

        let mut server = rustls::ServerConfig::builder_with_details(provider, wall.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|error| refused(&error))?
            .with_client_cert_verifier(Arc::new(ClientVerifier::new(algorithms, wall.clone())))
            .with_cert_resolver(certified);
        server.alpn_protocols = vec![ALPN.to_vec()];
        server.send_tls13_tickets = 0;
        if let Some(key_log) = &platform.key_log {
            server.key_log = key_log.clone();
        }

        let server = QuicServerConfig::try_from(server).map_err(|error| refused(&error))?;
        let client = Client::Tls { config: Box::new(client), algorithms };
        Ok(Self { version: 1, client, server: Arc::new(server) })
    }
}

impl QuicCrypto {
    pub(crate) fn new(
        platform: &Platform,
        config: &QuicConfig,
        identity: &Keypair,
        root: &Root,
    ) -> Result<Self, ConfigError> {
        let wall = Arc::new(WallClock::default());
        let sessions = Sessions::new(platform, identity, root, &wall)?;
        #[cfg_attr(not(feature = "qlog"), expect(unused_mut))]
        let mut transport = transport(config)?;
        #[cfg(feature = "qlog")]
        super::qlog::attach(platform, &mut transport);
        let transport = Arc::new(transport);
        let token_key = Arc::new(TokenKey(root.stream("token key").array()));
        let mut server = ServerConfig::new(sessions.server, token_key);
        server.transport_config(transport.clone()).time_source(Arc::new(QuicClock(wall.clone()))).migration(true);

        let mut endpoint = EndpointConfig::new(Arc::new(ResetKey(root.stream("reset key").array())));
        let cids = Draws::new(root.stream("connection ids"));
        endpoint
            .rng_seed(Some(root.stream("endpoint").array()))
            .cid_generator(Arc::new(move || Box::new(CidGenerator(cids.draw()))))
            .supported_versions(vec![sessions.version])
            // STUN is told from QUIC by this bit on the sockets that they share (RFC 9443).
            .grease_quic_bit(false);

        Ok(Self {
            endpoint: Arc::new(endpoint),
            server: Arc::new(server),
            wall,
            client: sessions.client,
            transport,
            initial_cids: Arc::new(Draws::new(root.stream("initial connection ids"))),
        })
    }

    /// The client's side of one connection, and the cell in which its verifier leaves who answered, if it is TLS.
    pub(crate) fn client(
        &self,
        expected: Option<PeerId>,
    ) -> Option<(noq_proto::ClientConfig, Option<Arc<ServerVerifier>>)> {
        let (mut config, verifier) = match &self.client {
            Client::Tls { config, algorithms } => {
                let verifier = Arc::new(ServerVerifier::new(expected, *algorithms, self.wall.clone()));
                let mut tls = (**config).clone();
                tls.dangerous().set_certificate_verifier(verifier.clone());
                let tls = QuicClientConfig::try_from(tls).ok()?;
                (noq_proto::ClientConfig::new(Arc::new(tls)), Some(verifier))
            }
            #[cfg(feature = "simulation")]
            Client::Simulated { version, make } => {
                let mut config = noq_proto::ClientConfig::new(make(expected));
                config.version(*version);
                (config, None)
            }
        };
        let cids = self.initial_cids.clone();
        config
            .transport_config(self.transport.clone())
            .token_store(Arc::new(NoneTokenStore))
            .initial_dst_cid_provider(Arc::new(move || ConnectionId::new(&cids.draw().array::<20>())));
        Some((config, verifier))
    }
}

/// The embedder's provider with the node's randomness and key exchange in place of its own.
fn provider(platform: &Platform, root: &Root) -> Result<CryptoProvider, ConfigError> {
    // rustls keeps both behind `&'static`, so a node's source of randomness outlives it: 40 bytes for each node built.
    let draws: &'static Draws = Box::leak(Box::new(Draws::new(root.stream("tls"))));
    let mut cipher_suites: Vec<_> =
        platform.crypto.cipher_suites.iter().filter(|suite| suite.tls13().is_some()).copied().collect();
    // AES-128 before AES-256: as safe here, and a third cheaper.
    cipher_suites.sort_by_key(|suite| suite.suite() != rustls::CipherSuite::TLS13_AES_128_GCM_SHA256);
    let has_initial_suite = cipher_suites.first().is_some_and(|suite| {
        suite.suite() == rustls::CipherSuite::TLS13_AES_128_GCM_SHA256
            && suite.tls13().is_some_and(|suite| suite.quic.is_some())
    });
    if !has_initial_suite {
        return Err(ConfigError::Crypto("it has no TLS13_AES_128_GCM_SHA256 with QUIC support".into()));
    }
    Ok(CryptoProvider {
        cipher_suites: cipher_suites.into_iter().filter(has_quic).collect(),
        kx_groups: vec![draws],
        signature_verification_algorithms: platform.crypto.signature_verification_algorithms,
        secure_random: draws,
        key_provider: platform.crypto.key_provider,
    })
}

fn has_quic(suite: &SupportedCipherSuite) -> bool {
    suite.tls13().is_some_and(|suite| suite.quic.is_some())
}

fn transport(config: &QuicConfig) -> Result<TransportConfig, ConfigError> {
    let idle = IdleTimeout::try_from(config.idle_timeout).map_err(|_| ConfigError::OutOfRange {
        field: "quic.idle_timeout",
        value: format!("{:?}", config.idle_timeout),
        must: "from 1 s to 1 day",
    })?;
    let mut transport = TransportConfig::default();
    transport
        .max_idle_timeout(Some(idle))
        .keep_alive_interval(config.keep_alive)
        .max_concurrent_bidi_streams(VarInt::from_u32(config.initial_streams))
        // libp2p uses unidirectional streams and datagrams for WebTransport only.
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None)
        .stream_receive_window(VarInt::from_u32(config.stream_window))
        .receive_window(VarInt::from_u32(config.connection_window))
        .send_window(config.send_window)
        .mtu_discovery_config(config.mtu_discovery.then(MtuDiscoveryConfig::default))
        .send_observed_address_reports(config.address_discovery)
        .receive_observed_address_reports(config.address_discovery);
    Ok(transport)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_opens_with_its_nonce_and_unchanged_only() {
        let key = TokenKey([7; 64]);
        let mut sealed = b"where you came from".to_vec();
        key.seal(1, &mut sealed).unwrap();
        assert_eq!(key.open(1, &mut sealed.clone()).unwrap(), b"where you came from");
        assert!(key.open(2, &mut sealed.clone()).is_err());
        sealed[0] ^= 1;
        assert!(key.open(1, &mut sealed).is_err());
        assert!(key.open(1, &mut [0; 15]).is_err());
    }

    #[test]
    fn a_reset_token_verifies_for_its_data_only() {
        let key = ResetKey([1; 64]);
        let mut token = [0; 32];
        key.sign(b"cid", &mut token);
        assert!(key.verify(b"cid", &token).is_ok());
        assert!(key.verify(b"dic", &token).is_err());
    }

    #[test]
    fn a_key_share_of_small_order_is_refused() {
        let draws = Draws::new(Rng::from_seed(1));
        let exchange = draws.start().unwrap();
        assert!(exchange.complete(&[0; 32]).is_err());
        assert!(draws.start().unwrap().complete(&[0; 31]).is_err());
    }
}
