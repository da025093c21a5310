//! The cache of derived objects: at most `derived.cache_max_bytes`, of which those used least recently are
//! evicted first.

use std::sync::{Mutex, MutexGuard, PoisonError};

use futures_util::TryStreamExt;
use lru::LruCache;
use tracing::warn;

use crate::archive::access::Caller;
use crate::archive::derived;
use crate::archive::scope::Scope;
use crate::archive::{Archive, Error};
use crate::blobs::{Bucket, Key, Staged};

/// The objects of the cache, as far as this process has used them.
#[derive(Debug)]
pub(in crate::archive) struct DerivedCache {
    max_bytes: u64,
    contents: Mutex<Contents>,
}

#[derive(Debug)]
struct Contents {
    total_bytes: u64,
    objects: LruCache<Key, CachedObject>,
}

/// A derived object in the cache.
#[derive(Debug, Clone, Copy)]
struct CachedObject {
    size_bytes: u64,
    /// The place of the Basic Offset Table of its frames, if that is known.
    table_at: Option<u64>,
    /// Whether the object was looked through for its table, and has none.
    has_no_table: bool,
}

impl CachedObject {
    fn new(size_bytes: u64, table_at: Option<u64>) -> Self {
        Self { size_bytes, table_at, has_no_table: false }
    }
}

impl DerivedCache {
    /// An empty cache, of at most `max_bytes` or one object that is larger.
    pub(in crate::archive) fn new(max_bytes: u64) -> Self {
        let contents = Contents { total_bytes: 0, objects: LruCache::unbounded() };
        Self { max_bytes, contents: Mutex::new(contents) }
    }

    /// Adds an object as the one used last. Returns the keys of the objects that are to be evicted.
    fn add(&self, key: Key, object: CachedObject) -> Vec<Key> {
        let mut contents = self.contents();
        contents.remove(&key);
        contents.total_bytes += object.size_bytes;
        contents.objects.put(key, object);
        let mut evicted = Vec::new();
        while contents.total_bytes > self.max_bytes && contents.objects.len() > 1 {
            let Some((key, object)) = contents.objects.pop_lru() else { break };
            contents.total_bytes -= object.size_bytes;
            evicted.push(key);
        }
        evicted
    }

    /// Returns an object, and makes this object the one used last.
    fn get(&self, key: &Key) -> Option<CachedObject> {
        self.contents().objects.get(key).copied()
    }

    /// The size of an object in bytes, if this process has used the object.
    pub(in crate::archive) fn size_of(&self, key: &Key) -> Option<u64> {
        Some(self.get(key)?.size_bytes)
    }

    /// The place of the Basic Offset Table of an object, if this process has used the object and the object
    /// has a table.
    pub(in crate::archive) fn frame_table(&self, key: &Key) -> Option<u64> {
        self.get(key)?.table_at
    }

    /// Whether an object was looked through for its Basic Offset Table, and has none.
    pub(in crate::archive) fn has_no_table(&self, key: &Key) -> bool {
        self.get(key).is_some_and(|object| object.has_no_table)
    }

    /// Sets the place of the Basic Offset Table of an object, after a look through the object.
    pub(in crate::archive) fn set_frame_table(&self, key: &Key, table_at: Option<u64>) {
        if let Some(object) = self.contents().objects.get_mut(key) {
            (object.table_at, object.has_no_table) = (table_at, table_at.is_none());
        }
    }

    /// Removes an object that is not in the blob store.
    pub(in crate::archive) fn remove(&self, key: &Key) {
        self.contents().remove(key);
    }

    /// Removes the objects below a prefix, which were deleted.
    pub(in crate::archive) fn remove_below(&self, prefix: &str) {
        let mut contents = self.contents();
        let objects = contents.objects.iter();
        let below: Vec<Key> =
            objects.map(|(key, _)| key).filter(|key| key.path.starts_with(prefix)).cloned().collect();
        for key in &below {
            contents.remove(key);
        }
    }

