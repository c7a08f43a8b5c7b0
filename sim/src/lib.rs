//! Whole networks of production nodes in one process, deterministic to the last byte.
//!
//! A [`World`] has hosts, each with one [`Node`](peerwork::Node), and a network between them. It never ticks: it sleeps
//! exactly to the next packet's arrival or the next [`Node::poll_timeout`](peerwork::Node::poll_timeout), so a wake-up
//! that a node forgets to ask for is a test that hangs in virtual time. Everything random is a named draw of the world's
//! [dice](dice::Dice), and everything that nodes put out goes into a [digest](World::digest): two runs of one seed are
//! equal, or something has drawn what it should not.
//!
//! ```
//! use peerwork::{Dial, Event};
//! use peerwork_sim::{World, secs};
//!
//! let mut world = World::new(1);
//! let (a, b) = (world.add(), world.add());
//! let address = world.listen(b);
//! world.call(a, |node, now| node.dial(now, Dial::address(address))).unwrap();
//! assert!(world.run_until(secs(2), |world| world.saw(b, |event| matches!(event, Event::Identified { .. }))));
//! ```
//!
//! On top of it, a [`Scenario`] describes whole networks: groups of nodes, where they are and what stands before them, what
//! they do, what goes wrong, and what must come true. The [`guide`] shows how one is written, as a file or in Rust.
//!
//! Two things have their place and are still to come. A third [`Tier`], in which protocols are real and the transport is a model, for
//! 100,000 nodes. And an engine on two threads: events have a [key](wheel::EventKey) that orders them totally, whatever thread they
//! come from, draws have names instead of an order, and [`Regions::lookahead`](net::region::Regions::lookahead) is how far two
//! halves of the world may run apart.

pub mod bench;
pub mod bugs;
pub mod dice;
pub mod net;
pub mod null;
pub mod outcome;
pub mod plan;
pub mod report;
pub mod run;
pub mod scenario;
pub mod search;
pub mod testing;
pub mod tier;
pub mod trace;
pub mod units;
pub mod wheel;
pub mod world;

#[doc = include_str!("guide.md")]
pub mod guide {}

use std::{
    net::SocketAddr,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use peerwork::{Config, Multiaddr, Platform, multiaddr::Protocol};

pub use self::{
    outcome::Outcome,
    scenario::Scenario,
    search::repro::assert_fixed,
    tier::Tier,
    world::{Handling, HostId, Link, Place, World},
};

/// That many seconds.
pub const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// That many milliseconds.
pub const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// What nodes in a world compute with. The instant is any instant; nothing depends on it.
pub fn platform() -> Platform {
    static ORIGIN: OnceLock<Instant> = OnceLock::new();
    static CRYPTO: OnceLock<Arc<rustls::crypto::CryptoProvider>> = OnceLock::new();
    let crypto = CRYPTO.get_or_init(|| Arc::new(rustls::crypto::ring::default_provider())).clone();
    Platform::new(crypto, *ORIGIN.get_or_init(Instant::now))
}

/// The default configuration on [`platform`].
pub fn config() -> Config {
    Config::new(platform())
}

/// The IP address and UDP port with which an address begins.
pub(crate) fn socket_address(address: &Multiaddr) -> Option<SocketAddr> {
    let mut parts = address.iter();
    let ip = match parts.next()? {
        Protocol::Ip4(ip) => ip.into(),
        Protocol::Ip6(ip) => ip.into(),
        _ => return None,
    };
    let Protocol::Udp(port) = parts.next()? else { return None };
    Some(SocketAddr::new(ip, port))
}
