//! The identify message: what a peer says about itself.
//!
//! A sender writes one message that stands on its own, of at most [`MAX_SENT`] bytes since Rust peers read just one and no
//! more than that. Addresses are given up first if it does not fit, then protocols. The signed peer record goes into the
//! same message if all together stays within [`MAX_SENT_TOGETHER`]; otherwise it follows in a second one, as Go does.
//!
//! A receiver gathers up to [`MAX_MESSAGES`] messages of [`MAX_RECEIVED`] bytes in a [`Merger`], which joins them as protobuf
//! would, lists one after the other and the last of each single value, and keeps no more than [`MAX_PROTOCOLS`] protocols and
//! [`MAX_ADDRS`] addresses. One bad entry does not spoil the rest: invalid addresses and names are left out one by one. What
//! the values are worth (whose key it is, who signed, which addresses are plausible) is not decided here.
//!
//! Memory: an entry of a list takes at least two bytes on the wire and 32 in memory, and a growing list may for a moment exist
//! with one and two times its size. Decoding thus takes at most 48 times the message's length, 384 KiB, and only while it
//! lasts. What is kept is a copy that does not hold on to the received buffers: the text and bytes of ten messages at most,
//! and some 60 bytes for each of the counted entries.
//!
//! Each message travels as a length-prefixed frame. See <https://github.com/libp2p/specs/blob/master/identify/README.md>.

use bytes::Bytes;
use multiaddr::Multiaddr;
use prost::Message;
use prost::encoding::{encoded_len_varint, key_len};
use thiserror::Error;

use crate::protocol_id::ProtocolId;

/// The longest message that is sent, in bytes.
pub const MAX_SENT: usize = 4096;

/// Up to this many bytes the signed record is sent in the first message.
pub const MAX_SENT_TOGETHER: usize = 2048;

/// The longest message that is accepted, in bytes.
pub const MAX_RECEIVED: usize = 8192;

/// The messages that are accepted in a row.
pub const MAX_MESSAGES: usize = 10;

/// The protocols that are kept of a peer's.
pub const MAX_PROTOCOLS: usize = 1024;

/// The listen addresses that are kept of a peer's.
pub const MAX_ADDRS: usize = 500;

/// The bytes that are kept of an agent or protocol version, and sent of our own.
pub const MAX_VERSION: usize = 512;

/// What a peer says about itself, nothing of it verified.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IdentifyMessage {
    /// The public key, encoded as libp2p's protobuf message.
    pub public_key: Option<Bytes>,
    /// Where it listens; the most important first, for the last are trimmed first. Never empty addresses when received.
    pub listen_addrs: Vec<Multiaddr>,
    /// What it speaks; the most important first.
    pub protocols: Vec<ProtocolId>,
    /// The receiver's address as the sender sees it.
    pub observed_addr: Option<Multiaddr>,
    /// Informational, such as `ipfs/0.1.0`. As with all text of a peer's: [`escape`] it before printing.
    pub protocol_version: Option<String>,
    /// Name and version of the software.
    pub agent_version: Option<String>,
    /// The signed peer record: an envelope, encoded.
    pub signed_peer_record: Option<Bytes>,
}

/// The message as it is on the wire. Strings are bytes here: a text that is not UTF-8 shall not spoil the message.
#[derive(Clone, PartialEq, Message)]
struct Wire {
    #[prost(bytes = "bytes", optional, tag = "1")]
    public_key: Option<Bytes>,
    #[prost(bytes = "bytes", repeated, tag = "2")]
    listen_addrs: Vec<Bytes>,
    #[prost(bytes = "bytes", repeated, tag = "3")]
    protocols: Vec<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "4")]
    observed_addr: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "5")]
    protocol_version: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "6")]
    agent_version: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "8")]
    signed_peer_record: Option<Bytes>,
}

impl IdentifyMessage {
    /// The messages to send, one or two, each to be framed. None is longer than [`MAX_SENT`], provided that key and observed
    /// address, which are never left out, are of their usual size (together below 3,000 bytes). A signed record that does
    /// not fit into a message of its own is left out.
    pub fn encode(&self) -> Vec<Bytes> {
        let version = |text: &Option<String>| text.as_deref().map(|text| copy(cut(text, MAX_VERSION).as_bytes()));
        let mut first = Wire {
            public_key: self.public_key.clone(),
            listen_addrs: Vec::new(),
            protocols: Vec::new(),
            observed_addr: self.observed_addr.as_ref().map(|addr| copy(addr.as_ref())),
            protocol_version: version(&self.protocol_version),
            agent_version: version(&self.agent_version),
            signed_peer_record: None,
        };
        let mut room = MAX_SENT.saturating_sub(first.encoded_len());
        let names = self.protocols.iter().map(|name| name.as_str().as_bytes());
        first.protocols = fitting(names, &mut room);
        let addrs = self.listen_addrs.iter().map(AsRef::as_ref);
        first.listen_addrs = fitting(addrs, &mut room);

        let Some(record) = &self.signed_peer_record else {
            return vec![first.encode_to_vec().into()];
        };
        let second = Wire { signed_peer_record: Some(record.clone()), ..Wire::default() };
        let together = first.encoded_len().saturating_add(second.encoded_len());
        if together <= MAX_SENT_TOGETHER {
            first.signed_peer_record = second.signed_peer_record;
            vec![first.encode_to_vec().into()]
        } else if second.encoded_len() <= MAX_SENT {
            vec![first.encode_to_vec().into(), second.encode_to_vec().into()]
        } else {
            vec![first.encode_to_vec().into()]
        }
    }
}

