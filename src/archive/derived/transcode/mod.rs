//! Transcoding: instances and frames in transfer syntaxes other than the stored one (PS3.18 §8.7.3).
//!
//! The offsets of the frames stand in the file before the first frame, and the length of a deflated file is
//! known only at its end. Such a file is therefore written as a whole, a frame at a time, and cached. Other
//! requests for the same file wait meanwhile.

use std::ops::Range;
use std::sync::Arc;

use futures_util::TryStreamExt;
use tracing::warn;

use crate::archive::access::{Caller, Tenant};
use crate::archive::blocking::catch_panics;
use crate::archive::derived::cache;
use crate::archive::derived::decoding::{frame_for_background, frame_for_work};
use crate::archive::derived::explicit_vr::Source;
use crate::archive::read::collect;
use crate::archive::read::deflated::MAX_INFLATED_BYTES;
use crate::archive::scope::Scope;
use crate::archive::{Archive, Error, keys, run_blocking, run_in_background, scan_limits};
use crate::blobs;
use crate::blobs::{ByteStream, Key};
use crate::config::FramesAhead;
use crate::decoders::Priority;
use crate::dicom::frames::FrameTable;
use crate::dicom::scan::Scanner;
use crate::dicom::transfer_syntax;
use crate::index::records::InstanceRecord;
use crate::pixel::decode::{decoded_layout, is_decodable};
use crate::pixel::transcode::Encoded;
use crate::telemetry;

mod make;
mod offsets;

pub use crate::pixel::transcode::{Codec, REVISION};

/// Bytes of the header of a fragment.
const ITEM_HEADER: u64 = 8;

/// The largest object that is scanned for the place of its Basic Offset Table.
const MAX_SCANNED_BYTES: u64 = 16 << 20;
/// The most frames of an instance that is encoded: each costs a read and some records of its own.
const MAX_ENCODED_FRAMES: u32 = 1 << 20;

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
    let last = frames.span(frames.count().saturating_sub(1));
    let end = last.map_or(0, |span| span.range.end);
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
    if let Some(table_at) = frame_table(archive, caller, &key, record).await
        && let Some(frame) = kept_frame(archive, &key, table_at, record, number).await
    {
        return Ok(frame);
    }
    Ok(encode_frame(archive, caller, record, number, codec, Priority::Request).await?.bytes)
}

/// The place of the Basic Offset Table of a transcoded instance in the cache. An object that an earlier
/// process has left there is scanned for its table, if the object is not large.
async fn frame_table(archive: &Archive, caller: &Caller, key: &Key, record: &InstanceRecord) -> Option<u64> {
    let known = archive.cache.frame_table(key);
    let size_bytes = archive.cache.size_of(key)?;
    if known.is_some() || size_bytes > MAX_SCANNED_BYTES || archive.cache.has_no_table(key) {
        return known;
    }
    let table_at = scanned_table(archive, caller, key, size_bytes, record).await;
    archive.cache.set_frame_table(key, table_at);
    table_at
}

/// Scans a transcoded instance, each of whose frames is one fragment.
async fn scanned_table(
    archive: &Archive,
    caller: &Caller,
    key: &Key,
    size_bytes: u64,
    record: &InstanceRecord,
) -> Option<u64> {
    let frames = u64::from(record.layout.pixels.as_ref()?.number_of_frames);
    let object = collect(archive.blobs.read(key, 0..size_bytes).await.ok()?).await.ok()?;
    let mut scanner = Scanner::new(scan_limits(&archive.ingest));
    let permit = archive.permits.codec(caller).await;
    let scan = run_blocking(Some(permit), move || scanner.push(&object).and_then(|()| scanner.finish()));
    let outline = scan.await.ok()?.ok()?;
    let table = outline.basic_offset_table?;
    let is_usual = outline.fragments.len() as u64 == frames && table.len() as u64 == 4 * frames;
    let (first, _) = outline.fragments.first()?;
    first.checked_sub(ITEM_HEADER + 4 * frames).filter(|_| is_usual)
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
    priority: Priority,
) -> Result<Encoded, Error> {
    let cannot = |error| Error::from(error).context(&format!("frame {number}"));
    if priority == Priority::Background {
        let frame = frame_for_background(archive, caller, record, number).await?;
        let encoded = run_in_background(move || codec.encode(frame.decode()?, frame.layout()));
        return encoded.await?.map_err(cannot);
    }
    let (permit, frame) = frame_for_work(archive, caller, record, number).await?;
    let encoded = run_blocking(Some(permit), move || codec.encode(frame.decode()?, frame.layout()));
    encoded.await?.map_err(cannot)
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
    let permit = archive.permits.transcode(caller).await;
    let made = tokio::spawn(catch_panics(async move {
        let _permit = permit;
        put_transcoded(source, encoding, key, Priority::Request).await
    }));
    made.await.unwrap_or_else(|_| Err(Error::Internal("the server is stopping".into())))?
}

