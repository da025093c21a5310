//! The size in a JPEG 2000 codestream (SIZ), and the place of the codestream in a JP2 or JPH file (ISO/IEC
//! 15444-1 §A.5.1 and §I).

use memchr::memmem;

use crate::dicom::marker_segments::MarkerSegments;

/// The first two markers of a codestream: SOC and SIZ.
const START_OF_CODESTREAM: [u8; 4] = [0xFF, 0x4F, 0xFF, 0x51];
/// The box that each JP2 and JPH file starts with.
const SIGNATURE: &[u8] = b"\0\0\0\x0CjP  \r\n\x87\n";
/// The marker of SIZ.
const SIZ: u8 = 0x51;
/// Bytes of SIZ before its components.
const FIXED_BYTES: usize = 36;
/// The most bits of a component (Table A.11).
const MAX_BITS: u8 = 38;

/// The size of an image and of its tiles on the reference grid, by axis: horizontal, vertical. All of it is
/// valid: image and tiles are not empty, and the image starts inside the first tile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Jpeg2000Size {
    /// The first point of the image.
    pub start: [u32; 2],
    /// The first point after the image.
    pub end: [u32; 2],
    /// The first point of the first tile.
    pub tile_start: [u32; 2],
    /// The size of a tile.
    pub tile: [u32; 2],
    /// The components, at least one.
    pub components: Vec<Jpeg2000Component>,
}

/// A component of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Jpeg2000Component {
    /// Bits of a sample, 1 to 38.
    pub bits: u16,
    /// Whether samples are signed.
    pub is_signed: bool,
    /// The distance of samples on the reference grid: horizontal, vertical.
    pub subsampling: [u8; 2],
}

impl Jpeg2000Size {
    /// Reads the size of a codestream, of which SIZ is the first segment; `None` if the size is not valid.
    pub fn of(codestream: &[u8]) -> Option<Self> {
        let segment = MarkerSegments::of(codestream).next().filter(|segment| segment.marker == SIZ)?;
        Self::read(segment.content)
    }

    fn read(content: &[u8]) -> Option<Self> {
        let field = |at: usize| Some(u32::from_be_bytes(*content.get(at..)?.first_chunk()?));
        let axes = |at: usize| Some([field(at)?, field(at + 4)?]);
        let (end, start, tile, tile_start) = (axes(2)?, axes(10)?, axes(18)?, axes(26)?);
        let count = u16::from_be_bytes(*content.get(34..)?.first_chunk()?);
        let components = content.get(FIXED_BYTES..)?.as_chunks().0.get(..count.into())?;
        let component = |&[depth, across, down]: &[u8; 3]| Jpeg2000Component {
            bits: u16::from(depth & 0x7F) + 1,
            is_signed: depth & 0x80 != 0,
            subsampling: [across, down],
        };
        let components: Vec<_> = components.iter().map(component).collect();
        let is_valid = |component: &Jpeg2000Component| {
            component.bits <= MAX_BITS.into() && component.subsampling.iter().all(|&step| step > 0)
        };
        let is_grid =
            (0..2).all(|axis| tile_start[axis] <= start[axis] && start[axis] < end[axis] && tile[axis] > 0);
        (is_grid && !components.is_empty() && components.iter().all(is_valid)).then_some(Self {
            start,
            end,
            tile_start,
            tile,
            components,
        })
    }

    /// Columns and rows of the image.
    pub fn extent(&self) -> [u32; 2] {
        [0, 1].map(|axis| self.end[axis] - self.start[axis])
    }

    /// The number of tiles, along each axis.
    pub fn tiles(&self) -> [u64; 2] {
        [0, 1].map(|axis| u64::from(self.end[axis] - self.tile_start[axis]).div_ceil(self.tile[axis].into()))
    }
}

/// Whether a frame begins as a codestream or as a JP2 or JPH file begins.
pub fn is_jpeg_2000(frame: &[u8]) -> bool {
    frame.starts_with(&START_OF_CODESTREAM) || frame.starts_with(SIGNATURE)
}

/// The offset of the codestream in a frame: in a JP2 or JPH file, of the content of its first `jp2c` box;
/// else of the first bytes that begin as a codestream. DICOM leaves the header of the file out (PS3.5
/// §8.2.4), but some writers do not.
pub fn codestream_offset(frame: &[u8]) -> Option<usize> {
    let of_file = if frame.starts_with(SIGNATURE) { box_content(frame, b"jp2c") } else { None };
    let is_start = |&offset: &usize| frame[offset..].starts_with(&START_OF_CODESTREAM);
    of_file.filter(is_start).or_else(|| memmem::find(frame, &START_OF_CODESTREAM))
}

