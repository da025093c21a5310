//! Keeping an instance whose bytes are all there: what is known of it, its object, its commit.

use std::time::Duration;

use tracing::warn;

use crate::archive::access::{Caller, Tenant};
use crate::archive::ingest::{Received, Refusal, Stored, record};
use crate::archive::{Archive, Error, keys};
use crate::blobs::Staged;
use crate::clock::now_millis;
use crate::config::Duplicates;
use crate::dicom::failure::Warning;
use crate::dicom::instance::ParsedInstance;
use crate::index::CommitOutcome;
use crate::index::records::InstanceRecord;
use crate::queue::Job;

/// What is stored under the UID of an instance that has come.
enum Known {
    /// Nothing, or what is to give way.
    Nothing,
    /// The same.
    Same,
    /// The same, but its object, which has this name, is missing or damaged.
    Lost(String),
}

impl Archive {
    /// Checks, keeps and commits an instance whose bytes are all there.
    pub(in crate::archive) async fn keep(
        &self,
        caller: &Caller,
        mut received: Received,
    ) -> Result<Stored, Refusal> {
        let _claim = self.claims.instance(&caller.tenant, &received.instance.instance).await;
        // The commit has the last word on what is known; asking before spares the work of keeping for nothing.
        let known;
        (known, received) = self.known(caller, received).await?;
        let Received { instance, digest, staged, .. } = received;
        let lost = match known {
            Known::Nothing => None,
            Known::Same => return Ok(stored_before(instance.warnings)),
            Known::Lost(object) => Some(object),
        };
        let object = keys::new_object(&digest);
        let (record, warnings) = record(instance, digest, object, lost.as_slice(), staged.length());
        match self.keep_record(&caller.tenant, record, staged).await? {
            CommitOutcome::Stored => Ok(Stored { was_known: false, has_replaced: false, warnings }),
            CommitOutcome::AlreadyStored { .. } => Ok(stored_before(warnings)),
            CommitOutcome::Replaced { .. } if lost.is_some() => Ok(stored_before(warnings)),
            CommitOutcome::Replaced { .. } => Ok(Stored { was_known: false, has_replaced: true, warnings }),
            CommitOutcome::DifferentBytes => Err(Refusal::Different),
            CommitOutcome::OtherSeries => Err(Refusal::Elsewhere),
        }
    }

    /// Keeps the object of an instance and commits its record, which gives the object a name that none had before.
    pub(in crate::archive) async fn keep_record(
        &self,
        tenant: &Tenant,
        record: InstanceRecord,
        staged: Staged,
    ) -> Result<CommitOutcome, Error> {
        let key = keys::original_of(tenant, &record);
        self.blobs.put(staged, &key).await?;
        let object = record.object.clone();
        let outcome = self.commit(tenant, record).await?;
        let is_kept = match &outcome {
            CommitOutcome::Stored | CommitOutcome::Replaced { .. } => true,
            // It may be this one, if the index had to be asked twice.
            CommitOutcome::AlreadyStored { object: known } => *known == object,
            CommitOutcome::DifferentBytes | CommitOutcome::OtherSeries => false,
        };
        if !is_kept && let Err(error) = self.blobs.delete(&key).await {
            // Another process came first. Nothing refers to the object.
            warn!(%error, "cannot delete an object that was not committed; a check will name it");
        }
        Ok(outcome)
    }

    async fn known(&self, caller: &Caller, mut received: Received) -> Result<(Known, Received), Refusal> {
        let tenant = &caller.tenant;
        let ParsedInstance { study, series, instance, .. } = &received.instance;
        let Some(known) = self.index.locate(tenant.as_str(), instance).await? else {
            return Ok((Known::Nothing, received));
        };
        if known.study != *study || known.series != *series {
            return Err(Refusal::Elsewhere);
        }
        if known.digest == received.digest {
            let object = &known.object;
            let key = keys::original(tenant, study, series, instance, object);
            // Success means that the bytes are there: a missing or damaged object is replaced.
            let is_intact = self.is_intact(&key, &known.digest, received.staged.length()).await?;
            return Ok((if is_intact { Known::Same } else { Known::Lost(object.to_owned()) }, received));
        }
        let Received { instance, staged, data_set_offset, .. } = received;
        let (has_same, staged) =
            self.is_known(caller, &instance, &known.digest, staged, data_set_offset).await?;
        received = Received { instance, staged, digest: received.digest, data_set_offset };
        match self.ingest.duplicates {
            _ if has_same => Ok((Known::Same, received)),
            Duplicates::Reject => Err(Refusal::Different),
            Duplicates::Replace => Ok((Known::Nothing, received)),
        }
    }

    /// Commits an instance, and announces the preview of its series.
    async fn commit(&self, tenant: &Tenant, record: InstanceRecord) -> Result<CommitOutcome, Error> {
        let tenant = tenant.as_str();
        let preview_due = self.preview.enabled.then(|| self.preview_due());
        let job = (preview_due.is_some() && record.layout.pixels.is_some()).then(|| Job {
            tenant: tenant.to_owned(),
            study: record.study.clone(),
            series: record.series.clone(),
        });
        let outcome = self.index.commit(tenant, record, self.ingest.duplicates, preview_due).await?;
        if let Some(job) = job
            && matches!(outcome, CommitOutcome::Stored | CommitOutcome::Replaced { .. })
        {
            self.announce(job, Duration::from_secs(self.preview.quiet_seconds)).await;
        }
        Ok(outcome)
    }

    /// When the preview of a series that changes now is to be made. In whole seconds, so that most commits to a series
    /// leave the order of previews as it is.
    fn preview_due(&self) -> i64 {
        1000 * (now_millis() / 1000 + self.preview.quiet_seconds as i64)
    }
}

fn stored_before(warnings: Vec<Warning>) -> Stored {
    Stored { was_known: true, has_replaced: false, warnings }
}
