//! `POST /forwarding/retry`: forwards the instances again that could not be sent. Not of the standard; see
//! docs/dimse.md.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::IntoResponse;
use serde::Deserialize;
use serde_json::json;

use crate::archive::access::Caller;
use crate::http::Service;
use crate::http::error::Error;
use crate::http::request::{Head, json_body};

/// The body of a request.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RetryForm {
    destination: String,
}

/// `POST /forwarding/retry`: has the instances that could not be sent to a destination sent again.
pub(in crate::http) async fn retry(
    State(service): State<Arc<Service>>,
    caller: Caller,
    head: Head,
    body: Body,
) -> Result<impl IntoResponse, Error> {
    let RetryForm { destination } = json_body::read(&service, &head, body).await?;
    let retried = service.archive.retry_forwarding(&caller, &destination).await?;
    let body = json!({ "destination": destination, "retried": retried });
    Ok(([(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-store")], body.to_string()))
}
