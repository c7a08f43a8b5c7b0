//! The command line of `peerwork sim`.

use std::{ops::Range, path::PathBuf, str::FromStr, time::Duration};

use clap::{Args, Subcommand};
use peerwork_sim::{Tier, units};

#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
A scenario is a name of the library, which `peerwork sim` alone lists, or a file that ends in .toml. With a seed it is one
run, the same each time and everywhere. Find failures with `sweep`, cut them down with `shrink`, look at them with `trace`.

Examples:
  peerwork sim                                        the scenarios that there are
  peerwork sim run halves --seed 7                    one run, and how it went
  peerwork sim sweep halves --seeds 100               a hundred, and how they differ
  peerwork sim replay halves-7-deadline-dial.toml     a failure that a sweep has found and shrunk
  peerwork sim trace halves --seed 7 -o trace         a run for Wireshark, jq and qvis

The exit code is 0 if all went well, 1 if something failed, 2 if the command line is wrong."
)]
pub(crate) struct SimArgs {
    #[command(subcommand)]
    pub(crate) command: Option<SimCommand>,
    #[command(flatten)]
    pub(crate) list: ListArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum SimCommand {
    /// Show the scenarios of the library
    List(ListArgs),
    /// Run a scenario with one seed
    Run(RunArgs),
    /// Run a scenario with many seeds, and shrink what fails
    Sweep(SweepArgs),
    /// Run a failure again that was written to a file
    Replay(ReplayArgs),
    /// Cut a failing run down to what it takes to fail
    Shrink(ShrinkArgs),
    /// See whether runs of one seed are equal, to the last byte
    Check(CheckArgs),
    /// Find where a run differs from the same in another program
    Bisect(BisectArgs),
    /// Write down all that happens in a run
    Trace(TraceArgs),
    /// Make a page of runs that were saved
    Report(ReportArgs),
    /// Try which pairs of NATs can connect
    NatMatrix(NatMatrixArgs),
    /// Measure what the simulator costs on this machine
    Bench(BenchArgs),
    /// Plant bugs, and see that they are found
    Canary(CanaryArgs),
}

impl SimArgs {
    pub(crate) fn json(&self) -> bool {
        match &self.command {
            None => self.list.json,
            Some(SimCommand::List(args)) => args.json,
            Some(SimCommand::Run(args)) => args.json,
            Some(SimCommand::Sweep(args)) => args.json,
            Some(SimCommand::Replay(args)) => args.json,
            Some(SimCommand::Shrink(args)) => args.json,
            Some(SimCommand::Check(args)) => args.json,
            Some(SimCommand::Bisect(args)) => args.json,
            Some(SimCommand::Trace(args)) => args.json,
            Some(SimCommand::Report(args)) => args.json,
            Some(SimCommand::NatMatrix(args)) => args.json,
            Some(SimCommand::Bench(args)) => args.json,
            Some(SimCommand::Canary(args)) => args.json,
        }
    }
}

/// What is run.
#[derive(Debug, Args)]
pub(crate) struct ScenarioArgs {
    /// A scenario of the library, or a file that ends in .toml
    #[arg(value_name = "SCENARIO")]
    pub(crate) scenario: String,
    #[command(flatten)]
    pub(crate) changes: Changes,
}

/// What may be changed in a scenario.
#[derive(Clone, Default, Debug, Args)]
pub(crate) struct Changes {
    /// What is real: `wire` for every byte, `null` for QUIC without cryptography [default: as the scenario says]
    #[arg(long, value_parser = tier)]
    pub(crate) tier: Option<Tier>,
    /// Virtual time of work and faults, before all settles [default: as the scenario says]
    #[arg(long, value_name = "TIME", value_parser = units::duration)]
    pub(crate) duration: Option<Duration>,
    /// Plant a bug in all nodes; can be repeated. `peerwork sim canary --list` names them
    #[arg(long = "bug", value_name = "NAME", value_delimiter = ',')]
    pub(crate) bugs: Vec<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  peerwork sim list
  peerwork sim list --json")]
pub(crate) struct ListArgs {
    /// Print one JSON object per line
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  peerwork sim run halves
  peerwork sim run halves --seed 7 --tier wire --report halves.html
  peerwork sim run my-network.toml --duration 10m --json > run.json
  peerwork sim run halves --trail 1s                     digests, to compare with another machine's

The exit code is 1 if a rule was broken or a claim of the scenario does not hold.")]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) scenario: ScenarioArgs,
    /// Decides everything that is left to chance [default: as the scenario says, or 1]
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
    /// File for a page with curves, distributions and all else: HTML, nothing else is loaded
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,
    /// Print digests of all nodes at all multiples of this virtual time, and at the end, as one JSON object and nothing else.
    /// `check` and `bisect` compare them
    #[arg(long, value_name = "TIME", value_parser = step, conflicts_with = "report")]
    pub(crate) trail: Option<Duration>,
    /// The first of these digests, at the earliest
    #[arg(long, value_name = "TIME", value_parser = units::duration, requires = "trail")]
    pub(crate) trail_from: Option<Duration>,
    /// The last of these digests, at the latest; ends the run
    #[arg(long, value_name = "TIME", value_parser = units::duration, requires = "trail")]
    pub(crate) trail_to: Option<Duration>,
    /// Print the outcome as one JSON object, for `peerwork sim report` among others
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Failures with the same broken rule in the same group count as one kind. The first seed of each kind is shrunk to a file that
`peerwork sim replay` runs, named SCENARIO-SEED-RULE.toml.

Examples:
  peerwork sim sweep halves                              seeds 0 to 63
  peerwork sim sweep halves --seeds 1000..2000 --report sweep.html
  peerwork sim sweep my-network.toml --stop-at-failure --repros failures
  peerwork sim sweep halves --no-shrink --json > runs.json; peerwork sim report runs.json -o runs.html

The exit code is 1 if a run failed, or if no run reached a rare state that the scenario says must be reached.")]
pub(crate) struct SweepArgs {
    #[command(flatten)]
    pub(crate) scenario: ScenarioArgs,
    /// Seeds: how many, from 0, or A..B without B
    #[arg(long, value_name = "A..B", default_value = "64")]
    pub(crate) seeds: Seeds,
    /// Runs at a time [default: as many as there are processors]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) threads: Option<u16>,
    /// End at the first failure
    #[arg(long)]
    pub(crate) stop_at_failure: bool,
    /// File for a page on all runs: HTML, nothing else is loaded
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,
    /// Do not shrink what fails
    #[arg(long)]
    pub(crate) no_shrink: bool,
    /// Time to shrink each kind of failure, at most
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = units::duration, conflicts_with = "no_shrink")]
    pub(crate) shrink_time: Duration,
    /// Folder for shrunk failures; made if it is missing
    #[arg(long, value_name = "DIR", default_value = ".", conflicts_with = "no_shrink")]
    pub(crate) repros: PathBuf,
    /// Print one JSON object per line: the outcome of each run, shrunk failures, a summary
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
A repro holds the network, the seed, what happens, and which packets are lost; `sweep` and `shrink` write them, and people
can edit them.

Examples:
  peerwork sim replay halves-7-deadline-dial.toml
  peerwork sim replay halves-7-deadline-dial.toml --trace trace
  peerwork sim replay halves-7-deadline-dial.toml --test >> tests/failures.rs

The exit code is 0 if it fails as recorded, with the same rule broken in the same group, and 1 if it does not: because the
bug is gone, or because the program differs from the one that recorded it.")]
pub(crate) struct ReplayArgs {
    /// The repro
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Folder for a trace of the run, as of `peerwork sim trace`
    #[arg(long, value_name = "DIR")]
    pub(crate) trace: Option<PathBuf>,
    /// File for a page on the run
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,
    /// Print a test in Rust that fails as long as this failure happens; nothing is run
    #[arg(long, conflicts_with_all = ["trace", "report", "json"])]
    pub(crate) test: bool,
    /// Print one JSON object per line
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
What happens after the failure goes, then all operations, nodes, models, losses and time that it does not take. What is left
fails in the same way: the same rule is broken, by a node of the same group.

Examples:
  peerwork sim shrink halves --seed 7
  peerwork sim shrink halves --seed 7 --tier wire -o small.toml
  peerwork sim shrink small.toml --time 10m            a repro, further

The exit code is 1 if there is nothing to shrink, because the run passes.")]
pub(crate) struct ShrinkArgs {
    #[command(flatten)]
    pub(crate) scenario: ScenarioArgs,
    /// The seed that fails. Not for a repro, which has its own
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
    /// File for what is left; replaced if it exists [default: SCENARIO-SEED-RULE.toml]
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Runs at most
    #[arg(long, value_name = "N", default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) runs: u32,
    /// Time at most
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = units::duration)]
    pub(crate) time: Duration,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Each seed is run twice in this process and once in another process of this program; digests of all that nodes put out are
compared at each second of virtual time and at the end. Where runs differ, it says when they part, and which nodes.

Examples:
  peerwork sim check halves
  peerwork sim check halves --seeds 10..20 --tier wire
  peerwork sim check halves --against target/debug/peerwork

The exit code is 1 if any two differ.")]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    pub(crate) scenario: ScenarioArgs,
    /// Seeds: how many, from 0, or A..B without B
    #[arg(long, value_name = "A..B", default_value = "1")]
    pub(crate) seeds: Seeds,
    /// Another build of this program to compare with; can be repeated
    #[arg(long, value_name = "EXE")]
    pub(crate) against: Vec<PathBuf>,
    /// Print one JSON object per line
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Both run four times: for the second, the millisecond, the microsecond and the nanosecond.

Examples:
  peerwork sim bisect halves --seed 7 --against target/debug/peerwork
  peerwork sim bisect my-network.toml --against ~/old/peerwork --json

The exit code is 1 if they differ.")]
pub(crate) struct BisectArgs {
    #[command(flatten)]
    pub(crate) scenario: ScenarioArgs,
    /// Decides everything that is left to chance [default: as the scenario says, or 1]
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
    /// Another build of this program
    #[arg(long, value_name = "EXE")]
    pub(crate) against: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Files in the folder:
  packets.pcapng    every packet, its fate, and the secrets to read it: Wireshark, tshark
  keys.log          the same secrets, for other tools
  events.jsonl      everything that happened, a line each: jq, grep
  qlog/             QUIC's own logs, for qvis; if this program was built with `--features qlog`

Examples:
  peerwork sim trace halves --seed 7 --tier wire -o trace
  peerwork sim trace halves-7-deadline-dial.toml -o trace       a repro
  tshark -r trace/packets.pcapng -Y 'quic.frame_type == 0x1c'

The exit code is 0 if the trace is complete, however the run went.")]
pub(crate) struct TraceArgs {
    #[command(flatten)]
    pub(crate) scenario: ScenarioArgs,
    /// Decides everything that is left to chance [default: as the scenario says, or 1]. Not for a repro
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
    /// Folder for the trace; made if it is missing. A trace that is in it is replaced
    #[arg(long, short, value_name = "DIR")]
    pub(crate) output: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Runs of the same scenario on the same tier become one section, from whatever machines they are.

Examples:
  peerwork sim run halves --json > run.json; peerwork sim report run.json -o run.html
  peerwork sim sweep halves --json | peerwork sim report - -o sweep.html
  peerwork sim report machine-*.json -o all.html --title 'All of tonight'")]
pub(crate) struct ReportArgs {
    /// What `run --json` and `sweep --json` printed; `-` for standard input
    #[arg(value_name = "FILE", required = true)]
    pub(crate) files: Vec<PathBuf>,
    /// File for the page; replaced if it exists
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: PathBuf,
    /// The page's title [default: the scenario's name]
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub(crate) title: String,
    /// Leave out what runs cost in time and memory, which differs each time
    #[arg(long)]
    pub(crate) no_cost: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Holes are punched between all pairs of classes of NATs with packets alone, 3,630 times, and the outcomes compared with a
table that was measured by other means. Rows are who dials, columns who is dialled.

Examples:
  peerwork sim nat-matrix
  peerwork sim nat-matrix --csv > matrix.csv

The exit code is 1 if any cell differs, or if the outcome within a cell depends on anything but the classes.")]
pub(crate) struct NatMatrixArgs {
    /// Print one line for each cell: scope, mode, a, b, connects, recorded
    #[arg(long, conflicts_with = "json")]
    pub(crate) csv: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Takes about a minute, and longer with more nodes. Figures of a debug build say nothing.

Examples:
  cargo run --release -p peerwork-cli -- sim bench
  peerwork sim bench --nodes 10000
  peerwork sim bench --json")]
pub(crate) struct BenchArgs {
    /// Nodes of the networks that run against real time, 4 to 100000 [default: 1000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(4..=100_000))]
    pub(crate) nodes: Option<u32>,
    /// Smaller measurements, in seconds, for a first impression
    #[arg(long)]
    pub(crate) quick: bool,
    /// Print one JSON object per figure
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
For each bug, seeds are run with the bug planted until one fails; the same seed must pass without it. A search that finds
nothing has proved something only if it finds these.

Examples:
  peerwork sim canary
  peerwork sim canary --bug lost-wake-up --seeds 500 --shrink
  peerwork sim canary --list

The exit code is 1 if a bug was not found, or if its seed fails without it.")]
pub(crate) struct CanaryArgs {
    /// Only these bugs; can be repeated [default: all]
    #[arg(long = "bug", value_name = "NAME", value_delimiter = ',')]
    pub(crate) bugs: Vec<String>,
    /// Seeds to try for each bug: how many, from 0, or A..B without B
    #[arg(long, value_name = "A..B", default_value = "64")]
    pub(crate) seeds: Seeds,
    /// The scenario to run, for all bugs [default: for each bug one that makes it show]
    #[arg(long, value_name = "SCENARIO")]
    pub(crate) scenario: Option<String>,
    /// Runs at a time [default: as many as there are processors]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) threads: Option<u16>,
    /// Shrink what is found, and run what is left
    #[arg(long)]
    pub(crate) shrink: bool,
    /// Name the bugs, and run nothing
    #[arg(long)]
    pub(crate) list: bool,
    /// Print one JSON object per bug
    #[arg(long)]
    pub(crate) json: bool,
}

/// Seeds from one to before another; never empty.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Seeds(pub(crate) Range<u64>);

impl FromStr for Seeds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refused = || format!("`{text}` are no seeds; write how many, such as 100, or a range such as 100..200");
        let number = |text: &str| text.trim().replace('_', "").parse::<u64>().map_err(|_| refused());
        let seeds = match text.split_once("..") {
            Some((from, to)) => number(from)?..number(to)?,
            None => 0..number(text)?,
        };
        if seeds.is_empty() {
            let start = seeds.start;
            return Err(match text.contains("..") {
                true => format!(
                    "`{text}` has no seeds in it: the end does not count; for seed {start} alone write {start}..{}",
                    start.saturating_add(1)
                ),
                false => "0 seeds are none; write at least 1".into(),
            });
        }
        Ok(Self(seeds))
    }
}

fn tier(text: &str) -> Result<Tier, String> {
    Tier::ALL.into_iter().find(|tier| tier.name() == text).ok_or_else(|| {
        let names: Vec<&str> = Tier::ALL.iter().map(|tier| tier.name()).collect();
        format!("there is no tier `{text}`; there are {}", names.join(" and "))
    })
}

fn step(text: &str) -> Result<Duration, String> {
    let step = units::duration(text)?;
    if step.is_zero() { Err("a step takes at least 1ns".into()) } else { Ok(step) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_a_number_or_a_range_and_never_none() {
        for (text, range) in [("3", 0..3), ("5..9", 5..9), ("1_000..1_001", 1000..1001), ("0..1", 0..1)] {
            assert_eq!(text.parse(), Ok(Seeds(range)), "{text}");
        }
        for (text, says) in
            [("5..5", "write 5..6"), ("9..5", "no seeds in it"), ("0", "at least 1"), ("x", "100..200"), ("1..", "100")]
        {
            let error = text.parse::<Seeds>().unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
