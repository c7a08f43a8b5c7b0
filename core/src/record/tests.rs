#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests are no part of the core")]

use std::{
    collections::{BTreeSet, VecDeque},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6},
    num::NonZeroUsize,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use multiaddr::Multiaddr;
use proptest::prelude::*;

use super::*;
use crate::{
    BoundSocket, Command, ConnId, Datagram, Dial, Entropy, Event, Input, Keypair, Node, Output, Platform, ProtocolId,
    RequestId, Rng, Seed, SocketId, StreamId, Transmit, TransmitBuf,
    config::{ConnectionLimits, DialConfig, IdentifyConfig, PingConfig, QuicConfig, RequestConfig},
    io::{Answer, Ecn, IoError, IoErrorKind, ResolveId},
};

fn platform() -> Platform {
    Platform::new(Arc::new(rustls::crypto::ring::default_provider()), Instant::now())
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A log in memory, and a sink that writes it.
fn log() -> (Arc<Mutex<Vec<u8>>>, Sink) {
    let log = Arc::new(Mutex::new(Vec::new()));
    let written = Arc::clone(&log);
    let sink = move |piece: &[u8]| {
        written.lock().unwrap().extend_from_slice(piece);
        ControlFlow::Continue(())
    };
    (log, Box::new(sink))
}

const WALL: UnixTime = UnixTime::from_secs(1_800_000_000);

type Batches = Vec<(Transmit, Vec<u8>)>;

/// A recorded node, and what came out of it.
struct Peer {
    node: Node,
    log: Arc<Mutex<Vec<u8>>>,
    address: SocketAddr,
    socket: Option<SocketId>,
    inbox: VecDeque<(SocketAddr, BytesMut)>,
    outputs: Vec<Output>,
    sent: Batches,
    conns: Vec<ConnId>,
    streams: Vec<StreamId>,
    requests: Vec<RequestId>,
}

impl Peer {
    fn new(seed: u64, port: u16) -> Self {
        let mut config = Config::new(platform());
        config.ping.interval = Some(millis(700));
        config.serve_perf = true;
        if seed.is_multiple_of(2) {
            config.identity = Some(Keypair::from_seed([seed as u8; 32]));
        }
        let (log, sink) = log();
        let node = Node::recorded(config, Box::new(Seed(seed)), Time::from_millis(5), WALL, sink).unwrap();
        Self {
            node,
            log,
            address: (Ipv4Addr::LOCALHOST, port).into(),
            socket: None,
            inbox: VecDeque::new(),
            outputs: Vec::new(),
            sent: Vec::new(),
            conns: Vec::new(),
            streams: Vec::new(),
            requests: Vec::new(),
        }
    }

    fn multiaddr(&self) -> Multiaddr {
        format!("/ip4/127.0.0.1/udp/{}/quic-v1", self.address.port()).parse().unwrap()
    }

    /// Takes some outputs, answers commands.
    fn drain(&mut self, now: Time, most: usize) {
        for _ in 0..most {
            let Some(output) = self.node.poll_output() else { return };
            self.outputs.push(output.clone());
            match output {
                Output::Command(Command::UdpBind { socket, .. }) => {
                    self.socket = Some(socket);
                    let bound = BoundSocket { local: self.address, max_segments: NonZeroUsize::new(4).unwrap() };
                    self.node.handle(now, Input::Bound { socket, result: Ok(bound) });
                }
                Output::Command(Command::Resolve { id, .. }) => {
                    let result = Err(IoError::new(IoErrorKind::NotFound, "nothing here"));
                    self.node.handle(now, Input::Resolved { id, result });
                }
                Output::Event(Event::Connected { conn, .. }) => self.conns.push(conn),
                Output::Event(Event::StreamInbound { stream, .. }) => self.streams.push(stream),
                Output::Event(Event::Request { request, .. } | Event::Response { request, .. }) => {
                    self.requests.push(request);
                }
                _ => {}
            }
        }
    }

    fn finish(mut self) -> (Vec<u8>, Vec<Output>, Batches, String) {
        self.node.stop_recording();
        let state = format!("{:?} {:?} {:?}", self.node.stats(), self.node.census(), self.node.poll_timeout());
        let log = core::mem::take(&mut *self.log.lock().unwrap());
        (log, self.outputs, self.sent, state)
    }
}

/// Takes what `from` sends, and gives most of it to `to`.
fn carry(from: &mut Peer, to: &mut Peer, now: Time, segments: usize, rng: &mut Rng) {
    loop {
        let mut data = vec![7; 3];
        let mut buf = TransmitBuf::new(&mut data, NonZeroUsize::new(segments).unwrap());
        let Some(transmit) = from.node.poll_transmit(now, &mut buf) else { return };
        let data = data.split_off(3);
        if transmit.to == to.address && rng.below(50) > 0 {
            let part = transmit.segment.map_or(data.len(), NonZeroUsize::get);
            to.inbox.extend(data.chunks(part.max(1)).map(|part| (from.address, BytesMut::from(part))));
        }
        from.sent.push((transmit, data));
        if rng.below(30) == 0 {
            return;
        }
    }
}

fn pick<T: Copy>(items: &[T], rng: &mut Rng) -> Option<T> {
    items.get(usize::try_from(rng.below(items.len() as u64)).unwrap()).copied()
}

/// Something that an application or driver might do, sensible or not.
fn whim(peer: &mut Peer, other: &Multiaddr, now: Time, rng: &mut Rng) {
    let protocols = [ProtocolId::from_static("/a/1"), ProtocolId::from_static("/b/1"), ProtocolId::from_static("/r/1")];
    let protocol = protocols[rng.below(3) as usize].clone();
    let conn = pick(&peer.conns, rng).unwrap_or(ConnId(9));
    let stream = pick(&peer.streams, rng).unwrap_or(StreamId(99));
    let request = pick(&peer.requests, rng).unwrap_or(RequestId(99));
    let socket = peer.socket.unwrap_or(SocketId(3));
    let node = &mut peer.node;
    match rng.below(34) {
        0 => drop(node.dial(now, Dial::address(other.clone()))),
        1 => drop(node.listen(now, "/ip4/127.0.0.1/udp/0/quic-v1".parse().unwrap())),
        2 => {
            if let Ok(listener) = node.listen(now, "/ip4/0.0.0.0/udp/9/quic-v1".parse().unwrap()) {
                node.unlisten(now, listener).unwrap();
            }
        }
        3 => {
            if let Ok(dial) = node.dial(now, Dial::address("/dns/nowhere.example/udp/1/quic-v1".parse().unwrap())) {
                node.cancel_dial(now, dial).unwrap();
            }
        }
        4 => node.add_address(Keypair::from_seed([3; 32]).peer_id(), other.clone()),
        5 if rng.below(10) == 0 => drop(node.disconnect(now, conn, 7, "enough")),
        6 => drop(node.ping(now, conn)),
        7 => drop(node.perf(now, conn, 3_000, 5_000)),
        8 => drop(node.register(now, protocol)),
        9 => drop(node.unregister(now, &protocol)),
        10..=12 => {
            if let Ok(stream) = node.open_stream(now, conn, &[protocol]) {
                peer.streams.push(stream);
            }
        }
        13..=15 => {
            if let Ok(mut stream) = node.stream(now, stream) {
                let len = [10, 900, 1_452, 1_453, 5_000, 300_000][rng.below(6) as usize];
                let _ = stream.write(&vec![1; len]);
                let _ = stream.write(&[2; 20]);
            }
        }
        16 | 17 => {
            if let Ok(mut stream) = node.stream(now, stream) {
                let len = [10, 2_000, 9_000_000][rng.below(3) as usize];
                let mut data = Bytes::from(vec![3; len]);
                let _ = stream.write_bytes(&mut data);
            }
        }
        18..=20 => {
            if let Ok(mut stream) = node.stream(now, stream) {
                let _ = stream.read(rng.below(5_000) as usize);
                let _ = stream.read_into(&mut [0; 2_000]);
            }
        }
        21 => drop(node.stream(now, stream).map(|mut stream| stream.finish())),
        22 => drop(node.stream(now, stream).map(|mut stream| stream.reset(5))),
        23 => {
            if let Ok(mut stream) = node.stream(now, stream) {
                stream.reset(1);
                stream.stop(1);
                // By now it may be gone.
                stream.close();
            }
        }
        24 => {
            let config = RequestConfig { serve: rng.below(4) > 0, ..RequestConfig::default() };
            drop(node.requests(now).register(ProtocolId::from_static("/r/1"), config));
        }
        25 | 26 => {
            let data = Bytes::from(vec![4; rng.below(3_000) as usize]);
            if let Ok(request) = node.requests(now).send(conn, &ProtocolId::from_static("/r/1"), data) {
                peer.requests.push(request);
            }
        }
        27 => drop(node.requests(now).take(request)),
        28 => drop(node.requests(now).respond(request, Bytes::from_static(b"yes"))),
        29 => drop(node.requests(now).refuse(request)),
        30 => drop(node.requests(now).cancel(request)),
        31 => {
            node.handle(now, Input::SocketBlocked { socket });
            node.handle(now, Input::Interfaces(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]));
            node.handle(now, Input::SocketReady { socket });
        }
        32 => {
            // A clock that steps back, and a look that only moves the time.
            let _ = node.stream(now + millis(2), stream);
            let _ = node.stream(now, stream).map(|stream| stream.is_delivered());
            node.add_address(Keypair::from_seed([4; 32]).peer_id(), other.clone());
        }
        _ => node.handle(now, Input::WallClock(WALL + now.since(Time::ZERO))),
    }
}

