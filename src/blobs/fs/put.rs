//! Puts: a staged file gets its name, then its bytes and its name are made durable.
//!
//! A put runs on the thread of its caller, if the caller may block. At most [`Puts::limit`] are carried out
//! at a time; more wait in a queue, and many that wait share one flush of the file system.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;
use tokio::sync::oneshot;

use crate::blobs::fs::Root;
use crate::blobs::staged::StagedFile;
use crate::threads;

/// The puts that wait from which on one flush of the whole file system takes less time than flushes of their
/// files (measured on ext4).
const MANY: usize = 24;
/// The most puts that share a flush.
const MAX_GROUP: usize = 512;
/// Attempts at a rename, each after a deletion has removed the empty directory just before.
const RENAME_ATTEMPTS: usize = 16;

/// The puts of a store.
#[derive(Debug)]
pub(super) struct Puts {
    /// The most puts or groups of puts that are carried out at a time.
    limit: usize,
    queue: Mutex<PutQueue>,
    /// Notified when no put is being carried out any more.
    idle: Condvar,
}

#[derive(Debug, Default)]
struct PutQueue {
    /// The puts or groups of puts that are being carried out.
    running: usize,
    waiting: VecDeque<PendingPut>,
}

/// An object that is waiting to be put.
#[derive(Debug)]
struct PendingPut {
    file: StagedFile,
    /// The object's path below the root.
    target: String,
    done: oneshot::Sender<Result<(), Errno>>,
}

impl Puts {
    /// No puts; at most `limit` at a time.
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, queue: Mutex::default(), idle: Condvar::new() }
    }

    /// Waits until no put is being carried out.
    pub(super) fn wait_until_idle(&self) {
        let queue = self.idle.wait_while(self.queue(), |queue| queue.running > 0);
        drop(queue.unwrap_or_else(PoisonError::into_inner));
    }

    /// Gives back the right to carry out puts.
    fn release(&self, queue: &mut PutQueue) {
        queue.running -= 1;
        if queue.running == 0 {
            self.idle.notify_all();
        }
    }

    fn queue(&self) -> MutexGuard<'_, PutQueue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Puts a file durably under the path `target` below the root. The put goes on if the future is dropped.
pub(super) async fn put(root: &Arc<Root>, file: StagedFile, target: String) -> Result<(), Errno> {
    let (done, outcome) = oneshot::channel();
    if let Some((right, mut put)) = begin(root, PendingPut { file, target, done }) {
        let work = threads::run(move || {
            let outcome = put_one(&right.root, &mut put);
            let _ = put.done.send(outcome);
            right.pass_on();
        });
        // After a panic the channel is closed.
        let _ = work.await;
    }
    // The server is stopping, or a put that ran at the same time panicked.
    outcome.await.unwrap_or(Err(Errno::CANCELED))
}

/// The right to carry out puts.
struct PutRight {
    root: Arc<Root>,
    is_held: bool,
}

/// Takes the right to carry out a put, or adds the put to the queue.
fn begin(root: &Arc<Root>, put: PendingPut) -> Option<(PutRight, PendingPut)> {
    let mut queue = root.puts.queue();
    if queue.running >= root.puts.limit {
        queue.waiting.push_back(put);
        return None;
    }
    queue.running += 1;
    Some((PutRight { root: root.clone(), is_held: true }, put))
}

impl PutRight {
    /// Passes the right on to the puts that wait, if there are any.
    fn pass_on(mut self) {
        if self.is_needed() {
            // A caller that waits for its own put must not wait for others.
            tokio::task::spawn_blocking(move || self.serve());
        }
    }

    /// Carries out the puts that wait, until there are none.
    fn serve(mut self) {
        while self.is_needed() {
            let mut group = self.next_group();
            let outcomes = match group.as_mut_slice() {
                [put] => vec![put_one(&self.root, put)],
                puts => put_many(&self.root, puts),
            };
            for (put, outcome) in group.into_iter().zip(outcomes) {
                // The caller may have stopped waiting; the object stays then, as after a crash.
                let _ = put.done.send(outcome);
            }
        }
    }

