//! Cuspid, a DICOMweb-first PACS server.

pub mod archive;
pub mod blobs;
pub mod config;
pub mod dicom;
pub mod index;
pub mod pixel;
pub mod query;
pub mod table;
