//! Small bodies in JSON.

use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::header::CONTENT_TYPE;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use crate::http::Service;
use crate::http::error::Error;
use crate::http::request::Head;

/// The largest body.
const MAX_BYTES: usize = 256 * 1024;

/// Reads a body in JSON.
///
/// # Errors
/// [`Error::UnsupportedMediaType`] if the body is of another type, which a form of a page of another site
/// could send; [`Error::Body`] if the body is too large or is not what is expected; [`Error::TimedOut`] if it
/// does not come.
pub(in crate::http) async fn read<T: DeserializeOwned>(
    service: &Service,
    head: &Head,
    body: Body,
) -> Result<T, Error> {
    let content_type = head.text(CONTENT_TYPE).unwrap_or_default();
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case("application/json") {
        return Err(Error::UnsupportedMediaType("Content-Type: is application/json".into()));
    }
    let seconds = service.settings.idle_timeout_seconds;
    let read = timeout(Duration::from_secs(seconds), to_bytes(body, MAX_BYTES)).await;
    let bytes = read.map_err(|_| Error::TimedOut { seconds })?;
    let bytes = bytes
        .map_err(|_| Error::Body(format!("the body cannot be read, or is larger than {MAX_BYTES} bytes")))?;
    serde_json::from_slice(&bytes)
        .map_err(|error| Error::Body(format!("the body is not what is expected: {error}")))
}
