//! Recovery after a kill, the findings of `cuspid check`, and an index built again from the objects.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use cuspid::archive::Archive;
use cuspid::archive::access::Caller;
use cuspid::archive::ingest::{Refusal, StoredInstance};
use cuspid::archive::maintenance::report::Finding;
use cuspid::archive::maintenance::{check, reindex};
use cuspid::archive::records::StudyRecord;
use cuspid::index::Index;
use cuspid::server;
use cuspid::table::redb::Redb;
use tempfile::TempDir;

use crate::harness::{EXPLICIT, data_set, embedded, native};

async fn store(archive: &Arc<Archive>, instance: &str) {
    let mut upload = archive.receive(&Caller::anonymous(), None).await;
    upload.write(Bytes::from(native("1.2", "1.2.1", instance))).await;
    upload.finish().await.await.result.unwrap();
}

/// An instance with bytes of its own under a UID.
fn version(instance: &str, comment: &str) -> Vec<u8> {
    data_set("1.2", "1.2.1", instance).text(0x0020_4000, "LT", comment).file(EXPLICIT)
}

async fn send(archive: &Arc<Archive>, file: Vec<u8>) -> Result<StoredInstance, Refusal> {
    let mut upload = archive.receive(&Caller::anonymous(), None).await;
    upload.write(Bytes::from(file)).await;
    upload.finish().await.await.result
}

fn originals(data: &TempDir) -> usize {
    std::fs::read_dir(data.path().join("originals/default/1.2/1.2.1")).unwrap().count()
}

async fn study(archive: &Archive) -> StudyRecord {
    archive.study(&Caller::anonymous(), &"1.2".parse().unwrap()).await.unwrap()
}

fn original(data: &TempDir, instance: &str) -> PathBuf {
    let series = data.path().join("originals/default/1.2/1.2.1");
    let mut files = std::fs::read_dir(series).unwrap().map(|entry| entry.unwrap().path());
    let prefix = format!("{instance}-");
    files.find(|path| path.file_name().unwrap().to_str().unwrap().starts_with(&prefix)).unwrap()
}

/// Moves an object of another archive into this one, as if its process had been killed before the commit.
fn leave_uncommitted(data: &TempDir, object: &Path, content: &[u8]) {
    let name = format!("originals/default/1.2/1.2.1/{}", object.file_name().unwrap().to_str().unwrap());
    std::fs::create_dir_all(data.path().join("originals/default/1.2/1.2.1")).unwrap();
    std::fs::write(data.path().join(&name), content).unwrap();
    std::fs::write(data.path().join("journal"), format!("{name}\n")).unwrap();
}

#[tokio::test]
async fn an_object_that_was_kept_but_not_committed_is_settled_at_the_next_start() {
    let (source, data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    store(&server::open(&embedded(source.path())).await.unwrap(), "1.2.1.1").await;
    let object = original(&source, "1.2.1.1");
    let content = std::fs::read(&object).unwrap();

    leave_uncommitted(&data, &object, &content[..content.len() - 1]);
    drop(server::open(&embedded(data.path())).await.unwrap());
    assert!(!data.path().join("originals/default/1.2").exists(), "a part of an object must go");

    leave_uncommitted(&data, &object, &content);
    let archive = server::open(&embedded(data.path())).await.unwrap();
    assert_eq!(study(&archive).await.number_of_instances, 1);
    assert_eq!(check::check(&archive, false, |_| {}).await.unwrap().findings, []);
}

#[tokio::test]
async fn what_was_derived_and_may_not_be_whole_is_gone_at_the_next_start() {
    let data = TempDir::new().unwrap();
    store(&server::open(&embedded(data.path())).await.unwrap(), "1.2.1.1").await;
    let names =
        ["thumbnails/default/1.2/study/1-1/9x9.png", "temporary/default/1.2/1.2.1/1.2.1.1-ab-1.2-1.dcm"];
    for name in names {
        let path = data.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, b"a part").unwrap();
    }
    std::fs::write(data.path().join("journal"), names.join("\n") + "\n").unwrap();
    let archive = server::open(&embedded(data.path())).await.unwrap();
    assert!(names.iter().all(|name| !data.path().join(name).exists()));
    assert_eq!((originals(&data), study(&archive).await.number_of_instances), (1, 1));
}

