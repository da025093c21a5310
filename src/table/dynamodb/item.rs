//! Items as attributes: `PK`, `SK`, the version `V`, the body `B`, and for each secondary index of the item
//! `GSI1PK` and `GSI1SK` to `GSI5PK` and `GSI5SK`. A counter has the number `C` in place of the body. A
//! conditional write of one item adds `W`, the id of the write.
//!
//! The names of attributes count towards the size of an item, which is at most 400 KiB.

use std::collections::HashMap;

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;

use crate::table::{INDEXES, Item, ItemKey, Secondary, SecondaryKey};

/// The partition key.
pub(super) const PARTITION: &str = "PK";
/// The sort key.
pub(super) const SORT: &str = "SK";
/// The version, a number.
pub(super) const VERSION: &str = "V";
/// The body, binary; left out if the body is empty.
const BODY: &str = "B";
/// The number of a counter.
pub(super) const COUNT: &str = "C";
/// The id of the write, if that was conditional and not part of a transaction; see [`super::write`].
const WRITE_ID: &str = "W";

/// The attributes of an item, or of a part of it.
pub(super) type ItemAttributes = HashMap<String, AttributeValue>;

/// An index's name, and those of its partition and sort key.
pub(super) fn names(index: Secondary) -> [&'static str; 3] {
    match index {
        Secondary::First => ["GSI1", "GSI1PK", "GSI1SK"],
        Secondary::Second => ["GSI2", "GSI2PK", "GSI2SK"],
        Secondary::Third => ["GSI3", "GSI3PK", "GSI3SK"],
        Secondary::Fourth => ["GSI4", "GSI4PK", "GSI4SK"],
        Secondary::Fifth => ["GSI5", "GSI5PK", "GSI5SK"],
    }
}

/// A primary key as attributes.
pub(super) fn encode_key(key: ItemKey) -> ItemAttributes {
    HashMap::from([
        (PARTITION.to_owned(), AttributeValue::S(key.partition)),
        (SORT.to_owned(), AttributeValue::S(key.sort)),
    ])
}

/// An item as attributes.
pub(super) fn encode(item: Item) -> ItemAttributes {
    let mut attributes = encode_key(item.key);
    attributes.insert(VERSION.to_owned(), number(item.version));
    if !item.body.is_empty() {
        attributes.insert(BODY.to_owned(), AttributeValue::B(Blob::new(item.body)));
    }
    for secondary in item.secondary {
        let [_, partition, sort] = names(secondary.index);
        attributes.insert(partition.to_owned(), AttributeValue::S(secondary.partition));
        attributes.insert(sort.to_owned(), AttributeValue::S(secondary.sort));
    }
    attributes
}

/// A version as an attribute.
pub(super) fn number(version: u64) -> AttributeValue {
    AttributeValue::N(version.to_string())
}

/// The number that is added to a counter as an attribute.
pub(super) fn addend(number: i64) -> AttributeValue {
    AttributeValue::N(number.to_string())
}

/// Sets the id of the write in an item.
pub(super) fn set_write_id(attributes: &mut ItemAttributes, write: &str) {
    attributes.insert(WRITE_ID.to_owned(), AttributeValue::S(write.to_owned()));
}

/// Whether the item was written by this write.
pub(super) fn has_write_id(attributes: &ItemAttributes, write: &str) -> bool {
    matches!(attributes.get(WRITE_ID), Some(AttributeValue::S(by)) if by == write)
}

/// Decodes an item; `None` if the attributes are not those of an item.
pub(super) fn decode(mut attributes: ItemAttributes) -> Option<Item> {
    let key = decode_key(&mut attributes)?;
    let version = match attributes.remove(VERSION)? {
        AttributeValue::N(digits) => digits.parse().ok()?,
        _ => return None,
    };
    let body = match attributes.remove(BODY) {
        Some(AttributeValue::B(body)) => body.into_inner(),
        Some(_) => return None,
        None => match attributes.remove(COUNT) {
            Some(AttributeValue::N(digits)) => digits.parse::<i64>().ok()?.to_le_bytes().to_vec(),
            Some(_) => return None,
            None => Vec::new(),
        },
    };
    let mut secondary = Vec::new();
    for index in INDEXES {
        let [_, partition, sort] = names(index);
        if let Some(partition) = text(&mut attributes, partition) {
            secondary.push(SecondaryKey { index, partition, sort: text(&mut attributes, sort)? });
        }
    }
    Some(Item { key, version, secondary, body })
}

/// Removes the primary key from attributes; `None` if the attributes hold none.
pub(super) fn decode_key(attributes: &mut ItemAttributes) -> Option<ItemKey> {
    Some(ItemKey { partition: text(attributes, PARTITION)?, sort: text(attributes, SORT)? })
}

/// Removes a text from attributes; `None` if the attributes hold none of that name.
pub(super) fn text(attributes: &mut ItemAttributes, name: &str) -> Option<String> {
    match attributes.remove(name)? {
        AttributeValue::S(text) => Some(text),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::limits::{MAX_PARTITION_BYTES, MAX_SORT_BYTES};
    use crate::table::{Expect, MAX_BODY_BYTES, Write, limits};

    /// The largest item that DynamoDB allows.
    const MAX_ITEM_BYTES: usize = 400 * 1024;

    fn largest() -> Item {
        let (partition, sort) = ("p".repeat(MAX_PARTITION_BYTES), "s".repeat(MAX_SORT_BYTES));
        let secondary =
            INDEXES.map(|index| SecondaryKey { index, partition: partition.clone(), sort: sort.clone() });
        let key = ItemKey { partition, sort };
        Item { key, version: u64::MAX, secondary: secondary.to_vec(), body: vec![0; MAX_BODY_BYTES] }
    }

    #[test]
    fn an_item_is_read_back_as_it_was() {
        let small = Item { body: Vec::new(), secondary: Vec::new(), version: 0, ..largest() };
        for item in [largest(), small] {
            let mut attributes = encode(item.clone());
            set_write_id(&mut attributes, "write");
            assert!(has_write_id(&attributes, "write") && !has_write_id(&attributes, "other"));
            assert_eq!(decode(attributes), Some(item));
        }
        assert_eq!(decode(encode_key(largest().key)), None);
    }

    #[test]
    fn the_largest_item_that_the_limits_allow_is_no_larger_than_dynamodb_allows() {
        assert!(limits::check(&[Write::Put(largest(), Expect::Anything)]).is_ok());
        let mut attributes = encode(largest());
        set_write_id(&mut attributes, &"w".repeat(36));
        // A number takes about half a byte for a digit, and 2 bytes; a whole byte for each digit is an upper
        // bound.
        let size = |(name, value): (&String, &AttributeValue)| {
            let of_value = match value {
                AttributeValue::S(text) => text.len(),
                AttributeValue::N(digits) => digits.len() + 2,
                AttributeValue::B(body) => body.as_ref().len(),
                _ => 0,
            };
            name.len() + of_value
        };
        let size: usize = attributes.iter().map(size).sum();
        assert!(size > MAX_BODY_BYTES && size <= MAX_ITEM_BYTES, "{size}");
    }
}
