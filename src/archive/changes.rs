//! The feed of a tenant's changes: reads of it, and listeners that get changes when they are made.
//!
//! The tenant's feed in the index is the truth. For a tenant with listeners, one task of the process follows
//! the feed and hands each entry to all of them; a listener that has missed an entry reads it from the index.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{sleep, timeout};
use tracing::warn;

use crate::archive::access::Caller;
use crate::archive::{Archive, Error};
use crate::clock::{MILLIS_OF_DAY, now_millis};
use crate::dicom::uid::{InvalidUid, StudyUid};
use crate::index::Index;
pub use crate::index::changes::{Change, ChangeKind, FeedEntry};
pub use crate::index::feed::{FeedCursor, FeedPage, FeedRead};
use crate::telemetry;

/// The entries that are read at a time for listeners.
const PAGE_ENTRIES: usize = 100;
/// The entries that wait for a listener; one that is slower reads from the index.
const WAITING_ENTRIES: usize = 256;
/// The pause of the task that follows a feed after a failure.
const FAILURE_PAUSE: Duration = Duration::from_secs(1);

/// The tenants whose feeds are followed, each with the receivers of the listeners.
#[derive(Clone, Default)]
pub(in crate::archive) struct FollowedFeeds(Arc<Mutex<FeedSenders>>);

type FeedSenders = HashMap<String, broadcast::Sender<Arc<FeedEntry>>>;

/// A listener to the changes of a tenant.
pub struct ChangeListener {
    index: Arc<Index>,
    caller: Caller,
    /// The place after the last entry that was given.
    cursor: FeedCursor,
    receiver: broadcast::Receiver<Arc<FeedEntry>>,
    /// Entries that were read from the index.
    read: VecDeque<Arc<FeedEntry>>,
    /// The place after them.
    read_to: Option<FeedCursor>,
    /// Whether the index has, or may have, entries that were not received.
    is_behind: bool,
    /// Whether the last read has left out entries that come after others. They may have been sent before the
    /// listener began, so the index is read again.
    is_blocked: bool,
    /// The pause before such a read.
    poll: Duration,
}

/// The changes that a client wants.
#[derive(Debug, Clone, Default)]
pub struct ChangeFilter {
    study: Option<StudyUid>,
}

impl ChangeFilter {
    /// The changes of a study.
    ///
    /// # Errors
    /// If the text is no UID.
    pub fn of_study(study: &str) -> Result<Self, InvalidUid> {
        Ok(Self { study: Some(study.parse()?) })
    }

    /// The wanted changes of an entry.
    pub fn select<'a>(&'a self, entry: &'a FeedEntry) -> impl Iterator<Item = &'a Change> {
        let is_wanted = |change: &&Change| self.study.as_ref().is_none_or(|study| change.study == *study);
        entry.changes.iter().filter(is_wanted)
    }
}

/// Why a listener gets no more changes.
#[derive(Debug, thiserror::Error)]
pub enum ListeningEnd {
    /// The changes after the listener's place are not kept any more.
    #[error("the changes after this place are not kept any more (changes.retention_days)")]
    Expired,
    /// The index failed.
    #[error(transparent)]
    Archive(#[from] Error),
}

impl Archive {
    /// Reads at most `limit` entries of the feed of the caller's tenant after a place, or from the oldest
    /// that is kept. Changes of objects that the caller may not see are left out of them.
    pub async fn changes(
        &self,
        caller: &Caller,
        after: Option<&FeedCursor>,
        limit: usize,
    ) -> Result<FeedRead, Error> {
        let mut read = self.index.changes(caller.tenant.as_str(), after, limit).await?;
        if let FeedRead::Page(page) = &mut read {
            page.entries.iter_mut().for_each(|entry| caller.keep_visible(entry));
        }
        Ok(read)
    }

    /// The place after the last change of the caller's tenant.
    pub async fn end_of_changes(&self, caller: &Caller) -> Result<FeedCursor, Error> {
        Ok(self.index.end_of_changes(caller.tenant.as_str()).await?)
    }

