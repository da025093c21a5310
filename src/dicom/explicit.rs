//! Rewrites a scanned object as a file in Explicit VR Little Endian, as a plan that holds nothing large
//! (PS3.5 §A.2, PS3.10 §7.1).

use crate::dicom::attributes::{Tag, Vr};
use crate::dicom::dictionary;
use crate::dicom::scan::{Event, Kind, Outline, has_short_length};

/// The transfer syntax of the files that are written.
pub const TRANSFER_SYNTAX: &str = "1.2.840.10008.1.2.1";
/// Implementation Class UID of this software, of its own by PS3.5 §B.2. It is part of every stored object that came by
/// C-STORE, so it must never change.
pub const IMPLEMENTATION_CLASS_UID: &str = "2.25.182791676989946688295138610626380437434";
const IMPLEMENTATION_VERSION_NAME: &str = "CUSPID";

const SOP_CLASS: Tag = Tag(0x0008_0016);
const SOP_INSTANCE: Tag = Tag(0x0008_0018);
const PHOTOMETRIC_INTERPRETATION: Tag = Tag(0x0028_0004);
const PLANAR_CONFIGURATION: Tag = Tag(0x0028_0006);
const BITS_ALLOCATED: Tag = Tag(0x0028_0100);
const PIXEL_REPRESENTATION: Tag = Tag(0x0028_0103);
const EXTENDED_OFFSET_TABLE: Tag = Tag(0x7FE0_0001);
const EXTENDED_OFFSET_TABLE_LENGTHS: Tag = Tag(0x7FE0_0002);
const PIXEL_DATA: Tag = Tag(0x7FE0_0010);

const ITEM: u32 = 0xFFFE_E000;
const ITEM_DELIMITER: u32 = 0xFFFE_E00D;
const SEQUENCE_DELIMITER: u32 = 0xFFFE_E0DD;
const UNDEFINED: u32 = u32::MAX;

/// The next bytes of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Segment {
    /// These.
    Bytes(Vec<u8>),
    /// Bytes of the stored object; of a deflated one, of the object with its data set inflated.
    Copy {
        /// The first byte.
        offset: u64,
        /// How many.
        length: u64,
        /// Bytes of a word whose order is to be reversed: 2, 4 or 8; 1 to copy them as they are. A rest that
        /// is no whole word stays as it is.
        swap: u8,
    },
    /// All decoded frames, one after the other, little endian.
    PixelData {
        /// How many bytes.
        length: u64,
    },
}

impl Segment {
    /// Bytes that it takes in the file.
    pub fn length(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Copy { length, .. } | Self::PixelData { length } => *length,
        }
    }
}

/// What the frames of encapsulated Pixel Data are once they are decoded (PS3.3 §C.7.6.3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decoded {
    /// Bytes of all frames.
    pub length: u64,
    /// Bits Allocated: 1, 8, 16 or 32.
    pub bits_allocated: u16,
    /// Samples per Pixel.
    pub samples: u16,
    /// Photometric Interpretation, which decoding may have changed.
    pub photometric: String,
    /// Planar Configuration is 1; matters for several samples only.
    pub is_planar: bool,
}

/// Why an object cannot be written in this transfer syntax.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Pixel Data is encapsulated, and its frames were not decoded.
    #[error("pixel data is encapsulated and was not decoded")]
    NotDecoded,
    /// The length of a value is stated in 32 bits.
    #[error("a value of {length} bytes is too long for its 32-bit length")]
    TooLong {
        /// Bytes of the value.
        length: u64,
    },
}

