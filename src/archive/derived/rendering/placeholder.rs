//! The placeholder: the thumbnail where nothing can be rendered. A dark image with the modality on it is "a
//! meaningful representation" of a report, a document or a video too (PS3.18 §10.4.3.3.4).

use std::iter::repeat_n;

use crate::pixel::render::Canvas;
use crate::pixel::render::text_pen::Pen;

/// The shorter side of a placeholder before it is enlarged, in pixels.
const SIDE: u32 = 64;
const GROUND: u8 = 40;

/// A placeholder no larger than `width` × `height` with a word in its middle.
pub(super) fn sheet(word: &str, [width, height]: [u32; 2]) -> Canvas {
    let times = (width.min(height) / SIDE).max(1);
    let [width, height] = [width, height].map(|side| (side / times).max(1));
    let mut small = Canvas { width, height, pixels: vec![GROUND; width as usize * height as usize] };
    let pen = Pen::of(&small);
    let left = (i64::from(width) - pen.width(word)) / 2;
    let top = (i64::from(height) - pen.line_height()) / 2;
    pen.write(&mut small, left, top, word);
    enlarged(&small, times)
}

/// Enlarges a grey image: each pixel becomes a square.
fn enlarged(canvas: &Canvas, times: u32) -> Canvas {
    let rows = canvas.pixels.chunks_exact(canvas.width as usize);
    let wide = rows.map(|row| row.iter().flat_map(|&grey| repeat_n(grey, times as usize)).collect());
    let pixels = wide.flat_map(|row: Vec<u8>| repeat_n(row, times as usize)).flatten().collect();
    Canvas { width: canvas.width * times, height: canvas.height * times, pixels }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sheet_has_its_word_in_the_middle() {
        let Canvas { width, height, pixels } = sheet("SR", [256, 200]);
        assert_eq!((width, height), (255, 198));
        let bright = |x: u32, y: u32| pixels[(y * width + x) as usize] == 255;
        let letters: Vec<(u32, u32)> = (0..height)
            .flat_map(|y| (0..width).map(move |x| (x, y)))
            .filter(|&(x, y)| bright(x, y))
            .collect();
        assert!(!letters.is_empty());
        assert!(letters.iter().all(|&(x, y)| (100..155).contains(&x) && (80..120).contains(&y)));
    }

    #[test]
    fn a_sheet_may_be_as_small_as_a_pixel() {
        assert_eq!(sheet("RTSTRUCT", [1, 1]).pixels.len(), 1);
    }
}
