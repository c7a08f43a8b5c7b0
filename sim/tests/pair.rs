//! Two nodes and what may happen between them.

use std::time::Duration;

use peerwork::{AttemptError, CloseReason, Dial, DialFailure, Direction, Event};
use peerwork_sim::{HostId, World, millis, secs};

fn pair(seed: u64) -> (World, HostId, HostId) {
    let mut world = World::new(seed);
    let (a, b) = (world.add(), world.add());
    let address = world.listen(b);
    world.call(a, |node, now| node.dial(now, Dial::address(address))).unwrap();
    (world, a, b)
}

fn connected(world: &World, host: HostId) -> bool {
    world.saw(host, |event| matches!(event, Event::Connected { .. }))
}

#[test]
fn two_nodes_connect_identify_and_ping() {
    let (mut world, a, b) = pair(1);
    assert!(world.run_until(secs(2), |world| connected(world, a) && connected(world, b)));
    // One round trip for the handshake: 20 ms.
    assert_eq!(world.now().as_nanos() / 1_000_000, 30);
    world.run_for(secs(1));
    for (host, other) in [(a, b), (b, a)] {
        let peer = world.node(other).peer_id();
        let direction = if host == a { Direction::Outbound } else { Direction::Inbound };
        assert!(world.saw(host, |event| matches!(event,
            Event::Connected { peer: p, direction: d, .. } if *p == peer && *d == direction)));
        assert!(
            world.saw(host, |event| matches!(event, Event::Identified { info, .. } if info.peer == peer
            && info.agent_version.starts_with("peerwork/"))),
            "{:?}",
            world.events(host)
        );
        assert!(
            world.saw(host, |event| matches!(event, Event::Ping { result: Ok(rtt), .. } if *rtt >= millis(20)
            && *rtt < millis(60))),
            "{:?}",
            world.events(host)
        );
    }
}

#[test]
fn a_wrong_peer_id_fails_with_both_ids_and_no_connection() {
    let mut world = World::new(2);
    let (a, b, c) = (world.add(), world.add(), world.add());
    world.listen(b);
    let (expected, actual) = (world.node(c).peer_id(), world.node(b).peer_id());
    let address = world.node(b).listen_addrs()[0].clone();
    world.call(a, |node, now| node.dial(now, Dial::peer_at(expected, vec![address]))).unwrap();
    world.run_for(secs(1));
    let events = world.take_events(a);
    let Some(Event::DialFailed { error: DialFailure::AllFailed(attempts), .. }) = events.last() else {
        panic!("{events:?}")
    };
    assert_eq!(attempts[0].1, AttemptError::WrongPeer { expected, actual });
    assert!(!connected(&world, b), "{:?}", world.events(b));
    world.run_for(secs(60));
    assert_eq!(world.node(a).census(), peerwork::Census::default());
}

#[test]
fn close_reasons_reach_both_applications() {
    let (mut world, a, b) = pair(3);
    world.run_for(secs(1));
    let conn = world.node(a).connections().next().unwrap().conn;
    world.call(a, |node, now| node.disconnect(now, conn, 42, "enough")).unwrap();
    world.run_for(secs(1));
    assert!(world.saw(a, |event| matches!(event,
        Event::Disconnected { reason: CloseReason::Local { code: 42, reason }, .. } if reason == "enough")));
    assert!(world.saw(b, |event| matches!(event,
        Event::Disconnected { reason: CloseReason::Remote { code: 42, reason }, .. } if reason == "enough")));
}

#[test]
fn after_a_disconnect_nothing_is_left_and_nothing_happens() {
    let (mut world, a, b) = pair(4);
    let before = (world.node(a).census().machines, world.node(b).census().timers);
    assert!(world.run_until(secs(1), |world| connected(world, b)));
    world.run_for(secs(20));
    let conn = world.node(a).connections().next().unwrap().conn;
    world.call(a, |node, now| node.disconnect(now, conn, 0, "")).unwrap();
    world.run_for(secs(60));
    assert_eq!(before, (0, 0));
    for host in [a, b] {
        assert_eq!(world.node(host).census(), peerwork::Census::default());
        assert_eq!(world.node(host).poll_timeout(), None);
    }
    let sent = world.packets();
    assert_eq!(sent.sent, sent.delivered + sent.dropped.values().sum::<u64>() + sent.in_flight);
    let quiet = (world.digest(), world.packets().clone());
    world.run_for(secs(3600));
    assert_eq!((world.digest(), world.packets().clone()), quiet);
}

#[test]
fn a_peer_that_dies_is_noticed_after_the_idle_timeout() {
    let (mut world, a, b) = pair(5);
    world.run_for(secs(1));
    world.kill(b);
    world.run_for(secs(60));
    assert!(
        world.saw(a, |event| matches!(
            event,
            Event::Disconnected { reason: CloseReason::IdleTimeout, remaining: 0, .. }
        ))
    );
    let (at, _) = world.events(a).iter().rfind(|(_, event)| matches!(event, Event::Disconnected { .. })).unwrap();
    let silence = at.since(peerwork::Time::from_secs(1));
    assert!(silence > secs(20) && silence < secs(45), "{silence:?}");
    assert_eq!(world.node(a).census(), peerwork::Census::default());
}

#[test]
fn dialling_nobody_times_out_with_the_address() {
    let mut world = World::new(6);
    let a = world.add();
    let address: peerwork::Multiaddr = "/ip4/10.9.9.9/udp/1/quic-v1".parse().unwrap();
    world.call(a, |node, now| node.dial(now, Dial::address(address.clone()))).unwrap();
    world.run_for(secs(30));
    let events = world.take_events(a);
    let [Event::DialFailed { error: DialFailure::AllFailed(attempts), .. }] = &events[..] else { panic!("{events:?}") };
    assert_eq!(attempts, &[(address, AttemptError::TimedOut)]);
    world.run_for(Duration::from_secs(30));
    assert_eq!(world.node(a).census(), peerwork::Census::default());
}
