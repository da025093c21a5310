//! Section `[sharing]`: shares, their links, and signed URLs.

use anyhow::ensure;
use serde::Deserialize;

/// The longest signed URL, in seconds: a key signs for at least a day.
const MAX_SIGNED_URL_SECONDS: u64 = 24 * 60 * 60;

/// Section `[sharing]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config.default.toml describes each setting")]
pub struct SharingSettings {
    pub default_days: u64,
    pub max_days: u64,
    pub max_shares: usize,
    pub max_instances: usize,
    pub max_note_characters: usize,
    pub session_minutes: u64,
    pub min_code_characters: usize,
    pub code_tries_per_minute: u32,
    pub max_wrong_codes: u32,
    pub patient_name: SharedName,
    pub signed_url_seconds: u64,
    pub max_signed_url_seconds: u64,
    pub max_signed_urls: usize,
    pub signing_key_days: u64,
}

/// The part of a patient's name on the page of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SharedName {
    /// The whole name.
    Full,
    /// The first character of each part of the name.
    Initials,
    /// Nothing.
    None,
}

impl SharingSettings {
    /// The settings that cannot be 0, with their values.
    pub(super) fn at_least_one(&self) -> [(&'static str, u64); 11] {
        [
            ("sharing.default_days", self.default_days),
            ("sharing.max_days", self.max_days),
            ("sharing.max_shares", self.max_shares as u64),
            ("sharing.max_instances", self.max_instances as u64),
            ("sharing.session_minutes", self.session_minutes),
            ("sharing.min_code_characters", self.min_code_characters as u64),
            ("sharing.code_tries_per_minute", self.code_tries_per_minute.into()),
            ("sharing.max_wrong_codes", self.max_wrong_codes.into()),
            ("sharing.signed_url_seconds", self.signed_url_seconds),
            ("sharing.max_signed_urls", self.max_signed_urls as u64),
            ("sharing.signing_key_days", self.signing_key_days),
        ]
    }

    pub(super) fn validate(&self) -> anyhow::Result<()> {
        ensure!(
            self.default_days <= self.max_days,
            "sharing.default_days cannot be more than sharing.max_days"
        );
        // A record of a share must fit into one row of the index.
        ensure!(self.max_instances <= 2000, "sharing.max_instances cannot be more than 2000");
        ensure!(self.max_note_characters <= 10_000, "sharing.max_note_characters cannot be more than 10000");
        let most = self.max_signed_url_seconds;
        ensure!(
            (self.signed_url_seconds..=MAX_SIGNED_URL_SECONDS).contains(&most),
            "sharing.max_signed_url_seconds cannot be {most}: it is sharing.signed_url_seconds to {MAX_SIGNED_URL_SECONDS}"
        );
        // What was signed at the end of a period is valid in the next one.
        ensure!(
            self.session_minutes <= self.signing_key_days.saturating_mul(24 * 60),
            "sharing.session_minutes cannot be longer than sharing.signing_key_days"
        );
        Ok(())
    }
}
