//! Draws lines over an image: the graphics of presentation states (PS3.3 §C.10.5), white with a black rim.

use std::f64::consts::TAU;

use crate::pixel::render::Canvas;

/// A point: pixels from the left and from the top.
pub type Point = [f64; 2];

/// Sides of the polygon that stands for a circle.
const CIRCLE_SIDES: usize = 90;
/// Half the length of the arms of a cross, in widths of a line.
const ARM: f64 = 4.0;

/// The maximum number of pixels of all lines in an image, which are all in memory at a time.
pub const MAX_DOTS: usize = 1 << 22;

/// Draws lines through points of the image, from its upper left corner on. Parts outside are left out, and
/// so is what goes beyond `room`, the pixels that lines may still take, of at first [`MAX_DOTS`].
pub fn draw(canvas: &mut Canvas, lines: &[Vec<Point>], room: &mut usize) {
    let width = i64::from(canvas.width.min(canvas.height) / 800).max(1);
    let mut dots = Vec::new();
    for pair in lines.iter().flat_map(|line| line.windows(2)) {
        if dots.len() >= *room {
            break;
        }
        if let Some([from, to]) = clipped(canvas, pair[0], pair[1]) {
            dot(from, to, &mut dots);
        }
    }
    *room = room.saturating_sub(dots.len());
    // The rims first: a line's must not cover another line.
    for [x, y] in &dots {
        canvas.fill_square([x - 1, y - 1], width + 2, 0);
    }
    for &place in &dots {
        canvas.fill_square(place, width, 255);
    }
}

/// The lines of a cross at a point, for an image of this size.
pub fn cross(canvas: &Canvas, [x, y]: Point) -> [Vec<Point>; 2] {
    let arm = ARM * f64::from((canvas.width.min(canvas.height) / 800).max(1));
    [vec![[x - arm, y], [x + arm, y]], vec![[x, y - arm], [x, y + arm]]]
}

/// An ellipse around `center`, with the ends of two half axes.
pub fn ellipse(center: Point, first: Point, second: Point) -> Vec<Point> {
    let at = |side: usize| {
        let (sine, cosine) = (TAU * side as f64 / CIRCLE_SIDES as f64).sin_cos();
        [0, 1].map(|axis| {
            center[axis] + cosine * (first[axis] - center[axis]) + sine * (second[axis] - center[axis])
        })
    };
    (0..=CIRCLE_SIDES).map(at).collect()
}

/// The part of a line that is in the image or just beside it.
fn clipped(canvas: &Canvas, from: Point, to: Point) -> Option<[Point; 2]> {
    let (mut start, mut end) = (0.0_f64, 1.0_f64);
    for (axis, side) in [canvas.width, canvas.height].into_iter().enumerate() {
        let length = to[axis] - from[axis];
        if !length.is_finite() {
            return None;
        }
        let (low, high) = (-2.0, f64::from(side) + 2.0);
        if length == 0.0 {
            if !(low..=high).contains(&from[axis]) {
                return None;
            }
            continue;
        }
        let (first, second) = ((low - from[axis]) / length, (high - from[axis]) / length);
        start = start.max(first.min(second));
        end = end.min(first.max(second));
    }
    let at = |part: f64| [0, 1].map(|axis| from[axis] + part * (to[axis] - from[axis]));
    (start <= end).then(|| [at(start), at(end)])
}

/// Appends the pixels of a line.
fn dot(from: Point, to: Point, dots: &mut Vec<[i64; 2]>) {
    let lengths = [to[0] - from[0], to[1] - from[1]];
    let steps = lengths[0].abs().max(lengths[1].abs()).ceil().max(1.0);
    for step in 0..=steps as u32 {
        let part = f64::from(step) / steps;
        dots.push([0, 1].map(|axis| (from[axis] + part * lengths[axis]).floor() as i64));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(lines: &[Vec<Point>]) -> Canvas {
        let mut canvas = Canvas { width: 9, height: 5, pixels: vec![100; 45] };
        let mut room = MAX_DOTS;
        draw(&mut canvas, lines, &mut room);
        canvas
    }

    #[test]
    fn a_line_is_white_with_a_black_rim() {
        let canvas = drawn(&[vec![[2.5, 2.5], [6.5, 2.5]]]);
        let rows: Vec<&[u8]> = canvas.pixels.chunks(9).collect();
        let rim = [100, 0, 0, 0, 0, 0, 0, 0, 100];
        assert_eq!(rows[1], rim);
        assert_eq!(rows[2], [100, 0, 255, 255, 255, 255, 255, 0, 100]);
        assert_eq!(rows[3], rim);
        assert_eq!(rows[0], [100; 9]);
    }

    #[test]
    fn what_is_outside_is_left_out_however_far() {
        for line in [
            vec![[-9.0, -9.0], [-5.0, 3.0]],
            vec![[1e300, 2.0], [1e308, 2.0]],
            vec![[f64::NAN, 0.0], [3.0, 3.0]],
            vec![[f64::NEG_INFINITY, 0.0], [f64::INFINITY, 3.0]],
            vec![[3.0, 3.0]],
            vec![],
        ] {
            assert_eq!(drawn(std::slice::from_ref(&line)).pixels, [100; 45], "{line:?}");
        }
        let through = drawn(&[vec![[-1e9, 2.0], [1e9, 2.0]]]);
        assert_eq!(through.pixels[18..27], [255; 9]);
    }

    #[test]
    fn lines_without_end_find_one() {
        let zigzag: Vec<Point> = (0..2_000_000).map(|place| [f64::from(place % 2) * 8.0, 2.0]).collect();
        let mut room = MAX_DOTS;
        let mut canvas = Canvas { width: 9, height: 5, pixels: vec![100; 45] };
        draw(&mut canvas, &[zigzag], &mut room);
        assert_eq!((room, canvas.pixels[18]), (0, 255));
        draw(&mut canvas, &[vec![[0.0, 4.0], [8.0, 4.0]]], &mut room);
        assert_eq!(canvas.pixels[36], 100);
    }

    #[test]
    fn an_ellipse_goes_through_the_ends_of_its_axes() {
        let around = ellipse([10.0, 20.0], [15.0, 20.0], [10.0, 22.0]);
        for end in [[15.0, 20.0], [5.0, 20.0]] {
            let is_near = |place: &Point| (place[0] - end[0]).hypot(place[1] - end[1]) < 1e-9;
            assert!(around.iter().any(is_near), "{end:?}");
        }
        assert_eq!(around.len(), CIRCLE_SIDES + 1);
    }
}
