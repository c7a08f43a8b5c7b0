//! NATs and firewalls, as RFC 4787, 5780 and 7857 describe them, one [`Nat`] per box.
//!
//! A box is asked twice per packet: [`Nat::outbound`] when a packet from inside reaches it, [`Nat::inbound`] when one from
//! outside does. It knows nothing of what lies beyond, so boxes stack: a packet goes out through each from the host outwards,
//! and in through each from the outermost inwards ([`net::lab`](crate::net::lab) shows how, hairpins included).
//!
//! ```text
//! out (x → y): key = EIM: x | ADM: (x, y's address) | APDM: (x, y);  m = live mapping of key, or a new one
//!              m.last = now;  sent[Endpoint: x | Mapping: m][y] = now;  source := m.external
//!              if y is one of our own addresses: hairpin
//! in (y → e):  m = the mapping of e;  accepted = EIF | a live entry of sent: ADF for y's address, APDF for y
//!              not accepted, or no m: unsolicited;  if inbound_refresh: m.last = now;  destination := m.internal
//! ```
//!
//! Four things that the sketch leaves open. With `inbound_refresh`, a packet let in renews the entry of `sent` that let it in as
//! well as the mapping. A packet that the filter refuses is as unsolicited as one without a mapping, so it poisons ports too,
//! which is how poisoning spoils hole punching. A static mapping ([`Nat::map_port`]) serves its internal endpoint for all
//! destinations, whatever the model. And where a mapping cannot serve a destination because another holds its port towards
//! it (overloaded or poisoned ports), the endpoint gets a second mapping for that destination alone.
//!
//! Nothing is scheduled: what has ended is noticed when the box is asked next. All memory is bounded by
//! [`NatModel::max_mappings`]; a flood makes a box forget the destinations that were sent to least recently. Random
//! choices are named by box, internal endpoint and time, so they do not depend on other hosts' packets, except where a
//! choice is taken already.

mod mix;
mod model;
mod ports;
mod recent;
mod table;
#[cfg(test)]
mod tests;

use core::{fmt, time::Duration};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

pub use mix::{NatMix, NatShare};
pub use model::{
    Alloc, Behaviour, Conflict, Filtering, Hairpin, Kind, Mapping, NAMES, NatError, NatModel, OnFull, Pooling, Rebind,
    Scope, Unsolicited,
};
use peerwork::Time;
use ports::Ports;
use recent::Recent;
use table::{Entry, Key, Slot, Table, To};

use crate::dice::Dice;

/// Why a box dropped a packet.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[non_exhaustive]
pub enum Cause {
    /// The filter does not let this source in.
    Filter,
    /// Nobody uses that external port.
    NoMapping,
    /// There was a mapping, or a hole in the filter, but it has ended.
    Expired,
    /// No mapping or no port is left.
    Full,
    /// The box lets no UDP through.
    Blocked,
    /// To an own address, and the box does not hairpin.
    Hairpin,
    /// The box has no external address of the destination's family, or the packet is not for it.
    NoRoute,
}

impl Cause {
    /// A name that does not change, such as `nat.filter`, for counters.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Filter => "nat.filter",
            Self::NoMapping => "nat.no-mapping",
            Self::Expired => "nat.expired",
            Self::Full => "nat.full",
            Self::Blocked => "nat.blocked",
            Self::Hairpin => "nat.hairpin",
            Self::NoRoute => "nat.no-route",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What becomes of a packet from inside.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outbound {
    /// It goes on outside, from and to these endpoints. The destination differs from the one given only for NAT64.
    Forward {
        /// The source as the outside sees it.
        src: SocketAddr,
        /// The destination as the outside sees it.
        dst: SocketAddr,
    },
    /// It turns round and goes inside again. It has passed the filter.
    Hairpin {
        /// The source as the inside sees it.
        src: SocketAddr,
        /// An internal endpoint of this box.
        to: SocketAddr,
    },
    /// It is gone.
    Drop(Cause),
}

/// What becomes of a packet from outside.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Inbound {
    /// It goes on inside, from and to these endpoints. The source differs from the one given only for NAT64.
    Deliver {
        /// The source as the inside sees it.
        src: SocketAddr,
        /// An internal endpoint.
        to: SocketAddr,
    },
    /// It is gone.
    Drop(Cause),
    /// It is gone, and its sender is told that nobody is there.
    Unreachable(Cause),
}

