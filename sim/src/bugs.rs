//! Bugs to plant in nodes, to see whether the simulator finds them. Scenarios name them in `bugs`; the program's `canary` plants
//! one after the other, and fails if one goes unnoticed.

use std::collections::BTreeSet;

use peerwork::{
    Config,
    simulation::{Bug, Bugs},
};

/// Names of the bugs that there are.
pub const NAMES: [&str; 4] = ["lost-wake-up", "unbounded-queue", "double-delivery", "wrong-timeout"];

/// What is wrong with a node that has the bug of this name, in words.
pub fn about(name: &str) -> &'static str {
    match name {
        "lost-wake-up" => "a connection sets no timer for a deadline that is more than five seconds away",
        "unbounded-queue" => "pings that time out leave an entry behind for ever",
        "double-delivery" => "a request that arrives while another is being served is delivered twice",
        "wrong-timeout" => "a node with three connections or more takes ten times as long to give a dial up",
        _ => "no such bug",
    }
}

/// Plants bugs in a node's configuration, which has its platform already. Names that there are not plant nothing.
pub fn plant(config: &mut Config, names: &BTreeSet<String>) {
    let bugs = names.iter().fold(Bugs::default(), |bugs, name| match name.as_str() {
        "lost-wake-up" => bugs.and(Bug::LostWakeUp),
        "unbounded-queue" => bugs.and(Bug::UnboundedQueue),
        "double-delivery" => bugs.and(Bug::DoubleDelivery),
        "wrong-timeout" => bugs.and(Bug::WrongTimeout),
        _ => bugs,
    });
    config.platform = config.platform.take().map(|platform| platform.with_bugs(bugs));
}
