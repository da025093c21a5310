//! Which resource a URL is of, and what can be done with it: the same as the router finds, in words of the list of resources.

use axum::http::Method;

use crate::http::capabilities::resources::{Access, Operation, RESOURCES, Resource};

/// What there is at a URL.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// The operation that is asked for, by who may.
    Operation(Access),
    /// Other methods, as the field Allow lists them.
    Methods(String),
    /// No resource.
    Nothing,
}

/// Finds the operation that a request asks for.
pub(crate) fn find(method: &Method, path: &str) -> Found {
    let Some(resource) = RESOURCES.iter().find(|resource| is_of(path, resource.path)) else {
        return Found::Nothing;
    };
    // Whoever can GET can HEAD.
    let name = if method == Method::HEAD { "GET" } else { method.as_str() };
    match resource.operations.iter().find(|operation| operation.method == name) {
        Some(operation) => Found::Operation(operation.access),
        None => Found::Methods(methods(resource)),
    }
}

fn methods(resource: &Resource) -> String {
    let names = |operation: &Operation| match operation.method {
        "GET" => "GET, HEAD",
        other => other,
    };
    resource.operations.iter().map(names).collect::<Vec<_>>().join(", ")
}

/// Whether a path is of a template. A parameter is a segment that is not empty; the one called `path` is all that follows.
fn is_of(path: &str, template: &str) -> bool {
    let mut segments = path.split('/');
    for expected in template.split('/') {
        let Some(segment) = segments.next() else { return false };
        match expected {
            "{path}" => return !segment.is_empty() || segments.next().is_some(),
            parameter if parameter.starts_with('{') && !segment.is_empty() => {}
            literal if literal == segment => {}
            _ => return false,
        }
    }
    segments.next().is_none()
}
