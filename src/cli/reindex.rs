//! `cuspid reindex`: rebuilds the index from the objects.

use std::io::{self, Write};

use anyhow::Context;
use clap::Args;
use indicatif::ProgressBar;

use crate::archive::maintenance::reindex;
use crate::cli::{Settings, require_data, runtime, without_cache};
use crate::server;

/// Arguments of `cuspid reindex`.
#[derive(Debug, Args)]
pub(super) struct ReindexArguments {
    #[command(flatten)]
    settings: Settings,
}

impl ReindexArguments {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let config = without_cache(self.settings.load([])?);
        require_data(&config)?;
        let progress = ProgressBar::new_spinner();
        let runtime = runtime()?;
        let rebuild = runtime.block_on(server::Rebuild::begin(&config))?;
        let report = runtime.block_on(async {
            let indexed = reindex::reindex(rebuild.archive(), |instances| {
                progress.inc(instances);
                progress.set_message(format!("{} instances", progress.position()));
            });
            indexed.await.context(rebuild.state())
        })?;
        runtime.block_on(rebuild.finish())?;
        progress.finish_and_clear();
        let mut out = io::stdout().lock();
        for finding in &report.findings {
            writeln!(out, "{finding}")?;
        }
        writeln!(out, "{} instances indexed, {} bytes", report.instances, report.bytes)?;
        Ok(())
    }
}
