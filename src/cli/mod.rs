//! The command line: a file a command.

use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::thread::available_parallelism;

use anyhow::{Context, ensure};
use clap::{Args, Parser, Subcommand};
use tokio::runtime::Runtime;

use crate::archive::is_shared;
use crate::config;
use crate::config::{Config, Override};
use crate::telemetry;

mod check;
mod copy;
mod import;
mod reindex;
mod serve;
mod table;
mod worker;

const BLOCKING_THREADS_PER_CORE: usize = 8;

/// A DICOMweb-first PACS server.
#[derive(Debug, Parser)]
#[command(version, about)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server.
    Serve(serve::Serve),
    /// Do the work that servers leave for later: previews, clearing away.
    Worker(worker::Worker),
    /// Take in files, folders and zip archives.
    Import(import::Import),
    /// Verify every stored object against the index, both ways.
    Check(check::Check),
    /// Build the whole index again from the stored objects alone.
    Reindex(reindex::Reindex),
    /// Copy everything to another archive, whatever keeps either.
    Copy(copy::Copy),
    /// Make the table of the index in DynamoDB.
    Table(table::Table),
}

/// Options that every command has.
#[derive(Debug, Args)]
struct Settings {
    /// Configuration file (TOML); what it leaves out keeps its default.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Directory of everything that is stored [default: ./cuspid-data].
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Any setting, as in `--set ingest.duplicates=replace`; may be repeated.
    #[arg(long, value_name = "SECTION.NAME=VALUE", value_parser = parse_setting)]
    set: Vec<Override>,
}

impl Arguments {
    /// Carries out the command.
    ///
    /// # Errors
    /// What stops the command from doing its work, in words for whoever typed it.
    pub fn run(self) -> anyhow::Result<()> {
        match self.command {
            Command::Serve(command) => command.run(),
            Command::Worker(command) => command.run(),
            Command::Import(command) => command.run(),
            Command::Check(command) => command.run(),
            Command::Reindex(command) => command.run(),
            Command::Copy(command) => command.run(),
            Command::Table(command) => command.run(),
        }
    }
}

impl Settings {
    /// Settings from all sources, `flags` of the command last; starts the log with them.
    fn load(&self, flags: impl IntoIterator<Item = Override>) -> anyhow::Result<Config> {
        let file = self.config.as_deref().map(read_file).transpose()?;
        let mut overrides = config::from_environment(std::env::vars());
        overrides.extend(self.set.iter().cloned());
        if let Some(data) = &self.data {
            overrides.push(("storage".into(), "data".into(), data.display().to_string()));
        }
        overrides.extend(flags);
        let config = Config::load(file.as_deref(), &overrides)?;
        telemetry::start_log(&config.log)?;
        Ok(config)
    }
}

fn read_file(path: &Path) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(path);
    text.with_context(|| format!("cannot read the configuration file {}", path.display()))
}

/// Refuses a data directory that is not there: to make an empty one and find it in order would hide a slip of typing. Where
/// nothing that lasts is in it, it need not be there.
fn require_data(config: &Config) -> anyhow::Result<()> {
    let data = &config.storage.data;
    ensure!(
        is_shared(&config.storage) || data.is_dir(),
        "there is no data directory {} (storage.data)",
        data.display()
    );
    Ok(())
}

/// Has objects read from where they are: what is in a cache tells nothing of them, and each is read once.
fn without_cache(mut config: Config) -> Config {
    config.s3.cache_max_bytes = 0;
    config
}

fn parse_setting(text: &str) -> Result<Override, String> {
    let (key, value) = text.split_once('=').ok_or("write it as section.name=value")?;
    let (section, name) = key.split_once('.').ok_or("write it as section.name=value")?;
    Ok((section.into(), name.into(), value.into()))
}

fn runtime() -> anyhow::Result<Runtime> {
    let cores = available_parallelism().map_or(1, NonZero::get);
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    // Work on blocking threads is short; more threads than this would only hold memory.
    builder.enable_all().max_blocking_threads(BLOCKING_THREADS_PER_CORE * cores);
    builder.build().context("cannot start the runtime")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_data_directory_that_is_not_there_is_refused_and_not_made() {
        let parent = tempfile::tempdir().unwrap();
        let data = parent.path().join("data");
        let data_text = data.to_str().unwrap();
        for command in [&["check"][..], &["reindex"], &["copy", "--to-data", "elsewhere"]] {
            let arguments = [&["cuspid"][..], command, &["--data", data_text]].concat();
            let arguments = Arguments::try_parse_from(arguments);
            let error = arguments.unwrap().run().unwrap_err();
            assert!(error.to_string().contains("no data directory"), "{error:#}");
            assert!(!data.exists());
        }
    }
}
