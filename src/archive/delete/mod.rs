//! Deleting studies, series and instances, with everything that was derived of them (docs/decisions/0058).
//!
//! A deletion is written down in the index, then rows go, then objects, then it is crossed out. Whoever has been told
//! that it is done can rely on it; a crash before that leaves a note by which the next start finishes it, before
//! anything else looks at the objects.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::TryStreamExt;
use tracing::{error, info};

use crate::archive::access::{Caller, Tenant};
use crate::archive::claims::Claim;
use crate::archive::retrieve::Scope;
use crate::archive::{Archive, Error, keys};
use crate::blobs::{Bucket, Key, Staged};
use crate::dicom::uid::{SeriesUid, StudyUid};
use crate::index;
use crate::index::Deletion;
use crate::index::records::Preview;
use crate::telemetry;

#[cfg(test)]
mod tests;

/// Objects that are deleted at the same time.
const CONCURRENCY: usize = 8;

/// The right to add to a study.
pub(super) type AddTo<'a> = Claim<'a, (Tenant, StudyUid)>;

/// The studies in which a deletion has begun and not ended. Almost always none: a deletion that fails, because the disk
/// does, is here until it is finished by whoever wants to add to the study or to delete in it, or by the next start.
#[derive(Debug, Default)]
pub(super) struct Unfinished(Mutex<HashSet<(Tenant, StudyUid)>>);

impl Unfinished {
    fn set(&self) -> MutexGuard<'_, HashSet<(Tenant, StudyUid)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn contains(&self, tenant: &Tenant, study: &StudyUid) -> bool {
        self.set().contains(&(tenant.clone(), study.clone()))
    }

    fn add(&self, tenant: &Tenant, study: &StudyUid) {
        self.set().insert((tenant.clone(), study.clone()));
    }

    fn remove(&self, tenant: &Tenant, study: &StudyUid) {
        self.set().remove(&(tenant.clone(), study.clone()));
    }
}

impl Archive {
    /// Deletes a study, a series or an instance; how many instances that were. When this returns, it is durable, and
    /// neither rows nor objects nor anything derived are left. Stores into the study wait meanwhile.
    ///
    /// Once begun it goes on even if the caller stops waiting.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no such thing. After any other error a part may be deleted; the rest is before
    /// anything is added to the study, at the latest at the next start.
    pub async fn delete(self: &Arc<Self>, caller: &Caller, scope: Scope) -> Result<u64, Error> {
        let (archive, caller) = (self.clone(), caller.clone());
        let task = tokio::spawn(async move { archive.delete_alone(&caller, &scope).await });
        task.await.unwrap_or_else(|_| Err(index::Error::Interrupted.into()))
    }

    async fn delete_alone(&self, caller: &Caller, scope: &Scope) -> Result<u64, Error> {
        let (tenant, study) = (&caller.tenant, &scope.study);
        let _claim = self.claims.delete_in(tenant, study).await;
        if self.unfinished.contains(tenant, study) {
            self.finish_deletions_in(tenant, study).await?;
        }
        self.version(caller, scope).await?;
        let deletion = Deletion {
            tenant: tenant.as_str().to_owned(),
            study: study.clone(),
            series: scope.series.clone(),
            instance: scope.instance.clone(),
        };
        self.unfinished.add(tenant, study);
        self.index.begin_deletion(&deletion).await?;
        let deleted = self.carry_out(tenant, &deletion).await?;
        self.unfinished.remove(tenant, study);
        info!(study.uid = %study, instances = deleted, "deleted {deleted} instances of study {study}");
        Ok(deleted)
    }

