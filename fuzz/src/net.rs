//! Nodes on a network that the input controls, with the applications that use them and what must be true of both.
//!
//! Unlike `peerwork-sim`, where the network is random and the drivers behave, every packet, drain and input here is the
//! input's decision; what is honest is only what the invariants need.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::{IpAddr, SocketAddr},
    num::NonZeroUsize,
    time::Duration,
};

use bytes::BytesMut;
use peerwork::{
    BoundSocket, Census, Command, Config, ConnId, Datagram, DialId, Event, Input, ListenId, Multiaddr, Node, Output,
    PeerId, PerfId, ProtocolId, Read, RequestId, Seed, SocketId, StreamError, StreamId, Time, TransmitBuf, UnixTime,
    config::RequestConfig,
    io::{IoError, IoErrorKind, Query, ResolveId},
    limits, multiaddr,
};

/// Protocols that every application serves.
pub(crate) const SERVED: [ProtocolId; 2] = [ProtocolId::from_static("/fuzz/a"), ProtocolId::from_static("/fuzz/b")];
/// Request–response, served by everybody.
pub(crate) const REQUEST: ProtocolId = ProtocolId::from_static("/fuzz/request");

const PORT: u16 = 4001;
const WALL: UnixTime = UnixTime::from_secs(1_800_000_000);

/// A packet on its way.
#[derive(Clone, Debug)]
pub(crate) struct Packet {
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
    pub(crate) data: Vec<u8>,
}

/// What one end has written to a stream: so many bytes, and whether that is all.
#[derive(Clone, Copy, Default, Debug)]
struct Written {
    bytes: u64,
    complete: bool,
}

#[derive(Default, Debug)]
struct AppStream {
    /// Its entry in the ledger, once something was written.
    tag: Option<usize>,
    /// The first bytes read, which name the entry at the other end.
    head: Vec<u8>,
    read: u64,
    peer: Option<PeerId>,
}

/// One node, its driver and its application.
pub(crate) struct Host {
    pub(crate) node: Node,
    pub(crate) id: PeerId,
    ip: IpAddr,
    /// Plays false: nothing that it says is checked.
    pub(crate) hostile: bool,
    pub(crate) sockets: BTreeMap<SocketId, SocketAddr>,
    closed: BTreeSet<SocketId>,
    pub(crate) blocked: BTreeSet<SocketId>,
    next_port: u16,
    /// The driver takes its time with binding.
    pub(crate) slow: bool,
    pub(crate) binds: VecDeque<(SocketId, SocketAddr)>,
    pub(crate) lookups: VecDeque<(ResolveId, Query)>,
    /// The latest time that the node was told.
    last: Time,
    pub(crate) conns: BTreeMap<ConnId, PeerId>,
    streams: BTreeMap<StreamId, AppStream>,
    pub(crate) dials: BTreeSet<DialId>,
    pub(crate) listeners: BTreeSet<ListenId>,
    pub(crate) perfs: BTreeSet<PerfId>,
    pub(crate) asked: BTreeSet<RequestId>,
    pub(crate) received: BTreeSet<RequestId>,
    pub(crate) answers: BTreeSet<RequestId>,
    /// Peers that broke a rule, says the node.
    pub(crate) accused: BTreeSet<PeerId>,
    pub(crate) pings: u32,
    pub(crate) shut_down: bool,
}

/// Hosts, packets, time.
pub(crate) struct Net {
    pub(crate) hosts: Vec<Host>,
    pub(crate) wire: VecDeque<Packet>,
    pub(crate) now: Time,
    /// Source addresses were forged: an address says nothing about a peer any more.
    pub(crate) forged: bool,
    /// Nothing arrives any more.
    pub(crate) cut: bool,
    /// Nothing arrives from or at this address any more.
    pub(crate) muted: Option<IpAddr>,
    ledger: Vec<Written>,
    /// Work left for this run.
    pub(crate) budget: u32,
}

/// What a stream with this entry in the ledger carries at this place: first the entry's number, then a pattern.
fn pattern(tag: usize, at: u64) -> u8 {
    let tag = tag as u64;
    match at {
        0..8 => tag.to_le_bytes()[at as usize],
        _ => (at.wrapping_mul(31) ^ (at >> 8) ^ tag.wrapping_mul(17)) as u8,
    }
}

