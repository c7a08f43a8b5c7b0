use ed25519_dalek::SigningKey;
use multiaddr::{Multiaddr, PeerId, Protocol};
use prost::Message as _;
use std::{
    fs,
    io::{Read as _, Write as _},
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use super::{
    Identified, P2pd, PeerError,
    control::{self, PEER_LIMIT_SECS, Request, RequestType},
    process,
};

/// From the start of the process to its first answer; a fifth of a second where nothing else runs.
const START_LIMIT: Duration = Duration::from_secs(15);

/// For closing all connections in order.
const END_LIMIT: Duration = Duration::from_secs(5);

const PING_BYTES: usize = 32;

/// A peer and the addresses known for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerInfo {
    /// The peer id.
    pub peer: String,
    /// Its multiaddrs, without the peer id.
    pub addrs: Vec<String>,
}

/// A running go-libp2p peer. Dropping it ends it in order, so that its connections are closed; [`GoPeer::kill9`] is for
/// the other way to go.
#[derive(Debug)]
pub struct GoPeer {
    child: Child,
    /// The daemon ends itself with the last connection of this kind. So it goes even when the test process is killed
    /// and nothing gets dropped.
    _lifeline: UnixStream,
    peer_id: String,
    addrs: Vec<String>,
    handlers: AtomicU32,
    dir: tempfile::TempDir,
}

impl GoPeer {
    /// Starts a peer whose identity follows from `seed`, which listens at `listen` (such as
    /// [`QUIC_LOOPBACK`](super::QUIC_LOOPBACK)). `flags` go to the daemon as they are, for instance `-dhtServer` or
    /// `-pubsub`; `p2pd -h` tells them all.
    ///
    /// # Errors
    ///
    /// When the daemon does not come up, with the end of its log.
    pub fn start(p2pd: &P2pd, seed: u64, listen: &[&str], flags: &[&str]) -> Result<Self, PeerError> {
        // The path of a unix socket may have no more than 107 bytes, so the folder's name is short.
        let dir = tempfile::Builder::new().prefix("go").tempdir()?;
        let identity = dir.path().join("id");
        fs::write(&identity, private_key(seed))?;
        let log = fs::File::create(dir.path().join("log"))?;
        let mut command = Command::new(p2pd.path());
        command.arg("-listen").arg(format!("/unix{}", socket_path(dir.path()).display())).arg("-id").arg(identity);
        match listen {
            [] => command.arg("-noListenAddrs"),
            _ => command.args(["-hostAddrs", &listen.join(",")]),
        };
        let mut child = command.args(flags).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()?;

        let lifeline = Request::new(RequestType::PersistentConnUpgrade);
        let start = Instant::now();
        let lifeline = loop {
            match control::call(&socket_path(dir.path()), &lifeline) {
                Ok((_, connection)) => break connection,
                // Until the socket is there and listens.
                Err(PeerError::Io(_)) if start.elapsed() < START_LIMIT && matches!(child.try_wait(), Ok(None)) => {
                    thread::sleep(process::POLL_INTERVAL);
                }
                Err(_) => {
                    process::kill9(&mut child);
                    return Err(PeerError::Gone { peer: "go", log: read_log(dir.path()) });
                }
            }
        };
        let mut peer = Self {
            child,
            _lifeline: lifeline,
            peer_id: String::new(),
            addrs: Vec::new(),
            handlers: AtomicU32::new(0),
            dir,
        };
        let PeerInfo { peer: peer_id, addrs } = peer.identify()?;
        peer.addrs = addrs.iter().map(|addr| format!("{addr}/p2p/{peer_id}")).collect();
        peer.peer_id = peer_id;
        Ok(peer)
    }

    // What it is.

    /// Its peer id.
    pub fn peer_id(&self) -> &str {
        &self.peer_id
    }

    /// Where it listened when it had started, each with `/p2p/` and its peer id at the end, ready to be dialled.
    pub fn addrs(&self) -> &[String] {
        &self.addrs
    }

    /// The end of what the daemon has printed. The environment variable `GOLOG_LOG_LEVEL=debug` makes it say more.
    pub fn log(&self) -> String {
        read_log(self.dir.path())
    }

    // Its connections.

    /// Its own peer id and the addresses it has now.
    ///
    /// # Errors
    ///
    /// As every request: when the daemon is gone, silent, or refuses.
    pub fn identify(&self) -> Result<PeerInfo, PeerError> {
        let (response, _) = self.call(&Request::new(RequestType::Identify))?;
        peer_info(response.identify.ok_or_else(|| PeerError::Malformed("an answer without the peer".into()))?)
    }

