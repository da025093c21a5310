//! The results of a check or a reindexing.

use std::fmt;

use crate::archive::Error;
use crate::blobs::Key;
use crate::index;

/// A fault that a check or a reindexing found. No patient data: UIDs and keys only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// An instance is in the index, but its object is not in the store.
    Missing(Key),
    /// An object differs from what was stored, in its size or its digest.
    Damaged(Key),
    /// An object that no record refers to: it remained after a crash or a replacement.
    Orphan(Key),
    /// Counts in the record of a study or series are not those of its instances.
    WrongCount(String),
    /// A counter of a tenant's studies by day is not the number of those studies.
    WrongDayCount(String),
    /// A tenant whose studies are not counted by day, because some were stored by an older version.
    Uncounted(String),
    /// The amount that a tenant has stored is not that of its studies.
    WrongUsage(String),
    /// A tenant whose stored amount is not counted, because an older version has stored some of it.
    UncountedUsage(String),
    /// An object that cannot be indexed, and the reason.
    Unreadable(Key, String),
    /// An object whose name is not that of an original.
    Unnamed(Key),
    /// Another object, newer than this one, is stored under the same SOP Instance UID.
    Superseded(Key),
    /// A row of the index that cannot be read, by its key.
    UnreadableRow(String),
    /// A study that has instances and that no search finds: its row, or its place in the list of studies, is
    /// lost.
    Unlisted(String),
}

impl Finding {
    /// Whether a repair leaves the fault as it is.
    pub fn is_left(&self) -> bool {
        match self {
            Self::Missing(_)
            | Self::Orphan(_)
            | Self::Superseded(_)
            | Self::WrongDayCount(_)
            | Self::Uncounted(_)
            | Self::WrongUsage(_)
            | Self::UncountedUsage(_) => false,
            Self::Damaged(_)
            | Self::WrongCount(_)
            | Self::Unreadable(..)
            | Self::Unnamed(_)
            | Self::UnreadableRow(_)
            | Self::Unlisted(_) => true,
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(key) => write!(f, "missing: {key}"),
            Self::Damaged(key) => write!(f, "damaged: {key}"),
            Self::Orphan(key) => write!(f, "orphan: {key}"),
            Self::WrongCount(what) => write!(f, "wrong count: {what}"),
            Self::WrongDayCount(what) => write!(f, "wrong count of studies: {what}"),
            Self::Uncounted(tenant) => write!(f, "studies that are not counted by day: {tenant}"),
            Self::WrongUsage(tenant) => write!(f, "wrong usage: {tenant}"),
            Self::UncountedUsage(tenant) => write!(f, "usage that is not counted: {tenant}"),
            Self::Unreadable(key, reason) => write!(f, "cannot be indexed: {key}: {reason}"),
            Self::Unnamed(key) => write!(f, "cannot be indexed: {key}: its name is not that of an original"),
            Self::Superseded(key) => write!(f, "superseded: {key}"),
            Self::UnreadableRow(key) => write!(f, "unreadable row: {key}"),
            Self::Unlisted(study) => write!(f, "unlisted: {study}"),
        }
    }
}

/// The counts and findings of a check or a reindexing.
#[derive(Debug, Default)]
pub struct Report {
    /// Instances without a fault, or instances that were indexed.
    pub instances: u64,
    /// Bytes of their objects.
    pub bytes: u64,
    /// Recent objects: no record refers to them and they were written in the last hour, so that another
    /// process may be about to commit them.
    pub recent: u64,
    /// Studies, and days, whose counts could not be checked, because they changed all the time.
    pub uncounted: u64,
    /// All faults that were found.
    pub findings: Vec<Finding>,
}

impl Report {
    /// The records of the rows that can be read; the other rows become findings.
    pub(super) fn readable<R>(&mut self, rows: Vec<Result<R, index::Error>>) -> Result<Vec<R>, Error> {
        let mut records = Vec::with_capacity(rows.len());
        for row in rows {
            match row {
                Ok(record) => records.push(record),
                Err(index::Error::Record { what, .. }) => self.findings.push(Finding::UnreadableRow(what)),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(records)
    }

    /// Adds what another part of the archive came to.
    pub(super) fn add(&mut self, other: Self) {
        self.instances += other.instances;
        self.bytes += other.bytes;
        self.recent += other.recent;
        self.uncounted += other.uncounted;
        self.findings.extend(other.findings);
    }
}
