//! The table engines for tests of the index. Every test runs on each of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;

use crate::index::Index;
use crate::table::dynamodb::testing::{each_server, new_table};
use crate::table::redb::Redb;
use crate::table::{Error, Item, ItemKey, Page, Range, SortKeys, Table, Write};

/// Runs tests over each engine: `redb::name`, `remote::name` on the same engine as if it were remote, and
/// `dynamodb::name` on each server that `tools/cloud.py` starts.
macro_rules! on_each_engine {
    ($($test:ident,)*) => {
        mod redb {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
                async fn $test() {
                    super::$test($crate::index::engine_tests::Engine::redb()).await;
                }
            )*
        }
        mod remote {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
                async fn $test() {
                    super::$test($crate::index::engine_tests::Engine::remote()).await;
                }
            )*
        }
        mod dynamodb {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
                async fn $test() {
                    for engine in $crate::index::engine_tests::Engine::dynamodb().await {
                        super::$test(engine).await;
                    }
                }
            )*
        }
    };
}
pub(super) use on_each_engine;

/// An engine with an empty table.
pub(super) struct Engine {
    /// The table.
    pub(super) table: Arc<dyn Table>,
    /// The number of random cases that a test may run in reasonable time.
    pub(super) cases: usize,
}

impl Engine {
    /// The embedded engine, in memory.
    pub(super) fn redb() -> Self {
        Self { table: Arc::new(Redb::in_memory().unwrap()), cases: 1500 }
    }

    /// The embedded engine as if it were remote: records and commits take the forms for a remote table.
    pub(super) fn remote() -> Self {
        let Self { table, cases } = Self::redb();
        Self { table: Arc::new(RemoteTable(table)), cases }
    }

    /// An engine for each test server with DynamoDB's protocol.
    pub(super) async fn dynamodb() -> Vec<Self> {
        let tables = each_server().into_iter().map(|server| async move {
            // Shown if a test fails: the last named server is the one at fault.
            eprintln!("on {}", server.name);
            Self { table: Arc::new(new_table(&server).await), cases: 150 }
        });
        let mut engines = Vec::new();
        for table in tables {
            engines.push(table.await);
        }
        engines
    }

    /// An index over the table.
    pub(super) fn index(&self) -> Index {
        Index::new(self.table.clone())
    }
}

/// A table that says that it is remote.
pub(super) struct RemoteTable(pub(super) Arc<dyn Table>);

#[async_trait]
impl Table for RemoteTable {
    async fn get(&self, keys: &[ItemKey]) -> Result<Vec<Option<Item>>, Error> {
        self.0.get(keys).await
    }

    async fn range(&self, range: &Range) -> Result<Page, Error> {
        self.0.range(range).await
    }

    async fn sort_keys(&self, range: &Range) -> Result<SortKeys, Error> {
        self.0.sort_keys(range).await
    }

    async fn transact(&self, writes: Vec<Write>) -> Result<(), Error> {
        self.0.transact(writes).await
    }

    fn health(&self) -> Result<(), Error> {
        self.0.health()
    }

    fn is_remote(&self) -> bool {
        true
    }
}

/// A table that counts its calls.
pub(super) struct CountingTable {
    table: Arc<dyn Table>,
    reads: AtomicUsize,
    rows: AtomicUsize,
    keys: AtomicUsize,
    single_writes: AtomicUsize,
    transactions: AtomicUsize,
    conflicts: AtomicUsize,
}

/// The counts of a [`CountingTable`] table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counts {
    /// The number of calls that read.
    pub(super) reads: usize,
    /// The number of items read.
    pub(super) rows: usize,
    /// The number of sort keys read without their items.
    pub(super) keys: usize,
    /// The number of transactions of one write.
    pub(super) single_writes: usize,
    /// The number of transactions of several writes, including those with a conflict.
    pub(super) transactions: usize,
    /// The number of transactions with a conflict.
    pub(super) conflicts: usize,
}

impl CountingTable {
    pub(super) fn new(table: Arc<dyn Table>) -> Self {
        let zero = AtomicUsize::default;
        Self {
            table,
            reads: zero(),
            rows: zero(),
            keys: zero(),
            single_writes: zero(),
            transactions: zero(),
            conflicts: zero(),
        }
    }

    /// Returns the counts since the last call of this function.
    pub(super) fn take(&self) -> Counts {
        let take = |count: &AtomicUsize| count.swap(0, Ordering::SeqCst);
        Counts {
            reads: take(&self.reads),
            rows: take(&self.rows),
            keys: take(&self.keys),
            single_writes: take(&self.single_writes),
            transactions: take(&self.transactions),
            conflicts: take(&self.conflicts),
        }
    }

    fn read(&self, rows: usize) {
        self.reads.fetch_add(1, Ordering::SeqCst);
        self.rows.fetch_add(rows, Ordering::SeqCst);
    }
}

#[async_trait]
impl Table for CountingTable {
    async fn get(&self, keys: &[ItemKey]) -> Result<Vec<Option<Item>>, Error> {
        let found = self.table.get(keys).await?;
        self.read(found.iter().flatten().count());
        Ok(found)
    }

    async fn range(&self, range: &Range) -> Result<Page, Error> {
        let page = self.table.range(range).await?;
        self.read(page.items.len());
        Ok(page)
    }

    async fn sort_keys(&self, range: &Range) -> Result<SortKeys, Error> {
        let found = self.table.sort_keys(range).await?;
        self.reads.fetch_add(1, Ordering::SeqCst);
        self.keys.fetch_add(found.keys.len(), Ordering::SeqCst);
        Ok(found)
    }

    async fn transact(&self, writes: Vec<Write>) -> Result<(), Error> {
        let count = if writes.len() > 1 { &self.transactions } else { &self.single_writes };
        count.fetch_add(1, Ordering::SeqCst);
        let outcome = self.table.transact(writes).await;
        self.conflicts.fetch_add(usize::from(matches!(outcome, Err(Error::Conflict(_)))), Ordering::SeqCst);
        outcome
    }

    fn health(&self) -> Result<(), Error> {
        self.table.health()
    }

    fn is_remote(&self) -> bool {
        self.table.is_remote()
    }
}
