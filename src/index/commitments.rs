//! Requests for storage commitment whose report waits to be sent, and the state of the reports to each peer.
//!
//! A request has a row in a partition of all peers, which is small, and its references are in rows of their
//! own.

use std::ops::Bound;

use serde::{Deserialize, Serialize};
use tracing::warn;
use uuid::Uuid;

use crate::index::leased::LeasedState;
use crate::index::read::whole_partition;
use crate::index::versioned::replacement;
use crate::index::{Error, Index, keys, rows};
use crate::table::{Expect, Item, ItemKey, Range, Write};

/// The bytes of references in one row.
const MAX_PART_BYTES: usize = 300 * 1024;
/// The most rows of the references of a request.
const MAX_PARTS: usize = 20;
/// The rows that are read at a time.
const PAGE_ROWS: usize = 500;

/// The SOP class and the SOP Instance UID of an instance, as a request names them.
pub type CommitmentReference = (String, String);

/// A request for storage commitment whose report waits to be sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitingCommitment {
    /// The tenant of the peer.
    pub tenant: String,
    /// The AE title of the peer.
    pub peer: String,
    /// The AE title by which the peer called the server.
    pub called: String,
    /// The Transaction UID.
    pub transaction: String,
    /// The time at which the request was received, in milliseconds since 1970 UTC.
    pub received_at: i64,
    /// The number of failed attempts to send the report.
    pub attempts: u32,
    /// The name of the rows with the references, and the number of these rows.
    #[serde(default)]
    pub(crate) references: (String, usize),
}

impl WaitingCommitment {
    /// A request of a peer that was received at a time.
    pub fn new(tenant: &str, (peer, called): (&str, &str), transaction: &str, received_at: i64) -> Self {
        Self {
            tenant: tenant.to_owned(),
            peer: peer.to_owned(),
            called: called.to_owned(),
            transaction: transaction.to_owned(),
            received_at,
            attempts: 0,
            references: (Uuid::new_v4().simple().to_string(), 0),
        }
    }

    fn key(&self) -> ItemKey {
        keys::waiting_commitment(&self.tenant, &self.peer, &self.transaction)
    }

    fn parts(&self) -> impl Iterator<Item = ItemKey> {
        let (name, count) = &self.references;
        // The bound protects against damaged rows.
        (0..(*count).min(MAX_PARTS)).map(|number| keys::commitment_part(&self.tenant, name, number))
    }
}

/// The state of the reports of storage commitment to a peer. All times are in milliseconds since 1970 UTC.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportState {
    /// The number of reports that the peer has taken, and the time of the last one.
    pub reported: u64,
    /// The time of the last one.
    pub reported_at: Option<i64>,
    /// The number of reports that were given up.
    pub given_up: u64,
    /// The time of the last one.
    pub given_up_at: Option<i64>,
    /// The last error, and its time.
    pub error: Option<(String, i64)>,
    /// The process that has the lease.
    pub holder: String,
    /// The end of the lease.
    pub leased_until: i64,
}

impl LeasedState for ReportState {
    fn key(tenant: &str, title: &str) -> ItemKey {
        keys::report_state(tenant, title)
    }

    fn leased_until(&self) -> i64 {
        self.leased_until
    }

    fn set_holder(&mut self, holder: String) {
        self.holder = holder;
    }

    fn set_end(&mut self, until: i64) {
        self.leased_until = until;
    }
}

/// The next state of a request whose report was attempted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommitmentStep {
    /// The report was taken or given up: the request is removed.
    Remove,
    /// The report is attempted again.
    Keep(WaitingCommitment),
}

/// The numbers of requests that wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WaitingCounts {
    /// Those of all peers of all tenants.
    pub all: usize,
    /// Those of the peer.
    pub of_peer: usize,
}

