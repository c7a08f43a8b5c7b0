//! Sizes and durations as people write them.

use std::time::Duration;

/// Suffixes and what they stand for.
const SIZES: [(&str, u64); 13] = [
    ("", 1),
    ("b", 1),
    ("k", 1_000),
    ("kb", 1_000),
    ("m", 1_000_000),
    ("mb", 1_000_000),
    ("g", 1_000_000_000),
    ("gb", 1_000_000_000),
    ("kib", 1 << 10),
    ("mib", 1 << 20),
    ("gib", 1 << 30),
    ("t", 1_000_000_000_000),
    ("tib", 1 << 40),
];

const TIMES: [(&str, f64); 7] =
    [("ns", 1e-9), ("us", 1e-6), ("ms", 1e-3), ("s", 1.0), ("min", 60.0), ("m", 60.0), ("h", 3_600.0)];

/// Splits `12.5MB` where the unit begins. Underscores group digits.
fn split(text: &str) -> Option<(f64, String, String)> {
    let text = text.trim();
    let at = text.find(|c: char| !c.is_ascii_digit() && c != '.' && c != '_').unwrap_or(text.len());
    let (number, unit) = text.split_at(at);
    let digits = number.replace('_', "");
    let value = digits.parse().ok()?;
    Some((value, digits, unit.trim().to_ascii_lowercase()))
}

/// Reads a number of bytes: `1_000`, `10MB`, `1.5 GiB`.
pub fn size(text: &str) -> Result<u64, String> {
    let refused = || format!("`{text}` is not a size; write bytes or, for example, 64KiB, 10MB or 1GiB");
    let (number, digits, unit) = split(text).ok_or_else(refused)?;
    let &(_, factor) = SIZES.iter().find(|(name, _)| *name == unit).ok_or_else(refused)?;
    if let Ok(whole) = digits.parse::<u64>() {
        return whole.checked_mul(factor).ok_or_else(refused);
    }
    let bytes = number * factor as f64;
    if bytes.fract() == 0.0 && bytes < 9e15 { Ok(bytes as u64) } else { Err(refused()) }
}

/// Reads a duration: `30`, `1.5` (seconds), `250ms`, `2m`, `1h`.
pub fn duration(text: &str) -> Result<Duration, String> {
    let refused = || format!("`{text}` is not a duration; write seconds or, for example, 250ms, 30s, 5m or 1h");
    let (number, digits, unit) = split(text).ok_or_else(refused)?;
    let unit = if unit.is_empty() { "s" } else { &unit };
    let &(_, factor) = TIMES.iter().find(|(name, _)| *name == unit).ok_or_else(refused)?;
    // Whole numbers are exact.
    if let (Ok(whole), Some(nanos)) = (digits.parse::<u64>(), exact_nanos(unit)) {
        return whole.checked_mul(nanos).map(Duration::from_nanos).ok_or_else(refused);
    }
    Duration::try_from_secs_f64(number * factor).map_err(|_| refused())
}

fn exact_nanos(unit: &str) -> Option<u64> {
    Some(match unit {
        "ns" => 1,
        "us" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" | "min" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    })
}

/// Writes a duration so that [`duration`] reads the same.
pub fn show_duration(time: Duration) -> String {
    let nanos = time.as_nanos();
    match nanos {
        n if n % 1_000_000_000 == 0 => format!("{}s", n / 1_000_000_000),
        n if n % 1_000_000 == 0 => format!("{}ms", n / 1_000_000),
        n if n % 1_000 == 0 => format!("{}us", n / 1_000),
        n => format!("{n}ns"),
    }
}

/// Writes a size so that [`size`] reads the same.
pub fn show_size(bytes: u64) -> String {
    for (unit, factor) in [("GiB", 1u64 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)] {
        if bytes > 0 && bytes.is_multiple_of(factor) {
            return format!("{}{unit}", bytes / factor);
        }
    }
    bytes.to_string()
}

/// A size for people, rounded.
pub fn bytes(bytes: f64) -> String {
    for (unit, factor) in [("GiB", 1u64 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)] {
        let number = bytes / factor as f64;
        if number >= 1.0 {
            return if number >= 100.0 { format!("{number:.0} {unit}") } else { format!("{number:.1} {unit}") };
        }
    }
    format!("{bytes:.0} B")
}

/// For `#[serde(with = "..")]`: a [`Duration`] written as people write them.
pub mod span {
    use std::time::Duration;

    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    /// Writes `250ms`.
    pub fn serialize<S: Serializer>(time: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&super::show_duration(*time))
    }

    /// Reads `250ms`, or a whole number of seconds.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        #[derive(serde::Deserialize)]
        #[serde(
            untagged,
            expecting = "not a duration; write whole seconds or, for example, \"250ms\", \"1.5s\", \"5m\" or \"1h\""
        )]
        enum Written {
            Text(String),
            Seconds(u64),
        }
        match Written::deserialize(from)? {
            Written::Text(text) => super::duration(&text).map_err(D::Error::custom),
            Written::Seconds(seconds) => Ok(Duration::from_secs(seconds)),
        }
    }
}

