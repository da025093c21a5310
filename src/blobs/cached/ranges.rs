//! The ranges that are cached, in the order of their last use.

use std::collections::{BTreeSet, HashMap};
use std::num::NonZeroUsize;
use std::ops::Range;
use std::path::PathBuf;

use lru::LruCache;

use crate::blobs::Key;
use crate::blobs::staged::StagedFile;
use crate::telemetry;

/// The most ranges: each takes half a kilobyte of memory.
const MAX_RANGES: NonZeroUsize = NonZeroUsize::new(65_536).expect("it is not 0");

/// The size of a block on disk, of which each file takes whole ones.
const DISK_BLOCK_BYTES: u64 = 4096;

/// Ranges that are no longer cached. Dropping them removes their files.
pub(super) type RemovedRanges = Vec<CachedRange>;

/// The ranges that are cached, those that are being cached, and the objects that are being changed.
#[derive(Debug)]
pub(super) struct CachedRanges {
    max_bytes: u64,
    bytes: u64,
    /// The ranges by object and start, the one used last first.
    ranges: LruCache<(Key, u64), CachedRange>,
    /// The same keys, in order.
    starts: BTreeSet<(Key, u64)>,
    /// Objects that are being changed, with the number of changes.
    changes: HashMap<Key, usize>,
    fills: HashMap<Key, RunningFills>,
}

/// The reads that cache ranges of one object.
#[derive(Debug, Default)]
struct RunningFills {
    count: usize,
    /// Whether the object was changed since these reads began.
    is_stale: bool,
}

/// A range of an object, in a file.
#[derive(Debug)]
pub(super) struct CachedRange {
    end: u64,
    /// Bytes on disk.
    disk_bytes: u64,
    path: PathBuf,
}

impl Drop for CachedRange {
    fn drop(&mut self) {
        // A reader that has opened the file can go on reading. A file that cannot be removed is removed with
        // its directory.
        let _ = rustix::fs::unlink(&self.path);
    }
}

impl CachedRanges {
    pub(super) fn new(max_bytes: u64) -> Self {
        let (changes, fills) = (HashMap::new(), HashMap::new());
        let ranges = LruCache::unbounded();
        Self { max_bytes, bytes: 0, ranges, starts: BTreeSet::new(), changes, fills }
    }

    /// The file that holds a range, and the position in the object where that file starts.
    pub(super) fn find(&mut self, key: &Key, range: &Range<u64>) -> Option<(PathBuf, u64)> {
        let start = self.before(key, range.start)?;
        let cached = self.ranges.get(&start)?;
        (cached.end >= range.end).then(|| (cached.path.clone(), start.1))
    }

    /// Begins to cache a range of an object; `false` if the object is being changed.
    pub(super) fn begin_fill(&mut self, key: &Key) -> bool {
        if self.changes.contains_key(key) {
            return false;
        }
        self.fills.entry(key.clone()).or_default().count += 1;
        true
    }

    /// Caches a range of an object that [`CachedRanges::begin_fill`] was called for, unless it was changed
    /// since.
    pub(super) fn insert(&mut self, key: &Key, range: Range<u64>, file: StagedFile) -> RemovedRanges {
        let mut removed = Vec::new();
        let disk_bytes = (range.end - range.start).next_multiple_of(DISK_BLOCK_BYTES);
        let is_stale = self.fills.get(key).is_none_or(|fills| fills.is_stale);
        let before = self.before(key, range.start).and_then(|start| self.ranges.peek(&start));
        if is_stale || disk_bytes > self.max_bytes || before.is_some_and(|cached| cached.end >= range.end) {
            return removed;
        }
        // Ranges inside the new one are not needed any more.
        let inside: Vec<_> =
            self.starts.range((key.clone(), range.start)..(key.clone(), range.end)).cloned().collect();
        for start in inside {
            if self.ranges.peek(&start).is_some_and(|cached| cached.end <= range.end) {
                removed.extend(self.remove(&start));
            }
        }
        while self.bytes + disk_bytes > self.max_bytes || self.ranges.len() >= MAX_RANGES.get() {
            let Some(oldest) = self.ranges.peek_lru().map(|(start, _)| start.clone()) else { break };
            removed.extend(self.remove(&oldest));
        }
        let start = (key.clone(), range.start);
        let cached = CachedRange { end: range.end, disk_bytes, path: file.into_path() };
        self.bytes += disk_bytes;
        self.starts.insert(start.clone());
        self.ranges.put(start, cached);
        telemetry::cache_holds(self.bytes);
        removed
    }

    /// Ends the fill that [`CachedRanges::begin_fill`] began.
    pub(super) fn end_fill(&mut self, key: &Key) {
        if let Some(fills) = self.fills.get_mut(key) {
            fills.count -= 1;
            if fills.count == 0 {
                self.fills.remove(key);
            }
        }
    }

    /// Evicts an object, of which nothing is cached until the change ends.
    pub(super) fn begin_change(&mut self, key: &Key) -> RemovedRanges {
        *self.changes.entry(key.clone()).or_default() += 1;
        if let Some(fills) = self.fills.get_mut(key) {
            fills.is_stale = true;
        }
        let of_object: Vec<_> =
            self.starts.range((key.clone(), 0)..=(key.clone(), u64::MAX)).cloned().collect();
        let removed = of_object.iter().filter_map(|start| self.remove(start)).collect();
        telemetry::cache_holds(self.bytes);
        removed
    }

    /// Ends the change that [`CachedRanges::begin_change`] began.
    pub(super) fn end_change(&mut self, key: &Key) {
        if let Some(count) = self.changes.get_mut(key) {
            *count -= 1;
            if *count == 0 {
                self.changes.remove(key);
            }
        }
    }

    /// The key of the last range of the object that starts at `start` or before.
    fn before(&self, key: &Key, start: u64) -> Option<(Key, u64)> {
        self.starts.range((key.clone(), 0)..=(key.clone(), start)).next_back().cloned()
    }

    fn remove(&mut self, start: &(Key, u64)) -> Option<CachedRange> {
        self.starts.remove(start);
        let cached = self.ranges.pop(start)?;
        self.bytes -= cached.disk_bytes;
        Some(cached)
    }
}
