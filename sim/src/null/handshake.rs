//! The handshake: TLS 1.3's flights, with next to nothing in them.
//!
//! | message | sent in | fields |
//! |---|---|---|
//! | client hello | Initial | nonce, transport parameters |
//! | server hello | Initial | nonce |
//! | server flight | Handshake | transport parameters, peer id, proof |
//! | client flight | Handshake | peer id, proof |
//!
//! A message is a type byte, a length of three bytes, its fields and zeros up to the length that TLS takes for the same.
//! A proof is a hash of everything sent before it in both directions, keyed with what both nonces make. Keys for 1-RTT
//! packets follow from everything up to the end of the server's flight.
//!
//! Whatever is not exactly such a message in its place ends the handshake with the alert that TLS has for it.

use core::any::Any;
use std::sync::Arc;

use noq_proto::{
    ConnectionId, Side, TransportError, TransportErrorCode,
    crypto::{ExportKeyingMaterialError, HeaderKey, KeyPair, Keys, PacketKey, Session},
    transport_parameters::TransportParameters,
};
use peerwork::{PeerId, simulation::Answered};

use super::{
    Party,
    keys::{self, Secret},
};

/// Most bytes of a message. Longer ones are refused by their head, before anything is kept.
pub(super) const MAX_MESSAGE: usize = 2048;
const HEAD: usize = 4;
const NONCE: usize = 32;
const PROOF: usize = 16;
/// Longest peer id (an identity multihash of a key of 42 bytes).
const MAX_PEER: usize = 44;

const CLIENT_HELLO: u8 = 1;
const SERVER_HELLO: u8 = 2;
const SERVER_FLIGHT: u8 = 8;
const CLIENT_FLIGHT: u8 = 11;

/// Zeros at the end of each message, which make it as long as what libp2p's TLS sends in its place (rustls, Ed25519).
const CLIENT_HELLO_FILL: usize = 130;
const SERVER_HELLO_FILL: usize = 54;
const SERVER_FLIGHT_FILL: usize = 419;
const CLIENT_FLIGHT_FILL: usize = 373;

/// TLS alerts (RFC 8446 §6).
const UNEXPECTED_MESSAGE: u8 = 10;
const ACCESS_DENIED: u8 = 49;
const DECODE_ERROR: u8 = 50;
const DECRYPT_ERROR: u8 = 51;

fn alert(code: u8, reason: &str) -> TransportError {
    TransportError::new(TransportErrorCode::crypto(code), reason.into())
}

fn malformed() -> TransportError {
    alert(DECODE_ERROR, "malformed handshake message")
}

/// How far a session has come. The client goes through the upper half, the server through the lower.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    SendClientHello,
    AwaitServerHello,
    TakeHandshakeKeys,
    AwaitServerFlight,
    SendClientFlight,

    AwaitClientHello,
    SendServerHello,
    SendServerFlight,
    AwaitClientFlight,

    Done,
}

/// What is forgotten when the handshake is over.
struct Handshake {
    /// Received and not yet a whole message; never longer than [`MAX_MESSAGE`].
    inbox: Vec<u8>,
    /// Our transport parameters.
    params: Vec<u8>,
    nonce: [u8; NONCE],
    expected: Option<PeerId>,
    /// A digest of all messages so far.
    transcript: Secret,
    /// What both nonces make.
    secret: Secret,
}

/// A QUIC session without cryptography.
pub(super) struct NullSession {
    party: Arc<Party>,
    side: Side,
    step: Step,
    handshake: Option<Box<Handshake>>,
    /// The peer's transport parameters, once they are known.
    peer_params: Option<Box<[u8]>>,
    answered: Option<Answered>,
    /// For the next key update.
    next: KeyPair<Secret>,
    exporter: Secret,
}

impl NullSession {
    pub(super) fn client(party: Arc<Party>, expected: Option<PeerId>, params: &TransportParameters) -> Self {
        Self::new(party, Side::Client, Step::SendClientHello, expected, params)
    }

    pub(super) fn server(party: Arc<Party>, params: &TransportParameters) -> Self {
        Self::new(party, Side::Server, Step::AwaitClientHello, None, params)
    }

