//! Counts requests and measures the time to their responses, by kind of resource.

use std::time::Instant;

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;

use crate::telemetry;

/// The kinds of resources; also the values of the label `route`.
const ROUTES: [&str; 22] = [
    "studies",
    "series",
    "instances",
    "metadata",
    "frames",
    "bulkdata",
    "pixeldata",
    "rendered",
    "thumbnail",
    "wado",
    "stream",
    "changes",
    "events",
    "shares",
    "s",
    "sign",
    "viewer",
    "view",
    "console",
    "healthz",
    "readyz",
    "metrics",
];

/// Middleware: records each response with its route, its status and the time until it began.
pub(super) async fn count(request: Request, next: Next) -> Response {
    let started = Instant::now();
    let route = route(request.uri().path());
    let response = next.run(request).await;
    telemetry::request_answered(route, response.status().as_u16(), started.elapsed());
    response
}

/// The kind of resource at a path: the last segment that is a name and no identifier.
fn route(path: &str) -> &'static str {
    let named = path.rsplit('/').find_map(|segment| ROUTES.iter().find(|name| **name == segment));
    named.copied().unwrap_or("other")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_route_is_the_last_name_in_the_path() {
        for (path, expected) in [
            ("/dicom-web/studies", "studies"),
            ("/dicom-web/studies/1.2", "studies"),
            ("/dicom-web/studies/1.2/series/1.3/instances/1.4/frames/1,2", "frames"),
            ("/dicom-web/studies/1.2/series/1.3/instances/1.4/frames/1/rendered", "rendered"),
            ("/viewer/app.js", "viewer"),
            ("/view/", "view"),
            ("/s/c2VjcmV0", "s"),
            ("/shares/00ff", "shares"),
            ("/", "other"),
            ("/patients", "other"),
        ] {
            assert_eq!(route(path), expected, "{path}");
        }
    }
}
