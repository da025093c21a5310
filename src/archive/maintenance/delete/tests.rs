//! Deletion at the same time as stores, reads and the writing of derived objects, and on a disk that fails.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use futures_util::TryStreamExt;
use futures_util::stream::BoxStream;

use crate::archive::access::Caller;
use crate::archive::derived;
use crate::archive::derived::preview::{Outcome, due_previews, make_preview};
use crate::archive::ingest::{Refusal, StoredInstance};
use crate::archive::maintenance::check::check;
use crate::archive::maintenance::delete::{collect_garbage, delete, delete_previews};
use crate::archive::scope::Scope;
use crate::archive::{Archive, Error, keys};
use crate::blobs;
use crate::blobs::memory::MemoryBlobs;
use crate::blobs::{Blobs, Bucket, ByteStream, Key, ListedObject, Staged};
use crate::config::Config;
use crate::dicom::build::DataSet;
use crate::dicom::transfer_syntax;
use crate::dicom::uids;
use crate::index::Index;
use crate::index::records::{InstanceRecord, PreviewState};

/// Objects in memory on a disk whose failures a test can switch on.
#[derive(Default)]
struct Disk {
    objects: MemoryBlobs,
    cannot_delete: AtomicBool,
}

#[async_trait::async_trait]
impl Blobs for Disk {
    async fn stage(&self) -> Result<Staged, blobs::Error> {
        self.objects.stage().await
    }
    async fn put(&self, staged: Staged, key: &Key) -> Result<(), blobs::Error> {
        self.objects.put(staged, key).await
    }
    async fn read(&self, key: &Key, range: Range<u64>) -> Result<ByteStream, blobs::Error> {
        self.objects.read(key, range).await
    }
    async fn size(&self, key: &Key) -> Result<Option<u64>, blobs::Error> {
        self.objects.size(key).await
    }
    async fn delete(&self, key: &Key) -> Result<(), blobs::Error> {
        if self.cannot_delete.load(Ordering::Relaxed) {
            return Err(blobs::Error::Backend { operation: "delete".into(), source: "it fails".into() });
        }
        self.objects.delete(key).await
    }
    async fn flush(&self) -> Result<(), blobs::Error> {
        self.objects.flush().await
    }
    fn unconfirmed(&self) -> Vec<Key> {
        Vec::new()
    }
    fn list(&self, bucket: Bucket, prefix: &str) -> BoxStream<'static, Result<ListedObject, blobs::Error>> {
        self.objects.list(bucket, prefix)
    }
}

struct Bench {
    archive: Arc<Archive>,
    disk: Arc<Disk>,
    index: Arc<Index>,
    caller: Caller,
}

impl Bench {
    fn new() -> Self {
        let set = |section: &str, name: &str, text: &str| (section.into(), name.into(), text.into());
        let settings = [set("preview", "quiet_seconds", "0"), set("ingest", "duplicates", "replace")];
        let config = Config::load(None, &settings).unwrap();
        let (disk, index) = (Arc::new(Disk::default()), Arc::new(Index::in_memory()));
        let archive = Archive::new(disk.clone(), index.clone(), &config);
        Self { archive, disk, index, caller: Caller::anonymous() }
    }

    /// Two images and a text in series 1.2.1, an image in 1.2.2, with previews, and one in another study.
    async fn filled() -> Self {
        let bench = Self::new();
        for file in [
            image("1.2", "1.2.1", "1.2.1.1"),
            image("1.2", "1.2.1", "1.2.1.2"),
            instance("1.2", "1.2.1", "1.2.1.3"),
            image("1.2", "1.2.2", "1.2.2.1"),
            image("1.20", "1.20.1", "1.20.1.1"),
        ] {
            bench.store(file).await.unwrap();
        }
        for due in due_previews(&bench.archive, 10).await.unwrap() {
            assert_eq!(make_preview(&bench.archive, &due).await.unwrap(), Outcome::Made);
        }
        bench
    }

    async fn store(&self, data_set: DataSet) -> Result<StoredInstance, Refusal> {
        let mut upload = self.archive.receive(&self.caller, None).await;
        upload.write(Bytes::from(data_set.file(transfer_syntax::EXPLICIT_VR_LITTLE_ENDIAN))).await;
        upload.finish().await.await.result
    }

    async fn delete(&self, scope: &Scope) -> Result<u64, Error> {
        delete(&self.archive, &self.caller, scope.clone()).await
    }

