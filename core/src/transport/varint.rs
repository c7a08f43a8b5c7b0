//! Unsigned varints of the multiformats kind: the length before every frame.
//!
//! Seven bits per byte, least significant first, the high bit set on all bytes but the last. Unlike protobuf's varints, each
//! number has exactly one encoding (a longer one is refused) and at most [`MAX_LEN`] bytes, hence at most 63 bits.
//! See <https://github.com/multiformats/unsigned-varint>.

use thiserror::Error;

/// The longest varint that [`decode`] accepts, in bytes.
pub const MAX_LEN: usize = 9;

/// The largest number that fits into [`MAX_LEN`] bytes.
pub const MAX: u64 = (1 << 63) - 1;

const MORE: u8 = 0x80;
const BITS: u8 = 0x7f;

/// An encoded number, without a heap behind it.
#[derive(Debug, Clone, Copy)]
pub struct Varint {
    // One byte over the limit: `encode` is total.
    bytes: [u8; MAX_LEN + 1],
    len: usize,
}

impl Varint {
    /// The bytes to send.
    pub fn as_slice(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

impl AsRef<[u8]> for Varint {
    fn as_ref(&self) -> &[u8] {
        self.as_slice()
    }
}

/// Encodes a number. Above [`MAX`], which no length reaches, the result has ten bytes and other decoders refuse it.
pub fn encode(value: u64) -> Varint {
    let mut out = Varint { bytes: [0; MAX_LEN + 1], len: encoded_len(value) };
    let mut rest = value;
    for byte in out.bytes.iter_mut().take(out.len) {
        *byte = (rest as u8 & BITS) | MORE;
        rest >>= 7;
    }
    if let Some(last) = out.bytes.get_mut(out.len.saturating_sub(1)) {
        *last &= BITS;
    }
    out
}

/// The number of bytes that [`encode`] makes of a number: 1 to 10.
pub const fn encoded_len(value: u64) -> usize {
    let bits = (u64::BITS - (value | 1).leading_zeros()) as usize;
    bits.div_ceil(7)
}

/// Decodes the number at the beginning of `input` and says how many bytes it took; `None` if it goes on behind the end.
pub fn decode(input: &[u8]) -> Result<Option<(u64, usize)>, VarintError> {
    let mut value = 0;
    for (index, byte) in input.iter().take(MAX_LEN).enumerate() {
        value |= u64::from(byte & BITS) << (7 * index);
        if byte & MORE == 0 {
            return match (byte, index) {
                (0, 1..) => Err(VarintError::NotMinimal),
                _ => Ok(Some((value, index + 1))),
            };
        }
    }
    if input.len() < MAX_LEN { Ok(None) } else { Err(VarintError::TooLong) }
}

/// Why bytes are no varint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum VarintError {
    /// The same number has a shorter encoding.
    #[error("a varint is not minimally encoded")]
    NotMinimal,
    /// No end within [`MAX_LEN`] bytes.
    #[error("a varint is longer than nine bytes")]
    TooLong,
}

#[cfg(test)]
mod tests;
