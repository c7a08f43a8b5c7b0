//! The peer itself: [`Node`], its calls, and the hub behind them.
//!
//! The methods of [`Node`] come in four kinds:
//!
//! | kind | methods | what they may change |
//! |---|---|---|
//! | **polls** | [`poll_output`](Node::poll_output), [`poll_transmit`](Node::poll_transmit), [`poll_timeout`](Node::poll_timeout) | take out what is ready |
//! | **handlers** | [`handle`](Node::handle) | everything; never fails |
//! | **mutators** | [`listen`](Node::listen), [`dial`](Node::dial), [`disconnect`](Node::disconnect), [`open_stream`](Node::open_stream), [`stream`](Node::stream), [`requests`](Node::requests), ... | what they name; on misuse, nothing |
//! | **getters** | [`peer_id`](Node::peer_id), [`connections`](Node::connections), [`stats`](Node::stats), ... | nothing |
//!
//! Any number of handlers and mutators may come between two polls, in any order.

#[macro_use]
mod record;

mod app;
mod conns;
mod cx;
mod dial;
#[cfg(feature = "fuzzing")]
mod fuzzing;
mod harness;
mod hub;
mod listen;
mod stats;
mod timer;

use core::time::Duration;
use std::{collections::VecDeque, sync::Arc};

use multiaddr::Multiaddr;

pub(crate) use self::cx::quic_multiaddr;
pub use self::{
    app::{OpenError, RegisterError, RequestsMut, StreamMut, UnknownStream},
    cx::{Cx, Local, Machine, MachineTimers, NetSink, Signal, Token},
    dial::{Dial, DialError, UnknownDial},
    harness::{Effects, Harness, MachineSeed},
    listen::{ListenError, UnknownListener},
    stats::{Census, Stats},
};
use self::{
    dial::Dials,
    hub::{Hub, MachineRngs, Shutdown, Work},
    listen::Sockets,
    timer::Timer,
};
use crate::{
    config::{Config, ConfigError, Platform},
    entropy::{Entropy, Root},
    event::{CloseReason, ConnId, DialId, Direction, Event, ListenId, PerfId},
    fault::code,
    hash::{Map, NodeHasher},
    identity::{Keypair, PeerId},
    io::{Input, Output, Transmit, TransmitBuf, Wake, WakeReason},
    limits,
    probe::{Probes, probe},
    protocol::{
        MachineId,
        identify::{self, Identify, PeerInfo},
        perf::{self, Perf},
        ping::{self, Ping},
        request::Request,
    },
    protocol_id::ProtocolId,
    time::{Time, UnixTime},
    timers::Timers,
    transport::{
        crypto::QuicCrypto,
        net::{Framing, NetEvent},
        quic::Quic,
        stream::{Delivery, Owner, Registration, Streams},
    },
};

/// A whole peer.
pub struct Node {
    hub: Hub,
    identify: Identify,
    ping: Ping,
    perf: Perf,
    request: Request,
    /// What writes down every call, if somebody wants that.
    #[cfg(feature = "record")]
    recorder: Option<Box<crate::record::Recorder>>,
}

/// There is no such connection, or it is closed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("no such connection, or it is closed")]
pub struct UnknownConnection;

/// One connection, as it is now.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub struct ConnInfo {
    /// The connection.
    pub conn: ConnId,
    /// The peer.
    pub peer: PeerId,
    /// Who dialled.
    pub direction: Direction,
    /// The peer's address.
    pub address: Multiaddr,
    /// Smoothed round-trip time as QUIC sees it.
    pub rtt: Duration,
    /// Streams in use.
    pub streams: usize,
    /// Pings that failed in a row.
    pub failed_pings: u32,
    /// What the peer told about itself on this connection.
    pub identified: Option<Arc<PeerInfo>>,
}

