//! The cleanup pass of a code-block (ITU-T T.814 §7.3).

use crate::pixel::ht::streams::{self, MAX_VALUE_BITS, MagSgn, Mel, Vlc};
use crate::pixel::ht::vlc_table::quad_code;

/// The longest side of a code-block.
pub(super) const BLOCK_SIDE: usize = 64;
const MAX_QUADS: usize = BLOCK_SIDE / 2;

/// The quantised samples of a code-block: twice the magnitude, and 1 if the value is negative; 0 for zero.
/// Rows are [`BLOCK_SIDE`] apart, and all outside of the code-block is zero.
pub(super) type BlockSamples = [u32; BLOCK_SIDE * BLOCK_SIDE];

/// The largest exponents of the samples at the lower left corner of each quad of a row, and at the lower
/// right corner of the quad before.
type Exponents = [u8; MAX_QUADS + 1];

/// An encoder of code-blocks.
#[derive(Debug, Default)]
pub(super) struct BlockEncoder {
    mag_sgn: MagSgn,
    mel: Mel,
    vlc: Vlc,
}

/// The significant samples of a quad, and what its exponent bound is more than the predicted one.
#[derive(Clone, Copy, Default)]
struct Quad {
    significant: u32,
    excess: u32,
}

impl BlockEncoder {
    /// Appends the cleanup pass of a code-block of `width` × `height` samples.
    pub(super) fn encode(&mut self, samples: &BlockSamples, [width, height]: [usize; 2], out: &mut Vec<u8>) {
        self.mag_sgn.clear();
        self.mel.clear();
        self.vlc.clear();
        let quads = width.div_ceil(2).min(MAX_QUADS);
        let mut above = [0; MAX_QUADS + 1];
        for (row, rows) in samples.chunks_exact(2 * BLOCK_SIDE).take(height.div_ceil(2)).enumerate() {
            let mut below = [0; MAX_QUADS + 1];
            if row == 0 {
                self.encode_row::<true>(rows, quads, &above, &mut below);
            } else {
                self.encode_row::<false>(rows, quads, &above, &mut below);
            }
            above = below;
        }
        out.extend_from_slice(self.mag_sgn.finish());
        streams::finish(&mut self.mel, &mut self.vlc, out);
    }

    /// Encodes a row of quads: two rows of samples.
    fn encode_row<const IS_FIRST: bool>(
        &mut self,
        rows: &[u32],
        quads: usize,
        above: &Exponents,
        below: &mut Exponents,
    ) {
        let (upper, lower) = rows.split_at(BLOCK_SIDE);
        let mut left = 0;
        let mut quad = |coder: &mut Self, at: usize| {
            let samples = [upper[2 * at], lower[2 * at], upper[2 * at + 1], lower[2 * at + 1]];
            let corners = [above[at], above[at + 1]];
            let (quad, [lower_left, lower_right]) = coder.encode_quad::<IS_FIRST>(samples, corners, left);
            below[at] = below[at].max(lower_left);
            below[at + 1] = lower_right;
            left = quad.significant;
            quad.excess
        };
        for at in (0..quads).step_by(2) {
            let first = quad(self, at);
            let second = if at + 1 < quads { quad(self, at + 1) } else { 0 };
            self.encode_excess::<IS_FIRST>(first, second);
        }
    }

