//! The tests of [`keyfile`](super) on a real file system.

use super::*;

/// A folder of its own that goes away with the test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("peerwork-key-{:016x}", u64::from_le_bytes(random().unwrap())));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn names(&self) -> Vec<String> {
        fs::read_dir(&self.0).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_created_key_is_the_one_loaded_later() {
    let folder = Folder::new();
    let path = folder.0.join("key");
    let created = load_or_create(&path).unwrap();
    assert!(created.created);
    assert_eq!(folder.names(), ["key"]);
    let loaded = load_or_create(&path).unwrap();
    assert!(!loaded.created);
    assert_eq!(loaded.keypair.peer_id(), created.keypair.peer_id());
    assert_eq!(load(&path).unwrap().keypair.peer_id(), created.keypair.peer_id());
}

#[cfg(unix)]
#[test]
fn a_created_file_is_its_owners_alone_and_an_exposed_one_is_told() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = Folder::new();
    let path = folder.0.join("key");
    load_or_create(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(load(&path).unwrap().exposed, None);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let warning = load(&path).unwrap().exposed.unwrap().to_string();
    assert!(warning.ends_with(&format!("(mode 0644); run: chmod 600 {}", path.display())), "{warning}");
}

#[test]
fn processes_that_start_at_once_share_one_key() {
    let folder = Folder::new();
    let path = folder.0.join("key");
    let keys: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| load_or_create(&path).unwrap())).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(keys.iter().filter(|key| key.created).count(), 1);
    assert!(keys.iter().all(|key| key.keypair.peer_id() == keys[0].keypair.peer_id()));
    assert_eq!(folder.names(), ["key"]);
}

#[test]
fn what_is_there_is_never_overwritten() {
    let folder = Folder::new();
    let path = folder.0.join("key");
    for (content, expected) in [(&b""[..], "is empty"), (b"hello", "is not a libp2p private key")] {
        fs::write(&path, content).unwrap();
        let error = load_or_create(&path).unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains("pass another --key"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), content);
    }
    let error = publish(&folder.0, &path, b"other").unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
    assert_eq!(fs::read(&path).unwrap(), b"hello");
    assert_eq!(folder.names(), ["key"]);
}

#[test]
fn errors_say_what_is_missing() {
    let folder = Folder::new();
    let path = folder.0.join("no").join("key");
    assert!(matches!(load(&path), Err(KeyFileError::Missing(_))));
    let error = load_or_create(&path).unwrap_err();
    assert!(matches!(&error, KeyFileError::NoFolder { folder: missing, .. } if *missing == folder.0.join("no")));
    assert!(error.to_string().ends_with("does not exist"), "{error}");
    assert!(matches!(load(&folder.0), Err(KeyFileError::Read { .. } | KeyFileError::NotAKey { .. })));
}
