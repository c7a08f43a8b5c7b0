//! Broken rules, claims, probes and counters.

use std::collections::{BTreeMap, BTreeSet};

use maud::{Markup, html};

use super::{
    format::{clock, count, float, number, plural, share},
    group::{Group, median},
    section,
};
use crate::outcome::{Claim, Outcome, Violation};

/// No more rows than this in a table of single events.
const ROWS: usize = 100;

/// Rules that were broken, and what the scenario claims.
pub(super) fn broken(group: &Group<'_>) -> Markup {
    let all: Vec<(&Outcome, &Violation)> =
        group.runs.iter().flat_map(|run| run.violations.iter().map(move |violation| (*run, violation))).collect();
    let body = html! {
        @if all.is_empty() { p.good { span.mark aria-hidden="true" { "✓" } " No rule was broken." } }
        @else {
            @if group.is_sweep() { (kinds(&all)) }
            @if group.is_sweep() {
                details { summary { "Each of " (plural(all.len() as u64, "violation")) } (violations(&all, true)) }
            } @else { (violations(&all, false)) }
        }
        (claims(group))
    };
    let aside = if all.is_empty() { String::new() } else { format!("{} broken", count(all.len() as u64)) };
    section(group, "rules", "Rules and claims", &aside, &body)
}

/// Violations by rule and role, which is what makes two of them the same failure.
fn kinds(all: &[(&Outcome, &Violation)]) -> Markup {
    let mut kinds: BTreeMap<(&str, &str), Vec<(&Outcome, &Violation)>> = BTreeMap::new();
    for (run, violation) in all {
        kinds.entry((&violation.invariant, &violation.role)).or_default().push((run, violation));
    }
    html! {
        div.scroll tabindex="0" {
            table.rules {
                caption { "Broken rules, by role" }
                thead { tr {
                    th scope="col" { "Rule" } th scope="col" { "Role" } th.n scope="col" { "Times" } th scope="col" { "Seeds" }
                    th scope="col" { "For example" }
                } }
                tbody {
                    @for ((rule, role), found) in &kinds {
                        @let seeds = found.iter().map(|(run, _)| run.seed).collect::<BTreeSet<_>>();
                        tr {
                            th scope="row" { (rule) }
                            td { (role) }
                            td.n { (count(found.len() as u64)) }
                            td { (seeds.iter().take(6).map(u64::to_string).collect::<Vec<_>>().join(", ")) @if seeds.len() > 6 { " and " (seeds.len() - 6) " more" } }
                            td.words { @if let Some((_, first)) = found.first() { (first.detail) } }
                        }
                    }
                }
            }
        }
    }
}

fn violations(all: &[(&Outcome, &Violation)], seeds: bool) -> Markup {
    html! {
        div.scroll tabindex="0" {
            table.rules {
                caption { "Broken rules, in order of time" @if all.len() > ROWS { ", the first " (ROWS) " of " (count(all.len() as u64)) } }
                thead { tr {
                    @if seeds { th.n scope="col" { "Seed" } }
                    th scope="col" { "Rule" } th.n scope="col" { "Virtual time" } th scope="col" { "Node" } th scope="col" { "Role" }
                    th scope="col" { "Detail" }
                } }
                tbody {
                    @for (run, violation) in all.iter().take(ROWS) {
                        tr {
                            @if seeds { td.n { (run.seed) } }
                            th scope="row" { (violation.invariant) }
                            td.n { (clock(violation.at_ns / 1_000_000)) }
                            td { @if violation.node.is_empty() { "the world" } @else { code { (violation.node) } } }
                            td { (violation.role) }
                            td.words { (violation.detail) }
                        }
                    }
                }
            }
        }
    }
}

