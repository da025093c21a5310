//! Encodes a frame of a preview: a lossy codestream of a fraction of the size, in levels that each double the
//! resolution.

use serde::{Deserialize, Serialize};

use crate::pixel::decode::{Decoded, to_rgb};
use crate::pixel::ht::{MAX_SIDE, Step, Transformed};
use crate::pixel::{Error, Image, Shape, j2k, noise};

pub use crate::pixel::j2k::END_OF_CODESTREAM;

/// The minimum size of a frame at any rate, as tiny images would vanish. Smaller raw frames are lossless.
const MIN_BYTES: usize = 1024;
/// The longer side of the coarsest level has so many pixels or more.
const LEAST_SIDE: u32 = 64;
/// From so many noisy bits on, a frame has the ratio of noisy frames.
const VERY_NOISY_BITS: u32 = 3;
/// The finest quantisation step in grey values, if there is no noise: rounding to whole values loses as much.
const FINEST_STEP: f64 = 0.5;
/// The place of Rsiz in a main header, and its bit that says that code-blocks may be high-throughput
/// (ISO/IEC 15444-1 §A.5.1, ITU-T T.814 Annex A).
const CAPABILITIES: (usize, u8) = (6, 0x40);

/// The codec of the frames of a preview that are lossy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum PreviewCodec {
    /// JPEG 2000 (ISO/IEC 15444-1).
    #[default]
    J2k,
    /// High-throughput JPEG 2000 (ISO/IEC 15444-15).
    HighThroughput,
}

/// The settings of an encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreviewRate {
    /// The raw size (at 8 or 16 bits) divided by the size of the codestream.
    pub compression_ratio: u32,
    /// The same for frames whose three lowest bits are noise; frames of less noise are between both.
    pub noisy_compression_ratio: u32,
    /// Pixels of the frame that each side of a pixel covers.
    pub binning: u32,
    /// The codec; previews of earlier versions, which do not name it, are plain JPEG 2000.
    #[serde(default)]
    pub codec: PreviewCodec,
}

/// A frame of a preview.
#[derive(Debug, Clone, PartialEq)]
pub struct PreviewImage {
    /// The description of the codestream.
    pub description: ImageDescription,
    /// The tile-parts of the codestream (see [`j2k::encode`] and [`Transformed::encode`]): all between the
    /// main header and the end marker.
    pub tile_parts: Vec<u8>,
    /// The end of each level in `tile_parts`, the coarsest first. The first level has all coarser resolutions
    /// too.
    pub level_ends: Vec<u32>,
    /// The error of the decoded frame, if it was measured.
    pub error: Option<CodingError>,
}

/// The properties of a codestream that many frames share.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ImageDescription {
    /// The size of the image.
    pub shape: Shape,
    /// Bits of a sample, with the low bits that were rounded away.
    pub precision: u32,
    /// The low bits that were rounded away.
    pub dropped_bits: u32,
    /// Whether samples may be negative.
    pub is_signed: bool,
    /// Photometric Interpretation (0028,0004) of the decoded image.
    pub photometric: String,
    /// Pixels of the frame that each side of a pixel covers.
    pub binning: u32,
    /// Whether the decoded image is the frame, bit for bit.
    pub is_lossless: bool,
    /// The number of levels.
    pub levels: u32,
    /// The main header of the codestream.
    #[serde(with = "serde_bytes")]
    pub head: Vec<u8>,
}

impl ImageDescription {
    /// The codec of the codestream.
    pub fn codec(&self) -> PreviewCodec {
        let (place, bit) = CAPABILITIES;
        match self.head.get(place) {
            Some(byte) if byte & bit != 0 => PreviewCodec::HighThroughput,
            _ => PreviewCodec::J2k,
        }
    }
}

/// The difference between a frame and its decoded form.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct CodingError {
    /// The mean of the squared differences.
    pub mean_square: f64,
    /// The smallest number of the form 2^n − 1 that is not less than the range of the frame's values.
    pub peak: u32,
}

