//! Durations as people write them, for `#[serde(with = "..")]`: `250ms`, or a whole number of seconds.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serializer, de};

/// From the longest to the shortest.
const UNITS: [(&str, u64); 6] = [
    ("h", 3_600_000_000_000),
    ("min", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

fn read(text: &str) -> Option<Duration> {
    let at = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(at);
    let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit.trim())?;
    Some(Duration::from_nanos(number.parse::<u64>().ok()?.checked_mul(*factor)?))
}

fn write(span: Duration) -> String {
    let nanos = span.as_nanos();
    let (unit, factor) =
        UNITS[2..].iter().find(|(_, factor)| nanos.is_multiple_of(u128::from(*factor))).unwrap_or(&UNITS[5]);
    format!("{}{unit}", nanos / u128::from(*factor))
}

struct Visitor;

impl de::Visitor<'_> for Visitor {
    type Value = Duration;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a whole number with ns, us, ms, s, min or h behind it, such as `250ms`")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Duration, E> {
        read(text).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
    }

    fn visit_u64<E: de::Error>(self, secs: u64) -> Result<Duration, E> {
        Ok(Duration::from_secs(secs))
    }

    fn visit_i64<E: de::Error>(self, secs: i64) -> Result<Duration, E> {
        let secs = u64::try_from(secs).map_err(|_| E::invalid_value(de::Unexpected::Signed(secs), &self))?;
        self.visit_u64(secs)
    }
}

pub(super) fn serialize<S: Serializer>(span: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&write(*span))
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    from.deserialize_any(Visitor)
}

/// The same for values that may be absent.
pub(super) mod option {
    use super::{Deserialize, Deserializer, Duration, Serializer};

    #[derive(Deserialize)]
    struct Wrapped(#[serde(with = "super")] Duration);

    pub(in super::super) fn serialize<S: Serializer>(span: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
        match span {
            Some(span) => super::serialize(span, to),
            None => to.serialize_none(),
        }
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
        Ok(Option::<Wrapped>::deserialize(from)?.map(|wrapped| wrapped.0))
    }
}
