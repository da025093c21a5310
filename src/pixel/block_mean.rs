//! The means of blocks of voxels: a box is cut out of each frame, and `side` × `side` pixels of `side` frames
//! become one pixel.

use crate::pixel::{Error, Image, Shape};

/// A box of pixels in a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PixelBox {
    /// Columns to the left of the box.
    pub x: u32,
    /// Rows above the box.
    pub y: u32,
    /// Columns of the box.
    pub width: u32,
    /// Rows of the box.
    pub height: u32,
}

impl PixelBox {
    /// The box that holds whole blocks only: the last columns and rows are left out.
    #[must_use]
    pub fn in_blocks(self, side: u32) -> Self {
        Self { width: self.width - self.width % side, height: self.height - self.height % side, ..self }
    }

    /// Whether the box has pixels, all of which are in a frame.
    pub fn is_within(self, rows: u32, columns: u32) -> bool {
        let ends_within = |start: u32, length: u32, limit: u32| {
            length > 0 && start.checked_add(length).is_some_and(|end| end <= limit)
        };
        ends_within(self.x, self.width, columns) && ends_within(self.y, self.height, rows)
    }
}

/// The sums of the blocks of frames that were added so far.
#[derive(Debug)]
pub struct BlockMean {
    area: PixelBox,
    side: u32,
    padding: Option<[i64; 2]>,
    sums: Vec<i64>,
    counts: Vec<u32>,
    precision: u32,
    is_signed: Option<bool>,
}

impl BlockMean {
    /// Blocks of `side` × `side` pixels: the whole ones in `area`. `padding` is Pixel Padding Value and Pixel
    /// Padding Range Limit (PS3.3 §C.7.5.1.1.2), both included. Such samples count for no mean, and a block
    /// of nothing else gets the first of them.
    pub fn new(area: PixelBox, side: u32, padding: Option<[i64; 2]>) -> Self {
        let padding = padding.filter(|_| side > 1);
        let area = area.in_blocks(side);
        let blocks = (area.width / side) as usize * (area.height / side) as usize;
        let (sums, counts) = (vec![0; blocks], vec![0; blocks]);
        Self { area, side, padding, sums, counts, precision: 1, is_signed: None }
    }

    /// Adds a frame.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if the frame is in colour or has another sign than the frames before, or if the
    /// box is not within.
    pub fn add(&mut self, image: &Image) -> Result<(), Error> {
        let Shape { rows, columns, samples } = image.shape;
        let is_other_sign = self.is_signed.is_some_and(|before| before != image.is_signed);
        if samples != 1 || is_other_sign || !self.area.is_within(rows, columns) {
            let reason = "a frame of another kind than the other frames of the volume";
            return Err(Error::Unsupported(reason.into()));
        }
        self.is_signed = Some(image.is_signed);
        self.precision = self.precision.max(image.precision);
        let PixelBox { x, y, width, height } = self.area;
        let (side, per_row) = (self.side as usize, (width / self.side) as usize);
        let padding = self.padding.map(|[value, limit]| value.min(limit)..=value.max(limit));
        let lines = image.samples.chunks_exact(columns as usize).skip(y as usize).take(height as usize);
        for (row, line) in lines.enumerate() {
            let line = &line[x as usize..(x + width) as usize];
            let start = row / side * per_row;
            let blocks = self.sums[start..start + per_row].iter_mut();
            let blocks = blocks.zip(&mut self.counts[start..start + per_row]);
            for ((sum, count), pixels) in blocks.zip(line.chunks_exact(side)) {
                for &pixel in pixels {
                    let value = value(pixel, image.is_signed);
                    if !padding.as_ref().is_some_and(|padding| padding.contains(&value)) {
                        *sum += value;
                        *count += 1;
                    }
                }
            }
        }
        Ok(())
    }

    /// The means, rounded to the nearest integer; a half is rounded up.
    pub fn finish(self) -> Image {
        let padding = self.padding.map_or(0, |[value, _]| value);
        let mean = |(sum, count): (i64, u32)| match i64::from(count) {
            0 => padding as i32,
            1 => sum as i32,
            count => (2 * sum + count).div_euclid(2 * count) as i32,
        };
        let (rows, columns) = (self.area.height / self.side, self.area.width / self.side);
        Image {
            shape: Shape { rows, columns, samples: 1 },
            precision: self.precision,
            is_signed: self.is_signed.unwrap_or(false),
            samples: self.sums.into_iter().zip(self.counts).map(mean).collect(),
        }
    }
}

