//! The verification of a tenant's log: every record, the links of each chain, and its head.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::ops::Bound;

use serde::{Deserialize, Serialize};

use crate::audit::chain::{heads, hex, with_prefix};
use crate::audit::keys::{self, AuditPlace, SWEPT_PREFIX};
use crate::audit::listing::AuditQuery;
use crate::audit::record::{AuditRecord, ChainHead, SweptBefore, SweptEnd};
use crate::audit::seal::{SealFault, SealUse, parts};
use crate::audit::{AuditLog, Error};
use crate::table::{Item, Range};

/// The records that are read at a time.
const PAGE_RECORDS: usize = 500;
/// The most faults that are listed.
const MAX_FAULTS: usize = 1000;

/// A fault of a log.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum AuditFault {
    /// A record was changed.
    RecordChanged(AuditPlace),
    /// A record is at another place, or in the log of another tenant, than the one where it was written.
    RecordMoved(AuditPlace),
    /// Records of a chain are missing, from the first number to the last.
    RecordsMissing(String, u64, u64),
    /// A record does not follow the one before it: one of the two was replaced.
    LinkBroken(AuditPlace),
    /// The head of a chain was changed.
    HeadChanged(String),
    /// A chain that has records, or that another chain names, has no head.
    HeadMissing(String),
    /// The head names another last record than there is.
    HeadDiffers(String),
    /// The head is older than the last record: it was restored.
    HeadOld(String),
    /// The chain was written with another `audit.hash_key`.
    OtherKey(String),
    /// A mark of what was swept was changed.
    MarkChanged(String),
}

impl fmt::Display for AuditFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RecordChanged(place) => write!(f, "{} was changed", named(place)),
            Self::RecordMoved(place) => write!(f, "{} is not where it was written", named(place)),
            Self::RecordsMissing(chain, first, last) if first == last => {
                write!(f, "record {first} of chain {chain} is missing")
            }
            Self::RecordsMissing(chain, first, last) => {
                write!(f, "records {first} to {last} of chain {chain} are missing")
            }
            Self::LinkBroken(place) => {
                write!(
                    f,
                    "{} does not follow the record before it: one of the two was replaced",
                    named(place)
                )
            }
            Self::HeadChanged(chain) => write!(f, "the head of chain {chain} was changed"),
            Self::HeadMissing(chain) => write!(f, "the head of chain {chain} is missing"),
            Self::HeadDiffers(chain) => {
                write!(f, "the head of chain {chain} names another last record than there is")
            }
            Self::HeadOld(chain) => {
                write!(f, "the head of chain {chain} is older than its last record: it was restored")
            }
            Self::OtherKey(chain) => write!(
                f,
                "chain {chain} was written with another key (audit.hash_key) and cannot be verified with this one"
            ),
            Self::MarkChanged(mark) => write!(f, "the mark {mark} of what was swept was changed"),
        }
    }
}

fn named(place: &AuditPlace) -> String {
    format!("record {} of chain {} (day {})", place.number, place.chain, keys::day(place.at))
}

/// The result of a verification.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditVerification {
    /// The number of records.
    pub records: u64,
    /// The number of chains.
    pub chains: usize,
    /// The faults, at most 1000.
    pub faults: Vec<AuditFault>,
    /// The last record of each chain.
    pub heads: BTreeMap<String, AuditHead>,
}

/// The last record of a chain. Kept elsewhere, it proves that no later verification is of a log that was cut
/// before it, or written anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditHead {
    /// The number of the record.
    pub number: u64,
    /// The hash of the record.
    pub hash: String,
    /// The time of the record, in milliseconds since 1970 UTC.
    pub at: i64,
}

impl AuditVerification {
    fn add(&mut self, fault: AuditFault) {
        if self.faults.len() < MAX_FAULTS {
            self.faults.push(fault);
        }
    }
}

/// The state of a chain during a verification.
struct ChainWalk {
    /// The number of the last record that was seen.
    number: u64,
    /// The hash that the next record must hold; `None` if it is not known.
    hash: Option<String>,
}

