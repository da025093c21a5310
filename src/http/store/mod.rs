//! STOW-RS: stores instances (PS3.18 §10.5), each part of the body as it arrives.

mod body;
pub(crate) mod mini;
mod payload;
mod reader;
mod response;

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CONTENT_TYPE, WARNING};
use axum::http::{HeaderValue, Response};

use crate::archive::access::Caller;
use crate::http::Service;
use crate::http::error::Error;
use crate::http::request::Head;
use crate::http::request::path::ParentPath;
use crate::http::store::body::{BodyLimits, BodyReader};
use crate::http::store::payload::Payload;
use crate::http::store::reader::StoreRequestReader;
use crate::http::store::response::respond;
use crate::http::warning::warning;

/// The size up to which a compressed body may have any ratio: small bodies that are all alike are no attack.
const GZIP_GRACE_BYTES: u64 = 64 << 20;

/// `POST /studies` and `POST /studies/{study}`.
///
/// Errors in the head of the request are found before the body is read: a client that expects `100 Continue`
/// (RFC 9110 §10.1.1) then sends no body.
pub(crate) async fn store(
    State(service): State<Arc<Service>>,
    caller: Caller,
    within: ParentPath,
    head: Head,
    body: Body,
) -> Result<Response<Body>, Error> {
    let payload = Payload::of(head.text(CONTENT_TYPE))?;
    let settings = service.archive.request_limits();
    let limits = BodyLimits {
        max_bytes: settings.max_request_bytes,
        idle_timeout: Duration::from_secs(service.settings.idle_timeout_seconds),
        min_bytes_per_second: settings.min_bytes_per_second,
        max_gzip_ratio: settings.max_gzip_ratio,
        gzip_grace_bytes: GZIP_GRACE_BYTES,
    };
    let max_parts = settings.max_parts;
    service.archive.note_store_url(head.base_url());
    let mut chunks = BodyReader::new(body, &head.headers, limits)?;
    let url = match &within.study {
        Some(study) => format!("{}/studies/{study}", head.base_url()),
        None => format!("{}/studies", head.base_url()),
    };
    let of_request = caller.clone();
    let mut reader =
        StoreRequestReader::new(Arc::clone(&service.archive), of_request, within.study, url, max_parts);
    let ended = reader.read(&mut chunks, &payload).await;
    let mut response = respond(&head, reader.finish().await, ended)?;
    let notice = service.archive.quota_notice(&caller);
    if let Some(Ok(value)) = notice.map(|notice| HeaderValue::try_from(warning(&notice))) {
        response.headers_mut().append(WARNING, value);
    }
    Ok(response)
}
