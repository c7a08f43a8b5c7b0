//! What a report promises about its form. How it looks in a browser is measured by `report-check.sh` beside this folder.

#[path = "../examples/report_sample/fixture.rs"]
mod fixture;

use std::collections::BTreeSet;

use peerwork_sim::{
    outcome::{Cost, Histogram, Outcome},
    report::{ReportOptions, html, text},
};
use roxmltree::{Document, Node, ParsingOptions};

fn page(outcomes: &[Outcome]) -> String {
    html(outcomes, &ReportOptions::default())
}

/// All of the samples, by name.
fn pages() -> Vec<(&'static str, String)> {
    let sweep = fixture::sweep(64);
    let many = fixture::several(&sweep);
    vec![
        ("run", page(&[fixture::run()])),
        ("passed", page(&sweep[..1])),
        ("sweep", page(&sweep)),
        ("many", page(&many)),
        ("empty", page(&[])),
        ("bare", page(&[Outcome::default()])),
        ("hostile", page(&[fixture::hostile()])),
        ("hostile sweep", page(&[fixture::hostile(), fixture::hostile()])),
    ]
}

/// By a strict parser of XML, which takes no unclosed element, bare ampersand, doubled attribute or control character.
fn parsed<'a>(name: &str, page: &'a str) -> Document<'a> {
    let options = ParsingOptions { allow_dtd: true, ..ParsingOptions::default() };
    Document::parse_with_options(page, options).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn elements<'a>(document: &'a Document<'a>, tag: &'a str) -> impl Iterator<Item = Node<'a, 'a>> {
    document.descendants().filter(move |node| node.has_tag_name(tag) || node.tag_name().name() == tag)
}

fn text_of(node: Node<'_, '_>) -> String {
    node.descendants().filter(Node::is_text).filter_map(|node| node.text()).collect()
}

#[test]
fn every_page_is_well_formed_and_its_ids_are_unique_and_resolve() {
    for (name, page) in pages() {
        let document = parsed(name, &page);
        let ids: Vec<_> = document.descendants().filter_map(|node| node.attribute("id")).collect();
        let unique: BTreeSet<_> = ids.iter().copied().collect();
        assert_eq!(ids.len(), unique.len(), "{name}: an id is there twice");
        for node in document.descendants() {
            let labels = node.attribute("aria-labelledby").unwrap_or_default().split_whitespace();
            let anchors = node.attribute("href").and_then(|href| href.strip_prefix('#'));
            for id in labels.chain(anchors) {
                assert!(unique.contains(id), "{name}: nothing has the id {id}");
            }
        }
    }
}

#[test]
fn nothing_is_loaded_from_anywhere_and_no_script_runs() {
    const LOADING: [&str; 9] =
        ["src", "srcset", "action", "data", "poster", "background", "formaction", "xlink:href", "ping"];
    const TAGS: [&str; 10] = ["script", "img", "iframe", "object", "embed", "use", "image", "video", "audio", "base"];
    for (name, page) in pages() {
        let document = parsed(name, &page);
        for node in document.descendants().filter(Node::is_element) {
            let tag = node.tag_name().name();
            assert!(!TAGS.contains(&tag), "{name}: {tag}");
            for attribute in node.attributes() {
                let (key, value) = (attribute.name(), attribute.value());
                assert!(!LOADING.contains(&key) && !key.starts_with("on"), "{name}: {key} in {tag}");
                if key == "href" {
                    assert!(value.starts_with('#') || (tag == "link" && value == "data:,"), "{name}: {value}");
                }
                if key == "style" {
                    assert!(value.len() < 30 && !value.contains('('), "{name}: {value}");
                }
            }
            if tag == "style" {
                let style = text_of(node);
                assert!(!style.contains("url(") && !style.contains("@import"), "{name}");
            }
        }
        let policy =
            elements(&document, "meta").find(|node| node.attribute("http-equiv") == Some("Content-Security-Policy"));
        assert!(
            policy
                .and_then(|node| node.attribute("content"))
                .is_some_and(|policy| policy.starts_with("default-src 'none'"))
        );
    }
}

#[test]
fn every_section_is_there_in_its_order() {
    const RUN: [&str; 8] = ["verdict", "rules", "probes", "distributions", "time", "nat", "packets", "counters"];
    for (name, page) in pages() {
        let document = parsed(name, &page);
        let found: Vec<_> = elements(&document, "section").filter_map(|node| node.attribute("id")).collect();
        let mut expected: Vec<String> = RUN.map(str::to_owned).to_vec();
        match name {
            "empty" => expected.clear(),
            "sweep" | "hostile sweep" => expected.push("seeds".into()),
            "many" => {
                let group = |(n, seeds): (usize, bool)| {
                    let all = RUN.into_iter().chain(seeds.then_some("seeds"));
                    all.map(move |id| format!("s{n}-{id}")).collect::<Vec<_>>()
                };
                expected = [(1, true), (2, true), (3, false)].into_iter().flat_map(group).collect();
            }
            _ => {}
        }
        assert_eq!(found, expected, "{name}");
    }
}

#[test]
fn every_drawing_has_a_title_and_a_description_and_every_table_says_what_its_columns_are() {
    for (name, page) in pages() {
        let document = parsed(name, &page);
        for drawing in elements(&document, "svg") {
            assert_eq!(drawing.attribute("role"), Some("img"), "{name}");
            for part in ["title", "desc"] {
                let part = drawing.children().find(|node| node.tag_name().name() == part);
                assert!(part.is_some_and(|part| !text_of(part).is_empty()), "{name}");
            }
            let within = |node: Node<'_, '_>| {
                node.attribute("d").into_iter().chain(node.attribute("x")).all(|v| !v.contains("NaN"))
            };
            assert!(drawing.descendants().all(within), "{name}: not a number");
        }
        for header in elements(&document, "th") {
            assert!(matches!(header.attribute("scope"), Some("row" | "col")), "{name}: {}", text_of(header));
        }
    }
}

