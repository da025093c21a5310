//! The choice of a step for a number of bytes.

use crate::pixel::ht::bands::{Band, Step};
use crate::pixel::ht::{Transformed, codestream};

/// Parts of an octave that are counted apart: a power of two.
const PARTS: usize = 4;
/// Octaves that are counted apart, from the finest step on.
const OCTAVES: usize = 32;
/// The bits that a coefficient costs, by its size: half a step, one step, and each double of it. Below, it
/// costs nothing; above, a bit more for each double. The values were fitted to CT slices, real ones with and
/// without noise, at many steps: half of the predictions are nearer than 3 %.
const BITS_BY_OCTAVE: [f64; 6] = [0.0, 2.1, 6.0, 6.0, 6.2, 7.7];
/// Bytes of the headers of a codestream.
const HEADER_BYTES: f64 = 220.0;
/// A codestream is small enough if it has so many times the bytes of its budget, or less.
const MOST: f64 = 1.05;
/// A codestream is large enough if it has so many times the bytes of its budget, or more.
const LEAST: f64 = 0.88;
/// The part of the budget that a prediction aims at.
const AIM: f64 = 1.0;
/// After so many tries, the first codestream that is small enough is taken.
const MAX_TRIES: u32 = 6;

impl Transformed {
    /// Encodes with a step so that the codestream has about `bytes`, at most a twentieth more, or less if
    /// `finest` gives less. An image that is larger at the coarsest step is larger.
    #[must_use]
    pub fn encode_to(&self, bytes: usize, finest: Step) -> Vec<u8> {
        let budget = bytes as f64;
        let mut step = self.predicted_step(budget * AIM, finest);
        let mut search = Search { finest, finer: None, coarser: None, places: 0 };
        let mut best = None;
        for attempt in 1.. {
            let codestream = codestream::write(self, step);
            let share = codestream.len() as f64 / budget;
            if share <= MOST {
                best = Some(codestream);
                if share >= LEAST || attempt >= MAX_TRIES {
                    break;
                }
            } else if step == Step::COARSEST {
                return codestream;
            }
            let Some(next) = search.next(step, share) else { break };
            step = next;
        }
        best.unwrap_or_default()
    }

    /// The finest step, from `finest` on, that is predicted to give `bytes` or less.
    fn predicted_step(&self, bytes: f64, finest: Step) -> Step {
        let sizes = Sizes::of(self);
        let (mut low, mut high) = (finest, Step::COARSEST);
        while low < high {
            let middle = low.coarser(high.places_above(low) / 2);
            if sizes.predicted_bytes(middle) <= bytes {
                high = middle;
            } else {
                low = middle.coarser(1);
            }
        }
        low
    }
}

/// A search for a step.
struct Search {
    finest: Step,
    /// The coarsest step that was too fine.
    finer: Option<Step>,
    /// The finest step that was coarse enough.
    coarser: Option<Step>,
    /// The places of the last move.
    places: i32,
}

impl Search {
    /// The step to try after `step`, which gave `share` of the budget; `None` if there is none between those
    /// that are too fine and those that are not.
    fn next(&mut self, step: Step, share: f64) -> Option<Step> {
        if share > MOST {
            self.finer = Some(step);
        } else {
            self.coarser = Some(step);
        }
        let lowest = self.finer.map_or(self.finest, |finer| finer.coarser(1));
        let highest = self.coarser.map_or(Step::COARSEST, |coarser| coarser.coarser(-1));
        if lowest > highest || step == Step::COARSEST && self.finer == Some(step) {
            return None;
        }
        let next = if self.finer.is_some() && self.coarser.is_some() {
            lowest.coarser(highest.places_above(lowest) / 2)
        } else {
            // Noise has half of the bytes at the double step; other images may have nearly as many, so that
            // each move is at least twice as long as the last one.
            let places = 8.0 * (share / AIM).log2();
            let places = if share > MOST { places.ceil().max(1.0) } else { places.floor().min(-1.0) } as i32;
            self.places = if places > 0 { places.max(2 * self.places) } else { places.min(2 * self.places) };
            step.coarser(self.places).clamp(lowest, highest)
        };
        Some(next)
    }
}

/// The number of coefficients by their size relative to [`Step::FINEST`], in parts of an octave.
struct Sizes {
    counts: [u32; OCTAVES * PARTS],
}

impl Sizes {
    fn of(transformed: &Transformed) -> Self {
        // The bits of a number from its exponent on, with enough of its mantissa to tell the parts.
        const SHIFT: u32 = f32::MANTISSA_DIGITS - 1 - PARTS.ilog2();
        let mut counts = [0; OCTAVES * PARTS];
        let of_one = (1.0_f32.to_bits() >> SHIFT) as usize;
        let resolutions = 0..=transformed.levels;
        let bands =
            resolutions.flat_map(|resolution| Band::of_resolution(transformed, resolution, Step::FINEST));
        for band in bands {
            let factor = (1.0 / band.delta()) as f32;
            // The finest subbands are three quarters of all: every second row tells enough.
            let step = if band.is_large() { 2 } else { 1 };
            for plane in &transformed.planes {
                for row in band.rows(plane, transformed.size[0], step) {
                    for sample in row {
                        let place = ((sample.abs() * factor).to_bits() >> SHIFT) as usize;
                        counts[place.saturating_sub(of_one).min(OCTAVES * PARTS - 1)] += step as u32;
                    }
                }
            }
        }
        Self { counts }
    }

    /// The bytes of the codestream at a step, nearly.
    fn predicted_bytes(&self, step: Step) -> f64 {
        let octaves_of_step = (step.grey_values() / Step::FINEST.grey_values()).log2();
        let bits: f64 = self
            .counts
            .iter()
            .enumerate()
            .map(|(place, count)| {
                let part = (place % PARTS) as f64 + 0.5;
                let octave = (place / PARTS) as f64 + (1.0 + part / PARTS as f64).log2();
                f64::from(*count) * bits_at(octave - octaves_of_step)
            })
            .sum();
        HEADER_BYTES + bits / 8.0
    }
}

/// The bits that a coefficient of 2^`octave` steps costs.
fn bits_at(octave: f64) -> f64 {
    let place = octave + 1.0;
    let last = BITS_BY_OCTAVE.len() - 1;
    if place <= 0.0 {
        return 0.0;
    }
    let below = (place as usize).min(last);
    match BITS_BY_OCTAVE.get(below + 1) {
        Some(above) => BITS_BY_OCTAVE[below] + (above - BITS_BY_OCTAVE[below]) * place.fract(),
        None => BITS_BY_OCTAVE[last] + place - last as f64,
    }
}
