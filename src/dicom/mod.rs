//! DICOM as pure functions on bytes and data sets: no async, no files, no network.
//!
//! Raw input passes [`scan`] first; what it lets through is read by [`instance`] into all that the
//! archive ever needs to know of an instance.

pub mod attributes;
#[cfg(test)]
pub(crate) mod build;
pub mod charset;
pub mod codestream;
pub mod data_set;
pub mod deidentify;
pub mod derived;
pub mod dicomdir;
pub mod dictionary;
mod element_reader;
pub mod encapsulated;
pub mod explicit;
pub mod failure;
pub mod file_header;
pub mod frames;
pub mod implicit;
pub mod instance;
pub mod jpeg_2000;
pub mod json;
mod json_metadata;
pub(crate) mod json_values;
pub mod layout;
pub mod marker_segments;
pub mod metadata;
pub mod pixel_layout;
pub mod repertoire;
pub mod report;
pub mod rle_header;
pub mod scan;
pub mod split;
pub mod tags;
pub mod transfer_syntax;
pub mod uid;
pub mod uids;
mod value_reader;
pub mod write;
pub mod xml;
