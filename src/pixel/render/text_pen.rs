//! Writes text on an image: white with a black rim, in pixel fonts that are readable at small sizes.

use embedded_graphics::geometry::{OriginDimensions, Point};
use embedded_graphics::image::GetPixel;
use embedded_graphics::mono_font::{MonoFont, iso_8859_1, iso_8859_2, iso_8859_5, iso_8859_7};
use embedded_graphics::pixelcolor::BinaryColor;
use unicode_normalization::UnicodeNormalization;

use crate::pixel::render::Canvas;

/// The fonts of one size: western, central European, Cyrillic, Greek.
type Fonts = [&'static MonoFont<'static>; 4];

const TINY: Fonts =
    [&iso_8859_1::FONT_5X8, &iso_8859_2::FONT_5X8, &iso_8859_5::FONT_5X8, &iso_8859_7::FONT_5X8];
const SMALL: Fonts =
    [&iso_8859_1::FONT_6X10, &iso_8859_2::FONT_6X10, &iso_8859_5::FONT_6X10, &iso_8859_7::FONT_6X10];
const MIDDLE: Fonts =
    [&iso_8859_1::FONT_7X13, &iso_8859_2::FONT_7X13, &iso_8859_5::FONT_7X13, &iso_8859_7::FONT_7X13];
const LARGE: Fonts =
    [&iso_8859_1::FONT_10X20, &iso_8859_2::FONT_10X20, &iso_8859_5::FONT_10X20, &iso_8859_7::FONT_10X20];

/// The shorter side of an image from which the largest font is used. The font is scaled by the multiples of
/// this side.
const LARGE_SIDE: u32 = 800;

/// The size of text for an image.
#[derive(Debug, Clone, Copy)]
pub struct Pen {
    fonts: Fonts,
    /// Pixels of the image for each pixel of the font, in both directions.
    scale: i64,
}

impl Pen {
    /// A pen for images of the size of this canvas.
    pub fn of(canvas: &Canvas) -> Self {
        let side = canvas.width.min(canvas.height);
        let fonts = match side {
            0..160 => TINY,
            160..400 => SMALL,
            400..LARGE_SIDE => MIDDLE,
            _ => LARGE,
        };
        Self { fonts, scale: i64::from(side / LARGE_SIDE).max(1) }
    }

    /// The height of a line, in pixels.
    pub fn line_height(&self) -> i64 {
        i64::from(self.fonts[0].character_size.height + 1) * self.scale
    }

    /// The width of a text, in pixels.
    pub fn width(&self, text: &str) -> i64 {
        written(text).count() as i64 * self.advance()
    }

    fn advance(&self) -> i64 {
        i64::from(self.fonts[0].character_size.width) * self.scale
    }

    /// Writes a line whose upper left corner is at `left`, `top`. Parts outside of the image are left out.
    pub fn write(&self, canvas: &mut Canvas, left: i64, top: i64, text: &str) {
        if top >= canvas.height.into() {
            return;
        }
        let end = i64::from(canvas.width);
        let places = (0..).map(|place| left.saturating_add(place * self.advance()));
        let letters = places.zip(written(text)).take_while(|(left, _)| *left < end);
        let dots: Vec<_> = letters.flat_map(|(left, letter)| self.dots(left, top, letter)).collect();
        // The rims first: a letter's must not cover the next letter.
        let rim = 1.max(self.scale / 2);
        for &[x, y] in &dots {
            canvas.fill_square([x - rim, y - rim], self.scale + 2 * rim, 0);
        }
        for &dot in &dots {
            canvas.fill_square(dot, self.scale, 255);
        }
    }

    /// The upper left corners of the pixels of a letter.
    fn dots(&self, left: i64, top: i64, letter: char) -> Vec<[i64; 2]> {
        let has = |font: &&&MonoFont<'_>| {
            letter == '?' || font.glyph_mapping.index(letter) != font.glyph_mapping.index('?')
        };
        let font = self.fonts.iter().find(has).unwrap_or(&self.fonts[0]);
        let (width, height) = (font.character_size.width as i32, font.character_size.height as i32);
        let glyphs_per_row = (font.image.size().width as i32 / width).max(1);
        let glyph = font.glyph_mapping.index(letter) as i32;
        let (column, row) = (glyph % glyphs_per_row * width, glyph / glyphs_per_row * height);
        let places = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
        let is_on =
            |&(x, y): &(i32, i32)| font.image.pixel(Point::new(column + x, row + y)) == Some(BinaryColor::On);
        let corner =
            |(x, y)| [left + i64::from(x) * self.scale, top.saturating_add(i64::from(y) * self.scale)];
        places.filter(is_on).map(corner).collect()
    }
}

/// The letters of a text that the fonts have: a letter with an accent that none has stands without it.
fn written(text: &str) -> impl Iterator<Item = char> {
    let has = |letter: char| {
        MIDDLE.iter().any(|font| font.glyph_mapping.index(letter) != font.glyph_mapping.index('?'))
    };
    let plain = move |letter: char| {
        let base = [letter].into_iter().nfd().next().unwrap_or(letter);
        if has(letter) {
            letter
        } else if has(base) {
            base
        } else {
            '?'
        }
    };
    text.nfc().filter(|letter| !letter.is_control()).map(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn black(width: u32, height: u32) -> Canvas {
        Canvas { width, height, pixels: vec![0; (width * height) as usize] }
    }

    fn drawn(text: &str) -> Vec<u8> {
        let mut canvas = black(200, 30);
        Pen::of(&canvas).write(&mut canvas, 2, 2, text);
        canvas.pixels
    }

    #[test]
    fn letters_of_several_scripts_differ_and_unknown_ones_are_marked() {
        let texts = ["Muller", "Müller", "Łuller", "Жuller", "Ωuller", "?uller"];
        for (place, text) in texts.iter().enumerate() {
            assert!(texts[..place].iter().all(|other| drawn(other) != drawn(text)), "{text}");
        }
        assert_eq!(drawn("山"), drawn("?"));
        assert_eq!(drawn("M\u{fc}ller"), drawn("Mu\u{308}ller"));
        assert_eq!(drawn("\u{1e3f}"), drawn("m"));
        assert_eq!(drawn("a\n\u{7}b"), drawn("ab"));
    }

    #[test]
    fn what_is_outside_is_left_out() {
        for (left, top) in [(-3, -3), (195, 25), (i64::MAX, 0), (i64::MIN / 2, i64::MIN / 2), (0, i64::MAX)] {
            let mut canvas = black(200, 30);
            Pen::of(&canvas).write(&mut canvas, left, top, "Wm");
            assert_eq!(canvas.pixels.len(), 6000);
        }
    }

    #[test]
    fn letters_have_a_rim_that_shows_on_white() {
        let mut canvas = Canvas { pixels: vec![255; 6000 * 3], ..black(200, 30) };
        Pen::of(&canvas).write(&mut canvas, 5, 5, "I");
        assert!(canvas.pixels.contains(&0));
    }
}
