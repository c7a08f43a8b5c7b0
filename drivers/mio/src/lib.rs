//! Runs [`peerwork`] nodes inside a [`mio`] event loop that stays yours.
//!
//! A [`Peer`] is a guest: it registers its sockets in a range of tokens that the loop leaves to it, is told of events
//! and takes its turns. It never polls. The [`Handle`] can be used from any thread, the loop's own included, by
//! polling its futures or through [`Handle::with`].
//!
//! ```no_run
//! use mio::{Events, Poll};
//! use peerwork::Config;
//! use peerwork_mio::{Peer, TOKENS};
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let mut poll = Poll::new()?;
//!     let mut events = Events::with_capacity(256);
//!     let mut peer = Peer::new(Config::default(), poll.registry(), 100..100 + TOKENS)?;
//!     let node = peer.handle();
//!     node.with(|node, now| node.listen(now, "/ip4/0.0.0.0/udp/4001/quic-v1".parse()?).map_err(Box::<dyn std::error::Error>::from))??;
//!
//!     loop {
//!         peer.turn(poll.registry());
//!         poll.poll(&mut events, peer.timeout())?;
//!         for event in &events {
//!             if peer.on_event(event) {
//!                 continue;
//!             }
//!             // Everything else in the loop.
//!         }
//!         if peer.has_ended() {
//!             return Ok(());
//!         }
//!     }
//! }
//! ```
//!
//! For those who have no loop, [`spawn_thread`] brings one.

use std::{
    io,
    net::UdpSocket,
    ops::Range,
    sync::Arc,
    task::{Wake, Waker},
    time::{Duration, Instant},
};

use mio::{Events, Poll, Registry, Token, event::Event, net};
use peerwork::{Config, limits::SOCKETS};
use peerwork_driver::{Engine, Interest, Reactor, SocketIo, UdpSockRef};
pub use peerwork_driver::{Handle, Options, StartError, Turn};

/// Tokens that a node can use: one for wake-ups and one for each socket. With fewer, it can have fewer sockets.
pub const TOKENS: usize = 1 + SOCKETS;

/// A node in an event loop. Dropping it ends the node without a goodbye to its peers.
#[derive(Debug)]
pub struct Peer {
    engine: Engine<Socket>,
    handle: Option<Handle>,
    /// Event of a wake-up, if this peer made its waker.
    wake: Option<Token>,
    tokens: Range<usize>,
    /// Tokens of sockets, by their distance from the start of the range.
    used: Vec<bool>,
    turn: Turn,
    /// Set by events, for [`timeout`](Self::timeout) to be right before the next turn.
    pending: bool,
}

impl Peer {
    /// A node that uses these tokens: the first for wake-ups by handles on other threads, the others for sockets.
    ///
    /// A [`mio::Poll`] can have one [`mio::Waker`] only, and this makes it. If the loop has one already, see
    /// [`with_waker`](Self::with_waker).
    pub fn new(config: Config, registry: &Registry, tokens: Range<usize>) -> Result<Self, StartError> {
        Self::with_options(config, Options::default(), registry, tokens)
    }

    /// The same with options.
    pub fn with_options(
        config: Config,
        options: Options,
        registry: &Registry,
        tokens: Range<usize>,
    ) -> Result<Self, StartError> {
        let (first, rest) = (Token(tokens.start), tokens.start.saturating_add(1)..tokens.end);
        if rest.is_empty() {
            let error = io::Error::new(io::ErrorKind::InvalidInput, "a node needs two tokens at least");
            return Err(StartError::Runtime(error));
        }
        let waker = mio::Waker::new(registry, first).map_err(StartError::Runtime)?;
        let waker = Waker::from(Arc::new(LoopWaker(waker)));
        let mut peer = Self::with_waker(config, options, rest, waker)?;
        peer.wake = Some(first);
        Ok(peer)
    }

    /// A node that uses all of these tokens for sockets. `waker` must make the loop call [`turn`](Self::turn).
    pub fn with_waker(
        config: Config,
        options: Options,
        tokens: Range<usize>,
        waker: Waker,
    ) -> Result<Self, StartError> {
        let (mut engine, handle) = Engine::new(config, options)?;
        engine.set_waker(&waker);
        let used = vec![false; tokens.len().min(SOCKETS)];
        let turn = Turn { deadline: None, again: true, ended: false };
        Ok(Self { engine, handle: Some(handle), wake: None, tokens, used, turn, pending: true })
    }

    /// A handle to the node, for any thread.
    ///
    /// # Panics
    ///
    /// After [`release`](Self::release).
    pub fn handle(&self) -> Handle {
        match &self.handle {
            Some(handle) => handle.clone(),
            None => panic!("the peer has released its handle"),
        }
    }

    /// Gives up the peer's own handle: from now on the node ends when the last of the others is dropped.
    pub fn release(&mut self) -> Option<Handle> {
        self.handle.take()
    }

    /// Takes note of an event of the loop. Returns whether it was the peer's; if so, a [`turn`](Self::turn) is due
    /// when all events have been seen.
    pub fn on_event(&mut self, event: &Event) -> bool {
        let token = event.token();
        if Some(token) == self.wake {
            self.pending = true;
            return true;
        }
        if !self.tokens.contains(&token.0) {
            return false;
        }
        self.pending |= self.engine.poll_ready(|socket, interest| {
            socket.token == token
                && match interest {
                    Interest::Read => event.is_readable() || event.is_error(),
                    Interest::Write => event.is_writable() || event.is_error(),
                }
        });
        true
    }

