//! What the demo shows: progress while it runs, and a summary at its end.

use std::{io::IsTerminal as _, time::Duration};

use indicatif::{ProgressBar, ProgressStyle};
use peerwork::{CloseReason, Direction, fault::code};
use serde_json::{Value, json};

use super::{
    peers::{Board, Index, World},
    phases::Phase,
};
use peerwork_sim::units::bytes;

use crate::{
    driver::DriverKind,
    failure::Failure,
    out::{Out, Paint, millis, time},
};

/// Missing things that are listed; a broken driver makes many.
const LISTED: usize = 24;

/// A line for each phase: a bar while it runs, if somebody watches, and the result when it has ended.
pub(super) struct Progress {
    out: Out,
    bar: ProgressBar,
}

impl Progress {
    pub(super) fn new(out: Out) -> Self {
        Self { out, bar: bar(out) }
    }

    pub(super) fn begin(&self, name: &'static str, things: &'static str, of: usize) {
        self.bar.reset();
        self.bar.set_length(of as u64);
        self.bar.set_prefix(name);
        self.bar.set_message(things);
    }

    pub(super) fn at(&self, done: usize) {
        self.bar.set_position(done as u64);
    }

    pub(super) fn end(&self, phase: &Phase) -> Result<(), Failure> {
        let Phase { name, things, done, of, .. } = phase;
        let out = self.out;
        let line = || {
            let mark = if phase.ok() { out.paint(Paint::Good, "ok") } else { out.paint(Paint::Bad, "FAILED") };
            format!("  {name:<9} {done:>3} of {of:<3} {things:<18} {:>8}  {mark}", time(phase.time))
        };
        self.bar.suspend(|| out.human(line))?;
        if out.is_json() || !phase.name.eq("goodbye") {
            return Ok(());
        }
        self.bar.finish_and_clear();
        Ok(())
    }
}

/// A bar, if somebody watches.
pub(super) fn bar(out: Out) -> ProgressBar {
    let watched = !out.is_json() && std::io::stdout().is_terminal() && std::io::stderr().is_terminal();
    let bar = if watched { ProgressBar::new(0) } else { ProgressBar::hidden() };
    if watched {
        // What is slow to change is drawn all the same.
        bar.enable_steady_tick(Duration::from_millis(100));
    }
    if let Ok(style) = ProgressStyle::with_template("  {prefix:9} {bar:24} {pos:>3} of {len:<3} {msg:18} {elapsed:.2}")
    {
        bar.set_style(style.progress_chars("━━┄"));
    }
    bar
}

/// What the peers on one driver saw of those on another.
#[derive(Clone, Debug, Default)]
struct Cell {
    /// Opened by the first.
    connections: usize,
    identified: usize,
    rtts: Vec<Duration>,
    echoed: u64,
    answered: usize,
    losses: usize,
    goodbyes: usize,
}

impl Cell {
    fn add(&mut self, other: &Self) {
        self.connections += other.connections;
        self.identified += other.identified;
        self.rtts.extend(&other.rtts);
        self.echoed += other.echoed;
        self.answered += other.answered;
        self.losses += other.losses;
        self.goodbyes += other.goodbyes;
    }

    fn median(&self) -> Option<Duration> {
        let mut rtts = self.rtts.clone();
        rtts.sort_unstable();
        rtts.get(rtts.len() / 2).copied()
    }

    fn json(&self) -> Value {
        json!({
            "connections": self.connections,
            "identified": self.identified,
            "pings": self.rtts.len(),
            "median_rtt_ms": self.median().map(millis),
            "echoed_bytes": self.echoed,
            "requests": self.answered,
            "losses_noticed": self.losses,
            "goodbyes_heard": self.goodbyes,
        })
    }

    fn row(&self) -> [String; 8] {
        let number = |number: usize| if number == 0 { "-".into() } else { number.to_string() };
        [
            number(self.connections),
            number(self.identified),
            number(self.rtts.len()),
            self.median().map_or_else(|| "-".into(), time),
            if self.echoed == 0 { "-".into() } else { bytes(self.echoed as f64) },
            number(self.answered),
            number(self.losses),
            number(self.goodbyes),
        ]
    }
}

/// The summary.
pub(super) struct Report {
    members: Vec<Value>,
    cells: Vec<(DriverKind, DriverKind, Cell)>,
    total: Cell,
    phases: Vec<Phase>,
    time: Duration,
    lost: Option<String>,
    gone: Option<String>,
    /// What should have happened and was not seen.
    missing: Vec<String>,
}

