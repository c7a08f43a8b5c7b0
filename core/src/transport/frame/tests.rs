use proptest::prelude::*;

use super::*;

fn drain(decoder: &mut FrameDecoder) -> Result<Vec<Bytes>, FrameError> {
    let mut frames = Vec::new();
    while let Some(frame) = decoder.next()? {
        frames.push(frame);
    }
    Ok(frames)
}

#[test]
fn a_frame_is_its_length_and_its_bytes() {
    assert_eq!(encode_frame(b"").as_ref(), [0]);
    assert_eq!(encode_frame(b"na\n").as_ref(), b"\x03na\n");
    let long = encode_frame(&[7; 300]);
    assert_eq!(&long[..2], [0xac, 0x02]);
    assert_eq!(long.len(), 302);
    let mut out = BytesMut::from(&b"x"[..]);
    append_frame(b"ab", &mut out);
    assert_eq!(out.as_ref(), b"x\x02ab");
}

#[test]
fn a_frame_within_one_chunk_is_a_slice_of_it() {
    let chunk = Bytes::from_static(b"\x03abc\x00\x02de");
    let place = chunk.as_ptr();
    let mut decoder = FrameDecoder::new(10);
    decoder.push(chunk);
    let frames = drain(&mut decoder).unwrap();
    assert_eq!(frames, [&b"abc"[..], b"", b"de"]);
    assert_eq!(frames[0].as_ptr(), place.wrapping_add(1));
    assert!(decoder.is_empty());
    assert_eq!(decoder.finish(), Ok(()));
}

#[test]
fn every_split_point_gives_the_same_frames() {
    let mut wire = BytesMut::new();
    append_frame(&[1; 200], &mut wire);
    append_frame(b"", &mut wire);
    append_frame(b"end", &mut wire);
    let wire = wire.freeze();
    for cut in 0..=wire.len() {
        let mut decoder = FrameDecoder::new(200);
        decoder.push(wire.slice(..cut));
        let mut frames = drain(&mut decoder).unwrap();
        decoder.push(wire.slice(cut..));
        frames.extend(drain(&mut decoder).unwrap());
        assert_eq!(frames, [&[1; 200][..], b"", b"end"]);
        assert_eq!(decoder.finish(), Ok(()));
    }
}

#[test]
fn a_push_without_a_drain_loses_nothing() {
    let mut decoder = FrameDecoder::new(10);
    decoder.push(Bytes::from_static(b"\x02a"));
    decoder.push(Bytes::from_static(b"b\x01"));
    decoder.push(Bytes::from_static(b"c"));
    assert_eq!(drain(&mut decoder).unwrap(), [&b"ab"[..], b"c"]);
}

#[test]
fn the_limit_is_exact_and_checked_before_the_body() {
    let mut decoder = FrameDecoder::new(1024);
    decoder.push(Bytes::from_static(&[0x80, 0x08]));
    assert_eq!(decoder.next(), Ok(None));
    let mut decoder = FrameDecoder::new(1024);
    decoder.push(Bytes::from_static(&[0x81, 0x08]));
    let error = FrameError::TooLong { max: 1024 };
    assert_eq!(decoder.next(), Err(error));
    assert_eq!(decoder.buffered(), 0);
    // It stays failed.
    decoder.push(Bytes::from_static(b"\x01a"));
    assert_eq!(decoder.next(), Err(error));
    assert_eq!(decoder.finish(), Err(error));
    assert_eq!(decoder.buffered(), 0);
}

#[test]
fn a_prefix_longer_than_the_limits_own_is_refused_at_once() {
    let mut decoder = FrameDecoder::new(1024);
    decoder.push(Bytes::from_static(&[0x80, 0x80]));
    assert_eq!(decoder.next(), Err(FrameError::TooLong { max: 1024 }));
    let mut decoder = FrameDecoder::new(usize::MAX);
    decoder.push(Bytes::from_static(&[0xff; 9]));
    assert_eq!(decoder.next(), Err(FrameError::Prefix(VarintError::TooLong)));
    let mut decoder = FrameDecoder::new(1024);
    decoder.push(Bytes::from_static(&[0x83, 0x00]));
    assert_eq!(decoder.next(), Err(FrameError::Prefix(VarintError::NotMinimal)));
}

#[test]
fn a_declared_length_reserves_no_memory() {
    let mut decoder = FrameDecoder::new(1 << 30);
    let mut wire = BytesMut::from(varint::encode(1 << 30).as_slice());
    wire.extend_from_slice(b"abc");
    decoder.push(wire.freeze());
    assert_eq!(decoder.next(), Ok(None));
    assert_eq!(decoder.buffered(), 3);
    let State::Body { partial, .. } = &decoder.state else {
        panic!("not in the body");
    };
    assert!(partial.capacity() <= 64);
}

#[test]
fn an_end_within_a_frame_is_noticed() {
    for part in [&b"\x80"[..], b"\x02", b"\x02a"] {
        let mut decoder = FrameDecoder::new(500);
        decoder.push(Bytes::from_static(part));
        assert_eq!(decoder.next(), Ok(None));
        assert!(!decoder.is_empty());
        assert_eq!(decoder.finish(), Err(FrameError::Truncated));
    }
}

#[test]
fn what_follows_a_frame_can_be_taken_back() {
    let mut decoder = FrameDecoder::new(500);
    decoder.push(Bytes::from_static(b"\x02abraw bytes"));
    assert_eq!(decoder.next().unwrap().unwrap(), "ab");
    assert_eq!(decoder.take_unread(), "raw bytes");
    assert!(decoder.is_empty());
}

proptest! {
    #[test]
    fn frames_survive_any_chunking(
        frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..8),
        cuts in prop::collection::vec(1..90usize, 1..20),
    ) {
        let mut wire = BytesMut::new();
        for frame in &frames {
            append_frame(frame, &mut wire);
        }
        let mut wire = wire.freeze();
        let mut decoder = FrameDecoder::new(300);
        let mut got = Vec::new();
        for cut in cuts.iter().cycle() {
            if wire.is_empty() {
                break;
            }
            decoder.push(wire.split_to((*cut).min(wire.len())));
            got.extend(drain(&mut decoder).unwrap());
            prop_assert!(decoder.buffered() <= decoder.bound());
        }
        prop_assert_eq!(got, frames);
        prop_assert!(decoder.is_empty());
    }

    #[test]
    fn noise_never_panics_nor_exceeds_the_bound(
        chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 0..30),
        max in 0..100usize,
    ) {
        let mut decoder = FrameDecoder::new(max);
        for chunk in chunks {
            decoder.push(chunk.into());
            if let Ok(frames) = drain(&mut decoder) {
                prop_assert!(frames.iter().all(|frame| frame.len() <= max));
            }
            prop_assert!(decoder.buffered() <= decoder.bound());
        }
        let _ = decoder.finish();
    }
}
