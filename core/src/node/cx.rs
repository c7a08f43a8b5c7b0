//! What a machine gets to work with: its [`Cx`].

use core::net::SocketAddr;
use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;
use multiaddr::Multiaddr;

use super::timer::Timer;
use crate::{
    bug::Bugs,
    entropy::Rng,
    event::{ConnId, Event, StreamId},
    fault::PeerFault,
    hash::Map,
    identity::{Keypair, PeerId},
    io::Output,
    probe::Probes,
    protocol::{MachineId, identify::PeerInfo},
    protocol_id::ProtocolId,
    time::{Time, UnixTime},
    timers::{TimerId, Timers},
    transport::net::{Action, Framing, NetEvent},
};

/// One protocol as a state machine.
///
/// A machine has no `poll`: it is called when something happens and pushes what follows into the sinks of its [`Cx`].
/// It holds no other machine and no connection, only ids.
pub trait Machine {
    /// Which machine this is.
    const ID: MachineId;

    /// Something happened on the network.
    fn on_net(&mut self, cx: &mut Cx<'_>, event: NetEvent);

    /// A timer that this machine set has come due. It is no longer set.
    fn on_timer(&mut self, cx: &mut Cx<'_>, token: Token);

    /// A sibling, or the hub, found something out.
    fn on_signal(&mut self, cx: &mut Cx<'_>, signal: &Signal);
}

/// A machine's name for one of its timers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Token(pub u64);

/// What machines tell each other. Delivered to all of them, in order, before the call that caused it returns.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub enum Signal {
    /// A peer has told about itself.
    Identified {
        /// The connection.
        conn: ConnId,
        /// What it told.
        info: Arc<PeerInfo>,
    },
    /// The node's own addresses or protocols have changed.
    LocalChanged,
}

/// What a node says about itself.
#[derive(Clone, Debug)]
pub struct Local {
    /// The node's key pair.
    pub keypair: Keypair,
    /// The node's id.
    pub peer_id: PeerId,
    /// See [`Config::agent_version`](crate::Config::agent_version).
    pub agent_version: String,
    /// See [`Config::protocol_version`](crate::Config::protocol_version).
    pub protocol_version: String,
    /// Addresses on which others can reach the node, without `/p2p`.
    pub listen_addrs: Vec<Multiaddr>,
    /// Protocols that the node answers.
    pub protocols: Vec<ProtocolId>,
}

/// The context of one call to a machine.
pub struct Cx<'a> {
    /// Now.
    pub now: Time,
    /// The wall clock, now.
    pub wall: UnixTime,
    /// The machine's own stream of randomness.
    pub rng: &'a mut Rng,
    /// The machine's own timers.
    pub timers: MachineTimers<'a>,
    /// Streams: what the machine wants done.
    pub net: NetSink<'a>,
    /// The node itself.
    pub local: &'a Local,
    /// Marks of rare states, for `probe!`.
    pub(crate) probes: &'a mut Probes,
    pub(crate) bugs: Bugs,
    pub(crate) outputs: &'a mut VecDeque<Output>,
    pub(crate) signals: &'a mut VecDeque<Signal>,
}

impl Cx<'_> {
    /// Tells the application.
    pub fn emit(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }

    /// Tells the sibling machines.
    pub fn signal(&mut self, signal: Signal) {
        self.signals.push_back(signal);
    }

    /// The peer of a connection no longer answers: the connection is closed.
    pub fn give_up(&mut self, conn: ConnId) {
        self.net.actions.push_back(Action::GiveUp { conn });
    }

    /// Reports a rule that a peer broke; the table of faults decides what follows.
    pub fn fault(&mut self, conn: ConnId, stream: Option<StreamId>, fault: PeerFault) {
        self.net.actions.push_back(Action::Fault { conn, stream, fault });
    }
}

/// The timers of one machine, named by [`Token`]s.
pub struct MachineTimers<'a> {
    pub(crate) machine: MachineId,
    pub(crate) timers: &'a mut Timers<Timer>,
    pub(crate) ids: &'a mut Map<(MachineId, Token), TimerId>,
}

impl MachineTimers<'_> {
    /// Sets a timer, or moves it if it is set.
    pub fn set(&mut self, token: Token, at: Time) {
        let key = (self.machine, token);
        match self.ids.get(&key) {
            Some(id) => self.timers.reset(*id, at),
            None => {
                self.ids.insert(key, self.timers.set(at, Timer::Machine(self.machine, token)));
            }
        }
    }

    /// Unsets a timer. Harmless if it is not set.
    pub fn cancel(&mut self, token: Token) {
        if let Some(id) = self.ids.remove(&(self.machine, token)) {
            self.timers.cancel(id);
        }
    }

    /// Whether a timer is set.
    pub fn is_set(&self, token: Token) -> bool {
        self.ids.contains_key(&(self.machine, token))
    }
}

/// Where a machine pushes what it wants done with streams.
pub struct NetSink<'a> {
    pub(crate) actions: &'a mut VecDeque<Action>,
    pub(crate) next_stream: &'a mut u64,
}

impl NetSink<'_> {
    /// Opens a stream, proposing `protocols` in order. Ends in [`NetEvent::Opened`] or [`NetEvent::Failed`].
    pub fn open(&mut self, conn: ConnId, protocols: &[ProtocolId], framing: Framing) -> StreamId {
        *self.next_stream += 1;
        let stream = StreamId(*self.next_stream);
        self.actions.push_back(Action::Open { stream, conn, protocols: protocols.to_vec(), framing });
        stream
    }

    /// Sends bytes as they are.
    pub fn write(&mut self, stream: StreamId, data: Bytes) {
        self.actions.push_back(Action::Write { stream, data });
    }

    /// Asks for [`NetEvent::Writable`] when all that was written has been taken by QUIC.
    pub fn want_writable(&mut self, stream: StreamId) {
        self.actions.push_back(Action::WantWritable { stream });
    }

    /// No more writes.
    pub fn finish(&mut self, stream: StreamId) {
        self.actions.push_back(Action::Finish { stream });
    }

    /// Finishes, reads no more, forgets. Nothing more comes for the stream; what was written still arrives.
    pub fn close(&mut self, stream: StreamId) {
        self.actions.push_back(Action::Close { stream });
    }

    /// Aborts both directions and forgets. Nothing more comes for the stream.
    pub fn reset(&mut self, stream: StreamId, code: u32) {
        self.actions.push_back(Action::Reset { stream, code });
    }
}

/// The IP address and port of a QUIC multiaddr, as a multiaddr.
pub(crate) fn quic_multiaddr(address: SocketAddr) -> Multiaddr {
    crate::transport::addr::to_multiaddr(address)
}
