//! Renders grey directly from native words of 8 and 16 bits, as in most frames of CT, MR and radiography: the
//! result of [`super::grey`], without unpacking the samples first.

use crate::dicom::frames::PixelLayout;
use crate::pixel::render::grey::{Tone, possible_range};
use crate::pixel::render::window::Voi;
use crate::pixel::render::{Display, ModalityTransform};

/// The grey of the first `count` words; `None` if there are too few, or if grey does not depend on the word
/// alone.
pub(super) fn grey(frame: &[u8], layout: &PixelLayout, count: usize, display: &Display) -> Option<Vec<u8>> {
    if layout.high_bit + 1 != layout.bits_stored {
        return None;
    }
    match layout.bits_allocated {
        8 if layout.bits_stored == 8 => {
            let bytes = frame.get(..count)?;
            let tone = Tone::new(display, || possible_range(display, 8, layout.is_signed));
            let number =
                |byte: u8| if layout.is_signed { i64::from(byte.cast_signed()) } else { byte.into() };
            let table: [u8; 256] = std::array::from_fn(|byte| tone.of(number(byte as u8)));
            Some(bytes.iter().map(|&byte| table[usize::from(byte)]).collect())
        }
        16 => of_16_bits(frame.get(..2 * count)?.as_chunks().0, layout, display),
        _ => None,
    }
}

fn of_16_bits(words: &[[u8; 2]], layout: &PixelLayout, display: &Display) -> Option<Vec<u8>> {
    let range = range_of(words, layout.is_signed);
    // Bits outside of Bits Stored would have to be removed first.
    let [lowest, highest] = possible_numbers(layout);
    if range[0] < lowest || range[1] > highest {
        return None;
    }
    let is_full = display.voi == Voi::Full;
    let is_linear = matches!(display.modality, ModalityTransform::Linear { .. });
    if is_full && !(is_linear && display.padding.is_none() && layout.bits_stored > 8) {
        return None;
    }
    let table = Tone::new(display, || display.modality.ends(range)).table(range);
    let base = range[0] as u16;
    let grey = |word: &[u8; 2]| table[usize::from(u16::from_le_bytes(*word).wrapping_sub(base))];
    Some(words.iter().map(grey).collect())
}

/// The lowest and the highest number of a frame.
fn range_of(words: &[[u8; 2]], is_signed: bool) -> [i64; 2] {
    // Of unsigned words the upper half is made negative: the order stays, and processors compare signed words
    // best.
    let flip = if is_signed { 0 } else { i16::MIN };
    let of = |[low, high]: [i16; 2], word: &[u8; 2]| {
        let number = i16::from_le_bytes(*word) ^ flip;
        [low.min(number), high.max(number)]
    };
    let [low, high] = words.iter().fold([i16::MAX, i16::MIN], of);
    [low, high].map(|number| i64::from(number) - i64::from(flip))
}

/// The lowest and the highest number that there could be.
fn possible_numbers(layout: &PixelLayout) -> [i64; 2] {
    let count = 1_i64 << layout.bits_stored;
    if layout.is_signed { [-count / 2, count / 2 - 1] } else { [0, count - 1] }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::pixel::decode::{FrameEncoding, decode};
    use crate::pixel::render::lut::Lut;
    use crate::pixel::render::render_frame;
    use crate::pixel::render::render_native;
    use crate::pixel::render::window::{VoiFunction, Window};

    fn layout(count: usize, allocated: u16, stored: u16, is_signed: bool) -> PixelLayout {
        PixelLayout {
            rows: 1,
            columns: count as u32,
            samples: 1,
            bits_allocated: allocated,
            bits_stored: stored,
            high_bit: stored - 1,
            is_signed,
            photometric: "MONOCHROME2".into(),
            is_planar: false,
            number_of_frames: 1,
        }
    }

    fn displays() -> Vec<Display> {
        let window = |center, width| Voi::Window(Window { center, width, function: VoiFunction::Linear });
        let lut = Lut::read([3, 0xFFFF, 8], &[0, 100, 255], true).unwrap();
        let rescaled = ModalityTransform::Linear { slope: -2.0, intercept: 100.0 };
        let plain = Display::default();
        vec![
            plain.clone(),
            Display { modality: rescaled, is_inverted: true, ..plain.clone() },
            Display { voi: window(40.0, 400.0), ..plain.clone() },
            Display { voi: Voi::Table(lut.clone()), ..plain.clone() },
            Display { padding: Some([-5, 5]), voi: window(0.0, 1000.0), ..plain.clone() },
            Display { modality: ModalityTransform::Table(lut), ..plain },
        ]
    }

    proptest! {
        #[test]
        fn what_is_seen_is_that_of_the_samples(
            words in prop::collection::vec(any::<u16>(), 1..40),
            (allocated, stored) in prop::sample::select(vec![(8, 8), (8, 5), (16, 16), (16, 12), (16, 8)]),
            is_signed: bool,
            is_tidy: bool,
            display in prop::sample::select(displays()),
        ) {
            let shift = if is_tidy { 16 - stored } else { 0 };
            let tidy = |word: u16| if is_signed { (word as i16 >> shift) as u16 } else { word >> shift };
            let bytes: Vec<u8> = match allocated {
                8 => words.iter().map(|&word| tidy(word) as u8).collect(),
                _ => words.iter().flat_map(|&word| tidy(word).to_le_bytes()).collect(),
            };
            let layout = layout(words.len(), allocated, stored, is_signed);
            let little = FrameEncoding::Native { first_bit: 0 };
            if let Some(canvas) = render_native(&bytes, &layout, &display) {
                prop_assert_eq!(canvas, render_frame(decode(&bytes, &layout, little).unwrap(), &display).unwrap());
            }
        }
    }

    #[test]
    fn usual_frames_are_not_unpacked_and_short_ones_are_left_to_the_decoder() {
        let bytes = [1, 2, 3, 4];
        let [plain, _, windowed, ..] = &displays()[..] else { panic!("no displays") };
        for (layout, display, is_direct) in [
            (layout(4, 8, 8, false), plain, true),
            (layout(2, 16, 16, true), plain, true),
            (layout(2, 16, 12, false), windowed, true),
            (layout(3, 16, 16, true), windowed, false),
            (layout(2, 16, 4, false), windowed, false),
            (PixelLayout { photometric: "PALETTE COLOR".into(), ..layout(4, 8, 8, false) }, plain, false),
            (PixelLayout { high_bit: 15, ..layout(2, 16, 12, false) }, windowed, false),
        ] {
            assert_eq!(render_native(&bytes, &layout, display).is_some(), is_direct, "{layout:?}");
        }
    }
}