    /// Stores a thumbnail that was derived from a study, as it is at `version`.
    async fn keep_derived(&self, scope: &Scope, version: &str, bucket: Bucket) -> bool {
        let path = format!("{}picture", keys::derived(&self.caller.tenant, &scope.study));
        let staged = self.disk.stage().await.unwrap();
        let kept =
            derived::put(&self.archive, &self.caller, scope, version, staged, &Key { bucket, path }).await;
        kept.unwrap()
    }

    /// The paths of all objects below a study, by bucket.
    async fn objects(&self, bucket: Bucket, study: &str) -> Vec<String> {
        let entries = self.disk.list(bucket, &format!("default/{study}/"));
        let entries: Vec<ListedObject> = entries.try_collect().await.unwrap();
        entries.into_iter().map(|entry| entry.key.path).collect()
    }

    async fn instances(&self, scope: &Scope) -> Vec<InstanceRecord> {
        match self.archive.instances(&self.caller, scope).await {
            Ok(pages) => pages.try_collect::<Vec<_>>().await.unwrap().concat(),
            Err(Error::NotFound(_)) => Vec::new(),
            Err(error) => panic!("{error}"),
        }
    }
}

fn instance(study: &str, series: &str, instance: &str) -> DataSet {
    DataSet::explicit()
        .text(0x0008_0016, "UI", uids::SECONDARY_CAPTURE_IMAGE_STORAGE)
        .text(0x0008_0018, "UI", instance)
        .text(0x0020_000D, "UI", study)
        .text(0x0020_000E, "UI", series)
}

fn image(study: &str, series: &str, uid: &str) -> DataSet {
    instance(study, series, uid)
        .us(0x0028_0002, &[1])
        .text(0x0028_0004, "CS", "MONOCHROME2")
        .us(0x0028_0010, &[8])
        .us(0x0028_0011, &[8])
        .us(0x0028_0100, &[8])
        .us(0x0028_0101, &[8])
        .us(0x0028_0102, &[7])
        .us(0x0028_0103, &[0])
        .element(0x7FE0_0010, "OB", &[7; 64])
}

fn scope(study: &str, series: &str, instance: &str) -> Scope {
    Scope { study: study.parse().unwrap(), series: series.parse().ok(), instance: instance.parse().ok() }
}

#[tokio::test]
async fn nothing_is_left_of_what_is_deleted_and_nothing_else_goes() {
    for (scope, deleted, originals, previews) in [
        (scope("1.2", "", ""), 4, 0, vec![]),
        (scope("1.2", "1.2.1", ""), 3, 1, vec!["1.2.2"]),
        (scope("1.2", "1.2.1", "1.2.1.1"), 1, 3, vec!["1.2.2"]),
        // The instance had no pixels: the preview still shows the series.
        (scope("1.2", "1.2.1", "1.2.1.3"), 1, 3, vec!["1.2.1", "1.2.2"]),
    ] {
        let bench = Bench::filled().await;
        // Replaced bytes are still there.
        bench.store(image("1.2", "1.2.1", "1.2.1.1").text(0x7FE1_0010, "LO", "other")).await.unwrap();
        for due in due_previews(&bench.archive, 10).await.unwrap() {
            make_preview(&bench.archive, &due).await.unwrap();
        }
        assert_eq!(bench.objects(Bucket::Originals, "1.2").await.len(), 5);
        let study = Scope { series: None, instance: None, ..scope.clone() };
        let version = bench.archive.version(&bench.caller, &study).await.unwrap();
        for bucket in [Bucket::Thumbnails, Bucket::Temporary] {
            assert!(bench.keep_derived(&study, &version, bucket).await);
        }
        let before = bench.archive.study(&bench.caller, &"1.20".parse().unwrap()).await.unwrap();

        assert_eq!(bench.delete(&scope).await.unwrap(), deleted);
        assert!(matches!(bench.delete(&scope).await, Err(Error::NotFound(_))));
        let left = bench.objects(Bucket::Originals, "1.2").await;
        let has_replaced = left.iter().filter(|path| path.contains("/1.2.1.1-")).count() > 1;
        assert_eq!(left.len(), originals + usize::from(has_replaced), "{left:?}");
        let shown: Vec<_> = bench.objects(Bucket::Previews, "1.2").await;
        let shown: Vec<_> = shown.iter().map(|path| path.split('/').nth(2).unwrap()).collect();
        assert_eq!(shown, previews);
        for bucket in [Bucket::Thumbnails, Bucket::Temporary] {
            assert!(bench.objects(bucket, "1.2").await.is_empty());
        }
        assert_eq!(bench.archive.study(&bench.caller, &before.study).await.unwrap(), before);
        assert_eq!(bench.objects(Bucket::Previews, "1.20").await.len(), 1);
        assert_eq!(bench.index.deletion_queue().await.unwrap(), []);
    }
}

