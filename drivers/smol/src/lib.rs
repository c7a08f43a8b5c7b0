//! Runs [`peerwork`] nodes on smol, or on any other executor.
//!
//! Sockets and timers come from [`async_io`], which brings its own thread for them where no `async_io::block_on` runs.
//! So the future that [`start`] gives can be spawned on any executor whatsoever; [`spawn_on`] does that for
//! smol's, and [`spawn_thread`] gives the node a thread of its own.
//!
//! ```no_run
//! use async_executor::Executor;
//! use peerwork::{Config, ProtocolId};
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let executor = Executor::new();
//!     let node = peerwork_smol::spawn_on(&executor, Config::default())?;
//!     async_io::block_on(executor.run(async {
//!         let address = node.listen("/ip4/0.0.0.0/udp/4001/quic-v1".parse()?).await?;
//!         println!("{address}/p2p/{}", node.peer_id());
//!
//!         let mut greetings = node.register(&ProtocolId::new("/greeting/1")?)?;
//!         while let Some(mut stream) = greetings.accept().await {
//!             stream.write_chunk("hello".into()).await?;
//!         }
//!         Ok(())
//!     }))
//! }
//! ```

use std::{
    future::Future,
    io,
    net::UdpSocket,
    pin::Pin,
    task::{Context, Poll},
    time::Instant,
};

use async_executor::Executor;
use async_io::{Async, Timer};
use peerwork::Config;
use peerwork_driver::{Engine, Interest, Reactor, SocketIo, UdpSockRef};
pub use peerwork_driver::{Handle, Options, StartError};

/// Turns on end that find something new to do; then other tasks get theirs.
const TURNS: usize = 4;

/// Makes a node and the future that drives it.
///
/// The future ends, and with it the node, after [`Handle::shutdown`] or when the last handle is dropped.
pub fn start(config: Config) -> Result<(Driver, Handle), StartError> {
    start_with(config, Options::default())
}

/// The same with options.
pub fn start_with(config: Config, options: Options) -> Result<(Driver, Handle), StartError> {
    let (engine, handle) = Engine::new(config, options)?;
    Ok((Driver { engine, timer: Timer::never(), deadline: None }, handle))
}

/// Starts a node as a task of this executor, such as `smol`'s.
pub fn spawn_on(executor: &Executor<'_>, config: Config) -> Result<Handle, StartError> {
    let (driver, handle) = start(config)?;
    executor.spawn(driver).detach();
    Ok(handle)
}

/// Starts a node on a thread of its own.
pub fn spawn_thread(config: Config) -> Result<Handle, StartError> {
    spawn_thread_with(config, Options::default())
}

/// The same with options.
pub fn spawn_thread_with(config: Config, options: Options) -> Result<Handle, StartError> {
    let (driver, handle) = start_with(config, options)?;
    std::thread::Builder::new()
        .name("peerwork".into())
        .spawn(|| async_io::block_on(driver))
        .map_err(StartError::Runtime)?;
    Ok(handle)
}

/// Drives a node for as long as it runs. Dropping it ends the node without a goodbye to its peers.
#[derive(Debug)]
#[must_use = "a node whose driver is not polled does nothing"]
pub struct Driver {
    engine: Engine<Socket>,
    timer: Timer,
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
            // Setting the timer goes through the reactor's queue, and most turns leave the deadline where it was.
            if let Some(deadline) = deadline {
                self.timer.set_at(deadline);
            }
        }
        if self.deadline.is_some() && Pin::new(&mut self.timer).poll(cx).is_ready() {
            self.deadline = None;
            return true;
        }
        false
    }
}

struct Sockets;

impl Reactor for Sockets {
    type Socket = Socket;

    fn open(&mut self, socket: UdpSocket) -> io::Result<Socket> {
        Async::new_nonblocking(socket).map(Socket)
    }
}

#[derive(Debug)]
struct Socket(Async<UdpSocket>);

impl Socket {
    fn poll_ready(&self, cx: &mut Context<'_>, interest: Interest) -> bool {
        match interest {
            Interest::Read => self.0.poll_readable(cx),
            Interest::Write => self.0.poll_writable(cx),
        }
        // An error shows itself again in the system call that follows.
        .is_ready()
    }
}

impl SocketIo for Socket {
    fn try_read<R>(&self, op: impl FnOnce(UdpSockRef<'_>) -> io::Result<R>) -> io::Result<R> {
        op(self.0.get_ref().into())
    }

    fn try_write(&self, mut op: impl FnMut(UdpSockRef<'_>) -> io::Result<()>) -> io::Result<()> {
        op(self.0.get_ref().into())
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, net::Ipv4Addr, task::Waker};

    use super::*;

    fn socket() -> Socket {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        socket.set_nonblocking(true).unwrap();
        Sockets.open(socket).unwrap()
    }

    #[test]
    fn a_socket_that_is_waited_for_becomes_ready_when_something_comes() {
        let (a, b) = (socket(), socket());
        assert!(!b.poll_ready(&mut Context::from_waker(Waker::noop()), Interest::Read));
        a.0.get_ref().send_to(b"x", b.0.get_ref().local_addr().unwrap()).unwrap();
        async_io::block_on(poll_fn(
            |cx| if b.poll_ready(cx, Interest::Read) { Poll::Ready(()) } else { Poll::Pending },
        ));
        let len = b.try_read(|_| b.0.get_ref().recv(&mut [0; 8])).unwrap();
        assert_eq!(len, 1);
    }
}
