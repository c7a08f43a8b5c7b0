mod hearing;
mod push;
mod telling;

use proptest::{collection::vec, prelude::*};

use super::*;
use crate::{
    identity::Keypair,
    node::{Effects, Harness},
    protocol::ping::tests::support::*,
    transport::{frame::FrameDecoder, net::Action},
};

const TIMEOUT: Duration = Duration::from_secs(5);
const PUSH_DELAY: Duration = Duration::from_millis(200);
const NANO: Duration = Duration::from_nanos(1);
const C1: ConnId = ConnId(1);
const PEER_STREAM: StreamId = StreamId(INBOUND);

const ON_THIS_HOST: &str = "127.0.0.1:4001";
const ON_THIS_SITE: &str = "192.168.1.7:4001";
const ON_THE_INTERNET: &str = "9.9.9.9:4001";

type Harnessed = Harness<Identify>;

fn harness() -> Harnessed {
    let config = IdentifyConfig { timeout: TIMEOUT, push_delay: PUSH_DELAY };
    let mut harness = Harness::new(1, |seed| Identify::new(config, seed));
    harness.local.listen_addrs = vec![addr("/ip4/9.8.7.6/udp/4001/quic-v1")];
    harness.local.protocols = vec![IDENTIFY, PUSH];
    harness
}

fn addr(text: &str) -> Multiaddr {
    text.parse().unwrap()
}

/// Connects peer `n`. Returns the stream on which it is asked who it is.
fn connect(harness: &mut Harnessed, n: u8, address: &str) -> StreamId {
    let effects = harness.net(connected(n, address));
    let [Action::Open { stream, conn, protocols, framing }] = &effects.actions[..] else { panic!("{effects:?}") };
    assert_eq!((*conn, &protocols[..], *framing), (ConnId(n.into()), &[IDENTIFY][..], FRAMING));
    assert_eq!((&effects.events[..], &effects.signals[..]), (&[][..], &[][..]));
    *stream
}

/// A message that was written, and its parts as they were cut.
struct Told {
    message: IdentifyMessage,
    parts: Vec<Bytes>,
}

/// The message that these actions write to a stream, which they then close.
fn told(stream: StreamId, actions: &[Action]) -> Told {
    let Some((Action::Close { stream: closed }, writes)) = actions.split_last() else { panic!("{actions:?}") };
    assert_eq!(*closed, stream);
    let mut frames = FrameDecoder::new(MAX_RECEIVED);
    let mut merger = Merger::new();
    let mut parts = Vec::new();
    for write in writes {
        let Action::Write { stream: to, data } = write else { panic!("{write:?}") };
        assert_eq!(*to, stream);
        frames.push(data.clone());
        while let Some(part) = frames.next().unwrap() {
            parts.push(part.clone());
            merger.push(part).unwrap();
        }
    }
    frames.finish().unwrap();
    Told { message: merger.finish().unwrap(), parts }
}

/// What peer `n` is told when it asks.
fn asked(harness: &mut Harnessed, stream: u64, n: u8) -> Told {
    let effects = harness.net(inbound(stream, n, &IDENTIFY));
    assert_eq!((&effects.events[..], &effects.signals[..]), (&[][..], &[][..]));
    told(StreamId(stream), &effects.actions)
}

/// What peer 1 says of itself in these tests.
fn says() -> IdentifyMessage {
    IdentifyMessage {
        public_key: Some(keypair(1).public().encode_protobuf().into()),
        listen_addrs: vec![addr("/ip4/8.8.8.8/udp/1/quic-v1")],
        protocols: vec![PUSH, IDENTIFY],
        observed_addr: Some(addr("/ip4/5.6.7.8/udp/5/quic-v1")),
        protocol_version: Some("protocol/1".into()),
        agent_version: Some("agent/1".into()),
        signed_peer_record: None,
    }
}

/// What is known of peer 1 after it said that.
fn known() -> PeerInfo {
    PeerInfo {
        peer: peer(1),
        agent_version: "agent/1".into(),
        protocol_version: "protocol/1".into(),
        protocols: vec![IDENTIFY, PUSH],
        listen_addrs: vec![addr("/ip4/8.8.8.8/udp/1/quic-v1")],
        signed: false,
        observed_addr: Some(addr("/ip4/5.6.7.8/udp/5/quic-v1")),
    }
}

/// A peer writes its message and ends. Returns what the end brought.
fn say(harness: &mut Harnessed, stream: StreamId, message: &IdentifyMessage) -> Effects {
    for part in message.encode() {
        assert!(harness.net(frame(stream, part)).is_empty());
    }
    harness.net(end(stream))
}

