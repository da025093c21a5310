//! Answers methods that a resource does not support, and OPTIONS, with the list of those that it supports
//! (RFC 9110 §9.3.7, §15.5.6).

use axum::extract::Request;
use axum::http::header::ALLOW;
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::http::error::Error;

/// Middleware: completes the router's own 405 responses, which list the supported methods but OPTIONS.
pub(super) async fn list_methods(request: Request, next: Next) -> Response {
    let method = request.method().clone();
    let response = next.run(request).await;
    if response.status() != StatusCode::METHOD_NOT_ALLOWED {
        return response;
    }
    let supported = response.headers().get(ALLOW).and_then(|allow| allow.to_str().ok()).unwrap_or_default();
    let supported = supported.split(',').map(str::trim).filter(|name| !name.is_empty());
    let allow = supported.chain(["OPTIONS"]).collect::<Vec<_>>().join(", ");
    let answer = if method == Method::OPTIONS {
        StatusCode::NO_CONTENT.into_response()
    } else {
        Error::Method.into_response()
    };
    ([(ALLOW, allow)], answer).into_response()
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::Body;
    use axum::middleware::from_fn;
    use axum::routing::get;
    use tower::ServiceExt;

    use super::*;

    #[tokio::test]
    async fn unsupported_methods_are_answered_with_the_supported_ones() {
        let router = Router::new().route("/a", get(async || "a").post(async || "b"));
        // A router adds Allow outside of its own layers.
        let router = Router::new().fallback_service(router).layer(from_fn(list_methods));
        for (method, status, allow) in [
            ("GET", StatusCode::OK, None),
            ("OPTIONS", StatusCode::NO_CONTENT, Some("GET, HEAD, POST, OPTIONS")),
            ("DELETE", StatusCode::METHOD_NOT_ALLOWED, Some("GET, HEAD, POST, OPTIONS")),
        ] {
            let request = Request::builder().method(method).uri("/a").body(Body::empty()).unwrap();
            let response = router.clone().oneshot(request).await.unwrap();
            assert_eq!(response.status(), status, "{method}");
            let found = response.headers().get(ALLOW).map(|allow| allow.to_str().unwrap());
            assert_eq!(found, allow, "{method}");
        }
    }
}
