//! Futures for what the node answers with an event: one pattern for all of them.
//!
//! Asking gives an id. A [`Waiters`] table in the shared state holds who waits for which id; the engine puts the
//! answer there when the event comes, and the future fetches it. Dropping the future before takes back the question.

use std::{
    collections::HashMap,
    fmt,
    future::Future,
    hash::Hash,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use peerwork::{Node, Time};

use crate::{Handle, error::DriverGone, shared::State};

/// Who waits for what.
pub(crate) struct Waiters<K, T>(HashMap<K, Slot<T>>);

enum Slot<T> {
    Waiting(Option<Waker>),
    Done(T),
}

impl<K, T> Default for Waiters<K, T> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Copy + Eq + Hash, T> Waiters<K, T> {
    pub(crate) fn insert(&mut self, key: K) {
        self.0.insert(key, Slot::Waiting(None));
    }

    pub(crate) fn contains(&self, key: K) -> bool {
        self.0.contains_key(&key)
    }

    /// Puts an answer where its future finds it. Returns whether there is one.
    pub(crate) fn complete(&mut self, key: K, answer: T, wake: &mut Vec<Waker>) -> bool {
        let Some(slot) = self.0.get_mut(&key) else { return false };
        if let Slot::Waiting(waker) = std::mem::replace(slot, Slot::Done(answer)) {
            wake.extend(waker);
        }
        true
    }

    /// Fetches the answer, which can be done once.
    pub(crate) fn poll(&mut self, key: K, cx: &mut Context<'_>) -> Poll<Option<T>> {
        match self.0.get_mut(&key) {
            Some(Slot::Waiting(waker)) => {
                store(waker, cx);
                Poll::Pending
            }
            Some(Slot::Done(_)) => match self.0.remove(&key) {
                Some(Slot::Done(answer)) => Poll::Ready(Some(answer)),
                _ => Poll::Ready(None),
            },
            None => Poll::Ready(None),
        }
    }

    /// Forgets a key. Returns whether its answer was still awaited.
    pub(crate) fn remove(&mut self, key: K) -> bool {
        matches!(self.0.remove(&key), Some(Slot::Waiting(_)))
    }

    /// Collects the wakers of all who wait, for the end of the node.
    pub(crate) fn wake_all(&mut self, wake: &mut Vec<Waker>) {
        for slot in self.0.values_mut() {
            if let Slot::Waiting(waker) = slot {
                wake.extend(waker.take());
            }
        }
    }
}

/// Remembers the task that polls.
pub(crate) fn store(slot: &mut Option<Waker>, cx: &Context<'_>) {
    match slot {
        Some(waker) => waker.clone_from(cx.waker()),
        None => *slot = Some(cx.waker().clone()),
    }
}

/// Something that can be asked of a node.
pub trait Ask: 'static {
    /// The id by which the answer is known.
    type Key: Copy + Eq + Hash + Unpin + Send + Sync + fmt::Debug;
    /// The answer.
    type Answer: Send;
    /// Why there is none.
    type Failure: Send;
    /// Either of those reasons, or that the node refused or is gone.
    type Error: From<Self::Failure> + From<DriverGone> + Unpin + Send + Sync + fmt::Debug;
}

/// Where answers of a kind are kept, and how the question is taken back.
pub(crate) trait Route: Ask {
    fn waiters(state: &mut State) -> &mut Waiters<Self::Key, Result<Self::Answer, Self::Failure>>;
    fn take_back(node: &mut Node, now: Time, key: Self::Key);
}

/// The future of an answer from the node.
///
/// The question has been asked already when this is made, whether this is polled or not. Dropping this before it has
/// ended takes the question back: a dial is cancelled, a listener that is not up is removed, a request given up.
#[must_use = "dropping this takes back what was asked"]
pub struct Asked<A: Ask> {
    state: Progress<A>,
    /// Removes the waiter. A function pointer, so that this type need not name the private [`Route`].
    drop: fn(&Handle, A::Key),
    poll: PollFn<A>,
}

