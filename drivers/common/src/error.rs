//! Errors of what can be asked through a [`Handle`](crate::Handle): either the node refused at once, or it tried and
//! failed, or there is no node any more.

use std::io;

use peerwork::{
    AttemptError, ConfigError, DialFailure, StreamError, io::IoError, protocol::ping::PingFailure,
    protocol::request::RequestError,
};

/// The node has been shut down, or the task or thread that drove it is gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the node has ended; start another one")]
pub struct DriverGone;

/// Why a node could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The operating system has no randomness.
    #[error("the operating system's random generator fails: {0}")]
    Entropy(#[source] io::Error),
    /// The log asked for cannot be written.
    #[error(transparent)]
    Record(#[from] crate::RecordError),
    /// The driver's runtime, event loop or thread cannot be used.
    #[error("the driver cannot run: {0}")]
    Runtime(#[source] io::Error),
}

/// Why there is no listener.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListenFailure {
    /// The node cannot listen on such an address.
    #[error(transparent)]
    Refused(#[from] peerwork::ListenError),
    /// The socket could not be set up.
    #[error("cannot listen: {0}")]
    Failed(#[from] IoError),
    /// There is no node any more.
    #[error(transparent)]
    Gone(#[from] DriverGone),
}

/// Why a dial brought no connection.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The node did not try.
    #[error(transparent)]
    Refused(#[from] peerwork::DialError),
    /// The node tried.
    #[error(transparent)]
    Failed(#[from] DialFailure),
    /// There is no node any more.
    #[error(transparent)]
    Gone(#[from] DriverGone),
}

impl ConnectError {
    /// What came of each address that was tried.
    pub fn attempts(&self) -> &[(peerwork::Multiaddr, AttemptError)] {
        match self {
            Self::Failed(DialFailure::AllFailed(attempts)) => attempts,
            _ => &[],
        }
    }
}

/// Why a stream was not opened.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenFailure {
    /// The node did not try.
    #[error(transparent)]
    Refused(#[from] peerwork::OpenError),
    /// The peer did not agree, or the connection ended.
    #[error(transparent)]
    Failed(#[from] StreamError),
    /// There is no node any more.
    #[error(transparent)]
    Gone(#[from] DriverGone),
}

/// Why a request has no response, or a response could not be sent.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RequestFailure {
    /// The node refused the request or failed to get a response.
    #[error(transparent)]
    Failed(#[from] RequestError),
    /// There is no node any more.
    #[error(transparent)]
    Gone(#[from] DriverGone),
}

/// Why a protocol was not registered.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegisterFailure {
    /// The node refused.
    #[error(transparent)]
    Refused(#[from] peerwork::RegisterError),
    /// There is no node any more.
    #[error(transparent)]
    Gone(#[from] DriverGone),
}

/// Why a ping did not come back.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PingError {
    /// There is no such connection.
    #[error(transparent)]
    Refused(#[from] peerwork::UnknownConnection),
    /// The ping failed.
    #[error(transparent)]
    Failed(#[from] PingFailure),
    /// There is no node any more.
    #[error(transparent)]
    Gone(#[from] DriverGone),
}

/// Why there is no measurement.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PerfError {
    /// There is no such connection.
    #[error(transparent)]
    Refused(#[from] peerwork::UnknownConnection),
    /// The measurement failed.
    #[error(transparent)]
    Failed(#[from] StreamError),
    /// There is no node any more.
    #[error(transparent)]
    Gone(#[from] DriverGone),
}

/// A stream's error as an [`io::Error`], which keeps it as its source.
pub(crate) fn stream_error(error: StreamError) -> io::Error {
    let kind = match &error {
        StreamError::Reset(_) => io::ErrorKind::ConnectionReset,
        StreamError::Stopped(_) | StreamError::Finished => io::ErrorKind::BrokenPipe,
        StreamError::ConnectionClosed => io::ErrorKind::ConnectionAborted,
        StreamError::Unsupported => io::ErrorKind::Unsupported,
        StreamError::Negotiation(_) => io::ErrorKind::InvalidData,
        StreamError::TimedOut => io::ErrorKind::TimedOut,
        StreamError::EndedEarly => io::ErrorKind::UnexpectedEof,
        _ => io::ErrorKind::Other,
    };
    io::Error::new(kind, error)
}
