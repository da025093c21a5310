//! An index that is built again in its place is marked until it is complete: nobody serves from it meanwhile, and who was
//! interrupted may go on.

use crate::index::{Error, Index, keys, read};
use crate::table::{Expect, Item, Write};

impl Index {
    /// Marks the index as being built, if it is empty or has that mark; whether it has it.
    pub async fn begin_rebuilding(&self) -> Result<bool, Error> {
        if self.is_rebuilding().await? {
            return Ok(true);
        }
        for partition in [keys::TENANTS, keys::GARBAGE] {
            let first = read::whole_partition(None, partition.into(), 1);
            if !self.table.range(&first).await?.items.is_empty() {
                return Ok(false);
            }
        }
        let mark = Item { key: keys::rebuilding(), version: 1, secondary: Vec::new(), body: Vec::new() };
        self.table.transact(vec![Write::Put(mark, Expect::Anything)]).await?;
        Ok(true)
    }

    /// Whether the index is being built, or was and is not complete.
    pub async fn is_rebuilding(&self) -> Result<bool, Error> {
        Ok(self.table.get(&[keys::rebuilding()]).await?.iter().any(Option::is_some))
    }

    /// Takes the mark away: the index is complete.
    pub async fn end_rebuilding(&self) -> Result<(), Error> {
        Ok(self.table.transact(vec![Write::Delete(keys::rebuilding(), Expect::Anything)]).await?)
    }
}
