//! A scenario and a seed give one digest: again, in another process, on other threads, in debug and release builds, on any
//! machine.

use std::{fmt::Write as _, process::Command};

use peerwork_sim::{
    Outcome, Tier,
    run::{RunOptions, run_seed},
    scenario::library,
};

/// Scenarios and seeds that cover the most.
const RUNS: [(&str, Tier, u64); 4] =
    [("halves", Tier::Wire, 1), ("halves", Tier::Null, 1), ("swarm", Tier::Null, 3), ("swarm", Tier::Wire, 4)];

fn run(name: &str, tier: Tier, seed: u64) -> Outcome {
    let mut scenario = library::named(name).unwrap();
    scenario.tier = tier;
    run_seed(&scenario, seed, RunOptions::default()).unwrap().outcome
}

fn table() -> String {
    let mut table = String::new();
    for (name, tier, seed) in RUNS {
        let outcome = run(name, tier, seed);
        assert!(outcome.passed(), "{:?}", outcome.violations);
        let _ = writeln!(table, "{name} {tier} {seed} {}", outcome.digest);
    }
    table
}

#[test]
fn debug_and_release_builds_give_the_recorded_digests() {
    let recorded = include_str!("digests.txt");
    assert_eq!(table(), recorded, "if you changed what nodes put out, write the left side to sim/tests/digests.txt");
}

#[test]
fn another_process_gives_the_same_digests() {
    const CHILD: &str = "PEERWORK_SIM_DIGESTS";
    let own = table();
    if std::env::var_os(CHILD).is_some() {
        println!("\n{own}");
        return;
    }
    let test = "another_process_gives_the_same_digests";
    let exe = std::env::current_exe().unwrap();
    let child = Command::new(exe).args([test, "--exact", "--nocapture"]).env(CHILD, "1").output().unwrap();
    let out = String::from_utf8_lossy(&child.stdout).into_owned();
    assert!(out.contains(&own), "{own}\n{out}");
}

#[test]
fn two_runs_are_equal_in_everything_and_other_seeds_are_not() {
    let (one, again) = (run("swarm", Tier::Null, 5), run("swarm", Tier::Null, 5));
    assert_eq!(one, again);
    assert_ne!(one.digest, run("swarm", Tier::Null, 6).digest);
}

#[test]
fn every_packet_is_delivered_or_dropped_for_a_reason_or_still_under_way() {
    for seed in 0..6 {
        let outcome = run("swarm", Tier::Null, seed);
        let packets = &outcome.packets;
        let dropped: u64 = packets.dropped.values().sum();
        assert_eq!(packets.sent, packets.delivered + dropped + packets.in_flight, "{packets:?}");
        assert!(packets.dropped.keys().all(|cause| !cause.is_empty()) && dropped > 0, "{packets:?}");
    }
}
