pub(crate) mod support;

use std::{collections::BTreeSet, time::Duration};

use proptest::{collection::vec, prelude::*};

use self::support::*;
use super::*;
use crate::{
    node::{Effects, Harness},
    transport::net::Action,
};

const INTERVAL: Duration = Duration::from_secs(15);
const TIMEOUT: Duration = Duration::from_secs(10);
const NANO: Duration = Duration::from_nanos(1);
const ADDRESS: &str = "192.0.2.1:4001";
const C1: ConnId = ConnId(1);
const PEER_STREAM: StreamId = StreamId(INBOUND);

fn harness(seed: u64, interval: Option<Duration>) -> Harness<Ping> {
    Harness::new(seed, |key| Ping::new(PingConfig { interval, timeout: TIMEOUT, max_unanswered: 0 }, key))
}

/// A machine on which nobody is pinged unasked, with connection 1.
fn quiet() -> Harness<Ping> {
    let mut harness = harness(1, None);
    assert!(harness.net(connected(1, ADDRESS)).is_empty());
    harness
}

fn ask(harness: &mut Harness<Ping>, conn: ConnId) -> (bool, Effects) {
    harness.call(|ping, cx| ping.ping(cx, conn))
}

/// The one ping in these effects: its stream and its bytes.
fn sent(effects: &Effects) -> (StreamId, Bytes) {
    let [Action::Open { stream, protocols, framing, .. }, Action::Write { stream: to, data }] = &effects.actions[..]
    else {
        panic!("not a ping: {effects:?}");
    };
    assert_eq!((&protocols[..], framing, to), (&[PING][..], &Framing::Raw, stream));
    assert_eq!((data.len(), &effects.events[..], &effects.signals[..]), (SIZE, &[][..], &[][..]));
    (*stream, data.clone())
}

/// The result of the one ping that ended in these effects.
fn ended(effects: &Effects) -> Result<Duration, PingFailure> {
    let [Event::Ping { conn, peer: by, result }] = &effects.events[..] else { panic!("no ping ended: {effects:?}") };
    assert_eq!(*by, peer(u8::try_from(conn.get()).unwrap()));
    assert!(effects.signals.is_empty());
    result.clone()
}

/// The ping that a timer sends at `at`, and nothing before.
fn next_ping(harness: &mut Harness<Ping>, at: Time) -> (StreamId, Bytes) {
    assert_eq!(harness.deadline(), Some(at));
    assert_eq!(harness.advance(at - NANO), []);
    let fired = harness.advance(at);
    let [(when, effects)] = &fired[..] else { panic!("{fired:?}") };
    assert_eq!(*when, at);
    sent(effects)
}

fn echoes(stream: StreamId, data: impl Into<Bytes>) -> Effects {
    actions([Action::Write { stream, data: data.into() }, Action::WantWritable { stream }])
}

#[test]
fn a_new_connection_is_pinged_at_once_and_again_an_interval_after_the_echo() {
    let mut harness = harness(1, Some(INTERVAL));
    let (stream, nonce) = sent(&harness.net(connected(1, ADDRESS)));
    assert!(harness.net(NetEvent::Opened { stream, protocol: PING }).is_empty());

    harness.advance(Time::from_millis(40));
    let effects = harness.net(data(stream, nonce));
    assert_eq!(effects.actions, [close(stream)]);
    assert_eq!(ended(&effects), Ok(Duration::from_millis(40)));

    let (again, _) = next_ping(&mut harness, Time::from_millis(40) + INTERVAL);
    assert_ne!(again, stream);
}

#[test]
fn without_an_interval_only_the_application_pings() {
    let mut harness = quiet();
    assert_silent(&mut harness);

    let (known, effects) = ask(&mut harness, C1);
    assert!(known);
    let (stream, nonce) = sent(&effects);
    assert_eq!(ended(&harness.net(data(stream, nonce))), Ok(Duration::ZERO));
    assert_silent(&mut harness);
}

#[test]
fn asking_about_an_unknown_connection_does_nothing() {
    let mut harness = quiet();
    assert_eq!(ask(&mut harness, ConnId(9)), (false, Effects::default()));
    assert_silent(&mut harness);
}

