//! One machine alone: whatever happens to it, in whatever order, its calls end and it forgets.
//!
//! A `Bench` keeps to the contract of [`NetEvent`] (streams live on connections, nothing comes after the end), unless
//! the input says `rude`; then only panics count. A `Model` is what little must be true of one machine.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use bytes::Bytes;
use peerwork::{
    ConnId, Direction, Event, Harness, Machine, Multiaddr, PeerFault, PeerId, PerfId, ProtocolId, Rng, Signal,
    StreamError, StreamId, Time,
    config::{IdentifyConfig, PingConfig, RequestConfig},
    fault::Consequence,
    fuzzing::{self, Held, Invented as _, RequestCall},
    node::{Effects, MachineSeed},
    protocol::{
        identify::{self, Identify, PeerInfo, message::IdentifyMessage},
        perf::{self, Perf},
        ping::{self, Ping},
        request::{Request, RequestError},
    },
    transport::{
        net::{Action, Framing, NetEvent},
        varint,
    },
};

use crate::Source;

/// Identify, with frames that are messages and frames that are not.
pub fn identify(data: &[u8]) {
    let mut source = Source::new(data);
    let make = |seed| Identify::new(IdentifyConfig::default(), seed);
    Bench::new(make, IdentifyModel).run(&mut source);
}

/// Ping: one at a time, each with one end; echoes are what came in.
pub fn ping(data: &[u8]) {
    let mut source = Source::new(data);
    let interval = source.coin().then_some(Duration::from_secs(15));
    let config = PingConfig { interval, ..PingConfig::default() };
    Bench::new(|seed| Ping::new(config, seed), PingModel::default()).run(&mut source);
}

/// perf: each measurement with one end; the server sends what was asked for and no more.
pub fn perf(data: &[u8]) {
    Bench::new(Perf::new, PerfModel::default()).run(&mut Source::new(data));
}

/// Request–response: each request with one end, of those that are possible for it.
pub fn request(data: &[u8]) {
    let mut bench = Bench::new(Request::new, RequestModel::default());
    let serve = RequestConfig {
        max_request: 64,
        max_response: 64,
        max_inbound_per_peer: 3,
        timeout: Duration::from_secs(7),
        serve: true,
    };
    let ask = RequestConfig { serve: false, ..RequestConfig::default() };
    fuzzing::request_register(&mut bench.harness, SERVED, serve);
    fuzzing::request_register(&mut bench.harness, ASKED, ask);
    bench.run(&mut Source::new(data));
}

/// What is true of one machine.
trait Model<M: Machine> {
    /// Protocols on which peers open streams, and how those are read.
    const INBOUND: &'static [ProtocolId];
    const FRAMING: Framing;

    /// A call of the application's, or a change of the node. `strict` unless the bench is rude.
    fn call(&mut self, harness: &mut Harness<M>, source: &mut Source<'_>, conn: ConnId, strict: bool) -> Effects;

    /// A frame worth having.
    fn frame(&mut self, source: &mut Source<'_>) -> Bytes {
        Bytes::copy_from_slice(source.chunk())
    }

    /// Data worth having on a stream.
    fn data(&mut self, source: &mut Source<'_>, _: StreamId) -> Bytes {
        Bytes::copy_from_slice(source.chunk())
    }

    /// Something happened; `None` if it was a call, a signal or a timer.
    fn before(&mut self, _: &NetEvent) {}

    /// What the machine did.
    fn after(&mut self, _: &Effects) {}

    /// Everything is over.
    fn over(&mut self, _: &mut Harness<M>) {}
}

#[derive(Debug, Default)]
struct Stream {
    conn: Option<ConnId>,
    inbound: bool,
    opened: bool,
    frames: bool,
    ended: bool,
    finished: bool,
    delivered: bool,
    stopped: bool,
    wants: bool,
}

struct Bench<M: Machine, N> {
    harness: Harness<M>,
    model: N,
    conns: BTreeMap<ConnId, PeerId>,
    streams: BTreeMap<StreamId, Stream>,
    /// Streams opened on connections that were gone: they fail next.
    doomed: VecDeque<StreamId>,
    /// Connections that a fault ended.
    fallen: BTreeSet<ConnId>,
    next: u64,
    rude: bool,
}

impl<M: Machine + Held, N: Model<M>> Bench<M, N> {
    fn new(make: impl FnOnce(MachineSeed) -> M, model: N) -> Self {
        Self {
            harness: Harness::new(1, make),
            model,
            conns: BTreeMap::new(),
            streams: BTreeMap::new(),
            doomed: VecDeque::new(),
            fallen: BTreeSet::new(),
            next: 0,
            rude: false,
        }
    }

