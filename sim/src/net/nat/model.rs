//! What kinds of NAT there are, as configuration.

use core::{fmt, time::Duration};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, value::MapAccessDeserializer},
};

/// For which packets of an internal endpoint one mapping serves (RFC 4787, section 4.1). Ordered from the friendliest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mapping {
    /// Endpoint-independent: all packets, whatever their destination.
    #[default]
    Eim,
    /// Address-dependent: packets to one address.
    Adm,
    /// Address- and port-dependent: packets to one address and port. With random ports, a "symmetric" NAT.
    Apdm,
}

/// Whose packets a NAT lets in (RFC 4787, section 5). Ordered from the friendliest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Filtering {
    /// Endpoint-independent: anybody's.
    Eif,
    /// Address-dependent: those of addresses that have been sent to.
    Adf,
    /// Address- and port-dependent: those of endpoints that have been sent to.
    #[default]
    Apdf,
}

/// To what the filter's memory of destinations belongs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// To the internal endpoint: what it sent through one mapping opens all of its mappings.
    #[default]
    Endpoint,
    /// To the mapping through which was sent.
    Mapping,
}

/// How a new mapping gets its external port.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Alloc {
    /// The internal port, if it is free; else see [`NatModel::on_conflict`].
    #[default]
    Preserve,
    /// The internal port, even if others use it, as long as each of them talks to other remote endpoints: it is by those that
    /// packets coming in are told apart. If the remote endpoint is taken as well, see [`NatModel::on_conflict`].
    Overload,
    /// Each new mapping's port lies this far above the last one's.
    Sequential {
        /// At least 1.
        stride: u16,
    },
    /// Any free port.
    Random,
    /// Each internal address, a carrier's subscriber, has a block of ports of its own, used in order.
    Block {
        /// The first port of the first block.
        base: u16,
        /// Ports in a block, at least 1.
        len: u16,
    },
}

/// What happens if [`Alloc::Preserve`] or [`Alloc::Overload`] cannot have the internal port.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Conflict {
    /// The next free port.
    #[default]
    Next,
    /// A random free port.
    Random,
    /// This internal endpoint is treated as by a symmetric NAT: a mapping for this destination alone, with a random port.
    Symmetric,
}

/// What happens to packets from the inside to an external address of the NAT's own (RFC 4787, section 6).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Hairpin {
    /// They are dropped.
    #[default]
    Off,
    /// They come back in with the sender's external endpoint as their source, as RFC 4787 demands.
    ExternalSource,
    /// They come back in with the sender's internal endpoint as their source.
    InternalSource,
}

/// What a NAT does that has no mapping or no port left for a new one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnFull {
    /// The packet is dropped.
    #[default]
    Drop,
    /// The mapping that has been idle for longest makes room.
    EvictLru,
}

/// What happens to packets from outside that nobody inside has asked for: without a mapping, or filtered.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unsolicited {
    /// They vanish.
    #[default]
    Drop,
    /// Their sender is told by ICMP.
    IcmpUnreachable,
    /// They reach the router itself, which then thinks that it talks with that sender on that port, as many home routers do:
    /// for [`NatModel::t_unreplied`], packets to that sender get another port. A firewall has no ports to lose and drops.
    PoisonPort,
}

/// Which of several external addresses a mapping gets (RFC 4787, section 4.1, "IP address pooling").
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pooling {
    /// All mappings of an internal address share one.
    #[default]
    Paired,
    /// Any.
    Arbitrary,
}

/// What a box does to packets.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Translates endpoints, and filters.
    #[default]
    Translate,
    /// Translates between IPv6 inside and IPv4 outside (RFC 6146), which appears inside under `64:ff9b::/96` (RFC 6052).
    /// Packets to other IPv6 addresses pass untouched in both directions.
    Nat64,
    /// Filters only. With [`Filtering::Eif`] that is no box at all.
    Firewall,
    /// Lets no UDP through.
    Blocked,
}

/// What internal endpoints get after a reboot, once they send again.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rebind {
    /// The external endpoint that they had, if the address is still there.
    #[default]
    Keep,
    /// Another one.
    New,
}