impl Node {
    /// A node that does nothing yet.
    ///
    /// `entropy` is asked once. `now` may be any time; later calls count from it. `wall` is the wall clock at `now`.
    pub fn new(config: Config, mut entropy: Box<dyn Entropy>, now: Time, wall: UnixTime) -> Result<Self, ConfigError> {
        config.validate()?;
        let platform = config.platform.clone().ok_or(ConfigError::NoPlatform)?;
        let root = Root::draw(&mut *entropy);
        Self::with_root(config, &platform, &root, now, wall)
    }

    /// What is the same for a node that is new and one that is made again from a log.
    fn with_root(
        config: Config,
        platform: &Platform,
        root: &Root,
        now: Time,
        wall: UnixTime,
    ) -> Result<Self, ConfigError> {
        let identity = config.identity.clone().unwrap_or_else(|| Keypair::from_seed(root.stream("identity").array()));
        let crypto = QuicCrypto::new(platform, &config.quic, &identity, root)?;
        let hasher = NodeHasher::new(&mut root.stream("hash maps"));
        let local = Local {
            peer_id: identity.peer_id(),
            keypair: identity,
            agent_version: config.agent_version.clone(),
            protocol_version: config.protocol_version.clone(),
            listen_addrs: Vec::new(),
            protocols: Vec::new(),
        };
        let seed = MachineSeed(hasher);
        let mut node = Self {
            identify: Identify::new(config.identify.clone(), seed),
            ping: Ping::new(config.ping.clone(), seed),
            perf: Perf::new(seed),
            request: Request::new(seed),
            #[cfg(feature = "record")]
            recorder: None,
            hub: Hub {
                now,
                wall,
                wall_set: now,
                local,
                rngs: MachineRngs::new(root),
                timers: Timers::default(),
                machine_timers: Map::with_hasher(hasher),
                quic: Quic::new(crypto, &config.quic, platform.origin, hasher),
                streams: Streams::new(hasher),
                sockets: Sockets::default(),
                dials: Dials::new(hasher),
                peers: crate::peers::Peers::new(hasher),
                pending_in: 0,
                established_in: 0,
                established_out: 0,
                superseded: Map::with_hasher(hasher),
                leaving: Map::with_hasher(hasher),
                handshakes: Map::with_hasher(hasher),
                shutdown: Shutdown::No,
                work: VecDeque::new(),
                actions: VecDeque::new(),
                signals: VecDeque::new(),
                outputs: VecDeque::new(),
                backlog: false,
                stats: Stats::default(),
                probes: Probes::default(),
                bugs: platform.bugs,
                config: Arc::new(config),
            },
        };
        node.hub.quic.set_wall(wall);
        let serve = |machine, framing| Registration { owner: Owner::Machine(machine), framing };
        node.hub.add_protocol(identify::IDENTIFY, serve(MachineId::Identify, identify::FRAMING));
        node.hub.add_protocol(identify::PUSH, serve(MachineId::Identify, identify::FRAMING));
        node.hub.add_protocol(ping::PING, serve(MachineId::Ping, Framing::Raw));
        if node.hub.config.serve_perf {
            node.hub.add_protocol(perf::PERF, serve(MachineId::Perf, Framing::Raw));
        }
        node.hub.signals.clear();
        Ok(node)
    }

    // --- Polls ---

    /// The next command for the driver or event for the application.
    pub fn poll_output(&mut self) -> Option<Output> {
        let output = self.hub.outputs.pop_front();
        #[cfg(feature = "record")]
        self.log_output(output.as_ref());
        output
    }

    /// The next batch of datagrams, appended to `buf`. `None` when there is nothing to send now.
    ///
    /// A driver that cannot send keeps the batch, or drops it (which QUIC repairs as loss), and says
    /// [`Input::SocketBlocked`].
    pub fn poll_transmit(&mut self, now: Time, buf: &mut TransmitBuf<'_>) -> Option<Transmit> {
        #[cfg(feature = "record")]
        self.log_poll_transmit(now, buf);
        self.hub.advance(now);
        self.wake_up();
        let transmit = self.hub.next_transmit(buf);
        // The last event is not to overtake others that are still under way.
        if transmit.is_none() && !self.hub.quic.has_parked() && !self.hub.backlog {
            self.finish_shutdown();
        }
        #[cfg(feature = "record")]
        self.log_transmit(transmit.as_ref(), buf);
        transmit
    }

