//! What is believed of what peers say of themselves.

use super::{message::escape, *};

const SIGNED: &str = "/ip4/7.7.7.7/udp/7/quic-v1";

/// What peer 1 says, with a record beside it.
fn says_with(record: &SignedEnvelope) -> IdentifyMessage {
    IdentifyMessage { signed_peer_record: Some(record.encode().into()), ..says() }
}

fn with_peer(address: &str, n: u8) -> Multiaddr {
    addr(&format!("{address}/p2p/{}", peer(n)))
}

/// Peer 1, met on the internet, says this. Returns what came of it.
fn refused(message: &IdentifyMessage) -> (StreamId, Effects) {
    let mut harness = harness();
    let stream = connect(&mut harness, 1, ON_THE_INTERNET);
    let effects = say(&mut harness, stream, message);
    assert_eq!((harness.machine.info(C1), harness.machine.census()), (None, 1));
    assert_silent(&mut harness);
    (stream, effects)
}

#[test]
fn every_new_connection_is_asked_and_its_answer_told() {
    let mut harness = harness();
    let stream = connect(&mut harness, 1, ON_THE_INTERNET);
    assert!(harness.net(NetEvent::Opened { stream, protocol: IDENTIFY }).is_empty());
    assert_eq!(harness.deadline(), Some(Time::ZERO + TIMEOUT));

    let effects = say(&mut harness, stream, &says());
    let info = Arc::new(known());
    let observed = Event::ObservedAddress { conn: C1, peer: peer(1), address: addr("/ip4/5.6.7.8/udp/5/quic-v1") };
    let identified = Event::Identified { conn: C1, peer: peer(1), info: info.clone() };
    let expected = Effects {
        actions: vec![close(stream)],
        events: vec![observed, identified],
        signals: vec![Signal::Identified { conn: C1, info }],
    };
    assert_eq!(effects, expected);
    assert_eq!(harness.machine.census(), 1);
    assert_silent(&mut harness);
}

#[test]
fn nothing_is_believed_before_the_end() {
    let mut harness = harness();
    let stream = connect(&mut harness, 1, ON_THE_INTERNET);
    assert!(harness.net(frame(stream, says().encode().remove(0))).is_empty());
    assert_eq!(harness.machine.info(C1), None);
    assert!(harness.net(failed(stream, StreamError::Reset(0))).events.len() == 1);
    assert_eq!(harness.machine.info(C1), None);
}

#[test]
fn several_messages_are_one() {
    let mut harness = harness();
    let stream = connect(&mut harness, 1, ON_THE_INTERNET);
    let first = IdentifyMessage { agent_version: None, protocols: vec![PUSH], ..says() };
    let second = IdentifyMessage {
        agent_version: Some("agent/1".into()),
        listen_addrs: vec![addr("/ip4/8.8.4.4/udp/1/quic-v1")],
        protocols: vec![IDENTIFY, PUSH],
        ..IdentifyMessage::default()
    };
    for message in [first, second] {
        assert!(harness.net(frame(stream, message.encode().remove(0))).is_empty());
    }
    let effects = harness.net(end(stream));
    let listen_addrs = vec![addr("/ip4/8.8.8.8/udp/1/quic-v1"), addr("/ip4/8.8.4.4/udp/1/quic-v1")];
    assert_eq!(identified(stream, &effects), PeerInfo { listen_addrs, ..known() });
}

#[test]
fn a_message_that_says_nothing_identifies_all_the_same() {
    let expected = PeerInfo {
        peer: peer(1),
        agent_version: String::new(),
        protocol_version: String::new(),
        protocols: vec![],
        listen_addrs: vec![],
        signed: false,
        observed_addr: None,
    };
    assert_eq!(heard(ON_THE_INTERNET, &IdentifyMessage::default()), expected);
}

#[test]
fn a_key_may_be_missing() {
    assert_eq!(heard(ON_THE_INTERNET, &IdentifyMessage { public_key: None, ..says() }), known());
}

#[test]
fn anothers_key_is_a_fault_and_nothing_with_it_is_believed() {
    let key = keypair(2).public().encode_protobuf().into();
    let (stream, effects) = refused(&IdentifyMessage { public_key: Some(key), ..says() });
    assert_eq!(effects, actions([close(stream), fault(1, stream, PeerFault::IdentityMismatch)]));
}

