//! Subbands: their place, their quantisation and their code-blocks.

use crate::pixel::ht::Transformed;
use crate::pixel::ht::block::{BLOCK_SIDE, BlockEncoder, BlockSamples};
use crate::pixel::ht::packet::CodedBand;
use crate::pixel::ht::wavelet::{HIGH_NORMS, LOW_NORMS, half};

/// Bits by which a coefficient may be larger than the range of its subband, and one more (ISO/IEC 15444-1
/// Equation E-2).
pub(super) const GUARD_BITS: u32 = 2;

/// A quantisation step, of which there are few so that many images share one: 2^(n/8) grey values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Step(i32);

impl Step {
    /// The finest step, 1/32 of a grey value.
    pub const FINEST: Self = Self(-40);
    /// The coarsest step.
    pub const COARSEST: Self = Self(144);

    /// The step that is nearest to so many grey values.
    #[must_use]
    pub fn nearest(grey_values: f64) -> Self {
        let place = grey_values.max(f64::MIN_POSITIVE).log2() * 8.0;
        Self((place.round() as i32).clamp(Self::FINEST.0, Self::COARSEST.0))
    }

    /// The step in grey values.
    #[must_use]
    pub fn grey_values(self) -> f64 {
        (f64::from(self.0) / 8.0).exp2()
    }

    /// The number of steps from `finer` to this one.
    pub(super) fn places_above(self, finer: Self) -> i32 {
        self.0 - finer.0
    }

    /// The step that is coarser by so many places, or finer if the number is negative.
    #[must_use]
    pub fn coarser(self, places: i32) -> Self {
        Self(self.0.saturating_add(places).clamp(Self::FINEST.0, Self::COARSEST.0))
    }
}

/// A subband of a plane.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Band {
    /// The first column and row in the plane.
    origin: [usize; 2],
    /// Columns and rows; either may be 0.
    size: [usize; 2],
    /// ε and µ of the quantisation step (ISO/IEC 15444-1 Equation E-3).
    exponent: u32,
    mantissa: u32,
    /// The quantisation step.
    delta: f64,
}

impl Band {
    /// The subbands of resolution `resolution` (0 is the coarsest): LL, or else HL, LH and HH.
    pub(super) fn of_resolution(transformed: &Transformed, resolution: u32, step: Step) -> Vec<Self> {
        let level = transformed.levels - resolution.saturating_sub(1);
        let size_at = |level: u32| transformed.size.map(|side| (0..level).fold(side, |side, _| half(side)));
        let low = if resolution == 0 { size_at(transformed.levels) } else { size_at(level) };
        let all = if resolution == 0 { low } else { size_at(level - 1) };
        let band = |is_high: [bool; 2]| {
            let side = |axis: usize| if is_high[axis] { all[axis] - low[axis] } else { low[axis] };
            let origin = [0, 1].map(|axis| if is_high[axis] { low[axis] } else { 0 });
            let norm = |is_high: bool| {
                if is_high { HIGH_NORMS[level as usize - 1] } else { LOW_NORMS[level as usize] }
            };
            let gain = is_high.map(u32::from).iter().sum::<u32>();
            let delta = step.grey_values() / (norm(is_high[0]) * norm(is_high[1]));
            Self::quantised(origin, [side(0), side(1)], transformed.precision + gain, delta)
        };
        if resolution == 0 {
            vec![band([false, false])]
        } else {
            vec![band([true, false]), band([false, true]), band([true, true])]
        }
    }

    /// A subband whose values have a range of `range_bits`, with a step near `delta`.
    fn quantised(origin: [usize; 2], size: [usize; 2], range_bits: u32, delta: f64) -> Self {
        let range = f64::from(range_bits).exp2();
        let exponent = (-(delta / range).log2().floor()).clamp(0.0, 28.0);
        let mantissa = ((delta / range * exponent.exp2() - 1.0) * 2048.0).round().clamp(0.0, 2047.0);
        let delta = range / exponent.exp2() * (1.0 + mantissa / 2048.0);
        Self { origin, size, exponent: exponent as u32, mantissa: mantissa as u32, delta }
    }

