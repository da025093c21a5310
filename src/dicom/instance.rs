//! All that the archive learns of an instance when it comes in; afterwards no DICOM is parsed any more.

use serde::{Deserialize, Serialize};

use crate::dicom::attributes::{Attributes, Tag, Vr};
use crate::dicom::failure::{Failure, Warning};
use crate::dicom::frames::{Frames, PixelLayout};
use crate::dicom::metadata::Metadata;
use crate::dicom::scan::Outline;
use crate::dicom::uid::{InstanceUid, SeriesUid, StudyUid};

/// What was read of an instance.
#[derive(Debug, Clone, PartialEq)]
pub struct Instance {
    /// Study Instance UID.
    pub study: StudyUid,
    /// Series Instance UID.
    pub series: SeriesUid,
    /// SOP Instance UID.
    pub instance: InstanceUid,
    /// SOP Class UID.
    pub sop_class: String,
    /// The transfer syntax that the bytes are in: as declared, or as recognised where it is missing.
    pub transfer_syntax: String,
    /// The attributes that the index keeps, of all levels, text in Unicode.
    pub attributes: Attributes,
    /// The DICOM JSON metadata.
    pub metadata: Metadata,
    /// Where pixels and bulk values lie.
    pub layout: Layout,
    /// What was wrong and was let pass.
    pub warnings: Vec<Warning>,
}

/// Where the bulk values and frames of an instance lie in the stored object.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Layout {
    /// The image pixel module, if there are pixels.
    pub pixels: Option<PixelLayout>,
    /// The frame table.
    pub frames: Frames,
    /// Values that the metadata refers to by BulkDataURI.
    pub bulk: Vec<BulkValue>,
}

/// A value that is not in the metadata.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BulkValue {
    /// Its place in the data set: `ggggeeee`, or `ggggeeee/n/ggggeeee` with items counted from 1; the last
    /// segments of its BulkDataURI.
    pub path: String,
    /// Its value representation.
    pub vr: Vr,
    /// Its first byte in the stored object.
    pub offset: u64,
    /// Its bytes; for encapsulated Pixel Data all items with their headers, without the sequence delimiter.
    pub length: u64,
}

/// Reads a scanned object. `indexed` are the tags of the attributes to keep, in ascending order.
///
/// # Errors
/// [`Failure::NoIdentity`] if a UID that identifies it is missing; all else that cannot be read is a warning.
pub fn read(outline: &Outline, indexed: &[Tag]) -> Result<Instance, Failure> {
    let _ = (outline, indexed);
    unimplemented!()
}
