//! Hosts: a node each, its sockets, how it is drained, how it dies.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::Hasher as _,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    num::NonZeroUsize,
    sync::Arc,
    time::Duration,
};

use peerwork::{
    BoundSocket, Command, Config, Event, Input, Multiaddr, Node, Output, Seed, SocketId, Time, TransmitBuf, WakeReason,
    config::ConfigError,
    io::{IoError, IoErrorKind, Query},
};
use siphasher::sip::SipHasher13;

use super::{Arrival, Disk, HostId, WALL, World, amplification::Ledger, kind};
use crate::{
    dice::Domain,
    trace::{KeyLines, What},
};

/// A hash over what a node has put out so far.
#[derive(Clone, Default, Debug)]
pub(super) struct Digest(SipHasher13);

impl Digest {
    pub(super) fn add(&mut self, bytes: &[u8]) {
        self.0.write(bytes);
    }

    pub(super) fn value(&self) -> u64 {
        self.0.finish()
    }
}

/// What a host does to the datagrams of its node, instead of just sending and receiving them.
#[derive(Clone, Default, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case", expecting = "a table such as { drop-ppm = 100_000 }")]
pub struct Conduct {
    /// Outgoing datagrams it swallows, in millionths.
    pub drop_ppm: u32,
    /// How long it sits on each outgoing datagram.
    #[serde(with = "crate::units::span")]
    pub delay: Duration,
    /// Outgoing datagrams it sends again up to a minute later, in millionths.
    pub replay_ppm: u32,
    /// Outgoing datagrams in which it flips a bit, in millionths.
    pub garble_ppm: u32,
    /// Datagrams of noise it sends for each of its own, to the same address: flooding.
    pub noise: u32,
}

impl Conduct {
    /// Whether it behaves.
    pub fn is_honest(&self) -> bool {
        *self == Self::default()
    }
}

pub(super) struct Host {
    pub(super) name: String,
    /// Names it in draws.
    pub(super) label: u64,
    pub(super) node: Option<Box<Node>>,
    /// Times that it was started, less one.
    pub(super) incarnation: u64,
    /// Dead, but its node is still there to look at.
    killed: bool,
    /// It does nothing and hears nothing until then.
    pub(super) asleep: Option<Time>,
    pub(super) sockets: BTreeMap<SocketId, SocketAddr>,
    /// Those of them that are bound to no address in particular.
    pub(super) wildcards: BTreeSet<SocketId>,
    next_port: u16,
    /// What the outside sees of a local address, where a mapping changed without a modelled box.
    pub(super) outside: BTreeMap<SocketAddr, SocketAddr>,
    /// Difference of its wall clock to true time, in nanoseconds.
    pub(super) clock_error: i64,
    /// The earliest wake-up that is in the queue.
    wake: Option<Time>,
    /// Whether the last drain took everything.
    drained: bool,
    pub(super) events: Vec<(Time, Event)>,
    pub(super) digest: Digest,
    pub(super) ledger: Ledger,
    pub(super) conduct: Conduct,
    pub(super) disk: Disk,
    /// Its TLS secrets on their way to the tap.
    keys: KeyLines,
    pub(super) seq: u64,
    pub(super) whims: u64,
}

impl Host {
    pub(super) fn new(name: String, label: u64) -> Self {
        Self {
            name,
            label,
            node: None,
            incarnation: 0,
            killed: false,
            asleep: None,
            sockets: BTreeMap::new(),
            wildcards: BTreeSet::new(),
            next_port: 40_000,
            outside: BTreeMap::new(),
            clock_error: 0,
            wake: None,
            drained: true,
            events: Vec::new(),
            digest: Digest::default(),
            ledger: Ledger::default(),
            conduct: Conduct::default(),
            disk: Disk::default(),
            keys: KeyLines::default(),
            seq: 0,
            whims: 0,
        }
    }

    pub(super) fn runs(&self) -> bool {
        self.node.is_some() && !self.killed
    }

    /// Whether it takes part in anything at this time.
    pub(super) fn awake(&self, now: Time) -> bool {
        self.runs() && self.asleep.is_none_or(|until| until <= now)
    }
}

/// Drains of one node at one moment after which it is said to go on for ever.
const DRAIN_BUDGET: u32 = 1_000_000;

/// Wake-ups of one moment after which a node is said never to come to rest.
const STUCK: u32 = 100_000;

