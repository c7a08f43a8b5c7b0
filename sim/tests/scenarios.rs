//! The library of scenarios: all small ones pass, twice alike, and together they reach what they should.

use std::collections::BTreeMap;

use peerwork_sim::{
    Outcome, Scenario,
    scenario::library,
    search::sweep::{SweepOptions, sweep},
};

/// Too much for a test: they are for running by hand.
const BIG: [&str; 3] = ["world", "demo", "long-haul"];

fn small() -> impl Iterator<Item = Scenario> {
    let names = library::ALL.iter().map(|(name, _)| *name).filter(|name| !BIG.contains(name));
    names.map(|name| library::named(name).unwrap())
}

fn failures(outcome: &Outcome) -> String {
    let broken = outcome.violations.iter().map(|v| format!("{} {}: {}", v.invariant, v.node, v.detail));
    let false_claims = outcome.claims.iter().filter(|claim| !claim.holds);
    let lines: Vec<String> = broken.chain(false_claims.map(|c| format!("{} is {}", c.text, c.value))).collect();
    format!("seed {} of {}:\n{}", outcome.seed, outcome.scenario, lines.join("\n"))
}

/// One test for each small scenario of the library, so that they run side by side and a failure names its scenario.
macro_rules! passes_and_repeats {
    ($($test:ident: $name:literal,)*) => {
        const TESTED: &[&str] = &[$($name),*];

        $(#[test]
        fn $test() {
            let scenario = library::named($name).unwrap();
            for seed in 1..=3 {
                let outcome = scenario.run(seed).unwrap();
                assert!(outcome.passed(), "{}", failures(&outcome));
                // Once is enough to see what should not depend on anything but the seed.
                if seed == 2 {
                    assert_eq!(scenario.run(seed).unwrap(), outcome, "two runs of one seed differ");
                }
            }
        })*
    };
}

passes_and_repeats! {
    blackout: "blackout",
    carrier: "carrier",
    churn: "churn",
    clocks: "clocks",
    crashes: "crashes",
    crowd: "crowd",
    firewall: "firewall",
    halves: "halves",
    hostile: "hostile",
    idle: "idle",
    limits: "limits",
    mtu: "mtu",
    nat64: "nat64",
    rebinding: "rebinding",
    roaming: "roaming",
    rough: "rough",
    swarm: "swarm",
    wild: "wild",
}

#[test]
fn every_small_scenario_of_the_library_is_tested() {
    let names: Vec<String> = small().map(|scenario| scenario.name).collect();
    assert_eq!(names, TESTED);
}

#[test]
fn big_scenarios_are_valid_and_can_be_planned() {
    for name in BIG {
        let scenario = library::named(name).unwrap();
        assert!(!peerwork_sim::run::plan(&scenario, 1).unwrap().ops.is_empty());
    }
}

/// What is within the reach of files alone, so that a change that makes one of these unreachable is noticed.
#[test]
fn the_small_scenarios_together_reach_what_they_are_for() {
    let reached: Vec<&str> = REACHED.split_whitespace().collect();
    let mut hits: BTreeMap<String, u64> = BTreeMap::new();
    for scenario in small().filter(|scenario| SWEPT.contains(&scenario.name.as_str())) {
        let swept = sweep(&scenario, 11..14, &SweepOptions::default()).unwrap();
        for outcome in &swept.outcomes {
            assert!(outcome.passed(), "{}", failures(outcome));
        }
        for probe in scenario.required_probes() {
            assert!(swept.probes[probe] > 0, "{} never reached {probe}", scenario.name);
        }
        for (probe, count) in swept.probes {
            *hits.entry(probe).or_default() += count;
        }
    }
    let never: Vec<&&str> = reached.iter().filter(|name| hits.get(**name).copied().unwrap_or(0) == 0).collect();
    assert!(never.is_empty(), "never reached: {never:?}");
}

const SWEPT: [&str; 7] = ["clocks", "crashes", "hostile", "limits", "rebinding", "roaming", "wild"];

