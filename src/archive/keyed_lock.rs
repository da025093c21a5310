//! Locks by key, for work that is done once though several tasks of this process request it at the same time.
//!
//! One object at a time is ingested under each SOP Instance UID: between the question what is stored under
//! the UID and the commit, no other object of that UID is put. A derived object is made once. Other processes
//! may do the same work meanwhile: that costs time, and correctness does not depend on it.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

/// Locks by key, first come first served. A lock that no task holds or awaits takes no memory.
#[derive(Debug)]
pub(super) struct KeyedLock<K>(Mutex<HashMap<K, Arc<AsyncMutex<()>>>>);

impl<K> Default for KeyedLock<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash + Clone> KeyedLock<K> {
    /// Waits until the lock of a key is free, and holds the lock until the guard is dropped.
    pub(super) async fn lock(&self, key: K) -> KeyedLockGuard<'_, K> {
        let (mut guard, lock) = self.guard(key);
        guard.held = Some(lock.lock_owned().await);
        guard
    }

    /// Makes the guard before the lock is awaited, so that a task that stops waiting leaves nothing behind.
    fn guard(&self, key: K) -> (KeyedLockGuard<'_, K>, Arc<AsyncMutex<()>>) {
        let lock = self.map().entry(key.clone()).or_default().clone();
        (KeyedLockGuard { locks: self, key, held: None }, lock)
    }

    fn map(&self) -> MutexGuard<'_, HashMap<K, Arc<AsyncMutex<()>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A lock that is held until the guard is dropped.
#[derive(Debug)]
pub(super) struct KeyedLockGuard<'a, K: Eq + Hash + Clone> {
    locks: &'a KeyedLock<K>,
    key: K,
    held: Option<OwnedMutexGuard<()>>,
}

impl<K: Eq + Hash + Clone> Drop for KeyedLockGuard<'_, K> {
    fn drop(&mut self) {
        self.held = None;
        let mut map = self.locks.map();
        // Tasks that wait for the lock have a reference too.
        if map.get(&self.key).is_some_and(|lock| Arc::strong_count(lock) == 1) {
            map.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_key_is_locked_by_one_at_a_time_and_removed_after() {
        let locks = KeyedLock::default();
        let first = locks.lock("1.2").await;
        assert!(locks.lock("1.2").now_or_never().is_none());
        assert!(locks.lock("1.3").now_or_never().is_some());
        let second = locks.lock("1.2");
        drop(first);
        drop(second.now_or_never().expect("the lock is free"));
        assert!(locks.map().is_empty());
    }
}
