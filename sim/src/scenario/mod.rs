//! Scenarios: what a world consists of and what happens in it, as plain data.
//!
//! A [`Scenario`] is written in TOML or built in Rust (the methods in [`build`]), and means the same in both. With a seed it becomes
//! a [`Plan`](crate::plan::Plan): an explicit list of operations in time, in which nothing is left to chance but the network's draws.

pub mod build;
pub mod churn;
pub mod file;
pub mod library;
mod sense;
pub mod swarm;

use std::{collections::BTreeSet, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, de::Error as _};

use self::{churn::Churn, swarm::Swarm};
use crate::{
    net::{
        link::AccessMix,
        nat::{NatMix, NatModel},
        weather::Trouble,
    },
    tier::Tier,
    units,
    world::Conduct,
};

/// A world, what happens in it, and what must come of it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Scenario {
    /// Its name: letters, digits, `-` and `_`.
    pub name: String,
    /// One sentence on what it shows.
    #[serde(default)]
    pub about: String,
    /// What is real in it.
    #[serde(default)]
    pub tier: Tier,
    /// Virtual time in which faults may rule and work is done.
    #[serde(with = "units::span")]
    pub duration: Duration,
    /// Virtual time after that, without faults, until everything must have come right.
    #[serde(default = "settle", with = "units::span")]
    pub settle: Duration,
    /// The seed to use when none is given.
    #[serde(default = "one")]
    pub seed: u64,
    /// Where nodes are, if latencies follow from regions: `none`, `world` (weighted), or a list of region names.
    #[serde(default)]
    pub regions: Spread,
    /// Poll nodes late and in random order.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub random_drains: bool,
    /// Wake nodes before their time, and insist on silence.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub spurious_wakes: bool,
    /// Bugs to switch on, to see them found.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub bugs: BTreeSet<String>,
    /// Nodes.
    #[serde(default, rename = "group")]
    pub groups: Vec<Group>,
    /// What they do.
    #[serde(default, rename = "work", skip_serializing_if = "Vec::is_empty")]
    pub works: Vec<Work>,
    /// Faults at set times.
    #[serde(default, rename = "fault", skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<Timed>,
    /// Faults drawn for each seed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub swarm: Option<Swarm>,
    /// What must be true of the results.
    #[serde(default, rename = "expect", skip_serializing_if = "Vec::is_empty")]
    pub expects: Vec<Expect>,
    /// Rare states of the core that a sweep of this scenario must reach: names, or prefixes ending in `*`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub probes: Vec<String>,
    /// Seeds that a sweep must have for that; a smaller one proves nothing.
    #[serde(default = "fifty")]
    pub probe_seeds: u64,
}

fn fifty() -> u64 {
    50
}

/// Connections that died under a fault take their idle timeout, 30 s, to be noticed.
fn settle() -> Duration {
    Duration::from_secs(60)
}

fn one() -> u64 {
    1
}

/// Where nodes are.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(untagged, expecting = "write \"none\", \"world\", or a list of regions such as [\"eu-west-1\", \"US\"]")]
pub enum Spread {
    /// Nowhere in particular: all paths are alike.
    #[default]
    #[serde(with = "nowhere")]
    Nowhere,
    /// Over the whole world, weighted.
    #[serde(with = "world")]
    World,
    /// Evenly over these regions.
    Regions(Vec<String>),
}

macro_rules! word {
    ($name:ident, $word:literal) => {
        mod $name {
            pub(super) fn serialize<S: serde::Serializer>(to: S) -> Result<S::Ok, S::Error> {
                to.serialize_str($word)
            }
            pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(from: D) -> Result<(), D::Error> {
                let text = <String as serde::Deserialize>::deserialize(from)?;
                if text == $word { Ok(()) } else { Err(serde::de::Error::custom("another word")) }
            }
        }
    };
}
word!(nowhere, "none");
word!(world, "world");

