//! The Cuspid viewer at `/view/`: the files that `make viewer` built from `clients/view`.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, LOCATION, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
    X_FRAME_OPTIONS,
};
use axum::http::{HeaderValue, Response, StatusCode, Uri};
use axum::response::IntoResponse;
use quick_xml::escape::escape;

use crate::http::Service;
use crate::http::auth::Authenticator;
use crate::http::error::Error;
use crate::http::web::{REVALIDATED, files, viewer};

/// The path of the viewer.
const ROOT: &str = "/view";
const PAGE: &str = "index.html";

/// Only files of this server, and the WebAssembly of the codec. The policy goes with each file: a worker is
/// under the policy of its script.
const POLICY: &str = "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; style-src 'self'; \
     img-src 'self' data: blob:; base-uri 'self'; form-action 'none'; frame-ancestors 'self'; connect-src 'self'";

/// `GET /view`: redirects to `/view/`, to which the links of the page are relative.
pub(crate) async fn enter(uri: Uri) -> impl IntoResponse {
    let location = uri.query().map_or_else(|| "view/".to_owned(), |query| format!("view/?{query}"));
    (StatusCode::PERMANENT_REDIRECT, [(LOCATION, location)])
}

/// `GET /view/`: the page, with the sign-in parameters if authentication is on, and the URL of OHIF if it is
/// installed.
pub(crate) async fn page(State(service): State<Arc<Service>>) -> Result<Response<Body>, Error> {
    let mut page = files::read(&service.view.directory, PAGE, Error::NoView).await?;
    if viewer::is_installed(&service).await {
        page = page.replacen("data-ohif=\"\"", "data-ohif=\"viewer/\"", 1);
    }
    let sign_in = service.auth.as_ref().map(Authenticator::sign_in);
    if let Some(sign_in) = &sign_in {
        let told = escape(sign_in.to_json()).into_owned();
        page = page.replacen("data-sign-in=\"\"", &format!("data-sign-in=\"{told}\""), 1);
    }
    let content_type = [(CONTENT_TYPE, "text/html; charset=utf-8")];
    let mut response = with_headers((content_type, page).into_response(), REVALIDATED);
    // The page renews its token there.
    if let Some(origin) = sign_in.and_then(|sign_in| sign_in.token_origin())
        && let Ok(policy) = HeaderValue::try_from(format!("{POLICY} {origin}"))
    {
        response.headers_mut().insert(CONTENT_SECURITY_POLICY, policy);
    }
    Ok(response)
}

/// `GET /view/{path}`: a script, the style sheet, or the codec.
pub(crate) async fn file(
    State(service): State<Arc<Service>>,
    request: Request,
) -> Result<Response<Body>, Error> {
    let path = request.uri().path().strip_prefix(ROOT).unwrap_or_default().to_owned();
    // The page is not served as a file: it would lack the parameters of signing in.
    if path == format!("/{PAGE}") {
        return page(State(service)).await;
    }
    let (found, caching) = files::serve(&service.view.directory, path, request).await?;
    Ok(with_headers(found, caching))
}

/// Whether the viewer is installed.
pub(crate) async fn is_installed(service: &Service) -> bool {
    tokio::fs::try_exists(service.view.directory.join(PAGE)).await.unwrap_or_default()
}

fn with_headers(mut response: Response<Body>, caching: HeaderValue) -> Response<Body> {
    let headers = response.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("SAMEORIGIN"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(CACHE_CONTROL, caching);
    response
}
