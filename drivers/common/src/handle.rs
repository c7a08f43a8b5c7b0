//! The handle: the node as async code sees it.
//!
//! A handle does its work on the caller's thread, under a lock that is held for microseconds, and then makes the
//! driver come round to move the datagrams. Questions that take time give a future, [`Asked`], which is driven by any
//! executor; no runtime is named here.
//!
//! The node lives as long as somebody can reach it: when the last handle and the last object made by one (stream,
//! subscription, ...) are dropped, the node shuts down as if by [`Handle::shutdown`].

use std::{fmt, future::Future, pin::Pin, sync::Arc, task::Context, task::Poll, time::Duration};

use bytes::Bytes;
use peerwork::{
    ConnId, ConnInfo, Dial, DialFailure, DialId, ListenId, Multiaddr, Node, OpenError, PeerId, PerfId, ProtocolId,
    RequestId, Stats, StreamError, StreamId, Time, UnknownConnection, UnknownListener,
    config::RequestConfig,
    io::IoError,
    protocol::{perf::PerfReport, ping::PingFailure, request::RequestError},
};

use crate::{
    ask::{Ask, Asked, Route, ask},
    error::{
        ConnectError, DriverGone, ListenFailure, OpenFailure, PerfError, PingError, RegisterFailure, RequestFailure,
    },
    events::{DEFAULT_CAPACITY, Subscription},
    incoming::{InboundRequests, Incoming},
    shared::{Shared, State, StreamSlot, WaitersFor},
    stream::{Opening, Stream},
};

/// Streams or requests of one protocol that may wait for the application.
pub const BACKLOG: usize = 256;

/// A running node. Cloning gives another handle to the same node.
#[derive(Clone)]
pub struct Handle(Arc<Owner>);

/// What ends the node when it is dropped. The driver holds [`Shared`] and not this.
struct Owner(Arc<Shared>);

impl Drop for Owner {
    fn drop(&mut self) {
        if let Some(mut state) = self.0.lock_running() {
            let now = self.0.clock.now();
            state.node.shutdown(now);
        }
        self.0.notify();
    }
}

struct Notify<'a>(&'a Shared);

impl Drop for Notify<'_> {
    fn drop(&mut self) {
        self.0.notify();
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Handle(..)")
    }
}

/// A connection, as a dial gives it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Connection {
    /// The connection.
    pub conn: ConnId,
    /// The peer at its other end, proven by its key.
    pub peer: PeerId,
}

/// The future of [`Handle::listen`].
pub type Listening = Asked<ListenAsk>;
/// The future of [`Handle::dial`].
pub type Dialing = Asked<DialAsk>;
/// The future of [`Handle::request`].
pub type Requesting = Asked<RequestAsk>;
/// The future of [`Handle::perf`].
pub type Measuring = Asked<PerfAsk>;

