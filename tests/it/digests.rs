//! Objects with digests of each algorithm: those of earlier versions have SHA-256 (docs/decisions/0108).

use std::io::{Cursor, Read};
use std::sync::Arc;

use bytes::Bytes;
use cuspid::archive::Archive;
use cuspid::archive::access::Caller;
use cuspid::archive::ingest::{Refusal, StoredInstance};
use cuspid::archive::maintenance::check::check;
use cuspid::archive::maintenance::copy::copy;
use cuspid::archive::maintenance::reindex::reindex;
use cuspid::archive::maintenance::report::Finding;
use cuspid::archive::maintenance::scrub::{Scrub, scrub_state};
use cuspid::archive::records::InstanceRecord;
use cuspid::blobs::{Blobs, Bucket, Key};
use cuspid::config::Duplicates;
use cuspid::digest::DigestAlgorithm;
use cuspid::index::Index;
use cuspid::table::redb::Redb;
use futures_util::TryStreamExt;
use tokio_util::sync::CancellationToken;
use zip::ZipArchive;

use crate::engine::Engine;
use crate::harness::{EXPLICIT, Server, data_set, defaults, native, parts};

const UID: &str = "1.2.1.1";

/// An instance with bytes of its own.
fn version(comment: &str) -> Vec<u8> {
    data_set("1.2", "1.2.1", UID).text(0x0020_4000, "LT", comment).file(EXPLICIT)
}

/// Puts an object as a version that used `algorithm` did, and indexes it.
async fn store(engine: &Engine, algorithm: DigestAlgorithm, file: &[u8]) -> InstanceRecord {
    let digest = algorithm.digest(file);
    let key = Key {
        bucket: Bucket::Originals,
        path: format!("default/1.2/1.2.1/{UID}-{digest}-0123456789abcdef.dcm"),
    };
    put(&engine.blobs, &key, file).await;
    let report = reindex(&engine.archive, |_| {}).await.unwrap();
    assert_eq!((report.instances, report.findings), (1, vec![]));
    let record = record(&engine.archive).await;
    assert_eq!(record.digest, digest);
    record
}

async fn put(blobs: &Arc<dyn Blobs>, key: &Key, bytes: &[u8]) {
    let mut staged = blobs.stage().await.unwrap();
    staged.write(bytes).unwrap();
    blobs.put(staged, key).await.unwrap();
}

async fn record(archive: &Archive) -> InstanceRecord {
    let uids = ["1.2", "1.2.1"];
    archive
        .instance(
            &Caller::anonymous(),
            &uids[0].parse().unwrap(),
            &uids[1].parse().unwrap(),
            &UID.parse().unwrap(),
        )
        .await
        .unwrap()
}

async fn send(archive: &Arc<Archive>, file: &[u8]) -> Result<StoredInstance, Refusal> {
    let mut upload = archive.receive(&Caller::anonymous(), None).await;
    upload.write(Bytes::copy_from_slice(file)).await;
    upload.finish().await.await.result
}

async fn originals(engine: &Engine) -> Vec<Key> {
    let listed: Vec<_> = engine.blobs.list(Bucket::Originals, "").try_collect().await.unwrap();
    listed.into_iter().map(|object| object.key).collect()
}

/// The bytes of the instance; an error if the object is damaged.
async fn read(archive: &Archive) -> Result<Vec<u8>, cuspid::blobs::Error> {
    let record = record(archive).await;
    let bytes = archive.read_object(&Caller::anonymous(), &record, 0..record.size_bytes).await.unwrap();
    Ok(bytes.try_collect::<Vec<_>>().await?.concat())
}

async fn findings(archive: &Archive) -> Vec<Finding> {
    check(archive, false, |_| {}).await.unwrap().findings
}

async fn engine(duplicates: Duplicates) -> Engine {
    let mut config = defaults();
    config.preview.enabled = false;
    config.ingest.duplicates = duplicates;
    // Objects are damaged below a cache, which would give the bytes from before.
    config.s3.cache_max_bytes = 0;
    Engine::open(&config).await
}

/// What happens to an object.
#[derive(Debug, Clone, Copy)]
enum Fault {
    Missing,
    Damaged,
}

async fn damage(engine: &Engine, fault: Fault, file: &[u8]) {
    let key = originals(engine).await.remove(0);
    engine.blobs.delete(&key).await.unwrap();
    if matches!(fault, Fault::Damaged) {
        let mut bytes = file.to_vec();
        *bytes.last_mut().unwrap() ^= 1;
        put(&engine.blobs, &key, &bytes).await;
    }
}

