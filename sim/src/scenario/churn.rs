//! Churn: how nodes come and go.
//!
//! Sessions follow a Weibull distribution, as measured in many peer-to-peer networks (Stutzbach and Rejaie, IMC 2006). The preset
//! `ipfs` fits a crawl of the IPFS network of spring 2022 (ProbeLab): half of the sessions end within 2 h, 80 % within 8 h.

use std::{fmt, time::Duration};

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{self, value::MapAccessDeserializer},
};

use crate::{
    dice::{Dice, Domain},
    units,
};

/// How nodes of a group come and go. In files, the word `ipfs` or `wild`, or a table.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(into = "Model")]
pub struct Churn(pub Model);

/// The parameters.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Model {
    /// Shape of the Weibull distribution of sessions; below 1, those who have stayed long stay longer.
    pub shape: f64,
    /// Its scale: 63 % of sessions are shorter.
    #[serde(with = "units::span")]
    pub scale: Duration,
    /// Mean absence between sessions, exponentially distributed.
    #[serde(with = "units::span")]
    pub absence: Duration,
    /// Of a hundred sessions, so many end in an orderly way; the others in a crash.
    pub graceful: u32,
    /// Who there is at all.
    pub population: Population,
    /// All times are divided by this.
    pub speed: f64,
}

/// Kinds of nodes in a population, in thousandths. What is missing to 1000 is recurring.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Population {
    /// Known to others, but never there.
    pub never: u32,
    /// There for one session.
    pub once: u32,
    /// Always there.
    pub always: u32,
}

impl Population {
    /// A measured week of IPFS: 37.7 % never reachable, 21 % one-off, 10.5 % always on, the rest recurring.
    pub fn wild() -> Self {
        Self { never: 377, once: 210, always: 105 }
    }
}

impl Default for Model {
    fn default() -> Self {
        Self {
            shape: 0.61,
            scale: Duration::from_secs(13_176),
            absence: Duration::from_secs(3_600),
            graceful: 30,
            population: Population::default(),
            speed: 1.0,
        }
    }
}

impl Churn {
    /// Sessions as in IPFS, of a population without those who are never there.
    pub fn ipfs() -> Self {
        Self(Model::default())
    }

    /// Sessions as in IPFS, of a whole measured week's population.
    pub fn wild() -> Self {
        Self(Model { population: Population::wild(), ..Model::default() })
    }
}

impl<'de> Deserialize<'de> for Churn {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Churn;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`ipfs`, `wild`, or a table such as { speed = 100.0 }")
            }

            fn visit_str<E: de::Error>(self, name: &str) -> Result<Churn, E> {
                match name {
                    "ipfs" => Ok(Churn::ipfs()),
                    "wild" => Ok(Churn::wild()),
                    _ => Err(E::invalid_value(de::Unexpected::Str(name), &self)),
                }
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Churn, A::Error> {
                Model::deserialize(MapAccessDeserializer::new(map)).map(Churn)
            }
        }

        from.deserialize_any(Visitor)
    }
}

impl From<Churn> for Model {
    fn from(churn: Churn) -> Self {
        churn.0
    }
}

impl Churn {
    /// Whether the parameters make sense.
    pub fn validate(&self) -> Result<(), String> {
        let model = &self.0;
        let positive = |name: &str, value: f64, most: f64| {
            if value > 0.0 && value <= most {
                Ok(())
            } else {
                Err(format!("`churn.{name}` is {value}, but must be above 0 and at most {most}"))
            }
        };
        positive("shape", model.shape, 20.0)?;
        positive("speed", model.speed, 1e6)?;
        positive("scale", model.scale.as_secs_f64(), 1e9)?;
        if model.graceful > 100 {
            return Err(format!("`churn.graceful` is {}, but is per cent: at most 100", model.graceful));
        }
        let Population { never, once, always } = model.population;
        if u64::from(never) + u64::from(once) + u64::from(always) > 1000 {
            return Err("the shares of `churn.population` are thousandths: they add up to at most 1000".into());
        }
        Ok(())
    }
}

/// What a node does at the end or beginning of a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Turn {
    /// It starts.
    Up,
    /// It shuts down in order.
    Leaves,
    /// It dies.
    Crashes,
}

