//! The Cuspid viewer at `/view/`: the files that `make viewer` built from `clients/view`.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, Response, Uri};
use axum::response::IntoResponse;

use crate::http::Service;
use crate::http::error::Error;
use crate::http::web::files::{self, PAGE};
use crate::http::web::{REVALIDATED, viewer, with_sign_in};

/// The path of the viewer.
const ROOT: &str = "/view";

/// Only files of this server, and the WebAssembly of the codec. The policy goes with each file: a worker is
/// under the policy of its script.
const POLICY: &str = "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; style-src 'self'; \
     img-src 'self' data: blob:; base-uri 'self'; form-action 'none'; frame-ancestors 'self'; connect-src 'self'";

/// `GET /view`: redirects to `/view/`.
pub(crate) async fn enter(uri: Uri) -> impl IntoResponse {
    files::enter(&uri, "view/")
}

/// `GET /view/`: the page, with the sign-in parameters if authentication is on, and the URL of OHIF if it is
/// installed.
pub(crate) async fn page(State(service): State<Arc<Service>>) -> Result<Response<Body>, Error> {
    let mut page = files::read(&service.view.directory, PAGE, Error::NoView).await?;
    if viewer::is_installed(&service).await {
        page = page.replacen("data-ohif=\"\"", "data-ohif=\"viewer/\"", 1);
    }
    let (page, policy) = with_sign_in(&service, page, POLICY);
    let content_type = [(CONTENT_TYPE, "text/html; charset=utf-8")];
    Ok(files::with_headers((content_type, page).into_response(), policy, REVALIDATED))
}

/// `GET /view/{path}`: a script, the style sheet, or the codec.
pub(crate) async fn file(
    State(service): State<Arc<Service>>,
    request: Request,
) -> Result<Response<Body>, Error> {
    let path = request.uri().path().strip_prefix(ROOT).unwrap_or_default().to_owned();
    // The page is not served as a file: it would lack the parameters of signing in.
    if files::is_page(&path) {
        return page(State(service)).await;
    }
    let (found, caching) = files::serve(&service.view.directory, path, request).await?;
    Ok(files::with_headers(found, HeaderValue::from_static(POLICY), caching))
}

/// Whether the viewer is installed.
pub(crate) async fn is_installed(service: &Service) -> bool {
    files::has_page(&service.view.directory).await
}
