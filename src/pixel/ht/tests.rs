//! The encoder against OpenJPEG's decoder, and against an inverse of its own.

use std::f64::consts::TAU;

use super::*;
use crate::pixel::{Shape, j2k};

/// Numbers that look random, from a seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as u32
    }

    fn below(&mut self, end: u32) -> u32 {
        self.next() % end
    }
}

/// The kinds of images that are encoded.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Zero,
    Lowest,
    Highest,
    Checkerboard,
    Noise,
    Slope,
    Waves,
    Dots,
    Discs,
}

const KINDS: [Kind; 9] = [
    Kind::Zero,
    Kind::Lowest,
    Kind::Highest,
    Kind::Checkerboard,
    Kind::Noise,
    Kind::Slope,
    Kind::Waves,
    Kind::Dots,
    Kind::Discs,
];

/// An image of `rows` × `columns` × `samples`.
fn image(kind: Kind, [rows, columns, samples]: [u32; 3], precision: u32, is_signed: bool) -> Image {
    let range = 1_i32 << precision;
    let lowest = if is_signed { -range / 2 } else { 0 };
    let mut random = Random(u64::from(rows) << 32 | u64::from(columns));
    let mut value = |place: u32| {
        let (sample, pixel) = (place % samples, place / samples);
        let (row, column) = (pixel / columns, pixel % columns);
        match kind {
            Kind::Zero => -lowest,
            Kind::Lowest => 0,
            Kind::Highest => range - 1,
            Kind::Checkerboard => (range - 1) * ((row + column + sample) % 2) as i32,
            Kind::Noise => random.below(range as u32) as i32,
            Kind::Slope => {
                ((u64::from(range as u32) * u64::from(row + column)) / u64::from(rows + columns)) as i32
            }
            Kind::Waves => {
                let wave = (f64::from(row) / 9.0 + f64::from(sample)).sin() * (f64::from(column) / TAU).cos();
                (f64::from(range) * (0.5 + 0.45 * wave)) as i32
            }
            Kind::Discs => {
                let is_in = |centre: u32, radius: u32| {
                    row.abs_diff(centre).pow(2) + column.abs_diff(centre + 9).pow(2) < radius.pow(2)
                };
                range / 40 * (1 + 12 * i32::from(is_in(40, 30)) + 24 * i32::from(is_in(36, 7)))
            }
            Kind::Dots => (range - 1) * i32::from(random.below(50) == 0),
        }
    };
    let samples_of =
        (0..rows * columns * samples).map(|place| (lowest + value(place)).clamp(lowest, lowest + range - 1));
    let shape = Shape { rows, columns, samples: samples as u16 };
    Image { shape, precision, is_signed, samples: samples_of.collect() }
}

/// The error of OpenJPEG, whose scale of high-pass samples is 1/30000 too small.
fn error_of_openjpeg(precision: u32) -> i32 {
    (1 << precision) >> 14
}

fn largest_difference(one: &Image, other: &Image) -> i32 {
    assert_eq!((one.shape, one.precision, one.is_signed), (other.shape, other.precision, other.is_signed));
    one.samples.iter().zip(&other.samples).map(|(one, other)| (one - other).abs()).max().unwrap()
}

/// The decoded codestream, and that each of its beginnings is the image in a lower resolution.
fn decode_and_check(codestream: &[u8], shape: Shape) -> Image {
    let parts = j2k::parts(codestream).unwrap();
    let resolutions = shape.rows.min(shape.columns).ilog2().min(5) as usize + 1;
    assert_eq!(parts.resolution_ends.len(), resolutions);
    assert_eq!(codestream[*parts.resolution_ends.last().unwrap()..], j2k::END_OF_CODESTREAM);
    for (reduce, end) in (0..resolutions as u32).rev().zip(&parts.resolution_ends) {
        let prefix = [&codestream[..*end], &j2k::END_OF_CODESTREAM].concat();
        let whole = j2k::decode(codestream, shape, reduce).unwrap();
        assert_eq!(whole.shape.rows, shape.rows.div_ceil(1 << reduce));
        assert_eq!(j2k::decode(&prefix, shape, reduce).unwrap(), whole, "{shape:?}, {reduce}");
    }
    j2k::decode(codestream, shape, 0).unwrap()
}

