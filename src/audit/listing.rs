//! Reads of the audit log: a page of the newest records that match, and all records in order.

use std::ops::Bound;

use crate::audit::chain::{whole, with_prefix};
use crate::audit::event::AuditEvent;
use crate::audit::keys::{self, AuditPlace, DAY_PREFIX};
use crate::audit::record::AuditRecord;
use crate::audit::seal::{SealUse, parts};
use crate::audit::{AuditLog, Error};
use crate::table::{Item, Range, Secondary};

/// The records that are read at a time.
const PAGE_RECORDS: usize = 200;
/// The most records that are read for a page; the page ends there.
const MAX_READ: usize = 5000;
/// The partitions of days, each a request, that are read for a page at most.
const MAX_DAYS: usize = 100;

/// The records that a reader wants.
#[derive(Debug, Clone, Default)]
pub struct AuditQuery {
    /// The first time, in milliseconds since 1970 UTC.
    pub from: Option<i64>,
    /// The time after the last, in milliseconds since 1970 UTC.
    pub to: Option<i64>,
    /// The user.
    pub user: Option<String>,
    /// The Study Instance UID.
    pub study: Option<String>,
    /// The patient ID.
    pub patient: Option<String>,
    /// The event.
    pub event: Option<AuditEvent>,
}

impl AuditQuery {
    fn matches(&self, record: &AuditRecord) -> bool {
        let entry = &record.entry;
        let is_wanted = |wanted: &Option<String>, found: Option<&String>| {
            wanted.as_ref().is_none_or(|wanted| Some(wanted) == found)
        };
        is_wanted(&self.user, Some(&entry.user.user))
            && is_wanted(&self.study, entry.study.as_ref())
            && is_wanted(&self.patient, entry.patient.as_ref())
            && self.event.is_none_or(|event| event == entry.event)
    }

    /// The secondary index that finds the records best, with the partition there.
    fn index(&self, tenant: &str) -> Option<(Secondary, String)> {
        let study = self.study.as_ref().map(|study| (Secondary::First, keys::of_study(tenant, study)));
        let patient =
            self.patient.as_ref().map(|patient| (Secondary::Second, keys::of_patient(tenant, patient)));
        let user = self.user.as_ref().filter(|user| !user.is_empty());
        let user = user.map(|user| (Secondary::Third, keys::of_user(tenant, user)));
        study.or(patient).or(user)
    }
}

/// A page of records, the newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditPage {
    /// The records.
    pub records: Vec<AuditRecord>,
    /// The place after which the next page begins; `None` at the end.
    pub next: Option<AuditPlace>,
}

impl AuditLog {
    /// Reads the newest records that match a query, from a place on to older ones. A page may hold fewer than
    /// `limit` records, or none, and have a next page: the work for one page is bounded.
    pub async fn list(
        &self,
        tenant: &str,
        query: &AuditQuery,
        after: Option<&AuditPlace>,
        limit: usize,
    ) -> Result<AuditPage, Error> {
        let mut page = AuditPage { records: Vec::new(), next: None };
        let mut left = MAX_READ;
        if let Some((index, partition)) = query.index(tenant) {
            if let Some(range) = range(Some(index), partition, query, after) {
                self.read_partition(range, query, limit, &mut left, &mut page).await?;
            }
            return Ok(page);
        }
        let last = after.map(|place| keys::day(place.at));
        let mut days = self.days(tenant, query).await?;
        days.retain(|day| last.as_ref().is_none_or(|last| day <= last));
        for (number, day) in days.iter().rev().enumerate() {
            if number == MAX_DAYS {
                // All of the days before was read: the next page begins with this day.
                let at = keys::end_of_day(day).unwrap_or(0);
                page.next = Some(AuditPlace { at, chain: "0".repeat(32), number: 0 });
                return Ok(page);
            }
            let Some(range) = range(None, keys::records(tenant, day), query, after) else { continue };
            if self.read_partition(range, query, limit, &mut left, &mut page).await? {
                return Ok(page);
            }
        }
        Ok(page)
    }

