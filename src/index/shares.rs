//! The rows of shares, of their links, and of the keys that sign URLs.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use crate::backoff::jitter;
use crate::dicom::uid::{InstanceUid, SeriesUid, StudyUid};
use crate::index::read::whole_partition;
use crate::index::{Error, Index, keys, rows};
use crate::table::{self, Expect, Item, MAX_WRITES, Range, Write};

/// The maximum number of attempts at a change of a share that others change at the same time.
const MAX_ATTEMPTS: usize = 32;
/// The longest pause after an attempt that failed.
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// The objects that a share opens: a study, a series of it, or some instances of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedObjects {
    /// The study.
    pub study: StudyUid,
    /// Only this series; `None` for the study or for a list of instances.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub series: Option<SeriesUid>,
    /// Only these instances, by their series; empty for the whole study or series.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub instances: BTreeMap<SeriesUid, BTreeSet<InstanceUid>>,
}

/// The hash of the code that a link asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CodeHash {
    /// The salt.
    #[serde(with = "serde_bytes")]
    pub salt: Vec<u8>,
    /// The hash, by PBKDF2.
    #[serde(with = "serde_bytes")]
    pub hash: Vec<u8>,
    /// The number of iterations.
    pub iterations: u32,
}

/// The tries of a code that failed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CodeTries {
    /// The number of all tries with a wrong code.
    pub failed: u32,
    /// The minute of the last try, counted from 1970 UTC.
    pub minute: i64,
    /// The number of tries in that minute.
    pub in_minute: u32,
}

/// The record of a share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShareRecord {
    /// The identifier, in the order of creation among those of the tenant.
    pub id: String,
    /// The objects.
    pub objects: SharedObjects,
    /// Whether whole instances and zip files may be retrieved.
    pub may_download: bool,
    /// A text for those who manage shares.
    pub note: String,
    /// The subject that made the share.
    pub created_by: String,
    /// The time of creation, in milliseconds since 1970 UTC.
    pub created_at: i64,
    /// The end, in milliseconds since 1970 UTC.
    pub expires_at: i64,
    /// The time at which the share was revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<i64>,
    /// The number of times that the link may be opened; `None` without a limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_uses: Option<u32>,
    /// The number of times that the link was opened.
    pub uses: u32,
    /// The time at which the link was opened last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used_at: Option<i64>,
    /// The SHA-256 digest of the link's secret, in hexadecimal.
    pub link: String,
    /// The code; `None` if the link needs none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<CodeHash>,
    /// The tries of the code.
    #[serde(default)]
    pub tries: CodeTries,
}

/// A page of the shares of a tenant.
#[derive(Debug)]
pub struct SharePage {
    /// The shares, the newest first.
    pub shares: Vec<ShareRecord>,
    /// Whether there are more, before the last one.
    pub has_more: bool,
}

