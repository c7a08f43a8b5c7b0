//! What fuzzing needs and nobody else: ids out of thin air, the inner calls of machines, certificates.
//!
//! Behind the feature `fuzzing`. No promise is made about anything here, semver included.

use bytes::Bytes;

use crate::{
    config::{Platform, RequestConfig},
    event::{ConnId, DialId, ListenId, PerfId, RequestId, StreamId},
    identity::{Keypair, PublicKey},
    io::{ResolveId, SocketId},
    node::{Effects, Harness},
    protocol::{
        identify::Identify,
        perf::Perf,
        ping::Ping,
        request::{Request, RequestError},
    },
    protocol_id::ProtocolId,
    transport::{certificate, net::Framing},
};

/// An id that a node may or may not have given out.
pub trait Invented {
    /// The id with this number.
    fn invented(number: u64) -> Self;
}

macro_rules! invented {
    ($($id:ident),*) => {
        $(impl Invented for $id {
            fn invented(number: u64) -> Self {
                Self(number)
            }
        })*
    };
}

invented!(ConnId, StreamId, DialId, ListenId, RequestId, PerfId, ResolveId);

impl Invented for SocketId {
    fn invented(number: u64) -> Self {
        Self(u32::try_from(number).unwrap_or(u32::MAX))
    }
}

/// How many entries a machine holds.
pub trait Held {
    /// The sum over its maps.
    fn held(&self) -> usize;
}

macro_rules! held {
    ($($machine:ty),*) => {
        $(impl Held for $machine {
            fn held(&self) -> usize {
                self.census()
            }
        })*
    };
}

held!(Identify, Ping, Perf, Request);

/// What [`Node::ping`](crate::Node::ping) does to its machine.
pub fn ping(harness: &mut Harness<Ping>, conn: ConnId) -> (bool, Effects) {
    harness.call(|machine, cx| machine.ping(cx, conn))
}

/// What [`Node::perf`](crate::Node::perf) does to its machine.
pub fn perf(harness: &mut Harness<Perf>, conn: ConnId, up: u64, down: u64) -> (PerfId, Effects) {
    harness.call(|machine, cx| machine.start(cx, conn, up, down))
}

/// A call into the request machine, as [`RequestsMut`](crate::RequestsMut) has them.
#[derive(Clone, Debug)]
pub enum RequestCall {
    /// Send a request.
    Send(ConnId, ProtocolId, Bytes),
    /// Answer one.
    Respond(RequestId, Bytes),
    /// Turn one down.
    Refuse(RequestId),
    /// Give one up.
    Cancel(RequestId),
}

/// What [`RequestsMut::register`](crate::RequestsMut::register) does to its machine.
pub fn request_register(harness: &mut Harness<Request>, protocol: ProtocolId, config: RequestConfig) -> Framing {
    harness.call(|machine, _| machine.register(protocol, config)).0
}

/// Makes a call; gives the new request for [`RequestCall::Send`].
pub fn request(
    harness: &mut Harness<Request>,
    call: RequestCall,
) -> (Result<Option<RequestId>, RequestError>, Effects) {
    harness.call(|machine, cx| match call {
        RequestCall::Send(conn, protocol, data) => machine.send(cx, conn, &protocol, data).map(Some),
        RequestCall::Respond(request, data) => machine.respond(cx, request, data).map(|()| None),
        RequestCall::Refuse(request) => machine.refuse(cx, request).map(|()| None),
        RequestCall::Cancel(request) => machine.cancel(cx, request).map(|()| None),
    })
}

/// What [`RequestsMut::take`](crate::RequestsMut::take) does to its machine.
pub fn request_take(harness: &mut Harness<Request>, request: RequestId) -> Option<Bytes> {
    harness.machine.take(request)
}

/// Judges a certificate that a peer presents; `now` is Unix time in seconds.
pub fn certificate_verify(platform: &Platform, certificate: &[u8], now: u64) -> Option<PublicKey> {
    let verified = certificate::verify(certificate, &platform.crypto.signature_verification_algorithms, now).ok()?;
    let read_again = certificate::peer_key(certificate);
    assert_eq!(read_again.as_ref(), Some(&verified), "a certificate is read in two ways");
    Some(verified)
}

/// A certificate as the node makes them.
pub fn certificate_generate(host: &Keypair, seed: [u8; 32], serial: [u8; 8]) -> Vec<u8> {
    certificate::generate(host, seed, serial).certificate.to_vec()
}
