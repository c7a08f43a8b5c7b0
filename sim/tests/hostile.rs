//! What a hostile reviewer tried: odd orders, losses in the middle of things, peers that stop and stall.

use std::num::NonZeroUsize;

use bytes::Bytes;
use peerwork::{
    AttemptError, BoundSocket, Census, Command, Config, Datagram, Dial, DialFailure, Event, Input, Multiaddr, Node,
    Output, ProtocolId, Read, Seed, SocketId, StreamError, StreamId, Time, TransmitBuf, UnixTime,
    config::RequestConfig,
    io::{Answer, IoError, IoErrorKind},
};
use peerwork_sim::{Handling, HostId, World, config, millis, secs};

fn echo() -> ProtocolId {
    ProtocolId::from_static("/echo/1.0.0")
}

fn pair_with(seed: u64, of_a: Config, of_b: Config) -> (World, HostId, HostId) {
    let mut world = World::new(seed);
    let (a, b) = (world.add_with(of_a), world.add_with(of_b));
    let address = world.listen(b);
    world.call(b, |node, now| node.register(now, echo())).unwrap();
    world.call(a, |node, now| node.dial(now, Dial::address(address))).unwrap();
    world.run_for(secs(2));
    assert_eq!(world.node(a).connections().count(), 1);
    world.take_events(a);
    world.take_events(b);
    (world, a, b)
}

fn pair(seed: u64) -> (World, HostId, HostId) {
    pair_with(seed, config(), config())
}

fn quiet() -> Config {
    let mut config = config();
    config.ping.interval = None;
    config
}

fn open(world: &mut World, host: HostId, protocols: &[ProtocolId]) -> StreamId {
    let conn = world.node(host).connections().next().unwrap().conn;
    world.call(host, |node, now| node.open_stream(now, conn, protocols)).unwrap()
}

fn inbound(world: &World, host: HostId) -> StreamId {
    let found = world.events(host).iter().rev().find_map(|(_, event)| match event {
        Event::StreamInbound { stream, .. } => Some(*stream),
        _ => None,
    });
    found.expect("an inbound stream")
}

fn write(world: &mut World, host: HostId, stream: StreamId, data: &[u8]) -> usize {
    world.call(host, |node, now| node.stream(now, stream).unwrap().write(data)).unwrap()
}

fn finish(world: &mut World, host: HostId, stream: StreamId) {
    world.call(host, |node, now| node.stream(now, stream).unwrap().finish()).unwrap();
}

/// Reads all that is there, and says whether the end was seen.
fn read(world: &mut World, host: HostId, stream: StreamId) -> (Vec<u8>, Result<bool, StreamError>) {
    world.call(host, |node, now| {
        let mut all = Vec::new();
        let mut handle = node.stream(now, stream).expect("the stream");
        loop {
            match handle.read(1 << 20) {
                Ok(Read::Data(data)) => all.extend_from_slice(&data),
                Ok(Read::Blocked) => return (all, Ok(false)),
                Ok(Read::End) => return (all, Ok(true)),
                Err(error) => return (all, Err(error)),
            }
        }
    })
}

fn disconnect(world: &mut World, host: HostId) {
    let conn = world.node(host).connections().next().unwrap().conn;
    world.call(host, |node, now| node.disconnect(now, conn, 0, "")).unwrap();
}

fn names(event: &Event, id: StreamId) -> bool {
    match event {
        Event::StreamReadable { stream } | Event::StreamWritable { stream } => *stream == id,
        Event::StreamOpened { stream, .. } | Event::StreamFailed { stream, .. } => *stream == id,
        Event::StreamInbound { stream, .. } => *stream == id,
        _ => false,
    }
}

// --- Streams: wake-ups ---

#[test]
fn a_write_cut_short_by_the_send_window_is_told_when_to_go_on() {
    let mut tight = config();
    tight.quic.send_window = 65_536;
    let (mut world, a, b) = pair_with(1, tight, config());
    let stream = open(&mut world, a, &[echo()]);
    world.run_for(secs(1));
    world.take_events(a);
    let written = write(&mut world, a, stream, &[7; 200_000]);
    assert!((1..200_000).contains(&written), "{written}");
    world.run_for(secs(5));
    assert!(world.saw(a, |event| matches!(event, Event::StreamWritable { stream: s } if *s == stream)));
    let other = inbound(&world, b);
    assert_eq!(read(&mut world, b, other).0.len(), written);
}

