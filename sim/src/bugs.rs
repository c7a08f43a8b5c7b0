//! Bugs to plant in nodes, to see whether the simulator finds them.

use std::collections::BTreeSet;

use peerwork::Config;

/// The bugs that there are.
pub const NAMES: [&str; 0] = [];

/// Plants bugs in a node's configuration.
pub fn plant(config: &mut Config, bugs: &BTreeSet<String>) {
    let _ = (config, bugs);
}
