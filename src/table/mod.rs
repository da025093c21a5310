//! Items under (partition key, sort key) with secondary indexes and conditional transactions: DynamoDB's model,
//! of which every engine offers just this much. Knows nothing of DICOM.

use std::ops::Bound;

use async_trait::async_trait;

#[cfg(test)]
mod contract;
pub mod dynamodb;
mod limits;
pub mod redb;

/// The primary key of an item.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ItemKey {
    /// The partition key; not empty, no NUL, at most 2048 bytes.
    pub partition: String,
    /// The sort key; not empty, no NUL, at most 1024 bytes.
    pub sort: String,
}

/// A secondary index; an item is in it if it has a key for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Secondary {
    /// `GSI1`.
    First,
    /// `GSI2`.
    Second,
    /// `GSI3`.
    Third,
    /// `GSI4`.
    Fourth,
    /// `GSI5`.
    Fifth,
}

/// Every secondary index.
pub(crate) const INDEXES: [Secondary; 5] =
    [Secondary::First, Secondary::Second, Secondary::Third, Secondary::Fourth, Secondary::Fifth];

/// The key of an item in a secondary index. The three together are unique to the item.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SecondaryKey {
    /// Which index.
    pub index: Secondary,
    /// The partition key in it; bounded like that of the item.
    pub partition: String,
    /// The sort key in it; bounded like that of the item.
    pub sort: String,
}

/// An item of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Its primary key.
    pub key: ItemKey,
    /// Its version, set by whoever writes it; see [`Expect::Version`].
    pub version: u64,
    /// Its keys in secondary indexes, at most one for each.
    pub secondary: Vec<SecondaryKey>,
    /// Its content, at most [`MAX_BODY_BYTES`].
    pub body: Vec<u8>,
}

/// The largest body of an item (DynamoDB allows 400 KB for a whole item).
pub const MAX_BODY_BYTES: usize = 380 * 1024;

/// Writes of one transaction at the most (what DynamoDB allows).
pub const MAX_WRITES: usize = 100;

/// Bytes of all keys and bodies that a transaction may put (DynamoDB allows 4 MiB, attributes' names included).
pub const MAX_TRANSACTION_BYTES: usize = 4_000_000;

/// What must be so for a write to be carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// Nothing.
    Anything,
    /// There is no item with this key.
    Absent,
    /// There is one, of this version.
    Version(u64),
}

/// One write of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// Writes an item whole, its secondary keys included.
    Put(Item, Expect),
    /// Deletes an item; deleting what is not there succeeds if nothing else was expected.
    Delete(ItemKey, Expect),
    /// Only checks.
    Check(ItemKey, Expect),
}

impl Write {
    /// What must be so for it to be carried out.
    pub fn expect(&self) -> Expect {
        match self {
            Self::Put(_, expect) | Self::Delete(_, expect) | Self::Check(_, expect) => *expect,
        }
    }
}

/// A request for the items of one partition within bounds, in the order of their sort keys (by bytes).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range {
    /// The secondary index to read; `None` for the table itself.
    pub index: Option<Secondary>,
    /// The partition.
    pub partition: String,
    /// The lower bound of the sort key.
    pub from: Bound<String>,
    /// The upper bound of the sort key.
    pub to: Bound<String>,
    /// Whether to go from the upper bound down.
    pub is_descending: bool,
    /// Items at the most; at least 1.
    pub limit: usize,
}

/// A part of the answer to a [`Range`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The items with the sort key under which each was found.
    pub items: Vec<(String, Item)>,
    /// Whether there are more items within the bounds: ask again with a bound excluding the last sort key.
    /// A page may hold fewer items than `limit` and still say so, but not none. Of a page that ended at `limit` it is
    /// exact; one that ended before may be the last all the same.
    pub has_more: bool,
}

/// Why an operation on the table failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The write with this index (from 0) met something else than it expected, or another transaction at work on its
    /// item; nothing was written.
    #[error("write {0} of the transaction met another state than expected")]
    Conflict(usize),
    /// There is no room left; nothing was written.
    #[error("no space left in the table")]
    NoSpace,
    /// The engine failed; whether a transaction took effect is not known.
    #[error("cannot {operation}")]
    Backend {
        /// What could not be done.
        operation: &'static str,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// A table.
///
/// # Contract
/// - A transaction is carried out whole or not at all, as if transactions came one after the other; its writes
///   have distinct keys, at most [`MAX_WRITES`] of them, and put at most [`MAX_TRANSACTION_BYTES`].
/// - When [`Table::transact`] returns `Ok`, its effect survives a crash of the process and of the machine, and
///   every later `get`, and every later range of the table itself, sees it.
/// - A range of a secondary index may miss what was written a moment ago: an engine may let its entries follow, within
///   a second as a rule. What it gives is never out of date: each item is as a `get` would find it at that time, and
///   has the key under which it was found. Who must know, as who counts or claims, asks the table itself.
/// - Each item of a page, or of one `get`, is whole and was there when it was read; two of them may be of two states, with
///   a transaction in between. What is decided by several is made safe by the versions that the transaction expects.
#[async_trait]
pub trait Table: Send + Sync + 'static {
    /// Reads items by key, in the order of `keys`; `None` where there is none.
    async fn get(&self, keys: &[ItemKey]) -> Result<Vec<Option<Item>>, Error>;

    /// Reads the first items of a range.
    async fn range(&self, range: &Range) -> Result<Page, Error>;

    /// Carries out a transaction. Calls that wait at the same time share their flush.
    async fn transact(&self, writes: Vec<Write>) -> Result<(), Error>;
}