    /// The step as it is in the main header (ISO/IEC 15444-1, Table A.30).
    pub(super) fn coded_step(&self) -> u16 {
        (self.exponent << 11 | self.mantissa) as u16
    }

    /// The quantisation step.
    pub(super) fn delta(&self) -> f64 {
        self.delta
    }

    /// Whether the subband has many rows and columns.
    pub(super) fn is_large(&self) -> bool {
        self.size.iter().all(|side| *side >= 2 * BLOCK_SIDE)
    }

    /// The bit planes of the magnitudes (ISO/IEC 15444-1 Equation E-2).
    pub(super) fn bit_planes(&self) -> u32 {
        self.exponent + GUARD_BITS - 1
    }

    /// The rows of the subband in a plane of `width` columns: the first and every `step`th after it.
    pub(super) fn rows<'a>(
        &self,
        plane: &'a [f32],
        width: usize,
        step: usize,
    ) -> impl Iterator<Item = &'a [f32]> + use<'a> {
        let ([left, top], [columns, rows]) = (self.origin, self.size);
        (top..top + rows).step_by(step).map(move |row| &plane[row * width + left..][..columns])
    }

    /// Quantises and encodes the code-blocks; `width` is that of the plane.
    pub(super) fn encode(&self, plane: &[f32], width: usize, encoder: &mut BlockEncoder) -> CodedBand {
        let [columns, rows] = self.size;
        let mut band = CodedBand {
            blocks: self.size.map(|side| side.div_ceil(BLOCK_SIDE)),
            missing_planes: self.bit_planes() - 1,
            ..CodedBand::default()
        };
        let mut samples: BlockSamples = [0; BLOCK_SIDE * BLOCK_SIDE];
        for top in (0..rows).step_by(BLOCK_SIDE) {
            for left in (0..columns).step_by(BLOCK_SIDE) {
                let size = [(columns - left).min(BLOCK_SIDE), (rows - top).min(BLOCK_SIDE)];
                let start = (self.origin[1] + top) * width + self.origin[0] + left;
                let begun = band.bytes.len();
                if self.quantise(&plane[start..], width, size, &mut samples) {
                    encoder.encode(&samples, size, &mut band.bytes);
                }
                band.lengths.push(band.bytes.len() - begun);
            }
        }
        band
    }

    /// Quantises the samples of a code-block of `size` columns and rows. Returns whether one is not zero.
    fn quantise(&self, plane: &[f32], width: usize, size: [usize; 2], samples: &mut BlockSamples) -> bool {
        let [columns, rows] = size;
        let (factor, largest) = ((1.0 / self.delta) as f32, ((1_u32 << self.bit_planes()) - 1) as i32);
        if columns < BLOCK_SIDE || rows < BLOCK_SIDE {
            samples.fill(0);
        }
        let mut all = 0;
        for (to, from) in samples.chunks_exact_mut(BLOCK_SIDE).zip(plane.chunks(width)).take(rows) {
            for (to, from) in to.iter_mut().zip(&from[..columns]) {
                let magnitude = ((from.abs() * factor) as i32).min(largest) as u32;
                let sign = from.to_bits() >> 31;
                *to = magnitude << 1 | sign & u32::from(magnitude != 0);
                all |= *to;
            }
        }
        all != 0
    }

    /// Replaces the coefficients by what a decoder makes of their quantised values.
    #[cfg(test)]
    pub(super) fn dequantise(&self, plane: &mut [f32], width: usize) {
        let [columns, rows] = self.size;
        for row in self.origin[1]..self.origin[1] + rows {
            for sample in &mut plane[row * width + self.origin[0]..][..columns] {
                let magnitude = f64::from((sample.abs() * (1.0 / self.delta) as f32).floor());
                let value = if magnitude > 0.0 { (magnitude + 0.5) * self.delta } else { 0.0 };
                *sample = value.copysign(f64::from(*sample)) as f32;
            }
        }
    }
}
