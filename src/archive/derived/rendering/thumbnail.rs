//! Thumbnails: small rendered images that represent a study, a series, an instance or a frame (PS3.18
//! §10.4.1.1.4). Each thumbnail is rendered once and stored under a key that changes with its source.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::TryStreamExt;
use tracing::{error, warn};

use crate::archive::access::Caller;
use crate::archive::derived;
use crate::archive::derived::preview::arrange::arrange;
use crate::archive::derived::preview::{source_record, sources};
use crate::archive::derived::rendering::placeholder::sheet;
use crate::archive::derived::rendering::{Format, Rendering, Viewport, renderer};
use crate::archive::keys;
use crate::archive::read::whole::is_lost;
use crate::archive::read::{collect, series_version};
use crate::archive::scope::{Scope, VisibleScope};
use crate::archive::{Archive, Error, run_blocking};
use crate::blobs;
use crate::blobs::{Bucket, Key};
use crate::dicom::attributes::Attribute;
use crate::dicom::tags;
use crate::index::records::{InstanceRecord, SeriesRecord};
use crate::pixel::render::encode::encode;

/// Modalities whose frames are not the main content of a study: they represent the study only where there are
/// no others.
const DERIVED_MODALITIES: [&str; 8] = ["SEG", "RTDOSE", "PR", "KO", "SR", "DOC", "REG", "OT"];
/// The most stored thumbnails of one study, series or instance: there is no limit to combinations of frame,
/// size and format. Further thumbnails are rendered for each request.
const MAX_KEPT: usize = 256;
/// The most series of a study that are tried, one after the other, until one can be shown.
const MAX_SERIES_TRIED: usize = 4;
/// The most instances of a series that are tried, from the middle one on, while their objects are missing.
const MAX_INSTANCES_TRIED: usize = 4;

/// A stored thumbnail.
#[derive(Debug, Clone)]
pub struct Thumbnail {
    /// The rendered image in the requested format.
    pub bytes: Bytes,
    /// A value that changes whenever the bytes do. Opaque, without quotation marks.
    pub version: String,
}

/// The keys under which a thumbnail is stored.
struct Place {
    key: Key,
    /// The prefix of the keys of all thumbnails of the same scope, and the prefix of those of its present
    /// version.
    all: String,
    current: String,
    version: String,
}

/// Returns the thumbnail of a study, a series, an instance or its frame (from 1): no larger than `width` ×
/// `height` pixels, nor than `rendering.max_thumbnail_px`. A thumbnail is rendered once, then stored until
/// its source changes.
///
/// The thumbnail shows the middle frame of the middle instance, by the order of space or else of numbers; for
/// a study, that of the study's first series with frames. Where nothing can be rendered, the thumbnail is a
/// placeholder with the modality on it.
///
/// # Errors
/// [`Error::NotFound`] if there is no such study, series, instance or frame.
pub async fn thumbnail(
    archive: &Arc<Archive>,
    caller: &Caller,
    scope: &Scope,
    frame: Option<u32>,
    format: Format,
    area: [u32; 2],
) -> Result<Thumbnail, Error> {
    let area = area.map(|side| side.clamp(1, archive.rendering.max_thumbnail_px));
    let scope = &match caller.visible(scope)? {
        VisibleScope::All(scope) => scope,
        VisibleScope::Some(scope) => middle_of_list(caller, scope),
    };
    let (subject, version) = subject(archive, caller, scope).await?;
    let place = place(caller, scope, &version, &file(frame, format, area));
    if let Some(thumbnail) = kept_thumbnail(archive, &place).await? {
        return Ok(thumbnail);
    }
    // Other requests for the same thumbnail wait for the lock, and then find the stored thumbnail.
    let _lock = archive.derived_locks.lock(place.key.clone()).await;
    if let Some(thumbnail) = kept_thumbnail(archive, &place).await? {
        return Ok(thumbnail);
    }
    let [width, height] = area;
    let viewport = Some(Viewport::area(width, height));
    let rendering = Rendering { viewport, ..Rendering::plain(format) };
    let mut series = series_of(archive, caller, scope, &subject).await?;
    let bytes = match thumbnail_of(archive, caller, subject, &series, frame, &rendering).await {
        Ok(bytes) => bytes,
        Err(error) if error.is_about_form() || is_lost(&error) => {
            if is_lost(&error) {
                error!(%error, "a thumbnail is a placeholder");
            }
            // A placeholder is not stored: rendering it is faster than reading it, and a later request may
            // find an image.
            if let (true, Some(of_instance)) = (series.is_empty(), &scope.series) {
                series.push(archive.series(caller, &scope.study, of_instance).await?);
            }
            let bytes = sheet_of(archive, caller, series.first(), format, area).await?;
            return Ok(Thumbnail { bytes, version: format!("sheet-{}", place.version) });
        }
        Err(error) => return Err(error),
    };
    if let Err(error) = keep_thumbnail(archive, caller, scope, &version, &place, &bytes).await {
        warn!(error = %error, "cannot keep a thumbnail");
    }
    Ok(Thumbnail { bytes, version: place.version })
}

