//! A node made again from its log.

use core::fmt;
use std::collections::VecDeque;

use super::{
    MAGIC, MAX_ENTRY, Recorder, Start, VERSION,
    call::{Call, Impossible, Taken},
    reader::{Frame, Reader, parse},
};
use crate::{
    config::{ConfigError, Platform},
    identity::Keypair,
    io::{Input, Output, Transmit},
    node::Node,
    time::Time,
    transport::varint,
};

/// Runs a log.
///
/// ```no_run
/// # fn show(log: &[u8], platform: peerwork::Platform) -> Result<(), peerwork::record::ReplayError> {
/// use peerwork::{Output, record::Replay};
///
/// let mut replay = Replay::new(log, platform)?;
/// while let Some(step) = replay.step()? {
///     for output in &step.outputs {
///         println!("{} {output:?}", step.at);
///     }
/// }
/// println!("{:?}, {:?}", replay.ending(), replay.node().stats());
/// # Ok(())
/// # }
/// ```
pub struct Replay<'a> {
    pub(super) node: Node,
    reader: Reader<'a>,
    /// Entries read and not yet written by the node's recorder, which may hold some back.
    expected: VecDeque<Expected>,
    /// The last entry that was written as it was read.
    last: Vec<u8>,
    at: Time,
    /// The time of the last entry, from which the next one's is counted.
    when: Time,
    start: Time,
    library: String,
    ending: Option<Ending>,
    totals: Totals,
}

struct Expected {
    entry: u64,
    at: Time,
    bytes: Vec<u8>,
}

/// One entry of a log, and what came of it.
#[derive(Debug)]
#[non_exhaustive]
pub struct Step {
    /// The entry's number, from 1.
    pub entry: u64,
    /// The node's time.
    pub at: Time,
    /// What was called.
    pub call: Call<'static>,
    /// What came out, if the call was [`Call::Outputs`].
    pub outputs: Vec<Output>,
    /// What was sent, if the call was [`Call::Transmits`].
    pub sent: Vec<Sent>,
}

/// A batch of datagrams.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Sent {
    /// Where it goes.
    pub transmit: Transmit,
    /// Its bytes.
    pub data: Vec<u8>,
}

/// How a log ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    /// As it should: the recording was ended, or the node was dropped.
    Complete,
    /// Behind an entry. What wrote the log was killed, or still writes.
    Unfinished,
    /// In the middle of an entry, for the same reasons.
    Torn {
        /// Bytes of that entry which are there.
        bytes: u64,
    },
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const WHY: &str = "what wrote it was killed, or still runs";
        match self {
            Self::Complete => f.write_str("the log is complete"),
            Self::Unfinished => write!(f, "the log just stops: {WHY}"),
            Self::Torn { bytes } => write!(f, "the log is torn: its last {bytes} bytes are part of an entry; {WHY}"),
        }
    }
}

/// What has been replayed so far.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[non_exhaustive]
pub struct Totals {
    /// Entries, marks included.
    pub entries: u64,
    /// Marks at which everything was as it should.
    pub marks: u64,
    /// Events.
    pub events: u64,
    /// Commands.
    pub commands: u64,
    /// Datagrams received, each part of a coalesced batch counted.
    pub datagrams_in: u64,
    /// Datagrams sent.
    pub datagrams_out: u64,
    /// Bytes of the log.
    pub bytes: u64,
}

/// Why a log cannot be replayed, or not further.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// There are no bytes.
    #[error("the log is empty; what should have written it may have been killed at its start")]
    Empty,
    /// It begins otherwise.
    #[error("this is not a log of a peerwork node")]
    Foreign,
    /// The log ends before the node is described.
    #[error("the log ends after {0} bytes, before the node was described; what wrote it was killed at its start")]
    NoStart(u64),
    /// It is of another version.
    #[error("the log has version {found}, and this program reads version {VERSION}; use the peerwork that wrote it")]
    Version {
        /// The log's.
        found: u16,
    },
    /// The description of the node makes no sense.
    #[error("the log is damaged at its start: {0}")]
    BadStart(String),
    /// Its configuration is not accepted.
    #[error("the log's configuration is refused: {0}; a log of another version of peerwork needs that version")]
    Config(#[from] ConfigError),
    /// An entry makes no sense.
    #[error("the log is damaged at byte {offset}, entry {entry}, {at}: {why}; what was replayed before is as it was")]
    Damaged {
        /// The entry's number.
        entry: u64,
        /// Time of the entry before.
        at: Time,
        /// Where it begins.
        offset: u64,
        /// What is wrong.
        why: String,
    },
    /// The node did something else than the one that wrote the log.
    #[error("{0}")]
    Diverged(Box<Difference>),
}