    /// Begins to listen to the changes of the caller's tenant after a place, or from now on. The first
    /// changes after the place are read.
    pub async fn listen(
        &self,
        caller: &Caller,
        after: Option<FeedCursor>,
    ) -> Result<ChangeListener, ListeningEnd> {
        let tenant = caller.tenant.as_str().to_owned();
        let poll = Duration::from_millis(self.changes.poll_milliseconds);
        let receiver = self.followed_feeds.follow(&self.index, &tenant, poll).await?;
        let cursor = match after {
            Some(after) => after,
            None => self.index.end_of_changes(&tenant).await.map_err(Error::from)?,
        };
        let mut listener = ChangeListener {
            index: self.index.clone(),
            caller: caller.clone(),
            cursor,
            receiver,
            read: VecDeque::new(),
            read_to: None,
            is_behind: true,
            is_blocked: false,
            poll,
        };
        listener.read_on().await?;
        Ok(listener)
    }

    /// Deletes the entries of all feeds that are older than `changes.retention_days`. Returns their number.
    pub async fn sweep_changes(&self) -> Result<u64, Error> {
        let days = i64::try_from(self.changes.retention_days).unwrap_or(i64::MAX);
        if days == 0 {
            return Ok(0);
        }
        let before = now_millis().saturating_sub(days.saturating_mul(MILLIS_OF_DAY));
        Ok(self.index.sweep_changes(before).await?)
    }
}

impl FollowedFeeds {
    /// A receiver of the entries that are appended to a tenant's feed from now on. Starts the task that
    /// follows the feed, if there is none.
    async fn follow(
        &self,
        index: &Arc<Index>,
        tenant: &str,
        poll: Duration,
    ) -> Result<broadcast::Receiver<Arc<FeedEntry>>, Error> {
        if let Some(sender) = self.lock().get(tenant) {
            return Ok(sender.subscribe());
        }
        // Read before the first listener reads, so that no entry is between what both read.
        let from = index.end_of_changes(tenant).await?;
        let mut senders = self.lock();
        // Another listener may have begun meanwhile.
        if let Some(sender) = senders.get(tenant) {
            return Ok(sender.subscribe());
        }
        let (sender, receiver) = broadcast::channel(WAITING_ENTRIES);
        senders.insert(tenant.to_owned(), sender);
        tokio::spawn(run(self.clone(), index.clone(), tenant.to_owned(), from, poll));
        Ok(receiver)
    }

    /// The sender of a tenant. Removes it and returns `None` if there is no receiver.
    fn sender(&self, tenant: &str) -> Option<broadcast::Sender<Arc<FeedEntry>>> {
        let mut senders = self.lock();
        let sender = senders.get(tenant).filter(|sender| sender.receiver_count() > 0).cloned();
        if sender.is_none() {
            senders.remove(tenant);
        }
        sender
    }

    /// Locks the senders, for no longer than a look at them.
    fn lock(&self) -> MutexGuard<'_, FeedSenders> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Follows the feed of a tenant until there is no listener. Changes of this process are seen at once, those
/// of others after `poll`.
async fn run(
    feeds: FollowedFeeds,
    index: Arc<Index>,
    tenant: String,
    mut cursor: FeedCursor,
    poll: Duration,
) {
    let mut bell = index.change_bell(&tenant);
    loop {
        // Before the read: what is appended during the read rings again.
        bell.mark_unchanged();
        let Some(sender) = feeds.sender(&tenant) else { return };
        let has_more = match index.changes(&tenant, Some(&cursor), PAGE_ENTRIES).await {
            Ok(FeedRead::Page(page)) => {
                cursor = page.next;
                for entry in page.entries {
                    // Without a receiver by now, the next round ends the task.
                    let _ = sender.send(Arc::new(entry));
                }
                page.has_more
            }
            // The listeners end with it, and find out why when they begin again.
            Ok(FeedRead::Expired) => return drop(feeds.lock().remove(&tenant)),
            Err(error) => {
                let error = telemetry::chain(&error);
                warn!(error, "cannot read the feed of changes for listeners; trying again");
                sleep(FAILURE_PAUSE).await;
                false
            }
        };
        if !has_more {
            tokio::select! {
                // The bell is never closed.
                _ = timeout(poll, bell.changed()) => {}
                () = sender.closed() => {}
            }
        }
    }
}

impl ChangeListener {
    /// The place after the last entry that was given.
    pub fn cursor(&self) -> &FeedCursor {
        &self.cursor
    }

