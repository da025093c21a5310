//! STOW-RS: taking in instances (PS3.18 §10.5), each part of the body as it arrives.

mod body;
mod intake;
mod kind;
mod response;

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::Response;
use axum::http::header::CONTENT_TYPE;

use crate::archive::access::Caller;
use crate::http::Service;
use crate::http::error::Error;
use crate::http::request::Head;
use crate::http::request::path::Within;
use crate::http::store::body::{Chunks, Limits};
use crate::http::store::intake::Intake;
use crate::http::store::kind::Payload;
use crate::http::store::response::respond;

/// `POST /studies` and `POST /studies/{study}`.
///
/// What can be refused by the head of the request is refused before the body is asked for: a client that expects
/// `100 Continue` (RFC 9110 §10.1.1) then sends none.
pub(crate) async fn store(
    State(service): State<Arc<Service>>,
    caller: Caller,
    within: Within,
    head: Head,
    body: Body,
) -> Result<Response<Body>, Error> {
    let payload = Payload::of(head.text(CONTENT_TYPE))?;
    let (max_bytes, min_bytes_per_second, max_parts) = service.archive.request_limits();
    let patience = Duration::from_secs(service.settings.idle_timeout_seconds);
    let limits = Limits { max_bytes, patience, min_bytes_per_second };
    let mut chunks = Chunks::new(body, &head.headers, limits)?;
    let url = match &within.study {
        Some(study) => format!("{}/studies/{study}", head.base_url()),
        None => format!("{}/studies", head.base_url()),
    };
    let mut intake = Intake::new(Arc::clone(&service.archive), caller, within.study, url, max_parts);
    let ended = intake.take(&mut chunks, &payload).await;
    respond(&head, intake.finish().await, ended)
}