/// Where a replay and its log part ways.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Difference {
    /// The entry that the node would have written otherwise.
    pub entry: u64,
    /// Its time.
    pub at: Time,
    /// The call before it, which had another outcome.
    pub after: String,
    /// What the log has.
    pub expected: String,
    /// What came out.
    pub actual: String,
    /// Whether the log is sound up to the next mark, as far as there is one.
    pub intact: Option<bool>,
    /// The version of the library that wrote the log.
    pub library: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { entry, at, after, expected, actual, intact, library } = self;
        write!(f, "the replay differs from the log at entry {entry}, {at}, after `{after}`: ")?;
        write!(f, "expected {expected}; got {actual}. ")?;
        if *intact == Some(false) {
            return f.write_str("The log itself is damaged");
        }
        if *intact == Some(true) {
            f.write_str("The log itself is sound. ")?;
        }
        const LIBRARY: &str = env!("CARGO_PKG_VERSION");
        if library == LIBRARY {
            write!(f, "Either this is another build of peerwork {LIBRARY}, or another crypto provider, or a bug")
        } else {
            write!(f, "The log is from peerwork {library} and this is {LIBRARY}: replay it with the one that wrote it")
        }
    }
}

impl<'a> Replay<'a> {
    /// Makes the node of a log that is in memory.
    ///
    /// `platform` must have the same crypto provider as the recorded node's.
    pub fn new(log: &'a [u8], platform: Platform) -> Result<Self, ReplayError> {
        let mut rest = log;
        Self::from_source(
            move |buf| {
                let (piece, after) = rest.split_at(rest.len().min(1 << 20));
                rest = after;
                buf.extend_from_slice(piece);
                !piece.is_empty()
            },
            platform,
        )
    }

    /// Makes the node of a log that comes in pieces. `more` puts the next one to the end of its argument, and says
    /// whether there was one.
    pub fn from_source(more: impl FnMut(&mut Vec<u8>) -> bool + 'a, platform: Platform) -> Result<Self, ReplayError> {
        let mut reader = Reader::new(Box::new(more));
        let head = MAGIC.len() + 2;
        let found = reader.at_least(head);
        if found.is_empty() {
            return Err(ReplayError::Empty);
        }
        if !found.iter().zip(MAGIC).all(|(found, wanted)| *found == wanted) {
            return Err(ReplayError::Foreign);
        }
        if let Some(version) = found.get(MAGIC.len()..head).and_then(|bytes| <[u8; 2]>::try_from(bytes).ok()) {
            let found = u16::from_le_bytes(version);
            if found != VERSION {
                return Err(ReplayError::Version { found });
            }
        }
        if found.len() < head {
            return Err(ReplayError::NoStart(found.len() as u64));
        }
        reader.consume(head);
        let bad = |why: &dyn fmt::Display| ReplayError::BadStart(why.to_string());
        let frame = match reader.frame() {
            Frame::Whole(frame) => frame,
            Frame::Torn(_) | Frame::End => return Err(ReplayError::NoStart(reader.offset() + reader.left())),
            Frame::Bad(why) => return Err(bad(&why)),
        };
        let (mut start, rest) = postcard::take_from_bytes::<Start<'_>>(frame.body()).map_err(|error| bad(&error))?;
        if !rest.is_empty() {
            return Err(bad(&"something is left over"));
        }
        let (now, library) = (start.now, start.library.to_string());
        if let super::Held::Own(config) = &mut start.config {
            config.platform = Some(platform);
            if let Some(identity) = &start.identity {
                let identity = Keypair::decode_protobuf(identity.as_slice()).map_err(|error| bad(&error))?;
                config.identity = Some(identity);
            }
        }
        let node = Node::replayed(&start, Recorder::replaying(&start))?;
        let mut replay = Self {
            node,
            reader,
            expected: VecDeque::new(),
            last: Vec::new(),
            at: now,
            when: now,
            start: now,
            library,
            ending: None,
            totals: Totals::default(),
        };
        let mut written = MAGIC.to_vec();
        written.extend_from_slice(&VERSION.to_le_bytes());
        written.extend_from_slice(&frame.bytes);
        let recorder = replay.node.recorder().and_then(Recorder::kept).ok_or_else(|| bad(&"nothing was written"))?;
        if core::mem::take(recorder) != written {
            return Err(bad(&"it is written in another way"));
        }
        replay.totals.bytes = replay.reader.offset();
        Ok(replay)
    }

