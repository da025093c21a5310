//! The offsets of frames in encapsulated Pixel Data: the Basic Offset Table, or the Extended Offset Table
//! where 32 bits may not suffice (PS3.5 §A.4, PS3.3 §C.7.6.3.1.8).

use std::collections::BTreeMap;

use crate::archive::derived::transcode::ITEM_HEADER;
use crate::dicom::attributes::{Tag, Vr};
use crate::dicom::derived::RATIO_CHARACTERS;
use crate::dicom::explicit::EncodedElement;
use crate::dicom::frames::PixelLayout;
use crate::dicom::tags;

/// The most bytes of the headers of a fragment and of any codestream in it: those of baseline JPEG are the
/// largest.
const MOST_HEADER_BYTES: u64 = 1024;

/// The frames that are written so far, each in one fragment.
pub(super) struct Offsets {
    number_of_frames: u32,
    uncompressed_bytes: u64,
    /// The most bytes that the frames can have together once they are encoded.
    most_bytes: u64,
    starts: Vec<u64>,
    lengths: Vec<u64>,
    /// The offset of the next fragment, counted from the first fragment.
    next: u64,
}

impl Offsets {
    /// The offsets before any frame is written.
    pub(super) fn new(layout: &PixelLayout) -> Self {
        let samples = u64::from(layout.rows) * u64::from(layout.columns) * u64::from(layout.samples);
        let frame_bytes = (samples * u64::from(layout.bits_allocated)).div_ceil(8);
        // RLE takes a byte for a single bit (PS3.5 §G.2).
        let most_frame_bytes = samples * u64::from(layout.bits_allocated.div_ceil(8));
        let frames = u64::from(layout.number_of_frames);
        Self {
            number_of_frames: layout.number_of_frames,
            uncompressed_bytes: frame_bytes.saturating_mul(frames),
            most_bytes: (2 * most_frame_bytes + MOST_HEADER_BYTES).saturating_mul(frames),
            starts: Vec::new(),
            lengths: Vec::new(),
            next: 0,
        }
    }

    /// Whether the frames may reach beyond 4 GiB: no codec doubles the size of a frame, headers left out.
    fn is_extended(&self) -> bool {
        self.most_bytes > u32::MAX.into()
    }

    /// Bytes of the Basic Offset Table. The table is empty if there is an Extended Offset Table.
    pub(super) fn basic_bytes(&self) -> u32 {
        if self.is_extended() { 0 } else { self.number_of_frames * 4 }
    }

    /// The elements of the Extended Offset Table, to be filled in; none if there is a Basic Offset Table.
    pub(super) fn elements(&self) -> Vec<EncodedElement> {
        let blank =
            |tag| EncodedElement { tag, vr: Vr(*b"OV"), value: vec![0; self.number_of_frames as usize * 8] };
        let tags = [tags::EXTENDED_OFFSET_TABLE, tags::EXTENDED_OFFSET_TABLE_LENGTHS];
        tags.into_iter().filter(|_| self.is_extended()).map(blank).collect()
    }

    /// Adds the next frame.
    pub(super) fn push(&mut self, fragment_bytes: u32) {
        self.starts.push(self.next);
        self.lengths.push(fragment_bytes.into());
        self.next += ITEM_HEADER + u64::from(fragment_bytes);
    }

    /// The offset of the Basic Offset Table in the file; `None` if there is an Extended Offset Table.
    pub(super) fn basic_at(&self, places: &BTreeMap<Tag, u64>) -> Option<u64> {
        if self.is_extended() { None } else { places.get(&tags::PIXEL_DATA).copied() }
    }

