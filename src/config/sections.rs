//! The sections of the settings: types that mirror `config.default.toml`, and what those with many rules refuse.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use anyhow::ensure;
use serde::Deserialize;

use crate::blobs::s3::{BucketNames, Checksum, Encryption, StorageClasses};
use crate::dimse::tenants::TenantRule;
use crate::index::Duplicates;

/// Clocks that differ by more than this are to be set, not to be allowed for.
const MAX_LEEWAY_SECONDS: u64 = 600;

/// Section `[storage]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config.default.toml describes each setting")]
pub struct Storage {
    pub blobs: BlobStore,
    pub table: TableEngine,
    pub data: PathBuf,
    pub index_cache_mib: usize,
}

/// Where objects are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BlobStore {
    /// In files on this machine.
    Fs,
    /// In S3 or what speaks its protocol.
    S3,
}

/// Where the index is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TableEngine {
    /// In a file on this machine.
    Redb,
    /// In DynamoDB or what speaks its protocol.
    Dynamodb,
}

/// Section `[s3]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config.default.toml describes each setting")]
pub struct S3 {
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
}

impl S3 {
    /// Parts of an upload, but for the last one, are not smaller: S3's own limit.
    const MIN_PART_BYTES: u64 = 5 * 1024 * 1024;
    /// An object that is sent in one request, as one part is, is not larger: S3's own limit.
    const MAX_PART_BYTES: u64 = 5 * 1024 * 1024 * 1024;

    pub(super) fn refuse_unusable(&self) -> anyhow::Result<()> {
        ensure!(!self.bucket.are_unset(), "s3.bucket is not set, and storage.blobs is `s3`");
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
            "s3.kms_key is set, and s3.encryption is not `kms`"
        );
        let endpoint = &self.endpoint;
        let is_url =
            endpoint.is_empty() || ["http://", "https://"].iter().any(|scheme| endpoint.starts_with(scheme));
        ensure!(is_url, "s3.endpoint cannot be `{endpoint}`: it begins with http:// or https://");
        Ok(())
    }
}

/// Section `[dynamodb]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config.default.toml describes each setting")]
pub struct Dynamodb {
    pub table: String,
    pub region: String,
    pub endpoint: String,
    pub max_requests: usize,
    pub connect_timeout_seconds: u64,
    pub request_timeout_seconds: u64,
    pub max_attempts: u32,
    pub retry_seconds: u64,
}

/// Section `[http]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config.default.toml describes each setting")]
pub struct Http {
    pub listen: SocketAddr,
    pub public_url: String,
    pub allowed_origins: Vec<String>,
    pub allow_delete: bool,
    pub max_zip_instances: usize,
    pub max_connections: usize,
    pub max_requests_per_client: usize,
    pub idle_timeout_seconds: u64,
    pub shutdown_timeout_seconds: u64,
}

/// Section `[auth]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config.default.toml describes each setting")]
pub struct Auth {
    pub issuer: String,
    pub allow_anonymous: bool,
    pub audiences: Vec<String>,
    pub tenant_claim: String,
    pub roles_claim: String,
    pub read_roles: Vec<String>,
    pub write_roles: Vec<String>,
    pub delete_roles: Vec<String>,
    pub administer_roles: Vec<String>,
    pub algorithms: Vec<SigningAlgorithm>,
    pub leeway_seconds: u64,
    pub max_token_bytes: usize,
    pub refresh_seconds: u64,
    pub min_refresh_seconds: u64,
    pub timeout_seconds: u64,
    pub max_answer_bytes: usize,
    pub client_id: String,
    pub scope: String,
}

/// How a token may be signed (RFC 7518 §3.1, RFC 8037). Only with a private key: `none` and the symmetric ones, by which whoever
/// knows the public key could sign, have no place here and so in no setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[expect(missing_docs, reason = "the standard's names")]
pub enum SigningAlgorithm {
    RS256,
    RS384,
    RS512,
    PS256,
    PS384,
    PS512,
    ES256,
    ES384,
    EdDSA,
}

/// Section `[viewer]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config.default.toml describes each setting")]
pub struct Viewer {
    pub directory: PathBuf,
}

