//! What a message costs in allocations, and what a hostile one can make us allocate.

use std::{num::NonZeroUsize, time::Duration};

use allocation_counter::measure;
use bytes::{Bytes, BytesMut};
use peerwork::{
    BoundSocket, Command, ConnId, Datagram, Dial, Event, Input, Node, Output, ProtocolId, Read, Seed, StreamId, Time,
    TransmitBuf, UnixTime,
    protocol::identify::message::Merger,
    transport::{
        frame::FrameDecoder,
        negotiate::{Dialer, Listener},
    },
};
use peerwork_sim::platform;

/// Two nodes and nothing between them: every packet arrives at once. Buffers are reused, so what is counted is the
/// nodes' own.
struct Wire {
    nodes: [Node; 2],
    now: Time,
    buffer: Vec<u8>,
    events: [Vec<Event>; 2],
}

const ADDRESSES: [&str; 2] = ["10.0.0.1:1", "10.0.0.2:2"];

impl Wire {
    fn new() -> Self {
        let node = |seed| {
            let mut config = peerwork::Config::new(platform());
            config.ping.interval = None;
            config.quic.mtu_discovery = false;
            Node::new(config, Box::new(Seed(seed)), Time::ZERO, UnixTime::from_secs(1_800_000_000)).unwrap()
        };
        let mut wire = Self {
            nodes: [node(1), node(2)],
            now: Time::ZERO,
            buffer: Vec::with_capacity(65_536),
            events: [Vec::with_capacity(4096), Vec::with_capacity(4096)],
        };
        let address = "/ip4/10.0.0.2/udp/2/quic-v1".parse().unwrap();
        wire.nodes[1].listen(Time::ZERO, address).unwrap();
        wire.settle();
        let address = "/ip4/10.0.0.2/udp/2/quic-v1".parse().unwrap();
        wire.nodes[0].dial(Time::ZERO, Dial::address(address)).unwrap();
        for _ in 0..2000 {
            wire.pass(Duration::from_millis(1));
        }
        wire
    }

    /// Lets packets fly until nobody sends any more.
    fn settle(&mut self) {
        loop {
            let mut busy = false;
            for me in [0, 1] {
                while let Some(output) = self.nodes[me].poll_output() {
                    busy = true;
                    match output {
                        Output::Event(event) => self.events[me].push(event),
                        Output::Command(Command::UdpBind { socket, .. }) => {
                            let bound =
                                BoundSocket { local: ADDRESSES[me].parse().unwrap(), max_segments: NonZeroUsize::MIN };
                            self.nodes[me].handle(self.now, Input::Bound { socket, result: Ok(bound) });
                        }
                        Output::Command(_) => {}
                    }
                }
                self.buffer.clear();
                while let Some(transmit) =
                    self.nodes[me].poll_transmit(self.now, &mut TransmitBuf::single(&mut self.buffer))
                {
                    busy = true;
                    let datagram = Datagram {
                        socket: transmit.socket,
                        from: ADDRESSES[me].parse().unwrap(),
                        to_ip: None,
                        ecn: None,
                        segment: None,
                        data: BytesMut::from(&self.buffer[..]),
                    };
                    self.nodes[1 - me].handle(self.now, Input::Datagram(datagram));
                    self.buffer.clear();
                }
            }
            if !busy {
                return;
            }
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        for node in &mut self.nodes {
            node.handle(self.now, Input::Wake);
        }
        self.settle();
    }

    fn conn(&self, of: usize) -> ConnId {
        self.nodes[of].connections().next().unwrap().conn
    }

    fn read_all(&mut self, of: usize, stream: StreamId) -> usize {
        let mut all = 0;
        while let Ok(Read::Data(data)) = self.nodes[of].stream(self.now, stream).unwrap().read(65_536) {
            all += data.len();
        }
        all
    }
}

#[test]
fn a_stream_message_of_1_kib_costs_few_allocations_at_both_ends_together() {
    let protocol = ProtocolId::from_static("/x/1");
    let mut wire = Wire::new();
    wire.nodes[1].register(wire.now, protocol.clone()).unwrap();
    let conn = wire.conn(0);
    let stream = wire.nodes[0].open_stream(wire.now, conn, &[protocol]).unwrap();
    let payload = Bytes::from(vec![7; 1024]);
    let mut other = None;
    let mut message = |wire: &mut Wire| {
        let written = wire.nodes[0].stream(wire.now, stream).unwrap().write(&payload);
        assert_eq!(written, Ok(1024));
        wire.pass(Duration::from_millis(30));
        if other.is_none() {
            other = wire.events[1].iter().find_map(|event| match event {
                Event::StreamInbound { stream, .. } => Some(*stream),
                _ => None,
            });
        }
        assert_eq!(wire.read_all(1, other.unwrap()), 1024);
        wire.events.iter_mut().for_each(Vec::clear);
    };
    for _ in 0..100 {
        message(&mut wire);
    }
    const MESSAGES: u64 = 200;
    let info = measure(|| {
        for _ in 0..MESSAGES {
            message(&mut wire);
        }
    });
    let (each, bytes) = (info.count_total / MESSAGES, info.bytes_total / MESSAGES);
    println!("{each} allocations and {bytes} bytes for each message of 1 KiB, sent, received and acknowledged");
    assert!(each <= 24, "{each} allocations a message");
    assert!(bytes <= 12_000, "{bytes} bytes a message");
    assert!(info.bytes_current < 4096, "nothing is kept: {info:?}");
}

#[test]
fn an_idle_hour_allocates_nothing() {
    let mut wire = Wire::new();
    for node in &wire.nodes {
        assert_eq!(node.connections().count(), 1);
    }
    let info = measure(|| {
        for _ in 0..1000 {
            for node in &mut wire.nodes {
                node.handle(wire.now, Input::Wake);
                let _ = node.poll_timeout();
                assert!(node.poll_output().is_none());
            }
        }
    });
    assert_eq!(info.count_total, 0);
}

#[test]
fn a_declared_length_allocates_nothing() {
    let info = measure(|| {
        for max in [100, 65_536, usize::MAX] {
            let mut decoder = FrameDecoder::new(max);
            // A frame of 2^62 bytes, of which ten come.
            decoder.push(Bytes::from_static(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x3f]));
            let _ = decoder.next();
            decoder.push(Bytes::from_static(&[0; 10]));
            let _ = decoder.next();
        }
    });
    assert!(info.bytes_max <= 1024, "{info:?}");
}

