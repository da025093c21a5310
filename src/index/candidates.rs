//! The candidates of a query: a superset of the studies with matches, found by the most selective key.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use serde::de::DeserializeOwned;

use crate::dicom::attributes::Tag;
use crate::dicom::tags;
use crate::dicom::uid::StudyUid;
use crate::index::records::{SeriesRecord, StudyRecord};
use crate::index::rows::InstanceLocation;
use crate::index::{Error, keys, read, rows};
use crate::query::matching::Matcher;
use crate::query::temporal::add_days;
use crate::query::{Level, Query};
use crate::table::{Item, ItemKey, Range, Secondary, Table};

/// The maximum number of rows in a page.
const PAGE_ROWS: usize = 500;

/// The candidates, in the default order of results.
pub(crate) struct Candidates {
    table: Arc<dyn Table>,
    ready: VecDeque<StudyRecord>,
    rest: Option<Range>,
    rows_read: usize,
    is_cut_off: bool,
}

impl Candidates {
    /// The next study. Reads at most `rows_left` more rows.
    pub(crate) async fn next(&mut self, rows_left: usize) -> Result<Option<StudyRecord>, Error> {
        if self.ready.is_empty()
            && let Some(mut range) = self.rest.take()
        {
            let limit = range.limit.min(rows_left.saturating_add(1));
            let page = self.table.range(&Range { limit: limit.max(1), ..range.clone() }).await?;
            for (_, item) in &page.items {
                self.ready.push_back(rows::decode(&item.key, &item.body)?);
            }
            if let Some((last, _)) = page.items.last().filter(|_| page.has_more) {
                range.to = Bound::Excluded(last.clone());
                range.limit = PAGE_ROWS;
                self.rest = Some(range);
            }
        }
        Ok(self.ready.pop_front())
    }

    /// The number of rows read to find the candidates.
    pub(crate) fn rows_read(&self) -> usize {
        self.rows_read
    }

    /// Whether there may be more candidates, because there were too many rows to read them all.
    pub(crate) fn is_cut_off(&self) -> bool {
        self.is_cut_off
    }
}

/// Finds the candidates of a query. Reads at most `max_rows` rows.
pub(crate) async fn choose(
    table: &Arc<dyn Table>,
    tenant: &str,
    query: &Query,
    max_rows: usize,
) -> Result<Candidates, Error> {
    let mut chosen = Candidates {
        table: table.clone(),
        ready: VecDeque::new(),
        rest: None,
        rows_read: 0,
        is_cut_off: false,
    };
    if let Some(studies) = named_studies(&mut chosen, tenant, query, max_rows).await? {
        let keys: Vec<ItemKey> = studies.iter().map(|study| keys::study(tenant, study)).collect();
        let items = table.get(&keys).await?;
        return in_order(chosen, items.into_iter().flatten());
    }
    let partitions = selective_partitions(tenant, query);
    if partitions.is_empty() {
        chosen.rest = Some(by_date(tenant, query));
        return Ok(chosen);
    }
    for (index, partition, bounds) in partitions {
        let mut range = read::whole_partition(Some(index), partition, PAGE_ROWS);
        (range.from, range.to) = bounds;
        let studies = chosen.collect::<StudyRecord>(range, max_rows).await?;
        chosen.ready.extend(studies);
    }
    chosen.ready.make_contiguous().sort_by_cached_key(|record| std::cmp::Reverse(keys::order(record)));
    Ok(chosen)
}

impl Candidates {
    /// Reads the records of a range up to its end, or until `max_rows` rows were read for the query.
    async fn collect<R: DeserializeOwned>(
        &mut self,
        mut range: Range,
        max_rows: usize,
    ) -> Result<Vec<R>, Error> {
        let mut records = Vec::new();
        loop {
            let page = self.table.range(&range).await?;
            self.rows_read += page.items.len();
            for (_, item) in &page.items {
                records.push(rows::decode(&item.key, &item.body)?);
            }
            let last = page.items.into_iter().next_back().map(|(sort, _)| sort);
            let Some(last) = last.filter(|_| page.has_more) else { return Ok(records) };
            if self.rows_read >= max_rows {
                self.is_cut_off = true;
                return Ok(records);
            }
            range.from = Bound::Excluded(last);
            // To decode a page takes a moment, and there may be hundreds of pages.
            tokio::task::yield_now().await;
        }
    }
}

fn in_order(mut chosen: Candidates, items: impl Iterator<Item = Item>) -> Result<Candidates, Error> {
    let mut records: Vec<StudyRecord> =
        items.map(|item| rows::decode(&item.key, &item.body)).collect::<Result<_, _>>()?;
    records.sort_by_cached_key(|record| std::cmp::Reverse(keys::order(record)));
    chosen.ready = records.into();
    Ok(chosen)
}

