//! The caller, in the server's words: for pages that offer only what is allowed.

use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use serde_json::{Value, json};

use crate::archive::access::{Caller, Right, ShareAccess};
use crate::clock::rfc3339;

/// `GET /me`: the caller's tenant and rights, as `{"tenant": "default", "rights": ["read", "write"], …}`.
pub(crate) async fn me(caller: Caller) -> impl IntoResponse {
    let held = Right::ALL.into_iter().filter(|right| caller.rights.include(*right)).map(Right::name);
    let held: Vec<&str> = held.collect();
    let body = json!({
        "tenant": caller.tenant.as_str(),
        "subject": &*caller.subject,
        "rights": held,
        "expires_at": caller.expires_at.map(|at| rfc3339(at.saturating_mul(1000))),
        "share": caller.share.as_deref().map(described),
    });
    ([(CONTENT_TYPE, "application/json")], body.to_string())
}

/// The share to whose objects a caller is limited.
fn described(share: &ShareAccess) -> Value {
    json!({
        "id": share.id,
        "study": share.objects.study.as_str(),
        "series": share.objects.series.as_ref().map(|series| series.as_str()),
        "instances": share.objects.instances.values().map(|listed| listed.len()).sum::<usize>(),
        "may_download": share.may_download,
    })
}
