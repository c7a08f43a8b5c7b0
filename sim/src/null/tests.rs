use bytes::BytesMut;
use noq_proto::PathId;
use proptest::prelude::*;

use super::{handshake::MAX_MESSAGE, *};
use peerwork::{Keypair, simulation::Answered};

const CID: &[u8] = &[7; 20];

fn peer(number: u8) -> PeerId {
    Keypair::from_seed([number; 32]).peer_id()
}

fn party(number: u8) -> Arc<Party> {
    Arc::new(Party { peer: peer(number), secret: Secret::root("party", &[number]), drawn: AtomicU64::new(0) })
}

fn params(side: Side) -> TransportParameters {
    // `initial_max_data` of 1.
    TransportParameters::read(side, &mut &[4, 1, 1][..]).unwrap()
}

fn client(number: u8, expected: Option<PeerId>) -> NullSession {
    NullSession::client(party(number), expected, &params(Side::Client))
}

fn server(number: u8) -> NullSession {
    NullSession::server(party(number), &params(Side::Server))
}

/// What a session writes before it has to hear something, by message, and the keys that come with it.
fn written(session: &mut NullSession) -> (Vec<Vec<u8>>, Vec<Keys>) {
    let (mut messages, mut all_keys) = (Vec::new(), Vec::new());
    loop {
        let mut out = Vec::new();
        let keys = session.write_handshake(&mut out);
        if out.is_empty() && keys.is_none() {
            return (messages, all_keys);
        }
        messages.extend((!out.is_empty()).then_some(out));
        all_keys.extend(keys);
    }
}

/// Both ends after a handshake, and all messages in order.
fn shaken(
    mut client: NullSession,
    mut server: NullSession,
) -> (NullSession, NullSession, Vec<Vec<u8>>, [Vec<Keys>; 2]) {
    let (mut all, none) = written(&mut client);
    assert!(none.is_empty());
    assert!(!server.read_handshake(&all[0]).unwrap());
    let (flights, server_keys) = written(&mut server);
    let mut client_keys = Vec::new();
    for message in &flights {
        client.read_handshake(message).unwrap();
        let (answers, keys) = written(&mut client);
        client_keys.extend(keys);
        for answer in &answers {
            assert!(server.is_handshaking());
            server.read_handshake(answer).unwrap();
        }
        all.push(message.clone());
        all.extend(answers);
    }
    assert!(written(&mut server).0.is_empty());
    (client, server, all, [client_keys, server_keys])
}

fn answered(session: &NullSession) -> Option<Answered> {
    session.peer_identity().map(|identity| *identity.downcast().unwrap())
}

fn exported(session: &NullSession, label: &[u8], context: &[u8]) -> [u8; 40] {
    let mut out = [0; 40];
    session.export_keying_material(&mut out, label, context).unwrap();
    out
}

fn sealed(key: &dyn noq_proto::crypto::PacketKey, number: u64) -> Vec<u8> {
    let mut packet = b"headerpayload".to_vec();
    packet.resize(packet.len() + key.tag_len(), 0xaa);
    key.encrypt(PathId::ZERO, number, &mut packet, 6);
    packet
}

fn opens(key: &dyn noq_proto::crypto::PacketKey, path: PathId, number: u64, header: usize, packet: &[u8]) -> bool {
    let mut payload = BytesMut::from(&packet[header..]);
    let opened = key.decrypt(path, number, &packet[..header], &mut payload).is_ok();
    assert!(!opened || payload == packet[header..packet.len() - 16]);
    opened
}

#[test]
fn both_ends_know_each_other_and_derive_the_same_after_four_messages() {
    let (mut client, mut server, messages, [client_keys, server_keys]) = shaken(client(1, Some(peer(2))), server(2));
    assert_eq!(messages.iter().map(|message| message[0]).collect::<Vec<_>>(), [1, 2, 8, 11]);
    assert!(!client.is_handshaking() && !server.is_handshaking());
    assert_eq!(answered(&client), Some(Answered { expected: Some(peer(2)), peer: peer(2) }));
    assert_eq!(answered(&server), Some(Answered { expected: None, peer: peer(1) }));
    assert_eq!(client.transport_parameters().unwrap(), Some(params(Side::Client)));
    assert_eq!(server.transport_parameters().unwrap(), Some(params(Side::Server)));
    assert_eq!(exported(&client, b"a", b""), exported(&server, b"a", b""));
    assert_ne!(exported(&client, b"a", b""), exported(&client, b"b", b""));
    assert_ne!(exported(&client, b"a", b"b"), exported(&client, b"ab", b""));

    assert_eq!((client_keys.len(), server_keys.len()), (2, 2));
    for (client, server) in client_keys.iter().zip(&server_keys) {
        let packet = sealed(&*client.packet.local, 1);
        assert!(opens(&*server.packet.remote, PathId::ZERO, 1, 6, &packet));
        assert!(!opens(&*server.packet.local, PathId::ZERO, 1, 6, &packet), "no reflection");
        assert!(opens(&*client.packet.remote, PathId::ZERO, 1, 6, &sealed(&*server.packet.local, 1)));
    }
    let old = sealed(&*client_keys[1].packet.local, 1);
    for _ in 0..3 {
        let (ours, theirs) = (client.next_1rtt_keys().unwrap(), server.next_1rtt_keys().unwrap());
        assert!(opens(&*theirs.remote, PathId::ZERO, 5, 6, &sealed(&*ours.local, 5)));
        assert!(opens(&*ours.remote, PathId::ZERO, 5, 6, &sealed(&*theirs.local, 5)));
        assert!(!opens(&*theirs.remote, PathId::ZERO, 1, 6, &old));
    }
}

