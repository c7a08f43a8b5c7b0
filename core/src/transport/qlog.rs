//! Logs of what QUIC does on each connection: packets, frames, losses, recovery, timers.
//!
//! The QUIC library writes them, in the format of draft-ietf-quic-qlog-main-schema-13 and
//! draft-ietf-quic-qlog-quic-events-12, as JSON text sequences (RFC 7464). The embedder says where to, by
//! [`Platform::qlog`]. Nothing in a log depends on anything but the node's inputs: times count from the node's epoch.

use core::net::SocketAddr;
use std::{fmt::Write as _, io, sync::Arc, time::Instant};

use noq_proto::{ConnectionId, QlogConfig, QlogFactory, Side, TransportConfig};

use crate::{config::Platform, event::Direction, time::Time};

/// Which connection a log is about.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct ConnLabel {
    /// Who dialled.
    pub direction: Direction,
    /// The peer's address when the connection began.
    pub remote: SocketAddr,
    /// The connection id that the dialler made up for the listener, in hex. Both ends' logs of one connection have the
    /// same, unless a Retry came between them.
    pub group: String,
    /// When the connection began.
    pub at: Time,
}

/// Where the log of a connection goes to; `None` for nowhere.
///
/// Called within a call of the node's. The writer should not block, is flushed when the connection is forgotten, and an
/// error that it returns ends nothing but the log's use.
pub type QlogHook = Arc<dyn Fn(&ConnLabel) -> Option<Box<dyn io::Write + Send + Sync>> + Send + Sync>;

struct Factory {
    hook: QlogHook,
    origin: Instant,
}

impl QlogFactory for Factory {
    fn for_connection(
        &self,
        side: Side,
        remote: SocketAddr,
        initial_dst_cid: ConnectionId,
        now: Instant,
    ) -> Option<QlogConfig> {
        let mut group = String::new();
        for byte in &initial_dst_cid[..] {
            let _ = write!(group, "{byte:02x}");
        }
        let label = ConnLabel {
            direction: match side {
                Side::Client => Direction::Outbound,
                Side::Server => Direction::Inbound,
            },
            remote,
            group,
            at: Time::ZERO + now.saturating_duration_since(self.origin),
        };
        let mut config = QlogConfig::new((self.hook)(&label)?);
        config.start_time(self.origin);
        Some(config)
    }
}

/// Has the library log if the embedder wants it.
pub(super) fn attach(platform: &Platform, transport: &mut TransportConfig) {
    if let Some(hook) = platform.qlog.clone() {
        transport.qlog_factory(Arc::new(Factory { hook, origin: platform.origin }));
    }
}
