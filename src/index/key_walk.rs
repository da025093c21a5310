//! Walks through studies by sort keys alone: through the list of all studies in the default order of results,
//! and through the names with a prefix or the arrivals of some time.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::ops::Bound;

use crate::index::listing::{self, KeyFilter, KeyVerdict};
use crate::index::order_bounds::OrderBounds;
use crate::index::read::whole_partition;
use crate::index::search_budget::SearchBudget;
use crate::index::study_list::{ListedStudy, StudyList, Visit};
use crate::index::{Error, keys};
use crate::query::matching::NameForms;
use crate::query::temporal::Span;
use crate::table::{Range, Secondary, SortKeys, Table};

/// The number of sort keys that are read at first, and at most, at a time. The number doubles with each page.
const FIRST_KEYS: usize = if cfg!(test) { 4 } else { 256 };
const MAX_KEYS: usize = if cfg!(test) { 64 } else { 4096 };
/// The number of studies of a list in memory that are looked at between two chances for other tasks.
const LISTED_AT_A_TIME: usize = if cfg!(test) { 7 } else { 1024 };

/// A candidate that was found by its sort key.
#[derive(Debug)]
pub(crate) struct FoundStudy {
    /// The place of the study.
    pub(crate) order: String,
    /// The place of the study before in the walk.
    pub(crate) before: Option<String>,
}

/// A walk through the list of all studies.
pub(crate) struct KeyWalk {
    /// The rest of the list.
    pub(crate) range: Range,
    pub(crate) filter: KeyFilter,
    /// The number of matches that are still to be skipped.
    pub(crate) skip: usize,
    /// The number of matches that were skipped.
    pub(crate) skipped: usize,
    /// The place of the last match that was skipped.
    pub(crate) last_skipped: Option<String>,
    /// The place of the last study that was looked at.
    pub(crate) passed: Option<String>,
    /// The candidates that were found.
    found: VecDeque<FoundStudy>,
    is_at_end: bool,
    page_keys: usize,
}

impl KeyWalk {
    /// A walk through a range of the list of studies.
    pub(crate) fn new(range: Range, filter: KeyFilter) -> Self {
        Self {
            range,
            filter,
            skip: 0,
            skipped: 0,
            last_skipped: None,
            passed: None,
            found: VecDeque::new(),
            is_at_end: false,
            page_keys: FIRST_KEYS,
        }
    }

    /// Whether every study that is left must be read, because the filter decides nothing and nothing is left
    /// to be skipped.
    pub(crate) fn reads_every_row(&self) -> bool {
        self.skip == 0 && self.filter.is_by_date_alone() && self.found.is_empty() && !self.is_at_end
    }

    /// Goes on at a bound, after that many matches.
    pub(crate) fn skip_to(&mut self, to: Bound<String>, skipped: usize) {
        if let Bound::Excluded(place) = &to {
            self.passed = Some(place.clone()).filter(|_| skipped > 0);
        }
        self.range.to = to;
        self.skipped += skipped;
        self.skip = self.skip.saturating_sub(skipped);
    }

    /// Whether fewer than `batch` candidates were found and there may be more. With half of the budget, any
    /// candidate is enough, because budget must be left to read it.
    pub(crate) fn needs_more(&self, batch: usize, budget: &SearchBudget) -> bool {
        let enough = if budget.is_half_spent() { 1 } else { batch };
        self.found.len() < enough && !self.is_at_end && !self.reads_every_row()
    }

    /// Takes the next candidates.
    pub(crate) fn take(&mut self, batch: usize) -> Vec<FoundStudy> {
        let number = batch.min(self.found.len());
        self.found.drain(..number).collect()
    }

    /// The range of the next sort keys.
    pub(crate) fn next_range(&mut self) -> Range {
        let mut limit = self.page_keys;
        self.page_keys = limit.saturating_mul(2).min(MAX_KEYS);
        if self.filter.is_by_date_alone() {
            // Only to skip.
            limit = self.skip.clamp(1, MAX_KEYS);
        }
        Range { limit, ..self.range.clone() }
    }

    /// Looks at the sort keys of [`KeyWalk::next_range`], until enough candidates are found or the budget is
    /// used up.
    pub(crate) async fn add(&mut self, page: SortKeys, batch: usize, budget: &mut SearchBudget) {
        for sort in page.keys {
            budget.yield_to_others().await;
            if !self.needs_more(batch, budget) || !budget.spend_keys(1) || !self.look_at(&sort, None, budget)
            {
                return;
            }
        }
        self.is_at_end = !page.has_more;
    }

