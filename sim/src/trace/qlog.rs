//! QUIC's own log of each end of a connection, in files for qvis.
//!
//! The QUIC library writes drafts 13 and 12 of qlog's main schema and QUIC events. qvis (as of October 2025) reads
//! version 0.3 and refuses anything else, so every record is [turned](Older) into that on its way into the file: the
//! header is named as it used to be, events get their old categories and packets their size where it used to be. What
//! the old version does not know stays as it is, which qvis passes over.
//!
//! Times are milliseconds since the world's beginning, in all files alike, so that both ends can be laid side by side.

#[cfg(test)]
mod tests;

use std::{
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::PathBuf,
    sync::Arc,
};

use peerwork::{
    Direction,
    transport::qlog::{ConnLabel, QlogHook},
};
use serde_json::{Value, json};

/// Before each record of a JSON text sequence (RFC 7464).
const SEPARATOR: u8 = 0x1e;

/// A file in `dir` for every connection of a node, with a name made of the node's, the time in nanoseconds, the side
/// and the connection id that both ends share: `group_3-000000012000000-out-1f2e….sqlog`.
///
/// A file that cannot be made is left out: a run does not fail for it.
pub fn to_folder(dir: PathBuf, node: &str) -> QlogHook {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' };
    let node: String = node.chars().map(plain).collect();
    Arc::new(move |label: &ConnLabel| {
        let side = match label.direction {
            Direction::Inbound => "in",
            Direction::Outbound => "out",
        };
        fs::create_dir_all(&dir).ok()?;
        let name = format!("{node}-{:015}-{side}-{}.sqlog", label.at.as_nanos(), label.group);
        let file = File::create(dir.join(name)).ok()?;
        Some(Box::new(Older::new(BufWriter::new(file))))
    })
}

/// Turns a log of draft 13, written into it in any pieces, into one of version 0.3.
pub struct Older<W> {
    out: W,
    /// The record that is being written.
    record: Vec<u8>,
}

impl<W: Write> Older<W> {
    /// Nothing is written but to `out`, record by record.
    pub fn new(out: W) -> Self {
        Self { out, record: Vec::new() }
    }

    fn end_record(&mut self) -> io::Result<()> {
        let text = self.record.strip_prefix(&[SEPARATOR]).unwrap_or(&self.record);
        let mut record: Value = serde_json::from_slice(text)?;
        turn(&mut record);
        self.record.clear();
        self.out.write_all(&[SEPARATOR])?;
        serde_json::to_writer(&mut self.out, &record)?;
        self.out.write_all(b"\n")
    }
}

impl<W: Write> Write for Older<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Line feeds within strings are escaped in JSON, so each is the end of a record.
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            match piece.strip_suffix(b"\n") {
                None => self.record.extend_from_slice(piece),
                Some(last) => {
                    self.record.extend_from_slice(last);
                    self.end_record()?;
                }
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Turns one record.
fn turn(record: &mut Value) {
    if record.get("file_schema").is_some() {
        let mut trace = record["trace"].take();
        trace["common_fields"]["time_format"] = json!("relative");
        trace["common_fields"]["reference_time"] = json!(0);
        *record = json!({ "qlog_version": "0.3", "qlog_format": "JSON-SEQ", "trace": trace });
        return;
    }
    let Some(name) = record.get("name").and_then(Value::as_str) else { return };
    let kind = name.strip_prefix("quic:").unwrap_or(name).to_owned();
    let old = match kind.as_str() {
        "connection_started" | "connection_closed" => format!("connectivity:{kind}"),
        "parameters_set" | "packet_sent" | "packet_received" | "packet_dropped" | "packet_buffered" => {
            format!("transport:{kind}")
        }
        "recovery_metrics_updated" => "recovery:metrics_updated".into(),
        "packet_lost" | "congestion_state_updated" => format!("recovery:{kind}"),
        "timer_updated" => "recovery:loss_timer_updated".into(),
        _ => return,
    };
    record["name"] = json!(old);
    let data = &mut record["data"];
    if let Some(length) = data["header"].get("length").cloned() {
        data["raw"] = json!({ "length": length });
    }
    if let Some(initiator) = data.get("initiator").cloned() {
        data["owner"] = initiator;
    }
    // Unset, and more than JavaScript can count to.
    if data.get("ssthresh") == Some(&json!(u64::MAX)) {
        data["ssthresh"] = Value::Null;
    }
    for frame in data.get_mut("frames").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(length) = frame.pointer("/raw/length").cloned() {
            frame["length"] = length;
        }
    }
}
