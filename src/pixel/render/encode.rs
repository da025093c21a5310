//! Encodes rendered images as JPEG, PNG and GIF (PS3.18 §8.7.4).

use std::time::Duration;

use gif::{Frame, Repeat};
use jpeg_encoder::ColorType;

use crate::pixel::render::{Canvas, Error};

/// The speed at which 256 colours are chosen, from 1 (best) to 30.
const QUANTISING_SPEED: i32 = 10;

/// The format of a rendered image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// `image/jpeg`, baseline, 8 bits.
    Jpeg,
    /// `image/png`, 8 bits.
    Png,
    /// `image/gif`; several frames are animated.
    Gif,
}

impl Format {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Jpeg => "JPEG",
            Self::Png => "PNG",
            Self::Gif => "GIF",
        }
    }
}

/// Encodes a rendered image. `quality`, 1 to 100, is that of JPEG; `profile` is an ICC profile of its
/// colours.
///
/// # Errors
/// [`Error::TooLarge`] if the format has no such sizes; [`Error::Unsupported`] for a profile in GIF.
pub fn encode(
    canvas: &Canvas,
    format: Format,
    quality: u8,
    profile: Option<&[u8]>,
) -> Result<Vec<u8>, Error> {
    match format {
        Format::Jpeg => jpeg(canvas, quality, profile),
        Format::Png => png(canvas, profile),
        Format::Gif if profile.is_some() => Err(Error::Unsupported("a colour profile in GIF".into())),
        Format::Gif => {
            let mut animation = Animation::new();
            animation.append(canvas, Duration::ZERO)?;
            animation.finish()
        }
    }
}

fn jpeg(canvas: &Canvas, quality: u8, profile: Option<&[u8]>) -> Result<Vec<u8>, Error> {
    let [width, height] = small_sides(canvas, Format::Jpeg)?;
    let mut bytes = Vec::with_capacity(canvas.pixels.len() / 4);
    let failed = |error: jpeg_encoder::EncodingError| codec(Format::Jpeg, error.to_string());
    let mut encoder = jpeg_encoder::Encoder::new(&mut bytes, quality.clamp(1, 100));
    if let Some(profile) = profile {
        encoder.add_icc_profile(profile).map_err(failed)?;
    }
    let colours = if canvas.samples() == 3 { ColorType::Rgb } else { ColorType::Luma };
    encoder.encode(&canvas.pixels, width, height, colours).map_err(failed)?;
    Ok(bytes)
}

fn png(canvas: &Canvas, profile: Option<&[u8]>) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::with_capacity(canvas.pixels.len() / 2);
    let failed = |error: png::EncodingError| codec(Format::Png, error.to_string());
    let mut info = png::Info::with_size(canvas.width, canvas.height);
    info.color_type = if canvas.samples() == 3 { png::ColorType::Rgb } else { png::ColorType::Grayscale };
    info.icc_profile = profile.map(Into::into);
    let mut encoder = png::Encoder::with_info(&mut bytes, info).map_err(failed)?;
    encoder.set_compression(png::Compression::Fast);
    let mut writer = encoder.write_header().map_err(failed)?;
    writer.write_image_data(&canvas.pixels).map_err(failed)?;
    writer.finish().map_err(failed)?;
    Ok(bytes)
}

/// The encoder of an animated GIF, which repeats for ever.
#[derive(Default)]
pub struct Animation {
    /// The encoder and the size of the frames, after the first frame.
    begun: Option<(gif::Encoder<Vec<u8>>, [u16; 2])>,
}

impl Animation {
    /// An animation without frames.
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes so far.
    pub fn length(&self) -> usize {
        self.begun.as_ref().map_or(0, |(encoder, _)| encoder.get_ref().len())
    }

    /// Appends a frame of the size of the first, to be seen for `time`, in hundredths of a second; of no
    /// time, if it is alone. Of more than 256 colours, those near to each other become one.
    ///
    /// # Errors
    /// [`Error::TooLarge`] if the format has no such sizes, [`Error::Unsupported`] if it is not of the
    /// first's size.
    pub fn append(&mut self, canvas: &Canvas, time: Duration) -> Result<(), Error> {
        let size = small_sides(canvas, Format::Gif)?;
        let (encoder, first_size) = match &mut self.begun {
            Some(begun) => begun,
            begun => begun.insert((Self::begin(size, !time.is_zero()).map_err(failed)?, size)),
        };
        if *first_size != size {
            return Err(Error::Unsupported("an animation of frames of several sizes".into()));
        }
        let [width, height] = size;
        let mut frame = if canvas.samples() == 3 {
            Frame::from_rgb_speed(width, height, &canvas.pixels, QUANTISING_SPEED)
        } else {
            Frame::from_indexed_pixels(width, height, &canvas.pixels[..], None)
        };
        frame.delay = u16::try_from((time.as_millis() + 5) / 10).unwrap_or(u16::MAX);
        encoder.write_frame(&frame).map_err(failed)
    }

    /// The whole animation; nothing, if there are no frames.
    ///
    /// # Errors
    /// None: writing to memory does not fail.
    pub fn finish(self) -> Result<Vec<u8>, Error> {
        let Some((encoder, _)) = self.begun else { return Ok(Vec::new()) };
        encoder.into_inner().map_err(failed)
    }

