//! Pictures for people: frames rendered to JPEG, PNG or GIF, and thumbnails (PS3.18 §10.4.1.1.3, §10.4.1.1.4, §8.3.5.1).

use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use crate::archive::access::Caller;
use crate::archive::derived::decoding::{DecodableFrame, frame_for_work};
use crate::archive::derived::rendering::annotation::Lines;
use crate::archive::derived::rendering::display_attributes::DisplayAttributes;
use crate::archive::derived::rendering::image_reference::Subject;
use crate::archive::derived::rendering::presentation::Presentation;
use crate::archive::derived::transcode::has_float_pixels;
use crate::archive::read::collect;
use crate::archive::{Archive, Error, run_blocking};
use crate::dicom::uid::{InstanceUid, SeriesUid};
use crate::index::records::InstanceRecord;
use crate::pixel::render;
use crate::pixel::render::encode::{Animation, encode};
use crate::pixel::render::window::Voi;
use crate::pixel::render::{Canvas, Display, icc, viewport};

pub mod annotation;
mod display_attributes;
mod graphics;
mod image_reference;
mod placeholder;
mod presentation;
#[cfg(test)]
mod tests;
pub mod thumbnail;

pub use crate::archive::derived::rendering::annotation::Annotation;
pub use crate::archive::derived::rendering::thumbnail::Thumbnail;
pub use crate::pixel::render::encode::Format;
pub use crate::pixel::render::icc::IccProfile;
pub use crate::pixel::render::viewport::Viewport;
pub use crate::pixel::render::window::{VoiFunction, Window};

/// ICC Profile, at the end of the path of a bulk value.
const ICC_PROFILE: &str = "00282000";
/// The largest ICC profile that is read, in bytes.
const MAX_ICC_BYTES: u64 = 16 << 20;

/// How a frame is to be rendered (PS3.18 §8.3.5.1).
#[derive(Debug, Clone, PartialEq)]
pub struct Rendering {
    /// The format of the picture.
    pub format: Format,
    /// The window to use instead of what the image says; without one: its first VOI LUT or window, or else all values.
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

impl Rendering {
    /// In a format, as the image says.
    pub fn plain(format: Format) -> Self {
        Self {
            format,
            window: None,
            viewport: None,
            quality: None,
            annotation: Annotation::default(),
            icc_profile: IccProfile::default(),
            presentation_state: None,
        }
    }
}

/// Pixels of the longer side of a thumbnail that is asked for without a size (`rendering.thumbnail_px`).
pub fn thumbnail_px(archive: &Archive) -> u32 {
    archive.rendering.thumbnail_px
}

/// The most pixels that the area of a viewport may have (`rendering.max_viewport_pixels`).
pub fn max_viewport_pixels(archive: &Archive) -> u64 {
    archive.rendering.max_viewport_pixels
}

/// Prepares to paint frames of an instance: what all of them need is read once.
///
/// # Errors
/// [`Error::NotFound`] if there is no such presentation state, an error about the form with the reason if it, or
/// the instance, cannot be rendered ([`Error::is_about_form`]).
pub async fn renderer(
    archive: &Arc<Archive>,
    caller: &Caller,
    record: &Arc<InstanceRecord>,
    rendering: &Rendering,
) -> Result<Renderer, Error> {
    let scene = Arc::new(scene(archive, caller, record, rendering).await?);
    let quality = rendering.quality.unwrap_or(archive.rendering.quality);
    Ok(Renderer {
        archive: archive.clone(),
        caller: caller.clone(),
        scene,
        format: rendering.format,
        quality,
    })
}

/// What is needed to paint frames of an instance, besides the frames.
async fn scene(
    archive: &Archive,
    caller: &Caller,
    record: &Arc<InstanceRecord>,
    rendering: &Rendering,
) -> Result<Scene, Error> {
    if has_float_pixels(record) {
        return Err(Error::Unsupported("floating point pixels cannot be rendered".into()));
    }
    if let Some(Viewport { width, height, .. }) = rendering.viewport {
        let (pixels, limit) = (u64::from(width) * u64::from(height), archive.rendering.max_viewport_pixels);
        if pixels > limit {
            let reason = format!("viewport: {width} x {height} is more than {limit} pixels");
            return Err(Error::TooLarge(format!("{reason} (rendering.max_viewport_pixels)")));
        }
    }
    let own_profile = match rendering.icc_profile {
        IccProfile::No => None,
        _ => icc_profile(archive, caller, record).await?,
    };
    let presentation = match &rendering.presentation_state {
        Some((series, instance)) => {
            let state = archive.instance(caller, &record.study, series, instance).await?;
            Some(run_blocking(None, move || Presentation::read(&state)).await??)
        }
        None => None,
    };
    let max_pixels = archive.rendering.max_viewport_pixels;
    let &Rendering { window, viewport, annotation, icc_profile, .. } = rendering;
    let (record, described) = (record.clone(), OnceLock::new());
    Ok(Scene {
        record,
        described,
        window,
        viewport,
        max_pixels,
        annotation,
        icc_profile,
        own_profile,
        presentation,
    })
}

/// The ICC profile of an image that is a bulk value; smaller ones stand in the metadata.
async fn icc_profile(
    archive: &Archive,
    caller: &Caller,
    record: &InstanceRecord,
) -> Result<Option<Vec<u8>>, Error> {
    let mut bulk = record.layout.bulk.iter();
    let Some(value) = bulk.find(|value| value.path.ends_with(ICC_PROFILE)) else { return Ok(None) };
    if value.length > MAX_ICC_BYTES {
        return Err(Error::TooLarge("the image's ICC profile is too large".into()));
    }
    let range = value.offset..value.offset + value.length;
    Ok(Some(collect(archive.read(caller, record, range).await?).await?))
}

/// Paints frames of one instance, all in the same way.
pub struct Renderer {
    archive: Arc<Archive>,
    caller: Caller,
    scene: Arc<Scene>,
    format: Format,
    quality: u8,
}

impl Renderer {
    /// Renders frame `number` (from 1) as a picture.
    ///
    /// Holds the frame in memory, several times over, which is done for as many frames at a time as there are cores.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no such frame, an error about the form with the reason if it cannot be rendered
    /// ([`Error::is_about_form`]).
    pub async fn frame(&self, number: u32) -> Result<Bytes, Error> {
        let (format, quality) = (self.format, self.quality);
        self.paint(number, move |canvas, profile, _| {
            encode(&canvas, format, quality, profile.as_deref()).map(Bytes::from)
        })
        .await
    }

