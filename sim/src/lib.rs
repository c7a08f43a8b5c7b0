//! A small virtual network that runs production [`Node`]s deterministically.
//!
//! A [`World`] has hosts, each with one node and one IP address, and links between them with latency, jitter, loss,
//! duplication and reordering. It never ticks: it sleeps exactly to the next packet's arrival or the next
//! [`Node::poll_timeout`], so a wake-up that a node forgets to ask for is a test that hangs in virtual time. Everything
//! random comes from the world's seed, and everything that nodes put out goes into a [transcript](World::transcript)
//! hash: two runs of one seed are equal, or something has drawn what it should not.
//!
//! ```
//! use peerwork::{Dial, Event};
//! use peerwork_sim::{World, secs};
//!
//! let mut world = World::new(1);
//! let (a, b) = (world.add(), world.add());
//! let address = world.listen(b);
//! world.call(a, |node, now| node.dial(now, Dial::address(address))).unwrap();
//! assert!(world.run_until(secs(2), |world| world.saw(b, |event| matches!(event, Event::Identified { .. }))));
//! ```
//!
//! Regions, NAT models, faults, churn, shrinking and reports will grow from this seed.

pub mod bench;
pub mod dice;
pub mod net;
pub mod null;
pub mod outcome;
pub mod report;
pub mod tier;
pub mod trace;
pub mod wheel;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    num::NonZeroUsize,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use bytes::BytesMut;
use peerwork::{
    BoundSocket, Command, Config, Datagram, Event, Input, Multiaddr, Node, Output, Platform, Rng, Seed, SocketId, Time,
    Transmit, TransmitBuf, UnixTime, WakeReason,
    io::{Answer, IoError, IoErrorKind, Query, ResolveId},
};
use sha2::{Digest as _, Sha256};

/// That many seconds.
pub const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// That many milliseconds.
pub const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// What nodes in a world compute with. The instant is any instant; nothing depends on it.
pub fn platform() -> Platform {
    static ORIGIN: OnceLock<Instant> = OnceLock::new();
    Platform::new(Arc::new(rustls::crypto::ring::default_provider()), *ORIGIN.get_or_init(Instant::now))
}

/// The default configuration on [`platform`].
pub fn config() -> Config {
    Config::new(platform())
}

/// A host in a world.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct HostId(usize);

/// How packets fare between two hosts.
#[derive(Clone, Debug)]
pub struct Link {
    /// One way.
    pub latency: Duration,
    /// Up to this much is added at random, without changing the order of packets unless `reorder` says so.
    pub jitter: Duration,
    /// Probability of loss, in parts per million.
    pub loss_ppm: u32,
    /// Probability that a packet arrives twice, in parts per million.
    pub duplicate_ppm: u32,
    /// Probability that a packet is held up by twice the latency, in parts per million.
    pub reorder_ppm: u32,
}

impl Default for Link {
    fn default() -> Self {
        Self { latency: millis(10), jitter: Duration::ZERO, loss_ppm: 0, duplicate_ppm: 0, reorder_ppm: 0 }
    }
}

impl Link {
    /// A bad one: 2 % loss, 1 % duplication, 2 % reordering, 20 ms of jitter.
    pub fn rough() -> Self {
        Self { latency: millis(30), jitter: millis(20), loss_ppm: 20_000, duplicate_ppm: 10_000, reorder_ppm: 20_000 }
    }
}

struct Host {
    node: Node,
    seed: u64,
    ip: IpAddr,
    sockets: BTreeMap<SocketId, SocketAddr>,
    next_port: u16,
    /// What the outside sees of a local address, where a NAT makes that differ.
    outside: BTreeMap<SocketAddr, SocketAddr>,
    /// The earliest wake-up that is in the queue for this host.
    wake: Option<Time>,
    events: Vec<(Time, Event)>,
    alive: bool,
}

enum Arrival {
    Packet { to: SocketAddr, from: SocketAddr, data: BytesMut },
    Resolved { host: HostId, id: ResolveId, result: Result<Answer, IoError> },
    Wake { host: HostId },
}

/// What has happened to packets. Every packet sent is in exactly one of the others.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Packets {
    /// Sent by nodes, plus the copies that duplication made.
    pub sent: u64,
    /// Handed to a node.
    pub delivered: u64,
    /// Lost by a link.
    pub lost: u64,
    /// Sent where nobody listens.
    pub nowhere: u64,
    /// Still on their way.
    pub in_flight: u64,
}

