//! The embedded engine: one file of <https://docs.rs/redb>, and a write-ahead log beside it.
//!
//! Items are in one ordered table. Each secondary index is another table, from secondary to primary keys,
//! which is written in the same transaction of the engine. One thread at a time writes: it takes all
//! transactions that wait, carries them out one after the other in one transaction of the engine, and makes
//! them durable as one record of the log, with one flush. Only then does it commit them in memory, where
//! reads see them. A checkpoint makes the engine's file durable every two seconds; after a crash, the records
//! since then are replayed when the table is opened.
//!
//! The engine may panic on a damaged file. Every use of the engine catches the panic, and returns an error
//! instead ([`Error::Damaged`]).

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, RwLock};
use std::thread::JoinHandle;

use async_trait::async_trait;
use redb::backends::InMemoryBackend;
use redb::{
    Builder, Database, DatabaseError, ReadOnlyTable, ReadableDatabase, StorageError, TableDefinition,
};
use rustix::fs::{Mode, OFlags};
use tokio::sync::{Semaphore, oneshot};

use crate::table::redb::wal::{DiskLog, LogFile, LogSizes, Wal};
use crate::table::redb::write::{PendingTransaction, Writer};
use crate::table::{Error, Item, ItemKey, Page, Range, Secondary, SortKeys, Table, Write};
use crate::threads;

mod codec;
mod log;
mod read;
mod trees;
mod wal;
mod write;

pub use log::replace;

type Definition = TableDefinition<'static, &'static [u8], &'static [u8]>;
type ReadTree = ReadOnlyTable<&'static [u8], &'static [u8]>;

/// The file of a log, and the limits of its size.
type LogFileWithSizes = (Box<dyn LogFile>, LogSizes);

const ITEMS: Definition = TableDefinition::new("items");

/// The most transactions that wait for the writer's thread; more wait in [`Table::transact`].
const QUEUE_LENGTH: usize = 1024;

/// The most items that are read on the thread of the caller.
const MAX_INLINE_KEYS: usize = 4;

/// A table in one file, which no other process may use at the same time, or in memory.
#[derive(Debug)]
pub struct Redb {
    engine: Arc<RedbEngine>,
    writer: Arc<Writer>,
    /// The writer's thread; `None` once this is being dropped.
    thread: Option<JoinHandle<()>>,
    /// The places of transactions that wait for the thread.
    places: Semaphore,
}

/// The engine, which is closed after a failed commit and opened again for the next operation.
#[derive(Debug)]
struct RedbEngine {
    source: RedbStorage,
    cache_bytes: usize,
    table: RwLock<Option<OpenTable>>,
}

/// A table that is open.
#[derive(Debug)]
struct OpenTable {
    database: Database,
    /// The log, which the writer alone uses; `None` for a table in memory.
    log: Option<Mutex<Wal>>,
}

#[derive(Debug)]
enum RedbStorage {
    File(PathBuf),
    Memory,
    #[cfg(test)]
    Simulated(Arc<simulated_disk::SimulatedDisk>),
}

impl Redb {
    /// Opens the table in a file, which is created if it does not exist. `cache_bytes` is the size of the
    /// engine's cache of pages.
    ///
    /// # Errors
    /// [`Error::Damaged`] if the file is no table of this version. [`Error::Backend`] if the file cannot be
    /// used or is in use by another process.
    pub fn open(path: &Path, cache_bytes: usize) -> Result<Self, Error> {
        Self::start(RedbStorage::File(path.to_owned()), cache_bytes)
    }

    /// Opens an empty table in memory, for tests.
    ///
    /// # Errors
    /// As [`Redb::open`]; none are expected.
    pub fn in_memory() -> Result<Self, Error> {
        Self::start(RedbStorage::Memory, 16 * 1024 * 1024)
    }

    fn start(source: RedbStorage, cache_bytes: usize) -> Result<Self, Error> {
        let table = source.create(cache_bytes)?;
        let engine = Arc::new(RedbEngine { source, cache_bytes, table: RwLock::new(Some(table)) });
        let writer = Arc::new(Writer::new(Arc::clone(&engine)));
        let thread = std::thread::Builder::new().name("table-write".into());
        let of_thread = Arc::clone(&writer);
        let thread = thread
            .spawn(move || of_thread.run())
            .map_err(|source| failed("start the thread that writes the table", source))?;
        Ok(Self { engine, writer, thread: Some(thread), places: Semaphore::new(QUEUE_LENGTH) })
    }