#[test]
fn asking_while_a_ping_is_under_way_sends_no_second() {
    let mut harness = quiet();
    let (stream, nonce) = sent(&ask(&mut harness, C1).1);
    harness.advance(Time::from_secs(3));
    assert_eq!(ask(&mut harness, C1), (true, Effects::default()));
    // Nor does it give the first one more time.
    assert_eq!(harness.deadline(), Some(Time::ZERO + TIMEOUT));
    assert_eq!(ended(&harness.net(data(stream, nonce))), Ok(Duration::from_secs(3)));
    assert_silent(&mut harness);
}

#[test]
fn asking_ends_the_rest_and_the_next_one_starts_anew() {
    let mut harness = harness(1, Some(INTERVAL));
    let (stream, nonce) = sent(&harness.net(connected(1, ADDRESS)));
    harness.net(data(stream, nonce));
    harness.advance(Time::from_secs(14));

    let (stream, nonce) = sent(&ask(&mut harness, C1).1);
    assert_eq!(harness.deadline(), Some(Time::from_secs(14) + TIMEOUT));
    harness.advance(Time::from_secs(16));
    assert_eq!(ended(&harness.net(data(stream, nonce))), Ok(Duration::from_secs(2)));
    next_ping(&mut harness, Time::from_secs(16) + INTERVAL);
}

#[test]
fn a_ping_times_out_exactly_then_and_the_next_comes_exactly_an_interval_later() {
    let mut harness = harness(1, Some(INTERVAL));
    let (stream, nonce) = sent(&harness.net(connected(1, ADDRESS)));
    harness.net(data(stream, nonce.slice(..31)));

    assert_eq!(harness.advance(Time::ZERO + TIMEOUT - NANO), []);
    let fired = harness.advance(Time::ZERO + TIMEOUT);
    let [(at, effects)] = &fired[..] else { panic!("{fired:?}") };
    assert_eq!(*at, Time::ZERO + TIMEOUT);
    assert_eq!(effects.actions, [reset(stream, code::OK)]);
    assert_eq!(ended(effects), Err(PingFailure::TimedOut));
    assert_eq!(harness.machine.failures(C1), 1);

    // The rest of the echo is too late.
    assert!(harness.net(data(stream, nonce.slice(31..))).is_empty());
    next_ping(&mut harness, Time::ZERO + TIMEOUT + INTERVAL);
}

#[test]
fn a_peer_that_does_not_speak_ping_is_pinged_again_only_when_asked() {
    let mut harness = harness(1, Some(INTERVAL));
    let (stream, _) = sent(&harness.net(connected(1, ADDRESS)));
    let effects = harness.net(failed(stream, StreamError::Unsupported));
    assert_eq!(effects.actions, []);
    assert_eq!(ended(&effects), Err(PingFailure::Unsupported));
    assert_silent(&mut harness);

    let (stream, nonce) = sent(&ask(&mut harness, C1).1);
    let now = harness.now();
    // It has learnt to.
    assert_eq!(ended(&harness.net(data(stream, nonce))), Ok(Duration::ZERO));
    next_ping(&mut harness, now + INTERVAL);
}

#[test]
fn failures_count_up_until_an_echo_and_each_ping_has_a_stream_of_its_own() {
    let mut harness = harness(1, Some(INTERVAL));
    let mut ping = sent(&harness.net(connected(1, ADDRESS)));
    let mut streams = BTreeSet::from([ping.0]);
    for n in 1..=3 {
        let effects = harness.net(failed(ping.0, StreamError::Reset(7)));
        assert_eq!(effects.actions, []);
        assert_eq!(ended(&effects), Err(PingFailure::Stream(StreamError::Reset(7))));
        assert_eq!(harness.machine.failures(C1), n);
        let at = harness.now() + INTERVAL;
        ping = next_ping(&mut harness, at);
        assert!(streams.insert(ping.0));
    }
    assert_eq!(ended(&harness.net(data(ping.0, ping.1))), Ok(Duration::ZERO));
    assert_eq!(harness.machine.failures(C1), 0);
}

