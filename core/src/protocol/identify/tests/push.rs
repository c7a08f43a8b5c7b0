//! Changes: the node's own, told to peers, and peers' own, heard of.

use super::*;

/// Connects peer `n` and hears that it speaks these protocols.
fn meet(harness: &mut Harnessed, n: u8, protocols: &[ProtocolId]) {
    let stream = connect(harness, n, ON_THE_INTERNET);
    let effects = say(harness, stream, &speaks(n, protocols));
    identified(stream, &effects);
}

fn speaks(n: u8, protocols: &[ProtocolId]) -> IdentifyMessage {
    let public_key = Some(keypair(n).public().encode_protobuf().into());
    IdentifyMessage { public_key, protocols: protocols.to_vec(), ..says() }
}

/// The pushes among these actions: to whom, and what.
fn pushed(actions: &[Action]) -> Vec<(ConnId, Told)> {
    let starts: Vec<_> = (0..actions.len()).filter(|i| matches!(actions[*i], Action::Open { .. })).collect();
    let ends = starts.iter().skip(1).copied().chain([actions.len()]);
    let push = |(start, end): (usize, usize)| {
        let Action::Open { stream, conn, protocols, .. } = &actions[start] else { unreachable!() };
        assert_eq!(protocols[..], [PUSH]);
        (*conn, told(*stream, &actions[start + 1..end]))
    };
    starts.iter().copied().zip(ends).map(push).collect()
}

/// Lets the delay pass after a change that happened now. Returns who was pushed to.
fn after_delay(harness: &mut Harnessed) -> Vec<u64> {
    let at = harness.now() + PUSH_DELAY;
    assert_eq!(harness.deadline(), Some(at));
    let fired = harness.advance(at);
    let [(when, effects)] = &fired[..] else { panic!("{fired:?}") };
    assert_eq!(*when, at);
    assert_eq!((&effects.events[..], &effects.signals[..]), (&[][..], &[][..]));
    pushed(&effects.actions).into_iter().map(|(conn, _)| conn.get()).collect()
}

#[test]
fn changes_in_quick_succession_are_pushed_together() {
    let mut harness = harness();
    meet(&mut harness, 1, &[PUSH]);
    assert!(harness.signal(&Signal::LocalChanged).is_empty());
    harness.advance(Time::from_millis(199));
    harness.local.protocols.push(ProtocolId::from_static("/new/1"));
    assert!(harness.signal(&Signal::LocalChanged).is_empty());
    assert!(harness.signal(&Signal::LocalChanged).is_empty());

    // A steady stream of changes does not put the push off for ever.
    let at = Time::ZERO + PUSH_DELAY;
    assert_eq!(harness.advance(at - NANO), []);
    let fired = harness.advance(at);
    let [(when, effects)] = &fired[..] else { panic!("{fired:?}") };
    assert_eq!((*when, &effects.events[..], &effects.signals[..]), (at, &[][..], &[][..]));
    let pushes = pushed(&effects.actions);
    let [(C1, told)] = &pushes[..] else { panic!("{} pushes", pushes.len()) };
    assert_eq!(told.message.protocols, harness.local.protocols);
    assert_eq!(told.message.listen_addrs, harness.local.listen_addrs);
    assert!(told.message.public_key.is_some() && told.message.signed_peer_record.is_some());
    assert_silent(&mut harness);

    // The next change has a delay of its own.
    harness.signal(&Signal::LocalChanged);
    assert_eq!(after_delay(&mut harness), [1]);
}

#[test]
fn only_peers_that_speak_push_are_pushed_to_in_the_order_of_their_connections() {
    let mut harness = harness();
    for n in (1..=9).rev() {
        let protocols = if n == 2 { &[IDENTIFY][..] } else { &[PUSH, IDENTIFY] };
        meet(&mut harness, n, protocols);
    }
    harness.signal(&Signal::LocalChanged);
    assert_eq!(after_delay(&mut harness), [1, 3, 4, 5, 6, 7, 8, 9]);
    assert_silent(&mut harness);
}

#[test]
fn nobody_to_tell_means_no_timer() {
    let mut harness = harness();
    assert!(harness.signal(&Signal::LocalChanged).is_empty());
    assert_silent(&mut harness);
}

