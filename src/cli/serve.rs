//! `cuspid serve`: runs the server until SIGINT or SIGTERM.

use clap::Args;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use tracing::{info, warn};

use crate::cli::{Settings, runtime};
use crate::server;

/// Arguments of `cuspid serve`.
#[derive(Debug, Args)]
pub(super) struct ServeArguments {
    #[command(flatten)]
    settings: Settings,
    /// Address to listen on for HTTP [default: 127.0.0.1:8080].
    #[arg(long, value_name = "ADDR")]
    http: Option<String>,
    /// Address to listen on for DIMSE; empty to turn DIMSE off [default: 127.0.0.1:11112].
    #[arg(long, value_name = "ADDR")]
    dimse: Option<String>,
}

impl ServeArguments {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let listen = |section: &str, address| (section.to_owned(), "listen".to_owned(), address);
        let http = self.http.map(|address| listen("http", address));
        let dimse = self.dimse.map(|address| listen("dimse", address));
        let config = self.settings.load(http.into_iter().chain(dimse))?;
        raise_file_limit();
        runtime()?.block_on(async {
            let mut interrupt = signal(SignalKind::interrupt())?;
            let mut terminate = signal(SignalKind::terminate())?;
            let server = server::start(config).await?;
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            info!("stopping: finishing running requests");
            server.stop().await
        })
    }
}

/// Raises the limit of open files to the most that this process may have: each connection takes a file, and
/// the limit of a shell is often 1024.
fn raise_file_limit() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })
    {
        warn!(%error, "the limit of open files stays as it is");
    }
}
