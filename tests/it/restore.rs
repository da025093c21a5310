//! The procedures of docs/operations.md for back-ups: made and restored; the server then gives the same
//! answers.

use std::path::Path;
use std::sync::Arc;

use aws_sdk_s3::types::{BucketVersioningStatus, VersioningConfiguration};
use cuspid::archive::Archive;
use cuspid::archive::maintenance::check::{self, CheckOptions};
use cuspid::archive::maintenance::{copy, reindex};
use cuspid::config::Config;
use cuspid::server;
use cuspid::server::Rebuild;
use serde_json::Value;
use tempfile::TempDir;

use crate::engine;
use crate::harness::{STORE_TYPE, embedded, multipart, native};

/// Runs a server, stores instances by their numbers, and returns all its answers.
async fn serve(config: &Config, numbers: impl Iterator<Item = usize>) -> Vec<String> {
    let server = when_free(|| server::start(config.clone())).await;
    let base = format!("http://{}/dicom-web", server.http);
    let client = reqwest::Client::new();
    let instances: Vec<_> = numbers
        .map(|number| {
            let study = format!("1.{}", number % 3);
            native(&study, &format!("{study}.1"), &format!("{study}.1.{number}"))
        })
        .collect();
    if !instances.is_empty() {
        let request = client.post(format!("{base}/studies")).header("Content-Type", STORE_TYPE);
        let response = request.body(multipart(&instances)).send().await.unwrap();
        assert_eq!(response.status(), 200);
    }
    let mut answers = Vec::new();
    for path in ["/studies", "/series", "/instances"] {
        let response = client.get(format!("{base}{path}?includefield=all&limit=1000")).send().await.unwrap();
        let text = response.text().await.unwrap();
        // An answer names the server's own address, which differs each time; the order of instances may
        // differ.
        let text = if text.is_empty() { "[]".to_owned() } else { text.replace(&base, "") };
        let results: Vec<Value> = serde_json::from_str(&text).unwrap();
        let mut results: Vec<String> = results.iter().map(Value::to_string).collect();
        results.sort();
        answers.extend(results);
    }
    for study in ["1.0", "1.1", "1.2"] {
        let response = client.get(format!("{base}/studies/{study}/metadata")).send().await.unwrap();
        answers.push(response.text().await.unwrap().replace(&base, ""));
        let response = client.get(format!("{base}/studies/{study}/pixeldata")).send().await.unwrap();
        let status = response.status();
        answers.push(format!("{study} {status} {}", response.bytes().await.unwrap().len()));
    }
    drop(client);
    server.stop().await.unwrap();
    answers
}

/// Opens a data directory as soon as the threads of its last user have ended. After the end of a process this
/// needs no wait.
async fn when_free<T, F: Future<Output = anyhow::Result<T>>>(open: impl Fn() -> F) -> T {
    loop {
        match open().await {
            Ok(opened) => return opened,
            Err(error) if ["lock", "using it"].iter().any(|words| format!("{error:#}").contains(words)) => {
                tokio::task::yield_now().await;
            }
            Err(error) => panic!("{error:#}"),
        }
    }
}

async fn reindex(config: &Config) -> u64 {
    let rebuild = when_free(|| Rebuild::begin(config)).await;
    let report = reindex::reindex(rebuild.archive(), |_| {}).await.unwrap();
    assert_eq!(report.findings, []);
    rebuild.finish().await.unwrap();
    report.instances
}

