//! The engines that the index is tested over: every test runs on each of them.

use std::sync::Arc;

use crate::index::Index;
use crate::table::Table;
use crate::table::dynamodb::testing::{each_server, new_table};
use crate::table::redb::Redb;

/// Runs tests over each engine: `redb::name`, and `dynamodb::name` on each server that `tools/cloud.py` starts.
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
    /// How many random cases there is time for.
    pub(super) cases: usize,
}

impl Engine {
    /// The embedded engine, in memory.
    pub(super) fn redb() -> Self {
        Self { table: Arc::new(Redb::in_memory().unwrap()), cases: 1500 }
    }

    /// One for each server that speaks DynamoDB's protocol.
    pub(super) async fn dynamodb() -> Vec<Self> {
        let tables = each_server().into_iter().map(|server| async move {
            // Shown if a test fails: the last one named is where.
            println!("on {}", server.name);
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
