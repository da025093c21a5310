//! Cuspid, a DICOMweb-first PACS server. The library part is for the binary, tests and benches only.
//!
//! # Map
//! Data flows in one direction, and each module imports only modules to its right:
//!
//! `cli` → `server` → { `http`, `dimse`, `jobs` } → `archive` → { `blobs`, `queue`, `index`, `audit` } → {
//! `table`, `query` } → { `dicom`, `pixel`, `zip` }; `archive` → `decoders` → { `dicom`, `pixel` }
//!
//! - [`cli`] reads the command line; [`server`] opens the stores and starts everything.
//! - [`http`] and [`dimse`] are the protocol layers: they translate between a protocol and the archive.
//! - [`archive`] is the server without a protocol: ingest, retrieval, derived objects, maintenance. [`jobs`]
//!   run its background work, which a [`queue`] announces.
//! - [`blobs`] stores bytes under a key; [`index`] holds the records of studies, series and instances in a
//!   [`table`].
//! - [`audit`] holds the records of who saw and changed what, in the same table.
//! - [`query`] defines when a record matches a query. [`dicom`], [`pixel`] and [`zip`] work on bytes and
//!   samples alone.
//! - [`decoders`] decode compressed frames in processes of their own.
//! - [`config`], [`telemetry`], [`clock`], [`backoff`], [`digest`], [`threads`] and [`tls`] are used by all
//!   modules.
//!
//! # Three journeys
//! 1. Upload: `http::store` → `http::request::multipart` (one part at a time) → `archive::ingest` →
//!    `dicom::scan`, `dicom::instance` → `Blobs::put` → `Index::commit` → back: stored or refused, instance
//!    by instance.
//! 2. Frames: `http::retrieve::frames` → `archive::read` → one index row → one ranged `Blobs::read`.
//! 3. C-STORE: `dimse::association` → `dimse::c_store` (adds the file header) → the same `archive::ingest`.

pub mod archive;
pub mod audit;
pub mod background;
pub mod backoff;
pub mod blobs;
pub mod budget;
pub mod cli;
pub mod clock;
pub mod config;
mod connections;
pub mod decoders;
pub mod dicom;
pub mod digest;
pub mod dimse;
pub mod http;
pub mod index;
pub mod jobs;
pub mod pixel;
pub mod query;
pub mod queue;
pub mod server;
pub mod table;
pub mod telemetry;
pub mod threads;
pub mod tls;
pub mod zip;
