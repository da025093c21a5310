//! The noise of an image: its estimate, and the low bits that hold nothing else.

use crate::pixel::Image;

/// About the number of places at which noise is measured.
const MAX_PLACES: usize = 1 << 15;
/// The median of the absolute value of a normal distribution with the standard deviation 2, which the mixed
/// difference of four samples has, if that of each is 1.
const MEDIAN_OF_DIFFERENCES: f64 = 1.349;
/// Precision that is always kept, in bits.
const LEAST_PRECISION: u32 = 8;
/// The highest precision of images that are encoded, in bits.
const MAX_PRECISION: u32 = 16;

/// Estimates the standard deviation of the noise of an image of one sample a pixel. Only pixels above the
/// mean count, so that air, whose noise is cut off at the lowest value, does not. 0 for other images.
pub(super) fn standard_deviation(image: &Image) -> f64 {
    let (rows, columns) = (image.shape.rows as usize, image.shape.columns as usize);
    if image.shape.samples != 1 || rows < 2 || columns < 2 {
        return 0.0;
    }
    let sum = image.samples.iter().map(|sample| i64::from(*sample)).sum::<i64>();
    let mean = sum.div_euclid(image.samples.len() as i64);
    // An odd step visits rows in even and odd columns.
    let step = ((rows * columns) / (4 * MAX_PLACES)).max(1) | 1;
    let mut differences = Vec::with_capacity(rows * columns / step + 1);
    for place in (0..(rows - 1) * columns - 1).step_by(step) {
        if place % columns == columns - 1 {
            continue;
        }
        let at = |offset: usize| i64::from(image.samples[place + offset]);
        if at(0) > mean {
            differences.push((at(0) - at(1) - at(columns) + at(columns + 1)).unsigned_abs());
        }
    }
    if differences.is_empty() {
        return 0.0;
    }
    let middle = differences.len() / 2;
    let (_, median, _) = differences.select_nth_unstable(middle);
    *median as f64 / MEDIAN_OF_DIFFERENCES
}

/// The number of low bits of a sample that hold only noise: rounding them away adds less than a third of the
/// noise that is there.
pub(super) fn noisy_bits(image: &Image) -> u32 {
    let spare = image.precision.saturating_sub(LEAST_PRECISION);
    if spare == 0 || image.precision > MAX_PRECISION {
        return 0;
    }
    let bits = (standard_deviation(image) / 2.0).max(1.0).log2().round();
    (bits as u32).min(spare)
}

/// The image without its `bits` lowest bits, which are rounded.
pub(super) fn without_low_bits(mut image: Image, bits: u32) -> Image {
    if bits == 0 {
        return image;
    }
    image.precision -= bits;
    let highest = (1 << (image.precision - u32::from(image.is_signed))) - 1;
    let half = 1 << (bits - 1);
    for sample in &mut image.samples {
        *sample = ((*sample + half) >> bits).min(highest);
    }
    image
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pixel::Shape;

    /// A slope with noise of a standard deviation: sums of uniform numbers.
    fn noisy(deviation: f64, is_signed: bool) -> Image {
        let shape = Shape { rows: 150, columns: 171, samples: 1 };
        let mut state = 1_u32;
        let mut uniform = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            f64::from(state >> 8) / f64::from(1 << 24) - 0.5
        };
        let samples = (0..150 * 171).map(|place| {
            // The sum of twelve has the standard deviation 1.
            let noise: f64 = (0..12).map(|_| uniform()).sum();
            let base = if is_signed { -500.0 } else { 1500.0 };
            (base + f64::from(place % 171) * 3.0 + deviation * noise).round() as i32
        });
        Image { shape, precision: 12, is_signed, samples: samples.collect() }
    }

    #[test]
    fn noise_is_estimated_and_its_bits_are_found() {
        for (deviation, bits) in [(0.0, 0), (1.0, 0), (2.0, 0), (4.5, 1), (9.0, 2), (17.0, 3), (40.0, 4)] {
            for is_signed in [false, true] {
                let image = noisy(deviation, is_signed);
                let found = standard_deviation(&image);
                assert!((found - deviation).abs() <= 0.1 * deviation + 0.5, "{deviation}: {found}");
                assert_eq!(noisy_bits(&image), bits, "{deviation}");
            }
        }
        let colour = Image { shape: Shape { rows: 1, columns: 1, samples: 3 }, ..noisy(40.0, false) };
        assert_eq!(noisy_bits(&colour), 0);
        for precision in [8, 32] {
            let image = Image { precision, ..noisy(40.0, false) };
            assert_eq!(noisy_bits(&image), 0, "{precision}");
        }
    }

    #[test]
    fn rounded_values_are_near_and_in_range() {
        let shape = Shape { rows: 1, columns: 6, samples: 1 };
        let samples = vec![-2048, -5, -4, 3, 4, 2047];
        let image = Image { shape, precision: 12, is_signed: true, samples };
        let rounded = without_low_bits(image.clone(), 3);
        assert_eq!((rounded.precision, rounded.samples.as_slice()), (9, &[-256, -1, 0, 0, 1, 255][..]));
        assert_eq!(without_low_bits(image.clone(), 0), image);
        let unsigned = Image { is_signed: false, samples: vec![0, 3, 4, 4095, 4094, 1], ..image };
        assert_eq!(without_low_bits(unsigned, 3).samples, [0, 0, 1, 511, 511, 0]);
    }
}
