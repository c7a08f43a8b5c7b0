//! What a box is, found out from outside as RFC 5780 does: a server with two addresses and two ports each answers from where it
//! is asked to.

use core::time::Duration;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::{Happening, Lab, SiteId};
use crate::net::nat::{Behaviour, Filtering, Mapping, NatError, NatModel};

/// What [`discover`] finds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Discovered {
    /// Translation, mapping and filtering.
    pub behaviour: Behaviour,
    /// Whether the first mapping had the internal port.
    pub preserves_port: bool,
    /// Whether two sockets of the host reach each other through their external endpoints.
    pub hairpin: bool,
    /// How long a hole in which packets went both ways stays open without traffic, to the second; `None` if for an hour or more.
    pub lifetime: Option<Duration>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Packet {
    /// Answer from the other address or port, to the sender or somebody else.
    Request {
        other_ip: bool,
        other_port: bool,
        to: Option<SocketAddr>,
    },
    Response(SocketAddr),
    Hairpin,
}

const PORTS: [u16; 2] = [3478, 3479];
const LONGEST: u64 = 3600;

struct Client {
    lab: Lab<Packet>,
    servers: [SiteId; 2],
    host: SiteId,
    next_port: u16,
}

impl Client {
    /// A socket that has never sent: what others have sent must not help it.
    fn socket(&mut self) -> u16 {
        self.next_port += 1;
        self.next_port
    }

    fn server(&self, address: usize, port: usize) -> SocketAddr {
        self.lab.endpoint(self.servers[address], PORTS[port])
    }

    /// Runs the servers for a second, or until a packet of the wanted kind reaches the host at a port.
    fn wait(&mut self, port: u16, wanted: impl Fn(Packet) -> bool) -> Option<Packet> {
        let end = self.lab.now() + Duration::from_secs(1);
        while let Some(happening) = self.lab.next(end) {
            let Happening::Packet { host, port: at, from, payload } = happening else { continue };
            if host == self.host {
                if at == port && wanted(payload) {
                    return Some(payload);
                }
            } else if let Packet::Request { other_ip, other_port, to } = payload {
                let own = host == self.servers[0];
                let answer_from = if own == other_ip { self.servers[1] } else { self.servers[0] };
                let answer_port = if (at == PORTS[0]) == other_port { PORTS[1] } else { PORTS[0] };
                self.lab.send(answer_from, answer_port, to.unwrap_or(from), Packet::Response(from));
            }
        }
        None
    }

    /// The address from which a server sees a socket, if its answer comes through.
    fn ask(&mut self, socket: u16, server: SocketAddr, other_ip: bool, other_port: bool) -> Option<SocketAddr> {
        self.lab.send(self.host, socket, server, Packet::Request { other_ip, other_port, to: None });
        match self.wait(socket, |packet| matches!(packet, Packet::Response(_)))? {
            Packet::Response(mapped) => Some(mapped),
            _ => None,
        }
    }

    /// RFC 5780, section 4.3.
    fn mapping(&mut self) -> Option<(Mapping, SocketAddr, u16)> {
        let socket = self.socket();
        let first = self.ask(socket, self.server(0, 0), false, false)?;
        let second = self.ask(socket, self.server(1, 0), false, false)?;
        if first == second {
            return Some((Mapping::Eim, first, socket));
        }
        let third = self.ask(socket, self.server(1, 1), false, false)?;
        Some((if second == third { Mapping::Adm } else { Mapping::Apdm }, first, socket))
    }

    /// RFC 5780, section 4.4.
    fn filtering(&mut self) -> Filtering {
        let (socket, server) = (self.socket(), self.server(0, 0));
        if self.ask(socket, server, true, true).is_some() {
            Filtering::Eif
        } else if self.ask(socket, server, false, true).is_some() {
            Filtering::Adf
        } else {
            Filtering::Apdf
        }
    }

    /// RFC 5780, section 4.5, with two sockets, so that strict filters open: each sends to the other first.
    fn hairpin(&mut self) -> bool {
        let sockets = [self.socket(), self.socket()];
        let server = self.server(0, 0);
        let Some(first) = self.ask(sockets[0], server, false, false) else { return false };
        let Some(second) = self.ask(sockets[1], server, false, false) else { return false };
        for _ in 0..2 {
            self.lab.send(self.host, sockets[0], second, Packet::Hairpin);
            self.lab.send(self.host, sockets[1], first, Packet::Hairpin);
        }
        self.wait(sockets[0], |packet| packet == Packet::Hairpin).is_some()
    }

    /// RFC 5780, section 4.6: whether a hole is still open after so many seconds. Another socket asks the server to try.
    fn open_after(&mut self, seconds: u64) -> bool {
        let (socket, other) = (self.socket(), self.socket());
        let (server, start) = (self.server(0, 0), self.lab.now());
        let Some(mapped) = self.ask(socket, server, false, false) else { return false };
        let _ = self.lab.next(start + Duration::from_secs(seconds));
        let request = Packet::Request { other_ip: false, other_port: false, to: Some(mapped) };
        self.lab.send(self.host, other, server, request);
        self.wait(socket, |packet| matches!(packet, Packet::Response(_))).is_some()
    }

    fn lifetime(&mut self) -> Option<Duration> {
        if self.open_after(LONGEST) {
            return None;
        }
        let (mut open, mut shut) = (0, LONGEST);
        while shut - open > 1 {
            let middle = open.midpoint(shut);
            if self.open_after(middle) { open = middle } else { shut = middle }
        }
        Some(Duration::from_secs(shut))
    }
}

/// Classifies the boxes before a host, given from the host outwards. `None`: no answer from the server, so no UDP.
pub fn discover(path: &[NatModel], seed: u64) -> Result<Option<Discovered>, NatError> {
    let mut lab = Lab::new(seed, Duration::from_millis(20));
    let mut server = |n| lab.net.add_host(IpAddr::V4(Ipv4Addr::new(198, 51, 100, n)), None);
    let servers = [server(1), server(2)];
    let host = lab.site(1, path)?;
    let mut client = Client { lab, servers, host, next_port: 20_000 };
    let Some((mapping, mapped, socket)) = client.mapping() else { return Ok(None) };
    let translates = mapped != client.lab.endpoint(host, socket);
    Ok(Some(Discovered {
        behaviour: Behaviour { translates, mapping, filtering: client.filtering() },
        preserves_port: mapped.port() == socket,
        hairpin: translates && client.hairpin(),
        lifetime: client.lifetime(),
    }))
}
