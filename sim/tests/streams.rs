//! Streams of applications: data, backpressure, ends, negotiation.

use bytes::Bytes;
use peerwork::{Dial, Event, ProtocolId, Read, StreamError, StreamId, Time};
use peerwork_sim::{HostId, Link, World, config, millis, secs};

fn echo() -> ProtocolId {
    ProtocolId::from_static("/echo/1.0.0")
}

/// Two connected hosts; `b` has registered `/echo/1.0.0`.
fn pair(seed: u64) -> (World, HostId, HostId) {
    let mut world = World::new(seed);
    let (a, b) = (world.add(), world.add());
    connect(&mut world, a, b);
    (world, a, b)
}

fn connect(world: &mut World, a: HostId, b: HostId) {
    let address = world.listen(b);
    world.call(b, |node, now| node.register(now, echo())).unwrap();
    world.call(a, |node, now| node.dial(now, Dial::address(address))).unwrap();
    world.run_for(secs(2));
    assert_eq!(world.node(a).connections().count(), 1);
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
        loop {
            let Ok(mut handle) = node.stream(now, stream) else { return (all, Err(StreamError::ConnectionClosed)) };
            match handle.read(1000) {
                Ok(Read::Data(data)) => all.extend_from_slice(&data),
                Ok(Read::Blocked) => return (all, Ok(false)),
                Ok(Read::End) => return (all, Ok(true)),
                Err(error) => return (all, Err(error)),
            }
        }
    })
}

#[test]
fn data_behind_a_single_proposal_saves_a_round_trip() {
    let (mut world, a, b) = pair(1);
    let start = world.now();
    let conn = world.node(a).connections().next().unwrap().conn;
    let stream = world.call(a, |node, now| {
        let id = node.open_stream(now, conn, &[echo()]).unwrap();
        let mut stream = node.stream(now, id).unwrap();
        assert_eq!(stream.write(b"hello"), Ok(5));
        stream.finish().unwrap();
        id
    });
    assert!(world.run_until(secs(1), |world| world.saw(b, |event| matches!(event, Event::StreamInbound { .. }))));
    assert_eq!(world.now().since(start), millis(10), "half a round trip");
    let other = inbound(&world, b);
    assert_eq!(read(&mut world, b, other), (b"hello".to_vec(), Ok(true)));
    assert_eq!(write(&mut world, b, other, b"olleh"), 5);
    finish(&mut world, b, other);
    world.run_for(secs(1));
    assert_eq!(read(&mut world, a, stream), (b"olleh".to_vec(), Ok(true)));
    world.run_for(secs(1));
    assert_eq!((world.node(a).census().streams, world.node(b).census().streams), (0, 0), "both sides done: forgotten");
}

#[test]
fn several_proposals_settle_on_the_first_that_the_peer_speaks() {
    let (mut world, a, b) = pair(2);
    let unknown = ProtocolId::from_static("/unknown/1");
    let stream = open(&mut world, a, &[unknown.clone(), echo()]);
    assert_eq!(write(&mut world, a, stream, b"early"), 0, "not before the choice is made");
    world.run_for(secs(1));
    assert!(world.saw(a, |event| matches!(event, Event::StreamOpened { protocol, .. } if *protocol == echo())));
    assert!(world.saw(a, |event| matches!(event, Event::StreamWritable { .. })));
    assert_eq!(write(&mut world, a, stream, b"late"), 4);
    world.run_for(secs(1));
    let other = inbound(&world, b);
    assert_eq!(read(&mut world, b, other), (b"late".to_vec(), Ok(false)));
    let refused = open(&mut world, a, &[unknown]);
    world.run_for(secs(1));
    assert!(world.saw(a, |event| matches!(event,
        Event::StreamFailed { stream, error: StreamError::Unsupported } if *stream == refused)));
}

#[test]
fn a_stream_let_go_of_at_once_still_delivers() {
    let (mut world, a, b) = pair(3);
    let stream = open(&mut world, a, &[echo()]);
    write(&mut world, a, stream, b"fire and forget");
    world.call(a, |node, now| node.stream(now, stream).unwrap().close());
    world.run_for(secs(1));
    let other = inbound(&world, b);
    assert_eq!(read(&mut world, b, other), (b"fire and forget".to_vec(), Ok(true)));
    assert_eq!(world.node(a).census().streams, 0);
}

