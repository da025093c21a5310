//! The records of the index. They are stored as MessagePack with named fields, so that fields can be added.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::dicom::attributes::Attributes;
use crate::dicom::file_header::FileHeader;
use crate::dicom::layout::Layout;
use crate::dicom::metadata::Metadata;
use crate::dicom::uid::{InstanceUid, SeriesUid, StudyUid};
use crate::digest::ObjectDigest;
use crate::index::feed_position::FeedPosition;

/// The record of a study. Its attributes are those of the first stored instance; later instances add missing
/// ones.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StudyRecord {
    /// The UID of the study.
    pub study: StudyUid,
    /// The indexed patient and study attributes that were sent; computed attributes are not among them.
    pub attributes: Attributes,
    /// The number of instances of each modality.
    pub modalities: BTreeMap<String, u64>,
    /// The number of instances of each SOP class.
    pub sop_classes: BTreeMap<String, u64>,
    /// Number of Study Related Series (0020,1206).
    pub number_of_series: u64,
    /// Number of Study Related Instances (0020,1208).
    pub number_of_instances: u64,
    /// The total size of all originals.
    pub size_bytes: u64,
    /// A number that every change to the study or its contents increases; the ETag.
    pub generation: u64,
    /// The time of the last change, in milliseconds since 1970 UTC.
    pub changed_at: i64,
    /// The entry of the feed with the last change; `None` if that was made before there was a feed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<FeedPosition>,
    /// The latest time of ingest of an instance of the study, in milliseconds since 1970 UTC; deletions do
    /// not change it. `None` if the instances were stored by a version that did not record it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arrived_at: Option<i64>,
}

/// The record of a series.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SeriesRecord {
    /// The study of the series.
    pub study: StudyUid,
    /// The UID of the series.
    pub series: SeriesUid,
    /// The indexed series attributes that were sent; computed attributes are not among them.
    pub attributes: Attributes,
    /// The number of instances of each SOP class.
    pub sop_classes: BTreeMap<String, u64>,
    /// Number of Series Related Instances (0020,1209).
    pub number_of_instances: u64,
    /// The number of instances with pixel data.
    pub number_of_images: u64,
    /// The total size of all originals.
    pub size_bytes: u64,
    /// A number that every change to the series or its contents increases; the ETag.
    pub generation: u64,
    /// The time of the last change, in milliseconds since 1970 UTC.
    pub changed_at: i64,
    /// The entry of the feed with the last change; `None` if that was made before there was a feed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<FeedPosition>,
    /// The state of the preview.
    pub preview: PreviewState,
}

/// The state of a series' preview.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum PreviewState {
    /// The series has no preview, and none is planned.
    None,
    /// The preview is still to be made.
    Pending {
        /// The earliest time for the next attempt, in milliseconds since 1970 UTC.
        due_at: i64,
        /// The number of attempts so far.
        attempts: u32,
    },
    /// The preview exists.
    Ready {
        /// The generation of the series that the preview shows.
        generation: u64,
        /// The size of the preview.
        size_bytes: u64,
    },
    /// The preview cannot be made.
    Failed {
        /// The cause, for operators.
        reason: String,
        /// The number of attempts made.
        attempts: u32,
    },
}

/// The part of an instance's record that a request for metadata needs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MetadataRecord {
    /// DICOM JSON metadata.
    pub metadata: Metadata,
}

/// The maximum number of replaced objects that an instance's record names.
pub const MAX_REPLACED: usize = 16;

/// The record of an instance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InstanceRecord {
    /// The study of the instance.
    pub study: StudyUid,
    /// The series of the instance.
    pub series: SeriesUid,
    /// The UID of the instance.
    pub instance: InstanceUid,
    /// SOP Class UID.
    pub sop_class: String,
    /// Transfer Syntax UID of the stored object.
    pub transfer_syntax: String,
    /// The digest of the stored object.
    pub digest: ObjectDigest,
    /// The name of the stored object. It is unique among all objects ever stored under the instance's UID,
    /// even if their bytes are the same.
    pub object: String,
    /// The names of the objects that this one replaced, the latest first, at most [`MAX_REPLACED`].
    pub replaced: Vec<String>,
    /// The size of the stored object.
    pub size_bytes: u64,
    /// Whether the data set's encoding breaks a rule in a place, so that other readers may fail.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_irregular: bool,
    /// The file header to give in place of the stored one, if the stored one is missing or wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_header: Option<FileHeader>,
    /// The time of ingest, in milliseconds since 1970 UTC.
    pub stored_at: i64,
    /// The AE title that sent the instance, empty if the instance came in another way; `None` if that is not
    /// known.
    #[serde(rename = "from", default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The indexed attributes of all levels.
    pub attributes: Attributes,
    /// DICOM JSON metadata.
    pub metadata: Metadata,
    /// The positions of pixel data and bulk values in the stored object.
    pub layout: Layout,
}

impl InstanceRecord {
    /// The size of the instance as a file: that of the stored object, but for its file header.
    pub fn file_bytes(&self) -> u64 {
        file_bytes(self.size_bytes, self.file_header.as_ref())
    }
}

/// The size of a stored object as a file.
pub fn file_bytes(size_bytes: u64, file_header: Option<&FileHeader>) -> u64 {
    let (added, replaced) = file_header.map_or((0, 0), |header| (header.bytes.len() as u64, header.replaces));
    size_bytes.saturating_sub(replaced) + added
}
