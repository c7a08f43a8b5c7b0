use proptest::{collection::vec, prelude::*};

use super::*;
use crate::{
    node::{Effects, Harness},
    protocol::ping::tests::support::*,
    transport::net::Action,
};

const CHUNK: u64 = ZEROS.len() as u64;
const ROUND: u64 = CHUNK * CHUNKS_AT_ONCE;
const ADDRESS: &str = "192.0.2.1:4001";
const C1: ConnId = ConnId(1);
const PEER_STREAM: StreamId = StreamId(INBOUND);

fn harness() -> Harness<Perf> {
    let mut harness = Harness::new(1, Perf::new);
    assert!(harness.net(connected(1, ADDRESS)).is_empty());
    harness
}

/// What one round of zeros came to.
#[derive(PartialEq, Eq, Debug)]
struct Sent {
    bytes: u64,
    finished: bool,
}

/// Adds up a round: at most eight chunks of zeros, then either the end or a request for credit.
fn round(stream: StreamId, actions: &[Action]) -> Sent {
    let (last, writes) = actions.split_last().expect("nothing was sent");
    let finished = match last {
        Action::Finish { stream: on } => {
            assert_eq!(*on, stream);
            true
        }
        Action::WantWritable { stream: on } => {
            assert_eq!(*on, stream);
            false
        }
        other => panic!("{other:?}"),
    };
    assert!(writes.len() as u64 <= CHUNKS_AT_ONCE, "{} chunks", writes.len());
    let mut bytes = 0;
    for write in writes {
        let Action::Write { stream: on, data } = write else { panic!("{write:?}") };
        assert_eq!(*on, stream);
        assert!(!data.is_empty() && data.iter().all(|byte| *byte == 0));
        bytes += data.len() as u64;
    }
    Sent { bytes, finished }
}

/// Starts a measurement on connection 1. Returns its stream, its number and the first round.
fn start(harness: &mut Harness<Perf>, up: u64, down: u64) -> (StreamId, PerfId, Sent) {
    let (perf, effects) = harness.call(|perf, cx| perf.start(cx, C1, up, down));
    let [Action::Open { stream, conn, protocols, framing }, Action::Write { stream: to, data }, rest @ ..] =
        &effects.actions[..]
    else {
        panic!("{effects:?}");
    };
    assert_eq!((conn, &protocols[..], framing, to), (&C1, &[PERF][..], &Framing::Raw, stream));
    assert_eq!(data[..], down.to_be_bytes());
    assert_eq!((&effects.events[..], &effects.signals[..]), (&[][..], &[][..]));
    (*stream, perf, round(*stream, rest))
}

fn writable(harness: &mut Harness<Perf>, stream: StreamId) -> Sent {
    let effects = harness.net(NetEvent::Writable { stream });
    assert_eq!((&effects.events[..], &effects.signals[..]), (&[][..], &[][..]));
    round(stream, &effects.actions)
}

/// The result of the one measurement that ended in these effects.
fn ended(effects: &Effects) -> (PerfId, Result<PerfReport, StreamError>) {
    let [Event::Perf { perf, result }] = &effects.events[..] else { panic!("no measurement ended: {effects:?}") };
    assert!(effects.signals.is_empty());
    (*perf, result.clone())
}

fn fault(stream: StreamId, fault: PeerFault) -> Action {
    Action::Fault { conn: C1, stream: Some(stream), fault }
}

#[test]
fn an_upload_goes_out_in_rounds_of_at_most_eight_chunks() {
    for up in [0, 1, CHUNK, ROUND - 1, ROUND, ROUND + 1, 3 * ROUND, 3 * ROUND + CHUNK + 5] {
        let mut harness = harness();
        let (stream, _, mut sent) = start(&mut harness, up, 0);
        let mut total = sent.bytes;
        let mut rounds = 1;
        while !sent.finished {
            sent = writable(&mut harness, stream);
            total += sent.bytes;
            rounds += 1;
        }
        assert_eq!((total, rounds), (up, up.div_ceil(ROUND).max(1)), "{up}");
        // Credit beyond the end brings nothing.
        assert!(harness.net(NetEvent::Writable { stream }).is_empty());
        assert_silent(&mut harness);
    }
}

