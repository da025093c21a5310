//! Health, readiness and metrics.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};

use crate::http::Door;
use crate::http::error::Error;

/// `GET /healthz`: the process answers.
pub(crate) async fn healthz() -> impl IntoResponse {
    ([(CACHE_CONTROL, "no-store")], "ok\n")
}

/// `GET /readyz`: requests can be served.
pub(crate) async fn readyz(State(door): State<Arc<Door>>) -> Result<Response, Error> {
    if door.is_ready.load(Ordering::Relaxed) {
        Ok(([(CACHE_CONTROL, "no-store")], "ready\n").into_response())
    } else {
        Err(Error::Unavailable("the server is starting or stopping".into()))
    }
}

/// `GET /metrics`: in the text format of Prometheus.
pub(crate) async fn metrics(State(door): State<Arc<Door>>) -> impl IntoResponse {
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], door.metrics.render())
}
