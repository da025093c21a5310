//! Objects as files: `{root}/{bucket}/{path}`, written in `{root}/staging`.
//!
//! An object's bytes and its name are durable before [`Blobs::put`] returns. A crash before that can leave an
//! object, after a power cut even a part of one, whose `put` never returned: [`Blobs::unconfirmed`] lists it,
//! and another put replaces it.
//!
//! One path must not lie below another (`a` and `a/b`): the first would be a file and a directory.

use std::num::NonZero;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::available_parallelism;

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use crate::blobs::fs::journal::Journal;
use crate::blobs::fs::names::Names;
use crate::blobs::fs::put::Puts;
use crate::blobs::staged::{Spill, StagedData};
use crate::blobs::{Blobs, Bucket, ByteStream, Error, Key, ListedObject, Staged};
use crate::threads;

mod journal;
mod names;
mod put;
pub(super) mod read;
mod walk;

/// The most puts at a time for each core: they wait for the disk most of the time.
const PUTS_PER_CORE: usize = 4;

/// The reason why a directory cannot be opened, for people.
const IN_USE: &str = "another process is using it, perhaps a running server: stop that first; a running server takes files \
                      by its web page, STOW-RS and C-STORE";

/// Objects as files below one directory, which no other process may use at the same time.
#[derive(Debug)]
pub struct FileBlobs {
    root: Arc<Root>,
    buffers: Arc<read::Buffers>,
    unconfirmed: Vec<Key>,
}

/// The directory that holds the buckets.
#[derive(Debug)]
struct Root {
    path: PathBuf,
    directory: OwnedFd,
    puts: Puts,
    names: Names,
    journal: Mutex<Journal>,
    /// The locked staging directory. The kernel releases the lock when the process ends.
    lock: OwnedFd,
}

impl Root {
    fn journal(&self) -> MutexGuard<'_, Journal> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for FileBlobs {
    /// Waits for the puts that are under way, whose callers may have stopped waiting. Clears the journal
    /// before the lock is released: the next process begins its own then.
    fn drop(&mut self) {
        self.root.puts.wait_until_idle();
        self.root.journal().clear();
        // If this fails, the lock is released with its descriptor.
        let _ = rustix::fs::flock(&self.root.lock, FlockOperation::Unlock);
    }
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
                source: IN_USE.into(),
            },
            error => cannot(error),
        })?;
        let directory = open_directory(root).map_err(cannot)?;
        for bucket in Bucket::ALL {
            names::make_directory(&directory, bucket.name()).map_err(cannot)?;
        }
        empty(&staging);
        // The names that a killed process left behind are durable from here on.
        rustix::fs::syncfs(&directory).map_err(cannot)?;

        let (journal, unconfirmed) = Journal::open(root);
        let cores = available_parallelism().map_or(1, NonZero::get);
        let root = Root {
            path: root.to_owned(),
            directory,
            puts: Puts::new(PUTS_PER_CORE * cores),
            names: Names::default(),
            journal: Mutex::new(journal),
            lock,
        };
        Ok(Self { root: Arc::new(root), buffers: Arc::default(), unconfirmed })
    }
}

#[async_trait]
impl Blobs for FileBlobs {
    async fn stage(&self) -> Result<Staged, Error> {
        // The file is created with the first bytes, by a thread that may block.
        let spill = Spill { max_memory_bytes: 0, directory: self.root.path.join("staging") };
        Ok(Staged::new(StagedData::Growing(Vec::new(), spill)))
    }

    async fn put(&self, staged: Staged, key: &Key) -> Result<(), Error> {
        let target = path_of(key)?;
        let cannot = |error| Error::from_errno(error, || format!("put {key}"));
        let file = match staged.into_data() {
            StagedData::File(file) => file,
            StagedData::Growing(bytes, spill) => {
                blocking(move || spill.file(&bytes)).await?.map_err(cannot)?
            }
            StagedData::Memory(_) | StagedData::Shared(_) => {
                let operation = format!("put {key}");
                return Err(Error::Backend {
                    operation,
                    source: "the object was staged in another store".into(),
                });
            }
        };
        put::put(&self.root, file, target).await.map_err(cannot)
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

/// Does `work` on a thread that may block.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
    threads::run(work)
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
        assert_eq!(cause.as_deref(), Some(IN_USE));
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
