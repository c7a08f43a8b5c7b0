//! What peers start: streams of registered protocols and requests, in bounded backlogs.
//!
//! What waits here costs the application nothing but the wait: data stays in the node's windows until it is read, and
//! a request's payload in the node's account until the request is taken.

use std::{
    fmt,
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use peerwork::{ConnId, PeerId, ProtocolId, RequestId, config::RequestConfig};

use crate::{
    Handle,
    ask::store,
    error::{RegisterFailure, RequestFailure},
    shared::{Backlog, State},
    stream::Stream,
};

/// The streams that peers open with one protocol. Ends when the node does.
#[must_use = "dropping this unregisters the protocol"]
pub struct Incoming {
    handle: Handle,
    protocol: ProtocolId,
}

impl Incoming {
    pub(crate) fn new(handle: &Handle, protocol: &ProtocolId, backlog: usize) -> Result<Self, RegisterFailure> {
        handle.change(|state, now| {
            state.node.register(now, protocol.clone())?;
            state.incoming.insert(protocol.clone(), Backlog::new(backlog));
            Ok::<_, RegisterFailure>(())
        })??;
        Ok(Self { handle: handle.clone(), protocol: protocol.clone() })
    }

    /// The next stream, or `None` if there will be none.
    pub async fn accept(&mut self) -> Option<Stream> {
        poll_fn(|cx| self.poll_accept(cx)).await
    }

    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<Option<Stream>> {
        let queued = {
            let mut state = self.handle.shared().lock();
            match poll_backlog(&mut state, cx, |state| state.incoming.get_mut(&self.protocol)) {
                Poll::Ready(Some(queued)) => queued,
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => return Poll::Pending,
            }
        };
        let protocol = self.protocol.clone();
        Poll::Ready(Some(Stream::new(self.handle.clone(), queued.stream, queued.conn, queued.peer, protocol)))
    }
}

impl futures_core::Stream for Incoming {
    type Item = Stream;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Stream>> {
        self.poll_accept(cx)
    }
}

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Incoming({})", self.protocol)
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        // A node that has ended has reset them all.
        let _ = self.handle.change(|state, now| {
            state.node.unregister(now, &self.protocol);
            for queued in state.incoming.remove(&self.protocol).into_iter().flat_map(|backlog| backlog.queue) {
                state.streams.remove(&queued.stream);
                state.reject(now, queued.stream);
            }
        });
    }
}

fn poll_backlog<T>(
    state: &mut State,
    cx: &mut Context<'_>,
    backlog: impl Fn(&mut State) -> Option<&mut Backlog<T>>,
) -> Poll<Option<T>> {
    let ended = state.ended;
    let Some(backlog) = backlog(state) else { return Poll::Ready(None) };
    match backlog.queue.pop_front() {
        Some(item) if !ended => Poll::Ready(Some(item)),
        _ if ended => Poll::Ready(None),
        _ => {
            store(&mut backlog.waker, cx);
            Poll::Pending
        }
    }
}

/// The requests of one protocol that peers send. Ends when the node does.
///
/// Dropping this unregisters the protocol; what has arrived by then is refused.
#[must_use = "requests are refused when this is dropped"]
pub struct InboundRequests {
    handle: Handle,
    protocol: ProtocolId,
}

impl InboundRequests {
    pub(crate) fn new(handle: &Handle, protocol: &ProtocolId, config: RequestConfig) -> Result<Self, RegisterFailure> {
        handle.change(|state, now| {
            let capacity = config.max_inbound_per_peer.saturating_mul(16);
            let config = RequestConfig { serve: true, ..config };
            state.node.requests(now).register(protocol.clone(), config)?;
            state.served.insert(protocol.clone(), Backlog::new(capacity));
            Ok::<_, RegisterFailure>(())
        })??;
        Ok(Self { handle: handle.clone(), protocol: protocol.clone() })
    }

    /// The next request, or `None` if there will be none.
    pub async fn recv(&mut self) -> Option<InboundRequest> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    fn poll_recv(&self, cx: &mut Context<'_>) -> Poll<Option<InboundRequest>> {
        let shared = self.handle.shared();
        let mut state = shared.lock();
        loop {
            let queued = match poll_backlog(&mut state, cx, |state| state.served.get_mut(&self.protocol)) {
                Poll::Ready(Some(queued)) => queued,
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => return Poll::Pending,
            };
            // One without a payload is over: the peer gave up and its event is still under way.
            if let Some(data) = state.node.requests(shared.clock.now()).take(queued.request) {
                drop(state);
                return Poll::Ready(Some(InboundRequest {
                    handle: self.handle.clone(),
                    id: queued.request,
                    conn: queued.conn,
                    peer: queued.peer,
                    data,
                    answered: false,
                }));
            }
        }
    }
}

impl futures_core::Stream for InboundRequests {
    type Item = InboundRequest;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<InboundRequest>> {
        self.poll_recv(cx)
    }
}

impl fmt::Debug for InboundRequests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "InboundRequests({})", self.protocol)
    }
}

impl Drop for InboundRequests {
    fn drop(&mut self) {
        // A node that has ended has refused them all.
        let _ = self.handle.change(|state, now| {
            state.node.unregister(now, &self.protocol);
            if let Some(backlog) = state.served.get_mut(&self.protocol) {
                // It stays, for requests whose events are still under way.
                backlog.closed = true;
                for queued in std::mem::take(&mut backlog.queue) {
                    let _ = state.node.requests(now).refuse(queued.request);
                }
            }
        });
    }
}

/// A request that a peer sent. Dropping it without an answer refuses it.
#[must_use = "a request that is dropped is refused"]
pub struct InboundRequest {
    /// The request.
    pub data: Bytes,
    /// The peer that asks.
    pub peer: PeerId,
    /// The connection on which it does.
    pub conn: ConnId,
    handle: Handle,
    id: RequestId,
    answered: bool,
}

impl InboundRequest {
    /// The node's id of the request.
    pub fn id(&self) -> RequestId {
        self.id
    }

    /// Answers. Fails if the response is too large, which refuses the request, or if the peer has given up.
    pub fn respond(mut self, response: Bytes) -> Result<(), RequestFailure> {
        self.handle.change(|state, now| state.node.requests(now).respond(self.id, response))??;
        self.answered = true;
        Ok(())
    }
}

impl fmt::Debug for InboundRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InboundRequest")
            .field("id", &self.id)
            .field("peer", &self.peer)
            .field("len", &self.data.len())
            .finish_non_exhaustive()
    }
}

impl Drop for InboundRequest {
    fn drop(&mut self) {
        if !self.answered {
            // The peer may have given up, or the node may have ended: then it is refused already.
            let _ = self.handle.change(|state, now| state.node.requests(now).refuse(self.id));
        }
    }
}
