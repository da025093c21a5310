//! Prints the DICOM JSON metadata of each file named, one a line, or the reason why it is refused.
//! `tools/pydicom_metadata.py` compares it with pydicom's.

use std::io::{BufRead, Write};

use cuspid::dicom::instance;
use cuspid::dicom::scan::{ScanLimits, Scanner};

fn main() -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    for path in std::io::stdin().lock().lines() {
        let bytes = std::fs::read(path?)?;
        match metadata(&bytes) {
            Ok(text) => out.write_all(&text)?,
            Err(reason) => write!(out, "{}", serde_json::json!({ "refused": reason }))?,
        }
        out.write_all(b"\n")?;
    }
    Ok(())
}

fn metadata(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let limits = ScanLimits {
        max_header_bytes: 16 << 20,
        max_sequence_depth: 64,
        max_elements: 1_000_000,
        max_inflated_bytes: 1 << 30,
        max_deflate_ratio: 1000,
    };
    let mut scanner = Scanner::new(limits);
    scanner.push(bytes).map_err(|failure| failure.to_string())?;
    let outline = scanner.finish().map_err(|failure| failure.to_string())?;
    let instance = instance::read(&outline, &[]).map_err(|failure| failure.to_string())?;
    let mut text = Vec::new();
    instance.metadata.write_text("", &mut text).map_err(|error| error.to_string())?;
    Ok(text)
}
