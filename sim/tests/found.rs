//! Failures that sweeps have found, shrunk, and what has become of them.

use peerwork_sim::{run::RunOptions, search::repro::Repro};

/// A peer changes its address while packets to it are lost. The QUIC library (noq-proto 1.4) gives the new path up and has nothing to
/// go back to: packets still come in, so that the idle timeout never fires, and nothing gets through.
#[test]
fn a_connection_whose_path_was_lost_on_the_move_ends_when_pings_go_unanswered() {
    let repro = Repro::from_toml(include_str!("found/path-lost-on-the-move.toml")).unwrap();
    let outcome = repro.run(RunOptions::default()).unwrap().outcome;
    assert!(
        repro.is_confirmed_by(&outcome),
        "without such pings it came right: is the library's bug gone? {outcome:?}"
    );

    let mut mended = repro.clone();
    for group in &mut mended.scenario.groups {
        group.settings.ping_max_unanswered = None;
    }
    let outcome = mended.run(RunOptions::default()).unwrap().outcome;
    assert!(outcome.passed(), "{:?}", outcome.violations);
    assert!(outcome.counters.contains_key("disconnects.unresponsive"), "{:?}", outcome.counters);
}
