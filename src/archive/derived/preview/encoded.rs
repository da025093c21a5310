//! A slice of a preview: a frame of a stored instance, encoded.

use std::sync::Arc;

use bytes::Bytes;

use crate::archive::access::{Caller, Tenant};
use crate::archive::derived::decoding::{FrameError, frame_for_background};
use crate::archive::derived::preview::PreviewError;
use crate::archive::derived::preview::arrange::Placed;
use crate::archive::derived::preview::geometry::{Geometry, GeometryAttributes};
use crate::archive::read::whole::is_lost;
use crate::archive::{Archive, Error, run_blocking, run_in_background};
use crate::decoders;
use crate::dicom::uid::{InstanceUid, SeriesUid, StudyUid};
use crate::index::records::InstanceRecord;
use crate::pixel::preview::{CodingError, ImageDescription, PreviewImage, encode};

/// A series of a tenant.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(in crate::archive) struct SeriesKey {
    /// The tenant.
    pub(in crate::archive) tenant: Tenant,
    /// The study.
    pub(in crate::archive) study: StudyUid,
    /// The series.
    pub(in crate::archive) series: SeriesUid,
}

/// The identity of a slice: a frame of a stored object.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct SliceKey {
    pub(super) instance: InstanceUid,
    /// The name of the stored object, so that a replaced instance has other slices.
    pub(super) object: String,
    /// The frame, from 1.
    pub(super) frame: u32,
}

/// A slice that was encoded, or that cannot be.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct EncodedSlice {
    pub(super) key: SliceKey,
    pub(super) instance_number: Option<i64>,
    /// The geometry of the encoded image; of the frame if there is none.
    pub(super) geometry: Geometry,
    /// The image, or the reason why it could not be encoded.
    pub(super) image: Result<EncodedImage, String>,
}

/// The image of a slice.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct EncodedImage {
    pub(super) description: Arc<ImageDescription>,
    /// See [`PreviewImage::level_ends`].
    pub(super) level_ends: Vec<u32>,
    pub(super) error: Option<CodingError>,
    pub(super) tile_parts: TileParts,
}

/// The tile-parts of an image.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum TileParts {
    Memory(Bytes),
    /// In the scratch file of a collection, from this offset on.
    Scratch(u64),
}

impl Placed for EncodedSlice {
    fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    fn number(&self) -> (Option<i64>, &InstanceUid, u32) {
        (self.instance_number, &self.key.instance, self.key.frame)
    }
}

impl EncodedSlice {
    /// The bytes of the tile-parts.
    pub(super) fn length(&self) -> usize {
        self.image.as_ref().ok().and_then(|image| image.level_ends.last()).map_or(0, |end| *end as usize)
    }
}

/// An instance whose frames are to be encoded.
pub(super) struct FrameSource {
    pub(super) series: SeriesKey,
    record: InstanceRecord,
    geometry: GeometryAttributes,
}

impl FrameSource {
    /// Reads the geometry of all frames.
    pub(super) async fn new(series: SeriesKey, record: InstanceRecord) -> Result<Self, Error> {
        let read = || (GeometryAttributes::read(&record.metadata), record);
        let (geometry, record) = run_blocking(None, read).await?;
        Ok(Self { series, record, geometry })
    }

    /// The frames of the instance.
    pub(super) fn frames(&self) -> std::ops::RangeInclusive<u32> {
        1..=self.record.layout.pixels.as_ref().map_or(0, |pixels| pixels.number_of_frames)
    }

    /// The identity of a frame.
    pub(super) fn key(&self, frame: u32) -> SliceKey {
        SliceKey { instance: self.record.instance.clone(), object: self.record.object.clone(), frame }
    }
}

/// Encodes frame `frame` (from 1), when there is a permit to do so.
///
/// # Errors
/// Errors that are not about this frame alone.
pub(super) async fn encode_frame(
    archive: &Archive,
    source: &FrameSource,
    frame: u32,
) -> Result<EncodedSlice, PreviewError> {
    let permit = archive.slices.permit().await;
    let geometry = source.geometry.frame(frame - 1);
    let instance_number = source.geometry.instance_number();
    let key = source.key(frame);
    let failed = |geometry, reason| EncodedSlice {
        key: source.key(frame),
        instance_number,
        geometry,
        image: Err(reason),
    };
    let caller = Caller::server(source.series.tenant.clone());
    let stored = match frame_for_background(archive, &caller, &source.record, frame).await {
        Ok(stored) => stored,
        Err(error) => return Ok(failed(geometry, omissible(error)?)),
    };
    let (rate, is_measured) = (archive.preview.rate(), archive.slices.is_to_measure(&source.series));
    let encoded = run_in_background(move || {
        let encoded = stored.decode().and_then(|decoded| encode(decoded, rate, is_measured));
        drop(permit);
        encoded
    });
    let image = match encoded.await {
        Ok(Ok(image)) => image,
        Ok(Err(error)) => return Ok(failed(geometry, error.to_string())),
        // The panic was logged.
        Err(_) => return Ok(failed(geometry, "the server failed while it was encoded".into())),
    };
    let PreviewImage { description, tile_parts, level_ends, error } = image;
    let geometry = geometry.binned(description.binning);
    let (description, tile_parts) = (Arc::new(description), TileParts::Memory(tile_parts.into()));
    let image = EncodedImage { description, level_ends, error, tile_parts };
    Ok(EncodedSlice { key, instance_number, geometry, image: Ok(image) })
}

/// The reason why a slice is left out of a preview that goes on without it.
///
/// A frame that costs a decoder process ends the preview for good: the other frames of the series, and other
/// attempts, may cost as much.
fn omissible(error: FrameError) -> Result<String, PreviewError> {
    match error {
        // The object holds fewer frames than it says, or one that is too large.
        FrameError::Read(Error::NotFound(reason) | Error::TooLarge(reason)) => Ok(reason),
        FrameError::Read(error) if is_lost(&error) => Ok("the object is missing or damaged".into()),
        FrameError::Read(error) => Err(error.into()),
        FrameError::Decode(decoders::Error::Unsupported(reason) | decoders::Error::Damaged(reason)) => {
            Ok(reason)
        }
        FrameError::Decode(error) if error.is_transient() => Err(Error::from(FrameError::from(error)).into()),
        FrameError::Decode(error) => Err(PreviewError::Permanent(error.to_string())),
    }
}