    /// Looks at the studies of a list in memory, as [`KeyWalk::add`] does at sort keys.
    pub(crate) async fn add_listed(&mut self, list: &StudyList, batch: usize, budget: &mut SearchBudget) {
        while self.needs_more(batch, budget) {
            budget.yield_to_others().await;
            let range = self.range.clone();
            let look = |study: &ListedStudy| {
                self.needs_more(batch, budget) && self.look_at(study.sort(), study.name(), budget)
            };
            match list.visit(&range, LISTED_AT_A_TIME, look) {
                Visit::Stopped => return,
                Visit::More => {}
                Visit::End => self.is_at_end = true,
            }
        }
    }

    /// Looks at one sort key. Returns false if the budget is used up.
    fn look_at(&mut self, sort: &str, name: Option<&NameForms>, budget: &mut SearchBudget) -> bool {
        let mut work = 0;
        let verdict = self.filter.decide(sort, name, &mut work);
        if !budget.spend_bytes(work) {
            return false;
        }
        let order = listing::order(sort);
        match verdict {
            KeyVerdict::NoMatch => {}
            KeyVerdict::Match if self.skip > 0 => {
                self.skip -= 1;
                self.skipped += 1;
                self.last_skipped = Some(order.to_owned());
            }
            KeyVerdict::Match | KeyVerdict::Unknown => {
                // Whether this study is one of those to skip is known when its record is read.
                self.skip = 0;
                let before = self.passed.take();
                self.found.push_back(FoundStudy { order: order.to_owned(), before });
            }
        }
        // The memory of the place before is used again: most studies are only passed.
        let passed = self.passed.get_or_insert_default();
        passed.clear();
        passed.push_str(order);
        match &mut self.range.to {
            Bound::Excluded(to) => {
                to.clear();
                to.push_str(sort);
            }
            to => *to = Bound::Excluded(sort.to_owned()),
        }
        true
    }

    /// Replaces the walk by all candidates that are left, or by the next ones if there are more.
    pub(crate) fn replace(&mut self, others: FoundPlaces) {
        let last = others.places.last().cloned();
        let found = others.places.into_iter().map(|order| FoundStudy { order, before: None });
        self.found = found.collect();
        self.skip = 0;
        self.passed = None;
        if !others.has_more {
            self.is_at_end = true;
        } else if let Some(last) = last {
            self.range.to = Bound::Excluded(last.clone());
            self.passed = Some(last);
        }
    }
}

/// The places of studies that a [`PlaceWalk`] found, in the default order.
pub(crate) struct FoundPlaces {
    places: Vec<String>,
    /// Whether there are more after the last of them.
    has_more: bool,
}

/// A walk through the studies whose names have a prefix, or that arrived at some time. The order of names or
/// arrivals is not that of results, so that all must be seen before the first is known.
pub(crate) struct PlaceWalk {
    whole: Vec<Range>,
    rest: VecDeque<Range>,
    bounds: OrderBounds,
    /// The first places in the default order, at most [`PlaceWalk::most`].
    first: BinaryHeap<Reverse<String>>,
    most: usize,
    /// Whether a place was left out.
    is_cut: bool,
    page_keys: usize,
}

impl PlaceWalk {
    /// A walk through the names with a prefix, which finds the first places within bounds.
    pub(crate) fn of_names(tenant: &str, prefix: String, bounds: OrderBounds, most: usize) -> Self {
        let mut own = whole_partition(Some(Secondary::Third), keys::names(tenant), 1);
        own.to = Bound::Excluded(format!("{prefix}\u{10FFFF}"));
        own.from = Bound::Included(prefix);
        let mixed = whole_partition(Some(Secondary::Third), keys::mixed_names(tenant), 1);
        Self::new(vec![own, mixed], bounds, most)
    }

