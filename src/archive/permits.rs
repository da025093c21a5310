//! Limits on how much work of each kind the archive does at a time.

use std::num::NonZero;
use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::budget::{Budget, Grant};
use crate::config::Config;

/// Each animation takes up to twice `rendering.max_animation_bytes`, and memory is to hold two of them.
const MAX_ANIMATIONS: usize = 2;
/// Parsed metadata may take a hundred times the memory of its text, so that instances are planned one by one.
const MAX_ASSEMBLIES: usize = 1;
/// Each zip archive is unpacked on a thread of its own, which waits for the upload of its entries most of the
/// time.
const MAX_UNZIPS: usize = 8;
/// Metadata bundles are made beside the responses that need no bundle: a few at a time do not hold up other
/// requests.
const MAX_BUNDLES: usize = 4;

/// The uploads for each core that may end on a blocking thread of their own: they wait for the disk most of
/// the time.
const CONCLUSIONS_PER_CORE: usize = 4;
/// The blocking threads for each core for work that waits for no other such thread.
const BLOCKING_THREADS_PER_CORE: usize = 8;
/// The part of `ingest.max_upload_memory_bytes`, as a divisor, for bytes that wait for more of their
/// instance.
const GATHERED_SHARE: usize = 4;

/// The right to do one piece of work, until it is dropped.
pub type Permit = OwnedSemaphorePermit;

/// The permits of an archive. Each method waits, first come first served, until a permit is free.
pub struct Permits {
    uploads: Budget,
    upload_memory: Budget,
    gathered_memory: Budget,
    upload_wait: Duration,
    conclusions: Arc<Semaphore>,
    batches: Arc<Semaphore>,
    codecs: Arc<Semaphore>,
    transcodes: Arc<Semaphore>,
    animations: Arc<Semaphore>,
    assemblies: Arc<Semaphore>,
    unzips: Arc<Semaphore>,
    bundles: Arc<Semaphore>,
    inflates: Arc<Semaphore>,
}

impl Permits {
    /// Sets the limits from the settings and the number of cores.
    pub(in crate::archive) fn new(config: &Config) -> Self {
        let cores = cores();
        let limit = |permits| Arc::new(Semaphore::new(permits));
        let upload_memory = config.ingest.max_upload_memory_bytes;
        Self {
            uploads: Budget::of_places(config.ingest.max_uploads, config.ingest.max_uploads_per_client),
            upload_memory: Budget::of_bytes(upload_memory - upload_memory / GATHERED_SHARE),
            gathered_memory: Budget::of_bytes(upload_memory / GATHERED_SHARE),
            upload_wait: Duration::from_secs(config.ingest.upload_wait_seconds),
            conclusions: limit(CONCLUSIONS_PER_CORE * cores),
            // One batch for each core to work on, and one more to be ready when a core is free.
            batches: limit(2 * cores),
            codecs: limit(cores),
            // A transcoded instance waits for its frames, which need permits of their own.
            transcodes: limit(2 * cores),
            animations: limit(MAX_ANIMATIONS),
            assemblies: limit(MAX_ASSEMBLIES),
            unzips: limit(MAX_UNZIPS),
            bundles: limit(MAX_BUNDLES),
            inflates: limit(cores),
        }
    }

    /// One of `ingest.max_uploads` places to work on an instance of a client; `None` if none is free in time.
    pub(in crate::archive) async fn upload(&self, client: &str) -> Option<Grant> {
        timeout(self.upload_wait, self.uploads.take(client, 1)).await.ok()
    }

    /// Memory for what is held of an instance that a client sends, of `ingest.max_upload_memory_bytes`;
    /// `None` if there is none in time.
    pub(in crate::archive) async fn upload_memory(&self, client: &str, bytes: usize) -> Option<Grant> {
        timeout(self.upload_wait, self.upload_memory.take(client, bytes)).await.ok()
    }

    /// Memory for bytes that a client has sent and that wait for more of their instance; `None` if there is
    /// none now. It is apart from the memory that an upload needs to go on.
    pub(in crate::archive) fn try_gather(&self, client: &str, bytes: usize) -> Option<Grant> {
        self.gathered_memory.try_take(client, bytes)
    }

    /// A permit to end an upload on one blocking thread, which is held until the instance is stored; `None`
    /// if there is none now.
    pub(in crate::archive) fn try_conclusion(&self) -> Option<Permit> {
        self.conclusions.clone().try_acquire_owned().ok()
    }

    /// A permit to scan, hash and write a batch of bytes of an upload, twice as many as there are cores: with
    /// more, memory would fill with batches that wait.
    pub(in crate::archive) async fn batch(&self) -> Permit {
        acquire(&self.batches).await
    }

    /// A permit to do work that takes a core and a lot of memory, as many as there are cores: decoding,
    /// encoding or rendering a frame, or parsing metadata.
    pub async fn codec(&self) -> Permit {
        acquire(&self.codecs).await
    }

    /// A permit to write an instance in another transfer syntax, twice as many as there are cores: each holds
    /// a staged file.
    pub(in crate::archive) async fn transcode(&self) -> Permit {
        acquire(&self.transcodes).await
    }

    /// A permit to make an animation, which is held in memory.
    pub(in crate::archive) async fn animation(&self) -> Permit {
        acquire(&self.animations).await
    }

    /// A permit to plan an instance from metadata that came apart from its bulk data.
    pub(in crate::archive) async fn assembly(&self) -> Permit {
        acquire(&self.assemblies).await
    }

    /// A permit to unpack a zip archive.
    pub(in crate::archive) async fn unzip(&self) -> Permit {
        acquire(&self.unzips).await
    }

    /// Permits to inflate some bytes of a stored object, as many as there are cores. A reader of a frame
    /// holds a permit of another kind, and no permit is awaited while one of these is held.
    pub(in crate::archive) fn inflates(&self) -> InflatePermits {
        InflatePermits(self.inflates.clone())
    }

    /// A permit to make a metadata bundle, if one is free now.
    pub(in crate::archive) fn try_bundle(&self) -> Option<Permit> {
        self.bundles.clone().try_acquire_owned().ok()
    }
}

/// The permits to inflate some bytes of a stored object.
pub(in crate::archive) struct InflatePermits(Arc<Semaphore>);

impl InflatePermits {
    /// Waits for one of the permits.
    pub(in crate::archive) async fn permit(&self) -> Permit {
        acquire(&self.0).await
    }
}

async fn acquire(semaphore: &Arc<Semaphore>) -> Permit {
    semaphore.clone().acquire_owned().await.expect("the semaphore is never closed")
}

/// The number of blocking threads that the runtime needs. Work that holds a thread while it waits for other
/// work of that kind is limited by permits, and has threads besides the others, so that it never takes all.
pub fn blocking_threads() -> usize {
    (BLOCKING_THREADS_PER_CORE + CONCLUSIONS_PER_CORE) * cores() + MAX_UNZIPS
}

/// The number of cores of this machine, 1 if it is unknown.
pub(in crate::archive) fn cores() -> usize {
    available_parallelism().map_or(1, NonZero::get)
}
