//! Files that commands write. Whether they can be is found out before a long run, not after it.

use std::{
    fs::{self, OpenOptions},
    io,
    path::{Path, PathBuf},
};

use peerwork_sim::{
    Outcome,
    report::{ReportOptions, html},
    search::repro::Repro,
};

use crate::failure::Failure;

/// Whether a file can be written later. Leaves everything as it is.
pub(super) fn writable(file: &Path) -> Result<(), Failure> {
    let existed = file.symlink_metadata().is_ok();
    OpenOptions::new().append(true).create(true).open(file).map_err(|error| unwritable(file, &error))?;
    if !existed {
        // Somebody else may have been faster.
        let _ = fs::remove_file(file);
    }
    Ok(())
}

/// Makes a folder, and sees whether files can be made in it.
pub(super) fn folder(dir: &Path) -> Result<(), Failure> {
    let shown = dir.display();
    if dir.exists() && !dir.is_dir() {
        return Err(Failure::new(format!("{shown} is a file; name a folder")));
    }
    fs::create_dir_all(dir).map_err(|error| Failure::new(format!("cannot make the folder {shown}: {error}")))?;
    writable(&dir.join(".peerwork-writable"))
        .map_err(|_| Failure::new(format!("cannot write in the folder {shown}; name another one")))
}

pub(super) fn write(file: &Path, content: &str) -> Result<(), Failure> {
    fs::write(file, content).map_err(|error| unwritable(file, &error))
}

fn unwritable(file: &Path, error: &io::Error) -> Failure {
    let shown = file.display();
    if file.is_dir() {
        return Failure::new(format!("cannot write {shown}: it is a folder; name a file"));
    }
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty() && !folder.exists());
    Failure::new(match folder {
        Some(folder) => format!("cannot write {shown}: the folder {} does not exist; make it first", folder.display()),
        None => format!("cannot write {shown}: {error}"),
    })
}

/// Writes the page on runs, if one is wanted.
pub(super) fn report(file: Option<&Path>, outcomes: &[Outcome]) -> Result<(), Failure> {
    file.map_or(Ok(()), |file| write(file, &html(outcomes, &ReportOptions::default())))
}

/// The name of a repro's file: what was run, the seed, what was broken.
pub(super) fn repro_name(repro: &Repro) -> PathBuf {
    let rule = repro.fingerprint.to_string();
    let letters = rule.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' });
    let words: String = letters.take(80).collect();
    let words: Vec<&str> = words.split('-').filter(|word| !word.is_empty()).collect();
    format!("{}-{}-{}.toml", repro.scenario.name, repro.seed, words.join("-")).into()
}

/// Writes a repro.
pub(super) fn repro(file: &Path, repro: &Repro) -> Result<(), Failure> {
    write(file, &repro.to_toml().map_err(Failure::new)?)
}