#[test]
fn the_same_holds_for_writes_without_copying() {
    let mut tight = config();
    tight.quic.send_window = 65_536;
    let (mut world, a, _) = pair_with(2, tight, config());
    let stream = open(&mut world, a, &[echo()]);
    world.run_for(secs(1));
    world.take_events(a);
    let mut data = Bytes::from(vec![7; 200_000]);
    world.call(a, |node, now| node.stream(now, stream).unwrap().write_bytes(&mut data)).unwrap();
    assert!(!data.is_empty());
    world.run_for(secs(5));
    assert!(world.saw(a, |event| matches!(event, Event::StreamWritable { stream: s } if *s == stream)));
}

#[test]
fn a_message_larger_than_the_send_window_arrives() {
    let mut tight = config();
    tight.quic.send_window = 65_536;
    let (mut world, a, b) = pair_with(3, tight, config());
    let ask = ProtocolId::from_static("/ask/1");
    for host in [a, b] {
        world.call(host, |node, now| node.requests(now).register(ask.clone(), RequestConfig::default())).unwrap();
    }
    let conn = world.node(a).connections().next().unwrap().conn;
    let data = Bytes::from(vec![1; 300_000]);
    world.call(a, |node, now| node.requests(now).send(conn, &ask, data)).unwrap();
    world.run_for(secs(9));
    assert!(world.saw(b, |event| matches!(event, Event::Request { len: 300_000, .. })), "{:?}", world.events(a));
}

// --- Streams: what the application has let go of, or does not know yet ---

#[test]
fn a_stream_that_was_closed_is_never_heard_of_again() {
    let mut tight = quiet();
    (tight.quic.stream_window, tight.quic.connection_window) = (16_384, 16_384);
    let (mut world, a, b) = pair_with(4, tight, quiet());
    // What b may send is used up, so it can acknowledge the packets of a stream, but not agree to its protocol.
    open(&mut world, a, &[echo()]);
    world.run_for(secs(1));
    let other = inbound(&world, b);
    write(&mut world, b, other, &[1; 20_000]);
    world.run_for(secs(1));
    let stream = open(&mut world, a, &[echo()]);
    write(&mut world, a, stream, b"fire and forget");
    world.call(a, |node, now| node.stream(now, stream).unwrap().close());
    world.take_events(a);
    world.run_for(secs(60));
    assert!(!world.saw(a, |event| names(event, stream)), "{:?}", world.events(a));
}

#[test]
fn an_inbound_stream_is_not_heard_of_before_its_protocol_is_agreed() {
    let (mut world, a, b) = pair(5);
    let conn = world.node(a).connections().next().unwrap().conn;
    world.call(a, |node, now| {
        let unknown = ProtocolId::from_static("/unknown/1");
        let stream = node.open_stream(now, conn, &[unknown, ProtocolId::from_static("/unknown/2")]).unwrap();
        node.stream(now, stream).unwrap().stop(7);
    });
    world.run_for(secs(15));
    assert!(!world.saw(b, |event| matches!(event, Event::StreamWritable { .. })), "{:?}", world.events(b));
    assert_eq!((world.node(a).census().streams, world.node(b).census().streams), (0, 0));
}

#[test]
fn reading_may_be_given_up_before_the_peer_has_agreed() {
    let (mut world, a, b) = pair(6);
    let conn = world.node(a).connections().next().unwrap().conn;
    let stream = world.call(a, |node, now| {
        let id = node.open_stream(now, conn, &[echo()]).unwrap();
        let mut stream = node.stream(now, id).unwrap();
        assert_eq!(stream.write(b"only this way"), Ok(13));
        stream.stop(7);
        id
    });
    world.run_for(secs(1));
    assert!(world.saw(a, |event| matches!(event, Event::StreamOpened { .. })), "{:?}", world.events(a));
    let other = inbound(&world, b);
    assert_eq!(read(&mut world, b, other), (b"only this way".to_vec(), Ok(false)));
    let stopped = world.call(b, |node, now| node.stream(now, other).unwrap().write(b"x"));
    assert_eq!(stopped, Err(StreamError::Stopped(7)));
    assert_eq!(write(&mut world, a, stream, b"more"), 4);
    finish(&mut world, a, stream);
    world.run_for(secs(15));
    assert_eq!(read(&mut world, b, other), (b"more".to_vec(), Ok(true)));
    assert!(!world.saw(a, |event| matches!(event, Event::StreamFailed { .. })), "{:?}", world.events(a));
    assert_eq!((world.node(a).census().streams, world.node(b).census().streams), (0, 0));
}

