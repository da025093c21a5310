//! A cache on this machine's disk over objects that are elsewhere: ranges of originals that were read are kept in files,
//! for the next who read them or a part of them.
//!
//! Only originals are cached, because a key of theirs never has other bytes than it had. What is deleted or replaced through
//! this is forgotten at once. What another node deletes may be served until it gives way to others; but who reads an object has
//! found it in the index before, and a deletion begins there.

use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use rustix::fs::{Mode, OFlags};

use crate::blobs::cached::pieces::{Pieces, Removed};
use crate::blobs::fs::read::{self, Buffers, OpenFile};
use crate::blobs::scratch::Scratch;
use crate::blobs::staged::StagedFile;
use crate::blobs::{Blobs, Bucket, ByteStream, CHUNK_BYTES, Entry, Error, Key, Staged};
use crate::telemetry;

mod pieces;

/// The largest range that is cached: a few frames, or a whole instance of one. Larger ones would push out too many others.
const MAX_PIECE_BYTES: u64 = 16 * 1024 * 1024;

/// Other objects, with a cache of what was read of them.
pub struct CachedBlobs {
    inner: Arc<dyn Blobs>,
    cache: Arc<Cache>,
}

struct Cache {
    scratch: Scratch,
    max_piece_bytes: u64,
    pieces: Mutex<Pieces>,
    buffers: Arc<Buffers>,
}

impl CachedBlobs {
    /// A cache of at most `max_bytes` in a directory below `directory`; it is empty and ends with the process.
    ///
    /// # Errors
    /// [`Error::Backend`] if the directory cannot be used.
    pub fn open(inner: Arc<dyn Blobs>, directory: &Path, max_bytes: u64) -> Result<Self, Error> {
        let scratch = Scratch::make(directory).map_err(|error| Error::Backend {
            operation: format!("use the directory {}", directory.display()),
            source: error.into(),
        })?;
        let pieces = Mutex::new(Pieces::new(max_bytes));
        let max_piece_bytes = MAX_PIECE_BYTES.min(max_bytes);
        Ok(Self {
            inner,
            cache: Arc::new(Cache { scratch, max_piece_bytes, pieces, buffers: Arc::default() }),
        })
    }
}

#[async_trait]
impl Blobs for CachedBlobs {
    async fn stage(&self) -> Result<Staged, Error> {
        self.inner.stage().await
    }

    async fn keep(&self, staged: Staged, key: &Key) -> Result<(), Error> {
        let _change = Change::begin(&self.cache, key).await;
        self.inner.keep(staged, key).await
    }

    async fn read(&self, key: &Key, range: Range<u64>) -> Result<ByteStream, Error> {
        let length = range.end.saturating_sub(range.start);
        if key.bucket != Bucket::Originals || length == 0 || length > self.cache.max_piece_bytes {
            return self.inner.read(key, range).await;
        }
        if let Some(stream) = self.cache.read(key, &range).await {
            telemetry::cache_read("hit");
            return Ok(stream);
        }
        telemetry::cache_read("miss");
        // Before the bytes are asked for: what changes from here on is noticed.
        let fill = Fill::begin(&self.cache, key);
        let bytes = self.inner.read(key, range.clone()).await?;
        match fill {
            Some(fill) => Ok(fill.stream(bytes, range).await),
            None => Ok(bytes),
        }
    }

    async fn size(&self, key: &Key) -> Result<Option<u64>, Error> {
        self.inner.size(key).await
    }

    async fn delete(&self, key: &Key) -> Result<(), Error> {
        let _change = Change::begin(&self.cache, key).await;
        self.inner.delete(key).await
    }

    async fn flush(&self) -> Result<(), Error> {
        self.inner.flush().await
    }

    fn unsettled(&self) -> Vec<Key> {
        self.inner.unsettled()
    }

    fn list(&self, bucket: Bucket, prefix: &str) -> BoxStream<'static, Result<Entry, Error>> {
        self.inner.list(bucket, prefix)
    }
}

