//! One object at a time under each SOP Instance UID: between asking what is stored under it and the commit, no other
//! object of that UID is kept. What is refused has then never been kept, so that nothing can bring it back.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::OwnedMutexGuard;

use crate::archive::access::Tenant;
use crate::dicom::uid::InstanceUid;

type Turns = HashMap<(Tenant, InstanceUid), Arc<tokio::sync::Mutex<()>>>;

/// The SOP Instance UIDs under which something is being kept.
#[derive(Debug, Default)]
pub(super) struct Claims {
    turns: Mutex<Turns>,
}

/// The right to keep an object under a UID, until this is dropped.
#[derive(Debug)]
pub(super) struct Claim<'a> {
    claims: &'a Claims,
    key: (Tenant, InstanceUid),
    turn: Option<OwnedMutexGuard<()>>,
}

impl Claims {
    /// Waits until nobody else has the UID.
    pub(super) async fn claim(&self, tenant: &Tenant, instance: &InstanceUid) -> Claim<'_> {
        let key = (tenant.clone(), instance.clone());
        let turn = self.turns().entry(key.clone()).or_default().clone();
        // Made before it is waited for, so that a wait that is given up leaves nothing behind.
        let mut claim = Claim { claims: self, key, turn: None };
        claim.turn = Some(turn.lock_owned().await);
        claim
    }

    fn turns(&self) -> MutexGuard<'_, Turns> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.turn = None;
        let mut turns = self.claims.turns();
        // Others who wait for it hold it too.
        if turns.get(&self.key).is_some_and(|turn| Arc::strong_count(turn) == 1) {
            turns.remove(&self.key);
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
        let first = claims.claim(&tenant, &one).await;
        assert!(claims.claim(&tenant, &one).now_or_never().is_none());
        assert!(claims.claim(&tenant, &other).now_or_never().is_some());
        let second = claims.claim(&tenant, &one);
        drop(first);
        drop(second.now_or_never().expect("it is free"));
        assert!(claims.turns().is_empty());
    }
}
