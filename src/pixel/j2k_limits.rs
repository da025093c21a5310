//! Refuses JPEG 2000 codestreams whose structure takes far more memory or time than their samples (ISO/IEC
//! 15444-1 §A, §B).
//!
//! A codec allocates some hundred bytes for each precinct and code block before it reads any data, and
//! processes each packet, even after the end of the data.

use std::collections::BTreeMap;

use crate::dicom::jpeg_2000::Jpeg2000Size;
use crate::dicom::marker_segments::{MarkerSegment, segment_at};
use crate::pixel::Error;

/// The precincts that any image may have, and the number of samples for each precinct more.
const MIN_PRECINCTS: u64 = 4096;
const SAMPLES_PER_PRECINCT: u64 = 64;
/// The code blocks that any image may have, and the number of samples for each code block more. Code blocks
/// have at least 16 samples.
const MIN_CODE_BLOCKS: u64 = 4096;
const SAMPLES_PER_CODE_BLOCK: u64 = 16;
/// The packets that any image may have, and the packets more for each byte of the codestream. A packet has at
/// least one byte, but a codestream may be truncated.
const MIN_PACKETS: u64 = 16 * 1024;
const PACKETS_PER_BYTE: u64 = 8;
/// The most decompositions that ISO/IEC 15444-1 allows.
const MAX_DECOMPOSITIONS: u8 = 32;

/// Markers.
const COD: u8 = 0x52;
const COC: u8 = 0x53;
const SOT: u8 = 0x90;
const SOD: u8 = 0x93;

/// Checks the headers of a codestream. All other damage is left for the codec to detect.
///
/// # Errors
/// [`Error::Unsupported`] if there are too many precincts, code blocks or packets.
pub(super) fn check(codestream: &[u8]) -> Result<(), Error> {
    let Some(headers) = Headers::read(codestream) else { return Ok(()) };
    let samples = samples(&headers.size);
    let mut total = Count::default();
    let [across, down] = headers.size.tiles();
    for tile in 0..across.saturating_mul(down) {
        let coding = headers.tiles.get(&tile).unwrap_or(&headers.coding);
        for (index, component) in headers.size.components.iter().enumerate() {
            let Some(style) = coding.style(index) else { return Ok(()) };
            let area = tile_component(&headers.size, tile, component.subsampling);
            total.add(area, style, coding.layers);
            total.check(samples, codestream.len() as u64)?;
        }
    }
    Ok(())
}

/// The structures that a codec has to process.
#[derive(Default)]
struct Count {
    precincts: u64,
    code_blocks: u64,
    packets: u64,
}

impl Count {
    /// Adds the resolutions of one component of a tile (§B.5 to §B.7).
    fn add(&mut self, area: Area, style: &Style, layers: u64) {
        for level in 0..=style.decompositions {
            let halvings = style.decompositions - level;
            let resolution = area.reduced(halvings);
            if resolution.is_empty() {
                continue;
            }
            let exponents = style.precinct(level);
            let precincts = resolution.cells(exponents);
            // Subbands of higher resolutions have half their size, and so do the precincts in them.
            let (bands, halved) = if level == 0 { (1, 0) } else { (3, 1) };
            let cell = [0, 1].map(|axis| exponents[axis].saturating_sub(halved).min(style.code_block[axis]));
            let code_blocks = resolution.reduced(halved).cells(cell).max(precincts);
            self.precincts = self.precincts.saturating_add(precincts);
            self.code_blocks = self.code_blocks.saturating_add(code_blocks.saturating_mul(bands));
            self.packets = self.packets.saturating_add(precincts.saturating_mul(layers));
        }
    }

    fn check(&self, samples: u64, bytes: u64) -> Result<(), Error> {
        let most_packets = MIN_PACKETS + bytes.saturating_mul(PACKETS_PER_BYTE);
        for (name, count, most, of) in [
            ("precincts", self.precincts, MIN_PRECINCTS + samples / SAMPLES_PER_PRECINCT, "samples"),
            ("code blocks", self.code_blocks, MIN_CODE_BLOCKS + samples / SAMPLES_PER_CODE_BLOCK, "samples"),
            ("packets", self.packets, most_packets, "bytes"),
        ] {
            if count > most {
                let whole = if of == "bytes" { bytes } else { samples };
                let reason = format!("a JPEG 2000 codestream of more than {most} {name} for {whole} {of}");
                return Err(Error::Unsupported(reason));
            }
        }
        Ok(())
    }
}

/// A rectangle: left and top inside, right and bottom outside.
#[derive(Clone, Copy)]
struct Area([[u64; 2]; 2]);

impl Area {
    fn is_empty(self) -> bool {
        self.0.iter().any(|[start, end]| start >= end)
    }

    /// The rectangle at a resolution that is halved `halvings` times.
    fn reduced(self, halvings: u8) -> Self {
        Self(self.0.map(|axis| axis.map(|end| end.div_ceil(1 << halvings))))
    }