    /// Reads on a thread that may block. The change of threads costs some ten microseconds, but the read may
    /// have to wait for the disk.
    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Database) -> Result<T, redb::Error> + Send + 'static,
    ) -> Result<T, Error> {
        let engine = Arc::clone(&self.engine);
        let work = move || engine.with(|table| work(&table.database));
        let outcome = threads::run(work).await;
        outcome.map_err(|error| failed("read the table", error))?
    }
}

#[async_trait]
impl Table for Redb {
    async fn get(&self, keys: &[ItemKey]) -> Result<Vec<Option<Item>>, Error> {
        let keys = keys.to_vec();
        // A few pages, most of them in memory: a change of threads would take longer.
        if keys.len() <= MAX_INLINE_KEYS {
            return self.engine.with(|table| read::get(&table.database, keys));
        }
        self.read(move |database| read::get(database, keys)).await
    }

    async fn range(&self, range: &Range) -> Result<Page, Error> {
        let range = range.clone();
        self.read(move |database| read::range(database, &range)).await
    }

    async fn sort_keys(&self, range: &Range) -> Result<SortKeys, Error> {
        let range = range.clone();
        self.read(move |database| read::sort_keys(database, &range)).await
    }

    async fn transact(&self, writes: Vec<Write>) -> Result<(), Error> {
        let writes = codec::encode(writes)?;
        if threads::may_block() {
            return self.writer.carry_out(writes);
        }
        let _place = self.places.acquire().await.map_err(|_| Error::WriterEnded)?;
        let (done, outcome) = oneshot::channel();
        self.writer.send(PendingTransaction { writes, done });
        outcome.await.map_err(|_| Error::WriterEnded)?
    }

    fn health(&self) -> Result<(), Error> {
        if self.writer.has_ended() { Err(Error::WriterEnded) } else { Ok(()) }
    }
}

impl Drop for Redb {
    /// Writes the transactions that wait, and closes the file, so that it can be opened again at once.
    fn drop(&mut self) {
        self.writer.close();
        if let Some(thread) = self.thread.take() {
            // A panic of the writer was logged when it happened.
            let _ = thread.join();
        }
        self.engine.close();
    }
}

impl RedbStorage {
    /// Opens the table, which is created if it does not exist.
    fn create(&self, cache_bytes: usize) -> Result<OpenTable, Error> {
        self.open_with(cache_bytes, |builder, path| {
            // The index holds patient data: the file is for this user alone.
            let mode = Mode::RUSR | Mode::WUSR;
            rustix::fs::open(path, OFlags::CREATE | OFlags::RDWR | OFlags::CLOEXEC, mode)
                .map_err(|error| DatabaseError::Storage(StorageError::Io(error.into())))?;
            builder.create(path)
        })
    }

    /// Opens the table of a process that has opened it before: a file that has gone is not replaced by an
    /// empty one.
    fn open(&self, cache_bytes: usize) -> Result<OpenTable, Error> {
        self.open_with(cache_bytes, |builder, path| builder.open(path))
    }

    /// Opens the database, and replays its log.
    fn open_with(
        &self,
        cache_bytes: usize,
        open: impl FnOnce(&Builder, &Path) -> Result<Database, DatabaseError>,
    ) -> Result<OpenTable, Error> {
        let mut builder = Database::builder();
        builder.set_cache_size(cache_bytes);
        let opened = catch_panic(|| {
            let database = match self {
                Self::File(path) => open(&builder, path),
                Self::Memory => builder.create_with_backend(InMemoryBackend::new()),
                #[cfg(test)]
                Self::Simulated(disk) => builder.create_with_backend(disk.backend()),
            };
            let database = database?;
            trees::prepare(&database)?;
            // The database is locked from here on, and with it the log.
            let log = match self.log_file()? {
                Some((file, sizes)) => Some(Mutex::new(log::recover(&database, file, sizes)?)),
                None => None,
            };
            Ok(OpenTable { database, log })
        });
        self.outcome("open the table", opened)
    }

    /// Opens the file of the log; `None` for a table in memory.
    fn log_file(&self) -> Result<Option<LogFileWithSizes>, redb::Error> {
        Ok(match self {
            Self::File(path) => Some((Box::new(DiskLog::open(&wal::log_path(path))?), wal::SIZES)),
            Self::Memory => None,
            #[cfg(test)]
            Self::Simulated(disk) => Some((disk.log(), simulated_disk::SIZES)),
        })
    }

