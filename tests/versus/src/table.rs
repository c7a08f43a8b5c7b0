//! The figures of all rounds as tables.

use crate::work::{Contender, Figures, Work, describe};

/// The figure, its heading, what it is divided by to be shown, and whether it is compared.
type Column = (&'static str, &'static str, f64, bool);

const RATES: &[Column] = &[
    ("per_s", "1/s", 1.0, true),
    ("per_cpu_s", "1/CPU s", 1.0, true),
    ("client_cpu_us", "client µs", 1.0, false),
    ("server_cpu_us", "server µs", 1.0, false),
    ("allocations", "allocations", 1.0, true),
    ("allocated", "allocated KB", 1e3, false),
];
const FLOWS: &[Column] = &[
    ("per_s", "MB/s", 1.0, true),
    ("per_cpu_s", "MB/CPU s", 1.0, true),
    ("client_cpu_us", "sender s/GB", 1e6, false),
    ("server_cpu_us", "receiver s/GB", 1e6, false),
    ("allocations", "allocations/MB", 1e3, true),
    ("allocated", "allocated MB/MB", 1e9, false),
];
const TRIPS: &[Column] = &[("dialled", "connected, RTT", 1.0, true), ("echoed", "byte back, RTT", 1.0, true)];
const CONNS: &[Column] =
    &[("conn_heap", "heap KiB/conn", 1024.0, true), ("conn_resident", "resident KiB/conn", 1024.0, false)];
const NODES: &[Column] = &[
    ("conn_heap", "heap KiB/conn", 1024.0, true),
    ("conn_resident", "resident KiB/conn", 1024.0, false),
    ("node_heap", "node, heap KiB", 1024.0, true),
    ("node_resident", "node, resident KiB", 1024.0, true),
];

fn columns(work: Work) -> &'static [Column] {
    match work {
        Work::Handshakes | Work::Requests => RATES,
        Work::Bulk | Work::Chunks => FLOWS,
        Work::Connect => TRIPS,
        Work::Listener => CONNS,
        Work::Dialler => NODES,
    }
}

/// All rounds of one work.
pub(crate) struct Results {
    pub(crate) work: Work,
    pub(crate) amount: u64,
    /// By contender, then by round.
    pub(crate) rounds: Vec<(Contender, Vec<Figures>)>,
}

impl Results {
    fn of(&self, contender: Contender) -> Option<&[Figures]> {
        Some(&self.rounds.iter().find(|(other, _)| *other == contender)?.1)
    }

    pub(crate) fn print(&self) {
        println!("\n{}: {}", self.work.name(), describe(self.work, self.amount));
        let mut rows = vec![vec![String::new()]];
        for &(_, heading, _, compared) in columns(self.work) {
            rows[0].push(heading.into());
            if compared {
                rows[0].extend(["/ libp2p".into(), "/ noq".into()]);
            }
        }
        for (contender, rounds) in &self.rounds {
            let mut row = vec![contender.name().to_owned()];
            for &(name, _, unit, compared) in columns(self.work) {
                row.push(spread(rounds.iter().filter_map(|figures| Some(figures.get(name)? / unit)).collect()));
                if compared {
                    row.push(self.ratio(*contender, Contender::Libp2p, name));
                    row.push(self.ratio(*contender, Contender::Raw, name));
                }
            }
            rows.push(row);
        }
        print_aligned(&rows);
    }

    /// The median of the ratios of each round, so that what slows a whole round down falls out.
    fn ratio(&self, contender: Contender, peer: Contender, name: &str) -> String {
        let (Some(own), Some(peers)) = (self.of(contender), self.of(peer)) else { return String::new() };
        if contender == peer {
            return "1".into();
        }
        let ratios = own.iter().zip(peers).filter_map(|(own, peer)| Some(own.get(name)? / peer.get(name)?));
        median(ratios.collect()).map_or_else(String::new, |(_, ratio, _)| format!("{ratio:.2}"))
    }
}

fn print_aligned(rows: &[Vec<String>]) {
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    for row in rows {
        let cells = row.iter().enumerate().map(|(column, cell)| {
            let width = width(column).unwrap_or(0);
            if column == 0 { format!("{cell:width$}") } else { format!("{cell:>width$}") }
        });
        println!("{}", cells.collect::<Vec<_>>().join("  "));
    }
}

/// Least, median, most.
fn median(mut values: Vec<f64>) -> Option<(f64, f64, f64)> {
    values.retain(|value| value.is_finite());
    values.sort_by(f64::total_cmp);
    let middle = match values.len() {
        0 => return None,
        len if len % 2 == 1 => values[len / 2],
        len => f64::midpoint(values[len / 2 - 1], values[len / 2]),
    };
    Some((values[0], middle, values[values.len() - 1]))
}

fn spread(values: Vec<f64>) -> String {
    let single = values.len() == 1;
    match median(values) {
        Some((_, middle, _)) if single => short(middle),
        Some((least, middle, most)) => format!("{} [{}–{}]", short(middle), short(least), short(most)),
        None => "?".into(),
    }
}

/// Three digits that count.
fn short(value: f64) -> String {
    match value.abs() {
        size if size >= 99.5 => format!("{value:.0}"),
        size if size >= 9.95 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}