    /// Does what there is to do, up to a limit. To be called before the first wait, after events, and when
    /// [`timeout`](Self::timeout) has passed; harmless at any other time.
    pub fn turn(&mut self, registry: &Registry) -> Turn {
        if !self.turn.ended {
            self.pending = false;
            let mut sockets = Sockets { registry, start: self.tokens.start, used: &mut self.used };
            self.turn = self.engine.turn(&mut sockets);
        }
        self.turn
    }

    /// When the next turn is due, or `None` if it depends on events.
    pub fn deadline(&self) -> Option<Instant> {
        if self.pending || self.turn.again { Some(Instant::now()) } else { self.turn.deadline }
    }

    /// How long the loop may wait, for [`Poll::poll`].
    pub fn timeout(&self) -> Option<Duration> {
        if self.pending || self.turn.again {
            return Some(Duration::ZERO);
        }
        self.turn.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }

    /// Whether the node has ended. Its sockets are gone from the loop then.
    pub fn has_ended(&self) -> bool {
        self.turn.ended
    }
}

/// Runs a node in a loop that has nothing else to do, until the node ends.
pub fn run(mut peer: Peer, mut poll: Poll) -> io::Result<()> {
    let mut events = Events::with_capacity(256);
    while !peer.turn(poll.registry()).ended {
        match poll.poll(&mut events, peer.timeout()) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => result?,
        }
        for event in &events {
            peer.on_event(event);
        }
    }
    Ok(())
}

/// Starts a node in a loop on a thread of its own. It ends with the node: after [`Handle::shutdown`], or when the last
/// handle is dropped.
pub fn spawn_thread(config: Config) -> Result<Handle, StartError> {
    spawn_thread_with(config, Options::default())
}

/// The same with options.
pub fn spawn_thread_with(config: Config, options: Options) -> Result<Handle, StartError> {
    let poll = Poll::new().map_err(StartError::Runtime)?;
    let mut peer = Peer::with_options(config, options, poll.registry(), 0..TOKENS)?;
    let handle = peer.handle();
    peer.release();
    std::thread::Builder::new()
        .name("peerwork".into())
        // The loop fails only if the system's poll does; handles then find the node ended.
        .spawn(move || drop(run(peer, poll)))
        .map_err(StartError::Runtime)?;
    Ok(handle)
}

struct LoopWaker(mio::Waker);

impl Wake for LoopWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // It fails only if the loop is gone, and then nobody is to be woken.
        let _ = self.0.wake();
    }
}

struct Sockets<'a> {
    registry: &'a Registry,
    start: usize,
    used: &'a mut [bool],
}

impl Reactor for Sockets<'_> {
    type Socket = Socket;

    fn open(&mut self, socket: UdpSocket) -> io::Result<Socket> {
        let free = self.used.iter().position(|used| !used);
        let index = free.ok_or_else(|| io::Error::other("the node has no token left for another socket"))?;
        let token = Token(self.start + index);
        let mut io = net::UdpSocket::from_std(socket);
        self.registry.register(&mut io, token, mio::Interest::READABLE | mio::Interest::WRITABLE)?;
        self.used[index] = true;
        Ok(Socket { io, token })
    }

    fn close(&mut self, mut socket: Socket) {
        // Dropping the socket would remove it, too, on all systems but one that emulates its poll.
        let _ = self.registry.deregister(&mut socket.io);
        if let Some(used) = self.used.get_mut(socket.token.0.saturating_sub(self.start)) {
            *used = false;
        }
    }
}

#[derive(Debug)]
struct Socket {
    io: net::UdpSocket,
    token: Token,
}

impl SocketIo for Socket {
    fn try_read<R>(&self, op: impl FnOnce(UdpSockRef<'_>) -> io::Result<R>) -> io::Result<R> {
        self.io.try_io(|| op((&self.io).into()))
    }

    fn try_write(&self, mut op: impl FnMut(UdpSockRef<'_>) -> io::Result<()>) -> io::Result<()> {
        self.io.try_io(|| op((&self.io).into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bound() -> UdpSocket {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        socket
    }

    #[test]
    fn tokens_are_used_again_and_run_out() {
        let poll = Poll::new().unwrap();
        let mut used = [false; 2];
        let mut sockets = Sockets { registry: poll.registry(), start: 10, used: &mut used };
        let first = sockets.open(bound()).unwrap();
        let second = sockets.open(bound()).unwrap();
        assert_eq!((first.token, second.token), (Token(10), Token(11)));
        assert!(sockets.open(bound()).unwrap_err().to_string().contains("no token left"));
        sockets.close(first);
        assert_eq!(sockets.open(bound()).unwrap().token, Token(10));
    }

    #[test]
    fn a_waker_reaches_the_loop() {
        let mut poll = Poll::new().unwrap();
        let waker = Waker::from(Arc::new(LoopWaker(mio::Waker::new(poll.registry(), Token(7)).unwrap())));
        // One that is gone when the loop looks wakes nobody, so this thread keeps it.
        let other = waker.clone();
        std::thread::spawn(move || other.wake());
        let mut events = Events::with_capacity(8);
        poll.poll(&mut events, Some(Duration::from_secs(5))).unwrap();
        assert_eq!(events.iter().map(Event::token).collect::<Vec<_>>(), [Token(7)]);
        drop(waker);
    }

    #[test]
    fn too_few_tokens_are_refused() {
        let poll = Poll::new().unwrap();
        let error = Peer::new(Config::default(), poll.registry(), 5..6).unwrap_err();
        assert!(error.to_string().contains("two tokens"), "{error}");
    }
}
