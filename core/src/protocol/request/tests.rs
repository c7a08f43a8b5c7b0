use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use proptest::{collection::vec, prelude::*};

use super::*;
use crate::{
    node::{Effects, Harness},
    protocol::ping::tests::support::*,
    time::Time,
    transport::{
        frame::encode_frame,
        net::{Action, NetEvent},
    },
};

const ECHO: ProtocolId = ProtocolId::from_static("/echo/1");
const OTHER: ProtocolId = ProtocolId::from_static("/other/1");
const MAX_REQUEST: usize = 100;
const MAX_RESPONSE: usize = 200;
const TIMEOUT: Duration = Duration::from_secs(7);
const NANO: Duration = Duration::from_nanos(1);
const ADDRESS: &str = "192.0.2.1:4001";
const C1: ConnId = ConnId(1);
const PEER_STREAM: StreamId = StreamId(INBOUND);

fn config() -> RequestConfig {
    RequestConfig {
        max_request: MAX_REQUEST,
        max_response: MAX_RESPONSE,
        timeout: TIMEOUT,
        max_inbound_per_peer: 3,
        serve: true,
    }
}

/// A machine that speaks `/echo/1` on connection 1.
fn harness() -> Harness<Request> {
    let mut harness = Harness::new(1, Request::new);
    let framing = harness.machine.register(ECHO, config());
    assert_eq!(framing, Framing::Frames { max: MAX_REQUEST });
    assert!(harness.net(connected(1, ADDRESS)).is_empty());
    harness
}

type Harnessed = Harness<Request>;

fn send(harness: &mut Harnessed, protocol: &ProtocolId, len: usize) -> (Result<RequestId, RequestError>, Effects) {
    harness.call(|machine, cx| machine.send(cx, C1, protocol, vec![7; len].into()))
}

fn respond(harness: &mut Harnessed, request: RequestId, data: &[u8]) -> (Result<(), RequestError>, Effects) {
    harness.call(|machine, cx| machine.respond(cx, request, Bytes::copy_from_slice(data)))
}

fn refuse(harness: &mut Harnessed, request: RequestId) -> (Result<(), RequestError>, Effects) {
    harness.call(|machine, cx| machine.refuse(cx, request))
}

fn cancel(harness: &mut Harnessed, request: RequestId) -> (Result<(), RequestError>, Effects) {
    harness.call(|machine, cx| machine.cancel(cx, request))
}

/// The bytes written by these actions to a stream, and the actions behind.
fn written(stream: StreamId, actions: &[Action]) -> (Vec<u8>, &[Action]) {
    let mut bytes = Vec::new();
    let mut rest = actions;
    while let [Action::Write { stream: to, data }, behind @ ..] = rest {
        assert_eq!(*to, stream);
        bytes.extend_from_slice(data);
        rest = behind;
    }
    (bytes, rest)
}

/// A request of `len` bytes that is under way.
fn sent(harness: &mut Harnessed, len: usize) -> (StreamId, RequestId) {
    let (request, effects) = send(harness, &ECHO, len);
    let [Action::Open { stream, conn, protocols, framing }, rest @ ..] = &effects.actions[..] else {
        panic!("{effects:?}");
    };
    assert_eq!((conn, &protocols[..], framing), (&C1, &[ECHO][..], &Framing::Frames { max: MAX_RESPONSE }));
    let (bytes, rest) = written(*stream, rest);
    assert_eq!(bytes, encode_frame(&vec![7; len]));
    assert_eq!(rest, [Action::Finish { stream: *stream }]);
    assert_eq!((&effects.events[..], &effects.signals[..]), (&[][..], &[][..]));
    (*stream, request.unwrap())
}

/// A request of peer 1 that is with the application.
fn received(harness: &mut Harnessed, stream: StreamId, request: &[u8]) -> RequestId {
    assert!(harness.net(inbound(stream.get(), 1, &ECHO)).is_empty());
    let effects = harness.net(frame(stream, request.to_vec()));
    let [Event::Request { request: id, conn: C1, peer: by, protocol, len }] = &effects.events[..] else {
        panic!("{effects:?}");
    };
    assert_eq!((by, protocol, *len), (&peer(1), &ECHO, request.len()));
    assert_eq!((&effects.actions[..], &effects.signals[..]), (&[][..], &[][..]));
    *id
}

fn response(request: RequestId, result: Result<usize, RequestError>) -> Event {
    Event::Response { request, result }
}

