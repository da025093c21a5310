//! Names of objects: the directories above them, and flushes that make new names durable.
//!
//! A name is durable when its directory has been flushed since. The name of a new directory is an entry of
//! the directory above, which some put has to flush before any put into the new directory returns.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

/// The names of a store that may not be durable.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// The directories in which directories were made that may not be durable. The number changes with each
    /// new directory.
    changed: Mutex<HashMap<String, u64>>,
    /// The flushes of directories that are under way or awaited.
    flushes: Mutex<HashMap<String, Arc<SharedFlush>>>,
}

impl Names {
    /// Creates the directories above `target` that are missing.
    pub(super) fn make_parents(&self, root: &OwnedFd, target: &str) -> Result<(), Errno> {
        // Locked over the creation: another put must not use a new directory before it is known here.
        let mut changed = lock(&self.changed);
        let mut missing = vec![above(target)];
        while let Some(&directory) = missing.last() {
            match rustix::fs::mkdirat(root, directory, Mode::from_raw_mode(0o700)) {
                Ok(()) => {
                    *changed.entry(above(directory).to_owned()).or_default() += 1;
                    missing.pop();
                }
                Err(Errno::EXIST) => {
                    missing.pop();
                }
                // Nothing can be made in a root that was removed.
                Err(Errno::NOENT) if above(directory) != "." => missing.push(above(directory)),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Makes the name `target` durable, which a file has now, and the names of all directories above.
    pub(super) fn flush(&self, root: &OwnedFd, target: &str) -> Result<(), Errno> {
        let parent = above(target);
        self.flush_directory(root, parent)?;
        for (directory, change) in self.changed_above(parent) {
            self.flush_directory(root, &directory)?;
            self.settle(&directory, change);
        }
        Ok(())
    }

    /// Makes everything in the file system durable, bytes and names.
    pub(super) fn flush_all(&self, root: &OwnedFd) -> Result<(), Errno> {
        let changed = lock(&self.changed).clone();
        rustix::fs::syncfs(root)?;
        for (directory, change) in changed {
            self.settle(&directory, change);
        }
        Ok(())
    }

    /// The directories above `directory`, and `directory` itself, in which directories were made that may not
    /// be durable.
    fn changed_above(&self, directory: &str) -> Vec<(String, u64)> {
        let changed = lock(&self.changed);
        let mut found = Vec::new();
        let mut directory = directory;
        while !changed.is_empty() && directory != above(directory) {
            directory = above(directory);
            found.extend(changed.get_key_value(directory).map(|(name, change)| (name.clone(), *change)));
        }
        found
    }

    /// Records that all directories are durable that were made in `directory` up to this change.
    fn settle(&self, directory: &str, change: u64) {
        let mut changed = lock(&self.changed);
        if changed.get(directory) == Some(&change) {
            changed.remove(directory);
        }
    }

    /// Flushes a directory; one flush serves all callers that came before it began.
    fn flush_directory(&self, root: &OwnedFd, directory: &str) -> Result<(), Errno> {
        let flush = lock(&self.flushes).entry(directory.to_owned()).or_default().clone();
        let outcome = flush.join(|| sync_directory(root, directory));
        let mut flushes = lock(&self.flushes);
        drop(flush);
        if flushes.get(directory).is_some_and(|flush| Arc::strong_count(flush) == 1) {
            flushes.remove(directory);
        }
        outcome
    }
}

/// Flushes of one directory, one at a time.
#[derive(Debug, Default)]
struct SharedFlush {
    state: Mutex<FlushState>,
    ended: Condvar,
}

#[derive(Debug, Default)]
struct FlushState {
    /// The number of flushes that have begun.
    begun: u64,
    is_running: bool,
    /// The number of the last flush that succeeded, and of the last one that failed.
    succeeded: u64,
    failed: Option<(u64, Errno)>,
}

impl SharedFlush {
    /// Waits for a flush that begins from now on, or carries it out.
    fn join(&self, flush: impl FnOnce() -> Result<(), Errno>) -> Result<(), Errno> {
        let mut state = lock(&self.state);
        let wanted = state.begun + 1;
        loop {
            // A flush that failed is never made good by a later one: the changes may be lost.
            if let Some((number, error)) = state.failed
                && number >= wanted
            {
                return Err(error);
            }
            if state.succeeded >= wanted {
                return Ok(());
            }
            if !state.is_running {
                break;
            }
            state = self.ended.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.is_running = true;
        state.begun += 1;
        let number = state.begun;
        drop(state);
        let outcome = flush();
        let mut state = lock(&self.state);
        state.is_running = false;
        match outcome {
            Ok(()) => state.succeeded = number,
            Err(error) => state.failed = Some((number, error)),
        }
        drop(state);
        self.ended.notify_all();
        outcome
    }
}

fn sync_directory(root: &OwnedFd, directory: &str) -> Result<(), Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match rustix::fs::openat(root, directory, flags, Mode::empty()) {
        Ok(directory) => rustix::fs::fsync(directory),
        // The directory was removed, so that no name in it can be lost.
        Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Creates a directory below `root` if it does not exist.
pub(super) fn make_directory(root: &OwnedFd, path: &str) -> Result<(), Errno> {
    match rustix::fs::mkdirat(root, path, Mode::from_raw_mode(0o700)) {
        Err(Errno::EXIST) => Ok(()),
        outcome => outcome,
    }
}

/// The directory above; `.`, which is its own, above the first one.
fn above(path: &str) -> &str {
    path.rsplit_once('/').map_or(".", |(above, _)| above)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;
    use std::thread;

    use super::*;

    fn root() -> (tempfile::TempDir, OwnedFd) {
        let directory = tempfile::tempdir().unwrap();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let root = rustix::fs::open(directory.path(), flags, Mode::empty()).unwrap();
        (directory, root)
    }

    fn changed(names: &Names) -> Vec<String> {
        let mut changed: Vec<_> = lock(&names.changed).keys().cloned().collect();
        changed.sort();
        changed
    }

    #[test]
    fn new_directories_are_flushed_by_whoever_puts_into_them_first() {
        let (_directory, root) = root();
        let names = Names::default();
        names.make_parents(&root, "a/b/c/file").unwrap();
        assert_eq!(changed(&names), [".", "a", "a/b"]);
        names.make_parents(&root, "a/b/c/other").unwrap();
        names.make_parents(&root, "a/d/file").unwrap();
        let before = lock(&names.changed)["a"];
        assert_eq!(before, 2, "once for each directory that was made");
        // A put into another directory must not return before its own directories are durable.
        names.flush(&root, "a/d/file").unwrap();
        assert_eq!(changed(&names), ["a/b"]);
        names.settle("a/b", 0);
        assert_eq!(changed(&names), ["a/b"], "a directory was made since");
        names.flush(&root, "a/b/c/file").unwrap();
        assert_eq!(changed(&names), [""; 0]);
        names.make_parents(&root, "e/file").unwrap();
        names.flush_all(&root).unwrap();
        assert_eq!(changed(&names), [""; 0]);
        assert!(lock(&names.flushes).is_empty());
        assert_eq!(names.flush(&root, "gone/file"), Ok(()));
        assert_eq!(names.make_parents(&root, "a/b/c/../\0/x"), Err(Errno::INVAL));
    }

    #[test]
    fn a_flush_that_fails_leaves_its_directories_to_the_next_put() {
        let (directory, root) = root();
        let names = Names::default();
        names.make_parents(&root, "a/b/file").unwrap();
        // The directory becomes a file, which cannot be opened as a directory.
        std::fs::remove_dir(directory.path().join("a/b")).unwrap();
        std::fs::write(directory.path().join("a/b"), b"").unwrap();
        assert_eq!(names.flush(&root, "a/b/file"), Err(Errno::NOTDIR));
        assert_eq!(changed(&names), [".", "a"]);
        assert!(lock(&names.flushes).is_empty());
    }

    #[test]
    fn one_flush_serves_all_who_came_before_it_began_and_its_failure_is_theirs() {
        for outcome in [Ok(()), Err(Errno::IO)] {
            let flush = SharedFlush::default();
            let count = AtomicUsize::new(0);
            let (begun, has_begun) = mpsc::channel();
            let (end, may_end) = mpsc::channel::<()>();
            thread::scope(|scope| {
                let first = scope.spawn({
                    let flush = &flush;
                    move || {
                        flush.join(|| {
                            begun.send(()).unwrap();
                            let _ = may_end.recv();
                            Ok(())
                        })
                    }
                });
                has_begun.recv().unwrap();
                let others: Vec<_> = (0..8)
                    .map(|_| {
                        scope.spawn(|| {
                            flush.join(|| {
                                count.fetch_add(1, Ordering::Relaxed);
                                outcome
                            })
                        })
                    })
                    .collect();
                // They wait for a flush after the one that runs.
                thread::sleep(std::time::Duration::from_millis(100));
                assert_eq!(count.load(Ordering::Relaxed), 0);
                end.send(()).unwrap();
                assert_eq!(first.join().unwrap(), Ok(()));
                for other in others {
                    assert_eq!(other.join().unwrap(), outcome);
                }
            });
            assert_eq!(count.load(Ordering::Relaxed), 1);
            assert_eq!(flush.join(|| Ok(())), Ok(()), "the next one is a flush of its own");
        }
    }
}
