//! What the program prints: lines for people, or one JSON object per line for programs.

use std::{
    io::{self, IsTerminal as _, Write as _},
    time::Duration,
};

use peerwork::Multiaddr;
use serde_json::{Value, json};

/// Standard output, in one of two languages.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Out {
    json: bool,
    colour: bool,
}

/// Colours that say something.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Paint {
    Good,
    Bad,
    Faint,
    Strong,
}

impl Out {
    pub(crate) fn new(json: bool) -> Self {
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { json, colour: !json && !unwanted && io::stdout().is_terminal() }
    }

    pub(crate) fn is_json(self) -> bool {
        self.json
    }

    /// Prints one thing, in the language wanted.
    pub(crate) fn say(self, json: impl FnOnce() -> Value, human: impl FnOnce() -> String) -> io::Result<()> {
        if self.json { self.line(&json().to_string()) } else { self.line(&human()) }
    }

    /// Prints one thing to people only.
    pub(crate) fn human(self, text: impl FnOnce() -> String) -> io::Result<()> {
        if self.json { Ok(()) } else { self.line(&text()) }
    }

    /// Prints an error to programs.
    pub(crate) fn error(self, message: &str) -> io::Result<()> {
        self.line(&json!({"event": "error", "message": message}).to_string())
    }

    fn line(self, text: &str) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        writeln!(stdout, "{text}")?;
        stdout.flush()
    }

    /// Colours a text, if somebody sees it.
    pub(crate) fn paint(self, paint: Paint, text: &str) -> String {
        let code = match paint {
            Paint::Good => "32",
            Paint::Bad => "31",
            Paint::Faint => "2",
            Paint::Strong => "1",
        };
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// A word that begins a line, in a column of its own.
    pub(crate) fn verb(self, paint: Paint, word: &str) -> String {
        self.paint(paint, &format!("{word:<13}"))
    }
}

/// Milliseconds for programs, to the microsecond.
pub(crate) fn millis(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

/// A time for people: three significant digits or so.
pub(crate) fn time(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    match seconds {
        s if s < 0.001 => format!("{:.0} µs", s * 1e6),
        s if s < 0.1 => format!("{:.2} ms", s * 1e3),
        s if s < 1.0 => format!("{:.0} ms", s * 1e3),
        s => format!("{s:.2} s"),
    }
}

/// An address with `/p2p/ID` at its end.
pub(crate) fn full(address: &Multiaddr, peer: peerwork::PeerId) -> Multiaddr {
    peerwork::transport::addr::with_peer(address.clone(), peer.into()).unwrap_or_else(|_| address.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_unit_that_fits() {
        let cases = [(412, "412 µs"), (1_234, "1.23 ms"), (250_000, "250 ms"), (1_500_000, "1.50 s")];
        for (micros, text) in cases {
            assert_eq!(time(Duration::from_micros(micros)), text);
        }
        assert_eq!(millis(Duration::from_nanos(1_234_567)), 1.235);
    }
}
