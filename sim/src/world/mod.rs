//! A virtual network that runs production [`Node`]s deterministically.
//!
//! A [`World`] has hosts, each with one node and its place in a [`Network`]. It never ticks: it sleeps exactly to the next packet's
//! arrival or the next [`Node::poll_timeout`], so a wake-up that a node forgets to ask for is a test that hangs in virtual
//! time. Everything random is a named draw of the world's [`Dice`], and everything that nodes put out goes into a
//! [digest](World::digest): two runs of one seed are equal, or something has drawn what it should not.
//!
//! What the interface of a node promises is checked all the time ([`Violation`]s): no wake-up in the past, no drain without end,
//! silence before the promised wake-up, at most three times the bytes towards an address not validated, packets conserved. A world
//! made by hand panics when a promise is broken; [`World::collect_violations`] makes it keep them instead.

mod amplification;
mod disk;
mod host;
mod transit;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use peerwork::{
    Config, Event, Input, Multiaddr, Node, SocketId, Time, UnixTime,
    io::{Answer, IoError, ResolveId},
};

pub use self::{disk::Disk, host::Conduct};
use self::{host::Host, transit::Parcel};
use crate::{
    dice::{Dice, Domain},
    net::{
        link::{Access, LaneModel, Loss},
        nat::{Kind, NatError, NatModel},
        network::{Block, BoxId, Network, RealmId, SiteId},
        region::Region,
    },
    outcome::{PacketCounts, Violation},
    trace::Tap,
    wheel::{EventKey, Wheel},
};

/// A host in a world.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct HostId(pub(crate) u32);

impl HostId {
    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

/// How packets fare between two hosts of a world made by hand.
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
        Self { latency: crate::millis(10), jitter: Duration::ZERO, loss_ppm: 0, duplicate_ppm: 0, reorder_ppm: 0 }
    }
}

impl Link {
    /// A bad one: 2 % loss, 1 % duplication, 2 % reordering, 20 ms of jitter.
    pub fn rough() -> Self {
        Self {
            latency: crate::millis(30),
            jitter: crate::millis(20),
            loss_ppm: 20_000,
            duplicate_ppm: 10_000,
            reorder_ppm: 20_000,
        }
    }

    fn model(&self) -> LaneModel {
        let mut model = LaneModel { delay: self.latency, ..LaneModel::default() };
        model.path.jitter = self.jitter;
        model.path.loss = Loss::independent(self.loss_ppm);
        model.path.duplicate_ppm = self.duplicate_ppm;
        model.path.reorder_ppm = self.reorder_ppm;
        model.path.reorder_by = self.latency * 2;
        model
    }
}

/// How the world treats the nodes' interface, to show that it does not matter.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Handling {
    /// Poll outputs only some of the time, and in random order with transmits.
    pub random_drains: bool,
    /// Give nodes wake-ups that they did not ask for. They must then do nothing.
    pub spurious_wakes: bool,
}

/// Where a host stands.
#[derive(Clone, Default, Debug)]
pub struct Place {
    /// Its region, if latencies follow from regions.
    pub region: Option<Region>,
    /// Its access link.
    pub access: Access,
    /// What stands between it and the internet, innermost first. An [open](NatModel::open) one is none.
    pub nats: Vec<NatModel>,
    /// A carrier's box to be behind, on the outside of its own `nats`.
    pub carrier: Option<BoxId>,
}

enum Arrival {
    Packet(Box<Parcel>),
    Resolved { host: HostId, id: ResolveId, result: Result<Answer, IoError> },
    Refused { host: HostId, socket: SocketId, to: SocketAddr },
    Wake { host: HostId },
}

/// Order of things that happen to one host at one moment.
mod kind {
    pub(super) const PACKET: u8 = 1;
    pub(super) const RESOLVED: u8 = 2;
    pub(super) const REFUSED: u8 = 3;
    pub(super) const WAKE: u8 = 4;
}

/// Hosts, network, virtual time.
pub struct World {
    now: Time,
    dice: Dice,
    network: Network,
    hosts: Vec<Host>,
    queue: Wheel<Arrival>,
    /// Numbers what each host causes; the last entry is for what comes from outside.
    forged: u64,
    names: BTreeMap<String, Answer>,
    packets: PacketCounts,
    handling: Handling,
    tap: Option<Box<dyn Tap>>,
    violations: Vec<Violation>,
    strict: bool,
    /// Whether hosts keep the events of their nodes, or pass them on through [`World::take_news`].
    keeps_events: bool,
    news: Vec<(HostId, Event)>,
    /// Whether bytes towards addresses not validated are counted.
    watches_amplification: bool,
    events: u64,
    /// Wake-ups at the present moment, to notice a node that never comes to rest.
    stuck: u32,
    data: Vec<u8>,
}

