//! How boxes stack: a tree of them, hosts at its leaves, the internet at its root.

use std::net::{IpAddr, SocketAddr};

use peerwork::Time;

use crate::{
    dice::Dice,
    net::nat::{Cause, Inbound, Nat, Outbound},
};

/// A box of an [`Internet`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct BoxId(usize);

/// A host of an [`Internet`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SiteId(usize);

/// Where a packet is once it has left its host and the boxes above that.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Left {
    /// Outside all boxes.
    Outside {
        /// As the outside sees it.
        src: SocketAddr,
        /// Where it goes.
        dst: SocketAddr,
    },
    /// Inside a box, because it went to a neighbour or turned round there (hairpin).
    Inside {
        /// The box.
        at: BoxId,
        /// As seen inside.
        src: SocketAddr,
        /// Where it goes.
        dst: SocketAddr,
    },
    /// Gone.
    Dropped {
        /// The box that dropped it.
        at: BoxId,
        /// Why.
        cause: Cause,
    },
}

/// Where a packet ends that comes from outside, or from inside a box.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Entered {
    /// At a host.
    Host {
        /// The host.
        host: SiteId,
        /// As the host sees it.
        src: SocketAddr,
        /// As the host sees it.
        dst: SocketAddr,
    },
    /// Gone.
    Dropped {
        /// The box that dropped it.
        at: BoxId,
        /// Why.
        cause: Cause,
    },
    /// Gone, and the sender is told.
    Unreachable {
        /// The box that tells.
        at: BoxId,
        /// Why.
        cause: Cause,
    },
    /// Nobody has that address.
    Nowhere,
}

/// Boxes and hosts. A packet leaves at the time it is sent and enters at the time it arrives; what is between is its user's.
#[derive(Default)]
pub struct Internet {
    boxes: Vec<(Nat, Option<BoxId>)>,
    hosts: Vec<(IpAddr, Option<BoxId>)>,
}

impl Internet {
    /// A box inside another, or directly at the internet.
    pub fn add_box(&mut self, nat: Nat, inside: Option<BoxId>) -> BoxId {
        self.boxes.push((nat, inside));
        BoxId(self.boxes.len() - 1)
    }

    /// A host inside a box, or directly at the internet.
    pub fn add_host(&mut self, ip: IpAddr, inside: Option<BoxId>) -> SiteId {
        self.hosts.push((ip, inside));
        SiteId(self.hosts.len() - 1)
    }

    /// A host's own address.
    pub fn ip(&self, host: SiteId) -> IpAddr {
        self.hosts[host.0].0
    }

    /// The box that a host is in.
    pub fn box_of(&self, host: SiteId) -> Option<BoxId> {
        self.hosts[host.0].1
    }

    /// A box, to look at or to reboot.
    pub fn nat(&mut self, id: BoxId) -> &mut Nat {
        &mut self.boxes[id.0].0
    }

    fn host_at(&self, level: Option<BoxId>, ip: IpAddr) -> Option<SiteId> {
        self.hosts.iter().position(|(own, inside)| *inside == level && *own == ip).map(SiteId)
    }

    fn box_at(&self, level: Option<BoxId>, ip: IpAddr) -> Option<BoxId> {
        self.boxes.iter().position(|(nat, inside)| *inside == level && nat.owns(ip)).map(BoxId)
    }

    /// A packet from a host, out through all boxes above it.
    pub fn leave(&mut self, now: Time, dice: &mut Dice, host: SiteId, src: SocketAddr, dst: SocketAddr) -> Left {
        let (mut level, mut src, mut dst) = (self.hosts[host.0].1, src, dst);
        while let Some(at) = level {
            if self.host_at(level, dst.ip()).is_some() || self.box_at(level, dst.ip()).is_some() {
                return Left::Inside { at, src, dst };
            }
            let (nat, outside) = &mut self.boxes[at.0];
            match nat.outbound(now, dice, src, dst) {
                Outbound::Forward { src: from, dst: to } => (src, dst) = (from, to),
                Outbound::Hairpin { src, to } => return Left::Inside { at, src, dst: to },
                Outbound::Drop(cause) => return Left::Dropped { at, cause },
            }
            level = *outside;
        }
        Left::Outside { src, dst }
    }

    /// A packet from outside (`None`), or from inside a box, in through all boxes before the host that it is for.
    pub fn enter(&mut self, now: Time, level: Option<BoxId>, src: SocketAddr, dst: SocketAddr) -> Entered {
        let (mut level, mut src, mut dst) = (level, src, dst);
        loop {
            if let Some(host) = self.host_at(level, dst.ip()) {
                return Entered::Host { host, src, dst };
            }
            let Some(at) = self.box_at(level, dst.ip()) else { return Entered::Nowhere };
            match self.nat(at).inbound(now, src, dst) {
                Inbound::Deliver { src: from, to } => (src, dst) = (from, to),
                Inbound::Drop(cause) => return Entered::Dropped { at, cause },
                Inbound::Unreachable(cause) => return Entered::Unreachable { at, cause },
            }
            level = Some(at);
        }
    }
}
