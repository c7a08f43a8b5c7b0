//! `peerwork replay`: a recorded peer, run again.

use std::{
    cell::RefCell,
    fmt::Debug,
    fs::File,
    io::{self, IsTerminal as _, Read as _},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};
use peerwork::{
    Output, Time,
    record::{Call, Ending, Replay, ReplayError, Step},
};
use peerwork_driver::platform;
use serde_json::{Map, Value, json};

use crate::{
    args::ReplayArgs,
    failure::Failure,
    out::{Out, Paint, millis, time},
};

/// Bytes of the file read at once.
const PIECE: u64 = 1 << 20;

pub(crate) fn replay(args: &ReplayArgs, out: Out) -> Result<(), Failure> {
    let shown = args.file.display();
    let unreadable = |error: io::Error| Failure::new(format!("cannot read {shown}: {error}"));
    let mut file = File::open(&args.file).map_err(unreadable)?;
    let len = file.metadata().map_err(unreadable)?.len();
    let trouble = RefCell::new(None);
    let more = |buf: &mut Vec<u8>| match (&mut file).take(PIECE).read_to_end(buf) {
        Ok(read) => read > 0,
        Err(error) => {
            *trouble.borrow_mut() = Some(error);
            false
        }
    };
    let begun = Instant::now();
    // What looks like a bad record is a bad disk, if that was the reason.
    let refused = |error: ReplayError| match trouble.take() {
        Some(error) => unreadable(error),
        None => Failure::new(format!("{shown}: {error}")),
    };
    let mut replay = Replay::from_source(more, platform()).map_err(&refused)?;
    let show = Show { out, args, from: Time::ZERO + args.from.unwrap_or_default() };
    show.started(&replay)?;
    let bar = progress(args, len);
    let until = args.until.map(|until| Time::ZERO + until);
    let mut found = false;
    // The call at the time wanted is no longer made, so that the node stands as it did then.
    while until.is_none_or(|until| replay.next_at().is_none_or(|at| at <= until)) {
        let Some(step) = replay.step().map_err(&refused)? else { break };
        bar.set_position(replay.totals().bytes);
        if show.step(&step, args.until_event.as_deref())? {
            found = true;
            break;
        }
    }
    bar.finish_and_clear();
    if let Some(error) = trouble.take() {
        return Err(unreadable(error));
    }
    if found || until.is_some() {
        show.state(&replay)?;
    }
    show.summary(&replay, begun.elapsed())?;
    match &args.until_event {
        Some(text) if !found => Err(Failure::new(format!("no event contains `{text}`"))),
        _ => Ok(()),
    }
}

/// A bar for people who would otherwise see nothing for long.
fn progress(args: &ReplayArgs, len: u64) -> ProgressBar {
    if !args.quiet || args.json || !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:40} {bytes}/{total_bytes} {eta}");
    ProgressBar::new(len).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

type Printed = io::Result<()>;

struct Show<'a> {
    out: Out,
    args: &'a ReplayArgs,
    from: Time,
}

/// The name of a variant, from its `Debug`.
fn name(text: &str) -> &str {
    text.split([' ', '(', '{']).next().unwrap_or(text)
}

/// Fields that are all numbers, from a `Debug`.
fn numbers(value: &impl Debug) -> Map<String, Value> {
    let text = format!("{value:?}");
    let fields = text.split_once('{').map_or("", |(_, fields)| fields.trim_end_matches('}'));
    let number = |field: &str| {
        let (name, number) = field.split_once(": ")?;
        Some((name.trim().to_owned(), number.trim().parse::<u64>().ok()?.into()))
    };
    fields.split(", ").filter_map(number).collect()
}

