//! Transcoding: instances and frames in transfer syntaxes other than the stored one (PS3.18 §8.7.3).
//!
//! The offsets of the frames stand in the file before the first frame, and the length of a deflated file is
//! known only at its end. Such a file is therefore written as a whole, a frame at a time, and cached. Other
//! requests for the same file wait meanwhile.

use std::ops::Range;
use std::sync::Arc;

use crate::archive::access::Caller;
use crate::archive::blocking::catch_panics;
use crate::archive::derived::cache;
use crate::archive::derived::decoding::frame_for_work;
use crate::archive::derived::explicit_vr::Source;
use crate::archive::read::collect;
use crate::archive::scope::Scope;
use crate::archive::{Archive, Error, keys, run_blocking};
use crate::blobs;
use crate::blobs::{ByteStream, Key};
use crate::dicom::frames::FrameTable;
use crate::dicom::transfer_syntax;
use crate::index::records::InstanceRecord;
use crate::pixel::decode::{decoded_layout, is_decodable};
use crate::pixel::transcode::Encoded;

mod make;
mod offsets;

pub use crate::pixel::transcode::{Codec, REVISION};

/// Bytes of the header of a fragment.
const ITEM_HEADER: u64 = 8;

/// The most frames of an instance that is encoded: each costs a read and some records of its own.
const MAX_ENCODED_FRAMES: u32 = 1 << 20;
/// The most bytes that are inflated to encode a deflated instance: for each frame, all bytes before the frame
/// are inflated.
const MAX_INFLATED_BYTES: u64 = 16 << 30;

/// An encoding that an instance can be transcoded to, besides Explicit VR Little Endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// Compressed frames.
    Compressed(Codec),
    /// Deflated Explicit VR Little Endian.
    Deflated,
}

impl Encoding {
    /// The UID of the transfer syntax.
    pub fn transfer_syntax(self) -> &'static str {
        match self {
            Self::Compressed(codec) => codec.transfer_syntax(),
            Self::Deflated => transfer_syntax::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
        }
    }
}

/// A transcoded file in the cache, to be read by [`read_transcoded`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TranscodedFile {
    key: Key,
    /// Bytes of the file.
    pub size_bytes: u64,
}

/// The codecs that the frames of an instance can be encoded with, besides the stored one: lossless codecs
/// first, those first that cost least. An error in decoding a single frame shows only when the frame is
/// transcoded.
pub fn codecs(record: &InstanceRecord) -> Vec<Codec> {
    let pixels = record.layout.pixels.as_ref();
    let Some(pixels) = pixels.filter(|_| is_readable(record) && is_affordable(record)) else {
        return Vec::new();
    };
    let is_stored = |codec: &Codec| codec.transfer_syntax() == record.transfer_syntax;
    let decoded = decoded_layout(pixels, &record.transfer_syntax);
    Codec::ALL.into_iter().filter(|codec| !is_stored(codec) && codec.can_carry(&decoded)).collect()
}

/// The encodings that an instance can be transcoded to, besides the stored one and Explicit VR Little Endian.
pub fn encodings(record: &InstanceRecord) -> Vec<Encoding> {
    let codecs = codecs(record).into_iter().map(Encoding::Compressed);
    let is_native = !matches!(record.layout.frames, FrameTable::Encapsulated { .. });
    let can_be_deflated = record.transfer_syntax != transfer_syntax::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN
        && (is_native || is_readable(record));
    codecs.chain(can_be_deflated.then_some(Encoding::Deflated)).collect()
}

/// Whether there is a codec to decode the frames. No codec encodes floating point numbers.
fn is_readable(record: &InstanceRecord) -> bool {
    match record.layout.frames {
        FrameTable::None => false,
        FrameTable::Native { .. } => !has_float_pixels(record),
        FrameTable::Encapsulated { .. } => is_decodable(&record.transfer_syntax),
    }
}

/// Whether all frames can be read one by one in bounded time and memory. The bound matters because
/// transcoding continues after the client has disconnected.
fn is_affordable(record: &InstanceRecord) -> bool {
    let frames = record.layout.pixels.as_ref().map_or(0, |pixels| pixels.number_of_frames);
    frames <= MAX_ENCODED_FRAMES
        && (!transfer_syntax::is_deflated(&record.transfer_syntax)
            || bytes_to_inflate(&record.layout.frames, frames) <= MAX_INFLATED_BYTES)
}

/// Bytes that are inflated to read each frame of a deflated instance by itself.
fn bytes_to_inflate(frames: &FrameTable, number_of_frames: u32) -> u64 {
    let last = frames.ranges(frames.count().saturating_sub(1));
    let end = last.last().map_or(0, |range| range.end);
    (end / 2).saturating_mul(number_of_frames.into())
}

/// Whether the pixels of an instance are floating point numbers (PS3.3 §C.7.6.24, §C.7.6.25).
pub(in crate::archive) fn has_float_pixels(record: &InstanceRecord) -> bool {
    let is_float = |path: &str| matches!(path, "7FE00008" | "7FE00009");
    record.layout.bulk.iter().any(|value| is_float(&value.path))
}

