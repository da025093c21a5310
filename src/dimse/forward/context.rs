//! What forwarding to all destinations shares.

use std::sync::Arc;
use std::time::Duration;

use tracing::warn;

use crate::archive::access::Caller;
use crate::archive::forwarding::UnsentInstance;
use crate::archive::records::InstanceRecord;
use crate::archive::{Archive, Error};
use crate::backoff::Backoff;
use crate::budget::Budget;
use crate::config::DimseSettings;
use crate::telemetry;

/// The pauses after failed attempts.
pub(super) const RETRY: Backoff = Backoff::new(Duration::from_secs(2), Duration::from_secs(300));

/// The state that forwarding to all destinations shares.
pub(super) struct ForwardContext {
    pub(super) archive: Arc<Archive>,
    pub(super) settings: DimseSettings,
    /// The places of the associations that the server requests.
    pub(super) outgoing: Budget,
    /// The time for which a process has the lease of a destination.
    pub(super) lease: Duration,
}

impl ForwardContext {
    /// The record of an instance; `None` if the instance was deleted, or its record is damaged.
    pub(super) async fn find(
        &self,
        caller: &Caller,
        unsent: &UnsentInstance,
    ) -> Result<Option<InstanceRecord>, Error> {
        let found = self.archive.instance(caller, &unsent.study, &unsent.series, &unsent.instance).await;
        match found {
            Ok(record) => Ok(Some(record)),
            Err(Error::NotFound(_)) => Ok(None),
            Err(error) if error.is_about_record() => {
                let error = telemetry::chain(&error);
                warn!(instance.uid = %unsent.instance, error, "an instance cannot be forwarded");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}
