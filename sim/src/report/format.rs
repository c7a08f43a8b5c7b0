//! Numbers for people: three significant digits, a unit, and no more.

use std::fmt;

/// A space that does not break, between a number and its unit.
const GAP: char = '\u{a0}';

/// What a number counts.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Unit {
    /// Time; one of it is so many microseconds.
    Time(f64),
    /// Bytes, in decimal multiples.
    Bytes,
    /// Bytes in a second.
    ByteRate,
    /// A share of one, shown in per cent.
    Share,
    /// A ratio, such as 21.3 ×.
    Times,
    /// Just a number.
    Plain,
}

impl Unit {
    /// Guesses from a name such as `dial.latency`, `get.hops` or `bytes.per-sec`; `default` if it says nothing.
    pub(super) fn of(name: &str, default: Self) -> Self {
        let name = name.to_ascii_lowercase();
        let words: Vec<_> = name.split(|c: char| !c.is_ascii_alphanumeric()).collect();
        let has = |any: &[&str]| any.iter().any(|word| words.contains(word));
        let rate = has(&["rate", "per", "bandwidth", "goodput", "throughput", "bps"]);
        if has(&["bytes", "byte", "bandwidth", "goodput", "throughput", "rss", "memory"]) {
            if rate { Self::ByteRate } else { Self::Bytes }
        } else if has(&["ns", "nanos"]) {
            Self::Time(0.001)
        } else if has(&["ms", "millis"]) {
            Self::Time(1000.0)
        } else if has(&["secs", "seconds"]) {
            Self::Time(1e6)
        } else if has(&["us", "micros", "latency", "rtt", "delay", "duration", "time", "age"]) {
            Self::Time(1.0)
        } else if has(&["share", "ratio", "recall", "coverage", "reach", "fraction"]) {
            Self::Share
        } else if rate || has(PLAIN) {
            Self::Plain
        } else {
            default
        }
    }

    /// With three significant digits and its unit.
    pub(super) fn show(self, value: f64) -> String {
        match self {
            Self::Time(micros) => span(value * micros),
            Self::Bytes => bytes(value),
            Self::ByteRate => format!("{}/s", bytes(value)),
            Self::Share => percent(value),
            Self::Times => format!("{}{GAP}×", digits(value)),
            Self::Plain => number(value),
        }
    }

    /// As short as the mark on an axis must be.
    pub(super) fn tick(self, value: f64) -> String {
        match self {
            Self::Plain => short(value),
            _ => self.show(value),
        }
    }

    /// What to write beside an axis.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Time(_) => "time",
            Self::Bytes => "bytes",
            Self::ByteRate => "bytes per second",
            Self::Share => "share",
            Self::Times => "ratio",
            Self::Plain => "count",
        }
    }
}

/// Words that say that a distribution is not one of microseconds.
const PLAIN: &[&str] = &[
    "hops",
    "hop",
    "count",
    "size",
    "fanout",
    "degree",
    "depth",
    "duplicates",
    "copies",
    "attempts",
    "tries",
    "messages",
    "packets",
    "datagrams",
    "events",
    "streams",
    "peers",
    "nodes",
    "connections",
    "queue",
    "bucket",
    "contacts",
    "score",
    "ppm",
    "n",
];

