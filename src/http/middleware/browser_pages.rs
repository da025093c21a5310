//! Leads people who open a URL of the services in a browser to the console: data sets and problem details are
//! for programs.

use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::header::{ACCEPT, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE, LOCATION, VARY};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use quick_xml::escape::escape;
use serde_json::Value;

use crate::http::Service;
use crate::http::request::base_url;

const FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
const FETCH_DESTINATION: HeaderName = HeaderName::from_static("sec-fetch-dest");
/// The fields on which the response depends.
const DEPENDS_ON: HeaderValue = HeaderValue::from_static("Sec-Fetch-Mode, Sec-Fetch-Dest, Accept");
/// The most bytes of a problem whose text is shown.
const MAX_PROBLEM_BYTES: usize = 64 << 10;

/// Middleware: redirects visits of a browser from a study, series, instance or the service itself to the
/// console, and answers those of a path that does not exist with a page. A URL with a query is the choice of
/// someone who knows the services, and is left alone. Caches learn what the response depends on, whoever
/// sends the request.
pub(super) async fn lead_to_console(
    State(service): State<Arc<Service>>,
    request: Request,
    next: Next,
) -> Response {
    let place = request.uri().query().is_none().then(|| place_of(request.uri().path())).flatten();
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    if !is_visit(request.method(), request.headers()) {
        let mut response = next.run(request).await;
        if is_read && (place.is_some() || response.status() == StatusCode::NOT_FOUND) {
            response.headers_mut().append(VARY, DEPENDS_ON);
        }
        return response;
    }
    let base = base_url::of(request.headers(), &service.settings.public_url);
    let console = format!("{}/", base.trim_end_matches("/dicom-web"));
    if let Some(place) = place {
        let location = [(LOCATION, format!("{console}{place}"))];
        return (StatusCode::SEE_OTHER, location, [(VARY, DEPENDS_ON)]).into_response();
    }
    // The page of a link says itself that there is no such link.
    let has_own_page = request.uri().path().starts_with("/s/");
    let response = next.run(request).await;
    if response.status() == StatusCode::NOT_FOUND && !has_own_page {
        not_found(response, &console).await
    } else {
        response
    }
}

/// Whether a browser opens the URL as a page of its own (Fetch Metadata §2.2, §2.3).
fn is_visit(method: &Method, headers: &HeaderMap) -> bool {
    let has = |name: &HeaderName, value: &str| headers.get(name).is_some_and(|found| found == value);
    let accept = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    *method == Method::GET
        && has(&FETCH_MODE, "navigate")
        && has(&FETCH_DESTINATION, "document")
        && accept.contains("text/html")
}

/// The place in the console for a path of the services.
fn place_of(path: &str) -> Option<String> {
    let segments: Vec<&str> = path.trim_matches('/').split('/').collect();
    let is_uid = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    match segments.as_slice() {
        ["dicom-web"] | ["dicom-web", "studies"] => Some(String::new()),
        ["dicom-web", "studies", study] if is_uid(study) => Some(format!("#/studies/{study}")),
        ["dicom-web", "studies", study, "series", series]
        | ["dicom-web", "studies", study, "series", series, "instances", _]
            if is_uid(study) && is_uid(series) =>
        {
            Some(format!("#/studies/{study}?series={series}"))
        }
        _ => None,
    }
}

/// A response 404 as a page. The text of the problem stays: it may say what is to be done.
async fn not_found(response: Response, console: &str) -> Response {
    let (mut head, body) = response.into_parts();
    let problem = to_bytes(body, MAX_PROBLEM_BYTES).await.unwrap_or_default();
    let problem: Value = serde_json::from_slice(&problem).unwrap_or_default();
    let detail = escape(problem["detail"].as_str().unwrap_or_default());
    let link = escape(console);
    let page = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Cuspid</title>\
         <meta name=\"viewport\" content=\"width=device-width\"><h1>Cuspid</h1>\
         <p>There is nothing at this address. <a href=\"{link}\">All studies</a></p>\
         <p lang=\"ko\">이 주소에는 아무것도 없습니다. <a href=\"{link}\">검사 목록</a></p>\
         <p><small>{detail}</small></p>\n"
    );
    let policy = "default-src 'none'; frame-ancestors 'none'";
    head.headers.remove(CONTENT_LENGTH);
    head.headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    head.headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    head.headers.append(VARY, DEPENDS_ON);
    Response::from_parts(head, Body::from(page))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_browser_that_opens_a_page_is_led() {
        let page = "text/html,application/xhtml+xml,*/*;q=0.8";
        for (mode, destination, accept, expected) in [
            ("navigate", "document", page, true),
            ("navigate", "iframe", page, false),
            ("cors", "empty", page, false),
            ("no-cors", "image", "image/*", false),
            ("navigate", "document", "application/dicom+json", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(FETCH_MODE, mode.parse().unwrap());
            headers.insert(FETCH_DESTINATION, destination.parse().unwrap());
            headers.insert(ACCEPT, accept.parse().unwrap());
            assert_eq!(is_visit(&Method::GET, &headers), expected, "{mode} {destination} {accept}");
            assert!(!is_visit(&Method::POST, &headers));
        }
        assert!(!is_visit(&Method::GET, &HeaderMap::new()));
    }

    #[test]
    fn what_a_path_names_has_its_place_in_the_console() {
        for (path, expected) in [
            ("/dicom-web", Some("")),
            ("/dicom-web/studies", Some("")),
            ("/dicom-web/studies/1.2", Some("#/studies/1.2")),
            ("/dicom-web/studies/1.2/series/3", Some("#/studies/1.2?series=3")),
            ("/dicom-web/studies/1.2/series/3/instances/4", Some("#/studies/1.2?series=3")),
            ("/dicom-web/studies/1.2/series/3/instances/4/rendered", None),
            ("/dicom-web/studies/1.2/metadata", None),
            ("/dicom-web/studies/a%22b", None),
            ("/openapi.json", None),
            ("/", None),
        ] {
            assert_eq!(place_of(path).as_deref(), expected, "{path}");
        }
    }
}
