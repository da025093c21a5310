//! Frames as they are stored.

use std::future::ready;
use std::ops::Range;

use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, TryStreamExt, stream};

use crate::archive::access::Caller;
use crate::archive::read::pass::InflatePass;
use crate::archive::{Archive, Error, keys};
use crate::blobs;
use crate::blobs::{ByteStream, Key};
use crate::dicom::frames::{FrameSpan, FrameTable, PixelLayout};
use crate::index::records::InstanceRecord;

/// The most bytes of a frame: the most samples that are decoded, uncompressed, at 32 bits.
pub(in crate::archive) const MAX_FRAME_BYTES: u64 = 4 << 26;

/// Bytes of the header of an item, and its tag (FFFE,E000).
const ITEM_HEADER: usize = 8;
const ITEM: [u8; 4] = [0xFE, 0xFF, 0x00, 0xE0];

/// A frame as it is stored.
pub(in crate::archive) struct StoredFrame {
    pub(in crate::archive) bytes: Vec<u8>,
    pub(in crate::archive) layout: PixelLayout,
    /// Of a native frame: the bit of the first byte that it starts at. The words of native frames are in
    /// little endian, in whatever order they are stored.
    pub(in crate::archive) first_bit: Option<u32>,
    pub(in crate::archive) transfer_syntax: String,
}

impl StoredFrame {
    /// The bytes, if they are native words and start with a byte.
    pub(in crate::archive) fn little_endian(&self) -> Option<&[u8]> {
        (self.first_bit == Some(0)).then_some(&self.bytes)
    }
}

/// Reads frame `number` (from 1) as it is stored, but native words in little endian.
pub(in crate::archive) async fn stored_frame(
    archive: &Archive,
    caller: &Caller,
    record: &InstanceRecord,
    number: u32,
) -> Result<StoredFrame, Error> {
    let size = archive.frame(record, number)?.bytes;
    let layout = record.layout.pixels.clone().filter(|_| size <= MAX_FRAME_BYTES);
    let layout =
        layout.ok_or_else(|| Error::TooLarge(format!("frame {number} of {size} bytes is too large")))?;
    // All of it lies in the object, which the layout was found in.
    let mut bytes = Vec::with_capacity(size as usize);
    let mut chunks = archive.read_frame(caller, record, number, 0..size).await?;
    while let Some(chunk) = chunks.try_next().await? {
        bytes.extend_from_slice(&chunk);
    }
    let first_bit = match record.layout.frames {
        FrameTable::Native { frame_bits, .. } => Some((u64::from(number - 1) * frame_bits % 8) as u32),
        FrameTable::None | FrameTable::Encapsulated { .. } => None,
    };
    Ok(StoredFrame { bytes, layout, first_bit, transfer_syntax: record.transfer_syntax.clone() })
}

impl Archive {
    /// Reads bytes `part` of frame `number` (from 1) by one read of the object: native words in little
    /// endian, fragments joined.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no such frame. The stream ends with [`blobs::Error::Damaged`] if the
    /// fragments are not where they were.
    pub async fn read_frame(
        &self,
        caller: &Caller,
        record: &InstanceRecord,
        number: u32,
        part: Range<u64>,
    ) -> Result<ByteStream, Error> {
        self.read_frame_on(caller, record, number, part, &InflatePass::default()).await
    }

    /// Reads bytes of a frame as [`Archive::read_frame`] does, as part of a pass over the object.
    ///
    /// # Errors
    /// As [`Archive::read_frame`].
    pub async fn read_frame_on(
        &self,
        caller: &Caller,
        record: &InstanceRecord,
        number: u32,
        part: Range<u64>,
        pass: &InflatePass,
    ) -> Result<ByteStream, Error> {
        let FrameSpan { range, .. } = self.frame(record, number)?;
        if let FrameTable::Encapsulated { .. } = record.layout.frames {
            let Some((range, first)) = record.layout.frames.part(number - 1, part) else {
                return Ok(stream::empty().boxed());
            };
            let object = self.read_object(caller, record, range).await?;
            return Ok(joined(object, first, keys::original_of(&caller.tenant, record)));
        }
        self.read_value_on(caller, record, range.start + part.start..range.start + part.end, pass).await
    }
}

/// Leaves the headers of items out of fragments that follow each other; the first header comes after `first`
/// bytes.
fn joined(object: ByteStream, first: u64, key: Key) -> ByteStream {
    let mut joiner = FragmentJoiner { left: first, header: Vec::with_capacity(ITEM_HEADER) };
    let parts =
        object.map(move |chunk| joiner.join(chunk?).ok_or_else(|| blobs::Error::Damaged(key.clone())));
    parts.try_filter(|part| ready(!part.is_empty())).boxed()
}

/// Joins fragments that come in chunks.
struct FragmentJoiner {
    /// Bytes of the current fragment that are still to come.
    left: u64,
    /// The part of the next header that has come.
    header: Vec<u8>,
}

impl FragmentJoiner {
    /// The bytes of fragments in the next chunk; `None` if the header of an item is missing.
    fn join(&mut self, mut chunk: Bytes) -> Option<Bytes> {
        if chunk.len() as u64 <= self.left {
            self.left -= chunk.len() as u64;
            return Some(chunk);
        }
        let mut joined = BytesMut::with_capacity(chunk.len());
        while !chunk.is_empty() {
            let part = self.left.min(chunk.len() as u64);
            joined.extend_from_slice(&chunk.split_to(part as usize));
            self.left -= part;
            if self.left == 0 {
                let missing = ITEM_HEADER - self.header.len();
                self.header.extend_from_slice(&chunk.split_to(missing.min(chunk.len())));
            }
            if let Some((tag, length)) = self.header.split_first_chunk()
                && let Ok(length) = length.try_into()
            {
                if *tag != ITEM {
                    return None;
                }
                self.left = u32::from_le_bytes(length).into();
                self.header.clear();
            }
        }
        Some(joined.freeze())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn fragments_are_joined_however_the_object_is_cut() {
        let fragments: [&[u8]; 5] = [b"abc", b"", b"defgh", b"", b"i"];
        let item = |bytes: &&[u8]| [&ITEM, &(bytes.len() as u32).to_le_bytes(), *bytes].concat();
        let object = fragments.iter().flat_map(item).skip(ITEM_HEADER).collect::<Vec<u8>>();
        let key = Key { bucket: blobs::Bucket::Originals, path: "a".into() };
        for size in 1..=object.len() {
            let chunks: Vec<_> = object.chunks(size).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
            let parts = joined(stream::iter(chunks).boxed(), 3, key.clone());
            assert_eq!(parts.try_collect::<Vec<_>>().await.unwrap().concat(), b"abcdefghi", "{size}");
        }
        let other = stream::iter([Ok(Bytes::from_static(b"abc\xFE\xFF\0\0\x01\0\0\0d"))]).boxed();
        let damaged = joined(other, 3, key).try_collect::<Vec<_>>().await;
        assert!(matches!(damaged, Err(blobs::Error::Damaged(_))));
    }
}
