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
    Ok(([(CACHE_CONTROL, "no-store")], "ready\n").into_response())
}

/// `GET /metrics`: in the text format of Prometheus.
pub(crate) async fn metrics(State(service): State<Arc<Service>>) -> impl IntoResponse {
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], service.metrics.render())
}
