//! The server behind the protocol layers, free of any protocol: ingest, search, reading, derived objects,
//! maintenance.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use tracing::warn;

use crate::archive::access::Tenant;
use crate::archive::changes::FollowedFeeds;
use crate::archive::damaged::DamagedObjects;
use crate::archive::derived::cache::DerivedCache;
use crate::archive::derived::metadata_text::TextBundles;
use crate::archive::derived::preview::pool::SlicePool;
use crate::archive::devices::Devices;
use crate::archive::ingest::recent::RecentUploads;
use crate::archive::keyed_lock::KeyedLock;
use crate::archive::permits::Permits;
use crate::archive::quotas::Quotas;
use crate::archive::response_memory::ResponseBudget;
use crate::archive::shares::HeldShares;
use crate::archive::signing::SigningKeys;
use crate::archive::storing::StoringState;
use crate::archive::traffic::TrafficMeter;
use crate::audit::AuditLog;
use crate::blobs::{Blobs, Key};
use crate::config::{
    BlobStore, ChangesSettings, Config, DeidentificationSettings, FramesAhead, IngestSettings,
    PreviewSettings, RenderingSettings, SearchSettings, SharingSettings, StorageSettings, TableEngine,
};
use crate::decoders::Decoders;
use crate::dicom::scan::ScanLimits;
use crate::dicom::uid::{InstanceUid, SeriesUid, StudyUid};
use crate::index::Index;
use crate::queue::embedded::EmbeddedQueue;
use crate::queue::{Job, Queue};
use crate::telemetry;

pub mod access;
pub mod audit;
mod blocking;
pub mod change_json;
pub mod changes;
pub mod commitments;
mod damaged;
pub mod derived;
pub mod devices;
mod error;
pub mod forwarding;
pub mod ingest;
mod keyed_lock;
mod keys;
pub mod lease;
pub mod maintenance;
pub mod permits;
mod quotas;
pub mod read;
mod response_memory;
pub mod scope;
pub mod search;
mod share_code;
pub mod share_links;
pub mod shares;
#[cfg(test)]
mod shares_tests;
pub mod signing;
pub mod status;
mod storing;
#[cfg(test)]
pub(crate) mod testing;
mod traffic;
pub mod usage;
mod verified;
pub mod webhooks;

#[cfg(test)]
pub(crate) use crate::archive::blocking::injected;
pub use crate::archive::blocking::{run_blocking, run_in_background, with_stack_for};
pub use crate::archive::error::Error;
pub use crate::archive::response_memory::{PartUnderWay, PartsUnderWay, ResponseMemory, run_apart};
pub use crate::archive::storing::NotStoring;

pub use crate::index::records;

/// The longest time that storing an instance waits for the job queue.
const MAX_ANNOUNCING: Duration = Duration::from_secs(2);

/// An archive of DICOM instances: their bytes are in `blobs`, their records in `index`.
pub struct Archive {
    blobs: Arc<dyn Blobs>,
    index: Arc<Index>,
    audit: AuditLog,
    queue: Arc<dyn Queue>,
    /// Whether other processes may be using the store and the index.
    is_shared: bool,
    ingest: IngestSettings,
    search: SearchSettings,
    preview: PreviewSettings,
    rendering: RenderingSettings,
    deidentification: DeidentificationSettings,
    changes: ChangesSettings,
    followed_feeds: FollowedFeeds,
    sharing: SharingSettings,
    held_shares: HeldShares,
    signing_keys: SigningKeys,
    quotas: Quotas,
    traffic: TrafficMeter,
    permits: Permits,
    response_budget: ResponseBudget,
    decoder_processes: Decoders,
    /// The SOP Instance UIDs under which an instance is being ingested.
    instance_locks: KeyedLock<(Tenant, InstanceUid)>,
    recent_uploads: RecentUploads,
    /// The slices of previews that are encoded ahead.
    slices: SlicePool,
    /// The derived objects that are being made.
    derived_locks: KeyedLock<Key>,
    /// Held while the link of a share is opened, by the share.
    link_locks: KeyedLock<String>,
    storing: StoringState,
    devices: Devices,
    /// The directory on whose disk the originals are; `None` if they are in a remote store.
    data_directory: Option<PathBuf>,
    damaged: Arc<DamagedObjects>,
    cache: DerivedCache,
    /// Whether the objects are in a remote store: each look at an object is a request.
    is_remote: bool,
    /// Whether instances are stored without a wait for a remote service.
    stores_locally: bool,
    /// The most bytes of objects that a response opens ahead, besides the first ones.
    max_ahead_bytes: u64,
    /// Whether a second read of an object needs no request to a remote store.
    reads_twice: bool,
    /// Whether metadata bundles of large series are cached, because the index is a remote service.
    caches_bundles: bool,
    text_bundles: TextBundles,
    /// The encoding of native frames that is made ahead of their first request.
    frames_ahead: FramesAhead,
}