impl Index {
    /// Adds a share with its link. Returns false, and adds nothing, if the identifier or the link exists.
    pub async fn add_share(&self, tenant: &str, record: &ShareRecord) -> Result<bool, Error> {
        let key = keys::share(tenant, &record.id);
        let body = rows::encode(&key, record)?;
        let share = Item { key, version: 1, secondary: Vec::new(), body };
        let key = keys::share_link(&record.link, tenant, &record.id);
        let link = Item { key, version: 1, secondary: Vec::new(), body: vec![0] };
        let writes = vec![Write::Put(share, Expect::Absent), Write::Put(link, Expect::Absent)];
        match self.table.transact(writes).await {
            Ok(()) => Ok(true),
            Err(table::Error::Conflict(_)) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// The record of a share.
    pub async fn share(&self, tenant: &str, id: &str) -> Result<Option<ShareRecord>, Error> {
        self.get(keys::share(tenant, id)).await
    }

    /// The tenant and the identifier of the share with a link, by the digest of the link's secret.
    pub async fn find_share_link(&self, link: &str) -> Result<Option<(String, String)>, Error> {
        let page = self.table.range(&whole_partition(None, keys::share_links(link), 1)).await?;
        Ok(page.items.first().and_then(|(sort, _)| keys::share_of_link(sort)))
    }

    /// Changes a share. `change` is given the record, perhaps several times, and returns whether the record
    /// is to be written, and its own result. `None` if there is no such share.
    pub async fn change_share<R>(
        &self,
        tenant: &str,
        id: &str,
        mut change: impl FnMut(&mut ShareRecord) -> (bool, R),
    ) -> Result<Option<R>, Error> {
        let key = keys::share(tenant, id);
        for _ in 0..MAX_ATTEMPTS {
            let Some(item) = self.table.get(std::slice::from_ref(&key)).await?.pop().flatten() else {
                return Ok(None);
            };
            let mut record: ShareRecord = rows::decode(&key, &item.body)?;
            let (is_changed, outcome) = change(&mut record);
            if !is_changed {
                return Ok(Some(outcome));
            }
            let expect = Expect::Version(item.version);
            let body = rows::encode(&key, &record)?;
            let written = Item { version: item.version + 1, body, ..item };
            match self.table.transact(vec![Write::Put(written, expect)]).await {
                Ok(()) => return Ok(Some(outcome)),
                Err(table::Error::Conflict(_)) => sleep(jitter(LONGEST_PAUSE)).await,
                Err(error) => return Err(error.into()),
            }
        }
        Err(Error::Interrupted)
    }

    /// Reads at most `limit` shares of a tenant that are older than the share `before`, or the newest.
    pub async fn shares(&self, tenant: &str, before: Option<&str>, limit: usize) -> Result<SharePage, Error> {
        let to = before.map_or(Bound::Unbounded, |id| Bound::Excluded(id.to_owned()));
        let range = Range { to, is_descending: true, ..whole_partition(None, keys::shares(tenant), limit) };
        let page = self.table.range(&range).await?;
        let decode = |(_, item): &(String, Item)| rows::decode(&item.key, &item.body);
        let shares = page.items.iter().map(decode).collect::<Result<_, _>>()?;
        Ok(SharePage { shares, has_more: page.has_more })
    }

    /// The number of shares of a tenant, as far as there are at most `limit`.
    pub async fn count_shares(&self, tenant: &str, limit: usize) -> Result<usize, Error> {
        let mut range = whole_partition(None, keys::shares(tenant), limit);
        let mut count = 0;
        while count < limit {
            range.limit = limit - count;
            let found = self.table.sort_keys(&range).await?;
            count += found.keys.len();
            let Some(last) = found.keys.into_iter().next_back().filter(|_| found.has_more) else { break };
            range.from = Bound::Excluded(last);
        }
        Ok(count)
    }

    /// Deletes the oldest shares of a tenant that meet a condition, of the oldest ones only. Returns their
    /// number.
    pub async fn delete_oldest_shares(
        &self,
        tenant: &str,
        is_over: impl Fn(&ShareRecord) -> bool + Send,
    ) -> Result<usize, Error> {
        let page = self.table.range(&whole_partition(None, keys::shares(tenant), MAX_WRITES / 2)).await?;
        let mut writes = Vec::new();
        for (_, item) in &page.items {
            let record: ShareRecord = rows::decode(&item.key, &item.body)?;
            if is_over(&record) {
                writes.push(Write::Delete(item.key.clone(), Expect::Version(item.version)));
                let link = keys::share_link(&record.link, tenant, &record.id);
                writes.push(Write::Delete(link, Expect::Anything));
            }
        }
        let count = writes.len() / 2;
        if count == 0 {
            return Ok(0);
        }
        match self.table.transact(writes).await {
            Ok(()) => Ok(count),
            // Another process deletes or changes them.
            Err(table::Error::Conflict(_)) => Ok(0),
            Err(error) => Err(error.into()),
        }
    }

    /// The key with which a tenant's URLs are signed in a period; `None` if there is none.
    pub async fn signing_key(&self, tenant: &str, period: i64) -> Result<Option<Vec<u8>>, Error> {
        let item = self.table.get(&[keys::signing_key(tenant, period)]).await?.pop().flatten();
        Ok(item.map(|item| item.body))
    }

    /// Adds the key of a period unless there is one, and deletes those of the periods before `oldest`.
    pub async fn add_signing_key(
        &self,
        tenant: &str,
        (period, oldest): (i64, i64),
        body: Vec<u8>,
    ) -> Result<(), Error> {
        let mut range = whole_partition(None, keys::signing_keys(tenant), MAX_WRITES / 2);
        range.to = Bound::Excluded(keys::signing_key(tenant, oldest).sort);
        let old = self.table.sort_keys(&range).await?.keys;
        let key = keys::signing_key(tenant, period);
        let partition = key.partition.clone();
        let item = Item { key, version: 1, secondary: Vec::new(), body };
        let mut writes = vec![Write::Put(item, Expect::Absent)];
        writes.extend(old.into_iter().map(|sort| {
            let key = table::ItemKey { partition: partition.clone(), sort };
            Write::Delete(key, Expect::Anything)
        }));
        match self.table.transact(writes).await {
            // Another process has added it.
            Ok(()) | Err(table::Error::Conflict(_)) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Deletes all keys with which a tenant's URLs are signed: no signed URL and no link that was opened is
    /// valid any more.
    pub async fn delete_signing_keys(&self, tenant: &str) -> Result<usize, Error> {
        let range = whole_partition(None, keys::signing_keys(tenant), MAX_WRITES / 2);
        let found = self.table.sort_keys(&range).await?.keys;
        let delete = |sort: &String| {
            let partition = keys::signing_keys(tenant);
            Write::Delete(table::ItemKey { partition, sort: sort.clone() }, Expect::Anything)
        };
        let writes: Vec<_> = found.iter().map(delete).collect();
        if !writes.is_empty() {
            self.table.transact(writes).await?;
        }
        Ok(found.len())
    }
}
