//! peerwork meets real peers of other makers, go-libp2p and rust-libp2p, over QUIC on loopback, dialling and dialled, on each of
//! its drivers.
#![cfg(unix)]

use std::time::{Duration, Instant};

use bytes::Bytes;
use peerwork::{
    AttemptError, CloseReason, Config, ConnId, Dial, Event, Multiaddr, PeerId, ProtocolId, config::RequestConfig,
};
use peerwork_driver::{
    Handle, Subscription,
    suite::{Runtime, within},
};
use peerwork_tests::{
    drivers::{Mio, Smol, Tokio},
    peers::{GoPeer, P2pd, QUIC_LOOPBACK, RustPeer, RustPeerProgram, require},
};

const SOON: Duration = Duration::from_secs(10);

fn echo() -> ProtocolId {
    ProtocolId::from_static("/echo/1.0.0")
}

fn go_peer(seed: u64) -> Option<GoPeer> {
    let p2pd = require(P2pd::fetch())?;
    Some(GoPeer::start(&p2pd, seed, &[QUIC_LOOPBACK], &[]).unwrap())
}

fn rust_peer(seed: u64) -> Option<RustPeer> {
    let program = require(RustPeerProgram::build())?;
    Some(RustPeer::start(&program, seed, &[QUIC_LOOPBACK]).unwrap())
}

/// A node that listens and echoes, with all its events from the start.
struct Node {
    handle: Handle,
    events: Subscription,
    address: String,
}

fn node<R: Runtime>() -> Node {
    node_with::<R>(Config { agent_version: "peerwork-interop/1".into(), ..Config::default() })
}

fn node_with<R: Runtime>(config: Config) -> Node {
    let handle = R::start(config).unwrap();
    let events = handle.events_with_capacity(10_000);
    let address = within(SOON, handle.listen(QUIC_LOOPBACK.parse().unwrap())).unwrap();
    let address = format!("{address}/p2p/{}", handle.peer_id());
    let mut incoming = handle.register(&echo()).unwrap();
    std::thread::spawn(move || {
        // Ends with the node.
        while let Some(mut stream) = within(Duration::from_secs(3600), incoming.accept()) {
            std::thread::spawn(move || {
                while let Ok(Some(data)) = within(SOON, stream.read_chunk()) {
                    if within(SOON, stream.write_chunk(data)).is_err() {
                        return;
                    }
                }
                let _ = stream.finish();
            });
        }
    });
    Node { handle, events, address }
}

impl Node {
    /// The first event that fits, from now on.
    fn wait<T>(&mut self, what: &str, fits: impl Fn(&Event) -> Option<T>) -> T {
        let deadline = Instant::now() + Duration::from_secs(45);
        let mut seen = Vec::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "no {what}; instead: {seen:#?}");
            let event = within(left, self.events.recv()).expect("a live node").expect("no event was lost");
            if let Some(found) = fits(&event) {
                return found;
            }
            seen.push(event);
        }
    }

    fn dial(&self, address: &str) -> ConnId {
        within(SOON, self.handle.dial(address.parse::<Multiaddr>().unwrap())).unwrap().conn
    }

    fn connected(&mut self, peer: &str) -> ConnId {
        let peer: PeerId = peer.parse().unwrap();
        self.wait("connection", |event| match event {
            Event::Connected { conn, peer: p, .. } if *p == peer => Some(*conn),
            _ => None,
        })
    }

    fn identified(&mut self) -> std::sync::Arc<peerwork::protocol::identify::PeerInfo> {
        self.wait("identify", |event| match event {
            Event::Identified { info, .. } => Some(info.clone()),
            _ => None,
        })
    }

    fn pings(&self, conn: ConnId) {
        for _ in 0..3 {
            // rust-libp2p may take its time for a ping (it can lose a wake-up over QUIC).
            let rtt = within(Duration::from_secs(20), self.handle.ping(conn)).unwrap();
            assert!(rtt < Duration::from_secs(15), "{rtt:?}");
        }
    }

    /// Writes, reads the same back, then finishes: p2pd loses what is under way when one side finishes first.
    fn echoes(&self, conn: ConnId, len: usize) {
        let data: Vec<u8> = (0..len).map(|i| ((i * 7) >> 2) as u8).collect();
        let mut stream = within(SOON, self.handle.open_stream(conn, &[echo()])).unwrap();
        let mut back = Vec::new();
        for piece in data.chunks(60_000) {
            within(SOON, stream.write_chunk(Bytes::copy_from_slice(piece))).unwrap();
            while back.len() < data.len()
                && back.len() < piece.len() + (piece.as_ptr() as usize - data.as_ptr() as usize)
            {
                back.extend_from_slice(&within(SOON, stream.read_chunk()).unwrap().expect("not the end"));
            }
        }
        assert!(back == data);
        stream.finish().unwrap();
    }

    fn lost(&mut self, conn: ConnId) -> CloseReason {
        self.wait("loss of the connection", |event| match event {
            Event::Disconnected { conn: c, reason, .. } if *c == conn => Some(reason.clone()),
            _ => None,
        })
    }
}

