//! Reading records: one by its UIDs, those of a scope in pages, all.

use std::collections::VecDeque;
use std::ops::Bound;
use std::sync::Arc;

use futures_util::stream::{self, BoxStream, StreamExt, TryStreamExt};
use serde::de::DeserializeOwned;

use crate::dicom::uid::{InstanceUid, SeriesUid, StudyUid};
use crate::index::records::{SeriesRecord, StudyRecord};
use crate::index::rows::{self, Place};
use crate::index::{Error, Index, keys};
use crate::table::{Item, ItemKey, Range, Secondary, Table};

/// Records in one page.
const PAGE_RECORDS: usize = 200;
/// Bytes of the records in a page, but for its last: an instance may have a hundred rows.
const MAX_PAGE_BYTES: usize = 4 << 20;
/// Times that a record which is replaced while it is read is read again.
const MAX_READS: usize = 16;

impl Index {
    /// In which study and series an instance is stored, and the digest of its bytes. Cheap: one small row.
    pub async fn locate(&self, tenant: &str, instance: &InstanceUid) -> Result<Option<Place>, Error> {
        self.get(keys::place(tenant, instance)).await
    }

    /// A study's record.
    pub async fn study(&self, tenant: &str, study: &StudyUid) -> Result<Option<StudyRecord>, Error> {
        self.get(keys::study(tenant, study)).await
    }

    /// A series' record.
    pub async fn series(
        &self,
        tenant: &str,
        study: &StudyUid,
        series: &SeriesUid,
    ) -> Result<Option<SeriesRecord>, Error> {
        self.get(keys::series(tenant, study, series)).await
    }

    /// An instance's record, or a part of it.
    pub async fn instance<R: DeserializeOwned>(
        &self,
        tenant: &str,
        study: &StudyUid,
        series: &SeriesUid,
        instance: &InstanceUid,
    ) -> Result<Option<R>, Error> {
        let key = keys::instance(tenant, study, series, instance);
        for _ in 0..MAX_READS {
            let found = self.table.get(std::slice::from_ref(&key)).await?.pop().flatten();
            let Some(row) = found else { return Ok(None) };
            if let Some(record) = whole(self.table.as_ref(), row).await? {
                return Ok(Some(record));
            }
        }
        Err(rows::unreadable(&key, "rows that continue it are missing"))
    }

    /// The series of a study, in ascending order of their UIDs as text.
    pub async fn series_of(&self, tenant: &str, study: &StudyUid) -> Result<Vec<SeriesRecord>, Error> {
        series_of(self.table.as_ref(), tenant, study).await
    }

    /// The instances of a study or of one series, in ascending order of series and instance UIDs as text, in pages
    /// of some hundred at the most, none of them empty. Instances that come or go meanwhile may be seen or not.
    ///
    /// `R` is the record or a part of it: fields that it does not name are passed over, which costs little.
    pub fn instances<R: DeserializeOwned + Send + 'static>(
        &self,
        tenant: &str,
        study: &StudyUid,
        series: Option<&SeriesUid>,
    ) -> BoxStream<'static, Result<Vec<R>, Error>> {
        instances(self.table.clone(), tenant.to_owned(), study.clone(), series.cloned())
    }

    /// All tenants that ever stored anything.
    pub async fn tenants(&self) -> Result<Vec<String>, Error> {
        let mut range = whole_partition(None, keys::TENANTS.into(), PAGE_RECORDS);
        let mut tenants = Vec::new();
        loop {
            let page = self.table.range(&range).await?;
            tenants.extend(page.items.into_iter().map(|(sort, _)| sort));
            match tenants.last() {
                Some(last) if page.has_more => range.from = Bound::Excluded(last.clone()),
                _ => return Ok(tenants),
            }
        }
    }

    /// All studies of a tenant, in the order of results from the last to the first, in pages.
    pub fn studies(&self, tenant: &str) -> BoxStream<'static, Result<Vec<StudyRecord>, Error>> {
        let range = whole_partition(Some(Secondary::First), keys::studies(tenant), PAGE_RECORDS);
        pages(self.table.clone(), range).map(|page| decode_all(&page?)).boxed()
    }

    /// Whether a study is among [`Index::studies`] under the key that its record gives it. An engine may let that follow the
    /// record a moment later.
    pub async fn is_listed(&self, tenant: &str, record: &StudyRecord) -> Result<bool, Error> {
        let mut range = whole_partition(Some(Secondary::First), keys::studies(tenant), 1);
        (range.from, range.to) = (Bound::Included(keys::order(record)), Bound::Included(keys::order(record)));
        Ok(!self.table.range(&range).await?.items.is_empty())
    }

    async fn get<R: for<'a> serde::Deserialize<'a>>(&self, key: ItemKey) -> Result<Option<R>, Error> {
        let item = self.table.get(&[key]).await?.pop().flatten();
        item.map(|item| rows::decode(&item.key, &item.body)).transpose()
    }
}