#[tokio::test]
async fn new_objects_have_the_digest_of_new_objects() {
    let engine = engine(Duplicates::Reject).await;
    let file = version("one");
    assert!(!send(&engine.archive, &file).await.unwrap().is_duplicate);
    assert_eq!(record(&engine.archive).await.digest, DigestAlgorithm::OF_NEW_OBJECTS.digest(&file));
    assert_eq!(findings(&engine.archive).await, []);
}

#[tokio::test]
async fn the_same_bytes_are_a_duplicate_and_other_bytes_are_not() {
    for algorithm in DigestAlgorithm::ALL {
        for duplicates in [Duplicates::Reject, Duplicates::Replace] {
            let engine = engine(duplicates).await;
            let file = version("one");
            let before = store(&engine, algorithm, &file).await;
            assert!(send(&engine.archive, &file).await.unwrap().is_duplicate, "{algorithm:?}");
            assert_eq!(record(&engine.archive).await, before);
            let outcome = send(&engine.archive, &version("other")).await;
            match duplicates {
                Duplicates::Reject => assert!(matches!(outcome, Err(Refusal::Different)), "{algorithm:?}"),
                Duplicates::Replace => {
                    assert!(outcome.unwrap().has_replaced, "{algorithm:?}");
                    let digest = record(&engine.archive).await.digest;
                    assert_eq!(digest, DigestAlgorithm::OF_NEW_OBJECTS.digest(&version("other")));
                    assert_eq!(read(&engine.archive).await.unwrap(), version("other"));
                }
            }
        }
    }
}

#[tokio::test]
async fn the_same_data_set_under_another_header_is_a_duplicate() {
    for algorithm in DigestAlgorithm::ALL {
        let engine = engine(Duplicates::Reject).await;
        let file = version("one");
        let before = store(&engine, algorithm, &file).await;
        // Another preamble (PS3.10 §7.1).
        let again = [vec![1; 128], file[128..].to_vec()].concat();
        assert!(send(&engine.archive, &again).await.unwrap().is_duplicate, "{algorithm:?}");
        assert_eq!(record(&engine.archive).await, before);
        assert_eq!(originals(&engine).await.len(), 1);
    }
}

#[tokio::test]
async fn a_lost_object_is_found_and_a_new_one_has_the_digest_of_the_lost_one() {
    for algorithm in DigestAlgorithm::ALL {
        for fault in [Fault::Missing, Fault::Damaged] {
            let engine = engine(Duplicates::Reject).await;
            let file = version("one");
            let before = store(&engine, algorithm, &file).await;
            assert_eq!(read(&engine.archive).await.unwrap(), file);
            damage(&engine, fault, &file).await;
            let found = findings(&engine.archive).await;
            let is_found = match (fault, found.as_slice()) {
                (Fault::Missing, [Finding::Missing(_)]) => true,
                (Fault::Damaged, [Finding::Damaged(_)]) => read(&engine.archive).await.is_err(),
                _ => false,
            };
            assert!(is_found, "{algorithm:?} {found:?}");
            assert!(send(&engine.archive, &file).await.unwrap().is_duplicate);
            let healed = record(&engine.archive).await;
            assert_eq!((healed.digest, healed.replaced), (before.digest, vec![before.object]));
            assert_eq!(read(&engine.archive).await.unwrap(), file);
            let left = findings(&engine.archive).await;
            assert!(left.iter().all(|finding| matches!(finding, Finding::Orphan(_))), "{left:?}");
        }
    }
}

#[tokio::test]
async fn the_scrub_verifies_each_algorithm() {
    for algorithm in DigestAlgorithm::ALL {
        let engine = engine(Duplicates::Reject).await;
        let file = version("one");
        store(&engine, algorithm, &file).await;
        for damaged in [0, 1] {
            Scrub::new(engine.archive.clone(), std::time::Duration::ZERO)
                .run(&CancellationToken::new())
                .await
                .unwrap();
            let state = scrub_state(&engine.archive).await.unwrap().unwrap();
            assert_eq!((state.objects, state.damaged), (1, damaged), "{algorithm:?}");
            damage(&engine, Fault::Damaged, &file).await;
        }
    }
}

