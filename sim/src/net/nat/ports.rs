//! How mappings get external endpoints, and what happens when there are none left.

use core::hash::Hasher as _;
use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
};

use peerwork::Time;
use siphasher::sip::SipHasher13;

use super::{
    Alloc, Cause, Conflict, Kind, Nat, OnFull, Pooling, Rebind,
    recent::Map,
    table::{Entry, Key, Slot, Table, To},
};
use crate::dice::{Dice, Domain};

/// The first port that is given out, except to keep a lower one.
const FIRST: u16 = 1024;
/// Ports from [`FIRST`].
const PORTS: u32 = (1 << 16) - FIRST as u32;
/// Random ports tried before the next free one is taken.
const DRAWS: u64 = 8;
/// Steps of sequential allocation tried before the next free port is taken.
const STRIDES: u32 = 64;
/// Names the choice of a block, and of where sequential ports start, among the draws of [`Domain::NatPort`].
const BLOCK: u64 = u64::MAX;
const START: u64 = u64::MAX - 1;

/// A subscriber's block.
struct Block {
    number: u16,
    /// Where in it to look next.
    cursor: u16,
    mappings: u32,
}

/// Everything about ports that is not in a mapping.
#[derive(Default)]
pub(super) struct Ports {
    /// External endpoints in use, by address.
    used: BTreeMap<IpAddr, PortSet>,
    /// The port that [`Alloc::Sequential`] tries next.
    next: Option<u16>,
    /// By internal and external address.
    blocks: BTreeMap<(IpAddr, IpAddr), Block>,
    /// By external address and number.
    taken_blocks: BTreeSet<(IpAddr, u16)>,
    /// External endpoints before the last loss of all mappings, and whether they are to be had again or to be avoided.
    lost: Map<Key, (SocketAddr, Rebind)>,
    /// Losses of all mappings so far.
    epoch: u64,
}

impl Ports {
    /// A new start that remembers what was.
    pub(super) fn after(&self, table: &Table, rebind: Rebind) -> Self {
        let lost = table.iter().map(|entry| (entry.key, (entry.external, rebind))).collect();
        Self { lost, epoch: self.epoch + 1, ..Self::default() }
    }
}

/// Ports of one address: sparse, and quick to say which is the next one not in it.
#[derive(Default)]
struct PortSet {
    /// By port / 64.
    words: BTreeMap<u16, u64>,
    /// One bit per word that is all ones.
    full: [u64; 16],
}

impl PortSet {
    fn insert(&mut self, port: u16) {
        let word = self.words.entry(port / 64).or_default();
        *word |= 1 << (port % 64);
        if *word == u64::MAX {
            self.full[usize::from(port / 4096)] |= 1 << (port / 64 % 64);
        }
    }

    fn remove(&mut self, port: u16) {
        let Some(word) = self.words.get_mut(&(port / 64)) else { return };
        *word &= !(1 << (port % 64));
        self.full[usize::from(port / 4096)] &= !(1 << (port / 64 % 64));
        if *word == 0 {
            self.words.remove(&(port / 64));
        }
    }

    /// The lowest port from `from` up that is not in the set.
    fn free_from(&self, from: u16) -> Option<u16> {
        let first = from / 64;
        let free = !self.words.get(&first).copied().unwrap_or(0) & (u64::MAX << (from % 64));
        if free != 0 {
            return u16::try_from(u32::from(first) * 64 + free.trailing_zeros()).ok();
        }
        let next = u32::from(first) + 1;
        let group = (next / 64..16).find_map(|group| {
            let mask = if group == next / 64 { u64::MAX << (next % 64) } else { u64::MAX };
            let open = !self.full[group as usize] & mask;
            (open != 0).then(|| group * 64 + open.trailing_zeros())
        })?;
        let number = u16::try_from(group).ok()?;
        let free = !self.words.get(&number).copied().unwrap_or(0);
        u16::try_from(group * 64 + free.trailing_zeros()).ok()
    }
}

/// A number for an address, the same on every platform.
fn name_ip(hash: &mut SipHasher13, ip: IpAddr) {
    match ip {
        IpAddr::V4(ip) => hash.write(&ip.octets()),
        IpAddr::V6(ip) => hash.write(&ip.octets()),
    }
}

fn name_of_ip(ip: IpAddr) -> u64 {
    let mut hash = SipHasher13::new();
    name_ip(&mut hash, ip);
    hash.finish()
}

