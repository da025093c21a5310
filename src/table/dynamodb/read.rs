//! Reads of items, one or in batches, consistently; and of ranges of the table and its indexes.

use std::collections::{HashMap, HashSet};
use std::ops::Bound;

use aws_sdk_dynamodb::operation::query::QueryOutput;
use aws_sdk_dynamodb::operation::query::builders::QueryFluentBuilder;
use aws_sdk_dynamodb::types::{AttributeValue, KeysAndAttributes, ReturnConsumedCapacity};
use futures_util::future::try_join_all;

use crate::table::dynamodb::item::{self, ItemAttributes};
use crate::table::dynamodb::sender::failed;
use crate::table::dynamodb::{DynamodbTable, UNREADABLE, count_consumed_units};
use crate::table::limits;
use crate::table::{Error, Item, ItemKey, Page, Range, Secondary, SortKeys};
use crate::telemetry::Units;

/// The most items of one BatchGetItem.
const MAX_BATCH: usize = 100;

/// A page ends when its items' bodies reach this size.
const MAX_PAGE_BYTES: usize = 4 << 20;

const GET: &str = "read items of the table";
const RANGE: &str = "read a range of the table";

impl DynamodbTable {
    /// Reads items in the order of `keys`, in which a key may occur more than once.
    pub(super) async fn read_items(&self, keys: &[ItemKey]) -> Result<Vec<Option<Item>>, Error> {
        let mut seen = HashSet::new();
        // No item has an invalid key.
        let distinct: Vec<&ItemKey> =
            keys.iter().filter(|key| limits::is_key(key) && seen.insert(*key)).collect();
        let found: HashMap<ItemKey, Item> = match distinct.as_slice() {
            [] => HashMap::new(),
            [key] => self.read_item(key).await?.into_iter().map(|item| (item.key.clone(), item)).collect(),
            several => {
                let batches =
                    try_join_all(several.chunks(MAX_BATCH).map(|batch| self.read_batch(batch))).await?;
                batches.into_iter().flatten().map(|item| (item.key.clone(), item)).collect()
            }
        };
        Ok(keys.iter().map(|key| found.get(key).cloned()).collect())
    }

    async fn read_item(&self, key: &ItemKey) -> Result<Option<Item>, Error> {
        let request =
            self.client.get_item().table_name(&self.table).set_key(Some(item::encode_key(key.clone())));
        let request = request.consistent_read(true).return_consumed_capacity(ReturnConsumedCapacity::Total);
        let answer = self.sender.attempts().send("GetItem", || request.clone().send()).await;
        let answer = answer.map_err(|error| failed(GET, error))?;
        count_consumed_units("GetItem", Units::Read, answer.consumed_capacity());
        answer.item.map(|found| item::decode(found).ok_or_else(|| unreadable(GET))).transpose()
    }

    /// Reads the items of at most [`MAX_BATCH`] distinct keys, without those that do not exist.
    async fn read_batch(&self, keys: &[&ItemKey]) -> Result<Vec<Item>, Error> {
        let mut items = Vec::with_capacity(keys.len());
        let mut left: Vec<ItemAttributes> = keys.iter().map(|key| item::encode_key((*key).clone())).collect();
        let mut attempts = self.sender.attempts();
        loop {
            let wanted = KeysAndAttributes::builder().set_keys(Some(left)).consistent_read(true).build();
            let wanted = wanted.map_err(|error| Error::Backend { operation: GET, source: error.into() })?;
            let request = self.client.batch_get_item().request_items(&self.table, wanted);
            let request = request.return_consumed_capacity(ReturnConsumedCapacity::Total);
            let answer = attempts.send("BatchGetItem", || request.clone().send()).await;
            let answer = answer.map_err(|error| failed(GET, error))?;
            count_consumed_units("BatchGetItem", Units::Read, answer.consumed_capacity());
            let found = answer.responses.unwrap_or_default().remove(&self.table).unwrap_or_default();
            let is_throttled = found.is_empty();
            for attributes in found {
                items.push(item::decode(attributes).ok_or_else(|| unreadable(GET))?);
            }
            // An answer ends at 16 MiB, or if the table is throttled.
            left = match answer.unprocessed_keys.unwrap_or_default().remove(&self.table) {
                Some(rest) if !rest.keys.is_empty() => rest.keys,
                _ => return Ok(items),
            };
            if is_throttled && !attempts.retry().await {
                return Err(Error::Backend { operation: GET, source: "the table is throttled".into() });
            }
        }
    }

