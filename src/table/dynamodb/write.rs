//! Writes. One write is sent as PutItem or DeleteItem, which costs half of a transaction; several writes, and
//! a conditional deletion and an addition, as TransactWriteItems.
//!
//! A request that is sent twice takes effect once: a transaction by its token, which the service remembers
//! for ten minutes; an unconditional write by its nature; a conditional PutItem by the id of the write, which
//! is stored in the item.

use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::{
    CancellationReason, ConditionCheck, Delete, Put, ReturnConsumedCapacity,
    ReturnValuesOnConditionCheckFailure, TransactWriteItem, Update,
};
use uuid::Uuid;

use crate::table::dynamodb::item::{self, COUNT, PARTITION, VERSION};
use crate::table::dynamodb::sender::failed;
use crate::table::dynamodb::{DynamodbTable, count_consumed_units};
use crate::table::limits;
use crate::table::{Error, Expect, Item, ItemKey, Write};
use crate::telemetry::Units;

const OPERATION: &str = "write the table";

/// The most retries of a transaction that conflicts with another one on an item without a condition. With a
/// condition there is no retry, because the condition will hardly be met after the other transaction.
const MAX_CONFLICTS: u32 = 3;

impl DynamodbTable {
    /// Carries out a transaction.
    pub(super) async fn write(&self, mut writes: Vec<Write>) -> Result<(), Error> {
        limits::check(&writes)?;
        match writes.as_slice() {
            [Write::Put(..)] => {
                let Some(Write::Put(item, expect)) = writes.pop() else { return Ok(()) };
                self.put(item, expect).await
            }
            [Write::Delete(key, Expect::Anything)] => self.delete(key.clone()).await,
            _ => self.write_all(writes).await,
        }
    }

    async fn put(&self, item: Item, expect: Expect) -> Result<(), Error> {
        let mut attributes = item::encode(item);
        let write_id = Uuid::new_v4().to_string();
        let (condition, version) = condition(expect);
        if condition.is_some() {
            item::set_write_id(&mut attributes, &write_id);
        }
        let request = self.client.put_item().table_name(&self.table).set_item(Some(attributes));
        let request = request
            .set_condition_expression(condition)
            .set_expression_attribute_values(version)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .return_consumed_capacity(ReturnConsumedCapacity::Total);
        let mut attempts = self.sender.attempts();
        let error = match attempts.send("PutItem", || request.clone().send()).await {
            Ok(answer) => {
                count_consumed_units("PutItem", Units::Write, answer.consumed_capacity());
                return Ok(());
            }
            Err(error) => error,
        };
        match error.as_service_error() {
            Some(PutItemError::ConditionalCheckFailedException(refusal)) => match &refusal.item {
                // An earlier attempt has written the item.
                Some(found) if item::has_write_id(found, &write_id) => Ok(()),
                _ if attempts.is_unclear => Err(failed(OPERATION, error)),
                _ => Err(Error::Conflict(0)),
            },
            _ => Err(failed(OPERATION, error)),
        }
    }

    async fn delete(&self, key: ItemKey) -> Result<(), Error> {
        let request = self.client.delete_item().table_name(&self.table).set_key(Some(item::encode_key(key)));
        let request = request.return_consumed_capacity(ReturnConsumedCapacity::Total);
        let answer = self.sender.attempts().send("DeleteItem", || request.clone().send()).await;
        let answer = answer.map_err(|error| failed(OPERATION, error))?;
        count_consumed_units("DeleteItem", Units::Write, answer.consumed_capacity());
        Ok(())
    }

    async fn write_all(&self, writes: Vec<Write>) -> Result<(), Error> {
        let (mut items, mut origins) = (Vec::with_capacity(writes.len()), Vec::new());
        for (index, write) in writes.into_iter().enumerate() {
            let expect = write.expect();
            if let Some(write) = self.encode(write)? {
                items.push(write);
                origins.push((index, expect));
            }
        }
        if items.is_empty() {
            return Ok(());
        }
        let request = self.client.transact_write_items().set_transact_items(Some(items));
        let request = request.return_consumed_capacity(ReturnConsumedCapacity::Total);
        let mut attempts = self.sender.attempts();
        let (mut token, mut conflicts) = (Uuid::new_v4().to_string(), 0);
        loop {
            let with_token = request.clone().client_request_token(&token);
            let error = match attempts.send("TransactWriteItems", || with_token.clone().send()).await {
                Ok(answer) => {
                    count_consumed_units("TransactWriteItems", Units::Write, answer.consumed_capacity());
                    return Ok(());
                }
                Err(error) => error,
            };
            let origin = |at: usize| origins.get(at).copied().unwrap_or((at, Expect::Anything));
            match cancellation(&error) {
                Some(Cancellation::ConditionFailed(at)) => return Err(Error::Conflict(origin(at).0)),
                Some(Cancellation::TransactionConflict(at)) => {
                    let (index, expect) = origin(at);
                    conflicts += 1;
                    let is_over = expect != Expect::Anything || conflicts > MAX_CONFLICTS;
                    if is_over || !attempts.retry().await {
                        return Err(Error::Conflict(index));
                    }
                }
                Some(Cancellation::Throttled) if attempts.retry().await => {}
                _ => return Err(failed(OPERATION, error)),
            }
            // This attempt wrote nothing. If an earlier one may have written, only the same token can show
            // that.
            if !attempts.is_unclear {
                token = Uuid::new_v4().to_string();
            }
        }
    }

