//! `cuspid check`: verifies that objects and index agree.

use std::io::{self, Write};

use anyhow::bail;
use clap::Args;
use indicatif::ProgressBar;

use crate::archive::is_shared;
use crate::archive::maintenance::check::{CheckOptions, check_as};
use crate::archive::maintenance::report::Finding;
use crate::cli::{Settings, require_data, runtime, without_cache};
use crate::server;

/// Arguments of `cuspid check`.
#[derive(Debug, Args)]
pub(super) struct CheckArguments {
    #[command(flatten)]
    settings: Settings,
    /// Remove the records of missing objects; index the objects that no record refers to, and delete those
    /// that are damaged, refused or replaced.
    #[arg(long)]
    repair: bool,
    /// No server or worker is running: check the objects of the last hour too. Only needed on S3 and
    /// DynamoDB; a data directory is used by one process at a time.
    #[arg(long)]
    stopped: bool,
}

impl CheckArguments {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let config = without_cache(self.settings.load([])?);
        require_data(&config)?;
        let progress = ProgressBar::new_spinner();
        let report = runtime()?.block_on(async {
            let archive = server::open(&config).await?;
            let is_alone = self.stopped || !is_shared(&config.storage);
            let checked =
                check_as(&archive, CheckOptions { is_repairing: self.repair, is_alone }, |instances| {
                    progress.inc(instances);
                    progress.set_message(format!("{} instances", progress.position()));
                });
            anyhow::Ok(checked.await?)
        })?;
        progress.finish_and_clear();
        let mut out = io::stdout().lock();
        for finding in &report.findings {
            writeln!(out, "{finding}")?;
        }
        if report.recent > 0 {
            let young = report.recent;
            writeln!(out, "{young} objects of the last hour have no record yet; they were not checked")?;
        }
        if report.uncounted > 0 {
            writeln!(
                out,
                "{} studies were not counted, since they changed during every attempt",
                report.uncounted
            )?;
        }
        writeln!(out, "{} instances intact, {} bytes", report.instances, report.bytes)?;
        let is_fault = |finding: &&Finding| match self.repair {
            true => finding.is_left(),
            false => !matches!(finding, Finding::Orphan(_)),
        };
        match (report.findings.iter().filter(is_fault).count(), self.repair) {
            (0, _) => Ok(()),
            (count, true) => bail!("{count} faults are left; docs/operations.md says what to do about each"),
            (count, false) => {
                bail!("{count} faults; `cuspid check --repair` removes the records of missing objects")
            }
        }
    }
}
