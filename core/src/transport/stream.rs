//! The stream layer: from "a QUIC stream" to "frames of a protocol for its owner".
//!
//! It opens and accepts streams, agrees on a protocol (multistream-select), cuts frames for machines, and gives
//! applications reads and writes with backpressure. Data that nobody reads stays in QUIC, whose flow control then
//! stops the sender.
//!
//! ```text
//!             no stream credit            proposal sent            agreed
//! open ─────────► Waiting ───────────────► Dialing ───────────────► Open ──┐
//! accept ───────────────────────────────► Listening ──────────────► Open ──┤
//!                                            │ refused, timeout, reset     │ both directions over
//!                                            ▼                             ▼
//!                                          failed ───────────────────► forgotten
//! ```
//!
//! A stream that its owner let go of while still dialling is *released*: it is kept until the peer has agreed, because
//! a responder that sees STOP_SENDING before it could echo may throw away what it received.

use std::collections::VecDeque;

use bytes::{Buf as _, Bytes, BytesMut};
use noq_proto::{Dir, FinishError, ReadError, VarInt, WriteError};

use super::{
    frame::FrameDecoder,
    negotiate::{Dialer, DialerStep, Listener, ListenerStep, NegotiateError},
    net::{Framing, NetEvent},
    quic::Conn,
};
use crate::{
    event::{ConnId, Direction, Event, Read, StreamError, StreamId},
    fault::{PeerFault, code},
    hash::{Map, NodeHasher},
    identity::PeerId,
    limits,
    protocol::MachineId,
    protocol_id::ProtocolId,
    time::Time,
    timers::{TimerId, Timers},
};

/// Bytes taken from QUIC at once.
const READ_CHUNK: usize = 64 * 1024;

/// Whom a stream belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Owner {
    App,
    Machine(MachineId),
}

/// What the stream layer has to tell.
pub(crate) enum Delivery {
    App(Event),
    Machine(MachineId, NetEvent),
    Fault(ConnId, PeerFault),
}

enum Phase {
    Waiting(Vec<ProtocolId>),
    Dialing(Box<Dialer>),
    Listening(Box<Listener>),
    Open,
}

#[derive(Clone, PartialEq, Eq)]
enum Reading {
    Open,
    Ended,
    Stopped,
    Failed(StreamError),
}

#[derive(Clone, PartialEq, Eq)]
enum Writing {
    Open,
    /// The owner has finished; the end is to follow what is queued.
    Finishing,
    /// The end is with QUIC.
    Finished,
    Delivered,
    Failed(StreamError),
}

pub(crate) struct Stream {
    pub(crate) conn: ConnId,
    pub(crate) peer: PeerId,
    pub(crate) direction: Direction,
    pub(crate) protocol: Option<ProtocolId>,
    quic: Option<noq_proto::StreamId>,
    owner: Owner,
    released: bool,
    phase: Phase,
    framing: Framing,
    frames: Option<Box<FrameDecoder>>,
    /// Bytes taken from QUIC that the owner has not seen.
    head: VecDeque<Bytes>,
    /// How many of them were taken by [`Streams::sweep`].
    held: usize,
    reading: Reading,
    want_read: bool,
    queue: VecDeque<Bytes>,
    queued: usize,
    writing: Writing,
    want_write: bool,
    timer: Option<TimerId>,
    /// The connection is gone; what is in `head` can still be read.
    orphaned: bool,
}

/// What a protocol is registered as.
#[derive(Clone, Copy)]
pub(crate) struct Registration {
    pub(crate) owner: Owner,
    pub(crate) framing: Framing,
}

/// All streams of a node.
pub(crate) struct Streams {
    map: Map<StreamId, Stream>,
    pub(crate) next: u64,
    pub(crate) registry: Map<ProtocolId, Registration>,
    orphans: VecDeque<StreamId>,
    pub(crate) deliveries: VecDeque<Delivery>,
}

enum Pulled {
    Data(Bytes),
    Blocked,
    End,
    Reset(u64),
}

/// Takes the next piece from QUIC, at most `max` bytes of it.
fn pull(conn: &mut Conn, id: noq_proto::StreamId, max: usize) -> Pulled {
    let mut recv = conn.quic.recv_stream(id);
    let Ok(mut chunks) = recv.read(true) else { return Pulled::End };
    let pulled = match chunks.next(max) {
        Ok(Some(chunk)) => Pulled::Data(chunk.bytes),
        Ok(None) => Pulled::End,
        Err(ReadError::Blocked) => Pulled::Blocked,
        Err(ReadError::Reset(code)) => Pulled::Reset(code.into_inner()),
    };
    // The caller puts the connection into the ring after any stream operation, so the flag tells nothing new.
    let _ = chunks.finalize();
    pulled
}

