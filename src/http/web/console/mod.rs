//! The built-in web page: studies with search, and upload. Static files, compiled in.

use std::sync::{Arc, LazyLock};

use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use axum::http::header::{REFERRER_POLICY, X_FRAME_OPTIONS};
use axum::http::{HeaderValue, Uri};
use axum::response::{IntoResponse, Response};
use quick_xml::escape::escape;

use crate::http::Service;
use crate::http::auth::Authenticator;
use crate::http::error::Error;
use crate::http::web::{IMMUTABLE, REVALIDATED, view, viewer};

/// Only files of this server: no inline scripts or styles, no frames, no other origins.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'; connect-src 'self'";

/// `GET /`: the page, with the URLs of the viewers that are installed, the limits of an upload, and the
/// sign-in parameters if authentication is on.
pub(crate) async fn page(State(service): State<Arc<Service>>) -> Response {
    let files = format!("=\"console/{}/", *VERSION);
    let mut page = include_str!("index.html").replace("=\"console/", &files);
    if viewer::is_installed(&service).await {
        page = page.replacen("data-viewer=\"\"", "data-viewer=\"viewer/\"", 1);
    }
    if view::is_installed(&service).await {
        page = page.replacen("data-view=\"\"", "data-view=\"view/\"", 1);
    }
    let max_bytes = format!("data-max-instance-bytes=\"{}\"", service.max_instance_bytes);
    page = page.replacen("data-max-instance-bytes=\"\"", &max_bytes, 1);
    let sign_in = service.auth.as_ref().map(Authenticator::sign_in);
    if let Some(sign_in) = &sign_in {
        let told = escape(sign_in.to_json()).into_owned();
        page = page.replacen("data-sign-in=\"\"", &format!("data-sign-in=\"{told}\""), 1);
    }
    let mut response = asset("text/html; charset=utf-8", REVALIDATED, page);
    // The page requests its token there.
    if let Some(origin) = sign_in.and_then(|sign_in| sign_in.token_origin())
        && let Ok(policy) = HeaderValue::try_from(format!("{POLICY} {origin}"))
    {
        response.headers_mut().insert(CONTENT_SECURITY_POLICY, policy);
    }
    response
}

/// The scripts and the style sheet, by name.
const FILES: &[(&str, &str, &str)] = &[
    ("console.css", CSS, include_str!("console.css")),
    ("dicomweb.js", SCRIPT, include_str!("dicomweb.js")),
    ("element.js", SCRIPT, include_str!("element.js")),
    ("files.js", SCRIPT, include_str!("files.js")),
    ("main.js", SCRIPT, include_str!("main.js")),
    ("sign-in.js", SCRIPT, include_str!("sign-in.js")),
    ("studies.js", SCRIPT, include_str!("studies.js")),
    ("text.js", SCRIPT, include_str!("text.js")),
    ("upload-view.js", SCRIPT, include_str!("upload-view.js")),
    ("uploads.js", SCRIPT, include_str!("uploads.js")),
];
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// The folder of the files in their URLs: other files have another folder, so that browsers need not ask
/// again for those that they have.
static VERSION: LazyLock<String> = LazyLock::new(|| {
    let mut checksum = crc32fast::Hasher::new();
    FILES.iter().for_each(|(_, _, text)| checksum.update(text.as_bytes()));
    format!("{:08x}", checksum.finalize())
});

/// `GET /console/{path}`: a script or the style sheet, `{version}/{name}` or `{name}`.
pub(crate) async fn file(uri: Uri) -> Result<Response, Error> {
    let path = uri.path().strip_prefix("/console/").unwrap_or_default();
    let versioned = path.strip_prefix(VERSION.as_str()).and_then(|name| name.strip_prefix('/'));
    let caching = if versioned.is_some() { IMMUTABLE } else { REVALIDATED };
    let name = versioned.unwrap_or(path);
    let found = FILES.iter().find(|(known, ..)| *known == name);
    let (_, content_type, text) = found.ok_or(Error::NoResource)?;
    Ok(asset(content_type, caching, *text))
}

fn asset(content_type: &'static str, caching: HeaderValue, text: impl IntoResponse) -> Response {
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static(content_type)),
        (CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
        (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
        (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        (CACHE_CONTROL, caching),
    ];
    (headers, text).into_response()
}
