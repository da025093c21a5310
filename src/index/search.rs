//! Answering a query: candidates from the most selective key, in order; matching has the last word.

use std::ops::Bound;
use std::sync::Arc;

use futures_util::StreamExt;

use crate::dicom::attributes::{Attributes, Tag};
use crate::dicom::json;
use crate::index::candidates;
use crate::index::records::{InstanceRecord, SeriesRecord, StudyRecord};
use crate::index::results;
use crate::index::{Error, Index, keys, read, rows};
use crate::query::attributes::{self, MODALITIES_IN_STUDY, MODALITY, SOP_CLASS_UID, SOP_CLASSES_IN_STUDY};
use crate::query::matching::{Matcher, matches};
use crate::query::wanted::Wanted;
use crate::query::{Condition, Found, Level, Query};
use crate::table::{Item, ItemKey, Range, Table};

/// What reading an instance's metadata costs, in rows.
const METADATA_ROWS: usize = 10;

const TOO_DEEP: &str = "sequences of some instances are nested too deeply to be searched";

impl Index {
    /// Answers a query of a tenant, reading at most `max_rows_read` rows: where they are not enough, the answer
    /// holds what was found by then and a warning. Each result is handed to `sink`, and not held.
    ///
    /// Studies come by date and time, the latest first, then by UID, descending; series and instances within a
    /// study by their UIDs, ascending.
    pub async fn search(
        &self,
        tenant: &str,
        query: &Query,
        max_rows_read: usize,
        sink: &mut Sink<'_>,
    ) -> Result<Found, Error> {
        let mut search = Search::new(self.table.clone(), tenant, query, max_rows_read, sink);
        let mut candidates = candidates::choose(&self.table, tenant, query, max_rows_read).await?;
        search.rows_left = search.rows_left.saturating_sub(candidates.rows_read());
        while !search.is_over() {
            match candidates.next(search.rows_left).await? {
                Some(study) => search.study(study).await?,
                None => break,
            }
        }
        search.is_exhausted |= candidates.is_cut_off();
        Ok(search.found(max_rows_read))
    }
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
    rows_left: usize,
    is_exhausted: bool,
    skipped: usize,
    sink: &'a mut Sink<'a>,
    found: Found,
}

/// The conditions by the level whose record tells.
#[derive(Default)]
struct Conditions {
    study: Vec<Condition>,
    series: Vec<Condition>,
    instance: Vec<Condition>,
    metadata: Vec<Condition>,
    warnings: Vec<String>,
}

impl Conditions {
    fn new(query: &Query) -> Self {
        let mut sorted = Self::default();
        for condition in query.conditions.iter().filter(|condition| condition.matcher != Matcher::Universal) {
            let mut condition = condition.clone();
            let Some(tag) = condition.path.first().copied() else { continue };
            // Asked of a study, what is in it is meant; viewers write it so.
            if query.level == Level::Study && condition.path.len() == 1 {
                if tag == MODALITY {
                    condition.path = vec![MODALITIES_IN_STUDY];
                } else if tag == SOP_CLASS_UID {
                    condition.path = vec![SOP_CLASSES_IN_STUDY];
                }
            }
            let level =
                condition.path.first().and_then(|tag| attributes::entry(*tag)).map(|entry| entry.level);
            match level {
                Some(_) if query.level == Level::Series && condition.path == [SOP_CLASS_UID] => {
                    sorted.instance.push(condition);
                }
                Some(level) if level > query.level => sorted.ignore(tag),
                Some(Level::Study) => sorted.study.push(condition),
                Some(Level::Series) => sorted.series.push(condition),
                Some(Level::Instance) => sorted.instance.push(condition),
                None if query.level == Level::Instance => sorted.metadata.push(condition),
                None => sorted.ignore(tag),
            }
        }
        sorted
    }