#[test]
fn no_two_connections_share_keys() {
    let (one, other) = (party(1), party(2));
    let pair = || {
        let client = NullSession::client(one.clone(), None, &params(Side::Client));
        shaken(client, NullSession::server(other.clone(), &params(Side::Server)))
    };
    let (first, second) = (pair(), pair());
    assert_ne!(exported(&first.0, b"tag", b""), exported(&second.0, b"tag", b""));
    for level in 0..2 {
        let packet = sealed(&*first.3[0][level].packet.local, 1);
        assert!(opens(&*first.3[1][level].packet.remote, PathId::ZERO, 1, 6, &packet));
        assert!(!opens(&*second.3[1][level].packet.remote, PathId::ZERO, 1, 6, &packet));
    }
}

#[test]
fn a_packet_opens_unchanged_and_in_its_place_only() {
    let cid = ConnectionId::new(CID);
    let (client, server) = (keys::initial(cid, Side::Client), keys::initial(cid, Side::Server));
    let packet = sealed(&*client.packet.local, 1 << 40);
    let key = &*server.packet.remote;
    assert!(opens(key, PathId::ZERO, 1 << 40, 6, &packet));
    for at in 0..packet.len() * 8 {
        let mut damaged = packet.clone();
        damaged[at / 8] ^= 1 << (at % 8);
        assert!(!opens(key, PathId::ZERO, 1 << 40, 6, &damaged), "bit {at}");
    }
    assert!(!opens(key, PathId::ZERO, (1 << 40) + 1, 6, &packet), "another number");
    assert!(!opens(key, PathId::from(1u8), 1 << 40, 6, &packet), "another path");
    assert!(!opens(key, PathId::ZERO, 1 << 40, 7, &packet), "another header");
    let elsewhere = keys::initial(ConnectionId::new(&[8; 20]), Side::Server);
    assert!(!opens(&*elsewhere.packet.remote, PathId::ZERO, 1 << 40, 6, &packet), "another connection");
    for short in 0..packet.len() {
        assert!(!opens(key, PathId::ZERO, 1 << 40, 0, &packet[..short]), "{short} bytes");
    }
}

#[test]
fn a_retry_holds_for_its_connection_and_unchanged_only() {
    let answering = Answering(party(2));
    let (cid, session) = (ConnectionId::new(CID), client(1, None));
    let packet = b"header and token";
    let tag = answering.retry_tag(VERSION, cid, packet);
    let rest = |token: &[u8]| [token, &tag].concat();
    assert!(session.is_valid_retry(cid, b"header and ", &rest(b"token")));
    assert!(!session.is_valid_retry(cid, b"header and ", &rest(b"taken")));
    assert!(!session.is_valid_retry(ConnectionId::new(&[8; 20]), b"header and ", &rest(b"token")));
    assert!(!session.is_valid_retry(cid, b"header and ", b"short"));
}

#[test]
fn other_versions_are_refused() {
    let answering = Answering(party(2));
    let dialling = Dialling { party: party(1), expected: None };
    assert!(answering.initial_keys(1, ConnectionId::new(CID)).is_err());
    assert!(matches!(
        dialling.start_session(1, "libp2p", &params(Side::Client)),
        Err(ConnectError::UnsupportedVersion)
    ));
}

/// What nobody but a bug would make: null sessions that call themselves QUIC version 1.
struct Pretender;

impl Sessions for Pretender {
    fn for_node(&self, node: PeerId, seed: [u8; 32]) -> NodeSessions {
        NodeSessions { version: 1, ..NullSessions.for_node(node, seed) }
    }
}

#[test]
fn a_node_refuses_sessions_that_pretend_to_be_real() {
    let config = peerwork::Config::new(crate::platform().simulated(Arc::new(Pretender)));
    let node = peerwork::Node::new(
        config,
        Box::new(peerwork::Seed(1)),
        peerwork::Time::ZERO,
        peerwork::UnixTime::from_secs(1_800_000_000),
    );
    assert!(node.is_err_and(|error| error.to_string().contains("claim to be QUIC version 1")));
}

fn alert_of(error: &noq_proto::TransportError) -> u64 {
    u64::from(error.code) - 0x100
}