    fn new(party: Arc<Party>, side: Side, step: Step, expected: Option<PeerId>, params: &TransportParameters) -> Self {
        let mut written = Vec::with_capacity(256);
        params.write(&mut written);
        let nothing = Secret::root("nothing", &[]);
        let handshake = Handshake {
            inbox: Vec::new(),
            params: written,
            nonce: party.nonce(),
            expected,
            transcript: Secret::root("transcript", &[]),
            secret: nothing,
        };
        Self {
            party,
            side,
            step,
            handshake: Some(Box::new(handshake)),
            peer_params: None,
            answered: None,
            next: KeyPair { local: nothing, remote: nothing },
            exporter: nothing,
        }
    }

    /// Takes in one whole message.
    fn receive(&mut self, kind: u8, body: &[u8]) -> Result<(), TransportError> {
        let Some(handshake) = self.handshake.as_deref_mut() else { return Err(out_of_place()) };
        let mut fields = Fields(body);
        let nonce = handshake.nonce;
        match (self.step, kind) {
            (Step::AwaitServerHello, SERVER_HELLO) => {
                let theirs = fields.take(NONCE)?;
                fields.end(SERVER_HELLO_FILL)?;
                handshake.agree(&nonce, theirs);
                self.step = Step::TakeHandshakeKeys;
            }
            (Step::AwaitClientHello, CLIENT_HELLO) => {
                let theirs = fields.take(NONCE)?;
                self.peer_params = Some(fields.long()?.into());
                fields.end(CLIENT_HELLO_FILL)?;
                handshake.agree(theirs, &nonce);
                self.step = Step::SendServerHello;
            }
            (Step::AwaitServerFlight, SERVER_FLIGHT) => {
                self.peer_params = Some(fields.long()?.into());
                let peer = fields.peer()?;
                handshake.check("server", peer, &mut fields)?;
                fields.end(SERVER_FLIGHT_FILL)?;
                let expected = handshake.expected;
                self.answered = Some(Answered { expected, peer });
                if expected.is_some_and(|expected| expected != peer) {
                    return Err(alert(ACCESS_DENIED, "another peer than the one dialled"));
                }
                self.step = Step::SendClientFlight;
            }
            (Step::AwaitClientFlight, CLIENT_FLIGHT) => {
                let peer = fields.peer()?;
                handshake.check("client", peer, &mut fields)?;
                fields.end(CLIENT_FLIGHT_FILL)?;
                self.answered = Some(Answered { expected: None, peer });
                self.step = Step::Done;
            }
            _ => return Err(out_of_place()),
        }
        handshake.absorb(kind, body);
        Ok(())
    }

    /// Whether something more may come in before we have written something.
    fn is_listening(&self) -> bool {
        matches!(
            self.step,
            Step::AwaitClientHello | Step::AwaitServerHello | Step::AwaitServerFlight | Step::AwaitClientFlight
        )
    }

    fn handshake_keys(&self) -> Option<Keys> {
        let handshake = self.handshake.as_deref()?;
        Some(keys::keys(&handshake.secret.directions(self.side)))
    }

    /// The keys that follow from everything up to here.
    fn data_keys(&mut self) -> Option<Keys> {
        let handshake = self.handshake.as_deref()?;
        let secret = handshake.secret.derive("data", &[&handshake.transcript.mac("here", &[])]);
        self.exporter = secret.derive("exporter", &[]);
        let first = secret.directions(self.side);
        self.next = updated(&first);
        Some(keys::keys(&first))
    }
}

fn out_of_place() -> TransportError {
    alert(UNEXPECTED_MESSAGE, "handshake message out of place")
}

fn updated(secrets: &KeyPair<Secret>) -> KeyPair<Secret> {
    let next = |secret: &Secret| secret.derive("update", &[]);
    KeyPair { local: next(&secrets.local), remote: next(&secrets.remote) }
}

