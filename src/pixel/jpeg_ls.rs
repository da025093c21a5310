//! JPEG-LS frames through CharLS (ISO/IEC 14495-1; PS3.5 §8.2.3).
//!
//! The size in the header of a frame is checked before CharLS sees the frame.
#![expect(unsafe_code, reason = "CharLS is a C library; this is the only file that speaks to it")]

use std::borrow::Cow;
use std::ffi::CStr;
use std::ptr::NonNull;

use charls_sys as charls;

use crate::pixel::jpeg::image;
use crate::pixel::jpeg_header::{self, END_OF_IMAGE};
use crate::pixel::words::{interleave, words_of};
use crate::pixel::{Error, Image, Shape};

/// The most zero bytes that are left out before the end of each scan of a frame.
const MAX_FILL_BYTES: usize = 4;
/// Bytes of the headers of a frame, and more.
const HEADER_BYTES: usize = 4096;
/// The most bytes of a coded frame for each byte of its samples: a sample takes at most four times its bits
/// (LIMIT, §A.5.3), and a stuffed bit follows at most every eighth.
const MAX_RATIO: usize = 6;

/// Decodes a frame, also one with zero bytes between the coded bytes and the marker after them, which some
/// encoders write.
pub(super) fn decode(frame: &[u8], expected: Shape) -> Result<Image, Error> {
    let header = jpeg_header::read(frame, expected)?;
    let frame = with_end(frame);
    // The last coded byte may be zero, too: zeros are left out one by one, and only if CharLS finds too many.
    let mut decoded = Decoder::new()?.decode(&frame);
    for zeros in 1..=MAX_FILL_BYTES {
        if decoded.is_ok() {
            break;
        }
        let Some(shorter) = without_fill(&frame, zeros) else { break };
        decoded = Decoder::new()?.decode(&shorter);
    }
    let bytes = decoded?;
    let mut samples: Vec<i32> =
        if header.precision > 8 { widen(&bytes) } else { bytes.into_iter().map(i32::from).collect() };
    if header.is_planar && expected.samples > 1 {
        samples = interleave(&samples, expected.samples.into());
    }
    image(header, samples)
}

/// Encodes a frame of 2 to 16 bits. No sample comes back farther than `near` from what it was; negative ones
/// are written as their two's complement of as many bits as the image's precision, and must come with a
/// `near` of 0.
///
/// # Errors
/// [`Error::Short`] if samples are missing, [`Error::Codec`] if the codec fails.
pub(super) fn encode(image: &Image, near: u8) -> Result<Vec<u8>, Error> {
    let needed = image.shape.number_of_samples()?;
    if image.samples.len() != needed {
        return Err(Error::Short { needed, found: image.samples.len() });
    }
    let mask = ((1_u64 << image.precision) - 1) as i32;
    let bytes = match image.precision {
        0..=8 => words_of(&image.samples, |sample| [(sample & mask) as u8]),
        _ => words_of(&image.samples, |sample| ((sample & mask) as u16).to_ne_bytes()),
    };
    // Noise takes a little more than its samples. Only frames that are made for it take much more.
    let usual = bytes.len() + bytes.len() / 2 + HEADER_BYTES;
    let most = bytes.len().saturating_mul(MAX_RATIO).saturating_add(HEADER_BYTES);
    match encode_into(image, near, &bytes, usual)? {
        Some(frame) => Ok(frame),
        None => encode_into(image, near, &bytes, most)?.ok_or_else(|| failed("the coded frame has no room")),
    }
}

/// Encodes samples into at most `room` bytes; `None` if they do not suffice.
fn encode_into(image: &Image, near: u8, samples: &[u8], room: usize) -> Result<Option<Vec<u8>>, Error> {
    let encoder = Encoder::new()?;
    let Shape { rows, columns, samples: components } = image.shape;
    let info = charls::charls_frame_info {
        width: columns,
        height: rows,
        bits_per_sample: image.precision as i32,
        component_count: components.into(),
    };
    let interleave = match components {
        1 => charls::charls_interleave_mode_none,
        _ => charls::charls_interleave_mode_sample,
    };
    let handle = encoder.0.as_ptr();
    let mut frame = vec![0_u8; room];
    let mut written = 0;
    // SAFETY: the encoder is valid. CharLS copies `info`, reads the samples, whose number it compares with
    // `info`, and writes at most `room` bytes to `frame`, which lives longer than the encoder is used.
    let code = unsafe {
        check(charls::charls_jpegls_encoder_set_frame_info(handle, &raw const info))?;
        check(charls::charls_jpegls_encoder_set_near_lossless(handle, near.into()))?;
        check(charls::charls_jpegls_encoder_set_interleave_mode(handle, interleave))?;
        check(charls::charls_jpegls_encoder_set_destination_buffer(handle, frame.as_mut_ptr().cast(), room))?;
        charls::charls_jpegls_encoder_encode_from_buffer(handle, samples.as_ptr().cast(), samples.len(), 0)
    };
    if code == charls::charls_jpegls_errc_destination_buffer_too_small {
        return Ok(None);
    }
    check(code)?;
    // SAFETY: the encoder is valid, and `written` is one number.
    check(unsafe { charls::charls_jpegls_encoder_get_bytes_written(handle, &raw mut written) })?;
    frame.truncate(written);
    frame.shrink_to_fit();
    Ok(Some(frame))
}