#[tokio::test]
async fn check_names_what_is_missing_damaged_or_without_an_owner() {
    let data = tempfile::tempdir().unwrap();
    let archive = server::open(&embedded(data.path())).await.unwrap();
    for instance in ["1.2.1.1", "1.2.1.2", "1.2.1.3"] {
        store(&archive, instance).await;
    }
    std::fs::remove_file(original(&data, "1.2.1.1")).unwrap();
    let damaged = original(&data, "1.2.1.2");
    let mut content = std::fs::read(&damaged).unwrap();
    *content.last_mut().unwrap() ^= 1;
    std::fs::write(&damaged, content).unwrap();
    std::fs::write(data.path().join("originals/default/1.2/orphan"), "x").unwrap();

    let kinds = |findings: &[Finding]| -> Vec<String> {
        findings.iter().map(|finding| finding.to_string().split(':').next().unwrap().to_owned()).collect()
    };
    let report = check::check(&archive, true, |_| {}).await.unwrap();
    assert_eq!(kinds(&report.findings), ["missing", "damaged", "orphan"]);
    assert_eq!(report.instances, 1);
    assert_eq!(study(&archive).await.number_of_instances, 2);
    let again = check::check(&archive, false, |_| {}).await.unwrap();
    assert_eq!(kinds(&again.findings), ["damaged"]);
}

