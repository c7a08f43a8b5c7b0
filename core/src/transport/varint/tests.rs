use proptest::prelude::*;

use super::*;

#[test]
fn known_numbers_have_their_known_bytes() {
    for (value, bytes) in [
        (0, &[0x00][..]),
        (1, &[0x01]),
        (127, &[0x7f]),
        (128, &[0x80, 0x01]),
        (255, &[0xff, 0x01]),
        (300, &[0xac, 0x02]),
        (16384, &[0x80, 0x80, 0x01]),
        (MAX, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]),
    ] {
        assert_eq!(encode(value).as_slice(), bytes);
        assert_eq!(decode(bytes), Ok(Some((value, bytes.len()))));
    }
}

#[test]
fn longer_encodings_of_a_number_are_refused() {
    for bytes in [&[0x83, 0x00][..], &[0x80, 0x00], &[0xff, 0x80, 0x00]] {
        assert_eq!(decode(bytes), Err(VarintError::NotMinimal));
    }
}

#[test]
fn ten_bytes_are_too_long_and_noticed_at_the_ninth() {
    assert_eq!(decode(&[0x80; 8]), Ok(None));
    assert_eq!(decode(&[0x80; 9]), Err(VarintError::TooLong));
    assert_eq!(encode(MAX + 1).as_slice().len(), 10);
    assert_eq!(decode(encode(u64::MAX).as_slice()), Err(VarintError::TooLong));
}

proptest! {
    #[test]
    fn every_number_survives_the_round_trip(shift in 1..64u32, noise: u64, tail: Vec<u8>) {
        let value = noise >> shift;
        let encoded = encode(value);
        prop_assert_eq!(encoded.as_slice().len(), encoded_len(value));
        for cut in 0..encoded.as_slice().len() {
            prop_assert_eq!(decode(&encoded.as_slice()[..cut]), Ok(None));
        }
        let mut bytes = encoded.as_slice().to_vec();
        bytes.extend(tail);
        prop_assert_eq!(decode(&bytes), Ok(Some((value, encoded_len(value)))));
    }

    #[test]
    fn what_decodes_was_encoded_the_only_way(bytes in prop::collection::vec(any::<u8>(), 0..12)) {
        if let Ok(Some((value, used))) = decode(&bytes) {
            let encoded = encode(value);
            prop_assert_eq!(encoded.as_slice(), &bytes[..used]);
        }
    }
}
