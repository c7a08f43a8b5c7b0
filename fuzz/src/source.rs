//! An input, read as a little program.

use std::time::Duration;

use arbitrary::Unstructured;

/// Reads decisions off the front of an input. Behind its end everything is zero.
#[derive(Debug)]
pub struct Source<'a>(Unstructured<'a>);

impl<'a> Source<'a> {
    /// Reads from here.
    pub fn new(data: &'a [u8]) -> Self {
        Self(Unstructured::new(data))
    }

    /// Whether the input is at its end.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A byte.
    pub fn byte(&mut self) -> u8 {
        self.0.arbitrary().unwrap_or(0)
    }

    /// Two bytes, little endian.
    pub fn short(&mut self) -> u16 {
        self.0.arbitrary().unwrap_or(0)
    }

    /// Eight bytes, little endian.
    pub fn long(&mut self) -> u64 {
        self.0.arbitrary().unwrap_or(0)
    }

    /// One in two.
    pub fn coin(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    /// One in this many, but never behind the end.
    pub fn one_in(&mut self, many: u8) -> bool {
        !self.is_empty() && self.byte().is_multiple_of(many.max(1))
    }

    /// A number below `bound`, which is at least 1, from one byte.
    pub fn below(&mut self, bound: usize) -> usize {
        usize::from(self.byte()) % bound.max(1)
    }

    /// One of these.
    pub fn pick<'b, T>(&mut self, of: &'b [T]) -> Option<&'b T> {
        let at = self.below(of.len());
        of.get(at)
    }

    /// Exactly this many bytes, or what is left.
    pub fn bytes(&mut self, len: usize) -> &'a [u8] {
        let len = len.min(self.0.len());
        self.0.bytes(len).unwrap_or_default()
    }

    /// Up to 255 bytes behind a length.
    pub fn chunk(&mut self) -> &'a [u8] {
        let len = self.byte();
        self.bytes(len.into())
    }

    /// All that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        self.bytes(usize::MAX)
    }

    /// A span of time: mostly short, sometimes years.
    pub fn span(&mut self) -> Duration {
        let (unit, count) = (self.byte(), u64::from(self.byte()));
        match unit % 16 {
            0..=5 => Duration::from_millis(count),
            6..=9 => Duration::from_millis(count * 20),
            10..=12 => Duration::from_secs(count),
            13 => Duration::from_secs(count * 3600),
            14 => Duration::from_nanos(count),
            _ => Duration::from_secs(count * 86_400 * 30),
        }
    }
}
