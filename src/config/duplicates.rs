//! The policy for duplicates.

use serde::Deserialize;

/// The policy for different bytes under a stored SOP Instance UID (setting `ingest.duplicates`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Duplicates {
    /// Refuse them.
    Reject,
    /// Let them take the place of the first.
    Replace,
}
