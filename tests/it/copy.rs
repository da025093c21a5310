//! Copying an archive to another one: embedded, in the cloud, and back.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use clap::Parser;
use cuspid::archive::Archive;
use cuspid::archive::access::Caller;
use cuspid::archive::maintenance::check;
use cuspid::archive::maintenance::copy::{self, Copied, Step};
use cuspid::archive::records::{InstanceRecord, StudyRecord};
use cuspid::archive::scope::Scope;
use cuspid::cli::Arguments;
use cuspid::config::Duplicates;
use cuspid::server;
use futures_util::TryStreamExt;
use tempfile::TempDir;
use tokio::sync::Notify;

use crate::engine;
use crate::harness::{EXPLICIT, data_set, embedded, native};

const TENANTS: [&str; 2] = ["clinic-a", "clinic-b"];
const STUDIES: [&str; 2] = ["1.2", "1.3"];
/// An instance of a study of [`fill`].
const INSTANCES: usize = 12;

fn caller(tenant: &str) -> Caller {
    Caller::server(tenant.parse().unwrap())
}

async fn send(archive: &Arc<Archive>, tenant: &str, file: Vec<u8>) {
    let mut upload = archive.receive(&caller(tenant), None).await;
    upload.write(Bytes::from(file)).await;
    upload.finish().await.await.result.unwrap();
}

/// An instance with bytes of its own.
fn version(study: &str, instance: &str, comment: &str) -> Vec<u8> {
    data_set(study, &format!("{study}.1"), instance).text(0x0020_4000, "LT", comment).file(EXPLICIT)
}

/// Stores the same UIDs for two tenants, with different bytes.
async fn fill(archive: &Arc<Archive>) {
    for study in STUDIES {
        for number in 0..INSTANCES - 1 {
            let uid = format!("{study}.1.{number}");
            for tenant in TENANTS {
                send(archive, tenant, version(study, &uid, tenant)).await;
            }
        }
        for tenant in TENANTS {
            send(archive, tenant, native(study, &format!("{study}.2"), &format!("{study}.2.1"))).await;
        }
    }
}

/// All records and bytes of the studies of [`fill`], without the fields that differ between archives.
async fn contents(archive: &Archive) -> Vec<(StudyRecord, Vec<(InstanceRecord, Vec<u8>)>)> {
    let mut contents = Vec::new();
    for (tenant, study) in TENANTS.iter().flat_map(|tenant| STUDIES.map(|study| (tenant, study))) {
        let caller = caller(tenant);
        let scope = Scope { study: study.parse().unwrap(), series: None, instance: None };
        let record = archive.study(&caller, &scope.study).await.unwrap();
        let pages = archive.instances(&caller, &scope).await.unwrap();
        let pages: Vec<Vec<InstanceRecord>> = pages.try_collect().await.unwrap();
        let mut instances = Vec::new();
        for mut instance in pages.into_iter().flatten() {
            let bytes = archive.read_object(&caller, &instance, 0..instance.size_bytes).await.unwrap();
            let bytes: Vec<Bytes> = bytes.try_collect().await.unwrap();
            (instance.object, instance.replaced) = (String::new(), Vec::new());
            instances.push((instance, bytes.concat()));
        }
        contents.push((StudyRecord { generation: 0, changed_at: 0, change: None, ..record }, instances));
    }
    contents
}

async fn copy(from: &Archive, to: &Archive) -> Copied {
    copy::copy(from, to, 4, |_, _| {}).await.unwrap()
}

async fn findings(archive: &Archive) -> Vec<String> {
    let report = check::check(archive, false, |_| {}).await.unwrap();
    report.findings.iter().map(ToString::to_string).collect()
}

fn original(data: &Path, tenant: &str, instance: &str) -> PathBuf {
    let series = data.join("originals").join(tenant).join("1.2/1.2.1");
    let mut files = std::fs::read_dir(series).unwrap().map(|entry| entry.unwrap().path());
    let prefix = format!("{instance}-");
    files.find(|path| path.file_name().unwrap().to_str().unwrap().starts_with(&prefix)).unwrap()
}

