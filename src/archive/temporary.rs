//! What was made and is kept for a while, so that it need not be made again: at most `temporary.max_bytes`, and what was
//! not asked for longest goes first.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use futures_util::TryStreamExt;
use tracing::warn;

use crate::archive::access::Caller;
use crate::archive::retrieve::Scope;
use crate::archive::{Archive, Error};
use crate::blobs::{Bucket, Key, Staged};
use crate::index::records::InstanceRecord;

/// Which objects are kept, and when each was last asked for.
#[derive(Debug)]
pub(super) struct Temporary {
    max_bytes: u64,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    total_bytes: u64,
    /// Counts what is asked for: the clock of `uses`.
    clock: u64,
    /// The objects by their last use, and their sizes.
    uses: BTreeMap<u64, (Key, u64)>,
    by_key: HashMap<Key, u64>,
}

impl Temporary {
    /// Nothing is kept; later at most `max_bytes`, or one object that is larger.
    pub(super) fn new(max_bytes: u64) -> Self {
        Self { max_bytes, kept: Mutex::default() }
    }

    /// Notes that an object is kept, or was asked for. Returns those that have to go.
    fn note(&self, key: &Key, size_bytes: u64) -> Vec<Key> {
        let mut kept = self.kept();
        kept.forget(key);
        kept.clock += 1;
        let now = kept.clock;
        kept.total_bytes += size_bytes;
        kept.uses.insert(now, (key.clone(), size_bytes));
        kept.by_key.insert(key.clone(), now);
        let mut gone = Vec::new();
        while kept.total_bytes > self.max_bytes && kept.uses.len() > 1 {
            let Some((_, (oldest, _))) = kept.uses.first_key_value() else { break };
            let oldest = oldest.clone();
            kept.forget(&oldest);
            gone.push(oldest);
        }
        gone
    }

    /// Forgets what is below a prefix, which was deleted.
    pub(super) fn forget_below(&self, prefix: &str) {
        let mut kept = self.kept();
        let gone: Vec<Key> = kept.by_key.keys().filter(|key| key.path.starts_with(prefix)).cloned().collect();
        gone.iter().for_each(|key| kept.forget(key));
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn forget(&mut self, key: &Key) {
        let known = self.by_key.remove(key).and_then(|used| self.uses.remove(&used));
        self.total_bytes -= known.map_or(0, |(_, size_bytes)| size_bytes);
    }
}

impl Archive {
    /// Looks through what earlier processes kept: removes what may not be whole, and the oldest beyond the limit.
    ///
    /// # Errors
    /// If it cannot be listed.
    pub async fn sweep_temporary(&self) -> Result<(), Error> {
        // A machine that lost its power may have kept the name of an object and not all of its bytes.
        let unsettled = self.blobs.unsettled();
        self.remove(unsettled.into_iter().filter(|key| key.bucket == Bucket::Temporary)).await;
        let mut entries: Vec<_> = self.blobs.list(Bucket::Temporary, "").try_collect().await?;
        entries.sort_by_key(|entry| entry.modified_at);
        for entry in entries {
            self.remove(self.temporary.note(&entry.key, entry.size_bytes)).await;
        }
        Ok(())
    }

    /// The size of an object in bytes, if it is kept; it then stays for longer.
    pub(super) async fn find_temporary(&self, key: &Key) -> Result<Option<u64>, Error> {
        let size_bytes = self.blobs.size(key).await?;
        match size_bytes {
            Some(size_bytes) => self.remove(self.temporary.note(key, size_bytes)).await,
            None => self.temporary.kept().forget(key),
        }
        Ok(size_bytes)
    }

    /// Keeps an object that was made of an instance, and removes others to make room.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the instance was deleted meanwhile.
    pub(super) async fn keep_temporary(
        &self,
        caller: &Caller,
        record: &InstanceRecord,
        staged: Staged,
        key: &Key,
    ) -> Result<u64, Error> {
        let size_bytes = staged.length();
        let InstanceRecord { study, series, instance, digest, .. } = record;
        let (series, instance) = (Some(series.clone()), Some(instance.clone()));
        let scope = Scope { study: study.clone(), series, instance };
        if !self.keep_derived(caller, &scope, digest, staged, key).await? {
            return Err(Error::NotFound(format!("instance {} as it was", record.instance)));
        }
        self.remove(self.temporary.note(key, size_bytes)).await;
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
    use super::*;

    fn key(path: &str) -> Key {
        Key { bucket: Bucket::Temporary, path: path.into() }
    }

    #[test]
    fn what_was_not_asked_for_longest_goes_first() {
        let temporary = Temporary::new(100);
        for path in ["a", "b", "c"] {
            assert_eq!(temporary.note(&key(path), 30), []);
        }
        assert_eq!(temporary.note(&key("a"), 30), []);
        assert_eq!(temporary.note(&key("d"), 30), [key("b")]);
        assert_eq!(temporary.note(&key("e"), 500), [key("c"), key("a"), key("d")]);
        assert_eq!(temporary.note(&key("f"), 1), [key("e")]);
        assert_eq!(temporary.kept().total_bytes, 1);
        temporary.note(&key("study/a"), 30);
        temporary.forget_below("study/");
        assert_eq!(temporary.kept().total_bytes, 1);
    }
}
