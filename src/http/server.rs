//! Accepts connections within limits, with TLS or without, and lets requests finish when the server stops
//! (RFC 9112, RFC 9113).

use std::future::pending;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use crate::connections::{Connections, OpenConnection};
use crate::http::middleware::forwarding::Connection;
use crate::http::middleware::write_timeout::WriteTimeoutStream;
use crate::http::protocol::{ConnectionLimits, RequestService, is_http2, linger, serve_http1, serve_http2};
use crate::http::web::console;
use crate::http::{Service, resources};
use crate::tls::ServerTls;

/// The pause after a failure to accept, as when there are no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// The response to a client that speaks HTTP without TLS on the port of HTTPS.
const NEEDS_TLS: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n\
    Content-Length: 48\r\nConnection: close\r\n\r\nthis port answers to https:// only, not http://\n";

/// Serves connections until `stop` is cancelled, and returns when all open connections have ended.
///
/// `operations` is a second listener (`http.operations_address`), for requests about the server itself alone,
/// without TLS.
pub async fn run(
    (listener, tls): (TcpListener, Option<Arc<ServerTls>>),
    operations: Option<TcpListener>,
    mut service: Service,
    stop: CancellationToken,
) {
    console::compress_ahead();
    service.stop = stop.clone();
    let settings = service.settings.clone();
    let service = Arc::new(service);
    let acceptor = Acceptor {
        router: resources::router(&service),
        limits: ConnectionLimits {
            idle: Duration::from_secs(settings.idle_timeout_seconds),
            max_streams: settings.max_streams_per_connection,
        },
        tls: None,
        first_request: Duration::from_secs(settings.first_request_timeout_seconds),
        stop: stop.clone(),
        tasks: TaskTracker::new(),
    };
    let with_tls = Acceptor { tls: tls.clone(), ..acceptor.clone() };
    if let Some(tls) = tls {
        let interval = Duration::from_secs(settings.tls_reload_seconds);
        acceptor.tasks.spawn(tls.run(interval, stop.clone()));
    }
    if service.auth.is_some() {
        acceptor.tasks.spawn(async move {
            if let Some(authenticator) = &service.auth {
                authenticator.run(stop).await;
            }
        });
    }
    let connections = Connections::new(settings.max_connections, settings.max_connections_per_address);
    let of_operations = async {
        if let Some(listener) = operations {
            acceptor.accept(listener, Connections::reserved_only()).await;
        }
    };
    tokio::join!(with_tls.accept(listener, connections), of_operations);
    acceptor.tasks.close();
    acceptor.tasks.wait().await;
}

