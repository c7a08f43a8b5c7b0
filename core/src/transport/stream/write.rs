//! What goes out: queued for machines, with backpressure for applications.

use bytes::Bytes;
use noq_proto::{FinishError, VarInt, WriteError};

use super::{Conn, Delivery, Owner, Phase, Stream, StreamCx, Streams, Writing};
use crate::{
    event::{Event, StreamError, StreamId},
    fault::code,
    limits,
    probe::probe,
    transport::net::NetEvent,
};

impl Streams {
    /// QUIC takes data on this stream again.
    pub(crate) fn on_writable<T>(&mut self, cx: &mut StreamCx<'_, T>, id: StreamId) {
        self.flush(cx, id);
        let Some(stream) = self.map.get_mut(&id) else { return };
        if stream.released {
            if let (Phase::Open, Some(timer)) = (&stream.phase, stream.timer) {
                // The peer takes what was written, if slowly.
                cx.timers.reset(timer, cx.now + limits::DRAIN_TIMEOUT);
            }
            self.settle_released(cx, id);
        }
    }

    /// Everything including the end has arrived at the peer.
    pub(crate) fn on_finished<T>(&mut self, cx: &mut StreamCx<'_, T>, id: StreamId) {
        let Some(stream) = self.map.get_mut(&id) else { return };
        stream.writing = Writing::Delivered;
        if stream.released {
            self.settle_released(cx, id);
            return;
        }
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
        probe!(cx.probes, StreamStopped);
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
        // Before that, whoever comes to own the stream may not know it yet: `opened` tells.
        if !matches!(stream.phase, Phase::Open) {
            stream.want_write = false;
            probe!(cx.probes, StreamStoppedEarly);
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
            Owner::Machine(machine) => {
                self.deliveries.push_back(Delivery::Machine(machine, NetEvent::Stopped { stream: id, code }));
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
        if matches!(data, Outgoing::Slice(slice) if slice.len() <= limits::GATHERED_WRITE) {
            if !stream.gathering {
                // The first of a turn goes out as it is; only what comes on its heels is gathered.
                stream.gathering = true;
                cx.conn.gathering.push(id);
            } else if let Outgoing::Slice(slice) = data
                && (stream.tail.len() < limits::GATHERED || self.send_tail(cx, id))
                && let Some(stream) = self.map.get_mut(&id)
            {
                stream.tail.extend_from_slice(slice);
                probe!(cx.probes, StreamGathered);
                return Ok(offered);
            }
        } else {
            self.send_tail(cx, id);
        }
        let Some(stream) = self.map.get_mut(&id) else { return Err(StreamError::ConnectionClosed) };
        if !stream.queue.is_empty() {
            stream.want_write = true;
            return Ok(0);
        }
        let mut send = cx.conn.quic.send_stream(quic);
        let mut data = data;
        let mut written = 0;
        // QUIC remembers whom to wake when a write is blocked, not when it is cut short: so until it is.
        let result = loop {
            let more = match &mut data {
                Outgoing::Slice(slice) => send.write(slice.get(written..).unwrap_or_default()),
                Outgoing::Bytes(bytes) => send.write_chunks(&mut core::slice::from_mut(*bytes)),
            };
            match more {
                Ok(more) => written += more,
                Err(error) => break Err(error),
            }
            if written >= offered {
                break Ok(());
            }
        };
        match result {
            Ok(()) => {
                stream.want_write = false;
                Ok(written)
            }
            Err(WriteError::Blocked) => {
                probe!(cx.probes, StreamBackpressure);
                stream.want_write = true;
                Ok(written)
            }
            Err(WriteError::Stopped(code)) => {
                let error = StreamError::Stopped(code.into_inner());
                stream.writing = Writing::Failed(error.clone());
                Err(error)
            }
            Err(WriteError::ClosedStream) => Err(StreamError::Finished),
        }
    }

    /// Hands gathered writes to QUIC. Returns whether it took all that waits.
    fn send_tail<T>(&mut self, cx: &mut StreamCx<'_, T>, id: StreamId) -> bool {
        let Some(stream) = self.map.get_mut(&id) else { return true };
        if !stream.tail.is_empty() {
            let tail = stream.tail.split().freeze();
            stream.enqueue(tail);
        }
        stream.send_queue(cx.conn)
    }

    /// Hands the writes gathered in this turn to QUIC, before datagrams are made of them.
    pub(crate) fn send_gathered<T>(&mut self, cx: &mut StreamCx<'_, T>) {
        for id in core::mem::take(&mut cx.conn.gathering) {
            if let Some(stream) = self.map.get_mut(&id) {
                stream.gathering = false;
                self.send_tail(cx, id);
            }
        }
    }

    /// Queues bytes for a machine.
    pub(crate) fn push<T>(&mut self, cx: &mut StreamCx<'_, T>, id: StreamId, data: Bytes) {
        let Some(stream) = self.map.get_mut(&id) else { return };
        if stream.writing != Writing::Open || data.is_empty() {
            return;
        }
        if stream.queued.saturating_add(data.len()) > limits::MACHINE_WRITE_QUEUE {
            probe!(cx.probes, StreamQueueFull);
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
    pub(super) fn flush<T>(&mut self, cx: &mut StreamCx<'_, T>, id: StreamId) {
        // Until the choice is made, only the negotiation itself may be sent behind several candidates; its messages
        // are the whole queue then, since owners' writes wait.
        if !self.send_tail(cx, id) {
            return;
        }
        let Some(stream) = self.map.get_mut(&id) else { return };
        let Some(quic) = stream.quic else { return };
        if stream.writing == Writing::Finishing && stream.may_write() {
            let mut send = cx.conn.quic.send_stream(quic);
            stream.writing = match send.finish() {
                Ok(()) | Err(FinishError::ClosedStream) => Writing::Finished,
                Err(FinishError::Stopped(code)) => {
                    let _ = send.reset(code);
                    Writing::Failed(StreamError::Stopped(code.into_inner()))
                }
            };
        }
        // A machine that is told to go on where nothing can be written would go on for ever.
        let of_use = stream.owner == Owner::App || !matches!(stream.writing, Writing::Failed(_));
        if stream.may_write() && !stream.released && of_use && core::mem::take(&mut stream.want_write) {
            self.deliveries.push_back(match stream.owner {
                Owner::App => Delivery::App(Event::StreamWritable { stream: id }),
                Owner::Machine(machine) => Delivery::Machine(machine, NetEvent::Writable { stream: id }),
            });
        }
    }

    /// Aborts writing.
    pub(crate) fn reset_writing<T>(&mut self, cx: &mut StreamCx<'_, T>, id: StreamId, code: u32) {
        let Some(stream) = self.map.get_mut(&id) else { return };
        if matches!(stream.phase, Phase::Waiting(_)) {
            // Nothing can be proposed on a stream that sends nothing.
            self.fail(cx, id, StreamError::Finished, code);
            return;
        }
        stream.clear_queue();
        if matches!(stream.writing, Writing::Open | Writing::Finishing | Writing::Finished) {
            stream.writing = Writing::Failed(StreamError::Finished);
            if let Some(quic) = stream.quic {
                let _ = cx.conn.quic.send_stream(quic).reset(VarInt::from_u32(code));
            }
        }
        self.retire(cx, id);
    }
}

impl Stream {
    /// Sends what is queued as far as QUIC takes it. Returns whether that was all.
    fn send_queue(&mut self, conn: &mut Conn) -> bool {
        let Some(quic) = self.quic else { return self.queue.is_empty() };
        if self.queue.is_empty() {
            return true;
        }
        let mut send = conn.quic.send_stream(quic);
        while let Some(front) = self.queue.front_mut() {
            match send.write_chunks(&mut core::slice::from_mut(front)) {
                Ok(written) => {
                    self.queued -= written;
                    // What is left is offered once more: only after QUIC has refused it tells of room.
                    if front.is_empty() {
                        self.queue.pop_front();
                    }
                }
                Err(WriteError::Blocked) => return false,
                Err(error) => {
                    // A stream that is forgotten right after this is not there any more to answer the stop.
                    if let WriteError::Stopped(code) = error {
                        let _ = send.reset(code);
                    }
                    self.clear_queue();
                    return true;
                }
            }
        }
        true
    }
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
