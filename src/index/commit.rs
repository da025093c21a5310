//! Commits: the transactions that make instances exist.
//!
//! Commits of one study change the same rows, so commits that are queued at the same time share a
//! transaction. Each study with queued commits has a task, which ends when the queue is empty. A single
//! commit starts at once.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

use crate::clock::now_millis;
use crate::config::Duplicates;
use crate::dicom::uid::{SeriesUid, StudyUid};
use crate::index::conflict::ConflictRetries;
use crate::index::records::{InstanceRecord, MAX_REPLACED};
use crate::index::rows::{self, InstanceLocation};
use crate::index::study_update::StudyUpdate;
use crate::index::{Error, Index, counts, keys, read};
use crate::table::{self, Expect, Item, ItemKey, MAX_WRITES, Table, Write};

/// The outcome of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommitOutcome {
    /// The instance is stored.
    Stored,
    /// The same bytes were stored before; nothing changed.
    AlreadyStored {
        /// The name of the object with these bytes.
        object: String,
    },
    /// The instance is stored in place of another object.
    Replaced {
        /// The name of the replaced object.
        object: String,
    },
    /// Other bytes are stored under the SOP Instance UID; nothing changed.
    DifferentBytes,
    /// The SOP Instance UID is stored in another study or series; nothing changed.
    OtherSeries,
}

/// The number of writes in a transaction besides those of instances and series: the study, the tenant, the
/// entry of the deletion queue, the counters of two days.
pub(crate) const SPARE_WRITES: usize = 5;
/// The maximum bytes of instances' rows in one transaction, below [`table::MAX_TRANSACTION_BYTES`] to leave
/// space for the other rows. A larger instance has a transaction of its own, and its continuation rows are
/// written before.
const MAX_BATCH_BYTES: usize = 3 * 1024 * 1024;

/// The queued commits.
#[derive(Default)]
pub(crate) struct CommitQueues {
    /// A queue for each tenant and study with a running task.
    queues: Mutex<HashMap<(String, StudyUid), VecDeque<CommitRequest>>>,
    /// The tenants whose rows this process has read or written.
    known_tenants: Mutex<HashSet<String>>,
}

struct CommitRequest {
    record: InstanceRecord,
    rows: Vec<Item>,
    duplicates: Duplicates,
    preview_due: Option<i64>,
    answer: oneshot::Sender<Result<CommitOutcome, Error>>,
}

impl CommitRequest {
    /// The maximum number of writes for the instance: its rows, its location, its series.
    fn number_of_writes(&self) -> usize {
        self.rows.len() + 2
    }

    fn size_bytes(&self) -> usize {
        size_bytes(&self.rows)
    }
}

impl Index {
    /// Commits an instance. When this returns, the change is durable, and reads by UID find the instance;
    /// searches find it as soon as the table's secondary indexes do. A commit changes everything or nothing
    /// and may be repeated. It continues if the caller drops the future.
    ///
    /// If the record names the stored object in [`InstanceRecord::replaced`], the stored object is lost, and
    /// the record replaces it even if the bytes are the same.
    ///
    /// `preview_due` is the time from which the preview of the series may be made, in milliseconds since 1970
    /// UTC; `None` if no preview is wanted.
    ///
    /// # Errors
    /// [`Error::TooLarge`] if no transaction can hold the record; [`Error::Table`] if the table fails, with
    /// [`table::Error::Conflict`] after a minute of conflicts with other processes.
    pub async fn commit(
        &self,
        tenant: &str,
        record: InstanceRecord,
        duplicates: Duplicates,
        preview_due: Option<i64>,
    ) -> Result<CommitOutcome, Error> {
        let key = keys::instance(tenant, &record.study, &record.series, &record.instance);
        let rows = rows::encode_instance(key, &record)?;
        let group = (tenant.to_owned(), record.study.clone());
        let (answer, outcome) = oneshot::channel();
        let request = CommitRequest { record, rows, duplicates, preview_due, answer };
        if request.number_of_writes() + SPARE_WRITES > MAX_WRITES {
            return Err(Error::TooLarge { size_bytes: request.size_bytes() });
        }
        let is_first = match lock(&self.commits.queues).entry(group.clone()) {
            Entry::Occupied(mut queue) => {
                queue.get_mut().push_back(request);
                false
            }
            Entry::Vacant(entry) => {
                entry.insert(VecDeque::from([request]));
                true
            }
        };
        if is_first {
            tokio::spawn(run(CommitTask {
                table: self.table.clone(),
                commits: self.commits.clone(),
                group,
                is_finished: false,
            }));
        }
        outcome.await.unwrap_or(Err(Error::Interrupted))
    }
}

