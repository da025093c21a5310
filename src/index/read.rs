//! Reads of records: one by its UIDs, or pages of those of a tenant, study or series.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use futures_util::stream::{self, BoxStream, StreamExt, TryStreamExt};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::dicom::uid::{InstanceUid, SeriesUid, StudyUid};
use crate::index::records::{SeriesRecord, StudyRecord};
use crate::index::rows::{self, InstanceLocation};
use crate::index::{Error, Index, keys, listing};
use crate::table::{Item, ItemKey, Range, Secondary, Table};

/// The maximum number of records in a page.
const PAGE_RECORDS: usize = 200;
/// The bytes of records after which a page ends; one record may have a hundred rows.
const MAX_PAGE_BYTES: usize = 4 << 20;
/// The maximum number of reads of a record that is replaced during each of them.
const MAX_READS: usize = 16;

impl Index {
    /// The location of an instance and the digest of its bytes. Reads one small row.
    pub async fn locate(
        &self,
        tenant: &str,
        instance: &InstanceUid,
    ) -> Result<Option<InstanceLocation>, Error> {
        self.get(keys::location(tenant, instance)).await
    }

    /// The record of a study.
    pub async fn study(&self, tenant: &str, study: &StudyUid) -> Result<Option<StudyRecord>, Error> {
        self.get(keys::study(tenant, study)).await
    }

    /// The record of a series.
    pub async fn series(
        &self,
        tenant: &str,
        study: &StudyUid,
        series: &SeriesUid,
    ) -> Result<Option<SeriesRecord>, Error> {
        self.get(keys::series(tenant, study, series)).await
    }

    /// The record of an instance, or a part of it: fields that `R` does not have are ignored.
    pub async fn instance<R: DeserializeOwned>(
        &self,
        tenant: &str,
        study: &StudyUid,
        series: &SeriesUid,
        instance: &InstanceUid,
    ) -> Result<Option<R>, Error> {
        let key = keys::instance(tenant, study, series, instance);
        for _ in 0..MAX_READS {
            if self.table.is_remote() {
                match self.separate_record(tenant, study, series, instance).await? {
                    SeparateRead::Found(bytes) => return Ok(Some(rows::decode(&key, &bytes)?)),
                    SeparateRead::NoInstance => return Ok(None),
                    SeparateRead::Changed => continue,
                    SeparateRead::InOwnRow => {}
                }
            }
            let found = self.table.get(std::slice::from_ref(&key)).await?.pop().flatten();
            let Some(row) = found else { return Ok(None) };
            if let Some(record) = read_record(self.table.as_ref(), row).await? {
                return Ok(Some(record));
            }
        }
        Err(rows::record_error(&key, "rows of the record are missing"))
    }

    /// Reads a separate record with the location, which is in the same partition: one request instead of two,
    /// one after the other.
    async fn separate_record(
        &self,
        tenant: &str,
        study: &StudyUid,
        series: &SeriesUid,
        instance: &InstanceUid,
    ) -> Result<SeparateRead, Error> {
        let location = keys::location(tenant, instance);
        let range = whole_partition(None, location.partition.clone(), PAGE_RECORDS);
        let mut found = BTreeMap::new();
        let mut pages = pages(self.table.clone(), range);
        while let Some(page) = pages.try_next().await? {
            found.extend(page.into_iter().map(|(sort, item)| (sort, item.body)));
        }
        let Some(body) = found.get(&location.sort) else { return Ok(SeparateRead::NoInstance) };
        let InstanceLocation { study: of_study, series: of_series, object, parts, .. } =
            rows::decode(&location, body)?;
        if of_study != *study || of_series != *series {
            return Ok(SeparateRead::NoInstance);
        }
        if parts == 0 {
            return Ok(SeparateRead::InOwnRow);
        }
        let mut bytes = Vec::new();
        for number in 1..=parts {
            let Some(part) = found.remove(&keys::record_part_sort(&object, number)) else {
                return Ok(SeparateRead::Changed);
            };
            bytes.extend(part);
        }
        Ok(SeparateRead::Found(bytes))
    }

    /// The records of a study's series, in ascending order of their UIDs as text.
    pub async fn series_of(&self, tenant: &str, study: &StudyUid) -> Result<Vec<SeriesRecord>, Error> {
        series_of(self.table.as_ref(), tenant, study).await
    }

