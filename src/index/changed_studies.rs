//! The studies that have changed since a place in the feed of changes, for the list of studies in memory.
//!
//! Other readers of a feed need its order, and wait before a number that is missing. For this reader the
//! order does not matter: it reads the records, which hold every change before. So a change is seen as soon
//! as its entry is there, and the entries after a missing number are read again, until there is an entry of
//! it.

use std::collections::BTreeMap;
use std::ops::Bound;

use futures_util::future::try_join_all;

use crate::dicom::uid::StudyUid;
use crate::index::changes::{ChangeKind, FeedEntry};
use crate::index::feed::{FeedCursor, is_old};
use crate::index::feed_position::FeedPosition;
use crate::index::read::whole_partition;
use crate::index::{Error, Index, keys, rows};
use crate::table::Range;

/// The maximum number of entries of a lane that are read at a time.
const MAX_ENTRIES: usize = if cfg!(test) { 20 } else { 500 };

/// The studies that have changed.
#[derive(Debug, Default)]
pub(crate) struct ChangedStudies {
    /// The studies, each with whether its first change made it.
    pub(crate) studies: BTreeMap<StudyUid, bool>,
    /// The place in the feed before which all changes were seen.
    pub(crate) next: FeedCursor,
    /// Whether a read of `next` goes on at once.
    pub(crate) has_more: bool,
}

impl ChangedStudies {
    fn add(&mut self, entry: FeedEntry) {
        for change in entry.changes {
            match change.kind {
                ChangeKind::Stored | ChangeKind::Replaced | ChangeKind::Deleted | ChangeKind::Unknown => {
                    self.studies.entry(change.study).or_insert(entry.before.is_new_study);
                }
                ChangeKind::Complete | ChangeKind::Preview | ChangeKind::PreviewFailed => {}
            }
        }
    }
}

impl Index {
    /// Reads the studies that have changed after a place. `None` if changes after it are not known any more.
    pub(crate) async fn changed_studies(
        &self,
        tenant: &str,
        after: &FeedCursor,
    ) -> Result<Option<ChangedStudies>, Error> {
        let mut changed = ChangedStudies { next: after.clone(), ..ChangedStudies::default() };
        let Some(head) = self.feed_head(tenant).await? else {
            return Ok((*after == FeedCursor::default()).then_some(changed));
        };
        let Some(start) = head.start(Some(after)) else { return Ok(None) };
        let lanes = (0..self.log.lanes()).map(|lane| {
            let from = Bound::Excluded(keys::feed_sort(start.number(lane)));
            let range = Range { from, ..whole_partition(None, keys::feed_lane(tenant, lane), MAX_ENTRIES) };
            async move { self.table.range(&range).await }
        });
        let pages = try_join_all(lanes).await?;
        changed.next = start;
        let mut old_gaps = Vec::new();
        for (lane, page) in (0..).zip(pages) {
            let mut gap = None;
            for (sort, item) in page.items {
                let number = keys::feed_number(&sort);
                let number = number.ok_or_else(|| rows::record_error(&item.key, "no number"))?;
                let entry = FeedEntry::decode(FeedPosition(lane, number), &item.key, &item.body)?;
                if gap.is_none() && number == changed.next.number(lane) + 1 {
                    changed.next.advance(entry.position);
                } else if gap.is_none() {
                    gap = Some((changed.next.number(lane) + 1, entry.clone()));
                }
                changed.add(entry);
            }
            if gap.is_some() && page.has_more {
                return Ok(None);
            }
            changed.has_more |= page.has_more;
            old_gaps.extend(gap.filter(|(_, entry)| is_old(entry.at)));
        }
        if !old_gaps.is_empty() {
            self.fill_gaps(tenant, old_gaps.iter().collect()).await?;
        }
        Ok(Some(changed))
    }
}
