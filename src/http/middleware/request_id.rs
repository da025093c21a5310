//! Gives each request an identifier, and logs failures inside the server with it.

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::Response;
use uuid::Uuid;

use crate::http::error::Cause;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const MAX_ID_BYTES: usize = 128;

/// Middleware: adds the request's identifier to the response and to the log line of a failure.
pub(super) async fn identify(request: Request, next: Next) -> Response {
    let id = request_id(request.headers());
    let method = request.method().clone();
    let is_readiness = request.uri().path() == "/readyz";
    let mut response = next.run(request).await;
    if let Some(Cause(cause)) = response.extensions_mut().remove() {
        match response.status() {
            StatusCode::INTERNAL_SERVER_ERROR => {
                tracing::error!(request.id = %id, %method, "cannot answer request {id}: {cause}");
            }
            // A change of readiness is logged where it happens, and a load balancer asks all the time.
            _ if is_readiness => {}
            _ => tracing::warn!(request.id = %id, %method, "cannot answer request {id} for now: {cause}"),
        }
    }
    if let Ok(id) = HeaderValue::try_from(id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    response
}

/// The identifier that a proxy gave the request if it is valid, else a generated one.
fn request_id(headers: &HeaderMap) -> String {
    let is_valid = |id: &&str| {
        (1..=MAX_ID_BYTES).contains(&id.len())
            && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    };
    let given = headers.get(REQUEST_ID).and_then(|value| value.to_str().ok()).filter(is_valid);
    given.map_or_else(|| Uuid::now_v7().to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::Body;
    use axum::middleware::from_fn;
    use axum::response::IntoResponse;
    use tower::ServiceExt;

    use super::*;
    use crate::http::error::Error;

    #[test]
    fn a_valid_identifier_of_a_proxy_is_used_and_any_other_is_replaced() {
        let long = "x".repeat(MAX_ID_BYTES + 1);
        for (given, is_valid) in
            [("a-B_3.4", true), ("", false), ("a b", false), ("a\"b", false), (long.as_str(), false)]
        {
            let mut headers = HeaderMap::new();
            headers.insert(REQUEST_ID, given.parse().unwrap());
            let id = request_id(&headers);
            assert_eq!(id == given, is_valid, "{given}");
            assert!(is_valid || Uuid::parse_str(&id).is_ok(), "{id}");
        }
        assert_ne!(request_id(&HeaderMap::new()), request_id(&HeaderMap::new()));
    }

    #[tokio::test]
    async fn a_failure_keeps_its_cause_to_the_log() {
        let failing = Router::new().fallback(async || Error::Damaged(anyhow::anyhow!("x")).into_response());
        let router = failing.layer(from_fn(identify));
        let request = Request::builder().header(REQUEST_ID, "a").body(Body::empty()).unwrap();
        let response = router.oneshot(request).await.unwrap();
        assert_eq!(response.headers()[REQUEST_ID], "a");
        assert!(response.extensions().get::<Cause>().is_none());
    }
}
