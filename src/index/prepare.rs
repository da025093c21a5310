//! The part of a commit that needs no transaction: encoding the record, and writing those of its rows that
//! nothing refers to before the transaction.
//!
//! These rows have keys that no other upload has. If no transaction follows, they stay and do no harm.

use futures_util::future::try_join_all;

use crate::index::records::InstanceRecord;
use crate::index::rows::{self, InstanceRows};
use crate::index::{Error, Index, keys};
use crate::table::{Expect, Item, ItemKey, MAX_WRITES, Table, Write};

/// The number of writes in a transaction besides those of instances and series: the study, the tenant, its
/// usage, the entry of the deletion queue, the counters of two days, the entry of the feed, the feed.
pub(crate) const SPARE_WRITES: usize = 8;
/// The maximum bytes of instances' rows in one transaction, below [`crate::table::MAX_TRANSACTION_BYTES`] to
/// leave space for the other rows. The continuation rows of a larger instance are written before its
/// transaction.
pub(super) const MAX_BATCH_BYTES: usize = 3 * 1024 * 1024;

/// A record that can be committed: the rows that need no transaction are written.
pub struct PreparedRecord {
    pub(super) tenant: String,
    pub(super) record: InstanceRecord,
    /// The rows for the transaction, the instance's own row first.
    pub(super) rows: Vec<Item>,
    /// As [`rows::InstanceLocation::parts`].
    pub(super) parts: usize,
    /// The keys of the rows that are written.
    pub(super) written: Vec<ItemKey>,
    /// Whether nothing was stored under the SOP Instance UID a moment ago.
    pub(super) is_new: bool,
}

impl PreparedRecord {
    /// The record.
    pub fn record(&self) -> &InstanceRecord {
        &self.record
    }

    /// Notes that nothing was stored under the SOP Instance UID a moment ago: the first attempt at the commit
    /// then reads no location. The transaction has the condition that this is still so.
    pub fn expect_new(&mut self) {
        self.is_new = true;
    }
}

impl Index {
    /// Prepares the commit of a record. May run at the same time as the put of the object.
    ///
    /// # Errors
    /// [`Error::TooLarge`] if no transaction can hold the record; [`Error::Table`] if the table fails.
    pub async fn prepare(&self, tenant: &str, record: InstanceRecord) -> Result<PreparedRecord, Error> {
        let rows = encode(self.table.as_ref(), tenant, &record)?;
        // The transaction that removes the instance deletes all of its rows, and the location.
        let number_of_deletions = 2 + rows.others.len();
        if number_of_deletions + 1 + SPARE_WRITES > MAX_WRITES {
            return Err(Error::TooLarge { size_bytes: rows.size_bytes() });
        }
        let parts = rows.parts;
        let (rows, written) = write_ahead(self.table.as_ref(), rows).await?;
        Ok(PreparedRecord { tenant: tenant.to_owned(), record, rows, parts, written, is_new: false })
    }

    /// Deletes the rows of a record that will not be committed. An error is only logged, because such rows do
    /// no harm.
    pub async fn discard(&self, prepared: PreparedRecord) {
        delete_rows(self.table.as_ref(), prepared.written).await;
    }
}

/// Encodes the record of an instance in the form that suits the table: where a byte in a transaction costs
/// more than a byte alone, the record is separate.
pub(super) fn encode(
    table: &dyn Table,
    tenant: &str,
    record: &InstanceRecord,
) -> Result<InstanceRows, Error> {
    let key = keys::instance(tenant, &record.study, &record.series, &record.instance);
    rows::encode_instance(key, record, table.is_remote())
}

/// Writes the rows of a record that the transaction should not or cannot write. Returns the rows that are
/// left, and the keys of those that are written.
pub(super) async fn write_ahead(
    table: &dyn Table,
    rows: InstanceRows,
) -> Result<(Vec<Item>, Vec<ItemKey>), Error> {
    let is_large = rows.size_bytes() > MAX_BATCH_BYTES;
    let InstanceRows { own, others, parts } = rows;
    let mut left = vec![own];
    if parts == 0 && !is_large {
        left.extend(others);
        return Ok((left, Vec::new()));
    }
    let keys = others.iter().map(|row| row.key.clone()).collect();
    let puts = others.into_iter().map(|row| table.transact(vec![Write::Put(row, Expect::Anything)]));
    try_join_all(puts).await?;
    Ok((left, keys))
}

/// Deletes rows that no other row refers to. An error is only logged, because such rows do no harm.
pub(super) async fn delete_rows(table: &dyn Table, obsolete: Vec<ItemKey>) {
    for keys in obsolete.chunks(MAX_WRITES) {
        let writes = keys.iter().map(|key| Write::Delete(key.clone(), Expect::Anything)).collect();
        if let Err(error) = table.transact(writes).await {
            tracing::warn!(error = %error, "cannot delete {} rows that nothing refers to", keys.len());
        }
    }
}
