//! `cuspid check` beside servers that store, replace and delete meanwhile.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use cuspid::archive::Archive;
use cuspid::archive::access::Caller;
use cuspid::archive::maintenance::check::{self, CheckOptions};
use cuspid::archive::maintenance::delete;
use cuspid::archive::maintenance::report::Finding;
use cuspid::archive::scope::Scope;
use cuspid::blobs::fs::FileBlobs;
use cuspid::blobs::memory::MemoryBlobs;
use cuspid::config::Duplicates;
use cuspid::config::{BlobStore, Config, TableEngine};
use cuspid::index::Index;
use cuspid::table::redb::Redb;
use cuspid::table::{Expect, ItemKey, Table, Write};
use tempfile::TempDir;

use crate::harness::{EXPLICIT, data_set, defaults};

/// Settings under which several processes may use the archive.
fn shared() -> Config {
    let mut config = defaults();
    (config.storage.blobs, config.storage.table) = (BlobStore::S3, TableEngine::Dynamodb);
    config.ingest.duplicates = Duplicates::Replace;
    config.preview.enabled = false;
    config
}

async fn send(archive: &Arc<Archive>, instance: &str, comment: &str) {
    let file = data_set("1.2", "1.2.1", instance).text(0x0020_4000, "LT", comment).file(EXPLICIT);
    let mut upload = archive.receive(&Caller::anonymous(), None).await;
    upload.write(Bytes::from(file)).await;
    upload.finish().await.await.result.unwrap();
}

/// Two servers over one store and one index.
fn two_servers() -> [Arc<Archive>; 2] {
    let blobs = Arc::new(MemoryBlobs::new());
    let table = Arc::new(Redb::in_memory().unwrap());
    [(); 2].map(|()| {
        let index = Arc::new(Index::new(table.clone() as Arc<dyn Table>));
        Archive::new(blobs.clone(), index, &shared())
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_found_or_repaired_while_another_server_stores_replaces_and_deletes() {
    let [busy, checking] = two_servers();
    send(&busy, "1.2.1.0", "stays").await;
    let is_over = Arc::new(AtomicBool::new(false));
    let others = (1..=4).map(|number| {
        let (archive, is_over) = (busy.clone(), is_over.clone());
        tokio::spawn(async move {
            let instance = format!("1.2.1.{number}");
            let mut rounds = 0;
            while !is_over.load(Ordering::Relaxed) {
                send(&archive, &instance, "one").await;
                send(&archive, &instance, "other").await;
                let scope = Scope {
                    study: "1.2".parse().unwrap(),
                    series: Some("1.2.1".parse().unwrap()),
                    instance: Some(instance.parse().unwrap()),
                };
                delete::delete(&archive, &Caller::anonymous(), scope).await.unwrap();
                rounds += 1;
            }
            rounds
        })
    });
    let others: Vec<_> = others.collect();
    for _ in 0..30 {
        let report = check::check(&checking, true, |_| {}).await.unwrap();
        assert_eq!(report.findings, []);
        assert!(report.instances >= 1);
    }
    is_over.store(true, Ordering::Relaxed);
    for other in others {
        assert!(other.await.unwrap() > 0);
    }
    let study = checking.study(&Caller::anonymous(), &"1.2".parse().unwrap()).await.unwrap();
    assert_eq!(study.number_of_instances, 1);
}

#[expect(clippy::disallowed_types, reason = "the test makes a file older than it is")]
fn make_old(path: &Path) {
    let two_hours_ago = SystemTime::now() - Duration::from_secs(2 * 60 * 60);
    std::fs::File::options().write(true).open(path).unwrap().set_modified(two_hours_ago).unwrap();
}

#[tokio::test]
async fn what_another_process_may_be_about_to_commit_is_left_alone_for_an_hour() {
    let data = TempDir::new().unwrap();
    let blobs = Arc::new(FileBlobs::open(data.path()).unwrap());
    let open = || {
        let index = Index::new(Arc::new(Redb::in_memory().unwrap()));
        Archive::new(blobs.clone(), Arc::new(index), &shared())
    };
    // For another index, the objects of this archive are orphans.
    send(&open(), "1.2.1.1", "one").await;
    let series = data.path().join("originals/default/1.2/1.2.1");
    let object = std::fs::read_dir(series).unwrap().next().unwrap().unwrap().path();
    let archive = open();
    let recent = check::check(&archive, true, |_| {}).await.unwrap();
    assert_eq!((recent.findings.len(), recent.recent), (0, 1));
    assert!(archive.study(&Caller::anonymous(), &"1.2".parse().unwrap()).await.is_err());

    make_old(&object);
    let old = check::check(&archive, true, |_| {}).await.unwrap();
    assert!(matches!(old.findings.as_slice(), [Finding::Orphan(_)]), "{:?}", old.findings);
    assert!(archive.study(&Caller::anonymous(), &"1.2".parse().unwrap()).await.is_ok());

    // If no other process is running, an orphan of any age is reported.
    send(&open(), "1.2.1.2", "one").await;
    let alone = CheckOptions { is_repairing: true, is_alone: true };
    assert_eq!(check::check_as(&archive, alone, |_| {}).await.unwrap().findings.len(), 1);
    assert_eq!(check::check(&archive, false, |_| {}).await.unwrap().instances, 2);
}

#[tokio::test]
async fn a_study_that_the_list_of_studies_has_lost_is_named() {
    let table = Arc::new(Redb::in_memory().unwrap());
    let index = Arc::new(Index::new(table.clone() as Arc<dyn Table>));
    let archive = Archive::new(Arc::new(MemoryBlobs::new()), index, &defaults());
    send(&archive, "1.2.1.1", "one").await;
    assert_eq!(check::check(&archive, false, |_| {}).await.unwrap().findings, []);
    let key = ItemKey { partition: "T#default#S#1.2".into(), sort: "STUDY".into() };
    let mut row = table.get(std::slice::from_ref(&key)).await.unwrap().remove(0).unwrap();
    row.secondary.clear();
    table.transact(vec![Write::Put(row, Expect::Anything)]).await.unwrap();
    // The list has no study on a day on which one was counted.
    let are_expected =
        |findings: &[Finding]| matches!(findings, [Finding::WrongDayCount(_), Finding::Unlisted(_)]);
    let report = check::check(&archive, false, |_| {}).await.unwrap();
    assert!(are_expected(&report.findings), "{:?}", report.findings);
    table.transact(vec![Write::Delete(key, Expect::Anything)]).await.unwrap();
    let report = check::check(&archive, false, |_| {}).await.unwrap();
    assert!(are_expected(&report.findings), "{:?}", report.findings);
}