    /// Reads the first items of a range.
    pub(super) async fn read_range(&self, range: &Range) -> Result<Page, Error> {
        let Some(query) = self.query(range) else { return Ok(Page { items: Vec::new(), has_more: false }) };
        match range.index {
            None => self.read_range_of_table(range, query).await,
            Some(index) => self.read_range_of_index(range, index, query).await,
        }
    }

    async fn read_range_of_table(&self, range: &Range, query: QueryFluentBuilder) -> Result<Page, Error> {
        let query = query.consistent_read(true);
        let mut page = Page { items: Vec::new(), has_more: false };
        let (mut bytes, mut start) = (0, None);
        loop {
            let answer = self.ask(query.clone().set_exclusive_start_key(start)).await?;
            for attributes in answer.items.unwrap_or_default() {
                let item = item::decode(attributes).ok_or_else(|| unreadable(RANGE))?;
                if !is_inside(range, &item.key.sort) {
                    continue;
                }
                if page.items.len() >= range.limit.max(1) {
                    page.has_more = true;
                    return Ok(page);
                }
                bytes += item.body.len();
                page.items.push((item.key.sort.clone(), item));
            }
            start = answer.last_evaluated_key;
            if start.is_none() || bytes >= MAX_PAGE_BYTES {
                page.has_more = start.is_some();
                return Ok(page);
            }
        }
    }

    /// Reads the first sort keys of a range.
    pub(super) async fn read_sort_keys(&self, range: &Range) -> Result<SortKeys, Error> {
        let mut found = SortKeys { keys: Vec::new(), has_more: false };
        let Some(query) = self.query(range) else { return Ok(found) };
        let name = range.index.map_or(item::SORT, |index| item::names(index)[2]);
        // Without an index, the service reads whole items all the same.
        let query = query.projection_expression(name).consistent_read(range.index.is_none());
        let mut start = None;
        loop {
            let answer = self.ask(query.clone().set_exclusive_start_key(start)).await?;
            for mut attributes in answer.items.unwrap_or_default() {
                let sort = item::text(&mut attributes, name).ok_or_else(|| unreadable(RANGE))?;
                if !is_inside(range, &sort) {
                    continue;
                }
                if found.keys.len() >= range.limit.max(1) {
                    found.has_more = true;
                    return Ok(found);
                }
                found.keys.push(sort);
            }
            start = answer.last_evaluated_key;
            if start.is_none() {
                return Ok(found);
            }
        }
    }

    /// Reads keys from the index, which may be out of date, and their items from the table.
    async fn read_range_of_index(
        &self,
        range: &Range,
        index: Secondary,
        query: QueryFluentBuilder,
    ) -> Result<Page, Error> {
        let mut page = Page { items: Vec::new(), has_more: false };
        let (limit, mut bytes, mut start) = (range.limit.max(1), 0, None);
        loop {
            let answer = self.ask(query.clone().set_exclusive_start_key(start)).await?;
            start = answer.last_evaluated_key;
            let mut entries = Vec::new();
            for attributes in answer.items.unwrap_or_default() {
                entries.extend(Some(entry(attributes, index)?).filter(|(sort, _)| is_inside(range, sort)));
            }
            let mut entries = entries.into_iter().peekable();
            while entries.peek().is_some() {
                if page.items.len() >= limit || bytes >= MAX_PAGE_BYTES {
                    page.has_more = true;
                    return Ok(page);
                }
                let room = MAX_BATCH.min(limit - page.items.len());
                let batch: Vec<(String, ItemKey)> = entries.by_ref().take(room).collect();
                for found in self.read_entries(range, index, batch).await? {
                    bytes += found.1.body.len();
                    page.items.push(found);
                }
            }
            if start.is_none() {
                return Ok(page);
            }
        }
    }

    /// Reads the items of entries of an index, without those that are gone or have another key in the index
    /// now.
    async fn read_entries(
        &self,
        range: &Range,
        index: Secondary,
        entries: Vec<(String, ItemKey)>,
    ) -> Result<Vec<(String, Item)>, Error> {
        let (sorts, keys): (Vec<String>, Vec<ItemKey>) = entries.into_iter().unzip();
        let items = self.read_items(&keys).await?;
        let still_has = |item: &Item, sort: &str| {
            let mut keys = item.secondary.iter().filter(|key| key.index == index);
            keys.any(|key| key.partition == range.partition && key.sort == sort)
        };
        let found = sorts.into_iter().zip(items).filter_map(|(sort, item)| Some((sort, item?)));
        Ok(found.filter(|(sort, item)| still_has(item, sort)).collect())
    }

