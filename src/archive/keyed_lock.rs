//! What is done once, though several in this process ask for it at the same time.
//!
//! One object at a time under each SOP Instance UID: between asking what is stored under it and the commit, no other
//! object of that UID is kept. What is derived is made once. Other processes may do the same things meanwhile: that costs
//! work, and nothing depends on it.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

use crate::archive::access::Tenant;
use crate::blobs::Key;
use crate::dicom::uid::InstanceUid;

/// The SOP Instance UIDs under which something is being kept, and what is being derived.
#[derive(Debug, Default)]
pub(super) struct Claims {
    instances: Locks<(Tenant, InstanceUid)>,
    derived: Locks<Key>,
}

impl Claims {
    /// The right to keep an object under a UID; waits until nobody else has it.
    pub(super) async fn instance(
        &self,
        tenant: &Tenant,
        instance: &InstanceUid,
    ) -> Claim<'_, (Tenant, InstanceUid)> {
        self.instances.alone((tenant.clone(), instance.clone())).await
    }

    /// The right to make what belongs under a key; waits while somebody else makes it.
    pub(super) async fn derive(&self, key: &Key) -> Claim<'_, Key> {
        self.derived.alone(key.clone()).await
    }
}

/// Locks by key; one that nobody holds or waits for takes no room. Who asks first is first.
#[derive(Debug)]
struct Locks<K>(Mutex<HashMap<K, Arc<AsyncMutex<()>>>>);

impl<K> Default for Locks<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash + Clone> Locks<K> {
    async fn alone(&self, key: K) -> Claim<'_, K> {
        let (mut claim, lock) = self.claim(key);
        claim.held = Some(lock.lock_owned().await);
        claim
    }

    /// Made before it is waited for, so that a wait that is given up leaves nothing behind.
    fn claim(&self, key: K) -> (Claim<'_, K>, Arc<AsyncMutex<()>>) {
        let lock = self.map().entry(key.clone()).or_default().clone();
        (Claim { locks: self, key, held: None }, lock)
    }

    fn map(&self) -> MutexGuard<'_, HashMap<K, Arc<AsyncMutex<()>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A right, until this is dropped.
#[derive(Debug)]
pub(super) struct Claim<'a, K: Eq + Hash + Clone> {
    locks: &'a Locks<K>,
    key: K,
    held: Option<OwnedMutexGuard<()>>,
}

impl<K: Eq + Hash + Clone> Drop for Claim<'_, K> {
    fn drop(&mut self) {
        self.held = None;
        let mut map = self.locks.map();
        // Others who wait for it hold it too.
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
    async fn a_uid_is_claimed_by_one_at_a_time_and_forgotten_after() {
        let (claims, tenant) = (Claims::default(), Tenant::default_tenant());
        let (one, other) = ("1.2".parse().unwrap(), "1.3".parse().unwrap());
        let first = claims.instance(&tenant, &one).await;
        assert!(claims.instance(&tenant, &one).now_or_never().is_none());
        assert!(claims.instance(&tenant, &other).now_or_never().is_some());
        let second = claims.instance(&tenant, &one);
        drop(first);
        drop(second.now_or_never().expect("it is free"));
        assert!(claims.instances.map().is_empty());
    }
}
