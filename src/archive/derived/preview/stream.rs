//! Reading of previews as streams: those that are stored, and those that are still being made.

use std::collections::HashMap;
use std::ops::Range;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use sha2::{Digest, Sha256};

use crate::archive::access::Caller;
use crate::archive::derived::preview::arrange::arrange;
use crate::archive::derived::preview::collect::objects;
use crate::archive::derived::preview::collection::read_tile_parts;
use crate::archive::derived::preview::encoded::{EncodedSlice, SeriesKey};
use crate::archive::derived::preview::index::{Contents, Head};
use crate::archive::derived::preview::stored::StoredPreview;
use crate::archive::derived::preview::{remake, stored};
use crate::archive::{Archive, Error, keys, run_blocking};
use crate::blobs;
use crate::blobs::{ByteStream, Key};
use crate::dicom::uid::{SeriesUid, StudyUid};
use crate::digest::hexadecimal;
use crate::index::records::{PreviewState, SeriesRecord};

/// The part of a stream that is requested.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StreamPart {
    /// The slices (from 0); all if none are named.
    pub slices: Option<Range<u32>>,
    /// The last stage (from 0); all if none is named.
    pub stage: Option<usize>,
    /// The version; the present one if none is named.
    pub version: Option<String>,
}

/// A preview, or a part of one, in the fast stream's format: the same bytes at each read.
#[derive(Debug, Clone)]
pub struct PreviewStream {
    /// A value that changes whenever the bytes do. Opaque, without quotation marks.
    pub tag: String,
    /// The version of the whole stream, which names it in its URL; `None` as long as slices are missing.
    pub version: Option<String>,
    key: Key,
    pieces: Vec<StreamPiece>,
}

#[derive(Debug, Clone)]
enum StreamPiece {
    Memory(Bytes),
    /// A range of the stored object.
    Object(Range<u64>),
}

/// The progress of a preview.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreviewProgress {
    /// `none`, `pending`, `partial`, `ready` or `failed`.
    pub state: &'static str,
    /// The slices that are encoded.
    pub encoded: u64,
    /// The slices of the series that are known.
    pub slices: u64,
    /// The version and the size of the stream, if it is complete.
    pub stream: Option<(String, u64)>,
    /// The reason why there is no preview.
    pub reason: Option<String>,
}

impl StreamPiece {
    fn length(&self) -> u64 {
        match self {
            Self::Memory(bytes) => bytes.len() as u64,
            Self::Object(range) => range.end - range.start,
        }
    }

    fn part(&self, range: Range<u64>) -> Self {
        match self {
            Self::Memory(bytes) => Self::Memory(bytes.slice(range.start as usize..range.end as usize)),
            Self::Object(whole) => Self::Object(whole.start + range.start..whole.start + range.end),
        }
    }
}

impl PreviewStream {
    /// Bytes of the stream.
    pub fn length(&self) -> u64 {
        self.pieces.iter().map(StreamPiece::length).sum()
    }
}

/// Returns the preview of a series or a part of it, to be read by [`read`]. Of a preview that is still being
/// made, the slices that this process has encoded.
///
/// # Errors
/// [`Error::NotReady`] if no slice is encoded yet; [`Error::NotFound`] if there is no such series, slice or
/// version, if nothing in the series can be shown, or with the reason if the preview could not be encoded.
pub async fn open(
    archive: &Archive,
    caller: &Caller,
    study: &StudyUid,
    series: &SeriesUid,
    part: &StreamPart,
) -> Result<PreviewStream, Error> {
    let record = archive.series(caller, study, series).await?;
    match &record.preview {
        PreviewState::Ready { generation, size_bytes } => {
            let key = keys::preview(&caller.tenant, study, series, *generation);
            match open_stored(archive, &key, (*generation, *size_bytes), part).await {
                Ok(Some(stream)) => Ok(stream),
                // The object is of a previous version of the format, or lost.
                Ok(None) | Err(Error::Blobs(blobs::Error::NotFound(_))) => {
                    remake(archive, &caller.tenant, &record).await?;
                    Err(not_ready(series))
                }
                Err(error) => Err(error),
            }
        }
        PreviewState::Pending { .. } if part.version.is_some() => Err(other_version(series)),
        PreviewState::Pending { .. } => open_partial(archive, caller, &record, part).await,
        PreviewState::Failed { reason, .. } => {
            Err(Error::NotFound(format!("preview of series {series}: {reason}")))
        }
        PreviewState::None => {
            Err(Error::NotFound(format!("preview of series {series}: nothing in it can be shown")))
        }
    }
}

fn not_ready(series: &SeriesUid) -> Error {
    Error::NotReady(format!("the preview of series {series} is still being made"))
}

fn other_version(series: &SeriesUid) -> Error {
    Error::NotFound(format!("preview of series {series} of this version; the series has changed"))
}

/// The version of a stored preview.
fn version(generation: u64, size_bytes: u64) -> String {
    format!("{generation}-{size_bytes}")
}

