//! Populations of NATs.

use std::fmt;

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, value::MapAccessDeserializer},
};

use super::{NatError, NatModel};
use crate::dice::{Dice, Domain};

/// A model and how common it is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct NatShare {
    /// The model.
    pub model: NatModel,
    /// Its share of the population, in parts per million.
    pub weight_ppm: u32,
}

/// A population of NATs. In files, `wild`, one model (its [name](NatModel::named) or a table), or a list of [`NatShare`]s
/// whose weights add up to a million. The first is what a decision of 0 picks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NatMix {
    shares: Vec<NatShare>,
}

impl Serialize for NatMix {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match &self.shares[..] {
            [NatShare { model, weight_ppm: 1_000_000 }] => Serialize::serialize(model, to),
            _ if *self == Self::wild() => to.serialize_str("wild"),
            shares => Serialize::serialize(shares, to),
        }
    }
}

impl<'de> Deserialize<'de> for NatMix {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl<'de> de::Visitor<'de> for Visitor {
            type Value = NatMix;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`wild`, a NAT model, or a list such as [{ model = \"symmetric\", weight-ppm = 1000000 }]")
            }

            fn visit_str<E: de::Error>(self, name: &str) -> Result<NatMix, E> {
                if name == "wild" {
                    return Ok(NatMix::wild());
                }
                NatModel::named(name).map(NatMix::only).map_err(|error| E::custom(format!("{error}, or `wild`")))
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<NatMix, A::Error> {
                <NatModel as Deserialize>::deserialize(MapAccessDeserializer::new(map)).map(NatMix::only)
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<NatMix, A::Error> {
                let mut shares = Vec::new();
                while let Some(share) = seq.next_element()? {
                    shares.push(share);
                }
                Ok(NatMix { shares })
            }
        }

        from.deserialize_any(Visitor)
    }
}

impl Default for NatMix {
    /// Nothing before anybody.
    fn default() -> Self {
        Self::only(NatModel::open())
    }
}

/// Tells this draw of [`Domain::Node`] from the others.
const DRAW: u64 = u64::from_le_bytes(*b"nat kind");

impl NatMix {
    /// A population, from models and their shares in parts per million.
    pub fn new(shares: impl IntoIterator<Item = (NatModel, u32)>) -> Result<Self, NatError> {
        let shares = shares.into_iter().map(|(model, weight_ppm)| NatShare { model, weight_ppm }).collect();
        let mix = Self { shares };
        mix.validate()?;
        Ok(mix)
    }

    /// Everybody behind the same model.
    pub fn only(model: NatModel) -> Self {
        Self { shares: vec![NatShare { model, weight_ppm: 1_000_000 }] }
    }

    /// The default population of hosts that are not public: 20 % symmetric, and of the others 30 % with lax filters. With it
    /// 68.8 % of pairs connect in fixed roles and 73.6 % in alternating ones, which is within what was measured for DCUtR in
    /// the wild, 70 ± 7.1 % (Trautwein et al., arXiv 2510.27500).
    pub fn wild() -> Self {
        let share = |model, weight_ppm| NatShare { model, weight_ppm };
        Self {
            shares: vec![
                share(NatModel::full_cone(), 90_000),
                share(NatModel::address_restricted(), 150_000),
                share(NatModel::port_restricted(), 460_000),
                share(NatModel::carrier_grade(), 60_000),
                share(NatModel::firewall(), 40_000),
                share(NatModel::symmetric(), 200_000),
            ],
        }
    }

    /// Whether the weights add up and all models are valid. For mixes from files.
    pub fn validate(&self) -> Result<(), NatError> {
        let sum = self.shares.iter().map(|share| u64::from(share.weight_ppm)).sum();
        if sum != 1_000_000 {
            return Err(NatError::Weights(sum));
        }
        self.shares.iter().try_for_each(|share| share.model.validate())
    }

    /// The models and their shares.
    pub fn shares(&self) -> &[NatShare] {
        &self.shares
    }

    /// The model of the site named by `a` and `b`.
    pub fn pick(&self, dice: &mut Dice, a: u64, b: u64) -> NatModel {
        let mut at = dice.below(Domain::Node, a, b, DRAW, 1_000_000);
        for share in &self.shares {
            let weight = u64::from(share.weight_ppm);
            if at < weight {
                return share.model.clone();
            }
            at -= weight;
        }
        panic!("the weights of a NAT mix add up to less than a million: validate mixes from files")
    }
}