    /// The records of the instances of a study or series, in ascending order of series and instance UIDs as
    /// text. The pages have a few hundred records at most, and none is empty. Instances that are stored or
    /// removed during the read may be seen or not.
    ///
    /// `R` is the record or a part of it: fields that `R` does not have are ignored at little cost.
    pub fn instances<R: DeserializeOwned + Send + 'static>(
        &self,
        tenant: &str,
        study: &StudyUid,
        series: Option<&SeriesUid>,
    ) -> BoxStream<'static, Result<Vec<R>, Error>> {
        instances(self.table.clone(), tenant.to_owned(), study.clone(), series.cloned())
    }

    /// The names of all tenants that ever stored an instance.
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

    /// The records of all studies of a tenant in pages, in the reverse of the default order of results.
    pub fn studies(&self, tenant: &str) -> BoxStream<'static, Result<Vec<StudyRecord>, Error>> {
        let range = whole_partition(Some(Secondary::First), keys::studies(tenant), PAGE_RECORDS);
        pages(self.table.clone(), range).map(|page| decode_all(&page?)).boxed()
    }

    /// As [`Index::studies`], with an error in the place of each row that cannot be read.
    pub fn readable_studies(&self, tenant: &str) -> BoxStream<'static, Result<Readable<StudyRecord>, Error>> {
        let range = whole_partition(Some(Secondary::First), keys::studies(tenant), PAGE_RECORDS);
        pages(self.table.clone(), range).map_ok(|page| decode_each(&page)).boxed()
    }

    /// As [`Index::series_of`], with an error in the place of each row that cannot be read.
    pub async fn readable_series(
        &self,
        tenant: &str,
        study: &StudyUid,
    ) -> Result<Readable<SeriesRecord>, Error> {
        let pages = pages(self.table.clone(), series_range(tenant, study));
        pages.map_ok(|page| stream::iter(decode_each(&page)).map(Ok)).try_flatten().try_collect().await
    }

    /// The records of the instances of a series in pages, with an error in the place of each row that cannot
    /// be read.
    pub fn readable_instances<R: DeserializeOwned + Send + 'static>(
        &self,
        tenant: &str,
        study: &StudyUid,
        series: &SeriesUid,
    ) -> BoxStream<'static, Result<Readable<R>, Error>> {
        let partition = keys::instance_partition(tenant, study, series);
        let table = self.table.clone();
        pages(table.clone(), whole_partition(None, partition, PAGE_RECORDS))
            .map_ok(move |page| readable_pages(table.clone(), page, decode_in_its_row))
            .try_flatten()
            .boxed()
    }

    /// Whether [`Index::studies`] returns a study under the key that follows from its record. The secondary
    /// indexes of some tables are updated a moment after the record.
    pub async fn is_listed(&self, tenant: &str, record: &StudyRecord) -> Result<bool, Error> {
        let mut range = whole_partition(Some(Secondary::First), keys::studies(tenant), 1);
        let order = keys::order(record);
        (range.to, range.from) = (Bound::Excluded(listing::end_of(&order)), Bound::Included(order));
        Ok(!self.table.range(&range).await?.items.is_empty())
    }

    /// Reads the record in a row.
    pub(in crate::index) async fn get<R: for<'a> serde::Deserialize<'a>>(
        &self,
        key: ItemKey,
    ) -> Result<Option<R>, Error> {
        let item = self.table.get(&[key]).await?.pop().flatten();
        item.map(|item| rows::decode(&item.key, &item.body)).transpose()
    }
}

/// The outcome of a read of a separate record.
enum SeparateRead {
    Found(Vec<u8>),
    /// There is no such instance.
    NoInstance,
    /// The record is not separate.
    InOwnRow,
    /// The record was replaced or removed during the read.
    Changed,
}

/// Reads the record of an instance from its row and the other rows of the record. `None` if the record was
/// replaced or removed after the row was read.
pub(crate) async fn read_record<R: DeserializeOwned>(
    table: &dyn Table,
    row: Item,
) -> Result<Option<R>, Error> {
    let key = row.key.clone();
    let bytes = rows::read_bytes(table, row).await?;
    bytes.map(|bytes| rows::decode(&key, &bytes)).transpose()
}

/// A range over a whole partition, ascending.
pub(crate) fn whole_partition(index: Option<Secondary>, partition: String, limit: usize) -> Range {
    let (from, to) = (Bound::Unbounded, Bound::Unbounded);
    Range { index, partition, from, to, is_descending: false, limit }
}

/// Reads the pages of a range one after the other. No page is empty.
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

/// The records of rows, or the error of each row that cannot be read.
pub type Readable<R> = Vec<Result<R, Error>>;

fn decode_each<R: for<'a> serde::Deserialize<'a>>(page: &[(String, Item)]) -> Readable<R> {
    page.iter().map(|(_, item)| rows::decode(&item.key, &item.body)).collect()
}

