//! Decodes PNG and GIF files of store requests to native Pixel Data, without loss: no transfer syntax holds
//! these formats (PS3.18 §10.5.2).

use std::io::Cursor;

use crate::pixel::{Error, Shape};

/// A file format of images that no transfer syntax holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImageFileFormat {
    /// `image/png`.
    Png,
    /// `image/gif`, animated or not.
    Gif,
}

/// The properties of the decoded frames of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageFileProperties {
    /// The size of each: one sample is MONOCHROME2, three are RGB.
    pub shape: Shape,
    /// Bits of a sample: 8 or 16.
    pub bits: u16,
    /// The number of frames, at least one.
    pub frames: u32,
}

/// Bytes that a file may become, if they are not more than [`MAX_RATIO`] times its own.
const MAX_BYTES: u64 = 256 << 20;
/// The maximum number of frames of a GIF: each costs a frame of an instance, however small it is.
const MAX_GIF_FRAMES: u32 = 10_000;
/// The maximum ratio of all frames to the file, where they have more than [`MAX_BYTES`].
const MAX_RATIO: u64 = 1000;

impl ImageFileProperties {
    /// Bytes of all frames.
    pub fn length(&self) -> u64 {
        let Shape { rows, columns, samples } = self.shape;
        let frame = u64::from(rows) * u64::from(columns) * u64::from(samples) * u64::from(self.bits / 8);
        frame.saturating_mul(self.frames.into())
    }
}

/// Describes the frames of a file. Reads all of a GIF, without decoding its frames.
///
/// # Errors
/// [`Error::Codec`] if it is damaged; [`Error::Size`] if a frame has too many pixels; [`Error::Unsupported`]
/// if it would become too large.
pub fn describe(kind: ImageFileFormat, file: &[u8]) -> Result<ImageFileProperties, Error> {
    let picture = match kind {
        ImageFileFormat::Png => describe_png(&png(file)?),
        ImageFileFormat::Gif => describe_gif(file)?,
    };
    picture.shape.number_of_samples()?;
    if picture.length() > MAX_BYTES.max(MAX_RATIO.saturating_mul(file.len() as u64)) {
        return Err(Error::Unsupported("a picture that becomes so much larger".into()));
    }
    Ok(picture)
}

/// Decodes the frames of a file that was [described](describe), one after the other: rows × columns × samples
/// in little endian. `take` returns whether to go on. Transparency is dropped: what is seen through in the
/// first frame is black.
///
/// # Errors
/// [`Error::Codec`] if it is damaged.
pub fn decode(
    kind: ImageFileFormat,
    file: &[u8],
    take: &mut dyn FnMut(Vec<u8>) -> bool,
) -> Result<(), Error> {
    match kind {
        ImageFileFormat::Png => {
            take(decode_png(file)?);
            Ok(())
        }
        ImageFileFormat::Gif => decode_gif(file, take),
    }
}

type Png<'a> = png::Reader<Cursor<&'a [u8]>>;

fn png(file: &[u8]) -> Result<Png<'_>, Error> {
    let mut decoder = png::Decoder::new(Cursor::new(file));
    // Palettes become colours, and grey of fewer than 8 bits becomes 8.
    decoder.set_transformations(png::Transformations::EXPAND);
    decoder.read_info().map_err(png_failed)
}

fn describe_png(reader: &Png<'_>) -> ImageFileProperties {
    let (colour, depth) = reader.output_color_type();
    let samples = if without_alpha(colour) == 1 { 1 } else { 3 };
    let shape = Shape { rows: reader.info().height, columns: reader.info().width, samples };
    ImageFileProperties { shape, bits: if depth == png::BitDepth::Sixteen { 16 } else { 8 }, frames: 1 }
}

fn without_alpha(colour: png::ColorType) -> usize {
    match colour {
        png::ColorType::Grayscale | png::ColorType::GrayscaleAlpha => 1,
        png::ColorType::Rgb | png::ColorType::Rgba | png::ColorType::Indexed => 3,
    }
}

fn decode_png(file: &[u8]) -> Result<Vec<u8>, Error> {
    let mut reader = png(file)?;
    let picture = describe_png(&reader);
    picture.shape.number_of_samples()?;
    let size = reader.output_buffer_size().ok_or(Error::Size(picture.shape))?;
    let mut decoded = vec![0; size];
    let written = reader.next_frame(&mut decoded).map_err(png_failed)?.buffer_size();
    decoded.truncate(written);
    let (colour, _) = reader.output_color_type();
    let sample_bytes = usize::from(picture.bits / 8);
    let kept = without_alpha(colour) * sample_bytes;
    let pixel = colour.samples() * sample_bytes;
    if pixel != kept {
        decoded = decoded.chunks_exact(pixel).flat_map(|pixel| &pixel[..kept]).copied().collect();
    }
    if sample_bytes == 2 {
        decoded.as_chunks_mut::<2>().0.iter_mut().for_each(|word| word.reverse());
    }
    Ok(decoded)
}

