//! Tests of the cache over objects in memory.

use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::TryStreamExt;
use tempfile::TempDir;

use super::*;
use crate::blobs::contract::{self, chunks, key, put};
use crate::blobs::memory::MemoryBlobs;

/// Objects in memory, with a count of the reads.
#[derive(Default)]
struct CountingBlobs {
    objects: MemoryBlobs,
    reads: AtomicUsize,
}

#[async_trait]
impl Blobs for CountingBlobs {
    async fn stage(&self) -> Result<Staged, Error> {
        self.objects.stage().await
    }

    async fn put(&self, staged: Staged, key: &Key) -> Result<(), Error> {
        self.objects.put(staged, key).await
    }

    async fn read(&self, key: &Key, range: Range<u64>) -> Result<ByteStream, Error> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.objects.read(key, range).await
    }

    async fn size(&self, key: &Key) -> Result<Option<u64>, Error> {
        self.objects.size(key).await
    }

    async fn delete(&self, key: &Key) -> Result<(), Error> {
        self.objects.delete(key).await
    }

    async fn flush(&self) -> Result<(), Error> {
        self.objects.flush().await
    }

    fn unconfirmed(&self) -> Vec<Key> {
        self.objects.unconfirmed()
    }

    fn list(&self, bucket: Bucket, prefix: &str) -> BoxStream<'static, Result<ListedObject, Error>> {
        self.objects.list(bucket, prefix)
    }
}

struct CacheBench {
    inner: Arc<CountingBlobs>,
    cached: CachedBlobs,
    directory: TempDir,
}

