//! Wiring: opens the stores, builds the archive, starts the doors and the jobs; stops them gracefully.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use rustix::fs::{Mode, OFlags};
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::archive::Archive;
use crate::blobs::Blobs;
use crate::blobs::cached::CachedBlobs;
use crate::blobs::fs::FileBlobs;
use crate::blobs::s3::S3Blobs;
use crate::config::{Auth, BlobStore, Config, JobQueue, Jobs, Storage, TableEngine};
use crate::dimse;
use crate::dimse::tenants::Callers;
use crate::http;
use crate::index::Index;
use crate::jobs;
use crate::queue::Queue;
use crate::queue::embedded::EmbeddedQueue;
use crate::queue::sqs::SqsQueue;
use crate::table::Table;
use crate::table::dynamodb::DynamodbTable;
use crate::table::dynamodb::schema::SchemaError;
use crate::table::redb::Redb;
use crate::telemetry;

/// A running server.
pub struct Server {
    /// Where HTTP is listened for.
    pub http: SocketAddr,
    /// Where DIMSE is listened for.
    pub dimse: Option<SocketAddr>,
    /// What it serves.
    pub archive: Arc<Archive>,
    stop: CancellationToken,
    tasks: TaskTracker,
    stop_timeout: Duration,
}

/// Starts a server; when this returns, it answers.
///
/// # Errors
/// A data directory that cannot be used or is in use, an address that cannot be listened on.
pub async fn start(config: Config) -> anyhow::Result<Server> {
    let metrics = telemetry::metrics();
    let archive = open(&config).await?;
    if config.storage.blobs == BlobStore::Fs {
        // In S3 it is everybody's; a rule of the bucket lets it expire.
        archive.sweep_temporary().await.context("cannot look through what is kept for a while")?;
    }
    let stop = CancellationToken::new();
    let tasks = TaskTracker::new();

    let listener = listen(&config.http.listen.to_string(), "http.listen", &config.auth).await?;
    let http = listener.local_addr()?;
    let service = http::Service::new(archive.clone(), &config, metrics);
    let service = service.context("cannot ask an OpenID provider (auth.issuer)")?;
    let dimse_listener = match config.dimse.listen.as_str() {
        "" => None,
        address => Some(listen(address, "dimse.listen", &config.auth).await?),
    };
    tasks.spawn(http::run(listener, service, stop.clone()));

    let mut dimse = None;
    if let Some(listener) = dimse_listener {
        dimse = Some(listener.local_addr()?);
        tasks.spawn(dimse::run(
            listener,
            archive.clone(),
            config.dimse.clone(),
            Callers::of(&config),
            stop.clone(),
        ));
    }
    if config.jobs.in_server {
        work(&archive, &config, &stop, &tasks);
    }
    match dimse {
        Some(dimse) => info!("ready: HTTP on http://{http}/, DIMSE on {dimse} as {}", config.dimse.ae_title),
        None => info!("ready: HTTP on http://{http}/"),
    }
    let stop_timeout = Duration::from_secs(config.http.shutdown_timeout_seconds);
    Ok(Server { http, dimse, archive, stop, tasks, stop_timeout })
}

/// Starts to do the jobs of an archive.
fn work(archive: &Arc<Archive>, config: &Config, stop: &CancellationToken, tasks: &TaskTracker) {
    let every = Duration::from_secs(config.jobs.reconcile_seconds);
    tasks.spawn(jobs::reconcile::run(archive.clone(), every, stop.clone()));
    if config.preview.enabled {
        let (archive, config, stop) = (archive.clone(), config.clone(), stop.clone());
        tasks.spawn(async move { jobs::previews::run(archive, &config, stop).await });
    }
}

/// Does the jobs of an archive, and nothing else, until `stop`.
///
/// # Errors
/// A store that cannot be used.
pub async fn run_worker(config: Config, stop: CancellationToken) -> anyhow::Result<()> {
    let archive = open(&config).await?;
    let tasks = TaskTracker::new();
    work(&archive, &config, &stop, &tasks);
    info!("ready: working");
    tasks.close();
    tasks.wait().await;
    Ok(())
}

