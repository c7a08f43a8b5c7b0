//! Distributions: where values lie, with the quantiles that people ask for.

use maud::{Markup, html};

use super::{
    drawing,
    format::{Px, Unit, count, cut, float, percent, plural},
    group::Group,
    scale::{Scale, log_ticks, spaced, ticks, width},
};
use crate::outcome::Histogram;

const WIDTH: f64 = 360.0;
const HEIGHT: f64 = 212.0;
const LEFT: f64 = 46.0;
const RIGHT: f64 = 336.0;
/// Above it are the labels of the quantiles, a row for each.
const TOP: f64 = 50.0;
const BOTTOM: f64 = 172.0;
/// Bars of a logarithmic plot.
const BINS: usize = 44;
/// Up to this highest value, each whole number that is no time has a bar of its own.
const WHOLE: u64 = 30;

/// The quantiles in the table, per mille.
const QUANTILES: [(u32, &str); 5] = [(500, "p50"), (900, "p90"), (990, "p99"), (999, "p99.9"), (1000, "max")];
/// Those in the fallback of each plot.
const FINE: [u32; 13] = [0, 10, 50, 100, 250, 500, 750, 900, 950, 990, 995, 999, 1000];

/// All distributions.
pub(super) fn section(group: &Group<'_>) -> Markup {
    let all = group.histograms();
    let body = html! {
        @if all.is_empty() { p.none { "None were recorded." } }
        @else {
            div.scroll tabindex="0" {
                table {
                    caption.hidden { "Quantiles of each distribution" }
                    thead { tr {
                        th scope="col" { "Distribution" } th.n scope="col" { "Values" } th.n scope="col" { "Mean" }
                        @for (_, label) in QUANTILES { th.n scope="col" { (label) } }
                    } }
                    tbody {
                        @for (name, histogram) in &all {
                            @let unit = Unit::of(name, Unit::Time(1.0));
                            tr {
                                th scope="row" { code { (name) } }
                                td.n { (count(histogram.count)) }
                                td.n { (unit.show(mean(histogram))) }
                                @for (per_mille, _) in QUANTILES { td.n { (unit.show(float(histogram.quantile(per_mille)))) } }
                            }
                        }
                    }
                }
            }
            div.plots {
                @for (n, (name, histogram)) in all.iter().enumerate() { (figure(&group.id(&format!("h{n}")), name, histogram)) }
            }
        }
    };
    super::section(group, "distributions", "Distributions", if group.is_sweep() { "over all seeds" } else { "" }, &body)
}

fn mean(histogram: &Histogram) -> f64 {
    if histogram.count == 0 { 0.0 } else { float(histogram.sum) / float(histogram.count) }
}