/// Two recorded nodes that did all sorts of things.
fn mayhem(seed: u64, steps: u32) -> [Peer; 2] {
    let rng = &mut Rng::from_seed(seed);
    let (mut a, mut b) = (Peer::new(seed, 1), Peer::new(seed + 1, 2));
    let mut now = Time::from_millis(5);
    for peer in [&mut a, &mut b] {
        peer.node.listen(now, peer.multiaddr()).unwrap();
        peer.drain(now, 100);
    }
    a.node.dial(now, Dial::address(b.multiaddr())).unwrap();
    for _ in 0..steps {
        let (here, there) = if rng.below(2) == 0 { (&mut a, &mut b) } else { (&mut b, &mut a) };
        if rng.below(3) == 0 {
            whim(here, &there.multiaddr(), now, rng);
        }
        carry(here, there, now, 1 + rng.below(5) as usize, rng);
        for _ in 0..rng.below(20) {
            let (Some(socket), Some((from, data))) = (here.socket, here.inbox.pop_front()) else { break };
            let datagram = Datagram { to_ip: None, ecn: Some(Ecn::Ect0), segment: None, socket, from, data };
            here.node.handle(now, Input::Datagram(datagram));
        }
        here.drain(now, rng.below(8) as usize);
        if rng.below(3) == 0 {
            now += Duration::from_micros(rng.below(20_000));
            here.node.handle(now, Input::Wake);
        }
    }
    a.node.shutdown(now);
    carry(&mut a, &mut b, now, 1, rng);
    a.drain(now, 1_000);
    [a, b]
}

