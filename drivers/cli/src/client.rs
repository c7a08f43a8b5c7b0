//! What `ping`, `echo` and `perf` begin with: a node of their own and a connection to one peer.

use std::{path::Path, time::Duration};

use peerwork::{Config, Event, Keypair, Multiaddr, protocol::identify::message::escape};
use peerwork_driver::{ConnectError, Connection, Handle, Options, Record, Subscription, keyfile};

use crate::{args::ClientArgs, driver::DriverKind, failure::Failure};

/// A node that is connected to the peer it is about.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) handle: Handle,
    pub(crate) connection: Connection,
    /// The peer's address, without `/p2p`.
    pub(crate) address: Multiaddr,
    events: Subscription,
}

impl Client {
    pub(crate) async fn connect(args: &ClientArgs) -> Result<Self, Failure> {
        let mut config = Config::default();
        // The command sends its own.
        config.ping.interval = None;
        config.ping.timeout = args.timeout;
        // Whoever pings by hand wants to see it fail, as often as it does.
        config.ping.max_unanswered = 0;
        config.dial.timeout = args.timeout;
        config.dial.attempt_timeout = args.timeout;
        config.identity = args.key.as_deref().map(key).transpose()?;
        let handle = start(args.driver, config, args.record.as_deref())?;
        let events = handle.events();
        let dialled = &args.address.0;
        let connection =
            handle.dial(dialled.clone()).await.map_err(|error| Failure::new(unreachable(dialled, &error)))?;
        let address = handle.connection(connection.conn).map_or_else(|| dialled.clone(), |info| info.address);
        Ok(Self { handle, connection, address, events })
    }

    /// Why the connection ended, if it has.
    pub(crate) async fn end(&mut self) -> Option<String> {
        let ended = async {
            loop {
                match self.events.recv().await {
                    Some(Ok(Event::Disconnected { conn, reason, .. })) if conn == self.connection.conn => {
                        // The words may be the peer's.
                        return Some(escape(&reason.to_string()));
                    }
                    Some(_) => {}
                    None => return None,
                }
            }
        };
        // It comes at once or not at all.
        tokio::time::timeout(Duration::from_millis(100), ended).await.ok().flatten()
    }

    /// An error of the connection's, with the reason of its end if that is what it is about.
    pub(crate) async fn explain(&mut self, what: &str, error: String) -> Failure {
        let end = if self.handle.connection(self.connection.conn).is_none() { self.end().await } else { None };
        Failure::new(match end {
            Some(end) => format!("{what}: the connection ended: {end}"),
            None => format!("{what}: {error}"),
        })
    }

    /// Says goodbye.
    pub(crate) async fn close(self) {
        self.handle.shutdown().await;
    }
}

/// Starts a node and drives it in the background, recording it if there is a file for that.
pub(crate) fn start(driver: DriverKind, config: Config, record: Option<&Path>) -> Result<Handle, Failure> {
    let mut options = Options::default();
    options.record = record.map(|path| {
        let shown = path.display().to_string();
        Record::to(path).on_error(move |error| {
            eprintln!("warning: recording to {shown} has ended: {}; the peer goes on", error.error);
        })
    });
    let started = driver.start_with(config, options);
    let handle = started.map(|running| running.handle).map_err(|error| Failure::new(error.to_string()))?;
    if let Some(path) = record {
        eprintln!("recording to {}, which holds the private key and all traffic: keep it to yourself", path.display());
    }
    Ok(handle)
}

/// The key in this file, which is made if it is missing.
pub(crate) fn key(path: &Path) -> Result<Keypair, Failure> {
    let file = keyfile::load_or_create(path).map_err(|error| Failure::new(error.to_string()))?;
    if let Some(exposed) = &file.exposed {
        eprintln!("warning: {exposed}");
    }
    Ok(file.keypair)
}

/// Words for a dial that failed.
pub(crate) fn unreachable(address: &Multiaddr, error: &ConnectError) -> String {
    match error.attempts() {
        // The address need not be said twice.
        [(tried, reason)] if tried == address => format!("cannot connect to {address}: {reason}"),
        _ => format!("cannot connect to {address}: {error}"),
    }
}
