//! From the bytes of a log to its entries.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::{MAX_ENTRY, call::Call};
use crate::transport::varint;

/// Puts the next piece of a log to the end of its argument, and says whether there was one.
pub(super) type Source<'a> = Box<dyn FnMut(&mut Vec<u8>) -> bool + 'a>;

/// Cuts a log into entries.
pub(super) struct Reader<'a> {
    more: Source<'a>,
    buf: Vec<u8>,
    pos: usize,
    /// Of `pos` in the log.
    offset: u64,
    ended: bool,
    /// Rolling hash of the entries so far, the start included.
    hash: u64,
}

pub(super) enum Frame {
    Whole(WholeFrame),
    /// The log ends after that many bytes of an entry.
    Torn(u64),
    End,
    Bad(&'static str),
}

/// An entry with its length.
pub(super) struct WholeFrame {
    pub(super) bytes: Vec<u8>,
    body: usize,
}

impl WholeFrame {
    pub(super) fn body(&self) -> &[u8] {
        self.bytes.get(self.body..).unwrap_or_default()
    }
}

impl<'a> Reader<'a> {
    pub(super) fn new(more: Source<'a>) -> Self {
        Self { more, buf: Vec::new(), pos: 0, offset: 0, ended: false, hash: 0 }
    }

    /// Bytes of the log before the next entry.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// Rolling hash of the entries so far, the start included.
    pub(super) fn hash(&self) -> u64 {
        self.hash
    }

    /// What is there, and at least so many bytes of it unless the log ends before.
    pub(super) fn at_least(&mut self, len: usize) -> &[u8] {
        if self.pos > self.buf.len() / 2 {
            self.buf.drain(..self.pos);
            self.pos = 0;
        }
        while !self.ended && self.buf.len() - self.pos < len {
            self.ended = !(self.more)(&mut self.buf);
        }
        self.buf.get(self.pos..).unwrap_or_default()
    }

    pub(super) fn left(&self) -> u64 {
        (self.buf.len() - self.pos) as u64
    }

    pub(super) fn consume(&mut self, len: usize) {
        self.pos += len;
        self.offset += len as u64;
    }

    pub(super) fn frame(&mut self) -> Frame {
        let found = self.at_least(varint::MAX_LEN);
        if found.is_empty() {
            return Frame::End;
        }
        let (len, used) = match varint::decode(found) {
            Ok(Some(found)) => found,
            Ok(None) => return Frame::Torn(self.left()),
            Err(_) => return Frame::Bad("its length is none"),
        };
        let Some(len) = usize::try_from(len).ok().filter(|len| *len <= MAX_ENTRY) else {
            return Frame::Bad("it is longer than any entry");
        };
        let Some(bytes) = self.at_least(used + len).get(..used + len) else { return Frame::Torn(self.left()) };
        let bytes = bytes.to_vec();
        self.hash = xxh3_64_with_seed(&bytes, self.hash);
        self.consume(bytes.len());
        Frame::Whole(WholeFrame { bytes, body: used })
    }

    /// Whether the log is as it was written, up to the next mark.
    pub(super) fn is_intact(&mut self) -> Option<bool> {
        loop {
            let hash = self.hash;
            match self.frame() {
                Frame::Whole(frame) => match parse(frame.body()) {
                    Ok((_, _, Call::Mark { log, .. })) => return Some(log == hash),
                    Ok(_) => {}
                    Err(_) => return Some(false),
                },
                Frame::Bad(_) => return Some(false),
                Frame::Torn(_) | Frame::End => return None,
            }
        }
    }
}

/// The check, the time since the entry before, and the call.
pub(super) fn parse(body: &[u8]) -> Result<(u16, i64, Call<'static>), String> {
    let Some((check, rest)) = body.split_first_chunk::<2>() else { return Err("it has no check".into()) };
    let ((since, call), rest) =
        postcard::take_from_bytes(rest).map_err(|error| format!("it cannot be decoded: {error}"))?;
    if rest.is_empty() { Ok((u16::from_le_bytes(*check), since, call)) } else { Err("something is left over".into()) }
}
