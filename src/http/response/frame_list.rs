//! Lists of frames as bodies. A list may name a frame any number of times, so that parts are made one by one
//! while they are sent, and nothing but its number is held for each.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use crate::archive::read::pass::ReadOrder;
use crate::archive::records::InstanceRecord;
use crate::archive::{Archive, Error as ArchiveError};
use crate::http::request::accept::Offer;
use crate::http::response::multipart as parts;

/// The heads of the parts with frames of an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FramePartHeads {
    boundary: String,
    essence: &'static str,
    transfer_syntax: Option<String>,
    /// The URL of the instance.
    url: String,
    /// Bytes of the first head and of the others, without the number of the frame.
    bytes: [u64; 2],
}

impl FramePartHeads {
    /// The heads of parts in a representation; `url` is that of the instance.
    pub(crate) fn new(offer: &Offer, boundary: String, url: String) -> Self {
        let Offer { essence, transfer_syntax, .. } = offer.clone();
        let mut heads = Self { boundary, essence, transfer_syntax, url, bytes: [0; 2] };
        heads.bytes = [true, false].map(|is_first| heads.head(is_first, 1).len() as u64 - 1);
        heads
    }

    /// The head of the part with frame `number` (from 1).
    pub(crate) fn head(&self, is_first: bool, number: u32) -> String {
        let Self { boundary, essence, transfer_syntax, url, .. } = self;
        let location = format!("{url}/frames/{number}");
        parts::located(boundary, is_first, essence, transfer_syntax.as_deref(), &location)
    }

    fn head_bytes(&self, is_first: bool, number: u32) -> u64 {
        self.bytes[usize::from(!is_first)] + u64::from(number.checked_ilog10().unwrap_or_default()) + 1
    }
}

/// Frames of an instance, one after the other, as they are stored: in parts, or their bytes alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FrameList {
    numbers: Arc<[u32]>,
    heads: Option<Arc<FramePartHeads>>,
    bytes: u64,
}

/// A piece of a list of frames.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum FramePiece {
    /// Bytes of the head of a part.
    Head(Bytes),
    /// A range of frame `.0` (from 1).
    Frame(u32, Range<u64>),
}

impl FrameList {
    /// Lists frames by their numbers (from 1). Without heads, there are no parts.
    ///
    /// # Errors
    /// [`ArchiveError::NotFound`] if there is no such frame, [`ArchiveError::TooLarge`] if too many bytes
    /// would be inflated to read the frames in this order.
    pub(crate) fn new(
        archive: &Archive,
        record: &InstanceRecord,
        numbers: &[u32],
        heads: Option<FramePartHeads>,
    ) -> Result<Self, ArchiveError> {
        let mut bytes = 0_u64;
        for (index, &number) in numbers.iter().enumerate() {
            let head_bytes = heads.as_ref().map_or(0, |heads| heads.head_bytes(index == 0, number));
            bytes = bytes.saturating_add(head_bytes + archive.frame(record, number)?.bytes);
        }
        archive.check_frames(record, numbers.iter().copied(), ReadOrder::InPasses)?;
        Ok(Self { numbers: numbers.into(), heads: heads.map(Arc::new), bytes })
    }

    /// Bytes of the list.
    pub(super) fn len(&self) -> u64 {
        self.bytes
    }

    /// The pieces of bytes `wanted` of the list; `frame_bytes` gives the length of a frame (from 1).
    pub(super) fn pieces(
        self,
        wanted: Range<u64>,
        frame_bytes: impl Fn(u32) -> u64,
    ) -> impl Iterator<Item = FramePiece> {
        let mut position = 0;
        (0..self.numbers.len()).flat_map(move |index| {
            let (number, is_first) = (self.numbers[index], index == 0);
            let head_bytes = self.heads.as_ref().map_or(0, |heads| heads.head_bytes(is_first, number));
            let (start, middle) = (position, position + head_bytes);
            position = middle + frame_bytes(number);
            let head = self.heads.as_ref().zip(part(&wanted, start..middle));
            let head = head.map(|(heads, part)| {
                let part = part.start as usize..part.end as usize;
                FramePiece::Head(Bytes::from(heads.head(is_first, number)).slice(part))
            });
            let frame = part(&wanted, middle..position).map(|part| FramePiece::Frame(number, part));
            head.into_iter().chain(frame)
        })
    }
}

/// The bytes of `range` that are wanted, from its start; `None` if there are none.
fn part(wanted: &Range<u64>, range: Range<u64>) -> Option<Range<u64>> {
    let (from, to) = (wanted.start.max(range.start), wanted.end.min(range.end));
    (from < to).then(|| from - range.start..to - range.start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_range_of_a_list_is_cut_from_its_heads_and_frames() {
        let offer =
            Offer { is_multipart: true, essence: "image/jls", transfer_syntax: None, is_default: true };
        let heads = FramePartHeads::new(&offer, "b".into(), "u".into());
        let numbers = [3, 12, 3, 100];
        let frame = |number: u32| vec![number as u8; number as usize % 7];
        let mut whole = Vec::new();
        for (index, number) in numbers.into_iter().enumerate() {
            let head = heads.head(index == 0, number);
            assert_eq!(heads.head_bytes(index == 0, number), head.len() as u64, "{number}");
            whole.extend_from_slice(head.as_bytes());
            whole.extend(frame(number));
        }
        let list =
            FrameList { numbers: numbers.into(), heads: Some(heads.into()), bytes: whole.len() as u64 };
        for from in (0..whole.len()).step_by(3) {
            for to in (from..=whole.len()).step_by(11) {
                let pieces = list.clone().pieces(from as u64..to as u64, |number| frame(number).len() as u64);
                let bytes = pieces.flat_map(|piece| match piece {
                    FramePiece::Head(head) => head.to_vec(),
                    FramePiece::Frame(number, part) => {
                        frame(number)[part.start as usize..part.end as usize].to_vec()
                    }
                });
                assert!(bytes.eq(whole[from..to].iter().copied()), "{from} {to}");
            }
        }
    }
}
