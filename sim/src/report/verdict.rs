//! The first thing that a reader sees: did it pass, what was it, and how to see it again.

use std::collections::BTreeMap;

use maud::{Markup, html};

use super::{
    ReportOptions,
    format::{bytes, count, float, number, plural, share, short, span_ms},
    group::{Group, median},
    name, sections,
};
use crate::outcome::Outcome;

/// Failing seeds that are shown at once.
const SHOWN: usize = 6;

/// No more failing seeds than this are listed one by one.
const LISTED: usize = 200;

/// The verdict on everything in a word.
pub(super) fn word(outcomes: &[Outcome]) -> &'static str {
    match outcomes {
        [] => "Nothing ran",
        all if all.iter().all(Outcome::passed) => "Passed",
        _ => "Failed",
    }
}

/// A small verdict, told apart by shape as well as by colour.
pub(super) fn badge(passed: bool) -> Markup {
    html! {
        @if passed { span.badge.pass { span.mark aria-hidden="true" { "✓" } " passed" } }
        @else { span.badge.fail { span.mark aria-hidden="true" { "✗" } " failed" } }
    }
}

/// The top of the page.
pub(super) fn headline(outcomes: &[Outcome], groups: &[Group<'_>], title: &str, options: &ReportOptions) -> Markup {
    let passed = outcomes.iter().all(Outcome::passed);
    let failed = outcomes.iter().filter(|run| !run.passed()).count();
    let word = word(outcomes);
    html! {
        header.top {
            div.verdict .pass[passed && !outcomes.is_empty()] .fail[!passed] {
                span.mark aria-hidden="true" { @if passed { "✓" } @else { "✗" } }
                div {
                    p.word { (word) }
                    h1 { (title) }
                    p.what { (summary(outcomes, groups, failed)) }
                }
            }
            @if !options.note.is_empty() { p.note { (options.note) } }
            @if let [group] = groups {
                nav aria-label="Sections" {
                    @for (id, title) in sections(group) { a href={ "#" (id) } { (title) } }
                }
            } @else if !groups.is_empty() {
                div.scroll tabindex="0" {
                    table {
                        caption { "Scenarios" }
                        thead { tr {
                            th scope="col" { "Scenario" } th scope="col" { "Tier" } th scope="col" { "Verdict" }
                            th.n scope="col" { "Seeds" } th.n scope="col" { "Failed" } th.n scope="col" { "Never-hit probes" }
                        } }
                        tbody {
                            @for group in groups {
                                @let failed = group.failed().count();
                                tr {
                                    th scope="row" { a href={ "#" (group.id("top")) } { (name(group.scenario)) } }
                                    td { (group.tier) }
                                    td { (badge(failed == 0)) }
                                    td.n { (count(group.runs.len() as u64)) }
                                    td.n { (count(failed as u64)) }
                                    td.n { (group.probes().values().filter(|probe| probe.0 == 0).count()) }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn summary(outcomes: &[Outcome], groups: &[Group<'_>], failed: usize) -> Markup {
    html! {
        @match (outcomes, groups) {
            ([], _) => "There is nothing to report on: no outcome was given.",
            ([run], _) => {
                "Seed " b { (run.seed) } " on the " b { (name(&run.tier)) } " tier"
                @if !run.passed() {
                    @let claims = run.claims.iter().filter(|claim| !claim.holds).count();
                    ": "
                    (plural(run.violations.len() as u64, "broken rule"))
                    ", "
                    (plural(claims as u64, "claim")) " not met"
                }
                "."
            }
            (_, [group]) => {
                @if failed == 0 { "All of " b { (plural(outcomes.len() as u64, "seed")) } " on the " b { (name(group.tier)) } " tier." }
                @else { b { (count(failed as u64)) } " of " b { (plural(outcomes.len() as u64, "seed")) } " failed, on the " b { (name(group.tier)) } " tier." }
            }
            _ => {
                b { (plural(outcomes.len() as u64, "run")) } " of " (plural(groups.len() as u64, "scenario")) ", "
                (count(failed as u64)) " failed."
            }
        }
    }
}

/// The section with what ran, what it cost, which seeds failed and how to repeat it.
pub(super) fn section(group: &Group<'_>, options: &ReportOptions) -> Markup {
    let body = html! {
        (figures(group, options))
        @if group.is_sweep() { (strip(group)) }
        (repeat(group))
    };
    super::section(group, "verdict", "Verdict", "", &body)
}

/// Key figures: label, value, remark.
fn figures(group: &Group<'_>, options: &ReportOptions) -> Markup {
    let runs = &group.runs;
    let seeds = match (runs.first(), runs.last()) {
        (Some(first), Some(last)) if runs.len() > 1 => {
            (count(len_of(runs)), format!("{} to {}", first.seed, last.seed))
        }
        (Some(only), _) => (only.seed.to_string(), String::new()),
        _ => return html! {},
    };
    let most = |of: fn(&Outcome) -> u64| runs.iter().map(|run| of(run)).max().unwrap_or(0);
    let least = |of: fn(&Outcome) -> u64| runs.iter().map(|run| of(run)).min().unwrap_or(0);
    let range = |of: fn(&Outcome) -> u64, show: fn(u64) -> String| {
        let (low, high) = (least(of), most(of));
        if low == high { show(high) } else { format!("{} to {}", show(low), show(high)) }
    };
    let sweep = group.is_sweep();
    let each = if sweep { "each" } else { "" };
    let mut shown: Vec<(&str, String, String)> = vec![
        (if sweep { "Seeds" } else { "Seed" }, seeds.0, seeds.1),
        ("Tier", name(group.tier).to_owned(), String::new()),
        ("Nodes", range(|run| run.nodes, count), each.to_owned()),
        ("Virtual time", range(|run| run.virtual_ms, span_ms), each.to_owned()),
    ];
    let timed: Vec<&&Outcome> = runs.iter().filter(|run| run.cost.wall_ms > 0).collect();
    if options.cost && !timed.is_empty() {
        let of_all = |of: fn(&Outcome) -> f64| median(timed.iter().map(|run| of(run)).collect());
        let speed = of_all(|run| share(run.virtual_ms, run.cost.wall_ms));
        let rate = of_all(|run| share(run.cost.events, run.cost.wall_ms) * 1000.0);
        let wall: u64 = timed.iter().fold(0, |sum, run| sum.saturating_add(run.cost.wall_ms));
        let all = if sweep { "of computing in all" } else { "of real time" };
        shown.push((
            "Speed",
            format!("{}\u{a0}×", number(speed)),
            format!("{}, {} {all}", if sweep { "median" } else { "virtual / real" }, span_ms(wall)),
        ));
        if rate > 0.0 {
            let events = timed.iter().fold(0, |sum: u64, run| sum.saturating_add(run.cost.events));
            shown.push(("Events per second", short(rate), format!("{} in all", short(float(events)))));
        }
        if most(|run| run.cost.peak_rss) > 0 {
            let peak = float(most(|run| run.cost.peak_rss));
            let nodes = float(most(|run| run.nodes).max(1));
            shown.push(("Peak memory", bytes(peak), format!("{} a node", bytes(peak / nodes))));
        }
    }
    html! {
        dl.figures {
            @for (label, value, remark) in &shown {
                div {
                    dt { (label) }
                    dd { span.value { (value) } @if !remark.is_empty() { " " span.remark { (remark) } } }
                }
            }
            @if let [only] = runs.as_slice() {
                div.wide { dt { "Digest" } dd { code { @if only.digest.is_empty() { "none" } @else { (only.digest) } } } }
            }
        }
    }
}

fn len_of<T>(all: &[T]) -> u64 {
    all.len() as u64
}

/// A mark for each seed.
fn strip(group: &Group<'_>) -> Markup {
    let failed = group.failed().count();
    html! {
        h3 { "Seeds" }
        ul.strip aria-label=(format!("{} of {} failed", plural(failed as u64, "seed"), count(len_of(&group.runs)))) {
            @for run in &group.runs {
                @let passed = run.passed();
                li .fail[!passed] title=(format!("seed {}: {}", run.seed, if passed { "passed".to_owned() } else { reason(run) })) {
                    span.hidden { (run.seed) @if !passed { " failed" } }
                    @if !passed { span aria-hidden="true" { "✗" } }
                }
            }
        }
        p.key {
            span { i.cell {} " passed " (count(len_of(&group.runs) - failed as u64)) }
            span { i.cell.fail { "✗" } " failed " (count(failed as u64)) }
            span { "In order of seeds." }
        }
    }
}

/// Why a run failed, in a few words.
fn reason(run: &Outcome) -> String {
    let mut rules: BTreeMap<&str, usize> = BTreeMap::new();
    for violation in &run.violations {
        *rules.entry(&violation.invariant).or_default() += 1;
    }
    let rules = rules.into_iter().map(|(rule, n)| if n == 1 { rule.to_owned() } else { format!("{rule} ×{n}") });
    let claims = run.claims.iter().filter(|claim| !claim.holds).map(|claim| claim.text.clone());
    rules.chain(claims).collect::<Vec<_>>().join(", ")
}

/// The command that repeats the run, or those that repeat each failing one.
fn repeat(group: &Group<'_>) -> Markup {
    let command = |run: &Outcome| match run.repeat.as_str() {
        "" => "(the outcome names no command)".to_owned(),
        command => command.to_owned(),
    };
    let failed: Vec<_> = group.failed().collect();
    html! {
        @if let [only] = group.runs.as_slice() {
            h3 { "To repeat it" }
            pre.command tabindex="0" { code { (command(only)) } }
        } @else if failed.is_empty() {
            h3 { "To repeat a seed" }
            @if let Some(first) = group.runs.first() { pre.command tabindex="0" { code { (command(first)) } } }
        } @else {
            h3 { "Failing seeds, and how to repeat them" }
            @if failed.len() > LISTED { p { "The first " (LISTED) " of " (count(len_of(&failed))) "." } }
            (list(&failed[..failed.len().min(SHOWN)], &command))
            @if failed.len() > SHOWN {
                details {
                    summary { "More of them" }
                    (list(&failed[SHOWN..failed.len().min(LISTED)], &command))
                }
            }
        }
    }
}

fn list(failed: &[&Outcome], command: &dyn Fn(&Outcome) -> String) -> Markup {
    html! {
        ul.failing {
            @for run in failed {
                li {
                    b { "Seed " (run.seed) } ": " (reason(run))
                    pre.command tabindex="0" { code { (command(run)) } }
                }
            }
        }
    }
}