impl Handshake {
    /// How long the inbox is to become before it is looked at: a head, or a head and the body that it announces.
    fn wanted(&self) -> Result<usize, TransportError> {
        let [_, a, b, c, ..] = self.inbox[..] else { return Ok(HEAD) };
        let len = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        if (1..=MAX_MESSAGE).contains(&len) {
            Ok(HEAD + len)
        } else {
            Err(alert(DECODE_ERROR, "handshake message empty or too long"))
        }
    }

    fn agree(&mut self, client: &[u8], server: &[u8]) {
        self.secret = Secret::root("nonces", &[client, server].concat());
    }

    fn absorb(&mut self, kind: u8, body: &[u8]) {
        self.transcript = self.transcript.derive("message", &[&[kind], body]);
    }

    /// What shows that a peer took part in this very handshake.
    fn proof(&self, side: &str, peer: PeerId) -> [u8; PROOF] {
        self.secret.mac(side, &[&self.transcript.mac("here", &[]), peer.as_bytes()])
    }

    fn check(&self, side: &str, peer: PeerId, fields: &mut Fields<'_>) -> Result<(), TransportError> {
        if fields.take(PROOF)? == self.proof(side, peer) {
            Ok(())
        } else {
            Err(alert(DECRYPT_ERROR, "the peer's proof is wrong"))
        }
    }

    /// Writes a message and absorbs it.
    fn send(&mut self, out: &mut Vec<u8>, kind: u8, fields: &[&[u8]], fill: usize) {
        let len = fields.iter().map(|field| field.len()).sum::<usize>() + fill;
        debug_assert!(len <= MAX_MESSAGE, "our own messages are short");
        out.reserve(HEAD + len);
        out.push(kind);
        out.extend_from_slice(&(len as u32).to_be_bytes()[1..]);
        let start = out.len();
        for field in fields {
            out.extend_from_slice(field);
        }
        out.resize(start + len, 0);
        self.absorb(kind, &out[start..]);
    }
}

/// The fields of a message that are still to be read.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], TransportError> {
        let (field, rest) = self.0.split_at_checked(len).ok_or_else(malformed)?;
        self.0 = rest;
        Ok(field)
    }

    /// Bytes after their length in two bytes.
    fn long(&mut self) -> Result<&'a [u8], TransportError> {
        let len = self.take(2)?.iter().fold(0, |len, byte| len << 8 | usize::from(*byte));
        self.take(len)
    }

    fn peer(&mut self) -> Result<PeerId, TransportError> {
        let len = self.take(1)?.iter().map(|byte| usize::from(*byte)).sum();
        if len > MAX_PEER {
            return Err(malformed());
        }
        PeerId::from_bytes(self.take(len)?).map_err(|_| malformed())
    }

    fn end(self, fill: usize) -> Result<(), TransportError> {
        if self.0.len() == fill && self.0.iter().all(|byte| *byte == 0) { Ok(()) } else { Err(malformed()) }
    }
}

fn long(field: &[u8]) -> [u8; 2] {
    u16::try_from(field.len()).unwrap_or_default().to_be_bytes()
}

fn short(peer: &PeerId) -> [u8; 1] {
    [u8::try_from(peer.as_bytes().len()).unwrap_or_default()]
}

impl Session for NullSession {
    fn initial_keys(&self, dst_cid: ConnectionId, side: Side) -> Keys {
        keys::initial(dst_cid, side)
    }

    /// There is none: no application protocol is negotiated.
    fn handshake_data(&self) -> Option<Box<dyn Any>> {
        None
    }

    /// An [`Answered`].
    fn peer_identity(&self) -> Option<Box<dyn Any>> {
        self.answered.map(|answered| -> Box<dyn Any> { Box::new(answered) })
    }

    fn early_crypto(&self) -> Option<(Box<dyn HeaderKey>, Box<dyn PacketKey>)> {
        None
    }

    fn early_data_accepted(&self) -> Option<bool> {
        (self.side == Side::Client).then_some(false)
    }

    fn is_handshaking(&self) -> bool {
        self.step != Step::Done
    }

