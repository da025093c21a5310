//! Metadata of any bytes, taken apart and written as DICOM: nothing may panic, and the cuts may not matter.
//!
//! The first byte of the input is the size of the pieces.

#![no_main]

use cuspid::dicom::split::{SplitObject, Splitter};
use cuspid::dicom::write::write;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((&size, text)) = input.split_first() else { return };
    let whole = objects(text, text.len());
    assert_eq!(whole, objects(text, size.into()), "the cuts mattered");
    for text in whole.0.into_iter().flatten() {
        if let Ok(json) = serde_json::from_slice(&text) {
            let _ = write(&json);
        }
    }
});

fn objects(text: &[u8], size: usize) -> (Vec<SplitObject>, bool) {
    let mut splitter = Splitter::new(10_000, 1000);
    let mut objects = Vec::new();
    for piece in text.chunks(size.max(1)) {
        splitter.push(piece);
        objects.extend(std::iter::from_fn(|| splitter.take_object()));
    }
    (objects, splitter.finish())
}
