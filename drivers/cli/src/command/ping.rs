//! `peerwork ping`: is a peer there, and how far away?

use std::time::Duration;

use peerwork_driver::PingError;
use serde_json::json;
use tokio::time::{Instant, sleep_until};

use crate::{
    args::PingArgs,
    client::Client,
    failure::Failure,
    out::{Out, Paint, full, millis, time},
};

pub(crate) async fn ping(args: PingArgs, out: Out) -> Result<(), Failure> {
    let mut client = Client::connect(&args.client).await?;
    let (peer, address) = (client.connection.peer, client.address.clone());
    out.human(|| format!("PING {}", out.paint(Paint::Strong, &full(&address, peer).to_string())))?;

    let mut times = Vec::new();
    let mut sent = 0;
    let mut next = Instant::now();
    let mut interrupted = std::pin::pin!(tokio::signal::ctrl_c());
    for seq in 1..=args.count {
        let answer = tokio::select! {
            answer = async {
                sleep_until(next).await;
                client.handle.ping(client.connection.conn).await
            } => answer,
            _ = &mut interrupted => break,
        };
        next = (next + args.interval).max(Instant::now());
        sent += 1;
        match answer {
            Ok(rtt) => {
                times.push(rtt);
                out.say(
                    || json!({"event": "ping", "seq": seq, "peer": peer.to_string(), "rtt_ms": millis(rtt)}),
                    || format!("{seq:>4}  {}", time(rtt)),
                )?;
            }
            Err(error) => {
                let gone = matches!(error, PingError::Refused(_) | PingError::Gone(_))
                    || client.handle.connection(client.connection.conn).is_none();
                let end = if gone { client.end().await } else { None };
                let error = end.map_or_else(|| error.to_string(), |end| format!("the connection ended: {end}"));
                out.say(
                    || json!({"event": "ping_failed", "seq": seq, "peer": peer.to_string(), "error": error}),
                    || format!("{seq:>4}  {}", out.paint(Paint::Bad, &error)),
                )?;
                if gone {
                    break;
                }
            }
        }
    }
    let summary = Summary::of(sent, &times);
    out.say(|| summary.json(&peer.to_string()), || summary.to_string())?;
    client.close().await;
    if times.is_empty() { Err(Failure::Reported) } else { Ok(()) }
}

/// All pings together.
struct Summary {
    sent: usize,
    received: usize,
    min: Duration,
    mean: Duration,
    max: Duration,
    deviation: Duration,
}

impl Summary {
    fn of(sent: usize, times: &[Duration]) -> Self {
        let seconds = || times.iter().map(Duration::as_secs_f64);
        let number = times.len().max(1) as f64;
        let mean = seconds().sum::<f64>() / number;
        let variance = seconds().map(|time| (time - mean).powi(2)).sum::<f64>() / number;
        Self {
            sent,
            received: times.len(),
            min: times.iter().min().copied().unwrap_or_default(),
            mean: Duration::from_secs_f64(mean),
            max: times.iter().max().copied().unwrap_or_default(),
            deviation: Duration::from_secs_f64(variance.sqrt()),
        }
    }

    /// Part of the pings that did not come back.
    fn loss(&self) -> f64 {
        1.0 - self.received as f64 / self.sent.max(1) as f64
    }

    fn json(&self, peer: &str) -> serde_json::Value {
        let some = |time| (self.received > 0).then(|| millis(time));
        json!({
            "event": "summary",
            "peer": peer,
            "sent": self.sent,
            "received": self.received,
            "loss": self.loss(),
            "min_ms": some(self.min),
            "avg_ms": some(self.mean),
            "max_ms": some(self.max),
            "stddev_ms": some(self.deviation),
        })
    }
}

impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} sent, {} came back, {:.0} % lost", self.sent, self.received, self.loss() * 100.0)?;
        if self.received == 0 {
            return Ok(());
        }
        let [min, mean, max, deviation] = [self.min, self.mean, self.max, self.deviation].map(time);
        write!(f, "\nmin {min}, avg {mean}, max {max}, stddev {deviation}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_adds_up() {
        let summary = Summary::of(5, &[2, 4, 4, 6].map(Duration::from_millis));
        assert_eq!(
            (summary.min, summary.mean, summary.max),
            (Duration::from_millis(2), Duration::from_millis(4), Duration::from_millis(6))
        );
        assert_eq!(summary.deviation.as_micros(), 1_414);
        assert!((summary.loss() - 0.2).abs() < 1e-9);
    }

    #[test]
    fn nothing_came_back() {
        let summary = Summary::of(3, &[]);
        assert_eq!(summary.to_string(), "3 sent, 0 came back, 100 % lost");
        assert_eq!(summary.json("x")["avg_ms"], serde_json::Value::Null);
    }
}
