//! The hub's state: everything of a node but its machines.
//!
//! The hub routes inputs to connections, what connections find out to machines, and what machines want to connections
//! and to the world. Three FIFOs hold what is under way: deliveries of the stream layer, signals, and the actions of
//! the machine that was called last (carried out as soon as it returns).

use std::{collections::VecDeque, sync::Arc};

use super::{
    cx::{Cx, Local, MachineTimers, NetSink, Signal, Token},
    dial::Dials,
    listen::Sockets,
    stats::Stats,
    timer::Timer,
};
use crate::{
    bug::Bugs,
    config::Config,
    entropy::{Rng, Root},
    event::{CloseReason, ConnId, Event, StreamId},
    fault::{Consequence, PeerFault, code},
    hash::Map,
    io::{Command, Output},
    peers::Peers,
    probe::{Probes, probe},
    protocol::MachineId,
    time::{Time, UnixTime},
    timers::{TimerId, Timers},
    transport::{
        net::{Action, NetEvent},
        quic::Quic,
        stream::{Delivery, Owner, StreamCx, Streams},
    },
};

/// What is under way in the hub, in one total order.
pub(super) enum Work {
    /// For one owner.
    Deliver(Delivery),
    /// For every machine.
    Broadcast(NetEvent),
}

/// How far shutting down has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Shutdown {
    No,
    /// Connections are closed; their last packets are being sent. The timer bounds that.
    Closing(Option<TimerId>),
    Over,
}

/// A stream of randomness for each machine, so that one more draw in one does not move the others'.
pub(super) struct MachineRngs {
    identify: Rng,
    ping: Rng,
    perf: Rng,
    request: Rng,
}

impl MachineRngs {
    pub(super) fn new(root: &Root) -> Self {
        Self {
            identify: root.stream("machine identify"),
            ping: root.stream("machine ping"),
            perf: root.stream("machine perf"),
            request: root.stream("machine request"),
        }
    }

    fn of(&mut self, machine: MachineId) -> &mut Rng {
        match machine {
            MachineId::Identify => &mut self.identify,
            MachineId::Ping => &mut self.ping,
            MachineId::Perf => &mut self.perf,
            MachineId::Request => &mut self.request,
        }
    }
}

pub(super) struct Hub {
    pub(super) config: Arc<Config>,
    pub(super) now: Time,
    /// The wall clock at `wall_set`.
    pub(super) wall: UnixTime,
    pub(super) wall_set: Time,
    pub(super) local: Local,
    pub(super) rngs: MachineRngs,
    pub(super) timers: Timers<Timer>,
    pub(super) machine_timers: Map<(MachineId, Token), TimerId>,
    pub(super) quic: Quic,
    pub(super) streams: Streams,
    pub(super) sockets: Sockets,
    pub(super) dials: Dials,
    pub(super) peers: Peers,
    /// Incoming handshakes under way.
    pub(super) pending_in: usize,
    pub(super) established_in: usize,
    pub(super) established_out: usize,
    /// Connections that lost to a duplicate and linger.
    pub(super) superseded: Map<ConnId, TimerId>,
    /// Connections to be closed as soon as they carry no streams.
    pub(super) leaving: Map<ConnId, ()>,
    pub(super) handshakes: Map<ConnId, TimerId>,
    pub(super) shutdown: Shutdown,
    pub(super) work: VecDeque<Work>,
    pub(super) actions: VecDeque<Action>,
    pub(super) signals: VecDeque<Signal>,
    pub(super) outputs: VecDeque<Output>,
    pub(super) backlog: bool,
    pub(super) stats: Stats,
    pub(super) probes: Probes,
    pub(super) bugs: Bugs,
}

impl Hub {
    /// Moves the node's time forward.
    pub(super) fn advance(&mut self, now: Time) {
        if now < self.now {
            self.stats.clock_steps_back += 1;
            probe!(self.probes, ClockStepBack);
            return;
        }
        self.now = now;
        self.quic.set_wall(self.wall_now());
    }

    pub(super) fn wall_now(&self) -> UnixTime {
        self.wall + (self.now - self.wall_set)
    }

    /// An event for the application, behind everything that is under way.
    pub(super) fn emit(&mut self, event: Event) {
        self.collect();
        self.work.push_back(Work::Deliver(Delivery::App(event)));
    }

    pub(super) fn command(&mut self, command: Command) {
        self.outputs.push_back(Output::Command(command));
    }

    pub(super) fn broadcast(&mut self, event: NetEvent) {
        self.collect();
        self.work.push_back(Work::Broadcast(event));
    }

    /// Moves what the stream layer has to tell into the common order.
    pub(super) fn collect(&mut self) {
        self.work.extend(self.streams.deliveries.drain(..).map(Work::Deliver));
    }