#[test]
fn a_malformed_key_fails_the_exchange() {
    for key in [&b""[..], b"key", &[8, 1, 18, 1, 0]] {
        let (stream, effects) = refused(&IdentifyMessage { public_key: Some(Bytes::from_static(key)), ..says() });
        assert_eq!(effects.actions, [close(stream)]);
        let [Event::IdentifyFailed { conn: C1, error: IdentifyError::Invalid(why), .. }] = &effects.events[..] else {
            panic!("{effects:?}");
        };
        assert!(why.starts_with("public key: "), "{why}");
    }
}

#[test]
fn a_record_replaces_the_addresses_beside_it() {
    let record = sealed(&keypair(1), 5, &[SIGNED, "/ip4/127.0.0.1/udp/1/quic-v1"]);
    let expected = PeerInfo { signed: true, listen_addrs: vec![addr(SIGNED)], ..known() };
    assert_eq!(heard(ON_THE_INTERNET, &says_with(&record)), expected);
}

#[test]
fn a_record_in_the_legacy_spelling_counts_as_well() {
    let payload = sealed(&keypair(1), 5, &[SIGNED]).payload;
    let kind = b"/libp2p/routing-state-record";
    let record = SignedEnvelope::seal(&keypair(1), "libp2p-routing-state", kind, payload);
    let expected = PeerInfo { signed: true, listen_addrs: vec![addr(SIGNED)], ..known() };
    assert_eq!(heard(ON_THE_INTERNET, &says_with(&record)), expected);
}

#[test]
fn a_record_that_is_not_good_is_as_if_it_were_missing() {
    let good = sealed(&keypair(1), 5, &[SIGNED]);
    let mut forged = good.clone();
    forged.signature[0] ^= 1;
    let mut altered = good.clone();
    *altered.payload.last_mut().unwrap() ^= 1;
    let of_another = sealed(&keypair(2), 5, &[SIGNED]);
    let mut signed_by_another = good.clone();
    signed_by_another = SignedEnvelope::seal(
        &keypair(2),
        "libp2p-peer-record",
        &signed_by_another.payload_type.clone(),
        signed_by_another.payload,
    );
    let wrong_domain = SignedEnvelope::seal(&keypair(1), "libp2p-relay-rsvp", &good.payload_type, good.payload.clone());
    let no_record = SignedEnvelope::seal(&keypair(1), "libp2p-peer-record", &[3, 1], b"?".to_vec());
    for record in [forged, altered, of_another, signed_by_another, wrong_domain, no_record] {
        assert_eq!(heard(ON_THE_INTERNET, &says_with(&record)), known(), "{record:?}");
    }
    let garbage = IdentifyMessage { signed_peer_record: Some(Bytes::from_static(b"?")), ..says() };
    assert_eq!(heard(ON_THE_INTERNET, &garbage), known());
}

#[test]
fn a_record_older_than_the_last_is_not_believed() {
    let mut harness = harness();
    let stream = connect(&mut harness, 1, ON_THE_INTERNET);
    let mut hear = |stream: StreamId, seq| {
        let effects = say(&mut harness, stream, &says_with(&sealed(&keypair(1), seq, &[SIGNED])));
        harness.net(inbound(stream.get().max(INBOUND) + 1, 1, &PUSH));
        identified(stream, &effects).signed
    };
    assert!(hear(stream, 5));
    let push = |n| StreamId(INBOUND + n);
    assert!(!hear(push(1), 4));
    assert!(hear(push(2), 5));
    assert!(hear(push(3), 6));
    assert!(!hear(push(4), 5));
}

#[test]
fn addresses_lose_the_peers_own_name_and_those_of_other_peers_are_left_out() {
    let relayed = format!("/ip4/8.8.8.8/udp/3/quic-v1/p2p/{}/p2p-circuit", peer(3));
    let message = IdentifyMessage {
        listen_addrs: vec![
            with_peer("/ip4/8.8.8.8/udp/1/quic-v1", 1),
            with_peer("/ip4/8.8.8.8/udp/2/quic-v1", 2),
            with_peer(&relayed, 1),
            // The same again, and nothing but a name.
            addr("/ip4/8.8.8.8/udp/1/quic-v1"),
            with_peer("", 1),
        ],
        ..says()
    };
    let listen_addrs = vec![addr("/ip4/8.8.8.8/udp/1/quic-v1"), addr(&relayed)];
    assert_eq!(heard(ON_THE_INTERNET, &message), PeerInfo { listen_addrs, ..known() });
}

