//! Removing instances and, with the last, their series and study.
//!
//! The transaction that removes rows also writes down which objects nobody refers to any more. Whoever finds that note,
//! in whatever process, may delete them at any time: no object is ever kept under the same name again.

use std::ops::Bound;

use futures_util::TryStreamExt;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::dicom::uid::{InstanceUid, SeriesUid, StudyUid};
use crate::index::commit::{Attempts, SPARE_WRITES, is_conflict, now};
use crate::index::draft::Draft;
use crate::index::records::InstanceRecord;
use crate::index::rows::{self, Place};
use crate::index::{Error, Index, keys, read};
use crate::table::{self, Expect, Item, ItemKey, MAX_WRITES, Write};

/// Objects that nothing refers to any more and that are still to be deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Garbage {
    /// Tells this from all others.
    pub id: String,
    /// The tenant that they belong to.
    pub tenant: String,
    /// The study that they were of.
    pub study: StudyUid,
    /// The objects.
    pub objects: Vec<GarbageObject>,
}

/// An object that nothing refers to any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GarbageObject {
    /// The series that it was of.
    pub series: SeriesUid,
    /// The instance that it was of.
    pub instance: InstanceUid,
    /// Its name (see [`InstanceRecord::object_name`]).
    pub object: String,
}

impl Index {
    /// What is to be deleted of a study.
    pub async fn garbage_of(&self, tenant: &str, study: &StudyUid) -> Result<Vec<Garbage>, Error> {
        self.garbage_below(&format!("{tenant}#{study}#")).await
    }

    /// What is to be deleted, of all tenants.
    pub async fn garbage(&self) -> Result<Vec<Garbage>, Error> {
        self.garbage_below("").await
    }

    async fn garbage_below(&self, prefix: &str) -> Result<Vec<Garbage>, Error> {
        let mut range = read::whole_partition(None, keys::GARBAGE.into(), MAX_WRITES);
        if !prefix.is_empty() {
            range.from = Bound::Included(prefix.to_owned());
            range.to = Bound::Excluded(format!("{prefix}~"));
        }
        let mut pages = read::pages(self.table.clone(), range);
        let mut found = Vec::new();
        while let Some(page) = pages.try_next().await? {
            for (_, item) in page {
                found.push(rows::decode(&item.key, &item.body)?);
            }
        }
        Ok(found)
    }

    /// Crosses objects out that were deleted, durably. Repeating it is safe.
    pub async fn forget_garbage(&self, garbage: &Garbage) -> Result<(), Error> {
        let write = Write::Delete(keys::garbage(garbage), Expect::Anything);
        Ok(self.table.transact(vec![write]).await?)
    }

    /// Removes an instance, all of a series or all of a study, and what is empty then; how many instances that were.
    ///
    /// In transactions of a bounded size, each of which leaves exact counts and a note of the objects that are to be
    /// deleted ([`Index::garbage_of`]). On failure, those before it stay done; it may be repeated. Instances that are
    /// stored in the same place meanwhile may be removed or not.
    pub async fn remove(
        &self,
        tenant: &str,
        study: &StudyUid,
        series: Option<&SeriesUid>,
        instance: Option<&InstanceUid>,
    ) -> Result<u64, Error> {
        let all = match series {
            Some(series) => vec![series.clone()],
            None => self.series_of(tenant, study).await?.into_iter().map(|record| record.series).collect(),
        };
        let mut removed = 0;
        for series in all {
            loop {
                let count = self.remove_some(tenant, study, &series, instance, None).await?;
                removed += count;
                if count == 0 || instance.is_some() {
                    break;
                }
            }
        }
        Ok(removed)
    }

    /// Removes an instance whose object is lost; whether it did: not if it is gone, or has another object by then.
    ///
    /// # Errors
    /// As [`Index::remove`].
    pub async fn remove_lost(&self, tenant: &str, record: &InstanceRecord) -> Result<bool, Error> {
        let InstanceRecord { study, series, instance, .. } = record;
        let object = Some(record.object_name());
        Ok(self.remove_some(tenant, study, series, Some(instance), object).await? > 0)
    }