    /// The outcome of an operation of the engine, which may have panicked.
    fn outcome<T>(
        &self,
        operation: &'static str,
        outcome: Result<Result<T, redb::Error>, EnginePanic>,
    ) -> Result<T, Error> {
        match outcome {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(redb::Error::Io(error))) if is_no_space(&error) => Err(Error::NoSpace),
            Ok(Err(error)) if is_damage(&error) => Err(self.damaged(error)),
            Ok(Err(error)) => Err(failed(operation, error)),
            Err(panic) => Err(self.damaged(panic)),
        }
    }

    fn damaged(&self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
        let file = match self {
            Self::File(path) => path.clone(),
            Self::Memory => PathBuf::from("memory"),
            #[cfg(test)]
            Self::Simulated(_) => PathBuf::from("simulated"),
        };
        Error::Damaged { file, source: source.into() }
    }
}

impl RedbEngine {
    /// Runs `work` on the table, which is opened again if it was closed. Blocks.
    ///
    /// After a panic the table is closed: its state in memory may be of no use.
    fn with<T>(&self, work: impl FnOnce(&OpenTable) -> Result<T, redb::Error>) -> Result<T, Error> {
        if matches!(self.table.read().as_deref(), Ok(None)) {
            self.open()?;
        }
        let outcome = {
            let table = self.table.read().map_err(|_| closed())?;
            let table = table.as_ref().ok_or_else(closed)?;
            catch_panic(|| work(table))
        };
        if outcome.is_err() {
            self.close();
        }
        self.source.outcome("use the table", outcome)
    }

    fn open(&self) -> Result<(), Error> {
        let mut table = self.table.write().map_err(|_| closed())?;
        if table.is_none() {
            *table = Some(self.source.open(self.cache_bytes)?);
        }
        Ok(())
    }

    /// Closes the engine after all reads that have begun.
    fn close(&self) {
        if let Ok(mut table) = self.table.write()
            && let Some(table) = table.take()
        {
            // The file was damaged, which the operation before has reported, or the next one will.
            let _ = catch_panic(|| drop(table));
        }
    }
}

fn definition(index: Secondary) -> Definition {
    TableDefinition::new(match index {
        Secondary::First => "first",
        Secondary::Second => "second",
        Secondary::Third => "third",
        Secondary::Fourth => "fourth",
        Secondary::Fifth => "fifth",
    })
}

fn tree(database: &Database, definition: Definition) -> Result<ReadTree, redb::Error> {
    Ok(database.begin_read()?.open_table(definition)?)
}

fn failed(operation: &'static str, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::Backend { operation, source: source.into() }
}

/// A panic of the engine.
#[derive(Debug, thiserror::Error)]
#[error("redb panicked: {0}")]
struct EnginePanic(String);

/// Runs an operation of the engine, which may panic on a damaged file.
fn catch_panic<T>(work: impl FnOnce() -> T) -> Result<T, EnginePanic> {
    // The callers close the engine after a panic, and use none of its state.
    catch_unwind(AssertUnwindSafe(work)).map_err(|payload| {
        let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
        EnginePanic(text.or_else(|| payload.downcast_ref().cloned()).unwrap_or_default())
    })
}

/// Whether an error says that the file is no table of this version of the engine.
fn is_damage(error: &redb::Error) -> bool {
    use std::io::ErrorKind;
    match error {
        redb::Error::Io(error) => matches!(
            error.kind(),
            ErrorKind::InvalidData
                | ErrorKind::InvalidInput
                | ErrorKind::UnexpectedEof
                | ErrorKind::IsADirectory
        ),
        redb::Error::Corrupted(_)
        | redb::Error::UpgradeRequired(_)
        | redb::Error::RepairAborted
        | redb::Error::TableDoesNotExist(_)
        | redb::Error::TableTypeMismatch { .. }
        | redb::Error::TableIsMultimap(_)
        | redb::Error::TableIsNotMultimap(_)
        | redb::Error::TypeDefinitionChanged { .. } => true,
        _ => false,
    }
}

fn is_no_space(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)
}

fn closed() -> Error {
    failed("use the table", "the file was closed after a failure of the disk")
}

#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod simulated_disk;
#[cfg(test)]
mod tests;
