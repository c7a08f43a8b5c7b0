//! Dials: races, duplicates, names, limits, cancelling.

use std::net::IpAddr;

use peerwork::{
    AttemptError, CloseReason, Config, Dial, DialError, DialFailure, Event, Multiaddr, Time,
    io::{Answer, IoErrorKind},
};
use peerwork_sim::{HostId, Link, World, config, millis, secs};

fn dial(world: &mut World, from: HostId, address: &str) {
    let address: Multiaddr = address.parse().unwrap();
    world.call(from, |node, now| node.dial(now, Dial::address(address))).unwrap();
}

fn dial_result(world: &World, host: HostId) -> Result<Time, Vec<AttemptError>> {
    let mut results = world.events(host).iter().filter_map(|(at, event)| match event {
        Event::Dialed { .. } => Some(Ok(*at)),
        Event::DialFailed { error: DialFailure::AllFailed(attempts), .. } => {
            Some(Err(attempts.iter().map(|(_, error)| error.clone()).collect()))
        }
        _ => None,
    });
    let first = results.next().expect("the dial has ended");
    assert!(results.next().is_none(), "a dial ends once");
    first
}

#[test]
fn simultaneous_dials_settle_on_the_same_connection_at_both_ends() {
    for seed in 0..20 {
        let mut world = World::new(seed);
        let (a, b) = (world.add(), world.add());
        let (to_a, to_b) = (world.listen(a), world.listen(b));
        world.call(a, |node, now| node.dial(now, Dial::address(to_b))).unwrap();
        // The seeds spread the second dial over the first one's handshake.
        world.run_for(millis(seed * 2));
        world.call(b, |node, now| node.dial(now, Dial::address(to_a))).unwrap();
        world.run_for(secs(10));
        let direction = |host| {
            let conns: Vec<_> = world.node(host).connections().collect();
            assert_eq!(conns.len(), 1, "seed {seed}: {conns:?}");
            conns[0].direction
        };
        assert_ne!(direction(a), direction(b), "seed {seed}: both ends keep the same connection");
        for host in [a, b] {
            dial_result(&world, host).unwrap();
            // Nobody but the manager ends a duplicate.
            for (_, event) in world.events(host) {
                if let Event::Disconnected { reason, remaining, .. } = event {
                    assert_eq!((reason, *remaining), (&CloseReason::Superseded, 1), "seed {seed}");
                }
            }
        }
    }
}

#[test]
fn a_duplicate_that_carries_streams_lives_until_they_end() {
    let protocol: peerwork::ProtocolId = "/held/1".parse().unwrap();
    for seed in 0..10 {
        let mut world = World::new(seed);
        let (a, b) = (world.add(), world.add());
        let (to_a, to_b) = (world.listen(a), world.listen(b));
        for host in [a, b] {
            world.call(host, |node, now| node.register(now, protocol.clone())).unwrap();
        }
        world.call(a, |node, now| node.dial(now, Dial::address(to_b))).unwrap();
        world.call(b, |node, now| node.dial(now, Dial::address(to_a))).unwrap();
        world.run_for(millis(35));
        let conns: Vec<_> = world.node(a).connections().collect();
        if conns.len() < 2 {
            continue;
        }
        // A stream on each: the one on the survivor and the one opened while the loser lingers both go to the survivor.
        let id =
            world.call(a, |node, now| node.open_stream(now, conns[1].conn, std::slice::from_ref(&protocol))).unwrap();
        world.call(a, |node, now| node.stream(now, id).unwrap().write(b"kept").map(drop)).unwrap();
        world.run_for(secs(30));
        assert!(!world.saw(a, |event| matches!(event, Event::StreamFailed { .. })), "seed {seed}");
        assert_eq!(world.node(a).connections().count(), 1, "seed {seed}");
    }
}

#[test]
fn dialling_a_connected_peer_gives_the_connection_that_is_there() {
    let mut world = World::new(1);
    let (a, b) = (world.add(), world.add());
    let address = world.listen(b);
    dial(&mut world, a, &address.to_string());
    world.run_for(secs(1));
    let sent = world.packets().sent;
    let peer = world.node(b).peer_id();
    world.take_events(a);
    world.call(a, |node, now| node.dial(now, Dial::peer(peer))).unwrap();
    dial_result(&world, a).unwrap();
    assert_eq!(world.packets().sent, sent);
}

#[test]
fn a_peer_is_dialled_again_at_the_address_that_it_told() {
    let mut world = World::new(2);
    let (a, b) = (world.add(), world.add());
    let (to_a, peer) = (world.listen(a), world.node(b).peer_id());
    world.listen(b);
    // b dials, so a learns b's address from identify alone.
    dial(&mut world, b, &to_a.to_string());
    world.run_for(secs(1));
    let conn = world.node(b).connections().next().unwrap().conn;
    world.call(b, |node, now| node.disconnect(now, conn, 0, "")).unwrap();
    world.run_for(secs(10));
    world.take_events(a);
    world.call(a, |node, now| node.dial(now, Dial::peer(peer))).unwrap();
    world.run_for(secs(1));
    dial_result(&world, a).unwrap();
}

