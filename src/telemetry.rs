//! Logs and metrics. The name, unit and help of every metric are declared here. Neither holds patient data.

use std::error::Error;
use std::io::IsTerminal;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, bail};
use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;

use crate::config::LogSettings;

const INSTANCES: &str = "cuspid_instances_received_total";
const DELETED: &str = "cuspid_instances_deleted_total";
const QUOTA_REFUSALS: &str = "cuspid_quota_refusals_total";
const STORING: &str = "cuspid_storing";
const DAMAGED: &str = "cuspid_objects_damaged_total";
const SCRUB_OBJECTS: &str = "cuspid_scrub_objects_total";
const SCRUB_BYTES: &str = "cuspid_scrub_bytes_total";
const SCRUB_PASS_AGE: &str = "cuspid_scrub_pass_age_seconds";
const STORE_SECONDS: &str = "cuspid_store_seconds";
const REQUESTS: &str = "cuspid_http_requests_total";
const REQUEST_SECONDS: &str = "cuspid_http_request_seconds";
const ASSOCIATIONS: &str = "cuspid_dimse_associations";
const FORWARDED: &str = "cuspid_forwarded_total";
const FORWARD_WAITING: &str = "cuspid_forward_waiting";
const COMMITMENT_REPORTS: &str = "cuspid_commitment_reports_total";
const COMMITMENT_REPORTS_WAITING: &str = "cuspid_commitment_reports_waiting";
const PREVIEWS: &str = "cuspid_previews_total";
const WEBHOOK_REQUESTS: &str = "cuspid_webhook_requests_total";
const PREVIEW_SECONDS: &str = "cuspid_preview_seconds";
const TLS_RELOAD_FAILURES: &str = "cuspid_tls_reload_failures_total";
const PANICS: &str = "cuspid_panics_total";
const DECODER_FAILURES: &str = "cuspid_decoder_failures_total";
const INDEX_CHECKPOINT_SECONDS: &str = "cuspid_index_checkpoint_seconds";
const INDEX_LOG_BYTES: &str = "cuspid_index_log_bytes_total";
const S3_REQUESTS: &str = "cuspid_s3_requests_total";
const S3_RETRIES: &str = "cuspid_s3_retries_total";
const S3_BYTES: &str = "cuspid_s3_bytes_total";
const CACHE_READS: &str = "cuspid_cache_reads_total";
const CACHE_BYTES: &str = "cuspid_cache_bytes";
const TABLE_REQUESTS: &str = "cuspid_table_requests_total";
const TABLE_RETRIES: &str = "cuspid_table_retries_total";
const TABLE_UNITS: &str = "cuspid_table_units_total";

/// Upper bounds of the histograms' buckets, in seconds.
const BUCKETS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];

/// The levels of the log.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// The first part of a filter that is a word, and no level: the filter would take it for the name of a
/// module, and leave out all other lines.
fn unknown_level(filter: &str) -> Option<&str> {
    let mut parts = filter.split(',').map(str::trim).filter(|part| !part.is_empty());
    parts.find(|part| {
        let is_word = part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        is_word && part.parse::<tracing::level_filters::LevelFilter>().is_err()
    })
}

/// Starts logging to standard error. A second call changes nothing.
///
/// # Errors
/// If the filter cannot be parsed.
pub fn start_log(log: &LogSettings) -> anyhow::Result<()> {
    if let Some(word) = unknown_level(&log.filter) {
        bail!(
            "log.filter `{}`: `{word}` is none of the levels {}; for a module, write `{word}=debug`",
            log.filter,
            LEVELS.join(", ")
        );
    }
    let filter = EnvFilter::try_new(&log.filter).with_context(|| format!("log.filter `{}`", log.filter))?;
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // Colours only on a terminal: in a file the escape sequences would break searches.
    let subscriber = subscriber.with_ansi(std::io::stderr().is_terminal());
    // In a process with several servers, as in tests, the log is started already.
    let _ = subscriber.try_init();
    Ok(())
}

