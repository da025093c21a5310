//! Settings: defaults, then a file, then the environment, then the command line.
//!
//! `config.default.toml` is the reference of all settings, which the types mirror.

use anyhow::{Context, anyhow, bail, ensure};
use serde::Deserialize;
use toml::{Table, Value};

mod auth;
mod bucket;
mod decoders;
mod deidentification;
mod duplicates;
mod fingerprint_rule;
mod forward;
mod network;
mod origin;
mod peer_rule;
mod quotas;
mod s3;
mod sections;
mod sharing;
mod storage_class;
mod tenant;
mod tenant_rule;
mod tls;
mod webhooks;

pub use auth::{AuthSettings, SigningAlgorithm, is_trustworthy};
pub use bucket::{Bucket, BucketNames};
pub use decoders::DecodersSettings;
pub use deidentification::{
    BurnedInRule, DeidentificationSettings, NotARule, PixelRegion, ProfileOption, SafePrivateRule,
    UnknownOption,
};
pub use duplicates::Duplicates;
pub use fingerprint_rule::FingerprintRule;
pub use forward::{ForwardRule, ForwardSettings, NotAForwardRule, StorePriority};
pub use network::{Network, NotANetwork};
pub use origin::{AllowedOrigin, NotAnOrigin, address_of, is_loopback_host, without_port};
pub use peer_rule::{PeerAddress, PeerOperation, PeerOperations, PeerRule};
pub use quotas::{NotAPlan, Plan, PlanRule, QuotasSettings};
pub use s3::{Checksum, Encryption, S3Settings};
pub use sections::{
    AuditSettings, BlobStore, ChangesSettings, DerivedSettings, DimseSettings, DynamodbSettings, FramesAhead,
    HttpSettings, IngestSettings, JobQueue, JobsSettings, LogSettings, PreviewFormat, PreviewSettings,
    RenderingSettings, ScrubSettings, SearchSettings, StorageSettings, TableEngine, ViewerSettings,
};
pub use sharing::{SharedName, SharingSettings};
pub use storage_class::StorageClasses;
pub use tenant::{NotATenant, Tenant};
pub use tenant_rule::{TenantRule, tenant_of};
pub use tls::TlsFiles;
pub use webhooks::{NotAWebhookTarget, WebhookTarget, WebhooksSettings};

const DEFAULTS: &str = include_str!("../config.default.toml");
/// The maximum length of the value representation AE (PS3.5 §6.2).
const MAX_AE_TITLE_CHARACTERS: usize = 16;
/// The most sequences within each other for which there is stack.
const MAX_SEQUENCE_DEPTH: usize = 4096;
/// DynamoDB recognises a repeated transaction for ten minutes, so retries must end well before.
const MAX_RETRY_SECONDS: u64 = 300;

/// The shortest `audit.hash_key`.
const MIN_HASH_KEY_BYTES: usize = 32;
/// The longest time for which one audit record stands for several events: a day.
const MAX_GROUP_MINUTES: u64 = 24 * 60;

/// All settings.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config.default.toml describes each setting")]
pub struct Config {
    pub storage: StorageSettings,
    pub s3: S3Settings,
    pub dynamodb: DynamodbSettings,
    pub http: HttpSettings,
    pub auth: AuthSettings,
    pub viewer: ViewerSettings,
    pub view: ViewerSettings,
    pub dimse: DimseSettings,
    pub ingest: IngestSettings,
    pub search: SearchSettings,
    pub preview: PreviewSettings,
    pub changes: ChangesSettings,
    pub webhooks: WebhooksSettings,
    pub audit: AuditSettings,
    pub sharing: SharingSettings,
    pub quotas: QuotasSettings,
    pub forward: ForwardSettings,
    pub jobs: JobsSettings,
    pub scrub: ScrubSettings,
    pub rendering: RenderingSettings,
    pub decoders: DecodersSettings,
    pub derived: DerivedSettings,
    pub deidentification: DeidentificationSettings,
    pub log: LogSettings,
}

/// A setting from the environment or the command line: section, name, text.
pub type Override = (String, String, String);