#[tokio::test]
async fn an_index_is_built_again_from_names_of_each_algorithm() {
    for algorithm in DigestAlgorithm::ALL {
        let source = engine(Duplicates::Reject).await;
        let file = version("one");
        let before = store(&source, algorithm, &file).await;
        damage(&source, Fault::Damaged, &file).await;
        let index = Arc::new(Index::new(Arc::new(Redb::in_memory().unwrap())));
        let archive = Archive::new(source.blobs.clone(), index, &defaults());
        let report = reindex(&archive, |_| {}).await.unwrap();
        assert!(matches!(report.findings.as_slice(), [Finding::Damaged(_)]), "{algorithm:?} {report:?}");
        let key = originals(&source).await.remove(0);
        source.blobs.delete(&key).await.unwrap();
        put(&source.blobs, &key, &file).await;
        assert_eq!(reindex(&archive, |_| {}).await.unwrap().findings, []);
        assert_eq!(
            record(&archive).await,
            InstanceRecord { stored_at: record(&archive).await.stored_at, ..before }
        );
    }
}

#[tokio::test]
async fn a_copy_keeps_digests_and_knows_instances_by_either_of_them() {
    for from in DigestAlgorithm::ALL {
        let source = engine(Duplicates::Reject).await;
        let file = version("one");
        let record_before = store(&source, from, &file).await;
        let destination = engine(Duplicates::Reject).await;
        let copied = copy(&source.archive, &destination.archive, 1, |_, _| {}).await.unwrap();
        assert_eq!((copied.instances, copied.known), (1, 0), "{copied:?}");
        assert_eq!(record(&destination.archive).await.digest, record_before.digest);
        for to in DigestAlgorithm::ALL {
            let destination = engine(Duplicates::Reject).await;
            let at_destination = store(&destination, to, &file).await;
            let known = copy(&source.archive, &destination.archive, 1, |_, _| {}).await.unwrap();
            assert_eq!((known.instances, known.known), (0, 1), "{from:?} {to:?} {known:?}");
            damage(&destination, Fault::Missing, &file).await;
            let healed = copy(&source.archive, &destination.archive, 1, |_, _| {}).await.unwrap();
            assert_eq!((healed.instances, healed.failures.len()), (1, 0), "{from:?} {to:?} {healed:?}");
            assert_eq!(record(&destination.archive).await.digest, at_destination.digest);
            assert_eq!(read(&destination.archive).await.unwrap(), file);

            let other = engine(Duplicates::Reject).await;
            store(&other, to, &version("other")).await;
            let refused = copy(&source.archive, &other.archive, 1, |_, _| {}).await.unwrap();
            assert_eq!(refused.failures.len(), 1, "{from:?} {to:?} {refused:?}");
        }
        damage(&source, Fault::Damaged, &file).await;
        let empty = engine(Duplicates::Reject).await;
        let failed = copy(&source.archive, &empty.archive, 1, |_, _| {}).await.unwrap();
        assert!(failed.failures[0].1.contains("damaged at the source"), "{failed:?}");
    }
}

#[tokio::test]
async fn responses_are_the_same_and_validators_hold_the_digest() {
    let file = native("1.2", "1.2.1", UID);
    let mut tags = Vec::new();
    for algorithm in DigestAlgorithm::ALL {
        let server = Server::start().await;
        store(&server.engine, algorithm, &file).await;
        let instance = format!("/studies/1.2/series/1.2.1/instances/{UID}");
        for transfer_syntax in ["*", "1.2.840.10008.1.2.4.80"] {
            let accept =
                format!(r#"multipart/related; type="application/dicom"; transfer-syntax={transfer_syntax}"#);
            let get = || server.get(&instance).header("Accept", &accept);
            let response = get().send().await.unwrap();
            assert_eq!(response.status(), 200, "{algorithm:?} {transfer_syntax}");
            let tag = response.headers()["etag"].clone();
            assert_eq!(parts(response).await.len(), 1);
            assert_eq!(get().header("If-None-Match", &tag).send().await.unwrap().status(), 304);
            tags.push(tag);
        }
        let response = server.get(&instance).header("Accept", "application/zip").send().await.unwrap();
        let mut zip = ZipArchive::new(Cursor::new(response.bytes().await.unwrap())).unwrap();
        let mut found = Vec::new();
        zip.by_index(0).unwrap().read_to_end(&mut found).unwrap();
        assert_eq!(found, file, "{algorithm:?}");
        let response = server.get(&format!("{instance}/rendered")).header("Accept", "image/png").send().await;
        assert_eq!(response.unwrap().status(), 200, "{algorithm:?}");
    }
    // That of an object of an earlier version is what it was.
    let digest = DigestAlgorithm::Sha256.digest(&file).to_string();
    assert!(tags[0].to_str().unwrap().starts_with(&format!("\"{}-", &digest[..32])), "{tags:?}");
    assert_eq!(tags.iter().collect::<std::collections::HashSet<_>>().len(), tags.len(), "{tags:?}");
}
