//! Every hard limit of the node in one place, each with its reason. What an application may want to change is in
//! [`Config`](crate::Config); what is here holds whatever the configuration says.

use core::time::Duration;

/// Signals, machine callbacks and connection steps that one call may trigger before the rest is put off to an
/// immediate wake-up. Large enough that only a peer who means it (a batch of datagrams full of tiny frames) makes a second
/// call necessary; what such a peer piles up counts towards [`OUTPUTS_HIGH_WATER`].
pub const CALL_BUDGET: u32 = 4096;

/// Outputs waiting to be polled above which arriving datagrams are dropped (and counted): an application that does
/// not drain its events must not become a memory leak. QUIC treats the drops as loss.
pub const OUTPUTS_HIGH_WATER: usize = 65_536;

/// Stateless answers (version negotiation, retry, reset, refusal) waiting to be sent. They answer packets whose
/// source may be forged; beyond this they are dropped.
pub const STATELESS_ANSWERS: usize = 64;

/// Addresses used out of one name lookup.
pub const RESOLVED_ADDRESSES: usize = 16;

/// Nesting of `/dnsaddr` records. libp2p's resolvers allow 32; nobody publishes more than two.
pub const DNSADDR_DEPTH: u8 = 4;

/// Attempts of one dial, after names have been resolved.
pub const DIAL_ADDRESSES: usize = 64;

/// Time that a driver may take for a lookup. The node does not wait longer.
pub const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);

/// Application error codes and reasons travel in one packet; longer reasons are cut.
pub const CLOSE_REASON_LEN: usize = 256;

/// multistream-select must end within this, on either side (go, rust and js libp2p: 10 s).
pub const NEGOTIATION_TIMEOUT: Duration = Duration::from_secs(10);

/// A stream let go of is drained this long, so that what was written arrives: from then until the peer agrees on its
/// protocol, and each time until the peer takes more of it.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// Protocols that one stream may propose, as many as the other side listens to.
pub const PROPOSALS: usize = crate::transport::negotiate::MAX_PROPOSALS;

/// Streams of one connection whose inbound negotiation is not over. More are reset.
pub const NEGOTIATING_STREAMS: usize = 128;

/// Bytes a machine may queue on one stream beyond what QUIC takes. Machines write whole messages; applications get
/// backpressure instead.
pub const MACHINE_WRITE_QUEUE: usize = 16 * 1024 * 1024;

/// Datagrams of a connection after which unread stream data is swept together. A reader that was up to date since the
/// last time is passed over once, so twice this much and two batches can be waiting; QUIC's limit is 2,048 packets'
/// worth for a stream. See `Streams::sweep`.
pub const SWEEP_AFTER: u32 = 900;

/// Writes up to this long are gathered when they come on each other's heels. QUIC would copy them, too, into pieces of
/// this size, and looks through all pieces not yet acknowledged for every packet that it sends.
pub const GATHERED_WRITE: usize = 1452;

/// Bytes of a stream gathered before they go to QUIC at the latest.
pub const GATHERED: usize = 16 * 1024;

/// Largest receive window of a stream. noq-proto 1.4 ends a connection when more than 2,048 packets of one stream wait
/// behind a gap; in packets of the smallest usual size this window is 1,748.
pub const STREAM_WINDOW: u32 = 2 * 1024 * 1024;

/// Receive window that a connection keeps however much its applications leave unread. Unread data that fits in here is
/// not swept.
pub const LEAST_WINDOW: u32 = 16 * 1024;

/// Longest message of a machine: what the queue takes, less its length prefix.
pub const MACHINE_MESSAGE: usize = MACHINE_WRITE_QUEUE - 16;

/// Streams of closed connections that are kept because they hold data which the application has not read.
pub const ORPHANED_STREAMS: usize = 1024;

/// Protocols that an application may register.
pub const REGISTERED_PROTOCOLS: usize = 1024;

/// Listeners of one node.
pub const LISTENERS: usize = 64;

/// Sockets of one node: the listeners' and two to dial from.
pub const SOCKETS: usize = LISTENERS + 2;

/// Addresses of interfaces that a wildcard listener is expanded to.
pub const INTERFACE_ADDRESSES: usize = 64;

/// Peers remembered in the address book. The longest disconnected one is forgotten first.
pub const KNOWN_PEERS: usize = 10_000;

/// Addresses remembered for one peer (go-libp2p keeps 20 after disconnecting).
pub const ADDRESSES_PER_PEER: usize = 20;

/// Time before a superseded connection may close, so that streams opened at its other end before that end saw the
/// duplicate still arrive.
pub const SUPERSEDED_LINGER: Duration = Duration::from_secs(1);

/// Time that shutting down may take when the last packets cannot be sent.
pub const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(2);

/// A timer this late means that the process or the machine slept. Then what is due is done before the input that woke
/// the node is looked at: or else QUIC takes the sleep for a round trip, and believes in dead connections for days.
pub const ASLEEP: Duration = Duration::from_secs(1);

/// The least time between a connection having nothing to send and its next timer.
pub const PACE: Duration = Duration::from_micros(1);

/// Requests received and not yet answered, in the whole node.
pub const INBOUND_REQUESTS: usize = 4096;

/// Payload bytes waiting for the application above which peers' requests are turned away. Less than the whole, so that
/// peers' questions leave room for the answers to one's own.
pub const INBOUND_REQUEST_BYTES: usize = REQUEST_BYTES / 2;

/// Payload bytes of requests and responses that wait for the application, in the whole node.
pub const REQUEST_BYTES: usize = 64 * 1024 * 1024;