    /// The number of cells, in a grid whose cell sizes are powers of two, that the rectangle touches.
    fn cells(self, exponents: [u8; 2]) -> u64 {
        let along = |axis: usize| {
            let [start, end] = self.0[axis];
            end.div_ceil(1 << exponents[axis]).saturating_sub(start >> exponents[axis])
        };
        along(0).saturating_mul(along(1))
    }
}

/// The samples of an image.
fn samples(size: &Jpeg2000Size) -> u64 {
    let [columns, rows] = size.extent().map(u64::from);
    columns.saturating_mul(rows).saturating_mul(size.components.len() as u64)
}

/// The part of a component in a tile (§B.3, §B.4).
fn tile_component(size: &Jpeg2000Size, tile: u64, subsampling: [u8; 2]) -> Area {
    let [across, _] = size.tiles();
    let places = [tile % across, tile / across];
    Area([0, 1].map(|axis| {
        let side = u64::from(size.tile[axis]);
        let start = u64::from(size.tile_start[axis]) + places[axis] * side;
        let [first, last] = [size.start[axis], size.end[axis]].map(u64::from);
        let ends = [start.max(first), (start + side).min(last)];
        ends.map(|end| end.div_ceil(subsampling[axis].into()))
    }))
}

/// The coding style of a component (COD, COC).
#[derive(Clone)]
struct Style {
    decompositions: u8,
    /// Exponents of the width and height of code blocks.
    code_block: [u8; 2],
    /// Exponents of precincts by resolution, packed as in the codestream; empty for the maximum.
    precincts: Vec<u8>,
}

impl Style {
    /// Reads the part that COD and COC share.
    fn read(parameters: &[u8], has_precincts: bool) -> Option<Self> {
        let &[decompositions, width, height, _, _, ref precincts @ ..] = parameters else { return None };
        if decompositions > MAX_DECOMPOSITIONS {
            return None;
        }
        let code_block = [width, height].map(|exponent| (exponent & 0x0F) + 2);
        let precincts = if has_precincts { precincts.to_vec() } else { Vec::new() };
        Some(Self { decompositions, code_block, precincts })
    }

    fn precinct(&self, level: u8) -> [u8; 2] {
        let packed = self.precincts.get(usize::from(level)).copied().unwrap_or(0xFF);
        [packed & 0x0F, packed >> 4]
    }
}

/// The coding parameters of a tile, or of all tiles.
#[derive(Clone, Default)]
struct Coding {
    layers: u64,
    all: Option<Style>,
    components: BTreeMap<usize, Style>,
}

impl Coding {
    fn style(&self, component: usize) -> Option<&Style> {
        self.components.get(&component).or(self.all.as_ref())
    }

    /// Reads a COD or COC segment; other segments change nothing.
    fn read(&mut self, marker: u8, segment: &[u8], number_of_components: usize) -> Option<()> {
        match (marker, segment) {
            (COD, &[style, _, high, low, _, ref parameters @ ..]) => {
                self.layers = u16::from_be_bytes([high, low]).into();
                self.all = Some(Style::read(parameters, style & 1 != 0)?);
            }
            (COC, segment) => {
                let (component, rest) = match (number_of_components < 257, segment) {
                    (true, [component, rest @ ..]) => (usize::from(*component), rest),
                    (false, [high, low, rest @ ..]) => (u16::from_be_bytes([*high, *low]).into(), rest),
                    _ => return None,
                };
                let (&style, parameters) = rest.split_first()?;
                self.components.insert(component, Style::read(parameters, style & 1 != 0)?);
            }
            _ => {}
        }
        Some(())
    }
}

/// The headers of a codestream, as far as the check needs them.
struct Headers {
    size: Jpeg2000Size,
    coding: Coding,
    /// The coding parameters of tiles that differ from the main header.
    tiles: BTreeMap<u64, Coding>,
}