#[test]
fn the_page_says_what_happened() {
    let mut run = fixture::run();
    run.cost.peak_rss = 1_840_000_000;
    let page = page(std::slice::from_ref(&run));
    let document = parsed("run", &page);
    let section =
        |id: &str| text_of(elements(&document, "section").find(|node| node.attribute("id") == Some(id)).unwrap());
    let verdict = section("verdict");
    for part in ["4711", "null", "2,000", "30\u{a0}min", run.digest.as_str(), run.repeat.as_str(), "1.84\u{a0}GB"] {
        assert!(verdict.contains(part), "{part}: {verdict}");
    }
    let rules = section("rules");
    assert!(run.violations.iter().all(|broken| rules.contains(&broken.invariant) && rules.contains(&broken.detail)));
    assert!(run.claims.iter().all(|claim| rules.contains(&claim.text) && rules.contains(&claim.value)));
    let never = elements(&document, "div").find(|node| node.attribute("class") == Some("never")).map(text_of).unwrap();
    assert!(run.probes.iter().all(|(probe, hits)| (*hits == 0) == never.contains(probe.as_str())), "{never}");
    assert!(run.histograms.keys().all(|name| section("distributions").contains(name)));
    assert!(run.series.keys().all(|name| section("time").contains(name)));
    assert!(run.bands.iter().all(|band| section("time").contains(&band.kind)));
    assert_eq!(
        elements(&document, "td")
            .filter(|node| node.attribute("class").is_some_and(|class| class.contains("odd")))
            .count(),
        2
    );
    assert!(section("packets").contains("adds up"));

    let mut lost = run;
    lost.packets.delivered -= 5;
    assert!(self::page(&[lost]).contains("off by 5"));
}

#[test]
fn a_sweep_lists_its_failures_with_their_commands() {
    let sweep = fixture::sweep(64);
    let page = page(&sweep);
    for run in &sweep {
        let shown = page.contains(&format!("--seed {} --nodes", run.seed));
        assert_eq!(shown, !run.passed(), "seed {}", run.seed);
    }
    // Seed 41 was made slow.
    assert!(page.contains("Slowest</dt><dd>seed\u{a0}41"));
}

#[test]
fn whatever_a_name_holds_it_stays_text() {
    let outcome = fixture::hostile();
    let page = page(std::slice::from_ref(&outcome));
    assert!(!page.contains("<script") && !page.contains("<img"));
    assert!(page.contains("&lt;script&gt;alert(1)"));
    let terminal = text(&outcome);
    for shown in [&page, &terminal] {
        let hidden = |c: &char| (c.is_control() && *c != '\n') || matches!(c, '\u{202e}' | '\u{ffff}');
        assert_eq!(shown.chars().find(hidden), None);
    }
    // The parser sees the name that was given, but for what is never shown.
    let document = parsed("hostile", &page);
    let expected =
        fixture::HOSTILE.replace('\0', "␀").replace('\u{1b}', "␛").replace(['\u{202e}', '\u{ffff}'], "\u{fffd}");
    assert!(text_of(elements(&document, "h1").next().unwrap()).starts_with(&expected));
}

#[test]
fn the_same_outcomes_give_the_same_bytes_in_any_order_but_for_cost() {
    let sweep = fixture::sweep(12);
    let mut other: Vec<Outcome> = sweep.iter().rev().cloned().collect();
    assert_eq!(page(&sweep), page(&other));
    for outcome in &mut other {
        outcome.cost = Cost { wall_ms: 1, events: 2, peak_rss: 3 };
    }
    assert_ne!(page(&sweep), page(&other));
    let options = ReportOptions { cost: false, ..ReportOptions::default() };
    assert_eq!(html(&sweep, &options), html(&other, &options));
}

#[test]
fn a_file_with_impossible_numbers_is_drawn_and_not_feared() {
    let histogram =
        r#"{"count":18446744073709551615,"sum":1,"min":9,"max":3,"buckets":{"0":5,"4294967295":18446744073709551615}}"#;
    let histogram: Histogram = serde_json::from_str(histogram).unwrap();
    let mut outcome = Outcome::default();
    outcome.histograms.insert("odd".into(), histogram);
    let twice = [outcome.clone(), outcome];
    parsed("odd", &page(&twice));
    text(&twice[0]);
}

#[test]
fn the_summary_for_terminals_is_short_and_says_the_same() {
    let mut run = fixture::run();
    let summary = text(&run);
    for part in ["FAILED", "seed 4711", "12:34.567", "recall(k-closest) >= 0.95", "timers.wheel-overflow", &run.repeat]
    {
        assert!(summary.contains(part), "{part}\n{summary}");
    }
    let widest = |text: &str| text.lines().map(|line| line.chars().count()).max().unwrap();
    assert!(widest(&summary) <= 110);
    run.violations.clear();
    run.claims.clear();
    assert!(text(&run).starts_with("PASSED"));
    // Everything at once, and all of it long.
    let mut hostile = fixture::hostile();
    let (claim, histogram) = (hostile.claims[0].clone(), hostile.histograms["same"].clone());
    hostile.claims = vec![claim; 50];
    hostile.histograms.extend((0..50).map(|n| (format!("{n}"), histogram.clone())));
    hostile.packets.dropped.extend((0..50).map(|n| (format!("{n}"), 5)));
    let summary = text(&hostile);
    assert!(summary.lines().count() <= 40, "{summary}");
    hostile.repeat.clear();
    assert!(widest(&text(&hostile)) <= 110);
}