macro_rules! ask {
    ($(#[$doc:meta])* $name:ident: $table:ident, $key:ty => $answer:ty, $failure:ty, $error:ty, $take_back:expr) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub enum $name {}

        impl Ask for $name {
            type Key = $key;
            type Answer = $answer;
            type Failure = $failure;
            type Error = $error;
        }

        impl Route for $name {
            fn waiters(state: &mut State) -> &mut WaitersFor<Self> {
                &mut state.$table
            }

            fn take_back(node: &mut Node, now: Time, key: $key) {
                let take_back: fn(&mut Node, Time, $key) = $take_back;
                take_back(node, now, key);
            }
        }
    };
}

// What is taken back may have ended by itself in the meantime; then there is nothing to do.
ask!(
/// To listen.
ListenAsk: listens, ListenId => Multiaddr, IoError, ListenFailure, |node, now, id| {
    let _ = node.unlisten(now, id);
});
ask!(
/// To dial.
DialAsk: dials, DialId => Connection, DialFailure, ConnectError, |node, now, id| {
    let _ = node.cancel_dial(now, id);
});
ask!(
/// To send a request.
RequestAsk: requests, RequestId => Bytes, RequestError, RequestFailure, |node, now, id| {
    let _ = node.requests(now).cancel(id);
});
ask!(
    /// To measure.
    PerfAsk: perfs, PerfId => PerfReport, StreamError, PerfError, |_, _, _| {});

impl Handle {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self(Arc::new(Owner(shared)))
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.0.0
    }

    /// Calls the node and makes the driver come round.
    pub(crate) fn change<R>(&self, f: impl FnOnce(&mut State, Time) -> R) -> Result<R, DriverGone> {
        let shared = self.shared();
        // Dropped last, when the lock is not held any more, and also if the node panics: then the driver ends.
        let _notify = Notify(shared);
        let mut state = shared.lock_running().ok_or(DriverGone)?;
        Ok(f(&mut state, shared.clock.now()))
    }

    /// The node's own id.
    pub fn peer_id(&self) -> PeerId {
        self.shared().lock().node.peer_id()
    }

    /// The node's time.
    pub fn now(&self) -> Time {
        self.shared().clock.now()
    }

    /// Counters of the node.
    pub fn stats(&self) -> Stats {
        self.shared().lock().node.stats()
    }

    /// Whether the node has ended, by [`shutdown`](Self::shutdown) or because its driver is gone.
    pub fn has_ended(&self) -> bool {
        self.shared().lock_running().is_none()
    }

    /// Calls the node directly: everything that it can do can be done here, and what comes of it is among the
    /// [events](Self::events).
    ///
    /// `f` runs under the lock that the driver needs too, so it must be quick, and it must not use this handle. If it
    /// panics, the node ends.
    pub fn with<R>(&self, f: impl FnOnce(&mut Node, Time) -> R) -> Result<R, DriverGone> {
        self.change(|state, now| f(&mut state.node, now))
    }

    /// Listens on an address such as `/ip4/0.0.0.0/udp/4001/quic-v1`; port 0 means any.
    ///
    /// Gives the first address that others can dial; a wildcard has more of them, in [`listen_addrs`]. Ask the future
    /// for its [`id`](Asked::id) first if the listener is to be removed some time.
    ///
    /// [`listen_addrs`]: Self::listen_addrs
    pub fn listen(&self, address: Multiaddr) -> Listening {
        ask(self, |state, now| state.node.listen(now, address))
    }

    /// Stops listening. Connections stay.
    pub fn unlisten(&self, listener: ListenId) -> Result<(), UnknownListener> {
        self.change(|state, now| state.node.unlisten(now, listener)).unwrap_or(Ok(()))
    }

    /// The addresses that others can dial, without `/p2p`.
    pub fn listen_addrs(&self) -> Vec<Multiaddr> {
        self.shared().lock().node.listen_addrs().to_vec()
    }

    /// Connects to a peer: to a [`Multiaddr`], a [`PeerId`] or a [`Dial`] (through [`Target`]). Dropping the future
    /// cancels the dial.
    pub fn dial(&self, target: impl Into<Target>) -> Dialing {
        let Target(dial) = target.into();
        ask(self, |state, now| state.node.dial(now, dial))
    }

    /// Closes a connection, with a code and words that the peer gets to see.
    pub fn disconnect(&self, conn: ConnId, code: u32, reason: &str) -> Result<(), UnknownConnection> {
        // A node that has ended has closed it.
        self.change(|state, now| state.node.disconnect(now, conn, code, reason)).unwrap_or(Ok(()))
    }

    /// The connections that are up.
    pub fn connections(&self) -> Vec<ConnInfo> {
        self.shared().lock().node.connections().collect()
    }

    /// A connection, if it is up.
    pub fn connection(&self, conn: ConnId) -> Option<ConnInfo> {
        self.shared().lock().node.connection(conn)
    }

    /// Speaks a protocol: streams that peers open with it can be taken from what this gives. [`BACKLOG`] of them may
    /// wait; more are reset. Dropping it unregisters the protocol.
    pub fn register(&self, protocol: &ProtocolId) -> Result<Incoming, RegisterFailure> {
        self.register_with_backlog(protocol, BACKLOG)
    }

    /// The same with another number of streams that may wait.
    pub fn register_with_backlog(&self, protocol: &ProtocolId, backlog: usize) -> Result<Incoming, RegisterFailure> {
        Incoming::new(self, protocol, backlog)
    }

    /// Opens a stream with the first of these protocols that the peer speaks, in a round trip. Dropping the future
    /// gives the stream up.
    pub fn open_stream(&self, conn: ConnId, protocols: &[ProtocolId]) -> Opening {
        Opening::new(self, conn, protocols)
    }

    /// Opens a stream with this protocol and does not wait for the peer to agree: what is written travels along with
    /// the proposal. If the peer does not speak the protocol, reading and writing fail with
    /// [`StreamError::Unsupported`].
    pub fn open_stream_lazy(&self, conn: ConnId, protocol: &ProtocolId) -> Result<Stream, OpenFailure> {
        let opened: Result<_, OpenError> = self.change(|state, now| {
            let stream = state.node.open_stream(now, conn, std::slice::from_ref(protocol))?;
            state.streams.insert(stream, StreamSlot::default());
            Ok((stream, ends(&mut state.node, now, stream)))
        })?;
        let (stream, ends) = opened?;
        // The node has just made the stream, so it knows where it leads.
        let (conn, peer) = ends.ok_or(StreamError::ConnectionClosed)?;
        Ok(Stream::new(self.clone(), stream, conn, peer, protocol.clone()))
    }

    /// Makes requests of a protocol possible without answering them.
    pub fn register_requests(&self, protocol: &ProtocolId, config: RequestConfig) -> Result<(), RegisterFailure> {
        let config = RequestConfig { serve: false, ..config };
        Ok(self.change(|state, now| state.node.requests(now).register(protocol.clone(), config))??)
    }

    /// Answers requests of a protocol, and makes sending them possible. As many as the node holds for one peer by
    /// `config`, times sixteen, may wait to be taken from what this gives; more are refused.
    pub fn serve_requests(
        &self,
        protocol: &ProtocolId,
        config: RequestConfig,
    ) -> Result<InboundRequests, RegisterFailure> {
        InboundRequests::new(self, protocol, config)
    }

    /// Sends a request, of a protocol that was given to [`register_requests`](Self::register_requests) or
    /// [`serve_requests`](Self::serve_requests). Dropping the future cancels it.
    pub fn request(&self, conn: ConnId, protocol: &ProtocolId, request: Bytes) -> Requesting {
        ask(self, |state, now| state.node.requests(now).send(conn, protocol, request))
    }

    /// Pings the peer at the other end of a connection, or joins a ping that is under way.
    pub fn ping(&self, conn: ConnId) -> Pinging {
        let asked = self.change(|state, now| {
            state.node.ping(now, conn)?;
            let ticket = state.ticket();
            state.pings.insert(ticket);
            state.pinging.entry(conn).or_default().push(ticket);
            Ok(ticket)
        });
        Pinging {
            handle: self.clone(),
            conn,
            state: match asked {
                Ok(asked) => asked.map_err(|error: UnknownConnection| error.into()),
                Err(gone) => Err(gone.into()),
            },
        }
    }

    /// Measures the throughput of a connection with `/perf/1.0.0`: sends and then receives so many bytes.
    pub fn perf(&self, conn: ConnId, upload: u64, download: u64) -> Measuring {
        ask(self, |state, now| state.node.perf(now, conn, upload, download))
    }

    /// The events of the node from now on, of which [`DEFAULT_CAPACITY`] may wait.
    pub fn events(&self) -> Subscription {
        self.events_with_capacity(DEFAULT_CAPACITY)
    }

    /// The same with another number of events that may wait.
    pub fn events_with_capacity(&self, capacity: usize) -> Subscription {
        Subscription::new(self, capacity)
    }

    /// Ends the node: connections are closed, peers get to know, sockets are released. The future ends when that is
    /// done; the shutdown goes on if it is dropped. Calling this again waits for the same end.
    pub fn shutdown(&self) -> ShuttingDown {
        let ticket = self.change(|state, now| {
            state.node.shutdown(now);
            let ticket = state.ticket();
            state.ending.insert(ticket);
            ticket
        });
        ShuttingDown { handle: self.clone(), ticket: ticket.ok() }
    }
}

