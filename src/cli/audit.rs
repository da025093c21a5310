//! `cuspid audit`: verifies and exports the audit log (docs/audit.md).

use std::collections::BTreeMap;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use clap::{Args, Subcommand, ValueEnum};
use serde::{Deserialize, Serialize};

use crate::audit::listing::AuditQuery;
use crate::audit::message;
use crate::audit::record::AuditRecord;
use crate::audit::verify::AuditHead;
use crate::audit::{AuditLog, SERVER_LOG};
use crate::cli::{Settings, require_data, runtime};
use crate::server;

/// Arguments of `cuspid audit`.
#[derive(Debug, Args)]
pub(super) struct AuditArguments {
    #[command(subcommand)]
    command: AuditCommand,
}

#[derive(Debug, Subcommand)]
enum AuditCommand {
    /// Verify that no record was changed or removed.
    Verify(VerifyArguments),
    /// Write the records of a time, the oldest first.
    Export(ExportArguments),
}

/// Arguments of `cuspid audit verify`.
#[derive(Debug, Args)]
struct VerifyArguments {
    #[command(flatten)]
    settings: Settings,
    /// Only the log of this tenant, or `!server` for that of the server [default: all].
    #[arg(long, value_name = "NAME")]
    tenant: Option<String>,
    /// File with the last records that an earlier verification has found, which must be there still.
    #[arg(long, value_name = "FILE")]
    heads: Option<PathBuf>,
    /// File to write the last records to; keep it where nobody who can write the table can write it.
    #[arg(long, value_name = "FILE")]
    save_heads: Option<PathBuf>,
}