    /// The right to add to a study, objects or what is derived of them: nothing in it is deleted meanwhile.
    ///
    /// # Errors
    /// If a deletion in it failed before and fails again.
    pub(super) async fn add_to(&self, tenant: &Tenant, study: &StudyUid) -> Result<AddTo<'_>, Error> {
        loop {
            let claim = self.claims.add_to(tenant, study).await;
            if !self.unfinished.contains(tenant, study) {
                return Ok(claim);
            }
            drop(claim);
            let _claim = self.claims.delete_in(tenant, study).await;
            self.finish_deletions_in(tenant, study).await?;
        }
    }

    /// Keeps what was derived of a study, a series or an instance, if that is still as it was; whether it was.
    /// `version` is what [`Archive::version`] said of it before.
    ///
    /// All that is derived is kept by this, under a key that starts with tenant and study: a deletion finds it then, or
    /// comes first.
    pub async fn keep_derived(
        &self,
        caller: &Caller,
        scope: &Scope,
        version: &str,
        staged: Staged,
        key: &Key,
    ) -> Result<bool, Error> {
        let _claim = self.add_to(&caller.tenant, &scope.study).await?;
        match self.version(caller, scope).await {
            Ok(current) if current == version => {}
            Ok(_) | Err(Error::NotFound(_)) => return Ok(false),
            Err(error) => return Err(error),
        }
        self.blobs.keep(staged, key).await?;
        Ok(true)
    }

    /// Finishes the deletions that a killed process began. What cannot be finished, because the disk fails, is logged;
    /// nothing is added to that study before it is.
    ///
    /// # Errors
    /// If it cannot be found out which they are.
    pub async fn finish_deletions(&self) -> Result<(), Error> {
        for deletion in self.index.deletions().await? {
            let Ok(tenant) = deletion.tenant.parse::<Tenant>() else { continue };
            let study = &deletion.study;
            let _claim = self.claims.delete_in(&tenant, study).await;
            self.unfinished.add(&tenant, study);
            match self.finish_deletions_in(&tenant, study).await {
                Ok(()) => info!(study.uid = %study, "finished a deletion in study {study}"),
                Err(error) => error!(
                    study.uid = %study, error = format!("{:#}", anyhow::Error::new(error)),
                    "cannot finish a deletion in study {study}"
                ),
            }
        }
        Ok(())
    }

    /// Whether a deletion in the study could not be finished.
    pub(super) fn is_being_deleted(&self, tenant: &Tenant, study: &StudyUid) -> bool {
        self.unfinished.contains(tenant, study)
    }

    /// Finishes what was begun in a study, whose claim the caller has.
    async fn finish_deletions_in(&self, tenant: &Tenant, study: &StudyUid) -> Result<(), Error> {
        for deletion in self.index.deletions().await? {
            if deletion.tenant == tenant.as_str() && deletion.study == *study {
                self.carry_out(tenant, &deletion).await?;
            }
        }
        self.unfinished.remove(tenant, study);
        Ok(())
    }

    /// Carries out a deletion that is written down, from wherever it was left.
    async fn carry_out(&self, tenant: &Tenant, deletion: &Deletion) -> Result<u64, Error> {
        let Deletion { study, series, instance, .. } = deletion;
        let removed = self.index.remove(tenant.as_str(), study, series.as_ref(), instance.as_ref()).await?;
        telemetry::instances_deleted(removed);
        for bucket in [Bucket::Originals, Bucket::Archive] {
            let prefix = keys::originals(tenant, study, series.as_ref(), instance.as_ref());
            self.delete_all(bucket, &prefix, |_| true).await?;
        }
        // These are made again on demand, and may show what is deleted at the level of the study too.
        for bucket in [Bucket::Thumbnails, Bucket::Temporary] {
            self.delete_all(bucket, &keys::derived(tenant, study), |_| true).await?;
        }
        self.temporary.forget_below(&keys::derived(tenant, study));
        match series {
            Some(series) => self.delete_previews(tenant, study, series).await?,
            None => self.delete_all(Bucket::Previews, &keys::derived(tenant, study), |_| true).await?,
        }
        self.blobs.flush().await?;
        self.index.end_deletion(deletion).await?;
        Ok(removed)
    }

    /// Deletes the previews of a series that show what it was before; all if it is gone.
    async fn delete_previews(
        &self,
        tenant: &Tenant,
        study: &StudyUid,
        series: &SeriesUid,
    ) -> Result<(), Error> {
        let record = self.index.series(tenant.as_str(), study, series).await?;
        let is_past = |key: &Key| {
            let (Some(keys::Parsed::Preview { generation, .. }), Some(record)) = (keys::parse(key), &record)
            else {
                return true;
            };
            // One of the series as it is may be about to be made; what had no pixels changes no preview.
            let is_made =
                matches!(record.preview, Preview::Made { generation: made, .. } if made == generation);
            generation < record.generation && !is_made
        };
        self.delete_all(Bucket::Previews, &keys::previews(tenant, study, series), is_past).await
    }

    /// Deletes the objects below a prefix that are to go.
    async fn delete_all(
        &self,
        bucket: Bucket,
        prefix: &str,
        is_to_go: impl Fn(&Key) -> bool,
    ) -> Result<(), Error> {
        loop {
            let found = AtomicBool::new(false);
            let entries = self.blobs.list(bucket, prefix).map_err(Error::from);
            let going = entries.try_filter(|entry| std::future::ready(is_to_go(&entry.key)));
            let deleted = going.try_for_each_concurrent(CONCURRENCY, |entry| {
                found.store(true, Ordering::Relaxed);
                async move { Ok(self.blobs.delete(&entry.key).await?) }
            });
            deleted.await?;
            // File systems may pass over a name while others are being deleted beside it.
            if !found.into_inner() {
                return Ok(());
            }
        }
    }
}
