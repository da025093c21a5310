//! Health, readiness and metrics.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};

use crate::http::Service;
use crate::http::auth;
use crate::http::error::Error;

/// `GET /healthz`: the process answers.
pub(crate) async fn healthz() -> impl IntoResponse {
    ([(CACHE_CONTROL, "no-store")], "ok\n")
}

/// `GET /readyz`: requests can be served.
pub(crate) async fn readyz(State(service): State<Arc<Service>>) -> Result<Response, Error> {
    if service.stop.is_cancelled() {
        return Err(Error::Unavailable("the server is stopping".into()));
    }
    if service.auth.as_ref().is_some_and(|authenticator| !authenticator.is_ready()) {
        return Err(auth::Error::NoKeys.into());
    }
    // No further requests should come here.
    service.archive.health().map_err(|error| Error::Unavailable(error.to_string()))?;
    Ok(([(CACHE_CONTROL, "no-store")], "ready\n").into_response())
}

/// `GET /metrics`: in the text format of Prometheus.
pub(crate) async fn metrics(State(service): State<Arc<Service>>) -> impl IntoResponse {
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], service.metrics.render())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::Archive;
    use crate::blobs::fs::FileBlobs;
    use crate::config::Config;
    use crate::index::Index;
    use crate::telemetry;

    #[tokio::test]
    async fn a_server_that_cannot_store_is_not_ready() {
        let directory = tempfile::tempdir().unwrap();
        let blobs = Arc::new(FileBlobs::open(directory.path()).unwrap());
        let config = Config::defaults();
        let archive = Archive::new(blobs, Arc::new(Index::in_memory()), &config);
        let service = Arc::new(Service::new(archive.clone(), &config, telemetry::metrics()).unwrap());
        let staging = directory.path().join("staging");
        for is_broken in [false, true, false] {
            if is_broken {
                std::fs::remove_dir(&staging).unwrap();
            } else if !staging.exists() {
                std::fs::create_dir(&staging).unwrap();
            }
            archive.probe_storing().await;
            let outcome = readyz(State(service.clone())).await;
            assert_eq!(outcome.is_err(), is_broken);
            let status = outcome.unwrap_or_else(IntoResponse::into_response).status();
            assert_eq!(status, if is_broken { 503 } else { 200 });
        }
    }
}
