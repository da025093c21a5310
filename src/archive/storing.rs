//! Whether instances can be stored.
//!
//! A start of the server, and an instance that could not be stored because of the blob store or the index,
//! are reasons to probe both: an object and a row are written and deleted. If that fails, instances cannot be
//! stored until a probe succeeds. An instance that is stored meanwhile proves little: a small one may find
//! space on a disk that is full for others.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::timeout;
use tracing::{error, info};
use uuid::Uuid;

use crate::archive::ingest::{Refusal, StoredInstance, is_panic};
use crate::archive::{Archive, Error, run_blocking};
use crate::blobs::{Bucket, Key};
use crate::telemetry;

/// The bytes of the object of a probe. A disk with less space left than this is full.
const PROBE_BYTES: usize = 1024 * 1024;
/// The longest time of a probe.
const PROBE_TIMEOUT: Duration = Duration::from_secs(60);

/// The outcome of the last attempts to store.
#[derive(Debug, Default)]
pub(in crate::archive) struct StoringState {
    /// The cause for which instances cannot be stored.
    failure: Mutex<Option<String>>,
    /// Notified when an instance could not be stored.
    suspicion: Notify,
}

/// The reason for which instances cannot be stored.
#[derive(Debug, thiserror::Error)]
pub enum NotStoring {
    /// The thread that writes the index has ended: only a restart helps.
    #[error(transparent)]
    Ended(#[from] Error),
    /// The blob store or the index refuses to write, for now.
    #[error("instances cannot be stored; the log says why")]
    Failing,
}

impl StoringState {
    /// Records that an instance was not stored because of the blob store or the index.
    pub(in crate::archive) fn record(&self, result: &Result<StoredInstance, Refusal>) {
        match result {
            Err(Refusal::Failed(cause)) if is_panic(cause) => {}
            Err(Refusal::Failed(_) | Refusal::NoSpace) => self.suspicion.notify_one(),
            Ok(_) | Err(_) => {}
        }
    }

    fn is_failing(&self) -> bool {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Sets the state, and logs its changes.
    fn set(&self, cause: Option<String>) {
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        match (&*failure, &cause) {
            (None, Some(error)) => error!(error, "instances cannot be stored"),
            (Some(_), None) => info!("instances can be stored again"),
            (None, None) | (Some(_), Some(_)) => {}
        }
        if failure.is_some() != cause.is_some() {
            telemetry::storing(cause.is_none());
        }
        *failure = cause;
    }
}

impl Archive {
    /// Checks that instances can be stored, as far as the last attempts show.
    ///
    /// # Errors
    /// The reason for which they cannot.
    pub fn health(&self) -> Result<(), NotStoring> {
        self.index.health().map_err(Error::from)?;
        if self.storing.is_failing() { Err(NotStoring::Failing) } else { Ok(()) }
    }

    /// Waits until there is a reason to probe: an instance could not be stored, or the last probe, which was
    /// `interval` ago, has failed.
    pub async fn storing_suspected(&self, interval: Duration) {
        if self.storing.is_failing() {
            tokio::time::sleep(interval).await;
        } else {
            self.storing.suspicion.notified().await;
        }
    }

    /// Tries to write and to delete an object and a row, and records the outcome for [`Archive::health`].
    pub async fn probe_storing(&self) {
        let cause = match timeout(PROBE_TIMEOUT, self.write_probe()).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(telemetry::chain(&error)),
            Err(_) => Some(format!("a probe took longer than {} s", PROBE_TIMEOUT.as_secs())),
        };
        self.storing.set(cause);
    }

    async fn write_probe(&self) -> Result<(), Error> {
        let id = Uuid::new_v4().simple().to_string();
        let key = Key { bucket: Bucket::Temporary, path: format!("probe/{id}") };
        let mut staged = self.blobs.stage().await?;
        let written = run_blocking(None, move || {
            staged.write(&vec![0; PROBE_BYTES])?;
            Ok::<_, crate::blobs::Error>(staged)
        });
        self.blobs.put(written.await??, &key).await?;
        self.blobs.delete(&key).await?;
        Ok(self.index.probe(&id).await?)
    }
}
