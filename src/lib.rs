//! Cuspid, a DICOMweb-first PACS server. The library part serves the binary, tests and benches only.
//!
//! # Map
//! Data goes one way, and each module imports only those to its right:
//!
//! `cli` → `server` → { `http`, `dimse`, `jobs` } → `archive` → { `blobs`, `queue`, `index` } → { `table`, `query` } →
//! { `dicom`, `pixel` }
//!
//! - [`http`] and [`dimse`] are the doors: a protocol in words of the archive, and back.
//! - [`archive`] is the server, in no protocol's words; [`jobs`] do later what is in the archive, and learn of
//!   it from a [`queue`].
//! - [`blobs`] keeps bytes under a key, [`index`] knows what is stored, over a [`table`].
//! - [`query`] is what a match is. [`dicom`] and [`pixel`] are pure functions on bytes and samples.
//!
//! # Three journeys
//! 1. Upload: `http::store` → `http::multipart` (a part at a time) → `archive::store` → `dicom::scan`,
//!    `dicom::instance` → `blobs.keep` → `index.commit` → up again: stored or refused, instance by instance.
//! 2. Frames: `http::retrieve::frames` → `archive::retrieve` → one index row → one ranged `blobs.read`.
//! 3. C-STORE: `dimse::association` → `dimse::c_store` (adds the file header) → the same `archive::store`.

pub mod archive;
pub mod backoff;
pub mod blobs;
pub mod cli;
pub mod clock;
pub mod config;
pub mod dicom;
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