#[test]
fn an_upload_is_timed_to_the_acknowledgement_of_its_end() {
    let mut harness = harness();
    let (stream, perf, _) = start(&mut harness, 100, 0);
    assert!(harness.net(NetEvent::Opened { stream, protocol: PERF }).is_empty());
    harness.advance(Time::from_secs(2));
    assert!(harness.net(NetEvent::Delivered { stream }).is_empty());
    harness.advance(Time::from_secs(3));
    let effects = harness.net(end(stream));
    assert_eq!(effects.actions, [close(stream)]);
    let report = PerfReport {
        uploaded: 100,
        upload_time: Duration::from_secs(2),
        downloaded: 0,
        download_time: Duration::from_secs(1),
    };
    assert_eq!(ended(&effects), (perf, Ok(report)));
    assert_eq!(harness.machine.census(), 0);
    assert_silent(&mut harness);
}

#[test]
fn the_first_byte_back_ends_the_upload_if_it_is_earlier_than_the_acknowledgement() {
    let mut harness = harness();
    let (stream, perf, _) = start(&mut harness, 100, 30);
    harness.advance(Time::from_secs(2));
    assert!(harness.net(data(stream, vec![0; 10])).is_empty());
    harness.advance(Time::from_secs(4));
    assert!(harness.net(NetEvent::Delivered { stream }).is_empty());
    assert!(harness.net(data(stream, vec![9; 20])).is_empty());
    harness.advance(Time::from_secs(7));
    let report = PerfReport {
        uploaded: 100,
        upload_time: Duration::from_secs(2),
        downloaded: 30,
        download_time: Duration::from_secs(5),
    };
    assert_eq!(ended(&harness.net(end(stream))), (perf, Ok(report)));
    assert_eq!(harness.machine.census(), 0);
}

#[test]
fn an_end_without_any_sign_before_ends_both_times() {
    let mut harness = harness();
    let (stream, perf, _) = start(&mut harness, 0, 0);
    harness.advance(Time::from_secs(1));
    let report =
        PerfReport { uploaded: 0, upload_time: Duration::from_secs(1), downloaded: 0, download_time: Duration::ZERO };
    assert_eq!(ended(&harness.net(end(stream))), (perf, Ok(report)));
}

#[test]
fn an_end_before_all_has_come_or_gone_is_an_error() {
    // A download that is too short; an upload that was not read to its end.
    for (up, down, came) in [(0, 10, 9), (ROUND + 1, 10, 10), (ROUND + 1, 0, 0)] {
        let mut harness = harness();
        let (stream, perf, _) = start(&mut harness, up, down);
        if came > 0 {
            assert!(harness.net(data(stream, vec![0; came])).is_empty());
        }
        let effects = harness.net(end(stream));
        assert_eq!(effects.actions, [close(stream)]);
        assert_eq!(ended(&effects), (perf, Err(StreamError::EndedEarly)));
        assert!(harness.net(NetEvent::Writable { stream }).is_empty());
        assert_eq!(harness.machine.census(), 0);
    }
}

#[test]
fn more_than_was_asked_for_is_a_fault() {
    for down in [0, 10] {
        let mut harness = harness();
        let (stream, perf, _) = start(&mut harness, 0, down);
        if down > 0 {
            assert!(harness.net(data(stream, vec![0; 10])).is_empty());
        }
        let effects = harness.net(data(stream, vec![0; 1]));
        assert_eq!(effects.actions, [fault(stream, PeerFault::BadPerf)]);
        let (ended, result) = ended(&effects);
        assert_eq!((ended, result.is_err()), (perf, true));
        assert!(harness.net(data(stream, vec![0; 1])).is_empty());
        assert!(harness.net(end(stream)).is_empty());
        assert_eq!(harness.machine.census(), 0);
    }
}

