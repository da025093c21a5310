//! What every answer has: leave for browsers on other origins, a request identifier, and answers for what no handler covers (Fetch standard,
//! "CORS protocol"; RFC 9110 §9.3.7, §15.5.6).

use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, ALLOW, CONNECTION,
    CONTENT_LOCATION, ETAG, ORIGIN, VARY,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use uuid::Uuid;

use crate::http::Service;
use crate::http::error::{Cause, Error};
use crate::http::middleware::concurrency_limit::{Peer, Placed, client};
use crate::http::middleware::normalize_path;
use crate::http::middleware::unread_body;
use crate::http::request::base_url;
use crate::telemetry;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// What is answered however many requests a client has under way.
const OPERATIONS: [&str; 3] = ["/healthz", "/readyz", "/metrics"];

/// Not DELETE: a page of another site may show and store, but not delete. Without authentication nothing else keeps it from that.
const ALLOWED_METHODS: &str = "GET, HEAD, POST, OPTIONS";
const ALLOWED_HEADERS: &str = "Authorization, Accept, Content-Type, Range, If-Range, If-None-Match, \
     If-Modified-Since, Cache-Control, X-Requested-With, X-Request-Id";
const EXPOSED_HEADERS: &str = "Content-Type, Content-Length, Content-Range, Content-Encoding, Accept-Ranges, \
     ETag, Link, Location, Content-Location, Content-Disposition, Warning, Retry-After, WWW-Authenticate, X-Decode-Level, X-Request-Id";

/// Wraps every answer of the server.
pub(crate) async fn wrap(State(service): State<Arc<Service>>, mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    if let Some(tidied) = normalize_path::tidied(request.uri()) {
        *request.uri_mut() = tidied;
    }
    let route = route(request.uri().path());
    let id = request_id(request.headers());
    let origin = allowed_origin(&service.settings.allowed_origins, request.headers());
    let method = request.method().clone();
    let location = location(&service, &request);
    let (request, progress) = unread_body::watch(request);
    let mut response = answer(&service, request, next).await;
    if response.status() == StatusCode::METHOD_NOT_ALLOWED {
        response = not_allowed(&method, response.headers());
    }
    if let Some(Cause(cause)) = response.extensions_mut().remove() {
        tracing::error!(request.id = %id, %method, "cannot answer request {id}: {cause}");
    }
    let status = response.status();
    let headers = response.headers_mut();
    if let Ok(id) = HeaderValue::try_from(id) {
        headers.insert(REQUEST_ID, id);
    }
    if progress.is_unread() {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    headers.insert(RESOURCE_POLICY, HeaderValue::from_static("cross-origin"));
    if let (Some(location), StatusCode::OK | StatusCode::PARTIAL_CONTENT, true) =
        (location, status, headers.contains_key(ETAG))
    {
        headers.entry(CONTENT_LOCATION).or_insert(location);
    }
    if let Some(origin) = origin {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED_HEADERS));
        headers.append(VARY, HeaderValue::from_static("Origin"));
    }
    telemetry::request_answered(route, status.as_u16(), started.elapsed());
    response
}

/// Lets a request through to its handler, unless it is one that none is to see.
async fn answer(service: &Service, request: Request, next: Next) -> Response {
    let headers = request.headers();
    if request.method() == Method::OPTIONS && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD) {
        return preflight();
    }
    let peer = request.extensions().get::<Peer>().copied();
    // Whoever watches the server must see it at its busiest.
    let Some(peer) = peer.filter(|_| !OPERATIONS.contains(&request.uri().path())) else {
        return next.run(request).await;
    };
    match service.fair_share.take(client(headers, peer)) {
        Some(place) => next.run(request).await.map(|body| Body::new(Placed { body, _place: place })),
        None => Error::TooManyRequests { limit: service.settings.max_requests_per_client }.into_response(),
    }
}

/// The URL of what is asked for, as Content-Location tells it of a representation (PS3.18 §8.4.2). Results of a search are none.
fn location(service: &Service, request: &Request) -> Option<HeaderValue> {
    let target = request.uri().path_and_query()?.as_str().strip_prefix("/dicom-web")?;
    let base_url = base_url::of(request.headers(), &service.settings.public_url);
    HeaderValue::try_from(format!("{base_url}{target}")).ok()
}

/// The kind of resource that a path is of: the last of its words that is a name and no identifier.
fn route(path: &str) -> &'static str {
    const NAMES: [&str; 16] = [
        "studies",
        "series",
        "instances",
        "metadata",
        "frames",
        "bulkdata",
        "pixeldata",
        "rendered",
        "thumbnail",
        "wado",
        "stream",
        "viewer",
        "console",
        "healthz",
        "readyz",
        "metrics",
    ];
    let named = path.rsplit('/').find_map(|word| NAMES.iter().find(|name| **name == word));
    named.copied().unwrap_or("other")
}

/// The identifier that a proxy gave the request, if it can be one, or another.
fn request_id(headers: &HeaderMap) -> String {
    let given = headers.get(REQUEST_ID).and_then(|value| value.to_str().ok()).filter(|id| {
        (1..=128).contains(&id.len())
            && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    });
    given.map_or_else(|| Uuid::now_v7().to_string(), str::to_owned)
}

/// What Access-Control-Allow-Origin says to the page that asks; nothing if it may not.
fn allowed_origin(allowed: &[String], headers: &HeaderMap) -> Option<HeaderValue> {
    let origin = headers.get(ORIGIN)?;
    if allowed.iter().any(|allowed| allowed == "*") {
        return Some(HeaderValue::from_static("*"));
    }
    allowed.iter().any(|allowed| allowed.as_bytes() == origin.as_bytes()).then(|| origin.clone())
}

fn preflight() -> Response {
    let headers = [
        (ACCESS_CONTROL_ALLOW_METHODS, ALLOWED_METHODS),
        (ACCESS_CONTROL_ALLOW_HEADERS, ALLOWED_HEADERS),
        (ACCESS_CONTROL_MAX_AGE, "86400"),
    ];
    (StatusCode::NO_CONTENT, headers, Body::empty()).into_response()
}

/// Answers a method that the resource has no handler for. `headers` list those that it has.
fn not_allowed(method: &Method, headers: &HeaderMap) -> Response {
    let known = headers.get(ALLOW).and_then(|allow| allow.to_str().ok()).unwrap_or_default();
    let separated = known.split(',').map(str::trim).filter(|name| !name.is_empty());
    let allow = separated.chain(["OPTIONS"]).collect::<Vec<_>>().join(", ");
    let answer = if method == Method::OPTIONS {
        StatusCode::NO_CONTENT.into_response()
    } else {
        Error::Method.into_response()
    };
    ([(ALLOW, allow)], answer).into_response()
}
