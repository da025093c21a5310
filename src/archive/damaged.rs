//! Objects that were found damaged. A response that finds one after its head cannot say so any more; the next
//! response can.

use std::num::NonZero;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use lru::LruCache;

use crate::blobs::Key;

/// The most objects that are remembered.
const MAX_OBJECTS: NonZero<usize> = NonZero::new(10_000).expect("not zero");

/// The objects that were damaged when they were last read, each with the time of that.
#[derive(Debug)]
pub(in crate::archive) struct DamagedObjects(Mutex<LruCache<Key, Instant>>);

impl Default for DamagedObjects {
    fn default() -> Self {
        Self(Mutex::new(LruCache::new(MAX_OBJECTS)))
    }
}

impl DamagedObjects {
    /// Remembers an object. Returns whether it was not known to be damaged.
    pub(in crate::archive) fn add(&self, key: &Key) -> bool {
        self.objects().put(key.clone(), Instant::now()).is_none()
    }

    /// Forgets an object that is intact.
    pub(in crate::archive) fn remove(&self, key: &Key) {
        self.objects().pop(key);
    }

    /// The time since an object was found damaged; `None` if it was not.
    pub(in crate::archive) fn age(&self, key: &Key) -> Option<Duration> {
        self.objects().peek(key).map(Instant::elapsed)
    }

    fn objects(&self) -> MutexGuard<'_, LruCache<Key, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blobs::Bucket;

    #[test]
    fn damage_is_remembered_until_the_object_is_intact() {
        let damaged = DamagedObjects::default();
        let key = Key { bucket: Bucket::Originals, path: "a".into() };
        assert_eq!(damaged.age(&key), None);
        assert!(damaged.add(&key) && !damaged.add(&key));
        assert!(damaged.age(&key).is_some());
        damaged.remove(&key);
        assert_eq!(damaged.age(&key), None);
    }
}
