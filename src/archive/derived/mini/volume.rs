//! The slices of a series as a volume: in the order of the fast stream, and of one geometry.

use std::sync::Arc;

use futures_util::TryStreamExt;
use tokio::sync::OnceCell;

use crate::archive::access::Caller;
use crate::archive::derived::mini::attributes::SourceAttributes;
use crate::archive::derived::preview::arrange::{Order, Placed, arrange};
use crate::archive::derived::preview::bytes_of;
use crate::archive::derived::preview::geometry::{Geometry, GeometryAttributes};
use crate::archive::scope::Scope;
use crate::archive::{Archive, Error, run_blocking};
use crate::dicom::frames::PixelLayout;
use crate::dicom::uid::{InstanceUid, SeriesUid, StudyUid};
use crate::digest::ObjectDigest;
use crate::index::records::InstanceRecord;

/// The most bytes of records that are held for one cut-out. Further rows are read again when their slice is
/// next.
const MAX_HELD_BYTES: usize = 4 << 20;
/// The longest text of attributes that are held for all slices of an instance.
const MAX_HELD_TEXT_BYTES: u64 = 4 << 20;
/// Positions nearer to each other than this are one, in mm.
const SAME_POSITION_MM: f64 = 1e-3;
/// The largest difference between numbers of orientation or spacing that count as equal.
const SAME: f64 = 1e-4;
/// The largest difference between the distances of evenly spaced slices, as a part of the distance.
const EVEN: f64 = 0.01;

/// An instance with slices of a volume.
pub(super) struct VolumeSource {
    pub(super) instance: InstanceUid,
    pub(super) sop_class: String,
    pub(super) digest: ObjectDigest,
    pub(super) layout: PixelLayout,
    /// The record, as long as those of the series are few enough to be held.
    record: Option<Arc<InstanceRecord>>,
    /// The attributes of an instance with several slices.
    attributes: OnceCell<Arc<SourceAttributes>>,
}

/// A slice of a volume.
#[derive(Clone)]
pub(super) struct VolumeSlice {
    pub(super) source: Arc<VolumeSource>,
    instance_number: Option<i64>,
    /// The frame, from 1.
    pub(super) frame: u32,
    pub(super) geometry: Geometry,
}

impl Placed for VolumeSlice {
    fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    fn number(&self) -> (Option<i64>, &InstanceUid, u32) {
        (self.instance_number, &self.source.instance, self.frame)
    }
}

impl VolumeSource {
    /// The record of the instance, which is read again only if it is not held.
    pub(super) async fn record(
        &self,
        archive: &Archive,
        caller: &Caller,
        (study, series): (&StudyUid, &SeriesUid),
    ) -> Result<Arc<InstanceRecord>, Error> {
        if let Some(record) = &self.record {
            return Ok(record.clone());
        }
        let record = archive.instance(caller, study, series, &self.instance).await?;
        match record.digest == self.digest {
            true => Ok(Arc::new(record)),
            false => Err(Error::NotReady("the series has changed meanwhile".into())),
        }
    }

    /// The attributes of the instance. Those of many slices are parsed once, unless they are very many.
    pub(super) async fn attributes(
        &self,
        archive: &Archive,
        caller: &Caller,
        record: &Arc<InstanceRecord>,
    ) -> Result<Arc<SourceAttributes>, Error> {
        let read = async || {
            let (permit, record) = (archive.permits.codec(caller).await, record.clone());
            let read = move || SourceAttributes::read(&record.metadata).map(Arc::new);
            run_blocking(Some(permit), read).await?
        };
        let is_held = self.layout.number_of_frames > 1 && record.metadata.text_bytes() <= MAX_HELD_TEXT_BYTES;
        match is_held {
            true => self.attributes.get_or_try_init(read).await.cloned(),
            false => read().await,
        }
    }
}

/// Reads the slices of a series, as far as the caller may see them. Returns them in the order of the fast
/// stream, with its criterion.
///
/// # Errors
/// [`Error::NotFound`] if there is no such series for the caller; [`Error::TooMany`] if there
/// are more than `preview.max_frames`.
pub(super) async fn slices(
    archive: &Archive,
    caller: &Caller,
    study: &StudyUid,
    series: &SeriesUid,
) -> Result<(Vec<VolumeSlice>, Order), Error> {
    let _permit = archive.permits.query(caller).await;
    let limit = archive.preview.max_frames as usize;
    let scope = Scope { study: study.clone(), series: Some(series.clone()), instance: None };
    let mut pages = archive.instances(caller, &scope).await?;
    let (mut slices, mut held_bytes) = (Vec::new(), 0);
    while let Some(page) = pages.try_next().await? {
        let room = limit - slices.len();
        let described = move || described(page, room, held_bytes);
        let (described, held) = run_blocking(None, described).await?;
        if described.len() > room {
            let reason = format!("the series has more than {limit} slices (preview.max_frames)");
            return Err(Error::TooMany(reason));
        }
        held_bytes = held;
        slices.extend(described);
    }
    let (order, _) = arrange(&mut slices);
    Ok((slices, order))
}

