//! Datagrams between nodes: out of a node, across the network, into a node.

use std::{
    net::{IpAddr, SocketAddr},
    num::NonZeroUsize,
};

use bytes::BytesMut;
use peerwork::{
    Datagram, Event, Input, SocketId, Time, Transmit,
    io::{Ecn, IoError, IoErrorKind},
};

use super::{Arrival, HostId, World, kind};
use crate::{
    dice::Domain,
    net::network::{Flight, Landed, Outgoing, Sent},
    trace::{DELIVERED, TracedPacket},
};

/// A datagram under way.
pub(super) struct Parcel {
    flight: Flight,
    data: BytesMut,
    /// The local endpoint that it left from.
    sent_from: SocketAddr,
}

impl World {
    pub(super) fn on_transmit(&mut self, id: HostId, transmit: &Transmit, data: &[u8]) {
        let now = self.now;
        let host = &mut self.hosts[id.index()];
        host.digest.add(&now.as_nanos().to_le_bytes());
        host.digest.add(&transmit.socket.index().to_le_bytes());
        digest_address(&mut host.digest, transmit.to);
        host.digest.add(&[transmit.ecn.map_or(0, |ecn| ecn as u8 + 1)]);
        host.digest.add(&(data.len() as u64).to_le_bytes());
        host.digest.add(data);
        let Some(local) = host.sockets.get(&transmit.socket).copied() else { return };
        let segment = transmit.segment.map_or(data.len(), NonZeroUsize::get).max(1);
        for packet in data.chunks(segment) {
            if self.watches_amplification
                && let Some((received, sent)) = self.hosts[id.index()].ledger.sends(local, transmit.to, packet)
            {
                let detail = format!("{sent} bytes to {}, not validated, after {received} from it", transmit.to);
                self.broken("amplification", Some(id), detail);
            }
            self.dispatch(id, local, transmit.to, transmit.ecn, packet);
        }
    }

    /// Sends a packet as the host's conduct has it.
    fn dispatch(&mut self, id: HostId, local: SocketAddr, to: SocketAddr, ecn: Option<Ecn>, packet: &[u8]) {
        if self.hosts[id.index()].conduct.is_honest() {
            self.send(id, local, to, ecn, packet, Time::ZERO);
            return;
        }
        let host = &mut self.hosts[id.index()];
        let conduct = host.conduct.clone();
        host.whims += 1;
        let (label, n, at) = (host.label, host.whims, self.now.as_nanos());
        let mut draw = |what: u64, bound| self.dice.below(Domain::Byzantine, label, at, n * 8 + what, bound);
        let chance = |draw: u64, ppm: u32| 1_000_000 - draw <= u64::from(ppm);
        if chance(draw(0, 1_000_000), conduct.drop_ppm) {
            self.packets.sent += 1;
            self.packets.bytes_sent += packet.len() as u64;
            self.lose("byzantine", local, to, ecn, packet);
            return;
        }
        let mut packet = packet.to_vec();
        if chance(draw(1, 1_000_000), conduct.garble_ppm) {
            let bit = draw(2, packet.len() as u64 * 8);
            packet[usize::try_from(bit / 8).unwrap_or(0)] ^= 1 << (bit % 8);
        }
        let again = chance(draw(3, 1_000_000), conduct.replay_ppm).then(|| draw(4, 60_000_000_000));
        let noise: Vec<u64> =
            (0..conduct.noise).map(|n| draw(5, u64::MAX).wrapping_mul(u64::from(n) * 2 + 1)).collect();
        self.send(id, local, to, ecn, &packet, self.now + conduct.delay);
        if let Some(after) = again {
            self.send(id, local, to, ecn, &packet, self.now + core::time::Duration::from_nanos(after));
        }
        for word in noise {
            self.send(id, local, to, ecn, &word.to_le_bytes().repeat(6), self.now + conduct.delay);
        }
    }

    /// Puts a packet on the wire. With a time after now, it reaches the network's far end that much later.
    fn send(
        &mut self,
        id: HostId,
        local: SocketAddr,
        to: SocketAddr,
        ecn: Option<Ecn>,
        packet: &[u8],
        not_before: Time,
    ) {
        let now = self.now;
        let host = &self.hosts[id.index()];
        let from = host.outside.get(&local).copied().unwrap_or(local);
        self.packets.sent += 1;
        self.packets.bytes_sent += packet.len() as u64;
        let outgoing = Outgoing { host: id.0, src: from, dst: to, ecn, len: packet.len() };
        match self.network.send(&mut self.dice, now, outgoing) {
            Sent::Dropped(cause) => self.lose(cause, from, to, ecn, packet),
            Sent::Under { flight, carried } => {
                if let Some(cause) = carried.drop {
                    self.lose(cause.name(), flight.src, flight.dst, ecn, packet);
                }
                let held = not_before.since(now);
                for arrival in carried.arrivals() {
                    if arrival.copy {
                        self.packets.sent += 1;
                        self.packets.bytes_sent += packet.len() as u64;
                    }
                    let mut data = BytesMut::from(packet);
                    if let Some((at, mask)) = arrival.corrupt
                        && let Some(byte) = data.get_mut(at)
                    {
                        *byte ^= mask;
                    }
                    let mut flight = flight.clone();
                    flight.ecn = arrival.ecn;
                    self.packets.in_flight += 1;
                    let parcel = Box::new(Parcel { flight, data, sent_from: from });
                    // The destination's owner is known on arrival only; the order at one moment follows from sender and number.
                    self.schedule(arrival.at + held, u32::MAX, kind::PACKET, id.0, Arrival::Packet(parcel));
                }
            }
        }
    }

