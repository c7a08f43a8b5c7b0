//! Time as an input: [`Time`] since the node's epoch and [`UnixTime`] from the wall clock.
//!
//! Both saturate. An instant that overflows, which has brought down other stacks, cannot be written here: every
//! arithmetic operator stops at the ends of the range instead of panicking or wrapping.

use core::{
    fmt,
    ops::{Add, AddAssign, Sub},
    time::Duration,
};

/// Nanoseconds in a [`Duration`], or `u64::MAX` (about 584 years) where they do not fit.
fn saturating_nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// A point in monotonic time: nanoseconds since an epoch that the embedder chooses, usually the start of the process.
///
/// The node never reads a clock; every call that may depend on time takes a `Time`. A value lower than one seen before
/// is treated as the highest one seen, so a clock that steps back stops the node's time rather than breaking it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
pub struct Time(u64);

impl Time {
    /// The epoch.
    pub const ZERO: Self = Self(0);
    /// The end of time, about 584 years after the epoch. A timer set to this never fires.
    pub const MAX: Self = Self(u64::MAX);

    /// The time this many nanoseconds after the epoch.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// The time this many milliseconds after the epoch, saturating.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis.saturating_mul(1_000_000))
    }

    /// The time this many seconds after the epoch, saturating.
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs.saturating_mul(1_000_000_000))
    }

    /// Nanoseconds since the epoch. Together with [`from_nanos`](Self::from_nanos) this is the serialised form.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// How long after `earlier` this is; zero if it is not after it.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Time {
    type Output = Self;
    fn add(self, rhs: Duration) -> Self {
        Self(self.0.saturating_add(saturating_nanos(rhs)))
    }
}

impl AddAssign<Duration> for Time {
    fn add_assign(&mut self, rhs: Duration) {
        *self = *self + rhs;
    }
}

impl Sub<Duration> for Time {
    type Output = Self;
    fn sub(self, rhs: Duration) -> Self {
        Self(self.0.saturating_sub(saturating_nanos(rhs)))
    }
}

impl Sub for Time {
    type Output = Duration;
    fn sub(self, rhs: Self) -> Duration {
        self.since(rhs)
    }
}

impl fmt::Debug for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:09}s", self.0 / 1_000_000_000, self.0 % 1_000_000_000)
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06}s", self.0 / 1_000_000_000, self.0 % 1_000_000_000 / 1_000)
    }
}

/// Wall-clock time: nanoseconds since 1970-01-01T00:00:00Z, without leap seconds. Ends in the year 2554.
///
/// Used only where the outside world needs a date: sequence numbers of peer records and the validity of certificates.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
pub struct UnixTime(u64);

impl UnixTime {
    /// The time this many nanoseconds after 1970.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// The time this many seconds after 1970, saturating.
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs.saturating_mul(1_000_000_000))
    }

    /// Nanoseconds since 1970.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Whole seconds since 1970.
    pub const fn as_secs(self) -> u64 {
        self.0 / 1_000_000_000
    }
}

impl From<std::time::SystemTime> for UnixTime {
    /// Times before 1970 become 1970.
    fn from(time: std::time::SystemTime) -> Self {
        Self(saturating_nanos(time.duration_since(std::time::UNIX_EPOCH).unwrap_or_default()))
    }
}

impl Add<Duration> for UnixTime {
    type Output = Self;
    fn add(self, rhs: Duration) -> Self {
        Self(self.0.saturating_add(saturating_nanos(rhs)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates_at_both_ends() {
        assert_eq!(Time::MAX + Duration::MAX, Time::MAX);
        assert_eq!(Time::from_secs(u64::MAX), Time::MAX);
        assert_eq!(Time::ZERO - Duration::MAX, Time::ZERO);
        assert_eq!(Time::ZERO - Time::MAX, Duration::ZERO);
        assert_eq!(Time::MAX - Time::ZERO, Duration::from_nanos(u64::MAX));
        assert_eq!(UnixTime::from_secs(u64::MAX) + Duration::MAX, UnixTime::from_nanos(u64::MAX));
    }

    #[test]
    fn display_shows_seconds_and_microseconds() {
        assert_eq!((Time::from_millis(1_500) + Duration::from_nanos(7_999)).to_string(), "1.500007s");
    }
}
