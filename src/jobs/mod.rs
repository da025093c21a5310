//! The background jobs: when they run. The work itself is in the archive. Every job may run twice.

pub mod audit;
pub mod changes;
pub mod previews;
pub mod reconcile;
pub mod scrub;
pub mod storing;
pub mod usage;
pub mod webhooks;