fn dropped(request: RequestId) -> Event {
    Event::RequestDropped { request }
}

fn events(events: impl Into<Vec<Event>>) -> Effects {
    Effects { events: events.into(), ..Effects::default() }
}

fn both(actions: impl Into<Vec<Action>>, event: Event) -> Effects {
    Effects { actions: actions.into(), events: vec![event], signals: Vec::new() }
}

fn bad_request(stream: StreamId) -> Action {
    Action::Fault { conn: C1, stream: Some(stream), fault: PeerFault::BadRequest }
}

fn busy(stream: StreamId) -> Effects {
    actions([reset(stream, code::STREAM_RESOURCE_LIMIT)])
}

/// Nothing is known of any request, and nothing will come of one.
fn assert_forgotten(harness: &mut Harnessed) {
    assert_eq!((harness.machine.census(), harness.machine.payload_bytes), (0, 0));
    assert_silent(harness);
}

/// A machine whose application leaves this many bytes of responses untaken.
fn laden(bytes: usize) -> (Harnessed, Vec<RequestId>) {
    let mut harness = harness();
    let one = Bytes::from(vec![0; 1 << 20]);
    let mut requests = Vec::new();
    let mut left = bytes;
    while left > 0 {
        let len = left.min(one.len());
        let (stream, request) = sent(&mut harness, 1);
        harness.net(frame(stream, one.slice(..len)));
        requests.push(request);
        left -= len;
    }
    assert_eq!(harness.machine.payload_bytes, bytes);
    (harness, requests)
}

#[test]
fn a_response_ends_a_request_and_is_taken_once() {
    let mut harness = harness();
    let (stream, request) = sent(&mut harness, 5);
    assert!(harness.net(NetEvent::Opened { stream, protocol: ECHO }).is_empty());
    assert!(harness.net(NetEvent::Delivered { stream }).is_empty());
    assert_eq!(harness.machine.take(request), None);

    let told = both([close(stream)], response(request, Ok(6)));
    assert_eq!(harness.net(frame(stream, "answer")), told);
    assert_eq!(harness.machine.take(request).as_deref(), Some(&b"answer"[..]));
    assert_eq!(harness.machine.take(request), None);
    assert_forgotten(&mut harness);
}

#[test]
fn a_request_is_told_then_taken_then_answered() {
    let mut harness = harness();
    let request = received(&mut harness, PEER_STREAM, b"question");
    assert!(harness.net(end(PEER_STREAM)).is_empty());
    assert_eq!(harness.machine.take(request).as_deref(), Some(&b"question"[..]));
    assert_eq!(harness.machine.take(request), None);

    let (result, effects) = respond(&mut harness, request, b"answer");
    assert_eq!((result, &effects.events[..]), (Ok(()), &[][..]));
    let (bytes, rest) = written(PEER_STREAM, &effects.actions);
    assert_eq!((bytes, rest), (b"\x06answer".to_vec(), &[close(PEER_STREAM)][..]));
    assert_forgotten(&mut harness);
}

#[test]
fn an_answer_needs_neither_the_end_of_the_request_nor_its_payload() {
    let mut harness = harness();
    let request = received(&mut harness, PEER_STREAM, b"question");
    assert_eq!(respond(&mut harness, request, b"").0, Ok(()));
    assert_eq!(harness.machine.take(request), None);
    assert!(harness.net(end(PEER_STREAM)).is_empty());
    assert_forgotten(&mut harness);
}

#[test]
fn empty_payloads_are_payloads() {
    let mut harness = harness();
    let (stream, request) = sent(&mut harness, 0);
    assert_eq!(harness.net(frame(stream, "")).events, [response(request, Ok(0))]);
    assert_eq!(harness.machine.take(request), Some(Bytes::new()));
    let request = received(&mut harness, PEER_STREAM, b"");
    assert_eq!(harness.machine.take(request), Some(Bytes::new()));
    let (_, effects) = respond(&mut harness, request, b"");
    assert_eq!(written(PEER_STREAM, &effects.actions).0, [0]);
    assert_forgotten(&mut harness);
}

#[test]
fn a_request_of_the_largest_size_is_sent_and_one_byte_more_is_not() {
    let mut harness = harness();
    sent(&mut harness, MAX_REQUEST);
    let census = harness.machine.census();
    let error = RequestError::TooLarge { len: MAX_REQUEST + 1, max: MAX_REQUEST };
    assert_eq!(send(&mut harness, &ECHO, MAX_REQUEST + 1), (Err(error), Effects::default()));
    assert_eq!(harness.machine.census(), census);
}

