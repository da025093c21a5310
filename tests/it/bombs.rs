//! Frames of a few bytes that take a decoder a lot of memory or time.

use crate::build::DataSet;
use crate::harness::data_set;

/// JPEG-LS Lossless.
pub(crate) const JPEG_LS: &str = "1.2.840.10008.1.2.4.80";
/// JPEG Full Progression, which is retired.
pub(crate) const JPEG: &str = "1.2.840.10008.1.2.4.55";
/// JPEG 2000 Lossless.
pub(crate) const JPEG_2000: &str = "1.2.840.10008.1.2.4.90";

/// A file with one compressed frame of 8-bit samples, in study 1.1.
pub(crate) fn file(series: &str, instance: &str, side: u16, syntax: &str, frame: &[u8]) -> Vec<u8> {
    let padded = [frame, if frame.len() % 2 == 1 { &[0] } else { &[] }].concat();
    image(series, instance, side).encapsulated(&[&[], &padded]).file(syntax)
}

fn image(series: &str, instance: &str, side: u16) -> DataSet {
    data_set("1.1", series, instance)
        .us(0x0028_0002, &[1])
        .text(0x0028_0004, "CS", "MONOCHROME2")
        .text(0x0028_0008, "IS", "1")
        .us(0x0028_0010, &[side])
        .us(0x0028_0011, &[side])
        .us(0x0028_0100, &[8])
        .us(0x0028_0101, &[8])
        .us(0x0028_0102, &[7])
        .us(0x0028_0103, &[0])
}

fn segment(marker: u8, content: &[u8]) -> Vec<u8> {
    [&[0xFF, marker], (content.len() as u16 + 2).to_be_bytes().as_slice(), content].concat()
}

/// JPEG 2000 of one component without data, with precincts of these exponents for each resolution.
pub(crate) fn j2k(side: u32, layers: u16, precincts: &[u8]) -> Vec<u8> {
    let numbers = [side, side, 0, 0, side, side, 0, 0].map(u32::to_be_bytes);
    let siz = [&[0, 0], numbers.as_flattened(), &[0, 1, 7, 1, 1]].concat();
    let decompositions = precincts.len().saturating_sub(1) as u8;
    let [high, low] = layers.to_be_bytes();
    let style = u8::from(!precincts.is_empty());
    let cod = [&[style, 0, high, low, 0, decompositions, 4, 4, 0, 1], precincts].concat();
    let qcd = [&[0x40], vec![0x40; 3 * usize::from(decompositions) + 1].as_slice()].concat();
    let sot = segment(0x90, &[0, 0, 0, 0, 0, 78, 0, 1]);
    let headers = [segment(0x51, &siz), segment(0x52, &cod), segment(0x5C, &qcd), sot].concat();
    [&[0xFF, 0x4F], &headers[..], &[0xFF, 0x93], &[0; 64], &[0xFF, 0xD9]].concat()
}

/// Progressive JPEG: a scan of zeros, then scans in which each run of some bits ends 32,767 blocks.
pub(crate) fn progressive(side: u16, scans: usize) -> Vec<u8> {
    let [high, low] = side.to_be_bytes();
    let blocks = (usize::from(side) / 8).pow(2);
    // Codes of 4 bits: 0 for a block without change, 1 for a run of 2^14 blocks and more.
    let table = |class: u8, symbols: &[u8]| {
        let lengths = [0, 0, 0, symbols.len() as u8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        segment(0xC4, &[&[class], &lengths[..], symbols].concat())
    };
    let frame = segment(0xC2, &[8, high, low, high, low, 1, 1, 0x11, 0]);
    let quantization = segment(0xDB, &[&[0], &[1; 64][..]].concat());
    let tables = [quantization, frame, table(0, &[0]), table(0x10, &[0, 0xE0])].concat();
    let first = [segment(0xDA, &[1, 1, 0, 0, 0, 0]), vec![0; blocks.div_ceil(2)]].concat();
    let mut runs = String::new();
    for _ in 0..blocks / 32767 {
        runs += "000111111111111111";
    }
    runs += &"0000".repeat(blocks % 32767);
    runs += &"1".repeat(runs.len().next_multiple_of(8) - runs.len());
    let bytes =
        runs.as_bytes().chunks(8).map(|bits| bits.iter().fold(0, |byte, bit| byte << 1 | (bit - b'0')));
    let data: Vec<u8> =
        bytes.flat_map(|byte| if byte == 0xFF { vec![0xFF, 0] } else { vec![byte] }).collect();
    let scan = [segment(0xDA, &[1, 1, 0, 1, 63, 0]), data].concat();
    [&[0xFF, 0xD8], &tables[..], &first, &scan.repeat(scans), &[0xFF, 0xD9]].concat()
}

/// JPEG-LS whose data ends after one byte, without an end marker.
pub(crate) fn cut_jpeg_ls(side: u16) -> Vec<u8> {
    let [high, low] = side.to_be_bytes();
    let frame = segment(0xF7, &[8, high, low, high, low, 1, 1, 0x11, 0]);
    let scan = segment(0xDA, &[1, 1, 0, 0, 0, 0]);
    [&[0xFF, 0xD8], &frame[..], &scan, &[0]].concat()
}
