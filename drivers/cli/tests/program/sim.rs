//! Virtual networks: each subcommand of `peerwork sim`, on a small one that passes and a small one that fails.

use std::{fs, path::PathBuf};

use tempfile::TempDir;

use crate::harness::{Ended, run};

/// Three nodes that ask each other.
const GOOD: &str = r#"
name = "good"
about = "Three nodes ask each other."
tier = "null"
duration = "5s"
settle = "5s"

[[group]]
name = "n"
count = 3

[[work]]
do = "ask"
who = "n"
to = "n"
every = "1s"
"#;

/// The same with something that does no harm, and it claims more than can be.
const BAD: &str = "
[[fault]]
at = \"1s\"
do = \"clock\"
who = \"n\"
seconds = 5

[[expect]]
count = \"ask.ok\"
at-least = 1000
";

/// A folder with `good.toml` and `bad.toml`.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        fs::write(folder.0.path().join("good.toml"), GOOD).unwrap();
        fs::write(folder.0.path().join("bad.toml"), format!("{}{BAD}", GOOD.replace("good", "bad"))).unwrap();
        folder
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    fn has(&self, name: &str) -> bool {
        self.0.path().join(name).exists()
    }

    /// The files whose names end so.
    fn files(&self, folder: &str, end: &str) -> Vec<PathBuf> {
        let files = fs::read_dir(self.0.path().join(folder)).unwrap().map(|file| file.unwrap().path());
        files.filter(|file| file.to_str().unwrap().ends_with(end)).collect()
    }
}

fn sim(args: &[&str]) -> Ended {
    run(&[&["sim"], args].concat())
}

/// It ends with this code, and says this.
fn says(args: &[&str], code: i32, words: &str) {
    let ended = sim(args);
    assert_eq!(ended.code, Some(code), "{ended:?}");
    let text = if code == 0 { &ended.stdout } else { &ended.stderr };
    assert!(text.contains(words), "{words:?} is not in {ended:?}");
}

#[test]
fn every_subcommand_explains_itself_with_examples() {
    for command in "list run sweep replay shrink check bisect trace report nat-matrix bench canary".split_whitespace() {
        let help = sim(&[command, "--help"]);
        assert_eq!(help.code, Some(0));
        assert!(help.stdout.contains("Examples:"), "{help:?}");
        assert!(help.stdout.contains(&format!("peerwork sim {command}")) || command == "bench", "{help:?}");
    }
}

#[test]
fn the_library_is_listed_with_what_each_scenario_is_about() {
    for args in [&["sim"][..], &["sim", "list"]] {
        let listed = run(args);
        assert_eq!(listed.code, Some(0));
        assert!(listed.stdout.contains("halves") && listed.stdout.contains("cut off"), "{listed:?}");
    }
    let scenario = sim(&["list", "--json"]).event("scenario");
    assert!(!scenario["about"].as_str().unwrap().is_empty());
}

#[test]
fn a_run_prints_how_it_went_and_how_to_repeat_it() {
    let folder = Folder::new();
    let (good, page) = (folder.path("good.toml"), folder.path("good.html"));
    let ended = sim(&["run", &good, "--seed", "7", "--duration", "4s", "--tier", "wire", "--report", &page]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let repeat = format!("peerwork sim run {good} --seed 7 --tier wire --duration 4s");
    for word in ["PASSED  good, seed 7, wire tier", "digest", "real (", &repeat] {
        assert!(ended.stdout.contains(word), "{word}: {ended:?}");
    }
    assert!(fs::read_to_string(&page).unwrap().contains("</html>"));
    let [one, two] = [0, 1].map(|_| sim(&["run", &good, "--json"]).event("outcome"));
    assert_eq!((&one["digest"], &one["passed"]), (&two["digest"], &true.into()));
}

#[test]
fn a_run_that_fails_says_how_to_shrink_it() {
    let folder = Folder::new();
    let bad = folder.path("bad.toml");
    let ended = sim(&["run", &bad, "--seed", "3", "--duration", "4s"]);
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(1), ""));
    assert!(ended.stdout.contains(&format!("peerwork sim shrink {bad} --seed 3 --duration 4s")), "{ended:?}");
    let outcome = sim(&["run", &bad, "--json"]);
    assert_eq!(outcome.code, Some(1));
    assert_eq!(outcome.event("outcome")["failure"]["rule"], "claim: ask.ok >= 1000");
}