#[test]
fn a_response_that_is_too_large_leaves_the_request_to_be_answered_better() {
    let mut harness = harness();
    let request = received(&mut harness, PEER_STREAM, b"?");
    let error = RequestError::TooLarge { len: MAX_RESPONSE + 1, max: MAX_RESPONSE };
    assert_eq!(respond(&mut harness, request, &[0; MAX_RESPONSE + 1]), (Err(error), Effects::default()));
    assert_eq!(harness.machine.take(request).as_deref(), Some(&b"?"[..]));
    let (result, effects) = respond(&mut harness, request, &[0; MAX_RESPONSE]);
    assert_eq!(result, Ok(()));
    assert_eq!(written(PEER_STREAM, &effects.actions).0, encode_frame(&[0; MAX_RESPONSE]));
    assert_forgotten(&mut harness);
}

#[test]
fn an_unregistered_protocol_is_neither_sent_nor_served() {
    let mut harness = harness();
    assert_eq!(send(&mut harness, &OTHER, 1), (Err(RequestError::UnknownProtocol), Effects::default()));
    assert_eq!(harness.net(inbound(INBOUND, 1, &OTHER)), busy(PEER_STREAM));
    assert_forgotten(&mut harness);
}

#[test]
fn a_protocol_that_is_not_served_can_be_sent() {
    let mut harness = harness();
    harness.machine.register(ECHO, RequestConfig { serve: false, ..config() });
    assert_eq!(harness.net(inbound(INBOUND, 1, &ECHO)), busy(PEER_STREAM));
    assert!(harness.net(frame(PEER_STREAM, "?")).is_empty());
    sent(&mut harness, 1);
}

#[test]
fn a_request_times_out_exactly_then() {
    let mut harness = harness();
    harness.advance(Time::from_secs(1));
    let (stream, request) = sent(&mut harness, 1);
    harness.net(NetEvent::Opened { stream, protocol: ECHO });
    let at = Time::from_secs(1) + TIMEOUT;
    assert_eq!(harness.deadline(), Some(at));
    assert_eq!(harness.advance(at - NANO), []);
    let told = both([reset(stream, code::OK)], response(request, Err(RequestError::TimedOut)));
    assert_eq!(harness.advance(at), [(at, told)]);
    assert!(harness.net(frame(stream, "late")).is_empty());
    assert_forgotten(&mut harness);
}

#[test]
fn a_request_that_is_not_answered_in_time_is_dropped() {
    let mut harness = harness();
    let request = received(&mut harness, PEER_STREAM, b"?");
    let at = Time::ZERO + TIMEOUT;
    assert_eq!(harness.advance(at - NANO), []);
    assert_eq!(harness.advance(at), [(at, both([reset(PEER_STREAM, code::OK)], dropped(request)))]);
    assert_eq!(harness.machine.take(request), None);
    assert_eq!(respond(&mut harness, request, b"!"), (Err(RequestError::UnknownRequest), Effects::default()));
    assert_forgotten(&mut harness);
}

#[test]
fn a_request_that_does_not_come_in_time_is_nobodys_concern() {
    let mut harness = harness();
    harness.net(inbound(INBOUND, 1, &ECHO));
    let at = Time::ZERO + TIMEOUT;
    assert_eq!(harness.advance(at), [(at, actions([reset(PEER_STREAM, code::OK)]))]);
    assert!(harness.net(frame(PEER_STREAM, "late")).is_empty());
    assert_forgotten(&mut harness);
}

#[test]
fn a_cancelled_request_ends_in_that() {
    let mut harness = harness();
    let (stream, request) = sent(&mut harness, 1);
    let told = both([reset(stream, code::OK)], response(request, Err(RequestError::Cancelled)));
    assert_eq!(cancel(&mut harness, request), (Ok(()), told));
    assert_eq!(cancel(&mut harness, request), (Err(RequestError::UnknownRequest), Effects::default()));
    assert!(harness.net(frame(stream, "late")).is_empty());
    assert_forgotten(&mut harness);
}

#[test]
fn a_refused_request_is_reset_and_its_payload_is_gone() {
    let mut harness = harness();
    let request = received(&mut harness, PEER_STREAM, b"?");
    assert_eq!(refuse(&mut harness, request), (Ok(()), busy(PEER_STREAM)));
    assert_eq!(harness.machine.take(request), None);
    assert_eq!(refuse(&mut harness, request), (Err(RequestError::UnknownRequest), Effects::default()));
    assert_forgotten(&mut harness);
}

