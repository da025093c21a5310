//! Deletion of studies, series and instances, with all objects that were derived from them
//! (docs/decisions/0069).
//!
//! The transaction that removes rows also adds their objects to the deletion queue. Then the objects are
//! deleted, and then the entries of the queue. A deletion that has been reported as done is durable. After a
//! crash, the next start, or any other process, deletes the objects in the deletion queue.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::stream;
use futures_util::{StreamExt, TryStreamExt};
use tracing::info;

use crate::archive::access::{Caller, Tenant};
use crate::archive::maintenance::orphans::{ORPHAN_AGE, is_referred_to};
use crate::archive::scope::Scope;
use crate::archive::{Archive, Error, keys};
use crate::blobs::{Bucket, Key};
use crate::clock::now_millis;
use crate::dicom::uid::{SeriesUid, StudyUid};
use crate::index;
use crate::index::DeletionEntry;
use crate::index::records::PreviewState;
use crate::telemetry;

#[cfg(test)]
mod tests;

/// The number of objects that are deleted at the same time.
const CONCURRENCY: usize = 8;

/// Deletes a study, a series or an instance. Returns the number of instances deleted. The deletion is then
/// durable, and no rows, objects or derived objects remain. An instance that is stored in the scope meanwhile
/// may be deleted or not.
///
/// A deletion that has begun continues even if the future is dropped.
///
/// # Errors
/// [`Error::NotFound`] if there is no such study, series or instance. After any other error, or a crash, a
/// part may be deleted.
pub async fn delete(archive: &Arc<Archive>, caller: &Caller, scope: Scope) -> Result<u64, Error> {
    let (archive, caller) = (archive.clone(), caller.clone());
    let task = tokio::spawn(async move { carry_out(&archive, &caller, &scope).await });
    task.await.unwrap_or_else(|_| Err(index::Error::Interrupted.into()))
}

async fn carry_out(archive: &Archive, caller: &Caller, scope: &Scope) -> Result<u64, Error> {
    let tenant = &caller.tenant;
    archive.version(caller, scope).await?;
    // The record comes first: nothing is deleted without one, and the patient is known only now.
    let entry = archive.audit_deletion(caller, scope).await?;
    let outcome = remove(archive, tenant, scope).await;
    if outcome.is_err() {
        archive.audit_failure(caller, entry).await?;
    }
    outcome
}

async fn remove(archive: &Archive, tenant: &Tenant, scope: &Scope) -> Result<u64, Error> {
    let Scope { study, series, instance } = scope;
    let removed = archive.index.remove(tenant.as_str(), study, series.as_ref(), instance.as_ref()).await;
    archive.quotas.forget(tenant);
    let deleted = removed?;
    if deleted == 0 {
        // Another request deleted the instances first.
        return Err(Error::NotFound(format!("instance in study {study} that is to be deleted")));
    }
    telemetry::instances_deleted(deleted);
    delete_orphans(archive, tenant, scope).await?;
    let noted = archive.index.deletion_queue_of(tenant.as_str(), study).await?;
    if noted.is_empty() {
        // Another process emptied the deletion queue; objects that were derived since then still exist.
        delete_derived(archive, tenant, study).await?;
        archive.blobs.flush().await?;
    }
    delete_garbage(archive, noted).await?;
    info!(study.uid = %study, instances = deleted, "deleted {deleted} instances of study {study}");
    Ok(deleted)
}

/// Deletes all objects in the deletion queue. Returns their number.
///
/// # Errors
/// If the store or the index fails; the call can be repeated.
pub async fn collect_garbage(archive: &Archive) -> Result<usize, Error> {
    delete_garbage(archive, archive.index.deletion_queue().await?).await
}