    fn run(mut self, source: &mut Source<'_>) {
        self.rude = source.one_in(4);
        let mut steps = 0;
        while !source.is_empty() && steps < 2000 {
            steps += 1;
            self.step(source);
        }
        self.close_all();
        if !self.rude {
            self.model.over(&mut self.harness);
            assert_eq!(self.harness.machine.held(), 0, "everything is over and something is held");
            assert_eq!(self.harness.deadline(), None, "everything is over and a timer is set");
        }
    }

    fn close_all(&mut self) {
        for conn in self.conns.keys().copied().collect::<Vec<_>>() {
            self.disconnect(conn);
        }
        let end = self.harness.now() + Duration::from_secs(3600);
        self.advance(end);
        self.fail_doomed();
    }

    fn advance(&mut self, to: Time) {
        for (_, effects) in self.harness.advance(to) {
            self.took(&effects);
        }
    }

    fn net(&mut self, event: NetEvent) {
        if !self.rude {
            self.model.before(&event);
        }
        let effects = self.harness.net(event);
        self.took(&effects);
    }

    fn took(&mut self, effects: &Effects) {
        for action in &effects.actions {
            match action {
                Action::Open { stream, conn, framing, .. } => {
                    let frames = matches!(framing, Framing::Frames { .. });
                    let known = Stream { conn: Some(*conn), frames, ..Stream::default() };
                    self.streams.insert(*stream, known);
                    if !self.conns.contains_key(conn) {
                        self.doomed.push_back(*stream);
                    }
                }
                Action::WantWritable { stream } => self.with(*stream, |stream| stream.wants = true),
                Action::Finish { stream } => self.with(*stream, |stream| stream.finished = true),
                Action::Close { stream } | Action::Reset { stream, .. } => {
                    self.streams.remove(stream);
                }
                Action::Fault { conn, stream, fault } => match fault.rule().consequence {
                    Consequence::ResetStream(_) => {
                        if let Some(stream) = stream {
                            self.streams.remove(stream);
                        }
                    }
                    Consequence::CloseConnection(_) => drop(self.fallen.insert(*conn)),
                },
                Action::Write { .. } => {}
                _ => {}
            }
        }
        if !self.rude {
            self.model.after(effects);
        }
    }

    fn with(&mut self, stream: StreamId, change: impl FnOnce(&mut Stream)) {
        if let Some(stream) = self.streams.get_mut(&stream) {
            change(stream);
        }
    }

    fn fail(&mut self, stream: StreamId, error: StreamError) {
        if self.streams.remove(&stream).is_some() || self.rude {
            self.net(NetEvent::Failed { stream, error });
        }
    }

    fn fail_doomed(&mut self) {
        while let Some(stream) = self.doomed.pop_front() {
            self.fail(stream, StreamError::ConnectionClosed);
        }
    }

    fn disconnect(&mut self, conn: ConnId) {
        let hit = self.streams.iter().filter(|(_, stream)| stream.conn == Some(conn)).map(|(id, _)| *id);
        for stream in hit.collect::<Vec<_>>() {
            self.fail(stream, StreamError::ConnectionClosed);
        }
        // What the failures made it open fails behind the end of the connection.
        if let Some(peer) = self.conns.remove(&conn) {
            let late = self.streams.iter().filter(|(_, stream)| stream.conn == Some(conn)).map(|(id, _)| *id);
            self.doomed.extend(late.collect::<Vec<_>>());
            self.net(NetEvent::Disconnected { conn, peer });
        }
        self.fail_doomed();
    }