impl World {
    /// Gives a host a new node: at first, or after it [crashed](Self::crash). The node's entropy follows from the host's label and
    /// the number of starts; its keys are those of `config`, if it has some.
    pub fn start(&mut self, host: HostId, mut config: Config) -> Result<(), ConfigError> {
        let entry = &mut self.hosts[host.index()];
        if let (Some(tap), Some(platform)) = (&mut self.tap, &mut config.platform) {
            platform.key_log = Some(Arc::new(entry.keys.clone()));
            #[cfg(feature = "qlog")]
            {
                platform.qlog = tap.qlog(&entry.name);
            }
            #[cfg(not(feature = "qlog"))]
            let _ = tap;
        }
        let seed = self.dice.draw(Domain::Entropy, entry.label, entry.incarnation, 0);
        let since = self.now.since(Time::ZERO);
        let wall = peerwork::UnixTime::from_nanos((WALL + since).as_nanos().saturating_add_signed(entry.clock_error));
        let node = Node::new(config, Box::new(Seed(seed)), self.now, wall)?;
        entry.node = Some(Box::new(node));
        entry.killed = false;
        entry.asleep = None;
        entry.incarnation += 1;
        entry.wake = None;
        entry.sockets.clear();
        entry.ledger = Ledger::default();
        entry.digest.add(b"start");
        let ips = self.network.ips(host.0).to_vec();
        self.input(host, Input::Interfaces(ips));
        Ok(())
    }

    /// Makes a host listen; returns an address to dial, with the peer's id.
    pub fn listen(&mut self, host: HostId) -> Multiaddr {
        self.listen_on(host, 4001);
        self.address(host)
    }

    /// Makes a host listen on a port of its first address.
    pub fn listen_on(&mut self, host: HostId, port: u16) {
        self.listen_at(host, self.network.ips(host.0)[0], port);
    }