fn claims(group: &Group<'_>) -> Markup {
    let mut all: BTreeMap<&str, Vec<(u64, &Claim)>> = BTreeMap::new();
    let mut order: Vec<&str> = Vec::new();
    for (run, claim) in group.runs.iter().flat_map(|run| run.claims.iter().map(move |claim| (run, claim))) {
        let found = all.entry(&claim.text).or_default();
        if found.is_empty() {
            order.push(&claim.text);
        }
        found.push((run.seed, claim));
    }
    let value = |found: &[(u64, &Claim)]| match found {
        [(_, only)] => only.value.clone(),
        all => {
            let mut worst: Vec<_> = all.iter().filter(|(_, claim)| !claim.holds).collect();
            let rest = worst.len().saturating_sub(3);
            worst.truncate(3);
            let mut text: Vec<_> = worst.iter().map(|(seed, claim)| format!("{} (seed {seed})", claim.value)).collect();
            if rest > 0 {
                text.push(format!("{rest} more"));
            }
            text.join(", ")
        }
    };
    html! {
        h3 { "Claims" }
        @if all.is_empty() { p.none { "The scenario makes none." } }
        @else {
            div.scroll tabindex="0" {
                table {
                    thead { tr {
                        th scope="col" { "Claim" }
                        th scope="col" { "Holds" }
                        th scope="col" { @if group.is_sweep() { "Where not" } @else { "Measured" } }
                    } }
                    tbody {
                        @for text in order {
                            @let found = all.get(text).map_or(&[][..], Vec::as_slice);
                            @let holds = found.iter().filter(|(_, claim)| claim.holds).count();
                            tr .fail[holds < found.len()] {
                                th scope="row" { code { (text) } }
                                td.short {
                                    @if holds == found.len() { span.mark.pass { "✓" } " yes" } @else { span.mark.fail { "✗" } " no" }
                                    @if found.len() > 1 { ", in " (count(holds as u64)) " of " (count(found.len() as u64)) }
                                }
                                td { (value(found)) }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Rare states that were reached, and above all those that were not.
pub(super) fn probes(group: &Group<'_>) -> Markup {
    let probes = group.probes();
    let never: Vec<_> = probes.iter().filter(|(_, hits)| hits.0 == 0).map(|(name, _)| *name).collect();
    let most = probes.values().map(|hits| hits.0).max().unwrap_or(0);
    let hit = probes.len() - never.len();
    let body = html! {
        @if probes.is_empty() { p.none { "None were recorded." } }
        @else if never.is_empty() { p.good { span.mark aria-hidden="true" { "✓" } " Every probe was hit." } }
        @else {
            div.never {
                h3 { span.mark aria-hidden="true" { "!" } " Never hit: " (count(never.len() as u64)) }
                ul { @for name in &never { li { code { (name) } } } }
            }
        }
        @if hit > 0 {
            h3 { "Hit" }
            // By logarithm: what was hit once must be seen beside what was hit a million times.
            ul.meters {
                @for (name, (hits, runs)) in probes.iter().filter(|(_, hits)| hits.0 > 0) {
                    @let share = (libm::log10(float(*hits)) + 0.3) / (libm::log10(float(most)) + 0.3);
                    li {
                        code { (name) }
                        span.n { (count(*hits)) @if group.is_sweep() { " " small { "in " (runs) } } }
                        span.meter { i style=(format!("width:{:.0}%", share * 100.0)) {} }
                    }
                }
            }
            p.key { "Bars by logarithm." @if group.is_sweep() { " “in 12”: in twelve seeds of " (count(group.runs.len() as u64)) "." } }
        }
    };
    section(group, "probes", "Probes", &format!("{} of {} hit", count(hit as u64), count(probes.len() as u64)), &body)
}

/// All counters, by what comes before the first dot of their names.
pub(super) fn counters(group: &Group<'_>) -> Markup {
    let mut parts: BTreeMap<&str, Vec<(&str, u64)>> = BTreeMap::new();
    for (name, (sum, _)) in group.counters() {
        let part = name.split_once('.').map_or("other", |(part, _)| part);
        parts.entry(part).or_default().push((name, sum));
    }
    let sweep = group.is_sweep();
    let spread = |name: &str| {
        let mut values: Vec<u64> = group.runs.iter().map(|run| run.counters.get(name).copied().unwrap_or(0)).collect();
        values.sort_unstable();
        let middle = median(values.iter().map(|value| float(*value)).collect());
        [float(values.first().copied().unwrap_or(0)), middle, float(values.last().copied().unwrap_or(0))]
    };
    let body = html! {
        @if parts.is_empty() { p.none { "None were recorded." } }
        @else if sweep {
            div.scroll tabindex="0" {
                table {
                    thead { tr {
                        th scope="col" { "Counter" } th.n scope="col" { "Sum" } th.n scope="col" { "Lowest" }
                        th.n scope="col" { "Median" } th.n scope="col" { "Highest" }
                    } }
                    @for rows in parts.values() {
                        tbody {
                            @for (name, sum) in rows {
                                tr {
                                    th scope="row" { code { (name) } }
                                    td.n { (count(*sum)) }
                                    @for value in spread(name) { td.n { (number(value)) } }
                                }
                            }
                        }
                    }
                }
            }
        } @else {
            div.columns {
                @for (part, rows) in &parts {
                    table {
                        caption { (part) }
                        tbody {
                            @for (name, sum) in rows { tr { th scope="row" { code { (name) } } td.n { (count(*sum)) } } }
                        }
                    }
                }
            }
        }
    };
    section(group, "counters", "Counters", if sweep { "over all seeds" } else { "" }, &body)
}

/// A part and what it is of a whole, in a row of a table.
pub(super) fn part(label: &str, n: u64, whole: u64) -> Markup {
    html! {
        tr { th scope="row" { (label) } td.n { (count(n)) } td.n { (super::format::percent(share(n, whole))) } }
    }
}
