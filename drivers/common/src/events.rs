//! Subscriptions: every subscriber has a queue of its own, which forgets its oldest events rather than grow.

use std::{
    collections::{HashMap, VecDeque},
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use futures_core::Stream;
use peerwork::Event;

use crate::{Handle, ask::store};

/// Events that a subscription holds unless told otherwise.
pub const DEFAULT_CAPACITY: usize = 1024;

/// A subscriber did not keep up: this many events, the oldest it had not seen, are lost to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the subscriber was too slow and missed {0} events")]
pub struct Lagged(pub u64);

/// The node's events from the moment of subscription on.
///
/// Ends when the node does. An item is an event, or [`Lagged`] in the place where events are missing. Events of a
/// single stream or request that something else made through the [`Handle`] waits for, are not among them:
/// `StreamReadable` and the like would drown the rest.
#[derive(Debug)]
#[must_use = "events are collected until this is dropped"]
pub struct Subscription {
    handle: Handle,
    id: u64,
}

impl Subscription {
    pub(crate) fn new(handle: &Handle, capacity: usize) -> Self {
        let id = handle.shared().lock().subscriptions.insert(capacity);
        Self { handle: handle.clone(), id }
    }

    /// The next event, or `None` if there will be none.
    pub async fn recv(&mut self) -> Option<Result<Event, Lagged>> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    fn poll_recv(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Event, Lagged>>> {
        let mut state = self.handle.shared().lock();
        let ended = state.ended;
        match state.subscriptions.poll(self.id, cx) {
            Poll::Pending if ended => Poll::Ready(None),
            poll => poll,
        }
    }
}

impl Stream for Subscription {
    type Item = Result<Event, Lagged>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_recv(cx)
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let queue = self.handle.shared().lock().subscriptions.queues.remove(&self.id);
        // Freed when the lock is not held any more.
        drop(queue);
    }
}

/// All subscriptions of a node.
pub(crate) struct Subscriptions<T = Event> {
    queues: HashMap<u64, Queue<T>>,
    next: u64,
}

impl<T> Default for Subscriptions<T> {
    fn default() -> Self {
        Self { queues: HashMap::new(), next: 0 }
    }
}

struct Queue<T> {
    events: VecDeque<T>,
    capacity: usize,
    lost: u64,
    waker: Option<Waker>,
}

impl<T: Clone> Subscriptions<T> {
    fn insert(&mut self, capacity: usize) -> u64 {
        let id = self.next;
        self.next += 1;
        let queue = Queue { events: VecDeque::new(), capacity: capacity.max(1), lost: 0, waker: None };
        self.queues.insert(id, queue);
        id
    }

    /// Tells everybody.
    pub(crate) fn publish(&mut self, event: T, wake: &mut Vec<Waker>) {
        let mut queues = self.queues.values_mut();
        let Some(last) = queues.next() else { return };
        for queue in queues {
            queue.push(event.clone(), wake);
        }
        last.push(event, wake);
    }

    fn poll(&mut self, id: u64, cx: &mut Context<'_>) -> Poll<Option<Result<T, Lagged>>> {
        let Some(queue) = self.queues.get_mut(&id) else { return Poll::Ready(None) };
        if queue.lost > 0 {
            return Poll::Ready(Some(Err(Lagged(std::mem::take(&mut queue.lost)))));
        }
        match queue.events.pop_front() {
            Some(event) => Poll::Ready(Some(Ok(event))),
            None => {
                store(&mut queue.waker, cx);
                Poll::Pending
            }
        }
    }

    pub(crate) fn wake_all(&mut self, wake: &mut Vec<Waker>) {
        wake.extend(self.queues.values_mut().filter_map(|queue| queue.waker.take()));
    }
}

impl<T> Queue<T> {
    fn push(&mut self, event: T, wake: &mut Vec<Waker>) {
        if self.events.len() >= self.capacity {
            self.events.pop_front();
            self.lost += 1;
        }
        self.events.push_back(event);
        wake.extend(self.waker.take());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(subscriptions: &mut Subscriptions<u32>, id: u64) -> Vec<Result<u32, Lagged>> {
        let mut cx = Context::from_waker(Waker::noop());
        std::iter::from_fn(|| match subscriptions.poll(id, &mut cx) {
            Poll::Ready(item) => item,
            Poll::Pending => None,
        })
        .collect()
    }

    #[test]
    fn a_slow_subscriber_loses_the_oldest_and_gets_to_know() {
        let mut subscriptions = Subscriptions::default();
        let (slow, quick) = (subscriptions.insert(3), subscriptions.insert(100));
        for number in 0..10 {
            subscriptions.publish(number, &mut Vec::new());
        }
        assert_eq!(drain(&mut subscriptions, slow), [Err(Lagged(7)), Ok(7), Ok(8), Ok(9)]);
        assert_eq!(drain(&mut subscriptions, quick), (0..10).map(Ok).collect::<Vec<_>>());
        subscriptions.publish(10, &mut Vec::new());
        assert_eq!(drain(&mut subscriptions, slow), [Ok(10)]);
    }

    #[test]
    fn one_wait_is_one_wake_up() {
        let mut subscriptions = Subscriptions::default();
        let id = subscriptions.insert(3);
        assert_eq!(drain(&mut subscriptions, id), []);
        let mut wake = Vec::new();
        subscriptions.publish(1, &mut wake);
        subscriptions.publish(2, &mut wake);
        assert_eq!(wake.len(), 1);
    }
}
