//! `cuspid copy`: copies all instances to another archive, between any two backends. A second run copies only
//! the instances that are missing at the destination.

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use crate::archive::is_shared;
use crate::archive::maintenance::copy::{self, Copied, MAX_FAILURES, Step};
use crate::cli::{Settings, parse_setting, read_file, require_data, runtime, without_cache};
use crate::config::{BlobStore, Config, Override, TableEngine};
use crate::server;

/// Arguments of `cuspid copy`.
#[derive(Debug, Args)]
pub(super) struct CopyArguments {
    #[command(flatten)]
    settings: Settings,
    /// Configuration file (TOML) of the destination. Environment variables do not apply to the destination.
    #[arg(long, value_name = "FILE", required_unless_present = "to_data")]
    to: Option<PathBuf>,
    /// Data directory of the destination.
    #[arg(long, value_name = "DIR")]
    to_data: Option<PathBuf>,
    /// Any setting of the destination, as in `--to-set dynamodb.table=other`; may be repeated.
    #[arg(long, value_name = "SECTION.NAME=VALUE", value_parser = parse_setting)]
    to_set: Vec<Override>,
    /// Number of instances that are copied at the same time.
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=1024))]
    concurrency: u16,
}

impl CopyArguments {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let from = without_cache(self.settings.load([])?);
        let to = without_cache(self.destination()?);
        require_data(&from)?;
        ensure_distinct(&from, &to)?;
        let started = Instant::now();
        let copied = runtime()?.block_on(copy(&from, &to, self.concurrency.into()))?;
        print(&copied, started.elapsed())?;
        match copied.failures.len() {
            0 => Ok(()),
            count if copied.is_cut_off => bail!("stopped after {count} instances that could not be copied"),
            count => bail!("{count} instances could not be copied"),
        }
    }

    fn destination(&self) -> anyhow::Result<Config> {
        let file = self.to.as_deref().map(read_file).transpose()?;
        let mut overrides = self.to_set.clone();
        if let Some(data) = &self.to_data {
            overrides.push(("storage".into(), "data".into(), data.display().to_string()));
        }
        Config::load(file.as_deref(), &overrides)
    }
}

/// Refuses a destination that shares its data directory, bucket or table with the source.
fn ensure_distinct(from: &Config, to: &Config) -> anyhow::Result<()> {
    let data = |config: &Config| config.storage.data.canonicalize().ok();
    let is_in_cloud = is_shared(&from.storage) && is_shared(&to.storage);
    let (from_data, to_data) = (data(from), data(to));
    ensure!(
        is_in_cloud || from_data.is_none() || from_data != to_data,
        "both have the same data directory {} (storage.data)",
        from.storage.data.display()
    );
    let are_in_s3 = from.storage.blobs == BlobStore::S3 && to.storage.blobs == BlobStore::S3;
    ensure!(
        !are_in_s3 || (&from.s3.endpoint, &from.s3.bucket) != (&to.s3.endpoint, &to.s3.bucket),
        "both have their objects in the same buckets (s3.bucket); `cuspid reindex` builds another index of the same objects"
    );
    let table = |config: &Config| {
        let table = &config.dynamodb;
        (table.endpoint.clone(), table.region.clone(), table.table.clone())
    };
    let are_in_dynamodb =
        from.storage.table == TableEngine::Dynamodb && to.storage.table == TableEngine::Dynamodb;
    ensure!(
        !are_in_dynamodb || table(from) != table(to),
        "both have the same table {} (dynamodb.table)",
        from.dynamodb.table
    );
    Ok(())
}

async fn copy(from: &Config, to: &Config, concurrency: usize) -> anyhow::Result<Copied> {
    let source = server::open(from).await?;
    let destination = server::open(to).await?;
    let (_, bytes) = copy::volume(&source).await?;
    let progress = ProgressBar::new(bytes);
    let style = "{bar:32} {binary_bytes}/{binary_total_bytes}, {binary_bytes_per_sec}, {eta} left {msg}";
    progress.set_style(ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()));
    let copied = copy::copy(&source, &destination, concurrency, |step, size_bytes| match step {
        Step::Copied => progress.inc(size_bytes),
        // The rate is that of copied bytes only.
        Step::Known | Step::Gone | Step::Failed(_) => progress.dec_length(size_bytes),
    });
    let copied = copied.await;
    progress.finish_and_clear();
    Ok(copied?)
}

fn print(copied: &Copied, took: Duration) -> io::Result<()> {
    let Copied { instances, bytes, known, gone, failures, .. } = copied;
    let seconds = took.as_secs_f64();
    let (rate, megabytes) = (*instances as f64 / seconds, *bytes as f64 / seconds / 1e6);
    let mut out = io::stdout().lock();
    for (key, reason) in failures {
        writeln!(out, "not copied: {key}: {reason}")?;
    }
    if failures.len() >= MAX_FAILURES {
        writeln!(out, "the other instances were not attempted")?;
    }
    writeln!(
        out,
        "{instances} instances copied, {bytes} bytes, in {seconds:.1} s ({rate:.0} instances/s, {megabytes:.1} MB/s)"
    )?;
    writeln!(out, "{known} were there already, {gone} were deleted at the source during the copy")
}
