//! Objects that nothing refers to: telling them, and making them instances or deleting them.

use futures_util::TryStreamExt;

use crate::archive::maintenance::delete::collect_garbage;
use crate::archive::maintenance::orphans::is_referred_to;
use crate::archive::maintenance::reindex::read_record;
use crate::archive::maintenance::report::Finding;
use crate::archive::{Archive, Error};
use crate::blobs::{Bucket, ListedObject};
use crate::clock::now_millis;
use crate::config::Duplicates;
use crate::index::CommitOutcome;

/// Whether there is no original at all, but studies are in the index: a volume is not mounted, or another
/// bucket is set.
///
/// # Errors
/// If the store or the index fails.
pub async fn has_lost_all_originals(archive: &Archive) -> Result<bool, Error> {
    if archive.blobs.list(Bucket::Originals, "").try_next().await?.is_some() {
        return Ok(false);
    }
    for tenant in archive.index.tenants().await? {
        if archive.index.readable_studies(&tenant).try_next().await?.is_some_and(|page| !page.is_empty()) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Puts right what a killed process left. Objects that it was about to delete are deleted first. An object
/// that was kept but not committed becomes an instance if it is whole, and is deleted if it is not: nobody
/// was told that it was stored. Returns how many objects that were.
///
/// # Errors
/// If the store or the index fails; it may be called again.
pub async fn recover(archive: &Archive) -> Result<u64, Error> {
    collect_garbage(archive).await?;
    let mut settled = 0;
    for key in archive.blobs.unconfirmed() {
        let Some(size_bytes) = archive.blobs.size(&key).await? else { continue };
        if matches!(key.bucket, Bucket::Thumbnails | Bucket::Temporary) {
            // After a power cut it may be there in part, which nothing tells; it is made again on demand.
            archive.blobs.delete(&key).await?;
            continue;
        }
        if is_referred_to(archive, &key).await? {
            continue;
        }
        settled += 1;
        recover_object(archive, &ListedObject { key, size_bytes, modified_at: now_millis() }).await?;
    }
    Ok(settled)
}

/// Makes an object that nothing refers to an instance, or deletes it. One that is whole but cannot be read,
/// as under stricter limits than those it was taken with, stays.
pub(in crate::archive) async fn recover_object(archive: &Archive, entry: &ListedObject) -> Result<(), Error> {
    match read_record(archive, entry).await? {
        Ok((tenant, record)) => {
            let due_at = archive.preview.enabled.then(now_millis);
            let object = record.object.clone();
            match archive.index.commit(tenant.as_str(), record, Duplicates::Reject, due_at).await? {
                CommitOutcome::Stored | CommitOutcome::Replaced { .. } => {}
                CommitOutcome::AlreadyStored { object: known } if known == object => {}
                CommitOutcome::AlreadyStored { .. }
                | CommitOutcome::DifferentBytes
                | CommitOutcome::OtherSeries => {
                    archive.blobs.delete(&entry.key).await?;
                }
            }
        }
        Err(Finding::Unreadable(..)) => {}
        // A part of an original, a preview, which is made again, or what nothing here has made.
        Err(_) => archive.blobs.delete(&entry.key).await?,
    }
    Ok(())
}
