//! The mark of an index that is being rebuilt. It stays until the index is complete: no server starts on an
//! index with this mark, and an interrupted rebuild can continue.

use crate::index::{Error, Index, keys, read};
use crate::table::{Expect, Item, Write};

impl Index {
    /// Marks an empty index as being rebuilt. Returns whether the index has the mark: false if it is not
    /// empty.
    pub async fn begin_rebuilding(&self) -> Result<bool, Error> {
        if self.is_rebuilding().await? {
            return Ok(true);
        }
        for partition in [keys::TENANTS, keys::DELETION_QUEUE] {
            let first = read::whole_partition(None, partition.into(), 1);
            if !self.table.range(&first).await?.items.is_empty() {
                return Ok(false);
            }
        }
        let mark = Item { key: keys::rebuilding(), version: 1, secondary: Vec::new(), body: Vec::new() };
        self.table.transact(vec![Write::Put(mark, Expect::Anything)]).await?;
        Ok(true)
    }

    /// Whether the index is being rebuilt, or an interrupted rebuild left it incomplete.
    pub async fn is_rebuilding(&self) -> Result<bool, Error> {
        Ok(self.table.get(&[keys::rebuilding()]).await?.iter().any(Option::is_some))
    }

    /// Removes the mark from an index that is complete.
    pub async fn end_rebuilding(&self) -> Result<(), Error> {
        Ok(self.table.transact(vec![Write::Delete(keys::rebuilding(), Expect::Anything)]).await?)
    }
}