impl Streams {
    pub(crate) fn new(hasher: NodeHasher) -> Self {
        Self {
            map: Map::with_hasher(hasher),
            next: 0,
            registry: Map::with_hasher(hasher),
            orphans: VecDeque::new(),
            deliveries: VecDeque::new(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.map.len()
    }

    pub(crate) fn get(&self, id: StreamId) -> Option<&Stream> {
        self.map.get(&id)
    }

    /// The stream, if the application owns it and has not let go of it.
    pub(crate) fn get_app(&self, id: StreamId) -> Option<&Stream> {
        self.map.get(&id).filter(|stream| stream.owner == Owner::App && !stream.released)
    }

    pub(crate) fn next_id(&mut self) -> StreamId {
        self.next += 1;
        StreamId(self.next)
    }

    /// Opens a stream under an id from [`next_id`](Self::next_id).
    pub(crate) fn open<T>(
        &mut self,
        cx: &mut StreamCx<'_, T>,
        id: StreamId,
        owner: Owner,
        protocols: Vec<ProtocolId>,
        framing: Framing,
    ) {
        let Some(peer) = cx.conn.peer() else {
            self.deliver_failed(owner, id, StreamError::ConnectionClosed);
            return;
        };
        let mut stream = Stream::new(cx.conn.id, peer, Direction::Outbound, owner, framing);
        stream.phase = Phase::Waiting(protocols);
        stream.timer = Some(cx.timers.set(cx.now + limits::NEGOTIATION_TIMEOUT, (cx.timer)(id)));
        self.map.insert(id, stream);
        cx.conn.waiting.push_back(id);
        self.open_waiting(cx);
    }

    /// Opens the streams that wait for credit, as far as there is some.
    pub(crate) fn open_waiting<T>(&mut self, cx: &mut StreamCx<'_, T>) {
        while let Some(&id) = cx.conn.waiting.front() {
            let Some(stream) = self.map.get_mut(&id) else {
                cx.conn.waiting.pop_front();
                continue;
            };
            let Phase::Waiting(protocols) = &mut stream.phase else {
                cx.conn.waiting.pop_front();
                continue;
            };
            let Some(quic) = cx.conn.quic.streams().open(Dir::Bi) else { return };
            cx.conn.waiting.pop_front();
            let protocols = core::mem::take(protocols);
            let (dialer, first) = Dialer::new(&protocols);
            stream.quic = Some(quic);
            stream.phase = Phase::Dialing(Box::new(dialer));
            // Before anything that the owner wrote while waiting.
            stream.queued += first.len();
            stream.queue.push_front(first);
            cx.conn.streams.insert(quic, id);
            self.flush(cx, id);
        }
    }

    /// Takes in the streams that the peer has opened.
    pub(crate) fn accept<T>(&mut self, cx: &mut StreamCx<'_, T>) {
        while let Some(quic) = cx.conn.quic.streams().accept(Dir::Bi) {
            let Some(peer) = cx.conn.peer().filter(|_| cx.conn.negotiating < limits::NEGOTIATING_STREAMS) else {
                let code = VarInt::from_u32(code::STREAM_RESOURCE_LIMIT);
                let _ = cx.conn.quic.send_stream(quic).reset(code);
                let _ = cx.conn.quic.recv_stream(quic).stop(code);
                continue;
            };
            let id = self.next_id();
            // Until the protocol is known the owner does not matter.
            let mut stream = Stream::new(cx.conn.id, peer, Direction::Inbound, Owner::App, Framing::Raw);
            stream.quic = Some(quic);
            stream.phase = Phase::Listening(Box::default());
            stream.timer = Some(cx.timers.set(cx.now + limits::NEGOTIATION_TIMEOUT, (cx.timer)(id)));
            cx.conn.negotiating += 1;
            cx.conn.streams.insert(quic, id);
            self.map.insert(id, stream);
            self.on_readable(cx, id);
        }
    }

    /// QUIC has something to read on this stream.
    pub(crate) fn on_readable<T>(&mut self, cx: &mut StreamCx<'_, T>, id: StreamId) {
        loop {
            let Some(stream) = self.map.get_mut(&id) else { return };
            match stream.phase {
                Phase::Waiting(_) => return,
                Phase::Dialing(_) | Phase::Listening(_) => {
                    if !self.negotiate(cx, id) {
                        return;
                    }
                }
                Phase::Open => break,
            }
        }
        self.deliver_reads(cx, id);
    }

    /// One step of negotiation. Returns `false` when there is nothing more to do now.
    fn negotiate<T>(&mut self, cx: &mut StreamCx<'_, T>, id: StreamId) -> bool {
        let Some(stream) = self.map.get_mut(&id) else { return false };
        let Some(quic) = stream.quic else { return false };
        let mut data = match pull(cx.conn, quic, READ_CHUNK) {
            Pulled::Data(data) => data,
            Pulled::Blocked => return false,
            Pulled::End => {
                stream.reading = Reading::Ended;
                match &stream.phase {
                    Phase::Dialing(dialer) => {
                        let error = negotiation_error(dialer.eof());
                        self.fail(cx, id, error, code::NEGOTIATION_FAILED);
                    }
                    // A dialler that was refused everything, or that had nothing to say.
                    _ => self.turn_away(cx, id),
                }
                return false;
            }
            Pulled::Reset(code) => {
                stream.reading = Reading::Failed(StreamError::Reset(code));
                self.fail(cx, id, StreamError::Reset(code), code::NEGOTIATION_FAILED);
                return false;
            }
        };
        match &mut stream.phase {
            Phase::Dialing(dialer) => loop {
                match dialer.receive(&mut data) {
                    Ok(DialerStep::NeedMore) => {
                        self.flush(cx, id);
                        return true;
                    }
                    Ok(DialerStep::Send(proposal)) => {
                        stream.queued += proposal.len();
                        stream.queue.push_back(proposal);
                    }
                    Ok(DialerStep::Done(protocol)) => {
                        stream.put_back(data);
                        self.opened(cx, id, protocol);
                        return self.map.contains_key(&id);
                    }
                    Err(error) => {
                        if error.is_violation() {
                            self.deliveries.push_back(Delivery::Fault(cx.conn.id, PeerFault::BadNegotiation));
                        }
                        self.fail(cx, id, negotiation_error(error), code::NEGOTIATION_FAILED);
                        return false;
                    }
                }
            },
            Phase::Listening(listener) => {
                let registry = &self.registry;
                let supports = |name: &str| registry.get(name).copied();
                match listener.receive(&mut data, supports) {
                    Ok(ListenerStep::NeedMore { reply }) => {
                        if let Some(reply) = reply {
                            stream.enqueue(reply);
                            self.flush(cx, id);
                        }
                        true
                    }
                    Ok(ListenerStep::Selected { value, name, reply }) => {
                        stream.enqueue(reply);
                        stream.put_back(data);
                        stream.owner = value.owner;
                        stream.set_framing(value.framing);
                        self.flush(cx, id);
                        self.opened(cx, id, name);
                        self.map.contains_key(&id)
                    }
                    Err(error) => {
                        if error.is_violation() {
                            self.deliveries.push_back(Delivery::Fault(cx.conn.id, PeerFault::BadNegotiation));
                            self.fail(cx, id, negotiation_error(error), code::NEGOTIATION_FAILED);
                        } else {
                            // The peer is to see the refusal, so the stream ends in peace.
                            if let Some(reply) = listener.take_reply() {
                                stream.enqueue(reply);
                            }
                            self.turn_away(cx, id);
                        }
                        false
                    }
                }
            }
            Phase::Waiting(_) | Phase::Open => false,
        }
    }

    /// Ends an inbound stream whose proposals were all refused.
    fn turn_away<T>(&mut self, cx: &mut StreamCx<'_, T>, id: StreamId) {
        if let Some(stream) = self.map.get_mut(&id) {
            stream.writing = Writing::Finishing;
            if let (Phase::Listening(_), Some(timer)) = (&stream.phase, stream.timer.take()) {
                cx.timers.cancel(timer);
                cx.conn.negotiating = cx.conn.negotiating.saturating_sub(1);
            }
            stream.phase = Phase::Open;
            stream.released = true;
            self.flush(cx, id);
            self.settle_released(cx, id);
        }
    }

    /// The protocol is agreed.
    fn opened<T>(&mut self, cx: &mut StreamCx<'_, T>, id: StreamId, protocol: ProtocolId) {
        let Some(stream) = self.map.get_mut(&id) else { return };
        if let Some(timer) = stream.timer.take() {
            cx.timers.cancel(timer);
        }
        if matches!(stream.phase, Phase::Listening(_)) {
            cx.conn.negotiating = cx.conn.negotiating.saturating_sub(1);
        }
        stream.phase = Phase::Open;
        stream.protocol = Some(protocol.clone());
        if stream.released {
            self.flush(cx, id);
            self.settle_released(cx, id);
            return;
        }
        let (conn, peer) = (stream.conn, stream.peer);
        self.deliveries.push_back(match (stream.owner, stream.direction) {
            (Owner::App, Direction::Outbound) => Delivery::App(Event::StreamOpened { stream: id, protocol }),
            (Owner::App, Direction::Inbound) => {
                Delivery::App(Event::StreamInbound { stream: id, conn, peer, protocol })
            }
            (Owner::Machine(machine), Direction::Outbound) => {
                Delivery::Machine(machine, NetEvent::Opened { stream: id, protocol })
            }
            (Owner::Machine(machine), Direction::Inbound) => {
                Delivery::Machine(machine, NetEvent::Inbound { stream: id, conn, peer, protocol })
            }
        });
        // Candidates after the first made the owner wait.
        self.flush(cx, id);
    }

    /// Hands what can be read to the stream's owner.
    fn deliver_reads<T>(&mut self, cx: &mut StreamCx<'_, T>, id: StreamId) {
        let Some(stream) = self.map.get_mut(&id) else { return };
        if stream.released {
            self.settle_released(cx, id);
            return;
        }
        let Owner::Machine(machine) = stream.owner else {
            if core::mem::take(&mut stream.want_read) {
                self.deliveries.push_back(Delivery::App(Event::StreamReadable { stream: id }));
            }
            return;
        };
        while stream.reading == Reading::Open {
            let data = match stream.take(cx.conn, READ_CHUNK) {
                Pulled::Data(data) => data,
                Pulled::Blocked => return,
                Pulled::End => {
                    stream.reading = Reading::Ended;
                    if stream.frames.as_ref().is_some_and(|frames| frames.finish().is_err()) {
                        self.fail(cx, id, StreamError::EndedEarly, code::STREAM_PROTOCOL_VIOLATION);
                        return;
                    }
                    self.deliveries.push_back(Delivery::Machine(machine, NetEvent::End { stream: id }));
                    return;
                }
                Pulled::Reset(code) => {
                    stream.reading = Reading::Failed(StreamError::Reset(code));
                    self.fail(cx, id, StreamError::Reset(code), code::OK);
                    return;
                }
            };
            let Some(frames) = &mut stream.frames else {
                self.deliveries.push_back(Delivery::Machine(machine, NetEvent::Data { stream: id, data }));
                continue;
            };
            frames.push(data);
            loop {
                match frames.next() {
                    Ok(Some(data)) => {
                        self.deliveries.push_back(Delivery::Machine(machine, NetEvent::Frame { stream: id, data }));
                    }
                    Ok(None) => break,
                    Err(error) => {
                        self.deliveries.push_back(Delivery::Fault(cx.conn.id, PeerFault::BadFrame));
                        let error = StreamError::Negotiation(error.to_string());
                        self.fail(cx, id, error, code::STREAM_PROTOCOL_VIOLATION);
                        return;
                    }
                }
            }
        }
    }

    /// Takes what applications have not read out of QUIC, into one piece for each stream.
    ///
    /// QUIC keeps one entry for each packet of unread data, and ends the connection when a stream has 2,048 of them:
    /// small packets and a slow reader would do. What is held here stays counted against the connection's window, so
    /// that a slow reader costs no more memory than it may and the peer's sending still comes to rest.
    pub(crate) fn sweep(&mut self, conn: &mut Conn) {
        let mut ids: Vec<_> = conn.streams.values().copied().collect();
        ids.sort_unstable();
        let mut held = 0;
        for id in ids {
            let Some(stream) = self.map.get_mut(&id) else { continue };
            let unread = matches!(stream.phase, Phase::Open) && !stream.want_read && stream.owner == Owner::App;
            let (true, Some(quic)) = (unread && stream.reading == Reading::Open, stream.quic) else { continue };
            let mut all = BytesMut::new();
            loop {
                match pull(conn, quic, READ_CHUNK) {
                    Pulled::Data(data) => all.extend_from_slice(&data),
                    Pulled::Blocked => break,
                    Pulled::End => {
                        stream.reading = Reading::Ended;
                        break;
                    }
                    Pulled::Reset(code) => {
                        stream.reading = Reading::Failed(StreamError::Reset(code));
                        break;
                    }
                }
            }
            if !all.is_empty() {
                held += all.len();
                stream.held += all.len();
                stream.head.push_back(all.freeze());
            }
        }
        conn.hold(held);
    }

    /// A released stream needs nothing more once the peer has agreed and QUIC has all that was written.
    fn settle_released<T>(&mut self, cx: &mut StreamCx<'_, T>, id: StreamId) {
        let Some(stream) = self.map.get_mut(&id) else { return };
        if matches!(stream.phase, Phase::Open) && stream.queue.is_empty() {
            stream.stop_reading(cx.conn, code::OK);
            self.forget(cx, id);
        }
    }

    /// QUIC takes data on this stream again.
    pub(crate) fn on_writable<T>(&mut self, cx: &mut StreamCx<'_, T>, id: StreamId) {
        self.flush(cx, id);
        let Some(stream) = self.map.get_mut(&id) else { return };
        if stream.released {
            self.settle_released(cx, id);
        }
    }

    /// Everything including the end has arrived at the peer.
    pub(crate) fn on_finished<T>(&mut self, cx: &mut StreamCx<'_, T>, id: StreamId) {
        let Some(stream) = self.map.get_mut(&id) else { return };
        stream.writing = Writing::Delivered;
        match stream.owner {
            Owner::App => {
                self.deliveries.push_back(Delivery::App(Event::StreamWritable { stream: id }));
                self.retire(cx, id);
            }
            Owner::Machine(machine) => {
                self.deliveries.push_back(Delivery::Machine(machine, NetEvent::Delivered { stream: id }));
            }
        }
    }

    /// The peer does not want what this side sends.
    pub(crate) fn on_stopped<T>(&mut self, cx: &mut StreamCx<'_, T>, id: StreamId, code: u64) {
        let Some(stream) = self.map.get_mut(&id) else { return };
        stream.clear_queue();
        // A peer that stops after everything arrived (go-libp2p's Close does) takes nothing away.
        if stream.writing != Writing::Delivered {
            stream.writing = Writing::Failed(StreamError::Stopped(code));
            // The peer waits for this before it counts the stream as over (RFC 9000 §3.5).
            if let (Some(quic), Ok(code)) = (stream.quic, VarInt::from_u64(code)) {
                let _ = cx.conn.quic.send_stream(quic).reset(code);
            }
        }
        if stream.released {
            self.settle_released(cx, id);
            return;
        }
        match stream.owner {
            Owner::App => {
                stream.want_write = false;
                let lost = stream.writing == Writing::Failed(StreamError::Stopped(code));
                self.retire(cx, id);
                if self.map.contains_key(&id) || !lost {
                    self.deliveries.push_back(Delivery::App(Event::StreamWritable { stream: id }));
                } else {
                    // Forgotten, since it had been read to its end: no write is left that could tell.
                    self.deliver_failed(Owner::App, id, StreamError::Stopped(code));
                }
            }
            Owner::Machine(machine) if matches!(stream.phase, Phase::Open) => {
                self.deliveries.push_back(Delivery::Machine(machine, NetEvent::Stopped { stream: id, code }));
            }
            Owner::Machine(_) => {}
        }
    }

    /// The stream's deadline has come: its negotiation took too long.
    pub(crate) fn on_timeout<T>(&mut self, cx: &mut StreamCx<'_, T>, id: StreamId) {
        if let Some(stream) = self.map.get_mut(&id) {
            stream.timer = None;
            self.fail(cx, id, StreamError::TimedOut, code::NEGOTIATION_FAILED);
        }
    }

    /// The connection is gone, and with it its streams.
    pub(crate) fn on_conn_lost<T>(&mut self, cx: &mut StreamCx<'_, T>) {
        let waiting = core::mem::take(&mut cx.conn.waiting);
        let mut ids: Vec<_> = cx.conn.streams.drain().map(|(_, id)| id).chain(waiting).collect();
        ids.sort_unstable();
        ids.dedup();
        for id in ids {
            let Some(stream) = self.map.get_mut(&id) else { continue };
            if let Some(timer) = stream.timer.take() {
                cx.timers.cancel(timer);
            }
            if stream.released {
                self.map.remove(&id);
                continue;
            }
            let known = !matches!(stream.phase, Phase::Listening(_));
            if stream.owner == Owner::App && matches!(stream.phase, Phase::Open) {
                self.orphan(cx, id);
            } else {
                let owner = stream.owner;
                self.map.remove(&id);
                if known {
                    self.deliver_failed(owner, id, StreamError::ConnectionClosed);
                }
            }
        }
    }

    /// Keeps what an application has not read from a stream whose connection is gone.
    fn orphan<T>(&mut self, cx: &mut StreamCx<'_, T>, id: StreamId) {
        let Some(stream) = self.map.get_mut(&id) else { return };
        stream.orphaned = true;
        stream.clear_queue();
        if let Some(quic) = stream.quic.take() {
            while stream.reading == Reading::Open {
                match pull(cx.conn, quic, READ_CHUNK) {
                    Pulled::Data(data) => stream.head.push_back(data),
                    Pulled::Blocked => stream.reading = Reading::Failed(StreamError::ConnectionClosed),
                    Pulled::End => stream.reading = Reading::Ended,
                    Pulled::Reset(code) => stream.reading = Reading::Failed(StreamError::Reset(code)),
                }
            }
        }
        let unclean = stream.reading != Reading::Ended || !matches!(stream.writing, Writing::Delivered);
        if !matches!(stream.writing, Writing::Delivered | Writing::Failed(_)) {
            stream.writing = Writing::Failed(StreamError::ConnectionClosed);
        }
        let unread = !stream.head.is_empty() || stream.reading == Reading::Ended;
        if core::mem::take(&mut stream.want_read) && unread {
            self.deliveries.push_back(Delivery::App(Event::StreamReadable { stream: id }));
        }
        if unclean {
            self.deliver_failed(Owner::App, id, StreamError::ConnectionClosed);
        }
        if !unread {
            self.map.remove(&id);
            return;
        }
        self.orphans.push_back(id);
        while self.orphans.len() > limits::ORPHANED_STREAMS {
            if let Some(oldest) = self.orphans.pop_front() {
                self.map.remove(&oldest);
            }
        }
    }

    /// Reads for the application, at most `max` bytes. `cx` is `None` if the connection is gone.
    pub(crate) fn read<T>(
        &mut self,
        cx: Option<&mut StreamCx<'_, T>>,
        id: StreamId,
        max: usize,
    ) -> Result<Read, StreamError> {
        let Some(stream) = self.map.get_mut(&id) else { return Err(StreamError::ConnectionClosed) };
        if !stream.head.is_empty() {
            let data = stream.take_head(max);
            let released = stream.held.min(data.len());
            stream.held -= released;
            if let Some(cx) = cx {
                cx.conn.unhold(released);
            }
            return Ok(Read::Data(data));
        }
        match &stream.reading {
            Reading::Open => {}
            Reading::Ended => {
                self.end_of_reading(cx, id);
                return Ok(Read::End);
            }
            Reading::Stopped => return Err(StreamError::Finished),
            Reading::Failed(error) => {
                let error = error.clone();
                self.end_of_reading(cx, id);
                return Err(error);
            }
        }
        let (Some(cx), Some(quic), Phase::Open) = (cx, stream.quic, &stream.phase) else {
            stream.want_read = true;
            return Ok(Read::Blocked);
        };
        match pull(cx.conn, quic, max.max(1)) {
            Pulled::Data(data) => Ok(Read::Data(data)),
            Pulled::Blocked => {
                stream.want_read = true;
                Ok(Read::Blocked)
            }
            Pulled::End => {
                stream.reading = Reading::Ended;
                self.retire(cx, id);
                Ok(Read::End)
            }
            Pulled::Reset(code) => {
                stream.reading = Reading::Failed(StreamError::Reset(code));
                self.retire(cx, id);
                Err(StreamError::Reset(code))
            }
        }
    }

    fn end_of_reading<T>(&mut self, cx: Option<&mut StreamCx<'_, T>>, id: StreamId) {
        match cx {
            Some(cx) => self.retire(cx, id),
            None => {
                self.map.remove(&id);
                self.orphans.retain(|orphan| *orphan != id);
            }
        }
    }

    /// Writes for the application. Takes from the front of `data`; what remains did not fit.
    pub(crate) fn write<T>(
        &mut self,
        cx: &mut StreamCx<'_, T>,
        id: StreamId,
        data: Outgoing<'_>,
    ) -> Result<usize, StreamError> {
        let Some(stream) = self.map.get_mut(&id) else { return Err(StreamError::ConnectionClosed) };
        match &stream.writing {
            Writing::Open => {}
            Writing::Finishing | Writing::Finished | Writing::Delivered => return Err(StreamError::Finished),
            Writing::Failed(error) => return Err(error.clone()),
        }
        let offered = data.len();
        let (Some(quic), true, true) = (stream.quic, stream.may_write(), stream.queue.is_empty()) else {
            stream.want_write = true;
            return Ok(0);
        };
        let mut send = cx.conn.quic.send_stream(quic);
        let written = match data {
            Outgoing::Slice(slice) => send.write(slice),
            Outgoing::Bytes(bytes) => send.write_chunks(&mut core::slice::from_mut(bytes)),
        };
        match written {
            Ok(written) => {
                stream.want_write = written < offered;
                Ok(written)
            }
            Err(WriteError::Blocked) => {
                stream.want_write = true;
                Ok(0)
            }
            Err(WriteError::Stopped(code)) => {
                let error = StreamError::Stopped(code.into_inner());
                stream.writing = Writing::Failed(error.clone());
                Err(error)
            }
            Err(WriteError::ClosedStream) => Err(StreamError::Finished),
        }
    }

    /// Queues bytes for a machine.
    pub(crate) fn push<T>(&mut self, cx: &mut StreamCx<'_, T>, id: StreamId, data: Bytes) {
        let Some(stream) = self.map.get_mut(&id) else { return };
        if stream.writing != Writing::Open || data.is_empty() {
            return;
        }
        if stream.queued.saturating_add(data.len()) > limits::MACHINE_WRITE_QUEUE {
            self.fail(cx, id, StreamError::Stopped(code::STREAM_RESOURCE_LIMIT.into()), code::STREAM_RESOURCE_LIMIT);
            return;
        }
        stream.enqueue(data);
        self.flush(cx, id);
    }

    /// Asks for [`NetEvent::Writable`].
    pub(crate) fn want_writable<T>(&mut self, cx: &mut StreamCx<'_, T>, id: StreamId) {
        if let Some(stream) = self.map.get_mut(&id) {
            stream.want_write = true;
            self.flush(cx, id);
        }
    }

    /// No more writes.
    pub(crate) fn finish<T>(&mut self, cx: &mut StreamCx<'_, T>, id: StreamId) -> Result<(), StreamError> {
        let Some(stream) = self.map.get_mut(&id) else { return Err(StreamError::ConnectionClosed) };
        match &stream.writing {
            Writing::Open => stream.writing = Writing::Finishing,
            Writing::Finishing | Writing::Finished | Writing::Delivered => return Err(StreamError::Finished),
            Writing::Failed(error) => return Err(error.clone()),
        }
        self.flush(cx, id);
        Ok(())
    }

    /// Sends what is queued as far as QUIC takes it, then the end if it is due.
    fn flush<T>(&mut self, cx: &mut StreamCx<'_, T>, id: StreamId) {
        let Some(stream) = self.map.get_mut(&id) else { return };
        let Some(quic) = stream.quic else { return };
        // Until the choice is made, only the negotiation itself may be sent behind several candidates; its messages
        // are the whole queue then, since owners' writes wait.
        if !stream.queue.is_empty() {
            let mut send = cx.conn.quic.send_stream(quic);
            while let Some(front) = stream.queue.front_mut() {
                match send.write_chunks(&mut core::slice::from_mut(front)) {
                    Ok(written) => {
                        stream.queued -= written;
                        if !front.is_empty() {
                            return;
                        }
                        stream.queue.pop_front();
                    }
                    Err(WriteError::Blocked) => return,
                    Err(WriteError::Stopped(_) | WriteError::ClosedStream) => {
                        stream.clear_queue();
                        break;
                    }
                }
            }
        }
        if stream.writing == Writing::Finishing && stream.may_write() {
            stream.writing = match cx.conn.quic.send_stream(quic).finish() {
                Ok(()) | Err(FinishError::ClosedStream) => Writing::Finished,
                Err(FinishError::Stopped(code)) => Writing::Failed(StreamError::Stopped(code.into_inner())),
            };
        }
        if stream.may_write() && !stream.released && core::mem::take(&mut stream.want_write) {
            self.deliveries.push_back(match stream.owner {
                Owner::App => Delivery::App(Event::StreamWritable { stream: id }),
                Owner::Machine(machine) => Delivery::Machine(machine, NetEvent::Writable { stream: id }),
            });
        }
    }

    /// Aborts writing.
    pub(crate) fn reset_writing<T>(&mut self, cx: &mut StreamCx<'_, T>, id: StreamId, code: u32) {
        let Some(stream) = self.map.get_mut(&id) else { return };
        stream.clear_queue();
        if matches!(stream.writing, Writing::Open | Writing::Finishing | Writing::Finished) {
            stream.writing = Writing::Failed(StreamError::Finished);
            if let Some(quic) = stream.quic {
                let _ = cx.conn.quic.send_stream(quic).reset(VarInt::from_u32(code));
            }
        }
        self.retire(cx, id);
    }

    /// Aborts reading.
    pub(crate) fn stop_reading<T>(&mut self, cx: &mut StreamCx<'_, T>, id: StreamId, code: u32) {
        let Some(stream) = self.map.get_mut(&id) else { return };
        stream.drop_head(cx.conn);
        stream.stop_reading(cx.conn, code);
        self.retire(cx, id);
    }

    /// Aborts both directions and forgets.
    pub(crate) fn abort<T>(&mut self, cx: &mut StreamCx<'_, T>, id: StreamId, code: u32) {
        let Some(stream) = self.map.get_mut(&id) else { return };
        if let Some(quic) = stream.quic {
            if !matches!(stream.writing, Writing::Delivered) {
                let _ = cx.conn.quic.send_stream(quic).reset(VarInt::from_u32(code));
            }
            stream.stop_reading(cx.conn, code);
        }
        self.forget(cx, id);
    }

    /// The owner lets go: finish, read no more, forget when the peer has agreed.
    pub(crate) fn close<T>(&mut self, cx: &mut StreamCx<'_, T>, id: StreamId) {
        let Some(stream) = self.map.get_mut(&id) else { return };
        stream.released = true;
        stream.drop_head(cx.conn);
        if stream.writing == Writing::Open {
            stream.writing = Writing::Finishing;
        }
        if let Phase::Waiting(_) = stream.phase
            && stream.queue.is_empty()
        {
            self.forget(cx, id);
            return;
        }
        if let (Phase::Dialing(_), Some(timer)) = (&stream.phase, stream.timer) {
            cx.timers.reset(timer, cx.now + limits::DRAIN_TIMEOUT);
        }
        self.flush(cx, id);
        self.settle_released(cx, id);
    }

    /// Lets go of an orphan.
    pub(crate) fn drop_orphan(&mut self, id: StreamId) {
        self.map.remove(&id);
        self.orphans.retain(|orphan| *orphan != id);
    }

    /// Ends a stream in error: aborts what is left of it and tells the owner, if it has one by now.
    fn fail<T>(&mut self, cx: &mut StreamCx<'_, T>, id: StreamId, error: StreamError, code: u32) {
        let Some(stream) = self.map.get(&id) else { return };
        let (owner, told) = (stream.owner, !stream.released && !matches!(stream.phase, Phase::Listening(_)));
        self.abort(cx, id, code);
        if told {
            self.deliver_failed(owner, id, error);
        }
    }

    fn deliver_failed(&mut self, owner: Owner, stream: StreamId, error: StreamError) {
        self.deliveries.push_back(match owner {
            Owner::App => Delivery::App(Event::StreamFailed { stream, error }),
            Owner::Machine(machine) => Delivery::Machine(machine, NetEvent::Failed { stream, error }),
        });
    }

    /// Forgets a stream of the application whose directions are both over.
    fn retire<T>(&mut self, cx: &mut StreamCx<'_, T>, id: StreamId) {
        let Some(stream) = self.map.get(&id) else { return };
        let read = stream.reading != Reading::Open && stream.head.is_empty();
        let written = matches!(stream.writing, Writing::Delivered | Writing::Failed(_));
        if read && written && stream.owner == Owner::App {
            self.forget(cx, id);
        }
    }

    fn forget<T>(&mut self, cx: &mut StreamCx<'_, T>, id: StreamId) {
        let Some(mut stream) = self.map.remove(&id) else { return };
        stream.drop_head(cx.conn);
        if let Some(timer) = stream.timer {
            cx.timers.cancel(timer);
        }
        if matches!(stream.phase, Phase::Listening(_)) {
            cx.conn.negotiating = cx.conn.negotiating.saturating_sub(1);
        }
        if let Some(quic) = stream.quic {
            cx.conn.streams.remove(&quic);
        }
    }

    /// Whether a connection carries streams that its end would hurt: all but those of identify and ping.
    pub(crate) fn is_busy(&self, conn: &Conn) -> bool {
        conn.streams.values().chain(&conn.waiting).filter_map(|id| self.map.get(id)).any(|stream| {
            !matches!(stream.phase, Phase::Listening(_))
                && !matches!(stream.owner, Owner::Machine(MachineId::Identify | MachineId::Ping))
        })
    }
}

/// What stream operations need besides the streams.
pub(crate) struct StreamCx<'a, T> {
    pub(crate) now: Time,
    pub(crate) conn: &'a mut Conn,
    pub(crate) timers: &'a mut Timers<T>,
    /// The timer of a stream, among the node's timers.
    pub(crate) timer: fn(StreamId) -> T,
}

/// Bytes that an application offers.
pub(crate) enum Outgoing<'a> {
    Slice(&'a [u8]),
    Bytes(&'a mut Bytes),
}

impl Outgoing<'_> {
    fn len(&self) -> usize {
        match self {
            Self::Slice(slice) => slice.len(),
            Self::Bytes(bytes) => bytes.len(),
        }
    }
}

impl Stream {
    fn new(conn: ConnId, peer: PeerId, direction: Direction, owner: Owner, framing: Framing) -> Self {
        let mut stream = Self {
            conn,
            peer,
            direction,
            protocol: None,
            quic: None,
            owner,
            released: false,
            phase: Phase::Open,
            framing: Framing::Raw,
            frames: None,
            head: VecDeque::new(),
            held: 0,
            reading: Reading::Open,
            want_read: true,
            queue: VecDeque::new(),
            queued: 0,
            writing: Writing::Open,
            want_write: false,
            timer: None,
            orphaned: false,
        };
        stream.set_framing(framing);
        stream
    }