/// To whom a hole in the filter belongs.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Owner {
    Endpoint(SocketAddr),
    Mapping(u64),
}

/// Traffic with one destination.
#[derive(Clone, Copy)]
struct Flow {
    last: Time,
    replied: bool,
}

/// Who talks with a remote endpoint through an external one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Holder {
    Mapping(Slot, u64),
    /// The box itself: the port is poisoned.
    Router,
}

/// Destinations remembered per mapping allowed, over all mappings.
const FLOWS_PER_MAPPING: usize = 4;
/// Destinations remembered at least: a few hosts that spray thousands of probes.
const LEAST_FLOWS: usize = 8192;
/// Ended mappings remembered, to tell [`Cause::Expired`] from [`Cause::NoMapping`].
const ENDED: usize = 1024;

/// The prefix under which IPv4 addresses appear behind NAT64 (RFC 6052, section 2.1): `64:ff9b::/96`.
const NAT64_PREFIX: [u16; 6] = [0x64, 0xff9b, 0, 0, 0, 0];

/// An IPv4 endpoint as hosts behind NAT64 see it; others unchanged.
pub fn to_nat64(outside: SocketAddr) -> SocketAddr {
    let IpAddr::V4(v4) = outside.ip() else { return outside };
    let [a, b, c, d] = v4.octets();
    let [p0, p1, p2, p3, p4, p5] = NAT64_PREFIX;
    let ip = Ipv6Addr::new(p0, p1, p2, p3, p4, p5, u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
    SocketAddr::new(IpAddr::V6(ip), outside.port())
}

/// The IPv4 endpoint that an endpoint under `64:ff9b::/96` stands for.
pub fn from_nat64(inside: SocketAddr) -> Option<SocketAddr> {
    let IpAddr::V6(v6) = inside.ip() else { return None };
    let segments = v6.segments();
    let ([a, b], [c, d]) = (segments[6].to_be_bytes(), segments[7].to_be_bytes());
    segments.starts_with(&NAT64_PREFIX).then(|| SocketAddr::new(Ipv4Addr::new(a, b, c, d).into(), inside.port()))
}

/// One box. See the [module](self).
pub struct Nat {
    model: NatModel,
    external: Vec<IpAddr>,
    id: u64,
    table: Table,
    /// The filter's memory. Under [`Filtering::Adf`], of addresses, with port 0.
    flows: Recent<(Owner, SocketAddr), Flow>,
    /// By external and remote endpoint: who talks there. Kept only where ports are overloaded or can be poisoned.
    taken: Recent<(SocketAddr, SocketAddr), (Holder, Flow)>,
    ended: Recent<SocketAddr, ()>,
    ports: Ports,
}

impl Nat {
    /// A box. `external`: its outside addresses; for [`Kind::Firewall`] and [`Kind::Blocked`], those of the hosts behind it,
    /// which nothing changes. `id` names its random choices; no two boxes of a world share one.
    pub fn new(model: NatModel, external: Vec<IpAddr>, id: u64) -> Result<Self, NatError> {
        model.validate()?;
        let usable = match model.kind {
            Kind::Translate => !external.is_empty(),
            Kind::Nat64 => external.iter().any(IpAddr::is_ipv4),
            Kind::Firewall | Kind::Blocked => true,
        };
        if !usable {
            return Err(NatError::NoAddress);
        }
        let flows = (model.max_mappings as usize * FLOWS_PER_MAPPING).max(LEAST_FLOWS);
        let span = model.t_stream;
        Ok(Self {
            external,
            id,
            table: Table::default(),
            flows: Recent::new(span, flows),
            taken: Recent::new(span, flows),
            ended: Recent::new(span, ENDED),
            ports: Ports::default(),
            model,
        })
    }

    /// The model.
    pub fn model(&self) -> &NatModel {
        &self.model
    }

    /// The addresses given, or those of the last [`reboot`](Self::reboot).
    pub fn external(&self) -> &[IpAddr] {
        &self.external
    }

    /// Whether packets to this address are for this box.
    pub fn owns(&self, ip: IpAddr) -> bool {
        self.external.contains(&ip)
    }

    /// Mappings, static ones included, as of the last call that told the time.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether there are no mappings.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// See [`NatModel::class`].
    pub fn class(&self) -> &'static str {
        self.model.class()
    }

    /// A packet from inside.
    pub fn outbound(&mut self, now: Time, dice: &mut Dice, src: SocketAddr, dst: SocketAddr) -> Outbound {
        let out = match self.model.kind {
            Kind::Blocked => return Outbound::Drop(Cause::Blocked),
            // Between hosts on the same side of a firewall there is no firewall.
            Kind::Firewall if self.owns(dst.ip()) => return Outbound::Hairpin { src, to: dst },
            Kind::Firewall => {
                self.note_sent(now, Owner::Endpoint(src), dst);
                return Outbound::Forward { src, dst };
            }
            Kind::Translate => dst,
            Kind::Nat64 => match from_nat64(dst) {
                Some(v4) => v4,
                None if src.is_ipv6() && dst.is_ipv6() => return Outbound::Forward { src, dst },
                None => return Outbound::Drop(Cause::NoRoute),
            },
        };
        self.expire(now);
        match self.send(now, dice, src, out) {
            Err(cause) => Outbound::Drop(cause),
            Ok(external) if !self.owns(out.ip()) => Outbound::Forward { src: external, dst: out },
            Ok(external) => self.hairpin(now, src, external, out),
        }
    }

    /// A packet from outside, to an address that this box [`owns`](Self::owns).
    pub fn inbound(&mut self, now: Time, src: SocketAddr, dst_external: SocketAddr) -> Inbound {
        match self.model.kind {
            Kind::Blocked => return Inbound::Drop(Cause::Blocked),
            Kind::Nat64 if src.is_ipv6() && dst_external.is_ipv6() => {
                return Inbound::Deliver { src, to: dst_external };
            }
            Kind::Translate | Kind::Nat64 | Kind::Firewall if !self.owns(dst_external.ip()) => {
                return Inbound::Drop(Cause::NoRoute);
            }
            Kind::Translate | Kind::Nat64 | Kind::Firewall => {}
        }
        self.expire(now);
        let accepted = match self.model.kind {
            Kind::Firewall => self.pass_firewall(now, src, dst_external),
            _ => self.accept(now, src, dst_external),
        };
        let cause = match accepted {
            Ok(to) if self.model.kind == Kind::Nat64 => return Inbound::Deliver { src: to_nat64(src), to },
            Ok(to) => return Inbound::Deliver { src, to },
            Err(cause) => cause,
        };
        match self.model.unsolicited {
            Unsolicited::IcmpUnreachable => return Inbound::Unreachable(cause),
            Unsolicited::PoisonPort if self.model.kind != Kind::Firewall => {
                let flow = Flow { last: now, replied: false };
                self.taken.put(now, (dst_external, src), (Holder::Router, flow));
            }
            Unsolicited::PoisonPort | Unsolicited::Drop => {}
        }
        Inbound::Drop(cause)
    }

    /// The box starts anew, with these addresses or the same: all mappings are lost, static ones too. See [`Rebind`] for what
    /// follows.
    pub fn reboot(&mut self, now: Time, new_external: Option<Vec<IpAddr>>) {
        self.lose(now, self.model.rebind);
        if let Some(external) = new_external {
            let usable = self.model.kind != Kind::Translate || !external.is_empty();
            assert!(usable, "a NAT keeps at least one external address");
            self.external = external;
        }
    }

    /// All mappings are lost, and no internal endpoint gets the external one again that it had: a rebinding.
    pub fn forget(&mut self, now: Time) {
        self.lose(now, Rebind::New);
    }

    fn lose(&mut self, now: Time, rebind: Rebind) {
        self.expire(now);
        self.ports = self.ports.after(&self.table, rebind);
        self.table = Table::default();
        self.flows.clear();
        self.taken.clear();
    }

    /// What UPnP, NAT-PMP and PCP ask for: for this long, `internal` is reachable by everybody at the external endpoint that is
    /// returned, and sends from there. The port is the wanted one (0: any), or the next free one if that is taken; who
    /// has a mapping already keeps its endpoint and gets the new lifetime. A lifetime of zero ends the mapping. `None` if there
    /// is none, because it was ended, the box is full, or it blocks. A firewall opens that port.
    pub fn map_port(
        &mut self,
        now: Time,
        dice: &mut Dice,
        internal: SocketAddr,
        wanted: u16,
        lifetime: Duration,
    ) -> Option<SocketAddr> {
        if self.model.kind == Kind::Blocked {
            return None;
        }
        self.expire(now);
        let key = Key { from: internal, to: To::Any };
        let existing = self.table.find(&key);
        let external = match existing.and_then(|slot| self.table.get(slot)).map(|entry| (entry.external, entry.fixed)) {
            Some((_, Some(_))) if lifetime.is_zero() => {
                self.remove(now, existing?);
                return None;
            }
            Some((external, Some(_))) => {
                self.table.renew(existing?, now + lifetime);
                return Some(external);
            }
            _ if lifetime.is_zero() => return None,
            Some((external, None)) => {
                self.remove(now, existing?);
                external
            }
            None if self.model.kind == Kind::Firewall => {
                self.make_room(now).ok()?;
                internal
            }
            None => {
                self.make_room(now).ok()?;
                self.static_place(dice, internal, wanted)?
            }
        };
        let until = now + lifetime;
        self.add(now, key, external, Some(until), until);
        Some(external)
    }

    /// The external endpoint of an internal one, if there is one that is the same for all destinations or that was used
    /// last. Changes nothing.
    pub fn mapping_of(&self, now: Time, internal: SocketAddr) -> Option<SocketAddr> {
        match self.model.kind {
            Kind::Blocked => None,
            Kind::Firewall => Some(internal),
            Kind::Translate | Kind::Nat64 => {
                let any = self.table.find(&Key { from: internal, to: To::Any }).and_then(|slot| self.table.get(slot));
                let newest = || {
                    let own = self.table.iter().filter(|entry| entry.key.from == internal);
                    own.max_by_key(|entry| (entry.last, entry.id))
                };
                any.or_else(newest).filter(|entry| entry.end > now).map(|entry| entry.external)
            }
        }
    }

    /// Drops what has ended. Every call that tells the time does so first.
    pub fn expire(&mut self, now: Time) {
        while let Some(entry) = self.table.expired(now) {
            self.removed(now, &entry);
        }
    }

    fn timeout(&self, replied: bool) -> Duration {
        if replied { self.model.t_stream } else { self.model.t_unreplied }
    }

    fn live(&self, now: Time, flow: &Flow) -> bool {
        now.since(flow.last) < self.timeout(flow.replied)
    }

    fn owner(&self, entry: &Entry) -> Owner {
        match self.model.scope {
            Scope::Endpoint => Owner::Endpoint(entry.key.from),
            Scope::Mapping => Owner::Mapping(entry.id),
        }
    }

    /// What of a remote endpoint the filter looks at; `None` if it does not look.
    fn filtered_by(&self, remote: SocketAddr) -> Option<SocketAddr> {
        match self.model.filtering {
            Filtering::Eif => None,
            Filtering::Adf => Some(SocketAddr::new(remote.ip(), 0)),
            Filtering::Apdf => Some(remote),
        }
    }

    fn note_sent(&mut self, now: Time, owner: Owner, dst: SocketAddr) {
        let Some(remote) = self.filtered_by(dst) else { return };
        let replied = self.flows.get(&(owner, remote)).is_some_and(|flow| flow.replied && self.live(now, flow));
        self.flows.put(now, (owner, remote), Flow { last: now, replied });
    }

    /// Whether the filter lets `src` in, and if not, why.
    fn admits(&self, now: Time, owner: Owner, src: SocketAddr) -> Result<(), Cause> {
        let Some(remote) = self.filtered_by(src) else { return Ok(()) };
        match self.flows.get(&(owner, remote)) {
            Some(flow) if self.live(now, flow) => Ok(()),
            Some(_) => Err(Cause::Expired),
            None => Err(Cause::Filter),
        }
    }

    fn note_received(&mut self, now: Time, owner: Owner, src: SocketAddr) {
        let Some(remote) = self.filtered_by(src) else { return };
        if let Some(flow) = self.flows.get(&(owner, remote)).copied().filter(|flow| self.live(now, flow)) {
            let last = if self.model.inbound_refresh { now } else { flow.last };
            self.flows.put(now, (owner, remote), Flow { last, replied: true });
        }
    }

    /// Whether two parties can have the same external port, so that remote endpoints must tell them apart.
    fn shares_ports(&self) -> bool {
        self.model.alloc == Alloc::Overload || self.model.unsolicited == Unsolicited::PoisonPort
    }

    /// Who talks to `remote` through `external`.
    fn holder(&self, now: Time, external: SocketAddr, remote: SocketAddr) -> Option<Holder> {
        let (holder, flow) = self.taken.get(&(external, remote))?;
        let there = match *holder {
            Holder::Router => true,
            Holder::Mapping(slot, id) => self.table.get(slot).is_some_and(|entry| entry.id == id),
        };
        (there && self.live(now, flow)).then_some(*holder)
    }

    fn key(&self, src: SocketAddr, dst: SocketAddr) -> Key {
        let to = match self.model.mapping {
            Mapping::Eim => To::Any,
            Mapping::Adm => To::Address(dst.ip()),
            Mapping::Apdm => To::Endpoint(dst),
        };
        Key { from: src, to }
    }

    /// The mapping for a packet to `dst`, made if there is none.
    fn mapping(&mut self, now: Time, dice: &mut Dice, src: SocketAddr, dst: SocketAddr) -> Result<Slot, Cause> {
        let asked_for = self.table.find(&Key { from: src, to: To::Any });
        if let Some(slot) = asked_for.filter(|slot| self.table.get(*slot).is_some_and(|entry| entry.fixed.is_some())) {
            return Ok(slot);
        }
        let key = self.key(src, dst);
        let usual = self.table.find(&key);
        if !self.shares_ports() && self.model.on_conflict != Conflict::Symmetric {
            return usual.map_or_else(|| self.allocate(now, dice, key, dst), Ok);
        }
        // The exception comes before the rule.
        let exact = Key { from: src, to: To::Endpoint(dst) };
        let special = if exact == key { None } else { self.table.find(&exact) };
        for slot in special.into_iter().chain(usual) {
            let entry = self.table.get(slot).expect("found a moment ago");
            match self.holder(now, entry.external, dst) {
                None => return Ok(slot),
                Some(Holder::Mapping(holder, _)) if holder == slot => return Ok(slot),
                Some(_) if entry.key == exact => self.remove(now, slot),
                Some(_) => {}
            }
        }
        self.allocate(now, dice, if usual.is_some() { exact } else { key }, dst)
    }

    /// Sends through a mapping; returns its external endpoint.
    fn send(&mut self, now: Time, dice: &mut Dice, src: SocketAddr, dst: SocketAddr) -> Result<SocketAddr, Cause> {
        let slot = self.mapping(now, dice, src, dst)?;
        let (stream, unreplied) = (self.model.t_stream, self.model.t_unreplied);
        self.table.used(slot, |entry| {
            entry.last = now;
            entry.end = entry.fixed.unwrap_or(now + if entry.replied { stream } else { unreplied });
        });
        let entry = self.table.get(slot).expect("a mapping in use");
        let (owner, external, id) = (self.owner(entry), entry.external, entry.id);
        self.note_sent(now, owner, dst);
        if self.shares_ports() {
            let place = (external, dst);
            let replied = self.taken.get(&place).is_some_and(|(_, flow)| flow.replied && self.live(now, flow));
            self.taken.put(now, place, (Holder::Mapping(slot, id), Flow { last: now, replied }));
        }
        Ok(external)
    }

    fn hairpin(&mut self, now: Time, src: SocketAddr, external: SocketAddr, dst: SocketAddr) -> Outbound {
        let shown = match self.model.hairpin {
            Hairpin::Off => return Outbound::Drop(Cause::Hairpin),
            Hairpin::ExternalSource if self.model.kind == Kind::Nat64 => to_nat64(external),
            Hairpin::ExternalSource => external,
            Hairpin::InternalSource => src,
        };
        // The inside has only ever sent to external endpoints, so it is those that the filter knows.
        match self.accept(now, external, dst) {
            Ok(to) => Outbound::Hairpin { src: shown, to },
            Err(cause) => Outbound::Drop(cause),
        }
    }

    /// Finds the internal endpoint for a packet from outside, and notes the packet.
    fn accept(&mut self, now: Time, src: SocketAddr, dst: SocketAddr) -> Result<SocketAddr, Cause> {
        let slot = self.recipient(now, src, dst)?;
        let (stream, refresh) = (self.model.t_stream, self.model.inbound_refresh);
        self.table.used(slot, |entry| {
            entry.replied = true;
            entry.last = if refresh { now } else { entry.last };
            entry.end = entry.fixed.unwrap_or(entry.last + stream);
        });
        let entry = self.table.get(slot).expect("a mapping in use");
        let (owner, internal) = (self.owner(entry), entry.key.from);
        self.note_received(now, owner, src);
        if let Some((holder @ Holder::Mapping(..), flow)) = self.taken.get(&(dst, src)).copied() {
            let last = if refresh { now } else { flow.last };
            self.taken.put(now, (dst, src), (holder, Flow { last, replied: true }));
        }
        Ok(internal)
    }

    fn recipient(&self, now: Time, src: SocketAddr, dst: SocketAddr) -> Result<Slot, Cause> {
        match self.holder(now, dst, src) {
            Some(Holder::Router) => return Err(Cause::Filter),
            Some(Holder::Mapping(slot, _)) => {
                let entry = self.table.get(slot).expect("holders are there");
                if entry.fixed.is_some() || self.admits(now, self.owner(entry), src).is_ok() {
                    return Ok(slot);
                }
            }
            None => {}
        }
        let mut why = if self.ended.get(&dst).is_some() { Cause::Expired } else { Cause::NoMapping };
        for (slot, entry) in self.table.sharing(dst) {
            if entry.fixed.is_some() {
                return Ok(slot);
            }
            match self.admits(now, self.owner(entry), src) {
                Ok(()) => return Ok(slot),
                Err(cause) => why = cause,
            }
        }
        Err(why)
    }

    fn pass_firewall(&mut self, now: Time, src: SocketAddr, dst: SocketAddr) -> Result<SocketAddr, Cause> {
        let owner = Owner::Endpoint(dst);
        if !self.table.holds(&dst) {
            self.admits(now, owner, src)?;
        }
        self.note_received(now, owner, src);
        Ok(dst)
    }
}

impl fmt::Debug for Nat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Nat")
            .field("class", &self.class())
            .field("external", &self.external)
            .field("mappings", &self.len())
            .finish_non_exhaustive()
    }
}
