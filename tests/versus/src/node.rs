//! What each contender must be able to do.

use std::{error::Error, fmt, future::Future, net::SocketAddr, pin::Pin, str::FromStr, time::Duration};

use futures::{StreamExt as _, stream::FuturesUnordered};

pub(crate) type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// Bytes of a request, and of a response.
pub(crate) const MESSAGE: usize = 100;

/// Flow control, for every contender. A stream's window stays below the 2,048 packets that `noq-proto` keeps behind a
/// lost one before it gives the connection up.
pub(crate) const STREAM_WINDOW: u32 = 2_000_000;
pub(crate) const CONNECTION_WINDOW: u32 = 15_000_000;
/// The default of the libraries below, which rust-libp2p lets nobody change.
pub(crate) const SEND_WINDOW: u64 = 10_000_000;

/// Bytes of each socket's kernel buffers, where a contender sets them: peerwork's drivers do, and raw noq gets the same.
pub(crate) const SOCKET_BUFFER: usize = 2 * 1024 * 1024;

/// How writes are cut.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Writes {
    /// 64 KiB by the call that copies least.
    Large,
    /// 1 KiB by the call that takes a slice.
    Small,
}

/// A node on the thread that calls it, listening on loopback.
pub(crate) trait Node: Sized {
    /// A connection to another node.
    type Conn;

    /// Runs a program that uses nodes, on this thread alone.
    fn run<T>(program: impl Future<Output = T>) -> T;

    async fn start() -> Outcome<Self>;

    fn address(&self) -> Address;

    /// Answers echoes, uploads and requests, for ever.
    async fn serve(&mut self) -> Outcome<()>;

    /// Always a new connection.
    async fn dial(&mut self, to: &Address) -> Outcome<Self::Conn>;

    async fn close(&mut self, conn: Self::Conn) -> Outcome<()>;

    /// One byte there and back on a stream of its own.
    async fn echo(&mut self, conn: &Self::Conn) -> Outcome<()>;

    /// Sends so many bytes on one stream and waits for the word that all have been read.
    async fn upload(&mut self, conn: &Self::Conn, bytes: u64, writes: Writes) -> Outcome<()>;

    /// Makes `count` requests, `in_flight` of them at a time.
    async fn requests(&mut self, conn: &Self::Conn, count: usize, in_flight: usize) -> Outcome<()>;

    /// Does what must be done and nothing else.
    async fn idle(&mut self, time: Duration);
}

/// Where a node is.
#[derive(Clone, Debug)]
pub(crate) struct Address {
    pub(crate) socket: SocketAddr,
    /// `-` for a contender without identities.
    pub(crate) peer: String,
}

impl Address {
    pub(crate) fn multiaddr(&self) -> String {
        format!("/ip4/{}/udp/{}/quic-v1/p2p/{}", self.socket.ip(), self.socket.port(), self.peer)
    }

    /// The socket that a multiaddress names.
    pub(crate) fn socket_of(multiaddr: &str) -> Outcome<SocketAddr> {
        let mut parts = multiaddr.split('/').skip(2);
        match (parts.next(), parts.nth(1)) {
            (Some(ip), Some(port)) => Ok(SocketAddr::new(ip.parse()?, port.parse()?)),
            _ => Err(format!("{multiaddr} names no socket").into()),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.peer, self.socket)
    }
}

impl FromStr for Address {
    type Err = Box<dyn Error + Send + Sync>;

    fn from_str(text: &str) -> Outcome<Self> {
        let (peer, socket) = text.split_once('@').ok_or("no address")?;
        Ok(Self { socket: socket.parse()?, peer: peer.into() })
    }
}

/// Runs tasks side by side, each woken on its own, until the first has ended.
pub(crate) async fn first_of(tasks: Vec<Pin<Box<dyn Future<Output = Outcome<()>> + '_>>>) -> Outcome<()> {
    tasks.into_iter().collect::<FuturesUnordered<_>>().next().await.unwrap_or(Ok(()))
}

/// Keeps `in_flight` requests under way until `count` have been answered.
pub(crate) async fn keep_up<F: Future<Output = Outcome<usize>>>(
    count: usize,
    in_flight: usize,
    mut request: impl FnMut() -> F,
) -> Outcome<()> {
    let mut under_way: FuturesUnordered<F> = (0..in_flight.min(count)).map(|_| request()).collect();
    let mut asked = under_way.len();
    while let Some(len) = under_way.next().await {
        check_len(len?)?;
        if asked < count {
            asked += 1;
            under_way.push(request());
        }
    }
    Ok(())
}

/// A response is as long as the request.
pub(crate) fn check_len(len: usize) -> Outcome<()> {
    if len == MESSAGE { Ok(()) } else { Err(format!("a response of {len} bytes").into()) }
}
