//! Giving what is derived from the originals: decoded frames, and previews that were made before.

use std::ops::Range;

use bytes::Bytes;
use futures_util::TryStreamExt;

use crate::archive::access::Caller;
use crate::archive::derived::preview::slices;
use crate::archive::{Archive, Error, keys, run_blocking};
use crate::blobs;
use crate::blobs::{ByteStream, Key};
use crate::decoders::PackedFrame;
use crate::dicom::frames::{FrameTable, PixelLayout};
use crate::dicom::uid::{SeriesUid, StudyUid};
use crate::index::records::{InstanceRecord, PreviewState};
use crate::pixel;
use crate::pixel::decode::{Decoded, FrameEncoding};
use crate::pixel::{MAX_SAMPLES, decode};

/// The most bytes that are read to decode one frame: the largest, uncompressed, at 32 bits.
const MAX_FRAME_BYTES: u64 = 4 * MAX_SAMPLES as u64;

/// A frame as native Pixel Data of Explicit VR Little Endian.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecodedFrame {
    /// rows × columns × samples words of Bits Allocated.
    pub bytes: Vec<u8>,
    /// The Photometric Interpretation (0028,0004) that the bytes have.
    pub photometric: String,
    /// Whether the bytes have Planar Configuration (0028,0006) 1.
    pub is_planar: bool,
}

/// A preview, or a part of its slices, in the fast stream's format: always the same bytes.
#[derive(Debug, Clone)]
pub struct PreviewStream {
    /// Changes whenever the bytes do. Opaque, without quotation marks.
    pub version: String,
    head: Bytes,
    key: Key,
    codestreams: Range<u64>,
}

impl PreviewStream {
    /// Bytes of the stream.
    pub fn length(&self) -> u64 {
        self.head.len() as u64 + self.codestreams.end - self.codestreams.start
    }
}

impl Archive {
    /// Frame `number` (from 1), decoded. A native frame in little endian is given as it is stored.
    ///
    /// Holds the frame in memory, several times over while it is being decoded, which is done for as many frames at a
    /// time as there are cores.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no such frame, an error about the form with the reason if it cannot be decoded
    /// ([`Error::is_about_form`]).
    pub async fn decoded_frame(
        &self,
        caller: &Caller,
        record: &InstanceRecord,
        number: u32,
    ) -> Result<DecodedFrame, Error> {
        let (permit, frame) = self.frame_for_work(caller, record, number).await?;
        if frame.stored() == (FrameEncoding::Native { is_big_endian: false, first_bit: 0 }) {
            let PixelLayout { photometric, is_planar, .. } = frame.layout;
            return Ok(DecodedFrame { bytes: frame.bytes, photometric, is_planar });
        }
        let decoded = run_blocking(Some(permit), move || {
            let Decoded { image, photometric } = frame.decode()?;
            let bytes = decode::native_bytes(&image, frame.layout.bits_allocated);
            Ok::<_, pixel::Error>(DecodedFrame { bytes, photometric, is_planar: false })
        });
        Ok(decoded.await??)
    }

    /// The preview of a series, or slices `slices` of it (from 0), to be read by [`Archive::read_preview`].
    ///
    /// # Errors
    /// [`Error::NotReady`] if it is still to be made, [`Error::NotFound`] if there is no such series or slice, if
    /// nothing in the series can be shown, or with the reason if the preview could not be made.
    pub async fn preview(
        &self,
        caller: &Caller,
        study: &StudyUid,
        series: &SeriesUid,
        slices: Option<Range<u32>>,
    ) -> Result<PreviewStream, Error> {
        let (generation, size_bytes) = match self.series(caller, study, series).await?.preview {
            PreviewState::Ready { generation, size_bytes } => (generation, size_bytes),
            PreviewState::Pending { .. } => {
                return Err(Error::NotReady(format!("the preview of series {series} is still being made")));
            }
            PreviewState::Failed { reason, .. } => {
                return Err(Error::NotFound(format!("preview of series {series}: {reason}")));
            }
            PreviewState::None => {
                return Err(Error::NotFound(format!(
                    "preview of series {series}: nothing in it can be shown"
                )));
            }
        };
        let key = keys::preview(&caller.tenant, study, series, generation);
        let (index, index_start) = self.preview_index(&key, size_bytes).await?;
        let version = format!("{generation}-{size_bytes}");
        let Some(slices) = slices else {
            let head = index.head().into();
            return Ok(PreviewStream { version, head, key, codestreams: 0..index_start });
        };
        let version = format!("{version}-{}-{}", slices.start, slices.end);
        let count = index.number_of_slices;
        let (part, codestreams) = index.part(slices.clone()).ok_or_else(|| {
            Error::NotFound(format!("slices {slices:?} in series {series}, which has {count}"))
        })?;
        Ok(PreviewStream { version, head: part.head().into(), key, codestreams })
    }

