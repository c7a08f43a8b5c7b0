//! What the node says of itself to those who ask, and to whom.

use super::*;
use crate::identity::MAX_RECORD_ADDRESSES;

/// The record in a message: signed by the node, about the node.
fn record(harness: &Harnessed, told: &Told) -> PeerRecord {
    let bytes = told.message.signed_peer_record.as_ref().expect("there is no record");
    let record = PeerRecord::open(&SignedEnvelope::decode(bytes).unwrap()).unwrap();
    assert_eq!(record.peer_id, harness.local.peer_id);
    record
}

#[test]
fn whoever_asks_is_told_everything_and_the_stream_ends() {
    let mut harness = harness();
    connect(&mut harness, 1, ON_THE_INTERNET);
    let told = asked(&mut harness, INBOUND, 1);
    let record = record(&harness, &told);
    assert_eq!(record.seq, 1_700_000_000_000_000_000);
    assert_eq!(record.addresses, harness.local.listen_addrs);
    assert_eq!(told.parts.len(), 1);

    let expected = IdentifyMessage {
        public_key: Some(harness.local.keypair.public().encode_protobuf().into()),
        listen_addrs: vec![addr("/ip4/9.8.7.6/udp/4001/quic-v1")],
        protocols: vec![IDENTIFY, PUSH],
        observed_addr: Some(addr("/ip4/9.9.9.9/udp/4001/quic-v1")),
        protocol_version: Some("harness".into()),
        agent_version: Some("harness".into()),
        signed_peer_record: told.message.signed_peer_record.clone(),
    };
    assert_eq!(told.message, expected);
    // Telling is not remembered: the peer, and the one question to it.
    assert_eq!(harness.machine.census(), 2);
}

#[test]
fn a_peer_learns_the_address_that_it_has_moved_to() {
    let mut harness = harness();
    connect(&mut harness, 1, ON_THE_INTERNET);
    let address = "[::ffff:9.9.9.8]:5".parse().unwrap();
    assert!(harness.net(NetEvent::Moved { conn: C1, address }).is_empty());
    let told = asked(&mut harness, INBOUND, 1);
    assert_eq!(told.message.observed_addr, Some(addr("/ip4/9.9.9.8/udp/5/quic-v1")));
}

/// An address, and whether a peer on this host, in this site and on the internet has any use for it.
const AUDIENCES: &[(&str, bool, bool, bool)] = &[
    ("/ip4/127.0.0.1/udp/1/quic-v1", true, false, false),
    ("/ip6/::1/udp/1/quic-v1", true, false, false),
    ("/ip6/::ffff:127.0.0.1/udp/1/quic-v1", true, false, false),
    ("/ip4/10.1.2.3/udp/1/quic-v1", true, true, false),
    ("/ip4/172.16.0.1/udp/1/quic-v1", true, true, false),
    ("/ip4/192.168.1.2/udp/1/quic-v1", true, true, false),
    ("/ip4/100.64.0.1/udp/1/quic-v1", true, true, false),
    ("/ip4/169.254.1.1/udp/1/quic-v1", true, true, false),
    ("/ip6/fe80::1/udp/1/quic-v1", true, true, false),
    ("/ip6/fd00::1/udp/1/quic-v1", true, true, false),
    ("/ip6/::ffff:10.0.0.1/udp/1/quic-v1", true, true, false),
    ("/ip4/8.8.8.8/udp/1/quic-v1", true, true, true),
    ("/ip6/2606:4700::1/udp/1/quic-v1", true, true, true),
    ("/dns4/example.org/udp/1/quic-v1", true, true, true),
    ("/dnsaddr/example.org", true, true, true),
    ("/ip4/198.51.100.1/udp/1/quic-v1", true, true, true),
    ("/ip4/0.0.0.0/udp/1/quic-v1", false, false, false),
    ("/ip6/::/udp/1/quic-v1", false, false, false),
    // What this node cannot dial is judged as well.
    ("/ip4/127.0.0.1/tcp/1", true, false, false),
    ("/ip4/10.0.0.1/tcp/1/ws", true, true, false),
    ("/ip4/8.8.8.8/tcp/1", true, true, true),
    ("/dns/example.org/tcp/443/wss", true, true, true),
    ("/ip6/::ffff:127.0.0.1/tcp/1", true, false, false),
    ("/ip4/0.0.0.0/tcp/1", false, false, false),
    ("/ip6/::ffff:0.0.0.0/tcp/1", false, false, false),
];