    /// Whether puts wait. If there are none, the right is given back: the next put takes it.
    fn is_needed(&mut self) -> bool {
        let mut queue = self.root.puts.queue();
        self.is_held = !queue.waiting.is_empty();
        if !self.is_held {
            self.root.puts.release(&mut queue);
        }
        self.is_held
    }

    /// The next put that waits, or all of them if they are many.
    fn next_group(&self) -> Vec<PendingPut> {
        let waiting = &mut self.root.puts.queue().waiting;
        let count = if waiting.len() >= MANY { waiting.len().min(MAX_GROUP) } else { waiting.len().min(1) };
        waiting.drain(..count).collect()
    }
}

impl Drop for PutRight {
    /// After a panic, or at the end of the runtime: if no other put runs, nothing would carry out the puts
    /// that wait, so that they fail.
    fn drop(&mut self) {
        if self.is_held {
            let mut queue = self.root.puts.queue();
            self.root.puts.release(&mut queue);
            if queue.running == 0 {
                queue.waiting.clear();
            }
        }
    }
}

/// Puts an object with flushes of its own.
///
/// The object gets its name first, so that one flush of the file makes the bytes durable, and where the file
/// system has a journal the name too. A crash before the flush may leave a part of an object under a name
/// that nothing refers to, as the put has not returned. An object that had the name before, and may be
/// referred to, is replaced only by bytes that are durable.
fn put_one(root: &Root, put: &mut PendingPut) -> Result<(), Errno> {
    root.journal().append([put.target.as_str()].into_iter());
    name(root, put)?;
    let outcome = put.file.sync().and_then(|()| root.names.flush(&root.directory, &put.target));
    if outcome.is_err() {
        root.journal().preserve();
    }
    outcome
}

/// Puts objects with one flush of the whole file system.
fn put_many(root: &Root, puts: &mut [PendingPut]) -> Vec<Result<(), Errno>> {
    root.journal().append(puts.iter().map(|put| put.target.as_str()));
    let named: Vec<_> = puts.iter_mut().map(|put| name(root, put)).collect();
    let flushed = root.names.flush_all(&root.directory);
    if flushed.is_err() {
        root.journal().preserve();
    }
    named.into_iter().map(|outcome| outcome.and(flushed)).collect()
}