/// The offset of the content of the first box of this type that is not within another one.
fn box_content(file: &[u8], wanted: &[u8; 4]) -> Option<usize> {
    let mut at = 0;
    loop {
        let [l3, l2, l1, l0, kind @ ..] = *file.get(at..)?.first_chunk::<8>()?;
        let (content, length) = match u32::from_be_bytes([l3, l2, l1, l0]) {
            1 => (at + 16, u64::from_be_bytes(*file.get(at + 8..)?.first_chunk()?)),
            // The last box extends to the end of the file.
            0 => (at + 8, u64::MAX),
            length => (at + 8, length.into()),
        };
        if kind == *wanted {
            return (content <= file.len()).then_some(content);
        }
        at = at.checked_add(usize::try_from(length).ok()?.max(8)).filter(|&next| next < file.len())?;
    }
}

/// The Photometric Interpretation of three components by the first Colour Specification box (`colr`) with an
/// enumerated colour space (§I.5.3.3) among the bytes before a codestream; `None` if there is none.
pub fn photometric_of_file(boxes: &[u8]) -> Option<&'static str> {
    let enumerated = |at: usize| {
        let space = boxes.get(at + 7..)?.first_chunk().copied().map(u32::from_be_bytes)?;
        (boxes[at + 4] == 1).then_some(space)
    };
    memmem::find_iter(boxes, b"colr").filter_map(enumerated).find_map(|space| match space {
        16 => Some("RGB"),
        18 => Some("YBR_FULL"),
        _ => None,
    })
}

/// Whether the bytes before a codestream hold a palette (§I.5.3.4): the samples of the codestream are then
/// numbers of colours.
pub fn has_palette(boxes: &[u8]) -> bool {
    memmem::find(boxes, b"pclr").is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(numbers: [u32; 8], components: &[[u8; 3]]) -> Vec<u8> {
        let numbers: Vec<u8> = numbers.iter().flat_map(|number| number.to_be_bytes()).collect();
        [&[0, 0], &numbers[..], &(components.len() as u16).to_be_bytes(), components.as_flattened()].concat()
    }

    #[test]
    fn only_a_size_that_can_be_is_read() {
        const GREY: [u8; 3] = [11, 1, 1];
        for (numbers, components, expected) in [
            ([13, 12, 3, 2, 5, 6, 1, 0], &[GREY][..], Some(([10, 10], [3, 2]))),
            ([13, 12, 3, 2, 5, 6, 4, 0], &[GREY], None),
            ([13, 12, 13, 2, 5, 6, 1, 0], &[GREY], None),
            ([13, 12, 3, 2, 0, 6, 1, 0], &[GREY], None),
            ([13, 12, 3, 2, 5, 6, 1, 0], &[[37, 1, 1]], Some(([10, 10], [3, 2]))),
            ([13, 12, 3, 2, 5, 6, 1, 0], &[[38, 1, 1]], None),
            ([13, 12, 3, 2, 5, 6, 1, 0], &[[0x7F, 1, 1]], None),
            ([13, 12, 3, 2, 5, 6, 1, 0], &[GREY, [7, 0, 1]], None),
            ([13, 12, 3, 2, 5, 6, 1, 0], &[], None),
        ] {
            let found = Jpeg2000Size::read(&content(numbers, components));
            let found = found.map(|size| (size.extent(), size.tiles()));
            assert_eq!(found, expected, "{numbers:?} {components:?}");
        }
        let whole = content([1, 1, 0, 0, 1, 1, 0, 0], &[GREY]);
        for length in 0..whole.len() {
            assert_eq!(Jpeg2000Size::read(&whole[..length]), None);
        }
    }

    #[test]
    fn a_codestream_is_found_behind_the_boxes_of_a_file() {
        let codestream = START_OF_CODESTREAM.as_slice();
        let boxed =
            |kind: &[u8], content: &[u8]| [&(8 + content.len() as u32).to_be_bytes(), kind, content].concat();
        // Bytes that begin as a codestream begins, and a type of a box, in another box.
        let other = boxed(b"uuid", &[codestream, b"jp2c", codestream].concat());
        for (file, expected) in [
            (codestream.to_vec(), Some(0)),
            ([SIGNATURE, &boxed(b"jp2c", codestream)].concat(), Some(20)),
            ([SIGNATURE, &other, &boxed(b"jp2c", codestream)].concat(), Some(12 + 20 + 8)),
            ([SIGNATURE, b"\0\0\0\0jp2c", codestream].concat(), Some(20)),
            ([SIGNATURE, b"\0\0\0\x01jp2c\0\0\0\0\0\0\0\x63", codestream].concat(), Some(28)),
            ([SIGNATURE, b"\0\0\0\x03jp2h", codestream].concat(), Some(20)),
            ([b"\0", codestream].concat(), Some(1)),
            ([SIGNATURE, b"\xFF\xFF\xFF\xFFjp2h"].concat(), None),
            (SIGNATURE.to_vec(), None),
            (Vec::new(), None),
        ] {
            assert_eq!(codestream_offset(&file), expected, "{file:?}");
        }
    }
}
