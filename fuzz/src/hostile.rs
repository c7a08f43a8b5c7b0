//! A node among friends, and a peer that speaks proper QUIC and TLS and says anything on top of them.

use std::time::Duration;

use bytes::Bytes;
use peerwork::{Dial, ProtocolId, StreamId, protocol};

use crate::{
    Source,
    net::{Net, REQUEST, SERVED},
};

const VICTIM: usize = 0;
const FRIEND: usize = 1;
const ENEMY: usize = 2;

/// See the [crate's table](crate).
pub fn node_hostile(data: &[u8]) {
    let mut source = Source::new(data);
    let mut config = peerwork_sim::config();
    config.serve_perf = true;
    let mut net = Net::new(vec![config.clone(), config.clone(), config]);
    net.hosts[ENEMY].hostile = true;
    // The enemy's own machines stay silent; its application answers in their place.
    net.call(ENEMY, peerwork::Node::forget_protocols);
    for protocol in protocols() {
        net.call(ENEMY, |node, now| node.register(now, protocol)).expect("registered");
    }
    for (from, to) in [(FRIEND, VICTIM), if source.coin() { (ENEMY, VICTIM) } else { (VICTIM, ENEMY) }] {
        let address = net.full_address(to);
        let dial = net.call(from, |node, now| node.dial(now, Dial::address(address))).expect("a dial");
        net.hosts[from].dials.insert(dial);
    }
    net.flow(Duration::from_millis(50), 100);
    assert_eq!(net.hosts[VICTIM].conns.len(), 2);
    let before = net.hosts[VICTIM].pings;

    net.budget = 3_000;
    while !source.is_empty() && net.budget > 0 {
        net.budget -= 1;
        step(&mut net, &mut source);
    }
    net.budget = 3_000;
    net.flow(Duration::from_secs(1), 1_000);
    // Time stands still while there are packets; an endless download would not let it pass.
    net.mute(ENEMY);
    friends_still_talk(&mut net, before);
    net.silence();
    net.shut_down();
}

fn protocols() -> [ProtocolId; 7] {
    let [a, b] = SERVED;
    [protocol::identify::IDENTIFY, protocol::identify::PUSH, protocol::ping::PING, protocol::perf::PERF, REQUEST, a, b]
}

fn step(net: &mut Net, source: &mut Source<'_>) {
    let op = source.byte();
    let stream = {
        let known: Vec<StreamId> = net.streams(ENEMY).collect();
        // The latest is the most interesting.
        let back = usize::from(op >> 5) % known.len().max(1);
        known.len().checked_sub(1 + back).map(|at| known[at])
    };
    match op % 32 {
        0..=5 => {
            let steps = source.byte();
            let time = source.span().min(Duration::from_secs(1));
            net.flow(time, steps.into());
        }
        6..=10 => {
            let names = protocols();
            let unknown = ProtocolId::from_static("/unknown");
            let protocol = source.pick(&names).cloned().unwrap_or(unknown.clone());
            let protocol = if source.byte().is_multiple_of(8) { unknown } else { protocol };
            let victim = net.hosts[VICTIM].id;
            let conn = net.hosts[ENEMY].node.connection_to(victim);
            if let Some(stream) = conn.and_then(|conn| net.open(ENEMY, conn, &[protocol])) {
                say(net, stream, source.chunk());
            }
        }
        11..=18 => {
            if let Some(stream) = stream {
                say(net, stream, source.chunk());
            }
        }
        19 => {
            if let Some(stream) = stream {
                let (byte, len) = (source.byte(), usize::from(source.short()));
                say(net, stream, &vec![byte; len]);
            }
        }
        20 | 21 => end(net, stream, |stream| drop(stream.finish())),
        22 => {
            let code = source.short();
            end(net, stream, |stream| stream.reset(code.into()));
        }
        23 => {
            let code = source.short();
            end(net, stream, |stream| stream.stop(code.into()));
        }
        24 => {
            if let Some(stream) = stream {
                net.read(ENEMY, stream, usize::MAX);
            }
        }
        25 => {
            let victim = net.hosts[VICTIM].id;
            if let (true, Some(conn)) = (source.byte().is_multiple_of(8), net.hosts[ENEMY].node.connection_to(victim)) {
                let code = source.short();
                let _ = net.call(ENEMY, |node, now| node.disconnect(now, conn, code.into(), "so there"));
            }
        }
        26 => {
            let address = net.full_address(VICTIM);
            if let Ok(dial) = net.call(ENEMY, |node, now| node.dial(now, Dial::address(address))) {
                net.hosts[ENEMY].dials.insert(dial);
            }
        }
        _ => ask(net, source),
    }
}

