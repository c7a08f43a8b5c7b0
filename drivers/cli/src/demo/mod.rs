//! `peerwork demo`: nine peers on three drivers meet on the loopback, talk, and lose each other.
//!
//! The peers are as real as any, with a socket each, and know of each other only what came through it. What the demo
//! reports is what the peers' events and answers said, kept on a [`Board`](peers::Board) of who saw what of whom; a
//! phase ends when the board shows all that should have happened, or when its time is over, and then what is missing is
//! named. [`phases`] says what should happen, [`report`] what has. Then come [hundreds of simulated ones](simulated).

mod peers;
mod phases;
mod report;
mod simulated;

use std::{sync::mpsc, thread, time::Duration};

use self::{peers::World, report::Progress};
use crate::{args::DemoArgs, failure::Failure, out::Out};

/// Time for everything. A phase gets what is left of it, at most.
const DEADLINE: Duration = Duration::from_secs(26);

/// Time after which even a program that hangs ends.
const LAST_RESORT: Duration = Duration::from_secs(29);

pub(crate) async fn demo(args: &DemoArgs, out: Out) -> Result<(), Failure> {
    let real = meet(out).await?;
    let simulated = simulated::simulate(out, args.report.clone())?;
    if real && simulated { Ok(()) } else { Err(Failure::Reported) }
}

/// The first half: real peers. Whether all went well.
async fn meet(out: Out) -> Result<bool, Failure> {
    let _watchdog = Watchdog::start(out);
    let progress = Progress::new(out);
    let mut world = World::new(DEADLINE);
    let phases = phases::all(&mut world, &progress).await?;
    // What comes of ending the peers that are left is no part of it.
    let report = report::Report::of(&world, phases);
    world.shut_down().await;
    report.print(out)?;
    Ok(report.ok())
}

/// Ends the program should it hang, which would otherwise look like patience.
struct Watchdog {
    _stop: mpsc::Sender<()>,
}

impl Watchdog {
    fn start(out: Out) -> Self {
        let (stop, stopped) = mpsc::channel::<()>();
        thread::spawn(move || {
            if stopped.recv_timeout(LAST_RESORT) == Err(mpsc::RecvTimeoutError::Timeout) {
                let words = format!("the demo hangs: nothing came to an end within {} s", LAST_RESORT.as_secs());
                Failure::new(words).tell(out);
                std::process::exit(1);
            }
        });
        Self { _stop: stop }
    }
}
