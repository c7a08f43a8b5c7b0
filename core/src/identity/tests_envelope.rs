//! Envelopes and records. The golden bytes were put together field by field and signed with OpenSSL, from the Ed25519 key
//! of libp2p specs `peer-ids/peer-ids.md`.

use multiaddr::Multiaddr;
use proptest::prelude::*;

use super::{
    EnvelopeError, KeyError, Keypair, MAX_ENVELOPE_BYTES, MAX_RECORD_ADDRESSES, MAX_RECORD_BYTES, PeerRecord,
    RecordError, SignedEnvelope, tests::hex,
};

const SEED: &str = "7e0830617c4a7de83925dfb2694556b12936c477a0e1feb2e148ec9da60fee7d";
const DEPLOYED: &str = concat!(
    "0a24080112201ed1e8fae2c4a144b8be8fd4b47bf3d3b34b871c3cacf6010f0e42d474fce27e120203011a4d0a2600240801",
    "12201ed1e8fae2c4a144b8be8fd4b47bf3d3b34b871c3cacf6010f0e42d474fce27e10959a97ece39fe7cb171a0a0a08047f",
    "000001060fa11a0d0a0b04c633640791020fa1cd032a40422b649bcd6be0a7d8b44c903ce835764d87b0d8be98f6e11c1f71",
    "74f439c538905d39b89f3b013fa8f9866114293f35784be3a0b28fbb04aea761d3d362020f",
);
const LEGACY: &str = concat!(
    "0a24080112201ed1e8fae2c4a144b8be8fd4b47bf3d3b34b871c3cacf6010f0e42d474fce27e121c2f6c69627032702f726f",
    "7574696e672d73746174652d7265636f72641a4d0a260024080112201ed1e8fae2c4a144b8be8fd4b47bf3d3b34b871c3cac",
    "f6010f0e42d474fce27e10959a97ece39fe7cb171a0a0a08047f000001060fa11a0d0a0b04c633640791020fa1cd032a40c8",
    "4174e892f1e56f197503f6e9fe07a4e368cda53f0773d967d7fd62b66dcb22b25678040cf5afdc5284b7d1b607ab1fe42925",
    "b8bf0389725b485921d216fa0f",
);

fn keypair() -> Keypair {
    Keypair::from_seed(hex(SEED).try_into().unwrap())
}

fn record() -> PeerRecord {
    PeerRecord {
        peer_id: keypair().peer_id(),
        seq: 1_700_000_000_123_456_789,
        addresses: vec![
            "/ip4/127.0.0.1/tcp/4001".parse().unwrap(),
            "/ip4/198.51.100.7/udp/4001/quic-v1".parse().unwrap(),
        ],
    }
}

/// A record payload from its parts, however wrong.
fn payload(peer_id: &[u8], addresses: &[&[u8]]) -> Vec<u8> {
    let field = |number: u32, bytes: &[u8]| {
        let mut out = Vec::new();
        prost::encoding::encode_key(number, prost::encoding::WireType::LengthDelimited, &mut out);
        prost::encoding::encode_varint(bytes.len() as u64, &mut out);
        out.extend_from_slice(bytes);
        out
    };
    let mut out = field(1, peer_id);
    for address in addresses {
        out.extend(field(3, &field(1, address)));
    }
    out
}

fn sealed(payload: Vec<u8>) -> SignedEnvelope {
    SignedEnvelope::seal(&keypair(), "libp2p-peer-record", &[0x03, 0x01], payload)
}

#[test]
fn a_record_is_sealed_in_the_deployed_spelling_byte_for_byte() {
    let envelope = record().seal(&keypair()).unwrap();
    assert_eq!(envelope.encode(), hex(DEPLOYED));
}

#[test]
fn records_are_opened_in_the_deployed_and_the_legacy_spelling() {
    for bytes in [DEPLOYED, LEGACY] {
        let envelope = SignedEnvelope::decode(&hex(bytes)).unwrap();
        assert_eq!(PeerRecord::open(&envelope), Ok(record()));
        assert_eq!(envelope.encode(), hex(bytes));
    }
}

#[test]
fn the_two_spellings_do_not_mix() {
    let mut envelope = SignedEnvelope::decode(&hex(LEGACY)).unwrap();
    envelope.payload_type = vec![0x03, 0x01];
    assert_eq!(PeerRecord::open(&envelope), Err(EnvelopeError::Signature.into()));
    envelope.payload_type = vec![0x03, 0x02];
    assert_eq!(PeerRecord::open(&envelope), Err(RecordError::WrongType));
}

#[test]
fn an_envelope_is_valid_only_in_its_own_domain_and_unchanged() {
    let envelope = SignedEnvelope::seal(&keypair(), "one", b"type", b"content".to_vec());
    assert_eq!(envelope.verify("one"), Ok(keypair().peer_id()));
    assert_eq!(envelope.verify("two"), Err(EnvelopeError::Signature));
    let changes: [fn(&mut SignedEnvelope); 4] = [
        |envelope| envelope.payload.push(0),
        |envelope| envelope.payload_type.clear(),
        |envelope| envelope.signature[0] ^= 1,
        |envelope| envelope.public_key = Keypair::from_seed([9; 32]).public(),
    ];
    for change in changes {
        let mut changed = envelope.clone();
        change(&mut changed);
        assert_eq!(changed.verify("one"), Err(EnvelopeError::Signature));
    }
    // The same bytes with the border between type and content moved.
    let mut shifted = envelope;
    shifted.payload_type = b"typ".to_vec();
    shifted.payload = b"econtent".to_vec();
    assert_eq!(shifted.verify("one"), Err(EnvelopeError::Signature));
}

