//! The candidates of a query: a superset of the studies with matches, in the default order of results, found
//! by the most selective key.

use std::collections::{BTreeSet, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use serde::de::DeserializeOwned;

use crate::dicom::attributes::Tag;
use crate::dicom::tags;
use crate::dicom::uid::StudyUid;
use crate::index::conditions::Conditions;
use crate::index::key_walk::{ArrivalWalk, FoundStudy, KeyWalk, PlaceWalk};
use crate::index::listing::KeyFilter;
use crate::index::order_bounds::{OrderBounds, matcher};
use crate::index::records::{SeriesRecord, StudyRecord};
use crate::index::row_walk::{Candidate, PAGE_ROWS, RowWalk};
use crate::index::rows::InstanceLocation;
use crate::index::search_budget::SearchBudget;
use crate::index::study_lists::CurrentList;
use crate::index::{Error, Index, counts, keys, read, rows};
use crate::query::matching::Matcher;
use crate::query::{Level, Query};
use crate::table::{ItemKey, Range, Secondary, Table};

/// The maximum number of records that are read at a time after a walk by sort keys.
const MAX_BATCH: usize = if cfg!(test) { 20 } else { 100 };
/// The number of candidates that a walk by sort keys collects at least, if the query wants as many.
const MIN_BATCH: usize = if cfg!(test) { 3 } else { 32 };
/// The offset from which matches are skipped by sort keys, and the one from which whole days are.
const MIN_SKIPPED_KEYS: usize = if cfg!(test) { 2 } else { 50 };
const MIN_SKIPPED_DAYS: usize = if cfg!(test) { 4 } else { 1000 };

/// The candidates, in the default order of results.
pub(crate) struct Candidates<'a> {
    table: Arc<dyn Table>,
    tenant: &'a str,
    ready: VecDeque<Candidate>,
    source: CandidateSource,
    /// The number of results up to the end of the page, and one more.
    wanted: usize,
    /// The number of candidates that were read after a walk by sort keys.
    number_read: usize,
    /// The place of the last of them.
    last_read: Option<String>,
}

/// The rest of the candidates.
enum CandidateSource {
    None,
    /// Ranges whose rows are read one after the other.
    Rows(RowWalk),
    /// The list of all studies, walked by its sort keys.
    Keys(Box<KeyWalk>, KeySource),
    /// The studies that arrived in a span of time.
    Arrivals(Box<ArrivalWalk>),
}

/// The source of the sort keys of a walk.
enum KeySource {
    /// The table; beside the list of all studies, the names with the prefix of the query.
    Table(Option<Box<PlaceWalk>>),
    /// The list in memory.
    Memory(Arc<CurrentList>),
}

impl<'a> Candidates<'a> {
    /// Finds the candidates of a query. Reads few rows at once, but for a query that names UIDs.
    pub(crate) async fn choose(
        index: &Index,
        tenant: &'a str,
        query: &Query,
        conditions: &Conditions,
        budget: &mut SearchBudget,
    ) -> Result<Self, Error> {
        let filter = KeyFilter::new(query, conditions);
        let may_skip = filter.is_complete() && query.order.is_empty() && query.offset >= MIN_SKIPPED_KEYS;
        let offset = if may_skip { 0 } else { query.offset };
        let wanted = match query.order.is_empty() {
            true => query.limit.saturating_add(offset).saturating_add(1),
            false => usize::MAX,
        };
        let mut chosen = Self {
            table: index.table.clone(),
            tenant,
            ready: VecDeque::new(),
            source: CandidateSource::None,
            wanted,
            number_read: 0,
            last_read: None,
        };
        let bounds = OrderBounds::of(query);
        if let Some(studies) = chosen.named_studies(query, budget).await? {
            chosen.read_named(studies, &bounds).await?;
            return Ok(chosen);
        }
        let limit = wanted.min(PAGE_ROWS);
        let partitions = selective_partitions(tenant, query);
        if !partitions.is_empty() {
            // The offset is not skipped by sort keys here.
            let limit = wanted.saturating_add(query.offset).min(PAGE_ROWS);
            let ranges =
                partitions.into_iter().map(|(index, partition)| bounds.range(index, partition, limit));
            chosen.source = CandidateSource::Rows(RowWalk::new(ranges));
            return Ok(chosen);
        }
        if let Some(span) = &query.arrived {
            let most = most_places(wanted, budget);
            let arrivals = ArrivalWalk::new(PlaceWalk::of_arrivals(tenant, span, bounds, most));
            chosen.source = CandidateSource::Arrivals(Box::new(arrivals));
            return Ok(chosen);
        }
        let mut walk = KeyWalk::new(bounds.of_list(tenant, limit), filter);
        if may_skip {
            walk.skip = query.offset;
            chosen.skip_days(query, &mut walk, budget).await?;
        }
        chosen.source = chosen.walk_list(index, query, walk, bounds, budget).await;
        Ok(chosen)
    }