/// The slices of some instances, and the bytes of all records that are held by then. More than `room` slices
/// are cut off after the first one that is too many.
fn described(page: Vec<InstanceRecord>, room: usize, mut held_bytes: usize) -> (Vec<VolumeSlice>, usize) {
    let mut slices = Vec::new();
    for record in page {
        let Some(layout) = record.layout.pixels.clone() else { continue };
        let read = GeometryAttributes::read(&record.metadata);
        held_bytes += bytes_of(&record);
        let frames = layout.number_of_frames;
        let source = Arc::new(VolumeSource {
            instance: record.instance.clone(),
            sop_class: record.sop_class.clone(),
            digest: record.digest,
            layout,
            record: (held_bytes <= MAX_HELD_BYTES).then(|| Arc::new(record)),
            attributes: OnceCell::new(),
        });
        let left = (room + 1).saturating_sub(slices.len());
        slices.extend((1..=frames).take(left).map(|frame| VolumeSlice {
            source: source.clone(),
            instance_number: read.instance_number(),
            frame,
            geometry: read.frame(frame - 1),
        }));
    }
    (slices, held_bytes)
}

/// The distance between neighbours among slices that are a volume, in mm; `None` if there is one slice, or if
/// the slices are not evenly spaced.
///
/// # Errors
/// The reason why the slices are no volume of which blocks of `side` slices can be averaged.
pub(super) fn distance(slices: &[VolumeSlice], side: u32) -> Result<Option<f64>, String> {
    let Some(first) = slices.first() else { return Err("there are no slices".into()) };
    for slice in slices {
        check_alike(first, slice)?;
    }
    let along = |slice: &VolumeSlice| slice.geometry.along_normal().map_or(0.0, |(_, distance)| distance);
    let gaps: Vec<f64> = slices.windows(2).map(|pair| along(&pair[1]) - along(&pair[0])).collect();
    if gaps.iter().any(|gap| *gap < SAME_POSITION_MM) {
        return Err("several of these slices have one position, as those of several times or echoes".into());
    }
    let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
    let is_even = gaps.iter().all(|gap| (gap - mean).abs() <= EVEN * mean);
    if side == 1 {
        return Ok((is_even && !gaps.is_empty()).then_some(mean));
    }
    if !is_even {
        return Err(
            "these slices are not evenly spaced, and cannot be averaged (binning=1 cuts them out)".into()
        );
    }
    let have_one_scale =
        |block: &[VolumeSlice]| block.iter().all(|slice| slice.geometry.rescale == block[0].geometry.rescale);
    match slices.chunks(side as usize).all(have_one_scale) {
        true => Ok(Some(mean)),
        false => {
            Err("slices with different rescale values cannot be averaged (binning=1 cuts them out)".into())
        }
    }
}

/// Checks that a slice is of the same kind and lies in the same grid as another.
fn check_alike(first: &VolumeSlice, slice: &VolumeSlice) -> Result<(), String> {
    let layout = &slice.source.layout;
    let is_grey = layout.samples == 1 && matches!(layout.photometric.as_str(), "MONOCHROME1" | "MONOCHROME2");
    if !is_grey || !matches!(layout.bits_allocated, 8 | 16 | 32) {
        return Err("the slices are no grey images of 8, 16 or 32 bits".into());
    }
    let kind = |slice: &VolumeSlice| PixelLayout { number_of_frames: 1, ..slice.source.layout.clone() };
    if kind(first) != kind(slice) {
        return Err("the slices differ in size or in the form of their pixels".into());
    }
    let (Some(orientation), Some(spacing), Some(_)) =
        (slice.geometry.orientation, slice.geometry.spacing, slice.geometry.position)
    else {
        return Err("slices have no position, orientation or pixel spacing".into());
    };
    let are_near = |ours: &[f64], others: Option<&[f64]>| {
        others.is_some_and(|others| ours.iter().zip(others).all(|(a, b)| (a - b).abs() <= SAME))
    };
    let is_one_grid = are_near(&orientation, first.geometry.orientation.as_ref().map(<[f64; 6]>::as_slice))
        && are_near(&spacing, first.geometry.spacing.as_ref().map(<[f64; 2]>::as_slice));
    match is_one_grid && spacing.iter().all(|distance| *distance > 0.0) {
        true => Ok(()),
        false => Err("the slices differ in orientation or pixel spacing".into()),
    }
}
