//! Orphans: objects that no record refers to, as opposed to objects that other processes are about to commit
//! or to delete.

use crate::archive::{Archive, Error, keys};
use crate::blobs::{Bucket, Key, ListedObject};
use crate::clock::now_millis;
use crate::index;
use crate::index::ObjectToDelete;
use crate::index::records::{InstanceRecord, PreviewState};

/// The age in milliseconds from which an object that no record refers to is an orphan: a commit follows the
/// write of an object within seconds, or never.
pub(in crate::archive) const ORPHAN_AGE: i64 = 60 * 60 * 1000;

/// The relation of an object to the index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::archive) enum ObjectReference {
    /// The index refers to it.
    Live,
    /// The object is recent and the index does not refer to it; another process may be about to commit the
    /// object.
    TooRecent,
    /// The object is in the deletion queue, or was deleted during the look-up.
    BeingDeleted,
    /// The index does not refer to the object, and never will.
    Orphaned,
}

/// Returns the relation of an object to the index, whatever other processes do meanwhile. If `is_alone`,
/// there are no other processes.
///
/// The transaction that removes a row adds its object to the deletion queue. Where there is no row, there is
/// an entry in the queue; once the object is deleted, there is neither an object nor an entry.
pub(in crate::archive) async fn standing(
    archive: &Archive,
    entry: &ListedObject,
    is_alone: bool,
) -> Result<ObjectReference, Error> {
    if is_referred_to(archive, &entry.key).await? {
        return Ok(ObjectReference::Live);
    }
    if !is_alone && entry.modified_at > now_millis() - ORPHAN_AGE {
        return Ok(ObjectReference::TooRecent);
    }
    let is_noted = is_noted(archive, &entry.key).await?;
    let is_there = archive.blobs.size(&entry.key).await?.is_some();
    Ok(if is_noted || !is_there { ObjectReference::BeingDeleted } else { ObjectReference::Orphaned })
}

/// Whether an object is in the deletion queue.
async fn is_noted(archive: &Archive, key: &Key) -> Result<bool, Error> {
    let Some(keys::Parsed::Original { tenant, study, series, instance, object }) = keys::parse(key) else {
        return Ok(false);
    };
    let notes = archive.index.deletion_queue_of(tenant.as_str(), &study).await?;
    let is_it = |of: &ObjectToDelete| of.series == series && of.instance == instance && of.object == object;
    Ok(notes.iter().flat_map(|note| &note.objects).any(is_it))
}

/// Whether the index refers to an object. A row that cannot be read may refer to the object.
pub(in crate::archive) async fn is_referred_to(archive: &Archive, key: &Key) -> Result<bool, Error> {
    match has_reference(archive, key).await {
        Err(Error::Index(index::Error::Record { .. })) => Ok(true),
        outcome => outcome,
    }
}

async fn has_reference(archive: &Archive, key: &Key) -> Result<bool, Error> {
    Ok(match keys::parse(key) {
        Some(keys::Parsed::Original { tenant, study, series, instance, object }) => {
            let record = archive.index.instance(tenant.as_str(), &study, &series, &instance).await?;
            record.is_some_and(|record: InstanceRecord| record.object == object)
        }
        Some(keys::Parsed::Preview { tenant, study, series, generation }) => {
            let record = archive.index.series(tenant.as_str(), &study, &series).await?;
            record.is_some_and(|record| {
                matches!(record.preview, PreviewState::Ready { generation: made, .. } if made == generation)
            })
        }
        None => match keys::study_of(key) {
            // A thumbnail or temporary object may show anything in the study, and is created again on demand.
            Some((tenant, study)) if matches!(key.bucket, Bucket::Thumbnails | Bucket::Temporary) => {
                archive.index.study(tenant.as_str(), &study).await?.is_some()
            }
            _ => false,
        },
    })
}
