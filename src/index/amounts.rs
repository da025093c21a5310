//! Amounts of data: the figures of usage, as the transactions that store and delete write them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// An amount of data. Bytes are those of the originals.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(u64, u64, u64)", into = "(u64, u64, u64)")]
pub struct Amount {
    /// The number of studies.
    pub studies: u64,
    /// The number of instances.
    pub instances: u64,
    /// The number of bytes.
    pub bytes: u64,
}

impl Amount {
    /// Adds an amount.
    pub fn add(&mut self, other: Self) {
        self.studies += other.studies;
        self.instances += other.instances;
        self.bytes += other.bytes;
    }

    /// Subtracts an amount; what would be below 0 becomes 0.
    pub fn subtract(&mut self, other: Self) {
        self.studies = self.studies.saturating_sub(other.studies);
        self.instances = self.instances.saturating_sub(other.instances);
        self.bytes = self.bytes.saturating_sub(other.bytes);
    }
}

impl From<(u64, u64, u64)> for Amount {
    fn from((studies, instances, bytes): (u64, u64, u64)) -> Self {
        Self { studies, instances, bytes }
    }
}

impl From<Amount> for (u64, u64, u64) {
    fn from(Amount { studies, instances, bytes }: Amount) -> Self {
        (studies, instances, bytes)
    }
}

/// The amounts that were stored and deleted. A replaced instance counts as deleted, and the one in its place
/// as stored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turnover {
    /// The amount that was stored.
    #[serde(rename = "s", default)]
    pub stored: Amount,
    /// The amount that was deleted.
    #[serde(rename = "d", default)]
    pub deleted: Amount,
}

impl Turnover {
    /// Adds other amounts.
    pub(crate) fn add(&mut self, other: Self) {
        self.stored.add(other.stored);
        self.deleted.add(other.deleted);
    }
}

/// The turnover of some days, by their dates in UTC (`2026-11-30`).
pub(crate) type DailyTurnover = BTreeMap<String, Turnover>;