/// The metrics of this process, to be rendered in Prometheus' text format.
pub fn metrics() -> PrometheusHandle {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    HANDLE.get_or_init(start_metrics).clone()
}

fn start_metrics() -> PrometheusHandle {
    let seconds = Matcher::Suffix("_seconds".into());
    let builder = PrometheusBuilder::new().set_buckets_for_metric(seconds, &BUCKETS);
    let recorder = builder.expect("the buckets are not empty").build_recorder();
    let handle = recorder.handle();
    // Fails only if another recorder is installed, and nothing else in this process installs one.
    let _ = metrics::set_global_recorder(recorder);
    describe_counter!(
        INSTANCES,
        "Instances received, by outcome: stored, duplicate, replaced, refused, failed"
    );
    describe_counter!(DELETED, "Instances deleted");
    describe_counter!(QUOTA_REFUSALS, "Instances that a limit of a tenant's plan has refused");
    describe_gauge!(STORING, "Whether instances can be stored, as far as the last attempts show: 1 or 0");
    describe_counter!(DAMAGED, "Reads that found the object of an instance damaged or missing, by finding");
    describe_counter!(
        SCRUB_OBJECTS,
        "Originals that the scrub has read, by outcome: intact, damaged, missing, unreadable"
    );
    describe_counter!(SCRUB_BYTES, "Bytes of originals that the scrub has read");
    describe_gauge!(SCRUB_PASS_AGE, "Seconds since the scrub had read all originals; absent before");
    describe_histogram!(STORE_SECONDS, "Seconds from the last byte of an instance to its commit");
    describe_counter!(REQUESTS, "HTTP requests, by route and class of status");
    describe_histogram!(
        REQUEST_SECONDS,
        "Seconds from an HTTP request to the head of its response, by route"
    );
    describe_gauge!(ASSOCIATIONS, "DIMSE associations that are open");
    describe_counter!(WEBHOOK_REQUESTS, "Requests to webhooks, by outcome: delivered, failed");
    describe_dimse();
    describe_counter!(PREVIEWS, "Attempts to make a preview, by outcome: made, retried, failed, stale");
    describe_histogram!(PREVIEW_SECONDS, "Seconds to make a preview");
    describe_counter!(TLS_RELOAD_FAILURES, "Renewed certificates of HTTPS that could not be used");
    describe_counter!(PANICS, "Panics in blocking work, each a fault of the program with a line in the log");
    describe_counter!(
        DECODER_FAILURES,
        "Frames that cost a decoder process, by cause: crash, timeout, memory, unavailable"
    );
    describe_histogram!(
        INDEX_CHECKPOINT_SECONDS,
        "Seconds to make the file of the embedded index durable; writes of the index wait meanwhile"
    );
    describe_counter!(INDEX_LOG_BYTES, "Bytes written to the write-ahead log of the embedded index");
    describe_counter!(
        S3_REQUESTS,
        "Requests to S3, each with its retries, by operation and outcome: ok, not_found, precondition, refused, \
         throttled, failed, unreachable"
    );
    describe_counter!(S3_RETRIES, "Retries of requests to S3");
    describe_counter!(
        S3_BYTES,
        "Bytes of objects sent to and received from S3, by direction: sent, received"
    );
    describe_counter!(CACHE_READS, "Reads through the cache of originals, by outcome: hit, miss");
    describe_gauge!(CACHE_BYTES, "Bytes in the cache of originals");
    describe_counter!(TABLE_REQUESTS, "Requests to DynamoDB, each attempt, by operation");
    describe_counter!(TABLE_RETRIES, "Retries of requests to DynamoDB");
    describe_counter!(
        TABLE_UNITS,
        "Capacity units that requests to DynamoDB consumed, each rounded up, by operation and kind: read, write"
    );
    handle
}

