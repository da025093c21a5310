//! Native DICOM Model documents of any bytes: nothing may panic, and what is read can be written.

#![no_main]

use cuspid::dicom::xml;
use libfuzzer_sys::fuzz_target;

/// The default of `ingest.max_metadata_elements`.
const MAX_ELEMENTS: usize = 200_000;

fuzz_target!(|input: &[u8]| {
    if let Ok(data_set) = xml::read(input, 64, MAX_ELEMENTS) {
        let mut document = Vec::new();
        xml::write(&data_set, &mut document);
        let _ = xml::read(&document, 64, MAX_ELEMENTS);
    }
});