#[test]
fn a_request_is_answered_once() {
    let mut harness = harness();
    let request = received(&mut harness, PEER_STREAM, b"?");
    assert_eq!(respond(&mut harness, request, b"!").0, Ok(()));
    let unknown = (Err(RequestError::UnknownRequest), Effects::default());
    assert_eq!(respond(&mut harness, request, b"!"), unknown);
    assert_eq!(refuse(&mut harness, request), unknown);
    assert_forgotten(&mut harness);
}

#[test]
fn what_is_for_one_direction_does_not_work_in_the_other() {
    let mut harness = harness();
    let (_, ours) = sent(&mut harness, 1);
    let theirs = received(&mut harness, PEER_STREAM, b"?");
    let census = harness.machine.census();
    let unknown = (Err(RequestError::UnknownRequest), Effects::default());
    assert_ne!(ours, theirs);
    assert_eq!(respond(&mut harness, ours, b"!"), unknown);
    assert_eq!(refuse(&mut harness, ours), unknown);
    assert_eq!(cancel(&mut harness, theirs), unknown);
    for nobody in [RequestId(0), RequestId(u64::MAX)] {
        assert_eq!(respond(&mut harness, nobody, b"!"), unknown);
        assert_eq!(refuse(&mut harness, nobody), unknown);
        assert_eq!(cancel(&mut harness, nobody), unknown);
        assert_eq!(harness.machine.take(nobody), None);
    }
    assert_eq!(harness.machine.census(), census);
}

#[test]
fn a_second_frame_is_a_fault_of_the_peer_that_asks() {
    let mut harness = harness();
    let request = received(&mut harness, PEER_STREAM, b"one");
    let told = both([bad_request(PEER_STREAM)], dropped(request));
    assert_eq!(harness.net(frame(PEER_STREAM, "two")), told);
    assert_eq!(respond(&mut harness, request, b"!").0, Err(RequestError::UnknownRequest));
    assert_forgotten(&mut harness);
}

#[test]
fn what_follows_a_response_is_not_looked_at() {
    let mut harness = harness();
    let (stream, request) = sent(&mut harness, 1);
    harness.net(frame(stream, "one"));
    assert!(harness.net(frame(stream, "two")).is_empty());
    assert!(harness.net(end(stream)).is_empty());
    assert!(harness.net(failed(stream, StreamError::Reset(0))).is_empty());
    assert_eq!(harness.machine.take(request).as_deref(), Some(&b"one"[..]));
    assert_forgotten(&mut harness);
}

#[test]
fn an_end_without_a_request_is_a_fault() {
    let mut harness = harness();
    harness.net(inbound(INBOUND, 1, &ECHO));
    assert_eq!(harness.net(end(PEER_STREAM)), actions([bad_request(PEER_STREAM)]));
    assert_forgotten(&mut harness);
}

#[test]
fn an_end_without_a_response_ends_the_request() {
    let mut harness = harness();
    let (stream, request) = sent(&mut harness, 1);
    let told = both([reset(stream, code::OK)], response(request, Err(StreamError::EndedEarly.into())));
    assert_eq!(harness.net(end(stream)), told);
    assert_forgotten(&mut harness);
}

#[test]
fn a_peer_that_stops_reading_before_the_answer_gives_its_request_up() {
    let mut harness = harness();
    let request = received(&mut harness, PEER_STREAM, b"?");
    let told = both([reset(PEER_STREAM, code::OK)], dropped(request));
    assert_eq!(harness.net(stopped(PEER_STREAM, 4)), told);
    assert_eq!(harness.machine.take(request), None);
    assert_eq!(respond(&mut harness, request, b"!"), (Err(RequestError::UnknownRequest), Effects::default()));

    // Nobody knew of this one.
    harness.net(inbound(INBOUND + 1, 1, &ECHO));
    let stream = StreamId(INBOUND + 1);
    assert_eq!(harness.net(stopped(stream, 4)), actions([reset(stream, code::OK)]));
    assert_forgotten(&mut harness);
}

#[test]
fn a_peer_that_stops_reading_the_request_may_still_answer_it() {
    let mut harness = harness();
    let (stream, request) = sent(&mut harness, 1);
    assert!(harness.net(stopped(stream, 0)).is_empty());
    assert_eq!(harness.net(frame(stream, "!")).events, [response(request, Ok(1))]);
}

