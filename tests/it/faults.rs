//! Faults below the archive: a damaged or lost index, damaged objects, stores that refuse to write.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use cuspid::archive::Archive;
use cuspid::archive::access::Caller;
use cuspid::archive::ingest::{Refusal, StoredInstance};
use cuspid::archive::maintenance::check::check;
use cuspid::archive::maintenance::reindex;
use cuspid::archive::maintenance::report::Finding;
use cuspid::archive::records::InstanceRecord;
use cuspid::blobs;
use cuspid::blobs::memory::MemoryBlobs;
use cuspid::blobs::{Blobs, Bucket, ByteStream, Key, ListedObject, Staged};
use cuspid::config::Config;
use cuspid::index::Index;
use cuspid::server;
use cuspid::server::Rebuild;
use cuspid::table::redb::Redb;
use cuspid::table::{self, Expect, Item, ItemKey, Page, Range, SortKeys, Table, Write};
use futures_util::TryStreamExt;
use futures_util::stream::BoxStream;
use tempfile::TempDir;

use crate::harness::{EXPLICIT, data_set, embedded};

const INSTANCES: u64 = 60;

fn file(instance: &str) -> Vec<u8> {
    let value = vec![7; 700_000];
    data_set("1.2", "1.2.1", instance).element(0x0009_1010, "OB", &value).file(EXPLICIT)
}

async fn send(archive: &Arc<Archive>, file: Vec<u8>) -> Result<StoredInstance, Refusal> {
    let mut upload = archive.receive(&Caller::anonymous(), None).await;
    upload.write(Bytes::from(file)).await;
    upload.finish().await.await.result
}

async fn open(data: &Path) -> anyhow::Result<Arc<Archive>> {
    let config = embedded(data);
    when_free(|| server::open(&config)).await
}

async fn open_to_serve(data: &Path) -> anyhow::Result<Arc<Archive>> {
    let config = embedded(data);
    when_free(|| server::open_to_serve(&config)).await
}

/// Opens an archive when the threads of the archive before have left the directory.
async fn when_free<F: Future<Output = anyhow::Result<Arc<Archive>>>>(
    open: impl Fn() -> F,
) -> anyhow::Result<Arc<Archive>> {
    loop {
        match open().await {
            Err(error) if ["lock", "using it"].iter().any(|words| format!("{error:#}").contains(words)) => {
                tokio::task::yield_now().await;
            }
            outcome => return outcome,
        }
    }
}

async fn reindex(data: &Path) -> u64 {
    let rebuild = Rebuild::begin(&embedded(data)).await.unwrap();
    let report = reindex::reindex(rebuild.archive(), |_| {}).await.unwrap();
    assert_eq!(report.findings, []);
    rebuild.finish().await.unwrap();
    report.instances
}

async fn number_of_instances(archive: &Archive) -> u64 {
    let study = archive.study(&Caller::anonymous(), &"1.2".parse().unwrap()).await;
    study.unwrap().number_of_instances
}

/// A data directory with some instances, whose archive has been closed.
async fn filled() -> TempDir {
    let data = TempDir::new().unwrap();
    let archive = open(data.path()).await.unwrap();
    for number in 0..INSTANCES {
        let file = data_set("1.2", "1.2.1", &format!("1.2.1.{number}")).file(EXPLICIT);
        send(&archive, file).await.unwrap();
    }
    drop(archive);
    drop(open(data.path()).await.unwrap());
    data
}