#[test]
fn reset_and_stop_carry_their_codes() {
    let (mut world, a, b) = pair(4);
    let stream = open(&mut world, a, &[echo()]);
    write(&mut world, a, stream, b"x");
    world.run_for(secs(1));
    let other = inbound(&world, b);
    assert_eq!(read(&mut world, b, other).0, b"x");
    world.call(a, |node, now| node.stream(now, stream).unwrap().reset(7));
    world.call(a, |node, now| node.stream(now, stream).unwrap().stop(9));
    world.run_for(secs(1));
    assert_eq!(read(&mut world, b, other).1, Err(StreamError::Reset(7)));
    assert!(world.saw(b, |event| matches!(event, Event::StreamWritable { stream } if *stream == other)));
    // Reading the reset ended the one direction, the stop the other, so the stream is gone.
    assert!(world.call(b, |node, now| node.stream(now, other).is_err()));
    assert_eq!((world.node(a).census().streams, world.node(b).census().streams), (0, 0));
}

#[test]
fn a_stopped_writer_learns_the_code() {
    let (mut world, a, b) = pair(5);
    let stream = open(&mut world, a, &[echo()]);
    write(&mut world, a, stream, b"x");
    world.run_for(secs(1));
    let other = inbound(&world, b);
    world.call(b, |node, now| node.stream(now, other).unwrap().stop(9));
    world.run_for(secs(1));
    let result = world.call(a, |node, now| node.stream(now, stream).unwrap().write(b"more"));
    assert_eq!(result, Err(StreamError::Stopped(9)));
}

#[test]
fn a_reader_that_does_not_read_stops_the_writer_within_the_window() {
    let mut world = World::new(6);
    let mut config = config();
    config.quic.stream_window = 65_536;
    config.quic.connection_window = 262_144;
    config.quic.send_window = 65_536;
    let (a, b) = (world.add_with(config.clone()), world.add_with(config));
    connect(&mut world, a, b);
    let stream = open(&mut world, a, &[echo()]);
    let mut written = 0;
    for _ in 0..1000 {
        written += write(&mut world, a, stream, &[7; 16_384]);
        world.run_for(millis(50));
    }
    // The stream's window, less the negotiation that went before the data.
    assert!((65_000..=65_536).contains(&written), "{written}");
    let blocked = world.take_events(a).len();
    world.run_for(secs(600));
    assert!(world.take_events(a).iter().all(|event| !matches!(event, Event::StreamWritable { .. })), "{blocked}");
    let other = inbound(&world, b);
    let mut got = 0;
    for _ in 0..20 {
        got += read(&mut world, b, other).0.len();
        world.run_for(millis(100));
    }
    assert_eq!(got, written);
    assert!(world.saw(a, |event| matches!(event, Event::StreamWritable { .. })), "it goes on when the reader does");
}

#[test]
fn what_arrived_before_the_connection_closed_can_still_be_read() {
    let (mut world, a, b) = pair(7);
    let stream = open(&mut world, a, &[echo()]);
    write(&mut world, a, stream, &[1; 5000]);
    finish(&mut world, a, stream);
    world.run_for(secs(1));
    let conn = world.node(a).connections().next().unwrap().conn;
    world.call(a, |node, now| node.disconnect(now, conn, 0, "")).unwrap();
    world.run_for(secs(60));
    let other = inbound(&world, b);
    let (data, end) = read(&mut world, b, other);
    assert_eq!((data.len(), end), (5000, Ok(true)));
    assert_eq!(world.node(b).census(), peerwork::Census::default());
}

#[test]
fn a_silent_peer_cannot_hold_a_negotiation_longer_than_its_timeout() {
    let (mut world, a, b) = pair(8);
    let start = world.now();
    world.kill(b);
    let stream = open(&mut world, a, &[echo()]);
    let failed = |world: &World| {
        world.saw(
            a,
            |event| matches!(event, Event::StreamFailed { stream: s, error: StreamError::TimedOut } if *s == stream),
        )
    };
    assert!(world.run_until(secs(60), failed));
    assert_eq!(world.now().since(start), secs(10));
}

#[test]
fn more_streams_than_allowed_wait_their_turn() {
    let (mut world, a, b) = pair(9);
    let streams: Vec<_> = (0..600).map(|_| open(&mut world, a, &[echo()])).collect();
    for stream in &streams {
        world.call(a, |node, now| node.stream(now, *stream).unwrap().finish()).unwrap();
    }
    // b lets go of each as it comes, which makes room for the next.
    for _ in 0..200 {
        world.run_for(millis(20));
        for event in world.take_events(b) {
            if let Event::StreamInbound { stream, .. } = event {
                world.call(b, |node, now| node.stream(now, stream).unwrap().close());
            }
        }
    }
    let opened = world.events(a).iter().filter(|(_, event)| matches!(event, Event::StreamOpened { .. })).count();
    assert_eq!(opened, 600);
}

