//! The lists of studies in memory, one for each tenant whose studies were searched, within a limit of memory.
//!
//! A list is read from the table beside the searches, which walk through the table until the list is there.
//! From then on, each search first reads the feed of changes from the place that the list has come to, and
//! the records of the studies that have changed: a search finds what it would find in the table.

use std::collections::HashMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::{Mutex as AsyncMutex, watch};

use crate::dicom::uid::StudyUid;
use crate::index::feed::FeedCursor;
use crate::index::read::whole_partition;
use crate::index::records::StudyRecord;
use crate::index::study_list::{ListedStudy, StudyChange, StudyList};
use crate::index::{Error, Index, keys, listing, lock, rows};
use crate::table::{ItemKey, Secondary};
use crate::{telemetry, threads};

/// The number of sort keys that are read at a time.
const PAGE_KEYS: usize = if cfg!(test) { 10 } else { 4096 };
/// The maximum number of records that are read at a time.
const MAX_BATCH: usize = 100;
/// The maximum number of reads of the feed before a search; a list that is further behind is read again.
const MAX_READS: usize = if cfg!(test) { 8 } else { 20 };
/// The time for which the secondary indexes of a remote table may be behind the feed of changes, when a list
/// is read.
const SETTLING: Duration = Duration::from_millis(if cfg!(test) { 1 } else { 5000 });
/// The time for which the changes of other processes need not be looked for again.
const FRESH: Duration = Duration::from_millis(if cfg!(test) { 0 } else { 500 });
/// The time after which the list of a remote table is read again, in case that a secondary index was behind
/// for longer than [`SETTLING`].
const MAX_AGE: Duration = Duration::from_secs(60 * 60);
/// The time before another attempt to read a list that is too large, and one that could not be read.
const RETRY_TOO_LARGE: Duration = Duration::from_secs(60 * 60);
const RETRY_FAILED: Duration = Duration::from_secs(10);

/// The lists of all tenants.
#[derive(Default)]
pub(crate) struct StudyLists {
    /// The maximum bytes of all lists together; 0 for no lists.
    max_bytes: usize,
    tenants: Mutex<HashMap<String, TenantList>>,
}

/// The list of a tenant, or the state of reading one.
#[derive(Default)]
struct TenantList {
    list: Option<Arc<CurrentList>>,
    is_being_read: bool,
    /// The time of the next attempt, after one that failed.
    retry_at: Option<Instant>,
    used_at: Option<Instant>,
}

/// A list and the place in the feed that it has come to.
pub(crate) struct CurrentList {
    pub(crate) studies: StudyList,
    read_at: Instant,
    progress: AsyncMutex<ListProgress>,
}

struct ListProgress {
    cursor: FeedCursor,
    /// Changes after a change of this process.
    bell: watch::Receiver<()>,
    /// The time of the last look for changes.
    looked_at: Instant,
    /// Whether a changed study may be in the list in more than one place.
    is_first: bool,
}

/// Ends the reading of a list, also by a panic.
struct Reading {
    lists: Arc<StudyLists>,
    tenant: String,
    list: Option<Arc<CurrentList>>,
    retry_after: Option<Duration>,
}

impl Drop for Reading {
    fn drop(&mut self) {
        let mut tenants = lock(&self.lists.tenants);
        let tenant = tenants.entry(std::mem::take(&mut self.tenant)).or_default();
        tenant.is_being_read = false;
        tenant.retry_at = self.retry_after.map(|after| Instant::now() + after);
        tenant.list = self.list.take();
    }
}

impl StudyLists {
    /// The lists, with at most so many bytes together.
    pub(crate) fn new(max_bytes: usize) -> Self {
        Self { max_bytes, tenants: Mutex::default() }
    }

    /// The list of a tenant, and whether the caller must begin to read one.
    fn look_up(&self, tenant: &str, is_remote: bool) -> (Option<Arc<CurrentList>>, bool) {
        if self.max_bytes == 0 {
            return (None, false);
        }
        let mut tenants = lock(&self.tenants);
        let found = tenants.entry(tenant.to_owned()).or_default();
        found.used_at = Some(Instant::now());
        let is_wanted = match &found.list {
            Some(list) => is_remote && list.read_at.elapsed() > MAX_AGE,
            None => found.retry_at.is_none_or(|at| at <= Instant::now()),
        };
        let begins = is_wanted && !found.is_being_read;
        found.is_being_read |= begins;
        (found.list.clone(), begins)
    }

