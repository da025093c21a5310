//! Adds Content-Location, the URL of the representation, to responses with an ETag (PS3.18 §8.4.2).

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{CONTENT_LOCATION, ETAG};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::Response;

use crate::http::Service;
use crate::http::request::base_url;

/// Middleware: adds Content-Location if the handler has not. Search results have no ETag, and are no
/// representation of a resource.
pub(super) async fn locate(State(service): State<Arc<Service>>, request: Request, next: Next) -> Response {
    let location = location(&service.settings.public_url, request.headers(), request.uri());
    let mut response = next.run(request).await;
    let is_representation = matches!(response.status(), StatusCode::OK | StatusCode::PARTIAL_CONTENT)
        && response.headers().contains_key(ETAG);
    if let Some(location) = location.filter(|_| is_representation) {
        response.headers_mut().entry(CONTENT_LOCATION).or_insert(location);
    }
    response
}

/// The URL of a request to the DICOMweb service; `None` for other resources.
fn location(public_url: &str, headers: &HeaderMap, uri: &Uri) -> Option<HeaderValue> {
    let target = uri.path_and_query()?.as_str().strip_prefix("/dicom-web")?;
    let base_url = base_url::of(headers, public_url);
    HeaderValue::try_from(format!("{base_url}{target}")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resources_of_the_dicomweb_service_have_a_location() {
        let location = |path| location("https://pacs.example", &HeaderMap::new(), &Uri::from_static(path));
        let expected = "https://pacs.example/dicom-web/studies/1/metadata?accept=x";
        assert_eq!(location("/dicom-web/studies/1/metadata?accept=x").unwrap(), expected);
        assert_eq!(location("/openapi.json"), None);
    }
}