    pub(crate) fn is_orphaned(&self) -> bool {
        self.orphaned
    }

    pub(crate) fn is_delivered(&self) -> bool {
        self.writing == Writing::Delivered
    }

    fn set_framing(&mut self, framing: Framing) {
        self.framing = framing;
        self.frames = match framing {
            Framing::Raw => None,
            Framing::Frames { max } => Some(Box::new(FrameDecoder::new(max))),
        };
    }

    /// Whether the owner's bytes may go out: the protocol is agreed, or the only one proposed.
    fn may_write(&self) -> bool {
        match &self.phase {
            Phase::Open => true,
            Phase::Dialing(dialer) => dialer.is_lazy(),
            Phase::Waiting(_) | Phase::Listening(_) => false,
        }
    }

    fn enqueue(&mut self, data: Bytes) {
        self.queued += data.len();
        self.queue.push_back(data);
    }

    fn clear_queue(&mut self) {
        self.queue.clear();
        self.queued = 0;
    }

    fn put_back(&mut self, data: Bytes) {
        if !data.is_empty() {
            self.head.push_back(data);
        }
    }

    fn take_head(&mut self, max: usize) -> Bytes {
        let Some(front) = self.head.front_mut() else { return Bytes::new() };
        if front.len() > max.max(1) {
            let taken = front.slice(..max.max(1));
            front.advance(max.max(1));
            taken
        } else {
            self.head.pop_front().unwrap_or_default()
        }
    }

    fn drop_head(&mut self, conn: &mut Conn) {
        self.head.clear();
        conn.unhold(core::mem::take(&mut self.held));
    }

    fn take(&mut self, conn: &mut Conn, max: usize) -> Pulled {
        if !self.head.is_empty() {
            return Pulled::Data(self.take_head(max));
        }
        self.quic.map_or(Pulled::Blocked, |quic| pull(conn, quic, max))
    }

    fn stop_reading(&mut self, conn: &mut Conn, code: u32) {
        if self.reading == Reading::Open {
            self.reading = Reading::Stopped;
            if let Some(quic) = self.quic {
                let _ = conn.quic.recv_stream(quic).stop(VarInt::from_u32(code));
            }
        }
    }
}

fn negotiation_error(error: NegotiateError) -> StreamError {
    match error {
        NegotiateError::Unsupported => StreamError::Unsupported,
        other => StreamError::Negotiation(other.to_string()),
    }
}