fn refuses_the_wrong_peer(node: &Node, address: &str) {
    let (address, actual) = address.rsplit_once("/p2p/").unwrap();
    let expected = node_id();
    let dial = Dial::peer_at(expected, vec![address.parse().unwrap()]);
    let error = within(SOON, node.handle.dial(dial)).unwrap_err();
    let actual: PeerId = actual.parse().unwrap();
    assert_eq!(error.attempts()[0].1, AttemptError::WrongPeer { expected, actual }, "{error}");
}

fn node_id() -> PeerId {
    peerwork::Keypair::from_seed([9; 32]).peer_id()
}

fn we_dial_go<R: Runtime>() {
    let Some(go) = go_peer(1) else { return };
    let mut node = node::<R>();
    let conn = node.dial(&go.addrs()[0]);
    let info = node.identified();
    assert!(info.agent_version.contains("go") || !info.agent_version.is_empty(), "{info:?}");
    assert!(info.protocols.iter().any(|protocol| protocol.as_str() == "/ipfs/ping/1.0.0"), "{info:?}");
    assert!(info.signed, "go sends a signed record: {info:?}");
    assert!(info.observed_addr.is_some());
    node.pings(conn);

    // What go heard from us.
    let heard = go.identify_remote(&node.handle.peer_id().to_string()).unwrap();
    assert_eq!(heard.agent, "peerwork-interop/1");
    assert!(heard.signed_record && heard.listen_addrs.iter().any(|address| node.address.starts_with(address.as_str())));
    for protocol in ["/ipfs/id/1.0.0", "/ipfs/id/push/1.0.0", "/ipfs/ping/1.0.0", "/echo/1.0.0"] {
        assert!(heard.protocols.iter().any(|other| other == protocol), "{heard:?}");
    }

    let _served = go.serve_echo("/echo/1.0.0").unwrap();
    node.echoes(conn, 10);
    node.echoes(conn, 300_000);
    refuses_the_wrong_peer(&node, &go.addrs()[0]);

    within(SOON, node.handle.shutdown());
    go.wait_disconnected(&node.handle.peer_id().to_string(), SOON).unwrap();
}

fn go_dials_us<R: Runtime>() {
    let Some(mut go) = go_peer(2) else { return };
    let mut node = node::<R>();
    let us = node.handle.peer_id().to_string();
    go.connect(&us, &[&node.address]).unwrap();
    let conn = node.connected(go.peer_id());
    assert!(node.identified().signed);
    assert!(go.ping(&us).unwrap() < SOON);
    assert_eq!(go.echo(&us, b"from go").unwrap(), b"from go");
    node.pings(conn);

    go.kill9();
    let start = Instant::now();
    assert_eq!(node.lost(conn), CloseReason::IdleTimeout);
    assert!(start.elapsed() < Duration::from_secs(40));
}

