//! Objects as files: `{root}/{bucket}/{path}`, written in `{root}/staging`.
//!
//! An object's bytes and its name are durable before [`Blobs::put`] returns. A crash before that can leave an
//! object, after a power cut even a part of one, whose `put` never returned: [`Blobs::unconfirmed`] lists it,
//! and another put replaces it.
//!
//! One path must not lie below another (`a` and `a/b`): the first would be a file and a directory.

use std::ops::Range;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use tokio::sync::{mpsc, oneshot};

use crate::blobs::fs::journal::Journal;
use crate::blobs::staged::{StagedData, StagedFile};
use crate::blobs::{Blobs, Bucket, ByteStream, Error, Key, ListedObject, Staged};

mod flush;
#[cfg(test)]
pub(crate) use flush::PANIC_NAME;
mod journal;
pub(super) mod read;
mod walk;

/// The most staged objects in the flusher's queue; more wait in [`Blobs::put`].
const QUEUE_LENGTH: usize = 1024;

/// Objects of this size are flushed before they are queued, so that small ones need not wait for them.
const LARGE_BYTES: u64 = 8 * 1024 * 1024;

/// Objects as files below one directory, which no other process may use at the same time.
#[derive(Debug)]
pub struct FileBlobs {
    root: Arc<Root>,
    flusher: mpsc::Sender<flush::PendingPut>,
    thread: Option<JoinHandle<()>>,
    buffers: Arc<read::Buffers>,
    unconfirmed: Vec<Key>,
    /// The lock on the staging directory, which the kernel releases when the process ends.
    _lock: OwnedFd,
}

/// The directory that holds the buckets.
#[derive(Debug)]
struct Root {
    path: PathBuf,
    directory: OwnedFd,
}

impl FileBlobs {
    /// Opens the store below `root`, which is created if it is not there, and empties its staging directory.
    ///
    /// # Errors
    /// [`Error::Backend`] if the directory cannot be used or another process uses it.
    pub fn open(root: &Path) -> Result<Self, Error> {
        let cannot =
            |error: Errno| Error::from_errno(error, || format!("open the object store {}", root.display()));
        let staging = root.join("staging");
        make_directories(root)
            .and_then(|()| make_directories(&staging))
            .map_err(|error| cannot(Errno::from_io_error(&error).unwrap_or(Errno::IO)))?;
        let lock = open_directory(&staging).map_err(cannot)?;
        rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|error| match error {
            Errno::WOULDBLOCK => Error::Backend {
                operation: format!("open the object store {}", root.display()),
                source: "another process is using it".into(),
            },
            error => cannot(error),
        })?;
        let directory = open_directory(root).map_err(cannot)?;
        for bucket in Bucket::ALL {
            flush::make_directory(&directory, bucket.name()).map_err(cannot)?;
        }
        empty(&staging);
        // The names that a killed process left behind are durable from here on.
        rustix::fs::syncfs(&directory).map_err(cannot)?;

        let root = Arc::new(Root { path: root.to_owned(), directory });
        let (flusher, puts) = mpsc::channel(QUEUE_LENGTH);
        let (journal, unconfirmed) = Journal::open(&root.path);
        let thread = std::thread::Builder::new().name("blobs-flush".into());
        let for_flusher = Arc::clone(&root);
        let thread = thread.spawn(move || flush::run(puts, &for_flusher, journal));
        let thread = thread.map_err(|error| Error::Backend {
            operation: "start the thread that flushes objects".into(),
            source: error.into(),
        })?;
        Ok(Self { root, flusher, thread: Some(thread), buffers: Arc::default(), unconfirmed, _lock: lock })
    }
}

impl Drop for FileBlobs {
    /// Ends the thread before the lock is released: the thread clears the journal, and must not clear that of
    /// the next process.
    fn drop(&mut self) {
        let (closed, _) = mpsc::channel(1);
        drop(std::mem::replace(&mut self.flusher, closed));
        if let Some(thread) = self.thread.take() {
            // After a panic the names stay in the journal, as after a crash.
            let _ = thread.join();
        }
    }
}

