//! Collects the slices of a series for its preview: those that are encoded already, and those that are not,
//! which are encoded now.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::stream::FuturesUnordered;
use futures_util::{StreamExt, TryStreamExt};
use serde::Deserialize;

use crate::archive::access::Caller;
use crate::archive::derived::preview::arrange::Source;
use crate::archive::derived::preview::collection::Collection;
use crate::archive::derived::preview::encoded::{EncodedSlice, FrameSource, SliceKey, encode_frame};
use crate::archive::derived::preview::geometry::Geometry;
use crate::archive::derived::preview::{Due, PreviewError, source_record, sources, stored};
use crate::archive::{Archive, Error};
use crate::dicom::frames::PixelLayout;
use crate::dicom::uid::InstanceUid;
use crate::index::records::SeriesRecord;

/// Collects all slices of a series, in no particular order.
pub(super) async fn collect(archive: &Archive, due: &Due) -> Result<Collection, PreviewError> {
    let caller = Caller::server(due.tenant.clone());
    let series = due.key();
    archive.slices.begin(&series);
    archive.slices.finished(&series).await;
    // The records are needed of slices that are not encoded yet.
    let sources = match archive.slices.progress(&series).encoded {
        0 => sources(archive, &caller, &due.record).await?,
        _ => objects(archive, &caller, &due.record).await?,
    };
    let frames = sources.iter().map(|source| u64::from(source.number_of_frames)).sum::<u64>();
    let limit = archive.preview.max_frames;
    if frames > u64::from(limit) {
        let reason = format!("there are {frames} frames, more than {limit} (preview.max_frames)");
        return Err(PreviewError::Permanent(reason));
    }
    let mut collection = Collection::default();
    let mut missing = Vec::new();
    for source in sources {
        let all = 1..=source.number_of_frames;
        let frames = take_known(&source, all, |key| archive.slices.get(&series, key), &mut collection);
        if !frames.is_empty() {
            missing.push((source, frames));
        }
    }
    if !missing.is_empty() {
        let mut known = previous(archive, due).await?;
        for (source, frames) in &mut missing {
            let of_source = std::mem::take(frames);
            *frames = take_known(source, of_source, |key| known.remove(key), &mut collection);
        }
        missing.retain(|(_, frames)| !frames.is_empty());
    }
    let mut running = FuturesUnordered::new();
    for (source, frames) in missing {
        let record = source_record(archive, &caller, &due.record, source).await?;
        let source = Arc::new(FrameSource::new(series.clone(), record).await?);
        for frame in frames {
            if running.len() >= archive.slices.encoders()
                && let Some(encoded) = running.next().await
            {
                collection.add(archive, &series, encoded?).await?;
            }
            let source = source.clone();
            running.push(async move { encode_frame(archive, &source, frame).await });
        }
    }
    while let Some(encoded) = running.next().await {
        collection.add(archive, &series, encoded?).await?;
    }
    Ok(collection)
}

/// The part of an instance's record that names its object and its frames.
#[derive(Deserialize)]
struct ObjectRecord {
    instance: InstanceUid,
    object: String,
    layout: FramesOfObject,
}

#[derive(Deserialize)]
struct FramesOfObject {
    pixels: Option<PixelLayout>,
}

/// The instances of a series that have frames, without their geometry and records, in no particular order.
pub(super) async fn objects(
    archive: &Archive,
    caller: &Caller,
    SeriesRecord { study, series, .. }: &SeriesRecord,
) -> Result<Vec<Source>, Error> {
    let mut pages = archive.index.instances::<ObjectRecord>(caller.tenant.as_str(), study, Some(series));
    let mut sources = Vec::new();
    while let Some(page) = pages.try_next().await? {
        sources.extend(page.into_iter().filter_map(|ObjectRecord { instance, object, layout }| {
            Some(Source {
                instance,
                object,
                instance_number: None,
                number_of_frames: layout.pixels?.number_of_frames,
                geometry: Geometry::default(),
                record: None,
            })
        }));
    }
    Ok(sources)
}

/// Moves those of an instance's `frames` that are known to the collection. Returns the others.
fn take_known(
    source: &Source,
    frames: impl IntoIterator<Item = u32>,
    mut known: impl FnMut(&SliceKey) -> Option<EncodedSlice>,
    collection: &mut Collection,
) -> Vec<u32> {
    let mut missing = Vec::new();
    for frame in frames {
        let (instance, object) = (source.instance.clone(), source.object.clone());
        match known(&SliceKey { instance, object, frame }) {
            Some(slice) => {
                collection.push(slice);
            }
            None => missing.push(frame),
        }
    }
    missing
}

/// The slices of the preview before, if there is one that was made by the same settings and that is not too
/// large.
async fn previous(archive: &Archive, due: &Due) -> Result<HashMap<SliceKey, EncodedSlice>, PreviewError> {
    let found = stored::latest(archive, &due.key(), archive.preview.max_memory_bytes as u64).await?;
    let of_same_settings = found.filter(|preview| preview.rate == archive.preview.rate());
    let slices = of_same_settings.map(|preview| preview.slices).unwrap_or_default();
    // A slice that could not be encoded is tried again.
    let good = slices.into_iter().filter(|slice| slice.image.is_ok());
    Ok(good.map(|slice| (slice.key.clone(), slice)).collect())
}