/// The behaviour of one NAT. In files, the [name](Self::named) of a model or a table, in which durations are written like
/// `30s` and what is not given is as in [`Default`], a port-restricted cone.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(remote = "Self", default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct NatModel {
    /// What the box does.
    pub kind: Kind,
    /// For which packets one mapping serves.
    pub mapping: Mapping,
    /// Whose packets come in.
    pub filtering: Filtering,
    /// To what the filter's memory belongs.
    pub scope: Scope,
    /// How ports are chosen.
    pub alloc: Alloc,
    /// What happens when the wanted port is taken.
    pub on_conflict: Conflict,
    /// How long a mapping, or a hole in the filter, lives after its last packet when nothing has come back. RFC 4787 asks for
    /// at least two minutes; 20 s to 300 s are found.
    #[serde(with = "crate::units::span")]
    pub t_unreplied: Duration,
    /// The same once traffic went both ways. Not less than `t_unreplied`.
    #[serde(with = "crate::units::span")]
    pub t_stream: Duration,
    /// Whether packets coming in prolong lives too, and not only packets going out.
    pub inbound_refresh: bool,
    /// What happens to packets to the NAT's own addresses.
    pub hairpin: Hairpin,
    /// Mappings at a time, those of [`Nat::map_port`](super::Nat::map_port) included.
    pub max_mappings: u32,
    /// What happens when there are no more.
    pub on_full: OnFull,
    /// What happens to packets that nobody has asked for.
    pub unsolicited: Unsolicited,
    /// Which external address a mapping gets.
    pub pooling: Pooling,
    /// What internal endpoints get after a reboot.
    pub rebind: Rebind,
}

impl Default for NatModel {
    fn default() -> Self {
        Self {
            kind: Kind::Translate,
            mapping: Mapping::Eim,
            filtering: Filtering::Apdf,
            scope: Scope::Endpoint,
            alloc: Alloc::Preserve,
            on_conflict: Conflict::Next,
            t_unreplied: Duration::from_secs(30),
            t_stream: Duration::from_secs(120),
            inbound_refresh: true,
            hairpin: Hairpin::Off,
            max_mappings: 16_384,
            on_full: OnFull::Drop,
            unsolicited: Unsolicited::Drop,
            pooling: Pooling::Paired,
            rebind: Rebind::Keep,
        }
    }
}

/// Names of models, for use in files: see [`NatModel::named`].
pub const NAMES: [&str; 10] = [
    "open",
    "firewall",
    "full-cone",
    "address-restricted",
    "port-restricted",
    "port-restricted-poisoning",
    "symmetric",
    "carrier-grade",
    "blocked",
    "nat64",
];

impl NatModel {
    /// A public address, no filter.
    pub fn open() -> Self {
        Self { kind: Kind::Firewall, filtering: Filtering::Eif, ..Self::default() }
    }

    /// A public address behind a stateful firewall, which lets answers in.
    pub fn firewall() -> Self {
        Self { kind: Kind::Firewall, ..Self::default() }
    }

    /// EIM and EIF, with hairpinning.
    pub fn full_cone() -> Self {
        Self { filtering: Filtering::Eif, hairpin: Hairpin::ExternalSource, ..Self::default() }
    }

    /// EIM and ADF.
    pub fn address_restricted() -> Self {
        Self { filtering: Filtering::Adf, ..Self::default() }
    }

    /// EIM and APDF, the common home router.
    pub fn port_restricted() -> Self {
        Self::default()
    }

    /// The same, but see [`Unsolicited::PoisonPort`]. Two of these find each other only if neither's first packet arrives before
    /// the other's first packet has left.
    pub fn port_restricted_poisoning() -> Self {
        Self { unsolicited: Unsolicited::PoisonPort, ..Self::default() }
    }

    /// APDM and APDF with random ports.
    pub fn symmetric() -> Self {
        Self { mapping: Mapping::Apdm, scope: Scope::Mapping, alloc: Alloc::Random, ..Self::default() }
    }

