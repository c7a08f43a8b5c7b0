use proptest::prelude::*;

use super::*;
use crate::transport::frame::{FrameDecoder, FrameError, encode_frame};

fn addr(text: &str) -> Multiaddr {
    text.parse().unwrap()
}

fn name(text: &str) -> ProtocolId {
    ProtocolId::new(text).unwrap()
}

fn merge(messages: impl IntoIterator<Item = Bytes>) -> Result<IdentifyMessage, IdentifyError> {
    let mut merger = Merger::new();
    for message in messages {
        merger.push(message)?;
    }
    merger.finish()
}

fn full() -> IdentifyMessage {
    IdentifyMessage {
        public_key: Some(Bytes::from_static(b"\x08\x01\x12\x00")),
        listen_addrs: vec![addr("/ip4/1.2.3.4/udp/4001/quic-v1")],
        protocols: vec![name("/a"), name("/b/1")],
        observed_addr: Some(addr("/ip4/5.6.7.8/udp/1/quic-v1")),
        protocol_version: Some("p/1".into()),
        agent_version: Some("x".into()),
        signed_peer_record: Some(Bytes::from_static(b"rec")),
    }
}

#[test]
fn a_full_message_has_its_known_bytes_in_ascending_order() {
    let golden: &[&[u8]] = &[
        b"\x0a\x04\x08\x01\x12\x00",
        b"\x12\x0b\x04\x01\x02\x03\x04\x91\x02\x0f\xa1\xcd\x03",
        b"\x1a\x02/a",
        b"\x1a\x04/b/1",
        b"\x22\x0b\x04\x05\x06\x07\x08\x91\x02\x00\x01\xcd\x03",
        b"\x2a\x03p/1",
        b"\x32\x01x",
        b"\x42\x03rec",
    ];
    let messages = full().encode();
    assert_eq!(messages, [Bytes::from(golden.concat())]);
    assert_eq!(merge(messages), Ok(full()));
}

#[test]
fn an_empty_message_has_no_bytes_but_is_a_message() {
    let empty = IdentifyMessage::default();
    assert_eq!(empty.encode(), [Bytes::new()]);
    assert_eq!(merge([Bytes::new()]), Ok(empty));
    assert_eq!(merge([]), Err(IdentifyError::Missing));
}

#[test]
fn a_record_beyond_two_kibibytes_follows_in_a_message_of_its_own() {
    let mut message = full();
    let base = message.encode()[0].len() - 5;
    // Key of one byte, length of two.
    message.signed_peer_record = Some(vec![7; MAX_SENT_TOGETHER - base - 3].into());
    let messages = message.encode();
    assert_eq!(messages.len(), 1);
    assert_eq!(messages[0].len(), MAX_SENT_TOGETHER);

    message.signed_peer_record = Some(vec![7; MAX_SENT_TOGETHER - base - 2].into());
    let messages = message.encode();
    assert_eq!(messages.len(), 2);
    assert_eq!(messages[0].len(), base);
    // The first one stands alone.
    let first = merge([messages[0].clone()]).unwrap();
    assert_eq!(first.signed_peer_record, None);
    assert_eq!(first.protocols, message.protocols);
    assert_eq!(merge(messages), Ok(message.clone()));

    message.signed_peer_record = Some(vec![7; MAX_SENT].into());
    let messages = message.encode();
    assert_eq!(messages.len(), 1);
    assert_eq!(messages[0].len(), base);
}

#[test]
fn addresses_are_trimmed_before_protocols() {
    let mut message = full();
    message.listen_addrs = (0..500).map(|port| addr(&format!("/ip4/1.2.3.4/udp/{port}/quic-v1"))).collect();
    message.signed_peer_record = Some(vec![7; 4000].into());
    let messages = message.encode();
    assert!(messages.iter().all(|message| message.len() <= MAX_SENT));
    // Nothing was given up needlessly: one more address would not have fitted.
    assert!(messages[0].len() > MAX_SENT - 13);
    let merged = merge(messages).unwrap();
    assert_eq!(merged.protocols, message.protocols);
    assert_eq!(merged.signed_peer_record, message.signed_peer_record);
    assert_eq!(merged.listen_addrs, message.listen_addrs[..merged.listen_addrs.len()]);

    message.protocols = (0..500).map(|i| name(&format!("/protocol/{i}"))).collect();
    let messages = message.encode();
    assert!(messages.iter().all(|message| message.len() <= MAX_SENT));
    let merged = merge(messages).unwrap();
    assert!(merged.listen_addrs.len() <= 1);
    assert!(merged.protocols.len() > 200);
}

