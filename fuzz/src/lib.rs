//! What is fuzzed in peerwork: one function for each target, from bytes to a panic or none.
//!
//! The functions here are run by libFuzzer (`targets/`, nightly) and by `tests/corpus.rs` (stable), so what the one finds
//! the other replays. Each reads its input as a little program by way of [`Source`]: all inputs are valid, and the shorter
//! input does less. [`TARGETS`] lists them all.
//!
//! | module | what it attacks | what must hold, besides no panic |
//! |---|---|---|
//! | [`codecs`] | everything that reads bytes of strangers | split as you like, the outcome is the same; what is held is bounded; what was read can be written and read again |
//! | [`replay_log`] | the log of a recorded node | it replays, or ends in an error with words |
//! | [`machines`] | one machine alone, in a harness | every call ends in its event, once; nothing is held when everything is over |
//! | [`node_pair`] | two nodes on a bad network, with drivers and applications that misbehave | peers are who they are, streams deliver a prefix of what was sent, no hot loop, nothing left behind |
//! | [`network`] | a simulated network, whose every decision of chance is taken from the input: who fails when, which packet is lost | no rule of the simulator is broken, and everything comes right in the end |
//! | [`node_hostile`] | a node whose authenticated peer says anything on any stream | nobody else suffers |
//!
//! A log record of level `error` is a failure everywhere.

pub mod codecs;
mod hostile;
mod logs;
pub mod machines;
mod net;
mod network;
mod pair;
mod source;
mod watch;

pub use self::{
    hostile::node_hostile,
    logs::{replay_log, sound_log},
    network::network,
    pair::node_pair,
    source::Source,
};

/// A fuzz target: its name, which is also that of its binary and its folders, and its body.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: &[Target] = &[
    ("varint", codecs::varint),
    ("frame", codecs::frame),
    ("negotiate_dialer", codecs::negotiate_dialer),
    ("negotiate_listener", codecs::negotiate_listener),
    ("identify_message", codecs::identify_message),
    ("multiaddr", codecs::multiaddr),
    ("peer_id", codecs::peer_id),
    ("public_key", codecs::public_key),
    ("private_key", codecs::private_key),
    ("envelope", codecs::envelope),
    ("certificate", codecs::certificate),
    ("replay_log", replay_log),
    ("machine_identify", machines::identify),
    ("machine_ping", machines::ping),
    ("machine_perf", machines::perf),
    ("machine_request", machines::request),
    ("node_pair", node_pair),
    ("node_hostile", node_hostile),
    ("network", network),
];

/// Runs a target by name.
///
/// # Panics
///
/// If there is no such target, and on every finding.
pub fn run(name: &str, data: &[u8]) {
    watch::install();
    let (_, body) = TARGETS.iter().find(|(known, _)| *known == name).expect("a target of this name");
    body(data);
}

/// The body of a libFuzzer binary for the target of this name.
#[cfg(feature = "libfuzzer")]
#[macro_export]
macro_rules! fuzz {
    ($name:literal) => {
        libfuzzer_sys::fuzz_target!(|data: &[u8]| $crate::run($name, data));
    };
}
