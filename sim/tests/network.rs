//! What networks do to connections: moves, restarts, garbage, old versions, shutting down.

use peerwork::{CloseReason, Dial, Event, Input, Time};
use peerwork_sim::{HostId, Link, World, config, millis, secs};

fn pair(seed: u64) -> (World, HostId, HostId) {
    let mut world = World::new(seed);
    let (a, b) = (world.add(), world.add());
    let address = world.listen(b);
    world.call(a, |node, now| node.dial(now, Dial::address(address))).unwrap();
    world.run_for(secs(2));
    assert_eq!(world.node(a).connections().count(), 1);
    (world, a, b)
}

#[test]
fn a_connection_survives_the_rebinding_of_a_nat() {
    let (mut world, a, b) = pair(1);
    world.rebind(a);
    world.run_for(secs(60));
    assert!(world.saw(b, |event| matches!(event, Event::AddressChanged { .. })), "{:?}", world.events(b));
    for host in [a, b] {
        assert!(!world.saw(host, |event| matches!(event, Event::Disconnected { .. })));
        world.take_events(host);
    }
    world.run_for(secs(60));
    for host in [a, b] {
        assert!(world.saw(host, |event| matches!(event, Event::Ping { result: Ok(_), .. })));
    }
    let seen = world.node(b).connections().next().unwrap().address.to_string();
    assert!(seen.contains("/udp/4000"), "{seen}");
}

#[test]
fn a_restarted_peer_resets_the_connections_that_it_has_forgotten() {
    let (mut world, a, b) = pair(2);
    let ip = "10.0.0.2".parse().unwrap();
    world.kill(b);
    let reborn = world.add_reborn(ip, b);
    world.listen(reborn);
    let start = world.now();
    assert!(world.run_until(secs(30), |world| world.saw(a, |event| matches!(event, Event::Disconnected { .. }))));
    assert!(
        world.saw(a, |event| matches!(event, Event::Disconnected { reason: CloseReason::Reset, .. })),
        "{:?}",
        world.events(a)
    );
    assert!(world.now().since(start) < secs(20), "sooner than the idle timeout");
}

#[test]
fn an_unknown_version_is_answered_with_the_versions_spoken() {
    let mut world = World::new(3);
    let b = world.add();
    assert!(world.listen(b).to_string().starts_with("/ip4/10.0.0.1/udp/4001/"));
    let mut packet = vec![0xc0, 0x1a, 0x2a, 0x3a, 0x4a, 8, 1, 2, 3, 4, 5, 6, 7, 8, 8, 8, 7, 6, 5, 4, 3, 2, 1];
    packet.resize(1200, 0);
    world.inject("10.7.7.7:7".parse().unwrap(), "10.0.0.1:4001".parse().unwrap(), &packet);
    world.inject("10.7.7.7:7".parse().unwrap(), "10.0.0.9:4001".parse().unwrap(), &packet);
    world.run_for(secs(1));
    let packets = world.packets();
    assert_eq!((packets.delivered, packets.dropped.values().sum::<u64>()), (1, 2), "the answer went back, to nobody");
}

#[test]
fn garbage_is_dropped_without_a_trace() {
    let (mut world, a, b) = pair(4);
    let census = world.node(b).census();
    let mut noise = peerwork::Rng::from_seed(9);
    for i in 0..2000u64 {
        let mut data = vec![0; 1 + noise.below(1400) as usize];
        noise.fill(&mut data);
        let from = format!("10.7.{}.{}:{}", i % 250, i % 199, 1000 + i % 60_000).parse().unwrap();
        world.inject(from, "10.0.0.2:4001".parse().unwrap(), &data);
        world.run_for(millis(1));
    }
    world.run_for(secs(60));
    let after = world.node(b).census();
    assert_eq!((after.conns, after.streams), (census.conns, census.streams));
    assert!(!world.saw(a, |event| matches!(event, Event::Disconnected { .. })));
    assert!(!world.saw(b, |event| matches!(event, Event::Disconnected { .. } | Event::Fault { .. })));
}

#[test]
fn shutting_down_tells_everybody_and_gives_back_everything() {
    let (mut world, a, b) = pair(5);
    let c = world.add();
    let address = world.address(b);
    world.call(c, |node, now| node.dial(now, Dial::address(address.clone()))).unwrap();
    world.run_for(secs(1));
    let start = world.now();
    world.call(b, |node, now| node.shutdown(now));
    assert!(world.saw(b, |event| matches!(event, Event::ShutDown)));
    assert_eq!(world.now(), start, "the last packets leave at once");
    assert!(world.sockets(b).is_empty());
    world.run_for(millis(20));
    for host in [a, c] {
        assert!(
            world.saw(host, |event| matches!(
                event,
                Event::Disconnected { reason: CloseReason::Remote { code: 0x1006, .. }, .. }
            )),
            "{:?}",
            world.events(host)
        );
    }
    assert!(world.call(b, |node, now| node.dial(now, Dial::address(address.clone()))).is_err());
    world.run_for(secs(60));
    assert_eq!(world.node(b).census(), peerwork::Census::default());
    assert_eq!(world.events(b).iter().filter(|(_, event)| matches!(event, Event::ShutDown)).count(), 1);
}

#[test]
fn a_clock_that_steps_back_stops_time_and_breaks_nothing() {
    let (mut world, a, _) = pair(6);
    world.call(a, |node, _| node.handle(Time::ZERO, Input::Wake));
    assert_eq!(world.node(a).stats().clock_steps_back, 1);
    world.run_for(secs(60));
    assert!(!world.saw(a, |event| matches!(event, Event::Disconnected { .. })));
}

