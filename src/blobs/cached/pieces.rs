//! Which ranges of which objects are cached, and which gives way to others.

use std::collections::{BTreeSet, HashMap};
use std::num::NonZeroUsize;
use std::ops::Range;
use std::path::PathBuf;

use lru::LruCache;

use crate::blobs::Key;
use crate::blobs::staged::StagedFile;
use crate::telemetry;

/// Pieces at the most: each takes half a kilobyte of memory.
const MAX_PIECES: NonZeroUsize = NonZeroUsize::new(65_536).expect("it is not 0");

/// What a file takes on disk is a multiple of this.
const DISK_BLOCK_BYTES: u64 = 4096;

/// Pieces that are cached no more. Dropping them removes their files.
pub(super) type Removed = Vec<Piece>;

/// The ranges that are cached, those that are being cached, and the objects that are being changed.
#[derive(Debug)]
pub(super) struct Pieces {
    max_bytes: u64,
    bytes: u64,
    /// By object and start, the one used last first.
    pieces: LruCache<(Key, u64), Piece>,
    /// The same, in order.
    starts: BTreeSet<(Key, u64)>,
    /// Objects that are being changed, and by how many.
    changes: HashMap<Key, usize>,
    fills: HashMap<Key, Fills>,
}

/// Those who are caching ranges of one object.
#[derive(Debug, Default)]
struct Fills {
    count: usize,
    /// Whether the object was changed since they began.
    is_stale: bool,
}

/// A range of an object, in a file.
#[derive(Debug)]
pub(super) struct Piece {
    end: u64,
    /// Bytes that it takes on disk.
    disk_bytes: u64,
    path: PathBuf,
}

impl Drop for Piece {
    fn drop(&mut self) {
        // Who reads it goes on reading. What cannot be removed goes with the directory.
        let _ = rustix::fs::unlink(&self.path);
    }
}

impl Pieces {
    pub(super) fn new(max_bytes: u64) -> Self {
        let (changes, fills) = (HashMap::new(), HashMap::new());
        let pieces = LruCache::unbounded();
        Self { max_bytes, bytes: 0, pieces, starts: BTreeSet::new(), changes, fills }
    }

    /// The file that holds a range, and the place in the object where that file starts.
    pub(super) fn find(&mut self, key: &Key, range: &Range<u64>) -> Option<(PathBuf, u64)> {
        let place = self.before(key, range.start)?;
        let piece = self.pieces.get(&place)?;
        (piece.end >= range.end).then(|| (piece.path.clone(), place.1))
    }

    /// Notes that somebody caches a range of the object, unless it is being changed.
    pub(super) fn begin_fill(&mut self, key: &Key) -> bool {
        if self.changes.contains_key(key) {
            return false;
        }
        self.fills.entry(key.clone()).or_default().count += 1;
        true
    }

    /// Caches a range of an object that [`Pieces::begin_fill`] was called for, unless it was changed since.
    pub(super) fn insert(&mut self, key: &Key, range: Range<u64>, file: StagedFile) -> Removed {
        let mut removed = Vec::new();
        let disk_bytes = (range.end - range.start).next_multiple_of(DISK_BLOCK_BYTES);
        let is_stale = self.fills.get(key).is_none_or(|fills| fills.is_stale);
        let is_known = self.before(key, range.start).and_then(|place| self.pieces.peek(&place));
        if is_stale || disk_bytes > self.max_bytes || is_known.is_some_and(|piece| piece.end >= range.end) {
            return removed;
        }
        // What lies in it is not needed any more.
        let inside: Vec<_> =
            self.starts.range((key.clone(), range.start)..(key.clone(), range.end)).cloned().collect();
        for place in inside {
            if self.pieces.peek(&place).is_some_and(|piece| piece.end <= range.end) {
                removed.extend(self.remove(&place));
            }
        }
        while self.bytes + disk_bytes > self.max_bytes || self.pieces.len() >= MAX_PIECES.get() {
            let Some(place) = self.pieces.peek_lru().map(|(place, _)| place.clone()) else { break };
            removed.extend(self.remove(&place));
        }
        let place = (key.clone(), range.start);
        let piece = Piece { end: range.end, disk_bytes, path: file.into_path() };
        self.bytes += disk_bytes;
        self.starts.insert(place.clone());
        self.pieces.put(place, piece);
        telemetry::cache_holds(self.bytes);
        removed
    }

    /// Ends what [`Pieces::begin_fill`] began.
    pub(super) fn end_fill(&mut self, key: &Key) {
        if let Some(fills) = self.fills.get_mut(key) {
            fills.count -= 1;
            if fills.count == 0 {
                self.fills.remove(key);
            }
        }
    }

    /// Forgets an object, and caches nothing of it until the change ends.
    pub(super) fn begin_change(&mut self, key: &Key) -> Removed {
        *self.changes.entry(key.clone()).or_default() += 1;
        if let Some(fills) = self.fills.get_mut(key) {
            fills.is_stale = true;
        }
        let of_object: Vec<_> =
            self.starts.range((key.clone(), 0)..=(key.clone(), u64::MAX)).cloned().collect();
        let removed = of_object.iter().filter_map(|place| self.remove(place)).collect();
        telemetry::cache_holds(self.bytes);
        removed
    }

    /// Ends what [`Pieces::begin_change`] began.
    pub(super) fn end_change(&mut self, key: &Key) {
        if let Some(count) = self.changes.get_mut(key) {
            *count -= 1;
            if *count == 0 {
                self.changes.remove(key);
            }
        }
    }

    /// The last piece of the object that starts at `start` or before.
    fn before(&self, key: &Key, start: u64) -> Option<(Key, u64)> {
        self.starts.range((key.clone(), 0)..=(key.clone(), start)).next_back().cloned()
    }

    fn remove(&mut self, place: &(Key, u64)) -> Option<Piece> {
        self.starts.remove(place);
        let piece = self.pieces.pop(place)?;
        self.bytes -= piece.disk_bytes;
        Some(piece)
    }
}
