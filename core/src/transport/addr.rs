//! What QUIC needs to know of a multiaddr, and how far an IP address reaches.
//!
//! [`Target::parse`] accepts the addresses that can be dialled or listened on here: `/ip4`, `/ip6`, `/dns`, `/dns4` or `/dns6`,
//! then `/udp/PORT/quic-v1` and perhaps `/p2p/ID`, which becomes a [`QuicAddr`]; and `/dnsaddr/NAME` with or without `/p2p/ID`,
//! which stands for TXT records holding further addresses. Everything else is refused with the reason, for the most frequent
//! mistakes are worth a sentence each. An IPv4 address in IPv6 clothes counts as IPv4 throughout, so that one endpoint has one
//! address and no filter is passed in disguise.
//!
//! [`scope`] sorts IP addresses by where they mean anything; it fails closed: what is not known to be global is not.
//! See <https://github.com/libp2p/specs/blob/master/addressing/README.md> and the IANA special-purpose registries (RFC 6890).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use multiaddr::{Multiaddr, PeerId, Protocol};
use thiserror::Error;

/// The longest DNS name, in bytes.
pub const MAX_NAME: usize = 253;

/// What a multiaddr tells a QUIC endpoint to dial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// An endpoint.
    Quic(QuicAddr),
    /// Whatever the TXT records of `_dnsaddr.NAME` say, for this peer only if one is named.
    DnsAddr {
        /// A checked DNS name.
        name: String,
        /// The peer, if the address names it.
        peer: Option<PeerId>,
    },
}

/// A QUIC endpoint, and perhaps the peer expected there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QuicAddr {
    /// Where it is.
    pub host: Host,
    /// The UDP port; 0 makes sense for listening only.
    pub port: u16,
    /// The peer, if the address names it.
    pub peer: Option<PeerId>,
}

/// Where an endpoint is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Host {
    /// An IP address, never an IPv4-mapped one.
    Ip(IpAddr),
    /// A name to be resolved. The scope of the result is yet to be checked.
    Dns {
        /// A checked DNS name.
        name: String,
        /// Which addresses to ask for.
        kind: DnsKind,
    },
}

/// The addresses that a DNS name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DnsKind {
    /// `/dns`: IPv4 and IPv6.
    Dns,
    /// `/dns4`: IPv4 only.
    Dns4,
    /// `/dns6`: IPv6 only.
    Dns6,
}

impl Target {
    /// Understands a multiaddr.
    pub fn parse(addr: &Multiaddr) -> Result<Self, AddrError> {
        // A relayed or WebTransport address begins like one for QUIC: say what it is, not where it deviates.
        for part in addr.iter() {
            match part {
                Protocol::P2pCircuit => return Err(AddrError::Relayed),
                Protocol::WebTransport => return Err(AddrError::WebTransport),
                _ => {}
            }
        }
        let mut parts = addr.iter();
        let host = match parts.next().ok_or(AddrError::Empty)? {
            Protocol::Ip4(ip) => Host::Ip(ip.into()),
            Protocol::Ip6(ip) => Host::Ip(IpAddr::V6(ip).to_canonical()),
            Protocol::Dns(name) => dns(&name, DnsKind::Dns)?,
            Protocol::Dns4(name) => dns(&name, DnsKind::Dns4)?,
            Protocol::Dns6(name) => dns(&name, DnsKind::Dns6)?,
            Protocol::Dnsaddr(name) => {
                let name = checked_name(&name)?;
                let peer = last_peer(&mut parts)?;
                return Ok(Self::DnsAddr { name, peer });
            }
            Protocol::Ip6zone(_) => return Err(AddrError::Zone),
            other => return Err(AddrError::NoHost(other.tag())),
        };
        let port = match parts.next() {
            Some(Protocol::Udp(port)) => port,
            Some(Protocol::Tcp(_)) => return Err(AddrError::Tcp),
            Some(Protocol::Quic | Protocol::QuicV1 | Protocol::P2p(_)) | None => {
                return Err(AddrError::NoPort);
            }
            Some(other) => return Err(AddrError::NotQuic(other.tag())),
        };
        match parts.next() {
            Some(Protocol::QuicV1) => {}
            Some(Protocol::Quic) => return Err(AddrError::DraftQuic),
            Some(Protocol::P2p(_)) | None => return Err(AddrError::NotQuic("udp")),
            Some(other) => return Err(AddrError::NotQuic(other.tag())),
        }
        let peer = last_peer(&mut parts)?;
        Ok(Self::Quic(QuicAddr { host, port, peer }))
    }
}

