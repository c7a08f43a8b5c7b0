//! Why a command failed.

use std::io;

use crate::out::Out;

/// What a command ends with if it does not end well.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Words for people, saying what to do.
    Message(String),
    /// The output has said it all.
    Reported,
    /// Nobody reads the output any more.
    Output(io::Error),
}

impl Failure {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self::Message(message.into())
    }

    /// Prints it where it belongs.
    pub(crate) fn tell(&self, out: Out) {
        match self {
            Self::Message(message) => {
                if out.is_json() {
                    // Standard error follows anyway.
                    let _ = out.error(message);
                }
                eprintln!("error: {message}");
            }
            Self::Output(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                eprintln!("error: cannot write to standard output: {error}");
            }
            Self::Reported | Self::Output(_) => {}
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}