#[test]
fn refusing_streams_that_nobody_reads_costs_no_stream_slots() {
    let mut small = config();
    (small.quic.initial_streams, small.quic.max_streams) = (8, 8);
    let (mut world, a, b) = pair_with(7, config(), small);
    let conn = world.node(a).connections().next().unwrap().conn;
    let unknown = ProtocolId::from_static("/unknown/1");
    for _ in 0..40 {
        world.call(a, |node, now| {
            let id = node.open_stream(now, conn, core::slice::from_ref(&unknown)).unwrap();
            let mut stream = node.stream(now, id).unwrap();
            stream.finish().unwrap();
            stream.stop(0);
        });
        world.run_for(millis(100));
    }
    world.run_for(secs(30));
    world.take_events(a);
    let stream = open(&mut world, a, &[echo()]);
    world.run_for(secs(1));
    assert!(world.saw(a, |event| matches!(event, Event::StreamOpened { stream: s, .. } if *s == stream)));
    assert_eq!(world.node(b).census().streams, 1);
}

#[test]
fn a_response_that_the_peer_never_takes_is_given_up() {
    let mut tight = quiet();
    (tight.quic.stream_window, tight.quic.connection_window) = (16_384, 16_384);
    let (mut world, a, b) = pair_with(8, tight, quiet());
    let ask = ProtocolId::from_static("/ask/1");
    world.call(b, |node, now| node.requests(now).register(ask.clone(), RequestConfig::default())).unwrap();
    let stream = open(&mut world, a, &[ask]);
    // A request of no bytes, and a peer that never reads the answer.
    write(&mut world, a, stream, &[0]);
    finish(&mut world, a, stream);
    world.run_for(secs(1));
    let request = world.events(b).iter().find_map(|(_, event)| match event {
        Event::Request { request, .. } => Some(*request),
        _ => None,
    });
    let data = Bytes::from(vec![1; 1 << 20]);
    world.call(b, |node, now| node.requests(now).respond(request.unwrap(), data)).unwrap();
    assert_eq!(world.node(b).census().streams, 1, "the answer waits for the peer");
    world.run_for(secs(60));
    assert_eq!(world.node(b).census().streams, 0);
}

#[test]
fn a_slow_reader_still_gets_its_response() {
    let mut tight = quiet();
    (tight.quic.stream_window, tight.quic.connection_window) = (16_384, 16_384);
    let (mut world, a, b) = pair_with(9, tight, quiet());
    let ask = ProtocolId::from_static("/ask/1");
    world.call(b, |node, now| node.requests(now).register(ask.clone(), RequestConfig::default())).unwrap();
    let stream = open(&mut world, a, &[ask]);
    write(&mut world, a, stream, &[0]);
    finish(&mut world, a, stream);
    world.run_for(secs(1));
    let request = world.events(b).iter().find_map(|(_, event)| match event {
        Event::Request { request, .. } => Some(*request),
        _ => None,
    });
    world.call(b, |node, now| node.requests(now).respond(request.unwrap(), Bytes::from(vec![1; 100_000]))).unwrap();
    let (mut got, mut ended) = (0, false);
    for _ in 0..20 {
        world.run_for(secs(4));
        if !ended {
            let (data, end) = read(&mut world, a, stream);
            got += data.len();
            ended = end.unwrap();
        }
    }
    assert!(ended);
    assert_eq!(got, 100_003, "with its length prefix of three bytes");
}

// --- Streams whose connection went ---

