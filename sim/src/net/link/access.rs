//! Access links: what lies between a place and the backbone.

use std::{fmt, time::Duration};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, value::MapAccessDeserializer},
};

use super::{Loss, Queue, Rate, is_default};
use crate::{
    dice::Dice,
    net::region::{nearest, weighted},
};

/// An access link, the same in both directions but for its rates. Written as the name of one of the [`PROFILES`], or as
/// a table of these fields with times like `20ms`. The default is the ideal link, which does nothing.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(remote = "Self", deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Access {
    /// One way, on average.
    #[serde(with = "crate::units::span", skip_serializing_if = "is_default")]
    pub delay: Duration,
    /// Up to how much a packet takes less or more, evenly distributed. Counts up to `delay`.
    #[serde(with = "crate::units::span", skip_serializing_if = "is_default")]
    pub jitter: Duration,
    /// Loss in each direction. The two lose independently of each other.
    #[serde(skip_serializing_if = "is_default")]
    pub loss: Loss,
    /// From the place outwards.
    #[serde(skip_serializing_if = "is_default")]
    pub up: Rate,
    /// Towards the place.
    #[serde(skip_serializing_if = "is_default")]
    pub down: Rate,
}

/// Links with a name. Delay, jitter, mean loss and rate are those of the simulator's design, where it gives no rate
/// there is no limit; the datacentre, the lengths of bursts, and the buffers are judgement.
pub const PROFILES: &[(&str, Access)] = &[
    ("ideal", profile(0, 0, Loss::independent(0), 0)),
    ("datacentre", profile(50, 0, Loss::independent(0), 1_000_000)),
    ("fibre", profile(20_000, 0, Loss::independent(1_000), 50_000)),
    ("wifi", profile(5_000, 2_000, Loss { mean_ppm: 1_000, burst: 2 }, 0)),
    ("bad-wifi", profile(40_000, 15_000, Loss { mean_ppm: 20_000, burst: 4 }, 20_000)),
    ("4g", profile(25_000, 8_000, Loss { mean_ppm: 5_000, burst: 3 }, 0)),
    ("3g", with_buffer(profile(100_000, 30_000, Loss { mean_ppm: 20_000, burst: 4 }, 2_000), 125_000)),
    ("leo", profile(40_000, 7_000, Loss { mean_ppm: 10_000, burst: 5 }, 0)),
    ("geo", with_buffer(profile(300_000, 20_000, Loss { mean_ppm: 5_000, burst: 2 }, 25_000), 1_000_000)),
];

const fn profile(delay_us: u64, jitter_us: u64, loss: Loss, kbit: u32) -> Access {
    Access {
        delay: Duration::from_micros(delay_us),
        jitter: Duration::from_micros(jitter_us),
        loss,
        up: Rate::kbit(kbit),
        down: Rate::kbit(kbit),
    }
}

const fn with_buffer(mut access: Access, buffer: u32) -> Access {
    access.up.buffer = buffer;
    access.down.buffer = buffer;
    access
}

/// No access link has this name.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("there is no access link `{name}`; did you mean {}?", near.join(" or "))]
pub struct UnknownAccess {
    /// What was asked for.
    pub name: String,
    /// Names that look like it, the nearest first. Never empty.
    pub near: Vec<String>,
}

impl Access {
    /// No delay, no loss, no limit.
    pub fn ideal() -> Self {
        Self::default()
    }

    /// The profile of this name.
    pub fn named(name: &str) -> Result<Self, UnknownAccess> {
        let profile = PROFILES.iter().find(|(known, _)| *known == name);
        profile.map(|(_, access)| *access).ok_or_else(|| UnknownAccess {
            name: name.to_owned(),
            near: nearest(name, PROFILES.iter().map(|(known, _)| *known)),
        })
    }

    /// Its name, if it is as one of the [`PROFILES`].
    pub fn name(&self) -> Option<&'static str> {
        PROFILES.iter().find(|(_, profile)| profile == self).map(|(name, _)| *name)
    }

    /// Empty queues for the uplink and the downlink.
    pub fn queues(&self) -> (Queue, Queue) {
        (Queue::new(self.up), Queue::new(self.down))
    }
}