    /// Encodes all of a quad but its excess. `above` are the exponents at its corners in the row above,
    /// `left` the significant samples of the quad to its left. Returns the exponents of its lower samples,
    /// too.
    #[inline]
    fn encode_quad<const IS_FIRST: bool>(
        &mut self,
        samples: [u32; 4],
        above: [u8; 2],
        left: u32,
    ) -> (Quad, [u8; 2]) {
        // Equations 1 and 2 of the standard.
        let context = if IS_FIRST {
            left >> 1 | left & 1
        } else {
            let beside = (left >> 1 | left >> 2) & 2;
            u32::from(above[0] != 0) | beside | u32::from(above[1] != 0) << 2
        };
        if samples == [0; 4] {
            if context == 0 {
                self.mel.push(false);
            } else {
                let code = quad_code(IS_FIRST, context, 0, 0);
                self.vlc.push(code.word, code.length);
            }
            return (Quad::default(), [0; 2]);
        }
        // The bits of 2µ − 1, 0 for a sample that is not significant.
        let exponents = samples.map(|sample| 32 - (sample | 1).saturating_sub(2).leading_zeros());
        let mask = |is_set: [bool; 4]| {
            let [first, second, third, fourth] = is_set.map(u32::from);
            first | second << 1 | third << 2 | fourth << 3
        };
        let significant = mask(samples.map(|sample| sample != 0));
        let largest = exponents.into_iter().fold(0, u32::max);
        // Equation 3: only a quad of two significant samples or more is predicted.
        let predicted = if IS_FIRST || significant & (significant - 1) == 0 {
            1
        } else {
            u32::from(above[0].max(above[1])).saturating_sub(1).max(1)
        };
        let bound = largest.max(predicted);
        let excess = bound - predicted;
        let at_bound = if excess > 0 { mask(exponents.map(|exponent| exponent == largest)) } else { 0 };
        let code = quad_code(IS_FIRST, context, significant, at_bound);
        self.vlc.push(code.word, code.length);
        if context == 0 {
            self.mel.push(true);
        }
        self.push_values(samples, bound, significant, code.known);
        (Quad { significant, excess }, [exponents[1] as u8, exponents[3] as u8])
    }

    /// Encodes magnitudes and signs: 2(µ − 1) and the sign in as many bits as the bound says, without the
    /// highest bit if it is known.
    #[inline]
    fn push_values(&mut self, samples: [u32; 4], bound: u32, significant: u32, known: u32) {
        let (mut values, mut bits) = (0_u64, 0);
        for (at, sample) in samples.into_iter().enumerate() {
            // No bits of a sample that is not significant.
            let of_sample = (bound - (known >> at & 1)) * (significant >> at & 1);
            let value = sample.wrapping_sub(2) & ((1 << of_sample) - 1);
            if bound > MAX_VALUE_BITS / 4 {
                self.mag_sgn.push(value, of_sample);
            } else {
                values |= u64::from(value) << bits;
                bits += of_sample;
            }
        }
        self.mag_sgn.push(values as u32, bits);
    }

    /// Encodes the excesses of two quads (ITU-T T.814 §7.3.6).
    #[inline]
    fn encode_excess<const IS_FIRST: bool>(&mut self, first: u32, second: u32) {
        if first | second == 0 {
            return;
        }
        let mut codes = [EXCESS_CODES[first as usize & 31], EXCESS_CODES[second as usize & 31]];
        if IS_FIRST && first > 0 && second > 0 {
            let are_large = first.min(second) > 2;
            self.mel.push(are_large);
            if are_large {
                codes = [EXCESS_CODES[(first as usize - 2) & 31], EXCESS_CODES[(second as usize - 2) & 31]];
            } else if first > 2 {
                // One bit is enough for the second, which is 1 or 2.
                codes[1] = ExcessCode { prefix: second - 1, prefix_bits: 1, suffix: 0, suffix_bits: 0 };
            }
        }
        let [one, other] = codes;
        let prefixes = one.prefix | other.prefix << one.prefix_bits;
        let suffixes = one.suffix | other.suffix << one.suffix_bits;
        let prefix_bits = one.prefix_bits + other.prefix_bits;
        let suffix_bits = one.suffix_bits + other.suffix_bits;
        self.vlc.push(prefixes | suffixes << prefix_bits, prefix_bits + suffix_bits);
    }
}

/// The code of an excess.
#[derive(Debug, Clone, Copy)]
struct ExcessCode {
    prefix: u32,
    prefix_bits: u32,
    suffix: u32,
    suffix_bits: u32,
}

/// The codes of excesses below 32 (ITU-T T.814, Table 3); magnitudes have less than 32 bits.
static EXCESS_CODES: [ExcessCode; 32] = {
    let mut codes = [ExcessCode { prefix: 0, prefix_bits: 0, suffix: 0, suffix_bits: 0 }; 32];
    let mut excess = 1;
    while excess < codes.len() {
        let value = excess as u32;
        let (prefix, prefix_bits, suffix, suffix_bits) = match value {
            1 => (1, 1, 0, 0),
            2 => (2, 2, 0, 0),
            3 | 4 => (4, 3, value - 3, 1),
            _ => (0, 3, value - 5, 5),
        };
        codes[excess] = ExcessCode { prefix, prefix_bits, suffix, suffix_bits };
        excess += 1;
    }
    codes
};
