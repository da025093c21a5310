//! HTTP/2 (RFC 9113): what HTTP/1.1 has by its one request at a time, each stream needs for itself.
//!
//! A client that opens a stream and does not read it must not hold the stream's response for ever. Writes to
//! the connection do not fail then: flow control stops the stream and not the connection. Bytes that wait in
//! a stream are released with the connection only, so that the connection takes no more requests, and ends.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use hyper::body::{Frame, SizeHint};
use hyper::rt::Executor;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::debug;

tokio::task_local! {
    /// The progress of the stream whose task is running.
    static PROGRESS: Arc<StreamProgress>;
}

/// Runs each stream in a task of its own, which ends when the client takes nothing of the response for a time
/// limit. `stalled` is then cancelled.
#[derive(Debug, Clone)]
pub(super) struct StreamExecutor {
    limit: Duration,
    stalled: CancellationToken,
}

impl StreamExecutor {
    /// Streams that end after `limit` without progress.
    pub(super) fn new(limit: Duration, stalled: CancellationToken) -> Self {
        Self { limit, stalled }
    }
}

impl<F> Executor<F> for StreamExecutor
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, stream: F) {
        let progress = Arc::new(StreamProgress::new());
        let (limit, stalled, watched) = (self.limit, self.stalled.clone(), Arc::clone(&progress));
        tokio::spawn(PROGRESS.scope(progress, async move {
            tokio::select! {
                _ = stream => {}
                () = watched.stalled(limit) => {
                    debug!("the client does not read a stream; the connection ends");
                    stalled.cancel();
                }
            }
        }));
    }
}

/// The time since which a stream waits for its client.
#[derive(Debug)]
struct StreamProgress {
    start: Instant,
    /// Milliseconds since `start`, plus one; 0 while the stream waits for nothing of the client.
    waits_since: AtomicU64,
}

impl StreamProgress {
    fn new() -> Self {
        Self { start: Instant::now(), waits_since: AtomicU64::new(0) }
    }

    fn set_waiting(&self, is_waiting: bool) {
        let now = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX - 1) + 1;
        self.waits_since.store(if is_waiting { now } else { 0 }, Ordering::Relaxed);
    }

    /// Returns when the stream has waited for its client for `limit`.
    async fn stalled(&self, limit: Duration) {
        loop {
            match self.waits_since.load(Ordering::Relaxed) {
                0 => sleep(limit).await,
                millis => {
                    let end = self.start + Duration::from_millis(millis - 1) + limit;
                    if end <= Instant::now() {
                        return;
                    }
                    sleep_until(end).await;
                }
            }
        }
    }
}

/// A body that records when it waits for the client. A body is asked for more only when the client has room
/// for more.
pub(super) struct ProgressBody(Body);

impl ProgressBody {
    /// Wraps the body of a response of HTTP/2.
    pub(super) fn wrap(body: Body) -> Body {
        Body::new(Self(body))
    }
}

impl HttpBody for ProgressBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.0).poll_frame(context);
        // Outside of a stream there is no progress to record.
        let _ =
            PROGRESS.try_with(|progress| progress.set_waiting(matches!(polled, Poll::Ready(Some(Ok(_))))));
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stream_stalls_only_while_it_waits_for_its_client() {
        let limit = Duration::from_secs(1);
        let progress = Arc::new(StreamProgress::new());
        let watched = Arc::clone(&progress);
        let stalled = tokio::spawn(async move { watched.stalled(limit).await });
        // The handler takes long, then the client reads slowly.
        sleep(limit + limit / 4).await;
        for _ in 0..5 {
            progress.set_waiting(true);
            sleep(limit / 4).await;
            assert!(!stalled.is_finished());
        }
        // The body takes long.
        progress.set_waiting(false);
        sleep(limit + limit / 4).await;
        assert!(!stalled.is_finished());
        progress.set_waiting(true);
        let start = Instant::now();
        stalled.await.unwrap();
        assert!(start.elapsed() >= limit / 2, "{:?}", start.elapsed());
    }
}