    /// Whether there is a list of a tenant.
    #[cfg(test)]
    pub(crate) fn has_list(&self, tenant: &str) -> bool {
        lock(&self.tenants).get(tenant).is_some_and(|found| found.list.is_some())
    }

    /// Drops a list that cannot be brought up to date.
    fn drop_list(&self, tenant: &str, list: &Arc<CurrentList>) {
        if let Some(found) = lock(&self.tenants).get_mut(tenant)
            && found.list.as_ref().is_some_and(|known| Arc::ptr_eq(known, list))
        {
            found.list = None;
        }
    }

    /// Drops the lists that were used last the longest time ago, until the others are within the limit.
    fn make_room(&self) {
        let mut tenants = lock(&self.tenants);
        let mut lists: Vec<(Option<Instant>, String, usize)> = Vec::new();
        for (name, tenant) in tenants.iter() {
            let bytes = tenant.list.as_ref().map(|list| list.studies.size_bytes());
            lists.extend(bytes.map(|bytes| (tenant.used_at, name.clone(), bytes)));
        }
        lists.sort();
        let mut total: usize = lists.iter().map(|(_, _, bytes)| bytes).sum();
        for (_, name, bytes) in lists {
            if total <= self.max_bytes {
                return;
            }
            if let Some(tenant) = tenants.get_mut(&name) {
                let is_too_large = bytes > self.max_bytes;
                tenant.list = None;
                tenant.retry_at = is_too_large.then(|| Instant::now() + RETRY_TOO_LARGE);
            }
            total -= bytes;
        }
    }
}

impl Index {
    /// Sets the maximum bytes of the lists of studies in memory; 0 for none.
    #[must_use]
    pub fn with_list_memory(self, max_bytes: usize) -> Self {
        Self { lists: Arc::new(StudyLists::new(max_bytes)), ..self }
    }

    /// The list of a tenant's studies, brought up to date. `None` while there is none; reading one then
    /// begins, if there is memory for it.
    pub(crate) async fn study_list(&self, tenant: &str) -> Option<Arc<CurrentList>> {
        let list = self.begin_study_list(tenant)?;
        match self.bring_up_to_date(tenant, &list).await {
            Ok(true) => return Some(list),
            Ok(false) => {}
            Err(error) => {
                let error = telemetry::chain(&error);
                tracing::warn!(error, "cannot bring the list of studies in memory up to date");
            }
        }
        self.lists.drop_list(tenant, &list);
        self.begin_study_list(tenant);
        None
    }

    /// The list of a tenant's studies as it was last. Begins to read one if there is none.
    pub(crate) fn begin_study_list(&self, tenant: &str) -> Option<Arc<CurrentList>> {
        let (list, begins) = self.lists.look_up(tenant, self.is_remote());
        if begins {
            let (index, tenant) = (self.clone(), tenant.to_owned());
            tokio::spawn(async move { index.load_study_list(tenant).await });
        }
        list
    }

    /// Reads the list of a tenant's studies.
    pub(crate) async fn load_study_list(&self, tenant: String) {
        let lists = self.lists.clone();
        let mut reading = Reading { lists, tenant, list: None, retry_after: Some(RETRY_FAILED) };
        match self.read_study_list(&reading.tenant).await {
            Ok(Some(list)) => (reading.list, reading.retry_after) = (Some(Arc::new(list)), None),
            Ok(None) => reading.retry_after = Some(RETRY_TOO_LARGE),
            Err(error) => {
                let error = telemetry::chain(&error);
                tracing::warn!(error, "cannot read the list of studies into memory");
            }
        }
        drop(reading);
        self.lists.make_room();
    }