fn name_of(key: &Key) -> u64 {
    let mut hash = SipHasher13::new();
    name_ip(&mut hash, key.from.ip());
    hash.write(&key.from.port().to_be_bytes());
    match key.to {
        To::Any => {}
        To::Address(ip) => name_ip(&mut hash, ip),
        To::Endpoint(to) => {
            name_ip(&mut hash, to.ip());
            hash.write(&to.port().to_be_bytes());
        }
    }
    hash.finish()
}

/// `port` plus `steps`, within the ports given out.
fn onwards(port: u16, steps: u32) -> u16 {
    let from = u32::from(port.max(FIRST) - FIRST);
    let at = (from + steps % PORTS) % PORTS;
    FIRST + u16::try_from(at).expect("below PORTS")
}

impl Nat {
    /// Makes a mapping for a key that has none, good for a packet to `dst`.
    pub(super) fn allocate(&mut self, now: Time, dice: &mut Dice, key: Key, dst: SocketAddr) -> Result<Slot, Cause> {
        let pool = self.pool(key.from);
        if pool.is_empty() {
            return Err(Cause::NoRoute);
        }
        self.make_room(now)?;
        let found = self.place(now, dice, key, dst, &pool).or_else(|| {
            if self.model.on_full == OnFull::Drop {
                return None;
            }
            let victim = self.victim(dice, key, &pool)?;
            self.remove(now, victim);
            self.place(now, dice, key, dst, &pool)
        });
        let (key, external) = found.ok_or(Cause::Full)?;
        self.ports.lost.remove(&key);
        let end = now + self.model.t_unreplied;
        Ok(self.add(now, key, external, None, end))
    }

    /// Makes sure that the table takes one more.
    pub(super) fn make_room(&mut self, now: Time) -> Result<(), Cause> {
        if self.table.len() < self.model.max_mappings as usize {
            return Ok(());
        }
        let oldest = self.table.by_age().next().map(|(slot, _)| slot);
        match (self.model.on_full, oldest) {
            (OnFull::EvictLru, Some(slot)) => {
                self.remove(now, slot);
                Ok(())
            }
            _ => Err(Cause::Full),
        }
    }

    /// The external addresses for packets of an internal endpoint.
    fn pool(&self, from: SocketAddr) -> Vec<IpAddr> {
        let v4 = from.is_ipv4() || self.model.kind == Kind::Nat64;
        self.external.iter().copied().filter(|ip| ip.is_ipv4() == v4).collect()
    }

    /// The address of a pool that all mappings of an internal address share.
    fn pair(&self, dice: &mut Dice, internal: IpAddr, pool: &[IpAddr]) -> usize {
        let at = dice.below(Domain::NatAddress, self.id, name_of_ip(internal), 0, pool.len() as u64);
        usize::try_from(at).unwrap_or(0)
    }

    /// An external endpoint for a key, and the key itself, which [`Conflict::Symmetric`] makes narrower.
    fn place(
        &mut self,
        now: Time,
        dice: &mut Dice,
        key: Key,
        dst: SocketAddr,
        pool: &[IpAddr],
    ) -> Option<(Key, SocketAddr)> {
        let (start, tries) = match self.model.pooling {
            Pooling::Paired => (self.pair(dice, key.from.ip(), pool), 1),
            Pooling::Arbitrary => {
                let at = dice.below(Domain::NatAddress, self.id, name_of(&key), now.as_nanos(), pool.len() as u64);
                (usize::try_from(at).unwrap_or(0), pool.len())
            }
        };
        if let Some((before, Rebind::Keep)) = self.ports.lost.get(&key).copied() {
            let there = pool.contains(&before.ip()) && self.usable(now, before, dst, None);
            if there && self.claim_block_of(key.from.ip(), before) {
                return Some((key, before));
            }
        }
        for ip in pool.iter().cycle().skip(start).take(tries) {
            if let Some((key, port)) = self.port_on(now, dice, key, dst, *ip) {
                return Some((key, SocketAddr::new(*ip, port)));
            }
        }
        None
    }

    /// Whether an internal endpoint can send to `dst` from there.
    fn usable(&self, now: Time, external: SocketAddr, dst: SocketAddr, avoid: Option<SocketAddr>) -> bool {
        let free = match self.model.alloc {
            Alloc::Overload => !self.table.sharing(external).any(|(_, entry)| entry.fixed.is_some()),
            _ => !self.table.holds(&external),
        };
        free && avoid != Some(external) && (!self.shares_ports() || self.holder(now, external, dst).is_none())
    }

