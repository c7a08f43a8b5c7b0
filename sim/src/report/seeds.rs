//! What differs among the seeds of a sweep.

use maud::{Markup, html};

use super::{
    ReportOptions, drawing,
    format::{Px, Unit, count, cut, float, len, percent, plural, span_ms},
    group::{Figure, Group},
    scale::{Scale, spaced, ticks},
    section as frame,
};

const WIDTH: f64 = 360.0;
const HEIGHT: f64 = 136.0;
const LEFT: f64 = 34.0;
const RIGHT: f64 = 336.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 96.0;
const BINS: usize = 28;
/// Rows of the table of all seeds.
const ROWS: usize = 1000;

/// Extremes, outliers, distributions over seeds, and each seed's digest.
pub(super) fn section(group: &Group<'_>, options: &ReportOptions) -> Markup {
    let figures = group.figures(options.cost);
    let body = html! {
        (extremes(&figures))
        h3 { "Key figures over seeds" }
        div.plots {
            @for (n, figure) in figures.iter().enumerate().filter(|(_, figure)| figure.low() < figure.high()) {
                figure {
                    figcaption { b { (figure.name) } " " span { "median " (figure.unit.show(figure.median())) } }
                    (plot(&group.id(&format!("f{n}")), figure))
                }
            }
        }
        p.key { span { i.swatch.ok {} " passed" } span { i.swatch.failed {} " failed" } span { i.swatch.middle {} " median" } span { "Numbers are in the table above." } }
        (each(group, options))
    };
    frame(group, "seeds", "Across seeds", &plural(group.runs.len() as u64, "seed"), &body)
}

