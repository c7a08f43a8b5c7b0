//! Starting a node on any of the drivers. Each node gets a thread that drives it and nothing else.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    thread,
};

use clap::ValueEnum;
use peerwork::Config;
use peerwork_driver::{Handle, Options, StartError};

/// What drives a node.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, ValueEnum)]
pub(crate) enum DriverKind {
    // A task of tokio.
    #[default]
    Tokio,
    // A future on async-io, as in smol.
    Smol,
    // A guest in a mio event loop.
    Mio,
}

impl DriverKind {
    pub(crate) const ALL: [Self; 3] = [Self::Tokio, Self::Smol, Self::Mio];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Tokio => "tokio",
            Self::Smol => "smol",
            Self::Mio => "mio",
        }
    }

    /// Starts a node.
    pub(crate) fn start(self, config: Config) -> Result<Running, StartError> {
        self.start_with(config, Options::default())
    }

    /// The same with options.
    pub(crate) fn start_with(self, config: Config, options: Options) -> Result<Running, StartError> {
        match self {
            Self::Tokio => start::<Tokio>(config, options),
            Self::Smol => start::<Smol>(config, options),
            Self::Mio => start::<Mio>(config, options),
        }
    }
}

impl fmt::Display for DriverKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for DriverKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|kind| kind.name() == text);
        found.ok_or_else(|| format!("there is no driver `{text}`; use tokio, smol or mio"))
    }
}

/// A node and the switch that ends it.
#[derive(Debug)]
pub(crate) struct Running {
    /// The node.
    pub(crate) handle: Handle,
    kill: Arc<AtomicBool>,
}

impl Running {
    /// Ends the node as a crash would: its sockets are gone and nobody is told.
    pub(crate) fn kill(self) {
        self.kill.store(true, Ordering::Release);
        // The driver comes round for this, sees the order and drops everything. It may be gone already.
        let _ = self.handle.with(|_, _| ());
    }
}

/// A way to drive a node.
trait Driver {
    /// Makes a node and what drives it, to be run on a thread of its own until the node ends or `killed` is set.
    fn prepare(config: Config, options: Options, killed: Arc<AtomicBool>) -> Result<(Job, Handle), StartError>;
}

type Job = Box<dyn FnOnce() + Send>;

fn start<D: Driver>(config: Config, options: Options) -> Result<Running, StartError> {
    let kill = Arc::new(AtomicBool::new(false));
    let (job, handle) = D::prepare(config, options, Arc::clone(&kill))?;
    thread::Builder::new().name("peerwork".into()).spawn(job).map_err(StartError::Runtime)?;
    Ok(Running { handle, kill })
}

enum Tokio {}

impl Driver for Tokio {
    fn prepare(config: Config, options: Options, killed: Arc<AtomicBool>) -> Result<(Job, Handle), StartError> {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(StartError::Runtime)?;
        let started = {
            let _guard = runtime.enter();
            peerwork_tokio::start(config, options)
        };
        let (driver, handle) = match started {
            Ok(started) => started,
            Err(error) => {
                // Dropping it here, where the program's own runtime runs, would be a panic.
                runtime.shutdown_background();
                return Err(error);
            }
        };
        Ok((Box::new(move || runtime.block_on(Until { driver, killed })), handle))
    }
}

enum Smol {}

impl Driver for Smol {
    fn prepare(config: Config, options: Options, killed: Arc<AtomicBool>) -> Result<(Job, Handle), StartError> {
        let (driver, handle) = peerwork_smol::start_with(config, options)?;
        Ok((Box::new(move || async_io::block_on(Until { driver, killed })), handle))
    }
}

enum Mio {}

impl Driver for Mio {
    fn prepare(config: Config, options: Options, killed: Arc<AtomicBool>) -> Result<(Job, Handle), StartError> {
        let mut poll = mio::Poll::new().map_err(StartError::Runtime)?;
        let mut peer = peerwork_mio::Peer::with_options(config, options, poll.registry(), 0..peerwork_mio::TOKENS)?;
        let handle = peer.handle();
        peer.release();
        let job = move || {
            let mut events = mio::Events::with_capacity(256);
            while !killed.load(Ordering::Acquire) && !peer.turn(poll.registry()).ended {
                // A loop whose poll fails for good cannot go on; its handles find the node ended.
                match poll.poll(&mut events, peer.timeout()) {
                    Err(error) if error.kind() != std::io::ErrorKind::Interrupted => break,
                    _ => {}
                }
                for event in &events {
                    peer.on_event(event);
                }
            }
        };
        Ok((Box::new(job), handle))
    }
}

/// A driver, until it has ended or is killed.
struct Until<D> {
    driver: D,
    killed: Arc<AtomicBool>,
}

impl<D: Future<Output = ()> + Unpin> Future for Until<D> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.killed.load(Ordering::Acquire) { Poll::Ready(()) } else { Pin::new(&mut self.driver).poll(cx) }
    }
}
