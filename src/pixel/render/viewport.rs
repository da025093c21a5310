//! Viewport scaling: a region of the image, as large as fits into an area (PS3.18 §8.3.5.1.3).

use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};

use crate::pixel::render::{Canvas, Error};

/// A region of the image and the size of the area to show it in (PS3.18 §8.3.5.1.3), in pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Viewport {
    /// Width of the area: the rendered image is as large as fits without distortion.
    pub width: u32,
    /// Height of the area.
    pub height: u32,
    /// Left and top edge of the region, from 0; what counts is the absolute value.
    pub left_top: [f64; 2],
    /// Width and height of the region; up to the image's edge if not given; negative to flip.
    pub size: [Option<f64>; 2],
}

impl Viewport {
    /// All of the image, in an area.
    pub fn area(width: u32, height: u32) -> Self {
        Self { width, height, left_top: [0.0; 2], size: [None; 2] }
    }

    /// Whether the viewport shows a region, and not all of the image.
    pub fn has_region(&self) -> bool {
        self.left_top != [0.0; 2] || self.size != [None; 2]
    }

    /// The size of the rendered image, for an image of so many pixels from left to right and from top to
    /// bottom: one side is the area's, the other no larger than it.
    ///
    /// # Errors
    /// [`Error::OutsideOfImage`] if the region has nothing of the image.
    pub fn picture_size(&self, image: [u32; 2]) -> Result<[u32; 2], Error> {
        let [_, _, width, height] = self.region(image)?;
        let scale = (f64::from(self.width) / width).min(f64::from(self.height) / height);
        let side = |length: f64, most: u32| ((length * scale).round() as u32).clamp(1, most.max(1));
        Ok([side(width, self.width), side(height, self.height)])
    }

    /// Left, top, width and height of the part of the region that the image has.
    ///
    /// # Errors
    /// As [`Viewport::picture_size`].
    pub fn region(&self, image: [u32; 2]) -> Result<[f64; 4], Error> {
        let side = |axis: usize| {
            let (start, whole) = (self.left_top[axis].abs(), f64::from(image[axis]));
            let end = self.size[axis].map_or(whole, |length| (start + length.abs()).min(whole));
            (end > start).then_some((start, end - start)).ok_or(Error::OutsideOfImage)
        };
        let ((left, width), (top, height)) = (side(0)?, side(1)?);
        Ok([left, top, width, height])
    }

    fn flips(&self) -> [bool; 2] {
        self.size.map(|length| length.is_some_and(|length| length < 0.0))
    }
}

/// Crops, scales and flips. Values between pixels are interpolated linearly, and averaged where pixels become
/// fewer.
///
/// # Errors
/// [`Error::OutsideOfImage`] if the region has nothing of the image.
pub fn apply(canvas: Canvas, viewport: &Viewport) -> Result<Canvas, Error> {
    let image = [canvas.width, canvas.height];
    let [width, height] = viewport.picture_size(image)?;
    let [left, top, region_width, region_height] = viewport.region(image)?;
    let is_whole = [left, top, region_width, region_height]
        == [0.0, 0.0, f64::from(canvas.width), f64::from(canvas.height)];
    let mut shown = if is_whole && [width, height] == image {
        canvas
    } else {
        // The region is cropped before it is scaled: pixels outside of it do not show at its edges.
        let (corner, canvas) = cropped(canvas, [left, top, left + region_width, top + region_height]);
        let [left, top] = [left - corner[0], top - corner[1]];
        let region = ResizeOptions::new().crop(left, top, region_width, region_height);
        scale(&canvas, [width, height], region)?
    };
    let [horizontally, vertically] = viewport.flips();
    if horizontally {
        shown.flip_horizontally();
    }
    if vertically {
        shown.flip_vertically();
    }
    Ok(shown)
}

/// The pixels that are at least in part between left, top, right and bottom, and the left top corner of the
/// first.
fn cropped(canvas: Canvas, [left, top, right, bottom]: [f64; 4]) -> ([f64; 2], Canvas) {
    let (left, top) = (left.floor(), top.floor());
    let end = |edge: f64, whole: u32| (edge.ceil() as u32).min(whole);
    let (columns, rows) =
        (left as u32..end(right, canvas.width), top as usize..end(bottom, canvas.height) as usize);
    if columns.len() == canvas.width as usize && rows.len() == canvas.height as usize {
        return ([0.0; 2], canvas);
    }
    let (samples, stride) = (canvas.samples(), canvas.width as usize * canvas.samples());
    let in_row = columns.start as usize * samples..columns.end as usize * samples;
    let (width, height) = (columns.len() as u32, rows.len() as u32);
    let pixels = canvas.pixels.chunks(stride).skip(rows.start).take(rows.len());
    let pixels = pixels.flat_map(|row| &row[in_row.clone()]).copied().collect();
    ([left, top], Canvas { width, height, pixels })
}