/// Nodes of one kind.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Group {
    /// Its name; nodes are `name/0`, `name/1`, ...
    pub name: String,
    /// How many.
    pub count: u32,
    /// Their only region, instead of the scenario's spread.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// How they are connected.
    #[serde(default)]
    pub access: AccessMix,
    /// What stands before them.
    #[serde(default)]
    pub nat: NatMix,
    /// A carrier's box in front of those, shared by this many nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub carrier: Option<Carrier>,
    /// When the first joins.
    #[serde(default, with = "units::span")]
    pub join_at: Duration,
    /// Time from the first to the last.
    #[serde(default, with = "units::span")]
    pub join_over: Duration,
    /// Groups whose nodes they dial when they have started.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bootstrap: Vec<String>,
    /// How many of those each dials.
    #[serde(default = "degree")]
    pub degree: u32,
    /// How they come and go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub churn: Option<Churn>,
    /// What they do to their datagrams.
    #[serde(default, skip_serializing_if = "Conduct::is_honest")]
    pub conduct: Conduct,
    /// No fault ever hits them, and they must reach each other in the end.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub core: bool,
    /// Settings of their nodes that differ from the defaults.
    #[serde(default, skip_serializing_if = "Settings::is_default")]
    pub settings: Settings,
}

fn degree() -> u32 {
    3
}

/// A carrier's box.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(
    deny_unknown_fields,
    rename_all = "kebab-case",
    expecting = "a table such as { nat = \"carrier-grade\", subscribers = 16 }"
)]
pub struct Carrier {
    /// What it is.
    pub nat: NatModel,
    /// Subscribers behind each.
    pub subscribers: u32,
    /// External addresses of each.
    #[serde(default = "addresses")]
    pub addresses: u32,
}

fn addresses() -> u32 {
    1
}

