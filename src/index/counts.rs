//! The number of studies of each day, by which a search skips to an offset.
//!
//! The transaction that adds, moves or deletes a study adds to the counters of its days. The row of a tenant
//! says whether the counters are exact: they are for a tenant whose first instance was stored by a version
//! with counters, and after [`Index::recount`].

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::time::Duration;

use futures_util::TryStreamExt;

use crate::index::read::{pages, whole_partition};
use crate::index::{Error, Index, keys};
use crate::table::{self, Expect, Item, Range, Secondary, Table, Write};

/// The body of the row of a tenant with exact counters.
const COUNTED: &[u8] = b"studies counted by day";
/// Counters, or sort keys of studies, that are read at a time.
const PAGE_COUNTERS: usize = 2000;
/// The wait before a count that does not agree is repeated: secondary indexes of some tables are updated a
/// moment later.
const SETTLING: Duration = Duration::from_secs(2);
/// The times that a day is counted whose studies change meanwhile.
const MAX_COUNTS: usize = 8;

/// The row of a new tenant.
pub(crate) fn tenant_row(tenant: &str) -> Item {
    Item { key: keys::tenant(tenant), version: 1, secondary: Vec::new(), body: COUNTED.to_vec() }
}

/// The writes that count a study which was on the day `before` and is on the day `after`; `None` if it did
/// not or does not exist.
pub(crate) fn writes(tenant: &str, before: Option<&str>, after: Option<&str>) -> Vec<Write> {
    if before == after {
        return Vec::new();
    }
    let add = |day: &str, number| Write::Add(keys::studies_on(tenant, day), number, Expect::Anything);
    before.map(|day| add(day, -1)).into_iter().chain(after.map(|day| add(day, 1))).collect()
}

/// Whether the counters of a tenant are exact.
pub(crate) async fn is_counted(table: &dyn Table, tenant: &str) -> Result<bool, Error> {
    let row = table.get(&[keys::tenant(tenant)]).await?.pop().flatten();
    Ok(row.is_some_and(|row| row.body == COUNTED))
}

/// The place of an offset among the studies of a range.
pub(crate) struct SkippedDays {
    /// The upper bound of the studies that are left.
    pub(crate) to: Bound<String>,
    /// The number of studies that were skipped.
    pub(crate) skipped: usize,
    /// The number of counters read.
    pub(crate) rows_read: usize,
}

/// Skips whole days of studies, the latest first, as long as that is no more than `offset` studies. `studies`
/// is a range of the list of studies whose bounds are days.
pub(crate) async fn skip_days(
    table: &dyn Table,
    tenant: &str,
    studies: &Range,
    offset: usize,
) -> Result<SkippedDays, Error> {
    let mut range = Range { index: None, partition: keys::days(tenant), ..studies.clone() };
    range.limit = PAGE_COUNTERS;
    let mut found = SkippedDays { to: studies.to.clone(), skipped: 0, rows_read: 0 };
    loop {
        let page = table.range(&range).await?;
        for (day, item) in &page.items {
            found.rows_read += 1;
            let count = usize::try_from(item.count().unwrap_or_default()).unwrap_or(0);
            if found.skipped.saturating_add(count) > offset {
                return Ok(found);
            }
            found.skipped += count;
            found.to = Bound::Excluded(day.clone());
        }
        match page.items.into_iter().next_back() {
            Some((last, _)) if page.has_more => range.to = Bound::Excluded(last),
            _ => return Ok(found),
        }
    }
}

/// The state of the counters of a tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recount {
    /// The days whose counters were wrong, as `YYYYMMDD`; empty for studies without a date.
    pub wrong_days: Vec<String>,
    /// Whether the counters were not in use: studies of the tenant were stored by an older version.
    pub was_uncounted: bool,
    /// The days that could not be counted, because their studies changed all the time.
    pub uncertain_days: usize,
}

impl Index {
    /// The number of studies of a tenant; `None` if its counters are not exact.
    pub async fn count_studies(&self, tenant: &str) -> Result<Option<u64>, Error> {
        match self.table.get(&[keys::tenant(tenant)]).await?.pop().flatten() {
            // The tenant has never stored anything.
            None => return Ok(Some(0)),
            Some(row) if row.body != COUNTED => return Ok(None),
            Some(_) => {}
        }
        let range = whole_partition(None, keys::days(tenant), PAGE_COUNTERS);
        let mut found = pages(self.table.clone(), range);
        let mut count = 0;
        while let Some(page) = found.try_next().await? {
            let counts = page.iter().filter_map(|(_, item)| u64::try_from(item.count()?).ok());
            count += counts.sum::<u64>();
        }
        Ok(Some(count))
    }