impl Config {
    /// Loads the settings from the defaults, a file (if any) and overrides, with rising precedence.
    ///
    /// # Errors
    /// A file that is not TOML, a setting that does not exist, a value of the wrong type or an invalid value.
    /// The error names the setting.
    pub fn load(file: Option<&str>, overrides: &[Override]) -> anyhow::Result<Self> {
        let mut settings: Table = DEFAULTS.parse().context("config.default.toml")?;
        if let Some(text) = file {
            merge(&mut settings, text.parse().context("the configuration file is not valid TOML")?)?;
        }
        for (section, name, text) in overrides {
            let setting = settings
                .get_mut(section)
                .and_then(|section| section.get_mut(name))
                .with_context(|| format!("there is no setting {section}.{name}"))?;
            *setting =
                parse_like(setting, text).with_context(|| format!("{section}.{name} cannot be `{text}`"))?;
        }
        let config = Value::Table(settings).try_into::<Self>();
        // The error names the setting, but on several lines.
        let config = config.map_err(|error| anyhow!("{}", error.to_string().trim().replace('\n', " ")));
        let config = config.context("a setting cannot be used")?;
        config.validate()?;
        Ok(config)
    }

    /// The settings of all sections that cannot be 0, with their values.
    fn all_at_least_one(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let of_sections = self.sharing.at_least_one().into_iter().chain(self.webhooks.at_least_one());
        self.at_least_one().into_iter().chain(of_sections)
    }

    /// The settings of the other sections that cannot be 0, with their values.
    fn at_least_one(&self) -> Vec<(&'static str, u64)> {
        vec![
            ("dynamodb.max_requests", self.dynamodb.max_requests as u64),
            ("dynamodb.connect_timeout_seconds", self.dynamodb.connect_timeout_seconds),
            ("dynamodb.request_timeout_seconds", self.dynamodb.request_timeout_seconds),
            ("dynamodb.max_attempts", self.dynamodb.max_attempts.into()),
            ("http.max_connections", self.http.max_connections as u64),
            ("http.tls_reload_seconds", self.http.tls_reload_seconds),
            ("http.max_streams_per_connection", self.http.max_streams_per_connection.into()),
            ("http.max_requests_per_client", self.http.max_requests_per_client as u64),
            ("rendering.thumbnail_px", self.rendering.thumbnail_px.into()),
            ("http.first_request_timeout_seconds", self.http.first_request_timeout_seconds),
            ("http.idle_timeout_seconds", self.http.idle_timeout_seconds),
            ("http.max_response_memory_bytes", self.http.max_response_memory_bytes as u64),
            ("http.response_wait_seconds", self.http.response_wait_seconds),
            ("dimse.max_pdu_bytes", self.dimse.max_pdu_bytes.into()),
            ("dimse.max_associations", self.dimse.max_associations as u64),
            ("dimse.max_outgoing_associations", self.dimse.max_outgoing_associations as u64),
            ("dimse.max_waiting_reports", self.dimse.max_waiting_reports as u64),
            ("dimse.report_retry_hours", self.dimse.report_retry_hours),
            ("dimse.idle_timeout_seconds", self.dimse.idle_timeout_seconds),
            ("dimse.request_timeout_seconds", self.dimse.request_timeout_seconds),
            ("dimse.connect_timeout_seconds", self.dimse.connect_timeout_seconds),
            ("ingest.max_uploads", self.ingest.max_uploads as u64),
            ("ingest.max_upload_memory_bytes", self.ingest.max_upload_memory_bytes as u64),
            ("ingest.upload_wait_seconds", self.ingest.upload_wait_seconds),
            ("ingest.max_gzip_ratio", self.ingest.max_gzip_ratio),
            ("jobs.lease_seconds", self.jobs.lease_seconds),
            ("jobs.reconcile_seconds", self.jobs.reconcile_seconds),
            ("changes.poll_milliseconds", self.changes.poll_milliseconds),
            ("changes.heartbeat_seconds", self.changes.heartbeat_seconds),
            ("changes.max_listeners", self.changes.max_listeners as u64),
            ("preview.compression_ratio", self.preview.compression_ratio.into()),
            ("preview.noisy_compression_ratio", self.preview.noisy_compression_ratio.into()),
            ("preview.binning", self.preview.binning.into()),
            ("quotas.refresh_seconds", self.quotas.refresh_seconds),
            ("forward.retry_hours", self.forward.retry_hours),
            ("rendering.max_thumbnail_px", self.rendering.max_thumbnail_px.into()),
        ]
    }

