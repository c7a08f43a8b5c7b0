//! Configuration: plain structs with defaults, checked once in [`Node::new`](crate::Node::new).

use core::{fmt, time::Duration};
use std::{sync::Arc, time::Instant};

use rustls::crypto::CryptoProvider;

use crate::{identity::Keypair, limits, protocol::request::RequestError};

/// What the core cannot make for itself and the embedder hands in. Made with [`Platform::new`].
#[derive(Clone)]
#[non_exhaustive]
pub struct Platform {
    /// AEAD, hashes and signature checks for TLS 1.3. Only these are used: the provider's randomness and key exchange
    /// are replaced by the node's own, which draw from the node's [`Entropy`](crate::Entropy). Must offer
    /// `TLS13_AES_128_GCM_SHA256` with QUIC support, as rustls's `ring` and `aws_lc_rs` providers do.
    pub crypto: Arc<CryptoProvider>,
    /// Any instant. The QUIC library counts in [`Instant`], which cannot be made up; the node adds its own
    /// [`Time`](crate::Time) to this one and never looks at its value, which has no influence on anything.
    pub origin: Instant,
    /// Gets the secrets of every connection, with which anybody who has its packets can read them: for a file in the
    /// format of `SSLKEYLOGFILE`, which packet analysers understand. `None`, the default, keeps them.
    pub key_log: Option<Arc<dyn rustls::KeyLog>>,
    /// Gets a log of QUIC's doings on every connection. `None`, the default, keeps none.
    #[cfg(feature = "qlog")]
    pub qlog: Option<crate::transport::qlog::QlogHook>,
    #[cfg(feature = "simulation")]
    pub(crate) sessions: Option<Arc<dyn crate::simulation::Sessions>>,
    pub(crate) bugs: crate::bug::Bugs,
}

impl Platform {
    /// These two, and nothing logged.
    pub fn new(crypto: Arc<CryptoProvider>, origin: Instant) -> Self {
        Self {
            crypto,
            origin,
            key_log: None,
            #[cfg(feature = "qlog")]
            qlog: None,
            #[cfg(feature = "simulation")]
            sessions: None,
            bugs: crate::bug::Bugs::default(),
        }
    }
}

impl fmt::Debug for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Platform(..)")
    }
}

/// How a node behaves.
///
/// [`Config::default`] is complete except for [`platform`](Self::platform).
#[derive(Clone, Debug)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
pub struct Config {
    /// What the embedder must provide. `None` is refused by [`Node::new`](crate::Node::new).
    #[cfg_attr(feature = "record", serde(skip))]
    pub platform: Option<Platform>,
    /// The node's key pair, or `None` to draw a new one from the node's entropy.
    // A secret that no form of a configuration gives away; a log has it beside the configuration.
    #[cfg_attr(feature = "record", serde(skip))]
    pub identity: Option<Keypair>,
    /// Told to peers in identify, e.g. `peerwork/0.1.0`. At most 128 bytes.
    pub agent_version: String,
    /// Told to peers in identify, e.g. `ipfs/0.1.0`. Informational. At most 128 bytes.
    pub protocol_version: String,
    /// QUIC.
    pub quic: QuicConfig,
    /// Caps on connections.
    pub limits: ConnectionLimits,
    /// Dialling.
    pub dial: DialConfig,
    /// Identify.
    pub identify: IdentifyConfig,
    /// Ping.
    pub ping: PingConfig,
    /// Serve `/perf/1.0.0`: send any peer as many bytes as it asks for. Off by default.
    pub serve_perf: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            platform: None,
            identity: None,
            agent_version: concat!("peerwork/", env!("CARGO_PKG_VERSION")).into(),
            protocol_version: "peerwork/0.1.0".into(),
            quic: QuicConfig::default(),
            limits: ConnectionLimits::default(),
            dial: DialConfig::default(),
            identify: IdentifyConfig::default(),
            ping: PingConfig::default(),
            serve_perf: false,
        }
    }
}

/// QUIC parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
pub struct QuicConfig {
    /// A connection on which nothing was heard for this long is dead. The lower of both peers' values counts.
    pub idle_timeout: Duration,
    /// Silence after which a keep-alive is sent; `None` lets idle connections die. Must be below `idle_timeout`.
    /// The default stays below rust-libp2p's idle timeout of 10 s.
    pub keep_alive: Option<Duration>,
    /// Streams that a peer may have open at once, at the start of a connection. A slot costs memory from the start.
    pub initial_streams: u32,
    /// The same for a peer that uses them: the allowance doubles as streams come in, up to this.
    pub max_streams: u32,
    /// Bytes that a peer may send on a stream beyond what was read from it. At most
    /// [`STREAM_WINDOW`](limits::STREAM_WINDOW).
    pub stream_window: u32,
    /// Bytes that a peer may send on a connection beyond what was read from it: the memory that a slow application
    /// costs a connection.
    pub connection_window: u32,
    /// Bytes written and not yet acknowledged, of a connection. Writes block beyond.
    pub send_window: u64,
    /// Search for a larger packet size than 1200 bytes.
    pub mtu_discovery: bool,
    /// Incoming handshakes under way from which on newcomers must prove their address first (Retry, one more round
    /// trip).
    pub retry_above: usize,
    /// Tell peers the address that we see them at, and listen to theirs (draft-ietf-quic-address-discovery).
    pub address_discovery: bool,
}

