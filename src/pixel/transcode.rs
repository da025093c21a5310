//! Encodes frames in another transfer syntax, within the limits of each codec (PS3.5 §8.2 and Annex A.4).

use crate::dicom::frames::PixelLayout;
use crate::dicom::transfer_syntax;
use crate::pixel::decode::{Decoded, to_rgb};
use crate::pixel::j2k::Loss;
use crate::pixel::{Error, j2k, jpeg, jpeg_lossless, jpeg_ls, rle};

/// The revision of the encoders: raised when a frame is encoded to other bytes than before, so that cached
/// frames are made again.
pub const REVISION: u32 = 2;

/// Quality of baseline JPEG, of 100: no difference that is seen at the usual magnifications.
const JPEG_QUALITY: u8 = 90;
/// The maximum error of a sample in near-lossless JPEG-LS.
const NEAR: u8 = 2;
/// The ratio of an uncompressed frame to a lossy JPEG 2000 frame.
const JPEG_2000_RATIO: usize = 10;
/// The longest side that JPEG and JPEG-LS can express.
const MAX_JPEG_SIDE: u32 = 65_535;

/// A codec that frames can be encoded with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    /// JPEG-LS without loss.
    JpegLs,
    /// Lossless JPEG, Selection Value 1.
    JpegLossless,
    /// JPEG 2000 without loss.
    Jpeg2000,
    /// Run length encoding.
    Rle,
    /// Baseline JPEG, with loss.
    JpegBaseline,
    /// JPEG-LS with a bounded loss.
    JpegLsNear,
    /// JPEG 2000 with loss.
    Jpeg2000Lossy,
}

/// A frame as it was encoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    /// The codestream, of even length: padded with a zero if need be.
    pub bytes: Vec<u8>,
    /// Photometric Interpretation (0028,0004) of the codestream.
    pub photometric: &'static str,
}

/// The description of a lossy compression (PS3.3 §C.7.6.1.1.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lossy {
    /// Lossy Image Compression Method (0028,2114).
    pub method: &'static str,
    /// For Derivation Description (0008,2111).
    pub description: &'static str,
}

impl Codec {
    /// Every codec: lossless ones first, those first that cost least.
    pub const ALL: [Self; 7] = [
        Self::JpegLs,
        Self::JpegLossless,
        Self::Jpeg2000,
        Self::Rle,
        Self::JpegBaseline,
        Self::JpegLsNear,
        Self::Jpeg2000Lossy,
    ];

