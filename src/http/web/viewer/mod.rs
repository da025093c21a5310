//! The OHIF viewer at `/viewer/`: the files that `make viewer` installed, with a configuration that points
//! here.
//!
//! No file holds the URL of the server: the page gets a `<base>` relative to the requested URL, and the
//! configuration finds the DICOMweb service beside itself. So the viewer works behind any proxy, below any
//! path.

use std::path::Path;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, Response, Uri};
use axum::response::IntoResponse;

use crate::http::Service;
use crate::http::auth::{Authenticator, SignIn};
use crate::http::error::Error;
use crate::http::web::REVALIDATED;
use crate::http::web::files::{self, PAGE};

/// The path of the viewer.
const ROOT: &str = "/viewer";

/// No page of another site may show the viewer within itself, and lead the user's clicks. There is no
/// isolation from other origins (COOP, COEP): OHIF needs no shared memory, and browsers would then refuse to
/// show a PDF in its page.
const POLICY: HeaderValue = HeaderValue::from_static("frame-ancestors 'self'");

/// `GET /viewer`: redirects to `/viewer/`.
pub(crate) async fn enter(uri: Uri) -> impl IntoResponse {
    files::enter(&uri, "viewer/")
}

/// `GET /viewer/app-config.js`: OHIF's configuration.
pub(crate) async fn configuration(State(service): State<Arc<Service>>) -> Response<Body> {
    let content_type = [(CONTENT_TYPE, "text/javascript; charset=utf-8")];
    let mut script = include_str!("app-config.js").to_owned();
    if let Some(sign_in) = service.auth.as_ref().map(Authenticator::sign_in).filter(SignIn::is_possible) {
        script = script.replacen("signIn = null", &format!("signIn = {}", sign_in.to_json()), 1);
    }
    files::with_headers((content_type, script).into_response(), POLICY, REVALIDATED)
}

/// `GET /viewer/…`: a file, or the page for what names a view and not a file.
pub(crate) async fn file(
    State(service): State<Arc<Service>>,
    request: Request,
) -> Result<Response<Body>, Error> {
    let directory = &service.viewer.directory;
    let path = request.uri().path().strip_prefix(ROOT).unwrap_or_default().to_owned();
    if is_view(&path) {
        return Ok(files::with_headers(page(directory, &path).await?, POLICY, REVALIDATED));
    }
    let (found, caching) = files::serve(directory, path, request).await?;
    Ok(files::with_headers(found, POLICY, caching))
}

/// Whether a viewer is installed.
pub(crate) async fn is_installed(service: &Service) -> bool {
    files::has_page(&service.viewer.directory).await
}

/// Whether a path is a view of OHIF, as `/viewer` and `/viewer/dicomweb`: names of files have an extension.
fn is_view(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default();
    !name.contains('.') || name == PAGE
}

/// The page, with the base of its links relative to `path`.
async fn page(directory: &Path, path: &str) -> Result<Response<Body>, Error> {
    let text = files::read(directory, PAGE, Error::NoViewer).await?;
    let depth = path.matches('/').count().saturating_sub(1);
    let base = format!("<head><base href=\"./{}\">", "../".repeat(depth));
    let html = text.replacen("<head>", &base, 1);
    Ok(([(CONTENT_TYPE, "text/html; charset=utf-8")], html).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn views_are_told_from_files() {
        for (path, expected) in [
            ("/", true),
            ("/viewer", true),
            ("/viewer/dicomweb", true),
            ("/index.html", true),
            ("/app.bundle.0f61.js", false),
            ("/assets/favicon.ico", false),
            ("/.installed", false),
        ] {
            assert_eq!(is_view(path), expected, "{path}");
        }
    }
}
