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
    // After such a failure only a restart helps: no further requests should come here.
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
    use crate::blobs::fs::{FileBlobs, PANIC_NAME};
    use crate::blobs::{Blobs, Bucket, Key};
    use crate::config::Config;
    use crate::index::Index;
    use crate::telemetry;

    #[tokio::test]
    async fn a_server_whose_flusher_has_ended_is_not_ready() {
        let directory = tempfile::tempdir().unwrap();
        let blobs = Arc::new(FileBlobs::open(directory.path()).unwrap());
        let config = Config::defaults();
        let archive = Archive::new(blobs.clone(), Arc::new(Index::in_memory()), &config);
        let service = Arc::new(Service::new(archive, &config, telemetry::metrics()).unwrap());
        assert!(readyz(State(service.clone())).await.is_ok());
        let key = Key { bucket: Bucket::Originals, path: PANIC_NAME.into() };
        blobs.put(blobs.stage().await.unwrap(), &key).await.unwrap_err();
        let error = readyz(State(service)).await.unwrap_err();
        assert!(error.to_string().contains("restart the server"), "{error}");
        assert_eq!(error.into_response().status(), 503);
    }
}