    /// Connects to `peer` at `addrs`, which may end with `/p2p/` and the peer id.
    ///
    /// # Errors
    ///
    /// [`PeerError::Refused`] when none of the addresses led to that peer.
    pub fn connect(&self, peer: &str, addrs: &[&str]) -> Result<(), PeerError> {
        let addrs = addrs.iter().map(|addr| Ok(without_peer_id(parse_addr(addr)?).to_vec()));
        let connect = control::Connect {
            peer: parse_peer(peer)?,
            addrs: addrs.collect::<Result<_, PeerError>>()?,
            timeout_secs: Some(PEER_LIMIT_SECS),
        };
        self.call(&Request { connect: Some(connect), ..Request::new(RequestType::Connect) })?;
        Ok(())
    }

    /// Closes all connections to `peer`.
    ///
    /// # Errors
    ///
    /// As every request.
    pub fn disconnect(&self, peer: &str) -> Result<(), PeerError> {
        let disconnect = control::Disconnect { peer: parse_peer(peer)? };
        self.call(&Request { disconnect: Some(disconnect), ..Request::new(RequestType::Disconnect) })?;
        Ok(())
    }

    /// The peers it has connections with, one entry a connection.
    ///
    /// # Errors
    ///
    /// As every request.
    pub fn list_peers(&self) -> Result<Vec<PeerInfo>, PeerError> {
        let (response, _) = self.call(&Request::new(RequestType::ListPeers))?;
        response.peers.into_iter().map(peer_info).collect()
    }

    /// Waits until it has a connection with `peer`, and tells how long that took.
    ///
    /// # Errors
    ///
    /// [`PeerError::Timeout`] after `limit`.
    pub fn wait_connected(&self, peer: &str, limit: Duration) -> Result<Duration, PeerError> {
        self.wait(peer, true, limit)
    }

    /// Waits until it has no connection with `peer`, and tells how long that took.
    ///
    /// # Errors
    ///
    /// [`PeerError::Timeout`] after `limit`.
    pub fn wait_disconnected(&self, peer: &str, limit: Duration) -> Result<Duration, PeerError> {
        self.wait(peer, false, limit)
    }

    fn wait(&self, peer: &str, connected: bool, limit: Duration) -> Result<Duration, PeerError> {
        let start = Instant::now();
        loop {
            let peers = self.list_peers()?;
            if peers.iter().any(|info| info.peer == peer) == connected {
                return Ok(start.elapsed());
            }
            if start.elapsed() >= limit {
                let what = format!("{} {peer}", if connected { "connection with" } else { "end of" });
                return Err(PeerError::Timeout { what, limit, instead: format!("connections with {peers:?}") });
            }
            thread::sleep(process::POLL_INTERVAL);
        }
    }

    // Its streams.

    /// Opens a stream to `peer` for the first of `protocols` which that peer serves.
    ///
    /// # Errors
    ///
    /// [`PeerError::Refused`] when there is no connection, or none of the protocols is served.
    pub fn open(&self, peer: &str, protocols: &[&str]) -> Result<GoStream, PeerError> {
        let stream_open = control::StreamOpen {
            peer: parse_peer(peer)?,
            protocols: protocols.iter().map(|&protocol| protocol.into()).collect(),
            timeout_secs: Some(PEER_LIMIT_SECS),
        };
        let (response, io) =
            self.call(&Request { stream_open: Some(stream_open), ..Request::new(RequestType::StreamOpen) })?;
        let info = response.stream.ok_or_else(|| PeerError::Malformed("an answer without the stream".into()))?;
        GoStream::new(info, io)
    }

    /// Serves `protocol`: for each stream that a peer opens, `serve` runs in a thread of its own. The protocol is served
    /// until the handler is dropped; identify announces it.
    ///
    /// # Errors
    ///
    /// As every request.
    pub fn handle(
        &self,
        protocol: &str,
        serve: impl Fn(GoStream) + Send + Sync + 'static,
    ) -> Result<Handler, PeerError> {
        let number = self.handlers.fetch_add(1, Ordering::Relaxed);
        let path = self.dir.path().join(format!("handler{number}"));
        let listener = UnixListener::bind(&path)?;
        let addr = unix_addr(&path);
        let stream_handler =
            control::StreamHandler { addr: addr.clone(), protocols: vec![protocol.into()], balanced: false };
        self.call(&Request { stream_handler: Some(stream_handler), ..Request::new(RequestType::StreamHandler) })?;
        let stop = Arc::new(AtomicBool::new(false));
        let thread = thread::spawn({
            let stop = stop.clone();
            let serve = Arc::new(serve);
            move || {
                for io in listener.incoming().map_while(Result::ok) {
                    if stop.load(Ordering::Acquire) {
                        return;
                    }
                    let serve = serve.clone();
                    // A stream which broke before it began has nobody to tell.
                    thread::spawn(move || GoStream::accept(io).map(|stream| serve(stream)));
                }
            }
        });
        let remove = control::RemoveStreamHandler { addr, protocols: vec![protocol.into()] };
        Ok(Handler { stop, path, control: socket_path(self.dir.path()), remove, thread: Some(thread) })
    }

