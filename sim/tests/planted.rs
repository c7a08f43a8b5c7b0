//! The simulator's own examination: bugs planted in production nodes are found by a sweep, cut down to a few operations, and
//! happen again from the file that is left. Without them, the same sweep passes.

use peerwork_sim::{
    Scenario, bugs,
    run::RunOptions,
    scenario::library,
    search::{
        repro::Repro,
        shrink::{ShrinkOptions, shrink},
        sweep::{SweepOptions, sweep},
    },
};

/// Seeds in which each bug has to show.
const SEEDS: u64 = 48;

fn swarm() -> Scenario {
    library::named("swarm").unwrap()
}

fn is_found_shrunk_and_replayed(bug: &str, invariants: &[&str]) {
    let mut scenario = swarm();
    scenario.bugs.insert(bug.to_owned());
    let options = SweepOptions { stop_at_failure: true, ..SweepOptions::default() };
    let swept = sweep(&scenario, 0..SEEDS, &options).unwrap();
    let (fingerprint, seed) = swept.failures.first_key_value().expect("the sweep finds the bug");
    assert!(invariants.contains(&fingerprint.invariant.as_str()), "{fingerprint}");

    let shrunk = shrink(&scenario, *seed, &ShrinkOptions::default()).unwrap();
    assert!(shrunk.repro.plan.len() <= 10, "{} operations are left of {}", shrunk.repro.plan.len(), shrunk.before);

    let file = shrunk.repro.to_toml().unwrap();
    let repro = Repro::from_toml(&file).unwrap_or_else(|error| panic!("{error}\n{file}"));
    assert_eq!(repro, shrunk.repro);
    let again = repro.run(RunOptions::default()).unwrap().outcome;
    assert!(repro.is_confirmed_by(&again), "{:?}\n{file}", again.violations);
    assert_eq!(again, repro.run(RunOptions::default()).unwrap().outcome, "to the last byte");

    // It is the bug: without it, the same operations do no harm.
    let mut mended = repro.clone();
    mended.scenario.bugs.clear();
    let mended = mended.run(RunOptions::default()).unwrap().outcome;
    assert!(mended.passed(), "{:?}\n{file}", mended.violations);

    let test = repro.to_test().unwrap();
    assert!(test.contains("#[test]") && test.contains("assert_fixed"), "{test}");
}

#[test]
fn a_lost_wake_up_is_found() {
    is_found_shrunk_and_replayed("lost-wake-up", &["deadline.idle", "leak"]);
}

#[test]
fn an_unbounded_queue_is_found() {
    is_found_shrunk_and_replayed("unbounded-queue", &["leak", "caps"]);
}

#[test]
fn a_double_delivery_is_found() {
    is_found_shrunk_and_replayed("double-delivery", &["request.delivered-twice"]);
}

#[test]
fn a_wrong_timeout_is_found() {
    is_found_shrunk_and_replayed("wrong-timeout", &["deadline.dial"]);
}

#[test]
fn every_bug_has_words_and_none_is_found_where_none_is_planted() {
    for name in bugs::NAMES {
        assert_ne!(bugs::about(name), "no such bug");
    }
    // From fifty seeds on, the sweep must also have reached what the scenario says.
    let seeds = if cfg!(debug_assertions) { 16 } else { 64 };
    let swept = sweep(&swarm(), 0..seeds, &SweepOptions::default()).unwrap();
    assert!(swept.passed(), "{:?} {:?}", swept.failures, swept.never_hit);
}

#[test]
fn a_test_that_fails_says_what_is_left_of_the_failure_and_how_to_repeat_it() {
    let mut scenario = swarm();
    scenario.bugs.insert("wrong-timeout".to_owned());
    let failed = std::panic::catch_unwind(|| peerwork_sim::testing::assert_passes(&scenario, 0..4, None));
    let words = failed.expect_err("the bug is found");
    let words = words.downcast_ref::<String>().expect("in words");
    for part in ["swarm: ", "deadline.dial", "PEERWORK_SIM_SEED=", "shrunk from ", ": join", "peerwork sim replay "] {
        assert!(words.contains(part), "{part}: {words}");
    }
    let file = words.rsplit("peerwork sim replay ").next().unwrap().trim();
    let repro = Repro::from_file(file.as_ref()).unwrap();
    assert!(repro.is_confirmed_by(&repro.run(RunOptions::default()).unwrap().outcome));
}

/// A network in which nothing is done fails every claim that something be: that is not what a failed claim is cut down to.
#[test]
fn a_claim_that_fails_is_cut_down_to_the_faults_that_make_it_fail() {
    let mut s = Scenario::new("claim", peerwork_sim::secs(20));
    s.tier(peerwork_sim::Tier::Null);
    s.group("boot", 1).core();
    s.group("n", 3).bootstrap("boot");
    s.every(peerwork_sim::secs(1)).ask("n", "boot");
    s.at(peerwork_sim::secs(2)).rebind("n");
    s.at(peerwork_sim::secs(5)).partition("n", "all").lasting(peerwork_sim::secs(14));
    s.expect_ratio("ask.ok", "ask.tried").at_least(0.9);
    let shrunk = shrink(&s, 1, &ShrinkOptions::default()).unwrap();
    let faults = shrunk.repro.plan.iter().filter(|op| op.is_fault()).count();
    assert_eq!((faults, shrunk.repro.plan.len()), (1, shrunk.before - 3), "{:?}", shrunk.repro.plan);
    assert!(shrunk.repro.detail.starts_with("ask.ok / ask.tried >= 0.9: 0."), "{}", shrunk.repro.detail);
}
