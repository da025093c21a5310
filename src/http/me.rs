//! The caller, in the server's words: for pages that offer only what is allowed.

use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use serde_json::json;

use crate::archive::access::{Caller, Right};

/// `GET /me`: the caller's tenant and rights, as `{"tenant": "default", "rights": ["read", "write"]}`.
pub(crate) async fn me(caller: Caller) -> impl IntoResponse {
    let held = Right::ALL.into_iter().filter(|right| caller.rights.include(*right)).map(Right::name);
    let held: Vec<&str> = held.collect();
    let body = json!({ "tenant": caller.tenant.as_str(), "rights": held });
    ([(CONTENT_TYPE, "application/json")], body.to_string())
}
