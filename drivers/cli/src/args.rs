//! The command line.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand};
use peerwork::ProtocolId;
use peerwork_sim::units;

use crate::{
    addr::{DialAddr, ListenAddr},
    command::sim::args::SimArgs,
    driver::DriverKind,
};

const ADDRESSES: &str = "\
Addresses are multiaddrs, such as /ip4/192.0.2.1/udp/4001/quic-v1/p2p/12D3KooW..., or for short 192.0.2.1:4001,
[2001:db8::1]:4001 or example.org:4001. With /p2p/ID at its end, an address stands for that peer and nobody else.";

/// A libp2p peer over QUIC: run one, look at others, measure.
#[derive(Debug, Parser)]
#[command(name = "peerwork", version, max_term_width = 100)]
#[command(after_help = "\
Examples:
  peerwork demo                                  nine peers on three drivers, and what they do
  peerwork run --listen 0.0.0.0:4001 --echo      a peer for others to reach
  peerwork ping 192.0.2.1:4001                   is it there, and how far away?
  peerwork sim run halves                        a virtual network, half of which is cut off for a while

`peerwork help COMMAND` tells more about each command.")]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Print the id of this peer
    Id(IdArgs),
    /// Run a peer until Ctrl-C
    Run(RunArgs),
    /// Measure the round-trip time to a peer
    Ping(PingArgs),
    /// Send something to a peer and see whether it comes back
    Echo(EchoArgs),
    /// Measure the throughput to a peer
    Perf(PerfArgs),
    /// Run a peer's record again, bit for bit
    Replay(ReplayArgs),
    /// Whole virtual networks, replayed from a seed: run them, break them, find out why
    Sim(SimArgs),
    /// Nine peers on three drivers meet, talk, and lose each other
    Demo(DemoArgs),
}

impl Command {
    pub(crate) fn json(&self) -> bool {
        match self {
            Self::Id(args) => args.json,
            Self::Run(args) => args.json,
            Self::Ping(args) => args.client.json,
            Self::Echo(args) => args.client.json,
            Self::Perf(args) => args.client.json,
            Self::Replay(args) => args.json,
            Self::Sim(args) => args.json(),
            Self::Demo(args) => args.json,
        }
    }
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  peerwork id --key peer.key      make a key, or show the id of the one that is there
  peerwork id                     an id for once, of a key that is not kept")]
pub(crate) struct IdArgs {
    /// File of the private key; made, for your eyes only, if it is missing
    #[arg(long, value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = format!("\
{ADDRESSES}

Examples:
  peerwork run
  peerwork run --listen 0.0.0.0:4001 --listen '[::]:4001' --key peer.key --echo --perf
  peerwork run --dial 192.0.2.1:4001 --json
  peerwork run --record peer.log; peerwork replay peer.log
  peerwork run --print-config > peerwork.toml; peerwork run --config peerwork.toml

Ends by Ctrl-C or SIGTERM, saying goodbye to its peers; a second Ctrl-C ends it at once."))]
pub(crate) struct RunArgs {
    /// Address to listen on, with port 0 for any; can be repeated [default: 0.0.0.0:0]
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Vec<ListenAddr>,
    /// Peer to connect to, and again whenever it is lost, trying ever more slowly; can be repeated
    #[arg(long, value_name = "ADDR")]
    pub(crate) dial: Vec<DialAddr>,
    /// File of the private key; made if it is missing. Without it, the peer has a new id each time
    #[arg(long, value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,
    /// What moves the packets [default: tokio]
    #[arg(long, value_enum)]
    pub(crate) driver: Option<DriverKind>,
    /// Configuration file; what is given on the command line counts more
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Print the configuration as a file, with explanations, and end
    #[arg(long)]
    pub(crate) print_config: bool,
    /// Serve /echo/1.0.0: send back whatever comes
    #[arg(long)]
    pub(crate) echo: bool,
    /// Serve /perf/1.0.0: send any peer as many bytes as it asks for
    #[arg(long)]
    pub(crate) perf: bool,
    /// File for a record of everything that happens to the peer, to be run again by `peerwork replay`; must not exist.
    /// It holds the private key and all traffic: keep it to yourself
    #[arg(long, value_name = "FILE")]
    pub(crate) record: Option<PathBuf>,
    /// Print one JSON object per line
    #[arg(long)]
    pub(crate) json: bool,
}

/// What all commands take that talk to one peer.
#[derive(Debug, Args)]
pub(crate) struct ClientArgs {
    /// The peer's address
    #[arg(value_name = "ADDR")]
    pub(crate) address: DialAddr,
    /// Time to wait for the connection, and for each answer
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = units::duration)]
    pub(crate) timeout: Duration,
    /// File of the private key, to be recognised by the peer
    #[arg(long, value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,
    /// What moves the packets
    #[arg(long, value_enum, default_value_t)]
    pub(crate) driver: DriverKind,
    /// File for a record of everything that happens to the peer, to be run again by `peerwork replay`; must not exist.
    /// It holds the private key and all traffic: keep it to yourself
    #[arg(long, value_name = "FILE")]
    pub(crate) record: Option<PathBuf>,
    /// Print one JSON object per line
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = format!("\
{ADDRESSES}

Examples:
  peerwork ping 192.0.2.1:4001
  peerwork ping /ip4/192.0.2.1/udp/4001/quic-v1 --count 100 --interval 100ms --json

The exit code is 1 if no ping came back."))]
pub(crate) struct PingArgs {
    #[command(flatten)]
    pub(crate) client: ClientArgs,
    /// Pings to send
    #[arg(long, short = 'n', default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) count: u32,
    /// Time from one ping to the next
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = units::duration)]
    pub(crate) interval: Duration,
}

