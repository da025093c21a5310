//! The changes of tenants for webhooks, and the state of their delivery.

use tokio::sync::watch;

use crate::archive::access::Caller;
use crate::archive::{Archive, Error};
use crate::config::Tenant;
use crate::index::feed::{FeedCursor, FeedRead};
pub use crate::index::webhooks::{WebhookFailure, WebhookState};

/// The state of the webhooks of a tenant.
pub struct WebhookReport {
    /// The targets.
    pub targets: Vec<WebhookState>,
    /// The deliveries that were given up, the latest first.
    pub failures: Vec<WebhookFailure>,
}

impl Archive {
    /// The state of the webhooks of the caller's tenant.
    pub async fn webhook_report(&self, caller: &Caller) -> Result<WebhookReport, Error> {
        let tenant = caller.tenant.as_str();
        let targets = self.index.webhooks(tenant).await?;
        let failures = self.index.webhook_failures(tenant).await?;
        Ok(WebhookReport { targets, failures })
    }

    /// A receiver that changes after each change that this process makes to a tenant's objects.
    pub fn change_bell(&self, tenant: &Tenant) -> watch::Receiver<()> {
        self.index.change_bell(tenant.as_str())
    }

    /// Reads at most `limit` entries of a tenant's feed after a place, or from the oldest that is kept.
    pub async fn changes_to_deliver(
        &self,
        tenant: &Tenant,
        after: Option<&FeedCursor>,
        limit: usize,
    ) -> Result<FeedRead, Error> {
        Ok(self.index.changes(tenant.as_str(), after, limit).await?)
    }

    /// The state of a target and its version. For a new target, its place is the end of the feed, and the
    /// version is 0.
    pub async fn webhook(&self, tenant: &Tenant, id: &str) -> Result<(WebhookState, u64), Error> {
        if let Some(found) = self.index.webhook(tenant.as_str(), id).await? {
            return Ok(found);
        }
        let place = self.index.end_of_changes(tenant.as_str()).await?.to_string();
        Ok((WebhookState { place, ..WebhookState::default() }, 0))
    }

    /// Sets the state of a target, if its version is still `version`, and adds a delivery that was given up.
    /// Returns whether the state was set.
    pub async fn set_webhook(
        &self,
        tenant: &Tenant,
        id: &str,
        state: (&WebhookState, u64),
        failure: Option<&WebhookFailure>,
    ) -> Result<bool, Error> {
        Ok(self.index.set_webhook(tenant.as_str(), id, state, failure).await?)
    }
}
