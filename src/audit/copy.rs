//! Copies of the audit log into another table: an index that is built again keeps the log of the old one.

use std::ops::Bound;

use crate::audit::chain::whole;
use crate::audit::listing::AuditQuery;
use crate::audit::{AuditLog, Error, keys};
use crate::table::{Expect, Item, Range, Table, Write};

/// The items of one transaction.
const BATCH_ITEMS: usize = 50;

impl AuditLog {
    /// Copies the logs of all tenants into another table, as they are. Returns the number of records.
    pub async fn copy_to(&self, target: &dyn Table) -> Result<u64, Error> {
        let source = self.context.table.as_ref();
        let mut records = 0;
        for tenant in self.tenants().await? {
            for day in self.days(&tenant, &AuditQuery::default()).await? {
                records += self.copy_day(target, &tenant, &day).await?;
            }
            let mut items = whole(source, keys::root(&tenant)).await?;
            let key = keys::tenant(&tenant);
            items.push(Item { key, version: 1, secondary: Vec::new(), body: Vec::new() });
            for batch in items.chunks(BATCH_ITEMS) {
                put(target, batch.to_vec()).await?;
            }
        }
        Ok(records)
    }

    async fn copy_day(&self, target: &dyn Table, tenant: &str, day: &str) -> Result<u64, Error> {
        let (from, to) = (Bound::Unbounded, Bound::Unbounded);
        let partition = keys::records(tenant, day);
        let mut range = Range { index: None, partition, from, to, is_descending: false, limit: BATCH_ITEMS };
        let mut records = 0;
        loop {
            let page = self.context.table.range(&range).await?;
            let last = page.items.last().map(|(sort, _)| sort.clone());
            records += page.items.len() as u64;
            put(target, page.items.into_iter().map(|(_, item)| item).collect()).await?;
            match last {
                Some(last) if page.has_more => range.from = Bound::Excluded(last),
                _ => return Ok(records),
            }
        }
    }
}

async fn put(target: &dyn Table, items: Vec<Item>) -> Result<(), Error> {
    if items.is_empty() {
        return Ok(());
    }
    let writes = items.into_iter().map(|item| Write::Put(item, Expect::Anything)).collect();
    Ok(target.transact(writes).await?)
}
