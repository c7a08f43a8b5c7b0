//! Queues and policers, in constant time and space: each is a single point in time.

use std::time::Duration;

use peerwork::{Time, io::Ecn};
use serde::{Deserialize, Serialize};

use super::{Cause, HEADERS_V4};

/// How fast a link is, and how much waits before it. Bytes count IP and UDP headers, as those of IPv4.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(
    deny_unknown_fields,
    rename_all = "kebab-case",
    expecting = "a table such as { kbit = 10_000, buffer = 125_000 }"
)]
pub struct Rate {
    /// In kilobits (1000 bits) a second. 0: no limit.
    pub kbit: u32,
    /// Bytes that may wait. 0: as much as passes in a tenth of a second.
    #[serde(default)]
    pub buffer: u32,
}

impl Rate {
    /// A rate in kilobits a second, with a buffer of a tenth of a second.
    pub const fn kbit(kbit: u32) -> Self {
        Self { kbit, buffer: 0 }
    }

    /// Nanoseconds for so many bytes.
    fn nanos(self, bytes: u64) -> u64 {
        let nanos = u128::from(bytes) * 8_000_000 / u128::from(self.kbit.max(1));
        u64::try_from(nanos).unwrap_or(u64::MAX)
    }
}

/// The queue before a link: `free = max(now, free) + bytes · time per byte`. Drops what would have to wait behind more
/// than its buffer, and marks packets that can be marked (RFC 3168) if more than half of it is full.
#[derive(Clone, Copy, Default, Debug)]
pub struct Queue {
    rate: Rate,
    /// The longest wait.
    bound: u64,
    /// When all that waits has left, in nanoseconds.
    free: u64,
}

/// A packet leaves a queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Passed {
    /// When its last bit does.
    pub at: Time,
    /// Its mark by then.
    pub ecn: Option<Ecn>,
}

/// The queue was full.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Full;

impl Queue {
    /// An empty queue.
    pub fn new(rate: Rate) -> Self {
        let bound = if rate.buffer == 0 { 100_000_000 } else { rate.nanos(u64::from(rate.buffer)) };
        Self { rate, bound, free: 0 }
    }

    /// Puts a packet with `len` bytes of payload into the queue. Without a limit, it leaves at once.
    pub fn enqueue(&mut self, now: Time, len: usize, ecn: Option<Ecn>) -> Result<Passed, Full> {
        if self.rate.kbit == 0 {
            return Ok(Passed { at: now, ecn });
        }
        let wait = self.free.saturating_sub(now.as_nanos());
        if wait > self.bound {
            return Err(Full);
        }
        self.free = now.as_nanos().saturating_add(wait).saturating_add(self.rate.nanos((len + HEADERS_V4) as u64));
        let ecn = if wait > self.bound / 2 { ecn.map(|_| Ecn::Ce) } else { ecn };
        Ok(Passed { at: Time::from_nanos(self.free), ecn })
    }

    /// How long a packet would wait now.
    pub fn wait(&self, now: Time) -> Duration {
        Duration::from_nanos(self.free.saturating_sub(now.as_nanos()))
    }
}

impl From<Full> for Cause {
    /// The world knows of downlinks alone; lanes look after uplinks themselves.
    fn from(_: Full) -> Self {
        Self::QueueDown
    }
}

/// A token bucket that drops what exceeds a rate, and delays nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Policer {
    /// Kilobits (1000 bits) a second; 0 is taken for 1. Bytes count IP and UDP headers, as those of IPv4.
    pub kbit: u32,
    /// Bytes that may come at once. Packets larger than this never pass.
    pub burst: u32,
}

impl Policer {
    /// Whether a packet passes. `full` is when the bucket, left alone, would be full again.
    pub(super) fn admits(self, full: &mut Time, now: Time, len: usize) -> bool {
        let rate = Rate::kbit(self.kbit);
        let cost = rate.nanos((len + HEADERS_V4) as u64);
        let then = (*full).max(now).as_nanos().saturating_add(cost);
        let admitted = then - now.as_nanos() <= rate.nanos(u64::from(self.burst));
        if admitted {
            *full = Time::from_nanos(then);
        }
        admitted
    }
}
