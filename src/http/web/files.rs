//! Files of an installed page, from a directory.

use std::io::{self, ErrorKind};
use std::path::Path;

use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_RANGE, CONTENT_SECURITY_POLICY, LOCATION, RANGE, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use axum::http::{HeaderName, HeaderValue, Response, StatusCode, Uri};
use axum::response::IntoResponse;
use tower_http::services::ServeDir;

use crate::http::error::Error;
use crate::http::web::{IMMUTABLE, REVALIDATED};

/// The page of an installation.
pub(super) const PAGE: &str = "index.html";

/// Header fields of every file.
const HEADERS: [(HeaderName, HeaderValue); 3] = [
    // Signing in again uses a frame of this origin.
    (X_FRAME_OPTIONS, HeaderValue::from_static("SAMEORIGIN")),
    (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
];

/// Redirects to a directory, to which the links of its page are relative.
pub(super) fn enter(uri: &Uri, directory: &str) -> impl IntoResponse + use<> {
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    (StatusCode::PERMANENT_REDIRECT, [(LOCATION, format!("{directory}{query}"))])
}

/// Whether a path, as it was sent, is that of the page: as `/index.html`, and `/./index.html`.
pub(super) fn is_page(path: &str) -> bool {
    let path = percent_encoding::percent_decode_str(path).decode_utf8_lossy();
    let mut parts = path.split('/').filter(|part| !["", "."].contains(part));
    parts.next() == Some(PAGE) && parts.next().is_none()
}

/// Whether a directory has a page.
pub(super) async fn has_page(directory: &Path) -> bool {
    tokio::fs::try_exists(directory.join(PAGE)).await.unwrap_or_default()
}

/// The response with the header fields of files, its policy and its `Cache-Control`.
pub(super) fn with_headers(
    mut response: Response<Body>,
    policy: HeaderValue,
    caching: HeaderValue,
) -> Response<Body> {
    response.headers_mut().extend(HEADERS);
    response.headers_mut().insert(CONTENT_SECURITY_POLICY, policy);
    response.headers_mut().insert(CACHE_CONTROL, caching);
    response
}

/// The response with the file at `path` in a directory, compressed if it was compressed at installation, and
/// its `Cache-Control`.
pub(super) async fn serve(
    directory: &Path,
    path: String,
    request: Request,
) -> Result<(Response<Body>, HeaderValue), Error> {
    let caching = if has_hash(&path) { IMMUTABLE } else { REVALIDATED };
    let (mut head, body) = request.into_parts();
    head.uri = Uri::try_from(path).map_err(|_| Error::NoResource)?;
    // Several ranges count as none (RFC 9110 §14.2), as for all other resources.
    if head.headers.get(RANGE).is_some_and(|range| range.as_bytes().contains(&b',')) {
        head.headers.remove(RANGE);
    }
    let mut files = ServeDir::new(directory).append_index_html_on_directories(false);
    files = files.precompressed_br().precompressed_gzip();
    match files.try_call(Request::from_parts(head, body)).await {
        Ok(found) if found.status() == StatusCode::NOT_FOUND => Err(Error::NoResource),
        Ok(found) if is_range_of_nothing(&found) => Err(Error::Range { size: 0 }),
        Ok(found) => Ok((found.map(Body::new), caching)),
        Err(error) if is_missing(&error) => Err(Error::NoResource),
        Err(error) => Err(Error::Damaged(error.into())),
    }
}

/// The text of a file of a directory; `missing` is the error if there is no such file.
pub(super) async fn read(directory: &Path, name: &str, missing: Error) -> Result<String, Error> {
    let text = tokio::fs::read_to_string(directory.join(name)).await;
    text.map_err(|error| if is_missing(&error) { missing } else { Error::Damaged(error.into()) })
}

/// Whether a response has a range of an empty file, which has none.
fn is_range_of_nothing<B>(response: &Response<B>) -> bool {
    let range =
        response.headers().get(CONTENT_RANGE).filter(|_| response.status() == StatusCode::PARTIAL_CONTENT);
    range.is_some_and(|range| range.as_bytes().ends_with(b"/0"))
}

fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::InvalidFilename)
}

/// Whether the name of a file has a hash of its bytes, as `app.bundle.0f6159c501addfe9.js`: another file has
/// another name. A file without may be replaced by a new installation.
fn has_hash(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default();
    let is_hash = |part: &str| part.len() == 16 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    name.split('.').any(is_hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_whose_names_have_a_hash_never_change() {
        for (path, expected) in [
            ("/app.bundle.0f6159c501addfe9.js", true),
            ("/34b1e6b1deb5828e.wasm", true),
            ("/ort/a34f9d1faa5f3315.woff2", true),
            ("/app.bundle.css", false),
            ("/0f6159c501addfe9/index.js", false),
            ("/a.0f6159c501addfeg.js", false),
        ] {
            assert_eq!(has_hash(path), expected, "{path}");
        }
    }
}
