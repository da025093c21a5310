//! Wiring: opens the stores, builds the archive, starts the protocol layers and the jobs, and stops them
//! gracefully.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use futures_util::TryStreamExt;
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::archive::Archive;
use crate::archive::derived::{cache, preview};
use crate::archive::maintenance::recovery::{has_lost_all_originals, recover};
use crate::audit::AuditLog;
use crate::audit::event::AuditEventType;
use crate::blobs::{Blobs, Bucket, Key};
use crate::config::{AuthSettings, BlobStore, Config, TableEngine};
use crate::dimse;
use crate::dimse::callers::Callers;
use crate::dimse::forward::Forwarding;
use crate::http;
use crate::index::Index;
use crate::jobs;
use crate::server::stores::{INDEX_FILE, open_blobs, open_queue, open_table};
use crate::telemetry;
use crate::tls::ServerTls;

mod rebuild;
mod stores;

pub use rebuild::Rebuild;

/// The seconds of a day.
const SECONDS_OF_DAY: u64 = 24 * 60 * 60;

/// A running server.
pub struct Server {
    /// The address of HTTP.
    pub http: SocketAddr,
    /// The address of DIMSE without TLS, if it is served.
    pub dimse: Option<SocketAddr>,
    /// The archive behind both.
    pub archive: Arc<Archive>,
    stop: CancellationToken,
    tasks: TaskTracker,
    stop_timeout: Duration,
}

/// Starts a server, which answers requests when this function returns.
///
/// # Errors
/// A data directory that cannot be used or is in use, an address that cannot be listened on.
pub async fn start(config: Config) -> anyhow::Result<Server> {
    let metrics = telemetry::metrics();
    let archive = open_to_serve(&config).await?;
    if config.storage.blobs == BlobStore::Fs {
        // In S3 all processes share derived objects, and a lifecycle rule of the bucket deletes them.
        cache::sweep(&archive).await.context("cannot read the cache of derived objects")?;
    }
    archive.audit_activity(AuditEventType::Start, "cuspid serve").await?;
    let stop = CancellationToken::new();
    let tasks = TaskTracker::new();

    let tls = ServerTls::open(config.http.tls_files(), http::TLS_PROTOCOLS)?;
    let scheme = if tls.is_some() { "https" } else { "http" };
    let listener = listen(&config.http.listen.to_string(), "http.listen", &config.auth).await?;
    let http = listener.local_addr()?;
    let operations = match config.http.operations_address.as_str() {
        "" => None,
        address => Some(listen(address, "http.operations_address", &config.auth).await?),
    };
    let service = http::Service::new(archive.clone(), &config, metrics);
    let service = service.context("cannot make a client for the OpenID provider (auth.issuer)")?;
    let (listeners, dimse) = dimse_listeners(&config).await?;
    tasks.spawn(jobs::storing::run(archive.clone(), stop.clone()));
    tasks.spawn(jobs::usage::run(archive.clone(), stop.clone()));

    if let Some((_, tls)) = &listeners.tls {
        let interval = Duration::from_secs(config.http.tls_reload_seconds);
        tasks.spawn(Arc::clone(tls).run(interval, stop.clone()));
    }
    let dimse_settings = config.dimse.clone();
    let callers = Callers::of(&config);
    let places = dimse::outgoing_places(&dimse_settings);
    // Before anything can be stored.
    let forwarding = Forwarding::begin(&archive, &config, places.clone()).await?;
    tasks.spawn(dimse::run(listeners, archive.clone(), dimse_settings, callers, places, stop.clone()));
    tasks.spawn(http::run((listener, tls), operations, service, stop.clone()));
    if config.jobs.in_server {
        start_jobs(&archive, &config, &stop, &tasks)?;
        tasks.spawn(forwarding.run(stop.clone()));
    }
    let title = &config.dimse.ae_title;
    let mut dimse_part = dimse.plain.map(|address| format!(", DIMSE on {address} as {title}"));
    if let Some(address) = dimse.tls {
        *dimse_part.get_or_insert_default() += &format!(", DIMSE over TLS on {address} as {title}");
    }
    let data = absolute(&config.storage.data);
    info!("ready: HTTP on {scheme}://{http}/{}, data in {}", dimse_part.unwrap_or_default(), data.display());
    let stop_timeout = Duration::from_secs(config.http.shutdown_timeout_seconds);
    Ok(Server { http, dimse: dimse.plain, archive, stop, tasks, stop_timeout })
}

