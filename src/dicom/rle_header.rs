//! The header of a frame in RLE Lossless (PS3.5 §G.5).

/// Bytes of the header.
pub const RLE_HEADER_BYTES: usize = 64;
/// The segments that the header has room for.
pub const MAX_RLE_SEGMENTS: usize = 15;

/// The header of a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RleHeader {
    /// The offset of each segment, from the start of the frame; there are 1 to [`MAX_RLE_SEGMENTS`].
    pub offsets: Vec<usize>,
}

impl RleHeader {
    /// Reads the header at the start of a frame; `None` if the frame has none.
    pub fn read(frame: &[u8]) -> Option<Self> {
        let (words, _) = frame.get(..RLE_HEADER_BYTES)?.as_chunks();
        let word = |word: &[u8; 4]| usize::try_from(u32::from_le_bytes(*word)).unwrap_or(usize::MAX);
        let (count, offsets) = words.split_first()?;
        let used = offsets.get(..word(count)).filter(|used| !used.is_empty())?;
        Some(Self { offsets: used.iter().map(word).collect() })
    }
}

/// The number of segments of a frame, which has one for each byte of each sample (PS3.5 §G.2); `None` if it
/// does not begin with a header whose segments follow it one after the other.
pub fn segments(head: &[u8]) -> Option<u16> {
    let RleHeader { offsets } = RleHeader::read(head)?;
    let is_in_order = offsets[0] == RLE_HEADER_BYTES && offsets.is_sorted_by(|a, b| a < b);
    is_in_order.then_some(offsets.len() as u16)
}

/// Whether a fragment begins as a frame begins, as far as its first 8 bytes say.
pub fn may_start(fragment: &[u8]) -> bool {
    matches!(fragment.first_chunk(), Some([1..=15, 0, 0, 0, 64, 0, 0, 0]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_proves_the_number_of_its_segments() {
        let header = |words: &[u32]| {
            let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
            bytes.resize(RLE_HEADER_BYTES, 0);
            bytes
        };
        for (words, read, proved) in [
            (&[1, 64][..], Some(1), Some(1)),
            (&[3, 64, 70, 90], Some(3), Some(3)),
            (&[3, 64, 70, 70], Some(3), None),
            (&[2, 63, 70], Some(2), None),
            (&[0, 64], None, None),
            (&[16, 64], None, None),
            (&[u32::MAX, 64], None, None),
        ] {
            let header = header(words);
            assert_eq!(RleHeader::read(&header).map(|header| header.offsets.len()), read, "{words:?}");
            assert_eq!(segments(&header), proved, "{words:?}");
            assert_eq!(may_start(&header), words[0] < 16 && words[0] > 0 && words[1] == 64, "{words:?}");
        }
        assert_eq!(segments(&header(&[1, 64])[..63]), None);
    }
}