    /// A carrier's: EIM and APDF, a block of 512 ports for each subscriber, hairpinning between them, long timeouts.
    pub fn carrier_grade() -> Self {
        Self {
            alloc: Alloc::Block { base: 1024, len: 512 },
            hairpin: Hairpin::ExternalSource,
            t_unreplied: Duration::from_secs(60),
            t_stream: Duration::from_secs(300),
            max_mappings: 65_536,
            ..Self::default()
        }
    }

    /// No UDP.
    pub fn blocked() -> Self {
        Self { kind: Kind::Blocked, ..Self::default() }
    }

    /// IPv6 inside, IPv4 outside, as RFC 6146 recommends: EIM and ADF, hairpinning, five minutes.
    pub fn nat64() -> Self {
        Self {
            kind: Kind::Nat64,
            filtering: Filtering::Adf,
            alloc: Alloc::Random,
            hairpin: Hairpin::ExternalSource,
            t_unreplied: Duration::from_secs(120),
            t_stream: Duration::from_secs(300),
            max_mappings: 65_536,
            ..Self::default()
        }
    }

    /// The model of this name, one of [`NAMES`].
    pub fn named(name: &str) -> Result<Self, NatError> {
        Ok(match name {
            "open" => Self::open(),
            "firewall" => Self::firewall(),
            "full-cone" => Self::full_cone(),
            "address-restricted" => Self::address_restricted(),
            "port-restricted" => Self::port_restricted(),
            "port-restricted-poisoning" => Self::port_restricted_poisoning(),
            "symmetric" => Self::symmetric(),
            "carrier-grade" => Self::carrier_grade(),
            "blocked" => Self::blocked(),
            "nat64" => Self::nat64(),
            _ => return Err(NatError::Name(name.to_owned())),
        })
    }

    /// Whether the values make sense together.
    pub fn validate(&self) -> Result<(), NatError> {
        if self.t_unreplied.is_zero() || self.t_stream < self.t_unreplied {
            return Err(NatError::Timeouts { unreplied: self.t_unreplied, stream: self.t_stream });
        }
        if self.max_mappings == 0 || self.max_mappings > MOST_MAPPINGS {
            return Err(NatError::Mappings(self.max_mappings));
        }
        match self.alloc {
            Alloc::Sequential { stride: 0 } => Err(NatError::Stride),
            Alloc::Block { base, len } if base == 0 || len == 0 || u32::from(base) + u32::from(len) > 1 << 16 => {
                Err(NatError::Block { base, len })
            }
            _ => Ok(()),
        }
    }

    /// How the box looks from outside; `None` if nothing gets through. One that overloads ports looks endpoint-independent,
    /// until two internal endpoints with one port talk to the same remote endpoint.
    pub fn behaviour(&self) -> Option<Behaviour> {
        let overload = self.alloc == Alloc::Overload;
        match self.kind {
            Kind::Blocked => None,
            Kind::Firewall => Some(Behaviour { translates: false, mapping: Mapping::Eim, filtering: self.filtering }),
            Kind::Translate | Kind::Nat64 => Some(Behaviour {
                translates: true,
                mapping: if overload { Mapping::Eim } else { self.mapping },
                filtering: self.filtering,
            }),
        }
    }

    /// A short name of the behaviour: see [`Behaviour::class`], and `BLOCKED`.
    pub fn class(&self) -> &'static str {
        self.behaviour().map_or("BLOCKED", Behaviour::class)
    }
}

/// More mappings than 64 external addresses have ports for.
pub(super) const MOST_MAPPINGS: u32 = 1 << 22;

/// How a box, or several behind one another, looks from outside.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Behaviour {
    /// Whether endpoints look different outside.
    pub translates: bool,
    /// As for [`NatModel`]; [`Mapping::Eim`] where nothing is translated.
    pub mapping: Mapping,
    /// As for [`NatModel`].
    pub filtering: Filtering,
}

impl Behaviour {
    /// No box at all.
    pub const OPEN: Self = Self { translates: false, mapping: Mapping::Eim, filtering: Filtering::Eif };

    /// This one behind another: EIM only if both are, and the stricter filter wins.
    #[must_use]
    pub fn behind(self, outer: Self) -> Self {
        Self {
            translates: self.translates || outer.translates,
            mapping: self.mapping.max(outer.mapping),
            filtering: self.filtering.max(outer.filtering),
        }
    }