/// How the world treats the nodes' interface, to show that it does not matter.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Handling {
    /// Poll outputs only some of the time, and in random order with transmits.
    pub random_drains: bool,
    /// Give nodes wake-ups that they did not ask for.
    pub spurious_wakes: bool,
}

/// Hosts, links, virtual time.
pub struct World {
    now: Time,
    rng: Rng,
    /// For [`Handling`] alone, so that it moves no draw of the network's.
    whims: Rng,
    hosts: Vec<Host>,
    /// The latest host at each address.
    by_ip: BTreeMap<IpAddr, HostId>,
    link: Link,
    links: BTreeMap<(HostId, HostId), Link>,
    /// Latest arrival so far, by direction, for links that keep order.
    latest: BTreeMap<(HostId, HostId), Time>,
    queue: BinaryHeap<Reverse<(Time, u64)>>,
    arrivals: BTreeMap<u64, Arrival>,
    seq: u64,
    names: BTreeMap<String, Answer>,
    transcript: Sha256,
    packets: Packets,
    handling: Handling,
    /// Wake-ups at the present moment, to notice a node that never comes to rest.
    stuck: u32,
}

const WALL: UnixTime = UnixTime::from_secs(1_800_000_000);

impl World {
    /// An empty world. Everything random in it comes from `seed`.
    pub fn new(seed: u64) -> Self {
        Self {
            now: Time::ZERO,
            rng: Rng::from_seed(seed),
            whims: Rng::from_seed(!seed),
            hosts: Vec::new(),
            by_ip: BTreeMap::new(),
            link: Link::default(),
            links: BTreeMap::new(),
            latest: BTreeMap::new(),
            queue: BinaryHeap::new(),
            arrivals: BTreeMap::new(),
            seq: 0,
            names: BTreeMap::new(),
            transcript: Sha256::new(),
            packets: Packets::default(),
            handling: Handling::default(),
            stuck: 0,
        }
    }

    /// All links that are not set one by one.
    pub fn set_link(&mut self, link: Link) {
        self.link = link;
    }

    /// The link from one host to another, in that direction.
    pub fn set_link_between(&mut self, from: HostId, to: HostId, link: Link) {
        self.links.insert((from, to), link);
    }

    /// See [`Handling`].
    pub fn set_handling(&mut self, handling: Handling) {
        self.handling = handling;
    }

    /// What a name resolves to. Names not set do not exist.
    pub fn set_name(&mut self, name: &str, answer: Answer) {
        self.names.insert(name.to_owned(), answer);
    }

    /// A host with the default configuration.
    pub fn add(&mut self) -> HostId {
        self.add_with(config())
    }