impl Index {
    /// Adds a request with its references. A request of the same peer with the same Transaction UID is
    /// replaced. Returns the version of the request; `None` if another process has changed it meanwhile.
    pub async fn add_commitment(
        &self,
        request: &mut WaitingCommitment,
        references: &[CommitmentReference],
    ) -> Result<Option<u64>, Error> {
        let key = request.key();
        let bytes = rows::encode(&key, &references)?;
        request.references.1 = bytes.chunks(MAX_PART_BYTES).len();
        if request.references.1 > MAX_PARTS {
            return Err(Error::TooLarge { size_bytes: bytes.len() });
        }
        let replaced: Option<(WaitingCommitment, u64)> = self.versioned(key.clone()).await?;
        let version = replaced.as_ref().map_or(0, |(_, version)| *version);
        let mut writes = vec![replacement(key, request, version)?];
        writes.extend(request.parts().zip(bytes.chunks(MAX_PART_BYTES)).map(|(key, part)| {
            Write::Put(Item { key, version: 1, secondary: Vec::new(), body: part.to_vec() }, Expect::Anything)
        }));
        writes.extend(replaced.iter().flat_map(|(old, _)| old.parts()).map(deletion));
        Ok(self.transact_if_current(writes).await?.then_some(version + 1))
    }

    /// The number of requests that wait, counted up to `limit`, and of those the ones of a peer.
    pub async fn count_commitments(
        &self,
        tenant: &str,
        peer: &str,
        limit: usize,
    ) -> Result<WaitingCounts, Error> {
        let prefix = keys::waiting_commitments_of(tenant, peer);
        let mut counts = WaitingCounts { all: 0, of_peer: 0 };
        let mut range = whole_partition(None, keys::WAITING_COMMITMENTS.into(), limit.max(1));
        loop {
            let page = self.table.sort_keys(&range).await?;
            counts.all += page.keys.len();
            counts.of_peer += page.keys.iter().filter(|key| key.starts_with(&prefix)).count();
            match page.keys.into_iter().next_back() {
                Some(last) if page.has_more && counts.all < limit => range.from = Bound::Excluded(last),
                _ => return Ok(counts),
            }
        }
    }

    /// The requests of all peers of all tenants, with their versions.
    pub async fn all_commitments(&self) -> Result<Vec<(WaitingCommitment, u64)>, Error> {
        self.commitments_in(whole_partition(None, keys::WAITING_COMMITMENTS.into(), PAGE_ROWS)).await
    }

    /// The requests of a tenant's peers, with their versions; only those of one peer, if one is named.
    pub async fn commitments(
        &self,
        tenant: &str,
        peer: Option<&str>,
    ) -> Result<Vec<(WaitingCommitment, u64)>, Error> {
        let prefix = match peer {
            Some(peer) => keys::waiting_commitments_of(tenant, peer),
            None => keys::waiting_commitments_of_tenant(tenant),
        };
        self.commitments_in(Range {
            // `$` follows `#`, with which a prefix ends.
            to: Bound::Excluded(format!("{}$", prefix.strip_suffix('#').unwrap_or(&prefix))),
            from: Bound::Included(prefix),
            ..whole_partition(None, keys::WAITING_COMMITMENTS.into(), PAGE_ROWS)
        })
        .await
    }

    async fn commitments_in(&self, mut range: Range) -> Result<Vec<(WaitingCommitment, u64)>, Error> {
        let mut found = Vec::new();
        loop {
            let page = self.table.range(&range).await?;
            for (_, item) in &page.items {
                match rows::decode(&item.key, &item.body) {
                    Ok(request) => found.push((request, item.version)),
                    // Others must not wait for it.
                    Err(error) => warn!("a request for storage commitment is damaged: {error}"),
                }
            }
            match page.items.into_iter().next_back() {
                Some((last, _)) if page.has_more => range.from = Bound::Excluded(last),
                _ => return Ok(found),
            }
        }
    }

    /// The present version of a request; `None` if the request was removed.
    pub async fn commitment_version(&self, request: &WaitingCommitment) -> Result<Option<u64>, Error> {
        let found: Option<(WaitingCommitment, u64)> = self.versioned(request.key()).await?;
        Ok(found.map(|(_, version)| version))
    }

