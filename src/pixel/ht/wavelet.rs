//! The irreversible 9/7 wavelet transform (ISO/IEC 15444-1 Annex F).

/// The lifting factors (ISO/IEC 15444-1, Table F.4), for high-pass and low-pass samples in turn.
const LIFTING: [f32; 4] = [-1.586_134_3, -0.052_980_12, 0.882_911_1, 0.443_506_85];
/// The scaling of high-pass samples; low-pass samples are divided by it.
const SCALE: f32 = 1.230_174_1;
/// Columns that are transformed at a time.
const STRIP: usize = 16;

/// The norms of the synthesis of a low-pass and a high-pass sample after so many more levels, in one
/// dimension: the square root of the energy that a sample of 1 adds to the signal.
pub(super) const LOW_NORMS: [f64; 6] = [1.0, 1.402_11, 2.030_37, 2.901_16, 4.115_29, 5.824_51];
/// See [`LOW_NORMS`]; the first is of level 1.
pub(super) const HIGH_NORMS: [f64; 5] = [0.721_26, 0.983_47, 1.441_96, 2.073_76, 2.947_32];

/// The number of low-pass samples of so many samples.
pub(super) const fn half(length: usize) -> usize {
    length.div_ceil(2)
}

/// Transforms `levels` times in place: the low-pass samples of each level are at the upper left of it.
/// `samples` has rows of `width` values.
pub(super) fn transform(samples: &mut [f32], width: usize, height: usize, levels: u32) {
    let mut scratch = vec![0.0; width];
    let mut strip = vec![[0.0; STRIP]; height];
    let (mut across, mut down) = (width, height);
    for _ in 0..levels {
        for row in samples.chunks_exact_mut(width).take(down) {
            transform_row(&mut row[..across], &mut scratch);
        }
        for column in (0..across).step_by(STRIP) {
            let columns = column..across.min(column + STRIP);
            transform_columns(samples, width, columns, &mut strip[..down]);
        }
        (across, down) = (half(across), half(down));
    }
}

fn transform_row(row: &mut [f32], scratch: &mut [f32]) {
    if row.len() < 2 {
        return;
    }
    let (low, high) = scratch[..row.len()].split_at_mut(half(row.len()));
    let (pairs, rest) = row.as_chunks::<2>();
    for ((pair, low), high) in pairs.iter().zip(&mut *low).zip(&mut *high) {
        (*low, *high) = (pair[0], pair[1]);
    }
    if let ([last], Some(low)) = (rest, low.last_mut()) {
        *low = *last;
    }
    lift(low, high, |to, factor, one, other| *to += factor * (one + other), |to, factor| *to *= factor);
    row.copy_from_slice(&scratch[..row.len()]);
}

/// Transforms some columns, through a copy of them in `strip`.
fn transform_columns(
    samples: &mut [f32],
    width: usize,
    columns: std::ops::Range<usize>,
    strip: &mut [[f32; STRIP]],
) {
    if strip.len() < 2 {
        return;
    }
    let count = columns.len();
    let (low, high) = strip.split_at_mut(half(strip.len()));
    for (at, row) in samples.chunks_exact(width).take(low.len() + high.len()).enumerate() {
        let place = if at % 2 == 0 { &mut low[at / 2] } else { &mut high[at / 2] };
        place[..count].copy_from_slice(&row[columns.clone()]);
    }
    let add = |to: &mut [f32; STRIP], factor: f32, one: [f32; STRIP], other: [f32; STRIP]| {
        for ((to, one), other) in to.iter_mut().zip(one).zip(other) {
            *to += factor * (one + other);
        }
    };
    lift(low, high, add, |to, factor| to.iter_mut().for_each(|to| *to *= factor));
    for (row, strip) in samples.chunks_exact_mut(width).zip(strip) {
        row[columns.clone()].copy_from_slice(&strip[..count]);
    }
}

/// The lifting steps and the scaling (ISO/IEC 15444-1 §F.4.8.2) of two samples or more. `add` adds the sum of
/// two neighbours times a factor; beyond the ends, the signal is mirrored.
#[inline]
fn lift<T: Copy>(
    low: &mut [T],
    high: &mut [T],
    add: impl Fn(&mut T, f32, T, T),
    scale: impl Fn(&mut T, f32),
) {
    for factors in LIFTING.chunks_exact(2) {
        for (to, neighbours) in high.iter_mut().zip(low.windows(2)) {
            add(to, factors[0], neighbours[0], neighbours[1]);
        }
        if let (true, Some(last)) = (high.len() == low.len(), high.last_mut()) {
            add(last, factors[0], low[low.len() - 1], low[low.len() - 1]);
        }
        add(&mut low[0], factors[1], high[0], high[0]);
        for (to, neighbours) in low[1..].iter_mut().zip(high.windows(2)) {
            add(to, factors[1], neighbours[0], neighbours[1]);
        }
        if low.len() > high.len() {
            add(&mut low[high.len()], factors[1], high[high.len() - 1], high[high.len() - 1]);
        }
    }
    low.iter_mut().for_each(|sample| scale(sample, 1.0 / SCALE));
    high.iter_mut().for_each(|sample| scale(sample, SCALE));
}