#[test]
fn unanswered_pings_in_a_row_give_the_connection_up_and_other_failures_do_not() {
    let config = PingConfig { interval: Some(INTERVAL), timeout: TIMEOUT, max_unanswered: 2 };
    let mut harness = Harness::new(1, |key| Ping::new(config.clone(), key));
    let mut ping = sent(&harness.net(connected(1, ADDRESS)));
    let timed_out = |harness: &mut Harness<Ping>| {
        let at = harness.now() + TIMEOUT;
        let fired = harness.advance(at);
        let [(_, effects)] = &fired[..] else { panic!("{fired:?}") };
        assert_eq!(ended(effects), Err(PingFailure::TimedOut));
        effects.actions.clone()
    };
    let next = |harness: &mut Harness<Ping>| {
        let at = harness.now() + INTERVAL;
        next_ping(harness, at)
    };
    for answered in [true, false] {
        assert_eq!(timed_out(&mut harness), [reset(ping.0, code::OK)]);
        ping = next(&mut harness);
        let effects = if answered {
            harness.net(data(ping.0, ping.1.clone()))
        } else {
            harness.net(failed(ping.0, StreamError::Reset(7)))
        };
        assert!(!effects.actions.contains(&Action::GiveUp { conn: C1 }));
        ping = next(&mut harness);
    }
    assert_eq!(timed_out(&mut harness), [reset(ping.0, code::OK)]);
    ping = next(&mut harness);
    assert_eq!(timed_out(&mut harness), [reset(ping.0, code::OK), Action::GiveUp { conn: C1 }]);
}

#[test]
fn what_the_stream_layer_says_is_told_as_what_it_means_for_a_ping() {
    let table = [
        (StreamError::Unsupported, PingFailure::Unsupported),
        (StreamError::TimedOut, PingFailure::TimedOut),
        (StreamError::Reset(1), PingFailure::Stream(StreamError::Reset(1))),
        (StreamError::ConnectionClosed, PingFailure::Stream(StreamError::ConnectionClosed)),
        (StreamError::Negotiation("x".into()), PingFailure::Stream(StreamError::Negotiation("x".into()))),
    ];
    for (error, failure) in table {
        let mut harness = quiet();
        let (stream, _) = sent(&ask(&mut harness, C1).1);
        assert_eq!(ended(&harness.net(failed(stream, error))), Err(failure));
        assert_eq!((harness.machine.failures(C1), harness.machine.census()), (1, 1));
        assert_silent(&mut harness);
    }
}

#[test]
fn an_echo_that_ends_early_fails_the_ping() {
    for len in [0, 31] {
        let mut harness = quiet();
        let (stream, nonce) = sent(&ask(&mut harness, C1).1);
        if len > 0 {
            assert!(harness.net(data(stream, nonce.slice(..len))).is_empty());
        }
        let effects = harness.net(end(stream));
        assert_eq!(effects.actions, [reset(stream, code::OK)]);
        assert_eq!(ended(&effects), Err(PingFailure::Stream(StreamError::EndedEarly)));
        assert_silent(&mut harness);
    }
}

#[test]
fn other_bytes_are_a_fault_when_all_have_come() {
    let mut harness = harness(1, Some(INTERVAL));
    let (stream, nonce) = sent(&harness.net(connected(1, ADDRESS)));
    let mut wrong = nonce.to_vec();
    wrong[0] ^= 1;
    assert!(harness.net(data(stream, wrong[..31].to_vec())).is_empty());

    let effects = harness.net(data(stream, wrong[31..].to_vec()));
    let fault = PeerFault::BadPong;
    assert_eq!(effects.actions, [Action::Fault { conn: C1, stream: Some(stream), fault }]);
    assert_eq!(ended(&effects), Err(PingFailure::WrongEcho));
    assert_eq!(harness.machine.failures(C1), 1);
    // The peer is pinged on; what follows from the fault is not for this machine to decide.
    next_ping(&mut harness, Time::ZERO + INTERVAL);
}

#[test]
fn more_bytes_than_were_sent_are_a_fault() {
    let mut harness = quiet();
    let (stream, nonce) = sent(&ask(&mut harness, C1).1);
    let effects = harness.net(data(stream, [&nonce[..], b"!"].concat()));
    assert_eq!(effects.actions, [Action::Fault { conn: C1, stream: Some(stream), fault: PeerFault::BadPong }]);
    assert_eq!(ended(&effects), Err(PingFailure::WrongEcho));
    assert_silent(&mut harness);
}

