//! The thread that writes: it carries out all waiting transactions as one record of the write-ahead log.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use redb::Durability;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
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

/// The partition of an item whose transaction makes the thread panic.
#[cfg(test)]
pub(super) const PANIC_PARTITION: &str = "makes-the-writer-panic";

/// Carries out the transactions that are sent to `transactions`, until all senders are dropped. A panic is
/// logged, and closes `transactions`.
pub(super) fn run(transactions: mpsc::Receiver<PendingTransaction>, engine: &RedbEngine) {
    // No state is used after a panic. The panic hook has printed the message.
    if catch_unwind(AssertUnwindSafe(|| write_all(transactions, engine))).is_err() {
        error!(
            "the thread that writes the index panicked: nothing can be stored until the server is restarted"
        );
    }
}

fn write_all(transactions: mpsc::Receiver<PendingTransaction>, engine: &RedbEngine) {
    // For the clock of checkpoints.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let runtime = runtime.expect("a runtime without input and output can be made");
    let mut group = Vec::new();
    let mut checkpoint_at = None;
    // Declared last, and so dropped first: a panic closes the queue before the transactions of the group
    // fail.
    let mut transactions = transactions;
    loop {
        // After a start or a failure, replayed records also wait for a checkpoint.
        if checkpoint_at.is_none() && engine.needs_checkpoint() {
            checkpoint_at = Some(Instant::now() + CHECKPOINT_AFTER);
        }
        let receive = transactions.recv_many(&mut group, MAX_GROUP);
        let received = runtime.block_on(async {
            match checkpoint_at {
                Some(at) => tokio::time::timeout_at(at, receive).await.ok(),
                None => Some(receive.await),
            }
        });
        if received == Some(0) {
            break;
        }
        #[cfg(test)]
        for write in group.iter().flat_map(|transaction| &transaction.writes) {
            assert!(!write.key.starts_with(PANIC_PARTITION.as_bytes()), "a panic for a test");
        }
        while !group.is_empty() {
            let length = record_length(&group);
            let outcomes = write(engine, &group[..length]);
            for (transaction, outcome) in group.drain(..length).zip(outcomes) {
                // The caller may have stopped waiting.
                let _ = transaction.done.send(outcome);
            }
            if engine.is_log_half_full() {
                checkpoint_at = checkpoint(engine);
            }
        }
        if checkpoint_at.is_some_and(|at| at <= Instant::now()) {
            checkpoint_at = checkpoint(engine);
        }
    }
    engine.end_log();
}

/// The number of the first transactions of a group that share a record.
fn record_length(group: &[PendingTransaction]) -> usize {
    let mut bytes = 0;
    let fits = |transaction: &&PendingTransaction| {
        bytes += log::size_bytes(&transaction.writes);
        bytes <= MAX_RECORD_BYTES
    };
    group.iter().take_while(fits).count().max(1)
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
fn write(engine: &RedbEngine, group: &[PendingTransaction]) -> Vec<Result<(), Error>> {
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