/// Plans the file that holds the scanned object in Explicit VR Little Endian.
///
/// `decoded` replaces encapsulated Pixel Data; it is not looked at if Pixel Data is native. VRs that were not
/// sent come from the dictionary. Sequences and items are written with delimiters. Group lengths are left
/// out, as they would be wrong, and so is what is encapsulated in items (a compressed icon), as it cannot be in this
/// transfer syntax.
///
/// The plan takes memory by the size of `outline.head`, never by that of a bulk value.
///
/// # Errors
/// [`Error::NotDecoded`] if there are encapsulated frames and no `decoded`; [`Error::TooLong`] if they take
/// 4 GiB or more.
pub fn plan(outline: &Outline, decoded: Option<&Decoded>) -> Result<Vec<Segment>, Error> {
    let decoded = decoded.filter(|_| !outline.fragments.is_empty());
    let mut writer = Writer {
        outline,
        is_signed: number(outline, PIXEL_REPRESENTATION) == Some(1),
        bits_allocated: number(outline, BITS_ALLOCATED).unwrap_or(16),
        bytes: file_meta(outline),
        segments: Vec::new(),
    };
    let mut changed = decoded.map(changed_elements).unwrap_or_default().into_iter().peekable();
    let mut depth = 0usize;
    for event in &outline.events {
        if depth == 0 && !matches!(event.kind, Kind::SequenceEnd) {
            let mut is_replaced = false;
            while let Some((tag, vr, value)) = changed.next_if(|(tag, ..)| *tag <= event.tag) {
                is_replaced |= tag == event.tag;
                writer.element(tag, vr, &value);
            }
            is_replaced |= decoded.is_some() && is_offset_table(event.tag);
            if is_replaced && matches!(event.kind, Kind::Value(_) | Kind::Bulk) {
                continue;
            }
        }
        match event.kind {
            Kind::Sequence => depth += 1,
            Kind::SequenceEnd => depth = depth.saturating_sub(1),
            _ => {}
        }
        match event.kind {
            Kind::Encapsulated if depth == 0 && event.tag == PIXEL_DATA => {
                writer.pixel_data(decoded.ok_or(Error::NotDecoded)?)?;
            }
            _ => writer.event(event)?,
        }
    }
    Ok(writer.finish())
}

fn is_offset_table(tag: Tag) -> bool {
    [EXTENDED_OFFSET_TABLE, EXTENDED_OFFSET_TABLE_LENGTHS].contains(&tag)
}

/// The value of an attribute that is not nested.
fn top_level(outline: &Outline, tag: Tag) -> Option<(&Event, &[u8])> {
    let mut depth = 0usize;
    for event in &outline.events {
        match &event.kind {
            Kind::Sequence => depth += 1,
            Kind::SequenceEnd => depth = depth.saturating_sub(1),
            Kind::Value(range) if depth == 0 && event.tag == tag => {
                return Some((event, outline.head.get(range.clone())?));
            }
            _ => {}
        }
    }
    None
}

fn number(outline: &Outline, tag: Tag) -> Option<u16> {
    let (event, value) = top_level(outline, tag)?;
    let bytes = *value.first_chunk()?;
    Some(if event.is_big_endian { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) })
}

/// Preamble, prefix and group 0002 (PS3.10 §7.1).
fn file_meta(outline: &Outline) -> Vec<u8> {
    let uid = |tag| {
        let value = top_level(outline, tag).map_or(&[][..], |(_, value)| value);
        let end = value.iter().rposition(|byte| !b"\0 ".contains(byte)).map_or(0, |last| last + 1);
        &value[..end]
    };
    let mut meta = Vec::new();
    push_element(&mut meta, Tag(0x0002_0001), Vr(*b"OB"), &[0, 1]);
    push_element(&mut meta, Tag(0x0002_0002), Vr(*b"UI"), uid(SOP_CLASS));
    push_element(&mut meta, Tag(0x0002_0003), Vr(*b"UI"), uid(SOP_INSTANCE));
    push_element(&mut meta, Tag(0x0002_0010), Vr(*b"UI"), TRANSFER_SYNTAX.as_bytes());
    push_element(&mut meta, Tag(0x0002_0012), Vr(*b"UI"), IMPLEMENTATION_CLASS_UID.as_bytes());
    push_element(&mut meta, Tag(0x0002_0013), Vr(*b"SH"), IMPLEMENTATION_VERSION_NAME.as_bytes());
    let mut bytes = [&[0; 128], b"DICM".as_slice()].concat();
    push_element(&mut bytes, Tag(0x0002_0000), Vr(*b"UL"), &(meta.len() as u32).to_le_bytes());
    bytes.append(&mut meta);
    bytes
}

