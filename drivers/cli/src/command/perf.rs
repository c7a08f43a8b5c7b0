//! `peerwork perf`: how fast is the way to a peer?

use std::time::Duration;

use peerwork::{StreamError, protocol::perf::PERF};
use peerwork_driver::PerfError;
use serde_json::{Value, json};

use peerwork_sim::units::bytes;

use crate::{
    args::PerfArgs,
    client::Client,
    failure::Failure,
    out::{Out, Paint, full, millis},
};

pub(crate) async fn perf(args: PerfArgs, out: Out) -> Result<(), Failure> {
    let mut client = Client::connect(&args.client).await?;
    let peer = client.connection.peer;
    out.human(|| format!("PERF {}", out.paint(Paint::Strong, &full(&client.address, peer).to_string())))?;
    let report = match client.handle.perf(client.connection.conn, args.up, args.down).await {
        Ok(report) => report,
        Err(PerfError::Failed(error)) if error == StreamError::Unsupported || lacks_perf(&client) => {
            return Err(Failure::new("the peer does not serve /perf/1.0.0; run it with --perf"));
        }
        Err(error) => return Err(client.explain("not measured", error.to_string()).await),
    };
    out.say(
        || {
            json!({
                "event": "perf",
                "peer": peer.to_string(),
                "up": figures(report.uploaded, report.upload_time),
                "down": figures(report.downloaded, report.download_time),
            })
        },
        || {
            let up = line("up", report.uploaded, report.upload_time);
            format!("{up}\n{}", line("down", report.downloaded, report.download_time))
        },
    )?;
    client.close().await;
    Ok(())
}

/// Whether the peer says so itself. Some answer what they do not know by a bare reset.
fn lacks_perf(client: &Client) -> bool {
    let info = client.handle.connection(client.connection.conn).and_then(|info| info.identified);
    info.is_some_and(|info| !info.protocols.contains(&PERF))
}

fn rate(amount: u64, time: Duration) -> f64 {
    amount as f64 / time.as_secs_f64().max(1e-9)
}

fn figures(amount: u64, time: Duration) -> Value {
    json!({"bytes": amount, "ms": millis(time), "bytes_per_s": rate(amount, time).round()})
}

fn line(way: &str, amount: u64, time: Duration) -> String {
    if amount == 0 {
        return format!("{way:<6}nothing");
    }
    let rate = rate(amount, time);
    let (amount, seconds) = (bytes(amount as f64), time.as_secs_f64());
    format!("{way:<6}{amount:>10} in {seconds:>7.3} s  {:>10}/s  {:>8.1} Mbit/s", bytes(rate), rate * 8.0 / 1e6)
}
