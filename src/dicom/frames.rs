//! Where each frame's bytes lie in the stored object (PS3.5 §8 and §A.4).

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::dicom::failure::Warning;
use crate::dicom::scan::Outline;

/// How the pixels of an instance are laid out (PS3.3 §C.7.6.3).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PixelLayout {
    /// (0028,0010).
    pub rows: u32,
    /// (0028,0011).
    pub columns: u32,
    /// Samples per Pixel (0028,0002).
    pub samples: u16,
    /// Bits Allocated (0028,0100): 1, 8, 16, 32 or 64.
    pub bits_allocated: u16,
    /// Bits Stored (0028,0101).
    pub bits_stored: u16,
    /// High Bit (0028,0102).
    pub high_bit: u16,
    /// Pixel Representation (0028,0103) is 1.
    pub is_signed: bool,
    /// Photometric Interpretation (0028,0004), upper case.
    pub photometric: String,
    /// Planar Configuration (0028,0006) is 1.
    pub is_planar: bool,
    /// Number of Frames (0028,0008); 1 if it is absent.
    pub number_of_frames: u32,
}

/// The frame table of an instance: where its frames are. Offsets are in bytes from the start of the stored
/// object; in a deflated object, from the start of the object with its data set inflated.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Frames {
    /// There are no frames.
    None,
    /// Uncompressed frames one after the other, without gaps.
    Native {
        /// The first byte of the first frame.
        offset: u64,
        /// Bits of one frame; not a multiple of 8 only when Bits Allocated is 1.
        frame_bits: u64,
        /// Whether the object's words are big endian.
        is_big_endian: bool,
    },
    /// Fragments, one or several for each frame.
    Encapsulated {
        /// The fragments' values, in order: (first byte, bytes).
        fragments: Vec<(u64, u32)>,
        /// The index (from 0) of each frame's first fragment; empty if there is one fragment a frame.
        first_fragments: Vec<u32>,
    },
}

impl Frames {
    /// The byte ranges that make up frame `index` (from 0), in order; empty if there is no such frame.
    ///
    /// A native frame is one range, rounded outwards to whole bytes.
    pub fn ranges(&self, index: u32) -> Vec<Range<u64>> {
        match self {
            Self::None => Vec::new(),
            Self::Native { offset, frame_bits, .. } => {
                let from = u64::from(index) * frame_bits;
                vec![offset + from / 8..offset + (from + frame_bits).div_ceil(8)]
            }
            Self::Encapsulated { fragments, first_fragments } => {
                let index = index as usize;
                let span = if first_fragments.is_empty() {
                    index..index + 1
                } else {
                    let Some(&first) = first_fragments.get(index) else { return Vec::new() };
                    let end = first_fragments.get(index + 1).map_or(fragments.len(), |&next| next as usize);
                    first as usize..end
                };
                let fragments = fragments.get(span).unwrap_or_default();
                fragments.iter().map(|&(from, bytes)| from..from + u64::from(bytes)).collect()
            }
        }
    }
}

/// Finds the frames of a scanned object: native from the layout; encapsulated by the Extended Offset Table
/// (7FE0,0001), the Basic Offset Table, one fragment a frame if the counts agree, one frame of all fragments if
/// there is one frame, or else by the codestreams' own end markers.
///
/// PS3.5 §8, §A.4; PS3.3 §C.7.6.3.1.8.
pub fn locate(outline: &Outline, layout: &PixelLayout) -> (Frames, Option<Warning>) {
    let _ = (outline, layout);
    unimplemented!()
}
