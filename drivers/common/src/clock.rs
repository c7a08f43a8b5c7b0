//! What a node cannot make for itself: time, randomness and cryptography.
//!
//! The node is pure; these are the three impure things it needs. [`Clock`] turns the machine's clocks into the node's
//! [`Time`] and [`UnixTime`], [`OsEntropy`] hands it the operating system's randomness and [`platform`] the rustls
//! provider.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use peerwork::{Entropy, Platform, Time, UnixTime};

/// The monotonic clock of one node, whose epoch is the moment of its creation, and the wall clock beside it.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Instant,
}

impl Clock {
    /// A clock that starts at [`Time::ZERO`] now.
    pub fn start() -> Self {
        Self { origin: Instant::now() }
    }

    /// The time since the start.
    pub fn now(&self) -> Time {
        self.time(Instant::now())
    }

    /// The same moment as the node counts it. Moments before the start become [`Time::ZERO`].
    pub fn time(&self, at: Instant) -> Time {
        Time::ZERO + at.saturating_duration_since(self.origin)
    }

    /// The same moment as the operating system counts it, or `None` if it is too far away to be counted.
    pub fn instant(&self, at: Time) -> Option<Instant> {
        self.origin.checked_add(Duration::from_nanos(at.as_nanos()))
    }

    /// The date. A machine that believes to live before 1970 is taken to live in 1970.
    pub fn wall() -> UnixTime {
        UnixTime::from_nanos(0) + SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
    }
}

/// A [`Platform`] with rustls's ring provider, for [`Config::platform`](peerwork::Config::platform).
///
/// The drivers call this when the field is `None`. To use another provider, such as `aws_lc_rs`, fill the field.
pub fn platform() -> Platform {
    Platform::new(Arc::new(rustls::crypto::ring::default_provider()), Instant::now())
}

/// The operating system's random generator.
#[derive(Debug)]
pub struct OsEntropy(());

impl OsEntropy {
    /// Asks the generator for a trial. Where there is none, this is where it shows.
    pub fn new() -> io::Result<Self> {
        random::<1>().map(|_| Self(()))
    }
}

impl Entropy for OsEntropy {
    /// # Panics
    ///
    /// If the generator stopped working after [`OsEntropy::new`] had tried it. To go on without randomness would be
    /// worse.
    fn fill(&mut self, dest: &mut [u8]) {
        if let Err(error) = getrandom::fill(dest) {
            panic!("the operating system's random generator fails: {error}");
        }
    }
}

/// Bytes from the operating system's random generator.
pub(crate) fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_and_instant_are_inverse() {
        let clock = Clock::start();
        let at = Time::from_millis(1500);
        assert_eq!(clock.time(clock.instant(at).unwrap()), at);
        assert_eq!(clock.time(clock.origin - Duration::from_secs(1)), Time::ZERO);
    }

    #[test]
    fn the_end_of_time_does_not_overflow() {
        // Some platforms can count that far and some cannot; none may panic.
        let _ = Clock::start().instant(Time::MAX);
    }

    #[test]
    fn entropy_differs_from_draw_to_draw() {
        let (mut a, mut b) = ([0; 32], [0; 32]);
        let mut entropy = OsEntropy::new().unwrap();
        entropy.fill(&mut a);
        entropy.fill(&mut b);
        assert_ne!(a, b);
    }
}
