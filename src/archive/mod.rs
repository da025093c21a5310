//! The server, in no protocol's words: taking in, finding, giving back. Doors see this module only.

use std::sync::Arc;

use crate::blobs::Blobs;
use crate::config::{Ingest, Search};
use crate::index::Index;

pub mod access;
pub mod keys;
pub mod retrieve;
pub mod search;
pub mod store;

/// An archive of DICOM instances: bytes in `blobs`, everything known of them in `index`.
pub struct Archive {
    blobs: Arc<dyn Blobs>,
    index: Arc<Index>,
    ingest: Ingest,
    search: Search,
    uploads: Arc<tokio::sync::Semaphore>,
}

impl Archive {
    /// An archive over a blob store and an index.
    pub fn new(blobs: Arc<dyn Blobs>, index: Arc<Index>, ingest: Ingest, search: Search) -> Arc<Self> {
        let uploads = Arc::new(tokio::sync::Semaphore::new(ingest.max_uploads));
        Arc::new(Self { blobs, index, ingest, search, uploads })
    }
}

/// Why something cannot be done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such study, series, instance, frame or bulk value, for this caller.
    #[error("there is no {0}")]
    NotFound(String),
    /// It cannot be given in the form asked for.
    #[error("{0}")]
    NotAcceptable(String),
    /// It will be there later.
    #[error("{0}")]
    NotYet(String),
    /// The blob store failed.
    #[error(transparent)]
    Blobs(#[from] crate::blobs::Error),
    /// The index failed.
    #[error(transparent)]
    Index(#[from] crate::index::Error),
}