/// Everything that a replay gives.
fn replay(log: &[u8]) -> (Replay<'_>, Vec<Output>, Batches, BTreeSet<String>) {
    let mut replay = Replay::new(log, platform()).unwrap();
    let (mut outputs, mut sent, mut kinds) = (Vec::new(), Vec::new(), BTreeSet::new());
    while let Some(step) = replay.step().unwrap_or_else(|error| panic!("{error}")) {
        let name = format!("{:?}", step.call);
        kinds.insert(name.split([' ', '(']).next().unwrap().to_owned());
        assert!(!step.call.to_string().is_empty());
        outputs.extend(step.outputs);
        sent.extend(step.sent.into_iter().map(|sent| (sent.transmit, sent.data)));
    }
    (replay, outputs, sent, kinds)
}

#[test]
fn whatever_two_nodes_do_a_replay_of_each_does_the_same() {
    let mut kinds = BTreeSet::new();
    let mut connected = 0;
    for seed in 0..24 {
        for peer in mayhem(seed, 600) {
            let (log, outputs, sent, state) = peer.finish();
            let (replay, replayed, resent, seen) = replay(&log);
            assert_eq!(replay.ending(), Some(Ending::Complete), "seed {seed}");
            assert_eq!(replayed, outputs, "seed {seed}");
            assert_eq!(resent, sent, "seed {seed}");
            let node = replay.node();
            assert_eq!(format!("{:?} {:?} {:?}", node.stats(), node.census(), node.poll_timeout()), state);
            assert!(replay.totals().marks >= replay.totals().entries / 80, "{:?}", replay.totals());
            connected += outputs.iter().filter(|o| matches!(o, Output::Event(Event::Identified { .. }))).count();
            kinds.extend(seen);
        }
    }
    assert!(connected > 20, "{connected} were identified");
    // Adding a call means to add it here, and to `whim`.
    let all = "AddAddress CancelDial CancelRequest Close Dial Disconnect Finish Handle Listen Mark OpenStream Outputs \
               Perf Ping Read Refuse Register RegisterRequests Reset Respond SendRequest Shutdown Stop TakeRequest Touch \
               Transmits Unlisten Unregister Write";
    assert_eq!(kinds, all.split_whitespace().map(str::to_owned).collect());
}

