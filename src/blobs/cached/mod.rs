//! A cache on the local disk over a remote store: ranges of originals that were read are copied to files, for
//! later reads of the same range or a part of it.
//!
//! Only originals are cached, because the bytes under their keys never change. An object that is deleted or
//! replaced through this store is evicted at once. An object that another node deletes may be served until it
//! is evicted; but a reader finds an object in the index first, and a deletion begins there.

use std::io::IoSlice;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use rustix::fs::{Mode, OFlags};

use crate::blobs::cached::ranges::{CachedRanges, RemovedRanges};
use crate::blobs::fs::read::{self, Buffers, OpenFile};
use crate::blobs::scratch::Scratch;
use crate::blobs::staged::StagedFile;
use crate::blobs::{Blobs, Bucket, ByteStream, CHUNK_BYTES, Error, Key, ListedObject, Staged};
use crate::telemetry;

mod ranges;

/// The largest range that is cached: a few frames, or a whole instance of one frame. A larger range would
/// evict too many others.
const MAX_RANGE_BYTES: u64 = 16 * 1024 * 1024;

/// Another store, with a cache of the ranges that were read from it.
pub struct CachedBlobs {
    inner: Arc<dyn Blobs>,
    cache: Arc<Cache>,
}

struct Cache {
    scratch: Scratch,
    max_range_bytes: u64,
    ranges: Mutex<CachedRanges>,
    buffers: Arc<Buffers>,
}

impl CachedBlobs {
    /// Opens an empty cache of at most `max_bytes` in a directory below `directory`; it ends with the
    /// process.
    ///
    /// # Errors
    /// [`Error::Backend`] if the directory cannot be used.
    pub fn open(inner: Arc<dyn Blobs>, directory: &Path, max_bytes: u64) -> Result<Self, Error> {
        let scratch = Scratch::create(directory).map_err(|error| Error::Backend {
            operation: format!("use the directory {}", directory.display()),
            source: error.into(),
        })?;
        let ranges = Mutex::new(CachedRanges::new(max_bytes));
        let max_range_bytes = MAX_RANGE_BYTES.min(max_bytes);
        Ok(Self {
            inner,
            cache: Arc::new(Cache { scratch, max_range_bytes, ranges, buffers: Arc::default() }),
        })
    }
}

#[async_trait]
impl Blobs for CachedBlobs {
    async fn stage(&self) -> Result<Staged, Error> {
        self.inner.stage().await
    }

    async fn put(&self, staged: Staged, key: &Key) -> Result<(), Error> {
        let _change = ObjectChange::begin(&self.cache, key).await;
        self.inner.put(staged, key).await
    }

    async fn read(&self, key: &Key, range: Range<u64>) -> Result<ByteStream, Error> {
        let length = range.end.saturating_sub(range.start);
        if key.bucket != Bucket::Originals || length == 0 || length > self.cache.max_range_bytes {
            return self.inner.read(key, range).await;
        }
        if let Some(stream) = self.cache.read(key, &range).await {
            telemetry::cache_read("hit");
            return Ok(stream);
        }
        telemetry::cache_read("miss");
        // Before the bytes are read, so that a change of the object from here on is noticed.
        let fill = Fill::begin(&self.cache, key);
        let bytes = self.inner.read(key, range.clone()).await?;
        match fill {
            Some(fill) => Ok(fill.stream(bytes, range).await),
            None => Ok(bytes),
        }
    }

    async fn read_uncached(&self, key: &Key, range: Range<u64>) -> Result<ByteStream, Error> {
        self.inner.read_uncached(key, range).await
    }

    async fn size(&self, key: &Key) -> Result<Option<u64>, Error> {
        self.inner.size(key).await
    }

    async fn delete(&self, key: &Key) -> Result<(), Error> {
        let _change = ObjectChange::begin(&self.cache, key).await;
        self.inner.delete(key).await
    }

    async fn evict(&self, key: &Key) {
        let _change = ObjectChange::begin(&self.cache, key).await;
    }

    async fn flush(&self) -> Result<(), Error> {
        self.inner.flush().await
    }

    fn unconfirmed(&self) -> Vec<Key> {
        self.inner.unconfirmed()
    }

    fn list(&self, bucket: Bucket, prefix: &str) -> BoxStream<'static, Result<ListedObject, Error>> {
        self.inner.list(bucket, prefix)
    }
}