async fn two() -> (TempDir, TempDir, Arc<Archive>, Arc<Archive>) {
    let (from, to) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let source = server::open(&embedded(from.path())).await.unwrap();
    let destination = server::open(&embedded(to.path())).await.unwrap();
    (from, to, source, destination)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_has_the_records_and_bytes_of_all_tenants_and_a_second_one_copies_nothing() {
    let (_from, _to, source, destination) = two().await;
    fill(&source).await;
    let (instances, bytes) = copy::volume(&source).await.unwrap();
    let first = copy(&source, &destination).await;
    assert_eq!((first.instances, first.bytes, first.known), (instances, bytes, 0));
    assert!(first.failures.is_empty() && instances == 4 * INSTANCES as u64, "{first:?}");
    assert!(contents(&source).await == contents(&destination).await);
    assert_eq!(findings(&destination).await, [""; 0]);

    let second = copy(&source, &destination).await;
    assert_eq!((second.instances, second.bytes, second.known), (0, 0, instances));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_is_cut_off_leaves_a_destination_in_order_and_goes_on_when_run_again() {
    let (_from, _to, source, destination) = two().await;
    fill(&source).await;
    let enough = Notify::new();
    let done = AtomicU64::new(0);
    let cut_off = copy::copy(&source, &destination, 4, |step, _| {
        assert!(matches!(step, Step::Copied), "{step:?}");
        if 1 + done.fetch_add(1, Ordering::Relaxed) == 7 {
            enough.notify_one();
        }
    });
    tokio::select! {
        biased;
        () = enough.notified() => {}
        copied = cut_off => panic!("it came to its end: {copied:?}"),
    }
    // At most an object that was put and not committed, as after a kill.
    let found = findings(&destination).await;
    assert!(found.len() <= 4 && found.iter().all(|finding| finding.starts_with("orphan")), "{found:?}");
    let rest = copy(&source, &destination).await;
    assert!(rest.known >= 7 && rest.instances > 0, "{rest:?}");
    assert_eq!(rest.known + rest.instances, 4 * INSTANCES as u64);
    assert!(contents(&source).await == contents(&destination).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_damaged_or_lost_at_the_source_is_named_and_not_copied() {
    let (from, _to, source, destination) = two().await;
    fill(&source).await;
    let damaged = original(from.path(), TENANTS[0], "1.2.1.3");
    let mut content = std::fs::read(&damaged).unwrap();
    *content.last_mut().unwrap() ^= 1;
    std::fs::write(&damaged, &content).unwrap();
    let short = original(from.path(), TENANTS[1], "1.2.1.4");
    std::fs::write(&short, &content[..100]).unwrap();
    std::fs::remove_file(original(from.path(), TENANTS[1], "1.2.1.5")).unwrap();

    let copied = copy(&source, &destination).await;
    let mut failures: Vec<String> =
        copied.failures.iter().map(|(key, reason)| format!("{key} {reason}")).collect();
    failures.sort();
    let expected = [
        ("originals/clinic-a/1.2/1.2.1/1.2.1.3-", "damaged"),
        ("originals/clinic-b/1.2/1.2.1/1.2.1.4-", "damaged"),
        ("originals/clinic-b/1.2/1.2.1/1.2.1.5-", "no object"),
    ];
    assert_eq!(failures.len(), expected.len(), "{failures:?}");
    for (failure, (key, reason)) in failures.iter().zip(expected) {
        assert!(failure.starts_with(key) && failure.contains(reason), "{failure}");
    }
    assert_eq!(copied.instances, 4 * INSTANCES as u64 - 3);
    assert_eq!(findings(&destination).await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn other_bytes_at_the_destination_stay_unless_they_are_older_and_may_be_replaced() {
    let (from, to) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let (mut of_source, mut of_destination) = (embedded(from.path()), embedded(to.path()));
    of_source.ingest.duplicates = Duplicates::Replace;
    let source = server::open(&of_source).await.unwrap();
    send(&source, TENANTS[0], version("1.2", "1.2.1.1", "old")).await;
    let destination = server::open(&of_destination).await.unwrap();
    copy(&source, &destination).await;
    send(&source, TENANTS[0], version("1.2", "1.2.1.1", "new")).await;
    let refused = copy(&source, &destination).await;
    assert!(refused.failures[0].1.contains("ingest.duplicates"), "{refused:?}");
    drop(destination);

    of_destination.ingest.duplicates = Duplicates::Replace;
    let destination = server::open(&of_destination).await.unwrap();
    assert_eq!(copy(&source, &destination).await.instances, 1);
    send(&destination, TENANTS[0], version("1.2", "1.2.1.1", "newer")).await;
    let refused = copy(&source, &destination).await;
    assert!(refused.failures[0].1.contains("newer"), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_was_lost_at_the_destination_is_copied_again() {
    let (_from, to, source, destination) = two().await;
    fill(&source).await;
    copy(&source, &destination).await;
    std::fs::remove_file(original(to.path(), TENANTS[0], "1.2.1.3")).unwrap();
    assert_eq!(copy(&source, &destination).await.instances, 1);
    assert!(contents(&source).await == contents(&destination).await);
    assert_eq!(findings(&destination).await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn from_disk_to_the_cloud_and_back_nothing_changes() {
    let (from, scratch, back) = (TempDir::new().unwrap(), TempDir::new().unwrap(), TempDir::new().unwrap());
    let source = server::open(&embedded(from.path())).await.unwrap();
    fill(&source).await;
    let config = engine::cloud(embedded(scratch.path()), scratch.path()).await;
    let cloud = server::open(&config).await.unwrap();
    assert_eq!(copy(&source, &cloud).await.instances, 4 * INSTANCES as u64);
    assert_eq!(copy(&source, &cloud).await.known, 4 * INSTANCES as u64);
    assert_eq!(findings(&cloud).await, [""; 0]);
    let other = TempDir::new().unwrap();
    let other = server::open(&engine::cloud(embedded(other.path()), other.path()).await).await.unwrap();
    assert_eq!(copy(&cloud, &other).await.instances, 4 * INSTANCES as u64);
    let back = server::open(&embedded(back.path())).await.unwrap();
    assert_eq!(copy(&other, &back).await.instances, 4 * INSTANCES as u64);
    assert!(contents(&source).await == contents(&back).await);
}

#[test]
fn the_command_fails_if_anything_was_not_copied_and_does_not_copy_an_archive_to_itself() {
    let (from, to) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let archive = server::open(&embedded(from.path())).await.unwrap();
        send(&archive, "default", native("1.2", "1.2.1", "1.2.1.1")).await;
        send(&archive, "default", native("1.2", "1.2.1", "1.2.1.2")).await;
    });
    drop(runtime);
    let run = |to: &Path| {
        let arguments = ["cuspid", "copy", "--data"].map(Into::into);
        let arguments = arguments.into_iter().chain([from.path().into(), "--to-data".into(), to.into()]);
        Arguments::try_parse_from::<_, std::ffi::OsString>(arguments).unwrap().run()
    };
    run(to.path()).unwrap();
    let error = run(from.path()).unwrap_err().to_string();
    assert!(error.contains("same data directory"), "{error}");
    std::fs::remove_file(original(from.path(), "default", "1.2.1.2")).unwrap();
    let error = run(TempDir::new().unwrap().path()).unwrap_err().to_string();
    assert!(error.contains("1 instances could not be copied"), "{error}");
}
