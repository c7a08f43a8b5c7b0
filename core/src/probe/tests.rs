use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use super::{Probe, Probes};

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// The code of this crate, without tests and without this module.
fn code(dir: &Path, into: &mut Vec<String>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name.starts_with("tests") || name.starts_with("probe") {
            continue;
        }
        if path.is_dir() {
            code(&path, into);
        } else if name.ends_with(".rs") {
            into.push(fs::read_to_string(path).unwrap());
        }
    }
}

/// The names in `probe!(holder, Name)`, however they are broken into lines.
fn marked() -> BTreeSet<String> {
    let mut files = Vec::new();
    code(&source(), &mut files);
    assert!(files.len() > 20, "looked in the wrong place");
    let mut names = BTreeSet::new();
    for text in files {
        for site in text.split("probe!(").skip(1) {
            let inside = site.split_once(')').unwrap().0;
            let name = inside.trim().trim_end_matches(',').rsplit(',').next().unwrap();
            names.insert(name.trim().to_owned());
        }
    }
    names
}

#[test]
fn every_probe_of_the_catalogue_has_a_site_and_every_site_is_in_the_catalogue() {
    let catalogue: BTreeSet<String> = Probe::ALL.iter().map(|probe| format!("{probe:?}")).collect();
    assert_eq!(marked(), catalogue);
}

#[test]
fn names_are_unique_and_well_formed() {
    let names: BTreeSet<_> = Probe::ALL.iter().map(|probe| probe.name()).collect();
    assert_eq!(names.len(), Probe::ALL.len());
    for probe in Probe::ALL {
        let (subject, what) = probe.name().split_once('.').unwrap();
        assert!(subject.chars().all(|c| c.is_ascii_lowercase()), "{probe}");
        assert!(what.chars().all(|c| c.is_ascii_lowercase() || c == '-'), "{probe}");
        assert_eq!(Probe::from_name(probe.name()), Some(*probe));
        assert!(probe.meaning().ends_with('.') && !probe.meaning().starts_with(' '), "{probe}: {}", probe.meaning());
    }
    assert_eq!(Probe::from_name("dial.nothing"), None);
}

#[test]
#[allow(clippy::disallowed_methods, reason = "writes only when asked to, and is no part of a node")]
fn the_documented_table_is_the_catalogue() {
    let mut table = String::from("| probe | what it means to have come by |\n|---|---|\n");
    for probe in Probe::ALL {
        table += &format!("| `{probe}` | {} |\n", probe.meaning());
    }
    let path = source().join("probe/catalogue.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, &table).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap().replace('\r', "");
    assert!(written == table, "write {} anew: run this test with UPDATE_DOCS=1", path.display());
}

#[test]
fn counting_is_by_probe_and_merging_adds() {
    let (mut one, mut other) = (Probes::default(), Probes::default());
    assert!(one.iter().all(|(_, count)| count == 0));
    one.hit(Probe::DialRaced);
    one.hit(Probe::DialRaced);
    other.hit(Probe::DialRaced);
    other.hit(Probe::FaultBadPerf);
    one.merge(&other);
    assert_eq!((one.get(Probe::DialRaced), one.get(Probe::FaultBadPerf), one.get(Probe::DialSelf)), (3, 1, 0));
    assert_eq!(one.iter().map(|(_, count)| count).sum::<u64>(), 4);
    assert_eq!(format!("{one:?}"), r#"{"dial.raced": 3, "fault.bad-perf": 1}"#);
}