#[test]
fn a_node_that_is_recorded_behaves_as_one_that_is_not() {
    let run = |record: bool| {
        let config = || Config::new(platform());
        let start = (Time::from_millis(5), WALL);
        let mut node = if record {
            Node::recorded(config(), Box::new(Seed(4)), start.0, start.1, log().1).unwrap()
        } else {
            Node::new(config(), Box::new(Seed(4)), start.0, start.1).unwrap()
        };
        assert_eq!(node.is_recording(), record);
        node.dial(start.0, Dial::address("/ip4/127.0.0.1/udp/9/quic-v1".parse().unwrap())).unwrap();
        let mut seen = String::new();
        for step in 0..100 {
            let now = start.0 + millis(step * 37);
            node.handle(now, Input::Wake);
            while let Some(output) = node.poll_output() {
                seen += &format!("{output:?}\n");
                if let Output::Command(Command::UdpBind { socket, .. }) = output {
                    let local = (Ipv4Addr::LOCALHOST, 40_000).into();
                    node.handle(now, Input::Bound { socket, result: Ok(BoundSocket::new(local)) });
                }
            }
            let mut data = Vec::new();
            while let Some(transmit) = node.poll_transmit(now, &mut TransmitBuf::single(&mut data)) {
                seen += &format!("{transmit:?} {data:?}\n");
                data.clear();
            }
        }
        (seen, format!("{:?} {:?}", node.stats(), node.census()))
    };
    assert_eq!(run(true), run(false));
}