#[tokio::test]
async fn a_study_that_loses_something_is_another_version() {
    let bench = Bench::filled().await;
    let (study, series) = (scope("1.2", "", ""), scope("1.2", "1.2.1", ""));
    let versions = async || {
        let study = bench.archive.version(&bench.caller, &study).await.unwrap();
        (study, bench.archive.version(&bench.caller, &series).await.unwrap())
    };
    let before = versions().await;
    bench.delete(&scope("1.2", "1.2.1", "1.2.1.3")).await.unwrap();
    let after = versions().await;
    assert!(before.0 != after.0 && before.1 != after.1);
    bench.delete(&study).await.unwrap();
    bench.store(image("1.2", "1.2.1", "1.2.1.1")).await.unwrap();
    let again = versions().await;
    assert!(![before.0, after.0].contains(&again.0) && ![before.1, after.1].contains(&again.1));
}

#[tokio::test]
async fn what_was_being_derived_is_not_kept_after_the_deletion() {
    let bench = Bench::filled().await;
    let study = scope("1.2", "", "");
    let version = bench.archive.version(&bench.caller, &study).await.unwrap();
    bench.store(image("1.2", "1.2.1", "1.2.1.4")).await.unwrap();
    let due = due_previews(&bench.archive, 10).await.unwrap();
    assert!(!bench.keep_derived(&study, &version, Bucket::Thumbnails).await, "of an older version");

    let version = bench.archive.version(&bench.caller, &study).await.unwrap();
    bench.delete(&scope("1.2", "1.2.1", "1.2.1.1")).await.unwrap();
    assert!(!bench.keep_derived(&study, &version, Bucket::Thumbnails).await, "it may show what is deleted");
    assert_eq!(make_preview(&bench.archive, &due[0]).await.unwrap(), Outcome::Stale);
    let due = due_previews(&bench.archive, 10).await.unwrap();

    let version = bench.archive.version(&bench.caller, &study).await.unwrap();
    bench.delete(&study).await.unwrap();
    assert!(!bench.keep_derived(&study, &version, Bucket::Thumbnails).await, "of nothing");
    assert_eq!(make_preview(&bench.archive, &due[0]).await.unwrap(), Outcome::Stale);
    for bucket in Bucket::ALL {
        assert_eq!(bench.objects(bucket, "1.2").await, Vec::<String>::new());
    }
    assert!(due_previews(&bench.archive, 10).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_preview_that_is_made_beside_the_deletion_stays_if_it_is_of_what_is_left() {
    let bench = Bench::filled().await;
    let series = scope("1.2", "1.2.1", "").series.unwrap();
    let study = "1.2".parse().unwrap();
    // As if the rows were deleted, the next preview encoded, and the old previews not deleted yet.
    let removed =
        bench.index.remove("default", &study, Some(&series), Some(&"1.2.1.1".parse().unwrap())).await;
    assert_eq!(removed.unwrap(), 1);
    let due = due_previews(&bench.archive, 10).await.unwrap();
    let record = bench.archive.series(&bench.caller, &study, &series).await.unwrap();
    let key = keys::preview(&bench.caller.tenant, &study, &series, record.generation);
    bench.disk.put(bench.disk.stage().await.unwrap(), &key).await.unwrap();
    delete_previews(&bench.archive, &bench.caller.tenant, &study, &series).await.unwrap();
    assert_eq!(bench.objects(Bucket::Previews, "1.2/1.2.1").await, [key.path]);
    assert_eq!(make_preview(&bench.archive, &due[0]).await.unwrap(), Outcome::Made);
    let record = bench.archive.series(&bench.caller, &study, &series).await.unwrap();
    assert!(matches!(record.preview, PreviewState::Ready { .. }));
}

#[tokio::test]
async fn what_a_disk_does_not_delete_is_noted_and_goes_later_and_nothing_else_does() {
    let bench = Bench::filled().await;
    let study = scope("1.2", "", "");
    bench.disk.cannot_delete.store(true, Ordering::Relaxed);
    assert!(matches!(bench.delete(&study).await, Err(Error::Blobs(_))));
    assert!(matches!(bench.delete(&study).await, Err(Error::NotFound(_))));
    // The same bytes as those that are to be deleted, and others.
    bench.store(image("1.2", "1.2.1", "1.2.1.1")).await.unwrap();
    bench.store(image("1.2", "1.2.9", "1.2.9.1")).await.unwrap();
    assert!(collect_garbage(&bench.archive).await.is_err());
    assert_eq!(bench.objects(Bucket::Originals, "1.2").await.len(), 6);

    bench.disk.cannot_delete.store(false, Ordering::Relaxed);
    assert_eq!(collect_garbage(&bench.archive).await.unwrap(), 4);
    assert_eq!(collect_garbage(&bench.archive).await.unwrap(), 0);
    let left = bench.instances(&study).await;
    assert_eq!(
        left.iter().map(|record| record.instance.as_str()).collect::<Vec<_>>(),
        ["1.2.1.1", "1.2.9.1"]
    );
    assert_eq!(bench.objects(Bucket::Originals, "1.2").await.len(), 2);
    for record in left {
        let bytes = bench.archive.read_object(&bench.caller, &record, 0..record.size_bytes).await.unwrap();
        assert_eq!(bytes.try_collect::<Vec<_>>().await.unwrap().concat().len() as u64, record.size_bytes);
    }
}

#[tokio::test]
async fn an_object_that_nobody_will_commit_goes_with_its_study() {
    let bench = Bench::filled().await;
    let tenant = &bench.caller.tenant;
    let orphan = |digest: &str| {
        let (study, series, instance) = ("1.2".parse(), "1.2.1".parse(), "1.2.1.9".parse());
        keys::original(tenant, &study.unwrap(), &series.unwrap(), &instance.unwrap(), digest)
    };
    let (old, young) = (orphan("old"), orphan("young"));
    for key in [&old, &young] {
        bench.disk.put(bench.disk.stage().await.unwrap(), key).await.unwrap();
    }
    bench.disk.objects.age(&old, 2 * super::ORPHAN_AGE);
    bench.delete(&scope("1.2", "", "")).await.unwrap();
    assert_eq!(bench.objects(Bucket::Originals, "1.2").await, [young.path]);
}

#[tokio::test]
async fn a_reader_that_has_begun_reads_on_and_one_that_comes_later_finds_nothing() {
    let bench = Bench::filled().await;
    let scope = scope("1.2", "1.2.1", "1.2.1.1");
    let record = bench.instances(&scope).await.remove(0);
    let size = record.size_bytes;
    let reading = bench.archive.read_object(&bench.caller, &record, 0..size).await.unwrap();
    bench.delete(&scope).await.unwrap();
    let read = reading.try_collect::<Vec<_>>().await.unwrap().concat();
    assert_eq!(read.len() as u64, size);
    let late = bench.archive.read_object(&bench.caller, &record, 0..size).await.err();
    assert!(matches!(late, Some(Error::NotFound(_))), "{late:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn deletions_and_stores_at_the_same_time_leave_what_was_stored_last() {
    let bench = Arc::new(Bench::new());
    let tasks: Vec<_> = (0..120)
        .map(|number| {
            let bench = bench.clone();
            tokio::spawn(async move {
                let (series, uid) =
                    (format!("1.2.{}", number % 3), format!("1.2.{}.{}", number % 3, number % 30));
                bench.store(image("1.2", &series, &uid)).await.unwrap();
                let scope = match number % 40 {
                    7 => scope("1.2", "", ""),
                    17 | 27 => scope("1.2", &series, ""),
                    _ => scope("1.2", &series, &uid),
                };
                match bench.delete(&scope).await {
                    Ok(deleted) => assert!(deleted > 0),
                    Err(Error::NotFound(_)) => {}
                    Err(error) => panic!("{error}"),
                }
                if number % 2 == 0 {
                    bench.store(image("1.2", &series, &uid)).await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let study = scope("1.2", "", "");
    let left = bench.instances(&study).await;
    let objects = bench.objects(Bucket::Originals, "1.2").await;
    assert_eq!(left.len(), objects.len());
    if let Ok(record) = bench.archive.study(&bench.caller, &study.study).await {
        assert_eq!(record.number_of_instances, left.len() as u64);
    }
    assert!(check(&bench.archive, false, |_| {}).await.unwrap().findings.is_empty());
    bench.store(image("1.2", "1.2.0", "1.2.0.0")).await.unwrap();
    assert!(bench.delete(&study).await.unwrap() > 0);
    assert_eq!(bench.objects(Bucket::Originals, "1.2").await, Vec::<String>::new());
}