    fn port_on(&mut self, now: Time, dice: &mut Dice, key: Key, dst: SocketAddr, ip: IpAddr) -> Option<(Key, u16)> {
        let lost = self.ports.lost.get(&key);
        let avoid = lost.and_then(|(before, rebind)| (*rebind == Rebind::New).then_some(*before));
        let good = |nat: &Self, port: u16| nat.usable(now, SocketAddr::new(ip, port), dst, avoid);
        let after = |nat: &Self, port| nat.free_after(ip, port).find(|port| good(nat, *port));
        let random = |nat: &Self, dice: &mut Dice, key: &Key| {
            let mut port = FIRST;
            for n in 0..DRAWS {
                let n = now.as_nanos().wrapping_mul(DRAWS).wrapping_add(n);
                let at = dice.below(Domain::NatPort, nat.id, name_of(key), n, u64::from(PORTS));
                port = onwards(FIRST, u32::try_from(at).unwrap_or(0));
                if good(nat, port) {
                    return Some(port);
                }
            }
            after(nat, port)
        };
        match self.model.alloc {
            Alloc::Preserve | Alloc::Overload => {
                let wanted = key.from.port();
                if wanted != 0 && good(self, wanted) {
                    return Some((key, wanted));
                }
                match self.model.on_conflict {
                    Conflict::Next => after(self, wanted).map(|port| (key, port)),
                    Conflict::Random => random(self, dice, &key).map(|port| (key, port)),
                    Conflict::Symmetric => {
                        // An endpoint that is in its own way, with another mapping, is none that came too late.
                        let external = SocketAddr::new(ip, wanted);
                        let mut holders = self.table.sharing(external).map(|(_, entry)| entry.key.from).peekable();
                        let own = holders.peek().is_some() && holders.all(|from| from == key.from);
                        let key = if own { key } else { Key { to: To::Endpoint(dst), ..key } };
                        random(self, dice, &key).map(|port| (key, port))
                    }
                }
            }
            Alloc::Random => random(self, dice, &key).map(|port| (key, port)),
            Alloc::Sequential { stride } => {
                let next = self.ports.next.unwrap_or_else(|| {
                    let at = dice.below(Domain::NatPort, self.id, START, self.ports.epoch, u64::from(PORTS));
                    onwards(FIRST, u32::try_from(at).unwrap_or(0))
                });
                let stride = u32::from(stride);
                let mut strides = (0..STRIDES).map(|n| onwards(next, stride * n));
                let port = strides.find(|port| good(self, *port)).or_else(|| after(self, next))?;
                self.ports.next = Some(onwards(port, stride));
                Some((key, port))
            }
            Alloc::Block { base, len } => {
                let subscriber = (key.from.ip(), ip);
                if !self.ports.blocks.contains_key(&subscriber) {
                    let blocks = ((1 << 16) - u32::from(base)) / u32::from(len);
                    let at = dice.below(Domain::NatPort, self.id, name_of_ip(subscriber.0), BLOCK, u64::from(blocks));
                    let at = u32::try_from(at).unwrap_or(0);
                    let mut numbers =
                        (0..blocks).map(|n| u16::try_from((at + n) % blocks).expect("fewer blocks than ports"));
                    let number = numbers.find(|number| !self.ports.taken_blocks.contains(&(ip, *number)))?;
                    self.claim(subscriber, number);
                }
                let block = &self.ports.blocks[&subscriber];
                let first = base + block.number * len;
                let cursor = block.cursor;
                let last = first + (len - 1);
                let later = self.free_in(ip, first + cursor, last);
                let port = later.chain(self.free_in(ip, first, last)).find(|port| good(self, *port))?;
                let place = port - first;
                let block = self.ports.blocks.get_mut(&subscriber)?;
                block.cursor = if place + 1 == len { 0 } else { place + 1 };
                Some((key, port))
            }
        }
    }

    /// Ports of an address that no mapping has, from `from` to `to`, in order.
    fn free_in(&self, ip: IpAddr, from: u16, to: u16) -> impl Iterator<Item = u16> {
        let used = self.ports.used.get(&ip);
        let mut next = Some(from);
        core::iter::from_fn(move || {
            let port = used.map_or(next, |used| used.free_from(next?)).filter(|port| *port <= to)?;
            next = port.checked_add(1);
            Some(port)
        })
    }

