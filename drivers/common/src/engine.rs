//! The engine: the pass that every driver makes again and again, all of it but the waiting.
//!
//! A driver gives the engine sockets of its own kind (a [`Reactor`] makes them, [`SocketIo`] lends them for a system
//! call) and says which of them are ready. [`Engine::turn`] then goes round in rounds of
//!
//! 1. receive a batch from each socket that has something,
//! 2. under the lock: hand inputs to the node, let due timers fire, route its events, take its commands, and take the
//!    datagrams it wants to send,
//! 3. wake tasks, send the datagrams, run the commands,
//!
//! until nothing is left to do or the turn has had its share. No system call is made under the lock, and a round is
//! kept short ([`ROUND_BYTES`] each way), so that neither acknowledgements nor tasks that use a handle wait for long.
//!
//! A socket that blocks keeps what it did not take; it goes out first when the socket is ready again. Dropping the
//! engine ends the node for all who hold a handle.

use std::{collections::VecDeque, fmt, io, net::SocketAddr, sync::Arc, task::Waker, time::Instant};

use noq_udp::UdpSockRef;
use peerwork::{
    Command, Config, Datagram, Event, Input, Node, Output, SocketId, Time, Transmit, TransmitBuf,
    io::{IoError, Query, ResolveId},
};

use crate::{
    Handle, Resolver,
    clock::{Clock, OsEntropy, platform},
    error::StartError,
    interfaces::Interfaces,
    recorder::{Record, Recorder},
    shared::{Shared, State},
    udp::{MAX_SEGMENTS, Outgoing, Slots, UdpPort, io_error},
    wall::WallClock,
};

/// Bytes handed to the node, and bytes taken from it, in one round. Two full batches.
const ROUND_BYTES: usize = 128 * 1024;

/// Rounds in one turn. A turn at full load then takes a few milliseconds, after which other tasks get theirs.
const ROUNDS: usize = 8;

/// Outputs taken in one round.
const ROUND_OUTPUTS: usize = 4096;

/// Errors of one socket in a row after which it is given up.
const SOCKET_ERRORS: u32 = 16;

/// What a driver may be told besides the node's [`Config`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// Looks up names.
    pub resolver: Resolver,
    /// Size in bytes asked for of each socket's kernel buffers, one for each direction. The kernel may grant less:
    /// on Linux, `net.core.rmem_max` and `wmem_max` are its limits.
    pub socket_buffer: usize,
    /// Writes down everything that happens to the node, for a replay.
    pub record: Option<Record>,
}

impl Default for Options {
    fn default() -> Self {
        Self { resolver: Resolver::new(), socket_buffer: 2 * 1024 * 1024, record: None }
    }
}