    fn ignore(&mut self, tag: Tag) {
        self.warnings.push(format!("{tag} is not matched at this level; it was ignored"));
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
        rows_left: usize,
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
            rows_left,
            is_exhausted: false,
            skipped: 0,
            sink,
            found: Found { warnings, ..Found::default() },
        }
    }

    fn is_over(&self) -> bool {
        self.found.has_more || self.is_exhausted
    }

    fn found(mut self, max_rows_read: usize) -> Found {
        if self.is_exhausted {
            let warning = format!(
                "the search ended after {max_rows_read} rows of the index; there may be more results"
            );
            self.found.warnings.push(warning);
        }
        self.found
    }

    /// Counts `rows` read; whether there were that many left.
    fn spend(&mut self, rows: usize) -> bool {
        self.is_exhausted |= self.rows_left < rows;
        self.rows_left = self.rows_left.saturating_sub(rows);
        !self.is_exhausted
    }

    /// Takes a match, whose attributes are made only if it is on the page.
    fn take(&mut self, all: impl FnOnce() -> Attributes) {
        if self.skipped < self.query.offset {
            self.skipped += 1;
        } else if self.found.count < self.query.limit {
            self.found.count += 1;
            (self.sink)(self.wanted.pick(all()));
        } else {
            self.found.has_more = true;
        }
    }

    async fn study(&mut self, record: StudyRecord) -> Result<(), Error> {
        if !self.spend(1) {
            return Ok(());
        }
        let all = results::of_study(&record);
        if !meets(&self.conditions.study, &all) {
            return Ok(());
        }
        if self.query.level == Level::Study {
            self.take(|| all);
            return Ok(());
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
                self.series(&all, rows::decode(&item.key, &item.body)?).await?;
            }
        }
        Ok(())
    }

    async fn series(&mut self, study: &Attributes, record: SeriesRecord) -> Result<(), Error> {
        let mut all = results::of_series(&record);
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
            self.take(|| all);
            return Ok(());
        }
        all.retain(|tag, _| self.wanted.wants(*tag));
        let partition = keys::instance_partition(self.tenant, &record.study, &record.series);
        let range = read::whole_partition(None, partition, 500);
        let mut pages = read::pages(self.table.clone(), self.bounded(range));
        while let Some(page) = pages.next().await {
            for (_, item) in page? {
                if self.is_over() || !self.spend(1) {
                    return Ok(());
                }
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
        let is_on_page = self.skipped >= self.query.offset && self.found.count < self.query.limit;
        let wants_metadata = self.wanted.is_all() || self.wanted.not_indexed().next().is_some();
        if !self.conditions.metadata.is_empty() || (is_on_page && wants_metadata) {
            if !self.spend(METADATA_ROWS) {
                return Ok(());
            }
            let record: InstanceRecord = rows::decode(&key, &bytes)?;
            let metadata = metadata(&key, &record)?.unwrap_or_else(|| self.pass_over_metadata());
            if !meets(&self.conditions.metadata, &metadata) {
                return Ok(());
            }
            for (tag, attribute) in metadata {
                attributes.entry(tag).or_insert(attribute);
            }
        }
        self.take(|| {
            // What the conditions were matched against is what is returned.
            attributes.extend(parents.iter().map(|(tag, attribute)| (*tag, attribute.clone())));
            attributes
        });
        Ok(())
    }

    /// No attributes in the place of metadata that is nested too deeply, which is told once.
    fn pass_over_metadata(&mut self) -> Attributes {
        if !self.found.warnings.iter().any(|told| told == TOO_DEEP) {
            self.found.warnings.push(TOO_DEEP.to_owned());
        }
        Attributes::new()
    }

    /// A range that reads no more in a page than may be read and can be of use.
    fn bounded(&self, mut range: Range) -> Range {
        let useful = self.query.offset.saturating_add(self.query.limit).saturating_add(1);
        range.limit = range.limit.min(useful.max(50)).min(self.rows_left.saturating_add(1)).max(1);
        range
    }
}

/// What a search reads of an instance's record; the rest is passed over.
#[derive(serde::Deserialize)]
struct Known {
    attributes: Attributes,
    transfer_syntax: String,
}

/// All attributes of an instance, without bulk values; `None` if they are nested too deeply to be read.
fn metadata(key: &ItemKey, record: &InstanceRecord) -> Result<Option<Attributes>, Error> {
    let damaged = |source: Box<dyn std::error::Error + Send + Sync>| Error::Record {
        what: format!("{} {}", key.partition, key.sort),
        source,
    };
    let mut text = Vec::new();
    record.metadata.write_text("", &mut text).map_err(|source| damaged(source.into()))?;
    // Inflated to the bytes that were written, it is JSON: what the reader can stumble over is the nesting.
    Ok(json::read(&text).ok())
}