impl Default for QuicConfig {
    fn default() -> Self {
        Self {
            idle_timeout: Duration::from_secs(30),
            keep_alive: Some(Duration::from_secs(8)),
            initial_streams: 64,
            max_streams: 256,
            stream_window: limits::STREAM_WINDOW,
            connection_window: 8 * 1024 * 1024,
            send_window: 8 * 1024 * 1024,
            mtu_discovery: true,
            retry_above: 64,
            address_discovery: true,
        }
    }
}

/// Caps on connections. A cap that is reached turns newcomers away; it never ends what exists.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
pub struct ConnectionLimits {
    /// Incoming handshakes under way.
    pub pending_in: usize,
    /// Outgoing handshakes under way. Further addresses of a dial wait; further dials fail.
    pub pending_out: usize,
    /// Established connections that peers dialled.
    pub established_in: usize,
    /// Established connections that this node dialled.
    pub established_out: usize,
    /// Established connections in all.
    pub established: usize,
    /// Established connections to one peer.
    pub per_peer: usize,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            pending_in: 256,
            pending_out: 256,
            established_in: 16_384,
            established_out: 16_384,
            established: 20_000,
            per_peer: 8,
        }
    }
}

/// Dialling.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
pub struct DialConfig {
    /// Time for a whole dial, all addresses and names included.
    pub timeout: Duration,
    /// Time for one address.
    pub attempt_timeout: Duration,
    /// Head start of an address before the next one is tried beside it (RFC 8305 §5 calls it the connection attempt
    /// delay).
    pub stagger: Duration,
}

impl Default for DialConfig {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(15),
            attempt_timeout: Duration::from_secs(10),
            stagger: Duration::from_millis(250),
        }
    }
}

/// Identify.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
pub struct IdentifyConfig {
    /// Time for one exchange.
    pub timeout: Duration,
    /// Changes of addresses and protocols within this time are pushed together.
    pub push_delay: Duration,
}

impl Default for IdentifyConfig {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(5), push_delay: Duration::from_millis(200) }
    }
}

/// Ping.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
pub struct PingConfig {
    /// Time between the end of a ping and the next on each connection; `None` pings only when asked to.
    pub interval: Option<Duration>,
    /// A ping without an answer within this has failed.
    pub timeout: Duration,
    /// After so many pings in a row without an answer the connection is closed as
    /// [`Unresponsive`](crate::CloseReason::Unresponsive); 0: never. QUIC's idle timeout does not notice a connection on which
    /// packets still come in but nothing gets through, such as one whose path changed at a bad moment.
    pub max_unanswered: u32,
}

impl Default for PingConfig {
    fn default() -> Self {
        Self { interval: Some(Duration::from_secs(15)), timeout: Duration::from_secs(10), max_unanswered: 2 }
    }
}

/// How a request–response protocol behaves, see [`RequestsMut::register`](crate::RequestsMut::register).
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
pub struct RequestConfig {
    /// Largest request, in bytes, sent or received.
    pub max_request: usize,
    /// Largest response, in bytes, sent or received.
    pub max_response: usize,
    /// Time from sending a request to having its response, and from receiving one to having answered it.
    pub timeout: Duration,
    /// Requests of one peer that may wait for an answer at once. More are refused.
    pub max_inbound_per_peer: usize,
    /// Whether this node answers such requests; otherwise it only sends them.
    pub serve: bool,
}

impl Default for RequestConfig {
    fn default() -> Self {
        Self {
            max_request: 1024 * 1024,
            max_response: 1024 * 1024,
            timeout: Duration::from_secs(10),
            max_inbound_per_peer: 256,
            serve: true,
        }
    }
}

impl RequestConfig {
    pub(crate) fn check_request(&self, len: usize) -> Result<(), RequestError> {
        if len > self.max_request { Err(RequestError::TooLarge { len, max: self.max_request }) } else { Ok(()) }
    }
}

/// What is wrong with a [`Config`].
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// [`Config::platform`] is missing.
    #[error("Config::platform is not set: give it a rustls CryptoProvider and an Instant, or use a driver, which does")]
    NoPlatform,
    /// The crypto provider cannot be used.
    #[error("Config::platform.crypto cannot be used: {0}; rustls's ring and aws_lc_rs providers can")]
    Crypto(String),
    /// A value is out of its range.
    #[error("Config::{field} is {value}, but must be {must}")]
    OutOfRange {
        /// The field.
        field: &'static str,
        /// Its value.
        value: String,
        /// What it must be.
        must: &'static str,
    },
}

