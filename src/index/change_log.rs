//! Appends to the feeds of tenants.
//!
//! A feed has lanes. The entries of a lane have consecutive numbers, and each is written by the transaction
//! that makes the change, on the condition that no entry has the number. A process appends to one lane of a
//! tenant; where two processes meet in a lane, the conditions fail, and one of them moves. So an entry costs
//! no request, and writers do not wait for each other.
//!
//! Transactions of one process are under way at the same time, so that a number may become visible before a
//! lower one. Readers stop at such a gap (see [`super::feed`]). The number of a transaction that failed is
//! used for the next, or gets an empty entry.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use tokio::runtime::Handle;
use tokio::sync::watch;
use uuid::Uuid;

use crate::clock::now_millis;
use crate::index::amounts::DailyTurnover;
use crate::index::changes::{Change, EntriesBefore, FeedEntry};
use crate::index::feed_position::FeedPosition;
use crate::index::read::whole_partition;
use crate::index::{Error, keys, lock, rows};
use crate::table::{self, Expect, Item, Table, Write};

/// The lanes of a feed over a remote table: more than there are processes that store at the same time.
const REMOTE_LANES: u32 = 16;

/// The feeds that this process appends to.
pub(crate) struct ChangeLog {
    lanes: u32,
    feeds: Mutex<HashMap<String, OpenFeed>>,
    /// Rung after each append, for tenants whose feed is followed.
    bells: Mutex<HashMap<String, watch::Sender<()>>>,
}

/// The state of a tenant's feed.
struct OpenFeed {
    lane: u32,
    /// The next number in the lane.
    next: u64,
    state: FeedState,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum FeedState {
    /// The feed's row exists.
    Open,
    /// The feed had no row a moment ago. The first append writes it.
    New,
    /// An append met an entry or a row of another process; the end of the lane must be read again.
    Unread,
}

/// A number that was taken for an entry. Dropping it gives the number back, so that no reader waits for the
/// entry of a transaction that was given up.
pub(crate) struct TakenNumber<'a> {
    /// The position of the entry.
    pub(crate) position: FeedPosition,
    before: EntriesBefore,
    is_first: bool,
    log: &'a ChangeLog,
    table: &'a Arc<dyn Table>,
    tenant: String,
    /// Whether there is an entry of the number, or the number was given back.
    is_settled: bool,
}

impl ChangeLog {
    /// The feeds of a table.
    pub(crate) fn new(is_remote: bool) -> Self {
        let lanes = if is_remote { REMOTE_LANES } else { 1 };
        Self { lanes, feeds: Mutex::default(), bells: Mutex::default() }
    }

    /// The number of lanes.
    pub(crate) fn lanes(&self) -> u32 {
        self.lanes
    }

    /// Whether a number can be taken without a read.
    pub(crate) fn is_open(&self, tenant: &str) -> bool {
        lock(&self.feeds).get(tenant).is_some_and(|feed| feed.state != FeedState::Unread)
    }

    /// Opens the feed of a tenant, if it is not open.
    pub(crate) async fn open(&self, table: &dyn Table, tenant: &str) -> Result<(), Error> {
        if self.is_open(tenant) {
            return Ok(());
        }
        let row = table.get(&[keys::feed(tenant)]).await?.pop().flatten();
        self.open_with(table, tenant, row.as_ref()).await
    }

    /// Opens the feed of a tenant whose row was read.
    pub(crate) async fn open_with(
        &self,
        table: &dyn Table,
        tenant: &str,
        row: Option<&Item>,
    ) -> Result<(), Error> {
        let known = lock(&self.feeds).get(tenant).map(|feed| feed.lane);
        let lane = known.unwrap_or_else(|| random_below(self.lanes));
        let mut last = 0;
        if row.is_some() {
            let mut range = whole_partition(None, keys::feed_lane(tenant, lane), 1);
            range.is_descending = true;
            let page = table.range(&range).await?;
            last = page.items.first().and_then(|(sort, _)| keys::feed_number(sort)).unwrap_or(0);
        }
        let state = if row.is_some() { FeedState::Open } else { FeedState::New };
        let mut feeds = lock(&self.feeds);
        let feed = feeds.entry(tenant.to_owned()).or_insert(OpenFeed { lane, next: 1, state });
        if feed.lane == lane {
            // Numbers that are taken by transactions under way are not taken again.
            feed.next = feed.next.max(last + 1);
            feed.state = state;
        }
        Ok(())
    }

