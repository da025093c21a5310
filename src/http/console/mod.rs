//! The built-in web page: studies with search, and upload. Static files, compiled in.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use axum::http::header::{REFERRER_POLICY, X_FRAME_OPTIONS};
use axum::response::{IntoResponse, Response};

use crate::http::{Service, viewer};

/// Only what this server serves: no inline scripts or styles, no frames, no other origins.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// `GET /`. The page is told where the viewer is, if there is one.
pub(crate) async fn page(State(service): State<Arc<Service>>) -> Response {
    let page = include_str!("index.html");
    let content_type = "text/html; charset=utf-8";
    if viewer::is_installed(&service).await {
        asset(content_type, page.replacen("data-viewer=\"\"", "data-viewer=\"viewer/\"", 1))
    } else {
        asset(content_type, page)
    }
}

/// `GET /console/console.css`.
pub(crate) async fn style() -> Response {
    asset("text/css; charset=utf-8", include_str!("console.css"))
}

/// `GET /console/console.js`.
pub(crate) async fn script() -> Response {
    asset("text/javascript; charset=utf-8", include_str!("console.js"))
}

fn asset(content_type: &'static str, text: impl IntoResponse) -> Response {
    let headers = [
        (CONTENT_TYPE, content_type),
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
        (REFERRER_POLICY, "no-referrer"),
        (CACHE_CONTROL, "no-cache"),
    ];
    (headers, text).into_response()
}