    fn begin(
        [width, height]: [u16; 2],
        is_animated: bool,
    ) -> Result<gif::Encoder<Vec<u8>>, gif::EncodingError> {
        let greys: Vec<u8> = (0..=255).flat_map(|grey| [grey; 3]).collect();
        let mut encoder = gif::Encoder::new(Vec::new(), width, height, &greys)?;
        if is_animated {
            encoder.set_repeat(Repeat::Infinite)?;
        }
        Ok(encoder)
    }
}

fn failed(error: gif::EncodingError) -> Error {
    codec(Format::Gif, error.to_string())
}

fn codec(format: Format, reason: String) -> Error {
    Error::Codec { format: format.name(), reason }
}

/// Width and height for the formats that have 16 bits for each.
fn small_sides(canvas: &Canvas, format: Format) -> Result<[u16; 2], Error> {
    let &Canvas { width, height, .. } = canvas;
    match (u16::try_from(width), u16::try_from(height)) {
        (Ok(width), Ok(height)) => Ok([width, height]),
        _ => Err(Error::TooLarge { width, height, format: format.name() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pixel::{Shape, jpeg};

    const TENTH: Duration = Duration::from_millis(100);

    fn canvas(samples: usize) -> Canvas {
        Canvas { width: 16, height: 8, pixels: (0..128 * samples).map(|place| (place * 2) as u8).collect() }
    }

    #[test]
    fn png_and_gif_of_grey_are_exact() {
        let grey = canvas(1);
        let bytes = encode(&grey, Format::Png, 90, None).unwrap();
        let mut reader = png::Decoder::new(std::io::Cursor::new(bytes)).read_info().unwrap();
        let mut pixels = vec![0; 128];
        assert_eq!(reader.next_frame(&mut pixels).unwrap().color_type, png::ColorType::Grayscale);
        assert_eq!(pixels, grey.pixels);

        let bytes = encode(&grey, Format::Gif, 90, None).unwrap();
        let mut decoder = gif::DecodeOptions::new().read_info(&bytes[..]).unwrap();
        assert_eq!(decoder.read_next_frame().unwrap().unwrap().buffer, grey.pixels);
    }

    #[test]
    fn jpeg_keeps_the_picture_and_its_quality_counts() {
        for samples in [1, 3] {
            let picture = canvas(samples);
            let [low, high] = [20, 95].map(|quality| encode(&picture, Format::Jpeg, quality, None).unwrap());
            assert!(low.len() < high.len());
            let shape = Shape { rows: picture.height, columns: picture.width, samples: samples as u16 };
            let decoded = jpeg::decode(&high, shape, samples == 3).unwrap();
            let pairs = decoded.samples.iter().zip(&picture.pixels);
            let farthest = pairs.map(|(found, expected)| (found - i32::from(*expected)).abs()).max();
            assert!(farthest.unwrap() < 64, "{farthest:?}");
        }
    }

    #[test]
    fn an_animation_has_frames_of_one_size_and_their_time() {
        let mut animation = Animation::new();
        for samples in [1, 3] {
            animation.append(&canvas(samples), TENTH).unwrap();
        }
        let other = Canvas { width: 8, height: 16, ..canvas(1) };
        assert!(animation.append(&other, TENTH).is_err());
        let length = animation.length();
        let bytes = animation.finish().unwrap();
        assert_eq!(bytes.len(), length + 1);
        let mut decoder = gif::DecodeOptions::new().read_info(&bytes[..]).unwrap();
        for _ in 0..2 {
            assert_eq!(decoder.read_next_frame().unwrap().unwrap().delay, 10);
        }
        assert!(decoder.read_next_frame().unwrap().is_none());
        assert_eq!(decoder.repeat(), Repeat::Infinite);
    }

    #[test]
    fn a_profile_is_embedded_where_the_format_has_a_place_for_it() {
        let profile = [7; 200];
        let jpeg = encode(&canvas(3), Format::Jpeg, 90, Some(&profile)).unwrap();
        let segment = [&b"\xFF\xE2\x00\xD8ICC_PROFILE\0\x01\x01"[..], &profile].concat();
        assert!(memchr::memmem::find(&jpeg, &segment).is_some());
        let png = encode(&canvas(3), Format::Png, 90, Some(&profile)).unwrap();
        let reader = png::Decoder::new(std::io::Cursor::new(png)).read_info().unwrap();
        assert_eq!(reader.info().icc_profile.as_deref(), Some(&profile[..]));
        assert!(encode(&canvas(3), Format::Gif, 90, Some(&profile)).is_err());
    }

    #[test]
    fn sides_beyond_16_bits_are_refused() {
        let wide = Canvas { width: 65536, height: 1, pixels: vec![0; 65536] };
        let error = encode(&wide, Format::Jpeg, 90, None).unwrap_err();
        assert_eq!(error.to_string(), "a picture of 65536 x 1 pixels is too large for JPEG");
        assert!(encode(&wide, Format::Png, 90, None).is_ok());
    }
}
