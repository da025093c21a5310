//! The use of the write-ahead log: its records, checkpoints, and what is replayed when the table is opened.

use std::path::Path;
use std::sync::{MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use redb::{Database, DatabaseError, Durability, ReadableDatabase, TableDefinition};
use rustix::fs::{Mode, OFlags};

use crate::table::redb::codec::{EncodedWrite, WriteAction};
use crate::table::redb::trees::{WriteTrees, begin_durable, last_commit};
use crate::table::redb::wal::{LogFile, LogSizes, RecoverError, Wal, begin_record, log_path};
use crate::table::redb::{OpenTable, RedbEngine, RedbStorage, catch_panic, failed};
use crate::table::{Error, Expect};
use crate::telemetry;

/// The id of the log whose records the file may lack; none after a clean stop.
const LOG: TableDefinition<'static, (), u128> = TableDefinition::new("log");

const PUT: u8 = 1;
const DELETE: u8 = 2;
const ADD: u8 = 3;
/// Stands between two transactions.
const NEXT: u8 = 4;

/// The size of the engine's cache while a file is closed for [`replace`].
const REPLACE_CACHE_BYTES: usize = 16 << 20;

/// The time within which tasks that have ended let go of a table.
const RELEASE_WITHIN: Duration = Duration::from_secs(30);

/// Opens the log of a table, and replays the records that the table's file lacks, in memory.
pub(super) fn recover(
    database: &Database,
    file: Box<dyn LogFile>,
    sizes: LogSizes,
) -> Result<Wal, redb::Error> {
    let applied = last_commit(database)?;
    let mut records = Vec::new();
    let log = Wal::open(file, sizes, log_id(database)?, applied, |number, payload| {
        records.push(decode(payload).map(|transactions| (number, transactions)));
    });
    let log = log.map_err(|error| match error {
        RecoverError::Io(error) => redb::Error::Io(error),
        RecoverError::Damaged(damage) => {
            redb::Error::Corrupted(format!("the write-ahead log cannot be replayed: {damage}"))
        }
    })?;
    if records.is_empty() {
        return Ok(log);
    }
    let mut transaction = database.begin_write()?;
    transaction.set_durability(Durability::None)?;
    {
        let mut trees = WriteTrees::open(&transaction)?;
        for record in records {
            let undecodable = || redb::Error::Corrupted("a record of the write-ahead log".into());
            let (number, transactions) = record.ok_or_else(undecodable)?;
            for writes in transactions {
                // The conditions were met when the record was written.
                let _ = trees.apply(&writes)?;
            }
            trees.set_commit(number)?;
        }
    }
    transaction.commit()?;
    Ok(log)
}

fn log_id(database: &Database) -> Result<Option<u128>, redb::Error> {
    match database.begin_read()?.open_table(LOG) {
        Ok(table) => Ok(table.get(())?.map(|id| id.value())),
        Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

impl OpenTable {
    /// The log; `None` for a table in memory.
    pub(super) fn log(&self) -> Option<MutexGuard<'_, Wal>> {
        // A panic of the writer ends it, and nothing else uses the log.
        self.log.as_ref().map(|log| log.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether the file lacks committed transactions.
    pub(super) fn needs_checkpoint(&self) -> bool {
        self.log().is_some_and(|log| log.has_records())
    }

    /// Makes the file durable. The space of the log is free then.
    pub(super) fn checkpoint(&self) -> Result<(), redb::Error> {
        let Some(mut log) = self.log() else { return Ok(()) };
        let Some(id) = log.id().filter(|_| log.has_records()) else { return Ok(()) };
        let begun = Instant::now();
        begin_durable(&self.database)?.commit()?;
        log.restart(id);
        telemetry::index_checkpointed(begun.elapsed());
        Ok(())
    }

    /// Makes the log ready for records, if it is not: after a start, or after a failure.
    ///
    /// The inner error is one of the log's file; nothing has changed then.
    pub(super) fn begin_log(&self) -> Result<Result<(), std::io::Error>, redb::Error> {
        let Some(mut log) = self.log().filter(|log| !log.is_begun()) else { return Ok(Ok(())) };
        let transaction = begin_durable(&self.database)?;
        let id = match log.id() {
            Some(id) => id,
            None => match log.prepare() {
                Ok(id) => id,
                Err(error) => {
                    transaction.abort()?;
                    return Ok(Err(error));
                }
            },
        };
        transaction.open_table(LOG)?.insert((), id)?;
        transaction.commit()?;
        log.restart(id);
        Ok(Ok(()))
    }

    /// Makes the file durable and independent of the log.
    pub(super) fn end_log(&self) -> Result<(), redb::Error> {
        let Some(mut log) = self.log().filter(|log| log.id().is_some()) else { return Ok(()) };
        let transaction = begin_durable(&self.database)?;
        transaction.open_table(LOG)?.remove(())?;
        transaction.commit()?;
        log.end();
        Ok(())
    }
}

/// Moves the table in file `from` over the one in `to`. Work on files blocks the calling thread for some
/// milliseconds.
///
/// # Errors
/// As [`Redb::open`](super::Redb::open) for `from`, if the table is still in use after half a minute.
/// [`Error::Backend`] if the file cannot be moved: the table in `to` is then still there, or the new one is
/// in its place and may be lost in a power failure.
pub async fn replace(from: &Path, to: &Path) -> Result<(), Error> {
    // A task that has just ended may hold the table for another moment.
    let begun = Instant::now();
    while is_in_use(from) && begun.elapsed() < RELEASE_WITHIN {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // The file alone has to be the whole table: its log is not moved, and the other table's log stays.
    let source = RedbStorage::File(from.to_owned());
    let engine = RedbEngine { source, cache_bytes: REPLACE_CACHE_BYTES, table: RwLock::new(None) };
    engine.with(OpenTable::end_log)?;
    engine.close();
    let moving = |error: std::io::Error| failed("move the file of the index", error);
    std::fs::rename(from, to).map_err(moving)?;
    let _ = std::fs::remove_file(log_path(from));
    let directory = to.parent().unwrap_or(Path::new("."));
    rustix::fs::open(directory, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .and_then(rustix::fs::fsync)
        .map_err(|error| moving(error.into()))
}

fn is_in_use(table: &Path) -> bool {
    let opened = catch_panic(|| Database::open(table));
    matches!(opened, Ok(Err(DatabaseError::DatabaseAlreadyOpen)))
}

/// The payload of a record: transactions whose conditions were met, in order.
pub(super) fn encode<'a>(transactions: impl Iterator<Item = &'a [EncodedWrite]>) -> Vec<u8> {
    let mut record = begin_record();
    for (number, writes) in transactions.enumerate() {
        if number > 0 {
            record.push(NEXT);
        }
        writes.iter().for_each(|write| encode_write(write, &mut record));
    }
    record
}

fn encode_write(write: &EncodedWrite, record: &mut Vec<u8>) {
    record.push(match &write.action {
        WriteAction::Put(_) => PUT,
        WriteAction::Delete => DELETE,
        WriteAction::Add(_) => ADD,
        WriteAction::Check => return,
    });
    // Keys and values have limits far below 64 KiB and 4 GiB (`limits`).
    record.extend_from_slice(&(write.key.len() as u16).to_le_bytes());
    record.extend_from_slice(&write.key);
    match &write.action {
        WriteAction::Put(value) => {
            record.extend_from_slice(&(value.len() as u32).to_le_bytes());
            record.extend_from_slice(value);
        }
        WriteAction::Add(number) => record.extend_from_slice(&number.to_le_bytes()),
        WriteAction::Delete | WriteAction::Check => {}
    }
}

/// The transactions of a record; `None` if the bytes are no record's payload.
fn decode(mut payload: &[u8]) -> Option<Vec<Vec<EncodedWrite>>> {
    let mut transactions = Vec::new();
    let mut writes = Vec::new();
    while let Some((kind, rest)) = payload.split_first() {
        payload = rest;
        if *kind == NEXT {
            transactions.push(std::mem::take(&mut writes));
        } else {
            writes.push(decode_write(*kind, &mut payload)?);
        }
    }
    transactions.push(writes);
    Some(transactions)
}

fn decode_write(kind: u8, payload: &mut &[u8]) -> Option<EncodedWrite> {
    let (length, rest) = payload.split_first_chunk()?;
    let (key, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes(*length)))?;
    let (action, rest) = match kind {
        DELETE => (WriteAction::Delete, rest),
        PUT => {
            let (length, rest) = rest.split_first_chunk()?;
            let (value, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
            (WriteAction::Put(value.to_vec()), rest)
        }
        ADD => {
            let (number, rest) = rest.split_first_chunk()?;
            (WriteAction::Add(i64::from_le_bytes(*number)), rest)
        }
        _ => return None,
    };
    *payload = rest;
    Some(EncodedWrite { key: key.to_vec(), expect: Expect::Anything, action })
}

/// The bytes of a transaction in a record.
pub(super) fn size_bytes(writes: &[EncodedWrite]) -> usize {
    let size = |write: &EncodedWrite| match &write.action {
        WriteAction::Put(value) => write.key.len() + value.len() + 7,
        WriteAction::Add(_) => write.key.len() + 11,
        WriteAction::Delete => write.key.len() + 3,
        WriteAction::Check => 0,
    };
    // One byte for [`NEXT`].
    writes.iter().map(size).sum::<usize>() + 1
}
