use proptest::prelude::*;

use super::*;

const WIRE_HEADER: &[u8] = b"\x13/multistream/1.0.0\n";
const A: ProtocolId = ProtocolId::from_static("/a/1");
const B: ProtocolId = ProtocolId::from_static("/b/1");
const C: ProtocolId = ProtocolId::from_static("/c/1");

fn wire(lines: &[&str]) -> Bytes {
    let mut out = BytesMut::new();
    for line in lines {
        append_line(line, &mut out);
    }
    out.freeze()
}

fn raw(parts: &[&[u8]]) -> Bytes {
    parts.concat().into()
}

fn only_a(name: &str) -> Option<u8> {
    (name == "/a/1").then_some(7)
}

/// A dialer that has seen the listener's header.
fn dialer_past_header(candidates: &[ProtocolId]) -> Dialer {
    let (mut dialer, _) = Dialer::new(candidates);
    assert_eq!(dialer.receive(&mut wire(&[HEADER])), Ok(DialerStep::NeedMore));
    dialer
}

fn listen_past_header() -> Listener {
    let mut listener = Listener::new();
    let step = listener.receive(&mut wire(&[HEADER]), only_a);
    let reply = Some(wire(&[HEADER]));
    assert_eq!(step, Ok(ListenerStep::NeedMore { reply }));
    listener
}

#[test]
fn lines_have_their_known_bytes() {
    assert_eq!(wire(&[HEADER]), WIRE_HEADER);
    assert_eq!(wire(&[REFUSAL]), &b"\x03na\n"[..]);
    assert_eq!(wire(&[LIST]), &b"\x03ls\n"[..]);
}

#[test]
fn header_and_first_proposal_are_one_write() {
    let (dialer, first) = Dialer::new(&[A]);
    assert_eq!(first, raw(&[WIRE_HEADER, b"\x05/a/1\n"]));
    assert!(dialer.is_lazy());
    let (dialer, first) = Dialer::new(&[A, B]);
    assert_eq!(first, raw(&[WIRE_HEADER, b"\x05/a/1\n"]));
    assert!(!dialer.is_lazy());
}

#[test]
fn the_dialer_agrees_at_every_split_point_and_leaves_the_tail() {
    let all = raw(&[&wire(&[HEADER, "/a/1"]), &[b'\x03'; 100]]);
    let end = all.len() - 100;
    for cut in 0..=all.len() {
        let (mut dialer, _) = Dialer::new(&[A]);
        let mut input = all.slice(..cut);
        let step = dialer.receive(&mut input).unwrap();
        if cut < end {
            assert_eq!(step, DialerStep::NeedMore);
            assert!(input.is_empty());
            input = all.slice(cut..);
            assert_eq!(dialer.receive(&mut input), Ok(DialerStep::Done(A)));
            assert_eq!(input, &[b'\x03'; 100][..]);
        } else {
            assert_eq!(step, DialerStep::Done(A));
            assert_eq!(input, all.slice(end..cut));
        }
        // Done is done.
        let left = input.clone();
        assert_eq!(dialer.receive(&mut input), Ok(DialerStep::Done(A)));
        assert_eq!(input, left);
    }
}

#[test]
fn a_refused_dialer_goes_through_its_candidates_in_order() {
    let mut dialer = dialer_past_header(&[A, B, C]);
    let mut input = wire(&[REFUSAL]);
    assert_eq!(dialer.receive(&mut input), Ok(DialerStep::Send(wire(&["/b/1"]))));
    assert_eq!(dialer.receive(&mut input), Ok(DialerStep::NeedMore));
    assert_eq!(dialer.receive(&mut wire(&[REFUSAL])), Ok(DialerStep::Send(wire(&["/c/1"]))));
    let mut input = raw(&[&wire(&["/c/1"]), b"data"]);
    assert_eq!(dialer.receive(&mut input), Ok(DialerStep::Done(C)));
    assert_eq!(input, "data");
}

