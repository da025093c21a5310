//! Searches: finds candidates by the most selective key, in order, and matches them against the query.

use std::ops::Bound;
use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{block_in_place, spawn_blocking};

use crate::dicom::attributes::Attributes;
use crate::dicom::metadata::Metadata;
use crate::dicom::tags;
use crate::dicom::uid::{InstanceUid, SeriesUid, StudyUid};
use crate::index::candidates::Candidates;
use crate::index::conditions::Conditions;
use crate::index::ordered::OrderedMatches;
use crate::index::records::{InstanceRecord, SeriesRecord};
use crate::index::results;
use crate::index::row_walk::Candidate;
use crate::index::search_budget::SearchBudget;
use crate::index::search_metadata::{SearchedRecord, meets, read_metadata, with_others};
use crate::index::search_progress::SearchProgress;
use crate::index::{Error, Index, keys, read, rows};
use crate::query::order;
use crate::query::return_attributes::ReturnAttributes;
use crate::query::temporal::Span;
use crate::query::{Condition, Level, Query, SearchSummary};
use crate::table::{ItemKey, Range, Table};

/// The cost of reading an instance's metadata for matching, in rows, beside the bytes that are parsed.
const METADATA_ROWS: usize = 10;

/// The size of metadata text, or of sorted matches, from which the work on them is long: parsing and matching
/// are done on a blocking thread.
const LONG_WORK_BYTES: u64 = 128 * 1024;

const UNREADABLE: &str = "the metadata of some instances cannot be read";

impl Index {
    /// Searches a tenant's records and passes each result to `sink`. When a search reaches one of the
    /// `limits`, it ends with the results found so far, and the summary has a warning.
    ///
    /// The default order of results is: studies by date, time and UID, descending; within a study, series and
    /// instances by UID, ascending. The attributes that a query orders by come first.
    ///
    /// A search that did not come to its end names the place from which another can go on
    /// ([`SearchSummary::next`]), unless the query orders results. A match that is stored all the time, and
    /// whose study keeps its date and time, is then found once, whatever else is stored or deleted meanwhile.
    ///
    /// Conditions on attributes that are not indexed are matched, for studies and series, against the first
    /// instance of each series.
    pub async fn search(
        &self,
        tenant: &str,
        query: &Query,
        limits: SearchLimits,
        sink: &mut ResultSink<'_>,
    ) -> Result<SearchSummary, Error> {
        let mut search = RunningSearch::new(self, tenant, query, limits, sink);
        let RunningSearch { conditions, budget, .. } = &mut search;
        let mut candidates = Candidates::choose(self, tenant, query, conditions, budget).await?;
        while !search.is_over() {
            search.budget.yield_to_others().await;
            let study = candidates.next(&mut search.budget).await?;
            search.summary.skipped += candidates.take_skipped();
            match study {
                Some(study) => {
                    search.progress.pass_by_key(study.before.as_deref());
                    search.study(study).await?;
                }
                None => {
                    search.progress.pass_by_key(candidates.passed());
                    break;
                }
            }
        }
        search.finish().await
    }
}

/// The limits of one search.
#[derive(Debug, Clone, Copy)]
pub struct SearchLimits {
    /// The maximum number of rows read.
    pub max_rows_read: usize,
    /// The maximum number of matches that are sorted, if the query orders results.
    pub max_ordered: usize,
}

/// A function that takes one result and returns whether it can take another.
pub type ResultSink<'a> = dyn FnMut(Attributes) -> bool + Send + 'a;

/// A search with its progress.
struct RunningSearch<'a> {
    table: Arc<dyn Table>,
    tenant: &'a str,
    query: &'a Query,
    returned: ReturnAttributes,
    conditions: Conditions,
    limits: SearchLimits,
    budget: SearchBudget,
    long_work: Arc<Semaphore>,
    /// The permit for the work on the current match, if that work is long.
    long_permit: Option<OwnedSemaphorePermit>,
    /// Whether the sink can take no more results.
    is_full: bool,
    progress: SearchProgress,
    sink: &'a mut ResultSink<'a>,
    /// The matches to sort, if the query orders results.
    ordered: OrderedMatches,
    summary: SearchSummary,
}

