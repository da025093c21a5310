//! The thread that writes: it carries out all waiting transactions with one durable commit.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};
use tokio::sync::{mpsc, oneshot};
use tracing::error;

use crate::table::redb::codec::{self, EncodedWrite, SecondaryKeys, WriteAction};
use crate::table::redb::read::corrupted;
use crate::table::redb::{ITEMS, RedbEngine, definition, failed};
use crate::table::{Error, Expect, INDEXES, Secondary};

/// The most transactions that share a commit.
const MAX_GROUP: usize = 256;

/// The number of commits, which shows whether a commit that failed has taken effect nevertheless.
const COMMITS: TableDefinition<'static, (), u64> = TableDefinition::new("commits");

type WriteTree<'a> = redb::Table<'a, &'static [u8], &'static [u8]>;

/// A transaction that is waiting for the writer.
#[derive(Debug)]
pub(super) struct PendingTransaction {
    pub(super) writes: Vec<EncodedWrite>,
    pub(super) done: oneshot::Sender<Result<(), Error>>,
}

/// Creates the tables, all in one transaction, if they do not exist. Otherwise nothing is written, so that a
/// table on a full disk can be opened.
pub(super) fn prepare(database: &Database) -> Result<(), redb::Error> {
    match last_commit(database) {
        Err(redb::Error::TableDoesNotExist(_)) => {}
        outcome => return outcome.map(drop),
    }
    let transaction = begin(database)?;
    transaction.open_table(ITEMS)?;
    transaction.open_table(COMMITS)?;
    for index in INDEXES {
        transaction.open_table(definition(index))?;
    }
    Ok(transaction.commit()?)
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
    let mut group = Vec::new();
    // Declared last, and so dropped first: a panic closes the queue before the transactions of the group
    // fail.
    let mut transactions = transactions;
    while transactions.blocking_recv_many(&mut group, MAX_GROUP) > 0 {
        #[cfg(test)]
        for write in group.iter().flat_map(|transaction| &transaction.writes) {
            assert!(!write.key.starts_with(PANIC_PARTITION.as_bytes()), "a panic for a test");
        }
        let outcomes = write(engine, &group);
        for (transaction, outcome) in group.drain(..).zip(outcomes) {
            // The caller may have stopped waiting.
            let _ = transaction.done.send(outcome);
        }
    }
}

/// Carries out a group.
///
/// After a failure the engine takes no more writes until it is closed and opened again. A commit that failed
/// may have taken effect: its number shows that.
fn write(engine: &RedbEngine, group: &[PendingTransaction]) -> Vec<Result<(), Error>> {
    let mut commit = None;
    let error = match engine.with(|database| apply_all(database, group, &mut commit)) {
        Ok(outcomes) => return outcomes,
        Err(error) => error,
    };
    // The next use opens the engine again: the next line, if a commit may have taken effect.
    engine.close();
    if let Some((number, outcomes)) = commit
        && engine.with(last_commit).is_ok_and(|last| last == number)
    {
        return outcomes;
    }
    let error = Arc::new(error);
    let each = |_| match *error {
        Error::NoSpace => Err(Error::NoSpace),
        _ => Err(failed("write the table", Arc::clone(&error))),
    };
    group.iter().map(each).collect()
}

/// Carries out a group in one durable transaction of the engine. Leaves the commit's number and the outcomes
/// in `commit` when it begins to commit.
fn apply_all(
    database: &Database,
    group: &[PendingTransaction],
    commit: &mut Option<(u64, Vec<Result<(), Error>>)>,
) -> Result<Vec<Result<(), Error>>, redb::Error> {
    let transaction = begin(database)?;
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
        return Ok(outcomes);
    }
    *commit = Some((number, outcomes));
    transaction.commit()?;
    Ok(commit.take().map_or_else(Vec::new, |(_, outcomes)| outcomes))
}

fn begin(database: &Database) -> Result<WriteTransaction, redb::Error> {
    let mut transaction = database.begin_write()?;
    // With it, opening after a crash takes milliseconds at any size.
    transaction.set_quick_repair(true);
    Ok(transaction)
}

