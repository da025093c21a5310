//! DICOM as pure functions on bytes and data sets: no async, no files, no network.
//!
//! Raw input passes [`scan`] first; what it lets through is read by [`instance`] into all that the
//! archive ever needs to know of an instance.

pub mod attributes;
#[cfg(test)]
pub(crate) mod build;
pub mod charset;
pub mod codestream;
pub mod derived;
pub mod dicomdir;
pub mod dictionary;
mod elements;
pub mod encapsulated;
pub mod explicit;
pub mod failure;
pub mod frames;
pub mod instance;
pub mod json;
mod json_metadata;
pub(crate) mod json_values;
pub mod metadata;
pub mod report;
pub mod scan;
pub mod split;
pub mod uid;
mod values;
pub mod write;
pub mod xml;
