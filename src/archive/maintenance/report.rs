//! The results of a check or a reindexing.

use std::fmt;

use crate::archive::Error;
use crate::blobs::Key;
use crate::index;

/// Something that is not as it should be. No patient data: UIDs and keys only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// An instance is in the index, its object is not in the store.
    Missing(Key),
    /// An object is not what was stored: its size or its digest differs.
    Damaged(Key),
    /// An object that nothing refers to: left by a crash, or by a replacement.
    Orphan(Key),
    /// Counts in the record of a study or series are not those of its instances.
    WrongCount(String),
    /// An object that cannot be indexed, and why.
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
            Self::Missing(_) | Self::Orphan(_) | Self::Superseded(_) => false,
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
            Self::Unreadable(key, reason) => write!(f, "cannot be indexed: {key}: {reason}"),
            Self::Unnamed(key) => write!(f, "cannot be indexed: {key}: its name is not that of an original"),
            Self::Superseded(key) => write!(f, "superseded: {key}"),
            Self::UnreadableRow(key) => write!(f, "unreadable row: {key}"),
            Self::Unlisted(study) => write!(f, "unlisted: {study}"),
        }
    }
}

/// What a check or a reindexing went through.
#[derive(Debug, Default)]
pub struct Report {
    /// Instances that are as they should be, or that were indexed.
    pub instances: u64,
    /// Bytes of their objects.
    pub bytes: u64,
    /// Objects that nothing refers to and that were written in the last hour: another process may be about to
    /// commit them.
    pub recent: u64,
    /// Studies whose counts could not be told, because they changed all the time.
    pub uncounted: u64,
    /// All that is not as it should be.
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
