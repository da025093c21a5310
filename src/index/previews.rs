//! Which series' previews are to be made: a sparse secondary index of series by when they are due.

use std::ops::Bound;

use crate::dicom::uid::{SeriesUid, StudyUid};
use crate::index::commit::{Attempts, is_conflict};
use crate::index::records::{Preview, SeriesRecord};
use crate::index::{Error, Index, keys, read, rows};
use crate::table::{self, Expect, Item, ItemKey, Secondary, Write};

/// A series whose preview is to be made.
#[derive(Debug, Clone, PartialEq)]
pub struct Due {
    /// The tenant that it belongs to.
    pub tenant: String,
    /// The series as it is.
    pub record: SeriesRecord,
}

/// When a preview is to be made, in milliseconds since 1970 UTC.
#[derive(Debug, Clone, Copy)]
pub struct LeaseTimes {
    /// Now.
    pub now: i64,
    /// When the right ends.
    pub until: i64,
    /// The series must not have changed after this.
    pub quiet_since: i64,
}

/// What came of asking for the right to make a preview.
#[derive(Debug, Clone, PartialEq)]
pub enum Lease {
    /// It is the caller's. The series as it was before this attempt was counted.
    Taken(SeriesRecord),
    /// It is not due, or somebody else's, until then, in milliseconds since 1970 UTC.
    NotBefore(i64),
    /// There is no such preview to be made.
    Nothing,
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

    /// Takes the right to make a series' preview until `until`: it is not due before, for anybody. An attempt is counted
    /// by this, so that one that kills its process is counted too. A series that has changed since `quiet_since` is put
    /// off by as long.
    pub async fn lease_preview(
        &self,
        tenant: &str,
        study: &StudyUid,
        series: &SeriesUid,
        LeaseTimes { now, until, quiet_since }: LeaseTimes,
    ) -> Result<Lease, Error> {
        let key = keys::series(tenant, study, series);
        let Some(item) = self.table.get(&[key]).await?.pop().flatten() else { return Ok(Lease::Nothing) };
        let record: SeriesRecord = rows::decode(&item.key, &item.body)?;
        let attempts = match record.preview {
            Preview::Pending { due_at, .. } if due_at > now => return Ok(Lease::NotBefore(due_at)),
            Preview::Pending { attempts, .. } => attempts,
            Preview::None | Preview::Made { .. } | Preview::Failed { .. } => return Ok(Lease::Nothing),
        };
        let is_quiet = record.changed_at <= quiet_since;
        let leased = match is_quiet {
            true => Preview::Pending { due_at: until, attempts: attempts + 1 },
            false => Preview::Pending { due_at: record.changed_at + (now - quiet_since), attempts },
        };
        match self.table.transact(vec![with_preview(tenant, &item, &record, leased)?]).await {
            Ok(()) if is_quiet => Ok(Lease::Taken(record)),
            Ok(()) => Ok(Lease::NotBefore(record.changed_at + (now - quiet_since))),
            Err(table::Error::Conflict(_)) => Ok(Lease::NotBefore(now)),
            Err(error) => Err(error.into()),
        }
    }

    /// Keeps the preview of a leased series from others until `until`; whether the series is still as it was. `until`
    /// may be now, to give it back.
    pub async fn extend_lease(&self, tenant: &str, leased: &SeriesRecord, until: i64) -> Result<bool, Error> {
        let Preview::Pending { attempts, .. } = leased.preview else { return Ok(false) };
        let SeriesRecord { study, series, generation, .. } = leased;
        let pending = Preview::Pending { due_at: until, attempts: attempts + 1 };
        let is_pending = |preview: &Preview| matches!(preview, Preview::Pending { .. });
        self.set_preview_if(tenant, study, series, *generation, &pending, is_pending).await
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
        self.set_preview_if(tenant, study, series, generation, preview, |_| true).await
    }

    /// Sets it only if that may follow what it is.
    async fn set_preview_if(
        &self,
        tenant: &str,
        study: &StudyUid,
        series: &SeriesUid,
        generation: u64,
        preview: &Preview,
        may_follow: impl Fn(&Preview) -> bool,
    ) -> Result<bool, Error> {
        let mut attempts = Attempts::default();
        loop {
            let key = keys::series(tenant, study, series);
            let outcome = self.try_set_preview(tenant, key, generation, preview, &may_follow).await;
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
        may_follow: impl Fn(&Preview) -> bool,
    ) -> Result<bool, Error> {
        let Some(item) = self.table.get(&[key]).await?.pop().flatten() else { return Ok(false) };
        let record: SeriesRecord = rows::decode(&item.key, &item.body)?;
        if record.generation != generation || !may_follow(&record.preview) {
            return Ok(false);
        }
        self.table.transact(vec![with_preview(tenant, &item, &record, preview.clone())?]).await?;
        Ok(true)
    }
}

/// The write that changes the preview of a series, which was read as `item`.
fn with_preview(tenant: &str, item: &Item, record: &SeriesRecord, preview: Preview) -> Result<Write, Error> {
    let record = SeriesRecord { preview, ..record.clone() };
    let body = rows::encode(&item.key, &record)?;
    let secondary = keys::of_series(tenant, &record);
    let changed = Item { key: item.key.clone(), version: item.version + 1, secondary, body };
    Ok(Write::Put(changed, Expect::Version(item.version)))
}
