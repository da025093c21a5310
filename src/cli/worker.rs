//! `cuspid worker`: runs the background jobs of a shared archive until SIGINT or SIGTERM.

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::cli::{Settings, runtime};
use crate::server;

/// Arguments of `cuspid worker`.
#[derive(Debug, Args)]
pub(super) struct WorkerArguments {
    #[command(flatten)]
    settings: Settings,
}

impl WorkerArguments {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let config = self.settings.load([])?;
        runtime()?.block_on(async {
            let mut interrupt = signal(SignalKind::interrupt())?;
            let mut terminate = signal(SignalKind::terminate())?;
            let stop = CancellationToken::new();
            let mut work = tokio::spawn(server::run_worker(config, stop.clone()));
            tokio::select! {
                ended = &mut work => return ended?,
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            info!("stopping: releasing unfinished jobs");
            stop.cancel();
            work.await?
        })
    }
}
