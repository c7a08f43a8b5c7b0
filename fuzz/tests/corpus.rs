//! Runs every target over its committed corpus, over everything that it once failed on, and over some noise. On stable.

use std::{fs, path::Path};

use peerwork::Rng;
use peerwork_fuzz::{TARGETS, run};

fn replay(name: &str, folder: &str) -> usize {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder).join(name);
    let Ok(entries) = fs::read_dir(&folder) else { return 0 };
    let mut files: Vec<_> = entries.map(|entry| entry.expect("a readable folder").path()).collect();
    files.sort();
    for file in &files {
        eprintln!("{}", file.display());
        run(name, &fs::read(file).expect("a readable file"));
    }
    files.len()
}

/// Noise that is not only noise: runs of a byte, small numbers, and repetitions.
fn noise(rng: &mut Rng, longest: u64) -> Vec<u8> {
    let mut data = vec![0; rng.below(longest) as usize];
    rng.fill(&mut data);
    let small = 1 + rng.below(255) as u8;
    if rng.below(2) == 0 {
        data.iter_mut().for_each(|byte| *byte %= small);
    }
    if rng.below(4) == 0 && data.len() > 8 {
        let (from, to) = data.split_at_mut(4);
        to[..4].copy_from_slice(from);
    }
    data
}

fn all_of(name: &str, inputs: u64, longest: u64) {
    assert!(replay(name, "corpus") > 0, "{name} has no corpus");
    replay(name, "regressions");
    for seed in 0..inputs {
        let data = noise(&mut Rng::from_seed(seed), longest);
        // Nextest shows this if it fails: `cargo fuzz` takes the bytes, or put them into `regressions/`.
        let failed = std::panic::catch_unwind(|| run(name, &data));
        assert!(failed.is_ok(), "noise {seed} of {name}: {data:02x?}");
    }
}

macro_rules! targets {
    ($($name:ident: $inputs:literal of $longest:literal;)*) => {
        $(#[test]
        fn $name() {
            all_of(stringify!($name), $inputs, $longest);
        })*

        #[test]
        fn every_target_is_replayed() {
            let known: Vec<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
            assert_eq!(known, [$(stringify!($name)),*]);
        }
    };
}

targets! {
    varint: 2000 of 16;
    frame: 1000 of 300;
    negotiate_dialer: 500 of 300;
    negotiate_listener: 500 of 300;
    identify_message: 500 of 2000;
    multiaddr: 1000 of 60;
    peer_id: 1000 of 64;
    public_key: 200 of 120;
    private_key: 200 of 120;
    envelope: 100 of 300;
    certificate: 100 of 60;
    replay_log: 60 of 600;
    machine_identify: 200 of 400;
    machine_ping: 500 of 600;
    machine_perf: 500 of 600;
    machine_request: 500 of 600;
    node_pair: 120 of 600;
    node_hostile: 60 of 600;
    network: 24 of 4000;
}