/// Returns frame `number` (from 1), encoded by `codec`, which must be among [`codecs`]. The frame is read
/// from the transcoded instance if this is in the cache, and encoded otherwise.
///
/// Holds the frame in memory, several times over while encoding. The number of frames that are encoded at the
/// same time is limited to the number of cores.
///
/// # Errors
/// [`Error::NotFound`] if there is no such frame, an error about the form with the reason if the frame cannot
/// be decoded or encoded ([`Error::is_about_form`]).
pub async fn encoded_frame(
    archive: &Archive,
    caller: &Caller,
    record: &InstanceRecord,
    number: u32,
    codec: Codec,
) -> Result<Vec<u8>, Error> {
    archive.frame(record, number)?;
    let key = keys::transcoded(&caller.tenant, record, codec.transfer_syntax(), REVISION);
    if let Some(table_at) = archive.cache.frame_table(&key)
        && let Some(frame) = kept_frame(archive, &key, table_at, record, number).await
    {
        return Ok(frame);
    }
    Ok(encode_frame(archive, caller, record, number, codec).await?.bytes)
}

/// Reads a frame of a transcoded instance in the cache; `None` if the instance was evicted.
async fn kept_frame(
    archive: &Archive,
    key: &Key,
    table_at: u64,
    record: &InstanceRecord,
    number: u32,
) -> Option<Vec<u8>> {
    let read =
        async |start, length: u64| collect(archive.blobs.read(key, start..start + length).await?).await;
    let frames = u64::from(record.layout.pixels.as_ref()?.number_of_frames);
    let offset = read(table_at + 4 * u64::from(number - 1), 4).await.ok()?;
    let offset = u64::from(u32::from_le_bytes(*offset.first_chunk()?));
    let fragment = table_at + 4 * frames + offset;
    let header = read(fragment, ITEM_HEADER).await.ok()?;
    let length = u32::from_le_bytes(*header.last_chunk()?);
    read(fragment + ITEM_HEADER, length.into()).await.ok()
}

/// Decodes frame `number` (from 1) and encodes it.
async fn encode_frame(
    archive: &Archive,
    caller: &Caller,
    record: &InstanceRecord,
    number: u32,
    codec: Codec,
) -> Result<Encoded, Error> {
    let (permit, frame) = frame_for_work(archive, caller, record, number).await?;
    let encoded = run_blocking(Some(permit), move || codec.encode(frame.decode()?, frame.layout()));
    encoded.await?.map_err(|error| Error::from(error).context(&format!("frame {number}")))
}

/// Returns an instance in another transfer syntax, one of its [`encodings`]. The instance is transcoded if it
/// is not in the cache.
///
/// # Errors
/// An error about the form ([`Error::is_about_form`]) with the reason if the instance cannot be transcoded.
pub async fn transcoded(
    archive: &Arc<Archive>,
    caller: &Caller,
    record: &InstanceRecord,
    encoding: Encoding,
) -> Result<TranscodedFile, Error> {
    let key = keys::transcoded(&caller.tenant, record, encoding.transfer_syntax(), REVISION);
    if let Some(size_bytes) = cache::find(archive, &key).await? {
        return Ok(TranscodedFile { key, size_bytes });
    }
    let source =
        Source { archive: archive.clone(), caller: caller.clone(), record: Arc::new(record.clone()) };
    // Transcoding runs to its end even if the client disconnects: the file is then in the cache for the
    // client's next request. If the client disconnects before there is a permit, transcoding does not start.
    let permit = archive.permits.transcode().await;
    let made = tokio::spawn(catch_panics(async move {
        let _permit = permit;
        let Source { archive, caller, record } = source.clone();
        let _lock = archive.derived_locks.lock(key.clone()).await;
        if let Some(size_bytes) = cache::find(&archive, &key).await? {
            return Ok(TranscodedFile { key, size_bytes });
        }
        let (staged, table_at) = source.make(encoding).await?;
        let InstanceRecord { study, series, instance, digest, .. } = record.as_ref();
        let (series, instance) = (Some(series.clone()), Some(instance.clone()));
        let scope = Scope { study: study.clone(), series, instance };
        let kept = cache::put(&archive, &caller, (&scope, digest), staged, (&key, table_at));
        let size_bytes = kept.await?;
        Ok(TranscodedFile { key, size_bytes })
    }));
    made.await.unwrap_or_else(|_| Err(Error::Internal("the server is stopping".into())))?
}

/// Reads bytes `range` of a transcoded file; the range must lie inside the file.
///
/// # Errors
/// [`Error::NotReady`] if the file was evicted: the next request transcodes the instance again.
pub async fn read_transcoded(
    archive: &Archive,
    file: &TranscodedFile,
    range: Range<u64>,
) -> Result<ByteStream, Error> {
    archive.blobs.read(&file.key, range).await.map_err(|error| match error {
        blobs::Error::NotFound(_) => Error::NotReady("the instance has to be transcoded again".into()),
        error => error.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_inflated_grows_with_the_square_of_the_frames() {
        let frames =
            |count| FrameTable::Native { offset: 1000, frame_bits: 8_000, count, is_big_endian: false };
        assert_eq!(bytes_to_inflate(&frames(10), 10), 55_000);
        assert_eq!(bytes_to_inflate(&frames(100), 100), 5_050_000);
        assert!(bytes_to_inflate(&frames(8000), 8000) > MAX_INFLATED_BYTES);
        assert_eq!(bytes_to_inflate(&FrameTable::None, 0), 0);
    }
}
