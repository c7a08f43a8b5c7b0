//! What a [`Handle`](crate::Handle) and its driver share: the node behind a mutex, and who waits for what.
//!
//! The rules that keep this simple:
//!
//! - The lock is held for calls into the node and for moving answers about, never during a system call, never while a
//!   task is woken, and never across an await.
//! - Only the driver polls the node's outputs. A handle that changes something calls [`Shared::notify`], and the
//!   driver comes round; any number of changes in between are one wake-up.
//! - Once [`State::ended`] is set the node is not called any more. Every future looks at it after finding no answer.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::Waker,
    time::Duration,
};

use peerwork::{
    ConnId, Event, Input, Node, PeerId, ProtocolId, RequestId, StreamError, StreamId, Time, protocol::ping::PingFailure,
};

use crate::{
    ask::Waiters,
    clock::Clock,
    events::Subscriptions,
    handle::{DialAsk, ListenAsk, PerfAsk, RequestAsk},
};

/// What can be reached from both sides.
pub(crate) struct Shared {
    state: Mutex<State>,
    pub(crate) clock: Clock,
    /// Set by whoever wants the driver to come round, cleared by the driver when it does.
    notified: AtomicBool,
    driver: Mutex<Option<Waker>>,
}

/// The table of who waits for the answers to `A`.
pub(crate) type WaitersFor<A> =
    Waiters<<A as crate::ask::Ask>::Key, Result<<A as crate::ask::Ask>::Answer, <A as crate::ask::Ask>::Failure>>;

/// All under the lock.
pub(crate) struct State {
    pub(crate) node: Node,
    pub(crate) ended: bool,
    /// Inputs that come from other threads than the driver's.
    pub(crate) inbox: Vec<Input>,
    pub(crate) dials: WaitersFor<DialAsk>,
    pub(crate) listens: WaitersFor<ListenAsk>,
    pub(crate) requests: WaitersFor<RequestAsk>,
    pub(crate) perfs: WaitersFor<PerfAsk>,
    pub(crate) pings: Waiters<u64, Result<Duration, PingFailure>>,
    /// The pings of [`pings`](Self::pings) by connection, since a ping has no id of its own.
    pub(crate) pinging: HashMap<ConnId, Vec<u64>>,
    pub(crate) streams: HashMap<StreamId, StreamSlot>,
    pub(crate) incoming: HashMap<ProtocolId, Backlog<QueuedStream>>,
    pub(crate) served: HashMap<ProtocolId, Backlog<QueuedRequest>>,
    pub(crate) subscriptions: Subscriptions,
    pub(crate) ending: Waiters<u64, ()>,
    ticket: u64,
}

/// A stream that the application holds or that waits to be taken by it.
#[derive(Default)]
pub(crate) struct StreamSlot {
    pub(crate) read: Option<Waker>,
    pub(crate) write: Option<Waker>,
    /// Waits for the peer to agree on a protocol, or for its answer to be fetched.
    pub(crate) opened: Option<ProtocolId>,
    /// Why the node has forgotten the stream.
    pub(crate) failed: Option<StreamError>,
    pub(crate) writing: Writing,
}

/// What the application did to the writing side. The node forgets a stream whose sides are both over, and then nobody
/// else knows.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Writing {
    #[default]
    Open,
    Finished,
    Reset,
}

/// What peers started and the application has not taken yet.
pub(crate) struct Backlog<T> {
    pub(crate) queue: VecDeque<T>,
    pub(crate) capacity: usize,
    pub(crate) waker: Option<Waker>,
    /// Whether the application has let go of it. Newcomers are turned away.
    pub(crate) closed: bool,
}

impl<T> Backlog<T> {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { queue: VecDeque::new(), capacity: capacity.max(1), waker: None, closed: false }
    }

    /// Whether there was room.
    fn push(&mut self, item: T, wake: &mut Vec<Waker>) -> bool {
        if self.closed || self.queue.len() >= self.capacity {
            return false;
        }
        self.queue.push_back(item);
        wake.extend(self.waker.take());
        true
    }
}