fn last_commit(database: &Database) -> Result<u64, redb::Error> {
    let number = database.begin_read()?.open_table(COMMITS)?.get(())?;
    Ok(number.map_or(0, |number| number.value()))
}

/// The open tables of a transaction of the engine.
struct WriteTrees<'a> {
    items: WriteTree<'a>,
    indexes: Vec<WriteTree<'a>>,
    commits: redb::Table<'a, (), u64>,
}

impl<'a> WriteTrees<'a> {
    fn open(transaction: &'a WriteTransaction) -> Result<Self, redb::Error> {
        let indexes = INDEXES.iter().map(|index| transaction.open_table(definition(*index)));
        Ok(Self {
            indexes: indexes.collect::<Result<_, _>>()?,
            items: transaction.open_table(ITEMS)?,
            commits: transaction.open_table(COMMITS)?,
        })
    }

    fn count(&mut self) -> Result<u64, redb::Error> {
        let number = self.commits.get(())?.map_or(0, |number| number.value()).wrapping_add(1);
        self.commits.insert((), number)?;
        Ok(number)
    }

    /// Carries out a transaction: checks all of it, then writes all of it.
    fn apply(&mut self, writes: &[EncodedWrite]) -> Result<Result<(), Error>, redb::Error> {
        for (index, write) in writes.iter().enumerate() {
            if !self.is_met(write)? {
                return Ok(Err(Error::Conflict(index)));
            }
        }
        // An index is changed only if a key of an item changes, because a commit writes every changed page.
        for write in writes {
            match &write.action {
                WriteAction::Put(value) => self.remove_stale_index_keys(&write.key, value)?,
                WriteAction::Delete => self.remove_stale_index_keys(&write.key, &[])?,
                // A counter has no secondary keys.
                WriteAction::Check | WriteAction::Add(_) => {}
            }
        }
        for write in writes {
            match &write.action {
                WriteAction::Put(value) => self.put(&write.key, value)?,
                WriteAction::Delete => drop(self.items.remove(write.key.as_slice())?),
                WriteAction::Check => {}
                WriteAction::Add(number) => self.add(&write.key, *number)?,
            }
        }
        Ok(Ok(()))
    }

    fn is_met(&self, write: &EncodedWrite) -> Result<bool, redb::Error> {
        if write.expect == Expect::Anything {
            return Ok(true);
        }
        let found = self.items.get(write.key.as_slice())?;
        let found = found.map(|value| codec::version(value.value()));
        Ok(match write.expect {
            Expect::Anything => true,
            Expect::Absent => found.is_none(),
            Expect::Version(version) => found == Some(Some(version)),
        })
    }

    /// Removes the index keys of item `key` that its new value does not have.
    fn remove_stale_index_keys(&mut self, key: &[u8], new: &[u8]) -> Result<(), redb::Error> {
        let Some(old) = self.items.get(key)? else { return Ok(()) };
        for (index, secondary) in secondary_keys(old.value()) {
            if !has_secondary(new, index, secondary) {
                self.indexes[index as usize].remove(secondary)?;
            }
        }
        Ok(())
    }

    fn add(&mut self, key: &[u8], number: i64) -> Result<(), redb::Error> {
        let sum = codec::add(self.items.get(key)?.as_ref().map(|old| old.value()), number);
        self.items.insert(key, sum.ok_or_else(corrupted)?.as_slice())?;
        Ok(())
    }

    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), redb::Error> {
        let old = self.items.insert(key, value)?;
        let old = old.as_ref().map(|old| old.value()).unwrap_or_default();
        for (index, secondary) in secondary_keys(value) {
            if !has_secondary(old, index, secondary) {
                self.indexes[index as usize].insert(secondary, key)?;
            }
        }
        Ok(())
    }
}

fn secondary_keys(value: &[u8]) -> impl Iterator<Item = (Secondary, &[u8])> {
    SecondaryKeys::of(value).into_iter().flatten().flatten()
}

fn has_secondary(value: &[u8], index: Secondary, key: &[u8]) -> bool {
    secondary_keys(value).any(|found| found == (index, key))
}