    /// Takes the next number for an entry that comes after others.
    ///
    /// # Errors
    /// [`table::Error::Conflict`] if the feed is not open any more.
    pub(crate) fn take<'a>(
        &'a self,
        table: &'a Arc<dyn Table>,
        tenant: &str,
        mut before: EntriesBefore,
    ) -> Result<TakenNumber<'a>, table::Error> {
        let mut feeds = lock(&self.feeds);
        let feed = feeds.get_mut(tenant).filter(|feed| feed.state != FeedState::Unread);
        let feed = feed.ok_or(table::Error::Conflict(0))?;
        // Another process may have written in this lane.
        let of_lane = before.follows.iter().filter(|position| position.0 == feed.lane);
        feed.next = feed.next.max(of_lane.map(|position| position.1).max().unwrap_or(0) + 1);
        before.follows.retain(|position| position.0 != feed.lane);
        before.follows.sort_by_key(|position| (position.0, position.1));
        before.follows.dedup();
        let position = FeedPosition(feed.lane, feed.next);
        feed.next += 1;
        let (tenant, is_first) = (tenant.to_owned(), feed.state == FeedState::New);
        Ok(TakenNumber { position, before, is_first, log: self, table, tenant, is_settled: false })
    }

    /// A receiver that changes after each append of this process to the feed of a tenant.
    pub(crate) fn bell(&self, tenant: &str) -> watch::Receiver<()> {
        let mut bells = lock(&self.bells);
        bells.entry(tenant.to_owned()).or_insert_with(|| watch::channel(()).0).subscribe()
    }

    fn ring(&self, tenant: &str) {
        if let Some(bell) = lock(&self.bells).get(tenant) {
            bell.send_replace(());
        }
    }

    /// Gives back the number of a transaction that failed, if no later one was taken. If it has taken effect
    /// nevertheless, the next append meets its entry.
    fn give_back(&self, tenant: &str, position: FeedPosition) -> bool {
        self.with(tenant, |feed| {
            let is_last = feed.lane == position.0 && feed.next == position.1 + 1;
            feed.next -= u64::from(is_last);
            is_last
        })
        .unwrap_or(true)
    }

    fn with<T>(&self, tenant: &str, change: impl FnOnce(&mut OpenFeed) -> T) -> Option<T> {
        lock(&self.feeds).get_mut(tenant).map(change)
    }
}

impl TakenNumber<'_> {
    /// Carries out a transaction that makes changes, with their entry of the feed. `turnover` are the amounts
    /// that are stored and deleted.
    pub(crate) async fn transact(
        mut self,
        changes: Vec<Change>,
        turnover: DailyTurnover,
        mut writes: Vec<Write>,
    ) -> Result<(), Error> {
        let (log, table, position) = (self.log, self.table, self.position);
        let before = std::mem::take(&mut self.before);
        let entry = FeedEntry { position, at: now_millis(), changes, turnover, before };
        let first_own = writes.len();
        writes.push(Write::Put(entry_row(&self.tenant, &entry)?, Expect::Absent));
        if self.is_first {
            let key = keys::feed(&self.tenant);
            let body = rows::encode(&key, &now_millis())?;
            let row = Item { key, version: 1, secondary: Vec::new(), body };
            writes.push(Write::Put(row, Expect::Absent));
        }
        let outcome = table.transact(writes).await;
        match &outcome {
            Ok(()) => {
                self.is_settled = true;
                log.with(&self.tenant, |feed| {
                    if feed.state == FeedState::New {
                        feed.state = FeedState::Open;
                    }
                });
                log.ring(&self.tenant);
            }
            // Another process has used the number.
            Err(table::Error::Conflict(at)) if *at == first_own => {
                self.is_settled = true;
                log.with(&self.tenant, |feed| feed.collide(position, log.lanes));
            }
            Err(error) => {
                if self.is_first && matches!(error, table::Error::Conflict(_)) {
                    log.with(&self.tenant, |feed| feed.state = FeedState::Unread);
                }
                self.is_settled = log.give_back(&self.tenant, position);
                if !self.is_settled {
                    fill(table.as_ref(), &self.tenant, position, entry.at).await;
                    self.is_settled = true;
                }
            }
        }
        Ok(outcome?)
    }
}

impl Drop for TakenNumber<'_> {
    fn drop(&mut self) {
        if self.is_settled || self.log.give_back(&self.tenant, self.position) {
            return;
        }
        // A later number was taken. Without a runtime, the process is about to end, and a reader fills the
        // gap.
        let Ok(runtime) = Handle::try_current() else { return };
        let (table, tenant, position) = (self.table.clone(), std::mem::take(&mut self.tenant), self.position);
        runtime.spawn(async move { fill(table.as_ref(), &tenant, position, now_millis()).await });
    }
}

impl OpenFeed {
    /// Moves to another lane, if there is one, after an append has met an entry of another process.
    fn collide(&mut self, position: FeedPosition, lanes: u32) {
        if self.lane != position.0 {
            return;
        }
        self.state = FeedState::Unread;
        if lanes > 1 {
            self.lane = (self.lane + 1 + random_below(lanes - 1)) % lanes;
            self.next = 1;
        }
    }
}

/// Writes an empty entry at a position that no transaction will use, if there is none. Afterwards a
/// transaction with this number that is still under way fails.
///
/// An error is only logged: a reader fills the gap later.
pub(crate) async fn fill(table: &dyn Table, tenant: &str, position: FeedPosition, at: i64) {
    let (changes, turnover, before) = (Vec::new(), DailyTurnover::new(), EntriesBefore::default());
    let empty = FeedEntry { position, at, changes, turnover, before };
    let Ok(row) = entry_row(tenant, &empty) else { return };
    match table.transact(vec![Write::Put(row, Expect::Absent)]).await {
        Ok(()) | Err(table::Error::Conflict(_)) => {}
        Err(error) => tracing::warn!(%error, "cannot fill a gap in the feed of changes"),
    }
}

fn entry_row(tenant: &str, entry: &FeedEntry) -> Result<Item, Error> {
    let key = keys::feed_entry(tenant, entry.position);
    let body = entry.encode(&key)?;
    Ok(Item { key, version: 1, secondary: Vec::new(), body })
}

fn random_below(limit: u32) -> u32 {
    let random = Uuid::new_v4().as_u128() % u128::from(limit.max(1));
    u32::try_from(random).unwrap_or(0)
}
