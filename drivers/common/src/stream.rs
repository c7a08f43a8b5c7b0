//! Streams as async code reads and writes them.
//!
//! A [`Stream`] has two faces on the same state. The io traits, of futures-io and (with the feature `tokio`) of tokio,
//! copy to and from the caller's memory. [`Stream::read_chunk`] and [`Stream::write_chunk`] hand the bytes over as they
//! are. Reading fetches up to [`PREFETCH`] bytes under one lock, because a chunk is what one packet carried and locking
//! for every packet would show.
//!
//! Nothing is buffered on the way out: a write that the node does not take waits until the peer has read.
//!
//! Closing by the io traits queues the end of the stream behind the data and does not wait for the peer;
//! [`Stream::finished`] does. Dropping a stream finishes it, too, and ignores what still comes; what was written is
//! delivered. To abort, call [`Stream::reset`].

use std::{
    collections::VecDeque,
    fmt,
    future::{Future, poll_fn},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use peerwork::{ConnId, OpenError, PeerId, ProtocolId, Read, StreamError, StreamId, StreamMut};

use crate::{
    Handle,
    ask::store,
    error::{DriverGone, OpenFailure},
    handle::ends,
    shared::{StreamSlot, Writing},
};

mod traits;

/// Bytes fetched from the node at once, beyond what the caller asked for.
pub const PREFETCH: usize = 64 * 1024;

/// A stream to a peer: bytes in order, both ways, each way ended on its own.
#[must_use = "dropping a stream finishes it"]
pub struct Stream {
    inner: Arc<Inner>,
    read: Reader,
}

/// The reading half of a [`Stream`]. Dropping it before the end tells the peer to stop sending.
#[must_use = "dropping this stops the peer's sending"]
pub struct ReadHalf {
    inner: Arc<Inner>,
    read: Reader,
}

/// The writing half of a [`Stream`]. Dropping it finishes this side.
#[must_use = "dropping this finishes the stream"]
pub struct WriteHalf {
    inner: Arc<Inner>,
}

/// What has been fetched and not been given to the caller.
#[derive(Default)]
struct Reader {
    chunks: VecDeque<Bytes>,
    /// What comes after the chunks, once the node has said so.
    end: Option<Result<(), StreamError>>,
}

/// The stream in the node. Let go of when both halves are gone.
struct Inner {
    handle: Handle,
    id: StreamId,
    conn: ConnId,
    peer: PeerId,
    protocol: ProtocolId,
}

impl Drop for Inner {
    fn drop(&mut self) {
        // A node that has ended has no streams.
        let slot = self.handle.change(|state, now| {
            if let Ok(stream) = state.node.stream(now, self.id) {
                stream.close();
            }
            state.streams.remove(&self.id)
        });
        // Wakers are dropped when the lock is not held any more.
        drop(slot);
    }
}

/// What a call to the node gave.
enum Attempt<T> {
    Done(T),
    /// The caller waits for the event that says otherwise.
    Blocked,
}

#[derive(Clone, Copy)]
enum Side {
    Read,
    Write,
}

impl Inner {
    /// Calls the node, and remembers the task if it has to wait.
    fn poll<T>(
        &self,
        cx: &mut Context<'_>,
        side: Side,
        call: impl FnOnce(&mut StreamMut<'_>) -> Result<Attempt<T>, StreamError>,
    ) -> Poll<Result<T, StreamError>> {
        let shared = self.handle.shared();
        let Some(mut state) = shared.lock_running() else {
            return Poll::Ready(Err(StreamError::ConnectionClosed));
        };
        let result = match state.node.stream(shared.clock.now(), self.id) {
            Ok(mut stream) => call(&mut stream),
            // The node has forgotten it.
            Err(_) => Err(failure(state.streams.get(&self.id), side)),
        };
        match result {
            Ok(Attempt::Blocked) => {
                let slot = state.streams.entry(self.id).or_default();
                store(
                    match side {
                        Side::Read => &mut slot.read,
                        Side::Write => &mut slot.write,
                    },
                    cx,
                );
                Poll::Pending
            }
            Ok(Attempt::Done(value)) => {
                drop(state);
                // There are data to send, or there is room for the peer's.
                shared.notify();
                Poll::Ready(Ok(value))
            }
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    /// Calls the node for something that is over at once. Nothing is done to a stream that has ended.
    fn change(&self, call: impl FnOnce(&mut StreamMut<'_>) -> Result<(), StreamError>) -> Result<(), StreamError> {
        let mut cx = Context::from_waker(Waker::noop());
        match self.poll(&mut cx, Side::Write, |stream| call(stream).map(Attempt::Done)) {
            Poll::Ready(result) => result,
            Poll::Pending => Ok(()),
        }
    }

    /// Makes `read` hold something: data, or the end.
    fn poll_fill(&self, cx: &mut Context<'_>, read: &mut Reader) -> Poll<()> {
        if !read.chunks.is_empty() || read.end.is_some() {
            return Poll::Ready(());
        }
        let filled = self.poll(cx, Side::Read, |stream| {
            let mut room = PREFETCH;
            while room > 0 {
                match stream.read(room) {
                    Ok(Read::Data(data)) => {
                        room = room.saturating_sub(data.len());
                        read.chunks.push_back(data);
                    }
                    Ok(Read::Blocked) if read.chunks.is_empty() => return Ok(Attempt::Blocked),
                    Ok(Read::Blocked) => break,
                    Ok(Read::End) => {
                        read.end = Some(Ok(()));
                        break;
                    }
                    Err(error) => {
                        read.end = Some(Err(error));
                        break;
                    }
                }
            }
            Ok(Attempt::Done(()))
        });
        match filled {
            Poll::Ready(Ok(())) => Poll::Ready(()),
            Poll::Ready(Err(error)) => {
                read.end = Some(Err(error));
                Poll::Ready(())
            }
            Poll::Pending => Poll::Pending,
        }
    }

    fn poll_read_chunk(&self, cx: &mut Context<'_>, read: &mut Reader) -> Poll<Result<Option<Bytes>, StreamError>> {
        if self.poll_fill(cx, read).is_pending() {
            return Poll::Pending;
        }
        Poll::Ready(match (read.chunks.pop_front(), &read.end) {
            (Some(chunk), _) => Ok(Some(chunk)),
            (None, Some(Err(error))) => Err(error.clone()),
            (None, _) => Ok(None),
        })
    }

    /// Copies into the caller's memory; 0 is the end.
    fn poll_read(
        &self,
        cx: &mut Context<'_>,
        read: &mut Reader,
        mut put: impl FnMut(&[u8]),
        len: usize,
    ) -> Poll<Result<usize, StreamError>> {
        if len == 0 {
            return Poll::Ready(Ok(0));
        }
        if self.poll_fill(cx, read).is_pending() {
            return Poll::Pending;
        }
        let mut done = 0;
        while let Some(chunk) = read.chunks.front_mut().filter(|_| done < len) {
            let part = chunk.split_to(chunk.len().min(len - done));
            put(&part);
            done += part.len();
            if chunk.is_empty() {
                read.chunks.pop_front();
            }
        }
        match &read.end {
            Some(Err(error)) if done == 0 => Poll::Ready(Err(error.clone())),
            _ => Poll::Ready(Ok(done)),
        }
    }

    fn poll_write(&self, cx: &mut Context<'_>, data: &[u8]) -> Poll<Result<usize, StreamError>> {
        self.poll(cx, Side::Write, |stream| {
            Ok(match stream.write(data)? {
                0 if !data.is_empty() => Attempt::Blocked,
                len => Attempt::Done(len),
            })
        })
    }

    fn poll_write_chunk(&self, cx: &mut Context<'_>, data: &mut Bytes) -> Poll<Result<(), StreamError>> {
        while !data.is_empty() {
            let written = self.poll(cx, Side::Write, |stream| {
                Ok(match stream.write_bytes(data)? {
                    0 => Attempt::Blocked,
                    len => Attempt::Done(len),
                })
            });
            match written {
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(Ok(()))
    }

    fn finish(&self) -> Result<(), StreamError> {
        self.change(|stream| stream.finish())?;
        self.note(Writing::Finished);
        Ok(())
    }

    fn poll_finished(&self, cx: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        let polled = self.poll(cx, Side::Write, |stream| {
            if stream.is_delivered() {
                return Ok(Attempt::Done(()));
            }
            // Writing nothing tells whether writing has failed.
            match stream.write(&[]) {
                Ok(_) | Err(StreamError::Finished) => Ok(Attempt::Blocked),
                Err(error) => Err(error),
            }
        });
        let state = self.handle.shared().lock();
        match (polled, state.streams.get(&self.id).map(|slot| slot.writing)) {
            (Poll::Pending, Some(Writing::Reset)) => Poll::Ready(Err(StreamError::Finished)),
            // Forgotten by the node, and not because of an error: both sides have come to their ends.
            (Poll::Ready(Err(StreamError::Finished)), Some(Writing::Finished)) => Poll::Ready(Ok(())),
            (polled, _) => polled,
        }
    }

    fn reset(&self, code: u32) {
        // What has ended cannot be aborted.
        let _ = self.change(|stream| {
            stream.reset(code);
            Ok(())
        });
        self.note(Writing::Reset);
    }

    fn note(&self, writing: Writing) {
        if let Some(slot) = self.handle.shared().lock().streams.get_mut(&self.id) {
            slot.writing = writing;
        }
    }

    fn stop(&self, code: u32) {
        let _ = self.change(|stream| {
            stream.stop(code);
            Ok(())
        });
    }

    fn fmt(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{name}({} on {}, {})", self.id, self.conn, self.protocol)
    }
}

/// Why a stream that the node has forgotten cannot be used.
fn failure(slot: Option<&StreamSlot>, side: Side) -> StreamError {
    let Some(slot) = slot else { return StreamError::ConnectionClosed };
    match (&slot.failed, side, slot.writing) {
        (Some(error), _, _) => error.clone(),
        (None, Side::Read, _) => StreamError::ConnectionClosed,
        (None, Side::Write, Writing::Finished | Writing::Reset) => StreamError::Finished,
        // Reading has ended, and so has writing, but not by this side. With which code is forgotten, too.
        (None, Side::Write, Writing::Open) => StreamError::Stopped(peerwork::fault::code::OK.into()),
    }
}

macro_rules! about {
    ($($type:ident),*) => {
        $(
            impl $type {
                /// The node's id of the stream.
                pub fn id(&self) -> StreamId {
                    self.inner.id
                }

                /// The connection it is on.
                pub fn conn(&self) -> ConnId {
                    self.inner.conn
                }

                /// The peer at its other end.
                pub fn peer(&self) -> PeerId {
                    self.inner.peer
                }

                /// The protocol spoken on it.
                pub fn protocol(&self) -> &ProtocolId {
                    &self.inner.protocol
                }
            }

            impl fmt::Debug for $type {
                fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    self.inner.fmt(stringify!($type), f)
                }
            }
        )*
    };
}

macro_rules! reading {
    ($($type:ident),*) => {
        $(impl $type {
            /// The next bytes as they came, or `None` at the end. Nothing is lost if the future is dropped.
            pub async fn read_chunk(&mut self) -> Result<Option<Bytes>, StreamError> {
                let Self { inner, read, .. } = self;
                poll_fn(|cx| inner.poll_read_chunk(cx, read)).await
            }

            /// Tells the peer to stop sending, with this code. What was received before is dropped.
            pub fn stop(&mut self, code: u32) {
                self.read.chunks.clear();
                self.read.end = Some(Err(StreamError::Stopped(code.into())));
                self.inner.stop(code);
            }
        })*
    };
}

macro_rules! writing {
    ($($type:ident),*) => {
        $(impl $type {
            /// Writes these bytes, without a copy. Waits while the peer does not read. If the future is dropped, a
            /// part may have been written; [`write_part`](Self::write_part) tells which.
            pub async fn write_chunk(&mut self, mut data: Bytes) -> Result<(), StreamError> {
                self.write_part(&mut data).await
            }

            /// The same, taking from the front of `data` what has been written, so that nothing is lost if the future
            /// is dropped.
            pub async fn write_part(&mut self, data: &mut Bytes) -> Result<(), StreamError> {
                poll_fn(|cx| self.inner.poll_write_chunk(cx, data)).await
            }

            /// Ends this side: the peer reads the end after the data. Does not wait for it.
            pub fn finish(&mut self) -> Result<(), StreamError> {
                self.inner.finish()
            }

            /// Waits until the peer's transport has everything, the end included. Call [`finish`](Self::finish) first.
            pub async fn finished(&mut self) -> Result<(), StreamError> {
                poll_fn(|cx| self.inner.poll_finished(cx)).await
            }

            /// Aborts this side with this code: what the peer has not read may be lost to it.
            pub fn reset(&mut self, code: u32) {
                self.inner.reset(code);
            }
        })*
    };
}

about!(Stream, ReadHalf, WriteHalf);
reading!(Stream, ReadHalf);
writing!(Stream, WriteHalf);

impl Stream {
    pub(crate) fn new(handle: Handle, id: StreamId, conn: ConnId, peer: PeerId, protocol: ProtocolId) -> Self {
        Self { inner: Arc::new(Inner { handle, id, conn, peer, protocol }), read: Reader::default() }
    }

    /// Takes the two directions apart, for two tasks.
    pub fn split(self) -> (ReadHalf, WriteHalf) {
        (ReadHalf { inner: Arc::clone(&self.inner), read: self.read }, WriteHalf { inner: self.inner })
    }
}

impl Drop for ReadHalf {
    fn drop(&mut self) {
        if self.read.end.is_none() {
            self.inner.stop(peerwork::fault::code::OK);
        }
    }
}

impl Drop for WriteHalf {
    fn drop(&mut self) {
        // It may be finished or have failed; both are as good.
        let _ = self.inner.finish();
    }
}

/// The future of [`Handle::open_stream`].
#[must_use = "dropping this gives the stream up"]
pub struct Opening {
    state: OpeningState,
}

enum OpeningState {
    /// Taken out and put back by each poll.
    Ended,
    Refused(OpenFailure),
    /// As a stream, so that dropping lets go of it. Its protocol is one proposed, for want of the right one.
    Waiting(Box<Stream>),
}

impl Opening {
    pub(crate) fn new(handle: &Handle, conn: ConnId, protocols: &[ProtocolId]) -> Self {
        let opened: Result<Result<_, OpenError>, DriverGone> = handle.change(|state, now| {
            let stream = state.node.open_stream(now, conn, protocols)?;
            state.streams.insert(stream, StreamSlot::default());
            Ok((stream, ends(&mut state.node, now, stream)))
        });
        let state = match opened {
            Ok(Ok((stream, Some((conn, peer))))) => match protocols.first() {
                Some(protocol) => {
                    let stream = Stream::new(handle.clone(), stream, conn, peer, protocol.clone());
                    OpeningState::Waiting(Box::new(stream))
                }
                // The node opens no stream without a protocol, so this does not happen.
                None => OpeningState::Refused(StreamError::Unsupported.into()),
            },
            Ok(Ok((_, None))) => OpeningState::Refused(StreamError::ConnectionClosed.into()),
            Ok(Err(error)) => OpeningState::Refused(error.into()),
            Err(gone) => OpeningState::Refused(gone.into()),
        };
        Self { state }
    }
}

impl Future for Opening {
    type Output = Result<Stream, OpenFailure>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match std::mem::replace(&mut self.state, OpeningState::Ended) {
            OpeningState::Ended => Poll::Ready(Err(DriverGone.into())),
            OpeningState::Refused(error) => Poll::Ready(Err(error)),
            OpeningState::Waiting(stream) => {
                let (protocol, failed) = {
                    let mut state = stream.inner.handle.shared().lock();
                    let ended = state.ended;
                    let slot = state.streams.entry(stream.id()).or_default();
                    if slot.opened.is_none() && slot.failed.is_none() && !ended {
                        store(&mut slot.write, cx);
                        drop(state);
                        self.state = OpeningState::Waiting(stream);
                        return Poll::Pending;
                    }
                    (slot.opened.take(), slot.failed.clone())
                };
                Poll::Ready(match (protocol, failed) {
                    // What has failed after it was opened may still have data to read.
                    (Some(protocol), _) => {
                        let mut stream = *stream;
                        // Nobody has another reference before the stream is given out.
                        if let Some(inner) = Arc::get_mut(&mut stream.inner) {
                            inner.protocol = protocol;
                        }
                        Ok(stream)
                    }
                    (None, Some(error)) => Err(error.into()),
                    (None, None) => Err(DriverGone.into()),
                })
            }
        }
    }
}

impl fmt::Debug for Opening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.state {
            OpeningState::Ended => f.write_str("Opening(ended)"),
            OpeningState::Refused(error) => write!(f, "Opening(refused: {error})"),
            OpeningState::Waiting(stream) => write!(f, "Opening({})", stream.id()),
        }
    }
}