    /// Reads records of a partition into a page. Returns whether the page ends here, with a next page: a full
    /// page ends where one more record matches.
    async fn read_partition(
        &self,
        mut range: Range,
        query: &AuditQuery,
        limit: usize,
        left: &mut usize,
        page: &mut AuditPage,
    ) -> Result<bool, Error> {
        loop {
            let read = self.context.table.range(&range).await?;
            let last = read.items.last().map(|(sort, _)| sort.clone());
            for (sort, item) in read.items {
                let record = self.read(&item)?;
                if query.matches(&record) {
                    if page.records.len() >= limit {
                        page.next = page.records.last().map(AuditRecord::place);
                        return Ok(true);
                    }
                    page.records.push(record);
                }
                *left = left.saturating_sub(1);
                if *left == 0 {
                    page.next = AuditPlace::of_sort(&sort);
                    return Ok(true);
                }
            }
            match last {
                Some(last) if read.has_more => range.to = Bound::Excluded(last),
                _ => return Ok(false),
            }
        }
    }

    /// Gives all records of a tenant that match a query to a function, the oldest first, until the function
    /// returns `false`. The text is the record as a line of JSON, with its hash.
    pub async fn each(
        &self,
        tenant: &str,
        query: &AuditQuery,
        mut work: impl FnMut(&AuditRecord, &str) -> bool,
    ) -> Result<(), Error> {
        for day in self.days(tenant, query).await? {
            let Some(mut range) = range(None, keys::records(tenant, &day), query, None) else { continue };
            range.is_descending = false;
            loop {
                let page = self.context.table.range(&range).await?;
                for (_, item) in &page.items {
                    let record = self.read(item)?;
                    if query.matches(&record) && !work(&record, &line(item)) {
                        return Ok(());
                    }
                }
                match page.items.last() {
                    Some((last, _)) if page.has_more => range.from = Bound::Excluded(last.clone()),
                    _ => break,
                }
            }
        }
        Ok(())
    }

    /// The tenants that have a log, [`super::SERVER_LOG`] among them.
    pub async fn tenants(&self) -> Result<Vec<String>, Error> {
        let items = whole(self.context.table.as_ref(), keys::TENANTS.to_owned()).await?;
        Ok(items.into_iter().map(|item| item.key.sort).collect())
    }

    /// The days with records within the times of a query, the first first.
    pub(super) async fn days(&self, tenant: &str, query: &AuditQuery) -> Result<Vec<String>, Error> {
        let marks = with_prefix(self.context.table.as_ref(), keys::root(tenant), DAY_PREFIX).await?;
        let days =
            marks.into_iter().filter_map(|item| item.key.sort.strip_prefix(DAY_PREFIX).map(str::to_owned));
        let (from, to) = (query.from.map(keys::day), query.to.map(keys::day));
        let is_wanted = |day: &String| {
            from.as_ref().is_none_or(|from| day >= from) && to.as_ref().is_none_or(|to| day <= to)
        };
        Ok(days.filter(is_wanted).collect())
    }

    /// The record in an item. The chain is not checked, which a verification does.
    fn read(&self, item: &Item) -> Result<AuditRecord, Error> {
        let sealed = self.context.sealer.open(SealUse::Record, &item.body).map(|(record, _)| record);
        sealed.or_else(|_| {
            // A record that was written with another key can be read.
            let json = parts(&item.body).map(|(_, json)| json).unwrap_or_default();
            serde_json::from_slice(json).map_err(|_| Error::Changed(item.key.sort.clone()))
        })
    }
}

/// A record as a line of JSON: as it is stored, byte for byte, with its hash at the end.
fn line(item: &Item) -> String {
    let Some((hash, json)) = parts(&item.body) else { return String::new() };
    let json = String::from_utf8_lossy(json);
    let open = json.strip_suffix('}').unwrap_or(&json);
    format!("{open},\"hash\":\"{}\"}}", hash.to_hex())
}

/// The range of a partition within the times of a query and before a place, the newest first; `None` if no
/// record can be there.
fn range(
    index: Option<Secondary>,
    partition: String,
    query: &AuditQuery,
    after: Option<&AuditPlace>,
) -> Option<Range> {
    let bound = |at: i64| format!("{:015}", at.max(0));
    let from = query.from.map(bound);
    let to = [query.to.map(bound), after.map(AuditPlace::sort)].into_iter().flatten().min();
    if from.as_ref().zip(to.as_ref()).is_some_and(|(from, to)| from >= to) {
        return None;
    }
    let (from, to) =
        (from.map_or(Bound::Unbounded, Bound::Included), to.map_or(Bound::Unbounded, Bound::Excluded));
    Some(Range { index, partition, from, to, is_descending: true, limit: PAGE_RECORDS })
}
