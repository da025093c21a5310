//! Figures for the page that says how the server is.

use crate::archive::access::Caller;
use crate::archive::{Archive, Error, run_blocking};

/// The most pending previews that are counted.
const MAX_COUNTED_PREVIEWS: usize = 1000;

/// The space of a disk, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskSpace {
    /// The size of the disk.
    pub total: u64,
    /// The part of it that can be written to.
    pub free: u64,
}

impl Archive {
    /// The number of studies of the caller's tenant; `None` if they are not counted (see
    /// [`crate::index::Index::recount`]).
    pub async fn count_studies(&self, caller: &Caller) -> Result<Option<u64>, Error> {
        Ok(self.index.count_studies(caller.tenant.as_str()).await?)
    }

    /// The number of series of the caller's tenant whose preview is to be made, up to a thousand of all
    /// tenants.
    pub async fn count_waiting_previews(&self, caller: &Caller) -> Result<usize, Error> {
        let pending = self.index.due_previews(i64::MAX - 1, MAX_COUNTED_PREVIEWS).await?;
        Ok(pending.iter().filter(|preview| preview.tenant == caller.tenant.as_str()).count())
    }

    /// The space of the disk with the originals; `None` if they are in a remote store, or if the disk does
    /// not say.
    pub async fn disk_space(&self) -> Option<DiskSpace> {
        let data = self.data_directory.clone()?;
        let found = run_blocking(None, move || rustix::fs::statvfs(&data).ok()).await.ok()??;
        let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
        Some(DiskSpace { total: bytes(found.f_blocks), free: bytes(found.f_bavail) })
    }
}
