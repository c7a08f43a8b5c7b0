//! What runs take care of around faults: who acts, who forgets, who is examined.

use std::time::Duration;

use peerwork_sim::{Scenario, Tier, net::nat::NatModel, scenario::Fault, secs};

#[test]
fn a_place_without_udp_is_not_examined() {
    let mut s = Scenario::new("walled", secs(5));
    s.tier(Tier::Null).settling(secs(20));
    s.group("open", 2);
    s.group("walled", 1).nat(NatModel::blocked()).bootstrap("open");
    let outcome = s.run(1).unwrap();
    assert!(outcome.passed(), "{:?} {:?}", outcome.violations, outcome.claims);
    assert_eq!(outcome.counters["exam.held"], 2);
}

#[test]
fn nodes_without_boxes_have_nothing_that_a_rebinding_could_forget() {
    let mut s = Scenario::new("rebound", secs(20));
    s.tier(Tier::Null).settling(secs(10));
    s.group("n", 4).bootstrap("n");
    s.at(secs(5)).rebind("all");
    s.every(secs(1)).ask("n", "n").from(secs(1));
    s.expect_ratio("ask.ok", "ask.tried").at_least(1.0);
    let outcome = s.run(1).unwrap();
    assert!(outcome.passed(), "{:?} {:?}", outcome.violations, outcome.claims);
    assert!(!outcome.counters.contains_key("disconnects.idle"), "{:?}", outcome.counters);
}

/// Seed 3 of `roaming` once had an application that asked while its machine slept.
#[test]
fn a_sleeping_node_does_nothing_and_does_not_wake_before_its_longest_sleep_is_over() {
    let mut s = Scenario::new("asleep", secs(40));
    s.tier(Tier::Null).settling(secs(30));
    s.group("server", 1);
    s.group("phone", 1).bootstrap("server");
    s.every(secs(1)).ask("phone", "server");
    s.at(secs(10)).suspend("phone").lasting(secs(20));
    s.at(secs(15)).suspend("phone").lasting(secs(1));
    s.at(secs(16)).fault(Fault::Block { who: "phone".into() }).lasting(secs(1));
    let outcome = s.run(1).unwrap();
    assert!(outcome.passed(), "{:?} {:?}", outcome.violations, outcome.claims);
    assert_eq!(outcome.counters["work.skipped"], 19, "{:?}", outcome.counters);
    let rtt = Duration::from_micros(outcome.histograms["ask.latency"].max);
    assert!(rtt < secs(10), "no question waited while its machine slept: {rtt:?}");
}