/// The parts that all connections share.
#[derive(Clone)]
struct Acceptor {
    router: Router,
    limits: ConnectionLimits,
    tls: Option<Arc<ServerTls>>,
    first_request: Duration,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Acceptor {
    /// Serves the connections of a listener, until the server stops.
    async fn accept(&self, listener: TcpListener, connections: Arc<Connections>) {
        loop {
            let accepted = tokio::select! {
                () = self.stop.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, address)) => match connections.admit(address.ip()) {
                    Some(open) => {
                        self.tasks.spawn(self.clone().serve(stream, address.ip(), open));
                    }
                    None => debug!("an HTTP connection was closed: all are in use"),
                },
                Err(error) => {
                    warn!(%error, "cannot accept an HTTP connection");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Serves one connection until it ends or must make room for another; after `stop`, until the current
    /// requests are answered.
    async fn serve(self, stream: TcpStream, peer: IpAddr, open: OpenConnection) {
        let Ok(local) = stream.local_addr() else { return };
        if let Err(error) = stream.set_nodelay(true) {
            debug!(%error, "cannot set TCP_NODELAY");
        }
        let begun = Arc::<AtomicU64>::default();
        let service = RequestService {
            router: self.router.clone(),
            connection: Connection { peer, local, is_tls: self.tls.is_some() },
            is_reserved: open.is_reserved,
            under_way: open.under_way.clone(),
            begun: begun.clone(),
        };
        tokio::select! {
            () = self.answer(stream, service) => {}
            () = open.end.cancelled() => {}
            () = no_request(self.first_request, &begun) => {}
        }
    }

    /// Answers the requests of a connection, after the handshake if there is TLS.
    async fn answer(&self, stream: TcpStream, service: RequestService) {
        let Self { limits, stop, .. } = self;
        let Some(tls) = &self.tls else {
            let stream = WriteTimeoutStream::new(stream, limits.idle);
            return serve_http1(stream, service, *limits, stop).await;
        };
        let mut first = [0];
        let peeked = stream.peek(&mut first).await;
        let mut stream = WriteTimeoutStream::new(stream, limits.idle);
        // A method of HTTP; TLS begins with 22 (RFC 8446 §5.1).
        if peeked.is_ok_and(|bytes| bytes == 1) && first[0].is_ascii_uppercase() {
            if stream.write_all(NEEDS_TLS).await.is_ok() {
                linger(stream).await;
            }
            return;
        }
        let written = stream.written();
        let accepted = tokio::select! {
            accepted = tls.accept(stream) => accepted,
            () = stop.cancelled() => return,
        };
        match accepted {
            Ok(stream) if is_http2(&stream) => serve_http2(stream, service, *limits, written, stop).await,
            Ok(stream) => serve_http1(stream, service, *limits, stop).await,
            Err(error) => debug!(%error, "a TLS handshake failed"),
        }
    }
}

/// Returns when no request has begun within a time.
async fn no_request(limit: Duration, begun: &AtomicU64) {
    sleep(limit).await;
    if begun.load(Ordering::Relaxed) > 0 {
        pending::<()>().await;
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use tokio::io::AsyncReadExt;
    use tokio::task::JoinHandle;
    use tokio::time::timeout;

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
        RunningServer {
            address,
            task: tokio::spawn(run((listener, None), None, service, stop.clone())),
            stop,
        }
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

    const STUDIES: &str = "GET /dicom-web/studies HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

    #[tokio::test]
    async fn an_idle_connection_makes_room_for_another() {
        let mut config = Config::defaults();
        config.http.max_connections = 1;
        let server = start(&config).await;
        let mut first = connect(&server, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
        let mut start = [0; 15];
        first.read_exact(&mut start).await.unwrap();
        assert!(rest(connect(&server, STUDIES).await).await.starts_with("HTTP/1.1 200"));
        rest(first).await;
        server.stop.cancel();
        server.task.await.unwrap();
    }

    #[tokio::test]
    async fn a_server_whose_connections_are_all_in_use_answers_about_itself() {
        let mut config = Config::defaults();
        config.http.max_connections = 1;
        let server = start(&config).await;
        let head = "POST /dicom-web/studies HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/dicom\r\n\
                    Content-Length: 4\r\nExpect: 100-continue\r\n\r\n";
        let mut busy = connect(&server, head).await;
        busy.read_exact(&mut [0; 25]).await.unwrap();
        let refused = rest(connect(&server, STUDIES).await).await;
        assert!(refused.starts_with("HTTP/1.1 503") && refused.contains("retry-after"), "{refused}");
        let health = "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        assert!(rest(connect(&server, health).await).await.starts_with("HTTP/1.1 200"));
        busy.write_all(b"1234").await.unwrap();
        let mut answer = [0; 12];
        busy.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 409");
        server.stop.cancel();
        server.task.await.unwrap();
    }

    #[tokio::test]
    async fn silent_connections_beyond_all_limits_keep_nobody_waiting() {
        let mut config = Config::defaults();
        config.http.max_connections = 8;
        let server = start(&config).await;
        let mut silent = Vec::new();
        for _ in 0..100 {
            silent.push(connect(&server, "GET / HT").await);
        }
        let answer = timeout(Duration::from_secs(5), rest(connect(&server, STUDIES).await)).await;
        assert!(answer.unwrap().starts_with("HTTP/1.1 200"));
        drop(silent);
        server.stop.cancel();
        server.task.await.unwrap();
    }

    #[tokio::test]
    async fn a_connection_without_a_first_request_ends_early() {
        let mut config = Config::defaults();
        config.http.first_request_timeout_seconds = 1;
        let server = start(&config).await;
        for begun in ["", "GET /healthz HTTP/1.1\r\n"] {
            let client = connect(&server, begun).await;
            assert!(timeout(Duration::from_secs(30), rest(client)).await.is_ok());
        }
        server.stop.cancel();
        server.task.await.unwrap();
    }

    #[tokio::test]
    async fn the_second_address_answers_about_the_server_alone() {
        let config = Config::defaults();
        let service = Arc::into_inner(Service::for_tests(&config)).unwrap();
        let [listener, operations] = [
            TcpListener::bind("127.0.0.1:0").await.unwrap(),
            TcpListener::bind("127.0.0.1:0").await.unwrap(),
        ];
        let (address, stop) = (operations.local_addr().unwrap(), CancellationToken::new());
        let task = tokio::spawn(run((listener, None), Some(operations), service, stop.clone()));
        let server = RunningServer { address, stop, task };
        for (path, status) in
            [("/healthz", 200), ("/readyz", 200), ("/metrics", 200), ("/dicom-web/studies", 503)]
        {
            let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
            let answer = rest(connect(&server, &request).await).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{path}: {answer}");
        }
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
