//! Ingest over a remote table: the index is asked while the object of an instance that is probably new is
//! put.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use cuspid::archive::Archive;
use cuspid::archive::access::Caller;
use cuspid::archive::ingest::StoredInstance;
use cuspid::blobs::memory::MemoryBlobs;
use cuspid::blobs::{self, Blobs, Bucket, ByteStream, Key, ListedObject, Staged};
use cuspid::index::Index;
use cuspid::table::redb::Redb;
use cuspid::table::{self, Item, ItemKey, Page, Range, SortKeys, Table, Write};
use futures_util::TryStreamExt;
use futures_util::stream::BoxStream;
use tokio::sync::Barrier;
use tokio::time::timeout;

use crate::harness::{defaults, native};

/// A store and a table that meet: while `meets`, no put of an object ends before the location of an instance
/// is read, and the other way round.
struct Meeting {
    meets: AtomicBool,
    barrier: Barrier,
    puts: AtomicUsize,
    deletions: AtomicUsize,
}

impl Meeting {
    async fn meet(&self) {
        if self.meets.load(Ordering::SeqCst) {
            self.barrier.wait().await;
        }
    }

    /// The puts and deletions of objects since the last call.
    fn take(&self) -> (usize, usize) {
        (self.puts.swap(0, Ordering::SeqCst), self.deletions.swap(0, Ordering::SeqCst))
    }
}

struct MeetingBlobs(MemoryBlobs, Arc<Meeting>);

#[async_trait]
impl Blobs for MeetingBlobs {
    async fn stage(&self) -> Result<Staged, blobs::Error> {
        self.0.stage().await
    }

    async fn put(&self, staged: Staged, key: &Key) -> Result<(), blobs::Error> {
        self.1.puts.fetch_add(1, Ordering::SeqCst);
        self.1.meet().await;
        self.0.put(staged, key).await
    }

    async fn read(&self, key: &Key, range: std::ops::Range<u64>) -> Result<ByteStream, blobs::Error> {
        self.0.read(key, range).await
    }

    async fn size(&self, key: &Key) -> Result<Option<u64>, blobs::Error> {
        self.0.size(key).await
    }

    async fn delete(&self, key: &Key) -> Result<(), blobs::Error> {
        self.1.deletions.fetch_add(1, Ordering::SeqCst);
        self.0.delete(key).await
    }

    async fn flush(&self) -> Result<(), blobs::Error> {
        self.0.flush().await
    }

    fn unconfirmed(&self) -> Vec<Key> {
        self.0.unconfirmed()
    }

    fn list(&self, bucket: Bucket, prefix: &str) -> BoxStream<'static, Result<ListedObject, blobs::Error>> {
        self.0.list(bucket, prefix)
    }
}

struct MeetingTable(Redb, Arc<Meeting>);

#[async_trait]
impl Table for MeetingTable {
    async fn get(&self, keys: &[ItemKey]) -> Result<Vec<Option<Item>>, table::Error> {
        if matches!(keys, [key] if key.sort == "UID") {
            self.1.meet().await;
        }
        self.0.get(keys).await
    }

    async fn range(&self, range: &Range) -> Result<Page, table::Error> {
        self.0.range(range).await
    }

    async fn sort_keys(&self, range: &Range) -> Result<SortKeys, table::Error> {
        self.0.sort_keys(range).await
    }

    async fn transact(&self, writes: Vec<Write>) -> Result<(), table::Error> {
        self.0.transact(writes).await
    }

    fn health(&self) -> Result<(), table::Error> {
        self.0.health()
    }

    fn is_remote(&self) -> bool {
        true
    }
}

/// The storage of a fleet, and its nodes.
struct Fleet {
    meeting: Arc<Meeting>,
    blobs: Arc<MeetingBlobs>,
    table: Arc<MeetingTable>,
}

impl Fleet {
    fn new() -> Self {
        let (puts, deletions) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let meeting = Meeting { meets: AtomicBool::new(false), barrier: Barrier::new(2), puts, deletions };
        let meeting = Arc::new(meeting);
        let blobs = Arc::new(MeetingBlobs(MemoryBlobs::new(), meeting.clone()));
        let table = Arc::new(MeetingTable(Redb::in_memory().unwrap(), meeting.clone()));
        Self { meeting, blobs, table }
    }

    fn node(&self) -> Arc<Archive> {
        Archive::new(self.blobs.clone(), Arc::new(Index::new(self.table.clone())), &defaults())
    }

    async fn objects(&self) -> usize {
        self.blobs.list(Bucket::Originals, "").try_collect::<Vec<_>>().await.unwrap().len()
    }
}

async fn store(node: &Arc<Archive>, number: usize) -> StoredInstance {
    let mut upload = node.receive(&Caller::anonymous(), None).await;
    upload.write(Bytes::from(native("1.2", "1.2.1", &format!("1.2.1.{number}")))).await;
    upload.finish().await.await.result.unwrap()
}

#[tokio::test]
async fn the_index_is_asked_while_a_further_instance_of_a_series_is_put() {
    let fleet = Fleet::new();
    let node = fleet.node();
    assert!(!store(&node, 1).await.is_duplicate);
    fleet.meeting.meets.store(true, Ordering::SeqCst);
    for number in 2..5 {
        // One after the other would wait for ever.
        let stored = timeout(Duration::from_secs(30), store(&node, number)).await;
        assert!(!stored.expect("both run at the same time").is_duplicate);
    }
    assert_eq!((fleet.objects().await, fleet.meeting.take()), (4, (4, 0)));
}

#[tokio::test]
async fn what_is_sent_again_is_not_put_again() {
    let fleet = Fleet::new();
    let node = fleet.node();
    for number in 0..5 {
        store(&node, number).await;
    }
    assert_eq!(fleet.meeting.take(), (5, 0));
    // By the same node at once, and whole by another one.
    for number in [4, 4, 2] {
        assert!(store(&node, number).await.is_duplicate);
    }
    let other = fleet.node();
    for number in 0..5 {
        assert!(store(&other, number).await.is_duplicate);
    }
    assert_eq!((fleet.objects().await, fleet.meeting.take()), (5, (0, 0)));
}

#[tokio::test]
async fn an_instance_that_is_stored_already_is_undone_if_it_was_expected_to_be_new() {
    let fleet = Fleet::new();
    let [first, second] = [fleet.node(), fleet.node()];
    for number in 0..3 {
        store(&first, number).await;
    }
    assert!(!store(&second, 3).await.is_duplicate);
    fleet.meeting.take();
    assert!(store(&second, 2).await.is_duplicate, "another node stored it");
    assert_eq!((fleet.objects().await, fleet.meeting.take()), (4, (1, 1)));
    assert!(store(&second, 1).await.is_duplicate);
    assert_eq!(fleet.meeting.take(), (0, 0), "one wrong expectation in a series is enough");
    let mut rows = 0;
    for number in 0..4 {
        let partition = format!("T#{}#U#1.2.1.{number}", Caller::anonymous().tenant.as_str());
        let (from, to) = (std::ops::Bound::Unbounded, std::ops::Bound::Unbounded);
        let range = Range { index: None, partition, from, to, is_descending: false, limit: 9 };
        rows += fleet.table.range(&range).await.unwrap().items.len();
    }
    assert_eq!(rows, 8, "the location and the record of each instance");
}
