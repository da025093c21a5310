//! Renders one sample to grey: modality LUT, VOI LUT, presentation LUT shape (PS3.4 §N.2.1).

use crate::pixel::Image;
use crate::pixel::render::lut::Lut;
use crate::pixel::render::window::Voi;
use crate::pixel::render::{Display, ModalityTransform};

/// Entries of the table by which samples are looked up.
const TABLE_ENTRIES: usize = 1 << 16;

/// The grey of every sample.
pub(super) fn grey(image: &Image, display: &Display) -> Vec<u8> {
    let range = range_of(image);
    let tone = Tone::new(display, || full_range(image, display, range));
    let [lowest, highest] = range;
    if highest - lowest >= TABLE_ENTRIES as i64 {
        return image.samples.iter().map(|&sample| tone.of(number(image, sample))).collect();
    }
    let table = tone.table(range);
    let base = lowest as i32;
    image.samples.iter().map(|sample| table[usize::from(sample.wrapping_sub(base) as u16)]).collect()
}

/// The number that a sample stands for: of 32 bits without sign, it is kept by its bits.
fn number(image: &Image, sample: i32) -> i64 {
    if image.is_signed { sample.into() } else { (sample as u32).into() }
}

/// The lowest and the highest number of a frame.
fn range_of(image: &Image) -> [i64; 2] {
    // One type for each loop: the compiler then takes many samples at a time.
    if image.is_signed {
        let of = |[low, high]: [i32; 2], &sample: &i32| [low.min(sample), high.max(sample)];
        image.samples.iter().fold([i32::MAX, i32::MIN], of).map(i64::from)
    } else {
        let of = |[low, high]: [u32; 2], &sample: &i32| [low.min(sample as u32), high.max(sample as u32)];
        image.samples.iter().fold([u32::MAX, u32::MIN], of).map(i64::from)
    }
}

/// The grey of a value.
pub(super) struct Tone<'a> {
    modality: &'a ModalityTransform,
    voi: Resolved<'a>,
    presentation: Option<&'a Lut>,
    is_inverted: bool,
    padding: Option<[i64; 2]>,
}

