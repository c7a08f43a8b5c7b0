//! A whole network in which the input takes every decision.

use std::sync::LazyLock;

use peerwork_sim::{
    Scenario, Tier,
    net::nat::NatModel,
    run::{RunOptions, run_seed},
    secs,
};

/// Five nodes, one of them behind a NAT, with work to do and everything that can go wrong.
static SCENARIO: LazyLock<Scenario> = LazyLock::new(|| {
    let mut s = Scenario::new("fuzzed", secs(20));
    s.tier(Tier::Null).settling(secs(90));
    s.group("boot", 1).core();
    s.group("n", 3).bootstrap("boot").join_over(secs(2));
    s.group("home", 1).bootstrap("boot").nat(NatModel::port_restricted());
    s.every(secs(1)).ask("all", "n").size(2_000);
    s.every(secs(4)).send("all", "boot").size(20_000);
    s.every(secs(5)).hang("n", "all");
    s.swarm();
    s
});

/// Plans and runs a network by the decisions in `data`. What comes after their end is as if nothing ever went wrong.
///
/// # Panics
///
/// If a rule is broken.
pub fn network(data: &[u8]) {
    let options = RunOptions { tape: Some(data.to_vec()), ..RunOptions::default() };
    let outcome = run_seed(&SCENARIO, 0, options).expect("a valid scenario").outcome;
    assert!(outcome.passed(), "{:?}", outcome.violations);
}
