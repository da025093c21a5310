//! The writer: carries out all waiting transactions as one record of the write-ahead log.
//!
//! A caller that may block does so on its own thread, for itself and for all that wait by then. For other
//! callers, and for checkpoints, the writer has a thread.

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use redb::Durability;
use tokio::sync::oneshot;
use tracing::{error, warn};

use crate::table::Error;
use crate::table::redb::codec::EncodedWrite;
use crate::table::redb::trees::{WriteTrees, begin_durable, last_commit};
use crate::table::redb::wal::AppendError;
use crate::table::redb::{OpenTable, RedbEngine, failed, is_no_space, log};
use crate::telemetry;

/// The most transactions that share a record.
const MAX_GROUP: usize = 256;

/// A record takes no further transaction from this size on.
const MAX_RECORD_BYTES: usize = 8 << 20;

/// The time from a transaction to the checkpoint that makes the engine's file durable.
const CHECKPOINT_AFTER: Duration = Duration::from_secs(2);

/// The time from a checkpoint that failed to the next attempt.
const CHECKPOINT_RETRY_AFTER: Duration = Duration::from_secs(5);

/// A transaction that is waiting for the writer.
#[derive(Debug)]
pub(super) struct PendingTransaction {
    pub(super) writes: Vec<EncodedWrite>,
    pub(super) done: oneshot::Sender<Result<(), Error>>,
}

/// The writer of a table. After a panic it writes nothing more.
#[derive(Debug)]
pub(super) struct Writer {
    engine: Arc<RedbEngine>,
    waiting: Mutex<Waiting>,
    /// Wakes the thread of the writer.
    bell: Condvar,
    /// Held while transactions are carried out. A panic poisons it.
    turn: Mutex<()>,
}

/// The work that waits for the writer.
#[derive(Debug, Default)]
struct Waiting {
    transactions: VecDeque<PendingTransaction>,
    /// Whether the thread is to carry out the transactions.
    needs_thread: bool,
    checkpoint_at: Option<Instant>,
    is_closed: bool,
}

/// The partition of an item whose transaction makes the writer panic.
#[cfg(test)]
pub(super) const PANIC_PARTITION: &str = "makes-the-writer-panic";

impl Writer {
    pub(super) fn new(engine: Arc<RedbEngine>) -> Self {
        Self { engine, waiting: Mutex::default(), bell: Condvar::new(), turn: Mutex::new(()) }
    }

    /// Adds a transaction for the thread of the writer.
    pub(super) fn send(&self, transaction: PendingTransaction) {
        let mut waiting = self.waiting();
        waiting.transactions.push_back(transaction);
        waiting.needs_thread = true;
        drop(waiting);
        self.bell.notify_one();
        if self.has_ended() {
            self.drop_waiting();
        }
    }

    /// Carries out a transaction, and those that wait at that moment, on this thread. Blocks.
    pub(super) fn carry_out(&self, writes: Vec<EncodedWrite>) -> Result<(), Error> {
        let (done, mut outcome) = oneshot::channel();
        self.waiting().transactions.push_back(PendingTransaction { writes, done });
        loop {
            // The writer before may have carried it out. Otherwise it is in the queue.
            self.write_group();
            match outcome.try_recv() {
                Ok(outcome) => return outcome,
                Err(oneshot::error::TryRecvError::Empty) => {}
                Err(oneshot::error::TryRecvError::Closed) => return Err(Error::WriterEnded),
            }
        }
    }

    /// Whether a panic has ended the writer.
    pub(super) fn has_ended(&self) -> bool {
        self.turn.is_poisoned()
    }

    /// Lets [`Writer::run`] return after the transactions that wait.
    pub(super) fn close(&self) {
        self.waiting().is_closed = true;
        self.bell.notify_one();
    }

    /// Carries out the transactions of callers that may not block, and makes checkpoints, until the writer
    /// is closed or a panic ends it. The body of the thread.
    pub(super) fn run(&self) {
        // Replayed records wait for a checkpoint.
        self.plan_checkpoint();
        while !self.has_ended() {
            let is_closed = self.wait();
            while self.write_group() {}
            self.checkpoint_if_due();
            if is_closed {
                // After a panic the log is replayed at the next start.
                if !self.has_ended() {
                    self.engine.end_log();
                }
                return;
            }
        }
    }

