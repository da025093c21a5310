//! Multipart bodies of any bytes, arriving in pieces of any size: nothing may panic, and the cuts may not
//! matter.
//!
//! The first byte of the input is the size of the pieces, the rest is the body; its boundary is `B`.

#![no_main]

use bytes::Bytes;
use cuspid::http::request::multipart::{Error, Event, MultipartScanner};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((&size, body)) = input.split_first() else { return };
    assert_eq!(parts(body, body.len()), parts(body, size.into()), "the cuts mattered");
});

/// The content of the parts that are complete, and how reading ended.
fn parts(body: &[u8], size: usize) -> (Vec<Vec<u8>>, Option<String>) {
    let mut scanner = MultipartScanner::new("B");
    let (mut done, mut part) = (Vec::new(), Vec::new());
    for piece in body.chunks(size.max(1)) {
        scanner.push(Bytes::copy_from_slice(piece));
        loop {
            match scanner.event() {
                Ok(None) => break,
                Ok(Some(Event::Part(_))) => part.clear(),
                Ok(Some(Event::Bytes(bytes))) => part.extend_from_slice(&bytes),
                Ok(Some(Event::End)) => done.push(std::mem::take(&mut part)),
                Err(error) => return (done, Some(error.to_string())),
            }
        }
    }
    (done, scanner.finish().err().map(|error: Error| error.to_string()))
}
