//! Everything that happens in a world, a line of JSON each.
//!
//! Every line is an object that begins with these fields; those of the event itself follow, in an order that does not
//! change. Names are stable: what is added later is added at the end.
//!
//! | field | what it is |
//! |---|---|
//! | `at_ns` | virtual time in nanoseconds; never less than in the line before |
//! | `node` | name of the node, such as `group/3`; not there for what concerns the whole world |
//! | `event` | what happened |
//!
//! | `event` | further fields |
//! |---|---|
//! | `packet` | `from`, `to`, `ecn` (`ect0`, `ect1`, `ce`; only if there is a mark), `len` in bytes, `fate` (`delivered`, or the cause of its loss) |
//! | `call.NAME` | `detail`: the arguments in words |
//! | `fault.NAME` | `detail` in words |
//! | `command.udp-bind` | `socket`, `address` |
//! | `command.udp-close` | `socket` |
//! | `command.resolve` | `query` |
//! | `listening` | `listener`, `address` |
//! | `listen-failed` | `listener`, `error` |
//! | `dialed` | `dial`, `conn`, `peer` |
//! | `dial-failed` | `dial`, `error` |
//! | `connected` | `conn`, `peer`, `direction` (`in`, `out`), `address` |
//! | `disconnected` | `conn`, `peer`, `reason`, `remaining` |
//! | `address-changed`, `observed-address` | `conn`, `peer`, `address` |
//! | `identified` | `conn`, `peer`, `agent`, `protocols`, `addresses`, `signed`, `observed` (only if told) |
//! | `identify-failed` | `conn`, `peer`, `error` |
//! | `ping` | `conn`, `peer`, and `rtt_ns` or `error` |
//! | `stream-opened` | `stream`, `protocol` |
//! | `stream-inbound` | `stream`, `conn`, `peer`, `protocol` |
//! | `stream-readable`, `stream-writable` | `stream` |
//! | `stream-failed` | `stream`, `error` |
//! | `request` | `request`, `conn`, `peer`, `protocol`, `len` |
//! | `response` | `request`, and `len` or `error` |
//! | `request-dropped` | `request` |
//! | `perf` | `perf`, and `uploaded`, `upload_ns`, `downloaded`, `download_ns`, or `error` |
//! | `peer-fault` | `conn`, `peer`, `rule` |
//! | `shut-down` | |
//! | `other` | `text`: what this version has no words of its own for |
//!
//! Connections, streams and the like are numbers, counted by each node for itself. Errors and reasons are words for
//! people.

#[cfg(test)]
mod tests;

use std::{fmt::Display, time::Duration};

use peerwork::{
    Command, Direction, Event, Time,
    io::{Ecn, Query},
};
use serde::Serialize;

use super::{TracedPacket, What};

/// A line in the making. It is put together by hand because the order of fields in `serde_json`'s maps depends on
/// which of its features somebody else in the program asked for.
struct Line(String);

impl Line {
    fn new(at: Time, node: &str, event: impl Display) -> Self {
        let line = Self(format!("{{\"at_ns\":{}", at.as_nanos()));
        let line = if node.is_empty() { line } else { line.with("node", node) };
        line.with("event", event.to_string())
    }

    fn with(mut self, name: &str, value: impl Serialize) -> Self {
        let value = serde_json::to_string(&value).expect("strings, numbers and lists of them always have a JSON form");
        self.0 += &format!(",\"{name}\":{value}");
        self
    }

    fn text(self, name: &str, value: impl Display) -> Self {
        self.with(name, value.to_string())
    }

    fn nanos(self, name: &str, value: Duration) -> Self {
        self.with(name, u64::try_from(value.as_nanos()).unwrap_or(u64::MAX))
    }

    fn end(mut self) -> String {
        self.0 += "}\n";
        self.0
    }
}

/// The line of a packet, with its end.
pub fn packet(packet: &TracedPacket<'_>) -> String {
    let TracedPacket { at, from, to, ecn, data, fate } = packet;
    let line = Line::new(*at, "", "packet").text("from", from).text("to", to);
    let line = match ecn {
        None => line,
        Some(Ecn::Ect0) => line.with("ecn", "ect0"),
        Some(Ecn::Ect1) => line.with("ecn", "ect1"),
        Some(Ecn::Ce) => line.with("ecn", "ce"),
    };
    line.with("len", data.len()).with("fate", fate).end()
}

/// The line of anything else, with its end.
pub fn event(at: Time, node: &str, what: &What<'_>) -> String {
    match what {
        What::Event(event) => told(at, node, event),
        What::Command(command) => asked(at, node, command),
        What::Call { name, detail } => Line::new(at, node, format_args!("call.{name}")).with("detail", detail),
        What::Fault { name, detail } => Line::new(at, node, format_args!("fault.{name}")).with("detail", detail),
    }
    .end()
}