    /// Encodes a write of a transaction; `None` if the write does nothing.
    fn encode(&self, write: Write) -> Result<Option<TransactWriteItem>, Error> {
        let wrap = TransactWriteItem::builder();
        let wrapped = match write {
            Write::Put(item, expect) => {
                let (condition, version) = condition(expect);
                let put = Put::builder().table_name(&self.table).set_item(Some(item::encode(item)));
                put.set_condition_expression(condition)
                    .set_expression_attribute_values(version)
                    .build()
                    .map(|put| wrap.put(put))
            }
            Write::Delete(key, expect) => {
                let (condition, version) = condition(expect);
                let delete = Delete::builder().table_name(&self.table).set_key(Some(item::encode_key(key)));
                delete
                    .set_condition_expression(condition)
                    .set_expression_attribute_values(version)
                    .build()
                    .map(|delete| wrap.delete(delete))
            }
            Write::Add(key, number, expect) => {
                let (condition, version) = condition(expect);
                let mut values = version.unwrap_or_default();
                values.insert(":number".to_owned(), item::addend(number));
                values.insert(":one".to_owned(), item::number(1));
                let update = Update::builder().table_name(&self.table).set_key(Some(item::encode_key(key)));
                update
                    .update_expression(format!("ADD {COUNT} :number, {VERSION} :one"))
                    .set_condition_expression(condition)
                    .set_expression_attribute_values(Some(values))
                    .build()
                    .map(|update| wrap.update(update))
            }
            Write::Check(_, Expect::Anything) => return Ok(None),
            Write::Check(key, expect) => {
                let (condition, version) = condition(expect);
                let check =
                    ConditionCheck::builder().table_name(&self.table).set_key(Some(item::encode_key(key)));
                check
                    .set_condition_expression(condition)
                    .set_expression_attribute_values(version)
                    .build()
                    .map(|check| wrap.condition_check(check))
            }
        };
        let wrapped =
            wrapped.map_err(|error| Error::Backend { operation: OPERATION, source: error.into() })?;
        Ok(Some(wrapped.build()))
    }
}

/// Encodes an expectation as a condition with its values.
fn condition(expect: Expect) -> (Option<String>, Option<item::ItemAttributes>) {
    match expect {
        Expect::Anything => (None, None),
        Expect::Absent => (Some(format!("attribute_not_exists({PARTITION})")), None),
        Expect::Version(version) => {
            let values = [(":version".to_owned(), item::number(version))];
            (Some(format!("{VERSION} = :version")), Some(values.into()))
        }
    }
}

/// The reason why a transaction was cancelled, with the position of the write in the request, from 0.
enum Cancellation {
    /// The condition of this write was not met.
    ConditionFailed(usize),
    /// Another transaction is writing the item of this write.
    TransactionConflict(usize),
    /// The request was throttled.
    Throttled,
    /// Another reason, which a retry cannot change.
    Other,
}

fn cancellation(error: &SdkError<TransactWriteItemsError>) -> Option<Cancellation> {
    let Some(TransactWriteItemsError::TransactionCanceledException(refusal)) = error.as_service_error()
    else {
        return None;
    };
    let reasons = refusal.cancellation_reasons();
    let first = |code: &str| reasons.iter().position(|reason| reason.code() == Some(code));
    if let Some(at) = first("ConditionalCheckFailed") {
        return Some(Cancellation::ConditionFailed(at));
    }
    let is_final = |reason: &CancellationReason| {
        let code = reason.code().unwrap_or("None");
        !["None", "TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded"].contains(&code)
    };
    if reasons.iter().any(is_final) {
        return Some(Cancellation::Other);
    }
    Some(first("TransactionConflict").map_or(Cancellation::Throttled, Cancellation::TransactionConflict))
}
