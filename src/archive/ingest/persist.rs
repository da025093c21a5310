//! The durable steps of ingest: comparing an instance with what is stored under its UID, putting its object,
//! and committing its record.

use std::time::Duration;

use tracing::warn;

use crate::archive::access::{Caller, Tenant};
use crate::archive::ingest::duplicate::{Existing, Inspection, digest_of, existing, has_same_data_set};
use crate::archive::ingest::partial::ReceivedInstance;
use crate::archive::ingest::{Refusal, StoredInstance, record};
use crate::archive::{Archive, Error, keys};
use crate::blobs::Staged;
use crate::clock::now_millis;
use crate::config::Duplicates;
use crate::dicom::failure::Warning;
use crate::dicom::instance::ParsedInstance;
use crate::index::CommitOutcome;
use crate::index::records::InstanceRecord;

/// Compares an instance whose bytes are all there with what is stored, and persists the instance.
pub(super) async fn ingest(
    archive: &Archive,
    caller: &Caller,
    received: ReceivedInstance,
) -> Result<StoredInstance, Refusal> {
    let uid = received.instance.instance.clone();
    let _lock = archive.instance_locks.lock((caller.tenant.clone(), uid)).await;
    // The commit decides what is stored; this look before it avoids putting bytes in vain.
    let (received, existing) = compare(archive, caller, received).await?;
    let ReceivedInstance { instance, digest, staged, .. } = received;
    let lost = match existing {
        Existing::Nothing => None,
        Existing::Same => return Ok(duplicate(instance.warnings)),
        Existing::Lost { object } => Some(object),
        Existing::Elsewhere => return Err(Refusal::Elsewhere),
        Existing::Different { .. } | Existing::OtherAlgorithm { .. } => match archive.ingest.duplicates {
            Duplicates::Reject => return Err(Refusal::Different),
            Duplicates::Replace => None,
        },
    };
    let object = keys::new_object(&digest);
    let (record, warnings) = record(instance, digest, object, lost.as_slice(), staged.length());
    match persist(archive, &caller.tenant, record, staged).await? {
        CommitOutcome::Stored => Ok(StoredInstance { is_duplicate: false, has_replaced: false, warnings }),
        CommitOutcome::AlreadyStored { .. } => Ok(duplicate(warnings)),
        CommitOutcome::Replaced { .. } if lost.is_some() => Ok(duplicate(warnings)),
        CommitOutcome::Replaced { .. } => {
            Ok(StoredInstance { is_duplicate: false, has_replaced: true, warnings })
        }
        CommitOutcome::DifferentBytes => Err(Refusal::Different),
        CommitOutcome::OtherSeries => Err(Refusal::Elsewhere),
    }
}

/// Puts the object of an instance under the key that its record names, which no object had before, and
/// commits the record.
pub(in crate::archive) async fn persist(
    archive: &Archive,
    tenant: &Tenant,
    record: InstanceRecord,
    staged: Staged,
) -> Result<CommitOutcome, Error> {
    let key = keys::original_of(tenant, &record);
    archive.blobs.put(staged, &key).await?;
    let object = record.object.clone();
    let outcome = commit(archive, tenant, record).await?;
    let is_committed = match &outcome {
        CommitOutcome::Stored | CommitOutcome::Replaced { .. } => true,
        // The object may be this one, if the index needed a second attempt.
        CommitOutcome::AlreadyStored { object: existing } => *existing == object,
        CommitOutcome::DifferentBytes | CommitOutcome::OtherSeries => false,
    };
    if !is_committed && let Err(error) = archive.blobs.delete(&key).await {
        // Another process was first. No record refers to the object.
        warn!(%error, "cannot delete an object that was not committed; a check will name it");
    }
    Ok(outcome)
}

/// Compares a received instance with what is stored under its UID, by the data set too.
async fn compare(
    archive: &Archive,
    caller: &Caller,
    received: ReceivedInstance,
) -> Result<(ReceivedInstance, Existing), Refusal> {
    let ReceivedInstance { instance, mut digest, mut staged, data_set_offset } = received;
    let ParsedInstance { study, series, instance: uid, .. } = &instance;
    let (uids, size_bytes) = ((study, series, uid), staged.length());
    // The answer that the instance is stored must be true of every byte.
    let inspection = Inspection::Digest;
    let mut found = existing(archive, &caller.tenant, uids, digest, size_bytes, inspection).await?;
    if let Existing::OtherAlgorithm { digest: stored } = found {
        let own;
        (own, staged) = digest_of(staged, stored.algorithm()).await?;
        found = existing(archive, &caller.tenant, uids, own, size_bytes, inspection).await?;
        if matches!(found, Existing::Lost { .. }) {
            // The object that replaces the lost one has the same digest, so that validators stay.
            digest = own;
        }
    }
    if let Existing::Different { digest: stored } | Existing::OtherAlgorithm { digest: stored } = found {
        let has_same;
        (has_same, staged) =
            has_same_data_set(archive, caller, &instance, stored, staged, data_set_offset).await?;
        if has_same {
            found = Existing::Same;
        }
    }
    Ok((ReceivedInstance { instance, staged, data_set_offset, digest }, found))
}

/// Commits an instance, and announces the preview of its series.
async fn commit(archive: &Archive, tenant: &Tenant, record: InstanceRecord) -> Result<CommitOutcome, Error> {
    let tenant = tenant.as_str();
    let preview_due = archive.preview.enabled.then(|| preview_due(archive));
    let has_preview = preview_due.is_some() && record.layout.pixels.is_some();
    let series = has_preview.then(|| (record.study.clone(), record.series.clone()));
    let outcome = archive.index.commit(tenant, record, archive.ingest.duplicates, preview_due).await?;
    if let Some((study, series)) = series
        && matches!(outcome, CommitOutcome::Stored | CommitOutcome::Replaced { .. })
    {
        let delay = Duration::from_secs(archive.preview.quiet_seconds);
        archive.announce_preview(tenant, study, series, delay).await;
    }
    Ok(outcome)
}

/// The time at which the preview of a series that changes now is to be made. In whole seconds, so that most
/// commits to a series leave the order of previews as it is.
fn preview_due(archive: &Archive) -> i64 {
    1000 * (now_millis() / 1000 + archive.preview.quiet_seconds as i64)
}

fn duplicate(warnings: Vec<Warning>) -> StoredInstance {
    StoredInstance { is_duplicate: true, has_replaced: false, warnings }
}
