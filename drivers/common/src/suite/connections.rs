//! Connections: how they come about, how they do not, how they end.

use peerwork::{AttemptError, CloseReason, DialFailure, Direction, Keypair};

use super::*;
use crate::{ConnectError, DriverGone, Lagged, ListenFailure, PingError};

/// Both sides get to know the connection, and each what the other says of itself.
pub fn a_dial_connects_and_both_sides_identify<A: Runtime, B: Runtime>() {
    let mut dialler = config();
    dialler.agent_version = "dialler/1".into();
    let a = A::start(dialler).unwrap();
    let b = B::start(config()).unwrap();
    let (mut a_events, mut b_events) = (a.events(), b.events());
    within(LIMIT, async {
        let address = b.listen(loopback()).await.unwrap();
        assert_eq!(b.listen_addrs(), std::slice::from_ref(&address));
        let conn = a.dial(with_peer(&address, &b)).await.unwrap();
        assert_eq!(a.connection(conn.conn).unwrap().direction, Direction::Outbound);
        assert_eq!(a.connections().len(), 1);
        let identified = |event| match event {
            Event::Identified { info, .. } => Some(info),
            _ => None,
        };
        assert_eq!(event(&mut a_events, identified).await.peer, b.peer_id());
        let info = event(&mut b_events, identified).await;
        assert_eq!((info.peer, &*info.agent_version), (a.peer_id(), "dialler/1"));
        assert_eq!(b.connections()[0].direction, Direction::Inbound);
        a.shutdown().await;
        b.shutdown().await;
    });
}

/// A wildcard address becomes addresses of the machine.
pub fn a_wildcard_listener_has_addresses_to_dial<A: Runtime, B: Runtime>() {
    let (a, b) = (A::start(config()).unwrap(), B::start(config()).unwrap());
    within(LIMIT, async {
        let address = b.listen("/ip4/0.0.0.0/udp/0/quic-v1".parse().unwrap()).await.unwrap();
        assert!(!address.to_string().contains("/0.0.0.0/"), "{address}");
        assert!(b.listen_addrs().contains(&address));
        assert_eq!(a.dial(with_peer(&address, &b)).await.unwrap().peer, b.peer_id());
        a.shutdown().await;
        b.shutdown().await;
    });
}

/// Whoever answers must be who was dialled.
pub fn another_peer_than_expected_is_refused<A: Runtime, B: Runtime>() {
    let (a, b) = (A::start(config()).unwrap(), B::start(config()).unwrap());
    within(LIMIT, async {
        let address = b.listen(loopback()).await.unwrap();
        let other = Keypair::from_seed([7; 32]).peer_id();
        let error = a.dial(format!("{address}/p2p/{other}").parse::<Multiaddr>().unwrap()).await.unwrap_err();
        let [(_, AttemptError::WrongPeer { expected, actual })] = error.attempts() else { panic!("{error}") };
        assert_eq!((*expected, *actual), (other, b.peer_id()));
        assert!(a.connections().is_empty());
        a.shutdown().await;
        b.shutdown().await;
    });
}

/// The error names what was tried.
pub fn a_dial_to_nobody_fails_and_names_the_address<A: Runtime, B: Runtime>() {
    let mut config = config();
    config.dial.attempt_timeout = Duration::from_secs(1);
    let a = A::start(config).unwrap();
    // Bound, so that nobody else answers there, and silent.
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let address = format!("/ip4/127.0.0.1/udp/{port}/quic-v1");
    within(LIMIT, async {
        let error = a.dial(address.parse::<Multiaddr>().unwrap()).await.unwrap_err();
        assert!(error.to_string().contains(&address), "{error}");
        assert!(matches!(error.attempts(), [(_, AttemptError::TimedOut)]), "{error}");
        a.shutdown().await;
    });
}

/// Dropping the future is a way to say that the connection is not wanted any more.
pub fn a_dropped_dial_is_cancelled<A: Runtime, B: Runtime>() {
    let a = A::start(config()).unwrap();
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = format!("/ip4/127.0.0.1/udp/{}/quic-v1", silent.local_addr().unwrap().port());
    let mut events = a.events();
    within(LIMIT, async {
        let mut dial = a.dial(address.parse::<Multiaddr>().unwrap());
        let id = dial.id().unwrap();
        assert!(unless_after(Duration::from_millis(50), &mut dial).await.is_none());
        drop(dial);
        let failed = event(&mut events, |event| match event {
            Event::DialFailed { dial, error } => Some((dial, error)),
            _ => None,
        });
        assert_eq!(failed.await, (id, DialFailure::Cancelled));
        a.shutdown().await;
    });
}

/// Also several times at once.
pub fn a_peer_can_be_pinged<A: Runtime, B: Runtime>() {
    let pair = Pair::new::<A, B>();
    within(LIMIT, async {
        let pings = all((0..3).map(|_| pair.a.ping(pair.conn.conn))).await;
        assert!(pings.iter().all(|ping| ping.as_ref().is_ok_and(|rtt| *rtt < LIMIT)), "{pings:?}");
        let missing = pair.conn.conn;
        pair.a.disconnect(missing, 0, "done").unwrap();
        assert!(matches!(pair.a.ping(missing).await, Err(PingError::Refused(_) | PingError::Failed(_))));
    });
}

