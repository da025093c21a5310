//! The records of the index: what a row holds. MessagePack with named fields, so that fields can be added.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::dicom::attributes::Attributes;
use crate::dicom::instance::Layout;
use crate::dicom::metadata::Metadata;
use crate::dicom::uid::{InstanceUid, SeriesUid, StudyUid};

/// A study. Its attributes are those of the first instance stored; later ones fill in what is missing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StudyRecord {
    /// Its UID.
    pub study: StudyUid,
    /// Patient and study attributes that were sent; none of the computed ones.
    pub attributes: Attributes,
    /// How many instances of each modality.
    pub modalities: BTreeMap<String, u64>,
    /// How many instances of each SOP class.
    pub sop_classes: BTreeMap<String, u64>,
    /// Number of Study Related Series (0020,1206).
    pub number_of_series: u64,
    /// Number of Study Related Instances (0020,1208).
    pub number_of_instances: u64,
    /// Bytes of all originals.
    pub size_bytes: u64,
    /// Raised by every change to the study or anything in it; the ETag.
    pub generation: u64,
    /// When it last changed, in milliseconds since 1970 UTC.
    pub changed_at: i64,
}

/// A series.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SeriesRecord {
    /// Its study.
    pub study: StudyUid,
    /// Its UID.
    pub series: SeriesUid,
    /// Series attributes that were sent; none of the computed ones.
    pub attributes: Attributes,
    /// How many instances of each SOP class.
    pub sop_classes: BTreeMap<String, u64>,
    /// Number of Series Related Instances (0020,1209).
    pub number_of_instances: u64,
    /// How many of its instances have frames.
    pub number_of_images: u64,
    /// Bytes of all originals.
    pub size_bytes: u64,
    /// Raised by every change to the series or anything in it; the ETag.
    pub generation: u64,
    /// When it last changed, in milliseconds since 1970 UTC.
    pub changed_at: i64,
    /// Its preview.
    pub preview: Preview,
}

/// The state of a series' preview.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Preview {
    /// There is nothing to make one of.
    None,
    /// It is to be made.
    Pending {
        /// Not before then, in milliseconds since 1970 UTC.
        due_at: i64,
        /// Attempts that failed so far.
        attempts: u32,
    },
    /// It was made of the series at this generation.
    Made {
        /// The generation of the series.
        generation: u64,
        /// Bytes of the preview.
        size_bytes: u64,
    },
    /// It cannot be made.
    Failed {
        /// Why, in words.
        reason: String,
        /// Attempts made.
        attempts: u32,
    },
}

/// As much of an instance's record as it takes to answer with its metadata.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MetadataRecord {
    /// DICOM JSON metadata.
    pub metadata: Metadata,
}

/// Objects that gave way to others which an instance's record names.
pub const MAX_REPLACED: usize = 16;

/// An instance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InstanceRecord {
    /// Its study.
    pub study: StudyUid,
    /// Its series.
    pub series: SeriesUid,
    /// Its UID.
    pub instance: InstanceUid,
    /// SOP Class UID.
    pub sop_class: String,
    /// Transfer Syntax UID of the stored object.
    pub transfer_syntax: String,
    /// SHA-256 of the stored object, in lower case hexadecimal.
    pub digest: String,
    /// What tells the stored object from all others that were ever kept under the instance's UID, also from those of
    /// the same bytes; empty if an earlier version stored it, which named objects by their digests.
    #[serde(default)]
    pub object: String,
    /// The objects that gave way to it, the latest first, at most [`MAX_REPLACED`].
    #[serde(default)]
    pub replaced: Vec<String>,
    /// Bytes of the stored object.
    pub size_bytes: u64,
    /// When it was stored, in milliseconds since 1970 UTC.
    pub stored_at: i64,
    /// Attributes that the index keeps, of all levels.
    pub attributes: Attributes,
    /// DICOM JSON metadata.
    pub metadata: Metadata,
    /// Where pixels and bulk values lie.
    pub layout: Layout,
}

impl InstanceRecord {
    /// The name of the stored object among all that were kept under the instance's UID.
    pub fn object_name(&self) -> &str {
        if self.object.is_empty() { &self.digest } else { &self.object }
    }
}