impl CacheBench {
    fn new(max_bytes: u64) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let inner = Arc::new(CountingBlobs::default());
        let cached = CachedBlobs::open(inner.clone(), directory.path(), max_bytes).unwrap();
        Self { inner, cached, directory }
    }

    async fn read(&self, path: &str, range: Range<u64>) -> Vec<u8> {
        chunks(&self.cached, &key(path), range).await.unwrap().concat()
    }

    /// The number of reads that passed the cache.
    fn reads(&self) -> usize {
        self.inner.reads.load(Ordering::Relaxed)
    }

    /// Bytes in files, each counted as whole blocks.
    fn bytes_on_disk(&self) -> u64 {
        let files = std::fs::read_dir(self.cached.cache.scratch.path()).unwrap();
        files.map(|file| file.unwrap().metadata().unwrap().len().next_multiple_of(4096)).sum()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_contract_holds_through_the_cache() {
    contract::check(&CacheBench::new(1 << 20).cached).await;
    contract::check(&CacheBench::new(1 << 30).cached).await;
}

#[tokio::test]
async fn a_range_and_its_parts_are_read_once() {
    let bench = CacheBench::new(1 << 20);
    let bytes: Vec<u8> = (0..100_000).map(|at| (at % 251) as u8).collect();
    put(&bench.cached, &key("a"), &bytes).await;
    for range in [1000..50_000, 1000..50_000, 1000..1001, 49_999..50_000, 2000..30_000] {
        assert!(bench.read("a", range.clone()).await == bytes[range.start as usize..range.end as usize]);
    }
    assert_eq!(bench.reads(), 1);
    for range in [999..1001, 49_000..50_001] {
        assert!(bench.read("a", range.clone()).await == bytes[range.start as usize..range.end as usize]);
    }
    assert_eq!(bench.reads(), 3, "one read for each range that is not cached whole");
    bench.read("a", 0..100_000).await;
    for range in [999..1001, 49_000..50_001, 0..100_000, 99_999..100_000] {
        assert!(bench.read("a", range.clone()).await == bytes[range.start as usize..range.end as usize]);
    }
    assert_eq!(bench.reads(), 4);
    assert_eq!(bench.bytes_on_disk(), 100_000_u64.next_multiple_of(4096), "parts are evicted for the whole");
}

#[tokio::test]
async fn the_range_used_longest_ago_is_evicted() {
    let bench = CacheBench::new(3 * 4096);
    for path in ["a", "b", "c", "d"] {
        put(&bench.cached, &key(path), &[0; 8192]).await;
    }
    for path in ["a", "b", "c", "a", "d"] {
        bench.read(path, 0..4096).await;
        assert!(bench.bytes_on_disk() <= 3 * 4096);
    }
    assert_eq!(bench.reads(), 4);
    for path in ["a", "c", "d"] {
        bench.read(path, 0..4096).await;
    }
    assert_eq!(bench.reads(), 4);
    bench.read("b", 0..1).await;
    assert_eq!(bench.reads(), 5);
    bench.read("b", 0..1 << 13).await;
    bench.read("b", 0..1 << 13).await;
    assert_eq!(bench.reads(), 6);
}

#[tokio::test]
async fn an_object_that_is_deleted_or_replaced_is_evicted() {
    let bench = CacheBench::new(1 << 20);
    put(&bench.cached, &key("a"), b"old").await;
    assert_eq!(bench.read("a", 0..3).await, b"old");
    put(&bench.cached, &key("a"), b"new").await;
    assert_eq!(bench.read("a", 0..3).await, b"new");
    bench.cached.delete(&key("a")).await.unwrap();
    assert!(matches!(chunks(&bench.cached, &key("a"), 0..3).await, Err(Error::NotFound(_))));
    assert_eq!(bench.bytes_on_disk(), 0);
}

#[tokio::test]
async fn an_object_that_changes_while_it_is_read_is_not_cached() {
    let bench = CacheBench::new(1 << 20);
    let size = 2 * CHUNK_BYTES as u64;
    put(&bench.cached, &key("a"), &vec![0; size as usize]).await;
    let mut old = bench.cached.read(&key("a"), 0..size).await.unwrap();
    old.try_next().await.unwrap().unwrap();
    put(&bench.cached, &key("a"), &vec![1; size as usize]).await;
    while let Some(chunk) = old.try_next().await.unwrap() {
        assert!(chunk.iter().all(|byte| *byte == 0));
    }
    assert!(bench.read("a", 0..size).await.iter().all(|byte| *byte == 1));
    drop(old);
    bench.read("a", 0..size).await;
    let reads = bench.reads();
    assert!(bench.read("a", 0..size).await.iter().all(|byte| *byte == 1));
    assert_eq!(bench.reads(), reads, "the object is cached again");
}

#[tokio::test]
async fn derived_and_large_and_unfinished_reads_are_not_cached() {
    let bench = CacheBench::new(1 << 30);
    let derived = Key { bucket: Bucket::Previews, path: "a".into() };
    put(&bench.cached, &derived, &[0; 100]).await;
    chunks(&bench.cached, &derived, 0..100).await.unwrap();
    let large = MAX_RANGE_BYTES + 1;
    put(&bench.cached, &key("large"), &vec![0; large as usize]).await;
    bench.read("large", 0..large).await;
    let mut begun = bench.cached.read(&key("large"), 0..large - 1).await.unwrap();
    begun.try_next().await.unwrap().unwrap();
    drop(begun);
    assert_eq!(bench.bytes_on_disk(), 0);
}

#[tokio::test]
async fn a_file_that_was_cut_short_or_removed_is_no_loss() {
    let bench = CacheBench::new(1 << 20);
    put(&bench.cached, &key("a"), b"bytes").await;
    bench.read("a", 0..5).await;
    let file = std::fs::read_dir(bench.cached.cache.scratch.path()).unwrap().next().unwrap().unwrap().path();
    std::fs::write(&file, b"by").unwrap();
    assert_eq!(bench.read("a", 0..5).await, b"bytes");
    std::fs::remove_file(&file).unwrap();
    assert_eq!(bench.read("a", 0..5).await, b"bytes");
}

#[tokio::test]
async fn the_directory_is_emptied_with_the_process() {
    let bench = CacheBench::new(1 << 20);
    put(&bench.cached, &key("a"), b"bytes").await;
    bench.read("a", 0..5).await;
    assert_eq!(std::fs::read_dir(bench.directory.path()).unwrap().count(), 1);
    drop(bench.cached);
    assert_eq!(std::fs::read_dir(bench.directory.path()).unwrap().count(), 0);
}