    fn lose(&mut self, cause: &'static str, from: SocketAddr, to: SocketAddr, ecn: Option<Ecn>, packet: &[u8]) {
        *self.packets.dropped.entry(cause.to_owned()).or_default() += 1;
        self.trace(from, to, ecn, packet, cause);
    }

    fn trace(&mut self, from: SocketAddr, to: SocketAddr, ecn: Option<Ecn>, data: &[u8], fate: &str) {
        if let Some(tap) = &mut self.tap {
            tap.packet(&TracedPacket { at: self.now, from, to, ecn, data, fate });
        }
    }

    /// Sends a packet from nowhere: garbage, or what an attacker forged.
    pub fn inject(&mut self, from: SocketAddr, to: SocketAddr, data: &[u8]) {
        self.packets.sent += 1;
        self.packets.bytes_sent += data.len() as u64;
        self.packets.in_flight += 1;
        let flight = Flight::forged(from, to);
        let parcel = Box::new(Parcel { flight, data: BytesMut::from(data), sent_from: from });
        self.schedule(self.now, u32::MAX, kind::PACKET, u32::MAX, Arrival::Packet(parcel));
    }

    pub(super) fn arrived(&mut self, parcel: Parcel) {
        let Parcel { flight, data, sent_from } = parcel;
        let Flight { origin, src, dst, ecn, .. } = flight;
        let now = self.now;
        match self.network.arrive(now, flight, data.len()) {
            Landed::Later(at, flight) => {
                let parcel = Box::new(Parcel { flight, data, sent_from });
                self.schedule(at, u32::MAX, kind::PACKET, origin, Arrival::Packet(parcel));
            }
            Landed::Dropped(cause) => {
                self.packets.in_flight -= 1;
                self.lose(cause, src, dst, ecn, &data);
            }
            Landed::Refused(flight, cause) => {
                self.packets.in_flight -= 1;
                self.lose(cause, flight.src, flight.dst, ecn, &data);
                self.tell_refusal(origin, sent_from, flight.dst);
            }
            Landed::Host(host, flight) => {
                self.packets.in_flight -= 1;
                self.deliver(HostId(host), &flight, data);
            }
        }
    }

    fn deliver(&mut self, id: HostId, flight: &Flight, data: BytesMut) {
        let now = self.now;
        let host = &mut self.hosts[id.index()];
        let seen = |local: &SocketAddr| host.outside.get(local).copied().unwrap_or(*local);
        let socket = host.sockets.iter().find(|(_, local)| seen(local) == flight.dst).map(|(id, local)| (*id, *local));
        let (Some((socket, local)), true) = (socket, host.awake(now)) else {
            let cause = if host.awake(now) { "closed-port" } else { "host-down" };
            self.lose(cause, flight.src, flight.dst, flight.ecn, &data);
            return;
        };
        if self.watches_amplification {
            host.ledger.received(local, flight.src, &data);
        }
        self.packets.delivered += 1;
        self.packets.bytes_delivered += data.len() as u64;
        self.trace(flight.src, flight.dst, flight.ecn, &data, DELIVERED);
        let to_ip: Option<IpAddr> = Some(local.ip());
        let datagram = Datagram { socket, from: flight.src, to_ip, ecn: flight.ecn, segment: None, data };
        self.input(id, Input::Datagram(datagram));
    }

    /// A box has refused a packet, and says so (ICMP); the sender hears of it a moment later.
    fn tell_refusal(&mut self, origin: u32, from: SocketAddr, to: SocketAddr) {
        let Some(host) = self.hosts.get(origin as usize) else { return };
        let Some((socket, _)) = host.sockets.iter().find(|(_, local)| **local == from) else { return };
        let (host, socket) = (HostId(origin), *socket);
        let at = self.now + crate::millis(20);
        self.schedule(at, origin, kind::REFUSED, origin, Arrival::Refused { host, socket, to });
    }

    pub(super) fn refused(&mut self, host: HostId, socket: SocketId, to: SocketAddr) {
        if self.hosts[host.index()].awake(self.now) {
            let error = IoError::new(IoErrorKind::Unreachable, "port unreachable");
            self.input(host, Input::SendFailed { socket, to, error });
        }
    }

    /// An address is validated once a connection to it is up.
    pub(super) fn note_validation(&mut self, id: HostId, event: &Event) {
        if self.watches_amplification
            && let Event::Connected { address, .. } = event
            && let Some(to) = crate::socket_address(address)
        {
            self.hosts[id.index()].ledger.validated(to);
        }
    }
}

fn digest_address(digest: &mut super::host::Digest, address: SocketAddr) {
    match address.ip() {
        IpAddr::V4(ip) => digest.add(&ip.octets()),
        IpAddr::V6(ip) => digest.add(&ip.octets()),
    }
    digest.add(&address.port().to_le_bytes());
}