#[test]
fn a_trail_has_all_nodes_at_each_step_and_at_the_end() {
    let folder = Folder::new();
    let good = folder.path("good.toml");
    let trail = sim(&["run", &good, "--trail", "1s", "--trail-from", "2s", "--trail-to", "4s"]).event("trail");
    assert_eq!((&trail["first_ns"], &trail["every_ns"]), (&2_000_000_000_u64.into(), &1_000_000_000_u64.into()));
    let steps = trail["steps"].as_array().unwrap();
    assert_eq!(steps.len(), 3);
    assert!(steps.iter().all(|step| step.as_array().unwrap().len() == 3), "{trail}");
    let end = sim(&["run", &good, "--trail", "1h"]).event("trail");
    assert_eq!(end["steps"].as_array().unwrap().len(), 1);
}

#[test]
fn a_sweep_shrinks_what_fails_to_a_file_that_replays() {
    let folder = Folder::new();
    let (bad, repros, page) = (folder.path("bad.toml"), folder.path("repros"), folder.path("sweep.html"));
    let ended = sim(&["sweep", &bad, "--seeds", "5..8", "--repros", &repros, "--report", &page]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    for word in ["3 of 3 seeds failed", "claim: ask.ok >= 1000: 3 seeds, first 5", &format!("run {bad} --seed 5")] {
        assert!(ended.stdout.contains(word), "{word}: {ended:?}");
    }
    let file = folder.files("repros", "bad-5-claim-ask-ok-1000.toml").pop().unwrap();
    let file = file.to_str().unwrap();
    assert!(ended.stdout.contains(&format!("peerwork sim replay {file}")), "{ended:?}");
    let again = sim(&["replay", file]);
    assert_eq!(again.code, Some(0), "{again:?}");
    assert!(again.stdout.contains("as recorded"), "{again:?}");
    assert!(fs::read_to_string(&page).unwrap().contains("</html>"));
}

#[test]
fn outcomes_of_a_sweep_become_a_page() {
    let folder = Folder::new();
    let (good, runs, page) = (folder.path("good.toml"), folder.path("runs.json"), folder.path("runs.html"));
    let swept = sim(&["sweep", &good, "--seeds", "4", "--threads", "2", "--json"]);
    assert_eq!(swept.code, Some(0), "{swept:?}");
    let seeds: Vec<u64> = swept.json().iter().filter_map(|line| line["seed"].as_u64()).collect();
    assert_eq!(seeds, [0, 1, 2, 3]);
    assert_eq!(swept.event("sweep")["failed"], 0);
    fs::write(&runs, swept.stdout).unwrap();
    let report = sim(&["report", &runs, "-o", &page, "--json"]).event("report");
    assert_eq!((&report["runs"], &report["failed"]), (&4.into(), &0.into()));
    assert!(fs::read_to_string(&page).unwrap().contains("</html>"));
    fs::write(&runs, "{\"event\": \"sweep\"}").unwrap();
    says(&["report", &runs, "-o", &page], 1, "has no runs in it");
    fs::write(&runs, "name = 3").unwrap();
    says(&["report", &runs, "-o", &page], 1, "not JSON");
}

#[test]
fn a_sweep_that_misses_a_rare_state_that_it_must_reach_fails() {
    let folder = Folder::new();
    let file = folder.path("probes.toml");
    fs::write(&file, GOOD.replace("tier =", "probes = [\"answer.stateless-reset\"]\nprobe-seeds = 2\ntier =")).unwrap();
    let swept = sim(&["sweep", &file, "--seeds", "2", "--repros", &folder.path("")]);
    assert_eq!(swept.code, Some(1), "{swept:?}");
    assert!(swept.stdout.contains("must be: answer.stateless-reset"), "{swept:?}");
}

#[test]
fn a_failure_is_shrunk_replayed_traced_and_made_a_test() {
    let folder = Folder::new();
    let (bad, small, trace) = (folder.path("bad.toml"), folder.path("small.toml"), folder.path("trace"));
    let shrunk = sim(&["shrink", &bad, "--seed", "2", "-o", &small, "--json"]).event("shrunk");
    assert!(shrunk["operations"].as_u64() < shrunk["operations_before"].as_u64(), "{shrunk}");
    let replayed = sim(&["replay", &small, "--json", "--trace", &trace]);
    assert_eq!((replayed.code, &replayed.event("replay")["confirmed"]), (Some(0), &true.into()));
    assert!(folder.has("trace/packets.pcapng"));
    let repeat = replayed.event("outcome")["repeat"].clone();
    assert_eq!(repeat, format!("peerwork sim replay {small}"));
    assert!(sim(&["replay", &small, "--test"]).stdout.contains("#[test]"));
    // Further, and again.
    assert_eq!(sim(&["shrink", &small, "-o", &small, "--runs", "5"]).code, Some(0));
    // What no longer fails as recorded says so.
    let text = fs::read_to_string(&small).unwrap().replace("at-least = 1000.0", "at-least = 0.0");
    fs::write(&small, text).unwrap();
    let gone = sim(&["replay", &small]);
    assert_eq!(gone.code, Some(1), "{gone:?}");
    assert!(gone.stdout.contains("it passes"), "{gone:?}");
    says(&["shrink", &folder.path("good.toml")], 1, "nothing to shrink");
    says(&["shrink", &small, "--seed", "2"], 1, "its own seed");
    says(&["run", &small], 1, "peerwork sim replay");
    says(&["replay", &bad], 1, "is not a repro");
}

#[test]
fn a_trace_is_files_that_other_programs_open() {
    let folder = Folder::new();
    let trace = folder.path("trace");
    let ended = sim(&["trace", &folder.path("good.toml"), "--seed", "2", "--tier", "wire", "-o", &trace, "--json"]);
    let bytes = &ended.event("trace")["bytes"];
    for file in ["packets.pcapng", "keys.log", "events.jsonl"] {
        assert!(bytes[file].as_u64() > Some(100), "{file}: {ended:?}");
    }
    says(&["trace", &folder.path("good.toml"), "-o", &trace], 0, "wireshark");
    says(&["trace", &folder.path("good.toml"), "-o", &folder.path("bad.toml")], 1, "is a file; name a folder");
}

#[test]
fn runs_are_equal_in_this_process_and_in_others() {
    let folder = Folder::new();
    let good = folder.path("good.toml");
    let exe = env!("CARGO_BIN_EXE_peerwork");
    let checked = sim(&["check", &good, "--seeds", "2", "--tier", "wire", "--against", exe, "--json"]);
    assert_eq!(checked.code, Some(0), "{checked:?}");
    let equal = checked.json().iter().filter(|line| line["equal"] == true).count();
    assert_eq!(equal, 2 * 3, "{checked:?}");
    assert_eq!(sim(&["bisect", &good, "--against", exe]).code, Some(0));
    says(&["check", &good, "--against", &good], 1, "--against takes another build");
    says(&["bisect", &good, "--against", "/no/such/program"], 1, "cannot run");
}

#[cfg(unix)]
#[test]
fn where_another_program_differs_is_found() {
    let folder = Folder::new();
    let (good, other) = (folder.path("good.toml"), folder.path("other"));
    // This program, but with another seed.
    let exe = env!("CARGO_BIN_EXE_peerwork");
    let script = format!("#!/bin/sh\nexec {exe} $(echo \"$@\" | sed 's/--seed 5/--seed 6/')\n");
    fs::write(&other, script).unwrap();
    fs::set_permissions(&other, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let found = sim(&["bisect", &good, "--seed", "5", "--against", &other, "--json"]);
    assert_eq!(found.code, Some(1), "{found:?}");
    let divergence = &found.event("bisect")["divergence"];
    let span = divergence["before_ns"].as_u64().unwrap() - divergence["after_ns"].as_u64().unwrap();
    assert_eq!(span, 1, "{found:?}");
    assert!(divergence["nodes"][0].as_str().unwrap().starts_with("n/"), "{found:?}");
    let checked = sim(&["check", &good, "--seeds", "5..6", "--against", &other]);
    assert_eq!(checked.code, Some(1), "{checked:?}");
    assert!(checked.stdout.contains("DIFFERENT") && checked.stdout.contains("first at: n/"), "{checked:?}");
}

#[test]
fn the_matrix_of_nats_is_as_recorded() {
    let matrix = sim(&["nat-matrix", "--csv"]);
    assert_eq!((matrix.code, matrix.stdout.lines().count()), (Some(0), 1 + 6 * 121), "{:?}", matrix.stderr);
    assert!(matrix.stdout.contains("ep,ice,FW,APDM/EIF,false,false"), "{}", matrix.stdout);
}

#[test]
fn each_figure_has_a_line() {
    let bench = sim(&["bench", "--quick", "--json"]);
    assert_eq!(bench.code, Some(0), "{bench:?}");
    let figures = bench.json();
    assert!(figures.len() >= 6 && figures.iter().all(|line| line["value"].as_f64() > Some(0.0)), "{bench:?}");
}

#[test]
fn a_planted_bug_is_found_and_a_seed_that_does_not_show_it_is_no_success() {
    let bugs = sim(&["canary", "--list", "--json"]);
    let known = bugs.json().iter().any(|bug| bug["bug"] == "lost-wake-up" && bug["scenario"] == "swarm");
    assert!(known, "{bugs:?}");
    let found = sim(&["canary", "--bug", "lost-wake-up", "--json"]);
    assert_eq!(found.code, Some(0), "{found:?}");
    let found = found.event("canary");
    assert_eq!((&found["found"], &found["passes_without"]), (&true.into(), &true.into()));
    // A network in which nothing happens does not show it.
    let folder = Folder::new();
    let missed = sim(&["canary", "--bug", "lost-wake-up", "--seeds", "1", "--scenario", &folder.path("good.toml")]);
    assert_eq!(missed.code, Some(1), "{missed:?}");
    assert!(missed.stdout.contains("NOT FOUND"), "{missed:?}");
    says(&["canary", "--bug", "no-such-bug"], 1, "there is no bug `no-such-bug`");
}

#[test]
fn what_cannot_work_is_said_before_anything_is_run() {
    let folder = Folder::new();
    let good = folder.path("good.toml");
    // Long enough to be noticed.
    let long = ["--duration", "48h"];
    let run = |more: &[&'static str]| -> Vec<String> {
        let args = [&["run", &good][..], &long, more].concat();
        args.iter().map(|arg| (*arg).to_owned()).collect()
    };
    for (args, code, words) in [
        (run(&["--report", "/no/such/folder/x.html"]), 1, "make it first"),
        (run(&["--bug", "no-such-bug"]), 1, "no bug `no-such-bug`"),
        (run(&["--tier", "session"]), 2, "wire and null"),
        (run(&["--trail", "0s"]), 2, "at least 1ns"),
    ] {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        says(&args, code, words);
    }
    says(&["run", "halfes"], 1, "did you mean `halves`?");
    says(&["run", "/no/such/file.toml"], 1, "cannot be read");
    says(&["sweep", &good, "--seeds", "5..5"], 2, "for seed 5 alone write 5..6");
    says(&["sweep", &good, "--repros", &good], 1, "name a folder");
    says(&["report", "/no/such.json", "-o", &folder.path("x.html")], 1, "cannot read");
    fs::write(&good, GOOD.replace("count = 3", "cuont = 3")).unwrap();
    says(&["run", &good], 1, "cuont");
    assert!(!folder.has("x.html"), "nothing is left behind");
    let json = sim(&["run", "halfes", "--json"]);
    assert!(json.event("error")["message"].as_str().unwrap().contains("halves"), "{json:?}");
}
