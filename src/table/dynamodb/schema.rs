//! The schema of the table: its creation, and a check of an existing table.

use std::collections::BTreeSet;
use std::time::Duration;

use aws_sdk_dynamodb::error::{BuildError, DisplayErrorContext, ProvideErrorMetadata};
use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, GlobalSecondaryIndex, KeySchemaElement, KeyType,
    PointInTimeRecoverySpecification, Projection, ProjectionType, ScalarAttributeType, TableDescription,
    TableStatus,
};

use crate::table::INDEXES;
use crate::table::dynamodb::{DynamodbTable, item};

/// The wait between two looks at a table that is being created.
const POLL: Duration = Duration::from_millis(200);
/// The longest wait for a table to become active.
const MAX_WAIT: Duration = Duration::from_secs(300);

/// The reason why a table cannot be used or created.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    /// No table has this name.
    #[error("there is no table {0}")]
    Missing(String),
    /// The table has another schema.
    #[error("the table {table} has another schema than it must have: {}", differences.join("; "))]
    Different {
        /// The name of the table.
        table: String,
        /// Descriptions of the differences.
        differences: Vec<String>,
    },
    /// The table is still not ready after minutes.
    #[error("the table {0} is not ready")]
    NotReady(String),
    /// The service failed or refused.
    #[error("cannot {operation}: {reason}")]
    Service {
        /// The operation that failed.
        operation: &'static str,
        /// The message of the service.
        reason: String,
    },
}

/// The result of [`DynamodbTable::create`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CreatedTable {
    /// Whether the table was created now; if not, it existed.
    pub is_new: bool,
    /// Whether point in time recovery is on; services other than AWS may not support it.
    pub has_recovery: bool,
}

impl DynamodbTable {
    /// Checks that the table exists with the right schema.
    ///
    /// # Errors
    /// [`SchemaError`], which names the difference.
    pub async fn verify(&self) -> Result<(), SchemaError> {
        let Some(table) = self.describe().await? else {
            return Err(SchemaError::Missing(self.table.clone()));
        };
        self.require_schema(&table)
    }

    /// Creates the table, and waits until it can be used. An existing table is only verified; protection from
    /// deletion and point in time recovery are turned on in any case.
    ///
    /// # Errors
    /// [`SchemaError`]; the call may be repeated.
    pub async fn create(&self, is_protected: bool) -> Result<CreatedTable, SchemaError> {
        let is_new = match self.describe().await? {
            Some(_) => false,
            None => self.create_table(is_protected).await?,
        };
        let table = self.wait().await?;
        self.require_schema(&table)?;
        if is_protected && table.deletion_protection_enabled != Some(true) {
            let protect =
                self.client.update_table().table_name(&self.table).deletion_protection_enabled(true);
            let outcome = protect.send().await;
            outcome.map_err(|error| refused("protect the table from deletion", error))?;
        }
        Ok(CreatedTable { is_new, has_recovery: self.turn_on_recovery().await? })
    }

    async fn describe(&self) -> Result<Option<TableDescription>, SchemaError> {
        let request = self.client.describe_table().table_name(&self.table);
        match self.sender.attempts().send("DescribeTable", || request.clone().send()).await {
            Ok(answer) => Ok(answer.table),
            Err(error) if error.code() == Some("ResourceNotFoundException") => Ok(None),
            Err(error) => Err(refused("look at the table", error)),
        }
    }

    /// Creates the table; `false` if another process has just created it.
    async fn create_table(&self, is_protected: bool) -> Result<bool, SchemaError> {
        let mut request = self
            .client
            .create_table()
            .table_name(&self.table)
            .billing_mode(BillingMode::PayPerRequest)
            .deletion_protection_enabled(is_protected);
        let built = |error: BuildError| refused("create the table", error);
        for element in key_schema(item::PARTITION, item::SORT).map_err(built)? {
            request = request.key_schema(element);
        }
        for name in attributes() {
            let attribute = AttributeDefinition::builder().attribute_name(name);
            let attribute = attribute.attribute_type(ScalarAttributeType::S).build();
            request = request.attribute_definitions(attribute.map_err(built)?);
        }
        for index in INDEXES {
            let [name, partition, sort] = item::names(index);
            let index = GlobalSecondaryIndex::builder()
                .index_name(name)
                .set_key_schema(Some(key_schema(partition, sort).map_err(built)?))
                .projection(Projection::builder().projection_type(ProjectionType::KeysOnly).build())
                .build();
            request = request.global_secondary_indexes(index.map_err(built)?);
        }
        match request.send().await {
            Ok(_) => Ok(true),
            Err(error) if error.code() == Some("ResourceInUseException") => Ok(false),
            Err(error) => Err(refused("create the table", error)),
        }
    }