#[async_trait]
impl Blobs for FileBlobs {
    async fn stage(&self) -> Result<Staged, Error> {
        let staging = self.root.path.join("staging");
        let file = blocking(move || StagedFile::create(&staging)).await?;
        let file = file.map_err(|error| Error::from_errno(error, || "stage an object".into()))?;
        Ok(Staged::new(StagedData::File(file)))
    }

    async fn put(&self, staged: Staged, key: &Key) -> Result<(), Error> {
        let target = path_of(key)?;
        let is_large = staged.length() >= LARGE_BYTES;
        let StagedData::File(mut file) = staged.into_data() else {
            let operation = format!("put {key}");
            return Err(Error::Backend {
                operation,
                source: "the object was staged in another store".into(),
            });
        };
        if is_large {
            file = blocking(move || file.sync().map(|()| file))
                .await?
                .map_err(|error| Error::from_errno(error, || format!("put {key}")))?;
        }
        let (done, outcome) = oneshot::channel();
        let put = flush::PendingPut { file, target, done };
        self.flusher.send(put).await.map_err(|_| Error::FlusherEnded)?;
        let outcome = outcome.await.map_err(|_| Error::FlusherEnded)?;
        outcome.map_err(|error| Error::from_errno(error, || format!("put {key}")))
    }

    async fn read(&self, key: &Key, range: Range<u64>) -> Result<ByteStream, Error> {
        let file = read::open(&self.root, key).await?;
        if range.start > range.end || range.end > file.size_bytes {
            return Err(Error::OutOfRange { key: key.clone(), range });
        }
        Ok(read::stream(file, key.clone(), range, Arc::clone(&self.buffers)))
    }

