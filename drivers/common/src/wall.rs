//! Notices when the wall clock is set.
//!
//! The node advances the date by its own time. That goes wrong when the clock is set and when the machine sleeps,
//! during which monotonic clocks may stand still. No timer is spent on this: a node that is idle needs no date.

use std::time::Duration;

use peerwork::{Time, UnixTime};

use crate::clock::Clock;

/// Time between two looks at the clock.
const INTERVAL: Duration = Duration::from_secs(10);

/// Difference below which the clock is being adjusted, as it always is, and not set.
const TOLERANCE: Duration = Duration::from_secs(1);

/// The date as the node takes it to be.
pub(crate) struct WallClock {
    told: UnixTime,
    told_at: Time,
    next: Time,
}

impl WallClock {
    /// At the start, when the node is told the date.
    pub(crate) fn new(clock: Clock) -> Self {
        let now = clock.now();
        Self { told: Clock::wall(), told_at: now, next: now + INTERVAL }
    }

    /// The date, if the node should be told.
    pub(crate) fn poll(&mut self, now: Time) -> Option<UnixTime> {
        if now < self.next {
            return None;
        }
        self.next = now + INTERVAL;
        self.compare(now, Clock::wall())
    }

    fn compare(&mut self, now: Time, date: UnixTime) -> Option<UnixTime> {
        let expected = self.told + now.since(self.told_at);
        let difference = Duration::from_nanos(date.as_nanos().abs_diff(expected.as_nanos()));
        if difference <= TOLERANCE {
            return None;
        }
        (self.told, self.told_at) = (date, now);
        Some(date)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_clock_that_was_set_is_told() {
        let mut wall = WallClock { told: UnixTime::from_secs(1000), told_at: Time::from_secs(10), next: Time::ZERO };
        assert_eq!(wall.compare(Time::from_secs(70), UnixTime::from_secs(1060)), None);
        let set = UnixTime::from_secs(500);
        assert_eq!(wall.compare(Time::from_secs(80), set), Some(set));
        assert_eq!(wall.compare(Time::from_secs(90), UnixTime::from_secs(510)), None);
    }
}
