//! The fast stream: a series' slices as JPEG 2000, an index first. Not of the standard; see
//! docs/fast-stream.md.

use std::ops::Range;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::Response;

use crate::archive::access::Caller;
use crate::archive::derived::preview::stream;
use crate::archive::scope::Scope;
use crate::http::Service;
use crate::http::error::Error;
use crate::http::request::Head;
use crate::http::request::path::Target;
use crate::http::response::ranged::{begin, finish};

/// The media type of a stream.
const MEDIA_TYPE: &str = "application/vnd.cuspid.stream";

/// `GET /stream/studies/{study}/series/{series}[?slices=first-last]`.
pub(crate) async fn stream(
    State(service): State<Arc<Service>>,
    caller: Caller,
    Target(scope): Target,
    head: Head,
) -> Result<Response<Body>, Error> {
    let Scope { study, series: Some(series), .. } = scope else { return Err(Error::NoResource) };
    let slices = slices(&head)?;
    let preview = stream::open(&service.archive, &caller, &study, &series, slices).await?;
    let etag = format!("\"{}\"", preview.version);
    let (response, range) = begin(&etag, MEDIA_TYPE, preview.length(), &head)?;
    let Some(range) = range else { return finish(response, Body::empty()) };
    let bytes = stream::read(&service.archive, &preview, range).await?;
    finish(response, Body::from_stream(bytes))
}

/// The requested slices: `first-last`, from 0, both included.
fn slices(head: &Head) -> Result<Option<Range<u32>>, Error> {
    let pairs = head.query_pairs();
    let Some((name, text)) = pairs.iter().find(|(name, _)| name == "slices") else { return Ok(None) };
    let range = text.split_once('-').and_then(|(first, last)| {
        let (first, last) = (first.parse().ok()?, last.parse::<u32>().ok()?);
        Some(first..last.checked_add(1)?).filter(|range: &Range<u32>| range.start < range.end)
    });
    let wrong = || Error::Parameter { name: name.clone(), reason: "is not `first-last`, from 0".into() };
    range.map(Some).ok_or_else(wrong)
}