/// The end of the tag of a stream up to a stage.
fn suffix(stage: Option<usize>) -> String {
    stage.map(|stage| format!("-s{stage}")).unwrap_or_default()
}

fn no_slices(slices: &Range<u32>, series: &str, count: usize) -> Error {
    let Range { start, end } = slices;
    Error::NotFound(format!("slices {start}-{} in {series}, which has {count}", end.saturating_sub(1)))
}

/// Opens a stored preview; `None` if the object is not one of this version of the format.
async fn open_stored(
    archive: &Archive,
    key: &Key,
    (generation, size_bytes): (u64, u64),
    StreamPart { slices, stage, version: wanted }: &StreamPart,
) -> Result<Option<PreviewStream>, Error> {
    let version = version(generation, size_bytes);
    if wanted.as_ref().is_some_and(|wanted| *wanted != version) {
        return Err(Error::NotFound("stream of this version; the series has changed".into()));
    }
    let of_part = |pieces, part: String| PreviewStream {
        tag: format!("{version}{part}"),
        version: Some(version.clone()),
        key: key.clone(),
        pieces,
    };
    if slices.is_none() && stage.is_none() {
        let bytes = stored::stream_bytes(archive, key, size_bytes).await?;
        return Ok(bytes.map(|bytes| of_part(vec![StreamPiece::Object(0..bytes)], String::new())));
    }
    let Some(preview) = stored::read(archive, key, size_bytes).await? else { return Ok(None) };
    let suffix = suffix(*stage);
    let part = slices.as_ref().map(|slices| format!("-{}-{}{suffix}", slices.start, slices.end));
    let (slices, stage) = (slices.clone(), *stage);
    let pieces = run_blocking(None, move || pieces_of(&preview, slices, stage)).await??;
    Ok(Some(of_part(pieces, part.unwrap_or(suffix))))
}

/// The pieces of a part of a stored preview. Takes a while: the index of the part is made.
fn pieces_of(
    preview: &StoredPreview,
    slices: Option<Range<u32>>,
    stage: Option<usize>,
) -> Result<Vec<StreamPiece>, Error> {
    let Some(slices) = slices else {
        let (stages, index_end) = preview.stages();
        let last = stage.map_or(usize::MAX, |stage| stage).min(stages.stages.len().saturating_sub(1));
        let end = index_end + stages.stages.get(last).map_or(0, |stage| stage.end);
        return Ok(vec![StreamPiece::Object(0..end)]);
    };
    let count = preview.slices.len();
    let (head, ranges) =
        preview.part(slices.clone()).ok_or_else(|| no_slices(&slices, "the series", count))?;
    let mut pieces = vec![StreamPiece::Memory(head.bytes.into())];
    let sent = ranges.into_iter().filter(|(of, _)| stage.is_none_or(|stage| *of <= stage));
    pieces.extend(sent.map(|(_, range)| StreamPiece::Object(range)));
    Ok(pieces)
}

/// Opens a stream of the slices that are encoded so far.
async fn open_partial(
    archive: &Archive,
    caller: &Caller,
    record: &SeriesRecord,
    StreamPart { slices: part, stage, .. }: &StreamPart,
) -> Result<PreviewStream, Error> {
    let SeriesRecord { study, series, generation, .. } = record;
    let encoded = encoded_slices(archive, caller, record).await?;
    if encoded.slices.is_empty() {
        return Err(not_ready(series));
    }
    let (part, stage, suffix) = (part.clone(), *stage, suffix(*stage));
    let (pieces, digest) = run_blocking(None, move || partial_pieces(encoded, part, stage)).await??;
    let key = keys::preview(&caller.tenant, study, series, *generation);
    Ok(PreviewStream { tag: format!("partial-{digest}{suffix}"), version: None, key, pieces })
}

/// The slices of a series that can be shown before there is its preview.
struct EncodedSlices {
    /// The slices that this process has encoded, in no particular order.
    slices: Vec<EncodedSlice>,
    /// The frames of the series.
    frames: u32,
}

/// The slices of a series that this process has encoded. Instances may have been deleted or replaced, by
/// another process too: their slices are left out.
async fn encoded_slices(
    archive: &Archive,
    caller: &Caller,
    record: &SeriesRecord,
) -> Result<EncodedSlices, Error> {
    let SeriesRecord { study, series, .. } = record;
    let key = SeriesKey { tenant: caller.tenant.clone(), study: study.clone(), series: series.clone() };
    let mut slices = archive.slices.slices(&key);
    slices.retain(|slice| slice.image.is_ok());
    if slices.is_empty() {
        return Ok(EncodedSlices { slices, frames: 0 });
    }
    let sources = objects(archive, caller, record).await?;
    let frames = sources.iter().fold(0_u32, |sum, source| sum.saturating_add(source.number_of_frames));
    let current: HashMap<_, _> = sources.iter().map(|source| (&source.instance, &source.object)).collect();
    slices.retain(|EncodedSlice { key, .. }| current.get(&key.instance) == Some(&&key.object));
    Ok(EncodedSlices { slices, frames })
}