impl<'a> RunningSearch<'a> {
    fn new(
        index: &Index,
        tenant: &'a str,
        query: &'a Query,
        limits: SearchLimits,
        sink: &'a mut ResultSink<'a>,
    ) -> Self {
        let mut conditions = Conditions::new(query);
        let warnings = std::mem::take(&mut conditions.warnings);
        Self {
            table: index.table.clone(),
            tenant,
            query,
            returned: ReturnAttributes::of(query),
            conditions,
            limits,
            budget: SearchBudget::new(limits.max_rows_read),
            long_work: index.long_work.clone(),
            long_permit: None,
            is_full: false,
            progress: SearchProgress::new(query.after.clone()),
            sink,
            ordered: OrderedMatches::default(),
            summary: SearchSummary { warnings, ..SearchSummary::default() },
        }
    }

    /// Whether no more matches are needed or allowed.
    fn is_over(&self) -> bool {
        self.summary.has_more || self.budget.is_exhausted()
    }

    /// Sorts the matches, if the query orders results, and returns the summary.
    async fn finish(mut self) -> Result<SearchSummary, Error> {
        if !self.query.order.is_empty() {
            let is_cut_off = std::mem::take(&mut self.summary.has_more);
            if is_cut_off {
                let count = self.ordered.len();
                let warning = format!("only the first {count} matches by study date were put in order");
                self.summary.warnings.push(warning);
            }
            self.summary.skipped = self.query.offset;
            self.begin_work(self.ordered.bytes() as u64).await;
            let page =
                self.work(|search| std::mem::take(&mut search.ordered).page(search.query, search.sink));
            (self.summary.count, self.summary.has_more) = page?;
        }
        if self.budget.is_exhausted() {
            let max = self.limits.max_rows_read;
            let warning = format!(
                "the search ended after the work of {max} rows of the index; there may be more results"
            );
            self.summary.warnings.push(warning);
        }
        if self.query.order.is_empty() && (self.summary.has_more || self.budget.is_exhausted()) {
            self.summary.next = self.progress.next(self.summary.skipped.saturating_add(self.summary.count));
        }
        Ok(self.summary)
    }

    /// Notes the end of a study, of a series in it, or of an instance.
    fn pass(&mut self, order: &str, series: Option<&SeriesUid>, instance: Option<&InstanceUid>) {
        // The first match after the page is the first of the next.
        if !self.summary.has_more {
            self.progress.pass(!self.budget.is_exhausted(), order, series, instance);
        }
    }

    /// Counts the next row, and yields to other tasks from time to time. Returns false if the search is over.
    async fn begin_row(&mut self) -> bool {
        if self.is_over() || !self.budget.spend_rows(1) {
            return false;
        }
        self.budget.yield_to_others().await;
        true
    }

    /// Counts the cost of reading metadata for matching. Of metadata that are only returned, the bytes are
    /// counted alone, because the limit of the query bounds their number.
    fn spend_on_metadata(&mut self) -> bool {
        self.conditions.metadata.is_empty() || self.budget.spend_rows(METADATA_ROWS)
    }

    /// Waits for a permit if the work on so many bytes is long. The permit of the work before is given back.
    async fn begin_work(&mut self, bytes: u64) {
        self.long_permit = None;
        if bytes > LONG_WORK_BYTES {
            self.long_permit = self.long_work.clone().acquire_owned().await.ok();
        }
    }

    /// Does work after [`Self::begin_work`]. While the work is long, other tasks move to other threads.
    fn work<T>(&mut self, work: impl FnOnce(&mut Self) -> T) -> T {
        let has_threads = Handle::current().runtime_flavor() == RuntimeFlavor::MultiThread;
        if self.long_permit.is_some() && has_threads { block_in_place(|| work(self)) } else { work(self) }
    }

    /// Whether a data set meets conditions, within the budget.
    fn meets(&mut self, conditions: fn(&Conditions) -> &[Condition], attributes: &Attributes) -> bool {
        let mut work = 0;
        let is_met = meets(conditions(&self.conditions), attributes, self.budget.bytes_left(), &mut work);
        self.budget.spend_bytes(work) && is_met
    }

    /// Whether the next match would be returned, or sorted.
    fn is_on_page(&self) -> bool {
        if self.query.order.is_empty() {
            self.summary.skipped >= self.query.offset
                && self.summary.count < self.query.limit
                && !self.is_full
        } else {
            self.ordered.has_room(self.limits.max_ordered)
        }
    }

