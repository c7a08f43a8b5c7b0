use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const PING: ProtocolId = ProtocolId::from_static("/ipfs/ping/1.0.0");

#[test]
fn names_are_checked() {
    assert_eq!(ProtocolId::new("/a").unwrap().as_str(), "/a");
    assert_eq!(ProtocolId::new(""), Err(ProtocolIdError::Length(0)));
    assert_eq!(ProtocolId::new("/"), Err(ProtocolIdError::Length(1)));
    assert_eq!(ProtocolId::new("peerwork/1"), Err(ProtocolIdError::NoSlash));
    assert_eq!(ProtocolId::new("/a\n"), Err(ProtocolIdError::Newline));
    let longest = format!("/{}", "x".repeat(255));
    assert!(ProtocolId::new(&longest).is_ok());
    assert_eq!(ProtocolId::new(longest + "x"), Err(ProtocolIdError::Length(257)));
}

#[test]
#[should_panic(expected = "not a valid protocol name")]
fn an_invalid_constant_panics() {
    ProtocolId::from_static("ping");
}

#[test]
fn a_map_is_looked_up_by_text_whatever_the_origin_of_the_key() {
    let copied: ProtocolId = "/ipfs/ping/1.0.0".parse().unwrap();
    assert_eq!(copied, PING);
    let map = BTreeMap::from([(copied, 7)]);
    assert_eq!(map.get("/ipfs/ping/1.0.0"), Some(&7));
    assert_eq!(map.get(&PING), Some(&7));
    let map =
        hashbrown::HashMap::<_, _, std::hash::BuildHasherDefault<siphasher::sip::SipHasher13>>::from_iter([(PING, 7)]);
    assert_eq!(map.get("/ipfs/ping/1.0.0"), Some(&7));
}

#[test]
fn debug_output_escapes_control_characters() {
    let id = ProtocolId::new("/a\u{1b}[31m").unwrap();
    assert_eq!(format!("{id:?}"), "\"/a\\u{1b}[31m\"");
    assert_eq!(PING.to_string(), "/ipfs/ping/1.0.0");
}

proptest! {
    #[test]
    fn whatever_is_accepted_is_kept_as_it_was(name in "/?\\PC{0,80}\n?") {
        if let Ok(id) = ProtocolId::new(&name) {
            prop_assert_eq!(id.as_str(), &name);
            prop_assert!(name.starts_with('/') && !name.contains('\n'));
        }
    }
}
