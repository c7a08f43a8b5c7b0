//! Curves over virtual time, with the times behind them in which faults ruled.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use maud::{Markup, html};

use super::{
    drawing,
    format::{Px, Unit, clock, count, cut, float, len, plural, span_ms},
    group::{Group, Lane, median},
    scale::{Scale, moment, moments, spaced, ticks},
};

const WIDTH: f64 = 360.0;
const HEIGHT: f64 = 176.0;
const LEFT: f64 = 56.0;
const RIGHT: f64 = 338.0;
const TOP: f64 = 20.0;
const BOTTOM: f64 = 138.0;
/// Height of one kind of fault in the legend.
const LANE: f64 = 30.0;
/// Steps of a curve; what has more points is drawn as the extremes and the median of each step.
const STEPS: u32 = 147;
/// Faults in the table.
const ROWS: usize = 100;

/// Time, the same for all plots of a group.
struct Time<'a> {
    end: u64,
    scale: Scale,
    lanes: Vec<Lane<'a>>,
    /// Milliseconds at which rules broke, if there is one run.
    broken: Vec<u64>,
}

/// All curves.
pub(super) fn section(group: &Group<'_>) -> Markup {
    let end = group.end_ms();
    let broken = match group.runs.as_slice() {
        [only] => only.violations.iter().take(50).map(|violation| violation.at_ns / 1_000_000).collect(),
        _ => Vec::new(),
    };
    let time = Time { end, scale: Scale::linear(0.0, float(end), LEFT, RIGHT), lanes: group.lanes(), broken };
    let series = group.series();
    let body = html! {
        @if series.is_empty() && time.lanes.is_empty() { p.none { "No curves and no faults were recorded." } }
        @if !time.lanes.is_empty() || !series.is_empty() {
            p.key {
                @for (n, lane) in time.lanes.iter().enumerate() {
                    span { i.swatch.{ "k" (n % 6) } { (letter(n)) } " " (lane.kind) }
                }
                @if time.lanes.is_empty() { span { "No faults." } }
                @if !time.broken.is_empty() { span { i.swatch.violation {} " a rule broken" } }
                @if group.is_sweep() {
                    span { i.swatch.median {} " median of all seeds" }
                    span { i.swatch.extremes {} " lowest to highest" }
                    @if !time.lanes.is_empty() { span { "The more seeds a fault has at a time, the darker it is." } }
                }
            }
        }
        div.plots {
            @if !time.lanes.is_empty() { (faults(group, &time)) }
            @for (n, name) in series.iter().enumerate() { (figure(group, &time, &group.id(&format!("c{n}")), name)) }
        }
    };
    super::section(group, "time", "Over time", "", &body)
}

/// A short name for a kind of fault, since colour alone is not enough.
fn letter(n: usize) -> String {
    let letter = u8::try_from(n % 26).map_or('?', |n| char::from(b'A' + n));
    if n < 26 { letter.to_string() } else { format!("{letter}{}", n / 26) }
}

/// Where a kind's letter goes: over the middle of each of its bands, or nowhere if there are many.
fn lettered(time: &Time<'_>, lane: &Lane<'_>) -> Vec<f64> {
    let mut joined: Vec<(u64, u64)> = Vec::new();
    for (from, to, _) in &lane.spans {
        match joined.last_mut() {
            Some(last) if last.1 == *from => last.1 = *to,
            _ => joined.push((*from, *to)),
        }
    }
    if joined.len() > 4 {
        return Vec::new();
    }
    joined.iter().map(|(from, to)| f64::midpoint(time.scale.at(float(*from)), time.scale.at(float(*to)))).collect()
}

fn axis(time: &Time<'_>, bottom: f64) -> Markup {
    let marks = spaced(moments(time.end, 6).into_iter().map(|mark| (time.scale.at(mark), moment(mark))));
    html! {
        g.axis.across {
            line x1=(Px(LEFT)) x2=(Px(RIGHT)) y1=(Px(bottom)) y2=(Px(bottom)) {}
            @for (at, label) in &marks {
                line x1=(Px(*at)) x2=(Px(*at)) y1=(Px(bottom)) y2=(Px(bottom + 4.0)) {}
                text x=(Px(*at)) y=(Px(bottom + 17.0)) { (label) }
            }
            text.name x=(Px(f64::midpoint(LEFT, RIGHT))) y=(Px(bottom + 32.0)) { "virtual time" }
        }
    }
}

