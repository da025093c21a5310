//! The offsets of frames in encapsulated Pixel Data: the Basic Offset Table, or the Extended Offset Table
//! where 32 bits may not suffice (PS3.5 §A.4, PS3.3 §C.7.6.3.1.8).

use std::collections::BTreeMap;

use crate::archive::derived::transcode::ITEM_HEADER;
use crate::dicom::attributes::Tag;
use crate::dicom::derived::RATIO_CHARACTERS;
use crate::dicom::explicit::{EncodedElement, OffsetTableSpace};
use crate::dicom::frames::PixelLayout;
use crate::dicom::tags;

/// The most bytes of the headers of a fragment and of any codestream in it: those of baseline JPEG are the
/// largest.
const MOST_HEADER_BYTES: u64 = 1024;

/// The most offsets that are held until they are written.
const BATCH_FRAMES: usize = 4096;

/// An offset in the file, and the bytes to write over those at the offset.
pub(super) type Patch = (u64, Vec<u8>);

/// The frames that are written so far, each in one fragment.
pub(super) struct Offsets {
    number_of_frames: u32,
    uncompressed_bytes: u64,
    /// The most bytes that the frames can have together once they are encoded.
    most_bytes: u64,
    /// The offsets and lengths of the last frames, which are not in the file yet.
    starts: Vec<u64>,
    lengths: Vec<u64>,
    /// The number of frames before these.
    written_frames: u64,
    compressed_bytes: u64,
    /// The offset of the next fragment, counted from the first fragment.
    next: u64,
}

impl Offsets {
    /// The offsets before any frame is written.
    pub(super) fn new(layout: &PixelLayout) -> Self {
        // RLE takes a byte for a single bit (PS3.5 §G.2).
        let most_frame_bytes =
            layout.frame_samples().saturating_mul(layout.bits_allocated.div_ceil(8).into());
        let frames = u64::from(layout.number_of_frames);
        Self {
            number_of_frames: layout.number_of_frames,
            uncompressed_bytes: layout.frame_bytes().saturating_mul(frames),
            most_bytes: most_frame_bytes
                .saturating_mul(2)
                .saturating_add(MOST_HEADER_BYTES)
                .saturating_mul(frames),
            starts: Vec::new(),
            lengths: Vec::new(),
            written_frames: 0,
            compressed_bytes: 0,
            next: 0,
        }
    }

    /// Whether the frames may reach beyond 4 GiB. No codec doubles the size of the frames of a usual image,
    /// headers left out; in JPEG-LS, frames that are made for it can take four times their size.
    fn is_extended(&self) -> bool {
        self.most_bytes > u32::MAX.into()
    }

    /// The space for the tables.
    pub(super) fn space(&self) -> OffsetTableSpace {
        if self.is_extended() {
            OffsetTableSpace::Extended(self.number_of_frames * 8)
        } else {
            OffsetTableSpace::Basic(self.number_of_frames * 4)
        }
    }

    /// Adds the next frame; `None` if its offset has no room in the table.
    pub(super) fn push(&mut self, fragment_bytes: u32) -> Option<()> {
        if !self.is_extended() {
            u32::try_from(self.next).ok()?;
        }
        self.starts.push(self.next);
        self.lengths.push(fragment_bytes.into());
        self.compressed_bytes += u64::from(fragment_bytes);
        self.next += ITEM_HEADER + u64::from(fragment_bytes);
        Some(())
    }

    /// Whether the batch of offsets that are held is full, and to be written.
    pub(super) fn is_batch_full(&self) -> bool {
        self.starts.len() >= BATCH_FRAMES
    }

    /// The offset of the Basic Offset Table in the file; `None` if there is an Extended Offset Table.
    pub(super) fn basic_at(&self, places: &BTreeMap<Tag, u64>) -> Option<u64> {
        if self.is_extended() { None } else { places.get(&tags::PIXEL_DATA).copied() }
    }