fn scale(canvas: &Canvas, [width, height]: [u32; 2], region: ResizeOptions) -> Result<Canvas, Error> {
    let pixel_type = if canvas.samples() == 3 { PixelType::U8x3 } else { PixelType::U8 };
    let options = region.resize_alg(ResizeAlg::Convolution(FilterType::Bilinear));
    let failed = |reason: String| Error::Codec { format: "scaling", reason };
    let source = ImageRef::new(canvas.width, canvas.height, &canvas.pixels, pixel_type);
    let source = source.map_err(|error| failed(error.to_string()))?;
    let mut scaled = Image::new(width, height, pixel_type);
    let outcome = Resizer::new().resize(&source, &mut scaled, &options);
    outcome.map_err(|error| failed(error.to_string()))?;
    Ok(Canvas { width, height, pixels: scaled.into_vec() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(width: u32, height: u32) -> Canvas {
        let pixels = (0..width * height).map(|place| place as u8).collect();
        Canvas { width, height, pixels }
    }

    fn region(area: [u32; 2], left_top: [f64; 2], size: [Option<f64>; 2]) -> Viewport {
        Viewport { width: area[0], height: area[1], left_top, size }
    }

    #[test]
    fn a_picture_is_as_large_as_fits() {
        for (area, image, expected) in [
            ([100, 100], [50, 20], [100, 40]),
            ([100, 100], [20, 50], [40, 100]),
            ([100, 10], [500, 500], [10, 10]),
            ([256, 256], [512, 512], [256, 256]),
            ([10, 10], [10_000, 1], [10, 1]),
        ] {
            assert_eq!(Viewport::area(area[0], area[1]).picture_size(image).unwrap(), expected);
        }
    }

    #[test]
    fn a_region_is_cut_out_and_flipped() {
        // 0 1 2 3 / 4 5 6 7 / 8 9 10 11
        for (left_top, size, expected) in [
            ([1.0, 1.0], [Some(2.0), Some(2.0)], vec![5, 6, 9, 10]),
            ([1.0, 1.0], [Some(-2.0), Some(2.0)], vec![6, 5, 10, 9]),
            ([1.0, 1.0], [Some(2.0), Some(-2.0)], vec![9, 10, 5, 6]),
            ([-2.0, 1.0], [None, Some(2.0)], vec![6, 7, 10, 11]),
            ([2.0, 1.0], [Some(99.0), None], vec![6, 7, 10, 11]),
        ] {
            let shown = apply(image(4, 3), &region([2, 2], left_top, size)).unwrap();
            assert_eq!(shown.pixels, expected, "{left_top:?} {size:?}");
        }
    }

    #[test]
    fn pixels_outside_of_the_region_do_not_show_at_its_edges() {
        // A white square of 4 x 4 in 8 x 8, in one sample and in three.
        let is_inside = |place: usize| (2..6).contains(&(place % 8)) && (2..6).contains(&(place / 8));
        for samples in [1, 3] {
            let pixels =
                (0..64).flat_map(|place| vec![if is_inside(place) { 255 } else { 0 }; samples]).collect();
            let canvas = Canvas { width: 8, height: 8, pixels };
            for (side, length) in [(4, 4.0), (2, 4.0), (3, 4.0), (16, 4.0), (7, 3.5), (16, 0.5)] {
                let viewport = region([side; 2], [2.0; 2], [Some(length), Some(-length)]);
                let shown = apply(canvas.clone(), &viewport).unwrap();
                assert_eq!(shown.pixels, vec![255; (side * side) as usize * samples], "{side} {length}");
            }
        }
    }

    #[test]
    fn nothing_of_the_image_is_an_error() {
        for (left_top, size) in [([4.0, 0.0], [None, None]), ([0.0, 0.0], [Some(0.0), None])] {
            let viewport = region([2, 2], left_top, size);
            assert!(matches!(apply(image(4, 3), &viewport), Err(Error::OutsideOfImage)));
        }
    }

    #[test]
    fn fewer_pixels_are_means_and_more_lie_between() {
        let shown = apply(image(4, 4), &Viewport::area(1, 1)).unwrap();
        assert_eq!(shown.pixels, [8]);
        let canvas = Canvas { width: 2, height: 1, pixels: vec![0, 0, 0, 100, 200, 40] };
        let shown = apply(canvas, &Viewport::area(4, 4)).unwrap();
        assert_eq!((shown.width, shown.height), (4, 2));
        assert_eq!(shown.pixels[..12], [0, 0, 0, 25, 50, 10, 75, 150, 30, 100, 200, 40]);
    }
}
