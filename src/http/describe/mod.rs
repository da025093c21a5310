//! Descriptions of the server for programs: the Capabilities Description of the service (PS3.18 §8.9, Annex
//! H), and all resources in OpenAPI.

use axum::body::Body;
use axum::http::header::ALLOW;
use axum::http::{HeaderValue, Response};
use bytes::Bytes;

use crate::dicom::attributes::Tag;
use crate::dicom::tags;
use crate::http::error::Error;
use crate::http::request::Head;
use crate::http::resources::operation::Resource;
use crate::http::response::ranged::{begin, fingerprint, finish};
use crate::query::Level;
use crate::query::indexed_attributes;

mod openapi;
#[cfg(test)]
mod tests;
mod wadl;

const WADL: &str = "application/vnd.sun.wadl+xml";
const JSON: &str = "application/json";

/// The Capabilities Description of the DICOMweb service, with those of the resources that belong to the
/// service.
pub(in crate::http) fn capabilities(
    resources: impl Iterator<Item = &'static Resource>,
    head: &Head,
) -> Result<Response<Body>, Error> {
    let media_types = [WADL, JSON];
    let refused = || Error::NotAcceptable(format!("Accept: can be {}", media_types.join(", ")));
    let (chosen, _) = head
        .accept()
        .choose_type(&media_types)
        .filter(|(_, is_multipart)| !is_multipart)
        .ok_or_else(refused)?;
    let below = resources.filter_map(|resource| Some((resource.path.strip_prefix("/dicom-web/")?, resource)));
    // This transaction is not described (Annex H).
    let below = below.filter(|(path, _)| !path.is_empty());
    let description = wadl::describe(head.base_url(), below);
    let text = if chosen == 0 { description.xml() } else { description.json().to_string() };
    let mut response = answer(text, media_types[chosen], head)?;
    response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD, OPTIONS"));
    Ok(response)
}

/// The description of resources in OpenAPI. `issuer` is the OpenID provider whose tokens callers need, if
/// authentication is on.
pub(in crate::http) fn openapi(
    resources: impl Iterator<Item = &'static Resource> + Clone,
    issuer: Option<&str>,
    head: &Head,
) -> Result<Response<Body>, Error> {
    let base_url = head.base_url();
    let server_url = base_url.strip_suffix("/dicom-web").unwrap_or(base_url);
    answer(openapi::describe(server_url, issuer, resources).to_string(), JSON, head)
}

fn answer(text: String, media_type: &str, head: &Head) -> Result<Response<Body>, Error> {
    let etag = format!("\"{}\"", fingerprint(&text));
    let (response, range) = begin(&etag, media_type, text.len() as u64, head)?;
    let range = range.unwrap_or_default();
    finish(response, Body::from(Bytes::from(text).slice(range.start as usize..range.end as usize)))
}

/// The attributes that a search for a level matches: those of the level and of the levels above it. The time
/// zone decides how dates are matched, and is among the parameters.
fn matched(level: Level) -> impl Iterator<Item = Tag> {
    let of_level = indexed_attributes::all().iter().filter(move |entry| entry.level <= level);
    of_level.map(|entry| entry.tag).filter(|tag| *tag != tags::TIMEZONE_OFFSET_FROM_UTC)
}

/// The names in braces of a path.
fn path_parameters(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'))
}