    /// The walk through the list of all studies: in memory, or in the table.
    async fn walk_list(
        &self,
        index: &Index,
        query: &Query,
        walk: KeyWalk,
        bounds: OrderBounds,
        budget: &SearchBudget,
    ) -> CandidateSource {
        if walk.reads_every_row() {
            if !index.is_remote() {
                // A search for one of the studies may follow.
                index.begin_study_list(self.tenant);
            }
            return CandidateSource::Rows(RowWalk::after(walk.range, walk.skipped, walk.passed));
        }
        let is_by_date = walk.filter.is_by_date_alone();
        let list = if is_by_date { None } else { index.study_list(self.tenant).await };
        let keys = match (list, name_prefix(query)) {
            (Some(list), _) => KeySource::Memory(list),
            (None, None) => KeySource::Table(None),
            (None, Some(prefix)) => {
                let most = most_places(self.wanted, budget);
                KeySource::Table(Some(Box::new(PlaceWalk::of_names(self.tenant, prefix, bounds, most))))
            }
        };
        CandidateSource::Keys(Box::new(walk), keys)
    }

    /// Skips whole days of an offset, if the query is for all studies or those of some dates, and they are
    /// counted.
    async fn skip_days(
        &self,
        query: &Query,
        walk: &mut KeyWalk,
        budget: &mut SearchBudget,
    ) -> Result<(), Error> {
        let is_by_day = walk.filter.is_by_date_alone() && query.after.is_none();
        if !is_by_day || walk.skip < MIN_SKIPPED_DAYS {
            return Ok(());
        }
        let table = self.table.as_ref();
        if counts::is_counted(table, self.tenant).await? {
            let found = counts::skip_days(table, self.tenant, &walk.range, walk.skip).await?;
            budget.spend_keys(found.rows_read);
            walk.skip_to(found.to, found.skipped);
        }
        Ok(())
    }

    /// The next study. `None` if there is no other, or if the budget is used up.
    pub(crate) async fn next(&mut self, budget: &mut SearchBudget) -> Result<Option<Candidate>, Error> {
        loop {
            if let Some(candidate) = self.ready.pop_front() {
                return Ok(Some(candidate));
            }
            let least = self.wanted.min(MIN_BATCH);
            let batch = self.wanted.saturating_sub(self.number_read).clamp(least, MAX_BATCH);
            match &mut self.source {
                CandidateSource::None => return Ok(None),
                CandidateSource::Arrivals(arrivals) => {
                    let found = arrivals.next(self.table.as_ref(), batch, budget).await?;
                    if found.is_empty() {
                        return Ok(None);
                    }
                    self.number_read += found.len();
                    self.read_found(found).await?;
                }
                CandidateSource::Rows(rows) => {
                    return rows.next(self.table.as_ref(), budget.rows_left()).await;
                }
                CandidateSource::Keys(walk, keys) => {
                    if walk.reads_every_row() {
                        let rest = RowWalk::after(walk.range.clone(), walk.skipped, walk.passed.take());
                        self.source = CandidateSource::Rows(rest);
                        continue;
                    }
                    let table = self.table.as_ref();
                    match keys {
                        KeySource::Memory(list) => walk.add_listed(&list.studies, batch, budget).await,
                        KeySource::Table(names) => {
                            let last = self.last_read.as_deref();
                            walk_keys(table, walk, names, last, batch, budget).await?;
                        }
                    }
                    let found = walk.take(batch);
                    if found.is_empty() && walk.reads_every_row() && !budget.is_exhausted() {
                        continue;
                    }
                    let Some(last) = found.last() else { return Ok(None) };
                    self.number_read += found.len();
                    self.last_read = Some(last.order.clone());
                    self.read_found(found).await?;
                }
            }
        }
    }

