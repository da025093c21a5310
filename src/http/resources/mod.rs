//! The list of resources: every path and method of the server, with its handler, the right that it needs and
//! its description. The router is built from the list, and so are the descriptions in WADL and OpenAPI.
//!
//! An operation names the right that it needs ([`Access`]), and the router checks the right before the
//! handler runs. So no resource can exist without a check.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{Method, Response};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{MethodFilter, MethodRouter};

use crate::http::audit;
use crate::http::auth::{self, Authenticator};
use crate::http::error::Error;
use crate::http::middleware;
use crate::http::request::{Head, anonymize};
use crate::http::resources::operation::{Operation, Resource};
use crate::http::{Service, describe, traffic};

mod dicom_web;
mod media_types;
mod mini;
pub(in crate::http) mod operation;
mod pages;
pub(in crate::http) mod parameters;
mod sharing;
#[cfg(test)]
mod tests;

/// All resources.
pub(in crate::http) fn all() -> impl Iterator<Item = &'static Resource> + Clone {
    dicom_web::RESOURCES.iter().chain(mini::RESOURCES).chain(pages::RESOURCES).chain(sharing::RESOURCES)
}

/// The GET operation of the resource at a path; `None` if no resource has the path.
pub(in crate::http) fn find(path: &str) -> Option<&'static Operation> {
    let is_at = |resource: &&Resource| matches(resource.path, path);
    // A path without parameters is nearer than one with them.
    let found = all().filter(is_at).min_by_key(|resource| resource.path.matches('{').count())?;
    found.operations.iter().find(|operation| operation.method == "GET")
}

/// Whether a path is of a template.
fn matches(template: &str, path: &str) -> bool {
    let mut segments = path.split('/');
    for expected in template.split('/') {
        match (expected, segments.next()) {
            ("{path}", Some(_)) => return true,
            (expected, Some(segment)) if expected.starts_with('{') && !segment.is_empty() => {}
            (expected, Some(segment)) if expected == segment => {}
            _ => return false,
        }
    }
    segments.next().is_none()
}

/// The router of all resources, with all middleware.
pub(in crate::http) fn router(service: &Arc<Service>) -> Router {
    let mut router = Router::new();
    for resource in all() {
        // The parameter `path` matches the rest of a path, slashes included.
        let path = resource.path.replace("{path}", "{*path}");
        for operation in resource.operations {
            router = router.route(&path, route(operation, service));
        }
    }
    let router = router.fallback(async || Error::NoResource).with_state(Arc::clone(service));
    middleware::apply(router, service)
}

/// The handler of an operation, behind the check of the right that the operation needs.
fn route(operation: &Operation, service: &Arc<Service>) -> MethodRouter<Arc<Service>> {
    let method: Method = operation.method.parse().expect("the list holds methods of HTTP");
    let filter = MethodFilter::try_from(method).expect("the list holds methods that have a filter");
    let handler = (operation.handler)(filter);
    let Some(needs) = operation.needs() else { return handler };
    // A client that requests no names must not get any because the resource does not know the parameter.
    let gives_copies =
        operation.parameters.iter().any(|group| group.iter().any(|one| one.name == anonymize::ANONYMIZE));
    let handler = if gives_copies { handler } else { handler.route_layer(from_fn(anonymize::refuse)) };
    let handler =
        handler.route_layer(from_fn_with_state((Arc::clone(service), operation.audit), audit::record));
    let handler = handler.route_layer(from_fn_with_state(Arc::clone(service), traffic::count));
    handler.route_layer(from_fn_with_state((Arc::clone(service), needs), auth::require))
}

/// `GET` and `OPTIONS` of the base URL: the Capabilities Description.
async fn capabilities(head: Head) -> Result<Response<Body>, Error> {
    describe::capabilities(all(), &head)
}

/// `GET /openapi.json`.
async fn openapi(State(service): State<Arc<Service>>, head: Head) -> Result<Response<Body>, Error> {
    describe::openapi(all(), service.auth.as_ref().map(Authenticator::issuer), &head)
}
