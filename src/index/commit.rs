//! The moment at which an instance comes to exist.
//!
//! Commits of one study change the same rows, so those that wait at the same time go into one transaction: a task
//! for each study that has any takes them together, and ends when there are no more. A lone commit waits for nothing.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

use crate::backoff::{Backoff, jitter};
use crate::dicom::uid::{SeriesUid, StudyUid};
use crate::index::draft::Draft;
use crate::index::records::{InstanceRecord, MAX_REPLACED};
use crate::index::rows::{self, Place};
use crate::index::{Error, Index, keys, read};
use crate::table::{self, Expect, Item, ItemKey, MAX_WRITES, Table, Write};

/// What to do with different bytes under a stored SOP Instance UID (setting `ingest.duplicates`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Duplicates {
    /// Refuse them.
    Reject,
    /// Let them take the place of the first.
    Replace,
}

/// What a commit came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Commit {
    /// The instance is stored.
    Stored,
    /// These very bytes were stored before; nothing changed.
    Same {
        /// The name of the object that holds them.
        object: String,
    },
    /// It took the place of another object.
    Replaced {
        /// The name of the object that gave way.
        object: String,
    },
    /// Other bytes are stored under its UID; nothing changed.
    Different,
    /// Its UID is stored in another study or series; nothing changed.
    Elsewhere,
}

/// Writes of a transaction besides those of instances and series: the study, the tenant, what is left to be deleted.
pub(crate) const SPARE_WRITES: usize = 3;
/// Bytes of rows in one transaction (see [`table::MAX_TRANSACTION_BYTES`]); studies, series and places come on top. An
/// instance that is larger goes alone, after the rows that continue it.
const MAX_BATCH_BYTES: usize = 3 * 1024 * 1024;
/// How long a transaction that meets those of other processes is tried.
const MAX_PATIENCE: Duration = Duration::from_secs(60);
/// The wait after an attempt is at most so many times twice as long as the attempt was, and within these bounds.
const MAX_DOUBLINGS: u32 = 3;
const MIN_WAIT: Duration = Duration::from_millis(2);
const MAX_WAIT: Duration = Duration::from_secs(1);

/// The commits that wait, by tenant and study. A study that is here has a task at work.
#[derive(Default)]
pub(crate) struct Waiting {
    queues: Mutex<HashMap<(String, StudyUid), VecDeque<Request>>>,
    known_tenants: Mutex<HashSet<String>>,
}

struct Request {
    record: InstanceRecord,
    rows: Vec<Item>,
    duplicates: Duplicates,
    preview_due: Option<i64>,
    answer: oneshot::Sender<Result<Commit, Error>>,
}

impl Request {
    /// Writes that it may need: its rows, its place, its series.
    fn number_of_writes(&self) -> usize {
        self.rows.len() + 2
    }

    fn size_bytes(&self) -> usize {
        size_bytes(&self.rows)
    }
}

impl Index {
    /// Makes an instance exist; when this returns, that is durable and whoever asks for it by its UIDs gets it. Searches
    /// find it as soon as the table's secondary indexes do. All or nothing; repeating it is safe. Once begun it goes on
    /// even if the caller stops waiting.
    ///
    /// A record that names the stored object as replaced takes its place, even with the same bytes: they were lost.
    ///
    /// `preview_due` is when the preview of its series is to be made, in milliseconds since 1970 UTC.
    ///
    /// # Errors
    /// [`Error::TooLarge`] for a record that no transaction can hold; [`Error::Table`] if the table failed, with
    /// [`table::Error::Conflict`] after a minute of attempts against other processes.
    pub async fn commit(
        &self,
        tenant: &str,
        record: InstanceRecord,
        duplicates: Duplicates,
        preview_due: Option<i64>,
    ) -> Result<Commit, Error> {
        let key = keys::instance(tenant, &record.study, &record.series, &record.instance);
        let rows = rows::encode_instance(key, &record)?;
        let group = (tenant.to_owned(), record.study.clone());
        let (answer, outcome) = oneshot::channel();
        let request = Request { record, rows, duplicates, preview_due, answer };
        if request.number_of_writes() + SPARE_WRITES > MAX_WRITES {
            return Err(Error::TooLarge { size_bytes: request.size_bytes() });
        }
        let is_first = match lock(&self.waiting.queues).entry(group.clone()) {
            Entry::Occupied(mut queue) => {
                queue.get_mut().push_back(request);
                false
            }
            Entry::Vacant(place) => {
                place.insert(VecDeque::from([request]));
                true
            }
        };
        if is_first {
            tokio::spawn(work(Work {
                table: self.table.clone(),
                waiting: self.waiting.clone(),
                group,
                is_over: false,
            }));
        }
        outcome.await.unwrap_or(Err(Error::Interrupted))
    }
}

