//! `GET /audit`: the audit log of the caller's tenant. Not of the standard; see docs/audit.md.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, LINK};
use axum::http::{HeaderValue, Response};
use axum::response::IntoResponse;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use crate::archive;
use crate::archive::access::Caller;
use crate::audit::event::AuditEvent;
use crate::audit::keys::AuditPlace;
use crate::audit::listing::AuditQuery;
use crate::audit::message;
use crate::http::Service;
use crate::http::error::Error;
use crate::http::request::Head;

/// The records of a page without `limit`, and the most.
const DEFAULT_LIMIT: usize = 100;
const MAX_LIMIT: usize = 1000;

/// The parameters.
struct AuditParameters {
    query: AuditQuery,
    after: Option<AuditPlace>,
    limit: usize,
}

impl AuditParameters {
    fn of(pairs: &[(String, String)]) -> Result<Self, Error> {
        let mut found = Self { query: AuditQuery::default(), after: None, limit: DEFAULT_LIMIT };
        for (name, value) in pairs {
            let wrong = |reason: &str| Error::Parameter { name: name.clone(), reason: reason.to_owned() };
            let query = &mut found.query;
            match name.as_str() {
                "from" => query.from = Some(message::time(value, false).ok_or_else(|| wrong(NO_TIME))?),
                "to" => query.to = Some(message::time(value, true).ok_or_else(|| wrong(NO_TIME))?),
                "user" => query.user = Some(value.clone()),
                "study" => query.study = Some(value.clone()),
                "patient" => query.patient = Some(value.clone()),
                "event" => {
                    let event = AuditEvent::find(value);
                    query.event = Some(event.ok_or_else(|| wrong("is no name or code of an event"))?);
                }
                "limit" => {
                    let limit = value.parse().ok().filter(|limit| *limit > 0);
                    let limit: usize = limit.ok_or_else(|| wrong("is no number from 1"))?;
                    found.limit = limit.min(MAX_LIMIT);
                }
                "after" => {
                    let place = AuditPlace::of_sort(value);
                    found.after = Some(place.ok_or_else(|| wrong("is no place of the log"))?);
                }
                // A filter that is mistyped must not show everything.
                _ => return Err(wrong("is no parameter of the audit log")),
            }
        }
        Ok(found)
    }
}

/// The reason why a text is no time.
const NO_TIME: &str = "is neither a date (2026-11-30) nor a time of RFC 3339 (2026-11-30T09:38:24Z)";

/// `GET /audit[?from=][&to=][&user=][&study=][&patient=][&event=][&limit=][&after=]`: the newest records
/// first.
pub(in crate::http) async fn audit(
    State(service): State<Arc<Service>>,
    caller: Caller,
    head: Head,
) -> Result<Response<Body>, Error> {
    let pairs = head.query_pairs();
    let AuditParameters { query, after, limit } = AuditParameters::of(&pairs)?;
    let asked: Vec<String> = pairs.iter().map(|(name, value)| format!("{name}={value}")).collect();
    service.archive.audit_log_used(&caller, &asked.join("&")).await?;
    let log = service.archive.audit();
    let page = log.list(caller.tenant.as_str(), &query, after.as_ref(), limit).await;
    let page = page.map_err(archive::Error::from)?;
    let records: Vec<Value> = page.records.iter().map(message::json).collect();
    let next = page.next.as_ref().map(AuditPlace::sort);
    let body = json!({ "records": records, "next": next, "more": next.is_some() });
    let headers = [(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-store")];
    let mut response = (headers, body.to_string()).into_response();
    if let Some(next) = next
        && let Ok(link) = HeaderValue::try_from(next_link(&pairs, &next))
    {
        response.headers_mut().insert(LINK, link);
    }
    Ok(response)
}

/// The link to the next page (RFC 8288).
fn next_link(pairs: &[(String, String)], next: &str) -> String {
    let encoded = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let kept = pairs.iter().filter(|(name, _)| name != "after");
    let kept = kept.map(|(name, value)| format!("{}={}&", encoded(name), encoded(value)));
    format!("</audit?{}after={}>; rel=\"next\"", kept.collect::<String>(), encoded(next))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_keeps_the_parameters_and_names_the_place() {
        let pairs = [("user", "a b"), ("after", "x"), ("limit", "1")];
        let pairs = pairs.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(next_link(&pairs, "1#2"), "</audit?user=a%20b&limit=1&after=1%232>; rel=\"next\"");
    }
}