const REACHED: &str = "answer.stateless-reset answer.version-negotiation conn.credit-grown conn.duplicate-settled conn.idle-timeout \
    conn.rebound conn.stateless-reset conn.superseded-busy conn.superseded-closed dial.attempt-timed-out dial.busy \
    dial.immediate dial.overtaken handshake.failed identify.failed incoming.refused limit.connections ping.failed \
    request.cancelled request.refused request.timed-out retry.proven retry.sent socket.blocked socket.lost \
    socket.parked stream.backpressure stream.draining stream.limited stream.negotiation-reset \
    stream.negotiation-timed-out stream.reset stream.stopped stream.stopped-early stream.waited timer.overslept";

/// The first piece of TOML in the guide is a whole file; the others are parts of one.
#[test]
fn every_example_of_the_guide_is_read_and_the_whole_one_passes() {
    let guide = include_str!("../src/guide.md");
    let mut pieces = guide.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let whole = Scenario::from_toml(pieces.next().unwrap()).unwrap();
    let outcome = whole.run(1).unwrap();
    assert!(outcome.passed(), "{}", failures(&outcome));
    let around = "name = \"part\"\nduration = \"1h\"\nregions = \"world\"\n".to_owned()
        + &["server", "home", "n"].map(|name| format!("[[group]]\nname = \"{name}\"\ncount = 9\n")).concat();
    let mut read = 0;
    for piece in pieces {
        Scenario::from_toml(&format!("{around}{piece}")).unwrap_or_else(|error| panic!("{error}\n{piece}"));
        read += 1;
    }
    assert!(read >= 7, "{read}");
}

/// Every counter and distribution that the library's runs produce is in the guide, and so is every setting, deed and rule.
#[test]
fn the_guide_names_every_counter_and_distribution() {
    let guide = include_str!("../src/guide.md");
    for name in ["crashes", "limits", "firewall", "hostile", "wild"] {
        let outcome = library::named(name).unwrap().run(1).unwrap();
        for measured in outcome.counters.keys().chain(outcome.histograms.keys()) {
            // `dial.failed.timeout` stands in the guide as `dial.failed.WHY` and `timeout`.
            let known = guide.contains(&format!("`{measured}`")) || {
                let (stem, why) = measured.rsplit_once('.').unwrap_or((measured, ""));
                guide.contains(&format!("`{stem}.WHY`")) && guide.contains(&format!("`{why}`"))
            };
            assert!(known, "the guide does not tell of `{measured}`");
        }
    }
}

#[test]
fn what_cannot_be_meant_is_refused_with_words_that_help() {
    let around = "name = \"x\"\nduration = \"10s\"\n[[group]]\nname = \"n\"\ncount = 4\n";
    let fault = |rest: &str| format!("[[fault]]\nat = 1\nwho = \"n\"\n{rest}");
    let work = |rest: &str| format!("[[work]]\ndo = \"ask\"\nwho = \"n\"\n{rest}");
    let cases = [
        ("churn = \"fast\"".to_owned(), "`ipfs`, `wild`, or a table"),
        ("churn = { sped = 2.0 }".into(), "unknown field `sped`"),
        ("conduct = { drop-ppm = 2_000_000 }".into(), "millionths"),
        ("join-at = -1".into(), "write whole seconds or"),
        ("join-at = \"20s\"".into(), "all is over after"),
        ("settings = { connections = -3 }".into(), "write a whole number or"),
        ("access = { up = 5 }".into(), "{ kbit = 10_000"),
        ("carrier = { nat = \"carrier-grade\", subscribers = 2, addresses = 0 }".into(), "from 1 to 64"),
        ("bootstrap = \"n\"".into(), "a list, in [ ]"),
        (work("every = 1"), "`to` is missing"),
        (work("to = \"n\"\nevery = 0"), "at least 1us"),
        (work("to = \"n\"\nevery = 1\nfrom = 30"), "so there is none"),
        (work("to = \"region:EU\"\nevery = 1"), "give the scenario `regions = \"world\"`"),
        (fault("do = \"rebind\"\nlasting = 2"), "leave out `lasting`"),
        (fault("do = \"suspend\""), "fault 1: this fault needs `lasting`"),
        (fault("do = \"trouble\"\nto = \"m\"\nlasting = 1\ntrouble = { mtu = 1300 }"), "fault 1: `m` names no nodes"),
        (fault("do = \"trouble\"\nto = \"n\"\nlasting = 1\ntrouble = { mtu = 500 }"), "at least 1228"),
        (fault("do = \"trouble\"\nto = \"n\"\nlasting = 1\ntrouble = {}"), "changes nothing"),
        (fault("do = \"turn\"\nlasting = 1\nconduct = {}"), "changes nothing"),
        ("[[expect]]\ncount = \"ask.ok\"\nat-least = 5\nat-most = 1".into(), "can never hold"),
        ("[[expect]]\ncount = \"ask.ok\"\nat = 5\nat-least = 1".into(), "only with `quantile`"),
    ];
    for (piece, words) in cases {
        let error = Scenario::from_toml(&format!("{around}{piece}\n")).expect_err(&piece);
        assert!(error.contains(words), "{piece}\n=> {error}");
    }
    let error = Scenario::from_toml(
        "name = \"x\"\nduration = 5\nprobes = [\"conn.rebund\"]\n[[group]]\nname = \"n\"\ncount = 1",
    );
    assert!(error.unwrap_err().contains("did you mean `conn.rebound`?"));
}

