//! `cuspid import`: ingests files, folders and zip archives, as STOW-RS and C-STORE do.
//!
//! Duplicates are recognised, so an import that was interrupted can be run again.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use anyhow::bail;
use bytes::Bytes;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::runtime::Handle;

use crate::archive::Archive;
use crate::archive::access::{Caller, Tenant};
use crate::archive::ingest::{Outcome, Refusal};
use crate::audit::event::AuditProtocol;
use crate::cli::{Settings, runtime};
use crate::dicom::failure::Failure;
use crate::server;
use crate::zip::reader::{self, ZipLimits};

/// Threads that read files. Several are needed so that their commits share a flush.
const THREADS: usize = 8;
/// Instances of one thread that may be waiting for their commit.
const MAX_PENDING: usize = 8;
const READ_BYTES: usize = 256 * 1024;
/// The name of the command in the audit log.
const COMMAND: &str = "cuspid import";

/// Arguments of `cuspid import`.
#[derive(Debug, Args)]
pub(super) struct ImportArguments {
    #[command(flatten)]
    settings: Settings,
    /// Tenant to store the instances for; required with authentication [default: default].
    #[arg(long, value_name = "NAME")]
    tenant: Option<Tenant>,
    /// Files, folders and zip archives.
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
}

impl ImportArguments {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let config = self.settings.load([])?;
        let caller = match self.tenant {
            Some(tenant) => Caller { subject: COMMAND.into(), ..Caller::server(tenant) },
            None if config.auth.is_on() => {
                bail!("--tenant is missing: it is required with authentication")
            }
            None => {
                let (subject, protocol) = (COMMAND.into(), AuditProtocol::Server);
                Caller { subject, protocol, ..Caller::anonymous() }
            }
        };
        let (mut files, mut summary) = (Vec::new(), Summary::default());
        for path in &self.paths {
            walk(path, &mut files, &mut summary);
        }
        let runtime = runtime()?;
        let archive = runtime.block_on(server::open_to_serve(&config))?;
        let summary = import(files, summary, &archive, &caller, runtime.handle());
        summary.print()?;
        if summary.has_failures() {
            bail!("not everything was stored");
        }
        Ok(())
    }
}

/// Collects the files below `path`, or `path` itself if it is a file. What cannot be read is added to the
/// summary. Links to folders are not followed, since they may form a cycle.
fn walk(path: &Path, files: &mut Vec<PathBuf>, summary: &mut Summary) {
    let is_folder = match path.metadata() {
        Ok(found) => found.is_dir(),
        Err(error) => return summary.unreadable(path, &error),
    };
    if !is_folder {
        return files.push(path.to_owned());
    }
    let entries = std::fs::read_dir(path).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    let mut entries = match entries {
        Ok(entries) => entries,
        Err(error) => return summary.unreadable(path, &error),
    };
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for path in entries.iter().map(std::fs::DirEntry::path) {
        if !(path.is_symlink() && path.is_dir()) {
            walk(&path, files, summary);
        }
    }
}

fn import(
    files: Vec<PathBuf>,
    summary: Summary,
    archive: &Arc<Archive>,
    caller: &Caller,
    runtime: &Handle,
) -> Summary {
    let style = ProgressStyle::with_template("{bar:32} {pos}/{len} files, {elapsed}, {eta} left {msg}");
    let progress = ProgressBar::new(files.len() as u64);
    progress.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    let files = Mutex::new(files.into_iter());
    let summary = Mutex::new(summary);
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                let mut thread = ImportThread::new(archive, caller, runtime, &summary);
                while let Some(file) = next(&files) {
                    thread.import_file(&file);
                    progress.inc(1);
                }
                thread.wait_for_commits(0);
            });
        }
    });
    progress.finish_and_clear();
    summary.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn next(files: &Mutex<std::vec::IntoIter<PathBuf>>) -> Option<PathBuf> {
    files.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).next()
}

/// A thread that imports one file after the other.
struct ImportThread<'a> {
    archive: &'a Arc<Archive>,
    caller: &'a Caller,
    runtime: &'a Handle,
    summary: &'a Mutex<Summary>,
    pending: VecDeque<(String, Pending)>,
}

/// An outcome that is not known before the commit.
type Pending = Pin<Box<dyn Future<Output = Outcome> + Send>>;

impl<'a> ImportThread<'a> {
    fn new(
        archive: &'a Arc<Archive>,
        caller: &'a Caller,
        runtime: &'a Handle,
        summary: &'a Mutex<Summary>,
    ) -> Self {
        Self { archive, caller, runtime, summary, pending: VecDeque::new() }
    }

    fn import_file(&mut self, path: &Path) {
        let name = path.display().to_string();
        if let Err(error) = self.try_import_file(path, &name) {
            self.count(&name, ImportOutcome::NotStored(error.to_string()));
        }
    }

