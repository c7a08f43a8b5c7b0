//! Keys and peer ids, against the vectors of libp2p specs `peer-ids/peer-ids.md`. The signatures over them were made with
//! OpenSSL from the private keys of the same vectors.

use der::{
    Encode, Sequence,
    asn1::{AnyRef, BitStringRef, ObjectIdentifier, UintRef},
};
use multiaddr::{Multiaddr, Protocol};
use proptest::prelude::*;
use x509_cert::spki::{AlgorithmIdentifierRef, SubjectPublicKeyInfoRef};

use super::{KeyError, KeyKind, Keypair, MAX_PUBLIC_KEY_BYTES, PeerId, PeerIdError, PublicKey};

pub(super) fn hex(text: &str) -> Vec<u8> {
    assert!(text.len().is_multiple_of(2));
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

const SEED: &str = "7e0830617c4a7de83925dfb2694556b12936c477a0e1feb2e148ec9da60fee7d";
const HALF: &str = "1ed1e8fae2c4a144b8be8fd4b47bf3d3b34b871c3cacf6010f0e42d474fce27e";
const MESSAGE: &[u8] = b"peerwork test vector";

/// One key of the specification: its bytes, a signature over [`MESSAGE`] and its names in base58, base32, base58 CID and
/// base36 CID.
struct Vector {
    kind: KeyKind,
    key: &'static str,
    signature: &'static str,
    names: [&'static str; 4],
}

const ED25519: Vector = Vector {
    kind: KeyKind::Ed25519,
    key: "080112201ed1e8fae2c4a144b8be8fd4b47bf3d3b34b871c3cacf6010f0e42d474fce27e",
    signature: concat!(
        "151a6f0cfeb8c18ef95da4564e61b0e8c3f696f3fb053160f17b7c56c7c5fab2",
        "e7e85845caa44d53c38a031d7e9abf67a44c67ef3db06b350db83d36a82bf20a",
    ),
    names: [
        "12D3KooWBtg3aaRMjxwedh83aGiUkwSxDwUZkzuJcfaqUmo7R3pq",
        "bafzaajaiaejcahwr5d5ofrfbis4l5d6uwr57hu5tjodrypfm6yaq6dsc2r2pzyt6",
        "z5AanNVJCxnGuh8TJu4nye3dE3NbxAd8FB9cr46uVagyFPuibMxok2R",
        "k51qzi5uqu5dgy8qsq67hbz73jqkw87l3fgf4a91qb0d9b5173tir7n4vxk1oe",
    ],
};
const SECP256K1: Vector = Vector {
    kind: KeyKind::Secp256k1,
    key: "08021221037777e994e452c21604f91de093ce415f5432f701dd8cd1a7a6fea0e630bfca99",
    signature: concat!(
        "304402203c4f74cbee190a06ecf6d4b3a7d871aaca5f19ed868a5dd3eb23fc042afb3b41",
        "022010de8ecc4a5afd600c6187450df518586b1182866f0d8ca63ccc13f7715cb053",
    ),
    names: [
        "16Uiu2HAmLhLvBoYaoZfaMUKuibM6ac163GwKY74c5kiSLg5KvLpY",
        "bafzaajiiaijcca3xo7uzjzcsyilaj6i54cj44qk7kqzpoao5rti2pjx6udtdbp6kte",
        "zKPJ7QRXxW7mVC8S7Hqn6dy4Hwhu8ik2crFP9Lxo2guGvzV9Ld5L5mxc",
        "kzwfwjn5ji4put13uvtwtc7azzwk42cq2o8ctfnxa6q8n90e72o3pjqbrp3lpcp",
    ],
};
/// [`SECP256K1`]'s signature with the other of the two possible `s`.
const SECP256K1_HIGH_S: &str = "304502203c4f74cbee190a06ecf6d4b3a7d871aaca5f19ed868a5dd3eb23fc042afb3b41022100ef217133b5a5029ff39e78baf20ae7a64f9d5a60403b139583064a955ed990ee";
const ECDSA: Vector = Vector {
    kind: KeyKind::Ecdsa,
    key: concat!(
        "0803125b3059301306072a8648ce3d020106082a8648ce3d03010703420004de3d300fa36ae0e8f5d530899d83abab44",
        "abf3161f162a4bc901d8e6ecda020e8b6d5f8da30525e71d6851510c098e5c47c646a597fb4dcec034e9f77c409e62",
    ),
    signature: concat!(
        "304402202f123d931454314ddcc8f450bbba11a557330a2c4f9b43f539757299f9a53320",
        "02201763093ace3a175f35d9efa2bc7f911cc4030c8680831212e0ba96711f5e5b4c",
    ),
    names: [
        "QmVMT29id3TUASyfZZ6k9hmNyc2nYabCo4uMSpDw4zrgDk",
        "bafzbeidigywdclqvl5hxfefwp5onbffcfife7pza57mmfb4tiqmtkdjw64",
        "zdvgq8RnCMNDyFBr66f4LpAYvtutQLbXAPDmeYFQDYK5QzDsU",
        "k2k4r8m0iploq6r25jp915xawtnx0qdr0je62jws2kki6votbj5191x3",
    ],
};
const RSA: Vector = Vector {
    kind: KeyKind::Rsa,
    key: concat!(
        "080012a60430820222300d06092a864886f70d01010105000382020f003082020a0282020100e1beab071d08200bde24eef0",
        "0d049449b07770ff9910257b2d7d5dda242ce8f0e2f12e1af4b32d9efd2c090f66b0f29986dbb645dae9880089704a94e506",
        "6d594162ae6ee8892e6ec70701db0a6c445c04778eb3de1293aa1a23c3825b85c6620a2bc3f82f9b0c309bc0ab3aeb187328",
        "2bebd3da03c33e76c21e9beb172fd44c9e43be32e2c99827033cf8d0f0c606f4579326c930eb4e854395ad941256542c7939",
        "02185153c474bed109d6ff5141ebf9cd256cf58893a37f83729f97e7cb435ec679d2e33901d27bb35aa0d7e20561da08885e",
        "f0abbf8e2fb48d6a5487047a9ecb1ad41fa7ed84f6e3e8ecd5d98b3982d2a901b4454991766da295ab78822add5612a2df83",
        "bcee814cf50973e80d7ef38111b1bd87da2ae92438a2c8cbcc70b31ee319939a3b9c761dbc13b5c086d6b64bf7ae7dacc146",
        "22375d92a8ff9af7eb962162bbddebf90acb32adb5e4e4029f1c96019949ecfbfeffd7ac1e3fbcc6b6168c34be3d5a2e5999",
        "fcbb39bba7adbca78eab09b9bc39f7fa4b93411f4cc175e70c0a083e96bfaefb04a9580b4753c1738a6a760ae1afd851a1a4",
        "bdad231cf56e9284d832483df215a46c1c21bdf0c6cfe951c18f1ee4078c79c13d63edb6e14feaeffabc90ad317e4875fe64",
        "8101b0864097e998f0ca3025ef9638cd2b0caecd3770ab54a1d9c6ca959b0f5dcbc90caeefc4135baca6fd475224269bbe1b",
        "0203010001",
    ),
    signature: concat!(
        "4f3f567d49b1e70ffc36a207121a2313e21ebba097b4aeb30ab1631ac8d13392c61a5035fd4c0f3bbf4dd88677b43aef6d1d",
        "6395325ac2afb7406e3dcf2075a457d2677153ede418e3fcd7f91a0ce3f01e57f66696e4d378ba5756fedc68ace7883ae8c5",
        "c4a84890053a1aba6379364d5c932dde023d246d54d5c9fd9d0fc1ee3b38c0d0515a6d5c63ef59e77b597aef67870bada519",
        "c6b999bf7ec887e4cbd9815ded83b9bdee98a64d45a587ce93008dfd5ab5db0cf2894c68a2434eddf9af466560cecd2044e4",
        "264e34d11de845a9b5254557d7c6ae89df6520d64d37507ac43a5dc11cdadbaca3a4456b1c491c0da69b8f98bfa216fb5354",
        "e74f167a1f64da78cf2ee2f9961001cfc3484a64c06d18357279a0200c997b1615ba069056c18ac78e5886fc04b2386819ee",
        "c3d9c84e92899fe53e6a4caba18bdffc9773258a87d6d6a01a86ed8597214af48ae8cccb78785ca82a012aa795b235cfcbe4",
        "a3d84eedd2af1596c82933213fa4fef2de2bd60311af6454dda2a94178755aefa2cd9717fff107c79294dbfc80ebe180a429",
        "e26870a8ec522cb9dd1c7fd06b9a840e1a4b9fe1302726ce1e5b8c0e124651d64a4e35c6fb4bbbdbe6161dde37b947bb711d",
        "f8acbe90f36ccb0710a330a38927e55dfa955602a117b01fb3baa5dad356d07bfc72a438afb05683192fc3fd2238cc50aa7e",
        "f3861fe78c540d61ae4bb3b7",
    ),
    names: [
        "QmaeANgBs1DTSxWSrPPtobgQuxW8XTfsS4ydbK4rCHzqxG",
        "bafzbeifwzcumbiyql7bhv7fe7mixg6i7aohegq75k234m63bnw6dbicmzu",
        "zdvgqDiVYsqTw1B8bdSMB7KCpowpkowW3TtQecXYiPECi8Pbz",
        "k2k4r8nz0pc9sm08wgacijx1ic8vxy9e2770otjszhz1nodfs0brtvpp",
    ],
};
const VECTORS: [&Vector; 4] = [&ED25519, &SECP256K1, &ECDSA, &RSA];
/// [`RSA`]'s hash in a CIDv1 with the codec of a dag-pb node.
const DAG_PB: &str = "bafybeifwzcumbiyql7bhv7fe7mixg6i7aohegq75k234m63bnw6dbicmzu";

fn key(vector: &Vector) -> PublicKey {
    PublicKey::decode_protobuf(&hex(vector.key)).unwrap()
}

#[test]
fn every_key_of_the_specification_round_trips_byte_for_byte() {
    for vector in VECTORS {
        let key = key(vector);
        assert_eq!(key.kind(), vector.kind);
        assert_eq!(key.encode_protobuf(), hex(vector.key), "{}", vector.kind);
    }
    assert_eq!(key(&RSA).encode_protobuf()[..2], [0x08, 0x00]);
}

#[test]
fn every_kind_of_key_verifies_its_own_signature_and_nothing_else() {
    for vector in VECTORS {
        let (key, signature) = (key(vector), hex(vector.signature));
        assert!(key.verify(MESSAGE, &signature), "{}", vector.kind);
        assert!(!key.verify(b"another message", &signature), "{}", vector.kind);
        assert!(!key.verify(MESSAGE, &[]), "{}", vector.kind);
        assert!(!key.verify(MESSAGE, &signature[1..]), "{}", vector.kind);
        assert!(!key.verify(MESSAGE, &[signature.as_slice(), &[0]].concat()), "{}", vector.kind);
        assert!(!key.verify(MESSAGE, &vec![0x30; 64 * 1024]), "{}", vector.kind);
        for other in VECTORS.iter().filter(|other| other.kind != vector.kind) {
            assert!(!key.verify(MESSAGE, &hex(other.signature)), "{}", vector.kind);
        }
    }
}

#[test]
fn a_secp256k1_signature_is_accepted_with_either_s() {
    assert!(key(&SECP256K1).verify(MESSAGE, &hex(SECP256K1_HIGH_S)));
}

#[test]
fn peer_ids_read_and_write_as_other_implementations_spell_them() {
    for vector in VECTORS {
        let id = key(vector).peer_id();
        assert_eq!(id.to_string(), vector.names[0]);
        for name in vector.names {
            assert_eq!(name.parse(), Ok(id), "{name}");
        }
        assert_eq!(PeerId::from_bytes(id.as_bytes()), Ok(id));
    }
    // The examples in the specification's own text.
    let cid: PeerId = "bafzbeie5745rpv2m6tjyuugywy4d5ewrqgqqhfnf445he3omzpjbx5xqxe".parse().unwrap();
    assert_eq!(cid.to_string(), "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N");
    assert!("12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA".parse::<PeerId>().is_ok());
}

#[test]
fn short_keys_are_carried_by_their_ids_and_long_ones_are_not() {
    for vector in VECTORS {
        let key = key(vector);
        let carried = matches!(vector.kind, KeyKind::Ed25519 | KeyKind::Secp256k1);
        assert_eq!(key.peer_id().public_key(), carried.then_some(key));
    }
}

#[test]
fn text_that_is_no_peer_id_is_refused_for_the_right_reason() {
    let parse = |text: &str| text.parse::<PeerId>().unwrap_err();
    assert_eq!(parse(DAG_PB), PeerIdError::NotAKey);
    assert_eq!(parse(""), PeerIdError::Text);
    assert_eq!(parse("1O0Il"), PeerIdError::Text);
    assert_eq!(parse("Qm"), PeerIdError::Multihash);
    assert_eq!(parse("ünïcode"), PeerIdError::Text);
    assert_eq!(parse(&format!("{}1", ED25519.names[0])), PeerIdError::Multihash);
    assert_eq!(parse(&"1".repeat(1_000_000)), PeerIdError::TooLong(1_000_000));
}

#[test]
fn multihashes_of_other_lengths_and_codes_are_refused() {
    let refused = |bytes: &[u8]| assert_eq!(PeerId::from_bytes(bytes), Err(PeerIdError::Multihash), "{bytes:02x?}");
    let identity = |len: u8| [&[0, len][..], &vec![7; usize::from(len)]].concat();
    for len in 0..=42 {
        assert!(PeerId::from_bytes(&identity(len)).is_ok());
    }
    refused(&identity(43));
    refused(&[]);
    refused(&[0]);
    refused(&[0, 2, 1]);
    refused(&[0, 1, 1, 1]);
    // Two bytes for a length that fits one.
    refused(&[0, 0x81, 0x00, 1]);
    for len in [0_u8, 20, 31, 33, 64] {
        refused(&[&[0x12, len][..], &vec![7; usize::from(len)]].concat());
    }
    refused(&[&[0x12, 32][..], &[7; 31]].concat());
    // SHA-512 and the two-byte spelling of SHA-256.
    refused(&[&[0x13, 64][..], &[7; 64]].concat());
    refused(&[&[0x92, 0x00, 32][..], &[7; 32]].concat());
}

#[test]
fn peer_ids_go_into_addresses_and_come_back() {
    let mut ids: Vec<PeerId> = VECTORS.iter().map(|vector| key(vector).peer_id()).collect();
    ids.extend(
        (0..=42_u8).map(|len| PeerId::from_bytes(&[&[0, len][..], &vec![7; usize::from(len)]].concat()).unwrap()),
    );
    for id in ids {
        let address = Multiaddr::empty().with(Protocol::P2p(id.to_multiaddr_peer()));
        let Some(Protocol::P2p(peer)) = address.iter().last() else { panic!("no peer id in {address}") };
        assert_eq!(PeerId::from_multiaddr_peer(&peer), Ok(id));
    }
}

#[test]
fn peer_ids_order_as_their_bytes_do() {
    let ids: Vec<PeerId> = [&[0, 0][..], &[0, 1, 0], &[0, 2, 0, 0], &[0, 1, 9]]
        .into_iter()
        .map(|bytes| PeerId::from_bytes(bytes).unwrap())
        .collect();
    for a in &ids {
        for b in &ids {
            assert_eq!(a.cmp(b), a.as_bytes().cmp(b.as_bytes()));
        }
    }
}

#[test]
fn a_peer_id_shows_its_distinctive_end_when_debugged() {
    assert_eq!(format!("{:?}", key(&ED25519).peer_id()), "PeerId(…Umo7R3pq)");
}

#[test]
fn keys_in_any_but_the_canonical_form_are_refused() {
    let good = hex(ED25519.key);
    let refused = |bytes: &[u8]| assert_eq!(PublicKey::decode_protobuf(bytes), Err(KeyError::NotCanonical));
    refused(&[]);
    refused(&good[..good.len() - 1]);
    refused(&[&good[..], &[0]].concat());
    // An unknown field, fields in the other order, a missing type.
    refused(&[&good[..], &[0x18, 0x01]].concat());
    refused(&[&good[2..], &good[..2]].concat());
    refused(&good[2..]);
    // A type and a length that take more bytes than they need.
    refused(&[&[0x08, 0x81, 0x00][..], &good[2..]].concat());
    refused(&[&[0x08, 0x01, 0x12, 0xa0, 0x00][..], &good[4..]].concat());
    // A type twice.
    refused(&[&[0x08, 0x01][..], &good].concat());
    assert_eq!(PublicKey::decode_protobuf(&[0x08, 4, 0x12, 0]), Err(KeyError::UnknownKind(4)));
    let long = vec![0x08; MAX_PUBLIC_KEY_BYTES + 1];
    assert_eq!(PublicKey::decode_protobuf(&long), Err(KeyError::TooLong(long.len())));
}

#[test]
fn key_material_that_is_no_key_is_refused() {
    let message =
        |number: u8, data: &[u8]| [&[0x08, number, 0x12, u8::try_from(data.len()).unwrap()][..], data].concat();
    let refused = |kind: KeyKind, bytes: &[u8]| {
        assert_eq!(PublicKey::decode_protobuf(bytes), Err(KeyError::Invalid(kind)), "{bytes:02x?}");
    };
    // Wrong length, off the curve, and the neutral element, for which everyone can sign.
    let mut neutral = [0; 32];
    neutral[0] = 1;
    let mut off_curve = [0; 32];
    off_curve[0] = 2;
    refused(KeyKind::Ed25519, &message(1, &[9; 31]));
    refused(KeyKind::Ed25519, &message(1, &off_curve));
    refused(KeyKind::Ed25519, &message(1, &neutral));

    let secp = &hex(SECP256K1.key)[4..];
    let uncompressed = k256::ecdsa::VerifyingKey::from_sec1_bytes(secp).unwrap().to_sec1_point(false);
    refused(KeyKind::Secp256k1, &message(2, uncompressed.as_bytes()));
    refused(KeyKind::Secp256k1, &message(2, &[&[2][..], &[0xff; 32]].concat()));
    // The point without its sign, a form that the curve library reads and nobody may send.
    let compact = message(2, &[&[5][..], &secp[1..]].concat());
    assert_eq!(PublicKey::decode_protobuf(&compact), Err(KeyError::NotCanonical));

    let mut p256 = hex(ECDSA.key);
    *p256.last_mut().unwrap() ^= 1;
    refused(KeyKind::Ecdsa, &p256);
    refused(KeyKind::Ecdsa, &message(3, &hex(ECDSA.key)[5..]));
    refused(KeyKind::Ecdsa, &message(3, &[0x30; 91]));
}

#[derive(Sequence)]
struct RsaComponents<'a> {
    modulus: UintRef<'a>,
    exponent: UintRef<'a>,
}

fn rsa_message(modulus: &[u8], exponent: &[u8], parameters: Option<AnyRef<'_>>) -> Vec<u8> {
    let components =
        RsaComponents { modulus: UintRef::new(modulus).unwrap(), exponent: UintRef::new(exponent).unwrap() };
    let components = components.to_der().unwrap();
    let oid = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
    let spki = SubjectPublicKeyInfoRef {
        algorithm: AlgorithmIdentifierRef { oid, parameters },
        subject_public_key: BitStringRef::from_bytes(&components).unwrap(),
    }
    .to_der()
    .unwrap();
    let mut out = vec![0x08, 0x00, 0x12];
    prost::encoding::encode_varint(spki.len() as u64, &mut out);
    out.extend(spki);
    out
}

#[test]
fn rsa_keys_are_accepted_within_the_size_limits_and_only_there() {
    let decode = |bytes: usize, first: u8, exponent: &[u8]| {
        let mut modulus = vec![0xff; bytes];
        modulus[0] = first;
        PublicKey::decode_protobuf(&rsa_message(&modulus, exponent, Some(AnyRef::NULL)))
    };
    let f4 = &[1, 0, 1][..];
    assert!(decode(256, 0x80, f4).is_ok());
    assert_eq!(decode(256, 0x7f, f4), Err(KeyError::RsaSize { bits: 2047 }));
    let largest = decode(1024, 0xff, f4).unwrap();
    assert!(largest.encode_protobuf().len() <= MAX_PUBLIC_KEY_BYTES);
    assert_eq!(decode(1025, 0x01, f4), Err(KeyError::RsaSize { bits: 8193 }));
    assert!(matches!(decode(2048, 0xff, f4), Err(KeyError::TooLong(_))));
    let invalid = Err(KeyError::Invalid(KeyKind::Rsa));
    assert_eq!(decode(256, 0x80, &[1]), invalid);
    assert_eq!(decode(256, 0x80, &[1, 0, 0]), invalid);
    assert_eq!(decode(256, 0x80, &[1, 0, 0, 0, 1]), invalid);
}

#[test]
fn rsa_keys_with_an_even_modulus_or_other_parameters_are_refused() {
    let even = [&[0x80][..], &[0; 255]].concat();
    let exponent = [1, 0, 1];
    let decoded = PublicKey::decode_protobuf(&rsa_message(&even, &exponent, Some(AnyRef::NULL)));
    assert_eq!(decoded, Err(KeyError::Invalid(KeyKind::Rsa)));
    let odd = [0xff; 256];
    let decoded = PublicKey::decode_protobuf(&rsa_message(&odd, &exponent, None));
    assert_eq!(decoded, Err(KeyError::NotCanonical));
}

fn own() -> Keypair {
    Keypair::from_seed(hex(SEED).try_into().unwrap())
}

#[test]
fn our_key_pair_is_the_specifications_in_all_its_parts() {
    let keypair = own();
    assert_eq!(keypair.public(), key(&ED25519));
    assert_eq!(keypair.peer_id().to_string(), ED25519.names[0]);
    assert_eq!(keypair.sign(MESSAGE).to_vec(), hex(ED25519.signature));
    assert_eq!(keypair.encode_protobuf().to_vec(), hex(&format!("08011240{SEED}{HALF}")));
}

#[test]
fn private_keys_are_read_in_the_new_and_the_old_form() {
    for text in [format!("08011240{SEED}{HALF}"), format!("08011260{SEED}{HALF}{HALF}")] {
        let keypair = Keypair::decode_protobuf(&hex(&text)).unwrap();
        assert_eq!(keypair.public(), own().public());
        assert_eq!(keypair.encode_protobuf(), own().encode_protobuf());
    }
}

#[test]
fn a_private_key_whose_public_half_is_another_is_refused() {
    let other = "00".repeat(32);
    for text in [
        format!("08011240{SEED}{other}"),
        format!("08011260{SEED}{HALF}{other}"),
        format!("08011260{SEED}{other}{HALF}"),
    ] {
        assert_eq!(Keypair::decode_protobuf(&hex(&text)).unwrap_err(), KeyError::Mismatch);
    }
}

#[test]
fn private_keys_of_other_lengths_are_refused() {
    for text in ["08011200".to_owned(), format!("08011220{SEED}"), format!("08011250{SEED}{HALF}{}", "00".repeat(16))] {
        assert_eq!(Keypair::decode_protobuf(&hex(&text)).unwrap_err(), KeyError::Invalid(KeyKind::Ed25519));
    }
    assert_eq!(Keypair::decode_protobuf(&[0; 10_000]).unwrap_err(), KeyError::TooLong(10_000));
}

#[test]
fn private_keys_of_other_kinds_are_refused_with_a_way_out() {
    let secp = hex("0802122053dadf1d5a164d6b4acdb15e24aa4c5b1d3461bdbd42abedb0a4404d56ced8fb");
    let error = Keypair::decode_protobuf(&secp).unwrap_err();
    assert_eq!(error, KeyError::NotOurKind(KeyKind::Secp256k1));
    let text = error.to_string();
    assert!(text.contains("must be Ed25519") && text.contains("peerwork id --key FILE"), "{text}");
}

#[test]
fn a_key_pair_does_not_show_its_secret_when_debugged() {
    assert_eq!(format!("{:?}", own()), "Keypair(PeerId(…Umo7R3pq), secret withheld)");
}

proptest! {
    #[test]
    fn any_seed_gives_a_key_pair_that_round_trips_and_signs(seed: [u8; 32], message: Vec<u8>) {
        let keypair = Keypair::from_seed(seed);
        let public = PublicKey::decode_protobuf(&keypair.public().encode_protobuf()).unwrap();
        prop_assert!(public.verify(&message, &keypair.sign(&message)));
        let read = Keypair::decode_protobuf(&keypair.encode_protobuf()).unwrap();
        prop_assert_eq!(read.peer_id(), public.peer_id());
        prop_assert_eq!(public.peer_id().to_string().parse(), Ok(public.peer_id()));
    }

    #[test]
    fn arbitrary_bytes_never_panic_and_decode_only_to_themselves(bytes: Vec<u8>) {
        if let Ok(key) = PublicKey::decode_protobuf(&bytes) {
            prop_assert_eq!(key.encode_protobuf(), bytes.clone());
        }
        if let Ok(id) = PeerId::from_bytes(&bytes) {
            prop_assert_eq!(id.as_bytes(), &bytes[..]);
        }
        let _ = Keypair::decode_protobuf(&bytes);
    }

    #[test]
    fn a_well_framed_key_of_arbitrary_material_never_panics(number in 0_u8..4, data in prop::collection::vec(any::<u8>(), 0..127)) {
        let message = [&[0x08, number, 0x12, data.len() as u8][..], &data].concat();
        if let Ok(key) = PublicKey::decode_protobuf(&message) {
            prop_assert_eq!(key.encode_protobuf(), message);
        }
    }

    #[test]
    fn a_damaged_key_of_the_specification_never_panics(which in 0_usize..4, at: prop::sample::Index, flip in 1_u8.., signature: Vec<u8>) {
        let mut message = hex(VECTORS[which].key);
        let at = at.index(message.len());
        message[at] ^= flip;
        if let Ok(key) = PublicKey::decode_protobuf(&message) {
            prop_assert_eq!(key.encode_protobuf(), message);
            prop_assert!(!key.verify(MESSAGE, &hex(VECTORS[which].signature)));
            prop_assert!(!key.verify(MESSAGE, &signature));
        }
    }

    #[test]
    fn arbitrary_text_never_panics_as_a_peer_id(text in "\\PC{0,140}", base in "[1Qzkbf][1-9a-z]{0,100}") {
        let _ = text.parse::<PeerId>();
        if let Ok(id) = base.parse::<PeerId>() {
            prop_assert_eq!(id.to_string().parse(), Ok(id));
        }
    }
}