/// A task that commits the queued requests of one study. Dropping the task, also by a panic, ends all of
/// them.
struct CommitTask {
    table: Arc<dyn Table>,
    commits: Arc<CommitQueues>,
    group: (String, StudyUid),
    /// Whether the queue was removed because it was empty; another task may own the study by then.
    is_finished: bool,
}

impl Drop for CommitTask {
    fn drop(&mut self) {
        if !self.is_finished {
            lock(&self.commits.queues).remove(&self.group);
        }
    }
}

async fn run(mut task: CommitTask) {
    while let Some(batch) = next_batch(&mut task) {
        match commit_batch(&task, &batch).await {
            Ok(outcomes) => {
                for (request, outcome) in batch.into_iter().zip(outcomes) {
                    // The caller may have dropped its future.
                    let _ = request.answer.send(Ok(outcome));
                }
            }
            Err(error) => {
                let shared = error.shared();
                for request in batch {
                    let _ = request.answer.send(Err(shared()));
                }
            }
        }
    }
}

/// Takes the next requests that fit in one transaction from the queue, each SOP Instance UID once. Removes
/// the queue and returns `None` if it is empty.
fn next_batch(task: &mut CommitTask) -> Option<Vec<CommitRequest>> {
    let mut queues = lock(&task.commits.queues);
    let queue = queues.get_mut(&task.group)?;
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
        queues.remove(&task.group);
        task.is_finished = true;
        return None;
    }
    Some(batch)
}

/// Commits requests in one transaction, which is retried on conflicts.
async fn commit_batch(task: &CommitTask, batch: &[CommitRequest]) -> Result<Vec<CommitOutcome>, Error> {
    let mut retries = ConflictRetries::default();
    loop {
        let outcome = try_commit(task, batch).await;
        if !retries.should_retry(&outcome).await {
            if retries.count > 0
                && let Ok(outcomes) = &outcome
            {
                delete_rows(task.table.as_ref(), abandoned_rows(batch, outcomes)).await;
            }
            return outcome;
        }
    }
}

/// Attempts to commit requests in one transaction.
async fn try_commit(task: &CommitTask, batch: &[CommitRequest]) -> Result<Vec<CommitOutcome>, Error> {
    let (table, (tenant, study)) = (task.table.as_ref(), &task.group);
    let series: BTreeSet<&SeriesUid> = batch.iter().map(|request| &request.record.series).collect();
    let mut row_keys = vec![keys::study(tenant, study)];
    row_keys.extend(series.iter().map(|series| keys::series(tenant, study, series)));
    row_keys.extend(batch.iter().map(|request| keys::location(tenant, &request.record.instance)));
    let is_tenant_known = lock(&task.commits.known_tenants).contains(tenant);
    if !is_tenant_known {
        row_keys.push(keys::tenant(tenant));
    }
    let mut items = table.get(&row_keys).await?.into_iter();
    let study_row = items.next().flatten();
    let series_rows: BTreeMap<SeriesUid, Option<Item>> =
        series.into_iter().cloned().zip(items.by_ref()).collect();
    let mut update = StudyUpdate::new(tenant, now_millis(), study_row, series_rows)?;
    let (mut outcomes, mut writes, mut obsolete) = (Vec::new(), Vec::new(), Vec::new());
    for (request, location) in batch.iter().zip(items.by_ref()) {
        let outcome = resolve(request, location.as_ref())?;
        let mut rows = Vec::new();
        match outcome {
            CommitOutcome::Stored => {
                update.add(&request.record, request.preview_due, false);
                rows.clone_from(&request.rows);
            }
            CommitOutcome::Replaced { .. } => {
                let replacement = replacement(table, tenant, request).await?;
                obsolete.extend(replacement.obsolete);
                if let Some(record) = &replacement.old {
                    update.subtract(record);
                }
                update.add(&request.record, request.preview_due, true);
                rows = replacement.rows;
            }
            CommitOutcome::AlreadyStored { .. }
            | CommitOutcome::DifferentBytes
            | CommitOutcome::OtherSeries => {}
        }
        if matches!(outcome, CommitOutcome::Stored | CommitOutcome::Replaced { .. }) {
            let rows = write_continuations(table, rows).await?;
            writes.extend(rows.into_iter().map(|row| Write::Put(row, Expect::Anything)));
            writes.push(location_write(tenant, &request.record, location)?);
        }
        outcomes.push(outcome);
    }
    if writes.is_empty() {
        return Ok(outcomes);
    }
    writes.extend(update.into_writes()?);
    let is_tenant_new = !is_tenant_known && items.next().flatten().is_none();
    if is_tenant_new {
        writes.push(Write::Put(counts::tenant_row(tenant), Expect::Absent));
    }
    table.transact(writes).await?;
    lock(&task.commits.known_tenants).insert(tenant.clone());
    delete_rows(table, obsolete).await;
    Ok(outcomes)
}