/// What the node said, or that there is none.
type Answer<A> = Result<Result<<A as Ask>::Answer, <A as Ask>::Failure>, DriverGone>;
type PollFn<A> = fn(&Handle, <A as Ask>::Key, &mut Context<'_>) -> Poll<Answer<A>>;

enum Progress<A: Ask> {
    Waiting(Handle, A::Key),
    Refused(A::Error),
    Ended,
}

/// Asks: `question` calls the node, under the lock.
pub(crate) fn ask<A: Route, E>(
    handle: &Handle,
    question: impl FnOnce(&mut State, Time) -> Result<A::Key, E>,
) -> Asked<A>
where
    A::Error: From<E>,
{
    let asked = handle.change(|state, now| {
        let key = question(state, now)?;
        A::waiters(state).insert(key);
        Ok(key)
    });
    let state = match asked {
        Ok(Ok(key)) => Progress::Waiting(handle.clone(), key),
        Ok(Err(error)) => Progress::Refused(E::into(error)),
        Err(gone) => Progress::Refused(gone.into()),
    };
    Asked { state, drop: take_back::<A>, poll: poll::<A> }
}

fn take_back<A: Route>(handle: &Handle, key: A::Key) {
    // Nothing is left to take back if the node is gone.
    let _ = handle.change(|state, now| {
        if A::waiters(state).remove(key) {
            A::take_back(&mut state.node, now, key);
        }
    });
}

fn poll<A: Route>(handle: &Handle, key: A::Key, cx: &mut Context<'_>) -> Poll<Answer<A>> {
    let mut state = handle.shared().lock();
    match A::waiters(&mut state).poll(key, cx) {
        Poll::Ready(answer) => Poll::Ready(answer.ok_or(DriverGone)),
        Poll::Pending if state.ended => Poll::Ready(Err(DriverGone)),
        Poll::Pending => Poll::Pending,
    }
}

impl<A: Ask> Asked<A> {
    /// The node's id of what was asked, unless the node refused or the answer has been given.
    pub fn id(&self) -> Option<A::Key> {
        match self.state {
            Progress::Waiting(_, key) => Some(key),
            _ => None,
        }
    }
}

impl<A: Ask> Future for Asked<A> {
    type Output = Result<A::Answer, A::Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = match &self.state {
            Progress::Waiting(handle, key) => match (self.poll)(handle, *key, cx) {
                Poll::Ready(answer) => answer,
                Poll::Pending => return Poll::Pending,
            },
            _ => Err(DriverGone),
        };
        Poll::Ready(match std::mem::replace(&mut self.state, Progress::Ended) {
            Progress::Refused(error) => Err(error),
            _ => answer?.map_err(A::Error::from),
        })
    }
}

impl<A: Ask> Drop for Asked<A> {
    fn drop(&mut self) {
        if let Progress::Waiting(handle, key) = &self.state {
            (self.drop)(handle, *key);
        }
    }
}

impl<A: Ask> fmt::Debug for Asked<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.state {
            Progress::Waiting(_, key) => write!(f, "Asked({key:?})"),
            Progress::Refused(error) => write!(f, "Asked(refused: {error:?})"),
            Progress::Ended => f.write_str("Asked(ended)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_wakes_its_waiter_and_can_be_fetched_once() {
        let mut waiters = Waiters::<u32, &str>::default();
        let mut cx = Context::from_waker(Waker::noop());
        let mut wake = Vec::new();
        waiters.insert(1);
        assert_eq!(waiters.poll(1, &mut cx), Poll::Pending);
        assert!(!waiters.complete(2, "other", &mut wake) && wake.is_empty());
        assert!(waiters.complete(1, "mine", &mut wake) && wake.len() == 1);
        assert_eq!(waiters.poll(1, &mut cx), Poll::Ready(Some("mine")));
        assert_eq!(waiters.poll(1, &mut cx), Poll::Ready(None));
    }

    #[test]
    fn what_is_answered_need_not_be_taken_back() {
        let mut waiters = Waiters::<u32, ()>::default();
        waiters.insert(1);
        waiters.insert(2);
        waiters.complete(1, (), &mut Vec::new());
        assert!(!waiters.remove(1));
        assert!(waiters.remove(2));
        assert!(!waiters.remove(2));
    }
}