    #[expect(clippy::disallowed_types, reason = "the files to import are the user's, not the store's")]
    fn try_import_file(&mut self, path: &Path, name: &str) -> io::Result<()> {
        let mut file = std::fs::File::open(path)?;
        let mut magic = [0; 4];
        let is_zip = file.read_exact(&mut magic).is_ok() && magic == *b"PK\x03\x04";
        file.rewind()?;
        if is_zip { self.import_zip(file, name) } else { self.import_object(&mut file, name) }
    }

    fn import_zip(&mut self, file: impl Read + Seek, name: &str) -> io::Result<()> {
        let limits = ZipLimits { max_entries: u64::MAX, max_bytes: u64::MAX };
        let ended = reader::unpack(file, &limits, &mut |entry, content| {
            let name = format!("{name}:{entry}");
            let imported = content.map(|content| self.import_object(content, &name));
            match imported {
                Ok(Ok(())) => {}
                Ok(Err(error)) => self.count(&name, ImportOutcome::NotStored(error.to_string())),
                Err(error) => self.count(&name, ImportOutcome::NotStored(error.to_string())),
            }
            Ok(())
        });
        ended.map_err(io::Error::other)
    }

    /// Imports one object, whatever its name.
    fn import_object(&mut self, reader: &mut dyn Read, name: &str) -> io::Result<()> {
        let mut upload = self.runtime.block_on(self.archive.receive(self.caller, None));
        loop {
            let mut buffer = Vec::with_capacity(READ_BYTES);
            if (&mut *reader).take(READ_BYTES as u64).read_to_end(&mut buffer)? == 0 {
                break;
            }
            self.runtime.block_on(upload.write(Bytes::from(buffer)));
        }
        let outcome = self.runtime.block_on(upload.finish());
        self.pending.push_back((name.to_owned(), Box::pin(outcome)));
        self.wait_for_commits(MAX_PENDING);
        Ok(())
    }

    /// Waits until at most `pending` instances are not committed.
    fn wait_for_commits(&mut self, pending: usize) {
        while self.pending.len() > pending {
            let Some((name, outcome)) = self.pending.pop_front() else { return };
            let outcome = self.runtime.block_on(outcome);
            self.count(&name, ImportOutcome::from(outcome));
        }
    }

    fn count(&self, name: &str, outcome: ImportOutcome) {
        self.summary.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).add(name, outcome);
    }
}

/// The outcome of importing an object.
enum ImportOutcome {
    Stored,
    Duplicate,
    Replaced,
    NotDicom,
    NotStored(String),
}

impl From<Outcome> for ImportOutcome {
    fn from(outcome: Outcome) -> Self {
        match outcome.result {
            Ok(stored) if stored.is_duplicate => Self::Duplicate,
            Ok(stored) if stored.has_replaced => Self::Replaced,
            Ok(_) => Self::Stored,
            Err(Refusal::Unreadable(Failure::NotDicom | Failure::MediaDirectory)) => Self::NotDicom,
            Err(Refusal::Failed(cause)) => Self::NotStored(format!("{cause:#}")),
            Err(refusal) => Self::NotStored(refusal.to_string()),
        }
    }
}

/// Numbers of objects by outcome, and the names of the objects that were not stored, by reason.
#[derive(Default)]
struct Summary {
    stored: u64,
    duplicates: u64,
    replaced: u64,
    not_dicom: u64,
    not_stored: BTreeMap<String, Vec<String>>,
}

impl Summary {
    fn add(&mut self, name: &str, outcome: ImportOutcome) {
        match outcome {
            ImportOutcome::Stored => self.stored += 1,
            ImportOutcome::Duplicate => self.duplicates += 1,
            ImportOutcome::Replaced => self.replaced += 1,
            ImportOutcome::NotDicom => self.not_dicom += 1,
            ImportOutcome::NotStored(reason) => {
                self.not_stored.entry(reason).or_default().push(name.to_owned())
            }
        }
    }

    fn unreadable(&mut self, path: &Path, error: &io::Error) {
        self.add(&path.display().to_string(), ImportOutcome::NotStored(format!("cannot be read: {error}")));
    }

    fn has_failures(&self) -> bool {
        !self.not_stored.is_empty()
    }

    fn print(&self) -> io::Result<()> {
        let mut out = io::stdout().lock();
        writeln!(out, "{:>8} stored", self.stored)?;
        writeln!(out, "{:>8} stored already", self.duplicates)?;
        writeln!(out, "{:>8} replaced other bytes", self.replaced)?;
        writeln!(out, "{:>8} skipped: not DICOM instances", self.not_dicom)?;
        for (reason, names) in &self.not_stored {
            writeln!(out, "{:>8} not stored: {reason}", names.len())?;
            for name in names {
                writeln!(out, "         {name}")?;
            }
        }
        Ok(())
    }
}
