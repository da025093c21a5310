//! Answering a query: candidates from the most selective key, in order; matching has the last word.

use std::ops::Bound;
use std::sync::Arc;

use futures_util::StreamExt;

use crate::dicom::attributes::Attributes;
use crate::dicom::json;
use crate::dicom::uid::{SeriesUid, StudyUid};
use crate::index::candidates;
use crate::index::conditions::Conditions;
use crate::index::ordered::Ordered;
use crate::index::records::{InstanceRecord, SeriesRecord, StudyRecord};
use crate::index::results;
use crate::index::{Error, Index, keys, read, rows};
use crate::query::attributes::{SOP_CLASS_UID, TIMEZONE_OFFSET};
use crate::query::matching::matches;
use crate::query::order;
use crate::query::wanted::Wanted;
use crate::query::{Condition, Found, Level, Query};
use crate::table::{Item, ItemKey, Range, Table};

/// Rows after which other tasks get the thread.
const ROWS_IN_A_ROW: usize = 32;

/// What reading an instance's metadata costs, in rows.
const METADATA_ROWS: usize = 10;

const TOO_DEEP: &str = "sequences of some instances are nested too deeply to be searched";

impl Index {
    /// Answers a query of a tenant, within `limits`: where they are not enough, the answer holds what was found by then
    /// and a warning. Each result is handed to `sink`, and not held.
    ///
    /// Studies come by date and time, the latest first, then by UID, descending; series and instances within a
    /// study by their UIDs, ascending; all of them, before that, by what the query asks for.
    ///
    /// Of what the index does not keep, studies and series are matched by the first instance of each series.
    pub async fn search(
        &self,
        tenant: &str,
        query: &Query,
        limits: Limits,
        sink: &mut Sink<'_>,
    ) -> Result<Found, Error> {
        let max_rows_read = limits.max_rows_read;
        let mut search = Search::new(self.table.clone(), tenant, query, limits, sink);
        let mut candidates = candidates::choose(&self.table, tenant, query, max_rows_read).await?;
        search.rows_left = search.rows_left.saturating_sub(candidates.rows_read());
        while !search.is_over() {
            let_others_run(search.rows_left).await;
            match candidates.next(search.rows_left).await? {
                Some(study) => search.study(study).await?,
                None => break,
            }
        }
        search.is_exhausted |= candidates.is_cut_off();
        search.found()
    }
}

/// What one search may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Rows read.
    pub max_rows_read: usize,
    /// Matches that are put into another order than that of the index.
    pub max_ordered: usize,
}

/// What takes the results, one by one.
pub type Sink<'a> = dyn FnMut(Attributes) + Send + 'a;

/// A search under way.
struct Search<'a> {
    table: Arc<dyn Table>,
    tenant: &'a str,
    query: &'a Query,
    wanted: Wanted,
    conditions: Conditions,
    limits: Limits,
    rows_left: usize,
    is_exhausted: bool,
    skipped: usize,
    sink: &'a mut Sink<'a>,
    /// Matches that wait to be ordered, if the query orders them.
    ordered: Ordered,
    found: Found,
}

/// Gives way now and then: rows come hundreds at a time, and each is matched and written on this thread.
async fn let_others_run(rows_left: usize) {
    if rows_left.is_multiple_of(ROWS_IN_A_ROW) {
        tokio::task::yield_now().await;
    }
}

fn meets(conditions: &[Condition], attributes: &Attributes) -> bool {
    conditions.iter().all(|condition| matches(condition, attributes))
}

impl<'a> Search<'a> {
    fn new(
        table: Arc<dyn Table>,
        tenant: &'a str,
        query: &'a Query,
        limits: Limits,
        sink: &'a mut Sink<'a>,
    ) -> Self {
        let mut conditions = Conditions::new(query);
        let warnings = std::mem::take(&mut conditions.warnings);
        Self {
            table,
            tenant,
            query,
            wanted: Wanted::of(query),
            conditions,
            limits,
            rows_left: limits.max_rows_read,
            is_exhausted: false,
            skipped: 0,
            sink,
            ordered: Ordered::default(),
            found: Found { warnings, ..Found::default() },
        }
    }

    fn is_over(&self) -> bool {
        self.found.has_more || self.is_exhausted
    }

