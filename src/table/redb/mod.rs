//! The embedded engine: one file, of the kind of <https://docs.rs/redb>.
//!
//! Items are in one ordered table; each secondary index is another, that leads from a key in it to the primary
//! key and is written in the same transaction of the engine. One thread writes; it takes all transactions that
//! wait, carries them out one after the other in one transaction of the engine, and makes them durable with one
//! flush.

use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};
use std::thread::JoinHandle;

use async_trait::async_trait;
use redb::backends::InMemoryBackend;
use redb::{Database, ReadOnlyTable, ReadableDatabase, TableDefinition};
use tokio::sync::{mpsc, oneshot};

use crate::table::{Error, Item, ItemKey, Page, Range, Secondary, Table, Write};

mod codec;
mod read;
mod write;

type Definition = TableDefinition<'static, &'static [u8], &'static [u8]>;
type Tree = ReadOnlyTable<&'static [u8], &'static [u8]>;

const ITEMS: Definition = TableDefinition::new("items");

/// Transactions that may wait for the writer; more wait in [`Table::transact`].
const QUEUE: usize = 1024;

/// Items that are read on the thread that asks for them.
const INLINE_KEYS: usize = 4;

/// A table in one file, which no other process may use at the same time, or in memory.
#[derive(Debug)]
pub struct Redb {
    engine: Arc<Engine>,
    /// The writer's queue and thread; `None` once this is being dropped.
    writer: Option<(mpsc::Sender<write::Job>, JoinHandle<()>)>,
}

/// The engine, which the writer closes and opens again when a commit has failed.
#[derive(Debug)]
struct Engine {
    source: Source,
    cache_bytes: usize,
    database: RwLock<Option<Database>>,
}

#[derive(Debug)]
enum Source {
    File(PathBuf),
    Memory,
}

impl Redb {
    /// Opens the table in a file, which is created if it is not there. `cache_bytes` is what the engine may hold
    /// in memory of its pages.
    ///
    /// # Errors
    /// [`Error::Backend`] if the file cannot be used, is no table, or another process uses it.
    pub fn open(path: &Path, cache_bytes: usize) -> Result<Self, Error> {
        Self::start(Source::File(path.to_owned()), cache_bytes)
    }

    /// An empty table in memory, for tests.
    ///
    /// # Errors
    /// None are expected.
    pub fn in_memory() -> Result<Self, Error> {
        Self::start(Source::Memory, 16 * 1024 * 1024)
    }

    fn start(source: Source, cache_bytes: usize) -> Result<Self, Error> {
        let database = source.open(cache_bytes)?;
        let engine = Arc::new(Engine { source, cache_bytes, database: RwLock::new(Some(database)) });
        let (writer, jobs) = mpsc::channel(QUEUE);
        let thread = std::thread::Builder::new().name("table-write".into());
        let for_writer = Arc::clone(&engine);
        let thread = thread
            .spawn(move || write::run(jobs, &for_writer))
            .map_err(|source| failed("start the thread that writes the table", source))?;
        Ok(Self { engine, writer: Some((writer, thread)) })
    }

    /// Reads on a thread that may wait for the disk: the way there costs some ten microseconds, and whether the
    /// pages are in memory cannot be known before.
    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Database) -> Result<T, redb::Error> + Send + 'static,
    ) -> Result<T, Error> {
        let engine = Arc::clone(&self.engine);
        let outcome = tokio::task::spawn_blocking(move || engine.with(work)).await;
        outcome.map_err(|error| failed("read the table", error))?
    }
}

#[async_trait]
impl Table for Redb {
    async fn get(&self, keys: &[ItemKey]) -> Result<Vec<Option<Item>>, Error> {
        let keys = keys.to_vec();
        // A few pages, most of them at hand: waking another thread for them would take longer.
        if keys.len() <= INLINE_KEYS {
            return self.engine.with(|database| read::get(database, keys));
        }
        self.read(move |database| read::get(database, keys)).await
    }

    async fn range(&self, range: &Range) -> Result<Page, Error> {
        let range = range.clone();
        self.read(move |database| read::range(database, &range)).await
    }

    async fn transact(&self, writes: Vec<Write>) -> Result<(), Error> {
        let writes = codec::encode(writes)?;
        let (done, outcome) = oneshot::channel();
        let gone = || failed("write the table", "its thread has ended");
        let (writer, _) = self.writer.as_ref().ok_or_else(gone)?;
        writer.send(write::Job { writes, done }).await.map_err(|_| gone())?;
        outcome.await.map_err(|_| gone())?
    }
}

/// Ends when what waits is written and the file is closed, so that it can be opened again at once.
impl Drop for Redb {
    fn drop(&mut self) {
        if let Some((writer, thread)) = self.writer.take() {
            drop(writer);
            // A panic of the writer was reported when it happened.
            let _ = thread.join();
        }
        self.engine.close();
    }
}

impl Source {
    fn open(&self, cache_bytes: usize) -> Result<Database, Error> {
        let mut builder = Database::builder();
        builder.set_cache_size(cache_bytes);
        let database = match self {
            Self::File(path) => builder.create(path),
            Self::Memory => builder.create_with_backend(InMemoryBackend::new()),
        };
        let database = database.map_err(|error| failed_engine("open the table", error.into()))?;
        write::prepare(&database).map_err(|error| failed_engine("open the table", error))?;
        Ok(database)
    }
}

impl Engine {
    /// Does `work`, after another attempt to open the engine if the last one failed. Blocks.
    fn with<T>(&self, work: impl FnOnce(&Database) -> Result<T, redb::Error>) -> Result<T, Error> {
        if matches!(self.database.read().as_deref(), Ok(None)) {
            self.open()?;
        }
        let database = self.database.read().map_err(|_| closed())?;
        let database = database.as_ref().ok_or_else(closed)?;
        work(database).map_err(|error| failed_engine("use the table", error))
    }

    fn open(&self) -> Result<(), Error> {
        let mut database = self.database.write().map_err(|_| closed())?;
        if database.is_none() {
            *database = Some(self.source.open(self.cache_bytes)?);
        }
        Ok(())
    }

    /// Closes the engine when everyone who reads has done.
    fn close(&self) {
        if let Ok(mut database) = self.database.write() {
            *database = None;
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

fn tree(database: &Database, definition: Definition) -> Result<Tree, redb::Error> {
    Ok(database.begin_read()?.open_table(definition)?)
}

fn failed(operation: &'static str, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::Backend { operation, source: source.into() }
}

fn failed_engine(operation: &'static str, error: redb::Error) -> Error {
    match error {
        redb::Error::Io(error) if is_no_space(&error) => Error::NoSpace,
        error => failed(operation, error),
    }
}

fn is_no_space(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)
}

fn closed() -> Error {
    failed("use the table", "it was closed after a failure of the disk")
}

#[cfg(test)]
mod tests;