/// The value of a sample: unsigned values of 32 bits are kept by their bits.
fn value(sample: i32, is_signed: bool) -> i64 {
    if is_signed { sample.into() } else { (sample as u32).into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(rows: u32, columns: u32, is_signed: bool, sample: impl Fn(u32, u32) -> i32) -> Image {
        let samples = (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column)));
        let samples = samples.map(|(row, column)| sample(row, column)).collect();
        Image { shape: Shape { rows, columns, samples: 1 }, precision: 12, is_signed, samples }
    }

    fn of(frames: &[Image], area: PixelBox, side: u32, padding: Option<[i64; 2]>) -> Image {
        let mut mean = BlockMean::new(area, side, padding);
        frames.iter().for_each(|frame| mean.add(frame).unwrap());
        mean.finish()
    }

    #[test]
    fn means_are_those_of_a_plain_reference() {
        let area = PixelBox { x: 3, y: 2, width: 10, height: 9 };
        for (side, is_signed) in [(1, false), (2, false), (4, false), (1, true), (2, true), (4, true)] {
            let lowest = if is_signed { 2000 } else { 0 };
            let frame = |depth: u32| {
                image(13, 17, is_signed, |row, column| {
                    ((row * 911 + column * 577 + depth * 313) % 4096) as i32 - lowest
                })
            };
            let frames: Vec<Image> = (0..side).map(frame).collect();
            let found = of(&frames, area, side, None);
            assert_eq!((found.shape.rows, found.shape.columns), (9 / side, 10 / side));
            for row in 0..found.shape.rows {
                for column in 0..found.shape.columns {
                    let mut all = Vec::new();
                    for frame in &frames {
                        for down in 0..side {
                            for right in 0..side {
                                let place = (2 + row * side + down) * 17 + 3 + column * side + right;
                                all.push(f64::from(frame.samples[place as usize]));
                            }
                        }
                    }
                    let mean = all.iter().sum::<f64>() / all.len() as f64;
                    let sample = found.samples[(row * found.shape.columns + column) as usize];
                    assert_eq!(f64::from(sample), (mean + 0.5).floor(), "{side} {is_signed} {row} {column}");
                }
            }
        }
    }

    #[test]
    fn padding_counts_for_no_mean() {
        let whole = PixelBox { x: 0, y: 0, width: 4, height: 2 };
        let frame = image(2, 4, true, |row, column| match (row, column) {
            (_, 2..) => -2000,
            (0, 0) => -2000,
            _ => 10,
        });
        assert_eq!(of(&[frame.clone(), frame.clone()], whole, 2, Some([-2000, -2000])).samples, [10, -2000]);
        let range = Some([-1990, -2000]);
        assert_eq!(of(&[frame.clone(), frame.clone()], whole, 2, range).samples, [10, -1990]);
        assert_eq!(of(std::slice::from_ref(&frame), whole, 1, range).samples, frame.samples);
        assert_eq!(of(&[frame.clone(), frame], whole, 2, None).samples, [-492, -2000]);
    }

    #[test]
    fn large_unsigned_values_are_no_negative_ones() {
        let whole = PixelBox { x: 0, y: 0, width: 2, height: 2 };
        let frame = image(2, 2, false, |_, column| if column == 0 { -1 } else { -3 });
        assert_eq!(of(&[frame.clone(), frame], whole, 2, None).samples, [-2]);
    }

    #[test]
    fn frames_that_do_not_go_together_are_refused() {
        let area = PixelBox { x: 0, y: 0, width: 4, height: 4 };
        let mut mean = BlockMean::new(area, 1, None);
        mean.add(&image(4, 4, true, |_, _| 0)).unwrap();
        assert!(mean.add(&image(4, 4, false, |_, _| 0)).is_err());
        assert!(mean.add(&image(4, 3, true, |_, _| 0)).is_err());
        let mut colour = image(4, 4, true, |_, _| 0);
        colour.shape.samples = 3;
        assert!(mean.add(&colour).is_err());
        for (x, width, expected) in [(0, 4, true), (1, 4, false), (4, 0, false), (u32::MAX, 1, false)] {
            assert_eq!(PixelBox { x, y: 0, width, height: 1 }.is_within(4, 4), expected, "{x} {width}");
        }
    }
}