/// `4,312`.
pub(super) fn count(n: u64) -> String {
    let plain = n.to_string();
    let mut out = String::with_capacity(plain.len() + plain.len() / 3);
    for (at, digit) in plain.chars().enumerate() {
        if at > 0 && (plain.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Three significant digits without needless zeros; whole numbers in full, with commas.
pub(super) fn number(value: f64) -> String {
    if !value.is_finite() {
        return "–".to_owned();
    }
    let sign = if value < 0.0 { "−" } else { "" };
    let size = value.abs();
    if size >= 1e12 {
        return format!("{sign}{}", short(size));
    }
    if size >= 999.5 || size == size.trunc() {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "finite, below 1e12")]
        return format!("{sign}{}", count((size + 0.5) as u64));
    }
    format!("{sign}{}", digits(size))
}

/// Three significant digits of a number that is not negative.
fn digits(value: f64) -> String {
    if !value.is_finite() {
        return "–".to_owned();
    }
    let decimals = match value {
        v if v >= 99.95 => 0,
        v if v >= 9.995 => 1,
        v if v >= 0.9995 => 2,
        v if v >= 0.01 => 3,
        v if v >= 0.0001 => 5,
        v if v > 0.0 => return format!("{value:.1e}"),
        _ => 0,
    };
    let text = format!("{value:.decimals$}");
    if decimals == 0 { text } else { text.trim_end_matches('0').trim_end_matches('.').to_owned() }
}

/// `4.3k`, `12M`: for axes and cells.
pub(super) fn short(value: f64) -> String {
    if !value.is_finite() {
        return "–".to_owned();
    }
    let sign = if value < 0.0 { "−" } else { "" };
    let size = value.abs();
    let (scale, suffix) = match size {
        s if s < 999.5 => (1.0, ""),
        s if s < 999.5e3 => (1e3, "k"),
        s if s < 999.5e6 => (1e6, "M"),
        s if s < 999.5e9 => (1e9, "G"),
        s if s < 999.5e12 => (1e12, "T"),
        _ => return format!("{sign}{size:.0e}"),
    };
    format!("{sign}{}{suffix}", digits(size / scale))
}

/// [`short`] with two digits, for cells: `4.3k`, `12M`, `870`.
pub(super) fn brief(n: u64) -> String {
    match n {
        0..=999 => n.to_string(),
        _ => {
            // Half a unit of the third digit, and all digits behind the second gone.
            let unit = 10_u64.pow(n.ilog10() - 1);
            short(float(n.saturating_add(unit / 2) / unit) * float(unit))
        }
    }
}

/// `12.3 MB`: decimal multiples.
pub(super) fn bytes(value: f64) -> String {
    let size = value.abs();
    let (scale, unit) = match size {
        s if s < 999.5 => (1.0, "B"),
        s if s < 999.5e3 => (1e3, "kB"),
        s if s < 999.5e6 => (1e6, "MB"),
        s if s < 999.5e9 => (1e9, "GB"),
        _ => (1e12, "TB"),
    };
    let sign = if value < 0.0 { "−" } else { "" };
    format!("{sign}{}{GAP}{unit}", digits(size / scale))
}

/// A span of so many microseconds: `340 ms`, `1.2 s`, `12.5 min`, `3 h`.
pub(super) fn span(micros: f64) -> String {
    let size = micros.abs();
    let (scale, unit) = match size {
        s if s <= 0.0 => return "0".to_owned(),
        s if s < 0.9995 => (0.001, "ns"),
        s if s < 999.5 => (1.0, "µs"),
        s if s < 999.5e3 => (1e3, "ms"),
        s if s < 119.95e6 => (1e6, "s"),
        s if s < 7199.5e6 => (60e6, "min"),
        s if s < 172_800e6 => (3600e6, "h"),
        _ => (86_400e6, "d"),
    };
    let sign = if micros < 0.0 { "−" } else { "" };
    format!("{sign}{}{GAP}{unit}", digits(size / scale))
}

/// A span of so many milliseconds.
pub(super) fn span_ms(ms: u64) -> String {
    span(float(ms) * 1000.0)
}

/// A moment on a world's clock, in milliseconds: `1:02:03.450`, `12:30.000`.
pub(super) fn clock(ms: u64) -> String {
    let (hours, minutes, seconds, rest) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60, ms % 1000);
    if hours > 0 {
        format!("{hours}:{minutes:02}:{seconds:02}.{rest:03}")
    } else {
        format!("{minutes}:{seconds:02}.{rest:03}")
    }
}

/// A share of one: `3.2 %`. What is not none never shows as 0 %, and what is not all never as 100 %.
pub(super) fn percent(share: f64) -> String {
    if !share.is_finite() {
        return "–".to_owned();
    }
    let value = share * 100.0;
    let text = match value {
        v if v > 0.0 && v < 0.01 => "< 0.01".to_owned(),
        v if v > 99.99 && v < 100.0 => "> 99.99".to_owned(),
        v if v > 99.0 && v < 100.0 => format!("{v:.2}"),
        v if !(0.0..1000.0).contains(&v) => short(v),
        v => digits(v),
    };
    format!("{}{GAP}%", text.replace(' ', "\u{a0}"))
}

/// One of several, as `part / whole`; 0 of nothing is 0.
pub(super) fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { float(part) / float(whole) }
}

