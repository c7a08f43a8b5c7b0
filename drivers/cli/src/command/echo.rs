//! `peerwork echo`: does what we send come back?

use std::time::Instant;

use bytes::Bytes;
use peerwork::{StreamError, protocol::identify::message::escape};
use peerwork_driver::OpenFailure;
use serde_json::json;

use crate::{
    args::EchoArgs,
    client::Client,
    echo::{EchoError, ask},
    failure::Failure,
    out::{Out, Paint, millis, time},
};

pub(crate) async fn echo(args: EchoArgs, out: Out) -> Result<(), Failure> {
    let mut client = Client::connect(&args.client).await?;
    let data = Bytes::from(args.data.into_bytes());
    let started = Instant::now();
    let asked = ask(&client.handle, client.connection.conn, &args.protocol, data.clone());
    let answer = match tokio::time::timeout(args.client.timeout, asked).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(EchoError::Open(OpenFailure::Failed(StreamError::Unsupported)))) => {
            let protocol = &args.protocol;
            return Err(Failure::new(format!(
                "the peer does not speak {protocol}; run it with --echo, or pass another --protocol"
            )));
        }
        Ok(Err(error)) => return Err(client.explain("no echo", error.to_string()).await),
        Err(_) => {
            let words =
                format!("nothing complete came back within {}; pass a longer --timeout", time(args.client.timeout));
            return Err(client.explain("no echo", words).await);
        }
    };
    let (came, sent) = (String::from_utf8_lossy(&answer.data), String::from_utf8_lossy(&data));
    let rtt = answer.at.duration_since(started);
    out.say(
        || {
            json!({
                "event": "echo",
                "peer": client.connection.peer.to_string(),
                "protocol": args.protocol.as_str(),
                "sent": sent,
                "received": came,
                "same": answer.data == data,
                "rtt_ms": millis(rtt),
            })
        },
        || {
            format!(
                "{}\n{}",
                escape(&came),
                out.paint(Paint::Faint, &format!("{} bytes in {}", answer.data.len(), time(rtt)))
            )
        },
    )?;
    let same = answer.data == data;
    client.close().await;
    if same { Ok(()) } else { Err(Failure::new("what came back is not what was sent")) }
}
