//! Colours: red, green and blue, luminance and chrominance, and palettes (PS3.3 §C.7.6.3.1.2, PS3.4 §N.2.2).

use crate::pixel::Image;
use crate::pixel::decode::{Decoded, to_rgb};
use crate::pixel::render::Error;
use crate::pixel::render::lut::Palette;

/// Red, green and blue of every pixel of three samples.
pub(super) fn rgb(decoded: Decoded) -> Result<Vec<u8>, Error> {
    let Decoded { image, photometric } = to_rgb(decoded);
    match photometric.as_str() {
        "RGB" => Ok(bytes(&image)),
        "YBR_PARTIAL_420" | "YBR_PARTIAL_422" if image.precision == 8 => {
            Ok(image.samples.as_chunks().0.iter().flat_map(|pixel| of_partial(*pixel)).collect())
        }
        _ => Err(Error::Unsupported(format!("{photometric} of {} bits", image.precision))),
    }
}

/// The colours that a palette gives to every sample.
pub(super) fn palette(image: &Image, palette: &Palette) -> Vec<u8> {
    let colour =
        |sample: &i32| palette.each_ref().map(|table| (255.0 * table.level((*sample).into())).round() as u8);
    image.samples.iter().flat_map(colour).collect()
}

/// Samples at 8 bits, whatever they were.
fn bytes(image: &Image) -> Vec<u8> {
    if image.precision == 8 {
        return image.samples.iter().map(|&sample| sample as u8).collect();
    }
    let highest = (1_u64 << image.precision) - 1;
    let byte = |sample: &i32| ((u64::from(*sample as u32) * 255 + highest / 2) / highest) as u8;
    image.samples.iter().map(byte).collect()
}

/// Luminance from 16 to 235 and chrominance from 16 to 240.
fn of_partial(pixel: [i32; 3]) -> [u8; 3] {
    let [y, b, r] = pixel.map(|sample| sample as f32);
    let (y, b, r) = (1.164_384 * (y - 16.0), b - 128.0, r - 128.0);
    let rgb = [y + 1.596_027 * r, y - 0.391_762 * b - 0.812_968 * r, y + 2.017_232 * b];
    rgb.map(|sample| sample.round().clamp(0.0, 255.0) as u8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pixel::Shape;
    use crate::pixel::render::lut::Lut;

    fn decoded(photometric: &str, precision: u32, samples: &[i32]) -> Decoded {
        let shape = Shape { rows: 1, columns: samples.len() as u32 / 3, samples: 3 };
        let image = Image { shape, precision, is_signed: false, samples: samples.to_vec() };
        Decoded { image, photometric: photometric.into() }
    }

    #[test]
    fn colours_are_those_of_their_interpretation() {
        for (photometric, precision, samples, expected) in [
            ("RGB", 8, [1, 2, 255], [1, 2, 255]),
            ("RGB", 16, [0, 0x8080, 0xFFFF], [0, 128, 255]),
            ("RGB", 4, [0, 15, 5], [0, 255, 85]),
            ("YBR_FULL", 8, [76, 85, 255], [254, 0, 0]),
            ("YBR_FULL", 8, [128, 128, 128], [128, 128, 128]),
            ("YBR_PARTIAL_420", 8, [16, 128, 128], [0, 0, 0]),
            ("YBR_PARTIAL_422", 8, [235, 128, 128], [255, 255, 255]),
            ("YBR_PARTIAL_422", 8, [81, 90, 240], [254, 0, 0]),
        ] {
            let found = rgb(decoded(photometric, precision, &samples)).unwrap();
            assert_eq!(found, expected, "{photometric} {samples:?}");
        }
    }

    #[test]
    fn other_colours_are_refused_by_name() {
        let error = rgb(decoded("HSV", 8, &[0, 0, 0])).unwrap_err();
        assert_eq!(error.to_string(), "HSV of 8 bits cannot be rendered");
    }

    #[test]
    fn palettes_start_at_negative_values_too() {
        let table = |entries: &[u8]| Lut::read([3, -1, 8], entries, true).unwrap();
        let shape = Shape { rows: 1, columns: 4, samples: 1 };
        let image = Image { shape, precision: 8, is_signed: true, samples: vec![-2, -1, 0, 5] };
        let colours = palette(&image, &[table(&[1, 2, 3]), table(&[4, 5, 6]), table(&[7, 8, 9])]);
        assert_eq!(colours, [1, 4, 7, 1, 4, 7, 2, 5, 8, 3, 6, 9]);
    }
}
