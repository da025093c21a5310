//! Shares: made, listed and revoked. Not of the standard; see docs/sharing.md.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, LOCATION};
use axum::http::{HeaderValue, Response, StatusCode};
use axum::response::IntoResponse;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::archive::access::{Caller, Right};
use crate::archive::shares::{NewShare, ShareRecord, ShareRefusal};
use crate::clock::rfc3339;
use crate::dicom::uid::{InstanceUid, SeriesUid, StudyUid};
use crate::http::Service;
use crate::http::auth;
use crate::http::error::Error;
use crate::http::request::path::{SharePath, is_share_id};
use crate::http::request::{Head, json_body};

/// The shares of a page without `limit`, and the most.
const DEFAULT_LIMIT: usize = 100;
const MAX_LIMIT: usize = 500;

/// The body of a request for a share.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ShareForm {
    study: StudyUid,
    #[serde(default)]
    series: Option<SeriesUid>,
    #[serde(default)]
    instances: Option<Vec<InstanceUid>>,
    #[serde(default)]
    mode: ShareMode,
    #[serde(default)]
    note: String,
    #[serde(default)]
    expires_in: Option<u64>,
    #[serde(default)]
    uses: Option<u32>,
    #[serde(default)]
    code: Option<String>,
}

/// What a link allows.
#[derive(Deserialize, Default)]
#[serde(rename_all = "lowercase")]
enum ShareMode {
    #[default]
    View,
    Download,
}

/// The name of the mode of a share.
pub(in crate::http) fn mode(record: &ShareRecord) -> &'static str {
    if record.may_download { "download" } else { "view" }
}

/// `POST /shares`: makes a share. The answer alone has the link.
pub(in crate::http) async fn make(
    State(service): State<Arc<Service>>,
    caller: Caller,
    head: Head,
    body: Body,
) -> Result<Response<Body>, Error> {
    // A link that its maker could not read would be a way around the right to read.
    if !caller.rights.include(Right::Read) {
        service.archive.audit_missing_right(&caller, "POST /shares").await?;
        return Err(auth::Error::Right { right: Right::Read, caller: Box::new(caller) }.into());
    }
    let form: ShareForm = json_body::read(&service, &head, body).await?;
    let ShareForm { study, series, instances, mode, note, expires_in, uses, code } = form;
    let may_download = matches!(mode, ShareMode::Download);
    let wrong = |name: &str, reason: &str| Error::Parameter { name: name.into(), reason: reason.into() };
    // Nothing in the place of a code or of a list is a mistake, and must not open more.
    if code.as_ref().is_some_and(|code| code.trim().is_empty()) {
        return Err(wrong("code", "is empty: leave it out for a link without a code"));
    }
    if instances.as_ref().is_some_and(Vec::is_empty) {
        return Err(wrong("instances", "is empty: leave it out for all instances"));
    }
    let instances = instances.unwrap_or_default();
    let new =
        NewShare { study, series, instances, may_download, note, seconds: expires_in, max_uses: uses, code };
    let (record, secret) =
        service.archive.make_share(&caller, new).await.map_err(|refusal| match refusal {
            ShareRefusal::Wrong(name, reason) => Error::Parameter { name: name.into(), reason },
            ShareRefusal::TooMany { .. } => Error::Full(refusal.to_string()),
            ShareRefusal::Archive(error) => error.into(),
        })?;
    let root = head.base_url().trim_end_matches("/dicom-web").to_owned();
    let mut described = described(&service, &record);
    described["link"] = json!(format!("{root}/s/{secret}"));
    let mut response = answer(StatusCode::CREATED, &described);
    if let Ok(location) = HeaderValue::try_from(format!("{root}/shares/{}", record.id)) {
        response.headers_mut().insert(LOCATION, location);
    }
    Ok(response)
}

/// `GET /shares[?limit=][&before=]`: the shares of the tenant, the newest first.
pub(in crate::http) async fn list(
    State(service): State<Arc<Service>>,
    caller: Caller,
    head: Head,
) -> Result<Response<Body>, Error> {
    let (mut limit, mut before) = (DEFAULT_LIMIT, None);
    for (name, value) in head.query_pairs() {
        match name.as_str() {
            "limit" => {
                let number = value.parse::<usize>().ok().filter(|number| *number > 0);
                let reason = || Error::Parameter { name, reason: "is no number from 1".into() };
                limit = number.ok_or_else(reason)?.min(MAX_LIMIT);
            }
            "before" if is_share_id(&value) => before = Some(value),
            "before" => return Err(Error::Parameter { name, reason: "is no `next` of the list".into() }),
            _ => return Err(Error::Parameter { name, reason: "is no parameter of the list".into() }),
        }
    }
    let page = service.archive.shares(&caller, before.as_deref(), limit).await?;
    let next = page.shares.last().filter(|_| page.has_more).map(|last| last.id.clone());
    let shares: Vec<Value> = page.shares.iter().map(|record| described(&service, record)).collect();
    Ok(answer(StatusCode::OK, &json!({ "shares": shares, "next": next })))
}

/// `GET /shares/{share}`.
pub(in crate::http) async fn show(
    State(service): State<Arc<Service>>,
    caller: Caller,
    SharePath(id): SharePath,
) -> Result<Response<Body>, Error> {
    let record = service.archive.share(&caller, &id).await?;
    Ok(answer(StatusCode::OK, &described(&service, &record)))
}

/// `DELETE /shares/{share}`: revokes a share, which stays in the list.
pub(in crate::http) async fn revoke(
    State(service): State<Arc<Service>>,
    caller: Caller,
    SharePath(id): SharePath,
) -> Result<StatusCode, Error> {
    service.archive.revoke_share(&caller, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A share as JSON.
fn described(service: &Service, record: &ShareRecord) -> Value {
    let objects = &record.objects;
    let instances: usize = objects.instances.values().map(std::collections::BTreeSet::len).sum();
    json!({
        "id": record.id,
        "state": service.archive.state_of_share(record).name(),
        "study": objects.study.as_str(),
        "series": objects.series.as_ref().map(SeriesUid::as_str),
        "instances": (instances > 0).then_some(instances),
        "mode": mode(record),
        "note": record.note,
        "created_at": rfc3339(record.created_at),
        "created_by": record.created_by,
        "expires_at": rfc3339(record.expires_at),
        "revoked_at": record.revoked_at.map(rfc3339),
        "uses": record.uses,
        "max_uses": record.max_uses,
        "used_at": record.used_at.map(rfc3339),
        "has_code": record.code.is_some(),
        "wrong_codes": record.tries.failed,
    })
}

/// An answer in JSON that no cache holds.
pub(in crate::http) fn answer(status: StatusCode, body: &Value) -> Response<Body> {
    let headers = [(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-store")];
    (status, headers, body.to_string()).into_response()
}
