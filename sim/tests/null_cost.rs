//! What nodes and connections cost on each tier.
//!
//! Heap is asserted; for time, which depends on the machine, run
//! `cargo test --release -p peerwork-sim --test null_cost -- --ignored --nocapture`.

use std::{
    collections::VecDeque,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    num::NonZeroUsize,
    time::{Duration, Instant},
};

use allocation_counter::measure;
use bytes::BytesMut;
use peerwork::{
    BoundSocket, Command, Config, Datagram, Dial, Event, Input, Node, Output, Seed, SocketId, Time, TransmitBuf,
    UnixTime,
};
use peerwork_sim::tier::Tier;

/// Nodes with nothing between them: packets arrive at once, in the order in which they were sent. Node 0 listens.
struct Star {
    nodes: Vec<Node>,
    sockets: Vec<Option<SocketId>>,
    queue: VecDeque<(usize, usize, Vec<u8>)>,
    now: Time,
    connected: usize,
    buffer: Vec<u8>,
}

fn address(of: usize) -> SocketAddr {
    let ip = Ipv4Addr::from(0x0a00_0001 + u32::try_from(of).unwrap());
    SocketAddr::new(IpAddr::V4(ip), 1)
}

fn node(config: Config, seed: u64) -> Node {
    Node::new(config, Box::new(Seed(seed)), Time::ZERO, UnixTime::from_secs(1_800_000_000)).unwrap()
}

fn nodes(tier: Tier, count: usize) -> Vec<Node> {
    let mut config = tier.config();
    config.ping.interval = None;
    (0..count).map(|seed| node(config.clone(), seed as u64)).collect()
}

impl Star {
    fn new(nodes: Vec<Node>) -> Self {
        let count = nodes.len();
        let mut star = Self {
            nodes,
            sockets: vec![None; count],
            queue: VecDeque::with_capacity(65_536),
            now: Time::ZERO,
            connected: 0,
            buffer: Vec::with_capacity(65_536),
        };
        star.nodes[0].listen(Time::ZERO, "/ip4/10.0.0.1/udp/1/quic-v1".parse().unwrap()).unwrap();
        star.drain(0);
        star
    }

    fn dial(&mut self, from: usize) {
        let to = "/ip4/10.0.0.1/udp/1/quic-v1".parse().unwrap();
        self.nodes[from].dial(self.now, Dial::address(to)).unwrap();
        self.drain(from);
    }

    fn drain(&mut self, me: usize) {
        let (node, now) = (&mut self.nodes[me], self.now);
        loop {
            while let Some(output) = node.poll_output() {
                match output {
                    Output::Event(Event::Connected { .. }) => self.connected += 1,
                    Output::Command(Command::UdpBind { socket, .. }) => {
                        self.sockets[me] = Some(socket);
                        let bound = BoundSocket { local: address(me), max_segments: NonZeroUsize::MIN };
                        node.handle(now, Input::Bound { socket, result: Ok(bound) });
                    }
                    _ => {}
                }
            }
            let Some(transmit) = node.poll_transmit(now, &mut TransmitBuf::single(&mut self.buffer)) else { return };
            let to = u32::from_be_bytes(match transmit.to.ip() {
                IpAddr::V4(ip) => ip.octets(),
                IpAddr::V6(_) => unreachable!("all addresses are IPv4"),
            }) - 0x0a00_0001;
            self.queue.push_back((me, to as usize, self.buffer.clone()));
            self.buffer.clear();
        }
    }

    /// Delivers packets until nobody sends any more or `enough` have connected.
    fn deliver(&mut self, enough: usize) {
        while self.connected < enough
            && let Some((from, to, packet)) = self.queue.pop_front()
        {
            let (socket, data) = (self.sockets[to].unwrap(), BytesMut::from(&packet[..]));
            let datagram = Datagram { socket, from: address(from), to_ip: None, ecn: None, segment: None, data };
            self.nodes[to].handle(self.now, Input::Datagram(datagram));
            self.drain(to);
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        for me in 0..self.nodes.len() {
            self.nodes[me].handle(self.now, Input::Wake);
            self.drain(me);
        }
        self.deliver(usize::MAX);
    }
}

/// Heap of a node that has done nothing, and of an idle connection that has been identified (both ends together), in bytes.
fn heap(tier: Tier) -> (u64, u64) {
    const COUNT: u64 = 100;
    let mut kept = Vec::with_capacity(1 + COUNT as usize);
    let built = measure(|| kept.extend(nodes(tier, COUNT as usize + 1)));
    let mut star = Star::new(kept);
    // Sockets are bound and tables allocated before anything counts.
    star.dial(1);
    for _ in 0..10 {
        star.pass(Duration::from_secs(1));
    }
    let joined = measure(|| {
        for client in 2..=COUNT as usize {
            star.dial(client);
            star.deliver(usize::MAX);
        }
        for _ in 0..20 {
            star.pass(Duration::from_secs(1));
        }
    });
    assert_eq!(star.nodes[0].connections().filter(|conn| conn.identified.is_some()).count(), COUNT as usize);
    (built.bytes_current as u64 / COUNT, joined.bytes_current as u64 / (COUNT - 1))
}

#[test]
fn a_null_node_and_its_connections_take_less_memory_than_on_the_wire() {
    let [wire, null] = Tier::ALL.map(heap);
    for (tier, (node, connection)) in Tier::ALL.into_iter().zip([wire, null]) {
        println!(
            "{tier}: {node} bytes of heap a node, and {} in itself; {connection} an idle connection, both ends",
            size_of::<Node>()
        );
    }
    assert!(null.0 * 8 <= wire.0 && null.0 <= 4_000, "{null:?} {wire:?}");
    // Nine tenths of it are QUIC's own, on either tier.
    assert!(null.1 < wire.1 && null.1 <= 125_000, "{null:?} {wire:?}");
}

#[test]
#[ignore = "depends on the machine"]
fn time_to_build_a_node_and_to_shake_hands() {
    const COUNT: usize = 1000;
    for tier in Tier::ALL {
        let mut best = [Duration::MAX; 3];
        for _ in 0..5 {
            let start = Instant::now();
            let built = nodes(tier, COUNT + 1);
            best[0] = best[0].min(start.elapsed());
            let mut star = Star::new(built);
            let mut shaking = Duration::ZERO;
            let start = Instant::now();
            for client in 1..=COUNT {
                let start = Instant::now();
                star.dial(client);
                star.deliver(2 * client);
                shaking += start.elapsed();
                star.deliver(usize::MAX);
                // Time for acknowledgements, or the server would find too many handshakes under way.
                star.now += Duration::from_millis(30);
                star.nodes[0].handle(star.now, Input::Wake);
                star.drain(0);
                star.nodes[client].handle(star.now, Input::Wake);
                star.drain(client);
                star.deliver(usize::MAX);
            }
            best[1] = best[1].min(shaking);
            best[2] = best[2].min(start.elapsed());
            assert_eq!(star.connected, 2 * COUNT);
        }
        let [build, shake, all] = best.map(|time| time / u32::try_from(COUNT).unwrap());
        println!(
            "{tier}: a node {build:?}; a handshake, both sides {shake:?}; with identify and path discovery {all:?}"
        );
    }
}
