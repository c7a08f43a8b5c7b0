//! What runs over raw streams: the echo service, the opener's side of echo, and a ping at the moment the test wants one
//! (rust-libp2p's own ping behaviour keeps a timetable of its own).

use crate::{chain, report};
use futures::{AsyncReadExt as _, AsyncWriteExt as _, StreamExt as _};
use libp2p::{PeerId, StreamProtocol};
use libp2p_stream::{AlreadyRegistered, Control};
use serde_json::json;
use std::{error::Error, io, time::Duration};
use tokio::time::{Instant, timeout};

const ECHO: StreamProtocol = StreamProtocol::new("/echo/1.0.0");
const PING: StreamProtocol = StreamProtocol::new("/ipfs/ping/1.0.0");

/// Longer than anything which goes well takes, shorter than the patience of the test harness: the test is told what
/// failed instead of meeting silence.
const LIMIT: Duration = Duration::from_secs(20);

/// When the opener of an echo stream closes its writing side.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum WriteSide {
    /// At once after the last byte: the other side must go on writing on a half-closed stream.
    CloseFirst,
    /// When all is back. For peers which cannot half-close, such as go-libp2p's daemon.
    KeepOpen,
}

/// Registers `/echo/1.0.0`, and gives the task which serves it: all that comes goes back, until the opener ends.
pub(crate) fn serve_echo(
    mut control: Control,
) -> Result<impl Future<Output = ()>, AlreadyRegistered> {
    let mut incoming = control.accept(ECHO)?;
    Ok(async move {
        while let Some((_, stream)) = incoming.next().await {
            tokio::spawn(async move {
                let (reader, mut writer) = stream.split();
                // An opener which resets its stream ends only its own echo.
                if futures::io::copy(reader, &mut writer).await.is_ok() {
                    let _ = writer.close().await;
                }
            });
        }
    })
}

/// Sends 32 bytes over a stream of its own and reports how long their return took.
pub(crate) async fn ping(mut control: Control, peer: PeerId) {
    let attempt = async {
        let mut stream = control.open_stream(peer, PING).await?;
        // Peerwork is the subject here, and an echo is not a secret: bytes which differ from each other are enough.
        let sent: [u8; 32] = std::array::from_fn(|index| index as u8 ^ 0xa5);
        let mut received = [0; 32];
        let start = Instant::now();
        stream.write_all(&sent).await?;
        stream.flush().await?;
        stream.read_exact(&mut received).await?;
        let rtt = start.elapsed();
        if received != sent {
            return Err("the echo has other bytes".into());
        }
        stream.close().await?;
        Ok(rtt)
    };
    match limited(attempt).await {
        Ok(rtt) => report(
            json!({"event": "ping", "peer": peer.to_string(), "rtt_us": rtt.as_micros() as u64}),
        ),
        Err(error) => {
            report(json!({"event": "ping_failed", "peer": peer.to_string(), "error": error}))
        }
    }
}

/// Sends the text over a stream of its own and reports all that came back.
pub(crate) async fn echo(mut control: Control, peer: PeerId, text: String, write_side: WriteSide) {
    let attempt = async {
        let (mut reader, mut writer) = control.open_stream(peer, ECHO).await?.split();
        let write = async {
            writer.write_all(text.as_bytes()).await?;
            match write_side {
                WriteSide::CloseFirst => writer.close().await?,
                WriteSide::KeepOpen => writer.flush().await?,
            }
            io::Result::Ok(writer)
        };
        let mut received = vec![0; text.len()];
        // Both at once: a text larger than the windows would wait for ever for its own echo.
        if write_side == WriteSide::CloseFirst {
            received.clear();
            futures::future::try_join(write, reader.read_to_end(&mut received)).await?;
        } else {
            let (mut writer, ()) =
                futures::future::try_join(write, reader.read_exact(&mut received)).await?;
            writer.close().await?;
        }
        Ok(received)
    };
    match limited(attempt).await {
        Ok(received) => {
            let text = String::from_utf8_lossy(&received);
            report(json!({"event": "echo", "peer": peer.to_string(), "text": text}));
        }
        Err(error) => {
            report(json!({"event": "echo_failed", "peer": peer.to_string(), "error": error}))
        }
    }
}

async fn limited<T>(
    attempt: impl Future<Output = Result<T, Box<dyn Error + Send + Sync>>>,
) -> Result<T, String> {
    match timeout(LIMIT, attempt).await {
        Ok(outcome) => outcome.map_err(|error| chain(error.as_ref())),
        Err(_) => Err(format!("no answer within {LIMIT:?}")),
    }
}
