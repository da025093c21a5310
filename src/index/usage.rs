//! The usage of tenants: the amount that is stored, and the amounts that were stored and deleted on each day
//! (docs/decisions/0156).
//!
//! The entries of the feed of changes hold the amounts that their transactions have stored and deleted. Here
//! they are added up: a transaction adds the next entries to the turnover of their days and to the amount
//! that is stored, and moves the mark up to which the feed is counted. So each entry counts exactly once, and
//! no transaction that stores or deletes has to write a counter.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::time::Duration;

use futures_util::TryStreamExt;
use futures_util::future::try_join_all;
use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::index::amounts::{Amount, DailyTurnover, Turnover};
use crate::index::feed::{FeedCursor, FeedPage, FeedRead};
use crate::index::read::{pages, whole_partition};
use crate::index::versioned::replacement;
use crate::index::{Error, Index, keys, rows};
use crate::table::{self, Expect, Item, Range, Write};

/// The entries of the feed that are read at a time.
const PAGE_ENTRIES: usize = 500;
/// The days whose turnover one transaction changes, at most.
const MAX_DAYS: usize = 90;
/// The rows of a tenant's usage that are read at a time.
const PAGE_ROWS: usize = 1000;
/// The attempts at a read or a count of what changes meanwhile.
const MAX_ATTEMPTS: usize = 8;
/// The wait before another attempt at a count: secondary indexes of some tables are updated a moment later.
const SETTLING: Duration = Duration::from_secs(2);

/// The amount that a tenant has stored, with the place up to which the feed is counted.
#[derive(Serialize, Deserialize)]
struct UsageHead {
    /// The place, as text.
    counted: String,
    stored: Amount,
}

/// The head with the version of its row.
pub(crate) struct CountedUsage {
    /// The place up to which the feed is counted.
    pub(crate) counted: FeedCursor,
    stored: Amount,
    version: u64,
}

/// The requests of a tenant and the bytes that were sent in response.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// The number of requests: of HTTP, and DIMSE operations.
    pub calls: u64,
    /// The bytes of the bodies of responses, and of instances sent by DIMSE.
    pub sent_bytes: u64,
}

impl Traffic {
    /// Adds other traffic.
    pub fn add(&mut self, other: Self) {
        self.calls += other.calls;
        self.sent_bytes += other.sent_bytes;
    }
}

/// The usage of a day.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DayUsage {
    /// The amounts that were stored and deleted.
    pub turnover: Turnover,
    /// The requests, and the bytes sent.
    pub traffic: Traffic,
}

/// The usage of a tenant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TenantUsage {
    /// The amount that is stored; `None` if it is not counted, because an older version has stored some of
    /// it (see [`Index::recount_usage`]).
    pub stored: Option<Amount>,
    /// The days with any usage, by date.
    pub days: BTreeMap<String, DayUsage>,
}

/// The outcome of a comparison of the counted amount with the studies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UsageRecount {
    /// They agree.
    Right,
    /// The amount was wrong.
    Wrong,
    /// The amount was not counted: an older version has stored some of it.
    Uncounted,
    /// They cannot be compared, because studies changed all the time.
    Uncertain,
}

/// The write of the first head of a new tenant.
pub(crate) fn first_head(tenant: &str) -> Result<Write, Error> {
    head_write(tenant, &FeedCursor::default(), Amount::default(), 0)
}

/// The write of a head in place of the one with this version, 0 for none.
fn head_write(tenant: &str, counted: &FeedCursor, stored: Amount, version: u64) -> Result<Write, Error> {
    replacement(keys::usage_head(tenant), &UsageHead { counted: counted.to_string(), stored }, version)
}

impl Index {
    /// The amount that a tenant has stored; `None` if it is not counted.
    ///
    /// What was acknowledged before the call is in it, but that which other processes stored after a
    /// transaction of theirs that is still under way (see [`super::feed`]): a few seconds of changes at most.
    pub async fn stored_amount(&self, tenant: &str) -> Result<Option<Amount>, Error> {
        match self.count_usage(tenant).await? {
            Some(usage) => Ok(Some(usage.stored)),
            None => Ok(self.is_tenant_new(tenant).await?.then(Amount::default)),
        }
    }

