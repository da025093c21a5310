//! The places of bulk values and frames in a stored object.

use serde::{Deserialize, Serialize};

use crate::dicom::attributes::Vr;
use crate::dicom::frames::{FrameTable, PixelLayout};

/// The places of the bulk values and frames of an instance in the stored object.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Layout {
    /// The image pixel module, if there are pixels.
    pub pixels: Option<PixelLayout>,
    /// The frame table.
    pub frames: FrameTable,
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