fn we_dial_rust<R: Runtime>() {
    let Some(mut rust) = rust_peer(1) else { return };
    let mut node = node::<R>();
    let protocol = ProtocolId::from_static("/peerwork-test/rr/1.0.0");
    node.handle.register_requests(&protocol, RequestConfig::default()).unwrap();
    let address = rust.addrs()[0].clone();
    let conn = node.dial(&address);
    let info = node.identified();
    assert!(info.protocols.iter().any(|protocol| protocol.as_str() == "/ipfs/ping/1.0.0"), "{info:?}");
    node.pings(conn);
    let heard = rust.wait_identified(&node.handle.peer_id().to_string()).unwrap();
    assert_eq!(heard.agent, "peerwork-interop/1");
    node.echoes(conn, 10);
    node.echoes(conn, 300_000);
    let response = within(SOON, node.handle.request(conn, &protocol, Bytes::from_static(b"abc"))).unwrap();
    assert_eq!(&response[..], b"cba");
    refuses_the_wrong_peer(&node, &address);
    within(SOON, node.handle.shutdown());
    rust.wait_disconnected(&node.handle.peer_id().to_string(), SOON).unwrap();
}

fn rust_dials_us<R: Runtime>() {
    let Some(mut rust) = rust_peer(2) else { return };
    let mut node = node::<R>();
    let us = node.handle.peer_id().to_string();
    let protocol = ProtocolId::from_static("/peerwork-test/rr/1.0.0");
    let mut requests = node.handle.serve_requests(&protocol, RequestConfig::default()).unwrap();
    std::thread::spawn(move || {
        while let Some(request) = within(Duration::from_secs(3600), requests.recv()) {
            let mut data = request.data.to_vec();
            data.reverse();
            let _ = request.respond(data.into());
        }
    });
    rust.dial(&node.address).unwrap();
    let conn = node.connected(rust.peer_id());
    assert_eq!(rust.wait_identified(&us).unwrap().agent, "peerwork-interop/1");
    assert!(rust.ping(&us).unwrap() < Duration::from_secs(20));
    assert_eq!(rust.echo(&us, "from rust").unwrap(), "from rust");
    assert_eq!(rust.request(&us, "rust asks").unwrap(), "sksa tsur");
    node.pings(conn);

    rust.kill9();
    assert_eq!(node.lost(conn), CloseReason::IdleTimeout);
}

/// A wrong id in the address that the other maker dials.
#[test]
fn other_makers_refuse_us_under_a_wrong_name() {
    let (Some(go), Some(mut rust)) = (go_peer(3), rust_peer(3)) else { return };
    let node = node::<Tokio>();
    let wrong = node_id().to_string();
    let address = node.address.replace(&node.handle.peer_id().to_string(), &wrong);
    assert!(go.connect(&wrong, &[&address]).is_err());
    assert!(rust.dial(&address).is_err() || rust.wait_connected(&wrong, Duration::from_secs(8)).is_err());
    // rust-libp2p looks at the name after the handshake, so for a moment we are connected, until it hangs up.
    let deadline = Instant::now() + SOON;
    while !node.handle.connections().is_empty() {
        assert!(Instant::now() < deadline, "{:?}", node.handle.connections());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// go closes our connection by its own hand, and we learn of it at once.
#[test]
fn a_connection_that_go_closes_is_lost_at_once() {
    let Some(go) = go_peer(4) else { return };
    let mut node = node::<Smol>();
    let conn = node.dial(&go.addrs()[0]);
    node.identified();
    go.disconnect(&node.handle.peer_id().to_string()).unwrap();
    let reason = node.lost(conn);
    assert!(matches!(reason, CloseReason::Remote { .. }), "{reason:?}");
}

/// Pings at the default rhythm go on past the 30 s after which go ends a ping stream.
#[test]
fn pings_to_go_outlive_its_ping_streams() {
    let Some(go) = go_peer(5) else { return };
    let mut config = Config::default();
    config.ping.interval = Some(Duration::from_secs(4));
    let mut node = node_with::<Mio>(config);
    node.dial(&go.addrs()[0]);
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(36) {
        let result = node.wait("ping", |event| match event {
            Event::Ping { result, .. } => Some(result.clone()),
            _ => None,
        });
        assert!(result.is_ok(), "{result:?}");
    }
}

macro_rules! on_each_driver {
    ($($name:ident)*) => {
        mod tokio { $(#[test] fn $name() { super::$name::<super::Tokio>(); })* }
        mod smol { $(#[test] fn $name() { super::$name::<super::Smol>(); })* }
        mod mio { $(#[test] fn $name() { super::$name::<super::Mio>(); })* }
    };
}

on_each_driver! { we_dial_go go_dials_us we_dial_rust rust_dials_us }
