//! The moment at which an instance comes to exist.

/// What to do with different bytes under a stored SOP Instance UID (setting `ingest.duplicates`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Duplicates {
    /// Refuse them.
    Reject,
    /// Let them take the place of the first.
    Replace,
}

/// What a commit came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Commit {
    /// The instance is stored.
    Stored,
    /// These very bytes were stored before; nothing changed.
    Same,
    /// It took the place of other bytes, those with this digest.
    Replaced {
        /// The digest of the bytes replaced.
        digest: String,
    },
    /// Other bytes are stored under its UID; nothing changed.
    Different,
    /// Its UID is stored in another study or series; nothing changed.
    Elsewhere,
}
