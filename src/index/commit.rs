//! Commits: the transactions that make instances exist.
//!
//! Commits of one study change the same rows, so commits that are queued at the same time share a
//! transaction. Each study with queued commits has a task, which ends when the queue is empty. A single
//! commit starts at once.
//!
//! Over a remote table, most commits are one request (docs/decisions/0114): the record is written before, the
//! rows of the study and the series are those that the commit before has written, and the caller has looked
//! for a duplicate. The conditions of the transaction verify all of this.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex};

use tokio::sync::oneshot;

use crate::clock::now_millis;
use crate::config::Duplicates;
use crate::dicom::uid::{InstanceUid, SeriesUid, StudyUid};
use crate::index::change_log::ChangeLog;
use crate::index::changes::{self, Change, ChangeKind};
use crate::index::conflict::{ConflictRetries, is_conflict};
use crate::index::heads::WrittenHeads;
use crate::index::prepare::{
    MAX_BATCH_BYTES, PreparedRecord, SPARE_WRITES, delete_rows, encode, write_ahead,
};
use crate::index::records::{InstanceRecord, MAX_REPLACED};
use crate::index::rows::{self, InstanceLocation};
use crate::index::study_update::StudyUpdate;
use crate::index::{Error, Index, counts, keys, lock, read, usage};
use crate::table::{self, Expect, Item, ItemKey, MAX_WRITES, Table, Write};
use crate::threads;

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

/// The queued commits.
#[derive(Default)]
pub(crate) struct CommitQueues {
    /// A queue for each tenant and study with a running task.
    queues: Mutex<HashMap<(String, StudyUid), VecDeque<CommitRequest>>>,
    /// The tenants whose rows this process has read or written.
    known_tenants: Mutex<HashSet<String>>,
    /// The rows of studies and series that this process has just written, if the table is remote.
    heads: WrittenHeads,
}

struct CommitRequest {
    prepared: PreparedRecord,
    duplicates: Duplicates,
    preview_due: Option<i64>,
    answer: oneshot::Sender<Result<CommitOutcome, Error>>,
}

impl CommitRequest {
    fn record(&self) -> &InstanceRecord {
        &self.prepared.record
    }

    /// The maximum number of writes for the instance: its rows, its location, and its series if no instance
    /// before in the transaction is of that series.
    fn number_of_writes(&self, is_of_new_series: bool) -> usize {
        // A record in the own row may need one more row to name the objects that it replaces.
        let may_grow = self.prepared.parts == 0;
        self.prepared.rows.len() + 1 + usize::from(is_of_new_series || may_grow)
    }

    fn size_bytes(&self) -> usize {
        self.prepared.rows.iter().map(|row| row.body.len()).sum()
    }
}

impl Index {
    /// Commits an instance. When this returns, the change is durable, and reads by UID find the instance;
    /// searches find it as soon as the table's secondary indexes do. A commit changes everything or nothing
    /// and may be repeated.
    ///
    /// If the record names the stored object in [`InstanceRecord::replaced`], the stored object is lost, and
    /// the record replaces it even if the bytes are the same, and whatever `duplicates` says.
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
        let prepared = self.prepare(tenant, record).await?;
        self.commit_prepared(prepared, duplicates, preview_due).await
    }

    /// Commits an instance, as [`Index::commit`] does, whose record is prepared. The commit continues if the
    /// caller drops the future.
    ///
    /// # Errors
    /// [`Error::Table`], as there.
    pub async fn commit_prepared(
        &self,
        prepared: PreparedRecord,
        duplicates: Duplicates,
        preview_due: Option<i64>,
    ) -> Result<CommitOutcome, Error> {
        let group = (prepared.tenant.clone(), prepared.record.study.clone());
        let (answer, outcome) = oneshot::channel();
        let request = CommitRequest { prepared, duplicates, preview_due, answer };
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
            let (table, commits, log) = (self.table.clone(), self.commits.clone(), self.log.clone());
            let task = CommitTask { table, commits, log, group, is_finished: false };
            // On a thread that may block, the commit needs no change of threads, and is never dropped.
            if threads::may_block() {
                run_first(task).await;
            } else {
                tokio::spawn(run(task));
            }
        }
        outcome.await.unwrap_or(Err(Error::Interrupted))
    }
}