    fn read_handshake(&mut self, mut buf: &[u8]) -> Result<bool, TransportError> {
        while !buf.is_empty() {
            // Keys change after each message, so that nothing may follow in the same packets.
            if !self.is_listening() {
                return Err(out_of_place());
            }
            let Some(handshake) = self.handshake.as_deref_mut() else { return Err(out_of_place()) };
            let more = handshake.wanted()?.saturating_sub(handshake.inbox.len()).min(buf.len());
            let (front, rest) = buf.split_at(more);
            handshake.inbox.extend_from_slice(front);
            buf = rest;
            if handshake.inbox.len() == handshake.wanted()? {
                let message = core::mem::take(&mut handshake.inbox);
                let (head, body) = message.split_at(HEAD);
                self.receive(head[0], body)?;
            }
        }
        Ok(false)
    }

    fn transport_parameters(&self) -> Result<Option<TransportParameters>, TransportError> {
        let Some(mut params) = self.peer_params.as_deref() else { return Ok(None) };
        Ok(Some(TransportParameters::read(self.side, &mut params)?))
    }

    fn write_handshake(&mut self, buf: &mut Vec<u8>) -> Option<Keys> {
        let peer = self.party.peer;
        let handshake = self.handshake.as_deref_mut()?;
        match self.step {
            Step::SendClientHello => {
                let (nonce, params) = (handshake.nonce, core::mem::take(&mut handshake.params));
                handshake.send(buf, CLIENT_HELLO, &[&nonce, &long(&params), &params], CLIENT_HELLO_FILL);
                self.step = Step::AwaitServerHello;
                None
            }
            Step::TakeHandshakeKeys => {
                self.step = Step::AwaitServerFlight;
                self.handshake_keys()
            }
            Step::SendClientFlight => {
                let keys = self.data_keys();
                let handshake = self.handshake.as_deref_mut()?;
                let proof = handshake.proof("client", peer);
                handshake.send(buf, CLIENT_FLIGHT, &[&short(&peer), peer.as_bytes(), &proof], CLIENT_FLIGHT_FILL);
                self.step = Step::Done;
                self.handshake = None;
                keys
            }
            Step::SendServerHello => {
                let nonce = handshake.nonce;
                handshake.send(buf, SERVER_HELLO, &[&nonce], SERVER_HELLO_FILL);
                self.step = Step::SendServerFlight;
                self.handshake_keys()
            }
            Step::SendServerFlight => {
                let params = core::mem::take(&mut handshake.params);
                let proof = handshake.proof("server", peer);
                let fields: [&[u8]; 5] = [&long(&params), &params, &short(&peer), peer.as_bytes(), &proof];
                handshake.send(buf, SERVER_FLIGHT, &fields, SERVER_FLIGHT_FILL);
                self.step = Step::AwaitClientFlight;
                self.data_keys()
            }
            Step::Done => {
                // The server gets here with the client's flight.
                self.handshake = None;
                None
            }
            Step::AwaitServerHello | Step::AwaitServerFlight | Step::AwaitClientHello | Step::AwaitClientFlight => None,
        }
    }

    fn next_1rtt_keys(&mut self) -> Option<KeyPair<Box<dyn PacketKey>>> {
        let keys = keys::packet_keys(&self.next);
        self.next = updated(&self.next);
        Some(keys)
    }

    fn is_valid_retry(&self, orig_dst_cid: ConnectionId, header: &[u8], payload: &[u8]) -> bool {
        payload
            .split_last_chunk::<16>()
            .is_some_and(|(token, tag)| keys::retry_tag(orig_dst_cid, &[header, token]) == *tag)
    }

    fn export_keying_material(
        &self,
        output: &mut [u8],
        label: &[u8],
        context: &[u8],
    ) -> Result<(), ExportKeyingMaterialError> {
        if self.is_handshaking() || output.len() > 4096 {
            return Err(ExportKeyingMaterialError);
        }
        for (number, chunk) in output.chunks_mut(16).enumerate() {
            let block = self.exporter.mac("export", &[label, context, &(number as u64).to_le_bytes()]);
            chunk.copy_from_slice(&block[..chunk.len()]);
        }
        Ok(())
    }
}