/// A UDP socket as a driver's runtime has it.
pub trait SocketIo {
    /// Calls `op`, unless the socket is known to have nothing to read. If it says `WouldBlock`, the runtime watches
    /// for readability from then on.
    fn try_read<R>(&self, op: impl FnOnce(UdpSockRef<'_>) -> io::Result<R>) -> io::Result<R>;

    /// Calls `op`. If it says `WouldBlock`, the runtime watches for writability from then on.
    fn try_write(&self, op: impl FnMut(UdpSockRef<'_>) -> io::Result<()>) -> io::Result<()>;
}

/// What makes such sockets.
pub trait Reactor {
    /// The runtime's socket.
    type Socket: SocketIo;

    /// Takes over a socket, which is bound and non-blocking.
    fn open(&mut self, socket: std::net::UdpSocket) -> io::Result<Self::Socket>;

    /// Lets a socket go.
    fn close(&mut self, socket: Self::Socket) {
        drop(socket);
    }
}

/// What a socket is waited for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Interest {
    /// To have something to read.
    Read,
    /// To take more.
    Write,
}

/// What comes after a turn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Turn {
    /// When the next turn is due, if nothing happens before.
    pub deadline: Option<Instant>,
    /// There is more to do now: call again, after others had their turn.
    pub again: bool,
    /// The node has ended, and so should the driver.
    pub ended: bool,
}

/// A node and all that it needs besides readiness.
pub struct Engine<S> {
    shared: Arc<Shared>,
    options: Options,
    ports: Vec<Port<S>>,
    slots: Slots,
    /// Inputs other than datagrams. All of them go to the node before the next datagram is sent.
    inputs: Vec<Input>,
    received: VecDeque<Datagram>,
    commands: Vec<Command>,
    /// Batches to send, each in memory of its own, so that the node writes them where they stay.
    transmits: Vec<(Transmit, Vec<u8>)>,
    /// Such memory, for the next ones.
    buffers: Vec<Vec<u8>>,
    wake: Vec<Waker>,
    interfaces: Interfaces,
    wall: WallClock,
    recorder: Option<Recorder>,
}

struct Port<S> {
    id: SocketId,
    io: S,
    udp: UdpPort,
    /// As far as is known.
    readable: bool,
    writable: bool,
    /// What the socket did not take.
    blocked: VecDeque<Blocked>,
    /// Whether it is to be closed when it has taken that.
    closing: bool,
    errors: u32,
}

struct Blocked {
    transmit: Transmit,
    data: Vec<u8>,
    sent: usize,
}

/// How a round went.
#[derive(Default)]
struct Round {
    ended: bool,
    /// Something was done, so something may follow.
    busy: bool,
    wake_at: Option<Time>,
}

impl<S: SocketIo> Engine<S> {
    /// Makes a node, with the operating system's randomness and clock, and this crate's
    /// [`platform`](crate::platform) if the configuration has none.
    pub fn new(mut config: Config, mut options: Options) -> Result<(Self, Handle), StartError> {
        let entropy = OsEntropy::new().map_err(StartError::Entropy)?;
        config.platform.get_or_insert_with(platform);
        let clock = Clock::start();
        let (now, wall) = (clock.now(), Clock::wall());
        let (node, recorder) = match options.record.take() {
            None => (Node::new(config, Box::new(entropy), now, wall)?, None),
            Some(record) => {
                // Before there is a file.
                config.validate()?;
                let (recorder, sink) = record.start()?;
                (Node::recorded(config, Box::new(entropy), now, wall, sink)?, Some(recorder))
            }
        };
        let shared = Arc::new(Shared::new(node, clock));
        let handle = Handle::new(Arc::clone(&shared));
        let engine = Self {
            shared,
            options,
            ports: Vec::new(),
            slots: Slots::new(),
            inputs: Vec::new(),
            received: VecDeque::new(),
            commands: Vec::new(),
            transmits: Vec::new(),
            buffers: Vec::new(),
            wake: Vec::new(),
            interfaces: Interfaces::default(),
            wall: WallClock::new(clock),
            recorder,
        };
        Ok((engine, handle))
    }

    /// Sets what handles call when there is something to do. It must lead to a [`turn`](Self::turn).
    pub fn set_waker(&mut self, waker: &Waker) {
        self.shared.set_driver(waker);
    }

    /// Asks for each socket that is waited for whether it is ready. Returns whether any is, so that a turn is due.
    ///
    /// After a turn, this must be called at least once before waiting: it is also how a runtime gets to know what is
    /// waited for.
    pub fn poll_ready(&mut self, mut ready: impl FnMut(&S, Interest) -> bool) -> bool {
        let mut any = false;
        for port in &mut self.ports {
            if !port.readable && !port.closing {
                port.readable = ready(&port.io, Interest::Read);
                any |= port.readable;
            }
            if !port.writable && !port.blocked.is_empty() {
                port.writable = ready(&port.io, Interest::Write);
                any |= port.writable;
            }
        }
        any
    }

    /// Does what there is to do, up to a limit. Never waits.
    pub fn turn<R: Reactor<Socket = S>>(&mut self, reactor: &mut R) -> Turn {
        // Before anything is looked at: whatever changes from here on leads to another turn.
        self.shared.begin();
        let now = self.shared.clock.now();
        if self.interfaces.due() <= now
            && let Some(list) = self.interfaces.poll(now)
        {
            self.inputs.push(Input::Interfaces(list));
        }
        self.inputs.extend(self.wall.poll(now).map(Input::WallClock));
        for _ in 0..ROUNDS {
            self.flush(reactor);
            self.receive();
            let round = self.step();
            self.wake.drain(..).for_each(Waker::wake);
            // Sending comes first: a socket is closed after what was meant for it.
            self.send();
            self.execute(reactor);
            if round.ended {
                self.finish(reactor);
                return Turn { deadline: None, again: false, ended: true };
            }
            let waiting = !self.inputs.is_empty() || !self.received.is_empty();
            if !round.busy && !waiting && !self.ports.iter().any(|port| port.readable) {
                return Turn { deadline: self.deadline(round.wake_at), again: false, ended: false };
            }
        }
        Turn { deadline: None, again: true, ended: false }
    }

    fn deadline(&self, node: Option<Time>) -> Option<Instant> {
        let list = self.ports.iter().any(|port| port.udp.is_wildcard()).then(|| self.interfaces.due());
        let next = node.into_iter().chain(list).min()?;
        self.shared.clock.instant(next)
    }

    /// One batch from each socket, unless the node has not had the last ones yet.
    fn receive(&mut self) {
        if !self.received.is_empty() {
            return;
        }
        for port in self.ports.iter_mut().filter(|port| port.readable && !port.closing) {
            let (received, socket) = (&mut self.received, port.id);
            let result = port.io.try_read(|io| {
                port.udp.receive(io, &mut self.slots, |batch| {
                    received.push_back(Datagram {
                        socket,
                        from: batch.from,
                        to_ip: batch.to_ip,
                        ecn: batch.ecn,
                        segment: batch.segment,
                        data: batch.data,
                    });
                })
            });
            match result {
                Ok(_) => port.errors = 0,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => port.readable = false,
                Err(error) => {
                    // Errors about a datagram sent before come by ICMP and can be forged. Others that come back
                    // without end are about the socket.
                    port.errors += u32::from(!is_about_the_path(&error));
                    tracing::debug!(%error, socket = port.id.index(), "receiving failed");
                    if port.errors >= SOCKET_ERRORS {
                        port.readable = false;
                        port.closing = true;
                        port.blocked.clear();
                        self.inputs.push(Input::SocketFailed { socket: port.id, error: io_error(&error) });
                    }
                }
            }
        }
    }

    /// What happens under the lock.
    fn step(&mut self) -> Round {
        let Some(mut guard) = self.shared.lock_running() else {
            return Round { ended: true, ..Round::default() };
        };
        let state: &mut State = &mut guard;
        let now = self.shared.clock.now();
        let mut round = Round::default();
        for input in state.inbox.drain(..).chain(self.inputs.drain(..)) {
            state.node.handle(now, input);
            round.busy = true;
        }
        let mut bytes = 0;
        while bytes < ROUND_BYTES
            && let Some(datagram) = self.received.pop_front()
        {
            bytes += datagram.data.len();
            state.node.handle(now, Input::Datagram(datagram));
            round.busy = true;
        }
        if state.node.poll_timeout().is_some_and(|wake| wake.at <= now) {
            state.node.handle(now, Input::Wake);
            round.busy = true;
        }
        for _ in 0..ROUND_OUTPUTS {
            match state.node.poll_output() {
                Some(Output::Command(command)) => self.commands.push(command),
                Some(Output::Event(event)) => {
                    round.ended |= event == Event::ShutDown;
                    state.route(now, event, &mut self.wake);
                }
                None => break,
            }
            round.busy = true;
        }
        let mut bytes = 0;
        while bytes < ROUND_BYTES {
            let mut data = self.buffers.pop().unwrap_or_default();
            let Some(transmit) = state.node.poll_transmit(now, &mut TransmitBuf::new(&mut data, MAX_SEGMENTS)) else {
                self.buffers.push(data);
                break;
            };
            bytes += data.len();
            self.transmits.push((transmit, data));
            round.busy = true;
        }
        round.wake_at = state.node.poll_timeout().map(|wake| wake.at);
        // Calls to the node while routing and sending can have queued something.
        round.busy |= round.wake_at.is_some_and(|at| at <= now);
        round
    }

    fn execute<R: Reactor<Socket = S>>(&mut self, reactor: &mut R) {
        let mut commands = std::mem::take(&mut self.commands);
        for command in commands.drain(..) {
            match command {
                Command::UdpBind { socket, address } => self.bind(reactor, socket, address),
                Command::UdpClose { socket } => self.close(reactor, socket),
                Command::Resolve { id, query } => self.resolve(id, query),
                // A command of a newer core is one that this driver cannot run; the node's own timeout deals with it.
                other => tracing::warn!(command = ?other, "this driver does not know the command"),
            }
        }
        self.commands = commands;
    }

    fn bind<R: Reactor<Socket = S>>(&mut self, reactor: &mut R, id: SocketId, address: SocketAddr) {
        let bound = UdpPort::bind(address, self.options.socket_buffer)
            .and_then(|(udp, socket)| reactor.open(socket).map(|io| (udp, io)));
        let result = match bound {
            Ok((udp, io)) => {
                let description = udp.describe();
                if udp.is_wildcard() {
                    // The list may be old, if nobody needed it until now.
                    self.interfaces.expire();
                    self.inputs.extend(self.interfaces.poll(self.shared.clock.now()).map(Input::Interfaces));
                }
                self.ports.push(Port {
                    id,
                    io,
                    udp,
                    readable: true,
                    writable: true,
                    blocked: VecDeque::new(),
                    closing: false,
                    errors: 0,
                });
                Ok(description)
            }
            Err(error) => Err(io_error(&error)),
        };
        self.inputs.push(Input::Bound { socket: id, result });
    }

    fn close<R: Reactor<Socket = S>>(&mut self, reactor: &mut R, id: SocketId) {
        if let Some(index) = self.ports.iter().position(|port| port.id == id) {
            if self.ports[index].blocked.is_empty() {
                reactor.close(self.ports.swap_remove(index).io);
            } else {
                self.ports[index].closing = true;
            }
        }
    }

    fn resolve(&mut self, id: ResolveId, query: Query) {
        let shared = Arc::downgrade(&self.shared);
        self.options.resolver.resolve(query, move |result| {
            if let Some(shared) = shared.upgrade() {
                shared.deliver(Input::Resolved { id, result });
            }
        });
    }

    /// Sends what the node has given.
    fn send(&mut self) {
        for (transmit, mut data) in self.transmits.drain(..) {
            let port = self.ports.iter_mut().find(|port| port.id == transmit.socket);
            if let Some(port) = port {
                let mut sent = 0;
                let outcome =
                    if port.blocked.is_empty() { port.send(&transmit, &data, &mut sent) } else { Sent::Later };
                match outcome {
                    Sent::Done => {}
                    Sent::Failed(error) => {
                        self.inputs.push(Input::SendFailed { socket: transmit.socket, to: transmit.to, error });
                    }
                    Sent::Blocked | Sent::Later => {
                        if matches!(outcome, Sent::Blocked) {
                            port.writable = false;
                            self.inputs.push(Input::SocketBlocked { socket: port.id });
                        }
                        port.blocked.push_back(Blocked { transmit, data, sent });
                        continue;
                    }
                }
            }
            data.clear();
            self.buffers.push(data);
        }
    }

    /// Sends what was blocked, on sockets that are ready again.
    fn flush<R: Reactor<Socket = S>>(&mut self, reactor: &mut R) {
        for port in self.ports.iter_mut().filter(|port| port.writable && !port.blocked.is_empty()) {
            while let Some(mut blocked) = port.blocked.pop_front() {
                match port.send(&blocked.transmit, &blocked.data, &mut blocked.sent) {
                    Sent::Done => {}
                    Sent::Failed(error) => {
                        let Transmit { socket, to, .. } = blocked.transmit;
                        self.inputs.push(Input::SendFailed { socket, to, error });
                    }
                    Sent::Blocked | Sent::Later => {
                        port.writable = false;
                        port.blocked.push_front(blocked);
                        break;
                    }
                }
            }
            if port.blocked.is_empty() {
                self.inputs.push(Input::SocketReady { socket: port.id });
            }
        }
        while let Some(index) = self.ports.iter().position(|port| port.closing && port.blocked.is_empty()) {
            reactor.close(self.ports.swap_remove(index).io);
        }
    }

    /// The end: what the last round gave has been sent; what is blocked gets one more chance.
    fn finish<R: Reactor<Socket = S>>(&mut self, reactor: &mut R) {
        self.ports.iter_mut().for_each(|port| port.writable = true);
        self.flush(reactor);
        for port in self.ports.drain(..) {
            reactor.close(port.io);
        }
        self.end();
    }
}

impl<S> Engine<S> {
    /// Ends the node. If it was recorded, the log is complete before anybody gets to know.
    fn end(&mut self) {
        if let Some(recorder) = self.recorder.take() {
            if let Some(mut state) = self.shared.lock_running() {
                state.node.stop_recording();
            }
            recorder.finish();
        }
        self.shared.end();
    }
}

fn is_about_the_path(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
    )
}

enum Sent {
    Done,
    Blocked,
    /// Something else has to go first.
    Later,
    Failed(IoError),
}

impl<S: SocketIo> Port<S> {
    fn send(&self, transmit: &Transmit, data: &[u8], sent: &mut usize) -> Sent {
        let batch =
            Outgoing { to: transmit.to, from_ip: transmit.from_ip, ecn: transmit.ecn, segment: transmit.segment, data };
        match self.udp.send(&batch, sent, |op| self.io.try_write(op)) {
            Ok(()) => Sent::Done,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Sent::Blocked,
            Err(error) => {
                tracing::debug!(%error, to = %transmit.to, "sending failed");
                Sent::Failed(io_error(&error))
            }
        }
    }
}

impl<S> Drop for Engine<S> {
    fn drop(&mut self) {
        self.end();
    }
}

impl<S> fmt::Debug for Engine<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("sockets", &self.ports.len()).finish_non_exhaustive()
    }
}