    /// Refuses values of the right type with which the server cannot work.
    fn validate(&self) -> anyhow::Result<()> {
        for (name, value) in self.all_at_least_one() {
            ensure!(value > 0, "{name} cannot be 0");
        }
        if self.storage.blobs == BlobStore::S3 {
            self.s3.validate()?;
        }
        self.decoders.validate()?;
        self.sharing.validate()?;
        self.webhooks.validate(self.auth.is_on())?;
        self.quotas.validate()?;
        self.deidentification.validate()?;
        ensure!(!self.dynamodb.table.is_empty(), "dynamodb.table cannot be empty");
        let retry_seconds = self.dynamodb.retry_seconds.saturating_add(self.dynamodb.request_timeout_seconds);
        ensure!(
            retry_seconds <= MAX_RETRY_SECONDS,
            "dynamodb.retry_seconds and request_timeout_seconds together cannot be more than \
             {MAX_RETRY_SECONDS}: DynamoDB recognises a repeated transaction for ten minutes only"
        );
        self.http.tls_files().validate()?;
        self.dimse.tls_files().validate()?;
        self.dimse.validate_tls()?;
        let depth = self.ingest.max_sequence_depth;
        ensure!(
            (1..=MAX_SEQUENCE_DEPTH).contains(&depth),
            "ingest.max_sequence_depth cannot be {depth}: it is 1 to {MAX_SEQUENCE_DEPTH}"
        );
        let quality = self.rendering.quality;
        ensure!((1..=100).contains(&quality), "rendering.quality cannot be {quality}: it is 1 to 100");
        let needs_url = self.jobs.queue == JobQueue::Sqs && self.jobs.queue_url.is_empty();
        ensure!(!needs_url, "jobs.queue_url cannot be empty if jobs.queue is `sqs`");
        let ae_title = self.dimse.ae_title.trim();
        let is_usable =
            !ae_title.is_empty() && ae_title.len() <= MAX_AE_TITLE_CHARACTERS && ae_title.is_ascii();
        ensure!(
            is_usable,
            "dimse.ae_title cannot be `{ae_title}`: it has 1 to {MAX_AE_TITLE_CHARACTERS} ASCII characters"
        );
        self.auth.validate()?;
        let key = &self.audit.hash_key;
        ensure!(
            key.is_empty() || key.len() >= MIN_HASH_KEY_BYTES,
            "audit.hash_key cannot be shorter than {MIN_HASH_KEY_BYTES} characters"
        );
        let minutes = self.audit.group_minutes;
        ensure!(
            minutes <= MAX_GROUP_MINUTES,
            "audit.group_minutes cannot be {minutes}: it is 0 to {MAX_GROUP_MINUTES}"
        );
        ensure!(
            self.auth.is_on() || self.dimse.tenants.is_empty(),
            "dimse.tenants cannot be set without auth.issuer: there is one tenant"
        );
        let mut titles: Vec<_> = self.dimse.peers.iter().map(|peer| &peer.ae_title).collect();
        titles.sort_unstable();
        ensure!(
            titles.windows(2).all(|pair| pair[0] != pair[1]),
            "dimse.peers cannot name an AE title more than once"
        );
        self.forward.validate(self)
    }

    /// The defaults alone.
    pub fn defaults() -> Self {
        Self::load(None, &[]).expect("config.default.toml is valid: a test loads it")
    }
}

/// The overrides in environment variables: `CUSPID_SECTION__NAME`. Variables of other forms are of other
/// programs.
///
/// # Errors
/// A setting that is written with one underscore, `CUSPID_SECTION_NAME`, and would have no effect.
pub fn from_environment(variables: impl Iterator<Item = (String, String)>) -> anyhow::Result<Vec<Override>> {
    let mut overrides = Vec::new();
    for (key, text) in variables {
        let Some(setting) = key.strip_prefix("CUSPID_").map(str::to_ascii_lowercase) else { continue };
        match setting.split_once("__") {
            Some((section, name)) => overrides.push((section.into(), name.into(), text)),
            None => {
                let meant = meant_setting(&setting);
                ensure!(meant.is_none(), "{key} has no effect: write {}", meant.unwrap_or_default());
            }
        }
    }
    overrides.sort();
    Ok(overrides)
}

/// The environment variable of the setting `section_name`, if there is such a setting.
fn meant_setting(text: &str) -> Option<String> {
    let settings: Table = DEFAULTS.parse().ok()?;
    settings.iter().find_map(|(section, names)| {
        let name = text.strip_prefix(section.as_str())?.strip_prefix('_')?;
        names.get(name)?;
        Some(format!("CUSPID_{}__{}", section.to_ascii_uppercase(), name.to_ascii_uppercase()))
    })
}

fn merge(settings: &mut Table, file: Table) -> anyhow::Result<()> {
    for (section, values) in file {
        let Value::Table(values) = values else { bail!("`{section}` is not a section") };
        let defaults = settings.get_mut(&section).and_then(Value::as_table_mut);
        let defaults = defaults.with_context(|| format!("there is no section [{section}]"))?;
        for (name, value) in values {
            let setting = defaults.get_mut(&name);
            *setting.with_context(|| format!("there is no setting {section}.{name}"))? = value;
        }
    }
    Ok(())
}