#[test]
fn a_log_cut_anywhere_replays_up_to_the_cut() {
    let [a, _] = mayhem(3, 60);
    let (log, outputs, ..) = a.finish();
    let start = Replay::new(&log, platform()).unwrap().totals().bytes as usize;
    let (mut torn, mut unfinished) = (0, 0);
    for len in start..log.len() {
        // Whole nodes are made again, so not from everywhere.
        if len + 300 < log.len() && !len.is_multiple_of(97) {
            continue;
        }
        let (replay, replayed, ..) = replay(&log[..len]);
        assert_eq!(replayed[..], outputs[..replayed.len()]);
        match replay.ending() {
            Some(Ending::Torn { bytes }) => {
                torn += 1;
                assert_eq!(replay.totals().bytes + bytes, len as u64);
            }
            Some(Ending::Unfinished) => unfinished += 1,
            other => panic!("{other:?}"),
        }
    }
    assert!(torn > 100 && unfinished > 3, "{torn} {unfinished}");
    for len in 0..start {
        let error = Replay::new(&log[..len], platform()).unwrap_err();
        let expected = if len == 0 { ReplayError::Empty } else { ReplayError::NoStart(len as u64) };
        assert_eq!(error, expected);
    }
}

#[test]
fn what_is_no_log_or_one_of_another_version_is_refused_with_words() {
    let open = |bytes: &[u8]| Replay::new(bytes, platform()).unwrap_err();
    assert_eq!(open(b""), ReplayError::Empty);
    assert_eq!(open(b"#!/bin/sh\necho something else"), ReplayError::Foreign);
    assert_eq!(open(b"peer pressure"), ReplayError::Foreign);
    let [a, _] = mayhem(1, 1);
    let (mut log, ..) = a.finish();
    log[12] = 9;
    assert_eq!(open(&log), ReplayError::Version { found: 9 });
    assert!(open(&log).to_string().contains("version 9"));
    // A length that no memory would hold.
    let mut huge = MAGIC.to_vec();
    huge.extend_from_slice(&[1, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]);
    assert!(matches!(open(&huge), ReplayError::BadStart(_)));
    huge.truncate(14);
    // One that is just allowed, and that nothing follows.
    huge.extend_from_slice(varint::encode(MAX_ENTRY as u64).as_slice());
    assert!(matches!(open(&huge), ReplayError::NoStart(_)));
}

#[test]
fn a_difference_is_found_at_the_call_that_makes_it() {
    let [a, _] = mayhem(6, 400);
    let (log, ..) = a.finish();
    // A node of another root, as another build of the core would be: its first packets differ.
    let mut reader = Replay::new(&log, platform()).unwrap();
    reader.node.recorder().unwrap().told_bytes(b"a whim");
    let error = loop {
        match reader.step() {
            Ok(step) => assert!(step.is_some(), "the difference was not seen"),
            Err(error) => break error,
        }
    };
    let ReplayError::Diverged(difference) = error else { panic!("{error}") };
    assert!(difference.entry <= 2, "{difference}");
    assert_eq!(difference.intact, Some(true), "{difference}");
    assert!(difference.to_string().contains("The log itself is sound"), "{difference}");
}