    /// The offsets in the file, and the bytes to write there, once all frames are written: `places` are those
    /// of the plan.
    pub(super) fn patches(&self, places: &BTreeMap<Tag, u64>) -> Vec<(u64, Vec<u8>)> {
        let words = |numbers: &[u64]| numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        let values: Vec<(Tag, Vec<u8>)> = if self.is_extended() {
            let tables = [words(&self.starts), words(&self.lengths)];
            [tags::EXTENDED_OFFSET_TABLE, tags::EXTENDED_OFFSET_TABLE_LENGTHS]
                .into_iter()
                .zip(tables)
                .collect()
        } else {
            vec![(
                tags::PIXEL_DATA,
                self.starts.iter().flat_map(|&start| (start as u32).to_le_bytes()).collect(),
            )]
        };
        values.into_iter().filter_map(|(tag, value)| Some((*places.get(&tag)?, value))).collect()
    }

    /// The offset and bytes for Lossy Image Compression Ratio, which `changes` leave blank if they have it.
    pub(super) fn ratio(
        &self,
        changes: &[EncodedElement],
        places: &BTreeMap<Tag, u64>,
    ) -> Option<(u64, Vec<u8>)> {
        let blank = changes.iter().find(|change| change.tag == tags::LOSSY_IMAGE_COMPRESSION_RATIO)?;
        let place =
            places.get(&tags::LOSSY_IMAGE_COMPRESSION_RATIO)? + (blank.value.len() - RATIO_CHARACTERS) as u64;
        let compressed_bytes: u64 = self.lengths.iter().sum();
        let ratio = self.uncompressed_bytes as f64 / compressed_bytes.max(1) as f64;
        Some((place, format!("{:.2}", ratio.min(999_999.0)).into_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(rows: u32, number_of_frames: u32) -> PixelLayout {
        PixelLayout {
            rows,
            columns: 1024,
            samples: 1,
            bits_allocated: 16,
            bits_stored: 12,
            high_bit: 11,
            is_signed: false,
            photometric: "MONOCHROME2".into(),
            is_planar: false,
            number_of_frames,
        }
    }

    #[test]
    fn offsets_are_counted_from_the_first_fragment() {
        let mut offsets = Offsets::new(&layout(1, 3));
        assert_eq!((offsets.basic_bytes(), offsets.elements()), (12, vec![]));
        [10, 20, 1024].into_iter().for_each(|length| offsets.push(length));
        let table = [0_u32, 18, 46].iter().flat_map(|start| start.to_le_bytes()).collect();
        assert_eq!(offsets.patches(&[(tags::PIXEL_DATA, 7)].into()), [(7, table)]);
        let blank = EncodedElement {
            tag: tags::LOSSY_IMAGE_COMPRESSION_RATIO,
            vr: Vr(*b"DS"),
            value: vec![b' '; 20],
        };
        assert_eq!(
            offsets.ratio(&[blank], &[(tags::LOSSY_IMAGE_COMPRESSION_RATIO, 100)].into()),
            Some((104, b"5.83".to_vec()))
        );
        assert_eq!(offsets.ratio(&[], &BTreeMap::new()), None);
    }

    #[test]
    fn what_may_be_too_large_for_32_bits_gets_the_extended_table() {
        let mut offsets = Offsets::new(&layout(1024, 1025));
        assert_eq!(offsets.basic_bytes(), 0);
        let sizes: Vec<_> =
            offsets.elements().iter().map(|element| (element.tag, element.value.len())).collect();
        let tags = [tags::EXTENDED_OFFSET_TABLE, tags::EXTENDED_OFFSET_TABLE_LENGTHS];
        assert_eq!(sizes, tags.map(|tag| (tag, 8 * 1025)));
        [0xFFFF_0000, 0xFFFF_0000, 2].into_iter().for_each(|length| offsets.push(length));
        let words = |numbers: [u64; 3]| numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        // Headers are the largest part of a frame of one row.
        assert_eq!(Offsets::new(&layout(1, 800_000)).basic_bytes(), 3_200_000);
        assert_eq!(Offsets::new(&layout(1, 900_000)).basic_bytes(), 0);
        let expected =
            [(10, words([0, 0xFFFF_0008, 0x1_FFFE_0010])), (20, words([0xFFFF_0000, 0xFFFF_0000, 2]))];
        assert_eq!(offsets.patches(&[(tags[0], 10), (tags[1], 20)].into()), expected);
    }
}
