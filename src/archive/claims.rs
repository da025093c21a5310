//! One at a time under each key.
//!
//! Of SOP Instance UIDs: between asking what is stored under one and the commit, no other object of that UID is kept.
//! What is refused has then never been kept, so that nothing can bring it back. Of thumbnails: each is made once.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::OwnedMutexGuard;

type Turns<K> = HashMap<K, Arc<tokio::sync::Mutex<()>>>;

/// The keys that somebody has or waits for.
#[derive(Debug)]
pub(super) struct Claims<K> {
    turns: Mutex<Turns<K>>,
}

/// The right to a key, until this is dropped.
#[derive(Debug)]
pub(super) struct Claim<'a, K: Hash + Eq> {
    claims: &'a Claims<K>,
    key: K,
    turn: Option<OwnedMutexGuard<()>>,
}

impl<K> Default for Claims<K> {
    fn default() -> Self {
        Self { turns: Mutex::default() }
    }
}

impl<K: Hash + Eq + Clone> Claims<K> {
    /// Waits until nobody else has the key.
    pub(super) async fn claim(&self, key: K) -> Claim<'_, K> {
        let turn = self.turns().entry(key.clone()).or_default().clone();
        // Made before it is waited for, so that a wait that is given up leaves nothing behind.
        let mut claim = Claim { claims: self, key, turn: None };
        claim.turn = Some(turn.lock_owned().await);
        claim
    }
}

impl<K> Claims<K> {
    fn turns(&self) -> MutexGuard<'_, Turns<K>> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Hash + Eq> Drop for Claim<'_, K> {
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
    async fn a_key_is_claimed_by_one_at_a_time_and_forgotten_after() {
        let claims = Claims::default();
        let first = claims.claim("1.2").await;
        assert!(claims.claim("1.2").now_or_never().is_none());
        assert!(claims.claim("1.3").now_or_never().is_some());
        let second = claims.claim("1.2");
        drop(first);
        drop(second.now_or_never().expect("it is free"));
        assert!(claims.turns().is_empty());
    }
}
