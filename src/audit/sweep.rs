//! The sweep of old records: whole days, from the oldest on.

use std::collections::BTreeMap;
use std::ops::Bound;

use crate::audit::chain::{heads, hex};
use crate::audit::keys::{self, AuditPlace};
use crate::audit::listing::AuditQuery;
use crate::audit::record::{ChainHead, SweptBefore, SweptEnd};
use crate::audit::seal::{SealUse, parts};
use crate::audit::{AuditLog, Error};
use crate::clock::{MILLIS_OF_DAY, now_millis};
use crate::table::{self, Expect, Item, ItemKey, Range, Write};

/// The records that are deleted in one transaction, each with a mark of its chain at most.
const MAX_SWEPT: usize = 40;

impl AuditLog {
    /// Deletes the records of days that ended more than `audit.retention_days` ago. Returns their number.
    pub async fn sweep(&self) -> Result<u64, Error> {
        let days = i64::try_from(self.settings.retention_days).unwrap_or(i64::MAX);
        if days == 0 {
            return Ok(0);
        }
        self.sweep_before(now_millis().saturating_sub(days.saturating_mul(MILLIS_OF_DAY))).await
    }

    /// Deletes the records of days that ended before a time, in milliseconds since 1970 UTC.
    pub(super) async fn sweep_before(&self, before: i64) -> Result<u64, Error> {
        let mut swept = 0;
        for tenant in self.tenants().await? {
            let mut has_swept = false;
            for day in self.days(&tenant, &AuditQuery::default()).await? {
                let Some(end) = keys::end_of_day(&day).filter(|end| *end <= before) else { break };
                has_swept = true;
                self.put_mark(keys::swept_before(&tenant), &SweptBefore { tenant: tenant.clone(), at: end })
                    .await?;
                loop {
                    let count = self.sweep_some(&tenant, &day).await?;
                    swept += count;
                    if count == 0 {
                        break;
                    }
                }
                let mark = Write::Delete(keys::day_mark(&tenant, &day), Expect::Anything);
                self.context.table.transact(vec![mark]).await?;
            }
            if has_swept {
                self.forget_chains(&tenant, before).await?;
            }
        }
        Ok(swept)
    }

    /// Deletes the first records of a day, in one transaction with the marks of their chains.
    async fn sweep_some(&self, tenant: &str, day: &str) -> Result<u64, Error> {
        let (from, to) = (Bound::Unbounded, Bound::Unbounded);
        let partition = keys::records(tenant, day);
        let range = Range { index: None, partition, from, to, is_descending: false, limit: MAX_SWEPT };
        let page = self.context.table.range(&range).await?;
        let mut ends: BTreeMap<String, SweptEnd> = BTreeMap::new();
        let mut writes = Vec::new();
        for (sort, item) in &page.items {
            writes.push(Write::Delete(item.key.clone(), Expect::Anything));
            let Some(place) = AuditPlace::of_sort(sort) else { continue };
            let hash = parts(&item.body).map(|(hash, _)| hex(hash)).unwrap_or_default();
            let end =
                SweptEnd { tenant: tenant.into(), chain: place.chain.clone(), number: place.number, hash };
            ends.insert(place.chain, end);
        }
        for (chain, end) in ends {
            let (item, expect) = self.mark(keys::swept(tenant, &chain), &end).await?;
            writes.push(Write::Put(item, expect));
        }
        if writes.is_empty() {
            return Ok(0);
        }
        match self.context.table.transact(writes).await {
            Ok(()) => Ok(page.items.len() as u64),
            // Another process sweeps.
            Err(table::Error::Conflict(_)) => Ok(0),
            Err(error) => Err(error.into()),
        }
    }

    /// Deletes the heads and marks of chains all of whose records were swept.
    async fn forget_chains(&self, tenant: &str, before: i64) -> Result<(), Error> {
        for item in heads(self.context.table.as_ref(), tenant).await? {
            let Ok(head) = ChainHead::of_item(&self.context.sealer, &item) else { continue };
            let key = keys::swept(tenant, &head.beginning.chain);
            let mark = self.context.table.get(std::slice::from_ref(&key)).await?.pop().flatten();
            let end =
                mark.and_then(|mark| self.context.sealer.open::<SweptEnd>(SealUse::Mark, &mark.body).ok());
            if head.last_at >= before || end.is_none_or(|(end, _)| end.number != head.last) {
                continue;
            }
            let writes = vec![
                Write::Delete(item.key, Expect::Version(item.version)),
                Write::Delete(key, Expect::Anything),
            ];
            match self.context.table.transact(writes).await {
                // Its process has written another record.
                Ok(()) | Err(table::Error::Conflict(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    async fn put_mark(&self, key: ItemKey, value: &SweptBefore) -> Result<(), Error> {
        let (item, expect) = self.mark(key, value).await?;
        match self.context.table.transact(vec![Write::Put(item, expect)]).await {
            Ok(()) | Err(table::Error::Conflict(_)) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// The item of a mark, and the condition that nobody has written it since it was read.
    async fn mark(&self, key: ItemKey, value: &impl serde::Serialize) -> Result<(Item, Expect), Error> {
        let present = self.context.table.get(std::slice::from_ref(&key)).await?.pop().flatten();
        let expect = present.as_ref().map_or(Expect::Absent, |item| Expect::Version(item.version));
        let version = present.map_or(1, |item| item.version + 1);
        let (body, _) = self.context.sealer.seal(SealUse::Mark, value);
        Ok((Item { key, version, secondary: Vec::new(), body }, expect))
    }
}
