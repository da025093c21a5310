//! Responses to callers who have opened a share: they end when the share is revoked, however long they are.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use hyper::body::{Frame, SizeHint};
use tokio::sync::oneshot;
use tokio::time::sleep;

use crate::archive::Archive;
use crate::archive::access::Caller;

/// The time between two looks at a share.
const INTERVAL: Duration = Duration::from_secs(2);
/// The size from which a response is watched: a shorter one is sent at once.
const MIN_BYTES: u64 = 64 * 1024;

/// A body that ends with an error when a share is revoked.
struct RevocableBody {
    body: Body,
    revoked: oneshot::Receiver<()>,
}

/// Makes the body of a response end when the caller's share is revoked.
pub(super) fn watched(archive: &Arc<Archive>, caller: &Caller, body: Body) -> Body {
    let is_short = body.size_hint().upper().is_some_and(|bytes| bytes < MIN_BYTES);
    let Some(share) = caller.share.clone().filter(|_| !is_short) else { return body };
    let (mut sender, revoked) = oneshot::channel();
    let (archive, tenant) = (archive.clone(), caller.tenant.clone());
    tokio::spawn(async move {
        loop {
            tokio::select! {
                () = sleep(INTERVAL) => {}
                // The response has been sent.
                () = sender.closed() => return,
            }
            // A failure of the index proves nothing; the next look may succeed.
            if let Ok(None) = archive.caller_of_share(tenant.clone(), &share.id, i64::MAX).await {
                let _ = sender.send(());
                return;
            }
        }
    });
    Body::new(RevocableBody { body, revoked })
}

impl HttpBody for RevocableBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if let Poll::Ready(Ok(())) = Pin::new(&mut self.revoked).poll(context) {
            let ended = io::Error::new(io::ErrorKind::PermissionDenied, "the share has ended");
            return Poll::Ready(Some(Err(axum::Error::new(ended))));
        }
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
