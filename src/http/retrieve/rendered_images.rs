//! Rendered images as responses: one image, or several as parts that are rendered while they are sent (PS3.18
//! §8.6.1, §8.7.4).

use std::sync::{Arc, OnceLock};

use axum::body::Body;
use axum::http::header::{CONTENT_LOCATION, CONTENT_TYPE, WARNING};
use axum::http::response::Builder;
use axum::http::{Response, StatusCode};
use bytes::Bytes;
use futures_util::future::{FutureExt, ready};
use futures_util::stream::{self, BoxStream, Stream, StreamExt, TryStreamExt};
use tokio::sync::OnceCell;

use crate::archive::access::Caller;
use crate::archive::derived::rendering::{self, Format, Renderer, Rendering, renderer};
use crate::archive::records::InstanceRecord;
use crate::archive::{Archive, Error as ArchiveError, PartUnderWay, PartsUnderWay};
use crate::http::error::Error;
use crate::http::request::Head;
use crate::http::request::accept::Offer;
use crate::http::response::instance::url;
use crate::http::response::multipart as parts;
use crate::http::response::ranged::{begin, describe, fingerprint, finish};
use crate::http::retrieve::available_parts::{AvailableParts, Omission, PartsOrOmissions};

/// The number of images that are rendered at the same time for one response.
const RENDER_AHEAD: usize = 2;

/// The formats of images, the default first (PS3.18 Table 8.7.4-1).
const FORMATS: [Format; 3] = [Format::Jpeg, Format::Png, Format::Gif];

/// The representations of images: one body, parts, or both; those that `*/*` means come first.
pub(in crate::http) fn offers(packings: &[Packing]) -> Vec<Offer> {
    let offer = |packing: &Packing, format| Offer {
        is_multipart: *packing == Packing::Parts,
        essence: essence(format),
        transfer_syntax: None,
        is_default: true,
    };
    packings.iter().flat_map(|packing| FORMATS.map(|format| offer(packing, format))).collect()
}

/// Whether images are given as one body or as parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http) enum Packing {
    /// One image, or an animated one.
    Single,
    /// `multipart/related`.
    Parts,
}

/// The format that has a media type.
pub(in crate::http) fn format(media_type: &str) -> Option<Format> {
    FORMATS.into_iter().find(|format| essence(*format) == media_type)
}

/// The media type of a format.
fn essence(format: Format) -> &'static str {
    match format {
        Format::Jpeg => "image/jpeg",
        Format::Png => "image/png",
        Format::Gif => "image/gif",
    }
}

/// A frame of an instance.
#[derive(Debug, Clone)]
pub(in crate::http) struct ImageFrame {
    pub(in crate::http) record: Arc<InstanceRecord>,
    /// From 1.
    pub(in crate::http) number: u32,
}

impl ImageFrame {
    /// The URL of the stored image or frame (§8.6.1.2).
    fn location(&self, base_url: &str) -> String {
        let Self { record, number } = self;
        let url = url(record, base_url);
        if number_of_frames(record) > 1 { format!("{url}/frames/{number}") } else { url }
    }
}

/// The number of frames of an instance.
pub(in crate::http) fn number_of_frames(record: &InstanceRecord) -> u32 {
    record.layout.pixels.as_ref().map_or(0, |pixels| pixels.number_of_frames)
}

/// The rendering of the images of a response, and the header fields that depend on it.
pub(in crate::http) struct RenderingPlan {
    pub(in crate::http) rendering: Rendering,
    /// A text that changes with the stored images: the digest of the object, or the version of the study or
    /// series.
    pub(in crate::http) state: String,
    /// The value of a Warning field.
    pub(in crate::http) warning: Option<String>,
}

impl RenderingPlan {
    /// The ETag of images: it depends on the stored images, the rendering and the version of the program.
    fn etag(&self, of: &str) -> String {
        let Self { rendering, state, .. } = self;
        let all = format!("{} {state} {of} {rendering:?}", env!("CARGO_PKG_VERSION"));
        format!("\"{}\"", fingerprint(all))
    }

    fn with_warning(&self, response: Builder) -> Builder {
        match &self.warning {
            Some(warning) => response.header(WARNING, warning),
            None => response,
        }
    }
}

/// Answers with the image of one frame.
///
/// # Errors
/// Those of [`renderer`] and of the frame.
pub(in crate::http) async fn one(
    archive: &Arc<Archive>,
    caller: &Caller,
    frame: &ImageFrame,
    plan: &RenderingPlan,
    head: &Head,
) -> Result<Response<Body>, Error> {
    let etag = plan.etag(&format!("{} {}", frame.record.digest, frame.number));
    if head.has(&etag) {
        return not_modified(plan, &etag);
    }
    let bytes = plan.rendering.image_bytes(&frame.record);
    let memory = archive.response_memory_in_time(caller, bytes).await?;
    let renderer = renderer(archive, caller, &frame.record, &plan.rendering).await?;
    let image = memory.hold(renderer.frame(frame.number).await?);
    whole(image, plan, &etag, &frame.location(head.base_url()), head)
}

