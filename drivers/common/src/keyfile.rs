//! The file that holds a node's private key.
//!
//! Its content is libp2p's protobuf form of a private key, as kubo and others export it, and nothing else. A new file
//! is written beside its place and then linked there, so nobody ever sees half a key, and a key that is there is never
//! overwritten: of two processes that start at once on the same path, both end up with the same key.
//!
//! A file that others than its owner can read is still loaded, because the key would not become safer by refusing;
//! [`KeyFile::exposed`] says so, and a program should print it.

use std::{
    fmt, fs,
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
};

use peerwork::Keypair;
use zeroize::{Zeroize as _, Zeroizing};

use crate::clock::random;

/// The largest file worth decoding. An RSA key of 8192 bits takes less than 5 KiB.
const MAX_LEN: u64 = 64 * 1024;

/// A key that came from a file.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct KeyFile {
    /// The key.
    pub keypair: Keypair,
    /// Whether the file was made by this call.
    pub created: bool,
    /// Set if others than the owner can read the file. Its text is a warning for people.
    pub exposed: Option<ExposedKey>,
}

/// A warning: a key file can be read by others than its owner.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ExposedKey {
    /// The file.
    pub path: PathBuf,
    /// Its permission bits.
    pub mode: u32,
}

impl fmt::Display for ExposedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        write!(f, "others can read the private key in {path} (mode {:04o}); run: chmod 600 {path}", self.mode)
    }
}

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyFileError {
    /// There is no such file.
    #[error("there is no key file {}", .0.display())]
    Missing(PathBuf),
    /// The folder that should hold the file does not exist.
    #[error("cannot create the key file {}: the folder {} does not exist", path.display(), folder.display())]
    NoFolder {
        /// The file wanted.
        path: PathBuf,
        /// The folder that is missing.
        folder: PathBuf,
    },
    /// The file exists and cannot be read.
    #[error("cannot read the key file {}: {error}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The operating system's reason.
        #[source]
        error: io::Error,
    },
    /// The file cannot be created.
    #[error("cannot create the key file {}: {error}", path.display())]
    Create {
        /// The file wanted.
        path: PathBuf,
        /// The operating system's reason.
        #[source]
        error: io::Error,
    },
    /// The file is empty.
    #[error("the key file {} is empty; delete it or pass another --key", .0.display())]
    Empty(PathBuf),
    /// The file holds something else.
    #[error("{} is not a libp2p private key ({reason}); delete it or pass another --key", path.display())]
    NotAKey {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// Loads the key in this file.
pub fn load(path: impl AsRef<Path>) -> Result<KeyFile, KeyFileError> {
    let path = path.as_ref();
    let read = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => KeyFileError::Missing(path.into()),
        _ => KeyFileError::Read { path: path.into(), error },
    };
    let mut file = fs::File::open(path).map_err(read)?;
    let exposed = exposed(path, &file.metadata().map_err(read)?);
    // Allocated once at its full size: growing would leave copies of the key in freed memory.
    let mut content = Zeroizing::new(Vec::with_capacity(usize::try_from(MAX_LEN).unwrap_or(usize::MAX)));
    (&mut file).take(MAX_LEN).read_to_end(&mut content).map_err(read)?;
    if content.is_empty() {
        return Err(KeyFileError::Empty(path.into()));
    }
    let keypair = Keypair::decode_protobuf(&content)
        .map_err(|error| KeyFileError::NotAKey { path: path.into(), reason: error.to_string() })?;
    Ok(KeyFile { keypair, created: false, exposed })
}

/// Loads the key in this file, or makes an Ed25519 key and the file, readable by its owner alone.
pub fn load_or_create(path: impl AsRef<Path>) -> Result<KeyFile, KeyFileError> {
    let path = path.as_ref();
    match load(path) {
        Err(KeyFileError::Missing(_)) => {}
        found => return found,
    }
    let create = |error| KeyFileError::Create { path: path.into(), error };
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    if !folder.is_dir() {
        return Err(KeyFileError::NoFolder { path: path.into(), folder: folder.into() });
    }
    let mut seed = random::<32>().map_err(create)?;
    let keypair = Keypair::from_seed(seed);
    seed.zeroize();
    match publish(folder, path, &keypair.encode_protobuf()) {
        Ok(()) => Ok(KeyFile { keypair, created: true, exposed: None }),
        // Somebody was faster: theirs is the key.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => load(path),
        Err(error) => Err(create(error)),
    }
}

/// Puts a file with this content at `path`, all at once, unless there is one.
fn publish(folder: &Path, path: &Path, content: &[u8]) -> io::Result<()> {
    let suffix = u64::from_le_bytes(random()?);
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().ok_or(io::ErrorKind::InvalidFilename)?);
    name.push(format!(".{suffix:016x}.tmp"));
    let temporary = folder.join(name);
    let result = write_new(&temporary, content).and_then(|()| match fs::hard_link(&temporary, path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists && error.kind() != io::ErrorKind::NotFound => {
            // This file system has no hard links. What is written now may be seen half-written for a moment, but it
            // still overwrites nothing.
            write_new(path, content)
        }
        linked => linked,
    });
    // It may never have been made; there is nothing to do about one that stays.
    let _ = fs::remove_file(&temporary);
    result?;
    sync_folder(folder);
    Ok(())
}

fn write_new(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

/// Makes the new name survive a power failure, where folders can be synced.
fn sync_folder(folder: &Path) {
    #[cfg(unix)]
    if let Err(error) = fs::File::open(folder).and_then(|folder| folder.sync_all()) {
        tracing::debug!(%error, "cannot sync the folder of the key file");
    }
    #[cfg(not(unix))]
    let _ = folder;
}

#[cfg(unix)]
fn exposed(path: &Path, metadata: &fs::Metadata) -> Option<ExposedKey> {
    let mode = std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o7777;
    (mode & 0o077 != 0).then(|| ExposedKey { path: path.into(), mode })
}

#[cfg(not(unix))]
fn exposed(_: &Path, _: &fs::Metadata) -> Option<ExposedKey> {
    None
}

#[cfg(test)]
mod tests;