#[test]
fn a_megabyte_crosses_a_rough_link_unharmed() {
    let (mut world, a, b) = pair(10);
    world.set_link(Link::rough());
    let stream = open(&mut world, a, &[echo()]);
    let data: Vec<u8> = (0..1_000_000u32).map(|i| ((i * 31) >> 3) as u8).collect();
    let mut left = Bytes::from(data.clone());
    let mut got = Vec::new();
    let mut done = false;
    for _ in 0..2000 {
        if !left.is_empty() {
            world.call(a, |node, now| node.stream(now, stream).unwrap().write_bytes(&mut left)).unwrap();
            if left.is_empty() {
                finish(&mut world, a, stream);
            }
        }
        world.run_for(millis(50));
        if world.saw(b, |event| matches!(event, Event::StreamInbound { .. })) && !done {
            let other = inbound(&world, b);
            let (more, end) = read(&mut world, b, other);
            got.extend(more);
            done = end.unwrap();
        }
        if done {
            break;
        }
    }
    assert!(done);
    assert!(got == data);
}

#[test]
fn connect_and_one_byte_take_two_round_trips() {
    let mut world = World::new(11);
    let (a, b) = (world.add(), world.add());
    let address = world.listen(b);
    world.call(b, |node, now| node.register(now, echo())).unwrap();
    world.call(a, |node, now| node.dial(now, Dial::address(address))).unwrap();
    assert!(world.run_until(secs(1), |world| world.saw(a, |event| matches!(event, Event::Dialed { .. }))));
    let stream = open(&mut world, a, &[echo()]);
    write(&mut world, a, stream, b"1");
    assert!(world.run_until(secs(1), |world| world.saw(b, |event| matches!(event, Event::StreamInbound { .. }))));
    let other = inbound(&world, b);
    assert_eq!(read(&mut world, b, other).0, b"1");
    write(&mut world, b, other, b"1");
    let back = |world: &World| world.saw(a, |event| matches!(event, Event::StreamReadable { .. }));
    assert!(world.run_until(secs(1), back));
    let round_trips = world.now().since(Time::ZERO).as_micros() as f64 / 20_000.0;
    // The rest of a round trip above two is QUIC's pacing.
    assert!((2.0..2.1).contains(&round_trips), "{round_trips}");
}

#[test]
fn request_protocols_with_messages_that_no_stream_takes_are_refused() {
    let (mut world, a, _) = pair(12);
    let mut config = peerwork::config::RequestConfig { max_response: 17 << 20, ..Default::default() };
    let refused = world.call(a, |node, now| node.requests(now).register("/big/1".parse().unwrap(), config.clone()));
    assert!(refused.unwrap_err().to_string().contains("use streams"));
    config.max_response = 1 << 20;
    world.call(a, |node, now| node.requests(now).register("/big/1".parse().unwrap(), config)).unwrap();
}

#[test]
fn small_and_large_writes_of_one_turn_keep_their_order() {
    let (mut world, a, b) = pair(13);
    let conn = world.node(a).connections().next().unwrap().conn;
    let mut sent = Vec::new();
    world.call(a, |node, now| {
        let id = node.open_stream(now, conn, &[echo()]).unwrap();
        let mut stream = node.stream(now, id).unwrap();
        for round in 0..40u8 {
            let len = [1, 1000, 5000, 30, 1452, 1453][usize::from(round) % 6];
            let piece = vec![round; len];
            let taken = if round % 2 == 0 {
                stream.write(&piece).unwrap()
            } else {
                let mut bytes = Bytes::from(piece.clone());
                stream.write_bytes(&mut bytes).unwrap()
            };
            assert_eq!(taken, len);
            sent.extend(piece);
        }
        stream.finish().unwrap();
    });
    world.run_for(secs(2));
    let other = inbound(&world, b);
    assert_eq!(read(&mut world, b, other), (sent, Ok(true)));
}

#[test]
fn gathered_writes_go_with_a_reset_and_leave_nothing() {
    let (mut world, a, b) = pair(14);
    let stream = open(&mut world, a, &[echo()]);
    world.run_for(secs(1));
    world.call(a, |node, now| {
        let mut stream = node.stream(now, stream).unwrap();
        for _ in 0..10 {
            assert_eq!(stream.write(b"small"), Ok(5));
        }
        stream.reset(7);
        stream.stop(8);
    });
    world.run_for(secs(1));
    let other = inbound(&world, b);
    assert_eq!(read(&mut world, b, other).1, Err(StreamError::Reset(7)));
    assert_eq!((world.node(a).census().streams, world.node(b).census().streams), (0, 0));
}
