//! Addresses as people write them: multiaddrs, and `host:port` for short.

use std::{fmt, net::IpAddr, str::FromStr};

use peerwork::{
    Multiaddr,
    transport::addr::{Host, Target},
};

/// Shown where an address is wrong.
const EXAMPLE: &str = "/ip4/192.0.2.1/udp/4001/quic-v1/p2p/12D3KooW..., or 192.0.2.1:4001, or [2001:db8::1]:4001";

/// An address that can be dialled.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct DialAddr(pub(crate) Multiaddr);

/// An address to listen on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct ListenAddr(pub(crate) Multiaddr);

impl fmt::Display for DialAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for ListenAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for DialAddr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (address, target) = read(text)?;
        match target {
            Target::Quic(quic) if quic.port == 0 => Err("port 0 is nobody's: write the port of the peer".into()),
            Target::Quic(quic) if matches!(quic.host, Host::Ip(ip) if ip.is_unspecified()) => {
                Err("this address is for listening only: write one that the peer can be reached at".into())
            }
            _ => Ok(Self(address)),
        }
    }
}

impl FromStr for ListenAddr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const RIGHT: &str = "write, for example, /ip4/0.0.0.0/udp/4001/quic-v1, [::]:4001 or 127.0.0.1:0";
        let (address, target) = read(text)?;
        match target {
            Target::Quic(quic) if quic.peer.is_some() => Err("an address to listen on has no /p2p part".into()),
            Target::Quic(quic) if matches!(quic.host, Host::Ip(_)) => Ok(Self(address)),
            _ => Err(format!("listening takes an IP address of this machine, or 0.0.0.0 or :: for all; {RIGHT}")),
        }
    }
}

fn read(text: &str) -> Result<(Multiaddr, Target), String> {
    let address = if text.starts_with('/') { text.to_owned() } else { written_out(text)? };
    let address: Multiaddr = address.parse().map_err(|error| format!("{error}; write, for example, {EXAMPLE}"))?;
    let target = Target::parse(&address).map_err(|error| format!("{error}; write, for example, {EXAMPLE}"))?;
    Ok((address, target))
}

/// `host:port` as a multiaddr, perhaps followed by `/p2p/ID`.
fn written_out(text: &str) -> Result<String, String> {
    let wrong = || format!("neither a multiaddr nor host:port; write, for example, {EXAMPLE}");
    let (endpoint, peer) = text.split_at(text.find("/p2p/").unwrap_or(text.len()));
    let (host, port) = endpoint.rsplit_once(':').ok_or_else(wrong)?;
    let port: u16 = port.parse().map_err(|_| wrong())?;
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let host = match (bare, bare.unwrap_or(host).parse::<IpAddr>()) {
        (None, Ok(IpAddr::V4(ip))) => format!("/ip4/{ip}"),
        (Some(_), Ok(IpAddr::V6(ip))) => format!("/ip6/{ip}"),
        (None, Ok(IpAddr::V6(ip))) => return Err(format!("write IPv6 addresses in brackets: [{ip}]:{port}")),
        (Some(_), _) => return Err(wrong()),
        (None, Err(_)) if host.is_empty() || host.contains(['/', ':']) => return Err(wrong()),
        (None, Err(_)) => format!("/dns/{host}"),
    };
    Ok(format!("{host}/udp/{port}/quic-v1{peer}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: &str = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN";

    #[test]
    fn short_forms_are_written_out() {
        let cases = [
            ("127.0.0.1:4001", "/ip4/127.0.0.1/udp/4001/quic-v1".to_owned()),
            ("[::1]:4001", "/ip6/::1/udp/4001/quic-v1".to_owned()),
            ("example.org:4001", "/dns/example.org/udp/4001/quic-v1".to_owned()),
            (&format!("127.0.0.1:1/p2p/{PEER}"), format!("/ip4/127.0.0.1/udp/1/quic-v1/p2p/{PEER}")),
            ("/dnsaddr/example.org", "/dnsaddr/example.org".to_owned()),
        ];
        for (text, long) in cases {
            assert_eq!(text.parse::<DialAddr>().map(|address| address.to_string()), Ok(long), "{text}");
        }
        assert_eq!("[::]:0".parse::<ListenAddr>().unwrap().to_string(), "/ip6/::/udp/0/quic-v1");
    }

    #[test]
    fn what_is_wrong_is_explained() {
        let cases = [
            ("nonsense", "for example"),
            ("127.0.0.1", "for example"),
            ("::1:4001", "in brackets"),
            ("127.0.0.1:99999", "for example"),
            ("127.0.0.1:0", "port 0"),
            ("0.0.0.0:4001", "listening only"),
            ("/ip4/127.0.0.1/tcp/4001", "TCP addresses are not supported"),
            ("/ip4/127.0.0.1/udp/4001", "/udp/PORT/quic-v1"),
            ("/ip4/localhost/udp/1/quic-v1", "for example"),
            ("", "for example"),
        ];
        for (text, words) in cases {
            let error = text.parse::<DialAddr>().unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
        }
        for (text, words) in [("example.org:4001", "IP address"), (&format!("127.0.0.1:1/p2p/{PEER}"), "no /p2p")] {
            let error = text.parse::<ListenAddr>().unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