/// The addresses of DIMSE.
struct DimseAddresses {
    plain: Option<SocketAddr>,
    tls: Option<SocketAddr>,
}

async fn dimse_listeners(config: &Config) -> anyhow::Result<(dimse::Listeners, DimseAddresses)> {
    let plain = match config.dimse.listen.as_str() {
        "" => None,
        address => Some(listen(address, "dimse.listen", &config.auth).await?),
    };
    let tls = ServerTls::open(config.dimse.tls_files(), &[])?;
    let tls = match (config.dimse.tls_listen.as_str(), tls) {
        ("", _) | (_, None) => None,
        (address, Some(tls)) => Some((listen(address, "dimse.tls_listen", &config.auth).await?, tls)),
    };
    let addresses = DimseAddresses {
        plain: plain.as_ref().map(TcpListener::local_addr).transpose()?,
        tls: tls.as_ref().map(|(listener, _)| listener.local_addr()).transpose()?,
    };
    Ok((dimse::Listeners { plain, tls }, addresses))
}

/// Starts the background jobs of an archive.
fn start_jobs(
    archive: &Arc<Archive>,
    config: &Config,
    stop: &CancellationToken,
    tasks: &TaskTracker,
) -> anyhow::Result<()> {
    let every = Duration::from_secs(config.jobs.reconcile_seconds);
    tasks.spawn(jobs::reconcile::run(archive.clone(), every, stop.clone()));
    if config.changes.retention_days > 0 {
        tasks.spawn(jobs::changes::run(archive.clone(), stop.clone()));
    }
    if config.audit.retention_days > 0 {
        tasks.spawn(jobs::audit::run(archive.clone(), stop.clone()));
    }
    let days = match config.storage.blobs {
        BlobStore::Fs => config.scrub.interval_days,
        BlobStore::S3 => config.scrub.s3_interval_days,
    };
    if days > 0 {
        let interval = Duration::from_secs(days.saturating_mul(SECONDS_OF_DAY));
        tasks.spawn(jobs::scrub::run(archive.clone(), interval, stop.clone()));
    }
    if config.preview.enabled {
        let (archive, config, stop) = (archive.clone(), config.clone(), stop.clone());
        tasks.spawn(async move { jobs::previews::run(archive, &config, stop).await });
    }
    if !config.webhooks.targets.is_empty() {
        for delivery in jobs::webhooks::tasks(archive, config, stop)? {
            tasks.spawn(delivery);
        }
    }
    Ok(())
}

/// Runs the background jobs of an archive, and nothing else, until `stop`.
///
/// # Errors
/// A store that cannot be used.
pub async fn run_worker(config: Config, stop: CancellationToken) -> anyhow::Result<()> {
    let archive = open_to_serve(&config).await?;
    archive.audit_activity(AuditEventType::Start, "cuspid worker").await?;
    let tasks = TaskTracker::new();
    start_jobs(&archive, &config, &stop, &tasks)?;
    let places = dimse::outgoing_places(&config.dimse);
    let forwarding = Forwarding::begin(&archive, &config, places).await?;
    tasks.spawn(forwarding.run(stop.clone()));
    info!("ready: running background jobs");
    tasks.close();
    tasks.wait().await;
    let _ = archive.audit_activity(AuditEventType::Stop, "cuspid worker").await;
    Ok(())
}

impl Server {
    /// Accepts no more connections, finishes running requests and jobs, and returns when all have ended.
    ///
    /// # Errors
    /// If that takes longer than `http.shutdown_timeout_seconds`. No acknowledged instance is lost.
    pub async fn stop(self) -> anyhow::Result<()> {
        self.stop.cancel();
        self.tasks.close();
        let ended = timeout(self.stop_timeout, self.tasks.wait()).await;
        // The last responses; what cannot be written is lost, as by a kill.
        let _ = self.archive.write_traffic().await;
        // What cannot be recorded was warned of.
        let _ = self.archive.audit_activity(AuditEventType::Stop, "cuspid serve").await;
        if ended.is_err() {
            warn!("stopped before all connections had ended");
            bail!("connections were still open after {} s", self.stop_timeout.as_secs());
        }
        Ok(())
    }
}

