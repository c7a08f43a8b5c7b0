//! The control protocol of go-libp2p's daemon: over a unix socket, protobuf messages with their length before them, one
//! request and one response a connection. The field numbers are those of the daemon's `p2pd.proto`.

use prost::Message;
use std::{
    io::{self, Read, Write as _},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use super::PeerError;

/// No answer of the daemon takes longer: it gives up on peers after [`PEER_LIMIT_SECS`].
pub(super) const IO_LIMIT: Duration = Duration::from_secs(30);

/// How long the daemon tries to reach a peer for the test, in seconds.
pub(super) const PEER_LIMIT_SECS: i64 = 20;

/// An answer of the daemon lists addresses or peers; more than this is a mistake in reading it.
const MAX_MESSAGE_BYTES: usize = 8 * 1024 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub(super) enum RequestType {
    Identify = 0,
    Connect = 1,
    StreamOpen = 2,
    StreamHandler = 3,
    ListPeers = 5,
    Disconnect = 7,
    PersistentConnUpgrade = 9,
    RemoveStreamHandler = 10,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Request {
    #[prost(enumeration = "RequestType", required, tag = "1")]
    pub(super) kind: i32,
    #[prost(message, optional, tag = "2")]
    pub(super) connect: Option<Connect>,
    #[prost(message, optional, tag = "3")]
    pub(super) stream_open: Option<StreamOpen>,
    #[prost(message, optional, tag = "4")]
    pub(super) stream_handler: Option<StreamHandler>,
    #[prost(message, optional, tag = "7")]
    pub(super) disconnect: Option<Disconnect>,
    #[prost(message, optional, tag = "9")]
    pub(super) remove_stream_handler: Option<RemoveStreamHandler>,
}

impl Request {
    pub(super) fn new(kind: RequestType) -> Self {
        Self { kind: kind.into(), ..Self::default() }
    }
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Connect {
    #[prost(bytes = "vec", required, tag = "1")]
    pub(super) peer: Vec<u8>,
    #[prost(bytes = "vec", repeated, tag = "2")]
    pub(super) addrs: Vec<Vec<u8>>,
    #[prost(int64, optional, tag = "3")]
    pub(super) timeout_secs: Option<i64>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct StreamOpen {
    #[prost(bytes = "vec", required, tag = "1")]
    pub(super) peer: Vec<u8>,
    #[prost(string, repeated, tag = "2")]
    pub(super) protocols: Vec<String>,
    #[prost(int64, optional, tag = "3")]
    pub(super) timeout_secs: Option<i64>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct StreamHandler {
    #[prost(bytes = "vec", required, tag = "1")]
    pub(super) addr: Vec<u8>,
    #[prost(string, repeated, tag = "2")]
    pub(super) protocols: Vec<String>,
    /// Whether several handlers share a protocol in turns.
    #[prost(bool, required, tag = "3")]
    pub(super) balanced: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct RemoveStreamHandler {
    #[prost(bytes = "vec", required, tag = "1")]
    pub(super) addr: Vec<u8>,
    #[prost(string, repeated, tag = "2")]
    pub(super) protocols: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Disconnect {
    #[prost(bytes = "vec", required, tag = "1")]
    pub(super) peer: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Response {
    /// 0 is success, 1 an error.
    #[prost(int32, required, tag = "1")]
    pub(super) kind: i32,
    #[prost(message, optional, tag = "2")]
    pub(super) error: Option<ErrorResponse>,
    #[prost(message, optional, tag = "3")]
    pub(super) stream: Option<StreamInfo>,
    #[prost(message, optional, tag = "4")]
    pub(super) identify: Option<PeerAndAddrs>,
    #[prost(message, repeated, tag = "6")]
    pub(super) peers: Vec<PeerAndAddrs>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ErrorResponse {
    #[prost(string, required, tag = "1")]
    pub(super) message: String,
}

/// What the daemon tells about a stream before the stream's own bytes begin.
#[derive(Clone, PartialEq, Message)]
pub(super) struct StreamInfo {
    #[prost(bytes = "vec", required, tag = "1")]
    pub(super) peer: Vec<u8>,
    #[prost(bytes = "vec", required, tag = "2")]
    pub(super) addr: Vec<u8>,
    #[prost(string, required, tag = "3")]
    pub(super) protocol: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct PeerAndAddrs {
    #[prost(bytes = "vec", required, tag = "1")]
    pub(super) id: Vec<u8>,
    #[prost(bytes = "vec", repeated, tag = "2")]
    pub(super) addrs: Vec<Vec<u8>>,
}

/// libp2p's private key as the daemon reads it from a file.
#[derive(Clone, PartialEq, Message)]
pub(super) struct PrivateKey {
    #[prost(int32, required, tag = "1")]
    pub(super) kind: i32,
    #[prost(bytes = "vec", required, tag = "2")]
    pub(super) data: Vec<u8>,
}

/// The message of `/ipfs/id/1.0.0`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Identify {
    #[prost(bytes = "vec", repeated, tag = "2")]
    pub(super) listen_addrs: Vec<Vec<u8>>,
    #[prost(string, repeated, tag = "3")]
    pub(super) protocols: Vec<String>,
    #[prost(bytes = "vec", optional, tag = "4")]
    pub(super) observed_addr: Option<Vec<u8>>,
    #[prost(string, optional, tag = "5")]
    pub(super) protocol_version: Option<String>,
    #[prost(string, optional, tag = "6")]
    pub(super) agent_version: Option<String>,
    #[prost(bytes = "vec", optional, tag = "8")]
    pub(super) signed_peer_record: Option<Vec<u8>>,
}

/// One request. The connection comes back with the answer, since after some requests it becomes something else.
pub(super) fn call(socket: &Path, request: &Request) -> Result<(Response, UnixStream), PeerError> {
    let mut connection = UnixStream::connect(socket)?;
    set_limits(&connection)?;
    connection.write_all(&request.encode_length_delimited_to_vec())?;
    let response: Response = read_message(&mut connection)?;
    if response.kind == 0 {
        return Ok((response, connection));
    }
    let kind = RequestType::try_from(request.kind).map_or_else(|_| String::new(), |kind| format!("{kind:?}"));
    let why = response.error.map(|error| error.message).unwrap_or_default();
    Err(PeerError::Refused { peer: "go", what: kind, why })
}

pub(super) fn set_limits(connection: &UnixStream) -> io::Result<()> {
    connection.set_read_timeout(Some(IO_LIMIT))?;
    connection.set_write_timeout(Some(IO_LIMIT))
}

pub(super) fn read_message<M: Message + Default>(from: &mut impl Read) -> Result<M, PeerError> {
    let body = read_delimited(from)?.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?;
    decode(&body)
}

pub(super) fn decode<M: Message + Default>(body: &[u8]) -> Result<M, PeerError> {
    M::decode(body).map_err(|error| PeerError::Malformed(error.to_string()))
}

/// The bytes of one message, or nothing when the stream ends before it. Reads not a byte beyond: what follows may be a
/// stream's own.
pub(super) fn read_delimited(from: &mut impl Read) -> Result<Option<Vec<u8>>, PeerError> {
    let mut prefix = Vec::new();
    loop {
        let mut byte = [0];
        match from.read_exact(&mut byte) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof && prefix.is_empty() => {
                return Ok(None);
            }
            outcome => outcome?,
        }
        prefix.push(byte[0]);
        if byte[0] & 0x80 == 0 {
            break;
        }
        if prefix.len() == 10 {
            return Err(PeerError::Malformed("a length of more than ten bytes".into()));
        }
    }
    let len =
        prost::decode_length_delimiter(prefix.as_slice()).map_err(|error| PeerError::Malformed(error.to_string()))?;
    if len > MAX_MESSAGE_BYTES {
        return Err(PeerError::Malformed(format!("a message of {len} bytes")));
    }
    let mut body = vec![0; len];
    from.read_exact(&mut body)?;
    Ok(Some(body))
}