    /// Makes the next call of the log. `None` at its end, of which [`ending`](Self::ending) tells more.
    ///
    /// # Errors
    ///
    /// [`ReplayError::Damaged`] and [`ReplayError::Diverged`], after which the node is of no use.
    pub fn step(&mut self) -> Result<Option<Step>, ReplayError> {
        if self.ending.is_some() {
            return Ok(None);
        }
        let (entry, offset) = (self.totals.entries + 1, self.reader.offset());
        let at = self.at;
        let damaged = |why: &dyn fmt::Display| ReplayError::Damaged { entry, at, offset, why: why.to_string() };
        let hash = self.reader.hash();
        let frame = match self.reader.frame() {
            Frame::Whole(frame) => frame,
            Frame::End => return Ok(self.end(Ending::Unfinished)),
            Frame::Torn(bytes) => return Ok(self.end(Ending::Torn { bytes })),
            Frame::Bad(why) => return Err(damaged(&why)),
        };
        let (_, since, call) = parse(frame.body()).map_err(|error| damaged(&error))?;
        if let Call::Mark { log, .. } = call
            && log != hash
        {
            return Err(damaged(&"its bytes are not those that were written"));
        }
        self.totals.entries = entry;
        self.totals.bytes = self.reader.offset();
        let when = Time::from_nanos(self.when.as_nanos().wrapping_add(since.cast_unsigned()));
        self.when = when;
        self.at = self.at.max(when);
        self.expected.push_back(Expected { entry, at: when, bytes: frame.bytes });
        let mut taken = Taken::default();
        match call {
            Call::Mark { last: false, .. } => self.node.mark(),
            Call::Mark { last: true, .. } => {
                if let Some(recorder) = self.node.recorder() {
                    recorder.end();
                }
            }
            _ => call.apply(&mut self.node, when, &mut taken).map_err(|Impossible(why)| damaged(&why))?,
        }
        self.compare()?;
        self.count(&call, &taken);
        if let Call::Mark { last: true, .. } = call {
            self.ending = Some(Ending::Complete);
        }
        let sent = taken.sent.into_iter().map(|(transmit, data)| Sent { transmit, data }).collect();
        Ok(Some(Step { entry, at: self.at, call, outputs: taken.outputs, sent }))
    }

    /// The time of the next call, if there is one.
    pub fn next_at(&mut self) -> Option<Time> {
        let (len, used) = varint::decode(self.reader.at_least(varint::MAX_LEN)).ok()??;
        let len = usize::try_from(len).ok().filter(|len| *len <= MAX_ENTRY)?;
        let body = self.reader.at_least(used + len).get(used + 2..used + len)?;
        let (since, _) = postcard::take_from_bytes::<i64>(body).ok()?;
        Some(Time::from_nanos(self.when.as_nanos().wrapping_add(since.cast_unsigned())))
    }

    fn end(&mut self, ending: Ending) -> Option<Step> {
        self.ending = Some(ending);
        None
    }

    fn count(&mut self, call: &Call<'_>, taken: &Taken) {
        let totals = &mut self.totals;
        match call {
            Call::Mark { .. } => totals.marks += 1,
            Call::Handle(input) => {
                if let Input::Datagram(datagram) = &**input {
                    let part = datagram.segment.map_or(usize::MAX, core::num::NonZeroUsize::get);
                    totals.datagrams_in += datagram.data.len().div_ceil(part).max(1) as u64;
                }
            }
            _ => {}
        }
        for output in &taken.outputs {
            match output {
                Output::Command(_) => totals.commands += 1,
                Output::Event(_) => totals.events += 1,
            }
        }
        for (transmit, data) in &taken.sent {
            let part = transmit.segment.map_or(usize::MAX, core::num::NonZeroUsize::get);
            totals.datagrams_out += data.len().div_ceil(part).max(1) as u64;
        }
    }