/// The pieces of a stream of slices that are encoded so far, and a digest of its index. Takes a while.
fn partial_pieces(
    EncodedSlices { mut slices, frames }: EncodedSlices,
    part: Option<Range<u32>>,
    stage: Option<usize>,
) -> Result<(Vec<StreamPiece>, String), Error> {
    let (order, slice_spacing) = arrange(&mut slices);
    let range = part.unwrap_or(0..slices.len() as u32);
    let of_part = slices.get(range.start as usize..range.end as usize).filter(|part| !part.is_empty());
    let of_part = of_part.ok_or_else(|| no_slices(&range, "what is encoded of the series", slices.len()))?;
    let contents = Contents {
        is_complete: false,
        number_of_slices: frames,
        first_slice: range.start,
        order,
        slice_spacing,
        slices: of_part,
    };
    let Head { bytes, stages } = contents.head();
    let digest = hexadecimal(&Sha256::digest(&bytes)[..8]);
    let mut pieces = vec![StreamPiece::Memory(bytes.into())];
    for segment in &stages.segments {
        if stage.is_none_or(|stage| segment.stage <= stage)
            && let Ok(image) = &of_part[segment.slice].image
            && let Ok(bytes) = read_tile_parts(image, None, segment.bytes.clone())
        {
            pieces.push(StreamPiece::Memory(bytes));
        }
    }
    Ok((pieces, digest))
}

/// Reads bytes `range` of a preview's stream; the range must lie inside the stream.
///
/// # Errors
/// [`Error::NotReady`] if the series has changed meanwhile: a new request gets another preview.
pub async fn read(
    archive: &Archive,
    preview: &PreviewStream,
    range: Range<u64>,
) -> Result<ByteStream, Error> {
    let mut parts = Vec::new();
    let mut start = 0;
    for piece in &preview.pieces {
        let end = start + piece.length();
        let (from, to) = (range.start.max(start), range.end.min(end));
        if from < to {
            parts.push(piece.part(from - start..to - start));
        }
        start = end;
    }
    let (blobs, key) = (archive.blobs.clone(), preview.key.clone());
    let mut streams = futures_util::stream::iter(parts)
        .then(move |part| {
            let (blobs, key) = (blobs.clone(), key.clone());
            async move {
                Ok::<ByteStream, blobs::Error>(match part {
                    StreamPiece::Memory(bytes) => futures_util::stream::iter([Ok(bytes)]).boxed(),
                    StreamPiece::Object(range) => blobs.read(&key, range).await?,
                })
            }
        })
        .boxed();
    // The first two are opened before this returns, so that an object that is gone is an error of the
    // request.
    let mut first = Vec::new();
    for _ in 0..2 {
        first.extend(streams.try_next().await.map_err(|error| match error {
            blobs::Error::NotFound(_) => {
                Error::NotReady("another preview takes the place of this one".into())
            }
            error => error.into(),
        })?);
    }
    Ok(futures_util::stream::iter(first).map(Ok).chain(streams).try_flatten().boxed())
}

/// The progress of the preview of a series.
///
/// # Errors
/// [`Error::NotFound`] if there is no such series.
pub async fn progress(
    archive: &Archive,
    caller: &Caller,
    study: &StudyUid,
    series: &SeriesUid,
) -> Result<PreviewProgress, Error> {
    let record = archive.series(caller, study, series).await?;
    let key = SeriesKey { tenant: caller.tenant.clone(), study: study.clone(), series: series.clone() };
    let held = archive.slices.progress(&key);
    let known = held.known.max(record.number_of_images);
    let pending = PreviewProgress {
        state: "pending",
        encoded: held.encoded.min(known),
        slices: known,
        stream: None,
        reason: None,
    };
    Ok(match &record.preview {
        PreviewState::Pending { .. } => {
            let EncodedSlices { slices, frames } = encoded_slices(archive, caller, &record).await?;
            let (encoded, slices) = (slices.len() as u64, u64::from(frames));
            match encoded {
                0 => PreviewProgress { encoded: 0, ..pending },
                _ => PreviewProgress { state: "partial", encoded, slices, ..pending },
            }
        }
        PreviewState::None => PreviewProgress { state: "none", encoded: 0, slices: 0, ..pending },
        PreviewState::Failed { reason, .. } => {
            PreviewProgress { state: "failed", reason: Some(reason.clone()), ..pending }
        }
        PreviewState::Ready { generation, size_bytes } => {
            let version = version(*generation, *size_bytes);
            let object = keys::preview(&caller.tenant, study, series, *generation);
            match stored::read(archive, &object, *size_bytes).await {
                Ok(Some(preview)) => {
                    let count = preview.slices.len() as u64;
                    let stream = Some((version, preview.stream_bytes));
                    PreviewProgress { state: "ready", encoded: count, slices: count, stream, ..pending }
                }
                // As at a read of the stream: a client that waits for the state would wait for ever.
                Ok(None) | Err(Error::Blobs(blobs::Error::NotFound(_))) => {
                    remake(archive, &caller.tenant, &record).await?;
                    pending
                }
                Err(error) => return Err(error),
            }
        }
    })
}
