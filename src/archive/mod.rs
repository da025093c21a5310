//! The server, in no protocol's words: taking in, finding, giving back. Doors see this module only.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use tracing::warn;

use crate::archive::derived::cache::Temporary;
use crate::archive::keyed_lock::Claims;
use crate::archive::permits::Permits;
use crate::archive::storing::StoringState;
use crate::blobs::Blobs;
use crate::config::{
    BlobStore, Config, IngestSettings, PreviewSettings, RenderingSettings, SearchSettings, StorageSettings,
    TableEngine,
};
use crate::decoders::Decoders;
use crate::index::Index;
use crate::queue::embedded::EmbeddedQueue;
use crate::queue::{Job, Queue};

pub mod access;
mod blocking;
pub mod derived;
mod error;
pub mod ingest;
mod keyed_lock;
mod keys;
pub mod maintenance;
pub mod permits;
pub mod read;
pub mod search;
mod storing;

#[cfg(test)]
pub(crate) use crate::archive::blocking::injected;
pub use crate::archive::blocking::run_blocking;
pub use crate::archive::error::Error;
pub use crate::archive::read::MetadataStream;
pub use crate::archive::storing::NotStoring;

pub use crate::index::records;

/// How long who stores an instance waits until workers are told.
const MAX_ANNOUNCING: Duration = Duration::from_secs(2);

/// An archive of DICOM instances: bytes in `blobs`, everything known of them in `index`.
pub struct Archive {
    blobs: Arc<dyn Blobs>,
    index: Arc<Index>,
    queue: Arc<dyn Queue>,
    /// Whether other processes may be using the store and the index.
    is_shared: bool,
    ingest: IngestSettings,
    search: SearchSettings,
    preview: PreviewSettings,
    rendering: RenderingSettings,
    permits: Permits,
    decoder_processes: Decoders,
    claims: Claims,
    storing: StoringState,
    temporary: Temporary,
    /// Whether the metadata of large series are kept as one object, because the index is far away.
    keeps_bundles: bool,
}

impl Archive {
    /// An archive over a blob store and an index, which is its queue of jobs too.
    pub fn new(blobs: Arc<dyn Blobs>, index: Arc<Index>, config: &Config) -> Arc<Self> {
        let queue = Arc::new(EmbeddedQueue::new(index.clone()));
        Self::with_queue(blobs, index, queue, config)
    }

    /// An archive over a blob store, an index and a queue of jobs.
    pub fn with_queue(
        blobs: Arc<dyn Blobs>,
        index: Arc<Index>,
        queue: Arc<dyn Queue>,
        config: &Config,
    ) -> Arc<Self> {
        Arc::new(Self {
            blobs,
            index,
            queue,
            is_shared: is_shared(&config.storage),
            ingest: config.ingest.clone(),
            search: config.search.clone(),
            preview: config.preview.clone(),
            rendering: config.rendering.clone(),
            permits: Permits::new(config),
            decoder_processes: Decoders::new(&config.decoders),
            claims: Claims::default(),
            storing: StoringState::default(),
            temporary: Temporary::new(config.derived.cache_max_bytes),
            keeps_bundles: config.storage.table == TableEngine::Dynamodb,
        })
    }

    /// The queue that tells workers of this archive's jobs.
    pub fn queue(&self) -> &dyn Queue {
        self.queue.as_ref()
    }

    /// Announces a job. Where that fails it is found later: the index knows it.
    async fn announce(&self, job: Job, delay: Duration) {
        // It is a hint, and must not hold up an answer.
        let Ok(announced) = timeout(MAX_ANNOUNCING, self.queue.announce(&job, delay)).await else {
            return warn!("cannot announce a job in time; the next look at the index will find it");
        };
        if let Err(error) = announced {
            let error = format!("{:#}", anyhow::Error::new(error));
            warn!(error, "cannot announce a job; the next look at the index will find it");
        }
    }

    /// How many results a search gives when it names no limit, and at the most.
    pub fn search_limits(&self) -> (usize, usize) {
        (self.search.default_limit, self.search.max_limit)
    }

    /// How many bytes one request to store may hold, how many must come in a second, and how many parts there may be.
    pub fn request_limits(&self) -> (u64, u64, usize) {
        (self.ingest.max_request_bytes, self.ingest.min_bytes_per_second, self.ingest.max_parts)
    }

    /// The permits for work of which the archive does only so much at a time.
    pub fn permits(&self) -> &Permits {
        &self.permits
    }
}

/// Whether other servers, on other machines too, may be using what is stored: nothing that lasts is in the data directory.
pub fn is_shared(storage: &StorageSettings) -> bool {
    storage.blobs == BlobStore::S3 && storage.table == TableEngine::Dynamodb
}