impl Net {
    /// Hosts at 10.0.0.1 and so on.
    pub(crate) fn new(configs: Vec<Config>) -> Self {
        let mut net = Self {
            hosts: Vec::new(),
            wire: VecDeque::new(),
            now: Time::from_secs(1),
            forged: false,
            cut: false,
            muted: None,
            ledger: Vec::new(),
            budget: 4_000,
        };
        for (number, config) in (1..).zip(configs) {
            let ip = IpAddr::from([10, 0, 0, number]);
            let node = Node::new(config, Box::new(Seed(number.into())), net.now, WALL).expect("a valid configuration");
            net.hosts.push(Host {
                id: node.peer_id(),
                node,
                ip,
                hostile: false,
                sockets: BTreeMap::new(),
                closed: BTreeSet::new(),
                blocked: BTreeSet::new(),
                next_port: 40_000,
                slow: false,
                binds: VecDeque::new(),
                lookups: VecDeque::new(),
                last: net.now,
                conns: BTreeMap::new(),
                streams: BTreeMap::new(),
                dials: BTreeSet::new(),
                listeners: BTreeSet::new(),
                perfs: BTreeSet::new(),
                asked: BTreeSet::new(),
                received: BTreeSet::new(),
                answers: BTreeSet::new(),
                accused: BTreeSet::new(),
                pings: 0,
                shut_down: false,
            });
            let at = net.hosts.len() - 1;
            net.input(at, Input::Interfaces(vec![ip]));
            for protocol in SERVED {
                net.call(at, |node, now| node.register(now, protocol)).expect("registered");
            }
            let config = RequestConfig { max_inbound_per_peer: 4, ..RequestConfig::default() };
            net.call(at, |node, now| node.requests(now).register(REQUEST, config)).expect("registered");
            net.listen(at, PORT);
        }
        net
    }

    /// Where a host is.
    pub(crate) fn address(&self, host: usize) -> SocketAddr {
        SocketAddr::new(self.hosts[host].ip, PORT)
    }

    /// The same as a multiaddr, with its peer id.
    pub(crate) fn full_address(&self, host: usize) -> Multiaddr {
        let peer = multiaddr::Protocol::P2p(self.hosts[host].id.into());
        peerwork::transport::addr::to_multiaddr(self.address(host)).with(peer)
    }

    pub(crate) fn listen(&mut self, host: usize, port: u16) {
        let address = peerwork::transport::addr::to_multiaddr(SocketAddr::new(self.hosts[host].ip, port));
        if let Ok(listener) = self.call(host, |node, now| node.listen(now, address)) {
            self.hosts[host].listeners.insert(listener);
        }
        if !self.hosts[host].slow {
            self.drain(host, usize::MAX);
        }
    }

    /// Calls into a node, without draining it.
    pub(crate) fn call<R>(&mut self, host: usize, run: impl FnOnce(&mut Node, Time) -> R) -> R {
        self.call_at(host, self.now, run)
    }

    /// The same at a time that may be in the past.
    pub(crate) fn call_at<R>(&mut self, host: usize, now: Time, run: impl FnOnce(&mut Node, Time) -> R) -> R {
        let host = &mut self.hosts[host];
        host.last = host.last.max(now);
        let result = run(&mut host.node, now);
        host.check_timeout();
        result
    }

    pub(crate) fn input(&mut self, host: usize, input: Input) {
        self.call(host, |node, now| node.handle(now, input));
    }