/// Encodes a frame, after `binning` × `binning` pixels have become one. Palette colours and samples of less
/// than 8 bits are kept as they are: no value between two of theirs means anything. The error is measured if
/// `is_measured`, which costs a decoding.
///
/// # Errors
/// Those of [`j2k::encode`].
pub fn encode(decoded: Decoded, rate: PreviewRate, is_measured: bool) -> Result<PreviewImage, Error> {
    let Decoded { image, photometric } = to_rgb(decoded);
    let is_exact = image.precision < 8 || photometric.starts_with("PALETTE");
    let binning = if is_exact { 1 } else { rate.binning.max(1) };
    let image = if binning > 1 { bin(&image, binning) } else { image };
    let (shape, precision, is_signed) = (image.shape, image.precision, image.is_signed);
    let raw_bytes = image.samples.len() * if precision > 8 { 2 } else { 1 };
    let is_lossless = is_exact || raw_bytes <= MIN_BYTES;
    let original = (is_measured && !is_lossless).then(|| image.samples.clone());
    let (codestream, dropped_bits) = if is_lossless {
        (j2k::encode(&image, j2k::Loss::None)?, 0)
    } else {
        encode_lossy(image, raw_bytes, rate)?
    };
    let missing = || Error::Codec { codec: "JPEG 2000", reason: "there is no tile-part".into() };
    let parts = j2k::parts(&codestream).ok_or_else(missing)?;
    let (head, tile_parts) = codestream.split_at(parts.head_end);
    let end = parts.resolution_ends.last().map_or(0, |end| end - parts.head_end);
    let levels = number_of_levels(shape, parts.resolution_ends.len());
    let ends = &parts.resolution_ends[parts.resolution_ends.len() - levels..];
    let error = original.map(|samples| measure(&samples, &codestream, shape, dropped_bits)).transpose()?;
    let description = ImageDescription {
        shape,
        precision,
        dropped_bits,
        is_signed,
        photometric,
        binning,
        is_lossless,
        levels: levels as u32,
        head: head.to_vec(),
    };
    let level_ends = ends.iter().map(|end| (end - parts.head_end) as u32).collect();
    Ok(PreviewImage { description, tile_parts: tile_parts[..end].to_vec(), level_ends, error })
}

/// Encodes with loss. Returns the low bits that were rounded away, too.
fn encode_lossy(image: Image, raw_bytes: usize, rate: PreviewRate) -> Result<(Vec<u8>, u32), Error> {
    let noisy_bits = noise::noisy_bits(&image);
    let bytes = budget(raw_bytes, rate, noisy_bits);
    let is_short = image.shape.rows.max(image.shape.columns) <= MAX_SIDE;
    if rate.codec == PreviewCodec::HighThroughput && is_short {
        // A step leaves out noise without a staircase of rounded values, and costs no time.
        let finest = Step::nearest(FINEST_STEP * f64::from(1 << noisy_bits));
        return Ok((Transformed::new(&image)?.encode_to(bytes, finest), 0));
    }
    let image = noise::without_low_bits(image, noisy_bits);
    Ok((j2k::encode(&image, j2k::Loss::FastBytes(bytes))?, noisy_bits))
}

/// The bytes for a frame of `raw_bytes` with so many noisy bits.
fn budget(raw_bytes: usize, rate: PreviewRate, noisy_bits: u32) -> usize {
    let (plain, noisy) = (f64::from(rate.compression_ratio.max(1)), f64::from(rate.noisy_compression_ratio));
    let share = f64::from(noisy_bits.min(VERY_NOISY_BITS)) / f64::from(VERY_NOISY_BITS);
    let ratio = plain + share * (noisy - plain).max(0.0);
    ((raw_bytes as f64 / ratio) as usize).max(MIN_BYTES)
}