#[test]
fn own_versions_are_cut_at_a_character() {
    let message = IdentifyMessage {
        agent_version: Some("é".repeat(300) + "x"),
        protocol_version: Some("x".to_owned() + &"é".repeat(300)),
        ..IdentifyMessage::default()
    };
    let merged = merge(message.encode()).unwrap();
    assert_eq!(merged.agent_version.unwrap(), "é".repeat(256));
    assert_eq!(merged.protocol_version.unwrap(), "x".to_owned() + &"é".repeat(255));
}

#[test]
fn lists_are_joined_and_of_single_values_the_last_counts() {
    let first = full();
    let second = IdentifyMessage {
        listen_addrs: vec![addr("/ip6/::1/udp/1/quic-v1")],
        protocols: vec![name("/c")],
        agent_version: Some("y".into()),
        ..IdentifyMessage::default()
    };
    let messages = first.encode().into_iter().chain(second.encode());
    let merged = merge(messages).unwrap();
    assert_eq!(merged.protocols, [name("/a"), name("/b/1"), name("/c")]);
    assert_eq!(merged.listen_addrs.len(), 2);
    assert_eq!(merged.agent_version.as_deref(), Some("y"));
    assert_eq!(merged.protocol_version, first.protocol_version);
    assert_eq!(merged.public_key, first.public_key);
    assert_eq!(merged.signed_peer_record, first.signed_peer_record);
}

#[test]
fn ten_messages_are_accepted_and_an_eleventh_is_not() {
    let mut merger = Merger::new();
    for _ in 0..MAX_MESSAGES {
        merger.push(full().encode().remove(0)).unwrap();
    }
    assert_eq!(merger.push(Bytes::new()), Err(IdentifyError::TooMany));
    assert_eq!(merger.finish().unwrap().protocols.len(), 20);
}

#[test]
fn the_limit_of_a_message_is_exact() {
    let wire = |len| Wire { public_key: Some(vec![0; len].into()), ..Wire::default() };
    let fits = Bytes::from(wire(MAX_RECEIVED - 3).encode_to_vec());
    assert_eq!(fits.len(), MAX_RECEIVED);
    assert!(merge([fits]).is_ok());
    let over = Bytes::from(wire(MAX_RECEIVED - 2).encode_to_vec());
    assert_eq!(merge([over]), Err(IdentifyError::TooLong(8193)));
}

#[test]
fn an_end_within_a_frame_is_noticed_before_the_message() {
    let framed = encode_frame(&full().encode()[0]);
    for cut in 1..framed.len() {
        let mut decoder = FrameDecoder::new(MAX_RECEIVED);
        decoder.push(framed.slice(..cut));
        assert_eq!(decoder.next(), Ok(None));
        assert_eq!(decoder.finish(), Err(FrameError::Truncated));
    }
    let mut decoder = FrameDecoder::new(MAX_RECEIVED);
    // 8193 as a varint.
    decoder.push(Bytes::from_static(&[0x81, 0x40]));
    let max = MAX_RECEIVED;
    assert_eq!(decoder.next(), Err(FrameError::TooLong { max }));
}

#[test]
fn malformed_protobuf_is_an_error() {
    for bytes in [&b"\x0a"[..], b"\x0a\x05ab", b"\x08\x01", b"\x0b", b"\x00"] {
        let result = merge([Bytes::from_static(bytes)]);
        assert!(matches!(result, Err(IdentifyError::Malformed(_))));
    }
}

#[test]
fn unknown_fields_are_skipped() {
    let mut bytes = full().encode()[0].to_vec();
    bytes.extend_from_slice(b"\x38\x05\xfa\x01\x02ab");
    assert_eq!(merge([bytes.into()]), Ok(full()));
}

