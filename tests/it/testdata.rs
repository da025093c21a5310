//! The files of `testdata/`: their list, and that codestreams of other encoders are described and decoded.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use cuspid::dicom::codestream::describe;
use cuspid::dicom::frames::PixelLayout;
use cuspid::pixel::decode::{FrameEncoding, decode};

const MAX_BYTES: u64 = 16 * 1024;
const ROWS: u32 = 16;
const COLUMNS: u32 = 24;

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata")
}

/// A sample of `testdata/make.py`'s image.
fn gradient(row: u32, column: u32) -> i32 {
    (10 * row + 4 * column) as i32
}

#[test]
fn every_file_is_listed_and_small_and_every_listed_file_is_there() {
    let list = std::fs::read_to_string(directory().join("README.md")).unwrap();
    let rows = list.lines().filter_map(|line| line.strip_prefix("| `"));
    let listed: BTreeSet<String> = rows.map(|row| row.split('`').next().unwrap().to_owned()).collect();
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(directory()).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if name == "README.md" || name == "make.py" {
            continue;
        }
        assert!(entry.metadata().unwrap().len() <= MAX_BYTES, "{name}");
        found.insert(name);
    }
    assert_eq!(found, listed);
}

#[test]
fn codestreams_of_other_encoders_are_described_and_decoded() {
    for (name, transfer_syntax, bits, largest_difference) in [
        ("gradient-baseline.jpg", "1.2.840.10008.1.2.4.50", 8, 3),
        ("gradient-extended-12.jpg", "1.2.840.10008.1.2.4.51", 12, 16),
        ("gradient-lossless.jpg", "1.2.840.10008.1.2.4.70", 8, 0),
        ("gradient-lossless-16.jpg", "1.2.840.10008.1.2.4.57", 16, 0),
        ("gradient.jls", "1.2.840.10008.1.2.4.80", 8, 0),
        ("gradient.j2k", "1.2.840.10008.1.2.4.90", 8, 0),
        ("gradient.jp2", "1.2.840.10008.1.2.4.90", 8, 0),
    ] {
        let file = std::fs::read(directory().join(name)).unwrap();
        let found = describe(&file).unwrap();
        assert_eq!(
            (found.transfer_syntax, found.is_lossy),
            (transfer_syntax, largest_difference > 0),
            "{name}"
        );
        assert_eq!((found.rows, found.columns, found.samples), (ROWS, COLUMNS, 1), "{name}");
        assert_eq!(
            (found.bits_stored, found.is_signed, found.photometric),
            (bits, false, "MONOCHROME2"),
            "{name}"
        );
        let layout = PixelLayout {
            rows: ROWS,
            columns: COLUMNS,
            samples: 1,
            bits_allocated: bits.next_multiple_of(8),
            bits_stored: bits,
            high_bit: bits - 1,
            is_signed: false,
            photometric: found.photometric.to_owned(),
            is_planar: false,
            number_of_frames: 1,
        };
        let frame =
            decode(&file[found.offset..], &layout, FrameEncoding::Compressed(transfer_syntax)).unwrap();
        let expected = (0..ROWS).flat_map(|row| (0..COLUMNS).map(move |column| gradient(row, column)));
        let differences = frame
            .image
            .samples
            .iter()
            .zip(expected)
            .map(|(sample, wanted)| (sample - (wanted << (bits - 8))).abs());
        assert!(differences.max().unwrap() <= largest_difference, "{name}");
        assert_eq!(frame.image.samples.len(), (ROWS * COLUMNS) as usize, "{name}");
    }
}

/// Subsampled chrominance is that of the pixel pairs, or of the squares of four, of a red and a blue bar.
#[test]
fn subsampled_chrominance_of_jpeg_2000_becomes_that_of_every_pixel() {
    const SIDE: u32 = 16;
    for name in ["bars-422.j2k", "bars-420.j2k"] {
        let file = std::fs::read(directory().join(name)).unwrap();
        let found = describe(&file).unwrap();
        assert_eq!((found.photometric, found.is_photometric_proved), ("YBR_FULL_422", true), "{name}");
        let layout = PixelLayout {
            rows: SIDE,
            columns: SIDE,
            samples: 3,
            bits_allocated: 8,
            bits_stored: 8,
            high_bit: 7,
            is_signed: false,
            photometric: "RGB".to_owned(),
            is_planar: false,
            number_of_frames: 1,
        };
        let encoding = FrameEncoding::Compressed(found.transfer_syntax);
        let frame = decode(&file, &layout, encoding).unwrap();
        assert_eq!(frame.photometric, "YBR_FULL", "{name}");
        let pixels = frame.image.samples.as_chunks::<3>().0;
        assert_eq!(pixels.len(), (SIDE * SIDE) as usize);
        for (place, pixel) in pixels.iter().enumerate() {
            let bar = if place < pixels.len() / 2 { [82, 104, 212] } else { [66, 215, 95] };
            assert_eq!(pixel, &bar, "{name}: {place}");
        }
    }
}
