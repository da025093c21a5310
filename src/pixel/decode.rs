//! Decodes the stored bytes of a frame to samples, and writes samples as native Pixel Data (PS3.5 §8).

use crate::dicom::frames::PixelLayout;
use crate::dicom::pixel_layout;
use crate::dicom::transfer_syntax::{self, Compression, compression};
use crate::pixel::words::{interleave, words_of};
use crate::pixel::{Error, Image, Shape, deflated, j2k, jpeg, jpeg_ls, rle};

/// The encoding of the bytes of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameEncoding<'a> {
    /// Uncompressed, in words in little endian.
    Native {
        /// The bit of the first byte, from the least significant, at which the frame starts; 0 unless Bits
        /// Allocated is 1.
        first_bit: u32,
    },
    /// Encapsulated, in the transfer syntax of this UID.
    Compressed(&'a str),
}

/// A decoded frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decoded {
    /// Its samples, interleaved, without the bits beside Bits Stored.
    pub image: Image,
    /// Photometric Interpretation (0028,0004) of the samples.
    pub photometric: String,
}

/// Decodes one frame.
///
/// Colour comes as it is stored, but for JPEG and component transforms of JPEG 2000, whose luminance and
/// chrominance become RGB, and for subsampled chrominance, of which each pixel gets its own. Where the header
/// of a compressed frame proves another colour or sign than `layout` has, the header counts.
///
/// # Errors
/// See [`Error`]. No input makes it panic.
pub fn decode(frame: &[u8], layout: &PixelLayout, stored: FrameEncoding<'_>) -> Result<Decoded, Error> {
    let shape = Shape { rows: layout.rows, columns: layout.columns, samples: layout.samples };
    shape.number_of_samples()?;
    check_bits(layout)?;
    match stored {
        FrameEncoding::Native { first_bit } => native(frame, layout, shape, first_bit),
        FrameEncoding::Compressed(uid) => decompress(frame, layout, shape, uid),
    }
}

/// Whether there is a decoder for frames that are compressed in this transfer syntax.
pub fn is_decodable(transfer_syntax: &str) -> bool {
    compression(transfer_syntax).is_some()
}

/// The layout of frames of a transfer syntax once they are decoded.
pub fn decoded_layout(layout: &PixelLayout, transfer_syntax: &str) -> PixelLayout {
    let is_lossy = transfer_syntax::may_be_lossy(transfer_syntax);
    let photometric = decoded_photometric(layout, compression(transfer_syntax), is_lossy);
    PixelLayout { photometric, ..layout.clone() }
}

/// The Photometric Interpretation of frames once they are decoded: as it is stored, without subsampling,
/// unless they become red, green and blue.
fn decoded_photometric(layout: &PixelLayout, compression: Option<Compression>, is_lossy: bool) -> String {
    match becomes_rgb(layout, compression, is_lossy) {
        true => "RGB".to_owned(),
        false => without_subsampling(&layout.photometric),
    }
}

/// Whether decoding turns the colours of frames to red, green and blue: those of lossy JPEG in luminance and
/// chrominance, and those under a component transform of JPEG 2000.
fn becomes_rgb(layout: &PixelLayout, compression: Option<Compression>, is_lossy: bool) -> bool {
    let photometric = layout.photometric.as_str();
    match compression {
        Some(Compression::Jpeg) => is_lossy && layout.samples == 3 && photometric.starts_with("YBR"),
        Some(Compression::Jpeg2000) => matches!(photometric, "YBR_RCT" | "YBR_ICT"),
        _ => false,
    }
}

/// A decoded frame as native Pixel Data in little endian: rows × columns × samples words of Bits Allocated,
/// planar configuration 0, High Bit just above Bits Stored; 1-bit samples are packed from the least
/// significant bit on.
///
/// # Errors
/// [`Error::Unsupported`] if there are samples that need more bits: they would be cut.
pub fn native_bytes(image: &Image, bits_allocated: u16) -> Result<Vec<u8>, Error> {
    if image.precision > bits_allocated.into() {
        let reason = format!("a frame with samples of more than {bits_allocated} bits");
        return Err(Error::Unsupported(reason));
    }
    let samples = &image.samples;
    Ok(match bits_allocated {
        1 => samples
            .chunks(8)
            .map(|bits| {
                bits.iter().enumerate().fold(0, |byte, (place, bit)| byte | ((*bit as u8 & 1) << place))
            })
            .collect(),
        2..=8 => samples.iter().map(|sample| *sample as u8).collect(),
        9..=16 => words_of(samples, |sample| (sample as u16).to_le_bytes()),
        _ => words_of(samples, i32::to_le_bytes),
    })
}