    /// Polls a node up to this many times. Says whether it was polled empty.
    pub(crate) fn drain(&mut self, at: usize, limit: usize) -> bool {
        let mut data = Vec::new();
        for count in 0..limit {
            assert!(count < 200_000, "a drain without an end");
            if let Some(output) = self.hosts[at].node.poll_output() {
                self.on_output(at, output);
                continue;
            }
            data.clear();
            let mut buf = TransmitBuf::new(&mut data, NonZeroUsize::new(10).unwrap_or(NonZeroUsize::MIN));
            let now = self.now;
            let Some(transmit) = self.hosts[at].node.poll_transmit(now, &mut buf) else {
                match self.hosts[at].node.poll_output() {
                    Some(output) => self.on_output(at, output),
                    None => return true,
                }
                continue;
            };
            assert!(transmit.len == data.len() && !data.is_empty());
            let host = &mut self.hosts[at];
            host.last = host.last.max(now);
            assert!(!host.blocked.contains(&transmit.socket), "a datagram for a blocked socket");
            let Some(from) = host.sockets.get(&transmit.socket).copied() else {
                assert!(host.closed.contains(&transmit.socket), "a datagram for a socket that never was");
                continue;
            };
            let segment = transmit.segment.map_or(data.len(), NonZeroUsize::get);
            for packet in data.chunks(segment) {
                self.wire.push_back(Packet { from, to: transmit.to, data: packet.to_vec() });
            }
            // Who sends more than anybody delivers loses packets.
            self.wire.truncate(2_000);
        }
        false
    }

    /// Drains a node and wakes it until it rests.
    pub(crate) fn settle(&mut self, at: usize) {
        for _ in 0..1_000 {
            self.drain(at, usize::MAX);
            let host = &self.hosts[at];
            if host.node.poll_timeout().is_none_or(|wake| wake.at > host.last) {
                return;
            }
            let now = host.last;
            self.call_at(at, now, |node, now| node.handle(now, Input::Wake));
        }
        let host = &self.hosts[at];
        panic!("a hot loop: {:?} at {}, {:?}", host.node.poll_timeout(), host.last, host.node.census());
    }

    pub(crate) fn settle_all(&mut self) {
        for host in 0..self.hosts.len() {
            self.settle(host);
        }
    }

    /// Takes a packet off the wire and hands it over, if anybody is there.
    pub(crate) fn deliver(&mut self, packet: Packet) {
        if self.cut || self.muted.is_some_and(|ip| ip == packet.from.ip() || ip == packet.to.ip()) {
            return;
        }
        let Some((host, socket)) = self.route(packet.to) else { return };
        let (from, to_ip) = (packet.from, Some(packet.to.ip()));
        let data = BytesMut::from(&packet.data[..]);
        self.input(host, Input::Datagram(Datagram { socket, from, to_ip, ecn: None, segment: None, data }));
    }

    /// Nothing comes from a host or reaches it any more.
    pub(crate) fn mute(&mut self, at: usize) {
        let ip = self.hosts[at].ip;
        self.muted = Some(ip);
        self.wire.retain(|packet| packet.from.ip() != ip && packet.to.ip() != ip);
    }

    pub(crate) fn route(&self, to: SocketAddr) -> Option<(usize, SocketId)> {
        let at = self.hosts.iter().position(|host| host.ip == to.ip())?;
        let (socket, _) = self.hosts[at].sockets.iter().find(|(_, local)| **local == to)?;
        Some((at, *socket))
    }

    /// Moves time to the next thing that somebody waits for, if that is before `end`. Nothing takes time but waiting.
    pub(crate) fn next_timer(&mut self, end: Time) -> bool {
        let due = self.hosts.iter().filter_map(|host| host.node.poll_timeout());
        let Some(at) = due.map(|wake| wake.at).min().filter(|at| *at <= end) else { return false };
        self.now = self.now.max(at);
        for host in 0..self.hosts.len() {
            if self.hosts[host].node.poll_timeout().is_some_and(|wake| wake.at <= self.now) {
                self.input(host, Input::Wake);
                self.settle(host);
            }
        }
        true
    }

    /// A network and drivers that behave, for this long or this many steps.
    pub(crate) fn flow(&mut self, time: Duration, steps: usize) {
        let end = self.now + time;
        self.settle_all();
        for _ in 0..steps {
            if self.budget == 0 && !self.cut {
                return;
            }
            self.budget = self.budget.saturating_sub(1);
            if let Some(packet) = self.wire.pop_front() {
                self.deliver(packet);
                self.settle_all();
            } else if !self.next_timer(end) {
                self.now = end;
                return;
            }
        }
    }