    fn contents(&self) -> MutexGuard<'_, Contents> {
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Contents {
    fn remove(&mut self, key: &Key) -> Option<CachedObject> {
        let object = self.objects.pop(key)?;
        self.total_bytes -= object.size_bytes;
        Some(object)
    }
}

/// Reads which objects earlier processes left in the cache, and evicts the oldest beyond the limit. Recovery
/// has deleted those that may be incomplete before.
///
/// # Errors
/// If the objects cannot be listed.
pub async fn sweep(archive: &Archive) -> Result<(), Error> {
    let mut entries: Vec<_> = archive.blobs.list(Bucket::Temporary, "").try_collect().await?;
    entries.sort_by_key(|entry| entry.modified_at);
    for entry in entries {
        let object = CachedObject::new(entry.size_bytes, None);
        evict(archive, archive.cache.add(entry.key, object)).await;
    }
    Ok(())
}

/// Returns the size in bytes of an object, if the object is in the cache; the object then is the one used
/// last.
pub(in crate::archive) async fn find(archive: &Archive, key: &Key) -> Result<Option<u64>, Error> {
    let size_bytes = archive.blobs.size(key).await?;
    let known = archive.cache.contents().remove(key);
    if let Some(size_bytes) = size_bytes {
        let object = CachedObject { size_bytes, ..known.unwrap_or(CachedObject::new(size_bytes, None)) };
        evict(archive, archive.cache.add(key.clone(), object)).await;
    }
    Ok(size_bytes)
}

/// Puts an object that was derived from a series or an instance into the cache, and evicts others to stay
/// within the limit. `version` is the result of [`Archive::version`] before the object was derived.
/// `table_at` is the place of the Basic Offset Table of its frames, if the object has one.
///
/// # Errors
/// [`Error::NotFound`] if the series or instance has changed or was deleted meanwhile.
pub(in crate::archive) async fn put(
    archive: &Archive,
    caller: &Caller,
    (scope, version): (&Scope, &str),
    staged: Staged,
    (key, table_at): (&Key, Option<u64>),
) -> Result<u64, Error> {
    let size_bytes = staged.length();
    if !derived::put(archive, caller, scope, version, staged, key).await? {
        return Err(Error::NotFound(format!("part of study {} as it was", scope.study)));
    }
    evict(archive, archive.cache.add(key.clone(), CachedObject::new(size_bytes, table_at))).await;
    Ok(size_bytes)
}

async fn evict(archive: &Archive, keys: Vec<Key>) {
    for key in keys {
        if let Err(error) = archive.blobs.delete(&key).await {
            warn!(%error, "cannot evict a derived object; the next start will");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::blobs::Blobs;
    use crate::blobs::memory::MemoryBlobs;
    use crate::config::Config;
    use crate::index::Index;
    use crate::table::redb::Redb;

    fn key(path: &str) -> Key {
        Key { bucket: Bucket::Temporary, path: path.into() }
    }

    #[test]
    fn objects_used_least_recently_are_evicted_first() {
        let cache = DerivedCache::new(100);
        let add =
            |path: &str, size_bytes| cache.add(key(path), CachedObject::new(size_bytes, Some(size_bytes)));
        for path in ["a", "b", "c"] {
            assert_eq!(add(path, 30), []);
        }
        assert_eq!(add("a", 30), []);
        assert_eq!(cache.frame_table(&key("b")), Some(30));
        assert_eq!(add("d", 30), [key("c")]);
        assert_eq!(cache.frame_table(&key("c")), None);
        assert_eq!(add("e", 500), [key("a"), key("b"), key("d")]);
        assert_eq!(add("f", 1), [key("e")]);
        assert_eq!(cache.contents().total_bytes, 1);
        assert_eq!(add("study/a", 30), []);
        cache.remove_below("study/");
        assert_eq!(cache.contents().total_bytes, 1);
    }

    #[tokio::test]
    async fn a_start_leaves_no_more_than_may_be_kept() {
        let blobs = Arc::new(MemoryBlobs::new());
        for path in ["a", "b", "c"] {
            let mut staged = blobs.stage().await.unwrap();
            staged.write(&[0; 60]).unwrap();
            blobs.put(staged, &key(path)).await.unwrap();
        }
        let mut config = Config::defaults();
        config.derived.cache_max_bytes = 150;
        let index = Index::new(Arc::new(Redb::in_memory().unwrap()));
        let archive = Archive::new(blobs.clone(), Arc::new(index), &config);
        sweep(&archive).await.unwrap();
        assert_eq!(archive.cache.contents().total_bytes, 120);
        assert_eq!(blobs.list(Bucket::Temporary, "").try_collect::<Vec<_>>().await.unwrap().len(), 2);
    }
}