#[test]
fn the_sink_ends_the_recording_and_the_node_goes_on() {
    let mut pieces = 0;
    let sink = Box::new(move |_: &[u8]| {
        pieces += 1;
        if pieces > 4 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    let mut node = Node::recorded(Config::new(platform()), Box::new(Seed(1)), Time::ZERO, WALL, sink).unwrap();
    for step in 0..10 {
        assert_eq!(node.is_recording(), step < 2);
        node.handle(Time::from_millis(step), Input::Wake);
    }
    assert_eq!(node.stats().inputs, 10);
}

/// Everything about a configuration is in the log. A field that is missing here fails to compile.
#[test]
fn no_field_of_a_configuration_is_left_out() {
    let second = Duration::from_secs;
    let config = Config {
        platform: None,
        identity: None,
        agent_version: "agent".into(),
        protocol_version: "protocol".into(),
        quic: QuicConfig {
            idle_timeout: second(31),
            keep_alive: None,
            initial_streams: 1,
            max_streams: 2,
            stream_window: 20_000,
            connection_window: 30_000,
            send_window: 40_000,
            mtu_discovery: false,
            retry_above: 5,
            address_discovery: false,
        },
        limits: ConnectionLimits {
            pending_in: 1,
            pending_out: 2,
            established_in: 3,
            established_out: 4,
            established: 5,
            per_peer: 6,
        },
        dial: DialConfig { timeout: second(1), attempt_timeout: second(2), stagger: second(3) },
        identify: IdentifyConfig { timeout: second(4), push_delay: second(5) },
        ping: PingConfig { interval: None, timeout: second(6), max_unanswered: 7 },
        serve_perf: true,
    };
    let bytes = postcard::to_allocvec(&config).unwrap();
    let read: Config = postcard::from_bytes(&bytes).unwrap();
    assert_eq!(format!("{read:?}"), format!("{config:?}"));
    let default = format!("{:?}", Config::default());
    for line in format!("{config:#?}").lines().filter(|line| line.contains(": ") && !line.ends_with(['{', '('])) {
        let shown = line.trim().trim_end_matches(',');
        let kept = shown.starts_with("platform") || shown.starts_with("identity: None") || shown == "interval: None";
        assert!(kept || !default.contains(&format!("{shown},")) || shown.ends_with("None"), "{shown} is the default");
    }
}

#[test]
fn the_identity_is_in_the_log_and_not_in_the_configuration() {
    let identity = Keypair::from_seed([9; 32]);
    let mut config = Config::new(platform());
    config.identity = Some(identity.clone());
    let secret = [9; 32];
    let holds = |bytes: &[u8]| bytes.windows(32).any(|window| window == secret);
    assert!(!holds(&postcard::to_allocvec(&config).unwrap()));
    let (log, sink) = log();
    let node = Node::recorded(config, Box::new(Seed(1)), Time::ZERO, WALL, sink).unwrap();
    drop(node);
    let log = log.lock().unwrap();
    assert!(holds(&log));
    assert_eq!(Replay::new(&log, platform()).unwrap().node().peer_id(), identity.peer_id());
}

fn error() -> IoError {
    IoError::new(IoErrorKind::Unreachable, "no way")
}

#[test]
fn every_input_comes_back_as_it_was() {
    let scoped = SocketAddr::from(SocketAddrV6::new(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1), 4001, 7, 3));
    let socket = SocketId(4);
    let data = BytesMut::from(&[5_u8; 300][..]);
    let bound = BoundSocket { local: scoped, max_segments: NonZeroUsize::new(64).unwrap() };
    let kinds = [
        IoErrorKind::AddressInUse,
        IoErrorKind::AddressNotAvailable,
        IoErrorKind::PermissionDenied,
        IoErrorKind::Unreachable,
        IoErrorKind::NotFound,
        IoErrorKind::TimedOut,
        IoErrorKind::Other,
    ];
    let mut inputs = vec![
        Input::Wake,
        Input::Datagram(Datagram {
            socket,
            from: scoped,
            to_ip: Some(IpAddr::V6(Ipv6Addr::LOCALHOST)),
            ecn: Some(Ecn::Ce),
            segment: NonZeroUsize::new(100),
            data,
        }),
        Input::Datagram(Datagram::new(socket, (Ipv4Addr::LOCALHOST, 1).into(), b"")),
        Input::SocketBlocked { socket },
        Input::SocketReady { socket },
        Input::SendFailed { socket, to: scoped, error: error() },
        Input::Bound { socket, result: Ok(bound) },
        Input::Bound { socket, result: Err(error()) },
        Input::Resolved { id: ResolveId(1), result: Ok(Answer::Ips(vec![Ipv4Addr::LOCALHOST.into()])) },
        Input::Resolved { id: ResolveId(u64::MAX), result: Ok(Answer::Txt(vec!["dnsaddr=".into()])) },
        Input::Interfaces(vec![Ipv6Addr::LOCALHOST.into()]),
        Input::WallClock(UnixTime::from_nanos(u64::MAX)),
    ];
    inputs.extend(kinds.map(|kind| Input::SocketFailed { socket, error: IoError::new(kind, "") }));
    for input in &inputs {
        let bytes = postcard::to_allocvec(&Call::Handle(Held::Ref(input))).unwrap();
        let (call, rest) = postcard::take_from_bytes::<Call<'_>>(&bytes).unwrap();
        assert!(rest.is_empty());
        assert_eq!(format!("{call:?}"), format!("{:?}", Call::Handle(Held::Ref(input))).replace("Ref(", "Own("));
    }
}

/// Runs what may be no log, to its end or to an error.
fn survive(log: &[u8]) -> Option<ReplayError> {
    let mut replay = match Replay::new(log, platform()) {
        Ok(replay) => replay,
        Err(error) => return Some(error),
    };
    loop {
        match replay.step() {
            Ok(Some(_)) => {}
            Ok(None) => return None,
            Err(error) => return Some(error),
        }
    }
}

fn sample() -> &'static [u8] {
    static LOG: std::sync::LazyLock<Vec<u8>> = std::sync::LazyLock::new(|| {
        let [a, _] = mayhem(8, 150);
        a.finish().0
    });
    &LOG
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn a_flipped_bit_is_found_and_does_no_harm(at in any::<prop::sample::Index>(), bit in 0..8_u32) {
        let mut log = sample().to_vec();
        let at = at.index(log.len());
        log[at] ^= 1 << bit;
        match survive(&log) {
            // A log that seems to go on behind its end is torn, if the length of its last entries is what was changed.
            None => prop_assert!(matches!(replay(&log).0.ending(), Some(Ending::Torn { .. })), "not seen at {at}"),
            Some(error) => {
                prop_assert!(!error.to_string().is_empty());
                if let ReplayError::Diverged(difference) = error {
                    prop_assert_ne!(difference.intact, Some(true));
                }
            }
        }
    }

    #[test]
    fn random_bytes_behind_a_good_start_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..300), cut in 0..400_usize) {
        let mut log = sample()[..sample().len().min(200 + cut)].to_vec();
        log.extend_from_slice(&bytes);
        survive(&log);
    }
}

