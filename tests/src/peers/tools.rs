use std::{
    env,
    ffi::OsStr,
    fs::{self, File},
    io::{Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use super::process;

/// A program which a test needs cannot be had on this machine.
#[derive(Debug, thiserror::Error)]
#[error("{tool}: {problem}")]
pub struct ToolError {
    tool: &'static str,
    problem: String,
}

impl ToolError {
    pub(super) fn new(tool: &'static str, problem: impl Into<String>) -> Self {
        Self { tool, problem: problem.into() }
    }
}

/// Decides what a missing program means. Where the environment variable `CI` is set, everything has to be there and the
/// test fails. Elsewhere a developer may be offline: the test says loudly that it proves nothing, and returns early.
///
/// # Panics
///
/// With `CI` set, when the program is missing.
#[track_caller]
pub fn require<T>(tool: Result<T, ToolError>) -> Option<T> {
    let in_ci = env::var_os("CI").is_some_and(|value| !["", "0", "false"].map(OsStr::new).contains(&value.as_os_str()));
    match tool {
        Ok(tool) => Some(tool),
        Err(error) if in_ci => {
            panic!("CI is set, so nothing may be skipped, but there is no {error}")
        }
        Err(error) => {
            eprintln!("SKIPPED: this test needs a program which is not there. {error}");
            None
        }
    }
}

/// Cargo's target folder, into which everything goes that tests fetch or build.
pub fn target_dir() -> PathBuf {
    // A relative path is relative to where cargo was started, which a test cannot know.
    if let Some(dir) = env::var_os("CARGO_TARGET_DIR").map(PathBuf::from).filter(|dir| dir.is_absolute()) {
        return dir;
    }
    // Cargo leaves these at the top of its target folder, whatever profile or platform folders lie between it and the
    // test; the first only where it created the folder itself.
    let is_marked = |dir: &&Path| ["CACHEDIR.TAG", ".rustc_info.json"].iter().any(|mark| dir.join(mark).is_file());
    let exe = env::current_exe().unwrap_or_default();
    match exe.ancestors().find(is_marked) {
        Some(dir) => dir.to_owned(),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"),
    }
}

/// Where the programs of other makers are kept. The folder may not exist yet.
pub fn tools_dir() -> PathBuf {
    target_dir().join("tools")
}

/// Keeps other test processes out while one prepares a tool. The system releases it with the process, however that ends.
pub(super) struct ToolLock {
    _file: File,
}

impl ToolLock {
    /// Waits for whoever holds the lock at `path`, at most for `limit`.
    pub(super) fn take(tool: &'static str, path: &Path, limit: Duration) -> Result<Self, ToolError> {
        let file = File::options().create(true).truncate(false).write(true).open(path);
        let file = file.map_err(|error| ToolError::new(tool, format!("cannot open {}: {error}", path.display())))?;
        let start = Instant::now();
        loop {
            // Not blocking, since a lock that blocks has no time limit.
            match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Self { _file: file }),
                Err(_) if start.elapsed() < limit => thread::sleep(Duration::from_millis(50)),
                Err(error) => {
                    return Err(ToolError::new(tool, format!("{} stayed locked: {error}", path.display())));
                }
            }
        }
    }
}

pub(super) fn create_tools_dir(tool: &'static str) -> Result<PathBuf, ToolError> {
    let dir = tools_dir();
    fs::create_dir_all(&dir)
        .map_err(|error| ToolError::new(tool, format!("cannot create {}: {error}", dir.display())))?;
    Ok(dir)
}

/// Runs a command which prepares a tool; the error holds the end of what it printed.
pub(super) fn run(tool: &'static str, command: &mut Command, limit: Duration) -> Result<(), ToolError> {
    let shown = format!("{command:?}");
    let failed = |problem: String| ToolError::new(tool, format!("{problem}\n  command: {shown}"));
    // A file, since nobody reads along: a pipe would fill up and stop the command.
    let mut output = tempfile::tempfile().map_err(|error| failed(format!("no temporary file: {error}")))?;
    let clone = || output.try_clone().map_err(|error| failed(error.to_string()));
    let mut child = command
        .stdin(Stdio::null())
        .stdout(clone()?)
        .stderr(clone()?)
        .spawn()
        .map_err(|error| failed(format!("cannot run {:?}: {error}", command.get_program())))?;
    match process::wait_for_exit(&mut child, limit) {
        Some(status) if status.success() => Ok(()),
        outcome => {
            process::kill9(&mut child);
            let mut printed = Vec::new();
            let _ = output.seek(SeekFrom::Start(0)).and_then(|_| output.read_to_end(&mut printed));
            let printed = process::tail(&String::from_utf8_lossy(&printed));
            let end = outcome.map_or_else(|| format!("took longer than {limit:?}"), |status| status.to_string());
            Err(failed(format!("{end}: {printed}")))
        }
    }
}
