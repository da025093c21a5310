//! Objects of any bytes, arriving in pieces of any size: nothing may panic, and the cuts may not matter.
//!
//! The first byte of the input is the size of the pieces, the rest is the object.

#![no_main]

use cuspid::dicom::derived;
use cuspid::dicom::explicit;
use cuspid::dicom::explicit::{FrameOutput, OffsetTableSpace, Rewrite};
use cuspid::dicom::failure::Failure;
use cuspid::dicom::instance;
use cuspid::dicom::scan::{Outline, ScanLimits, Scanner};
use cuspid::dicom::transfer_syntax::EXPLICIT_VR_LITTLE_ENDIAN;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((&size, object)) = input.split_first() else { return };
    let at_once = scan(object, object.len());
    assert_eq!(at_once, scan(object, size.into()), "the cuts mattered");
    if let Ok(outline) = at_once {
        assert!(outline.head.len() <= object.len().max(MAX_INFLATED_BYTES as usize), "bytes out of nowhere");
        let tables = [OffsetTableSpace::Basic(4), OffsetTableSpace::Extended(8)].map(FrameOutput::Encapsulated);
        for frames in tables.into_iter().chain([FrameOutput::Stored]) {
            let transfer_syntax = EXPLICIT_VR_LITTLE_ENDIAN;
            let changes = derived::elements(&outline, "2.25.1", "ISO_10918_1", "fuzzed");
            let _ = explicit::plan(&outline, &Rewrite { transfer_syntax, changes, frames });
        }
        let _ = instance::read(&outline, &[]);
    }
});

const MAX_INFLATED_BYTES: u64 = 1 << 20;

fn scan(object: &[u8], size: usize) -> Result<Outline, Failure> {
    let mut scanner = Scanner::new(ScanLimits {
        max_header_bytes: 1 << 20,
        max_sequence_depth: 16,
        max_elements: 10_000,
        max_inflated_bytes: MAX_INFLATED_BYTES,
        // Whether a ratio is passed depends on when it is taken.
        max_deflate_ratio: u64::MAX,
    });
    for piece in object.chunks(size.max(1)) {
        scanner.push(piece)?;
    }
    scanner.finish()
}