/// A task's work: the commits of one study. Whatever ends it, nobody waits for ever.
struct Work {
    table: Arc<dyn Table>,
    waiting: Arc<Waiting>,
    group: (String, StudyUid),
    /// Whether the queue was taken away with its last request; another task may own the study by then.
    is_over: bool,
}

impl Drop for Work {
    fn drop(&mut self) {
        if !self.is_over {
            lock(&self.waiting.queues).remove(&self.group);
        }
    }
}

async fn work(mut work: Work) {
    while let Some(batch) = next_batch(&mut work) {
        match commit_batch(&work, &batch).await {
            Ok(outcomes) => {
                for (request, outcome) in batch.into_iter().zip(outcomes) {
                    // Whoever asked may have gone.
                    let _ = request.answer.send(Ok(outcome));
                }
            }
            Err(error) => {
                for request in batch {
                    let _ = request.answer.send(Err(error.repeated()));
                }
            }
        }
    }
}

/// Takes the requests that fit one transaction, each UID once; `None`, and the end of the queue, if none wait.
fn next_batch(work: &mut Work) -> Option<Vec<Request>> {
    let mut queues = lock(&work.waiting.queues);
    let queue = queues.get_mut(&work.group)?;
    let mut uids = HashSet::new();
    let (mut writes, mut bytes) = (SPARE_WRITES, 0);
    let mut batch = Vec::new();
    while let Some(request) = queue.front() {
        writes += request.number_of_writes();
        bytes += request.size_bytes();
        let fits = writes <= MAX_WRITES && bytes <= MAX_BATCH_BYTES;
        if !batch.is_empty() && (!fits || uids.contains(&request.record.instance)) {
            break;
        }
        uids.insert(request.record.instance.clone());
        batch.extend(queue.pop_front());
    }
    if batch.is_empty() {
        queues.remove(&work.group);
        work.is_over = true;
        return None;
    }
    Some(batch)
}

async fn commit_batch(work: &Work, batch: &[Request]) -> Result<Vec<Commit>, Error> {
    let mut attempts = Attempts::default();
    loop {
        let outcome = try_commit(work, batch).await;
        if !attempts.again(is_conflict(&outcome)).await {
            if attempts.count > 0
                && let Ok(outcomes) = &outcome
            {
                sweep(work.table.as_ref(), written_in_vain(batch, outcomes)).await;
            }
            return outcome;
        }
    }
}

