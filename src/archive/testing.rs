//! An archive and instances for unit tests.

use std::sync::Arc;

use crate::archive::Archive;
use crate::archive::access::Caller;
use crate::archive::ingest::{Refusal, StoredInstance};
use crate::blobs::memory::MemoryBlobs;
use crate::config::{BlobStore, Config, TableEngine};
use crate::dicom::build::DataSet;
use crate::dicom::transfer_syntax::EXPLICIT_VR_LITTLE_ENDIAN;
use crate::dicom::uids;
use crate::index::Index;

/// An archive in memory with the default settings.
pub(crate) fn archive() -> Arc<Archive> {
    Archive::new(Arc::new(MemoryBlobs::new()), Arc::new(Index::in_memory()), &Config::defaults())
}

/// The archives of two processes of a fleet over one index.
pub(crate) fn fleet() -> [Arc<Archive>; 2] {
    let mut config = Config::defaults();
    (config.storage.blobs, config.storage.table) = (BlobStore::S3, TableEngine::Dynamodb);
    let (blobs, index) = (Arc::new(MemoryBlobs::new()), Arc::new(Index::in_memory()));
    [(); 2].map(|()| Archive::new(blobs.clone(), index.clone(), &config))
}

/// The data set of the instance `1.2.3.NUMBER` of the series `1.2.3` and the study `1.2`.
pub(crate) fn numbered(number: usize) -> DataSet {
    DataSet::explicit()
        .text(0x0008_0016, "UI", uids::SECONDARY_CAPTURE_IMAGE_STORAGE)
        .text(0x0008_0018, "UI", &format!("1.2.3.{number}"))
        .text(0x0020_000D, "UI", "1.2")
        .text(0x0020_000E, "UI", "1.2.3")
}

/// Stores a data set.
pub(crate) async fn store(archive: &Arc<Archive>, set: DataSet) -> Result<StoredInstance, Refusal> {
    let mut upload = archive.receive(&Caller::anonymous(), None).await;
    upload.write(set.file(EXPLICIT_VR_LITTLE_ENDIAN).into()).await;
    upload.finish().await.await.result
}