/// Copies files as `cp -r` does.
fn copy_files(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_files(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copied_data_directory_is_a_back_up_with_or_without_its_index() {
    let (parent, lost) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let backup = parent.path().join("backup");
    let before = serve(&embedded(lost.path()), 0..12).await;
    copy_files(lost.path(), &backup);
    drop(lost);
    assert_eq!(serve(&embedded(&backup), 0..0).await, before);

    // The index of a back-up that was made while the server ran is of no use.
    std::fs::remove_file(backup.join("index.redb")).unwrap();
    assert_eq!(reindex(&embedded(&backup)).await, 12);
    assert_eq!(serve(&embedded(&backup), 0..0).await, before);
}

/// Opens an archive as soon as the last task of a server that has stopped lets go of it.
async fn released(config: &Config) -> Arc<Archive> {
    loop {
        match server::open(config).await {
            Err(error) if format!("{error:#}").contains("using it") => tokio::task::yield_now().await,
            opened => return opened.unwrap(),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_is_a_back_up_that_serves_at_once_and_can_be_copied_back() {
    let (lost, backup, restored) =
        (TempDir::new().unwrap(), TempDir::new().unwrap(), TempDir::new().unwrap());
    let before = serve(&embedded(lost.path()), 0..12).await;
    for (from, to) in [(&lost, &backup), (&backup, &restored)] {
        let source = released(&embedded(from.path())).await;
        let destination = server::open(&embedded(to.path())).await.unwrap();
        assert_eq!(copy::copy(&source, &destination, 4, |_, _| {}).await.unwrap().instances, 12);
        drop((source, destination));
        assert_eq!(serve(&embedded(to.path()), 0..0).await, before);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_was_lost_is_made_again_from_the_objects() {
    let scratch = TempDir::new().unwrap();
    let config = engine::cloud(embedded(scratch.path()), scratch.path()).await;
    let before = serve(&config, 0..12).await;
    let error = Rebuild::begin(&config).await.err().unwrap().to_string();
    assert!(error.contains("table create") && error.contains("dynamodb.table"), "{error}");

    let config = engine::other_table(config).await;
    // An interrupted rebuild can be continued; no server starts on it until it is complete.
    let cut_off = Rebuild::begin(&config).await.unwrap();
    reindex::reindex(cut_off.archive(), |_| {}).await.unwrap();
    drop(cut_off);
    let error = server::open(&config).await.err().unwrap().to_string();
    assert!(error.contains("cuspid reindex"), "{error}");
    assert_eq!(reindex(&config).await, 12);
    assert_eq!(serve(&config, 0..0).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_of_an_earlier_time_is_brought_up_to_date_by_a_repair() {
    let scratch = TempDir::new().unwrap();
    let config = engine::cloud(embedded(scratch.path()), scratch.path()).await;
    serve(&config, 0..6).await;
    // Like point-in-time recovery: the earlier state, in another table.
    let earlier = engine::other_table(config.clone()).await;
    let [from, to] = [&config, &earlier].map(|config| &config.dynamodb.table);
    engine::copy_table(&config.dynamodb.endpoint, from, to).await;
    let after = serve(&config, 6..12).await;
    let archive = server::open(&earlier).await.unwrap();
    let manner = CheckOptions { is_repairing: true, is_alone: true };
    assert_eq!(check::check_as(&archive, manner, |_| {}).await.unwrap().findings.len(), 6);
    drop(archive);
    assert_eq!(serve(&earlier, 0..0).await, after);
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_that_were_deleted_come_back_from_their_versions() {
    let scratch = TempDir::new().unwrap();
    let config = engine::cloud(embedded(scratch.path()), scratch.path()).await;
    let bucket = config.dynamodb.table.clone();
    let client = engine::client(&config.s3.endpoint).await;
    let enabled = VersioningConfiguration::builder().status(BucketVersioningStatus::Enabled).build();
    let versioning = client.put_bucket_versioning().bucket(&bucket).versioning_configuration(enabled);
    versioning.send().await.unwrap();
    let before = serve(&config, 0..12).await;

    let listed = client.list_objects_v2().bucket(&bucket).send().await.unwrap();
    for object in listed.contents() {
        client.delete_object().bucket(&bucket).key(object.key().unwrap()).send().await.unwrap();
    }
    let archive = server::open(&config).await.unwrap();
    assert_eq!(check::check(&archive, false, |_| {}).await.unwrap().findings.len(), 12);
    let versions = client.list_object_versions().bucket(&bucket).send().await.unwrap();
    for marker in versions.delete_markers() {
        let request = client.delete_object().bucket(&bucket).key(marker.key().unwrap());
        request.version_id(marker.version_id().unwrap()).send().await.unwrap();
    }
    assert_eq!(check::check(&archive, false, |_| {}).await.unwrap().findings, []);
    drop(archive);
    assert_eq!(serve(&config, 0..0).await, before);
}