#[test]
fn misuse_is_refused_and_changes_nothing() {
    let mut world = World::new(3);
    let (a, b) = (world.add(), world.add());
    let own = world.listen(a);
    let (own_id, other) = (world.node(a).peer_id(), world.node(b).peer_id());
    let before = world.node(a).census();
    let mut refused = |dial: Dial| world.call(a, |node, now| node.dial(now, dial)).unwrap_err();
    assert_eq!(refused(Dial::peer(other)), DialError::NoAddresses(other));
    assert_eq!(refused(Dial::peer(own_id)), DialError::SelfDial(own_id));
    assert_eq!(refused(Dial::address(own.clone())), DialError::SelfDial(own_id));
    assert_eq!(refused(Dial { peer: None, addresses: vec![] }), DialError::Empty);
    let many = Dial::peer_at(other, vec![own; 65]);
    assert_eq!(refused(many), DialError::TooManyAddresses(65));
    assert_eq!(world.node(a).census(), before);
}

#[test]
fn a_dial_to_oneself_without_an_id_is_noticed_in_the_handshake() {
    let mut world = World::new(4);
    let a = world.add();
    world.listen(a);
    dial(&mut world, a, "/ip4/10.0.0.1/udp/4001/quic-v1");
    world.run_for(secs(5));
    assert_eq!(dial_result(&world, a), Err(vec![AttemptError::SelfDial]));
    world.run_for(secs(30));
    assert_eq!(world.node(a).census(), peerwork::Census::default());
}

#[test]
fn addresses_that_cannot_be_dialled_fail_each_with_its_reason() {
    let mut world = World::new(5);
    let a = world.add();
    for (address, words) in [
        ("/ip4/1.2.3.4/tcp/1", "tcp"),
        ("/ip4/1.2.3.4/udp/1/quic", "quic-v1"),
        ("/ip4/1.2.3.4/udp/0/quic-v1", "port"),
        ("/ip4/0.0.0.0/udp/1/quic-v1", "unicast"),
        ("/ip6/::1/udp/9/quic-v1", "socket"),
    ] {
        dial(&mut world, a, address);
        world.run_for(secs(1));
        let errors = dial_result(&world, a).unwrap_err();
        let text = errors[0].to_string().to_lowercase();
        assert!(text.contains(words), "{address}: {text}");
        world.take_events(a);
    }
}

#[test]
fn a_dead_first_address_costs_the_stagger_and_no_more() {
    let mut world = World::new(6);
    let (a, b) = (world.add(), world.add());
    let alive = world.listen(b);
    let peer = world.node(b).peer_id();
    let dead: Multiaddr = "/ip4/10.9.9.9/udp/1/quic-v1".parse().unwrap();
    let dead2: Multiaddr = "/ip4/10.9.9.8/udp/1/quic-v1".parse().unwrap();
    world.call(a, |node, now| node.dial(now, Dial::peer_at(peer, vec![dead, dead2, alive]))).unwrap();
    world.run_for(secs(5));
    // Two head starts of 250 ms, one round trip of 20 ms.
    assert_eq!(dial_result(&world, a), Ok(Time::from_millis(520)));
    world.run_for(secs(30));
    assert_eq!(world.node(a).census().dials, 0);
    assert_eq!(world.node(a).census().conns, 1, "the attempts that lost are gone");
}

#[test]
fn a_cancelled_dial_ends_at_once_and_leaves_nothing() {
    let mut world = World::new(7);
    let a = world.add();
    let nobody: Multiaddr = "/ip4/10.9.9.9/udp/1/quic-v1".parse().unwrap();
    let id = world.call(a, |node, now| node.dial(now, Dial::address(nobody))).unwrap();
    world.run_for(millis(100));
    world.call(a, |node, now| node.cancel_dial(now, id)).unwrap();
    assert!(world.saw(a, |event| matches!(event, Event::DialFailed { error: DialFailure::Cancelled, .. })));
    assert!(world.call(a, |node, now| node.cancel_dial(now, id)).is_err());
    world.run_for(secs(30));
    assert_eq!(world.node(a).census(), peerwork::Census::default());
}