    /// The UID of its transfer syntax.
    pub fn transfer_syntax(self) -> &'static str {
        match self {
            Self::JpegLs => transfer_syntax::JPEGLS_LOSSLESS,
            Self::JpegLossless => transfer_syntax::JPEG_LOSSLESS_SV1,
            Self::Jpeg2000 => transfer_syntax::JPEG2000_LOSSLESS,
            Self::Rle => transfer_syntax::RLE_LOSSLESS,
            Self::JpegBaseline => transfer_syntax::JPEG_BASELINE8_BIT,
            Self::JpegLsNear => transfer_syntax::JPEGLS_NEAR_LOSSLESS,
            Self::Jpeg2000Lossy => transfer_syntax::JPEG2000,
        }
    }

    /// The description of its loss; `None` if it is lossless.
    pub fn lossy(self) -> Option<Lossy> {
        let (method, description) = match self {
            Self::JpegLs | Self::JpegLossless | Self::Jpeg2000 | Self::Rle => return None,
            Self::JpegBaseline => ("ISO_10918_1", "Lossy compression: JPEG baseline, quality 90"),
            Self::JpegLsNear => {
                ("ISO_14495_1", "Lossy compression: JPEG-LS, samples within 2 of the original")
            }
            Self::Jpeg2000Lossy => ("ISO_15444_1", "Lossy compression: JPEG 2000 to a tenth of the size"),
        };
        Some(Lossy { method, description })
    }

    /// Whether the codec may encode frames of this layout.
    ///
    /// PS3.5 Tables 8.2.1-1 to 8.2.4-1. A lossy codec that ignores the sign would damage signed samples, and
    /// may not encode their sign.
    pub fn can_carry(self, layout: &PixelLayout) -> bool {
        let (stored, allocated) = (layout.bits_stored, layout.bits_allocated);
        let is_lossless = self.lossy().is_none();
        let is_colour = layout.samples == 3;
        let is_palette = layout.photometric == "PALETTE COLOR";
        let has_meaning = match layout.photometric.as_str() {
            "MONOCHROME1" | "MONOCHROME2" => layout.samples == 1,
            // Between two entries of a palette there may be any colour.
            "PALETTE COLOR" => layout.samples == 1 && is_lossless && !layout.is_signed,
            "RGB" | "YBR_FULL" | "YBR_FULL_422" | "YBR_RCT" | "YBR_ICT" => is_colour && !layout.is_signed,
            _ => false,
        };
        let is_word = matches!(allocated, 8 | 16) && stored <= allocated;
        // Single bits are masks, and no IOD has palettes or signs for them.
        let is_bit = (allocated, stored) == (1, 1) && !layout.is_signed && !is_palette && !is_colour;
        let fits = layout.rows.max(layout.columns) <= MAX_JPEG_SIDE;
        let has_bits = match self {
            Self::Rle => is_bit || (matches!(allocated, 8 | 16 | 32) && stored <= allocated),
            Self::JpegLs | Self::JpegLossless => is_word && stored >= 1 && fits,
            Self::Jpeg2000 => is_bit || (is_word && stored >= 1),
            Self::JpegBaseline => (allocated, stored) == (8, 8) && !layout.is_signed && fits,
            Self::JpegLsNear => is_word && stored >= 8 && !layout.is_signed && fits,
            Self::Jpeg2000Lossy => is_word && stored >= 8,
        };
        // Chrominance is of 8 bits, except in what was made of wider colours.
        let is_wide_ybr = layout.photometric.starts_with("YBR_FULL") && allocated > 8;
        // A lossy codec may turn a sample to any that its codestream can hold: of more bits than Bits Stored,
        // some would be larger than they may be.
        let stays_inside = is_lossless || self.precision(layout) == u32::from(stored);
        has_meaning && has_bits && stays_inside && !is_wide_ybr && !(is_palette && is_colour)
    }

    /// Bits of a sample in the codestream: Bits Stored, unless other decoders fail at that. Those of dcmtk
    /// and GDCM read JPEG and JPEG-LS of 8 to 16 bits only, most expect words of the size of Bits Allocated,
    /// and that of GDCM does not extend the sign of JPEG-LS samples.
    fn precision(self, layout: &PixelLayout) -> u32 {
        let least = match (self, layout.bits_allocated) {
            (Self::Rle | Self::JpegBaseline, _) => 1,
            (Self::JpegLs | Self::JpegLsNear | Self::JpegLossless, 8) => 8,
            (_, ..=8) => 1,
            (Self::JpegLs, bits_allocated) if layout.is_signed => bits_allocated,
            _ => 9,
        };
        layout.bits_stored.max(least).into()
    }

    /// Encodes a frame of a layout that [`Codec::can_carry`] allows.
    ///
    /// # Errors
    /// The error of the codec; [`Error::Unsupported`] if a decoded frame differs from its layout.
    pub fn encode(self, mut decoded: Decoded, layout: &PixelLayout) -> Result<Encoded, Error> {
        check_range(&decoded, layout)?;
        decoded.image.precision = self.precision(layout);
        if matches!(self, Self::Jpeg2000Lossy) {
            decoded = to_rgb(decoded);
        }
        let Decoded { image, photometric } = decoded;
        let is_ybr = photometric.starts_with("YBR_FULL");
        let is_rgb = photometric == "RGB";
        let bytes_per_sample = usize::from(layout.bits_allocated.div_ceil(8));
        let mut bytes = match self {
            Self::JpegLs => jpeg_ls::encode(&image, 0),
            Self::JpegLsNear => jpeg_ls::encode(&image, NEAR),
            Self::JpegLossless => jpeg_lossless::encode(&image),
            Self::Jpeg2000 => j2k::encode_components(&image, Loss::None, is_rgb),
            Self::Jpeg2000Lossy => {
                let raw_bytes = image.samples.len() * bytes_per_sample;
                j2k::encode_components(&image, Loss::Bytes(raw_bytes / JPEG_2000_RATIO), is_rgb)
            }
            Self::Rle => rle::encode(&image, bytes_per_sample),
            Self::JpegBaseline => jpeg::encode(&image, is_ybr, JPEG_QUALITY),
        }?;
        if !bytes.len().is_multiple_of(2) {
            bytes.push(0);
        }
        let photometric = match (self, photometric.as_str()) {
            (_, "MONOCHROME1") => "MONOCHROME1",
            (_, "MONOCHROME2") => "MONOCHROME2",
            (_, "PALETTE COLOR") => "PALETTE COLOR",
            (Self::JpegBaseline, _) => "YBR_FULL_422",
            (Self::Jpeg2000, "RGB") => "YBR_RCT",
            (Self::Jpeg2000Lossy, "RGB") => "YBR_ICT",
            (_, "RGB") => "RGB",
            _ if is_ybr => "YBR_FULL",
            _ => return Err(Error::Unsupported(format!("photometric interpretation {photometric}"))),
        };
        Ok(Encoded { bytes, photometric })
    }
}

