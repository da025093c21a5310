//! The audit log of requests: each operation in the list of resources names its event ([`AuditRule`]), and
//! one middleware records it before the answer.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{Extensions, Method, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::archive;
use crate::archive::access::Caller;
use crate::archive::audit::StudyAccess;
use crate::audit::event::{AuditProtocol, AuditUser};
use crate::http::Service;
use crate::http::auth::error::Error as AuthError;
use crate::http::error::Error;
use crate::http::middleware::forwarding::ClientAddress;
use crate::http::request::decoded;
use crate::http::request::path::{study_in_path, study_in_query};

/// The parameters of a search that only name a part of its results.
const PAGING: [&str; 3] = ["limit", "offset", "cursor"];

/// The event of the audit log that an operation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http) enum AuditRule {
    /// None: the response holds no data of patients.
    None,
    /// The data of the study in the path are viewed.
    Viewed,
    /// Thumbnails of the study in the path are viewed.
    Thumbnails,
    /// Instances of the study in the path are given out, one by one.
    Instances,
    /// All instances of the study or series in the path are given out.
    Whole,
    /// An instance of the study in the query is given out, or viewed, by the URI service.
    ByUri,
    /// A query.
    Query,
    /// A query that is repeated to follow changes; its parameters do not count.
    Feed,
    /// The archive records the event itself, for all protocols: instances are stored or deleted.
    InArchive,
    /// The handler records the event: the audit log is read.
    InHandler,
}

/// Middleware of an operation, after the check of the caller's right: records the event if data are given
/// out.
pub(in crate::http) async fn record(
    State((service, rule)): State<(Arc<Service>, AuditRule)>,
    request: Request,
    next: Next,
) -> Response {
    if !service.archive.audit().is_on() {
        return next.run(request).await;
    }
    let Some(caller) = request.extensions().get::<Caller>().cloned() else {
        return next.run(request).await;
    };
    let uri = request.uri().clone();
    if service.auth.is_some()
        && let Err(error) = service.archive.audit_sign_in(&caller).await
    {
        return Error::from(error).into_response();
    }
    let response = next.run(request).await;
    let is_given = response.status().is_success() || response.status() == StatusCode::NOT_MODIFIED;
    if !is_given {
        return response;
    }
    let content_type = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let is_instance = content_type.is_some_and(|name| name.split(';').next() == Some("application/dicom"));
    match record_given(&service, rule, &caller, &uri, is_instance).await {
        Ok(()) => response,
        Err(error) => Error::from(error).into_response(),
    }
}

async fn record_given(
    service: &Service,
    rule: AuditRule,
    caller: &Caller,
    uri: &Uri,
    is_instance: bool,
) -> Result<(), archive::Error> {
    let (study, access) = match rule {
        AuditRule::None | AuditRule::InArchive | AuditRule::InHandler => return Ok(()),
        AuditRule::Query => {
            let (query, group) = (query_text(uri, &[]), query_text(uri, &PAGING));
            let study = study_in_path(uri.path()).map(|study| study.to_string());
            return service.archive.audit_query(caller, study.as_deref(), &query, &group).await;
        }
        AuditRule::Feed => {
            return service.archive.audit_query(caller, None, uri.path(), uri.path()).await;
        }
        AuditRule::Viewed => (study_in_path(uri.path()), StudyAccess::Viewed),
        AuditRule::Thumbnails => (study_in_path(uri.path()), StudyAccess::Thumbnails),
        AuditRule::Instances => (study_in_path(uri.path()), StudyAccess::Instances),
        AuditRule::Whole => (study_in_path(uri.path()), StudyAccess::Whole),
        AuditRule::ByUri => {
            let access = if is_instance { StudyAccess::Instances } else { StudyAccess::Viewed };
            (study_in_query(uri.query().unwrap_or_default()), access)
        }
    };
    // The handler has found the study, so that there is one.
    let study = study.ok_or_else(|| archive::Error::Internal("an audited request names no study".into()))?;
    service.archive.audit_access(caller, &study, access).await
}

/// Records that a request was refused, and returns the response of the refusal. A request without a token is
/// no event: pages send some before their users sign in.
pub(in crate::http) async fn refuse(
    service: &Service,
    request: &(Method, Uri),
    extensions: &Extensions,
    error: Error,
) -> Response {
    let address = address(extensions);
    let Error::Auth(cause) = &error else { return error.into_response() };
    let recorded = match cause {
        AuthError::Missing | AuthError::NoKeys | AuthError::Share(_) => Ok(()),
        AuthError::Right { caller, right } => {
            let caller = Caller { address: address.into(), ..caller.as_ref().clone() };
            let operation =
                format!("{} {}: no right to {}", request.0, outline(request.1.path()), right.name());
            service.archive.audit_missing_right(&caller, &operation).await
        }
        AuthError::Invalid(_) | AuthError::Tenant { .. } => {
            let user = AuditUser::unknown(&address, AuditProtocol::Http);
            service.archive.audit_unknown_caller(user, &cause.to_string()).await
        }
    };
    match recorded {
        Ok(()) => error.into_response(),
        Err(error) => Error::from(error).into_response(),
    }
}

/// The address of the client.
pub(in crate::http) fn address(extensions: &Extensions) -> String {
    extensions.get::<ClientAddress>().map(|ClientAddress(address)| address.to_string()).unwrap_or_default()
}

/// A query as text: the path and the parameters, decoded, but some parameters.
fn query_text(uri: &Uri, left_out: &[&str]) -> String {
    let pairs = uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
    let name = |pair: &str| decoded(pair.split('=').next().unwrap_or(pair));
    let pairs: Vec<String> =
        pairs.filter(|pair| !left_out.contains(&name(pair).as_str())).map(decoded).collect();
    match pairs.is_empty() {
        true => uri.path().to_owned(),
        false => format!("{}?{}", uri.path(), pairs.join("&")),
    }
}

/// A path without UIDs and other values, so that the requests of one kind are one group.
fn outline(path: &str) -> String {
    let is_value = |segment: &&str| segment.starts_with(|first: char| first.is_ascii_digit());
    let segments = path.split('/').map(|segment| if is_value(&segment) { "…" } else { segment });
    segments.collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_a_search_are_one_query() {
        let uri: Uri =
            "/dicom-web/studies?PatientName=M%C3%BCller+A&limit=5&offset=10&cursor=x".parse().unwrap();
        assert_eq!(query_text(&uri, &PAGING), "/dicom-web/studies?PatientName=Müller A");
        assert!(query_text(&uri, &[]).ends_with("&limit=5&offset=10&cursor=x"));
        assert_eq!(
            outline("/dicom-web/studies/1.2/series/3.4/metadata"),
            "/dicom-web/studies/…/series/…/metadata"
        );
    }
}