/// The levels of an image with so many resolutions: the coarsest has a side of [`LEAST_SIDE`] pixels or more.
fn number_of_levels(shape: Shape, resolutions: usize) -> usize {
    let side = shape.rows.max(shape.columns);
    (1..resolutions).take_while(|halvings| side.div_ceil(1 << halvings) >= LEAST_SIDE).count() + 1
}

fn measure(original: &[i32], codestream: &[u8], shape: Shape, bits: u32) -> Result<CodingError, Error> {
    let decoded = j2k::decode(codestream, shape, 0)?;
    let squares = original.iter().zip(&decoded.samples).map(|(was, is)| {
        let difference = f64::from(*was) - f64::from(is << bits);
        difference * difference
    });
    let mean_square = squares.sum::<f64>() / original.len() as f64;
    let (least, most) = original
        .iter()
        .fold((i32::MAX, i32::MIN), |(least, most), sample| (least.min(*sample), most.max(*sample)));
    let peak = (most.abs_diff(least) + 1).next_power_of_two() - 1;
    Ok(CodingError { mean_square, peak })
}

/// Joins `factor` × `factor` pixels to their mean; those at the right and lower edge may be of fewer.
fn bin(image: &Image, factor: u32) -> Image {
    let Shape { rows, columns, samples } = image.shape;
    let shape = Shape { rows: rows.div_ceil(factor), columns: columns.div_ceil(factor), samples };
    let mut binned = Vec::with_capacity((shape.rows * shape.columns) as usize * usize::from(samples));
    for row in 0..shape.rows {
        for column in 0..shape.columns {
            for sample in 0..u32::from(samples) {
                let (mut sum, mut count) = (0_i64, 0_i64);
                for y in (row * factor..(row + 1) * factor).take_while(|y| *y < rows) {
                    for x in (column * factor..(column + 1) * factor).take_while(|x| *x < columns) {
                        let place = (y as usize * columns as usize + x as usize) * usize::from(samples);
                        sum += i64::from(image.samples[place + sample as usize]);
                        count += 1;
                    }
                }
                binned.push((sum + count / 2).div_euclid(count) as i32);
            }
        }
    }
    Image { shape, samples: binned, ..image.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: PreviewRate = PreviewRate {
        compression_ratio: 10,
        noisy_compression_ratio: 10,
        binning: 1,
        codec: PreviewCodec::J2k,
    };
    const FAST: PreviewRate = PreviewRate { codec: PreviewCodec::HighThroughput, ..PLAIN };

    fn decoded(rows: u32, columns: u32, precision: u32, photometric: &str) -> Decoded {
        let shape = Shape { rows, columns, samples: 1 };
        let samples = (0..rows * columns).map(|place| (place % (1 << precision.min(7))) as i32).collect();
        let image = Image { shape, precision, is_signed: false, samples };
        Decoded { image, photometric: photometric.into() }
    }

    /// The decoded image, before the low bits come back.
    fn decode(image: &PreviewImage) -> Image {
        let codestream = [&image.description.head[..], &image.tile_parts, &END_OF_CODESTREAM].concat();
        j2k::decode(&codestream, image.description.shape, 0).unwrap()
    }

    #[test]
    fn binned_pixels_are_means_to_the_edges() {
        let shape = Shape { rows: 3, columns: 3, samples: 1 };
        let samples = vec![1, 2, -5, 3, 4, -6, 7, 8, 9];
        let image = Image { shape, precision: 8, is_signed: true, samples };
        let binned = bin(&image, 2);
        assert_eq!((binned.shape.rows, binned.shape.columns), (2, 2));
        assert_eq!(binned.samples, [3, -5, 8, 9]);
    }

    #[test]
    fn palettes_masks_and_tiny_images_are_kept_exactly() {
        for (side, precision, photometric) in
            [(40, 8, "PALETTE COLOR"), (40, 1, "MONOCHROME2"), (20, 12, "MONOCHROME2")]
        {
            let frame = decoded(side, side - 1, precision, photometric);
            let binning = if side == 20 { 1 } else { 2 };
            let image = encode(frame.clone(), PreviewRate { binning, ..FAST }, true).unwrap();
            assert_eq!(image.description.codec(), PreviewCodec::J2k);
            assert!(image.description.is_lossless && image.error.is_none());
            assert_eq!((image.description.binning, image.description.levels), (1, 1));
            assert_eq!(decode(&image), frame.image);
        }
    }

    #[test]
    fn a_preview_takes_its_share_of_the_raw_size() {
        for (precision, binning, bytes) in [(8, 1, 4000), (12, 1, 8000), (16, 2, 2000)] {
            for of in [PLAIN, FAST] {
                let rate = PreviewRate { binning, ..of };
                let image = encode(decoded(200, 200, precision, "MONOCHROME2"), rate, false).unwrap();
                assert_eq!(image.description.codec(), of.codec);
                assert!(image.tile_parts.len() <= bytes * 11 / 10, "{precision}: {}", image.tile_parts.len());
                assert_eq!(image.description.shape.rows, 200 / binning);
                assert_eq!(image.level_ends.last(), Some(&(image.tile_parts.len() as u32)));
                assert_eq!(image.level_ends.len() as u32, image.description.levels);
            }
        }
    }

    #[test]
    fn both_codecs_have_the_same_levels_and_nearly_the_same_quality() {
        for (samples, precision, photometric) in
            [(1, 12, "MONOCHROME2"), (1, 8, "MONOCHROME1"), (3, 8, "RGB")]
        {
            let shape = Shape { rows: 300, columns: 260, samples };
            let value = |place: u32| {
                let (pixel, sample) = (place / u32::from(samples), place % u32::from(samples));
                let (x, y) = (f64::from(pixel % 260), f64::from(pixel / 260));
                let wave = (x / 7.0).sin() * (y / 11.0).cos() + f64::from(sample) * (x / 90.0).sin();
                let noise = f64::from(place.wrapping_mul(2_654_435_761) >> 24) / 256.0;
                (f64::from(1_u32 << precision) * (0.5 + 0.12 * wave + noise / 40.0)) as i32
            };
            let samples = (0..300 * 260 * u32::from(samples)).map(value).collect();
            let image = Image { shape, precision, is_signed: false, samples };
            let frame = Decoded { image, photometric: photometric.into() };
            let [plain, fast] = [PLAIN, FAST].map(|rate| encode(frame.clone(), rate, true).unwrap());
            assert_eq!(plain.description.codec(), PreviewCodec::J2k);
            assert_eq!(fast.description.codec(), PreviewCodec::HighThroughput);
            assert_eq!(fast.description.levels, plain.description.levels);
            assert_eq!(fast.description.dropped_bits, 0);
            let [plain, fast] = [plain, fast].map(|image| image.error.unwrap().mean_square);
            assert!(fast < plain * 1.6, "{photometric}: {fast} and {plain}");
        }
    }

    #[test]
    fn images_that_are_too_long_for_the_fast_codec_have_the_other() {
        let image = encode(decoded(2, 40_000, 12, "MONOCHROME2"), FAST, false).unwrap();
        assert_eq!(image.description.codec(), PreviewCodec::J2k);
    }

    #[test]
    fn settings_of_earlier_versions_are_of_plain_jpeg_2000() {
        let bytes = rmp_serde::to_vec(&(10_u32, 20_u32, 1_u32)).unwrap();
        let rate: PreviewRate = rmp_serde::from_slice(&bytes).unwrap();
        assert_eq!(rate, PreviewRate { noisy_compression_ratio: 20, ..PLAIN });
    }

    #[test]
    fn levels_end_at_64_pixels() {
        for (rows, columns, resolutions, levels) in [
            (512, 512, 6, 4),
            (64, 64, 6, 1),
            (63, 127, 6, 2),
            (40, 30, 5, 1),
            (1, 800, 1, 1),
            (3000, 1500, 6, 6),
        ] {
            let shape = Shape { rows, columns, samples: 1 };
            assert_eq!(number_of_levels(shape, resolutions), levels, "{rows} x {columns}");
        }
    }

    #[test]
    fn noise_costs_bits_and_bytes_and_the_error_is_stated() {
        let mut frame = decoded(256, 256, 12, "MONOCHROME2");
        let mut state = 1_u32;
        for (place, sample) in frame.image.samples.iter_mut().enumerate() {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            *sample = 800 + (place % 256) as i32 * 8 + (state >> 26) as i32;
        }
        let plain = encode(frame.clone(), PLAIN, true).unwrap();
        let noisy = PreviewRate { noisy_compression_ratio: 20, ..PLAIN };
        let noisy = encode(frame.clone(), noisy, true).unwrap();
        for image in [&plain, &noisy] {
            let ImageDescription { precision, dropped_bits, .. } = image.description;
            assert_eq!((precision, dropped_bits), (12, 3));
            let decoded = decode(image);
            assert_eq!(decoded.precision, 9);
            let error = image.error.unwrap();
            assert_eq!(error.peak, 4095);
            let back = decoded.samples.iter().map(|sample| sample << dropped_bits);
            let squares = frame.image.samples.iter().zip(back).map(|(a, b)| f64::from((a - b).pow(2)));
            assert!((error.mean_square - squares.sum::<f64>() / 65536.0).abs() < 1e-6);
            assert!(error.mean_square < 18.0 * 18.0, "{}", error.mean_square);
        }
        let share = plain.tile_parts.len() as f64 / noisy.tile_parts.len() as f64;
        assert!((1.8..2.2).contains(&share), "{share}");
    }

    /// Measures a volume of 512 x 512 samples of 12 bits in 16, little endian, in the file that
    /// `CUSPID_VOLUME` names: the time of the processor and the error for each slice.
    #[test]
    #[expect(clippy::print_stdout, reason = "the measured values are the result")]
    #[ignore = "measures a volume that is not part of the sources"]
    fn measure_a_volume() {
        let bytes = std::fs::read(std::env::var("CUSPID_VOLUME").unwrap()).unwrap();
        let shape = Shape { rows: 512, columns: 512, samples: 1 };
        let slices: Vec<_> = bytes.chunks_exact(512 * 512 * 2).skip(4).step_by(8).collect();
        for (noisy_compression_ratio, codec) in [
            (10, PreviewCodec::J2k),
            (20, PreviewCodec::J2k),
            (10, PreviewCodec::HighThroughput),
            (20, PreviewCodec::HighThroughput),
        ] {
            let rate = PreviewRate { noisy_compression_ratio, codec, ..PLAIN };
            let (mut times, mut squares, mut size, mut bits) = (Vec::new(), 0.0, 0, Vec::new());
            for slice in &slices {
                let samples: Vec<i32> =
                    slice.as_chunks().0.iter().map(|word| i32::from(u16::from_le_bytes(*word))).collect();
                let image = Image { shape, precision: 12, is_signed: false, samples };
                let frame = Decoded { image, photometric: "MONOCHROME2".into() };
                let time = || {
                    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
                    text.split(' ').next().unwrap().parse::<f64>().unwrap() / 1e6
                };
                let start = time();
                let _ = encode(frame.clone(), rate, false).unwrap();
                times.push(time() - start);
                let encoded = encode(frame, rate, true).unwrap();
                squares += encoded.error.unwrap().mean_square;
                size += encoded.tile_parts.len();
                bits.push(encoded.description.dropped_bits);
            }
            times.sort_by(f64::total_cmp);
            let count = slices.len() as f64;
            let db = 10.0 * (4095.0_f64.powi(2) * count / squares).log10();
            println!(
                "{codec:?}, ratio {noisy_compression_ratio}: median {:.1} ms, least {:.1} ms, {:.0} bytes, {db:.2} dB, bits {bits:?}",
                times[times.len() / 2],
                times[0],
                size as f64 / count
            );
        }
    }
}
