//! Rewrites a scanned object as a file in Explicit VR Little Endian, or in a transfer syntax that is built on
//! it, as a plan that holds nothing large (PS3.5 §A.2, §A.4 and §A.5, PS3.10 §7.1).

use std::collections::BTreeMap;

use crate::dicom::attributes::{Tag, Vr};
use crate::dicom::explicit::writer::{PlanWriter, push_item_header};
use crate::dicom::scan::{EventKind, Outline, ScanEvent};
use crate::dicom::tags;

mod pixel_elements;
#[cfg(test)]
mod tests;
mod writer;

pub use crate::dicom::explicit::pixel_elements::{loss_of_codestream, pixel_corrections, pixel_elements};
pub(crate) use crate::dicom::explicit::writer::{push_element, push_header, push_tag};
pub use crate::dicom::explicit::writer::{swap_words, word_size};

/// Implementation Class UID of this software, of its own by PS3.5 §B.2. It is part of every stored object
/// that came by C-STORE, so it must never change.
pub const IMPLEMENTATION_CLASS_UID: &str = "2.25.182791676989946688295138610626380437434";

/// The changes to an object besides its encoding in explicit VR.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rewrite {
    /// The transfer syntax that the file declares.
    pub transfer_syntax: String,
    /// Elements of the data set, in the order of their tags, that replace those of the same tag or are added.
    pub changes: Vec<EncodedElement>,
    /// The frames to write.
    pub frames: FrameOutput,
}

/// An element with its value encoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedElement {
    /// Its tag.
    pub tag: Tag,
    /// Its value representation.
    pub vr: Vr,
    /// Its value in little endian; of SQ, items (see [`item`]). A value of odd length is padded when it is
    /// written.
    pub value: Vec<u8>,
}

/// The frames to write as Pixel Data (7FE0,0010).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameOutput {
    /// The stored frames, which must be native.
    Stored,
    /// The stored frames, encapsulated as they are, with their offset tables.
    Encapsulation,
    /// Other native frames.
    Native {
        /// Bytes of all frames.
        length: u64,
        /// Bits Allocated: 1, 8, 16 or 32.
        bits_allocated: u16,
    },
    /// Encapsulated frames, after an offset table.
    Encapsulated(OffsetTableSpace),
}

impl FrameOutput {
    /// Whether other frames take the place of the stored ones.
    fn is_made(self) -> bool {
        matches!(self, Self::Native { .. } | Self::Encapsulated(_))
    }
}

/// The space for an offset table, which is filled in when the lengths of the frames are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OffsetTableSpace {
    /// A Basic Offset Table of so many bytes.
    Basic(u32),
    /// An Extended Offset Table and its lengths, of so many bytes each, and an empty Basic Offset Table.
    Extended(u32),
}

/// The segments of a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RewritePlan {
    /// The segments up to the frames that replace Pixel Data; all segments, if none do.
    pub before: Vec<RewriteSegment>,
    /// The segments after these frames.
    pub after: Vec<RewriteSegment>,
    /// The offset of the data set, in bytes from the start of the file.
    pub data_set_at: u64,
    /// The offsets of the values of changed elements, of the Extended Offset Table and its lengths, and of
    /// the Basic Offset Table under [`tags::PIXEL_DATA`], in bytes from the start of the file.
    pub places: BTreeMap<Tag, u64>,
}

/// The next bytes of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RewriteSegment {
    /// These bytes.
    Bytes(Vec<u8>),
    /// So many zero bytes.
    Zeros(u64),
    /// Bytes of the stored object; of a deflated one, of the object with its data set inflated.
    Copy {
        /// The first byte.
        offset: u64,
        /// The number of bytes.
        length: u64,
        /// Bytes of a word whose order is reversed: 2, 4 or 8; 1 to copy the bytes as they are. A rest that
        /// is no whole word stays as it is.
        swap: u8,
    },
}