#[test]
fn a_failed_stream_ends_a_request_in_that_error() {
    let table = [
        (StreamError::TimedOut, RequestError::TimedOut),
        (StreamError::Unsupported, RequestError::Stream(StreamError::Unsupported)),
        (StreamError::Reset(3), RequestError::Stream(StreamError::Reset(3))),
        (StreamError::ConnectionClosed, RequestError::Stream(StreamError::ConnectionClosed)),
        (StreamError::EndedEarly, RequestError::Stream(StreamError::EndedEarly)),
    ];
    for (error, told) in table {
        let mut harness = harness();
        let (stream, request) = sent(&mut harness, 1);
        assert_eq!(harness.net(failed(stream, error)), events([response(request, Err(told))]));
        assert_forgotten(&mut harness);
    }
}

#[test]
fn a_request_whose_stream_fails_is_dropped_if_the_application_knew_of_it() {
    let mut harness = harness();
    harness.net(inbound(INBOUND + 1, 1, &ECHO));
    assert!(harness.net(failed(StreamId(INBOUND + 1), StreamError::Reset(0))).is_empty());
    let request = received(&mut harness, PEER_STREAM, b"?");
    let lost = || failed(PEER_STREAM, StreamError::ConnectionClosed);
    assert_eq!(harness.net(lost()), events([dropped(request)]));
    assert!(harness.net(lost()).is_empty());
    assert!(harness.net(disconnected(1)).is_empty());
    assert_forgotten(&mut harness);
}

#[test]
fn a_peer_may_have_as_many_requests_waiting_as_its_protocol_allows() {
    let mut harness = harness();
    let (a, b) = (StreamId(INBOUND), StreamId(INBOUND + 1));
    let answered = received(&mut harness, a, b"?");
    let refused = received(&mut harness, b, b"?");
    assert!(harness.net(inbound(INBOUND + 2, 1, &ECHO)).is_empty());
    assert_eq!(harness.net(inbound(INBOUND + 3, 1, &ECHO)), busy(StreamId(INBOUND + 3)));
    assert!(harness.net(frame(StreamId(INBOUND + 3), "?")).is_empty());
    // Another peer has its own share.
    assert!(harness.net(inbound(INBOUND + 4, 2, &ECHO)).is_empty());

    // Each way in which a request can end makes room for one.
    respond(&mut harness, answered, b"!").0.unwrap();
    refuse(&mut harness, refused).0.unwrap();
    harness.net(failed(StreamId(INBOUND + 2), StreamError::Reset(0)));
    for n in 5..8 {
        assert!(harness.net(inbound(INBOUND + n, 1, &ECHO)).is_empty());
    }
    assert_eq!(harness.net(inbound(INBOUND + 8, 1, &ECHO)), busy(StreamId(INBOUND + 8)));
    harness.net(end(StreamId(INBOUND + 5)));
    harness.net(stopped(StreamId(INBOUND + 6), 0));
    harness.advance(Time::ZERO + TIMEOUT);
    assert_forgotten(&mut harness);
}

#[test]
fn the_share_of_one_protocol_is_not_used_up_by_another() {
    let mut harness = harness();
    harness.machine.register(OTHER, RequestConfig { max_inbound_per_peer: 1, ..config() });
    for n in 0..3 {
        assert!(harness.net(inbound(INBOUND + n, 1, &ECHO)).is_empty());
    }
    assert!(harness.net(inbound(INBOUND + 3, 1, &OTHER)).is_empty());
    assert_eq!(harness.net(inbound(INBOUND + 4, 1, &OTHER)), busy(StreamId(INBOUND + 4)));
    assert_eq!(harness.net(inbound(INBOUND + 5, 1, &ECHO)), busy(StreamId(INBOUND + 5)));
}

#[test]
fn the_whole_node_has_a_limit_on_requests_that_wait() {
    let mut harness = harness();
    harness.machine.register(ECHO, RequestConfig { max_inbound_per_peer: usize::MAX, ..config() });
    for n in 0..limits::INBOUND_REQUESTS as u64 {
        assert!(harness.net(inbound(INBOUND + n, 1 + (n % 200) as u8, &ECHO)).is_empty());
    }
    let next = StreamId(INBOUND + limits::INBOUND_REQUESTS as u64);
    assert_eq!(harness.net(inbound(next.get(), 250, &ECHO)), busy(next));
    harness.net(failed(PEER_STREAM, StreamError::Reset(0)));
    assert!(harness.net(inbound(next.get() + 1, 250, &ECHO)).is_empty());
}

