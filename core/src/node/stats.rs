//! Counters, and a census of everything that a node holds.

/// Counters since the node was made.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[non_exhaustive]
pub struct Stats {
    /// Calls of machines plus steps of connections: the work done. One input costs the same number of visits however
    /// many idle connections there are.
    pub visits: u64,
    /// Inputs handled.
    pub inputs: u64,
    /// Inputs that named something unknown or made no sense.
    pub inputs_ignored: u64,
    /// Datagrams received, each part of a coalesced batch counted.
    pub datagrams_in: u64,
    /// Datagrams that were dropped because nobody drains the outputs.
    pub datagrams_shed: u64,
    /// Batches of datagrams offered for sending.
    pub transmits: u64,
    /// Bytes offered for sending.
    pub bytes_out: u64,
    /// Stateless answers dropped because too many were waiting.
    pub answers_shed: u64,
    /// Incoming connections turned away by a limit.
    pub refused: u64,
    /// Incoming connections asked to prove their address first.
    pub retried: u64,
    /// Timers of connections that were set for a time already past; they fire at once.
    pub timers_late: u64,
    /// Calls with a time before that of an earlier call.
    pub clock_steps_back: u64,
}

/// How many of everything a node holds. After a peer is gone it equals that from before the peer came.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[non_exhaustive]
pub struct Census {
    /// Connections: handshaking, established, and closed ones that QUIC still answers for.
    pub conns: usize,
    /// Established connections.
    pub established: usize,
    /// Streams.
    pub streams: usize,
    /// Timers.
    pub timers: usize,
    /// Dials.
    pub dials: usize,
    /// Name lookups.
    pub lookups: usize,
    /// Outputs not yet polled.
    pub outputs: usize,
    /// Entries in the maps of all machines.
    pub machines: usize,
}