impl AuditLog {
    /// Verifies the log of a tenant. Records that are written meanwhile are verified or not.
    ///
    /// `kept` are the heads of an earlier verification that were kept elsewhere.
    pub async fn verify(
        &self,
        tenant: &str,
        kept: &BTreeMap<String, AuditHead>,
    ) -> Result<AuditVerification, Error> {
        let mut found = AuditVerification::default();
        let heads = self.read_heads(tenant, &mut found).await?;
        let swept_before = self.read_swept_before(tenant, &mut found).await?;
        let mut walks = self.begin_walks(tenant, &heads, &mut found).await?;
        // Hashes that other chains, or the reader, name.
        let links = heads.values().flat_map(|head| &head.beginning.links);
        let links = links.map(|link| (&link.chain, link.number, &link.hash, link.at));
        let kept = kept.iter().map(|(chain, head)| (chain, head.number, &head.hash, head.at));
        let mut named: HashMap<(String, u64), String> = links
            .chain(kept)
            .filter(|(_, number, _, at)| *number > 0 && *at >= swept_before)
            .map(|(chain, number, hash, _)| ((chain.clone(), number), hash.clone()))
            .collect();
        for day in self.days(tenant, &AuditQuery::default()).await? {
            self.walk_day(tenant, &day, &mut walks, &mut named, &mut found).await?;
        }
        let heads_now = self.read_heads(tenant, &mut AuditVerification::default()).await?;
        for (chain, walk) in &walks {
            end_walk(chain, walk, heads.get(chain), heads_now.get(chain), &mut found);
        }
        // A number up to the end of what was swept has no record any more.
        for ((chain, number), _) in named {
            match walks.get(&chain) {
                Some(walk) if walk.number >= number => {}
                Some(walk) => found.add(AuditFault::RecordsMissing(chain, walk.number + 1, number)),
                None => found.add(AuditFault::HeadMissing(chain)),
            }
        }
        found.chains = walks.len();
        let last = |head: ChainHead| AuditHead { number: head.last, hash: head.last_hash, at: head.last_at };
        found.heads = heads.into_iter().map(|(chain, head)| (chain, last(head))).collect();
        found.faults.sort();
        found.faults.dedup();
        Ok(found)
    }

    async fn read_heads(
        &self,
        tenant: &str,
        found: &mut AuditVerification,
    ) -> Result<BTreeMap<String, ChainHead>, Error> {
        let mut read = BTreeMap::new();
        for item in heads(self.context.table.as_ref(), tenant).await? {
            let name = item.key.sort.trim_start_matches(keys::HEAD_PREFIX).to_owned();
            match ChainHead::of_item(&self.context.sealer, &item) {
                Ok(head) if head.key() == item.key => {
                    read.insert(name, head);
                }
                Err(SealFault::Changed) if self.has_other_key(&item) => found.add(AuditFault::OtherKey(name)),
                _ => found.add(AuditFault::HeadChanged(name)),
            }
        }
        Ok(read)
    }

    /// Whether a head says that it was written with another key.
    fn has_other_key(&self, item: &Item) -> bool {
        let json = parts(&item.body).map(|(_, json)| json).unwrap_or_default();
        let head = serde_json::from_slice::<ChainHead>(json);
        head.is_ok_and(|head| head.beginning.key_id != self.context.sealer.key_id())
    }

    async fn read_swept_before(&self, tenant: &str, found: &mut AuditVerification) -> Result<i64, Error> {
        let key = keys::swept_before(tenant);
        let Some(item) = self.context.table.get(std::slice::from_ref(&key)).await?.pop().flatten() else {
            return Ok(0);
        };
        match self.context.sealer.open::<SweptBefore>(SealUse::Mark, &item.body) {
            Ok((mark, _)) if mark.tenant == tenant => Ok(mark.at),
            _ => {
                found.add(AuditFault::MarkChanged(key.sort));
                Ok(0)
            }
        }
    }

    /// The chains, each before its first record that was not swept.
    async fn begin_walks(
        &self,
        tenant: &str,
        heads: &BTreeMap<String, ChainHead>,
        found: &mut AuditVerification,
    ) -> Result<BTreeMap<String, ChainWalk>, Error> {
        let begin = |head: &ChainHead| ChainWalk {
            number: 0,
            hash: Some(hex(head.beginning.hash(&self.context.sealer))),
        };
        let mut walks: BTreeMap<String, ChainWalk> =
            heads.iter().map(|(chain, head)| (chain.clone(), begin(head))).collect();
        for item in with_prefix(self.context.table.as_ref(), keys::root(tenant), SWEPT_PREFIX).await? {
            let chain = item.key.sort.trim_start_matches(SWEPT_PREFIX).to_owned();
            match self.context.sealer.open::<SweptEnd>(SealUse::Mark, &item.body) {
                Ok((end, _)) if end.tenant == tenant && end.chain == chain => {
                    walks.insert(chain, ChainWalk { number: end.number, hash: Some(end.hash) });
                }
                _ => found.add(AuditFault::MarkChanged(item.key.sort)),
            }
        }
        Ok(walks)
    }