/// The elements that decoding changes, in the order of their tags.
fn changed_elements(decoded: &Decoded) -> Vec<(Tag, Vr, Vec<u8>)> {
    let photometric = decoded.photometric.clone().into_bytes();
    let mut changed = vec![(PHOTOMETRIC_INTERPRETATION, Vr(*b"CS"), photometric)];
    if decoded.samples > 1 {
        let planar = u16::from(decoded.is_planar).to_le_bytes().to_vec();
        changed.push((PLANAR_CONFIGURATION, Vr(*b"US"), planar));
    }
    changed
}

struct Writer<'a> {
    outline: &'a Outline,
    is_signed: bool,
    bits_allocated: u16,
    bytes: Vec<u8>,
    segments: Vec<Segment>,
}

impl Writer<'_> {
    fn event(&mut self, event: &Event) -> Result<(), Error> {
        match &event.kind {
            Kind::Value(_) | Kind::Bulk if event.tag.element() == 0 => {}
            Kind::Value(range) => {
                let vr = self.vr(event);
                let mut value = self.outline.head.get(range.clone()).unwrap_or_default().to_vec();
                swap_words(&mut value, self.word_size(event, vr));
                self.element(event.tag, vr, &value);
            }
            Kind::Bulk => self.bulk(event)?,
            Kind::Encapsulated => {}
            Kind::Sequence => push_header(&mut self.bytes, event.tag, Vr(*b"SQ"), UNDEFINED),
            Kind::Item => self.item_header(ITEM, UNDEFINED),
            Kind::ItemEnd => self.item_header(ITEM_DELIMITER, 0),
            Kind::SequenceEnd => self.item_header(SEQUENCE_DELIMITER, 0),
        }
        Ok(())
    }

    fn element(&mut self, tag: Tag, vr: Vr, value: &[u8]) {
        push_element(&mut self.bytes, tag, vr, value);
    }

    fn item_header(&mut self, tag: u32, length: u32) {
        push_tag(&mut self.bytes, Tag(tag));
        self.bytes.extend_from_slice(&length.to_le_bytes());
    }

    fn bulk(&mut self, event: &Event) -> Result<(), Error> {
        let vr = self.vr(event);
        let swap = self.word_size(event, vr);
        self.value_header(event.tag, vr, event.length)?;
        self.segment(Segment::Copy { offset: event.offset, length: event.length, swap });
        self.pad(event.length);
        Ok(())
    }

    fn pixel_data(&mut self, decoded: &Decoded) -> Result<(), Error> {
        let vr = Vr(if decoded.bits_allocated > 8 { *b"OW" } else { *b"OB" });
        self.value_header(PIXEL_DATA, vr, decoded.length)?;
        self.segment(Segment::PixelData { length: decoded.length });
        self.pad(decoded.length);
        Ok(())
    }

    fn value_header(&mut self, tag: Tag, vr: Vr, length: u64) -> Result<(), Error> {
        let padded = length.next_multiple_of(2);
        let padded = u32::try_from(padded).ok().filter(|&padded| padded != UNDEFINED);
        push_header(&mut self.bytes, tag, vr, padded.ok_or(Error::TooLong { length })?);
        Ok(())
    }

    fn segment(&mut self, segment: Segment) {
        self.segments.push(Segment::Bytes(std::mem::take(&mut self.bytes)));
        self.segments.push(segment);
    }

    fn pad(&mut self, length: u64) {
        if !length.is_multiple_of(2) {
            self.bytes.push(0);
        }
    }

    fn vr(&self, event: &Event) -> Vr {
        event.vr.unwrap_or_else(|| dictionary::vr(event.tag, self.is_signed))
    }

    /// Bytes of the words whose order is to be reversed.
    fn word_size(&self, event: &Event, vr: Vr) -> u8 {
        match &vr.0 {
            _ if !event.is_big_endian => 1,
            // Pixels are written as numbers of their own size, whatever the words of OW are.
            b"OW" if event.tag == PIXEL_DATA && self.bits_allocated == 32 => 4,
            b"OW" if event.tag == PIXEL_DATA && self.bits_allocated == 64 => 8,
            b"AT" | b"OW" | b"SS" | b"US" => 2,
            b"FL" | b"OF" | b"OL" | b"SL" | b"UL" => 4,
            b"FD" | b"OD" | b"OV" | b"SV" | b"UV" => 8,
            _ => 1,
        }
    }

    fn finish(mut self) -> Vec<Segment> {
        if !self.bytes.is_empty() {
            self.segments.push(Segment::Bytes(self.bytes));
        }
        self.segments
    }
}

