//! Writing: one thread, that carries out all waiting transactions with one durable commit.

use std::sync::Arc;

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};
use tokio::sync::{mpsc, oneshot};

use crate::table::redb::codec::{self, Action, Encoded, SecondaryKeys};
use crate::table::redb::{Engine, ITEMS, definition, failed};
use crate::table::{Error, Expect, INDEXES, Secondary};

/// Transactions that share a commit at the most.
const GROUP: usize = 256;

/// Holds the number of commits, which tells whether one that failed has taken effect all the same.
const COMMITS: TableDefinition<'static, (), u64> = TableDefinition::new("commits");

type Tree<'a> = redb::Table<'a, &'static [u8], &'static [u8]>;

/// A transaction to carry out.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) writes: Vec<Encoded>,
    pub(super) done: oneshot::Sender<Result<(), Error>>,
}

/// Creates the tables, all in one transaction, if they are not there. Writes nothing otherwise, so that a table on
/// a full disk can be opened.
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

/// Carries out what comes in until nobody can send any more.
pub(super) fn run(mut jobs: mpsc::Receiver<Job>, engine: &Engine) {
    let mut group = Vec::new();
    while jobs.blocking_recv_many(&mut group, GROUP) > 0 {
        let outcomes = write(engine, &group);
        for (job, outcome) in group.drain(..).zip(outcomes) {
            // Who waited for it may have gone.
            let _ = job.done.send(outcome);
        }
    }
}

/// Carries out a group.
///
/// After a failure the engine takes no more writes until it is closed and opened again, and a commit that failed
/// may have taken effect: its number tells.
fn write(engine: &Engine, group: &[Job]) -> Vec<Result<(), Error>> {
    let mut commit = None;
    let error = match engine.with(|database| apply_all(database, group, &mut commit)) {
        Ok(outcomes) => return outcomes,
        Err(error) => error,
    };
    // It is opened again by who uses it next, which is the next line if a commit may have taken effect.
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

/// Carries out a group in one durable transaction of the engine. Leaves the commit's number and the outcomes in
/// `commit` when it begins to commit.
fn apply_all(
    database: &Database,
    group: &[Job],
    commit: &mut Option<(u64, Vec<Result<(), Error>>)>,
) -> Result<Vec<Result<(), Error>>, redb::Error> {
    let transaction = begin(database)?;
    let mut outcomes = Vec::with_capacity(group.len());
    let number;
    {
        let mut trees = Trees::open(&transaction)?;
        for job in group {
            outcomes.push(trees.apply(&job.writes)?);
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
    // Opening after a crash is then a matter of milliseconds, whatever the size.
    transaction.set_quick_repair(true);
    Ok(transaction)
}

fn last_commit(database: &Database) -> Result<u64, redb::Error> {
    let number = database.begin_read()?.open_table(COMMITS)?.get(())?;
    Ok(number.map_or(0, |number| number.value()))
}

/// The open tables of a transaction of the engine.
struct Trees<'a> {
    items: Tree<'a>,
    indexes: Vec<Tree<'a>>,
    commits: redb::Table<'a, (), u64>,
}

impl<'a> Trees<'a> {
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
    fn apply(&mut self, writes: &[Encoded]) -> Result<Result<(), Error>, redb::Error> {
        for (index, write) in writes.iter().enumerate() {
            if !self.meets(write)? {
                return Ok(Err(Error::Conflict(index)));
            }
        }
        // An index is touched only where a key of an item changes: each page that a commit changes is written anew.
        for write in writes {
            match &write.action {
                Action::Put(value) => self.give_up(&write.key, value)?,
                Action::Delete => self.give_up(&write.key, &[])?,
                Action::Check => {}
            }
        }
        for write in writes {
            match &write.action {
                Action::Put(value) => self.put(&write.key, value)?,
                Action::Delete => drop(self.items.remove(write.key.as_slice())?),
                Action::Check => {}
            }
        }
        Ok(Ok(()))
    }

    fn meets(&self, write: &Encoded) -> Result<bool, redb::Error> {
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

    /// Takes out of the indexes what item `key` will no longer be found under when it is `new`.
    fn give_up(&mut self, key: &[u8], new: &[u8]) -> Result<(), redb::Error> {
        let Some(old) = self.items.get(key)? else { return Ok(()) };
        for (index, secondary) in secondary_keys(old.value()) {
            if !has_secondary(new, index, secondary) {
                self.indexes[index as usize].remove(secondary)?;
            }
        }
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