#[derive(Debug, Args)]
#[command(after_help = format!("\
{ADDRESSES}

Examples:
  peerwork echo 192.0.2.1:4001 hello              to a peer that was run with --echo
  peerwork echo 192.0.2.1:4001 hello --protocol /ipfs/echo/1.0.0

The exit code is 1 if something else comes back."))]
pub(crate) struct EchoArgs {
    #[command(flatten)]
    pub(crate) client: ClientArgs,
    /// What to send
    pub(crate) data: String,
    /// The protocol that echoes
    #[arg(long, value_name = "ID", default_value = "/echo/1.0.0", value_parser = protocol)]
    pub(crate) protocol: ProtocolId,
}

#[derive(Debug, Args)]
#[command(after_help = format!("\
{ADDRESSES}

Sizes are bytes, or end in k, M, G (powers of 1000) or KiB, MiB, GiB (powers of 1024).

Examples:
  peerwork perf 192.0.2.1:4001                    to a peer that was run with --perf
  peerwork perf 192.0.2.1:4001 --up 0 --down 1GiB"))]
pub(crate) struct PerfArgs {
    #[command(flatten)]
    pub(crate) client: ClientArgs,
    /// Bytes to send
    #[arg(long, value_name = "SIZE", default_value = "100MB", value_parser = units::size)]
    pub(crate) up: u64,
    /// Bytes to receive
    #[arg(long, value_name = "SIZE", default_value = "100MB", value_parser = units::size)]
    pub(crate) down: u64,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Everything happens on this machine's loopback, over real sockets. The exit code is 0 only if all that should have
happened was seen to happen by the peers concerned.

Examples:
  peerwork demo
  peerwork demo --json")]
pub(crate) struct DemoArgs {
    /// Print the summaries as JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// File for the report on the simulated peers [default: peerwork-demo.html in the folder for temporary files]
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
A record is made by --record, or by any program with Options::record or Node::recorded. The peer is made again from it,
gets the same inputs at the same times, and must give the same outputs, which is checked all along; nothing is sent. Times
are the peer's own, from its start; of other peers' ids, the last characters are shown. A record that was cut off, by a crash for example, is replayed as far as it goes.

Examples:
  peerwork run --record peer.log
  peerwork replay peer.log                                   what happened
  peerwork replay peer.log --until-event Disconnected        how things stood when the first connection ended
  peerwork replay peer.log --from 12.5s --until 13s --calls  everything that was done to it in that time

The exit code is 1 if the record cannot be read or comes out differently (another version of peerwork, for example, or a
bug), or if --until-event was not met.")]
pub(crate) struct ReplayArgs {
    /// The record
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Stop at this time, and print how things stand
    #[arg(long, value_name = "TIME", value_parser = units::duration)]
    pub(crate) until: Option<Duration>,
    /// Stop at the first event whose text contains this, and print how things stand
    #[arg(long, value_name = "TEXT")]
    pub(crate) until_event: Option<String>,
    /// Print nothing from before this time; what is there is replayed all the same
    #[arg(long, value_name = "TIME", value_parser = units::duration)]
    pub(crate) from: Option<Duration>,
    /// Print the calls too, commands, and what is sent
    #[arg(long)]
    pub(crate) calls: bool,
    /// Print only how it ended
    #[arg(long, conflicts_with = "calls")]
    pub(crate) quiet: bool,
    /// Print one JSON object per line
    #[arg(long)]
    pub(crate) json: bool,
}

fn protocol(text: &str) -> Result<ProtocolId, String> {
    ProtocolId::new(text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
