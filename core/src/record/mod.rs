//! Recording a node, and running the recording again.
//!
//! A node is a function of its configuration, its randomness and the calls made to it.
//! [`Node::recorded`](crate::Node::recorded) makes a node
//! that writes all three into a [`Sink`] as they come; [`Replay`] makes the same node again from what was written, and
//! checks on the way that it is the same.
//!
//! ```text
//! log   = "peerworkLOG\0", version (u16, little endian), start, entry*
//! start = length (varint), postcard of: version of the library, configuration, identity, root of randomness, clocks
//! entry = length (varint), check (u16, little endian), postcard of: time since the last entry (ns), call
//! ```
//!
//! An entry is written before its call is made, so that a call which brings the process down is in the log. Three kinds
//! are written late, since only then is known what they are: polls that follow each other are one entry, a write holds
//! the bytes that were taken, and a stream looked at without touching it only moves the time.
//!
//! Everything that comes out of the node (outputs, datagrams, results of calls) goes into a rolling hash. `check` is
//! its lowest 16 bits as they were before the call. Every [`MARK_EVERY`] entries, a mark holds all of it, a hash of the
//! node's counters and one of the log itself, which tells a damaged file from a node that behaves otherwise. A replay
//! records again, and compares what it writes with the log, byte by byte.
//!
//! **A log is secret**: it holds the node's private key, and everything that it needs to read all of its traffic.

mod call;
mod reader;
mod replay;
pub(crate) mod wire;

use core::{fmt, fmt::Write as _, ops::ControlFlow};
use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64_with_seed;
use zeroize::Zeroize as _;

pub(crate) use self::call::LEFT;
pub use self::{
    call::{Blob, Call, Held},
    replay::{Difference, Ending, Replay, ReplayError, Sent, Step, Totals},
};
use crate::{
    config::Config,
    entropy::Root,
    io::Transmit,
    time::{Time, UnixTime},
    transport::varint,
};

/// The first bytes of a log.
pub const MAGIC: [u8; 12] = *b"peerworkLOG\0";

/// The form of the log that is written, and the only one that is read.
pub const VERSION: u16 = 1;

/// Entries between two marks.
pub const MARK_EVERY: u32 = 64;

/// The longest entry, in bytes. The longest call is a write that fills a send window of 1 GiB.
pub const MAX_ENTRY: usize = (1 << 30) + (1 << 16);

/// Takes the log, piece by piece; a piece is one entry, or the beginning. Called in the middle of the node's calls, so
/// it has to be quick. [`ControlFlow::Break`] ends the recording, and the node goes on.
pub type Sink = Box<dyn FnMut(&[u8]) -> ControlFlow<()> + Send>;

/// What a node is made of.
#[derive(Serialize, Deserialize)]
pub(crate) struct Start<'a> {
    pub(crate) library: Cow<'a, str>,
    pub(crate) config: Held<'a, Config>,
    /// In protobuf form.
    pub(crate) identity: Option<Blob<'a>>,
    pub(crate) root: [u8; Root::LEN],
    pub(crate) now: Time,
    pub(crate) wall: UnixTime,
}

/// Room for the longest length of an entry, before it.
const LENGTH: usize = varint::MAX_LEN;

enum Target {
    Sink(Sink),
    /// In a replay.
    Kept(Vec<u8>),
    /// No more of it.
    Nowhere,
}

/// Polls that will be one entry.
enum Pending {
    None,
    Outputs { check: u16, polled: u64 },
    Transmits { check: u16, at: Time, max_segments: u64, polled: u64 },
}

/// A node's pen.
pub(crate) struct Recorder {
    target: Target,
    pending: Pending,
    /// Rolling hash of all that came out of the node.
    outputs: u64,
    /// Rolling hash of the log.
    log: u64,
    /// Entries since the last mark.
    unmarked: u32,
    /// The time of the last entry, from which the next one's is counted.
    last: Time,
    /// The node's time as the log has it.
    seen: Time,
    buf: Vec<u8>,
    text: String,
}

impl Recorder {
    pub(crate) fn new(sink: Sink, start: &Start<'_>) -> Self {
        Self::start(Target::Sink(sink), start)
    }

    /// One that keeps what it writes, and makes marks only where it is told to.
    fn replaying(start: &Start<'_>) -> Self {
        Self::start(Target::Kept(Vec::new()), start)
    }

    fn start(target: Target, start: &Start<'_>) -> Self {
        let mut recorder = Self {
            target,
            pending: Pending::None,
            outputs: 0,
            log: 0,
            unmarked: 0,
            last: start.now,
            seen: start.now,
            buf: Vec::new(),
            text: String::new(),
        };
        let mut head = MAGIC.to_vec();
        head.extend_from_slice(&VERSION.to_le_bytes());
        recorder.put(&head);
        recorder.frame(None, start);
        // Where the key was.
        recorder.buf.zeroize();
        recorder
    }

    /// Whether anybody still listens.
    pub(crate) fn is_on(&self) -> bool {
        !matches!(self.target, Target::Nowhere)
    }

    /// Whether a mark is due. In a replay, the log says when.
    pub(crate) fn is_due(&self) -> bool {
        self.unmarked >= MARK_EVERY && matches!(self.target, Target::Sink(_))
    }

    /// The node's time as the log has it. What is later has not been written yet.
    pub(crate) fn seen(&self) -> Time {
        self.seen
    }

    /// What the next entry has to begin with.
    pub(crate) fn check(&self) -> u16 {
        let [low, high, ..] = self.outputs.to_le_bytes();
        u16::from_le_bytes([low, high])
    }