#[test]
fn a_stream_read_to_its_end_does_not_outlive_its_connection() {
    let (mut world, a, b) = pair(10);
    let stream = open(&mut world, a, &[echo()]);
    write(&mut world, a, stream, b"x");
    finish(&mut world, a, stream);
    world.run_for(secs(1));
    let other = inbound(&world, b);
    assert_eq!(read(&mut world, b, other), (b"x".to_vec(), Ok(true)));
    disconnect(&mut world, a);
    world.run_for(secs(60));
    assert!(world.saw(b, |event| matches!(event, Event::StreamFailed { stream, .. } if *stream == other)));
    assert_eq!(world.node(b).census(), Census::default());
}

#[test]
fn what_is_left_of_a_stream_can_be_let_go_of_by_stopping() {
    let (mut world, a, b) = pair(11);
    let stream = open(&mut world, a, &[echo()]);
    write(&mut world, a, stream, &[1; 5000]);
    world.run_for(secs(1));
    let other = inbound(&world, b);
    disconnect(&mut world, a);
    world.run_for(secs(60));
    assert_eq!(world.node(b).census().streams, 1, "unread data");
    world.call(b, |node, now| node.stream(now, other).unwrap().stop(0));
    assert_eq!(world.node(b).census(), Census::default());
}

#[test]
fn an_end_that_was_taken_out_of_quic_early_is_still_told() {
    let (mut world, a, b) = pair_with(12, quiet(), quiet());
    let conn = world.node(a).connections().next().unwrap().conn;
    let stream = open(&mut world, a, &[echo()]);
    world.run_for(secs(1));
    let other = inbound(&world, b);
    assert_eq!(read(&mut world, b, other), (vec![], Ok(false)));
    finish(&mut world, a, stream);
    world.run_for(secs(1));
    // b has been told to read, and does not. Enough packets make its node take everything out of QUIC.
    for _ in 0..1200 {
        world.call(a, |node, now| node.ping(now, conn)).unwrap();
        world.run_for(millis(50));
    }
    finish(&mut world, b, other);
    world.run_for(secs(1));
    assert_eq!(read(&mut world, b, other), (vec![], Ok(true)));
    assert_eq!(world.node(b).census().streams, 0);
}

#[test]
fn unread_data_comes_to_rest_at_the_windows_size_however_many_packets_come() {
    let mut tight = quiet();
    (tight.quic.stream_window, tight.quic.connection_window) = (65_536, 65_536);
    let (mut world, a, b) = pair_with(13, quiet(), tight);
    let stream = open(&mut world, a, &[echo()]);
    let back = open(&mut world, a, &[echo()]);
    world.run_for(secs(1));
    let streams: Vec<StreamId> = world
        .events(b)
        .iter()
        .filter_map(|(_, event)| match event {
            Event::StreamInbound { stream, .. } => Some(*stream),
            _ => None,
        })
        .collect();
    let mut written = 0;
    for _ in 0..10_000 {
        written += write(&mut world, a, stream, &[7; 1000]);
        // a's acknowledgements keep the packets coming.
        write(&mut world, b, streams[1], &[8; 4000]);
        world.run_for(millis(10));
        read(&mut world, a, back).1.unwrap();
    }
    assert!(written < 2 * 65_536, "{written}");
    let before = written;
    let (data, _) = read(&mut world, b, streams[0]);
    world.run_for(secs(1));
    written += write(&mut world, a, stream, &[7; 1000]);
    assert!(written > before, "reading lets the peer go on: {} of {before} read", data.len());
    assert!(data.iter().all(|byte| *byte == 7));
}

// --- Connections ---

#[test]
fn the_loser_of_a_contest_stays_when_the_winner_is_lost() {
    for seed in 0..8 {
        let mut world = World::new(100 + seed);
        let (a, b) = (world.add(), world.add());
        let (at_a, at_b) = (world.listen(a), world.listen(b));
        world.call(a, |node, now| node.dial(now, Dial::address(at_b))).unwrap();
        world.call(b, |node, now| node.dial(now, Dial::address(at_a))).unwrap();
        world.run_for(millis(100));
        assert_eq!(world.node(a).connections().count(), 2);
        let peer = world.node(b).peer_id();
        let winner = world.node(a).connection_to(peer).unwrap();
        world.call(a, |node, now| node.disconnect(now, winner, 0, "")).unwrap();
        world.run_for(secs(20));
        for host in [a, b] {
            assert_eq!(world.node(host).connections().count(), 1, "{:?}", world.events(host));
        }
    }
}

