//! Agreeing on a stream's protocol, and turning away what has none.

use super::{Delivery, Owner, Phase, Pulled, READ_CHUNK, Reading, StreamCx, Streams, Writing, pull};
use crate::{
    event::{Direction, Event, StreamError, StreamId},
    fault::{PeerFault, code},
    probe::probe,
    protocol_id::ProtocolId,
    transport::{
        negotiate::{DialerStep, ListenerStep, NegotiateError},
        net::NetEvent,
    },
};

impl Streams {
    /// One step of negotiation. Returns `false` when there is nothing more to do now.
    pub(super) fn negotiate<T>(&mut self, cx: &mut StreamCx<'_, T>, id: StreamId) -> bool {
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
                probe!(cx.probes, StreamNegotiationReset);
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
                        probe!(cx.probes, StreamNegotiationFallback);
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
    pub(super) fn turn_away<T>(&mut self, cx: &mut StreamCx<'_, T>, id: StreamId) {
        if let Some(stream) = self.map.get_mut(&id) {
            stream.writing = Writing::Finishing;
            probe!(cx.probes, StreamTurnedAway);
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
    pub(super) fn opened<T>(&mut self, cx: &mut StreamCx<'_, T>, id: StreamId, protocol: ProtocolId) {
        let Some(stream) = self.map.get_mut(&id) else { return };
        if let Some(timer) = stream.timer.take() {
            cx.timers.cancel(timer);
        }
        if matches!(stream.phase, Phase::Listening(_)) {
            cx.conn.negotiating = cx.conn.negotiating.saturating_sub(1);
        }
        stream.phase = Phase::Open;
        stream.protocol = Some(protocol.clone());
        if stream.reading == Reading::Stopped {
            stream.drop_head(cx.conn);
            stream.stop_now(cx.conn);
        }
        if stream.released {
            self.flush(cx, id);
            self.settle_released(cx, id);
            return;
        }
        let (conn, peer, owner) = (stream.conn, stream.peer, stream.owner);
        let stopped = match stream.writing {
            Writing::Failed(StreamError::Stopped(code)) => Some(code),
            _ => None,
        };
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
        if let Some(code) = stopped {
            self.deliveries.push_back(match owner {
                Owner::App => Delivery::App(Event::StreamWritable { stream: id }),
                Owner::Machine(machine) => Delivery::Machine(machine, NetEvent::Stopped { stream: id, code }),
            });
        }
        // Candidates after the first made the owner wait.
        self.flush(cx, id);
        self.retire(cx, id);
    }
}

fn negotiation_error(error: NegotiateError) -> StreamError {
    match error {
        NegotiateError::Unsupported => StreamError::Unsupported,
        other => StreamError::Negotiation(other.to_string()),
    }
}