impl RewriteSegment {
    /// Its length in the file.
    pub fn length(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Zeros(length) | Self::Copy { length, .. } => *length,
        }
    }
}

/// The reason why an object cannot be written in this transfer syntax.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Pixel Data is encapsulated, and its frames were not decoded.
    #[error("pixel data is encapsulated and was not decoded")]
    NotDecoded,
    /// A value is too long for a length of 32 bits.
    #[error("a value of {length} bytes is too long for its 32-bit length")]
    TooLong {
        /// Bytes of the value.
        length: u64,
    },
}

/// Plans the file of a scanned object in explicit VR, little endian.
///
/// VRs that were not sent come from the dictionary. Sequences and items are written with delimiters. Group
/// lengths are left out, as they would be wrong, and so is what is encapsulated in items (a compressed icon),
/// as it cannot be in this transfer syntax.
///
/// The plan takes memory by the size of `outline.head`, never by that of a bulk value.
///
/// # Errors
/// [`Error::NotDecoded`] if there are encapsulated frames that are to stay as native ones; [`Error::TooLong`]
/// if a value takes 4 GiB or more.
pub fn plan(outline: &Outline, rewrite: &Rewrite) -> Result<RewritePlan, Error> {
    let mut writer = PlanWriter::new(outline, rewrite);
    let mut changes = rewrite.changes.iter().peekable();
    let mut depth = 0usize;
    let mut is_replaced = false;
    for event in &outline.events {
        if depth == 0 {
            is_replaced = false;
            while let Some(change) = changes.next_if(|change| change.tag <= event.tag) {
                is_replaced |= change.tag == event.tag;
                writer.change(change);
            }
            // The table is of fragments that are not written.
            is_replaced |= rewrite.frames.is_made() && is_offset_table(event.tag);
        }
        match event.kind {
            EventKind::Sequence => depth += 1,
            EventKind::SequenceEnd => depth = depth.saturating_sub(1),
            _ => {}
        }
        if is_replaced {
            continue;
        }
        match event.kind {
            EventKind::Value(_) | EventKind::Bulk | EventKind::Encapsulated
                if depth == 0 && event.tag == tags::PIXEL_DATA =>
            {
                writer.pixel_data(event)?;
            }
            _ => writer.event(event)?,
        }
    }
    changes.for_each(|change| writer.change(change));
    Ok(writer.finish())
}

/// An item of a sequence that holds these elements.
pub fn item(elements: &[EncodedElement]) -> Vec<u8> {
    let mut content = Vec::new();
    elements.iter().for_each(|element| push_element(&mut content, element.tag, element.vr, &element.value));
    let mut item = Vec::new();
    push_item_header(&mut item, tags::ITEM, content.len() as u32);
    item.append(&mut content);
    item
}

/// The header of an item that holds a fragment of this length.
pub fn fragment_header(length: u32) -> Vec<u8> {
    let mut header = Vec::new();
    push_item_header(&mut header, tags::ITEM, length);
    header
}

/// The value of an attribute that is not nested.
pub fn top_level(outline: &Outline, tag: Tag) -> Option<(&ScanEvent, &[u8])> {
    let mut depth = 0usize;
    for event in &outline.events {
        match &event.kind {
            EventKind::Sequence => depth += 1,
            EventKind::SequenceEnd => depth = depth.saturating_sub(1),
            EventKind::Value(range) if depth == 0 && event.tag == tag => {
                return Some((event, outline.head.get(range.clone())?));
            }
            _ => {}
        }
    }
    None
}

/// Whether an element describes the fragments of encapsulated frames (PS3.3 §C.7.6.3).
fn is_offset_table(tag: Tag) -> bool {
    [
        tags::EXTENDED_OFFSET_TABLE,
        tags::EXTENDED_OFFSET_TABLE_LENGTHS,
        tags::ENCAPSULATED_PIXEL_DATA_VALUE_TOTAL_LENGTH,
    ]
    .contains(&tag)
}