    /// Bytes `range` of a preview's stream, which must lie inside.
    ///
    /// # Errors
    /// [`Error::NotReady`] if the series has changed meanwhile: asked for again, there is another preview.
    pub async fn read_preview(
        &self,
        preview: &PreviewStream,
        range: Range<u64>,
    ) -> Result<ByteStream, Error> {
        let head_bytes = preview.head.len() as u64;
        let from_head = range.start.min(head_bytes)..range.end.min(head_bytes);
        let head = preview.head.slice(from_head.start as usize..from_head.end as usize);
        let start = preview.codestreams.start + range.start.saturating_sub(head_bytes);
        let end = preview.codestreams.start + range.end.saturating_sub(head_bytes);
        let head = futures_util::stream::iter((!head.is_empty()).then_some(Ok(head)));
        let rest = self.blobs.read(&preview.key, start..end).await.map_err(|error| match error {
            blobs::Error::NotFound(_) => {
                Error::NotReady("another preview takes the place of this one".into())
            }
            error => error.into(),
        })?;
        Ok(Box::pin(futures_util::StreamExt::chain(head, rest)))
    }

    /// The index of a stored preview, and where it starts: after the codestreams.
    async fn preview_index(&self, key: &Key, size_bytes: u64) -> Result<(slices::Index, u64), Error> {
        let damaged = || {
            let source = std::io::Error::from(std::io::ErrorKind::InvalidData).into();
            Error::Blobs(blobs::Error::Backend { operation: format!("read the index of {key}"), source })
        };
        let end = size_bytes.checked_sub(slices::HEADER_BYTES as u64).ok_or_else(damaged)?;
        let header = collect(self.blobs.read(key, end..size_bytes).await?).await?;
        let index_bytes = slices::index_bytes(&header).ok_or_else(damaged)?;
        let start = end.checked_sub(index_bytes).ok_or_else(damaged)?;
        let text = collect(self.blobs.read(key, start..end).await?).await?;
        Ok((serde_json::from_slice(&text).map_err(|_| damaged())?, start))
    }

    /// Reads frame `number` (from 1) as it is stored.
    pub(in crate::archive) async fn stored_frame(
        &self,
        caller: &Caller,
        record: &InstanceRecord,
        number: u32,
    ) -> Result<StoredFrame, Error> {
        let mut ranges = self.frame(record, number)?;
        let pixels = record.layout.pixels.as_ref();
        if let (FrameTable::Native { is_big_endian: true, .. }, Some(8), [range]) =
            (&record.layout.frames, pixels.map(|pixels| pixels.bits_allocated), &mut ranges[..])
        {
            // The last of an odd number of bytes stands in a word with the padding.
            range.end += (range.end - range.start) % 2;
        }
        let size: u64 = ranges.iter().map(|range| range.end - range.start).sum();
        let layout = record.layout.pixels.clone().filter(|_| size <= MAX_FRAME_BYTES);
        let layout =
            layout.ok_or_else(|| Error::TooLarge(format!("frame {number} of {size} bytes is too large")))?;
        // All of it lies in the object, which the layout was found in.
        let mut bytes = Vec::with_capacity(size as usize);
        for range in ranges {
            let mut chunks = self.read(caller, record, range).await?;
            while let Some(chunk) = chunks.try_next().await? {
                bytes.extend_from_slice(&chunk);
            }
        }
        let native = match record.layout.frames {
            FrameTable::Native { is_big_endian, frame_bits, .. } => {
                let first_bit = (u64::from(number - 1) * frame_bits % 8) as u32;
                Some((is_big_endian, first_bit))
            }
            FrameTable::None | FrameTable::Encapsulated { .. } => None,
        };
        let transfer_syntax = record.transfer_syntax.clone();
        Ok(StoredFrame { bytes, layout, native, transfer_syntax, packed: None })
    }
}

/// A frame as it is stored.
pub(in crate::archive) struct StoredFrame {
    /// Nothing if a process has decoded the frame.
    pub(super) bytes: Vec<u8>,
    pub(in crate::archive) layout: PixelLayout,
    /// Of a native frame: whether its words are big endian, and the bit of the first byte that it starts at.
    native: Option<(bool, u32)>,
    pub(super) transfer_syntax: String,
    /// The samples, if a process has decoded the frame.
    pub(super) packed: Option<PackedFrame>,
}

impl StoredFrame {
    fn stored(&self) -> FrameEncoding<'_> {
        match self.native {
            Some((is_big_endian, first_bit)) => FrameEncoding::Native { is_big_endian, first_bit },
            None => FrameEncoding::Compressed(&self.transfer_syntax),
        }
    }

    /// Its bytes, if they are native words in little endian.
    pub(in crate::archive) fn little_endian(&self) -> Option<&[u8]> {
        (self.native == Some((false, 0))).then_some(&self.bytes)
    }

    /// Decodes it. Takes a core for a while: call it on a thread that may block.
    pub(in crate::archive) fn decode(&self) -> Result<Decoded, pixel::Error> {
        match &self.packed {
            Some(packed) => Ok(packed.unpack()),
            None => decode::decode(&self.bytes, &self.layout, self.stored()),
        }
    }
}

/// All bytes of a range that is known to be small.
pub(in crate::archive) async fn collect(stream: ByteStream) -> Result<Vec<u8>, blobs::Error> {
    stream
        .try_fold(Vec::new(), |mut all, chunk| async move {
            all.extend_from_slice(&chunk);
            Ok(all)
        })
        .await
}
