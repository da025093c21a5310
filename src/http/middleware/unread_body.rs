//! Requests that are answered before their body was read: their connection ends, for what the client still sends on
//! it would be taken for another request, and the answer tells that (RFC 9112 §9.6).

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::Request;
use hyper::body::{Frame, SizeHint};

/// Whether a request's body was read to its end.
pub(crate) struct Progress(Arc<AtomicBool>);

impl Progress {
    /// Whether there is something that was not read.
    pub(crate) fn is_unread(&self) -> bool {
        !self.0.load(Ordering::Relaxed)
    }
}

/// Watches how far the body of a request is read.
pub(crate) fn watch(request: Request) -> (Request, Progress) {
    let is_read = Arc::new(AtomicBool::new(request.body().is_end_stream()));
    let progress = Progress(Arc::clone(&is_read));
    (request.map(|body| Body::new(Watched { body, is_read })), progress)
}

struct Watched {
    body: Body,
    is_read: Arc<AtomicBool>,
}

impl HttpBody for Watched {
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
        let (request, progress) = watch(Request::new(Body::empty()));
        assert!(!progress.is_unread());
        drop(request);
        let (request, progress) = watch(Request::new(Body::from("abc")));
        assert!(progress.is_unread());
        axum::body::to_bytes(request.into_body(), 10).await.unwrap();
        assert!(!progress.is_unread());
        let (request, progress) = watch(Request::new(Body::from("abc")));
        drop(request);
        assert!(progress.is_unread());
    }
}
