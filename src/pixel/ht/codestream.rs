//! Codestreams: main header and tile-parts (ISO/IEC 15444-1 Annex A, ITU-T T.814 Annex A).

use crate::pixel::ht::bands::{Band, GUARD_BITS, Step};
use crate::pixel::ht::block::{BLOCK_SIDE, BlockEncoder};
use crate::pixel::ht::{Transformed, packet};

const START_OF_CODESTREAM: u16 = 0xFF4F;
const SIZE: u16 = 0xFF51;
const CAPABILITIES: u16 = 0xFF50;
const CODING_STYLE: u16 = 0xFF52;
const QUANTISATION: u16 = 0xFF5C;
const START_OF_TILE_PART: u16 = 0xFF90;
const START_OF_DATA: u16 = 0xFF93;
const END_OF_CODESTREAM: u16 = 0xFFD9;

/// Rsiz: the codestream needs the capabilities in CAP.
const NEEDS_CAPABILITIES: u16 = 1 << 14;
/// Pcap: the capabilities are those of part 15.
const PART_15: u32 = 1 << 17;
/// Ccap15: the irreversible transform is used.
const IRREVERSIBLE: u16 = 1 << 5;
/// The order of packets: by resolution, position, component, layer.
const RPCL: u8 = 2;
/// The style of code-blocks: high-throughput.
const HIGH_THROUGHPUT: u8 = 0x40;
/// Steps for all subbands, each with exponent and mantissa.
const STEP_OF_EACH_BAND: u8 = 2;
/// Bytes of a tile-part before its packets.
const TILE_PART_HEADER: usize = 14;

/// Encodes all subbands with a step.
pub(super) fn write(transformed: &Transformed, step: Step) -> Vec<u8> {
    let resolutions: Vec<Vec<Band>> = (0..=transformed.levels)
        .map(|resolution| Band::of_resolution(transformed, resolution, step))
        .collect();
    let mut out = Vec::with_capacity(transformed.size.iter().product::<usize>() / 2);
    write_main_header(transformed, &resolutions, &mut out);
    let mut encoder = BlockEncoder::default();
    for (resolution, bands) in resolutions.iter().enumerate() {
        let start = out.len();
        push16(&mut out, START_OF_TILE_PART);
        push16(&mut out, 10);
        push16(&mut out, 0);
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&[resolution as u8, resolutions.len() as u8]);
        push16(&mut out, START_OF_DATA);
        debug_assert_eq!(out.len(), start + TILE_PART_HEADER);
        for plane in &transformed.planes {
            let encoded = bands.iter().map(|band| band.encode(plane, transformed.size[0], &mut encoder));
            packet::write(&encoded.collect::<Vec<_>>(), &mut out);
        }
        let length = (out.len() - start) as u32;
        out[start + 6..start + 10].copy_from_slice(&length.to_be_bytes());
    }
    push16(&mut out, END_OF_CODESTREAM);
    out
}

fn write_main_header(transformed: &Transformed, resolutions: &[Vec<Band>], out: &mut Vec<u8>) {
    let components = transformed.planes.len();
    push16(out, START_OF_CODESTREAM);
    push16(out, SIZE);
    push16(out, 38 + 3 * components as u16);
    push16(out, NEEDS_CAPABILITIES);
    let [columns, rows] = transformed.size.map(|side| side as u32);
    for value in [columns, rows, 0, 0, columns, rows, 0, 0] {
        out.extend_from_slice(&value.to_be_bytes());
    }
    push16(out, components as u16);
    for _ in 0..components {
        let depth = (transformed.precision - 1) as u8 | u8::from(transformed.is_signed) << 7;
        out.extend_from_slice(&[depth, 1, 1]);
    }
    push16(out, CAPABILITIES);
    push16(out, 8);
    out.extend_from_slice(&PART_15.to_be_bytes());
    let planes = resolutions.iter().flatten().map(Band::bit_planes).max().unwrap_or(0);
    push16(out, IRREVERSIBLE | coded_planes(planes));
    push16(out, CODING_STYLE);
    push16(out, 12);
    out.extend_from_slice(&[0, RPCL, 0, 1, u8::from(components == 3), transformed.levels as u8]);
    let block = (BLOCK_SIDE.ilog2() - 2) as u8;
    // Transform 0 is 9/7.
    out.extend_from_slice(&[block, block, HIGH_THROUGHPUT, 0]);
    push16(out, QUANTISATION);
    let bands = || resolutions.iter().flatten();
    push16(out, 3 + 2 * bands().count() as u16);
    out.push((GUARD_BITS as u8) << 5 | STEP_OF_EACH_BAND);
    bands().for_each(|band| push16(out, band.coded_step()));
}

/// The bound on the bit planes of magnitudes as Ccap15 has it (ITU-T T.814, Table A.4).
fn coded_planes(planes: u32) -> u16 {
    match planes {
        0..=8 => 0,
        9..=27 => (planes - 8) as u16,
        28..=71 => (13 + planes / 4) as u16,
        _ => 31,
    }
}

fn push16(out: &mut Vec<u8>, value: u16) {
    out.extend_from_slice(&value.to_be_bytes());
}