/// Peer 1 pushes a message on a new stream.
fn pushes(harness: &mut Harnessed, stream: u64, message: &IdentifyMessage) -> Effects {
    assert!(harness.net(inbound(stream, 1, &PUSH)).is_empty());
    say(harness, StreamId(stream), message)
}

/// What the peer is now known as, when these effects tell so to application and siblings alike and do nothing else.
fn identified(stream: StreamId, effects: &Effects) -> PeerInfo {
    assert_eq!(effects.actions, [close(stream)]);
    let (last, before) = effects.events.split_last().expect("nothing was told");
    let Event::Identified { conn, peer, info } = last else { panic!("{effects:?}") };
    assert_eq!(effects.signals, [Signal::Identified { conn: *conn, info: info.clone() }]);
    match before {
        [] => {}
        [Event::ObservedAddress { conn: on, peer: by, address }] => {
            assert_eq!((on, by, Some(address)), (conn, peer, info.observed_addr.as_ref()));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(info.peer, *peer);
    PeerInfo::clone(info)
}

/// Peer 1, met at `address`, says this of itself. Returns what is known of it then.
fn heard(address: &str, message: &IdentifyMessage) -> PeerInfo {
    let mut harness = harness();
    let stream = connect(&mut harness, 1, address);
    let effects = say(&mut harness, stream, message);
    let info = identified(stream, &effects);
    assert_eq!(harness.machine.info(C1).map(|info| &**info), Some(&info));
    assert_silent(&mut harness);
    info
}

fn identify_failed(n: u8, error: IdentifyError) -> Event {
    Event::IdentifyFailed { conn: ConnId(n.into()), peer: peer(n), error }
}

fn fault(n: u8, stream: StreamId, fault: PeerFault) -> Action {
    Action::Fault { conn: ConnId(n.into()), stream: Some(stream), fault }
}

fn sealed(keypair: &Keypair, seq: u64, addresses: &[&str]) -> SignedEnvelope {
    let addresses = addresses.iter().map(|address| addr(address)).collect();
    PeerRecord { peer_id: keypair.peer_id(), seq, addresses }.seal(keypair).unwrap()
}

fn any_part() -> impl Strategy<Value = Bytes> {
    let key = |n: u8| Bytes::from(keypair(n).public().encode_protobuf());
    let key = prop_oneof![(1..4u8).prop_map(key), vec(any::<u8>(), 0..40).prop_map(Bytes::from)];
    let address = proptest::sample::select(vec![
        "/ip4/9.9.9.9/udp/1/quic-v1",
        "/ip4/10.0.0.9/udp/1/quic-v1",
        "/ip4/127.0.0.1/tcp/1",
        "/dns4/example.org/udp/0/quic-v1",
    ]);
    let protocols = proptest::sample::subsequence(vec![IDENTIFY, PUSH], 0..=2);
    let record = (1..4u8, any::<u64>())
        .prop_map(|(n, seq)| Bytes::from(sealed(&keypair(n), seq, &["/ip4/9.9.9.9/udp/2/quic-v1"]).encode()));
    let message = (
        proptest::option::of(key),
        vec(address.clone().prop_map(addr), 0..4),
        protocols,
        proptest::option::of(address.prop_map(addr)),
        proptest::option::of(record),
    );
    let message = message.prop_map(|(public_key, listen_addrs, protocols, observed_addr, signed_peer_record)| {
        let rest = IdentifyMessage::default();
        let message =
            IdentifyMessage { public_key, listen_addrs, protocols, observed_addr, signed_peer_record, ..rest };
        message.encode().remove(0)
    });
    prop_oneof![4 => message, 1 => vec(any::<u8>(), 0..40).prop_map(Bytes::from)]
}

proptest! {
    #[test]
    fn nothing_that_a_network_does_leaves_anything_behind(
        steps in steps(vec![IDENTIFY, PUSH], any_part()),
        streams_first: bool,
    ) {
        let mut harness = harness();
        let events = run(&mut harness, steps, streams_first, |_, _, _, _| (), |_| ());
        for event in events {
            let told = matches!(
                event,
                Event::Identified { .. } | Event::IdentifyFailed { .. } | Event::ObservedAddress { .. }
            );
            prop_assert!(told, "{:?}", event);
        }
        prop_assert_eq!(harness.machine.census(), 0);
    }
}
