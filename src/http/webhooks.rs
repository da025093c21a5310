//! `GET /webhooks`: how the delivery of changes is. Not of the standard; see docs/changes.md.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::IntoResponse;
use serde_json::{Value, json};

use crate::archive::access::Caller;
use crate::archive::webhooks::{WebhookFailure, WebhookState};
use crate::clock::rfc3339;
use crate::http::Service;
use crate::http::error::Error;

/// `GET /webhooks`: the targets of the caller's tenant, and the deliveries that were given up.
pub(in crate::http) async fn webhooks(
    State(service): State<Arc<Service>>,
    caller: Caller,
) -> Result<impl IntoResponse, Error> {
    let report = service.archive.webhook_report(&caller).await?;
    let targets: Vec<Value> = report.targets.iter().map(target).collect();
    let failures: Vec<Value> = report.failures.iter().map(failure).collect();
    let body = json!({ "targets": targets, "failures": failures });
    Ok(([(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-store")], body.to_string()))
}

fn target(state: &WebhookState) -> Value {
    json!({
        "target": state.target,
        "place": state.place,
        "delivered_at": state.delivered_at.map(rfc3339),
        "failing_since": state.failing_since.map(rfc3339),
        "attempts": state.attempts,
        "error": (!state.error.is_empty()).then_some(&state.error),
    })
}

fn failure(failure: &WebhookFailure) -> Value {
    json!({
        "target": failure.target,
        "after": failure.after,
        "next": failure.next,
        "given_up_at": rfc3339(failure.given_up_at),
        "attempts": failure.attempts,
        "error": failure.error,
    })
}