impl Cache {
    fn pieces(&self) -> MutexGuard<'_, Pieces> {
        self.pieces.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The bytes of a range, if they are here.
    async fn read(&self, key: &Key, range: &Range<u64>) -> Option<ByteStream> {
        let (path, start) = self.pieces().find(key, range)?;
        let opened = blocking(move || open(&path)).await??;
        let within = range.start - start..range.end - start;
        // Whatever has become of the file, the object is still where it was.
        if opened.size_bytes < within.end {
            return None;
        }
        Some(read::stream(opened, key.clone(), within, Arc::clone(&self.buffers)))
    }
}

/// Opens a file of the cache; `None` if it has just given way to others.
fn open(path: &Path) -> Option<OpenFile> {
    let file = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let size_bytes = rustix::fs::fstat(&file).ok()?.st_size.try_into().ok()?;
    Some(OpenFile { file, size_bytes })
}

/// Removes the files, on a thread that may block.
async fn remove(removed: Removed) {
    if !removed.is_empty() {
        blocking(move || drop(removed)).await;
    }
}

/// Runs `work` on a thread that may block; `None` if the process is ending.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    tokio::task::spawn_blocking(work).await.ok()
}

/// An object that is being replaced or deleted: it is not in the cache, and nothing of it is cached until this is dropped.
struct Change<'a> {
    cache: &'a Cache,
    key: &'a Key,
}

impl<'a> Change<'a> {
    async fn begin(cache: &'a Cache, key: &'a Key) -> Self {
        let removed = cache.pieces().begin_change(key);
        let change = Self { cache, key };
        remove(removed).await;
        change
    }
}

impl Drop for Change<'_> {
    fn drop(&mut self) {
        self.cache.pieces().end_change(self.key);
    }
}

/// A range that is being read and cached.
struct Fill {
    cache: Arc<Cache>,
    key: Key,
}

impl Fill {
    /// `None` where the object is being changed: its bytes are not cached.
    fn begin(cache: &Arc<Cache>, key: &Key) -> Option<Self> {
        let begun = cache.pieces().begin_fill(key);
        begun.then(|| Self { cache: Arc::clone(cache), key: key.clone() })
    }

    /// Passes bytes on, and caches them when all have come.
    async fn stream(self, bytes: ByteStream, range: Range<u64>) -> ByteStream {
        let path = self.cache.scratch.path().to_owned();
        let Some(Ok(file)) = blocking(move || StagedFile::create(&path)).await else { return bytes };
        let left = range.end - range.start;
        let copy = Copy { fill: self, file, range, batch: Vec::new(), batch_bytes: 0, left };
        let copied = stream::unfold((bytes, Some(copy)), |(mut bytes, copy)| async move {
            let chunk = bytes.next().await?;
            let copy = match (&chunk, copy) {
                (Ok(chunk), Some(copy)) => copy.add(chunk.clone()).await,
                _ => None,
            };
            Some((chunk, (bytes, copy)))
        });
        copied.boxed()
    }
}

impl Drop for Fill {
    fn drop(&mut self) {
        self.cache.pieces().end_fill(&self.key);
    }
}

/// What has come of a range.
struct Copy {
    fill: Fill,
    file: StagedFile,
    range: Range<u64>,
    /// Chunks that are not written yet: one write of many is cheaper.
    batch: Vec<Bytes>,
    batch_bytes: usize,
    /// Bytes to come.
    left: u64,
}

impl Copy {
    /// Takes the next chunk; `None` when the range is complete, or cannot be cached.
    async fn add(mut self, chunk: Bytes) -> Option<Self> {
        self.left = self.left.checked_sub(chunk.len() as u64)?;
        self.batch_bytes += chunk.len();
        self.batch.push(chunk);
        if self.left > 0 && self.batch_bytes < CHUNK_BYTES {
            return Some(self);
        }
        // A disk that is full or broken is no reason not to read on.
        let copy = blocking(move || self.write().then_some(self)).await??;
        if copy.left > 0 {
            return Some(copy);
        }
        blocking(move || copy.finish()).await;
        None
    }

    fn write(&mut self) -> bool {
        self.batch_bytes = 0;
        self.batch.drain(..).all(|chunk| self.file.append(&chunk).is_ok())
    }

    fn finish(self) {
        let Self { fill, file, range, .. } = self;
        let mut pieces = fill.cache.pieces();
        let removed = pieces.insert(&fill.key, range, file);
        drop(pieces);
        drop(removed);
    }
}

#[cfg(test)]
mod tests;
