//! Serves the requests of one connection, by HTTP/1.1 or HTTP/2 (RFC 9112, RFC 9113).

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::header::{CONNECTION, STRICT_TRANSPORT_SECURITY};
use axum::http::{HeaderValue, Response, Version};
use axum::response::IntoResponse;
use futures_util::future::BoxFuture;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{sleep, timeout};
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;
use tracing::debug;

use crate::http::changes::Endless;
use crate::http::error::Error;
use crate::http::http2::{ProgressBody, StreamExecutor};
use crate::http::middleware::concurrency_limit::is_about_server;
use crate::http::middleware::forwarding::Connection;
use crate::http::response::holding_body::HoldingBody;

/// The maximal size of a request's head, and of one read from or write to a socket.
const MAX_BUFFER_BYTES: usize = 512 * 1024;
/// The time for which a connection is read after the server has closed it, so that a client that still sends
/// sees the response and not a reset.
const LINGER: Duration = Duration::from_secs(2);
/// HTTP/2 over TLS as ALPN names it (RFC 9113 §3.2).
const HTTP_2: &[u8] = b"h2";
/// The application protocols over TLS, the preferred one first.
pub const TLS_PROTOCOLS: &[&[u8]] = &[HTTP_2, b"http/1.1"];
/// The maximal size of the header fields of a request of HTTP/2.
const MAX_HEADER_LIST_BYTES: u32 = 128 * 1024;
/// Bytes of request bodies that a client may send ahead of the handlers: of one stream and of all together.
const STREAM_WINDOW_BYTES: u32 = 512 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;
/// Bytes of a response that wait in a stream of HTTP/2 until the client has room for them.
const STREAM_BUFFER_BYTES: usize = 128 * 1024;
/// Streams that the client has reset and the server has not seen yet, and streams that were reset for faults
/// of the client: beyond, the connection ends (CVE-2023-44487).
const MAX_PENDING_RESETS: usize = 20;
const MAX_FAULTY_STREAMS: usize = 1024;
/// A connection of HTTP/2 is idle if no more is written than the answers to pings.
const IDLE_BYTES: u64 = 1024;
/// The longest time without a byte after which a connection ends whose requests have ended.
const MAX_LAST_QUIET: Duration = Duration::from_secs(5);
/// Browsers use https only for a year, once they have seen it (RFC 6797).
const TRANSPORT_SECURITY: HeaderValue = HeaderValue::from_static("max-age=31536000");

/// The limits on a connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct ConnectionLimits {
    /// The time without a request, or without progress.
    pub(super) idle: Duration,
    /// Concurrent requests of a connection of HTTP/2.
    pub(super) max_streams: u32,
}

/// Answers the requests of one connection.
#[derive(Clone)]
pub(super) struct RequestService {
    pub(super) router: Router,
    /// The ends of the connection.
    pub(super) connection: Connection,
    /// Whether requests are answered about the server itself alone.
    pub(super) is_reserved: bool,
    /// The number of requests that are under way.
    pub(super) under_way: Arc<AtomicUsize>,
    /// The number of requests that have begun.
    pub(super) begun: Arc<AtomicU64>,
}

impl Service<Request<Incoming>> for RequestService {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        self.begun.fetch_add(1, Ordering::Relaxed);
        let under_way = UnderWay::begin(&self.under_way);
        request.extensions_mut().insert(self.connection);
        let (router, is_reserved, is_tls) = (self.router.clone(), self.is_reserved, self.connection.is_tls);
        let is_stream = request.version() == Version::HTTP_2;
        Box::pin(async move {
            let mut response = match is_reserved && !is_about_server(request.uri().path()) {
                true => all_in_use(),
                false => router.oneshot(request).await?,
            };
            if is_tls {
                response.headers_mut().insert(STRICT_TRANSPORT_SECURITY, TRANSPORT_SECURITY);
            }
            // A connection of HTTP/1.1 that only listens makes room for others, like one that is idle.
            let is_listening = !is_stream && response.extensions().get::<Endless>().is_some();
            let under_way = Some(under_way).filter(|_| !is_listening);
            Ok(response.map(|body| {
                let body = HoldingBody::wrap(body, under_way);
                if is_stream { ProgressBody::wrap(body) } else { body }
            }))
        })
    }
}

