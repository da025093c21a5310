//! The description that a compressed image holds of itself: its transfer syntax and the Image Pixel
//! Description Macro that can be derived from it (PS3.18 §10.5.2, PS3.5 §8.2 and §G.5; ISO/IEC 10918-1 §B,
//! 14495-1 §C, 15444-1 §A and §I).

use crate::dicom::jpeg_2000::{self, Jpeg2000Size};
use crate::dicom::marker_segments::{MarkerSegment, MarkerSegments, START_OF_SCAN};
use crate::dicom::transfer_syntax;

/// The description at the start of a compressed frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Codestream {
    /// The transfer syntax of PS3.5 §A.4 in which the codestream can be encapsulated.
    pub transfer_syntax: &'static str,
    /// Whether the compression is lossy.
    pub is_lossy: bool,
    /// Rows, at least one.
    pub rows: u32,
    /// Columns, at least one.
    pub columns: u32,
    /// Samples per pixel: 1 or 3.
    pub samples: u16,
    /// Bits Stored.
    pub bits_stored: u16,
    /// Whether samples are signed.
    pub is_signed: bool,
    /// Photometric Interpretation: the one that the codestream proves, or else the usual one of its codec.
    pub photometric: &'static str,
    /// Whether the codestream proves its Photometric Interpretation: by an Adobe or JFIF segment, by the
    /// names of its components, by subsampled chrominance, by a component transform, or by the colour
    /// specification of a JP2 file.
    pub is_photometric_proved: bool,
    /// The offset of the codestream, after the header of a file format such as JP2, which DICOM leaves out
    /// (PS3.5 §8.2.4).
    pub offset: usize,
}

impl Codestream {
    /// Bits Allocated: the whole bytes that Bits Stored need, of which there are 1, 2, 4 or 8.
    pub fn bits_allocated(&self) -> u16 {
        match self.bits_stored {
            0..=8 => 8,
            9..=16 => 16,
            17..=32 => 32,
            _ => 64,
        }
    }
}

/// Reads the start of a frame in JPEG, JPEG-LS, JPEG 2000 or HTJ2K; `None` if it is none of them, is of a
/// kind for which there is no transfer syntax, or if `head` ends before the description does.
pub fn describe(head: &[u8]) -> Option<Codestream> {
    let is_retired = |found: &Codestream| found.transfer_syntax == PROGRESSIVE;
    recognise(head).filter(|found| !is_retired(found))
}

/// Reads the start of a frame as [`describe`] does, and also progressive JPEG, whose transfer syntax is
/// retired.
pub fn recognise(head: &[u8]) -> Option<Codestream> {
    if head.starts_with(&[0xFF, 0xD8, 0xFF]) {
        return jpeg(head);
    }
    if !jpeg_2000::is_jpeg_2000(head) {
        return None;
    }
    let offset = jpeg_2000::codestream_offset(head)?;
    let (boxes, codestream) = head.split_at_checked(offset)?;
    Some(Codestream { offset, ..jpeg_2000(codestream, jpeg_2000::photometric_of_file(boxes))? })
}

/// The transfer syntax of progressive JPEG, which is retired.
const PROGRESSIVE: &str = transfer_syntax::JPEG_FULL_PROGRESSION_NON_HIERARCHICAL1012;

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().copied().map(u16::from_be_bytes)
}

/// Describes JPEG and JPEG-LS. The header of the first scan decides the transfer syntax.
fn jpeg(head: &[u8]) -> Option<Codestream> {
    let (mut frame, mut has_jfif, mut adobe_transform) = (None, false, None);
    for MarkerSegment { marker, content: segment, .. } in MarkerSegments::of(head) {
        match marker {
            0xC0..=0xC3 | 0xC5..=0xC7 | 0xC9..=0xCB | 0xCD..=0xCF | 0xF7 => frame = Some((marker, segment)),
            0xE0 => has_jfif |= segment.starts_with(b"JFIF\0"),
            0xEE if segment.starts_with(b"Adobe") => adobe_transform = segment.get(11).copied(),
            START_OF_SCAN => {
                let (kind, frame) = frame?;
                let color = Color { has_jfif, adobe_transform };
                return jpeg_frame(kind, frame, segment, &color);
            }
            _ => {}
        }
    }
    None
}

/// The parts of a JPEG header that decide the colour space, besides the components.
struct Color {
    has_jfif: bool,
    adobe_transform: Option<u8>,
}

