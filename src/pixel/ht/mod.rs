//! High-throughput JPEG 2000 codestreams (HTJ2K; ITU-T T.814, ISO/IEC 15444-15), encoded without C.
//!
//! The irreversible 9/7 wavelet, code-blocks of 64 × 64 with a cleanup pass only, one tile, one layer, by
//! resolution (RPCL) with a tile-part for each: the form that [`super::j2k::encode`] gives to plain JPEG
//! 2000. A code-block of one pass cannot be cut, so the bytes depend on the quantisation step alone.

use crate::pixel::{Error, Image};

mod bands;
mod block;
mod codestream;
mod packet;
mod rate;
mod streams;
mod vlc_table;
mod wavelet;

pub use bands::Step;

/// The longest side of an image: that of a precinct (ISO/IEC 15444-1 §B.6).
pub const MAX_SIDE: u32 = 1 << 15;
/// The most resolutions: the full one and five halvings.
const MAX_RESOLUTIONS: u32 = 6;

/// An image after the wavelet transform, to be encoded with one step or several.
pub struct Transformed {
    size: [usize; 2],
    precision: u32,
    is_signed: bool,
    levels: u32,
    /// The coefficients of each component.
    planes: Vec<Vec<f32>>,
}

impl Transformed {
    /// Transforms a frame of 1 to 16 bits and 1 or 3 samples; three are taken for red, green and blue, which
    /// are turned to luminance and chrominance first.
    ///
    /// # Errors
    /// [`Error::Size`], [`Error::Short`], [`Error::Unsupported`] for other images.
    pub fn new(image: &Image) -> Result<Self, Error> {
        let Image { shape, precision, is_signed, ref samples } = *image;
        let count = shape.number_of_samples()?;
        if samples.len() != count {
            return Err(Error::Short { needed: count, found: samples.len() });
        }
        if !(1..=16).contains(&precision) || !matches!(shape.samples, 1 | 3) {
            return Err(Error::Unsupported(format!("{} samples of {precision} bits", shape.samples)));
        }
        if shape.rows.max(shape.columns) > MAX_SIDE {
            return Err(Error::Unsupported(format!("a side of more than {MAX_SIDE} pixels")));
        }
        let levels = shape.rows.min(shape.columns).ilog2().min(MAX_RESOLUTIONS - 1);
        let size = [shape.columns as usize, shape.rows as usize];
        // The middle of unsigned values becomes 0 (ISO/IEC 15444-1 §G.1).
        let middle = if is_signed { 0.0 } else { f32::from(1_u16 << (precision - 1)) };
        let mut planes = if shape.samples == 1 {
            vec![samples.iter().map(|sample| *sample as f32 - middle).collect()]
        } else {
            luminance_and_chrominance(samples, middle)
        };
        for plane in &mut planes {
            wavelet::transform(plane, size[0], size[1], levels);
        }
        Ok(Self { size, precision, is_signed, levels, planes })
    }

    /// Encodes with a step: the larger it is, the fewer bytes.
    ///
    /// Cut after a tile-part (see [`super::j2k::parts`]) and ended by `FF D9`, the codestream is the frame at
    /// that resolution.
    #[must_use]
    pub fn encode(&self, step: Step) -> Vec<u8> {
        codestream::write(self, step)
    }
}

/// The planes of the irreversible colour transform (ISO/IEC 15444-1 §G.3).
fn luminance_and_chrominance(samples: &[i32], middle: f32) -> Vec<Vec<f32>> {
    const WEIGHTS: [[f32; 3]; 3] =
        [[0.299, 0.587, 0.114], [-0.168_75, -0.331_26, 0.5], [0.5, -0.418_69, -0.081_31]];
    let pixels = samples.as_chunks::<3>().0;
    let plane = |weights: [f32; 3]| {
        let value = |pixel: &[i32; 3]| {
            pixel.iter().zip(weights).map(|(sample, weight)| (*sample as f32 - middle) * weight).sum()
        };
        pixels.iter().map(value).collect()
    };
    WEIGHTS.map(plane).into()
}

#[cfg(test)]
mod tests;