/// An encoder of CharLS.
struct Encoder(NonNull<charls::charls_jpegls_encoder>);

impl Encoder {
    fn new() -> Result<Self, Error> {
        // SAFETY: the function returns null or an encoder that is ours to destroy.
        let encoder = NonNull::new(unsafe { charls::charls_jpegls_encoder_create() });
        encoder.map(Self).ok_or_else(|| failed("Insufficient memory"))
    }
}

impl Drop for Encoder {
    fn drop(&mut self) {
        // SAFETY: the encoder is valid, and used no more.
        unsafe { charls::charls_jpegls_encoder_destroy(self.0.as_ptr()) }
    }
}

/// A decoder of CharLS, for one frame.
struct Decoder(NonNull<charls::charls_jpegls_decoder>);

impl Decoder {
    fn new() -> Result<Self, Error> {
        // SAFETY: the function returns null or a decoder that is ours to destroy.
        let decoder = NonNull::new(unsafe { charls::charls_jpegls_decoder_create() });
        decoder.map(Self).ok_or_else(|| failed("Insufficient memory"))
    }

    /// Decodes a frame to samples of one or two bytes, the latter in the machine's own order.
    fn decode(self, frame: &[u8]) -> Result<Vec<u8>, Error> {
        let handle = self.0.as_ptr();
        let mut size = 0;
        // SAFETY: the decoder is valid, and reads no byte beyond the frame, which lives longer; `size` is one
        // number.
        unsafe {
            check(charls::charls_jpegls_decoder_set_source_buffer(
                handle,
                frame.as_ptr().cast(),
                frame.len(),
            ))?;
            check(charls::charls_jpegls_decoder_read_header(handle))?;
            check(charls::charls_jpegls_decoder_get_destination_size(handle, 0, &raw mut size))?;
        }
        let mut samples = vec![0_u8; size];
        // SAFETY: as above; the decoder writes at most `size` bytes.
        check(unsafe {
            charls::charls_jpegls_decoder_decode_to_buffer(handle, samples.as_mut_ptr().cast(), size, 0)
        })?;
        Ok(samples)
    }
}

impl Drop for Decoder {
    fn drop(&mut self) {
        // SAFETY: the decoder is valid, and used no more.
        unsafe { charls::charls_jpegls_decoder_destroy(self.0.as_ptr()) }
    }
}

/// The error of a code of CharLS, unless the code means success.
fn check(code: charls::charls_jpegls_errc) -> Result<(), Error> {
    if code == 0 {
        return Ok(());
    }
    // SAFETY: for each code the function returns a string that ends with NUL and is never freed.
    let message = unsafe { CStr::from_ptr(charls::charls_get_error_message(code)) };
    Err(failed(&message.to_string_lossy()))
}

fn failed(reason: &str) -> Error {
    Error::Codec { codec: "JPEG-LS", reason: reason.into() }
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

/// The samples of words in the machine's own order.
fn widen(bytes: &[u8]) -> Vec<i32> {
    bytes.as_chunks::<2>().0.iter().map(|pair| u16::from_ne_bytes(*pair).into()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Samples that the predictor of JPEG-LS is never near to, after many to which it is.
    fn adversarial(shape: Shape, precision: u32) -> Vec<i32> {
        let highest = (1 << precision) - 1;
        let mut noise = 1_u32;
        (0..shape.number_of_samples().unwrap())
            .map(|place| {
                noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                match place {
                    place if place < 4000 => (place % 2) as i32,
                    _ => {
                        if noise >> 31 == 0 {
                            0
                        } else {
                            highest
                        }
                    }
                }
            })
            .collect()
    }

    #[test]
    fn every_frame_is_encoded_however_large_it_becomes() {
        let mut noise = 1_u32;
        for samples in [1, 3] {
            for precision in 2..=16 {
                let shape = Shape { rows: 64, columns: 80, samples };
                let count = shape.number_of_samples().unwrap();
                let mut random = || {
                    noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    (noise >> (32 - precision)) as i32
                };
                let noisy: Vec<i32> = (0..count).map(|_| random()).collect();
                for samples in [noisy, adversarial(shape, precision)] {
                    let image = Image { shape, precision, is_signed: false, samples };
                    for near in [0, 2] {
                        if near > 0 && precision < 8 {
                            continue;
                        }
                        let frame = encode(&image, near).unwrap();
                        let decoded = decode(&frame, shape).unwrap();
                        let pairs = decoded.samples.iter().zip(&image.samples);
                        let farthest = pairs.map(|(a, b)| (a - b).abs()).max().unwrap();
                        assert!(farthest <= near.into(), "{precision} bits, near {near}: {farthest}");
                        let raw = count * if precision > 8 { 2 } else { 1 };
                        assert!(frame.len() < MAX_RATIO * raw);
                    }
                }
            }
        }
    }

    #[test]
    fn a_frame_without_room_is_none_and_nothing_is_written_beyond() {
        let shape = Shape { rows: 16, columns: 16, samples: 1 };
        let image = Image { shape, precision: 8, is_signed: false, samples: adversarial(shape, 8) };
        let bytes: Vec<u8> = image.samples.iter().map(|&sample| sample as u8).collect();
        let whole = encode_into(&image, 0, &bytes, 10_000).unwrap().unwrap();
        for room in 1..whole.len() {
            assert!(encode_into(&image, 0, &bytes, room).unwrap().is_none(), "{room}");
        }
    }
}
