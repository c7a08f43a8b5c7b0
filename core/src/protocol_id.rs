//! Names of protocols.
//!
//! A libp2p protocol is known by a path such as `/ipfs/ping/1.0.0`: on the wire it is a line of multistream-select, in
//! identify an entry of a list, and here the key of every table of handlers. [`ProtocolId`] holds such a name after it has
//! been checked once, so that nobody behind the wire has to wonder about newlines, lengths or a missing slash. The limits are
//! ours: the specification sets none, other stacks accept up to 1,024 bytes of line, and real names are far below
//! [`ProtocolId::MAX_LEN`].

use std::borrow::Borrow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;
use std::sync::Arc;

use thiserror::Error;

/// A checked protocol name: UTF-8, 2 to [`ProtocolId::MAX_LEN`] bytes, beginning with `/`, without a newline.
///
/// Names are compared byte for byte. Cloning never copies the text. As the name may come from a remote peer, print it with
/// [`fmt::Debug`], which escapes control characters, wherever a terminal or log reads along.
#[derive(Clone)]
pub struct ProtocolId(Text);

#[derive(Clone)]
enum Text {
    Constant(&'static str),
    Shared(Arc<str>),
}

impl ProtocolId {
    /// The shortest name: the slash and one byte.
    pub const MIN_LEN: usize = 2;

    /// The longest name, in bytes.
    pub const MAX_LEN: usize = 256;

    /// Checks and copies a name.
    pub fn new(name: impl AsRef<str>) -> Result<Self, ProtocolIdError> {
        let name = name.as_ref();
        match check(name) {
            Ok(()) => Ok(Self(Text::Shared(Arc::from(name)))),
            Err(error) => Err(error),
        }
    }

    /// Makes an id of a name known when the program is written, without allocating; usable in a `const`.
    ///
    /// # Panics
    ///
    /// If the name is not valid; in a `const`, this is an error of compilation. Never give it text from outside.
    #[expect(clippy::panic, reason = "documented; for names written in the program")]
    pub const fn from_static(name: &'static str) -> Self {
        match check(name) {
            Ok(()) => Self(Text::Constant(name)),
            Err(_) => panic!("not a valid protocol name"),
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Text::Constant(name) => name,
            Text::Shared(name) => name,
        }
    }
}

/// Why a text is no protocol name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ProtocolIdError {
    /// Shorter than [`ProtocolId::MIN_LEN`] or longer than [`ProtocolId::MAX_LEN`].
    #[error("a protocol name has 2 to 256 bytes, not {0}")]
    Length(usize),
    /// The first byte is not `/`.
    #[error("a protocol name begins with `/`")]
    NoSlash,
    /// A newline would end the line early on the wire.
    #[error("a protocol name has no newline")]
    Newline,
}

const fn check(name: &str) -> Result<(), ProtocolIdError> {
    let bytes = name.as_bytes();
    if bytes.len() < ProtocolId::MIN_LEN || bytes.len() > ProtocolId::MAX_LEN {
        return Err(ProtocolIdError::Length(bytes.len()));
    }
    let [b'/', rest @ ..] = bytes else {
        return Err(ProtocolIdError::NoSlash);
    };
    let mut rest = rest;
    while let [first, others @ ..] = rest {
        if *first == b'\n' {
            return Err(ProtocolIdError::Newline);
        }
        rest = others;
    }
    Ok(())
}

impl fmt::Display for ProtocolId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for ProtocolId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl FromStr for ProtocolId {
    type Err = ProtocolIdError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::new(name)
    }
}

impl AsRef<str> for ProtocolId {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

// `Borrow` demands that equality, order and hash be those of `str`.
impl Borrow<str> for ProtocolId {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl PartialEq for ProtocolId {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for ProtocolId {}

impl PartialEq<str> for ProtocolId {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialOrd for ProtocolId {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ProtocolId {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.as_str().cmp(other.as_str())
    }
}

impl Hash for ProtocolId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

#[cfg(test)]
mod tests;