impl QuicAddr {
    /// Understands a multiaddr that names an endpoint: [`Target::parse`] without `/dnsaddr`.
    pub fn parse(addr: &Multiaddr) -> Result<Self, AddrError> {
        match Target::parse(addr)? {
            Target::Quic(addr) => Ok(addr),
            Target::DnsAddr { .. } => Err(AddrError::DnsAddr),
        }
    }

    /// The socket address, if no name has to be resolved first.
    pub fn socket_addr(&self) -> Option<SocketAddr> {
        match self.host {
            Host::Ip(ip) => Some(SocketAddr::new(ip, self.port)),
            Host::Dns { .. } => None,
        }
    }

    /// The multiaddr of this endpoint, its peer included.
    pub fn to_multiaddr(&self) -> Multiaddr {
        let host = match &self.host {
            Host::Ip(ip) => ip_part(*ip),
            Host::Dns { name, kind } => match kind {
                DnsKind::Dns => Protocol::Dns(name.into()),
                DnsKind::Dns4 => Protocol::Dns4(name.into()),
                DnsKind::Dns6 => Protocol::Dns6(name.into()),
            },
        };
        let peer = self.peer.map(Protocol::P2p);
        [host, Protocol::Udp(self.port), Protocol::QuicV1].into_iter().chain(peer).collect()
    }
}

fn ip_part(ip: IpAddr) -> Protocol<'static> {
    match ip.to_canonical() {
        IpAddr::V4(ip) => Protocol::Ip4(ip),
        IpAddr::V6(ip) => Protocol::Ip6(ip),
    }
}

fn dns(name: &str, kind: DnsKind) -> Result<Host, AddrError> {
    let name = checked_name(name)?;
    Ok(Host::Dns { name, kind })
}

/// Lets letters, digits, hyphens and underscores pass, in labels of 1 to 63, with or without a final dot. A name whose last
/// label is a number would be read as an IPv4 address by resolvers, so it is none.
fn checked_name(name: &str) -> Result<String, AddrError> {
    let labels = name.strip_suffix('.').unwrap_or(name);
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    let is_number = |label: &str| label.bytes().all(|byte| byte.is_ascii_digit());
    let valid = labels.len() <= MAX_NAME
        && labels.split('.').all(is_label)
        && !labels.rsplit('.').next().is_some_and(is_number);
    if valid { Ok(name.to_owned()) } else { Err(AddrError::Name) }
}

fn last_peer<'a>(parts: &mut impl Iterator<Item = Protocol<'a>>) -> Result<Option<PeerId>, AddrError> {
    let peer = match parts.next() {
        None => return Ok(None),
        Some(Protocol::P2p(peer)) => peer,
        Some(other) => return Err(AddrError::Trailing(other.tag())),
    };
    match parts.next() {
        None => Ok(Some(peer)),
        Some(_) => Err(AddrError::PeerNotLast),
    }
}