#[test]
fn a_peer_that_reads_no_more_may_still_answer() {
    let mut harness = quiet();
    let (stream, nonce) = sent(&ask(&mut harness, C1).1);
    assert!(harness.net(stopped(stream, 0)).is_empty());
    assert!(harness.net(NetEvent::Writable { stream }).is_empty());
    assert!(harness.net(NetEvent::Delivered { stream }).is_empty());
    assert_eq!(ended(&harness.net(data(stream, nonce))), Ok(Duration::ZERO));
}

#[test]
fn late_events_for_forgotten_streams_are_ignored() {
    let mut harness = quiet();
    let (stream, nonce) = sent(&ask(&mut harness, C1).1);
    harness.net(data(stream, nonce.clone()));
    harness.net(inbound(INBOUND, 1, &PING));
    harness.net(end(PEER_STREAM));
    for stream in [stream, PEER_STREAM, StreamId(77)] {
        for event in [
            NetEvent::Opened { stream, protocol: PING },
            data(stream, nonce.clone()),
            frame(stream, nonce.clone()),
            NetEvent::Writable { stream },
            NetEvent::Delivered { stream },
            stopped(stream, 0),
            end(stream),
            failed(stream, StreamError::ConnectionClosed),
        ] {
            assert!(harness.net(event.clone()).is_empty(), "{event:?}");
        }
    }
    assert_eq!(harness.machine.census(), 1);
    assert_silent(&mut harness);
}

#[test]
fn a_connection_at_rest_leaves_nothing_behind() {
    let mut harness = harness(1, Some(INTERVAL));
    let (stream, nonce) = sent(&harness.net(connected(1, ADDRESS)));
    harness.net(data(stream, nonce));
    assert!(harness.net(disconnected(1)).is_empty());
    assert_eq!((harness.machine.census(), harness.machine.failures(C1)), (0, 0));
    assert_silent(&mut harness);
}

#[test]
fn a_connection_lost_in_mid_ping_leaves_nothing_behind() {
    let mut harness = harness(1, Some(INTERVAL));
    let (stream, _) = sent(&harness.net(connected(1, ADDRESS)));
    harness.net(inbound(INBOUND, 1, &PING));
    let lost = StreamError::ConnectionClosed;
    assert_eq!(ended(&harness.net(failed(stream, lost.clone()))), Err(lost.clone().into()));
    assert!(harness.net(failed(PEER_STREAM, lost)).is_empty());
    assert!(harness.net(disconnected(1)).is_empty());
    assert_eq!(harness.machine.census(), 0);
    assert_silent(&mut harness);
}

/// A ping asked for when the connection is already gone, but its end not yet told.
#[test]
fn a_ping_asked_for_behind_a_connections_back_ends_with_it() {
    let mut harness = quiet();
    let (stream, _) = sent(&ask(&mut harness, C1).1);
    let effects = harness.net(disconnected(1));
    assert_eq!(effects.actions, []);
    assert_eq!(ended(&effects), Err(StreamError::ConnectionClosed.into()));
    assert!(harness.net(failed(stream, StreamError::ConnectionClosed)).is_empty());
    assert_eq!(harness.machine.census(), 0);
    assert_silent(&mut harness);
}

#[test]
fn connections_do_not_disturb_each_other() {
    let mut harness = harness(1, Some(INTERVAL));
    let (first, _) = sent(&harness.net(connected(1, ADDRESS)));
    harness.advance(Time::from_secs(1));
    let (second, nonce) = sent(&harness.net(connected(2, ADDRESS)));
    harness.net(failed(first, StreamError::Unsupported));
    harness.net(disconnected(1));
    assert_eq!(ended(&harness.net(data(second, nonce))), Ok(Duration::ZERO));
    assert_eq!(harness.machine.failures(ConnId(2)), 0);
    next_ping(&mut harness, Time::from_secs(1) + INTERVAL);
}

