//! Reads of the feed of a tenant's changes.
//!
//! The entries of a lane are read up to the first number that is missing: its transaction may still be under
//! way. If an entry after it is some seconds old, the gap is filled by an empty entry, on the condition that
//! there is none: a transaction that comes later fails, and its process tries again with another number. So a
//! reader never goes past a change that becomes visible late.
//!
//! The lanes are merged by time. An entry names those entries in other lanes that the change of its study and
//! its series came after, and is given after them whatever the clocks say. A study that did not exist may
//! have been deleted by an entry in another lane: such entries are given when all lanes were read after them,
//! and not while another lane ends before an entry that is not seen yet.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::ops::Bound;
use std::str::FromStr;

use futures_util::future::try_join_all;
use tokio::sync::watch;

use crate::clock::now_millis;
use crate::index::change_log::fill;
use crate::index::changes::FeedEntry;
use crate::index::feed_position::FeedPosition;
use crate::index::read::whole_partition;
use crate::index::{Error, Index, keys, rows};
use crate::table::Range;

/// The age of the entry after a gap, in milliseconds, from which the gap is filled.
const MAX_GAP_AGE: i64 = 5000;
/// The gaps of a lane that are filled at a time.
const MAX_FILLED: u64 = 64;
/// The reads of a page, each after gaps were filled.
const MAX_READS: usize = 4;
/// The entries at the end of a lane among which gaps are looked for.
const LAST_ENTRIES: usize = 64;
/// The most lanes of a cursor.
const MAX_LANES: usize = 64;

/// A place in the feed of a tenant: all entries before it were read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FeedCursor {
    /// The time at which the feed began; 0 if there was no change yet. An index that is built again has
    /// another feed.
    epoch: u64,
    /// The number of the last entry of each lane; lanes without one are left out.
    lanes: BTreeMap<u32, u64>,
}

/// A text that is no cursor.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("is no cursor of the feed")]
pub struct NotACursor;

/// A page of a feed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FeedPage {
    /// The entries, in order, without empty ones.
    pub entries: Vec<FeedEntry>,
    /// The place after them.
    pub next: FeedCursor,
    /// Whether a read of `next` goes on at once.
    pub has_more: bool,
    /// Whether entries were read that come after others that are not seen yet: a later read gives them.
    pub is_blocked: bool,
}

/// The outcome of a read of a feed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FeedRead {
    /// The next entries.
    Page(FeedPage),
    /// Entries after the cursor were swept, or the cursor is of another feed.
    Expired,
}

impl FeedCursor {
    /// Goes past an entry.
    pub fn advance(&mut self, FeedPosition(lane, number): FeedPosition) {
        self.lanes.insert(lane, number);
    }

    /// Whether an entry is before this place.
    pub fn is_after(&self, position: FeedPosition) -> bool {
        self.number(position.0) >= position.1
    }

    /// Whether an entry is the next of its lane. No entry is the next of a place before there was a feed: a
    /// read from there returns the place with the feed's epoch.
    pub fn is_next(&self, position: FeedPosition) -> bool {
        self.epoch > 0 && self.number(position.0) + 1 == position.1
    }

    /// Takes the epoch of another place, if this one is before there was a feed.
    pub fn join(&mut self, other: &Self) {
        if self.epoch == 0 {
            self.epoch = other.epoch;
        }
    }

    /// The number of the last entry of a lane before this place; 0 if there is none.
    pub(crate) fn number(&self, lane: u32) -> u64 {
        self.lanes.get(&lane).copied().unwrap_or(0)
    }
}

impl fmt::Display for FeedCursor {
    /// Writes the epoch, and lane and number of each lane: `1b2-0.15-3.7`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:x}", self.epoch)?;
        self.lanes.iter().try_for_each(|(lane, number)| write!(formatter, "-{lane}.{number}"))
    }
}

impl FromStr for FeedCursor {
    type Err = NotACursor;

    fn from_str(text: &str) -> Result<Self, NotACursor> {
        let mut parts = text.split('-');
        let epoch = parts.next().and_then(|epoch| u64::from_str_radix(epoch, 16).ok()).ok_or(NotACursor)?;
        let lane = |part: &str| {
            let (lane, number) = part.split_once('.')?;
            Some((lane.parse().ok()?, number.parse().ok().filter(|number| *number < u64::MAX)?))
        };
        let lanes: Option<BTreeMap<u32, u64>> = parts.map(lane).take(MAX_LANES + 1).collect();
        let lanes = lanes.filter(|lanes| lanes.len() <= MAX_LANES).ok_or(NotACursor)?;
        Ok(Self { epoch, lanes })
    }
}

/// The row of a feed, and the marks of its lanes.
pub(super) struct FeedHead {
    epoch: u64,
    /// The last number of each lane that was swept.
    swept: FeedCursor,
}