/// Arguments of `cuspid audit export`.
#[derive(Debug, Args)]
struct ExportArguments {
    #[command(flatten)]
    settings: Settings,
    /// Only the log of this tenant, or `!server` for that of the server [default: all].
    #[arg(long, value_name = "NAME")]
    tenant: Option<String>,
    /// First day, as 2026-11-30, or time, as 2026-11-30T09:00:00Z.
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// Last day, or the time after the last record.
    #[arg(long, value_name = "TIME")]
    to: Option<String>,
    /// The form of the records.
    #[arg(long, value_enum, default_value_t = ExportFormat::Json)]
    format: ExportFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ExportFormat {
    /// A JSON object a line, as stored, with its hash.
    Json,
    /// An XML message of PS3.15 §A.5.1 a line.
    Xml,
    /// A message of syslog (RFC 5424) a line, with the XML message (PS3.15 §A.6).
    Syslog,
}

/// The last record of a chain, as a line of a file.
#[derive(Debug, Serialize, Deserialize)]
struct SavedHead {
    tenant: String,
    chain: String,
    #[serde(flatten)]
    head: AuditHead,
}

impl AuditArguments {
    pub(super) fn run(self) -> anyhow::Result<()> {
        match self.command {
            AuditCommand::Verify(command) => command.run(),
            AuditCommand::Export(command) => command.run(),
        }
    }
}

impl VerifyArguments {
    fn run(self) -> anyhow::Result<()> {
        let config = self.settings.load([])?;
        require_data(&config)?;
        let saved = self.heads.as_deref().map(read_heads).transpose()?.unwrap_or_default();
        let (faults, heads) = runtime()?.block_on(async {
            let log = server::open_audit_log(&config).await?;
            let mut tenants = wanted_tenants(&log, self.tenant.as_deref()).await?;
            // A log of which the file has records, and the table none, was removed.
            let of_file = saved.iter().map(|head| head.tenant.clone());
            tenants.extend(of_file.filter(|of| self.tenant.as_ref().is_none_or(|tenant| tenant == of)));
            tenants.sort();
            tenants.dedup();
            verify(&log, &tenants, &saved).await
        })?;
        // The heads of a log that was cut would hide the cut from the next verification.
        ensure!(faults == 0, "the audit log is not as it was written: {faults} faults; no heads are saved");
        self.save_heads.as_deref().map_or(Ok(()), |path| save_heads(path, &heads))
    }
}

/// Verifies the logs of tenants and prints what was found. Returns the number of faults, and the last
/// records.
async fn verify(
    log: &AuditLog,
    tenants: &[String],
    saved: &[SavedHead],
) -> anyhow::Result<(usize, Vec<SavedHead>)> {
    let (mut faults, mut heads) = (0, Vec::new());
    let mut out = io::stdout().lock();
    for tenant in tenants {
        let kept = saved.iter().filter(|head| head.tenant == *tenant);
        let kept: BTreeMap<_, _> = kept.map(|saved| (saved.chain.clone(), saved.head.clone())).collect();
        let found = log.verify(tenant, &kept).await?;
        for fault in &found.faults {
            writeln!(out, "{tenant}: {fault}")?;
        }
        let state = if found.faults.is_empty() { "whole" } else { "NOT WHOLE" };
        writeln!(out, "{tenant}: {} records in {} chains: {state}", found.records, found.chains)?;
        faults += found.faults.len();
        let head = |(chain, head)| SavedHead { tenant: tenant.clone(), chain, head };
        heads.extend(found.heads.into_iter().map(head));
    }
    if tenants.is_empty() {
        writeln!(out, "there is no audit log")?;
    }
    Ok((faults, heads))
}

impl ExportArguments {
    fn run(self) -> anyhow::Result<()> {
        let config = self.settings.load([])?;
        require_data(&config)?;
        let time = |text: &Option<String>, is_end| {
            let read = |text: &String| {
                let time = message::time(text, is_end);
                time.with_context(|| format!("`{text}` is neither a date nor a time of RFC 3339"))
            };
            text.as_ref().map(read).transpose()
        };
        let query =
            AuditQuery { from: time(&self.from, false)?, to: time(&self.to, true)?, ..AuditQuery::default() };
        runtime()?.block_on(async {
            let log = server::open_audit_log(&config).await?;
            let mut out = BufWriter::new(io::stdout().lock());
            for tenant in wanted_tenants(&log, self.tenant.as_deref()).await? {
                let mut failure = None;
                let write = |record: &AuditRecord, line: &str| {
                    let text = match self.format {
                        ExportFormat::Json => line.to_owned(),
                        ExportFormat::Xml => message::xml(record),
                        ExportFormat::Syslog => message::syslog(record, std::process::id()),
                    };
                    failure = writeln!(out, "{text}").err();
                    failure.is_none()
                };
                log.each(&tenant, &query, write).await?;
                failure.map_or(Ok(()), Err).context("cannot write the records")?;
            }
            out.flush().context("cannot write the records")
        })
    }
}

/// The tenants whose logs are wanted.
async fn wanted_tenants(log: &AuditLog, tenant: Option<&str>) -> anyhow::Result<Vec<String>> {
    let all = log.tenants().await?;
    let Some(tenant) = tenant else { return Ok(all) };
    if !all.iter().any(|name| name == tenant) && tenant != SERVER_LOG {
        bail!("there is no audit log of a tenant {tenant}; there are: {}", all.join(", "));
    }
    Ok(vec![tenant.to_owned()])
}

/// The last line of a file of heads: without it, the file was cut.
#[derive(Debug, Serialize, Deserialize)]
struct EndOfHeads {
    heads: usize,
}

/// Writes a file of heads, whole or not at all.
fn save_heads(path: &Path, heads: &[SavedHead]) -> anyhow::Result<()> {
    let mut lines = heads.iter().map(serde_json::to_string).collect::<Result<Vec<_>, _>>()?;
    lines.push(serde_json::to_string(&EndOfHeads { heads: heads.len() })?);
    let new = path.with_added_extension("new");
    std::fs::write(&new, lines.join("\n") + "\n").with_context(|| cannot("write", &new))?;
    std::fs::rename(&new, path).with_context(|| cannot("write", path))
}

fn read_heads(path: &Path) -> anyhow::Result<Vec<SavedHead>> {
    let text = std::fs::read_to_string(path).with_context(|| cannot("read", path))?;
    let mut lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let end = lines.pop().and_then(|line| serde_json::from_str::<EndOfHeads>(line).ok());
    ensure!(
        end.is_some_and(|end| end.heads == lines.len()),
        "{} is no whole file of --save-heads",
        path.display()
    );
    let heads = lines.into_iter();
    heads.map(|line| serde_json::from_str(line).with_context(|| cannot("read", path))).collect()
}

fn cannot(action: &str, path: &Path) -> String {
    format!("cannot {action} {}", path.display())
}