/// A stream that a peer opened.
pub(crate) struct QueuedStream {
    pub(crate) stream: StreamId,
    pub(crate) conn: ConnId,
    pub(crate) peer: PeerId,
}

/// A request that a peer sent.
pub(crate) struct QueuedRequest {
    pub(crate) request: RequestId,
    pub(crate) conn: ConnId,
    pub(crate) peer: PeerId,
}

impl Shared {
    pub(crate) fn new(node: Node, clock: Clock) -> Self {
        let state = State {
            node,
            ended: false,
            inbox: Vec::new(),
            dials: Waiters::default(),
            listens: Waiters::default(),
            requests: Waiters::default(),
            perfs: Waiters::default(),
            pings: Waiters::default(),
            pinging: HashMap::new(),
            streams: HashMap::new(),
            incoming: HashMap::new(),
            served: HashMap::new(),
            subscriptions: Subscriptions::default(),
            ending: Waiters::default(),
            ticket: 0,
        };
        Self { state: Mutex::new(state), clock, notified: AtomicBool::new(false), driver: Mutex::new(None) }
    }

    /// For what does not call the node. A panic inside the node poisons the lock, and what waits for answers may still
    /// be looked at then.
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For what calls the node: the state, unless the node has ended or panicked.
    pub(crate) fn lock_running(&self) -> Option<MutexGuard<'_, State>> {
        self.state.lock().ok().filter(|state| !state.ended)
    }

    /// Makes the driver come round.
    pub(crate) fn notify(&self) {
        if !self.notified.swap(true, Ordering::AcqRel)
            && let Some(waker) = &*self.driver.lock().unwrap_or_else(PoisonError::into_inner)
        {
            waker.wake_by_ref();
        }
    }

    /// For the driver, before it looks at the state: what is notified from now on wakes it again.
    pub(crate) fn begin(&self) {
        self.notified.store(false, Ordering::Release);
    }

    pub(crate) fn set_driver(&self, waker: &Waker) {
        let mut driver = self.driver.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *driver {
            Some(known) => known.clone_from(waker),
            None => *driver = Some(waker.clone()),
        }
    }

    /// Hands the node something that happened on another thread.
    pub(crate) fn deliver(&self, input: Input) {
        self.lock().inbox.push(input);
        self.notify();
    }

    /// Ends everything: every future and stream gets to know.
    pub(crate) fn end(&self) {
        let mut wake = Vec::new();
        {
            let mut state = self.lock();
            state.ended = true;
            state.wake_all(&mut wake);
        }
        wake.into_iter().for_each(Waker::wake);
    }
}

impl State {
    /// A number that was not used before.
    pub(crate) fn ticket(&mut self) -> u64 {
        self.ticket += 1;
        self.ticket
    }

    fn wake_all(&mut self, wake: &mut Vec<Waker>) {
        self.dials.wake_all(wake);
        self.listens.wake_all(wake);
        self.requests.wake_all(wake);
        self.perfs.wake_all(wake);
        self.pings.wake_all(wake);
        self.ending.wake_all(wake);
        self.subscriptions.wake_all(wake);
        for slot in self.streams.values_mut() {
            wake.extend(slot.read.take());
            wake.extend(slot.write.take());
        }
        wake.extend(self.incoming.values_mut().filter_map(|backlog| backlog.waker.take()));
        wake.extend(self.served.values_mut().filter_map(|backlog| backlog.waker.take()));
    }