impl Config {
    /// The default configuration on this platform.
    pub fn new(platform: Platform) -> Self {
        Self { platform: Some(platform), ..Self::default() }
    }

    /// Checks every value; [`Node::new`](crate::Node::new) does so too.
    pub fn validate(&self) -> Result<(), ConfigError> {
        fn check(field: &'static str, value: &dyn fmt::Debug, ok: bool, must: &'static str) -> Result<(), ConfigError> {
            if ok { Ok(()) } else { Err(ConfigError::OutOfRange { field, value: format!("{value:?}"), must }) }
        }
        const DAY: Duration = Duration::from_secs(86_400);
        let short = |text: &str| text.len() <= 128;
        let a_moment = |time: Duration| !time.is_zero() && time <= DAY;
        check("agent_version", &self.agent_version, short(&self.agent_version), "at most 128 bytes")?;
        check("protocol_version", &self.protocol_version, short(&self.protocol_version), "at most 128 bytes")?;

        let quic = &self.quic;
        let idle = quic.idle_timeout;
        check("quic.idle_timeout", &idle, idle >= Duration::from_secs(1) && idle <= DAY, "from 1 s to 1 day")?;
        let alive = quic.keep_alive.is_none_or(|time| time >= Duration::from_millis(100) && time < idle);
        check("quic.keep_alive", &quic.keep_alive, alive, "from 100 ms to less than quic.idle_timeout")?;
        let streams = (1..=quic.max_streams).contains(&quic.initial_streams);
        check("quic.initial_streams", &quic.initial_streams, streams, "from 1 to quic.max_streams")?;
        check("quic.max_streams", &quic.max_streams, quic.max_streams <= 65_536, "at most 65536")?;
        let window = (16_384..=quic.connection_window.min(limits::STREAM_WINDOW)).contains(&quic.stream_window);
        let must = "from 16 KiB to quic.connection_window and at most 2 MiB";
        check("quic.stream_window", &quic.stream_window, window, must)?;
        let window = quic.connection_window <= 1 << 30;
        check("quic.connection_window", &quic.connection_window, window, "at most 1 GiB")?;
        let window = (16_384..=1 << 30).contains(&quic.send_window);
        check("quic.send_window", &quic.send_window, window, "from 16 KiB to 1 GiB")?;

        let limits = &self.limits;
        check("limits.pending_in", &limits.pending_in, limits.pending_in <= 65_536, "at most 65536")?;
        check("limits.per_peer", &limits.per_peer, limits.per_peer >= 1, "at least 1")?;

        check("dial.timeout", &self.dial.timeout, a_moment(self.dial.timeout), "above 0 and at most 1 day")?;
        let attempt = a_moment(self.dial.attempt_timeout);
        check("dial.attempt_timeout", &self.dial.attempt_timeout, attempt, "above 0 and at most 1 day")?;
        check("dial.stagger", &self.dial.stagger, self.dial.stagger <= DAY, "at most 1 day")?;

        check(
            "identify.timeout",
            &self.identify.timeout,
            a_moment(self.identify.timeout),
            "above 0 and at most 1 day",
        )?;
        check("identify.push_delay", &self.identify.push_delay, self.identify.push_delay <= DAY, "at most 1 day")?;
        let interval = self.ping.interval.is_none_or(|time| time >= Duration::from_millis(10) && time <= DAY);
        check("ping.interval", &self.ping.interval, interval, "from 10 ms to 1 day")?;
        check("ping.timeout", &self.ping.timeout, a_moment(self.ping.timeout), "above 0 and at most 1 day")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_valid() {
        Config::default().validate().unwrap();
    }

    #[test]
    fn every_value_has_a_range_whose_ends_are_in_and_what_is_next_to_them_is_not() {
        const DAY: Duration = Duration::from_secs(86_400);
        const NANO: Duration = Duration::from_nanos(1);
        type Set = fn(&mut Config);
        let table: &[(&str, &[Set], &[Set])] = &[
            ("agent_version", &[|c| c.agent_version = "a".repeat(128)], &[|c| c.agent_version = "a".repeat(129)]),
            (
                "protocol_version",
                &[|c| c.protocol_version = String::new()],
                &[|c| c.protocol_version = "a".repeat(129)],
            ),
            (
                "quic.idle_timeout",
                &[
                    |c| (c.quic.idle_timeout, c.quic.keep_alive) = (Duration::from_secs(1), None),
                    |c| c.quic.idle_timeout = DAY,
                ],
                &[
                    |c| (c.quic.idle_timeout, c.quic.keep_alive) = (Duration::from_secs(1) - NANO, None),
                    |c| c.quic.idle_timeout = DAY + NANO,
                ],
            ),
            (
                "quic.keep_alive",
                &[
                    |c| c.quic.keep_alive = None,
                    |c| c.quic.keep_alive = Some(Duration::from_millis(100)),
                    |c| c.quic.keep_alive = Some(c.quic.idle_timeout - NANO),
                ],
                &[
                    |c| c.quic.keep_alive = Some(Duration::from_millis(100) - NANO),
                    |c| c.quic.keep_alive = Some(c.quic.idle_timeout),
                ],
            ),
            (
                "quic.initial_streams",
                &[|c| c.quic.initial_streams = 1, |c| c.quic.initial_streams = c.quic.max_streams],
                &[|c| c.quic.initial_streams = 0, |c| c.quic.initial_streams = c.quic.max_streams + 1],
            ),
            ("quic.max_streams", &[|c| c.quic.max_streams = 65_536], &[|c| c.quic.max_streams = 65_537]),
            (
                "quic.stream_window",
                &[|c| c.quic.stream_window = 16_384, |c| c.quic.stream_window = limits::STREAM_WINDOW],
                &[|c| c.quic.stream_window = 16_383, |c| c.quic.stream_window = limits::STREAM_WINDOW + 1],
            ),
            (
                "quic.connection_window",
                &[|c| c.quic.connection_window = 1 << 30],
                &[|c| c.quic.connection_window = (1 << 30) + 1],
            ),
            (
                "quic.send_window",
                &[|c| c.quic.send_window = 16_384, |c| c.quic.send_window = 1 << 30],
                &[|c| c.quic.send_window = 16_383, |c| c.quic.send_window = (1 << 30) + 1],
            ),
            ("limits.pending_in", &[|c| c.limits.pending_in = 65_536], &[|c| c.limits.pending_in = 65_537]),
            ("limits.per_peer", &[|c| c.limits.per_peer = 1], &[|c| c.limits.per_peer = 0]),
            (
                "dial.timeout",
                &[|c| c.dial.timeout = NANO, |c| c.dial.timeout = DAY],
                &[|c| c.dial.timeout = Duration::ZERO, |c| c.dial.timeout = DAY + NANO],
            ),
            (
                "dial.attempt_timeout",
                &[|c| c.dial.attempt_timeout = NANO, |c| c.dial.attempt_timeout = DAY],
                &[|c| c.dial.attempt_timeout = Duration::ZERO, |c| c.dial.attempt_timeout = DAY + NANO],
            ),
            (
                "dial.stagger",
                &[|c| c.dial.stagger = Duration::ZERO, |c| c.dial.stagger = DAY],
                &[|c| c.dial.stagger = DAY + NANO],
            ),
            (
                "identify.timeout",
                &[|c| c.identify.timeout = NANO, |c| c.identify.timeout = DAY],
                &[|c| c.identify.timeout = Duration::ZERO, |c| c.identify.timeout = DAY + NANO],
            ),
            (
                "identify.push_delay",
                &[|c| c.identify.push_delay = Duration::ZERO, |c| c.identify.push_delay = DAY],
                &[|c| c.identify.push_delay = DAY + NANO],
            ),
            (
                "ping.interval",
                &[
                    |c| c.ping.interval = None,
                    |c| c.ping.interval = Some(Duration::from_millis(10)),
                    |c| c.ping.interval = Some(DAY),
                ],
                &[|c| c.ping.interval = Some(Duration::from_millis(10) - NANO), |c| c.ping.interval = Some(DAY + NANO)],
            ),
            (
                "ping.timeout",
                &[|c| c.ping.timeout = NANO, |c| c.ping.timeout = DAY],
                &[|c| c.ping.timeout = Duration::ZERO, |c| c.ping.timeout = DAY + NANO],
            ),
        ];
        let validated = |set: &Set| {
            let mut config = Config::default();
            set(&mut config);
            config.validate()
        };
        for (name, inside, outside) in table {
            for (n, set) in inside.iter().enumerate() {
                assert_eq!(validated(set), Ok(()), "{name}, value {n} inside");
            }
            for (n, set) in outside.iter().enumerate() {
                let error = validated(set);
                let named = matches!(&error, Err(ConfigError::OutOfRange { field, .. }) if field == name);
                assert!(named, "{name}, value {n} outside: {error:?}");
            }
        }
    }

    #[test]
    fn each_error_names_the_field_and_the_range() {
        let mut config = Config::default();
        config.quic.keep_alive = Some(Duration::from_secs(60));
        let error = config.validate().unwrap_err().to_string();
        assert_eq!(
            error,
            "Config::quic.keep_alive is Some(60s), but must be from 100 ms to less than quic.idle_timeout"
        );
    }
}
