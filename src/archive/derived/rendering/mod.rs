//! Rendered images: frames rendered to JPEG, PNG or GIF, and thumbnails (PS3.18 §10.4.1.1.3, §10.4.1.1.4,
//! §8.3.5.1).

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

/// The tag of ICC Profile, at the end of the path of a bulk value.
const ICC_PROFILE: &str = "00282000";
/// The largest ICC profile that is read, in bytes.
const MAX_ICC_BYTES: u64 = 16 << 20;

/// The parameters of a rendered image (PS3.18 §8.3.5.1).
#[derive(Debug, Clone, PartialEq)]
pub struct Rendering {
    /// The format of the rendered image.
    pub format: Format,
    /// The window to use instead of the image's own. Without a window, the image's first VOI LUT or window is
    /// used, or else the full range of values.
    pub window: Option<Window>,
    /// The part of the image to show, and the size to scale this part to. Without a viewport, all pixels are
    /// rendered unscaled.
    pub viewport: Option<Viewport>,
    /// Quality of lossy formats, 1 to 100.
    pub quality: Option<u8>,
    /// The annotations to write into the rendered image.
    pub annotation: Annotation,
    /// The colour profile to embed in the rendered image.
    pub icc_profile: IccProfile,
    /// A presentation state in the same study to apply.
    pub presentation_state: Option<(SeriesUid, InstanceUid)>,
}

impl Rendering {
    /// The bytes of a rendered image of an instance before it is encoded, with three samples for each pixel.
    /// The encoded image is hardly ever larger.
    pub fn image_bytes(&self, record: &InstanceRecord) -> usize {
        let own = || record.layout.pixels.as_ref().map_or((0, 0), |pixels| (pixels.columns, pixels.rows));
        let (width, height) =
            self.viewport.as_ref().map_or_else(own, |viewport| (viewport.width, viewport.height));
        let bytes = u64::from(width).saturating_mul(height.into()).saturating_mul(3);
        usize::try_from(bytes).unwrap_or(usize::MAX)
    }

    /// The parameters of a rendered image in a format, with the image's own display values.
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

/// The default length in pixels of the longer side of a thumbnail (`rendering.thumbnail_px`).
pub fn thumbnail_px(archive: &Archive) -> u32 {
    archive.rendering.thumbnail_px
}

/// The maximum size of an animation in bytes (`rendering.max_animation_bytes`).
pub fn max_animation_bytes(archive: &Archive) -> usize {
    archive.rendering.max_animation_bytes
}

/// The largest area of a viewport, in pixels (`rendering.max_viewport_pixels`).
pub fn max_viewport_pixels(archive: &Archive) -> u64 {
    archive.rendering.max_viewport_pixels
}

/// Prepares to render frames of an instance: data that all frames need is read once.
///
/// # Errors
/// [`Error::NotFound`] if there is no such presentation state, an error about the form with the reason if the
/// presentation state or the instance cannot be rendered ([`Error::is_about_form`]).
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

/// The size, in pixels from left to right and from top to bottom, of an image as a presentation state in the
/// same study shows its frame `number` (from 1) without a viewport.
///
/// # Errors
/// As [`renderer`].
pub async fn presented_size(
    archive: &Archive,
    caller: &Caller,
    record: &Arc<InstanceRecord>,
    number: u32,
    (series, instance): &(SeriesUid, InstanceUid),
) -> Result<[u32; 2], Error> {
    let state = archive.instance(caller, &record.study, series, instance).await?;
    let record = Arc::clone(record);
    let size = move || {
        let image = record.layout.pixels.as_ref().map_or([1; 2], |pixels| [pixels.columns, pixels.rows]);
        let subject = Subject { instance: record.instance.as_str(), frame: number };
        Presentation::read(&state).map(|presentation| presentation.size(image, subject))
    };
    run_blocking(None, size).await?
}

/// Reads the data needed to render frames of an instance, besides the frames.
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

/// Reads the ICC profile of an image if the profile is a bulk value; smaller profiles are in the metadata.
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

/// Renders frames of one instance, all with the same parameters.
pub struct Renderer {
    archive: Arc<Archive>,
    caller: Caller,
    scene: Arc<Scene>,
    format: Format,
    quality: u8,
}

impl Renderer {
    /// Renders frame `number` (from 1).
    ///
    /// Holds the frame in memory, several times over. The number of frames that are rendered at the same time
    /// is limited to the number of cores.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no such frame, an error about the form with the reason if the frame
    /// cannot be rendered ([`Error::is_about_form`]).
    pub async fn frame(&self, number: u32) -> Result<Bytes, Error> {
        let (format, quality) = (self.format, self.quality);
        self.paint(number, move |canvas, profile, _| {
            encode(&canvas, format, quality, profile.as_deref()).map(Bytes::from)
        })
        .await
    }

    /// Renders all frames as one animated GIF, at the frame rate in the instance's metadata.
    ///
    /// # Errors
    /// The errors of [`Renderer::frame`]; also [`Error::TooLarge`] if the animation would be larger than
    /// `rendering.max_animation_frames` or `rendering.max_animation_bytes` allow.
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
        let _permit = self.archive.permits.animation(&self.caller).await;
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

    /// Renders frame `number` (from 1), and calls `then` with the canvas and its ICC profile.
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

/// The data and parameters to render frames of an instance.
struct Scene {
    record: Arc<InstanceRecord>,
    /// The display values of the metadata, which are read for the first frame that is rendered.
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

    /// Renders frame `number` (from 1). Returns the canvas, and the ICC profile to embed. Takes a core for a
    /// while: call this method on a blocking thread.
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

/// Applies the display transformations to a stored frame.
fn shown(frame: &DecodableFrame, display: &Display) -> Result<Canvas, render::Error> {
    let words = frame.little_endian().and_then(|bytes| render::render_native(bytes, frame.layout(), display));
    match words {
        Some(canvas) => Ok(canvas),
        None => render::render_frame(frame.decode()?, display),
    }
}
