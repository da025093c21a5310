//! The engines of servers under test: in memory, or in S3 and DynamoDB with `CUSPID_TEST_ENGINE=cloud` under
//! `tools/cloud.py`. Both are empty at first.

use std::env;
use std::path::Path;
use std::sync::Arc;

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_s3::config::Builder;
use cuspid::archive::Archive;
use cuspid::blobs::Blobs;
use cuspid::blobs::memory::MemoryBlobs;
use cuspid::blobs::s3::S3Blobs;
use cuspid::config::{BlobStore, Config, TableEngine};
use cuspid::index::Index;
use cuspid::server;
use cuspid::table::dynamodb::DynamodbTable;
use cuspid::table::redb::Redb;
use tempfile::TempDir;
use uuid::Uuid;

const REGION: &str = "us-east-1";

/// An archive, and the objects below it.
pub(crate) struct Engine {
    pub(crate) archive: Arc<Archive>,
    pub(crate) blobs: Arc<dyn Blobs>,
    /// The directory of the engine's temporary files on this machine.
    _scratch: TempDir,
}

impl Engine {
    pub(crate) async fn open(config: &Config) -> Self {
        let scratch = tempfile::tempdir().unwrap();
        match env::var("CUSPID_TEST_ENGINE") {
            Ok(engine) if engine == "cloud" => Self::in_cloud(config.clone(), scratch).await,
            Ok(engine) => panic!("CUSPID_TEST_ENGINE can be cloud, and not {engine}"),
            Err(_) => Self::in_memory(config, scratch),
        }
    }

    fn in_memory(config: &Config, scratch: TempDir) -> Self {
        let blobs = Arc::new(MemoryBlobs::new());
        let index = Index::new(Arc::new(Redb::in_memory().unwrap()));
        let archive = Archive::new(blobs.clone(), Arc::new(index), config);
        Self { archive, blobs, _scratch: scratch }
    }

    async fn in_cloud(config: Config, scratch: TempDir) -> Self {
        let config = cloud(config, scratch.path()).await;
        let archive = server::open(&config).await.unwrap();
        // Without the cache.
        let blobs = S3Blobs::open(&config.s3, &scratch.path().join("beside")).await.unwrap();
        Self { archive, blobs: Arc::new(blobs), _scratch: scratch }
    }
}

/// The same settings, with a bucket and a table of its own, both of one name; `data` is the engine's
/// directory on this machine.
pub(crate) async fn cloud(mut config: Config, data: &Path) -> Config {
    let name = format!("test-{}", Uuid::new_v4());
    let endpoints = [endpoint("CUSPID_TEST_S3"), endpoint("CUSPID_TEST_DYNAMODB")];
    make_bucket(&endpoints[0], &name).await;
    [config.s3.endpoint, config.dynamodb.endpoint] = endpoints;
    config.storage.data = data.to_owned();
    config.storage.blobs = BlobStore::S3;
    config.s3.path_style = true;
    config.s3.bucket = format!("{name}/{{class}}").try_into().unwrap();
    config.storage.table = TableEngine::Dynamodb;
    config.dynamodb.region = REGION.into();
    config.dynamodb.table = name;
    DynamodbTable::connect(&config.dynamodb).await.create(false).await.unwrap();
    config
}

/// The same settings, with another, empty table.
pub(crate) async fn other_table(mut config: Config) -> Config {
    config.dynamodb.table = format!("test-{}", Uuid::new_v4());
    DynamodbTable::connect(&config.dynamodb).await.create(false).await.unwrap();
    config
}

/// The first of the servers of a kind.
fn endpoint(variable: &str) -> String {
    let servers = env::var(variable).expect("run this under tools/cloud.py");
    let first = servers.split_whitespace().next().and_then(|server| server.split_once('='));
    first.expect("name=URL").1.to_owned()
}

async fn make_bucket(endpoint: &str, name: &str) {
    client(endpoint).await.create_bucket().bucket(name).send().await.unwrap();
}

/// A client of an S3 server itself.
pub(crate) async fn client(endpoint: &str) -> aws_sdk_s3::Client {
    let machine = machine(endpoint).await;
    aws_sdk_s3::Client::from_conf(Builder::from(&machine).force_path_style(true).build())
}

/// Writes all items of a table to another one.
pub(crate) async fn copy_table(endpoint: &str, from: &str, to: &str) {
    let client = aws_sdk_dynamodb::Client::new(&machine(endpoint).await);
    let mut pages = client.scan().table_name(from).into_paginator().send();
    while let Some(page) = pages.next().await {
        for item in page.unwrap().items.unwrap_or_default() {
            client.put_item().table_name(to).set_item(Some(item)).send().await.unwrap();
        }
    }
}

async fn machine(endpoint: &str) -> SdkConfig {
    aws_config::defaults(BehaviorVersion::latest())
        .region(Region::new(REGION))
        .endpoint_url(endpoint)
        .load()
        .await
}
