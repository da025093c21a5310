//! Webhooks: the changes of tenants are delivered to the targets of the settings, in order and at least once,
//! by POST requests that are signed as Standard Webhooks 1.0.0 specifies.
//!
//! Of several processes over one table, one delivers to a target at a time: the one with the lease in the
//! target's state.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{Client, Response, Url};
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use uuid::Uuid;

use crate::archive::change_json::change_json;
use crate::archive::changes::{FeedCursor, FeedEntry, FeedPage, FeedRead};
use crate::archive::webhooks::{WebhookFailure, WebhookState};
use crate::archive::{Archive, Error, is_shared};
use crate::backoff::{Backoff, jitter};
use crate::clock::{has_come, millis, now_millis};
use crate::config::{Config, Tenant, WebhookTarget};
use crate::digest::hexadecimal;
use crate::telemetry;

/// The waits between attempts at a delivery.
const RETRIES: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(15 * 60));
/// The longest wait that a target can ask for by `Retry-After`.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(60 * 60);
/// The pause after a failure of the index.
const FAILURE_PAUSE: Duration = Duration::from_secs(5);
/// The time for which a process has a target for itself, besides the timeout of a request.
const LEASE: Duration = Duration::from_secs(30);
/// The seconds of an hour.
const SECONDS_OF_HOUR: u64 = 60 * 60;
/// The product and its version, as in the field User-Agent.
const USER_AGENT: &str = concat!("Cuspid/", env!("CARGO_PKG_VERSION"));

/// Runs the delivery to every target, until `stop`.
///
/// # Errors
/// If the secret cannot be used, or the machine has no trusted certificates.
pub fn tasks(
    archive: &Arc<Archive>,
    config: &Config,
    stop: &CancellationToken,
) -> anyhow::Result<Vec<impl Future<Output = ()> + Send + use<>>> {
    let settings = &config.webhooks;
    let key = settings.key().context("webhooks.secret cannot be used")?;
    let request_timeout = Duration::from_secs(settings.timeout_seconds);
    let client = Client::builder().timeout(request_timeout).redirect(Policy::none()).user_agent(USER_AGENT);
    let client = client.build().context("cannot make a client for webhooks.targets")?;
    let lease = request_timeout.saturating_add(LEASE);
    let give_up = Duration::from_secs(settings.give_up_hours.saturating_mul(SECONDS_OF_HOUR));
    let deliveries = settings.targets.iter().map(|WebhookTarget { tenant, url, .. }| {
        let delivery = Delivery {
            archive: archive.clone(),
            client: client.clone(),
            key: hmac::Key::new(hmac::HMAC_SHA256, &key),
            tenant: tenant.clone(),
            url: url.clone(),
            id: hexadecimal(&Sha256::digest(url.as_str())[..16]),
            max_changes: settings.max_changes,
            give_up_millis: millis(give_up),
            poll: Duration::from_millis(config.changes.poll_milliseconds),
            holder: is_shared(&config.storage).then(|| Uuid::new_v4().to_string()),
            request_timeout,
            lease,
        };
        let stop = stop.clone();
        async move {
            stop.run_until_cancelled(delivery.run()).await;
        }
    });
    Ok(deliveries.collect())
}

/// The delivery of a tenant's changes to a target.
struct Delivery {
    archive: Arc<Archive>,
    client: Client,
    key: hmac::Key,
    tenant: Tenant,
    url: Url,
    /// The name of the target's state.
    id: String,
    max_changes: usize,
    /// The time after which a delivery is given up.
    give_up_millis: i64,
    poll: Duration,
    /// The name of this process, if others may deliver to the same target.
    holder: Option<String>,
    request_timeout: Duration,
    lease: Duration,
}

/// What follows a step of a delivery.
enum NextStep {
    /// Another step, at once.
    Again,
    /// Another step, after the next change.
    AfterChange,
    /// Another step, after a time.
    AfterTime(Duration),
}