    /// A walk through the studies that arrived in a span of microseconds, which finds the first places within
    /// bounds, those of the same hours before and after the span among them.
    pub(crate) fn of_arrivals(tenant: &str, span: &Span<i64>, bounds: OrderBounds, most: usize) -> Self {
        let mut arrivals = whole_partition(Some(Secondary::Fifth), keys::arrivals(tenant), 1);
        if let Some(from) = span.from {
            arrivals.from = Bound::Included(keys::arrival_hour(from / 1000));
        }
        if let Some(to) = span.to {
            arrivals.to = Bound::Excluded(format!("{}\u{2}", keys::arrival_hour(to / 1000)));
        }
        Self::new(vec![arrivals], bounds, most)
    }

    fn new(whole: Vec<Range>, bounds: OrderBounds, most: usize) -> Self {
        let (rest, first) = (whole.clone().into(), BinaryHeap::new());
        Self { whole, rest, bounds, first, most, is_cut: false, page_keys: FIRST_KEYS }
    }

    /// The range of the next sort keys.
    pub(crate) fn next_range(&mut self) -> Range {
        let limit = self.page_keys;
        self.page_keys = limit.saturating_mul(2).min(MAX_KEYS);
        // The walk has ended if there is no range; `take_found` comes before.
        let range = self.rest.front().or(self.whole.last()).cloned();
        range.map_or_else(|| whole_partition(None, String::new(), 1), |range| Range { limit, ..range })
    }

    /// Looks at the sort keys of [`PlaceWalk::next_range`].
    pub(crate) async fn add(&mut self, page: SortKeys, budget: &mut SearchBudget) {
        for sort in &page.keys {
            budget.yield_to_others().await;
            budget.spend_keys(1);
            let order = sort.rsplit('\u{1}').next().unwrap_or_default();
            let is_first = self.first.len() < self.most
                || self.first.peek().is_some_and(|Reverse(last)| order > last.as_str());
            if !self.bounds.contain(order) {
                continue;
            }
            if is_first {
                self.first.push(Reverse(order.to_owned()));
            }
            if !is_first || self.first.len() > self.most {
                self.is_cut = true;
                if self.first.len() > self.most {
                    self.first.pop();
                }
            }
        }
        match page.keys.into_iter().next_back() {
            Some(last) if page.has_more => {
                if let Some(range) = self.rest.front_mut() {
                    range.from = Bound::Excluded(last);
                }
            }
            _ => drop(self.rest.pop_front()),
        }
    }

    /// The places after one that was read last, if all sort keys were seen. If places were left out, the walk
    /// begins again with those.
    pub(crate) fn take_found(&mut self, last_read: Option<&str>) -> Option<FoundPlaces> {
        if !self.rest.is_empty() {
            return None;
        }
        let has_more = std::mem::take(&mut self.is_cut);
        let first = std::mem::take(&mut self.first).into_sorted_vec();
        let mut places: Vec<String> = first.into_iter().map(|Reverse(place)| place).collect();
        // A secondary index that is behind may have a study in two places.
        places.dedup();
        if let Some(last) = places.last() {
            self.bounds = self.bounds.before(last);
        }
        self.rest = self.whole.clone().into();
        self.page_keys = FIRST_KEYS;
        let is_new = |place: &String| last_read.is_none_or(|last| place.as_str() < last);
        Some(FoundPlaces { places: places.into_iter().filter(is_new).collect(), has_more })
    }
}

/// A walk through the studies that arrived in a span of time, in the default order.
pub(crate) struct ArrivalWalk {
    arrivals: PlaceWalk,
    found: VecDeque<String>,
    is_at_end: bool,
}

impl ArrivalWalk {
    /// A walk through what [`PlaceWalk::of_arrivals`] finds.
    pub(crate) fn new(arrivals: PlaceWalk) -> Self {
        Self { arrivals, found: VecDeque::new(), is_at_end: false }
    }

    /// The next candidates, at most `batch`; none at the end, or if the budget is used up.
    pub(crate) async fn next(
        &mut self,
        table: &dyn Table,
        batch: usize,
        budget: &mut SearchBudget,
    ) -> Result<Vec<FoundStudy>, Error> {
        while self.found.is_empty() && !self.is_at_end && !budget.is_exhausted() {
            if let Some(found) = self.arrivals.take_found(None) {
                self.is_at_end = !found.has_more;
                self.found = found.places.into();
                continue;
            }
            let page = table.sort_keys(&self.arrivals.next_range()).await?;
            self.arrivals.add(page, budget).await;
        }
        let number = batch.min(self.found.len());
        Ok(self.found.drain(..number).map(|order| FoundStudy { order, before: None }).collect())
    }
}
