//! What comes in: to machines at once, as frames or pieces; to applications when they ask for it.

use super::{Delivery, Owner, Phase, Pulled, READ_CHUNK, Reading, StreamCx, Streams, Writing, pull};
use crate::{
    event::{Event, Read, StreamError, StreamId},
    fault::{PeerFault, code},
    limits,
    probe::{Probes, probe},
    transport::{net::NetEvent, quic::Conn},
};

impl Streams {
    /// Hands what can be read to the stream's owner.
    pub(super) fn deliver_reads<T>(&mut self, cx: &mut StreamCx<'_, T>, id: StreamId) {
        let Some(stream) = self.map.get_mut(&id) else { return };
        if stream.released {
            self.settle_released(cx, id);
            return;
        }
        let Owner::Machine(machine) = stream.owner else {
            if stream.reading != Reading::Stopped && core::mem::take(&mut stream.want_read) {
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
                        probe!(cx.probes, StreamCutFrame);
                        self.fail(cx, id, StreamError::EndedEarly, code::STREAM_PROTOCOL_VIOLATION);
                        return;
                    }
                    self.deliveries.push_back(Delivery::Machine(machine, NetEvent::End { stream: id }));
                    return;
                }
                Pulled::Reset(code) => {
                    stream.reading = Reading::Failed(StreamError::Reset(code));
                    probe!(cx.probes, StreamReset);
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
    /// that a slow reader costs no more memory than it may and the peer's sending still comes to rest. When as much is
    /// held as the window allows, the rest stays in QUIC: by then that is no more than
    /// [`LEAST_WINDOW`](limits::LEAST_WINDOW), too little to make many entries (QUIC joins those of small packets), and
    /// taking it would grant the peer as much again each time.
    pub(crate) fn sweep(&mut self, conn: &mut Conn, probes: &mut Probes) {
        let mut ids: Vec<_> = conn.streams.values().copied().collect();
        ids.sort_unstable();
        for id in ids {
            let Some(stream) = self.map.get_mut(&id) else { continue };
            let unread = matches!(stream.phase, Phase::Open) && !stream.want_read && stream.owner == Owner::App;
            let (true, Some(quic)) = (unread && stream.reading == Reading::Open, stream.quic) else { continue };
            // A reader that has kept up so far has until the next sweep.
            if core::mem::take(&mut stream.drained) {
                continue;
            }
            let mut pieces = Vec::new();
            while !conn.holds_its_window() {
                match pull(conn, quic, READ_CHUNK) {
                    Pulled::Data(data) => {
                        // Piece by piece: what taking it has granted is taken back before the next.
                        conn.hold(data.len());
                        pieces.push(data);
                    }
                    Pulled::Blocked => break,
                    Pulled::End => {
                        stream.reading = Reading::Ended;
                        break;
                    }
                    Pulled::Reset(code) => {
                        stream.reading = Reading::Failed(StreamError::Reset(code));
                        probe!(probes, StreamReset);
                        break;
                    }
                }
            }
            if conn.holds_its_window() {
                probe!(probes, StreamWindowFull);
            }
            if !pieces.is_empty() {
                probe!(probes, StreamSwept);
                let all = pieces.concat();
                stream.held += all.len();
                stream.head.push_back(all.into());
            }
        }
    }

    /// Keeps what an application has not read from a stream whose connection is gone.
    pub(super) fn orphan<T>(&mut self, cx: &mut StreamCx<'_, T>, id: StreamId) {
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
        let unread = !stream.head.is_empty() || (stream.reading == Reading::Ended && !stream.read_out);
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
        probe!(cx.probes, StreamOrphaned);
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
                stream.read_out = true;
                self.end_of_reading(cx, id);
                return Ok(Read::End);
            }
            Reading::Stopped => return Err(StreamError::Finished),
            Reading::Failed(error) => {
                let error = error.clone();
                stream.read_out = true;
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
                stream.drained = true;
                Ok(Read::Blocked)
            }
            Pulled::End => {
                stream.reading = Reading::Ended;
                stream.read_out = true;
                self.retire(cx, id);
                Ok(Read::End)
            }
            Pulled::Reset(code) => {
                stream.reading = Reading::Failed(StreamError::Reset(code));
                stream.read_out = true;
                probe!(cx.probes, StreamReset);
                self.retire(cx, id);
                Err(StreamError::Reset(code))
            }
        }
    }

    pub(super) fn end_of_reading<T>(&mut self, cx: Option<&mut StreamCx<'_, T>>, id: StreamId) {
        match cx {
            Some(cx) => self.retire(cx, id),
            None => {
                self.map.remove(&id);
                self.orphans.retain(|orphan| *orphan != id);
            }
        }
    }

    /// Aborts reading.
    pub(crate) fn stop_reading<T>(&mut self, cx: &mut StreamCx<'_, T>, id: StreamId, code: u32) {
        let Some(stream) = self.map.get_mut(&id) else { return };
        stream.drop_head(cx.conn);
        stream.stop_reading(cx.conn, code);
        self.retire(cx, id);
    }
}
