//! The sections of the settings that need no checks of their own: types that mirror `config.default.toml`.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Deserialize;

use crate::config::{AllowedOrigin, Duplicates, FingerprintRule, Network, PeerRule, TenantRule};

/// Section `[storage]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config.default.toml describes each setting")]
pub struct StorageSettings {
    pub blobs: BlobStore,
    pub table: TableEngine,
    pub data: PathBuf,
    pub index_cache_mib: usize,
}

/// The object store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BlobStore {
    /// Files on this machine.
    Fs,
    /// S3, or a service with the protocol of S3.
    S3,
}

/// The table of the index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TableEngine {
    /// A file on this machine.
    Redb,
    /// DynamoDB, or a service with its protocol.
    Dynamodb,
}

/// Section `[dynamodb]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config.default.toml describes each setting")]
pub struct DynamodbSettings {
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
pub struct HttpSettings {
    pub listen: SocketAddr,
    pub tls_certificate: PathBuf,
    pub tls_key: PathBuf,
    pub tls_reload_seconds: u64,
    pub public_url: String,
    pub trusted_proxies: Vec<Network>,
    pub allowed_origins: Vec<AllowedOrigin>,
    pub allow_delete: bool,
    pub max_zip_instances: usize,
    pub max_connections: usize,
    pub max_connections_per_address: usize,
    pub max_streams_per_connection: u32,
    pub operations_address: String,
    pub max_requests_per_client: usize,
    pub first_request_timeout_seconds: u64,
    pub idle_timeout_seconds: u64,
    pub max_response_memory_bytes: usize,
    pub response_wait_seconds: u64,
    pub shutdown_timeout_seconds: u64,
}

/// Sections `[viewer]` and `[view]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config.default.toml describes each setting")]
pub struct ViewerSettings {
    pub directory: PathBuf,
}

/// Section `[dimse]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config.default.toml describes each setting")]
pub struct DimseSettings {
    pub listen: String,
    pub ae_title: String,
    pub accept_called: Vec<String>,
    pub accept_calling: Vec<String>,
    pub accept_sop_classes: Vec<String>,
    pub tenants: Vec<TenantRule>,
    pub peers: Vec<PeerRule>,
    pub max_pdu_bytes: u32,
    pub max_associations: usize,
    pub max_associations_per_address: usize,
    pub max_outgoing_associations: usize,
    pub max_outgoing_associations_per_destination: usize,
    pub max_waiting_reports: usize,
    pub max_waiting_reports_per_peer: usize,
    pub report_retry_hours: u64,
    pub idle_timeout_seconds: u64,
    pub request_timeout_seconds: u64,
    pub max_operations: u16,
    pub connect_timeout_seconds: u64,
    pub tls_listen: String,
    pub tls_certificate: PathBuf,
    pub tls_key: PathBuf,
    pub tls_peer_issuers: PathBuf,
    pub tls_fingerprints: Vec<FingerprintRule>,
}

/// Section `[ingest]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config.default.toml describes each setting")]
pub struct IngestSettings {
    pub duplicates: Duplicates,
    pub max_request_bytes: u64,
    pub min_bytes_per_second: u64,
    pub max_instance_bytes: u64,
    pub max_parts: usize,
    pub max_header_bytes: usize,
    pub max_sequence_depth: usize,
    pub max_elements: usize,
    pub max_metadata_elements: usize,
    pub max_inflated_bytes: u64,
    pub max_deflate_ratio: u64,
    pub max_gzip_ratio: u64,
    pub max_uploads: usize,
    pub max_uploads_per_client: usize,
    pub max_upload_memory_bytes: usize,
    pub upload_wait_seconds: u64,
}

/// Section `[search]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config.default.toml describes each setting")]
pub struct SearchSettings {
    pub default_limit: usize,
    pub max_limit: usize,
    pub max_rows_read: usize,
    pub max_ordered: usize,
    pub list_memory_bytes: usize,
}

/// Section `[preview]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config.default.toml describes each setting")]
pub struct PreviewSettings {
    pub enabled: bool,
    pub codec: PreviewFormat,
    pub quiet_seconds: u64,
    pub compression_ratio: u32,
    pub noisy_compression_ratio: u32,
    pub binning: u32,
    pub threads: usize,
    pub max_memory_bytes: usize,
    pub max_frames: u32,
    pub max_attempts: u32,
    pub retry_seconds: u64,
}

/// The codec of previews.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PreviewFormat {
    /// JPEG 2000.
    J2k,
    /// High-throughput JPEG 2000.
    Htj2k,
}

/// Section `[changes]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config.default.toml describes each setting")]
pub struct ChangesSettings {
    pub retention_days: u64,
    pub poll_milliseconds: u64,
    pub heartbeat_seconds: u64,
    pub max_listeners: usize,
    pub max_listeners_per_client: usize,
}

/// Section `[audit]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config.default.toml describes each setting")]
pub struct AuditSettings {
    pub enabled: bool,
    pub required: bool,
    pub group_minutes: u64,
    pub retention_days: u64,
    pub hash_key: String,
}

/// Section `[jobs]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config.default.toml describes each setting")]
pub struct JobsSettings {
    pub queue: JobQueue,
    pub queue_url: String,
    pub region: String,
    pub endpoint: String,
    pub in_server: bool,
    pub lease_seconds: u64,
    pub reconcile_seconds: u64,
}

/// The job queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JobQueue {
    /// A queue in the index.
    Table,
    /// A queue of Amazon SQS.
    Sqs,
}

/// Section `[scrub]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config.default.toml describes each setting")]
pub struct ScrubSettings {
    pub interval_days: u64,
    pub s3_interval_days: u64,
}

/// Section `[rendering]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config.default.toml describes each setting")]
pub struct RenderingSettings {
    pub quality: u8,
    pub max_viewport_pixels: u64,
    pub thumbnail_px: u32,
    pub max_thumbnail_px: u32,
    pub max_animation_frames: u32,
    pub max_animation_bytes: usize,
}

/// Section `[derived]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config.default.toml describes each setting")]
pub struct DerivedSettings {
    pub cache_max_bytes: u64,
    pub frames_ahead: FramesAhead,
}

/// The encoding of native frames that is made ahead of their first request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FramesAhead {
    /// None.
    None,
    /// JPEG-LS without loss.
    JpegLs,
}

/// Section `[log]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config.default.toml describes each setting")]
pub struct LogSettings {
    pub filter: String,
}
