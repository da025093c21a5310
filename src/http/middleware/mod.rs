//! Middleware: applied to every request and every response, whatever the resource.

use std::sync::Arc;

use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};
use tower::ServiceBuilder;

use crate::http::Service;

mod browser_guard;
mod browser_pages;
pub(in crate::http) mod concurrency_limit;
mod content_location;
mod cors;
pub(in crate::http) mod forwarding;
mod method_not_allowed;
mod metrics;
mod normalize_path;
mod request_id;
mod unread_body;
pub(in crate::http) mod write_timeout;

/// Applies all middleware to a router.
///
/// The router is wrapped as a whole, so that a changed path decides on the route, and so that responses
/// without a handler (404, 405) pass through the middleware too.
pub(in crate::http) fn apply(router: Router, service: &Arc<Service>) -> Router {
    let service = || Arc::clone(service);
    // The first of these sees a request first and its response last.
    let layers = ServiceBuilder::new()
        .layer(from_fn(normalize_path::normalize_path))
        .layer(from_fn(metrics::count))
        .layer(from_fn(request_id::identify))
        .layer(from_fn(unread_body::close_if_unread))
        .layer(from_fn_with_state(service(), forwarding::resolve))
        .layer(from_fn_with_state(service(), browser_guard::guard))
        .layer(from_fn_with_state(service(), browser_pages::lead_to_console))
        .layer(from_fn_with_state(service(), cors::allow_origins))
        .layer(from_fn_with_state(service(), content_location::locate))
        .layer(from_fn(method_not_allowed::list_methods))
        .layer(from_fn_with_state(service(), concurrency_limit::limit));
    Router::new().fallback_service(router).layer(layers)
}