#[test]
fn a_measurement_whose_stream_is_stopped_or_fails_ends_in_that_error() {
    let mut harness = harness();
    let (stream, perf, _) = start(&mut harness, ROUND * 2, 10);
    let effects = harness.net(stopped(stream, 9));
    assert_eq!(effects.actions, [reset(stream, code::OK)]);
    assert_eq!(ended(&effects), (perf, Err(StreamError::Stopped(9))));

    for error in [StreamError::Unsupported, StreamError::Reset(1), StreamError::ConnectionClosed] {
        let (stream, perf, _) = start(&mut harness, ROUND * 2, 10);
        let effects = harness.net(failed(stream, error.clone()));
        assert_eq!(effects.actions, []);
        assert_eq!(ended(&effects), (perf, Err(error)));
    }
    assert_eq!(harness.machine.census(), 0);
    assert_silent(&mut harness);
}

#[test]
fn measurements_have_numbers_and_streams_of_their_own() {
    let mut harness = harness();
    let (first, one, _) = start(&mut harness, 1, 1);
    let (second, two, _) = start(&mut harness, 2, 2);
    assert!(first != second && one != two);
    assert!(harness.net(data(second, vec![0; 2])).is_empty());
    let (perf, result) = ended(&harness.net(end(second)));
    assert_eq!((perf, result.unwrap().downloaded), (two, 2));
    assert_eq!(harness.machine.census(), 1);
}

#[test]
fn the_largest_numbers_neither_overflow_nor_take_memory() {
    let mut harness = harness();
    let (stream, _, sent) = start(&mut harness, u64::MAX, u64::MAX);
    assert_eq!(sent, Sent { bytes: ROUND, finished: false });
    assert_eq!(writable(&mut harness, stream), Sent { bytes: ROUND, finished: false });
    assert!(harness.net(data(stream, vec![0; 1000])).is_empty());

    harness.net(inbound(INBOUND, 1, &PERF));
    harness.net(data(PEER_STREAM, vec![0xff; 8]));
    for n in 0..100 {
        let event = if n == 0 { end(PEER_STREAM) } else { NetEvent::Writable { stream: PEER_STREAM } };
        let effects = harness.net(event);
        assert_eq!(round(PEER_STREAM, &effects.actions), Sent { bytes: ROUND, finished: false });
    }
    // A client, a stream that is served, and the count of those of its connection.
    assert_eq!(harness.machine.census(), 3);
}

/// Serves a request whose bytes come in these pieces. Returns how much was sent back, in how many rounds.
fn serve(harness: &mut Harness<Perf>, stream: StreamId, pieces: &[&[u8]]) -> (u64, u64) {
    assert!(harness.net(inbound(stream.get(), 1, &PERF)).is_empty());
    for piece in pieces {
        assert!(harness.net(data(stream, piece.to_vec())).is_empty());
    }
    let mut effects = harness.net(end(stream));
    let (mut total, mut rounds) = (0, 0);
    loop {
        assert_eq!((&effects.events[..], &effects.signals[..]), (&[][..], &[][..]));
        rounds += 1;
        let over = effects.actions.last() == Some(&close(stream));
        let sent = round(stream, &effects.actions[..effects.actions.len() - usize::from(over)]);
        total += sent.bytes;
        assert_eq!(sent.finished, over, "the last byte ends the stream");
        if over {
            break;
        }
        effects = harness.net(NetEvent::Writable { stream });
    }
    assert!(harness.net(NetEvent::Writable { stream }).is_empty());
    (total, rounds)
}

#[test]
fn a_server_sends_as_many_bytes_as_it_was_asked_for_and_ends() {
    for down in [0, 1, CHUNK, ROUND - 1, ROUND, ROUND + 1, 5 * ROUND + 7] {
        let mut harness = harness();
        let served = serve(&mut harness, PEER_STREAM, &[&down.to_be_bytes()]);
        assert_eq!(served, (down, down.div_ceil(ROUND).max(1)), "{down}");
        assert_eq!(harness.machine.census(), 0);
        assert_silent(&mut harness);
    }
}

