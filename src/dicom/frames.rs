//! The place of each frame in the stored object (PS3.5 §8 and §A.4).

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::dicom::attributes::Vr;
use crate::dicom::failure::Warning;
use crate::dicom::scan::{EventKind, Outline, ScanEvent};
use crate::dicom::tags;
use crate::dicom::transfer_syntax;

/// The warning about frames that are missing.
const FEWER: &str = "it holds fewer frames than Number of Frames says";

/// Bytes of an item's header.
const ITEM_HEADER: u64 = 8;

/// The layout of the pixels of an instance (PS3.3 §C.7.6.3): its attributes, or what the frames themselves
/// prove where these differ (see [`crate::dicom::pixel_layout`]).
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
    /// Photometric Interpretation (0028,0004), upper case, as it is true of the stored frames.
    pub photometric: String,
    /// Planar Configuration (0028,0006) is 1.
    pub is_planar: bool,
    /// Number of Frames (0028,0008), 1 if it is absent; once the frames are located, their number
    /// ([`FrameTable::count`]).
    pub number_of_frames: u32,
}

impl PixelLayout {
    /// The samples of one decoded frame, at most as many as 64 bits can count.
    pub fn frame_samples(&self) -> u64 {
        u64::from(self.rows).saturating_mul(self.columns.into()).saturating_mul(self.samples.into())
    }

    /// Bytes of one decoded frame, at most as many as 64 bits can count.
    pub fn frame_bytes(&self) -> u64 {
        self.frame_samples().saturating_mul(self.bits_allocated.into()).div_ceil(8)
    }

    /// Whether native pixels side by side share their chrominance: two luminances stand before both
    /// chrominances (PS3.3 §C.7.6.3.1.2).
    pub fn has_shared_chrominance(&self) -> bool {
        matches!(self.photometric.as_str(), "YBR_FULL_422" | "YBR_PARTIAL_422") && self.samples == 3
    }

    /// Bits of one native frame; `None` if they cannot be counted.
    pub fn native_frame_bits(&self) -> Option<u64> {
        let samples = if self.has_shared_chrominance() { 2 } else { self.samples };
        u64::from(self.rows)
            .checked_mul(self.columns.into())?
            .checked_mul(samples.into())?
            .checked_mul(self.bits_allocated.into())
    }

    /// The layout with High Bit just above Bits Stored, as encoded and decoded frames have it.
    pub fn with_usual_high_bit(&self) -> Self {
        Self { high_bit: self.bits_stored.saturating_sub(1), ..self.clone() }
    }
}