/// The wall clock when virtual time begins: 2027-01-15T08:00:00Z.
pub const WALL: UnixTime = UnixTime::from_secs(1_800_000_000);

impl World {
    /// An empty world. Everything random in it comes from `seed`.
    pub fn new(seed: u64) -> Self {
        Self::with_dice(Dice::from_seed(seed))
    }

    /// An empty world. Everything random in it comes from `dice`.
    pub fn with_dice(dice: Dice) -> Self {
        let mut network = Network::new();
        network.set_default(Link::default().model());
        Self {
            now: Time::ZERO,
            dice,
            network,
            hosts: Vec::new(),
            queue: Wheel::new(),
            forged: 0,
            names: BTreeMap::new(),
            packets: PacketCounts::default(),
            handling: Handling::default(),
            tap: None,
            violations: Vec::new(),
            strict: true,
            keeps_events: true,
            news: Vec::new(),
            watches_amplification: true,
            events: 0,
            stuck: 0,
            data: Vec::new(),
        }
    }

    // --- Building ---

    /// All links that are not set one by one.
    pub fn set_link(&mut self, link: Link) {
        self.network.set_default(link.model());
    }

    /// The link from one host to another, in that direction.
    pub fn set_link_between(&mut self, from: HostId, to: HostId, link: Link) {
        self.network.set_between(from.0, to.0, link.model());
    }

    /// See [`Handling`].
    pub fn set_handling(&mut self, handling: Handling) {
        self.handling = handling;
    }

    /// What a name resolves to. Names not set do not exist.
    pub fn set_name(&mut self, name: &str, answer: Answer) {
        self.names.insert(name.to_owned(), answer);
    }

    /// Shows everything that happens to `tap` from now on.
    pub fn set_tap(&mut self, tap: Box<dyn Tap>) {
        self.tap = Some(tap);
    }

    /// Takes the tap out again.
    pub fn take_tap(&mut self) -> Option<Box<dyn Tap>> {
        self.tap.take()
    }

    /// Keeps broken promises in [`violations`](Self::violations) instead of panicking.
    pub fn collect_violations(&mut self) {
        self.strict = false;
    }

    /// Hands events out through [`take_news`](Self::take_news) instead of keeping them for each host.
    pub fn pass_events_on(&mut self) {
        self.keeps_events = false;
    }

    /// Stops counting bytes towards addresses not validated, which takes memory for each pair of addresses.
    pub fn ignore_amplification(&mut self) {
        self.watches_amplification = false;
    }

    /// A host with the default configuration.
    pub fn add(&mut self) -> HostId {
        self.add_with(crate::config())
    }

