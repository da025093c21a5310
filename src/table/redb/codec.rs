//! The encoding of keys and items as bytes.
//!
//! A key is `partition NUL sort`. Neither part holds a NUL, so that keys have the order of their parts. An
//! item is its version (8 bytes), the number of its secondary keys (1), each as its index (1), the length of
//! its key (2) and the key, and then the body. Numbers are little-endian.

use crate::table::{Error, Expect, INDEXES, Item, ItemKey, Secondary, SecondaryKey, Write, limits};

/// A write as the engine needs it.
#[derive(Debug)]
pub(super) struct EncodedWrite {
    pub(super) key: Vec<u8>,
    pub(super) expect: Expect,
    pub(super) action: WriteAction,
}

/// The action of a write whose condition is met.
#[derive(Debug)]
pub(super) enum WriteAction {
    Put(Vec<u8>),
    Delete,
    Check,
    /// Adds a number to a counter.
    Add(i64),
}

/// Encodes a transaction.
///
/// # Errors
/// [`Error::Backend`] if the transaction exceeds a limit of the contract, which is an error in the program.
pub(super) fn encode(writes: Vec<Write>) -> Result<Vec<EncodedWrite>, Error> {
    limits::check(&writes)?;
    Ok(writes.into_iter().map(encode_write).collect())
}

fn encode_write(write: Write) -> EncodedWrite {
    let (key, expect, action) = match write {
        Write::Put(item, expect) => {
            let value = encode_item(&item);
            (item.key, expect, WriteAction::Put(value))
        }
        Write::Delete(key, expect) => (key, expect, WriteAction::Delete),
        Write::Check(key, expect) => (key, expect, WriteAction::Check),
        Write::Add(key, number, expect) => (key, expect, WriteAction::Add(number)),
    };
    EncodedWrite { key: self::key(&key.partition, &key.sort), expect, action }
}

fn encode_item(item: &Item) -> Vec<u8> {
    let mut value = Vec::with_capacity(64 + item.body.len());
    value.extend_from_slice(&item.version.to_le_bytes());
    value.push(item.secondary.len() as u8);
    for secondary in &item.secondary {
        let key = key(&secondary.partition, &secondary.sort);
        value.push(secondary.index as u8);
        value.extend_from_slice(&(key.len() as u16).to_le_bytes());
        value.extend_from_slice(&key);
    }
    value.extend_from_slice(&item.body);
    value
}

/// The bytes of a key.
pub(super) fn key(partition: &str, sort: &str) -> Vec<u8> {
    let mut key = Vec::with_capacity(partition.len() + 1 + sort.len());
    key.extend_from_slice(partition.as_bytes());
    key.push(0);
    key.extend_from_slice(sort.as_bytes());
    key
}

/// The encoded counter after an addition to `old`, an encoded counter or nothing. `None` if `old` is another
/// item.
pub(super) fn add(old: Option<&[u8]>, number: i64) -> Option<Vec<u8>> {
    let (version, count) = match old {
        None => (0, 0),
        Some(old) => {
            let keys = SecondaryKeys::of(old).filter(|keys| keys.left == 0)?;
            (version(old)?, i64::from_le_bytes(keys.rest.try_into().ok()?))
        }
    };
    let mut value = Vec::with_capacity(17);
    value.extend_from_slice(&version.wrapping_add(1).to_le_bytes());
    value.push(0);
    value.extend_from_slice(&count.saturating_add(number).to_le_bytes());
    Some(value)
}

/// The sort key of an encoded key; `None` if the bytes are no key.
pub(super) fn sort_key(key: &[u8]) -> Option<&str> {
    std::str::from_utf8(key).ok()?.split_once('\0').map(|(_, sort)| sort)
}

/// The version of an encoded item; `None` if the bytes are too short.
pub(super) fn version(value: &[u8]) -> Option<u64> {
    value.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
}

/// The secondary keys of an encoded item, then the rest of the item. A key that cannot be decoded is `None`.
pub(super) struct SecondaryKeys<'a> {
    left: u8,
    pub(super) rest: &'a [u8],
}

impl<'a> SecondaryKeys<'a> {
    pub(super) fn of(value: &'a [u8]) -> Option<Self> {
        let (left, rest) = value.get(8..)?.split_first()?;
        Some(Self { left: *left, rest })
    }
}

impl<'a> Iterator for SecondaryKeys<'a> {
    type Item = Option<(Secondary, &'a [u8])>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let split = split_secondary(self.rest);
        if let Some((_, _, rest)) = split {
            self.rest = rest;
        }
        Some(split.map(|(index, key, _)| (index, key)))
    }
}

fn split_secondary(bytes: &[u8]) -> Option<(Secondary, &[u8], &[u8])> {
    let ([index, low, high], rest) = bytes.split_first_chunk()?;
    let (key, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes([*low, *high])))?;
    let index = INDEXES.iter().find(|known| **known as u8 == *index)?;
    Some((*index, key, rest))
}

/// Decodes an item; `None` if the bytes are no item.
pub(super) fn decode(key: ItemKey, value: &[u8]) -> Option<Item> {
    let version = version(value)?;
    let mut keys = SecondaryKeys::of(value)?;
    let mut secondary = Vec::with_capacity(usize::from(keys.left).min(INDEXES.len()));
    for found in &mut keys {
        let (index, key) = found?;
        let ItemKey { partition, sort } = split_key(key)?;
        secondary.push(SecondaryKey { index, partition, sort });
    }
    Some(Item { key, version, secondary, body: keys.rest.to_vec() })
}

/// The parts of a key; `None` if the bytes are no key.
pub(super) fn split_key(key: &[u8]) -> Option<ItemKey> {
    let (partition, sort) = std::str::from_utf8(key).ok()?.split_once('\0')?;
    Some(ItemKey { partition: partition.into(), sort: sort.into() })
}
