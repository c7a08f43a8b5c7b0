//! A map that forgets: bounded in size and time, in constant time per operation.
//!
//! Entries live in two generations. New and renewed ones go into the young generation; when that has served for a whole span,
//! or is full, it becomes the old one, and the old one goes. So an entry that was renewed less than a span ago is there, unless
//! more than a capacity of others came after it. Whether an entry is still good is for its user to say, by the times in it.

use core::{
    hash::{BuildHasherDefault, Hash},
    time::Duration,
};

use peerwork::Time;
use siphasher::sip::SipHasher13;

/// A hash map that is the same in every process. Nobody may look at its order.
pub(super) type Map<K, V> = hashbrown::HashMap<K, V, BuildHasherDefault<SipHasher13>>;

pub(super) struct Recent<K, V> {
    young: Map<K, V>,
    old: Map<K, V>,
    since: Time,
    span: Duration,
    capacity: usize,
}

impl<K: Eq + Hash, V> Recent<K, V> {
    pub(super) fn new(span: Duration, capacity: usize) -> Self {
        Self { young: Map::default(), old: Map::default(), since: Time::ZERO, span, capacity: capacity.max(1) }
    }

    pub(super) fn get(&self, key: &K) -> Option<&V> {
        self.young.get(key).or_else(|| self.old.get(key))
    }

    /// Adds or renews.
    pub(super) fn put(&mut self, now: Time, key: K, value: V) {
        if now.since(self.since) >= self.span || self.young.len() >= self.capacity && !self.young.contains_key(&key) {
            self.old = core::mem::take(&mut self.young);
            self.since = now;
        }
        self.old.remove(&key);
        self.young.insert(key, value);
    }

    pub(super) fn remove(&mut self, key: &K) {
        self.young.remove(key);
        self.old.remove(key);
    }

    pub(super) fn clear(&mut self) {
        self.young.clear();
        self.old.clear();
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }
}
