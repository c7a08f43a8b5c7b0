//! Randomness as an input: one root drawn from the embedder, many labelled streams drawn from the root.
//!
//! A node asks its [`Entropy`] once, for 32 bytes. Everything random in the node (keys, connection ids, nonces, hash
//! seeds) comes from ChaCha20 streams derived from that root by label, so one more draw in one part does not move the
//! draws of another, and a node can be replayed from its root alone.

use rand_core::{Rng as _, SeedableRng as _};
use sha2::{Digest as _, Sha256};

/// Where a node's root of randomness comes from.
///
/// In production this is the operating system's generator, which the drivers supply; in tests and simulations it is
/// [`Seed`]. It is asked once, in [`Node::new`](crate::Node::new).
pub trait Entropy: Send {
    /// Fills `dest` with bytes that nobody else can guess.
    fn fill(&mut self, dest: &mut [u8]);
}

impl<F: FnMut(&mut [u8]) + Send> Entropy for F {
    fn fill(&mut self, dest: &mut [u8]) {
        self(dest);
    }
}

/// Reproducible entropy for tests and simulations. Anybody who knows the seed knows every key: not for production.
#[derive(Clone, Copy, Debug)]
pub struct Seed(pub u64);

impl Entropy for Seed {
    fn fill(&mut self, dest: &mut [u8]) {
        Root(Sha256::digest(self.0.to_le_bytes()).into()).stream("seed").fill(dest);
    }
}

/// The root of a node's randomness.
pub(crate) struct Root([u8; Root::LEN]);

impl Root {
    /// Bytes that it is made of.
    pub(crate) const LEN: usize = 32;

    pub(crate) fn draw(entropy: &mut dyn Entropy) -> Self {
        let mut root = [0; Self::LEN];
        entropy.fill(&mut root);
        Self(root)
    }

    #[cfg(feature = "record")]
    pub(crate) fn from_bytes(root: [u8; Self::LEN]) -> Self {
        Self(root)
    }

    #[cfg(feature = "record")]
    pub(crate) fn to_bytes(&self) -> [u8; Self::LEN] {
        self.0
    }

    /// The stream with this label: always the same for one root, unrelated to that of any other label.
    pub(crate) fn stream(&self, label: &str) -> Rng {
        let mut hash = Sha256::new();
        hash.update(b"peerwork stream\0");
        hash.update(self.0);
        hash.update(label.as_bytes());
        Rng(chacha20::ChaCha20Rng::from_seed(hash.finalize().into()))
    }

    /// The `n`-th of a family of unrelated streams.
    pub(crate) fn nth(&self, n: u64) -> Rng {
        let mut hash = Sha256::new();
        hash.update(b"peerwork draw\0");
        hash.update(self.0);
        hash.update(n.to_le_bytes());
        Rng(chacha20::ChaCha20Rng::from_seed(hash.finalize().into()))
    }
}

/// One labelled stream of random bytes; cryptographically strong if the root was.
pub struct Rng(chacha20::ChaCha20Rng);

impl Rng {
    /// A stream of its own, for running a machine outside a node (tests, fuzzing, [`Harness`](crate::Harness)).
    pub fn from_seed(seed: u64) -> Self {
        Root(Sha256::digest(seed.to_le_bytes()).into()).stream("harness")
    }

    /// Fills `dest` with random bytes.
    pub fn fill(&mut self, dest: &mut [u8]) {
        self.0.fill_bytes(dest);
    }

    /// An array of random bytes.
    pub fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.fill(&mut bytes);
        bytes
    }

    /// A number below `bound`, or 0 if `bound` is 0. The bias is below `bound / 2^64`.
    pub fn below(&mut self, bound: u64) -> u64 {
        let wide = u128::from(self.0.next_u64()) * u128::from(bound);
        u64::try_from(wide >> 64).unwrap_or(0)
    }
}

impl core::fmt::Debug for Rng {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Rng(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_depend_on_root_and_label_alone() {
        let draw = |seed, label| Root::draw(&mut Seed(seed)).stream(label).array::<16>();
        assert_eq!(draw(1, "a"), draw(1, "a"));
        assert_ne!(draw(1, "a"), draw(1, "b"));
        assert_ne!(draw(1, "a"), draw(2, "a"));
    }

    #[test]
    fn below_stays_below() {
        let mut rng = Rng::from_seed(3);
        assert_eq!(rng.below(0), 0);
        assert!((0..1000).all(|_| rng.below(7) < 7));
    }
}