/// Why a multiaddr is no target for QUIC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum AddrError {
    /// Nothing at all.
    #[error("the address is empty")]
    Empty,
    /// It begins with something else than a host.
    #[error("an address begins with /ip4, /ip6, /dns, /dns4, /dns6 or /dnsaddr, not with /{0}")]
    NoHost(&'static str),
    /// A scoped IPv6 address, which a QUIC address here cannot carry.
    #[error("addresses with /ip6zone are not supported")]
    Zone,
    /// Not a DNS name.
    #[error("the address holds an invalid DNS name")]
    Name,
    /// There is no port.
    #[error("the address has no port: /udp/PORT is missing")]
    NoPort,
    /// QUIC before RFC 9000.
    #[error("/quic means the old draft 29 of QUIC: use /quic-v1")]
    DraftQuic,
    /// TCP.
    #[error("TCP addresses are not supported: use /udp/PORT/quic-v1")]
    Tcp,
    /// A relayed address.
    #[error("a relayed address (/p2p-circuit) names no endpoint of QUIC")]
    Relayed,
    /// WebTransport.
    #[error("WebTransport addresses are not supported: use plain /quic-v1")]
    WebTransport,
    /// Another transport, or none named.
    #[error("the address is not for QUIC: expected /udp/PORT/quic-v1, found /{0}")]
    NotQuic(&'static str),
    /// `/dnsaddr` where an endpoint is needed.
    #[error("/dnsaddr stands for other addresses and has to be resolved first")]
    DnsAddr,
    /// Something follows.
    #[error("nothing but /p2p/ID may follow, found /{0}")]
    Trailing(&'static str),
    /// Something follows the peer.
    #[error("/p2p/ID has to be the last part of the address")]
    PeerNotLast,
    /// The address names another peer already.
    #[error("the address names another peer")]
    OtherPeer,
}

/// The multiaddr of a QUIC endpoint. IPv6's scope id and flow label have no place in it.
pub fn to_multiaddr(addr: SocketAddr) -> Multiaddr {
    let parts = [ip_part(addr.ip()), Protocol::Udp(addr.port()), Protocol::QuicV1];
    parts.into_iter().collect()
}

/// Takes a final `/p2p/ID` off. One further in front, as of a relay, stays.
pub fn strip_peer(mut addr: Multiaddr) -> (Multiaddr, Option<PeerId>) {
    match addr.iter().last() {
        Some(Protocol::P2p(peer)) => {
            addr.pop();
            (addr, Some(peer))
        }
        _ => (addr, None),
    }
}

/// Puts `/p2p/ID` at the end if it is not there; fails if the address ends with another peer.
pub fn with_peer(addr: Multiaddr, peer: PeerId) -> Result<Multiaddr, AddrError> {
    addr.with_p2p(peer).map_err(|_| AddrError::OtherPeer)
}

/// How far an IP address reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// Never an endpoint of anybody: unspecified, multicast, broadcast, documentation, benchmarks, tunnels, unassigned.
    Unusable,
    /// This host.
    Loopback,
    /// This link.
    LinkLocal,
    /// This site or provider: RFC 1918, carrier-grade NAT (100.64/10), unique local IPv6.
    Private,
    /// Everywhere.
    Global,
}

/// How far an IP address reaches. IPv4 addresses within IPv6, mapped or of the well-known NAT64 prefix, count as themselves.
pub fn scope(ip: IpAddr) -> Scope {
    match ip.to_canonical() {
        IpAddr::V4(ip) => scope_v4(ip),
        IpAddr::V6(ip) => scope_v6(ip),
    }
}

/// Whether an address is the host's own.
pub fn is_loopback(ip: IpAddr) -> bool {
    scope(ip) == Scope::Loopback
}

/// Whether an address is valid on one link or site only, carrier-grade NAT included.
pub fn is_private(ip: IpAddr) -> bool {
    matches!(scope(ip), Scope::Private | Scope::LinkLocal)
}

/// Whether an address can be reached from everywhere.
pub fn is_global(ip: IpAddr) -> bool {
    scope(ip) == Scope::Global
}

fn scope_v4(ip: Ipv4Addr) -> Scope {
    match ip.octets() {
        [127, ..] => Scope::Loopback,
        [169, 254, ..] => Scope::LinkLocal,
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] | [100, 64..=127, ..] => Scope::Private,
        // This network; IETF assignments; 6to4 anycast; benchmarks; multicast, reserved and broadcast.
        [0, ..] | [192, 0, 0, _] | [192, 88, 99, _] | [198, 18..=19, ..] | [224..=255, ..] => Scope::Unusable,
        // Documentation.
        [192, 0, 2, _] | [198, 51, 100, _] | [203, 0, 113, _] => Scope::Unusable,
        _ => Scope::Global,
    }
}

fn scope_v6(ip: Ipv6Addr) -> Scope {
    if ip.is_loopback() {
        return Scope::Loopback;
    }
    match ip.segments() {
        [0xfe80..=0xfebf, ..] => Scope::LinkLocal,
        // Unique local, the abandoned site-local, and NAT64 of a site.
        [0xfc00..=0xfdff, ..] | [0xfec0..=0xfeff, ..] | [0x64, 0xff9b, 1, ..] => Scope::Private,
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => scope_v4(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low))),
        // IETF assignments with Teredo and ORCHID; 6to4; documentation.
        [0x2001, 0..=0x1ff, ..] | [0x2002, ..] => Scope::Unusable,
        [0x2001, 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => Scope::Unusable,
        [0x2000..=0x3fff, ..] => Scope::Global,
        _ => Scope::Unusable,
    }
}

#[cfg(test)]
mod tests;
