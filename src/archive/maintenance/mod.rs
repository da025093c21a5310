//! Maintenance: deletion and garbage collection, recovery after a kill, checking, scrubbing, reindexing,
//! copying an archive.

pub mod check;
pub mod copy;
pub mod delete;
mod orphans;
pub mod recovery;
pub mod reindex;
pub mod report;
pub mod scrub;
mod verify;