    /// Makes a host listen on a port of whatever addresses it has, now and [later](Self::relocate).
    pub fn listen_everywhere(&mut self, host: HostId, port: u16) {
        let ip = match self.network.ips(host.0)[0] {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        self.listen_at(host, ip, port);
    }

    fn listen_at(&mut self, host: HostId, ip: IpAddr, port: u16) {
        let family = if ip.is_ipv4() { "ip4" } else { "ip6" };
        let address = format!("/{family}/{ip}/udp/{port}/quic-v1").parse().expect("a multiaddr");
        self.call(host, |node, now| node.listen(now, address)).expect("a listener");
    }

    /// Calls into a node, then lets what follows happen. Panics if the host has crashed.
    pub fn call<R>(&mut self, host: HostId, run: impl FnOnce(&mut Node, Time) -> R) -> R {
        let now = self.now;
        let node = self.hosts[host.index()].node.as_mut().expect("the host has crashed; it has no node");
        let result = run(node, now);
        self.settle(host);
        result
    }

    /// Gives a node an input, then lets what follows happen.
    pub fn input(&mut self, host: HostId, input: Input) {
        self.call(host, |node, now| node.handle(now, input));
    }

    /// A socket of a host is gone. The node has to be told, with [`Input::SocketFailed`].
    pub fn lose_socket(&mut self, host: HostId, socket: SocketId) {
        self.hosts[host.index()].sockets.remove(&socket);
    }

    /// A host dies at this moment, without a word. Its node stays to be looked at. Packets to it go nowhere.
    pub fn kill(&mut self, host: HostId) {
        self.hosts[host.index()].killed = true;
    }

    /// A host dies at this moment, without a word; its node's memory is gone, and its disk loses and tears writes that were not synced.
    pub fn crash(&mut self, host: HostId) {
        let entry = &mut self.hosts[host.index()];
        entry.node = None;
        entry.sockets.clear();
        entry.wake = None;
        entry.digest.add(b"crash");
        entry.disk.crash(&mut self.dice, entry.label, self.now);
    }

    /// A host sleeps, like a laptop whose lid is closed: it hears nothing, and its timers fire when it wakes.
    pub fn suspend(&mut self, host: HostId, until: Time) {
        self.hosts[host.index()].asleep = Some(until);
        self.schedule(until, host.0, kind::WAKE, host.0, Arrival::Wake { host });
    }

    /// A host that sleeps wakes up.
    pub fn awaken(&mut self, host: HostId) {
        if self.hosts[host.index()].asleep.take().is_some_and(|until| until > self.now) {
            self.hosts[host.index()].wake = None;
            self.schedule(self.now, host.0, kind::WAKE, host.0, Arrival::Wake { host });
        }
    }

    /// A host's wall clock jumps. Time as its node counts it goes on steadily.
    pub fn jump_clock(&mut self, host: HostId, by_ns: i64) {
        let entry = &mut self.hosts[host.index()];
        entry.clock_error = entry.clock_error.saturating_add(by_ns);
        let wall = (WALL + self.now.since(Time::ZERO)).as_nanos().saturating_add_signed(entry.clock_error);
        if entry.runs() {
            self.input(host, Input::WallClock(peerwork::UnixTime::from_nanos(wall)));
        }
    }

    /// What a host does to its node's datagrams from now on.
    pub fn set_conduct(&mut self, host: HostId, conduct: Conduct) {
        self.hosts[host.index()].conduct = conduct;
    }

    /// Something before this host forgets its mappings: from now on the others see other ports.
    pub fn rebind(&mut self, host: HostId) {
        let boxes = self.network.boxes(host.0);
        for id in &boxes {
            self.network.nat_mut(*id).forget(self.now);
        }
        if boxes.is_empty() {
            let host = &mut self.hosts[host.index()];
            for local in host.sockets.values() {
                host.next_port += 1;
                host.outside.insert(*local, SocketAddr::new(local.ip(), host.next_port));
            }
        }
    }

    pub(super) fn wake(&mut self, id: HostId) {
        let now = self.now;
        let host = &mut self.hosts[id.index()];
        if !host.awake(now) {
            if host.runs() {
                // Its timers fire when it wakes up, for which an event is in the queue.
                host.wake = None;
            }
            return;
        }
        host.asleep = None;
        // A wake-up that a sooner one has replaced is none: if it were to ask for the next, there would be ever more.
        if host.wake.is_some_and(|at| at <= now) {
            host.wake = None;
        } else if host.wake.is_some() && !self.handling.spurious_wakes {
            return;
        }
        let drained = host.drained;
        let Some(node) = host.node.as_mut() else { return };
        let next = node.poll_timeout();
        let due = next.is_some_and(|wake| wake.at <= now);
        if due {
            self.stuck += 1;
            if self.stuck >= STUCK {
                self.broken("rest", Some(id), format!("{STUCK} wake-ups at one moment, and again: {next:?}"));
                self.kill(id);
                return;
            }
            self.call(id, |node, now| node.handle(now, Input::Wake));
        } else if self.handling.spurious_wakes && drained {
            node.handle(now, Input::Wake);
            self.expect_silence(id, next);
            self.settle(id);
        } else {
            self.settle(id);
        }
    }

    /// After a wake-up before its time, a node that was drained must have nothing to say.
    fn expect_silence(&mut self, id: HostId, next: Option<peerwork::Wake>) {
        let now = self.now;
        let Some(node) = self.hosts[id.index()].node.as_mut() else { return };
        if let Some(output) = node.poll_output() {
            self.broken("silence", Some(id), format!("{output:?} although the next wake-up was {next:?}"));
            self.on_output(id, output);
            return;
        }
        let mut data = Vec::new();
        let transmit = node.poll_transmit(now, &mut TransmitBuf::single(&mut data));
        if let Some(transmit) = transmit {
            self.broken("silence", Some(id), format!("{transmit:?} although the next wake-up was {next:?}"));
            self.on_transmit(id, &transmit, &data);
        }
    }

    /// Drains a node and asks for its next wake-up.
    pub(super) fn settle(&mut self, id: HostId) {
        if !self.hosts[id.index()].runs() {
            return;
        }
        self.pass_keys_on(id);
        let mut data = core::mem::take(&mut self.data);
        let random = self.handling.random_drains;
        let segments = NonZeroUsize::new(10).unwrap_or(NonZeroUsize::MIN);
        let mut drained = false;
        for round in 0.. {
            if round > DRAIN_BUDGET {
                self.broken("drain-budget", Some(id), format!("{DRAIN_BUDGET} outputs at one moment, and more"));
                self.kill(id);
                break;
            }
            // Any drain may be put off: the node then asks to be called again.
            if random && self.whim(id, 4) == 0 {
                break;
            }
            let outputs_first = !random || self.whim(id, 2) == 0;
            let now = self.now;
            let Some(node) = self.hosts[id.index()].node.as_mut() else { break };
            if outputs_first && let Some(output) = node.poll_output() {
                self.on_output(id, output);
                continue;
            }
            data.clear();
            let mut buf = TransmitBuf::new(&mut data, segments);
            if let Some(transmit) = node.poll_transmit(now, &mut buf) {
                self.on_transmit(id, &transmit, &data);
                continue;
            }
            if let Some(output) = node.poll_output() {
                self.on_output(id, output);
                continue;
            }
            drained = true;
            break;
        }
        self.data = data;
        let now = self.now;
        let host = &mut self.hosts[id.index()];
        host.drained = drained;
        let Some(wake) = host.node.as_ref().and_then(|node| node.poll_timeout()) else { return };
        if wake.at < now {
            self.broken("wake-in-the-past", Some(id), format!("{wake:?} at {now}"));
        } else if wake.why == WakeReason::Backlog && drained {
            self.broken("backlog-when-drained", Some(id), "everything was drained and the node still has work".into());
        }
        let host = &mut self.hosts[id.index()];
        let sooner = host.wake.is_none_or(|at| wake.at < at || at < now);
        if sooner {
            host.wake = Some(wake.at);
            self.schedule(wake.at, id.0, kind::WAKE, id.0, Arrival::Wake { host: id });
        }
        if self.handling.spurious_wakes && wake.at > now && self.whim(id, 8) == 0 {
            let nanos = u64::try_from((wake.at - now).as_nanos()).unwrap_or(u64::MAX);
            let early = now + Duration::from_nanos(self.whim(id, nanos.min(60_000_000_000)));
            self.schedule(early, id.0, kind::WAKE, id.0, Arrival::Wake { host: id });
        }
    }

    fn on_output(&mut self, id: HostId, output: Output) {
        let now = self.now;
        let digest = &mut self.hosts[id.index()].digest;
        digest.add(&now.as_nanos().to_le_bytes());
        digest.add(format!("{output:?}").as_bytes());
        if let Some(tap) = &mut self.tap {
            let what = match &output {
                Output::Event(event) => What::Event(event),
                Output::Command(command) => What::Command(command),
            };
            tap.event(now, &self.hosts[id.index()].name, &what);
        }
        match output {
            Output::Event(event) => {
                self.note_validation(id, &event);
                if self.keeps_events {
                    self.hosts[id.index()].events.push((now, event));
                } else {
                    self.news.push((id, event));
                }
            }
            Output::Command(command) => self.carry_out(id, command),
        }
    }

    fn carry_out(&mut self, id: HostId, command: Command) {
        match command {
            Command::UdpBind { socket, address } => {
                let result = self.bind(id, socket, address);
                let now = self.now;
                if let Some(node) = self.hosts[id.index()].node.as_mut() {
                    node.handle(now, Input::Bound { socket, result });
                }
            }
            Command::UdpClose { socket } => {
                self.hosts[id.index()].sockets.remove(&socket);
            }
            Command::Resolve { id: lookup, query } => {
                let (Query::Ip(name) | Query::Ip4(name) | Query::Ip6(name) | Query::Txt(name)) = query;
                let missing = || IoError::new(IoErrorKind::NotFound, format!("{name} does not exist"));
                let result = self.names.get(&name).cloned().ok_or_else(missing);
                let at = self.now + crate::millis(20);
                self.schedule(at, id.0, kind::RESOLVED, id.0, Arrival::Resolved { host: id, id: lookup, result });
            }
            _ => {}
        }
    }

    fn bind(&mut self, id: HostId, socket: SocketId, address: SocketAddr) -> Result<BoundSocket, IoError> {
        let own = self.network.ips(id.0).to_vec();
        let host = &mut self.hosts[id.index()];
        let Some(ip) = own.into_iter().find(|ip: &IpAddr| ip.is_ipv4() == address.is_ipv4()) else {
            return Err(IoError::new(IoErrorKind::AddressNotAvailable, "no such address family"));
        };
        let port = match address.port() {
            0 => {
                host.next_port += 1;
                host.next_port
            }
            port => port,
        };
        let local = SocketAddr::new(ip, port);
        if host.sockets.values().any(|other| other.port() == port && other.is_ipv4() == local.is_ipv4()) {
            return Err(IoError::new(IoErrorKind::AddressInUse, "address in use"));
        }
        host.sockets.insert(socket, local);
        if address.ip().is_unspecified() {
            host.wildcards.insert(socket);
        } else {
            host.wildcards.remove(&socket);
        }
        // The node may have asked for the wildcard; then that is what it is bound to.
        let bound = SocketAddr::new(address.ip(), port);
        Ok(BoundSocket { local: bound, max_segments: NonZeroUsize::new(10).unwrap_or(NonZeroUsize::MIN) })
    }

    /// Tells the tap the secrets that a node's TLS has made.
    fn pass_keys_on(&mut self, id: HostId) {
        let now = self.now;
        if let Some(tap) = &mut self.tap {
            let host = &self.hosts[id.index()];
            for line in host.keys.take() {
                tap.key_line(now, &host.name, &line);
            }
        }
    }

    /// Tells the tap something that is no output of a node.
    pub(crate) fn tell(&mut self, host: Option<HostId>, what: &What<'_>) {
        let now = self.now;
        if let Some(tap) = &mut self.tap {
            let name = host.map_or("", |host| &self.hosts[host.index()].name);
            tap.event(now, name, what);
        }
    }
}