    /// Verifies the records of a day.
    async fn walk_day(
        &self,
        tenant: &str,
        day: &str,
        walks: &mut BTreeMap<String, ChainWalk>,
        named: &mut HashMap<(String, u64), String>,
        found: &mut AuditVerification,
    ) -> Result<(), Error> {
        let (from, to) = (Bound::Unbounded, Bound::Unbounded);
        let partition = keys::records(tenant, day);
        let mut range = Range { index: None, partition, from, to, is_descending: false, limit: PAGE_RECORDS };
        loop {
            let page = self.context.table.range(&range).await?;
            for (_, item) in &page.items {
                self.walk_record(tenant, item, walks, named, found);
            }
            match page.items.last() {
                Some((last, _)) if page.has_more => range.from = Bound::Excluded(last.clone()),
                _ => return Ok(()),
            }
        }
    }

    fn walk_record(
        &self,
        tenant: &str,
        item: &Item,
        walks: &mut BTreeMap<String, ChainWalk>,
        named: &mut HashMap<(String, u64), String>,
        found: &mut AuditVerification,
    ) {
        found.records += 1;
        let Some(place) = AuditPlace::of_sort(&item.key.sort) else {
            let unknown = AuditPlace { at: 0, chain: item.key.sort.clone(), number: 0 };
            return found.add(AuditFault::RecordMoved(unknown));
        };
        let (chain, number) = (place.chain.clone(), place.number);
        let walk = walks.entry(chain.clone()).or_insert(ChainWalk { number: 0, hash: None });
        let opened = self.context.sealer.open::<AuditRecord>(SealUse::Record, &item.body);
        if number <= walk.number {
            return found.add(AuditFault::RecordMoved(place));
        }
        if number > walk.number + 1 {
            found.add(AuditFault::RecordsMissing(chain.clone(), walk.number + 1, number - 1));
            walk.hash = None;
        }
        walk.number = number;
        let Ok((record, hash)) = opened else {
            walk.hash = None;
            // The chain may be of another key, which its head says once.
            if !found.faults.contains(&AuditFault::OtherKey(chain)) {
                found.add(AuditFault::RecordChanged(place));
            }
            return;
        };
        if keys::record(&record.tenant, &record.place()) != item.key || record.tenant != tenant {
            found.add(AuditFault::RecordMoved(place.clone()));
        } else if walk.hash.as_ref().is_some_and(|expected| *expected != record.previous) {
            found.add(AuditFault::LinkBroken(place.clone()));
        }
        let hash = hex(hash);
        if named.remove(&(chain, number)).is_some_and(|expected| expected != hash) {
            found.add(AuditFault::LinkBroken(place));
        }
        walk.hash = Some(hash);
    }
}

/// Compares the end of a chain with its head, before the verification and after.
fn end_walk(
    chain: &str,
    walk: &ChainWalk,
    before: Option<&ChainHead>,
    now: Option<&ChainHead>,
    found: &mut AuditVerification,
) {
    let name = || chain.to_owned();
    // A chain with another key, or a changed head, has a fault already.
    let has_fault = found
        .faults
        .iter()
        .any(|fault| matches!(fault, AuditFault::OtherKey(of) | AuditFault::HeadChanged(of) if of == chain));
    let Some(now) = now else {
        if !has_fault {
            found.add(AuditFault::HeadMissing(name()));
        }
        return;
    };
    if let Some(before) = before {
        if walk.number < before.last {
            found.add(AuditFault::RecordsMissing(name(), walk.number + 1, before.last));
        } else if walk.number == before.last
            && walk.hash.as_ref().is_some_and(|hash| *hash != before.last_hash)
        {
            found.add(AuditFault::HeadDiffers(name()));
        }
    }
    if walk.number > now.last {
        found.add(AuditFault::HeadOld(name()));
    }
}