/// Determines the outcome of a request from the row with the location of its instance.
fn resolve(request: &CommitRequest, location: Option<&Item>) -> Result<CommitOutcome, Error> {
    let Some(item) = location else { return Ok(CommitOutcome::Stored) };
    let location: InstanceLocation = rows::decode(&item.key, &item.body)?;
    let record = &request.record;
    let object = location.object;
    let is_lost = record.replaced.contains(&object);
    Ok(if location.study != record.study || location.series != record.series {
        CommitOutcome::OtherSeries
    } else if location.digest == record.digest && !is_lost {
        CommitOutcome::AlreadyStored { object }
    } else if location.digest != record.digest && request.duplicates == Duplicates::Reject {
        CommitOutcome::DifferentBytes
    } else {
        CommitOutcome::Replaced { object }
    })
}

/// The replacement of an instance by another one of the same UID.
struct Replacement {
    /// The record of the old instance.
    old: Option<InstanceRecord>,
    /// The continuation rows of the old record, to be deleted.
    obsolete: Vec<ItemKey>,
    /// The rows of the new record, which names the replaced objects.
    rows: Vec<Item>,
}

async fn replacement(table: &dyn Table, tenant: &str, request: &CommitRequest) -> Result<Replacement, Error> {
    let key = keys::instance(tenant, &request.record.study, &request.record.series, &request.record.instance);
    let Some(row) = table.get(std::slice::from_ref(&key)).await?.pop().flatten() else {
        return Ok(Replacement { old: None, obsolete: Vec::new(), rows: request.rows.clone() });
    };
    let mut obsolete = rows::continuation_keys(&row)?;
    // If the record changes while it is read, the transaction is retried.
    let Some(old) = read::read_record::<InstanceRecord>(table, row).await? else {
        return Err(table::Error::Conflict(0).into());
    };
    let mut new = request.record.clone();
    new.replaced = [old.object.clone()].into_iter().chain(old.replaced.iter().cloned()).collect();
    new.replaced.truncate(MAX_REPLACED);
    let rows = rows::encode_instance(key, &new)?;
    // Rows that the new record has under the same keys must stay.
    obsolete.retain(|key| rows.iter().all(|row| row.key != *key));
    Ok(Replacement { old: Some(old), obsolete, rows })
}

/// The write of the row with the location of an instance, which was read as `found`.
fn location_write(tenant: &str, record: &InstanceRecord, found: Option<Item>) -> Result<Write, Error> {
    let key = keys::location(tenant, &record.instance);
    let location = InstanceLocation {
        study: record.study.clone(),
        series: record.series.clone(),
        digest: record.digest.clone(),
        object: record.object.clone(),
    };
    let body = rows::encode(&key, &location)?;
    let (version, expect) = match found {
        Some(item) => (item.version + 1, Expect::Version(item.version)),
        None => (1, Expect::Absent),
    };
    Ok(Write::Put(Item { key, version, secondary: Vec::new(), body }, expect))
}

/// Writes the continuation rows of a record that is too large for one transaction, and returns the rows that
/// are left for the transaction. No row refers to the continuation rows before the transaction, and their
/// keys are unique.
async fn write_continuations(table: &dyn Table, rows: Vec<Item>) -> Result<Vec<Item>, Error> {
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

/// The continuation rows that earlier attempts may have written for instances that were not stored in the
/// end.
fn abandoned_rows(batch: &[CommitRequest], outcomes: &[CommitOutcome]) -> Vec<ItemKey> {
    let is_abandoned = |request: &CommitRequest, outcome: &CommitOutcome| match outcome {
        CommitOutcome::Stored | CommitOutcome::Replaced { .. } => false,
        CommitOutcome::AlreadyStored { object } => *object != request.record.object,
        CommitOutcome::DifferentBytes | CommitOutcome::OtherSeries => true,
    };
    let abandoned = batch.iter().zip(outcomes).filter(|(request, outcome)| {
        request.size_bytes() > MAX_BATCH_BYTES && is_abandoned(request, outcome)
    });
    abandoned.flat_map(|(request, _)| request.rows.iter().skip(1).map(|row| row.key.clone())).collect()
}

fn size_bytes(rows: &[Item]) -> usize {
    rows.iter().map(|row| row.body.len()).sum()
}

/// Deletes rows that no other row refers to. An error is only logged, because such rows do no harm.
async fn delete_rows(table: &dyn Table, obsolete: Vec<ItemKey>) {
    for keys in obsolete.chunks(MAX_WRITES) {
        let writes = keys.iter().map(|key| Write::Delete(key.clone(), Expect::Anything)).collect();
        if let Err(error) = table.transact(writes).await {
            tracing::warn!(error = %error, "cannot delete {} rows of replaced instances", keys.len());
        }
    }
}

/// Locks a mutex. Each statement leaves the guarded value valid, so a lock that a panic poisoned may still be
/// used.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