fn describe_dimse() {
    describe_counter!(
        FORWARDED,
        "Instances that were forwarded, by destination and outcome: sent, failed (not tried any more), later"
    );
    describe_gauge!(
        FORWARD_WAITING,
        "Instances that are known to wait to be forwarded, by destination; more may be in the feed of changes"
    );
    describe_counter!(
        COMMITMENT_REPORTS,
        "Attempts to send a report of storage commitment, by outcome: taken, later (tried again), given_up"
    );
    describe_gauge!(COMMITMENT_REPORTS_WAITING, "Reports of storage commitment that wait to be sent");
}

/// Counts an instance that was received.
pub fn instance_received(outcome: &'static str, duration: Duration) {
    counter!(INSTANCES, "outcome" => outcome).increment(1);
    histogram!(STORE_SECONDS).record(duration);
}

/// Counts instances that were deleted.
pub fn instances_deleted(count: u64) {
    counter!(DELETED).increment(count);
}

/// Counts an instance that a limit of a tenant's plan has refused.
pub fn quota_refused() {
    counter!(QUOTA_REFUSALS).increment(1);
}

/// Sets whether instances can be stored.
pub fn storing(is_possible: bool) {
    gauge!(STORING).set(f64::from(u8::from(is_possible)));
}

/// Counts a read that found an object `damaged` or `missing`.
pub fn object_damaged(finding: &'static str) {
    counter!(DAMAGED, "finding" => finding).increment(1);
}

/// An error and its causes in one line, for logs.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}

/// Counts an original that the scrub has read: `intact`, `damaged`, `missing` or `unreadable`.
pub fn scrubbed(outcome: &'static str, bytes: u64) {
    counter!(SCRUB_OBJECTS, "outcome" => outcome).increment(1);
    counter!(SCRUB_BYTES).increment(bytes);
}

/// Sets the time since the last whole pass of the scrub.
pub fn scrub_pass_age(age: Duration) {
    gauge!(SCRUB_PASS_AGE).set(age.as_secs_f64());
}

/// Counts an HTTP request whose response begins. `route` is the pattern of the URL, never the URL.
pub fn request_answered(route: &'static str, status: u16, duration: Duration) {
    let class = ["1xx", "2xx", "3xx", "4xx", "5xx"];
    let class = class.get(usize::from(status / 100).wrapping_sub(1)).copied().unwrap_or("other");
    counter!(REQUESTS, "route" => route, "status" => class).increment(1);
    histogram!(REQUEST_SECONDS, "route" => route).record(duration);
}

/// An association in the number of open ones, until dropped: however its task ends.
#[derive(Debug)]
pub struct OpenAssociation(());

impl OpenAssociation {
    /// Counts an association that opens.
    pub fn count() -> Self {
        gauge!(ASSOCIATIONS).increment(1.0);
        Self(())
    }
}

impl Drop for OpenAssociation {
    fn drop(&mut self) {
        gauge!(ASSOCIATIONS).decrement(1.0);
    }
}

/// Counts a request to a webhook.
pub fn webhook_requested(is_delivered: bool) {
    let outcome = if is_delivered { "delivered" } else { "failed" };
    counter!(WEBHOOK_REQUESTS, "outcome" => outcome).increment(1);
}

/// Counts an attempt to forward an instance: `sent`, `failed` or `later`.
pub fn forwarded(tenant: &str, destination: &str, outcome: &'static str) {
    let (tenant, destination) = (tenant.to_owned(), destination.to_owned());
    counter!(FORWARDED, "tenant" => tenant, "destination" => destination, "outcome" => outcome).increment(1);
}

/// Sets the number of instances that are known to wait to be forwarded.
pub fn forward_waiting(tenant: &str, destination: &str, count: u64) {
    let (tenant, destination) = (tenant.to_owned(), destination.to_owned());
    gauge!(FORWARD_WAITING, "tenant" => tenant, "destination" => destination).set(count as f64);
}

