//! The core does no IO, reads no clock, draws no entropy and starts no thread: shown by its dependencies and its source.

use std::{collections::BTreeSet, fs, path::Path, process::Command};

/// Crates that do what the core must not. `getrandom` comes with noq-proto's `rand` and cannot be left out; that nothing
/// calls it is shown by the transcripts in `sim/tests/determinism.rs`, which would differ from run to run.
const BANNED: &[&str] = &[
    "tokio",
    "mio",
    "smol",
    "async-io",
    "async-executor",
    "async-std",
    "polling",
    "socket2",
    "noq-udp",
    "noq",
    "quinn",
    "ring",
    "aws-lc-rs",
    "aws-lc-sys",
    "openssl",
    "hickory-resolver",
    "if-addrs",
    "redb",
    "chrono",
    "web-time",
    "parking_lot",
    "crossbeam-channel",
    "rayon",
    "anyhow",
    "futures-util",
    "futures-executor",
];

/// Words that have no place in the core's source, outside comments and tests.
const WORDS: &[&str] = &[
    "Instant::now",
    "SystemTime::now",
    ".elapsed()",
    "UdpSocket",
    "TcpStream",
    "TcpListener",
    "std::fs",
    "std::thread",
    "std::env::",
    "std::process",
    "std::io::",
    "thread_rng",
    "rand::rng()",
    "OsRng",
    "getrandom",
    "async fn",
    ".await",
    "Mutex",
    "RwLock",
    "thread_local!",
    "static mut",
    "unsafe ",
    "std::collections::HashMap",
    "RandomState",
];

fn core() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../core"))
}

#[test]
fn the_core_depends_on_nothing_that_does_io() {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "-p", "peerwork", "-e", "normal,no-proc-macro", "--prefix", "none", "--format", "{p}"])
        .current_dir(core())
        .output()
        .expect("cargo tree");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout);
    let crates: BTreeSet<&str> = text.lines().filter_map(|line| line.split(' ').next()).collect();
    assert!(crates.contains("noq-proto") && crates.len() > 20, "the tree was read: {crates:?}");
    let found: Vec<_> = BANNED.iter().filter(|name| crates.contains(**name)).collect();
    assert!(found.is_empty(), "the core depends on {found:?}");
}

fn sources(folder: &Path, into: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(folder).expect("a folder of the core") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.strip_prefix(core()).expect("within the core").display().to_string();
            into.push((name, fs::read_to_string(&path).expect("a source file")));
        }
    }
}

#[test]
fn the_core_s_source_names_nothing_impure() {
    let mut all = Vec::new();
    sources(&core().join("src"), &mut all);
    assert!(all.len() > 20, "the sources were read");
    let mut found = Vec::new();
    for (name, text) in &all {
        if name.ends_with("tests.rs") || name.contains("/tests/") || name.contains("vectors.rs") {
            continue;
        }
        // Test modules stand at the end of a file.
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or(text);
        for (number, line) in code.lines().enumerate() {
            let line = line.split("//").next().unwrap_or(line);
            found.extend(
                WORDS.iter().filter(|word| line.contains(**word)).map(|word| format!("{name}:{}: {word}", number + 1)),
            );
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn the_core_forbids_unsafe_code() {
    let lib = fs::read_to_string(core().join("src/lib.rs")).expect("the core's lib.rs");
    assert!(lib.contains("#![forbid(unsafe_code)]"));
}

#[test]
fn no_source_file_of_the_core_has_outgrown_its_question() {
    let mut all = Vec::new();
    sources(&core().join("src"), &mut all);
    for (name, text) in &all {
        let code = text.lines().filter(|line| !line.trim().is_empty() && !line.trim().starts_with("//")).count();
        assert!(code <= 800 || name.contains("tests"), "{name} has {code} lines of code");
    }
}