/// Opens the archive that the settings name, and recovers from a process that was killed. A data directory
/// may be open in one process only.
///
/// # Errors
/// A store that cannot be used, or an index that is being rebuilt.
pub async fn open(config: &Config) -> anyhow::Result<Arc<Archive>> {
    let blobs = open_blobs(config).await?;
    let table = open_table(config, INDEX_FILE).await?;
    let index = Index::new(table).with_longest_wait(preview::longest_wait(config));
    let index = Arc::new(index.with_list_memory(config.search.list_memory_bytes));
    ensure!(
        !index.is_rebuilding().await?,
        "the index is being rebuilt, or a rebuild was interrupted: `cuspid reindex` continues it"
    );
    refuse_lost_index(blobs.as_ref(), &index).await?;
    let queue = open_queue(config, &index).await?;
    let archive = Archive::with_queue(blobs, index, queue, config);
    let settled = recover(&archive).await.context("cannot recover the objects that a killed process left")?;
    if settled > 0 {
        info!("recovered or deleted {settled} objects that a killed process left");
    }
    Ok(archive)
}

/// Opens the archive as [`open`] does, to store and to give instances.
///
/// # Errors
/// As there; and if all stored objects are gone, which only commands that repair may work with.
pub async fn open_to_serve(config: &Config) -> anyhow::Result<Arc<Archive>> {
    let archive = open(config).await?;
    ensure!(
        !has_lost_all_originals(&archive).await?,
        "the index has studies, but there is no stored object at all: is the volume mounted, and is the bucket the right \
         one? If the objects are lost for good, `cuspid check --repair` removes their rows"
    );
    if let Err(error) = archive.begin_usage().await {
        let error = telemetry::chain(&error);
        warn!(error, "cannot count what tenants have stored; `cuspid check` says why");
    }
    Ok(archive)
}

/// Opens the audit log that the settings name, without the archive.
///
/// # Errors
/// A data directory that is in use, or a table that cannot be used.
pub async fn open_audit_log(config: &Config) -> anyhow::Result<AuditLog> {
    // The lock of the directory excludes a server, which has the table.
    let _blobs = match config.storage.table {
        TableEngine::Redb => Some(open_blobs(config).await?),
        TableEngine::Dynamodb => None,
    };
    let table = open_table(config, INDEX_FILE).await?;
    Ok(AuditLog::new(table, &config.audit, &config.dimse.ae_title))
}

/// A path from the root, for people: the same relative path is another directory where the server is started
/// elsewhere.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// Refuses an index that was just created beside stored instances: the index that named them is lost, and the
/// archive would look empty. An index beside no instances is marked as being in use.
///
/// Objects of a process that was killed before its first commit are no reason: the recovery commits them.
async fn refuse_lost_index(blobs: &dyn Blobs, index: &Index) -> anyhow::Result<()> {
    if !index.is_new().await? {
        return Ok(());
    }
    let unconfirmed: HashSet<Key> = blobs.unconfirmed().into_iter().collect();
    let mut originals = blobs.list(Bucket::Originals, "");
    while let Some(original) = originals.try_next().await.context("cannot list the stored instances")? {
        // Another process may have begun to use both meanwhile.
        ensure!(
            unconfirmed.contains(&original.key) || !index.is_new().await?,
            "the index is empty, but there are stored instances: the index was lost, or is another one. \
             `cuspid reindex` builds it from the stored instances"
        );
    }
    Ok(index.begin_use().await?)
}

/// Listens on an address. An address that is not on loopback needs authentication, or the setting that allows
/// anonymous callers.
async fn listen(address: &str, setting: &str, auth: &AuthSettings) -> anyhow::Result<TcpListener> {
    let listener = TcpListener::bind(address).await;
    let listener = listener.with_context(|| format!("cannot listen on {address} ({setting})"))?;
    let is_loopback = listener.local_addr()?.ip().to_canonical().is_loopback();
    ensure!(
        is_loopback || auth.is_on() || auth.allow_anonymous,
        "{setting} cannot be {address} without authentication: any client could read, store and delete everything. \
         Set auth.issuer, or auth.allow_anonymous if access is restricted in another way"
    );
    Ok(listener)
}