    async fn size(&self, key: &Key) -> Result<Option<u64>, Error> {
        match read::open(&self.root, key).await {
            Ok(file) => Ok(Some(file.size_bytes)),
            Err(Error::NotFound(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn delete(&self, key: &Key) -> Result<(), Error> {
        let path = path_of(key)?;
        let root = Arc::clone(&self.root);
        let outcome = blocking(move || delete(&root.directory, &path)).await?;
        outcome.map_err(|error| Error::from_errno(error, || format!("delete {key}")))
    }

    async fn flush(&self) -> Result<(), Error> {
        let root = Arc::clone(&self.root);
        let outcome = blocking(move || rustix::fs::syncfs(&root.directory)).await?;
        outcome.map_err(|error| Error::from_errno(error, || "flush the object store".into()))
    }

    fn health(&self) -> Result<(), Error> {
        // The thread holds the receiver, and ends before `self` only by a panic.
        if self.flusher.is_closed() { Err(Error::FlusherEnded) } else { Ok(()) }
    }

    fn unconfirmed(&self) -> Vec<Key> {
        self.unconfirmed.clone()
    }

    fn list(&self, bucket: Bucket, prefix: &str) -> BoxStream<'static, Result<ListedObject, Error>> {
        walk::list(self.root.path.join(bucket.name()), bucket, prefix.to_owned())
    }
}

/// The object's path below the root.
///
/// Keys are made of checked segments, so that an invalid key is an error in the program. Because an invalid
/// key could reach files outside the store, the segments are checked here again.
fn path_of(key: &Key) -> Result<String, Error> {
    let is_wrong = |segment: &str| matches!(segment, "" | "." | "..") || segment.contains('\0');
    if key.path.split('/').any(is_wrong) {
        return Err(invalid_key(key));
    }
    Ok(key.to_string())
}

/// Removes a file, and the directories that are empty without it.
fn delete(root: &OwnedFd, path: &str) -> Result<(), Errno> {
    match rustix::fs::unlinkat(root, path, AtFlags::empty()) {
        Ok(()) => {}
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
        Err(error) => return Err(error),
    }
    let mut parent = path;
    while let Some((above, _)) = parent.rsplit_once('/') {
        // The bucket itself stays. The loop ends at a directory that is in use again, or gone already.
        if !above.contains('/') || rustix::fs::unlinkat(root, above, AtFlags::REMOVEDIR).is_err() {
            break;
        }
        parent = above;
    }
    Ok(())
}

fn open_directory(path: &Path) -> Result<OwnedFd, Errno> {
    rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// Creates a directory and those above it, for this user alone: the files hold patient data.
fn make_directories(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Removes the files of earlier processes; a file that cannot be removed does no harm.
fn empty(staging: &Path) {
    for entry in std::fs::read_dir(staging).into_iter().flatten().flatten() {
        let _ = std::fs::remove_file(entry.path());
    }
}

/// Runs `work` on a thread that may block.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Error::Backend { operation: "use the file system".into(), source: error.into() })
}

fn invalid_key(key: &Key) -> Error {
    Error::from_errno(Errno::INVAL, || format!("use {key}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blobs::contract::{self, chunks, key, put};

    #[tokio::test(flavor = "multi_thread")]
    async fn the_contract_holds_for_files() {
        let directory = tempfile::tempdir().unwrap();
        contract::check(&FileBlobs::open(directory.path()).unwrap()).await;
    }

    #[tokio::test]
    async fn opening_finds_objects_and_removes_staged_files() {
        let directory = tempfile::tempdir().unwrap();
        let staging = directory.path().join("staging");
        let blobs = FileBlobs::open(directory.path()).unwrap();
        put(&blobs, &key("a/b"), b"bytes").await;
        let Err(error) = FileBlobs::open(directory.path()) else { panic!("a second open must fail") };
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        assert_eq!(cause.as_deref(), Some("another process is using it"));
        drop(blobs);
        // A staged file that a killed process left behind.
        std::fs::write(staging.join("17"), b"staged").unwrap();
        let blobs = FileBlobs::open(directory.path()).unwrap();
        assert_eq!(std::fs::read_dir(&staging).unwrap().count(), 0);
        assert_eq!(chunks(&blobs, &key("a/b"), 0..5).await.unwrap().concat(), b"bytes");
    }

    #[tokio::test]
    async fn a_deletion_removes_empty_directories_up_to_the_bucket() {
        let directory = tempfile::tempdir().unwrap();
        let blobs = FileBlobs::open(directory.path()).unwrap();
        put(&blobs, &key("a/b/c/d"), b"x").await;
        put(&blobs, &key("a/e"), b"x").await;
        let originals = directory.path().join("originals");
        blobs.delete(&key("a/b/c/d")).await.unwrap();
        assert!(!originals.join("a/b").exists() && originals.join("a/e").exists());
        blobs.delete(&key("a/e")).await.unwrap();
        assert!(!originals.join("a").exists() && originals.exists());
    }

    #[tokio::test]
    async fn a_panic_of_the_flusher_is_an_error_of_its_own_until_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let blobs = FileBlobs::open(directory.path()).unwrap();
        put(&blobs, &key("before"), b"bytes").await;
        blobs.health().unwrap();
        for path in [flush::PANIC_NAME, "after"] {
            let outcome = blobs.put(blobs.stage().await.unwrap(), &key(path)).await;
            assert!(matches!(outcome, Err(Error::FlusherEnded)), "{path}: {outcome:?}");
            assert!(matches!(blobs.health(), Err(Error::FlusherEnded)), "{path}");
        }
        assert_eq!(chunks(&blobs, &key("before"), 0..5).await.unwrap().concat(), b"bytes", "reads go on");
        drop(blobs);
        let blobs = FileBlobs::open(directory.path()).unwrap();
        blobs.health().unwrap();
        assert!(
            blobs.unconfirmed().contains(&key("before")),
            "the names stay in the journal, as after a crash"
        );
        put(&blobs, &key("after"), b"bytes").await;
    }

    #[tokio::test]
    async fn no_key_and_no_link_leads_out_of_the_store() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("root");
        let blobs = FileBlobs::open(&root).unwrap();
        std::fs::write(directory.path().join("secret"), b"x").unwrap();
        std::os::unix::fs::symlink("../../secret", root.join("originals/link")).unwrap();
        assert!(matches!(blobs.size(&key("link")).await, Ok(None)));
        for path in ["../../secret", "a/../../../secret", "/etc/passwd", "", "a//b", ".", "a\0b"] {
            let key = key(path);
            assert!(blobs.read(&key, 0..1).await.is_err(), "{path:?}");
            assert!(blobs.delete(&key).await.is_err(), "{path:?}");
            assert!(blobs.put(blobs.stage().await.unwrap(), &key).await.is_err(), "{path:?}");
        }
        assert!(directory.path().join("secret").exists());
    }
}