    /// Waits for the next entry. Dropping the future loses nothing.
    ///
    /// # Errors
    /// The end of the listener; its client may begin another one at [`ChangeListener::cursor`].
    pub async fn next(&mut self) -> Result<Arc<FeedEntry>, ListeningEnd> {
        loop {
            if let Some(entry) = self.read.pop_front() {
                self.cursor.advance(entry.position);
                return Ok(self.visible(entry));
            }
            if let Some(place) = self.read_to.take() {
                self.cursor = place;
            }
            if self.is_behind {
                self.read_on().await?;
                continue;
            }
            let received = match self.is_blocked {
                true => timeout(self.poll, self.receiver.recv()).await,
                false => Ok(self.receiver.recv().await),
            };
            let Ok(received) = received else {
                self.is_behind = true;
                continue;
            };
            match received {
                Ok(entry) if self.cursor.is_after(entry.position) => {}
                Ok(entry) if self.cursor.is_next(entry.position) => {
                    self.cursor.advance(entry.position);
                    return Ok(self.visible(entry));
                }
                // Entries are missing: empty ones, or those of a listener that was slow.
                Ok(_) | Err(RecvError::Lagged(_)) => self.is_behind = true,
                Err(RecvError::Closed) => return Err(ListeningEnd::Expired),
            }
        }
    }

    /// The part of an entry that the listener may see.
    fn visible(&self, entry: Arc<FeedEntry>) -> Arc<FeedEntry> {
        if self.caller.share.is_none() {
            return entry;
        }
        let mut entry = Arc::unwrap_or_clone(entry);
        self.caller.keep_visible(&mut entry);
        Arc::new(entry)
    }

    async fn read_on(&mut self) -> Result<(), ListeningEnd> {
        let read = self.index.changes(self.caller.tenant.as_str(), Some(&self.cursor), PAGE_ENTRIES).await;
        match read.map_err(Error::from)? {
            FeedRead::Page(page) => {
                (self.is_behind, self.is_blocked) = (page.has_more, page.is_blocked);
                self.cursor.join(&page.next);
                self.read.extend(page.entries.into_iter().map(Arc::new));
                self.read_to = Some(page.next);
                Ok(())
            }
            FeedRead::Expired => Err(ListeningEnd::Expired),
        }
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use tokio::sync::Semaphore;

    use super::*;
    use crate::table::redb::Redb;
    use crate::table::{self, Item, ItemKey, Page, Range, SortKeys, Table, Write};

    /// A table whose reads of one tenant's partitions do not end.
    struct HeldTable(Redb, Semaphore);

    const HELD: &str = "held";

    #[async_trait]
    impl Table for HeldTable {
        async fn get(&self, keys: &[ItemKey]) -> Result<Vec<Option<Item>>, table::Error> {
            self.0.get(keys).await
        }

        async fn range(&self, range: &Range) -> Result<Page, table::Error> {
            if range.partition.contains(HELD) {
                let _ = self.1.acquire().await;
            }
            self.0.range(range).await
        }

        async fn sort_keys(&self, range: &Range) -> Result<SortKeys, table::Error> {
            self.0.sort_keys(range).await
        }

        async fn transact(&self, writes: Vec<Write>) -> Result<(), table::Error> {
            self.0.transact(writes).await
        }

        fn health(&self) -> Result<(), table::Error> {
            self.0.health()
        }
    }

    #[tokio::test]
    async fn a_slow_read_of_a_feed_holds_up_no_listener_to_another() {
        let table = HeldTable(Redb::in_memory().unwrap(), Semaphore::new(0));
        let (index, feeds) = (Arc::new(Index::new(Arc::new(table))), FollowedFeeds::default());
        let poll = Duration::from_secs(1);
        let held = tokio::spawn({
            let (index, feeds) = (index.clone(), feeds.clone());
            async move { feeds.follow(&index, HELD, poll).await.map(drop) }
        });
        tokio::task::yield_now().await;
        let followed = timeout(Duration::from_secs(10), feeds.follow(&index, "other", poll)).await;
        assert!(followed.is_ok_and(|followed| followed.is_ok()));
        assert!(!held.is_finished());
    }
}