/// Section `[dimse]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config.default.toml describes each setting")]
pub struct Dimse {
    pub listen: String,
    pub ae_title: String,
    pub accept_called: Vec<String>,
    pub accept_calling: Vec<String>,
    pub accept_sop_classes: Vec<String>,
    pub tenants: Vec<TenantRule>,
    pub max_pdu_bytes: u32,
    pub max_associations: usize,
    pub idle_timeout_seconds: u64,
    pub request_timeout_seconds: u64,
    pub max_operations: u16,
}

/// Section `[ingest]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config.default.toml describes each setting")]
pub struct Ingest {
    pub duplicates: Duplicates,
    pub max_request_bytes: u64,
    pub min_bytes_per_second: u64,
    pub max_instance_bytes: u64,
    pub max_parts: usize,
    pub max_header_bytes: usize,
    pub max_sequence_depth: usize,
    pub max_elements: usize,
    pub max_inflated_bytes: u64,
    pub max_deflate_ratio: u64,
    pub max_uploads: usize,
}

/// Section `[search]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config.default.toml describes each setting")]
pub struct Search {
    pub default_limit: usize,
    pub max_limit: usize,
    pub max_rows_read: usize,
    pub max_ordered: usize,
}

/// Section `[preview]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config.default.toml describes each setting")]
pub struct Preview {
    pub enabled: bool,
    pub quiet_seconds: u64,
    pub rate: u32,
    pub binning: u32,
    pub threads: usize,
    pub max_slices: u32,
    pub max_attempts: u32,
    pub retry_seconds: u64,
}

/// Section `[jobs]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config.default.toml describes each setting")]
pub struct Jobs {
    pub queue: JobQueue,
    pub queue_url: String,
    pub region: String,
    pub endpoint: String,
    pub in_server: bool,
    pub lease_seconds: u64,
    pub reconcile_seconds: u64,
}

/// Where workers learn of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JobQueue {
    /// From the index itself.
    Table,
    /// From a queue of Amazon SQS.
    Sqs,
}

/// Section `[rendering]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config.default.toml describes each setting")]
pub struct Rendering {
    pub quality: u8,
    pub max_viewport_pixels: u64,
    pub thumbnail_px: u32,
    pub max_thumbnail_side: u32,
    pub max_animation_frames: u32,
    pub max_animation_bytes: usize,
}

/// Section `[temporary]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config.default.toml describes each setting")]
pub struct Temporary {
    pub max_bytes: u64,
}

/// Section `[log]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config.default.toml describes each setting")]
pub struct Log {
    pub filter: String,
}

impl Auth {
    /// Whether callers must say who they are.
    pub fn is_on(&self) -> bool {
        !self.issuer.is_empty()
    }

    pub(super) fn refuse_unusable(&self) -> anyhow::Result<()> {
        if !self.is_on() {
            return Ok(());
        }
        let issuer = &self.issuer;
        ensure!(
            is_trustworthy(issuer),
            "auth.issuer cannot be `{issuer}`: it begins with https:// (or with http:// on loopback)"
        );
        for (name, is_empty) in [
            ("auth.audiences", self.audiences.iter().all(String::is_empty)),
            ("auth.tenant_claim", self.tenant_claim.is_empty()),
            ("auth.roles_claim", self.roles_claim.is_empty()),
            ("auth.algorithms", self.algorithms.is_empty()),
        ] {
            ensure!(!is_empty, "{name} cannot be empty");
        }
        for (name, seconds) in [
            ("auth.refresh_seconds", self.refresh_seconds),
            ("auth.min_refresh_seconds", self.min_refresh_seconds),
            ("auth.timeout_seconds", self.timeout_seconds),
        ] {
            ensure!(seconds > 0, "{name} cannot be 0");
        }
        let leeway = self.leeway_seconds;
        ensure!(
            leeway <= MAX_LEEWAY_SECONDS,
            "auth.leeway_seconds cannot be {leeway}: it is at most {MAX_LEEWAY_SECONDS}"
        );
        Ok(())
    }
}

/// Whether what comes from a URL can be known to come from who its name says: over TLS, or without a network.
pub fn is_trustworthy(url: &str) -> bool {
    let Some(rest) = url.strip_prefix("http://") else { return url.starts_with("https://") };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    };
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}
