//! Encoding of records as rows.
//!
//! The record of an instance has one of three forms (docs/decisions/0114). It is whole in the instance's own
//! row; or, if it is too large for a row, it begins there and has continuation rows; or it is separate: its
//! parts have rows in the partition of the instance's location, and the own row only names them.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::dicom::uid::{SeriesUid, StudyUid};
use crate::index::records::InstanceRecord;
use crate::index::{Error, keys};
use crate::table::{Item, ItemKey, MAX_WRITES, Table};

/// The maximum bytes of a record in one row; tables limit the size of rows
/// ([`crate::table::MAX_BODY_BYTES`]).
const MAX_PART_BYTES: usize = 300 * 1024;
/// The first byte of an instance's row that contains the whole record.
const WHOLE: u8 = 0;
/// The first byte of an instance's row with continuation rows. A [`Continuation`] in MessagePack follows,
/// then the first part of the record.
const CONTINUED: u8 = 1;
/// The first byte of an instance's row whose record is separate. A [`SeparateRecord`] in MessagePack follows.
const SEPARATE: u8 = 2;

/// The continuation rows of a record.
#[derive(Debug, Serialize, Deserialize)]
struct Continuation {
    /// The name of the stored object; it makes the keys of the rows different from those of every other
    /// upload.
    object: String,
    /// The number of rows.
    rows: usize,
}

/// The rows of a separate record.
#[derive(Debug, Serialize, Deserialize)]
struct SeparateRecord {
    /// The name of the stored object, as in [`Continuation`].
    object: String,
    /// The number of rows.
    rows: usize,
    /// The bytes of the record.
    length: usize,
}

/// The study and series of an instance, and its stored object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceLocation {
    /// The study of the instance.
    pub study: StudyUid,
    /// The series of the instance.
    pub series: SeriesUid,
    /// SHA-256 of the stored object, in lower case hexadecimal.
    pub digest: String,
    /// The name of the stored object (see [`InstanceRecord::object`]).
    pub object: String,
    /// The number of rows of the record if it is separate, otherwise 0.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub parts: usize,
}

fn is_zero(number: &usize) -> bool {
    *number == 0
}

/// Encodes a record in MessagePack.
pub(crate) fn encode<T: Serialize>(key: &ItemKey, record: &T) -> Result<Vec<u8>, Error> {
    rmp_serde::to_vec_named(record).map_err(|source| record_error(key, source))
}

/// Decodes a record. Fields that `T` does not have are ignored.
pub(crate) fn decode<'a, T: Deserialize<'a>>(key: &ItemKey, body: &'a [u8]) -> Result<T, Error> {
    rmp_serde::from_slice(body).map_err(|source| record_error(key, source))
}