/// A VOI LUT with all values computed.
enum Resolved<'a> {
    Range([f64; 2]),
    Window(&'a super::window::Window),
    Table(&'a Lut),
}

impl<'a> Tone<'a> {
    /// `full_range` gives the lowest and the highest value to be seen, where all are.
    pub(super) fn new(display: &'a Display, full_range: impl FnOnce() -> [f64; 2]) -> Self {
        let voi = match &display.voi {
            Voi::Window(window) => Resolved::Window(window),
            Voi::Table(table) => Resolved::Table(table),
            Voi::Full => Resolved::Range(full_range()),
        };
        let Display { modality, presentation, is_inverted, padding, .. } = display;
        let (is_inverted, padding) = (*is_inverted, *padding);
        Self { modality, voi, presentation: presentation.as_ref(), is_inverted, padding }
    }

    /// The grey of the numbers of a range, from the first on. The table has an entry for every index of 16
    /// bits, so that none has to be checked; there are no more numbers than that.
    pub(super) fn table(&self, [lowest, highest]: [i64; 2]) -> [u8; TABLE_ENTRIES] {
        let mut table = [0; TABLE_ENTRIES];
        for (entry, number) in table.iter_mut().zip(lowest..=highest) {
            *entry = self.of(number);
        }
        table
    }

    /// The grey of a stored number.
    pub(super) fn of(&self, number: i64) -> u8 {
        if is_padding(self.padding, number) {
            return 0;
        }
        let value = self.modality.value(number);
        let level = match self.voi {
            Resolved::Window(window) => window.level(value),
            Resolved::Table(table) => table.level(value.round() as i64),
            Resolved::Range([low, high]) if low < high => ((value - low) / (high - low)).clamp(0.0, 1.0),
            Resolved::Range(_) => 0.0,
        };
        let level = self.presentation.map_or(level, |table| table.level_at(level));
        let level = if self.is_inverted { 1.0 - level } else { level };
        // Rounded: no level is negative.
        (255.0 * level + 0.5) as u8
    }
}

impl ModalityTransform {
    fn value(&self, number: i64) -> f64 {
        match self {
            Self::Linear { slope, intercept } => number as f64 * slope + intercept,
            Self::Table(table) => table.entry(number).into(),
        }
    }

    /// The values of two numbers, the lower one first.
    pub(super) fn ends(&self, numbers: [i64; 2]) -> [f64; 2] {
        let [first, second] = numbers.map(|number| self.value(number));
        [first.min(second), first.max(second)]
    }
}

fn is_padding(padding: Option<[i64; 2]>, number: i64) -> bool {
    padding.is_some_and(|[first, last]| (first..=last).contains(&number))
}

/// The lowest and the highest value to be seen.
fn full_range(image: &Image, display: &Display, range: [i64; 2]) -> [f64; 2] {
    let modality = &display.modality;
    let ends = match modality {
        _ if image.precision <= 8 => return possible_range(display, image.precision, image.is_signed),
        ModalityTransform::Linear { .. } if display.padding.is_none() => range,
        _ => {
            let numbers = image.samples.iter().map(|&sample| number(image, sample));
            let values = numbers.filter(|&number| !is_padding(display.padding, number));
            let values = values.map(|number| modality.value(number));
            let ends = [f64::INFINITY, f64::NEG_INFINITY];
            return values.fold(ends, |[low, high], value| [low.min(value), high.max(value)]);
        }
    };
    modality.ends(ends)
}

/// The lowest and the highest value that there could be.
pub(super) fn possible_range(display: &Display, precision: u32, is_signed: bool) -> [f64; 2] {
    let count = 1_i64 << precision;
    match &display.modality {
        ModalityTransform::Table(table) => [0.0, table.highest().into()],
        linear if is_signed => linear.ends([-count / 2, count / 2 - 1]),
        linear => linear.ends([0, count - 1]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pixel::Shape;
    use crate::pixel::render::window::{VoiFunction, Window};

    fn image(precision: u32, is_signed: bool, samples: &[i32]) -> Image {
        let shape = Shape { rows: 1, columns: samples.len() as u32, samples: 1 };
        Image { shape, precision, is_signed, samples: samples.to_vec() }
    }

    fn window(center: f64, width: f64) -> Voi {
        Voi::Window(Window { center, width, function: VoiFunction::Linear })
    }

    fn lut(descriptor: [i64; 3], words: &[u16]) -> Lut {
        let data: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        Lut::read(descriptor, &data, descriptor[1] < 0).unwrap()
    }

    #[test]
    fn values_go_through_modality_window_and_shape() {
        let samples = image(12, true, &[-1024, -2, 0, 1000, 2047]);
        let rescale = ModalityTransform::Linear { slope: 2.0, intercept: -1000.0 };
        let display = Display { modality: rescale, voi: window(0.5, 2001.0), ..Display::default() };
        assert_eq!(grey(&samples, &display), [0, 0, 0, 255, 255]);
        let display = Display { voi: window(-999.5, 4001.0), ..display };
        // (x + 1000) / 4000 + 0.5 of -3048, -1004, -1000, 1000 and 3094.
        assert_eq!(grey(&samples, &display), [0, 127, 128, 255, 255]);
        let inverted = Display { is_inverted: true, ..display };
        assert_eq!(grey(&samples, &inverted), [255, 128, 128, 0, 0]);
    }

    #[test]
    fn without_a_window_all_values_are_seen() {
        let all = Display::default();
        assert_eq!(grey(&image(16, true, &[-100, 0, 100]), &all), [0, 128, 255]);
        assert_eq!(grey(&image(8, false, &[0, 100, 200]), &all), [0, 100, 200]);
        assert_eq!(grey(&image(8, true, &[-128, 0, 127]), &all), [0, 128, 255]);
        assert_eq!(grey(&image(1, false, &[0, 1, 1]), &all), [0, 255, 255]);
        assert_eq!(grey(&image(16, false, &[7, 7]), &all), [0, 0]);
        let falling = Display {
            modality: ModalityTransform::Linear { slope: -1.0, intercept: 0.0 },
            ..Display::default()
        };
        assert_eq!(grey(&image(16, true, &[-100, 0, 100]), &falling), [255, 128, 0]);
    }

    #[test]
    fn numbers_of_32_bits_are_seen_with_and_without_sign() {
        let all = Display::default();
        assert_eq!(grey(&image(32, true, &[i32::MIN, 0, i32::MAX]), &all), [0, 128, 255]);
        assert_eq!(grey(&image(32, false, &[0, i32::MIN, -1]), &all), [0, 128, 255]);
        assert_eq!(grey(&image(32, false, &[-3, -2, -1]), &all), [0, 128, 255]);
    }

    #[test]
    fn padding_is_black_and_not_counted() {
        let padded = Display { padding: Some([-2000, -2000]), ..Display::default() };
        let samples = image(16, true, &[-2000, 0, 50, 100]);
        assert_eq!(grey(&samples, &padded), [0, 0, 128, 255]);
        let inverted = Display { is_inverted: true, ..padded };
        assert_eq!(grey(&samples, &inverted), [0, 255, 128, 0]);
        let range = Display { padding: Some([-2000, 0]), ..Display::default() };
        assert_eq!(grey(&samples, &range), [0, 0, 0, 255]);
    }

    #[test]
    fn tables_map_values() {
        let display = Display {
            modality: ModalityTransform::Table(lut([3, 1, 16], &[10, 20, 30])),
            voi: Voi::Table(lut([3, 19, 12], &[0, 4095, 819])),
            ..Display::default()
        };
        assert_eq!(grey(&image(16, false, &[0, 1, 2, 3, 9]), &display), [0, 0, 255, 51, 51]);
        let modality_alone = Display { voi: Voi::Full, ..display };
        assert_eq!(grey(&image(16, false, &[1, 2, 3]), &modality_alone), [0, 128, 255]);
        let presentation = Some(lut([2, 7, 8], &[255, 51]));
        let presented = Display { presentation, ..Display::default() };
        assert_eq!(grey(&image(8, false, &[0, 100, 200]), &presented), [255, 255, 51]);
        let negative = Display { voi: Voi::Table(lut([2, -1, 8], &[0, 255])), ..Display::default() };
        assert_eq!(grey(&image(16, true, &[-2, -1, 0, 1]), &negative), [0, 0, 255, 255]);
    }
}
