//! Agreeing on a stream's protocol: multistream-select 1.0.
//!
//! Both sides speak lines: a varint length, then text up to and including a newline, at most [`MAX_LINE`] bytes. Each side says
//! [`HEADER`] once. The opener of a stream, the [`Dialer`], sends the header and its first proposal in one write; the
//! [`Listener`] repeats a proposal to accept it or says `na`, upon which the dialer proposes its next candidate. The byte after
//! an accepted proposal belongs to the chosen protocol, in either direction, and is left in the caller's buffer.
//!
//! With a single candidate a dialer is *lazy*: the application may write behind the proposal without waiting. If the answer is
//! `na` those bytes reach a listener that takes them for lines. So what is unclean after a `na` counts as
//! [`NegotiateError::Refused`], not as a violation; it ends the negotiation all the same, because data that happens to look
//! like a line must not get many chances to choose a protocol. For the same reason there are at most [`MAX_PROPOSALS`].
//!
//! Either side may send its header early or late; the listener here waits for the dialer's, which saves a packet. It
//! answers `na` to `ls` (allowed, and no amplification) and to the lines of the abandoned simultaneous-open extension. Any other
//! line that is neither header nor proposal fails the stream. Nobody here has a clock: who opens or accepts the stream
//! limits the time. See <https://github.com/multiformats/multistream-select>.

use bytes::{Bytes, BytesMut};
use thiserror::Error;

use super::frame::{FrameDecoder, FrameError, append_frame};
use crate::protocol_id::ProtocolId;

/// The line that both sides begin with, without its newline.
pub const HEADER: &str = "/multistream/1.0.0";

/// The longest line that is read, newline included. Go and JS accept as many; ours have at most
/// [`ProtocolId::MAX_LEN`] + 1.
pub const MAX_LINE: usize = 1024;

/// The lines that a listener answers behind the header; one more fails the stream.
pub const MAX_PROPOSALS: usize = 64;

const REFUSAL: &str = "na";
const LIST: &str = "ls";

/// The opener's side of a negotiation.
#[derive(Debug)]
pub struct Dialer {
    candidates: Vec<ProtocolId>,
    /// The candidate that is on its way.
    current: usize,
    lines: Lines,
    state: DialerState,
}

#[derive(Debug)]
enum DialerState {
    AwaitHeader,
    AwaitReply,
    Done(ProtocolId),
    Failed(NegotiateError),
}

/// What a [`Dialer`] makes of received bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum DialerStep {
    /// Wait for more bytes; all that were given have been consumed.
    NeedMore,
    /// Send these bytes, the next proposal, and call [`Dialer::receive`] again with what is left of the input.
    Send(Bytes),
    /// The peer speaks this protocol; what is left of the input is its first data.
    Done(ProtocolId),
}

impl Dialer {
    /// Begins a negotiation over `candidates`, the preferred one first, and gives the bytes to send: header and first
    /// proposal. Without any candidate the negotiation ends as [`NegotiateError::Unsupported`] once the peer has answered.
    pub fn new(candidates: &[ProtocolId]) -> (Self, Bytes) {
        let dialer =
            Self { candidates: candidates.to_vec(), current: 0, lines: Lines::new(), state: DialerState::AwaitHeader };
        let mut first = BytesMut::new();
        append_line(HEADER, &mut first);
        if let Some(proposal) = dialer.proposal() {
            append_line(proposal.as_str(), &mut first);
        }
        (dialer, first.freeze())
    }

    /// Whether there is a single candidate, so that the application may write before the answer. Its data is lost if the peer
    /// refuses: it must be safe to send again on another stream, or not to arrive. Reading has to wait for
    /// [`DialerStep::Done`] in any case.
    pub fn is_lazy(&self) -> bool {
        self.candidates.len() == 1
    }

    /// Takes bytes from the stream, and from `input` exactly those that belong to the negotiation. To be called again after
    /// [`DialerStep::Send`]. An error is final: later calls consume nothing and repeat it.
    pub fn receive(&mut self, input: &mut Bytes) -> Result<DialerStep, NegotiateError> {
        match &self.state {
            DialerState::Done(name) => return Ok(DialerStep::Done(name.clone())),
            DialerState::Failed(error) => return Err(*error),
            DialerState::AwaitHeader | DialerState::AwaitReply => {}
        }
        self.lines.push(input);
        let step = self.advance();
        *input = self.lines.take_unread();
        match &step {
            Ok(DialerStep::Done(name)) => self.state = DialerState::Done(name.clone()),
            Ok(_) => {}
            Err(error) => self.state = DialerState::Failed(*error),
        }
        step
    }

