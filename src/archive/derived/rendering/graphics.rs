//! The graphics and texts of presentation states (PS3.3 §C.10.5).

use serde::Deserialize;

use crate::archive::derived::rendering::image_reference::References;
use crate::dicom::json_values::{JsonSequence, JsonValues};
use crate::pixel::render::Canvas;
use crate::pixel::render::lines::{Point, cross, draw, ellipse};
use crate::pixel::render::text_pen::Pen;

/// An item of the Graphic Annotation Sequence.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Annotated {
    #[serde(rename = "00081140", default)]
    pub(super) images: References,
    #[serde(rename = "00700008", default)]
    texts: JsonSequence<TextObject>,
    #[serde(rename = "00700009", default)]
    graphics: JsonSequence<GraphicObject>,
}

#[derive(Debug, Default, Deserialize)]
struct TextObject {
    #[serde(rename = "00700006", default)]
    text: JsonValues,
    #[serde(rename = "00700003", default)]
    box_units: JsonValues,
    #[serde(rename = "00700010", default)]
    box_top_left: JsonValues,
    #[serde(rename = "00700004", default)]
    anchor_units: JsonValues,
    #[serde(rename = "00700014", default)]
    anchor: JsonValues,
    #[serde(rename = "00700015", default)]
    anchor_visibility: JsonValues,
}

#[derive(Debug, Default, Deserialize)]
struct GraphicObject {
    #[serde(rename = "00700005", default)]
    units: JsonValues,
    #[serde(rename = "00700022", default)]
    points: JsonValues,
    #[serde(rename = "00700023", default)]
    kind: JsonValues,
}

/// The place of the image in the rendered image.
pub(super) struct Placement {
    /// Left, top, width and height of the part of the image that is shown.
    pub(super) region: [f64; 4],
    /// The size that the part was scaled to, before the rotation.
    pub(super) size: [u32; 2],
    /// Quarter turns clockwise.
    pub(super) quarters: u32,
    /// Whether the image was flipped horizontally after the rotation.
    pub(super) is_flipped: bool,
}

impl Placement {
    /// The place in the rendered image of a pixel position of the image.
    fn of_pixel(&self, [x, y]: Point) -> Point {
        let [left, top, width, height] = self.region;
        let [across, down] = self.size.map(f64::from);
        let (x, y) = ((x - left) / width * across, (y - top) / height * down);
        let [x, y] = match self.quarters {
            1 => [down - y, x],
            2 => [across - x, down - y],
            3 => [y, across - x],
            _ => [x, y],
        };
        let turned_width = if self.quarters % 2 == 1 { down } else { across };
        if self.is_flipped { [turned_width - x, y] } else { [x, y] }
    }

    /// The place in the rendered image of a position in `units`: pixels of the image, or fractions of the
    /// displayed area.
    fn of(&self, units: &JsonValues, place: Point, canvas: &Canvas) -> Point {
        match units.text() {
            Some("DISPLAY") => [place[0] * f64::from(canvas.width), place[1] * f64::from(canvas.height)],
            _ => self.of_pixel(place),
        }
    }
}

impl Annotated {
    /// Renders the graphics and texts, with lines of no more than `room` pixels in all.
    pub(super) fn draw(&self, canvas: &mut Canvas, placement: &Placement, room: &mut usize) {
        for graphic in &self.graphics.items {
            let lines = graphic.lines(canvas, placement);
            draw(canvas, &lines, room);
        }
        for text in &self.texts.items {
            text.draw(canvas, placement, room);
        }
    }
}

impl GraphicObject {
    /// The lines of the graphic in the rendered image. Curves are approximated by straight lines from point
    /// to point.
    fn lines(&self, canvas: &Canvas, placement: &Placement) -> Vec<Vec<Point>> {
        let numbers = self.points.all_numbers();
        let points = numbers.as_chunks::<2>().0;
        let placed = |points: &[Point]| -> Vec<Point> {
            points.iter().map(|&point| placement.of(&self.units, point, canvas)).collect()
        };
        match (self.kind.text(), points) {
            (Some("POINT"), points) => {
                placed(points).into_iter().flat_map(|point| cross(canvas, point)).collect()
            }
            (Some("CIRCLE"), &[center, edge, ..]) => {
                let radius = (edge[0] - center[0]).hypot(edge[1] - center[1]);
                let around =
                    ellipse(center, [center[0] + radius, center[1]], [center[0], center[1] + radius]);
                vec![placed(&around)]
            }
            (Some("ELLIPSE"), &[first, last, upper, _, ..]) => {
                let center = [(first[0] + last[0]) / 2.0, (first[1] + last[1]) / 2.0];
                vec![placed(&ellipse(center, first, upper))]
            }
            (Some("POLYLINE" | "INTERPOLATED"), points) => vec![placed(points)],
            _ => Vec::new(),
        }
    }
}

impl TextObject {
    fn draw(&self, canvas: &mut Canvas, placement: &Placement, room: &mut usize) {
        let Some(text) = self.text.text() else { return };
        let place = |units, values: &JsonValues| Some(placement.of(units, values.numbers()?, canvas));
        let corner = place(&self.box_units, &self.box_top_left);
        let anchor = place(&self.anchor_units, &self.anchor);
        let Some([left, top]) = corner.or(anchor) else { return };
        if let (Some(corner), Some(anchor), Some("Y")) = (corner, anchor, self.anchor_visibility.text()) {
            draw(canvas, &[vec![corner, anchor]], room);
        }
        let pen = Pen::of(canvas);
        for (line, number) in text.lines().zip(0..) {
            pen.write(canvas, left as i64, (top as i64).saturating_add(number * pen.line_height()), line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_follow_the_turns_and_the_flip() {
        // The left half of an image of 20 × 10 pixels, twice as large.
        let placed = |quarters, is_flipped, point| {
            let size = [20, 20];
            Placement { region: [0.0, 0.0, 10.0, 10.0], size, quarters, is_flipped }.of_pixel(point)
        };
        for (quarters, is_flipped, expected) in [
            (0, false, [2.0, 6.0]),
            (0, true, [18.0, 6.0]),
            (1, false, [14.0, 2.0]),
            (1, true, [6.0, 2.0]),
            (2, false, [18.0, 14.0]),
            (3, false, [6.0, 18.0]),
        ] {
            assert_eq!(placed(quarters, is_flipped, [1.0, 3.0]), expected, "{quarters} {is_flipped}");
        }
    }
}