    /// The number of matches that were skipped without being read, since the last call.
    pub(crate) fn take_skipped(&mut self) -> usize {
        match &mut self.source {
            CandidateSource::Keys(walk, _) => std::mem::take(&mut walk.skipped),
            CandidateSource::Rows(rows) => std::mem::take(&mut rows.skipped),
            CandidateSource::Arrivals(_) | CandidateSource::None => 0,
        }
    }

    /// The place of the last study that was looked at, after [`Candidates::next`] has returned `None`.
    pub(crate) fn passed(&self) -> Option<&str> {
        match &self.source {
            CandidateSource::Keys(walk, _) => walk.passed.as_deref(),
            CandidateSource::Rows(_) | CandidateSource::Arrivals(_) | CandidateSource::None => None,
        }
    }

    /// Reads the records of studies that were found by their sort keys. A study that has another place by now
    /// is left out.
    async fn read_found(&mut self, found: Vec<FoundStudy>) -> Result<(), Error> {
        let study_key = |found: &FoundStudy| Some(keys::study(self.tenant, &keys::study_of(&found.order)?));
        let (found, study_keys): (Vec<FoundStudy>, Vec<ItemKey>) =
            found.into_iter().filter_map(|found| study_key(&found).map(|key| (found, key))).unzip();
        for (FoundStudy { order, before }, item) in found.into_iter().zip(self.table.get(&study_keys).await?)
        {
            let Some(item) = item else { continue };
            let record: StudyRecord = rows::decode(&item.key, &item.body)?;
            if keys::order(&record) == order {
                self.ready.push_back(Candidate { order, record, before });
            }
        }
        Ok(())
    }

    /// Reads the records of studies that a query names, and puts those within bounds in order.
    async fn read_named(&mut self, studies: BTreeSet<StudyUid>, bounds: &OrderBounds) -> Result<(), Error> {
        let study_keys: Vec<ItemKey> = studies.iter().map(|study| keys::study(self.tenant, study)).collect();
        let mut named = Vec::new();
        for item in self.table.get(&study_keys).await?.into_iter().flatten() {
            let record: StudyRecord = rows::decode(&item.key, &item.body)?;
            named.push(Candidate { order: keys::order(&record), record, before: None });
        }
        named.retain(|candidate| bounds.contain(&candidate.order));
        named.sort_by(|one, other| other.order.cmp(&one.order));
        self.ready = named.into();
        Ok(())
    }

    /// The studies that a query names by their UIDs or by those of series or instances in them; `None` if the
    /// query names no UIDs.
    async fn named_studies(
        &self,
        query: &Query,
        budget: &mut SearchBudget,
    ) -> Result<Option<BTreeSet<StudyUid>>, Error> {
        if let Some(study) = &query.study {
            return Ok(Some(BTreeSet::from([study.clone()])));
        }
        let mut named = BTreeSet::new();
        if let Some(uids) = uids(query, tags::STUDY_INSTANCE_UID) {
            named.extend(uids.iter().filter_map(|uid| uid.parse::<StudyUid>().ok()));
        } else if let Some(uids) =
            uids(query, tags::SOP_INSTANCE_UID).filter(|_| query.level == Level::Instance)
        {
            let instances = uids.iter().filter_map(|uid| uid.parse().ok());
            let locations: Vec<ItemKey> =
                instances.map(|uid| keys::location(self.tenant, &uid)).take(budget.rows_left()).collect();
            budget.spend_rows(locations.len());
            for item in self.table.get(&locations).await?.into_iter().flatten() {
                let location: InstanceLocation = rows::decode(&item.key, &item.body)?;
                named.insert(location.study);
            }
        } else if let Some(uids) =
            uids(query, tags::SERIES_INSTANCE_UID).filter(|_| query.level > Level::Study)
        {
            for uid in uids.iter().filter_map(|uid| uid.parse().ok()) {
                let partition = keys::series_uid(self.tenant, &uid);
                let range = read::whole_partition(Some(Secondary::Second), partition, PAGE_ROWS);
                for record in self.collect::<SeriesRecord>(range, budget).await? {
                    named.insert(record.study);
                }
            }
        } else {
            return Ok(None);
        }
        Ok(Some(named))
    }

