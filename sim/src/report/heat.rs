//! Dials by the NATs of both ends, against what the model says is possible.
//!
//! A table rather than a drawing: it is read by screen readers as it is, its cells shrink on a phone while their type does not,
//! and the browser sees to the labels.

use std::collections::BTreeSet;

use maud::{Markup, html};

use super::{
    format::{brief, count, percent, plural, share},
    group::{Group, Pair},
    section as frame,
};

/// From open to closed: how it maps, then how it filters.
fn rank(class: &str) -> (usize, usize) {
    const MAPS: [&str; 4] = ["OPEN", "EIM", "ADM", "APDM"];
    const FILTERS: [&str; 3] = ["/EIF", "/ADF", "/APDF"];
    let map = MAPS.iter().position(|start| class.starts_with(start));
    let filter = FILTERS.iter().position(|end| class.ends_with(end));
    (map.unwrap_or(MAPS.len()), filter.unwrap_or(FILTERS.len()))
}

/// The heat map.
pub(super) fn section(group: &Group<'_>) -> Markup {
    let pairs = group.nat_pairs();
    let names: BTreeSet<((usize, usize), &str)> =
        pairs.keys().flat_map(|(from, to)| [(rank(from), *from), (rank(to), *to)]).collect();
    let classes: Vec<&str> = names.into_iter().map(|(_, class)| class).collect();
    let tried = pairs.values().fold(0, |sum: u64, pair| sum.saturating_add(pair.tried));
    let ok = pairs.values().fold(0, |sum: u64, pair| sum.saturating_add(pair.ok));
    let odd: Vec<_> = pairs.iter().filter(|(_, pair)| pair.disagrees).collect();
    let body = html! {
        @if pairs.is_empty() { p.none { "No dials between classes were recorded." } }
        @else {
            p {
                b { (percent(share(ok, tried))) } " of " (plural(tried, "dial")) " reached the peer. "
                @if odd.is_empty() { span.good { span.mark aria-hidden="true" { "✓" } " What happened agrees with the model everywhere." } }
                @else { span.bad { span.mark aria-hidden="true" { "!" } " In " (plural(odd.len() as u64, "cell")) " the model disagrees." } }
            }
            div.scroll tabindex="0" {
                table.heat style=(format!("min-width:{}px", 64 + 23 * classes.len())) {
                    caption.hidden { "Share of dials that reached the peer, in per cent, over the number of dials" }
                    thead {
                        tr {
                            td.corner { span { "from ↓" } " " span { "to →" } }
                            @for class in &classes { th scope="col" { span { (class) } } }
                        }
                    }
                    tbody {
                        @for from in &classes {
                            tr {
                                th scope="row" { (from) }
                                @for to in &classes { (cell(from, to, pairs.get(&(*from, *to)))) }
                            }
                        }
                    }
                }
            }
            p.key {
                span.ramp aria-label="Colours, from 0 to 100 per cent" { "0\u{a0}%" @for level in 0..=10 { i.{ "h" (level) } {} } "100\u{a0}%" }
                span { "In each cell: per cent that reached the peer, and below it the number of dials." }
                span { i.cell.h0.not {} " impossible, says the model" }
                span { i.cell.h0.odd { "!" } " disagrees with the model" }
            }
            @if !odd.is_empty() {
                h3 { "Where the model disagrees" }
                div.scroll tabindex="0" {
                    table {
                        thead { tr {
                            th scope="col" { "From" } th scope="col" { "To" } th.n scope="col" { "Dials" } th.n scope="col" { "Reached" }
                            th scope="col" { "The model" }
                        } }
                        tbody {
                            @for ((from, to), pair) in odd {
                                tr {
                                    th scope="row" { (from) } td { (to) } td.n { (count(pair.tried)) } td.n { (count(pair.ok)) }
                                    td { (model(pair.possible)) }
                                }
                            }
                        }
                    }
                }
            }
        }
    };
    frame(group, "nat", "NAT × NAT", "dials by the classes of both ends", &body)
}

fn model(possible: Option<bool>) -> &'static str {
    match possible {
        Some(true) => "possible",
        Some(false) => "impossible",
        None => "says nothing, or not the same in all runs",
    }
}

fn cell(from: &str, to: &str, pair: Option<&Pair>) -> Markup {
    let Some(pair) = pair.filter(|pair| pair.tried > 0) else {
        let not = pair.is_some_and(|pair| pair.possible == Some(false));
        return html! { td.none .not[not] title=(format!("{from} → {to}: no dials")) { "·" } };
    };
    let rate = share(pair.ok, pair.tried).min(1.0);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 10")]
    let level = (rate * 10.0 + 0.5) as u8;
    let shown = match rate * 100.0 {
        r if r > 0.0 && r < 1.0 => "<1".to_owned(),
        r if r > 99.0 && r < 100.0 => ">99".to_owned(),
        r => format!("{r:.0}"),
    };
    let class = format!("h{level}");
    let title = format!(
        "{from} → {to}: {} of {} reached the peer ({}); the model: {}",
        count(pair.ok),
        plural(pair.tried, "dial"),
        percent(rate),
        model(pair.possible)
    );
    html! {
        td.(class) .not[pair.possible == Some(false)] .odd[pair.disagrees] title=(title) {
            b { (shown) @if pair.disagrees { span.flag { "!" } } }
            " " small { (brief(pair.tried)) }
        }
    }
}