    /// The references of a request; `None` if the request was removed or replaced meanwhile.
    pub async fn commitment_references(
        &self,
        request: &WaitingCommitment,
    ) -> Result<Option<Vec<CommitmentReference>>, Error> {
        let parts: Vec<ItemKey> = request.parts().collect();
        let items: Option<Vec<Item>> = self.table.get(&parts).await?.into_iter().collect();
        let Some(items) = items else { return Ok(None) };
        let bytes = items.into_iter().map(|item| item.body).collect::<Vec<_>>().concat();
        Ok(Some(rows::decode(&request.key(), &bytes)?))
    }

    /// Takes a step of a request, and sets the state of the reports to its peer. Returns whether both were
    /// still at these versions (0 for a state that did not exist); nothing is written if not.
    pub async fn step_commitment(
        &self,
        (request, version): (&WaitingCommitment, u64),
        step: &CommitmentStep,
        (state, state_version): (&ReportState, u64),
    ) -> Result<bool, Error> {
        let state_key = keys::report_state(&request.tenant, &request.peer);
        let mut writes = vec![replacement(state_key, state, state_version)?];
        match step {
            CommitmentStep::Remove => {
                writes.push(Write::Delete(request.key(), Expect::Version(version)));
                writes.extend(request.parts().map(deletion));
            }
            CommitmentStep::Keep(next) => writes.push(replacement(request.key(), next, version)?),
        }
        self.transact_if_current(writes).await
    }

    /// The states of the reports to all peers of a tenant, by AE title.
    pub async fn report_states(
        &self,
        tenant: &str,
        limit: usize,
    ) -> Result<Vec<(String, ReportState)>, Error> {
        let page = self.table.range(&whole_partition(None, keys::report_states(tenant), limit)).await?;
        let decoded = page.items.into_iter().map(|(title, item)| {
            let state = rows::decode(&item.key, &item.body)?;
            Ok((title.trim_end().to_owned(), state))
        });
        decoded.collect()
    }

    /// Copies the requests that wait into another index. Returns their number.
    pub async fn copy_commitments(&self, to: &Self) -> Result<usize, Error> {
        let mut copied = 0;
        for (mut request, _) in self.all_commitments().await? {
            let Some(references) = self.commitment_references(&request).await? else { continue };
            copied += usize::from(to.add_commitment(&mut request, &references).await?.is_some());
        }
        Ok(copied)
    }
}

