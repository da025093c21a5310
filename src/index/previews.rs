//! Pending previews: a sparse secondary index of series by due time, and leases.
//!
//! A lease is a right to make the preview of a series until an end. It is stored as the due time of the
//! pending preview, so that no other process gets the same preview before the end.
//!
//! A due time beyond the longest wait ([`Index::with_longest_wait`]) was written by a wrong clock, and counts
//! as due.

use std::ops::Bound;

use crate::clock;
use crate::dicom::uid::{SeriesUid, StudyUid};
use crate::index::amounts::DailyTurnover;
use crate::index::changes::{Change, ChangeKind, EntriesBefore};
use crate::index::conflict::ConflictRetries;
use crate::index::records::{PreviewState, SeriesRecord};
use crate::index::{Error, Index, keys, read, rows};
use crate::table::{self, Expect, Item, Secondary, Write};

/// A series whose pending preview is due.
#[derive(Debug, Clone, PartialEq)]
pub struct DuePreview {
    /// The tenant of the series.
    pub tenant: String,
    /// The record of the series.
    pub record: SeriesRecord,
}

/// The times of a lease, in milliseconds since 1970 UTC.
#[derive(Debug, Clone, Copy)]
pub struct LeaseTimes {
    /// The current time.
    pub now: i64,
    /// The end of the lease.
    pub until: i64,
    /// The latest time of the series' last change for which a lease is given.
    pub quiet_since: i64,
}

/// The outcome of a request for a lease.
#[derive(Debug, Clone, PartialEq)]
pub enum LeaseOutcome {
    /// The caller has the lease. Contains the record of the series before the attempt was counted.
    Acquired(SeriesRecord),
    /// The preview is not due, or another process has the lease, until this time in milliseconds since 1970
    /// UTC.
    NotBefore(i64),
    /// The series does not exist or has no pending preview.
    NotPending,
}

impl Index {
    /// The series of all tenants whose pending preview is due at `now` (milliseconds since 1970 UTC), the
    /// most overdue first. Returns at most `limit`.
    pub async fn due_previews(&self, now: i64, limit: usize) -> Result<Vec<DuePreview>, Error> {
        let mut range = read::whole_partition(Some(Secondary::Fifth), keys::PREVIEWS.into(), limit.max(1));
        range.to = Bound::Excluded(keys::due(now.saturating_add(1)));
        let mut items = self.table.range(&range).await?.items;
        // Times that a wrong clock wrote.
        let latest = clock::latest(now, self.longest_wait);
        range.from = Bound::Included(keys::due(latest.saturating_add(1)));
        range.to = Bound::Unbounded;
        range.limit = limit.saturating_sub(items.len());
        if range.limit > 0 {
            items.extend(self.table.range(&range).await?.items);
        }
        let mut found = Vec::with_capacity(items.len());
        for (sort, item) in items {
            let tenant = sort.split('#').nth(1).unwrap_or_default().to_owned();
            found.push(DuePreview { tenant, record: rows::decode(&item.key, &item.body)? });
        }
        Ok(found)
    }

    /// Acquires a lease on the pending preview of a series. This counts as an attempt, so that an attempt
    /// that kills its process is counted too. If the series has changed after `quiet_since`, the preview is
    /// postponed instead, until the series has been unchanged for as long as from `quiet_since` to `now`.
    pub async fn lease_preview(
        &self,
        tenant: &str,
        study: &StudyUid,
        series: &SeriesUid,
        LeaseTimes { now, until, quiet_since }: LeaseTimes,
    ) -> Result<LeaseOutcome, Error> {
        let key = keys::series(tenant, study, series);
        let Some(item) = self.table.get(&[key]).await?.pop().flatten() else {
            return Ok(LeaseOutcome::NotPending);
        };
        let record: SeriesRecord = rows::decode(&item.key, &item.body)?;
        let attempts = match record.preview {
            PreviewState::Pending { due_at, .. } if !clock::has_come(due_at, now, self.longest_wait) => {
                return Ok(LeaseOutcome::NotBefore(due_at));
            }
            PreviewState::Pending { attempts, .. } => attempts,
            PreviewState::None | PreviewState::Ready { .. } | PreviewState::Failed { .. } => {
                return Ok(LeaseOutcome::NotPending);
            }
        };
        let quiet_at = record.changed_at.saturating_add(now - quiet_since);
        let is_quiet = clock::has_come(quiet_at, now, self.longest_wait);
        let leased = match is_quiet {
            true => PreviewState::Pending { due_at: until, attempts: attempts + 1 },
            false => PreviewState::Pending { due_at: quiet_at, attempts },
        };
        let change = (is_quiet && attempts == 0).then_some(ChangeKind::Complete);
        match self.write_preview(tenant, &item, &record, leased, change).await {
            Ok(()) if is_quiet => Ok(LeaseOutcome::Acquired(record)),
            Ok(()) => Ok(LeaseOutcome::NotBefore(quiet_at)),
            Err(Error::Table(table::Error::Conflict(_))) => Ok(LeaseOutcome::NotBefore(now)),
            Err(error) => Err(error),
        }
    }

