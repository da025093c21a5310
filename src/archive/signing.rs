//! Signatures by keys of a tenant, for URLs and for links that were opened: HMAC-SHA-256.
//!
//! Time is cut into periods of `sharing.signing_key_days`. Each tenant has a random key for each period,
//! which is made when something is signed in it first and is read from the index by every server. What was
//! signed in one period is valid in the next one, as far as it names no earlier end.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use aws_lc_rs::hmac;

use crate::archive::access::Tenant;
use crate::archive::{Archive, Error};
use crate::clock::{MILLIS_OF_DAY, now_millis};

/// The length of a key in bytes.
const KEY_BYTES: usize = 32;
/// The time for which a key that was read is used without another look: a key that was deleted ends by then.
const MAX_AGE: Duration = Duration::from_secs(2);
/// The number of keys that are held; there are two for each tenant in use.
const MAX_HELD: usize = 1024;

/// A signature, with the period of its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// The period of the key.
    pub period: i64,
    /// The message authentication code.
    pub code: Vec<u8>,
}

/// Keys that were read, each with the time of reading; `None` where there is no key.
#[derive(Default)]
pub(in crate::archive) struct SigningKeys(Mutex<HashMap<(Tenant, i64), HeldKey>>);

#[derive(Clone)]
struct HeldKey {
    key: Option<hmac::Key>,
    read_at: Instant,
}

impl SigningKeys {
    fn get(&self, name: &(Tenant, i64)) -> Option<HeldKey> {
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned();
        held.filter(|held| held.read_at.elapsed() < MAX_AGE)
    }

    fn put(&self, name: (Tenant, i64), key: Option<hmac::Key>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= MAX_HELD {
            all.retain(|_, held| held.read_at.elapsed() < MAX_AGE);
        }
        if all.len() < MAX_HELD {
            all.insert(name, HeldKey { key, read_at: Instant::now() });
        }
    }
}

impl Archive {
    /// Signs a text with the tenant's present key, which is made if there is none.
    pub async fn sign(&self, tenant: &Tenant, text: &[u8]) -> Result<Signature, Error> {
        let period = self.signing_period();
        let key = match self.signing_key(tenant, period).await? {
            Some(key) => key,
            None => self.make_signing_key(tenant, period).await?,
        };
        Ok(Signature { period, code: hmac::sign(&key, text).as_ref().to_vec() })
    }

    /// Whether a signature of a text is by a key of the tenant that is valid now. Takes the same time for
    /// each wrong signature.
    pub async fn verify_signature(
        &self,
        tenant: &Tenant,
        text: &[u8],
        signature: &Signature,
    ) -> Result<bool, Error> {
        // The clock of another server may be ahead.
        let now = self.signing_period();
        if !(now - 1..=now + 1).contains(&signature.period) {
            return Ok(false);
        }
        let key = self.signing_key(tenant, signature.period).await?;
        Ok(key.is_some_and(|key| hmac::verify(&key, text, &signature.code).is_ok()))
    }

    /// Deletes the keys of a tenant: nothing that was signed is valid any more, on each server within two
    /// seconds.
    pub async fn delete_signing_keys(&self, tenant: &Tenant) -> Result<usize, Error> {
        let count = self.index.delete_signing_keys(tenant.as_str()).await?;
        let mut held = self.signing_keys.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.retain(|(of, _), _| of != tenant);
        Ok(count)
    }

    /// The present period.
    pub fn signing_period(&self) -> i64 {
        let days = i64::try_from(self.sharing.signing_key_days).unwrap_or(i64::MAX);
        now_millis() / days.saturating_mul(MILLIS_OF_DAY)
    }

    async fn signing_key(&self, tenant: &Tenant, period: i64) -> Result<Option<hmac::Key>, Error> {
        let name = (tenant.clone(), period);
        if let Some(held) = self.signing_keys.get(&name) {
            return Ok(held.key);
        }
        let found = self.index.signing_key(tenant.as_str(), period).await?;
        let key = found.map(|bytes| hmac::Key::new(hmac::HMAC_SHA256, &bytes));
        self.signing_keys.put(name, key.clone());
        Ok(key)
    }

    /// Makes the key of a period, unless another server has.
    async fn make_signing_key(&self, tenant: &Tenant, period: i64) -> Result<hmac::Key, Error> {
        let bytes = random_bytes::<KEY_BYTES>()?.to_vec();
        self.index.add_signing_key(tenant.as_str(), (period, period - 1), bytes).await?;
        let found = self.index.signing_key(tenant.as_str(), period).await?;
        let found = found.ok_or_else(|| Error::Internal("a key that was just made is not there".into()))?;
        let key = hmac::Key::new(hmac::HMAC_SHA256, &found);
        self.signing_keys.put((tenant.clone(), period), Some(key.clone()));
        Ok(key)
    }
}

/// Random bytes that nobody can guess.
pub(in crate::archive) fn random_bytes<const N: usize>() -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes)
        .map_err(|_| Error::Internal("the system gives no random bytes".into()))?;
    Ok(bytes)
}