    fn found(mut self) -> Result<Found, Error> {
        if !self.query.order.is_empty() {
            let is_cut_off = std::mem::take(&mut self.found.has_more);
            if is_cut_off {
                let count = self.ordered.len();
                let warning = format!("only the first {count} matches by study date were put in order");
                self.found.warnings.push(warning);
            }
            (self.found.count, self.found.has_more) = self.ordered.page(self.query, self.sink)?;
        }
        if self.is_exhausted {
            let max = self.limits.max_rows_read;
            let warning =
                format!("the search ended after {max} rows of the index; there may be more results");
            self.found.warnings.push(warning);
        }
        Ok(self.found)
    }

    /// Counts `rows` read; whether there were that many left.
    fn spend(&mut self, rows: usize) -> bool {
        self.is_exhausted |= self.rows_left < rows;
        self.rows_left = self.rows_left.saturating_sub(rows);
        !self.is_exhausted
    }

    /// Counts the cost of reading metadata to match by them. To return some of them costs nothing here: there are no
    /// more results than the query's limit.
    fn spend_on_metadata(&mut self) -> bool {
        self.conditions.metadata.is_empty() || self.spend(METADATA_ROWS)
    }

    /// Whether the next match is returned, as far as is known.
    fn is_on_page(&self) -> bool {
        if self.query.order.is_empty() {
            self.skipped >= self.query.offset && self.found.count < self.query.limit
        } else {
            self.ordered.has_room(self.limits.max_ordered)
        }
    }

    /// Takes a match, whose attributes are made only if it is on the page.
    fn take(&mut self, all: impl FnOnce() -> Attributes) -> Result<(), Error> {
        let is_ordered = !self.query.order.is_empty();
        if self.is_on_page() {
            let all = all();
            if is_ordered {
                let place = order::place(&self.query.order, &all);
                return self.ordered.push(place, &self.wanted.pick(all));
            }
            self.found.count += 1;
            (self.sink)(self.wanted.pick(all));
        } else if !is_ordered && self.skipped < self.query.offset {
            self.skipped += 1;
        } else {
            self.found.has_more = true;
        }
        Ok(())
    }

    async fn study(&mut self, record: StudyRecord) -> Result<(), Error> {
        if !self.spend(1) {
            return Ok(());
        }
        let all = results::of_study(&record);
        if !meets(&self.conditions.study, &all) {
            return Ok(());
        }
        if self.query.level == Level::Study && !self.needs_metadata() {
            return self.take(|| all);
        }
        let mut range = read::series_range(self.tenant, &record.study);
        if let Some(series) = &self.query.series {
            let key = keys::series(self.tenant, &record.study, series).sort;
            (range.from, range.to) = (Bound::Included(key.clone()), Bound::Included(key));
        }
        let mut pages = read::pages(self.table.clone(), self.bounded(range));
        while let Some(page) = pages.next().await {
            for (_, item) in page? {
                if self.is_over() || !self.spend(1) {
                    return Ok(());
                }
                let_others_run(self.rows_left).await;
                let series: SeriesRecord = rows::decode(&item.key, &item.body)?;
                if self.query.level > Level::Study {
                    self.series(&all, series).await?;
                } else if let Some(first) = self.first_instance(&record.study, &series.series).await? {
                    return self.take(|| with_others(all, first));
                }
            }
        }
        Ok(())
    }

    /// Whether attributes that the index does not keep are matched, or returned with the next match.
    fn needs_metadata(&self) -> bool {
        !self.conditions.metadata.is_empty() || (self.is_on_page() && self.wanted.needs_metadata())
    }

    /// What the index does not keep, from the first instance of a series; `None` if it does not match, or there are no
    /// rows left for it.
    async fn first_instance(
        &mut self,
        study: &StudyUid,
        series: &SeriesUid,
    ) -> Result<Option<Attributes>, Error> {
        if !self.spend(1) || !self.spend_on_metadata() {
            return Ok(None);
        }
        let partition = keys::instance_partition(self.tenant, study, series);
        let page = self.table.range(&read::whole_partition(None, partition, 1)).await?;
        let Some((_, item)) = page.items.into_iter().next() else { return Ok(None) };
        let key = item.key.clone();
        let record = read::whole(self.table.as_ref(), item).await?;
        Ok(record.map(|record| self.metadata(&key, &record)).transpose()?.flatten())
    }