/// The instance in the middle of those in a scope that the caller's share lists.
fn middle_of_list(caller: &Caller, scope: Scope) -> Scope {
    let mut listed = caller.listed_instances(&scope);
    if listed.is_empty() {
        return scope;
    }
    let (series, instance) = listed.swap_remove(listed.len() / 2);
    Scope { series: Some(series), instance: Some(instance), ..scope }
}

async fn kept_thumbnail(archive: &Archive, place: &Place) -> Result<Option<Thumbnail>, Error> {
    let Some(size_bytes) = archive.blobs.size(&place.key).await? else { return Ok(None) };
    let bytes = match archive.blobs.read(&place.key, 0..size_bytes).await {
        Ok(stream) => collect(stream).await?,
        // The thumbnail was deleted meanwhile.
        Err(blobs::Error::NotFound(_)) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    Ok(Some(Thumbnail { bytes: bytes.into(), version: place.version.clone() }))
}

/// Stores a thumbnail, unless its source has changed meanwhile, and deletes those of earlier versions.
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

/// The subject of a thumbnail. Each row is read once for it, and the row with the version once more when the
/// thumbnail is stored.
enum ThumbnailSubject {
    Study,
    Series(SeriesRecord),
    Instance(Box<InstanceRecord>),
}

/// The subject of a scope, and its version (see [`Archive::version`]).
async fn subject(
    archive: &Archive,
    caller: &Caller,
    scope: &Scope,
) -> Result<(ThumbnailSubject, String), Error> {
    let Scope { study, series, instance } = scope;
    Ok(match (series, instance) {
        (Some(series), Some(instance)) => {
            let record = archive.instance(caller, study, series, instance).await?;
            let version = record.digest.to_string();
            (ThumbnailSubject::Instance(Box::new(record)), version)
        }
        (Some(series), None) => {
            let record = archive.series(caller, study, series).await?;
            let version = series_version(&record);
            (ThumbnailSubject::Series(record), version)
        }
        (None, _) => (ThumbnailSubject::Study, archive.version(caller, scope).await?),
    })
}

/// The series that a subject consists of, the one that represents it best first.
async fn series_of(
    archive: &Archive,
    caller: &Caller,
    scope: &Scope,
    subject: &ThumbnailSubject,
) -> Result<Vec<SeriesRecord>, Error> {
    Ok(match subject {
        ThumbnailSubject::Instance(_) => Vec::new(),
        ThumbnailSubject::Series(record) => vec![record.clone()],
        ThumbnailSubject::Study => {
            let mut series = archive.index.series_of(caller.tenant.as_str(), &scope.study).await?;
            series.sort_by_cached_key(rank);
            series
        }
    })
}

/// Renders the frame that represents a subject, whose series are given.
async fn thumbnail_of(
    archive: &Arc<Archive>,
    caller: &Caller,
    subject: ThumbnailSubject,
    series: &[SeriesRecord],
    frame: Option<u32>,
    rendering: &Rendering,
) -> Result<Bytes, Error> {
    match subject {
        ThumbnailSubject::Instance(record) => {
            thumbnail_of_instance(archive, caller, *record, frame, rendering).await
        }
        ThumbnailSubject::Series(record) => thumbnail_of_series(archive, caller, &record, rendering).await,
        ThumbnailSubject::Study => {
            let mut outcome = Err(Error::Unsupported("the study has no frames".into()));
            let with_images = series.iter().filter(|series| series.number_of_images > 0);
            for record in with_images.take(MAX_SERIES_TRIED) {
                outcome = thumbnail_of_series(archive, caller, record, rendering).await;
                let is_next_tried = |error: &Error| {
                    error.is_about_form() || is_lost(error) || matches!(error, Error::NotFound(_))
                };
                if !outcome.as_ref().is_err_and(is_next_tried) {
                    break;
                }
            }
            outcome
        }
    }
}

/// Renders the placeholder of a subject with this series.
async fn sheet_of(
    archive: &Archive,
    caller: &Caller,
    series: Option<&SeriesRecord>,
    format: Format,
    area: [u32; 2],
) -> Result<Bytes, Error> {
    let modality = series.and_then(|record| record.attributes.get(&tags::MODALITY));
    let word = modality.and_then(Attribute::first_text).unwrap_or("?");
    let (word, quality) = (word.to_owned(), archive.rendering.quality);
    let permit = archive.permits.codec(caller).await;
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
    let middle = sources.len() / 2;
    let mut outcome = Err(Error::Unsupported(format!("series {} has no frames", record.series)));
    for source in sources.into_iter().skip(middle).take(MAX_INSTANCES_TRIED) {
        let instance = source_record(archive, caller, record, source).await?;
        outcome = thumbnail_of_instance(archive, caller, instance, None, rendering).await;
        if !outcome.as_ref().is_err_and(is_lost) {
            break;
        }
    }
    outcome
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

/// The keys of a thumbnail. `version` is that of the scope.
fn place(caller: &Caller, scope: &Scope, version: &str, file: &str) -> Place {
    let all = keys::thumbnails(&caller.tenant, scope);
    let current = format!("{all}{version}/");
    let key = keys::thumbnail(&caller.tenant, scope, version, file);
    Place { key, all, current, version: format!("{version}-{file}") }
}
