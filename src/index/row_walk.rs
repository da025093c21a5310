//! A walk through ranges of studies in the default order of results, with their records.

use std::collections::VecDeque;
use std::ops::Bound;

use crate::index::records::StudyRecord;
use crate::index::{Error, listing, rows};
use crate::table::{Range, Table};

/// The maximum number of rows in a page.
pub(crate) const PAGE_ROWS: usize = 500;

/// A study with its place in the default order of results.
pub(crate) struct Candidate {
    pub(crate) order: String,
    pub(crate) record: StudyRecord,
    /// The place of the study before, if that was only looked at by its sort key.
    pub(crate) before: Option<String>,
}

/// Studies of several ranges, merged in the default order of results.
pub(crate) struct RowWalk {
    ranges: Vec<RowRange>,
    /// The number of matches that were skipped before the walk began.
    pub(crate) skipped: usize,
    /// The place of the last of them.
    before: Option<String>,
}

/// A range that is read page by page.
struct RowRange {
    ready: VecDeque<Candidate>,
    rest: Option<Range>,
}

impl RowWalk {
    /// A walk through ranges whose sort keys begin with places in the default order, the latest first.
    pub(crate) fn new(ranges: impl IntoIterator<Item = Range>) -> Self {
        let begin = |range| RowRange { ready: VecDeque::new(), rest: Some(range) };
        Self { ranges: ranges.into_iter().map(begin).collect(), skipped: 0, before: None }
    }

    /// A walk through one range, after a number of matches that were skipped, the last at a place.
    pub(crate) fn after(range: Range, skipped: usize, before: Option<String>) -> Self {
        Self { skipped, before, ..Self::new([range]) }
    }

    /// The next study. Reads at most `rows_left` more rows of each range.
    pub(crate) async fn next(
        &mut self,
        table: &dyn Table,
        rows_left: usize,
    ) -> Result<Option<Candidate>, Error> {
        let mut latest: Option<(usize, String)> = None;
        for (number, range) in self.ranges.iter_mut().enumerate() {
            range.fill(table, rows_left).await?;
            let Some(first) = range.ready.front() else { continue };
            if latest.as_ref().is_none_or(|(_, order)| *order < first.order) {
                latest = Some((number, first.order.clone()));
            }
        }
        let mut next = latest.and_then(|(number, _)| self.ranges.get_mut(number)?.ready.pop_front());
        if let Some(candidate) = &mut next {
            candidate.before = self.before.take();
        }
        Ok(next)
    }
}

impl RowRange {
    async fn fill(&mut self, table: &dyn Table, rows_left: usize) -> Result<(), Error> {
        if self.ready.is_empty()
            && let Some(mut range) = self.rest.take()
        {
            let limit = range.limit.min(rows_left.saturating_add(1)).max(1);
            let page = table.range(&Range { limit, ..range.clone() }).await?;
            for (sort, item) in &page.items {
                let record = rows::decode(&item.key, &item.body)?;
                let order = listing::order(sort).to_owned();
                self.ready.push_back(Candidate { order, record, before: None });
            }
            if let Some((last, _)) = page.items.last().filter(|_| page.has_more) {
                range.to = Bound::Excluded(last.clone());
                range.limit = PAGE_ROWS;
                self.rest = Some(range);
            }
        }
        Ok(())
    }
}
