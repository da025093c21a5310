//! Removing instances and, with the last, their series and study.
//!
//! A deletion may need many transactions. It is written down before the first and crossed out after what follows it, so
//! that a process that starts again after a crash finishes it; counts are exact after each of them.

use serde::{Deserialize, Serialize};

use crate::dicom::uid::{InstanceUid, SeriesUid, StudyUid};
use crate::index::commit::{Attempts, MAX_WRITES, SPARE_WRITES, is_conflict, now};
use crate::index::draft::Draft;
use crate::index::records::InstanceRecord;
use crate::index::rows::{self, Place};
use crate::index::{Error, Index, keys, read};
use crate::table::{self, Expect, Item, ItemKey, Write};

/// Something that is being deleted: a study, a series or an instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deletion {
    /// The tenant that it belongs to.
    pub tenant: String,
    /// The study.
    pub study: StudyUid,
    /// Only this series.
    pub series: Option<SeriesUid>,
    /// Only this instance, of that series.
    pub instance: Option<InstanceUid>,
}

impl Index {
    /// Writes a deletion down, durably. Repeating it is safe.
    pub async fn begin_deletion(&self, deletion: &Deletion) -> Result<(), Error> {
        let key = keys::deletion(deletion);
        let body = rows::encode(&key, deletion)?;
        let item = Item { key, version: 1, secondary: Vec::new(), body };
        Ok(self.table.transact(vec![Write::Put(item, Expect::Anything)]).await?)
    }

    /// Crosses a deletion out, durably: nothing of it is left to do. Repeating it is safe.
    pub async fn end_deletion(&self, deletion: &Deletion) -> Result<(), Error> {
        let write = Write::Delete(keys::deletion(deletion), Expect::Anything);
        Ok(self.table.transact(vec![write]).await?)
    }

    /// The deletions, of all tenants, that were begun and not ended.
    pub async fn deletions(&self) -> Result<Vec<Deletion>, Error> {
        let mut pages =
            read::pages(self.table.clone(), read::whole_partition(None, keys::DELETIONS.into(), MAX_WRITES));
        let mut found = Vec::new();
        while let Some(page) = futures_util::TryStreamExt::try_next(&mut pages).await? {
            for (_, item) in page {
                found.push(rows::decode(&item.key, &item.body)?);
            }
        }
        Ok(found)
    }

    /// Removes an instance, all of a series or all of a study, and what is empty then; how many instances that were.
    ///
    /// In transactions of a bounded size, each of which leaves exact counts. On failure, those before it stay done;
    /// it may be repeated. Instances that are stored in the same place meanwhile may be removed or not.
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
                let count = self.remove_some(tenant, study, &series, instance).await?;
                removed += count;
                if count == 0 || instance.is_some() {
                    break;
                }
            }
        }
        Ok(removed)
    }

    /// Removes as many instances of a series as go into one transaction; none if there are none.
    async fn remove_some(
        &self,
        tenant: &str,
        study: &StudyUid,
        series: &SeriesUid,
        instance: Option<&InstanceUid>,
    ) -> Result<u64, Error> {
        let mut attempts = Attempts::default();
        loop {
            let outcome = self.try_remove_some(tenant, study, series, instance).await;
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
    ) -> Result<u64, Error> {
        // The study first: whoever changes an instance after this changes the study too, and the transaction fails.
        let heads = [keys::study(tenant, study), keys::series(tenant, study, series)];
        let mut heads = self.table.get(&heads).await?.into_iter();
        let (study_row, series_row) = (heads.next().flatten(), heads.next().flatten());
        let mut draft = Draft::new(tenant, now(), study_row, [(series.clone(), series_row)])?;
        let mut writes = Vec::new();
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
            own.extend(self.place_of(tenant, &record).await?);
            writes.extend(own.into_iter().map(|key| Write::Delete(key, Expect::Anything)));
            draft.subtract(&record);
            removed += 1;
        }
        if removed > 0 {
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