    /// Waits until the table and its indexes can be used.
    async fn wait(&self) -> Result<TableDescription, SchemaError> {
        let started = tokio::time::Instant::now();
        while started.elapsed() < MAX_WAIT {
            if let Some(table) = self.describe().await?.filter(is_ready) {
                return Ok(table);
            }
            tokio::time::sleep(POLL).await;
        }
        Err(SchemaError::NotReady(self.table.clone()))
    }

    /// Turns point in time recovery on; `false` if the service does not support it.
    async fn turn_on_recovery(&self) -> Result<bool, SchemaError> {
        let operation = "turn on point in time recovery";
        let wanted = PointInTimeRecoverySpecification::builder().point_in_time_recovery_enabled(true).build();
        let wanted = wanted.map_err(|error| refused(operation, error))?;
        let request = self.client.update_continuous_backups().table_name(&self.table);
        match request.point_in_time_recovery_specification(wanted).send().await {
            Ok(_) => Ok(true),
            Err(error) if error.code() == Some("UnknownOperationException") => Ok(false),
            Err(error) => Err(refused(operation, error)),
        }
    }

    fn require_schema(&self, table: &TableDescription) -> Result<(), SchemaError> {
        let differences = differences(table);
        if differences.is_empty() {
            return Ok(());
        }
        Err(SchemaError::Different { table: self.table.clone(), differences })
    }
}

/// The names of the attributes that are part of a key.
fn attributes() -> impl Iterator<Item = &'static str> {
    let of_indexes = INDEXES.into_iter().map(item::names).flat_map(|[_, partition, sort]| [partition, sort]);
    [item::PARTITION, item::SORT].into_iter().chain(of_indexes)
}

fn key_schema(partition: &str, sort: &str) -> Result<Vec<KeySchemaElement>, BuildError> {
    let element = |name: &str, kind| KeySchemaElement::builder().attribute_name(name).key_type(kind).build();
    Ok(vec![element(partition, KeyType::Hash)?, element(sort, KeyType::Range)?])
}

fn is_ready(table: &TableDescription) -> bool {
    let of_indexes = table.global_secondary_indexes().iter().map(|index| index.index_status.as_ref());
    let mut of_indexes = of_indexes.map(|status| status.map(|status| status.as_str()));
    table.table_status == Some(TableStatus::Active)
        && of_indexes.all(|status| status.is_none_or(|status| status == "ACTIVE"))
}

/// The differences from the schema of [`DynamodbTable::create_table`] that matter.
fn differences(table: &TableDescription) -> Vec<String> {
    let mut differences = Vec::new();
    if !is_key(table.key_schema(), item::PARTITION, item::SORT) {
        differences.push(format!("the key is not {} and {}", item::PARTITION, item::SORT));
    }
    let texts: BTreeSet<&str> = table
        .attribute_definitions()
        .iter()
        .filter(|attribute| attribute.attribute_type == ScalarAttributeType::S)
        .map(|attribute| attribute.attribute_name.as_str())
        .collect();
    let others: Vec<&str> = attributes().filter(|name| !texts.contains(name)).collect();
    if !others.is_empty() {
        differences.push(format!("missing attributes of type S: {}", others.join(", ")));
    }
    for [name, partition, sort] in INDEXES.map(item::names) {
        let found = table.global_secondary_indexes().iter().find(|index| index.index_name() == Some(name));
        let Some(found) = found else {
            differences.push(format!("index {name} is missing"));
            continue;
        };
        if !is_key(found.key_schema(), partition, sort) {
            differences.push(format!("the key of index {name} is not {partition} and {sort}"));
        }
        let projection = found.projection.as_ref().and_then(|projection| projection.projection_type.as_ref());
        if projection != Some(&ProjectionType::KeysOnly) {
            differences.push(format!("index {name} holds more than keys"));
        }
        let status = found.index_status.as_ref().map(|status| status.as_str());
        if status.is_some_and(|status| status != "ACTIVE" && status != "UPDATING") {
            differences.push(format!("index {name} is not ready"));
        }
    }
    differences
}

fn is_key(schema: &[KeySchemaElement], partition: &str, sort: &str) -> bool {
    matches!(schema, [first, second]
        if first.attribute_name == partition && first.key_type == KeyType::Hash
            && second.attribute_name == sort && second.key_type == KeyType::Range)
}

fn refused(operation: &'static str, error: impl std::error::Error) -> SchemaError {
    SchemaError::Service { operation, reason: DisplayErrorContext(error).to_string() }
}
