//! A directory of files that are of no use to any other process: staged objects and caches.
//!
//! Several processes may have their directories below one parent. Each holds a lock on its own, so that the next process
//! that starts can tell which were left behind by a process that was killed, and removes those.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, OFlags};
use uuid::Uuid;

/// A directory of this process, removed with all that is in it when this is dropped.
#[derive(Debug)]
pub(super) struct Scratch {
    path: PathBuf,
    /// The kernel lets go of the lock when the process ends.
    _lock: OwnedFd,
}

impl Scratch {
    /// Makes a directory below `parent`, which is made if it is missing; removes those of processes that have ended.
    pub(super) fn make(parent: &Path) -> io::Result<Self> {
        let mut builder = std::fs::DirBuilder::new();
        builder.mode(0o750).recursive(true).create(parent)?;
        remove_abandoned(parent);
        loop {
            let path = parent.join(Uuid::new_v4().to_string());
            builder.create(&path)?;
            // Until it is locked, another process that starts may take it for an abandoned one.
            if let Some(lock) = lock(&path) {
                return Ok(Self { path, _lock: lock });
            }
        }
    }

    /// The directory.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed is removed by the next process that starts.
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

fn remove_abandoned(parent: &Path) {
    for entry in std::fs::read_dir(parent).into_iter().flatten().flatten() {
        let path = entry.path();
        if let Some(_lock) = lock(&path) {
            let _ = std::fs::remove_dir_all(&path);
        }
    }
}

/// The lock on a directory; `None` if another has it, or if it is gone.
fn lock(path: &Path) -> Option<OwnedFd> {
    let directory =
        rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    let directory = directory.ok()?;
    rustix::fs::flock(&directory, FlockOperation::NonBlockingLockExclusive).ok()?;
    let is_there = rustix::fs::fstat(&directory).is_ok_and(|status| status.st_nlink > 0);
    is_there.then_some(directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_process_left_is_removed_and_what_is_in_use_is_not() {
        let parent = tempfile::tempdir().unwrap();
        let abandoned = parent.path().join("abandoned");
        std::fs::create_dir(&abandoned).unwrap();
        std::fs::write(abandoned.join("1"), b"x").unwrap();
        let first = Scratch::make(parent.path()).unwrap();
        std::fs::write(first.path().join("1"), b"x").unwrap();
        let second = Scratch::make(parent.path()).unwrap();
        assert!(!abandoned.exists());
        assert!(first.path().join("1").exists() && second.path().exists() && first.path() != second.path());
        let path = first.path().to_owned();
        drop(first);
        assert!(!path.exists());
    }
}