    /// All attributes of an instance; `None` if they do not match.
    fn metadata(&mut self, key: &ItemKey, record: &InstanceRecord) -> Result<Option<Attributes>, Error> {
        let Some(metadata) = read_metadata(key, record)? else {
            if !self.found.warnings.iter().any(|told| told == TOO_DEEP) {
                self.found.warnings.push(TOO_DEEP.to_owned());
            }
            return Ok(self.conditions.metadata.is_empty().then(Attributes::new));
        };
        Ok(meets(&self.conditions.metadata, &metadata).then_some(metadata))
    }

    async fn series(&mut self, study: &Attributes, record: SeriesRecord) -> Result<(), Error> {
        let mut all = results::of_series(&record);
        if let Some(offset) = study.get(&TIMEZONE_OFFSET) {
            all.entry(TIMEZONE_OFFSET).or_insert_with(|| offset.clone());
        }
        let has_class = |condition: &Condition| {
            condition.path != [SOP_CLASS_UID]
                || record.sop_classes.keys().any(|class| condition.matcher.accepts_plain(class))
        };
        if !meets(&self.conditions.series, &all) || !self.conditions.instance.iter().all(has_class) {
            return Ok(());
        }
        for (tag, attribute) in study {
            all.entry(*tag).or_insert_with(|| attribute.clone());
        }
        if self.query.level == Level::Series {
            if !self.needs_metadata() {
                return self.take(|| all);
            }
            let first = self.first_instance(&record.study, &record.series).await?;
            return first.map_or(Ok(()), |first| self.take(|| with_others(all, first)));
        }
        all.retain(|tag, _| self.wanted.wants(*tag) || self.query.order.iter().any(|key| key.tag == *tag));
        let partition = keys::instance_partition(self.tenant, &record.study, &record.series);
        let range = read::whole_partition(None, partition, 500);
        let mut pages = read::pages(self.table.clone(), self.bounded(range));
        while let Some(page) = pages.next().await {
            for (_, item) in page? {
                if self.is_over() || !self.spend(1) {
                    return Ok(());
                }
                let_others_run(self.rows_left).await;
                self.instance(&all, item).await?;
            }
        }
        Ok(())
    }

    async fn instance(&mut self, parents: &Attributes, item: Item) -> Result<(), Error> {
        let key = item.key.clone();
        let Some(bytes) = rows::joined(self.table.as_ref(), item).await? else { return Ok(()) };
        let Known { mut attributes, transfer_syntax } = rows::decode(&key, &bytes)?;
        results::add_computed(&mut attributes, &transfer_syntax);
        if !meets(&self.conditions.instance, &attributes) {
            return Ok(());
        }
        if self.needs_metadata() {
            if !self.spend_on_metadata() {
                return Ok(());
            }
            let record: InstanceRecord = rows::decode(&key, &bytes)?;
            let Some(metadata) = self.metadata(&key, &record)? else { return Ok(()) };
            attributes = with_others(attributes, metadata);
        }
        self.take(|| {
            // What the conditions were matched against is what is returned.
            attributes.extend(parents.iter().map(|(tag, attribute)| (*tag, attribute.clone())));
            attributes
        })
    }

    /// A range that reads no more in a page than may be read and can be of use.
    fn bounded(&self, mut range: Range) -> Range {
        let useful = match self.query.order.is_empty() {
            true => self.query.offset.saturating_add(self.query.limit).saturating_add(1),
            false => range.limit,
        };
        range.limit = range.limit.min(useful.max(50)).min(self.rows_left.saturating_add(1)).max(1);
        range
    }
}

/// Attributes with those that only others have.
fn with_others(mut attributes: Attributes, others: Attributes) -> Attributes {
    for (tag, attribute) in others {
        attributes.entry(tag).or_insert(attribute);
    }
    attributes
}

/// What a search reads of an instance's record; the rest is passed over.
#[derive(serde::Deserialize)]
struct Known {
    attributes: Attributes,
    transfer_syntax: String,
}

/// All attributes of an instance, without bulk values; `None` if they are nested too deeply to be read.
fn read_metadata(key: &ItemKey, record: &InstanceRecord) -> Result<Option<Attributes>, Error> {
    let damaged = |source: Box<dyn std::error::Error + Send + Sync>| Error::Record {
        what: format!("{} {}", key.partition, key.sort),
        source,
    };
    let mut text = Vec::new();
    record.metadata.write_text("", &mut text).map_err(|source| damaged(source.into()))?;
    // Inflated to the bytes that were written, it is JSON: what the reader can stumble over is the nesting.
    Ok(json::read(&text).ok())
}