async fn try_commit(work: &Work, batch: &[Request]) -> Result<Vec<Commit>, Error> {
    let (table, (tenant, study)) = (work.table.as_ref(), &work.group);
    let series: BTreeSet<&SeriesUid> = batch.iter().map(|request| &request.record.series).collect();
    let mut wanted = vec![keys::study(tenant, study)];
    wanted.extend(series.iter().map(|series| keys::series(tenant, study, series)));
    wanted.extend(batch.iter().map(|request| keys::place(tenant, &request.record.instance)));
    let mut items = table.get(&wanted).await?.into_iter();
    let study_row = items.next().flatten();
    let series_rows: BTreeMap<SeriesUid, Option<Item>> =
        series.into_iter().cloned().zip(items.by_ref()).collect();
    let mut draft = Draft::new(tenant, now(), study_row, series_rows)?;
    let (mut outcomes, mut writes, mut leftovers) = (Vec::new(), Vec::new(), Vec::new());
    for (request, place) in batch.iter().zip(items) {
        let outcome = judge(request, place.as_ref())?;
        let mut rows = Vec::new();
        match outcome {
            Commit::Stored => {
                draft.add(&request.record, request.preview_due, false);
                rows.clone_from(&request.rows);
            }
            Commit::Replaced { .. } => {
                let replaced = replaced(table, tenant, request).await?;
                leftovers.extend(replaced.leftovers);
                if let Some(record) = &replaced.record {
                    draft.subtract(record);
                }
                draft.add(&request.record, request.preview_due, true);
                rows = replaced.rows;
            }
            Commit::Same { .. } | Commit::Different | Commit::Elsewhere => {}
        }
        if matches!(outcome, Commit::Stored | Commit::Replaced { .. }) {
            let rows = write_ahead(table, rows).await?;
            writes.extend(rows.into_iter().map(|row| Write::Put(row, Expect::Anything)));
            writes.push(place_write(tenant, &request.record, place)?);
        }
        outcomes.push(outcome);
    }
    if writes.is_empty() {
        return Ok(outcomes);
    }
    writes.extend(draft.into_writes()?);
    transact(work, writes).await?;
    sweep(table, leftovers).await;
    Ok(outcomes)
}

/// What a request comes to, given the row that says where its UID is.
fn judge(request: &Request, place: Option<&Item>) -> Result<Commit, Error> {
    let Some(item) = place else { return Ok(Commit::Stored) };
    let place: Place = rows::decode(&item.key, &item.body)?;
    let record = &request.record;
    let object = place.object_name().to_owned();
    let is_lost = record.replaced.contains(&object);
    Ok(if place.study != record.study || place.series != record.series {
        Commit::Elsewhere
    } else if place.digest == record.digest && !is_lost {
        Commit::Same { object }
    } else if place.digest != record.digest && request.duplicates == Duplicates::Reject {
        Commit::Different
    } else {
        Commit::Replaced { object }
    })
}

/// An instance that gives way to another.
struct Replaced {
    record: Option<InstanceRecord>,
    /// The rows that continued its record.
    leftovers: Vec<ItemKey>,
    /// The rows of the one that takes its place, which names its objects.
    rows: Vec<Item>,
}

async fn replaced(table: &dyn Table, tenant: &str, request: &Request) -> Result<Replaced, Error> {
    let key = keys::instance(tenant, &request.record.study, &request.record.series, &request.record.instance);
    let Some(row) = table.get(std::slice::from_ref(&key)).await?.pop().flatten() else {
        return Ok(Replaced { record: None, leftovers: Vec::new(), rows: request.rows.clone() });
    };
    let mut leftovers = rows::continuations(&row)?;
    // A record that changes while it is read makes the transaction fail and be tried again.
    let Some(old) = read::whole::<InstanceRecord>(table, row).await? else {
        return Err(table::Error::Conflict(0).into());
    };
    let mut new = request.record.clone();
    new.replaced = [old.object_name().to_owned()].into_iter().chain(old.replaced.iter().cloned()).collect();
    new.replaced.truncate(MAX_REPLACED);
    let rows = rows::encode_instance(key, &new)?;
    // Where the same bytes are stored anew, rows of the same names are written.
    leftovers.retain(|leftover| rows.iter().all(|row| row.key != *leftover));
    Ok(Replaced { record: Some(old), leftovers, rows })
}

fn place_write(tenant: &str, record: &InstanceRecord, found: Option<Item>) -> Result<Write, Error> {
    let key = keys::place(tenant, &record.instance);
    let place = Place {
        study: record.study.clone(),
        series: record.series.clone(),
        digest: record.digest.clone(),
        object: record.object.clone(),
    };
    let body = rows::encode(&key, &place)?;
    let (version, expect) = match found {
        Some(item) => (item.version + 1, Expect::Version(item.version)),
        None => (1, Expect::Absent),
    };
    Ok(Write::Put(Item { key, version, secondary: Vec::new(), body }, expect))
}