impl Cache {
    fn ranges(&self) -> MutexGuard<'_, CachedRanges> {
        self.ranges.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The bytes of a range, if they are cached.
    async fn read(&self, key: &Key, range: &Range<u64>) -> Option<ByteStream> {
        let (path, start) = self.ranges().find(key, range)?;
        let opened = blocking(move || open(&path)).await??;
        let within = range.start - start..range.end - start;
        // If the file was damaged, the object can still be read from the inner store.
        if opened.size_bytes < within.end {
            return None;
        }
        Some(read::stream(opened, key.clone(), within, Arc::clone(&self.buffers)))
    }
}

/// Opens a file of the cache; `None` if it has just been evicted.
fn open(path: &Path) -> Option<OpenFile> {
    let file = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let size_bytes = rustix::fs::fstat(&file).ok()?.st_size.try_into().ok()?;
    Some(OpenFile { file, size_bytes })
}

/// Removes files on a thread that may block.
async fn remove(removed: RemovedRanges) {
    if !removed.is_empty() {
        blocking(move || drop(removed)).await;
    }
}

/// Runs `work` on a thread that may block; `None` if the process is ending.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    tokio::task::spawn_blocking(work).await.ok()
}

/// A replacement or deletion of an object, of which nothing is cached until this is dropped.
struct ObjectChange<'a> {
    cache: &'a Cache,
    key: &'a Key,
}

impl<'a> ObjectChange<'a> {
    async fn begin(cache: &'a Cache, key: &'a Key) -> Self {
        let removed = cache.ranges().begin_change(key);
        let change = Self { cache, key };
        remove(removed).await;
        change
    }
}

impl Drop for ObjectChange<'_> {
    fn drop(&mut self) {
        self.cache.ranges().end_change(self.key);
    }
}

/// A range that is being read and cached.
struct Fill {
    cache: Arc<Cache>,
    key: Key,
}

impl Fill {
    /// Begins to cache a range; `None` if the object is being changed, as its bytes are not cached then.
    fn begin(cache: &Arc<Cache>, key: &Key) -> Option<Self> {
        let begun = cache.ranges().begin_fill(key);
        begun.then(|| Self { cache: Arc::clone(cache), key: key.clone() })
    }

    /// Passes bytes on, and caches the range when all its bytes were read.
    async fn stream(self, bytes: ByteStream, range: Range<u64>) -> ByteStream {
        let path = self.cache.scratch.path().to_owned();
        let Some(Ok(file)) = blocking(move || StagedFile::create(&path)).await else { return bytes };
        let left = range.end - range.start;
        let copy = RangeCopy { fill: self, file, range, batch: Vec::new(), batch_bytes: 0, left };
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
        self.cache.ranges().end_fill(&self.key);
    }
}

/// The copy of a range to a file, while the range is read.
struct RangeCopy {
    fill: Fill,
    file: StagedFile,
    range: Range<u64>,
    /// Chunks that are not written yet: one write of many chunks is cheaper.
    batch: Vec<Bytes>,
    batch_bytes: usize,
    /// Bytes that were not read yet.
    left: u64,
}

impl RangeCopy {
    /// Adds the next chunk; `None` when the range is complete, or cannot be cached.
    async fn add(mut self, chunk: Bytes) -> Option<Self> {
        self.left = self.left.checked_sub(chunk.len() as u64)?;
        self.batch_bytes += chunk.len();
        self.batch.push(chunk);
        if self.left > 0 && self.batch_bytes < CHUNK_BYTES {
            return Some(self);
        }
        // A full or broken disk must not end the read.
        let copy = blocking(move || self.write().then_some(self)).await??;
        if copy.left > 0 {
            return Some(copy);
        }
        blocking(move || copy.finish()).await;
        None
    }

    fn write(&mut self) -> bool {
        self.batch_bytes = 0;
        self.batch.drain(..).all(|chunk| self.file.append(&mut [IoSlice::new(&chunk)]).is_ok())
    }

    fn finish(self) {
        let Self { fill, file, range, .. } = self;
        let mut ranges = fill.cache.ranges();
        let removed = ranges.insert(&fill.key, range, file);
        drop(ranges);
        drop(removed);
    }
}

#[cfg(test)]
mod tests;