    /// The usage of a tenant, with the days from `from` to `to`, both as `2026-11-30` and included.
    pub async fn usage(&self, tenant: &str, from: &str, to: &str) -> Result<TenantUsage, Error> {
        let mut attempt = 0;
        loop {
            attempt += 1;
            let before = self.count_usage(tenant).await?;
            let mut days: BTreeMap<String, DayUsage> = BTreeMap::new();
            for (sort, item) in self.usage_rows(tenant, keys::TURNOVER_PREFIX, from, to).await? {
                days.entry(sort).or_default().turnover = rows::decode(&item.key, &item.body)?;
            }
            // Another process may have counted meanwhile.
            let after = self.usage_head(tenant).await?;
            let version = |usage: &Option<CountedUsage>| usage.as_ref().map(|usage| usage.version);
            if version(&before) != version(&after) && attempt < MAX_ATTEMPTS {
                continue;
            }
            for (sort, item) in self.usage_rows(tenant, keys::TRAFFIC_PREFIX, from, to).await? {
                let date = sort.split('#').next().unwrap_or(&sort).to_owned();
                days.entry(date).or_default().traffic.add(rows::decode(&item.key, &item.body)?);
            }
            let stored = match after {
                Some(usage) => Some(usage.stored),
                None => self.is_tenant_new(tenant).await?.then(Amount::default),
            };
            return Ok(TenantUsage { stored, days });
        }
    }

    /// Writes the traffic of a tenant on a day, as far as the process of this name has it. The next write
    /// takes the place of this one, so that a repeated write does no harm.
    pub async fn write_traffic(
        &self,
        tenant: &str,
        date: &str,
        process: &str,
        traffic: Traffic,
    ) -> Result<(), Error> {
        let key = keys::traffic(tenant, date, process);
        let body = rows::encode(&key, &traffic)?;
        let row = Item { key, version: 1, secondary: Vec::new(), body };
        Ok(self.table.transact(vec![Write::Put(row, Expect::Anything)]).await?)
    }