fn figure(id: &str, name: &str, histogram: &Histogram) -> Markup {
    let unit = Unit::of(name, Unit::Time(1.0));
    html! {
        figure {
            figcaption { b { code { (name) } } " " span { (plural(histogram.count, "value")) } }
            @if histogram.count == 0 { p.none { "No values." } }
            @else {
                (plot(id, name, unit, histogram))
                details {
                    summary { "Numbers" }
                    table {
                        thead { tr { th scope="col" { "At or below" } th.n scope="col" { "Share of values" } } }
                        tbody {
                            @for per_mille in FINE {
                                tr {
                                    td { (unit.show(float(histogram.quantile(per_mille)))) }
                                    td.n { @if per_mille == 0 { "lowest" } @else { (percent(f64::from(per_mille) / 1000.0)) } }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Bars: from, to, share of all values.
struct Bars {
    scale: Scale,
    bars: Vec<(f64, f64, f64)>,
    marks: Vec<f64>,
    /// Marks without a label.
    minor: Vec<f64>,
    /// Whether each bar is one whole number, in the middle of its bar.
    whole: bool,
    /// The share of values that are 0, which no logarithm has, and where their bar begins and ends.
    zero: Option<(f64, f64, f64)>,
}

fn bars(histogram: &Histogram, unit: Unit) -> Bars {
    let total = float(histogram.count);
    if histogram.max <= WHOLE && unit == Unit::Plain {
        let (low, high) = (float(histogram.min) - 0.5, float(histogram.max) + 0.5);
        let scale = Scale::linear(low, high, LEFT, RIGHT);
        let bars = histogram.buckets().map(|(from, _, n)| (float(from) - 0.42, float(from) + 0.42, float(n) / total));
        let marks = ticks(float(histogram.min), float(histogram.max), 10);
        let marks = marks.into_iter().filter(|mark| *mark == mark.trunc()).collect();
        return Bars { scale, bars: bars.collect(), marks, minor: Vec::new(), whole: true, zero: None };
    }
    let zeros = histogram.buckets().find(|bucket| bucket.0 == 0).map(|bucket| float(bucket.2) / total);
    let zero = zeros.map(|share| (LEFT, LEFT + 9.0, share));
    let left = if zero.is_some() { LEFT + 22.0 } else { LEFT };
    let lowest = histogram.buckets().find(|bucket| bucket.0 > 0).map_or(1, |bucket| bucket.0.max(histogram.min));
    let (low, high) = (float(lowest) / 1.2, float(histogram.max.max(lowest)) * 1.2);
    let scale = Scale::log(low, high, left, RIGHT);
    // Buckets are finer than bars for large values and coarser for small ones: each is spread evenly over its part of the axis.
    let step = (RIGHT - left) / super::format::len(BINS);
    let mut shares = [0.0; BINS];
    for (from, to, n) in histogram.buckets().filter(|bucket| bucket.0 > 0) {
        let (from, to) = (scale.at(float(from.max(lowest))), scale.at(float(to)).max(left));
        let to = if to > from { to } else { from + 0.01 };
        for (bin, share) in shares.iter_mut().enumerate() {
            let (start, end) = (left + step * super::format::len(bin), left + step * super::format::len(bin + 1));
            let overlap = (end.min(to) - start.max(from)).max(0.0);
            *share += float(n) / total * overlap / (to - from);
        }
    }
    // Back from pixels to values.
    let ratio = libm::log10(high / low);
    let value = |bin: usize| low * libm::exp10(ratio * super::format::len(bin) / super::format::len(BINS));
    let bars = shares.iter().enumerate().map(|(bin, share)| (value(bin), value(bin + 1), *share)).collect();
    let (marks, minor) = log_ticks(low, high, unit);
    Bars { scale, bars, marks, minor, whole: false, zero }
}

fn plot(id: &str, name: &str, unit: Unit, histogram: &Histogram) -> Markup {
    let Bars { scale, bars, marks, minor, whole, zero } = bars(histogram, unit);
    let highest = bars.iter().map(|bar| bar.2).chain(zero.map(|bar| bar.2)).fold(0.0, f64::max);
    let height = Scale::linear(0.0, highest * 1.04, BOTTOM, TOP);
    let quantile = |per_mille| float(histogram.quantile(per_mille));
    let description = format!(
        "{}: p50 {}, p90 {}, p99 {}, highest {}.",
        plural(histogram.count, "value"),
        unit.show(quantile(500)),
        unit.show(quantile(900)),
        unit.show(quantile(990)),
        unit.show(float(histogram.max)),
    );
    let across = spaced(marks.iter().map(|mark| (scale.at(*mark), unit.tick(*mark))));
    let up = ticks(0.0, highest * 1.04, 5);
    let bar = |from: f64, to: f64, share: f64, label: &str| {
        let (top, gap) = (height.at(share), if whole { 0.0 } else { 0.5 });
        // What is there must be seen, however rare.
        let tall = if share > 0.0 { (BOTTOM - top).max(0.8) } else { 0.0 };
        html! {
            @if share > 0.0 {
                rect.bar x=(Px(from + gap)) y=(Px(BOTTOM - tall)) width=(Px((to - from - 2.0 * gap).max(0.6))) height=(Px(tall)) {
                    title { (label) ": " (percent(share)) }
                }
            }
        }
    };
    // The higher a quantile, the higher its label, and to the left of its line where it fits: so no line crosses a label.
    let marked: Vec<_> = [(2.0, 500, "p50"), (1.0, 900, "p90"), (0.0, 990, "p99")]
        .into_iter()
        .map(|(row, per_mille, class)| {
            let value = quantile(per_mille);
            let in_zero = zero.filter(|_| value < 1.0 && !whole).map(|zero| f64::midpoint(zero.0, zero.1));
            let at = in_zero.unwrap_or_else(|| scale.at(value));
            let label = format!("{class} {}", unit.show(value));
            let left = at - 6.0 - width(&label) > 0.0;
            (label, at, 12.0 + 15.0 * row, class, left)
        })
        .collect();
    let content = html! {
        g.grid {
            @for mark in &up { line x1=(Px(LEFT)) x2=(Px(RIGHT)) y1=(Px(height.at(*mark))) y2=(Px(height.at(*mark))) {} }
        }
        g.axis.up { @for mark in &up { text x=(Px(LEFT - 6.0)) y=(Px(height.at(*mark) + 4.0)) { (percent(*mark)) } } }
        g.axis.across {
            @for mark in &minor { line x1=(Px(scale.at(*mark))) x2=(Px(scale.at(*mark))) y1=(Px(BOTTOM)) y2=(Px(BOTTOM + 2.5)) {} }
            @for (at, label) in &across {
                line x1=(Px(*at)) x2=(Px(*at)) y1=(Px(BOTTOM)) y2=(Px(BOTTOM + 4.0)) {}
                text x=(Px(*at)) y=(Px(BOTTOM + 17.0)) { (label) }
            }
            line x1=(Px(LEFT)) x2=(Px(RIGHT)) y1=(Px(BOTTOM)) y2=(Px(BOTTOM)) {}
            text.name x=(Px(f64::midpoint(LEFT, RIGHT))) y=(Px(HEIGHT - 6.0)) {
                (unit.label()) @if !whole { ", logarithmic" }
            }
        }
        @if let Some((from, to, share)) = zero {
            (bar(from, to, share, "0"))
            @if across.first().is_none_or(|first| first.0 - width(&first.1) / 2.0 > to + 4.0) {
                g.axis.across { text x=(Px(f64::midpoint(from, to))) y=(Px(BOTTOM + 17.0)) { "0" } }
            }
        }
        @for (from, to, share) in &bars {
            @let label = if whole { unit.show((from + to) / 2.0) } else { format!("{} to {}", unit.show(*from), unit.show(*to)) };
            (bar(scale.at(*from), scale.at(*to), *share, &label))
        }
        @for (_, at, y, class, _) in &marked {
            line.quantile.(class) x1=(Px(*at)) x2=(Px(*at)) y1=(Px(y - 9.0)) y2=(Px(BOTTOM)) {}
        }
        @for (label, at, y, _, left) in &marked {
            text.quantile .end[*left] x=(Px(if *left { at - 4.0 } else { at + 4.0 })) y=(Px(*y)) { (label) }
        }
    };
    drawing(id, (WIDTH, HEIGHT), &format!("Distribution of {}", cut(name, 80)), &description, &content)
}
