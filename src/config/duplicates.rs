//! The policy for duplicates.

use serde::Deserialize;

/// The policy for an instance whose SOP Instance UID is stored with other bytes (setting
/// `ingest.duplicates`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Duplicates {
    /// Refuse the new instance.
    Reject,
    /// Replace the stored instance.
    Replace,
}
