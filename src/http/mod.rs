//! The HTTP protocol layer: translates between DICOMweb (PS3.18) and the archive. It parses no DICOM and
//! stores nothing.

use std::sync::Arc;
use std::time::Instant;

use metrics_exporter_prometheus::PrometheusHandle;
use tokio_util::sync::CancellationToken;

use crate::archive::Archive;
use crate::budget::Budget;
use crate::config;
use crate::config::Config;
use crate::http::auth::Authenticator;

mod audit;
mod audit_log;
mod auth;
mod changes;
mod delete;
mod describe;
mod error;
mod forwarding;
mod http2;
mod me;
mod middleware;
mod ops;
mod preview_stream;
mod protocol;
pub mod request;
mod resources;
mod response;
mod retrieve;
mod search;
mod server;
mod sharing;
mod status;
mod store;
mod traffic;
mod usage;
mod wado_uri;
mod warning;
mod web;
mod webhooks;

pub use protocol::TLS_PROTOCOLS;
pub use server::run;

/// The state that all handlers share: the archive, and the settings of this layer.
pub struct Service {
    archive: Arc<Archive>,
    /// Authenticates requests; `None` if authentication is off.
    auth: Option<Authenticator>,
    settings: config::HttpSettings,
    viewer: config::ViewerSettings,
    view: config::ViewerSettings,
    /// The most bytes of an instance that is stored.
    max_instance_bytes: u64,
    metrics: PrometheusHandle,
    /// The AE title and the port of DIMSE, if it is on.
    dimse: Option<(String, u16)>,
    started: Instant,
    /// The places of requests under way, by client.
    requests: Budget,
    /// The places of listeners to changes, by client.
    listeners: Budget,
    changes: config::ChangesSettings,
    /// Cancelled when the server begins to stop.
    stop: CancellationToken,
}

impl Service {
    /// A service for an archive; `metrics` renders the response of `/metrics`.
    ///
    /// # Errors
    /// If authentication is on and the machine has no trusted certificates.
    pub fn new(archive: Arc<Archive>, config: &Config, metrics: PrometheusHandle) -> reqwest::Result<Self> {
        Ok(Self {
            archive,
            auth: Authenticator::new(&config.auth)?,
            settings: config.http.clone(),
            viewer: config.viewer.clone(),
            view: config.view.clone(),
            max_instance_bytes: config.ingest.max_instance_bytes,
            metrics,
            dimse: dimse_address(&config.dimse),
            started: Instant::now(),
            requests: Budget::of_places_each(config.http.max_requests_per_client),
            listeners: Budget::of_places(
                config.changes.max_listeners,
                config.changes.max_listeners_per_client,
            ),
            changes: config.changes.clone(),
            stop: CancellationToken::new(),
        })
    }
}

/// The AE title and the port of DIMSE, if it is on; the port with TLS if there is no other.
fn dimse_address(settings: &config::DimseSettings) -> Option<(String, u16)> {
    let addresses = [&settings.listen, &settings.tls_listen];
    let (_, port) = addresses.iter().find_map(|address| address.rsplit_once(':'))?;
    Some((settings.ae_title.clone(), port.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blobs::memory::MemoryBlobs;
    use crate::index::Index;
    use crate::telemetry;

    impl Service {
        /// A service for an empty archive in memory.
        pub(in crate::http) fn for_tests(config: &Config) -> Arc<Self> {
            let blobs = Arc::new(MemoryBlobs::new());
            let archive = Archive::new(blobs, Arc::new(Index::in_memory()), config);
            Arc::new(Self::new(archive, config, telemetry::metrics()).unwrap())
        }
    }
}