#[test]
fn the_guide_names_every_field_setting_class_and_model() {
    use peerwork_sim::{
        bugs,
        net::{link::PROFILES, nat::NatModel, region},
        scenario::swarm::Class,
    };
    let guide = include_str!("../src/guide.md");
    // What TOML would have accepted is what a refusal lists.
    let refusal = |piece: &str| {
        let text = format!("name = \"x\"\nduration = 5\n[[group]]\nname = \"n\"\ncount = 1\n{piece}");
        Scenario::from_toml(&text).expect_err(piece)
    };
    let refusals = [
        "oops = 1",
        "settings = { oops = 1 }",
        "conduct = { oops = 1 }",
        "churn = { oops = 1 }",
        "nat = { oops = 1 }",
        "access = { oops = 1 }",
        "[[work]]\noops = 1",
        "[[work]]\ndo = \"oops\"",
        "[[fault]]\nat = 1\ndo = \"oops\"",
        "[[fault]]\nat = 1\ndo = \"trouble\"\nwho = \"n\"\nto = \"n\"\ntrouble = { oops = 1 }",
        "[swarm]\noops = 1",
        "[swarm]\nclasses = [\"oops\"]",
        "[[expect]]\noops = 1",
        "[oops]",
    ];
    let mut words: Vec<String> = Vec::new();
    for piece in refusals {
        let error = refusal(piece);
        let listed = error.split_once("expected").expect(&error).1.to_owned();
        words.extend(listed.split('`').skip(1).step_by(2).map(str::to_owned));
    }
    assert!(words.len() > 100, "{words:?}");
    words.extend(bugs::NAMES.map(str::to_owned));
    words.extend(PROFILES.iter().map(|(name, _)| (*name).to_owned()));
    words.extend(region::GROUPS.iter().map(|group| group.name.to_owned()));
    words.extend(region::Regions::all().map(|region| region.name().to_owned()));
    let models = NatModel::named("oops").unwrap_err().to_string();
    words.extend(models.split_once("one of ").unwrap().1.split(", ").map(str::to_owned));
    assert_eq!(Class::ALL.len(), 20, "a new class belongs into the guide");
    let missing: Vec<&String> = words.iter().filter(|word| !says(guide, word)).collect();
    assert!(missing.is_empty(), "the guide does not tell of {missing:?}");
}

/// As a word of its own, within backticks.
fn says(guide: &str, word: &str) -> bool {
    ["`", "[[", "[", "", "\""].iter().any(|before| {
        let opening = if before.is_empty() { "{ ".to_owned() } else { (*before).to_owned() };
        ["`", "]]", "]", " =", ",", " }", "\""].iter().any(|after| guide.contains(&format!("{opening}{word}{after}")))
    })
}