    /// Renders all frames as one animated GIF, at the rate that the instance tells.
    ///
    /// # Errors
    /// As [`Renderer::frame`]; [`Error::TooLarge`] too if it would be larger than `rendering.max_animation_frames` or
    /// `rendering.max_animation_bytes` allow.
    pub async fn animation(&self) -> Result<Bytes, Error> {
        let settings = &self.archive.rendering;
        let frames = self.scene.record.layout.pixels.as_ref().map_or(0, |pixels| pixels.number_of_frames);
        let limit = settings.max_animation_frames;
        if frames > limit {
            let reason =
                format!("there are {frames} frames, more than {limit} (rendering.max_animation_frames)");
            return Err(Error::TooLarge(reason));
        }
        if frames < 2 {
            return self.frame(1).await;
        }
        let _permit = self.archive.permits.animation().await;
        let mut animation = Animation::new();
        for number in 1..=frames {
            animation = self
                .paint(number, move |canvas, _, described| {
                    animation.append(&canvas, described.frame_time())?;
                    Ok(animation)
                })
                .await?;
            let limit = settings.max_animation_bytes;
            if animation.length() > limit {
                let reason =
                    format!("the animation takes more than {limit} bytes (rendering.max_animation_bytes)");
                return Err(Error::TooLarge(reason));
            }
        }
        Ok(animation.finish().map(Bytes::from)?)
    }

    /// Paints frame `number` (from 1), and does with the canvas and its ICC profile what is to be done with them.
    async fn paint<T: Send + 'static>(
        &self,
        number: u32,
        then: impl FnOnce(Canvas, Option<Vec<u8>>, &DisplayAttributes) -> Result<T, render::Error>
        + Send
        + 'static,
    ) -> Result<T, Error> {
        let Self { archive, caller, .. } = self;
        let (permit, frame) = frame_for_work(archive, caller, &self.scene.record, number).await?;
        let scene = self.scene.clone();
        let painted = run_blocking(Some(permit), move || {
            let (canvas, profile) = scene.paint(number, &frame)?;
            then(canvas, profile, scene.described())
        });
        Ok(painted.await??)
    }
}

/// How frames of an instance are painted.
struct Scene {
    record: Arc<InstanceRecord>,
    /// Read for the first frame that is painted.
    described: OnceLock<DisplayAttributes>,
    window: Option<Window>,
    viewport: Option<Viewport>,
    max_pixels: u64,
    annotation: Annotation,
    icc_profile: IccProfile,
    own_profile: Option<Vec<u8>>,
    presentation: Option<Presentation>,
}

impl Scene {
    fn described(&self) -> &DisplayAttributes {
        self.described.get_or_init(|| DisplayAttributes::read(&self.record.metadata))
    }

    /// Paints frame `number` (from 1): the picture, and the ICC profile to put into it. Takes a core for a while.
    fn paint(&self, number: u32, frame: &DecodableFrame) -> Result<(Canvas, Option<Vec<u8>>), render::Error> {
        let (record, described) = (&self.record, self.described());
        let mut display = described.display(frame.layout(), number - 1);
        let subject = Subject { instance: record.instance.as_str(), frame: number };
        if let Some(presentation) = &self.presentation {
            presentation.adjust(&mut display, frame.layout(), subject);
        }
        if let Some(window) = self.window {
            display.voi = Voi::Window(window);
        }
        let mut canvas = shown(frame, &display)?;
        if let Some(presentation) = &self.presentation {
            canvas = presentation.arrange(canvas, self.viewport.as_ref(), self.max_pixels, subject)?;
        } else if let Some(viewport) = &self.viewport {
            canvas = viewport::apply(canvas, viewport)?;
        }
        let described_profile = match (self.icc_profile, &self.own_profile) {
            (IccProfile::No, _) | (_, Some(_)) => None,
            (_, None) => described.icc_profile(),
        };
        let own = self.own_profile.as_deref().or(described_profile.as_deref());
        let (mut canvas, profile) = icc::apply(canvas, self.icc_profile, own)?;
        Lines::new(self.annotation, record, number, &display.voi).write(&mut canvas);
        Ok((canvas, profile))
    }
}

/// What is seen of a stored frame.
fn shown(frame: &DecodableFrame, display: &Display) -> Result<Canvas, render::Error> {
    let words = frame.little_endian().and_then(|bytes| render::render_native(bytes, frame.layout(), display));
    match words {
        Some(canvas) => Ok(canvas),
        None => render::render_frame(frame.decode()?, display),
    }
}