/// Parses `text` as a value of the type of `example`; the entries of a list are separated by commas.
fn parse_like(example: &Value, text: &str) -> anyhow::Result<Value> {
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
    fn no_time_limit_can_be_0() {
        let defaults: Table = DEFAULTS.parse().unwrap();
        let mut count = 0;
        for (section, name) in defaults.iter().flat_map(|(section, settings)| {
            settings.as_table().unwrap().keys().map(move |name| (section.as_str(), name.as_str()))
        }) {
            // A server that does not wait for requests under way, when it stops, is a choice.
            if !name.ends_with("timeout_seconds") || name == "shutdown_timeout_seconds" {
                continue;
            }
            let mut settings = vec![set(section, name, "0")];
            match section {
                "s3" => settings = s3_with(name, "0"),
                "auth" => settings
                    .extend([set("auth", "issuer", "https://id.example"), set("auth", "audiences", "a")]),
                _ => {}
            }
            let error = format!("{:#}", Config::load(None, &settings).expect_err(name));
            assert!(error.contains(name), "{section}.{name}: {error}");
            count += 1;
        }
        assert!(count > 10, "{count}");
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
            (None, vec![set("http", "allowed_origins", "https://a.example/")], "http.allowed_origins"),
            (None, vec![set("http", "tls_key", "key.pem")], "http.tls_certificate"),
            (None, vec![set("http", "tls_certificate", "certificate.pem")], "http.tls_key"),
            (None, vec![set("http", "tls_reload_seconds", "0")], "http.tls_reload_seconds"),
            (None, vec![set("http", "max_streams_per_connection", "0")], "http.max_streams_per_connection"),
            (None, vec![set("http", "trusted_proxies", "::1, proxy.example")], "http.trusted_proxies"),
            (None, vec![set("dimse", "max_pdu_bytes", "0")], "dimse.max_pdu_bytes"),
            (None, vec![set("decoders", "max_memory_bytes", "1000")], "decoders.max_memory_bytes"),
            (None, vec![set("decoders", "max_seconds", "0")], "decoders.max_seconds"),
            (None, vec![set("dynamodb", "table", "")], "dynamodb.table"),
            (None, vec![set("dynamodb", "max_attempts", "0")], "dynamodb.max_attempts"),
            (None, vec![set("dynamodb", "retry_seconds", "600")], "dynamodb.retry_seconds"),
            (None, vec![set("ingest", "max_sequence_depth", "0")], "ingest.max_sequence_depth"),
            (None, vec![set("ingest", "max_sequence_depth", "4097")], "ingest.max_sequence_depth"),
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
            (None, vec![set("audit", "hash_key", "short")], "audit.hash_key"),
            (None, vec![set("audit", "group_minutes", "1441")], "audit.group_minutes"),
            (None, vec![set("sharing", "max_shares", "0")], "sharing.max_shares"),
            (None, vec![set("sharing", "default_days", "91")], "sharing.default_days"),
            (None, vec![set("sharing", "max_instances", "2001")], "sharing.max_instances"),
            (None, vec![set("sharing", "max_note_characters", "10001")], "sharing.max_note_characters"),
            (None, vec![set("sharing", "patient_name", "all")], "patient_name"),
            (None, vec![set("sharing", "max_signed_url_seconds", "599")], "sharing.max_signed_url_seconds"),
            (None, vec![set("sharing", "session_minutes", "43201")], "sharing.session_minutes"),
            (None, vec![set("dimse", "ae_title", " ")], "dimse.ae_title"),
            (None, vec![set("dimse", "ae_title", "SEVENTEEN_LETTERS")], "dimse.ae_title"),
        ] {
            let error = format!("{:#}", Config::load(file, &overrides).unwrap_err());
            assert!(error.contains(name), "{error}");
        }
    }

    #[test]
    fn a_setting_that_would_let_anyone_in_is_refused() {
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
            ("auth", "client_id", "cuspid"),
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
        assert_eq!(from_environment(variables).unwrap(), [set("http", "public_url", "u")]);
    }

    #[test]
    fn a_setting_with_one_underscore_is_named() {
        for (key, meant) in [
            ("CUSPID_HTTP_PUBLIC_URL", Some("CUSPID_HTTP__PUBLIC_URL")),
            ("CUSPID_S3_BUCKET", Some("CUSPID_S3__BUCKET")),
            // Of Kubernetes, for a service with the name cuspid-http.
            ("CUSPID_HTTP_PORT", None),
            ("CUSPID_BINARY", None),
        ] {
            let found = from_environment([(key.to_owned(), "x".to_owned())].into_iter());
            match meant {
                Some(meant) => assert!(found.unwrap_err().to_string().contains(meant), "{key}"),
                None => assert_eq!(found.unwrap(), [], "{key}"),
            }
        }
    }
}
