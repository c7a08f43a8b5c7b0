//! The QUIC library under peerwork, bare, on its own tokio driver: the limit of what peerwork can be.
//!
//! No libp2p: no peer ids, no protocol negotiation, no identify, no ping. Both sides have certificates, as in libp2p,
//! and the same cryptography as peerwork (ring, AES-128-GCM, X25519, ECDSA P-256), without the extension that binds a
//! certificate to a peer id.

use std::{future::Future, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use noq::{
    ClientConfig, Connection, Endpoint, EndpointConfig, IdleTimeout, ServerConfig, TransportConfig, VarInt,
    crypto::rustls::{QuicClientConfig, QuicServerConfig},
};
use rustls::{
    CipherSuite, DigitallySignedStruct, DistinguishedName, SignatureScheme,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};

use crate::node::{
    Address, CONNECTION_WINDOW, MESSAGE, Node, Outcome, SEND_WINDOW, SOCKET_BUFFER, STREAM_WINDOW, Writes, keep_up,
};

/// The first byte of a stream says what it is for.
const ECHO: u8 = 0;
const SINK: u8 = 1;
const ASK: u8 = 2;

pub(crate) struct Raw {
    endpoint: Endpoint,
    client: ClientConfig,
}

impl Node for Raw {
    type Conn = Connection;

    fn run<T>(program: impl Future<Output = T>) -> T {
        super::libp2p::run_on_tokio(program)
    }

    async fn start() -> Outcome<Self> {
        let (server, client) = configs()?;
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None)?;
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())?;
        socket.set_recv_buffer_size(SOCKET_BUFFER)?;
        socket.set_send_buffer_size(SOCKET_BUFFER)?;
        let runtime = Arc::new(noq::TokioRuntime);
        let endpoint = Endpoint::new(EndpointConfig::default(), Some(server), socket.into(), runtime)?;
        Ok(Self { endpoint, client })
    }

    fn address(&self) -> Address {
        Address { socket: self.endpoint.local_addr().expect("a bound socket"), peer: "-".into() }
    }

    async fn serve(&mut self) -> Outcome<()> {
        while let Some(incoming) = self.endpoint.accept().await {
            tokio::spawn(async move {
                let conn = incoming.await?;
                while let Ok((send, recv)) = conn.accept_bi().await {
                    tokio::spawn(answer(send, recv));
                }
                Outcome::Ok(())
            });
        }
        Ok(())
    }

    async fn dial(&mut self, to: &Address) -> Outcome<Connection> {
        Ok(self.endpoint.connect_with(self.client.clone(), to.socket, "peer")?.await?)
    }

    async fn close(&mut self, conn: Connection) -> Outcome<()> {
        conn.close(VarInt::from_u32(0), b"");
        Ok(())
    }

    async fn echo(&mut self, conn: &Connection) -> Outcome<()> {
        let (mut send, mut recv) = conn.open_bi().await?;
        send.write_all(&[ECHO, 1]).await?;
        Ok(recv.read_exact(&mut [0]).await?)
    }

    async fn upload(&mut self, conn: &Connection, bytes: u64, writes: Writes) -> Outcome<()> {
        let (mut send, mut recv) = conn.open_bi().await?;
        send.write_all(&[SINK]).await?;
        match writes {
            Writes::Large => {
                let chunk = Bytes::from(vec![0; 64 * 1024]);
                for _ in 0..bytes / chunk.len() as u64 {
                    send.write_chunk(chunk.clone()).await?;
                }
            }
            Writes::Small => {
                let chunk = [0; 1024];
                for _ in 0..bytes / chunk.len() as u64 {
                    send.write_all(&chunk).await?;
                }
            }
        }
        send.finish()?;
        Ok(recv.read_exact(&mut [0]).await?)
    }

    async fn requests(&mut self, conn: &Connection, count: usize, in_flight: usize) -> Outcome<()> {
        let mut message = [0; 1 + MESSAGE];
        message[0] = ASK;
        keep_up(count, in_flight, || async {
            let (mut send, mut recv) = conn.open_bi().await?;
            send.write_all(&message).await?;
            send.finish()?;
            Ok(recv.read_to_end(MESSAGE).await?.len())
        })
        .await
    }

    async fn idle(&mut self, time: Duration) {
        tokio::time::sleep(time).await;
    }
}

async fn answer(mut send: noq::SendStream, mut recv: noq::RecvStream) -> Outcome<()> {
    let mut kind = [0];
    recv.read_exact(&mut kind).await?;
    match kind[0] {
        ECHO => {
            recv.read_exact(&mut kind).await?;
            send.write_all(&kind).await?;
        }
        SINK => {
            while recv.read_chunk(usize::MAX).await?.is_some() {}
            send.write_all(&[1]).await?;
        }
        _ => {
            let message = recv.read_to_end(MESSAGE).await?;
            send.write_chunk(message.into()).await?;
        }
    }
    Ok(send.finish()?)
}

fn configs() -> Outcome<(ServerConfig, ClientConfig)> {
    let mut provider = rustls::crypto::ring::default_provider();
    provider.cipher_suites.retain(|suite| suite.tls13().is_some());
    provider.cipher_suites.sort_by_key(|suite| suite.suite() != CipherSuite::TLS13_AES_128_GCM_SHA256);
    provider.kx_groups.retain(|group| group.name() == rustls::NamedGroup::X25519);
    let algorithms = provider.signature_verification_algorithms;
    let provider: Arc<CryptoProvider> = Arc::new(provider);

    let made = rcgen::generate_simple_self_signed(["peer".to_owned()])?;
    let chain = vec![made.cert.der().clone()];
    let key = || PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let verifier = Arc::new(Signed(algorithms));
    let versions = &[&rustls::version::TLS13];

    let mut tls = rustls::ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(versions)?
        .with_client_cert_verifier(verifier.clone())
        .with_single_cert(chain.clone(), key())?;
    tls.send_tls13_tickets = 0;
    let mut server = ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls)?));
    server.transport_config(transport()?);

    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_auth_cert(chain, key())?;
    tls.resumption = Resumption::disabled();
    tls.enable_sni = false;
    let mut client = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
    client.transport_config(transport()?);
    Ok((server, client))
}

/// As peerwork has it.
fn transport() -> Outcome<Arc<TransportConfig>> {
    let mut transport = TransportConfig::default();
    transport
        .max_idle_timeout(Some(IdleTimeout::try_from(Duration::from_secs(30))?))
        .keep_alive_interval(Some(Duration::from_secs(8)))
        .max_concurrent_bidi_streams(VarInt::from_u32(64))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None)
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW))
        .send_window(SEND_WINDOW)
        .send_observed_address_reports(true)
        .receive_observed_address_reports(true);
    Ok(Arc::new(transport))
}

/// Takes any certificate whose key signed the handshake.
#[derive(Debug)]
struct Signed(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for Signed {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

impl ClientCertVerifier for Signed {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        ServerCertVerifier::verify_tls12_signature(self, message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        ServerCertVerifier::verify_tls13_signature(self, message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}
