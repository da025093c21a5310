//! What was made and is kept for a while, so that it need not be made again: at most `derived.cache_max_bytes`, and what was
//! not asked for longest goes first.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use futures_util::TryStreamExt;
use tracing::warn;

use crate::archive::access::Caller;
use crate::archive::read::Scope;
use crate::archive::{Archive, Error};
use crate::blobs::{Bucket, Key, Staged};

/// Which objects are kept, and when each was last asked for.
#[derive(Debug)]
pub(in crate::archive) struct Temporary {
    max_bytes: u64,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    total_bytes: u64,
    /// Counts what is asked for: the clock of `uses`.
    clock: u64,
    /// The objects by their last use.
    uses: BTreeMap<u64, Object>,
    by_key: HashMap<Key, u64>,
}

#[derive(Debug, Clone)]
struct Object {
    key: Key,
    size_bytes: u64,
    /// Where the Basic Offset Table of its frames starts, if that is known.
    table_at: Option<u64>,
}

impl Temporary {
    /// Nothing is kept; later at most `max_bytes`, or one object that is larger.
    pub(in crate::archive) fn new(max_bytes: u64) -> Self {
        Self { max_bytes, kept: Mutex::default() }
    }

    /// Notes that an object is kept, or was asked for. Returns those that have to go.
    fn note(&self, object: Object) -> Vec<Key> {
        let mut kept = self.kept();
        kept.forget(&object.key);
        kept.total_bytes += object.size_bytes;
        kept.use_now(object);
        let mut gone = Vec::new();
        while kept.total_bytes > self.max_bytes && kept.uses.len() > 1 {
            let Some((_, Object { key, .. })) = kept.uses.first_key_value() else { break };
            let key = key.clone();
            kept.forget(&key);
            gone.push(key);
        }
        gone
    }

    /// How many bytes an object has, if this process knows of it; it then stays for longer.
    pub(in crate::archive) fn size_of(&self, key: &Key) -> Option<u64> {
        let mut kept = self.kept();
        let used = kept.by_key.get(key).copied()?;
        let object = kept.uses.remove(&used)?;
        let size_bytes = object.size_bytes;
        kept.use_now(object);
        Some(size_bytes)
    }

    /// Forgets an object that is not there.
    pub(in crate::archive) fn forget(&self, key: &Key) {
        self.kept().forget(key);
    }

    /// Where the Basic Offset Table of an object starts, if the object is kept and this is known of it; it then stays for
    /// longer.
    pub(in crate::archive) fn frame_table(&self, key: &Key) -> Option<u64> {
        let mut kept = self.kept();
        let used = kept.by_key.get(key).copied()?;
        let object = kept.uses.remove(&used)?;
        let table_at = object.table_at;
        kept.use_now(object);
        table_at
    }

    /// Forgets what is below a prefix, which was deleted.
    pub(in crate::archive) fn forget_below(&self, prefix: &str) {
        let mut kept = self.kept();
        let gone: Vec<Key> = kept.by_key.keys().filter(|key| key.path.starts_with(prefix)).cloned().collect();
        gone.iter().for_each(|key| drop(kept.forget(key)));
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    /// Puts an object in that is in no longer, as the one that was asked for last.
    fn use_now(&mut self, object: Object) {
        self.clock += 1;
        self.by_key.insert(object.key.clone(), self.clock);
        self.uses.insert(self.clock, object);
    }

    fn forget(&mut self, key: &Key) -> Option<Object> {
        let object = self.by_key.remove(key).and_then(|used| self.uses.remove(&used))?;
        self.total_bytes -= object.size_bytes;
        Some(object)
    }
}

impl Archive {
    /// Looks through what earlier processes kept and removes the oldest beyond the limit. What may not be whole was
    /// removed before ([`Archive::settle`]).
    ///
    /// # Errors
    /// If it cannot be listed.
    pub async fn sweep_temporary(&self) -> Result<(), Error> {
        let mut entries: Vec<_> = self.blobs.list(Bucket::Temporary, "").try_collect().await?;
        entries.sort_by_key(|entry| entry.modified_at);
        for entry in entries {
            let object = Object { key: entry.key, size_bytes: entry.size_bytes, table_at: None };
            self.remove(self.temporary.note(object)).await;
        }
        Ok(())
    }

    /// The size of an object in bytes, if it is kept; it then stays for longer.
    pub(in crate::archive) async fn find_temporary(&self, key: &Key) -> Result<Option<u64>, Error> {
        let size_bytes = self.blobs.size(key).await?;
        let known = self.temporary.kept().forget(key);
        if let Some(size_bytes) = size_bytes {
            let table_at = known.and_then(|known| known.table_at);
            self.remove(self.temporary.note(Object { key: key.clone(), size_bytes, table_at })).await;
        }
        Ok(size_bytes)
    }

    /// Keeps an object that was made of a series or an instance, and removes others to make room. `version` is what
    /// [`Archive::version`] said before. `table_at` is where the Basic Offset Table of its frames starts, if it has one.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the series or instance has changed or was deleted meanwhile.
    pub(in crate::archive) async fn keep_temporary(
        &self,
        caller: &Caller,
        (scope, version): (&Scope, &str),
        staged: Staged,
        (key, table_at): (&Key, Option<u64>),
    ) -> Result<u64, Error> {
        let size_bytes = staged.length();
        if !self.keep_derived(caller, scope, version, staged, key).await? {
            return Err(Error::NotFound(format!("part of study {} as it was", scope.study)));
        }
        self.remove(self.temporary.note(Object { key: key.clone(), size_bytes, table_at })).await;
        Ok(size_bytes)
    }

    async fn remove(&self, keys: impl IntoIterator<Item = Key>) {
        for key in keys {
            if let Err(error) = self.blobs.delete(&key).await {
                warn!(%error, "cannot remove a temporary object; the next start will");
            }
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
    fn what_was_not_asked_for_longest_goes_first() {
        let temporary = Temporary::new(100);
        let note = |path: &str, size_bytes| {
            temporary.note(Object { key: key(path), size_bytes, table_at: Some(size_bytes) })
        };
        for path in ["a", "b", "c"] {
            assert_eq!(note(path, 30), []);
        }
        assert_eq!(note("a", 30), []);
        assert_eq!(temporary.frame_table(&key("b")), Some(30));
        assert_eq!(note("d", 30), [key("c")]);
        assert_eq!(temporary.frame_table(&key("c")), None);
        assert_eq!(note("e", 500), [key("a"), key("b"), key("d")]);
        assert_eq!(note("f", 1), [key("e")]);
        assert_eq!(temporary.kept().total_bytes, 1);
        assert_eq!(note("study/a", 30), []);
        temporary.forget_below("study/");
        assert_eq!(temporary.kept().total_bytes, 1);
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
        archive.sweep_temporary().await.unwrap();
        assert_eq!(archive.temporary.kept().total_bytes, 120);
        assert_eq!(blobs.list(Bucket::Temporary, "").try_collect::<Vec<_>>().await.unwrap().len(), 2);
    }
}