impl Server {
    /// Refuses what is new, finishes what was begun, and returns when all is done.
    ///
    /// # Errors
    /// If that takes longer than `http.shutdown_timeout_seconds`; nothing acknowledged is at risk.
    pub async fn stop(self) -> anyhow::Result<()> {
        self.stop.cancel();
        self.tasks.close();
        if timeout(self.stop_timeout, self.tasks.wait()).await.is_err() {
            warn!("stopped before all connections had ended");
            bail!("connections were still open after {} s", self.stop_timeout.as_secs());
        }
        Ok(())
    }
}

/// Opens the archive in the data directory, which no other process may have open, and puts right what a killed process
/// left there.
///
/// # Errors
/// What is wrong with the directory.
pub async fn open(config: &Config) -> anyhow::Result<Arc<Archive>> {
    let blobs = open_blobs(config).await?;
    let table = open_table(config, INDEX_FILE).await?;
    let index = Arc::new(Index::new(table));
    ensure!(
        !index.is_rebuilding().await?,
        "the index is being built again, or that was interrupted: `cuspid reindex` goes on with it"
    );
    let queue = open_queue(config, &index).await?;
    let archive = Archive::with_queue(blobs, index, queue, config);
    let settled = archive.settle().await.context("cannot put right what a killed process left")?;
    if settled > 0 {
        info!("settled {settled} objects that a killed process left");
    }
    Ok(archive)
}

/// An index that is being built again: beside the one in place if that is a file, else in a table that was empty.
pub struct Rebuild {
    archive: Arc<Archive>,
    place: Place,
}

/// Where an index is being built.
enum Place {
    /// In a file of this data directory.
    Beside(PathBuf),
    /// In the table that servers are to use.
    Here(Arc<Index>),
}

impl Rebuild {
    /// Opens the archive with a new, empty index. What the old index in the data directory says is still to be deleted is
    /// deleted first, or it would come back; an index that cannot be read says nothing.
    ///
    /// # Errors
    /// What is wrong with the store; a table that is not empty, unless building it was interrupted.
    pub async fn begin(config: &Config) -> anyhow::Result<Self> {
        let blobs = open_blobs(config).await?;
        match config.storage.table {
            TableEngine::Redb => Self::begin_beside(blobs, config).await,
            TableEngine::Dynamodb => Self::begin_here(blobs, config).await,
        }
    }

    async fn begin_beside(blobs: Arc<dyn Blobs>, config: &Config) -> anyhow::Result<Self> {
        let data = config.storage.data.clone();
        if data.join(INDEX_FILE).exists()
            && let Err(error) = sweep_garbage(blobs.clone(), config).await
        {
            let error = format!("{error:#}");
            warn!(error, "the old index does not tell which objects were still to be deleted");
        }
        let rebuilt = data.join(REBUILT_INDEX_FILE);
        if rebuilt.exists() {
            std::fs::remove_file(&rebuilt).context("cannot remove what an earlier reindexing left")?;
        }
        let index = Index::new(open_table(config, REBUILT_INDEX_FILE).await?);
        Ok(Self { archive: Archive::new(blobs, Arc::new(index), config), place: Place::Beside(data) })
    }

    async fn begin_here(blobs: Arc<dyn Blobs>, config: &Config) -> anyhow::Result<Self> {
        let index = Arc::new(Index::new(open_table(config, INDEX_FILE).await?));
        ensure!(
            index.begin_rebuilding().await?,
            "the table {} (dynamodb.table) is not empty, and servers may be using it: make another with \
             `cuspid table create` under another dynamodb.table, reindex into that, and have the servers use it then",
            config.dynamodb.table
        );
        Ok(Self { archive: Archive::new(blobs, index.clone(), config), place: Place::Here(index) })
    }

    /// The archive, over the new index.
    pub fn archive(&self) -> &Archive {
        &self.archive
    }

    /// What an error before [`Rebuild::finish`] leaves, in words.
    pub fn state(&self) -> &'static str {
        match self.place {
            Place::Beside(_) => "the old index is still in place",
            Place::Here(_) => "the index is not complete: run it again to go on",
        }
    }

    /// Puts the new index in the place of the old one, or lets servers use it.
    ///
    /// # Errors
    /// If the file cannot be moved; the old index is then still in place. If the table fails.
    pub async fn finish(self) -> anyhow::Result<()> {
        let data = match self.place {
            Place::Beside(data) => data,
            Place::Here(index) => {
                return index.end_rebuilding().await.context("cannot say that the index is complete");
            }
        };
        drop(self.archive);
        let moved = std::fs::rename(data.join(REBUILT_INDEX_FILE), data.join(INDEX_FILE));
        moved.context("cannot put the new index in place; the old one is still there")?;
        let directory = rustix::fs::open(&data, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty());
        let synced = directory.and_then(rustix::fs::fsync);
        synced.context("the new index is in place, but may not be after a power cut")
    }
}