#[test]
fn a_handshake_ends_with_its_socket() {
    let mut world = World::new(14);
    let (a, b) = (world.add(), world.add());
    let address = world.listen(b);
    for (host, wait) in [(a, 5), (b, 15)] {
        let dial = world.call(a, |node, now| node.dial(now, Dial::address(address.clone()))).unwrap();
        world.run_for(millis(wait));
        let socket = world.sockets(host)[0];
        let error = IoError::new(IoErrorKind::Other, "gone");
        world.input(host, Input::SocketFailed { socket, error });
        if host == a {
            assert!(world.saw(a, |event| matches!(event, Event::DialFailed { dial: d, .. } if *d == dial)));
        }
        world.run_for(secs(5));
        assert_eq!(world.node(host).census(), Census::default(), "{:?}", world.events(host));
        assert!(!world.saw(host, |event| matches!(event, Event::Connected { .. })));
    }
}

#[test]
fn a_blocked_socket_with_an_answer_to_send_does_not_keep_the_node_awake() {
    let mut world = World::new(15);
    let b = world.add();
    world.listen(b);
    let socket = world.sockets(b)[0];
    world.input(b, Input::SocketBlocked { socket });
    let mut packet = vec![0xc0, 0x1a, 0x2a, 0x3a, 0x4a, 8, 1, 2, 3, 4, 5, 6, 7, 8, 8, 8, 7, 6, 5, 4, 3, 2, 1];
    packet.resize(1200, 0);
    world.inject("10.7.7.7:7".parse().unwrap(), "10.0.0.1:4001".parse().unwrap(), &packet);
    world.run_for(secs(1));
    assert_eq!(world.node(b).stats().transmits, 0);
    world.input(b, Input::SocketReady { socket });
    assert_eq!(world.node(b).stats().transmits, 1);
    // Nor does one that dies blocked.
    world.input(b, Input::SocketBlocked { socket });
    world.inject("10.7.7.7:7".parse().unwrap(), "10.0.0.1:4001".parse().unwrap(), &packet);
    world.run_for(secs(1));
    world.input(b, Input::SocketFailed { socket, error: IoError::new(IoErrorKind::Other, "gone") });
    assert_eq!(world.node(b).poll_timeout(), None);
}

#[test]
fn a_socket_that_died_blocked_does_not_delay_shutting_down() {
    let (mut world, a, _) = pair(16);
    let socket = world.sockets(a)[0];
    world.input(a, Input::SocketBlocked { socket });
    let conn = world.node(a).connections().next().unwrap().conn;
    world.call(a, |node, now| node.ping(now, conn)).unwrap();
    world.input(a, Input::SocketFailed { socket, error: IoError::new(IoErrorKind::Other, "gone") });
    // What comes late names a socket that is no more.
    let ignored = world.node(a).stats().inputs_ignored;
    world.input(a, Input::SocketBlocked { socket });
    world.input(a, Input::SocketReady { socket });
    assert_eq!(world.node(a).stats().inputs_ignored, ignored + 2);
    world.run_for(secs(30));
    world.call(a, |node, now| node.shutdown(now));
    assert!(world.saw(a, |event| matches!(event, Event::ShutDown)));
}

// --- Dials and listeners ---

#[test]
fn names_do_not_make_a_dial_try_more_addresses_than_it_may() {
    let mut world = World::new(17);
    let a = world.add();
    for n in 0..20u8 {
        let ips = (0..16).map(|m| std::net::IpAddr::from([10, 9, n, m + 1])).collect();
        world.set_name(&format!("n{n}.example"), Answer::Ips(ips));
    }
    let addresses: Vec<Multiaddr> =
        (0..20).map(|n| format!("/dns4/n{n}.example/udp/4001/quic-v1").parse().unwrap()).collect();
    let other = {
        let mut world = World::new(98);
        let host = world.add();
        world.node(host).peer_id()
    };
    world.call(a, |node, now| node.dial(now, Dial::peer_at(other, addresses))).unwrap();
    world.run_for(secs(20));
    let failures = world.events(a).iter().find_map(|(_, event)| match event {
        Event::DialFailed { error: DialFailure::AllFailed(failures), .. } => Some(failures.clone()),
        _ => None,
    });
    let tried: Vec<_> = failures.unwrap().into_iter().filter(|(_, error)| *error == AttemptError::TimedOut).collect();
    assert_eq!(tried.len(), peerwork::limits::DIAL_ADDRESSES);
}