    /// Compares what the node's recorder has written with what was read.
    fn compare(&mut self) -> Result<(), ReplayError> {
        let Some(kept) = self.node.recorder().and_then(Recorder::kept) else { return Ok(()) };
        let written = core::mem::take(kept);
        let mut rest = written.as_slice();
        while !rest.is_empty() {
            match self.expected.front() {
                Some(expected) if rest.starts_with(&expected.bytes) => {
                    rest = rest.get(expected.bytes.len()..).unwrap_or_default();
                    self.last = self.expected.pop_front().map(|expected| expected.bytes).unwrap_or_default();
                }
                expected => {
                    let (entry, at, bytes) = match expected {
                        Some(Expected { entry, at, bytes }) => (*entry, *at, bytes.as_slice()),
                        None => (self.totals.entries + 1, self.at, &[] as &[u8]),
                    };
                    let after =
                        parse(body(&self.last)).map_or_else(|_| "the start".into(), |entry| entry.2.to_string());
                    let (expected, actual) = describe(body(bytes), body(rest));
                    let intact = self.reader.is_intact();
                    let library = self.library.clone();
                    let difference = Difference { entry, at, after, expected, actual, intact, library };
                    return Err(ReplayError::Diverged(Box::new(difference)));
                }
            }
        }
        // Its memory serves again.
        if let Some(kept) = self.node.recorder().and_then(Recorder::kept) {
            *kept = written;
            kept.clear();
        }
        Ok(())
    }

    /// How the log ended; `None` before its end.
    pub fn ending(&self) -> Option<Ending> {
        self.ending
    }

    /// The node as it is now. To look at: a call of one's own would be a difference from the log.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// The node's time: the latest of the entries so far.
    pub fn now(&self) -> Time {
        self.at
    }

    /// The node's time when it was made.
    pub fn start(&self) -> Time {
        self.start
    }

    /// The version of the library that wrote the log.
    pub fn library(&self) -> &str {
        &self.library
    }

    /// What has been replayed so far.
    pub fn totals(&self) -> Totals {
        self.totals
    }
}

impl fmt::Debug for Replay<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replay").field("at", &self.at).field("totals", &self.totals).finish_non_exhaustive()
    }
}

/// An entry without its length.
fn body(frame: &[u8]) -> &[u8] {
    let Ok(Some((len, used))) = varint::decode(frame) else { return &[] };
    let len = usize::try_from(len).unwrap_or(usize::MAX);
    frame.get(used..).map(|body| body.get(..len).unwrap_or(body)).unwrap_or_default()
}

/// Words for two entries that should be the same.
fn describe(expected: &[u8], actual: &[u8]) -> (String, String) {
    match (parse(expected), parse(actual)) {
        (Ok((a, since_a, call_a)), Ok((b, since_b, call_b))) => {
            if let (
                Call::Mark { outputs: outputs_a, state: state_a, .. },
                Call::Mark { outputs: outputs_b, state: state_b, .. },
            ) = (&call_a, &call_b)
            {
                let what = if outputs_a == outputs_b { "counters" } else { "outputs" };
                return (
                    format!("{what} with hashes {outputs_a:016x} and {state_a:016x}"),
                    format!("{outputs_b:016x} and {state_b:016x}"),
                );
            }
            if a != b {
                return (format!("outputs with check {a:04x} before `{call_a}`"), format!("{b:04x}"));
            }
            let (shown_a, shown_b) = (call_a.to_string(), call_b.to_string());
            if shown_a == shown_b && since_a == since_b {
                return (format!("`{shown_a}`"), "the same with other contents".into());
            }
            (format!("`{shown_a}`, {since_a} ns later"), format!("`{shown_b}`, {since_b} ns later"))
        }
        (Err(_), Ok((_, _, actual))) => ("nothing".into(), format!("`{actual}`")),
        (_, Err(why)) => ("an entry".into(), format!("one that cannot be read: {why}")),
    }
}