/// Reverses the bytes of each word of `size` bytes; a rest that is no whole word stays as it is.
pub fn swap_words(value: &mut [u8], size: u8) {
    if size > 1 {
        value.chunks_exact_mut(size.into()).for_each(<[u8]>::reverse);
    }
}

pub(crate) fn push_element(bytes: &mut Vec<u8>, tag: Tag, vr: Vr, value: &[u8]) {
    let padded = value.len().next_multiple_of(2);
    push_header(bytes, tag, vr, padded as u32);
    bytes.extend_from_slice(value);
    if padded > value.len() {
        let is_binary = matches!(&vr.0, b"OB" | b"UI" | b"UN");
        bytes.push(if is_binary { 0 } else { b' ' });
    }
}

pub(crate) fn push_header(bytes: &mut Vec<u8>, tag: Tag, vr: Vr, length: u32) {
    push_tag(bytes, tag);
    match u16::try_from(length) {
        Ok(length) if has_short_length(vr) => {
            bytes.extend_from_slice(&vr.0);
            bytes.extend_from_slice(&length.to_le_bytes());
        }
        _ => {
            // What is too long for a length of 16 bits goes as UN (PS3.5 §6.2.2).
            bytes.extend_from_slice(if has_short_length(vr) { b"UN" } else { &vr.0 });
            bytes.extend_from_slice(&[0, 0]);
            bytes.extend_from_slice(&length.to_le_bytes());
        }
    }
}

