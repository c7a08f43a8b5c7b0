//! The peers of other makers meet each other. Peerwork has no part in this: what fails here is wrong in the harness, and
//! would otherwise be looked for in peerwork.
#![cfg(unix)]

use peerwork_tests::peers::{
    GoPeer, P2pd, PeerError, QUIC_LOOPBACK, RustPeer, RustPeerProgram, require, target_dir, tools_dir,
};
use std::time::{Duration, Instant};

/// For whatever happens without a peer's being lost.
const SOON: Duration = Duration::from_secs(10);

/// A peer which was killed is missed when QUIC's idle timeout has passed: ten seconds in rust-libp2p, and the shorter
/// one of both sides counts.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);

fn go_peer(seed: u64) -> Option<GoPeer> {
    let p2pd = require(P2pd::fetch())?;
    Some(GoPeer::start(&p2pd, seed, &[QUIC_LOOPBACK], &[]).unwrap())
}

fn rust_peer(seed: u64) -> Option<RustPeer> {
    let program = require(RustPeerProgram::build())?;
    Some(RustPeer::start(&program, seed, &[QUIC_LOOPBACK]).unwrap())
}

/// A go and a rust peer, of which the rust peer has dialled the go peer.
fn connected_pair() -> Option<(GoPeer, RustPeer)> {
    let (go, mut rust) = (go_peer(1)?, rust_peer(1)?);
    rust.dial(&go.addrs()[0]).unwrap();
    go.wait_connected(rust.peer_id(), SOON).unwrap();
    Some((go, rust))
}

#[test]
fn tools_are_kept_in_the_target_folder_of_this_test() {
    assert!(std::env::current_exe().unwrap().starts_with(target_dir()), "{:?}", target_dir());
    assert_eq!(tools_dir(), target_dir().join("tools"));
}

#[test]
fn a_seed_decides_the_identity_and_makers_do_not_share_it() {
    let (Some(first), Some(rust)) = (go_peer(7), rust_peer(7)) else {
        return;
    };
    let (Some(again), Some(other)) = (go_peer(7), go_peer(8)) else {
        return;
    };
    assert_eq!(first.peer_id(), again.peer_id());
    assert_ne!(first.peer_id(), other.peer_id());
    assert_ne!(first.peer_id(), rust.peer_id());
    assert_ne!(first.addrs(), again.addrs(), "each has a port of its own");
}

#[test]
fn go_dials_rust_and_either_can_end_it() {
    let (Some(go), Some(mut rust)) = (go_peer(1), rust_peer(1)) else {
        return;
    };
    let addr = rust.addrs()[0].clone();

    go.connect(rust.peer_id(), &[&addr]).unwrap();
    rust.wait_connected(go.peer_id(), SOON).unwrap();
    assert_eq!(go.list_peers().unwrap()[0].peer, rust.peer_id());
    go.disconnect(rust.peer_id()).unwrap();
    let cause = rust.wait_disconnected(go.peer_id(), SOON).unwrap();
    assert!(cause.is_some(), "the other side closed it");
    assert_eq!(go.list_peers().unwrap(), []);

    go.connect(rust.peer_id(), &[&addr]).unwrap();
    rust.wait_connected(go.peer_id(), SOON).unwrap();
    rust.disconnect(go.peer_id()).unwrap();
    go.wait_disconnected(rust.peer_id(), SOON).unwrap();
}

#[test]
fn both_identify_the_other() {
    let Some((go, mut rust)) = connected_pair() else {
        return;
    };
    let listens = |addrs: &[String], peer: &str| addrs[0].strip_suffix(&format!("/p2p/{peer}")).unwrap().to_owned();
    let go_listens = listens(go.addrs(), go.peer_id());
    let rust_listens = listens(rust.addrs(), rust.peer_id());

    let announced = rust.wait_identified(go.peer_id()).unwrap();
    assert_eq!(announced.agent, "p2pd/0.1");
    assert!(announced.protocols.iter().any(|protocol| protocol == "/ipfs/ping/1.0.0"), "{announced:?}");
    assert_eq!(announced.listen_addrs, [go_listens]);
    // Both makers dial from the port they listen on.
    assert_eq!(announced.observed.as_ref(), Some(&rust_listens));

    let announced = go.identify_remote(rust.peer_id()).unwrap();
    assert!(announced.agent.starts_with("rust-libp2p/"), "{announced:?}");
    for protocol in ["/ipfs/id/1.0.0", "/ipfs/ping/1.0.0", "/echo/1.0.0", "/peerwork-test/rr/1.0.0"] {
        assert!(announced.protocols.iter().any(|other| other == protocol), "{protocol} in {announced:?}");
    }
    assert_eq!(announced.listen_addrs, [rust_listens]);
    assert!(announced.observed.is_some());
}

#[test]
fn both_ping_the_other() {
    let Some((go, mut rust)) = connected_pair() else {
        return;
    };
    assert!(go.ping(rust.peer_id()).unwrap() > Duration::ZERO);
    assert!(rust.ping(go.peer_id()).unwrap() > Duration::ZERO);
}

