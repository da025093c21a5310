//! Reads, each in one read transaction of the engine.

use std::ops::Bound;

use redb::{Database, ReadableDatabase};

use crate::table::redb::{ITEMS, codec, definition, tree};
use crate::table::{Item, ItemKey, Page, Range, SortKeys};

/// A page ends when its items' bodies reach this size.
const MAX_PAGE_BYTES: usize = 4 * 1024 * 1024;

pub(super) fn get(database: &Database, keys: Vec<ItemKey>) -> Result<Vec<Option<Item>>, redb::Error> {
    let items = tree(database, ITEMS)?;
    let mut found = Vec::with_capacity(keys.len());
    for key in keys {
        let value = items.get(codec::key(&key.partition, &key.sort).as_slice())?;
        let item = value.map(|value| codec::decode(key, value.value()).ok_or_else(corrupted));
        found.push(item.transpose()?);
    }
    Ok(found)
}

pub(super) fn range(database: &Database, range: &Range) -> Result<Page, redb::Error> {
    let mut page = Page { items: Vec::new(), has_more: false };
    let Some(bounds) = bounds(range) else { return Ok(page) };
    let transaction = database.begin_read()?;
    let items = transaction.open_table(ITEMS)?;
    let secondary = range.index.map(|index| transaction.open_table(definition(index))).transpose()?;
    let (from, to) = &bounds;
    let bounds = (from.as_ref().map(Vec::as_slice), to.as_ref().map(Vec::as_slice));
    let mut entries = secondary.as_ref().unwrap_or(&items).range::<&[u8]>(bounds)?;
    let mut bytes = 0;
    loop {
        let entry = if range.is_descending { entries.next_back() } else { entries.next() };
        let Some(entry) = entry else { return Ok(page) };
        let (key, value) = entry?;
        if page.items.len() >= range.limit.max(1) || bytes >= MAX_PAGE_BYTES {
            page.has_more = true;
            return Ok(page);
        }
        let key = codec::split_key(key.value()).ok_or_else(corrupted)?;
        let (sort, item) = if secondary.is_some() {
            let primary = value.value();
            let item = items.get(primary)?.ok_or_else(corrupted)?;
            let primary = codec::split_key(primary).ok_or_else(corrupted)?;
            (key.sort, codec::decode(primary, item.value()))
        } else {
            (key.sort.clone(), codec::decode(key, value.value()))
        };
        let item = item.ok_or_else(corrupted)?;
        bytes += item.body.len();
        page.items.push((sort, item));
    }
}

pub(super) fn sort_keys(database: &Database, range: &Range) -> Result<SortKeys, redb::Error> {
    let mut found = SortKeys { keys: Vec::new(), has_more: false };
    let Some((from, to)) = bounds(range) else { return Ok(found) };
    let table = database.begin_read()?.open_table(range.index.map_or(ITEMS, definition))?;
    let bounds = (from.as_ref().map(Vec::as_slice), to.as_ref().map(Vec::as_slice));
    let mut entries = table.range::<&[u8]>(bounds)?;
    while let Some(entry) = if range.is_descending { entries.next_back() } else { entries.next() } {
        if found.keys.len() >= range.limit.max(1) {
            found.has_more = true;
            break;
        }
        let (key, _) = entry?;
        found.keys.push(codec::sort_key(key.value()).ok_or_else(corrupted)?.to_owned());
    }
    Ok(found)
}

type KeyBounds = (Bound<Vec<u8>>, Bound<Vec<u8>>);

/// The bounds as keys; `None` if no key can lie between them.
fn bounds(range: &Range) -> Option<KeyBounds> {
    let key = |sort: &String| codec::key(&range.partition, sort);
    let from = match range.from.as_ref().map(key) {
        Bound::Unbounded => Bound::Excluded(codec::key(&range.partition, "")),
        from => from,
    };
    let to = match range.to.as_ref().map(key) {
        Bound::Unbounded => {
            let mut end = range.partition.clone().into_bytes();
            end.push(1);
            Bound::Excluded(end)
        }
        to => to,
    };
    let is_empty = match (&from, &to) {
        (Bound::Included(from), Bound::Included(to)) => from > to,
        (Bound::Included(from) | Bound::Excluded(from), Bound::Included(to) | Bound::Excluded(to)) => {
            from >= to
        }
        (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
    };
    (!is_empty).then_some((from, to))
}

pub(super) fn corrupted() -> redb::Error {
    redb::Error::Corrupted("an item or a key cannot be decoded".into())
}