    /// Removes as many instances of a series as go into one transaction, of those that have this object if one is named;
    /// none if there are none.
    async fn remove_some(
        &self,
        tenant: &str,
        study: &StudyUid,
        series: &SeriesUid,
        instance: Option<&InstanceUid>,
        object: Option<&str>,
    ) -> Result<u64, Error> {
        let mut attempts = Attempts::default();
        loop {
            let outcome = self.try_remove_some(tenant, study, series, instance, object).await;
            if !attempts.again(is_conflict(&outcome)).await {
                return outcome;
            }
        }
    }

    async fn try_remove_some(
        &self,
        tenant: &str,
        study: &StudyUid,
        series: &SeriesUid,
        instance: Option<&InstanceUid>,
        object: Option<&str>,
    ) -> Result<u64, Error> {
        // The study first: whoever changes an instance after this changes the study too, and the transaction fails.
        let heads = [keys::study(tenant, study), keys::series(tenant, study, series)];
        let mut heads = self.table.get(&heads).await?.into_iter();
        let (study_row, series_row) = (heads.next().flatten(), heads.next().flatten());
        if study_row.is_none() || series_row.is_none() {
            // What is there by now was stored after this began, and no version tells whether it has changed since.
            return Ok(0);
        }
        let mut draft = Draft::new(tenant, now(), study_row, [(series.clone(), series_row)])?;
        let mut writes = Vec::new();
        let mut objects = Vec::new();
        let mut removed = 0;
        for row in self.instance_rows(tenant, study, series, instance).await? {
            let mut own = vec![row.key.clone()];
            own.extend(rows::continuations(&row)?);
            if writes.len() + own.len() + 1 + SPARE_WRITES > MAX_WRITES {
                break;
            }
            let record: Option<InstanceRecord> = read::whole(self.table.as_ref(), row).await?;
            // It has changed since its row was read.
            let record = record.ok_or(Error::Table(table::Error::Conflict(0)))?;
            if object.is_some_and(|object| object != record.object_name()) {
                continue;
            }
            own.extend(self.place_of(tenant, &record).await?);
            writes.extend(own.into_iter().map(|key| Write::Delete(key, Expect::Anything)));
            draft.subtract(&record);
            objects.extend(objects_of(record));
            removed += 1;
        }
        if removed > 0 {
            let id = Uuid::new_v4().simple().to_string();
            let garbage = Garbage { id, tenant: tenant.to_owned(), study: study.clone(), objects };
            let key = keys::garbage(&garbage);
            let body = rows::encode(&key, &garbage)?;
            writes.push(Write::Put(Item { key, version: 1, secondary: Vec::new(), body }, Expect::Absent));
            writes.extend(draft.into_writes()?);
            self.table.transact(writes).await?;
        }
        Ok(removed)
    }

    /// The row of one instance, or the first rows of a series: no fewer than one transaction can delete.
    async fn instance_rows(
        &self,
        tenant: &str,
        study: &StudyUid,
        series: &SeriesUid,
        instance: Option<&InstanceUid>,
    ) -> Result<Vec<Item>, Error> {
        if let Some(instance) = instance {
            let key = keys::instance(tenant, study, series, instance);
            return Ok(self.table.get(&[key]).await?.into_iter().flatten().collect());
        }
        let partition = keys::instance_partition(tenant, study, series);
        let page = self.table.range(&read::whole_partition(None, partition, MAX_WRITES / 2)).await?;
        Ok(page.items.into_iter().map(|(_, item)| item).collect())
    }

    /// The row that says where the instance's UID is stored, if it says here.
    async fn place_of(&self, tenant: &str, record: &InstanceRecord) -> Result<Option<ItemKey>, Error> {
        let key = keys::place(tenant, &record.instance);
        let Some(item) = self.table.get(&[key]).await?.pop().flatten() else { return Ok(None) };
        let place: Place = rows::decode(&item.key, &item.body)?;
        Ok((place.study == record.study && place.series == record.series).then_some(item.key))
    }
}

/// All objects of an instance: the one that is stored, and those that gave way to it.
fn objects_of(record: InstanceRecord) -> impl Iterator<Item = GarbageObject> {
    let InstanceRecord { series, instance, digest, object, replaced, .. } = record;
    let stored = if object.is_empty() { digest } else { object };
    let of = move |object| GarbageObject { series: series.clone(), instance: instance.clone(), object };
    [stored].into_iter().chain(replaced).map(of)
}
