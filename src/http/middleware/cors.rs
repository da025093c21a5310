//! Adds CORS headers to every response, and answers preflight requests (Fetch standard, "CORS protocol").

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::config::AllowedOrigin;
use crate::http::Service;

const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// Without DELETE: a page of another site may read and store, but not delete. Without authentication, nothing
/// else prevents such a page from deleting.
const ALLOWED_METHODS: &str = "GET, HEAD, POST, OPTIONS";
const ALLOWED_HEADERS: &str = "Authorization, Accept, Content-Type, Range, If-Range, If-None-Match, \
     If-Modified-Since, Cache-Control, X-Requested-With, X-Request-Id";
const EXPOSED_HEADERS: &str = "Content-Type, Content-Length, Content-Range, Content-Encoding, Accept-Ranges, \
     ETag, Link, Location, Content-Location, Content-Disposition, Warning, Retry-After, WWW-Authenticate, \
     X-Decode-Level, X-Request-Id";

/// Middleware: lets pages of the allowed origins (`http.allowed_origins`) read the response.
pub(super) async fn allow_origins(
    State(service): State<Arc<Service>>,
    request: Request,
    next: Next,
) -> Response {
    let origin = allowed_origin(&service.settings.allowed_origins, request.headers());
    let is_preflight =
        request.method() == Method::OPTIONS && request.headers().contains_key(ACCESS_CONTROL_REQUEST_METHOD);
    let mut response = if is_preflight { preflight() } else { next.run(request).await };
    let headers = response.headers_mut();
    headers.insert(RESOURCE_POLICY, resource_policy(&service.settings.allowed_origins));
    if let Some(origin) = origin {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED_HEADERS));
    }
    // A response without these fields must not be reused for a page of an allowed origin either.
    headers.append(VARY, HeaderValue::from_static("Origin"));
    response
}

/// The value of Cross-Origin-Resource-Policy: which pages may embed images and other resources without CORS.
/// Such requests have no Origin, so that the whole list decides.
fn resource_policy(allowed: &[AllowedOrigin]) -> HeaderValue {
    let is_for_others = allowed.iter().any(|allowed| *allowed != AllowedOrigin::Loopback);
    // All ports of `localhost` are one site.
    HeaderValue::from_static(if is_for_others { "cross-origin" } else { "same-site" })
}

/// The value of Access-Control-Allow-Origin for the page that sent a request; `None` if its origin is not
/// allowed.
fn allowed_origin(allowed: &[AllowedOrigin], headers: &HeaderMap) -> Option<HeaderValue> {
    let origin = headers.get(ORIGIN)?;
    if allowed.contains(&AllowedOrigin::Any) {
        return Some(HeaderValue::from_static("*"));
    }
    let text = origin.to_str().ok()?;
    allowed.iter().any(|allowed| allowed.includes(text)).then(|| origin.clone())
}

fn preflight() -> Response {
    let headers = [
        (ACCESS_CONTROL_ALLOW_METHODS, ALLOWED_METHODS),
        (ACCESS_CONTROL_ALLOW_HEADERS, ALLOWED_HEADERS),
        (ACCESS_CONTROL_MAX_AGE, "86400"),
    ];
    (StatusCode::NO_CONTENT, headers, Body::empty()).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_listed_origins_are_allowed() {
        for (allowed, origin, expected) in [
            (&["https://a.example"][..], Some("https://a.example"), Some("https://a.example")),
            (&["https://a.example"], Some("https://b.example"), None),
            (&["https://b.example", "*"], Some("https://a.example"), Some("*")),
            (&["*"], None, None),
            (&[], Some("https://a.example"), None),
            (&[], Some("http://localhost:3000"), None),
            (&["loopback"], Some("http://localhost:3000"), Some("http://localhost:3000")),
            (&["loopback"], Some("https://a.example"), None),
        ] {
            let allowed: Vec<AllowedOrigin> =
                allowed.iter().map(|&allowed| allowed.to_owned().try_into().unwrap()).collect();
            let mut headers = HeaderMap::new();
            if let Some(origin) = origin {
                headers.insert(ORIGIN, HeaderValue::from_static(origin));
            }
            let found = allowed_origin(&allowed, &headers);
            assert_eq!(found.as_ref().map(HeaderValue::as_bytes), expected.map(str::as_bytes), "{origin:?}");
        }
    }

    #[test]
    fn a_preflight_does_not_allow_to_delete() {
        let response = preflight();
        assert_eq!(response.status(), StatusCode::NO_CONTENT);
        assert!(!response.headers()[ACCESS_CONTROL_ALLOW_METHODS].to_str().unwrap().contains("DELETE"));
    }
}