/// For `#[serde(with = "..")]`: an optional [`Duration`].
pub mod span_option {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    #[derive(Deserialize)]
    struct Wrap(#[serde(with = "super::span")] Duration);

    /// Writes `250ms`, or nothing.
    pub fn serialize<S: Serializer>(time: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
        match time {
            Some(time) => super::span::serialize(time, to),
            None => to.serialize_none(),
        }
    }

    /// Reads `250ms`, or a whole number of seconds.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
        Ok(Option::<Wrap>::deserialize(from)?.map(|wrap| wrap.0))
    }
}

/// For `#[serde(with = "..")]`: an optional number of bytes.
pub mod size_option {
    use serde::{Deserialize, Deserializer, Serializer};

    #[derive(Deserialize)]
    struct Wrap(#[serde(with = "super::bytes_size")] u64);

    /// Writes `64KiB`, or nothing.
    pub fn serialize<S: Serializer>(size: &Option<u64>, to: S) -> Result<S::Ok, S::Error> {
        match size {
            Some(size) => super::bytes_size::serialize(size, to),
            None => to.serialize_none(),
        }
    }

    /// Reads `64KiB` or 65536.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
        Ok(Option::<Wrap>::deserialize(from)?.map(|wrap| wrap.0))
    }
}

/// For `#[serde(with = "..")]`: a number of bytes, as a number or as `64KiB`.
pub mod bytes_size {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    /// Writes `64KiB`.
    pub fn serialize<S: Serializer>(size: &u64, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&super::show_size(*size))
    }

    /// Reads `64KiB` or 65536.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
        #[derive(serde::Deserialize)]
        #[serde(
            untagged,
            expecting = "not a size; write a whole number or, for example, \"64KiB\", \"10MB\" or \"1GiB\""
        )]
        enum Written {
            Text(String),
            Bytes(u64),
        }
        match Written::deserialize(from)? {
            Written::Text(text) => super::size(&text).map_err(D::Error::custom),
            Written::Bytes(bytes) => Ok(bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_written() {
        let cases = [
            ("0", 0),
            ("1_000", 1_000),
            ("10MB", 10_000_000),
            ("64 KiB", 65_536),
            ("1gib", 1 << 30),
            ("1.5k", 1_500),
            ("18446744073709551615", u64::MAX),
        ];
        for (text, bytes) in cases {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["", "MB", "10XB", "-1", "1.0001k2", "0.5", "18446744073709551616", "99999999TiB"] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_are_read_as_written() {
        let cases =
            [("30", 30_000), ("30s", 30_000), ("250ms", 250), ("1.5", 1_500), ("2m", 120_000), ("1h", 3_600_000)];
        for (text, millis) in cases {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "s", "-1", "1 day", "99999999999999999999h"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_written_is_read_the_same() {
        for nanos in [0, 1, 1_500, 2_000_000, 250_000_000, 30_000_000_000] {
            let time = Duration::from_nanos(nanos);
            assert_eq!(duration(&show_duration(time)), Ok(time));
        }
        for bytes in [0, 1, 1_000, 65_536, 4 << 20, 3 << 30] {
            assert_eq!(size(&show_size(bytes)), Ok(bytes));
        }
    }
}