impl Show<'_> {
    fn started(&self, replay: &Replay<'_>) -> Printed {
        if self.args.quiet {
            return Ok(());
        }
        let (peer, library) = (replay.node().peer_id(), replay.library());
        let agent = &replay.node().local().agent_version;
        self.out.say(
            || json!({"event": "started", "peer": peer.to_string(), "agent": agent, "recorded_by": library}),
            || {
                let about = format!("{}, recorded by peerwork {}", agent.escape_debug(), library.escape_debug());
                let peer = self.out.paint(Paint::Strong, &peer.to_string());
                format!("{peer}\n{}", self.out.paint(Paint::Faint, &about))
            },
        )
    }

    /// Prints what is wanted of a step, and says whether it has the event that is looked for.
    fn step(&self, step: &Step, wanted: Option<&str>) -> io::Result<bool> {
        let print = !self.args.quiet && step.at >= self.from;
        if print && self.args.calls && !matches!(step.call, Call::Mark { .. } | Call::Outputs { .. }) {
            self.line(step, "call", Paint::Faint, &step.call.to_string())?;
        }
        let mut found = false;
        for output in &step.outputs {
            match output {
                Output::Event(event) => {
                    let text = format!("{event:?}");
                    let this = wanted.is_some_and(|wanted| text.contains(wanted));
                    found |= this;
                    if print || this {
                        self.line(step, "event", Paint::Good, &text)?;
                    }
                }
                Output::Command(command) if print && self.args.calls => {
                    self.line(step, "command", Paint::Strong, &format!("{command:?}"))?;
                }
                Output::Command(_) => {}
            }
        }
        if print && self.args.calls {
            for sent in &step.sent {
                let (to, len) = (sent.transmit.to, sent.data.len());
                let parts = sent.transmit.segment.map(|part| format!(" in parts of {part}")).unwrap_or_default();
                self.line(step, "sent", Paint::Strong, &format!("to {to}, {len} bytes{parts}"))?;
            }
        }
        Ok(found)
    }

    fn line(&self, step: &Step, kind: &str, paint: Paint, text: &str) -> Printed {
        self.out.say(
            || {
                let mut json = json!({"event": kind, "at_s": seconds(step.at), "entry": step.entry, "text": text});
                if kind == "event" {
                    json["name"] = name(text).into();
                }
                json
            },
            || {
                let at = self.out.paint(Paint::Faint, &format!("{:>14}", step.at.to_string()));
                format!("{at}  {}  {text}", self.out.paint(paint, &format!("{kind:<7}")))
            },
        )
    }

    /// How the node stands.
    fn state(&self, replay: &Replay<'_>) -> Printed {
        let node = replay.node();
        let (stats, census) = (node.stats(), node.census());
        let json = || {
            let connections: Vec<Value> = node
                .connections()
                .map(|info| {
                    json!({
                        "conn": info.conn.get(),
                        "peer": info.peer.to_string(),
                        "direction": format!("{:?}", info.direction).to_lowercase(),
                        "address": info.address.to_string(),
                        "rtt_ms": millis(info.rtt),
                        "streams": info.streams,
                        "failed_pings": info.failed_pings,
                        "agent": info.identified.map(|info| info.agent_version.clone()),
                    })
                })
                .collect();
            json!({
                "event": "state",
                "at_s": seconds(replay.now()),
                "connections": connections,
                "listen_addrs": node.listen_addrs().iter().map(ToString::to_string).collect::<Vec<_>>(),
                "stats": numbers(&stats),
                "census": numbers(&census),
                "next_wake_s": node.poll_timeout().map(|wake| seconds(wake.at)),
                "next_wake_why": node.poll_timeout().map(|wake| format!("{:?}", wake.why)),
            })
        };
        let human = || {
            let mut text = format!("{}{}", self.out.verb(Paint::Strong, "state"), replay.now());
            for info in node.connections() {
                let agent = info.identified.as_ref().map_or("not identified", |info| &info.agent_version);
                let direction = format!("{:?}", info.direction).to_lowercase();
                text += &format!(
                    "\n{:13}{} {} {direction} {}, rtt {}, {} streams, {}",
                    "",
                    info.conn,
                    info.peer,
                    info.address,
                    time(info.rtt),
                    info.streams,
                    agent.escape_debug()
                );
            }
            if let Some(wake) = node.poll_timeout() {
                text += &format!("\n{:13}wakes up at {} for {:?}", "", wake.at, wake.why);
            }
            for (what, numbers) in [("holds", numbers(&census)), ("counted", numbers(&stats))] {
                let numbers: Vec<String> = numbers
                    .iter()
                    .filter(|(_, number)| number.as_u64() != Some(0))
                    .map(|(name, number)| format!("{} {number}", name.replace('_', " ")))
                    .collect();
                text += &format!(
                    "\n{:13}{what}: {}",
                    "",
                    if numbers.is_empty() { "nothing".into() } else { numbers.join(", ") }
                );
            }
            text
        };
        self.out.say(json, human)
    }

    fn summary(&self, replay: &Replay<'_>, elapsed: Duration) -> Printed {
        let totals = replay.totals();
        let span = replay.now().since(replay.start());
        let speed = span.as_secs_f64() / elapsed.as_secs_f64().max(1e-9);
        let ending = replay.ending();
        self.out.say(
            || {
                json!({
                    "event": "summary",
                    "entries": totals.entries,
                    "bytes": totals.bytes,
                    "span_s": span.as_secs_f64(),
                    "events": totals.events,
                    "commands": totals.commands,
                    "datagrams_in": totals.datagrams_in,
                    "datagrams_out": totals.datagrams_out,
                    "verified": totals.marks,
                    "ending": match ending {
                        None => "stopped",
                        Some(Ending::Complete) => "complete",
                        Some(Ending::Unfinished) => "unfinished",
                        Some(Ending::Torn { .. }) => "torn",
                    },
                    "torn_bytes": match ending {
                        Some(Ending::Torn { bytes }) => bytes,
                        _ => 0,
                    },
                    "elapsed_ms": millis(elapsed),
                    "times_real_time": (speed * 10.0).round() / 10.0,
                })
            },
            || {
                let mut text = format!(
                    "{}{} entries over {}: {} events, {} datagrams in, {} out; the same at all {} marks\n",
                    self.out.verb(Paint::Good, "replayed"),
                    totals.entries,
                    time(span),
                    totals.events,
                    totals.datagrams_in,
                    totals.datagrams_out,
                    totals.marks,
                );
                text += &format!("{:13}in {}, {speed:.0} times as fast as it was", "", time(elapsed));
                match ending {
                    None | Some(Ending::Complete) => {}
                    Some(ending) => text += &format!("\n{}{ending}", self.out.verb(Paint::Bad, "note")),
                }
                text
            },
        )
    }
}

fn seconds(at: Time) -> f64 {
    at.since(Time::ZERO).as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_from_what_is_printed() {
        let mut census = peerwork::Census::default();
        (census.conns, census.timers) = (3, 5);
        let read = numbers(&census);
        assert_eq!((&read["conns"], &read["timers"], &read["dials"]), (&3.into(), &5.into(), &0.into()));
    }
}
