//! Hash maps whose order no peer can predict and every replay repeats.
//!
//! Keys come from peers (ids, protocol names, addresses), so the hash is keyed SipHash-1-3; the key comes from the
//! node's root of randomness. Iteration order must still never reach an output: maps here are for look-ups.

use core::hash::BuildHasher;

use siphasher::sip::SipHasher13;

use crate::entropy::Rng;

/// Builds hashers with the node's key.
#[derive(Clone, Copy)]
pub(crate) struct NodeHasher(u64, u64);

impl NodeHasher {
    pub(crate) fn new(rng: &mut Rng) -> Self {
        Self(u64::from_le_bytes(rng.array()), u64::from_le_bytes(rng.array()))
    }
}

impl BuildHasher for NodeHasher {
    type Hasher = SipHasher13;

    fn build_hasher(&self) -> SipHasher13 {
        SipHasher13::new_with_keys(self.0, self.1)
    }
}

/// A hash map keyed by the node.
pub(crate) type Map<K, V> = hashbrown::HashMap<K, V, NodeHasher>;