/// The response on a reserved connection to a request that is not about the server itself.
fn all_in_use() -> Response<Body> {
    let limits = "http.max_connections, http.max_connections_per_address";
    let error = Error::Unavailable(format!("all connections are in use ({limits})"));
    let mut response = error.into_response();
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

/// Counts a request of a connection as under way, until the response has been sent.
struct UnderWay(Arc<AtomicUsize>);

impl UnderWay {
    fn begin(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count.clone())
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Serves a connection by HTTP/1.1 until it ends; after `stop`, until the current request is answered.
pub(super) async fn serve_http1<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    service: RequestService,
    limits: ConnectionLimits,
    stop: &CancellationToken,
) {
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(limits.idle).max_buf_size(MAX_BUFFER_BYTES);
    let mut connection = builder.serve_connection(TokioIo::new(stream), service);
    let ended = tokio::select! {
        ended = poll_fn(|context| connection.poll_without_shutdown(context)) => Some(ended),
        () = stop.cancelled() => None,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            Pin::new(&mut connection).graceful_shutdown();
            poll_fn(|context| connection.poll_without_shutdown(context)).await
        }
    };
    match ended {
        Ok(()) => linger(connection.into_parts().io.into_inner()).await,
        Err(error) => debug!(%error, "an HTTP connection ended early"),
    }
}

/// Serves a connection by HTTP/2 until it ends, or until there was no request for the limit. After `stop`, or
/// when the client does not read a stream, it ends when the current requests are answered. `written` counts
/// the bytes that are written to the connection.
pub(super) async fn serve_http2<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    service: RequestService,
    limits: ConnectionLimits,
    written: Arc<AtomicU64>,
    stop: &CancellationToken,
) {
    let ConnectionLimits { idle, max_streams } = limits;
    let stalled = CancellationToken::new();
    let mut builder = http2::Builder::new(StreamExecutor::new(idle, stalled.clone()));
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(max_streams)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_send_buf_size(STREAM_BUFFER_BYTES)
        .max_header_list_size(MAX_HEADER_LIST_BYTES)
        .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
        .max_local_error_reset_streams(MAX_FAULTY_STREAMS)
        .keep_alive_interval(idle)
        .keep_alive_timeout(idle);
    let activity = Activity { under_way: service.under_way.clone(), begun: service.begun.clone(), written };
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = connection.as_mut() => Some(ended),
        () = stop.cancelled() => None,
        () = stalled.cancelled() => None,
        () = activity.idled(idle) => None,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                ended = connection => ended,
                // Streams that are not read do not end.
                () = activity.idled(idle.min(MAX_LAST_QUIET)) => Ok(()),
            }
        }
    };
    if let Err(error) = ended {
        debug!(%error, "an HTTP/2 connection ended early");
    }
}

/// The requests of a connection, and the bytes that are written to it.
struct Activity {
    under_way: Arc<AtomicUsize>,
    begun: Arc<AtomicU64>,
    written: Arc<AtomicU64>,
}

impl Activity {
    /// Returns when no request was under way, and hardly anything was written, for `limit`.
    async fn idled(&self, limit: Duration) {
        loop {
            let (begun, written) = (self.begun.load(Ordering::Relaxed), self.written.load(Ordering::Relaxed));
            sleep(limit).await;
            let is_quiet = self.begun.load(Ordering::Relaxed) == begun
                && self.written.load(Ordering::Relaxed).wrapping_sub(written) < IDLE_BYTES;
            if is_quiet && self.under_way.load(Ordering::Relaxed) == 0 {
                return;
            }
        }
    }
}

/// Closes a connection: announces the end, and discards for a while the bytes that the client still sends
/// (RFC 9112 §9.6).
pub(super) async fn linger<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) {
    if stream.shutdown().await.is_ok() {
        let rest = async {
            let mut scratch = vec![0; 64 * 1024];
            while matches!(stream.read(&mut scratch).await, Ok(bytes) if bytes > 0) {}
        };
        // The connection ends, whether the client has finished or the time is up.
        let _ = timeout(LINGER, rest).await;
    }
}

/// Whether the two ends of a connection have agreed on HTTP/2.
pub(super) fn is_http2<S>(stream: &TlsStream<S>) -> bool {
    stream.get_ref().1.alpn_protocol() == Some(HTTP_2)
}