fn say(net: &mut Net, stream: StreamId, bytes: &[u8]) {
    net.call(ENEMY, |node, now| node.stream(now, stream).ok().and_then(|mut stream| stream.write(bytes).ok()));
}

fn end(net: &mut Net, stream: Option<StreamId>, how: impl FnOnce(&mut peerwork::StreamMut<'_>)) {
    let Some(stream) = stream else { return };
    net.call(ENEMY, |node, now| {
        if let Ok(mut stream) = node.stream(now, stream) {
            how(&mut stream);
        }
    });
}

/// The victim turns to the enemy, who answers what it likes.
fn ask(net: &mut Net, source: &mut Source<'_>) {
    let enemy = net.hosts[ENEMY].id;
    let Some(conn) = net.hosts[VICTIM].node.connection_to(enemy) else { return };
    match source.below(5) {
        0 => {
            let _ = net.call(VICTIM, |node, now| node.ping(now, conn));
        }
        1 => {
            let (up, down) = (u64::from(source.short()), u64::from(source.short()));
            if let Ok(perf) = net.call(VICTIM, |node, now| node.perf(now, conn, up, down)) {
                net.hosts[VICTIM].perfs.insert(perf);
            }
        }
        2 => {
            let data = Bytes::copy_from_slice(source.chunk());
            if let Ok(request) = net.call(VICTIM, |node, now| node.requests(now).send(conn, &REQUEST, data)) {
                net.hosts[VICTIM].asked.insert(request);
            }
        }
        3 => {
            if let Some(stream) = net.open(VICTIM, conn, &SERVED) {
                net.write(VICTIM, stream, source.byte().into());
            }
        }
        _ => {
            for request in core::mem::take(&mut net.hosts[VICTIM].received) {
                let data = Bytes::copy_from_slice(source.chunk());
                net.call(VICTIM, |node, now| node.requests(now).respond(request, data)).expect("a request that waits");
            }
            for stream in net.streams(VICTIM).collect::<Vec<_>>() {
                net.read(VICTIM, stream, usize::MAX);
            }
        }
    }
}

/// Whatever the enemy did, it did to itself.
fn friends_still_talk(net: &mut Net, pings: u32) {
    let (victim, friend) = (net.hosts[VICTIM].id, net.hosts[FRIEND].id);
    for (host, other) in [(VICTIM, friend), (FRIEND, victim)] {
        assert!(!net.hosts[host].accused.contains(&other), "a friend is accused");
        assert!(net.hosts[host].conns.values().any(|peer| *peer == other), "friends are apart");
    }
    assert!(net.hosts[VICTIM].node.census().streams < 2_000);
    let conn = net.hosts[VICTIM].node.connection_to(friend).expect("connected");
    let stream = net.open(VICTIM, conn, &SERVED[..1]).expect("a stream");
    net.write(VICTIM, stream, 10_000);
    net.complete(VICTIM, stream);
    net.call(VICTIM, |node, now| node.stream(now, stream).map(|mut stream| stream.finish()).is_ok());
    net.call(VICTIM, |node, now| node.ping(now, conn)).expect("connected");
    net.budget = 5_000;
    net.flow(Duration::from_secs(10), 5_000);
    let last = net.streams(FRIEND).last().expect("the stream arrived");
    let mut read = 0;
    loop {
        match net.read(FRIEND, last, usize::MAX) {
            0 => break,
            more => read += more,
        }
    }
    assert_eq!(read, 10_000);
    assert!(net.hosts[VICTIM].pings > pings, "no ping came back");
}
