//! The scrub: every original is read once in a set time (docs/decisions/0103).

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cuspid::archive::Archive;
use cuspid::archive::access::Caller;
use cuspid::archive::maintenance::scrub::{Scrub, scrub_state};
use cuspid::server;
use cuspid::telemetry;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::engine::Engine;
use crate::harness::{EXPLICIT, data_set, defaults, embedded};

/// An interval in which everything is due at once, and one in which nothing but the first object is.
const AT_ONCE: Duration = Duration::ZERO;
const LONG: Duration = Duration::from_secs(24 * 60 * 60);

async fn send(archive: &Arc<Archive>, study: &str, series: &str, instance: &str) {
    let mut upload = archive.receive(&Caller::anonymous(), None).await;
    upload.write(Bytes::from(data_set(study, series, instance).file(EXPLICIT))).await;
    upload.finish().await.await.result.unwrap();
}

/// Two studies of two series with three instances each.
async fn fill(archive: &Arc<Archive>) {
    for study in ["1.1", "1.2"] {
        for series in ["1", "2"] {
            for instance in ["1", "2", "3"] {
                let series = format!("{study}.{series}");
                send(archive, study, &series, &format!("{series}.{instance}")).await;
            }
        }
    }
}

async fn pass(archive: &Arc<Archive>) {
    Scrub::new(archive.clone(), AT_ONCE).run(&CancellationToken::new()).await.unwrap();
}

/// Objects, damaged ones and missing ones of the last pass; and whether the pass is whole.
async fn counts(archive: &Archive) -> (u64, u64, u64, bool) {
    let state = scrub_state(archive).await.unwrap().unwrap();
    (state.objects, state.damaged, state.missing, !state.is_running && state.completed_at.is_some())
}

fn original(data: &Path, instance: &str) -> PathBuf {
    let mut folders = vec![data.join("originals")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if path.is_dir() {
                folders.push(path);
            } else if name.starts_with(&format!("{instance}-")) {
                return path;
            }
        }
    }
    panic!("there is no object of {instance}");
}

/// The archive of a directory, once the threads of the archive before have ended.
async fn open(data: &Path) -> Arc<Archive> {
    loop {
        match server::open(&embedded(data)).await {
            Ok(archive) => return archive,
            Err(error) if format!("{error:#}").contains("using it") => tokio::task::yield_now().await,
            Err(error) if format!("{error:#}").contains("lock") => tokio::task::yield_now().await,
            Err(error) => panic!("{error:#}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_are_found_and_told_and_nothing_is_changed() {
    let metrics = telemetry::metrics();
    let data = TempDir::new().unwrap();
    let archive = open(data.path()).await;
    fill(&archive).await;
    pass(&archive).await;
    assert_eq!(counts(&archive).await, (12, 0, 0, true));

    let flipped = original(data.path(), "1.1.2.3");
    let mut bytes = std::fs::read(&flipped).unwrap();
    bytes[300] ^= 1;
    std::fs::write(&flipped, &bytes).unwrap();
    let cut = original(data.path(), "1.2.1.1");
    std::fs::write(&cut, &std::fs::read(&cut).unwrap()[..200]).unwrap();
    let longer = original(data.path(), "1.2.1.2");
    std::fs::write(&longer, [std::fs::read(&longer).unwrap(), vec![0]].concat()).unwrap();
    std::fs::remove_file(original(data.path(), "1.2.2.2")).unwrap();
    pass(&archive).await;
    assert_eq!(counts(&archive).await, (12, 3, 1, true));
    assert!(std::fs::read(&flipped).unwrap() == bytes, "the scrub deletes and changes nothing");
    archive.health().unwrap();

    let text = metrics.render();
    for line in [
        "cuspid_scrub_objects_total{outcome=\"damaged\"}",
        "cuspid_scrub_objects_total{outcome=\"missing\"}",
        "cuspid_scrub_bytes_total",
        "cuspid_scrub_pass_age_seconds",
    ] {
        assert!(text.contains(line), "{line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pass_goes_on_where_it_stopped_and_not_faster_than_it_should() {
    let data = TempDir::new().unwrap();
    let archive = open(data.path()).await;
    fill(&archive).await;
    let stop = CancellationToken::new();
    let scrub = Scrub::new(archive.clone(), LONG);
    let stopping = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        stop.cancel();
    };
    let (outcome, ()) = tokio::join!(scrub.run(&stop), stopping);
    outcome.unwrap();
    // The first object is due at once, the second in hours.
    assert_eq!(counts(&archive).await, (1, 0, 0, false));
    drop((scrub, archive));

    let archive = open(data.path()).await;
    let position = scrub_state(&archive).await.unwrap().unwrap().position.unwrap();
    assert_eq!(position.instance.as_str(), "1.1.1.1");
    // The object that was read is not read again.
    std::fs::remove_file(original(data.path(), "1.1.1.1")).unwrap();
    pass(&archive).await;
    assert_eq!(counts(&archive).await, (12, 0, 0, true));
    pass(&archive).await;
    assert_eq!(counts(&archive).await, (12, 0, 1, true));
}

#[tokio::test]
async fn one_process_scrubs_at_a_time_on_every_engine() {
    let engine = Engine::open(&defaults()).await;
    fill(&engine.archive).await;
    let stop = CancellationToken::new();
    let first = Scrub::new(engine.archive.clone(), LONG);
    let second = Scrub::new(engine.archive.clone(), LONG);
    let is_shared = std::env::var("CUSPID_TEST_ENGINE").is_ok();
    let running = async {
        while scrub_state(&engine.archive).await.unwrap().is_none_or(|state| state.holder.is_empty()) {
            tokio::task::yield_now().await;
        }
        if is_shared {
            let holder = scrub_state(&engine.archive).await.unwrap().unwrap().holder;
            second.run(&stop).await.unwrap();
            assert_eq!(scrub_state(&engine.archive).await.unwrap().unwrap().holder, holder);
        }
        stop.cancel();
    };
    let (outcome, ()) = tokio::join!(first.run(&stop), running);
    outcome.unwrap();
    // The lease ends with the process that had it.
    pass(&engine.archive).await;
    assert_eq!(counts(&engine.archive).await, (12, 0, 0, true));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_scrubs_unless_the_interval_is_zero() {
    for (days, expected) in [(0, false), (30, true)] {
        let data = TempDir::new().unwrap();
        let archive = open(data.path()).await;
        send(&archive, "1.1", "1.1.1", "1.1.1.1").await;
        drop(archive);
        drop(open(data.path()).await);
        let mut config = embedded(data.path());
        config.scrub.interval_days = days;
        let server = loop {
            match server::start(config.clone()).await {
                Ok(server) => break server,
                Err(error) if format!("{error:#}").contains("using it") => tokio::task::yield_now().await,
                Err(error) => panic!("{error:#}"),
            }
        };
        let is_read = async || {
            let state = scrub_state(&server.archive).await.unwrap();
            state.is_some_and(|state| state.completed_at.is_some())
        };
        for _ in 0..if expected { 600 } else { 10 } {
            if is_read().await {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(is_read().await, expected, "{days} days");
        server.stop().await.unwrap();
    }
}