#[test]
fn further_addresses_wait_for_a_free_handshake() {
    let mut world = World::new(18);
    let mut narrow = config();
    narrow.limits.pending_out = 1;
    narrow.dial.attempt_timeout = secs(2);
    let (a, b) = (world.add_with(narrow), world.add());
    let address = world.listen(b);
    let peer = world.node(b).peer_id();
    let nobody: Multiaddr = "/ip4/10.9.9.9/udp/4001/quic-v1".parse().unwrap();
    world.call(a, |node, now| node.dial(now, Dial::peer_at(peer, vec![nobody, address]))).unwrap();
    world.run_for(secs(5));
    assert!(world.saw(a, |event| matches!(event, Event::Dialed { .. })), "{:?}", world.events(a));
}

#[test]
fn an_address_can_be_listened_on_again() {
    let mut world = World::new(19);
    let (a, b) = (world.add(), world.add());
    let address: Multiaddr = "/ip4/10.0.0.1/udp/4001/quic-v1".parse().unwrap();
    let listen = |world: &mut World| world.call(a, |node, now| node.listen(now, address.clone())).unwrap();
    let unlisten = |world: &mut World, id| world.call(a, |node, now| node.unlisten(now, id)).unwrap();
    // With nobody there, the socket goes at once.
    for _ in 0..200 {
        let id = listen(&mut world);
        assert_eq!(world.take_events(a), vec![Event::Listening { listener: id, address: address.clone() }]);
        unlisten(&mut world, id);
        assert_eq!(world.sockets(a), vec![]);
    }
    // With a connection it stays, and is used again.
    let id = listen(&mut world);
    let whole = world.address(a);
    world.call(b, |node, now| node.dial(now, Dial::address(whole))).unwrap();
    world.run_for(secs(1));
    unlisten(&mut world, id);
    assert_eq!(world.sockets(a).len(), 1);
    assert_eq!(world.node(a).connections().count(), 1);
    world.take_events(a);
    let again = listen(&mut world);
    assert_eq!(world.sockets(a).len(), 1);
    assert!(world.saw(a, |event| matches!(event, Event::Listening { listener, .. } if *listener == again)));
}

#[test]
fn a_listener_that_fails_takes_no_dial_with_it() {
    let mut node = Node::new(config(), Box::new(Seed(20)), Time::ZERO, UnixTime::from_secs(1_800_000_000)).unwrap();
    node.listen(Time::ZERO, "/ip4/0.0.0.0/udp/4001/quic-v1".parse().unwrap()).unwrap();
    node.dial(Time::ZERO, Dial::address("/ip4/10.0.0.9/udp/4001/quic-v1".parse().unwrap())).unwrap();
    let mut asked = Vec::new();
    while let Some(output) = node.poll_output() {
        match output {
            Output::Command(Command::UdpBind { socket, .. }) => {
                asked.push(socket);
                let taken = IoError::new(IoErrorKind::AddressInUse, "taken");
                let result = match asked.len() {
                    1 => Err(taken),
                    _ => Ok(BoundSocket::new("0.0.0.0:50000".parse().unwrap())),
                };
                node.handle(Time::ZERO, Input::Bound { socket, result });
            }
            Output::Event(event) => assert!(matches!(event, Event::ListenFailed { .. }), "{event:?}"),
            Output::Command(other) => panic!("{other:?}"),
        }
    }
    assert_eq!(asked.len(), 2, "one to listen, one to dial");
    let mut data = Vec::new();
    assert!(node.poll_transmit(Time::ZERO, &mut TransmitBuf::single(&mut data)).is_some());
}

// --- The hub ---