impl FeedHead {
    /// The cursor of a read that begins at `after`, or at the beginning; `None` if changes after it are gone.
    pub(super) fn start(&self, after: Option<&FeedCursor>) -> Option<FeedCursor> {
        let from = FeedCursor { epoch: self.epoch, lanes: BTreeMap::new() };
        let mut start = match after {
            None => return Some(FeedCursor { lanes: self.swept.lanes.clone(), ..from }),
            Some(after) if after.epoch == 0 && after.lanes.is_empty() => from,
            Some(after) => after.clone(),
        };
        let is_swept = self.swept.lanes.iter().any(|(lane, number)| start.number(*lane) < *number);
        start.lanes.retain(|_, number| *number > 0);
        (start.epoch == self.epoch && !is_swept).then_some(start)
    }
}

/// The entries of a lane.
struct LaneRead {
    entries: VecDeque<FeedEntry>,
    has_more: bool,
    /// The number that is missing, and the entry after it.
    gap: Option<(u64, FeedEntry)>,
}

impl LaneRead {
    /// Ends before the first entry of a new study that an earlier read of the lane has not seen.
    fn end_before_new_study(&mut self, earlier: &Self) {
        let later = self.entries.iter().skip(earlier.entries.len());
        if let Some(place) = later.into_iter().position(is_new_study) {
            self.entries.truncate(earlier.entries.len() + place);
            (self.has_more, self.gap) = (true, None);
        }
    }
}

/// Whether the study of an entry did not exist before.
fn is_new_study(entry: &FeedEntry) -> bool {
    entry.before.is_new_study
}

impl Index {
    /// Reads the next entries of a tenant's feed, at most `limit` of each lane and in all. Without a cursor,
    /// from the oldest entry that is there.
    pub async fn changes(
        &self,
        tenant: &str,
        after: Option<&FeedCursor>,
        limit: usize,
    ) -> Result<FeedRead, Error> {
        let limit = limit.max(1);
        let mut reads = 0;
        loop {
            let Some(head) = self.feed_head(tenant).await? else {
                let is_first = after.is_none_or(|after| after.epoch == 0);
                let page = FeedPage::default();
                return Ok(if is_first { FeedRead::Page(page) } else { FeedRead::Expired });
            };
            let Some(start) = head.start(after) else { return Ok(FeedRead::Expired) };
            let Some(mut lanes) = self.read_lanes(tenant, &head, &start, limit).await? else {
                return Ok(FeedRead::Expired);
            };
            if lanes.len() > 1 && lanes.iter().flat_map(|lane| &lane.entries).any(is_new_study) {
                let Some(again) = self.read_lanes(tenant, &head, &start, limit).await? else {
                    return Ok(FeedRead::Expired);
                };
                let first = std::mem::replace(&mut lanes, again);
                lanes.iter_mut().zip(&first).for_each(|(lane, first)| lane.end_before_new_study(first));
            }
            reads += 1;
            let old = lanes.iter().filter_map(|lane| lane.gap.as_ref()).filter(|(_, entry)| is_old(entry.at));
            let old: Vec<&(u64, FeedEntry)> = old.collect();
            if old.is_empty() || reads == MAX_READS {
                return Ok(FeedRead::Page(merge(lanes, &head, start, limit)));
            }
            self.fill_gaps(tenant, old).await?;
        }
    }

    /// The place after the last entry of a tenant's feed; before the last gap, if there is one.
    pub async fn end_of_changes(&self, tenant: &str) -> Result<FeedCursor, Error> {
        let Some(head) = self.feed_head(tenant).await? else { return Ok(FeedCursor::default()) };
        let ends = (0..self.log.lanes()).map(|lane| async move {
            let mut range = whole_partition(None, keys::feed_lane(tenant, lane), LAST_ENTRIES);
            range.is_descending = true;
            Ok::<_, Error>((lane, self.table.range(&range).await?))
        });
        let mut end = FeedCursor { epoch: head.epoch, lanes: BTreeMap::new() };
        for (lane, page) in try_join_all(ends).await? {
            let mut numbers = page.items.iter().filter_map(|(sort, _)| keys::feed_number(sort));
            let Some(last) = numbers.next() else { continue };
            let (mut place, mut above) = (last, last);
            let before = (!page.has_more).then_some(head.swept.number(lane));
            for number in numbers.chain(before) {
                if number + 1 < above {
                    place = number;
                }
                above = number;
            }
            if place > 0 {
                end.advance(FeedPosition(lane, place));
            }
        }
        Ok(end)
    }

    /// A receiver that changes after each change that this process makes to a tenant's objects.
    pub fn change_bell(&self, tenant: &str) -> watch::Receiver<()> {
        self.log.bell(tenant)
    }

    pub(super) async fn feed_head(&self, tenant: &str) -> Result<Option<FeedHead>, Error> {
        let range = whole_partition(None, keys::feed_partition(tenant), MAX_LANES + 1);
        let (mut epoch, mut swept) = (None, FeedCursor::default());
        for (sort, item) in self.table.range(&range).await?.items {
            if let Some(lane) = keys::swept_lane(&sort) {
                swept.advance(FeedPosition(lane, rows::decode(&item.key, &item.body)?));
            } else {
                epoch = Some(rows::decode(&item.key, &item.body)?);
            }
        }
        Ok(epoch.map(|epoch| FeedHead { epoch, swept }))
    }

