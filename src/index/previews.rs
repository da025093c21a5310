//! Which series' previews are to be made: a sparse secondary index of series by when they are due.

use std::ops::Bound;

use crate::dicom::uid::{SeriesUid, StudyUid};
use crate::index::commit::{Attempts, is_conflict};
use crate::index::records::{Preview, SeriesRecord};
use crate::index::{Error, Index, keys, read, rows};
use crate::table::{Expect, Item, ItemKey, Secondary, Write};

/// A series whose preview is to be made.
#[derive(Debug, Clone, PartialEq)]
pub struct Due {
    /// The tenant that it belongs to.
    pub tenant: String,
    /// The series as it is.
    pub record: SeriesRecord,
}

impl Index {
    /// The series, of all tenants, whose preview is due at `now` (milliseconds since 1970 UTC), the most overdue
    /// first, at most `limit`.
    pub async fn due_previews(&self, now: i64, limit: usize) -> Result<Vec<Due>, Error> {
        let mut range = read::whole_partition(Some(Secondary::Fifth), keys::PREVIEWS.into(), limit.max(1));
        range.to = Bound::Excluded(keys::due(now.saturating_add(1)));
        let page = self.table.range(&range).await?;
        let mut found = Vec::with_capacity(page.items.len());
        for (sort, item) in page.items {
            let tenant = sort.split('#').nth(1).unwrap_or_default().to_owned();
            found.push(Due { tenant, record: rows::decode(&item.key, &item.body)? });
        }
        Ok(found)
    }

    /// When the next preview is due, in milliseconds since 1970 UTC; `None` if none is waited for.
    pub async fn next_preview_due(&self) -> Result<Option<i64>, Error> {
        let range = read::whole_partition(Some(Secondary::Fifth), keys::PREVIEWS.into(), 1);
        let page = self.table.range(&range).await?;
        Ok(page.items.first().and_then(|(sort, _)| sort.split('#').next()?.parse().ok()))
    }

    /// Sets the state of a series' preview, if the series is still at `generation`; whether it was. The generation
    /// stays: what is stored does not change.
    pub async fn set_preview(
        &self,
        tenant: &str,
        study: &StudyUid,
        series: &SeriesUid,
        generation: u64,
        preview: &Preview,
    ) -> Result<bool, Error> {
        let mut attempts = Attempts::default();
        loop {
            let key = keys::series(tenant, study, series);
            let outcome = self.try_set_preview(tenant, key, generation, preview).await;
            if !attempts.again(is_conflict(&outcome)).await {
                return outcome;
            }
        }
    }

    async fn try_set_preview(
        &self,
        tenant: &str,
        key: ItemKey,
        generation: u64,
        preview: &Preview,
    ) -> Result<bool, Error> {
        let Some(item) = self.table.get(&[key]).await?.pop().flatten() else { return Ok(false) };
        let mut record: SeriesRecord = rows::decode(&item.key, &item.body)?;
        if record.generation != generation {
            return Ok(false);
        }
        record.preview = preview.clone();
        let body = rows::encode(&item.key, &record)?;
        let secondary = keys::of_series(tenant, &record);
        let changed = Item { key: item.key, version: item.version + 1, secondary, body };
        self.table.transact(vec![Write::Put(changed, Expect::Version(item.version))]).await?;
        Ok(true)
    }
}