    /// Extends a lease until `until`, or releases it if `until` is the current time. Returns whether the
    /// series is unchanged; otherwise the lease is not extended.
    pub async fn extend_lease(&self, tenant: &str, leased: &SeriesRecord, until: i64) -> Result<bool, Error> {
        let PreviewState::Pending { attempts, .. } = leased.preview else { return Ok(false) };
        let SeriesRecord { study, series, generation, .. } = leased;
        let pending = PreviewState::Pending { due_at: until, attempts: attempts + 1 };
        let is_pending = |preview: &PreviewState| matches!(preview, PreviewState::Pending { .. });
        self.set_preview_if(tenant, study, series, *generation, &pending, is_pending).await
    }

    /// Sets the state of a series' preview if the series is still at `generation`. Returns whether it was.
    /// The generation stays the same, because the stored instances do not change.
    pub async fn set_preview(
        &self,
        tenant: &str,
        study: &StudyUid,
        series: &SeriesUid,
        generation: u64,
        preview: &PreviewState,
    ) -> Result<bool, Error> {
        self.set_preview_if(tenant, study, series, generation, preview, |_| true).await
    }

    /// Sets the state of a series' preview if, in addition, the current state meets a condition.
    async fn set_preview_if(
        &self,
        tenant: &str,
        study: &StudyUid,
        series: &SeriesUid,
        generation: u64,
        preview: &PreviewState,
        is_allowed: impl Fn(&PreviewState) -> bool,
    ) -> Result<bool, Error> {
        let key = keys::series(tenant, study, series);
        let mut retries = ConflictRetries::default();
        loop {
            let found = self.table.get(std::slice::from_ref(&key)).await?.pop().flatten();
            let Some(item) = found else { return Ok(false) };
            let record: SeriesRecord = rows::decode(&item.key, &item.body)?;
            if record.generation != generation || !is_allowed(&record.preview) {
                return Ok(false);
            }
            let change = match preview {
                PreviewState::Ready { .. } => Some(ChangeKind::Preview),
                PreviewState::Failed { .. } => Some(ChangeKind::PreviewFailed),
                PreviewState::None | PreviewState::Pending { .. } => None,
            };
            let outcome = self.write_preview(tenant, &item, &record, preview.clone(), change).await;
            let outcome = outcome.map(|()| true);
            if !retries.should_retry(&outcome).await {
                return outcome;
            }
        }
    }

    /// Writes the state of the preview of a series, which was read as `item`, with the change that goes into
    /// the feed, if any.
    async fn write_preview(
        &self,
        tenant: &str,
        item: &Item,
        record: &SeriesRecord,
        preview: PreviewState,
        change: Option<ChangeKind>,
    ) -> Result<(), Error> {
        let mut record = SeriesRecord { preview, ..record.clone() };
        let Some(kind) = change else {
            return Ok(self.table.transact(vec![changed(tenant, item, &record)?]).await?);
        };
        let change = Change::of_series(kind, &record.study, &record.series);
        self.log.open(self.table.as_ref(), tenant).await?;
        let follows = record.change.into_iter().collect();
        let before = EntriesBefore { follows, is_new_study: false };
        let taken = self.log.take(&self.table, tenant, before)?;
        record.change = Some(taken.position);
        let write = changed(tenant, item, &record)?;
        taken.transact(vec![change], DailyTurnover::new(), vec![write]).await
    }
}

/// The write of the changed record of a series, which was read as `item`.
fn changed(tenant: &str, item: &Item, record: &SeriesRecord) -> Result<Write, Error> {
    let body = rows::encode(&item.key, record)?;
    let secondary = keys::of_series(tenant, record);
    let changed = Item { key: item.key.clone(), version: item.version + 1, secondary, body };
    Ok(Write::Put(changed, Expect::Version(item.version)))
}