impl Report {
    pub(super) fn of(world: &World, phases: Vec<Phase>) -> Self {
        let board = world.shared.board();
        let mut cells = Vec::new();
        for from in DriverKind::ALL {
            for to in DriverKind::ALL {
                let mut cell = Cell::default();
                let is = |index: Index, driver| world.members.get(index).is_some_and(|member| member.driver == driver);
                for (a, b) in world.pairs() {
                    if is(a, from) && is(b, to) {
                        cell.add(&seen(&board, a, b));
                    }
                }
                cells.push((from, to, cell));
            }
        }
        let mut total = Cell::default();
        cells.iter().for_each(|(.., cell)| total.add(cell));
        let mut missing: Vec<String> = phases.iter().flat_map(|phase| phase.missing.clone()).collect();
        if board.missed > 0 {
            missing.push(format!("{} events were dropped because they were not read in time", board.missed));
        }
        let members = world.members.iter().map(|member| {
            let node = member.node.as_ref();
            json!({
                "name": member.name,
                "driver": member.driver.name(),
                "peer": node.map(|node| node.peer.to_string()),
                "address": node.and_then(|node| node.address.as_ref()).map(|address| address.to_string()),
            })
        });
        let name = |index: Option<Index>| index.map(|index| world.name(index).to_owned());
        Self {
            members: members.collect(),
            cells,
            total,
            phases,
            time: world.began.elapsed(),
            lost: name(world.lost),
            gone: name(world.gone),
            missing,
        }
    }

    pub(super) fn ok(&self) -> bool {
        self.missing.is_empty() && self.phases.iter().all(Phase::ok)
    }

    pub(super) fn print(&self, out: Out) -> Result<(), Failure> {
        Ok(out.say(|| self.json(), || self.human(out))?)
    }

    fn json(&self) -> Value {
        let phase = |phase: &Phase| {
            json!({
                "name": phase.name,
                "done": phase.done,
                "of": phase.of,
                "ms": millis(phase.time),
                "ok": phase.ok(),
            })
        };
        let cell = |(from, to, cell): &(DriverKind, DriverKind, Cell)| {
            let mut json = cell.json();
            json["from"] = from.name().into();
            json["to"] = to.name().into();
            json
        };
        json!({
            "event": "demo",
            "ok": self.ok(),
            "ms": millis(self.time),
            "peers": self.members,
            "phases": self.phases.iter().map(phase).collect::<Vec<_>>(),
            "drivers": self.cells.iter().map(cell).collect::<Vec<_>>(),
            "totals": self.total.json(),
            "killed": self.lost,
            "left": self.gone,
            "missing": self.missing,
        })
    }

    fn human(&self, out: Out) -> String {
        const TITLES: [&str; 8] =
            ["dialled", "identified", "pings", "median RTT", "echoed", "requests", "losses", "goodbyes"];
        let row = |name: &str, cells: [String; 8]| {
            let mut line = format!("  {name:<15}");
            for (title, cell) in TITLES.iter().zip(cells) {
                // Counted in letters, as a column is.
                line += &format!("  {cell:>width$}", width = title.len());
            }
            line
        };
        let mut lines = vec![String::new(), out.paint(Paint::Faint, &row("saw", TITLES.map(str::to_owned)))];
        for (from, to, cell) in &self.cells {
            lines.push(row(&format!("{from:<5} -> {to:<5}"), cell.row()));
        }
        lines.push(out.paint(Paint::Strong, &row("all", self.total.row())));
        lines.push(String::new());
        if let (Some(lost), Some(gone)) = (&self.lost, &self.gone) {
            lines.push(format!("  {lost} was killed without a word; {gone} said goodbye."));
        }
        let seconds = self.time.as_secs_f64();
        if self.ok() {
            let words = format!("  Everything was seen by the peers concerned, in {seconds:.1} s.");
            lines.push(out.paint(Paint::Good, &words));
        } else {
            let count = self.missing.len();
            lines.push(out.paint(
                Paint::Bad,
                &format!("  FAILED after {seconds:.1} s. Not seen, apart from what follows from it:"),
            ));
            lines.extend(self.missing.iter().take(LISTED).map(|missing| format!("    {missing}")));
            if count > LISTED {
                lines.push(format!("    and {} more (--json lists them all)", count - LISTED));
            }
            let suspects = self.suspects();
            if !suspects.is_empty() {
                lines.push(format!("  All of it has to do with {}.", suspects.join(" and ")));
            }
        }
        lines.join("\n")
    }

    /// Drivers that every missing thing names.
    fn suspects(&self) -> Vec<&'static str> {
        let named = |driver: &DriverKind| {
            let prefix = format!("{driver}-");
            self.missing.iter().all(|missing| missing.contains(&prefix))
        };
        DriverKind::ALL.into_iter().filter(named).map(DriverKind::name).collect()
    }
}

fn seen(board: &Board, from: Index, to: Index) -> Cell {
    let seen = board.seen(from, to);
    let goodbye = |end| matches!(end, CloseReason::Remote { code, .. } if code == u64::from(code::SHUTDOWN));
    Cell {
        connections: usize::from(seen.conn.is_some_and(|(_, direction)| direction == Direction::Outbound)),
        identified: usize::from(seen.agent.is_some()),
        rtts: seen.rtt.into_iter().collect(),
        echoed: seen.echoed,
        answered: usize::from(seen.answered),
        losses: usize::from(seen.end == Some(CloseReason::IdleTimeout)),
        goodbyes: usize::from(seen.end.is_some_and(goodbye)),
    }
}
