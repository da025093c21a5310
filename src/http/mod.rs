//! Door 1: HTTP in words of the archive, and back (PS3.18). No DICOM is parsed here and nothing is stored.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use metrics_exporter_prometheus::PrometheusHandle;

use crate::archive::Archive;
use crate::config;

pub mod accept;
mod auth;
mod base_url;
mod console;
mod content;
mod cors;
mod error;
mod json;
pub mod multipart;
mod ops;
mod path;
mod request;
mod retrieve;
mod routes;
mod search;
mod serve;
mod store;
mod store_response;

pub use serve::run;

/// What the door stands before, and its settings.
pub struct Door {
    /// The archive.
    pub archive: Arc<Archive>,
    /// Section `[http]`.
    pub http: config::Http,
    /// Section `[ingest]`, for the limits of a request.
    pub ingest: config::Ingest,
    /// Section `[search]`, for the limits of a page.
    pub search: config::Search,
    /// What `/metrics` shows.
    pub metrics: PrometheusHandle,
    /// Whether `/readyz` says yes.
    pub is_ready: AtomicBool,
}
