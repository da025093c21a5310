//! A proxy for tests, between the store and its server, which injects faults.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

/// The fault that a [`Proxy`] injects.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum ProxyFault {
    None,
    /// Cuts the connection after so many bytes of the answer to a GET.
    CutAnswers(usize),
    /// Stops passing on the answer to a GET after so many bytes.
    StallAnswers(usize),
    /// Cuts the connection instead of answering a request that has this text in its first line.
    LoseAnswers(&'static str),
    /// Answers instead of the server.
    Answer(&'static str),
    /// Passes on nothing of the PUT of a part.
    StallParts,
    /// Changes a byte of the body of a PUT.
    DamageRequests,
}

pub(super) struct Proxy {
    /// The URL of the proxy.
    pub(super) endpoint: String,
    state: Arc<ProxyState>,
}

struct ProxyState {
    upstream: String,
    fault: ProxyFault,
    /// Faults that remain to be injected.
    armed: AtomicUsize,
    faults: AtomicUsize,
    requests: AtomicUsize,
    happened: Notify,
}

impl Proxy {
    /// Starts a proxy of the server at `endpoint`, which injects no fault yet.
    pub(super) async fn start(endpoint: &str, fault: ProxyFault) -> Self {
        let upstream = endpoint.strip_prefix("http://").unwrap().to_owned();
        let (armed, faults, requests) = Default::default();
        let state =
            Arc::new(ProxyState { upstream, fault, armed, faults, requests, happened: Notify::new() });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let for_task = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let state = Arc::clone(&for_task);
                // Broken connections are expected.
                tokio::spawn(async move { drop(state.serve(client).await) });
            }
        });
        Self { endpoint, state }
    }

    /// Injects this many faults from now on.
    pub(super) fn arm(&self, faults: usize) {
        self.state.armed.store(faults, Ordering::SeqCst);
    }

    /// The number of injected faults.
    pub(super) fn faults(&self) -> usize {
        self.state.faults.load(Ordering::SeqCst)
    }

    /// The number of requests.
    pub(super) fn requests(&self) -> usize {
        self.state.requests.load(Ordering::SeqCst)
    }

    /// Waits for the next fault.
    pub(super) async fn happened(&self) {
        self.state.happened.notified().await;
    }
}

impl ProxyState {
    /// Whether to inject a fault now.
    fn fails(&self) -> bool {
        let one_less = |armed: usize| armed.checked_sub(1);
        let fails = self.armed.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less).is_ok();
        if fails {
            self.faults.fetch_add(1, Ordering::SeqCst);
            self.happened.notify_one();
        }
        fails
    }

    /// Passes on the bytes of a connection, until a fault.
    async fn serve(&self, mut client: TcpStream) -> std::io::Result<()> {
        let mut server = TcpStream::connect(&self.upstream).await?;
        let (mut from_client, mut from_server) = (vec![0; 65_536], vec![0; 65_536]);
        // The first line of the last request, and the bytes of the answer to it so far.
        let (mut line, mut answered) = (String::new(), 0);
        loop {
            tokio::select! {
                read = client.read(&mut from_client) => {
                    let bytes = &mut from_client[..read?];
                    let Some(last) = bytes.len().checked_sub(1) else { return Ok(()) };
                    // A client that reuses a connection sends no request before it has the whole answer.
                    if let Some(first) = request_line(bytes) {
                        (line, answered) = (first, 0);
                        self.requests.fetch_add(1, Ordering::SeqCst);
                        let is_part = line.contains("partNumber=");
                        if let ProxyFault::Answer(answer) = self.fault && self.fails() {
                            client.write_all(answer.as_bytes()).await?;
                            return drain(&mut client).await;
                        }
                        if self.fault == ProxyFault::StallParts && is_part && self.fails() {
                            return drain(&mut client).await;
                        }
                    } else if self.fault == ProxyFault::DamageRequests && line.starts_with("PUT") && self.fails() {
                        bytes[last] ^= 1;
                    }
                    server.write_all(bytes).await?;
                }
                read = server.read(&mut from_server) => {
                    let bytes = &from_server[..read?];
                    let before = answered;
                    answered += bytes.len();
                    match self.fault {
                        ProxyFault::CutAnswers(after) | ProxyFault::StallAnswers(after)
                            if line.starts_with("GET") && answered > after && self.fails() =>
                        {
                            client.write_all(&bytes[..after.saturating_sub(before)]).await?;
                            if matches!(self.fault, ProxyFault::StallAnswers(_)) {
                                return drain(&mut client).await;
                            }
                            return Ok(());
                        }
                        ProxyFault::LoseAnswers(of) if line.contains(of) && self.fails() => return Ok(()),
                        _ if bytes.is_empty() => return Ok(()),
                        _ => client.write_all(bytes).await?,
                    }
                }
            }
        }
    }
}

/// The first line of a request, if the bytes begin with one.
fn request_line(bytes: &[u8]) -> Option<String> {
    let line = bytes.split(|byte| *byte == b'\r').next()?;
    let line = std::str::from_utf8(line).ok()?;
    line.ends_with(" HTTP/1.1").then(|| line.to_owned())
}

/// Waits until the peer closes the connection.
async fn drain(stream: &mut TcpStream) -> std::io::Result<()> {
    let mut ignored = [0; 4096];
    while stream.read(&mut ignored).await? > 0 {}
    Ok(())
}