    fn on_output(&mut self, at: usize, output: Output) {
        match output {
            Output::Event(event) => self.on_event(at, event),
            Output::Command(Command::UdpBind { socket, address }) => {
                let host = &mut self.hosts[at];
                assert!(!host.sockets.contains_key(&socket) && !host.closed.contains(&socket));
                assert!(host.sockets.len() <= limits::SOCKETS);
                host.binds.push_back((socket, address));
                if !host.slow {
                    self.bind(at, true);
                }
            }
            Output::Command(Command::UdpClose { socket }) => {
                let host = &mut self.hosts[at];
                host.binds.retain(|(waiting, _)| *waiting != socket);
                host.sockets.remove(&socket);
                host.closed.insert(socket);
            }
            Output::Command(Command::Resolve { id, query }) => self.hosts[at].lookups.push_back((id, query)),
            Output::Command(other) => panic!("an unknown command: {other:?}"),
        }
    }

    /// Answers the oldest bind.
    pub(crate) fn bind(&mut self, at: usize, work: bool) {
        let host = &mut self.hosts[at];
        let Some((socket, wanted)) = host.binds.pop_front() else { return };
        let port = match wanted.port() {
            0 => {
                host.next_port += 1;
                host.next_port
            }
            port => port,
        };
        let local = SocketAddr::new(host.ip, port);
        let free = wanted.is_ipv4() && !host.sockets.values().any(|taken| *taken == local);
        let result = if work && free {
            host.sockets.insert(socket, local);
            let local = SocketAddr::new(wanted.ip(), port);
            Ok(BoundSocket { local, max_segments: NonZeroUsize::new(4).unwrap_or(NonZeroUsize::MIN) })
        } else {
            host.closed.insert(socket);
            Err(IoError::new(IoErrorKind::AddressInUse, "not this time"))
        };
        self.input(at, Input::Bound { socket, result });
    }

    /// A socket dies.
    pub(crate) fn lose(&mut self, at: usize, socket: SocketId, error: IoError) {
        let host = &mut self.hosts[at];
        if host.sockets.remove(&socket).is_some() {
            host.blocked.remove(&socket);
            host.closed.insert(socket);
        }
        self.input(at, Input::SocketFailed { socket, error });
    }

    fn on_event(&mut self, at: usize, event: Event) {
        let others: Vec<(PeerId, SocketAddr)> = (0..self.hosts.len())
            .filter(|other| *other != at)
            .map(|at| (self.hosts[at].id, self.address(at)))
            .collect();
        let forged = self.forged;
        let host = &mut self.hosts[at];
        assert!(!host.shut_down, "{event:?} after the last event");
        if let Some((conn, peer)) = about(&event) {
            assert_eq!(host.conns.get(&conn), Some(&peer), "{event:?} about a connection that is none");
        }
        match event {
            Event::Connected { conn, peer, address, .. } => {
                assert!(others.iter().any(|(id, _)| *id == peer), "{peer} does not exist");
                let lives = others.iter().find(|(_, lives)| peerwork::transport::addr::to_multiaddr(*lives) == address);
                assert!(forged || lives.is_none_or(|(id, _)| *id == peer), "{peer} does not live at {address}");
                assert!(host.conns.insert(conn, peer).is_none(), "{conn} twice");
            }
            Event::Disconnected { conn, peer, remaining, .. } => {
                assert_eq!(host.conns.remove(&conn), Some(peer), "{conn} ended and never was");
                assert_eq!(host.conns.values().filter(|other| **other == peer).count(), remaining);
            }
            Event::Identified { peer, info, .. } => assert_eq!(info.peer, peer),
            Event::Ping { result, .. } => host.pings += u32::from(result.is_ok()),
            Event::Fault { peer, .. } => drop(host.accused.insert(peer)),
            Event::Dialed { dial, .. } | Event::DialFailed { dial, .. } => {
                assert!(host.dials.remove(&dial), "{dial} ended twice");
            }
            Event::StreamInbound { stream, peer, .. } => {
                let fresh = AppStream { peer: Some(peer), ..AppStream::default() };
                assert!(host.streams.insert(stream, fresh).is_none(), "{stream} twice");
            }
            Event::StreamOpened { stream, .. }
            | Event::StreamReadable { stream }
            | Event::StreamWritable { stream }
            | Event::StreamFailed { stream, .. } => {
                assert!(host.streams.contains_key(&stream), "{event:?} about a stream that the application never saw");
            }
            Event::Listening { listener, .. } => assert!(host.listeners.contains(&listener)),
            Event::ListenFailed { listener, .. } => assert!(host.listeners.remove(&listener)),
            Event::Request { request, .. } => assert!(host.received.insert(request), "{request} twice"),
            Event::RequestDropped { request } => assert!(host.received.remove(&request), "{request} ended twice"),
            Event::Response { request, result } => {
                assert!(host.asked.remove(&request), "{request} ended twice");
                if result.is_ok() {
                    host.answers.insert(request);
                }
            }
            Event::Perf { perf, .. } => assert!(host.perfs.remove(&perf), "{perf} ended twice"),
            Event::ShutDown => host.shut_down = true,
            Event::AddressChanged { .. } | Event::IdentifyFailed { .. } | Event::ObservedAddress { .. } => {}
            other => panic!("an unknown event: {other:?}"),
        }
    }

