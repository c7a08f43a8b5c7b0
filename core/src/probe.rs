//! Probes: marks of rare states, so that a test campaign can tell whether it reached them.
//!
//! A line such as `probe!(self.probes, DialRaced)` counts that the node came by. It costs one addition, is always there, changes
//! nothing and is seen by nobody but [`Node::probes`](crate::Node::probes) (and [`Harness::probes`](crate::Harness)).
//! The counters live in the node: there is no process-wide state, and two nodes in one process do not mix.
//!
//! [`Probe`] is the whole catalogue, known without running anything: a campaign that never reaches one of
//! [`Probe::ALL`] has not tested what stands there. Names are stable, in the form `subject.what-happened`.
//!
//! To add one, write a line into the table in this file and mark at least one site; a test looks for both.
//!
//! # The catalogue
//!
#![doc = include_str!("probe/catalogue.md")]

#[cfg(test)]
mod tests;

use core::fmt;

/// Counts a visit: `probe!(probes, Name)`.
macro_rules! probe {
    ($probes:expr, $name:ident) => {
        $probes.hit($crate::probe::Probe::$name)
    };
}
pub(crate) use probe;

macro_rules! catalogue {
    ($($(#[doc = $meaning:literal])+ $variant:ident = $name:literal;)*) => {
        /// A rare state that a node can get into.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[non_exhaustive]
        pub enum Probe {
            $($(#[doc = $meaning])+ $variant,)*
        }

        impl Probe {
            /// Every probe, in the order of the catalogue.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The name, such as `dial.raced`. It does not change between versions.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// What it means to have come by, in a sentence.
            pub const fn meaning(self) -> &'static str {
                match self {
                    $(Self::$variant => concat!($($meaning),+).trim_ascii(),)*
                }
            }
        }
    };
}

catalogue! {
    /// A datagram came in on a socket that is not bound, or not any more.
    DatagramStray = "datagram.stray";
    /// A datagram was dropped because nobody drains the outputs.
    DatagramShed = "datagram.shed";
    /// A version of QUIC was asked for that the node does not speak, and it said which one it does.
    AnswerVersions = "answer.version-negotiation";
    /// A packet for a connection that the node does not have was answered with a stateless reset.
    AnswerReset = "answer.stateless-reset";
    /// An answer without a connection was dropped because too many were waiting.
    AnswerShed = "answer.shed";

    /// A newcomer was ignored: nobody listens on that socket, or the node shuts down.
    IncomingIgnored = "incoming.ignored";
    /// A newcomer was turned away by a limit before its handshake.
    IncomingRefused = "incoming.refused";
    /// A newcomer was asked to prove its address.
    RetrySent = "retry.sent";
    /// A newcomer came back with proof of its address.
    RetryProven = "retry.proven";

    /// A handshake that a peer had begun took too long.
    HandshakeTimedOut = "handshake.timed-out";
    /// A handshake was given up half-way, for a lost socket or for shutting down.
    HandshakeAbandoned = "handshake.abandoned";
    /// A handshake that a peer had begun failed.
    HandshakeFailed = "handshake.failed";
    /// A finished handshake was turned away by a limit on connections.
    LimitConnections = "limit.connections";
    /// A finished handshake was turned away by the limit on connections to one peer.
    LimitPerPeer = "limit.per-peer";

    /// Of several connections to one peer, one was chosen to stay.
    ConnDuplicateSettled = "conn.duplicate-settled";
    /// A superseded connection was kept on: the one that it had lost to is gone.
    ConnSupersededKept = "conn.superseded-kept";
    /// A superseded connection had streams left when its time was up, and went on until they had ended.
    ConnSupersededBusy = "conn.superseded-busy";
    /// A superseded connection was closed.
    ConnSupersededClosed = "conn.superseded-closed";
    /// The peer closed a superseded connection first.
    ConnSupersededByPeer = "conn.superseded-by-peer";
    /// The peer's packets came from another address: its NAT made a new mapping, or it moved.
    ConnRebound = "conn.rebound";
    /// The peer's packets came in on another socket of the node.
    ConnRoamed = "conn.socket-roamed";
    /// Nothing came from the peer until the connection's idle timeout.
    ConnIdleTimeout = "conn.idle-timeout";
    /// The peer had forgotten the connection and said so with a stateless reset.
    ConnStatelessReset = "conn.stateless-reset";
    /// The peer broke QUIC's rules on an established connection.
    ConnTransportError = "conn.transport-error";
    /// The peer closed an established connection for an error of QUIC's.
    ConnTransportErrorByPeer = "conn.transport-error-by-peer";
    /// The peer made use of most streams that it may have, and was allowed more.
    ConnCreditGrown = "conn.credit-grown";

    /// A dial was given the connection that existed already.
    DialImmediate = "dial.immediate";
    /// A dial was refused because too many are under way.
    DialBusy = "dial.busy";
    /// A dial tried its next address while earlier ones were still under way.
    DialStaggered = "dial.staggered";
    /// A dial's handshake succeeded while others of the same dial were still under way.
    DialRaced = "dial.raced";
    /// A dial ended because the peer had connected to this node meanwhile.
    DialOvertaken = "dial.overtaken";
    /// A dial was cancelled.
    DialCancelled = "dial.cancelled";
    /// A dial took too long as a whole.
    DialTimedOut = "dial.timed-out";
    /// One handshake of a dial took too long.
    DialAttemptTimedOut = "dial.attempt-timed-out";
    /// A dial's address was not tried because of a limit.
    DialLimited = "dial.limited";
    /// Somebody else than the peer wanted answered a dial.
    DialWrongPeer = "dial.wrong-peer";
    /// A dial led to the node itself.
    DialSelf = "dial.self";
    /// A dial's address named another peer than the one dialled.
    DialOtherName = "dial.other-name";
    /// A dial had a name looked up.
    DialLookup = "dial.lookup";
    /// A lookup failed.
    DialLookupFailed = "dial.lookup-failed";
    /// A lookup had an answer without any address of use.
    DialLookupFruitless = "dial.lookup-fruitless";
    /// The answer to a lookup came after its dial had ended.
    DialLookupLate = "dial.lookup-late";
    /// One `/dnsaddr` led to another so many times that it was followed no further.
    DialTooDeep = "dial.too-deep";
    /// A dial had to wait for a socket.
    DialWaitedForSocket = "dial.waited-for-socket";
    /// A dial's socket could not be bound, or died, before anything was sent.
    DialSocketFailed = "dial.socket-failed";
    /// The operating system said that a dialled address cannot be reached.
    DialUnreachable = "dial.unreachable";

    /// A listener could not be bound.
    ListenFailed = "listen.failed";
    /// A listener was given up while its socket stayed for the connections on it.
    ListenSocketKept = "listen.socket-kept";
    /// A listener took over a socket that had stayed.
    ListenSocketReused = "listen.socket-reused";
    /// A socket's send buffer was full.
    SocketBlocked = "socket.blocked";
    /// A connection had something to send and had to wait for a blocked socket.
    SocketParked = "socket.parked";
    /// A socket died.
    SocketLost = "socket.lost";

    /// One call had more to do than its budget allows, and left the rest to the next.
    TimerBudgetSpent = "timer.budget-spent";
    /// A call came much later than asked for, as after the machine had slept.
    TimerOverslept = "timer.overslept";
    /// The time of a call was before that of an earlier one.
    ClockStepBack = "clock.step-back";
    /// Shutting down took too long and was ended with packets still to be sent.
    ShutdownForced = "shutdown.forced";
    /// The address book was full and forgot somebody.
    PeersForgotten = "peers.forgotten";

    /// A stream had to wait until the peer allowed more.
    StreamWaited = "stream.waited";
    /// A peer opened more streams than may negotiate at once.
    StreamLimited = "stream.limited";
    /// The peer did not speak the protocol proposed first, and was asked for the next.
    StreamNegotiationFallback = "stream.negotiation-fallback";
    /// The peer spoke none of the protocols proposed.
    StreamUnsupported = "stream.unsupported";
    /// A peer's stream ended without a protocol that this node speaks.
    StreamTurnedAway = "stream.turned-away";
    /// A stream was not agreed upon in time.
    StreamNegotiationTimedOut = "stream.negotiation-timed-out";
    /// A stream was reset before its protocol was agreed.
    StreamNegotiationReset = "stream.negotiation-reset";
    /// A stream was closed by its owner before the peer had agreed to its protocol.
    StreamClosedEarly = "stream.closed-early";
    /// A stream was closed with bytes that the peer had not taken yet.
    StreamDraining = "stream.draining";
    /// The peer did not take the last bytes of a closed stream in time.
    StreamDrainTimedOut = "stream.drain-timed-out";
    /// The application wanted to write more than flow control allows.
    StreamBackpressure = "stream.backpressure";
    /// Small writes were gathered into one.
    StreamGathered = "stream.gathered";
    /// A machine had more to say than its queue holds.
    StreamQueueFull = "stream.queue-full";
    /// Unread data was taken out of QUIC.
    StreamSwept = "stream.swept";
    /// Unread data filled the connection's whole window.
    StreamWindowFull = "stream.window-full";
    /// The peer stopped reading.
    StreamStopped = "stream.stopped";
    /// The peer stopped reading before it had agreed to the protocol.
    StreamStoppedEarly = "stream.stopped-early";
    /// The peer reset a stream.
    StreamReset = "stream.reset";
    /// A stream ended in the middle of a frame.
    StreamCutFrame = "stream.cut-frame";
    /// What a stream had left to read outlived its connection.
    StreamOrphaned = "stream.orphaned";

    /// A ping failed on a peer that speaks the protocol.
    PingFailed = "ping.failed";
    /// A connection was closed because the peer left pings unanswered.
    PingGaveUp = "ping.gave-up";
    /// The peer does not speak ping.
    PingUnsupported = "ping.unsupported";
    /// A peer had more pings under way than allowed.
    PingLimited = "ping.limited";

    /// The node told a peer of a change.
    IdentifyPushed = "identify.pushed";
    /// A change came so soon after another that one push tells of both.
    IdentifyCoalesced = "identify.coalesced";
    /// A peer told about itself while it had not heard of the last change of this node yet.
    IdentifyPushedLate = "identify.pushed-late";
    /// A peer could not be identified.
    IdentifyFailed = "identify.failed";
    /// A peer's signed record was broken, somebody else's, or older than the last.
    IdentifyBadRecord = "identify.bad-record";

    /// A request had no response in time, or was not answered in time.
    RequestTimedOut = "request.timed-out";
    /// A request was cancelled by the application that sent it.
    RequestCancelled = "request.cancelled";
    /// A request was turned down by the application that received it.
    RequestRefused = "request.refused";
    /// A request was turned away because too many wait.
    RequestLimited = "request.limited";
    /// A payload found no room because too many wait to be taken.
    RequestNoRoom = "request.no-room";
    /// A request with the application ended before it was answered.
    RequestDropped = "request.dropped";
    /// The peer stopped a throughput measurement.
    PerfStopped = "perf.stopped";

    /// A peer broke [`BadNegotiation`](crate::PeerFault::BadNegotiation).
    FaultBadNegotiation = "fault.bad-negotiation";
    /// A peer broke [`BadFrame`](crate::PeerFault::BadFrame).
    FaultBadFrame = "fault.bad-frame";
    /// A peer broke [`BadIdentify`](crate::PeerFault::BadIdentify).
    FaultBadIdentify = "fault.bad-identify";
    /// A peer broke [`IdentityMismatch`](crate::PeerFault::IdentityMismatch).
    FaultIdentityMismatch = "fault.identity-mismatch";
    /// A peer broke [`PushFlood`](crate::PeerFault::PushFlood).
    FaultPushFlood = "fault.push-flood";
    /// A peer broke [`BadPong`](crate::PeerFault::BadPong).
    FaultBadPong = "fault.bad-pong";
    /// A peer broke [`TooManyStreams`](crate::PeerFault::TooManyStreams).
    FaultTooManyStreams = "fault.too-many-streams";
    /// A peer broke [`PingFlood`](crate::PeerFault::PingFlood).
    FaultPingFlood = "fault.ping-flood";
    /// A peer broke [`BadRequest`](crate::PeerFault::BadRequest).
    FaultBadRequest = "fault.bad-request";
    /// A peer broke [`BadPerf`](crate::PeerFault::BadPerf).
    FaultBadPerf = "fault.bad-perf";
}

impl Probe {
    /// The probe with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|probe| probe.name() == name)
    }
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How often a node came by each [`Probe`].
#[derive(Clone, PartialEq, Eq)]
pub struct Probes {
    counts: [u64; Probe::ALL.len()],
}

impl Default for Probes {
    fn default() -> Self {
        Self { counts: [0; Probe::ALL.len()] }
    }
}

impl Probes {
    /// Counts a visit.
    pub(crate) fn hit(&mut self, probe: Probe) {
        if let Some(count) = self.counts.get_mut(probe as usize) {
            *count = count.wrapping_add(1);
        }
    }

    /// How often the node came by this one.
    pub fn get(&self, probe: Probe) -> u64 {
        self.counts.get(probe as usize).copied().unwrap_or(0)
    }

    /// All of them with their counts, in the order of the catalogue, also those never reached.
    pub fn iter(&self) -> impl Iterator<Item = (Probe, u64)> + '_ {
        Probe::ALL.iter().copied().zip(self.counts.iter().copied())
    }

    /// Adds another node's counts.
    pub fn merge(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(other.counts) {
            *count = count.wrapping_add(more);
        }
    }
}

impl fmt::Debug for Probes {
    /// Those reached, with their counts.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map()
            .entries(self.iter().filter(|(_, count)| *count > 0).map(|(probe, count)| (probe.name(), count)))
            .finish()
    }
}
