//! The object of a preview: the stream as it is sent, then a trailer with the slices' identities and levels,
//! so that parts of the stream can be made, and slices can be used again, without decoding anything.
//!
//! The object ends with the length of the trailer (64 bits, little endian) and a mark.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::TryStreamExt;
use serde::{Deserialize, Serialize};

use crate::archive::derived::preview::arrange::Order;
use crate::archive::derived::preview::collection::{Collection, read_tile_parts};
use crate::archive::derived::preview::encoded::{EncodedImage, EncodedSlice, SeriesKey, SliceKey, TileParts};
use crate::archive::derived::preview::geometry::Geometry;
use crate::archive::derived::preview::index::{Contents, HEADER_BYTES, Head};
use crate::archive::derived::preview::stages::Stages;
use crate::archive::read::collect;
use crate::archive::{Archive, Error, keys, run_blocking};
use crate::blobs;
use crate::blobs::{Bucket, Key, Staged};
use crate::dicom::uid::InstanceUid;
use crate::pixel::preview::{CodingError, ImageDescription, PreviewRate};

/// The last bytes of an object, with the version of its format.
const MARK: [u8; 8] = *b"CUSPIDT2";
/// Bytes of the trailer's length and the mark.
const END_BYTES: u64 = 16;
/// Segments that are written at a time.
const WRITTEN_SEGMENTS: usize = 256;

/// A stored preview.
pub(super) struct StoredPreview {
    pub(super) rate: PreviewRate,
    order: Order,
    slice_spacing: Option<f64>,
    /// The slices in order. Their tile-parts are not read with [`read`].
    pub(super) slices: Vec<EncodedSlice>,
    /// The length of the stream.
    pub(super) stream_bytes: u64,
}

/// A stage, from 0, and a range of the object with segments of the stage.
type StageRange = (usize, Range<u64>);

#[derive(Serialize, Deserialize)]
struct Trailer {
    rate: PreviewRate,
    order: Order,
    slice_spacing: Option<f64>,
    descriptions: Vec<ImageDescription>,
    slices: Vec<TrailerSlice>,
}

#[derive(Serialize, Deserialize)]
struct TrailerSlice {
    instance: InstanceUid,
    object: String,
    frame: u32,
    instance_number: Option<i64>,
    geometry: Geometry,
    image: Result<TrailerImage, String>,
}

#[derive(Serialize, Deserialize)]
struct TrailerImage {
    description: u32,
    level_ends: Vec<u32>,
    error: Option<CodingError>,
}

/// Writes a preview of slices that are in order. Blocks.
pub(super) fn write(
    staged: &mut Staged,
    collection: &Collection,
    (order, slice_spacing): (Order, Option<f64>),
    rate: PreviewRate,
) -> Result<(), Error> {
    let slices = &collection.slices;
    let Head { bytes, stages } = Contents::whole(slices, order, slice_spacing).head();
    staged.write(&bytes)?;
    for segments in stages.segments.chunks(WRITTEN_SEGMENTS) {
        let mut chunks = Vec::with_capacity(segments.len());
        for segment in segments {
            if let Ok(image) = &slices[segment.slice].image {
                let bytes = read_tile_parts(image, collection.scratch.as_ref(), segment.bytes.clone());
                chunks.push(bytes.map_err(|source| blobs::Error::Backend {
                    operation: "read slices that were encoded".into(),
                    source: source.into(),
                })?);
            }
        }
        staged.write_all(&chunks)?;
    }
    let trailer = rmp_serde::to_vec(&trailer(slices, order, slice_spacing, rate));
    let trailer = trailer.map_err(|error| Error::Internal(format!("a preview's trailer: {error}")))?;
    staged.write(&trailer)?;
    staged.write(&(trailer.len() as u64).to_le_bytes())?;
    Ok(staged.write(&MARK)?)
}

fn trailer(slices: &[EncodedSlice], order: Order, slice_spacing: Option<f64>, rate: PreviewRate) -> Trailer {
    let mut descriptions: Vec<ImageDescription> = Vec::new();
    let mut numbers: HashMap<Arc<ImageDescription>, u32> = HashMap::new();
    let mut entries = Vec::with_capacity(slices.len());
    for EncodedSlice { key, instance_number, geometry, image } in slices {
        let image = image.as_ref().map_err(String::clone).map(|image| {
            let number = numbers.entry(image.description.clone()).or_insert_with(|| {
                descriptions.push(ImageDescription::clone(&image.description));
                descriptions.len() as u32 - 1
            });
            let (description, level_ends) = (*number, image.level_ends.clone());
            TrailerImage { description, level_ends, error: image.error }
        });
        entries.push(TrailerSlice {
            instance: key.instance.clone(),
            object: key.object.clone(),
            frame: key.frame,
            instance_number: *instance_number,
            geometry: geometry.clone(),
            image,
        });
    }
    Trailer { rate, order, slice_spacing, descriptions, slices: entries }
}

impl TrailerSlice {
    fn into_slice(self, descriptions: &[Arc<ImageDescription>]) -> Option<EncodedSlice> {
        let Self { instance, object, frame, instance_number, geometry, image } = self;
        let image = match image {
            Err(reason) => Err(reason),
            Ok(TrailerImage { description, level_ends, error }) => {
                let description = descriptions.get(description as usize)?.clone();
                let tile_parts = TileParts::Memory(Bytes::new());
                Ok(EncodedImage { description, level_ends, error, tile_parts })
            }
        };
        Some(EncodedSlice { key: SliceKey { instance, object, frame }, instance_number, geometry, image })
    }
}