type Gif<'a> = gif::Decoder<&'a [u8]>;

fn gif(file: &[u8]) -> Result<Gif<'_>, Error> {
    let mut options = gif::DecodeOptions::new();
    options.set_color_output(gif::ColorOutput::RGBA);
    options.read_info(file).map_err(gif_failed)
}

fn gif_shape(decoder: &Gif<'_>) -> Shape {
    Shape { rows: decoder.height().into(), columns: decoder.width().into(), samples: 3 }
}

fn describe_gif(file: &[u8]) -> Result<ImageFileProperties, Error> {
    let mut decoder = gif(file)?;
    let mut frames = 0;
    while decoder.next_frame_info().map_err(gif_failed)?.is_some() {
        frames += 1;
        if frames > MAX_GIF_FRAMES {
            return Err(Error::Unsupported(format!("a GIF of more than {MAX_GIF_FRAMES} frames")));
        }
    }
    if frames == 0 {
        return Err(Error::Codec { codec: "GIF", reason: "there is no frame".into() });
    }
    Ok(ImageFileProperties { shape: gif_shape(&decoder), bits: 8, frames })
}

fn decode_gif(file: &[u8], take: &mut dyn FnMut(Vec<u8>) -> bool) -> Result<(), Error> {
    let mut decoder = gif(file)?;
    let shape = gif_shape(&decoder);
    let mut canvas = vec![0; shape.number_of_samples()?];
    while let Some(frame) = decoder.read_next_frame().map_err(gif_failed)? {
        let before = (frame.dispose == gif::DisposalMethod::Previous).then(|| canvas.clone());
        each_pixel(frame, shape, |at, pixel| {
            let &[red, green, blue, alpha] = pixel;
            if alpha > 0 {
                canvas[at..at + 3].copy_from_slice(&[red, green, blue]);
            }
        });
        if !take(canvas.clone()) {
            return Ok(());
        }
        match before {
            Some(before) => canvas = before,
            None if frame.dispose == gif::DisposalMethod::Background => {
                each_pixel(frame, shape, |at, _| canvas[at..at + 3].fill(0));
            }
            None => {}
        }
    }
    Ok(())
}

