//! JPEG (ISO/IEC 10918-1) and JPEG-LS (ISO/IEC 14495-1) frames (PS3.5 §8.2.1 and §8.2.3).
//!
//! The size in the header of a frame is checked before decoding, and a panic of a codec becomes an error.

use std::borrow::Cow;
use std::panic::{AssertUnwindSafe, catch_unwind};

use charls::{CharLS, FrameInfo, InterleaveMode};
use jpeg_encoder::{ColorType, Encoder, SamplingFactor};

use crate::pixel::jpeg_header::{self, END_OF_IMAGE, JpegHeader};
use crate::pixel::words::{interleave, words_of};
use crate::pixel::{Error, Image, Shape, jpeg_scans, turbojpeg};

/// The most zero bytes that are left out before the end of each scan of a JPEG-LS frame.
const MAX_FILL_BYTES: usize = 4;

/// Decodes a JPEG frame. Luminance and chrominance become red, green and blue, if `is_ybr` or if the frame
/// itself says so, but never in a lossless one; returns whether they did.
pub(super) fn decode(frame: &[u8], expected: Shape, is_ybr: bool) -> Result<(Image, bool), Error> {
    let header = jpeg_header::read(frame, expected)?;
    jpeg_scans::check(frame)?;
    // Devices write RGB without an Adobe segment, and libjpeg-turbo would read that as YCbCr.
    let is_turned = header.adobe_transform.map_or(is_ybr, |code| code == 1);
    let is_converted = expected.samples == 3 && !header.is_lossless && is_turned;
    let frame = jpeg_header::rewrite(frame, is_converted)?;
    // A frame that ends early by its own marker is shown without its rest, as other decoders show it. One
    // without the marker has lost its end.
    let samples = turbojpeg::decode(&frame.bytes, expected, header.precision, frame.had_end)?;
    Ok((image(header, samples)?, is_converted))
}