async fn sweep_garbage(blobs: Arc<dyn Blobs>, config: &Config) -> anyhow::Result<()> {
    let index = Index::new(open_table(config, INDEX_FILE).await?);
    Archive::new(blobs, Arc::new(index), config).sweep_garbage().await?;
    Ok(())
}

/// Opens the object store. In the data directory its lock keeps other processes from the whole directory: it goes first.
async fn open_blobs(config: &Config) -> anyhow::Result<Arc<dyn Blobs>> {
    let data = &config.storage.data;
    match config.storage.blobs {
        BlobStore::Fs => {
            std::fs::create_dir_all(data).with_context(|| cannot_use(data))?;
            Ok(Arc::new(FileBlobs::open(data).with_context(|| cannot_use(data))?))
        }
        BlobStore::S3 => {
            let blobs = S3Blobs::open(&config.s3, &data.join("staging")).await;
            let blobs: Arc<dyn Blobs> = Arc::new(blobs.context("cannot use S3 (storage.blobs)")?);
            if config.s3.cache_max_bytes == 0 {
                return Ok(blobs);
            }
            let cached = CachedBlobs::open(blobs, &data.join("cache"), config.s3.cache_max_bytes);
            Ok(Arc::new(cached.with_context(|| cannot_use(data))?))
        }
    }
}

/// Opens the table of the index; `file` is its file in the data directory, if it is embedded.
async fn open_table(config: &Config, file: &str) -> anyhow::Result<Arc<dyn Table>> {
    let Storage { data, index_cache_mib, table, .. } = &config.storage;
    match table {
        TableEngine::Redb => {
            let table = Redb::open(&data.join(file), index_cache_mib << 20);
            Ok(Arc::new(table.with_context(|| cannot_use(data))?))
        }
        TableEngine::Dynamodb => {
            let table = DynamodbTable::connect(&config.dynamodb).await;
            table
                .verify()
                .await
                .map_err(|error| match error {
                    missing @ SchemaError::Missing(_) => {
                        anyhow::Error::from(missing).context("`cuspid table create` makes it")
                    }
                    other => other.into(),
                })
                .with_context(|| {
                    format!("cannot use the table {} (dynamodb.table)", config.dynamodb.table)
                })?;
            Ok(Arc::new(table))
        }
    }
}

async fn open_queue(config: &Config, index: &Arc<Index>) -> anyhow::Result<Arc<dyn Queue>> {
    let Jobs { queue, queue_url, region, endpoint, .. } = &config.jobs;
    Ok(match queue {
        JobQueue::Table => Arc::new(EmbeddedQueue::new(index.clone())),
        JobQueue::Sqs => {
            let queue = SqsQueue::open(queue_url, region, endpoint).await;
            Arc::new(queue.with_context(|| format!("cannot use the queue {queue_url} (jobs.queue_url)"))?)
        }
    })
}

fn cannot_use(data: &Path) -> String {
    format!("cannot use the data directory {} (storage.data)", data.display())
}

/// The file of the embedded index in the data directory.
const INDEX_FILE: &str = "index.redb";
/// The file of an index that is being built.
const REBUILT_INDEX_FILE: &str = "index.rebuilt.redb";

/// Listens on an address; on one that others can reach only if callers are asked who they are, or if the settings say that they need
/// not be.
async fn listen(address: &str, setting: &str, auth: &Auth) -> anyhow::Result<TcpListener> {
    let listener = TcpListener::bind(address).await;
    let listener = listener.with_context(|| format!("cannot listen on {address} ({setting})"))?;
    let is_loopback = listener.local_addr()?.ip().to_canonical().is_loopback();
    ensure!(
        is_loopback || auth.is_on() || auth.allow_anonymous,
        "{setting} cannot be {address} without authentication: whoever reaches it could see, store and delete everything. \
         Set auth.issuer, or auth.allow_anonymous if something else keeps strangers away"
    );
    Ok(listener)
}
