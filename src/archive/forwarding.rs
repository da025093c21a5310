//! The durable progress of forwarding, which the DIMSE layer carries out: one process at a time forwards to a
//! destination.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use uuid::Uuid;

use crate::archive::access::Caller;
use crate::archive::changes::FeedCursor;
use crate::archive::{Archive, Error};
use crate::clock::{has_come, millis, now_millis};
pub use crate::index::forwarding::{ForwardState, UnsentInstance};

/// The most destinations of a tenant that a report has.
const MAX_DESTINATIONS: usize = 100;
/// The failures of a destination that a report has.
const REPORTED_FAILURES: usize = 20;
/// The most rows of failures of a destination; older ones are deleted.
const MAX_FAILURES: u64 = 1000;
/// The most instances of a destination that are forwarded later.
pub const MAX_LATER: usize = 1000;

/// The progress of forwarding to a destination, for the process that has the lease.
pub struct ForwardLease {
    archive: Arc<Archive>,
    tenant: String,
    title: String,
    lease: Duration,
    version: u64,
    written: Instant,
    /// The progress. Changes are durable after [`ForwardLease::save`].
    pub state: ForwardState,
}

/// Why a process cannot go on forwarding.
#[derive(Debug, thiserror::Error)]
pub enum ForwardEnd {
    /// Another process has taken the lease.
    #[error("another process forwards to this destination")]
    LeaseLost,
    /// The archive failed.
    #[error(transparent)]
    Archive(#[from] Error),
}

/// The progress of forwarding to a destination, for a report.
#[derive(Debug)]
pub struct ForwardReport {
    /// The AE title.
    pub destination: String,
    /// The progress.
    pub state: ForwardState,
    /// The last instances that could not be sent, the latest first.
    pub failures: Vec<UnsentInstance>,
}

impl Archive {
    /// Begins the progress of forwarding to a destination, unless there is one: with the instances that are
    /// stored from now on.
    pub async fn begin_forwarding(&self, caller: &Caller, title: &str) -> Result<(), Error> {
        let tenant = caller.tenant.as_str();
        if self.index.forward_state(tenant, title).await?.is_some() {
            return Ok(());
        }
        let cursor = self.index.end_of_changes(tenant).await?.to_string();
        let state = ForwardState { cursor, ..ForwardState::default() };
        // Another process may have begun, too.
        self.index.set_forward_state(tenant, title, &state, 0).await?;
        Ok(())
    }

    /// Takes the lease of forwarding to a destination; `None` if another process has the lease.
    pub async fn lease_forwarding(
        self: &Arc<Self>,
        caller: &Caller,
        title: &str,
        lease: Duration,
    ) -> Result<Option<ForwardLease>, Error> {
        let tenant = caller.tenant.as_str();
        let (mut state, version) = self.index.forward_state(tenant, title).await?.unwrap_or_default();
        // Without other processes, the holder is one that was killed.
        if self.is_shared && !has_come(state.leased_until, now_millis(), lease) {
            return Ok(None);
        }
        state.holder = Uuid::new_v4().simple().to_string();
        let mut taken = ForwardLease {
            archive: Arc::clone(self),
            tenant: tenant.to_owned(),
            title: title.to_owned(),
            lease,
            version,
            written: Instant::now(),
            state,
        };
        match taken.save().await {
            Ok(()) => Ok(Some(taken)),
            Err(ForwardEnd::LeaseLost) => Ok(None),
            Err(ForwardEnd::Archive(error)) => Err(error),
        }
    }
    /// The progress of forwarding to each destination of the caller's tenant.
    pub async fn forwarding(&self, caller: &Caller) -> Result<Vec<ForwardReport>, Error> {
        let tenant = caller.tenant.as_str();
        let mut reports = Vec::new();
        if caller.share.is_some() {
            return Ok(reports);
        }
        for (destination, state) in self.index.forward_states(tenant, MAX_DESTINATIONS).await? {
            let failures = match state.kept_failures {
                0 => Vec::new(),
                _ => self.index.not_forwarded(tenant, &destination, REPORTED_FAILURES).await?,
            };
            reports.push(ForwardReport { destination, state, failures });
        }
        Ok(reports)
    }
}

impl ForwardLease {
    /// The place in the feed of changes; `None` if it cannot be read.
    pub fn cursor(&self) -> Option<FeedCursor> {
        self.state.cursor.parse().ok()
    }

    /// The instances that are forwarded later.
    pub async fn later(&self) -> Result<Vec<UnsentInstance>, Error> {
        Ok(self.archive.index.forwarded_later(&self.tenant, &self.title, MAX_LATER).await?)
    }

    /// Adds or replaces an instance that is forwarded later.
    pub async fn postpone(&self, unsent: &UnsentInstance) -> Result<(), Error> {
        Ok(self.archive.index.forward_later(&self.tenant, &self.title, unsent).await?)
    }

    /// Removes an instance from those that are forwarded later.
    pub async fn forget_later(&self, unsent: &UnsentInstance) -> Result<(), Error> {
        let index = &self.archive.index;
        Ok(index.end_forwarding(&self.tenant, &self.title, &unsent.instance, None).await?)
    }

    /// Records that an instance cannot be sent.
    pub async fn fail(&mut self, unsent: &UnsentInstance) -> Result<(), Error> {
        let (tenant, title, index) = (&self.tenant, &self.title, &self.archive.index);
        index.end_forwarding(tenant, title, &unsent.instance, Some(unsent)).await?;
        self.state.failed += 1;
        if self.state.kept_failures < MAX_FAILURES {
            self.state.kept_failures += 1;
            return Ok(());
        }
        Ok(index.forget_oldest_failure(tenant, title).await?)
    }

    /// Makes the progress durable, and renews the lease.
    pub async fn save(&mut self) -> Result<(), ForwardEnd> {
        self.state.leased_until = now_millis().saturating_add(millis(self.lease));
        let index = &self.archive.index;
        let saved = index.set_forward_state(&self.tenant, &self.title, &self.state, self.version).await;
        if !saved.map_err(Error::from)? {
            return Err(ForwardEnd::LeaseLost);
        }
        self.version += 1;
        self.written = Instant::now();
        Ok(())
    }

    /// Makes the progress durable, if that was last done a while ago.
    pub async fn save_sometimes(&mut self) -> Result<(), ForwardEnd> {
        if self.written.elapsed() < self.lease / 3 { Ok(()) } else { self.save().await }
    }

    /// Waits for work, and renews the lease meanwhile if there may be other processes.
    pub async fn during<T>(&mut self, work: impl Future<Output = T>) -> Result<T, ForwardEnd> {
        if !self.archive.is_shared {
            return Ok(work.await);
        }
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return Ok(done),
                () = tokio::time::sleep_until(self.written + self.lease / 3) => self.save().await?,
            }
        }
    }
}