/// The studies that a query names by their UIDs or by those of series or instances in them; `None` if the
/// query names no UIDs.
async fn named_studies(
    chosen: &mut Candidates,
    tenant: &str,
    query: &Query,
    max_rows: usize,
) -> Result<Option<Vec<StudyUid>>, Error> {
    if let Some(study) = &query.study {
        return Ok(Some(vec![study.clone()]));
    }
    let mut named = BTreeMap::new();
    if let Some(uids) = uids(query, tags::STUDY_INSTANCE_UID) {
        named.extend(uids.iter().filter_map(|uid| uid.parse().ok()).map(|uid: StudyUid| (uid, ())));
    } else if let Some(uids) = uids(query, tags::SOP_INSTANCE_UID).filter(|_| query.level == Level::Instance)
    {
        let instances = uids.iter().filter_map(|uid| uid.parse().ok());
        let locations: Vec<ItemKey> =
            instances.map(|uid| keys::location(tenant, &uid)).take(max_rows).collect();
        chosen.rows_read += locations.len();
        for item in chosen.table.get(&locations).await?.into_iter().flatten() {
            let location: InstanceLocation = rows::decode(&item.key, &item.body)?;
            named.insert(location.study, ());
        }
    } else if let Some(uids) = uids(query, tags::SERIES_INSTANCE_UID).filter(|_| query.level > Level::Study) {
        for uid in uids.iter().filter_map(|uid| uid.parse().ok()) {
            let partition = keys::series_uid(tenant, &uid);
            let range = read::whole_partition(Some(Secondary::Second), partition, PAGE_ROWS);
            for record in chosen.collect::<SeriesRecord>(range, max_rows).await? {
                named.insert(record.study, ());
            }
        }
    } else {
        return Ok(None);
    }
    Ok(Some(named.into_keys().take(max_rows).collect()))
}

fn matcher(query: &Query, tag: Tag) -> Option<&Matcher> {
    query.conditions.iter().find(|condition| condition.path == [tag]).map(|condition| &condition.matcher)
}

fn uids(query: &Query, tag: Tag) -> Option<&[String]> {
    match matcher(query, tag)? {
        Matcher::Uid(uids) => Some(uids),
        _ => None,
    }
}

fn literal(query: &Query, tag: Tag) -> Option<&str> {
    match matcher(query, tag)? {
        Matcher::Text(patterns) => match patterns.as_slice() {
            [only] => only.literal(),
            _ => None,
        },
        _ => None,
    }
}

type SortBounds = (Bound<String>, Bound<String>);

/// Partitions with few studies that include all matches; none if no condition allows that.
fn selective_partitions(tenant: &str, query: &Query) -> Vec<(Secondary, String, SortBounds)> {
    let all = || (Bound::Unbounded, Bound::Unbounded);
    // Studies with several accession numbers or patient IDs are in a separate partition.
    if let Some(number) = literal(query, tags::ACCESSION_NUMBER) {
        let partitions = [keys::accession(tenant, number), keys::mixed_accessions(tenant)];
        return partitions.map(|partition| (Secondary::Fourth, partition, all())).into();
    }
    if let Some(id) = literal(query, tags::PATIENT_ID) {
        let partitions = [keys::patient(tenant, id), keys::mixed_patients(tenant)];
        return partitions.map(|partition| (Secondary::Second, partition, all())).into();
    }
    // If the query also has a date, reading by date is better: it needs no sorting and can stop early.
    let Some(Matcher::Name(name)) = matcher(query, tags::PATIENT_NAME).filter(|_| !has_date(query)) else {
        return Vec::new();
    };
    let [pattern] = name.groups.as_slice() else { return Vec::new() };
    let prefix = keys::name_prefix(pattern.literal_prefix());
    let is_usable = name.words.is_empty() && prefix.len() >= 2 && prefix.is_ascii();
    if !is_usable {
        return Vec::new();
    }
    let from = Bound::Included(prefix.clone());
    let to = Bound::Excluded(format!("{prefix}\u{10FFFF}"));
    vec![
        (Secondary::Third, keys::names(tenant), (from, to)),
        (Secondary::Third, keys::mixed_names(tenant), all()),
    ]
}

fn has_date(query: &Query) -> bool {
    matches!(matcher(query, tags::STUDY_DATE), Some(Matcher::Date(_) | Matcher::DateAndTime { .. }))
}

/// The range of all studies, or of those with a date of the query, the latest first.
fn by_date(tenant: &str, query: &Query) -> Range {
    let (from, to) = match matcher(query, tags::STUDY_DATE) {
        Some(Matcher::Date(span)) | Some(Matcher::DateAndTime { span, .. }) => {
            (span.from.as_deref(), span.to.as_deref())
        }
        _ => (None, None),
    };
    // In the time zone of the query, a date may be a day earlier or later than in the index.
    let margin = i64::from(query.conditions.iter().any(|condition| condition.timezone.is_some()));
    let from = from.and_then(|from| add_days(from.get(..8)?, -margin));
    let to = to.and_then(|to| add_days(to.get(..8)?, margin));
    let useful = match query.order.is_empty() {
        true => query.end_of_page().saturating_add(1),
        false => PAGE_ROWS,
    };
    Range {
        index: Some(Secondary::First),
        partition: keys::studies(tenant),
        from: from.map_or(Bound::Unbounded, Bound::Included),
        to: to.map_or(Bound::Unbounded, |to| Bound::Excluded(to + "~")),
        is_descending: true,
        limit: useful.min(PAGE_ROWS),
    }
}
