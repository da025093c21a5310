//! Records of the audit log, and the chains that they are in.
//!
//! A process that writes begins a chain of its own for each tenant. A record holds its number in the chain
//! and the hash of the record before it; the first record holds the hash of the chain's beginning, which
//! names the last records of older chains. The head of a chain is written in the transaction that writes a
//! record.

use serde::{Deserialize, Serialize};

use crate::audit::event::AuditEntry;
use crate::audit::keys::{self, AuditPlace};
use crate::audit::seal::{SealFault, SealHash, SealUse, Sealer};
use crate::table::{Item, ItemKey};

/// A record, as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditRecord {
    /// The chain.
    pub chain: String,
    /// The number in the chain, from 1.
    pub number: u64,
    /// The hash of the record before, or of the chain's beginning.
    pub previous: String,
    /// The time, in milliseconds since 1970 UTC; it never decreases within a chain.
    pub time: i64,
    /// The tenant.
    pub tenant: String,
    /// The name of the server that wrote the record (AuditSourceID).
    pub source: String,
    /// The event.
    #[serde(flatten)]
    pub entry: AuditEntry,
}

impl AuditRecord {
    /// The place of the record.
    pub fn place(&self) -> AuditPlace {
        AuditPlace { at: self.time, chain: self.chain.clone(), number: self.number }
    }

    /// The item of the record, with its hash.
    pub(super) fn item(&self, sealer: &Sealer) -> (Item, SealHash) {
        let (body, hash) = sealer.seal(SealUse::Record, self);
        let place = self.place();
        let secondary = keys::secondary(&self.tenant, &place, &self.entry);
        (Item { key: keys::record(&self.tenant, &place), version: 1, secondary, body }, hash)
    }
}

/// The last record of an older chain when a chain began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ChainLink {
    /// The older chain.
    pub(super) chain: String,
    /// The number of its last record.
    pub(super) number: u64,
    /// The hash of that record.
    pub(super) hash: String,
    /// The time of that record.
    pub(super) at: i64,
}

/// The beginning of a chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ChainBeginning {
    /// The tenant.
    pub(super) tenant: String,
    /// The chain: a random number.
    pub(super) chain: String,
    /// The time, in milliseconds since 1970 UTC.
    pub(super) started_at: i64,
    /// The name of the key of the hashes; empty without one.
    pub(super) key_id: String,
    /// Older chains.
    pub(super) links: Vec<ChainLink>,
}

impl ChainBeginning {
    /// The hash that the first record holds.
    pub(super) fn hash(&self, sealer: &Sealer) -> SealHash {
        sealer.seal(SealUse::Beginning, self).1
    }
}

/// The head of a chain: its beginning and its last record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ChainHead {
    /// The beginning.
    pub(super) beginning: ChainBeginning,
    /// The number of the last record; 0 before the first.
    pub(super) last: u64,
    /// The hash of the last record, or of the beginning.
    pub(super) last_hash: String,
    /// The time of the last record.
    pub(super) last_at: i64,
}

impl ChainHead {
    /// The key of the head.
    pub(super) fn key(&self) -> ItemKey {
        keys::head(&self.beginning.tenant, &self.beginning.chain)
    }

    /// The head as an item of a version.
    pub(super) fn item(&self, sealer: &Sealer, version: u64) -> Item {
        let (body, _) = sealer.seal(SealUse::Head, self);
        Item { key: self.key(), version, secondary: Vec::new(), body }
    }

    /// The head in an item.
    pub(super) fn of_item(sealer: &Sealer, item: &Item) -> Result<Self, SealFault> {
        sealer.open(SealUse::Head, &item.body).map(|(head, _)| head)
    }
}

/// The end of what was swept from a chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SweptEnd {
    /// The tenant.
    pub(super) tenant: String,
    /// The chain.
    pub(super) chain: String,
    /// The number of the last record that was swept.
    pub(super) number: u64,
    /// The hash of that record.
    pub(super) hash: String,
}

/// The time before which records were swept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SweptBefore {
    /// The tenant.
    pub(super) tenant: String,
    /// The time, in milliseconds since 1970 UTC.
    pub(super) at: i64,
}
