//! The command line, with one file for each command.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use clap::{Args, Parser, Subcommand};
use tokio::runtime::Runtime;

use crate::archive::{is_shared, permits};
use crate::config;
use crate::config::{Config, Override};
use crate::telemetry;

mod ae;
mod audit;
mod check;
mod copy;
mod decoder;
mod fetch;
mod import;
mod reindex;
mod serve;
mod table;
mod tls;
mod worker;

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
    Serve(serve::ServeArguments),
    /// Run background jobs: previews, garbage collection.
    Worker(worker::WorkerArguments),
    /// Import files, folders and zip archives.
    Import(import::ImportArguments),
    /// Have another DICOM archive send studies to the server.
    Fetch(fetch::FetchArguments),
    /// Verify that stored objects and index agree.
    Check(check::CheckArguments),
    /// Rebuild the index from the stored objects.
    Reindex(reindex::ReindexArguments),
    /// Copy all instances to another archive, between any two backends.
    Copy(copy::CopyArguments),
    /// Decode frames for a server, which starts this command itself.
    #[command(hide = true)]
    Decoder(decoder::DecoderArguments),
    /// Manage the table of the index in DynamoDB.
    Table(table::TableArguments),
    /// List and verify the DIMSE peers of the settings.
    Ae(ae::AeArguments),
    /// Make certificates for a first try of TLS, and print fingerprints.
    Tls(tls::TlsArguments),
    /// Verify and export the audit log.
    Audit(audit::AuditArguments),
}

/// The options of every command.
#[derive(Debug, Args)]
struct Settings {
    /// Configuration file (TOML) with the settings that differ from the defaults.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Directory for all data on this machine [default: ./cuspid-data].
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
    /// An error that is written for the user of the command line.
    pub fn run(self) -> anyhow::Result<()> {
        match self.command {
            Command::Serve(command) => command.run(),
            Command::Worker(command) => command.run(),
            Command::Import(command) => command.run(),
            Command::Fetch(command) => command.run(),
            Command::Check(command) => command.run(),
            Command::Reindex(command) => command.run(),
            Command::Copy(command) => command.run(),
            Command::Decoder(command) => command.run(),
            Command::Table(command) => command.run(),
            Command::Ae(command) => command.run(),
            Command::Tls(command) => command.run(),
            Command::Audit(command) => command.run(),
        }
    }
}

impl Settings {
    /// Loads the settings from all sources, with `flags` of the command last, and starts the log.
    fn load(&self, flags: impl IntoIterator<Item = Override>) -> anyhow::Result<Config> {
        let file = self.config.as_deref().map(read_file).transpose()?;
        let mut overrides = config::from_environment(std::env::vars())?;
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

/// Refuses a data directory that does not exist: to create an empty one would hide a mistyped path. With S3
/// and DynamoDB the directory holds no lasting data and may be missing.
fn require_data(config: &Config) -> anyhow::Result<()> {
    let data = &config.storage.data;
    ensure!(
        is_shared(&config.storage) || data.is_dir(),
        "there is no data directory {} (storage.data)",
        data.display()
    );
    Ok(())
}

/// Turns the cache of originals off: a command reads each object once, and is to read the stored bytes.
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
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    // Most blocking tasks are short; more threads would only use more memory.
    builder.enable_all().max_blocking_threads(permits::blocking_threads());
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
