//! Who may change what at the same time.
//!
//! One object at a time under each SOP Instance UID: between asking what is stored under it and the commit, no other
//! object of that UID is kept. What is refused has then never been kept, so that nothing can bring it back.
//!
//! Many may add to a study at the same time, but none while something in it is deleted: what a deletion finds is all
//! that it has to remove, also after a crash. What is derived is made once.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

use crate::archive::access::Tenant;
use crate::blobs::Key;
use crate::dicom::uid::{InstanceUid, StudyUid};

/// The SOP Instance UIDs under which something is being kept, the studies that are being changed, and what is being
/// derived.
#[derive(Debug, Default)]
pub(super) struct Claims {
    instances: Locks<(Tenant, InstanceUid)>,
    studies: Locks<(Tenant, StudyUid)>,
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

    /// The right to add to a study; waits while somebody deletes in it.
    pub(super) async fn add_to(&self, tenant: &Tenant, study: &StudyUid) -> Claim<'_, (Tenant, StudyUid)> {
        self.studies.shared((tenant.clone(), study.clone())).await
    }

    /// The right to delete in a study; waits until nobody adds to it or deletes in it.
    pub(super) async fn delete_in(&self, tenant: &Tenant, study: &StudyUid) -> Claim<'_, (Tenant, StudyUid)> {
        self.studies.alone((tenant.clone(), study.clone())).await
    }

    /// The right to make what belongs under a key; waits while somebody else makes it.
    pub(super) async fn derive(&self, key: &Key) -> Claim<'_, Key> {
        self.derived.alone(key.clone()).await
    }
}

/// Locks by key; one that nobody holds or waits for takes no room. Who asks first is first.
#[derive(Debug)]
struct Locks<K>(Mutex<HashMap<K, Arc<RwLock<()>>>>);

impl<K> Default for Locks<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash + Clone> Locks<K> {
    async fn shared(&self, key: K) -> Claim<'_, K> {
        let (mut claim, lock) = self.claim(key);
        claim.held = Some(Held::Shared(lock.read_owned().await));
        claim
    }

    async fn alone(&self, key: K) -> Claim<'_, K> {
        let (mut claim, lock) = self.claim(key);
        claim.held = Some(Held::Alone(lock.write_owned().await));
        claim
    }

    /// Made before it is waited for, so that a wait that is given up leaves nothing behind.
    fn claim(&self, key: K) -> (Claim<'_, K>, Arc<RwLock<()>>) {
        let lock = self.map().entry(key.clone()).or_default().clone();
        (Claim { locks: self, key, held: None }, lock)
    }

    fn map(&self) -> MutexGuard<'_, HashMap<K, Arc<RwLock<()>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A right, until this is dropped.
#[derive(Debug)]
pub(super) struct Claim<'a, K: Eq + Hash + Clone> {
    locks: &'a Locks<K>,
    key: K,
    held: Option<Held>,
}

#[derive(Debug)]
#[expect(dead_code, reason = "they are held, not looked at")]
enum Held {
    Shared(OwnedRwLockReadGuard<()>),
    Alone(OwnedRwLockWriteGuard<()>),
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

    #[tokio::test]
    async fn many_add_to_a_study_and_one_deletes_in_it() {
        let (claims, tenant) = (Claims::default(), Tenant::default_tenant());
        let study = "1.2".parse().unwrap();
        let adding = [claims.add_to(&tenant, &study).await, claims.add_to(&tenant, &study).await];
        assert!(claims.delete_in(&tenant, &study).now_or_never().is_none());
        drop(adding);
        let deleting = claims.delete_in(&tenant, &study).await;
        assert!(claims.add_to(&tenant, &study).now_or_never().is_none());
        assert!(claims.delete_in(&tenant, &study).now_or_never().is_none());
        drop(deleting);
        assert!(claims.studies.map().is_empty());
    }
}