#[test]
fn envelopes_that_are_too_long_malformed_or_without_a_key_are_refused() {
    let long = vec![0; MAX_ENVELOPE_BYTES + 1];
    assert_eq!(SignedEnvelope::decode(&long), Err(EnvelopeError::TooLong(long.len())));
    assert_eq!(SignedEnvelope::decode(&[0x0a]), Err(EnvelopeError::Malformed));
    assert_eq!(SignedEnvelope::decode(&[]), Err(KeyError::NotCanonical.into()));
    let whole = hex(DEPLOYED);
    assert!((0..whole.len()).all(|len| {
        SignedEnvelope::decode(&whole[..len])
            .map_err(RecordError::from)
            .and_then(|envelope| PeerRecord::open(&envelope))
            .is_err()
    }));
}

#[test]
fn a_record_about_another_peer_is_neither_sealed_nor_opened() {
    let other = Keypair::from_seed([9; 32]).peer_id();
    let wrong = RecordError::WrongSigner { record: other, signer: keypair().peer_id() };
    let about_other = PeerRecord { peer_id: other, ..record() };
    assert_eq!(about_other.seal(&keypair()), Err(wrong.clone()));
    assert_eq!(PeerRecord::open(&sealed(payload(other.as_bytes(), &[]))), Err(wrong));
    assert_eq!(PeerRecord::open(&sealed(payload(b"nobody", &[]))), Err(RecordError::Malformed));
    assert_eq!(PeerRecord::open(&sealed(vec![])), Err(RecordError::Malformed));
}

#[test]
fn unreadable_addresses_are_left_out_one_by_one() {
    let good: Multiaddr = "/ip4/192.0.2.1/tcp/1".parse().unwrap();
    let id = keypair().peer_id();
    let payload = payload(id.as_bytes(), &[b"", b"\xff\xff\xff", good.as_ref(), b"\x04\x7f"]);
    assert_eq!(PeerRecord::open(&sealed(payload)).unwrap().addresses, [good]);
}

#[test]
fn the_number_of_addresses_and_the_length_of_a_record_are_capped() {
    let address: Multiaddr = "/ip4/192.0.2.1/tcp/1".parse().unwrap();
    let id = keypair().peer_id();
    let many = vec![address.as_ref(); MAX_RECORD_ADDRESSES + 10];
    let opened = PeerRecord::open(&sealed(payload(id.as_bytes(), &many))).unwrap();
    assert_eq!(opened.addresses.len(), MAX_RECORD_ADDRESSES);
    let sent = PeerRecord { addresses: vec![address; MAX_RECORD_ADDRESSES + 10], ..record() };
    let sent = PeerRecord::open(&sent.seal(&keypair()).unwrap()).unwrap();
    assert_eq!(sent.addresses.len(), MAX_RECORD_ADDRESSES);

    let long = payload(id.as_bytes(), &[&[0; MAX_RECORD_BYTES]]);
    let len = long.len();
    assert_eq!(PeerRecord::open(&sealed(long)), Err(RecordError::TooLong(len)));
    let name = "a".repeat(250);
    let address: Multiaddr = format!("/dns4/{name}/tcp/1").parse().unwrap();
    let fat = PeerRecord { addresses: vec![address; MAX_RECORD_ADDRESSES], ..record() };
    assert!(matches!(fat.seal(&keypair()), Err(RecordError::TooLong(_))));
}

proptest! {
    #[test]
    fn any_envelope_round_trips(seed: [u8; 32], domain: String, payload_type: Vec<u8>, payload: Vec<u8>) {
        let keypair = Keypair::from_seed(seed);
        let envelope = SignedEnvelope::seal(&keypair, &domain, &payload_type, payload);
        let read = SignedEnvelope::decode(&envelope.encode()).unwrap();
        prop_assert_eq!(&read, &envelope);
        prop_assert_eq!(read.verify(&domain), Ok(keypair.peer_id()));
    }

    #[test]
    fn any_record_round_trips(seed: [u8; 32], seq: u64, ports in prop::collection::vec(any::<u16>(), 0..20)) {
        let keypair = Keypair::from_seed(seed);
        let addresses = ports.iter().map(|port| format!("/ip6/::1/udp/{port}/quic-v1").parse().unwrap()).collect();
        let record = PeerRecord { peer_id: keypair.peer_id(), seq, addresses };
        prop_assert_eq!(PeerRecord::open(&record.seal(&keypair).unwrap()), Ok(record));
    }

    #[test]
    fn arbitrary_bytes_never_panic_as_an_envelope_or_a_record(bytes: Vec<u8>) {
        let _ = SignedEnvelope::decode(&bytes);
        let _ = PeerRecord::open(&sealed(bytes));
    }

    #[test]
    fn a_damaged_envelope_never_opens(at: prop::sample::Index, flip in 1_u8..) {
        let mut bytes = hex(DEPLOYED);
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        let opened = SignedEnvelope::decode(&bytes).map_err(RecordError::from).and_then(|read| PeerRecord::open(&read));
        prop_assert!(opened.is_err());
    }
}
