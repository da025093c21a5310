//! The fast stream: a series' slices as JPEG 2000, an index first. Not of the standard; see
//! docs/fast-stream.md.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_LOCATION, CONTENT_TYPE};
use axum::http::{HeaderValue, Response};
use axum::response::IntoResponse;
use serde_json::json;
use tracing::debug;

use crate::archive;
use crate::archive::access::Caller;
use crate::archive::derived::preview::stream;
use crate::archive::derived::preview::stream::{PreviewProgress, StreamPart};
use crate::archive::scope::Scope;
use crate::http::Service;
use crate::http::error::{Cause, Error};
use crate::http::request::cut_out::slices;
use crate::http::request::path::Target;
use crate::http::request::{Head, SIGNATURE_PREFIX};
use crate::http::response::ranged::{begin, finish};

/// The media type of a stream.
const MEDIA_TYPE: &str = "application/vnd.cuspid.stream";
/// The answer of a URL with a version never changes.
const IMMUTABLE: &str = "private, max-age=31536000, immutable";

/// `GET /stream/studies/{study}/series/{series}[?slices=first-last][&stage=k][&version=v]`.
pub(crate) async fn stream(
    State(service): State<Arc<Service>>,
    caller: Caller,
    Target(scope): Target,
    head: Head,
) -> Result<Response<Body>, Error> {
    let Scope { study, series: Some(series), .. } = scope else { return Err(Error::NoResource) };
    let part = part(&head)?;
    let preview = match stream::open(&service.archive, &caller, &study, &series, &part).await {
        Err(error @ archive::Error::NotReady(_)) => return Ok(not_yet(error)),
        preview => preview?,
    };
    let etag = format!("\"{}\"", preview.tag);
    let (response, range) = begin(&etag, MEDIA_TYPE, preview.length(), &head)?;
    let body = match range {
        Some(range) => Body::from_stream(stream::read(&service.archive, &preview, range).await?),
        None => Body::empty(),
    };
    let mut response = finish(response, body)?;
    match (&part.version, &preview.version) {
        (Some(_), _) => {
            response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static(IMMUTABLE));
        }
        (None, Some(version)) => {
            let location =
                format!("/stream/studies/{study}/series/{series}?{}version={version}", query(&part));
            if let Ok(location) = HeaderValue::try_from(location) {
                response.headers_mut().insert(CONTENT_LOCATION, location);
            }
        }
        (None, None) => {}
    }
    Ok(response)
}

/// The response while there is nothing to send yet: a normal state, for which clients poll, and no failure
/// for the log.
fn not_yet(error: archive::Error) -> Response<Body> {
    debug!(%error, "a stream was requested before its slices were encoded");
    let mut response = Error::from(error).into_response();
    response.extensions_mut().remove::<Cause>();
    response
}

/// `GET /stream/studies/{study}/series/{series}/state`.
pub(crate) async fn state(
    State(service): State<Arc<Service>>,
    caller: Caller,
    Target(scope): Target,
) -> Result<Response<Body>, Error> {
    let Scope { study, series: Some(series), .. } = scope else { return Err(Error::NoResource) };
    let progress = stream::progress(&service.archive, &caller, &study, &series).await?;
    let PreviewProgress { state, encoded, slices, stream, reason } = progress;
    let mut text = json!({ "state": state, "encoded": encoded, "slices": slices });
    if let Some((version, size_bytes)) = stream {
        text["version"] = version.into();
        text["size_bytes"] = size_bytes.into();
    }
    if let Some(reason) = reason {
        text["reason"] = reason.into();
    }
    let response = Response::builder().header(CONTENT_TYPE, "application/json");
    finish(response.header(CACHE_CONTROL, "private, no-cache"), Body::from(text.to_string()))
}

/// The beginning of the query that requests a part of a stream.
fn query(part: &StreamPart) -> String {
    let slices = part.slices.as_ref().map(|slices| format!("slices={}-{}&", slices.start, slices.end - 1));
    let stage = part.stage.map(|stage| format!("stage={stage}&"));
    slices.unwrap_or_default() + &stage.unwrap_or_default()
}

/// The requested part of a stream.
fn part(head: &Head) -> Result<StreamPart, Error> {
    let mut part = StreamPart::default();
    for (name, text) in head.query_pairs() {
        let wrong = |reason: &str| Error::Parameter { name: name.clone(), reason: reason.into() };
        match name.as_str() {
            "slices" => {
                part.slices = Some(slices(&text).ok_or_else(|| wrong("is not `first-last`, from 0"))?)
            }
            "stage" => part.stage = Some(text.parse().map_err(|_| wrong("is not a number from 0"))?),
            "version" => part.version = Some(text),
            // The whole stream for a mistyped `slices` would be much that nobody asked for.
            name if !name.starts_with(SIGNATURE_PREFIX) => {
                return Err(wrong("is no parameter of the fast stream"));
            }
            _ => {}
        }
    }
    Ok(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_that_is_not_there_yet_is_no_failure_for_the_log() {
        let response = not_yet(archive::Error::NotReady("the preview is still being made".into()));
        assert_eq!(response.status(), 503);
        assert!(response.extensions().get::<Cause>().is_none());
    }
}
