//! The durable steps of ingest: comparing an instance with what is stored under its UID, putting its object,
//! and committing its record.

use std::time::Duration;

use tracing::warn;

use crate::archive::access::{Caller, Tenant};
use crate::archive::ingest::duplicate::{
    DataSetComparison, Existing, Inspection, compare_data_sets, digest_of, existing,
};
use crate::archive::ingest::partial::ReceivedInstance;
use crate::archive::ingest::{Identity, Refusal, StoredInstance, record};
use crate::archive::quotas::Room;
use crate::archive::{Archive, Error, keys};
use crate::blobs::{Key, Staged};
use crate::clock::now_millis;
use crate::config::Duplicates;
use crate::dicom::failure::Warning;
use crate::dicom::instance::ParsedInstance;
use crate::index::records::InstanceRecord;
use crate::index::{CommitOutcome, PreparedRecord};

/// The time that a process has to make the preview of a series that it has encoded, before other processes
/// may.
const OWN_PREVIEW: Duration = Duration::from_secs(5);

/// Compares an instance whose bytes are all there with what is stored, and persists the instance.
pub(super) async fn ingest(
    archive: &Archive,
    caller: &Caller,
    received: ReceivedInstance,
) -> Result<StoredInstance, Refusal> {
    let Identity { study, series, instance: uid, .. } = received.identity();
    let _lock = archive.instance_locks.lock((caller.tenant.clone(), uid.clone())).await;
    let room = archive.reserve_room(&caller.tenant, &study, received.staged.length()).await?;
    let outcome = ingest_locked(archive, caller, received, &room).await;
    if !outcome.as_ref().is_ok_and(|stored| !stored.is_duplicate) {
        archive.quotas.give_back(&caller.tenant, &room);
    }
    if archive.index.is_remote()
        && let Ok(stored) = &outcome
    {
        let is_new = !stored.is_duplicate && !stored.has_replaced;
        archive.recent_uploads.record(&caller.tenant, &series, &uid, is_new);
    }
    outcome
}

async fn ingest_locked(
    archive: &Archive,
    caller: &Caller,
    mut received: ReceivedInstance,
    room: &Room,
) -> Result<StoredInstance, Refusal> {
    let is_full = matches!(room, Room::Full(_));
    if !is_full && let Some(stored) = ingest_new(archive, caller, &mut received).await? {
        return Ok(stored);
    }
    // The commit decides what is stored; this look before it avoids putting bytes in vain.
    let (received, existing) = compare(archive, caller, received).await?;
    let ReceivedInstance { instance, digest, staged, .. } = received;
    let is_new = existing == Existing::Nothing;
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
    // What was stored before a limit was reached is given its bytes again.
    if let (Room::Full(reason), None) = (room, &lost) {
        return Err(Refusal::Quota(reason.clone()));
    }
    let object = keys::new_object(&digest);
    let (mut record, warnings) = record(instance, digest, object, lost.as_slice(), staged.length());
    record.source = Some(caller.ae_title().to_owned());
    let outcome = persist(archive, &caller.tenant, record, staged, is_new).await?;
    stored(outcome, warnings, lost.is_some())
}

/// Ingests an instance that is probably new, where a look at the index takes a request to another machine:
/// the bytes are put, and the record is prepared, at the same time as the look. Returns `None` if the look
/// finds an instance under the UID; then everything is undone. Only bytes in memory are put so, because the
/// put of others takes much longer than the look.
async fn ingest_new(
    archive: &Archive,
    caller: &Caller,
    received: &mut ReceivedInstance,
) -> Result<Option<StoredInstance>, Refusal> {
    let tenant = &caller.tenant;
    let ParsedInstance { series, instance: uid, .. } = &received.instance;
    if !archive.index.is_remote() || !archive.recent_uploads.expects_new(tenant, series, uid) {
        return Ok(None);
    }
    let Some(staged) = received.staged.share() else { return Ok(None) };
    let object = keys::new_object(&received.digest);
    let size_bytes = staged.length();
    let (mut record, warnings) = record(received.instance.clone(), received.digest, object, &[], size_bytes);
    record.source = Some(caller.ae_title().to_owned());
    let key = keys::original_of(tenant, &record);
    let (found, put) = tokio::join!(
        archive.index.locate(tenant.as_str(), &received.instance.instance),
        put(archive, tenant, record, staged, &key)
    );
    let mut prepared = put?;
    if !matches!(found, Ok(None)) {
        tokio::join!(archive.index.discard(prepared), delete_uncommitted(archive, &key));
        found.map_err(Error::from)?;
        return Ok(None);
    }
    prepared.expect_new();
    let outcome = commit_object(archive, tenant, prepared, &key).await?;
    stored(outcome, warnings, false).map(Some)
}

