//! Closes the connection of a request that was answered before its body was read to the end (RFC 9112 §9.6).
//!
//! Otherwise the bytes that the client still sends would be taken for its next request. The response
//! announces the end of the connection.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::Request;
use axum::http::HeaderValue;
use axum::http::header::CONNECTION;
use axum::middleware::Next;
use axum::response::Response;
use hyper::body::{Frame, SizeHint};

/// Middleware: adds `Connection: close` to a response whose request has an unread rest.
pub(super) async fn close_if_unread(request: Request, next: Next) -> Response {
    let (request, tracker) = track(request);
    let mut response = next.run(request).await;
    if tracker.is_unread() {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Tells whether the body of a request was read to its end.
struct BodyTracker(Arc<AtomicBool>);

impl BodyTracker {
    /// Whether part of the body was not read.
    fn is_unread(&self) -> bool {
        !self.0.load(Ordering::Relaxed)
    }
}

/// Replaces the body of a request by one that records when its end is read.
fn track(request: Request) -> (Request, BodyTracker) {
    let is_read = Arc::new(AtomicBool::new(request.body().is_end_stream()));
    let tracker = BodyTracker(Arc::clone(&is_read));
    (request.map(|body| Body::new(TrackedBody { body, is_read })), tracker)
}

struct TrackedBody {
    body: Body,
    is_read: Arc<AtomicBool>,
}

impl HttpBody for TrackedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if matches!(polled, Poll::Ready(None)) || self.body.is_end_stream() {
            self.is_read.store(true, Ordering::Relaxed);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_body_is_unread_until_its_end() {
        let (request, tracker) = track(Request::new(Body::empty()));
        assert!(!tracker.is_unread());
        drop(request);
        let (request, tracker) = track(Request::new(Body::from("abc")));
        assert!(tracker.is_unread());
        axum::body::to_bytes(request.into_body(), 10).await.unwrap();
        assert!(!tracker.is_unread());
        let (request, tracker) = track(Request::new(Body::from("abc")));
        drop(request);
        assert!(tracker.is_unread());
    }
}