    /// When the node wants to be called again, at the latest. `None` if nothing will happen without an input.
    ///
    /// If this is not in the past, everything was polled, and no socket has become writable, the node does nothing
    /// before then.
    pub fn poll_timeout(&self) -> Option<Wake> {
        let hub = &self.hub;
        if hub.backlog || !hub.outputs.is_empty() || hub.quic.wants_transmit() {
            return Some(Wake { at: hub.now, why: WakeReason::Backlog });
        }
        let (at, timer) = hub.timers.peek()?;
        Some(Wake { at: at.max(hub.now), why: timer.reason() })
    }

    // --- Handlers ---

    /// Takes in something that happened outside. Whatever follows is there to be polled when this returns.
    pub fn handle(&mut self, now: Time, input: Input) {
        log!(self, now, Handle(Held::Ref(&input)));
        self.hub.stats.inputs += 1;
        self.hub.advance(now);
        self.wake_up();
        match input {
            Input::Wake => {}
            Input::Datagram(datagram) => self.hub.on_datagram(datagram),
            Input::SocketBlocked { socket } => self.hub.on_socket_blocked(socket),
            Input::SocketReady { socket } => self.hub.on_socket_ready(socket),
            Input::SendFailed { to, error, .. } => self.hub.on_send_failed(to, &error),
            Input::Bound { socket, result } => self.hub.on_bound(socket, result),
            Input::SocketFailed { socket, error } => self.hub.on_socket_failed(socket, &error),
            Input::Resolved { id, result } => self.hub.on_resolved(id, result),
            Input::Interfaces(addresses) => self.hub.on_interfaces(addresses),
            Input::WallClock(wall) => {
                self.hub.wall = wall;
                self.hub.wall_set = self.hub.now;
                self.hub.quic.set_wall(wall);
            }
        }
        self.run();
    }

    // --- Mutators ---

    /// Listens on an address such as `/ip4/0.0.0.0/udp/4001/quic-v1`; port 0 means any. Ends in [`Event::Listening`] or
    /// [`Event::ListenFailed`].
    pub fn listen(&mut self, now: Time, address: Multiaddr) -> Result<ListenId, ListenError> {
        log!(self, now, Listen(Held::Ref(&address)));
        self.hub.advance(now);
        let listener = self.hub.listen(&address)?;
        self.run();
        told!(self, Ok(listener))
    }

    /// Takes in no more newcomers on a listener. Connections on its socket stay; without any, the socket is closed.
    pub fn unlisten(&mut self, now: Time, listener: ListenId) -> Result<(), UnknownListener> {
        log!(self, now, Unlisten(listener));
        self.hub.advance(now);
        self.hub.unlisten(listener)?;
        self.run();
        Ok(())
    }

    /// Reaches for a peer. Ends in [`Event::Dialed`] or [`Event::DialFailed`]; at once with the existing connection if
    /// there is one to the peer.
    pub fn dial(&mut self, now: Time, dial: Dial) -> Result<DialId, DialError> {
        log!(self, now, Dial(Held::Ref(&dial)));
        self.hub.advance(now);
        let id = self.hub.dial(dial)?;
        self.run();
        told!(self, Ok(id))
    }

    /// Gives up a dial. It ends in [`Event::DialFailed`] with [`DialFailure::Cancelled`](crate::DialFailure::Cancelled).
    pub fn cancel_dial(&mut self, now: Time, dial: DialId) -> Result<(), UnknownDial> {
        log!(self, now, CancelDial(dial));
        self.hub.advance(now);
        self.hub.cancel_dial(dial)?;
        self.run();
        Ok(())
    }

