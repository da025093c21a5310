//! WADO-RS: retrieval of what is stored (PS3.18 §10.4). Each file is named by the last word of its URLs.

pub(in crate::http) mod anonymized;
mod available_parts;
pub(crate) mod bulkdata;
pub(crate) mod bulkdata_of_instances;
pub(in crate::http) mod document;
pub(crate) mod frames;
pub(crate) mod instances;
pub(crate) mod metadata;
mod metadata_writer;
pub(crate) mod mini;
pub(crate) mod rendered;
pub(in crate::http) mod rendered_images;
pub(crate) mod thumbnail;
mod transcoded_frames;
mod zip;