#[test]
fn frames_cost_no_more_than_their_bytes() {
    let frame = vec![1u8; 10_000];
    let wire: Vec<u8> = [peerwork::transport::varint::encode(10_000).as_slice(), &frame].concat();
    let info = measure(|| {
        let mut decoder = FrameDecoder::new(10_000);
        for piece in wire.chunks(100) {
            decoder.push(Bytes::copy_from_slice(piece));
            let _ = decoder.next();
        }
    });
    // Its bytes once as they come, and once in a buffer that doubles as it grows.
    assert!(info.bytes_total <= 5 * wire.len() as u64, "{info:?}");
}

#[test]
fn negotiation_with_a_flood_stays_within_its_line() {
    let info = measure(|| {
        let mut listener = Listener::new();
        let (mut dialer, _) = Dialer::new(&[ProtocolId::from_static("/x")]);
        for _ in 0..10_000 {
            let mut data = Bytes::from_static(&[0xff; 64]);
            let _ = listener.receive(&mut data, |_| None::<()>);
            let mut data = Bytes::from_static(&[0xff; 64]);
            let _ = dialer.receive(&mut data);
        }
    });
    assert!(info.bytes_max <= 16 * 1024, "{info:?}");
}

#[test]
fn identify_messages_cost_a_fixed_multiple_of_their_bytes() {
    // The worst there is: as many empty entries as fit. Field 3 (protocols) and field 2 (addresses), each of length 0.
    let empty: Vec<u8> = [0x1a, 0x00, 0x12, 0x00].repeat(8192 / 4);
    let short: Vec<u8> = [0x1a, 0x02, b'/', b'a'].repeat(8192 / 4);
    for message in [empty, short] {
        let wire = Bytes::from(message);
        let info = measure(|| {
            let mut merger = Merger::new();
            for _ in 0..10 {
                let _ = merger.push(wire.clone());
            }
            let _ = merger.finish();
        });
        let factor = info.bytes_max / wire.len() as u64;
        println!("identify: {factor} bytes at most for each byte of a message");
        assert!(factor <= 32, "{info:?}");
    }
}