    pub(super) fn cx(&mut self, machine: MachineId) -> Cx<'_> {
        Cx {
            now: self.now,
            wall: self.wall_now(),
            rng: self.rngs.of(machine),
            timers: MachineTimers { machine, timers: &mut self.timers, ids: &mut self.machine_timers },
            net: NetSink { actions: &mut self.actions, next_stream: &mut self.streams.next },
            local: &self.local,
            outputs: &mut self.outputs,
            signals: &mut self.signals,
            probes: &mut self.probes,
            bugs: self.bugs,
        }
    }

    /// Runs a stream operation with what it needs, if the connection exists, and lets the connection send.
    pub(super) fn on_conn<R>(
        &mut self,
        conn: ConnId,
        run: impl FnOnce(&mut Streams, &mut StreamCx<'_, Timer>) -> R,
    ) -> Option<R> {
        let entry = self.quic.conns.get_mut(&conn)?;
        let mut cx = StreamCx {
            now: self.now,
            conn: entry,
            timers: &mut self.timers,
            timer: Timer::Stream,
            probes: &mut self.probes,
        };
        let result = run(&mut self.streams, &mut cx);
        self.quic.touch(conn);
        Some(result)
    }

    /// The same for a stream whose connection may be gone.
    pub(super) fn on_stream<R>(
        &mut self,
        stream: StreamId,
        run: impl FnOnce(&mut Streams, &mut StreamCx<'_, Timer>) -> R,
    ) -> Option<R> {
        let conn = self.streams.get(stream)?.conn;
        self.on_conn(conn, run)
    }

    /// Carries out what a machine wanted.
    pub(super) fn carry_out(&mut self, machine: MachineId) {
        while let Some(action) = self.actions.pop_front() {
            match action {
                Action::Open { stream, conn, protocols, framing } => {
                    let owner = Owner::Machine(machine);
                    let opened = self.on_conn(conn, |streams, cx| streams.open(cx, stream, owner, protocols, framing));
                    if opened.is_none() {
                        let error = crate::event::StreamError::ConnectionClosed;
                        let failed = NetEvent::Failed { stream, error };
                        self.work.push_back(Work::Deliver(Delivery::Machine(machine, failed)));
                    }
                }
                Action::Write { stream, data } => {
                    self.on_stream(stream, |streams, cx| streams.push(cx, stream, data));
                }
                Action::WantWritable { stream } => {
                    self.on_stream(stream, |streams, cx| streams.want_writable(cx, stream));
                }
                Action::Finish { stream } => {
                    self.on_stream(stream, |streams, cx| streams.finish(cx, stream));
                }
                Action::Close { stream } => {
                    self.on_stream(stream, |streams, cx| streams.close(cx, stream));
                }
                Action::Reset { stream, code } => {
                    self.on_stream(stream, |streams, cx| streams.abort(cx, stream, code));
                }
                Action::GiveUp { conn } => {
                    self.close(conn, code::GARBAGE_COLLECTED, "pings unanswered", CloseReason::Unresponsive);
                }
                Action::Fault { conn, stream, fault } => {
                    if let (Some(stream), Consequence::ResetStream(code)) = (stream, fault.rule().consequence) {
                        self.on_stream(stream, |streams, cx| streams.abort(cx, stream, code));
                    }
                    self.fault(conn, fault);
                }
            }
        }
        self.collect();
    }

    /// A peer broke a rule.
    pub(super) fn fault(&mut self, conn: ConnId, fault: PeerFault) {
        let Some(peer) = self.quic.conns.get(&conn).and_then(crate::transport::quic::Conn::peer) else { return };
        match fault {
            PeerFault::BadNegotiation => probe!(self.probes, FaultBadNegotiation),
            PeerFault::BadFrame => probe!(self.probes, FaultBadFrame),
            PeerFault::BadIdentify => probe!(self.probes, FaultBadIdentify),
            PeerFault::IdentityMismatch => probe!(self.probes, FaultIdentityMismatch),
            PeerFault::PushFlood => probe!(self.probes, FaultPushFlood),
            PeerFault::BadPong => probe!(self.probes, FaultBadPong),
            PeerFault::TooManyStreams => probe!(self.probes, FaultTooManyStreams),
            PeerFault::PingFlood => probe!(self.probes, FaultPingFlood),
            PeerFault::BadRequest => probe!(self.probes, FaultBadRequest),
            PeerFault::BadPerf => probe!(self.probes, FaultBadPerf),
        }
        self.emit(Event::Fault { conn, peer, fault });
        if let Consequence::CloseConnection(code) = fault.rule().consequence {
            self.close(conn, code, fault.rule().rule, CloseReason::Fault(fault));
        }
    }
}