#[test]
fn rust_echoes_what_go_sends() {
    let Some((go, rust)) = connected_pair() else {
        return;
    };
    assert_eq!(go.echo(rust.peer_id(), b"hello").unwrap(), b"hello");
    // More than the buffers on the way hold together.
    let large: Vec<u8> = (0..16 << 20).map(|index: u32| (index % 251) as u8).collect();
    assert!(go.echo(rust.peer_id(), &large).unwrap() == large);
}

#[test]
fn go_echoes_what_rust_sends_while_the_handler_lives() {
    let Some((go, mut rust)) = connected_pair() else {
        return;
    };
    let handler = go.serve_echo("/echo/1.0.0").unwrap();
    assert_eq!(rust.echo_open(go.peer_id(), "hello, wörld").unwrap(), "hello, wörld");
    drop(handler);
    let refused = rust.echo_open(go.peer_id(), "hello").unwrap_err();
    assert!(matches!(refused, PeerError::Refused { .. }), "{refused}");
}

#[test]
fn go_handlers_learn_who_opened_the_stream() {
    let Some((go, mut rust)) = connected_pair() else {
        return;
    };
    let (sender, receiver) = std::sync::mpsc::channel();
    let _handler =
        go.handle("/echo/1.0.0", move |stream| sender.send((stream.peer, stream.protocol)).unwrap()).unwrap();
    assert!(rust.echo_open(go.peer_id(), "nobody reads this").is_err());
    let opened = receiver.recv_timeout(SOON).unwrap();
    assert_eq!(opened, (rust.peer_id().to_owned(), "/echo/1.0.0".to_owned()));
}

#[test]
fn rust_echoes_and_answers_rust_with_half_closed_streams() {
    let (Some(mut opener), Some(server)) = (rust_peer(1), rust_peer(2)) else {
        return;
    };
    opener.dial(&server.addrs()[0]).unwrap();
    let large = "0123456789".repeat(500_000);
    assert_eq!(opener.echo(server.peer_id(), "hello, wörld").unwrap(), "hello, wörld");
    assert!(opener.echo(server.peer_id(), &large).unwrap() == large);
    assert_eq!(opener.request(server.peer_id(), "abc def").unwrap(), "fed cba");
    assert_eq!(opener.request(server.peer_id(), "").unwrap(), "");
}

#[test]
fn rust_answers_the_framed_request_of_go() {
    use std::io::{Read as _, Write as _};
    let Some((go, rust)) = connected_pair() else {
        return;
    };
    let mut stream = go.open(rust.peer_id(), &["/not/served", "/peerwork-test/rr/1.0.0"]).unwrap();
    assert_eq!(stream.protocol, "/peerwork-test/rr/1.0.0");
    stream.io.write_all(b"\x03abc").unwrap();
    let mut answer = [0; 4];
    stream.io.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"\x03cba");
}

#[test]
fn what_cannot_work_fails_soon_and_says_why() {
    let Some((go, mut rust)) = connected_pair() else {
        return;
    };
    let itself = rust.peer_id().to_owned();
    let refused = [
        go.open(rust.peer_id(), &["/not/served"]).map(drop),
        go.ping(go.peer_id()).map(drop),
        rust.echo(go.peer_id(), "nobody serves this").map(drop),
        rust.disconnect(&itself),
        // The right address with the wrong peer.
        rust.dial(&go.addrs()[0].replace(go.peer_id(), "12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X")),
    ];
    for outcome in refused {
        assert!(matches!(outcome, Err(PeerError::Refused { ref why, .. }) if !why.is_empty()), "{outcome:?}");
    }
    assert!(matches!(rust.dial("/ip4/127.0.0.1/udp/9/quic-v1"), Err(PeerError::BadText { .. })));
    assert!(matches!(go.connect("nobody", &[]), Err(PeerError::BadText { .. })));
}

#[test]
fn a_peer_which_ends_in_order_is_missed_at_once() {
    let Some((mut go, mut rust)) = connected_pair() else {
        return;
    };
    let start = Instant::now();
    go.terminate();
    rust.wait_disconnected(go.peer_id(), SOON).unwrap();
    assert!(start.elapsed() < IDLE_TIMEOUT / 2, "{:?}", start.elapsed());
    assert!(go.list_peers().is_err(), "there is nobody to ask");

    let Some((go, mut rust)) = connected_pair() else {
        return;
    };
    let start = Instant::now();
    rust.quit();
    go.wait_disconnected(rust.peer_id(), SOON).unwrap();
    assert!(start.elapsed() < IDLE_TIMEOUT / 2, "{:?}", start.elapsed());
}

#[test]
fn rust_misses_a_killed_go_after_the_idle_timeout() {
    let Some((mut go, mut rust)) = connected_pair() else {
        return;
    };
    go.kill9();
    let cause = rust.wait_disconnected(go.peer_id(), 2 * IDLE_TIMEOUT).unwrap();
    assert!(cause.as_ref().is_some_and(|cause| cause.contains("timed out")), "{cause:?}");
}

#[test]
fn go_misses_a_killed_rust_after_the_idle_timeout() {
    let Some((go, mut rust)) = connected_pair() else {
        return;
    };
    rust.kill9();
    assert!(matches!(rust.ping(go.peer_id()), Err(PeerError::Gone { .. })));
    let missed = go.wait_disconnected(rust.peer_id(), 2 * IDLE_TIMEOUT).unwrap();
    assert!(missed > IDLE_TIMEOUT / 2, "nothing told go before: {missed:?}");
}
