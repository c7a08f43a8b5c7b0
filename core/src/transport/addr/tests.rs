use proptest::prelude::*;

use super::*;

const ID: &str = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN";
const OTHER: &str = "12D3KooWPA6ax6t3jqTyGq73Zm1RmwppYqxaXzrtarfcTWGp5Wzx";

fn addr(text: &str) -> Multiaddr {
    let text = text.replace("ID", ID);
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn quic(text: &str) -> Result<QuicAddr, AddrError> {
    QuicAddr::parse(&addr(text))
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn id() -> PeerId {
    ID.parse().unwrap()
}

#[test]
fn quic_addresses_are_understood_and_written_back() {
    for (text, host, port, peer) in [
        ("/ip4/192.0.2.1/udp/4001/quic-v1", Host::Ip(ip("192.0.2.1")), 4001, None),
        ("/ip6/2001:db8::1/udp/0/quic-v1/p2p/ID", Host::Ip(ip("2001:db8::1")), 0, Some(id())),
        ("/dns/example.org/udp/1/quic-v1", Host::Dns { name: "example.org".into(), kind: DnsKind::Dns }, 1, None),
        (
            "/dns4/a-1.example.org./udp/65535/quic-v1/p2p/ID",
            Host::Dns { name: "a-1.example.org.".into(), kind: DnsKind::Dns4 },
            65535,
            Some(id()),
        ),
        ("/dns6/_x.example/udp/1/quic-v1", Host::Dns { name: "_x.example".into(), kind: DnsKind::Dns6 }, 1, None),
    ] {
        let parsed = quic(text).unwrap();
        assert_eq!(parsed, QuicAddr { host, port, peer });
        assert_eq!(parsed.to_multiaddr(), addr(text));
    }
}

#[test]
fn a_mapped_address_is_the_ipv4_address() {
    let parsed = quic("/ip6/::ffff:192.0.2.1/udp/5/quic-v1").unwrap();
    assert_eq!(parsed.host, Host::Ip(ip("192.0.2.1")));
    assert_eq!(parsed.socket_addr(), Some("192.0.2.1:5".parse().unwrap()));
    let mapped: SocketAddr = "[::ffff:192.0.2.1]:5".parse().unwrap();
    assert_eq!(to_multiaddr(mapped), addr("/ip4/192.0.2.1/udp/5/quic-v1"));
}

#[test]
fn dnsaddr_is_a_target_but_no_endpoint() {
    let name = "bootstrap.libp2p.io".to_owned();
    let text = addr("/dnsaddr/bootstrap.libp2p.io");
    let peer = None;
    let target = Target::parse(&text);
    assert_eq!(target, Ok(Target::DnsAddr { name: name.clone(), peer }));
    assert_eq!(QuicAddr::parse(&text), Err(AddrError::DnsAddr));
    let peer = Some(id());
    let target = Target::parse(&addr("/dnsaddr/bootstrap.libp2p.io/p2p/ID"));
    assert_eq!(target, Ok(Target::DnsAddr { name, peer }));
    assert_eq!(Target::parse(&addr("/dnsaddr/a.example/udp/1/quic-v1")), Err(AddrError::Trailing("udp")));
}

#[test]
fn each_mistake_has_its_own_answer() {
    for (text, error) in [
        ("/ip4/1.2.3.4/udp/1/quic", AddrError::DraftQuic),
        ("/ip4/1.2.3.4/udp/1/quic/p2p/ID", AddrError::DraftQuic),
        ("/ip4/1.2.3.4/tcp/1", AddrError::Tcp),
        ("/ip4/1.2.3.4/tcp/1/ws", AddrError::Tcp),
        ("/ip4/1.2.3.4", AddrError::NoPort),
        ("/ip4/1.2.3.4/quic-v1", AddrError::NoPort),
        ("/ip4/1.2.3.4/p2p/ID", AddrError::NoPort),
        ("/ip4/1.2.3.4/udp/1", AddrError::NotQuic("udp")),
        ("/ip4/1.2.3.4/udp/1/p2p/ID", AddrError::NotQuic("udp")),
        ("/ip4/1.2.3.4/udp/1/webrtc-direct", AddrError::NotQuic("webrtc-direct")),
        ("/ip4/1.2.3.4/sctp/1", AddrError::NotQuic("sctp")),
        ("/ip4/1.2.3.4/udp/1/quic-v1/webtransport", AddrError::WebTransport),
        ("/ip4/1.2.3.4/udp/1/quic-v1/p2p/ID/p2p-circuit", AddrError::Relayed),
        ("/ip4/1.2.3.4/tcp/1/p2p/ID/p2p-circuit/p2p/ID", AddrError::Relayed),
        ("/p2p/ID/p2p-circuit", AddrError::Relayed),
        ("/ip4/1.2.3.4/udp/1/quic-v1/tls", AddrError::Trailing("tls")),
        ("/ip4/1.2.3.4/udp/1/quic-v1/p2p/ID/tls", AddrError::PeerNotLast),
        ("/ip4/1.2.3.4/udp/1/quic-v1/p2p/ID/p2p/ID", AddrError::PeerNotLast),
        ("/ip6zone/eth0/ip6/fe80::1/udp/1/quic-v1", AddrError::Zone),
        ("/p2p/ID", AddrError::NoHost("p2p")),
        ("/memory/5", AddrError::NoHost("memory")),
    ] {
        assert_eq!(quic(text), Err(error), "{text}");
    }
    assert_eq!(QuicAddr::parse(&Multiaddr::empty()), Err(AddrError::Empty));
}

#[test]
fn names_that_are_none_are_refused() {
    let long_label = "x".repeat(64);
    let long_name = ["x".repeat(63).as_str(); 4].join(".");
    for name in [
        "",
        ".",
        "a..b",
        ".a",
        "127.0.0.1",
        "1",
        "a.1.",
        "a b",
        "a\n",
        "a\0",
        "bücher.example",
        "::1",
        &long_label,
        &long_name,
    ] {
        for part in [
            Protocol::Dns(name.into()),
            Protocol::Dns4(name.into()),
            Protocol::Dns6(name.into()),
            Protocol::Dnsaddr(name.into()),
        ] {
            let addr = Multiaddr::from(part).with(Protocol::Udp(1)).with(Protocol::QuicV1);
            assert_eq!(Target::parse(&addr), Err(AddrError::Name), "{name}");
        }
    }
}

#[test]
fn a_peer_is_taken_off_and_put_on() {
    let bare = addr("/ip4/1.2.3.4/udp/1/quic-v1");
    let full = addr("/ip4/1.2.3.4/udp/1/quic-v1/p2p/ID");
    assert_eq!(strip_peer(full.clone()), (bare.clone(), Some(id())));
    assert_eq!(strip_peer(bare.clone()), (bare.clone(), None));
    assert_eq!(strip_peer(Multiaddr::empty()), (Multiaddr::empty(), None));
    assert_eq!(with_peer(bare, id()), Ok(full.clone()));
    assert_eq!(with_peer(full.clone(), id()), Ok(full.clone()));
    let other = OTHER.parse().unwrap();
    assert_eq!(with_peer(full, other), Err(AddrError::OtherPeer));
    let relayed = addr("/p2p/ID/p2p-circuit");
    assert_eq!(strip_peer(relayed.clone()), (relayed, None));
}

#[test]
fn scopes_follow_the_registries() {
    for (text, expected) in [
        ("0.0.0.0", Scope::Unusable),
        ("0.1.2.3", Scope::Unusable),
        ("10.0.0.1", Scope::Private),
        ("100.63.255.255", Scope::Global),
        ("100.64.0.0", Scope::Private),
        ("100.127.255.255", Scope::Private),
        ("100.128.0.0", Scope::Global),
        ("127.255.255.255", Scope::Loopback),
        ("169.254.1.1", Scope::LinkLocal),
        ("172.15.0.1", Scope::Global),
        ("172.16.0.1", Scope::Private),
        ("172.31.255.255", Scope::Private),
        ("172.32.0.1", Scope::Global),
        ("192.0.0.1", Scope::Unusable),
        ("192.0.2.1", Scope::Unusable),
        ("192.0.3.1", Scope::Global),
        ("192.88.99.1", Scope::Unusable),
        ("192.168.1.1", Scope::Private),
        ("198.17.255.255", Scope::Global),
        ("198.18.0.0", Scope::Unusable),
        ("198.19.255.255", Scope::Unusable),
        ("198.51.100.1", Scope::Unusable),
        ("203.0.113.1", Scope::Unusable),
        ("223.255.255.255", Scope::Global),
        ("224.0.0.251", Scope::Unusable),
        ("240.0.0.1", Scope::Unusable),
        ("255.255.255.255", Scope::Unusable),
        ("1.1.1.1", Scope::Global),
        ("::", Scope::Unusable),
        ("::1", Scope::Loopback),
        ("::2", Scope::Unusable),
        ("::ffff:127.0.0.1", Scope::Loopback),
        ("::ffff:10.0.0.1", Scope::Private),
        ("::ffff:1.1.1.1", Scope::Global),
        ("::1.1.1.1", Scope::Unusable),
        ("64:ff9b::1.1.1.1", Scope::Global),
        ("64:ff9b::10.0.0.1", Scope::Private),
        ("64:ff9b:1::1", Scope::Private),
        ("100::1", Scope::Unusable),
        ("2001::1", Scope::Unusable),
        ("2001:1ff::1", Scope::Unusable),
        ("2001:200::1", Scope::Global),
        ("2001:db8::1", Scope::Unusable),
        ("2001:4860:4860::8888", Scope::Global),
        ("2002:a00:1::1", Scope::Unusable),
        ("3fff:fff::1", Scope::Unusable),
        ("3fff:1000::1", Scope::Global),
        ("4000::1", Scope::Unusable),
        ("fc00::1", Scope::Private),
        ("fdff::1", Scope::Private),
        ("fe80::1", Scope::LinkLocal),
        ("febf::1", Scope::LinkLocal),
        ("fec0::1", Scope::Private),
        ("ff02::1", Scope::Unusable),
    ] {
        let ip = ip(text);
        assert_eq!(scope(ip), expected, "{text}");
        assert_eq!(is_loopback(ip), expected == Scope::Loopback);
        assert_eq!(is_global(ip), expected == Scope::Global);
        let local = matches!(expected, Scope::Private | Scope::LinkLocal);
        assert_eq!(is_private(ip), local);
    }
}

proptest! {
    #[test]
    fn every_endpoint_survives_the_round_trip(ip: IpAddr, port: u16) {
        let text = to_multiaddr(SocketAddr::new(ip, port));
        let parsed = QuicAddr::parse(&text).unwrap();
        prop_assert_eq!(parsed.socket_addr(), Some(SocketAddr::new(ip.to_canonical(), port)));
        prop_assert_eq!(parsed.to_multiaddr(), text);
    }

    #[test]
    fn a_parsed_address_is_written_as_it_was_read(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
        if let Ok(addr) = Multiaddr::try_from(bytes) {
            match Target::parse(&addr) {
                Ok(Target::Quic(quic)) => {
                    prop_assert_eq!(QuicAddr::parse(&quic.to_multiaddr()), Ok(quic));
                }
                Ok(Target::DnsAddr { name, .. }) => prop_assert!(name.len() <= MAX_NAME + 1),
                Err(error) => prop_assert!(!error.to_string().is_empty()),
            }
        }
    }

    #[test]
    fn mapped_addresses_have_the_scope_of_their_own(ip: Ipv4Addr) {
        prop_assert_eq!(scope(ip.to_ipv6_mapped().into()), scope(ip.into()));
    }
}