#[test]
fn only_so_many_addresses_are_kept() {
    let listen_addrs: Vec<_> = (0..100u32).map(|n| addr(&format!("/ip4/8.8.8.{n}/udp/1/quic-v1"))).collect();
    let message = IdentifyMessage { listen_addrs: listen_addrs.clone(), ..says() };
    assert_eq!(heard(ON_THE_INTERNET, &message).listen_addrs, listen_addrs[..MAX_LISTEN_ADDRS]);
}

#[test]
fn protocols_are_sorted_and_each_is_there_once() {
    let (a, b) = (ProtocolId::from_static("/a"), ProtocolId::from_static("/b"));
    let message = IdentifyMessage { protocols: vec![b.clone(), a.clone(), b.clone()], ..says() };
    assert_eq!(heard(ON_THE_INTERNET, &message).protocols, [a, b]);
}

#[test]
fn text_is_kept_as_it_came_for_escape_to_make_harmless() {
    let message = IdentifyMessage { agent_version: Some("a\x1b[31m\n\u{202e}b".into()), ..says() };
    let info = heard(ON_THE_INTERNET, &message);
    assert_eq!(info.agent_version, "a\x1b[31m\n\u{202e}b");
    assert_eq!(escape(&info.agent_version), r"a\u{1b}[31m\n\u{202e}b");
}

#[test]
fn an_observed_address_is_one_from_which_packets_can_come() {
    let own = |address: &str| with_peer(address, 9).to_string();
    // What is said, and what is told to the application when the observer is on this host, this site, the internet.
    let table: &[(&str, Option<&str>, [bool; 3])] = &[
        ("/ip4/5.6.7.8/udp/5/quic-v1", None, [true; 3]),
        ("/ip6/2606:4700::1/udp/5/quic-v1", None, [true; 3]),
        // js ends it with our own name.
        (&own("/ip4/5.6.7.8/udp/5/quic-v1"), Some("/ip4/5.6.7.8/udp/5/quic-v1"), [true; 3]),
        ("/ip4/192.168.0.5/udp/5/quic-v1", None, [true, true, false]),
        ("/ip4/127.0.0.1/udp/5/quic-v1", None, [true, false, false]),
        ("/ip4/0.0.0.0/udp/5/quic-v1", None, [false; 3]),
        ("/ip4/5.6.7.8/udp/0/quic-v1", None, [false; 3]),
        ("/ip4/5.6.7.8/tcp/5", None, [false; 3]),
        ("/ip4/5.6.7.8/udp/5/quic-v1/webtransport", None, [false; 3]),
        ("/dns4/victim.example/udp/5/quic-v1", None, [false; 3]),
        ("/dnsaddr/victim.example", None, [false; 3]),
    ];
    for (said, expected, useful) in table {
        for (met, useful) in [ON_THIS_HOST, ON_THIS_SITE, ON_THE_INTERNET].into_iter().zip(useful) {
            let mut harness = harness();
            let stream = connect(&mut harness, 1, met);
            let effects = say(&mut harness, stream, &IdentifyMessage { observed_addr: Some(addr(said)), ..says() });
            let expected = useful.then(|| addr(expected.unwrap_or(said)));
            assert_eq!(identified(stream, &effects).observed_addr, expected, "{said} from {met}");
            assert_eq!(effects.events.len(), 1 + usize::from(*useful), "{said} from {met}");
        }
    }
}

#[test]
fn an_eleventh_message_is_a_fault() {
    let mut harness = harness();
    let stream = connect(&mut harness, 1, ON_THE_INTERNET);
    for _ in 0..message::MAX_MESSAGES {
        assert!(harness.net(frame(stream, "")).is_empty());
    }
    let effects = harness.net(frame(stream, ""));
    assert_eq!(effects.actions, [fault(1, stream, PeerFault::BadIdentify)]);
    assert_eq!(effects.events, [identify_failed(1, IdentifyError::Invalid("more than ten identify messages".into()))]);
    assert!(harness.net(frame(stream, "")).is_empty());
    assert!(harness.net(end(stream)).is_empty());
    assert_eq!(harness.machine.census(), 1);
    assert_silent(&mut harness);
}

#[test]
fn a_message_that_is_too_long_or_malformed_is_a_fault() {
    for (bytes, why) in [(vec![0; MAX_RECEIVED + 1], "8193 bytes"), (b"\x0a\x7f".to_vec(), "malformed")] {
        let mut harness = harness();
        let stream = connect(&mut harness, 1, ON_THE_INTERNET);
        let effects = harness.net(frame(stream, bytes));
        assert_eq!(effects.actions, [fault(1, stream, PeerFault::BadIdentify)]);
        let [Event::IdentifyFailed { error: IdentifyError::Invalid(error), .. }] = &effects.events[..] else {
            panic!("{effects:?}");
        };
        assert!(error.contains(why), "{error}");
        assert_silent(&mut harness);
    }
}