#[test]
fn the_wall_clock_may_jump_in_the_middle_of_a_handshake() {
    for jump in [0, 1, u64::MAX] {
        let mut world = World::new(7);
        let (a, b) = (world.add(), world.add());
        let address = world.listen(b);
        world.call(a, |node, now| node.dial(now, Dial::address(address))).unwrap();
        world.run_for(millis(5));
        for host in [a, b] {
            world.input(host, Input::WallClock(peerwork::UnixTime::from_nanos(jump)));
        }
        world.run_for(secs(20));
        // 1970 is before no certificate of ours; the year 2554 is after none.
        assert!(world.saw(a, |event| matches!(event, Event::Dialed { .. } | Event::DialFailed { .. })));
    }
}

#[test]
fn time_may_leap_to_its_end() {
    let (mut world, a, _) = pair(8);
    world.call(a, |node, _| node.handle(Time::MAX, Input::Wake));
    world.call(a, |node, _| {
        while node.poll_output().is_some() {}
        assert!(node.poll_timeout().is_none_or(|wake| wake.at == Time::MAX));
    });
}

#[test]
fn a_blocked_socket_is_left_alone_until_it_is_ready() {
    let (mut world, a, b) = pair(9);
    world.take_events(a);
    let socket = world.sockets(a)[0];
    world.input(a, Input::SocketBlocked { socket });
    let conn = world.node(a).connections().next().unwrap().conn;
    let sent = world.node(a).stats().transmits;
    world.call(a, |node, now| node.ping(now, conn)).unwrap();
    world.run_for(secs(5));
    assert_eq!(world.node(a).stats().transmits, sent);
    world.input(a, Input::SocketReady { socket });
    assert!(world.node(a).stats().transmits > sent);
    world.run_for(secs(1));
    assert!(world.saw(a, |event| matches!(event, Event::Ping { result: Ok(_), .. })));
    assert!(!world.saw(b, |event| matches!(event, Event::Disconnected { .. })));
}

#[test]
fn a_change_of_protocols_is_pushed_to_connected_peers() {
    let (mut world, a, b) = pair(10);
    world.take_events(a);
    let protocols = ["/x/1", "/y/1"].map(|name| name.parse::<peerwork::ProtocolId>().unwrap());
    for protocol in protocols.clone() {
        world.call(b, |node, now| node.register(now, protocol)).unwrap();
    }
    world.run_for(secs(2));
    let events = world.take_events(a);
    let told: Vec<_> = events.iter().filter(|event| matches!(event, Event::Identified { .. })).collect();
    let [Event::Identified { info, .. }] = told[..] else { panic!("one push for both: {events:?}") };
    assert!(protocols.iter().all(|protocol| info.protocols.contains(protocol)));
}

#[test]
fn forty_nodes_over_rough_links_all_meet_and_come_to_rest() {
    let mut world = World::new(11);
    world.set_link(Link::rough());
    let mut config = config();
    config.ping.interval = None;
    config.quic.keep_alive = None;
    let hosts: Vec<HostId> = (0..40).map(|_| world.add_with(config.clone())).collect();
    let addresses: Vec<_> = hosts.iter().map(|host| world.listen(*host)).collect();
    for (i, host) in hosts.iter().enumerate() {
        for address in addresses.iter().skip(i + 1) {
            world.call(*host, |node, now| node.dial(now, Dial::address(address.clone()))).unwrap();
        }
    }
    world.run_for(secs(20));
    for host in &hosts {
        assert_eq!(world.node(*host).connections().count(), 39);
        assert_eq!(world.node(*host).connections().filter(|conn| conn.identified.is_some()).count(), 39);
    }
    // Without pings and keep-alives they all go to sleep, then the connections die of silence.
    world.run_for(secs(120));
    for host in &hosts {
        assert_eq!(world.node(*host).census(), peerwork::Census::default());
        assert_eq!(world.node(*host).poll_timeout(), None);
    }
}

#[test]
fn a_handshake_under_way_does_not_outlive_the_shutdown() {
    let mut world = World::new(12);
    let (a, b) = (world.add(), world.add());
    let address = world.listen(b);
    world.call(a, |node, now| node.dial(now, Dial::address(address))).unwrap();
    world.run_for(millis(12));
    world.call(b, |node, now| node.shutdown(now));
    world.run_for(secs(60));
    assert!(!world.saw(b, |event| matches!(event, Event::Connected { .. })));
    assert!(world.saw(b, |event| matches!(event, Event::ShutDown)));
    assert_eq!(world.node(b).census(), peerwork::Census::default());
}

#[test]
fn nodes_meet_over_ipv6_and_know_each_other_by_it() {
    let mut world = World::new(13);
    let (a, b) =
        (world.add_at("fd00::1".parse().unwrap(), config()), world.add_at("fd00::2".parse().unwrap(), config()));
    let address = world.listen(b);
    assert!(address.to_string().starts_with("/ip6/fd00::2/udp/4001/quic-v1/p2p/"));
    world.call(a, |node, now| node.dial(now, Dial::address(address))).unwrap();
    world.run_for(secs(2));
    assert!(world.saw(a, |event| matches!(event, Event::Identified { info, .. }
        if info.listen_addrs.iter().any(|address| address.to_string() == "/ip6/fd00::2/udp/4001/quic-v1"))));
    assert!(world.saw(a, |event| matches!(event, Event::ObservedAddress { address, .. }
        if address.to_string().starts_with("/ip6/fd00::1/udp/"))));
    assert!(world.saw(b, |event| matches!(event, Event::Ping { result: Ok(_), .. })));
}
