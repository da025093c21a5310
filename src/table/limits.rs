//! The limits of the contract, which every engine checks first. To exceed one is an error in the program:
//! [`Error::Backend`].

use std::collections::HashSet;

use crate::table::{Error, Item, ItemKey, MAX_BODY_BYTES, MAX_TRANSACTION_BYTES, MAX_WRITES, Write};

/// The longest partition key.
pub(super) const MAX_PARTITION_BYTES: usize = 2048;

/// The longest sort key.
pub(super) const MAX_SORT_BYTES: usize = 1024;

/// Checks a transaction.
///
/// # Errors
/// [`Error::Backend`] if the transaction exceeds a limit.
pub(super) fn check(writes: &[Write]) -> Result<(), Error> {
    if writes.len() > MAX_WRITES {
        return Err(refused("a transaction has too many writes"));
    }
    let (mut keys, mut bytes) = (HashSet::new(), 0);
    for write in writes {
        let key = match write {
            Write::Put(item, _) => {
                check_item(item)?;
                bytes += size_bytes(item);
                &item.key
            }
            Write::Delete(key, _) | Write::Check(key, _) | Write::Add(key, ..) => key,
        };
        check_key(&key.partition, &key.sort)?;
        if !keys.insert(key) {
            return Err(refused("a transaction writes a key twice"));
        }
    }
    if bytes > MAX_TRANSACTION_BYTES {
        return Err(refused("a transaction is too large"));
    }
    Ok(())
}

/// Bytes of an item's keys and body.
fn size_bytes(item: &Item) -> usize {
    let secondary: usize = item.secondary.iter().map(|key| key.partition.len() + key.sort.len()).sum();
    item.key.partition.len() + item.key.sort.len() + secondary + item.body.len()
}

/// Whether an item can have this key.
pub(super) fn is_key(key: &ItemKey) -> bool {
    check_key(&key.partition, &key.sort).is_ok()
}

fn check_item(item: &Item) -> Result<(), Error> {
    if item.body.len() > MAX_BODY_BYTES {
        return Err(refused("an item is too large"));
    }
    let mut indexes = HashSet::new();
    for key in &item.secondary {
        check_key(&key.partition, &key.sort)?;
        if !indexes.insert(key.index) {
            return Err(refused("an item has two keys in one index"));
        }
    }
    Ok(())
}

fn check_key(partition: &str, sort: &str) -> Result<(), Error> {
    let is_wrong = |part: &str, most: usize| part.is_empty() || part.len() > most || part.contains('\0');
    if is_wrong(partition, MAX_PARTITION_BYTES) || is_wrong(sort, MAX_SORT_BYTES) {
        return Err(refused("a key is empty, too long, or holds a NUL"));
    }
    Ok(())
}

fn refused(reason: &'static str) -> Error {
    Error::Backend { operation: "write the table", source: reason.into() }
}