/// The first entries of a repeated field that fit into the room, which they take up.
fn fitting<'a>(entries: impl Iterator<Item = &'a [u8]>, room: &mut usize) -> Vec<Bytes> {
    let mut taken = Vec::new();
    for entry in entries {
        // All fields have numbers below 16, hence keys of the same length.
        let len = key_len(1).saturating_add(encoded_len_varint(entry.len() as u64)).saturating_add(entry.len());
        let Some(left) = room.checked_sub(len) else {
            break;
        };
        *room = left;
        taken.push(copy(entry));
    }
    taken
}

/// Joins the messages of one stream.
#[derive(Debug, Default)]
pub struct Merger {
    messages: usize,
    merged: IdentifyMessage,
}

impl Merger {
    /// Begins with an empty message.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the next message, its length prefix removed. An error means to reset the stream and to forget this merger.
    pub fn push(&mut self, message: Bytes) -> Result<(), IdentifyError> {
        if self.messages >= MAX_MESSAGES {
            return Err(IdentifyError::TooMany);
        }
        if message.len() > MAX_RECEIVED {
            return Err(IdentifyError::TooLong(message.len()));
        }
        let wire = Wire::decode(message)?;
        self.messages += 1;

        let merged = &mut self.merged;
        let room = MAX_ADDRS.saturating_sub(merged.listen_addrs.len());
        let addrs = wire.listen_addrs.iter().filter_map(multiaddr);
        merged.listen_addrs.extend(addrs.take(room));
        let room = MAX_PROTOCOLS.saturating_sub(merged.protocols.len());
        let names = wire.protocols.iter().filter_map(protocol);
        merged.protocols.extend(names.take(room));
        // The last one counts, even if it is worthless.
        if let Some(key) = wire.public_key {
            merged.public_key = Some(copy(&key));
        }
        if let Some(addr) = wire.observed_addr {
            merged.observed_addr = multiaddr(&addr);
        }
        if let Some(text) = wire.protocol_version {
            merged.protocol_version = Some(version(&text));
        }
        if let Some(text) = wire.agent_version {
            merged.agent_version = Some(version(&text));
        }
        if let Some(record) = wire.signed_peer_record {
            merged.signed_peer_record = Some(copy(&record));
        }
        Ok(())
    }

    /// What has been gathered when the stream has ended between two messages.
    pub fn finish(self) -> Result<IdentifyMessage, IdentifyError> {
        if self.messages == 0 {
            return Err(IdentifyError::Missing);
        }
        Ok(self.merged)
    }
}

/// Why a stream holds no identify message.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum IdentifyError {
    /// The stream ended before the first message.
    #[error("no identify message was sent")]
    Missing,
    /// More than [`MAX_MESSAGES`].
    #[error("more than ten identify messages")]
    TooMany,
    /// A message of this many bytes, more than [`MAX_RECEIVED`].
    #[error("an identify message has {0} bytes")]
    TooLong(usize),
    /// Not a protobuf message of this shape.
    #[error("malformed identify message: {0}")]
    Malformed(#[from] prost::DecodeError),
}

fn copy(bytes: &[u8]) -> Bytes {
    Bytes::copy_from_slice(bytes)
}

fn multiaddr(bytes: &Bytes) -> Option<Multiaddr> {
    let addr = Multiaddr::try_from(bytes.to_vec()).ok()?;
    Some(addr).filter(|addr| !addr.is_empty())
}

fn protocol(bytes: &Bytes) -> Option<ProtocolId> {
    ProtocolId::new(str::from_utf8(bytes).ok()?).ok()
}

fn version(bytes: &[u8]) -> String {
    cut(&String::from_utf8_lossy(bytes), MAX_VERSION).to_owned()
}

/// The longest beginning of a text that has at most `max` bytes and cuts no character.
fn cut(text: &str, max: usize) -> &str {
    (0..=max.min(text.len())).rev().find_map(|end| text.get(..end)).unwrap_or_default()
}

/// Makes text of a peer's harmless for terminals and logs: control characters, invisible ones and those that change the
/// direction of writing are replaced by escapes, and so are backslashes, to tell the two apart.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '"' | '\'' => out.push(character),
            _ => out.extend(character.escape_debug()),
        }
    }
    out
}

#[cfg(test)]
mod tests;
