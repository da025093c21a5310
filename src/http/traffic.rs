//! Counts the requests of each tenant, and the bytes of the bodies that are sent in response.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use hyper::body::{Frame, SizeHint};

use crate::archive::Archive;
use crate::archive::access::Caller;
use crate::archive::usage::Traffic;
use crate::http::Service;

/// Middleware of an operation, after the check of the caller's right.
pub(in crate::http) async fn count(
    State(service): State<Arc<Service>>,
    request: Request,
    next: Next,
) -> Response {
    let Some(caller) = request.extensions().get::<Caller>().cloned() else {
        return next.run(request).await;
    };
    let archive = Arc::clone(&service.archive);
    archive.count_traffic(&caller, Traffic { calls: 1, sent_bytes: 0 });
    let response = next.run(request).await;
    response.map(|body| Body::new(CountedBody { body, archive, caller }))
}

/// A body whose bytes are counted when they are handed to the connection.
struct CountedBody {
    body: Body,
    archive: Arc<Archive>,
    caller: Caller,
}

impl HttpBody for CountedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if let Some(Ok(frame)) = &frame {
            let sent_bytes = frame.data_ref().map_or(0, |bytes| bytes.len() as u64);
            self.archive.count_traffic(&self.caller, Traffic { calls: 0, sent_bytes });
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
