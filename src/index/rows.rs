//! Records to rows and back; a record too large for one row is continued in others.

use serde::{Deserialize, Serialize};

use crate::dicom::uid::{SeriesUid, StudyUid};
use crate::index::records::InstanceRecord;
use crate::index::{Error, keys};
use crate::table::{Item, ItemKey, Table};

/// Bytes of a record in one row; engines bound the size of rows ([`crate::table::MAX_BODY_BYTES`]).
const MAX_PART_BYTES: usize = 300 * 1024;
/// The first byte of an instance's row that holds the whole record.
const WHOLE: u8 = 0;
/// The first byte of one that is continued: then a [`Continued`] in MessagePack, then the first part.
const CONTINUED: u8 = 1;

/// Where the rest of a record is.
#[derive(Debug, Serialize, Deserialize)]
struct Continued {
    /// What the rows are called by: the name of the object, so that no other upload's have the same.
    #[serde(rename = "digest")]
    object: String,
    rows: usize,
}

/// Where an instance is, and what its bytes are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Its study.
    pub study: StudyUid,
    /// Its series.
    pub series: SeriesUid,
    /// SHA-256 of the stored object, in lower case hexadecimal.
    pub digest: String,
    /// Its name (see [`InstanceRecord::object`]).
    #[serde(default)]
    pub object: String,
}

impl Place {
    /// The name of the stored object among all that were kept under the instance's UID.
    pub fn object_name(&self) -> &str {
        if self.object.is_empty() { &self.digest } else { &self.object }
    }
}

/// A record in MessagePack.
pub(crate) fn encode<T: Serialize>(what: &ItemKey, record: &T) -> Result<Vec<u8>, Error> {
    rmp_serde::to_vec_named(record).map_err(|source| unreadable(what, source))
}

/// Reads a record; fields that `T` does not name are passed over.
pub(crate) fn decode<'a, T: Deserialize<'a>>(what: &ItemKey, body: &'a [u8]) -> Result<T, Error> {
    rmp_serde::from_slice(body).map_err(|source| unreadable(what, source))
}

pub(crate) fn unreadable(
    what: &ItemKey,
    source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> Error {
    Error::Record { what: format!("{} {}", what.partition, what.sort), source: source.into() }
}

/// The rows of an instance: its own first, then those that continue it.
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
        body.extend(encode(&key, &Continued { object: record.object_name().to_owned(), rows })?);
    }
    body.extend_from_slice(first);
    let mut items = Vec::with_capacity(1 + rows);
    for (part, number) in parts.zip(1..) {
        let key = keys::chunk(&key, record.object_name(), number);
        items.push(Item { key, version: 1, secondary: Vec::new(), body: part.to_vec() });
    }
    items.insert(0, Item { key, version: 1, secondary: Vec::new(), body });
    Ok(items)
}

/// The keys of the rows that continue an instance's row.
pub(crate) fn continuations(item: &Item) -> Result<Vec<ItemKey>, Error> {
    Ok(match continued(item)? {
        None => Vec::new(),
        Some((continued, _)) => chunk_keys(&item.key, &continued),
    })
}

/// The bytes of a record whose row is `item`; `None` if it was replaced or removed after that row was read.
pub(crate) async fn joined(table: &dyn Table, item: Item) -> Result<Option<Vec<u8>>, Error> {
    let Some((continued, first)) = continued(&item)? else {
        let mut body = item.body;
        body.drain(..1);
        return Ok(Some(body));
    };
    let mut bytes = first.to_vec();
    for chunk in table.get(&chunk_keys(&item.key, &continued)).await? {
        let Some(chunk) = chunk else { return Ok(None) };
        bytes.extend_from_slice(&chunk.body);
    }
    Ok(Some(bytes))
}

/// What is in the row of an instance that is continued in others; `None` if it is whole.
fn continued(item: &Item) -> Result<Option<(Continued, &[u8])>, Error> {
    match item.body.split_first() {
        Some((&WHOLE, _)) => Ok(None),
        Some((&CONTINUED, rest)) => {
            let mut after = rest;
            let continued = Continued::deserialize(&mut rmp_serde::Deserializer::new(&mut after))
                .map_err(|source| unreadable(&item.key, source))?;
            Ok(Some((continued, after)))
        }
        _ => Err(unreadable(&item.key, "it is neither whole nor continued")),
    }
}

fn chunk_keys(key: &ItemKey, continued: &Continued) -> Vec<ItemKey> {
    // A row names at most as many others as one transaction can have written.
    (1..=continued.rows.min(100)).map(|number| keys::chunk(key, &continued.object, number)).collect()
}
