//! Pictures for people: frames rendered to JPEG, PNG or GIF, and thumbnails (PS3.18 §10.4.1.1.3, §10.4.1.1.4, §8.3.5.1).

use std::sync::Arc;

use bytes::Bytes;

use crate::archive::access::Caller;
use crate::archive::retrieve::Scope;
use crate::archive::{Archive, Error};
use crate::dicom::uid::{InstanceUid, SeriesUid};
use crate::index::records::InstanceRecord;

/// How a frame is to be rendered (PS3.18 §8.3.5.1).
#[derive(Debug, Clone, PartialEq)]
pub struct Rendering {
    /// The format of the picture.
    pub format: Format,
    /// The window to use instead of what the image says; without one: its first window or VOI LUT, or else all values.
    pub window: Option<Window>,
    /// The part of the image to show, and the size to scale it to; without one: all pixels as they are.
    pub viewport: Option<Viewport>,
    /// Quality of lossy formats, 1 to 100.
    pub quality: Option<u8>,
    /// What to write into the picture.
    pub annotation: Annotation,
    /// The colour profile to put into the picture.
    pub icc_profile: IccProfile,
    /// A presentation state in the same study to apply.
    pub presentation_state: Option<(SeriesUid, InstanceUid)>,
}

/// The format of a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `image/jpeg`, baseline, 8 bits.
    Jpeg,
    /// `image/png`, 8 bits.
    Png,
    /// `image/gif`; several frames are animated.
    Gif,
}

/// A window on the values after the modality LUT (PS3.3 §C.11.2.1.2).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Window {
    /// Window Center.
    pub center: f64,
    /// Window Width: more than 0; at least 1 for [`Function::Linear`].
    pub width: f64,
    /// VOI LUT Function.
    pub function: Function,
}

/// VOI LUT Function (0028,1056).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Function {
    /// LINEAR.
    Linear,
    /// LINEAR_EXACT.
    LinearExact,
    /// SIGMOID.
    Sigmoid,
}

/// A region of the image and the size of the area to show it in (PS3.18 §8.3.5.1.3), in pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Viewport {
    /// Width of the area: the picture is as large as fits without distortion.
    pub width: u32,
    /// Height of the area.
    pub height: u32,
    /// Left and top edge of the region, from 0.
    pub left_top: [f64; 2],
    /// Width and height of the region; up to the image's edge if not given; negative to flip.
    pub size: [Option<f64>; 2],
}

/// What is written into a picture (PS3.18 §8.3.5.1.1).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Annotation {
    /// Who it is of.
    pub patient: bool,
    /// How it was made.
    pub technique: bool,
}

/// The colour profile of a picture (PS3.18 §8.3.5.1.5).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum IccProfile {
    /// None.
    #[default]
    No,
    /// That of the image, or else sRGB.
    Yes,
    /// sRGB, with the pixels transformed.
    Srgb,
    /// Adobe RGB, with the pixels transformed.
    AdobeRgb,
    /// ROMM RGB, with the pixels transformed.
    RommRgb,
}

/// A stored thumbnail.
#[derive(Debug, Clone)]
pub struct Thumbnail {
    /// The picture in the format asked for.
    pub bytes: Bytes,
    /// Changes whenever the bytes do. Opaque, without quotation marks.
    pub version: String,
}

impl Archive {
    /// Renders frame `number` (from 1) as a picture.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no such frame or presentation state, [`Error::NotAcceptable`] with the reason if
    /// it cannot be rendered.
    pub async fn rendered_frame(
        self: &Arc<Self>,
        caller: &Caller,
        record: &InstanceRecord,
        number: u32,
        rendering: &Rendering,
    ) -> Result<Bytes, Error> {
        let _ = (caller, record, number, rendering);
        unimplemented!()
    }

    /// Renders all frames of an instance as one animated GIF, at the rate that the instance tells.
    ///
    /// # Errors
    /// As [`Archive::rendered_frame`].
    pub async fn rendered_animation(
        self: &Arc<Self>,
        caller: &Caller,
        record: &InstanceRecord,
        rendering: &Rendering,
    ) -> Result<Bytes, Error> {
        let _ = (caller, record, rendering);
        unimplemented!()
    }

    /// The thumbnail of a study, a series, an instance or its frame (from 1): no larger than `width` × `height` pixels. Made
    /// once, then kept until what it shows changes.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no such thing; [`Error::NotAcceptable`] if nothing in it can be shown.
    pub async fn thumbnail(
        self: &Arc<Self>,
        caller: &Caller,
        scope: &Scope,
        frame: Option<u32>,
        format: Format,
        [width, height]: [u32; 2],
    ) -> Result<Thumbnail, Error> {
        let _ = (caller, scope, frame, format, width, height);
        unimplemented!()
    }
}