/// Answers with all frames of an instance as one animated image.
///
/// # Errors
/// Those of [`renderer`] and of the animation.
pub(in crate::http) async fn animation(
    archive: &Arc<Archive>,
    caller: &Caller,
    record: &Arc<InstanceRecord>,
    plan: &RenderingPlan,
    head: &Head,
) -> Result<Response<Body>, Error> {
    let etag = plan.etag("animation");
    if head.has(&etag) {
        return not_modified(plan, &etag);
    }
    let memory = archive.response_memory_in_time(caller, rendering::max_animation_bytes(archive)).await?;
    let image = memory.hold(renderer(archive, caller, record, &plan.rendering).await?.animation().await?);
    whole(image, plan, &etag, &url(record, head.base_url()), head)
}

fn not_modified(plan: &RenderingPlan, etag: &str) -> Result<Response<Body>, Error> {
    finish(plan.with_warning(describe(etag)).status(StatusCode::NOT_MODIFIED), Body::empty())
}

fn whole(
    image: Bytes,
    plan: &RenderingPlan,
    etag: &str,
    location: &str,
    head: &Head,
) -> Result<Response<Body>, Error> {
    let (response, image) = begin_bytes(image, essence(plan.rendering.format), etag, head)?;
    finish(plan.with_warning(response).header(CONTENT_LOCATION, location), Body::from(image))
}

/// Begins the response with an image in memory: the whole, a range of it, or nothing if the client has it.
///
/// # Errors
/// [`Error::Range`] when the range lies beyond the end.
pub(super) fn begin_bytes(
    image: Bytes,
    media_type: &str,
    etag: &str,
    head: &Head,
) -> Result<(Builder, Bytes), Error> {
    let (response, range) = begin(etag, media_type, image.len() as u64, head)?;
    let sent = range.map(|range| image.slice(range.start as usize..range.end as usize));
    Ok((response, sent.unwrap_or_default()))
}

/// The effect of a frame that cannot be rendered or read on the response.
pub(in crate::http) enum OnFailure {
    /// The response ends: frames of one instance are identified by their position.
    End,
    /// The frame is left out, so that one instance does not spoil a study. These instances were left out
    /// before.
    LeaveOut(Vec<Omission>),
}

/// Answers with images as parts. All but the first are rendered while the response is sent.
///
/// # Errors
/// The archive's error for the first frame; if frames are left out, [`Error::NotAcceptable`] if none can be
/// rendered, or the archive's error if none can be read.
pub(in crate::http) async fn several(
    archive: &Arc<Archive>,
    caller: Caller,
    frames: BoxStream<'static, Result<ImageFrame, ArchiveError>>,
    on_failure: OnFailure,
    plan: RenderingPlan,
    head: &Head,
) -> Result<Response<Body>, Error> {
    let etag = plan.etag("parts");
    if head.has(&etag) {
        return not_modified(&plan, &etag);
    }
    let media_type = essence(plan.rendering.format);
    let images = rendered(archive, caller, frames, plan.rendering.clone(), head.base_url().to_owned());
    let (response, images) = match on_failure {
        OnFailure::End => {
            let mut images = images.map(|image| image?.map_err(|failure| failure.error)).boxed();
            let first = images.try_next().await?;
            let first = first.ok_or_else(|| Error::NotAcceptable("there are no images in it".into()))?;
            (describe(&etag), stream::iter([Ok(first)]).chain(images).boxed())
        }
        OnFailure::LeaveOut(lost) => without_failures(lost, images, &etag).await?,
    };
    // The boundary is stable for ranges and caches, and occurs in no image: an image would have to contain
    // its own ETag.
    let boundary = format!("cuspid-{}", etag.trim_matches('"'));
    let response = plan.with_warning(response);
    let response = response.header(CONTENT_TYPE, parts::content_type(media_type, &boundary));
    finish(response, Body::from_stream(written(images, media_type, boundary)))
}

type LocatedImage = (String, Bytes);