/// The result of an upload by the outcome of its commit. `is_of_lost`: the object replaces a lost one of the
/// same bytes.
fn stored(
    outcome: CommitOutcome,
    warnings: Vec<Warning>,
    is_of_lost: bool,
) -> Result<StoredInstance, Refusal> {
    match outcome {
        CommitOutcome::Stored => Ok(StoredInstance { is_duplicate: false, has_replaced: false, warnings }),
        CommitOutcome::AlreadyStored { .. } => Ok(duplicate(warnings)),
        CommitOutcome::Replaced { .. } if is_of_lost => Ok(duplicate(warnings)),
        CommitOutcome::Replaced { .. } => {
            Ok(StoredInstance { is_duplicate: false, has_replaced: true, warnings })
        }
        CommitOutcome::DifferentBytes => Err(Refusal::Different),
        CommitOutcome::OtherSeries => Err(Refusal::Elsewhere),
    }
}

/// Puts the object of an instance under the key that its record names, which no object had before, and
/// commits the record. `is_new`: nothing was stored under the UID a moment ago.
pub(in crate::archive) async fn persist(
    archive: &Archive,
    tenant: &Tenant,
    record: InstanceRecord,
    staged: Staged,
    is_new: bool,
) -> Result<CommitOutcome, Error> {
    let key = keys::original_of(tenant, &record);
    let mut prepared = put(archive, tenant, record, staged, &key).await?;
    if is_new {
        prepared.expect_new();
    }
    commit_object(archive, tenant, prepared, &key).await
}

/// Puts an object and prepares the commit of its record at the same time.
async fn put(
    archive: &Archive,
    tenant: &Tenant,
    record: InstanceRecord,
    staged: Staged,
    key: &Key,
) -> Result<PreparedRecord, Error> {
    let prepared = archive.index.prepare(tenant.as_str(), record);
    match tokio::join!(archive.blobs.put(staged, key), prepared) {
        (Ok(()), Ok(prepared)) => Ok(prepared),
        (Ok(()), Err(error)) => {
            delete_uncommitted(archive, key).await;
            Err(error.into())
        }
        (Err(error), prepared) => {
            if let Ok(prepared) = prepared {
                archive.index.discard(prepared).await;
            }
            Err(error.into())
        }
    }
}

/// Commits an instance whose object was put under `key`. Deletes the object if the instance is not stored.
async fn commit_object(
    archive: &Archive,
    tenant: &Tenant,
    prepared: PreparedRecord,
    key: &Key,
) -> Result<CommitOutcome, Error> {
    let object = prepared.record().object.clone();
    let outcome = commit(archive, tenant, prepared).await?;
    let is_committed = match &outcome {
        CommitOutcome::Stored | CommitOutcome::Replaced { .. } => true,
        // The object may be this one, if the index needed a second attempt.
        CommitOutcome::AlreadyStored { object: existing } => *existing == object,
        CommitOutcome::DifferentBytes | CommitOutcome::OtherSeries => false,
    };
    if !is_committed {
        // Another process was first. No record refers to the object.
        delete_uncommitted(archive, key).await;
    }
    Ok(outcome)
}

/// Deletes an object that no record refers to.
async fn delete_uncommitted(archive: &Archive, key: &Key) {
    if let Err(error) = archive.blobs.delete(key).await {
        warn!(%error, "cannot delete an object that was not committed; a check will name it");
    }
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
        let comparison;
        (comparison, staged) =
            compare_data_sets(archive, caller, &instance, stored, staged, data_set_offset).await?;
        match comparison {
            DataSetComparison::Same => found = Existing::Same,
            DataSetComparison::Lost { object } => found = Existing::Lost { object },
            DataSetComparison::Different => {}
        }
    }
    Ok((ReceivedInstance { instance, staged, data_set_offset, digest }, found))
}

/// Commits an instance, and announces the preview of its series.
async fn commit(
    archive: &Archive,
    tenant: &Tenant,
    prepared: PreparedRecord,
) -> Result<CommitOutcome, Error> {
    let record = prepared.record();
    let preview_due = archive.preview.enabled.then(|| preview_due(archive));
    let has_preview = preview_due.is_some() && record.layout.pixels.is_some();
    let series = has_preview.then(|| (record.study.clone(), record.series.clone()));
    let to_encode = (has_preview && archive.slices.is_encoding()).then(|| record.clone());
    let outcome = archive.index.commit_prepared(prepared, archive.ingest.duplicates, preview_due).await?;
    if let Some((study, series)) = series
        && matches!(outcome, CommitOutcome::Stored | CommitOutcome::Replaced { .. })
    {
        let mut delay = Duration::from_secs(archive.preview.quiet_seconds);
        if let Some(record) = to_encode {
            archive.slices.add(tenant, record);
            // This process has the slices, and makes the preview unless it ends before.
            delay += OWN_PREVIEW;
        }
        archive.announce_preview(tenant.as_str(), study, series, delay).await;
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
