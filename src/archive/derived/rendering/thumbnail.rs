//! Thumbnails: small pictures that stand for a study, a series, an instance or a frame (PS3.18 §10.4.1.1.4). Each is made
//! once and kept under a key that changes with what it shows.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::TryStreamExt;
use tracing::warn;

use crate::archive::access::Caller;
use crate::archive::derived;
use crate::archive::derived::preview::slices::arrange;
use crate::archive::derived::preview::sources;
use crate::archive::derived::rendering::placeholder::sheet;
use crate::archive::derived::rendering::{Format, Rendering, Viewport, renderer};
use crate::archive::keys;
use crate::archive::read::collect;
use crate::archive::scope::Scope;
use crate::archive::{Archive, Error, run_blocking};
use crate::blobs;
use crate::blobs::{Bucket, Key};
use crate::dicom::attributes::Attribute;
use crate::dicom::tags;
use crate::index::records::{InstanceRecord, SeriesRecord};
use crate::pixel::render::encode::encode;

/// Modalities whose frames are not what the study is about: they stand for it only where nothing else does.
const DERIVED_MODALITIES: [&str; 8] = ["SEG", "RTDOSE", "PR", "KO", "SR", "DOC", "REG", "OT"];
/// Thumbnails of one thing that are kept: of frames, sizes and formats there is no end. Others are made each time.
const MAX_KEPT: usize = 256;
/// Series of a study that are tried, one after the other, until one can be shown.
const MAX_SERIES_TRIED: usize = 4;

/// A stored thumbnail.
#[derive(Debug, Clone)]
pub struct Thumbnail {
    /// The picture in the format asked for.
    pub bytes: Bytes,
    /// Changes whenever the bytes do. Opaque, without quotation marks.
    pub version: String,
}

/// Where a thumbnail is kept.
struct Place {
    key: Key,
    /// What the keys of all thumbnails of the same thing start with, and of those that show it as it is.
    all: String,
    current: String,
    version: String,
}

/// The thumbnail of a study, a series, an instance or its frame (from 1): no larger than `width` × `height` pixels,
/// nor than `rendering.max_thumbnail_px`. Made once, then kept until what it shows changes.
///
/// It shows the middle frame of the middle instance, by the order of space or else of numbers; of a study, of
/// its first series with frames. What has no picture is stood for by a sheet with its modality on it.
///
/// # Errors
/// [`Error::NotFound`] if there is no such thing.
pub async fn thumbnail(
    archive: &Arc<Archive>,
    caller: &Caller,
    scope: &Scope,
    frame: Option<u32>,
    format: Format,
    area: [u32; 2],
) -> Result<Thumbnail, Error> {
    let area = area.map(|side| side.clamp(1, archive.rendering.max_thumbnail_px));
    let version = archive.version(caller, scope).await?;
    let place = place(caller, scope, &version, &file(frame, format, area));
    if let Some(thumbnail) = kept_thumbnail(archive, &place).await? {
        return Ok(thumbnail);
    }
    // Whoever else asks for it meanwhile waits, and then finds it.
    let _lock = archive.derived_locks.lock(place.key.clone()).await;
    if let Some(thumbnail) = kept_thumbnail(archive, &place).await? {
        return Ok(thumbnail);
    }
    let [width, height] = area;
    let viewport = Some(Viewport::area(width, height));
    let rendering = Rendering { viewport, ..Rendering::plain(format) };
    let bytes = match thumbnail_of(archive, caller, scope, frame, &rendering).await {
        Ok(bytes) => bytes,
        Err(error) if error.is_about_form() => {
            // Made faster than it could be read; and there may be a picture one day.
            let bytes = sheet_of(archive, caller, scope, format, area).await?;
            return Ok(Thumbnail { bytes, version: format!("sheet-{}", place.version) });
        }
        Err(error) => return Err(error),
    };
    if let Err(error) = keep_thumbnail(archive, caller, scope, &version, &place, &bytes).await {
        warn!(error = %error, "cannot keep a thumbnail");
    }
    Ok(Thumbnail { bytes, version: place.version })
}