/// The length of the stream in an object of `size_bytes`; `None` if the object is not one of this version.
pub(super) async fn stream_bytes(
    archive: &Archive,
    key: &Key,
    size_bytes: u64,
) -> Result<Option<u64>, Error> {
    let Some(start) = size_bytes.checked_sub(END_BYTES) else { return Ok(None) };
    let end = collect(archive.blobs.read(key, start..size_bytes).await?).await?;
    let Some((length, mark)) = end.split_first_chunk::<8>() else { return Ok(None) };
    Ok(if *mark == MARK { start.checked_sub(u64::from_le_bytes(*length)) } else { None })
}

/// Reads the description of a stored preview; `None` if the object is not one of this version.
pub(super) async fn read(
    archive: &Archive,
    key: &Key,
    size_bytes: u64,
) -> Result<Option<StoredPreview>, Error> {
    let Some(stream_bytes) = stream_bytes(archive, key, size_bytes).await? else { return Ok(None) };
    let text = collect(archive.blobs.read(key, stream_bytes..size_bytes - END_BYTES).await?).await?;
    // A trailer has some hundred bytes for each slice.
    run_blocking(None, move || StoredPreview::of_trailer(&text, stream_bytes)).await
}

impl StoredPreview {
    /// Parses a trailer; `None` if it is not one of this version.
    fn of_trailer(text: &[u8], stream_bytes: u64) -> Option<Self> {
        let trailer = rmp_serde::from_slice::<Trailer>(text).ok()?;
        let Trailer { rate, order, slice_spacing, descriptions, slices } = trailer;
        let descriptions: Vec<_> = descriptions.into_iter().map(Arc::new).collect();
        let slices: Option<Vec<_>> =
            slices.into_iter().map(|slice| slice.into_slice(&descriptions)).collect();
        Some(Self { rate, order, slice_spacing, slices: slices?, stream_bytes })
    }

    /// The whole stream.
    fn contents(&self) -> Contents<'_> {
        Contents::whole(&self.slices, self.order, self.slice_spacing)
    }

    /// The stages of the whole stream, and the offset in the object at which the index ends.
    pub(super) fn stages(&self) -> (Stages, u64) {
        let stages = self.contents().stages();
        let segments = stages.stages.last().map_or(0, |stage| stage.end);
        (stages, self.stream_bytes.saturating_sub(segments))
    }

    /// The head of a stream of some slices, and the ranges of the object that follow it, with the stage of
    /// each; `None` if there are fewer slices.
    pub(super) fn part(&self, slices: Range<u32>) -> Option<(Head, Vec<StageRange>)> {
        let range = slices.start as usize..slices.end as usize;
        let of_part = self.slices.get(range.clone()).filter(|part| !part.is_empty())?;
        let head = Contents { first_slice: slices.start, slices: of_part, ..self.contents() }.head();
        let (whole, mut at) = self.stages();
        let mut offsets = HashMap::new();
        for segment in &whole.segments {
            if range.contains(&segment.slice) {
                offsets.insert((segment.slice - range.start, segment.bytes.clone()), at);
            }
            at += u64::from(segment.bytes.end - segment.bytes.start);
        }
        let mut ranges: Vec<StageRange> = Vec::new();
        for segment in &head.stages.segments {
            let start = *offsets.get(&(segment.slice, segment.bytes.clone()))?;
            let end = start + u64::from(segment.bytes.end - segment.bytes.start);
            match ranges.last_mut() {
                Some((stage, last)) if *stage == segment.stage && last.end == start => last.end = end,
                _ => ranges.push((segment.stage, start..end)),
            }
        }
        Some((head, ranges))
    }

    /// The preview with the tile-parts of its slices, from the whole stream; `None` if the stream is damaged.
    fn with_tile_parts(mut self, stream: &[u8]) -> Option<Self> {
        let (stages, index_end) = self.stages();
        if index_end < HEADER_BYTES as u64 {
            return None;
        }
        let mut parts: Vec<Vec<u8>> = vec![Vec::new(); self.slices.len()];
        let mut at = index_end as usize;
        for segment in &stages.segments {
            let end = at + (segment.bytes.end - segment.bytes.start) as usize;
            parts[segment.slice].extend_from_slice(stream.get(at..end)?);
            at = end;
        }
        for (slice, tile_parts) in self.slices.iter_mut().zip(parts) {
            if let Ok(image) = &mut slice.image {
                image.tile_parts = TileParts::Memory(tile_parts.into());
            }
        }
        Some(self)
    }
}

/// Reads the latest stored preview of a series with its tile-parts, if it has no more than `max_bytes`.
pub(super) async fn latest(
    archive: &Archive,
    series: &SeriesKey,
    max_bytes: u64,
) -> Result<Option<StoredPreview>, Error> {
    let prefix = keys::previews(&series.tenant, &series.study, &series.series);
    let entries = archive.blobs.list(Bucket::Previews, &prefix).try_collect::<Vec<_>>().await?;
    let generation = |key: &Key| match keys::parse(key) {
        Some(keys::Parsed::Preview { generation, .. }) => Some(generation),
        _ => None,
    };
    let latest = entries.into_iter().max_by_key(|entry| generation(&entry.key));
    let Some(latest) = latest.filter(|entry| entry.size_bytes <= max_bytes) else { return Ok(None) };
    let preview = match read_whole(archive, &latest.key, latest.size_bytes).await {
        // It was deleted meanwhile.
        Err(Error::Blobs(blobs::Error::NotFound(_))) => None,
        found => found?,
    };
    Ok(preview)
}

async fn read_whole(archive: &Archive, key: &Key, size_bytes: u64) -> Result<Option<StoredPreview>, Error> {
    let Some(preview) = read(archive, key, size_bytes).await? else { return Ok(None) };
    let stream = collect(archive.blobs.read(key, 0..preview.stream_bytes).await?).await?;
    run_blocking(None, move || preview.with_tile_parts(&stream)).await
}