/// Gives a staged file its name.
fn name(root: &Root, put: &mut PendingPut) -> Result<(), Errno> {
    for _ in 0..RENAME_ATTEMPTS {
        match put.file.rename_into_place(&root.directory, &put.target) {
            // The first object of its directory, or a deletion has just removed the empty directory.
            Err(Errno::NOENT) => root.names.make_parents(&root.directory, &put.target)?,
            outcome => return outcome,
        }
    }
    Err(Errno::NOENT)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;
    use crate::blobs::Blobs;
    use crate::blobs::fs::FileBlobs;

    fn staged(root: &Root, bytes: &[u8]) -> StagedFile {
        let mut file = StagedFile::create(&root.path.join("staging")).unwrap();
        file.append(&mut [std::io::IoSlice::new(bytes)]).unwrap();
        file
    }

    fn names(directory: &Path) -> BTreeSet<String> {
        let entries = std::fs::read_dir(directory).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[tokio::test]
    async fn puts_above_the_limit_wait_and_share_flushes() {
        let directory = tempfile::tempdir().unwrap();
        let blobs = FileBlobs::open(directory.path()).unwrap();
        let root = blobs.root.clone();
        // Rights that are taken keep all puts in the queue.
        root.puts.queue().running = root.puts.limit;
        let count = 3 * MANY;
        let puts: Vec<_> = (0..count)
            .map(|number| {
                let (root, file) = (root.clone(), staged(&root, number.to_string().as_bytes()));
                tokio::spawn(
                    async move { put(&root, file, format!("originals/a/{}/{number}", number % 7)).await },
                )
            })
            .collect();
        while root.puts.queue().waiting.len() < count {
            tokio::task::yield_now().await;
        }
        // One of them ends.
        PutRight { root: root.clone(), is_held: true }.pass_on();
        for put in puts {
            put.await.unwrap().unwrap();
        }
        // The rights that were taken at first.
        for _ in 1..root.puts.limit {
            drop(PutRight { root: root.clone(), is_held: true });
        }
        drop(blobs);
        for number in 0..count {
            let path = directory.path().join(format!("originals/a/{}/{number}", number % 7));
            assert_eq!(std::fs::read_to_string(path).unwrap(), number.to_string());
        }
        assert_eq!(root.puts.queue().running, 0);
    }

    #[tokio::test]
    async fn a_flush_that_fails_is_an_error_of_that_object_and_its_name_stays_in_the_journal() {
        let directory = tempfile::tempdir().unwrap();
        let blobs = FileBlobs::open(directory.path()).unwrap();
        let root = blobs.root.clone();
        // No pipe can be flushed.
        let (unflushable, _writer) = std::io::pipe().unwrap();
        let failing = staged(&root, b"lost").with_descriptor(unflushable.into());
        let (failed, intact) = tokio::join!(
            put(&root, failing, "originals/a/failing".into()),
            put(&root, staged(&root, b"there"), "originals/a/intact".into()),
        );
        assert_eq!((failed, intact), (Err(Errno::INVAL), Ok(())));
        drop((root, blobs));
        let unconfirmed = FileBlobs::open(directory.path()).unwrap().unconfirmed();
        let paths: Vec<_> = unconfirmed.iter().map(|key| key.path.as_str()).collect();
        assert!(paths.contains(&"a/failing"), "{paths:?}");
    }

    #[tokio::test]
    async fn a_put_without_space_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let blobs = FileBlobs::open(directory.path()).unwrap();
        let root = &blobs.root;
        // A name that is too long cannot be given, as one for which there is no space.
        let target = format!("originals/a/{}", "n".repeat(300));
        assert_eq!(put(root, staged(root, b"bytes"), target).await, Err(Errno::NAMETOOLONG));
        assert_eq!(names(&directory.path().join("staging")), BTreeSet::new());
        assert_eq!(put(root, staged(root, b"bytes"), "originals/a/b".into()).await, Ok(()));
    }

    #[tokio::test]
    async fn a_put_into_a_directory_that_was_removed_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let blobs = FileBlobs::open(&directory.path().join("data")).unwrap();
        let file = staged(&blobs.root, b"bytes");
        std::fs::remove_dir_all(directory.path().join("data")).unwrap();
        assert_eq!(put(&blobs.root, file, "originals/a/b".into()).await, Err(Errno::NOENT));
    }

    #[tokio::test]
    async fn a_put_that_panics_fails_those_that_wait_for_it_and_no_later_one() {
        let directory = tempfile::tempdir().unwrap();
        let blobs = FileBlobs::open(directory.path()).unwrap();
        let root = &blobs.root;
        root.puts.queue().running = root.puts.limit;
        let waiting = tokio::spawn({
            let (root, file) = (root.clone(), staged(root, b"bytes"));
            async move { put(&root, file, "originals/waiting".into()).await }
        });
        while root.puts.queue().waiting.is_empty() {
            tokio::task::yield_now().await;
        }
        for _ in 0..root.puts.limit {
            drop(PutRight { root: root.clone(), is_held: true });
        }
        assert_eq!(waiting.await.unwrap(), Err(Errno::CANCELED));
        assert_eq!(put(root, staged(root, b"bytes"), "originals/later".into()).await, Ok(()));
        assert_eq!(root.puts.queue().running, 0);
    }

    #[tokio::test]
    async fn a_put_goes_on_if_its_caller_stops_waiting() {
        let directory = tempfile::tempdir().unwrap();
        let blobs = FileBlobs::open(directory.path()).unwrap();
        let root = blobs.root.clone();
        let mut put = Box::pin(put(&root, staged(&root, b"bytes"), "originals/dropped".into()));
        assert!(futures_util::poll!(put.as_mut()).is_pending());
        drop((put, blobs));
        assert_eq!(std::fs::read(directory.path().join("originals/dropped")).unwrap(), b"bytes");
    }
}