    /// Remembers an address of a peer, for dialling it by its id.
    pub fn add_address(&mut self, peer: PeerId, address: Multiaddr) {
        log!(self, self.hub.now, AddAddress(peer, Held::Ref(&address)));
        if peer != self.hub.local.peer_id {
            let forgot = self.hub.peers.learn(peer, address);
            self.hub.note_forgotten(forgot);
        }
    }

    /// Closes a connection. The peer gets to know the code and the words, of which at most
    /// [`CLOSE_REASON_LEN`](limits::CLOSE_REASON_LEN) bytes. Data not yet delivered is lost.
    pub fn disconnect(&mut self, now: Time, conn: ConnId, code: u32, reason: &str) -> Result<(), UnknownConnection> {
        log!(self, now, Disconnect { conn, code, reason: reason.into() });
        self.hub.advance(now);
        if self.hub.quic.conns.get(&conn).and_then(|conn| conn.peer()).is_none() {
            return Err(UnknownConnection);
        }
        let why = CloseReason::Local { code: code.into(), reason: reason.to_owned() };
        self.hub.close(conn, code, reason, why);
        self.run();
        Ok(())
    }

    /// Pings the peer at the other end of a connection. Ends in [`Event::Ping`]; if a ping is under way, in that one's.
    pub fn ping(&mut self, now: Time, conn: ConnId) -> Result<(), UnknownConnection> {
        log!(self, now, Ping(conn));
        self.hub.advance(now);
        let known = self.ping.ping(&mut self.hub.cx(MachineId::Ping), conn);
        self.hub.carry_out(MachineId::Ping);
        self.run();
        told!(self, if known { Ok(()) } else { Err(UnknownConnection) })
    }

    /// Measures throughput with a peer that serves `/perf/1.0.0`. Ends in [`Event::Perf`].
    pub fn perf(&mut self, now: Time, conn: ConnId, up: u64, down: u64) -> Result<PerfId, UnknownConnection> {
        log!(self, now, Perf { conn, up, down });
        self.hub.advance(now);
        if self.hub.quic.conns.get(&conn).and_then(|conn| conn.peer()).is_none() {
            return Err(UnknownConnection);
        }
        let id = self.perf.start(&mut self.hub.cx(MachineId::Perf), conn, up, down);
        self.hub.carry_out(MachineId::Perf);
        self.run();
        told!(self, Ok(id))
    }

    /// Closes all connections, then all sockets, and ends in [`Event::ShutDown`]. From now on nothing is dialled or let in.
    pub fn shutdown(&mut self, now: Time) {
        log!(self, now, Shutdown);
        self.hub.advance(now);
        if self.hub.shutdown != Shutdown::No {
            return;
        }
        // Should a socket be blocked for good, the peers have to find out by themselves.
        let timer = self.hub.timers.set(self.hub.now + limits::SHUTDOWN_TIMEOUT, Timer::Shutdown);
        self.hub.shutdown = Shutdown::Closing(Some(timer));
        self.hub.cancel_all_dials();
        let mut conns: Vec<ConnId> = self.hub.quic.conns.keys().copied().collect();
        conns.sort_unstable();
        for conn in conns {
            self.hub.close(conn, code::SHUTDOWN, "shutting down", CloseReason::ShutDown);
            self.hub.abandon_handshake(conn, code::SHUTDOWN);
        }
        self.run();
    }

    // --- Getters ---

    /// This node's id.
    pub fn peer_id(&self) -> PeerId {
        self.hub.local.peer_id
    }

    /// What the node says about itself.
    pub fn local(&self) -> &Local {
        &self.hub.local
    }

    /// Addresses on which others can reach the node, without `/p2p`.
    pub fn listen_addrs(&self) -> &[Multiaddr] {
        &self.hub.local.listen_addrs
    }

