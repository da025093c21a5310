//! The sweep of old entries from the feeds.

use crate::index::changes::FeedEntry;
use crate::index::feed::FeedCursor;
use crate::index::feed_position::FeedPosition;
use crate::index::read::whole_partition;
use crate::index::{Error, Index, keys, rows};
use crate::table::{self, Expect, Item, MAX_WRITES, Write};

impl Index {
    /// Deletes the entries of all feeds that are older than a time, in milliseconds since 1970 UTC. The last
    /// entry of a lane stays, so that no number is used again. Entries whose amounts are not counted yet
    /// stay, too (see [`super::usage`]). Returns the number of deleted entries.
    pub async fn sweep_changes(&self, before: i64) -> Result<u64, Error> {
        let mut swept = 0;
        for tenant in self.tenants().await? {
            let counted = self.count_usage(&tenant).await?.map(|usage| usage.counted);
            for lane in 0..self.log.lanes() {
                loop {
                    let count = self.sweep_lane(&tenant, lane, before, counted.as_ref()).await?;
                    swept += count;
                    if count == 0 {
                        break;
                    }
                }
            }
        }
        Ok(swept)
    }

    /// Deletes the first old entries of a lane, in one transaction with the mark of the last of them. Returns
    /// the number of deleted entries. `counted` is the place up to which amounts are counted, if they are.
    async fn sweep_lane(
        &self,
        tenant: &str,
        lane: u32,
        before: i64,
        counted: Option<&FeedCursor>,
    ) -> Result<u64, Error> {
        let page =
            self.table.range(&whole_partition(None, keys::feed_lane(tenant, lane), MAX_WRITES)).await?;
        let mut old = Vec::new();
        for (sort, item) in &page.items {
            let number = keys::feed_number(sort).ok_or_else(|| rows::record_error(&item.key, "no number"))?;
            let entry = FeedEntry::decode(FeedPosition(lane, number), &item.key, &item.body)?;
            if entry.at >= before || counted.is_some_and(|counted| !counted.is_after(entry.position)) {
                break;
            }
            old.push((number, item.key.clone()));
        }
        // The last of a full page has another place: the mark is written, too.
        if old.len() == page.items.len() {
            old.pop();
        }
        let Some((last, _)) = old.last() else { return Ok(0) };
        let key = keys::feed_swept(tenant, lane);
        let mark = self.table.get(std::slice::from_ref(&key)).await?.pop().flatten();
        let expect = mark.as_ref().map_or(Expect::Absent, |mark| Expect::Version(mark.version));
        let version = mark.map_or(1, |mark| mark.version + 1);
        let body = rows::encode(&key, last)?;
        let mut writes = vec![Write::Put(Item { key, version, secondary: Vec::new(), body }, expect)];
        let count = old.len() as u64;
        writes.extend(old.into_iter().map(|(_, key)| Write::Delete(key, Expect::Anything)));
        match self.table.transact(writes).await {
            Ok(()) => Ok(count),
            // Another process sweeps.
            Err(table::Error::Conflict(_)) => Ok(0),
            Err(error) => Err(error.into()),
        }
    }
}
