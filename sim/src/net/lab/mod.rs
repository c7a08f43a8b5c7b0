//! A laboratory for NATs without any peers: a few hosts, boxes before them, an internet of one latency, virtual time.
//!
//! It proves the [NAT models](super::nat) by what they do to packets. [`nat_matrix`] punches holes between all pairs of classes
//! and compares with the outcomes the project has measured before; [`discover`] classifies boxes from outside, by the rules of
//! RFC 5780, and must find what was configured; [`rates`] predicts how many pairs of a population connect; [`spray`] opens
//! a port by chance. [`Internet`] shows how boxes stack, for anybody who builds a network of them.

mod discover;
mod internet;
mod matrix;
mod punch;
#[cfg(test)]
mod tests;

use core::time::Duration;
use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

pub use discover::{Discovered, discover};
pub use internet::{BoxId, Entered, Internet, Left, SiteId};
pub use matrix::{Block, CLASSES, RECORDED, Rates, TRIALS, class_model, nat_matrix, rates, render, sample};
use peerwork::Time;
pub use punch::{Mode, Trial, predicate, punch, spray};

use super::nat::{Kind, Nat, NatError, NatModel, from_nat64, to_nat64};
use crate::dice::Dice;

/// What happens to a host.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Happening<P> {
    /// A packet for one of its ports.
    Packet { host: SiteId, port: u16, from: SocketAddr, payload: P },
    /// A timer it has set.
    Timer { host: SiteId, token: u64 },
}

enum Pending<P> {
    /// Under way to an endpoint, inside a box or outside all.
    Packet {
        level: Option<BoxId>,
        src: SocketAddr,
        dst: SocketAddr,
        payload: P,
    },
    Timer {
        host: SiteId,
        token: u64,
    },
}

/// Hosts that exchange packets of type `P`, each under way for the same time.
pub(crate) struct Lab<P> {
    pub(crate) net: Internet,
    pub(crate) dice: Dice,
    now: Time,
    latency: Duration,
    queue: BTreeMap<(Time, u64), Pending<P>>,
    seq: u64,
}

impl<P> Lab<P> {
    pub(crate) fn new(seed: u64, latency: Duration) -> Self {
        let (net, dice) = (Internet::default(), Dice::from_seed(seed));
        Self { net, dice, now: Time::ZERO, latency, queue: BTreeMap::new(), seq: 0 }
    }

    pub(crate) fn now(&self) -> Time {
        self.now
    }

    /// Where a host is reached by those who see its own address.
    pub(crate) fn endpoint(&self, host: SiteId, port: u16) -> SocketAddr {
        SocketAddr::new(self.net.ip(host), port)
    }

    /// A host behind boxes, given from the host outwards. `number` is below 200 and its own.
    pub(crate) fn site(&mut self, number: u8, path: &[NatModel]) -> Result<SiteId, NatError> {
        let translates = |model: &NatModel| matches!(model.kind, Kind::Translate | Kind::Nat64);
        let public = IpAddr::V4(Ipv4Addr::new(203, 0, 113, number));
        let private = IpAddr::V4(Ipv4Addr::new(10, number, 0, 2));
        let ip = match path.iter().position(translates) {
            None => public,
            Some(first) if path[first].kind == Kind::Nat64 => {
                IpAddr::V6(Ipv6Addr::new(0xfd00, u16::from(number), 0, 0, 0, 0, 0, 2))
            }
            Some(_) => private,
        };
        let (mut outside, mut boxes) = (ip, Vec::new());
        for (level, model) in (0_u8..).zip(path) {
            if translates(model) {
                let last = !path[usize::from(level) + 1..].iter().any(translates);
                outside = if last { public } else { IpAddr::V4(Ipv4Addr::new(100, 64, number, 2 + level)) };
            }
            boxes.push(Nat::new(model.clone(), vec![outside], u64::from(number) * 256 + u64::from(level))?);
        }
        let mut parent = None;
        for nat in boxes.into_iter().rev() {
            parent = Some(self.net.add_box(nat, parent));
        }
        Ok(self.net.add_host(ip, parent))
    }

    fn push(&mut self, at: Time, what: Pending<P>) {
        self.queue.insert((at, self.seq), what);
        self.seq += 1;
    }

    /// Sends from a port of a host. Hosts behind NAT64 address IPv4 hosts through its prefix.
    pub(crate) fn send(&mut self, host: SiteId, port: u16, dst: SocketAddr, payload: P) {
        let src = self.endpoint(host, port);
        let dst = if src.is_ipv6() { to_nat64(dst) } else { dst };
        let (level, src, dst) = match self.net.leave(self.now, &mut self.dice, host, src, dst) {
            Left::Outside { src, dst } => (None, src, dst),
            Left::Inside { at, src, dst } => (Some(at), src, dst),
            Left::Dropped { .. } => return,
        };
        self.push(self.now + self.latency, Pending::Packet { level, src, dst, payload });
    }

    pub(crate) fn set_timer(&mut self, host: SiteId, after: Duration, token: u64) {
        self.push(self.now + after, Pending::Timer { host, token });
    }

    /// Drops all timers, and all packets under way.
    pub(crate) fn clear(&mut self) {
        self.queue.clear();
    }

    /// Lets time pass until something happens to a host, but no longer than until `end`.
    pub(crate) fn next(&mut self, end: Time) -> Option<Happening<P>> {
        loop {
            let Some(first) = self.queue.first_entry().filter(|first| first.key().0 <= end) else {
                self.now = self.now.max(end);
                return None;
            };
            self.now = first.key().0;
            match first.remove() {
                Pending::Timer { host, token } => return Some(Happening::Timer { host, token }),
                Pending::Packet { level, src, dst, payload } => {
                    if let Entered::Host { host, src, dst } = self.net.enter(self.now, level, src, dst) {
                        let from = from_nat64(src).unwrap_or(src);
                        return Some(Happening::Packet { host, port: dst.port(), from, payload });
                    }
                }
            }
        }
    }
}