fn damaged_by(kind: &str, index: &[u8]) -> Vec<u8> {
    let mut bytes = index.to_vec();
    let length = bytes.len();
    let flip = |bytes: &mut Vec<u8>, seed: usize| {
        let mut state = seed as u64 + 1;
        for _ in 0..200 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let at = (state >> 20) as usize % length;
            bytes[at] ^= 1 << (state % 8);
        }
    };
    match kind {
        "second half zeros" => bytes[length / 2..].fill(0),
        "first half zeros" => bytes[..length / 2].fill(0),
        "all zeros" => bytes.fill(0),
        "cut" => bytes.truncate(length / 2),
        "cut within the header" => bytes.truncate(100),
        "empty" => bytes.clear(),
        "another program" => bytes = [b"SQLite format 3\0".to_vec(), vec![1; 8176]].concat(),
        "text" => bytes = b"no table\n".to_vec(),
        "all ones" => bytes.fill(0xFF),
        "another version" => bytes[12..64].fill(9),
        kind => flip(&mut bytes, kind.parse().unwrap()),
    }
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_in_the_place_of_the_index_is_an_error_or_read_and_can_be_reindexed() {
    let data = filled().await;
    let index = data.path().join("index.redb");
    let intact = std::fs::read(&index).unwrap();
    let kinds = [
        "second half zeros",
        "first half zeros",
        "all zeros",
        "cut",
        "cut within the header",
        "empty",
        "another program",
        "text",
        "all ones",
        "another version",
    ];
    let flips: Vec<String> = (0..12).map(|seed| seed.to_string()).collect();
    for kind in kinds.into_iter().chain(flips.iter().map(String::as_str)) {
        std::fs::write(&index, damaged_by(kind, &intact)).unwrap();
        // A page that is damaged in the middle is found when it is read.
        let outcome = match open(data.path()).await {
            Ok(archive) => check(&archive, false, |_| {})
                .await
                .map_err(anyhow::Error::from)
                .map(|report| report.findings.len()),
            Err(error) => Err(error),
        };
        match outcome {
            Err(error) => {
                let error = format!("{error:#}");
                assert!(error.contains("cuspid reindex"), "{kind}: {error}");
            }
            Ok(findings) => assert!(kind.parse::<u8>().is_ok(), "{kind}: {findings} findings"),
        }
        assert_eq!(reindex(data.path()).await, INSTANCES, "{kind}");
        let archive = open(data.path()).await.unwrap();
        assert_eq!(number_of_instances(&archive).await, INSTANCES, "{kind}");
    }
    let names = std::fs::read_dir(data.path()).unwrap().map(|entry| entry.unwrap().file_name());
    let aside = names.filter(|name| name.to_str().unwrap().starts_with("index.redb.damaged-")).count();
    assert!(aside >= 10, "damaged files are moved aside: {aside}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_index_beside_instances_is_refused_and_a_first_start_is_not() {
    let data = filled().await;
    let index = data.path().join("index.redb");
    for _ in 0..2 {
        std::fs::remove_file(&index).unwrap();
        for _ in 0..2 {
            let Err(error) = open(data.path()).await else { panic!("an empty archive was opened") };
            assert!(format!("{error:#}").contains("cuspid reindex"), "{error:#}");
        }
        assert_eq!(reindex(data.path()).await, INSTANCES);
        assert_eq!(number_of_instances(&open(data.path()).await.unwrap()).await, INSTANCES);
    }
    // An archive that was begun, and has no index entries yet, starts again.
    let empty = TempDir::new().unwrap();
    for _ in 0..2 {
        open(empty.path()).await.unwrap();
    }
    std::fs::create_dir_all(empty.path().join("originals/default/1.2/1.2.1")).unwrap();
    std::fs::write(empty.path().join("originals/default/1.2/1.2.1/stray"), b"x").unwrap();
    open(empty.path()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_beside_no_object_at_all_serves_nothing_until_a_check_has_repaired_it() {
    let data = TempDir::new().unwrap();
    // A first start, and an archive from which all was deleted, are served.
    drop(open_to_serve(data.path()).await.unwrap());
    let archive = open_to_serve(data.path()).await.unwrap();
    send(&archive, file("1.2.1.1")).await.unwrap();
    drop(archive);
    let (originals, elsewhere) = (data.path().join("originals"), data.path().join("elsewhere"));
    std::fs::rename(&originals, &elsewhere).unwrap();
    for _ in 0..2 {
        let Err(error) = open_to_serve(data.path()).await else { panic!("it is served") };
        assert!(format!("{error:#}").contains("is the volume mounted"), "{error:#}");
    }
    std::fs::remove_dir_all(&originals).unwrap();
    std::fs::rename(&elsewhere, &originals).unwrap();
    drop(open_to_serve(data.path()).await.unwrap());
    std::fs::remove_dir_all(&originals).unwrap();
    let archive = open(data.path()).await.unwrap();
    check(&archive, true, |_| {}).await.unwrap();
    drop(archive);
    drop(open_to_serve(data.path()).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_archive_is_whole_with_its_log_and_refused_without() {
    let (data, killed) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let archive = open(data.path()).await.unwrap();
    for number in 0..7 {
        let file = data_set("1.2", "1.2.1", &format!("1.2.1.{number}")).file(EXPLICIT);
        send(&archive, file).await.unwrap();
    }
    // A copy of the files of a process is what a kill leaves.
    let copy = |name: &str| killed.path().join(name);
    for name in ["whole", "without"] {
        let copied = std::process::Command::new("cp").arg("-a").arg(data.path()).arg(copy(name)).status();
        assert!(copied.unwrap().success());
    }
    let log = "index.redb.wal";
    std::fs::remove_file(copy("without").join(log)).unwrap();
    assert_eq!(number_of_instances(&open(&copy("whole")).await.unwrap()).await, 7);
    for _ in 0..2 {
        let Err(error) = open(&copy("without")).await else { panic!("an index without its log was opened") };
        let error = format!("{error:#}");
        assert!(error.contains("cuspid reindex") && error.contains("write-ahead log"), "{error}");
    }
    assert_eq!(reindex(&copy("without")).await, 7);
    // The log of an older index is in the place of the log.
    std::fs::copy(data.path().join(log), copy("without").join(log)).unwrap();
    let archive = open(&copy("without")).await.unwrap();
    assert_eq!(number_of_instances(&archive).await, 7);
    assert_eq!(check(&archive, false, |_| {}).await.unwrap().findings, []);
}

fn original(data: &Path) -> PathBuf {
    let mut files = std::fs::read_dir(data.join("originals/default/1.2/1.2.1")).unwrap();
    files.next().unwrap().unwrap().path()
}

/// Changes a byte of the only original, or removes the original if the position is [`usize::MAX`].
fn damage(data: &Path, position: usize) {
    let object = original(data);
    if position == usize::MAX {
        return std::fs::remove_file(&object).unwrap();
    }
    let mut bytes = std::fs::read(&object).unwrap();
    bytes[position] ^= 4;
    std::fs::write(&object, bytes).unwrap();
}

async fn read(archive: &Archive, instance: &str) -> Result<u64, anyhow::Error> {
    let caller = Caller::anonymous();
    let (study, series) = ("1.2".parse()?, "1.2.1".parse()?);
    let record: InstanceRecord = archive.instance(&caller, &study, &series, &instance.parse()?).await?;
    let mut bytes = archive.read_object(&caller, &record, 0..record.size_bytes).await?;
    let mut length = 0;
    while let Some(chunk) =
        bytes.try_next().await.map_err(|error| anyhow::anyhow!("{error} after {length}"))?
    {
        length += chunk.len() as u64;
    }
    Ok(length)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_or_missing_object_is_an_error_and_sending_it_again_heals_it() {
    let data = TempDir::new().unwrap();
    let archive = open(data.path()).await.unwrap();
    let sent = file("1.2.1.1");
    send(&archive, sent.clone()).await.unwrap();
    let length = sent.len() as u64;
    assert_eq!(read(&archive, "1.2.1.1").await.unwrap(), length);
    for position in [200, sent.len() / 2, sent.len() - 1, usize::MAX] {
        damage(data.path(), position);
        let error = read(&archive, "1.2.1.1").await.unwrap_err().to_string();
        assert!(position == usize::MAX || error.contains("is damaged"), "{error}");
        assert!(!error.contains(&format!("after {length}")), "the last bytes must not be given: {error}");
        assert!(send(&archive, sent.clone()).await.unwrap().is_duplicate);
        assert_eq!(read(&archive, "1.2.1.1").await.unwrap(), length, "{position}");
        let report = check(&archive, true, |_| {}).await.unwrap();
        assert!(report.findings.iter().all(|finding| matches!(finding, Finding::Orphan(_))), "{report:?}");
        assert_eq!(report.instances, 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_is_healed_by_the_same_data_set_under_another_file_header() {
    let data = TempDir::new().unwrap();
    let archive = open(data.path()).await.unwrap();
    let sent = file("1.2.1.1");
    // The preamble is a part of the file header.
    let other_header = [b"other".to_vec(), sent[5..].to_vec()].concat();
    send(&archive, sent.clone()).await.unwrap();
    for (position, healing) in [(sent.len() / 2, &other_header), (usize::MAX, &sent)] {
        assert!(send(&archive, healing.clone()).await.unwrap().is_duplicate, "nothing is lost");
        damage(data.path(), position);
        // Another data set heals nothing.
        let different = data_set("1.2", "1.2.1", "1.2.1.1").element(0x0009_1010, "OB", &[8; 700_000]);
        let different = different.element(0x0010_0020, "LO", b"another ").file(EXPLICIT);
        let outcome = send(&archive, different).await;
        assert!(matches!(outcome, Err(Refusal::Different)), "{outcome:?}");
        assert!(send(&archive, healing.clone()).await.unwrap().is_duplicate);
        assert_eq!(read(&archive, "1.2.1.1").await.unwrap(), sent.len() as u64, "{position}");
        check(&archive, true, |_| {}).await.unwrap();
    }
}

#[tokio::test]
async fn a_check_goes_on_past_a_row_that_cannot_be_read() {
    let table = Arc::new(Redb::in_memory().unwrap());
    let index = Arc::new(Index::new(table.clone() as Arc<dyn Table>));
    let archive = Archive::new(Arc::new(MemoryBlobs::new()), index, &Config::defaults());
    for number in 1..=3 {
        let file = data_set("1.2", "1.2.1", &format!("1.2.1.{number}")).file(EXPLICIT);
        send(&archive, file).await.unwrap();
    }
    let key = ItemKey { partition: "T#default#S#1.2#1.2.1".into(), sort: "I#1.2.1.2".into() };
    let mut row = table.get(std::slice::from_ref(&key)).await.unwrap().remove(0).unwrap();
    // A key that is damaged: the instance is listed, and cannot be found.
    let mut moved = row.clone();
    moved.key.sort = "I#1.2.1.9".into();
    let moves = |from: &Item, to: &Item| {
        vec![Write::Delete(from.key.clone(), Expect::Anything), Write::Put(to.clone(), Expect::Absent)]
    };
    table.transact(moves(&row, &moved)).await.unwrap();
    let report = check(&archive, false, |_| {}).await.unwrap();
    let names_row =
        |finding: &Finding| matches!(finding, Finding::UnreadableRow(row) if row.contains("I#1.2.1.9"));
    assert!(report.findings.iter().any(names_row), "{report:?}");
    table.transact(moves(&moved, &row)).await.unwrap();
    for body in [vec![], vec![0, 0xC1], vec![9; 40]] {
        row.body = body;
        table.transact(vec![Write::Put(row.clone(), Expect::Anything)]).await.unwrap();
        for is_repairing in [false, true] {
            let report = check(&archive, is_repairing, |_| {}).await.unwrap();
            let [finding @ Finding::UnreadableRow(named)] = report.findings.as_slice() else {
                panic!("{report:?}");
            };
            assert!(named.contains("I#1.2.1.2") && finding.is_left(), "{named}");
            assert_eq!(report.instances, 2);
        }
    }
    for (sort, instances) in [("SERIES#1.2.1", 0), ("STUDY", 0)] {
        let key = ItemKey { partition: "T#default#S#1.2".into(), sort: sort.into() };
        let mut row = table.get(std::slice::from_ref(&key)).await.unwrap().remove(0).unwrap();
        row.body = vec![0xC1];
        table.transact(vec![Write::Put(row, Expect::Anything)]).await.unwrap();
        let report = check(&archive, true, |_| {}).await.unwrap();
        let names_row =
            |finding: &Finding| matches!(finding, Finding::UnreadableRow(row) if row.contains(sort));
        assert!(report.findings.iter().any(names_row), "{report:?}");
        assert_eq!(report.instances, instances);
    }
}

/// A store and a table that refuse to write on demand.
struct Refusing<T> {
    inner: T,
    is_refusing: AtomicBool,
}

impl<T> Refusing<T> {
    fn new(inner: T) -> Arc<Self> {
        Arc::new(Self { inner, is_refusing: AtomicBool::new(false) })
    }

    fn refuse(&self, is_refusing: bool) {
        self.is_refusing.store(is_refusing, Ordering::Relaxed);
    }

    fn is_refusing(&self) -> bool {
        self.is_refusing.load(Ordering::Relaxed)
    }
}

#[async_trait]
impl Blobs for Refusing<MemoryBlobs> {
    async fn stage(&self) -> Result<Staged, blobs::Error> {
        self.inner.stage().await
    }

    async fn put(&self, staged: Staged, key: &Key) -> Result<(), blobs::Error> {
        match self.is_refusing() {
            true => Err(blobs::Error::NoSpace { operation: format!("put {key}") }),
            false => self.inner.put(staged, key).await,
        }
    }

    async fn read(&self, key: &Key, range: std::ops::Range<u64>) -> Result<ByteStream, blobs::Error> {
        self.inner.read(key, range).await
    }

    async fn size(&self, key: &Key) -> Result<Option<u64>, blobs::Error> {
        self.inner.size(key).await
    }

    async fn delete(&self, key: &Key) -> Result<(), blobs::Error> {
        self.inner.delete(key).await
    }

    async fn flush(&self) -> Result<(), blobs::Error> {
        self.inner.flush().await
    }

    fn unconfirmed(&self) -> Vec<Key> {
        self.inner.unconfirmed()
    }

    fn list(&self, bucket: Bucket, prefix: &str) -> BoxStream<'static, Result<ListedObject, blobs::Error>> {
        self.inner.list(bucket, prefix)
    }
}

#[async_trait]
impl Table for Refusing<Redb> {
    async fn get(&self, keys: &[ItemKey]) -> Result<Vec<Option<Item>>, table::Error> {
        self.inner.get(keys).await
    }

    async fn range(&self, range: &Range) -> Result<Page, table::Error> {
        self.inner.range(range).await
    }

    async fn sort_keys(&self, range: &Range) -> Result<SortKeys, table::Error> {
        self.inner.sort_keys(range).await
    }

    async fn transact(&self, writes: Vec<Write>) -> Result<(), table::Error> {
        if self.is_refusing() {
            let source = std::io::Error::from(std::io::ErrorKind::ReadOnlyFilesystem);
            return Err(table::Error::Backend { operation: "write the table", source: source.into() });
        }
        self.inner.transact(writes).await
    }

    fn health(&self) -> Result<(), table::Error> {
        self.inner.health()
    }
}

#[tokio::test]
async fn a_node_that_cannot_store_is_not_ready_until_it_can_again() {
    let (blobs, table) = (Refusing::new(MemoryBlobs::new()), Refusing::new(Redb::in_memory().unwrap()));
    let index = Arc::new(Index::new(table.clone()));
    let archive = Archive::new(blobs.clone(), index, &Config::defaults());
    send(&archive, file("1.2.1.0")).await.unwrap();
    archive.health().unwrap();
    let refuse: [Box<dyn Fn(bool)>; 2] = [
        Box::new(|is_refusing| blobs.refuse(is_refusing)),
        Box::new(|is_refusing| table.refuse(is_refusing)),
    ];
    for (number, refuse) in (1..).zip(refuse) {
        refuse(true);
        let refusal = send(&archive, file(&format!("1.2.1.{number}"))).await.unwrap_err();
        match refusal {
            Refusal::NoSpace => assert_eq!(number, 1),
            Refusal::Failed(cause) => {
                let causes = cause.chain().map(ToString::to_string).collect::<Vec<_>>().join(": ");
                assert!(causes.contains("cannot write the table: read-only"), "the cause is kept: {causes}");
            }
            refusal => panic!("{refusal:?}"),
        }
        archive.storing_suspected(std::time::Duration::ZERO).await;
        archive.probe_storing().await;
        assert!(archive.health().is_err());
        // It stays so, and ends with a probe that succeeds: one instance that finds space proves little.
        archive.probe_storing().await;
        assert!(archive.health().is_err());
        refuse(false);
        assert!(!send(&archive, file(&format!("1.2.1.{number}"))).await.unwrap().is_duplicate);
        assert!(archive.health().is_err());
        archive.probe_storing().await;
        archive.health().unwrap();
    }
    let mut left = blobs.list(Bucket::Temporary, "");
    assert!(left.try_next().await.unwrap().is_none(), "a probe leaves nothing");
}
