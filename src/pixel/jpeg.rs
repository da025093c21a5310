//! JPEG (ISO/IEC 10918-1) and JPEG-LS (ISO/IEC 14495-1) frames (PS3.5 §8.2.1 and §8.2.3).
//!
//! The size in the header of a frame is checked before decoding, and a panic of a codec becomes an error.

use std::borrow::Cow;
use std::panic::{AssertUnwindSafe, catch_unwind};

use charls::{CharLS, FrameInfo, InterleaveMode};
use jpeg_decoder::{ColorTransform, Decoder};
use jpeg_encoder::{ColorType, Encoder, SamplingFactor};

use crate::pixel::{Error, Image, Shape, jpeg_scans};

/// The end of a frame (EOI).
const END_OF_IMAGE: [u8; 2] = [0xFF, 0xD9];

/// The headers of a frame.
struct JpegHeader {
    precision: u32,
    shape: Shape,
    /// The colour transform of an Adobe APP14 segment.
    adobe_transform: Option<u8>,
    /// Whether the components come one after the other (JPEG-LS, interleave mode 0).
    is_planar: bool,
    /// Whether it is coded by Process 14 (SOF3).
    is_lossless: bool,
}

/// Decodes a JPEG frame. Luminance and chrominance become red, green and blue, if `is_ybr` or if the frame
/// itself says so, but never in a lossless one; returns whether they did.
pub(super) fn decode(frame: &[u8], expected: Shape, is_ybr: bool) -> Result<(Image, bool), Error> {
    let header = read_header(frame, expected)?;
    jpeg_scans::check(frame)?;
    // Devices write RGB without an Adobe segment, and the decoder would read that as YCbCr.
    let is_turned = header.adobe_transform.map_or(is_ybr, |code| code == 1);
    let is_converted = expected.samples == 3 && !header.is_lossless && is_turned;
    let count = expected.number_of_samples()?;
    let bytes = guarded("JPEG", || {
        let mut decoder = Decoder::new(frame);
        decoder.set_max_decoding_buffer_size(count * 2);
        if expected.samples == 3 {
            let transform = if is_converted { ColorTransform::YCbCr } else { ColorTransform::RGB };
            decoder.set_color_transform(transform);
        }
        decoder.decode().map_err(|error| error.to_string())
    })?;
    // The codec gives bytes for 8 bits, and words for all else, as only lossless frames have it.
    let samples =
        if header.precision == 8 { bytes.into_iter().map(i32::from).collect() } else { widen(&bytes) };
    Ok((image(header, samples)?, is_converted))
}

/// Decodes a JPEG-LS frame.
pub(super) fn decode_ls(frame: &[u8], expected: Shape) -> Result<Image, Error> {
    let header = read_header(frame, expected)?;
    let frame = with_end(frame);
    let bytes = guarded("JPEG-LS", || CharLS::default().decode(&frame).map_err(|error| error.to_string()))?;
    let mut samples: Vec<i32> =
        if header.precision > 8 { widen(&bytes) } else { bytes.into_iter().map(i32::from).collect() };
    if header.is_planar && expected.samples > 1 {
        samples = super::decode::interleave(&samples, expected.samples.into());
    }
    image(header, samples)
}

/// Encodes a frame of 8 bits as baseline JPEG, colour with halved chrominance (4:2:2), at a quality from 1 to
/// 100. Three samples are red, green and blue, or luminance and chrominance if `is_ybr`.
///
/// # Errors
/// [`Error::Unsupported`] for other frames; [`Error::Codec`] if the codec fails.
pub(super) fn encode(image: &Image, is_ybr: bool, quality: u8) -> Result<Vec<u8>, Error> {
    let Shape { rows, columns, samples } = image.shape;
    let (Ok(height), Ok(width), 8) = (u16::try_from(rows), u16::try_from(columns), image.precision) else {
        return Err(Error::Unsupported(format!("baseline JPEG of {} bits of this size", image.precision)));
    };
    let color = match (samples, is_ybr) {
        (1, _) => ColorType::Luma,
        (3, false) => ColorType::Rgb,
        (3, true) => ColorType::Ycbcr,
        _ => return Err(Error::Unsupported(format!("JPEG of {samples} samples"))),
    };
    let bytes: Vec<u8> = image.samples.iter().map(|&sample| sample as u8).collect();
    let mut frame = Vec::new();
    guarded("JPEG", || {
        let mut encoder = Encoder::new(&mut frame, quality);
        encoder.set_sampling_factor(SamplingFactor::F_2_1);
        encoder.encode(&bytes, width, height, color).map_err(|error| error.to_string())
    })?;
    Ok(frame)
}

