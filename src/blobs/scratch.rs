//! A directory of files that only this process uses: staged objects and caches.
//!
//! Several processes may have their directories below one parent. Each process holds a lock on its own
//! directory. A directory without a lock was left behind by a process that was killed, and the next process
//! that starts removes it.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, OFlags};
use uuid::Uuid;

/// A directory of this process, removed with all its files on drop.
#[derive(Debug)]
pub(super) struct Scratch {
    path: PathBuf,
    /// The lock, which the kernel releases when the process ends.
    _lock: OwnedFd,
}

impl Scratch {
    /// Creates a directory below `parent`, which is created if it is missing; removes the directories of
    /// processes that have ended.
    pub(super) fn create(parent: &Path) -> io::Result<Self> {
        let mut builder = std::fs::DirBuilder::new();
        builder.mode(0o700).recursive(true).create(parent)?;
        remove_abandoned(parent);
        loop {
            let path = parent.join(Uuid::new_v4().to_string());
            builder.create(&path)?;
            // Another process that starts may remove the directory before it is locked.
            if let Some(lock) = lock(&path) {
                return Ok(Self { path, _lock: lock });
            }
        }
    }

    /// The directory's path.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // A file that cannot be removed now is removed by the next process that starts.
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

/// Locks a directory; `None` if another process holds the lock, or if the directory is gone.
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
    fn directories_of_killed_processes_are_removed_and_those_in_use_are_not() {
        let parent = tempfile::tempdir().unwrap();
        let abandoned = parent.path().join("abandoned");
        std::fs::create_dir(&abandoned).unwrap();
        std::fs::write(abandoned.join("1"), b"x").unwrap();
        let first = Scratch::create(parent.path()).unwrap();
        std::fs::write(first.path().join("1"), b"x").unwrap();
        let second = Scratch::create(parent.path()).unwrap();
        assert!(!abandoned.exists());
        assert!(first.path().join("1").exists() && second.path().exists() && first.path() != second.path());
        let path = first.path().to_owned();
        drop(first);
        assert!(!path.exists());
    }
}
