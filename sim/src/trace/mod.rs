//! Traces of a run: what went over the virtual network, in files that ordinary tools open.
//!
//! A run that is worth looking at is run once more with a [`Tap`] in it. The world tells the tap of every packet, event,
//! command and fault, and of the secrets of every connection; [`Folder`] is the tap that writes them down:
//!
//! | file | what it is | opened with |
//! |---|---|---|
//! | `packets.pcapng` | every packet with its fate, and the secrets to read it | Wireshark, tshark |
//! | `keys.log` | the same secrets for other tools, as in `SSLKEYLOGFILE` | |
//! | `events.jsonl` | [everything that happened](jsonl), a line each | jq, grep |
//! | `qlog/*.sqlog` | QUIC's own doings, a file for each end of a connection (cargo feature `qlog`) | qvis |
//!
//! Wireshark does not know the frame with which QUIC tells a peer its address (0x9f81a6, draft-ietf-quic-address-discovery), and loses
//! its way in packets that have one: in scenarios, nodes send none unless their settings say so.
//!
//! All times are virtual, so two runs of one seed write the same bytes, and listening changes nothing in a run.

pub mod jsonl;
pub mod pcapng;
#[cfg(feature = "qlog")]
pub mod qlog;
#[cfg(test)]
mod tests;

use std::{
    cell::RefCell,
    collections::BTreeSet,
    fmt::Write as _,
    fs::{self, File},
    io::{self, BufWriter, Write as _},
    net::SocketAddr,
    path::{Path, PathBuf},
    rc::Rc,
    sync::{Arc, Mutex, PoisonError},
};

use peerwork::{Command, Event, Time, UnixTime, io::Ecn};

use self::pcapng::Pcapng;

/// A packet whose fate is known: a UDP datagram on the virtual network.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TracedPacket<'a> {
    /// When its fate was known: when it was delivered or dropped. Never before that of an earlier one.
    pub at: Time,
    /// The source address that was in its header then, thus behind any NAT that it had passed.
    pub from: SocketAddr,
    /// The destination address that was in its header then.
    pub to: SocketAddr,
    /// The ECN mark that it had then.
    pub ecn: Option<Ecn>,
    /// The UDP payload.
    pub data: &'a [u8],
    /// [`DELIVERED`], or the cause of its loss such as `lost` or `nat.filter`; more words may follow after a comma.
    pub fate: &'a str,
}

/// The [fate](TracedPacket::fate) of a packet that nothing happened to.
pub const DELIVERED: &str = "delivered";

