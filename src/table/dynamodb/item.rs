//! Items as attributes: `PK`, `SK`, the version `V`, the body `B`, and for each secondary index that the item is in
//! `GSI1PK` and `GSI1SK` to `GSI5PK` and `GSI5SK`. A conditional write of one item adds `W`, which tells it from others.
//!
//! Names of attributes count towards an item's size, which is at most 400 KiB.

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
/// The body, binary; left out if it is empty.
const BODY: &str = "B";
/// Which write wrote the item, if that was conditional and alone; see [`super::write`].
const WRITTEN_BY: &str = "W";

/// The attributes of an item, or of a part of it.
pub(super) type Attributes = HashMap<String, AttributeValue>;

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
pub(super) fn encode_key(key: ItemKey) -> Attributes {
    HashMap::from([
        (PARTITION.to_owned(), AttributeValue::S(key.partition)),
        (SORT.to_owned(), AttributeValue::S(key.sort)),
    ])
}

/// An item as attributes.
pub(super) fn encode(item: Item) -> Attributes {
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

/// Notes in an item which write writes it.
pub(super) fn sign(attributes: &mut Attributes, write: &str) {
    attributes.insert(WRITTEN_BY.to_owned(), AttributeValue::S(write.to_owned()));
}

/// Whether it is this write that wrote the item.
pub(super) fn is_signed(attributes: &Attributes, write: &str) -> bool {
    matches!(attributes.get(WRITTEN_BY), Some(AttributeValue::S(by)) if by == write)
}

/// Reads an item; `None` if the attributes are none.
pub(super) fn decode(mut attributes: Attributes) -> Option<Item> {
    let key = decode_key(&mut attributes)?;
    let version = match attributes.remove(VERSION)? {
        AttributeValue::N(digits) => digits.parse().ok()?,
        _ => return None,
    };
    let body = match attributes.remove(BODY) {
        Some(AttributeValue::B(body)) => body.into_inner(),
        Some(_) => return None,
        None => Vec::new(),
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

/// Takes the primary key out of attributes; `None` if they hold none.
pub(super) fn decode_key(attributes: &mut Attributes) -> Option<ItemKey> {
    Some(ItemKey { partition: text(attributes, PARTITION)?, sort: text(attributes, SORT)? })
}

/// Takes a text out of attributes.
pub(super) fn text(attributes: &mut Attributes, name: &str) -> Option<String> {
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

    /// What DynamoDB allows for an item.
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
            sign(&mut attributes, "write");
            assert!(is_signed(&attributes, "write") && !is_signed(&attributes, "other"));
            assert_eq!(decode(attributes), Some(item));
        }
        assert_eq!(decode(encode_key(largest().key)), None);
    }

    #[test]
    fn the_largest_item_that_the_limits_allow_is_no_larger_than_dynamodb_allows() {
        assert!(limits::check(&[Write::Put(largest(), Expect::Anything)]).is_ok());
        let mut attributes = encode(largest());
        sign(&mut attributes, &"w".repeat(36));
        // A number takes about half a byte a digit, and 2; a byte a digit is more than that.
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