/// A task that commits the queued requests of one study. Dropping the task, also by a panic, ends all of
/// them.
struct CommitTask {
    table: Arc<dyn Table>,
    commits: Arc<CommitQueues>,
    log: Arc<ChangeLog>,
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
        commit_and_answer(&task, batch).await;
    }
}

/// Commits the first batch of a queue, and leaves the rest to a task: the caller must not wait for commits
/// that came after its own.
async fn run_first(mut task: CommitTask) {
    if let Some(batch) = next_batch(&mut task) {
        commit_and_answer(&task, batch).await;
    }
    if !finish(&mut task) {
        tokio::spawn(run(task));
    }
}

async fn commit_and_answer(task: &CommitTask, batch: Vec<CommitRequest>) {
    match commit_batch(task, &batch).await {
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

/// Removes the queue if it is empty; whether it is removed.
fn finish(task: &mut CommitTask) -> bool {
    let mut queues = lock(&task.commits.queues);
    if queues.get(&task.group).is_some_and(|queue| !queue.is_empty()) {
        return false;
    }
    queues.remove(&task.group);
    task.is_finished = true;
    true
}

/// Takes the next requests that fit in one transaction from the queue, each SOP Instance UID once. Removes
/// the queue and returns `None` if it is empty.
fn next_batch(task: &mut CommitTask) -> Option<Vec<CommitRequest>> {
    let mut queues = lock(&task.commits.queues);
    let queue = queues.get_mut(&task.group)?;
    let (mut uids, mut series) = (HashSet::new(), HashSet::new());
    let (mut writes, mut bytes) = (SPARE_WRITES, 0);
    let mut batch = Vec::new();
    while let Some(request) = queue.front() {
        let record = request.record();
        writes += request.number_of_writes(!series.contains(&record.series));
        bytes += request.size_bytes();
        let fits = writes <= MAX_WRITES && bytes <= MAX_BATCH_BYTES;
        if !batch.is_empty() && (!fits || uids.contains(&record.instance)) {
            break;
        }
        uids.insert(record.instance.clone());
        series.insert(record.series.clone());
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
    let mut rewritten = HashSet::new();
    loop {
        let outcome = try_commit(task, batch, retries.count == 0, &mut rewritten).await;
        if outcome.is_err() {
            let partition = keys::study_partition(&task.group.0, &task.group.1);
            task.commits.heads.forget(&partition, is_conflict(&outcome));
        }
        if !retries.should_retry(&outcome).await {
            if let Ok(outcomes) = &outcome {
                delete_rows(task.table.as_ref(), abandoned_rows(batch, outcomes)).await;
            }
            return outcome;
        }
    }
}

/// The rows that a transaction depends on.
struct BatchRows {
    study: Option<Item>,
    series: BTreeMap<SeriesUid, Option<Item>>,
    locations: HashMap<ItemKey, Item>,
    /// Whether the tenant has no row yet.
    is_tenant_new: bool,
}

/// Reads the rows that a transaction depends on. On the first attempt, rows that are believed to be known are
/// not read.
async fn read_rows(task: &CommitTask, batch: &[CommitRequest], is_first: bool) -> Result<BatchRows, Error> {
    let (table, (tenant, study)) = (task.table.as_ref(), &task.group);
    let series: BTreeSet<&SeriesUid> = batch.iter().map(|request| &request.record().series).collect();
    let mut heads = vec![keys::study(tenant, study)];
    heads.extend(series.iter().map(|series| keys::series(tenant, study, series)));
    let mut found = HashMap::new();
    if is_first && table.is_remote() {
        found = task.commits.heads.get(&heads);
    }
    let mut wanted: Vec<ItemKey> = heads.into_iter().filter(|key| !found.contains_key(key)).collect();
    let unknown = batch.iter().filter(|request| !(is_first && request.prepared.is_new));
    wanted.extend(unknown.map(|request| keys::location(tenant, &request.record().instance)));
    let is_tenant_known = lock(&task.commits.known_tenants).contains(tenant);
    if !is_tenant_known {
        wanted.push(keys::tenant(tenant));
    }
    let is_feed_open = task.log.is_open(tenant);
    if !is_feed_open {
        wanted.push(keys::feed(tenant));
    }
    if !wanted.is_empty() {
        found.extend(table.get(&wanted).await?.into_iter().flatten().map(|row| (row.key.clone(), row)));
    }
    if !is_feed_open {
        task.log.open_with(table, tenant, found.remove(&keys::feed(tenant)).as_ref()).await?;
    }
    let of_series = |series: &SeriesUid| keys::series(tenant, study, series);
    let is_tenant_new = !is_tenant_known && found.remove(&keys::tenant(tenant)).is_none();
    Ok(BatchRows {
        is_tenant_new,
        study: found.remove(&keys::study(tenant, study)),
        series: series.into_iter().map(|uid| (uid.clone(), found.remove(&of_series(uid)))).collect(),
        locations: found,
    })
}

/// Attempts to commit requests in one transaction. `rewritten` are the instances whose separate records were
/// written again by an earlier attempt, as replacements.
async fn try_commit(
    task: &CommitTask,
    batch: &[CommitRequest],
    is_first: bool,
    rewritten: &mut HashSet<InstanceUid>,
) -> Result<Vec<CommitOutcome>, Error> {
    let (table, tenant) = (task.table.as_ref(), &task.group.0);
    let BatchRows { study, series, mut locations, is_tenant_new } = read_rows(task, batch, is_first).await?;
    let mut update = StudyUpdate::new(tenant, now_millis(), study, series)?;
    let (mut outcomes, mut writes, mut obsolete) = (Vec::new(), Vec::new(), Vec::new());
    let mut changes = Vec::new();
    for request in batch {
        let record = request.record();
        let location = locations.remove(&keys::location(tenant, &record.instance));
        let outcome = resolve(request, location.as_ref())?;
        let rows = match outcome {
            CommitOutcome::Stored => {
                update.add(record, request.preview_due, false);
                changes::add(&mut changes, ChangeKind::Stored, record);
                if rewritten.remove(&record.instance) {
                    write_ahead(table, encode(table, tenant, record)?).await?;
                }
                Some((request.prepared.rows.clone(), request.prepared.parts))
            }
            CommitOutcome::Replaced { .. } => {
                rewritten.insert(record.instance.clone());
                let replacement = replacement(table, tenant, request).await?;
                obsolete.extend(replacement.obsolete);
                if let Some(record) = &replacement.old {
                    update.subtract(record);
                }
                update.add(record, request.preview_due, true);
                changes::add(&mut changes, ChangeKind::Replaced, record);
                Some((replacement.rows, replacement.parts))
            }
            CommitOutcome::AlreadyStored { .. }
            | CommitOutcome::DifferentBytes
            | CommitOutcome::OtherSeries => None,
        };
        if let Some((rows, parts)) = rows {
            writes.extend(rows.into_iter().map(|row| Write::Put(row, Expect::Anything)));
            writes.push(location_write(tenant, record, parts, location)?);
        }
        outcomes.push(outcome);
    }
    if writes.is_empty() {
        return Ok(outcomes);
    }
    if is_tenant_new {
        writes.push(Write::Put(counts::tenant_row(tenant), Expect::Absent));
        writes.push(usage::first_head(tenant)?);
    }
    transact(task, writes, update, changes).await?;
    delete_rows(table, obsolete).await;
    Ok(outcomes)
}

/// Determines the outcome of a request from the row with the location of its instance.
fn resolve(request: &CommitRequest, location: Option<&Item>) -> Result<CommitOutcome, Error> {
    let Some(item) = location else { return Ok(CommitOutcome::Stored) };
    let location: InstanceLocation = rows::decode(&item.key, &item.body)?;
    let record = request.record();
    let object = location.object;
    let is_lost = record.replaced.contains(&object);
    Ok(if location.study != record.study || location.series != record.series {
        CommitOutcome::OtherSeries
    } else if location.digest == record.digest && !is_lost {
        CommitOutcome::AlreadyStored { object }
    } else if location.digest != record.digest && request.duplicates == Duplicates::Reject && !is_lost {
        CommitOutcome::DifferentBytes
    } else {
        CommitOutcome::Replaced { object }
    })
}

/// The replacement of an instance by another one of the same UID.
struct Replacement {
    /// The record of the old instance.
    old: Option<InstanceRecord>,
    /// The rows of the old record besides its own, to be deleted.
    obsolete: Vec<ItemKey>,
    /// The rows of the new record, which names the replaced objects, for the transaction.
    rows: Vec<Item>,
    /// As [`InstanceLocation::parts`].
    parts: usize,
}

async fn replacement(table: &dyn Table, tenant: &str, request: &CommitRequest) -> Result<Replacement, Error> {
    let record = request.record();
    let key = keys::instance(tenant, &record.study, &record.series, &record.instance);
    let Some(row) = table.get(std::slice::from_ref(&key)).await?.pop().flatten() else {
        let (rows, parts) = (request.prepared.rows.clone(), request.prepared.parts);
        return Ok(Replacement { old: None, obsolete: Vec::new(), rows, parts });
    };
    let mut obsolete = rows::other_keys(&row)?;
    // If the record changes while it is read, the transaction is retried.
    let Some(old) = read::read_record::<InstanceRecord>(table, row).await? else {
        return Err(table::Error::Conflict(0).into());
    };
    let mut new = record.clone();
    new.replaced = [old.object.clone()].into_iter().chain(old.replaced.iter().cloned()).collect();
    new.replaced.truncate(MAX_REPLACED);
    let rows = encode(table, tenant, &new)?;
    let parts = rows.parts;
    // Rows that the new record has under the same keys must stay.
    obsolete.retain(|key| rows.others.iter().all(|row| row.key != *key));
    let (rows, _) = write_ahead(table, rows).await?;
    Ok(Replacement { old: Some(old), obsolete, rows, parts })
}

/// The write of the row with the location of an instance, which was read as `found`.
fn location_write(
    tenant: &str,
    record: &InstanceRecord,
    parts: usize,
    found: Option<Item>,
) -> Result<Write, Error> {
    let key = keys::location(tenant, &record.instance);
    let location = InstanceLocation {
        study: record.study.clone(),
        series: record.series.clone(),
        digest: record.digest,
        object: record.object.clone(),
        parts,
    };
    let body = rows::encode(&key, &location)?;
    let (version, expect) = match found {
        Some(item) => (item.version + 1, Expect::Version(item.version)),
        None => (1, Expect::Absent),
    };
    Ok(Write::Put(Item { key, version, secondary: Vec::new(), body }, expect))
}

/// Executes a transaction: the writes of instances, those of their study and series, and the entry of the
/// feed.
async fn transact(
    task: &CommitTask,
    mut writes: Vec<Write>,
    mut update: StudyUpdate,
    changes: Vec<Change>,
) -> Result<(), Error> {
    let (table, tenant) = (task.table.as_ref(), &task.group.0);
    let taken = task.log.take(&task.table, tenant, update.entries_before())?;
    update.set_change(taken.position);
    let turnover = update.take_turnover();
    let heads = update.into_writes()?;
    let mut written = Vec::new();
    if table.is_remote() {
        written.extend(heads.iter().filter_map(|write| match write {
            Write::Put(row, _) => Some(row.clone()),
            Write::Delete(..) | Write::Check(..) | Write::Add(..) => None,
        }));
    }
    writes.extend(heads);
    taken.transact(changes, turnover, writes).await?;
    task.commits.heads.remember(written);
    lock(&task.commits.known_tenants).insert(tenant.clone());
    Ok(())
}

/// The rows that were written ahead for instances that were not stored in the end.
fn abandoned_rows(batch: &[CommitRequest], outcomes: &[CommitOutcome]) -> Vec<ItemKey> {
    let is_abandoned = |request: &CommitRequest, outcome: &CommitOutcome| match outcome {
        CommitOutcome::Stored | CommitOutcome::Replaced { .. } => false,
        CommitOutcome::AlreadyStored { object } => *object != request.record().object,
        CommitOutcome::DifferentBytes | CommitOutcome::OtherSeries => true,
    };
    let abandoned = batch.iter().zip(outcomes).filter(|(request, outcome)| is_abandoned(request, outcome));
    abandoned.flat_map(|(request, _)| request.prepared.written.iter().cloned()).collect()
}