    fn connect(&mut self, source: &mut Source<'_>) -> ConnId {
        self.next += 1;
        let conn = ConnId::invented(self.next);
        let peer = peer(source.byte() % 4);
        let address = ([198, 51, 100, source.byte()], 4001).into();
        self.conns.insert(conn, peer);
        self.net(NetEvent::Connected { conn, peer, direction: Direction::Inbound, address });
        conn
    }

    fn conn(&self, source: &mut Source<'_>) -> Option<ConnId> {
        let at = source.below(self.conns.len());
        let known = self.conns.keys().nth(at).copied();
        if self.rude && source.coin() { Some(ConnId::invented(source.byte().into())) } else { known }
    }

    fn stream(&self, source: &mut Source<'_>, fits: impl Fn(&Stream) -> bool) -> Option<StreamId> {
        if self.rude && source.coin() {
            return Some(StreamId::invented(source.byte().into()));
        }
        let fitting = || self.streams.iter().filter(|(_, stream)| self.rude || fits(stream));
        let at = source.below(fitting().count());
        fitting().nth(at).map(|(id, _)| *id)
    }

    fn step(&mut self, source: &mut Source<'_>) {
        let op = source.byte() % 20;
        let Some(conn) = self.conn(source).filter(|_| op != 0) else {
            if self.conns.len() < 8 {
                self.connect(source);
            }
            return;
        };
        match op {
            1 => self.disconnect(conn),
            // Up and gone again before the machine hears of it: what it opens comes too late.
            2 => {
                let before: BTreeSet<StreamId> = self.streams.keys().copied().collect();
                let conn = self.connect(source);
                let fresh = self.streams.keys().filter(|stream| !before.contains(stream)).copied();
                self.doomed.extend(fresh.collect::<Vec<_>>());
                if let Some(peer) = self.conns.remove(&conn) {
                    self.net(NetEvent::Disconnected { conn, peer });
                }
                self.fail_doomed();
            }
            3..=5 => self.inbound(source, conn),
            6 => {
                if let Some(stream) = self.stream(source, |stream| !stream.opened && !stream.inbound) {
                    self.with(stream, |stream| stream.opened = true);
                    let protocol = ProtocolId::from_static("/agreed");
                    self.net(NetEvent::Opened { stream, protocol });
                }
            }
            7..=10 => {
                let readable = |stream: &Stream| (stream.opened || stream.inbound) && !stream.ended;
                let Some(stream) = self.stream(source, readable) else { return };
                let frames = self.streams.get(&stream).map_or(source.coin(), |stream| stream.frames);
                if frames {
                    let data = self.model.frame(source);
                    self.net(NetEvent::Frame { stream, data });
                } else {
                    let data = self.model.data(source, stream);
                    if !data.is_empty() || self.rude {
                        self.net(NetEvent::Data { stream, data });
                    }
                }
            }
            11 => {
                let readable = |stream: &Stream| (stream.opened || stream.inbound) && !stream.ended;
                if let Some(stream) = self.stream(source, readable) {
                    self.with(stream, |stream| stream.ended = true);
                    self.net(NetEvent::End { stream });
                }
            }
            12 => {
                if let Some(stream) = self.stream(source, |stream| stream.wants && !stream.stopped) {
                    self.with(stream, |stream| stream.wants = false);
                    self.net(NetEvent::Writable { stream });
                }
            }
            13 => {
                let all_sent = |stream: &Stream| stream.finished && !stream.delivered && !stream.stopped;
                if let Some(stream) = self.stream(source, all_sent) {
                    self.with(stream, |stream| stream.delivered = true);
                    self.net(NetEvent::Delivered { stream });
                }
            }
            14 => {
                let open = |stream: &Stream| (stream.opened || stream.inbound) && !stream.stopped;
                if let Some(stream) = self.stream(source, open) {
                    self.with(stream, |stream| stream.stopped = true);
                    self.net(NetEvent::Stopped { stream, code: source.long() });
                }
            }
            15 => {
                let errors = [
                    StreamError::Unsupported,
                    StreamError::TimedOut,
                    StreamError::Reset(source.byte().into()),
                    StreamError::EndedEarly,
                    StreamError::Negotiation("no".into()),
                ];
                let error = source.pick(&errors).cloned().unwrap_or(StreamError::Finished);
                if let Some(stream) = self.stream(source, |_| true) {
                    self.fail(stream, error);
                }
            }
            16 => {
                let hour = Duration::from_secs(3600);
                let to = self.harness.now() + source.span().min(hour);
                self.advance(to);
            }
            17 => {
                let address = ([203, 0, 113, source.byte()], source.short()).into();
                self.net(NetEvent::Moved { conn, address });
            }
            _ => {
                let effects = self.model.call(&mut self.harness, source, conn, !self.rude);
                self.took(&effects);
            }
        }
        self.fail_doomed();
        for conn in core::mem::take(&mut self.fallen) {
            self.disconnect(conn);
        }
        if !self.rude {
            let ceiling = 4 * (self.conns.len() + self.streams.len()) + 4096;
            assert!(self.harness.machine.held() <= ceiling);
        }
    }