#[test]
fn a_peer_identified_after_a_change_hears_of_it_then_and_once() {
    let mut harness = harness();
    let stream = connect(&mut harness, 1, ON_THE_INTERNET);
    harness.signal(&Signal::LocalChanged);
    let at = Time::ZERO + PUSH_DELAY;
    assert_eq!(harness.advance(at), [(at, Effects::default())]);

    let effects = say(&mut harness, stream, &says());
    assert_eq!(effects.actions[0], close(stream));
    assert_eq!(pushed(&effects.actions[1..]).len(), 1);
    assert!(matches!(effects.events[..], [Event::ObservedAddress { .. }, Event::Identified { .. }]));
    identified(PEER_STREAM, &pushes(&mut harness, INBOUND, &says()));
    assert_silent(&mut harness);
}

#[test]
fn a_peer_that_learns_to_speak_push_hears_of_the_change_that_it_missed() {
    let mut harness = harness();
    meet(&mut harness, 1, &[IDENTIFY]);
    harness.signal(&Signal::LocalChanged);
    assert!(after_delay(&mut harness).is_empty());
    let effects = pushes(&mut harness, INBOUND, &speaks(1, &[PUSH]));
    assert_eq!(pushed(&effects.actions[1..]).len(), 1);
}

#[test]
fn a_peer_that_asked_since_the_change_is_not_told_again() {
    let mut harness = harness();
    let stream = connect(&mut harness, 1, ON_THE_INTERNET);
    harness.signal(&Signal::LocalChanged);
    harness.advance(Time::ZERO + PUSH_DELAY);
    asked(&mut harness, INBOUND, 1);
    let effects = say(&mut harness, stream, &says());
    identified(stream, &effects);
    assert_silent(&mut harness);
}

#[test]
fn a_failed_push_of_ours_is_forgotten() {
    let mut harness = harness();
    meet(&mut harness, 1, &[PUSH]);
    harness.signal(&Signal::LocalChanged);
    let fired = harness.advance(Time::ZERO + PUSH_DELAY);
    let Action::Open { stream, .. } = fired[0].1.actions[0] else { panic!("{fired:?}") };
    assert!(harness.net(failed(stream, StreamError::Unsupported)).is_empty());
    assert_eq!(harness.machine.census(), 1);
    assert_silent(&mut harness);
}

#[test]
fn a_push_changes_what_it_names_and_keeps_the_rest() {
    let new = addr("/ip4/8.8.4.4/udp/2/quic-v1");
    let observed = addr("/ip4/5.6.7.9/udp/5/quic-v1");
    let nothing = IdentifyMessage::default();
    let protocol = ProtocolId::from_static("/new/1");
    let table = [
        (nothing.clone(), known()),
        (
            IdentifyMessage { agent_version: Some("agent/2".into()), ..nothing.clone() },
            PeerInfo { agent_version: "agent/2".into(), ..known() },
        ),
        (
            IdentifyMessage { protocol_version: Some("protocol/2".into()), ..nothing.clone() },
            PeerInfo { protocol_version: "protocol/2".into(), ..known() },
        ),
        (
            IdentifyMessage { protocols: vec![protocol.clone()], ..nothing.clone() },
            PeerInfo { protocols: vec![protocol], ..known() },
        ),
        (
            IdentifyMessage { listen_addrs: vec![new.clone()], ..nothing.clone() },
            PeerInfo { listen_addrs: vec![new.clone()], ..known() },
        ),
        (
            IdentifyMessage { observed_addr: Some(observed.clone()), ..nothing.clone() },
            PeerInfo { observed_addr: Some(observed), ..known() },
        ),
    ];
    for (message, expected) in table {
        let mut harness = harness();
        let stream = connect(&mut harness, 1, ON_THE_INTERNET);
        say(&mut harness, stream, &says());
        let effects = pushes(&mut harness, INBOUND, &message);
        assert_eq!(identified(PEER_STREAM, &effects), expected);
        // An address is observed when it is said, not when it is remembered.
        assert_eq!(effects.events.len(), 1 + usize::from(message.observed_addr.is_some()));
        assert_silent(&mut harness);
    }
}