/// Calls `paint` with the place on the canvas and the colour of each pixel of a frame that lies on it.
fn each_pixel(frame: &gif::Frame<'_>, shape: Shape, mut paint: impl FnMut(usize, &[u8; 4])) {
    let (left, top) = (usize::from(frame.left), usize::from(frame.top));
    let (rows, columns) = (shape.rows as usize, shape.columns as usize);
    let lines = frame.buffer.chunks_exact(4 * usize::from(frame.width).max(1));
    for (row, line) in (top..rows).zip(lines) {
        for (column, pixel) in (left..columns).zip(line.as_chunks::<4>().0) {
            paint(3 * (row * columns + column), pixel);
        }
    }
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn png_failed(error: png::DecodingError) -> Error {
    Error::Codec { codec: "PNG", reason: error.to_string() }
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn gif_failed(error: gif::DecodingError) -> Error {
    Error::Codec { codec: "GIF", reason: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn png_of(colour: png::ColorType, depth: png::BitDepth, palette: Option<&[u8]>, data: &[u8]) -> Vec<u8> {
        let mut file = Vec::new();
        let mut encoder = png::Encoder::new(&mut file, 2, 1);
        encoder.set_color(colour);
        encoder.set_depth(depth);
        if let Some(palette) = palette {
            encoder.set_palette(palette.to_vec());
        }
        encoder.write_header().unwrap().write_image_data(data).unwrap();
        file
    }

    fn decoded(kind: ImageFileFormat, file: &[u8]) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        decode(kind, file, &mut |frame| {
            frames.push(frame);
            true
        })
        .unwrap();
        frames
    }

    #[test]
    fn png_of_every_colour_becomes_grey_or_rgb_in_little_endian() {
        use png::BitDepth::{Eight, One, Sixteen};
        use png::ColorType::{Grayscale, GrayscaleAlpha, Indexed, Rgb, Rgba};
        let palette: &[u8] = &[1, 2, 3, 4, 5, 6];
        for (colour, depth, palette, data, samples, bits, expected) in [
            (Grayscale, Eight, None, &[1, 2][..], 1, 8, &[1, 2][..]),
            (Grayscale, One, None, &[0b0100_0000], 1, 8, &[0, 255]),
            (Grayscale, Sixteen, None, &[1, 2, 3, 4], 1, 16, &[2, 1, 4, 3]),
            (GrayscaleAlpha, Eight, None, &[1, 9, 2, 9], 1, 8, &[1, 2]),
            (Rgb, Eight, None, &[1, 2, 3, 4, 5, 6], 3, 8, &[1, 2, 3, 4, 5, 6]),
            (Rgba, Eight, None, &[1, 2, 3, 0, 4, 5, 6, 0], 3, 8, &[1, 2, 3, 4, 5, 6]),
            (Indexed, Eight, Some(palette), &[1, 0], 3, 8, &[4, 5, 6, 1, 2, 3]),
        ] {
            let file = png_of(colour, depth, palette, data);
            let shape = Shape { rows: 1, columns: 2, samples };
            assert_eq!(
                describe(ImageFileFormat::Png, &file).unwrap(),
                ImageFileProperties { shape, bits, frames: 1 },
                "{colour:?}"
            );
            assert_eq!(decoded(ImageFileFormat::Png, &file), [expected], "{colour:?} {depth:?}");
        }
    }

    #[test]
    fn frames_of_a_gif_are_painted_over_each_other() {
        let mut file = Vec::new();
        let palette = [10, 20, 30, 40, 50, 60];
        let mut encoder = gif::Encoder::new(&mut file, 2, 1, &palette).unwrap();
        for (left, pixels, dispose, transparent) in [
            (0, vec![0, 1], gif::DisposalMethod::Keep, None),
            (1, vec![0], gif::DisposalMethod::Previous, None),
            (0, vec![1, 0], gif::DisposalMethod::Background, Some(0)),
            (0, vec![0], gif::DisposalMethod::Keep, None),
        ] {
            let width = pixels.len() as u16;
            let frame = gif::Frame { left, width, height: 1, dispose, transparent, ..gif::Frame::default() };
            encoder.write_frame(&gif::Frame { buffer: pixels.into(), ..frame }).unwrap();
        }
        drop(encoder);
        let (a, b, none): ([u8; 3], [u8; 3], [u8; 3]) = ([10, 20, 30], [40, 50, 60], [0; 3]);
        assert_eq!(describe(ImageFileFormat::Gif, &file).unwrap().frames, 4);
        assert_eq!(
            decoded(ImageFileFormat::Gif, &file),
            [[a, b], [a, a], [b, b], [a, none]].map(|row| row.concat())
        );
    }

    #[test]
    fn a_gif_of_very_many_frames_is_refused_at_the_limit() {
        let mut file = gif::Encoder::new(Vec::new(), 1, 1, &[0; 6]).unwrap().into_inner().unwrap();
        let end = file.pop_if(|byte| *byte == b';');
        // A frame of one pixel: descriptor, code size, a block of two bytes, the end of the blocks.
        let frame = b"\x2C\0\0\0\0\x01\0\x01\0\0\x02\x02\x44\x01\0";
        for (frames, expected) in [(MAX_GIF_FRAMES, true), (MAX_GIF_FRAMES + 1, false)] {
            let mut file = file.clone();
            file.extend(frame.repeat(frames as usize));
            file.extend(end);
            let described = describe(ImageFileFormat::Gif, &file);
            assert_eq!(described.is_ok_and(|picture| picture.frames == frames), expected, "{frames}");
        }
    }

    #[test]
    fn what_is_damaged_or_grows_too_much_is_an_error() {
        let whole = png_of(png::ColorType::Grayscale, png::BitDepth::Eight, None, &[1, 2]);
        assert!(
            describe(ImageFileFormat::Png, b"").is_err()
                && describe(ImageFileFormat::Gif, b"GIF89a").is_err()
        );
        assert!(describe(ImageFileFormat::Png, &whole[..20]).is_err());
        assert!(decode(ImageFileFormat::Png, &whole[..45], &mut |_| true).is_err());
        let mut file = Vec::new();
        let mut encoder = gif::Encoder::new(&mut file, 4000, 4000, &[0; 6]).unwrap();
        for _ in 0..20 {
            let frame = gif::Frame { width: 1, height: 1, buffer: vec![0].into(), ..gif::Frame::default() };
            encoder.write_frame(&frame).unwrap();
        }
        drop(encoder);
        assert!(matches!(describe(ImageFileFormat::Gif, &file), Err(Error::Unsupported(_))));
        let huge = gif::Encoder::new(Vec::new(), 65535, 65535, &[0; 6]).unwrap().into_inner().unwrap();
        assert!(describe(ImageFileFormat::Gif, &huge).is_err());
    }
}