    /// Reads the records of a range up to its end, or until the budget is used up.
    async fn collect<R: DeserializeOwned>(
        &self,
        mut range: Range,
        budget: &mut SearchBudget,
    ) -> Result<Vec<R>, Error> {
        let mut records = Vec::new();
        loop {
            let page = self.table.range(&range).await?;
            for (_, item) in &page.items {
                records.push(rows::decode(&item.key, &item.body)?);
            }
            let is_within_budget = budget.spend_rows(page.items.len());
            let last = page.items.into_iter().next_back().map(|(sort, _)| sort);
            let Some(last) = last.filter(|_| page.has_more && is_within_budget) else { return Ok(records) };
            range.from = Bound::Excluded(last);
            budget.yield_to_others().await;
        }
    }
}

/// The maximum number of places that a walk keeps in memory, for a query that wants so many results.
fn most_places(wanted: usize, budget: &SearchBudget) -> usize {
    wanted.saturating_mul(2).clamp(1000, budget.rows_left().max(1000))
}

/// Walks until `batch` candidates are found, or all, or until the budget is used up. The list of all studies
/// and the names with a prefix are walked in turns: of a common prefix, the list soon has enough; of a rare
/// one, the names come to their end.
async fn walk_keys(
    table: &dyn Table,
    walk: &mut KeyWalk,
    names: &mut Option<Box<PlaceWalk>>,
    last_read: Option<&str>,
    batch: usize,
    budget: &mut SearchBudget,
) -> Result<(), Error> {
    while walk.needs_more(batch, budget) && !budget.is_exhausted() {
        budget.yield_to_others().await;
        let Some(names) = names else {
            let page = table.sort_keys(&walk.next_range()).await?;
            walk.add(page, batch, budget).await;
            continue;
        };
        // The place of the last study that was read or skipped.
        let last_skipped = walk.last_skipped.as_deref();
        let last = last_read.into_iter().chain(last_skipped).min().map(str::to_owned);
        if let Some(found) = names.take_found(last.as_deref()) {
            walk.replace(found);
            continue;
        }
        let (of_list, of_names) = (walk.next_range(), names.next_range());
        let pages = futures_util::future::try_join(table.sort_keys(&of_list), table.sort_keys(&of_names));
        let (of_list, of_names) = pages.await?;
        names.add(of_names, budget).await;
        walk.add(of_list, batch, budget).await;
    }
    Ok(())
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

/// Partitions with few studies that include all matches, in the default order of results; none if no
/// condition allows that.
fn selective_partitions(tenant: &str, query: &Query) -> Vec<(Secondary, String)> {
    // Studies with several accession numbers or patient IDs are in a separate partition.
    if let Some(number) = literal(query, tags::ACCESSION_NUMBER) {
        let partitions = [keys::accession(tenant, number), keys::mixed_accessions(tenant)];
        return partitions.map(|partition| (Secondary::Fourth, partition)).into();
    }
    if let Some(id) = literal(query, tags::PATIENT_ID) {
        let partitions = [keys::patient(tenant, id), keys::mixed_patients(tenant)];
        return partitions.map(|partition| (Secondary::Second, partition)).into();
    }
    Vec::new()
}

/// The prefix of all names that a query accepts, as in the keys of names; `None` if there is none.
fn name_prefix(query: &Query) -> Option<String> {
    let Some(Matcher::Name(name)) = matcher(query, tags::PATIENT_NAME) else { return None };
    let [pattern] = name.groups.as_slice() else { return None };
    let prefix = keys::name_prefix(pattern.literal_prefix());
    (name.words.is_empty() && prefix.len() >= 2 && prefix.is_ascii()).then_some(prefix)
}
