//! Items under (partition key, sort key) with secondary indexes and conditional transactions: DynamoDB's
//! model, which every engine implements in this form. No DICOM here.

use std::ops::Bound;
use std::path::PathBuf;

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
    /// The index.
    pub index: Secondary,
    /// The partition key in the index, with the limits of the item's.
    pub partition: String,
    /// The sort key in the index, with the limits of the item's.
    pub sort: String,
}

/// An item of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// The primary key.
    pub key: ItemKey,
    /// The version, set by the writer; see [`Expect::Version`].
    pub version: u64,
    /// The keys in secondary indexes, at most one for each index.
    pub secondary: Vec<SecondaryKey>,
    /// The content, at most [`MAX_BODY_BYTES`].
    pub body: Vec<u8>,
}

impl Item {
    /// The number in a counter: an item that only [`Write::Add`] writes. `None` if the item is no counter.
    ///
    /// The body of a counter is the number, little-endian.
    pub fn count(&self) -> Option<i64> {
        self.body.as_slice().try_into().ok().map(i64::from_le_bytes)
    }
}

/// The largest body of an item (DynamoDB allows 400 KB for a whole item).
pub const MAX_BODY_BYTES: usize = 380 * 1024;

/// The most writes of one transaction (what DynamoDB allows).
pub const MAX_WRITES: usize = 100;

/// The most bytes of all keys and bodies that a transaction puts (DynamoDB allows 4 MiB with the names of
/// attributes).
pub const MAX_TRANSACTION_BYTES: usize = 4_000_000;

/// The condition of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// No condition.
    Anything,
    /// No item has this key.
    Absent,
    /// An item of this version has this key.
    Version(u64),
}

/// One write of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// Writes an item whole, its secondary keys included.
    Put(Item, Expect),
    /// Deletes an item; deleting an item that does not exist succeeds under [`Expect::Anything`].
    Delete(ItemKey, Expect),
    /// Only checks the condition.
    Check(ItemKey, Expect),
    /// Adds a number to a counter (see [`Item::count`]). A counter that does not exist counts as 0 and gets
    /// version 1; otherwise the version increases by one. Concurrent additions under [`Expect::Anything`] do
    /// not conflict.
    Add(ItemKey, i64, Expect),
}

impl Write {
    /// The condition of the write.
    pub fn expect(&self) -> Expect {
        match self {
            Self::Put(_, expect)
            | Self::Delete(_, expect)
            | Self::Check(_, expect)
            | Self::Add(_, _, expect) => *expect,
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
    /// Whether the order is descending, from the upper bound.
    pub is_descending: bool,
    /// The most items; at least 1.
    pub limit: usize,
}

/// A part of the answer to a [`Range`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The items, each with the sort key under which it was found.
    pub items: Vec<(String, Item)>,
    /// Whether there are more items within the bounds. The next range then excludes the last sort key of this
    /// page.
    ///
    /// A page with more items to follow may hold fewer items than `limit`, but at least one. The value is
    /// exact for a page of `limit` items; after a shorter page there may be no more items, though this is
    /// true.
    pub has_more: bool,
}

/// A part of the answer to a request for the sort keys of a [`Range`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SortKeys {
    /// The sort keys, in the order of the range.
    pub keys: Vec<String>,
    /// Whether there are more within the bounds, as in [`Page::has_more`].
    pub has_more: bool,
}

/// The failure of an operation on the table.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The condition of the write with this index (from 0) was not met, or another transaction was writing
    /// its item; nothing was written.
    #[error("write {0} of the transaction met another state than expected")]
    Conflict(usize),
    /// There is no space left; nothing was written.
    #[error("no space left in the table")]
    NoSpace,
    /// The writer of the table has ended after a panic: no transaction is possible until the process
    /// is restarted. Whether the last one took effect is not known.
    #[error("cannot write the index: the writer of its table has ended after a panic; restart the server")]
    WriterEnded,
    /// The file of an embedded table is damaged, or was written by another program or another version.
    #[error("the index in {} is damaged: stop the server and run `cuspid reindex`", file.display())]
    Damaged {
        /// The file.
        file: PathBuf,
        /// The cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The engine failed; whether a transaction took effect is not known.
    #[error("cannot {operation}")]
    Backend {
        /// The operation that failed.
        operation: &'static str,
        /// The cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// A table.
///
/// # Contract
/// - A transaction takes effect whole or not at all, as if transactions came one after the other. It has at
///   most [`MAX_WRITES`] writes with distinct keys, and puts at most [`MAX_TRANSACTION_BYTES`].
/// - When [`Table::transact`] returns `Ok`, its effect survives a crash of the process and of the machine,
///   and every later `get`, and every later range of the table itself, sees it.
/// - A range of a secondary index may miss the last writes: an engine may write its entries later, usually
///   within a second. The items of a range are never out of date: each is as a `get` would read it at that
///   time, and has the key under which it was found. Code that must be exact, for counts or leases, reads the
///   table itself.
/// - Sort keys of a secondary index may be out of date for as long: an item may be gone, or have another key.
/// - Each item of a page, or of one `get`, is whole and existed when it was read. Two items may be of two
///   states, with a transaction in between. A decision that depends on several items is made safe by the
///   versions that its transaction expects.
#[async_trait]
pub trait Table: Send + Sync + 'static {
    /// Reads items by key, in the order of `keys`; `None` where there is none.
    async fn get(&self, keys: &[ItemKey]) -> Result<Vec<Option<Item>>, Error>;

    /// Reads the first items of a range.
    async fn range(&self, range: &Range) -> Result<Page, Error>;

    /// Reads the first sort keys of a range, without the items. This costs a small part of [`Table::range`].
    async fn sort_keys(&self, range: &Range) -> Result<SortKeys, Error>;

    /// Carries out a transaction. Calls that wait at the same time share one flush.
    async fn transact(&self, writes: Vec<Write>) -> Result<(), Error>;

    /// Checks that transactions are possible, without a request to the engine.
    ///
    /// # Errors
    /// [`Error::WriterEnded`], until the process is restarted.
    fn health(&self) -> Result<(), Error>;

    /// Whether each operation is a request to another machine. Operations then take milliseconds, as many as
    /// wanted run at the same time, and a byte written in a transaction costs twice a byte written alone.
    fn is_remote(&self) -> bool {
        false
    }
}
