//! Tables for tests, on the servers that `tools/cloud.py` starts.

use crate::config::{self, Config};
use crate::table::dynamodb::DynamodbTable;

/// A server that speaks DynamoDB's protocol.
#[derive(Debug, Clone)]
pub(crate) struct DynamodbServer {
    /// The name of the server.
    pub(crate) name: String,
    /// The URL of the server.
    pub(crate) endpoint: String,
}

/// The servers, at least one.
pub(crate) fn each_server() -> Vec<DynamodbServer> {
    let servers = std::env::var("CUSPID_TEST_DYNAMODB").expect("run this under tools/cloud.py");
    let servers = servers.split_whitespace().map(|server| {
        let (name, endpoint) = server.split_once('=').expect("name=URL");
        DynamodbServer { name: name.into(), endpoint: endpoint.into() }
    });
    let servers: Vec<_> = servers.collect();
    assert!(!servers.is_empty(), "run this under tools/cloud.py");
    servers
}

/// Settings for a table of its own on a server.
pub(crate) fn settings(server: &DynamodbServer) -> config::DynamodbSettings {
    let table = format!("test-{}", uuid::Uuid::new_v4());
    let (region, endpoint) = ("us-east-1".into(), server.endpoint.clone());
    config::DynamodbSettings { table, region, endpoint, ..Config::defaults().dynamodb }
}

/// A new, empty table.
pub(crate) async fn new_table(server: &DynamodbServer) -> DynamodbTable {
    let table = DynamodbTable::connect(&settings(server)).await;
    table.create(false).await.unwrap();
    table
}
