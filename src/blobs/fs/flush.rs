//! Making objects durable, many with one flush.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use tokio::sync::{mpsc, oneshot};

use crate::blobs::fs::Root;
use crate::blobs::fs::recent::Recent;
use crate::blobs::staged::StagedFile;

/// Objects that share a flush at the most.
const GROUP: usize = 512;

/// Up to this many files and directories together are flushed one by one; more, by flushing the file system, which
/// from about here on takes less time (on ext4), and never touches the objects one by one.
const ONE_BY_ONE: usize = 6;

/// How often a rename is tried when the directory is pruned, again and again, just before it.
const ATTEMPTS: usize = 16;

/// An object to keep.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) file: StagedFile,
    /// Its path below the root.
    pub(super) target: String,
    pub(super) done: oneshot::Sender<Result<(), Errno>>,
}

/// Keeps what comes in until nobody can send any more.
pub(super) fn run(mut jobs: mpsc::Receiver<Job>, root: &Root, mut recent: Recent) {
    let mut group = Vec::new();
    let mut changed = BTreeSet::new();
    while jobs.blocking_recv_many(&mut group, GROUP) > 0 {
        recent.note(group.iter().map(|job| job.target.as_str()));
        let outcomes = flush(&mut group, &root.directory, &mut changed);
        for (job, outcome) in group.drain(..).zip(outcomes) {
            // Who kept it may have gone; the object stays then, as after a crash.
            let _ = job.done.send(outcome);
        }
    }
    recent.clear();
}

/// Keeps a group. `changed` holds the directories whose names are not durable, also from groups that failed.
///
/// Objects get their names first, so that one flush makes bytes and names durable. A crash before it may leave an
/// object that is not whole under a name that nothing refers to, as keep has not returned; what had that name
/// before, and may be referred to, gives way only to bytes that are durable.
fn flush(group: &mut [Job], root: &OwnedFd, changed: &mut BTreeSet<String>) -> Vec<Result<(), Errno>> {
    let mut outcomes: Vec<_> = group.iter_mut().map(|job| rename(job, root, changed)).collect();
    if group.len() + changed.len() <= ONE_BY_ONE {
        for (job, outcome) in group.iter().zip(&mut outcomes) {
            *outcome = outcome.and_then(|()| job.file.sync());
        }
    }
    if let Err(error) = sync_names(group.len(), root, changed) {
        outcomes.iter_mut().for_each(|outcome| *outcome = outcome.and(Err(error)));
    }
    outcomes
}

fn rename(job: &mut Job, root: &OwnedFd, changed: &mut BTreeSet<String>) -> Result<(), Errno> {
    for _ in 0..ATTEMPTS {
        make_parents(root, &job.target, changed)?;
        match job.file.take_name(root, &job.target) {
            // A delete has pruned the directory between the two calls.
            Err(Errno::NOENT) => {}
            outcome => return outcome,
        }
    }
    Err(Errno::NOENT)
}

/// Makes the directories above `target` and notes those that get another name in them.
fn make_parents(root: &OwnedFd, target: &str, changed: &mut BTreeSet<String>) -> Result<(), Errno> {
    let Some((parent, _)) = target.rsplit_once('/') else { return Ok(()) };
    let mut missing = Vec::new();
    let mut directory = parent;
    loop {
        match rustix::fs::mkdirat(root, directory, Mode::from_raw_mode(0o750)) {
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

/// Makes changed names durable, and with many files or directories everything else, too.
fn sync_names(files: usize, root: &OwnedFd, changed: &mut BTreeSet<String>) -> Result<(), Errno> {
    if files + changed.len() <= ONE_BY_ONE {
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
        // It was pruned, so that no name in it is left to lose.
        Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Makes a directory below `root` if it is not there.
pub(super) fn make_directory(root: &OwnedFd, path: &str) -> Result<(), Errno> {
    match rustix::fs::mkdirat(root, path, Mode::from_raw_mode(0o750)) {
        Err(Errno::EXIST) => Ok(()),
        outcome => outcome,
    }
}