    /// The established connections, oldest first.
    pub fn connections(&self) -> impl Iterator<Item = ConnInfo> + '_ {
        let mut ids: Vec<ConnId> = self.hub.quic.conns.keys().copied().collect();
        ids.sort_unstable();
        ids.into_iter().filter_map(|id| self.connection(id))
    }

    /// One established connection.
    pub fn connection(&self, conn: ConnId) -> Option<ConnInfo> {
        let entry = self.hub.quic.conns.get(&conn)?;
        Some(ConnInfo {
            conn,
            peer: entry.peer()?,
            direction: entry.direction,
            address: quic_multiaddr(entry.remote),
            rtt: entry.rtt(),
            streams: entry.streams.len() + entry.waiting.len(),
            failed_pings: self.ping.failures(conn),
            identified: self.identify.info(conn).cloned(),
        })
    }

    /// The connection to use for a peer, if there is one.
    pub fn connection_to(&self, peer: PeerId) -> Option<ConnId> {
        self.hub.best_conn(peer)
    }

    /// What a peer told about itself when it was last connected.
    pub fn peer_info(&self, peer: PeerId) -> Option<&Arc<PeerInfo>> {
        self.hub.peers.info(peer)
    }

    /// Addresses known of a peer, best first.
    pub fn peer_addresses(&self, peer: PeerId) -> &[Multiaddr] {
        self.hub.peers.addresses(peer)
    }

    /// Counters since the node was made.
    pub fn stats(&self) -> Stats {
        let quic = &self.hub.quic;
        Stats { visits: self.hub.stats.visits + quic.visits, answers_shed: quic.stateless_dropped, ..self.hub.stats }
    }

    /// How often the node came by each [`Probe`](crate::Probe).
    pub fn probes(&self) -> Probes {
        let mut probes = self.hub.probes.clone();
        probes.merge(&self.hub.quic.probes);
        probes
    }

    /// How many of everything the node holds.
    pub fn census(&self) -> Census {
        let hub = &self.hub;
        Census {
            conns: hub.quic.conns.len(),
            established: hub.established_in + hub.established_out,
            streams: hub.streams.len(),
            timers: hub.timers.len(),
            dials: hub.dials.len(),
            lookups: hub.dials.lookups(),
            outputs: hub.outputs.len(),
            machines: self.identify.census() + self.ping.census() + self.perf.census() + self.request.census(),
        }
    }

    /// Peers in the address book.
    pub fn known_peers(&self) -> usize {
        self.hub.peers.len()
    }

    // --- The hub's loop ---

    /// After a [sleep](limits::ASLEEP), does first what should have been done during it.
    fn wake_up(&mut self) {
        if self.hub.timers.peek().is_some_and(|(at, _)| at + limits::ASLEEP <= self.hub.now) {
            probe!(self.hub.probes, TimerOverslept);
            self.run();
        }
    }

    /// Fires what is due and passes on what is under way, until nothing is left or the budget is spent.
    fn run(&mut self) {
        let mut budget = limits::CALL_BUDGET;
        self.hub.collect();
        loop {
            if let Some(work) = self.hub.work.pop_front() {
                self.pass_on(work);
            } else if let Some(signal) = self.hub.signals.pop_front() {
                self.signal(&signal);
            } else if let Some((_, timer)) = self.hub.timers.pop_due(self.hub.now) {
                self.fire(timer);
            } else {
                self.hub.backlog = false;
                return;
            }
            self.hub.collect();
            budget -= 1;
            if budget == 0 {
                self.hub.backlog = true;
                probe!(self.hub.probes, TimerBudgetSpent);
                return;
            }
        }
    }

    fn pass_on(&mut self, work: Work) {
        match work {
            Work::Deliver(Delivery::App(event)) => self.hub.outputs.push_back(Output::Event(event)),
            Work::Deliver(Delivery::Machine(machine, event)) => self.on_net(machine, event),
            Work::Deliver(Delivery::Fault(conn, fault)) => self.hub.fault(conn, fault),
            Work::Broadcast(event) => {
                for machine in [MachineId::Identify, MachineId::Ping, MachineId::Perf, MachineId::Request] {
                    self.on_net(machine, event.clone());
                }
            }
        }
    }

    fn on_net(&mut self, machine: MachineId, event: NetEvent) {
        self.hub.stats.visits += 1;
        let cx = &mut self.hub.cx(machine);
        match machine {
            MachineId::Identify => self.identify.on_net(cx, event),
            MachineId::Ping => self.ping.on_net(cx, event),
            MachineId::Perf => self.perf.on_net(cx, event),
            MachineId::Request => self.request.on_net(cx, event),
        }
        self.hub.carry_out(machine);
    }

    fn signal(&mut self, signal: &Signal) {
        if let Signal::Identified { info, .. } = signal {
            self.hub.peers.identified(info);
        }
        for machine in [MachineId::Identify, MachineId::Ping, MachineId::Perf, MachineId::Request] {
            self.hub.stats.visits += 1;
            let cx = &mut self.hub.cx(machine);
            match machine {
                MachineId::Identify => self.identify.on_signal(cx, signal),
                MachineId::Ping => self.ping.on_signal(cx, signal),
                MachineId::Perf => self.perf.on_signal(cx, signal),
                MachineId::Request => self.request.on_signal(cx, signal),
            }
            self.hub.carry_out(machine);
        }
    }

    fn fire(&mut self, timer: Timer) {
        match timer {
            Timer::Conn(conn) => self.hub.on_conn_timer(conn),
            Timer::Handshake(conn) => self.hub.on_handshake_timeout(conn),
            Timer::Superseded(conn) => self.hub.on_superseded(conn),
            Timer::Dial(dial) => self.hub.on_dial_timeout(dial),
            Timer::Stagger(dial) => self.hub.on_stagger(dial),
            Timer::Stream(stream) => {
                let conn = self.hub.streams.get(stream).map(|stream| stream.conn);
                self.hub.on_stream(stream, |streams, cx| streams.on_timeout(cx, stream));
                if let Some(conn) = conn {
                    self.hub.leave_if_idle(conn);
                }
            }
            Timer::Shutdown => {
                probe!(self.hub.probes, ShutdownForced);
                self.hub.shutdown = Shutdown::Closing(None);
                self.finish_shutdown();
            }
            Timer::Machine(machine, token) => {
                self.hub.machine_timers.remove(&(machine, token));
                self.hub.stats.visits += 1;
                let cx = &mut self.hub.cx(machine);
                match machine {
                    MachineId::Identify => self.identify.on_timer(cx, token),
                    MachineId::Ping => self.ping.on_timer(cx, token),
                    MachineId::Perf => self.perf.on_timer(cx, token),
                    MachineId::Request => self.request.on_timer(cx, token),
                }
                self.hub.carry_out(machine);
            }
        }
    }

    /// The last packets are out, or will never be.
    fn finish_shutdown(&mut self) {
        match core::mem::replace(&mut self.hub.shutdown, Shutdown::Over) {
            Shutdown::Closing(Some(timer)) => {
                self.hub.timers.cancel(timer);
            }
            Shutdown::Closing(None) => {}
            state @ (Shutdown::No | Shutdown::Over) => {
                self.hub.shutdown = state;
                return;
            }
        }
        self.hub.close_sockets();
        self.hub.outputs.push_back(Output::Event(Event::ShutDown));
    }
}

impl Hub {
    pub(super) fn add_protocol(&mut self, protocol: ProtocolId, registration: Registration) {
        self.streams.registry.insert(protocol.clone(), registration);
        if let Err(at) = self.local.protocols.binary_search(&protocol) {
            self.local.protocols.insert(at, protocol);
            self.local_changed();
        }
    }

    pub(super) fn remove_protocol(&mut self, protocol: &ProtocolId) {
        self.streams.registry.remove(protocol);
        if let Ok(at) = self.local.protocols.binary_search(protocol) {
            self.local.protocols.remove(at);
            self.local_changed();
        }
    }
}
