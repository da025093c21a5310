//! The built-in web page: studies with search, and upload. Static files, compiled in.

use std::io::Write;
use std::sync::{Arc, LazyLock, OnceLock};

use axum::extract::State;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, VARY,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use axum::http::{HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::archive::run_blocking;
use crate::http::Service;
use crate::http::error::Error;
use crate::http::request::Head;
use crate::http::web::{IMMUTABLE, REVALIDATED, view, viewer, with_sign_in};

/// Only files of this server: no inline scripts or styles, no other origins. Documents and videos are
/// fetched, and shown from memory.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; \
     media-src blob:; frame-src blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; connect-src 'self'";

/// `GET /`: the page, with the URLs of the viewers that are installed, the limits of an upload, and the
/// sign-in parameters if authentication is on.
pub(crate) async fn page(State(service): State<Arc<Service>>) -> Response {
    let files = format!("=\"console/{}/", *VERSION);
    let mut page = include_str!("index.html").replace("=\"console/", &files);
    page = page.replacen("<link rel=\"stylesheet\"", &format!("{}<link rel=\"stylesheet\"", preloads()), 1);
    if viewer::is_installed(&service).await {
        page = page.replacen("data-viewer=\"\"", "data-viewer=\"viewer/\"", 1);
    }
    if view::is_installed(&service).await {
        page = page.replacen("data-view=\"\"", "data-view=\"view/\"", 1);
    }
    let max_bytes = format!("data-max-instance-bytes=\"{}\"", service.max_instance_bytes);
    page = page.replacen("data-max-instance-bytes=\"\"", &max_bytes, 1);
    let (page, policy) = with_sign_in(&service, page, POLICY);
    let mut response = asset("text/html; charset=utf-8", REVALIDATED, page);
    response.headers_mut().insert(CONTENT_SECURITY_POLICY, policy);
    response
}

/// The page of a link of a share, with the status of the link. Its URL holds the link's secret: no other site
/// gets it, and no cache holds the page.
pub(in crate::http) fn share_page(status: StatusCode, has_view: bool) -> Response {
    let files = format!("=\"../console/{}/", *VERSION);
    let mut page = include_str!("share-page.html").replace("=\"../console/", &files);
    if has_view {
        page = page.replacen("data-view=\"\"", "data-view=\"view/\"", 1);
    }
    let no_store = HeaderValue::from_static("no-store");
    let mut response = (status, asset("text/html; charset=utf-8", no_store, page)).into_response();
    response.headers_mut().insert("x-robots-tag", HeaderValue::from_static("noindex"));
    response
}

/// The scripts and the style sheets, by name.
const FILES: &[(&str, &str, &str)] = &[
    ("actions.js", SCRIPT, include_str!("actions.js")),
    ("arrivals.js", SCRIPT, include_str!("arrivals.js")),
    ("attributes.js", SCRIPT, include_str!("attributes.js")),
    ("audit-export.js", SCRIPT, include_str!("audit-export.js")),
    ("audit-page.js", SCRIPT, include_str!("audit-page.js")),
    ("audit-words.js", SCRIPT, include_str!("audit-words.js")),
    ("conflicts.js", SCRIPT, include_str!("conflicts.js")),
    ("connect.js", SCRIPT, include_str!("connect.js")),
    ("console.css", CSS, include_str!("console.css")),
    ("deletions.js", SCRIPT, include_str!("deletions.js")),
    ("dicom-file.js", SCRIPT, include_str!("dicom-file.js")),
    ("dicom-writer.js", SCRIPT, include_str!("dicom-writer.js")),
    ("dicomweb.js", SCRIPT, include_str!("dicomweb.js")),
    ("events.js", SCRIPT, include_str!("events.js")),
    ("files.js", SCRIPT, include_str!("files.js")),
    ("html.js", SCRIPT, include_str!("html.js")),
    ("jpeg.js", SCRIPT, include_str!("jpeg.js")),
    ("kept-uploads.js", SCRIPT, include_str!("kept-uploads.js")),
    ("language.js", SCRIPT, include_str!("language.js")),
    ("main.js", SCRIPT, include_str!("main.js")),
    ("messages-en.js", SCRIPT, include_str!("messages-en.js")),
    ("messages-ko.js", SCRIPT, include_str!("messages-ko.js")),
    ("notices.js", SCRIPT, include_str!("notices.js")),
    ("qr.js", SCRIPT, include_str!("qr.js")),
    ("refusals.js", SCRIPT, include_str!("refusals.js")),
    ("results.js", SCRIPT, include_str!("results.js")),
    ("search.js", SCRIPT, include_str!("search.js")),
    ("sending.js", SCRIPT, include_str!("sending.js")),
    ("share-page.css", CSS, include_str!("share-page.css")),
    ("share-page.js", SCRIPT, include_str!("share-page.js")),
    ("share.js", SCRIPT, include_str!("share.js")),
    ("sign-in.js", SCRIPT, include_str!("sign-in.js")),
    ("speed.js", SCRIPT, include_str!("speed.js")),
    ("stage.js", SCRIPT, include_str!("stage.js")),
    ("status-page.js", SCRIPT, include_str!("status-page.js")),
    ("store-answer.js", SCRIPT, include_str!("store-answer.js")),
    ("studies.js", SCRIPT, include_str!("studies.js")),
    ("study.js", SCRIPT, include_str!("study.js")),
    ("teach.js", SCRIPT, include_str!("teach.js")),
    ("text.js", SCRIPT, include_str!("text.js")),
    ("upload-arrivals.js", SCRIPT, include_str!("upload-arrivals.js")),
    ("upload-view.js", SCRIPT, include_str!("upload-view.js")),
    ("uploads.js", SCRIPT, include_str!("uploads.js")),
    ("wrap-form.js", SCRIPT, include_str!("wrap-form.js")),
    ("wrap.js", SCRIPT, include_str!("wrap.js")),
];
/// Scripts that a page loads when it needs them, and that are not loaded with the page.
const ON_DEMAND: &[&str] = &[
    "audit-export.js",
    "audit-page.js",
    "audit-words.js",
    "dicom-writer.js",
    "jpeg.js",
    "share-page.js",
    "share.js",
    "wrap-form.js",
    "wrap.js",
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

/// The files, compressed by gzip, once that is done.
static COMPRESSED: OnceLock<Vec<Bytes>> = OnceLock::new();

/// Begins to compress the files, so that no request waits for it.
pub(in crate::http) fn compress_ahead() {
    drop(run_blocking(None, || {
        compress_all();
    }));
}

/// Compresses the files, if that is not done. Takes a core for a while.
fn compress_all() -> &'static [Bytes] {
    COMPRESSED.get_or_init(|| FILES.iter().map(|(_, _, text)| compressed(text.as_bytes())).collect())
}

fn compressed(bytes: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).and_then(|()| encoder.finish()).expect("a vector takes any bytes").into()
}