#[test]
fn an_end_without_a_message_fails_the_exchange() {
    let mut harness = harness();
    let stream = connect(&mut harness, 1, ON_THE_INTERNET);
    let effects = harness.net(end(stream));
    assert_eq!(effects.actions, [close(stream)]);
    let error = IdentifyError::Invalid("no identify message was sent".into());
    assert_eq!(effects.events, [identify_failed(1, error)]);
    assert_silent(&mut harness);
}

#[test]
fn an_exchange_times_out_exactly_then() {
    let mut harness = harness();
    harness.advance(Time::from_secs(1));
    let stream = connect(&mut harness, 1, ON_THE_INTERNET);
    assert!(harness.net(frame(stream, says().encode().remove(0))).is_empty());
    let at = Time::from_secs(1) + TIMEOUT;
    assert_eq!(harness.advance(at - NANO), []);
    let expected = Effects {
        actions: vec![reset(stream, code::NEGOTIATION_FAILED)],
        events: vec![identify_failed(1, IdentifyError::TimedOut)],
        signals: vec![],
    };
    assert_eq!(harness.advance(at), [(at, expected)]);
    assert!(harness.net(end(stream)).is_empty());
    assert_eq!(harness.machine.census(), 1);
    assert_silent(&mut harness);
}

#[test]
fn a_failed_stream_is_told_as_what_it_means() {
    let table = [
        (StreamError::Unsupported, IdentifyError::Unsupported),
        (StreamError::TimedOut, IdentifyError::TimedOut),
        (StreamError::Reset(2), IdentifyError::Stream(StreamError::Reset(2))),
        (StreamError::ConnectionClosed, IdentifyError::Stream(StreamError::ConnectionClosed)),
        (StreamError::EndedEarly, IdentifyError::Stream(StreamError::EndedEarly)),
    ];
    for (error, told) in table {
        let mut harness = harness();
        let stream = connect(&mut harness, 1, ON_THE_INTERNET);
        let effects = harness.net(failed(stream, error));
        let expected = Effects { events: vec![identify_failed(1, told)], ..Effects::default() };
        assert_eq!(effects, expected);
        assert_silent(&mut harness);
    }
}

#[test]
fn a_lost_connection_leaves_nothing_behind() {
    let mut harness = harness();
    let asking = connect(&mut harness, 1, ON_THE_INTERNET);
    harness.net(inbound(INBOUND, 1, &PUSH));
    harness.signal(&Signal::LocalChanged);
    assert_eq!(harness.net(failed(asking, StreamError::ConnectionClosed)).events.len(), 1);
    assert!(harness.net(failed(PEER_STREAM, StreamError::ConnectionClosed)).is_empty());
    assert!(harness.net(disconnected(1)).is_empty());
    assert_eq!((harness.machine.census(), harness.machine.info(C1)), (0, None));
    assert_silent(&mut harness);
}

#[test]
fn late_events_for_forgotten_streams_are_ignored() {
    let mut harness = harness();
    let stream = connect(&mut harness, 1, ON_THE_INTERNET);
    say(&mut harness, stream, &says());
    asked(&mut harness, INBOUND, 1);
    for stream in [stream, PEER_STREAM, StreamId(77)] {
        for event in [
            NetEvent::Opened { stream, protocol: IDENTIFY },
            frame(stream, says().encode().remove(0)),
            data(stream, "?"),
            NetEvent::Writable { stream },
            NetEvent::Delivered { stream },
            stopped(stream, 0),
            end(stream),
            failed(stream, StreamError::ConnectionClosed),
        ] {
            assert!(harness.net(event.clone()).is_empty(), "{event:?}");
        }
    }
    assert_eq!(harness.machine.info(C1).map(|info| &**info), Some(&known()));
    assert_silent(&mut harness);
}

#[test]
fn what_siblings_learn_is_no_concern_of_this_machine() {
    let mut harness = harness();
    connect(&mut harness, 1, ON_THE_INTERNET);
    assert!(harness.signal(&Signal::Identified { conn: C1, info: Arc::new(known()) }).is_empty());
    assert_eq!(harness.machine.info(C1), None);
}