    /// Adds the entries of the feed that are not counted yet. Returns `None` if the tenant's usage is not
    /// counted.
    pub(crate) async fn count_usage(&self, tenant: &str) -> Result<Option<CountedUsage>, Error> {
        loop {
            let Some(usage) = self.usage_head(tenant).await? else { return Ok(None) };
            let page = match self.changes(tenant, Some(&usage.counted), PAGE_ENTRIES).await? {
                FeedRead::Page(page) => page,
                FeedRead::Expired => {
                    warn!(tenant, "changes were lost before they were counted; run `cuspid check --repair`");
                    return Ok(None);
                }
            };
            if page.next == usage.counted {
                return Ok(Some(usage));
            }
            match self.count_page(tenant, usage, page).await {
                Ok(Some(usage)) => return Ok(Some(usage)),
                // There are more entries, or another process has counted them.
                Ok(None) | Err(Error::Table(table::Error::Conflict(_))) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Adds the entries of a page in one transaction. Returns the usage if these were the last.
    async fn count_page(
        &self,
        tenant: &str,
        usage: CountedUsage,
        page: FeedPage,
    ) -> Result<Option<CountedUsage>, Error> {
        let CountedUsage { mut counted, mut stored, version } = usage;
        let (mut added, mut is_whole) = (DailyTurnover::new(), true);
        counted.join(&page.next);
        for entry in page.entries {
            let is_new = |date: &&String| !added.contains_key(*date);
            let is_first = added.is_empty();
            if !is_first && added.len() + entry.turnover.keys().filter(is_new).count() > MAX_DAYS {
                is_whole = false;
                break;
            }
            for (date, turnover) in entry.turnover {
                stored.add(turnover.stored);
                stored.subtract(turnover.deleted);
                added.entry(date).or_default().add(turnover);
            }
            counted.advance(entry.position);
        }
        if is_whole {
            counted = page.next;
        }
        let row_keys: Vec<_> = added.keys().map(|date| keys::turnover(tenant, date)).collect();
        let mut writes = vec![head_write(tenant, &counted, stored, version)?];
        let found = if row_keys.is_empty() { Vec::new() } else { self.table.get(&row_keys).await? };
        for ((key, found), mut turnover) in row_keys.into_iter().zip(found).zip(added.into_values()) {
            let row_version = found.as_ref().map_or(1, |row| row.version + 1);
            if let Some(row) = found {
                turnover.add(rows::decode(&row.key, &row.body)?);
            }
            let body = rows::encode(&key, &turnover)?;
            let row = Item { key, version: row_version, secondary: Vec::new(), body };
            // The version of the head is the condition of all of them.
            writes.push(Write::Put(row, Expect::Anything));
        }
        self.table.transact(writes).await?;
        let usage = CountedUsage { counted, stored, version: version + 1 };
        Ok((is_whole && !page.has_more).then_some(usage))
    }

    /// Compares the amount that a tenant has stored with the records of the studies. With `is_repairing`,
    /// corrects it. Other processes may store and delete meanwhile: then the amount is not compared, and one
    /// that is not counted yet is counted again.
    pub async fn recount_usage(&self, tenant: &str, is_repairing: bool) -> Result<UsageRecount, Error> {
        for attempt in 0..MAX_ATTEMPTS {
            if attempt > 0 {
                tokio::time::sleep(SETTLING).await;
            }
            let end = self.end_of_changes(tenant).await?;
            let usage = self.count_usage(tenant).await?;
            let amount = self.listed_amount(tenant).await?;
            let outcome = match &usage {
                Some(_) if !self.is_at_end(tenant, &end).await? => return Ok(UsageRecount::Uncertain),
                None if !self.is_at_end(tenant, &end).await? => continue,
                Some(usage) if usage.stored == amount => return Ok(UsageRecount::Right),
                // What a secondary index does not have yet looks like a wrong amount.
                Some(_) if attempt == 0 => continue,
                Some(_) => UsageRecount::Wrong,
                None => UsageRecount::Uncounted,
            };
            if !is_repairing {
                return Ok(outcome);
            }
            let version = self.table.get(&[keys::usage_head(tenant)]).await?.pop().flatten();
            let version = version.map_or(0, |head| head.version);
            if self.transact_if_current(vec![head_write(tenant, &end, amount, version)?]).await? {
                return Ok(outcome);
            }
        }
        Ok(UsageRecount::Uncertain)
    }

    /// Counts what tenants have stored whose usage is not counted, because an older version has stored it.
    /// Reads the records of all their studies.
    pub async fn begin_usage(&self) -> Result<(), Error> {
        for tenant in self.tenants().await? {
            if self.usage_head(&tenant).await?.is_none() {
                self.recount_usage(&tenant, true).await?;
            }
        }
        Ok(())
    }

    /// The amount of all studies of a tenant, from their records.
    async fn listed_amount(&self, tenant: &str) -> Result<Amount, Error> {
        let (mut amount, mut studies) = (Amount::default(), self.studies(tenant));
        while let Some(page) = studies.try_next().await? {
            for study in page {
                let (instances, bytes) = (study.number_of_instances, study.size_bytes);
                amount.add(Amount { studies: 1, instances, bytes });
            }
        }
        Ok(amount)
    }

    /// Whether no entry of a tenant's feed is after a place, not even behind a gap.
    async fn is_at_end(&self, tenant: &str, place: &FeedCursor) -> Result<bool, Error> {
        let lanes = (0..self.log.lanes()).map(|lane| async move {
            let mut range = whole_partition(None, keys::feed_lane(tenant, lane), 1);
            range.is_descending = true;
            let page = self.table.range(&range).await?;
            let last = page.items.first().and_then(|(sort, _)| keys::feed_number(sort));
            Ok::<_, Error>(last.unwrap_or(0) <= place.number(lane))
        });
        Ok(try_join_all(lanes).await?.into_iter().all(|is_at_end| is_at_end))
    }

    async fn usage_head(&self, tenant: &str) -> Result<Option<CountedUsage>, Error> {
        let key = keys::usage_head(tenant);
        let Some((UsageHead { counted, stored }, version)) = self.versioned(key.clone()).await? else {
            return Ok(None);
        };
        let counted = counted.parse().map_err(|error| rows::record_error(&key, error))?;
        Ok(Some(CountedUsage { counted, stored, version }))
    }

    /// The rows of a tenant's usage of some days, each with its sort key without the prefix.
    async fn usage_rows(
        &self,
        tenant: &str,
        prefix: &str,
        from: &str,
        to: &str,
    ) -> Result<Vec<(String, Item)>, Error> {
        let range = Range {
            from: Bound::Included(format!("{prefix}{from}")),
            // After the date of the last day, and all that follows it in a key.
            to: Bound::Excluded(format!("{prefix}{to}~")),
            ..whole_partition(None, keys::usage(tenant), PAGE_ROWS)
        };
        let (mut found, mut rows) = (pages(self.table.clone(), range), Vec::new());
        while let Some(page) = found.try_next().await? {
            let own = |(sort, item): (String, Item)| (sort[prefix.len()..].to_owned(), item);
            rows.extend(page.into_iter().map(own));
        }
        Ok(rows)
    }

    /// Whether a tenant has never stored anything.
    async fn is_tenant_new(&self, tenant: &str) -> Result<bool, Error> {
        Ok(self.table.get(&[keys::tenant(tenant)]).await?.iter().all(Option::is_none))
    }
}