#[test]
fn names_are_resolved_and_dnsaddr_leads_to_the_expected_peer() {
    let mut world = World::new(8);
    let (a, b, c) = (world.add(), world.add(), world.add());
    let (to_b, to_c) = (world.listen(b), world.listen(c));
    let peer = world.node(c).peer_id();
    let ip: IpAddr = "10.0.0.2".parse().unwrap();
    world.set_name("b.example", Answer::Ips(vec!["fd00::1".parse().unwrap(), ip]));
    world.set_name(
        "_dnsaddr.net.example",
        Answer::Txt(vec![
            "other=1".into(),
            format!("dnsaddr={to_b}"),
            format!("dnsaddr=/dnsaddr/deep.example/p2p/{peer}"),
            "dnsaddr=garbage".into(),
        ]),
    );
    world.set_name("_dnsaddr.deep.example", Answer::Txt(vec![format!("dnsaddr={to_c}")]));
    dial(&mut world, a, "/dns4/b.example/udp/4001/quic-v1");
    world.run_for(secs(2));
    dial_result(&world, a).unwrap();
    world.take_events(a);
    dial(&mut world, a, &format!("/dnsaddr/net.example/p2p/{peer}"));
    world.run_for(secs(2));
    dial_result(&world, a).unwrap();
    assert!(world.node(a).connection_to(peer).is_some());
    world.take_events(a);
    dial(&mut world, a, "/dns/missing.example/udp/1/quic-v1");
    world.run_for(secs(2));
    let errors = dial_result(&world, a).unwrap_err();
    assert!(matches!(&errors[..], [AttemptError::Resolve(error)] if error.kind == IoErrorKind::NotFound), "{errors:?}");
    assert_eq!(world.node(a).census().lookups, 0);
}

#[test]
fn dnsaddr_records_that_lead_in_circles_end() {
    let mut world = World::new(9);
    let a = world.add();
    world.set_name("_dnsaddr.loop.example", Answer::Txt(vec!["dnsaddr=/dnsaddr/loop.example".into(); 16]));
    dial(&mut world, a, "/dnsaddr/loop.example");
    world.run_for(secs(20));
    assert!(dial_result(&world, a).is_err());
    assert_eq!(world.node(a).census(), peerwork::Census::default());
}

fn limited(change: impl FnOnce(&mut Config)) -> Config {
    let mut config = config();
    change(&mut config);
    config
}

#[test]
fn limits_turn_newcomers_away_and_end_nothing_that_exists() {
    let mut world = World::new(10);
    let server = world.add_with(limited(|config| config.limits.established_in = 3));
    let address = world.listen(server).to_string();
    let clients: Vec<HostId> = (0..6).map(|_| world.add()).collect();
    for client in &clients {
        dial(&mut world, *client, &address);
        world.run_for(secs(1));
    }
    world.run_for(secs(5));
    assert_eq!(world.node(server).census().established, 3);
    for (i, client) in clients.iter().enumerate() {
        assert_eq!(dial_result(&world, *client).is_ok(), i < 3, "client {i}");
    }
    assert_eq!(world.node(server).stats().refused, 3);
}

#[test]
fn under_load_newcomers_prove_their_address_first() {
    let mut world = World::new(11);
    let server = world.add_with(limited(|config| config.quic.retry_above = 2));
    let address = world.listen(server).to_string();
    let clients: Vec<HostId> = (0..10).map(|_| world.add()).collect();
    for client in &clients {
        dial(&mut world, *client, &address);
    }
    world.run_for(secs(3));
    for client in &clients {
        dial_result(&world, *client).unwrap();
    }
    assert!(world.node(server).stats().retried >= 6, "{:?}", world.node(server).stats());
    assert_eq!(world.node(server).census().established, 10);
}

#[test]
fn too_many_dials_at_once_are_refused_with_a_reason() {
    let mut world = World::new(12);
    let a = world.add_with(limited(|config| config.limits.pending_out = 2));
    for _ in 0..2 {
        dial(&mut world, a, "/ip4/10.9.9.9/udp/1/quic-v1");
    }
    let third: Multiaddr = "/ip4/10.9.9.9/udp/1/quic-v1".parse().unwrap();
    assert_eq!(world.call(a, |node, now| node.dial(now, Dial::address(third))), Err(DialError::Busy));
}

#[test]
fn dials_succeed_over_rough_links() {
    for seed in 0..10 {
        let mut world = World::new(seed);
        world.set_link(Link { loss_ppm: 100_000, ..Link::rough() });
        let (a, b) = (world.add(), world.add());
        let address = world.listen(b).to_string();
        dial(&mut world, a, &address);
        world.run_for(secs(20));
        dial_result(&world, a).unwrap();
    }
}

#[test]
fn an_unreachable_network_fails_the_dial_at_once() {
    let mut world = World::new(13);
    let a = world.add();
    dial(&mut world, a, "/ip4/10.9.9.9/udp/7/quic-v1");
    let socket = world.sockets(a)[0];
    let error = peerwork::io::IoError::new(IoErrorKind::Unreachable, "no route to host");
    let to = "10.9.9.9:7".parse().unwrap();
    world.input(a, peerwork::Input::SendFailed { socket, to, error: error.clone() });
    assert_eq!(dial_result(&world, a), Err(vec![AttemptError::Unreachable { to, error }]));
}
