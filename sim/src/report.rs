//! Results for people: [`html`] makes one page of one run or of many, [`text`] a few lines for a terminal.
//!
//! A page holds everything it needs: no scripts, fonts or pictures from elsewhere, and a policy in its head that forbids any. It
//! is XHTML-compatible, follows the reader's choice of a light or dark screen, fits a phone and prints. Values show when the
//! pointer rests on a mark; every plot has its numbers in a table beside or below it.
//!
//! Runs are grouped by scenario and tier. Several runs of one scenario are a sweep: counts are added, distributions merged,
//! curves drawn as the median of all seeds within their extremes. For each group come, in this order: the verdict and how to
//! repeat it, broken rules and claims, probes, distributions, curves, NATs, packets, counters, and what differs among seeds.
//!
//! Names and details come from scenario files and from whoever speaks in them, so they are taken for hostile: the template
//! library escapes every value, controls and changes of direction become visible, and no value is ever part of a style or an
//! address. The same outcomes give the same bytes; only [`Cost`](crate::outcome::Cost) differs from run to run, and
//! [`ReportOptions::cost`] leaves it out.
//!
//! Plots are written by hand. Plotting libraries fix colours in their output and place unlabelled shapes; here a stylesheet
//! must be able to recolour everything, and every mark has a title that a screen reader can say.

mod bars;
mod curves;
mod distribution;
mod format;
mod group;
mod heat;
mod scale;
mod seeds;
mod tables;
mod text;
mod verdict;

use maud::{Markup, PreEscaped, html as markup};

use self::{format::plural, group::Group};
use crate::outcome::Outcome;

pub use self::text::text;

/// How a page is to be made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReportOptions {
    /// The page's title. Empty: made from the scenarios.
    pub title: String,
    /// A paragraph under the title, such as what was run and why. Empty: none.
    pub note: String,
    /// Whether to show what runs cost: wall-clock time, speed, memory. Without it, the page depends on the runs alone.
    pub cost: bool,
}

impl Default for ReportOptions {
    fn default() -> Self {
        Self { title: String::new(), note: String::new(), cost: true }
    }
}

/// The style of the page, with all of its colours.
const STYLE: &str = include_str!("report/style.css");

/// What comes first in the head. Nothing may be loaded, and no script may run, even if a name got through as markup.
const HEAD: &str = concat!(
    r#"<meta charset="utf-8"/>"#,
    r#"<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:"/>"#,
    r#"<meta name="viewport" content="width=device-width, initial-scale=1"/>"#,
    r#"<meta name="color-scheme" content="light dark"/>"#,
    r#"<link rel="icon" href="data:,"/>"#,
);

/// One page about one run or many. See the [module](self).
pub fn html(outcomes: &[Outcome], options: &ReportOptions) -> String {
    let groups = Group::all(outcomes);
    let title = match (options.title.as_str(), groups.as_slice()) {
        ("", []) => "No runs".to_owned(),
        ("", [group]) => name(group.scenario).to_owned(),
        ("", groups) => plural(groups.len() as u64, "scenario"),
        (title, _) => title.to_owned(),
    };
    let page = markup! {
        (PreEscaped("<!DOCTYPE html>\n"))
        html lang="en" xmlns="http://www.w3.org/1999/xhtml" {
            head {
                (PreEscaped(HEAD))
                title { (verdict::word(outcomes)) ": " (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                main {
                    (verdict::headline(outcomes, &groups, &title, options))
                    @for group in &groups {
                        @if groups.len() > 1 {
                            h2.scenario #(group.id("top")) {
                                (verdict::badge(group.failed().next().is_none()))
                                " " (name(group.scenario)) " " small { (group.tier) " tier" }
                            }
                        }
                        (verdict::section(group, options))
                        (tables::broken(group))
                        (tables::probes(group))
                        (distribution::section(group))
                        (curves::section(group))
                        (heat::section(group))
                        (bars::section(group))
                        (tables::counters(group))
                        @if group.is_sweep() { (seeds::section(group, options)) }
                    }
                }
                footer { p { "Made by peerwork sim. One file, nothing else is loaded." } }
            }
        }
    };
    format::harmless(&page.into_string())
}

/// A name to show; something must be there to see.
fn name(name: &str) -> &str {
    if name.is_empty() { "unnamed" } else { name }
}

/// A section with its heading.
fn section(group: &Group<'_>, id: &str, title: &str, aside: &str, body: &Markup) -> Markup {
    let id = group.id(id);
    let heading = format!("{id}-h");
    markup! {
        section #(id) aria-labelledby=(heading) {
            h2 #(heading) { (title) @if !aside.is_empty() { " " small { (aside) } } }
            (body)
        }
    }
}

/// Sections in their order, for the table of contents: id and title.
fn sections(group: &Group<'_>) -> Vec<(&'static str, &'static str)> {
    let mut all = vec![
        ("verdict", "Verdict"),
        ("rules", "Rules and claims"),
        ("probes", "Probes"),
        ("distributions", "Distributions"),
        ("time", "Over time"),
        ("nat", "NAT × NAT"),
        ("packets", "Packets"),
        ("counters", "Counters"),
    ];
    if group.is_sweep() {
        all.push(("seeds", "Across seeds"));
    }
    all
}

/// A drawing: its shape in units of about a pixel, what a reader of the screen says of it, and its content.
fn drawing(id: &str, (width, height): (f64, f64), title: &str, description: &str, content: &Markup) -> Markup {
    let (title_id, description_id) = (format!("{id}-t"), format!("{id}-d"));
    markup! {
        svg xmlns="http://www.w3.org/2000/svg" viewBox=(format!("0 0 {} {}", format::Px(width), format::Px(height)))
            role="img" aria-labelledby=(format!("{title_id} {description_id}"))
        {
            title #(title_id) { (title) }
            desc #(description_id) { (description) }
            (content)
        }
    }
}