/// Something that happened to a node or in the world.
#[derive(Clone, Copy, Debug)]
pub enum What<'a> {
    /// A node told its application.
    Event(&'a Event),
    /// A node asked its driver.
    Command(&'a Command),
    /// The scenario called into a node.
    Call {
        /// The method, such as `dial`.
        name: &'a str,
        /// Its arguments in words.
        detail: &'a str,
    },
    /// A fault began, changed or ended.
    Fault {
        /// Its class, such as `partition`.
        name: &'a str,
        /// What exactly, in words.
        detail: &'a str,
    },
}

/// Somebody who listens to a world. Has no say in it.
pub trait Tap {
    /// A packet has met its fate.
    fn packet(&mut self, packet: &TracedPacket<'_>);

    /// Something happened at a node with a name such as `group/3`; in the world as a whole if the name is empty.
    fn event(&mut self, at: Time, node: &str, what: &What<'_>);

    /// A node's TLS has a new secret: a line of a key log without its end. Told before the first packet that needs it.
    fn key_line(&mut self, at: Time, node: &str, line: &str);

    /// Where a node's QUIC is to log, if anywhere. Asked when the node starts.
    #[cfg(feature = "qlog")]
    fn qlog(&mut self, node: &str) -> Option<peerwork::transport::qlog::QlogHook> {
        let _ = node;
        None
    }
}

/// A tap that whoever gave it away still has, to [finish](Folder::finish) it when the world is gone.
impl<T: Tap> Tap for Rc<RefCell<T>> {
    fn packet(&mut self, packet: &TracedPacket<'_>) {
        self.borrow_mut().packet(packet);
    }

    fn event(&mut self, at: Time, node: &str, what: &What<'_>) {
        self.borrow_mut().event(at, node, what);
    }

    fn key_line(&mut self, at: Time, node: &str, line: &str) {
        self.borrow_mut().key_line(at, node, line);
    }

    #[cfg(feature = "qlog")]
    fn qlog(&mut self, node: &str) -> Option<peerwork::transport::qlog::QlogHook> {
        self.borrow_mut().qlog(node)
    }
}

/// Where one node's TLS leaves its secrets until the world fetches them for the tap: a node's
/// [`Platform::key_log`](peerwork::Platform::key_log).
///
/// Each node needs its own, so that the order of lines does not depend on threads.
#[derive(Clone, Default, Debug)]
pub struct KeyLines(Arc<Mutex<Vec<String>>>);

impl KeyLines {
    /// Lines since the last time, oldest first.
    pub fn take(&self) -> Vec<String> {
        core::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl rustls::KeyLog for KeyLines {
    fn log(&self, label: &str, client_random: &[u8], secret: &[u8]) {
        let mut line = format!("{label} ");
        for byte in client_random {
            let _ = write!(line, "{byte:02x}");
        }
        line.push(' ');
        for byte in secret {
            let _ = write!(line, "{byte:02x}");
        }
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    }
}

/// A [`Tap`] that writes everything into a folder.
///
/// Writing may fail long before [`finish`](Self::finish), which is where it shows.
pub struct Folder {
    #[cfg_attr(not(feature = "qlog"), expect(dead_code, reason = "qlog files are made in it"))]
    dir: PathBuf,
    packets: Pcapng<BufWriter<File>>,
    events: BufWriter<File>,
    keys: BufWriter<File>,
    /// Both ends of a connection tell the same secrets.
    known_keys: BTreeSet<String>,
    failed: Option<io::Error>,
}

impl Folder {
    /// Begins a trace in a folder, which is made if it does not exist; files of an earlier trace are replaced.
    ///
    /// `epoch` is the world's date at time zero.
    pub fn create(dir: &Path, epoch: UnixTime) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        let qlog = dir.join("qlog");
        if qlog.exists() {
            fs::remove_dir_all(&qlog)?;
        }
        let file = |name: &str| File::create(dir.join(name)).map(BufWriter::new);
        Ok(Self {
            dir: dir.to_owned(),
            packets: Pcapng::new(file("packets.pcapng")?, epoch)?,
            events: file("events.jsonl")?,
            keys: file("keys.log")?,
            known_keys: BTreeSet::new(),
            failed: None,
        })
    }

    /// Ends the trace. An error is the first that there was since the beginning.
    pub fn finish(mut self) -> io::Result<()> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        self.packets.into_inner().flush()?;
        self.events.flush()?;
        self.keys.flush()
    }

    fn note(&mut self, result: io::Result<()>) {
        if let Err(error) = result {
            self.failed.get_or_insert(error);
        }
    }
}

impl Tap for Folder {
    fn packet(&mut self, packet: &TracedPacket<'_>) {
        let result = self.packets.packet(packet).and_then(|()| self.events.write_all(jsonl::packet(packet).as_bytes()));
        self.note(result);
    }

    fn event(&mut self, at: Time, node: &str, what: &What<'_>) {
        let result = self.events.write_all(jsonl::event(at, node, what).as_bytes());
        self.note(result);
    }

    fn key_line(&mut self, _: Time, _: &str, line: &str) {
        if self.known_keys.insert(line.to_owned()) {
            let result = self.packets.secrets(line).and_then(|()| writeln!(self.keys, "{line}"));
            self.note(result);
        }
    }

    #[cfg(feature = "qlog")]
    fn qlog(&mut self, node: &str) -> Option<peerwork::transport::qlog::QlogHook> {
        Some(qlog::to_folder(self.dir.join("qlog"), node))
    }
}
