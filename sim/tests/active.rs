//! Work follows what happens, not how many peers there are.

use peerwork::{Config, Dial, Event};
use peerwork_sim::{HostId, World, config, millis, secs};

fn quiet() -> Config {
    let mut config = config();
    config.ping.interval = None;
    config.quic.keep_alive = None;
    config.quic.idle_timeout = secs(86_400);
    config.quic.mtu_discovery = false;
    config.quic.initial_streams = 8;
    config
}

/// A hub with so many idle peers, and what a ping to one of them costs the hub.
fn visits_of_one_ping(peers: usize) -> u64 {
    let mut world = World::new(1);
    let hub = world.add_with(quiet());
    let address = world.listen(hub);
    let mut last = None;
    for _ in 0..peers {
        let host: HostId = world.add_with(quiet());
        world.call(host, |node, now| node.dial(now, Dial::address(address.clone()))).unwrap();
        world.run_for(millis(1));
        last = Some(host);
    }
    world.run_for(secs(30));
    assert_eq!(world.node(hub).census().established, peers);
    let client = last.expect("a peer");
    let conn = world.node(client).connections().next().unwrap().conn;
    // Nothing is under way any more: no idle peer wakes the hub.
    let before = world.node(hub).stats();
    world.run_for(secs(60));
    assert_eq!(world.node(hub).stats(), before, "idle peers cost no work");
    world.call(client, |node, now| node.ping(now, conn)).unwrap();
    world.run_for(secs(5));
    assert!(world.saw(client, |event| matches!(event, Event::Ping { result: Ok(_), .. })));
    world.node(hub).stats().visits - before.visits
}

#[test]
fn a_ping_costs_the_same_with_10_and_with_1000_idle_peers() {
    let few = visits_of_one_ping(10);
    assert!(few > 0);
    assert_eq!(visits_of_one_ping(1000), few);
}

/// The same with 10,000, for optimised builds; a debug build takes minutes over its handshakes.
#[cfg(not(debug_assertions))]
#[test]
fn a_ping_costs_the_same_with_10_and_with_10000_idle_peers() {
    assert_eq!(visits_of_one_ping(10_000), visits_of_one_ping(10));
}