    /// Ports after one of an address, round to itself: those that no mapping has, or all where they can be shared.
    fn free_after(&self, ip: IpAddr, port: u16) -> impl Iterator<Item = u16> {
        let shared = self.model.alloc == Alloc::Overload;
        let all = (1..=PORTS).filter(move |_| shared).map(move |steps| onwards(port, steps));
        let next = onwards(port, 1);
        let free = self.free_in(ip, next, u16::MAX).chain(self.free_in(ip, FIRST, next));
        free.filter(move |_| !shared).chain(all)
    }

    fn claim(&mut self, subscriber: (IpAddr, IpAddr), number: u16) {
        self.ports.taken_blocks.insert((subscriber.1, number));
        self.ports.blocks.insert(subscriber, Block { number, cursor: 0, mappings: 0 });
    }

    /// Whether a subscriber may use that endpoint, as far as blocks are concerned.
    fn claim_block_of(&mut self, internal: IpAddr, external: SocketAddr) -> bool {
        let Alloc::Block { base, len } = self.model.alloc else { return true };
        let Some(offset) = external.port().checked_sub(base) else { return false };
        let (subscriber, number) = ((internal, external.ip()), offset / len);
        match self.ports.blocks.get(&subscriber) {
            Some(block) => block.number == number,
            None if self.ports.taken_blocks.contains(&(external.ip(), number)) => false,
            None => {
                self.claim(subscriber, number);
                true
            }
        }
    }

    /// The mapping whose port a new one of that key can take: the one idle for longest of those on its address, or in its block.
    fn victim(&self, dice: &mut Dice, key: Key, pool: &[IpAddr]) -> Option<Slot> {
        let ip = pool[self.pair(dice, key.from.ip(), pool)];
        let Alloc::Block { base, len } = self.model.alloc else {
            return self.table.by_age().find(|(_, entry)| entry.external.ip() == ip).map(|(slot, _)| slot);
        };
        let first = base + self.ports.blocks.get(&(key.from.ip(), ip))?.number * len;
        let ports = (0..len).map(|n| SocketAddr::new(ip, first + n));
        let dynamic = ports.flat_map(|port| self.table.sharing(port)).filter(|(_, entry)| entry.fixed.is_none());
        dynamic.min_by_key(|(_, entry)| (entry.last, entry.id)).map(|(slot, _)| slot)
    }

    /// A free external endpoint for a static mapping.
    pub(super) fn static_place(&self, dice: &mut Dice, internal: SocketAddr, wanted: u16) -> Option<SocketAddr> {
        let pool = self.pool(internal);
        let ip = *pool.get(self.pair(dice, internal.ip(), &pool))?;
        let wanted = if wanted == 0 { internal.port() } else { wanted };
        let ports = core::iter::once(wanted).chain(self.free_after(ip, wanted));
        ports.map(|port| SocketAddr::new(ip, port)).find(|external| external.port() != 0 && !self.table.holds(external))
    }

    pub(super) fn add(&mut self, now: Time, key: Key, external: SocketAddr, fixed: Option<Time>, end: Time) -> Slot {
        self.ports.used.entry(external.ip()).or_default().insert(external.port());
        if fixed.is_none()
            && let Some(block) = self.ports.blocks.get_mut(&(key.from.ip(), external.ip()))
        {
            block.mappings += 1;
        }
        self.ended.remove(&external);
        self.table.insert(now, key, external, fixed, end)
    }

    pub(super) fn remove(&mut self, now: Time, slot: Slot) {
        let entry = self.table.remove(slot);
        self.removed(now, &entry);
    }

    /// Clears up after a mapping that has left the table.
    pub(super) fn removed(&mut self, now: Time, entry: &Entry) {
        let external = entry.external;
        if !self.table.holds(&external) {
            self.ended.put(now, external, ());
            if let Some(used) = self.ports.used.get_mut(&external.ip()) {
                used.remove(external.port());
            }
        }
        let subscriber = (entry.key.from.ip(), external.ip());
        if entry.fixed.is_none()
            && let Some(block) = self.ports.blocks.get_mut(&subscriber)
        {
            block.mappings -= 1;
            if block.mappings == 0 {
                self.ports.taken_blocks.remove(&(external.ip(), block.number));
                self.ports.blocks.remove(&subscriber);
            }
        }
    }
}
