//! Rebuilding the index: which table the new index is built in, and how it replaces the old one.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, ensure};
use tracing::warn;

use crate::archive::Archive;
use crate::archive::maintenance::delete::collect_garbage;
use crate::audit::AuditLog;
use crate::blobs::Blobs;
use crate::clock::now_millis;
use crate::config::{Config, TableEngine};
use crate::index::{Index, SECRET_BYTES};
use crate::server::stores::{INDEX_FILE, REBUILT_INDEX_FILE, open_blobs, open_table};
use crate::table::{Table, redb};

/// An index that is being rebuilt: in a second file if the index is embedded, else in an empty table.
pub struct Rebuild {
    archive: Arc<Archive>,
    target: RebuildTarget,
}

/// The secrets of tenants for de-identified copies.
type TenantSecrets = Vec<(String, [u8; SECRET_BYTES])>;

/// The table that a rebuild writes to.
enum RebuildTarget {
    /// A second file in a data directory, beside the index in use.
    File {
        /// The data directory.
        data: PathBuf,
        /// Whether the old index cannot be used, so that it is kept under another name.
        is_damaged: bool,
    },
    /// The empty table that servers use after the rebuild.
    Table(Arc<Index>),
}

impl Rebuild {
    /// Opens the archive with a new, empty index. The objects in the deletion queue of an old index in the
    /// data directory are deleted first: the rebuild would make instances of them. The queue of an index that
    /// cannot be read is lost.
    ///
    /// # Errors
    /// A store that cannot be used; a table that is not empty, unless a rebuild of the table was interrupted.
    pub async fn begin(config: &Config) -> anyhow::Result<Self> {
        let blobs = open_blobs(config).await?;
        match config.storage.table {
            TableEngine::Redb => Self::begin_in_file(blobs, config).await,
            TableEngine::Dynamodb => Self::begin_in_table(blobs, config).await,
        }
    }

    async fn begin_in_file(blobs: Arc<dyn Blobs>, config: &Config) -> anyhow::Result<Self> {
        let data = config.storage.data.clone();
        let old = data.join(INDEX_FILE);
        let (is_usable, secrets) = match old.exists() {
            true => finish_deletions(blobs.clone(), config).await,
            false => (true, Vec::new()),
        };
        let mut is_damaged = !is_usable;
        let rebuilt = data.join(REBUILT_INDEX_FILE);
        if rebuilt.exists() {
            std::fs::remove_file(&rebuilt).context("cannot remove the file of an earlier rebuild")?;
        }
        let mut table = open_table(config, REBUILT_INDEX_FILE).await?;
        if old.exists()
            && !is_damaged
            && let Err(error) = copy_audit_log(config, table.as_ref()).await
        {
            let error = format!("{error:#}");
            warn!(
                error,
                "the audit log of the old index cannot be read to its end: the old index is damaged"
            );
            is_damaged = true;
            // A part of the log would look like a log that was cut.
            drop(table);
            std::fs::remove_file(&rebuilt).context("cannot remove the file of the new index")?;
            table = open_table(config, REBUILT_INDEX_FILE).await?;
        }
        if old.exists() && !is_damaged {
            copy_commitments(config, &table).await;
        }
        let index = Index::new(table);
        index.begin_use().await?;
        // De-identified copies keep their UIDs.
        index.take_pseudonym_secrets(secrets).await?;
        let target = RebuildTarget::File { data, is_damaged };
        Ok(Self { archive: Archive::new(blobs, Arc::new(index), config), target })
    }

    async fn begin_in_table(blobs: Arc<dyn Blobs>, config: &Config) -> anyhow::Result<Self> {
        let index = Arc::new(Index::new(open_table(config, INDEX_FILE).await?));
        ensure!(
            index.begin_rebuilding().await?,
            "the table {} (dynamodb.table) is not empty, and servers may be using it: create another one with \
             `cuspid table create`, reindex into that one, and then set dynamodb.table of the servers to it",
            config.dynamodb.table
        );
        Ok(Self { archive: Archive::new(blobs, index.clone(), config), target: RebuildTarget::Table(index) })
    }

    /// The archive, over the new index.
    pub fn archive(&self) -> &Archive {
        &self.archive
    }

    /// Describes the state of the index after an error before [`Rebuild::finish`].
    pub fn state(&self) -> &'static str {
        match self.target {
            RebuildTarget::File { .. } => "the old index is still in place",
            RebuildTarget::Table(_) => "the index is not complete: run `cuspid reindex` again to continue",
        }
    }

    /// Replaces the old index by the new one, or marks the new one as complete, so that servers can use it.
    ///
    /// # Errors
    /// If the file cannot be moved; the old index is then still in place. If the table fails.
    pub async fn finish(self) -> anyhow::Result<()> {
        let (data, is_damaged) = match self.target {
            RebuildTarget::File { data, is_damaged } => (data, is_damaged),
            RebuildTarget::Table(index) => {
                return index.end_rebuilding().await.context("cannot mark the index as complete");
            }
        };
        drop(self.archive);
        if is_damaged {
            let aside = data.join(format!("{INDEX_FILE}.damaged-{}", now_millis()));
            std::fs::rename(data.join(INDEX_FILE), &aside).context("cannot move the damaged index aside")?;
            warn!(
                "the damaged index is {} now, with the audit log until today, which the new index does not have",
                aside.display()
            );
        }
        redb::replace(&data.join(REBUILT_INDEX_FILE), &data.join(INDEX_FILE))
            .await
            .context("cannot replace the old index")
    }
}

async fn copy_audit_log(config: &Config, to: &dyn Table) -> anyhow::Result<()> {
    let old = AuditLog::new(open_table(config, INDEX_FILE).await?, &config.audit, "");
    old.copy_to(to).await?;
    Ok(())
}

/// Copies the requests for storage commitment whose reports wait. Those of an index that cannot be read are
/// lost, and their peers ask again.
async fn copy_commitments(config: &Config, to: &Arc<dyn Table>) {
    let copy = async {
        let old = Index::new(open_table(config, INDEX_FILE).await?);
        anyhow::Ok(old.copy_commitments(&Index::new(to.clone())).await?)
    };
    if let Err(error) = copy.await {
        let error = format!("{error:#}");
        warn!(error, "requests for storage commitment of the old index cannot be read; they get no report");
    }
}

/// Deletes the objects in the deletion queue of the old index. Returns whether that index could be used, and
/// the secrets of its tenants; an index without any entry counts as one that could not, since it may be in
/// the place of another.
async fn finish_deletions(blobs: Arc<dyn Blobs>, config: &Config) -> (bool, TenantSecrets) {
    let deletions = async {
        let index = Arc::new(Index::new(open_table(config, INDEX_FILE).await?));
        collect_garbage(&Archive::new(blobs, index.clone(), config)).await?;
        anyhow::Ok((!index.is_new().await?, index.pseudonym_secrets().await?))
    };
    deletions.await.unwrap_or_else(|error| {
        let error = format!("{error:#}");
        warn!(error, "the deletion queue of the old index cannot be read; its objects are indexed again");
        (false, Vec::new())
    })
}
