//! Zip archives of any bytes: nothing may panic, and no more may come out than the limits allow.

#![no_main]

use std::io::Cursor;

use cuspid::zip::reader::{ZipLimits, unpack};
use libfuzzer_sys::fuzz_target;

const LIMITS: ZipLimits = ZipLimits { max_entries: 100, max_bytes: 1 << 20 };

fuzz_target!(|input: &[u8]| {
    let (mut entries, mut bytes) = (0, 0);
    let _ = unpack(Cursor::new(input), &LIMITS, &mut |_, content| {
        entries += 1;
        let mut buffer = [0; 4096];
        if let Ok(content) = content {
            while let Ok(read @ 1..) = content.read(&mut buffer) {
                bytes += read as u64;
            }
        }
        Ok(())
    });
    assert!(entries <= LIMITS.max_entries && bytes <= LIMITS.max_bytes, "{entries} entries, {bytes} bytes");
});
