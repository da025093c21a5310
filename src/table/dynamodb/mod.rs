//! The engine over DynamoDB, or another service with its protocol: one table with five secondary indexes,
//! created by [`schema`].
//!
//! A secondary index holds only keys, and only of items that have a key for it: a commit that changes counts
//! rewrites no entry, and the one partition that lists all studies is not written with every instance.
//! DynamoDB updates an index after the table, so the items that its entries name are read from the table.

use std::time::Duration;

use async_trait::async_trait;
use aws_config::BehaviorVersion;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::Region;
use aws_sdk_dynamodb::types::ConsumedCapacity;

use crate::config;
use crate::table::dynamodb::sender::Sender;
use crate::table::{Error, Item, ItemKey, Page, Range, SortKeys, Table, Write};
use crate::telemetry::{self, Units};

#[cfg(test)]
mod fault_tests;
mod item;
mod read;
pub mod schema;
mod sender;
#[cfg(test)]
pub(crate) mod testing;
mod write;

const UNREADABLE: &str = "an item cannot be decoded";

/// A table in DynamoDB.
#[derive(Debug)]
pub struct DynamodbTable {
    client: Client,
    table: String,
    sender: Sender,
}

impl DynamodbTable {
    /// The table of the settings, without a check that it exists: see [`DynamodbTable::verify`].
    ///
    /// Credentials are found as the AWS tools find them: environment, profile, container, machine.
    pub async fn connect(settings: &config::DynamodbSettings) -> Self {
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(Duration::from_secs(settings.connect_timeout_seconds))
            .operation_attempt_timeout(Duration::from_secs(settings.request_timeout_seconds))
            .build();
        let mut loader = aws_config::defaults(BehaviorVersion::latest());
        loader = loader.retry_config(RetryConfig::disabled()).timeout_config(timeouts);
        if !settings.region.is_empty() {
            loader = loader.region(Region::new(settings.region.clone()));
        }
        if !settings.endpoint.is_empty() {
            loader = loader.endpoint_url(&settings.endpoint);
        }
        let max_duration = Duration::from_secs(settings.retry_seconds);
        Self {
            client: Client::new(&loader.load().await),
            table: settings.table.clone(),
            sender: Sender::new(settings.max_requests, settings.max_attempts, max_duration),
        }
    }
}

#[async_trait]
impl Table for DynamodbTable {
    async fn get(&self, keys: &[ItemKey]) -> Result<Vec<Option<Item>>, Error> {
        self.read_items(keys).await
    }

    async fn range(&self, range: &Range) -> Result<Page, Error> {
        self.read_range(range).await
    }

    async fn sort_keys(&self, range: &Range) -> Result<SortKeys, Error> {
        self.read_sort_keys(range).await
    }

    async fn transact(&self, writes: Vec<Write>) -> Result<(), Error> {
        self.write(writes).await
    }

    fn health(&self) -> Result<(), Error> {
        Ok(())
    }

    fn is_remote(&self) -> bool {
        true
    }
}

/// Counts the units that a request has consumed, if the service returns them.
fn count_consumed_units<'a>(
    operation: &'static str,
    kind: Units,
    consumed: impl IntoIterator<Item = &'a ConsumedCapacity>,
) {
    let units: f64 = consumed.into_iter().filter_map(ConsumedCapacity::capacity_units).sum();
    telemetry::table_units_consumed(operation, kind, units);
}

#[cfg(test)]
mod tests;