#[test]
fn each_audience_is_told_of_the_addresses_that_mean_something_to_it() {
    let mut harness = harness();
    harness.local.listen_addrs = AUDIENCES.iter().map(|(address, ..)| addr(address)).collect();
    for (n, peers) in [
        (1, [ON_THIS_HOST, "[::1]:1", "[::ffff:127.0.0.1]:1"]),
        (2, [ON_THIS_SITE, "[fd00::9]:1", "169.254.9.9:1"]),
        (3, [ON_THE_INTERNET, "[2606:4700::9]:1", "192.0.2.1:1"]),
    ] {
        let expected: Vec<_> = AUDIENCES
            .iter()
            .filter(|(_, host, site, internet)| [host, site, internet][usize::from(n) - 1] == &true)
            .map(|(address, ..)| addr(address))
            .collect();
        for address in peers {
            connect(&mut harness, n, address);
            let told = asked(&mut harness, INBOUND + u64::from(n), n);
            assert_eq!(told.message.listen_addrs, expected, "{address}");
            assert_eq!(record(&harness, &told).addresses, expected, "{address}");
            harness.net(disconnected(n));
        }
    }
}

#[test]
fn each_audience_takes_in_the_addresses_that_mean_something_to_it() {
    for (address, host, site, internet) in AUDIENCES {
        for (met, useful) in [(ON_THIS_HOST, host), (ON_THIS_SITE, site), (ON_THE_INTERNET, internet)] {
            let message = IdentifyMessage { listen_addrs: vec![addr(address)], ..says() };
            let expected = Vec::from_iter(useful.then(|| addr(address)));
            assert_eq!(heard(met, &message).listen_addrs, expected, "{address} from {met}");
        }
    }
}

#[test]
fn a_node_without_addresses_for_a_peer_signs_nothing() {
    let mut harness = harness();
    harness.local.listen_addrs = vec![addr("/ip4/192.168.0.1/udp/1/quic-v1")];
    connect(&mut harness, 1, ON_THE_INTERNET);
    let told = asked(&mut harness, INBOUND, 1);
    assert_eq!((told.message.listen_addrs, told.message.signed_peer_record), (vec![], None));
}

#[test]
fn a_record_is_signed_once_for_each_change_and_its_numbers_rise() {
    let mut harness = harness();
    connect(&mut harness, 1, ON_THE_INTERNET);
    connect(&mut harness, 2, ON_THE_INTERNET);
    connect(&mut harness, 3, ON_THIS_HOST);
    let first = asked(&mut harness, INBOUND, 1);
    harness.advance(Time::from_secs(1));
    let second = asked(&mut harness, INBOUND + 1, 2);
    assert_eq!(first.message.signed_peer_record, second.message.signed_peer_record);
    let mut seqs = vec![record(&harness, &first).seq];

    // Another audience, later; then changes faster than the clock.
    let told = asked(&mut harness, INBOUND + 2, 3);
    seqs.push(record(&harness, &told).seq);
    assert_eq!(seqs[1], 1_700_000_001_000_000_000);
    for n in 3..6 {
        harness.signal(&Signal::LocalChanged);
        let told = asked(&mut harness, INBOUND + n, 1);
        seqs.push(record(&harness, &told).seq);
    }
    assert_eq!(seqs[2..], [seqs[1] + 1, seqs[1] + 2, seqs[1] + 3]);
}