    /// Takes an event of the node to whoever waits for it. What only concerns one stream or request goes nowhere
    /// else; everything else goes to the subscribers as well.
    pub(crate) fn route(&mut self, now: Time, event: Event, wake: &mut Vec<Waker>) {
        match &event {
            Event::StreamReadable { stream } => {
                if let Some(slot) = self.streams.get_mut(stream) {
                    return wake.extend(slot.read.take());
                }
            }
            Event::StreamWritable { stream } => {
                if let Some(slot) = self.streams.get_mut(stream) {
                    return wake.extend(slot.write.take());
                }
            }
            Event::StreamOpened { stream, protocol } => {
                if let Some(slot) = self.streams.get_mut(stream) {
                    slot.opened = Some(protocol.clone());
                    wake.extend(slot.read.take());
                    return wake.extend(slot.write.take());
                }
            }
            Event::StreamFailed { stream, error } => {
                if let Some(slot) = self.streams.get_mut(stream) {
                    slot.failed = Some(error.clone());
                    wake.extend(slot.read.take());
                    return wake.extend(slot.write.take());
                }
            }
            Event::StreamInbound { stream, conn, peer, protocol } => {
                if let Some(backlog) = self.incoming.get_mut(protocol) {
                    let queued = QueuedStream { stream: *stream, conn: *conn, peer: *peer };
                    if backlog.push(queued, wake) {
                        self.streams.insert(*stream, StreamSlot::default());
                    } else {
                        self.reject(now, *stream);
                    }
                    return;
                }
            }
            Event::Request { request, conn, peer, protocol, .. } => {
                if let Some(backlog) = self.served.get_mut(protocol) {
                    let queued = QueuedRequest { request: *request, conn: *conn, peer: *peer };
                    if !backlog.push(queued, wake) {
                        // It may be over already, in which case there is nothing to refuse.
                        let _ = self.node.requests(now).refuse(*request);
                    }
                    return;
                }
            }
            Event::RequestDropped { request } => {
                // Whoever has taken the request finds out when responding.
                for backlog in self.served.values_mut() {
                    backlog.queue.retain(|queued| queued.request != *request);
                }
                if !self.served.is_empty() {
                    return;
                }
            }
            Event::Response { request, result } if self.requests.contains(*request) => {
                let answer = result.clone().map(|_| self.node.requests(now).take(*request).unwrap_or_default());
                self.requests.complete(*request, answer, wake);
                return;
            }
            Event::Listening { listener, address } => {
                self.listens.complete(*listener, Ok(address.clone()), wake);
            }
            Event::ListenFailed { listener, error } => {
                self.listens.complete(*listener, Err(error.clone()), wake);
            }
            Event::Dialed { dial, conn, peer } => {
                self.dials.complete(*dial, Ok(crate::Connection { conn: *conn, peer: *peer }), wake);
            }
            Event::DialFailed { dial, error } => {
                self.dials.complete(*dial, Err(error.clone()), wake);
            }
            Event::Perf { perf, result } => {
                self.perfs.complete(*perf, result.clone(), wake);
            }
            Event::Ping { conn, result, .. } => {
                for ticket in self.pinging.remove(conn).unwrap_or_default() {
                    self.pings.complete(ticket, result.clone(), wake);
                }
            }
            Event::Disconnected { conn, .. } => {
                for ticket in self.pinging.remove(conn).unwrap_or_default() {
                    self.pings.complete(ticket, Err(StreamError::ConnectionClosed.into()), wake);
                }
            }
            _ => {}
        }
        self.subscriptions.publish(event, wake);
    }

    /// Turns away a stream that nobody takes.
    pub(crate) fn reject(&mut self, now: Time, stream: StreamId) {
        if let Ok(mut stream) = self.node.stream(now, stream) {
            stream.reset(peerwork::fault::code::STREAM_RESOURCE_LIMIT);
            stream.stop(peerwork::fault::code::STREAM_RESOURCE_LIMIT);
            stream.close();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backlog_is_bounded_and_wakes_once() {
        let mut backlog = Backlog::new(2);
        backlog.waker = Some(Waker::noop().clone());
        let mut wake = Vec::new();
        assert!(backlog.push(1, &mut wake) && backlog.push(2, &mut wake));
        assert!(!backlog.push(3, &mut wake));
        assert_eq!((backlog.queue.len(), wake.len()), (2, 1));
        backlog.queue.clear();
        backlog.closed = true;
        assert!(!backlog.push(4, &mut wake));
    }
}