    /// A host with this configuration and an address of its own in `10.0.0.0/8`.
    pub fn add_with(&mut self, config: Config) -> HostId {
        let number = u32::try_from(self.hosts.len()).unwrap_or(u32::MAX) + 1;
        let ip = IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + number));
        self.add_at(ip, config)
    }

    /// A host at this address.
    pub fn add_at(&mut self, ip: IpAddr, config: Config) -> HostId {
        let seed = u64::from_le_bytes(self.rng.array());
        self.add_seeded(ip, config, seed)
    }

    /// A killed host's node started anew at the same address, with the same entropy and thus the same keys, as a node
    /// that keeps its identity and its reset key would be.
    pub fn add_reborn(&mut self, ip: IpAddr, dead: HostId) -> HostId {
        let seed = self.hosts[dead.0].seed;
        self.add_seeded(ip, config(), seed)
    }

    /// The `n`-th host.
    pub fn host(&self, n: usize) -> HostId {
        assert!(n < self.hosts.len(), "there are {} hosts", self.hosts.len());
        HostId(n)
    }

    fn add_seeded(&mut self, ip: IpAddr, config: Config, seed: u64) -> HostId {
        let id = HostId(self.hosts.len());
        let wall = WALL + self.now.since(Time::ZERO);
        let mut node = Node::new(config, Box::new(Seed(seed)), self.now, wall).expect("a valid configuration");
        node.handle(self.now, Input::Interfaces(vec![ip]));
        self.hosts.push(Host {
            node,
            seed,
            ip,
            sockets: BTreeMap::new(),
            next_port: 40_000,
            outside: BTreeMap::new(),
            wake: None,
            events: Vec::new(),
            alive: true,
        });
        self.by_ip.insert(ip, id);
        self.settle(id);
        id
    }

    /// Makes a host listen; returns an address to dial, with the peer's id.
    pub fn listen(&mut self, host: HostId) -> Multiaddr {
        let ip = self.hosts[host.0].ip;
        let family = if ip.is_ipv4() { "ip4" } else { "ip6" };
        let address = format!("/{family}/{ip}/udp/4001/quic-v1").parse().expect("a multiaddr");
        self.call(host, |node, now| node.listen(now, address)).expect("a listener");
        self.address(host)
    }

    /// The first address of a host, with the peer's id.
    pub fn address(&self, host: HostId) -> Multiaddr {
        let node = &self.hosts[host.0].node;
        let first = node.listen_addrs().first().cloned().unwrap_or_else(Multiaddr::empty);
        first.with(peerwork::multiaddr::Protocol::P2p(node.peer_id().into()))
    }

    /// The sockets that a host has bound.
    pub fn sockets(&self, host: HostId) -> Vec<SocketId> {
        self.hosts[host.0].sockets.keys().copied().collect()
    }

    /// Now.
    pub fn now(&self) -> Time {
        self.now
    }

    /// A host's node, to look at.
    pub fn node(&self, host: HostId) -> &Node {
        &self.hosts[host.0].node
    }

    /// Calls into a node, then lets what follows happen.
    pub fn call<R>(&mut self, host: HostId, run: impl FnOnce(&mut Node, Time) -> R) -> R {
        let now = self.now;
        let result = run(&mut self.hosts[host.0].node, now);
        self.settle(host);
        result
    }

    /// Gives a node an input, then lets what follows happen.
    pub fn input(&mut self, host: HostId, input: Input) {
        self.call(host, |node, now| node.handle(now, input));
    }

    /// A socket of a host is gone. The node has to be told, with [`Input::SocketFailed`].
    pub fn lose_socket(&mut self, host: HostId, socket: SocketId) {
        self.hosts[host.0].sockets.remove(&socket);
    }

    /// A host dies at this moment, without a word. Packets to it go nowhere.
    pub fn kill(&mut self, host: HostId) {
        self.hosts[host.0].alive = false;
    }

    /// A NAT before this host forgets its mappings: from now on the others see other ports.
    pub fn rebind(&mut self, host: HostId) {
        let host = &mut self.hosts[host.0];
        for local in host.sockets.values() {
            host.next_port += 1;
            host.outside.insert(*local, SocketAddr::new(local.ip(), host.next_port));
        }
    }

    /// Sends a packet from nowhere: garbage, or what an attacker forged.
    pub fn inject(&mut self, from: SocketAddr, to: SocketAddr, data: &[u8]) {
        self.packets.sent += 1;
        self.packets.in_flight += 1;
        self.schedule(self.now, Arrival::Packet { to, from, data: BytesMut::from(data) });
    }

    /// Events that a host's node has told so far, with their times.
    pub fn events(&self, host: HostId) -> &[(Time, Event)] {
        &self.hosts[host.0].events
    }

    /// Takes out the events told so far.
    pub fn take_events(&mut self, host: HostId) -> Vec<Event> {
        self.hosts[host.0].events.drain(..).map(|(_, event)| event).collect()
    }

    /// Whether a host's node told such an event.
    pub fn saw(&self, host: HostId, which: impl Fn(&Event) -> bool) -> bool {
        self.events(host).iter().any(|(_, event)| which(event))
    }

    /// What has become of the packets.
    pub fn packets(&self) -> Packets {
        self.packets
    }

    /// A hash over every output of every node so far: commands, events, and datagrams to the last byte.
    pub fn transcript(&self) -> String {
        self.transcript.clone().finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Lets time pass.
    pub fn run_for(&mut self, time: Duration) {
        self.run_until(time, |_| false);
    }

    /// Lets time pass until a condition holds, but no longer than `limit`. Says whether it came to hold.
    pub fn run_until(&mut self, limit: Duration, mut done: impl FnMut(&Self) -> bool) -> bool {
        let end = self.now + limit;
        loop {
            if done(self) {
                return true;
            }
            let next = self.queue.peek().map(|Reverse((at, _))| *at);
            let Some(at) = next.filter(|at| *at <= end) else {
                self.now = end;
                return false;
            };
            if at > self.now {
                self.stuck = 0;
            }
            self.now = at;
            self.step();
        }
    }

    fn step(&mut self) {
        let Some(Reverse((_, seq))) = self.queue.pop() else { return };
        match self.arrivals.remove(&seq) {
            Some(Arrival::Packet { to, from, data }) => self.deliver(to, from, data),
            Some(Arrival::Resolved { host, id, result }) => self.input(host, Input::Resolved { id, result }),
            Some(Arrival::Wake { host }) => self.wake(host),
            None => {}
        }
    }

    fn wake(&mut self, id: HostId) {
        let host = &mut self.hosts[id.0];
        if !host.alive {
            return;
        }
        // A wake-up that a sooner one has replaced is none: if it were to ask for the next, there would be ever more.
        if host.wake.is_some_and(|at| at <= self.now) {
            host.wake = None;
        } else if !self.handling.spurious_wakes {
            return;
        }
        let due = host.node.poll_timeout().is_some_and(|wake| wake.at <= self.now);
        if due || self.handling.spurious_wakes {
            self.stuck += 1;
            assert!(self.stuck < 100_000, "{id:?} never comes to rest: {:?}", host.node.poll_timeout());
            host.node.handle(self.now, Input::Wake);
        }
        self.settle(id);
    }

    fn deliver(&mut self, to: SocketAddr, from: SocketAddr, data: BytesMut) {
        self.packets.in_flight -= 1;
        let Some((id, socket)) = self.route(to) else {
            self.packets.nowhere += 1;
            return;
        };
        self.packets.delivered += 1;
        let datagram = Datagram { socket, from, to_ip: Some(to.ip()), ecn: None, segment: None, data };
        self.input(id, Input::Datagram(datagram));
    }

    /// Whose socket is seen at this address.
    fn route(&self, to: SocketAddr) -> Option<(HostId, SocketId)> {
        let HostId(at) = *self.by_ip.get(&to.ip())?;
        let host = self.hosts.get(at).filter(|host| host.alive)?;
        let seen = |local: &SocketAddr| host.outside.get(local).copied().unwrap_or(*local);
        let socket = host.sockets.iter().find(|(_, local)| seen(local) == to)?;
        Some((HostId(at), *socket.0))
    }

    fn host_at(&self, address: SocketAddr) -> Option<HostId> {
        self.by_ip.get(&address.ip()).copied()
    }

    fn schedule(&mut self, at: Time, arrival: Arrival) {
        self.seq += 1;
        self.queue.push(Reverse((at.max(self.now), self.seq)));
        self.arrivals.insert(self.seq, arrival);
    }

    fn chance(&mut self, ppm: u32) -> bool {
        // No draw where nothing can happen: a world without loss draws nothing.
        ppm > 0 && self.rng.below(1_000_000) < u64::from(ppm)
    }

    /// Drains a node and asks for its next wake-up.
    fn settle(&mut self, id: HostId) {
        if !self.hosts[id.0].alive {
            return;
        }
        let mut data = Vec::new();
        loop {
            // Any drain may be put off: the node then asks to be called again.
            if self.handling.random_drains && self.whims.below(4) == 0 {
                break;
            }
            let outputs_first = !self.handling.random_drains || self.whims.below(2) == 0;
            if outputs_first && let Some(output) = self.hosts[id.0].node.poll_output() {
                self.on_output(id, output);
                continue;
            }
            data.clear();
            let segments = NonZeroUsize::new(10).unwrap_or(NonZeroUsize::MIN);
            let mut buf = TransmitBuf::new(&mut data, segments);
            if let Some(transmit) = self.hosts[id.0].node.poll_transmit(self.now, &mut buf) {
                self.on_transmit(id, &transmit, &data);
                continue;
            }
            if let Some(output) = self.hosts[id.0].node.poll_output() {
                self.on_output(id, output);
                continue;
            }
            break;
        }
        let host = &mut self.hosts[id.0];
        let Some(wake) = host.node.poll_timeout() else { return };
        assert!(wake.at >= self.now, "a wake-up in the past: {wake:?} at {}", self.now);
        assert!(
            wake.why != WakeReason::Backlog || self.handling.random_drains,
            "everything was drained and the node still has work"
        );
        let sooner = host.wake.is_none_or(|at| wake.at < at || at < self.now);
        if sooner {
            host.wake = Some(wake.at);
            self.schedule(wake.at, Arrival::Wake { host: id });
        }
    }

    fn on_output(&mut self, id: HostId, output: Output) {
        self.transcript.update(format!("{} {} {output:?}\n", self.now.as_nanos(), id.0));
        match output {
            Output::Event(event) => self.hosts[id.0].events.push((self.now, event)),
            Output::Command(Command::UdpBind { socket, address }) => {
                let host = &mut self.hosts[id.0];
                let port = match address.port() {
                    0 => {
                        host.next_port += 1;
                        host.next_port
                    }
                    port => port,
                };
                let local = SocketAddr::new(host.ip, port);
                let family = address.is_ipv4() == host.ip.is_ipv4();
                let free = !host.sockets.values().any(|other| *other == local);
                let result = match (family, free) {
                    (false, _) => Err(IoError::new(IoErrorKind::AddressNotAvailable, "no such address family")),
                    (_, false) => Err(IoError::new(IoErrorKind::AddressInUse, "address in use")),
                    (true, true) => {
                        host.sockets.insert(socket, local);
                        // The node may have asked for the wildcard; then that is what it is bound to.
                        let bound = SocketAddr::new(address.ip(), port);
                        Ok(BoundSocket {
                            local: bound,
                            max_segments: NonZeroUsize::new(10).unwrap_or(NonZeroUsize::MIN),
                        })
                    }
                };
                host.node.handle(self.now, Input::Bound { socket, result });
            }
            Output::Command(Command::UdpClose { socket }) => {
                self.hosts[id.0].sockets.remove(&socket);
            }
            Output::Command(Command::Resolve { id: lookup, query }) => {
                let (Query::Ip(name) | Query::Ip4(name) | Query::Ip6(name) | Query::Txt(name)) = query;
                let missing = || IoError::new(IoErrorKind::NotFound, format!("{name} does not exist"));
                let result = self.names.get(&name).cloned().ok_or_else(missing);
                self.schedule(self.now + millis(20), Arrival::Resolved { host: id, id: lookup, result });
            }
            Output::Command(_) => {}
        }
    }

    fn on_transmit(&mut self, id: HostId, transmit: &Transmit, data: &[u8]) {
        self.transcript.update(format!("{} {} {transmit:?}\n", self.now.as_nanos(), id.0));
        self.transcript.update(data);
        let host = &self.hosts[id.0];
        let Some(local) = host.sockets.get(&transmit.socket).copied() else { return };
        let from = host.outside.get(&local).copied().unwrap_or(local);
        let segment = transmit.segment.map_or(data.len(), NonZeroUsize::get).max(1);
        for packet in data.chunks(segment) {
            self.send(id, from, transmit.to, packet);
        }
    }

    fn send(&mut self, id: HostId, from: SocketAddr, to: SocketAddr, packet: &[u8]) {
        let target = self.host_at(to);
        let link = target.and_then(|target| self.links.get(&(id, target))).unwrap_or(&self.link).clone();
        let copies = if self.chance(link.duplicate_ppm) { 2 } else { 1 };
        for _ in 0..copies {
            self.packets.sent += 1;
            if self.chance(link.loss_ppm) {
                self.packets.lost += 1;
                continue;
            }
            let mut at = self.now + link.latency;
            if !link.jitter.is_zero() {
                let nanos = u64::try_from(link.jitter.as_nanos()).unwrap_or(u64::MAX);
                at += Duration::from_nanos(self.rng.below(nanos));
            }
            if self.chance(link.reorder_ppm) {
                at += link.latency * 2;
            } else if let Some(target) = target {
                let latest = self.latest.entry((id, target)).or_insert(at);
                at = at.max(*latest);
                *latest = at;
            }
            self.packets.in_flight += 1;
            self.schedule(at, Arrival::Packet { to, from, data: BytesMut::from(packet) });
        }
    }
}
