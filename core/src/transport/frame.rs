//! Frames: messages with their length in front.
//!
//! Nearly every libp2p protocol writes its messages as an unsigned varint and then that many bytes. [`FrameDecoder`] cuts such
//! frames out of the chunks in which a stream delivers them: [`push`](FrameDecoder::push) a chunk, then call
//! [`next`](FrameDecoder::next) until it yields nothing. A frame that lies within one chunk is a slice of it; only a frame
//! spread over several is copied together.
//!
//! The declared length is compared with the protocol's limit as soon as it is known, before anything is kept. It never
//! reserves memory: what is held grows with the bytes that came. A caller that drains after each push makes the decoder hold
//! at most [`FrameDecoder::bound`] bytes between two calls. After an error the decoder stays failed, for nothing behind a bad
//! length can be understood; the stream is to be reset.

use bytes::{Buf, Bytes, BytesMut};
use thiserror::Error;

use super::varint::{self, VarintError};

/// Cuts length-prefixed frames out of chunks.
#[derive(Debug)]
pub struct FrameDecoder {
    max_len: usize,
    unread: Bytes,
    state: State,
}

#[derive(Debug)]
enum State {
    Prefix { bytes: [u8; varint::MAX_LEN], len: usize },
    Body { len: usize, partial: BytesMut },
    Failed(FrameError),
}

impl State {
    const START: Self = Self::Prefix { bytes: [0; varint::MAX_LEN], len: 0 };
}

impl FrameDecoder {
    /// A decoder for a protocol whose frames have at most `max_len` bytes, the prefix not counted.
    pub fn new(max_len: usize) -> Self {
        Self { max_len, unread: Bytes::new(), state: State::START }
    }

    /// Takes the next bytes of the stream. Drain [`FrameDecoder::next`] before the next push: otherwise nothing is lost, but
    /// the chunks are joined by copying and the bound on the memory is the caller's. Does nothing after an error.
    pub fn push(&mut self, chunk: Bytes) {
        if matches!(self.state, State::Failed(_)) {
            return;
        }
        if self.unread.is_empty() {
            self.unread = chunk;
        } else {
            let mut joined = BytesMut::from(std::mem::take(&mut self.unread));
            joined.extend_from_slice(&chunk);
            self.unread = joined.freeze();
        }
    }

    /// The next whole frame without its prefix, or `None` until more bytes are pushed.
    #[expect(clippy::should_implement_trait, reason = "it can fail, and `None` is not the end")]
    pub fn next(&mut self) -> Result<Option<Bytes>, FrameError> {
        match self.advance() {
            Ok(Some(frame)) => Ok(Some(frame)),
            Ok(None) => {
                // An empty slice would keep the whole chunk alive.
                self.unread = Bytes::new();
                Ok(None)
            }
            Err(error) => {
                self.unread = Bytes::new();
                self.state = State::Failed(error);
                Err(error)
            }
        }
    }

    fn advance(&mut self) -> Result<Option<Bytes>, FrameError> {
        loop {
            match &mut self.state {
                State::Prefix { bytes, len } => {
                    if !self.unread.has_remaining() {
                        return Ok(None);
                    }
                    let Some(slot) = bytes.get_mut(*len) else {
                        return Err(VarintError::TooLong.into());
                    };
                    *slot = self.unread.get_u8();
                    *len += 1;
                    let prefix = bytes.get(..*len).unwrap_or_default();
                    match varint::decode(prefix)? {
                        Some((declared, _)) => {
                            let len = usize::try_from(declared)
                                .ok()
                                .filter(|len| *len <= self.max_len)
                                .ok_or(FrameError::TooLong { max: self.max_len })?;
                            let partial = BytesMut::new();
                            self.state = State::Body { len, partial };
                        }
                        // A prefix that has to be longer than the limit's own declares more than the limit.
                        None if *len >= varint::encoded_len(self.max_len as u64) => {
                            return Err(FrameError::TooLong { max: self.max_len });
                        }
                        None => {}
                    }
                }
                State::Body { len, partial } => {
                    let missing = len.saturating_sub(partial.len());
                    let available = self.unread.split_to(missing.min(self.unread.len()));
                    let complete = available.len() == missing;
                    let frame = if complete && partial.is_empty() {
                        available
                    } else {
                        partial.extend_from_slice(&available);
                        if !complete {
                            return Ok(None);
                        }
                        std::mem::take(partial).freeze()
                    };
                    self.state = State::START;
                    return Ok(Some(frame));
                }
                State::Failed(error) => return Err(*error),
            }
        }
    }

    /// Takes back the pushed bytes that no frame has needed yet. Called right after [`FrameDecoder::next`] has yielded a frame,
    /// this is exactly what follows that frame: the way out for protocols that turn into a raw stream after a message.
    pub fn take_unread(&mut self) -> Bytes {
        std::mem::take(&mut self.unread)
    }

    /// The number of bytes held: the unread ones and those of a begun frame, its prefix included until it is complete.
    pub fn buffered(&self) -> usize {
        let begun = match &self.state {
            State::Prefix { len, .. } => *len,
            State::Body { partial, .. } => partial.len(),
            State::Failed(_) => 0,
        };
        begun.saturating_add(self.unread.len())
    }

    /// The most that [`FrameDecoder::buffered`] is after draining: a frame and its prefix.
    pub fn bound(&self) -> usize {
        self.max_len.saturating_add(varint::encoded_len(self.max_len as u64))
    }

    /// Whether the stream stands between two frames, with nothing unread.
    pub fn is_empty(&self) -> bool {
        self.unread.is_empty() && matches!(self.state, State::Prefix { len: 0, .. })
    }

    /// To be called after draining when the stream has ended: an end within a frame is an error.
    pub fn finish(&self) -> Result<(), FrameError> {
        match self.state {
            State::Failed(error) => Err(error),
            _ if self.is_empty() => Ok(()),
            _ => Err(FrameError::Truncated),
        }
    }
}

/// Puts the length in front of a message.
pub fn encode_frame(message: &[u8]) -> Bytes {
    let prefix = varint::encode(message.len() as u64);
    let mut out = BytesMut::with_capacity(prefix.as_slice().len() + message.len());
    out.extend_from_slice(prefix.as_slice());
    out.extend_from_slice(message);
    out.freeze()
}

/// Appends a message with its length in front.
pub fn append_frame(message: &[u8], out: &mut BytesMut) {
    out.extend_from_slice(varint::encode(message.len() as u64).as_slice());
    out.extend_from_slice(message);
}

/// Why a stream cannot be cut into frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum FrameError {
    /// The length is not a valid varint.
    #[error("invalid length of a frame: {0}")]
    Prefix(#[from] VarintError),
    /// The declared length is above the protocol's limit.
    #[error("a frame is longer than {max} bytes")]
    TooLong {
        /// The limit.
        max: usize,
    },
    /// The stream ended within a frame.
    #[error("the stream ended within a frame")]
    Truncated,
}

#[cfg(test)]
mod tests;