/// Renders frames, in order: the images with the URLs of their frames.
fn rendered(
    archive: &Arc<Archive>,
    caller: Caller,
    frames: BoxStream<'static, Result<ImageFrame, ArchiveError>>,
    rendering: Rendering,
    base_url: String,
) -> PartsOrOmissions<LocatedImage> {
    let mut renderers = Renderers::new(archive, caller, rendering);
    let (context, under_way) = (Arc::clone(&renderers.context), PartsUnderWay::default());
    let frames = frames.and_then(move |frame| {
        let (context, under_way) = (Arc::clone(&context), under_way.clone());
        async move {
            let (archive, caller, rendering) = &*context;
            let bytes = rendering.image_bytes(&frame.record);
            Ok((archive.response_part(caller, Some(bytes), &under_way).await?, frame))
        }
    });
    let images = frames.map(move |frame| {
        let image = frame.map(|(PartUnderWay { memory, mark }, frame)| {
            let (renderer, location) = (renderers.of(&frame.record), frame.location(&base_url));
            let instance = frame.record.instance.clone();
            let image = async move {
                let (archive, ..) = &*renderer.context;
                archive.retried(|| renderer.render(&frame)).await
            };
            let image = match memory {
                Some(memory) => memory.fill(image).boxed(),
                None => image.boxed(),
            };
            (location, instance, mark, image)
        });
        async move {
            let (location, instance, mark, image) = image?;
            Ok(match image.await {
                Ok(image) => {
                    mark.keep();
                    Ok((location, image))
                }
                Err(error) => Err(Omission { instance, error }),
            })
        }
    });
    images.buffered(RENDER_AHEAD).boxed()
}

/// Leaves out frames that cannot be rendered or read. Returns the beginning of the response and its images,
/// of which the first is rendered.
async fn without_failures(
    lost: Vec<Omission>,
    images: PartsOrOmissions<LocatedImage>,
    etag: &str,
) -> Result<(Builder, BoxStream<'static, Result<LocatedImage, ArchiveError>>), Error> {
    // The images that could be rendered by a client of another kind are not missing (docs/decisions/0045).
    let refusal = Arc::new(OnceLock::new());
    let first_refusal = Arc::clone(&refusal);
    let images = images.filter(move |image| {
        let form = image.as_ref().ok().and_then(|image| image.as_ref().err());
        let form = form.filter(|failure| failure.error.is_about_form());
        form.inspect(|failure| drop(refusal.set(failure.error.to_string())));
        ready(form.is_none())
    });
    let mut available = AvailableParts::new(lost, images.boxed())?;
    let Some(first) = available.first().await? else {
        let refusal = first_refusal.get().cloned();
        return Err(Error::NotAcceptable(refusal.unwrap_or_else(|| "there are no images in it".into())));
    };
    let response = available.begin(etag);
    Ok((response, stream::iter([Ok(first)]).chain(available.rest()).boxed()))
}

/// The renderers of one response: consecutive frames of an instance share one.
struct Renderers {
    context: Arc<(Arc<Archive>, Caller, Rendering)>,
    last: Option<(Arc<InstanceRecord>, Arc<OnceCell<Renderer>>)>,
}

/// A renderer that is created for the first of its frames.
struct LazyRenderer {
    context: Arc<(Arc<Archive>, Caller, Rendering)>,
    renderer: Arc<OnceCell<Renderer>>,
}

impl Renderers {
    fn new(archive: &Arc<Archive>, caller: Caller, rendering: Rendering) -> Self {
        Self { context: Arc::new((Arc::clone(archive), caller, rendering)), last: None }
    }

    fn of(&mut self, record: &Arc<InstanceRecord>) -> LazyRenderer {
        let last = self.last.take().filter(|(last, _)| Arc::ptr_eq(last, record));
        let (_, renderer) = self.last.insert(last.unwrap_or_else(|| (Arc::clone(record), Arc::default())));
        LazyRenderer { context: Arc::clone(&self.context), renderer: Arc::clone(renderer) }
    }
}

impl LazyRenderer {
    async fn render(&self, frame: &ImageFrame) -> Result<Bytes, ArchiveError> {
        let (archive, caller, rendering) = &*self.context;
        let renderer =
            self.renderer.get_or_try_init(|| renderer(archive, caller, &frame.record, rendering)).await?;
        renderer.frame(frame.number).await
    }
}

/// Writes images as the parts of one body.
fn written(
    images: BoxStream<'static, Result<LocatedImage, ArchiveError>>,
    media_type: &'static str,
    boundary: String,
) -> impl Stream<Item = Result<Bytes, ArchiveError>> {
    let tail = Bytes::from(parts::tail(&boundary));
    let parts = images.enumerate().map(move |(index, image)| {
        let (location, image) = image?;
        let line_end = if index == 0 { "" } else { "\r\n" };
        let length = image.len();
        // Clients look for `Content-Type:` first.
        let head = format!(
            "{line_end}--{boundary}\r\nContent-Type: {media_type}\r\nContent-Length: {length}\r\n\
             Content-Location: {location}\r\n\r\n"
        );
        let pieces = [Bytes::from(head), image].map(Ok::<_, ArchiveError>);
        Ok::<_, ArchiveError>(stream::iter(pieces))
    });
    parts.try_flatten().chain(stream::iter([Ok(tail)]))
}
