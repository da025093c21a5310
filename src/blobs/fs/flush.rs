//! The thread that makes objects durable, many with one flush.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use tokio::sync::{mpsc, oneshot};
use tracing::error;

use crate::blobs::fs::Root;
use crate::blobs::fs::journal::Journal;
use crate::blobs::staged::StagedFile;

/// The most objects that share a flush.
const MAX_GROUP: usize = 512;

/// The most files and directories together that are flushed one by one. With more, one flush of the whole
/// file system takes less time (measured on ext4).
const MAX_SINGLE_FLUSHES: usize = 6;

/// Attempts at a rename, each after a deletion has removed the empty directory just before.
const RENAME_ATTEMPTS: usize = 16;

/// An object that is waiting for its flush.
#[derive(Debug)]
pub(super) struct PendingPut {
    pub(super) file: StagedFile,
    /// The object's path below the root.
    pub(super) target: String,
    pub(super) done: oneshot::Sender<Result<(), Errno>>,
}

/// The name of an object whose put makes the thread panic.
#[cfg(test)]
pub(crate) const PANIC_NAME: &str = "makes-the-flusher-panic";

/// Puts the objects that are sent to `puts`, until all senders are dropped. A panic is logged, and closes
/// `puts`.
pub(super) fn run(puts: mpsc::Receiver<PendingPut>, root: &Root, journal: Journal) {
    // No state is used after a panic. The panic hook has printed the message.
    if catch_unwind(AssertUnwindSafe(|| put_all(puts, root, journal))).is_err() {
        error!(
            "the thread that flushes objects panicked: no object can be stored until the server is restarted"
        );
    }
}

fn put_all(puts: mpsc::Receiver<PendingPut>, root: &Root, mut journal: Journal) {
    let mut group = Vec::new();
    let mut changed = BTreeSet::new();
    // Declared last, and so dropped first: a panic closes the queue before the puts of the group fail.
    let mut puts = puts;
    while puts.blocking_recv_many(&mut group, MAX_GROUP) > 0 {
        #[cfg(test)]
        assert!(!group.iter().any(|put| put.target.ends_with(PANIC_NAME)), "a panic for a test");
        journal.append(group.iter().map(|put| put.target.as_str()));
        let outcomes = flush(&mut group, &root.directory, &mut changed);
        for (put, outcome) in group.drain(..).zip(outcomes) {
            // The caller may have stopped waiting; the object stays then, as after a crash.
            let _ = put.done.send(outcome);
        }
    }
    journal.clear();
}

/// Puts a group. `changed` holds the directories whose names are not durable, also from groups that failed.
///
/// Objects get their names first, so that one flush makes bytes and names durable. A crash before the flush
/// may leave a part of an object under a name that nothing refers to, as the put has not returned. An object
/// that had the name before, and may be referred to, is replaced only by bytes that are durable.
fn flush(group: &mut [PendingPut], root: &OwnedFd, changed: &mut BTreeSet<String>) -> Vec<Result<(), Errno>> {
    let mut outcomes: Vec<_> = group.iter_mut().map(|put| rename(put, root, changed)).collect();
    if group.len() + changed.len() <= MAX_SINGLE_FLUSHES {
        for (put, outcome) in group.iter().zip(&mut outcomes) {
            *outcome = outcome.and_then(|()| put.file.sync());
        }
    }
    if let Err(error) = sync_names(group.len(), root, changed) {
        outcomes.iter_mut().for_each(|outcome| *outcome = outcome.and(Err(error)));
    }
    outcomes
}

fn rename(put: &mut PendingPut, root: &OwnedFd, changed: &mut BTreeSet<String>) -> Result<(), Errno> {
    for _ in 0..RENAME_ATTEMPTS {
        make_parents(root, &put.target, changed)?;
        match put.file.rename_into_place(root, &put.target) {
            // A deletion has removed the empty directory between the two calls.
            Err(Errno::NOENT) => {}
            outcome => return outcome,
        }
    }
    Err(Errno::NOENT)
}

/// Creates the directories above `target`, and adds the directories that get a new entry to `changed`.
fn make_parents(root: &OwnedFd, target: &str, changed: &mut BTreeSet<String>) -> Result<(), Errno> {
    let Some((parent, _)) = target.rsplit_once('/') else { return Ok(()) };
    let mut missing = Vec::new();
    let mut directory = parent;
    loop {
        match rustix::fs::mkdirat(root, directory, Mode::from_raw_mode(0o700)) {
            Ok(()) => {
                changed.insert(above(directory).to_owned());
                match missing.pop() {
                    Some(below) => directory = below,
                    None => break,
                }
            }
            Err(Errno::EXIST) => match missing.pop() {
                Some(below) => directory = below,
                None => break,
            },
            Err(Errno::NOENT) if directory != above(directory) => {
                missing.push(directory);
                directory = above(directory);
            }
            Err(error) => return Err(error),
        }
    }
    changed.insert(parent.to_owned());
    Ok(())
}

fn above(path: &str) -> &str {
    path.rsplit_once('/').map_or(".", |(above, _)| above)
}

/// Makes changed names durable; with many files or directories, all bytes of the file system, too.
fn sync_names(files: usize, root: &OwnedFd, changed: &mut BTreeSet<String>) -> Result<(), Errno> {
    if files + changed.len() <= MAX_SINGLE_FLUSHES {
        changed.iter().try_for_each(|directory| sync_directory(root, directory))?;
    } else {
        rustix::fs::syncfs(root)?;
    }
    changed.clear();
    Ok(())
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