fn decode_all<R: for<'a> serde::Deserialize<'a>>(page: &[(String, Item)]) -> Result<Vec<R>, Error> {
    page.iter().map(|(_, item)| rows::decode(&item.key, &item.body)).collect()
}

/// The range of the rows of a study's series.
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
    let ranges = async move {
        let uids: VecDeque<SeriesUid> = match series {
            Some(series) => VecDeque::from([series]),
            None => {
                let records = series_of(table.as_ref(), &tenant, &study).await?;
                records.into_iter().map(|record| record.series).collect()
            }
        };
        let of_series = uids.into_iter().map(move |series| {
            Ok::<_, Error>(whole_partition(
                None,
                keys::instance_partition(&tenant, &study, &series),
                PAGE_RECORDS,
            ))
        });
        Ok::<_, Error>(stream::iter(of_series))
    };
    let table = reader.clone();
    stream::once(ranges)
        .try_flatten()
        .map_ok(move |range| pages(table.clone(), range))
        .try_flatten()
        .map_ok(move |page| record_pages(reader.clone(), page))
        .try_flatten()
        .boxed()
}

/// Reads the records of a page of rows, in one or more pages of bounded size.
fn record_pages<R: DeserializeOwned + Send + 'static>(
    table: Arc<dyn Table>,
    page: Vec<(String, Item)>,
) -> BoxStream<'static, Result<Vec<R>, Error>> {
    readable_pages(table, page, decode_row).map(|page| page?.into_iter().collect()).boxed()
}

/// As [`record_pages`], with an error in the place of each row that cannot be read.
fn readable_pages<R: DeserializeOwned + Send + 'static>(
    table: Arc<dyn Table>,
    page: Vec<(String, Item)>,
    decode: fn(&ItemKey, &[u8]) -> Result<R, Error>,
) -> BoxStream<'static, Result<Readable<R>, Error>> {
    let decode_all =
        move |bodies: EncodedRecords| bodies.into_iter().map(|(key, body)| decode(&key, &body?)).collect();
    record_bodies(table, page).map_ok(decode_all).boxed()
}

/// Decodes the record of an instance, in whatever row it is.
fn decode_row<R: DeserializeOwned>(key: &ItemKey, body: &[u8]) -> Result<R, Error> {
    rows::decode(key, body)
}

/// Decodes the record of an instance, which must be in the row of that instance: after damage of its key, a
/// row is listed and cannot be found by the UID.
fn decode_in_its_row<R: DeserializeOwned>(key: &ItemKey, body: &[u8]) -> Result<R, Error> {
    #[derive(Deserialize)]
    struct Named {
        instance: InstanceUid,
    }
    let Named { instance } = rows::decode(key, body)?;
    if keys::instance_of(key).as_ref() != Some(&instance) {
        return Err(rows::record_error(key, format!("it is the record of instance {instance}")));
    }
    rows::decode(key, body)
}

/// Encoded records, or the error of each row that cannot be read, with the keys of their instances' rows.
pub(crate) type EncodedRecords = Vec<(ItemKey, Result<Vec<u8>, Error>)>;

/// Reads the encoded records of a page of instances' rows, with the keys of these rows, in one or more pages
/// of bounded size, none of which is empty. The error of a row that cannot be read is in the place of its
/// record.
pub(crate) fn record_bodies(
    table: Arc<dyn Table>,
    page: Vec<(String, Item)>,
) -> BoxStream<'static, Result<EncodedRecords, Error>> {
    let next = move |mut waiting: VecDeque<(String, Item)>| {
        let table = table.clone();
        async move {
            let mut bodies = Vec::new();
            while bodies.is_empty() && !waiting.is_empty() {
                let (mut items, mut bytes) = (Vec::new(), 0);
                while bytes < MAX_PAGE_BYTES
                    && let Some((_, item)) = waiting.pop_front()
                {
                    bytes += rows::record_bytes(&item);
                    items.push(item);
                }
                let keys: Vec<ItemKey> = items.iter().map(|item| item.key.clone()).collect();
                let read = rows::read_all(table.as_ref(), items).await?;
                // A record that was replaced or removed meanwhile is left out.
                let read = keys.into_iter().zip(read);
                bodies.extend(read.filter_map(|(key, body)| Some((key, body.transpose()?))));
            }
            Ok((!bodies.is_empty()).then_some((bodies, waiting)))
        }
    };
    stream::try_unfold(VecDeque::from(page), next).boxed()
}
