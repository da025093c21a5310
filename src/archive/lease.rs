//! Leases of work for an AE title: of several processes over one index, one at a time does the work, and
//! keeps its state durable.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use uuid::Uuid;

use crate::archive::access::Caller;
use crate::archive::{Archive, Error};
use crate::clock::{has_come, millis, now_millis};
use crate::index::leased::LeasedState;

/// The state of work for an AE title, for the process that has the lease.
pub struct Lease<S> {
    pub(in crate::archive) archive: Arc<Archive>,
    pub(in crate::archive) tenant: String,
    pub(in crate::archive) title: String,
    pub(in crate::archive) version: u64,
    duration: Duration,
    written: Instant,
    /// The state. Changes are durable after [`Lease::save`].
    pub state: S,
}

/// The reason why a process cannot go on with the work of a lease.
#[derive(Debug, thiserror::Error)]
pub enum LeaseEnd {
    /// Another process has taken the lease.
    #[error("another process has taken the lease")]
    Lost,
    /// The archive failed.
    #[error(transparent)]
    Archive(#[from] Error),
}

impl Archive {
    /// Takes the lease of the work for a title; `None` if another process has the lease.
    pub async fn lease<S: LeasedState>(
        self: &Arc<Self>,
        caller: &Caller,
        title: &str,
        duration: Duration,
    ) -> Result<Option<Lease<S>>, Error> {
        let tenant = caller.tenant.as_str();
        let (state, version) = self.index.leased::<S>(tenant, title).await?.unwrap_or_default();
        // Without other processes, the holder is one that was killed.
        if self.is_shared && !has_come(state.leased_until(), now_millis(), duration) {
            return Ok(None);
        }
        let mut taken = Lease {
            archive: Arc::clone(self),
            tenant: tenant.to_owned(),
            title: title.to_owned(),
            version,
            duration,
            written: Instant::now(),
            state,
        };
        taken.set_holder(Uuid::new_v4().simple().to_string(), duration);
        match taken.write().await {
            Ok(()) => Ok(Some(taken)),
            Err(LeaseEnd::Lost) => Ok(None),
            Err(LeaseEnd::Archive(error)) => Err(error),
        }
    }
}

impl<S: LeasedState> Lease<S> {
    /// Makes the state durable, and renews the lease.
    pub async fn save(&mut self) -> Result<(), LeaseEnd> {
        self.renew();
        self.write().await
    }

    /// Makes the state durable, if that was last done a while ago.
    pub async fn save_sometimes(&mut self) -> Result<(), LeaseEnd> {
        if self.written.elapsed() < self.duration / 3 { Ok(()) } else { self.save().await }
    }

    /// Makes the state durable, and ends the lease.
    pub async fn release(mut self) -> Result<(), LeaseEnd> {
        self.set_holder(String::new(), Duration::ZERO);
        self.write().await
    }

    /// Waits for work, and renews the lease meanwhile if there may be other processes.
    pub async fn during<T>(&mut self, work: impl Future<Output = T>) -> Result<T, LeaseEnd> {
        if !self.archive.is_shared {
            return Ok(work.await);
        }
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return Ok(done),
                () = sleep_until(self.written + self.duration / 3) => self.save().await?,
            }
        }
    }

    /// Sets the end of the lease in the state, which is to be written.
    pub(in crate::archive) fn renew(&mut self) {
        let until = now_millis().saturating_add(millis(self.duration));
        self.state.set_end(until);
    }

    /// Counts a write of the state in another transaction.
    pub(in crate::archive) fn is_written(&mut self) {
        self.version += 1;
        self.written = Instant::now();
    }

    fn set_holder(&mut self, holder: String, duration: Duration) {
        self.state.set_holder(holder);
        self.state.set_end(now_millis().saturating_add(millis(duration)));
    }

    async fn write(&mut self) -> Result<(), LeaseEnd> {
        let index = &self.archive.index;
        let written = index.set_leased(&self.tenant, &self.title, &self.state, self.version).await;
        if !written.map_err(Error::from)? {
            return Err(LeaseEnd::Lost);
        }
        self.is_written();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::testing::fleet;
    use crate::index::commitments::ReportState;

    async fn take(archive: &Arc<Archive>, duration: Duration) -> Option<Lease<ReportState>> {
        archive.lease(&Caller::anonymous(), "CT", duration).await.unwrap()
    }

    #[tokio::test]
    async fn one_process_of_a_fleet_has_a_lease_until_it_is_released_or_ends() {
        let [one, other] = fleet();
        let minute = Duration::from_secs(60);
        let mut held = take(&one, minute).await.unwrap();
        assert!(take(&other, minute).await.is_none());
        held.state.reported = 7;
        held.release().await.unwrap();
        let held = take(&other, Duration::from_millis(50)).await.unwrap();
        assert_eq!(held.state.reported, 7);
        tokio::time::sleep(Duration::from_millis(60)).await;
        let mut next = take(&one, minute).await.unwrap();
        assert!(matches!(held.release().await, Err(LeaseEnd::Lost)));
        next.save().await.unwrap();
    }

    #[tokio::test]
    async fn a_lease_is_renewed_while_work_goes_on() {
        let [one, other] = fleet();
        let short = Duration::from_millis(300);
        let mut held = take(&one, short).await.unwrap();
        held.during(tokio::time::sleep(3 * short)).await.unwrap();
        assert!(take(&other, short).await.is_none());
    }

    #[tokio::test]
    async fn a_lease_that_a_wrong_clock_wrote_does_not_last() {
        let [one, other] = fleet();
        let minute = Duration::from_secs(60);
        let mut held = take(&one, minute).await.unwrap();
        held.state.leased_until = now_millis() + millis(365 * 24 * 60 * minute);
        held.write().await.unwrap();
        assert!(take(&other, minute).await.is_some());
    }
}