fn extremes(figures: &[Figure]) -> Markup {
    let named = |name: &str| figures.iter().find(|figure| figure.name == name);
    let top = |figure: &Figure| {
        let top = figure.values.iter().rev().take(3);
        top.map(|(seed, value, _)| format!("seed\u{a0}{seed}\u{a0}({})", figure.unit.show(*value)))
            .collect::<Vec<_>>()
            .join(", ")
    };
    html! {
        dl.notable {
            @if let Some(figure) = named("wall-clock time") { div { dt { "Slowest" } dd { (top(figure)) } } }
            @if let Some(figure) = named("packets dropped") { div { dt { "Most drops" } dd { (top(figure)) } } }
            @if let Some(figure) = named("violations") { div { dt { "Most violations" } dd { (top(figure)) } } }
        }
        div.scroll tabindex="0" {
            table {
                caption { "Key figures; outliers lie more than six median deviations from the median" }
                thead { tr {
                    th scope="col" { "Figure" } th.n scope="col" { "Lowest" } th.n scope="col" { "Median" } th.n scope="col" { "Highest" }
                    th scope="col" { "Outliers" }
                } }
                tbody {
                    @for figure in figures {
                        @let far = figure.outliers();
                        tr {
                            th scope="row" { (figure.name) }
                            td.n { (extreme(figure, figure.values.first())) }
                            td.n { (figure.unit.show(figure.median())) }
                            td.n { (extreme(figure, figure.values.last())) }
                            td {
                                @for (n, (seed, value)) in far.iter().take(3).enumerate() {
                                    @if n > 0 { ", " } "seed " (seed) " (" (figure.unit.show(*value)) ")"
                                }
                                @if far.len() > 3 { ", " (far.len() - 3) " more" }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn extreme(figure: &Figure, value: Option<&(u64, f64, bool)>) -> Markup {
    html! {
        @if let Some((seed, value, _)) = value {
            (figure.unit.show(*value))
            @if figure.low() < figure.high() { small.seed { "seed " (seed) } }
        }
    }
}

fn plot(id: &str, figure: &Figure) -> Markup {
    let (low, high) = (figure.low(), figure.high());
    let step = (high - low) / len(BINS);
    let mut bins = [[0_u64; 2]; BINS];
    for (_, value, passed) in &figure.values {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a bin's number")]
        let bin = (((value - low) / step) as usize).min(BINS - 1);
        bins[bin][usize::from(!*passed)] += 1;
    }
    let across = Scale::linear(low, high, LEFT, RIGHT);
    let most = bins.iter().map(|bin| bin[0] + bin[1]).max().unwrap_or(1).max(1);
    let height = Scale::linear(0.0, float(most), BOTTOM, TOP);
    let whole = figure.unit == Unit::Plain && figure.values.iter().all(|value| value.1 == value.1.trunc());
    let marks = ticks(low, high, 5).into_iter().filter(|mark| !whole || *mark == mark.trunc());
    let marks = spaced(marks.map(|mark| (across.at(mark), figure.unit.tick(mark))));
    let up: Vec<_> = ticks(0.0, float(most), 3).into_iter().filter(|mark| *mark == mark.trunc()).collect();
    let content = html! {
        g.grid { @for mark in &up { line x1=(Px(LEFT)) x2=(Px(RIGHT)) y1=(Px(height.at(*mark))) y2=(Px(height.at(*mark))) {} } }
        g.axis.up { @for mark in &up { text x=(Px(LEFT - 6.0)) y=(Px(height.at(*mark) + 4.0)) { (Unit::Plain.tick(*mark)) } } }
        @for (n, [passed, failed]) in bins.iter().enumerate().filter(|(_, bin)| bin[0] + bin[1] > 0) {
            @let (from, to) = (low + step * len(n), low + step * len(n + 1));
            @let (x, wide) = (across.at(from) + 0.5, (RIGHT - LEFT) / len(BINS) - 1.0);
            @let (middle, top) = (height.at(float(*passed)), height.at(float(passed + failed)));
            g {
                title { (figure.unit.show(from)) " to " (figure.unit.show(to)) ": " (plural(passed + failed, "seed")) ", " (count(*failed)) " failed" }
                @if *passed > 0 { rect.ok x=(Px(x)) y=(Px(middle)) width=(Px(wide)) height=(Px(BOTTOM - middle)) {} }
                @if *failed > 0 { rect.failed x=(Px(x)) y=(Px(top)) width=(Px(wide)) height=(Px(middle - top)) {} }
            }
        }
        @let middle = across.at(figure.median());
        line.middle x1=(Px(middle)) x2=(Px(middle)) y1=(Px(TOP - 6.0)) y2=(Px(BOTTOM)) {}
        g.axis.across {
            line x1=(Px(LEFT)) x2=(Px(RIGHT)) y1=(Px(BOTTOM)) y2=(Px(BOTTOM)) {}
            @for (at, label) in &marks {
                line x1=(Px(*at)) x2=(Px(*at)) y1=(Px(BOTTOM)) y2=(Px(BOTTOM + 4.0)) {}
                text x=(Px(*at)) y=(Px(BOTTOM + 17.0)) { (label) }
            }
            text.name x=(Px(f64::midpoint(LEFT, RIGHT))) y=(Px(BOTTOM + 34.0)) { (figure.unit.label()) ", against number of seeds" }
        }
    };
    let description = format!(
        "{}: lowest {}, median {}, highest {}.",
        plural(figure.values.len() as u64, "seed"),
        figure.unit.show(low),
        figure.unit.show(figure.median()),
        figure.unit.show(high)
    );
    drawing(id, (WIDTH, HEIGHT), &format!("{} over seeds", cut(&figure.name, 80)), &description, &content)
}

/// Every seed in a row.
fn each(group: &Group<'_>, options: &ReportOptions) -> Markup {
    let runs = &group.runs;
    html! {
        details {
            summary { "Each seed" @if runs.len() > ROWS { ", the first " (ROWS) " of " (count(runs.len() as u64)) } }
            div.scroll tabindex="0" {
                table {
                    thead { tr {
                        th.n scope="col" { "Seed" } th scope="col" { "Verdict" } th.n scope="col" { "Violations" }
                        th.n scope="col" { "Packets" } th.n scope="col" { "Dropped" }
                        @if options.cost { th.n scope="col" { "Real time" } }
                        th scope="col" { "Digest" }
                    } }
                    tbody {
                        @for run in runs.iter().take(ROWS) {
                            @let dropped = run.packets.dropped.values().fold(0, |sum: u64, n| sum.saturating_add(*n));
                            tr {
                                th.n scope="row" { (run.seed) }
                                td { (super::verdict::badge(run.passed())) }
                                td.n { (count(run.violations.len() as u64)) }
                                td.n { (count(run.packets.sent)) }
                                td.n { (percent(super::format::share(dropped, run.packets.sent))) }
                                @if options.cost { td.n { (span_ms(run.cost.wall_ms)) } }
                                td { code { (cut(&run.digest, 16)) } }
                            }
                        }
                    }
                }
            }
        }
    }
}