#[test]
fn a_peer_that_moves_is_pinged_as_before() {
    let mut harness = quiet();
    let (stream, nonce) = sent(&ask(&mut harness, C1).1);
    assert!(harness.net(NetEvent::Moved { conn: C1, address: "192.0.2.9:1".parse().unwrap() }).is_empty());
    assert_eq!(ended(&harness.net(data(stream, nonce))), Ok(Duration::ZERO));
}

#[test]
fn pings_differ_and_depend_on_the_seed_alone() {
    let pings = |seed| -> Vec<Bytes> {
        let mut harness = harness(seed, None);
        harness.net(connected(1, ADDRESS));
        let mut pings = Vec::new();
        for _ in 0..20 {
            let (stream, nonce) = sent(&ask(&mut harness, C1).1);
            harness.net(data(stream, nonce.clone()));
            pings.push(nonce);
        }
        pings
    };
    assert_eq!(pings(1), pings(1));
    let all: BTreeSet<_> = pings(1).into_iter().chain(pings(2)).collect();
    assert_eq!(all.len(), 40);
}

#[test]
fn thirty_two_bytes_are_echoed_until_the_peer_ends() {
    let mut harness = quiet();
    assert!(harness.net(inbound(INBOUND, 1, &PING)).is_empty());
    for n in 0..3 {
        assert_eq!(harness.net(data(PEER_STREAM, vec![n; 32])), echoes(PEER_STREAM, vec![n; 32]));
        assert!(harness.net(NetEvent::Writable { stream: PEER_STREAM }).is_empty());
    }
    assert_eq!(harness.net(end(PEER_STREAM)), actions([close(PEER_STREAM)]));
    assert_eq!(harness.machine.census(), 1);
    assert_silent(&mut harness);
}

#[test]
fn an_end_amid_a_ping_is_no_fault() {
    let mut harness = quiet();
    harness.net(inbound(INBOUND, 1, &PING));
    assert_eq!(harness.net(data(PEER_STREAM, vec![1; 40])), echoes(PEER_STREAM, vec![1; 32]));
    assert!(harness.net(data(PEER_STREAM, vec![2; 23])).is_empty());
    assert_eq!(harness.net(end(PEER_STREAM)), actions([close(PEER_STREAM)]));
}

#[test]
fn a_peer_may_ping_on_four_streams_of_a_connection_at_once() {
    let mut harness = quiet();
    harness.net(connected(2, ADDRESS));
    for n in 0..4 {
        assert!(harness.net(inbound(INBOUND + n, 1, &PING)).is_empty());
    }
    let fifth = StreamId(INBOUND + 4);
    let refused = actions([reset(fifth, code::STREAM_RESOURCE_LIMIT)]);
    assert_eq!(harness.net(inbound(INBOUND + 4, 1, &PING)), refused);
    assert!(harness.net(data(fifth, vec![0; 32])).is_empty());
    // Another connection has its own four.
    assert!(harness.net(inbound(INBOUND + 5, 2, &PING)).is_empty());

    // Each way in which a stream can end makes room for one.
    let mut next = INBOUND + 10;
    let flood = vec![0; UNREAD_ECHOES + 32];
    let ends: [fn(StreamId, &[u8]) -> NetEvent; 4] = [
        |stream, _| end(stream),
        |stream, _| stopped(stream, 0),
        |stream, _| failed(stream, StreamError::Reset(0)),
        |stream, flood| data(stream, flood.to_vec()),
    ];
    for (n, over) in (0..).zip(ends) {
        harness.net(over(StreamId(INBOUND + n), &flood));
        assert!(harness.net(inbound(next, 1, &PING)).is_empty(), "{n}");
        let full = actions([reset(StreamId(next + 1), code::STREAM_RESOURCE_LIMIT)]);
        assert_eq!(harness.net(inbound(next + 1, 1, &PING)), full, "{n}");
        next += 2;
    }
    assert_silent(&mut harness);
}

