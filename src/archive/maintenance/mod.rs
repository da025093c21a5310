//! Maintenance: deletion and garbage collection, recovery after a kill, checking, reindexing, copying an archive.

pub mod check;
pub mod copy;
mod delete;
pub(in crate::archive) mod recovery;
pub(in crate::archive) mod reindex;