    fn inbound(&mut self, source: &mut Source<'_>, conn: ConnId) {
        if self.streams.len() >= 64 {
            return;
        }
        self.next += 1;
        let stream = StreamId::invented(1 << 40 | self.next);
        let protocol = source.pick(N::INBOUND).cloned().unwrap_or(ProtocolId::from_static("/none"));
        let peer = self.conns.get(&conn).copied().unwrap_or_else(|| peer(0));
        let frames = matches!(N::FRAMING, Framing::Frames { .. });
        self.streams.insert(stream, Stream { conn: Some(conn), inbound: true, frames, ..Stream::default() });
        self.net(NetEvent::Inbound { stream, conn, peer, protocol });
    }
}

fn keypair(number: u8) -> peerwork::Keypair {
    peerwork::Keypair::from_seed(Rng::from_seed(number.into()).array())
}

fn peer(number: u8) -> PeerId {
    // The keys cost more than all the rest of a step.
    static KNOWN: std::sync::OnceLock<[PeerId; 4]> = std::sync::OnceLock::new();
    let known = KNOWN.get_or_init(|| [0, 1, 2, 3].map(|number| keypair(number).peer_id()));
    known[usize::from(number) % known.len()]
}

struct IdentifyModel;

fn address(source: &mut Source<'_>) -> Multiaddr {
    let ip = match source.below(4) {
        0 => [10, 0, 0, source.byte()],
        1 => [198, 51, 100, source.byte()],
        2 => [127, 0, 0, 1],
        _ => [source.byte(), 8, 8, 8],
    };
    peerwork::transport::addr::to_multiaddr((ip, source.short()).into())
}

impl Model<Identify> for IdentifyModel {
    const INBOUND: &'static [ProtocolId] = &[identify::IDENTIFY, identify::PUSH];
    const FRAMING: Framing = identify::FRAMING;

    fn call(&mut self, harness: &mut Harness<Identify>, source: &mut Source<'_>, conn: ConnId, _: bool) -> Effects {
        match source.below(3) {
            0 => harness.local.listen_addrs = (0..source.below(80)).map(|_| address(source)).collect(),
            1 => harness.local.protocols.push(identify::PUSH),
            _ => {
                let info = PeerInfo {
                    peer: peer(source.byte()),
                    agent_version: String::new(),
                    protocol_version: String::new(),
                    protocols: Vec::new(),
                    listen_addrs: Vec::new(),
                    signed: false,
                    observed_addr: None,
                };
                return harness.signal(&Signal::Identified { conn, info: info.into() });
            }
        }
        harness.local.protocols.truncate(4);
        harness.signal(&Signal::LocalChanged)
    }

