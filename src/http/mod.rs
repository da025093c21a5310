//! Door 1: HTTP in words of the archive, and back (PS3.18). No DICOM is parsed here and nothing is stored.

use std::sync::Arc;

use metrics_exporter_prometheus::PrometheusHandle;
use tokio_util::sync::CancellationToken;

use crate::archive::Archive;
use crate::config;

pub mod accept;
mod auth;
mod base_url;
mod console;
mod content;
mod error;
mod every_answer;
mod impatient;
mod json;
pub mod multipart;
mod ops;
mod path;
mod request;
mod retrieve;
mod routes;
mod search;
mod serve;
mod store;
mod stream;

pub use serve::run;

/// What the door gives access to, and its settings.
pub struct Service {
    archive: Arc<Archive>,
    settings: config::Http,
    metrics: PrometheusHandle,
    /// Cancelled when the server begins to stop.
    stop: CancellationToken,
}

impl Service {
    /// A service for an archive; `metrics` is what `/metrics` shows.
    pub fn new(archive: Arc<Archive>, settings: config::Http, metrics: PrometheusHandle) -> Self {
        Self { archive, settings, metrics, stop: CancellationToken::new() }
    }
}
