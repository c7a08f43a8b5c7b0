//! Whom the node knows and is connected to.
//!
//! Addresses come from identify and from the application. They are claims: each is proven only by dialling it. The book is
//! bounded in peers and in addresses for each; connected peers are never forgotten, of the others the one that
//! disconnected longest ago goes first.
//!
//! Reputation, health and the address book's buckets will live in this folder.

use std::{collections::BTreeMap, sync::Arc};

use multiaddr::Multiaddr;

use crate::{
    event::ConnId,
    hash::{Map, NodeHasher},
    identity::PeerId,
    limits,
    protocol::identify::PeerInfo,
};

#[derive(Default)]
struct Peer {
    conns: Vec<ConnId>,
    /// Most recently learnt first.
    addresses: Vec<Multiaddr>,
    info: Option<Arc<PeerInfo>>,
    /// Place in the queue of the forgettable, if not connected.
    idle: Option<u64>,
}

/// The address book.
pub(crate) struct Peers {
    map: Map<PeerId, Peer>,
    idle: BTreeMap<u64, PeerId>,
    next_idle: u64,
}

impl Peers {
    pub(crate) fn new(hasher: NodeHasher) -> Self {
        Self { map: Map::with_hasher(hasher), idle: BTreeMap::new(), next_idle: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.map.len()
    }

    /// Established connections to a peer, oldest first.
    pub(crate) fn conns(&self, peer: PeerId) -> &[ConnId] {
        self.map.get(&peer).map_or(&[], |peer| &peer.conns)
    }

    pub(crate) fn addresses(&self, peer: PeerId) -> &[Multiaddr] {
        self.map.get(&peer).map_or(&[], |peer| &peer.addresses)
    }

    pub(crate) fn info(&self, peer: PeerId) -> Option<&Arc<PeerInfo>> {
        self.map.get(&peer)?.info.as_ref()
    }

    pub(crate) fn connected(&mut self, peer: PeerId, conn: ConnId) {
        let entry = self.map.entry(peer).or_default();
        entry.conns.push(conn);
        if let Some(place) = entry.idle.take() {
            self.idle.remove(&place);
        }
    }

    /// Says whether somebody was forgotten.
    pub(crate) fn disconnected(&mut self, peer: PeerId, conn: ConnId) -> bool {
        if let Some(entry) = self.map.get_mut(&peer) {
            entry.conns.retain(|other| *other != conn);
            if entry.conns.is_empty() {
                return self.set_idle(peer);
            }
        }
        false
    }

    /// Adds an address, as the first to be tried. Says whether somebody was forgotten.
    pub(crate) fn learn(&mut self, peer: PeerId, address: Multiaddr) -> bool {
        let entry = self.map.entry(peer).or_default();
        entry.addresses.retain(|known| *known != address);
        entry.addresses.insert(0, address);
        entry.addresses.truncate(limits::ADDRESSES_PER_PEER);
        entry.conns.is_empty() && entry.idle.is_none() && self.set_idle(peer)
    }

    /// Takes what a connected peer said about itself.
    pub(crate) fn identified(&mut self, info: &Arc<PeerInfo>) {
        let Some(entry) = self.map.get_mut(&info.peer) else { return };
        entry.info = Some(info.clone());
        for address in info.listen_addrs.iter().take(limits::ADDRESSES_PER_PEER) {
            if !entry.addresses.contains(address) {
                entry.addresses.push(address.clone());
            }
        }
        entry.addresses.truncate(limits::ADDRESSES_PER_PEER);
    }

    fn set_idle(&mut self, peer: PeerId) -> bool {
        self.next_idle += 1;
        if let Some(entry) = self.map.get_mut(&peer) {
            entry.idle = Some(self.next_idle);
            self.idle.insert(self.next_idle, peer);
        }
        let full = self.idle.len() > limits::KNOWN_PEERS;
        while self.idle.len() > limits::KNOWN_PEERS {
            if let Some((_, forgotten)) = self.idle.pop_first() {
                self.map.remove(&forgotten);
            }
        }
        full
    }
}