/// Converts a frame to red, green and blue if it is in full-range luminance and chrominance
/// (PS3.3 §C.7.6.3.1.2); else unchanged.
pub fn to_rgb(mut decoded: Decoded) -> Decoded {
    let is_ybr = matches!(decoded.photometric.as_str(), "YBR_FULL" | "YBR_FULL_422");
    if is_ybr && decoded.image.shape.samples == 3 && decoded.image.precision == 8 {
        for pixel in decoded.image.samples.as_chunks_mut::<3>().0 {
            let [y, b, r] = pixel.map(|sample| sample as f32);
            let (b, r) = (b - 128.0, r - 128.0);
            let rgb = [y + 1.402 * r, y - 0.344_136 * b - 0.714_136 * r, y + 1.772 * b];
            *pixel = rgb.map(|sample| sample.round().clamp(0.0, 255.0) as i32);
        }
        decoded.photometric = "RGB".into();
    }
    decoded
}

/// Refuses layouts that no sample fits in.
fn check_bits(layout: &PixelLayout) -> Result<(), Error> {
    let PixelLayout { bits_allocated, bits_stored, .. } = *layout;
    let is_supported =
        matches!(bits_allocated, 1 | 8 | 16 | 32) && (1..=bits_allocated).contains(&bits_stored);
    if is_supported {
        Ok(())
    } else {
        Err(Error::Unsupported(format!("{bits_stored} bits stored in {bits_allocated}")))
    }
}

/// Little endian words of 1, 2 or 4 bytes.
fn words(frame: &[u8], bytes: usize, count: usize) -> Result<Vec<u32>, Error> {
    let needed = count * bytes;
    let frame = frame.get(..needed).ok_or(Error::Short { needed, found: frame.len() })?;
    // A loop for each size: the compiler then takes many words at a time.
    Ok(match bytes {
        1 => frame.iter().map(|&byte| byte.into()).collect(),
        2 => frame.as_chunks().0.iter().map(|&word| u16::from_le_bytes(word).into()).collect(),
        _ => frame.as_chunks().0.iter().map(|&word| u32::from_le_bytes(word)).collect(),
    })
}

/// Bits from the least significant on (PS3.5 §8.1.1).
fn unpack_bits(frame: &[u8], first_bit: usize, count: usize) -> Result<Vec<u32>, Error> {
    let needed = (first_bit + count).div_ceil(8);
    let frame = frame.get(..needed).ok_or(Error::Short { needed, found: frame.len() })?;
    Ok((first_bit..first_bit + count).map(|bit| u32::from(frame[bit / 8] >> (bit % 8) & 1)).collect())
}

/// Gives each pixel the chrominance that two pixels share in a native frame: two luminances, then both
/// chrominances (PS3.3 §C.7.6.3.1.2).
fn expand_422(raw: &[u32]) -> Vec<u32> {
    let pairs = raw.as_chunks::<4>().0.iter();
    pairs.flat_map(|&[first, second, b, r]| [first, b, r, second, b, r]).collect()
}

/// Extracts the stored bits of raw words, with their sign.
fn from_raw(raw: Vec<u32>, shape: Shape, layout: &PixelLayout) -> Image {
    let stored = u32::from(layout.bits_stored);
    // A High Bit that leaves no room for the stored bits is replaced by the usual one.
    let shift = (u32::from(layout.high_bit) + 1).saturating_sub(stored);
    let shift = if shift + stored > u32::from(layout.bits_allocated) { 0 } else { shift };
    let samples = raw.into_iter().map(|word| narrow(word >> shift, stored, layout.is_signed)).collect();
    Image { shape, precision: stored, is_signed: layout.is_signed, samples }
}

/// The lowest `bits` bits of a word as a number.
fn narrow(word: u32, bits: u32, is_signed: bool) -> i32 {
    let unused = 32 - bits;
    if is_signed { ((word << unused) as i32) >> unused } else { (word << unused >> unused) as i32 }
}

/// The Photometric Interpretation of pixels which each have their own chrominance.
fn without_subsampling(photometric: &str) -> String {
    photometric.replace("YBR_FULL_422", "YBR_FULL")
}