    // --- The application's streams ---

    pub(crate) fn open(&mut self, at: usize, conn: ConnId, protocols: &[ProtocolId]) -> Option<StreamId> {
        let stream = self.call(at, |node, now| node.open_stream(now, conn, protocols)).ok()?;
        let peer = self.hosts[at].conns.get(&conn).copied();
        self.hosts[at].streams.insert(stream, AppStream { peer, ..AppStream::default() });
        Some(stream)
    }

    /// Streams that the application of a host has seen.
    pub(crate) fn streams(&self, at: usize) -> impl Iterator<Item = StreamId> {
        self.hosts[at].streams.keys().copied()
    }

    /// Writes the next bytes of a stream's pattern.
    pub(crate) fn write(&mut self, at: usize, stream: StreamId, len: usize) {
        let fresh = self.ledger.len();
        let Some(entry) = self.hosts[at].streams.get_mut(&stream) else { return };
        let tag = *entry.tag.get_or_insert(fresh);
        if tag == fresh {
            self.ledger.push(Written::default());
        }
        let from = self.ledger[tag].bytes;
        let data: Vec<u8> = (from..from + len as u64).map(|at| pattern(tag, at)).collect();
        let taken = self.call(at, |node, now| node.stream(now, stream).ok()?.write(&data).ok());
        assert!(taken.unwrap_or(0) <= len);
        self.ledger[tag].bytes += taken.unwrap_or(0) as u64;
    }

    /// Marks what was written to a stream as all.
    pub(crate) fn complete(&mut self, at: usize, stream: StreamId) {
        let tag = self.hosts[at].streams.get(&stream).and_then(|stream| stream.tag);
        if let Some(written) = tag.and_then(|tag| self.ledger.get_mut(tag)) {
            written.complete = true;
        }
    }

    /// Reads from a stream and compares with what was written to it. Says how many bytes came.
    pub(crate) fn read(&mut self, at: usize, stream: StreamId, max: usize) -> usize {
        if !self.hosts[at].streams.contains_key(&stream) {
            // Its event has not been polled yet.
            return 0;
        }
        let result = self.call(at, |node, now| {
            let mut stream = node.stream(now, stream).ok()?;
            // On other protocols it is a machine that answers.
            let ours = stream.protocol().is_some_and(|protocol| SERVED.contains(protocol));
            Some((ours, stream.read(max)))
        });
        let Some((ours, result)) = result else { return 0 };
        let with_enemy = {
            let peer = self.hosts[at].streams.get(&stream).and_then(|stream| stream.peer);
            self.hosts[at].hostile || self.hosts.iter().any(|host| host.hostile && Some(host.id) == peer)
        };
        let Some(entry) = self.hosts[at].streams.get_mut(&stream) else { return 0 };
        let checked = ours && !with_enemy;
        match result {
            Ok(Read::Data(data)) => {
                assert!(!data.is_empty() && data.len() <= max.max(1));
                for byte in data.iter().filter(|_| checked) {
                    if entry.head.len() < 8 {
                        entry.head.push(*byte);
                    } else {
                        let tag = usize::from_le_bytes(entry.head[..8].try_into().unwrap_or_default());
                        assert_eq!(*byte, pattern(tag, entry.read), "byte {} of {stream}", entry.read);
                    }
                    entry.read += 1;
                    if let Ok(tag) = entry.head[..].try_into().map(usize::from_le_bytes) {
                        let written = self.ledger.get(tag).expect("bytes that nobody wrote");
                        assert!(entry.read <= written.bytes, "more is read than was written");
                    }
                }
                data.len()
            }
            Ok(Read::End) => {
                if let Ok(tag) = entry.head[..].try_into().map(usize::from_le_bytes) {
                    let written = self.ledger[tag];
                    assert!(written.complete && written.bytes == entry.read, "{written:?}, read {}", entry.read);
                }
                0
            }
            Ok(Read::Blocked) => 0,
            Err(error) => {
                assert!(!error.to_string().is_empty() && error != StreamError::Unsupported);
                0
            }
        }
    }