/// Refuses samples that need more bits than the attributes say: they would be cut.
fn check_range(decoded: &Decoded, layout: &PixelLayout) -> Result<(), Error> {
    let bits = layout.bits_stored;
    let bit = |at: u16| 1_i64 << at;
    let range = if layout.is_signed { -bit(bits - 1)..bit(bits - 1) } else { 0..bit(bits) };
    let is_inside = |&sample: &i32| {
        let sample = if layout.is_signed { sample.into() } else { i64::from(sample as u32) };
        range.contains(&sample)
    };
    if decoded.image.samples.iter().all(is_inside) {
        Ok(())
    } else {
        Err(Error::Unsupported(format!("a frame with samples of more than {bits} bits")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dicom::codestream;
    use crate::pixel::decode::{FrameEncoding, decode, native_bytes};
    use crate::pixel::{Image, Shape};

    fn layout(photometric: &str, bits: [u16; 2], is_signed: bool, [rows, columns]: [u32; 2]) -> PixelLayout {
        let is_colour = photometric.starts_with("YBR") || photometric == "RGB";
        PixelLayout {
            rows,
            columns,
            samples: if is_colour { 3 } else { 1 },
            bits_allocated: bits[0],
            bits_stored: bits[1],
            high_bit: bits[1] - 1,
            is_signed,
            photometric: photometric.to_owned(),
            is_planar: false,
            number_of_frames: 1,
        }
    }

    /// Slopes with steps and a little noise over the whole range of values.
    fn picture(layout: &PixelLayout) -> Decoded {
        let shape = Shape { rows: layout.rows, columns: layout.columns, samples: layout.samples };
        let range = 2_f64.powi(layout.bits_stored.into());
        let lowest = if layout.is_signed { -range / 2.0 } else { 0.0 };
        let mut noise = 1_u32;
        let samples = (0..shape.number_of_samples().unwrap()).map(|place| {
            let (sample, pixel) = (place % usize::from(shape.samples), place / usize::from(shape.samples));
            let (x, y) = (pixel % shape.columns as usize, pixel / shape.columns as usize);
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let step = if (x / 8 + y / 8) % 4 == sample { 0.3 } else { 0.0 };
            let slope = (x + 2 * y) as f64 / (shape.columns + 2 * shape.rows) as f64 * 0.6;
            let level = slope + step + f64::from(noise >> 20) / 4096.0 / 64.0;
            (lowest + range * level.min(0.9999)).floor() as i64 as i32
        });
        let photometric = layout.photometric.replace("_422", "");
        let image = Image {
            shape,
            precision: layout.bits_stored.into(),
            is_signed: layout.is_signed,
            samples: samples.collect(),
        };
        Decoded { image, photometric }
    }

    fn round_trip(codec: Codec, picture: &Decoded, layout: &PixelLayout) -> Decoded {
        let encoded = codec.encode(picture.clone(), layout).unwrap();
        assert!(encoded.bytes.len().is_multiple_of(2));
        let layout = PixelLayout { photometric: encoded.photometric.into(), ..layout.clone() };
        decode(&encoded.bytes, &layout, FrameEncoding::Compressed(codec.transfer_syntax())).unwrap()
    }

    const SIZES: [[u32; 2]; 5] = [[64, 48], [1, 1], [1, 70], [33, 3], [17, 19]];

    /// Every layout that some codec may carry, and some that none may.
    fn layouts() -> Vec<PixelLayout> {
        let bits = [[8, 1], [8, 2], [8, 7], [8, 8], [16, 9], [16, 12], [16, 16], [32, 32], [32, 20], [1, 1]];
        let mut layouts = Vec::new();
        for photometric in
            ["MONOCHROME1", "MONOCHROME2", "PALETTE COLOR", "RGB", "YBR_FULL", "YBR_PARTIAL_422", "CMYK"]
        {
            for (bits, is_signed) in bits.iter().flat_map(|bits| [(*bits, false), (*bits, true)]) {
                layouts.extend(SIZES.map(|size| layout(photometric, bits, is_signed, size)));
            }
        }
        layouts
    }

    #[test]
    fn lossless_frames_come_back_as_they_were_in_every_layout_that_a_codec_may_carry() {
        let mut carried = [0; Codec::ALL.len()];
        for layout in layouts() {
            for (codec, carried) in Codec::ALL.into_iter().zip(&mut carried) {
                if codec.lossy().is_none() && codec.can_carry(&layout) {
                    let picture = picture(&layout);
                    let back = round_trip(codec, &picture, &layout);
                    let raw =
                        |decoded: &Decoded| native_bytes(&decoded.image, layout.bits_allocated).unwrap();
                    assert!(raw(&back) == raw(&picture), "{codec:?} {layout:?}");
                    assert_eq!(back.photometric, picture.photometric, "{codec:?} {layout:?}");
                    *carried += 1;
                }
            }
        }
        // 7 widths of grey, signed and not, of a palette and of RGB, 4 of YBR_FULL; of RLE 9 and 4. JPEG 2000
        // and RLE: single bits of grey, too.
        let words = 7 * 4 + 7 + 7 + 4;
        let expected = [words, words, words + 2, 9 * 4 + 2 + 9 + 9 + 4, 0, 0, 0];
        assert_eq!(carried, expected.map(|layouts| layouts * SIZES.len()));
    }

    #[test]
    fn codestreams_have_words_of_the_size_of_bits_allocated() {
        for (codec, bits, is_signed, expected) in [
            (Codec::JpegLs, [8, 5], false, 8),
            (Codec::JpegLs, [16, 8], false, 9),
            (Codec::JpegLs, [16, 12], false, 12),
            (Codec::JpegLs, [16, 12], true, 16),
            (Codec::JpegLossless, [8, 1], false, 8),
            (Codec::JpegLossless, [16, 3], true, 9),
            (Codec::JpegLossless, [16, 16], false, 16),
            (Codec::Jpeg2000, [8, 5], true, 5),
            (Codec::Jpeg2000, [16, 8], false, 9),
        ] {
            let layout = layout("MONOCHROME2", bits, is_signed, [8, 8]);
            let encoded = codec.encode(picture(&layout), &layout).unwrap();
            let found = codestream::describe(&encoded.bytes).unwrap();
            assert_eq!(found.bits_stored, expected, "{codec:?} {bits:?}");
        }
    }

    #[test]
    fn lossy_frames_come_back_nearly_as_they_were() {
        for (codec, photometric, bits, is_signed, least) in [
            (Codec::JpegBaseline, "MONOCHROME2", [8, 8], false, 36.0),
            (Codec::JpegBaseline, "RGB", [8, 8], false, 27.0),
            (Codec::JpegBaseline, "YBR_FULL", [8, 8], false, 27.0),
            (Codec::JpegLsNear, "MONOCHROME1", [8, 8], false, 40.0),
            (Codec::JpegLsNear, "MONOCHROME2", [16, 12], false, 60.0),
            (Codec::JpegLsNear, "RGB", [8, 8], false, 40.0),
            (Codec::Jpeg2000Lossy, "MONOCHROME2", [16, 12], false, 36.0),
            (Codec::Jpeg2000Lossy, "MONOCHROME2", [16, 12], true, 36.0),
            (Codec::Jpeg2000Lossy, "RGB", [8, 8], false, 27.0),
            (Codec::Jpeg2000Lossy, "YBR_FULL", [8, 8], false, 27.0),
        ] {
            let layout = layout(photometric, bits, is_signed, [128, 120]);
            assert!(codec.can_carry(&layout), "{codec:?}");
            let original = picture(&layout);
            let back = round_trip(codec, &original, &layout);
            let original = if back.photometric == "RGB" { to_rgb(original) } else { original };
            assert_eq!(back.photometric, original.photometric);
            let quality = psnr(&original.image, &back.image);
            assert!(quality > least, "{codec:?} {photometric} {bits:?} {is_signed}: {quality} dB");
        }
    }

    fn psnr(first: &Image, second: &Image) -> f64 {
        let pairs = first.samples.iter().zip(&second.samples);
        let squares: f64 = pairs.map(|(a, b)| f64::from(a - b).powi(2)).sum();
        let peak = f64::from((1_u32 << first.precision) - 1);
        10.0 * (peak * peak * first.samples.len() as f64 / squares.max(1e-9)).log10()
    }

    #[test]
    fn no_sample_of_near_lossless_is_farther_than_it_may_be() {
        for bits in [[8, 8], [16, 12], [16, 16]] {
            let layout = layout("MONOCHROME2", bits, false, [60, 50]);
            let picture = picture(&layout);
            let back = round_trip(Codec::JpegLsNear, &picture, &layout);
            let pairs = picture.image.samples.iter().zip(&back.image.samples);
            let farthest = pairs.map(|(a, b)| (a - b).abs()).max();
            assert!((1..=2).contains(&farthest.unwrap()), "{bits:?}: {farthest:?}");
        }
    }

    #[test]
    fn what_a_lossy_codec_would_spoil_is_not_given_to_it() {
        for (codec, photometric, bits, is_signed) in [
            (Codec::JpegBaseline, "MONOCHROME2", [16, 12], false),
            (Codec::JpegBaseline, "MONOCHROME2", [16, 8], false),
            (Codec::JpegBaseline, "MONOCHROME2", [8, 8], true),
            (Codec::JpegBaseline, "PALETTE COLOR", [8, 8], false),
            (Codec::JpegLsNear, "MONOCHROME2", [16, 12], true),
            (Codec::JpegLsNear, "MONOCHROME2", [16, 8], false),
            (Codec::Jpeg2000Lossy, "MONOCHROME2", [16, 8], false),
            (Codec::Jpeg2000Lossy, "MONOCHROME2", [16, 8], true),
            (Codec::JpegLsNear, "PALETTE COLOR", [8, 8], false),
            (Codec::Jpeg2000Lossy, "PALETTE COLOR", [8, 8], false),
            (Codec::Jpeg2000Lossy, "MONOCHROME2", [8, 1], false),
            (Codec::Jpeg2000Lossy, "MONOCHROME2", [32, 32], false),
        ] {
            let layout = layout(photometric, bits, is_signed, [8, 8]);
            assert!(!codec.can_carry(&layout), "{codec:?} {photometric} {bits:?}");
        }
    }

    /// Values at both ends of the range, side by side.
    fn extremes(layout: &PixelLayout) -> Decoded {
        let mut extremes = picture(layout);
        let range = 1_i64 << layout.bits_stored;
        let lowest = if layout.is_signed { -range / 2 } else { 0 };
        let mut noise = 1_u32;
        for sample in &mut extremes.image.samples {
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let step = i64::from(noise >> 28) % 3;
            let number = if noise >> 31 == 0 { lowest + step } else { lowest + range - 1 - step };
            *sample = number.clamp(lowest, lowest + range - 1) as i32;
        }
        extremes
    }

    #[test]
    fn no_codec_gives_a_sample_back_that_has_no_room_in_bits_stored() {
        let mut carried = [0; Codec::ALL.len()];
        for (allocated, bits) in [(8, 1..=8), (16, 1..=16), (32, 17..=32)] {
            for (stored, is_signed) in bits.flat_map(|stored| [(stored, false), (stored, true)]) {
                for photometric in ["MONOCHROME2", "RGB"] {
                    let layout = layout(photometric, [allocated, stored], is_signed, [33, 41]);
                    for (codec, carried) in Codec::ALL.into_iter().zip(&mut carried) {
                        if !codec.can_carry(&layout) {
                            continue;
                        }
                        let encoded = codec.encode(extremes(&layout), &layout).unwrap();
                        let uid = FrameEncoding::Compressed(codec.transfer_syntax());
                        let decoded = decode(&encoded.bytes, &layout, uid).unwrap();
                        check_range(&decoded, &layout).unwrap();
                        if codec.lossy().is_none() {
                            assert!(decoded.image.samples == extremes(&layout).image.samples, "{codec:?}");
                        }
                        *carried += 1;
                    }
                }
            }
        }
        assert!(carried.iter().all(|&layouts| layouts > 0), "{carried:?}");
    }

    #[test]
    fn noise_is_carried_by_every_lossless_codec() {
        for bits in [[8, 8], [16, 12], [16, 16]] {
            let layout = layout("MONOCHROME2", bits, false, [512, 512]);
            let mut noisy = picture(&layout);
            let mut noise = 1_u32;
            for sample in &mut noisy.image.samples {
                noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                *sample = (noise >> (32 - bits[1])) as i32;
            }
            for codec in Codec::ALL.into_iter().filter(|codec| codec.lossy().is_none()) {
                assert!(round_trip(codec, &noisy, &layout).image == noisy.image, "{codec:?} {bits:?}");
            }
        }
    }
}