/// Decodes a native frame.
fn native(frame: &[u8], layout: &PixelLayout, shape: Shape, first_bit: u32) -> Result<Decoded, Error> {
    let count = shape.number_of_samples()?;
    let is_shared = layout.has_shared_chrominance();
    if is_shared && !shape.columns.is_multiple_of(2) {
        return Err(Error::Unsupported(format!("{} of an odd number of columns", layout.photometric)));
    }
    let stored_count = if is_shared { count / 3 * 2 } else { count };
    let mut raw = match layout.bits_allocated {
        1 => unpack_bits(frame, first_bit as usize, stored_count)?,
        bits => words(frame, usize::from(bits / 8), stored_count)?,
    };
    if is_shared {
        raw = expand_422(&raw);
    }
    let mut image = from_raw(raw, shape, layout);
    if layout.is_planar && shape.samples > 1 && !is_shared {
        image.samples = interleave(&image.samples, shape.samples.into());
    }
    Ok(Decoded { image, photometric: without_subsampling(&layout.photometric) })
}

fn decompress(frame: &[u8], layout: &PixelLayout, shape: Shape, uid: &str) -> Result<Decoded, Error> {
    let compression = compression(uid);
    if compression == Some(Compression::Encapsulated) {
        return native(frame, layout, shape, 0);
    }
    let (layout, codestream) = pixel_layout::of_frame(layout, frame);
    let layout = &*layout;
    let is_lossy = codestream.map_or_else(|| transfer_syntax::may_be_lossy(uid), |found| found.is_lossy);
    let image = match compression {
        None | Some(Compression::Encapsulated) => {
            return Err(Error::Unsupported(format!("transfer syntax {uid}")));
        }
        Some(Compression::DeflatedFrame) => {
            let bytes = layout.native_frame_bits().map(|bits| bits.div_ceil(8));
            let bytes = bytes.and_then(|bytes| usize::try_from(bytes).ok()).ok_or(Error::Size(shape))?;
            return native(&deflated::inflate(frame, bytes)?, layout, shape, 0);
        }
        Some(Compression::Rle) => from_raw(
            rle::decode(frame, shape, usize::from(layout.bits_allocated.div_ceil(8)))?,
            shape,
            layout,
        ),
        Some(Compression::Jpeg) => {
            let is_ybr = becomes_rgb(layout, compression, is_lossy);
            with_stored_bits(jpeg::decode(frame, shape, is_ybr)?, layout)
        }
        Some(Compression::JpegLs) => with_stored_bits(jpeg_ls::decode(frame, shape)?, layout),
        Some(Compression::Jpeg2000) => with_stored_bits(j2k::decode(frame, shape, 0)?, layout),
    };
    Ok(Decoded { image, photometric: decoded_photometric(layout, compression, is_lossy) })
}

