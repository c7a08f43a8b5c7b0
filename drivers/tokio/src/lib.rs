//! Runs [`peerwork`] nodes on tokio.
//!
//! [`spawn`] starts a node as one task of the current runtime and gives a [`Handle`] to it; everything else is in the
//! handle. One task drives the node, all its sockets and all its connections. It wants a runtime with IO and time
//! enabled, of either flavour.
//!
//! ```no_run
//! use peerwork::{Config, ProtocolId};
//! use tokio::io::AsyncWriteExt as _;
//!
//! #[tokio::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let node = peerwork_tokio::spawn(Config::default())?;
//!     let address = node.listen("/ip4/0.0.0.0/udp/4001/quic-v1".parse()?).await?;
//!     println!("{address}/p2p/{}", node.peer_id());
//!
//!     let mut echo = node.register(&ProtocolId::new("/echo/1")?)?;
//!     while let Some(stream) = echo.accept().await {
//!         tokio::spawn(async move {
//!             let (mut read, mut write) = tokio::io::split(stream);
//!             tokio::io::copy(&mut read, &mut write).await?;
//!             write.shutdown().await
//!         });
//!     }
//!     Ok(())
//! }
//! ```
//!
//! A timer of tokio's has a granularity of a millisecond. That is also how exact the node's pacing is here; the smol
//! driver's timers are finer.

use std::{
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Instant,
};

use peerwork::Config;
use peerwork_driver::{Engine, Interest, Reactor, SocketIo, UdpSockRef};
pub use peerwork_driver::{Handle, Options, StartError};
use tokio::{io::Interest as TokioInterest, net::UdpSocket, runtime, time::Sleep};

/// Turns on end that find something new to do; then other tasks get theirs.
const TURNS: usize = 4;

/// Starts a node as a task of the current runtime.
///
/// The task ends, and with it the node, after [`Handle::shutdown`], when the last handle is dropped, or with the
/// runtime.
///
/// # Panics
///
/// If the current runtime has IO or time disabled.
pub fn spawn(config: Config) -> Result<Handle, StartError> {
    spawn_with(config, Options::default())
}

/// The same with options.
///
/// # Panics
///
/// If the current runtime has IO or time disabled.
pub fn spawn_with(config: Config, options: Options) -> Result<Handle, StartError> {
    let runtime = runtime::Handle::try_current().map_err(|error| StartError::Runtime(io::Error::other(error)))?;
    let (driver, handle) = {
        let _guard = runtime.enter();
        start(config, options)?
    };
    runtime.spawn(driver);
    Ok(handle)
}

/// Makes a node and the future that drives it, to be spawned as and where the caller likes. Must be called, and the
/// future polled, in a runtime.
///
/// # Panics
///
/// Outside a runtime, or if it has time disabled.
pub fn start(config: Config, options: Options) -> Result<(Driver, Handle), StartError> {
    let (engine, handle) = Engine::new(config, options)?;
    let timer = Box::pin(tokio::time::sleep_until(Instant::now().into()));
    Ok((Driver { engine, timer, deadline: None }, handle))
}

/// Drives a node for as long as it runs. Dropping it ends the node without a goodbye to its peers.
#[derive(Debug)]
#[must_use = "a node whose driver is not polled does nothing"]
pub struct Driver {
    engine: Engine<Socket>,
    timer: Pin<Box<Sleep>>,
    /// What the timer is set to, if it matters.
    deadline: Option<Instant>,
}

impl Future for Driver {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        this.engine.set_waker(cx.waker());
        for _ in 0..TURNS {
            let turn = this.engine.turn(&mut Sockets);
            if turn.ended {
                return Poll::Ready(());
            }
            if turn.again {
                break;
            }
            let ready = this.engine.poll_ready(|socket, interest| socket.poll_ready(cx, interest));
            if !ready && !this.poll_timer(cx, turn.deadline) {
                return Poll::Pending;
            }
        }
        // There is more to do, but others have waited long enough.
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Driver {
    /// Whether the deadline has passed. Otherwise the task is woken then.
    fn poll_timer(&mut self, cx: &mut Context<'_>, deadline: Option<Instant>) -> bool {
        if self.deadline != deadline {
            self.deadline = deadline;
            // Setting the timer takes a lock of the runtime's, and most turns leave the deadline where it was.
            if let Some(deadline) = deadline {
                self.timer.as_mut().reset(deadline.into());
            }
        }
        if self.deadline.is_some() && self.timer.as_mut().poll(cx).is_ready() {
            // A timer that has fired must not be polled again before it is set.
            self.deadline = None;
            return true;
        }
        false
    }
}

struct Sockets;

impl Reactor for Sockets {
    type Socket = Socket;

    fn open(&mut self, socket: std::net::UdpSocket) -> io::Result<Socket> {
        UdpSocket::from_std(socket).map(Socket)
    }
}

#[derive(Debug)]
struct Socket(UdpSocket);

impl Socket {
    fn poll_ready(&self, cx: &mut Context<'_>, interest: Interest) -> bool {
        let poll = match interest {
            Interest::Read => self.0.poll_recv_ready(cx),
            Interest::Write => self.0.poll_send_ready(cx),
        };
        // An error means that the runtime goes down, and this task with it.
        matches!(poll, Poll::Ready(Ok(())))
    }
}

impl SocketIo for Socket {
    fn try_read<R>(&self, op: impl FnOnce(UdpSockRef<'_>) -> io::Result<R>) -> io::Result<R> {
        self.0.try_io(TokioInterest::READABLE, || op((&self.0).into()))
    }

    fn try_write(&self, mut op: impl FnMut(UdpSockRef<'_>) -> io::Result<()>) -> io::Result<()> {
        // A new socket can be written to before the runtime has heard so. Only one that is really full goes through
        // the runtime, with a second try, so that it hears of that.
        match op((&self.0).into()) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.0.try_io(TokioInterest::WRITABLE, || op((&self.0).into()))
            }
            result => result,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn pair() -> (Socket, Socket) {
        let socket = || {
            let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
            socket.set_nonblocking(true).unwrap();
            Sockets.open(socket).unwrap()
        };
        (socket(), socket())
    }

    #[test]
    fn outside_a_runtime_there_is_an_error_and_no_panic() {
        assert!(matches!(spawn(Config::default()), Err(StartError::Runtime(_))));
    }

    #[tokio::test]
    async fn a_socket_is_ready_once_something_has_come_and_not_after_it_was_read() {
        let (a, b) = pair();
        let mut cx = Context::from_waker(std::task::Waker::noop());
        assert!(!b.poll_ready(&mut cx, Interest::Read));
        a.0.send_to(b"x", b.0.local_addr().unwrap()).await.unwrap();
        tokio::time::timeout(Duration::from_secs(5), b.0.readable()).await.unwrap().unwrap();
        assert!(b.poll_ready(&mut cx, Interest::Read));
        let read = || b.try_read(|_| b.0.try_recv(&mut [0; 8]));
        assert_eq!(read().unwrap(), 1);
        assert_eq!(read().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert!(!b.poll_ready(&mut cx, Interest::Read));
    }

    #[tokio::test]
    async fn a_new_socket_can_be_written_to_at_once() {
        let (a, _b) = pair();
        let mut calls = 0;
        a.try_write(|_| {
            calls += 1;
            Ok(())
        })
        .unwrap();
        assert_eq!(calls, 1);
    }
}