#[test]
fn signed_addresses_stay_signed_until_others_replace_them() {
    let mut harness = harness();
    let stream = connect(&mut harness, 1, ON_THE_INTERNET);
    let record = sealed(&keypair(1), 5, &["/ip4/7.7.7.7/udp/7/quic-v1"]).encode();
    let message = IdentifyMessage { signed_peer_record: Some(record.into()), ..says() };
    assert!(identified(stream, &say(&mut harness, stream, &message)).signed);

    let info = identified(PEER_STREAM, &pushes(&mut harness, INBOUND, &IdentifyMessage::default()));
    assert_eq!((info.signed, info.listen_addrs), (true, vec![addr("/ip4/7.7.7.7/udp/7/quic-v1")]));
    let stream = StreamId(INBOUND + 1);
    let info = identified(stream, &pushes(&mut harness, stream.get(), &says()));
    assert_eq!(info, known());
}

#[test]
fn a_push_may_overtake_the_answer_which_then_counts_as_a_whole() {
    let mut harness = harness();
    let stream = connect(&mut harness, 1, ON_THE_INTERNET);
    let early = IdentifyMessage { agent_version: Some("early".into()), ..IdentifyMessage::default() };
    let info = identified(PEER_STREAM, &pushes(&mut harness, INBOUND, &early));
    assert_eq!((info.agent_version.as_str(), info.protocols.len()), ("early", 0));

    let answer = IdentifyMessage { agent_version: None, ..says() };
    let info = identified(stream, &say(&mut harness, stream, &answer));
    assert_eq!(info, PeerInfo { agent_version: String::new(), ..known() });
    assert_silent(&mut harness);
}

#[test]
fn a_push_that_fails_changes_nothing_and_is_not_told() {
    type Ends = fn(&mut Harnessed) -> Effects;
    let ends: [(Ends, &[Action]); 5] = [
        (|harness| harness.net(failed(PEER_STREAM, StreamError::Reset(0))), &[]),
        (|harness| harness.net(end(PEER_STREAM)), &[close(PEER_STREAM)]),
        (
            |harness| {
                let mut fired = harness.advance(Time::ZERO + TIMEOUT);
                assert_eq!((fired.len(), fired[0].0), (1, Time::ZERO + TIMEOUT));
                fired.remove(0).1
            },
            &[reset(PEER_STREAM, code::NEGOTIATION_FAILED)],
        ),
        (
            |harness| {
                let message = IdentifyMessage { public_key: Some(Bytes::from_static(b"?")), ..says() };
                say(harness, PEER_STREAM, &message)
            },
            &[close(PEER_STREAM)],
        ),
        (|harness| harness.net(frame(PEER_STREAM, "?")), &[fault(1, PEER_STREAM, PeerFault::BadIdentify)]),
    ];
    for (over, expected) in ends {
        let mut harness = harness();
        meet(&mut harness, 1, &[IDENTIFY, PUSH]);
        assert!(harness.net(inbound(INBOUND, 1, &PUSH)).is_empty());
        assert_eq!(harness.deadline(), Some(Time::ZERO + TIMEOUT));
        assert_eq!(over(&mut harness), actions(expected));
        assert_eq!(harness.machine.info(C1).map(|info| &**info), Some(&known()));
        assert_eq!(harness.machine.census(), 1);
        assert_silent(&mut harness);
    }
}

#[test]
fn a_push_with_anothers_key_is_a_fault() {
    let mut harness = harness();
    meet(&mut harness, 1, &[IDENTIFY, PUSH]);
    let effects = pushes(&mut harness, INBOUND, &speaks(2, &[]));
    assert_eq!(effects, actions([close(PEER_STREAM), fault(1, PEER_STREAM, PeerFault::IdentityMismatch)]));
    assert_eq!(harness.machine.info(C1).map(|info| &**info), Some(&known()));
}

#[test]
fn a_lost_connection_is_not_pushed_to() {
    let mut harness = harness();
    meet(&mut harness, 1, &[PUSH]);
    meet(&mut harness, 2, &[PUSH]);
    harness.signal(&Signal::LocalChanged);
    harness.net(disconnected(1));
    assert_eq!(after_delay(&mut harness), [2]);
}