#[test]
fn answers_that_come_in_one_chunk_are_taken_one_by_one() {
    let (mut dialer, _) = Dialer::new(&[A, B]);
    let mut input = raw(&[&wire(&[HEADER, REFUSAL, "/b/1"]), b"data"]);
    assert_eq!(dialer.receive(&mut input), Ok(DialerStep::Send(wire(&["/b/1"]))));
    assert_eq!(dialer.receive(&mut input), Ok(DialerStep::Done(B)));
    assert_eq!(input, "data");
}

#[test]
fn a_dialer_refused_everywhere_is_unsupported_and_no_violation() {
    let mut dialer = dialer_past_header(&[A]);
    let error = dialer.receive(&mut wire(&[REFUSAL])).unwrap_err();
    assert_eq!(error, NegotiateError::Unsupported);
    assert!(!error.is_violation());
    assert_eq!(dialer.eof(), NegotiateError::Unsupported);
    let mut later = wire(&["/a/1"]);
    assert_eq!(dialer.receive(&mut later), Err(error));
    assert_eq!(later, wire(&["/a/1"]));
}

#[test]
fn a_dialer_without_candidates_is_unsupported() {
    let (mut dialer, first) = Dialer::new(&[]);
    assert_eq!(first, WIRE_HEADER);
    assert_eq!(dialer.receive(&mut wire(&[HEADER])), Err(NegotiateError::Unsupported));
}

#[test]
fn a_dialer_fails_closed_on_any_other_answer() {
    let (mut dialer, _) = Dialer::new(&[A]);
    assert_eq!(dialer.receive(&mut wire(&["/a/1"])), Err(NegotiateError::WrongHeader));
    for line in ["/b/1", "/a/1/", "/a/", "ls", "", HEADER, "select:5"] {
        let mut dialer = dialer_past_header(&[A, B]);
        assert_eq!(dialer.receive(&mut wire(&[line])), Err(NegotiateError::UnexpectedLine));
    }
}

#[test]
fn an_end_before_agreement_is_a_failure_on_both_sides() {
    let (dialer, _) = Dialer::new(&[A]);
    assert_eq!(dialer.eof(), NegotiateError::Ended);
    assert_eq!(dialer_past_header(&[A]).eof(), NegotiateError::Ended);
    assert_eq!(Listener::new().eof(), NegotiateError::Ended);
    let mut listener = listen_past_header();
    assert_eq!(listener.eof(), NegotiateError::Ended);
    let _ = listener.receive(&mut wire(&["/b/1"]), only_a).unwrap();
    assert_eq!(listener.eof(), NegotiateError::Refused);
    assert!(!NegotiateError::Ended.is_violation());
}

#[test]
fn the_listener_agrees_at_every_split_point_and_leaves_the_tail() {
    let all = raw(&[&wire(&[HEADER, "/b/1", "/a/1"]), &[b'\x03'; 100]]);
    let end = all.len() - 100;
    let owed = wire(&[HEADER, REFUSAL, "/a/1"]);
    for cut in 0..=all.len() {
        let mut listener = Listener::new();
        let mut input = all.slice(..cut);
        let mut sent = BytesMut::new();
        let mut step = listener.receive(&mut input, only_a).unwrap();
        if cut < end {
            let ListenerStep::NeedMore { reply } = step else {
                panic!("too early");
            };
            sent.extend_from_slice(&reply.unwrap_or_default());
            assert!(input.is_empty());
            input = all.slice(cut..);
            step = listener.receive(&mut input, only_a).unwrap();
        }
        let ListenerStep::Selected { value, name, reply } = step else {
            panic!("not selected");
        };
        sent.extend_from_slice(&reply);
        assert_eq!((value, name), (7, A));
        assert_eq!(sent, owed);
        let fed = if cut < end { all.len() } else { cut };
        assert_eq!(input, all.slice(end..fed));
        let left = input.clone();
        assert_eq!(listener.receive(&mut input, only_a), Ok(ListenerStep::NeedMore { reply: None }));
        assert_eq!(input, left);
    }
}

