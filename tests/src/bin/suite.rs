//! The whole test suite: what the README's second command runs.
//!
//! Nothing is needed beforehand but cargo. What tests of interoperability need (go-libp2p's daemon, a rust-libp2p program) they
//! fetch and build themselves into the target folder, and say so. tshark, which checks traces, is installed where that may be done.

use std::{
    env,
    process::{Command, ExitCode, Stdio},
    time::Instant,
};

/// Each step: what it shows, and the arguments for cargo.
const STEPS: &[(&str, &[&str])] = &[
    (
        "units, properties, virtual networks, drivers, program, interoperability, corpora",
        &["test", "--workspace", "--features", "peerwork-driver/suite", "--no-fail-fast"],
    ),
    // The same transcripts in an optimised build, and 10,000 idle peers, which a debug build is too slow for.
    ("virtual networks again, optimised", &["test", "--release", "-p", "peerwork-sim", "--no-fail-fast"]),
];

/// Installs tshark if it is missing, on a system with apt-get and by somebody who may. Elsewhere the tests that need it say so.
fn install_tshark() {
    let runs = |program: &str, arguments: &[&str]| {
        let mut command = Command::new(program);
        command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive").stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    let root = Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout.trim_ascii() == b"0");
    if runs("tshark", &["--version"]) || !root || !runs("apt-get", &["--version"]) {
        return;
    }
    println!("\n=== tshark, which checks traces, is missing: installing it with apt-get");
    let install = ["install", "-qy", "--no-install-recommends", "tshark"];
    if !runs("apt-get", &["update", "-q"]) || !runs("apt-get", &install) {
        eprintln!("tshark could not be installed");
    }
}

fn main() -> ExitCode {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let start = Instant::now();
    install_tshark();
    let mut failed = Vec::new();
    for (number, (what, arguments)) in STEPS.iter().enumerate() {
        println!("\n=== {}/{}: {what}", number + 1, STEPS.len());
        let status =
            Command::new(&cargo).args(*arguments).current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).status();
        match status {
            Ok(status) if status.success() => {}
            Ok(_) => failed.push(*what),
            Err(error) => {
                eprintln!("cargo could not be run: {error}");
                return ExitCode::FAILURE;
            }
        }
    }
    let seconds = start.elapsed().as_secs();
    if failed.is_empty() {
        println!("\nAll {} parts passed, in {} min {} s.", STEPS.len(), seconds / 60, seconds % 60);
        ExitCode::SUCCESS
    } else {
        println!("\nFAILED: {}. The failing tests are listed above.", failed.join("; "));
        ExitCode::FAILURE
    }
}