#[test]
fn invalid_entries_are_left_out_one_by_one() {
    let long = "/".repeat(257);
    let wire = Wire {
        listen_addrs: vec![
            Bytes::from_static(b"\xff\xff\x7f"),
            Bytes::new(),
            copy(addr("/ip4/1.2.3.4/udp/1/quic-v1").as_ref()),
            Bytes::from_static(b"\x04\x01"),
        ],
        protocols: vec![
            Bytes::from_static(b"no slash"),
            Bytes::from_static(b"/a\nb"),
            Bytes::from_static(b"/\xff"),
            copy(long.as_bytes()),
            Bytes::from_static(b"/fine"),
            Bytes::new(),
        ],
        observed_addr: Some(Bytes::from_static(b"\x04\x01")),
        agent_version: Some(Bytes::from_static(b"a\xffb")),
        ..Wire::default()
    };
    let merged = merge([wire.encode_to_vec().into()]).unwrap();
    assert_eq!(merged.listen_addrs, [addr("/ip4/1.2.3.4/udp/1/quic-v1")]);
    assert_eq!(merged.protocols, [name("/fine")]);
    assert_eq!(merged.observed_addr, None);
    assert_eq!(merged.agent_version.as_deref(), Some("a\u{fffd}b"));
}

#[test]
fn no_more_is_kept_than_the_caps_allow() {
    let protocols = Wire {
        protocols: vec![Bytes::from_static(b"/ab"); 1000],
        agent_version: Some("é".repeat(300).into()),
        ..Wire::default()
    };
    let tiny = copy(addr("/udp/1").as_ref());
    let addrs = Wire { listen_addrs: vec![tiny; 300], ..Wire::default() };
    let messages = [&protocols, &addrs, &protocols, &addrs];
    let messages = messages.map(|wire| Bytes::from(wire.encode_to_vec()));
    let merged = merge(messages).unwrap();
    assert_eq!(merged.protocols.len(), MAX_PROTOCOLS);
    assert_eq!(merged.listen_addrs.len(), MAX_ADDRS);
    assert_eq!(merged.agent_version.unwrap().len(), MAX_VERSION);
}

#[test]
fn remote_text_is_printed_without_effect() {
    assert_eq!(escape("go-libp2p/0.40 \"ü\" it's"), "go-libp2p/0.40 \"ü\" it's");
    assert_eq!(escape("a\u{1b}[2J\r\n\0"), "a\\u{1b}[2J\\r\\n\\0");
    assert_eq!(escape("\u{9b}\u{202e}\u{200b}"), "\\u{9b}\\u{202e}\\u{200b}");
    assert_eq!(escape("\\n"), "\\\\n");
}

fn messages() -> impl Strategy<Value = IdentifyMessage> {
    let bytes = |max| prop::option::of(prop::collection::vec(any::<u8>(), 0..max));
    let addr = (any::<std::net::Ipv6Addr>(), any::<u16>())
        .prop_map(|(ip, port)| addr(&format!("/ip6/{ip}/udp/{port}/quic-v1")));
    (
        bytes(1200),
        prop::collection::vec(addr.clone(), 0..300),
        prop::collection::vec("/[a-z/0-9.]{1,60}".prop_map(|text| name(&text)), 0..200),
        prop::option::of(addr),
        prop::option::of("\\PC{0,300}"),
        prop::option::of("\\PC{0,300}"),
        bytes(5000),
    )
        .prop_map(|(key, listen_addrs, protocols, observed_addr, version, agent, record)| IdentifyMessage {
            public_key: key.map(Bytes::from),
            listen_addrs,
            protocols,
            observed_addr,
            protocol_version: version,
            agent_version: agent,
            signed_peer_record: record.map(Bytes::from),
        })
}

proptest! {
    #[test]
    fn what_is_sent_is_within_limits_and_a_beginning_of_what_was_meant(message in messages()) {
        let sent = message.encode();
        prop_assert!(!sent.is_empty() && sent.len() <= 2);
        prop_assert!(sent.iter().all(|message| message.len() <= MAX_SENT));
        let got = merge(sent).unwrap();
        prop_assert_eq!(&got.public_key, &message.public_key);
        prop_assert_eq!(&got.observed_addr, &message.observed_addr);
        prop_assert!(message.listen_addrs.starts_with(&got.listen_addrs));
        prop_assert!(message.protocols.starts_with(&got.protocols));
        if got.protocols.len() < message.protocols.len() {
            prop_assert!(got.listen_addrs.len() <= 3);
        }
        // What was received can be sent on unchanged.
        prop_assert_eq!(merge(got.encode()), Ok(got));
    }

    #[test]
    fn noise_never_panics_nor_exceeds_the_caps(
        noise in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..12),
    ) {
        let mut merger = Merger::new();
        for message in noise {
            let _ = merger.push(message.into());
        }
        if let Ok(message) = merger.finish() {
            let _ = message.encode();
        }
    }

    #[test]
    fn escaped_text_has_no_control_characters(text: String) {
        prop_assert!(!escape(&text).chars().any(char::is_control));
    }
}