/// Applies the sign of the attributes to decoded samples whose codestream states none, as many do not, and
/// takes Bits Stored for the precision if the samples have no more bits: many codestreams state more.
fn with_stored_bits(mut image: Image, layout: &PixelLayout) -> Image {
    let bits = image.precision.min(layout.bits_stored.into());
    if layout.is_signed && !image.is_signed {
        image.samples.iter_mut().for_each(|sample| *sample = narrow(*sample as u32, bits, true));
    }
    image.is_signed = layout.is_signed;
    let fits = |&sample: &i32| narrow(sample as u32, bits, image.is_signed) == sample;
    if bits < image.precision && image.samples.iter().all(fits) {
        image.precision = bits;
    }
    image
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pixel::jpeg_lossless;

    const NATIVE: FrameEncoding<'_> = FrameEncoding::Native { first_bit: 0 };

    fn layout(columns: u32, samples: u16, bits: [u16; 3], is_signed: bool) -> PixelLayout {
        let [bits_allocated, bits_stored, high_bit] = bits;
        PixelLayout {
            rows: 1,
            columns,
            samples,
            bits_allocated,
            bits_stored,
            high_bit,
            is_signed,
            photometric: if samples == 3 { "RGB" } else { "MONOCHROME2" }.into(),
            is_planar: false,
            number_of_frames: 1,
        }
    }

    #[test]
    fn native_samples_are_the_stored_bits_with_their_sign() {
        for (bytes, bits, is_signed, expected) in [
            (vec![0xFF, 0x80], [8, 8, 7], false, [255, 128]),
            (vec![0xFF, 0x80], [8, 8, 7], true, [-1, -128]),
            (vec![0x34, 0x12, 0xFF, 0xFF], [16, 16, 15], false, [0x1234, 0xFFFF]),
            (vec![0x34, 0x12, 0xFF, 0xFF], [16, 16, 15], true, [0x1234, -1]),
            (vec![0x01, 0xF8, 0xFF, 0x07], [16, 12, 11], true, [-0x7FF, 0x7FF]),
            (vec![0x10, 0x80, 0xFF, 0x00], [16, 12, 15], false, [0x801, 0x0F]),
            (vec![1, 0, 0, 0x80, 2, 0, 0, 0], [32, 32, 31], true, [i32::MIN + 1, 2]),
        ] {
            let decoded = decode(&bytes, &layout(2, 1, bits, is_signed), NATIVE).unwrap();
            assert_eq!(decoded.image.samples, expected, "{bits:?} {is_signed}");
        }
    }

    #[test]
    fn one_bit_samples_start_anywhere_in_a_byte() {
        let stored = FrameEncoding::Native { first_bit: 6 };
        let decoded = decode(&[0b0100_0000, 0b10], &layout(4, 1, [1, 1, 0], false), stored).unwrap();
        assert_eq!(decoded.image.samples, [1, 0, 0, 1]);
        assert_eq!(native_bytes(&decoded.image, 1).unwrap(), [0b1001]);
    }

    #[test]
    fn colours_come_pixel_by_pixel() {
        let mut planar = layout(2, 3, [8, 8, 7], false);
        planar.is_planar = true;
        assert_eq!(decode(&[1, 2, 3, 4, 5, 6], &planar, NATIVE).unwrap().image.samples, [1, 3, 5, 2, 4, 6]);

        for (photometric, decoded_photometric) in
            [("YBR_FULL_422", "YBR_FULL"), ("YBR_PARTIAL_422", "YBR_PARTIAL_422")]
        {
            for (bits, bytes) in [
                ([8, 8, 7], vec![1, 2, 3, 4]),
                ([16, 16, 15], vec![1, 0, 2, 0, 3, 0, 4, 0]),
                ([16, 12, 15], vec![0x10, 0, 0x20, 0, 0x30, 0, 0x40, 0]),
                ([32, 32, 31], vec![1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0]),
            ] {
                let halved = PixelLayout { photometric: photometric.into(), ..layout(2, 3, bits, false) };
                assert_eq!(halved.native_frame_bits(), Some(8 * bytes.len() as u64));
                let decoded = decode(&bytes, &halved, NATIVE).unwrap();
                assert_eq!(decoded.image.samples, [1, 3, 4, 2, 3, 4], "{bits:?}");
                assert_eq!(decoded.photometric, decoded_photometric);
                assert!(decode(&bytes[1..], &halved, NATIVE).is_err(), "{bits:?}");
                let odd = PixelLayout { columns: 3, ..halved };
                assert!(matches!(decode(&bytes, &odd, NATIVE), Err(Error::Unsupported(_))));
            }
        }
    }

    #[test]
    fn samples_that_need_more_bits_than_are_allocated_are_never_cut() {
        let shape = Shape { rows: 1, columns: 2, samples: 1 };
        for (bits_allocated, most) in [(1, 1), (8, 8), (16, 16), (32, 32)] {
            for precision in 1..=32 {
                let image = Image { shape, precision, is_signed: false, samples: vec![0, 1] };
                let bytes = native_bytes(&image, bits_allocated);
                assert_eq!(bytes.is_ok(), precision <= most, "{precision} in {bits_allocated}");
            }
        }
    }

    #[test]
    fn native_bytes_read_back_as_the_same_samples() {
        for (bits, is_signed, samples) in [
            ([8, 8, 7], false, vec![0, 255]),
            ([16, 12, 11], true, vec![-2048, 2047]),
            ([32, 32, 31], true, vec![i32::MIN, i32::MAX]),
        ] {
            let layout = layout(2, 1, bits, is_signed);
            let shape = Shape { rows: 1, columns: 2, samples: 1 };
            let image = Image { shape, precision: bits[1].into(), is_signed, samples };
            let bytes = native_bytes(&image, layout.bits_allocated).unwrap();
            assert_eq!(decode(&bytes, &layout, NATIVE).unwrap().image, image);
        }
    }

    const RED: [i32; 3] = [200, 30, 40];
    /// The same colour as luminance and chrominance.
    const RED_YBR: [i32; 3] = [82, 104, 212];

    fn plain(colour: [i32; 3]) -> Image {
        let shape = Shape { rows: 16, columns: 16, samples: 3 };
        Image { shape, precision: 8, is_signed: false, samples: colour.repeat(256) }
    }

    /// A JPEG frame whose JFIF segment is replaced.
    fn with_segment(jpeg: &[u8], segment: &[u8]) -> Vec<u8> {
        let length = usize::from(u16::from_be_bytes([jpeg[4], jpeg[5]]));
        assert_eq!(jpeg[2..4], [0xFF, 0xE0]);
        [&jpeg[..2], segment, &jpeg[4 + length..]].concat()
    }

    #[test]
    fn colours_are_those_of_the_codestream_whatever_the_attributes_claim() {
        let adobe = |transform| [&[0xFF, 0xEE, 0, 14], b"Adobe\0d\0\0\0\0".as_slice(), &[transform]].concat();
        let in_ybr = jpeg::encode(&plain(RED), false, 95).unwrap();
        let in_rgb = jpeg::encode(&plain(RED), true, 95).unwrap();
        let j2k = |is_turned| j2k::encode_components(&plain(RED), j2k::Loss::None, is_turned).unwrap();
        let jls = jpeg_ls::encode(&plain(RED), 0).unwrap();
        let lossless = jpeg_lossless::encode(&plain(RED)).unwrap();
        let lossless_adobe = [&lossless[..2], &adobe(0), &lossless[2..]].concat();
        let rle = rle::encode(&plain(RED), 1).unwrap();
        let proved = ["RGB"; 6];
        let claimed = ["RGB", "YBR_FULL", "YBR_FULL", "RGB", "RGB", "RGB"];
        // RLE states nothing: the claims stay.
        let by_claim = ["RGB", "YBR_FULL", "YBR_FULL", "YBR_RCT", "YBR_ICT", "MONOCHROME2"];
        for (name, frame, leaf, expected, tolerance) in [
            ("JFIF", in_ybr.clone(), "4.50", proved, 3),
            ("Adobe, luminance", with_segment(&in_ybr, &adobe(1)), "4.50", proved, 3),
            ("Adobe, RGB", with_segment(&in_rgb, &adobe(0)), "4.51", proved, 3),
            ("subsampled", with_segment(&in_ybr, &[]), "4.50", proved, 3),
            ("JPEG 2000, turned", j2k(true), "4.90", proved, 0),
            ("JPEG 2000", j2k(false), "4.90", claimed, 0),
            ("JPEG-LS", jls, "4.80", claimed, 0),
            ("lossless JPEG", lossless.clone(), "4.70", claimed, 0),
            ("lossless JPEG under the UID of a lossy one", lossless, "4.50", claimed, 0),
            ("lossless JPEG, Adobe, RGB", lossless_adobe, "4.70", proved, 0),
            ("RLE", rle, "5", by_claim, 0),
        ] {
            let claims = ["RGB", "YBR_FULL", "YBR_FULL_422", "YBR_RCT", "YBR_ICT", "MONOCHROME2"];
            for (claim, expected) in claims.into_iter().zip(expected) {
                let Image { shape, samples, .. } = plain(RED);
                let layout = PixelLayout {
                    rows: shape.rows,
                    photometric: claim.into(),
                    ..layout(shape.columns, 3, [8, 8, 7], false)
                };
                let uid = format!("1.2.840.10008.1.2.{leaf}");
                let decoded = decode(&frame, &layout, FrameEncoding::Compressed(&uid)).unwrap();
                assert_eq!(decoded.photometric, expected, "{name} {claim}");
                let differences = decoded.image.samples.iter().zip(&samples).map(|(a, b)| (a - b).abs());
                assert!(differences.max().unwrap() <= tolerance, "{name} {claim}");
            }
        }
        let decoded = Decoded { image: plain(RED_YBR), photometric: "YBR_FULL".into() };
        let differences: Vec<i32> =
            to_rgb(decoded).image.samples.iter().zip(RED).map(|(a, b)| (a - b).abs()).collect();
        assert!(differences.iter().all(|&difference| difference <= 1), "{differences:?}");
    }

    #[test]
    fn the_sign_is_the_one_that_the_codestream_states_or_else_the_claimed_one() {
        let samples = vec![-300, 0, 7, 300];
        let shape = Shape { rows: 1, columns: 4, samples: 1 };
        let signed = Image { shape, precision: 12, is_signed: true, samples };
        let unsigned = Image {
            is_signed: false,
            samples: signed.samples.iter().map(|sample| sample & 0xFFF).collect(),
            ..signed.clone()
        };
        let decoded = |image: &Image, is_claimed| {
            let frame = j2k::encode(image, j2k::Loss::None).unwrap();
            let layout = layout(4, 1, [16, 12, 11], is_claimed);
            decode(&frame, &layout, FrameEncoding::Compressed(transfer_syntax::JPEG2000)).unwrap().image
        };
        assert_eq!(decoded(&signed, true), signed);
        assert_eq!(decoded(&signed, false), signed);
        assert_eq!(decoded(&unsigned, true), signed);
        assert_eq!(decoded(&unsigned, false), unsigned);
    }

    #[test]
    fn the_precision_is_bits_stored_unless_samples_need_more() {
        for (samples, bits_stored, is_signed, expected) in [
            (vec![0, 4095], 12, false, 12),
            (vec![0, 4096], 12, false, 16),
            (vec![0, 255], 8, false, 8),
            (vec![-2048, 2047], 12, true, 12),
            (vec![-2049, 2047], 12, true, 16),
            (vec![0, 65535], 16, false, 16),
        ] {
            let shape = Shape { rows: 1, columns: 2, samples: 1 };
            let image = Image { shape, precision: 16, is_signed, samples };
            let frame = j2k::encode(&image, j2k::Loss::None).unwrap();
            let layout = layout(2, 1, [16, bits_stored, bits_stored - 1], is_signed);
            let decoded =
                decode(&frame, &layout, FrameEncoding::Compressed(transfer_syntax::JPEG2000)).unwrap();
            assert_eq!(decoded.image, Image { precision: expected, ..image });
        }
    }

    #[test]
    fn zero_bytes_before_the_end_of_jpeg_ls_are_read_over() {
        for step in 1..40 {
            let shape = Shape { rows: 8, columns: 8, samples: 1 };
            let samples: Vec<i32> = (0..64).map(|place| place * place * step % 4096).collect();
            let image = Image { shape, precision: 12, is_signed: false, samples };
            let frame = jpeg_ls::encode(&image, 0).unwrap();
            let (coded, end) = frame.split_at(frame.len() - 2);
            for zeros in 0..=4 {
                let frame = [coded, &vec![0; zeros], end].concat();
                let layout = PixelLayout { rows: 8, ..layout(8, 1, [16, 12, 11], false) };
                let stored = FrameEncoding::Compressed(transfer_syntax::JPEGLS_LOSSLESS);
                let decoded = decode(&frame, &layout, stored).unwrap();
                assert_eq!(decoded.image, image, "{step} {zeros}");
            }
        }
    }

    #[test]
    fn garbage_is_an_error_in_every_transfer_syntax() {
        let garbage: Vec<u8> = (0..4000_u32).map(|i| (i * i % 251) as u8).collect();
        let jpeg =
            [&[0xFF, 0xD8, 0xFF, 0xC3, 0, 11, 8, 0, 1, 0, 2, 1, 1, 0x11, 0, 0xFF, 0xDA, 0, 8], &garbage[..]];
        let syntaxes = ["1.2.5", "1.2.4.50", "1.2.4.70", "1.2.4.80", "1.2.4.90", "1.2.4.201", "1.2.4.102"];
        for frame in [&[][..], &[0xFF], &garbage, &jpeg.concat()] {
            for syntax in syntaxes {
                let syntax = format!("1.2.840.10008.{syntax}");
                let layout = layout(2, 1, [16, 12, 11], false);
                assert!(decode(frame, &layout, FrameEncoding::Compressed(&syntax)).is_err(), "{syntax}");
            }
        }
    }

    #[test]
    fn a_frame_larger_than_it_may_be_is_refused_before_anything_is_allocated() {
        let mut layout = layout(u32::MAX, 3, [16, 16, 15], false);
        layout.rows = u32::MAX;
        assert!(matches!(decode(&[], &layout, NATIVE), Err(Error::Size(_))));
    }
}