/// The reason why a request failed, and the wait that the target asks for.
struct FailedRequest {
    reason: String,
    retry_after: Option<Duration>,
}

impl Delivery {
    async fn run(self) {
        let mut bell = self.archive.change_bell(&self.tenant);
        loop {
            // Before the read: a change during the read rings again.
            bell.mark_unchanged();
            match self.step().await {
                Ok(NextStep::Again) => {}
                Ok(NextStep::AfterTime(wait)) => sleep(wait).await,
                Ok(NextStep::AfterChange) => {
                    // The bell is never closed.
                    let _ = timeout(self.poll, bell.changed()).await;
                }
                Err(error) => {
                    let error = telemetry::chain(&error);
                    warn!(error, "cannot read the changes for webhooks; trying again");
                    sleep(FAILURE_PAUSE).await;
                }
            }
        }
    }

    /// Delivers the next changes, if there are any.
    async fn step(&self) -> Result<NextStep, Error> {
        let (mut state, mut version) = self.archive.webhook(&self.tenant, &self.id).await?;
        state.target = shown(&self.url);
        if version == 0 {
            // The place must be known before the next change.
            self.archive.set_webhook(&self.tenant, &self.id, (&state, 0), None).await?;
            return Ok(NextStep::Again);
        }
        let after = state.place.parse::<FeedCursor>().ok();
        let read = self.archive.changes_to_deliver(&self.tenant, after.as_ref(), self.max_changes).await?;
        let FeedRead::Page(page) = read else { return self.begin_again(state, version).await };
        let changes = described(&page.entries);
        if changes.is_empty() {
            if after.as_ref() != Some(&page.next) {
                state.place = page.next.to_string();
                self.archive.set_webhook(&self.tenant, &self.id, (&state, version), None).await?;
            }
            return Ok(if page.has_more { NextStep::Again } else { NextStep::AfterChange });
        }
        if let Some(holder) = &self.holder {
            let now = now_millis();
            if state.holder != *holder && !has_come(state.leased_until, now, self.lease) {
                let wait = u64::try_from(state.leased_until - now).unwrap_or(0);
                return Ok(NextStep::AfterTime(Duration::from_millis(wait).min(self.lease)));
            }
            state.holder.clone_from(holder);
            if state.leased_until < now + millis(self.request_timeout) {
                state.leased_until = now + millis(self.lease);
                if !self.archive.set_webhook(&self.tenant, &self.id, (&state, version), None).await? {
                    return Ok(NextStep::Again);
                }
                version += 1;
            }
        }
        self.deliver((state, version), &page, changes).await
    }

    /// Sends changes, and writes down the outcome.
    async fn deliver(
        &self,
        (mut state, version): (WebhookState, u64),
        page: &FeedPage,
        changes: Vec<serde_json::Value>,
    ) -> Result<NextStep, Error> {
        let next = page.next.to_string();
        let id =
            format!("msg_{}", hexadecimal(&Sha256::digest(format!("{} {}", self.id, state.place))[..16]));
        let body = json!({
            "tenant": self.tenant.as_str(),
            "after": state.place,
            "next": next,
            "changes": changes,
        });
        let sent = self.send(&id, body.to_string()).await;
        telemetry::webhook_requested(sent.is_ok());
        let now = now_millis();
        let (failure, following) = match sent {
            Ok(()) => {
                if state.attempts > 0 {
                    info!(target_url = state.target, "changes are delivered again");
                }
                state = WebhookState { delivered_at: Some(now), ..past(state, next) };
                (None, if page.has_more { NextStep::Again } else { NextStep::AfterChange })
            }
            Err(FailedRequest { reason, retry_after }) => {
                state.attempts = state.attempts.saturating_add(1);
                state.error.clone_from(&reason);
                let since = *state.failing_since.get_or_insert(now);
                let wait = RETRIES.limit(state.attempts);
                let wait = (wait / 2 + jitter(wait / 2)).max(retry_after.unwrap_or_default());
                let attempts = state.attempts;
                let failure =
                    (now.saturating_sub(since) >= self.give_up_millis).then(|| failure(&state, &next, now));
                warn!(
                    target_url = state.target,
                    reason,
                    attempts,
                    given_up = failure.is_some(),
                    "cannot deliver changes"
                );
                if failure.is_some() {
                    state = past(state, next);
                }
                (failure, NextStep::AfterTime(wait))
            }
        };
        let is_set =
            self.archive.set_webhook(&self.tenant, &self.id, (&state, version), failure.as_ref()).await?;
        Ok(if is_set { following } else { NextStep::Again })
    }