async fn kept_thumbnail(archive: &Archive, place: &Place) -> Result<Option<Thumbnail>, Error> {
    let Some(size_bytes) = archive.blobs.size(&place.key).await? else { return Ok(None) };
    let bytes = match archive.blobs.read(&place.key, 0..size_bytes).await {
        Ok(stream) => collect(stream).await?,
        // It gave way to another meanwhile.
        Err(blobs::Error::NotFound(_)) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    Ok(Some(Thumbnail { bytes: bytes.into(), version: place.version.clone() }))
}

/// Keeps a thumbnail, unless what it shows has changed meanwhile, and deletes those that show what is there no longer.
async fn keep_thumbnail(
    archive: &Archive,
    caller: &Caller,
    scope: &Scope,
    version: &str,
    place: &Place,
    bytes: &Bytes,
) -> Result<(), Error> {
    let mut kept = 0;
    let mut entries = archive.blobs.list(Bucket::Thumbnails, &place.all);
    while let Some(entry) = entries.try_next().await? {
        if entry.key.path.starts_with(&place.current) {
            kept += 1;
        } else {
            archive.blobs.delete(&entry.key).await?;
        }
    }
    if kept >= MAX_KEPT {
        return Ok(());
    }
    let mut staged = archive.blobs.stage().await?;
    let bytes = bytes.clone();
    let staged = run_blocking(None, move || staged.write(&bytes).map(|()| staged)).await??;
    derived::put(archive, caller, scope, version, staged, &place.key).await.map(drop)
}

/// Renders what stands for a scope.
async fn thumbnail_of(
    archive: &Arc<Archive>,
    caller: &Caller,
    scope: &Scope,
    frame: Option<u32>,
    rendering: &Rendering,
) -> Result<Bytes, Error> {
    let Scope { study, series, instance } = scope;
    match (series, instance) {
        (Some(series), Some(instance)) => {
            let record = archive.instance(caller, study, series, instance).await?;
            thumbnail_of_instance(archive, caller, record, frame, rendering).await
        }
        (Some(series), None) => {
            let record = archive.series(caller, study, series).await?;
            thumbnail_of_series(archive, caller, &record, rendering).await
        }
        (None, _) => {
            let mut series = archive.index.series_of(caller.tenant.as_str(), study).await?;
            series.retain(|series| series.number_of_images > 0);
            series.sort_by_cached_key(rank);
            let mut outcome = Err(Error::Unsupported(format!("study {study} has no frames")));
            for record in series.iter().take(MAX_SERIES_TRIED) {
                outcome = thumbnail_of_series(archive, caller, record, rendering).await;
                let is_next_tried =
                    |error: &Error| error.is_about_form() || matches!(error, Error::NotFound(_));
                if !outcome.as_ref().is_err_and(is_next_tried) {
                    break;
                }
            }
            outcome
        }
    }
}

/// A sheet that stands for a scope.
async fn sheet_of(
    archive: &Archive,
    caller: &Caller,
    scope: &Scope,
    format: Format,
    area: [u32; 2],
) -> Result<Bytes, Error> {
    let series = match &scope.series {
        Some(series) => Some(archive.series(caller, &scope.study, series).await?),
        None => {
            let all = archive.index.series_of(caller.tenant.as_str(), &scope.study).await?;
            all.into_iter().min_by_key(rank)
        }
    };
    let modality = series.as_ref().and_then(|record| record.attributes.get(&tags::MODALITY));
    let word = modality.and_then(Attribute::first_text).unwrap_or("?");
    let (word, quality) = (word.to_owned(), archive.rendering.quality);
    let permit = archive.permits.codec().await;
    let encoded = run_blocking(Some(permit), move || encode(&sheet(&word, area), format, quality, None));
    Ok(encoded.await??.into())
}

async fn thumbnail_of_series(
    archive: &Arc<Archive>,
    caller: &Caller,
    record: &SeriesRecord,
    rendering: &Rendering,
) -> Result<Bytes, Error> {
    let mut sources = sources(archive, caller, record).await?;
    arrange(&mut sources);
    let SeriesRecord { study, series, .. } = record;
    let middle = sources.get(sources.len() / 2);
    let middle = middle.ok_or_else(|| Error::Unsupported(format!("series {series} has no frames")))?;
    let record = archive.instance(caller, study, series, &middle.instance).await?;
    thumbnail_of_instance(archive, caller, record, None, rendering).await
}

async fn thumbnail_of_instance(
    archive: &Arc<Archive>,
    caller: &Caller,
    record: InstanceRecord,
    frame: Option<u32>,
    rendering: &Rendering,
) -> Result<Bytes, Error> {
    let pixels = record.layout.pixels.as_ref();
    let pixels = pixels.filter(|pixels| pixels.number_of_frames > 0);
    let pixels =
        pixels.ok_or_else(|| Error::Unsupported(format!("instance {} has no frames", record.instance)))?;
    let number = frame.unwrap_or(pixels.number_of_frames / 2 + 1);
    renderer(archive, caller, &Arc::new(record), rendering).await?.frame(number).await
}

/// The order of the series of a study.
fn rank(record: &SeriesRecord) -> (bool, bool, i64, String) {
    let text = |tag| record.attributes.get(&tag).and_then(Attribute::first_text);
    let is_derived = text(tags::MODALITY).is_some_and(|modality| DERIVED_MODALITIES.contains(&modality));
    let number = text(tags::SERIES_NUMBER).and_then(|number| number.parse().ok());
    (is_derived, number.is_none(), number.unwrap_or_default(), record.series.to_string())
}

fn file(frame: Option<u32>, format: Format, [width, height]: [u32; 2]) -> String {
    let extension = match format {
        Format::Jpeg => "jpg",
        Format::Png => "png",
        Format::Gif => "gif",
    };
    let frame = frame.map_or_else(String::new, |frame| format!("{frame}-"));
    format!("{frame}{width}x{height}.{extension}")
}

/// `version` is that of the scope.
fn place(caller: &Caller, scope: &Scope, version: &str, file: &str) -> Place {
    let all = keys::thumbnails(&caller.tenant, scope);
    let current = format!("{all}{version}/");
    let key = keys::thumbnail(&caller.tenant, scope, version, file);
    Place { key, all, current, version: format!("{version}-{file}") }
}