    /// The application reads and lets go of everything it has.
    pub(crate) fn let_go(&mut self, at: usize) {
        for stream in self.streams(at).collect::<Vec<_>>() {
            while self.read(at, stream, usize::MAX) > 0 {}
            self.complete(at, stream);
            self.call(at, |node, now| {
                if let Ok(stream) = node.stream(now, stream) {
                    stream.close();
                }
            });
        }
        for answer in core::mem::take(&mut self.hosts[at].answers) {
            self.call(at, |node, now| node.requests(now).take(answer)).expect("a response that nobody took");
        }
    }

    /// Nothing arrives any more: everything has to end, be told and be forgotten.
    pub(crate) fn silence(&mut self) {
        self.cut = true;
        self.wire.clear();
        for at in 0..self.hosts.len() {
            self.hosts[at].slow = false;
            while !self.hosts[at].binds.is_empty() {
                self.bind(at, false);
            }
        }
        // Round-trip times of hours, which the input may have feigned, make for long farewells.
        let end = self.now + Duration::from_secs(200 * 365 * 86_400);
        let mut steps = 0;
        self.settle_all();
        while self.next_timer(end) {
            self.wire.clear();
            steps += 1;
            assert!(steps < 100_000, "no rest: {:?}", self.hosts[0].node.poll_timeout());
        }
        for at in 0..self.hosts.len() {
            self.let_go(at);
            self.settle(at);
            let host = &self.hosts[at];
            assert_eq!(host.node.census(), Census::default(), "host {at} keeps something");
            assert_eq!(host.node.poll_timeout(), None);
            assert_eq!(host.conns.len(), 0);
            assert!(host.dials.is_empty(), "dials without an end: {:?}", host.dials);
            assert!(host.perfs.is_empty() && host.asked.is_empty() && host.received.is_empty());
        }
    }

    pub(crate) fn shut_down(&mut self) {
        for at in 0..self.hosts.len() {
            self.call(at, Node::shutdown);
        }
        self.flow(Duration::from_secs(3), 2_000);
        if self.budget == 0 {
            self.cut = true;
            self.flow(Duration::from_secs(3), 2_000);
        }
        for (at, host) in self.hosts.iter().enumerate() {
            assert!(host.shut_down, "host {at} does not shut down: {:?}", host.node.census());
        }
    }
}

/// The connection that an event is about, for those that only live connections have.
fn about(event: &Event) -> Option<(ConnId, PeerId)> {
    match event {
        Event::AddressChanged { conn, peer, .. }
        | Event::Identified { conn, peer, .. }
        | Event::IdentifyFailed { conn, peer, .. }
        | Event::ObservedAddress { conn, peer, .. }
        | Event::Ping { conn, peer, .. }
        | Event::StreamInbound { conn, peer, .. }
        | Event::Request { conn, peer, .. }
        | Event::Fault { conn, peer, .. } => Some((*conn, *peer)),
        _ => None,
    }
}

impl Host {
    fn check_timeout(&self) {
        if let Some(wake) = self.node.poll_timeout() {
            assert!(wake.at >= self.last, "a wake-up in the past: {wake:?} at {:?}", self.last);
        }
        let outputs = self.node.census().outputs;
        assert!(outputs <= limits::OUTPUTS_HIGH_WATER + 10_000, "{outputs} outputs");
    }
}
