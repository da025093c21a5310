//! Counts the scans of a JPEG frame (ISO/IEC 10918-1 §B.2): each is a pass over the whole image, whatever its
//! size.

use crate::pixel::Error;

/// The most scans of a frame. Encoders write about ten in progressive mode, and one for each component in
/// others.
pub(super) const MAX_SCANS: usize = 100;

/// Refuses a frame with too many scans.
pub(super) fn check(frame: &[u8]) -> Result<(), Error> {
    let scans = Scans { frame, at: 2 }.take(MAX_SCANS + 1).count();
    if scans > MAX_SCANS {
        return Err(Error::Unsupported(format!("a JPEG frame of more than {MAX_SCANS} scans")));
    }
    Ok(())
}

/// The scans of a frame, up to its end or to damage.
struct Scans<'a> {
    frame: &'a [u8],
    at: usize,
}

impl Iterator for Scans<'_> {
    type Item = ();

    fn next(&mut self) -> Option<()> {
        loop {
            // In the data of a scan FF is followed by 00 or by a restart marker.
            let found = memchr::memchr(0xFF, self.frame.get(self.at..)?)?;
            self.at += found + 1;
            let marker = *self.frame.get(self.at)?;
            match marker {
                0x00 | 0x01 | 0xD0..=0xD8 => self.at += 1,
                0xFF => {}
                0xD9 => return None,
                marker => {
                    let length = *self.frame.get(self.at + 1..)?.first_chunk()?;
                    self.at += 1 + usize::from(u16::from_be_bytes(length).max(2));
                    if marker == 0xDA {
                        return Some(());
                    }
                }
            }
        }
    }
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
            assert_eq!(Scans { frame: &frame(count), at: 2 }.count(), count);
            check(&frame(count)).unwrap();
        }
        assert!(check(&frame(MAX_SCANS + 1)).unwrap_err().to_string().contains("scans"));
    }
}