    fn advance(&mut self) -> Result<DialerStep, NegotiateError> {
        while let Some(line) = self.lines.next()? {
            let line = line.text()?;
            if matches!(self.state, DialerState::AwaitHeader) {
                if line != HEADER {
                    return Err(NegotiateError::WrongHeader);
                }
                self.state = DialerState::AwaitReply;
                if self.candidates.is_empty() {
                    return Err(NegotiateError::Unsupported);
                }
            } else if line == REFUSAL {
                self.current = self.current.saturating_add(1);
                let next = self.proposal().ok_or(NegotiateError::Unsupported)?;
                let mut out = BytesMut::new();
                append_line(next.as_str(), &mut out);
                return Ok(DialerStep::Send(out.freeze()));
            } else {
                return match self.proposal() {
                    Some(name) if name.as_str() == line => Ok(DialerStep::Done(name.clone())),
                    _ => Err(NegotiateError::UnexpectedLine),
                };
            }
        }
        Ok(DialerStep::NeedMore)
    }

    fn proposal(&self) -> Option<&ProtocolId> {
        self.candidates.get(self.current)
    }

    /// What it means that the peer has ended its side of the stream before [`DialerStep::Done`].
    pub fn eof(&self) -> NegotiateError {
        match self.state {
            DialerState::Failed(error) => error,
            _ => NegotiateError::Ended,
        }
    }

    /// The bytes of a begun line that are held back.
    pub fn buffered(&self) -> usize {
        self.lines.buffered()
    }
}

/// The acceptor's side of a negotiation.
#[derive(Debug)]
pub struct Listener {
    lines: Lines,
    state: ListenerState,
    answered: usize,
    refused: bool,
    reply: BytesMut,
}

#[derive(Debug)]
enum ListenerState {
    AwaitHeader,
    AwaitProposal,
    Done,
    Failed(NegotiateError),
}

/// What a [`Listener`] makes of received bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum ListenerStep<T> {
    /// Send the reply, if there is one, and wait for more bytes; all that were given have been consumed.
    NeedMore {
        /// Bytes to send.
        reply: Option<Bytes>,
    },
    /// Send the reply, whether or not the peer still reads, and hand the stream to the protocol; what is left of the input is
    /// its first data.
    Selected {
        /// What `supports` gave for the name.
        value: T,
        /// The name as the peer proposed it.
        name: ProtocolId,
        /// Bytes to send: all that is owed, the accepted proposal last.
        reply: Bytes,
    },
}

impl Default for Listener {
    fn default() -> Self {
        Self::new()
    }
}

impl Listener {
    /// Begins with the acceptance of a stream. Nothing is sent before the dialer's header has come.
    pub fn new() -> Self {
        Self {
            lines: Lines::new(),
            state: ListenerState::AwaitHeader,
            answered: 0,
            refused: false,
            reply: BytesMut::new(),
        }
    }

    /// Takes bytes from the stream, and from `input` exactly those that belong to the negotiation. `supports` maps a proposed
    /// name to whatever the caller knows a handler by; it may match more loosely than byte for byte. An error is final: later
    /// calls consume nothing and repeat it. After [`ListenerStep::Selected`] nothing is consumed either.
    pub fn receive<T>(
        &mut self,
        input: &mut Bytes,
        supports: impl Fn(&str) -> Option<T>,
    ) -> Result<ListenerStep<T>, NegotiateError> {
        match self.state {
            ListenerState::Done => return Ok(ListenerStep::NeedMore { reply: None }),
            ListenerState::Failed(error) => return Err(error),
            ListenerState::AwaitHeader | ListenerState::AwaitProposal => {}
        }
        self.lines.push(input);
        let outcome = self.advance(supports);
        *input = self.lines.take_unread();
        match outcome {
            Ok(Some((value, name))) => {
                self.state = ListenerState::Done;
                let reply = self.reply.split().freeze();
                Ok(ListenerStep::Selected { value, name, reply })
            }
            Ok(None) => Ok(ListenerStep::NeedMore { reply: self.take_reply() }),
            Err(error) => {
                let error = if self.refused && error.is_unclean() { NegotiateError::Refused } else { error };
                self.state = ListenerState::Failed(error);
                Err(error)
            }
        }
    }

    fn advance<T>(&mut self, supports: impl Fn(&str) -> Option<T>) -> Result<Option<(T, ProtocolId)>, NegotiateError> {
        while let Some(line) = self.lines.next()? {
            let line = line.text()?;
            if matches!(self.state, ListenerState::AwaitHeader) {
                if line != HEADER {
                    return Err(NegotiateError::WrongHeader);
                }
                self.state = ListenerState::AwaitProposal;
                append_line(HEADER, &mut self.reply);
                continue;
            }
            if self.answered >= MAX_PROPOSALS {
                return Err(NegotiateError::TooManyProposals);
            }
            self.answered += 1;
            if line == HEADER {
                // Like the one other listener that lets it pass (JS): answered as the first.
                append_line(HEADER, &mut self.reply);
            } else if line.starts_with('/') {
                // A name beyond our own limits is one that nobody here speaks.
                if let Some((value, name)) = supports(line).zip(ProtocolId::new(line).ok()) {
                    append_line(line, &mut self.reply);
                    return Ok(Some((value, name)));
                }
                self.refuse();
            } else if line == LIST || is_simultaneous_open(line) {
                self.refuse();
            } else {
                return Err(NegotiateError::UnexpectedLine);
            }
        }
        Ok(None)
    }