#[test]
fn the_header_may_come_in_pieces_and_the_upload_behind_it_is_not_looked_at() {
    let header = 70_000u64.to_be_bytes();
    let upload = [0xff; 100];
    let pieces: [&[&[u8]]; 4] = [
        &[&header[..3], &header[3..7], &header[7..]],
        &[&header[..1], &[&header[1..], &upload].concat()],
        &[&[&header[..], &upload].concat(), &upload, &upload],
        &[&header, &upload],
    ];
    for pieces in pieces {
        let mut harness = harness();
        assert_eq!(serve(&mut harness, PEER_STREAM, pieces), (70_000, 1));
    }
}

#[test]
fn a_request_without_a_whole_header_is_a_fault() {
    for len in [0, 1, 7] {
        let mut harness = harness();
        harness.net(inbound(INBOUND, 1, &PERF));
        if len > 0 {
            assert!(harness.net(data(PEER_STREAM, vec![0; len])).is_empty());
        }
        assert_eq!(harness.net(end(PEER_STREAM)), actions([fault(PEER_STREAM, PeerFault::BadPerf)]));
        assert_eq!(harness.machine.census(), 0);
    }
}

#[test]
fn nothing_is_sent_before_the_request_has_ended() {
    let mut harness = harness();
    harness.net(inbound(INBOUND, 1, &PERF));
    harness.net(data(PEER_STREAM, vec![1; 100]));
    assert!(harness.net(NetEvent::Writable { stream: PEER_STREAM }).is_empty());
    assert_eq!(harness.machine.census(), 2);
}

#[test]
fn a_connection_has_eight_streams_served_at_once() {
    let mut harness = harness();
    harness.net(connected(2, ADDRESS));
    for n in 0..8 {
        assert!(harness.net(inbound(INBOUND + n, 1, &PERF)).is_empty());
    }
    let ninth = StreamId(INBOUND + 8);
    assert_eq!(harness.net(inbound(ninth.get(), 1, &PERF)), actions([fault(ninth, PeerFault::TooManyStreams)]));
    assert!(harness.net(data(ninth, vec![0; 8])).is_empty());
    assert!(harness.net(end(ninth)).is_empty());
    // Another connection has its own eight; one's own measurements do not count.
    assert!(harness.net(inbound(INBOUND + 9, 2, &PERF)).is_empty());
    start(&mut harness, 1, 1);

    harness.net(failed(PEER_STREAM, StreamError::Reset(0)));
    assert!(harness.net(inbound(INBOUND + 10, 1, &PERF)).is_empty());
}

#[test]
fn a_client_that_reads_no_more_or_is_gone_is_forgotten() {
    type Ends = fn() -> NetEvent;
    let ends: [(Ends, &[Action]); 2] = [
        (|| stopped(PEER_STREAM, 0), &[close(PEER_STREAM)]),
        (|| failed(PEER_STREAM, StreamError::ConnectionClosed), &[]),
    ];
    for (over, then) in ends {
        for sending in [false, true] {
            let mut harness = harness();
            harness.net(inbound(INBOUND, 1, &PERF));
            harness.net(data(PEER_STREAM, vec![0xff; 8]));
            if sending {
                harness.net(end(PEER_STREAM));
            }
            assert_eq!(harness.net(over()), actions(then));
            assert!(harness.net(NetEvent::Writable { stream: PEER_STREAM }).is_empty());
            assert!(harness.net(end(PEER_STREAM)).is_empty());
            assert_eq!(harness.machine.census(), 0);
            assert_silent(&mut harness);
        }
    }
}

proptest! {
    #[test]
    fn nothing_that_a_network_does_leaves_anything_behind(
        steps in steps(vec![PERF], vec(any::<u8>(), 1..20).prop_map(Bytes::from)),
        streams_first: bool,
    ) {
        let mut harness = Harness::new(1, Perf::new);
        let mut started = 0;
        let events = run(&mut harness, steps, streams_first, |perf, cx, what, conn| {
            let size = [0, 1, 20, ROUND, u64::MAX];
            let up = size[usize::from(what) % size.len()];
            let down = size[usize::from(what) / size.len() % size.len()];
            perf.start(cx, ConnId(conn), up, down);
            started += 1;
        }, |_| ());
        // Each measurement ends once.
        prop_assert_eq!(events.len(), started);
        prop_assert_eq!(harness.machine.census(), 0);
    }
}