fn asked(at: Time, node: &str, command: &Command) -> Line {
    let line = |name: &str| Line::new(at, node, format_args!("command.{name}"));
    match command {
        Command::UdpBind { socket, address } => {
            line("udp-bind").with("socket", socket.index()).text("address", address)
        }
        Command::UdpClose { socket } => line("udp-close").with("socket", socket.index()),
        Command::Resolve { query, .. } => {
            let (Query::Ip(name) | Query::Ip4(name) | Query::Ip6(name) | Query::Txt(name)) = query;
            line("resolve").with("query", name)
        }
        other => line("other").with("text", format!("{other:?}")),
    }
}

fn told(at: Time, node: &str, event: &Event) -> Line {
    let line = |name: &str| Line::new(at, node, name);
    match event {
        Event::Listening { listener, address } => {
            line("listening").with("listener", listener.get()).text("address", address)
        }
        Event::ListenFailed { listener, error } => {
            line("listen-failed").with("listener", listener.get()).text("error", error)
        }
        Event::Dialed { dial, conn, peer } => {
            line("dialed").with("dial", dial.get()).with("conn", conn.get()).text("peer", peer)
        }
        Event::DialFailed { dial, error } => line("dial-failed").with("dial", dial.get()).text("error", error),
        Event::Connected { conn, peer, direction, address } => {
            let direction = match direction {
                Direction::Inbound => "in",
                Direction::Outbound => "out",
            };
            let line = line("connected").with("conn", conn.get()).text("peer", peer);
            line.with("direction", direction).text("address", address)
        }
        Event::Disconnected { conn, peer, reason, remaining } => {
            let line = line("disconnected").with("conn", conn.get()).text("peer", peer);
            line.text("reason", reason).with("remaining", remaining)
        }
        Event::AddressChanged { conn, peer, address } => {
            line("address-changed").with("conn", conn.get()).text("peer", peer).text("address", address)
        }
        Event::ObservedAddress { conn, peer, address } => {
            line("observed-address").with("conn", conn.get()).text("peer", peer).text("address", address)
        }
        Event::Identified { conn, peer, info } => {
            let protocols: Vec<_> = info.protocols.iter().map(ToString::to_string).collect();
            let addresses: Vec<_> = info.listen_addrs.iter().map(ToString::to_string).collect();
            let line = line("identified").with("conn", conn.get()).text("peer", peer);
            let line = line.with("agent", &info.agent_version).with("protocols", protocols);
            let line = line.with("addresses", addresses).with("signed", info.signed);
            match &info.observed_addr {
                Some(address) => line.text("observed", address),
                None => line,
            }
        }
        Event::IdentifyFailed { conn, peer, error } => {
            line("identify-failed").with("conn", conn.get()).text("peer", peer).text("error", error)
        }
        Event::Ping { conn, peer, result } => {
            let line = line("ping").with("conn", conn.get()).text("peer", peer);
            match result {
                Ok(time) => line.nanos("rtt_ns", *time),
                Err(error) => line.text("error", error),
            }
        }
        Event::StreamOpened { stream, protocol } => {
            line("stream-opened").with("stream", stream.get()).text("protocol", protocol)
        }
        Event::StreamInbound { stream, conn, peer, protocol } => {
            let line = line("stream-inbound").with("stream", stream.get()).with("conn", conn.get());
            line.text("peer", peer).text("protocol", protocol)
        }
        Event::StreamReadable { stream } => line("stream-readable").with("stream", stream.get()),
        Event::StreamWritable { stream } => line("stream-writable").with("stream", stream.get()),
        Event::StreamFailed { stream, error } => {
            line("stream-failed").with("stream", stream.get()).text("error", error)
        }
        Event::Request { request, conn, peer, protocol, len } => {
            let line = line("request").with("request", request.get()).with("conn", conn.get());
            line.text("peer", peer).text("protocol", protocol).with("len", len)
        }
        Event::Response { request, result } => {
            let line = line("response").with("request", request.get());
            match result {
                Ok(len) => line.with("len", len),
                Err(error) => line.text("error", error),
            }
        }
        Event::RequestDropped { request } => line("request-dropped").with("request", request.get()),
        Event::Perf { perf, result } => {
            let line = line("perf").with("perf", perf.get());
            match result {
                Ok(report) => line
                    .with("uploaded", report.uploaded)
                    .nanos("upload_ns", report.upload_time)
                    .with("downloaded", report.downloaded)
                    .nanos("download_ns", report.download_time),
                Err(error) => line.text("error", error),
            }
        }
        Event::Fault { conn, peer, fault } => {
            line("peer-fault").with("conn", conn.get()).text("peer", peer).text("rule", fault)
        }
        Event::ShutDown => line("shut-down"),
        other => line("other").with("text", format!("{other:?}")),
    }
}