/// Transcodes an instance into the cache, if it is not there.
async fn put_transcoded(
    source: Source,
    encoding: Encoding,
    key: Key,
    priority: Priority,
) -> Result<TranscodedFile, Error> {
    let Source { archive, caller, record } = source.clone();
    let _lock = archive.derived_locks.lock(key.clone()).await;
    if let Some(size_bytes) = cache::find(&archive, &key).await? {
        return Ok(TranscodedFile { key, size_bytes });
    }
    let (staged, table_at) = source.make(encoding, priority).await?;
    let InstanceRecord { study, series, instance, digest, .. } = record.as_ref();
    let (series, instance) = (Some(series.clone()), Some(instance.clone()));
    let scope = Scope { study: study.clone(), series, instance };
    let version = digest.to_string();
    let kept = cache::put(&archive, &caller, (&scope, &version), staged, (&key, table_at));
    let size_bytes = kept.await?;
    Ok(TranscodedFile { key, size_bytes })
}

/// Encodes the native instances of a series without loss into the cache, if a setting says so
/// (`derived.frames_ahead`), so that their frames are at hand when they are requested.
///
/// # Errors
/// If the index cannot be read. Instances that cannot be encoded are logged and left out.
pub async fn encode_ahead(archive: &Arc<Archive>, tenant: &Tenant, scope: &Scope) -> Result<(), Error> {
    let codec = match archive.frames_ahead {
        FramesAhead::None => return Ok(()),
        FramesAhead::JpegLs => Codec::JpegLs,
    };
    let caller = Caller::server(tenant.clone());
    let mut pages =
        archive.index.instances::<InstanceRecord>(tenant.as_str(), &scope.study, scope.series.as_ref());
    while let Some(page) = pages.try_next().await? {
        for record in page {
            let is_native = matches!(record.layout.frames, FrameTable::Native { .. });
            if !is_native || !codecs(&record).contains(&codec) {
                continue;
            }
            let key = keys::transcoded(&caller.tenant, &record, codec.transfer_syntax(), REVISION);
            let (instance, record) = (record.instance.clone(), Arc::new(record));
            let source = Source { archive: archive.clone(), caller: caller.clone(), record };
            let encoding = Encoding::Compressed(codec);
            let made = catch_panics(put_transcoded(source, encoding, key, Priority::Background)).await;
            match made.and_then(|made| made.map(drop)) {
                // The instance was deleted or replaced meanwhile.
                Ok(()) | Err(Error::NotFound(_)) => {}
                Err(error) => {
                    let error = telemetry::chain(&error);
                    warn!(instance.uid = %instance, error, "cannot encode the frames of an instance ahead");
                }
            }
        }
    }
    Ok(())
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
    use crate::blobs::memory::MemoryBlobs;
    use crate::blobs::{Blobs, Bucket};
    use crate::config::Config;
    use crate::dicom::build::DataSet;
    use crate::dicom::uids;
    use crate::index::Index;

    #[test]
    fn what_is_inflated_grows_with_the_square_of_the_frames() {
        let frames =
            |count| FrameTable::Native { offset: 1000, frame_bits: 8_000, count, is_big_endian: false };
        assert_eq!(bytes_to_inflate(&frames(10), 10), 55_000);
        assert_eq!(bytes_to_inflate(&frames(100), 100), 5_050_000);
        assert!(bytes_to_inflate(&frames(8000), 8000) > MAX_INFLATED_BYTES);
        assert_eq!(bytes_to_inflate(&FrameTable::None, 0), 0);
    }

    /// The bytes of frame 1 in JPEG-LS, and whether the place of the offset table was known or found.
    async fn first_frame(archive: &Archive, record: &InstanceRecord) -> (Vec<u8>, bool) {
        let caller = Caller::anonymous();
        let bytes = encoded_frame(archive, &caller, record, 1, Codec::JpegLs).await.unwrap();
        let key = keys::transcoded(&caller.tenant, record, Codec::JpegLs.transfer_syntax(), REVISION);
        (bytes, archive.cache.frame_table(&key).is_some())
    }

    #[tokio::test]
    async fn native_frames_are_encoded_ahead_if_a_setting_says_so_and_found_after_a_start() {
        let (blobs, index) = (Arc::new(MemoryBlobs::new()), Arc::new(Index::in_memory()));
        let mut config = Config::defaults();
        let plain = Archive::new(blobs.clone(), index.clone(), &config);
        config.derived.frames_ahead = FramesAhead::JpegLs;
        let archive = Archive::new(blobs.clone(), index.clone(), &config);
        let pixels: Vec<u8> = (0..2 * 64 * 48_u32).map(|number| (number % 251) as u8).collect();
        let data_set = DataSet::explicit()
            .text(0x0008_0016, "UI", uids::SECONDARY_CAPTURE_IMAGE_STORAGE)
            .text(0x0008_0018, "UI", "1.2.1.1")
            .text(0x0020_000D, "UI", "1.2")
            .text(0x0020_000E, "UI", "1.2.1")
            .us(0x0028_0002, &[1])
            .text(0x0028_0004, "CS", "MONOCHROME2")
            .us(0x0028_0010, &[48])
            .us(0x0028_0011, &[64])
            .us(0x0028_0100, &[16])
            .us(0x0028_0101, &[16])
            .us(0x0028_0102, &[15])
            .us(0x0028_0103, &[0])
            .element(0x7FE0_0010, "OW", &pixels);
        let caller = Caller::anonymous();
        let mut upload = archive.receive(&caller, None).await;
        let file = data_set.file(transfer_syntax::EXPLICIT_VR_LITTLE_ENDIAN);
        upload.write(bytes::Bytes::from(file)).await;
        upload.finish().await.await.result.unwrap();
        let scope = Scope { study: "1.2".parse().unwrap(), series: "1.2.1".parse().ok(), instance: None };
        let (series, instance) = ("1.2.1".parse().unwrap(), "1.2.1.1".parse().unwrap());
        let record = archive.instance(&caller, &scope.study, &series, &instance).await.unwrap();
        encode_ahead(&plain, &caller.tenant, &scope).await.unwrap();
        let objects = async || blobs.list(Bucket::Temporary, "").try_collect::<Vec<_>>().await.unwrap().len();
        assert_eq!(objects().await, 0);
        let (expected, is_ahead) = first_frame(&plain, &record).await;
        assert!(!is_ahead);
        encode_ahead(&archive, &caller.tenant, &scope).await.unwrap();
        assert_eq!(objects().await, 1);
        assert_eq!(first_frame(&archive, &record).await, (expected.clone(), true));
        // A start later, and with another object in its place.
        let later = Archive::new(blobs.clone(), index.clone(), &config);
        cache::sweep(&later).await.unwrap();
        assert_eq!(first_frame(&later, &record).await, (expected.clone(), true));
        let key = keys::transcoded(&caller.tenant, &record, Codec::JpegLs.transfer_syntax(), REVISION);
        let mut staged = blobs.stage().await.unwrap();
        staged.write(&[1; 600]).unwrap();
        blobs.delete(&key).await.unwrap();
        blobs.put(staged, &key).await.unwrap();
        let damaged = Archive::new(blobs, index, &config);
        cache::sweep(&damaged).await.unwrap();
        assert_eq!(first_frame(&damaged, &record).await, (expected, false));
    }
}