fn jpeg_frame(kind: u8, frame: &[u8], scan: &[u8], color: &Color) -> Option<Codestream> {
    let components = *frame.get(5)?;
    // Ss of the scan is the predictor in lossless JPEG, and the allowed error (NEAR) in JPEG-LS.
    let selection = *scan.get(1 + 2 * usize::from(*scan.first()?))?;
    let (transfer_syntax, is_lossy) = match kind {
        0xC0 => (transfer_syntax::JPEG_BASELINE8_BIT, true),
        0xC1 => (transfer_syntax::JPEG_EXTENDED12_BIT, true),
        0xC2 => (PROGRESSIVE, true),
        0xC3 if selection == 1 => (transfer_syntax::JPEG_LOSSLESS_SV1, false),
        0xC3 => (transfer_syntax::JPEG_LOSSLESS, false),
        0xF7 if selection == 0 => (transfer_syntax::JPEGLS_LOSSLESS, false),
        0xF7 => (transfer_syntax::JPEGLS_NEAR_LOSSLESS, true),
        _ => return None,
    };
    let (rows, columns) = (u16_at(frame, 1)?, u16_at(frame, 3)?);
    let is_subsampled = frame.get(7).is_some_and(|&sampling| sampling != 0x11);
    let is_lossless = matches!(kind, 0xC3 | 0xF7);
    let proof = is_rgb(is_lossless, is_subsampled, frame, color);
    let photometric = match (components, proof.unwrap_or(is_lossless && !color.has_jfif)) {
        (1, _) => "MONOCHROME2",
        (3, true) => "RGB",
        (3, false) if is_subsampled => "YBR_FULL_422",
        (3, false) => "YBR_FULL",
        _ => return None,
    };
    Some(Codestream {
        transfer_syntax,
        is_lossy,
        rows: Some(u32::from(rows)).filter(|&rows| rows > 0)?,
        columns: Some(u32::from(columns)).filter(|&columns| columns > 0)?,
        samples: u16::from(components),
        bits_stored: u16::from(*frame.first().filter(|&&bits| (1..=16).contains(&bits))?),
        is_signed: false,
        photometric,
        is_photometric_proved: components == 3 && proof.is_some(),
        offset: 0,
    })
}

/// Whether three components are red, green and blue (and not luminance and chrominance): as the Adobe segment
/// says, else the JFIF segment, else the names of the components, else their sampling. `None` if none of
/// these says so: then it depends on the encoder.
///
/// Encoders write JFIF segments in front of lossless frames of any colour, which prove nothing there.
fn is_rgb(is_lossless: bool, is_subsampled: bool, frame: &[u8], color: &Color) -> Option<bool> {
    let names = [6, 9, 12].map(|at| frame.get(at).copied().unwrap_or_default());
    match color.adobe_transform {
        Some(0) => Some(true),
        Some(1) => Some(false),
        _ if color.has_jfif && !is_lossless => Some(false),
        _ if names == *b"RGB" => Some(true),
        _ if is_subsampled => Some(false),
        _ => None,
    }
}