/// A legend of faults that is a plot itself: when which kind ruled.
fn faults(group: &Group<'_>, time: &Time<'_>) -> Markup {
    let bottom = TOP + LANE * len(time.lanes.len());
    let bands: Vec<_> = group.runs.iter().flat_map(|run| run.bands.iter().map(|band| (run.seed, band))).collect();
    let words: Vec<_> = time.lanes.iter().map(|lane| format!("{} ({})", lane.kind, count(lane.count as u64))).collect();
    let content = html! {
        @for (n, lane) in time.lanes.iter().enumerate() {
            @let y = TOP - 8.0 + LANE * len(n);
            g.{ "k" (n % 6) } {
                text.lane x=(Px(LEFT)) y=(Px(y + 8.0)) { tspan.letter { (letter(n)) } " " (cut(lane.kind, 42)) title { (lane.kind) } }
                @for (from, to, share) in &lane.spans {
                    @let (x, end) = (time.scale.at(float(*from)), time.scale.at(float(*to)));
                    rect.fault x=(Px(x)) y=(Px(y + 13.0)) width=(Px((end - x).max(1.5))) height="9" opacity=(format!("{share:.1}")) {
                        title { (lane.kind) ": " (clock(*from)) " to " (clock(*to)) }
                    }
                }
            }
        }
        @for at in &time.broken {
            @let x = time.scale.at(float(*at));
            line.violation x1=(Px(x)) x2=(Px(x)) y1=(Px(TOP - 8.0)) y2=(Px(bottom)) { title { "a rule broken at " (clock(*at)) } }
        }
        (axis(time, bottom))
    };
    let title = "Faults over time";
    html! {
        figure {
            figcaption { b { "Faults" } " " span { (plural(bands.len() as u64, "fault")) } }
            (drawing(&group.id("faults"), (WIDTH, bottom + 38.0), title, &format!("{}.", words.join(", ")), &content))
            details {
                summary { "Numbers" }
                div.scroll tabindex="0" {
                    table {
                        @if bands.len() > ROWS { caption { "The first " (ROWS) " of " (count(bands.len() as u64)) } }
                        thead { tr {
                            @if group.is_sweep() { th.n scope="col" { "Seed" } }
                            th scope="col" { "Fault" } th.n scope="col" { "From" } th.n scope="col" { "Lasting" } th scope="col" { "What" }
                        } }
                        tbody {
                            @for (seed, band) in bands.iter().take(ROWS) {
                                tr {
                                    @if group.is_sweep() { td.n { (seed) } }
                                    th scope="row" { (band.kind) }
                                    td.n { (clock(band.from_ms)) }
                                    td.n { (span_ms(band.to_ms.saturating_sub(band.from_ms))) }
                                    td.words { (band.label) }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// A curve, reduced to what can be drawn: time, lowest, middle and highest value.
type Points = Vec<(f64, [f64; 3])>;

fn reduce(group: &Group<'_>, time: &Time<'_>, name: &str) -> Points {
    let finite = |points: &[(u64, f64)]| -> Vec<(u64, f64)> {
        let mut points: Vec<_> = points.iter().copied().filter(|point| point.1.is_finite()).collect();
        points.sort_by_key(|point| point.0);
        points
    };
    let curves: Vec<_> =
        group.runs.iter().filter_map(|run| run.series.get(name)).map(|points| finite(points)).collect();
    let step = float(time.end) / f64::from(STEPS);
    let of = |mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        [values.first().copied().unwrap_or(0.0), median(values.clone()), values.last().copied().unwrap_or(0.0)]
    };
    match curves.as_slice() {
        [points] if points.len() <= STEPS as usize * 2 => {
            points.iter().map(|(at, value)| (float(*at), [*value; 3])).collect()
        }
        [points] => {
            let mut bins: BTreeMap<u64, Vec<f64>> = BTreeMap::new();
            for (at, value) in points {
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "at most the number of steps"
                )]
                bins.entry((float(*at) / step) as u64).or_default().push(*value);
            }
            bins.into_iter().map(|(bin, values)| ((float(bin) + 0.5) * step, of(values))).collect()
        }
        // What each curve was at a moment is what it last was before.
        curves => {
            let mut next = vec![0; curves.len()];
            let mut reduced = Vec::new();
            for n in 0..=STEPS {
                let at = f64::from(n) * step;
                let mut values = Vec::new();
                for (points, next) in curves.iter().zip(&mut next) {
                    while points.get(*next).is_some_and(|point| float(point.0) <= at) {
                        *next += 1;
                    }
                    values.extend(next.checked_sub(1).map(|last| points[last].1));
                }
                if !values.is_empty() {
                    reduced.push((at, of(values)));
                }
            }
            reduced
        }
    }
}

fn figure(group: &Group<'_>, time: &Time<'_>, id: &str, name: &str) -> Markup {
    let unit = Unit::of(name, Unit::Plain);
    let points = reduce(group, time, name);
    let (Some(first), Some(last)) = (points.first(), points.last()) else {
        return html! { figure { figcaption { b { code { (name) } } } p.none { "No values." } } };
    };
    let low = points.iter().map(|point| point.1[0]).fold(f64::INFINITY, f64::min);
    let high = points.iter().map(|point| point.1[2]).fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = points.iter().map(|point| point.1[1]).sum();
    let stats = [
        ("first", first.1[1]),
        ("lowest", low),
        ("mean", sum / len(points.len())),
        ("highest", high),
        ("last", last.1[1]),
    ];
    let sampled: Vec<_> = points.iter().step_by(points.len().div_ceil(16).max(1)).collect();
    html! {
        figure {
            figcaption { b { code { (name) } } " " span { "last " (unit.show(last.1[1])) } }
            (plot(time, id, name, unit, &points, (low, high)))
            details {
                summary { "Numbers" }
                table {
                    @if group.is_sweep() { caption { "Median of all seeds" } }
                    tbody {
                        @for (label, value) in stats { tr { th scope="row" { (label) } td.n { (unit.show(value)) } } }
                    }
                    tbody {
                        @for (at, values) in sampled {
                            tr { th scope="row" { "at " (moment_of(*at)) } td.n { (unit.show(values[1])) } }
                        }
                    }
                }
            }
        }
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a moment of the run")]
fn moment_of(ms: f64) -> String {
    clock(ms.max(0.0) as u64)
}

fn plot(time: &Time<'_>, id: &str, name: &str, unit: Unit, points: &Points, (low, high): (f64, f64)) -> Markup {
    // From 0, unless that hides what happens far above it.
    let base = if low >= 0.0 && low <= 0.7 * high { 0.0 } else { low };
    let room = if high > base { (high - base) * 0.06 } else { high.abs().max(1.0) * 0.1 };
    let (from, to) = (if base == 0.0 { 0.0 } else { base - room }, high + room);
    let to = if unit == Unit::Share && high <= 1.0 { to.min(1.0 + (1.0 - from) * 0.02) } else { to };
    let height = Scale::linear(from, to, BOTTOM, TOP);
    let xy = |at: f64, value: f64| format!("{} {}", Px(time.scale.at(at)), Px(height.at(value)));
    let mut line = String::new();
    for (n, (at, values)) in points.iter().enumerate() {
        let _ = write!(line, "{}{}", if n == 0 { 'M' } else { 'L' }, xy(*at, values[1]));
    }
    let spread = points.iter().any(|(_, values)| values[0].to_bits() != values[2].to_bits());
    let mut area = String::new();
    if spread {
        let upper = points.iter().map(|(at, values)| xy(*at, values[2]));
        let lower = points.iter().rev().map(|(at, values)| xy(*at, values[0]));
        area = format!("M{}Z", upper.chain(lower).collect::<Vec<_>>().join("L"));
    }
    let up = ticks(from, to, 5);
    let each = points.len().div_ceil(60).max(1);
    let hover: Vec<_> = points.iter().step_by(each).collect();
    let wide = (RIGHT - LEFT) / len(hover.len());
    let content = html! {
        g.bands {
            @for (n, lane) in time.lanes.iter().enumerate() {
                g.{ "k" (n % 6) } {
                    @for (start, end, share) in &lane.spans {
                        @let (x, end) = (time.scale.at(float(*start)), time.scale.at(float(*end)));
                        rect.band x=(Px(x)) y=(Px(TOP)) width=(Px((end - x).max(1.0))) height=(Px(BOTTOM - TOP)) opacity=(format!("{share:.1}")) {}
                    }
                    @for at in lettered(time, lane) { text.letter x=(Px(at)) y=(Px(TOP - 4.0)) { (letter(n)) } }
                }
            }
        }
        g.grid { @for mark in &up { line x1=(Px(LEFT)) x2=(Px(RIGHT)) y1=(Px(height.at(*mark))) y2=(Px(height.at(*mark))) {} } }
        g.axis.up { @for mark in &up { text x=(Px(LEFT - 6.0)) y=(Px(height.at(*mark) + 4.0)) { (unit.tick(*mark)) } } }
        (axis(time, BOTTOM))
        @if spread { path.extremes d=(area) {} }
        path.curve d=(line) {}
        @for at in &time.broken {
            @let x = time.scale.at(float(*at));
            line.violation x1=(Px(x)) x2=(Px(x)) y1=(Px(TOP)) y2=(Px(BOTTOM)) {}
        }
        g.hover {
            @for (at, values) in hover {
                rect x=(Px((time.scale.at(*at) - wide / 2.0).max(LEFT))) y=(Px(TOP)) width=(Px(wide)) height=(Px(BOTTOM - TOP)) {
                    title {
                        (moment_of(*at)) ": " (unit.show(values[1]))
                        @if spread { " (" (unit.show(values[0])) " to " (unit.show(values[2])) ")" }
                    }
                }
            }
        }
    };
    let description = format!("From {} to {}, over {}.", unit.show(low), unit.show(high), span_ms(time.end));
    drawing(id, (WIDTH, HEIGHT), &format!("{} over virtual time", cut(name, 80)), &description, &content)
}