macro_rules! settings {
    ($($(#[$doc:meta])* $name:ident: $type:ty = $with:literal => |$config:ident, $value:ident| $set:expr;)*) => {
        /// Settings of nodes. What is not given is the default of [`peerwork::Config`].
        #[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
        #[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
        pub struct Settings {
            $($(#[$doc])* #[serde(with = $with, skip_serializing_if = "Option::is_none")] pub $name: Option<$type>,)*
        }

        impl Settings {
            /// Puts what is given into a configuration.
            pub fn apply(&self, config: &mut peerwork::Config) {
                $(if let Some($value) = self.$name { let $config = &mut *config; $set; })*
            }
        }
    };
}

settings! {
    /// Time between pings; 0 pings never.
    ping_interval: Duration = "units::span_option" => |config, value| config.ping.interval = (!value.is_zero()).then_some(value);
    /// Time for a ping.
    ping_timeout: Duration = "units::span_option" => |config, value| config.ping.timeout = value;
    /// Pings in a row without an answer after which a connection is closed; 0 never closes it.
    ping_max_unanswered: u64 = "units::size_option" => |config, value| config.ping.max_unanswered = u32::try_from(value).unwrap_or(u32::MAX);
    /// Silence after which a connection is dead.
    idle_timeout: Duration = "units::span_option" => |config, value| config.quic.idle_timeout = value;
    /// Silence after which a keep-alive is sent; 0 sends none.
    keep_alive: Duration = "units::span_option" => |config, value| config.quic.keep_alive = (!value.is_zero()).then_some(value);
    /// Time for a dial.
    dial_timeout: Duration = "units::span_option" => |config, value| config.dial.timeout = value;
    /// Time for one address of a dial.
    attempt_timeout: Duration = "units::span_option" => |config, value| config.dial.attempt_timeout = value;
    /// Bytes on a stream that were not read.
    stream_window: u64 = "units::size_option" => |config, value| config.quic.stream_window = u32::try_from(value).unwrap_or(u32::MAX);
    /// Bytes on a connection that were not read.
    connection_window: u64 = "units::size_option" => |config, value| config.quic.connection_window = u32::try_from(value).unwrap_or(u32::MAX);
    /// Streams that a peer may have open at first.
    initial_streams: u64 = "units::size_option" => |config, value| config.quic.initial_streams = u32::try_from(value).unwrap_or(u32::MAX);
    /// Streams that a peer may have open at most.
    max_streams: u64 = "units::size_option" => |config, value| config.quic.max_streams = u32::try_from(value).unwrap_or(u32::MAX);
    /// Incoming handshakes under way at most.
    pending_in: u64 = "units::size_option" => |config, value| {
        config.limits.pending_in = usize::try_from(value).unwrap_or(usize::MAX);
    };
    /// Outgoing handshakes under way at most; further dials fail.
    pending_out: u64 = "units::size_option" => |config, value| {
        config.limits.pending_out = usize::try_from(value).unwrap_or(usize::MAX);
    };
    /// Established connections to one peer at most.
    per_peer: u64 = "units::size_option" => |config, value| {
        config.limits.per_peer = usize::try_from(value).unwrap_or(usize::MAX);
    };
    /// Bytes written and not acknowledged, of a connection.
    send_window: u64 = "units::size_option" => |config, value| config.quic.send_window = value;
    /// Time for one exchange of identify.
    identify_timeout: Duration = "units::span_option" => |config, value| config.identify.timeout = value;
    /// QUIC tells peers their addresses (1) or not (0, unlike elsewhere, because Wireshark does not know those frames and loses its way
    /// in packets that have them).
    address_discovery: u64 = "units::size_option" => |config, value| config.quic.address_discovery = value != 0;
    /// Established connections at most.
    connections: u64 = "units::size_option" => |config, value| {
        config.limits.established = usize::try_from(value).unwrap_or(usize::MAX);
    };
    /// Incoming handshakes from which on newcomers must prove their address.
    retry_above: u64 = "units::size_option" => |config, value| config.quic.retry_above = usize::try_from(value).unwrap_or(usize::MAX);
}

impl Settings {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Something that nodes do again and again.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Work {
    /// What.
    #[serde(rename = "do")]
    pub deed: Deed,
    /// Who, see [`Who`](crate::plan::Who).
    pub who: String,
    /// To whom. Not for `call`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub to: String,
    /// Time from one to the next. Each time, one node of `who` is drawn, and one of `to`.
    #[serde(with = "units::span")]
    pub every: Duration,
    /// When it begins.
    #[serde(default, with = "units::span")]
    pub from: Duration,
    /// When it ends; at the scenario's duration if not given.
    #[serde(default, with = "units::span_option", skip_serializing_if = "Option::is_none")]
    pub until: Option<Duration>,
    /// Bytes to send or ask for.
    #[serde(default = "size", with = "units::bytes_size")]
    pub size: u64,
    /// For `call`: what the script is told.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub text: String,
}

fn size() -> u64 {
    1024
}

/// What a node can do.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Deed {
    /// Dial.
    Dial,
    /// Close the connections to a peer.
    Hang,
    /// Send a request, and check the answer.
    Ask,
    /// Send bytes on a stream, which the other end checks and acknowledges.
    Send,
    /// Ping.
    Ping,
    /// Dial one peer at the address of another, which must not answer for it.
    Mistake,
    /// Send a request, and give it up at once.
    Cancel,
    /// Send a request that the other end turns down.
    Decline,
    /// Call the application script of the node.
    Call,
}

/// A fault at a set time.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Timed {
    /// When.
    #[serde(with = "units::span")]
    pub at: Duration,
    /// For how long, where it lasts.
    #[serde(with = "units::span", skip_serializing_if = "Duration::is_zero")]
    pub lasting: Duration,
    /// What.
    #[serde(flatten)]
    pub fault: Fault,
}

impl<'de> Deserialize<'de> for Timed {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let mut fields = Fields::deserialize(from)?;
        let at = fields.take("at")?.ok_or_else(|| D::Error::missing_field("at"))?;
        let lasting = fields.take("lasting")?.unwrap_or_default();
        Ok(Self { at, lasting, fault: fields.rest()? })
    }
}

/// Fields of a table of which some belong to its own type and the rest to another. Unlike with `flatten`, unknown ones are refused.
#[derive(Deserialize)]
#[serde(transparent)]
pub(crate) struct Fields(toml::Table);

impl Fields {
    /// Takes a span of time out.
    pub(crate) fn take<E: serde::de::Error>(&mut self, name: &str) -> Result<Option<Duration>, E> {
        let value = self.0.remove(name);
        value
            .map(|value| units::span::deserialize(value).map_err(|error| E::custom(format!("`{name}`: {error}"))))
            .transpose()
    }

    /// What is left.
    pub(crate) fn rest<T: serde::de::DeserializeOwned, E: serde::de::Error>(self) -> Result<T, E> {
        T::deserialize(toml::Value::Table(self.0)).map_err(|error| E::custom(error.message()))
    }
}

/// What can go wrong. `who` is as in [`Who`](crate::plan::Who).
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Fault {
    /// Nothing gets from one side to the other.
    Partition {
        /// One side.
        who: String,
        /// The other.
        to: String,
        /// Only the way from `who` to `to`.
        #[serde(default, rename = "one-way")]
        one_way: bool,
    },
    /// Paths are worse than usual.
    Trouble {
        /// One end.
        who: String,
        /// The other.
        to: String,
        /// Only the way from `who` to `to`.
        #[serde(default, rename = "one-way")]
        one_way: bool,
        /// How much worse.
        trouble: Trouble,
    },
    /// Nodes die without a word; their disks tear. With `lasting`, they start again after that time.
    Crash {
        /// Who.
        who: String,
    },
    /// Nodes shut down in order. With `lasting`, they start again after that time.
    Leave {
        /// Who.
        who: String,
    },
    /// Boxes before nodes forget their mappings.
    Rebind {
        /// Who.
        who: String,
    },
    /// Boxes before nodes restart.
    Reboot {
        /// Who.
        who: String,
        /// They get other external addresses.
        #[serde(default, rename = "new-address")]
        new_address: bool,
    },
    /// Nodes change networks, after a dead window of `lasting`.
    Roam {
        /// Who.
        who: String,
    },
    /// Wall clocks jump.
    Clock {
        /// Who.
        who: String,
        /// Seconds forward, or back if negative.
        seconds: i64,
    },
    /// Nodes sleep for `lasting`.
    Suspend {
        /// Who.
        who: String,
    },
    /// Sockets take nothing for `lasting`.
    Block {
        /// Who.
        who: String,
    },
    /// Sockets die; nodes listen anew.
    LoseSocket {
        /// Who.
        who: String,
    },
    /// Nodes misbehave for `lasting`.
    Turn {
        /// Who.
        who: String,
        /// How.
        conduct: Conduct,
    },
}

impl Fault {
    /// The nodes that it is about, as they are written.
    pub fn parties(&self) -> Vec<&str> {
        match self {
            Self::Partition { who, to, .. } | Self::Trouble { who, to, .. } => vec![who, to],
            Self::Crash { who }
            | Self::Leave { who }
            | Self::Rebind { who }
            | Self::Reboot { who, .. }
            | Self::Roam { who }
            | Self::Clock { who, .. }
            | Self::Suspend { who }
            | Self::Block { who }
            | Self::LoseSocket { who }
            | Self::Turn { who, .. } => vec![who],
        }
    }
}

/// What must be true of results. Exactly one of `count`, `ratio` and `quantile`.
#[derive(Clone, Default, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Expect {
    /// A counter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<String>,
    /// A counter, divided by `of`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ratio: Option<String>,
    /// For `ratio`: another counter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub of: Option<String>,
    /// A histogram, at the percentile `at`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quantile: Option<String>,
    /// For `quantile`: per cent, such as 99 or 99.9.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<f64>,
    /// Lowest value that will do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at_least: Option<f64>,
    /// Highest value that will do. For latencies: milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at_most: Option<f64>,
}
