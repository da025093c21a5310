//! Rows that are replaced on the condition of their version, so that of several processes that have read a
//! row one alone replaces it.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::index::{Error, Index, rows};
use crate::table::{self, Expect, Item, ItemKey, Write};

/// The write of a row in place of the one with this version, 0 for none.
pub(crate) fn replacement<T: Serialize>(key: ItemKey, value: &T, version: u64) -> Result<Write, Error> {
    let body = rows::encode(&key, value)?;
    let expect = if version == 0 { Expect::Absent } else { Expect::Version(version) };
    Ok(Write::Put(Item { key, version: version + 1, secondary: Vec::new(), body }, expect))
}

impl Index {
    /// The value of a row and its version; `None` if there is no such row.
    pub(crate) async fn versioned<T: DeserializeOwned>(
        &self,
        key: ItemKey,
    ) -> Result<Option<(T, u64)>, Error> {
        let item = self.table.get(&[key]).await?.pop().flatten();
        item.map(|item| Ok((rows::decode(&item.key, &item.body)?, item.version))).transpose()
    }

    /// Carries out a transaction; false if one of its conditions does not hold.
    pub(crate) async fn transact_if_current(&self, writes: Vec<Write>) -> Result<bool, Error> {
        match self.table.transact(writes).await {
            Ok(()) => Ok(true),
            Err(table::Error::Conflict(_)) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}
