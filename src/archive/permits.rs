//! Limits on how much work of each kind the archive does at a time.

use std::num::NonZero;
use std::thread::available_parallelism;
use std::time::Duration;

use tokio::time::timeout;

use crate::archive::access::Caller;
use crate::budget::{BACKGROUND, Budget, Grant};
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
pub type Permit = Grant;

/// The permits of an archive. Each method waits until a permit is free for the client. Clients are served in
/// turn, and none gets more than its share, so that a client with much work keeps no other from beginning
/// (see [`Budget`]).
///
/// A piece of work may need permits of several kinds. It takes them in the order of the fields.
pub struct Permits {
    uploads: Budget,
    upload_memory: Budget,
    gathered_memory: Budget,
    upload_wait: Duration,
    conclusions: Budget,
    batches: Budget,
    unzips: Budget,
    assemblies: Budget,
    bundles: Budget,
    transcodes: Budget,
    animations: Budget,
    frame_reads: Budget,
    inflates: Budget,
    codecs: Budget,
    queries: Budget,
}

impl Permits {
    /// Sets the limits from the settings and the number of cores.
    pub(in crate::archive) fn new(config: &Config) -> Self {
        let cores = cores();
        let upload_memory = config.ingest.max_upload_memory_bytes;
        let conclusions = CONCLUSIONS_PER_CORE * cores;
        let half_of = |permits| Budget::of_places(permits, 0);
        Self {
            uploads: Budget::of_places(config.ingest.max_uploads, config.ingest.max_uploads_per_client),
            upload_memory: Budget::of_bytes(upload_memory - upload_memory / GATHERED_SHARE),
            gathered_memory: Budget::of_bytes(upload_memory / GATHERED_SHARE),
            upload_wait: Duration::from_secs(config.ingest.upload_wait_seconds),
            // Who gets none goes on without, so that one client may have them all.
            conclusions: Budget::of_places(conclusions, conclusions),
            // For one client, one batch for each core to work on, and one more to be ready when a core is
            // free.
            batches: half_of(4 * cores),
            unzips: half_of(MAX_UNZIPS),
            assemblies: half_of(MAX_ASSEMBLIES),
            bundles: half_of(MAX_BUNDLES),
            transcodes: half_of(2 * cores),
            animations: half_of(MAX_ANIMATIONS),
            frame_reads: half_of(2 * cores),
            inflates: half_of(2 * cores),
            codecs: half_of(2 * cores),
            queries: half_of(2 * cores),
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
    pub(in crate::archive) fn try_conclusion(&self, client: &str) -> Option<Permit> {
        self.conclusions.try_take(client, 1)
    }

    /// A permit to scan, hash and write a batch of bytes of an upload: for one client, twice as many as there
    /// are cores. With more, memory would fill with batches that wait.
    pub(in crate::archive) async fn batch(&self, client: &str) -> Permit {
        self.batches.take(client, 1).await
    }

    /// A permit to do work that takes a core and a lot of memory: decoding, encoding or rendering a frame, or
    /// parsing metadata. One client has as many as there are cores, all clients together twice as many.
    pub async fn codec(&self, caller: &Caller) -> Permit {
        take(&self.codecs, caller).await
    }

    /// A codec permit for background work of no tenant in particular.
    pub(in crate::archive) async fn codec_in_background(&self) -> Permit {
        self.codecs.take(BACKGROUND, 1).await
    }

    /// A permit to read a frame into memory, which is held until there is a permit for the work with the
    /// frame: otherwise frames would pile up in memory. As many as codec permits.
    pub(in crate::archive) async fn frame_read(&self, caller: &Caller) -> Permit {
        take(&self.frame_reads, caller).await
    }

    /// A permit to write an instance in another transfer syntax: each holds a staged file. As many as codec
    /// permits.
    pub(in crate::archive) async fn transcode(&self, caller: &Caller) -> Permit {
        take(&self.transcodes, caller).await
    }

    /// A permit to make an animation, which is held in memory.
    pub(in crate::archive) async fn animation(&self, caller: &Caller) -> Permit {
        take(&self.animations, caller).await
    }

    /// A permit to plan an instance from metadata that came apart from its bulk data.
    pub(in crate::archive) async fn assembly(&self, caller: &Caller) -> Permit {
        take(&self.assemblies, caller).await
    }

    /// A permit to unpack a zip archive.
    pub(in crate::archive) async fn unzip(&self, caller: &Caller) -> Permit {
        take(&self.unzips, caller).await
    }

    /// A permit to read the identifier of a query, to read a page of results, or to look up some instances
    /// that a client names. As many as codec permits.
    pub async fn query(&self, caller: &Caller) -> Permit {
        take(&self.queries, caller).await
    }

    /// A permit to make a metadata bundle, if one is free now.
    pub(in crate::archive) fn try_bundle(&self, caller: &Caller) -> Option<Permit> {
        self.bundles.try_take(&caller.sharing_client(), 1)
    }

    /// Permits to inflate some bytes of a stored object for a client, as many as codec permits. A reader of a
    /// frame holds a permit of another kind, and no permit is awaited while one of these is held.
    pub(in crate::archive) fn inflates(&self, caller: &Caller) -> InflatePermits {
        InflatePermits { permits: self.inflates.clone(), client: caller.sharing_client() }
    }
}

/// The permits to inflate some bytes of a stored object for one client.
pub(in crate::archive) struct InflatePermits {
    permits: Budget,
    client: String,
}

impl InflatePermits {
    /// Waits for one of the permits.
    pub(in crate::archive) async fn permit(&self) -> Permit {
        self.permits.take(&self.client, 1).await
    }
}

async fn take(permits: &Budget, caller: &Caller) -> Permit {
    permits.take(&caller.sharing_client(), 1).await
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

#[cfg(test)]
mod tests {
    use futures_util::future::{BoxFuture, FutureExt};

    use super::*;

    type Kind = fn(&'static Permits, &'static Caller) -> BoxFuture<'static, Permit>;

    /// All kinds of permits that a client can wait for.
    const KINDS: [(&str, Kind); 10] = [
        ("batch", |permits, caller| async move { permits.batch(&caller.sharing_client()).await }.boxed()),
        ("codec", |permits, caller| permits.codec(caller).boxed()),
        ("query", |permits, caller| permits.query(caller).boxed()),
        ("frame_read", |permits, caller| permits.frame_read(caller).boxed()),
        ("transcode", |permits, caller| permits.transcode(caller).boxed()),
        ("animation", |permits, caller| permits.animation(caller).boxed()),
        ("assembly", |permits, caller| permits.assembly(caller).boxed()),
        ("unzip", |permits, caller| permits.unzip(caller).boxed()),
        ("inflate", |permits, caller| async move { permits.inflates(caller).permit().await }.boxed()),
        ("upload", |permits, caller| {
            async move { permits.upload(&caller.sharing_client()).await.expect("a place in time") }.boxed()
        }),
    ];

    fn caller(client: &str) -> &'static Caller {
        Box::leak(Box::new(Caller { client: client.into(), ..Caller::anonymous() }))
    }

    #[tokio::test]
    async fn a_client_waits_for_one_piece_of_work_of_another_at_most_and_background_work_for_all() {
        let [busy, other] = ["busy", "other"].map(caller);
        let server: &Caller = Box::leak(Box::new(Caller::server(busy.tenant.clone())));
        for (name, take) in KINDS {
            let permits: &Permits = Box::leak(Box::new(Permits::new(&Config::defaults())));
            let mut held = Vec::new();
            while let Some(permit) = take(permits, busy).now_or_never() {
                held.push(permit);
            }
            let mut waiting: Vec<_> = (0..3).map(|_| take(permits, busy)).collect();
            waiting.iter_mut().for_each(|waiting| assert!(waiting.now_or_never().is_none(), "{name}"));
            let (mut background, mut small) = (take(permits, server), take(permits, other));
            if name == "assembly" {
                assert!(background.as_mut().now_or_never().is_none());
                assert!(small.as_mut().now_or_never().is_none());
                drop(held.pop());
                // The busy client was first to wait; its next piece of work is the only one before.
                drop(waiting.remove(0).now_or_never().expect("the first in the queue"));
                drop(small.now_or_never().expect(name));
                drop((held, waiting));
                drop(background.now_or_never().expect("no other client waits"));
            } else {
                assert!(small.now_or_never().is_some(), "{name}");
            }
        }
    }
}