/// Decodes a JPEG-LS frame, also one with zero bytes between the coded bytes and the marker after them, which
/// some encoders write.
pub(super) fn decode_ls(frame: &[u8], expected: Shape) -> Result<Image, Error> {
    let header = jpeg_header::read(frame, expected)?;
    let frame = with_end(frame);
    let charls = |frame: &[u8]| {
        guarded("JPEG-LS", || CharLS::default().decode(frame).map_err(|error| error.to_string()))
    };
    // The last coded byte may be zero, too: zeros are left out one by one, and only if CharLS finds too many.
    let mut decoded = charls(&frame);
    for zeros in 1..=MAX_FILL_BYTES {
        if decoded.is_ok() {
            break;
        }
        let Some(shorter) = without_fill(&frame, zeros) else { break };
        decoded = charls(&shorter);
    }
    let bytes = decoded?;
    let mut samples: Vec<i32> =
        if header.precision > 8 { widen(&bytes) } else { bytes.into_iter().map(i32::from).collect() };
    if header.is_planar && expected.samples > 1 {
        samples = interleave(&samples, expected.samples.into());
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
    let bytes = match image.precision {
        0..=8 => words_of(&image.samples, |sample| [(sample & mask) as u8]),
        _ => words_of(&image.samples, |sample| ((sample & mask) as u16).to_ne_bytes()),
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

/// The frame without up to `zeros` zero bytes before the end of each scan; `None` if there are no such bytes.
fn without_fill(frame: &[u8], zeros: usize) -> Option<Vec<u8>> {
    let (header, mut rest) = frame.split_at(memchr::memmem::find(frame, &[0xFF, 0xDA])? + 2);
    let mut shorter = header.to_vec();
    while let Some(at) = memchr::memchr(0xFF, rest) {
        let (mut coded, marker) = rest.split_at(at);
        // Of the markers, the next scan (SOS) and the end of the frame (EOI) come after coded bytes.
        if let [_, 0xD9 | 0xDA, ..] = marker {
            let fill = coded.iter().rev().take(zeros).take_while(|&&byte| byte == 0).count();
            coded = &coded[..coded.len() - fill];
        }
        shorter.extend_from_slice(coded);
        shorter.push(0xFF);
        rest = &marker[1..];
    }
    shorter.extend_from_slice(rest);
    (shorter.len() < frame.len()).then_some(shorter)
}

fn image(header: JpegHeader, samples: Vec<i32>) -> Result<Image, Error> {
    let needed = header.shape.number_of_samples()?;
    if samples.len() != needed {
        return Err(Error::Short { needed, found: samples.len() });
    }
    Ok(Image { shape: header.shape, precision: header.precision, is_signed: false, samples })
}

/// CharLS gives samples of more than 8 bits as words in the machine's own order.
fn widen(bytes: &[u8]) -> Vec<i32> {
    bytes.as_chunks::<2>().0.iter().map(|pair| u16::from_ne_bytes(*pair).into()).collect()
}

/// Runs a codec that may panic on damaged frames.
fn guarded<T>(codec: &'static str, decode: impl FnOnce() -> Result<T, String>) -> Result<T, Error> {
    let outcome = catch_unwind(AssertUnwindSafe(decode));
    let outcome = outcome.unwrap_or_else(|_| Err("the frame is damaged".into()));
    outcome.map_err(|reason| Error::Codec { codec, reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape = Shape { rows: 40, columns: 48, samples: 3 };

    /// Colours that change slowly.
    fn picture() -> Image {
        let count = SHAPE.number_of_samples().unwrap() as i32;
        let samples = (0..count).map(|at| [at / 144 * 6, at % 144, 200 - at % 144][at as usize % 3]);
        Image { shape: SHAPE, precision: 8, is_signed: false, samples: samples.collect() }
    }

    fn farthest(first: &Image, second: &Image) -> i32 {
        let pairs = first.samples.iter().zip(&second.samples);
        pairs.map(|(a, b)| (a - b).abs()).max().unwrap()
    }

    /// The frame with a segment after its start.
    fn with_segment(frame: &[u8], marker: u8, content: &[u8]) -> Vec<u8> {
        let length = (content.len() as u16 + 2).to_be_bytes();
        [&frame[..2], &[0xFF, 0xFF, marker], &length, content, &frame[2..]].concat()
    }

    #[test]
    fn an_adobe_segment_says_what_the_components_are_and_else_the_attributes_do() {
        let ybr = encode(&picture(), true, 95).unwrap();
        let adobe = |transform| [b"Adobe\0\x64\0\0\0\0".as_slice(), &[transform]].concat();
        for (frame, is_ybr, is_converted) in [
            (ybr.clone(), false, false),
            (ybr.clone(), true, true),
            (with_segment(&ybr, 0xEE, &adobe(0)), true, false),
            (with_segment(&ybr, 0xEE, &adobe(1)), false, true),
            (with_segment(&ybr, 0xEE, b"AdobeX"), false, false),
            // JFIF means luminance and chrominance, and devices write it before red, green and blue.
            (with_segment(&ybr, 0xE0, b"JFIF\0\x01\x01\0\0\x01\0\x01\0\0"), false, false),
        ] {
            let (found, was_converted) = decode(&frame, SHAPE, is_ybr).unwrap();
            assert_eq!(was_converted, is_converted);
            let is_as_it_was = farthest(&found, &picture()) < 16;
            assert_eq!(is_as_it_was, !is_converted);
        }
    }

    #[test]
    fn lossless_components_are_never_converted() {
        let frame = crate::pixel::jpeg_lossless::encode(&picture()).unwrap();
        let (found, was_converted) = decode(&frame, SHAPE, true).unwrap();
        assert!(found == picture() && !was_converted);
    }

    #[test]
    fn an_end_marker_may_be_missing_and_padding_may_follow_it() {
        let frame = encode(&picture(), true, 95).unwrap();
        let whole = decode(&frame, SHAPE, false).unwrap();
        let open = &frame[..frame.len() - 2];
        for frame in [open, &[open, &[0, 0]].concat(), &[&frame[..], &[0]].concat(), &frame.repeat(2)] {
            assert!(decode(frame, SHAPE, false).unwrap() == whole);
        }
    }

    #[test]
    fn data_that_ends_early_is_decoded_only_up_to_an_end_marker() {
        for frame in
            [encode(&picture(), true, 95).unwrap(), crate::pixel::jpeg_lossless::encode(&picture()).unwrap()]
        {
            let (whole, _) = decode(&frame, SHAPE, false).unwrap();
            let cut = &frame[..frame.len() / 10 * 9];
            assert!(matches!(decode(cut, SHAPE, false), Err(Error::Codec { .. })));
            let (part, _) = decode(&[cut, &END_OF_IMAGE].concat(), SHAPE, false).unwrap();
            assert_eq!(part.samples[..144], whole.samples[..144]);
            assert!(part != whole);
        }
    }

    #[test]
    fn bytes_between_data_and_marker_are_skipped() {
        let frame = encode(&picture(), true, 95).unwrap();
        let (data, end) = frame.split_at(frame.len() - 2);
        let whole = decode(&frame, SHAPE, false).unwrap();
        assert!(decode(&[data, &[0x55; 40], end].concat(), SHAPE, false).unwrap() == whole);
    }

    #[test]
    fn a_frame_of_another_size_never_reaches_the_codec() {
        let frame = encode(&picture(), true, 95).unwrap();
        for other in
            [Shape { rows: 41, ..SHAPE }, Shape { columns: 47, ..SHAPE }, Shape { samples: 1, ..SHAPE }]
        {
            assert!(matches!(decode(&frame, other, false), Err(Error::Mismatch { .. })));
        }
        // A second frame header is an error.
        let start = memchr::memmem::find(&frame, &[0xFF, 0xC0]).unwrap();
        let mut header = frame[start + 4..start + 19].to_vec();
        header[2] += 1;
        assert!(decode(&with_segment(&frame, 0xC0, &header), SHAPE, false).is_err());
    }

    #[test]
    fn damage_is_an_error_or_a_picture_but_nothing_worse() {
        for frame in
            [encode(&picture(), true, 95).unwrap(), crate::pixel::jpeg_lossless::encode(&picture()).unwrap()]
        {
            for at in 2..frame.len() {
                let mut damaged = frame.clone();
                damaged[at] ^= 1 << (at % 8);
                let _ = decode(&damaged, SHAPE, false);
                let _ = decode(&frame[..at], SHAPE, false);
            }
        }
    }
}