    /// All boxes between a host and the outside, from the host outwards; `None` if one of them lets nothing through.
    pub fn of(path: &[NatModel]) -> Option<Self> {
        path.iter().try_fold(Self::OPEN, |inner, outer| Some(inner.behind(outer.behaviour()?)))
    }

    /// Whether mappings are endpoint-independent: peers can be told an address that is good for everybody.
    pub fn eim(self) -> bool {
        self.mapping == Mapping::Eim
    }

    /// Whether packets get in from a port that was never sent to, if only the address was.
    pub fn lax(self) -> bool {
        self.filtering != Filtering::Apdf
    }

    /// `OPEN`; `FW`, or `FW/ADF` if the filter looks at addresses only; or mapping and filtering, such as `EIM/ADF`.
    pub fn class(self) -> &'static str {
        match (self.translates, self.mapping, self.filtering) {
            (false, _, Filtering::Eif) => "OPEN",
            (false, _, Filtering::Adf) => "FW/ADF",
            (false, _, Filtering::Apdf) => "FW",
            (true, Mapping::Eim, Filtering::Eif) => "EIM/EIF",
            (true, Mapping::Eim, Filtering::Adf) => "EIM/ADF",
            (true, Mapping::Eim, Filtering::Apdf) => "EIM/APDF",
            (true, Mapping::Adm, Filtering::Eif) => "ADM/EIF",
            (true, Mapping::Adm, Filtering::Adf) => "ADM/ADF",
            (true, Mapping::Adm, Filtering::Apdf) => "ADM/APDF",
            (true, Mapping::Apdm, Filtering::Eif) => "APDM/EIF",
            (true, Mapping::Apdm, Filtering::Adf) => "APDM/ADF",
            (true, Mapping::Apdm, Filtering::Apdf) => "APDM/APDF",
        }
    }
}

impl fmt::Display for Behaviour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.class())
    }
}

/// What is wrong with a [`NatModel`], a [`NatMix`](super::NatMix), or a NAT's addresses.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NatError {
    /// Timeouts that cannot be.
    #[error(
        "a NAT needs t_unreplied > 0 and t_stream >= t_unreplied, not {unreplied:?} and {stream:?}: raise t_stream"
    )]
    Timeouts {
        /// As given.
        unreplied: Duration,
        /// As given.
        stream: Duration,
    },
    /// No room for mappings, or absurdly much.
    #[error("max_mappings is {0}: give a number from 1 to {MOST_MAPPINGS}")]
    Mappings(u32),
    /// Sequential ports that do not move.
    #[error("sequential allocation needs a stride of at least 1")]
    Stride,
    /// No block of ports fits.
    #[error("no block of {len} ports fits between {base} and 65535: lower base or len; both must be at least 1")]
    Block {
        /// As given.
        base: u16,
        /// As given.
        len: u16,
    },
    /// A translating NAT without an external address.
    #[error("a translating NAT needs at least one external address (IPv4 for NAT64)")]
    NoAddress,
    /// No such model.
    #[error("there is no NAT model {0:?}: take one of {known}", known = NAMES.join(", "))]
    Name(String),
    /// Weights that are no distribution.
    #[error("the weights of a NAT mix add up to {0} millionths: make it 1000000")]
    Weights(u64),
}

impl Serialize for NatModel {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let name = NAMES.iter().find(|name| Self::named(name).is_ok_and(|model| model == *self));
        match name {
            Some(name) => to.serialize_str(name),
            None => Self::serialize(self, to),
        }
    }
}

impl<'de> Deserialize<'de> for NatModel {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl<'de> de::Visitor<'de> for Visitor {
            type Value = NatModel;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a NAT model, such as `port-restricted`, or a table with its behaviour")
            }

            fn visit_str<E: de::Error>(self, name: &str) -> Result<NatModel, E> {
                NatModel::named(name).map_err(E::custom)
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<NatModel, A::Error> {
                NatModel::deserialize(MapAccessDeserializer::new(map))
            }
        }

        from.deserialize_any(Visitor)
    }
}