    /// Serves `protocol` by sending back what comes, at once and until the opener ends the stream.
    ///
    /// # Errors
    ///
    /// As every request.
    pub fn serve_echo(&self, protocol: &str) -> Result<Handler, PeerError> {
        self.handle(protocol, |mut stream| {
            let mut buffer = [0; 64 * 1024];
            while let Ok(len @ 1..) = stream.io.read(&mut buffer) {
                if stream.io.write_all(&buffer[..len]).is_err() {
                    return;
                }
            }
        })
    }

    /// One ping over a stream of its own. The daemon has no command for it, so the harness speaks the protocol; the
    /// time includes two passes through the daemon's socket.
    ///
    /// # Errors
    ///
    /// [`PeerError::Malformed`] when other bytes come back; otherwise as [`GoPeer::open`].
    pub fn ping(&self, peer: &str) -> Result<Duration, PeerError> {
        let mut stream = self.open(peer, &["/ipfs/ping/1.0.0"])?;
        let sent: [u8; PING_BYTES] = std::array::from_fn(|index| index as u8 ^ 0x5a);
        let mut received = [0; PING_BYTES];
        let start = Instant::now();
        stream.io.write_all(&sent)?;
        stream.io.read_exact(&mut received)?;
        if received != sent {
            return Err(PeerError::Malformed(format!("ping {sent:02x?} came back as {received:02x?}")));
        }
        Ok(start.elapsed())
    }

    /// Sends `bytes` to `/echo/1.0.0` at `peer` and gives as many bytes as that peer sent back.
    ///
    /// # Errors
    ///
    /// As [`GoPeer::open`]; [`PeerError::Io`] when fewer bytes came back.
    pub fn echo(&self, peer: &str, bytes: &[u8]) -> Result<Vec<u8>, PeerError> {
        let mut stream = self.open(peer, &["/echo/1.0.0"])?;
        let mut writer = stream.io.try_clone()?;
        let mut received = vec![0; bytes.len()];
        // Both at once: what is larger than all buffers would wait for ever for its own echo.
        thread::scope(|scope| {
            let write = scope.spawn(|| writer.write_all(bytes));
            stream.io.read_exact(&mut received)?;
            write.join().expect("writing does not panic")
        })?;
        Ok(received)
    }

    /// What `peer` announces, asked for over a stream of its own.
    ///
    /// # Errors
    ///
    /// As [`GoPeer::open`]; [`PeerError::Malformed`] when the announcement is.
    pub fn identify_remote(&self, peer: &str) -> Result<Identified, PeerError> {
        let mut stream = self.open(peer, &["/ipfs/id/1.0.0"])?;
        // Some send a second message with what did not fit into the first. Protobuf merges by concatenation.
        let mut bytes = Vec::new();
        while let Some(message) = control::read_delimited(&mut stream.io)? {
            bytes.extend(message);
        }
        let message: control::Identify = control::decode(&bytes)?;
        Ok(Identified {
            agent: message.agent_version.unwrap_or_default(),
            protocol_version: message.protocol_version.unwrap_or_default(),
            protocols: message.protocols,
            listen_addrs: message.listen_addrs.into_iter().map(addr_text).collect::<Result<_, _>>()?,
            observed: message.observed_addr.map(addr_text).transpose()?,
            signed_record: message.signed_peer_record.is_some(),
        })
    }

    // Its end.

    /// Ends it in order (SIGTERM): it closes its connections. Returns when the process is gone.
    pub fn terminate(&mut self) {
        process::terminate(&mut self.child, END_LIMIT);
    }

    /// Kills it (SIGKILL): its peers hear nothing more. Returns when the process is gone.
    pub fn kill9(&mut self) {
        process::kill9(&mut self.child);
    }