/// The image after quantisation, by an inverse that is written down from the standard alone.
fn reconstructed(image: &Image, step: Step) -> Image {
    let transformed = Transformed::new(image).unwrap();
    let [width, height] = transformed.size;
    let mut planes = transformed.planes.clone();
    for resolution in 0..=transformed.levels {
        for band in bands::Band::of_resolution(&transformed, resolution, step) {
            for plane in &mut planes {
                band.dequantise(plane, width);
            }
        }
    }
    for plane in &mut planes {
        let mut sizes = vec![[width, height]];
        for _ in 0..transformed.levels {
            let [across, down] = sizes[sizes.len() - 1];
            sizes.push([across.div_ceil(2), down.div_ceil(2)]);
        }
        for [across, down] in sizes[..transformed.levels as usize].iter().rev().copied() {
            for column in 0..across {
                let values: Vec<f64> = (0..down).map(|row| f64::from(plane[row * width + column])).collect();
                let values = inverse(&values);
                (0..down).for_each(|row| plane[row * width + column] = values[row] as f32);
            }
            for row in 0..down {
                let values: Vec<f64> =
                    plane[row * width..][..across].iter().copied().map(f64::from).collect();
                let values = inverse(&values);
                (0..across).for_each(|column| plane[row * width + column] = values[column] as f32);
            }
        }
    }
    let range = 1_i32 << image.precision;
    let lowest = if image.is_signed { -range / 2 } else { 0 };
    let middle = if image.is_signed { 0 } else { range / 2 };
    let samples = (0..width * height).flat_map(|pixel| {
        let values: Vec<f32> = planes.iter().map(|plane| plane[pixel]).collect();
        let colours = match values[..] {
            [y, cb, cr] => vec![y + 1.402 * cr, y - 0.344_13 * cb - 0.714_14 * cr, y + 1.772 * cb],
            _ => values,
        };
        colours
            .into_iter()
            .map(|value| (value.round() as i32 + middle).clamp(lowest, lowest + range - 1))
            .collect::<Vec<_>>()
    });
    Image { samples: samples.collect(), ..image.clone() }
}

/// One row or column of a level (ISO/IEC 15444-1 §F.3.8.2), with numbers beyond the ends mirrored.
fn inverse(values: &[f64]) -> Vec<f64> {
    const LIFTING: [f64; 4] = [-1.586_134_342, -0.052_980_118, 0.882_911_075, 0.443_506_852];
    const SCALE: f64 = 1.230_174_105;
    let count = values.len();
    if count == 1 {
        return values.to_vec();
    }
    let low = count.div_ceil(2);
    let mut signal: Vec<f64> = (0..count)
        .map(|at| if at % 2 == 0 { values[at / 2] * SCALE } else { values[low + at / 2] / SCALE })
        .collect();
    for (first, factor) in [(0, LIFTING[3]), (1, LIFTING[2]), (0, LIFTING[1]), (1, LIFTING[0])] {
        for at in (first..count).step_by(2) {
            let before = signal[if at == 0 { 1 } else { at - 1 }];
            let after = signal[if at + 1 == count { count - 2 } else { at + 1 }];
            signal[at] -= factor * (before + after);
        }
    }
    signal
}

#[test]
fn images_of_every_kind_and_size_come_back_as_they_were_quantised() {
    let sizes = [[1, 1], [1, 9], [70, 1], [3, 5], [2, 2], [64, 64], [65, 63], [130, 67], [33, 200]];
    let formats =
        [(1, 8, false), (1, 12, false), (1, 16, false), (1, 12, true), (1, 16, true), (3, 8, false)];
    for ([rows, columns], kind) in sizes.into_iter().flat_map(|size| KINDS.map(|kind| (size, kind))) {
        for (samples, precision, is_signed) in formats {
            let image = image(kind, [rows, columns, samples], precision, is_signed);
            for grey_values in [0.5, 4.0, 100.0] {
                let step = Step::nearest(grey_values);
                let codestream = Transformed::new(&image).unwrap().encode(step);
                let decoded = decode_and_check(&codestream, image.shape);
                let case =
                    format!("{kind:?} {rows} x {columns} x {samples}, {precision} bits, step {grey_values}");
                let inverse = reconstructed(&image, step);
                assert!(largest_difference(&decoded, &inverse) <= 1 + error_of_openjpeg(precision), "{case}");
                if grey_values < 1.0 && samples == 1 {
                    assert!(
                        largest_difference(&decoded, &image) <= 2 + error_of_openjpeg(precision),
                        "{case}"
                    );
                }
            }
        }
    }
}

#[test]
fn every_size_up_to_a_code_block_and_a_bit_is_decoded() {
    for side in 1..70 {
        for [rows, columns] in [[side, 70 - side], [side, side], [2, side], [side, 3]] {
            let image = image(Kind::Noise, [rows, columns, 1], 10, false);
            let codestream = Transformed::new(&image).unwrap().encode(Step::nearest(2.0));
            let decoded = j2k::decode(&codestream, image.shape, 0).unwrap();
            assert!(largest_difference(&decoded, &image) <= 8, "{rows} x {columns}");
        }
    }
}

#[test]
fn large_images_are_decoded() {
    for (rows, columns, precision) in [(511, 513, 12), (1500, 1048, 16)] {
        let image = image(Kind::Waves, [rows, columns, 1], precision, false);
        let codestream = Transformed::new(&image).unwrap().encode(Step::nearest(8.0));
        let decoded = decode_and_check(&codestream, image.shape);
        assert!(largest_difference(&decoded, &image) <= 24);
        assert!(codestream.len() < image.samples.len());
    }
}