/// Describes a JPEG 2000 codestream; `of_file` is the Photometric Interpretation by the file around it.
fn jpeg_2000(codestream: &[u8], of_file: Option<&'static str>) -> Option<Codestream> {
    let size = Jpeg2000Size::of(codestream)?;
    let (mut coding, mut is_high_throughput) = (None, false);
    for MarkerSegment { marker, content, .. } in MarkerSegments::of(codestream) {
        match marker {
            0x50 => is_high_throughput = true,
            0x52 => {
                coding = Some(content);
                break;
            }
            0x90 => break,
            _ => {}
        }
    }
    let coding = coding?;
    let [columns, rows] = size.extent();
    let first = *size.components.first()?;
    let is_reversible = *coding.get(9)? == 1;
    let is_rpcl = *coding.get(1)? == 2;
    let has_transform = *coding.get(4)? == 1;
    let (transfer_syntax, is_lossy) = match (is_high_throughput, is_reversible) {
        (true, true) if is_rpcl => (transfer_syntax::HTJ2K_LOSSLESS_RPCL, false),
        (true, true) => (transfer_syntax::HTJ2K_LOSSLESS, false),
        (true, false) => (transfer_syntax::HTJ2K, true),
        (false, true) => (transfer_syntax::JPEG2000_LOSSLESS, false),
        (false, false) => (transfer_syntax::JPEG2000, true),
    };
    let is_subsampled = size.components.iter().any(|part| part.subsampling != first.subsampling);
    let proved = match (has_transform, is_reversible) {
        (true, true) => Some("YBR_RCT"),
        (true, false) => Some("YBR_ICT"),
        (false, _) if is_subsampled => Some("YBR_FULL_422"),
        (false, _) => of_file,
    };
    let photometric = match size.components.len() {
        1 => "MONOCHROME2",
        3 => proved.unwrap_or("RGB"),
        _ => return None,
    };
    Some(Codestream {
        transfer_syntax,
        is_lossy,
        rows,
        columns,
        samples: size.components.len() as u16,
        bits_stored: first.bits,
        is_signed: first.is_signed,
        photometric,
        is_photometric_proved: size.components.len() == 3 && proved.is_some(),
        offset: 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(marker: u8, content: &[u8]) -> Vec<u8> {
        [&[0xFF, marker], (content.len() as u16 + 2).to_be_bytes().as_slice(), content].concat()
    }

    /// A frame header of 8 bits, 2 rows and 3 columns.
    fn frame(kind: u8, components: &[[u8; 3]]) -> Vec<u8> {
        segment(kind, &[&[8, 0, 2, 0, 3, components.len() as u8], components.as_flattened()].concat())
    }

    fn scan(components: u8, selection: u8) -> Vec<u8> {
        let mut content = vec![components];
        content.extend((1..=components).flat_map(|id| [id, 0]));
        content.extend([selection, 0, 0]);
        segment(0xDA, &content)
    }

    fn image(segments: &[Vec<u8>]) -> Vec<u8> {
        [&[0xFF, 0xD8], segments.concat().as_slice()].concat()
    }

    #[test]
    fn jpeg_and_jpeg_ls_tell_what_they_are() {
        let gray = [[1, 0x11, 0]];
        let color = [[1, 0x11, 0], [2, 0x11, 0], [3, 0x11, 0]];
        let subsampled = [[1, 0x21, 0], [2, 0x11, 0], [3, 0x11, 0]];
        let named = [[b'R', 0x11, 0], [b'G', 0x11, 0], [b'B', 0x11, 0]];
        let jfif = segment(0xE0, b"JFIF\0\x01\x01");
        let adobe = |transform| segment(0xEE, &[b"Adobe\0d\0\0\0\0".as_slice(), &[transform]].concat());
        for (segments, leaf, is_lossy, photometric, is_proved) in [
            (vec![frame(0xC0, &gray), scan(1, 0)], "50", true, "MONOCHROME2", false),
            (vec![jfif.clone(), frame(0xC0, &gray), scan(1, 0)], "50", true, "MONOCHROME2", false),
            (vec![jfif.clone(), frame(0xC0, &color), scan(3, 0)], "50", true, "YBR_FULL", true),
            (vec![jfif.clone(), frame(0xC0, &named), scan(3, 0)], "50", true, "YBR_FULL", true),
            (vec![jfif.clone(), adobe(0), frame(0xC0, &color), scan(3, 0)], "50", true, "RGB", true),
            (vec![frame(0xC0, &color), scan(3, 0)], "50", true, "YBR_FULL", false),
            (vec![frame(0xC0, &subsampled), scan(3, 0)], "50", true, "YBR_FULL_422", true),
            (vec![frame(0xC0, &named), scan(3, 0)], "50", true, "RGB", true),
            (vec![adobe(0), frame(0xC1, &color), scan(3, 0)], "51", true, "RGB", true),
            (vec![adobe(1), frame(0xC0, &named), scan(3, 0)], "50", true, "YBR_FULL", true),
            (vec![frame(0xC3, &gray), scan(1, 1)], "70", false, "MONOCHROME2", false),
            (vec![frame(0xC3, &color), scan(3, 6)], "57", false, "RGB", false),
            (vec![jfif.clone(), frame(0xC3, &color), scan(3, 6)], "57", false, "YBR_FULL", false),
            (vec![adobe(1), frame(0xC3, &color), scan(3, 1)], "70", false, "YBR_FULL", true),
            (vec![frame(0xF7, &gray), scan(1, 0)], "80", false, "MONOCHROME2", false),
            (vec![frame(0xF7, &color), scan(3, 2)], "81", true, "RGB", false),
        ] {
            let found = describe(&image(&segments)).unwrap();
            assert_eq!(found.transfer_syntax, format!("1.2.840.10008.1.2.4.{leaf}"));
            assert_eq!((found.is_lossy, found.photometric), (is_lossy, photometric), "{leaf}");
            assert_eq!(found.is_photometric_proved, is_proved, "{leaf} {photometric}");
            assert_eq!(recognise(&image(&segments)), Some(found));
            assert_eq!((found.rows, found.columns, found.bits_stored, found.bits_allocated()), (2, 3, 8, 8));
        }
        let mut without_bits = image(&[frame(0xC0, &gray), scan(1, 0)]);
        without_bits[6] = 0;
        assert_eq!(describe(&without_bits), None);
        let progressive = image(&[frame(0xC2, &gray), scan(1, 0)]);
        assert_eq!(describe(&progressive), None);
        let found = recognise(&progressive).unwrap();
        assert_eq!((found.transfer_syntax, found.bits_stored), (PROGRESSIVE, 8));
    }

    fn jpeg_2000_image(depth: u8, components: u8, transform: u8, wavelet: u8, progression: u8) -> Vec<u8> {
        let mut size = vec![0, 0];
        for number in [13_u32, 12, 3, 2, 13, 12, 0, 0] {
            size.extend(number.to_be_bytes());
        }
        size.extend([0, components]);
        size.extend([depth, 1, 1].repeat(components.into()));
        let coding = [0, progression, 0, 1, transform, 5, 4, 4, 0, wavelet];
        [&[0xFF, 0x4F], segment(0x51, &size).as_slice(), &segment(0x52, &coding)].concat()
    }

    #[test]
    fn jpeg_2000_tells_what_it_is_also_in_a_file() {
        for (codestream, leaf, photometric, bits, is_signed) in [
            (jpeg_2000_image(11, 1, 0, 1, 0), "90", "MONOCHROME2", 12, false),
            (jpeg_2000_image(0x8F, 1, 0, 0, 0), "91", "MONOCHROME2", 16, true),
            (jpeg_2000_image(7, 3, 1, 1, 0), "90", "YBR_RCT", 8, false),
            (jpeg_2000_image(7, 3, 1, 0, 0), "91", "YBR_ICT", 8, false),
            (jpeg_2000_image(7, 3, 0, 1, 0), "90", "RGB", 8, false),
        ] {
            let found = describe(&codestream).unwrap();
            assert_eq!(found.transfer_syntax, format!("1.2.840.10008.1.2.4.{leaf}"));
            assert_eq!(
                (found.photometric, found.bits_stored, found.is_signed),
                (photometric, bits, is_signed)
            );
            assert_eq!((found.rows, found.columns, found.offset), (10, 10, 0));

            let signature = b"\0\0\0\x0CjP  \r\n\x87\n";
            let file = [signature.as_slice(), b"\0\0\0\0jp2c", &codestream].concat();
            assert_eq!(describe(&file), Some(Codestream { offset: 20, ..found }));
            let wide = [signature.as_slice(), b"\0\0\0\x01jp2c", &99_u64.to_be_bytes(), &codestream].concat();
            assert_eq!(describe(&wide), Some(Codestream { offset: 28, ..found }));
        }
        for (components, transform, sampling, space, photometric, is_proved) in [
            (3, 0, 1, 16, "RGB", true),
            (3, 0, 1, 18, "YBR_FULL", true),
            (3, 0, 1, 12, "RGB", false),
            (3, 0, 2, 18, "YBR_FULL_422", true),
            (3, 1, 1, 18, "YBR_RCT", true),
            (1, 0, 1, 17, "MONOCHROME2", false),
        ] {
            let mut codestream = jpeg_2000_image(7, components, transform, 1, 0);
            // Horizontal sampling of the last component.
            codestream[2 + 4 + 36 + 3 * usize::from(components) - 2] = sampling;
            let colour = [b"\0\0\0\x0Fcolr\x01\0\0\0\0\0".as_slice(), &[space]].concat();
            let file =
                [b"\0\0\0\x0CjP  \r\n\x87\n".as_slice(), &colour, b"\0\0\0\0jp2c", &codestream].concat();
            let found = describe(&file).unwrap();
            assert_eq!((found.photometric, found.is_photometric_proved), (photometric, is_proved), "{space}");
        }
        let mut high_throughput = jpeg_2000_image(7, 1, 0, 1, 2);
        let size_ends = 2 + 4 + 39;
        high_throughput.splice(size_ends..size_ends, segment(0x50, &[0, 2, 0, 0, 0, 0]));
        assert_eq!(describe(&high_throughput).unwrap().transfer_syntax, transfer_syntax::HTJ2K_LOSSLESS_RPCL);
    }

    #[test]
    fn no_beginning_of_an_image_is_taken_for_one_that_tells() {
        let jpeg = image(&[frame(0xC0, &[[1, 0x11, 0]]), scan(1, 0)]);
        for whole in [jpeg, jpeg_2000_image(7, 1, 0, 1, 0)] {
            for length in 0..whole.len() {
                assert_eq!(describe(&whole[..length]), None, "{length}");
            }
        }
    }
}
