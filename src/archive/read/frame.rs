//! Frames as they are stored.

use futures_util::TryStreamExt;

use crate::archive::access::Caller;
use crate::archive::{Archive, Error};
use crate::dicom::frames::{FrameTable, PixelLayout};
use crate::index::records::InstanceRecord;

/// The most bytes of a frame: the most samples that are decoded, uncompressed, at 32 bits.
pub(in crate::archive) const MAX_FRAME_BYTES: u64 = 4 << 26;

/// A frame as it is stored.
pub(in crate::archive) struct StoredFrame {
    pub(in crate::archive) bytes: Vec<u8>,
    pub(in crate::archive) layout: PixelLayout,
    /// Of a native frame: the bit of the first byte that it starts at. The words of native frames are in
    /// little endian, in whatever order they are stored.
    pub(in crate::archive) first_bit: Option<u32>,
    pub(in crate::archive) transfer_syntax: String,
}

impl StoredFrame {
    /// The bytes, if they are native words and start with a byte.
    pub(in crate::archive) fn little_endian(&self) -> Option<&[u8]> {
        (self.first_bit == Some(0)).then_some(&self.bytes)
    }
}

/// Reads frame `number` (from 1) as it is stored, but native words in little endian.
pub(in crate::archive) async fn stored_frame(
    archive: &Archive,
    caller: &Caller,
    record: &InstanceRecord,
    number: u32,
) -> Result<StoredFrame, Error> {
    let ranges = archive.frame(record, number)?;
    let size: u64 = ranges.iter().map(|range| range.end - range.start).sum();
    let layout = record.layout.pixels.clone().filter(|_| size <= MAX_FRAME_BYTES);
    let layout =
        layout.ok_or_else(|| Error::TooLarge(format!("frame {number} of {size} bytes is too large")))?;
    // All of it lies in the object, which the layout was found in.
    let mut bytes = Vec::with_capacity(size as usize);
    for range in ranges {
        let mut chunks = archive.read_value(caller, record, range).await?;
        while let Some(chunk) = chunks.try_next().await? {
            bytes.extend_from_slice(&chunk);
        }
    }
    let first_bit = match record.layout.frames {
        FrameTable::Native { frame_bits, .. } => Some((u64::from(number - 1) * frame_bits % 8) as u32),
        FrameTable::None | FrameTable::Encapsulated { .. } => None,
    };
    Ok(StoredFrame { bytes, layout, first_bit, transfer_syntax: record.transfer_syntax.clone() })
}