/// The frame table of an instance: where its frames are. Offsets are in bytes from the start of the stored
/// object; in a deflated object, from the start of the object with its data set inflated.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum FrameTable {
    /// There are no frames.
    None,
    /// Uncompressed frames one after the other, without gaps.
    Native {
        /// The first byte of the first frame.
        offset: u64,
        /// Bits of one frame; not a multiple of 8 only when Bits Allocated is 1.
        frame_bits: u64,
        /// The number of frames that are there; not more than Number of Frames.
        count: u32,
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

impl FrameTable {
    /// The number of frames that are there. [`PixelLayout::number_of_frames`] of the same record is this
    /// number; in metadata, Number of Frames is as it was sent.
    pub fn count(&self) -> u32 {
        match self {
            Self::None => 0,
            Self::Native { count, .. } => *count,
            Self::Encapsulated { fragments, first_fragments } if first_fragments.is_empty() => {
                fragments.len() as u32
            }
            Self::Encapsulated { first_fragments, .. } => first_fragments.len() as u32,
        }
    }

    /// The byte ranges that make up frame `index` (from 0), in order; empty if there is no such frame.
    ///
    /// A native frame is one range, rounded outwards to whole bytes.
    pub fn ranges(&self, index: u32) -> Vec<Range<u64>> {
        match self {
            Self::None => Vec::new(),
            Self::Native { count, .. } if index >= *count => Vec::new(),
            Self::Native { offset, frame_bits, .. } => {
                let from = u64::from(index) * frame_bits;
                let bytes = offset + from / 8..offset + (from + frame_bits).div_ceil(8);
                vec![bytes]
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
/// (7FE0,0001), the Basic Offset Table, one fragment a frame if the counts agree, one frame of all fragments
/// if there is one frame (and for video), or else by the fragments that begin as a codestream begins.
///
/// If more codestreams begin than there are frames by Number of Frames, or only one does, they are the
/// frames. Frames that are missing or incomplete are not in the table. In both cases there is a warning.
///
/// PS3.5 §8, §A.4; PS3.3 §C.7.6.3.1.8.
pub fn locate(outline: &Outline, layout: &PixelLayout) -> (FrameTable, Option<Warning>) {
    let mut depth = 0;
    for event in &outline.events {
        match event.kind {
            EventKind::Sequence => depth += 1,
            EventKind::SequenceEnd => depth -= 1,
            EventKind::Bulk if depth == 0 && tags::is_pixel_data(event.tag) => {
                let is_native = outline.fragments.is_empty();
                return if is_native { native(event, layout) } else { encapsulated(outline, layout) };
            }
            EventKind::Encapsulated if depth == 0 && event.tag == tags::PIXEL_DATA => {
                return encapsulated(outline, layout);
            }
            _ => {}
        }
    }
    (FrameTable::None, None)
}

fn native(pixels: &ScanEvent, layout: &PixelLayout) -> (FrameTable, Option<Warning>) {
    // The order of its samples is defined for compressed pixels only.
    let is_ordered = layout.photometric != "YBR_PARTIAL_420";
    let Some(frame_bits) = layout.native_frame_bits().filter(|&bits| bits > 0 && is_ordered) else {
        return (FrameTable::None, warning("the size of its frames is unknown"));
    };
    let available = u128::from(pixels.length) * 8 / u128::from(frame_bits);
    let count = u32::try_from(available).unwrap_or(u32::MAX).min(layout.number_of_frames);
    let padded_bytes = (u128::from(count) * u128::from(frame_bits)).div_ceil(8).next_multiple_of(2);
    let fault = if count < layout.number_of_frames {
        warning("it is too short for its frames")
    } else if available > count.into() && u128::from(pixels.length) > padded_bytes {
        warning("it is longer than its frames")
    } else {
        None
    };
    // Bytes (OB) have no byte order, in whatever transfer syntax (PS3.5 §7.3).
    let is_big_endian = pixels.is_big_endian && pixels.vr != Some(Vr(*b"OB"));
    let frames = FrameTable::Native { offset: pixels.offset, frame_bits, count, is_big_endian };
    (frames, fault)
}

fn encapsulated(outline: &Outline, layout: &PixelLayout) -> (FrameTable, Option<Warning>) {
    let fragments = &outline.fragments;
    let count = layout.number_of_frames as usize;
    let frames = |first_fragments: Vec<u32>| {
        let is_one_each = first_fragments.len() == fragments.len();
        let first_fragments = if is_one_each { Vec::new() } else { first_fragments };
        FrameTable::Encapsulated { fragments: fragments.clone(), first_fragments }
    };
    if fragments.is_empty() {
        return (FrameTable::None, warning("it holds no fragments"));
    }
    if transfer_syntax::is_video(&outline.transfer_syntax) {
        // A video is one stream, whatever its number of pictures and fragments (PS3.5 §A.4.5).
        return (frames(vec![0]), None);
    }
    let syntax = outline.transfer_syntax.as_str();
    if transfer_syntax::is_native_little_endian(syntax) || transfer_syntax::is_big_endian(syntax) {
        return (FrameTable::None, warning("it is encapsulated, and the encoding of its frames is unknown"));
    }
    let table = offset_table(outline);
    let by_table = table.as_ref().and_then(|offsets| fragments_at(offsets, fragments));
    if let Some(first_fragments) = by_table.filter(|first| first.len() == count) {
        return (frames(first_fragments), None);
    }
    let fault = table.and(warning("its offset table does not point at its frames"));
    // Without a codestream at the start of the first fragment, no others are looked for.
    let starts = &outline.codestream_starts;
    let codestreams = if starts.first() == Some(&0) { starts.len() } else { 0 };
    if codestreams > count {
        return (frames(starts.clone()), warning("it holds more frames than Number of Frames says"));
    }
    if count == 1 {
        return (frames(vec![0]), fault);
    }
    if fragments.len() == count && codestreams != 1 {
        return (frames(Vec::new()), fault);
    }
    if codestreams > 0 {
        let missing = if codestreams < count { warning(FEWER) } else { None };
        return (frames(starts.clone()), missing.or(fault));
    }
    if fragments.len() < count {
        return (frames(Vec::new()), warning(FEWER));
    }
    (FrameTable::None, warning("its frames cannot be told apart"))
}

/// The offsets of the frames, from the first fragment's item; `None` if there is no table.
fn offset_table(outline: &Outline) -> Option<Vec<u64>> {
    let bytes_of = |event: &ScanEvent| match &event.kind {
        EventKind::Value(range) => outline.head.get(range.clone()),
        _ => None,
    };
    let extended =
        outline.events.iter().rfind(|event| event.tag == tags::EXTENDED_OFFSET_TABLE).and_then(bytes_of);
    if let Some(bytes) = extended.filter(|bytes| !bytes.is_empty()) {
        return Some(bytes.as_chunks().0.iter().map(|&offset| u64::from_le_bytes(offset)).collect());
    }
    let basic = outline.head.get(outline.basic_offset_table.clone()?).filter(|bytes| !bytes.is_empty())?;
    Some(basic.as_chunks().0.iter().map(|&offset| u32::from_le_bytes(offset).into()).collect())
}

/// The index of the fragment at each offset; `None` unless all are at fragments, ascending from the first.
fn fragments_at(offsets: &[u64], fragments: &[(u64, u32)]) -> Option<Vec<u32>> {
    let base = fragments.first()?.0.checked_sub(ITEM_HEADER)?;
    let mut items = (0u32..).zip(fragments).map(|(index, &(from, _))| (index, from - ITEM_HEADER - base));
    let at = |&offset: &u64| items.find(|&(_, item)| item >= offset).filter(|&(_, item)| item == offset);
    let first_fragments: Vec<u32> =
        offsets.iter().map(at).map(|found| Some(found?.0)).collect::<Option<_>>()?;
    (first_fragments.first() == Some(&0)).then_some(first_fragments)
}

fn warning(reason: &str) -> Option<Warning> {
    Some(Warning { tag: tags::PIXEL_DATA, reason: reason.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dicom::build::DataSet;
    use crate::dicom::scan::tests::scan;

    const START: &[u8] = &[0xFF, 0xD8, 0xFF, 0xE0];
    const REST: &[u8] = &[1, 2, 3, 4, 5, 6];

    fn layout(number_of_frames: u32, bits_allocated: u16) -> PixelLayout {
        PixelLayout {
            rows: 3,
            columns: 5,
            samples: 1,
            bits_allocated,
            bits_stored: bits_allocated,
            high_bit: bits_allocated - 1,
            is_signed: false,
            photometric: "MONOCHROME2".into(),
            is_planar: false,
            number_of_frames,
        }
    }

    fn icon_then(set: DataSet) -> DataSet {
        let icon = DataSet::explicit().element(0x7FE0_0010, "OB", &[9; 4]);
        let start = DataSet::explicit().text(0x0008_0005, "CS", "").sequence(0x0088_0200, &[icon]);
        start.raw(&set.bytes())
    }

    #[test]
    fn native_frames_follow_each_other_without_gaps() {
        for (bits, frames, second, last) in
            [(8, 2, 15..30, 15..30), (16, 3, 30..60, 60..90), (1, 9, 1..4, 15..17)]
        {
            let length = (15 * usize::from(bits) * frames as usize).div_ceil(8).next_multiple_of(2);
            let set = icon_then(DataSet::explicit().element(0x7FE0_0010, "OW", &vec![0; length]));
            let file = set.file(transfer_syntax::EXPLICIT_VR_LITTLE_ENDIAN);
            let start = (file.len() - length) as u64;
            let (located, warning) = locate(&scan(&file).unwrap(), &layout(frames, bits));
            let relative = |index| {
                let ranges: Vec<_> = located.ranges(index);
                ranges.into_iter().map(|range| range.start - start..range.end - start).collect::<Vec<_>>()
            };
            assert_eq!((relative(1), relative(frames - 1)), (vec![second], vec![last]), "{bits} bits");
            assert_eq!((located.ranges(frames), warning), (vec![], None));
        }
    }

    #[test]
    fn frames_that_are_not_all_there_cannot_be_asked_for() {
        let set = DataSet::explicit().text(0x0008_0005, "CS", "").element(0x7FE0_0010, "OW", &[0; 59]);
        let (located, warning) = locate(&scan(&set.bytes()).unwrap(), &layout(3, 16));
        assert_eq!((located.ranges(1).len(), located.ranges(2).len()), (1, 0));
        assert!(warning.is_some());
    }

    #[test]
    fn a_warning_tells_of_pixels_beyond_the_last_frame() {
        for (frames, bits, length, is_warned) in [
            (2, 8, 30, false),
            (1, 8, 16, false),
            (1, 8, 30, true),
            (1, 16, 58, false),
            (1, 16, 60, true),
            (3, 1, 6, false),
        ] {
            let set =
                DataSet::explicit().text(0x0008_0005, "CS", "").element(0x7FE0_0010, "OW", &vec![0; length]);
            let (located, warning) = locate(&scan(&set.bytes()).unwrap(), &layout(frames, bits));
            assert_eq!((located.count(), warning.is_some()), (frames, is_warned), "{frames} {length}");
        }
    }

    #[test]
    fn encapsulated_frames_have_no_native_name() {
        let set = DataSet::explicit().text(0x0008_0005, "CS", "").encapsulated(&[&[], REST]);
        for syntax in
            [transfer_syntax::EXPLICIT_VR_LITTLE_ENDIAN, transfer_syntax::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN]
        {
            let outline = Outline {
                transfer_syntax: syntax.to_owned(),
                ..scan(&set.clone().file(transfer_syntax::EXPLICIT_VR_LITTLE_ENDIAN)).unwrap()
            };
            let (located, warning) = locate(&outline, &layout(1, 8));
            assert_eq!((located, warning.is_some()), (FrameTable::None, true), "{syntax}");
        }
    }

    #[test]
    fn subsampled_colour_takes_two_samples_a_pixel() {
        let colour = PixelLayout { samples: 3, photometric: "YBR_FULL_422".into(), ..layout(1, 8) };
        assert_eq!(colour.native_frame_bits(), Some(3 * 5 * 2 * 8));
        assert_eq!(
            PixelLayout { photometric: "RGB".into(), ..colour }.native_frame_bits(),
            Some(3 * 5 * 3 * 8)
        );
        let endless = PixelLayout { rows: u32::MAX, columns: u32::MAX, samples: 9, ..layout(1, 64) };
        assert_eq!(endless.native_frame_bits(), None);
    }

    #[test]
    fn fragments_are_told_apart_by_table_by_count_or_by_codestream() {
        let bot =
            |offsets: &[u32]| offsets.iter().flat_map(|offset| offset.to_le_bytes()).collect::<Vec<_>>();
        let two_and_one: [&[u8]; 3] = [START, REST, START];
        let three: [&[u8]; 3] = [REST, REST, REST];
        for (claim, table, fragments, frames, expected, is_warned) in [
            ("by table", bot(&[0, 28]), three, 2, Some(vec![0, 2]), false),
            ("by table, one each", bot(&[0, 14, 28]), three, 3, Some(vec![]), false),
            ("by count", bot(&[]), three, 3, Some(vec![]), false),
            ("by count, the table points nowhere", bot(&[0, 13, 28]), three, 3, Some(vec![]), true),
            ("by count, the table descends", bot(&[0, 28, 14]), three, 3, Some(vec![]), true),
            ("a single frame", bot(&[]), three, 1, Some(vec![0]), false),
            ("a single frame, table", bot(&[0]), three, 1, Some(vec![0]), false),
            ("by codestreams", bot(&[]), two_and_one, 2, Some(vec![0, 2]), false),
            ("by codestreams, the table is short", bot(&[0]), two_and_one, 2, Some(vec![0, 2]), true),
            ("more codestreams than one frame", bot(&[]), two_and_one, 1, Some(vec![0, 2]), true),
            ("more codestreams, by table", bot(&[0, 20]), two_and_one, 1, Some(vec![0, 2]), true),
            ("more codestreams than frames", bot(&[]), [START; 3], 2, Some(vec![]), true),
            ("fewer codestreams than frames", bot(&[]), two_and_one, 5, Some(vec![0, 2]), true),
            ("one codestream in as many fragments", bot(&[]), [START, REST, REST], 3, Some(vec![0]), true),
            ("one codestream in one frame", bot(&[]), [START, REST, REST], 1, Some(vec![0]), false),
            ("more frames than fragments", bot(&[]), three, 4, Some(vec![]), true),
            ("not at all", bot(&[]), three, 2, None, true),
        ] {
            let items = [&table[..], fragments[0], fragments[1], fragments[2]];
            let set = DataSet::explicit().text(0x0008_0005, "CS", "").encapsulated(&items);
            let (located, warning) =
                locate(&scan(&set.file(transfer_syntax::JPEG_BASELINE8_BIT)).unwrap(), &layout(frames, 8));
            let found = match located {
                FrameTable::Encapsulated { first_fragments, .. } => Some(first_fragments),
                _ => None,
            };
            assert_eq!((found, warning.is_some()), (expected, is_warned), "{claim}");
        }
    }

    #[test]
    fn a_video_is_one_frame_however_it_is_cut() {
        let table = [[0; 4], [14, 0, 0, 0]].concat();
        for items in [[&table, REST, REST], [&[], REST, REST], [&table[..4], REST, REST]] {
            let file = DataSet::explicit().text(0x0008_0005, "CS", "").encapsulated(&items);
            let (located, warning) =
                locate(&scan(&file.file(transfer_syntax::MPEG4HP41)).unwrap(), &layout(2, 8));
            assert_eq!((located.count(), located.ranges(0).len(), warning), (1, 2, None));
        }
    }

    #[test]
    fn the_extended_offset_table_goes_first() {
        let offsets: Vec<u8> = [0u64, 26].iter().flat_map(|offset| offset.to_le_bytes()).collect();
        let set = DataSet::explicit().text(0x0008_0005, "CS", "").element(0x7FE0_0001, "OV", &offsets);
        let file =
            set.encapsulated(&[&[], START, REST, REST, REST]).file(transfer_syntax::JPEG_BASELINE8_BIT);
        let (located, warning) = locate(&scan(&file).unwrap(), &layout(2, 8));
        assert_eq!(warning, None);
        let frame: Vec<&[u8]> = located
            .ranges(0)
            .into_iter()
            .map(|range| &file[range.start as usize..range.end as usize])
            .collect();
        assert_eq!(frame, [START, REST]);
        assert_eq!((located.ranges(1).len(), located.ranges(2).len()), (2, 0));
    }
}
