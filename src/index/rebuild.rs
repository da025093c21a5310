//! The mark of an index that is being rebuilt. It stays until the index is complete: no server starts on an
//! index with this mark, and an interrupted rebuild can continue.
//!
//! The mark of an index that is in use: an index without this mark and without instances has just been
//! created, maybe in the place of one that was lost.

use crate::index::{Error, Index, keys, read};
use crate::table::{Expect, Item, ItemKey, Write};

impl Index {
    /// Marks an empty index as being rebuilt. Returns whether the index has the mark: false if it is not
    /// empty.
    pub async fn begin_rebuilding(&self) -> Result<bool, Error> {
        if self.is_rebuilding().await? {
            return Ok(true);
        }
        if !self.is_empty().await? {
            return Ok(false);
        }
        self.mark(keys::rebuilding()).await?;
        Ok(true)
    }

    /// Whether the index was never in use: it has no entries, and not the mark of [`Index::begin_use`].
    pub async fn is_new(&self) -> Result<bool, Error> {
        let is_marked = self.table.get(&[keys::in_use()]).await?.iter().any(Option::is_some);
        Ok(!is_marked && self.is_empty().await?)
    }

    /// Marks the index as being in use, so that it is not taken for one in the place of a lost index while it
    /// is empty.
    pub async fn begin_use(&self) -> Result<(), Error> {
        self.mark(keys::in_use()).await
    }

    /// Writes and deletes a row with this name, to find out whether the table takes transactions.
    pub async fn probe(&self, name: &str) -> Result<(), Error> {
        let key = keys::probe(name);
        self.mark(key.clone()).await?;
        Ok(self.table.transact(vec![Write::Delete(key, Expect::Anything)]).await?)
    }

    async fn is_empty(&self) -> Result<bool, Error> {
        for partition in [keys::TENANTS, keys::DELETION_QUEUE] {
            let first = read::whole_partition(None, partition.into(), 1);
            if !self.table.range(&first).await?.items.is_empty() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn mark(&self, key: ItemKey) -> Result<(), Error> {
        let mark = Item { key, version: 1, secondary: Vec::new(), body: Vec::new() };
        Ok(self.table.transact(vec![Write::Put(mark, Expect::Anything)]).await?)
    }

    /// Whether the index is being rebuilt, or an interrupted rebuild left it incomplete.
    pub async fn is_rebuilding(&self) -> Result<bool, Error> {
        Ok(self.table.get(&[keys::rebuilding()]).await?.iter().any(Option::is_some))
    }

    /// Removes the mark from an index that is complete, and marks it as being in use.
    pub async fn end_rebuilding(&self) -> Result<(), Error> {
        self.begin_use().await?;
        Ok(self.table.transact(vec![Write::Delete(keys::rebuilding(), Expect::Anything)]).await?)
    }
}
