//! Connections: accepting them, their limits, and a stop that lets requests finish (RFC 9112).

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1::Builder;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;
use tracing::{debug, warn};

use crate::http::middleware::concurrency_limit::Peer;
use crate::http::middleware::write_timeout::Impatient;
use crate::http::{Service, routes};

/// Bytes of a request's head, and of what is read from or written to a socket at a time.
const MAX_BUFFER_BYTES: usize = 512 * 1024;
/// How long a connection that is closed while the client still sends is read from, so that the client sees the
/// answer and not a reset.
const LINGER: Duration = Duration::from_secs(2);
/// Wait after a failure to accept, as when there are no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves connections until `stop` is cancelled, and returns when those that are open have ended.
pub async fn run(listener: TcpListener, mut service: Service, stop: CancellationToken) {
    service.stop = stop.clone();
    let places = Arc::new(Semaphore::new(service.settings.max_connections));
    let idle = Duration::from_secs(service.settings.idle_timeout_seconds);
    let service = Arc::new(service);
    let router = routes::router(Arc::clone(&service));
    let connections = TaskTracker::new();
    if service.auth.is_some() {
        let stop = stop.clone();
        connections.spawn(async move {
            if let Some(authenticator) = &service.auth {
                authenticator.run(stop).await;
            }
        });
    }
    loop {
        let accepted = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (place, listener.accept().await)
        };
        let (place, stream, peer) = tokio::select! {
            () = stop.cancelled() => break,
            (place, accepted) = accepted => match accepted {
                Ok((stream, address)) => (place, stream, Peer(address.ip())),
                Err(error) => {
                    warn!(%error, "cannot accept an HTTP connection");
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
        };
        let (router, stop) = (router.clone(), stop.clone());
        connections.spawn(async move {
            serve(stream, peer, router, idle, stop).await;
            drop(place);
        });
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

/// Serves one connection until it ends; after `stop`, until the request under way is answered.
async fn serve(stream: TcpStream, peer: Peer, router: Router, idle: Duration, stop: CancellationToken) {
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, "cannot set TCP_NODELAY");
    }
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer);
        Box::pin(router.clone().oneshot(request))
    });
    let mut builder = Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(idle).max_buf_size(MAX_BUFFER_BYTES);
    let mut connection = builder.serve_connection(TokioIo::new(Impatient::new(stream, idle)), service);
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

/// Closes a connection: says that nothing more will be sent, and reads on for a while what the client had begun to
/// send (RFC 9112 §9.6).
async fn linger(mut stream: Impatient) {
    if stream.shutdown().await.is_ok() {
        let rest = async {
            let mut scratch = vec![0; 64 * 1024];
            while matches!(stream.read(&mut scratch).await, Ok(bytes) if bytes > 0) {}
        };
        // Whether the client is done or the time is up, the connection is.
        let _ = timeout(LINGER, rest).await;
    }
}
