//! A NAT's mappings: found by key and by external endpoint, ordered by use, each with a time at which it ends.
//!
//! Nobody wakes up for the end of a mapping. A heap holds for each mapping a time at which to look at it, at or before its end;
//! traffic moves ends back without touching the heap, and [`Table::expired`] looks at what is due and puts it back if it has
//! moved. That is constant time per packet, and one look per mapping and timeout.

use core::cmp::Reverse;
use std::{
    collections::BinaryHeap,
    net::{IpAddr, SocketAddr},
};

use peerwork::Time;

use super::recent::Map;

/// To which destinations a mapping belongs.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum To {
    Any,
    Address(IpAddr),
    Endpoint(SocketAddr),
}

/// What a mapping is for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Key {
    pub(super) from: SocketAddr,
    pub(super) to: To,
}

/// A place in the table. Reused; see [`Entry::id`].
pub(super) type Slot = u32;

const NONE: Slot = Slot::MAX;

#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// Never used again by another mapping of this table.
    pub(super) id: u64,
    pub(super) key: Key,
    pub(super) external: SocketAddr,
    /// Last packet that counts.
    pub(super) last: Time,
    pub(super) replied: bool,
    /// Set for mappings that were asked for by protocol: they let everybody in and end at this time, traffic or not.
    pub(super) fixed: Option<Time>,
    /// When it ends, unless there is more traffic.
    pub(super) end: Time,
    /// Neighbours in order of use.
    newer: Slot,
    older: Slot,
    /// The next mapping with the same external endpoint.
    shared: Slot,
}

#[derive(Default)]
pub(super) struct Table {
    slots: Vec<Option<Entry>>,
    free: Vec<Slot>,
    by_key: Map<Key, Slot>,
    by_external: Map<SocketAddr, Slot>,
    looks: BinaryHeap<Reverse<(Time, u64, Slot)>>,
    next_id: u64,
    newest: Option<Slot>,
    oldest: Option<Slot>,
}

impl Table {
    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(super) fn get(&self, slot: Slot) -> Option<&Entry> {
        self.slots.get(slot as usize)?.as_ref()
    }

    fn at(&self, slot: Slot) -> &Entry {
        self.get(slot).expect("links of the table lead to mappings")
    }

    fn at_mut(&mut self, slot: Slot) -> &mut Entry {
        self.slots[slot as usize].as_mut().expect("links of the table lead to mappings")
    }

    pub(super) fn find(&self, key: &Key) -> Option<Slot> {
        self.by_key.get(key).copied()
    }

    pub(super) fn holds(&self, external: &SocketAddr) -> bool {
        self.by_external.contains_key(external)
    }

    /// All mappings of an external endpoint, the newest first.
    pub(super) fn sharing(&self, external: SocketAddr) -> impl Iterator<Item = (Slot, &Entry)> {
        let mut next = self.by_external.get(&external).copied();
        core::iter::from_fn(move || {
            let slot = next?;
            let entry = self.at(slot);
            next = (entry.shared != NONE).then_some(entry.shared);
            Some((slot, entry))
        })
    }

    /// All mappings in the order of their places.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.slots.iter().flatten()
    }

    /// From the one that was idle for longest, without those asked for by protocol.
    pub(super) fn by_age(&self) -> impl Iterator<Item = (Slot, &Entry)> {
        let mut next = self.oldest;
        core::iter::from_fn(move || {
            let slot = next?;
            let entry = self.at(slot);
            next = (entry.newer != NONE).then_some(entry.newer);
            Some((slot, entry))
        })
    }

    pub(super) fn insert(&mut self, now: Time, key: Key, external: SocketAddr, fixed: Option<Time>, end: Time) -> Slot {
        let id = self.next_id;
        self.next_id += 1;
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            Slot::try_from(self.slots.len() - 1).expect("a NAT has at most MOST_MAPPINGS mappings")
        });
        let shared = self.by_external.insert(external, slot).unwrap_or(NONE);
        let entry =
            Entry { id, key, external, last: now, replied: false, fixed, end, newer: NONE, older: NONE, shared };
        self.slots[slot as usize] = Some(entry);
        self.by_key.insert(key, slot);
        if fixed.is_none() {
            self.link(slot);
        }
        self.look(end, id, slot);
        slot
    }

    fn look(&mut self, at: Time, id: u64, slot: Slot) {
        // Evicted mappings leave their looks behind.
        if self.looks.len() > 64 + 2 * self.len() {
            let looks = core::mem::take(&mut self.looks);
            let live = |(_, id, slot): &(Time, u64, Slot)| self.get(*slot).is_some_and(|entry| entry.id == *id);
            let looks: BinaryHeap<_> = looks.into_iter().filter(|Reverse(look)| live(look)).collect();
            self.looks = looks;
        }
        self.looks.push(Reverse((at, id, slot)));
    }

    fn link(&mut self, slot: Slot) {
        let older = self.newest.replace(slot).unwrap_or(NONE);
        if older == NONE {
            self.oldest = Some(slot);
        } else {
            self.at_mut(older).newer = slot;
        }
        let entry = self.at_mut(slot);
        (entry.older, entry.newer) = (older, NONE);
    }

    fn unlink(&mut self, slot: Slot) {
        let (older, newer) = (self.at(slot).older, self.at(slot).newer);
        if older == NONE {
            self.oldest = (newer != NONE).then_some(newer);
        } else {
            self.at_mut(older).newer = newer;
        }
        if newer == NONE {
            self.newest = (older != NONE).then_some(older);
        } else {
            self.at_mut(newer).older = older;
        }
    }

    /// A packet went through. Ends only ever move back, unless the mapping was asked for by protocol.
    pub(super) fn used(&mut self, slot: Slot, change: impl FnOnce(&mut Entry)) {
        if self.at(slot).fixed.is_some() {
            change(self.at_mut(slot));
            return;
        }
        self.unlink(slot);
        change(self.at_mut(slot));
        self.link(slot);
    }

    /// A new end for a mapping asked for by protocol.
    pub(super) fn renew(&mut self, slot: Slot, until: Time) {
        let entry = self.at_mut(slot);
        (entry.fixed, entry.end) = (Some(until), until);
        let id = entry.id;
        self.look(until, id, slot);
    }

    pub(super) fn remove(&mut self, slot: Slot) -> Entry {
        if self.at(slot).fixed.is_none() {
            self.unlink(slot);
        }
        let entry = self.slots[slot as usize].take().expect("a mapping to remove");
        self.free.push(slot);
        self.by_key.remove(&entry.key);
        let head = self.by_external[&entry.external];
        if head != slot {
            let mut before = head;
            while self.at(before).shared != slot {
                before = self.at(before).shared;
            }
            self.at_mut(before).shared = entry.shared;
        } else if entry.shared == NONE {
            self.by_external.remove(&entry.external);
        } else {
            self.by_external.insert(entry.external, entry.shared);
        }
        entry
    }

    /// Removes and returns a mapping that has ended, if there is one.
    pub(super) fn expired(&mut self, now: Time) -> Option<Entry> {
        while let Some(Reverse((at, id, slot))) = self.looks.peek().copied() {
            if at > now {
                return None;
            }
            self.looks.pop();
            let Some(end) = self.get(slot).filter(|entry| entry.id == id).map(|entry| entry.end) else { continue };
            if end <= now {
                return Some(self.remove(slot));
            }
            self.looks.push(Reverse((end, id, slot)));
        }
        None
    }

    #[cfg(test)]
    pub(super) fn looks(&self) -> usize {
        self.looks.len()
    }
}
