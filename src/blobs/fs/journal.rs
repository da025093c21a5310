//! The names written since the last clean stop: objects that a crash may have left without a commit.
//!
//! A name is appended before its object gets the name. The journal has no flush of its own: names that are
//! lost in a power cut are found only by listing all objects.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use crate::blobs::{Bucket, Key};

/// The names in a file before the next file is begun. Puts that are so many names ago have returned long
/// since.
const MAX_NAMES: usize = 2000;
const FILE: &str = "journal";
const OLDER_FILE: &str = "journal.older";

/// The two files of names, one name a line.
#[derive(Debug)]
pub(super) struct Journal {
    root: PathBuf,
    file: Option<OwnedFd>,
    names: usize,
    /// Whether the names stay after a clean stop.
    is_preserved: bool,
}

impl Journal {
    /// Reads the names of the last process, and begins a new journal.
    pub(super) fn open(root: &Path) -> (Self, Vec<Key>) {
        let mut keys = Vec::new();
        for file in [OLDER_FILE, FILE] {
            let text = std::fs::read_to_string(root.join(file)).unwrap_or_default();
            keys.extend(text.lines().filter_map(parse));
        }
        // The files stay until new names replace them: this process may be killed before it has used the
        // keys.
        (Self { root: root.to_owned(), file: None, names: MAX_NAMES, is_preserved: false }, keys)
    }

    /// Appends names, which are paths below the root. A failure is ignored: without the journal, the objects
    /// are found by listing all.
    pub(super) fn append<'a>(&mut self, names: impl ExactSizeIterator<Item = &'a str>) {
        if self.names >= MAX_NAMES {
            self.begin_file();
        }
        self.names += names.len();
        let lines: String = names.flat_map(|name| [name, "\n"]).collect();
        if let Some(file) = &self.file {
            let _ = rustix::io::write(file, lines.as_bytes());
        }
    }

    /// Leaves the names for the next start, as after a crash: a put has failed after its object got the name.
    pub(super) fn preserve(&mut self) {
        self.is_preserved = true;
    }

    /// Removes all names, as no put is under way any more.
    pub(super) fn clear(&mut self) {
        if self.is_preserved {
            return;
        }
        for file in [OLDER_FILE, FILE] {
            let _ = std::fs::remove_file(self.root.join(file));
        }
    }

    fn begin_file(&mut self) {
        let path = self.root.join(FILE);
        match std::fs::rename(&path, self.root.join(OLDER_FILE)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return,
            _ => {}
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::APPEND | OFlags::CLOEXEC;
        self.file = rustix::fs::open(&path, flags, Mode::from_raw_mode(0o600)).ok();
        self.names = 0;
    }
}

fn parse(name: &str) -> Option<Key> {
    let (bucket, path) = name.split_once('/')?;
    let bucket = Bucket::ALL.into_iter().find(|known| known.name() == bucket)?;
    Some(Key { bucket, path: path.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_outlive_a_process_that_is_killed() {
        let root = tempfile::tempdir().unwrap();
        let (mut journal, keys) = Journal::open(root.path());
        assert_eq!(keys, []);
        for number in 0..MAX_NAMES + 5 {
            journal.append([format!("originals/a/{number}").as_str()].into_iter());
        }
        journal.append(["nonsense", "previews/b"].into_iter());
        drop(journal);
        let (mut journal, keys) = Journal::open(root.path());
        assert_eq!(keys.len(), MAX_NAMES + 6);
        assert_eq!(keys.last(), Some(&Key { bucket: Bucket::Previews, path: "b".into() }));
        journal.preserve();
        journal.clear();
        let (mut journal, keys) = Journal::open(root.path());
        assert_eq!(keys.len(), MAX_NAMES + 6, "a put failed");
        journal.clear();
        assert_eq!(Journal::open(root.path()).1, []);
    }
}