/// Makes the error for a record that cannot be encoded or decoded.
pub(crate) fn record_error(
    key: &ItemKey,
    source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> Error {
    Error::Record { what: format!("{} {}", key.partition, key.sort), source: source.into() }
}

/// The record of an instance as rows.
pub(crate) struct InstanceRows {
    /// The instance's own row.
    pub(crate) own: Item,
    /// The continuation rows, or the parts of a separate record.
    pub(crate) others: Vec<Item>,
    /// As [`InstanceLocation::parts`].
    pub(crate) parts: usize,
}

impl InstanceRows {
    /// The bytes of all rows.
    pub(crate) fn size_bytes(&self) -> usize {
        self.own.body.len() + self.others.iter().map(|row| row.body.len()).sum::<usize>()
    }
}

/// Encodes the record of an instance as rows, separate from the own row or not.
pub(crate) fn encode_instance(
    key: ItemKey,
    record: &InstanceRecord,
    is_separate: bool,
) -> Result<InstanceRows, Error> {
    let bytes = encode(&key, record)?;
    let object = &record.object;
    let mut parts = bytes.chunks(MAX_PART_BYTES);
    let mut body = Vec::new();
    if is_separate {
        let separate = SeparateRecord { object: object.clone(), rows: parts.len(), length: bytes.len() };
        body.push(SEPARATE);
        body.extend(encode(&key, &separate)?);
    } else {
        let first = parts.next().unwrap_or_default();
        body.reserve(first.len() + 128);
        match parts.len() {
            0 => body.push(WHOLE),
            rows => {
                body.push(CONTINUED);
                body.extend(encode(&key, &Continuation { object: object.clone(), rows })?);
            }
        }
        body.extend_from_slice(first);
    }
    let key_of = if is_separate { keys::record_part } else { keys::continuation };
    let row = |key, body| Item { key, version: 1, secondary: Vec::new(), body };
    let others = parts.zip(1..).map(|(part, number)| row(key_of(&key, object, number), part.to_vec()));
    let others: Vec<Item> = others.collect();
    let parts = if is_separate { others.len() } else { 0 };
    Ok(InstanceRows { own: row(key, body), others, parts })
}

/// The keys of all rows of an instance's record besides its own row.
pub(crate) fn other_keys(item: &Item) -> Result<Vec<ItemKey>, Error> {
    Ok(StoredRecord::read(item)?.others)
}

/// The bytes of an instance's record, or an upper estimate.
pub(crate) fn record_bytes(item: &Item) -> usize {
    // The read of the record reports a row that cannot be read.
    StoredRecord::read(item).map_or(item.body.len(), |record| record.max_bytes)
}

/// Reads the whole record of an instance whose row is `item`, as bytes. `None` if the record was replaced or
/// removed after that row was read.
pub(crate) async fn read_bytes(table: &dyn Table, item: Item) -> Result<Option<Vec<u8>>, Error> {
    read_all(table, vec![item]).await?.pop().unwrap_or(Ok(None))
}

/// Reads the whole records of instances, as [`read_bytes`] does, with one request for the rows of all. The
/// error of a row that cannot be read is in the place of its record.
pub(crate) async fn read_all(
    table: &dyn Table,
    items: Vec<Item>,
) -> Result<Vec<Result<Option<Vec<u8>>, Error>>, Error> {
    let records: Vec<_> = items.iter().map(StoredRecord::read).collect();
    let wanted: Vec<ItemKey> = records.iter().flatten().flat_map(|record| record.others.clone()).collect();
    let mut found = HashMap::new();
    if !wanted.is_empty() {
        found.extend(table.get(&wanted).await?.into_iter().flatten().map(|row| (row.key, row.body)));
    }
    let mut all = Vec::with_capacity(items.len());
    for (record, item) in records.into_iter().zip(items) {
        all.push(record.map(|StoredRecord { first, others, .. }| {
            let mut bytes = item.body;
            bytes.drain(..first);
            for key in &others {
                bytes.extend(found.remove(key)?);
            }
            Some(bytes)
        }));
    }
    Ok(all)
}

/// The places of an instance's record, as its own row names them.
struct StoredRecord {
    /// The index in the own row's body of the first byte of the record; the length of the body if the record
    /// is separate.
    first: usize,
    /// The keys of the other rows.
    others: Vec<ItemKey>,
    /// The bytes of the record, or an upper estimate.
    max_bytes: usize,
}

impl StoredRecord {
    fn read(item: &Item) -> Result<Self, Error> {
        let (key, length) = (&item.key, item.body.len());
        match item.body.split_first() {
            Some((&WHOLE, rest)) => Ok(Self { first: 1, others: Vec::new(), max_bytes: rest.len() }),
            Some((&CONTINUED, rest)) => {
                let (Continuation { object, rows }, left) = decode_head(key, rest)?;
                let others = keys_of(rows, |number| keys::continuation(key, &object, number));
                let max_bytes = left + others.len() * MAX_PART_BYTES;
                Ok(Self { first: length - left, others, max_bytes })
            }
            Some((&SEPARATE, rest)) => {
                let (separate, _) = decode_head::<SeparateRecord>(key, rest)?;
                let part = |number| keys::record_part(key, &separate.object, number);
                Ok(Self { first: length, others: keys_of(separate.rows, part), max_bytes: separate.length })
            }
            _ => Err(record_error(key, "the row has an unknown first byte")),
        }
    }
}

/// Decodes a value at the start of bytes, and returns the number of bytes after it.
fn decode_head<'a, T: Deserialize<'a>>(key: &ItemKey, bytes: &'a [u8]) -> Result<(T, usize), Error> {
    let mut after = bytes;
    let value = T::deserialize(&mut rmp_serde::Deserializer::new(&mut after));
    value.map(|value| (value, after.len())).map_err(|source| record_error(key, source))
}

/// The keys of rows 1 to `rows`. The bound protects against damaged rows: one transaction writes no more.
fn keys_of(rows: usize, key: impl Fn(usize) -> ItemKey) -> Vec<ItemKey> {
    (1..=rows.min(MAX_WRITES)).map(key).collect()
}