    /// A host with this configuration and an address of its own in `10.0.0.0/8`.
    pub fn add_with(&mut self, config: Config) -> HostId {
        let number = u32::try_from(self.hosts.len()).unwrap_or(u32::MAX) + 1;
        let ip = IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + number));
        self.add_at(ip, config)
    }

    /// A host at this address.
    pub fn add_at(&mut self, ip: IpAddr, config: Config) -> HostId {
        let label = self.hosts.len() as u64;
        let site = self.network.add_site(label, None, Access::ideal());
        self.network.add_host(RealmId::INTERNET, site, vec![ip]);
        self.settle_in(format!("host/{label}"), label, config)
    }

    /// A killed host's node started anew at the same address, with the same entropy and thus the same keys, as a node
    /// that keeps its identity and its reset key would be.
    pub fn add_reborn(&mut self, ip: IpAddr, dead: HostId) -> HostId {
        let label = self.hosts[dead.index()].label;
        let site = self.network.add_site(label, None, Access::ideal());
        self.network.add_host(RealmId::INTERNET, site, vec![ip]);
        self.settle_in(format!("host/{}", self.hosts.len()), label, crate::config())
    }

    /// A public address that nobody has. Which one follows from `label`, as far as others have not taken it.
    pub fn fresh_address(&self, label: u64) -> IpAddr {
        self.network.free_address(RealmId::INTERNET, Block::Public, label)
    }

    /// A carrier's box, for hosts to be [behind](Place::carrier).
    pub fn add_carrier(
        &mut self,
        label: u64,
        region: Option<Region>,
        model: NatModel,
        addresses: u32,
    ) -> Result<BoxId, NatError> {
        let site = self.network.add_site(label, region, Access::ideal());
        let mut external = Vec::new();
        for n in 0..u64::from(addresses.max(1)) {
            let mut ip = self.fresh_address(label + (n << 40));
            while external.contains(&ip) {
                ip = self.fresh_address(label + (n << 40) + (1 << 39));
            }
            external.push(ip);
        }
        Ok(self.network.add_box(RealmId::INTERNET, site, model, external)?.0)
    }

    /// A host at a place, with no node yet; see [`start`](Self::start). `label` names it in draws: the same label
    /// draws the same, whatever other hosts there are. `name` is for people.
    pub fn add_place(&mut self, name: String, label: u64, place: &Place) -> Result<HostId, NatError> {
        let (realm, site, ip) = self.settle_place(label, place)?;
        let host = self.network.add_host(realm, site, vec![ip]);
        self.hosts.push(Host::new(name, label));
        Ok(HostId(host))
    }

    fn settle_place(&mut self, label: u64, place: &Place) -> Result<(RealmId, SiteId, IpAddr), NatError> {
        let site = self.network.add_site(label, place.region, place.access);
        let mut realm = place.carrier.map_or(RealmId::INTERNET, |carrier| self.network.inside(carrier));
        let block = if place.carrier.is_some() { Block::Carrier } else { Block::Public };
        let mut ip = self.network.free_address(realm, block, label);
        // Outermost first.
        for model in place.nats.iter().rev().filter(|model| **model != NatModel::open()) {
            realm = self.network.add_box(realm, site, model.clone(), vec![ip])?.1;
            ip = match model.kind {
                // What is behind a firewall keeps its address.
                Kind::Firewall | Kind::Blocked => ip,
                Kind::Translate => IpAddr::V4(Ipv4Addr::new(192, 168, 1, 2)),
                Kind::Nat64 => IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2)),
            };
        }
        Ok((realm, site, ip))
    }

    fn settle_in(&mut self, name: String, label: u64, config: Config) -> HostId {
        let id = HostId(u32::try_from(self.hosts.len()).expect("fewer than 2^32 hosts"));
        self.hosts.push(Host::new(name, label));
        self.start(id, config).expect("a valid configuration");
        id
    }

    /// Moves a host to a new place (roaming). Sockets bound to no address in particular stay open; the others
    /// are of no more use. Its node is told of its new addresses.
    ///
    /// `label` names the new place in draws.
    pub fn relocate(&mut self, host: HostId, label: u64, place: &Place) -> Result<(), NatError> {
        let (realm, site, ip) = self.settle_place(label, place)?;
        self.network.move_host(host.0, realm, site, vec![ip]);
        let entry = &mut self.hosts[host.index()];
        entry.outside.clear();
        for socket in &entry.wildcards {
            if let Some(local) = entry.sockets.get_mut(socket).filter(|local| local.is_ipv4() == ip.is_ipv4()) {
                local.set_ip(ip);
            }
        }
        if self.hosts[host.index()].runs() {
            self.input(host, Input::Interfaces(vec![ip]));
        }
        Ok(())
    }

    // --- Looking ---

    /// Now.
    pub fn now(&self) -> Time {
        self.now
    }

    /// The number of hosts, dead ones included.
    pub fn len(&self) -> usize {
        self.hosts.len()
    }

    /// Whether there are no hosts.
    pub fn is_empty(&self) -> bool {
        self.hosts.is_empty()
    }

    /// The `n`-th host.
    pub fn host(&self, n: usize) -> HostId {
        assert!(n < self.hosts.len(), "there are {} hosts", self.hosts.len());
        HostId(u32::try_from(n).expect("fewer than 2^32 hosts"))
    }

    /// A host's name.
    pub fn name(&self, host: HostId) -> &str {
        &self.hosts[host.index()].name
    }

    /// A host's node, to look at. Panics if it has crashed.
    pub fn node(&self, host: HostId) -> &Node {
        self.hosts[host.index()].node.as_deref().expect("the host has crashed; it has no node")
    }

    /// Whether a host has a node that is alive.
    pub fn runs(&self, host: HostId) -> bool {
        self.hosts[host.index()].runs()
    }

    /// The first address of a host, with the peer's id.
    pub fn address(&self, host: HostId) -> Multiaddr {
        let node = self.node(host);
        let first = node.listen_addrs().first().cloned().unwrap_or_else(Multiaddr::empty);
        first.with(peerwork::multiaddr::Protocol::P2p(node.peer_id().into()))
    }

    /// The sockets that a host has bound.
    pub fn sockets(&self, host: HostId) -> Vec<SocketId> {
        self.hosts[host.index()].sockets.keys().copied().collect()
    }

    /// Where outsiders find a host's first socket at this moment, as far as its boxes hold a mapping.
    pub fn outside_address(&self, host: HostId) -> Option<SocketAddr> {
        let entry = &self.hosts[host.index()];
        let local = *entry.sockets.values().next()?;
        let local = entry.outside.get(&local).copied().unwrap_or(local);
        self.network.seen_from_outside(self.now, host.0, local)
    }

    /// The network, to look at.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// The network, to change.
    pub fn network_mut(&mut self) -> &mut Network {
        &mut self.network
    }

    /// Decisions for whoever drives the world.
    pub fn dice(&mut self) -> &mut Dice {
        &mut self.dice
    }

    /// A host's disk.
    pub fn disk(&mut self, host: HostId) -> &mut Disk {
        &mut self.hosts[host.index()].disk
    }

    /// Events that a host's node has told so far, with their times.
    pub fn events(&self, host: HostId) -> &[(Time, Event)] {
        &self.hosts[host.index()].events
    }

    /// Takes out the events told so far.
    pub fn take_events(&mut self, host: HostId) -> Vec<Event> {
        self.hosts[host.index()].events.drain(..).map(|(_, event)| event).collect()
    }

    /// Takes out all hosts' events since the last call, in the order in which they were told.
    pub fn take_news(&mut self, news: &mut Vec<(HostId, Event)>) {
        news.append(&mut self.news);
    }

    /// Whether a host's node told such an event.
    pub fn saw(&self, host: HostId, which: impl Fn(&Event) -> bool) -> bool {
        self.events(host).iter().any(|(_, event)| which(event))
    }

    /// What has become of the packets.
    pub fn packets(&self) -> &PacketCounts {
        &self.packets
    }

    /// Promises that were broken.
    pub fn violations(&self) -> &[Violation] {
        &self.violations
    }

    /// Events of the engine so far.
    pub fn engine_events(&self) -> u64 {
        self.events
    }

    /// A hash over every output of one host's node so far: commands, events, and datagrams to the last byte.
    pub fn host_digest(&self, host: HostId) -> u64 {
        self.hosts[host.index()].digest.value()
    }

    /// A hash over every output of every node so far.
    pub fn digest(&self) -> String {
        let mut all = host::Digest::default();
        for host in &self.hosts {
            all.add(&host.digest.value().to_le_bytes());
        }
        format!("{:016x}", all.value())
    }

    /// Notes a broken promise, or panics if nobody collects them.
    pub(crate) fn broken(&mut self, invariant: &str, host: Option<HostId>, detail: String) {
        let node = host.map(|host| self.name(host).to_owned()).unwrap_or_default();
        assert!(!self.strict, "{invariant} at {} {node}: {detail}", self.now);
        let role = node.split('/').next().unwrap_or_default().to_owned();
        // The first is what matters; a flood of them would only cost memory.
        if self.violations.len() < 1000 {
            let at_ns = self.now.as_nanos();
            self.violations.push(Violation { invariant: invariant.into(), at_ns, node, role, detail });
        }
    }

    // --- Time ---

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
            if !self.step(end) {
                return false;
            }
        }
    }

    /// Lets the next thing happen, if there is one until `end`. Otherwise time passes to `end`, and this is `false`.
    pub fn step(&mut self, end: Time) -> bool {
        let Some((key, arrival)) = self.queue.pop_until(end) else {
            self.now = self.now.max(end);
            return false;
        };
        if key.at > self.now {
            self.stuck = 0;
            self.now = key.at;
        }
        self.events += 1;
        match arrival {
            Arrival::Packet(parcel) => self.arrived(*parcel),
            Arrival::Resolved { host, id, result } => {
                if self.hosts[host.index()].runs() {
                    self.input(host, Input::Resolved { id, result });
                }
            }
            Arrival::Refused { host, socket, to } => self.refused(host, socket, to),
            Arrival::Wake { host } => self.wake(host),
        }
        true
    }

    fn schedule(&mut self, at: Time, to: u32, kind: u8, from: u32, arrival: Arrival) {
        let seq = match self.hosts.get_mut(from as usize) {
            Some(host) => &mut host.seq,
            None => &mut self.forged,
        };
        *seq += 1;
        let key = EventKey { at: at.max(self.now), to, kind, from, seq: *seq };
        self.queue.push(key, arrival);
    }

    /// All hosts whose nodes are alive.
    pub fn alive(&self) -> BTreeSet<HostId> {
        (0..self.hosts.len()).map(|n| self.host(n)).filter(|host| self.runs(*host)).collect()
    }

    fn whim(&mut self, host: HostId, bound: u64) -> u64 {
        let entry = &mut self.hosts[host.index()];
        entry.whims += 1;
        self.dice.below(Domain::Whim, entry.label, self.now.as_nanos(), entry.whims, bound)
    }
}
