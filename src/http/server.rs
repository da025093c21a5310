//! Accepts connections within limits, and lets requests finish when the server stops (RFC 9112).

use std::future::poll_fn;
use std::net::IpAddr;
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

use crate::http::middleware::forwarding::Connection;
use crate::http::middleware::write_timeout::WriteTimeoutStream;
use crate::http::{Service, resources};

/// The maximal size of a request's head, and of one read from or write to a socket.
const MAX_BUFFER_BYTES: usize = 512 * 1024;
/// The time for which a connection is read after the server has closed it, so that a client that still sends
/// sees the response and not a reset.
const LINGER: Duration = Duration::from_secs(2);
/// The pause after a failure to accept, as when there are no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves connections until `stop` is cancelled, and returns when all open connections have ended.
pub async fn run(listener: TcpListener, mut service: Service, stop: CancellationToken) {
    service.stop = stop.clone();
    let permits = Arc::new(Semaphore::new(service.settings.max_connections));
    let idle = Duration::from_secs(service.settings.idle_timeout_seconds);
    let service = Arc::new(service);
    let router = resources::router(&service);
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
            let permit = Arc::clone(&permits).acquire_owned().await;
            (permit, listener.accept().await)
        };
        let (permit, stream, peer) = tokio::select! {
            () = stop.cancelled() => break,
            (permit, accepted) = accepted => match accepted {
                Ok((stream, address)) => (permit, stream, address.ip()),
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
            drop(permit);
        });
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

/// Serves one connection until it ends; after `stop`, until the current request is answered.
async fn serve(stream: TcpStream, peer: IpAddr, router: Router, idle: Duration, stop: CancellationToken) {
    let Ok(local) = stream.local_addr() else { return };
    let connection = Connection { peer, local };
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, "cannot set TCP_NODELAY");
    }
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(connection);
        Box::pin(router.clone().oneshot(request))
    });
    let mut builder = Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(idle).max_buf_size(MAX_BUFFER_BYTES);
    let mut connection =
        builder.serve_connection(TokioIo::new(WriteTimeoutStream::new(stream, idle)), service);
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

/// Closes a connection: announces the end, and discards for a while the bytes that the client still sends
/// (RFC 9112 §9.6).
async fn linger(mut stream: WriteTimeoutStream) {
    if stream.shutdown().await.is_ok() {
        let rest = async {
            let mut scratch = vec![0; 64 * 1024];
            while matches!(stream.read(&mut scratch).await, Ok(bytes) if bytes > 0) {}
        };
        // The connection ends, whether the client has finished or the time is up.
        let _ = timeout(LINGER, rest).await;
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use tokio::task::JoinHandle;

    use super::*;
    use crate::config::Config;

    /// A server that runs until `stop` is cancelled.
    struct RunningServer {
        address: SocketAddr,
        stop: CancellationToken,
        task: JoinHandle<()>,
    }

    async fn start(config: &Config) -> RunningServer {
        let service = Arc::into_inner(Service::for_tests(config)).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
        RunningServer { address, task: tokio::spawn(run(listener, service, stop.clone())), stop }
    }

    async fn connect(server: &RunningServer, text: &str) -> TcpStream {
        let mut client = TcpStream::connect(server.address).await.unwrap();
        client.write_all(text.as_bytes()).await.unwrap();
        client
    }

    /// The bytes up to the end of the connection.
    async fn rest(mut client: TcpStream) -> String {
        let mut text = String::new();
        client.read_to_string(&mut text).await.unwrap();
        text
    }

    #[tokio::test]
    async fn a_request_under_way_is_answered_when_the_server_stops() {
        let server = start(&Config::defaults()).await;
        let head = "POST /dicom-web/studies HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/dicom\r\n\
                    Content-Length: 4\r\nExpect: 100-continue\r\n\r\n";
        let mut client = connect(&server, head).await;
        // The handler waits for the body.
        let mut interim = [0; 25];
        client.read_exact(&mut interim).await.unwrap();
        assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
        server.stop.cancel();
        client.write_all(b"1234").await.unwrap();
        assert!(rest(client).await.starts_with("HTTP/1.1 409"));
        server.task.await.unwrap();
        assert!(TcpStream::connect(server.address).await.is_err());
    }

    #[tokio::test]
    async fn connections_without_a_request_end_when_the_server_stops() {
        let server = start(&Config::defaults()).await;
        let mut client = connect(&server, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
        let mut start = [0; 15];
        client.read_exact(&mut start).await.unwrap();
        assert_eq!(&start, b"HTTP/1.1 200 OK");
        server.stop.cancel();
        rest(client).await;
        server.task.await.unwrap();
    }

    #[tokio::test]
    async fn a_connection_beyond_the_limit_waits_for_another_to_end() {
        let mut config = Config::defaults();
        config.http.max_connections = 1;
        let server = start(&config).await;
        let mut first = connect(&server, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
        let mut start = [0; 15];
        first.read_exact(&mut start).await.unwrap();
        let closing = "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        let mut second = connect(&server, closing).await;
        assert!(timeout(Duration::from_millis(100), second.read_u8()).await.is_err());
        drop(first);
        assert!(rest(second).await.starts_with("HTTP/1.1 200"));
        server.stop.cancel();
        server.task.await.unwrap();
    }

    #[tokio::test]
    async fn a_connection_without_a_complete_head_ends_after_the_idle_timeout() {
        let mut config = Config::defaults();
        config.http.idle_timeout_seconds = 1;
        let server = start(&config).await;
        let client = connect(&server, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n").await;
        rest(client).await;
        server.stop.cancel();
        server.task.await.unwrap();
    }
}