/// Not a test: prints what recording costs. `cargo test --release -p peerwork --features record -- --ignored cost`
#[test]
#[ignore = "a measurement"]
fn cost() {
    let entropy: Box<dyn Entropy> = Box::new(Seed(1));
    let mut node = Node::new(Config::new(platform()), entropy, Time::ZERO, WALL).unwrap();
    let sink: Sink = Box::new(|_| ControlFlow::Continue(()));
    let mut recorded = Node::recorded(Config::new(platform()), Box::new(Seed(1)), Time::ZERO, WALL, sink).unwrap();
    let mut data = BytesMut::zeroed(1_200);
    data[0] = 0x40;
    let from = (Ipv4Addr::LOCALHOST, 1).into();
    for (name, node) in [("bare", &mut node), ("recorded", &mut recorded)] {
        const ROUNDS: u32 = 200_000;
        let measure = |what: &str, run: &mut dyn FnMut(Time)| {
            let begun = Instant::now();
            for round in 0..ROUNDS {
                run(Time::from_nanos(u64::from(round) * 1_000));
            }
            println!("{name}: {what} {} ns", begun.elapsed().as_nanos() / u128::from(ROUNDS));
        };
        measure("wake", &mut |now| node.handle(now, Input::Wake));
        measure("poll_transmit", &mut |now| {
            let _ = node.poll_transmit(now, &mut TransmitBuf::single(&mut Vec::new()));
        });
        let copy = || BytesMut::from(&data[..]);
        measure("a dropped datagram of 1200 bytes", &mut |now| {
            node.handle(now, Input::Datagram(Datagram { data: copy(), ..Datagram::new(SocketId(0), from, b"") }));
        });
    }
}
