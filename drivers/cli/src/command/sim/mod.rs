//! `peerwork sim`: virtual networks, and what goes wrong in them. Its manual is `peerwork sim --help`.

pub(crate) mod args;
mod bench;
mod bisect;
mod canary;
mod check;
mod files;
mod list;
mod nat_matrix;
mod other;
mod replay;
mod report;
mod run;
mod shrink;
mod subject;
mod sweep;
mod trace;
mod watched;

use self::args::{SimArgs, SimCommand};
use crate::{failure::Failure, out::Out};

pub(crate) fn sim(args: &SimArgs, out: Out) -> Result<(), Failure> {
    match &args.command {
        None | Some(SimCommand::List(_)) => list::list(out),
        Some(SimCommand::Run(args)) => run::run(args, out),
        Some(SimCommand::Sweep(args)) => sweep::sweep(args, out),
        Some(SimCommand::Replay(args)) => replay::replay(args, out),
        Some(SimCommand::Shrink(args)) => shrink::shrink(args, out),
        Some(SimCommand::Check(args)) => check::check(args, out),
        Some(SimCommand::Bisect(args)) => bisect::bisect(args, out),
        Some(SimCommand::Trace(args)) => trace::trace(args, out),
        Some(SimCommand::Report(args)) => report::report(args, out),
        Some(SimCommand::NatMatrix(args)) => nat_matrix::nat_matrix(args, out),
        Some(SimCommand::Bench(args)) => bench::bench(args, out),
        Some(SimCommand::Canary(args)) => canary::canary(args, out),
    }
}