async fn delete_garbage(archive: &Archive, all: Vec<DeletionEntry>) -> Result<usize, Error> {
    let mut keys = Vec::new();
    for garbage in &all {
        let Ok(tenant) = garbage.tenant.parse::<Tenant>() else { continue };
        keys.extend(
            garbage
                .objects
                .iter()
                .map(|of| keys::original(&tenant, &garbage.study, &of.series, &of.instance, &of.object)),
        );
    }
    let count = keys.len();
    if all.is_empty() {
        return Ok(0);
    }
    let deletions = stream::iter(keys).map(Ok::<_, Error>);
    let delete = |key: Key| async move { Ok(archive.blobs.delete(&key).await?) };
    deletions.try_for_each_concurrent(CONCURRENCY, delete).await?;
    // The process that added the entries may have ended before it deleted the derived objects: the entries
    // stay in the queue until these are deleted too.
    let mut studies: Vec<(&str, &StudyUid)> =
        all.iter().map(|garbage| (garbage.tenant.as_str(), &garbage.study)).collect();
    studies.dedup();
    for (tenant, study) in studies {
        if let Ok(tenant) = tenant.parse() {
            delete_derived(archive, &tenant, study).await?;
        }
    }
    archive.blobs.flush().await?;
    for garbage in &all {
        archive.index.remove_deletion_entry(garbage).await?;
    }
    Ok(count)
}

/// Deletes derived objects of a study that may show deleted instances. They are created again on demand, or
/// when they are due.
async fn delete_derived(archive: &Archive, tenant: &Tenant, study: &StudyUid) -> Result<(), Error> {
    for bucket in [Bucket::Thumbnails, Bucket::Temporary] {
        delete_all(archive, bucket, &keys::derived(tenant, study), |_| true).await?;
    }
    archive.cache.remove_below(&keys::derived(tenant, study));
    archive.slices.forget(tenant, study);
    delete_previews_of_study(archive, tenant, study).await
}

/// Deletes objects in a scope that no record refers to and that no process is about to commit: a process was
/// killed before the commit, or the objects were replaced long ago. Reindexing would restore them.
async fn delete_orphans(archive: &Archive, tenant: &Tenant, scope: &Scope) -> Result<(), Error> {
    let Scope { study, series, instance } = scope;
    let prefix = keys::originals(tenant, study, series.as_ref(), instance.as_ref());
    let mut entries = archive.blobs.list(Bucket::Originals, &prefix);
    while let Some(entry) = entries.try_next().await? {
        if entry.modified_at < now_millis() - ORPHAN_AGE && !is_referred_to(archive, &entry.key).await? {
            archive.blobs.delete(&entry.key).await?;
        }
    }
    Ok(())
}

/// Deletes outdated previews of all series of a study.
async fn delete_previews_of_study(archive: &Archive, tenant: &Tenant, study: &StudyUid) -> Result<(), Error> {
    let mut series = Vec::new();
    let mut entries = archive.blobs.list(Bucket::Previews, &keys::derived(tenant, study));
    while let Some(entry) = entries.try_next().await? {
        if let Some(keys::Parsed::Preview { series: of, .. }) = keys::parse(&entry.key)
            && !series.contains(&of)
        {
            series.push(of);
        }
    }
    for series in series {
        delete_previews(archive, tenant, study, &series).await?;
    }
    Ok(())
}

/// Deletes the previews of earlier versions of a series; all previews if the series was deleted.
async fn delete_previews(
    archive: &Archive,
    tenant: &Tenant,
    study: &StudyUid,
    series: &SeriesUid,
) -> Result<(), Error> {
    let record = archive.index.series(tenant.as_str(), study, series).await?;
    let is_past = |key: &Key| {
        let (Some(keys::Parsed::Preview { generation, .. }), Some(record)) = (keys::parse(key), &record)
        else {
            return true;
        };
        // A preview of the present version may be about to be committed. Instances without pixels do not
        // change the preview.
        let is_made =
            matches!(record.preview, PreviewState::Ready { generation: made, .. } if made == generation);
        generation < record.generation && !is_made
    };
    delete_all(archive, Bucket::Previews, &keys::previews(tenant, study, series), is_past).await
}

/// Deletes the objects below a prefix for which `is_to_go` is true.
async fn delete_all(
    archive: &Archive,
    bucket: Bucket,
    prefix: &str,
    is_to_go: impl Fn(&Key) -> bool,
) -> Result<(), Error> {
    loop {
        let found = AtomicBool::new(false);
        let entries = archive.blobs.list(bucket, prefix).map_err(Error::from);
        let going = entries.try_filter(|entry| std::future::ready(is_to_go(&entry.key)));
        let deleted = going.try_for_each_concurrent(CONCURRENCY, |entry| {
            found.store(true, Ordering::Relaxed);
            async move { Ok(archive.blobs.delete(&entry.key).await?) }
        });
        deleted.await?;
        // Some file systems skip a name in a listing while other names in the directory are being deleted.
        if !found.into_inner() {
            return Ok(());
        }
    }
}
