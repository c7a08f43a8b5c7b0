//! What every driver of [`peerwork`] shares: all that is not readiness.
//!
//! The core is a pure state machine; a driver turns its crank. There are three, `peerwork-tokio`, `peerwork-smol` and
//! `peerwork-mio`, and each of them is small, because the work is done here:
//!
//! - [`Handle`] is the async face of a node: futures for what takes time, streams that implement the io traits of
//!   futures-io and tokio, subscriptions to events. It names no runtime.
//! - [`Engine`] is one turn of the crank: datagrams in, timers, commands, events, datagrams out.
//! - [`Record`] has a node write down everything that happens to it, for a replay.
//! - [`Resolver`] looks up names, [`keyfile`] keeps a node's key, [`Clock`] and [`OsEntropy`] are what they say.
//!
//! With a handle from any of the drivers:
//!
//! ```no_run
//! use bytes::Bytes;
//! use peerwork::{Multiaddr, ProtocolId};
//! use peerwork_driver::Handle;
//!
//! async fn hello(handle: Handle, address: Multiaddr) -> Result<(), Box<dyn std::error::Error>> {
//!     let peer = handle.dial(address).await?;
//!     println!("{} is {:?} away", peer.peer, handle.ping(peer.conn).await?);
//!
//!     let mut stream = handle.open_stream(peer.conn, &[ProtocolId::new("/hello/1")?]).await?;
//!     stream.write_chunk(Bytes::from_static(b"hello")).await?;
//!     stream.finish()?;
//!     while let Some(chunk) = stream.read_chunk().await? {
//!         println!("{} bytes came back", chunk.len());
//!     }
//!     handle.shutdown().await;
//!     Ok(())
//! }
//! ```
//!
//! # A driver of one's own
//!
//! A driver implements [`SocketIo`] and [`Reactor`] for its runtime's UDP socket and repeats: [`Engine::turn`], arm a
//! timer for [`Turn::deadline`], [`Engine::poll_ready`], wait. The tokio driver is a page of code and a good model.

mod ask;
mod clock;
mod dns;
mod engine;
mod error;
mod events;
mod handle;
mod incoming;
mod interfaces;
pub mod keyfile;
mod recorder;
mod resolver;
mod shared;
mod stream;
#[cfg(feature = "suite")]
pub mod suite;
mod udp;
mod wall;

pub use ask::Asked;
pub use clock::{Clock, OsEntropy, platform};
pub use engine::{Engine, Interest, Options, Reactor, SocketIo, Turn};
pub use error::{
    ConnectError, DriverGone, ListenFailure, OpenFailure, PerfError, PingError, RegisterFailure, RequestFailure,
    StartError,
};
pub use events::{DEFAULT_CAPACITY, Lagged, Subscription};
pub use handle::{
    BACKLOG, Connection, Dialing, Handle, Listening, Measuring, Pinging, Requesting, ShuttingDown, Target,
};
pub use incoming::{InboundRequest, InboundRequests, Incoming};
/// The operating system's socket, as [`SocketIo`] lends it.
pub use noq_udp::UdpSockRef;
pub use recorder::{Record, RecordError};
pub use resolver::Resolver;
pub use stream::{Opening, PREFETCH, ReadHalf, Stream, WriteHalf};