    /// Reads the entries of all lanes after a place, as [`Index::read_lane`] does.
    async fn read_lanes(
        &self,
        tenant: &str,
        head: &FeedHead,
        start: &FeedCursor,
        limit: usize,
    ) -> Result<Option<Vec<LaneRead>>, Error> {
        let lanes = (0..self.log.lanes()).map(|lane| self.read_lane(tenant, lane, head, start, limit));
        Ok(try_join_all(lanes).await?.into_iter().collect())
    }

    /// Reads the entries of a lane after a place. `None` if the entry before the place is not there: the
    /// cursor is of another feed, or the entry was swept a moment ago.
    async fn read_lane(
        &self,
        tenant: &str,
        lane: u32,
        head: &FeedHead,
        start: &FeedCursor,
        limit: usize,
    ) -> Result<Option<LaneRead>, Error> {
        let (start, swept) = (start.number(lane), head.swept.number(lane));
        let has_last = start > swept;
        let from = keys::feed_sort(start);
        let range = Range {
            from: if has_last { Bound::Included(from) } else { Bound::Excluded(from) },
            ..whole_partition(None, keys::feed_lane(tenant, lane), limit + usize::from(has_last))
        };
        let page = self.table.range(&range).await?;
        let mut read = LaneRead { entries: VecDeque::new(), has_more: page.has_more, gap: None };
        let numbers = start + u64::from(!has_last)..;
        for (expected, (sort, item)) in numbers.zip(page.items) {
            let number =
                keys::feed_number(&sort).ok_or_else(|| rows::record_error(&item.key, "no number"))?;
            let entry = FeedEntry::decode(FeedPosition(lane, number), &item.key, &item.body)?;
            if number != expected {
                read.has_more = false;
                read.gap = Some((expected, entry));
                break;
            }
            read.entries.push_back(entry);
        }
        if has_last && read.entries.pop_front().is_none() {
            return Ok(None);
        }
        Ok(Some(read))
    }

    /// Fills gaps, each the first missing number of a lane and the entry after the gap.
    pub(super) async fn fill_gaps(&self, tenant: &str, gaps: Vec<&(u64, FeedEntry)>) -> Result<(), Error> {
        // Entries that were swept meanwhile are no gap.
        let Some(head) = self.feed_head(tenant).await? else { return Ok(()) };
        for (missing, entry) in gaps {
            let FeedPosition(lane, after) = entry.position;
            if head.swept.number(lane) >= *missing {
                continue;
            }
            for number in *missing..after.min(missing + MAX_FILLED) {
                fill(self.table.as_ref(), tenant, FeedPosition(lane, number), entry.at).await;
            }
        }
        Ok(())
    }
}

/// Whether the entry after a gap is so old that the gap is filled. A time in the future was written by a
/// wrong clock.
pub(super) fn is_old(at: i64) -> bool {
    now_millis().abs_diff(at) > MAX_GAP_AGE.unsigned_abs()
}

/// Merges lanes by time, each entry after those that it follows. An entry that follows one that was not read
/// ends the page; one of a new study, while another lane may hide the deletion of the study.
fn merge(mut lanes: Vec<LaneRead>, head: &FeedHead, start: FeedCursor, limit: usize) -> FeedPage {
    let (mut entries, mut next) = (Vec::new(), start.clone());
    while entries.len() < limit {
        let is_missing = |before: &&FeedPosition| !next.is_after(**before) && !head.swept.is_after(**before);
        let fronts = || lanes.iter().filter_map(|lane| lane.entries.front());
        let missing: Vec<&FeedPosition> =
            fronts().flat_map(|entry| &entry.before.follows).filter(is_missing).collect();
        let hides = |(number, lane): (u32, &LaneRead)| {
            let is_missed = || missing.iter().any(|position| position.0 == number);
            lane.entries.is_empty() && (lane.has_more || lane.gap.is_some() || is_missed())
        };
        let is_one_hiding = (0..).zip(&lanes).any(hides);
        let is_held = |entry: &FeedEntry| {
            let follows_missing = entry.before.follows.iter().any(|before| is_missing(&before));
            follows_missing || (is_one_hiding && is_new_study(entry))
        };
        let first = fronts().filter(|entry| !is_held(entry)).min_by_key(|entry| (entry.at, entry.position.0));
        let Some(lane) = first.map(|entry| entry.position.0) else { break };
        let lane = (0..).zip(&mut lanes).find(|(number, _)| *number == lane);
        let Some(entry) = lane.and_then(|(_, lane)| lane.entries.pop_front()) else { break };
        next.advance(entry.position);
        if !entry.changes.is_empty() {
            entries.push(entry);
        }
    }
    let is_full = entries.len() >= limit;
    let has_rest = |lane: &LaneRead| lane.has_more || !lane.entries.is_empty();
    // Entries that are left in a page with room come after others: reading on gives nothing yet.
    let goes_on = |lane: &LaneRead| has_rest(lane) && (is_full || lane.entries.is_empty());
    let has_more = next != start && lanes.iter().any(goes_on);
    FeedPage { entries, next, has_more, is_blocked: !has_more && lanes.iter().any(has_rest) }
}