    fn call(&self, request: &Request) -> Result<(control::Response, UnixStream), PeerError> {
        control::call(&socket_path(self.dir.path()), request)
    }
}

impl Drop for GoPeer {
    fn drop(&mut self) {
        self.terminate();
    }
}

/// A stream between a [`GoPeer`] and another peer.
///
/// It cannot be half-closed: shutting down the writing side makes the daemon end both, and what is under way in either
/// direction may be lost. So read the reply first. For the same reason the other peer's half-close ends both sides here.
#[derive(Debug)]
pub struct GoStream {
    /// The peer at the other end.
    pub peer: String,
    /// That peer's multiaddr.
    pub addr: String,
    /// The protocol which was agreed.
    pub protocol: String,
    /// The stream's bytes. Reads and writes have a time limit.
    pub io: UnixStream,
}

impl GoStream {
    fn new(info: control::StreamInfo, io: UnixStream) -> Result<Self, PeerError> {
        Ok(Self { peer: peer_text(&info.peer)?, addr: addr_text(info.addr)?, protocol: info.protocol, io })
    }

    fn accept(mut io: UnixStream) -> Result<Self, PeerError> {
        control::set_limits(&io)?;
        let info = control::read_message(&mut io)?;
        Self::new(info, io)
    }
}

/// A protocol which a [`GoPeer`] serves, until this is dropped. Streams which are open then stay so.
#[derive(Debug)]
pub struct Handler {
    stop: Arc<AtomicBool>,
    path: PathBuf,
    control: PathBuf,
    remove: control::RemoveStreamHandler,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Handler {
    fn drop(&mut self) {
        // The daemon may be gone, and the handler with it.
        let remove_stream_handler = Some(self.remove.clone());
        let request = Request { remove_stream_handler, ..Request::new(RequestType::RemoveStreamHandler) };
        let _ = control::call(&self.control, &request);
        self.stop.store(true, Ordering::Release);
        // A connection of our own wakes the thread up. Without one it would be waited for in vain.
        if UnixStream::connect(&self.path).is_ok() {
            let _ = self.thread.take().map(JoinHandle::join);
        }
    }
}

/// The identity of a seed. The first byte keeps it apart from those of other makers' peers with the same seed.
fn private_key(seed: u64) -> Vec<u8> {
    const ED25519: i32 = 1;
    let mut secret = [0; 32];
    secret[0] = b'g';
    secret[24..].copy_from_slice(&seed.to_be_bytes());
    let data = SigningKey::from_bytes(&secret).to_keypair_bytes().to_vec();
    control::PrivateKey { kind: ED25519, data }.encode_to_vec()
}

fn socket_path(dir: &Path) -> PathBuf {
    dir.join("control")
}

fn read_log(dir: &Path) -> String {
    process::tail(&String::from_utf8_lossy(&fs::read(dir.join("log")).unwrap_or_default()))
}

fn unix_addr(path: &Path) -> Vec<u8> {
    Multiaddr::empty().with(Protocol::Unix(path.to_string_lossy())).to_vec()
}

fn parse_peer(text: &str) -> Result<Vec<u8>, PeerError> {
    let bad = |_| PeerError::BadText { text: text.into(), expected: "peer id" };
    Ok(text.parse::<PeerId>().map_err(bad)?.to_bytes())
}

fn parse_addr(text: &str) -> Result<Multiaddr, PeerError> {
    text.parse().map_err(|_| PeerError::BadText { text: text.into(), expected: "multiaddr" })
}

fn without_peer_id(mut addr: Multiaddr) -> Multiaddr {
    if let Some(Protocol::P2p(_)) = addr.iter().last() {
        addr.pop();
    }
    addr
}

fn peer_text(bytes: &[u8]) -> Result<String, PeerError> {
    let peer = PeerId::from_bytes(bytes);
    Ok(peer.map_err(|error| PeerError::Malformed(format!("peer id {bytes:02x?}: {error}")))?.to_string())
}

fn addr_text(bytes: Vec<u8>) -> Result<String, PeerError> {
    let addr = Multiaddr::try_from(bytes);
    Ok(addr.map_err(|error| PeerError::Malformed(format!("multiaddr: {error}")))?.to_string())
}

fn peer_info(peer: control::PeerAndAddrs) -> Result<PeerInfo, PeerError> {
    let addrs = peer.addrs.into_iter().map(addr_text).collect::<Result<_, _>>()?;
    Ok(PeerInfo { peer: peer_text(&peer.id)?, addrs })
}