    fn frame(&mut self, source: &mut Source<'_>) -> Bytes {
        if source.coin() {
            return Bytes::copy_from_slice(source.chunk());
        }
        let keypair = keypair(source.byte() % 4);
        let listen_addrs: Vec<Multiaddr> = (0..source.below(8)).map(|_| address(source)).collect();
        let record = peerwork::identity::PeerRecord {
            peer_id: keypair.peer_id(),
            seq: source.long(),
            addresses: listen_addrs.clone(),
        };
        let sealed = record.seal(&keypair).ok().filter(|_| source.coin());
        let message = IdentifyMessage {
            public_key: source.coin().then(|| keypair.public().encode_protobuf().into()),
            listen_addrs,
            protocols: if source.coin() { vec![identify::PUSH] } else { Vec::new() },
            observed_addr: source.coin().then(|| address(source)),
            protocol_version: None,
            agent_version: source.coin().then(|| String::from_utf8_lossy(source.chunk()).into_owned()),
            signed_peer_record: sealed.map(|sealed| sealed.encode().into()),
        };
        message.encode().swap_remove(0)
    }

    fn after(&mut self, effects: &Effects) {
        for event in &effects.events {
            if let Event::Identified { info, .. } = event {
                assert!(info.listen_addrs.len() <= 64 && info.agent_version.len() <= 512);
            }
        }
    }
}

#[derive(Default)]
struct PingModel {
    /// Pings under way.
    asked: BTreeMap<StreamId, ConnId>,
    nonces: BTreeMap<StreamId, Bytes>,
    up: BTreeSet<ConnId>,
    /// What came in on the streams of peers, and how much of it went back.
    echoes: BTreeMap<StreamId, (Vec<u8>, usize)>,
}

impl Model<Ping> for PingModel {
    const INBOUND: &'static [ProtocolId] = &[ping::PING];
    const FRAMING: Framing = Framing::Raw;

    fn call(&mut self, harness: &mut Harness<Ping>, _: &mut Source<'_>, conn: ConnId, _: bool) -> Effects {
        let (known, effects) = fuzzing::ping(harness, conn);
        assert!(known || !self.up.contains(&conn));
        effects
    }

    fn data(&mut self, source: &mut Source<'_>, stream: StreamId) -> Bytes {
        match self.nonces.get(&stream) {
            Some(nonce) if !source.byte().is_multiple_of(4) => nonce.slice(..(source.below(34)).min(nonce.len())),
            _ if source.coin() => Bytes::from(vec![source.byte(); 4096]),
            _ => Bytes::copy_from_slice(source.chunk()),
        }
    }

    fn before(&mut self, event: &NetEvent) {
        match event {
            NetEvent::Connected { conn, .. } => drop(self.up.insert(*conn)),
            NetEvent::Disconnected { conn, .. } => drop(self.up.remove(conn)),
            NetEvent::Inbound { stream, .. } => drop(self.echoes.insert(*stream, Default::default())),
            NetEvent::Data { stream, data } => {
                if let Some((heard, _)) = self.echoes.get_mut(stream) {
                    heard.extend_from_slice(data);
                }
            }
            _ => {}
        }
    }

    fn after(&mut self, effects: &Effects) {
        for action in &effects.actions {
            match action {
                Action::Open { stream, conn, .. } => {
                    let another = self.asked.values().any(|asked| asked == conn);
                    // The last one's end and the next one's beginning may come in one call.
                    let ended =
                        effects.events.iter().any(|event| matches!(event, Event::Ping { conn: c, .. } if c == conn));
                    assert!(!another || ended, "two pings at once on {conn}");
                    self.asked.insert(*stream, *conn);
                }
                Action::Write { stream, data } => match self.echoes.get_mut(stream) {
                    Some((heard, echoed)) => {
                        assert!(heard[*echoed..].starts_with(data), "an echo that nobody sent");
                        *echoed += data.len();
                    }
                    None => {
                        assert_eq!(data.len(), 32);
                        self.nonces.insert(*stream, data.clone());
                    }
                },
                _ => {}
            }
        }
        for event in &effects.events {
            let Event::Ping { conn, .. } = event else { panic!("{event:?} from ping") };
            let stream = self.asked.iter().find(|(_, asked)| *asked == conn).map(|(stream, _)| *stream);
            let stream = stream.expect("a ping ends that was not under way");
            self.asked.remove(&stream);
        }
    }

