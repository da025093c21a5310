//! Which names were given lately: objects that a crash may have left without anybody having been told of them.
//!
//! Names are noted before they are given and are not flushed on their own: what is lost with them in a power cut is
//! found by listing everything.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use crate::blobs::{Bucket, Key};

/// Names in a file before the next one is begun; that many keeps ago, whoever kept has long been told.
const NAMES: usize = 2000;
const FILE: &str = "recent";
const OLDER_FILE: &str = "recent.older";

/// The two files of names, one a line.
#[derive(Debug)]
pub(super) struct Recent {
    root: PathBuf,
    file: Option<OwnedFd>,
    names: usize,
}

impl Recent {
    /// Reads what the last process noted, and begins anew.
    pub(super) fn open(root: &Path) -> (Self, Vec<Key>) {
        let mut keys = Vec::new();
        for file in [OLDER_FILE, FILE] {
            let text = std::fs::read_to_string(root.join(file)).unwrap_or_default();
            keys.extend(text.lines().filter_map(parse));
        }
        // They stay until new names take their place: this process may be killed before it has looked at them.
        (Self { root: root.to_owned(), file: None, names: NAMES }, keys)
    }

    /// Notes names, which are paths below the root. Best effort: without it, everything must be listed.
    pub(super) fn note<'a>(&mut self, names: impl ExactSizeIterator<Item = &'a str>) {
        if self.names >= NAMES {
            self.begin_file();
        }
        self.names += names.len();
        let lines: String = names.flat_map(|name| [name, "\n"]).collect();
        if let Some(file) = &self.file {
            let _ = rustix::io::write(file, lines.as_bytes());
        }
    }

    /// Forgets all names: nothing is under way any more.
    pub(super) fn clear(self) {
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
        self.file = rustix::fs::open(&path, flags, Mode::from_raw_mode(0o640)).ok();
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
        let (mut recent, keys) = Recent::open(root.path());
        assert_eq!(keys, []);
        for number in 0..NAMES + 5 {
            recent.note([format!("originals/a/{number}").as_str()].into_iter());
        }
        recent.note(["nonsense", "previews/b"].into_iter());
        drop(recent);
        let (recent, keys) = Recent::open(root.path());
        assert_eq!(keys.len(), NAMES + 6);
        assert_eq!(keys.last(), Some(&Key { bucket: Bucket::Previews, path: "b".into() }));
        recent.clear();
        assert_eq!(Recent::open(root.path()).1, []);
    }
}