#[test]
fn another_peer_than_the_one_dialled_is_denied_and_named() {
    let (mut client, mut server) = (client(1, Some(peer(3))), server(2));
    server.read_handshake(&written(&mut client).0[0]).unwrap();
    let flights = written(&mut server).0;
    client.read_handshake(&flights[0]).unwrap();
    written(&mut client);
    assert_eq!(alert_of(&client.read_handshake(&flights[1]).unwrap_err()), 49);
    assert_eq!(answered(&client), Some(Answered { expected: Some(peer(3)), peer: peer(2) }));
    assert!(client.is_handshaking() && written(&mut client).0.is_empty());
}

#[test]
fn a_flight_of_another_handshake_proves_nothing() {
    let (one, other) = (party(1), party(2));
    let client = || NullSession::client(one.clone(), None, &params(Side::Client));
    let server = || NullSession::server(other.clone(), &params(Side::Server));
    let (_, _, old, _) = shaken(client(), server());
    let (mut client, mut server) = (client(), server());
    server.read_handshake(&written(&mut client).0[0]).unwrap();
    let flights = written(&mut server).0;
    client.read_handshake(&flights[0]).unwrap();
    written(&mut client);
    assert_eq!(alert_of(&client.read_handshake(&old[2]).unwrap_err()), 51);
    assert_eq!(alert_of(&server.read_handshake(&old[3]).unwrap_err()), 51);
    assert_eq!((answered(&client), answered(&server)), (None, None));
}

#[test]
fn messages_out_of_place_too_long_or_empty_end_the_handshake() {
    let hello = written(&mut client(1, None)).0.remove(0);
    let refused = |bytes: &[u8]| alert_of(&server(2).read_handshake(bytes).unwrap_err());
    assert_eq!(refused(&[hello.clone(), vec![0]].concat()), 10, "more after the message");
    assert_eq!(refused(&[2, 0, 0, 1, 0]), 10, "a server's message");
    assert_eq!(refused(&[1, 0, 0, 0]), 50, "empty");
    assert_eq!(refused(&[1, 0xff, 0xff, 0xff]), 50, "16 MiB, by its head alone");
    let longest = u16::try_from(MAX_MESSAGE).unwrap().to_be_bytes();
    assert!(server(2).read_handshake(&[1, 0, longest[0], longest[1]]).is_ok());
    for len in 4..hello.len() {
        let mut short = hello[..len].to_vec();
        short[1..4].copy_from_slice(&u32::try_from(len - 4).unwrap().to_be_bytes()[1..]);
        assert_eq!(refused(&short), 50, "{len} bytes");
    }
    let (mut client, mut server, ..) = shaken(client(1, None), server(2));
    assert_eq!(alert_of(&client.read_handshake(&[0]).unwrap_err()), 10);
    assert_eq!(alert_of(&server.read_handshake(&[0]).unwrap_err()), 10);
}

#[test]
fn a_handshake_that_comes_byte_by_byte_is_the_same() {
    let (mut client, mut server) = (client(1, None), server(2));
    let feed = |session: &mut NullSession, messages: &[Vec<u8>]| {
        for message in messages {
            message.chunks(1).for_each(|byte| assert!(!session.read_handshake(byte).unwrap()));
        }
    };
    feed(&mut server, &written(&mut client).0);
    for flight in written(&mut server).0 {
        feed(&mut client, &[flight]);
        feed(&mut server, &written(&mut client).0);
    }
    assert_eq!(exported(&client, b"x", b""), exported(&server, b"x", b""));
}

proptest! {
    /// Any bytes in the place of any message: an alert, or patience, or an honest handshake; never a panic, and nothing
    /// from a session that has refused.
    #[test]
    fn a_damaged_handshake_ends_with_an_alert(
        which in 0..4usize,
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let damaged = |number: usize, message: &[u8]| {
            let mut message = message.to_vec();
            if number == which {
                for (at, value) in &edits {
                    let at = at.index(message.len());
                    message[at] = *value;
                }
                if let Some(cut) = &cut {
                    message.truncate(cut.index(message.len()));
                }
            }
            message
        };
        let (mut client, mut server) = (client(1, Some(peer(2))), server(2));
        let mut number = 0;
        let mut towards_server = true;
        let mut queue = written(&mut client).0;
        while !queue.is_empty() {
            let mut next = Vec::new();
            for message in queue {
                let session = if towards_server { &mut server } else { &mut client };
                let message = damaged(number, &message);
                number += 1;
                match session.read_handshake(&message) {
                    Err(error) => {
                        prop_assert!(number > which, "honest messages are taken");
                        prop_assert!((10..=51).contains(&alert_of(&error)));
                        prop_assert!(session.is_handshaking());
                        return Ok(());
                    }
                    Ok(fresh) => prop_assert!(!fresh),
                }
                // Parameters may have become any; they are read or refused.
                let _ = session.transport_parameters();
                next.extend(written(session).0);
            }
            towards_server = !towards_server;
            queue = next;
        }
    }

    #[test]
    fn garbage_is_refused_or_waited_for(garbage in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut session = server(2);
        let _ = session.read_handshake(&garbage);
        let _ = session.transport_parameters();
        let _ = written(&mut session);
    }
}
