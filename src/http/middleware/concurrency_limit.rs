//! Limits the requests that one client may have under way, so that no client takes all connections (RFC 6585
//! §4).

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::http::Service;
use crate::http::changes::is_endless;
use crate::http::error::Error;
use crate::http::middleware::forwarding::Client;
use crate::http::response::holding_body::HoldingBody;

/// Whether a path is about the server itself, and not limited: monitoring must work when the server is at its
/// busiest.
pub(in crate::http) fn is_about_server(path: &str) -> bool {
    ["/healthz", "/readyz", "/metrics"].contains(&path)
}

fn is_limited(path: &str) -> bool {
    !is_about_server(path) && !is_endless(path)
}

/// Middleware: passes a request on if its client has fewer than `http.max_requests_per_client` under way.
/// Requests whose responses have no end have places of their own.
pub(super) async fn limit(State(service): State<Arc<Service>>, request: Request, next: Next) -> Response {
    let client = request.extensions().get::<Client>().copied();
    let Some(Client(client)) = client.filter(|_| is_limited(request.uri().path())) else {
        return next.run(request).await;
    };
    match service.requests.try_take(&client.to_string(), 1) {
        Some(place) => next.run(request).await.map(|body| HoldingBody::wrap(body, place)),
        None => Error::TooManyRequests { limit: service.settings.max_requests_per_client }.into_response(),
    }
}
