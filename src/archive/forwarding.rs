//! The durable progress of forwarding, which the DIMSE layer carries out: one process at a time forwards to a
//! destination.

use crate::archive::access::Caller;
use crate::archive::changes::FeedCursor;
use crate::archive::lease::Lease;
use crate::archive::{Archive, Error};
use crate::clock::now_millis;
pub use crate::index::forwarding::{ForwardState, UnsentInstance};
use crate::index::leased::LeasedState;

/// The most destinations of a tenant that a report has.
const MAX_DESTINATIONS: usize = 100;
/// The failures of a destination that a report has.
const REPORTED_FAILURES: usize = 20;
/// The most rows of failures of a destination; older ones are deleted.
const MAX_FAILURES: u64 = 1000;
/// The attempts to write the progress while the process with the lease writes it.
const ATTEMPTS: usize = 8;
/// The most instances of a destination that are forwarded later.
pub const MAX_LATER: usize = 1000;

/// The progress of forwarding to a destination, for the process that has the lease.
pub type ForwardLease = Lease<ForwardState>;

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
        if self.index.leased::<ForwardState>(tenant, title).await?.is_some() {
            return Ok(());
        }
        let cursor = self.index.end_of_changes(tenant).await?.to_string();
        let state = ForwardState { cursor, ..ForwardState::default() };
        // Another process may have begun, too.
        self.index.set_leased(tenant, title, &state, 0).await?;
        Ok(())
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

impl Archive {
    /// Has the instances forwarded again that could not be sent to a destination, the latest first, as many
    /// as may wait. Returns their number. The process that forwards takes them with its next lease.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no such destination.
    pub async fn retry_forwarding(&self, caller: &Caller, title: &str) -> Result<usize, Error> {
        let (tenant, index) = (caller.tenant.as_str(), &self.index);
        if index.leased::<ForwardState>(tenant, title).await?.is_none() {
            return Err(Error::NotFound(format!("destination {title} of forwarding")));
        }
        let later = index.forwarded_later(tenant, title, MAX_LATER).await?;
        let room = MAX_LATER.saturating_sub(later.len());
        if room == 0 {
            return Ok(0);
        }
        let failed = index.not_forwarded(tenant, title, room).await?;
        index.retry_forwarding(tenant, title, &failed, now_millis()).await?;
        for _ in 0..ATTEMPTS {
            let Some((mut state, version)) = index.leased::<ForwardState>(tenant, title).await? else {
                break;
            };
            state.failed = state.failed.saturating_sub(failed.len() as u64);
            let kept = index.not_forwarded(tenant, title, MAX_LATER).await?.len();
            state.kept_failures = kept as u64;
            // The process that has the lease does not look for such instances again while it has the lease.
            state.set_holder(String::new());
            state.set_end(0);
            if index.set_leased(tenant, title, &state, version).await? {
                return Ok(failed.len());
            }
        }
        Err(Error::NotReady("another process writes the progress of forwarding".into()))
    }
}

impl Lease<ForwardState> {
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
}
