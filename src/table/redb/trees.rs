//! The trees of the engine in a transaction: items, secondary indexes, and the number of commits.

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};

use crate::table::redb::codec::{self, EncodedWrite, SecondaryKeys, WriteAction};
use crate::table::redb::read::corrupted;
use crate::table::redb::{ITEMS, definition};
use crate::table::{Error, Expect, INDEXES, Secondary};

/// The number of commits, which shows whether a commit that failed has taken effect nevertheless.
const COMMITS: TableDefinition<'static, (), u64> = TableDefinition::new("commits");

type WriteTree<'a> = redb::Table<'a, &'static [u8], &'static [u8]>;

/// Creates the tables, all in one transaction, if they do not exist. Otherwise nothing is written, so that a
/// table on a full disk can be opened.
pub(super) fn prepare(database: &Database) -> Result<(), redb::Error> {
    match last_commit(database) {
        Err(redb::Error::TableDoesNotExist(_)) => {}
        outcome => return outcome.map(drop),
    }
    let transaction = begin_durable(database)?;
    transaction.open_table(ITEMS)?;
    transaction.open_table(COMMITS)?;
    for index in INDEXES {
        transaction.open_table(definition(index))?;
    }
    Ok(transaction.commit()?)
}

/// Begins a transaction of the engine that is durable when it is committed, with all that were committed
/// before.
pub(super) fn begin_durable(database: &Database) -> Result<WriteTransaction, redb::Error> {
    let mut transaction = database.begin_write()?;
    // With it, opening after a crash takes milliseconds at any size.
    transaction.set_quick_repair(true);
    Ok(transaction)
}

/// The number of the last commit.
pub(super) fn last_commit(database: &Database) -> Result<u64, redb::Error> {
    let number = database.begin_read()?.open_table(COMMITS)?.get(())?;
    Ok(number.map_or(0, |number| number.value()))
}

/// The open tables of a transaction of the engine.
pub(super) struct WriteTrees<'a> {
    items: WriteTree<'a>,
    indexes: Vec<WriteTree<'a>>,
    commits: redb::Table<'a, (), u64>,
}

impl<'a> WriteTrees<'a> {
    pub(super) fn open(transaction: &'a WriteTransaction) -> Result<Self, redb::Error> {
        let indexes = INDEXES.iter().map(|index| transaction.open_table(definition(*index)));
        Ok(Self {
            indexes: indexes.collect::<Result<_, _>>()?,
            items: transaction.open_table(ITEMS)?,
            commits: transaction.open_table(COMMITS)?,
        })
    }

    /// Raises the number of the last commit, and returns it.
    pub(super) fn count(&mut self) -> Result<u64, redb::Error> {
        let number = self.commits.get(())?.map_or(0, |number| number.value()).wrapping_add(1);
        self.set_commit(number)?;
        Ok(number)
    }

    /// Sets the number of the last commit.
    pub(super) fn set_commit(&mut self, number: u64) -> Result<(), redb::Error> {
        self.commits.insert((), number)?;
        Ok(())
    }

    /// Carries out a transaction: checks all of it, then writes all of it.
    pub(super) fn apply(&mut self, writes: &[EncodedWrite]) -> Result<Result<(), Error>, redb::Error> {
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