#[test]
fn header_and_echo_are_one_write() {
    let mut input = raw(&[&wire(&[HEADER, "/a/1"]), b"data"]);
    assert_eq!(
        Listener::new().receive(&mut input, only_a),
        Ok(ListenerStep::Selected { value: 7, name: A, reply: wire(&[HEADER, "/a/1"]) })
    );
    assert_eq!(input, "data");
}

#[test]
fn the_listener_is_silent_before_the_header_and_answers_it_on_receipt() {
    let mut listener = Listener::new();
    let mut start = wire(&[HEADER]).slice(..10);
    assert_eq!(listener.receive(&mut start, only_a), Ok(ListenerStep::NeedMore { reply: None }));
    assert_eq!(listener.buffered(), 9);
    let reply = Some(wire(&[HEADER]));
    assert_eq!(listener.receive(&mut wire(&[HEADER]).slice(10..), only_a), Ok(ListenerStep::NeedMore { reply }));
}

#[test]
fn a_loose_match_echoes_the_proposed_name() {
    let mut listener = listen_past_header();
    let prefix = |name: &str| name.starts_with("/a/").then_some(());
    let step = listener.receive(&mut wire(&["/a/9"]), prefix).unwrap();
    let name = ProtocolId::from_static("/a/9");
    let reply = wire(&["/a/9"]);
    let value = ();
    assert_eq!(step, ListenerStep::Selected { value, name, reply });
}

#[test]
fn listing_and_simultaneous_open_and_overlong_names_are_refused_politely() {
    let long = format!("/{}", "x".repeat(1022));
    for line in [
        "ls",
        "/libp2p/simultaneous-connect",
        "select:18446744073709551615",
        "initiator",
        "responder",
        "/",
        long.as_str(),
    ] {
        let mut listener = listen_past_header();
        let reply = Some(wire(&[REFUSAL]));
        let step = listener.receive(&mut wire(&[line]), |name| (name.len() > 100).then_some(()));
        assert_eq!(step, Ok(ListenerStep::NeedMore { reply }));
        assert!(matches!(listener.receive(&mut wire(&["/a/1"]), only_a), Ok(ListenerStep::Selected { .. })));
    }
}

#[test]
fn a_repeated_header_is_accepted() {
    let mut listener = listen_past_header();
    let step = listener.receive(&mut wire(&[HEADER, "/a/1"]), only_a);
    let reply = wire(&[HEADER, "/a/1"]);
    let (value, name) = (7, A);
    assert_eq!(step, Ok(ListenerStep::Selected { value, name, reply }));
}

#[test]
fn unclean_lines_are_violations() {
    let too_long = raw(&[&[0x81, 0x08], &[b'x'; 1024], b"\n"]);
    let ten_bytes = raw(&[&[0xff; 9], b"\x01"]);
    for (bytes, error) in [
        (too_long, NegotiateError::LineLength),
        (ten_bytes, NegotiateError::LineLength),
        (raw(&[b"\x83\x00na\n"]), NegotiateError::LineLength),
        (raw(&[b"\x00"]), NegotiateError::MalformedLine),
        (raw(&[b"\x04/a/1"]), NegotiateError::MalformedLine),
        (raw(&[b"\x05/a\n1\n"]), NegotiateError::MalformedLine),
        (raw(&[b"\x04/\xff\xfe\n"]), NegotiateError::MalformedLine),
        (raw(&[b"\x0bpeerwork/1\n"]), NegotiateError::UnexpectedLine),
        (raw(&[b"\x01\n"]), NegotiateError::UnexpectedLine),
        (raw(&[b"\x03na\n"]), NegotiateError::UnexpectedLine),
        (raw(&[b"\x09select:x\n"]), NegotiateError::UnexpectedLine),
    ] {
        assert!(error.is_violation());
        let mut listener = listen_past_header();
        let result = listener.receive(&mut bytes.clone(), |_: &str| Some(()));
        assert_eq!(result, Err(error), "{bytes:?}");
        assert_eq!(listener.receive(&mut wire(&["/a/1"]), only_a), Err(error));
        assert_eq!(listener.eof(), error);
        if error != NegotiateError::UnexpectedLine {
            let mut dialer = dialer_past_header(&[A]);
            assert_eq!(dialer.receive(&mut bytes.clone()), Err(error));
        }
    }
    assert_eq!(Listener::new().receive(&mut wire(&["/a/1"]), only_a), Err(NegotiateError::WrongHeader));
}