    fn over(&mut self, _: &mut Harness<Ping>) {
        assert!(self.asked.is_empty(), "pings without an end: {:?}", self.asked);
    }
}

#[derive(Default)]
struct PerfModel {
    waiting: BTreeSet<PerfId>,
    /// For each stream of a peer: what it asked for, how many bytes of that number came, what was sent.
    served: BTreeMap<StreamId, (Vec<u8>, u64)>,
}

impl Model<Perf> for PerfModel {
    const INBOUND: &'static [ProtocolId] = &[perf::PERF];
    const FRAMING: Framing = Framing::Raw;

    fn call(&mut self, harness: &mut Harness<Perf>, source: &mut Source<'_>, conn: ConnId, _: bool) -> Effects {
        let amount = |source: &mut Source<'_>| if source.coin() { source.long() } else { source.short().into() };
        let (perf, effects) = fuzzing::perf(harness, conn, amount(source), amount(source));
        assert!(self.waiting.insert(perf), "an id twice");
        effects
    }

    fn before(&mut self, event: &NetEvent) {
        match event {
            NetEvent::Inbound { stream, .. } => drop(self.served.insert(*stream, Default::default())),
            NetEvent::Data { stream, data } => {
                if let Some((header, _)) = self.served.get_mut(stream) {
                    header.extend_from_slice(data);
                }
            }
            _ => {}
        }
    }

    fn after(&mut self, effects: &Effects) {
        let mut written = 0;
        for action in &effects.actions {
            if let Action::Write { stream, data } = action {
                written += data.len();
                if let Some((header, sent)) = self.served.get_mut(stream) {
                    *sent += data.len() as u64;
                    let asked = header.first_chunk().map_or(0, |asked| u64::from_be_bytes(*asked));
                    assert!(*sent <= asked, "more was sent than asked for");
                }
            }
        }
        assert!(written <= 1 << 20, "{written} bytes were queued at once");
        for event in &effects.events {
            let Event::Perf { perf, .. } = event else { panic!("{event:?} from perf") };
            assert!(self.waiting.remove(perf), "{perf} ended twice");
        }
    }

    fn over(&mut self, _: &mut Harness<Perf>) {
        assert!(self.waiting.is_empty(), "measurements without an end: {:?}", self.waiting);
    }
}

const SERVED: ProtocolId = ProtocolId::from_static("/served");
const ASKED: ProtocolId = ProtocolId::from_static("/asked");

#[derive(Default)]
struct RequestModel {
    /// Requests sent that have not ended.
    waiting: BTreeSet<peerwork::RequestId>,
    /// Requests received that were not answered, by id, with what they hold.
    received: BTreeMap<peerwork::RequestId, Option<Bytes>>,
    /// Responses that were not taken.
    answers: BTreeMap<peerwork::RequestId, usize>,
    last_frame: Bytes,
    ended: Vec<peerwork::RequestId>,
}

impl RequestModel {
    fn some(&self, source: &mut Source<'_>) -> peerwork::RequestId {
        let all = || self.waiting.iter().chain(self.received.keys()).chain(&self.ended);
        let at = source.below(all().count());
        let known = all().nth(at).copied();
        known.unwrap_or_else(|| peerwork::RequestId::invented(source.byte().into()))
    }
}

impl Model<Request> for RequestModel {
    const INBOUND: &'static [ProtocolId] = &[SERVED, ASKED, ProtocolId::from_static("/unknown")];
    const FRAMING: Framing = Framing::Frames { max: 64 };