    /// Compares the counters of a tenant with the list of studies. With `is_repairing`, corrects them and
    /// puts them in use. Other processes may store and delete meanwhile.
    pub async fn recount(&self, tenant: &str, is_repairing: bool) -> Result<Recount, Error> {
        let was_uncounted = !is_counted(self.table.as_ref(), tenant).await?;
        let mut outcome = Recount { wrong_days: Vec::new(), was_uncounted, uncertain_days: 0 };
        if was_uncounted && !is_repairing {
            return Ok(outcome);
        }
        if was_uncounted {
            for day in self.disagreeing_days(tenant).await? {
                self.recount_day(tenant, &day, is_repairing).await?;
            }
        }
        let days = self.disagreeing_days(tenant).await?;
        if !days.is_empty() {
            tokio::time::sleep(SETTLING).await;
        }
        for day in days {
            match self.recount_day(tenant, &day, is_repairing).await? {
                Some(true) => {}
                Some(false) => outcome.wrong_days.push(day.trim_end_matches('#').to_owned()),
                None => outcome.uncertain_days += 1,
            }
        }
        if was_uncounted && outcome.uncertain_days == 0 {
            let mut row = tenant_row(tenant);
            row.version = 2;
            self.table.transact(vec![Write::Put(row, Expect::Anything)]).await?;
        }
        Ok(outcome)
    }

    /// Counts the studies of a day until nothing changes meanwhile. Returns whether the counter was right;
    /// `None` if that could not be found out.
    async fn recount_day(&self, tenant: &str, day: &str, is_repairing: bool) -> Result<Option<bool>, Error> {
        let key = keys::studies_on(tenant, day);
        for attempt in 0..MAX_COUNTS {
            if attempt > 0 {
                tokio::time::sleep(SETTLING).await;
            }
            let before = self.table.get(std::slice::from_ref(&key)).await?.pop().flatten();
            let bounds = (Bound::Included(day.to_owned()), Bound::Excluded(format!("{day}~")));
            let number = self.listed_days(tenant, bounds).await?.into_values().sum::<i64>();
            let after = self.table.get(std::slice::from_ref(&key)).await?.pop().flatten();
            if before != after {
                continue;
            }
            let count = after.as_ref().and_then(Item::count).unwrap_or(0);
            if count == number || !is_repairing {
                return Ok(Some(count == number));
            }
            let expect = after.map_or(Expect::Absent, |counter| Expect::Version(counter.version));
            match self.table.transact(vec![Write::Add(key.clone(), number - count, expect)]).await {
                Ok(()) => return Ok(Some(false)),
                Err(table::Error::Conflict(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(None)
    }

    /// The days whose counters are not the number of studies in the list.
    async fn disagreeing_days(&self, tenant: &str) -> Result<Vec<String>, Error> {
        let listed = self.listed_days(tenant, (Bound::Unbounded, Bound::Unbounded)).await?;
        let counted = self.counted_days(tenant).await?;
        let days: BTreeSet<&String> = listed.keys().chain(counted.keys()).collect();
        let is_equal = |day: &String| listed.get(day).unwrap_or(&0) == counted.get(day).unwrap_or(&0);
        Ok(days.into_iter().filter(|day| !is_equal(day)).cloned().collect())
    }

    /// The number of studies on each day in a part of the list.
    async fn listed_days(
        &self,
        tenant: &str,
        (from, to): (Bound<String>, Bound<String>),
    ) -> Result<BTreeMap<String, i64>, Error> {
        let mut range = whole_partition(Some(Secondary::First), keys::studies(tenant), PAGE_COUNTERS);
        (range.from, range.to) = (from, to);
        let mut days = BTreeMap::new();
        loop {
            let page = self.table.sort_keys(&range).await?;
            for sort in &page.keys {
                *days.entry(keys::day_of(sort).to_owned()).or_default() += 1;
            }
            match page.keys.into_iter().next_back() {
                Some(last) if page.has_more => range.from = Bound::Excluded(last),
                _ => return Ok(days),
            }
        }
    }

    /// The counter of each day.
    async fn counted_days(&self, tenant: &str) -> Result<BTreeMap<String, i64>, Error> {
        let range = whole_partition(None, keys::days(tenant), PAGE_COUNTERS);
        let mut counters = pages(self.table.clone(), range);
        let mut days = BTreeMap::new();
        while let Some(page) = counters.try_next().await? {
            days.extend(page.into_iter().map(|(day, item)| (day, item.count().unwrap_or(0))));
        }
        Ok(days)
    }
}