#[test]
fn a_line_of_1024_bytes_is_read() {
    let line = format!("/{}", "x".repeat(1022));
    assert_eq!(wire(&[&line]).len(), 1024 + 2);
    let mut listener = listen_past_header();
    let reply = Some(wire(&[REFUSAL]));
    assert_eq!(listener.receive(&mut wire(&[&line]), only_a), Ok(ListenerStep::NeedMore { reply }));
    let over = format!("{line}x");
    assert_eq!(listener.receive(&mut wire(&[&over]), only_a), Err(NegotiateError::Refused));
}

#[test]
fn data_behind_a_refused_proposal_is_a_refusal_however_it_is_cut() {
    let all = raw(&[&wire(&[HEADER, "/b/1"]), &[0xff; 40]]);
    for cut in 0..all.len() {
        let mut listener = Listener::new();
        let mut sent = BytesMut::new();
        let mut result = Ok(());
        for mut part in [all.slice(..cut), all.slice(cut..)] {
            match listener.receive(&mut part, only_a) {
                Ok(ListenerStep::NeedMore { reply }) => {
                    sent.extend_from_slice(&reply.unwrap_or_default());
                }
                Ok(ListenerStep::Selected { .. }) => panic!("nothing to select"),
                Err(error) => result = Err(error),
            }
        }
        assert_eq!(result, Err(NegotiateError::Refused));
        // The peer can still be told.
        sent.extend_from_slice(&listener.take_reply().unwrap_or_default());
        assert_eq!(sent, wire(&[HEADER, REFUSAL]));
        assert_eq!(listener.take_reply(), None);
    }
    assert!(!NegotiateError::Refused.is_violation());
}

#[test]
fn a_flood_of_proposals_is_bounded() {
    let mut listener = listen_past_header();
    for _ in 0..MAX_PROPOSALS {
        let reply = Some(wire(&[REFUSAL]));
        let step = listener.receive(&mut wire(&["/b/1"]), only_a);
        assert_eq!(step, Ok(ListenerStep::NeedMore { reply }));
    }
    assert_eq!(listener.receive(&mut wire(&["/a/1"]), only_a), Err(NegotiateError::TooManyProposals));
    let flood = wire(&[HEADER; 1000]);
    let mut listener = Listener::new();
    assert_eq!(listener.receive(&mut flood.clone(), only_a), Err(NegotiateError::TooManyProposals));
    let owed = listener.take_reply().unwrap();
    assert_eq!(owed.len(), (MAX_PROPOSALS + 1) * WIRE_HEADER.len());
}

/// Runs both sides against each other, bytes cut as told, and gives what each ended with.
fn run(
    candidates: &[ProtocolId],
    supported: &[ProtocolId],
    data: &[u8],
    cuts: &[usize],
) -> (Result<ProtocolId, NegotiateError>, Option<(ProtocolId, Bytes)>) {
    let (mut dialer, first) = Dialer::new(candidates);
    let mut listener = Listener::new();
    let mut to_listener = BytesMut::from(first.as_ref());
    if dialer.is_lazy() {
        to_listener.extend_from_slice(data);
    }
    let mut to_dialer = BytesMut::new();
    let mut selected: Option<(ProtocolId, BytesMut)> = None;
    let mut cuts = cuts.iter().cycle();
    for _ in 0..10_000 {
        let take = (*cuts.next().unwrap()).min(to_listener.len());
        let mut part = to_listener.split_to(take).freeze();
        if let Some((_, got)) = &mut selected {
            got.extend_from_slice(&part);
        } else {
            let lookup = |name: &str| supported.iter().find(|id| id.as_str() == name).cloned();
            match listener.receive(&mut part, lookup) {
                Ok(ListenerStep::NeedMore { reply }) => {
                    to_dialer.extend_from_slice(&reply.unwrap_or_default());
                }
                Ok(ListenerStep::Selected { value, name, reply }) => {
                    assert_eq!(value, name);
                    to_dialer.extend_from_slice(&reply);
                    selected = Some((name, BytesMut::from(part)));
                }
                Err(error) => {
                    assert_eq!(error, NegotiateError::Refused);
                    to_dialer.extend_from_slice(&listener.take_reply().unwrap_or_default());
                }
            }
        }
        let take = (*cuts.next().unwrap()).min(to_dialer.len());
        let mut part = to_dialer.split_to(take).freeze();
        loop {
            match dialer.receive(&mut part) {
                Ok(DialerStep::NeedMore) => break,
                Ok(DialerStep::Send(bytes)) => to_listener.extend_from_slice(&bytes),
                Ok(DialerStep::Done(name)) => {
                    if to_listener.is_empty() {
                        let selected = selected.map(|(name, got)| (name, got.freeze()));
                        return (Ok(name), selected);
                    }
                    break;
                }
                Err(error) => {
                    let selected = selected.map(|(name, got)| (name, got.freeze()));
                    return (Err(error), selected);
                }
            }
        }
    }
    panic!("no end");
}

