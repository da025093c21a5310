//! For tests: stands between the store and its server, and breaks connections when it is told to.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

/// What a [`Proxy`] does wrong, as often as it is told to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    None,
    /// Cuts the connection after so many bytes of the answer to a GET.
    CutAnswers(usize),
    /// Passes no more of the answer to a GET on, after so many bytes.
    StallAnswers(usize),
    /// Cuts the connection instead of an answer to a request whose head has such a text in its first line.
    LoseAnswers(&'static str),
    /// Answers in the server's place.
    Answer(&'static str),
    /// Passes nothing of the PUT of a part on.
    StallParts,
    /// Changes a byte of the body of a PUT.
    DamageRequests,
}

pub(super) struct Proxy {
    /// The URL under which it is reached.
    pub(super) endpoint: String,
    state: Arc<State>,
}

struct State {
    upstream: String,
    fault: Fault,
    /// Faults to come.
    armed: AtomicUsize,
    faults: AtomicUsize,
    requests: AtomicUsize,
    happened: Notify,
}

impl Proxy {
    /// A proxy of the server at `endpoint`, that does nothing wrong yet.
    pub(super) async fn start(endpoint: &str, fault: Fault) -> Self {
        let upstream = endpoint.strip_prefix("http://").unwrap().to_owned();
        let (armed, faults, requests) = Default::default();
        let state = Arc::new(State { upstream, fault, armed, faults, requests, happened: Notify::new() });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let of_proxy = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let state = Arc::clone(&of_proxy);
                // A connection that breaks is what this is for.
                tokio::spawn(async move { drop(state.serve(client).await) });
            }
        });
        Self { endpoint, state }
    }

    /// Lets as many faults happen.
    pub(super) fn arm(&self, faults: usize) {
        self.state.armed.store(faults, Ordering::SeqCst);
    }

    /// Faults that have happened.
    pub(super) fn faults(&self) -> usize {
        self.state.faults.load(Ordering::SeqCst)
    }

    /// Requests that have come.
    pub(super) fn requests(&self) -> usize {
        self.state.requests.load(Ordering::SeqCst)
    }

    /// Waits until a fault happens.
    pub(super) async fn happened(&self) {
        self.state.happened.notified().await;
    }
}

impl State {
    /// Whether it is time for a fault.
    fn fails(&self) -> bool {
        let one_less = |armed: usize| armed.checked_sub(1);
        let fails = self.armed.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less).is_ok();
        if fails {
            self.faults.fetch_add(1, Ordering::SeqCst);
            self.happened.notify_one();
        }
        fails
    }

    /// Passes on what comes on a connection, until there is a fault.
    async fn serve(&self, mut client: TcpStream) -> std::io::Result<()> {
        let mut server = TcpStream::connect(&self.upstream).await?;
        let (mut from_client, mut from_server) = (vec![0; 65_536], vec![0; 65_536]);
        // Of the request that was the last to come: its first line, and how much of the answer has come.
        let (mut line, mut answered) = (String::new(), 0);
        loop {
            tokio::select! {
                read = client.read(&mut from_client) => {
                    let bytes = &mut from_client[..read?];
                    let Some(last) = bytes.len().checked_sub(1) else { return Ok(()) };
                    // A client that reuses a connection sends nothing before it has the whole answer.
                    if let Some(first) = request_line(bytes) {
                        (line, answered) = (first, 0);
                        self.requests.fetch_add(1, Ordering::SeqCst);
                        let is_part = line.contains("partNumber=");
                        if let Fault::Answer(answer) = self.fault && self.fails() {
                            client.write_all(answer.as_bytes()).await?;
                            return drain(&mut client).await;
                        }
                        if self.fault == Fault::StallParts && is_part && self.fails() {
                            return drain(&mut client).await;
                        }
                    } else if self.fault == Fault::DamageRequests && line.starts_with("PUT") && self.fails() {
                        bytes[last] ^= 1;
                    }
                    server.write_all(bytes).await?;
                }
                read = server.read(&mut from_server) => {
                    let bytes = &from_server[..read?];
                    let before = answered;
                    answered += bytes.len();
                    match self.fault {
                        Fault::CutAnswers(after) | Fault::StallAnswers(after)
                            if line.starts_with("GET") && answered > after && self.fails() =>
                        {
                            client.write_all(&bytes[..after.saturating_sub(before)]).await?;
                            if matches!(self.fault, Fault::StallAnswers(_)) {
                                return drain(&mut client).await;
                            }
                            return Ok(());
                        }
                        Fault::LoseAnswers(of) if line.contains(of) && self.fails() => return Ok(()),
                        _ if bytes.is_empty() => return Ok(()),
                        _ => client.write_all(bytes).await?,
                    }
                }
            }
        }
    }
}

/// The first line of a request, if these bytes begin one.
fn request_line(bytes: &[u8]) -> Option<String> {
    let line = bytes.split(|byte| *byte == b'\r').next()?;
    let line = std::str::from_utf8(line).ok()?;
    line.ends_with(" HTTP/1.1").then(|| line.to_owned())
}

/// Waits until the other side closes.
async fn drain(stream: &mut TcpStream) -> std::io::Result<()> {
    let mut ignored = [0; 4096];
    while stream.read(&mut ignored).await? > 0 {}
    Ok(())
}