/// The connection of a stream, which may be a better one than was asked for, and the peer at its other end.
pub(crate) fn ends(node: &mut Node, now: Time, stream: StreamId) -> Option<(ConnId, PeerId)> {
    let stream = node.stream(now, stream).ok()?;
    Some((stream.conn()?, stream.peer()?))
}

/// Whom to dial. Made from an address, a peer or a [`Dial`].
#[derive(Clone, Debug)]
pub struct Target(Dial);

impl From<Dial> for Target {
    fn from(dial: Dial) -> Self {
        Self(dial)
    }
}

impl From<Multiaddr> for Target {
    fn from(address: Multiaddr) -> Self {
        Self(Dial::address(address))
    }
}

impl From<PeerId> for Target {
    fn from(peer: PeerId) -> Self {
        Self(Dial::peer(peer))
    }
}

/// The future of [`Handle::ping`]: the round-trip time.
#[derive(Debug)]
#[must_use = "the answer comes here"]
pub struct Pinging {
    handle: Handle,
    conn: ConnId,
    state: Result<u64, PingError>,
}

impl Future for Pinging {
    type Output = Result<Duration, PingError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let ticket = match &self.state {
            Ok(ticket) => *ticket,
            Err(error) => return Poll::Ready(Err(error.clone())),
        };
        let answer: Result<Result<Duration, PingFailure>, DriverGone> = {
            let mut state = self.handle.shared().lock();
            match state.pings.poll(ticket, cx) {
                Poll::Ready(answer) => answer.ok_or(DriverGone),
                Poll::Pending if state.ended => Err(DriverGone),
                Poll::Pending => return Poll::Pending,
            }
        };
        self.state = Err(DriverGone.into());
        Poll::Ready(answer?.map_err(PingError::from))
    }
}

impl Drop for Pinging {
    fn drop(&mut self) {
        if let Ok(ticket) = self.state {
            let mut state = self.handle.shared().lock();
            state.pings.remove(ticket);
            if let Some(tickets) = state.pinging.get_mut(&self.conn) {
                tickets.retain(|&other| other != ticket);
                if tickets.is_empty() {
                    state.pinging.remove(&self.conn);
                }
            }
        }
    }
}

/// The future of [`Handle::shutdown`].
#[derive(Debug)]
#[must_use = "the node has not ended before this has"]
pub struct ShuttingDown {
    handle: Handle,
    ticket: Option<u64>,
}

impl Future for ShuttingDown {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(ticket) = self.ticket else { return Poll::Ready(()) };
        let mut state = self.handle.shared().lock();
        if state.ended {
            return Poll::Ready(());
        }
        state.ending.poll(ticket, cx).map(|_| ())
    }
}

impl Drop for ShuttingDown {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            self.handle.shared().lock().ending.remove(ticket);
        }
    }
}
