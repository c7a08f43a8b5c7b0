//! What peers say to each other once bytes move: one machine for each protocol.
//!
//! A *machine* is one protocol as a state machine. Machines are flat siblings, none holds another; the hub
//! ([`node`](crate::node)) dispatches to them with a static `match`. Each reacts to three things:
//!
//! ```text
//! on_net(cx, NetEvent)     connected, stream opened, frame, data, closed, ...
//! on_timer(cx, Token)      a timer it set
//! on_signal(cx, &Signal)   something a sibling found out
//! ```
//!
//! and pushes what follows into the sinks of its [`Cx`](crate::node::Cx). The DHT (`kad/`), gossip (`gossip/`), relay, DCUtR,
//! AutoNAT, PEX and rendezvous will live here as further siblings: a folder, a [`MachineId`], a line in the hub's match.

pub mod identify;
pub mod perf;
pub mod ping;
pub mod request;

/// The machines of a node, for timers, statistics and the protocol registry.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[non_exhaustive]
pub enum MachineId {
    /// [`identify`]
    Identify,
    /// [`ping`]
    Ping,
    /// [`perf`]
    Perf,
    /// [`request`]
    Request,
}
