//! Encodes a frame of a preview: a lossy codestream of a fraction of the size.

use crate::pixel::decode::{Decoded, to_rgb};
use crate::pixel::{Error, Image, Shape, j2k};

/// The minimum size of a frame at any rate, as tiny images would vanish.
const MIN_BYTES: usize = 1024;

/// A frame of a preview.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreviewImage {
    /// JPEG 2000, see [`j2k::encode`].
    pub codestream: Vec<u8>,
    /// The size of the image.
    pub shape: Shape,
    /// Bits of a sample.
    pub precision: u32,
    /// Whether samples may be negative.
    pub is_signed: bool,
    /// Photometric Interpretation (0028,0004) of the decoded image.
    pub photometric: String,
    /// Pixels of the frame that each side of a pixel covers.
    pub binning: u32,
}

/// Encodes a frame in a `rate`th of its raw size (at 8 or 16 bits), after `binning` × `binning` pixels have
/// become one. Palette colours and samples of less than 8 bits are kept as they are: no value between two of
/// theirs means anything.
///
/// # Errors
/// Those of [`j2k::encode`].
pub fn encode(decoded: Decoded, rate: u32, binning: u32) -> Result<PreviewImage, Error> {
    let Decoded { image, photometric } = to_rgb(decoded);
    let is_exact = image.precision < 8 || photometric.starts_with("PALETTE");
    let binning = if is_exact { 1 } else { binning.max(1) };
    let image = if binning > 1 { bin(&image, binning) } else { image };
    let raw_bytes = image.samples.len() * if image.precision > 8 { 2 } else { 1 };
    let bytes = (raw_bytes / rate.max(1) as usize).max(MIN_BYTES);
    let loss = if is_exact { j2k::Loss::None } else { j2k::Loss::Bytes(bytes) };
    let codestream = j2k::encode(&image, loss)?;
    let Image { shape, precision, is_signed, .. } = image;
    Ok(PreviewImage { codestream, shape, precision, is_signed, photometric, binning })
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

    fn decoded(rows: u32, columns: u32, precision: u32, photometric: &str) -> Decoded {
        let shape = Shape { rows, columns, samples: 1 };
        let samples = (0..rows * columns).map(|place| (place % (1 << precision.min(7))) as i32).collect();
        let image = Image { shape, precision, is_signed: false, samples };
        Decoded { image, photometric: photometric.into() }
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
    fn palettes_and_masks_are_kept_exactly() {
        for (precision, photometric) in [(8, "PALETTE COLOR"), (1, "MONOCHROME2")] {
            let frame = decoded(40, 30, precision, photometric);
            let picture = encode(frame.clone(), 10, 2).unwrap();
            assert_eq!(picture.binning, 1);
            assert_eq!(j2k::decode(&picture.codestream, picture.shape, 0).unwrap(), frame.image);
        }
    }

    #[test]
    fn a_preview_takes_its_share_of_the_raw_size() {
        for (precision, binning, bytes) in [(8, 1, 4000), (12, 1, 8000), (16, 2, 2000)] {
            let picture = encode(decoded(200, 200, precision, "MONOCHROME2"), 10, binning).unwrap();
            assert!(picture.codestream.len() <= bytes * 11 / 10, "{precision}: {}", picture.codestream.len());
            assert_eq!(picture.shape.rows, 200 / binning);
        }
    }
}