/// The record of an instance's row, or a part of it; `None` if it was replaced or removed after that row was read.
pub(crate) async fn whole<R: DeserializeOwned>(table: &dyn Table, row: Item) -> Result<Option<R>, Error> {
    let key = row.key.clone();
    let bytes = rows::joined(table, row).await?;
    bytes.map(|bytes| rows::decode(&key, &bytes)).transpose()
}

/// A request for all of a partition, ascending.
pub(crate) fn whole_partition(index: Option<Secondary>, partition: String, limit: usize) -> Range {
    let (from, to) = (Bound::Unbounded, Bound::Unbounded);
    Range { index, partition, from, to, is_descending: false, limit }
}

/// The pages of a range, one after the other, none of them empty.
pub(crate) fn pages(
    table: Arc<dyn Table>,
    range: Range,
) -> BoxStream<'static, Result<Vec<(String, Item)>, Error>> {
    let next = move |range: Option<Range>| {
        let table = table.clone();
        async move {
            let Some(mut range) = range else { return Ok(None) };
            let page = table.range(&range).await?;
            let Some((last, _)) = page.items.last() else { return Ok(None) };
            if range.is_descending {
                range.to = Bound::Excluded(last.clone());
            } else {
                range.from = Bound::Excluded(last.clone());
            }
            Ok(Some((page.items, page.has_more.then_some(range))))
        }
    };
    stream::try_unfold(Some(range), next).boxed()
}

fn decode_all<R: for<'a> serde::Deserialize<'a>>(page: &[(String, Item)]) -> Result<Vec<R>, Error> {
    page.iter().map(|(_, item)| rows::decode(&item.key, &item.body)).collect()
}

pub(crate) fn series_range(tenant: &str, study: &StudyUid) -> Range {
    let mut range = whole_partition(None, keys::study_partition(tenant, study), PAGE_RECORDS);
    range.from = Bound::Included(keys::SERIES_PREFIX.into());
    range.to = Bound::Excluded(format!("{}~", keys::SERIES_PREFIX));
    range
}

async fn series_of(table: &dyn Table, tenant: &str, study: &StudyUid) -> Result<Vec<SeriesRecord>, Error> {
    let mut range = series_range(tenant, study);
    let mut records = Vec::new();
    loop {
        let page = table.range(&range).await?;
        records.extend(decode_all::<SeriesRecord>(&page.items)?);
        match page.items.last() {
            Some((last, _)) if page.has_more => range.from = Bound::Excluded(last.clone()),
            _ => return Ok(records),
        }
    }
}

fn instances<R: DeserializeOwned + Send + 'static>(
    table: Arc<dyn Table>,
    tenant: String,
    study: StudyUid,
    series: Option<SeriesUid>,
) -> BoxStream<'static, Result<Vec<R>, Error>> {
    let reader = table.clone();
    let listed = async move {
        let uids: VecDeque<SeriesUid> = match series {
            Some(series) => VecDeque::from([series]),
            None => {
                let records = series_of(table.as_ref(), &tenant, &study).await?;
                records.into_iter().map(|record| record.series).collect()
            }
        };
        let ranges = uids.into_iter().map(move |series| {
            Ok::<_, Error>(whole_partition(
                None,
                keys::instance_partition(&tenant, &study, &series),
                PAGE_RECORDS,
            ))
        });
        Ok::<_, Error>(stream::iter(ranges))
    };
    let table = reader.clone();
    stream::once(listed)
        .try_flatten()
        .map_ok(move |range| pages(table.clone(), range))
        .try_flatten()
        .map_ok(move |page| whole_pages(reader.clone(), page))
        .try_flatten()
        .boxed()
}

/// The records of a page, as many at a time as there is room for.
fn whole_pages<R: DeserializeOwned + Send + 'static>(
    table: Arc<dyn Table>,
    page: Vec<(String, Item)>,
) -> BoxStream<'static, Result<Vec<R>, Error>> {
    let next = move |mut waiting: VecDeque<(String, Item)>| {
        let table = table.clone();
        async move {
            let (mut records, mut bytes) = (Vec::new(), 0);
            while bytes < MAX_PAGE_BYTES
                && let Some((_, row)) = waiting.pop_front()
            {
                let key = row.key.clone();
                let Some(joined) = rows::joined(table.as_ref(), row).await? else { continue };
                bytes += joined.len();
                records.push(rows::decode(&key, &joined)?);
            }
            Ok((!records.is_empty()).then_some((records, waiting)))
        }
    };
    stream::try_unfold(VecDeque::from(page), next).boxed()
}
