//! The header of a JPEG or JPEG-LS frame: the segments up to the first scan (ISO/IEC 10918-1 §B.2).

use crate::dicom::marker_segments::{MarkerSegment, MarkerSegments, START_OF_SCAN};
use crate::pixel::{Error, Shape};

/// The start of a frame (SOI).
const START_OF_IMAGE: [u8; 2] = [0xFF, 0xD8];
/// The end of a frame (EOI).
pub(super) const END_OF_IMAGE: [u8; 2] = [0xFF, 0xD9];

/// The header of a frame.
pub(super) struct JpegHeader {
    pub(super) precision: u32,
    pub(super) shape: Shape,
    /// Whether the components come one after the other (JPEG-LS, interleave mode 0).
    pub(super) is_planar: bool,
}

/// Reads the header, and checks that the frame is of the expected size.
pub(super) fn read(frame: &[u8], expected: Shape) -> Result<JpegHeader, Error> {
    let mut size = None;
    for MarkerSegment { marker, content, .. } in MarkerSegments::of(frame) {
        match (marker, content) {
            // SOF0 to SOF15 without DHT, JPG and DAC; SOF55 of JPEG-LS.
            (
                0xC0..=0xC3 | 0xC5..=0xC7 | 0xC9..=0xCB | 0xCD..=0xCF | 0xF7,
                &[bits, r1, r0, c1, c0, n, ..],
            ) => {
                let rows = u16::from_be_bytes([r1, r0]).into();
                let columns = u16::from_be_bytes([c1, c0]).into();
                size = Some((bits.into(), Shape { rows, columns, samples: n.into() }));
            }
            (START_OF_SCAN, content) => {
                let (precision, shape) = size.ok_or_else(|| damaged("there is no frame header"))?;
                if shape != expected {
                    let Shape { rows, columns, samples } = shape;
                    let found = format!("{rows} x {columns} pixels of {samples} samples");
                    return Err(Error::Mismatch { expected, found });
                }
                let is_planar = content.iter().rev().nth(1) == Some(&0);
                return Ok(JpegHeader { precision, shape, is_planar });
            }
            _ => {}
        }
    }
    Err(damaged("the header is incomplete"))
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
    let mut scans = None;
    for segment in MarkerSegments::of(frame) {
        match segment.marker {
            START_OF_SCAN => {
                scans = frame.get(segment.end - segment.bytes.len()..);
                break;
            }
            // APP0 to APP15, COM.
            0xE0..=0xEF | 0xFE => {}
            _ => bytes.extend_from_slice(segment.bytes),
        }
    }
    let scans = scans.ok_or_else(|| damaged("the header is incomplete"))?;
    bytes.extend_from_slice(scans);
    let had_end = memchr::memmem::rfind(scans, &END_OF_IMAGE).is_some();
    if !had_end {
        bytes.extend(END_OF_IMAGE);
    }
    Ok(RewrittenFrame { bytes, had_end })
}

fn damaged(reason: &str) -> Error {
    Error::Codec { codec: "JPEG", reason: reason.into() }
}