#[tokio::test]
async fn an_index_that_is_built_again_says_the_same() {
    let data = tempfile::tempdir().unwrap();
    let archive = server::open(&embedded(data.path())).await.unwrap();
    for number in 0..20 {
        store(&archive, &format!("1.2.1.{number}")).await;
    }
    let before = study(&archive).await;
    drop(archive);
    std::fs::remove_file(data.path().join("index.redb")).unwrap();

    let rebuild = server::Rebuild::begin(&embedded(data.path())).await.unwrap();
    let report = reindex::reindex(rebuild.archive(), |_| {}).await.unwrap();
    assert_eq!((report.instances, report.findings), (20, vec![]));
    rebuild.finish().await.unwrap();

    let archive = server::open(&embedded(data.path())).await.unwrap();
    let after = study(&archive).await;
    // The time of arrival is now that at which the objects were written.
    let arrivals = before.arrived_at.zip(after.arrived_at);
    assert!(arrivals.is_some_and(|(one, other)| one.abs_diff(other) < 60_000), "{arrivals:?}");
    let (generation, changed_at, change) = (before.generation, before.changed_at, before.change);
    let arrived_at = before.arrived_at;
    assert_eq!(StudyRecord { generation, changed_at, change, arrived_at, ..after }, before);
    assert_eq!(check::check(&archive, false, |_| {}).await.unwrap().findings, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_were_refused_leave_nothing_that_reindexing_could_bring_back() {
    let data = tempfile::tempdir().unwrap();
    let archive = server::open(&embedded(data.path())).await.unwrap();
    let mut outcomes = Vec::new();
    for number in 0..40 {
        let uid = format!("1.2.1.{number}");
        for comment in ["one", "other"] {
            let (archive, file) = (archive.clone(), version(&uid, comment));
            outcomes.push(tokio::spawn(async move { send(&archive, file).await }));
        }
    }
    let mut stored = 0;
    for outcome in outcomes {
        match outcome.await.unwrap() {
            Ok(_) => stored += 1,
            Err(refusal) => assert!(matches!(refusal, Refusal::Different), "{refusal}"),
        }
    }
    assert_eq!((stored, originals(&data)), (40, 40));
}

#[tokio::test]
async fn bytes_that_would_take_the_place_of_others_go_if_they_were_not_committed() {
    let (source, data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    send(&server::open(&embedded(source.path())).await.unwrap(), version("1.2.1.1", "other")).await.unwrap();
    let object = original(&source, "1.2.1.1");
    send(&server::open(&embedded(data.path())).await.unwrap(), version("1.2.1.1", "one")).await.unwrap();
    leave_uncommitted(&data, &object, &std::fs::read(&object).unwrap());
    assert_eq!(originals(&data), 2);
    let archive = server::open(&embedded(data.path())).await.unwrap();
    assert_eq!(originals(&data), 1);
    assert_eq!(check::check(&archive, false, |_| {}).await.unwrap().findings, []);
}

#[tokio::test]
async fn sending_an_instance_again_brings_back_an_object_that_was_lost() {
    let data = tempfile::tempdir().unwrap();
    let archive = server::open(&embedded(data.path())).await.unwrap();
    let file = version("1.2.1.1", "one");
    send(&archive, file.clone()).await.unwrap();
    std::fs::remove_file(original(&data, "1.2.1.1")).unwrap();
    assert!(send(&archive, file).await.unwrap().is_duplicate);
    assert_eq!(check::check(&archive, false, |_| {}).await.unwrap().findings, []);
}

#[tokio::test]
async fn repairing_with_an_index_of_yesterday_loses_no_object() {
    let data = tempfile::tempdir().unwrap();
    for number in 0..3 {
        let archive = server::open(&embedded(data.path())).await.unwrap();
        store(&archive, &format!("1.2.1.{number}")).await;
        drop(archive);
        if number == 0 {
            std::fs::copy(data.path().join("index.redb"), data.path().join("yesterday")).unwrap();
        }
    }
    std::fs::rename(data.path().join("yesterday"), data.path().join("index.redb")).unwrap();
    let archive = server::open(&embedded(data.path())).await.unwrap();
    let report = check::check(&archive, true, |_| {}).await.unwrap();
    assert_eq!(report.findings.len(), 2, "{:?}", report.findings);
    assert_eq!((originals(&data), study(&archive).await.number_of_instances), (3, 3));
    assert_eq!(check::check(&archive, false, |_| {}).await.unwrap().findings, []);
}

#[tokio::test]
async fn a_second_reindexing_leaves_the_first_alone() {
    let data = tempfile::tempdir().unwrap();
    let first = server::Rebuild::begin(&embedded(data.path())).await.unwrap();
    assert!(server::Rebuild::begin(&embedded(data.path())).await.is_err());
    first.finish().await.unwrap();
    assert!(data.path().join("index.redb").exists());
}

/// Leaves the state of a process that is killed while it deletes an instance: its rows are removed, its
/// object is not.
async fn leave_half_deleted(data: &TempDir) {
    let archive = server::open(&embedded(data.path())).await.unwrap();
    for number in 0..5 {
        store(&archive, &format!("1.2.1.{number}")).await;
    }
    drop(archive);
    let table = Redb::open(&data.path().join("index.redb"), 1 << 20).unwrap();
    let index = Index::new(Arc::new(table));
    let (study, series, instance) =
        ("1.2".parse().unwrap(), "1.2.1".parse().unwrap(), "1.2.1.3".parse().unwrap());
    let removed = index.remove("default", &study, Some(&series), Some(&instance)).await;
    assert_eq!((removed.unwrap(), originals(data)), (1, 5));
    // As if the object had just been put.
    let name = original(data, "1.2.1.3");
    let name = name.strip_prefix(data.path()).unwrap().to_str().unwrap();
    std::fs::write(data.path().join("journal"), format!("{name}\n")).unwrap();
}

#[tokio::test]
async fn a_deletion_that_was_cut_off_is_finished_at_the_next_start() {
    let data = tempfile::tempdir().unwrap();
    leave_half_deleted(&data).await;
    let archive = server::open(&embedded(data.path())).await.unwrap();
    assert_eq!((originals(&data), study(&archive).await.number_of_instances), (4, 4));
    assert_eq!(check::check(&archive, true, |_| {}).await.unwrap().findings, []);
    // Recovery has ended: objects put after it stay.
    store(&archive, "1.2.1.3").await;
    drop(archive);
    let archive = server::open(&embedded(data.path())).await.unwrap();
    assert_eq!(study(&archive).await.number_of_instances, 5);
}

#[tokio::test]
async fn reindexing_brings_nothing_back_that_was_being_deleted() {
    let data = tempfile::tempdir().unwrap();
    leave_half_deleted(&data).await;
    let rebuild = server::Rebuild::begin(&embedded(data.path())).await.unwrap();
    let report = reindex::reindex(rebuild.archive(), |_| {}).await.unwrap();
    assert_eq!((report.instances, report.findings), (4, vec![]));
}

#[tokio::test]
async fn an_index_that_cannot_be_read_can_be_built_again() {
    let data = tempfile::tempdir().unwrap();
    store(&server::open(&embedded(data.path())).await.unwrap(), "1.2.1.1").await;
    std::fs::write(data.path().join("index.redb"), "garbage").unwrap();
    assert!(server::open(&embedded(data.path())).await.is_err());
    let rebuild = server::Rebuild::begin(&embedded(data.path())).await.unwrap();
    assert_eq!(reindex::reindex(rebuild.archive(), |_| {}).await.unwrap().instances, 1);
    rebuild.finish().await.unwrap();
    let archive = server::open(&embedded(data.path())).await.unwrap();
    assert_eq!(study(&archive).await.number_of_instances, 1);
}

#[tokio::test]
async fn repairing_deletes_what_was_derived_of_a_study_that_is_gone() {
    let data = tempfile::tempdir().unwrap();
    let archive = server::open(&embedded(data.path())).await.unwrap();
    store(&archive, "1.2.1.1").await;
    let derived = |study: &str| data.path().join("thumbnails/default").join(study).join("picture");
    for study in ["1.2", "1.3"] {
        std::fs::create_dir_all(derived(study).parent().unwrap()).unwrap();
        std::fs::write(derived(study), "picture").unwrap();
    }
    let report = check::check(&archive, true, |_| {}).await.unwrap();
    assert!(matches!(report.findings.as_slice(), [Finding::Orphan(_)]), "{:?}", report.findings);
    assert!(derived("1.2").exists() && !derived("1.3").exists());
}