impl Archive {
    /// Makes an archive over a blob store and an index, which is the job queue too.
    pub fn new(blobs: Arc<dyn Blobs>, index: Arc<Index>, config: &Config) -> Arc<Self> {
        let queue = Arc::new(EmbeddedQueue::new(index.clone()));
        Self::with_queue(blobs, index, queue, config)
    }

    /// Makes an archive over a blob store, an index and a job queue.
    pub fn with_queue(
        blobs: Arc<dyn Blobs>,
        index: Arc<Index>,
        queue: Arc<dyn Queue>,
        config: &Config,
    ) -> Arc<Self> {
        let is_remote = config.storage.blobs == BlobStore::S3;
        Arc::new(Self {
            blobs,
            audit: AuditLog::new(index.table(), &config.audit, &audit::source(config)),
            index,
            queue,
            is_remote,
            stores_locally: !is_remote && config.storage.table == TableEngine::Redb,
            max_ahead_bytes: if is_remote { config.s3.max_ahead_bytes } else { 0 },
            reads_twice: !is_remote || config.s3.cache_max_bytes > 0,
            is_shared: is_shared(&config.storage),
            ingest: config.ingest.clone(),
            search: config.search.clone(),
            preview: config.preview.clone(),
            rendering: config.rendering.clone(),
            deidentification: config.deidentification.clone(),
            changes: config.changes.clone(),
            followed_feeds: FollowedFeeds::default(),
            sharing: config.sharing.clone(),
            held_shares: HeldShares::default(),
            signing_keys: SigningKeys::default(),
            quotas: Quotas::new(&config.quotas),
            traffic: TrafficMeter::default(),
            permits: Permits::new(config),
            response_budget: ResponseBudget::new(&config.http),
            decoder_processes: Decoders::new(&config.decoders),
            instance_locks: KeyedLock::default(),
            recent_uploads: RecentUploads::default(),
            slices: SlicePool::new(&config.preview),
            derived_locks: KeyedLock::default(),
            link_locks: KeyedLock::default(),
            storing: StoringState::default(),
            devices: Devices::default(),
            data_directory: (!is_remote).then(|| config.storage.data.clone()),
            damaged: Arc::default(),
            cache: DerivedCache::new(config.derived.cache_max_bytes),
            caches_bundles: config.storage.table == TableEngine::Dynamodb,
            text_bundles: TextBundles::default(),
            frames_ahead: config.derived.frames_ahead,
        })
    }

    /// The job queue of this archive.
    pub fn queue(&self) -> &dyn Queue {
        self.queue.as_ref()
    }

    /// Announces to workers that the preview of a series is to be made. If that fails, a worker finds the
    /// series in the index later.
    async fn announce_preview(&self, tenant: &str, study: StudyUid, series: SeriesUid, delay: Duration) {
        let job = Job { tenant: tenant.to_owned(), study, series };
        // A response must not wait long for the queue.
        let Ok(announced) = timeout(MAX_ANNOUNCING, self.queue.announce(&job, delay)).await else {
            return warn!("cannot announce a job in time; the next look at the index will find it");
        };
        if let Err(error) = announced {
            let error = telemetry::chain(&error);
            warn!(error, "cannot announce a job; the next look at the index will find it");
        }
    }

    /// The number of results of a search that sets no limit, and the largest limit.
    pub fn search_limits(&self) -> (usize, usize) {
        (self.search.default_limit, self.search.max_limit)
    }

    /// The settings of shares and of signed URLs.
    pub fn sharing(&self) -> &SharingSettings {
        &self.sharing
    }

    /// The limits on a store request, which are settings.
    pub fn request_limits(&self) -> &IngestSettings {
        &self.ingest
    }

    /// The permits for work that is limited to so much at a time.
    pub fn permits(&self) -> &Permits {
        &self.permits
    }
}

/// The limits on the scan of an instance, from the settings.
fn scan_limits(ingest: &IngestSettings) -> ScanLimits {
    ScanLimits {
        max_header_bytes: ingest.max_header_bytes,
        max_sequence_depth: ingest.max_sequence_depth,
        max_elements: ingest.max_elements,
        max_inflated_bytes: ingest.max_inflated_bytes,
        max_deflate_ratio: ingest.max_deflate_ratio,
    }
}

/// Whether several servers, on other machines too, may use the storage: nothing durable is in the data
/// directory.
pub fn is_shared(storage: &StorageSettings) -> bool {
    storage.blobs == BlobStore::S3 && storage.table == TableEngine::Dynamodb
}