    /// Writes an entry.
    pub(crate) fn entry(&mut self, check: u16, at: Time, call: &Call<'_>) {
        let since = at.as_nanos().wrapping_sub(self.last.as_nanos()).cast_signed();
        self.last = at;
        self.seen = self.seen.max(at);
        self.unmarked = self.unmarked.saturating_add(1);
        self.frame(Some(check), &(since, call));
    }

    /// Writes what was waiting to become longer.
    pub(crate) fn settle(&mut self) {
        match core::mem::replace(&mut self.pending, Pending::None) {
            Pending::None => {}
            Pending::Outputs { check, polled } => self.entry(check, self.last, &Call::Outputs { polled }),
            Pending::Transmits { check, at, max_segments, polled } => {
                self.entry(check, at, &Call::Transmits { max_segments, polled });
            }
        }
    }

    /// Writes a mark, with a hash of the node's state.
    pub(crate) fn mark(&mut self, state: u64) {
        self.settle();
        self.unmarked = 0;
        let mark = Call::Mark { log: self.log, outputs: self.outputs, state, last: false };
        self.entry(self.check(), self.last, &mark);
    }

    /// Writes the end.
    pub(crate) fn end(&mut self) {
        self.settle();
        let mark = Call::Mark { log: self.log, outputs: self.outputs, state: 0, last: true };
        self.entry(self.check(), self.last, &mark);
    }

    /// Whether a poll for datagrams continues the one before.
    pub(crate) fn transmit_goes_on(&mut self, now: Time, segments: u64) -> bool {
        match &mut self.pending {
            Pending::Transmits { at, max_segments, polled, .. } if (*at, *max_segments) == (now, segments) => {
                *polled += 1;
                true
            }
            _ => false,
        }
    }

    /// The first of some polls for datagrams.
    pub(crate) fn transmit_begins(&mut self, at: Time, max_segments: u64) {
        self.pending = Pending::Transmits { check: self.check(), at, max_segments, polled: 1 };
    }

    /// What a poll for datagrams gave, whose bytes are the last of `data`.
    pub(crate) fn transmitted(&mut self, transmit: Option<&Transmit>, data: &[u8]) {
        match transmit {
            Some(transmit) => {
                let bytes = data.len().checked_sub(transmit.len).and_then(|from| data.get(from..));
                self.told(transmit);
                self.told_bytes(bytes.unwrap_or_default());
            }
            // A turn has ended; the next may be far.
            None => self.settle(),
        }
    }

    /// What a poll for outputs gave.
    pub(crate) fn output(&mut self, output: Option<&impl fmt::Debug>) {
        let Some(output) = output else {
            if matches!(self.pending, Pending::Outputs { .. }) {
                self.settle();
            }
            return;
        };
        if let Pending::Outputs { polled, .. } = &mut self.pending {
            *polled += 1;
        } else {
            self.settle();
            self.pending = Pending::Outputs { check: self.check(), polled: 1 };
        }
        self.told(output);
    }

    /// Takes note of something that came out of the node.
    pub(crate) fn told(&mut self, what: &impl fmt::Debug) {
        self.outputs = hash_of(&mut self.text, what, self.outputs);
    }

    /// The same for bytes.
    pub(crate) fn told_bytes(&mut self, bytes: &[u8]) {
        self.outputs = xxh3_64_with_seed(bytes, self.outputs);
    }

    fn frame(&mut self, check: Option<u16>, what: &impl Serialize) {
        if !self.is_on() {
            return;
        }
        let mut buf = core::mem::take(&mut self.buf);
        buf.clear();
        buf.extend_from_slice(&[0; LENGTH]);
        if let Some(check) = check {
            buf.extend_from_slice(&check.to_le_bytes());
        }
        let Ok(mut buf) = postcard::to_extend(what, buf) else { return self.give_up() };
        let len = buf.len() - LENGTH;
        if len > MAX_ENTRY {
            return self.give_up();
        }
        let length = varint::encode(len as u64);
        let from = LENGTH - length.as_slice().len();
        if let Some(place) = buf.get_mut(from..LENGTH) {
            place.copy_from_slice(length.as_slice());
        }
        let piece = buf.get(from..).unwrap_or_default();
        self.log = xxh3_64_with_seed(piece, self.log);
        self.put(piece);
        // What a long write needed is not kept for short ones.
        if buf.capacity() <= 1 << 20 {
            self.buf = buf;
        }
    }

    fn put(&mut self, piece: &[u8]) {
        match &mut self.target {
            Target::Sink(sink) => {
                if sink(piece).is_break() {
                    self.give_up();
                }
            }
            Target::Kept(kept) => kept.extend_from_slice(piece),
            Target::Nowhere => {}
        }
    }

    fn give_up(&mut self) {
        self.target = Target::Nowhere;
    }

    fn kept(&mut self) -> Option<&mut Vec<u8>> {
        match &mut self.target {
            Target::Kept(kept) => Some(kept),
            Target::Sink(_) | Target::Nowhere => None,
        }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        if matches!(self.target, Target::Sink(_)) {
            self.end();
        }
    }
}

/// Hashes what a value's `Debug` says, so that no field can be forgotten. `text` is memory to do it in.
pub(crate) fn hash_of(text: &mut String, what: &impl fmt::Debug, seed: u64) -> u64 {
    text.clear();
    // Writing to a string does not fail.
    let _ = write!(text, "{what:?}");
    xxh3_64_with_seed(text.as_bytes(), seed)
}

#[cfg(test)]
mod tests;