/// Encodes a frame of 2 to 16 bits as JPEG-LS. No sample comes back farther than `near` from what it was;
/// negative ones are written as their two's complement of as many bits as the image's precision, and must
/// come with a `near` of 0.
///
/// # Errors
/// [`Error::Codec`] if the codec fails.
pub(super) fn encode_ls(image: &Image, near: u8) -> Result<Vec<u8>, Error> {
    let Shape { rows, columns, samples } = image.shape;
    let mask = ((1_u64 << image.precision) - 1) as i32;
    let values = image.samples.iter().map(|&sample| sample & mask);
    let bytes: Vec<u8> = match image.precision {
        0..=8 => values.map(|value| value as u8).collect(),
        _ => values.flat_map(|value| (value as u16).to_ne_bytes()).collect(),
    };
    guarded("JPEG-LS", || {
        let mut codec = CharLS::default();
        if samples > 1 {
            codec.set_interleave_mode(InterleaveMode::Sample).map_err(|error| error.to_string())?;
        }
        let info = FrameInfo {
            width: columns,
            height: rows,
            bits_per_sample: image.precision as i32,
            component_count: samples.into(),
        };
        codec.encode(info, near.into(), &bytes).map_err(|error| error.to_string())
    })
}

/// The frame with an end marker (EOI): without one, CharLS may go on for minutes where the data ends early.
fn with_end(frame: &[u8]) -> Cow<'_, [u8]> {
    let padding = frame.iter().rev().take_while(|&&byte| byte == 0).count();
    if frame[..frame.len() - padding].ends_with(&END_OF_IMAGE) {
        Cow::Borrowed(frame)
    } else {
        Cow::Owned([frame, &END_OF_IMAGE].concat())
    }
}

fn image(header: JpegHeader, samples: Vec<i32>) -> Result<Image, Error> {
    let needed = header.shape.number_of_samples()?;
    if samples.len() != needed {
        return Err(Error::Short { needed, found: samples.len() });
    }
    Ok(Image { shape: header.shape, precision: header.precision, is_signed: false, samples })
}

/// Both codecs give 16-bit samples in the machine's own order.
fn widen(bytes: &[u8]) -> Vec<i32> {
    bytes.as_chunks::<2>().0.iter().map(|pair| u16::from_ne_bytes(*pair).into()).collect()
}

/// Runs a codec that may panic on damaged frames.
fn guarded<T>(codec: &'static str, decode: impl FnOnce() -> Result<T, String>) -> Result<T, Error> {
    let outcome = catch_unwind(AssertUnwindSafe(decode));
    let outcome = outcome.unwrap_or_else(|_| Err("the frame is damaged".into()));
    outcome.map_err(|reason| Error::Codec { codec, reason })
}

/// Reads the segments up to the first scan (ISO/IEC 10918-1 §B.2).
fn read_header(frame: &[u8], expected: Shape) -> Result<JpegHeader, Error> {
    let damaged = |reason: &str| Error::Codec { codec: "JPEG", reason: reason.into() };
    let mut adobe_transform = None;
    let mut size = None;
    let mut at = 2;
    loop {
        let segment = frame.get(at..).unwrap_or_default();
        let &[0xFF, marker, high, low, ..] = segment else {
            return Err(damaged("the header is incomplete"));
        };
        if marker == 0xFF {
            at += 1;
            continue;
        }
        let length = usize::from(u16::from_be_bytes([high, low]));
        let content = segment.get(4..2 + length.max(2)).ok_or_else(|| damaged("the header is incomplete"))?;
        match (marker, content) {
            // SOF0 to SOF15 without DHT, JPG and DAC; SOF55 of JPEG-LS.
            (
                0xC0..=0xC3 | 0xC5..=0xC7 | 0xC9..=0xCB | 0xCD..=0xCF | 0xF7,
                &[bits, r1, r0, c1, c0, n, ..],
            ) => {
                let rows = u16::from_be_bytes([r1, r0]).into();
                let columns = u16::from_be_bytes([c1, c0]).into();
                size = Some((bits.into(), Shape { rows, columns, samples: n.into() }, marker == 0xC3));
            }
            (0xEE, [b'A', b'd', b'o', b'b', b'e', _, _, _, _, _, _, transform, ..]) => {
                adobe_transform = Some(*transform);
            }
            (0xDA, content) => {
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
        at += 2 + length.max(2);
    }
}
