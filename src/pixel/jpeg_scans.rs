//! Counts the scans of a JPEG frame (ISO/IEC 10918-1 §B.2): each is a pass over the whole image, whatever its
//! size.

use std::iter;

use crate::dicom::marker_segments::{END_OF_IMAGE, MarkerSegments, START_OF_SCAN};
use crate::pixel::Error;

/// The most scans of a frame. Encoders write about ten in progressive mode, and one for each component in
/// others.
pub(super) const MAX_SCANS: usize = 100;

/// Refuses a frame with too many scans.
pub(super) fn check(frame: &[u8]) -> Result<(), Error> {
    if scans(frame).take(MAX_SCANS + 1).count() > MAX_SCANS {
        return Err(Error::Unsupported(format!("a JPEG frame of more than {MAX_SCANS} scans")));
    }
    Ok(())
}

/// The scans of a frame, up to its end or to damage.
fn scans(frame: &[u8]) -> impl Iterator<Item = ()> {
    let mut segments = MarkerSegments::of(frame);
    let markers = iter::from_fn(move || {
        // Bytes between segments are passed over, as decoders pass over them.
        segments.pass_data();
        segments.next().map(|segment| segment.marker)
    });
    markers.take_while(|&marker| marker != END_OF_IMAGE).filter(|&marker| marker == START_OF_SCAN).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame with this number of scans, and a segment with a thumbnail in it.
    fn frame(scans: usize) -> Vec<u8> {
        let thumbnail = [0xFF, 0xE1, 0, 8, 0xFF, 0xDA, 0, 4, 0, 0];
        let scan = [0xFF, 0xDA, 0, 4, 1, 0, 7, 0xFF, 0, 9, 0xFF, 0xD0, 5];
        [&[0xFF, 0xD8], &thumbnail[..], &scan.repeat(scans), &[0xFF, 0xD9], &scan].concat()
    }

    #[test]
    fn scans_are_counted_and_their_number_is_limited() {
        for count in [0, 1, 10, MAX_SCANS] {
            assert_eq!(scans(&frame(count)).count(), count);
            check(&frame(count)).unwrap();
        }
        assert!(check(&frame(MAX_SCANS + 1)).unwrap_err().to_string().contains("scans"));
    }
}
