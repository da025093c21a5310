//! Encoding of records as rows. A record too large for one row has continuation rows.

use serde::{Deserialize, Serialize};

use crate::dicom::uid::{SeriesUid, StudyUid};
use crate::digest::ObjectDigest;
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

/// The continuation rows of a record.
#[derive(Debug, Serialize, Deserialize)]
struct Continuation {
    /// The name of the stored object; it makes the keys of the rows different from those of every other
    /// upload.
    object: String,
    /// The number of rows.
    rows: usize,
}

/// The study and series of an instance, and its stored object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceLocation {
    /// The study of the instance.
    pub study: StudyUid,
    /// The series of the instance.
    pub series: SeriesUid,
    /// The digest of the stored object.
    pub digest: ObjectDigest,
    /// The name of the stored object (see [`InstanceRecord::object`]).
    pub object: String,
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

/// Encodes the record of an instance as rows: the instance's own row first, then the continuation rows.
pub(crate) fn encode_instance(key: ItemKey, record: &InstanceRecord) -> Result<Vec<Item>, Error> {
    let bytes = encode(&key, record)?;
    let mut parts = bytes.chunks(MAX_PART_BYTES);
    let first = parts.next().unwrap_or_default();
    let rows = parts.len();
    let mut body = Vec::with_capacity(first.len() + 128);
    if rows == 0 {
        body.push(WHOLE);
    } else {
        body.push(CONTINUED);
        body.extend(encode(&key, &Continuation { object: record.object.clone(), rows })?);
    }
    body.extend_from_slice(first);
    let mut items = Vec::with_capacity(1 + rows);
    for (part, number) in parts.zip(1..) {
        let key = keys::continuation(&key, &record.object, number);
        items.push(Item { key, version: 1, secondary: Vec::new(), body: part.to_vec() });
    }
    items.insert(0, Item { key, version: 1, secondary: Vec::new(), body });
    Ok(items)
}

/// The keys of the continuation rows of an instance's row.
pub(crate) fn continuation_keys(item: &Item) -> Result<Vec<ItemKey>, Error> {
    Ok(match continuation(item)? {
        None => Vec::new(),
        Some((continuation, _)) => keys_of(&item.key, &continuation),
    })
}

/// Reads the whole record of an instance whose row is `item`, as bytes. `None` if the record was replaced or
/// removed after that row was read.
pub(crate) async fn read_bytes(table: &dyn Table, item: Item) -> Result<Option<Vec<u8>>, Error> {
    let Some((continuation, first)) = continuation(&item)? else {
        let mut body = item.body;
        body.drain(..1);
        return Ok(Some(body));
    };
    let mut bytes = first.to_vec();
    for row in table.get(&keys_of(&item.key, &continuation)).await? {
        let Some(row) = row else { return Ok(None) };
        bytes.extend_from_slice(&row.body);
    }
    Ok(Some(bytes))
}

/// Reads the continuation and the first part of a record from an instance's row; `None` if the row contains
/// the whole record.
fn continuation(item: &Item) -> Result<Option<(Continuation, &[u8])>, Error> {
    match item.body.split_first() {
        Some((&WHOLE, _)) => Ok(None),
        Some((&CONTINUED, rest)) => {
            let mut after = rest;
            let continuation = Continuation::deserialize(&mut rmp_serde::Deserializer::new(&mut after))
                .map_err(|source| record_error(&item.key, source))?;
            Ok(Some((continuation, after)))
        }
        _ => Err(record_error(&item.key, "the row has an unknown first byte")),
    }
}

fn keys_of(key: &ItemKey, continuation: &Continuation) -> Vec<ItemKey> {
    // The bound protects against damaged rows: one transaction writes no more rows than this.
    let rows = continuation.rows.min(MAX_WRITES);
    (1..=rows).map(|number| keys::continuation(key, &continuation.object, number)).collect()
}
