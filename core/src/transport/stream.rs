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
//! a responder that sees STOP_SENDING before it could echo may throw away what it received. For the same reason an
//! owner that reads no more is not heard by the peer before that. A stream with bytes that the peer does not take yet is
//! released too; it is given up after [`DRAIN_TIMEOUT`](limits::DRAIN_TIMEOUT) without any progress.

mod agree;
mod read;
mod write;

use std::collections::VecDeque;

pub(crate) use self::write::Outgoing;

use bytes::{Buf as _, Bytes, BytesMut};
use noq_proto::{Dir, ReadError, VarInt};

use super::{
    frame::FrameDecoder,
    negotiate::{Dialer, Listener},
    net::{Framing, NetEvent},
    quic::Conn,
};
use crate::{
    event::{ConnId, Direction, Event, StreamError, StreamId},
    fault::{PeerFault, code},
    hash::{Map, NodeHasher},
    identity::PeerId,
    limits,
    probe::{Probes, probe},
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
    frames: Option<Box<FrameDecoder>>,
    /// Bytes taken from QUIC that the owner has not seen.
    head: VecDeque<Bytes>,
    /// How many of them were taken by [`Streams::sweep`].
    held: usize,
    reading: Reading,
    /// The application has seen how reading ended.
    read_out: bool,
    /// The code to stop reading with, until QUIC has it.
    stop_code: Option<u32>,
    want_read: bool,
    /// Whether everything was read at some moment since the last [`Streams::sweep`].
    drained: bool,
    queue: VecDeque<Bytes>,
    queued: usize,
    /// Small writes of the application, gathered: they go out together before the next datagram.
    tail: BytesMut,
    /// Whether this turn has seen a small write.
    gathering: bool,
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
            let Some(quic) = cx.conn.quic.streams().open(Dir::Bi) else {
                probe!(cx.probes, StreamWaited);
                return;
            };
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
                probe!(cx.probes, StreamLimited);
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

    /// A released stream needs nothing more once the peer has agreed and QUIC has all that was written.
    fn settle_released<T>(&mut self, cx: &mut StreamCx<'_, T>, id: StreamId) {
        let Some(stream) = self.map.get_mut(&id) else { return };
        if !matches!(stream.phase, Phase::Open) {
            return;
        }
        if stream.queue.is_empty() {
            stream.stop_reading(cx.conn, code::OK);
            self.forget(cx, id);
        } else if stream.timer.is_none() {
            probe!(cx.probes, StreamDraining);
            stream.timer = Some(cx.timers.set(cx.now + limits::DRAIN_TIMEOUT, (cx.timer)(id)));
        }
    }

    /// The stream's deadline has come: its negotiation took too long, or the peer does not take what was written.
    pub(crate) fn on_timeout<T>(&mut self, cx: &mut StreamCx<'_, T>, id: StreamId) {
        if let Some(stream) = self.map.get_mut(&id) {
            stream.timer = None;
            let code = match stream.phase {
                Phase::Open => {
                    probe!(cx.probes, StreamDrainTimedOut);
                    code::STREAM_RESOURCE_LIMIT
                }
                Phase::Waiting(_) | Phase::Dialing(_) | Phase::Listening(_) => {
                    probe!(cx.probes, StreamNegotiationTimedOut);
                    code::NEGOTIATION_FAILED
                }
            };
            self.fail(cx, id, StreamError::TimedOut, code);
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

    /// Aborts both directions and forgets.
    pub(crate) fn abort<T>(&mut self, cx: &mut StreamCx<'_, T>, id: StreamId, code: u32) {
        let Some(stream) = self.map.get_mut(&id) else { return };
        if let Some(quic) = stream.quic {
            if !matches!(stream.writing, Writing::Delivered) {
                let _ = cx.conn.quic.send_stream(quic).reset(VarInt::from_u32(code));
            }
            stream.stop_reading(cx.conn, code);
            stream.stop_now(cx.conn);
        }
        self.forget(cx, id);
    }

    /// The owner lets go: finish, read no more, forget when the peer has agreed.
    pub(crate) fn close<T>(&mut self, cx: &mut StreamCx<'_, T>, id: StreamId) {
        let Some(stream) = self.map.get_mut(&id) else { return };
        stream.released = true;
        if !matches!(stream.phase, Phase::Open) {
            probe!(cx.probes, StreamClosedEarly);
        }
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
        if error == StreamError::Unsupported {
            probe!(cx.probes, StreamUnsupported);
        }
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

    /// Forgets a stream of the application whose directions are both over, as the application knows.
    fn retire<T>(&mut self, cx: &mut StreamCx<'_, T>, id: StreamId) {
        let Some(stream) = self.map.get(&id) else { return };
        let read = stream.reading == Reading::Stopped || stream.read_out;
        let written = matches!(stream.writing, Writing::Delivered | Writing::Failed(_));
        if read && written && stream.owner == Owner::App && matches!(stream.phase, Phase::Open) {
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
    pub(crate) probes: &'a mut Probes,
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
            frames: None,
            head: VecDeque::new(),
            held: 0,
            reading: Reading::Open,
            read_out: false,
            stop_code: None,
            want_read: true,
            drained: false,
            queue: VecDeque::new(),
            queued: 0,
            tail: BytesMut::new(),
            gathering: false,
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
        self.tail = BytesMut::new();
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

    /// Reads no more. The peer hears of it once the protocol is agreed.
    fn stop_reading(&mut self, conn: &mut Conn, code: u32) {
        if self.reading == Reading::Open {
            self.reading = Reading::Stopped;
            self.stop_code = Some(code);
        }
        if matches!(self.phase, Phase::Open) {
            self.stop_now(conn);
        }
    }

    fn stop_now(&mut self, conn: &mut Conn) {
        if let Some(quic) = self.quic
            && let Some(code) = self.stop_code.take()
        {
            let _ = conn.quic.recv_stream(quic).stop(VarInt::from_u32(code));
        }
    }
}