#[test]
fn shutting_down_is_the_last_event_however_much_there_is_to_tell() {
    let (mut world, a, _) = pair(21);
    let conn = world.node(a).connections().next().unwrap().conn;
    world.call(a, |node, now| {
        for _ in 0..9000 {
            node.open_stream(now, conn, &[echo()]).unwrap();
        }
    });
    // The node asks to be called again with work left over, which a world allows only like this.
    world.set_handling(Handling { random_drains: true, spurious_wakes: false });
    world.call(a, |node, now| node.shutdown(now));
    world.run_for(secs(30));
    let events = world.events(a);
    assert_eq!(events.last().map(|(_, event)| event), Some(&Event::ShutDown));
    let failed = events.iter().filter(|(_, event)| matches!(event, Event::StreamFailed { .. })).count();
    assert_eq!(failed, 9000);
}

/// Two nodes on sockets of their own, with batches of datagrams as the kernel coalesces them.
struct Wire {
    now: Time,
    nodes: [Node; 2],
    sockets: [Option<SocketId>; 2],
    events: [Vec<Event>; 2],
}

impl Wire {
    const ADDRESSES: [&str; 2] = ["10.0.0.1:4001", "10.0.0.2:4001"];

    fn new() -> Self {
        let node = |seed| Node::new(quiet(), Box::new(Seed(seed)), Time::ZERO, UnixTime::from_secs(1_800_000_000));
        let mut nodes = [node(1).unwrap(), node(2).unwrap()];
        for node in &mut nodes {
            node.listen(Time::ZERO, "/ip4/0.0.0.0/udp/4001/quic-v1".parse().unwrap()).unwrap();
        }
        let mut wire = Self { now: Time::ZERO, nodes, sockets: [None; 2], events: [vec![], vec![]] };
        wire.drain(0);
        wire.drain(1);
        wire
    }

    fn drain(&mut self, at: usize) {
        while let Some(output) = self.nodes[at].poll_output() {
            match output {
                Output::Command(Command::UdpBind { socket, .. }) => {
                    self.sockets[at] = Some(socket);
                    let max_segments = NonZeroUsize::new(40).unwrap();
                    let bound = BoundSocket { local: Self::ADDRESSES[at].parse().unwrap(), max_segments };
                    self.nodes[at].handle(self.now, Input::Bound { socket, result: Ok(bound) });
                }
                Output::Event(event) => self.events[at].push(event),
                Output::Command(other) => panic!("{other:?}"),
            }
        }
    }

    /// What one has to say reaches the other.
    fn carry(&mut self, from: usize) {
        let to = 1 - from;
        let mut data = Vec::new();
        let most = NonZeroUsize::new(40).unwrap();
        while let Some(transmit) = self.nodes[from].poll_transmit(self.now, &mut TransmitBuf::new(&mut data, most)) {
            let source = Self::ADDRESSES[from].parse().unwrap();
            let mut datagram = Datagram::new(self.sockets[to].unwrap(), source, &data);
            datagram.segment = transmit.segment;
            self.nodes[to].handle(self.now, Input::Datagram(datagram));
            data.clear();
        }
    }

    fn run(&mut self, rounds: usize) {
        for _ in 0..rounds {
            self.now += millis(1);
            for at in [0, 1] {
                self.nodes[at].handle(self.now, Input::Wake);
                self.drain(at);
                self.carry(at);
            }
        }
    }
}

#[test]
fn work_that_a_peer_piles_up_faster_than_it_is_done_has_an_end() {
    let mut wire = Wire::new();
    let address: Multiaddr = "/ip4/10.0.0.2/udp/4001/quic-v1".parse().unwrap();
    wire.nodes[0].dial(wire.now, Dial::address(address)).unwrap();
    wire.run(500);
    let conn = wire.nodes[0].connections().next().unwrap().conn;
    // Frames of no bytes, each of which is a message for a machine, on a protocol that every node speaks.
    let push = ProtocolId::from_static("/ipfs/id/push/1.0.0");
    for _ in 0..200 {
        let stream = wire.nodes[0].open_stream(wire.now, conn, core::slice::from_ref(&push)).unwrap();
        if let Ok(mut stream) = wire.nodes[0].stream(wire.now, stream) {
            let _ = stream.write(&[0; 60_000]);
        }
        wire.now += millis(1);
        // Nobody wakes the second node, which asks for it.
        wire.carry(0);
        wire.carry(1);
    }
    assert!(wire.nodes[1].stats().datagrams_shed > 0);
    wire.run(500);
    assert_eq!(wire.nodes[1].connections().count(), 1, "{:?}", wire.events[1]);
}
