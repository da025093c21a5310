//! Settings: defaults, then a file, then the environment, then the command line.
//!
//! `config.default.toml` is the reference of every setting; the types below only mirror it.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use anyhow::{Context, anyhow, bail, ensure};
use serde::Deserialize;
use toml::{Table, Value};

use crate::blobs::s3::{Checksum, Encryption, Places, StorageClasses};
use crate::dimse::tenants::TenantRule;
use crate::index::Duplicates;

const DEFAULTS: &str = include_str!("config.default.toml");
/// The length of the value representation AE: PS3.5 §6.2.
const MAX_AE_TITLE_CHARACTERS: usize = 16;
/// Clocks that differ by more than this are to be set, not to be allowed for.
const MAX_LEEWAY_SECONDS: u64 = 600;

/// DynamoDB recognises a transaction that is sent again for ten minutes.
const MAX_TABLE_PATIENCE_SECONDS: u64 = 300;

/// All settings.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config.default.toml describes each setting")]
pub struct Config {
    pub storage: Storage,
    pub s3: S3,
    pub dynamodb: Dynamodb,
    pub http: Http,
    pub auth: Auth,
    pub viewer: Viewer,
    pub dimse: Dimse,
    pub ingest: Ingest,
    pub search: Search,
    pub preview: Preview,
    pub jobs: Jobs,
    pub rendering: Rendering,
    pub temporary: Temporary,
    pub log: Log,
}

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
    pub bucket: Places,
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

    fn refuse_unusable(&self) -> anyhow::Result<()> {
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

/// A setting from the environment or the command line: section, name, text.
pub type Override = (String, String, String);

impl Config {
    /// The settings that result from the defaults, a file (if any) and overrides in rising precedence.
    ///
    /// # Errors
    /// A file that is not TOML, a setting that does not exist, a value of the wrong type or of no use; each is named.
    pub fn load(file: Option<&str>, overrides: &[Override]) -> anyhow::Result<Self> {
        let mut settings: Table = DEFAULTS.parse().context("config.default.toml")?;
        if let Some(text) = file {
            merge(&mut settings, text.parse().context("the configuration file is not valid TOML")?)?;
        }
        for (section, name, text) in overrides {
            let place = settings
                .get_mut(section)
                .and_then(|section| section.get_mut(name))
                .with_context(|| format!("there is no setting {section}.{name}"))?;
            *place = like(place, text).with_context(|| format!("{section}.{name} cannot be `{text}`"))?;
        }
        let config = Value::Table(settings).try_into::<Self>();
        // Its causes name the setting, on lines of their own.
        let config = config.map_err(|error| anyhow!("{}", error.to_string().trim().replace('\n', " ")));
        let config = config.context("a setting cannot be used")?;
        config.refuse_unusable()?;
        Ok(config)
    }

    /// Refuses values of the right type with which the server would start and then serve nobody.
    fn refuse_unusable(&self) -> anyhow::Result<()> {
        let at_least_one = [
            ("dynamodb.max_requests", self.dynamodb.max_requests as u64),
            ("dynamodb.connect_timeout_seconds", self.dynamodb.connect_timeout_seconds),
            ("dynamodb.request_timeout_seconds", self.dynamodb.request_timeout_seconds),
            ("dynamodb.max_attempts", self.dynamodb.max_attempts.into()),
            ("http.max_connections", self.http.max_connections as u64),
            ("http.max_requests_per_client", self.http.max_requests_per_client as u64),
            ("rendering.thumbnail_px", self.rendering.thumbnail_px.into()),
            ("http.idle_timeout_seconds", self.http.idle_timeout_seconds),
            ("dimse.max_pdu_bytes", self.dimse.max_pdu_bytes.into()),
            ("dimse.max_associations", self.dimse.max_associations as u64),
            ("dimse.idle_timeout_seconds", self.dimse.idle_timeout_seconds),
            ("dimse.request_timeout_seconds", self.dimse.request_timeout_seconds),
            ("ingest.max_uploads", self.ingest.max_uploads as u64),
            ("jobs.lease_seconds", self.jobs.lease_seconds),
            ("jobs.reconcile_seconds", self.jobs.reconcile_seconds),
            ("preview.rate", self.preview.rate.into()),
            ("preview.binning", self.preview.binning.into()),
            ("rendering.max_thumbnail_side", self.rendering.max_thumbnail_side.into()),
        ];
        for (name, value) in at_least_one {
            ensure!(value > 0, "{name} cannot be 0");
        }
        if self.storage.blobs == BlobStore::S3 {
            self.s3.refuse_unusable()?;
        }
        ensure!(!self.dynamodb.table.is_empty(), "dynamodb.table cannot be empty");
        let patience = self.dynamodb.retry_seconds.saturating_add(self.dynamodb.request_timeout_seconds);
        ensure!(
            patience <= MAX_TABLE_PATIENCE_SECONDS,
            "dynamodb.retry_seconds and request_timeout_seconds together cannot be more than \
             {MAX_TABLE_PATIENCE_SECONDS}: DynamoDB forgets what it was asked before"
        );
        let quality = self.rendering.quality;
        ensure!((1..=100).contains(&quality), "rendering.quality cannot be {quality}: it is 1 to 100");
        let needs_url = self.jobs.queue == JobQueue::Sqs && self.jobs.queue_url.is_empty();
        ensure!(!needs_url, "jobs.queue_url cannot be empty where jobs.queue is `sqs`");
        let ae_title = self.dimse.ae_title.trim();
        let is_usable =
            !ae_title.is_empty() && ae_title.len() <= MAX_AE_TITLE_CHARACTERS && ae_title.is_ascii();
        ensure!(
            is_usable,
            "dimse.ae_title cannot be `{ae_title}`: it has 1 to {MAX_AE_TITLE_CHARACTERS} ASCII characters"
        );
        self.auth.refuse_unusable()?;
        ensure!(
            self.auth.is_on() || self.dimse.tenants.is_empty(),
            "dimse.tenants cannot be set without auth.issuer: there is one tenant"
        );
        Ok(())
    }

    /// The defaults alone.
    pub fn defaults() -> Self {
        Self::load(None, &[]).expect("config.default.toml is valid: a test loads it")
    }
}

impl Auth {
    /// Whether callers must say who they are.
    pub fn is_on(&self) -> bool {
        !self.issuer.is_empty()
    }

    fn refuse_unusable(&self) -> anyhow::Result<()> {
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

/// The overrides that the environment holds: `CUSPID_SECTION__NAME`.
pub fn from_environment(variables: impl Iterator<Item = (String, String)>) -> Vec<Override> {
    let mut overrides: Vec<Override> = variables
        .filter_map(|(key, text)| {
            let (section, name) = key.strip_prefix("CUSPID_")?.split_once("__")?;
            Some((section.to_ascii_lowercase(), name.to_ascii_lowercase(), text))
        })
        .collect();
    overrides.sort();
    overrides
}

fn merge(settings: &mut Table, file: Table) -> anyhow::Result<()> {
    for (section, values) in file {
        let Value::Table(values) = values else { bail!("`{section}` is not a section") };
        let known = settings.get_mut(&section).and_then(Value::as_table_mut);
        let known = known.with_context(|| format!("there is no section [{section}]"))?;
        for (name, value) in values {
            let place = known.get_mut(&name);
            *place.with_context(|| format!("there is no setting {section}.{name}"))? = value;
        }
    }
    Ok(())
}

/// `text` as a value of the same type as `example`; lists are separated by commas.
fn like(example: &Value, text: &str) -> anyhow::Result<Value> {
    Ok(match example {
        Value::Integer(_) => Value::Integer(text.parse()?),
        Value::Boolean(_) => Value::Boolean(text.parse()?),
        Value::Array(_) => {
            let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
            Value::Array(parts.map(|part| Value::String(part.into())).collect())
        }
        _ => Value::String(text.into()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(section: &str, name: &str, text: &str) -> Override {
        (section.into(), name.into(), text.into())
    }

    fn s3_with(name: &str, text: &str) -> Vec<Override> {
        vec![set("storage", "blobs", "s3"), set("s3", "bucket", "clinic-{class}"), set("s3", name, text)]
    }

    #[test]
    fn each_source_overrides_the_one_before() {
        let file = "[http]\nlisten = \"127.0.0.1:1\"\n[dimse]\nae_title = \"FILE\"";
        let config = Config::load(Some(file), &[set("dimse", "ae_title", "ENV")]).unwrap();
        assert_eq!(config.http.listen.port(), 1);
        assert_eq!(config.dimse.ae_title, "ENV");
        assert_eq!(config.ingest.max_uploads, Config::defaults().ingest.max_uploads);
    }

    #[test]
    fn a_wrong_setting_is_named() {
        for (file, overrides, name) in [
            (Some("[htp]\nlisten = \"\""), vec![], "htp"),
            (Some("[http]\nlissen = \"\""), vec![], "http.lissen"),
            (None, vec![set("ingest", "max_parts", "many")], "ingest.max_parts"),
            (None, vec![set("ingest", "max_bits", "1")], "ingest.max_bits"),
            (Some("[http]\nlisten = \"nowhere\""), vec![], "listen"),
            (None, vec![set("http", "max_connections", "0")], "http.max_connections"),
            (None, vec![set("dimse", "max_pdu_bytes", "0")], "dimse.max_pdu_bytes"),
            (None, vec![set("dynamodb", "table", "")], "dynamodb.table"),
            (None, vec![set("dynamodb", "max_attempts", "0")], "dynamodb.max_attempts"),
            (None, vec![set("dynamodb", "retry_seconds", "600")], "dynamodb.retry_seconds"),
            (None, vec![set("preview", "binning", "0")], "preview.binning"),
            (None, vec![set("rendering", "quality", "101")], "rendering.quality"),
            (None, vec![set("storage", "blobs", "s3")], "s3.bucket"),
            (None, vec![set("s3", "bucket", "clinic")], "s3.bucket"),
            (None, vec![set("s3", "storage_classes", "originals")], "s3.storage_classes"),
            (None, s3_with("part_bytes", "1"), "s3.part_bytes"),
            (None, s3_with("stage_memory_bytes", "16777217"), "s3.stage_memory_bytes"),
            (None, s3_with("max_requests", "0"), "s3.max_requests"),
            (None, s3_with("kms_key", "a"), "s3.kms_key"),
            (None, s3_with("endpoint", "localhost:9000"), "s3.endpoint"),
            (None, vec![set("dimse", "ae_title", " ")], "dimse.ae_title"),
            (None, vec![set("dimse", "ae_title", "SEVENTEEN_LETTERS")], "dimse.ae_title"),
        ] {
            let error = format!("{:#}", Config::load(file, &overrides).unwrap_err());
            assert!(error.contains(name), "{error}");
        }
    }

    #[test]
    fn a_setting_by_which_anyone_could_come_in_is_refused() {
        let issuer = set("auth", "issuer", "https://a.example/realms/x");
        assert!(Config::load(None, std::slice::from_ref(&issuer)).is_ok());
        for (section, name, text) in [
            ("auth", "issuer", "http://a.example/realms/x"),
            ("auth", "issuer", "http://127.0.0.1.example/"),
            ("auth", "issuer", "http://127.0.0.1@a.example/"),
            ("auth", "issuer", "a.example"),
            ("auth", "audiences", ""),
            ("auth", "tenant_claim", ""),
            ("auth", "roles_claim", ""),
            ("auth", "algorithms", ""),
            ("auth", "algorithms", "RS256, HS256"),
            ("auth", "algorithms", "none"),
            ("auth", "leeway_seconds", "86400"),
            ("auth", "min_refresh_seconds", "0"),
            ("dimse", "tenants", "MODALITY"),
            ("dimse", "tenants", "MODALITY=Clinic A"),
        ] {
            let error = Config::load(None, &[issuer.clone(), set(section, name, text)]).unwrap_err();
            let error = format!("{error:#}");
            assert!(error.contains(name), "{name} {text}: {error}");
        }
        let error = Config::load(None, &[set("dimse", "tenants", "MODALITY=clinic-a")]).unwrap_err();
        assert!(error.to_string().contains("auth.issuer"), "{error}");
        for loopback in ["http://127.0.0.1:8090/realms/x", "http://[::1]:8090", "http://localhost/a"] {
            assert!(Config::load(None, &[set("auth", "issuer", loopback)]).is_ok(), "{loopback}");
        }
    }

    #[test]
    fn the_environment_names_sections_by_two_underscores() {
        let variables = [("CUSPID_HTTP__PUBLIC_URL", "u"), ("CUSPID_HOME", "x"), ("PATH", "y")];
        let variables = variables.iter().map(|(key, text)| (key.to_string(), text.to_string()));
        assert_eq!(from_environment(variables), [set("http", "public_url", "u")]);
    }
}