fn deletion(key: ItemKey) -> Write {
    Write::Delete(key, Expect::Anything)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::engine_tests::{Engine, on_each_engine};

    on_each_engine! {
        a_request_waits_with_its_references_until_it_is_removed,
        a_request_with_the_same_transaction_replaces_the_earlier_one,
        requests_are_counted_and_listed_by_tenant_and_peer,
        a_step_needs_the_versions_that_were_read,
    }

    fn request(tenant: &str, peer: &str, transaction: &str) -> WaitingCommitment {
        WaitingCommitment::new(tenant, (peer, "CUSPID"), transaction, 1000)
    }

    fn references(count: usize) -> Vec<CommitmentReference> {
        (0..count).map(|number| ("1.2.840.10008.5.1.4.1.1.2".into(), format!("1.2.3.{number:060}"))).collect()
    }

    async fn add(index: &Index, request: &mut WaitingCommitment, count: usize) -> u64 {
        index.add_commitment(request, &references(count)).await.unwrap().unwrap()
    }

    async fn a_request_waits_with_its_references_until_it_is_removed(engine: Engine) {
        let index = Index::new(engine.table.clone());
        for count in [1, 9000] {
            let mut added = request("a", "CT1", "1.5");
            let version = add(&index, &mut added, count).await;
            assert_eq!(added.references.1, if count == 1 { 1 } else { 3 });
            assert_eq!(index.commitments("a", Some("CT1")).await.unwrap(), [(added.clone(), version)]);
            assert_eq!(index.commitment_references(&added).await.unwrap(), Some(references(count)));
            let state_version =
                index.leased::<ReportState>("a", "CT1").await.unwrap().map_or(0, |(_, at)| at);
            let state = ReportState { reported: 1, ..ReportState::default() };
            let step = (&added, version);
            assert!(
                index.step_commitment(step, &CommitmentStep::Remove, (&state, state_version)).await.unwrap()
            );
            assert_eq!(index.all_commitments().await.unwrap(), []);
            assert_eq!(index.commitment_references(&added).await.unwrap(), None);
            assert_eq!(index.commitment_version(&added).await.unwrap(), None);
            assert_eq!(index.report_states("a", 9).await.unwrap(), [("CT1".to_owned(), state)]);
        }
    }

    async fn a_request_with_the_same_transaction_replaces_the_earlier_one(engine: Engine) {
        let index = Index::new(engine.table);
        let (mut first, mut second) = (request("a", "CT1", "1.5"), request("a", "CT1", "1.5"));
        let version = add(&index, &mut first, 5000).await;
        assert_eq!(add(&index, &mut second, 2).await, version + 1);
        assert_eq!(index.commitments("a", None).await.unwrap(), [(second.clone(), version + 1)]);
        assert_eq!(index.commitment_references(&first).await.unwrap(), None);
        assert_eq!(index.commitment_references(&second).await.unwrap(), Some(references(2)));
        let state = ReportState::default();
        for step in [CommitmentStep::Remove, CommitmentStep::Keep(first.clone())] {
            assert!(!index.step_commitment((&first, version), &step, (&state, 0)).await.unwrap());
        }
        assert_eq!(index.commitments("a", None).await.unwrap().len(), 1);
    }

    async fn requests_are_counted_and_listed_by_tenant_and_peer(engine: Engine) {
        let index = Index::new(engine.table.clone());
        let long = "x".repeat(5000);
        let all = [("a", "CT"), ("a", "CT#1"), ("a", "CT1"), ("a-b", "CT"), ("b", "CT")];
        for (tenant, peer) in all {
            for transaction in ["1.5", "1.6", &long] {
                add(&index, &mut request(tenant, peer, transaction), 1).await;
            }
        }
        for (tenant, peer) in all {
            let counts = index.count_commitments(tenant, peer, 100).await.unwrap();
            assert_eq!(counts, WaitingCounts { all: 15, of_peer: 3 });
            let found = index.commitments(tenant, Some(peer)).await.unwrap();
            assert_eq!(found.len(), 3);
            assert!(
                found.iter().all(|(found, _)| (found.tenant.as_str(), found.peer.as_str()) == (tenant, peer))
            );
        }
        assert_eq!(index.commitments("a", None).await.unwrap().len(), 9);
        assert_eq!(index.commitments("c", None).await.unwrap(), []);
        assert_eq!(index.count_commitments("a", "CT", 4).await.unwrap().all, 4);
        let copy = Index::in_memory();
        assert_eq!(index.copy_commitments(&copy).await.unwrap(), 15);
        assert_eq!(copy.commitments("a", Some("CT#1")).await.unwrap().len(), 3);
    }

    async fn a_step_needs_the_versions_that_were_read(engine: Engine) {
        let index = Index::new(engine.table);
        let mut added = request("a", "CT1", "1.5");
        let version = add(&index, &mut added, 1).await;
        let next = WaitingCommitment { attempts: 1, ..added.clone() };
        let state = ReportState { error: Some(("away".into(), 7)), ..ReportState::default() };
        let keep = CommitmentStep::Keep(next.clone());
        assert!(!index.step_commitment((&added, version), &keep, (&state, 3)).await.unwrap());
        assert!(index.step_commitment((&added, version), &keep, (&state, 0)).await.unwrap());
        assert!(!index.step_commitment((&added, version), &keep, (&state, 1)).await.unwrap());
        assert_eq!(index.commitments("a", None).await.unwrap(), [(next.clone(), version + 1)]);
        assert_eq!(index.commitment_references(&next).await.unwrap(), Some(references(1)));
    }
}
