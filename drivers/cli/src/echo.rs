//! `/echo/1.0.0`: whatever comes on a stream goes back on it, until the peer has finished.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use peerwork::{ConnId, ProtocolId, StreamError};
use peerwork_driver::{Handle, Incoming, OpenFailure, RegisterFailure, Stream};
use tokio::{sync::Semaphore, time::timeout};

/// `/echo/1.0.0`
pub(crate) const ECHO: ProtocolId = ProtocolId::from_static("/echo/1.0.0");

/// Streams served at once. More wait, and those beyond the backlog are reset.
const STREAMS: usize = 1024;

/// A stream on which nothing moves for this long is given up.
const IDLE: Duration = Duration::from_secs(60);

/// Serves until the node ends.
pub(crate) fn serve(handle: &Handle) -> Result<(), RegisterFailure> {
    let incoming = handle.register(&ECHO)?;
    tokio::spawn(accept(incoming));
    Ok(())
}

async fn accept(mut incoming: Incoming) {
    let slots = Arc::new(Semaphore::new(STREAMS));
    loop {
        // A semaphore that nobody closes always has a slot some time.
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        let Some(stream) = incoming.accept().await else { return };
        tokio::spawn(async move {
            // A stream that fails is the peer's affair.
            let _ = answer(stream).await;
            drop(slot);
        });
    }
}

async fn answer(mut stream: Stream) -> io::Result<()> {
    while let Some(chunk) = timeout(IDLE, stream.read_chunk()).await?.map_err(io::Error::other)? {
        timeout(IDLE, stream.write_chunk(chunk)).await?.map_err(io::Error::other)?;
    }
    stream.finish().map_err(io::Error::other)
}

/// Why nothing, or not enough, came back.
#[derive(Debug)]
pub(crate) enum EchoError {
    Open(OpenFailure),
    Stream(StreamError),
    /// The peer ended the stream after so many bytes.
    Short(usize),
}

impl std::fmt::Display for EchoError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Open(error) => error.fmt(f),
            Self::Stream(error) => error.fmt(f),
            Self::Short(len) => write!(f, "the peer ended the stream after {len} bytes"),
        }
    }
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) data: Bytes,
    /// When as much was back as had been sent.
    pub(crate) at: Instant,
}

/// Sends data and reads as much as was sent, which is left to the caller to compare.
///
/// The sending side is finished only when everything is back: some peers' streams end in both directions at once. What
/// comes beyond that, within a moment, is part of the answer.
pub(crate) async fn ask(
    handle: &Handle,
    conn: ConnId,
    protocol: &ProtocolId,
    data: Bytes,
) -> Result<Answer, EchoError> {
    let stream = handle.open_stream(conn, std::slice::from_ref(protocol)).await.map_err(EchoError::Open)?;
    let (mut read, mut write) = stream.split();
    let len = data.len();
    let mut answer = BytesMut::with_capacity(len);
    // Both at once, for what is larger than the buffers in between.
    let sent = async { write.write_chunk(data).await.map_err(EchoError::Stream) };
    let received = async {
        while answer.len() < len {
            match read.read_chunk().await.map_err(EchoError::Stream)? {
                Some(chunk) => answer.extend_from_slice(&chunk),
                None => return Err(EchoError::Short(answer.len())),
            }
        }
        Ok(())
    };
    tokio::try_join!(sent, received)?;
    let at = Instant::now();
    // The answer is complete, so an error from here on changes nothing.
    let _ = write.finish();
    if let Ok(Ok(Some(more))) = timeout(Duration::from_millis(250), read.read_chunk()).await {
        answer.extend_from_slice(&more);
    }
    Ok(Answer { data: answer.freeze(), at })
}
