//! Door 1: HTTP in words of the archive, and back (PS3.18). No DICOM is parsed here and nothing is stored.

use std::sync::Arc;

use metrics_exporter_prometheus::PrometheusHandle;
use tokio_util::sync::CancellationToken;

use crate::archive::Archive;
use crate::config;
use crate::config::Config;
use crate::http::auth::Authenticator;
use crate::http::middleware::concurrency_limit::FairShare;

mod auth;
mod capabilities;
mod delete;
mod error;
mod middleware;
mod ops;
mod preview_stream;
pub mod request;
mod response;
mod retrieve;
mod routes;
mod search;
mod server;
mod store;
mod wado_uri;
mod web;

pub use server::run;

/// What the door gives access to, and its settings.
pub struct Service {
    archive: Arc<Archive>,
    /// Who tells callers by their tokens; nobody if they are all the same.
    auth: Option<Authenticator>,
    settings: config::HttpSettings,
    viewer: config::ViewerSettings,
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