/// A subscriber that does not look loses the oldest events and nothing else.
pub fn a_slow_subscriber_lags<A: Runtime, B: Runtime>() {
    let pair = Pair::new::<A, B>();
    let mut slow = pair.a.events_with_capacity(2);
    within(LIMIT, async {
        for _ in 0..5 {
            pair.a.ping(pair.conn.conn).await.unwrap();
        }
        let Some(Err(Lagged(lost))) = slow.recv().await else { panic!() };
        assert!(lost >= 3);
        assert!(slow.recv().await.unwrap().is_ok());
    });
}

/// The peer is told, and both futures of a shutdown end.
pub fn a_shutdown_is_seen_as_such_by_the_peer<A: Runtime, B: Runtime>() {
    let mut pair = Pair::new::<A, B>();
    within(LIMIT, async {
        all([pair.a.shutdown(), pair.a.shutdown()]).await;
        assert!(pair.a.has_ended());
        pair.a.shutdown().await;
        let reason = event(&mut pair.events, |event| match event {
            Event::Disconnected { reason, .. } => Some(reason),
            _ => None,
        });
        let reason = reason.await;
        let code = u64::from(peerwork::fault::code::SHUTDOWN);
        assert!(matches!(&reason, CloseReason::Remote { code: seen, .. } if *seen == code), "{reason}");
    });
}

/// Nobody has to call anything for a node to end properly.
pub fn the_last_handle_ends_the_node<A: Runtime, B: Runtime>() {
    let mut pair = Pair::new::<A, B>();
    // A node of its own, for all of its handles to be dropped.
    let c = A::start(config()).unwrap();
    within(LIMIT, async {
        let peer = c.peer_id();
        c.dial(with_peer(&pair.address, &pair.b)).await.unwrap();
        let second = c.clone();
        drop(c);
        assert!(!second.has_ended());
        drop(second);
        event(&mut pair.events, |event| match event {
            Event::Disconnected { peer: gone, reason: CloseReason::Remote { .. }, .. } if gone == peer => Some(()),
            _ => None,
        })
        .await;
    });
}

/// A peer that vanishes without a word is found out by its silence.
pub fn a_peer_that_vanishes_is_noticed_after_the_idle_timeout<A: Runtime, B: Runtime>() {
    let mut short = config();
    short.quic.idle_timeout = Duration::from_secs(2);
    short.quic.keep_alive = Some(Duration::from_millis(500));
    let mut pair = Pair::with::<A, B>(short.clone(), short);
    kill(&pair.a);
    within(LIMIT, async {
        let reason = event(&mut pair.events, |event| match event {
            Event::Disconnected { reason, .. } => Some(reason),
            _ => None,
        });
        assert_eq!(reason.await, CloseReason::IdleTimeout);
    });
}

/// Ends a node's driver as a crash would: a panic under the lock.
fn kill(node: &Handle) {
    let node = node.clone();
    // On a thread, so that its message does not look like one of the test's.
    let crash = std::thread::Builder::new().name("crash on purpose".into());
    let thread = crash.spawn(move || node.with(|_, _| panic!("this panic is part of a test"))).unwrap();
    assert!(thread.join().is_err());
}

/// When the driver is gone, everything that waits ends with an error.
pub fn nothing_waits_for_a_node_that_is_gone<A: Runtime, B: Runtime>() {
    let mut pair = Pair::new::<A, B>();
    within(LIMIT, async {
        let (mut stream, _other) = pair.stream("/gone/1").await;
        let mut incoming = pair.a.register(&protocol("/gone/2")).unwrap();
        let mut events = pair.a.events();
        let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = format!("/ip4/127.0.0.1/udp/{}/quic-v1", silent.local_addr().unwrap().port());
        let dial = pair.a.dial(address.parse::<Multiaddr>().unwrap());
        kill(&pair.a);
        assert_eq!(dial.await, Err(ConnectError::Gone(DriverGone)));
        assert!(stream.read_chunk().await.is_err());
        assert!(incoming.accept().await.is_none());
        while events.recv().await.is_some() {}
        pair.a.shutdown().await;
        assert!(matches!(pair.a.dial(loopback()).await, Err(ConnectError::Gone(_))));
        // The other node is none the worse for it.
        let mut ended = unless_after(Duration::from_millis(10), pair.events.recv()).await;
        while let Some(Some(_)) = ended {
            ended = unless_after(Duration::from_millis(10), pair.events.recv()).await;
        }
        assert!(ended.is_none() && !pair.b.has_ended());
    });
}

/// The operating system's reason arrives where it is asked for.
pub fn an_address_in_use_is_an_error_with_its_reason<A: Runtime, B: Runtime>() {
    let a = A::start(config()).unwrap();
    let taken = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = format!("/ip4/127.0.0.1/udp/{}/quic-v1", taken.local_addr().unwrap().port());
    within(LIMIT, async {
        let error = a.listen(address.parse().unwrap()).await.unwrap_err();
        let ListenFailure::Failed(error) = error else { panic!("{error}") };
        assert_eq!(error.kind, peerwork::io::IoErrorKind::AddressInUse);
        a.shutdown().await;
    });
}
