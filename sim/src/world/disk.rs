//! A disk that keeps what was synced and, when its machine crashes, loses or tears what was not.

use std::collections::BTreeMap;

use peerwork::Time;

use crate::dice::{Dice, Domain};

/// Files of one host. A write replaces a file's content, and is certain only after [`sync`](Self::sync).
#[derive(Clone, Default, Debug)]
pub struct Disk {
    /// What survives anything.
    safe: BTreeMap<String, Vec<u8>>,
    /// Writes and removals (`None`) since the last sync, oldest first.
    unsynced: Vec<(String, Option<Vec<u8>>)>,
}

impl Disk {
    /// Replaces the content of a file.
    pub fn write(&mut self, name: &str, content: impl Into<Vec<u8>>) {
        self.unsynced.push((name.to_owned(), Some(content.into())));
    }

    /// Removes a file.
    pub fn remove(&mut self, name: &str) {
        self.unsynced.push((name.to_owned(), None));
    }

    /// Makes everything written so far certain.
    pub fn sync(&mut self) {
        for (name, content) in self.unsynced.drain(..) {
            match content {
                Some(content) => drop(self.safe.insert(name, content)),
                None => drop(self.safe.remove(&name)),
            }
        }
    }

    /// A file as a running machine sees it.
    pub fn read(&self, name: &str) -> Option<&[u8]> {
        match self.unsynced.iter().rev().find(|(other, _)| other == name) {
            Some((_, content)) => content.as_deref(),
            None => self.safe.get(name).map(Vec::as_slice),
        }
    }

    /// The machine crashes: of each write that was not synced, all is kept, or nothing, or its first part (torn). They reach the
    /// disk in any order.
    pub fn crash(&mut self, dice: &mut Dice, label: u64, now: Time) {
        for (n, (name, content)) in core::mem::take(&mut self.unsynced).into_iter().enumerate() {
            let mut draw =
                |what: u64, bound| dice.below(Domain::Disk, label, now.as_nanos(), n as u64 * 2 + what, bound);
            match (draw(0, 3), content) {
                // Benign: as if it had been synced.
                (0, Some(content)) => drop(self.safe.insert(name, content)),
                (0, None) => drop(self.safe.remove(&name)),
                (1, Some(mut content)) => {
                    let len = draw(1, content.len() as u64);
                    content.truncate(usize::try_from(len).unwrap_or(0));
                    self.safe.insert(name, content);
                }
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_synced_survives_and_the_rest_is_whole_or_old_or_torn() {
        let mut seen = [0; 3];
        for seed in 0..300 {
            let mut disk = Disk::default();
            disk.write("log", b"old".to_vec());
            disk.sync();
            disk.write("log", b"new content".to_vec());
            assert_eq!(disk.read("log"), Some(&b"new content"[..]));
            disk.crash(&mut Dice::from_seed(seed), 1, Time::ZERO);
            match disk.read("log").unwrap() {
                b"new content" => seen[0] += 1,
                b"old" => seen[1] += 1,
                torn => {
                    assert!(b"new content".starts_with(torn));
                    seen[2] += 1;
                }
            }
        }
        assert!(seen.iter().all(|count| *count > 50), "{seen:?}");
    }

    #[test]
    fn removals_count_as_writes() {
        let mut disk = Disk::default();
        disk.write("a", b"1".to_vec());
        disk.sync();
        disk.remove("a");
        assert_eq!(disk.read("a"), None);
        disk.sync();
        disk.crash(&mut Dice::from_seed(1), 1, Time::ZERO);
        assert_eq!(disk.read("a"), None);
    }
}
