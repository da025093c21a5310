//! Deleting studies, series and instances, with everything that was derived of them (docs/decisions/0069).
//!
//! The transaction that removes rows notes which objects are to go; then they go, and then the note. Whoever has been
//! told that a deletion is done can rely on it. After a crash the next start, or any other process, deletes what is noted.

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

/// Objects that are deleted at the same time.
const CONCURRENCY: usize = 8;

/// Deletes a study, a series or an instance; how many instances that were. When this returns, it is durable, and
/// neither rows nor objects nor anything derived are left. What is stored in it meanwhile may be deleted or not.
///
/// Once begun it goes on even if the caller stops waiting.
///
/// # Errors
/// [`Error::NotFound`] if there is no such thing. After any other error, or a crash, a part may be deleted.
pub async fn delete(archive: &Arc<Archive>, caller: &Caller, scope: Scope) -> Result<u64, Error> {
    let (archive, caller) = (archive.clone(), caller.clone());
    let task = tokio::spawn(async move { carry_out(&archive, &caller, &scope).await });
    task.await.unwrap_or_else(|_| Err(index::Error::Interrupted.into()))
}

async fn carry_out(archive: &Archive, caller: &Caller, scope: &Scope) -> Result<u64, Error> {
    let Scope { study, series, instance } = scope;
    let tenant = &caller.tenant;
    archive.version(caller, scope).await?;
    let deleted = archive.index.remove(tenant.as_str(), study, series.as_ref(), instance.as_ref()).await?;
    if deleted == 0 {
        // Somebody else came first.
        return Err(Error::NotFound(format!("instance in study {study} that is to be deleted")));
    }
    telemetry::instances_deleted(deleted);
    delete_orphans(archive, tenant, scope).await?;
    let noted = archive.index.deletion_queue_of(tenant.as_str(), study).await?;
    if noted.is_empty() {
        // Another process took the notes, and crossed them out; what was derived since is left.
        delete_derived(archive, tenant, study).await?;
        archive.blobs.flush().await?;
    }
    delete_garbage(archive, noted).await?;
    info!(study.uid = %study, instances = deleted, "deleted {deleted} instances of study {study}");
    Ok(deleted)
}

/// Deletes all objects that are noted as to be deleted; how many.
///
/// # Errors
/// If the store or the index fails; it may be called again.
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
    // Who noted them may have died before it came to what was derived: the note stays until that is gone too.
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

/// Deletes what was derived of a study and may show what is deleted: it is made again on demand, or when it is due.
async fn delete_derived(archive: &Archive, tenant: &Tenant, study: &StudyUid) -> Result<(), Error> {
    for bucket in [Bucket::Thumbnails, Bucket::Temporary] {
        delete_all(archive, bucket, &keys::derived(tenant, study), |_| true).await?;
    }
    archive.cache.remove_below(&keys::derived(tenant, study));
    delete_previews_of_study(archive, tenant, study).await
}

/// Deletes objects in a scope that nothing refers to and that nobody is about to commit: a process was killed before
/// it could, or they gave way to others long ago. An index that is built again would bring them back.
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

/// Deletes the previews of what is left of a study.
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

/// Deletes the previews of a series that show what it was before; all if it is gone.
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
        // One of the series as it is may be about to be made; what had no pixels changes no preview.
        let is_made =
            matches!(record.preview, PreviewState::Ready { generation: made, .. } if made == generation);
        generation < record.generation && !is_made
    };
    delete_all(archive, Bucket::Previews, &keys::previews(tenant, study, series), is_past).await
}

/// Deletes the objects below a prefix that are to go.
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
        // File systems may pass over a name while others are being deleted beside it.
        if !found.into_inner() {
            return Ok(());
        }
    }
}
