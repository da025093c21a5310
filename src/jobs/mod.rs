//! When work is done after the answer; what is done is in the archive. Every job may run twice.

pub mod previews;
pub mod reconcile;
