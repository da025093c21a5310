//! The state of webhooks: for each target, the place up to which a tenant's changes were delivered, and the
//! deliveries that were given up.

use std::ops::Bound;

use serde::{Deserialize, Serialize};

use crate::index::read::whole_partition;
use crate::index::versioned::replacement;
use crate::index::{Error, Index, keys, rows};
use crate::table::{self, Expect, Item, Write};

/// The targets of a tenant that are read.
const MAX_TARGETS: usize = 1000;
/// The deliveries given up that are kept for a tenant.
const MAX_FAILURES: usize = 500;

/// The state of a target. All times are in milliseconds since 1970 UTC.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebhookState {
    /// Scheme, host and port of the address; the rest may be secret.
    pub target: String,
    /// The place in the feed after the last change that was delivered or given up.
    pub place: String,
    /// The time of the last delivery.
    pub delivered_at: Option<i64>,
    /// The time of the first of the failed attempts at the next delivery.
    pub failing_since: Option<i64>,
    /// The number of those attempts.
    pub attempts: u32,
    /// The reason why the last of them failed.
    pub error: String,
    /// The process that delivers.
    pub holder: String,
    /// The time until which no other process delivers.
    pub leased_until: i64,
}

/// A delivery that was given up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebhookFailure {
    /// The address, as in [`WebhookState::target`].
    pub target: String,
    /// The place in the feed before its changes.
    pub after: String,
    /// The place after them.
    pub next: String,
    /// The time at which it was given up.
    pub given_up_at: i64,
    /// The number of attempts.
    pub attempts: u32,
    /// The reason why the last of them failed.
    pub error: String,
}

impl Index {
    /// The state of a target and its version; `None` before its first change.
    pub async fn webhook(&self, tenant: &str, id: &str) -> Result<Option<(WebhookState, u64)>, Error> {
        self.versioned(keys::webhook(tenant, id)).await
    }

    /// Sets the state of a target, if its version is still `version` (0 if there was none), and adds a
    /// delivery that was given up. Returns whether the state was set.
    pub async fn set_webhook(
        &self,
        tenant: &str,
        id: &str,
        (state, version): (&WebhookState, u64),
        failure: Option<&WebhookFailure>,
    ) -> Result<bool, Error> {
        let mut writes = vec![replacement(keys::webhook(tenant, id), state, version)?];
        if let Some(failure) = failure {
            let key = keys::webhook_failure(tenant, failure.given_up_at, id);
            let body = rows::encode(&key, failure)?;
            writes.push(Write::Put(Item { key, version: 1, secondary: Vec::new(), body }, Expect::Anything));
        }
        let is_set = self.transact_if_current(writes).await?;
        if is_set && failure.is_some() {
            self.forget_old_failures(tenant).await?;
        }
        Ok(is_set)
    }

    /// The states of a tenant's targets.
    pub async fn webhooks(&self, tenant: &str) -> Result<Vec<WebhookState>, Error> {
        let range = whole_partition(None, keys::webhooks(tenant), MAX_TARGETS);
        let page = self.table.range(&range).await?;
        page.items.iter().map(|(_, item)| rows::decode(&item.key, &item.body)).collect()
    }

    /// The deliveries of a tenant that were given up, the latest first.
    pub async fn webhook_failures(&self, tenant: &str) -> Result<Vec<WebhookFailure>, Error> {
        let mut range = whole_partition(None, keys::webhook_failures(tenant), MAX_FAILURES);
        range.is_descending = true;
        let page = self.table.range(&range).await?;
        page.items.iter().map(|(_, item)| rows::decode(&item.key, &item.body)).collect()
    }

    /// Deletes the oldest deliveries that were given up, where there are too many.
    async fn forget_old_failures(&self, tenant: &str) -> Result<(), Error> {
        let mut range = whole_partition(None, keys::webhook_failures(tenant), MAX_FAILURES + 1);
        range.is_descending = true;
        let kept = self.table.range(&range).await?.items;
        let Some((oldest, _)) = kept.get(MAX_FAILURES) else { return Ok(()) };
        let mut range = whole_partition(None, keys::webhook_failures(tenant), table::MAX_WRITES);
        range.to = Bound::Included(oldest.clone());
        let old = self.table.range(&range).await?.items;
        let deletions = old.into_iter().map(|(_, item)| Write::Delete(item.key, Expect::Anything));
        Ok(self.table.transact(deletions.collect()).await?)
    }
}