    /// Takes the entries of the frames that are not in the file yet: `places` are those of the plan.
    pub(super) fn take_patches(&mut self, places: &BTreeMap<Tag, u64>) -> Vec<Patch> {
        let (starts, lengths) = (std::mem::take(&mut self.starts), std::mem::take(&mut self.lengths));
        let before = self.written_frames;
        self.written_frames += starts.len() as u64;
        let words = |numbers: &[u64]| numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        let values: Vec<(Tag, u64, Vec<u8>)> = if self.is_extended() {
            vec![
                (tags::EXTENDED_OFFSET_TABLE, before * 8, words(&starts)),
                (tags::EXTENDED_OFFSET_TABLE_LENGTHS, before * 8, words(&lengths)),
            ]
        } else {
            let table = starts.iter().flat_map(|&start| (start as u32).to_le_bytes()).collect();
            vec![(tags::PIXEL_DATA, before * 4, table)]
        };
        values.into_iter().filter_map(|(tag, at, value)| Some((places.get(&tag)? + at, value))).collect()
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
        let ratio = self.uncompressed_bytes as f64 / self.compressed_bytes.max(1) as f64;
        Some((place, format!("{:.2}", ratio.min(999_999.0)).into_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dicom::attributes::Vr;

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
        assert_eq!(offsets.space(), OffsetTableSpace::Basic(12));
        let places = [(tags::PIXEL_DATA, 7)].into();
        [10, 20].into_iter().for_each(|length| offsets.push(length).unwrap());
        let table = |starts: &[u32]| starts.iter().flat_map(|start| start.to_le_bytes()).collect::<Vec<_>>();
        assert_eq!(offsets.take_patches(&places), [(7, table(&[0, 18]))]);
        offsets.push(1024).unwrap();
        assert_eq!(offsets.take_patches(&places), [(15, table(&[46]))], "after those that were taken");
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
    fn some_thousand_offsets_are_held_at_most() {
        let frames = 3 * BATCH_FRAMES as u32 + 5;
        let mut offsets = Offsets::new(&layout(1, frames));
        let mut table = vec![0; 4 * frames as usize];
        let mut fill = |patches: Vec<Patch>| {
            for (at, bytes) in patches {
                table[at as usize..at as usize + bytes.len()].copy_from_slice(&bytes);
            }
        };
        let places = [(tags::PIXEL_DATA, 0)].into();
        for _ in 0..frames {
            offsets.push(2).unwrap();
            assert!(offsets.starts.len() <= BATCH_FRAMES);
            if offsets.is_batch_full() {
                fill(offsets.take_patches(&places));
            }
        }
        fill(offsets.take_patches(&places));
        let expected: Vec<u8> = (0..frames).flat_map(|index| (10 * index).to_le_bytes()).collect();
        assert!(table == expected);
    }

    #[test]
    fn what_may_be_too_large_for_32_bits_gets_the_extended_table() {
        let mut offsets = Offsets::new(&layout(1024, 1025));
        assert_eq!(offsets.space(), OffsetTableSpace::Extended(8 * 1025));
        [0xFFFF_0000, 0xFFFF_0000, 2].into_iter().for_each(|length| offsets.push(length).unwrap());
        let words = |numbers: [u64; 3]| numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        // Headers are the largest part of a frame of one row.
        assert_eq!(Offsets::new(&layout(1, 800_000)).space(), OffsetTableSpace::Basic(3_200_000));
        assert_eq!(Offsets::new(&layout(1, 900_000)).space(), OffsetTableSpace::Extended(7_200_000));
        let expected =
            [(10, words([0, 0xFFFF_0008, 0x1_FFFE_0010])), (20, words([0xFFFF_0000, 0xFFFF_0000, 2]))];
        let places = [(tags::EXTENDED_OFFSET_TABLE, 10), (tags::EXTENDED_OFFSET_TABLE_LENGTHS, 20)];
        assert_eq!(offsets.take_patches(&places.into()), expected);
    }

    #[test]
    fn an_offset_is_never_cut() {
        let mut offsets = Offsets::new(&layout(1, 3));
        offsets.push(u32::MAX - 9).unwrap();
        offsets.push(u32::MAX).unwrap();
        assert_eq!(offsets.push(2), None);
    }
}