/// Counts an attempt to send a report of storage commitment: `taken`, `later` or `given_up`.
pub fn commitment_reported(outcome: &'static str) {
    counter!(COMMITMENT_REPORTS, "outcome" => outcome).increment(1);
}

/// Sets the number of reports of storage commitment that wait.
pub fn commitments_waiting(count: usize) {
    gauge!(COMMITMENT_REPORTS_WAITING).set(count as f64);
}

/// Counts an attempt to make a preview.
pub fn preview_ended(outcome: &'static str, duration: Duration) {
    counter!(PREVIEWS, "outcome" => outcome).increment(1);
    histogram!(PREVIEW_SECONDS).record(duration);
}

/// Counts a renewed certificate that cannot be used.
pub fn tls_reload_failed() {
    counter!(TLS_RELOAD_FAILURES).increment(1);
}

/// Counts a panic in blocking work.
pub fn panicked() {
    counter!(PANICS).increment(1);
}

/// Counts a frame that could not be decoded because its process failed.
pub fn decoder_failed(cause: &'static str) {
    counter!(DECODER_FAILURES, "cause" => cause).increment(1);
}

/// Records a checkpoint of the embedded index.
pub fn index_checkpointed(duration: Duration) {
    histogram!(INDEX_CHECKPOINT_SECONDS).record(duration);
}

/// Counts bytes written to the write-ahead log of the embedded index.
pub fn index_logged(bytes: u64) {
    counter!(INDEX_LOG_BYTES).increment(bytes);
}

/// Counts a request to S3 that has ended, with all its retries. `operation` is the name in the API of S3.
pub fn s3_answered(operation: &'static str, outcome: &'static str) {
    counter!(S3_REQUESTS, "operation" => operation, "outcome" => outcome).increment(1);
}

/// Counts a retry of a request to S3.
pub fn s3_retried() {
    counter!(S3_RETRIES).increment(1);
}

/// Counts bytes of objects that were sent to S3.
pub fn s3_sent(bytes: u64) {
    counter!(S3_BYTES, "direction" => "sent").increment(bytes);
}

/// Counts bytes of objects that were received from S3.
pub fn s3_received(bytes: u64) {
    counter!(S3_BYTES, "direction" => "received").increment(bytes);
}

/// Counts a read through the cache of originals: `hit` or `miss`.
pub fn cache_read(outcome: &'static str) {
    counter!(CACHE_READS, "outcome" => outcome).increment(1);
}

/// Sets the number of bytes that the cache of originals takes on disk.
pub fn cache_holds(bytes: u64) {
    gauge!(CACHE_BYTES).set(bytes as f64);
}

/// Counts a request to DynamoDB; each attempt is counted.
pub fn table_requested(operation: &'static str) {
    counter!(TABLE_REQUESTS, "operation" => operation).increment(1);
}

/// Counts a retry of a request to DynamoDB.
pub fn table_retried() {
    counter!(TABLE_RETRIES).increment(1);
}

/// The units in which DynamoDB bills requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Units {
    /// A consistent read of 4 KiB.
    Read,
    /// A write of 1 KiB.
    Write,
}

/// Counts the units that a request to DynamoDB consumed.
pub fn table_units_consumed(operation: &'static str, kind: Units, units: f64) {
    let kind = match kind {
        Units::Read => "read",
        Units::Write => "write",
    };
    counter!(TABLE_UNITS, "operation" => operation, "kind" => kind).increment(units.ceil() as u64);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_a_filter_are_levels() {
        for (filter, unknown) in [
            ("info", None),
            ("WARN", None),
            ("cuspid=debug,warn", None),
            ("cuspid::http=debug, off", None),
            ("info,[search]=trace", None),
            ("loud", Some("loud")),
            ("cuspid=debug,warning", Some("warning")),
        ] {
            assert_eq!(unknown_level(filter), unknown, "{filter}");
        }
    }
}