/// Carries a transaction out, with the tenant's own row the first time that this process writes for it.
async fn transact(work: &Work, mut writes: Vec<Write>) -> Result<(), Error> {
    let tenant = &work.group.0;
    let is_known = lock(&work.waiting.known_tenants).contains(tenant);
    if !is_known {
        let key = keys::tenant(tenant);
        writes.push(Write::Put(
            Item { key, version: 1, secondary: Vec::new(), body: Vec::new() },
            Expect::Anything,
        ));
    }
    work.table.transact(writes).await?;
    if !is_known {
        lock(&work.waiting.known_tenants).insert(tenant.clone());
    }
    Ok(())
}

/// Writes the rows that continue a record too large for one transaction; the others, that are left for it. Until then
/// nothing refers to them, and nobody else's have the same keys.
async fn write_ahead(table: &dyn Table, rows: Vec<Item>) -> Result<Vec<Item>, Error> {
    if size_bytes(&rows) <= MAX_BATCH_BYTES {
        return Ok(rows);
    }
    let mut rows = rows.into_iter();
    let own = rows.by_ref().take(1).collect();
    for row in rows {
        table.transact(vec![Write::Put(row, Expect::Anything)]).await?;
    }
    Ok(own)
}

/// The rows that an attempt before the last one may have written ahead, of instances that were not stored.
fn written_in_vain(batch: &[Request], outcomes: &[Commit]) -> Vec<ItemKey> {
    let is_in_vain = |request: &Request, outcome: &Commit| match outcome {
        Commit::Stored | Commit::Replaced { .. } => false,
        Commit::Same { object } => object != request.record.object_name(),
        Commit::Different | Commit::Elsewhere => true,
    };
    let in_vain = batch
        .iter()
        .zip(outcomes)
        .filter(|(request, outcome)| request.size_bytes() > MAX_BATCH_BYTES && is_in_vain(request, outcome));
    in_vain.flat_map(|(request, _)| request.rows.iter().skip(1).map(|row| row.key.clone())).collect()
}

fn size_bytes(rows: &[Item]) -> usize {
    rows.iter().map(|row| row.body.len()).sum()
}

/// Deletes rows that nothing refers to any more; where that fails they only take room.
async fn sweep(table: &dyn Table, leftovers: Vec<ItemKey>) {
    for keys in leftovers.chunks(MAX_WRITES) {
        let writes = keys.iter().map(|key| Write::Delete(key.clone(), Expect::Anything)).collect();
        if let Err(error) = table.transact(writes).await {
            tracing::warn!(error = %error, "cannot delete {} rows of replaced instances", keys.len());
        }
    }
}

/// Attempts at a transaction that others', of other processes mostly, may come before.
pub(crate) struct Attempts {
    first: Instant,
    last: Instant,
    count: u32,
}

impl Default for Attempts {
    fn default() -> Self {
        let now = Instant::now();
        Self { first: now, last: now, count: 0 }
    }
}

impl Attempts {
    /// Whether to try again; waits before it says so, longer each time, and not as long as others do.
    ///
    /// How long an attempt takes tells how long those of others take: some must go first, and a transaction that fails
    /// may cost as much as one that succeeds.
    pub(crate) async fn again(&mut self, is_conflict: bool) -> bool {
        if !is_conflict || self.first.elapsed() >= MAX_PATIENCE {
            return false;
        }
        self.count += 1;
        let backoff = Backoff::new(self.last.elapsed() * 2, MAX_WAIT);
        sleep(jitter(backoff.limit(self.count.min(MAX_DOUBLINGS)).max(MIN_WAIT))).await;
        self.last = Instant::now();
        true
    }
}

pub(crate) fn is_conflict<T>(outcome: &Result<T, Error>) -> bool {
    matches!(outcome, Err(Error::Table(table::Error::Conflict(_))))
}

/// Milliseconds since 1970 UTC.
pub(crate) fn now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// What the lock guards is whole between any two statements, so that a panic elsewhere does not spoil it.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
