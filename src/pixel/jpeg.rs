//! JPEG frames (ISO/IEC 10918-1; PS3.5 §8.2.1).
//!
//! The size in the header of a frame is checked before decoding, and a panic of a codec becomes an error.

use std::panic::{AssertUnwindSafe, catch_unwind};

use jpeg_encoder::{ColorType, Encoder, SamplingFactor};

use crate::pixel::jpeg_header::{self, JpegHeader};
use crate::pixel::{Error, Image, Shape, jpeg_scans, turbojpeg};

/// Decodes a JPEG frame. If `is_ybr`, its components are luminance and chrominance, and become red, green and
/// blue; else they stay as they are. Lossless frames must come without `is_ybr`.
pub(super) fn decode(frame: &[u8], expected: Shape, is_ybr: bool) -> Result<Image, Error> {
    let header = jpeg_header::read(frame, expected)?;
    jpeg_scans::check(frame)?;
    // libjpeg-turbo has its own idea of the colours of a frame without an Adobe segment.
    let frame = jpeg_header::rewrite(frame, is_ybr && expected.samples == 3)?;
    // A frame that ends early by its own marker is shown without its rest, as other decoders show it. One
    // without the marker has lost its end.
    let samples = turbojpeg::decode(&frame.bytes, expected, header.precision, frame.had_end)?;
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

pub(super) fn image(header: JpegHeader, samples: Vec<i32>) -> Result<Image, Error> {
    let needed = header.shape.number_of_samples()?;
    if samples.len() != needed {
        return Err(Error::Short { needed, found: samples.len() });
    }
    Ok(Image { shape: header.shape, precision: header.precision, is_signed: false, samples })
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
    use crate::pixel::jpeg_header::END_OF_IMAGE;

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
    fn components_become_red_green_and_blue_if_so_demanded_whatever_segments_say() {
        let ybr = encode(&picture(), true, 95).unwrap();
        let adobe = |transform| [b"Adobe\0\x64\0\0\0\0".as_slice(), &[transform]].concat();
        for frame in [
            ybr.clone(),
            with_segment(&ybr, 0xEE, &adobe(0)),
            with_segment(&ybr, 0xEE, &adobe(1)),
            with_segment(&ybr, 0xEE, b"AdobeX"),
            with_segment(&ybr, 0xE0, b"JFIF\0\x01\x01\0\0\x01\0\x01\0\0"),
        ] {
            for is_ybr in [false, true] {
                let found = decode(&frame, SHAPE, is_ybr).unwrap();
                assert_eq!(farthest(&found, &picture()) < 16, !is_ybr);
            }
        }
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
            let whole = decode(&frame, SHAPE, false).unwrap();
            let cut = &frame[..frame.len() / 10 * 9];
            assert!(matches!(decode(cut, SHAPE, false), Err(Error::Codec { .. })));
            let part = decode(&[cut, &END_OF_IMAGE].concat(), SHAPE, false).unwrap();
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
