//! The audit log (PS3.15 §A.5): who saw, stored, deleted and searched for what, and who was refused.
//!
//! A record is durable before the answer that it is about. Records are in the table of the index, under the
//! tenant's keys, and in chains of hashes, so that a record that was changed or removed is found by a
//! verification (docs/decisions/0143). Events of one kind by one participant on one study, within a period,
//! have one record, which is found by a lookup in memory (docs/decisions/0144).

use std::collections::HashMap;
use std::future::Future;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::warn;

use crate::audit::chain::{Chain, ChainContext};
use crate::audit::event::AuditEntry;
use crate::audit::groups::{Entry, Groups};
use crate::audit::seal::Sealer;
use crate::config::AuditSettings;
use crate::table::{self, Table};
use crate::telemetry;

mod chain;
mod copy;
pub mod event;
mod groups;
pub mod keys;
pub mod listing;
pub mod message;
pub mod record;
mod seal;
mod sweep;
#[cfg(test)]
mod tests;
pub mod verify;

/// The name that stands for the server itself among the tenants: no tenant can have it.
pub const SERVER_LOG: &str = "!server";

/// The most records a minute of refused callers of which no tenant is known. Further ones are counted.
const MAX_ALERTS_PER_MINUTE: u32 = 120;

/// An error of the audit log.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The record could not be written; whether it was is not known.
    #[error("the audit log cannot be written (audit.required)")]
    Write(#[source] Option<Arc<table::Error>>),
    /// The log could not be read.
    #[error("the audit log cannot be read")]
    Read(#[from] table::Error),
    /// A record of the log cannot be read: it was changed.
    #[error("the record {0} of the audit log was changed; `cuspid audit verify` names all that were")]
    Changed(String),
}

impl Error {
    /// Whether a record could not be written because there is no space.
    pub fn is_no_space(&self) -> bool {
        let Self::Write(Some(cause)) = self else { return false };
        matches!(**cause, table::Error::NoSpace)
    }
}

/// The audit log of all tenants, as this process writes and reads it.
pub struct AuditLog {
    context: Arc<ChainContext>,
    settings: AuditSettings,
    chains: Mutex<HashMap<String, Arc<Chain>>>,
    groups: Groups,
    alerts: Mutex<AlertLimit>,
}

/// The alerts of the present minute.
struct AlertLimit {
    began_at: Instant,
    count: u32,
    suppressed: u64,
}

impl AuditLog {
    /// The audit log in a table; `source` is the name of this server in the records.
    pub fn new(table: Arc<dyn Table>, settings: &AuditSettings, source: &str) -> Self {
        let sealer = Sealer::new(&settings.hash_key);
        let alerts = AlertLimit { began_at: Instant::now(), count: 0, suppressed: 0 };
        Self {
            context: Arc::new(ChainContext { table, sealer, source: source.to_owned() }),
            settings: settings.clone(),
            chains: Mutex::default(),
            groups: Groups::new(),
            alerts: Mutex::new(alerts),
        }
    }

    /// Whether records are written.
    pub fn is_on(&self) -> bool {
        self.settings.enabled
    }

    /// The time for which one record stands for all events of a group.
    pub fn group_period(&self) -> Duration {
        Duration::from_secs(60 * self.settings.group_minutes)
    }

    /// Writes a record of an event in the log of a tenant, or of [`SERVER_LOG`]. The record is durable when
    /// this returns `Ok`.
    ///
    /// # Errors
    /// [`Error::Write`] if that is not possible; a warning is logged instead if `audit.required` is off.
    pub async fn record(&self, tenant: &str, entry: AuditEntry) -> Result<(), Error> {
        if !self.is_on() {
            return Ok(());
        }
        let chain = {
            let mut chains = self.chains.lock().unwrap_or_else(PoisonError::into_inner);
            chains.entry(tenant.to_owned()).or_insert_with(|| Chain::new(tenant)).clone()
        };
        let event = entry.event.name();
        match chain.append(&self.context, entry).await {
            Ok(()) => Ok(()),
            Err(cause) => {
                let error = Error::Write(cause);
                let text = telemetry::chain(&error);
                warn!(audit.event = event, error = text, "a record of the audit log was not written");
                if self.settings.required { Err(error) } else { Ok(()) }
            }
        }
    }

    /// Writes the record of a group of events, unless one was written within `period`. When this returns
    /// `Ok`, a durable record stands for the event. `make` is only called if a record is to be written.
    ///
    /// # Errors
    /// As [`AuditLog::record`]; and the error of `make`.
    pub async fn record_once<E: From<Error>>(
        &self,
        tenant: &str,
        group: &impl Hash,
        period: Duration,
        make: impl Future<Output = Result<AuditEntry, E>>,
    ) -> Result<(), E> {
        self.record_once_if(tenant, group, period, async { make.await.map(Some) }).await
    }

    /// As [`AuditLog::record_once`], but `make` may say that no record is to be written now.
    pub async fn record_once_if<E: From<Error>>(
        &self,
        tenant: &str,
        group: &impl Hash,
        period: Duration,
        make: impl Future<Output = Result<Option<AuditEntry>, E>>,
    ) -> Result<(), E> {
        if !self.is_on() {
            return Ok(());
        }
        let key = self.groups.key(&(tenant, group));
        loop {
            let sender = match self.groups.enter(key) {
                Entry::Written => return Ok(()),
                Entry::Writing(mut writing) => {
                    match writing.wait_for(Option::is_some).await.map(|written| *written) {
                        Ok(Some(true)) => return Ok(()),
                        Ok(_) => return Err(Error::Write(None).into()),
                        // The event that should have written was dropped.
                        Err(_) => continue,
                    }
                }
                Entry::New(sender) => sender,
            };
            let (outcome, is_recorded) = match make.await {
                Ok(Some(entry)) => (self.record(tenant, entry).await.map_err(E::from), true),
                Ok(None) => (Ok(()), false),
                Err(error) => (Err(error), false),
            };
            self.groups.settle(key, (is_recorded && outcome.is_ok()).then_some(period));
            sender.send_replace(Some(outcome.is_ok()));
            return outcome;
        }
    }

    /// Whether an alert about a caller of whom no tenant is known may be written now, with the number of
    /// those before it that were not: a flood of refused requests must not fill the log.
    pub fn take_alert(&self) -> Option<u64> {
        let mut alerts = self.alerts.lock().unwrap_or_else(PoisonError::into_inner);
        if alerts.began_at.elapsed() >= Duration::from_secs(60) {
            (alerts.began_at, alerts.count) = (Instant::now(), 0);
        }
        if alerts.count >= MAX_ALERTS_PER_MINUTE {
            alerts.suppressed += 1;
            return None;
        }
        alerts.count += 1;
        Some(std::mem::take(&mut alerts.suppressed))
    }
}