    fn refuse(&mut self) {
        self.refused = true;
        append_line(REFUSAL, &mut self.reply);
    }

    /// What was still to be said when [`Listener::receive`] failed. After [`NegotiateError::Refused`] or
    /// [`NegotiateError::TooManyProposals`] send it before ending the stream, so that the peer learns of the refusal; after a
    /// violation forget it.
    pub fn take_reply(&mut self) -> Option<Bytes> {
        Some(self.reply.split().freeze()).filter(|reply| !reply.is_empty())
    }

    /// What it means that the peer has ended its side of the stream before [`ListenerStep::Selected`]: that it has given up
    /// after a refusal, or that it has broken off.
    pub fn eof(&self) -> NegotiateError {
        match self.state {
            ListenerState::Failed(error) => error,
            _ if self.refused => NegotiateError::Refused,
            _ => NegotiateError::Ended,
        }
    }

    /// The bytes of a begun line that are held back.
    pub fn buffered(&self) -> usize {
        self.lines.buffered()
    }
}

/// The other lines of the abandoned extension; `/libp2p/simultaneous-connect` is a proposal that nobody supports.
fn is_simultaneous_open(line: &str) -> bool {
    matches!(line, "initiator" | "responder")
        || line.strip_prefix("select:").is_some_and(|number| number.parse::<u64>().is_ok())
}

/// A frame decoder that knows what a line is. Between two calls it holds a begun line at most.
#[derive(Debug)]
struct Lines(FrameDecoder);

impl Lines {
    fn new() -> Self {
        Self(FrameDecoder::new(MAX_LINE))
    }

    fn push(&mut self, input: &mut Bytes) {
        self.0.push(std::mem::take(input));
    }

    fn next(&mut self) -> Result<Option<Line>, NegotiateError> {
        match self.0.next() {
            Ok(line) => Ok(line.map(Line)),
            Err(FrameError::Prefix(_) | FrameError::TooLong { .. } | FrameError::Truncated) => {
                Err(NegotiateError::LineLength)
            }
        }
    }

    fn take_unread(&mut self) -> Bytes {
        self.0.take_unread()
    }

    fn buffered(&self) -> usize {
        self.0.buffered()
    }
}

struct Line(Bytes);

impl Line {
    fn text(&self) -> Result<&str, NegotiateError> {
        let text = self.0.strip_suffix(b"\n").ok_or(NegotiateError::MalformedLine)?;
        match str::from_utf8(text) {
            Ok(text) if !text.contains('\n') => Ok(text),
            _ => Err(NegotiateError::MalformedLine),
        }
    }
}

fn append_line(text: &str, out: &mut BytesMut) {
    let mut line = Vec::with_capacity(text.len() + 1);
    line.extend_from_slice(text.as_bytes());
    line.push(b'\n');
    append_frame(&line, out);
}

/// How a negotiation fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum NegotiateError {
    /// The peer has refused every candidate. It is in order otherwise: end the stream cleanly.
    #[error("the peer supports none of the proposed protocols")]
    Unsupported,
    /// We have refused a protocol and what came then was no further proposal. No fault of the peer's: it may have sent data
    /// behind its only proposal.
    #[error("the peer proposed no protocol supported here")]
    Refused,
    /// The stream ended before an agreement.
    #[error("the stream ended during protocol negotiation")]
    Ended,
    /// A line's length is above [`MAX_LINE`] or not a valid varint.
    #[error("invalid length of a negotiation line")]
    LineLength,
    /// A line does not end with its only newline, or is not UTF-8.
    #[error("malformed negotiation line")]
    MalformedLine,
    /// The first line is not [`HEADER`].
    #[error("the peer does not speak multistream-select 1.0")]
    WrongHeader,
    /// A line that means nothing at its place.
    #[error("unexpected negotiation line")]
    UnexpectedLine,
    /// More than [`MAX_PROPOSALS`] lines.
    #[error("too many protocol proposals")]
    TooManyProposals,
}

impl NegotiateError {
    /// Whether the peer has broken the rules, in which case the stream is to be reset. Otherwise the two sides have nothing
    /// in common, or the peer has gone.
    pub fn is_violation(self) -> bool {
        self == Self::TooManyProposals || self.is_unclean()
    }

    fn is_unclean(self) -> bool {
        match self {
            Self::LineLength | Self::MalformedLine | Self::WrongHeader | Self::UnexpectedLine => true,
            Self::Unsupported | Self::Refused | Self::Ended | Self::TooManyProposals => false,
        }
    }
}

#[cfg(test)]
mod tests;