    /// Reads the list of a tenant's studies; `None` if it takes too much memory.
    async fn read_study_list(&self, tenant: &str) -> Result<Option<CurrentList>, Error> {
        let bell = self.change_bell(tenant);
        // What changes from here on is brought up to date before the list is used.
        let cursor = self.end_of_changes(tenant).await?;
        if self.is_remote() {
            tokio::time::sleep(SETTLING).await;
        }
        let mut range = whole_partition(Some(Secondary::First), keys::studies(tenant), PAGE_KEYS);
        let (mut studies, mut bytes) = (Vec::new(), 0);
        loop {
            let page = self.table.sort_keys(&range).await?;
            let last = page.keys.last().cloned();
            let keys = self.with_values(tenant, page.keys).await?;
            let read = threads::run(move || keys.into_iter().map(ListedStudy::new).collect::<Vec<_>>());
            let read = read.await.map_err(|_| Error::Interrupted)?;
            bytes += read.iter().map(ListedStudy::size_bytes).sum::<usize>();
            if bytes > self.lists.max_bytes {
                return Ok(None);
            }
            studies.extend(read);
            match last {
                Some(last) if page.has_more => range.from = Bound::Excluded(last),
                _ => break,
            }
        }
        let looked_at = Instant::now();
        let progress = ListProgress { cursor, bell, looked_at, is_first: true };
        let (studies, read_at) = (StudyList::new(studies), Instant::now());
        Ok(Some(CurrentList { studies, read_at, progress: AsyncMutex::new(progress) }))
    }

    /// Sort keys, with those of an older version, which are places alone, made anew of the records.
    async fn with_values(&self, tenant: &str, mut keys: Vec<String>) -> Result<Vec<String>, Error> {
        let mut old: HashMap<StudyUid, usize> = HashMap::new();
        for (number, sort) in keys.iter().enumerate().filter(|(_, sort)| !listing::has_values(sort)) {
            old.extend(keys::study_of(sort).map(|study| (study, number)));
        }
        let studies: Vec<StudyUid> = old.keys().cloned().collect();
        for batch in studies.chunks(MAX_BATCH) {
            for record in self.study_records(tenant, batch).await?.into_iter().flatten() {
                let Some(sort) = old.get(&record.study).and_then(|number| keys.get_mut(*number)) else {
                    continue;
                };
                // A study that has moved is brought up to date with what has changed meanwhile.
                if keys::order(&record) == *sort {
                    *sort = listing::sort_key(&record);
                }
            }
        }
        Ok(keys)
    }

    /// Brings a list up to date. Returns false if that is not possible.
    async fn bring_up_to_date(&self, tenant: &str, list: &CurrentList) -> Result<bool, Error> {
        let mut progress = list.progress.lock().await;
        let is_fresh = self.is_remote() && !progress.is_first && progress.looked_at.elapsed() < FRESH;
        if is_fresh && !progress.bell.has_changed().unwrap_or(true) {
            return Ok(true);
        }
        progress.bell.mark_unchanged();
        let began = Instant::now();
        for _ in 0..MAX_READS {
            let Some(changed) = self.changed_studies(tenant, &progress.cursor).await? else {
                return Ok(false);
            };
            let has_changes = !changed.studies.is_empty();
            let studies: Vec<(StudyUid, bool)> = changed.studies.into_iter().collect();
            for batch in studies.chunks(MAX_BATCH) {
                let uids: Vec<StudyUid> = batch.iter().map(|(study, _)| study.clone()).collect();
                let records = self.study_records(tenant, &uids).await?;
                let changes = records.into_iter().zip(batch).map(|(record, (study, is_new))| StudyChange {
                    study: study.clone(),
                    listed: record.map(|record| ListedStudy::new(listing::sort_key(&record))),
                    is_new: *is_new && !progress.is_first,
                });
                list.studies.apply(changes.collect());
            }
            progress.cursor = changed.next;
            if !changed.has_more {
                (progress.is_first, progress.looked_at) = (false, began);
                if has_changes {
                    self.lists.make_room();
                }
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn study_records(
        &self,
        tenant: &str,
        studies: &[StudyUid],
    ) -> Result<Vec<Option<StudyRecord>>, Error> {
        let keys: Vec<ItemKey> = studies.iter().map(|study| keys::study(tenant, study)).collect();
        let items = self.table.get(&keys).await?.into_iter();
        items.map(|item| item.map(|item| rows::decode(&item.key, &item.body)).transpose()).collect()
    }
}