/// Sessions of one node at most, whatever the parameters.
const SESSIONS: u64 = 10_000;

impl Churn {
    /// The comings and goings of one node from `start` to `end`.
    pub fn sessions(&self, dice: &mut Dice, node: u64, start: Duration, end: Duration) -> Vec<(Duration, Turn)> {
        let model = &self.0;
        let kind = u32::try_from(dice.below(Domain::Churn, node, 0, 0, 1000)).unwrap_or(0);
        let Population { never, once, always } = model.population;
        if (1000 - always..1000).contains(&kind) {
            return vec![(start, Turn::Up)];
        }
        // The benign draw is a node that is there.
        let is_never = kind >= 1000 - always - never;
        if is_never {
            return Vec::new();
        }
        let is_once = kind >= 1000 - always - never - once;
        let mut turns = Vec::new();
        let mut at = start;
        for n in 1..SESSIONS {
            if at >= end {
                break;
            }
            turns.push((at, Turn::Up));
            at += self.session(dice, node, n);
            if at >= end {
                break;
            }
            let graceful = dice.below(Domain::Churn, node, 2, n, 100) < u64::from(model.graceful);
            turns.push((at, if graceful { Turn::Leaves } else { Turn::Crashes }));
            if is_once {
                break;
            }
            let unit = dice.unit(Domain::Churn, node, 3, n);
            let absence = -libm::log(1.0 - unit) * model.absence.as_secs_f64() / model.speed;
            at += Duration::try_from_secs_f64(absence.max(0.001)).unwrap_or(end);
        }
        turns
    }

    /// The length of a session: the inverse of the Weibull distribution.
    fn session(&self, dice: &mut Dice, node: u64, n: u64) -> Duration {
        let model = &self.0;
        let unit = dice.unit(Domain::Churn, node, 1, n);
        // The benign draw is the longest session.
        let seconds =
            model.scale.as_secs_f64() * libm::pow(-libm::log(if unit == 0.0 { 1e-9 } else { unit }), 1.0 / model.shape);
        Duration::try_from_secs_f64((seconds / model.speed).clamp(0.01, 1e9)).unwrap_or(Duration::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_sessions_end_in_two_hours_and_four_fifths_in_eight() {
        let (churn, mut dice) = (Churn::ipfs(), Dice::from_seed(1));
        let mut lengths: Vec<u64> = (0..20_000).map(|n| churn.session(&mut dice, n, 1).as_secs()).collect();
        lengths.sort_unstable();
        let hours = |share: usize| lengths[lengths.len() * share / 100] as f64 / 3600.0;
        assert!((1.9..2.1).contains(&hours(50)), "{}", hours(50));
        assert!((7.6..8.4).contains(&hours(80)), "{}", hours(80));
    }

    #[test]
    fn a_population_has_its_kinds_in_their_shares_and_their_turns_alternate() {
        let (churn, mut dice) = (Churn::wild(), Dice::from_seed(1));
        let week = Duration::from_secs(7 * 86_400);
        let mut kinds = [0; 4];
        let mut graceful = (0, 0);
        for node in 0..10_000 {
            let turns = churn.sessions(&mut dice, node, Duration::ZERO, week);
            for (n, (at, turn)) in turns.iter().enumerate() {
                assert_eq!(n % 2 == 0, *turn == Turn::Up);
                assert!(n == 0 || turns[n - 1].0 < *at);
                graceful.0 += u32::from(*turn == Turn::Leaves);
                graceful.1 += u32::from(*turn != Turn::Up);
            }
            kinds[turns.len().min(3)] += 1;
        }
        // Never; always (one start and no end) or a session longer than the week; once; recurring.
        assert!((3_650..3_890).contains(&kinds[0]), "{kinds:?}");
        assert!((1_000..1_300).contains(&kinds[1]), "{kinds:?}");
        assert!((1_900..2_300).contains(&kinds[2]), "{kinds:?}");
        assert!((f64::from(graceful.0) / f64::from(graceful.1) - 0.3).abs() < 0.02, "{graceful:?}");
    }
}