#[test]
fn a_peer_that_does_not_read_its_echoes_is_flooding() {
    let mut harness = quiet();
    harness.net(inbound(INBOUND, 1, &PING));
    for n in 0..UNREAD_ECHOES / 1024 {
        assert_eq!(harness.net(data(PEER_STREAM, vec![0; 1024])), echoes(PEER_STREAM, vec![0; 1024]), "{n}");
    }
    // Not before there is an echo more.
    assert!(harness.net(data(PEER_STREAM, vec![0; 31])).is_empty());
    let fault = Action::Fault { conn: C1, stream: Some(PEER_STREAM), fault: PeerFault::PingFlood };
    assert_eq!(harness.net(data(PEER_STREAM, vec![0; 1])), actions([fault]));
    assert!(harness.net(data(PEER_STREAM, vec![0; 32])).is_empty());
    assert_eq!(harness.machine.census(), 1);
}

#[test]
fn a_peer_that_reads_its_echoes_may_go_on_for_ever() {
    let mut harness = quiet();
    harness.net(inbound(INBOUND, 1, &PING));
    for _ in 0..4 * UNREAD_ECHOES / 4096 {
        assert_eq!(harness.net(data(PEER_STREAM, vec![0; 4096])), echoes(PEER_STREAM, vec![0; 4096]));
        assert!(harness.net(NetEvent::Writable { stream: PEER_STREAM }).is_empty());
    }
}

#[test]
fn a_peer_that_stops_reading_echoes_is_let_go() {
    let mut harness = quiet();
    harness.net(inbound(INBOUND, 1, &PING));
    assert_eq!(harness.net(stopped(PEER_STREAM, 3)), actions([close(PEER_STREAM)]));
    assert!(harness.net(data(PEER_STREAM, vec![0; 32])).is_empty());
    assert_eq!(harness.machine.census(), 1);
}

#[test]
fn a_stream_of_an_unknown_connection_is_not_served() {
    let mut harness = quiet();
    harness.net(inbound(INBOUND, 2, &PING));
    assert!(harness.net(data(PEER_STREAM, vec![0; 32])).is_empty());
    assert_eq!(harness.machine.census(), 1);
}

proptest! {
    #[test]
    fn an_echo_may_come_in_any_pieces(cuts in vec(0..=SIZE, 0..10)) {
        let mut harness = quiet();
        let (stream, nonce) = sent(&ask(&mut harness, C1).1);
        let bounds: BTreeSet<_> = cuts.into_iter().chain([0, SIZE]).collect();
        let bounds: Vec<_> = bounds.into_iter().collect();
        for piece in bounds.windows(2) {
            let effects = harness.net(data(stream, nonce.slice(piece[0]..piece[1])));
            if piece[1] < SIZE {
                prop_assert!(effects.is_empty());
            } else {
                prop_assert_eq!(&effects.actions, &[close(stream)]);
                prop_assert_eq!(ended(&effects), Ok(Duration::ZERO));
            }
        }
        assert_silent(&mut harness);
    }

    #[test]
    fn echoes_are_what_came_in_whole_pings(pieces in vec(vec(any::<u8>(), 1..200), 100)) {
        let mut harness = quiet();
        harness.net(inbound(INBOUND, 1, &PING));
        let mut echoed = Vec::new();
        let mut came = Vec::new();
        for piece in pieces {
            came.extend_from_slice(&piece);
            for action in harness.net(data(PEER_STREAM, piece)).actions {
                if let Action::Write { stream, data } = action {
                    prop_assert_eq!(stream, PEER_STREAM);
                    echoed.extend_from_slice(&data);
                }
            }
            // Nothing is kept back that could be echoed.
            prop_assert_eq!(&echoed[..], &came[..came.len() - came.len() % SIZE]);
            harness.net(NetEvent::Writable { stream: PEER_STREAM });
        }
    }

    #[test]
    fn nothing_that_a_network_does_leaves_anything_behind(
        seed: u64,
        interval in proptest::option::of(Just(INTERVAL)),
        steps in steps(vec![PING], vec(any::<u8>(), 1..80).prop_map(Bytes::from)),
        streams_first: bool,
    ) {
        let mut harness = harness(seed, interval);
        let mut opened = 0;
        let events = run(&mut harness, steps, streams_first, |ping, cx, _, conn| {
            ping.ping(cx, ConnId(conn));
        }, |effects| {
            opened += effects.actions.iter().filter(|action| matches!(action, Action::Open { .. })).count();
        });
        // Each ping ends once.
        prop_assert_eq!(events.len(), opened);
        prop_assert_eq!(harness.machine.census(), 0);
    }
}