impl Headers {
    /// Reads the main header and the headers of tile-parts; `None` if the headers are damaged. A codestream
    /// has one size: codecs refuse a second one.
    fn read(codestream: &[u8]) -> Option<Self> {
        let size = Jpeg2000Size::of(codestream)?;
        let (mut coding, mut tiles) = (Coding::default(), BTreeMap::<u64, Coding>::new());
        let mut at = 2;
        // The current tile-part: its tile, and its end in the codestream.
        let mut part: Option<(u64, usize)> = None;
        while let Some(&[0xFF, marker]) = codestream.get(at..at + 2) {
            if marker == SOD {
                // The data of a tile-part without a length extends to the end of the codestream.
                let (_, end) = part.take()?;
                at = end.max(at + 2);
                continue;
            }
            let Some(MarkerSegment { marker, content, end, .. }) = segment_at(codestream, at) else { break };
            match (marker, content) {
                (SOT, &[tile_high, tile_low, l3, l2, l1, l0, ..]) => {
                    let length = u32::from_be_bytes([l3, l2, l1, l0]) as usize;
                    let end = if length == 0 { codestream.len() } else { at.saturating_add(length) };
                    part = Some((u16::from_be_bytes([tile_high, tile_low]).into(), end));
                }
                (COD | COC, content) => {
                    let coding = match part {
                        Some((tile, _)) => tiles.entry(tile).or_insert_with(|| coding.clone()),
                        None => &mut coding,
                    };
                    coding.read(marker, content, size.components.len())?;
                }
                _ => {}
            }
            at = end;
        }
        Some(Self { size, coding, tiles })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pixel::j2k::{Loss, encode};
    use crate::pixel::{Image, Shape};

    const SIZ: u8 = 0x51;

    fn segment(marker: u8, content: &[u8]) -> Vec<u8> {
        [&[0xFF, marker], (content.len() as u16 + 2).to_be_bytes().as_slice(), content].concat()
    }

    /// A codestream of one component with the content of COD, and the headers of a tile-part.
    fn codestream(side: u32, tile: u32, cod: &[u8], tile_header: &[u8]) -> Vec<u8> {
        let mut siz = vec![0, 0];
        for number in [side, side, 0, 0, tile, tile, 0, 0] {
            siz.extend(number.to_be_bytes());
        }
        siz.extend([0, 1, 7, 1, 1]);
        let sot = segment(SOT, &[0, 0, 0, 0, 0, 0, 0, 1]);
        let headers = [&segment(SIZ, &siz), &segment(COD, cod), &sot].map(Vec::as_slice).concat();
        [&[0xFF, 0x4F][..], &headers, tile_header, &[0xFF, SOD, 0, 0, 0xFF, 0xD9]].concat()
    }

    /// The content of COD: layers, decompositions, exponents of code blocks, precincts.
    fn cod(layers: u16, decompositions: u8, code_block: u8, precincts: &[u8]) -> Vec<u8> {
        let [high, low] = layers.to_be_bytes();
        let style = u8::from(!precincts.is_empty());
        [&[style, 0, high, low, 0, decompositions, code_block - 2, code_block - 2, 0, 1], precincts].concat()
    }

    #[test]
    fn precincts_code_blocks_and_packets_are_limited_by_the_size_of_the_image() {
        for (name, codestream, refused) in [
            ("plain", codestream(512, 512, &cod(1, 5, 6, &[]), &[]), None),
            ("small code blocks", codestream(2048, 2048, &cod(1, 5, 2, &[]), &[]), None),
            ("usual precincts", codestream(4096, 4096, &cod(12, 5, 6, &[0x77; 6]), &[]), None),
            ("tiles", codestream(4096, 128, &cod(1, 5, 6, &[]), &[]), None),
            ("precincts of 1", codestream(1024, 1024, &cod(1, 0, 4, &[0]), &[]), Some("precincts")),
            ("precincts of 4", codestream(1024, 1024, &cod(1, 0, 4, &[0x22]), &[]), Some("precincts")),
            ("one level", codestream(1024, 1024, &cod(1, 1, 6, &[0xFF, 0]), &[]), Some("precincts")),
            ("layers", codestream(64, 64, &cod(65535, 0, 6, &[]), &[]), Some("packets")),
            ("both", codestream(512, 512, &cod(65535, 5, 6, &[0x88; 6]), &[]), Some("packets")),
        ] {
            let outcome = check(&codestream).map_err(|error| error.to_string());
            match refused {
                None => assert_eq!(outcome, Ok(()), "{name}"),
                Some(what) => assert!(outcome.unwrap_err().contains(what), "{name}"),
            }
        }
    }

    #[test]
    fn headers_of_tiles_and_of_components_count() {
        let main = cod(1, 0, 6, &[]);
        let in_tile = segment(COD, &cod(1, 0, 4, &[0]));
        let of_component = segment(COC, &[0, 1, 0, 4, 4, 0, 1, 0]);
        for header in [in_tile, of_component] {
            assert!(check(&codestream(1024, 1024, &main, &header)).is_err());
        }
    }

    #[test]
    fn own_codestreams_pass_and_no_bytes_cause_a_panic() {
        for (rows, columns) in [(1, 1), (37, 512), (700, 3)] {
            let shape = Shape { rows, columns, samples: 3 };
            let samples = (0..rows * columns * 3).map(|number| (number % 251) as i32).collect();
            let image = Image { shape, precision: 8, is_signed: false, samples };
            let codestream = encode(&image, Loss::None).unwrap();
            check(&codestream).unwrap();
            for at in 0..codestream.len().min(200) {
                let _ = check(&codestream[..at]);
                for byte in [0, 1, 0x7F, 0xFF] {
                    let mut damaged = codestream.clone();
                    damaged[at] = byte;
                    let _ = check(&damaged);
                }
            }
        }
    }
}