impl Serialize for Access {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self.name() {
            Some(name) => to.serialize_str(name),
            // The inherent function that `remote = "Self"` has made.
            None => Self::serialize(self, to),
        }
    }
}

impl<'de> Deserialize<'de> for Access {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Access;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(
                    "the name of an access link, such as `fibre`, or a table with delay, jitter, loss, up, down",
                )
            }

            fn visit_str<E: de::Error>(self, name: &str) -> Result<Access, E> {
                Access::named(name).map_err(E::custom)
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Access, A::Error> {
                Access::deserialize(MapAccessDeserializer::new(map))
            }
        }

        from.deserialize_any(Visitor)
    }
}

/// Access links by share. Written as `mixed`, as one access link, or as a list of [shares](AccessShare).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AccessMix(Vec<AccessShare>);

/// How many of all places have this link.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccessShare {
    /// The link.
    pub access: Access,
    /// Of whatever the sum of all shares is.
    pub share: u32,
}

impl From<Access> for AccessMix {
    fn from(access: Access) -> Self {
        Self::of([(access, 1)])
    }
}

impl Default for AccessMix {
    /// Ideal links alone.
    fn default() -> Self {
        Access::ideal().into()
    }
}

impl AccessMix {
    /// What peers of an open network have, in per cent. A judgement: mostly fixed lines with and without Wi-Fi,
    /// servers, some phones.
    pub fn mixed() -> Self {
        let shares = [
            ("fibre", 35),
            ("datacentre", 15),
            ("wifi", 30),
            ("bad-wifi", 5),
            ("4g", 10),
            ("3g", 1),
            ("leo", 3),
            ("geo", 1),
        ];
        Self::of(shares.map(|(name, share)| (Access::named(name).expect("a profile"), share)))
    }

    /// These links with these shares. The first should be a benign one.
    pub fn of(shares: impl IntoIterator<Item = (Access, u32)>) -> Self {
        Self(shares.into_iter().map(|(access, share)| AccessShare { access, share }).collect())
    }

    /// The shares.
    pub fn shares(&self) -> &[AccessShare] {
        &self.0
    }

    /// The link of the place that `label` names in draws; the ideal one if all shares are 0.
    pub fn pick(&self, dice: &mut Dice, label: u64) -> Access {
        let shares = self.0.iter().map(|share| (share.access, share.share));
        weighted(dice, label, u64::from_le_bytes(*b"access\0\0"), shares).unwrap_or_default()
    }
}

impl Serialize for AccessMix {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match &self.0[..] {
            [AccessShare { access, share: 1 }] => Serialize::serialize(access, to),
            _ if *self == Self::mixed() => to.serialize_str("mixed"),
            shares => Serialize::serialize(shares, to),
        }
    }
}

impl<'de> Deserialize<'de> for AccessMix {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl<'de> de::Visitor<'de> for Visitor {
            type Value = AccessMix;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`mixed`, an access link, or a list such as [{ access = \"fibre\", share = 3 }]")
            }

            fn visit_str<E: de::Error>(self, name: &str) -> Result<AccessMix, E> {
                if name == "mixed" {
                    return Ok(AccessMix::mixed());
                }
                Access::named(name).map(AccessMix::from).map_err(E::custom)
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<AccessMix, A::Error> {
                Access::deserialize(MapAccessDeserializer::new(map)).map(AccessMix::from)
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<AccessMix, A::Error> {
                let mut shares = Vec::new();
                while let Some(share) = seq.next_element::<AccessShare>()? {
                    shares.push(share);
                }
                if shares.iter().all(|share| share.share == 0) {
                    return Err(de::Error::custom("at least one access link must have a share above 0"));
                }
                Ok(AccessMix(shares))
            }
        }

        from.deserialize_any(Visitor)
    }
}