#[test]
fn a_lazy_dialers_data_reaches_a_listener_that_supports_it() {
    let (dialled, selected) = run(&[A], &[B, A], b"first data", &[3]);
    assert_eq!(dialled, Ok(A));
    assert_eq!(selected, Some((A, Bytes::from_static(b"first data"))));
    let (dialled, selected) = run(&[A], &[B], &[0xff; 20], &[1000]);
    assert_eq!(dialled, Err(NegotiateError::Unsupported));
    assert_eq!(selected, None);
}

proptest! {
    #[test]
    fn two_sides_agree_on_the_first_common_protocol(
        candidates in prop::sample::subsequence(vec![A, B, C], 1..=3).prop_shuffle(),
        supported in prop::sample::subsequence(vec![A, B, C], 0..=3),
        cuts in prop::collection::vec(1..60usize, 1..10),
    ) {
        let common = candidates.iter().find(|id| supported.contains(id)).cloned();
        let (dialled, selected) = run(&candidates, &supported, b"", &cuts);
        prop_assert_eq!(dialled.ok(), common.clone());
        prop_assert_eq!(selected.map(|(name, _)| name), common);
    }

    #[test]
    fn noise_never_panics_nor_exceeds_the_bound(
        header: bool,
        lines in prop::collection::vec("(/a/1|/[a-c]|na|ls|select:1|\\PC{0,20})", 0..6),
        noise in prop::collection::vec(any::<u8>(), 0..3000),
        cuts in prop::collection::vec(1..1500usize, 1..10),
    ) {
        let mut all = BytesMut::new();
        if header {
            append_line(HEADER, &mut all);
        }
        for line in &lines {
            append_line(line, &mut all);
        }
        all.extend_from_slice(&noise);
        let mut all = all.freeze();
        let mut listener = Listener::new();
        let (mut dialer, _) = Dialer::new(&[A, B, C]);
        let (mut selected, mut listening, mut dialling) = (false, true, true);
        for cut in cuts.iter().cycle() {
            if all.is_empty() {
                break;
            }
            let part = all.split_to((*cut).min(all.len()));
            let mut input = part.clone();
            while dialling {
                match dialer.receive(&mut input) {
                    Ok(DialerStep::Send(_)) => {}
                    Ok(DialerStep::NeedMore) => {
                        prop_assert!(input.is_empty());
                        break;
                    }
                    Ok(DialerStep::Done(_)) | Err(_) => dialling = false,
                }
            }
            prop_assert!(dialer.buffered() <= MAX_LINE + 2);
            let mut input = part;
            if listening && !selected {
                match listener.receive(&mut input, only_a) {
                    Ok(ListenerStep::NeedMore { .. }) => prop_assert!(input.is_empty()),
                    Ok(ListenerStep::Selected { .. }) => selected = true,
                    Err(_) => listening = false,
                }
            }
            prop_assert!(listener.buffered() <= MAX_LINE + 2);
        }
    }
}