/// `GET /console/{path}`: a script or the style sheet, `{version}/{name}` or `{name}`.
pub(crate) async fn file(head: Head, uri: Uri) -> Result<Response, Error> {
    let path = uri.path().strip_prefix("/console/").unwrap_or_default();
    let versioned = path.strip_prefix(VERSION.as_str()).and_then(|name| name.strip_prefix('/'));
    let caching = if versioned.is_some() { IMMUTABLE } else { REVALIDATED };
    let name = versioned.unwrap_or(path);
    let found = FILES.iter().position(|(known, ..)| *known == name).ok_or(Error::NoResource)?;
    let (_, content_type, text) = FILES[found];
    let mut response = if head.takes_gzip() {
        let files = match COMPRESSED.get() {
            Some(files) => files,
            None => run_blocking(None, compress_all).await?,
        };
        let mut response = asset(content_type, caching, files[found].clone());
        response.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        response
    } else {
        asset(content_type, caching, text)
    };
    response.headers_mut().insert(VARY, HeaderValue::from_static("Accept-Encoding"));
    Ok(response)
}

/// Links by which browsers load all scripts of the page at once, and not each when another imports it.
fn preloads() -> String {
    let is_of_page = |name: &str| !ON_DEMAND.contains(&name);
    let scripts = FILES.iter().filter(|(name, content_type, _)| *content_type == SCRIPT && is_of_page(name));
    scripts
        .map(|(name, ..)| format!("<link rel=\"modulepreload\" href=\"console/{}/{name}\">\n", *VERSION))
        .collect()
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::{sleep, timeout};

    use super::*;

    #[tokio::test]
    async fn files_are_compressed_before_they_are_requested() {
        compress_ahead();
        let compressed = async {
            while COMPRESSED.get().is_none() {
                sleep(Duration::from_millis(5)).await;
            }
        };
        assert!(timeout(Duration::from_secs(30), compressed).await.is_ok());
        assert!(compress_all().iter().zip(FILES).all(|(bytes, (_, _, text))| bytes.len() < text.len()));
    }
}