    /// Waits for work for the thread. Returns whether the writer is closed.
    fn wait(&self) -> bool {
        let mut waiting = self.waiting();
        loop {
            let now = Instant::now();
            let is_due = waiting.checkpoint_at.is_some_and(|at| at <= now);
            if waiting.is_closed || is_due || std::mem::take(&mut waiting.needs_thread) {
                return waiting.is_closed;
            }
            let limit = waiting.checkpoint_at.map_or(Duration::MAX, |at| at - now);
            let woken = self.bell.wait_timeout(waiting, limit);
            waiting = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Carries out the next transactions that share a record. Returns whether there were any.
    fn write_group(&self) -> bool {
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            // Declared first, and so dropped last: the callers get an error when the writer has ended.
            let mut group = Vec::new();
            let Ok(_turn) = self.turn.lock() else {
                self.drop_waiting();
                return false;
            };
            {
                let mut waiting = self.waiting();
                let length = record_length(waiting.transactions.iter());
                group.extend(waiting.transactions.drain(..length));
            }
            if group.is_empty() {
                return false;
            }
            #[cfg(test)]
            for write in group.iter().flat_map(|transaction| &transaction.writes) {
                assert!(!write.key.starts_with(PANIC_PARTITION.as_bytes()), "a panic for a test");
            }
            let outcomes = write(&self.engine, &group);
            for (transaction, outcome) in group.drain(..).zip(outcomes) {
                // The caller may have stopped waiting.
                let _ = transaction.done.send(outcome);
            }
            if self.engine.is_log_half_full() {
                let next = checkpoint(&self.engine);
                self.waiting().checkpoint_at = next;
            } else {
                self.plan_checkpoint();
            }
            true
        }));
        // The panic hook has printed the message.
        outcome.unwrap_or_else(|_| {
            error!(
                "a panic ended the writer of the index: nothing can be stored until the server is restarted"
            );
            self.drop_waiting();
            false
        })
    }

    /// Sets the time of the next checkpoint if the engine's file lacks transactions.
    fn plan_checkpoint(&self) {
        if self.waiting().checkpoint_at.is_none() && self.engine.needs_checkpoint() {
            self.waiting().checkpoint_at = Some(Instant::now() + CHECKPOINT_AFTER);
            self.bell.notify_one();
        }
    }

    fn checkpoint_if_due(&self) {
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let Ok(_turn) = self.turn.lock() else { return };
            if self.waiting().checkpoint_at.is_some_and(|at| at <= Instant::now()) {
                let next = checkpoint(&self.engine);
                self.waiting().checkpoint_at = next;
            }
        }));
        if outcome.is_err() {
            self.drop_waiting();
        }
    }

    /// Drops the transactions that wait; their callers get an error.
    fn drop_waiting(&self) {
        self.waiting().transactions.clear();
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The number of the first waiting transactions that share a record.
fn record_length<'a>(waiting: impl ExactSizeIterator<Item = &'a PendingTransaction>) -> usize {
    let (number, mut bytes) = (waiting.len(), 0);
    let fits = |transaction: &&PendingTransaction| {
        bytes += log::size_bytes(&transaction.writes);
        bytes <= MAX_RECORD_BYTES
    };
    waiting.take(MAX_GROUP).take_while(fits).count().max(number.min(1))
}

/// Makes the engine's file durable. Returns the time of the next attempt after a failure.
fn checkpoint(engine: &RedbEngine) -> Option<Instant> {
    let error = engine.with(OpenTable::checkpoint).err()?;
    // The engine takes no more writes until it is closed and opened again. The log has all records.
    engine.close();
    warn!(
        error = telemetry::chain(&error),
        "cannot make the file of the index durable; its log holds the rest"
    );
    Some(Instant::now() + CHECKPOINT_RETRY_AFTER)
}

impl RedbEngine {
    fn needs_checkpoint(&self) -> bool {
        self.is_open_and(OpenTable::needs_checkpoint)
    }

    fn is_log_half_full(&self) -> bool {
        self.is_open_and(|table| table.log().is_some_and(|log| log.is_half_full()))
    }