#[test]
fn a_change_is_told_to_the_next_who_asks() {
    let mut harness = harness();
    connect(&mut harness, 1, ON_THE_INTERNET);
    asked(&mut harness, INBOUND, 1);
    harness.local.listen_addrs.push(addr("/ip4/9.8.7.5/udp/4001/quic-v1"));
    harness.local.protocols.push(ProtocolId::from_static("/new/1"));
    harness.signal(&Signal::LocalChanged);
    let told = asked(&mut harness, INBOUND + 1, 1);
    assert_eq!(told.message.listen_addrs, harness.local.listen_addrs);
    assert_eq!(told.message.protocols, harness.local.protocols);
    assert_eq!(record(&harness, &told).addresses, harness.local.listen_addrs);
}

#[test]
fn a_node_with_many_addresses_says_as_much_as_others_read() {
    let mut harness = harness();
    harness.local.listen_addrs =
        (0..500u32).map(|n| addr(&format!("/ip4/9.8.{}.{}/udp/4001/quic-v1", n / 256, n % 256))).collect();
    connect(&mut harness, 1, ON_THE_INTERNET);
    let told = asked(&mut harness, INBOUND, 1);
    assert_eq!(told.parts.len(), 2);
    for part in &told.parts {
        assert!(part.len() <= message::MAX_SENT);
    }
    assert!(told.message.listen_addrs.len() > MAX_RECORD_ADDRESSES);
    assert_eq!(record(&harness, &told).addresses, harness.local.listen_addrs[..MAX_RECORD_ADDRESSES]);
}

#[test]
fn an_unknown_connection_is_told_nothing() {
    let mut harness = harness();
    for protocol in [IDENTIFY, PUSH] {
        let refused = actions([reset(PEER_STREAM, code::STREAM_PROTOCOL_VIOLATION)]);
        assert_eq!(harness.net(inbound(INBOUND, 1, &protocol)), refused);
    }
    assert_eq!(harness.machine.census(), 0);
    assert_silent(&mut harness);
}

#[test]
fn ten_streams_at_once_are_fine_and_then_one_in_five_seconds() {
    let mut harness = harness();
    let stream = connect(&mut harness, 1, ON_THE_INTERNET);
    say(&mut harness, stream, &says());
    connect(&mut harness, 2, ON_THE_INTERNET);
    let mut next = INBOUND;
    let mut ask = |harness: &mut Harnessed, n: u8| {
        next += 1;
        let protocol = if next.is_multiple_of(2) { IDENTIFY } else { PUSH };
        let effects = harness.net(inbound(next, n, &protocol));
        if effects == actions([fault(n, StreamId(next), PeerFault::PushFlood)]) {
            return false;
        }
        // Pushed nothing, or told.
        harness.net(end(StreamId(next)));
        true
    };
    // A bucket that is full does not fill further.
    harness.advance(Time::from_secs(104));
    for n in 0..10 {
        assert!(ask(&mut harness, 1), "{n}");
    }
    assert!(!ask(&mut harness, 1));
    assert!(ask(&mut harness, 2), "another connection has its own ten");

    let from = harness.now();
    let at = |seconds| from + Duration::from_secs(seconds);
    harness.advance(at(5) - NANO);
    assert!(!ask(&mut harness, 1));
    harness.advance(at(5));
    assert!(ask(&mut harness, 1));
    assert!(!ask(&mut harness, 1));
    // What is earned in part is not lost.
    harness.advance(at(14));
    assert!(ask(&mut harness, 1));
    assert!(!ask(&mut harness, 1));
    harness.advance(at(15));
    assert!(ask(&mut harness, 1));
    assert!(!ask(&mut harness, 1));
    // Nor is more saved than ten.
    harness.advance(at(1_000_000));
    for n in 0..10 {
        assert!(ask(&mut harness, 1), "{n}");
    }
    assert!(!ask(&mut harness, 1));
}
