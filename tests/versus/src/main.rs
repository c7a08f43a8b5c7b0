//! peerwork beside rust-libp2p and the bare QUIC library: the same work, in turns, on the same machine.
//!
//! ```text
//! cargo run --release --manifest-path tests/versus/Cargo.toml -- [--quick] [--only NAME] [--rounds N] [--bytes MIB] [--json]
//! ```
//!
//! Or, from this folder, `cargo run --release -p peerwork-versus`. `--only` takes the name of a work or of a
//! contender and may be repeated.
//!
//! Each measurement is made by two fresh processes of one thread each, a client and a server, which talk over loopback;
//! contenders take turns within a round, so that what disturbs the machine disturbs all. Medians are shown with least
//! and most, and ratios are the medians of each round's ratios. Time spent is CPU time of both processes, kernel
//! included. Where a number can be counted instead (allocations, bytes, round trips), it is.
//!
//! What is alike and what is not:
//!
//! - Flow-control windows are the same for all. The socket buffers of peerwork and raw noq are, too; rust-libp2p leaves
//!   them at the system's default. All search for the path's MTU, all acknowledge and send as their library does by
//!   default.
//! - peerwork and raw noq do TLS by ring with AES-128-GCM and X25519. rust-libp2p brings aws-lc-rs, prefers
//!   ChaCha20-Poly1305 and X25519MLKEM768, and takes no other wishes.
//! - Identify and ping are on, with default settings, in peerwork and rust-libp2p; raw noq has no such thing, nor
//!   protocol negotiation, nor peer ids.
//! - Streams a peer may open: 64 at first in peerwork and raw noq, 256 in rust-libp2p, all by default.

mod alloc;
mod contenders;
mod node;
mod relay;
mod table;
mod usage;
mod work;

use std::{env, fs};

use crate::{
    node::{CONNECTION_WINDOW, Outcome, SEND_WINDOW, SOCKET_BUFFER, STREAM_WINDOW},
    table::Results,
    work::{Contender, Work},
};

struct Flags {
    quick: bool,
    json: bool,
    rounds: Option<usize>,
    bytes: Option<u64>,
    works: Vec<Work>,
    contenders: Vec<Contender>,
}

impl Flags {
    fn parse(args: &[String]) -> Outcome<Self> {
        let mut flags =
            Self { quick: false, json: false, rounds: None, bytes: None, works: Vec::new(), contenders: Vec::new() };
        let mut args = args.iter();
        while let Some(flag) = args.next() {
            let mut value = || args.next().ok_or_else(|| format!("{flag} needs a value"));
            match flag.as_str() {
                "--quick" => flags.quick = true,
                "--json" => flags.json = true,
                "--rounds" => flags.rounds = Some(value()?.parse::<usize>()?.max(1)),
                "--bytes" => flags.bytes = Some(value()?.parse::<u64>()?.max(1)),
                "--only" => {
                    let name = value()?;
                    let works = Work::ALL.iter().filter(|work| work.name().starts_with(name.as_str()));
                    let contenders = Contender::ALL.iter().filter(|item| item.name().starts_with(name.as_str()));
                    let before = flags.works.len() + flags.contenders.len();
                    flags.works.extend(works);
                    flags.contenders.extend(contenders);
                    if flags.works.len() + flags.contenders.len() == before {
                        let works = Work::ALL.iter().map(|work| work.name());
                        let names: Vec<&str> = works.chain(Contender::ALL.iter().map(|item| item.name())).collect();
                        return Err(format!("nothing is called {name}; there are {}", names.join(", ")).into());
                    }
                }
                _ => return Err(format!("{flag} is none of --quick, --only, --rounds, --bytes, --json").into()),
            }
        }
        if flags.works.is_empty() {
            flags.works = Work::ALL.to_vec();
        }
        if flags.contenders.is_empty() {
            flags.contenders = Contender::ALL.to_vec();
        }
        Ok(flags)
    }

    fn rounds(&self, work: Work) -> usize {
        let rounds = self.rounds.unwrap_or(if self.quick { 1 } else { 7 });
        match work {
            // Counted rather than timed.
            Work::Listener | Work::Dialler => rounds.min(2),
            Work::Connect => rounds.min(3),
            _ => rounds,
        }
    }

    fn amount(&self, work: Work) -> u64 {
        let (quick, full) = match work {
            Work::Handshakes => (200, 1000),
            Work::Connect => (2, 5),
            Work::Bulk => (64, 256),
            Work::Chunks => (32, 256),
            Work::Requests => (5_000, 50_000),
            Work::Listener | Work::Dialler => (50, 200),
        };
        match work {
            Work::Bulk | Work::Chunks if self.bytes.is_some() => self.bytes.unwrap_or(full),
            _ if self.quick => quick,
            _ => full,
        }
    }
}

fn main() -> Outcome<()> {
    let args: Vec<String> = env::args().skip(1).collect();
    if args.first().is_some_and(|flag| flag == "--child") {
        return work::child(&args[1..]);
    }
    let flags = Flags::parse(&args)?;
    let mut all: Vec<Results> = flags
        .works
        .iter()
        .map(|&work| Results {
            work,
            amount: flags.amount(work),
            rounds: flags.contenders.iter().map(|&contender| (contender, Vec::new())).collect(),
        })
        .collect();
    let last = flags.works.iter().map(|&work| flags.rounds(work)).max().unwrap_or(0);
    for round in 0..last {
        for results in all.iter_mut().filter(|results| round < flags.rounds(results.work)) {
            for (contender, rounds) in &mut results.rounds {
                eprintln!("round {} of {last}: {}, {}", round + 1, results.work.name(), contender.name());
                rounds.push(work::run(*contender, results.work, results.amount)?);
            }
        }
    }
    if flags.json {
        let works = all.iter().map(|results| {
            let rounds = results.rounds.iter().map(|(contender, rounds)| (contender.name(), rounds));
            let rounds: std::collections::BTreeMap<_, _> = rounds.collect();
            serde_json::json!({"work": results.work.name(), "amount": results.amount, "rounds": rounds})
        });
        let report = serde_json::json!({"machine": machine(), "works": works.collect::<Vec<_>>()});
        println!("{report:#}");
        return Ok(());
    }
    println!("{}", machine());
    println!(
        "Windows of {STREAM_WINDOW} bytes a stream, {CONNECTION_WINDOW} a connection, {SEND_WINDOW} unacknowledged; \
         socket buffers of {SOCKET_BUFFER} bytes."
    );
    println!("Medians [least–most]; costs are of both sides together where no side is named.");
    all.iter().for_each(Results::print);
    Ok(())
}

/// Processor and system.
fn machine() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let model = model.map_or("an unknown processor", |(_, model)| model.trim());
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let load = read("/proc/loadavg");
    let load = load.split(' ').next().unwrap_or("unknown");
    format!(
        "{model}, {cores} cores, {} {}, load {load} at the end",
        env::consts::OS,
        read("/proc/sys/kernel/osrelease").trim()
    )
}