    fn is_open_and(&self, claim: impl FnOnce(&OpenTable) -> bool) -> bool {
        self.table.read().is_ok_and(|table| table.as_ref().is_some_and(claim))
    }

    /// Makes the engine's file independent of the log, for a clean stop. After a failure the log is replayed
    /// at the next start.
    fn end_log(&self) {
        if self.is_open_and(|_| true)
            && let Err(error) = self.with(OpenTable::end_log)
        {
            warn!(
                error = telemetry::chain(&error),
                "cannot make the file of the index durable; its log holds the rest"
            );
        }
    }
}

/// Carries out a group.
///
/// After a failure the engine takes no more writes until it is closed and opened again. A commit that failed
/// may have taken effect: its number shows that, after the log was replayed.
pub(super) fn write(engine: &RedbEngine, group: &[PendingTransaction]) -> Vec<Result<(), Error>> {
    let mut commit = None;
    let error = match engine.with(|table| apply_all(table, group, &mut commit)) {
        Ok(Ok(outcomes)) => return outcomes,
        // Nothing was written, and nothing in memory has changed.
        Ok(Err(error)) => return same_error(group, log_error(error)),
        Err(error) => error,
    };
    // The next use opens the engine again: the next line, if a commit may have taken effect.
    engine.close();
    let Some((number, outcomes)) = commit else { return same_error(group, error) };
    match engine.with(|table| last_commit(&table.database)) {
        Ok(last) if last == number => outcomes,
        Ok(_) => same_error(group, error),
        // Whether it took effect is not known: another error than one that says that nothing was written.
        Err(_) => same_error(group, failed("write the table", error)),
    }
}

fn log_error(error: io::Error) -> Error {
    if is_no_space(&error) { Error::NoSpace } else { failed("write the log of the table", error) }
}

fn same_error(group: &[PendingTransaction], error: Error) -> Vec<Result<(), Error>> {
    let error = Arc::new(error);
    let each = |_| match *error {
        Error::NoSpace => Err(Error::NoSpace),
        _ => Err(failed("write the table", Arc::clone(&error))),
    };
    group.iter().map(each).collect()
}

/// The number of a group's commit, and the outcomes of its transactions.
type Commit = (u64, Vec<Result<(), Error>>);

/// Carries out a group in one transaction of the engine: in memory, then durable in the log, then visible.
/// Leaves the commit's number and the outcomes in `commit` when it may have taken effect.
///
/// The inner error is one of the log's file; the group has no effect then.
fn apply_all(
    table: &OpenTable,
    group: &[PendingTransaction],
    commit: &mut Option<Commit>,
) -> Result<Result<Vec<Result<(), Error>>, io::Error>, redb::Error> {
    if let Err(error) = table.begin_log()? {
        return Ok(Err(error));
    }
    let mut log = table.log();
    let mut transaction = begin_durable(&table.database)?;
    if log.is_some() {
        transaction.set_quick_repair(false);
        transaction.set_durability(Durability::None)?;
    }
    let mut outcomes = Vec::with_capacity(group.len());
    let number;
    {
        let mut trees = WriteTrees::open(&transaction)?;
        for waiting in group {
            outcomes.push(trees.apply(&waiting.writes)?);
        }
        number = trees.count()?;
    }
    if outcomes.iter().all(Result::is_err) {
        transaction.abort()?;
        return Ok(Ok(outcomes));
    }
    if let Some(log) = &mut log {
        let done = group.iter().zip(&outcomes).filter(|(_, outcome)| outcome.is_ok());
        let record = log::encode(done.map(|(waiting, _)| waiting.writes.as_slice()));
        match log.append(number, record) {
            Ok(bytes) => telemetry::index_logged(bytes),
            Err(AppendError::NotWritten(error)) => {
                transaction.abort()?;
                return Ok(Err(error));
            }
            Err(AppendError::NotFlushed(error)) => {
                *commit = Some((number, outcomes));
                transaction.abort()?;
                return Err(error.into());
            }
        }
    }
    *commit = Some((number, outcomes));
    transaction.commit()?;
    Ok(Ok(commit.take().map_or_else(Vec::new, |(_, outcomes)| outcomes)))
}
