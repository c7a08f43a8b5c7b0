//! The `peerwork` program. Its manual is `peerwork --help`.

mod addr;
mod args;
mod client;
mod command;
mod config;
mod demo;
mod driver;
mod echo;
mod failure;
mod out;

use std::process::ExitCode;

use clap::Parser as _;

use self::{
    args::{Cli, Command},
    failure::Failure,
    out::Out,
};

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return misused(&error),
    };
    let out = Out::new(cli.command.json());
    match execute(cli.command, out) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.tell(out);
            ExitCode::FAILURE
        }
    }
}

fn execute(command: Command, out: Out) -> Result<(), Failure> {
    // The program's own tasks run here; the nodes have threads of their own.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(format!("cannot start: {error}")))?;
    runtime.block_on(async {
        match command {
            Command::Id(args) => command::id::id(&args, out),
            Command::Run(args) => command::run::run(args, out).await,
            Command::Ping(args) => command::ping::ping(args, out).await,
            Command::Echo(args) => command::echo::echo(args, out).await,
            Command::Perf(args) => command::perf::perf(args, out).await,
            Command::Replay(args) => command::replay::replay(&args, out),
            Command::Sim(args) => command::sim::sim(&args, out),
            Command::Demo(args) => demo::demo(&args, out).await,
        }
    })
}

/// Help and version are printed like this, too, and are no failure.
fn misused(error: &clap::Error) -> ExitCode {
    if error.use_stderr() && std::env::args().any(|arg| arg == "--json") {
        let text = error.to_string();
        // The first paragraph is the error; after it come hints for people.
        let lines: Vec<&str> = text.lines().map(str::trim).take_while(|line| !line.is_empty()).collect();
        let message = lines.join(" ");
        // Whoever does not read it sees the exit code.
        let _ = Out::new(true).error(message.trim_start_matches("error: "));
    }
    let _ = error.print();
    u8::try_from(error.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from)
}