    /// Processes a match. Its attributes are collected only if the match is on the page.
    fn add_match(&mut self, all: impl FnOnce() -> Attributes) -> Result<(), Error> {
        let added = self.work(|search| search.add(all));
        self.long_permit = None;
        added
    }

    fn add(&mut self, all: impl FnOnce() -> Attributes) -> Result<(), Error> {
        let is_ordered = !self.query.order.is_empty();
        if self.is_on_page() {
            let all = all();
            if is_ordered {
                let sort_key = order::sort_key(&self.query.order, &all);
                return self.ordered.push(sort_key, &self.returned.select(all));
            }
            self.summary.count += 1;
            self.is_full = !(self.sink)(self.returned.select(all));
        } else if !is_ordered && self.summary.skipped < self.query.offset {
            self.summary.skipped += 1;
        } else {
            self.summary.has_more = true;
        }
        Ok(())
    }

    /// Searches one study.
    async fn study(&mut self, study: Candidate) -> Result<(), Error> {
        if self.budget.spend_rows(1) {
            self.search_study(&study).await?;
        }
        self.pass(&study.order, None, None);
        Ok(())
    }

    async fn search_study(&mut self, Candidate { order, record, .. }: &Candidate) -> Result<(), Error> {
        let has_arrived =
            |span: &Span<i64>| record.arrived_at.is_some_and(|at| span.contains(&at.saturating_mul(1000)));
        if !self.query.arrived.as_ref().is_none_or(has_arrived) {
            return Ok(());
        }
        let all = results::of_study(record);
        if !self.meets(|conditions| &conditions.study, &all) {
            return Ok(());
        }
        if self.query.level == Level::Study && !self.needs_metadata() {
            return self.add_match(|| all);
        }
        let mut range = read::series_range(self.tenant, &record.study);
        if let Some(series) = &self.query.series {
            let key = keys::series(self.tenant, &record.study, series).sort;
            (range.from, range.to) = (Bound::Included(key.clone()), Bound::Included(key));
        } else if let Some((series, instance)) = self.progress.resumed(order) {
            let key = keys::series(self.tenant, &record.study, series).sort;
            range.from = if instance.is_some() { Bound::Included(key) } else { Bound::Excluded(key) };
        }
        let mut pages = read::pages(self.table.clone(), self.bounded(range));
        while let Some(page) = pages.next().await {
            for (_, item) in page? {
                let series: SeriesRecord = rows::decode(&item.key, &item.body)?;
                let uid = series.series.clone();
                if !self.begin_row().await {
                    self.pass(order, Some(&uid), None);
                    return Ok(());
                }
                if self.query.level > Level::Study {
                    self.series(order, &all, series).await?;
                } else if let Some(first) = self.first_instance(&record.study, &series.series).await? {
                    return self.add_match(|| with_others(all, first));
                }
                self.pass(order, Some(&uid), None);
            }
        }
        Ok(())
    }

    /// Whether the next match needs attributes that are not indexed, for matching or in the result.
    fn needs_metadata(&self) -> bool {
        !self.conditions.metadata.is_empty() || (self.is_on_page() && self.returned.needs_metadata())
    }

    /// Reads all attributes of the first instance of a series. `None` if the attributes do not match, or if
    /// the limit on rows is reached.
    async fn first_instance(
        &mut self,
        study: &StudyUid,
        series: &SeriesUid,
    ) -> Result<Option<Attributes>, Error> {
        if !self.budget.spend_rows(1) || !self.spend_on_metadata() {
            return Ok(None);
        }
        let partition = keys::instance_partition(self.tenant, study, series);
        let page = self.table.range(&read::whole_partition(None, partition, 1)).await?;
        let Some((_, item)) = page.items.into_iter().next() else { return Ok(None) };
        let key = item.key.clone();
        let record: Option<InstanceRecord> = read::read_record(self.table.as_ref(), item).await?;
        let Some(record) = record else { return Ok(None) };
        self.metadata(key, record.metadata).await
    }

