//! The header of a JPEG or JPEG-LS frame: the segments up to the first scan (ISO/IEC 10918-1 §B.2).

use crate::pixel::{Error, Shape};

/// The start of a frame (SOI).
const START_OF_IMAGE: [u8; 2] = [0xFF, 0xD8];
/// The end of a frame (EOI).
pub(super) const END_OF_IMAGE: [u8; 2] = [0xFF, 0xD9];
/// The start of a scan (SOS).
const START_OF_SCAN: u8 = 0xDA;

/// The header of a frame.
pub(super) struct JpegHeader {
    pub(super) precision: u32,
    pub(super) shape: Shape,
    /// The colour transform of an Adobe APP14 segment.
    pub(super) adobe_transform: Option<u8>,
    /// Whether the components come one after the other (JPEG-LS, interleave mode 0).
    pub(super) is_planar: bool,
    /// Whether it is coded by Process 14 (SOF3).
    pub(super) is_lossless: bool,
}

/// A segment of a header.
struct HeaderSegment<'a> {
    marker: u8,
    /// What follows the length.
    content: &'a [u8],
    /// The whole segment, with its marker.
    bytes: &'a [u8],
    /// Where the next segment starts.
    end: usize,
}

/// Reads the header, and checks that the frame is of the expected size.
pub(super) fn read(frame: &[u8], expected: Shape) -> Result<JpegHeader, Error> {
    let mut adobe_transform = None;
    let mut size = None;
    let mut at = START_OF_IMAGE.len();
    loop {
        let segment = segment(frame, at)?;
        match (segment.marker, segment.content) {
            // SOF0 to SOF15 without DHT, JPG and DAC; SOF55 of JPEG-LS.
            (
                0xC0..=0xC3 | 0xC5..=0xC7 | 0xC9..=0xCB | 0xCD..=0xCF | 0xF7,
                &[bits, r1, r0, c1, c0, n, ..],
            ) => {
                let rows = u16::from_be_bytes([r1, r0]).into();
                let columns = u16::from_be_bytes([c1, c0]).into();
                let shape = Shape { rows, columns, samples: n.into() };
                size = Some((bits.into(), shape, segment.marker == 0xC3));
            }
            (0xEE, [b'A', b'd', b'o', b'b', b'e', _, _, _, _, _, _, transform, ..]) => {
                adobe_transform = Some(*transform);
            }
            (START_OF_SCAN, content) => {
                let (precision, shape, is_lossless) =
                    size.ok_or_else(|| damaged("there is no frame header"))?;
                if shape != expected {
                    let Shape { rows, columns, samples } = shape;
                    let found = format!("{rows} x {columns} pixels of {samples} samples");
                    return Err(Error::Mismatch { expected, found });
                }
                let is_planar = content.iter().rev().nth(1) == Some(&0);
                return Ok(JpegHeader { precision, shape, adobe_transform, is_planar, is_lossless });
            }
            _ => {}
        }
        at = segment.end;
    }
}

/// A frame with a header that leaves nothing to guess.
pub(super) struct RewrittenFrame {
    pub(super) bytes: Vec<u8>,
    /// Whether the frame had an end marker.
    pub(super) had_end: bool,
}

/// Rewrites a frame: an Adobe segment states whether its components are luminance and chrominance, all other
/// segments of applications are left out, and an end marker follows the last scan.
pub(super) fn rewrite(frame: &[u8], is_ybr: bool) -> Result<RewrittenFrame, Error> {
    let mut bytes = Vec::with_capacity(frame.len() + 32);
    bytes.extend(START_OF_IMAGE);
    bytes.extend(b"\xFF\xEE\x00\x0EAdobe\x00\x64\x00\x00\x00\x00");
    bytes.push(is_ybr.into());
    let mut at = START_OF_IMAGE.len();
    loop {
        let segment = segment(frame, at)?;
        if segment.marker == START_OF_SCAN {
            break;
        }
        // APP0 to APP15, COM.
        if !matches!(segment.marker, 0xE0..=0xEF | 0xFE) {
            bytes.extend_from_slice(segment.bytes);
        }
        at = segment.end;
    }
    let scans = &frame[at..];
    bytes.extend_from_slice(scans);
    let had_end = memchr::memmem::rfind(scans, &END_OF_IMAGE).is_some();
    if !had_end {
        bytes.extend(END_OF_IMAGE);
    }
    Ok(RewrittenFrame { bytes, had_end })
}

/// The segment that starts at a position, after fill bytes perhaps.
fn segment(frame: &[u8], mut at: usize) -> Result<HeaderSegment<'_>, Error> {
    loop {
        let rest = frame.get(at..).unwrap_or_default();
        let &[0xFF, marker, high, low, ..] = rest else {
            return Err(damaged("the header is incomplete"));
        };
        if marker == 0xFF {
            at += 1;
            continue;
        }
        let end = 2 + usize::from(u16::from_be_bytes([high, low])).max(2);
        let bytes = rest.get(..end).ok_or_else(|| damaged("the header is incomplete"))?;
        return Ok(HeaderSegment { marker, content: &bytes[4..], bytes, end: at + end });
    }
}

fn damaged(reason: &str) -> Error {
    Error::Codec { codec: "JPEG", reason: reason.into() }
}
