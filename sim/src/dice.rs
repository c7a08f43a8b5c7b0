//! Decisions: where everything random in a world comes from.
//!
//! A decision is asked for by name, not in order: [`Dice::draw`] is a hash of `(seed, domain, a, b, n)`. So a packet's fate
//! depends on its link and the time at which it was sent, and on nothing that happened elsewhere: take one event out of a run,
//! and all other draws stay as they were. That is what makes shrinking work.
//!
//! The other source is a fuzzer's bytes ([`Dice::from_bytes`]): decisions are then taken from the front, in the order in which
//! they are asked for, and when the bytes run out every decision is the benign one, which is always the one that 0 stands for.

use core::hash::Hasher as _;

use siphasher::sip::SipHasher13;

/// A part of the world that decides. Two parts never share a draw.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
#[non_exhaustive]
pub enum Domain {
    /// What is drawn once about a node's place: region, access, NAT.
    Node = 1,
    /// What a scenario draws when it is planned: targets, sizes, times.
    Plan,
    /// Churn: session lengths and absences.
    Churn,
    /// Which faults a seed has, and how fierce.
    Swarm,
    /// Whether a packet is lost.
    Loss,
    /// State changes of Gilbert–Elliott chains.
    Burst,
    /// How long a packet is under way.
    Jitter,
    /// The state of a path over a longer time.
    Weather,
    /// Whether a packet is doubled.
    Duplicate,
    /// Whether a packet is held back.
    Reorder,
    /// Whether a packet is damaged, and where.
    Corrupt,
    /// Whether a packet is sent again much later.
    Replay,
    /// A NAT's choice of ports.
    NatPort,
    /// A NAT's choice of addresses.
    NatAddress,
    /// What a disk loses when its machine crashes.
    Disk,
    /// How a node's interface is used: order of drains, needless wake-ups.
    Whim,
    /// What a hostile node does.
    Byzantine,
    /// Contents of messages.
    Content,
    /// Keys and entropy of nodes. Follows from a seed in any case: nodes with the same keys would be one node.
    Entropy,
}

/// A source of decisions. See the [module](self).
pub trait Decide: Send {
    /// The decision of this name. 0 must always be a benign answer.
    fn draw(&mut self, domain: Domain, a: u64, b: u64, n: u64) -> u64;
}

/// Decisions from a seed.
#[derive(Clone, Copy, Debug)]
struct Seeded(u64);

impl Decide for Seeded {
    fn draw(&mut self, domain: Domain, a: u64, b: u64, n: u64) -> u64 {
        let mut hash = SipHasher13::new_with_keys(self.0, u64::from_le_bytes(*b"peerwork"));
        hash.write_u8(domain as u8);
        hash.write_u64(a);
        hash.write_u64(b);
        hash.write_u64(n);
        hash.finish()
    }
}

/// Decisions from bytes.
#[derive(Clone, Debug)]
struct Tape {
    bytes: Vec<u8>,
    at: usize,
}

impl Decide for Tape {
    fn draw(&mut self, domain: Domain, a: u64, b: u64, n: u64) -> u64 {
        if domain == Domain::Entropy {
            return Seeded(0).draw(domain, a, b, n);
        }
        let mut value = [0; 8];
        let rest = &self.bytes[self.at..];
        // Two bytes a decision: enough to reach each outcome, and a short input goes far.
        let take = rest.len().min(2);
        value[6..6 + take].copy_from_slice(&rest[..take]);
        self.at += take;
        u64::from_le_bytes(value)
    }
}

/// What a world asks for its decisions.
pub struct Dice(Box<dyn Decide>);

impl Dice {
    /// Decisions that follow from a seed.
    pub fn from_seed(seed: u64) -> Self {
        Self(Box::new(Seeded(seed)))
    }

    /// Decisions taken from the front of `bytes`, then benign ones.
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(Box::new(Tape { bytes, at: 0 }))
    }

    /// Decisions from elsewhere.
    pub fn from_source(source: Box<dyn Decide>) -> Self {
        Self(source)
    }

    /// The decision of this name, as a number.
    pub fn draw(&mut self, domain: Domain, a: u64, b: u64, n: u64) -> u64 {
        self.0.draw(domain, a, b, n)
    }

    /// A number below `bound`; 0 if `bound` is 0.
    pub fn below(&mut self, domain: Domain, a: u64, b: u64, n: u64, bound: u64) -> u64 {
        if bound <= 1 {
            return 0;
        }
        let wide = u128::from(self.draw(domain, a, b, n)) * u128::from(bound);
        u64::try_from(wide >> 64).unwrap_or(0)
    }

    /// `true` with a probability of `ppm` millionths. Draws nothing where nothing can happen.
    pub fn chance(&mut self, domain: Domain, a: u64, b: u64, n: u64, ppm: u32) -> bool {
        ppm > 0 && 999_999 - self.below(domain, a, b, n, 1_000_000) < u64::from(ppm)
    }

    /// A number in `0.0..1.0`, with 53 random bits.
    pub fn unit(&mut self, domain: Domain, a: u64, b: u64, n: u64) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
        let bits = (self.draw(domain, a, b, n) >> 11) as f64;
        bits / 9_007_199_254_740_992.0
    }
}

impl core::fmt::Debug for Dice {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Dice(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draw_depends_on_its_name_and_on_nothing_drawn_before() {
        let mut dice = Dice::from_seed(1);
        let first = dice.draw(Domain::Loss, 1, 2, 3);
        for n in 0..100 {
            dice.draw(Domain::Loss, 1, 2, n);
        }
        assert_eq!(dice.draw(Domain::Loss, 1, 2, 3), first);
        for other in [(Domain::Jitter, 1, 2, 3), (Domain::Loss, 2, 1, 3), (Domain::Loss, 1, 2, 4)] {
            assert_ne!(dice.draw(other.0, other.1, other.2, other.3), first);
        }
        assert_ne!(Dice::from_seed(2).draw(Domain::Loss, 1, 2, 3), first);
    }

    #[test]
    fn chances_come_true_as_often_as_they_say() {
        let mut dice = Dice::from_seed(1);
        for ppm in [0, 1_000, 200_000, 999_999, 1_000_000] {
            let hits = (0..100_000).filter(|n| dice.chance(Domain::Loss, 0, 0, *n, ppm)).count();
            let expected = ppm as usize / 10;
            assert!(hits.abs_diff(expected) < 500, "{ppm}: {hits}");
            assert!(ppm > 0 || hits == 0);
            assert!(ppm < 1_000_000 || hits == 100_000);
        }
    }

    #[test]
    fn bytes_decide_in_order_and_run_out_into_benign_decisions() {
        let mut dice = Dice::from_bytes(vec![0xff, 0xff, 0x00, 0x80]);
        assert!(dice.chance(Domain::Loss, 0, 0, 0, 100));
        assert_eq!(dice.below(Domain::Plan, 0, 0, 0, 10), 5);
        for n in 0..100 {
            assert!(!dice.chance(Domain::Loss, 0, 0, n, 999_999));
            assert_eq!(dice.below(Domain::Plan, 0, 0, n, 10), 0);
        }
    }
}
