//! The tests of the wire tier, word for word, on the null tier.
//!
//! Their files are compiled here a second time. What they call `peerwork_sim` is this file, whose [`World`] makes null nodes
//! where nothing else is said.

extern crate peerwork_sim as simulator;
extern crate self as peerwork_sim;

use core::{
    ops::{Deref, DerefMut},
    time::Duration,
};

use peerwork::{Config, Platform};
pub use simulator::{Handling, HostId, Link, millis, secs};

#[path = "active.rs"]
mod active;
#[path = "dialling.rs"]
mod dialling;
#[path = "hostile.rs"]
mod hostile;
#[path = "mayhem.rs"]
mod mayhem;
#[path = "network.rs"]
mod network;
#[path = "pair.rs"]
mod pair;
#[path = "streams.rs"]
mod streams;

/// Where a test makes a platform or a configuration, it is that of a null node.
pub fn platform() -> Platform {
    simulator::null::platform()
}

/// See [`platform`].
pub fn config() -> Config {
    Config::new(platform())
}

/// A world of null nodes.
pub struct World(simulator::World);

impl World {
    /// See [`simulator::World::new`].
    pub fn new(seed: u64) -> Self {
        Self(simulator::World::new(seed))
    }

    /// See [`simulator::World::add`].
    pub fn add(&mut self) -> HostId {
        self.0.add_with(config())
    }

    /// See [`simulator::World::run_until`]. Looks every tenth of a millisecond.
    pub fn run_until(&mut self, limit: Duration, mut done: impl FnMut(&Self) -> bool) -> bool {
        let end = self.0.now() + limit;
        while self.0.now() < end {
            if done(self) {
                return true;
            }
            self.0.run_for(Duration::from_micros(100));
        }
        done(self)
    }
}

impl Deref for World {
    type Target = simulator::World;

    fn deref(&self) -> &simulator::World {
        &self.0
    }
}

impl DerefMut for World {
    fn deref_mut(&mut self) -> &mut simulator::World {
        &mut self.0
    }
}
