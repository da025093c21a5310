//! Images to render, and rendered images read back.

use std::io::Cursor;

use cuspid::dicom::frames::PixelLayout;
use cuspid::dicom::transfer_syntax;
use cuspid::pixel::decode::{FrameEncoding, decode};
use reqwest::Response;

use crate::build::DataSet;
use crate::harness::{EXPLICIT, data_set};

/// A window that leaves values of 8 bits as they are.
pub(crate) const AS_IT_IS: &str = "window=128,256,linear";

/// Grayscale Softcopy Presentation State Storage.
const PRESENTATION_STATE: &str = "1.2.840.10008.5.1.4.1.1.11.1";

/// A rendered image of one sample for each pixel, or three.
#[derive(Debug, PartialEq)]
pub(crate) struct Picture {
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) pixels: Vec<u8>,
}

/// An image of 4 columns and 2 rows of 8 bits in study 1.1: pixel i (from 0) of frame f (from 1) is 40 f + 5
/// i.
pub(crate) fn movie(series: &str, instance: &str, frames: u8) -> Vec<u8> {
    let pixels: Vec<u8> = (1..=frames).flat_map(frame).collect();
    let image = data_set("1.1", series, instance)
        .us(0x0028_0002, &[1])
        .text(0x0028_0004, "CS", "MONOCHROME2")
        .text(0x0028_0008, "IS", &frames.to_string())
        .us(0x0028_0010, &[2])
        .us(0x0028_0011, &[4])
        .us(0x0028_0100, &[8])
        .us(0x0028_0101, &[8])
        .us(0x0028_0102, &[7])
        .us(0x0028_0103, &[0]);
    image.element(0x7FE0_0010, "OW", &pixels).file(EXPLICIT)
}

/// The pixels of frame `number` (from 1) of a [`movie`].
pub(crate) fn frame(number: u8) -> Vec<u8> {
    (0..8).map(|pixel| 40 * number + 5 * pixel).collect()
}

/// A presentation state in series 1.9 that refers to images of series 1.2: their UID and frames, or all of
/// them.
pub(crate) fn presentation_state(instance: &str, references: &[(&str, &str)]) -> Vec<u8> {
    let image = |(instance, frames): &(&str, &str)| {
        let item = DataSet::explicit().text(0x0008_1150, "UI", "1.2.3").text(0x0008_1155, "UI", instance);
        if frames.is_empty() { item } else { item.text(0x0008_1160, "IS", frames) }
    };
    let images: Vec<DataSet> = references.iter().map(image).collect();
    let series = DataSet::explicit().sequence(0x0008_1140, &images).text(0x0020_000E, "UI", "1.2");
    DataSet::explicit()
        .text(0x0008_0016, "UI", PRESENTATION_STATE)
        .text(0x0008_0018, "UI", instance)
        .text(0x0008_0060, "CS", "PR")
        .sequence(0x0008_1115, &[series])
        .text(0x0020_000D, "UI", "1.1")
        .text(0x0020_000E, "UI", "1.9")
        .file(EXPLICIT)
}

/// Reads a PNG.
pub(crate) fn png(bytes: &[u8]) -> Picture {
    let mut reader = png::Decoder::new(Cursor::new(bytes)).read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut pixels).unwrap();
    Picture { width: info.width, height: info.height, pixels }
}

/// Width and height of a JPEG.
pub(crate) fn jpeg_size(bytes: &[u8]) -> (u16, u16) {
    let mut at = 2;
    // SOF0.
    while bytes[at + 1] != 0xC0 {
        at += 2 + usize::from(u16::from_be_bytes([bytes[at + 2], bytes[at + 3]]));
    }
    let number = |at| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
    let (rows, columns, samples) = (number(at + 5), number(at + 7), bytes[at + 9]);
    let layout = PixelLayout {
        rows: rows.into(),
        columns: columns.into(),
        samples: samples.into(),
        bits_allocated: 8,
        bits_stored: 8,
        high_bit: 7,
        is_signed: false,
        photometric: "YBR_FULL_422".into(),
        is_planar: false,
        number_of_frames: 1,
    };
    decode(bytes, &layout, FrameEncoding::Compressed(transfer_syntax::JPEG_BASELINE8_BIT)).unwrap();
    (columns, rows)
}

/// How many frames a GIF has.
pub(crate) fn gif_frames(bytes: &[u8]) -> usize {
    let mut decoder = gif::DecodeOptions::new().read_info(bytes).unwrap();
    let mut count = 0;
    while decoder.read_next_frame().unwrap().is_some() {
        count += 1;
    }
    count
}

/// A field of an answer.
pub(crate) fn field<'a>(response: &'a Response, name: &str) -> &'a str {
    response.headers().get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
}

/// The parameter that an error names.
pub(crate) async fn blamed(response: Response) -> String {
    let problem: serde_json::Value = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap();
    problem["parameter"].as_str().unwrap_or_default().to_owned()
}
