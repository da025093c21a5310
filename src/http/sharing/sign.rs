//! Signed URLs, for what can send no header field: images, videos and downloads of a page. See
//! docs/sharing.md.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{Response, StatusCode, Uri};
use serde::Deserialize;
use serde_json::json;

use crate::archive::access::Caller;
use crate::clock::{now_millis, rfc3339};
use crate::http::Service;
use crate::http::auth::credentials::{ByShare, signed_url};
use crate::http::error::Error;
use crate::http::request::{Head, SIGNATURE_PREFIX, json_body};
use crate::http::resources::find;
use crate::http::sharing::shares::answer;

/// The body of a request to sign.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SignForm {
    /// The URLs, from their paths on.
    urls: Vec<String>,
    /// The seconds for which they are valid.
    #[serde(default)]
    expires_in: Option<u64>,
}

/// `POST /sign`: signs URLs of resources that the caller may read.
pub(in crate::http) async fn sign(
    State(service): State<Arc<Service>>,
    caller: Caller,
    head: Head,
    body: Body,
) -> Result<Response<Body>, Error> {
    let form: SignForm = json_body::read(&service, &head, body).await?;
    let settings = service.archive.sharing();
    let wrong = |name: &str, reason: String| Error::Parameter { name: name.into(), reason };
    if form.urls.len() > settings.max_signed_urls {
        let most = settings.max_signed_urls;
        return Err(wrong("urls", format!("are more than {most} (sharing.max_signed_urls)")));
    }
    let most = settings.max_signed_url_seconds;
    let seconds = form.expires_in.unwrap_or(settings.signed_url_seconds);
    if seconds == 0 || seconds > most {
        return Err(wrong("expires_in", format!("is 1 to {most} (sharing.max_signed_url_seconds)")));
    }
    let end = now_millis().div_euclid(1000).saturating_add(i64::try_from(seconds).unwrap_or(i64::MAX));
    // Not longer than the caller could read without it.
    let end = caller.expires_at.map_or(end, |token_end| end.min(token_end));
    let root = head.base_url().trim_end_matches("/dicom-web").to_owned();
    let mut signed = Vec::with_capacity(form.urls.len());
    for url in &form.urls {
        check(url, &caller).map_err(|reason| wrong("urls", reason))?;
        signed.push(format!("{root}{}", signed_url(&service.archive, &caller, url, end).await?));
    }
    let end = rfc3339(end.saturating_mul(1000));
    Ok(answer(StatusCode::OK, &json!({ "urls": signed, "expires_at": end })))
}

/// Checks that a URL is one that can be signed for a caller; otherwise returns the reason.
fn check(url: &str, caller: &Caller) -> Result<(), String> {
    let uri: Uri = url.parse().map_err(|_| "hold what is no URL".to_owned())?;
    if !url.starts_with('/') || uri.path_and_query().is_none_or(|whole| whole.as_str() != url) {
        return Err("begin with the path of a resource, as in /dicom-web/studies/1.2/thumbnail".into());
    }
    if uri.query().is_some_and(|query| query.split('&').any(|pair| pair.starts_with(SIGNATURE_PREFIX))) {
        return Err(format!("have no parameters that begin with {SIGNATURE_PREFIX}"));
    }
    let operation = find(uri.path()).filter(|operation| operation.by_url);
    let operation = operation.ok_or("are of resources that can be signed (docs/sharing.md)")?;
    let is_denied = caller
        .share
        .as_deref()
        .is_some_and(|share| operation.by_share == ByShare::Download && !share.may_download);
    if is_denied { Err("are to be downloaded, and the share allows to view only".into()) } else { Ok(()) }
}