    async fn ask(&self, query: QueryFluentBuilder) -> Result<QueryOutput, Error> {
        let answer = self.sender.attempts().send("Query", || query.clone().send()).await;
        let answer = answer.map_err(|error| failed(RANGE, error))?;
        count_consumed_units("Query", Units::Read, answer.consumed_capacity());
        Ok(answer)
    }

    /// The request for a range; `None` if no key can lie within the bounds. With two bounds, the request
    /// includes both ends, as DynamoDB has no other condition; an excluded end is dropped from the answer.
    fn query(&self, range: &Range) -> Option<QueryFluentBuilder> {
        let [index, partition, sort] = match range.index {
            None => [None, Some(item::PARTITION), Some(item::SORT)],
            Some(index) => item::names(index).map(Some),
        };
        let (partition, sort) = (partition?, sort?);
        let SortKeyCondition { expression, values, ends } = bounds(range, sort)?;
        let limit = range.limit.clamp(1, i32::MAX as usize - 3) + ends + 1;
        let mut query = self.client.query().table_name(&self.table).set_index_name(index.map(str::to_owned));
        query = query
            .key_condition_expression(format!("{partition} = :partition{expression}"))
            .expression_attribute_values(":partition", AttributeValue::S(range.partition.clone()));
        for (name, value) in values {
            query = query.expression_attribute_values(name, AttributeValue::S(value));
        }
        query = query.scan_index_forward(!range.is_descending).limit(i32::try_from(limit).ok()?);
        Some(query.return_consumed_capacity(ReturnConsumedCapacity::Total))
    }
}

/// A condition on the sort key.
struct SortKeyCondition {
    /// The rest of the expression, after the partition.
    expression: String,
    values: Vec<(&'static str, String)>,
    /// The number of ends that the condition includes and the range excludes.
    ends: usize,
}

/// The bounds of a range as a condition; `None` if no key can lie within them.
fn bounds(range: &Range, sort: &str) -> Option<SortKeyCondition> {
    // No sort key is empty, and the service refuses an empty bound: a lower one includes all, an upper one
    // nothing.
    let from = match &range.from {
        Bound::Included(from) | Bound::Excluded(from) if from.is_empty() => &Bound::Unbounded,
        from => from,
    };
    let is_key = |partition: &str| limits::is_key(&ItemKey { partition: partition.into(), sort: "-".into() });
    if !is_key(&range.partition) {
        return None;
    }
    let compare = |operator: &str, name: &'static str, value: &String| SortKeyCondition {
        expression: format!(" AND {sort} {operator} {name}"),
        values: vec![(name, value.clone())],
        ends: 0,
    };
    Some(match (from, &range.to) {
        (_, Bound::Included(to) | Bound::Excluded(to)) if to.is_empty() => return None,
        (Bound::Unbounded, Bound::Unbounded) => {
            SortKeyCondition { expression: String::new(), values: Vec::new(), ends: 0 }
        }
        (Bound::Included(from), Bound::Unbounded) => compare(">=", ":from", from),
        (Bound::Excluded(from), Bound::Unbounded) => compare(">", ":from", from),
        (Bound::Unbounded, Bound::Included(to)) => compare("<=", ":to", to),
        (Bound::Unbounded, Bound::Excluded(to)) => compare("<", ":to", to),
        (Bound::Included(low) | Bound::Excluded(low), Bound::Included(high) | Bound::Excluded(high)) => {
            let is_excluded = |bound: &Bound<String>| usize::from(matches!(bound, Bound::Excluded(_)));
            let ends = is_excluded(from) + is_excluded(&range.to);
            if low > high || (low == high && ends > 0) {
                return None;
            }
            SortKeyCondition {
                expression: format!(" AND {sort} BETWEEN :from AND :to"),
                values: vec![(":from", low.clone()), (":to", high.clone())],
                ends,
            }
        }
    })
}

/// Whether a sort key is none of the ends that the range excludes.
fn is_inside(range: &Range, sort: &str) -> bool {
    let is_end = |bound: &Bound<String>| matches!(bound, Bound::Excluded(end) if end == sort);
    !is_end(&range.from) && !is_end(&range.to)
}

/// An entry of an index: the sort key in it, and the key of the item.
fn entry(mut attributes: ItemAttributes, index: Secondary) -> Result<(String, ItemKey), Error> {
    let [_, _, sort] = item::names(index);
    let sort = item::text(&mut attributes, sort);
    sort.zip(item::decode_key(&mut attributes)).ok_or_else(|| unreadable(RANGE))
}

fn unreadable(operation: &'static str) -> Error {
    Error::Backend { operation, source: UNREADABLE.into() }
}