    /// Reads all attributes from an instance's metadata. `None` if the attributes do not match, or if the
    /// budget is used up.
    async fn metadata(&mut self, key: ItemKey, metadata: Metadata) -> Result<Option<Attributes>, Error> {
        let bytes = metadata.text_bytes();
        if !self.budget.spend_bytes(bytes) {
            return Ok(None);
        }
        self.begin_work(bytes).await;
        let (conditions, max_work) = (self.conditions.metadata.clone(), self.budget.bytes_left());
        let read = if self.long_permit.is_some() {
            let reading = spawn_blocking(move || read_metadata(&key, &metadata, &conditions, max_work));
            reading.await.map_err(|_| Error::Interrupted)?
        } else {
            read_metadata(&key, &metadata, &conditions, max_work)
        };
        let is_within_budget = self.budget.spend_bytes(read.work);
        match read.attributes {
            Some(attributes) => Ok((read.is_met && is_within_budget).then_some(attributes)),
            None => {
                if !self.summary.warnings.iter().any(|warning| warning == UNREADABLE) {
                    self.summary.warnings.push(UNREADABLE.to_owned());
                }
                Ok(self.conditions.metadata.is_empty().then(Attributes::new))
            }
        }
    }

    /// Searches one series. `study` holds the attributes of its study.
    async fn series(&mut self, order: &str, study: &Attributes, record: SeriesRecord) -> Result<(), Error> {
        let mut all = results::of_series(&record);
        if let Some(offset) = study.get(&tags::TIMEZONE_OFFSET_FROM_UTC) {
            all.entry(tags::TIMEZONE_OFFSET_FROM_UTC).or_insert_with(|| offset.clone());
        }
        let has_class = |condition: &Condition| {
            condition.tag != tags::SOP_CLASS_UID
                || record.sop_classes.keys().any(|class| condition.matcher.accepts_plain_text(class))
        };
        if !self.conditions.instance.iter().all(has_class)
            || !self.meets(|conditions| &conditions.series, &all)
        {
            return Ok(());
        }
        for (tag, attribute) in study {
            all.entry(*tag).or_insert_with(|| attribute.clone());
        }
        if self.query.level == Level::Series {
            if !self.needs_metadata() {
                return self.add_match(|| all);
            }
            let first = self.first_instance(&record.study, &record.series).await?;
            return first.map_or(Ok(()), |first| self.add_match(|| with_others(all, first)));
        }
        all.retain(|tag, _| {
            self.returned.contains(*tag) || self.query.order.iter().any(|order| order.tag == *tag)
        });
        let partition = keys::instance_partition(self.tenant, &record.study, &record.series);
        let mut range = read::whole_partition(None, partition, 500);
        if let Some((series, Some(instance))) = self.progress.resumed(order)
            && *series == record.series
        {
            let key = keys::instance(self.tenant, &record.study, series, instance);
            range.from = Bound::Excluded(key.sort);
        }
        let mut pages = read::pages(self.table.clone(), self.bounded(range));
        while let Some(page) = pages.next().await {
            let mut bodies = read::record_bodies(self.table.clone(), page?);
            while let Some(bodies) = bodies.try_next().await? {
                for (key, body) in bodies {
                    let uid = keys::instance_of(&key);
                    if self.begin_row().await {
                        self.instance(&all, key, &body?).await?;
                    }
                    self.pass(order, Some(&record.series), uid.as_ref());
                    if self.is_over() {
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }

    /// Matches one instance. `parents` holds the attributes of its study and series.
    async fn instance(&mut self, parents: &Attributes, key: ItemKey, bytes: &[u8]) -> Result<(), Error> {
        let SearchedRecord { mut attributes, transfer_syntax } = rows::decode(&key, bytes)?;
        results::add_computed(&mut attributes, &transfer_syntax);
        if !self.meets(|conditions| &conditions.instance, &attributes) {
            return Ok(());
        }
        if self.needs_metadata() {
            if !self.spend_on_metadata() {
                return Ok(());
            }
            let record: InstanceRecord = rows::decode(&key, bytes)?;
            let Some(metadata) = self.metadata(key, record.metadata).await? else { return Ok(()) };
            attributes = with_others(attributes, metadata);
        }
        self.add_match(|| {
            // The result has the same values that the conditions were matched against.
            attributes.extend(parents.iter().map(|(tag, attribute)| (*tag, attribute.clone())));
            attributes
        })
    }

    /// Limits the page size of a range to the rows that may be read and are useful.
    fn bounded(&self, mut range: Range) -> Range {
        let useful = match self.query.order.is_empty() {
            true => self.query.end_of_page().saturating_add(1),
            false => range.limit,
        };
        range.limit = range.limit.min(useful.max(50)).min(self.budget.rows_left().saturating_add(1)).max(1);
        range
    }
}