/// Images, sizes, precisions and steps that follow no rule: nothing panics, and OpenJPEG decodes it all.
#[test]
fn whatever_is_encoded_is_decoded() {
    let mut random = Random(7);
    for _ in 0..1500 {
        let samples = if random.below(4) == 0 { 3 } else { 1 };
        let (rows, columns) = (1 + random.below(90), 1 + random.below(90));
        let precision = 1 + random.below(16);
        let is_signed = random.below(2) == 0;
        let mut image =
            image(KINDS[random.below(9) as usize], [rows, columns, samples], precision, is_signed);
        // A part of the image is of other values.
        let (kept, other) = (random.below(rows * columns * samples) as usize, random.below(9) as usize);
        let of_other = self::image(KINDS[other], [rows, columns, samples], precision, is_signed);
        image.samples[kept..].copy_from_slice(&of_other.samples[kept..]);
        let step = Step::FINEST.coarser(random.below(170) as i32);
        let codestream = Transformed::new(&image).unwrap().encode(step);
        let decoded = j2k::decode(&codestream, image.shape, 0);
        let case = format!("{rows} x {columns} x {samples}, {precision} bits, {step:?}");
        let decoded = decoded.unwrap_or_else(|error| panic!("{case}: {error}"));
        if samples == 1 {
            let allowed = 2 + error_of_openjpeg(precision) + (8.0 * step.grey_values()) as i32;
            assert!(largest_difference(&decoded, &image) <= allowed, "{case}");
        }
    }
}

#[test]
fn the_bytes_are_near_the_budget_and_never_far_above() {
    for kind in KINDS {
        for (precision, ratio) in [(8, 10), (12, 10), (12, 20), (16, 5), (16, 10), (16, 40)] {
            let image = image(kind, [200, 300, 1], precision, false);
            let budget = image.samples.len() * if precision > 8 { 2 } else { 1 } / ratio;
            let finest = Step::nearest(0.5);
            let codestream = Transformed::new(&image).unwrap().encode_to(budget, finest);
            let share = codestream.len() as f64 / budget as f64;
            let case = format!("{kind:?}, {precision} bits, a {ratio}th: {share}");
            assert!(share <= 1.05, "{case}");
            let is_finest = Transformed::new(&image).unwrap().encode(finest) == codestream;
            // Many coefficients of these are of one size, and vanish at one step.
            let is_regular = matches!(kind, Kind::Checkerboard | Kind::Slope);
            assert!(share >= 0.75 || is_finest || is_regular, "{case}");
            j2k::decode(&codestream, image.shape, 0).unwrap();
        }
    }
    // Not even the coarsest step is enough.
    let image = image(Kind::Noise, [200, 300, 1], 16, false);
    assert!(!Transformed::new(&image).unwrap().encode_to(10, Step::FINEST).is_empty());
}

#[test]
fn values_beyond_the_precision_do_no_harm() {
    for samples in [1, 3] {
        let mut image = image(Kind::Noise, [70, 80, samples], 8, false);
        image.samples[500] = i32::MIN;
        image.samples[2000] = i32::MAX;
        for step in [Step::FINEST, Step::nearest(10.0)] {
            let codestream = Transformed::new(&image).unwrap().encode(step);
            assert_eq!(j2k::decode(&codestream, image.shape, 0).unwrap().shape, image.shape);
        }
    }
}

#[test]
fn other_images_are_refused() {
    for (samples, precision, count) in [(2, 8, 2), (1, 17, 1), (1, 0, 1), (1, 8, 0), (1, 8, 2)] {
        let shape = Shape { rows: 1, columns: 1, samples };
        let image = Image { shape, precision, is_signed: false, samples: vec![0; count] };
        assert!(Transformed::new(&image).is_err());
    }
    let shape = Shape { rows: 1, columns: 40_000, samples: 1 };
    let long = Image { shape, precision: 8, is_signed: false, samples: vec![0; 40_000] };
    assert!(matches!(Transformed::new(&long), Err(Error::Unsupported(_))));
}

/// A slice of 512 x 512 samples of 12 bits: a disc with slopes and edges, and noise.
#[test]
fn a_noisy_slice_comes_back_as_it_was_quantised() {
    let mut random = 1_u32;
    let samples = (0..512 * 512).map(|place: i32| {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let (x, y) = (place % 512 - 256, place / 512 - 256);
        let level = if x * x + y * y < 200 * 200 { 1000 + 2 * x + 400 * ((x / 32 + y / 32) & 1) } else { 24 };
        level + (random >> 26) as i32
    });
    let shape = Shape { rows: 512, columns: 512, samples: 1 };
    let image = Image { shape, precision: 12, is_signed: false, samples: samples.collect() };
    let transformed = Transformed::new(&image).unwrap();
    let codestream = transformed.encode(Step::nearest(19.0));
    let decoded = decode_and_check(&codestream, shape);
    let difference = largest_difference(&decoded, &reconstructed(&image, Step::nearest(19.0)));
    assert!(difference <= 1, "{difference}");
    assert!(transformed.encode_to(52_428, Step::nearest(0.5)).len() <= 52_428 * 21 / 20);
}
