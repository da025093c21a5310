//! Opens the object store, the table and the queue that the settings name.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;

use crate::blobs::Blobs;
use crate::blobs::cached::CachedBlobs;
use crate::blobs::fs::FileBlobs;
use crate::blobs::s3::S3Blobs;
use crate::config::{BlobStore, Config, JobQueue, JobsSettings, StorageSettings, TableEngine};
use crate::index::Index;
use crate::queue::Queue;
use crate::queue::embedded::EmbeddedQueue;
use crate::queue::sqs::SqsQueue;
use crate::table::Table;
use crate::table::dynamodb::DynamodbTable;
use crate::table::dynamodb::schema::SchemaError;
use crate::table::redb::Redb;

/// The file of the embedded index in the data directory.
pub(super) const INDEX_FILE: &str = "index.redb";
/// The file of an embedded index that is being rebuilt, until it is complete.
pub(super) const REBUILT_INDEX_FILE: &str = "index.rebuilt.redb";

/// Opens the object store. In a data directory it is opened first, since its lock excludes other processes
/// from the whole directory.
pub(super) async fn open_blobs(config: &Config) -> anyhow::Result<Arc<dyn Blobs>> {
    let data = &config.storage.data;
    match config.storage.blobs {
        BlobStore::Fs => Ok(Arc::new(FileBlobs::open(data).with_context(|| cannot_use(data))?)),
        BlobStore::S3 => {
            let blobs = S3Blobs::open(&config.s3, &data.join("staging")).await;
            let blobs: Arc<dyn Blobs> = Arc::new(blobs.context("cannot use S3 (storage.blobs)")?);
            if config.s3.cache_max_bytes == 0 {
                return Ok(blobs);
            }
            let cached = CachedBlobs::open(blobs, &data.join("cache"), config.s3.cache_max_bytes);
            Ok(Arc::new(cached.with_context(|| cannot_use(data))?))
        }
    }
}

/// Opens the table of the index; `file` is the name of an embedded table in the data directory.
pub(super) async fn open_table(config: &Config, file: &str) -> anyhow::Result<Arc<dyn Table>> {
    let StorageSettings { data, index_cache_mib, table, .. } = &config.storage;
    match table {
        TableEngine::Redb => {
            let table = Redb::open(&data.join(file), index_cache_mib << 20);
            Ok(Arc::new(table.with_context(|| cannot_use(data))?))
        }
        TableEngine::Dynamodb => {
            let table = DynamodbTable::connect(&config.dynamodb).await;
            table
                .verify()
                .await
                .map_err(|error| match error {
                    missing @ SchemaError::Missing(_) => {
                        anyhow::Error::from(missing).context("create it with `cuspid table create`")
                    }
                    other => other.into(),
                })
                .with_context(|| {
                    format!("cannot use the table {} (dynamodb.table)", config.dynamodb.table)
                })?;
            Ok(Arc::new(table))
        }
    }
}

/// Opens the job queue.
pub(super) async fn open_queue(config: &Config, index: &Arc<Index>) -> anyhow::Result<Arc<dyn Queue>> {
    let JobsSettings { queue, queue_url, region, endpoint, .. } = &config.jobs;
    Ok(match queue {
        JobQueue::Table => Arc::new(EmbeddedQueue::new(index.clone())),
        JobQueue::Sqs => {
            let queue = SqsQueue::open(queue_url, region, endpoint).await;
            Arc::new(queue.with_context(|| format!("cannot use the queue {queue_url} (jobs.queue_url)"))?)
        }
    })
}

fn cannot_use(data: &Path) -> String {
    format!("cannot use the data directory {} (storage.data)", data.display())
}
