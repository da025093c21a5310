//! The marker segments of JPEG, JPEG-LS and JPEG 2000 images (ISO/IEC 10918-1 §B.1.1, 14495-1 §C.1,
//! 15444-1 §A.1): the one reader of them.

/// The marker of the start of a scan in JPEG and JPEG-LS (SOS).
pub const START_OF_SCAN: u8 = 0xDA;
/// The marker of the end of an image in JPEG and JPEG-LS (EOI).
pub const END_OF_IMAGE: u8 = 0xD9;

/// A marker segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MarkerSegment<'a> {
    /// The second byte of the marker; the first one is `FF`.
    pub marker: u8,
    /// The bytes after the length.
    pub content: &'a [u8],
    /// The whole segment, with its marker.
    pub bytes: &'a [u8],
    /// The offset of the byte after the segment, from the start of the image.
    pub end: usize,
}

/// Reads the segment at an offset, perhaps after fill bytes (`FF`); `None` if there is none, or if the image
/// ends within the segment.
pub fn segment_at(image: &[u8], mut at: usize) -> Option<MarkerSegment<'_>> {
    while image.get(at..at + 2)? == [0xFF, 0xFF] {
        at += 1;
    }
    let &[0xFF, marker, high, low] = image.get(at..)?.first_chunk()? else { return None };
    // A length counts itself; decoders read a smaller one as 2.
    let length = u16::from_be_bytes([high, low]).max(2);
    let end = at + 2 + usize::from(length);
    let bytes = image.get(at..end)?;
    Some(MarkerSegment { marker, content: &bytes[4..], bytes, end })
}

/// The marker segments of an image, after the marker that it starts with. Ends at the first bytes that are no
/// segment.
#[derive(Debug, Clone)]
pub struct MarkerSegments<'a> {
    image: &'a [u8],
    at: usize,
}

impl<'a> MarkerSegments<'a> {
    /// The segments of an image.
    pub fn of(image: &'a [u8]) -> Self {
        Self { image, at: 2 }
    }

    /// Passes over the data of a scan of JPEG, in which `FF` is followed by `00` or by a restart marker.
    pub fn pass_data(&mut self) {
        let image = self.image;
        while let Some(found) = memchr::memchr(0xFF, image.get(self.at..).unwrap_or_default()) {
            self.at += found;
            match image.get(self.at + 1) {
                Some(0x00 | 0x01 | 0xD0..=0xD8) => self.at += 2,
                Some(0xFF) => self.at += 1,
                _ => return,
            }
        }
        self.at = image.len();
    }
}

impl<'a> Iterator for MarkerSegments<'a> {
    type Item = MarkerSegment<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        let segment = segment_at(self.image, self.at)?;
        self.at = segment.end;
        Some(segment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_follow_each_other_also_after_fill_bytes() {
        let image = [
            &[0xFF, 0xD8][..],
            &[0xFF, 0xE0, 0, 4, 7, 8],
            &[0xFF, 0xFF, 0xFF, 0xC4, 0, 0],
            &[0xFF, START_OF_SCAN, 0, 3, 9],
            &[1, 0xFF, 0, 2, 0xFF, 0xD3, 3],
            &[0xFF, 0xC4, 0, 9, 1],
        ]
        .concat();
        let mut segments = MarkerSegments::of(&image);
        let mut next = || segments.next().map(|segment| (segment.marker, segment.content));
        assert_eq!(next(), Some((0xE0, &[7, 8][..])));
        assert_eq!(next(), Some((0xC4, &[][..])), "a length that does not count itself");
        assert_eq!(next(), Some((START_OF_SCAN, &[9][..])));
        assert_eq!(next(), None, "the data of a scan is no segment");
        segments.pass_data();
        assert_eq!(segments.next(), None, "the image ends in the segment");
        for length in 0..image.len() {
            let mut segments = MarkerSegments::of(&image[..length]);
            while segments.next().is_some() {
                segments.pass_data();
            }
        }
    }
}