    fn call(&mut self, harness: &mut Harness<Request>, source: &mut Source<'_>, conn: ConnId, strict: bool) -> Effects {
        let which = source.below(5);
        if which == 4 {
            let request = self.some(source);
            let taken = fuzzing::request_take(harness, request);
            if !strict {
                return Effects::default();
            }
            if let Some(held) = self.received.get_mut(&request) {
                assert_eq!(taken, held.take());
            } else {
                assert_eq!(taken.map(|taken| taken.len()), self.answers.remove(&request));
            }
            return Effects::default();
        }
        let request = self.some(source);
        let data = Bytes::copy_from_slice(source.chunk());
        let len = data.len();
        let call = match which {
            0 => {
                let protocols = [SERVED, ASKED, ProtocolId::from_static("/unknown")];
                let protocol = source.pick(&protocols).cloned().unwrap_or(SERVED);
                RequestCall::Send(conn, protocol, data)
            }
            1 => RequestCall::Respond(request, data),
            2 => RequestCall::Refuse(request),
            _ => RequestCall::Cancel(request),
        };
        let (result, effects) = fuzzing::request(harness, call.clone());
        if !strict {
            return effects;
        }
        match (&call, &result) {
            (RequestCall::Send(_, protocol, _), Ok(Some(request))) => {
                assert!(*protocol == ASKED || (*protocol == SERVED && len <= 64));
                assert!(self.waiting.insert(*request), "an id twice");
                let written: Vec<u8> = effects.actions.iter().filter_map(written).flatten().copied().collect();
                let prefix = varint::encode(len as u64);
                assert!(written.starts_with(prefix.as_slice()) && written.len() == prefix.as_slice().len() + len);
            }
            (RequestCall::Send(..), Err(RequestError::UnknownProtocol | RequestError::TooLarge { .. })) => {}
            (RequestCall::Respond(request, _) | RequestCall::Refuse(request), Ok(None)) => {
                assert!(self.received.remove(request).is_some(), "an answer to nothing");
                self.ended.push(*request);
            }
            (RequestCall::Respond(request, _), Err(RequestError::TooLarge { .. })) => {
                assert!(len > 64 && self.received.contains_key(request));
            }
            (RequestCall::Cancel(request), Ok(None)) => assert!(self.waiting.contains(request)),
            (RequestCall::Cancel(request), Err(RequestError::UnknownRequest)) => {
                assert!(!self.waiting.contains(request));
            }
            (RequestCall::Respond(request, _) | RequestCall::Refuse(request), Err(RequestError::UnknownRequest)) => {
                assert!(!self.received.contains_key(request));
            }
            other => panic!("{other:?}"),
        }
        effects
    }

    fn before(&mut self, event: &NetEvent) {
        if let NetEvent::Frame { data, .. } = event {
            self.last_frame = data.clone();
        }
    }

    fn after(&mut self, effects: &Effects) {
        for event in &effects.events {
            match event {
                Event::Response { request, result } => {
                    assert!(self.waiting.remove(request), "{request} ended twice");
                    if let Ok(len) = result {
                        assert_eq!(*len, self.last_frame.len());
                        self.answers.insert(*request, *len);
                    }
                    self.ended.push(*request);
                }
                Event::Request { request, len, protocol, .. } => {
                    assert_eq!((*len, protocol), (self.last_frame.len(), &SERVED));
                    let before = self.received.insert(*request, Some(self.last_frame.clone()));
                    assert!(before.is_none(), "an id twice");
                }
                Event::RequestDropped { request } => {
                    assert!(self.received.remove(request).is_some(), "{request} ended twice");
                    self.ended.push(*request);
                }
                other => panic!("{other:?} from request"),
            }
        }
        for action in &effects.actions {
            if let Action::Fault { fault, .. } = action {
                assert_eq!(*fault, PeerFault::BadRequest);
            }
        }
    }

    fn over(&mut self, harness: &mut Harness<Request>) {
        for (answer, len) in core::mem::take(&mut self.answers) {
            let taken = fuzzing::request_take(harness, answer);
            assert_eq!(taken.map(|taken| taken.len()), Some(len));
        }
        assert!(self.waiting.is_empty(), "requests without a response: {:?}", self.waiting);
        assert!(self.received.is_empty(), "requests that were neither answered nor dropped");
    }
}

fn written(action: &Action) -> Option<&Bytes> {
    match action {
        Action::Write { data, .. } => Some(data),
        _ => None,
    }
}
