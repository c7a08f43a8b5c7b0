//! Writes reports on made-up outcomes, to look at: `cargo run -p peerwork-sim --example report_sample DIRECTORY`.
//!
//! `run.html` has one failed run, `passed.html` one that passed, `sweep.html` 64 seeds, `many.html` three scenarios, `empty.html`
//! none, and `hostile.html` names that no report should trust.

mod fixture;

use std::{env, fs, io, path::PathBuf};

use peerwork_sim::report::{ReportOptions, html, text};

fn main() -> io::Result<()> {
    let directory = PathBuf::from(env::args().nth(1).unwrap_or_else(|| ".".to_owned()));
    fs::create_dir_all(&directory)?;
    let run = fixture::run();
    print!("{}", text(&run));
    let passed = fixture::sweep(1);
    let sweep = fixture::sweep(64);
    let pages = [
        ("run", vec![run]),
        ("passed", passed),
        ("many", fixture::several(&sweep)),
        ("sweep", sweep),
        ("empty", Vec::new()),
        ("hostile", vec![fixture::hostile()]),
    ];
    for (name, outcomes) in pages {
        let page = html(&outcomes, &ReportOptions::default());
        let path = directory.join(format!("{name}.html"));
        fs::write(&path, &page)?;
        println!("{} ({} kB)", path.display(), page.len() / 1000);
    }
    Ok(())
}
