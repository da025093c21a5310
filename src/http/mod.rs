//! Door 1: HTTP in words of the archive, and back (PS3.18). No DICOM is parsed here and nothing is stored.

use std::sync::Arc;

use metrics_exporter_prometheus::PrometheusHandle;
use tokio_util::sync::CancellationToken;

use crate::archive::Archive;
use crate::config;
use crate::config::Config;
use crate::http::auth::Authenticator;
use crate::http::fair_share::FairShare;

pub mod accept;
mod auth;
mod base_url;
mod capabilities;
mod console;
mod content;
mod delete;
mod error;
mod every_answer;
mod fair_share;
mod impatient;
mod long_text;
pub mod multipart;
mod ops;
mod path;
mod rendering_parameters;
mod request;
mod retrieve;
mod routes;
mod search;
mod serve;
mod store;
mod stream;
mod tidy_path;
mod unread;
mod viewer;
mod wado_uri;

pub use serve::run;

/// What the door gives access to, and its settings.
pub struct Service {
    archive: Arc<Archive>,
    /// Who tells callers by their tokens; nobody if they are all the same.
    auth: Option<Authenticator>,
    settings: config::Http,
    viewer: config::Viewer,
    metrics: PrometheusHandle,
    fair_share: Arc<FairShare>,
    /// Cancelled when the server begins to stop.
    stop: CancellationToken,
}

impl Service {
    /// A service for an archive; `metrics` is what `/metrics` shows.
    ///
    /// # Errors
    /// There is to be authentication, and the machine has no certificates to trust.
    pub fn new(archive: Arc<Archive>, config: &Config, metrics: PrometheusHandle) -> reqwest::Result<Self> {
        Ok(Self {
            archive,
            auth: Authenticator::new(&config.auth)?,
            settings: config.http.clone(),
            viewer: config.viewer.clone(),
            metrics,
            fair_share: FairShare::new(config.http.max_requests_per_client),
            stop: CancellationToken::new(),
        })
    }
}