/// `1 seed`, `2 seeds`.
pub(super) fn plural(n: u64, one: &str) -> String {
    let many = if n == 1 { "" } else { "s" };
    format!("{}{GAP}{one}{many}", count(n))
}

/// As a float; above 2^53 the nearest, which is near enough to draw.
#[expect(clippy::cast_precision_loss, reason = "only drawn, or shown with three digits")]
pub(super) fn float(n: u64) -> f64 {
    n as f64
}

/// The same of a length.
#[expect(clippy::cast_precision_loss, reason = "lengths of things that are drawn")]
pub(super) fn len(n: usize) -> f64 {
    n as f64
}

/// A coordinate: a tenth of a pixel is fine enough.
#[derive(Clone, Copy)]
pub(super) struct Px(pub(super) f64);

impl fmt::Display for Px {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tenths = if self.0.is_finite() { (self.0 * 10.0).round() / 10.0 } else { 0.0 };
        // No minus zero.
        write!(f, "{}", tenths + 0.0)
    }
}

/// At most `most` characters, the last of them an ellipsis if something was cut.
pub(super) fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most.saturating_sub(1)).chain(['…']).collect()
}

/// Makes characters visible, or harmless, that neither a page nor a terminal may be handed as they are: controls (escape
/// sequences among them), changes of direction (which let text pose as other text), and what XML has no place for.
pub(super) fn harmless(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\n' => '\n',
            '\u{0}'..='\u{1f}' => char::from_u32(0x2400 + u32::from(c)).unwrap_or('\u{fffd}'),
            '\u{7f}' => '\u{2421}',
            '\u{80}'..='\u{9f}'
            | '\u{61c}'
            | '\u{200e}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}'
            | '\u{feff}'
            | '\u{fffe}'
            | '\u{ffff}' => '\u{fffd}',
            other => other,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits_and_a_unit() {
        let shown = [
            count(0),
            count(4312),
            count(12_345_678),
            span(340_000.0),
            span(999_700.0),
            span(1.2e6),
            span(0.0),
            span(100e6),
            span(1800e6),
            bytes(12_345_678.0),
            bytes(999.0),
            percent(0.0321),
            percent(0.999_999),
            percent(0.9951),
            percent(1.0),
            percent(0.000_001),
            short(4312.0),
            short(999_999.0),
            brief(4_382),
            brief(123_456),
            brief(999),
            brief(u64::MAX),
            number(0.0),
            number(-3.25),
            number(12_345.6),
            number(f64::NAN),
            clock(754_567),
        ]
        .map(|text| text.replace(GAP, " "));
        let expected = [
            "0",
            "4,312",
            "12,345,678",
            "340 ms",
            "1 s",
            "1.2 s",
            "0",
            "100 s",
            "30 min",
            "12.3 MB",
            "999 B",
            "3.21 %",
            "> 99.99 %",
            "99.51 %",
            "100 %",
            "< 0.01 %",
            "4.31k",
            "1M",
            "4.4k",
            "120k",
            "999",
            "2e19",
            "0",
            "−3.25",
            "12,346",
            "–",
            "12:34.567",
        ];
        assert_eq!(shown, expected);
        assert_eq!(Px(-0.04).to_string(), "0");
        assert_eq!(Px(12.34).to_string(), "12.3");
    }

    #[test]
    fn units_come_from_names() {
        let micros = Unit::Time(1.0);
        assert_eq!(Unit::of("dial.latency", Unit::Plain), micros);
        assert_eq!(Unit::of("get.hops", micros), Unit::Plain);
        assert_eq!(Unit::of("queue.bytes", micros), Unit::Bytes);
        assert_eq!(Unit::of("bytes.per-sec", micros), Unit::ByteRate);
        assert_eq!(Unit::of("timer.slack-ns", micros), Unit::Time(0.001));
        assert_eq!(Unit::of("punch", micros), micros);
        assert_eq!(Unit::of("kad.recall", Unit::Plain), Unit::Share);
    }

    #[test]
    fn nothing_invisible_comes_through() {
        assert_eq!(harmless("a\u{1b}[31m\u{0}\u{7f}\u{9b}\u{202e}\t\nz"), "a␛[31m␀␡��␉\nz");
    }
}