    /// Continues with the oldest changes that are kept: those after the target's place were swept, or the
    /// index was built again.
    async fn begin_again(&self, state: WebhookState, version: u64) -> Result<NextStep, Error> {
        let state = WebhookState { error: SWEPT.into(), ..state };
        let failure = failure(&state, "", now_millis());
        warn!(target_url = state.target, place = state.place, SWEPT);
        let state = past(state, String::new());
        self.archive.set_webhook(&self.tenant, &self.id, (&state, version), Some(&failure)).await?;
        Ok(NextStep::Again)
    }

    /// Sends a request. Any status of success ends the delivery.
    async fn send(&self, id: &str, body: String) -> Result<(), FailedRequest> {
        let timestamp = now_millis() / 1000;
        let signed = format!("{id}.{timestamp}.{body}");
        let signature = STANDARD.encode(hmac::sign(&self.key, signed.as_bytes()));
        let request = self.client.post(self.url.clone()).header(CONTENT_TYPE, "application/json");
        let request = request
            .header("webhook-id", id)
            .header("webhook-timestamp", timestamp)
            .header("webhook-signature", format!("v1,{signature}"));
        let response = request.body(body).send().await.map_err(|error| FailedRequest {
            // The address may hold a secret.
            reason: telemetry::chain(&error.without_url()),
            retry_after: None,
        })?;
        if response.status().is_success() {
            return Ok(());
        }
        let reason = format!("the target answers with {}", response.status());
        Err(FailedRequest { reason, retry_after: retry_after(&response) })
    }
}

/// The reason for a gap in what a target gets.
const SWEPT: &str = "the changes after the place of a webhook are not kept any more (changes.retention_days); \
    it gets the oldest that are kept";

/// The state after changes that were delivered or given up.
fn past(state: WebhookState, place: String) -> WebhookState {
    WebhookState { place, failing_since: None, attempts: 0, error: String::new(), ..state }
}

fn failure(state: &WebhookState, next: &str, now: i64) -> WebhookFailure {
    WebhookFailure {
        target: state.target.clone(),
        after: state.place.clone(),
        next: next.to_owned(),
        given_up_at: now,
        attempts: state.attempts,
        error: state.error.clone(),
    }
}

fn described(entries: &[FeedEntry]) -> Vec<serde_json::Value> {
    let of_entry = |entry: &FeedEntry| {
        let known = entry.changes.iter().filter(|change| change.kind.event().is_some());
        known.map(|change| change_json(entry, change)).collect::<Vec<_>>()
    };
    entries.iter().flat_map(of_entry).collect()
}

/// The part of an address that is not secret: scheme, host and port.
fn shown(url: &Url) -> String {
    url.origin().ascii_serialization()
}

fn retry_after(response: &Response) -> Option<Duration> {
    let seconds = response.headers().get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(MAX_RETRY_AFTER))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_secret_is_not_shown() {
        for (url, expected) in [
            ("https://user:word@a.example/hook/x?key=1#y", "https://a.example"),
            ("http://10.0.0.1:8080", "http://10.0.0.1:8080"),
        ] {
            assert_eq!(shown(&url.parse().unwrap()), expected);
        }
    }
}