#[test]
fn an_application_that_takes_nothing_sends_nothing_more() {
    let (mut harness, requests) = laden(limits::REQUEST_BYTES - 1);
    // The last byte of the budget is to be had, but no two.
    let (stream, request) = sent(&mut harness, 1);
    let told = both([close(stream)], response(request, Err(RequestError::Busy)));
    assert_eq!(harness.net(frame(stream, "12")), told);
    assert_eq!(harness.machine.take(request), None);
    let (stream, last) = sent(&mut harness, 1);
    assert_eq!(harness.net(frame(stream, "1")).events, [response(last, Ok(1))]);
    assert_eq!(send(&mut harness, &ECHO, 1), (Err(RequestError::Busy), Effects::default()));

    assert_eq!(harness.machine.take(last).map(|data| data.len()), Some(1));
    sent(&mut harness, 1);
    for request in requests {
        assert!(harness.machine.take(request).is_some());
    }
    harness.advance(Time::ZERO + TIMEOUT);
    assert_forgotten(&mut harness);
}

#[test]
fn requests_that_find_no_room_are_turned_away_untold() {
    let (mut harness, requests) = laden(limits::INBOUND_REQUEST_BYTES - 1);
    harness.net(inbound(INBOUND, 1, &ECHO));
    assert_eq!(harness.net(frame(PEER_STREAM, "12")), busy(PEER_STREAM));
    let request = received(&mut harness, StreamId(INBOUND + 1), b"1");
    harness.net(inbound(INBOUND + 2, 1, &ECHO));
    assert_eq!(harness.net(frame(StreamId(INBOUND + 2), "1")), busy(StreamId(INBOUND + 2)));
    // An answer gives back what its request took, taken or not.
    assert_eq!(respond(&mut harness, request, b"").0, Ok(()));
    assert_eq!(harness.machine.payload_bytes, limits::INBOUND_REQUEST_BYTES - 1);
    for request in requests {
        harness.machine.take(request);
    }
    assert_forgotten(&mut harness);
}

#[test]
fn a_response_waits_to_be_taken_when_its_connection_is_gone() {
    let mut harness = harness();
    let (stream, request) = sent(&mut harness, 1);
    harness.net(frame(stream, "!"));
    assert!(harness.net(disconnected(1)).is_empty());
    assert_eq!(harness.machine.take(request).as_deref(), Some(&b"!"[..]));
    assert_forgotten(&mut harness);
}

proptest! {
    #[test]
    fn every_request_ends_once_and_leaves_nothing_behind(
        steps in steps(vec![ECHO, OTHER], vec(any::<u8>(), 0..30).prop_map(Bytes::from)),
        streams_first: bool,
    ) {
        let mut harness = harness();
        harness.machine.register(OTHER, RequestConfig { max_inbound_per_peer: 1, ..config() });
        let mut sent = BTreeSet::new();
        let mut settled = BTreeSet::new();
        let events = run(&mut harness, steps, streams_first, |machine, cx, what, which| {
            let request = RequestId(which);
            match what % 6 {
                0 | 1 => sent.extend(machine.send(cx, ConnId(which), &ECHO, vec![0; 101 * usize::from(what / 200)].into())),
                2 => drop(machine.take(request)),
                3 => {
                    if machine.respond(cx, request, vec![0; 3].into()).is_ok() {
                        assert!(settled.insert(request));
                    }
                }
                4 => {
                    if machine.refuse(cx, request).is_ok() {
                        assert!(settled.insert(request));
                    }
                }
                _ => drop(machine.cancel(cx, request)),
            }
        }, |_| ());

        let mut asked = BTreeSet::new();
        let mut responses = BTreeMap::new();
        for event in events {
            match event {
                Event::Request { request, .. } => prop_assert!(asked.insert(request)),
                Event::RequestDropped { request } => prop_assert!(settled.insert(request)),
                Event::Response { request, result } => prop_assert_eq!(responses.insert(request, result), None),
                other => prop_assert!(false, "{:?}", other),
            }
        }
        prop_assert_eq!(&asked, &settled);
        prop_assert_eq!(&sent, &responses.keys().copied().collect());
        for request in sent {
            harness.machine.take(request);
        }
        prop_assert_eq!((harness.machine.census(), harness.machine.payload_bytes), (0, 0));
    }
}
