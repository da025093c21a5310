//! Objects that nothing refers to: telling them, and making them instances or deleting them.

use crate::archive::maintenance::check::Finding;
use crate::archive::{Archive, Error, keys};
use crate::blobs::{Bucket, Key, ListedObject};
use crate::clock::now_millis;
use crate::config::Duplicates;
use crate::index;
use crate::index::records::{InstanceRecord, PreviewState};
use crate::index::{CommitOutcome, ObjectToDelete};

/// An object that nothing refers to is no longer about to be committed when it is older than this, in milliseconds: a
/// commit follows within seconds, or never.
pub(in crate::archive) const ORPHAN_AGE: i64 = 60 * 60 * 1000;

/// What an object is to the index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::archive) enum Standing {
    /// The index refers to it.
    Owned,
    /// Nothing does; another process may be about to commit it.
    Young,
    /// It is being deleted, or was while it was looked at.
    Going,
    /// Nothing does, and nothing will.
    Orphan,
}

impl Archive {
    /// What an object is to the index, whatever other processes do meanwhile. None are at work if `is_alone`.
    ///
    /// The transaction that removes a row notes its object: where there is no row, the note is there or, once the object is
    /// deleted, neither is.
    pub(in crate::archive) async fn standing(
        &self,
        entry: &ListedObject,
        is_alone: bool,
    ) -> Result<Standing, Error> {
        if self.is_referred_to(&entry.key).await? {
            return Ok(Standing::Owned);
        }
        if !is_alone && entry.modified_at > now_millis() - ORPHAN_AGE {
            return Ok(Standing::Young);
        }
        let is_noted = self.is_noted(&entry.key).await?;
        let is_there = self.blobs.size(&entry.key).await?.is_some();
        Ok(if is_noted || !is_there { Standing::Going } else { Standing::Orphan })
    }

    /// Whether an object is noted as to be deleted.
    async fn is_noted(&self, key: &Key) -> Result<bool, Error> {
        let Some(keys::Parsed::Original { tenant, study, series, instance, object }) = keys::parse(key)
        else {
            return Ok(false);
        };
        let notes = self.index.deletion_queue_of(tenant.as_str(), &study).await?;
        let is_it =
            |of: &ObjectToDelete| of.series == series && of.instance == instance && of.object == object;
        Ok(notes.iter().flat_map(|note| &note.objects).any(is_it))
    }

    /// Whether the index refers to an object. A row that cannot be read may refer to the object.
    pub(in crate::archive) async fn is_referred_to(&self, key: &Key) -> Result<bool, Error> {
        match self.has_reference(key).await {
            Err(Error::Index(index::Error::Record { .. })) => Ok(true),
            outcome => outcome,
        }
    }

    async fn has_reference(&self, key: &Key) -> Result<bool, Error> {
        Ok(match keys::parse(key) {
            Some(keys::Parsed::Original { tenant, study, series, instance, object }) => {
                let record = self.index.instance(tenant.as_str(), &study, &series, &instance).await?;
                record.is_some_and(|record: InstanceRecord| record.object == object)
            }
            Some(keys::Parsed::Preview { tenant, study, series, generation }) => {
                let record = self.index.series(tenant.as_str(), &study, &series).await?;
                record.is_some_and(|record| {
                    matches!(record.preview, PreviewState::Ready { generation: made, .. } if made == generation)
                })
            }
            None => match keys::study_of(key) {
                // It may show any of what is in the study, and is made again on demand.
                Some((tenant, study)) if matches!(key.bucket, Bucket::Thumbnails | Bucket::Temporary) => {
                    self.index.study(tenant.as_str(), &study).await?.is_some()
                }
                _ => false,
            },
        })
    }

    /// Puts right what a killed process left. Objects that it was about to delete are deleted first. An object that was kept
    /// but not committed becomes an instance if it is whole, and is deleted if it is not: nobody was told that it was stored.
    /// Returns how many objects that were.
    ///
    /// # Errors
    /// If the store or the index fails; it may be called again.
    pub async fn settle(&self) -> Result<u64, Error> {
        self.sweep_garbage().await?;
        let mut settled = 0;
        for key in self.blobs.unconfirmed() {
            let Some(size_bytes) = self.blobs.size(&key).await? else { continue };
            if matches!(key.bucket, Bucket::Thumbnails | Bucket::Temporary) {
                // After a power cut it may be there in part, which nothing tells; it is made again on demand.
                self.blobs.delete(&key).await?;
                continue;
            }
            if self.is_referred_to(&key).await? {
                continue;
            }
            settled += 1;
            self.settle_object(&ListedObject { key, size_bytes, modified_at: now_millis() }).await?;
        }
        Ok(settled)
    }

    /// Makes an object that nothing refers to an instance, or deletes it. One that is whole but cannot be read, as
    /// under stricter limits than those it was taken with, stays.
    pub(in crate::archive) async fn settle_object(&self, entry: &ListedObject) -> Result<(), Error> {
        match self.read_record(entry).await? {
            Ok((tenant, record)) => {
                let due_at = self.preview.enabled.then(now_millis);
                let object = record.object.clone();
                match self.index.commit(tenant.as_str(), record, Duplicates::Reject, due_at).await? {
                    CommitOutcome::Stored | CommitOutcome::Replaced { .. } => {}
                    CommitOutcome::AlreadyStored { object: known } if known == object => {}
                    CommitOutcome::AlreadyStored { .. }
                    | CommitOutcome::DifferentBytes
                    | CommitOutcome::OtherSeries => {
                        self.blobs.delete(&entry.key).await?;
                    }
                }
            }
            Err(Finding::Unreadable(..)) => {}
            // A part of an original, a preview, which is made again, or what nothing here has made.
            Err(_) => self.blobs.delete(&entry.key).await?,
        }
        Ok(())
    }
}
