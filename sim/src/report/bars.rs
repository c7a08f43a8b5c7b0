//! What became of packets.

use maud::{Markup, html};

use super::{
    drawing,
    format::{Px, bytes, count, cut, float, len, percent, plural, share, short},
    group::Group,
    section as frame,
    tables::part,
};

const WIDTH: f64 = 360.0;
const ROW: f64 = 26.0;
const LEFT: f64 = 112.0;
const RIGHT: f64 = 256.0;
/// The bar of all packets, and below it the first cause.
const TOP: f64 = 62.0;

/// Where packets ended.
pub(super) fn section(group: &Group<'_>) -> Markup {
    let packets = group.packets();
    let mut causes: Vec<(&str, u64)> = packets.dropped.iter().map(|(cause, n)| (cause.as_str(), *n)).collect();
    causes.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
    let dropped = causes.iter().fold(0, |sum: u64, (_, n)| sum.saturating_add(*n));
    let ends = packets.delivered.saturating_add(dropped).saturating_add(packets.in_flight);
    let body = html! {
        @if packets.sent == 0 && ends == 0 { p.none { "No packets were sent." } }
        @else {
            div.beside {
                figure {
                    figcaption { b { "Drops by cause" } " " span { (percent(share(dropped, packets.sent))) " of all packets" } }
                    (plot(&group.id("drops"), packets.sent, packets.delivered, packets.in_flight, dropped, &causes))
                }
                div.scroll tabindex="0" {
                    table.sum {
                        caption { "Where " (plural(packets.sent, "packet")) " ended" }
                        thead { tr { th scope="col" { "End" } th.n scope="col" { "Packets" } th.n scope="col" { "Share" } } }
                        tbody {
                            (part("delivered", packets.delivered, packets.sent))
                            @for (cause, n) in &causes { (part(&format!("dropped: {cause}"), *n, packets.sent)) }
                            (part("still under way", packets.in_flight, packets.sent))
                        }
                        tfoot {
                            tr { th scope="row" { "Sum" } td.n { (count(ends)) } td.n { (percent(share(ends, packets.sent))) } }
                            tr { th scope="row" { "Sent" } td.n { (count(packets.sent)) } td.n { (balance(ends, packets.sent)) } }
                        }
                    }
                }
            }
            p.key {
                span { (bytes(float(packets.bytes_sent))) " sent, " (bytes(float(packets.bytes_delivered))) " delivered, without IP and UDP headers." }
            }
        }
    };
    frame(group, "packets", "Packets", if group.is_sweep() { "over all seeds" } else { "" }, &body)
}

fn balance(ends: u64, sent: u64) -> Markup {
    html! {
        @if ends == sent { span.good { span.mark aria-hidden="true" { "✓" } " adds up" } }
        @else { span.bad { span.mark aria-hidden="true" { "✗" } " off by " (count(ends.abs_diff(sent))) } }
    }
}

fn plot(id: &str, sent: u64, delivered: u64, under_way: u64, dropped: u64, causes: &[(&str, u64)]) -> Markup {
    let most = causes.first().map_or(1, |cause| cause.1).max(1);
    let whole = sent.max(1);
    let mut at = 0.0;
    let ends = [("delivered", delivered, "ok"), ("dropped", dropped, "drop"), ("still under way", under_way, "rest")];
    let mut parts = Vec::new();
    for (label, n, class) in ends {
        let wide = share(n, whole).min(1.0 - at / (WIDTH - 4.0)).max(0.0) * (WIDTH - 4.0);
        parts.push((label, n, class, 2.0 + at, wide));
        at += wide;
    }
    let content = html! {
        @for (label, n, class, x, wide) in &parts {
            @if *n > 0 {
                rect.(class) x=(Px(*x)) y="4" width=(Px(wide.max(1.0))) height="18" { title { (label) ": " (count(*n)) ", " (percent(share(*n, whole))) } }
            }
        }
        text x="2" y="38" { "delivered " (percent(share(delivered, whole))) }
        text.end x=(Px(WIDTH - 2.0)) y="38" { "dropped " (percent(share(dropped, whole))) }
        @for (n, (cause, packets)) in causes.iter().enumerate() {
            @let y = TOP + ROW * len(n);
            @let wide = share(*packets, most) * (RIGHT - LEFT);
            g {
                title { (cause) ": " (plural(*packets, "packet")) ", " (percent(share(*packets, whole))) }
                text.end x=(Px(LEFT - 8.0)) y=(Px(y + 13.0)) { (cut(cause, 16)) }
                rect.drop x=(Px(LEFT)) y=(Px(y + 2.0)) width=(Px(wide.max(1.0))) height="15" {}
                text x=(Px(LEFT + wide.max(1.0) + 6.0)) y=(Px(y + 13.0)) { (short(float(*packets))) tspan.faint { " " (percent(share(*packets, whole))) } }
            }
        }
    };
    let description: Vec<_> = causes.iter().map(|(cause, n)| format!("{cause} {}", count(*n))).collect();
    let height = TOP + ROW * len(causes.len()) + 2.0;
    drawing(id, (WIDTH, height), "Packets dropped, by cause", &format!("{}.", description.join(", ")), &content)
}
