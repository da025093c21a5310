//! Removal of instances, and the deletion queue.
//!
//! The transaction that removes records also adds their objects to the deletion queue. Any process may delete
//! these objects at any time, because the name of an object is never used again.

use std::ops::Bound;

use futures_util::TryStreamExt;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::clock::now_millis;
use crate::dicom::uid::{InstanceUid, SeriesUid, StudyUid};
use crate::index::changes::{Change, ChangeKind};
use crate::index::conflict::ConflictRetries;
use crate::index::prepare::SPARE_WRITES;
use crate::index::records::InstanceRecord;
use crate::index::rows::{self, InstanceLocation};
use crate::index::study_update::StudyUpdate;
use crate::index::{Error, Index, keys, read};
use crate::table::{self, Expect, Item, ItemKey, MAX_WRITES, Write};

/// An entry of the deletion queue: objects whose records were deleted in one transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeletionEntry {
    /// A unique identifier.
    pub id: String,
    /// The tenant of the objects.
    pub tenant: String,
    /// The study that the objects belonged to.
    pub study: StudyUid,
    /// The objects.
    pub objects: Vec<ObjectToDelete>,
}

/// An object that no record refers to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectToDelete {
    /// The series that the object belonged to.
    pub series: SeriesUid,
    /// The instance that the object belonged to.
    pub instance: InstanceUid,
    /// The name of the object (see [`InstanceRecord::object`]).
    pub object: String,
}

/// The instances to remove from a series.
struct Removal<'a> {
    tenant: &'a str,
    study: &'a StudyUid,
    series: &'a SeriesUid,
    /// The only instance to remove; `None` for all of the series.
    instance: Option<&'a InstanceUid>,
    /// The name that the stored object of an instance must have; `None` for any.
    object: Option<&'a str>,
}

impl Index {
    /// The entries of the deletion queue for a study.
    pub async fn deletion_queue_of(
        &self,
        tenant: &str,
        study: &StudyUid,
    ) -> Result<Vec<DeletionEntry>, Error> {
        self.deletion_queue_below(&format!("{tenant}#{study}#")).await
    }

    /// All entries of the deletion queue, of all tenants.
    pub async fn deletion_queue(&self) -> Result<Vec<DeletionEntry>, Error> {
        self.deletion_queue_below("").await
    }

