//! Section `[s3]`: objects in S3 or in a service that speaks its protocol.

use anyhow::ensure;
use serde::Deserialize;

use crate::config::{BucketNames, StorageClasses};

/// Section `[s3]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config.default.toml describes each setting")]
pub struct S3Settings {
    pub bucket: BucketNames,
    pub region: String,
    pub endpoint: String,
    pub path_style: bool,
    pub encryption: Encryption,
    pub kms_key: String,
    pub storage_classes: StorageClasses,
    pub checksum: Checksum,
    pub part_bytes: u64,
    pub part_concurrency: usize,
    pub stage_memory_bytes: usize,
    pub max_requests: usize,
    pub max_attempts: u32,
    pub connect_timeout_seconds: u64,
    pub read_timeout_seconds: u64,
    pub upload_timeout_seconds: u64,
    pub operation_timeout_seconds: u64,
    pub cache_max_bytes: u64,
    pub max_ahead_bytes: u64,
}

impl S3Settings {
    /// The minimum size of a part of an upload, except the last one: a limit of S3.
    const MIN_PART_BYTES: u64 = 5 * 1024 * 1024;
    /// The maximum size of an object or a part that is sent in one request: a limit of S3.
    const MAX_PART_BYTES: u64 = 5 * 1024 * 1024 * 1024;

    pub(super) fn validate(&self) -> anyhow::Result<()> {
        ensure!(!self.bucket.is_empty(), "s3.bucket is empty, but storage.blobs is `s3`");
        let at_least_one = [
            ("s3.part_concurrency", self.part_concurrency as u64),
            ("s3.max_requests", self.max_requests as u64),
            ("s3.max_attempts", self.max_attempts.into()),
            ("s3.connect_timeout_seconds", self.connect_timeout_seconds),
            ("s3.read_timeout_seconds", self.read_timeout_seconds),
            ("s3.upload_timeout_seconds", self.upload_timeout_seconds),
            ("s3.operation_timeout_seconds", self.operation_timeout_seconds),
        ];
        for (name, value) in at_least_one {
            ensure!(value > 0, "{name} cannot be 0");
        }
        let (part_bytes, most) = (self.part_bytes, Self::MAX_PART_BYTES);
        ensure!(
            (Self::MIN_PART_BYTES..=most).contains(&part_bytes),
            "s3.part_bytes cannot be {part_bytes}: it is {} to {most}",
            Self::MIN_PART_BYTES
        );
        let stage_bytes = self.stage_memory_bytes;
        ensure!(
            stage_bytes as u64 <= part_bytes,
            "s3.stage_memory_bytes cannot be {stage_bytes}: it is at most s3.part_bytes"
        );
        ensure!(
            self.kms_key.is_empty() || self.encryption == Encryption::Kms,
            "s3.kms_key is set, but s3.encryption is not `kms`"
        );
        let endpoint = &self.endpoint;
        let is_url =
            endpoint.is_empty() || ["http://", "https://"].iter().any(|scheme| endpoint.starts_with(scheme));
        ensure!(is_url, "s3.endpoint cannot be `{endpoint}`: it begins with http:// or https://");
        Ok(())
    }
}

/// The server-side encryption of objects (setting `s3.encryption`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encryption {
    /// The default of the bucket.
    Bucket,
    /// Keys of S3.
    S3,
    /// A key of the key management service.
    Kms,
}

/// The checksum that is sent with an object, for the store to compare (setting `s3.checksum`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Checksum {
    /// CRC-32.
    Crc32,
    /// SHA-256.
    Sha256,
}
