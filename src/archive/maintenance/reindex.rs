//! Building the index again from the objects alone.

use futures_util::{StreamExt, TryStreamExt};
use tokio::sync::Mutex;

use crate::archive::access::Tenant;
use crate::archive::ingest::{read_instance, record};
use crate::archive::maintenance::report::{Finding, Report};
use crate::archive::{Archive, Error, keys, run_blocking, scan_limits};
use crate::blobs;
use crate::blobs::{Bucket, Key, ListedObject};
use crate::clock::now_millis;
use crate::config::Duplicates;
use crate::dicom::scan::Scanner;
use crate::digest::Hasher;
use crate::index::CommitOutcome;
use crate::index::records::InstanceRecord;

/// Objects that are read at the same time.
const CONCURRENCY: usize = 16;

/// Commits every original to the index, which should be empty. Of several objects under one SOP Instance
/// UID, the newest is taken. It may be run again where it was interrupted.
///
/// # Errors
/// If the store or the index fails. Objects that cannot be read are findings.
pub async fn reindex(archive: &Archive, progress: impl Fn(u64)) -> Result<Report, Error> {
    let mut report = Report::default();
    let entries = archive.blobs.list(Bucket::Originals, "");
    let turn = Mutex::new(());
    let mut commits = entries
        .map(|entry| async {
            let entry = entry?;
            Ok::<_, Error>((index_object(archive, &entry, &turn).await?, entry))
        })
        .buffer_unordered(CONCURRENCY);
    while let Some((finding, entry)) = commits.try_next().await? {
        match finding {
            None => {
                report.instances += 1;
                report.bytes += entry.size_bytes;
            }
            // It was deleted since it was listed.
            Some(Finding::Missing(_)) => {}
            Some(finding) => report.findings.push(finding),
        }
        progress(1);
    }
    Ok(report)
}

async fn index_object(
    archive: &Archive,
    entry: &ListedObject,
    turn: &Mutex<()>,
) -> Result<Option<Finding>, Error> {
    match read_record(archive, entry).await? {
        Ok((tenant, record)) => commit_newest(archive, &tenant, &entry.key, record, turn).await,
        Err(finding) => Ok(Some(finding)),
    }
}

/// Makes the record of an object again from its bytes, or says what is wrong with it.
pub(in crate::archive) async fn read_record(
    archive: &Archive,
    entry: &ListedObject,
) -> Result<Result<(Tenant, InstanceRecord), Finding>, Error> {
    let key = &entry.key;
    let unreadable = |reason: String| Ok(Err(Finding::Unreadable(key.clone(), reason)));
    let Some(keys::Parsed::Original { tenant, study, series, instance, object }) = keys::parse(key) else {
        return Ok(Err(Finding::Unnamed(key.clone())));
    };
    let Some(digest) = keys::digest_of(&object) else {
        return Ok(Err(Finding::Damaged(key.clone())));
    };
    let mut scanner = Scanner::new(scan_limits(&archive.ingest));
    let mut scanned = Ok(());
    let mut hasher = Hasher::new(digest.algorithm());
    let mut bytes = match archive.blobs.read(key, 0..entry.size_bytes).await {
        Err(blobs::Error::NotFound(_)) => return Ok(Err(Finding::Missing(key.clone()))),
        opened => opened?,
    };
    while let Some(chunk) = bytes.try_next().await? {
        let permit = archive.permits.codec_in_background().await;
        let work = move || {
            hasher.update(&chunk);
            let scanned = scanned.and_then(|()| scanner.push(&chunk));
            (hasher, scanner, scanned)
        };
        (hasher, scanner, scanned) = run_blocking(Some(permit), work).await?;
    }
    if hasher.finish() != digest {
        return Ok(Err(Finding::Damaged(key.clone())));
    }
    let permit = archive.permits.codec_in_background().await;
    let read = move || scanned.and_then(|()| scanner.finish()).and_then(|outline| read_instance(&outline));
    let read = match run_blocking(Some(permit), read).await? {
        Ok(read) => read,
        Err(failure) => return unreadable(failure.to_string()),
    };
    if (&read.study, &read.series, &read.instance) != (&study, &series, &instance) {
        return unreadable("its name is that of another instance".into());
    }
    let (mut record, _) = record(read, digest, object, &[], entry.size_bytes);
    // A listing that tells no age gives the largest.
    record.stored_at = entry.modified_at.min(now_millis());
    Ok(Ok((tenant, record)))
}

/// Commits an object unless a newer one has its UID. Objects that compete for a UID take turns.
async fn commit_newest(
    archive: &Archive,
    tenant: &Tenant,
    key: &Key,
    record: InstanceRecord,
    turn: &Mutex<()>,
) -> Result<Option<Finding>, Error> {
    let mut my_turn = None;
    let due_at = archive.preview.enabled.then_some(record.stored_at);
    let mut policy = Duplicates::Reject;
    loop {
        match archive.index.commit(tenant.as_str(), record.clone(), policy, due_at).await? {
            CommitOutcome::Stored => return Ok(None),
            CommitOutcome::AlreadyStored { object } if object == record.object => return Ok(None),
            CommitOutcome::AlreadyStored { .. } => return Ok(Some(Finding::Superseded(key.clone()))),
            CommitOutcome::Replaced { object } => {
                let InstanceRecord { study, series, instance, .. } = &record;
                let old = keys::original(tenant, study, series, instance, &object);
                return Ok(Some(Finding::Superseded(old)));
            }
            CommitOutcome::OtherSeries => {
                let reason = "its SOP Instance UID is stored in another study or series";
                return Ok(Some(Finding::Unreadable(key.clone(), reason.into())));
            }
            CommitOutcome::DifferentBytes => {
                policy = Duplicates::Replace;
                if my_turn.is_none() {
                    my_turn = Some(turn.lock().await);
                }
            }
        }
        let InstanceRecord { study, series, instance, .. } = &record;
        let known = archive.index.instance(tenant.as_str(), study, series, instance).await?;
        if known.is_some_and(|known: InstanceRecord| known.stored_at > record.stored_at) {
            return Ok(Some(Finding::Superseded(key.clone())));
        }
    }
}