pub(crate) fn push_tag(bytes: &mut Vec<u8>, tag: Tag) {
    bytes.extend_from_slice(&tag.group().to_le_bytes());
    bytes.extend_from_slice(&tag.element().to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dicom::build::DataSet;
    use crate::dicom::scan::{Limits, Scanner};

    fn scanned(bytes: &[u8]) -> Outline {
        let limits = Limits {
            max_header_bytes: 1 << 20,
            max_sequence_depth: 16,
            max_elements: 1000,
            max_inflated_bytes: 0,
            max_deflate_ratio: 0,
        };
        let mut scanner = Scanner::new(limits);
        scanner.push(bytes).unwrap();
        scanner.finish().unwrap()
    }

    fn written(bytes: &[u8], decoded: Option<(&Decoded, &[u8])>) -> Vec<u8> {
        let segments = plan(&scanned(bytes), decoded.map(|(decoded, _)| decoded)).unwrap();
        let mut file = Vec::new();
        for segment in segments {
            let before = file.len();
            let length = segment.length();
            match segment {
                Segment::Bytes(bytes) => file.extend_from_slice(&bytes),
                Segment::Copy { offset, length, swap } => {
                    let from = offset as usize;
                    let mut value = bytes[from..from + length as usize].to_vec();
                    swap_words(&mut value, swap);
                    file.append(&mut value);
                }
                Segment::PixelData { .. } => file.extend_from_slice(decoded.unwrap().1),
            }
            assert_eq!(file.len() - before, length as usize);
        }
        file
    }

    /// The data set of a written file, its file meta information checked.
    fn data_set_of(file: &[u8]) -> Vec<u8> {
        let outline = scanned(file);
        assert_eq!((outline.transfer_syntax.as_str(), outline.warnings), (TRANSFER_SYNTAX, vec![]));
        let Kind::Value(group_length) = outline.file_meta[0].kind.clone() else { panic!("no group length") };
        let stated = u32::from_le_bytes(outline.head[group_length].try_into().unwrap());
        assert_eq!(u64::from(stated) + 128 + 4 + 12, outline.data_set_offset);
        file[outline.data_set_offset as usize..].to_vec()
    }

    #[test]
    fn every_encoding_becomes_the_same_explicit_data_set() {
        let pixels: Vec<u16> = (0..700).collect();
        let build = |start: DataSet, words: fn(u16) -> [u8; 2], is_delimited: bool| {
            let item = start.clone().text(0x0008_1150, "UI", "1.2.3").us(0x0028_0010, &[3]);
            let add = |set: DataSet, items: &[DataSet]| match is_delimited {
                true => set.delimited_sequence(0x0008_1140, "SQ", items),
                false => set.sequence(0x0008_1140, items),
            };
            let value: Vec<u8> = pixels.iter().flat_map(|&pixel| words(pixel)).collect();
            let start = start.text(0x0008_0016, "UI", "1.2.840").text(0x0008_0018, "UI", "1.2.3.45");
            add(start, &[item.clone(), item])
                .text(0x0009_0010, "LO", "ACME")
                .element(0x0009_1001, "UN", b"ab")
                .us(0x0028_0010, &[20])
                .us(0x0028_0100, &[16])
                .us(0x0028_0103, &[1])
                .element(0x0028_0106, "SS", &words(500))
                .element(0x7FE0_0010, "OW", &value)
        };
        let expected = build(DataSet::explicit(), u16::to_le_bytes, true).bytes();
        for (set, syntax) in [
            (build(DataSet::explicit(), u16::to_le_bytes, false), "1.2.840.10008.1.2.1"),
            (build(DataSet::implicit(), u16::to_le_bytes, false), "1.2.840.10008.1.2"),
            (build(DataSet::implicit(), u16::to_le_bytes, true), "1.2.840.10008.1.2"),
            (build(DataSet::big_endian(), u16::to_be_bytes, true), "1.2.840.10008.1.2.2"),
        ] {
            assert_eq!(data_set_of(&written(&set.file(syntax), None)), expected, "{syntax}");
        }
    }

    #[test]
    fn decoded_frames_take_the_place_of_fragments() {
        let image = |photometric: &str, planar: u16| {
            DataSet::explicit()
                .text(0x0008_0005, "CS", "ISO_IR 100")
                .us(0x0028_0002, &[3])
                .text(0x0028_0004, "CS", photometric)
                .us(0x0028_0006, &[planar])
                .us(0x0028_0010, &[3])
        };
        let compressed = image("YBR_FULL_422", 1)
            .element(0x7FE0_0001, "OV", &[0; 8])
            .encapsulated(&[&[], &[0xFF, 0xD8, 0xFF, 0xE0]])
            .file("1.2.840.10008.1.2.4.50");
        let decoded =
            Decoded { length: 9, bits_allocated: 8, samples: 3, photometric: "RGB".into(), is_planar: false };
        let file = written(&compressed, Some((&decoded, &[7; 9])));
        let expected = image("RGB", 0).element(0x7FE0_0010, "OB", &[7; 9]).bytes();
        assert_eq!(data_set_of(&file), expected);

        let outline = scanned(&compressed);
        assert_eq!(plan(&outline, None), Err(Error::NotDecoded));
        let large = Decoded { length: u64::from(u32::MAX), ..decoded };
        assert_eq!(plan(&outline, Some(&large)), Err(Error::TooLong { length: large.length }));
    }

    #[test]
    fn what_is_too_long_for_its_representation_goes_as_unknown() {
        for (size, expected) in [(60_000, b"DS"), (70_000, b"UN")] {
            let set =
                DataSet::implicit().text(0x0008_0005, "CS", "").element(0x3006_0050, "DS", &vec![b'1'; size]);
            let outline = scanned(&written(&set.file("1.2.840.10008.1.2"), None));
            let contour = outline.events.last().unwrap();
            assert_eq!((contour.vr, contour.length), (Some(Vr(*expected)), size as u64));
        }
    }

    #[test]
    fn pixels_of_32_bits_are_reversed_whole() {
        let set = DataSet::big_endian().us(0x0028_0100, &[32]).element(0x7FE0_0010, "OW", &[1, 2, 3, 4]);
        let file = written(&set.file("1.2.840.10008.1.2.2"), None);
        assert_eq!(file[file.len() - 4..], [4, 3, 2, 1]);
    }
}
