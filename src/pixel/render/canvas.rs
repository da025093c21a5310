//! The pixels of a rendered image, of 8 bits.

/// The pixels of a rendered image, grey or in colour.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Canvas {
    /// Pixels from left to right.
    pub width: u32,
    /// Pixels from top to bottom.
    pub height: u32,
    /// width × height bytes of grey, or three times as many of red, green and blue, by row.
    pub pixels: Vec<u8>,
}

impl Canvas {
    /// Bytes of a pixel: 1 or 3.
    pub fn samples(&self) -> usize {
        let count = self.width as usize * self.height as usize;
        if self.pixels.len() > count { 3 } else { 1 }
    }

    /// The canvas in red, green and blue.
    pub fn into_rgb(mut self) -> Self {
        if self.samples() == 1 {
            self.pixels = self.pixels.iter().flat_map(|&grey| [grey; 3]).collect();
        }
        self
    }

    /// Mirrors left and right.
    pub fn flip_horizontally(&mut self) {
        let samples = self.samples();
        for row in self.pixels.chunks_exact_mut(self.width as usize * samples) {
            row.reverse();
            if samples == 3 {
                row.as_chunks_mut::<3>().0.iter_mut().for_each(|pixel| pixel.reverse());
            }
        }
    }

    /// Mirrors top and bottom.
    pub fn flip_vertically(&mut self) {
        let bytes = self.width as usize * self.samples();
        let half = self.height as usize / 2 * bytes;
        let (upper, lower) = self.pixels.split_at_mut(half);
        for (upper, lower) in upper.chunks_exact_mut(bytes).zip(lower.rchunks_exact_mut(bytes)) {
            upper.swap_with_slice(lower);
        }
    }

    /// Turns by 90° clockwise.
    pub fn turn_clockwise(&mut self) {
        let samples = self.samples();
        let (width, height) = (self.width as usize, self.height as usize);
        let mut turned = Vec::with_capacity(self.pixels.len());
        for column in 0..width {
            for row in (0..height).rev() {
                let at = (row * width + column) * samples;
                turned.extend_from_slice(&self.pixels[at..at + samples]);
            }
        }
        (self.width, self.height) = (self.height, self.width);
        self.pixels = turned;
    }

    /// Fills the part of a square that is in the image with grey.
    pub(super) fn fill_square(&mut self, [left, top]: [i64; 2], side: i64, grey: u8) {
        let samples = self.samples();
        let (width, height) = (i64::from(self.width), i64::from(self.height));
        let (from, to) = (left.clamp(0, width), left.saturating_add(side).clamp(0, width));
        for row in top.clamp(0, height)..top.saturating_add(side).clamp(0, height) {
            let bytes = (row * width + from) as usize * samples..(row * width + to) as usize * samples;
            self.pixels[bytes].fill(grey);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canvas(width: u32, height: u32, pixels: &[u8]) -> Canvas {
        Canvas { width, height, pixels: pixels.to_vec() }
    }

    #[test]
    fn pixels_are_mirrored_and_turned_whole() {
        let grey = canvas(3, 2, &[1, 2, 3, 4, 5, 6]);
        let colour = canvas(2, 2, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
        type Change = fn(&mut Canvas);
        let changes: [(Change, Canvas, Canvas); 3] = [
            (
                Canvas::flip_horizontally,
                canvas(3, 2, &[3, 2, 1, 6, 5, 4]),
                canvas(2, 2, &[4, 5, 6, 1, 2, 3, 10, 11, 12, 7, 8, 9]),
            ),
            (
                Canvas::flip_vertically,
                canvas(3, 2, &[4, 5, 6, 1, 2, 3]),
                canvas(2, 2, &[7, 8, 9, 10, 11, 12, 1, 2, 3, 4, 5, 6]),
            ),
            (
                Canvas::turn_clockwise,
                canvas(2, 3, &[4, 1, 5, 2, 6, 3]),
                canvas(2, 2, &[7, 8, 9, 1, 2, 3, 10, 11, 12, 4, 5, 6]),
            ),
        ];
        for (change, grey_changed, colour_changed) in changes {
            let (mut grey, mut colour) = (grey.clone(), colour.clone());
            change(&mut grey);
            change(&mut colour);
            assert_eq!((grey, colour), (grey_changed, colour_changed));
        }
    }

    #[test]
    fn the_middle_row_of_an_odd_number_stays() {
        let mut grey = canvas(1, 3, &[1, 2, 3]);
        grey.flip_vertically();
        assert_eq!(grey.pixels, [3, 2, 1]);
    }
}