    async fn deletion_queue_below(&self, prefix: &str) -> Result<Vec<DeletionEntry>, Error> {
        let mut range = read::whole_partition(None, keys::DELETION_QUEUE.into(), MAX_WRITES);
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

    /// Removes an entry of the deletion queue whose objects were deleted durably. The call may be repeated.
    pub async fn remove_deletion_entry(&self, entry: &DeletionEntry) -> Result<(), Error> {
        let write = Write::Delete(keys::deletion_entry(entry), Expect::Anything);
        Ok(self.table.transact(vec![write]).await?)
    }

    /// Removes an instance, a series or a study, and its series and study if they are empty then. Returns the
    /// number of removed instances.
    ///
    /// The removal takes one or more transactions of a bounded size. Each of them leaves exact counts and
    /// adds an entry to the deletion queue. After an error, the completed transactions stay in effect, and
    /// the call may be repeated. Instances that are stored during the call may or may not be removed.
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
                let count = self
                    .remove_batch(&Removal { tenant, study, series: &series, instance, object: None })
                    .await?;
                removed += count;
                if count == 0 || instance.is_some() {
                    break;
                }
            }
        }
        Ok(removed)
    }

    /// Removes an instance whose object is lost. Returns false if the instance does not exist, or has another
    /// object, by then.
    ///
    /// # Errors
    /// See [`Index::remove`].
    pub async fn remove_lost(&self, tenant: &str, record: &InstanceRecord) -> Result<bool, Error> {
        let InstanceRecord { study, series, instance, .. } = record;
        let removal =
            Removal { tenant, study, series, instance: Some(instance), object: Some(&record.object) };
        Ok(self.remove_batch(&removal).await? > 0)
    }

    /// Removes as many instances as fit in one transaction. Returns the number of removed instances, 0 if
    /// none is left.
    async fn remove_batch(&self, removal: &Removal<'_>) -> Result<u64, Error> {
        let mut retries = ConflictRetries::default();
        loop {
            let outcome = self.try_remove_batch(removal).await;
            if !retries.should_retry(&outcome).await {
                return outcome;
            }
        }
    }

    async fn try_remove_batch(&self, removal: &Removal<'_>) -> Result<u64, Error> {
        let Removal { tenant, study, series, object, .. } = *removal;
        // The row of the study is read first: every later change of an instance also changes this row, so
        // that the transaction fails.
        let heads = [keys::study(tenant, study), keys::series(tenant, study, series)];
        let mut heads = self.table.get(&heads).await?.into_iter();
        let (study_row, series_row) = (heads.next().flatten(), heads.next().flatten());
        if study_row.is_none() || series_row.is_none() {
            // Instances that exist by now were stored after this read, and no version protects them from
            // changes.
            return Ok(0);
        }
        let mut update = StudyUpdate::new(tenant, now_millis(), study_row, [(series.clone(), series_row)])?;
        let mut writes = Vec::new();
        let mut objects = Vec::new();
        let (mut removed, mut change) = (0, Change::of_series(ChangeKind::Deleted, study, series));
        for RemovedRow { record, keys } in self.rows_to_remove(removal).await? {
            if object.is_some_and(|object| object != record.object) {
                continue;
            }
            writes.extend(keys.into_iter().map(|key| Write::Delete(key, Expect::Anything)));
            update.subtract(&record);
            change.instances.push(record.instance.clone());
            objects.extend(objects_of(record));
            removed += 1;
        }
        if removed > 0 {
            let id = Uuid::new_v4().simple().to_string();
            let entry = DeletionEntry { id, tenant: tenant.to_owned(), study: study.clone(), objects };
            let key = keys::deletion_entry(&entry);
            let body = rows::encode(&key, &entry)?;
            writes.push(Write::Put(Item { key, version: 1, secondary: Vec::new(), body }, Expect::Absent));
            change.emptied = update.emptied(series);
            self.log.open(self.table.as_ref(), tenant).await?;
            let taken = self.log.take(&self.table, tenant, update.entries_before())?;
            update.set_change(taken.position);
            let turnover = update.take_turnover();
            writes.extend(update.into_writes()?);
            taken.transact(vec![change], turnover, writes).await?;
        }
        Ok(removed)
    }

    /// Reads the records of one instance, or of as many instances of a series as one transaction can delete,
    /// with the keys of all their rows.
    async fn rows_to_remove(&self, removal: &Removal<'_>) -> Result<Vec<RemovedRow>, Error> {
        let (mut items, mut all_keys, mut count) = (Vec::new(), Vec::new(), SPARE_WRITES);
        for item in self.instance_rows(removal).await? {
            let mut row_keys = vec![item.key.clone()];
            row_keys.extend(rows::other_keys(&item)?);
            // Each instance also has a location.
            count += row_keys.len() + 1;
            if count > MAX_WRITES {
                break;
            }
            items.push(item);
            all_keys.push(row_keys);
        }
        let mut removed = Vec::with_capacity(items.len());
        let bodies = rows::read_all(self.table.as_ref(), items).await?;
        for (body, keys) in bodies.into_iter().zip(all_keys) {
            // A missing row means that the record has changed since its own row was read.
            let body = body?.ok_or(Error::Table(table::Error::Conflict(0)))?;
            let record: InstanceRecord = rows::decode(&keys[0], &body)?;
            removed.push(RemovedRow { record, keys });
        }
        self.add_locations(removal.tenant, &mut removed).await?;
        Ok(removed)
    }

    /// Adds the key of each instance's location, if that has the study and series of the record.
    async fn add_locations(&self, tenant: &str, removed: &mut [RemovedRow]) -> Result<(), Error> {
        let locations: Vec<ItemKey> =
            removed.iter().map(|row| keys::location(tenant, &row.record.instance)).collect();
        for (item, row) in self.table.get(&locations).await?.into_iter().zip(removed) {
            let Some(item) = item else { continue };
            let location: InstanceLocation = rows::decode(&item.key, &item.body)?;
            if location.study == row.record.study && location.series == row.record.series {
                row.keys.push(item.key);
            }
        }
        Ok(())
    }

    /// The row of one instance, or the first rows of a series: at least as many as one transaction can
    /// delete.
    async fn instance_rows(&self, removal: &Removal<'_>) -> Result<Vec<Item>, Error> {
        let Removal { tenant, study, series, instance, .. } = *removal;
        if let Some(instance) = instance {
            let key = keys::instance(tenant, study, series, instance);
            return Ok(self.table.get(&[key]).await?.into_iter().flatten().collect());
        }
        let partition = keys::instance_partition(tenant, study, series);
        let page = self.table.range(&read::whole_partition(None, partition, MAX_WRITES / 2)).await?;
        Ok(page.items.into_iter().map(|(_, item)| item).collect())
    }
}

/// An instance to remove, with the keys of all its rows.
struct RemovedRow {
    record: InstanceRecord,
    keys: Vec<ItemKey>,
}

/// All objects of an instance: the stored one and those that it replaced.
fn objects_of(record: InstanceRecord) -> impl Iterator<Item = ObjectToDelete> {
    let InstanceRecord { series, instance, object, replaced, .. } = record;
    let to_delete =
        move |object| ObjectToDelete { series: series.clone(), instance: instance.clone(), object };
    [object].into_iter().chain(replaced).map(to_delete)
}
